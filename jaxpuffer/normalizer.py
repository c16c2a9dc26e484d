"""Running mean and variance of observations (Welford, 1962, in the form for batches of Chan et al., 1979)."""

import jax.numpy as jnp
from jax import Array, lax

from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.spaces import Space

LIMIT = 10.0  # standard deviations that a normalised observation is clipped to


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
        scaled = (obs - self.mean[None, None]) * (1.0 / jnp.sqrt(self.variance + 1e-8))[None, None]
        return jnp.clip(scaled, -LIMIT, LIMIT)

    def with_batch(self, obs: Array, axis: str | None = None) -> "Normalizer":
        """After observations (time, rows, ...) too, of all devices along the mesh axis `axis`."""
        mean = obs.mean((0, 1))
        mean = mean if axis is None else lax.pmean(mean, axis)
        # around the mean: a mean of squares less a squared mean would cancel where the mean is large
        variance = jnp.square(obs - mean[None, None]).mean((0, 1))
        variance = variance if axis is None else lax.pmean(variance, axis)
        devices = 1 if axis is None else lax.axis_size(axis)
        new = jnp.float32(obs.shape[0] * obs.shape[1] * devices)
        # counts are capped, so that adding to them never stops counting
        total = jnp.minimum(self.count + new, jnp.float32(2.0**40))
        share = new / total
        change = mean - self.mean
        return Normalizer(
            total,
            self.mean + share * change,
            (1.0 - share) * self.variance + share * variance + share * (1.0 - share) * change**2,
        )
