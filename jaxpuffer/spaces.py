"""What an action or an observation can be: Discrete, MultiDiscrete, Box, and Mixed for actions of several kinds."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Discrete:
    """One of `n` choices, int32 ()."""

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; a Discrete space needs at least 1 choice")

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """`shape` independent uniform choices."""
        return jax.random.randint(key, shape, 0, self.n, jnp.int32)

    def contains(self, value: Any) -> bool:
        value = np.asarray(value)
        return _fits(value, self) and bool(((value >= 0) & (value < self.n)).all())


@dataclass(frozen=True)
class MultiDiscrete:
    """Several choices at once, int32 (len(nvec),): entry i is one of `nvec[i]`."""

    nvec: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.nvec or min(self.nvec) < 1:
            raise ValueError(f"nvec is {self.nvec}; a MultiDiscrete space needs entries of at least 1")

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int32)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """`shape` independent uniform choices."""
        shape = (*shape, *self.shape)
        return jax.random.randint(key, shape, 0, jnp.broadcast_to(jnp.array(self.nvec, jnp.int32), shape), jnp.int32)

    def contains(self, value: Any) -> bool:
        value = np.asarray(value)
        return _fits(value, self) and bool(((value >= 0) & (value < np.array(self.nvec))).all())


@dataclass(frozen=True)
class Box:
    """An array of `shape` and `dtype` with entries from `low` to `high`, both included.

    An integer box is read as tiles: networks show tile t as a one-hot vector.
    """

    low: float
    high: float
    shape: tuple[int, ...]
    dtype: np.dtype = _FLOAT32

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if not self.low < self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; low must be below high")

    @property
    def is_tiles(self) -> bool:
        return bool(np.issubdtype(self.dtype, np.integer))

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """`shape` independent uniform arrays; unbounded sides are taken as -1 and 1."""
        shape = (*shape, *self.shape)
        if self.is_tiles:
            return jax.random.randint(key, shape, int(self.low), int(self.high) + 1, self.dtype)
        low = self.low if np.isfinite(self.low) else -1.0
        high = self.high if np.isfinite(self.high) else 1.0
        return jax.random.uniform(key, shape, self.dtype, low, high)

    def contains(self, value: Any) -> bool:
        value = np.asarray(value)
        return _fits(value, self) and bool(((value >= self.low) & (value <= self.high)).all())


@dataclass(frozen=True)
class Mixed:
    """Choices and numbers in one action, float32 (entries,): the parts' entries in order, choices as whole numbers."""

    parts: tuple[Discrete | MultiDiscrete | Box, ...]

    def __post_init__(self) -> None:
        if not self.parts or any(isinstance(part, Box) and len(part.shape) != 1 for part in self.parts):
            raise ValueError(
                f"parts is {self.parts}; it must have at least one, and of Boxes only one-dimensional ones"
            )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of each part."""
        return tuple(part.shape[0] if part.shape else 1 for part in self.parts)

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(self.sizes),)

    @property
    def dtype(self) -> np.dtype:
        return _FLOAT32

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """`shape` independent uniform actions."""
        keys = jax.random.split(key, len(self.parts))
        drawn = [part.sample(k, shape) for part, k in zip(self.parts, keys, strict=True)]
        return jnp.concatenate([jnp.float32(x).reshape(*shape, -1) for x in drawn], -1)

    def contains(self, value: Any) -> bool:
        value = np.asarray(value)
        if not _fits(value, self):
            return False
        pieces = np.split(value, np.cumsum(self.sizes)[:-1], -1)
        # a choice must be a whole number
        typed = [
            x.reshape((*value.shape[:-1], *p.shape)).astype(p.dtype) for x, p in zip(pieces, self.parts, strict=True)
        ]
        whole = all((x == t.reshape(x.shape)).all() for x, t in zip(pieces, typed, strict=True))
        return whole and all(part.contains(x) for part, x in zip(self.parts, typed, strict=True))


Space = Discrete | MultiDiscrete | Box | Mixed


def choices(space: Space) -> tuple[int, ...]:
    """How many choices each entry of an action of whole numbers has; () for other spaces."""
    if isinstance(space, Discrete):
        return (space.n,)
    return space.nvec if isinstance(space, MultiDiscrete) else ()


def legal(space: Space, action: Array) -> Array:
    """Actions (..., *space.shape) with the numbers of a Box, also of one in a Mixed, clipped to its bounds."""
    if not isinstance(space, Box | Mixed):
        return action
    lead = (1,) * (action.ndim - len(space.shape))
    low, high = (jnp.asarray(x.reshape(lead + space.shape)) for x in _bounds(space))
    return jnp.clip(action, low, high)


def _bounds(space: Box | Mixed) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest of each entry, of `space.dtype` (entries,); infinite for choices."""
    lows, highs = [], []
    for part in space.parts if isinstance(space, Mixed) else (space,):
        low, high = (part.low, part.high) if isinstance(part, Box) else (-np.inf, np.inf)
        size = part.shape or (1,)
        lows.append(np.broadcast_to(np.asarray(low, space.dtype), size).reshape(-1))
        highs.append(np.broadcast_to(np.asarray(high, space.dtype), size).reshape(-1))
    return np.concatenate(lows), np.concatenate(highs)


def _fits(value: np.ndarray, space: Space) -> bool:
    return value.dtype == space.dtype and value.shape[value.ndim - len(space.shape) :] == space.shape
