"""Our environments, and any vector environment of Gymnasium's, for Stable-Baselines3."""

from typing import TYPE_CHECKING, Any

from jaxpuffer.adapters.adapted import library

if TYPE_CHECKING:
    from jaxpuffer.adapters.stable_baselines3_env import StableBaselines3Env


def to_stable_baselines3(env: Any, num_envs: int = 1, **arguments: Any) -> "StableBaselines3Env":
    """A `stable_baselines3.common.vec_env.VecEnv`, as `PPO("MlpPolicy", ...)` takes it.

    Args:
        env: a name or an environment, as for `to_gymnasium`; or a `gymnasium.vector.VectorEnv` in SAME_STEP mode,
            for example `to_gymnasium(...)` in Gymnasium's wrappers.
        num_envs: number of environments, or of worlds of several agents, whose agents are the rows.
        arguments: the other arguments of `to_gymnasium`.

    The info of a row whose episode ended holds `terminal_observation`, `TimeLimit.truncated`, and `episode` with its
    return `r` and length `l`, which Stable-Baselines3 shows.

    Raises:
        ImportError: Stable-Baselines3 or Gymnasium is not installed.
        ValueError, TypeError: an argument that is not allowed.
    """
    library("stable_baselines3", "stable-baselines3")
    from gymnasium.vector import VectorEnv

    from jaxpuffer.adapters.gymnasium_envs import GymnasiumVectorEnv
    from jaxpuffer.adapters.stable_baselines3_env import StableBaselines3Env

    if not isinstance(env, VectorEnv):
        return StableBaselines3Env(GymnasiumVectorEnv(env, num_envs, **arguments))
    if num_envs != 1 or arguments:
        raise TypeError("a gymnasium.vector.VectorEnv is made already; num_envs and other arguments go with a name")
    return StableBaselines3Env(env)
