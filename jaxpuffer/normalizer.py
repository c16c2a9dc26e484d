"""Running statistics: of observations, and of the returns that the critic learns.

Means and variances are joined as by Chan et al., 1979 (Welford, 1962, for batches).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxpuffer import devices
from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.spaces import Box, ObservationSpace, Space, named_parts

LIMIT = 10.0  # standard deviations that a normalised observation is clipped to
WINDOW = 500_000.0  # agent-steps whose returns count; older ones come from an earlier policy


class Normalizer(PyTreeNode):
    """Mean and variance of all observations until now; when called, it normalises observations."""

    count: Array  # float32 ()
    mean: Array  # float32, the shape of an observation
    variance: Array  # float32, the shape of an observation
    low: Any = None  # the smallest and the largest until now, float32, the shape of an observation
    high: Any = None

    @classmethod
    def fresh(cls, space: Space) -> "Normalizer":
        """Of no observations: changes nothing."""
        nothing, infinite = jnp.zeros(space.shape, jnp.float32), jnp.full(space.shape, jnp.inf, jnp.float32)
        return cls(jnp.float32(0), nothing, nothing + 1.0, infinite, -infinite)

    def __call__(self, obs: Array) -> Array:
        """Observations (time, rows, ...), normalised and clipped to 10 standard deviations, float32."""
        scaled = (jnp.float32(obs) - self.mean[None, None]) * self.scale[None, None]
        return jnp.clip(scaled, -LIMIT, LIMIT)

    @property
    def scale(self) -> Array:
        """What differences from the mean are multiplied by, float32, the shape of an observation."""
        deviation = jnp.sqrt(self.variance)
        # an entry that has varied only by rounding keeps its unit
        varies = deviation > 1e-6 * jnp.abs(self.mean)
        return jnp.where(varies, 1.0 / jnp.where(varies, deviation, 1.0), 1.0)

    def with_batch(self, obs: Array, axis: str | None = None, weight: Array | None = None) -> "Normalizer":
        """Updated with observations (time, rows, ...), of all devices along the mesh axis `axis`.

        `weight`, float32 (time, rows), is 1 on average, and 0 for observations that do not count.
        """
        obs = jnp.float32(obs)  # float16 does not hold its squares
        # counts are limited, so that new observations always have an effect
        statistics = _joined((self.count, self.mean, self.variance), obs, axis, 2.0**40, weight)
        if weight is not None:  # those that do not count are in the range that there is
            obs = jnp.where(_beside(weight, obs) > 0, obs, statistics[1][None, None])
        low, high = devices.extremes(obs, axis, over=(0, 1))
        return Normalizer(*statistics, jnp.minimum(self.low, low), jnp.maximum(self.high, high))

    def seen(self, obs: Array) -> Array:
        """Observations (rows, ...) with each number moved into the range of all observations until now.

        A critic knows nothing of numbers outside it, for example a clock's last tick, seen only in a final observation.
        """
        obs = jnp.float32(obs)
        inside = jnp.clip(obs, self.low[None], self.high[None])
        return jnp.where(self.count > 0, inside, obs)

    def unseen(self) -> Array:
        """Entries that vary, but by too little or too much for the square of it in float32, bool."""
        return (self.high > self.low) & ~((self.variance > 1e-36) & jnp.isfinite(self.variance))


class PartNormalizers(PyTreeNode):
    """A `Normalizer` for each part of an observation of several, None for parts that stay as they are."""

    parts: tuple[Normalizer | None, ...]

    def __call__(self, obs: Any) -> Any:
        """Observations (time, rows, ...), their parts normalised."""
        return self._each(lambda own, x: own(x), obs)

    def with_batch(self, obs: Any, axis: str | None = None, weight: Array | None = None) -> "PartNormalizers":
        """Updated with observations (time, rows, ...)."""
        leaves = jax.tree.leaves(obs)
        pairs = zip(self.parts, leaves, strict=True)
        return PartNormalizers(tuple(None if own is None else own.with_batch(x, axis, weight) for own, x in pairs))

    def seen(self, obs: Any) -> Any:
        """Observations (rows, ...), each number moved into the range of all until now."""
        return self._each(lambda own, x: own.seen(x), obs)

    def unseen(self) -> Array:
        """`unseen` of all parts in a row, bool (entries,)."""
        return jnp.concatenate([own.unseen().reshape(-1) for own in self.parts if own is not None])

    def _each(self, function: Any, obs: Any) -> Any:
        leaves, structure = jax.tree.flatten(obs)
        pairs = zip(self.parts, leaves, strict=True)
        return jax.tree.unflatten(structure, [x if own is None else function(own, x) for own, x in pairs])


def fresh_normalizer(space: ObservationSpace) -> Normalizer | PartNormalizers | None:
    """Of no observations, for the parts that are Boxes of floats; None if none is."""
    own = [
        Normalizer.fresh(part) if isinstance(part, Box) and jnp.issubdtype(part.dtype, jnp.floating) else None
        for _, part in named_parts(space)
    ]
    if not any(own):
        return None
    return PartNormalizers(tuple(own)) if len(named_parts(space)) > 1 or named_parts(space)[0][0] else own[0]


class Returns(PyTreeNode):
    """Mean and standard deviation of the returns that the critic learns (after PopArt, arXiv 1602.07714).

    The critic's output is in units of these: value = mean + deviation * output. So what it
    learns has the same scale in any unit of the rewards, and values, rewards and
    advantages stay in that unit. The last 500,000 agent-steps count.
    """

    count: Array  # float32 (), agent-steps
    mean: Array  # float32 ()
    variance: Array  # float32 ()
    low: Array  # float32 (), the smallest and the largest reward of all steps until now
    high: Array

    @classmethod
    def fresh(cls) -> "Returns":
        """Of no steps: every value is 0, because the critic has no unit yet."""
        return cls(jnp.float32(0), jnp.float32(0), jnp.float32(0), jnp.float32(jnp.inf), jnp.float32(-jnp.inf))

    @property
    def deviation(self) -> Array:
        """The divisor, float32 (); 1 if returns have varied only by rounding."""
        deviation = jnp.sqrt(self.variance)
        varies = deviation > 1e-6 * jnp.abs(self.mean)
        return jnp.where(varies, deviation, 1.0)

    def value(self, output: Array) -> Array:
        """The value, in the rewards' unit, of an output of the critic."""
        return self.mean + self.relative(output)

    def relative(self, output: Array) -> Array:
        """The same minus the mean return."""
        return jnp.sqrt(self.variance) * output

    def with_batch(self, target: Array, axis: str | None = None, weight: Array | None = None) -> "Returns":
        """Updated with the value targets (time, rows) of a rollout, of all devices along the mesh axis `axis`.

        The targets are relative to the current mean.
        """
        count, change, variance = _joined((self.count, jnp.float32(0), self.variance), target, axis, WINDOW, weight)
        return self.replace(count=count, mean=self.mean + change, variance=variance)

    def with_rewards(
        self,
        reward: Array,
        terminated: Array,
        gamma: ArrayLike,
        axis: str | None = None,
        weight: Array | None = None,
        sign: Array | None = None,
    ) -> "Returns":
        """Updated with the rewards (time, rows) of a rollout, whose targets are not known yet.

        If the mean of the first rollout's rewards is more than ten times their standard deviation, it gives a first
        estimate of the mean return: a critic that began at 0 would need most of a run to find it. Rewards r that
        continue with probability 1 - p after each step add up to r / (1 - gamma (1 - p)) on average. Otherwise the
        mean begins at 0. It also does so if all rewards are equal: a critic that has not yet learned that every
        step costs leads an agent to new states. With the signs of a game of turns, float32 (time, rows), the rewards of
        one side are losses of the other, and no mean is guessed.
        """
        low, high = devices.extremes(reward, axis)
        if sign is not None:
            least, greatest = jnp.minimum(low, -high), jnp.maximum(high, -low)
            return self.replace(low=jnp.minimum(self.low, least), high=jnp.maximum(self.high, greatest))
        mean, ends = devices.mean(jnp.stack([_mean(reward, weight), _mean(jnp.float32(terminated), weight)]), axis)
        deviation = jnp.sqrt(devices.mean(_mean(jnp.square(reward - mean), weight), axis))
        hidden = (jnp.abs(mean) > 10.0 * deviation) & (deviation > 1e-6 * jnp.abs(mean))
        guess = jnp.where(hidden, mean / jnp.maximum(1.0 - gamma * (1.0 - ends), 1e-3), 0.0)
        return self.replace(
            mean=jnp.where(self.count > 0, self.mean, guess),
            low=jnp.minimum(self.low, low),
            high=jnp.maximum(self.high, high),
        )

    def possible(self, value: Array, gamma: ArrayLike) -> Array:
        """Values relative to the mean, clipped to the sums that the rewards until now make possible."""
        steps = 1.0 / jnp.maximum(1.0 - gamma, 1e-6)
        least, greatest = jnp.minimum(self.low, 0.0) * steps, jnp.maximum(self.high, 0.0) * steps
        return jnp.clip(value, least - self.mean, greatest - self.mean)


def _joined(
    before: tuple[Array, Array, Array], batch: Array, axis: str | None, window: float, weight: Array | None = None
) -> tuple[Array, Array, Array]:
    """Count, mean and variance updated with a batch (time, rows, ...); only the last `window` steps count."""
    count, old_mean, old_variance = before
    mean = devices.mean(_mean(batch, weight), axis)
    # around the mean: a mean of squares minus a squared mean loses digits if the mean is large
    variance = devices.mean(_mean(jnp.square(batch - mean[None, None]), weight), axis)
    new = jnp.float32(batch.shape[0] * batch.shape[1] * devices.size(axis))
    total = jnp.minimum(count + new, jnp.maximum(jnp.float32(window), new))
    share = new / total
    change = mean - old_mean
    variance = (1.0 - share) * old_variance + share * variance + share * (1.0 - share) * change**2
    return total, old_mean + share * change, variance


def _mean(batch: Array, weight: Array | None) -> Array:
    """The mean over time and rows, with weights (time, rows) that are 1 on average."""
    return batch.mean((0, 1)) if weight is None else (batch * _beside(weight, batch)).mean((0, 1))


def _beside(weight: Array, batch: Array) -> Array:
    """Weights (time, rows) with axes of length 1 for the others of a batch."""
    return weight.reshape(*weight.shape, *[1] * (batch.ndim - 2))
