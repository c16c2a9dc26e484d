"""What a policy's head returns: distributions over actions, sampled from streams in the state."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.pytree import PyTreeNode, static

MASKED_LOGIT = -1e9  # exp of it is zero
FEW_CHOICES = 8  # up to this number columns of steps are faster than rows of so few numbers, many times on a CPU


class Categorical(PyTreeNode):
    """One of n choices by logits, float32 (..., n)."""

    logits: Array

    @classmethod
    def masked(cls, logits: Array, mask: Array | None) -> "Categorical":
        """The distribution over the choices where `mask`, bool (..., n), is True."""
        if mask is not None:
            logits = jnp.where(mask, logits, MASKED_LOGIT)
        return cls(logits)

    def sample(self, streams: Array) -> tuple[Array, Array]:
        """A choice for each row, int32 (rows,), from streams uint32 (rows, 2): (streams, choices)."""
        streams, words = jax.vmap(rng.bits)(streams)
        unit = jnp.float32(words >> jnp.uint32(8)) * jnp.float32(2.0**-24)
        # invert the cumulative probabilities; never pick a choice without probability
        weight = jnp.exp(self.logits - self.logits.max(-1, keepdims=True))
        total = weight.cumsum(-1)
        choice = jnp.int32(total <= (unit * total[:, -1])[:, None]).sum(-1)
        n = self.logits.shape[-1]
        last_possible = jnp.where(weight > 0, jnp.arange(n, dtype=jnp.int32)[None, :], 0).max(-1)
        return streams, jnp.minimum(choice, last_possible)

    def mode(self) -> Array:
        """The most likely choice, int32 (...); of several, the first."""
        return jnp.int32(jnp.argmax(self.logits, -1))

    def log_prob(self, action: Array) -> Array:
        """Log-probability of each choice, float32 (...)."""
        if self._few:
            return _total([jnp.where(action == i, x, 0.0) for i, x in enumerate(self._columns())])
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=jnp.bool_)
        return jnp.where(chosen, jax.nn.log_softmax(self.logits), 0.0).sum(-1)

    def entropy(self) -> Array:
        """Entropy in nats, float32 (...)."""
        if self._few:
            return -_total([jnp.exp(x) * x for x in self._columns()])
        log_p = jax.nn.log_softmax(self.logits)
        return -(jnp.exp(log_p) * log_p).sum(-1)

    @property
    def _few(self) -> bool:
        return self.logits.shape[-1] <= FEW_CHOICES

    def _columns(self) -> list[Array]:
        """The logarithm of each choice's probability, n of float32 (...)."""
        columns = [self.logits[..., i] for i in range(self.logits.shape[-1])]
        greatest = jax.lax.stop_gradient(functools.reduce(jnp.maximum, columns))
        shifted = [x - greatest for x in columns]
        log_sum = jnp.log(_total([jnp.exp(x) for x in shifted]))
        return [x - log_sum for x in shifted]


class Normal(PyTreeNode):
    """Independent normals: mean float32 (..., n), log_std float32 (n,)."""

    mean: Array
    log_std: Array

    def sample(self, streams: Array) -> tuple[Array, Array]:
        """A vector for each row, float32 (rows, n), from streams uint32 (rows, 2): (streams, vectors)."""

        def draw(streams: Array, _: None) -> tuple[Array, Array]:
            return jax.vmap(rng.bits)(streams)

        streams, words = jax.lax.scan(draw, streams, length=self.mean.shape[-1])
        # the middle of each of 2^23 equal intervals, so that the result is never 0 or 1
        unit = (jnp.float32(words >> jnp.uint32(9)) + 0.5) * jnp.float32(2.0**-23)
        noise = jax.scipy.special.ndtri(unit).T
        return streams, self.mean + jnp.exp(self._log_std()) * noise

    def mode(self) -> Array:
        """The mean, float32 (..., n); the environment clips it to its bounds, as it does with samples."""
        return self.mean

    def log_prob(self, action: Array) -> Array:
        """Log-density of each vector, float32 (...)."""
        z = (action - self.mean) * jnp.exp(-self._log_std())
        return (-0.5 * (z * z) - self._log_std() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Array:
        """Differential entropy in nats, float32 (...)."""
        per_entry = 0.5 + 0.5 * math.log(2 * math.pi) + self._log_std()
        return jnp.broadcast_to(per_entry, self.mean.shape).sum(-1)

    def _log_std(self) -> Array:
        return self.log_std.reshape((1,) * (self.mean.ndim - 1) + self.log_std.shape)


class Joint(PyTreeNode):
    """Independent parts of one action, with their entries one after the other: (..., entries)."""

    parts: tuple[Categorical | Normal, ...]
    dtype: np.dtype = static(default=np.dtype(np.int32))  # of the action; float32 when some parts are Normal

    def sample(self, streams: Array) -> tuple[Array, Array]:
        """An action for each row, `dtype` (rows, entries), from streams uint32 (rows, 2): (streams, actions)."""
        columns = []
        for part in self.parts:
            streams, drawn = part.sample(streams)
            columns.append(drawn)
        return streams, self._join(columns)

    def mode(self) -> Array:
        """The most likely choices and the means, `dtype` (..., entries)."""
        return self._join([part.mode() for part in self.parts])

    def log_prob(self, action: Array) -> Array:
        """Sum of the parts' log-probabilities, float32 (...)."""
        each, start = [], 0
        for part in self.parts:
            if isinstance(part, Categorical):
                each.append(part.log_prob(jnp.int32(action[..., start])))
                start += 1
            else:
                size = part.mean.shape[-1]
                each.append(part.log_prob(action[..., start : start + size]))
                start += size
        return _total(each)

    def entropy(self) -> Array:
        """Sum of the parts' entropies in nats, float32 (...)."""
        return _total([part.entropy() for part in self.parts])

    def _join(self, columns: list[Array]) -> Array:
        wide = [x if isinstance(part, Normal) else x[..., None] for part, x in zip(self.parts, columns, strict=True)]
        return jnp.concatenate([x.astype(self.dtype) for x in wide], -1)


def most_likely(distribution: Any, streams: Array) -> Array:
    """The most likely action of each row, from any distribution that a policy returns.

    Args:
        streams: uint32 (rows, 2), from which actions would be sampled; nothing is drawn.

    Raises:
        TypeError: the distribution has no `mode`, or its mode has not the shape and dtype of its samples.
    """
    name = type(distribution).__name__
    if not callable(getattr(distribution, "mode", None)):
        raise TypeError(f"deterministic is True, but {name}, which the policy returns, has no mode()")
    mode, (_, sample) = distribution.mode(), jax.eval_shape(distribution.sample, streams)
    if (jnp.shape(mode), jnp.result_type(mode)) != (sample.shape, sample.dtype):
        raise TypeError(
            f"{name}.mode() is {jnp.result_type(mode)}{list(jnp.shape(mode))}; "
            f"it must be like its samples, {sample.dtype}{list(sample.shape)}"
        )
    return mode


def _total(terms: list[Array]) -> Array:
    return functools.reduce(jnp.add, terms)


Distribution = Categorical | Normal | Joint
