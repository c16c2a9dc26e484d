"""Games stepped inside JAX, by us and by Jumanji."""

from typing import Any

from benchmarks.peers.games import Game, against

INSTALL = ["jumanji==1.1.2"]
SAME = ("jax", "jaxlib")  # in our version

GAMES = [
    Game("Game2048-v1", "g2048"),
    Game("Tetris-v0", "tetris"),
    Game("Snake-v1", "snake"),
]


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    return against("jumanji", GAMES)
