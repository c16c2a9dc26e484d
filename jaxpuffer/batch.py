"""A batch of environments: vmap and exact auto-reset. Twin of envs_c/batch.h.

One step of a batch, in this order, in both languages: `transition`; the final
observation, where a row was truncated; the log of each ended row, with `score` and
`perf` read before anything is put back; `init` where the world ended (all agents at
once), else `respawn`; `observe`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.custom_batching import custom_vmap

from jaxpuffer import rng
from jaxpuffer.env import NAN, Env, Log, TimeStep, settle
from jaxpuffer.machine import in_32_bits
from jaxpuffer.pytree import PyTreeNode, leaf_shapes
from jaxpuffer.spaces import Box, Discrete, Mixed, Space, choices, legal, mask_sizes

RESET_CHUNK = 128  # rows of a dear `init` run together


class BatchState(PyTreeNode):
    """The states of a batch; every leaf has a leading axis `num_envs`."""

    env: Any  # the environments' State
    episode_return: Array  # float32 (num_envs, *agent_shape)
    episode_length: Array  # int32 (num_envs, *agent_shape), steps


class Batch:
    """`num_envs` JAX environments stepped together, resetting those that end in the same step.

    Arrays of observations, actions, rewards, flags and logs have the leading axes
    `(num_envs, *env.agent_shape)`.

    Raises:
        TypeError: the environment's functions disagree with each other or with its spaces.
    """

    @in_32_bits
    def __init__(self, env: Env, num_envs: int) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}; it must be at least 1")
        check_env(env)
        self.env = env
        self.num_envs = num_envs

    def reset(self, key: Array) -> tuple[Any, Array]:
        """New episodes: (state, obs)."""
        return self.reset_streams(rng.seed(key, (self.num_envs,)))

    @in_32_bits
    def reset_streams(self, streams: Array) -> tuple[Any, Array]:
        """New episodes from streams, uint32 (num_envs, 2)."""
        rows = (self.num_envs, *self.env.agent_shape)
        state = BatchState(
            env=jax.vmap(self.env.init)(streams),
            episode_return=jnp.zeros(rows, jnp.float32),
            episode_length=jnp.zeros(rows, jnp.int32),
        )
        return state, self.observe(state)

    @in_32_bits
    def step(self, state: Any, actions: Array) -> tuple[Any, TimeStep]:
        """One step with auto-reset: `obs` is the next episode's first where a row ended."""
        state, step = self.transition(state, actions)
        state, obs = self.reset_ended(state, step)
        return state, step.replace(obs=obs)

    @in_32_bits
    def transition(self, state: Any, actions: Array) -> tuple[Any, TimeStep]:
        """The first half of `step`: `obs` is still the old episode's, final where a row ended.

        Where an action is none (`spaces.legal`), the reward is NaN.
        """
        actions, wrong = legal(self.env.action_space, actions)
        env_state, outcome = jax.vmap(self.env.transition)(state.env, actions)
        outcome = jax.vmap(settle)(outcome)
        ended = outcome.terminated | outcome.truncated
        episode_return = state.episode_return + outcome.reward
        episode_length = state.episode_length + 1

        def logged(value: Array) -> Array:
            return jnp.where(ended, jnp.float32(value), jnp.float32(0))

        log = Log(
            logged(episode_return),
            logged(episode_length),
            logged(jax.vmap(self.env.score)(env_state)),
            logged(jax.vmap(self.env.perf)(env_state)),
            jnp.float32(ended),
        )
        state = BatchState(
            env_state, jnp.where(ended, jnp.float32(0), episode_return), jnp.where(ended, 0, episode_length)
        )
        reward = jnp.where(wrong, NAN, outcome.reward)
        return state, TimeStep(self.observe(state), reward, outcome.terminated, outcome.truncated, log)

    @in_32_bits
    def reset_ended(self, state: Any, step: TimeStep) -> tuple[Any, Array]:
        """The second half of `step`: put back what ended; (state, obs)."""
        state = state.replace(env=_put_back(per_row=False)(self.env, state.env, step.ended))
        return state, self.observe(state)

    @in_32_bits
    def observe(self, state: Any) -> Array:
        """What the agents of every environment see."""
        return jax.vmap(self.env.observe)(state.env)

    def take(self, state: Any, rows: Array) -> Any:
        """The states of some environments, int32 (n,), as a batch of n: `observe` takes it."""
        return jax.tree.map(lambda x: x[rows], state)

    @in_32_bits
    def action_mask(self, state: Any) -> Array | None:
        """Legal actions, bool (num_envs, *agent_shape, n), of the observation just returned."""
        if not has_action_mask(self.env):
            return None
        return jax.vmap(self.env.action_mask)(state.env)

    @in_32_bits
    def score(self, state: Any) -> tuple[Array, Array]:
        """Score and perf of the running episodes, float32 each."""
        score, perf = jax.vmap(self.env.score)(state.env), jax.vmap(self.env.perf)(state.env)
        return jnp.float32(score), jnp.float32(perf)

    def unpack(self, state: Any) -> BatchState:
        """The states as a pytree, whatever the backend keeps."""
        return state


def has_action_mask(env: Any) -> bool:
    """Whether some actions can be illegal."""
    return type(env).action_mask is not Env.action_mask


def random_action(env: Env, state: Any, stream: Array, masked: bool = True) -> Array:
    """A uniformly random action of each agent, in the action space's shape and dtype; a legal one if `masked`."""
    space = env.action_space
    shape = (*env.agent_shape, *space.shape)
    count = 1
    for length in shape:
        count *= length
    _, words = lax.scan(lambda s, _: rng.bits(s), stream, length=count)
    unit = (jnp.float32(words >> jnp.uint32(8)) * jnp.float32(2.0**-24)).reshape(shape)
    mask = env.action_mask(state) if masked else None
    if isinstance(space, Discrete) and mask is not None:
        return _drawn_legal(mask, unit)

    # whole numbers from 0 and numbers between bounds, side by side
    low, span, whole = (jnp.broadcast_to(x.reshape(space.shape), shape) for x in _ranges(space))
    value = low + unit * span
    value = jnp.where(whole, jnp.floor(value), value)
    if mask is not None:
        start, entries = 0, [value[..., i] for i in range(value.shape[-1])]
        numbers = [i for i, is_choice in enumerate(_ranges(space)[2]) if is_choice]
        for i, n in zip(numbers, mask_sizes(space), strict=True):
            entries[i] = jnp.float32(_drawn_legal(mask[..., start : start + n], unit[..., i]))
            start += n
        value = jnp.stack(entries, -1)
    return value.astype(space.dtype)


def _drawn_legal(mask: Array, unit: Array) -> Array:
    """One of the choices that the mask allows, int32 (...), for uniform draws in [0, 1), float32 (...)."""
    allowed = jnp.int32(mask)
    k = jnp.int32(unit * jnp.float32(allowed.sum(-1)))
    return jnp.int32(jnp.argmax(allowed.cumsum(-1) > k[..., None], -1))


def _ranges(space: Space) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each entry its least value, how much lies above it, both float32, and whether it is a choice, bool."""
    rows: list[tuple[float, float, bool]] = []
    for part in space.parts if isinstance(space, Mixed) else (space,):
        if isinstance(part, Box):
            rows += [(a, b - a, False) for a, b in zip(*(x.flat for x in part.drawn_between()), strict=True)]
        else:
            rows += [(0.0, n, True) for n in choices(part)]
    low, span, whole = zip(*rows, strict=True)
    return np.array(low, np.float32), np.array(span, np.float32), np.array(whole)


def ranked(where: Array, chunk: int) -> tuple[Array, Array]:
    """The rows where `where`, bool (rows,), is true, to be taken in chunks: (order, their number).

    Slot k of `order`, int32 (rows + chunk,), holds the k-th of them; the rest point past the end.
    """
    rows = len(where)
    rank = jnp.cumsum(jnp.int32(where)) - 1
    order = jnp.full(rows + chunk, rows, jnp.int32)
    order = order.at[jnp.where(where, rank, rows + chunk)].set(jnp.arange(rows, dtype=jnp.int32), mode="drop")
    return order, rank[-1] + 1


@functools.cache
def _put_back(per_row: bool) -> Any:
    """A function (env, states, ended) -> states that puts back what ended.

    With `per_row`, the environment's leaves have a row axis too. vmap adds its axis to
    the rows instead of a new one: `cond` stays a cond and chunks stay full when
    many seeds train at once.
    """

    @custom_vmap
    def put_back(env: Env, states: Any, ended: Array) -> Any:
        def rows(function: Any, *args: Any) -> Any:
            return jax.vmap(lambda env, *a: function(env, *a), in_axes=(0 if per_row else None, *[0] * len(args)))(
                env, *args
            )

        def put(where: Array, new: Any, old: Any) -> Any:
            return jax.tree.map(
                lambda n, o: jnp.where(where.reshape(where.shape + (1,) * (o.ndim - 1)), n, o), new, old
            )

        world_ended = ended
        if env.multi_agent:
            world_ended = ended.all(1)
            some_ended = ended.any(1) & ~world_ended
            states = lax.cond(
                some_ended.any(),
                lambda: put(some_ended, rows(lambda e, s, x: e.respawn(s, x), states, ended), states),
                lambda: states,
            )
        if env.cheap_init:

            def begin() -> Any:
                return put(world_ended, rows(lambda e, stream: e.init(stream), states.rng), states)

            # an accelerator would wait for the host to look at a condition
            on_cpu = jax.default_backend() == "cpu"
            return lax.cond(world_ended.any(), begin, lambda: states) if on_cpu else begin()

        # rank the ended rows once, then begin their episodes in chunks
        num_rows = world_ended.shape[0]
        chunk = min(RESET_CHUNK, num_rows)
        order, count = ranked(world_ended, chunk)

        def fill(carry: Any) -> Any:
            start, states = carry
            picked = lax.dynamic_slice(order, (start,), (chunk,))
            here = jnp.minimum(picked, num_rows - 1)
            new = jax.vmap(lambda e, stream: e.init(stream), in_axes=(0 if per_row else None, 0))(
                jax.tree.map(lambda x: x[here], env) if per_row else env, states.rng[here]
            )
            return start + chunk, jax.tree.map(lambda n, o: o.at[picked].set(n, mode="drop"), new, states)

        return lax.while_loop(lambda carry: carry[0] < count, fill, (jnp.int32(0), states))[1]

    @put_back.def_vmap
    def rule(axis_size: int, in_batched: Any, env: Env, states: Any, ended: Array) -> Any:
        env_batched, states_batched, ended_batched = in_batched
        num_rows = ended.shape[1 if ended_batched else 0]
        rows_of_env = per_row or any(jax.tree.leaves(env_batched))

        def spread(x: Array, batched: bool) -> Array:
            return x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))

        def merge(x: Array, batched: bool) -> Array:
            x = spread(x, batched)
            return x.reshape(axis_size * num_rows, *x.shape[2:])

        def merge_env(x: Array, batched: bool) -> Array:
            if per_row:
                return merge(x, batched)
            return jnp.repeat(spread(x, batched), num_rows, axis=0)

        if rows_of_env:
            env = jax.tree.map(merge_env, env, env_batched)
        merged = jax.tree.map(merge, states, states_batched)
        out = _put_back(rows_of_env)(env, merged, merge(ended, ended_batched))
        out = jax.tree.map(lambda x: x.reshape(axis_size, num_rows, *x.shape[1:]), out)
        return out, jax.tree.map(lambda _: True, out)

    return put_back


def check_env(env: Env) -> None:
    """Check at trace time that an environment's functions agree with each other and with its spaces.

    Raises:
        TypeError: naming the class, the function, and what it returned and should have.
    """
    shapes = leaf_shapes(env)
    for leaf, wanted in zip(jax.tree.leaves(env), jax.tree.leaves(shapes), strict=True):
        if jnp.shape(leaf) != wanted.shape:
            raise TypeError(
                f"{type(env).__name__} has a parameter of shape {jnp.shape(leaf)}; "
                "vmap over it, with in_axes=env.axes(name)"
            )
    _check_env(jax.tree.structure(env), tuple((x.shape, x.dtype) for x in jax.tree.leaves(shapes)))


@functools.cache
def _check_env(structure: Any, kinds: tuple[Any, ...]) -> None:
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in kinds]
    env = jax.tree.unflatten(structure, leaves)
    name = type(env).__name__

    def expect(what: str, got: Any, shape: tuple[int, ...], dtype: Any = None) -> None:
        if got.shape != shape or (dtype is not None and got.dtype != dtype):
            wanted = "" if dtype is None else np.dtype(dtype)
            raise TypeError(f"{name}.{what} is {got.dtype}{list(got.shape)}; it must be {wanted}{list(shape)}")

    # the state first: the other functions are written for a right one
    state = jax.eval_shape(lambda env: env.init(jnp.zeros(2, jnp.uint32)), env)
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    if not paths or jax.tree_util.keystr(paths[0][0]) != ".rng":
        raise TypeError(f"{name}.init must return a PyTreeNode whose first field is rng")
    expect("init(stream).rng", paths[0][1], (2,), jnp.uint32)
    for path, leaf in paths:
        if leaf.weak_type:
            raise TypeError(f"{name}: state{jax.tree_util.keystr(path)} is weakly typed; wrap it, as in jnp.float32(0)")

    def abstract(env: Env, state: Any) -> Any:
        action = jnp.zeros((*env.agent_shape, *env.action_space.shape), env.action_space.dtype)
        next_state, outcome = env.transition(state, action)
        put_back = env.respawn(state, jnp.ones(env.agent_shape, bool)) if env.multi_agent else state
        return next_state, put_back, outcome, env.observe(state), env.score(state), env.perf(state)

    next_state, put_back, outcome, obs, score, perf = jax.eval_shape(abstract, env, state)
    for function, other in (("transition", next_state), ("respawn", put_back)):
        if str(jax.tree.structure(other)) != str(jax.tree.structure(state)):
            raise TypeError(f"{name}.{function} returns another kind of state than init")
        for (path, a), b in zip(paths, jax.tree.leaves(other), strict=True):
            field = jax.tree_util.keystr(path)
            if b.weak_type:
                raise TypeError(f"{name}: state{field} is weakly typed; wrap it, as in jnp.float32(0)")
            expect(f"{function}(...){field}", b, a.shape, a.dtype)
    expect("observe(state)", obs, (*env.agent_shape, *env.observation_space.shape), env.observation_space.dtype)
    for what in ("reward", "terminated", "truncated"):
        expect(f"transition(...) Outcome.{what}", getattr(outcome, what), env.agent_shape)
    if has_action_mask(env):
        mask = jax.eval_shape(lambda env, state: env.action_mask(state), env, state)
        sizes = mask_sizes(env.action_space)
        if not sizes:
            raise TypeError(f"{name} has an action_mask; the action space {env.action_space} has no choices to mask")
        if mask is not None:
            parts = (
                "" if len(sizes) == 1 else f", one for each choice of the parts in order, {' + '.join(map(str, sizes))}"
            )
            full = (*env.agent_shape, sum(sizes))
            if mask.shape != full or mask.dtype != jnp.bool_:
                raise TypeError(
                    f"{name}.action_mask(state) is {mask.dtype}{list(mask.shape)}; it must be bool{list(full)}{parts}"
                )
    expect("score(state)", score, env.agent_shape)
    expect("perf(state)", perf, env.agent_shape)
