"""Environments of other libraries as ours, and ours as theirs; docs/adapters.md."""

from jaxpuffer.adapters.from_brax import from_brax as from_brax
from jaxpuffer.adapters.from_brax import from_playground as from_playground
from jaxpuffer.adapters.from_gymnasium import from_gymnasium as from_gymnasium
from jaxpuffer.adapters.from_gymnax import from_gymnax as from_gymnax
from jaxpuffer.adapters.from_jaxmarl import from_jaxmarl as from_jaxmarl
from jaxpuffer.adapters.from_jumanji import from_jumanji as from_jumanji
from jaxpuffer.adapters.from_pgx import from_pgx as from_pgx
from jaxpuffer.adapters.to_gymnasium import to_gymnasium as to_gymnasium
from jaxpuffer.adapters.to_gymnax import to_gymnax as to_gymnax
from jaxpuffer.adapters.to_pettingzoo import to_pettingzoo as to_pettingzoo
from jaxpuffer.adapters.to_stable_baselines3 import to_stable_baselines3 as to_stable_baselines3
