"""Fast reinforcement-learning environments, and a PPO that trains on them in one jitted program."""

from jaxpuffer.env import Env
from jaxpuffer.registry import list_envs, make

__all__ = ["Env", "list_envs", "make"]
