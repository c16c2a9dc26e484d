"""python -m parity.mutate [ENV ...]: would the parity harness notice a wrong port?

Every numeric constant, comparison and arithmetic operator of what a JAX port computes is
altered, one at a time, and each of these mutants is judged against what the C port did
with a few thousand states: those that brought an event of `env.events`, random ones, and ones
set by hand upon the bounds of comparisons.

What a port computes is `init`, `transition`, `respawn`, `observe`, `score`, `perf`,
`action_mask`, and the functions and module constants that these use. Not altered: the
picture, the player, the events, annotations, parameter declarations and class attributes
that are no function (spaces among them), `raise` and `assert`.

A mutant is caught when anything differs (-0 equals 0), or it raises, or does not return.
The reasons why some cannot be caught stand in equivalent_mutants.toml.
"""

import argparse
import ast
import collections
import dataclasses
import functools
import hashlib
import inspect
import json
import multiprocessing
import os
import pickle
import random
import sys
import tempfile
import time
import tomllib
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parity import use_mode

REASONS = Path(__file__).with_name("equivalent_mutants.toml")
REQUIRED = 0.95  # share of the mutants that are not equivalent to be caught
SECONDS = 60  # a mutant that takes longer does not return
START_SECONDS = 900  # for the data and the judgement of the port itself

# in the order in which they are judged: cheap ones first
FUNCTIONS = ("score", "perf", "action_mask", "observe", "respawn", "init", "transition")
NOT_COMPUTED = ("render", "player", "events", "__post_init__")

# parameters under which a port takes other branches of its Python code, or meets bounds that it else steps over
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "breakout": [{"max_steps": 200}],
    "go": [{"size": 4, "komi": 0.0}],  # games that are drawn
    "maze": [{"size": 5, "max_steps": 1}, {"size": 23}, {"size": 47, "vision": 8}],
    "memory": [{"max_steps": 5}],
    "pong": [{"ball_speed_x": 4}],
}

RANDOM_ROWS = 1500
ROWS_PER_EVENT = 64
BY_HAND_ROWS = 1500  # of each kind
EDGE_ROWS = 4096  # rows moved to the borders of the rules
MIN_STEPS, MAX_STEPS = 2_000, 20_000
CHUNK_BYTES = 2**27  # of candidate rows held at once

COMPARISONS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
SYMBOLS: dict[type, str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Add: "+",
    ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.FloorDiv: "//", ast.Mod: "%", ast.BitAnd: "&",
    ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.USub: "-", ast.Invert: "~",
}  # fmt: skip

# ------------------------------------------------------------------------------------------
# mutants of a module
# ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Mutant:
    """One alteration of a syntax tree."""

    function: str  # in which it is; of a module's constant, "module"
    line: int
    source: str  # the line's text
    change: str  # such as "< to <=", with a number where a line has several such
    judged_by: tuple[str, ...]  # the computing functions that reach it
    alter: Callable[[], None]
    restore: Callable[[], None]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.function, self.source, self.change

    def __str__(self) -> str:
        return f"line {self.line}, {self.function}: {self.change}: {self.source}"


class Source:
    """The syntax tree of an environment's module and its mutants."""

    def __init__(self, cls: type) -> None:
        module = sys.modules[cls.__module__]
        self.cls, self.file = cls, str(module.__file__)
        self.text = inspect.getsource(module)
        self.tree = ast.parse(self.text)
        self.mutants = list(self._mutants())

    def module(self, mutant: Mutant | None = None) -> types.ModuleType:
        """The module, executed afresh, altered or as it is."""
        if mutant:
            mutant.alter()
        try:
            code = compile(self.tree, self.file, "exec")
        finally:
            if mutant:
                mutant.restore()
        module = types.ModuleType("mutant")
        sys.modules["mutant"] = module
        exec(code, module.__dict__)
        return module

    def constants(self) -> list[float]:
        """Every number in the computing code, and the numbers that its module constants come to."""
        values = {0.0, 1.0}
        module = sys.modules[self.cls.__module__]
        for node, _ in self._reached():
            values |= {float(n.value) for n in ast.walk(node) if _is_number(n)}  # type: ignore[attr-defined]
            for name in _assigned(node):
                value = getattr(module, name, None)
                if isinstance(value, (int, float)):
                    values.add(float(value))
        return sorted(values | {-v for v in values})

    def _definitions(self) -> dict[str, list[ast.stmt]]:
        """Name -> what defines it: functions and constants of the module, methods of its classes."""
        found: dict[str, list[ast.stmt]] = collections.defaultdict(list)
        from jaxpuffer.env import Env

        classes = [c.__name__ for c in self.cls.__mro__ if c.__module__ == self.cls.__module__]
        bodies: dict[str, list[ast.stmt]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                found[node.name].append(node)
            elif isinstance(node, ast.ClassDef):
                bodies[node.name] = node.body
            for part in _parts(node):
                for name in _assigned(part):
                    found[name].append(part)
        own: dict[str, ast.stmt] = {}
        others = [n for n in bodies if not issubclass(getattr(sys.modules[self.cls.__module__], n), Env)]
        for name in [*others, *reversed(classes)]:
            for node in bodies[name]:
                if isinstance(node, ast.FunctionDef) and node.name not in NOT_COMPUTED:
                    if node.name in own and not _uses(node, "super"):
                        found[node.name].remove(own[node.name])
                    if name in classes:
                        own[node.name] = node
                    found[node.name].append(node)
        return found

    def _reached(self) -> list[tuple[ast.stmt, tuple[str, ...]]]:
        """Each definition that computing functions reach, and which."""
        definitions = self._definitions()
        by: dict[ast.stmt, list[str]] = collections.defaultdict(list)
        for function in FUNCTIONS:
            # where an environment defines no perf it is the score
            waiting = [function, "score"] if function == "perf" and "perf" not in definitions else [function]
            seen = set(waiting)
            while waiting:
                for node in definitions.get(waiting.pop(), ()):
                    if function not in by[node]:
                        by[node].append(function)
                    new = _names(node) - seen
                    seen |= new
                    waiting += sorted(new)
        return [(node, tuple(functions)) for node, functions in by.items()]

    def _mutants(self) -> Iterator[Mutant]:
        lines = self.text.splitlines()
        found = []
        for node, judged_by in self._reached():
            function = node.name if isinstance(node, ast.FunctionDef) else "module"
            for line, column, change, alter, restore in _alterations(node):
                found.append((line, column, change, function, judged_by, alter, restore))
        repeated: collections.Counter[tuple[int, str]] = collections.Counter()
        for line, _, change, function, judged_by, alter, restore in sorted(found, key=lambda m: m[:3]):
            repeated[line, change] += 1
            number = repeated[line, change]
            text = f"{change} #{number}" if number > 1 else change
            yield Mutant(function, line, lines[line - 1].strip(), text, judged_by, alter, restore)


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _parts(node: ast.stmt) -> list[ast.stmt]:
    """`a, b = 1, 2` as two assignments."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple):
        pairs = zip(node.targets[0].elts, node.value.elts, strict=True)
        return [ast.Assign(targets=[target], value=value) for target, value in pairs]
    return [node]


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below that compute."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, (ast.Raise, ast.Assert)):
                yield child
                yield from _computing(child)


def _names(node: ast.AST) -> set[str]:
    nodes = list(_computing(node))
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


def _uses(node: ast.AST, name: str) -> bool:
    return name in _names(node)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _alterations(
    definition: ast.stmt,
) -> Iterator[tuple[int, int, str, Callable[[], None], Callable[[], None]]]:
    """(line, column, change, alter, restore) of each alteration of a definition."""

    def setting(owner: Any, key: Any, new: Any) -> tuple[Callable[[], None], Callable[[], None]]:
        if isinstance(owner, list):
            old = owner[key]
            return lambda: owner.__setitem__(key, new), lambda: owner.__setitem__(key, old)
        old = getattr(owner, key)
        return lambda: setattr(owner, key, new), lambda: setattr(owner, key, old)

    for node in _computing(definition):
        if isinstance(node, ast.Constant) and _is_number(node):
            value: Any = node.value
            new = value + 1 if isinstance(value, int) else value * 1.1 if value else 0.1
            yield node.lineno, node.col_offset, f"{value!r} to {new!r}", *setting(node, "value", new)
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
            before = node.left if isinstance(node, ast.BinOp) else node.target
            new = OPERATORS[type(node.op)]
            change = f"{SYMBOLS[type(node.op)]} to {SYMBOLS[new]}"
            yield _end_line(before), before.end_col_offset or 0, change, *setting(node, "op", new())
        elif isinstance(node, ast.Compare):
            for i, (before, op) in enumerate(zip([node.left, *node.comparators], node.ops, strict=False)):
                if type(op) in COMPARISONS:
                    new = COMPARISONS[type(op)]
                    change = f"{SYMBOLS[type(op)]} to {SYMBOLS[new]}"
                    yield _end_line(before), before.end_col_offset or 0, change, *setting(node.ops, i, new())
        elif isinstance(node, ast.UnaryOp) and type(node.op) in SYMBOLS:
            # a plus instead does nothing
            yield node.lineno, node.col_offset, f"drop {SYMBOLS[type(node.op)]}", *setting(node, "op", ast.UAdd())


def _end_line(node: ast.expr) -> int:
    return node.end_lineno or node.lineno


# ------------------------------------------------------------------------------------------
# what C did
# ------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Data:
    """What C's functions returned: function -> (operands, results), states as their leaves."""

    params: dict[str, Any]
    functions: dict[str, tuple[list[Any], list[np.ndarray]]]
    events: dict[str, int]  # rows of each


def play(name: str, seed: int, params: dict[str, Any], constants: list[float]) -> Data:
    """Let the C port play, keep some thousand rows of it, and note what C makes of them."""
    import jax
    import jax.numpy as jnp

    from jaxpuffer import make, rng
    from parity.harness import choose_action

    env, c_env = make(name, **params), make(name, backend="c", **params)
    num_envs = max(8, 128 // env.num_agents)
    c = c_env.batch(num_envs)
    reset_key, play_key, stream_key = jax.random.split(jax.random.key(seed), 3)
    streams = rng.seed(play_key, (num_envs,))
    rows, _ = jax.jit(c.reset)(reset_key)

    # each step offers a row of each event that happened, and one at random
    def step(carry: Any, key: Any) -> Any:
        rows, streams = carry
        state = c.unpack(rows).env
        actions = jax.vmap(functools.partial(choose_action, env))(state, streams)
        streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)
        happened = jax.vmap(env.events)(state, actions, c.unpack(c.transition(rows, actions)[0]).env)
        flags = jnp.stack([*happened.values(), jnp.ones(num_envs, bool)])
        picked = jnp.where(flags, jax.random.uniform(key, flags.shape), -1.0).argmax(1)
        offer = rows[picked], actions[picked], jnp.where(flags.any(1), flags.sum(1, dtype=jnp.int32), 0)
        return (c.step(rows, actions)[0], streams), offer

    state = jax.eval_shape(lambda r: c.unpack(r).env, rows)
    action = jax.eval_shape(jax.vmap(functools.partial(choose_action, env)), state, streams)
    events = [*jax.eval_shape(jax.vmap(env.events), state, action, state)]
    length = max(10, min(500, CHUNK_BYTES // (c.row_bytes * (len(events) + 1))))
    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys))

    # of the rows on offer keep those with the lowest lots: a fair draw from the whole run
    draw = np.random.default_rng(seed)
    kept: list[list[Any]] = [[] for _ in (*events, "random")]
    limits = [ROWS_PER_EVENT] * len(events) + [RANDOM_ROWS]
    steps = 0
    while steps < MIN_STEPS or (steps < MAX_STEPS and min(map(len, kept)) < ROWS_PER_EVENT):
        key = jax.random.fold_in(stream_key, steps)
        (rows, streams), offers = run((rows, streams), jax.random.split(key, length))
        offered_rows, offered_actions, counts = jax.device_get(offers)
        for k, limit in enumerate(limits):
            for t in np.flatnonzero(counts[:, k]):
                lot = draw.random()
                if len(kept[k]) < limit or lot < kept[k][-1][0]:
                    kept[k].append((lot, offered_rows[t, k], offered_actions[t, k]))
                    kept[k].sort(key=lambda r: r[0])
                    del kept[k][limit:]
        steps += length
    chosen = [row for some in kept for row in some]
    all_rows, all_actions = np.stack([r[1] for r in chosen]), np.stack([r[2] for r in chosen])

    # and rows set by hand, upon bounds
    picked = draw.integers(len(all_rows), size=BY_HAND_ROWS)
    some = _Rows(c_env, all_rows[picked], all_actions[picked])
    own = {float(leaf) for leaf in jax.tree.leaves(env)}
    values = np.array(sorted({v + step for v in (*constants, *own, *(-v for v in own)) for step in (0, -1)}))
    by_hand = [_tied(some, values, draw), *_bounds(some, draw)]
    for leaves in by_hand:
        possible = some.possible(leaves)
        all_rows = np.concatenate([all_rows, np.asarray(some.pack(leaves))[possible]])
        all_actions = np.concatenate([all_actions, some.actions[possible]])
    edge_rows, edge_actions = _edge_cases(c_env, all_rows, all_actions, seed)
    all_rows = np.concatenate([all_rows, edge_rows])
    all_actions = np.concatenate([all_actions, edge_actions])

    functions = _answers(c_env, all_rows, all_actions, jax.random.fold_in(stream_key, MAX_STEPS + 1))
    return Data(params, functions, dict(zip(events, map(len, kept), strict=False)))


class _Rows:
    """Rows of the C port as their leaves, and back."""

    def __init__(self, c_env: Any, rows: np.ndarray, actions: np.ndarray) -> None:
        import jax
        import jax.numpy as jnp

        c = c_env.batch(len(rows))
        state = jax.device_get(jax.jit(c.unpack)(rows))
        self.leaves, structure = jax.tree.flatten(state.env)
        self.floats = [i for i, leaf in enumerate(self.leaves) if leaf.dtype == np.float32]
        self.actions, self.single = actions, len(state.episode_return.shape) == 1

        def pack(leaves: list[Any]) -> Any:
            return c.pack(state.replace(env=jax.tree.unflatten(structure, leaves)))

        def after(leaves: list[Any]) -> Any:
            middle, step = c.transition(pack(leaves), actions)
            return [*jax.tree.leaves(c.unpack(middle).env), step.terminated, step.truncated, step.reward]

        def course(leaves: list[Any]) -> Any:
            # whatever does not change gradually: integers, and the signs of floats
            parts = [x > 0 if x.dtype == np.float32 else x for x in after(leaves)]
            return jnp.concatenate([jnp.int32(x).reshape(len(x), -1) for x in parts], 1)

        self.pack, self.after, self.course = jax.jit(pack), jax.jit(after), jax.jit(course)

    def possible(self, leaves: list[np.ndarray]) -> np.ndarray:
        """Which rows lead to no NaN, as those do that cannot be."""
        nan = [np.isnan(x).reshape(len(x), -1).any(1) for x in map(np.asarray, self.after(leaves))]
        return np.flatnonzero(~np.any(nan, axis=0))


def _tied(rows: _Rows, values: np.ndarray, draw: np.random.Generator) -> list[np.ndarray]:
    """Rows with a field set to a constant that lies in the field's range, some with all floats zero besides.

    Floats of a running game hardly ever equal a bound; these tell `<` from `<=`. Integers
    are set where a field is one number, not an array that others may have to agree with.
    """
    before, after = rows.leaves, [np.asarray(x) for x in rows.after(rows.leaves)]
    ties = []
    for i, leaf in enumerate(before):
        if i in rows.floats or (leaf.dtype == np.int32 and leaf.ndim == 1 and rows.single):
            both = np.concatenate([leaf, after[i]])
            ties += [
                (i, v)
                for v in np.unique(values[abs(values) < 2**31].astype(leaf.dtype))
                if both.min() <= v <= both.max()
            ]
    new = [leaf.copy() for leaf in before]
    zero = [i for i in rows.floats if before[i].min() <= 0 <= before[i].max()]
    for row, k in enumerate(draw.permutation(np.arange(len(before[0])) % max(1, len(ties)))):
        if not ties:
            break
        i, value = ties[k]
        if row % 2:
            for other in zero:
                new[other][row] = 0
        entries = new[i][row : row + 1].reshape(-1)
        entries[draw.integers(len(entries))] = value
    return new


def _bounds(rows: _Rows, draw: np.random.Generator) -> list[list[np.ndarray]]:
    """Pairs of rows with two neighbouring floats in one field, between which the game takes another course.

    Found by bisection between a row and the same with another row's value in that field.
    """
    if not rows.floats:
        return []
    count = len(rows.leaves[0])
    which = draw.choice(rows.floats, count)
    low, high = ([leaf.copy() for leaf in rows.leaves] for _ in range(2))
    places = {i: np.flatnonzero(which == i) for i in rows.floats}
    for i, here in places.items():
        high[i][here] = rows.leaves[i][draw.integers(count, size=len(here))]
    course = np.asarray(rows.course(low))
    for _ in range(33):
        middle = [leaf.copy() for leaf in low]
        for i, here in places.items():
            between = (_ordered(low[i][here]) + _ordered(high[i][here])) // 2
            middle[i][here] = _float(between)
        same = (np.asarray(rows.course(middle)) == course).all(1)
        for i, here in places.items():
            stays = same[here].reshape(-1, *[1] * (low[i].ndim - 1))
            low[i][here] = np.where(stays, middle[i][here], low[i][here])
            high[i][here] = np.where(stays, high[i][here], middle[i][here])
    return [low, high]


def _ordered(x: np.ndarray) -> np.ndarray:
    """Floats as integers in the same order, neighbours one apart."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(2**31) - bits, bits)


def _float(ordered: np.ndarray) -> np.ndarray:
    return np.where(ordered < 0, -(2**31) - ordered, ordered).astype(np.int32).view(np.float32)


def _edge_cases(c_env: Any, rows: np.ndarray, actions: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows moved to the borders of the rules by the environment's own `edge_case`, where it has one."""
    import jax

    from jaxpuffer import Env, rng

    env = c_env.env
    if type(env).edge_case is Env.edge_case:
        return rows[:0], actions[:0]
    picked = np.arange(EDGE_ROWS) % len(rows)
    rows, actions = rows[picked], actions[picked]
    c = c_env.batch(EDGE_ROWS)

    @jax.jit
    def move(rows: Any, streams: Any) -> Any:
        state = c.unpack(rows)
        return c.pack(state.replace(env=jax.vmap(env.edge_case)(state.env, streams)))

    return np.asarray(move(rows, rng.seed(jax.random.key(seed), (EDGE_ROWS,)))), actions


def _answers(c_env: Any, rows: np.ndarray, actions: np.ndarray, key: Any) -> dict[str, Any]:
    """What each function of the C port returns for these rows."""
    import jax
    import jax.numpy as jnp

    from jaxpuffer import rng
    from jaxpuffer.batch import has_action_mask

    env, count = c_env.env, len(rows)
    c, twice = c_env.batch(count), c_env.batch(2 * count)

    def state(batch: Any, rows: Any) -> Any:
        return jax.tree.leaves(batch.unpack(rows).env)

    @jax.jit
    def answers(rows: Any, actions: Any, key: Any) -> dict[str, Any]:
        middle, step = c.transition(rows, actions)
        both = jnp.concatenate([rows, middle])
        score, perf = twice.score(both)
        streams = rng.seed(key, (count,))
        found = {
            "score": ([state(twice, both)], [score]),
            "perf": ([state(twice, both)], [perf]),
            "observe": ([state(twice, both)], [twice.observe(both)]),
            "init": ([streams], state(c, c.reset_streams(streams)[0])),
            "transition": (
                [state(c, rows), actions],
                [*state(c, middle), step.reward, step.terminated, step.truncated],
            ),
        }
        if has_action_mask(env):
            found["action_mask"] = ([state(c, rows)], [c.action_mask(rows)])
        if env.multi_agent:
            # some ended, not all
            ended = jax.random.bernoulli(key, 0.3, (count, env.num_agents))
            ended = ended.at[:, 0].set(~ended.all(1) & (ended[:, 0] | ~ended[:, 1:].any(1)))
            back, _ = c.reset_ended(middle, step.replace(terminated=ended, truncated=jnp.zeros_like(ended)))
            found["respawn"] = ([state(c, middle), ended], state(c, back))
        return found

    return jax.device_get(answers(rows, actions, key))


# ------------------------------------------------------------------------------------------
# judging
# ------------------------------------------------------------------------------------------


class Judge:
    """Compares an altered module with what C did."""

    def __init__(self, source: Source, datas: list[Data]) -> None:
        from jaxpuffer import rng  # noqa: F401  (starts JAX before the clock runs)

        self.source, self.datas = source, datas
        self.programs: dict[tuple[int, str], str] = {}
        found = self.judge(None)
        if found != "survived":
            raise RuntimeError(f"the port itself differs from C, so no mutant can be judged: {found}")

    def judge(self, mutant: Mutant | None) -> str:
        """'caught: why', 'survived', or 'same program' where no function compiles to anything else."""
        verdict = "same program"
        try:
            module = self.source.module(mutant)
            for i, data in enumerate(self.datas):
                for function in FUNCTIONS if mutant is None else mutant.judged_by:
                    if function in data.functions:
                        found = self._judge(module, i, function, note=mutant is None)
                        if found.startswith("caught"):
                            return found
                        if found == "survived":
                            verdict = found
        except Exception as error:
            return f"caught: {type(error).__name__}"
        return verdict

    def _judge(self, module: types.ModuleType, i: int, function: str, note: bool) -> str:
        import jax

        data = self.datas[i]
        env = getattr(module, self.source.cls.__name__)(**data.params)
        operands, expected = data.functions[function]
        program = jax.jit(_callable(module, function)).lower(env, operands)
        text = hashlib.sha256(program.as_text().encode()).hexdigest()
        if note:
            self.programs[i, function] = text
        elif text == self.programs[i, function]:
            return "same program"
        shapes = [(x.shape, x.dtype) for x in jax.tree.leaves(program.out_info)]
        if shapes != [(x.shape, x.dtype) for x in expected]:
            return f"caught: {function} returns other shapes or types"
        for got, right in zip(jax.tree.leaves(program.compile()(env, operands)), expected, strict=True):
            if not (np.asarray(got) == right).all():
                return f"caught: {function}"
        return "survived"


def _callable(module: types.ModuleType, function: str) -> Any:
    """One function of an environment over rows, with states as their leaves."""
    import jax
    import jax.numpy as jnp

    from jaxpuffer.env import settle

    def state(env: Any, leaves: list[Any]) -> Any:
        # the altered module has its own State class
        shapes = jax.eval_shape(env.init, jax.ShapeDtypeStruct((2,), jnp.uint32))
        return jax.tree.unflatten(jax.tree.structure(shapes), leaves)

    def over_rows(env: Any, operands: list[Any]) -> Any:
        def one(*operands: Any) -> Any:
            if function == "init":
                return env.init(*operands)
            s = state(env, operands[0])
            if function == "transition":
                s, outcome = env.transition(s, operands[1])
                outcome = settle(outcome)
                return s, outcome.reward, outcome.terminated, outcome.truncated
            value = getattr(env, function)(s, *operands[1:])
            return jnp.float32(value) if function in ("score", "perf") else value

        return jax.vmap(one)(*operands)

    return over_rows


def _work(connection: Any, name: str, seed: int, file: str) -> None:
    """A process that judges the mutants whose indices it is sent."""
    use_mode("strict")
    import jax

    from jaxpuffer.registry import env_class

    source = Source(env_class(name))
    try:
        if not os.path.exists(file):
            constants = source.constants()
            datas = [play(name, seed, params, constants) for params in ({}, *VARIANTS.get(name, []))]
            Path(file).write_bytes(pickle.dumps(datas))
        datas = pickle.loads(Path(file).read_bytes())
        # from here on hundreds of programs that run once: compile them fast
        jax.config.update("jax_disable_most_optimizations", True)
        judge = Judge(source, datas)
    except Exception:
        connection.send(traceback.format_exc())
        return
    connection.send([data.events for data in datas])
    for count in range(1_000_000):
        index = connection.recv()
        if index is None:
            return
        connection.send(judge.judge(source.mutants[index]))
        if count % 50 == 49:
            jax.clear_caches()


@dataclasses.dataclass
class Summary:
    """What became of an environment's mutants."""

    env: str
    mutants: int
    caught: int
    equivalent: list[str]
    survived: list[str]
    stale: list[str]  # reasons given for mutants that are caught, or that there are not
    unseen_events: list[str]
    seconds: float

    @property
    def share(self) -> float:
        return self.caught / max(1, self.mutants - len(self.equivalent))

    @property
    def good(self) -> bool:
        return self.share >= REQUIRED and not self.stale

    def line(self) -> str:
        return (
            f"{self.env}: {self.mutants} mutants, {self.caught} caught ({100 * self.share:.1f} %), "
            f"{len(self.equivalent)} equivalent, {len(self.survived)} survived ({self.seconds:.0f} s)"
        )


def judge_all(name: str, sample: int | None = None, seed: int = 0) -> Summary:
    """Judge every mutant of an environment, or a sample, in a process that may hang or die.

    Raises:
        RuntimeError: the port itself differs from C.
    """
    from jaxpuffer.registry import env_class

    started = time.perf_counter()
    mutants = Source(env_class(name)).mutants
    chosen = list(range(len(mutants)))
    if sample is not None and sample < len(chosen):
        chosen = sorted(random.Random(seed).sample(chosen, sample))
    listed = tomllib.loads(REASONS.read_text()).get(name, [])
    reasons = {(r["in"], r["line"], r["change"]): r["reason"] for r in listed}
    known = {m.key for m in mutants}
    stale = [f"no such mutant: {key}" for key in reasons if key not in known]

    context = multiprocessing.get_context("spawn")
    verdicts = {}
    with tempfile.TemporaryDirectory() as folder:
        worker: Any = None
        pipe: Any = None
        unseen: list[str] = []
        for index in chosen:
            if worker is None:
                pipe, theirs = context.Pipe()
                worker = context.Process(target=_work, args=(theirs, name, seed, f"{folder}/data"), daemon=True)
                worker.start()
                theirs.close()
                found = _answer(pipe, START_SECONDS)
                if not isinstance(found, list):
                    worker.kill()
                    raise RuntimeError(f"{name}: the judge of the mutants failed: {found}")
                unseen = [event for event in found[0] if not any(counts[event] for counts in found)]
            pipe.send(index)
            verdicts[index] = _answer(pipe, SECONDS)
            if verdicts[index] in (_LATE, _GONE):
                worker.kill()
                worker.join()
                worker = None
        if worker is not None:
            pipe.send(None)
            worker.join(10)
            worker.kill()

    caught, equivalent, survived = 0, [], []
    for index, verdict in verdicts.items():
        mutant = mutants[index]
        if verdict in (_LATE, _GONE) or verdict.startswith("caught"):
            caught += 1
            if mutant.key in reasons:
                stale.append(f"listed as equivalent, but caught: {mutant}")
        elif mutant.key in reasons:
            equivalent.append(f"{mutant}  ({reasons[mutant.key]})")
        elif verdict == "same program":
            equivalent.append(f"{mutant}  (it compiles to the same program)")
        else:
            survived.append(str(mutant))
    return Summary(name, len(chosen), caught, equivalent, survived, stale, unseen, time.perf_counter() - started)


_LATE, _GONE = "did not return", "died"


def _answer(pipe: Any, seconds: float) -> Any:
    try:
        return pipe.recv() if pipe.poll(seconds) else _LATE
    except EOFError:
        return _GONE


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m parity.mutate", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("envs", nargs="*", metavar="ENV", help="environments; default all")
    parser.add_argument("--sample", type=int, metavar="N", help="judge N mutants of each, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the play and of the sample (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the summaries there")
    args = parser.parse_args()
    if args.sample is not None and args.sample < 1:
        parser.error("--sample must be at least 1")
    use_mode("strict")
    from envs_c import NOT_BUILT, is_built
    from jaxpuffer import list_envs
    from jaxpuffer.registry import check_envs

    check_envs(args.envs, parser.error)
    if not is_built():
        parser.error(NOT_BUILT)
    summaries = []
    for name in args.envs or list_envs():
        summary = judge_all(name, args.sample, args.seed)
        summaries.append(summary)
        print(summary.line(), flush=True)
        for title, entries in (
            ("survived", summary.survived), ("equivalent", summary.equivalent), ("STALE", summary.stale),
            ("event not reached", summary.unseen_events),
        ):  # fmt: skip
            for entry in entries:
                print(f"  {title}: {entry}", flush=True)
    if args.json:
        with open(args.json, "w") as file:
            json.dump([{**dataclasses.asdict(s), "share": s.share} for s in summaries], file, indent=1)
    sys.exit(not all(summary.good for summary in summaries))


if __name__ == "__main__":
    main()
