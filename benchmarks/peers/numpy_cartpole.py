"""CartPole stepped from NumPy, by `VecEnv` and by a peer."""

from typing import Any

from benchmarks.peers.sides import CYCLE


def against(peer: str, threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    return [
        {
            "comparison": f"CartPole, NumPy, VecEnv and {peer}",
            "setting": f"{num_envs:,} environments",
            "env": "cartpole",
            "ours": ("numpy_cartpole.py", {"peer": None, **size}),
            "theirs": ("numpy_cartpole.py", {"peer": peer, **size}),
        }
        for num_envs in (64, 1024, 8192)
        for size in [{"threads": threads, "num_envs": num_envs, "cycle": CYCLE}]
    ]
