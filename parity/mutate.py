"""python -m parity.mutate [ENV ...]: would the parity harness notice a wrong port?

Every numeric constant, comparison and arithmetic operator of what a JAX port computes is
altered, one at a time, and each of these mutants is judged against what the C port did
with a few thousand states: those that brought an event of `env.events`, random ones, and
ones with a float field set to a constant of the module, where comparisons tie.

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
    "maze": [{"size": 5, "max_steps": 1}, {"size": 23}, {"size": 47, "vision": 8}],
    "pong": [{"ball_speed_x": 4}],
}

RANDOM_ROWS = 1500
ROWS_PER_EVENT = 64
EDGE_ROWS = 4096  # rows moved to the borders of the rules
TIED_ROWS = 1500
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
            values |= {float(n.value) for n in ast.walk(node) if _is_number(n)}
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
        actions = jax.vmap(env.player)(state, streams)
        streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)
        happened = jax.vmap(env.events)(state, actions, c.unpack(c.transition(rows, actions)[0]).env)
        flags = jnp.stack([*happened.values(), jnp.ones(num_envs, bool)])
        picked = jnp.where(flags, jax.random.uniform(key, flags.shape), -1.0).argmax(1)
        offer = rows[picked], actions[picked], jnp.where(flags.any(1), flags.sum(1, dtype=jnp.int32), 0)
        return (c.step(rows, actions)[0], streams), offer

    state = jax.eval_shape(lambda r: c.unpack(r).env, rows)
    action = jax.eval_shape(lambda s, x: jax.vmap(env.player)(s, x), state, streams)
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
    tied_rows, tied_actions = _tied(c_env, all_rows, all_actions, constants, draw)
    edge_rows, edge_actions = _edge_cases(c_env, all_rows, all_actions, seed)
    all_rows = np.concatenate([all_rows, tied_rows, edge_rows])
    all_actions = np.concatenate([all_actions, tied_actions, edge_actions])

    functions = _answers(c_env, all_rows, all_actions, jax.random.fold_in(stream_key, MAX_STEPS + 1))
    return Data(params, functions, dict(zip(events, map(len, kept), strict=False)))


def _tied(
    c_env: Any, rows: np.ndarray, actions: np.ndarray, constants: list[float], draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a float field set to a constant that lies in the field's range, some with the other floats zero.

    Floats of a running game hardly ever equal a bound; these tell `<` from `<=`.
    """
    import jax

    c = c_env.batch(len(rows))
    before = jax.device_get(jax.jit(c.unpack)(rows))
    after = jax.device_get(jax.jit(lambda r, a: c.unpack(c.transition(r, a)[0]))(rows, actions))
    values = {float(leaf) for leaf in jax.tree.leaves(c_env.env)}
    values = np.unique(np.float32([*constants, *values, *(-v for v in values)]))
    leaves, structure = jax.tree.flatten(before.env)
    floats = [i for i, leaf in enumerate(leaves) if leaf.dtype == np.float32]
    ties = []
    for i in floats:
        both = np.concatenate([leaves[i], jax.tree.leaves(after.env)[i]])
        ties += [(i, value) for value in values if both.min() <= value <= both.max()]
    if not ties:
        return rows[:0], actions[:0]
    picked = draw.integers(len(rows), size=min(TIED_ROWS, 16 * len(ties)))
    new = [leaf[picked].copy() for leaf in leaves]
    for row, k in enumerate(draw.permutation(np.arange(len(picked)) % len(ties))):
        i, value = ties[k]
        if row % 2:
            for other in floats:
                zero_is_in_range = leaves[other].min() <= 0 <= leaves[other].max()
                if zero_is_in_range:
                    new[other][row] = 0
        entries = new[i][row : row + 1].reshape(-1)
        entries[draw.integers(len(entries))] = value
    length = before.replace(episode_return=before.episode_return[picked], episode_length=before.episode_length[picked])
    tied = length.replace(env=jax.tree.unflatten(structure, new))
    c = c_env.batch(len(picked))
    tied_rows, actions = np.asarray(jax.jit(c.pack)(tied)), actions[picked]
    # a state that cannot be may lead to NaN
    after = jax.device_get(jax.jit(lambda r, a: c.unpack(c.transition(r, a)[0]).env)(tied_rows, actions))
    good = ~np.any([np.isnan(x).reshape(len(x), -1).any(1) for x in jax.tree.leaves(after)], axis=0)
    return tied_rows[good], actions[good]


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

    # hundreds of programs that run once: compile them fast
    jax.config.update("jax_disable_most_optimizations", True)
    source = Source(env_class(name))
    try:
        if not os.path.exists(file):
            constants = source.constants()
            datas = [play(name, seed, params, constants) for params in ({}, *VARIANTS.get(name, []))]
            Path(file).write_bytes(pickle.dumps(datas))
        datas = pickle.loads(Path(file).read_bytes())
        judge = Judge(source, datas)
    except Exception:
        connection.send(traceback.format_exc())
        return
    connection.send([{event: n for event, n in data.events.items()} for data in datas])
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
        worker, pipe, unseen = None, None, []
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
            assert pipe is not None
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
        else:
            survived.append(f"{mutant}" + (" (same program)" if verdict == "same program" else ""))
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
    from jaxpuffer import list_envs

    unknown = set(args.envs) - set(list_envs())
    if unknown:
        parser.error(f"no such environment: {', '.join(sorted(unknown))} (there are: {', '.join(list_envs())})")
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
