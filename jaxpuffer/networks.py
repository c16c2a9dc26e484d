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
from jax import Array, lax

from jaxpuffer.distributions import Categorical, Distribution, Normal
from jaxpuffer.spaces import Box, Discrete, Space


ACTIVATIONS = {"gelu": nn.gelu, "relu": nn.relu, "tanh": nn.tanh}


FEW_OUTPUTS = 8  # up to which a weight gradient is faster as so many vector products


@jax.custom_vjp
def matmul(x: Array, kernel: Array) -> Array:
    """x (rows, inputs) times kernel (inputs, outputs), with a gradient that suits XLA's CPU backend.

    Left to itself it transposes the outputs' gradient and not x, and then multiplies
    several times more slowly.
    """
    return x @ kernel


def _matmul_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ kernel, (x, kernel)


def _matmul_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    if kernel.shape[1] <= FEW_OUTPUTS:
        for_kernel = jnp.stack([column @ x for column in gradient.T], 1)
    else:
        for_kernel = lax.dot_general(x, gradient, (((0,), (0,)), ((), ())))
    return gradient @ kernel.T, for_kernel


matmul.defvjp(_matmul_forward, _matmul_backward)


class Dense(nn.Module):
    """A linear layer, float32 (..., inputs) to (..., features)."""

    features: int
    scale: float = 1.0  # of the orthogonal initialisation
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        kernel = self.param("kernel", nn.initializers.orthogonal(self.scale), (x.shape[-1], self.features))
        y = matmul(x.reshape(-1, x.shape[-1]), kernel)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros_init(), (self.features,))[None]
        return y.reshape(*x.shape[:-1], self.features)


class MLP(nn.Module):
    """Feed-forward: encoded observations, `layers` of `hidden` units, an actor and a critic head.

    With `separate_critic` the critic has layers of its own instead of the actor's.
    """

    observation_space: Space
    action_space: Space
    hidden: int = 128
    layers: int = 1
    activation: str = "gelu"
    separate_critic: bool = False

    def initialize_carry(self, rows: int) -> tuple[()]:
        return ()

    @nn.compact
    def __call__(self, carry: Any, obs: Array, reset: Array, mask: Array | None) -> tuple[Any, Distribution, Array]:
        def layers(x: Array) -> Array:
            for _ in range(self.layers):
                x = Dense(self.hidden, 2**0.5)(x)
                x = ACTIVATIONS[self.activation](x)
            return x

        x = encode(self.observation_space, obs)
        for_actor = layers(x)
        for_critic = layers(x) if self.separate_critic else for_actor
        distribution = actor_head(self.action_space, for_actor, mask)
        value = Dense(1, name="critic")(for_critic)
        return carry, distribution, value[..., 0]


def encode(space: Space, obs: Array) -> Array:
    """Observations (time, rows, ...) as float32 (time, rows, features); tiles become one-hot vectors."""
    if isinstance(space, Box) and space.is_tiles:
        low, kinds = int(space.low), int(space.high) - int(space.low) + 1
        obs = jax.nn.one_hot(jnp.int32(obs) - low, kinds, dtype=jnp.float32)
    return jnp.float32(obs).reshape(*obs.shape[:2], -1)


def actor_head(space: Space, x: Array, mask: Array | None) -> Distribution:
    """The distribution over actions; to be called inside a module's `__call__`."""
    if isinstance(space, Discrete):
        return Categorical.masked(Dense(space.n, 0.01, name="actor")(x), mask)
    if isinstance(space, Box) and not space.is_tiles and len(space.shape) == 1:
        mean = Dense(space.shape[0], 0.01, name="actor")(x)
        return Normal(mean, _LogStd(space.shape[0], name="log_std")())
    raise TypeError(f"no head for the action space {space}; there are heads for Discrete and one-dimensional Box")


class _LogStd(nn.Module):
    size: int

    @nn.compact
    def __call__(self) -> Array:
        return self.param("value", nn.initializers.zeros_init(), (self.size,))
