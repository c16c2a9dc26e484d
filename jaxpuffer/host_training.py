"""Training on environments that Python steps: rollouts are played from the host, the rest of an update is one program.

`train` and `fit` come here with a `HostEnv`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer.config import PPOConfig
from jaxpuffer.env import Log
from jaxpuffer.host import (
    HostEnv,
    Seen,
    Worlds,
    check_outside_jit,
    choose_and_keep,
    collect_on_host,
    final_values,
    nothing_made,
    world_seed,
)
from jaxpuffer.play import Play, Rollout, shaped
from jaxpuffer.ppo import Result, TrainState, init, learn, without_nan

init_on_host = jax.jit(init, static_argnames="module")


def train_on_host(env: HostEnv, key: Array, config: PPOConfig, module: Any) -> Result:
    """What `train` does, without NaN in the metrics.

    Raises:
        TypeError: it is called inside `jit` or `vmap`.
    """
    check_outside_jit(env, key, config)
    with Worlds(env, config.num_envs) as worlds:
        state = begin_on_host(worlds, key, init_on_host(env, key, config, module))
        state, metrics = updates_on_host(worlds, state, config, module, config.num_updates)
    return Result(state.policy(module), state, jax.tree.map(jnp.asarray, metrics), config, env)


def begin_on_host(worlds: Worlds, key: Array, state: TrainState) -> TrainState:
    """The state with new episodes, other ones after each number of updates; `key` is the run's."""
    _, key_envs, _ = jax.random.split(key, 3)
    seed = world_seed(jax.random.fold_in(key_envs, state.updates))
    return state.replace(play=worlds.begin(state.play, seed))


def updates_on_host(
    worlds: Worlds, state: TrainState, config: PPOConfig, module: Any, count: int
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """`count` updates: the state after them and the metrics of `ppo.update`, (count,), without NaN."""
    made = []
    for _ in range(count):
        play, played, log = collect_on_host(worlds, state.playing(module), state.play, config)
        state, metrics = _learn(worlds.env, state, config, module, play, *played, log)
        made.append(metrics)
    return state, jax.tree.map(lambda *x: np.stack(x), *jax.device_get(made))


def compile_on_host(env: HostEnv, state: TrainState, config: PPOConfig, module: Any) -> None:
    """Run each program of an update once, and discard the results, so that the time of compiling is known."""
    policy, play = state.playing(module), state.play
    made = nothing_made(env, policy, play, config.horizon)
    _, _, made = choose_and_keep(env, policy, play, made, np.zeros(config.rows, np.int32))
    final = play.replace(envs=Seen(obs=play.obs.reshape(config.num_envs, *env.agent_shape, *play.obs.shape[1:])))
    final_values(env, policy, final, np.zeros(config.rows, bool))
    numbers, flags = np.zeros(made.reset.shape, np.float32), np.zeros(made.reset.shape, bool)
    raw = made.replace(value=made.value[:-1], reward=numbers, rest=numbers, ended=flags, truncated=flags)
    log = Log(*np.zeros(5, np.float32))
    jax.block_until_ready(_learn(env, state, config, module, play, raw, made.value[-1], log))


@functools.partial(jax.jit, static_argnames="module")
def _learn(
    env: HostEnv, state: TrainState, config: PPOConfig, module: Any, play: Play, raw: Rollout, last: Array, log: Log
) -> tuple[TrainState, dict[str, Array]]:
    """What follows a rollout of `collect_on_host`."""
    reward, clipped = shaped(raw.reward, config)
    state, metrics = learn(env, state, config, play, raw.replace(reward=reward, clipped=clipped), log, last, module)
    return state, without_nan(metrics)
