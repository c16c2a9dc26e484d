"""Our environments with the interface of gymnax 1.x."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.registry import as_env, name_of
from jaxpuffer.spaces import Box, Composite, Discrete, ObservationSpace, check_action


class GymnaxParams(PyTreeNode):
    """An environment's parameters as the methods of `GymnaxEnv` take them; `params.env` has them as fields."""

    env: Any

    def replace(self, **changes: Any) -> "GymnaxParams":
        """A copy with some parameters changed, validated like new ones."""
        return GymnaxParams(self.env.replace(**changes))

    @property
    def max_steps_in_episode(self) -> Any:
        """The time limit, for environments with a parameter `max_steps`."""
        limit = getattr(self.env, "env", self.env).max_steps
        if not isinstance(limit, jax.core.Tracer) and limit == 0:
            raise AttributeError("max_steps is 0, so other parameters set the limit; use params.replace(max_steps=...)")
        return limit


class GymnaxState(PyTreeNode):
    """The state of an episode, and how its last step ended."""

    rows: Any  # of a batch of one environment
    time: Array  # int32 (), steps
    terminated: Array  # bool ()
    truncated: Array  # bool ()


class GymnaxEnv:
    """An environment of one agent with the methods of gymnax's `Environment`.

    All randomness inside an episode, and of the episodes after it, comes from the key of `reset`: the keys that the
    other methods take are not used. `params` is `default_params` where it is None.
    """

    def __init__(self, env: Any) -> None:
        env = as_env(env)
        if env.multi_agent:
            raise ValueError(f"{type(env).__name__} has {env.num_agents} agents; an environment of gymnax has one")
        self.default_params = GymnaxParams(env)
        self.name = name_of(env) or type(env).__name__

    @property
    def num_actions(self) -> int:
        """Choices of a Discrete action, otherwise entries of an action."""
        space = self.default_params.env.action_space
        return space.n if isinstance(space, Discrete) else space.shape[0]

    @functools.partial(jax.jit, static_argnums=0)
    def reset(self, key: Array, params: GymnaxParams | None = None) -> tuple[Any, GymnaxState]:
        """A new episode: (obs, state)."""
        return self.reset_env(key, params)

    @functools.partial(jax.jit, static_argnums=0)
    def step(
        self, key: Array, state: GymnaxState, action: Array, params: GymnaxParams | None = None
    ) -> tuple[Any, GymnaxState, Array, Array, Array, dict[str, Any]]:
        """One step with auto-reset: (obs, state, reward, terminated, truncated, info).

        In a step that ends the episode, `obs` is the next one's first and `info["final_observation"]` the last.
        Info also holds `terminated`, `truncated`, and `action_mask` if some actions can be illegal.
        """
        state, step = self._transition(state, action, params)
        batch = self._batch(params)
        rows, obs = batch.reset_ended(state.rows, step)
        time = jnp.where(step.ended[0], 0, state.time)
        state = state.replace(rows=rows, time=time)
        info = self._info(step) | {"final_observation": _first(step.obs)}
        if (mask := self.action_mask(state, params)) is not None:
            info["action_mask"] = mask
        return _first(obs), state, step.reward[0], step.terminated[0], step.truncated[0], info

    def reset_env(self, key: Array, params: GymnaxParams | None = None) -> tuple[Any, GymnaxState]:
        """The same as `reset`, without `jit`."""
        rows, obs = self._batch(params).reset_streams(rng.seed(rng.check_key(key))[None])
        never = jnp.bool_(False)
        return _first(obs), GymnaxState(rows, jnp.int32(0), never, never)

    def step_env(
        self, key: Array, state: GymnaxState, action: Array, params: GymnaxParams | None = None
    ) -> tuple[Any, GymnaxState, Array, Array, dict[str, Any]]:
        """One step without auto-reset: (obs, state, reward, terminated, info); `is_truncated(state)` says the rest."""
        state, step = self._transition(state, action, params)
        return _first(step.obs), state, step.reward[0], step.terminated[0], self._info(step)

    def get_obs(self, state: GymnaxState, params: GymnaxParams | None = None, key: Array | None = None) -> Any:
        """What the agent sees."""
        return _first(self._batch(params).observe(state.rows))

    def observe(self, key: Array, state: GymnaxState, action: Any, params: GymnaxParams | None = None) -> Any:
        """What the agent sees."""
        return self.get_obs(state, params)

    def action_mask(self, state: GymnaxState, params: GymnaxParams | None = None) -> Array | None:
        """Legal actions, bool (n,); None if all are always legal."""
        mask = self._batch(params).action_mask(state.rows)
        return None if mask is None else mask[0]

    def is_truncated(self, state: GymnaxState, params: GymnaxParams | None = None) -> Array:
        """Whether the last step reached the time limit."""
        return state.truncated

    def is_terminated(self, state: GymnaxState, params: GymnaxParams | None = None) -> Array:
        """Whether the rules ended the episode in the last step."""
        return state.terminated

    is_terminal = is_terminated

    def discount(self, state: GymnaxState, params: GymnaxParams | None = None) -> Array:
        """0 if the rules ended the episode in the last step, otherwise 1."""
        return jnp.where(state.terminated, jnp.float32(0), jnp.float32(1))

    def action_space(self, params: GymnaxParams | None = None) -> Any:
        """gymnax's space if gymnax is installed, otherwise ours, which has the same attributes and methods."""
        return _gymnax_space((params or self.default_params).env.action_space)

    def observation_space(self, params: GymnaxParams | None = None) -> Any:
        """gymnax's space if gymnax is installed, otherwise ours, which has the same attributes and methods."""
        return _gymnax_space((params or self.default_params).env.observation_space)

    def _batch(self, params: GymnaxParams | None) -> Any:
        # under vmap the new axis joins the rows, and what ended is reset without `init` for all
        return (params or self.default_params).env.batch(1)

    def _transition(self, state: GymnaxState, action: Any, params: GymnaxParams | None) -> tuple[GymnaxState, Any]:
        action = check_action((params or self.default_params).env.action_space, action)
        rows, step = self._batch(params).transition(state.rows, action[None])
        return GymnaxState(rows, state.time + 1, step.terminated[0], step.truncated[0]), step

    def _info(self, step: Any) -> dict[str, Any]:
        return {"terminated": step.terminated[0], "truncated": step.truncated[0]}


def to_gymnax(env: Any) -> GymnaxEnv:
    """An environment with the methods of gymnax 1.x, for code that is written for gymnax; gymnax is not needed.

    Args:
        env: a registered name, or an environment of either backend, also one that is not registered.

    Raises:
        ValueError: a world of several agents.
        TypeError: `env` is neither.
    """
    return GymnaxEnv(env)


def _first(obs: Any) -> Any:
    return jax.tree.map(lambda x: x[0], obs)


def _gymnax_space(space: ObservationSpace) -> Any:
    try:
        from gymnax.environments import spaces
    except ImportError:
        return space
    if isinstance(space, Discrete):
        return spaces.Discrete(space.n)
    if isinstance(space, Box):
        low, high = (np.asarray(x, space.dtype) for x in (space.low, space.high))
        return spaces.Box(low, high, space.shape, space.dtype)
    if isinstance(space, Composite):
        return spaces.Dict({name: _gymnax_space(box) for name, box in space.parts})
    return space
