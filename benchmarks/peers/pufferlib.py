"""C environments stepped in C, ours and PufferLib 3.0's headers, which are compiled from its source."""

from typing import Any

from benchmarks.peers.sides import AGENTS, CYCLE

INSTALL: list[str] = []
SAME = ("jax", "jaxlib", "numpy")  # in our version
FROM_SOURCE = True

# the C environments of PufferLib that are the same game, with our parameters, and steps of random play to compare
HEADERS: dict[str, tuple[dict[str, Any], int]] = {
    "boids": ({}, 0),
    "breakout": ({}, 0),
    "cartpole": ({}, 0),
    "connect4": ({}, 0),
    "convert": ({"agents": 1024}, 2000),
    "cpr": ({"food": 33}, 2000),
    "go": ({}, 0),
    "pacman": ({"random_start": 1}, 2000),
    "pong": ({}, 0),
    "rware": ({"layout": 1, "agents": 8, "requests": 8}, 2000),
    "squared": ({}, 0),
    "target": ({}, 0),
    "tetris": ({}, 0),
    "tower_climb": ({}, 2000),
    "trash_pickup": ({}, 2000),
    "tripletriad": ({}, 0),
}


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    from envs_c import _core
    from jaxpuffer import make

    return [
        {
            "comparison": f"{name} in C, ours and PufferLib's header",
            "setting": f"{worlds:,} worlds, 1 thread",
            "env": name,
            "ours": ("ours_c.py", {"env": name, "params": params, "backend": "c", "num_envs": worlds, "play": play}),
            "theirs": (
                "pufferlib_header.py",
                {"env": name, "num_envs": worlds, "cycle": CYCLE, "flags": _core.FLAGS, "play": play},
            ),
        }
        for name, (params, play) in HEADERS.items()
        for worlds in [AGENTS // make(name, **params).num_agents]
    ]
