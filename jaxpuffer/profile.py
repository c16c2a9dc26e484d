"""How the time of an update is spent, measured by running its parts as separate programs."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxpuffer import priority
from jaxpuffer.advantage import RECOMPUTED, advantages
from jaxpuffer.config import PPOConfig
from jaxpuffer.play import Play, Rollout, collect
from jaxpuffer.policy import Policy, checked_module
from jaxpuffer.ppo import TrainState, optimize

REPEATS = 5  # of each part; the median counts


def profile(env: Any, state: TrainState, config: PPOConfig, module: Any = None) -> dict[str, float]:
    """Seconds that each part of one update takes.

    `environment` is the time of the horizon's steps alone, with the actions of a rollout; `policy`
    the rest of a rollout's time; `advantage` that of the advantages and, if segments are
    drawn, of the draws; `optimization` that of the gradient steps without these. It compiles each part,
    which takes some seconds. The parts need not add up exactly to an update, in which XLA may
    merge them. `env`, `config` and `module` are those of `train`.

    Args:
        state: from `ppo.init`, or a run's; it is not changed.
    """
    module = checked_module(env, config, module)
    policy = state.policy(module)

    # rollouts one after the other in one program: they use memory that is already allocated
    shapes = jax.eval_shape(collect, env, policy, state.play, config)[1]
    rollout = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    rollout_seconds, rollout = _timed(_collect, env, policy, state.play, config, rollout, jnp.int32(REPEATS))
    rollout_seconds /= REPEATS
    environment = _timed(_environment, env, state.play.envs, rollout.action, config)[0]
    advantage_seconds = _timed(_advantages, rollout, state, config)[0]
    advantage = _timed(_at_first, rollout, config)[1]
    steps = _timed(_optimize, policy, state, config, rollout, advantage)[0]
    inside = advantage_seconds if config.advantage in RECOMPUTED or config.prioritize != "no" else 0.0
    return {
        "environment": environment,
        "policy": max(0.0, rollout_seconds - environment),
        "advantage": advantage_seconds,
        "optimization": max(0.0, steps - inside),
    }


def time_shares(
    env: Any, state: TrainState, config: PPOConfig, module: Any = None, host: float = 0.0
) -> dict[str, float]:
    """Shares of the parts of `profile` in the time of training; `host` is the share of the host."""
    seconds = profile(env, state, config, module)
    total = sum(seconds.values())
    return {name: (1.0 - host) * part / total for name, part in seconds.items()} | {"host": host}


def shares_line(shares: dict[str, float]) -> str:
    """The shares as one line of text."""
    return "time: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())


def _timed(function: Callable[..., Any], *args: Any) -> tuple[float, Any]:
    out = jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[REPEATS // 2], out


@jax.jit
def _collect(env: Any, policy: Policy, play: Play, config: PPOConfig, rollout: Rollout, count: Array) -> Rollout:
    def again(_: Array, carried: tuple[Play, Rollout]) -> tuple[Play, Rollout]:
        return collect(env, policy, carried[0], config)[:2]

    return lax.fori_loop(jnp.int32(0), count, again, (play, rollout))[1]


@jax.jit
def _environment(env: Any, envs: Any, actions: Array, config: PPOConfig) -> Any:
    batch = env.batch(config.num_envs)

    def step(envs: Any, action: Array) -> tuple[Any, Array]:
        envs, step = batch.step(envs, action.reshape(config.num_envs, *env.agent_shape, *action.shape[1:]))
        return envs, step.reward.sum() + sum(x.reshape(-1)[0].astype(jnp.float32) for x in jax.tree.leaves(step.obs))

    return lax.scan(step, envs, actions)


@jax.jit
def _at_first(rollout: Rollout, config: PPOConfig) -> Array:
    return advantages(config, rollout, rollout.value[-1])


@jax.jit
def _advantages(rollout: Rollout, state: TrainState, config: PPOConfig) -> Array:
    """Compute them as often as an update does."""
    key = jax.random.wrap_key_data(state.key, impl="threefry2x32")
    width = config.minibatch_size // config.horizon
    base = _at_first(rollout, config)

    def step(total: Array, count: Array) -> tuple[Array, None]:
        advantage = base
        if config.advantage in RECOMPUTED:
            ratio = jnp.ones_like(base) + total
            advantage = advantages(config, rollout, rollout.value[-1], rollout.value, ratio)
        if config.prioritize != "no":
            probability = priority.probabilities(advantage + total, config.priority_alpha)
            replacement = config.prioritize == "with_replacement"
            index = priority.draw(jax.random.fold_in(key, count), probability, width, replacement)
            return total + 1e-9 * probability[index].sum(), None
        return total + 1e-9 * advantage.sum(), None

    often = config.advantage in RECOMPUTED or config.prioritize != "no"
    counts = jnp.arange(config.gradient_steps if often else 1, dtype=jnp.int32)
    return lax.scan(step, jnp.float32(0), counts)[0]


@jax.jit
def _optimize(policy: Policy, state: TrainState, config: PPOConfig, rollout: Rollout, advantage: Array) -> Any:
    return optimize(policy, state, config, rollout, advantage, rollout.value[-1])
