"""Games stepped inside JAX, by us and by Jumanji."""

from typing import Any

from benchmarks.peers.games import Game, against

INSTALL = ["jumanji==1.1.2"]
SAME = ("jax", "jaxlib")  # in our version

GAMES = [
    Game("Game2048-v1", "g2048"),
    Game("Tetris-v0", "tetris"),
    Game("Snake-v1", "snake"),
    Game("PacMan-v1", "pacman", play=2000),
    Game("RobotWarehouse-v0", "rware", {"requests": 8}, agents=4, play=2000),
]


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    return against("jumanji", GAMES)
