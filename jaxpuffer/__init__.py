"""Fast reinforcement-learning environments, and a PPO that trains on them in one jitted program."""

from jaxpuffer.env import Env
from jaxpuffer.evaluate import evaluate
from jaxpuffer.ppo import PPOConfig, train
from jaxpuffer.registry import list_envs, make

__all__ = ["Env", "PPOConfig", "evaluate", "list_envs", "make", "train"]
