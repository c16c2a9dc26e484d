"""The interface of `VecEnv` over a JAX environment: for one without a C twin, or where the C half is not built."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer.env import LOG_NAMES, Env, figure_names
from jaxpuffer.spaces import check_action, named_parts
from jaxpuffer.vec_env import begin_anew, draw_streams, seed_sequence


class JaxVecEnv:
    """`num_envs` JAX environments stepped together in one jitted call; see `VecEnv`.

    The same seed gives the same episodes as in `VecEnv`. Every call returns new arrays.

    Raises:
        TypeError, ValueError: the environment's functions disagree with its spaces, or later an action is not allowed.
    """

    def __init__(self, env: Env, num_envs: int = 1) -> None:
        env.batch(num_envs)  # checked
        self.env = env
        self.num_envs = num_envs
        self.num_agents = env.num_agents
        self.agent_shape = env.agent_shape
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        self._seeds = np.random.SeedSequence()
        self._state: Any = None
        self._obs: Any = None
        self._mask: Any = None
        self.log_names = (*LOG_NAMES, *figure_names(env))

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        """New episodes in all environments, or in those of `options["reset_mask"]`: (obs, info)."""
        which = begin_anew(options, self.num_envs, self._state is not None)
        self._seeds = self._seeds if seed is None else seed_sequence(seed)
        drawn = _reset(self.env, draw_streams(self._seeds, self.num_envs))
        now = drawn if which.all() else _put(which, drawn, (self._state, self._obs, self._mask))
        self._state, self._obs, self._mask = now
        never = np.zeros((self.num_envs, *self.agent_shape), bool)
        log = np.zeros((*never.shape, len(self.log_names)), np.float32)
        return self._seen(self._obs), self._info(jax.tree.map(np.zeros_like, self._obs), never, log)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict]:
        """One step: (obs, reward, terminated, truncated, info)."""
        if self._state is None:
            raise RuntimeError("call reset() before step()")
        actions = check_action(self.single_action_space, actions, (self.num_envs, *self.agent_shape))
        (self._state, self._obs, self._mask), final_obs, active, rest = _step(self.env, self._state, actions)
        reward, terminated, truncated, log = (np.asarray(x) for x in rest)
        info = self._info(final_obs, terminated | truncated, log)
        if active is not None:
            info |= {"active": np.asarray(active), "_log": info["_log"] & np.asarray(active)}
        return self._seen(self._obs), reward, terminated, truncated, info

    def render(self, number: int = 0) -> np.ndarray:
        """A picture of one environment, uint8 (height, width, 3)."""
        return np.asarray(_picture(self.env, self._state.env, number))

    def close(self) -> None:
        """There is nothing to release."""

    def keep(self, which: np.ndarray) -> Any:
        """What `put_back` takes."""
        return self._state, self._obs, self._mask

    def put_back(self, which: np.ndarray, kept: Any) -> tuple[Any, np.ndarray | None]:
        """Undo what was done since `keep` in some environments, bool (num_envs,): the observations and masks of all."""
        self._state, self._obs, self._mask = _put(which, kept, (self._state, self._obs, self._mask))
        return self._seen(self._obs), None if self._mask is None else np.asarray(self._mask)

    def _seen(self, obs: Any) -> Any:
        """Observations as an array of NumPy, or a dict of them by name."""
        names = [part for part, _ in named_parts(self.single_observation_space)]
        return np.asarray(obs) if names == [""] else {name: np.asarray(getattr(obs, name)) for name in names}

    def _info(self, final_obs: Any, ended: np.ndarray, log: np.ndarray) -> dict[str, Any]:
        info = {"final_obs": self._seen(final_obs), "_final_obs": ended, "log": log, "_log": ended}
        return info if self._mask is None else info | {"action_mask": np.asarray(self._mask)}


@jax.jit
def _reset(env: Env, streams: Array) -> Any:
    batch = env.batch(len(streams))
    state, obs = batch.reset_streams(streams)
    return state, obs, batch.action_mask(state)


@jax.jit
def _step(env: Env, state: Any, actions: Array) -> Any:
    batch = env.batch(len(actions))
    state, step = batch.transition(state, actions)
    state, obs = batch.reset_ended(state, step)
    log = jnp.stack(jax.tree.leaves(step.log), -1)
    rest = step.reward, step.terminated, step.truncated, log
    return (state, obs, batch.action_mask(state)), step.obs, step.active, rest


@jax.jit
def _put(which: Array, new: Any, old: Any) -> Any:
    """`new` in some environments, bool (num_envs,), `old` in the others."""
    return jax.tree.map(lambda n, o: jnp.where(which.reshape(-1, *[1] * (o.ndim - 1)), n, o), new, old)


@jax.jit
def _picture(env: Env, states: Any, number: Array) -> Array:
    return env.render(jax.tree.map(lambda x: x[number], states))
