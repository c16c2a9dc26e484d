"""Policies: Flax Linen modules behind the carry protocol.

A policy has two methods. `initialize_carry(rows)` gives what it remembers of `rows`
agents at the start, `()` when it is feed-forward. `__call__(carry, obs, reset, mask)`
takes sequences, obs (time, rows, ...), reset bool (time, rows), true where obs is the
first of an episode, and mask bool (time, rows, n) or None; it returns the carry after
the last step, a distribution and values float32 (time, rows). A recurrent policy
zeroes its carry before a step whose reset is true. The rollout calls it with time 1.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxpuffer.distributions import Categorical, Distribution, Normal
from jaxpuffer.spaces import Box, Discrete, Space


class MLP(nn.Module):
    """Feed-forward: encoded observations, `layers` of `hidden` GELU units, an actor and a critic head."""

    observation_space: Space
    action_space: Space
    hidden: int = 128
    layers: int = 1

    def initialize_carry(self, rows: int) -> tuple[()]:
        return ()

    @nn.compact
    def __call__(self, carry: Any, obs: Array, reset: Array, mask: Array | None) -> tuple[Any, Distribution, Array]:
        x = encode(self.observation_space, obs)
        for _ in range(self.layers):
            x = nn.gelu(nn.Dense(self.hidden, kernel_init=nn.initializers.orthogonal(2**0.5))(x))
        distribution = actor_head(self.action_space, x, mask)
        value = nn.Dense(1, kernel_init=nn.initializers.orthogonal(1.0), name="critic")(x)
        return carry, distribution, value[..., 0]


def encode(space: Space, obs: Array) -> Array:
    """Observations (time, rows, ...) as float32 (time, rows, features); tiles become one-hot vectors."""
    if isinstance(space, Box) and space.is_tiles:
        low, kinds = int(space.low), int(space.high) - int(space.low) + 1
        obs = jax.nn.one_hot(jnp.int32(obs) - low, kinds, dtype=jnp.float32)
    return jnp.float32(obs).reshape(*obs.shape[:2], -1)


def actor_head(space: Space, x: Array, mask: Array | None) -> Distribution:
    """The distribution over actions; to be called inside a module's `__call__`."""
    small = nn.initializers.orthogonal(0.01)
    if isinstance(space, Discrete):
        return Categorical.masked(nn.Dense(space.n, kernel_init=small, name="actor")(x), mask)
    if isinstance(space, Box) and not space.is_tiles and len(space.shape) == 1:
        mean = nn.Dense(space.shape[0], kernel_init=small, name="actor")(x)
        return Normal(mean, _LogStd(space.shape[0], name="log_std")())
    raise TypeError(f"no head for the action space {space}; there are heads for Discrete and one-dimensional Box")


class _LogStd(nn.Module):
    size: int

    @nn.compact
    def __call__(self) -> Array:
        return self.param("value", nn.initializers.zeros_init(), (self.size,))
