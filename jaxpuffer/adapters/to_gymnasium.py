"""Our environments as Gymnasium's: a vector environment, and the ids `jaxpuffer/NAME` in Gymnasium's registry.

Gymnasium 1.0 and later load no plugins by themselves, so the ids exist once `jaxpuffer.adapters` is imported.
`gymnasium.make_vec("jaxpuffer.adapters:jaxpuffer/breakout")` imports it.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from jaxpuffer.adapters.adapted import library
from jaxpuffer.registry import list_envs

if TYPE_CHECKING:
    from jaxpuffer.adapters.gymnasium_envs import GymnasiumVectorEnv


def to_gymnasium(
    env: Any,
    num_envs: int = 1,
    *,
    threads: int = 1,
    autoreset_mode: Any = "SameStep",
    render_mode: str | None = None,
    copy: bool = True,
    **params: Any,
) -> "GymnasiumVectorEnv":
    """A `gymnasium.vector.VectorEnv`, stepped in C if there is a C twin.

    Rows are agents: `num_envs` worlds of several agents are `num_envs * num_agents` rows, in which agent `a` of
    world `w` is row `w * num_agents + a`, and `num_envs` of the result is the number of rows.

    Args:
        env: a name, which is stepped in C where the C half is built; or an environment of either backend, also one
            that is not registered.
        num_envs: number of environments or worlds.
        threads: number of threads that step in C, including the caller's.
        autoreset_mode: "SameStep", in which an episode's last step returns the next one's first observation, and
            `info["final_obs"]` the last; or "NextStep", in which a step whose action is ignored follows the last one.
            Some of Gymnasium's wrappers, such as NormalizeObservation, need "NextStep".
        render_mode: None, or "rgb_array" for a `render()` that returns a picture of each environment or world.
        copy: False returns the buffers of `VecEnv`, which the next step overwrites.
        params: the environment's parameters, if `env` is a name.

    `info` holds `action_mask` if some actions can be illegal. If agents can be out before the world's end, it holds
    `active` after a step, bool (num_envs,), who acted: the others' steps are not to be learned from. Where episodes
    ended, it holds `final_obs` and `final_info` with `episode_return`, `episode_length`, `score` and `perf`, each with
    a mask `_final_obs` and so on.

    Raises:
        ImportError: Gymnasium is not installed.
        ValueError, TypeError: an argument, or later an action, that is not allowed.
    """
    library("gymnasium", "gymnasium")
    from jaxpuffer.adapters.gymnasium_envs import GymnasiumVectorEnv

    return GymnasiumVectorEnv(
        env, num_envs, threads=threads, autoreset_mode=autoreset_mode, render_mode=render_mode, copy=copy, **params
    )


def _register() -> None:
    import gymnasium

    for name in list_envs():
        gymnasium.register(
            id=f"jaxpuffer/{name}",
            entry_point="jaxpuffer.adapters.gymnasium_envs:GymnasiumEnv",
            vector_entry_point="jaxpuffer.adapters.gymnasium_envs:GymnasiumVectorEnv",
            kwargs={"env": name},
        )


if find_spec("gymnasium") is not None:
    _register()
