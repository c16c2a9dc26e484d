"""Board games stepped inside JAX, by us and by Pgx."""

from typing import Any

from benchmarks.peers.games import Game, against

INSTALL = ["pgx==2.6.0"]
SAME = ("jax", "jaxlib")  # in our version

GAMES = [
    Game("connect_four", "connect4", {"opponent_depth": 0}),
    Game("2048", "g2048"),
    Game("go_9x9", "go"),
]


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    return against("pgx", GAMES)
