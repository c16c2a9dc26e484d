"""A vector environment over NumPy arrays for people who do not use JAX."""

from typing import Any

import numpy as np

from envs_c import require_built
from jaxpuffer.env import has_action_mask
from jaxpuffer.pytree import parameter_fields
from jaxpuffer.registry import make
from jaxpuffer.spaces import action_bounds, choices, mask_sizes


class VecEnv:
    """`num_envs` C environments stepped together, with the interface of Gymnasium's `VectorEnv`.

    Every array that `reset` and `step` return is one buffer of this object, updated in
    place by the next call: copy what is to be kept. Ended episodes begin again in the same
    step (Gymnasium's SAME_STEP mode). The GIL is released while the environments step.

    Args:
        name: one of `jaxpuffer.list_envs()`.
        num_envs: number of environments.
        threads: number of threads that step them, including the caller's.
        params: the environment's parameters.

    `info` holds `final_obs`, valid where an episode ended; `log`, float32 (num_envs,
    [num_agents,] 5): return, length, score, perf and 1 where an episode ended, otherwise 0;
    and `action_mask` if some actions can be illegal.

    Raises:
        ImportError: the C environments are not built.
        ValueError, TypeError: a parameter, or later an action, is not allowed.
    """

    metadata = {"autoreset_mode": "SAME_STEP"}  # noqa: RUF012

    def __init__(self, name: str, num_envs: int = 1, threads: int = 1, **params: Any) -> None:
        require_built()
        from envs_c import _core
        from jaxpuffer.c_backend import check_twin  # needs the C half

        for argument, value in (("num_envs", num_envs), ("threads", threads)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{argument} is {value!r}; it must be an int of at least 1")
        self.env = make(name, **params)
        for parameter, _ in parameter_fields(type(self.env)):
            if not parameter.metadata["static"] and np.shape(getattr(self.env, parameter.name)):
                raise ValueError(f"{name}.{parameter.name} has an axis; a VecEnv has the same parameters for all")
        check_twin(name, self.env)
        self.num_envs = num_envs
        self.num_agents = self.env.num_agents
        self.single_observation_space = self.env.observation_space
        self.single_action_space = space = self.env.action_space
        self._action_bounds = action_bounds(space)
        description = _core.descriptions()[name]

        lead = (num_envs, *self.env.agent_shape)
        obs = self.single_observation_space
        row_bytes = description["state_bytes"] + self.num_agents * _core.EPISODE_BYTES
        words = [
            np.asarray(getattr(self.env, field.name), np.float32 if kind is float else np.int32).view(np.uint32)
            for field, kind in parameter_fields(type(self.env))
        ]
        self._arrays: dict[str, Any] = {
            "params": np.array(words, np.uint32),
            "rows": np.zeros((num_envs, row_bytes), np.uint8),
            "streams": np.zeros((num_envs, 2), np.uint32),
            "obs": np.zeros((*lead, *obs.shape), obs.dtype),
            "final_obs": np.zeros((*lead, *obs.shape), obs.dtype),
            "reward": np.zeros(lead, np.float32),
            "terminated": np.zeros(lead, np.bool_),
            "truncated": np.zeros(lead, np.bool_),
            "log": np.zeros((*lead, 5), np.float32),
            "action_shape": [*lead, *space.shape],
        }
        if has_action_mask(self.env):
            self._arrays["mask"] = np.ones((*lead, sum(mask_sizes(space))), np.bool_)
        self._batch = _core.NumpyBatch(description["index"], choices(space), threads, self._arrays)
        self._info = {"final_obs": self._arrays["final_obs"], "log": self._arrays["log"]}
        if "mask" in self._arrays:
            self._info["action_mask"] = self._arrays["mask"]
        # named views of the structs: state["steps"][3] reads or sets a field of environment 3
        row = np.dtype(
            {
                "names": [field for field, _, _, _ in description["state"]],
                "formats": [(dtype, (count,)) if count > 1 else dtype for _, dtype, count, _ in description["state"]],
                "offsets": [offset for _, _, _, offset in description["state"]],
                "itemsize": row_bytes,
            }
        )
        self.state = self._arrays["rows"].view(row)[:, 0]
        self._seeds = np.random.SeedSequence()
        self._started = False

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """New episodes in all environments: (obs, info). The same seed gives the same episodes."""
        if seed is not None:
            if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
                raise ValueError(f"seed is {seed!r}; it must be None or an int of at least 0")
            self._seeds = np.random.SeedSequence(seed)
        (child,) = self._seeds.spawn(1)
        streams = child.generate_state(2 * self.num_envs).reshape(self.num_envs, 2)
        streams[(streams == 0).all(1), 1] = 1
        self._arrays["streams"][:] = streams
        self._batch.reset()
        self._started = True
        return self._arrays["obs"], self._info

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """One step: (obs, reward, terminated, truncated, info).

        Raises:
            TypeError, ValueError: `actions` has a wrong dtype or shape, is not contiguous,
                or has an entry out of range.
        """
        if not self._started:
            raise RuntimeError("call reset() before step()")
        actions = np.asanyarray(actions)
        right = (
            actions.dtype == np.float32 and list(actions.shape) == self._arrays["action_shape"]
        )  # otherwise refused below
        if self._action_bounds is not None and right:
            # into a separate array: the caller's stays unchanged
            actions = np.clip(actions, *self._action_bounds)
        self._batch.step(actions)
        a = self._arrays
        return a["obs"], a["reward"], a["terminated"], a["truncated"], self._info

    def close(self) -> None:
        """There is nothing to release; Gymnasium's interface has it."""
