"""The spaces of actions and observations: Discrete, MultiDiscrete, Box, Mixed for actions of several kinds, and
Composite for observations of several parts."""

import dataclasses
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer.pytree import PyTreeNode, nested_tuples

_FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Discrete:
    """One of `n` choices, int32 ()."""

    n: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "n", _whole("n", self.n))
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
        if np.ndim(self.nvec) != 1:
            raise ValueError(f"nvec is {self.nvec!r}; it must be a sequence of whole numbers")
        object.__setattr__(self, "nvec", tuple(_whole("nvec", n) for n in self.nvec))
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

    A bound is a number for all entries, or an array, list or tuple with one for each. It is kept
    as a number if all are equal, otherwise as nested tuples. `shape` may be left out if a bound
    is an array. Either side may be infinite.
    An integer box is read as tiles: networks turn tile t into a one-hot vector. The same holds for bools.

    Raises:
        ValueError: a bound that is NaN or that the dtype does not hold, low not below high, bounds that do not fit
            the shape, or a shape without entries.
    """

    low: Any  # a number, or nested tuples of them
    high: Any
    shape: Any = None  # tuple of int
    dtype: Any = _FLOAT32  # what np.dtype takes, kept as an np.dtype

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        unfit = f"low is {self.low} and high is {self.high}"
        try:
            shape = np.broadcast_shapes(np.shape(self.low), np.shape(self.high)) if self.shape is None else self.shape
        except ValueError:
            raise ValueError(f"{unfit}; they must have one shape") from None
        shape = (shape,) if np.ndim(shape) == 0 else shape
        object.__setattr__(self, "shape", tuple(_whole("shape", n) for n in shape))
        if not all(n > 0 for n in self.shape):
            raise ValueError(f"shape is {self.shape}; every length must be at least 1")
        try:
            low, high = (np.broadcast_to(np.asarray(x, np.float64), self.shape) for x in (self.low, self.high))
        except ValueError:
            raise ValueError(f"{unfit}; each must be a number, or of the shape {self.shape}") from None
        if not (low < high).all():
            raise ValueError(f"{unfit}; low must be below high")
        if self.dtype != np.bool_:
            of_type = np.iinfo(self.dtype) if self.is_tiles else np.finfo(self.dtype)
            both = np.stack([low, high])
            held = (both >= of_type.min) & (both <= of_type.max) | (np.isinf(both) & (not self.is_tiles))
            if not held.all():
                raise ValueError(f"{unfit}; {self.dtype} holds numbers from {of_type.min} to {of_type.max}")
        for name, value, wide in (("low", self.low, low), ("high", self.high, high)):
            if np.ndim(value):
                equal = wide.size and (wide == wide.flat[0]).all()
                object.__setattr__(self, name, wide.flat[0].item() if equal else nested_tuples(wide))
            elif hasattr(value, "item"):  # a NumPy number
                object.__setattr__(self, name, value.item())

    @property
    def is_tiles(self) -> bool:
        return bool(np.issubdtype(self.dtype, np.integer)) or self.dtype == np.bool_

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value of each entry, float64 of the box's shape."""
        low, high = (np.broadcast_to(np.asarray(x, np.float64), self.shape) for x in (self.low, self.high))
        return low, high

    def drawn_between(self) -> tuple[np.ndarray, np.ndarray]:
        """The range of uniform draws, of the box's shape: the bounds, or a range of 2 if a bound is missing."""
        low, high = self.bounds()
        middle = np.where(np.isfinite(low), low + 1.0, np.where(np.isfinite(high), high - 1.0, 0.0))
        both = np.isfinite(low) & np.isfinite(high)
        return np.where(both, low, middle - 1.0), np.where(both, high, middle + 1.0)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """`shape` independent uniform arrays; an entry without both bounds is drawn from a range of 2."""
        lead, shape = (1,) * len(shape), (*shape, *self.shape)
        low, high = (x.reshape(lead + self.shape) for x in self.drawn_between())
        if self.is_tiles:
            drawn = jax.random.randint(key, shape, jnp.asarray(low, jnp.int32), jnp.asarray(high, jnp.int32) + 1)
            return drawn.astype(self.dtype)
        least, most = (jnp.broadcast_to(jnp.asarray(x, self.dtype), shape) for x in (low, high))
        return jax.random.uniform(key, shape, self.dtype, least, most)

    def contains(self, value: Any) -> bool:
        value = np.asarray(value)
        low, high = self.bounds()
        return _fits(value, self) and bool(((value >= low) & (value <= high)).all())


@dataclass(frozen=True)
class Mixed:
    """Choices and numbers in one action, float32 (entries,): the parts' entries in order, choices as whole numbers."""

    parts: tuple[Discrete | MultiDiscrete | Box, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple | list) or any(
            not isinstance(part, Discrete | MultiDiscrete | Box) for part in self.parts
        ):
            raise TypeError(f"parts is {self.parts!r}; it must be a tuple of Discrete, MultiDiscrete and Box")
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or any(isinstance(part, Box) and len(part.shape) != 1 for part in self.parts):
            raise ValueError(f"parts is {self.parts}; it must have at least one, and its Boxes must be one-dimensional")

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


@dataclass(frozen=True, eq=False, init=False)
class Composite:
    """Several named boxes: the space of an observation that is a `PyTreeNode` of arrays.

    It is made of the observation's own class, and a Box for each of its fields:

        class Seen(PyTreeNode):
            tiles: Array
            speed: Array

        Composite(Seen, tiles=Box(0, 3, (11, 11), np.int8), speed=Box(-1.0, 1.0, (2,)))

    Raises:
        TypeError: `kind` is not a PyTreeNode class with fields, a field has no box, a box no field, or one is no Box.
    """

    boxes: Any  # an object of the observation's class, with a Box in the place of each array

    def __init__(self, kind: type[Any] | None = None, /, **boxes: Box) -> None:
        if not (isinstance(kind, type) and issubclass(kind, PyTreeNode)):
            raise TypeError(f"kind is {kind!r:.100}; the first argument must be the observation's class, a PyTreeNode")
        names = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]  # a subclass is one
        if not names:
            raise TypeError(f"{kind.__name__} has no fields; an observation needs one at least")
        if boxes.keys() != set(names):
            raise TypeError(f"the boxes are {', '.join(boxes) or 'none'}; {kind.__name__} has {', '.join(names)}")
        for name, box in boxes.items():
            if not isinstance(box, Box):
                raise TypeError(f"{name} is {box!r:.100}; it must be a Box")
        object.__setattr__(self, "boxes", kind(**boxes))

    @property
    def parts(self) -> tuple[tuple[str, Box], ...]:
        """The boxes with their names, in the order of the fields."""
        return tuple((field.name, getattr(self.boxes, field.name)) for field in dataclasses.fields(self.boxes))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Composite):
            return NotImplemented
        return type(self.boxes) is type(other.boxes) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash((type(self.boxes), self.parts))

    def __repr__(self) -> str:
        return f"Composite({', '.join(f'{name}={box}' for name, box in self.parts)})"

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Any:
        """`shape` independent uniform observations."""
        keys = jax.random.split(key, len(self.parts))
        drawn = {name: box.sample(k, shape) for (name, box), k in zip(self.parts, keys, strict=True)}
        return type(self.boxes)(**drawn)

    def contains(self, value: Any) -> bool:
        """Whether an observation, or a dict of its arrays by name, is in the space."""
        found = value if isinstance(value, dict) else value.__dict__ if isinstance(value, type(self.boxes)) else {}
        return found.keys() == {name for name, _ in self.parts} and all(
            box.contains(found[name]) for name, box in self.parts
        )


Space = Discrete | MultiDiscrete | Box | Mixed  # of one array
ObservationSpace = Space | Composite


def named_parts(space: ObservationSpace) -> tuple[tuple[str, Space], ...]:
    """The parts of an observation with their names; one part without a name if it is a single array."""
    return space.parts if isinstance(space, Composite) else (("", space),)


def per_part(function: Callable[..., Any], space: ObservationSpace, *observations: Any) -> Any:
    """`function(box, *arrays)` for each part of observations, put together as an observation is."""
    if isinstance(space, Composite):
        return jax.tree.map(function, space.boxes, *observations)
    return function(space, *observations)


def zeros(space: ObservationSpace, lead: tuple[int, ...] = ()) -> Any:
    """Observations of zeros (*lead, ...)."""
    return per_part(lambda part: jnp.zeros((*lead, *part.shape), part.dtype), space)


def shapes(space: ObservationSpace, lead: tuple[Any, ...] = ()) -> Any:
    """`jax.ShapeDtypeStruct` of observations (*lead, ...)."""
    return per_part(lambda part: jax.ShapeDtypeStruct((*lead, *part.shape), part.dtype), space)


def mask_sizes(space: Space) -> tuple[int, ...]:
    """How many entries of an action mask each choice has, in order; () if there is nothing to mask."""
    parts = space.parts if isinstance(space, Mixed) else (space,)
    return tuple(n for part in parts for n in choices(part))


def choices(space: Space) -> tuple[int, ...]:
    """How many choices each entry of an action of whole numbers has; () for other spaces."""
    if isinstance(space, Discrete):
        return (space.n,)
    return space.nvec if isinstance(space, MultiDiscrete) else ()


def legal(space: Space, action: Array) -> tuple[Array, Array]:
    """What the rules get of actions (..., *space.shape), and which were invalid, bool (...).

    The numbers of a Box, also of one in a Mixed, are clipped to its bounds. An action is invalid where a
    choice is out of range or a number, once clipped, is not finite; the rules get the nearest choice
    there, and for NaN the number nearest to 0.
    """
    low, high, is_choice = limits(space)
    entries = tuple(range(action.ndim - len(space.shape), action.ndim))
    lead = (1,) * (action.ndim - len(space.shape))
    low, high, is_choice = (x.reshape(lead + space.shape) for x in (low, high, is_choice))
    clipped = jnp.clip(action, low, high)
    if jnp.issubdtype(space.dtype, jnp.floating):
        wrong = jnp.where(is_choice, clipped != action, ~jnp.isfinite(clipped))
        clipped = jnp.where(jnp.isfinite(clipped), clipped, np.clip(np.zeros_like(low), low, high))
    else:
        wrong = clipped != action
    return clipped, wrong.any(entries)


def check_action(space: Space, action: Any, agents: tuple[int, ...] = ()) -> Array:
    """An action (*agents, *space.shape) in the space's dtype; the values of a traced one are not checked.

    Raises:
        TypeError: it has another shape, or numbers where choices are whole.
        ValueError: it is not a valid action, as `legal` defines it.
    """
    shape = (*agents, *space.shape)
    fractions = jnp.issubdtype(jnp.result_type(action), jnp.floating) and jnp.issubdtype(space.dtype, jnp.integer)
    if jnp.shape(action) != shape or fractions:
        is_now = f"{jnp.result_type(action)}{list(jnp.shape(action))}"
        raise TypeError(f"action is {is_now}; it must be {space.dtype}{list(shape)}")
    if not isinstance(action, jax.core.Tracer):
        values = np.asarray(action)
        low, high, is_choice = limits(space)
        clipped = np.clip(values, low, high)
        wrong = np.where(is_choice, clipped != values, ~np.isfinite(clipped))
        if wrong.any():
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            place = where[len(agents) :]
            allowed = f"from {low[place]:g} to {high[place]:g}" if is_choice[place] else "finite"
            entry = f" at entry {list(where)}" if where else ""
            raise ValueError(f"action is {values[where]}{entry}; it must be {allowed}")
    return jnp.asarray(action, space.dtype)


def limits(space: Space) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bounds of each entry, of the space's dtype, and whether it is a choice, all of the space's shape."""
    sides: tuple[list[np.ndarray], ...] = ([], [], [])
    for part in space.parts if isinstance(space, Mixed) else (space,):
        if isinstance(part, Box):
            of_part = (*part.bounds(), np.zeros(part.shape, bool))
        else:
            last = np.array(choices(part)).reshape(part.shape) - 1
            of_part = (np.zeros_like(last), last, np.ones(part.shape, bool))
        for side, values in zip(sides, of_part, strict=True):
            side.append(np.ravel(values))
    low, high, is_choice = (np.concatenate(side).reshape(space.shape) for side in sides)
    return low.astype(space.dtype), high.astype(space.dtype), is_choice


def action_bounds(space: Space) -> tuple[np.ndarray, np.ndarray] | None:
    """Bounds of each entry, of the space's dtype and shape; infinite for choices, None if there are only choices."""
    if not isinstance(space, Box | Mixed):
        return None
    low, high, is_choice = limits(space)
    return np.where(is_choice, -np.inf, low).astype(space.dtype), np.where(is_choice, np.inf, high).astype(space.dtype)


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}; it must be a whole number") from None


def _fits(value: np.ndarray, space: Space) -> bool:
    return value.dtype == space.dtype and value.shape[value.ndim - len(space.shape) :] == space.shape
