"""Proximal policy optimisation (Schulman et al., 2017, arXiv 1707.06347) in one jitted program.

    state           = init(env, key, config)
    state, metrics  = update(env, state, config)      # one rollout and its optimisation
    result          = train(env, key, config)         # a scan of updates

All three are pure: jit them, vmap them over keys, over traced fields of the config
(`config.axes("learning_rate")`) or of the environment. `jaxpuffer.fit` runs `update`
from the host with progress, checkpoints and interruption.
"""

import functools
import importlib.resources
import tomllib
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxpuffer import rng
from jaxpuffer.advantage import gae
from jaxpuffer.env import Log
from jaxpuffer.networks import ACTIVATIONS, MLP
from jaxpuffer.optimizers import make_optimizer
from jaxpuffer.pytree import Parameters, PyTreeNode, param, static
from jaxpuffer.registry import name_of

TRUNCATED_CHUNK = 64  # truncated rows whose final observations are valued together


class PPOConfig(Parameters):
    """Everything that shapes a training run.

    Fields made with `param` are traced: they can be changed without compiling anew and
    vmapped over. Fields made with `static` set shapes or code paths.
    """

    total_steps: int = static(
        default=10_000_000, minimum=1, help="agent-steps to train for, rounded up to whole updates"
    )
    num_envs: int = static(default=1024, minimum=1, help="environments stepped together")
    horizon: int = static(default=64, minimum=1, help="steps of a rollout")
    minibatch_size: int = static(default=8192, minimum=1, help="agent-steps per gradient step")
    update_epochs: int = static(default=1, minimum=1, help="passes over each rollout")
    hidden: int = static(default=128, minimum=1, help="units of a hidden layer")
    layers: int = static(default=1, minimum=0, help="hidden layers")
    activation: str = static(default="gelu", help="of hidden layers: gelu, relu or tanh")
    separate_critic: bool = static(default=False, help="give the critic hidden layers of its own")
    optimizer: str = static(default="muon", help="muon or adam")
    schedule: str = static(default="cosine", help="of the learning rate: constant, linear or cosine, down to 0")
    normalize_advantage: bool = static(default=True, help="per minibatch, to mean 0 and standard deviation 1")
    num_agents: int = static(default=1, minimum=1, help="agents per environment; set from the environment")
    learning_rate: float = param(default=0.015, minimum=0, help="at the start")
    momentum: float = param(default=0.95, minimum=0, maximum=0.99999, help="Muon's beta, Adam's beta1")
    adam_beta2: float = param(default=0.999, minimum=0, maximum=0.999999)
    adam_epsilon: float = param(default=1e-8, minimum=0)
    max_grad_norm: float = param(default=1.5, minimum=0, help="global norm that gradients are clipped to")
    gamma: float = param(default=0.995, minimum=0, maximum=1, help="discount per step")
    gae_lambda: float = param(default=0.9, minimum=0, maximum=1)
    clip: float = param(default=0.2, minimum=0, help="how far a probability ratio may move from 1")
    value_clip: float = param(default=0.2, minimum=0, help="how far a value may move from the rollout's")
    value_coefficient: float = param(default=2.0, minimum=0)
    entropy_coefficient: float = param(default=0.001, minimum=0)
    reward_clip: float = param(default=1.0, minimum=0, help="rewards are clipped to this magnitude")

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {
            "activation": tuple(ACTIVATIONS),
            "optimizer": ("muon", "adam"),
            "schedule": ("constant", "linear", "cosine"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"PPOConfig.{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}")
        if self.rows * self.horizon % self.minibatch_size or self.minibatch_size % self.horizon:
            raise ValueError(
                f"PPOConfig.minibatch_size is {self.minibatch_size}; it must be a multiple of horizon ({self.horizon}) "
                f"that divides num_envs * num_agents * horizon ({self.rows * self.horizon})"
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
        return self.batch_size // self.minibatch_size

    @property
    def num_updates(self) -> int:
        return -(-self.total_steps // self.batch_size)


class Policy(PyTreeNode):
    """A network with its parameters, as `evaluate`, `animate` and `save` take it."""

    params: Any
    module: Any = static(default=None)

    def __call__(self, carry: Any, obs: Array, reset: Array, mask: Array | None) -> Any:
        """One step of `rows` agents: (carry, distribution, value (rows,))."""
        return _apply(self.module, self.params, carry, obs, reset, mask)


class TrainState(PyTreeNode):
    """All that training depends on; saved and restored whole, a run goes on exactly."""

    params: Any
    opt_state: Any
    envs: Any  # the batch's state
    obs: Array  # (rows, ...), of the next step
    reset: Array  # bool (rows,), where obs is the first of an episode
    carry: Any  # the policy's memory
    streams: Array  # uint32 (rows, 2), for sampling actions
    updates: Array  # int32 (), done so far; agent-steps are this times config.batch_size


class Rollout(PyTreeNode):
    """`horizon` steps of every row, time first."""

    obs: Array
    reset: Array  # bool
    mask: Any  # bool (time, rows, n) or None
    action: Array
    log_prob: Array
    value: Array
    reward: Array  # clipped, with the value of a truncated episode's rest
    ended: Array  # bool


class Result(PyTreeNode):
    """What `train` returns; under vmap every leaf has the mapped axes in front."""

    policy: Policy
    state: TrainState
    metrics: dict[str, Array]  # one entry per update
    config: PPOConfig
    env: Any


def init(env: Any, key: Array, config: PPOConfig) -> TrainState:
    """The state before the first update, from a JAX key."""
    module = make_module(env, config)
    key_params, key_envs, key_streams = jax.random.split(key, 3)
    envs, obs = env.batch(config.num_envs).reset(key_envs)
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
        streams=rng.seed(key_streams, (config.rows,)),
        updates=jnp.int32(0),
    )


def update(env: Any, state: TrainState, config: PPOConfig) -> tuple[TrainState, dict[str, Array]]:
    """One rollout and its optimisation: (state, metrics).

    Metrics are float32 (): `agent_steps` (rounded to 24 bits), means over the episodes
    that ended (`score`, `perf`, `episode_return`, `episode_length`; NaN if none did),
    `episodes`, and means over the minibatches (`policy_loss`, `value_loss`, `entropy`,
    `approx_kl`, `clip_fraction`, `grad_norm`), `explained_variance`.
    """
    module = make_module(env, config)
    start_carry = state.carry
    state, rollout, log = collect(env, module, state, config)

    # advantages, with the value of what comes after the rollout
    _, _, last_value = _apply(module, state.params, state.carry, state.obs, state.reset, _mask(env, config, state.envs))
    advantage = gae(rollout.reward, rollout.value, last_value, rollout.ended, config.gamma, config.gae_lambda)
    target = advantage + rollout.value

    state, losses = optimize(module, state, config, rollout, start_carry, advantage, target)

    residual = jnp.var(target - rollout.value)
    state = state.replace(updates=state.updates + 1)
    metrics = {
        "agent_steps": jnp.float32(state.updates) * config.batch_size,
        "score": log.score / log.n,
        "perf": log.perf / log.n,
        "episode_return": log.episode_return / log.n,
        "episode_length": log.episode_length / log.n,
        "episodes": log.n,
        **losses,
        "explained_variance": 1.0 - residual / (jnp.var(target) + 1e-8),
    }
    return state, metrics


def collect(env: Any, module: Any, state: TrainState, config: PPOConfig) -> tuple[TrainState, Rollout, Log]:
    """Play `horizon` steps: the state after them, what happened, and the log summed over all rows."""
    batch = env.batch(config.num_envs)

    def step(carried: tuple[TrainState, Log], _: None) -> tuple[tuple[TrainState, Log], Rollout]:
        state, log = carried

        # act
        mask = _mask(env, config, state.envs)
        carry, distribution, value = _apply(module, state.params, state.carry, state.obs, state.reset, mask)
        streams, action = distribution.sample(state.streams)
        log_prob = distribution.log_prob(action)
        envs, step = batch.transition(state.envs, action.reshape(config.num_envs, *env.agent_shape, *action.shape[1:]))

        # a truncated episode would have gone on: its reward gets the value of the rest
        truncated = step.truncated.reshape(-1)
        rest = truncated_values(env, batch, module, state.params, carry, envs, truncated)
        reward = jnp.clip(step.reward.reshape(-1), -config.reward_clip, config.reward_clip) + config.gamma * rest

        # put back what ended; the barrier lets this happen in place, after the old states were read
        envs, reward = lax.optimization_barrier((envs, reward))
        envs, obs = batch.reset_ended(envs, step)

        ended = step.ended.reshape(-1)
        rollout = Rollout(state.obs, state.reset, mask, action, log_prob, value, reward, ended)
        log = jax.tree.map(lambda total, x: total + x.reshape(-1), log, step.log)
        state = state.replace(envs=envs, obs=_flat_rows(env, obs), reset=ended, carry=carry, streams=streams)
        return (state, log), rollout

    nothing = Log(*[jnp.zeros(config.rows, jnp.float32)] * 5)
    (state, log), rollout = lax.scan(step, (state, nothing), length=config.horizon)
    return state, rollout, jax.tree.map(jnp.sum, log)


def truncated_values(env: Any, batch: Any, module: Any, params: Any, carry: Any, envs: Any, truncated: Array) -> Array:
    """Values of the final observations of truncated rows, zero elsewhere, float32 (rows,).

    Evaluated in chunks on those rows alone, with the carry from before the reset.
    """
    rows = len(truncated)
    chunk = max(1, min(TRUNCATED_CHUNK, rows // 16))

    def value_chunk(carried: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        start, order, values = carried
        picked = lax.dynamic_slice(order, (start,), (chunk,))
        row = jnp.minimum(picked, rows - 1)
        worlds = batch.take(envs, lax.div(row, jnp.int32(env.num_agents)))
        obs = batch.observe(worlds)
        if env.multi_agent:
            obs = obs[jnp.arange(chunk), lax.rem(row, jnp.int32(env.num_agents))]
        memory = jax.tree.map(lambda x: x[row], carry)
        _, _, value = _apply(module, params, memory, obs, jnp.zeros(chunk, bool), None)
        return start + chunk, order, values.at[picked].set(value, mode="drop")

    def value_all(_: Any) -> tuple[Array, Array]:
        # slot k holds the k-th truncated row; the rest point past the end
        rank = jnp.cumsum(jnp.int32(truncated)) - 1
        order = jnp.full(rows + chunk, rows, jnp.int32)
        order = order.at[jnp.where(truncated, rank, rows + chunk)].set(jnp.arange(rows, dtype=jnp.int32), mode="drop")
        start = (jnp.int32(0), order, jnp.zeros(rows, jnp.float32))
        return jnp.bool_(False), lax.while_loop(lambda carried: carried[0] <= rank[-1], value_chunk, start)[2]

    # a loop of one turn or none: vmapped over seeds it still skips what a cond would then compute and discard
    nothing = jnp.zeros(rows, jnp.float32)
    return lax.while_loop(lambda carried: carried[0], value_all, (truncated.any(), nothing))[1]


def optimize(
    module: Any,
    state: TrainState,
    config: PPOConfig,
    rollout: Rollout,
    start_carry: Any,
    advantage: Array,
    target: Array,
) -> tuple[TrainState, dict[str, Array]]:
    """`update_epochs` passes of gradient steps over the rollout: (state, mean losses)."""
    optimizer = make_optimizer(config)
    width = config.minibatch_size // config.horizon  # rows of a minibatch, each with its whole horizon

    def step(carried: tuple[Any, Any], index: Array) -> tuple[tuple[Any, Any], dict[str, Array]]:
        params, opt_state = carried

        def rows(x: Array, axis: int) -> Array:
            return lax.dynamic_slice_in_dim(x, index * width, width, axis)

        minibatch = jax.tree.map(lambda x: rows(x, 1), (rollout, advantage, target))
        carry = jax.tree.map(lambda x: rows(x, 0), start_carry)
        gradient, losses = jax.grad(loss, argnums=1, has_aux=True)(module, params, config, carry, *minibatch)
        losses["grad_norm"] = jnp.linalg.norm(ravel_pytree(gradient)[0])
        change, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, change), opt_state), losses

    order = jnp.tile(jnp.arange(config.num_minibatches, dtype=jnp.int32), config.update_epochs)
    (params, opt_state), losses = lax.scan(step, (state.params, state.opt_state), order)
    return state.replace(params=params, opt_state=opt_state), jax.tree.map(lambda x: x.mean(), losses)


def loss(
    module: Any, params: Any, config: PPOConfig, carry: Any, rollout: Rollout, advantage: Array, target: Array
) -> tuple[Array, dict[str, Array]]:
    """PPO's clipped loss on a minibatch (time, rows), and its parts."""
    _, distribution, value = module.apply({"params": params}, carry, rollout.obs, rollout.reset, rollout.mask)

    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    log_ratio = distribution.log_prob(rollout.action) - rollout.log_prob
    ratio = jnp.exp(log_ratio)
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    policy_loss = -jnp.minimum(advantage * ratio, advantage * clipped).mean()

    near = rollout.value + jnp.clip(value - rollout.value, -config.value_clip, config.value_clip)
    value_loss = 0.5 * jnp.maximum((value - target) ** 2, (near - target) ** 2).mean()

    entropy = distribution.entropy().mean()
    total = policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy
    return total, {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": (ratio - 1.0 - log_ratio).mean(),
        "clip_fraction": (jnp.abs(ratio - 1.0) > config.clip).mean(),
    }


def train(env: Any, key: Array, config: PPOConfig | None = None) -> Result:
    """Train from scratch for `config.total_steps` in one program.

    Needs no `jit` around it, and compiles once per kind of environment and config.
    Shows nothing until it returns: `jaxpuffer.fit` has progress, checkpoints and
    interruption. `jax.vmap(train, in_axes=(None, 0))(env, keys)` trains many seeds.

    Args:
        env: an environment of either backend.
        key: a JAX key.
        config: None for the environment's tuned configuration.

    Raises:
        TypeError: the environment's functions disagree with each other or its spaces.
        ValueError: the config does not fit together.
    """
    return _train(env, key, complete(env, config))


@jax.jit
def _train(env: Any, key: Array, config: PPOConfig) -> Result:
    def step(state: TrainState, _: None) -> tuple[TrainState, dict[str, Array]]:
        return update(env, state, config)

    # the barrier keeps `init` from being compiled into the updates, which would then round differently from `fit`'s
    state = lax.optimization_barrier(init(env, key, config))
    state, metrics = lax.scan(step, state, length=config.num_updates)
    return Result(Policy(state.params, make_module(env, config)), state, metrics, config, env)


def complete(env: Any, config: PPOConfig | None) -> PPOConfig:
    """The config that a run of this environment uses: tuned if None, with the environment's number of agents."""
    if config is None:
        config = tuned_config(env)
    return config if config.num_agents == env.num_agents else config.replace(num_agents=env.num_agents)


def tuned_config(env: Any) -> PPOConfig:
    """The environment's tuned configuration, envs_jax/NAME.toml, or the defaults where there is none."""
    name = name_of(env)
    file = importlib.resources.files("envs_jax") / f"{name}.toml"
    fields = tomllib.loads(file.read_text()) if name and file.is_file() else {}
    return PPOConfig(**fields, num_agents=env.num_agents)


@functools.cache
def _module(*fields: Any) -> MLP:
    return MLP(*fields)


def make_module(env: Any, config: PPOConfig) -> MLP:
    """The network of a run."""
    shape = (config.hidden, config.layers, config.activation, config.separate_critic)
    return _module(env.observation_space, env.action_space, *shape)


def _apply(module: Any, params: Any, carry: Any, obs: Array, reset: Array, mask: Array | None) -> Any:
    """The policy on one step of rows."""
    mask = None if mask is None else mask[None]
    carry, distribution, value = module.apply({"params": params}, carry, obs[None], reset[None], mask)
    distribution = jax.tree.map(lambda x: x[0] if x.ndim > 1 else x, distribution)
    return carry, distribution, value[0]


def _mask(env: Any, config: PPOConfig, envs: Any) -> Array | None:
    mask = env.batch(config.num_envs).action_mask(envs)
    return None if mask is None else mask.reshape(config.rows, -1)


def _flat_rows(env: Any, obs: Array) -> Array:
    """Agents of all worlds along one axis."""
    return obs.reshape(-1, *env.observation_space.shape)
