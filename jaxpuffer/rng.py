"""The random stream in every state. Twin of envs_c/rng.h.

xoroshiro64** (Blackman and Vigna, 2018): a stream is two uint32 words, not both
zero, with a period of 2^64 - 1. It needs 32-bit integer operations only, so
every processor draws the same numbers. Each function returns the advanced
stream first, then what it drew::

    stream, right = rng.below(stream, 2)
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

MAX_BELOW = 65536  # largest n of `below` and `shuffle`
MAX_INT = 2**31 - 1
LEVEL = 0x6C65766C  # sets the hashes of levels apart from those of `each`


def check_key(key: Any) -> Array:
    """A single JAX key of the newer kind, also from one of the older kind of uint32 words.

    Raises:
        TypeError: `key` is something else, or several keys.
    """
    shape, dtype = getattr(key, "shape", None), getattr(key, "dtype", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        if shape == ():
            return key
        raise TypeError(f"key has the shape {shape}; it must be one key: vmap over several")
    if dtype == jnp.uint32 and shape in ((2,), (4,)):
        return jax.random.wrap_key_data(key, impl="threefry2x32" if shape == (2,) else "rbg")
    raise TypeError(f"key is {key!r:.100}; it must be a JAX key, such as jax.random.key(0)")


def seed(key: Array, shape: tuple[int, ...] = ()) -> Array:
    """Streams drawn from a JAX key: uint32, `shape` + (2,).

    A stream of two zero words would always stay zero, so it starts at (0, 1).
    """
    words = jax.random.bits(key, (*shape, 2), jnp.uint32)
    dead = (words == 0).all(-1, keepdims=True)
    return words | jnp.where(dead, jnp.array([0, 1], jnp.uint32), jnp.uint32(0))


def bits(stream: Array) -> tuple[Array, Array]:
    """The next 32 random bits, uint32 ().

    Raises:
        TypeError: `stream` is not uint32 (2,). The other functions draw with this one.
    """
    if getattr(stream, "dtype", None) != jnp.uint32 or stream.shape != (2,):
        raise TypeError(f"stream is {_kind(stream)}; it must be uint32[2], as init gets it and each draw returns it")
    s0, s1 = stream[0], stream[1]
    drawn = _rotate_left(s0 * jnp.uint32(0x9E3779BB), 5) * jnp.uint32(5)
    s1 = s1 ^ s0
    s0 = _rotate_left(s0, 26) ^ s1 ^ (s1 << jnp.uint32(9))
    return jnp.stack([s0, _rotate_left(s1, 13)]), drawn


def uniform(stream: Array, low: ArrayLike = 0.0, high: ArrayLike = 1.0) -> tuple[Array, Array]:
    """Uniform float32 () in [low, high); rounding can give `high` itself."""
    stream, drawn = _unit(stream)
    least = jnp.float32(low)
    return stream, least + drawn * (jnp.float32(high) - least)


def below(stream: Array, n: ArrayLike) -> tuple[Array, Array]:
    """Uniform int32 () in [0, n), 1 <= n <= 65536.

    Multiply and shift: each value's probability has an error of less than 2^-32, which is
    at most n / 2^32 of the probability.

    Raises:
        TypeError: `n` is not a whole number.
        ValueError: `n` is an integer of Python or NumPy out of range.
    """
    _check_whole("n", n, 1, MAX_BELOW)
    stream, drawn = bits(stream)
    # the high word of a 32 by 17 bit product, in two halves
    n = jnp.uint32(n)
    high = (drawn >> jnp.uint32(16)) * n
    low = ((drawn & jnp.uint32(0xFFFF)) * n) >> jnp.uint32(16)
    return stream, jnp.int32((high + low) >> jnp.uint32(16))


def bernoulli(stream: Array, probability: ArrayLike) -> tuple[Array, Array]:
    """True with the given probability, bool (), in steps of 2^-24."""
    stream, drawn = _unit(stream)
    return stream, drawn < jnp.float32(probability)


def shuffle(stream: Array, items: Array) -> tuple[Array, Array]:
    """A uniformly random order of `items` along its first axis (Fisher and Yates)."""
    if len(items) > MAX_BELOW:
        raise ValueError(f"items has {len(items)} entries; at most {MAX_BELOW} can be shuffled")

    def swap(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        stream, items = carry
        i = len(items) - 1 - k
        stream, j = below(stream, i + 1)
        return stream, items.at[i].set(items[j]).at[j].set(items[i])

    if len(items) < 2:  # nothing to swap, and with no entries a swap cannot be traced
        return stream, items
    return lax.fori_loop(0, len(items) - 1, swap, (stream, items))


def deal(stream: Array, items: Array, count: int) -> tuple[Array, Array]:
    """`items` with a random choice of `count` of them in front, in random order: the first steps of a shuffle.

    Raises:
        TypeError: `count` is not a whole number of Python or NumPy.
        ValueError: `count` is not from 0 to the number of items, or there are more than 65,536 of them.
    """
    _check_fixed("count", count)
    if not 0 <= count <= len(items) <= MAX_BELOW:
        raise ValueError(
            f"count is {count} of {len(items)} items; it must be from 0 to that, which is at most {MAX_BELOW}"
        )

    def place(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        stream, items = carry
        stream, k = below(stream, len(items) - i)
        return stream, items.at[i + k].set(items[i]).at[i].set(items[i + k])

    return lax.fori_loop(0, count, place, (stream, items)) if count else (stream, items)


def each(stream: Array, count: int) -> tuple[Array, Array]:
    """`count` draws at once, 32 random bits each, uint32 (count,): for all cells of a grid, in one vector operation.

    Draw i is a function of two words of the stream and of i alone: the hash pcg3d of Jarzynski and Olano (2020, "Hash
    Functions for GPU Rendering", JCGT 9(3)). The stream advances by these two words.

    Raises:
        TypeError: `count` is not a whole number of Python or NumPy.
        ValueError: `count` is below 0.
    """
    _check_fixed("count", count)
    _check_whole("count", count, 0, MAX_INT)
    stream, a = bits(stream)
    stream, b = bits(stream)
    return stream, _hash(a, b, jnp.arange(count, dtype=jnp.uint32))[0]


def unit(drawn: Array) -> Array:
    """Random bits, uint32, as float32 uniform in [0, 1), multiples of 2^-24.

    Raises:
        TypeError: `drawn` is of another dtype.
    """
    if getattr(drawn, "dtype", None) != jnp.uint32:
        raise TypeError(f"drawn is {_kind(drawn)}; it must be uint32, as bits and each return it")
    return jnp.float32(drawn >> jnp.uint32(8)) * jnp.float32(2.0**-24)


def level(stream: Array, levels: ArrayLike, first_level: ArrayLike) -> tuple[Array, Array]:
    """A stream for drawing a world: (stream, uint32 (2,)).

    With `levels`, int32 (), above 0 it is that of a level from `first_level` to `first_level + levels - 1`, each with
    the same probability; a level's stream is a function of its number alone. With 0 it is a new one.

    Raises:
        TypeError: `levels` or `first_level` is not a whole number.
        ValueError: one is an integer of Python or NumPy below 0, or one that int32 does not hold.
    """
    _check_whole("levels", levels, 0, MAX_INT)
    _check_whole("first_level", first_level, 0, MAX_INT)
    stream, a = bits(stream)
    stream, b = bits(stream)
    many = jnp.uint32(levels)
    number = jnp.uint32(first_level) + a % jnp.maximum(many, jnp.uint32(1))
    x, y, _ = _hash(jnp.where(many > 0, number, a), jnp.where(many > 0, jnp.uint32(0), b), jnp.uint32(LEVEL))
    return stream, jnp.stack([x, jnp.where((x | y) == 0, jnp.uint32(1), y)])


def _check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Check that a number is whole, and its range if it is known when a program is traced."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; it must be from {low} to {high}")
    elif not jnp.issubdtype(getattr(value, "dtype", np.dtype(object)), jnp.integer) or value.shape != ():
        raise TypeError(f"{name} is {_kind(value)}; it must be a whole number")


def _check_fixed(name: str, value: Any) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} is {_kind(value)}; it must be a whole number that is not traced")


def _kind(value: Any) -> str:
    """The dtype and shape of an array, or what else is in its place."""
    return f"{value.dtype}{list(value.shape)}" if hasattr(value, "dtype") else f"{value!r:.100}"


def _hash(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """pcg3d: three words of three words."""
    x, y, z = (v * jnp.uint32(1664525) + jnp.uint32(1013904223) for v in (x, y, z))
    x = x + y * z
    y = y + z * x
    z = z + x * y
    x, y, z = (v ^ (v >> jnp.uint32(16)) for v in (x, y, z))
    x = x + y * z
    y = y + z * x
    return x, y, z + x * y


def _unit(stream: Array) -> tuple[Array, Array]:
    stream, drawn = bits(stream)
    return stream, unit(drawn)


def _rotate_left(x: Array, count: int) -> Array:
    return (x << jnp.uint32(count)) | (x >> jnp.uint32(32 - count))
