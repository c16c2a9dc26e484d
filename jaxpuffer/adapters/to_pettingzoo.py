"""Our worlds of several agents as PettingZoo's parallel environments."""

from typing import TYPE_CHECKING, Any

from jaxpuffer.adapters.adapted import library

if TYPE_CHECKING:
    from jaxpuffer.adapters.pettingzoo_env import PettingZooEnv


def to_pettingzoo(env: Any, *, render_mode: str | None = None, **params: Any) -> "PettingZooEnv":
    """A world of several agents as a `pettingzoo.ParallelEnv`; its agents are "agent_0", "agent_1" ...

    In our worlds an agent that ended begins a new episode in the world that goes on. PettingZoo's agents have one
    episode each: one that ended leaves `agents`, and its place in the world is played at random (with legal actions,
    drawn from the seed) until no agent is left or the world ends. To train on all episodes use `to_gymnasium`, whose
    rows are agents.

    Args:
        env: a name, which is stepped in C where the C half is built; or an environment of either backend.
        render_mode: None, or "rgb_array" for a `render()` that returns a picture.
        params: the environment's parameters, if `env` is a name.

    The info of an agent holds `action_mask` if some actions can be illegal, and when it ended `episode_return`,
    `episode_length`, `score` and `perf`.

    Raises:
        ImportError: PettingZoo is not installed.
        ValueError, TypeError: an environment of one agent, or an argument, or later an action, that is not allowed.
    """
    library("pettingzoo", "pettingzoo")
    from jaxpuffer.adapters.pettingzoo_env import PettingZooEnv

    return PettingZooEnv(env, render_mode, **params)
