"""The results of the C port on some thousand states: rows of play, of events, and rows set to bounds by hand."""

import dataclasses
import functools
from typing import Any

import numpy as np

RANDOM_ROWS = 1500
ROWS_PER_EVENT = 64
BY_HAND_ROWS = 1500  # of each kind
EDGE_ROWS = 4096  # rows moved to the borders of the rules
MIN_STEPS, MAX_STEPS = 2_000, 20_000
CHUNK_BYTES = 2**27  # of candidate rows held at once


@dataclasses.dataclass
class Data:
    """The results of C's functions: function -> (operands, results), states as their leaves."""

    params: dict[str, Any]
    functions: dict[str, tuple[list[Any], list[np.ndarray]]]
    events: dict[str, int]  # number of rows of each


def play(name: str, seed: int, params: dict[str, Any], constants: list[float]) -> Data:
    """Let the C port play, keep some thousand rows of it, and record C's results on them."""
    import jax
    import jax.numpy as jnp

    from jaxpuffer import rng
    from parity.harness import choose_action
    from parity.named import make_both

    env, c_env = make_both(name, **params)
    num_envs = max(8, 128 // env.num_agents)
    c = c_env.batch(num_envs)
    reset_key, play_key, stream_key = jax.random.split(jax.random.key(seed), 3)
    streams = rng.seed(play_key, (num_envs,))
    rows, _ = jax.jit(c.reset)(reset_key)

    # each step gives one row for each event that happened, and one at random
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

    # of these rows keep those with the lowest random numbers: a uniform draw from the whole run
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
                    # copies: a view would hold the whole chunk
                    kept[k].append((lot, offered_rows[t, k].copy(), offered_actions[t, k].copy()))
                    kept[k].sort(key=lambda r: r[0])
                    del kept[k][limit:]
        steps += length
    chosen = [row for some in kept for row in some]
    all_rows, all_actions = np.stack([r[1] for r in chosen]), np.stack([r[2] for r in chosen])

    # and rows set by hand, on bounds
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
            # everything that does not change gradually: integers, and the signs of floats
            parts = [x > 0 if x.dtype == np.float32 else x for x in after(leaves)]
            return jnp.concatenate([jnp.int32(x).reshape(len(x), -1) for x in parts], 1)

        self.pack, self.after, self.course = jax.jit(pack), jax.jit(after), jax.jit(course)

    def possible(self, leaves: list[np.ndarray]) -> np.ndarray:
        """Which rows lead to no NaN; impossible states lead to NaN."""
        nan = [np.isnan(x).reshape(len(x), -1).any(1) for x in map(np.asarray, self.after(leaves))]
        return np.flatnonzero(~np.any(nan, axis=0))


def _tied(rows: _Rows, values: np.ndarray, draw: np.random.Generator) -> list[np.ndarray]:
    """Rows with a field set to a constant in the field's range, some with all other floats zero.

    Floats of a running game almost never equal a bound; these rows distinguish `<` from `<=`. Integers
    are set only if a field is one number, not an array with which other fields may have to agree.
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
    """Pairs of rows with two neighbouring floats in one field, for which the game continues differently.

    Found by bisection between a row and the same row with another row's value in that field.
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
    """Floats as integers in the same order; neighbouring floats differ by one."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(2**31) - bits, bits)


def _float(ordered: np.ndarray) -> np.ndarray:
    return np.where(ordered < 0, -(2**31) - ordered, ordered).astype(np.int32).view(np.float32)


def _edge_cases(c_env: Any, rows: np.ndarray, actions: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows moved to the borders of the rules by the environment's own `edge_case`, if it has one."""
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
    """The results of each function of the C port for these rows."""
    import jax
    import jax.numpy as jnp

    from jaxpuffer import rng
    from jaxpuffer.env import has_action_mask, has_active

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
            "observe": ([state(twice, both)], jax.tree.leaves(twice.observe(both))),
            "init": ([streams], state(c, c.reset_streams(streams)[0])),
            "transition": (
                [state(c, rows), actions],
                [*state(c, middle), step.reward, step.terminated, step.truncated],
            ),
        }
        if has_action_mask(env):
            found["action_mask"] = ([state(c, rows)], [c.action_mask(rows)])
        if has_active(env):
            found["active"] = ([state(c, rows)], [step.active])
        if figures := twice.figures(both):
            found["figures"] = ([state(twice, both)], jax.tree.leaves(figures))
        if env.multi_agent:
            # some ended, not all
            ended = jax.random.bernoulli(key, 0.3, (count, env.num_agents))
            ended = ended.at[:, 0].set(~ended.all(1) & (ended[:, 0] | ~ended[:, 1:].any(1)))
            back, _ = c.reset_ended(middle, step.replace(terminated=ended, truncated=jnp.zeros_like(ended)))
            found["respawn"] = ([state(c, middle), ended], state(c, back))
        return found

    return jax.device_get(answers(rows, actions, key))
