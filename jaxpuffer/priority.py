"""Prioritised sampling of a rollout's segments, each a row's whole horizon (after Schaul et al., 2016).

PufferLib draws the segments of each minibatch in proportion to (the sum of |advantage|)
to the power alpha and weights their advantages by importance. Everything stays on the
device and maps under vmap; `count` and `replacement` are static. Advantages must be finite.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

LEAST_WEIGHT = 1e-6  # so that any segment can be drawn


def probabilities(advantage: Array, alpha: ArrayLike) -> Array:
    """The probability of each segment, float32 (rows,), from advantages, float32 (time, rows).

    Uniform if all advantages are zero or alpha is 0.
    """
    weight = jnp.abs(advantage).sum(0) ** alpha + LEAST_WEIGHT
    return weight / weight.sum()


def draw(key: Array, probability: Array, count: int, replacement: bool) -> Array:
    """`count` segments, int32 (count,), from a JAX key and probabilities, float32 (rows,).

    This uses a key, not a stream of `rng`: it is one draw per minibatch for all rows together,
    while a stream belongs to one row and draws one number after the other.

    With replacement it inverts the cumulative probabilities. Without replacement it takes the `count`
    largest of log-probabilities plus Gumbel noise, which is equivalent to drawing one after the other
    (Vieira, 2014). Cumulative probabilities are float32: with replacement, segments whose
    probability is far below 1e-6 are not drawn in proportion to it; together they are drawn too often.

    Raises:
        ValueError: without replacement there are fewer segments than `count`.
    """
    rows = len(probability)
    if replacement:
        total = probability.cumsum()
        threshold = jax.random.uniform(key, (count,)) * total[-1]
        return jnp.minimum(jnp.int32(jnp.searchsorted(total, threshold, side="right")), rows - 1)
    if count > rows:
        raise ValueError(f"count is {count}; without replacement it must be at most the number of segments, {rows}")
    return jnp.int32(lax.top_k(jnp.log(probability) + jax.random.gumbel(key, (rows,)), count)[1])


def importance(probability: Array, beta: ArrayLike) -> Array:
    """Weights (rows * probability)^-beta, float32, of the shape of `probability`: beta 1 removes the bias."""
    return (len(probability) * probability) ** -jnp.float32(beta)


def annealed_beta(beta: ArrayLike, progress: ArrayLike) -> Array:
    """The exponent: from `beta` at progress 0, linearly to 1 at progress 1."""
    return jnp.float32(beta) + (1.0 - jnp.float32(beta)) * progress
