"""Play: agents during their episodes, and the rollouts that they produce.

Training, evaluation and animation play in the same steps: `act`, the environments'
`transition`, and `go_on`, which resets what ended.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxpuffer.config import PPOConfig
from jaxpuffer.distributions import most_likely
from jaxpuffer.env import Log, figure_names
from jaxpuffer.league import answer, with_results
from jaxpuffer.policy import Policy
from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.rows import for_rows
from jaxpuffer.spaces import per_part

TRUNCATED_CHUNK = 64  # truncated rows whose final values are computed together


class Play(PyTreeNode):
    """`num_envs` environments and their agents before a step; `rows` is the number of agents in all worlds."""

    envs: Any  # the batch's state
    obs: Any  # (rows, ...), of the next step
    reset: Array  # bool (rows,), where obs is the first of an episode
    carry: Any  # the policy's memory
    streams: Array  # uint32 (rows, 2), for sampling actions
    games: Any = None  # those against opponents, None if there is no league


class Choice(PyTreeNode):
    """The agents' actions in a step, with the policy's log-probabilities and values."""

    mask: Any  # bool (rows, n), or None if all actions are legal
    action: Array  # (rows, ...)
    log_prob: Array  # float32 (rows,)
    value: Array  # float32 (rows,)


class Rollout(PyTreeNode):
    """`horizon` steps of every row, time first."""

    obs: Any
    reset: Array  # bool
    mask: Any  # bool (time, rows, n) or None
    action: Array
    log_prob: Array
    value: Array
    reward: Array  # scaled and clipped
    ended: Array  # bool
    truncated: Any = None  # bool
    rest: Any = None  # the value of a truncated episode's final observation, otherwise 0
    clipped: Any = None  # bool, reward_clip changed the reward
    # float32, of each step in means: 0 where an agent was out or an opponent moved, 1 on average; None: all the same
    weight: Any = None
    sign: Any = None  # float32, -1 where the other side moves after this step, otherwise 1; None if there are no turns


def begin(batch: Any, module: Any, env_streams: Array, streams: Array) -> Play:
    """New episodes from streams, uint32 (num_envs, 2) for the environments and (rows, 2) for the policy."""
    envs, obs = batch.reset_streams(env_streams)
    rows = len(streams)
    return Play(envs, flat_rows(batch, obs), jnp.ones(rows, bool), module.initialize_carry(rows), streams)


def act(batch: Any, policy: Policy, play: Play, deterministic: bool = False) -> tuple[Play, Choice]:
    """Sample an action for each row, or take the most likely: (play with memory and streams after it, the choice)."""
    mask = legal_actions(batch, play)
    carry, distribution, value = policy(play.carry, play.obs, play.reset, mask)
    if deterministic:
        streams, action = play.streams, most_likely(distribution, play.streams)
    else:
        streams, action = distribution.sample(play.streams)
    choice = Choice(mask, action, distribution.log_prob(action), value)
    return play.replace(carry=carry, streams=streams), choice


def transition(batch: Any, play: Play, choice: Choice) -> tuple[Play, Any]:
    """The environments' step, without resets: (play with their states after it, the `TimeStep`)."""
    shape = batch.num_envs, *batch.env.agent_shape, *choice.action.shape[1:]
    envs, step = batch.transition(play.envs, choice.action.reshape(shape))
    return play.replace(envs=envs), step


def go_on(batch: Any, play: Play, step: Any) -> Play:
    """Reset what ended in a step, and observe."""
    envs, obs = batch.reset_ended(play.envs, step)
    return play.replace(envs=envs, obs=flat_rows(batch, obs), reset=step.ended.reshape(-1))


def legal_actions(batch: Any, play: Play) -> Array | None:
    """The mask of the next step, bool (rows, n), or None if all actions are legal."""
    mask = batch.action_mask(play.envs)
    return None if mask is None else mask.reshape(len(play.streams), -1)


def flat_rows(batch: Any, obs: Any) -> Any:
    """Agents of all worlds along one axis."""
    return per_part(lambda part, x: x.reshape(-1, *part.shape), batch.env.observation_space, obs)


def collect(
    env: Any, policy: Policy, play: Play, config: PPOConfig, opponents: Policy | None = None
) -> tuple[Play, Rollout, Log]:
    """Play `horizon` steps: (the play after them, the rollout, the log summed over all rows).

    Where one of the league's `opponents` moves, the rollout has what the learner would have done, with a weight of 0.
    """
    batch = env.batch(config.num_envs)

    def one(carried: tuple[Play, Log], _: None) -> tuple[tuple[Play, Log], Rollout]:
        before, log = carried
        side = batch.to_play(before.envs)
        play, choice = act(batch, policy, before)
        acted, games = choice, play.games
        if opponents is not None:
            games, action, ours = answer(batch, opponents, config, games, before, choice.mask, choice.action)
            acted = choice.replace(action=action)
        play, step = transition(batch, play, acted)
        weight = None if step.active is None else jnp.float32(step.active.reshape(-1))
        if opponents is not None:
            games = with_results(batch, config, games, step)
            weight = jnp.float32(ours) * (1.0 if weight is None else weight)
        sign, own = None, step.reward.reshape(-1)
        if side is not None:
            sign = jnp.where(batch.to_play(play.envs) == side, jnp.float32(1), jnp.float32(-1))
            # of the side that moved; a number that is no side ends the run, as other rewards that are not finite do
            own = jnp.where(side == 0, own, jnp.where(side == 1, -own, jnp.nan))

        # a truncated episode would have continued
        truncated = step.truncated.reshape(-1)
        rest = truncated_values(batch, policy, play, truncated)
        reward, beyond = shaped(own, config)

        # the barrier lets the reset happen in place, after the old states were read
        envs, rest, sign = lax.optimization_barrier((play.envs, rest, sign))
        play = go_on(batch, play.replace(envs=envs, games=games), step)
        made = (choice.mask, choice.action, choice.log_prob, choice.value, reward)
        rollout = Rollout(before.obs, before.reset, *made, play.reset, truncated, rest, beyond, weight, sign)
        return (play, jax.tree.map(lambda total, x: total + x.reshape(-1), log, step.log)), rollout

    zero = jnp.zeros(config.rows, jnp.float32)
    nothing = Log(*[zero] * 5).replace(figures=dict.fromkeys(figure_names(batch.env), zero) or None)
    (play, log), rollout = lax.scan(one, (play, nothing), length=config.horizon)
    return play, rollout, jax.tree.map(jnp.sum, log)


def shaped(reward: Array, config: PPOConfig) -> tuple[Array, Array]:
    """Rewards as they are trained on: scaled and clipped; and where clipping changed them, bool of the same shape."""
    reward = reward * config.reward_scale
    beyond = jnp.abs(reward) > config.reward_clip
    clipped = jnp.clip(reward, -config.reward_clip, config.reward_clip)
    # infinity must be detected, not clipped to a large reward
    return jnp.where(jnp.isfinite(reward), clipped, jnp.nan), beyond


def next_value(batch: Any, policy: Policy, play: Play) -> Array:
    """The values of the observations that come next, float32 (rows,)."""
    return policy(play.carry, play.obs, play.reset, legal_actions(batch, play))[2]


def truncated_values(batch: Any, policy: Policy, play: Play, truncated: Array) -> Array:
    """Values of the final observations of truncated rows, zero elsewhere, float32 (rows,).

    Computed in chunks on those rows alone, with the memory from before the reset. NaN if such an
    observation is not finite.
    """
    env, rows = batch.env, len(truncated)
    chunk = max(1, min(TRUNCATED_CHUNK, rows // 16))

    def value_some(picked: Array, values: Array) -> Array:
        row = jnp.minimum(picked, rows - 1)
        worlds = batch.take(play.envs, lax.div(row, jnp.int32(env.num_agents)))
        obs = batch.observe(worlds)
        if env.multi_agent:
            agent = lax.rem(row, jnp.int32(env.num_agents))
            obs = jax.tree.map(lambda x: x[jnp.arange(chunk), agent], obs)
        memory = jax.tree.map(lambda x: x[row], play.carry)
        seen = obs if policy.normalizer is None else policy.normalizer.seen(obs)
        _, _, value = policy(memory, seen, jnp.zeros(chunk, bool), None)
        for part in jax.tree.leaves(obs):
            if jnp.issubdtype(part.dtype, jnp.floating):
                value = jnp.where(jnp.isfinite(part).reshape(chunk, -1).all(1), value, jnp.nan)
        return values.at[picked].set(value, mode="drop")

    return for_rows(truncated, chunk, value_some, jnp.zeros(rows, jnp.float32))


def with_rest(rollout: Rollout, returns: Any, config: PPOConfig) -> Rollout:
    """The rollout with rewards for the advantages, which include the value after a truncated step.

    With `returns`, values are relative to their mean, and rewards are made so. The final observation of a
    truncated episode is never trained on, so its value is clipped to what is possible.
    """
    reward, rest = rollout.reward, rollout.rest
    if returns is not None:
        reward = reward - returns.mean * _lost(rollout, config)
        rest = jnp.where(jnp.isfinite(rest), returns.possible(rest, config.gamma), jnp.nan)
    return rollout.replace(reward=reward + jnp.where(rollout.truncated, _discount(rollout, config) * rest, 0.0))


def relative_to(rollout: Rollout, change: Array, config: PPOConfig) -> Rollout:
    """A rollout whose values are relative to a mean return, changed to a mean that is larger by `change`.

    Advantages stay the same. So a constant in the rewards does not use up the digits of a float32.
    """
    # the reward of a step that ended includes everything after it
    lost = 1.0 - _discount(rollout, config) * jnp.float32(~rollout.ended)
    return rollout.replace(value=rollout.value - change, reward=rollout.reward - change * lost)


def _lost(rollout: Rollout, config: PPOConfig) -> Array:
    """The share of a value that a step uses up, (time, rows): all of it if terminated, otherwise 1 - gamma.

    If the other side moves next, it is 1 + gamma.
    """
    terminated = rollout.ended & ~rollout.truncated
    return 1.0 - _discount(rollout, config) * jnp.float32(~terminated)


def _discount(rollout: Rollout, config: PPOConfig) -> Any:
    """What a value after a step counts in it: gamma, and if it is the other side's -gamma."""
    return config.gamma if rollout.sign is None else config.gamma * rollout.sign
