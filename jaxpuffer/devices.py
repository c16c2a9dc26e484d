"""The hardware that a computation is for: its kind, its cores, and sums over the devices of a mesh.

No other module asks for the hardware. While a program is traced the answer is JAX's default
device; `computing_on` changes it to the device that holds the program's arguments.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import jax
from jax import Array, lax

P = ParamSpec("P")
T = TypeVar("T")


def platform() -> str:
    """The kind of device that computations are for here: "cpu", "gpu", "tpu" ..."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined, unused-ignore]
    return getattr(device, "platform", device) or jax.default_backend()


def on_cpu() -> bool:
    """Whether computations here are for a CPU."""
    return platform() == "cpu"


@contextlib.contextmanager
def computing_on(where: Any) -> Iterator[None]:
    """Trace what is inside for this device, or for the one that this array is committed to.

    Nothing changes if the array is not committed, or is traced, or if the device is JAX's default.
    """
    device = where if isinstance(where, jax.Device) else None
    if isinstance(where, Array) and not isinstance(where, jax.core.Tracer) and where.committed:
        device = min(where.devices(), key=lambda d: d.id)
    if device is None or device.platform == platform():
        yield
        return
    with jax.default_device(device):
        yield


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_32_bits(function: Callable[P, T]) -> Callable[P, T]:
    """The function, run without `jax_enable_x64`: environments and policies are made of 32-bit numbers."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        if not jax.config.jax_enable_x64:  # type: ignore[attr-defined, unused-ignore]
            return function(*args, **kwargs)
        with jax.enable_x64(False):
            return function(*args, **kwargs)

    return wrapped


# over the devices along a mesh axis, inside a `shard_map`; None is the one device of a program without a mesh


def size(axis: str | None) -> int:
    """How many devices there are."""
    return 1 if axis is None else lax.axis_size(axis)


def here(axis: str | None) -> Array | int:
    """The number of this device among them, from 0."""
    return 0 if axis is None else lax.axis_index(axis)


def sum(tree: Any, axis: str | None) -> Any:
    """Sums over the devices of every leaf, which keeps its shape."""
    return tree if axis is None else lax.psum(tree, axis)


def mean(tree: Any, axis: str | None) -> Any:
    """Means over the devices of every leaf, which keeps its shape."""
    return tree if axis is None else lax.pmean(tree, axis)


def extremes(x: Array, axis: str | None, over: tuple[int, ...] | None = None) -> tuple[Array, Array]:
    """The smallest and the largest numbers on all devices, over the axes `over` or over all axes."""
    least, greatest = x.min(over), x.max(over)
    return (least, greatest) if axis is None else (lax.pmin(least, axis), lax.pmax(greatest, axis))


def gather(x: Array, axis: str | None) -> Array:
    """The values of all devices, (devices, ...)."""
    return x[None] if axis is None else lax.all_gather(x, axis)
