"""Environments of other libraries as ours, and ours as theirs."""

from jaxpuffer.adapters.from_gymnasium import from_gymnasium as from_gymnasium
