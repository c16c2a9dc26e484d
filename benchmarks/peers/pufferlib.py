"""C environments stepped in C, ours and PufferLib 3.0's headers, which are compiled from its source."""

from typing import Any

from benchmarks.peers.sides import CYCLE

INSTALL: list[str] = []
SAME = ("jax", "jaxlib", "numpy")  # in our version
FROM_SOURCE = True

# the C environments of PufferLib that are the same game, and our worlds in a batch of 1,024 agents
HEADERS = {"boids": 16, "target": 128} | dict.fromkeys(
    ("breakout", "cartpole", "connect4", "go", "pong", "squared", "tetris", "tripletriad"), 1024
)


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    from envs_c import _core

    return [
        {
            "comparison": f"{name} in C, ours and PufferLib's header",
            "setting": f"{worlds:,} worlds, 1 thread",
            "env": name,
            "ours": ("ours_c.py", {"env": name, "backend": "c", "num_envs": worlds}),
            "theirs": (
                "pufferlib_header.py",
                {"env": name, "num_envs": worlds, "cycle": CYCLE, "flags": _core.FLAGS},
            ),
        }
        for name, worlds in HEADERS.items()
    ]
