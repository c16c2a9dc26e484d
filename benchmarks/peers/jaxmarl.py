"""Games of several agents stepped inside JAX, by us and by JaxMARL."""

from typing import Any

from benchmarks.peers.games import Game, against

INSTALL = ["jaxmarl==0.2.0"]
SAME = ("jax", "jaxlib")  # in our version

GAMES = [Game("overcooked", "overcooked", {"shaping": 0.0}, agents=2, play=4000)]


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    return against("jaxmarl", GAMES)
