"""Fast reinforcement-learning environments, and a PPO that trains on them in one jitted program."""

import importlib.metadata

from jaxpuffer.animate import Animation, animate
from jaxpuffer.cache import cache_compilations
from jaxpuffer.checkpoint import load, save
from jaxpuffer.config import LeagueConfig, PPOConfig
from jaxpuffer.env import Env
from jaxpuffer.evaluate import Evaluation, evaluate
from jaxpuffer.export import export
from jaxpuffer.fit import fit
from jaxpuffer.match import match, tournament
from jaxpuffer.pictures import show_in_notebooks
from jaxpuffer.players import Random, Scripted
from jaxpuffer.ppo import train
from jaxpuffer.registry import list_envs, make
from jaxpuffer.rollout import rollout

try:
    __version__ = importlib.metadata.version("jaxpuffer")
except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
    __version__ = "unknown"

show_in_notebooks()

__all__ = [
    "Animation",
    "Env",
    "Evaluation",
    "LeagueConfig",
    "PPOConfig",
    "Random",
    "Scripted",
    "animate",
    "cache_compilations",
    "evaluate",
    "export",
    "fit",
    "list_envs",
    "load",
    "make",
    "match",
    "rollout",
    "save",
    "tournament",
    "train",
]
