"""Games stepped inside JAX, by us and by a peer."""

from typing import Any, NamedTuple

from benchmarks.peers.sides import AGENTS, CYCLE, LONG_CYCLE


class Game(NamedTuple):
    """A game of both: our name and parameters, and how many agents one of their worlds has."""

    theirs: str
    ours: str
    params: dict[str, Any] = {}  # noqa: RUF012
    agents: int = 1
    play: int = 0  # steps of random play whose rewards and ends are compared too


def against(peer: str, games: list[Game]) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    from jaxpuffer import make

    return [
        {
            "comparison": f"{game.ours}, ours ({backend}) and {peer}'s {game.theirs}",
            "setting": f"{AGENTS:,} agents" + "".join(f", {k}={v}" for k, v in game.params.items()),
            "env": game.ours,
            "ours": (
                "ours_env.py",
                {
                    "env": game.ours,
                    "params": game.params,
                    "num_envs": AGENTS // make(game.ours, **game.params).num_agents,
                    "backend": backend,
                    **random,
                },
            ),
            "theirs": (
                f"{peer}_game.py",
                {"env": game.theirs, "num_envs": AGENTS // game.agents, "agents": game.agents, **random},
            ),
        }
        for game in games
        for backend in ("jax", "c")
        for random in [{"cycle": LONG_CYCLE if game.play else CYCLE, "play": game.play}]
    ]
