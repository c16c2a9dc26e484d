"""The classes behind `to_gymnasium` and the ids in Gymnasium's registry."""

import math
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from jaxpuffer.adapters.jax_vec_env import JaxVecEnv
from jaxpuffer.registry import as_env, c_is_built, make
from jaxpuffer.spaces import Box, Composite, Discrete, MultiDiscrete, ObservationSpace
from jaxpuffer.vec_env import VecEnv

NOT_SHOWN = "n"  # of the log: 1 where an episode ended
FPS = 30


class GymnasiumVectorEnv(VectorEnv):
    """A `VecEnv` or `JaxVecEnv` as Gymnasium's vector environment; `to_gymnasium` says what the arguments mean."""

    closed = True  # until it is made

    def __init__(
        self,
        env: Any,
        num_envs: int = 1,
        *,
        threads: int = 1,
        autoreset_mode: Any = "SameStep",
        render_mode: str | None = None,
        copy: bool = True,
        **params: Any,
    ) -> None:
        self.render_mode = check_render_mode(render_mode)
        try:
            mode = AutoresetMode(autoreset_mode)
        except ValueError:
            mode = AutoresetMode.DISABLED
        if mode == AutoresetMode.DISABLED:
            raise ValueError(f"autoreset_mode is {autoreset_mode!r}; it must be 'SameStep' or 'NextStep'")
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": FPS, "autoreset_mode": mode}
        self._vec = vec_env(env, num_envs, threads, params)
        if mode == AutoresetMode.NEXT_STEP and self._vec.agent_shape:
            raise ValueError("autoreset_mode is 'NextStep'; a world of several agents goes on when one of them ends")
        self.num_agents = self._vec.num_agents
        self.num_worlds = num_envs
        self.num_envs = num_envs * self.num_agents
        self.single_observation_space = gymnasium_space(self._vec.single_observation_space)
        self.single_action_space = gymnasium_space(self._vec.single_action_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._action_shape = (num_envs, *self._vec.agent_shape, *self._vec.single_action_space.shape)
        self._next_step = mode == AutoresetMode.NEXT_STEP
        self._copy = copy
        self._ended = np.zeros(self.num_envs, bool)  # in the last step
        self.closed = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New episodes in all rows, or in those of `options["reset_mask"]`, bool (num_envs,): (obs, info).

        Raises:
            ValueError, TypeError: a seed, an option or a mask that is not allowed.
        """
        self._refuse_closed()
        super().reset(seed=seed)
        anew = np.ones(self.num_envs, bool)
        if options and options.get("reset_mask") is not None:
            anew = np.asarray(options["reset_mask"])
            if anew.dtype != np.bool_ or anew.shape != (self.num_envs,):
                raise TypeError(f"reset_mask is {anew.dtype}{list(anew.shape)}; it must be bool[{self.num_envs}]")
            worlds = anew.reshape(self.num_worlds, -1)
            if (worlds != worlds[:, :1]).any():
                raise ValueError("reset_mask differs among the agents of a world; a world begins anew as a whole")
            options = {**options, "reset_mask": worlds[:, 0]}
        obs, info = self._vec.reset(seed, options)
        self._ended[anew] = False
        return jax.tree.map(self._rows, obs), self._mask_info(info.get("action_mask"))

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step: (obs, reward, terminated, truncated, info), each with a row for each agent.

        Raises:
            ValueError, TypeError: an action out of range, or actions of a wrong shape or dtype.
        """
        self._refuse_closed()
        actions = np.asarray(actions)
        if actions.size == math.prod(self._action_shape) and actions.shape[:1] == (self.num_envs,):
            actions = actions.reshape(self._action_shape)
        waiting = self._ended if self._next_step and self._ended.any() else None
        kept: Any = None if waiting is None else self._vec.keep(waiting)
        obs, reward, terminated, truncated, found = self._vec.step(actions)
        mask = found.get("action_mask")
        final_obs = jax.tree.map(self._rows, found["final_obs"])
        ended, logged, log = (self._rows(found[key]) for key in ("_final_obs", "_log", "log"))
        reward, terminated, truncated = self._rows(reward), self._rows(terminated), self._rows(truncated)
        if waiting is not None:  # these began anew, and are still at their first observation
            obs, mask = self._vec.put_back(waiting, kept)
            reward, terminated, truncated, ended, logged = (
                np.where(waiting, np.zeros((), x.dtype), x) for x in (reward, terminated, truncated, ended, logged)
            )
        obs = jax.tree.map(self._rows, obs)
        self._ended = ended.copy()
        info = self._mask_info(mask)
        if "active" in found:
            acted = self._rows(found["active"])
            info["active"] = acted.copy() if waiting is None else acted & ~waiting
        if ended.any():
            if self._next_step:
                obs = jax.tree.map(lambda x, y: np.where(ended.reshape(-1, *[1] * (x.ndim - 1)), y, x), obs, final_obs)
            else:
                last = np.full(self.num_envs, None, object)
                for row in np.flatnonzero(ended):
                    last[row] = jax.tree.map(lambda x, row=row: x[row], final_obs)
                info |= {"final_obs": last, "_final_obs": ended}
            values: dict[str, np.ndarray] = {}
            for i, key in enumerate(self._vec.log_names):
                if key != NOT_SHOWN:
                    values |= {key: np.where(logged, log[:, i], np.float32(0)), f"_{key}": logged}
            info |= {"final_info": values, "_final_info": logged}
        return obs, reward, terminated, truncated, info

    def render(self) -> tuple[np.ndarray, ...]:
        """A picture of each environment or world, uint8 (height, width, 3)."""
        refuse_to_render(self.render_mode)
        return tuple(self._vec.render(i) for i in range(self.num_worlds))

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads."""
        self._vec.close()

    def _refuse_closed(self) -> None:
        if self.closed:
            raise RuntimeError("this environment is closed; make a new one")

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """An array (num_worlds[, num_agents], ...) with one axis of rows."""
        shape = x.shape[1 + len(self._vec.agent_shape) :]
        return (x.copy() if self._copy else x).reshape(self.num_envs, *shape)

    def _mask_info(self, mask: np.ndarray | None) -> dict[str, Any]:
        if mask is None:
            return {}
        return {"action_mask": self._rows(mask), "_action_mask": np.ones(self.num_envs, bool)}


class GymnasiumEnv(gymnasium.Env):
    """One environment without auto-reset, for `gymnasium.make("jaxpuffer/NAME")`.

    `info` holds `action_mask` if some actions can be illegal, and when the episode ended `episode_return`,
    `episode_length`, `score`, `perf` and the environment's own figures.

    Raises:
        ValueError: a world of several agents.
        RuntimeError: a step after the episode's end.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012

    def __init__(self, env: Any, render_mode: str | None = None, **params: Any) -> None:
        self.render_mode = check_render_mode(render_mode)
        self._vec = vec_env(env, 1, 1, params)
        if self._vec.agent_shape:
            raise ValueError(f"{env} has {self._vec.num_agents} agents; use gymnasium.make_vec, whose rows are agents")
        self.observation_space = gymnasium_space(self._vec.single_observation_space)
        self.action_space = gymnasium_space(self._vec.single_action_space)
        self._over = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new episode: (obs, info)."""
        super().reset(seed=seed)
        obs, found = self._vec.reset(seed)
        self._over = False
        return of_row(obs, 0), self._info(found)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step: (obs, reward, terminated, truncated, info)."""
        if self._over:
            raise RuntimeError("the episode has ended; call reset() before step()")
        obs, reward, terminated, truncated, found = self._vec.step(np.asarray(action)[None])
        self._over = bool(terminated[0] or truncated[0])
        info = self._info(found)
        if self._over:
            obs = found["final_obs"]
            info |= of_log(self._vec.log_names, found["log"][0])
        return of_row(obs, 0), float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self) -> np.ndarray:
        """A picture, uint8 (height, width, 3); after an episode's end it is one of the next episode's beginning."""
        refuse_to_render(self.render_mode)
        return self._vec.render()

    def close(self) -> None:
        """End the threads."""
        self._vec.close()

    def _info(self, found: dict[str, np.ndarray]) -> dict[str, Any]:
        return {"action_mask": found["action_mask"][0].copy()} if "action_mask" in found else {}


def vec_env(env: Any, num_envs: int, threads: int, params: dict[str, Any]) -> VecEnv | JaxVecEnv:
    """Environments stepped together: those of a name in C where that half is built, others with their own backend.

    Raises:
        ValueError, TypeError: a name or an environment that there is not, or parameters beside an environment.
    """
    if not isinstance(env, str):
        env = as_env(env)
        if params:
            raise TypeError(f"parameters go with a name; here env.replace({', '.join(params)}=...) changes them")
        if hasattr(env, "env"):  # a CEnv
            return VecEnv(env.name, num_envs, threads, **env.env.to_dict())
        return JaxVecEnv(env, num_envs)
    return VecEnv(env, num_envs, threads, **params) if c_is_built() else JaxVecEnv(make(env, **params), num_envs)


def of_row(obs: Any, *place: int) -> Any:
    """A copy of the observation of one row; of several parts, a dict of their copies."""
    return jax.tree.map(lambda x: x[place].copy(), obs)


def of_log(names: tuple[str, ...], log: np.ndarray) -> dict[str, float]:
    """The figures of an ended episode by name."""
    return {name: float(x) for name, x in zip(names, log, strict=True) if name != NOT_SHOWN}


def gymnasium_space(space: ObservationSpace) -> gymnasium.Space:
    """The same space as Gymnasium's; a Dict for a Composite.

    Raises:
        TypeError: it has choices and numbers in one action, which no single space of Gymnasium has.
    """
    if isinstance(space, Discrete):
        return gymnasium.spaces.Discrete(space.n)
    if isinstance(space, MultiDiscrete):
        return gymnasium.spaces.MultiDiscrete(list(space.nvec))
    if isinstance(space, Box):
        low, high = (x.astype(space.dtype) for x in space.bounds())
        return gymnasium.spaces.Box(low, high, space.shape, space.dtype.type)
    if isinstance(space, Composite):
        return gymnasium.spaces.Dict({name: gymnasium_space(box) for name, box in space.parts})
    raise TypeError(f"the action space is {space}; Gymnasium has no space of choices and numbers in one array")


def check_render_mode(mode: str | None) -> str | None:
    """The mode itself; a ValueError if it is not one of those there are."""
    if mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode is {mode!r}; it must be None or 'rgb_array'")
    return mode


def refuse_to_render(mode: str | None) -> None:
    """Raise a ValueError if pictures were not asked for."""
    if mode is None:
        raise ValueError("render_mode is None; make the environment with render_mode='rgb_array'")
