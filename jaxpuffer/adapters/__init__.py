"""Environments of other libraries as ours, and ours as theirs."""

from jaxpuffer.adapters.to_gymnasium import to_gymnasium as to_gymnasium
from jaxpuffer.adapters.to_gymnax import to_gymnax as to_gymnax
from jaxpuffer.adapters.to_pettingzoo import to_pettingzoo as to_pettingzoo
from jaxpuffer.adapters.to_stable_baselines3 import to_stable_baselines3 as to_stable_baselines3
