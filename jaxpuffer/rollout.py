"""rollout: states, observations, actions and rewards of many steps, to look at or to learn from.

`evaluate` keeps only scores, `animate` only pictures; this keeps everything.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.devices import computing_on, in_32_bits
from jaxpuffer.env import random_action
from jaxpuffer.evaluate import as_policy, check_count, check_deterministic, check_policy
from jaxpuffer.host import HostEnv
from jaxpuffer.memory import check_kept
from jaxpuffer.play import Choice, Play, act, begin, go_on, legal_actions, transition
from jaxpuffer.policy import Policy
from jaxpuffer.ppo import Result
from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.registry import as_env


class Trajectory(PyTreeNode):
    """Steps in order. Arrays begin with the axes (steps, num_envs), in worlds of several agents (steps, num_envs,
    agents), except those of `state`, which begin with (steps, num_envs)."""

    state: Any  # before the step, as `env.render` takes it
    obs: Any  # of this state
    mask: Any  # bool (..., n), the actions that are legal in this state; None if all are
    action: Array
    reward: Array  # float32
    terminated: Array  # bool, the rules ended the episode in this step
    truncated: Array  # bool, the time limit ended it
    next_obs: Any  # after the step and before any reset: an episode's last observation is here

    @property
    def ended(self) -> Array:
        return self.terminated | self.truncated


@in_32_bits
def rollout(
    env: Any,
    policy: Policy | Result | None,
    key: Array,
    *,
    steps: int = 1000,
    num_envs: int = 1,
    deterministic: bool = False,
) -> Trajectory:
    """Play `steps` steps in each of `num_envs` fresh environments, and keep all of them.

    Episodes that end begin again in the same step. Compiles once per kind of environment and policy, `steps` and
    `num_envs`.

    Args:
        env: an environment of either backend, or a registered name.
        policy: the result of a single run, or its policy; None plays legal actions at random, with equal
            probabilities, and the numbers of a Box between its bounds.
        key: a JAX key.
        steps: number of steps.
        num_envs: number of environments.
        deterministic: take the policy's most likely action in every step; otherwise actions are sampled.

    Raises:
        ValueError: `steps` or `num_envs` is below 1, or the result does not fit in memory.
        TypeError: the policy was made for other spaces, or holds several runs, an argument is of a wrong type,
            or Python steps the environment.
    """
    check_count("steps", steps)
    check_count("num_envs", num_envs)
    check_deterministic(deterministic)
    env, key = as_env(env), rng.check_key(key)
    if isinstance(env, HostEnv):
        raise TypeError(f"{env.name} is stepped by Python; rollout plays environments in JAX or C")
    if policy is not None:
        policy = as_policy(policy)
        check_policy(env, policy)
    check_kept(env, int(steps), int(num_envs))
    with computing_on(key):
        return _play(env, policy, key, steps=int(steps), num_envs=int(num_envs), deterministic=deterministic)


@functools.partial(jax.jit, static_argnames=("steps", "num_envs", "deterministic"))
def _play(env: Any, policy: Policy | None, key: Array, steps: int, num_envs: int, deterministic: bool) -> Trajectory:
    batch = env.batch(num_envs)
    key_envs, key_actions = jax.random.split(key)

    def one(play: Play, i: Array) -> tuple[Play, Trajectory]:
        if policy is None:
            drawn, choice = play, _at_random(batch, play, jax.random.fold_in(key_actions, i))
        else:
            drawn, choice = act(batch, policy, play, deterministic)
        after, step = transition(batch, drawn, choice)
        mask = choice.mask
        made = Trajectory(
            state=getattr(play.envs, "env", play.envs),
            obs=jax.tree.map(per_world, play.obs),
            mask=None if mask is None else per_world(mask),
            action=per_world(choice.action),
            reward=step.reward,
            terminated=step.terminated,
            truncated=step.truncated,
            next_obs=step.obs,
        )
        return go_on(batch, after, step), made

    def per_world(x: Array) -> Array:
        return x.reshape(num_envs, *env.agent_shape, *x.shape[1:])

    rows = num_envs * env.num_agents
    streams = rng.seed(key_actions, (rows,))
    play = begin(batch, _NoMemory if policy is None else policy.module, rng.seed(key_envs, (num_envs,)), streams)
    return lax.scan(one, play, jnp.arange(steps, dtype=jnp.int32))[1]


class _NoMemory:
    """In the place of a policy's module, for random play."""

    @staticmethod
    def initialize_carry(rows: int) -> tuple[()]:
        return ()


def _at_random(batch: Any, play: Play, key: Array) -> Choice:
    states, streams = batch.unpack(play.envs).env, rng.seed(key, (batch.num_envs,))
    action = jax.vmap(random_action, in_axes=(None, 0, 0))(batch.env, states, streams)
    action = action.reshape(-1, *batch.env.action_space.shape)
    unknown = jnp.zeros(len(action), jnp.float32)
    return Choice(legal_actions(batch, play), action, log_prob=unknown, value=unknown)
