"""Fast reinforcement-learning environments, and a PPO that trains on them in one jitted program."""

from jaxpuffer.animate import Animation, animate
from jaxpuffer.checkpoint import load, save
from jaxpuffer.env import Env
from jaxpuffer.evaluate import Evaluation, evaluate
from jaxpuffer.fit import fit
from jaxpuffer.ppo import PPOConfig, train
from jaxpuffer.registry import list_envs, make

__all__ = [
    "Animation",
    "Env",
    "Evaluation",
    "PPOConfig",
    "animate",
    "evaluate",
    "fit",
    "list_envs",
    "load",
    "make",
    "save",
    "train",
]
