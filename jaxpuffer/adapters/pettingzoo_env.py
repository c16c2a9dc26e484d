"""The class behind `to_pettingzoo`."""

from typing import Any

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv

from jaxpuffer.adapters.gymnasium_envs import (
    FPS,
    check_render_mode,
    gymnasium_space,
    of_log,
    of_row,
    refuse_to_render,
    vec_env,
)
from jaxpuffer.registry import name_of
from jaxpuffer.spaces import Box, mask_sizes


class PettingZooEnv(ParallelEnv):
    """One world of several agents, without auto-reset; see `to_pettingzoo`."""

    def __init__(self, env: Any, render_mode: str | None = None, **params: Any) -> None:
        self.render_mode = check_render_mode(render_mode)
        self._vec = vec_env(env, 1, 1, params)
        name = env if isinstance(env, str) else name_of(env) or type(env).__name__
        if not self._vec.agent_shape:
            raise ValueError(f"{name} has one agent; use to_gymnasium")
        self.metadata = {"name": name, "render_modes": ["rgb_array"], "render_fps": FPS, "is_parallelizable": True}
        self.possible_agents = [f"agent_{i}" for i in range(self._vec.num_agents)]
        self.agents: list[str] = []
        self._number = {agent: i for i, agent in enumerate(self.possible_agents)}
        # PettingZoo seeds each agent's space by itself
        self.observation_spaces = {a: gymnasium_space(self._vec.single_observation_space) for a in self.possible_agents}
        self.action_spaces = {a: gymnasium_space(self._vec.single_action_space) for a in self.possible_agents}
        self._mask: np.ndarray | None = None
        self._random = np.random.default_rng()

    def observation_space(self, agent: str) -> gymnasium.Space:
        """The space of an agent's observations, always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space:
        """The space of an agent's actions, always the same object."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new world with all agents: observations and infos by agent. There are no options; all are ignored."""
        obs, found = self._vec.reset(seed)
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self._mask = found["action_mask"][0].copy() if "action_mask" in found else None
        return {a: of_row(obs, 0, i) for a, i in self._number.items()}, {
            a: self._info(i) for a, i in self._number.items()
        }

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """One step: observations, rewards, terminations, truncations and infos of the agents in `agents`.

        Raises:
            ValueError: an agent's action is missing, or out of range, or is of an agent that ended.
            RuntimeError: no agent is left.
        """
        if not self.agents:
            raise RuntimeError("no agent is left; call reset() before step()")
        if set(actions) != set(self.agents):
            raise ValueError(f"actions are of {sorted(actions)}; they must be of {self.agents}")
        all_actions = self._random_actions()
        given = np.stack([np.asarray(actions[agent]) for agent in self.agents])
        shape = (len(self.agents), *all_actions.shape[1:])
        if given.shape != shape:
            raise ValueError(f"the agents' actions have the shape {list(given.shape)}; it must be {list(shape)}")
        # of a dtype that holds what was given, so that nothing wraps
        all_actions = all_actions.astype(np.result_type(all_actions, given))
        all_actions[[self._number[agent] for agent in self.agents]] = given
        obs, reward, terminated, truncated, found = self._vec.step(all_actions[None])
        self._mask = found["action_mask"][0].copy() if "action_mask" in found else None

        here = {agent: self._number[agent] for agent in self.agents}
        ended = found["_final_obs"][0]
        infos = {agent: self._info(i) for agent, i in here.items()}
        for agent, i in here.items():
            if ended[i]:
                infos[agent] |= of_log(self._vec.log_names, found["log"][0, i])
        self.agents = [agent for agent, i in here.items() if not ended[i]]
        return (
            {agent: of_row(found["final_obs"] if ended[i] else obs, 0, i) for agent, i in here.items()},
            {agent: float(reward[0, i]) for agent, i in here.items()},
            {agent: bool(terminated[0, i]) for agent, i in here.items()},
            {agent: bool(truncated[0, i]) for agent, i in here.items()},
            infos,
        )

    def render(self) -> np.ndarray:
        """A picture of the world, uint8 (height, width, 3)."""
        refuse_to_render(self.render_mode)
        return self._vec.render()

    def close(self) -> None:
        """Nothing can be done with the world after this."""
        self._vec.close()

    def _info(self, number: int) -> dict[str, Any]:
        return {} if self._mask is None else {"action_mask": self._mask[number].astype(np.int8)}

    def _random_actions(self) -> np.ndarray:
        """A legal action of every place in the world, (num_agents, *action_space.shape)."""
        space, agents = self._vec.single_action_space, self._vec.num_agents
        if isinstance(space, Box):
            low, high = space.drawn_between()
            return self._random.uniform(low, high, (agents, *space.shape)).astype(space.dtype)
        sizes = mask_sizes(space)
        legal = np.ones((agents, sum(sizes)), bool) if self._mask is None else self._mask
        # the greatest of random numbers, among the legal choices
        drawn = np.where(legal, self._random.random(legal.shape), -1.0)
        parts = np.split(drawn, np.cumsum(sizes)[:-1], 1)
        return np.stack([part.argmax(1) for part in parts], 1).reshape(agents, *space.shape).astype(space.dtype)
