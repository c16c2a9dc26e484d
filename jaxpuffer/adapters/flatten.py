"""Composite observations and actions as one array, and back without loss.

A composite is any pytree of arrays: a dict, a tuple, a dataclass. Each of its arrays is a
`Part`; `flat_observation` and `flat_action` lay the parts out one after the other, in the
order of `jax.tree.leaves`.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer.env import NAN
from jaxpuffer.pytree import nested_tuples
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete, Space, choices

EXACT = 2**24  # float32 holds every whole number up to here
TILE_KINDS = 32  # whole numbers of more kinds are numbers to a network, not tiles


@dataclass(frozen=True)
class Part:
    """One array of a composite, with its bounds, which are both included.

    Without bounds, floats are unbounded and whole numbers go as far as their dtype.

    Raises:
        TypeError: the dtype is not a bool, nor whole numbers or floats of at most 32 bits.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    low: Any = None  # a number, or nested tuples of them
    high: Any = None

    def __post_init__(self) -> None:
        dtype = np.dtype(self.dtype)
        known = dtype == np.bool_ or any(jnp.issubdtype(dtype, kind) for kind in (jnp.integer, jnp.floating))
        if not known or dtype.itemsize > 4:
            raise TypeError(f"dtype is {dtype}; it must be bool, or an integer or float of at most 32 bits")
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "shape", tuple(self.shape))
        least: float
        most: float
        if dtype == np.bool_:
            least, most = 0, 1
        elif self.is_whole:
            least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        else:
            least, most = -np.inf, np.inf
        for name, default in (("low", least), ("high", most)):
            value = getattr(self, name)
            wide = np.broadcast_to(np.asarray(default if value is None else value, np.float64), self.shape)
            wide = np.clip(wide, least, most)
            same = wide.size and (wide == wide.flat[0]).all()
            object.__setattr__(self, name, wide.flat[0].item() if same else nested_tuples(wide))

    @property
    def is_whole(self) -> bool:
        return self.dtype == np.bool_ or bool(jnp.issubdtype(self.dtype, jnp.integer))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value of each entry, float64 of the part's shape."""
        low, high = (np.broadcast_to(np.asarray(x, np.float64), self.shape) for x in (self.low, self.high))
        return low, high


@dataclass(frozen=True)
class Flattened:
    """The layout of a composite in one array of `space`."""

    structure: Any  # of the composite, as jax.tree.structure gives it
    parts: tuple[Part, ...]
    space: Space
    from_zero: bool  # whole numbers are counted from their lower bound, as choices are

    def flatten(self, tree: Any) -> Array:
        """The composite as one array, in the shape and dtype of `space`.

        In a float32 array, whole numbers beyond 2^24 are not rounded: they become NaN inside
        `jit`, which training refuses.

        Raises:
            TypeError: it is another kind of composite.
            ValueError: outside of `jit`, if it has whole numbers beyond 2^24 and `space` is of floats.
        """
        leaves, structure = jax.tree.flatten(tree)
        if structure != self.structure:
            raise TypeError(f"the composite is {structure}; it must be {self.structure}")
        for leaf, part in zip(leaves, self.parts, strict=True):
            if jnp.shape(leaf) != part.shape:
                raise TypeError(f"an array of the composite has the shape {jnp.shape(leaf)}; it must be {part.shape}")
        columns = [self._put(jnp.asarray(x, part.dtype), part) for x, part in zip(leaves, self.parts, strict=True)]
        return (columns[0] if len(columns) == 1 else jnp.concatenate(columns)).reshape(self.space.shape)

    def restore(self, array: Array) -> Any:
        """The inverse of `flatten`: the composite, in the shapes and dtypes of its parts."""
        flat, start, leaves = array.reshape(-1), 0, []
        for part in self.parts:
            x = flat[start : start + part.size]
            start += part.size
            if self._counts(part):
                x = jnp.int32(x) + self._first(part)
            leaves.append(x.astype(part.dtype).reshape(part.shape))
        return jax.tree.unflatten(self.structure, leaves)

    def _put(self, x: Array, part: Part) -> Array:
        x = x.reshape(-1)
        if self._counts(part):
            return (jnp.int32(x) - self._first(part)).astype(self.space.dtype)
        if self.space.dtype == np.float32 and part.is_whole and part.dtype.itemsize == 4:
            fits = x == jnp.clip(x, max(int(np.iinfo(part.dtype).min), -EXACT), EXACT)
            if not isinstance(fits, jax.core.Tracer) and not fits.all():
                raise ValueError(f"the composite has {x[jnp.argmin(fits)]}; whole numbers must be from -2^24 to 2^24")
            return jnp.where(fits, jnp.float32(x), NAN)
        return x.astype(self.space.dtype)

    def _counts(self, part: Part) -> bool:
        return self.from_zero and part.is_whole

    def _first(self, part: Part) -> np.ndarray:
        return part.bounds()[0].astype(np.int32).reshape(-1)


def flat_observation(parts: Any) -> Flattened:
    """The layout of an observation, given as a pytree of `Part`: always a Box.

    One part keeps its shape, and its dtype if it has bools, whole numbers of at most 32 kinds
    (tiles) or the uint8 of a picture (height, width, channels). Several parts, and all other
    numbers, become float32; several parts have one axis and no bounds.

    Raises:
        ValueError: there is nothing to observe.
    """
    leaves, structure = tuple(jax.tree.leaves(parts)), jax.tree.structure(parts)
    if sum(part.size for part in leaves) == 0:
        raise ValueError("the observation has no entries; it must have at least 1")
    if len(leaves) > 1:
        size = sum(part.size for part in leaves)
        return Flattened(structure, leaves, Box(-np.inf, np.inf, (size,)), False)
    part = leaves[0]
    low, high = (x.reshape(part.shape or (1,)) for x in part.bounds())
    is_picture = part.dtype == np.uint8 and len(part.shape) == 3
    is_tiles = part.is_whole and (high.max() - low.min() < TILE_KINDS or is_picture)
    return Flattened(structure, leaves, _box(low, high, part.dtype if is_tiles else np.dtype(np.float32)), False)


def flat_action(parts: Any) -> Flattened:
    """The layout of an action, given as a pytree of `Part`; whole numbers are choices, counted from their lower bound.

    A single number is Discrete, choices alone are MultiDiscrete, floats alone a float32 Box, and both together Mixed.

    Raises:
        ValueError: an entry has more than 65,536 choices, or floats in a Mixed have no entries.
    """
    leaves, structure = tuple(jax.tree.leaves(parts)), jax.tree.structure(parts)
    if sum(part.size for part in leaves) == 0:
        raise ValueError("the action has no entries; it must have at least 1")
    spaces: list[Any] = []
    for part in leaves:
        low, high = part.bounds()
        if not part.is_whole:
            spaces.append(_box(low.reshape(-1), high.reshape(-1), np.dtype(np.float32)))
            continue
        counts = (high - low + 1).reshape(-1)
        if counts.max() > 65536:
            raise ValueError(f"an entry of the action has {counts.max():.0f} choices; it must have at most 65536")
        spaces.append(MultiDiscrete(tuple(int(n) for n in counts)))
    space: Space
    if len(leaves) == 1 and leaves[0].shape == () and leaves[0].is_whole:
        space = Discrete(spaces[0].nvec[0])
    elif len(leaves) == 1 and not leaves[0].is_whole:
        low, high = leaves[0].bounds()
        space = _box(low.reshape(leaves[0].shape or (1,)), high.reshape(leaves[0].shape or (1,)), np.dtype(np.float32))
    elif all(part.is_whole for part in leaves):
        space = MultiDiscrete(tuple(n for part in spaces for n in choices(part)))
    elif not any(part.is_whole for part in leaves):
        low, high = (np.concatenate([p.bounds()[side].reshape(-1) for p in leaves]) for side in (0, 1))
        space = _box(low, high, np.dtype(np.float32))
    else:
        space = Mixed(tuple(spaces))
    return Flattened(structure, leaves, space, True)


def _box(low: np.ndarray, high: np.ndarray, dtype: np.dtype) -> Box:
    """A Box; entries whose bounds are equal, which a Box does not take, have wider ones."""
    equal = ~(low < high)
    if dtype == np.bool_:
        return Box(0, 1, low.shape, dtype)
    if dtype != np.float32:
        top = np.iinfo(dtype).max
        return Box(
            np.where(equal & (low == top), low - 1, low), np.where(equal & (low < top), low + 1, high), None, dtype
        )
    largest = float(np.finfo(np.float32).max)
    low, high = (np.where(np.abs(x) > largest, np.copysign(np.inf, x), x) for x in (low, high))
    return Box(np.where(equal, -np.inf, low), np.where(equal, np.inf, high), low.shape, dtype)
