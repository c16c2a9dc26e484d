"""The public names of the package; `jaxpuffer/__init__.py` gets them from here at their first use."""

from jaxpuffer.animate import Animation, animate
from jaxpuffer.cache import cache_compilations
from jaxpuffer.checkpoint import load, save
from jaxpuffer.config import PPOConfig
from jaxpuffer.env import Env
from jaxpuffer.evaluate import Evaluation, evaluate
from jaxpuffer.fit import fit
from jaxpuffer.ppo import train
from jaxpuffer.registry import list_envs, make

__all__ = [
    "Animation",
    "Env",
    "Evaluation",
    "PPOConfig",
    "animate",
    "cache_compilations",
    "evaluate",
    "fit",
    "list_envs",
    "load",
    "make",
    "save",
    "train",
]
