"""CartPole stepped from NumPy, by `VecEnv` and by EnvPool."""

from typing import Any

from benchmarks.peers.numpy_cartpole import against

INSTALL = ["envpool", "gymnasium"]
SAME = ("jax", "jaxlib", "numpy")  # in our version


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    return against("envpool", threads)
