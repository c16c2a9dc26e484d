"""Games stepped inside JAX, by us and by a peer."""

from typing import Any

from benchmarks.peers.sides import CYCLE

# theirs; ours, its parameters and how many of its environments have as many agents as one of theirs
Game = tuple[str, str, dict[str, Any], float]


def against(peer: str, games: list[Game]) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    return [
        {
            "comparison": f"{name}, ours ({backend}) and {peer}'s {game}",
            "setting": f"{num_envs:,} agents" + "".join(f", {k}={v}" for k, v in params.items()),
            "env": name,
            "ours": (
                "ours_env.py",
                {"env": name, "params": params, "num_envs": int(share * num_envs), "backend": backend} | cycle,
            ),
            "theirs": (f"{peer}_game.py", {"env": game, "num_envs": num_envs} | cycle),
        }
        for game, name, params, share in games
        for num_envs in (1024,)
        for backend in ("jax", "c")
        for cycle in [{"cycle": CYCLE}]
    ]
