"""Proximal policy optimisation (Schulman et al., 2017, arXiv 1707.06347) in one jitted program.

    state           = init(env, key, config)
    state, metrics  = update(env, state, config)      # one rollout and its optimisation
    result          = train(env, key, config)         # a scan of updates

All three are pure: jit them, vmap them over keys, over traced fields of the config
(`config.axes("learning_rate")`) or of the environment. `jaxpuffer.fit` runs `update`
from the host with progress, checkpoints and interruption, `jaxpuffer.sharding` on
several devices.

The algorithm is PufferLib's; what differs between its versions is a field of
`PPOConfig`: the advantage, prioritised segments, the optimiser, the network.
"""

import functools
import importlib.resources
import tomllib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxpuffer import priority, rng
from jaxpuffer.advantage import gae, puffer_advantage
from jaxpuffer.batch import ranked
from jaxpuffer.env import Log
from jaxpuffer.machine import available_cores, in_32_bits
from jaxpuffer.memory import check_memory
from jaxpuffer.networks import ACTIVATIONS, DTYPES, ENCODERS, POLICIES, RECURRENT, SCANS, ActorCritic
from jaxpuffer.normalizer import Normalizer, Returns
from jaxpuffer.optimizers import make_optimizer
from jaxpuffer.pytree import Parameters, PyTreeNode, param, static
from jaxpuffer.registry import ancestor_of, as_env, name_of
from jaxpuffer.spaces import Box

TRUNCATED_CHUNK = 64  # truncated rows whose final observations are valued together
DERIVED_MINIBATCH = 8192  # agent-steps at most of a minibatch whose size is not given
MAX_UPDATES = 2**31 - 1
OF_EPISODES = ("score", "perf", "episode_return", "episode_length")  # metrics that are NaN where none ended
MICROBATCH = 32768  # activations of a layer, 128 KiB, which stay in the cache of a core

CHOICES = {
    "policy": POLICIES,
    "encoder": ENCODERS,
    "activation": tuple(ACTIVATIONS),
    "scan": SCANS,
    "precision": DTYPES,
    "advantage": ("gae", "puffer"),
    "prioritize": ("no", "with_replacement", "without_replacement"),
    "optimizer": ("muon", "adam"),
    "schedule": ("constant", "linear", "cosine"),
}


class _Derived(int):
    """A number that was not given: it follows the fields that it comes from when these change."""


class PPOConfig(Parameters):
    """Everything that shapes a training run.

    Fields made with `param` are traced: they can be changed without compiling anew and
    vmapped over. Fields made with `static` set shapes or code paths.
    """

    # how much
    total_steps: int = static(
        default=10_000_000, minimum=1, help="agent-steps to train for, rounded up to whole updates"
    )
    num_envs: int = static(default=1024, minimum=1, help="environments stepped together")
    horizon: int = static(default=64, minimum=1, help="steps of a rollout")
    minibatch_size: int = static(
        default=0, minimum=0, help="agent-steps per gradient step; 0: as many as fit evenly, 8192 at most"
    )
    update_epochs: float = static(
        default=1.0, minimum=0, help="agent-steps trained on per agent-step collected (PufferLib's replay ratio)"
    )
    microbatch_size: int = static(
        default=0,
        minimum=0,
        help="agent-steps whose gradient a device computes at once, at most; 0: what the device does fastest",
    )
    num_agents: int = static(default=1, minimum=1, help="agents per environment; set from the environment")

    # the network
    policy: str = static(default="mlp", help="linear, mlp, mingru or lstm")
    encoder: str = static(default="flat", help="of observations: flat, embedding, grid, entity or image")
    hidden: int = static(default=128, minimum=1, help="units of a hidden layer")
    layers: int = static(default=1, minimum=0, help="hidden layers")
    activation: str = static(default="gelu", help="of hidden layers: gelu, relu or tanh")
    separate_critic: bool = static(default=False, help="give the critic hidden layers of its own")
    scan: str = static(default="sequential", help="mingru's over time: sequential or parallel")
    precision: str = static(default="float32", help="of the network's arithmetic: float32, or bfloat16 over float32")
    normalize_observation: bool = static(
        default=True, help="floats, to mean 0 and standard deviation 1 so far, within 10"
    )

    # rewards and advantages
    gamma: float = param(default=0.995, minimum=0, maximum=1, help="discount per step")
    gae_lambda: float = param(default=0.9, minimum=0, maximum=1)
    reward_scale: float = param(default=1.0, help="rewards are multiplied by this")
    reward_clip: float = param(default=1e9, minimum=0, help="and then clipped to this magnitude")
    normalize_return: bool = static(
        default=True, help="let the critic learn returns in units of their mean and standard deviation so far"
    )
    advantage: str = static(
        default="gae", help="gae: once per rollout; puffer: anew before each gradient step, with V-trace's clips"
    )
    rho_clip: float = param(default=1.0, minimum=0, help="puffer: largest ratio that weights a difference")
    c_clip: float = param(default=1.0, minimum=0, help="puffer: largest ratio that hands on what comes later")
    normalize_advantage: bool = static(default=True, help="per minibatch, to mean 0 and standard deviation 1")
    prioritize: str = static(
        default="no", help="draw the segments of a minibatch by advantage: no, with_replacement, without_replacement"
    )
    priority_alpha: float = param(default=0.8, minimum=0, help="power of a segment's summed absolute advantage")
    priority_beta: float = param(default=0.2, minimum=0, maximum=1, help="power of the weights at first; 1 at the end")

    # the loss
    clip: float = param(default=0.2, minimum=0, help="how far a probability ratio may move from 1")
    value_clip: float = param(
        default=1e9, minimum=0, help="how far a value may move from the rollout's, in the critic's units"
    )
    value_coefficient: float = param(default=2.0, minimum=0)
    entropy_coefficient: float = param(default=0.001, minimum=0)
    early_stop: bool = static(default=False, help="end an update's gradient steps once approx_kl exceeds target_kl")
    target_kl: float = param(default=0.02, minimum=0)

    # the optimiser
    optimizer: str = static(default="muon", help="muon or adam")
    learning_rate: float = param(default=0.015, minimum=0, help="at the start")
    schedule: str = static(default="cosine", help="of the learning rate: constant, linear or cosine")
    min_learning_rate_share: float = param(default=0.0, minimum=0, maximum=1, help="of the learning rate, at the end")
    momentum: float = param(default=0.95, minimum=0, maximum=0.99999, help="Muon's, Adam's beta1")
    adam_beta2: float = param(default=0.999, minimum=0, maximum=0.999999)
    adam_epsilon: float = param(default=1e-8, minimum=0)
    weight_decay: float = param(default=0.0, minimum=0, help="times the learning rate; Muon: matrices alone")
    max_grad_norm: float = param(default=1.5, minimum=0, help="global norm that gradients are clipped to")

    def __post_init__(self) -> None:
        derived = isinstance(self.minibatch_size, _Derived) or not self.minibatch_size
        super().__post_init__()
        if derived:
            most = max(1, min(self.rows, DERIVED_MINIBATCH // self.horizon))
            width = next(n for n in range(most, 0, -1) if self.rows % n == 0)
            object.__setattr__(self, "minibatch_size", _Derived(width * self.horizon))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"PPOConfig.{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}")
        # with one agent the environment, which may have more, is perhaps still to come
        if self.minibatch_size % self.horizon or self.num_agents > 1:
            self.check_minibatch()
        if self.policy in RECURRENT and (self.separate_critic or not self.layers):
            raise ValueError(
                f"PPOConfig.policy is {self.policy!r}; it needs layers of at least 1 ({self.layers}) "
                f"and separate_critic=False ({self.separate_critic})"
            )

    @classmethod
    def pufferlib(cls, **changes: Any) -> "PPOConfig":
        """The defaults with PufferLib's handling of units: rewards and values clipped, nothing normalised.

        For environments made for it, whose rewards are within -1 and 1.
        """
        units = {"reward_clip": 1.0, "value_clip": 0.2, "normalize_observation": False, "normalize_return": False}
        return cls(**(units | changes))

    def check_minibatch(self) -> None:
        """Raise ValueError unless minibatches divide the batch of `num_agents` agents evenly."""
        if self.batch_size % self.minibatch_size or self.minibatch_size % self.horizon:
            raise ValueError(
                f"PPOConfig.minibatch_size is {self.minibatch_size}; it must be a multiple of horizon ({self.horizon}) "
                f"that divides num_envs * num_agents * horizon ({self.batch_size})"
            )

    @property
    def rows(self) -> int:
        """Agents that act at each step."""
        return self.num_envs * self.num_agents

    @property
    def batch_size(self) -> int:
        """Agent-steps of one update."""
        return self.rows * self.horizon

    @property
    def num_minibatches(self) -> int:
        self.check_minibatch()
        return self.batch_size // self.minibatch_size

    @property
    def gradient_steps(self) -> int:
        """Of one update; at least one."""
        return max(1, round(self.update_epochs * self.num_minibatches))

    @property
    def num_updates(self) -> int:
        return -(-self.total_steps // self.batch_size)


class Policy(PyTreeNode):
    """A network with its parameters, as `evaluate`, `animate` and `save` take it."""

    params: Any
    module: Any = static(default=None)
    normalizer: Any = None  # of observations, None without
    returns: Any = None  # the critic's units, None without

    def __call__(self, carry: Any, obs: Array, reset: Array, mask: Array | None) -> Any:
        """One step of `rows` agents: (carry, distribution, value (rows,))."""
        mask = None if mask is None else mask[None]
        carry, distribution, value = self.sequence(carry, obs[None], reset[None], mask)
        return carry, jax.tree.map(lambda x: x[0] if x.ndim > 1 else x, distribution), value[0]

    def sequence(self, carry: Any, obs: Array, reset: Array, mask: Array | None) -> Any:
        """Steps of `rows` agents in order, time first: (carry, distribution, value (time, rows))."""
        if self.normalizer is not None:
            obs = self.normalizer(obs)
        carry, distribution, value = self.module.apply({"params": self.params}, carry, obs, reset, mask)
        return carry, distribution, value if self.returns is None else self.returns.value(value)


class TrainState(PyTreeNode):
    """All that training depends on; saved and restored whole, a run goes on exactly."""

    params: Any
    opt_state: Any
    envs: Any  # the batch's state
    obs: Array  # (rows, ...), of the next step
    reset: Array  # bool (rows,), where obs is the first of an episode
    carry: Any  # the policy's memory
    streams: Array  # uint32 (rows, 2), for sampling actions
    key: Array  # uint32 (2,), of a JAX key, for drawing segments
    normalizer: Any  # of observations, None without
    returns: Any  # the critic's units, None without
    updates: Array  # int32 (), done so far; agent-steps are this times config.batch_size


class Rollout(PyTreeNode):
    """`horizon` steps of every row, time first."""

    obs: Array
    reset: Array  # bool
    mask: Any  # bool (time, rows, n) or None
    action: Array
    log_prob: Array
    value: Array
    reward: Array  # scaled and clipped, with the value of a truncated episode's rest
    ended: Array  # bool
    clipped: Any = None  # bool, the reward was beyond reward_clip


class Result(PyTreeNode):
    """What `train` returns; under vmap every leaf has the mapped axes in front."""

    policy: Policy
    state: TrainState
    metrics: dict[str, Array]  # one entry per update
    config: PPOConfig
    env: Any


@in_32_bits
def init(env: Any, key: Array, config: PPOConfig, module: Any = None) -> TrainState:
    """The state before the first update, from a JAX key; arguments as of `train`."""
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
    envs, obs = env.batch(config.num_envs).reset_streams(env_streams)
    obs = _flat_rows(env, obs)
    reset = jnp.ones(config.rows, bool)
    carry = module.initialize_carry(config.rows)
    params = module.init(key_params, carry, obs[None], reset[None], None)["params"]
    return TrainState(
        params=params,
        opt_state=make_optimizer(config).init(params),
        envs=envs,
        obs=obs,
        reset=reset,
        carry=carry,
        streams=streams,
        key=rng.seed(key_params),
        normalizer=Normalizer.fresh(env.observation_space) if normalizes(env, config) else None,
        returns=Returns.fresh() if config.normalize_return else None,
        updates=jnp.int32(0),
    )


@in_32_bits
def update(
    env: Any, state: TrainState, config: PPOConfig, module: Any = None, axis: str | None = None
) -> tuple[TrainState, dict[str, Array]]:
    """One rollout and its optimisation: (state, metrics).

    Metrics are float32 (): `agent_steps` (rounded to 24 bits), means over the episodes
    that ended (`score`, `perf`, `episode_return`, `episode_length`; NaN if none did),
    `episodes`, means over the minibatches (`policy_loss`, `value_loss`, `entropy`,
    `approx_kl`, `clip_fraction`, `grad_norm`), `gradient_steps` taken, `explained_variance`.

    Inside a `shard_map`, `axis` is the mesh axis over which environments and
    minibatches are split; `state` and `config` are then those of one device.
    """
    module = module or make_module(env, config)
    start_carry, policy = state.carry, Policy(state.params, module, state.normalizer, state.returns)
    state, rollout, log = collect(env, policy, state, config)

    # the value of what comes after the rollout
    _, _, last_value = policy(state.carry, state.obs, state.reset, _mask(env, config, state.envs))
    advantage = gae(rollout.reward, rollout.value, last_value, rollout.ended, config.gamma, config.gae_lambda)

    target = advantage + rollout.value
    if state.returns is not None:
        state = state.replace(returns=state.returns.with_batch(target, axis))
    before = state.params, state.opt_state
    state, losses = optimize(policy, state, config, rollout, start_carry, advantage, last_value, axis)
    if state.normalizer is not None:
        state = state.replace(normalizer=state.normalizer.with_batch(rollout.obs, axis))
    if state.normalizer is not None or state.returns is not None:
        # the first update only measures: what it would learn is in units that nobody keeps
        learns = state.updates > 0
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(learns, new, old), (state.params, state.opt_state), before
        )
        state = state.replace(params=params, opt_state=opt_state)
    if axis is not None:
        log = jax.tree.map(lambda x: lax.psum(x, axis), log)
    # how well the rollout's values knew their targets
    center, deviation = _mean(target, axis), jnp.sqrt(_variance(target, axis))
    residual = _variance(advantage, axis) / jnp.maximum(deviation**2, 1e-30)
    state = state.replace(updates=state.updates + 1)
    devices = 1 if axis is None else lax.axis_size(axis)
    metrics = {
        "agent_steps": jnp.float32(state.updates) * (config.batch_size * devices),
        "score": log.score / log.n,
        "perf": log.perf / log.n,
        "episode_return": log.episode_return / log.n,
        "episode_length": log.episode_length / log.n,
        "episodes": log.n,
        **losses,
        "explained_variance": 1.0 - residual,
        "reward_clipped": _mean(jnp.float32(rollout.clipped), axis),
        "nonfinite_reward": _mean(jnp.float32(~jnp.isfinite(rollout.reward)), axis),
        "nonfinite_value": _mean(jnp.float32(~jnp.isfinite(rollout.value)), axis),
        "value_out_of_range": _mean(jnp.float32(jnp.abs(rollout.value - center) > 10.0 * deviation), axis),
    }
    return state, metrics


def collect(env: Any, policy: Policy, state: TrainState, config: PPOConfig) -> tuple[TrainState, Rollout, Log]:
    """Play `horizon` steps: the state after them, what happened, and the log summed over all rows."""
    batch = env.batch(config.num_envs)

    def step(carried: tuple[TrainState, Log], _: None) -> tuple[tuple[TrainState, Log], Rollout]:
        state, log = carried

        # act
        mask = _mask(env, config, state.envs)
        carry, distribution, value = policy(state.carry, state.obs, state.reset, mask)
        streams, action = distribution.sample(state.streams)
        log_prob = distribution.log_prob(action)
        envs, step = batch.transition(state.envs, action.reshape(config.num_envs, *env.agent_shape, *action.shape[1:]))

        # a truncated episode would have gone on: its reward gets the value of the rest
        truncated = step.truncated.reshape(-1)
        rest = truncated_values(env, batch, policy, carry, envs, truncated)
        reward = step.reward.reshape(-1) * config.reward_scale
        beyond = jnp.abs(reward) > config.reward_clip
        clipped = jnp.clip(reward, -config.reward_clip, config.reward_clip)
        # infinity must show, and not pass for a large reward
        reward = jnp.where(jnp.isfinite(reward), clipped, jnp.nan) + config.gamma * rest

        # put back what ended; the barrier lets this happen in place, after the old states were read
        envs, reward = lax.optimization_barrier((envs, reward))
        envs, obs = batch.reset_ended(envs, step)

        ended = step.ended.reshape(-1)
        rollout = Rollout(state.obs, state.reset, mask, action, log_prob, value, reward, ended, beyond)
        log = jax.tree.map(lambda total, x: total + x.reshape(-1), log, step.log)
        state = state.replace(envs=envs, obs=_flat_rows(env, obs), reset=ended, carry=carry, streams=streams)
        return (state, log), rollout

    nothing = Log(*[jnp.zeros(config.rows, jnp.float32)] * 5)
    (state, log), rollout = lax.scan(step, (state, nothing), length=config.horizon)
    return state, rollout, jax.tree.map(jnp.sum, log)


def truncated_values(env: Any, batch: Any, policy: Policy, carry: Any, envs: Any, truncated: Array) -> Array:
    """Values of the final observations of truncated rows, zero elsewhere, float32 (rows,).

    Evaluated in chunks on those rows alone, with the carry from before the reset.
    """
    rows = len(truncated)
    chunk = max(1, min(TRUNCATED_CHUNK, rows // 16))
    nothing = jnp.zeros(rows, jnp.float32)

    def value_chunk(carried: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        start, order, values = carried
        picked = lax.dynamic_slice(order, (start,), (chunk,))
        row = jnp.minimum(picked, rows - 1)
        worlds = batch.take(envs, lax.div(row, jnp.int32(env.num_agents)))
        obs = batch.observe(worlds)
        if env.multi_agent:
            obs = obs[jnp.arange(chunk), lax.rem(row, jnp.int32(env.num_agents))]
        memory = jax.tree.map(lambda x: x[row], carry)
        _, _, value = policy(memory, obs, jnp.zeros(chunk, bool), None)
        return start + chunk, order, values.at[picked].set(value, mode="drop")

    def value_all(_: Any) -> tuple[Array, Array]:
        order, count = ranked(truncated, chunk)
        start = (jnp.int32(0), order, nothing)
        return jnp.bool_(False), lax.while_loop(lambda carried: carried[0] < count, value_chunk, start)[2]

    # a loop of one turn or none: vmapped over seeds it still skips what a cond would then compute and discard
    return lax.while_loop(lambda carried: carried[0], value_all, (truncated.any(), nothing))[1]


def optimize(
    policy: Policy,
    state: TrainState,
    config: PPOConfig,
    rollout: Rollout,
    start_carry: Any,
    advantage: Array,
    last_value: Array,
    axis: str | None = None,
) -> tuple[TrainState, dict[str, Array]]:
    """The gradient steps of an update: (state, mean losses).

    `policy` is the rollout's; its parameters are where the steps begin.
    """
    policy = policy.replace(returns=state.returns)
    optimizer = make_optimizer(config)
    width = config.minibatch_size // config.horizon  # rows of a minibatch, each with its whole horizon
    size = _microbatch_rows(config, start_carry, 1 if axis is None else lax.axis_size(axis) // jax.process_count())
    progress = jnp.float32(state.updates) / float(config.num_updates)
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key, impl="threefry2x32"), state.updates)
    if axis is not None:
        key = jax.random.fold_in(key, lax.axis_index(axis))
    # what the puffer advantage needs of each step: the value and the ratio when it was last trained on
    latest = (rollout.value, jnp.ones_like(rollout.value)) if config.advantage == "puffer" else None

    def step(carried: Any, count: Array) -> tuple[Any, dict[str, Array]]:
        params, opt_state, latest, taken, _ = carried

        # the advantages of all steps
        all_advantage, base = advantage, rollout.value
        if latest is not None:
            base, ratio = latest
            clips = config.gamma, config.gae_lambda, config.rho_clip, config.c_clip
            all_advantage = puffer_advantage(rollout.reward, base, last_value, rollout.ended, ratio, *clips)

        goal = all_advantage + base
        if state.returns is not None:
            all_advantage = all_advantage / state.returns.deviation

        # a minibatch: rows in turn, or drawn
        weight = None
        if config.prioritize == "no":
            begin = lax.rem(count, jnp.int32(config.num_minibatches)) * width
            index: Any = None
        else:
            probability = priority.probabilities(all_advantage, config.priority_alpha)
            replacement = config.prioritize == "with_replacement"
            index = priority.draw(jax.random.fold_in(key, count), probability, width, replacement)
            beta = priority.annealed_beta(config.priority_beta, progress)
            weight = priority.importance(probability, beta)[index]

        def rows(x: Array, axis: int, first: Array | int = 0, number: int = width) -> Array:
            if index is None:
                return lax.dynamic_slice_in_dim(x, begin + first, number, axis)
            return x.take(lax.dynamic_slice_in_dim(index, first, number), axis)

        def put(x: Array, new: Array) -> Array:
            return lax.dynamic_update_slice_in_dim(x, new, begin, 1) if index is None else x.at[:, index].set(new)

        chosen = rows(all_advantage, 1)
        if config.normalize_advantage:
            chosen = normalized(chosen, axis)
        if weight is not None:
            chosen = weight[None] * chosen

        # the gradient on it, the mean of its microbatches'
        def differentiate(first: Array | int) -> Any:
            part, target = jax.tree.map(lambda x: rows(x, 1, first, size), (rollout, goal))
            carry = jax.tree.map(lambda x: rows(x, 0, first, size), start_carry)
            weighted = lax.dynamic_slice_in_dim(chosen, first, size, 1)
            return jax.grad(loss, has_aux=True)(params, policy, config, carry, part, weighted, target)

        gradient, (losses, now) = mean_of_parts(differentiate, width, size)
        if axis is not None:
            # as one vector: on a CPU, devices wait for each other at every array
            vector, unravel = ravel_pytree((gradient, losses))
            gradient, losses = unravel(lax.pmean(vector, axis))
        losses["grad_norm"] = jnp.linalg.norm(ravel_pytree(gradient)[0])
        change, opt_state = optimizer.update(gradient, opt_state, params)
        params = jax.tree.map(lambda p, c: p + c, params, change)
        if latest is not None:
            latest = jax.tree.map(put, latest, now)
        return (params, opt_state, latest, taken + 1.0, losses["approx_kl"]), losses

    def maybe(carried: Any, count: Array) -> tuple[Any, dict[str, Array]]:
        _, shapes = jax.eval_shape(step, carried, count)
        skipped = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        return lax.cond(carried[-1] <= config.target_kl, lambda: step(carried, count), lambda: (carried, skipped))

    begin_with = (state.params, state.opt_state, latest, jnp.float32(0), jnp.float32(0))
    counts = jnp.arange(config.gradient_steps, dtype=jnp.int32)
    (params, opt_state, _, taken, _), losses = lax.scan(maybe if config.early_stop else step, begin_with, counts)
    means = jax.tree.map(lambda x: x.sum() / taken, losses)
    return state.replace(params=params, opt_state=opt_state), {**means, "gradient_steps": taken}


def _microbatch_rows(config: PPOConfig, carry: Any, devices: int) -> int:
    """Rows of a minibatch whose gradient is computed at once: they divide it evenly."""
    width = config.minibatch_size // config.horizon
    most = config.microbatch_size
    if not most:
        core_each = jax.default_backend() == "cpu" and devices >= available_cores()
        # a policy with memory multiplies one step of its rows at a time, and wants more of them
        steps = MICROBATCH // config.hidden * (4 if jax.tree.leaves(carry) else 1)
        most = steps if core_each else config.minibatch_size
    return max(n for n in range(1, width + 1) if width % n == 0 and (n == 1 or n * config.horizon <= most))


def mean_of_parts(differentiate: Any, rows: int, size: int) -> Any:
    """What `differentiate(first)` returns for `size` rows from `first` on, for all `rows` in turn.

    It returns (gradient, (losses, steps)): the means of gradients and losses, and the
    steps, float32 (time, size), side by side.
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


def loss(
    params: Any,
    policy: Policy,
    config: PPOConfig,
    carry: Any,
    rollout: Rollout,
    advantage: Array,
    target: Array,
) -> tuple[Array, tuple[dict[str, Array], tuple[Array, Array]]]:
    """PPO's clipped loss on steps (time, rows): (loss, (its parts, (values, ratios) of every step)).

    `advantage` is as it enters the loss: normalised and weighted already.
    """
    policy = policy.replace(params=params)
    _, distribution, value = policy.sequence(carry, rollout.obs, rollout.reset, rollout.mask)
    all_values = value

    log_ratio = distribution.log_prob(rollout.action) - rollout.log_prob
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    policy_loss = -jnp.minimum(advantage * ratio, advantage * clipped).mean()

    # in the critic's units
    old_value = rollout.value
    if policy.returns is not None:
        per_unit = 1.0 / policy.returns.deviation
        value, old_value, target = value * per_unit, old_value * per_unit, target * per_unit
    near = old_value + jnp.clip(value - old_value, -config.value_clip, config.value_clip)
    value_loss = 0.5 * jnp.maximum((value - target) ** 2, (near - target) ** 2).mean()

    entropy = distribution.entropy().mean()
    total = policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy
    parts = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": (ratio - 1.0 - log_ratio).mean(),
        "clip_fraction": (jnp.abs(ratio - 1.0) > config.clip).mean(),
    }
    return total, (parts, (all_values, ratio))


def normalized(advantage: Array, axis: str | None = None) -> Array:
    """A minibatch's advantages with mean 0 and standard deviation 1 over all devices, float32 (time, rows)."""
    mean, variance = advantage.mean(), advantage.var()
    if axis is not None:
        # one exchange for both
        mean, square = lax.pmean(jnp.stack([mean, variance + mean**2]), axis)
        variance = jnp.maximum(square - mean**2, 0.0)
    return (advantage - mean) / (jnp.sqrt(variance) + 1e-8)


def _mean(x: Array, axis: str | None) -> Array:
    """Over all entries on all devices, ()."""
    return x.mean() if axis is None else lax.pmean(x.mean(), axis)


def _variance(x: Array, axis: str | None) -> Array:
    return _mean((x - _mean(x, axis)) ** 2, axis)


@in_32_bits
def train(env: Any, key: Array, config: PPOConfig | None = None, module: Any = None) -> Result:
    """Train from scratch for `config.total_steps` in one program.

    Needs no `jit` around it, and compiles once per kind of environment and config.
    Shows nothing until it returns: `jaxpuffer.fit` has progress, checkpoints and
    interruption. `jax.vmap(train, in_axes=(None, 0))(env, keys)` trains many seeds.

    Args:
        env: an environment of either backend, or a registered name.
        key: a JAX key.
        config: None for the environment's tuned configuration.
        module: a Flax module of your own in place of the config's network; `jaxpuffer.networks`
            says what it must provide.

    Raises:
        TypeError: the environment's functions disagree with each other or its spaces,
            or the module does not do what a policy must; or an argument is of a wrong type.
        ValueError: the config does not fit together, or not in memory.
    """
    env, key = as_env(env), rng.check_key(key)
    config = complete(env, config)
    if config.num_updates > MAX_UPDATES:
        raise ValueError(
            f"PPOConfig.total_steps is {config.total_steps}, {config.num_updates} updates; train keeps the metrics of "
            f"each, and takes at most {MAX_UPDATES}: raise num_envs or horizon, or take fit, which can be stopped"
        )
    result = _train(env, key, config, checked_module(env, config, module))
    return result.replace(metrics=with_nan(result.metrics))


@functools.partial(jax.jit, static_argnames="module")
def _train(env: Any, key: Array, config: PPOConfig, module: Any) -> Result:
    def step(state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
        state, metrics = update(env, state, config, module)
        return state, without_nan(metrics)

    # the barrier keeps `init` from being compiled into the updates, which would then round differently from `fit`'s
    state = lax.optimization_barrier(init(env, key, config, module))
    state, metrics = lax.scan(step, state, length=config.num_updates)
    return Result(Policy(state.params, module, state.normalizer, state.returns), state, metrics, config, env)


def without_nan(metrics: dict[str, Array]) -> dict[str, Array]:
    """Metrics with 0 for NaN where no episode ended, so that `jax_debug_nans` finds others alone in a program."""
    known = {name: jnp.where(metrics["episodes"] > 0, metrics[name], 0.0) for name in OF_EPISODES}
    return metrics | known


def with_nan(metrics: dict[str, Array]) -> dict[str, Array]:
    """The opposite of `without_nan`, after the program."""
    with jax.debug_nans(False):
        nothing = jnp.where(metrics["episodes"] > 0, 0.0, jnp.nan)
        return metrics | {name: metrics[name] + nothing for name in OF_EPISODES}


def complete(env: Any, config: PPOConfig | None) -> PPOConfig:
    """The config that a run of this environment uses: tuned if None, with the environment's number of agents.

    Raises:
        TypeError: `config` is no PPOConfig.
        ValueError: minibatches do not divide the batch of so many agents.
    """
    if config is None:
        config = tuned_config(env)
    if not isinstance(config, PPOConfig):
        hint = ": PPOConfig(**config)" if isinstance(config, dict) else ""
        raise TypeError(f"config is {config!r:.100}; it must be a PPOConfig or None{hint}")
    config = config if config.num_agents == env.num_agents else config.replace(num_agents=env.num_agents)
    config.check_minibatch()
    return config


def tuned_config(env: Any) -> PPOConfig:
    """The environment's tuned configuration, envs_jax/NAME.toml, or the defaults where there is none.

    A class derived from a registered environment's takes that one's, and a warning says so.
    """
    name = ancestor_of(env)
    if name and name_of(env) is None:
        cls = type(getattr(env, "env", env)).__name__
        warnings.warn(f"{cls} has no configuration of its own; it takes {name}'s", stacklevel=3)
    file = importlib.resources.files("envs_jax") / f"{name}.toml"
    fields = tomllib.loads(file.read_text()) if name and file.is_file() else {}
    return PPOConfig(**fields, num_agents=env.num_agents)


@functools.cache
def _module(*fields: Any) -> ActorCritic:
    return ActorCritic(*fields)


def make_module(env: Any, config: PPOConfig) -> ActorCritic:
    """The network that the config describes.

    Raises:
        TypeError: it does not fit the environment's spaces.
    """
    spaces = env.observation_space, env.action_space
    shape = config.hidden, config.layers, config.activation, config.separate_critic
    dtype = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}[config.precision]
    return _module(*spaces, *shape, config.policy, config.encoder, dtype, config.scan)


def checked_module(env: Any, config: PPOConfig, module: Any = None) -> Any:
    """The module of a run, the config's if None, found to do what `jaxpuffer.networks` asks of a policy.

    Raises:
        TypeError: it does not.
        ValueError: the run cannot fit in memory.
    """
    if module is None:
        check_memory(env, config)
    space = env.observation_space
    if module is None:
        return make_module(env, config)
    name = type(module).__name__
    for method in ("initialize_carry", "init", "apply"):
        if not callable(getattr(module, method, None)):
            raise TypeError(f"{name} has no {method}; a policy is a Flax module with initialize_carry and __call__")

    time, rows = 3, 2
    action_space = env.action_space

    def play(streams: Array) -> Any:
        carry = module.initialize_carry(rows)
        obs = jnp.zeros((time, rows, *space.shape), space.dtype)
        variables = module.init(jax.random.key(0), carry, obs, jnp.zeros((time, rows), bool), None)
        if set(variables) - {"params"}:
            raise TypeError(f"{name} has variables in {', '.join(variables)}; a policy has params alone")
        out = module.apply(variables, carry, obs, jnp.zeros((time, rows), bool), None)
        if not isinstance(out, tuple) or len(out) != 3:
            raise TypeError(f"{name} returns {type(out).__name__}; a policy returns (carry, distribution, value)")
        carry_after, distribution, value = out
        _, first, _ = Policy(variables["params"], module)(carry, obs[0], jnp.zeros(rows, bool), None)
        _, action = first.sample(streams)
        log_prob = distribution.log_prob(jnp.broadcast_to(action[None], (time, *action.shape)))
        return carry, carry_after, action, log_prob, distribution.entropy(), value

    streams = jax.ShapeDtypeStruct((rows, 2), jnp.uint32)
    carry, carry_after, action, log_prob, entropy, value = jax.eval_shape(play, streams)

    def kinds(tree: Any) -> Any:
        return jax.tree.structure(tree), [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]

    if kinds(carry_after) != kinds(carry):
        raise TypeError(f"{name} returns the carry {carry_after}; it must be like the one it began with, {carry}")
    if any(x.shape[:1] != (rows,) for x in jax.tree.leaves(carry)):
        raise TypeError(f"{name}.initialize_carry({rows}) gives {carry}; first axes must have length {rows}")
    steps, number = (time, rows), jnp.float32
    for what, got, shape, dtype in (
        ("value", value, steps, number),
        ("distribution.log_prob", log_prob, steps, number),
        ("distribution.entropy", entropy, steps, number),
        ("distribution.sample", action, (rows, *action_space.shape), action_space.dtype),
    ):
        if got.shape != shape or got.dtype != dtype:
            wanted = f"{jnp.dtype(dtype).name}{list(shape)}"
            raise TypeError(
                f"{name}: {what} is {got.dtype}{list(got.shape)} for {time} steps of {rows} rows; it must be {wanted}"
            )
    return module


def normalizes(env: Any, config: PPOConfig) -> bool:
    """Whether observations are normalised: those that are a Box of floats, where the config says so."""
    space = env.observation_space
    return config.normalize_observation and isinstance(space, Box) and jnp.issubdtype(space.dtype, jnp.floating)


def _mask(env: Any, config: PPOConfig, envs: Any) -> Array | None:
    mask = env.batch(config.num_envs).action_mask(envs)
    return None if mask is None else mask.reshape(config.rows, -1)


def _flat_rows(env: Any, obs: Array) -> Array:
    """Agents of all worlds along one axis."""
    return obs.reshape(-1, *env.observation_space.shape)
