"""CartPole stepped inside JAX, by us and by gymnax."""

from typing import Any

from benchmarks.peers.sides import CYCLE

INSTALL = ["gymnax>=1.0.1,<2", "six"]  # six: imported and not declared
SAME = ("jax", "jaxlib")  # in our version


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    return [
        {
            "comparison": f"CartPole, JAX, ours ({backend}) and gymnax",
            "setting": f"{num_envs:,} environments",
            "env": "cartpole",
            "ours": ("ours_env.py", {"env": "cartpole", "backend": backend, "num_envs": num_envs, "cycle": CYCLE}),
            "theirs": ("gymnax_cartpole.py", {"num_envs": num_envs, "cycle": CYCLE}),
        }
        for num_envs in (1024, 8192)
        for backend in ("jax", "c")
    ]
