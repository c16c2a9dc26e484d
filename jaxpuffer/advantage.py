"""Generalised advantage estimation (Schulman et al., 2016, arXiv 1506.02438)."""

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike


def gae(reward: Array, value: Array, last_value: Array, ended: Array, gamma: ArrayLike, gae_lambda: ArrayLike) -> Array:
    """Advantages of a rollout, float32 (time, rows).

    Args:
        reward: float32 (time, rows), of the action at each step; where that step was
            truncated, `gamma` times the value of the final observation has been added.
        value: float32 (time, rows), of the observation the action was chosen on.
        last_value: float32 (rows,), of the observation after the last step.
        ended: bool (time, rows), terminated or truncated by that step: nothing after
            it belongs to the same episode, so the recursion is cut there.
        gamma: discount.
        gae_lambda: 0 for one-step differences, 1 for Monte-Carlo returns.
    """
    next_value = jnp.concatenate([value[1:], last_value[None]])
    goes_on = jnp.float32(~ended)
    delta = reward + gamma * goes_on * next_value - value
    decay = gamma * gae_lambda * goes_on

    def backward(advantage: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = step
        advantage = delta + decay * advantage
        return advantage, advantage

    return lax.scan(backward, jnp.zeros_like(last_value), (delta, decay), reverse=True)[1]
