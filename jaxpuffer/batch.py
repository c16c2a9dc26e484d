"""A batch of environments: vmap and exact auto-reset. Twin of envs_c/batch.h.

One step of a batch, in this order, in both languages: `transition`; the final
observation of each truncated row; the log of each ended row, with `score` and
`perf` read before anything is reset; `init` if the world ended (all agents in one
step), otherwise `respawn`; `observe`.
"""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.devices import in_32_bits, on_cpu
from jaxpuffer.env import (
    LOG_NAMES,
    NAN,
    Env,
    Log,
    TimeStep,
    has_action_mask,
    has_active,
    has_turns,
    misspelt,
    settle,
    transition_of,
)
from jaxpuffer.exits import one_line, users_level
from jaxpuffer.pytree import PyTreeNode, leaf_shapes
from jaxpuffer.rows import for_rows, with_rows_joined
from jaxpuffer.spaces import Composite, legal, mask_sizes, named_parts

RESET_CHUNK = 128  # rows of a costly `init` run together


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

    def reset(self, key: Array) -> tuple[Any, Any]:
        """New episodes: (state, obs)."""
        return self.reset_streams(rng.seed(rng.check_key(key), (self.num_envs,)))

    @in_32_bits
    def reset_streams(self, streams: Array) -> tuple[Any, Any]:
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
        """One step with auto-reset: in a row that ended, `obs` is the first of the next episode."""
        state, step = self.transition(state, actions)
        state, obs = self.reset_ended(state, step)
        return state, step.replace(obs=obs)

    @in_32_bits
    def transition(self, state: Any, actions: Array) -> tuple[Any, TimeStep]:
        """The first half of `step`: `obs` is still the old episode's, and the final one of a row that ended.

        Where an action is invalid (`spaces.legal`), the reward is NaN.
        """
        actions, wrong = legal(self.env.action_space, actions)
        active = jax.vmap(self.env.active)(state.env) if has_active(self.env) else None
        env_state, outcome = jax.vmap(self.env.transition)(state.env, actions)
        still = None if active is None else jax.vmap(self.env.active)(env_state)
        outcome = jax.vmap(settle)(outcome, active, still)
        ended = outcome.terminated | outcome.truncated
        counted = ended if active is None else ended & active
        episode_return = state.episode_return + outcome.reward
        episode_length = state.episode_length + (1 if active is None else jnp.int32(active))

        def logged(value: Array) -> Array:
            return jnp.where(counted, jnp.float32(value), jnp.float32(0))

        log = Log(
            logged(episode_return),
            logged(episode_length),
            logged(jax.vmap(self.env.score)(env_state)),
            logged(jax.vmap(self.env.perf)(env_state)),
            jnp.float32(counted),
            {name: logged(x) for name, x in jax.vmap(self.env.figures)(env_state).items()} or None,
        )
        state = BatchState(
            env_state, jnp.where(ended, jnp.float32(0), episode_return), jnp.where(ended, 0, episode_length)
        )
        reward = jnp.where(wrong, NAN, outcome.reward)
        return state, TimeStep(self.observe(state), reward, outcome.terminated, outcome.truncated, log, active)

    @in_32_bits
    def reset_ended(self, state: Any, step: TimeStep) -> tuple[Any, Any]:
        """The second half of `step`: reset what ended; (state, obs)."""
        state = state.replace(env=_reset_rows(self.env, state.env, step.ended))
        return state, self.observe(state)

    @in_32_bits
    def observe(self, state: Any) -> Any:
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

    @in_32_bits
    def figures(self, state: Any) -> dict[str, Array]:
        """The environment's own figures of the running episodes, float32 each."""
        return jax.tree.map(jnp.float32, jax.vmap(self.env.figures)(state.env))

    @in_32_bits
    def to_play(self, state: Any) -> Array | None:
        """Which side moves next, int32 (num_envs,); None if the sides do not move in turns."""
        return jax.vmap(self.env.to_play)(self.unpack(state).env) if has_turns(self.env) else None

    def unpack(self, state: Any) -> BatchState:
        """The states as a pytree, in whichever form the backend keeps them."""
        return state


@with_rows_joined
def _reset_rows(env: Env, states: Any, ended: Array, of_each: bool) -> Any:
    """The states with what ended reset; with `of_each`, every row has its own environment."""
    own = 0 if of_each else None

    def rows(function: Any, *args: Any) -> Any:
        return jax.vmap(lambda env, *a: function(env, *a), in_axes=(own, *[0] * len(args)))(env, *args)

    def put(where: Array, new: Any, old: Any) -> Any:
        return jax.tree.map(lambda n, o: jnp.where(where.reshape(where.shape + (1,) * (o.ndim - 1)), n, o), new, old)

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
        return lax.cond(world_ended.any(), begin, lambda: states) if on_cpu() else begin()

    num_rows = len(world_ended)
    chunk = min(RESET_CHUNK, num_rows)

    def begin_some(picked: Array, states: Any) -> Any:
        here = jnp.minimum(picked, num_rows - 1)
        envs = jax.tree.map(lambda x: x[here], env) if of_each else env
        new = jax.vmap(lambda e, stream: e.init(stream), in_axes=(own, 0))(envs, states.rng[here])
        return jax.tree.map(lambda n, o: o.at[picked].set(n, mode="drop"), new, states)

    return for_rows(world_ended, chunk, begin_some, states)


def check_env(env: Env) -> None:
    """Check at trace time that an environment's functions agree with each other and with its spaces.

    Raises:
        TypeError: naming the class, the function, and what it returned and should have.
    """
    for leaf, wanted in zip(jax.tree.leaves(env), jax.tree.leaves(leaf_shapes(env)), strict=True):
        if jnp.shape(leaf) != wanted.shape:
            raise TypeError(
                f"{type(env).__name__} has a parameter of shape {jnp.shape(leaf)}; "
                "vmap over it, with in_axes=env.axes(name)"
            )
    check_functions(env)


def check_functions(env: Env) -> None:
    """The same for an environment whose parameters may have an axis to `vmap` over."""
    _check_functions(jax.tree.structure(env), tuple((x.shape, x.dtype) for x in jax.tree.leaves(leaf_shapes(env))))


@functools.cache
def _check_functions(structure: Any, kinds: tuple[Any, ...]) -> None:
    leaves = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in kinds]
    env = jax.tree.unflatten(structure, leaves)
    name = type(env).__name__

    def expect(what: str, got: Any, shape: tuple[int, ...], dtype: Any = None, agents: tuple[int, ...] = ()) -> None:
        shape = (*agents, *shape)
        if got.shape != shape or (dtype is not None and got.dtype != dtype):
            wanted = "" if dtype is None else np.dtype(dtype)
            why = f", as num_agents is {agents[0]}" if agents and got.shape[:1] != agents else ""
            raise TypeError(f"{name}.{what} is {got.dtype}{list(got.shape)}; it must be {wanted}{list(shape)}{why}")

    def of_all(what: str, function: Any, *args: Any) -> Any:
        """Call a function with an array that has an entry for each agent."""
        try:
            return function(*args)
        except (TypeError, ValueError) as error:
            if not env.multi_agent:
                raise
            raise TypeError(f"{name}.{what} with num_agents = {env.num_agents}: {one_line(error)}") from error

    for member, meant in misspelt(type(env)).items():
        warnings.warn(f"{name}.{member} is never used; did you mean {meant}?", stacklevel=users_level())
    if not isinstance(env.num_agents, int | np.integer) or env.num_agents < 1:
        raise TypeError(
            f"{name}.num_agents is {env.num_agents!r:.100}; it must be a whole number of at least 1, as a class "
            "attribute, a parameter made with static(...), or a property"
        )
    if env.num_agents != 1 and not env.multi_agent:
        raise TypeError(f"{name}.num_agents is {env.num_agents}; a world of several agents sets multi_agent = True")
    teams = env.teams
    if teams is not None and (not isinstance(teams, tuple) or len(teams) != env.num_agents or set(teams) != {0, 1}):
        raise TypeError(
            f"{name}.teams is {teams!r:.100}; it must be a tuple with a 0 or a 1 for each of {env.num_agents} agents, "
            "and both of them"
        )

    # the state first: the other functions need a correct one
    program, state = jax.make_jaxpr(lambda env: env.init(jnp.zeros(2, jnp.uint32)), return_shape=True)(env)
    paths = jax.tree_util.tree_flatten_with_path(state)[0]
    if not paths or jax.tree_util.keystr(paths[0][0]) != ".rng":
        raise TypeError(f"{name}.init must return a PyTreeNode whose first field is rng")
    expect("init(stream).rng", paths[0][1], (2,), jnp.uint32)
    for (path, _), leaf in zip(paths, program.out_avals, strict=True):
        if leaf.weak_type:
            raise TypeError(f"{name}: state{jax.tree_util.keystr(path)} is weakly typed; wrap it, as in jnp.float32(0)")

    # an environment with levels draws one
    fields = [path[-1].name for path, _ in jax.tree_util.tree_leaves_with_path(env)]
    used = {id(x) for eqn in program.jaxpr.eqns for x in eqn.invars}
    unused = {field for field, x in zip(fields, program.jaxpr.invars, strict=True) if id(x) not in used}
    if {"levels", "first_level"} <= set(fields) and unused & {"levels", "first_level"}:
        warnings.warn(
            f"{name}.init does not use {' and '.join(sorted(unused & {'levels', 'first_level'}))}; draw the world from "
            "rng.level(stream, self.levels, self.first_level)",
            stacklevel=users_level(),
        )

    def abstract(env: Env, state: Any) -> Any:
        action = jnp.zeros((*env.agent_shape, *env.action_space.shape), env.action_space.dtype)
        next_state, outcome = of_all("transition(state, action)", transition_of, env, state, action)
        put_back, ended = state, jnp.ones(env.agent_shape, bool)
        if env.multi_agent:
            put_back = of_all("respawn(state, ended)", env.respawn, state, ended)
        seen = env.observe(state), env.score(state), env.perf(state), env.figures(state), env.active(state)
        return next_state, put_back, outcome, *seen, env.to_play(state)

    next_state, put_back, outcome, obs, score, perf, figures, active, side = jax.eval_shape(abstract, env, state)
    space = env.observation_space
    if not isinstance(figures, dict):
        raise TypeError(f"{name}.figures(state) is a {type(figures).__name__}; it must be a dict of arrays by name")
    if isinstance(space, Composite) and type(obs) is not type(space.boxes):
        raise TypeError(f"{name}.observe(state) is a {type(obs).__name__}; it must be a {type(space.boxes).__name__}")
    observed = {
        f"observe(state).{part}" if part else "observe(state)": (getattr(obs, part) if part else obs, box)
        for part, box in named_parts(space)
    }
    arrays = {what: got for what, (got, _) in observed.items()} | {"score(state)": score, "perf(state)": perf}
    arrays |= {f"figures(state)[{figure!r}]": x for figure, x in figures.items()}
    for what, got in arrays.items():
        if not hasattr(got, "shape"):
            raise TypeError(f"{name}.{what} is a {type(got).__name__}; it must be an array")
    for function, other in (("transition", next_state), ("respawn", put_back)):
        if str(jax.tree.structure(other)) != str(jax.tree.structure(state)):
            raise TypeError(f"{name}.{function} returns another kind of state than init")
        for (path, a), b in zip(paths, jax.tree.leaves(other), strict=True):
            field = jax.tree_util.keystr(path)
            if b.weak_type:
                raise TypeError(f"{name}: state{field} is weakly typed; wrap it, as in jnp.float32(0)")
            expect(f"{function}(...){field}", b, a.shape, a.dtype)
    for what, (got, box) in observed.items():
        expect(what, got, box.shape, box.dtype, env.agent_shape)
    if active is not None:
        if not env.multi_agent:
            raise TypeError(f"{name} has active(state) and one agent; the episode of a single agent ends instead")
        expect("active(state)", active, (), jnp.bool_, env.agent_shape)
    if side is not None:
        if env.multi_agent:
            raise TypeError(f"{name} has to_play(state) and several agents; sides that move in turns are one agent")
        expect("to_play(state)", side, (), jnp.int32)
    for what, dtype in (("reward", None), ("terminated", jnp.bool_), ("truncated", jnp.bool_)):
        got = jax.eval_shape(jnp.asarray, getattr(outcome, what))  # a Python bool or float is accepted too
        expect(f"transition(...) Outcome.{what}", got, (), dtype, env.agent_shape)
    if outcome.reset is not None:
        if not env.multi_agent:
            raise TypeError(f"{name} has one agent, which ends by terminated or truncated; Outcome.reset must be None")
        expect("transition(...) Outcome.reset", jax.eval_shape(jnp.asarray, outcome.reset), (), jnp.bool_)
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
    for what, got in arrays.items():
        if what not in observed:
            expect(what, got, (), None, env.agent_shape)
    for figure in figures:
        if not isinstance(figure, str) or not figure.isidentifier():
            raise TypeError(f"{name}.figures(state) has {figure!r}; a figure's name must be an identifier")
        if figure in LOG_NAMES:
            raise TypeError(f"{name}.figures(state) has {figure!r}; the log has {', '.join(LOG_NAMES)} of its own")
