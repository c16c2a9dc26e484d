"""The memory that a run needs, and whether the machine has it."""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxpuffer.env import has_sides
from jaxpuffer.spaces import shapes

GIB = 2**30


def needed(env: Any, config: Any) -> float:
    """The least number of bytes that training needs, computed as in docs/training.md."""

    obs = shapes(env.observation_space)
    parameters = config.hidden**2 * max(config.layers - 1, 0) + config.hidden * 2
    played = config.rows * config.hidden * 4  # activations of a step of the rollout
    together = config.microbatch_size or config.minibatch_size
    return (
        config.batch_size * (_bytes_of(obs) + 30.0)
        + config.num_envs * _bytes_of_world(env)
        + parameters * 40.0
        + max(played, min(together, config.minibatch_size) * (config.layers + 1.0) * config.hidden * 16)
    )


def _bytes_of(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _bytes_of_world(env: Any) -> int:
    """A state and its observation."""
    return _bytes_of(jax.eval_shape(env.batch(1).reset_streams, jax.ShapeDtypeStruct((1, 2), jnp.uint32)))


def total() -> float:
    """Bytes of all memory that training can use here; infinite if that is not known."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * jax.process_count()
        except (AttributeError, ValueError, OSError):  # a system that does not report it
            return float("inf")
    return (device.memory_stats() or {}).get("bytes_limit", float("inf")) * jax.device_count()


def check_fits(env: Any, name: str, count: int) -> None:
    """Raise ValueError if so many episodes, or games of two sides, are certain not to fit in memory."""
    worlds = count if has_sides(env) else float(count) / env.num_agents
    need, have = worlds * _bytes_of_world(env), total()
    if need > have:
        raise ValueError(
            f"{name} is {count}; they are played at the same time and need about {need / GIB:,.1f} GiB of memory, "
            f"of {have / GIB:,.1f} GiB here"
        )


def check_kept(env: Any, steps: int, num_envs: int) -> None:
    """Raise ValueError if the states of so many steps are certain not to fit in memory."""
    need, have = float(steps) * num_envs * _bytes_of_world(env), total()
    if need > have:
        raise ValueError(
            f"steps is {steps} and num_envs is {num_envs}; all states are kept and need about {need / GIB:,.1f} GiB of "
            f"memory, of {have / GIB:,.1f} GiB here"
        )


def check_memory(env: Any, config: Any) -> None:
    """Raise ValueError if a run with the config's own network is certain not to fit in memory."""
    need, have = needed(env, config), total()
    if need > have:
        raise ValueError(
            f"the run needs about {need / GIB:,.1f} GiB of memory, of {have / GIB:,.1f} GiB here; lower PPOConfig's "
            f"num_envs ({config.num_envs}), horizon ({config.horizon}), minibatch_size ({config.minibatch_size}) "
            f"or microbatch_size, hidden ({config.hidden}) or layers ({config.layers})"
        )


def host_memory() -> int | None:
    """Bytes of main memory that this process occupies now (its resident set); None if the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError, IndexError):
        return None


def device_memory() -> tuple[int, int] | None:
    """Bytes in use on the fullest of this process's devices, and its limit; None where devices do not count them."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    known = [(s["bytes_in_use"], s["bytes_limit"]) for s in stats if {"bytes_in_use", "bytes_limit"} <= s.keys()]
    return max(known, default=None)
