"""Policy: a network with its parameters, and the protocol that a user's own module must follow."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxpuffer.config import PPOConfig
from jaxpuffer.memory import check_memory
from jaxpuffer.networks import ActorCritic
from jaxpuffer.pytree import PyTreeNode, static
from jaxpuffer.spaces import zeros


class Policy(PyTreeNode):
    """A network with its parameters, as `evaluate`, `animate` and `save` take it."""

    params: Any
    module: Any = static(default=None)
    normalizer: Any = None  # of observations, None if there is none
    returns: Any = None  # the critic's units, None if there are none
    relative: bool = static(default=False)  # give values minus the mean return, as training needs them

    def __call__(self, carry: Any, obs: Any, reset: Array, mask: Array | None) -> Any:
        """One step of `rows` agents: (carry, distribution, value (rows,))."""
        carry, distribution, value = self.sequence(carry, *jax.tree.map(lambda x: x[None], (obs, reset, mask)))
        return carry, jax.tree.map(lambda x: x[0] if x.ndim > 1 else x, distribution), value[0]

    def sequence(self, carry: Any, obs: Any, reset: Array, mask: Array | None) -> Any:
        """Steps of `rows` agents in order, time first: (carry, distribution, value (time, rows))."""
        if self.normalizer is not None:
            obs = self.normalizer(obs)
        carry, distribution, value = self.module.apply({"params": self.params}, carry, obs, reset, mask)
        if self.returns is not None:
            value = self.returns.relative(value) if self.relative else self.returns.value(value)
        return carry, distribution, value


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
    """The module of a run, the config's if None, after checking that it follows the protocol of `jaxpuffer.networks`.

    Raises:
        TypeError: it does not follow it.
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
        obs = zeros(space, (time, rows))
        variables = module.init(jax.random.key(0), carry, obs, jnp.zeros((time, rows), bool), None)
        if set(variables) - {"params"}:
            raise TypeError(f"{name} has variables in {', '.join(variables)}; a policy has only params")
        out = module.apply(variables, carry, obs, jnp.zeros((time, rows), bool), None)
        if not isinstance(out, tuple) or len(out) != 3:
            raise TypeError(f"{name} returns {type(out).__name__}; a policy returns (carry, distribution, value)")
        carry_after, distribution, value = out
        _, first, _ = Policy(variables["params"], module)(carry, zeros(space, (rows,)), jnp.zeros(rows, bool), None)
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
