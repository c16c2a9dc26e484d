"""Proximal policy optimisation (Schulman et al., 2017, arXiv 1707.06347) in one jitted program.

    state           = init(env, key, config)
    state, metrics  = update(env, state, config)      # one rollout and its optimisation: play.collect, then learn
    result          = train(env, key, config)         # a scan of updates

All of them are pure: jit them, vmap them over keys, over traced fields of the config
(`config.axes("learning_rate")`) or of the environment. `jaxpuffer.fit` runs `update`
from the host with progress, checkpoints and interruption, `jaxpuffer.sharding` on
several devices.

The algorithm is PufferLib's; what differs between its versions is a field of
`PPOConfig`: the advantage, prioritised segments, the optimiser, the network. The parts
should be read in this order: config, policy, play, advantage, loss, ppo.
"""

import functools
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxpuffer import devices, priority, rng
from jaxpuffer.advantage import RECOMPUTED, advantages
from jaxpuffer.config import PPOConfig, complete
from jaxpuffer.devices import available_cores, computing_on, in_32_bits, on_cpu
from jaxpuffer.env import Log
from jaxpuffer.host import HostEnv
from jaxpuffer.league import after_update, begin_games, begin_league, opponents_of, policies_of
from jaxpuffer.loss import loss
from jaxpuffer.normalizer import Returns, fresh_normalizer
from jaxpuffer.optimizers import make_optimizer
from jaxpuffer.play import Play, Rollout, begin, collect, next_value, relative_to, with_rest
from jaxpuffer.policy import Policy, checked_module, make_module
from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.registry import as_env
from jaxpuffer.spaces import ObservationSpace, Space, limits, mask_sizes, per_part

MAX_UPDATES = 2**31 - 1
OF_EPISODES = ("score", "perf", "episode_return", "episode_length")  # metrics that are NaN if no episode ended
FIGURES = "figures/"  # begins the names of an environment's own figures, which are NaN then too
MUST_BE_FINITE = (  # of the metrics, causes before their effects; shares must be zero
    *("no_legal_action", "nonfinite_value", "nonfinite_reward"),
    *("policy_loss", "value_loss", "entropy", "approx_kl", "grad_norm"),
)
SHARES = {
    "no_legal_action": "the action masks allow no action",
    "nonfinite_reward": "the rewards are NaN or infinite",
    "nonfinite_value": "the values are NaN or infinite, for example after such an observation",
}
SCORE_IS_NAN = (
    "score or perf is NaN for episodes that ended (in a league such a game does not count); look at the environment's "
    "functions"
)
MICROBATCH = 32768  # activations of a layer, 128 KiB, which fit into the cache of a core


class TrainState(PyTreeNode):
    """Everything that training depends on; a run continues exactly after this is saved and restored."""

    params: Any
    opt_state: Any
    play: Play
    key: Array  # uint32 (2,), of a JAX key, for drawing segments
    normalizer: Any  # of observations, None if there is none
    returns: Any  # the critic's units, None if there are none
    pace: Array  # float32 (), from 0 to 1, the factor of gradient steps
    updates: Array  # int32 (), number done; agent-steps are this times config.batch_size
    league: Any = None  # earlier policies to play against, None if there is no league

    def policy(self, module: Any) -> Policy:
        """The policy as it is now."""
        return Policy(self.params, module, self.normalizer, self.returns)

    def playing(self, module: Any) -> Policy:
        """The policy that plays a rollout: its values are relative to the mean return if that is kept."""
        return self.policy(module).replace(relative=self.returns is not None)


class Result(PyTreeNode):
    """The result of `train`; under vmap every leaf has the mapped axes in front."""

    policy: Policy
    state: TrainState
    metrics: dict[str, Array]  # one entry per update
    config: PPOConfig
    env: Any

    @property
    def league_policies(self) -> list[Policy]:
        """The policies of its league's pool, the oldest first; none without a league."""
        return policies_of(self.state.league, self.policy.module)


@in_32_bits
def init(env: Any, key: Array, config: PPOConfig, module: Any = None) -> TrainState:
    """The state before the first update, from a JAX key; the arguments are those of `train`."""
    module = module or make_module(env, config)
    key_params, key_envs, key_streams = jax.random.split(key, 3)
    return start(env, module, config, key_params, *fresh_streams(config, key_envs, key_streams))


def fresh_streams(config: PPOConfig, key_envs: Array, key_streams: Array) -> tuple[Array, Array]:
    """Streams of the environments, uint32 (num_envs, 2), and of the policy, uint32 (rows, 2)."""
    return rng.seed(key_envs, (config.num_envs,)), rng.seed(key_streams, (config.rows,))


def start(
    env: Any, module: Any, config: PPOConfig, key_params: Array, env_streams: Array, streams: Array
) -> TrainState:
    """The state before the first update, from streams."""
    play = begin(env.batch(config.num_envs), module, env_streams, streams)
    obs, reset = jax.tree.map(lambda x: x[None], (play.obs, play.reset))
    params = module.init(key_params, play.carry, obs, reset, None)["params"]
    normalizer = fresh_normalizer(env.observation_space) if config.normalize_observation else None
    return TrainState(
        params=params,
        opt_state=make_optimizer(config).init(params),
        play=play.replace(games=begin_games(module, config, streams)),
        key=rng.seed(key_params),
        normalizer=normalizer,
        returns=Returns.fresh() if config.normalize_return else None,
        pace=jnp.float32(1),
        updates=jnp.int32(0),
        league=begin_league(config, params, normalizer),
    )


@in_32_bits
def update(
    env: Any, state: TrainState, config: PPOConfig, module: Any = None, *, axis: str | None = None
) -> tuple[TrainState, dict[str, Array]]:
    """One rollout and its optimisation: (state, metrics).

    Metrics are float32 (): `agent_steps` (rounded to 24 bits), means over the episodes
    that ended (`score`, `perf`, `episode_return`, `episode_length`; NaN if none did),
    `episodes`, means over the minibatches (`policy_loss`, `value_loss`, `entropy`,
    `approx_kl`, `clip_fraction`, `grad_norm`), `gradient_steps` taken, `pace`, `explained_variance`,
    `reward` per step, and shares of steps (`reward_clipped`, `reward_out_of_range`,
    `nonfinite_reward`, `nonfinite_value`, `no_legal_action`, `observation_out_of_range`,
    `value_out_of_range`). The environment's own figures are `figures/NAME`. Steps of agents that were out count
    in none of them, nor do those of a league's opponents; `league.after_update` has the metrics of one.

    Inside a `shard_map`, `axis` is the mesh axis over which environments and
    minibatches are split; `state` and `config` are then those of one device.
    """
    module = module or make_module(env, config)
    policy = state.playing(module)
    play, played, log = collect(env, policy, state.play, config, opponents_of(state.league, module))
    last_value = next_value(env.batch(config.num_envs), policy, play)
    state, metrics = learn(env, state, config, play, played, log, last_value, module, axis=axis)
    if state.league is None:
        return state, metrics
    league, games, of_league = after_update(state.league, state.play.games, module, config, state, axis)
    return state.replace(league=league, play=state.play.replace(games=games)), metrics | of_league


def learn(
    env: Any,
    state: TrainState,
    config: PPOConfig,
    play: Play,
    played: Rollout,
    log: Log,
    last_value: Array,
    module: Any = None,
    *,
    axis: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """The second half of `update`: learn from a rollout, wherever it was played.

    Args:
        state: from before the rollout.
        play: after the rollout.
        played: the rollout, of `state.playing(module)`.
        log: of the episodes that ended in it, float32 ().
        last_value: float32 (rows,), of the observation after the rollout; anything finite where its last step ended.
    """
    policy = state.playing(module or make_module(env, config))
    returns = state.returns
    if played.weight is not None:
        # means over the steps of those who acted are means over all steps with weights of 1 on average
        acted = devices.mean(played.weight.mean(), axis)
        played = played.replace(weight=played.weight / jnp.maximum(acted, 1e-9))
    if returns is not None:
        # values are relative to the mean return
        terminated = played.ended & ~played.truncated
        returns = returns.with_rewards(played.reward, terminated, config.gamma, axis, played.weight, played.sign)
    rollout = with_rest(played, returns, config)
    advantage = _of_acting(rollout, advantages(config, rollout, last_value))
    target = advantage + rollout.value
    metrics = _of_rollout(env, rollout, played, advantage, target, axis)

    # learn from it, in the current units of the returns
    if returns is not None:
        before, returns = returns, returns.with_batch(target, axis, rollout.weight)
        change = returns.mean - before.mean
        rollout, last_value = relative_to(rollout, change, config), last_value - change
    changes, losses = optimize(policy, state.replace(returns=returns), config, rollout, advantage, last_value, axis)
    normalizer = None if state.normalizer is None else state.normalizer.with_batch(rollout.obs, axis, rollout.weight)
    if normalizer is not None:
        metrics["observation_out_of_range"] = jnp.float32(normalizer.unseen()).mean()
    if normalizer is not None or returns is not None:
        # the first update only measures: it would learn in units that are then replaced
        learns = state.updates > 0
        old = state.params, state.opt_state
        changes = jax.tree.map(lambda new, old: jnp.where(learns, new, old), changes, old)
        unmoved = ("approx_kl", "clip_fraction", "gradient_steps")
        losses |= {name: jnp.where(learns, losses[name], 0.0) for name in unmoved}
    params, opt_state = changes
    pace = _next_pace(state.pace, losses["approx_kl"], config)
    now = {"params": params, "opt_state": opt_state, "play": play, "normalizer": normalizer, "returns": returns}
    state = state.replace(**now, pace=pace, updates=state.updates + 1)
    log = devices.sum(log, axis)
    return state, {
        "agent_steps": jnp.float32(state.updates) * (config.batch_size * devices.size(axis)),
        "score": log.score / log.n,
        "perf": log.perf / log.n,
        "episode_return": log.episode_return / log.n,
        "episode_length": log.episode_length / log.n,
        **{FIGURES + name: x / log.n for name, x in (log.figures or {}).items()},
        "episodes": log.n,
        **losses,
        "pace": pace,
        **metrics,
    }


def _of_rollout(
    env: Any, rollout: Rollout, played: Rollout, advantage: Array, target: Array, axis: str | None
) -> dict[str, Array]:
    """How well the rollout's values predicted their targets, and the shares of its steps with errors."""

    def mean(x: Array) -> Array:
        x = jnp.float32(x)
        return devices.mean(x.mean() if rollout.weight is None or x.ndim != 2 else (x * rollout.weight).mean(), axis)

    def variance(x: Array) -> Array:
        return mean((x - mean(x)) ** 2)

    # in units of the largest, whose square is a float32
    center = mean(target)
    least, greatest = devices.extremes(target - center, axis)
    unit = jnp.maximum(-least, greatest)
    unit = jnp.where(unit > 0, unit, 1.0)
    spread = variance(target / unit)
    deviation = unit * jnp.sqrt(spread)
    residual = variance(advantage / unit) / jnp.maximum(spread, 1e-30)
    size = jnp.abs(played.reward)
    return {
        "explained_variance": 1.0 - residual,
        "reward": mean(played.reward),
        "reward_out_of_range": mean((size > 0) & ((size < 1e-15) | (size > 1e15))),
        "reward_clipped": mean(played.clipped),
        # also of steps that are not trained on, such as that of a scripted opponent with an action out of range
        "nonfinite_reward": devices.mean(jnp.float32(~jnp.isfinite(played.reward)).mean(), axis),
        "nonfinite_value": mean(~(jnp.isfinite(played.value) & jnp.isfinite(played.rest))),
        "no_legal_action": mean(_without_choice(env.action_space, played.mask)),
        "observation_out_of_range": mean(_unknown_tiles(env.observation_space, played.obs)),
        "value_out_of_range": mean(jnp.abs(rollout.value - center) > 10.0 * deviation),
    }


def _next_pace(pace: Array, approx_kl: Array, config: PPOConfig) -> Array:
    """A third less after an update that moved the policy further than `max_kl`, otherwise a twentieth more, at most 1.

    A gradient step that hardly moves a wide normal distribution moves a narrow one by many of its standard
    deviations; a learning rate that is right for the wide one is far too large for the narrow one.
    """
    return jnp.where(approx_kl > config.max_kl, pace / 1.5, jnp.minimum(1.0, pace * 1.05))


def _without_choice(space: Space, mask: Array | None) -> Array:
    """Where a mask, bool (..., n) or None, allows no value for one choice of an action, bool (...)."""
    if mask is None:
        return jnp.zeros((), bool)
    ends = np.cumsum(mask_sizes(space))[:-1]
    return jnp.stack([~part.any(-1) for part in jnp.split(mask, ends, -1)]).any(0)


def _unknown_tiles(space: ObservationSpace, obs: Any) -> Array:
    """Which whole numbers of the last observations of (time, rows, ...) have no one-hot vector, because they are
    outside their space."""

    def unknown(part: Space, seen: Array) -> Array:
        if jnp.issubdtype(seen.dtype, jnp.floating) or seen.dtype == jnp.bool_:
            return jnp.zeros((1,) * seen.ndim, bool)
        low, high, _ = limits(part)
        return (seen[-1] < low[None]) | (seen[-1] > high[None])

    found = jax.tree.leaves(per_part(unknown, space, obs))
    return found[0] if len(found) == 1 else jnp.concatenate([x.reshape(-1) for x in found])


def optimize(
    policy: Policy,
    state: TrainState,
    config: PPOConfig,
    rollout: Rollout,
    advantage: Array,
    last_value: Array,
    axis: str | None = None,
) -> tuple[tuple[Any, Any], dict[str, Array]]:
    """The gradient steps of an update: ((parameters, state of the optimiser), mean losses).

    `policy` is the rollout's; the steps begin from its parameters. `state` has the memory from the
    rollout's start, and the units of the returns updated with this rollout. `advantage` is the result of
    `advantages` before the first gradient step.
    """
    policy = policy.replace(returns=state.returns)
    progress = jnp.minimum(jnp.float32(state.updates) / config.schedule_updates, 1.0)
    fallen = 1.0 - (1.0 - config.min_entropy_share) * progress
    config = config.replace(entropy_coefficient=config.entropy_coefficient * fallen)
    optimizer = make_optimizer(config)
    width = config.minibatch_size // config.horizon  # rows of a minibatch, each with its whole horizon
    size = _microbatch_rows(config, state.play.carry, devices.size(axis))
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key, impl="threefry2x32"), state.updates)
    key = key if axis is None else jax.random.fold_in(key, devices.here(axis))
    # what an advantage that is computed again needs of each step: the value and the ratio when it was last trained on
    latest = (rollout.value, jnp.ones_like(rollout.value)) if config.advantage in RECOMPUTED else None

    def step(carried: Any, count: Array) -> tuple[Any, dict[str, Array]]:
        params, opt_state, latest, taken, _ = carried

        # advantages of all steps, and the critic's targets
        value, ratio = (rollout.value, None) if latest is None else latest
        current = advantage
        if latest is not None:
            current = _of_acting(rollout, advantages(config, rollout, last_value, value, ratio))
        target = current + value
        if state.returns is not None:
            current = current / state.returns.deviation

        # rows of the minibatch
        index, weight = _segments(config, state, current, key, count)
        first_row = lax.rem(count, jnp.int32(config.num_minibatches)) * width

        def rows(x: Array, axis: int, first: Array | int = 0, number: int = width) -> Array:
            if index is None:
                return lax.dynamic_slice_in_dim(x, first_row + first, number, axis)
            return x.take(lax.dynamic_slice_in_dim(index, first, number), axis)

        def put(x: Array, new: Array) -> Array:
            if index is None:
                return lax.dynamic_update_slice_in_dim(x, new, first_row, 1)
            return x.at[:, index].set(new)

        chosen, acting = jax.tree.map(lambda x: rows(x, 1), (current, rollout.weight))
        chosen = normalized(chosen, axis, acting) if config.normalize_advantage else chosen
        chosen = chosen if weight is None else weight[None] * chosen

        # the gradient on it, the mean of its microbatches' and of the devices'
        def differentiate(first: Array | int) -> Any:
            part, goal = jax.tree.map(lambda x: rows(x, 1, first, size), (rollout, target))
            carry = jax.tree.map(lambda x: rows(x, 0, first, size), state.play.carry)
            weighted = lax.dynamic_slice_in_dim(chosen, first, size, 1)
            return jax.grad(loss, has_aux=True)(params, policy, config, carry, part, weighted, goal)

        gradient, (losses, now) = _mean_of_parts(differentiate, width, size)
        gradient, losses = _mean_as_one((gradient, losses), axis)

        # the step
        losses["grad_norm"] = jnp.linalg.norm(ravel_pytree(gradient)[0])
        change, opt_state = optimizer.update(gradient, opt_state, params)
        params = jax.tree.map(lambda p, c: p + state.pace * c, params, change)
        latest = None if latest is None else jax.tree.map(put, latest, now)
        return (params, opt_state, latest, taken + 1.0, losses["approx_kl"]), losses

    def maybe(carried: Any, count: Array) -> tuple[Any, dict[str, Array]]:
        _, shapes = jax.eval_shape(step, carried, count)
        skipped = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return lax.cond(carried[-1] <= config.target_kl, lambda: step(carried, count), lambda: (carried, skipped))

    begin_with = (state.params, state.opt_state, latest, jnp.float32(0), jnp.float32(0))
    counts = jnp.arange(config.gradient_steps, dtype=jnp.int32)
    (params, opt_state, _, taken, _), losses = lax.scan(maybe if config.early_stop else step, begin_with, counts)
    means = jax.tree.map(lambda x: x.sum() / taken, losses)
    return (params, opt_state), {**means, "gradient_steps": taken}


def _of_acting(rollout: Rollout, advantage: Array) -> Array:
    """Advantages, 0 where an agent was out."""
    return advantage if rollout.weight is None else jnp.where(rollout.weight > 0, advantage, 0.0)


def _segments(config: PPOConfig, state: TrainState, advantage: Array, key: Array, count: Array) -> Any:
    """The drawn rows of a minibatch, int32, and the weights of their advantages; (None, None) for rows in order."""
    if config.prioritize == "no":
        return None, None
    width = config.minibatch_size // config.horizon
    probability = priority.probabilities(advantage, config.priority_alpha)
    replacement = config.prioritize == "with_replacement"
    index = priority.draw(jax.random.fold_in(key, count), probability, width, replacement)
    progress = jnp.float32(state.updates) / config.schedule_updates
    beta = priority.annealed_beta(config.priority_beta, progress)
    return index, priority.importance(probability, beta)[index]


def _microbatch_rows(config: PPOConfig, carry: Any, num_devices: int) -> int:
    """Number of rows of a minibatch whose gradient is computed at once; it divides the minibatch evenly."""
    width = config.minibatch_size // config.horizon
    most = config.microbatch_size
    if not most:
        core_each = on_cpu() and num_devices // jax.process_count() >= available_cores()
        # a policy with memory multiplies one step of its rows at a time, and needs more of them
        steps = MICROBATCH // config.hidden * (4 if jax.tree.leaves(carry) else 1)
        most = steps if core_each else config.minibatch_size
    return max(n for n in range(1, width + 1) if width % n == 0 and (n == 1 or n * config.horizon <= most))


def _mean_of_parts(differentiate: Any, rows: int, size: int) -> Any:
    """Call `differentiate(first)`, for `size` rows from `first` on, until all `rows` are done; join the results.

    Returns (gradient, (losses, steps)): the means of gradients and losses, and the
    steps, float32 (time, size), concatenated.
    """
    if size == rows:
        return differentiate(0)

    def part(total: Any, first: Array) -> tuple[Any, Any]:
        gradient, (losses, steps) = differentiate(first)
        return jax.tree.map(jnp.add, total, (gradient, losses)), steps

    gradient, (losses, _) = jax.eval_shape(differentiate, 0)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (gradient, losses))
    total, steps = lax.scan(part, nothing, jnp.arange(0, rows, size, dtype=jnp.int32))
    gradient, losses = jax.tree.map(lambda x: x * (size / rows), total)
    return gradient, (losses, jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(x.shape[1], rows), steps))


def _mean_as_one(tree: Any, axis: str | None) -> Any:
    """The means over the devices, exchanged as one vector: on a CPU, devices wait for each other at every array."""
    if axis is None:
        return tree
    vector, unravel = ravel_pytree(tree)
    return unravel(devices.mean(vector, axis))


def normalized(advantage: Array, axis: str | None = None, weight: Array | None = None) -> Array:
    """A minibatch's advantages with mean 0 and standard deviation 1 over all devices, float32 (time, rows)."""
    if weight is not None:
        total, sums, squares = devices.sum(
            jnp.stack([weight.sum(), (weight * advantage).sum(), (weight * advantage**2).sum()]), axis
        )
        mean = sums / jnp.maximum(total, 1e-9)
        deviation = jnp.sqrt(jnp.maximum(squares / jnp.maximum(total, 1e-9) - mean**2, 0.0))
        return (advantage - mean) / (deviation + 1e-8)
    # one exchange for both
    means, variances = devices.gather(jnp.stack([advantage.mean(), advantage.var()]), axis).T
    mean = means.mean()
    variance = (variances + (means - mean[None]) ** 2).mean()
    return (advantage - mean) / (jnp.sqrt(variance) + 1e-8)


@in_32_bits
def train(env: Any, key: Array, config: PPOConfig | None = None, module: Any = None) -> Result:
    """Train from scratch for `config.total_steps` in one program.

    Needs no `jit` around it, and compiles once per kind of environment and config.
    Prints nothing until it returns: `jaxpuffer.fit` has progress, checkpoints and
    interruption. `jax.vmap(train, in_axes=(None, 0))(env, keys)` trains many seeds.

    Args:
        env: an environment of either backend, or a registered name.
        key: a JAX key.
        config: None for the environment's tuned configuration.
        module: your own Flax module in place of the config's network; `jaxpuffer.networks`
            says what it must provide.

    Raises:
        TypeError: the environment's functions disagree with each other or its spaces,
            or the module does not follow the protocol; or an argument is of a wrong type.
        ValueError: the config's fields do not fit together, or the run does not fit in memory.
    """
    env, key = as_env(env), rng.check_key(key)
    config = complete(env, config)
    if config.num_updates > MAX_UPDATES:
        raise ValueError(
            f"PPOConfig.total_steps is {config.total_steps}, {config.num_updates} updates; train keeps the metrics of "
            f"each, and takes at most {MAX_UPDATES}: raise num_envs or horizon, or use fit, which can be stopped"
        )
    with computing_on(key):
        module = checked_module(env, config, module)
        if isinstance(env, HostEnv):
            from jaxpuffer.host_training import train_on_host  # builds on this module

            result = train_on_host(env, key, config, module)
        else:
            result = _train(env, key, config, module)
    result = result.replace(metrics=with_nan(result.metrics))
    _tell_not_finite(result.metrics)
    return result


def _tell_not_finite(metrics: dict[str, Array]) -> None:
    """Warn, outside of `jit`, of the first update with numbers that are not finite."""
    if isinstance(metrics["policy_loss"], jax.core.Tracer):
        return
    if found := first_not_finite({name: np.asarray(metrics[name]) for name in MUST_BE_FINITE}):
        i, what = found
        warnings.warn(
            f"{what} in update {i + 1} of {len(metrics['policy_loss'])}; nothing was learned from there on, and fit "
            "would have stopped",
            RuntimeWarning,
            stacklevel=4,
        )
    if has_score_of_nan(metrics):
        warnings.warn(SCORE_IS_NAN, RuntimeWarning, stacklevel=4)


def has_score_of_nan(metrics: Mapping[str, Any]) -> bool:
    """Whether score or perf is NaN in an update in which episodes ended."""
    ended = np.asarray(metrics["episodes"]) > 0
    return any(np.isnan(np.asarray(metrics[name])[ended]).any() for name in ("score", "perf"))


def first_not_finite(metrics: Mapping[str, np.ndarray]) -> tuple[int, str] | None:
    """The first of some updates with numbers that are not finite, counted from 0, and which; None if there is none.

    `metrics` are float32 (updates,). Shares of steps count if they are above 0.
    """
    wrong = np.stack(
        [~np.isfinite(metrics[name]) | ((name in SHARES) & (metrics[name] > 0)) for name in MUST_BE_FINITE]
    )
    if not wrong.any():
        return None
    i = int(np.argmax(wrong.any(0)))
    name = MUST_BE_FINITE[int(np.argmax(wrong[:, i]))]
    value = metrics[name][i]
    return i, f"{value:.2%} of {SHARES[name]}" if name in SHARES else f"{name} is {value}"


@functools.partial(jax.jit, static_argnames="module")
def _train(env: Any, key: Array, config: PPOConfig, module: Any) -> Result:
    def step(state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
        state, metrics = update(env, state, config, module)
        return state, without_nan(metrics)

    # the barrier keeps `init` from being compiled into the updates, which would then round differently from `fit`'s
    state = lax.optimization_barrier(init(env, key, config, module))
    state, metrics = lax.scan(step, state, length=config.num_updates)
    return Result(state.policy(module), state, metrics, config, env)


def without_nan(metrics: dict[str, Array]) -> dict[str, Array]:
    """Metrics with other numbers for what is not known yet, so that `jax_debug_nans` finds only other NaNs.

    They are 0 for means over episodes if none ended, and -1 for win rates before a game has.
    """
    known = {name: jnp.where(metrics["episodes"] > 0, metrics[name], 0.0) for name in _of_episodes(metrics)}
    known |= {name: jnp.where(jnp.isnan(metrics[name]), -1.0, metrics[name]) for name in _win_rates(metrics)}
    return metrics | known


def with_nan(metrics: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `without_nan`, after the program, for JAX or NumPy arrays."""
    xp: Any = np if isinstance(metrics["episodes"], np.ndarray) else jnp
    zero, nan = np.float32(0), np.float32(np.nan)
    with jax.debug_nans(False):
        nothing = xp.where(metrics["episodes"] > 0, zero, nan)
        known = {name: metrics[name] + nothing for name in _of_episodes(metrics)}
        known |= {name: xp.where(metrics[name] < 0, nan, metrics[name]) for name in _win_rates(metrics)}
    return metrics | known


def _of_episodes(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics that are means over episodes."""
    return [name for name in metrics if name in OF_EPISODES or name.startswith(FIGURES)]


def _win_rates(metrics: Mapping[str, Any]) -> list[str]:
    """The metrics that are shares of games won in a league."""
    return [name for name in metrics if name.startswith("league/") and "win_rate" in name]
