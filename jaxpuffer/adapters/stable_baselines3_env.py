"""The class behind `to_stable_baselines3`."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv as StableBaselines3VecEnv


class StableBaselines3Env(StableBaselines3VecEnv):
    """A vector environment of Gymnasium's with the interface of Stable-Baselines3's `VecEnv`.

    `env_method("action_masks")` gives the legal actions, bool (n,) for each row, as `MaskablePPO` asks for them.
    """

    def __init__(self, env: VectorEnv) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(f"the environment's autoreset_mode is {mode}; Stable-Baselines3 needs SAME_STEP")
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: Any = None
        self._mask: Any = None
        self._returns = np.zeros(self.num_envs, np.float64)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._begin = time.time()

    def reset(self) -> Any:
        """New episodes, with the seed and options that were set before: the observations."""
        obs, info = self.env.reset(seed=self._seeds[0], options=self._options[0] or None)
        self._mask = info.get("action_mask")
        self._returns[:], self._lengths[:] = 0, 0
        self.reset_infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> Any:
        """One step with the kept actions: (obs, rewards, dones, infos)."""
        obs, reward, terminated, truncated, info = self.env.step(self._actions)
        self._mask = info.get("action_mask")
        self._returns += reward
        self._lengths += 1
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for row in np.flatnonzero(~info.get("active", np.ones(self.num_envs, bool))):
            infos[row]["active"] = False
        for row in np.flatnonzero(done):
            infos[row] |= {
                "terminal_observation": info["final_obs"][row],
                "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
            }
            if info.get("_final_info", done)[row]:  # not of an agent that was out
                infos[row]["episode"] = {
                    "r": float(self._returns[row]),
                    "l": int(self._lengths[row]),
                    "t": round(time.time() - self._begin, 6),
                }
        self._returns[done], self._lengths[done] = 0, 0
        return obs, np.asarray(reward, np.float32), done, infos

    def close(self) -> None:
        """Close the vector environment."""
        self.env.close()

    def get_images(self) -> Sequence[Any]:
        """A picture of each environment."""
        return list(self.env.render() or ())

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the vector environment, once for each row."""
        return [getattr(self.env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """All rows are one object, so only all of them can be changed."""
        if indices is not None:
            raise ValueError(f"indices is {indices!r}; {attr_name} can be set only for all rows at once")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """The legal actions of each row for "action_masks"; the rows have no other methods of their own."""
        if method_name != "action_masks" or self._mask is None:
            raise AttributeError(f"the rows have no method {method_name!r}")
        return [self._mask[i] for i in self._get_indices(indices)]

    def has_attr(self, attr_name: str) -> bool:
        """Whether `get_attr` or `env_method` has this name."""
        return (attr_name == "action_masks" and self._mask is not None) or hasattr(self.env, attr_name)

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """False for each row: no wrapper is around a single one."""
        return [False for _ in self._get_indices(indices)]

    def _get_indices(self, indices: Any) -> Iterable[int]:
        if indices is None:
            return range(self.num_envs)
        return [indices] if isinstance(indices, int) else indices
