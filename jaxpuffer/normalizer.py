"""Running statistics: of observations, and of the returns that the critic learns.

Means and variances are joined as by Chan et al., 1979 (Welford, 1962, for batches).
"""

import jax.numpy as jnp
from jax import Array

from jaxpuffer import devices
from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.spaces import Space

LIMIT = 10.0  # standard deviations that a normalised observation is clipped to
WINDOW = 500_000.0  # agent-steps whose returns count; a policy that learns leaves older ones behind


class Normalizer(PyTreeNode):
    """Mean and variance of the observations so far; called on observations it normalises them."""

    count: Array  # float32 ()
    mean: Array  # float32, the shape of an observation
    variance: Array  # float32, the shape of an observation

    @classmethod
    def fresh(cls, space: Space) -> "Normalizer":
        """Of no observations: leaves them as they are."""
        return cls(jnp.float32(0), jnp.zeros(space.shape, jnp.float32), jnp.ones(space.shape, jnp.float32))

    def __call__(self, obs: Array) -> Array:
        """Observations (time, rows, ...), normalised and clipped to 10 standard deviations, float32."""
        deviation = jnp.sqrt(self.variance)
        # what has not varied beyond rounding is left in its unit
        varies = deviation > 1e-6 * jnp.abs(self.mean)
        scale = jnp.where(varies, 1.0 / jnp.where(varies, deviation, 1.0), 1.0)
        scaled = (obs - self.mean[None, None]) * scale[None, None]
        return jnp.clip(scaled, -LIMIT, LIMIT)

    def with_batch(self, obs: Array, axis: str | None = None) -> "Normalizer":
        """After observations (time, rows, ...) too, of all devices along the mesh axis `axis`."""
        # counts are capped, so that adding to them never stops counting
        return Normalizer(*_joined((self.count, self.mean, self.variance), obs, axis, 2.0**40))


class Returns(PyTreeNode):
    """Mean and standard deviation of the returns that the critic learns (after PopArt, arXiv 1602.07714).

    The critic's output is in units of these: value = mean + deviation * output. So what it
    learns has the same scale whatever the unit of the rewards, and values, rewards and
    advantages stay in that unit. The last 500,000 agent-steps count.
    """

    count: Array  # float32 (), agent-steps
    mean: Array  # float32 ()
    variance: Array  # float32 ()

    @classmethod
    def fresh(cls) -> "Returns":
        """Of no steps: every value is 0, for the critic has no unit yet."""
        return cls(jnp.float32(0), jnp.float32(0), jnp.float32(0))

    @property
    def deviation(self) -> Array:
        """To divide by, float32 (); 1 where returns have not varied beyond rounding."""
        deviation = jnp.sqrt(self.variance)
        varies = deviation > 1e-6 * jnp.abs(self.mean)
        return jnp.where(varies, deviation, 1.0)

    def value(self, output: Array) -> Array:
        """The value, in the rewards' unit, that an output of the critic stands for."""
        return self.mean + jnp.sqrt(self.variance) * output

    def with_batch(self, target: Array, axis: str | None = None) -> "Returns":
        """After the value targets (time, rows) of a rollout too, of all devices along the mesh axis `axis`."""
        return Returns(*_joined((self.count, self.mean, self.variance), target, axis, WINDOW))


def _joined(
    before: tuple[Array, Array, Array], batch: Array, axis: str | None, window: float
) -> tuple[Array, Array, Array]:
    """Count, mean and variance after a batch (time, rows, ...) too, of which the last `window` count."""
    count, old_mean, old_variance = before
    mean = devices.mean(batch.mean((0, 1)), axis)
    # around the mean: a mean of squares less a squared mean would cancel where the mean is large
    variance = devices.mean(jnp.square(batch - mean[None, None]).mean((0, 1)), axis)
    new = jnp.float32(batch.shape[0] * batch.shape[1] * devices.size(axis))
    total = jnp.minimum(count + new, jnp.maximum(jnp.float32(window), new))
    share = new / total
    change = mean - old_mean
    variance = (1.0 - share) * old_variance + share * variance + share * (1.0 - share) * change**2
    return total, old_mean + share * change, variance
