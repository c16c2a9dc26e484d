"""A league: opponents of games of two sides, frozen copies of the learner from a pool, in the same program.

The last `config.league_games` environments are played against opponents, in as many groups as there are: in a group
all games have the same opponent, and the learner is side 0 in every other one. All opponents are one stacked pytree
that `vmap` evaluates. Who they are changes every `redraw_every` updates; a game that was running then has no result.

    games, action, ours = answer(batch, opponents, config, play, action)   # a step: what the opponents do
    games = with_results(batch, config, games, step)                       # after it: who has won
    league, games = after_update(league, games, ...)                       # Elo, snapshots, the next opponents
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import devices, rng
from jaxpuffer.config import PPOConfig
from jaxpuffer.policy import Policy
from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.spaces import Discrete, Space, limits, mask_sizes

WINDOW = 200  # about how many games a win rate is the mean of
LEAST_WEIGHT = 1e-3  # of an opponent that the learner always beats, so that it is drawn now and then
SPREAD = 400.0  # Elo points for odds of ten to one


class Games(PyTreeNode):
    """The running games against opponents; `rows` are the agents in all of them."""

    carry: Any  # the frozen policies' memory, (rows, ...), without those of the anchors
    streams: Array  # uint32 (rows, 2), for sampling the opponents' actions
    counts: Array  # bool (games,), played against the present opponent from the start
    done: Array  # bool (games, agents), who has ended in this game
    score: Array  # float32 (games, agents), of those
    wins: Array  # float32 (games,), of the learner in this rollout; a draw is half of one
    ended: Array  # float32 (games,), games in this rollout


class League(PyTreeNode):
    """The pool of earlier policies and how the learner does against them and, behind these, the anchors."""

    pool: Any  # of each policy the parameters and what normalises its observations, (capacity, ...)
    size: Array  # int32 (), how many there are, the oldest first
    rating: Array  # float32 (capacity + anchors,), Elo of each; the first anchor, or who has learned nothing, is 0
    win_rate: Array  # float32 (capacity + anchors,), the learner's against each; 0.5 before the first game
    games: Array  # float32 (capacity + anchors,), of which that is the mean, WINDOW at most
    elo: Array  # float32 (), the learner's
    slots: Array  # int32 (opponents,), who plays now
    wins: Array  # float32 (), the learner's since the last snapshot against policies, or if there are none anchors
    ended: Array  # float32 (), those games
    steps: Array  # float32 (), agent-steps since then
    stride: Array  # float32 (), `snapshot_every` is multiplied by this


def begin_games(module: Any, config: PPOConfig, streams: Array) -> Games | None:
    """No game has ended yet; `streams`, uint32 (rows, 2), are those of all agents. None if there is no league."""
    games, agents = config.league_games, config.num_agents
    if not games:
        return None
    carry = module.initialize_carry(games * agents * config.league.opponents // config.league.groups)
    zeros = jnp.zeros(games, jnp.float32)
    own = jax.vmap(_branch)(streams[-games * agents :])
    done = jnp.zeros((games, agents), bool)
    return Games(carry, own, jnp.ones(games, bool), done, jnp.zeros((games, agents), jnp.float32), zeros, zeros)


def _branch(stream: Array) -> Array:
    """A stream of its own."""
    stream, first = rng.bits(stream)
    return jnp.stack([first, rng.bits(stream)[1] | jnp.uint32(1)])


def begin_league(config: PPOConfig, params: Any, normalizer: Any) -> League | None:
    """A pool with the policy that has learned nothing; None if there is no league."""
    league = config.league
    if not league.groups:
        return None
    zeros, zero = jnp.zeros(league.capacity + len(league.anchors), jnp.float32), jnp.float32(0)
    pool = jax.tree.map(lambda x: jnp.broadcast_to(x, (league.capacity, *jnp.shape(x))), (params, normalizer))
    slots = jnp.zeros(league.opponents, jnp.int32)
    return League(pool, jnp.int32(1), zeros, zeros + 0.5, zeros, zero, slots, zero, zero, zero, jnp.float32(1))


def opponents_of(league: League | None, module: Any) -> Policy | None:
    """The frozen policies that play now, stacked."""
    if league is None:
        return None
    params, normalizer = jax.tree.map(lambda x: x[league.slots], league.pool)
    return Policy(params, module, normalizer)


def policies_of(league: League | None, module: Any) -> list[Policy]:
    """The policies of a pool, the oldest first; none without a league."""
    if league is None:
        return []
    each = [jax.tree.map(lambda x, i=i: x[i], league.pool) for i in range(int(league.size))]
    return [Policy(params, module, normalizer) for params, normalizer in each]


def bot_action(env: Any, state: Any, stream: Array, name: str) -> Array:
    """What a scripted opponent does; -1, which is out of range, for a choice that the mask forbids.

    Raises:
        TypeError: it is no action of the environment's, by its shape or dtype.
    """
    action = env.bot(state, stream, name)
    space = env.action_space
    wanted = (*env.agent_shape, *space.shape)
    found = (getattr(action, "shape", None), getattr(action, "dtype", None))
    if found != (wanted, space.dtype):
        raise TypeError(
            f"{type(env).__name__}.bot(state, stream, {name!r}) returned {_in_words(action)}; "
            f"it must be {np.dtype(space.dtype).name} {wanted}"
        )
    mask = env.action_mask(state)
    return action if mask is None else _or_minus_1(space, action, mask)


def _or_minus_1(space: Space, action: Array, mask: Array) -> Array:
    """The action, with -1 for each choice that the mask does not allow."""
    if isinstance(space, Discrete):
        return jnp.where(_allowed(mask, action), action, -1)
    entries, start = [action[..., i] for i in range(action.shape[-1])], 0
    for i, n in zip(np.flatnonzero(limits(space)[2]), mask_sizes(space), strict=True):
        entries[i] = jnp.where(_allowed(mask[..., start : start + n], entries[i]), entries[i], -1)
        start += n
    return jnp.stack(entries, -1).astype(space.dtype)


def _allowed(mask: Array, choice: Array) -> Array:
    """Whether the mask, bool (..., n), allows the choice, (...)."""
    numbers = lax.broadcasted_iota(choice.dtype, mask.shape, mask.ndim - 1)
    return (mask & (numbers == choice[..., None])).any(-1)


def _in_words(x: Any) -> str:
    return f"{x.dtype} {x.shape}" if hasattr(x, "dtype") else repr(x)


def answer(
    batch: Any, opponents: Policy, config: PPOConfig, games: Games, play: Any, mask: Array | None, action: Array
) -> tuple[Games, Array, Array]:
    """What all agents do where opponents play, too: (games, action (rows, ...), bool (rows,): it is the learner's).

    `play` is from before the step, `mask` its legal actions, and `action` the learner's, as if it played all sides.
    """
    agents, groups = config.num_agents, config.league.groups
    rows = config.league_games * agents
    of_group = rows // groups
    frozen = of_group * config.league.opponents

    # the frozen policies, each in the games of its group
    streams, theirs = games.streams, action[-rows:]
    carry = games.carry
    if frozen:

        def grouped(tree: Any) -> Any:
            return jax.tree.map(lambda x: x[:frozen].reshape(config.league.opponents, of_group, *x.shape[1:]), tree)

        def choose(policy: Policy, carry: Any, streams: Array, obs: Any, reset: Array, mask: Any) -> Any:
            carry, distribution, _ = policy(carry, obs, reset, mask)
            return carry, *distribution.sample(streams)

        last = jax.tree.map(lambda x: x[-rows:], (play.obs, play.reset, mask))
        chosen = jax.vmap(choose)(opponents, *grouped((carry, streams, *last)))
        carry, drawn, acted = jax.tree.map(lambda x: x.reshape(frozen, *x.shape[2:]), chosen)
        streams, theirs = streams.at[:frozen].set(drawn), theirs.at[:frozen].set(acted)

    # the anchors, each in those of its group
    worlds = of_group // agents
    for k, name in enumerate(config.league.anchors):
        group = slice(frozen + k * of_group, frozen + (k + 1) * of_group)
        first = batch.num_envs - config.league_games + group.start // agents
        state = batch.unpack(batch.take(play.envs, jnp.arange(first, first + worlds))).env
        own = streams[group].reshape(worlds, agents, 2)
        acted = jax.vmap(lambda s, stream, name=name: bot_action(batch.env, s, stream, name))(state, own[:, 0])
        theirs = theirs.at[group].set(acted.reshape(of_group, *theirs.shape[1:]))
        streams = streams.at[group].set(jax.vmap(lambda s: rng.bits(s)[0])(streams[group]))

    # whose step it is
    side = _learners_side(config)
    turn = batch.to_play(play.envs)
    here = (turn[-len(side) :, None] if turn is not None else jnp.array(batch.env.teams)[None]) == side[:, None]
    ours = jnp.concatenate([jnp.ones(len(action) - rows, bool), here.reshape(-1)])
    theirs = jnp.where(here.reshape(-1, *[1] * (action.ndim - 1)), action[-rows:], theirs)
    action = jnp.concatenate([action[:-rows], theirs])
    return games.replace(carry=carry, streams=streams), action, ours


def _learners_side(config: PPOConfig) -> Array:
    """Of the games against opponents, int32 (games,)."""
    return jnp.arange(config.league_games, dtype=jnp.int32) % 2


def with_results(batch: Any, config: PPOConfig, games: Games, step: Any) -> Games:
    """The games with who has won, after a step: `outcome` of the first episodes that all agents have had in a game."""
    shape = games.done.shape
    ended, score = (x.reshape(-1, shape[1])[-shape[0] :] for x in (step.log.n > 0, step.log.score))
    score = jnp.where(ended & ~games.done, score, games.score)
    done = games.done | ended
    over = done.all(1)
    result = over & games.counts
    found = outcome(batch.env, score, _learners_side(config))
    result = result & ~jnp.isnan(found)  # nobody can say who has won
    won = 0.5 + 0.5 * jnp.sign(found)
    return games.replace(
        counts=games.counts | over,
        done=done & ~over[:, None],
        score=score,
        wins=games.wins + jnp.where(result, won, 0.0),
        ended=games.ended + jnp.float32(result),
    )


def outcome(env: Any, score: Array, side: Array) -> Array:
    """By how much a side has won, float32 (games,): the mean score of its agents minus that of the other side's.

    `score` is float32 (games, agents), and in a game of turns that of side 0. `side` is int32 (games,).
    """
    if env.teams is None:
        return jnp.where(side == 0, score[:, 0], -score[:, 0])
    own = jnp.array(env.teams)[None] == side[:, None]
    return _mean_where(own, score) - _mean_where(~own, score)


def _mean_where(chosen: Array, x: Array) -> Array:
    return jnp.where(chosen, x, 0.0).sum(1) / jnp.float32(chosen.sum(1))


def after_update(
    league: League,
    games: Games,
    module: Any,
    config: PPOConfig,
    state: Any,
    axis: str | None = None,
) -> tuple[League, Games, dict[str, Array]]:
    """(the league after an update, the games against its next opponents, metrics); `state` is that after the update.

    Metrics are float32 (): `league/elo`; `league/win_rate` against the present opponents and, if there are any,
    `league/anchor_win_rate` against the anchors and `league/win_rate_NAME` against each, of about the last 200 games
    with each; and `league/policies` in the pool. A win rate is NaN before the first game has ended.
    """
    chosen = config.league
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key, impl="threefry2x32"), ~state.updates)
    league, member = _with_results(league, games, config, axis)
    known = jnp.where(league.games > 0, league.win_rate, jnp.nan)
    win_rate = jnp.nanmean(known[member])

    # a snapshot, if it is time
    league = league.replace(steps=league.steps + float(config.batch_size) * devices.size(axis))
    early = (league.ended >= chosen.snapshot_games) & (league.wins > chosen.snapshot_win_rate * league.ended)
    due = early | (league.steps >= chosen.snapshot_every * league.stride)
    full = due & (league.size == chosen.capacity)
    longer = jnp.where(early, 1.0, 2.0)
    league = lax.cond(
        full, lambda league: _every_second(league, chosen.capacity, longer), lambda league: league, league
    )
    league = lax.cond(due, lambda league: _with_snapshot(league, state), lambda league: league, league)

    # who plays next; games that were begun against somebody else have no result
    drawn = jax.random.categorical(key, _log_weights(league, config), shape=league.slots.shape).astype(jnp.int32)
    slots = jnp.where(full | (state.updates % chosen.redraw_every == 0), drawn, league.slots)
    changed = (slots != league.slots) | full
    per_group = config.league_games // chosen.groups
    of_games = jnp.concatenate([changed, jnp.zeros(len(chosen.anchors), bool)]).repeat(per_group)
    zeros = jnp.zeros_like(games.wins)
    games = games.replace(counts=games.counts & ~of_games, wins=zeros, ended=zeros)
    if jax.tree.leaves(games.carry):
        anew = changed.repeat(per_group * config.num_agents)
        fresh = module.initialize_carry(len(anew))

        def restarted(new: Array, old: Array) -> Array:
            return jnp.where(anew.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        games = games.replace(carry=jax.tree.map(restarted, fresh, games.carry))

    metrics = {"elo": league.elo, "win_rate": win_rate, "policies": jnp.float32(league.size)}
    if chosen.anchors:
        scripted = known[chosen.capacity :]
        metrics |= {"anchor_win_rate": jnp.nanmean(scripted)}
        metrics |= {f"win_rate_{name}": scripted[k] for k, name in enumerate(chosen.anchors)}
    return league.replace(slots=slots), games, {f"league/{name}": x for name, x in metrics.items()}


def _with_results(league: League, games: Games, config: PPOConfig, axis: str | None) -> tuple[League, Array]:
    """The league after the games of a rollout, and who played them, int32 (groups,).

    Elo (1978) expects a share of 1 / (1 + 10^((theirs - own) / 400)) and moves a rating by K times what was won beyond
    that. All games of a rollout count at once, so the step is taken implicitly: it is divided by 1 + K times the
    largest slope of the expected wins, and any number of games is stable.
    """
    groups, capacity = config.league.groups, config.league.capacity
    anchors = jnp.arange(capacity, len(league.rating), dtype=jnp.int32)
    member = jnp.concatenate([league.slots, anchors])
    wins, ended = devices.sum(jnp.stack([x.reshape(groups, -1).sum(1) for x in (games.wins, games.ended)]), axis)

    expected = 1.0 / (1.0 + 10.0 ** ((league.rating[member] - league.elo) / SPREAD))
    surplus = wins - ended * expected
    slope = config.league.elo_k * math.log(10.0) / (4.0 * SPREAD)
    elo = league.elo + config.league.elo_k * surplus.sum() / (1.0 + slope * ended.sum())
    zeros = jnp.zeros_like(league.rating)
    of_member = zeros.at[member].add(ended)
    change = -config.league.elo_k * zeros.at[member].add(surplus) / (1.0 + slope * of_member)
    fixed = jnp.arange(len(zeros)) == (capacity if config.league.anchors else 0)

    # the mean of the last games; a snapshot comes early by those against policies, if there are any
    of_policies = config.league.opponents or groups
    count = jnp.maximum(of_member, jnp.minimum(league.games + of_member, WINDOW))
    beyond = zeros.at[member].add(wins) - of_member * league.win_rate
    return league.replace(
        rating=league.rating + jnp.where(fixed, 0.0, change),
        win_rate=league.win_rate + beyond / jnp.maximum(count, 1.0),
        games=count,
        elo=elo,
        wins=league.wins + wins[:of_policies].sum(),
        ended=league.ended + ended[:of_policies].sum(),
    ), member


def _every_second(league: League, capacity: int, longer: Array) -> League:
    """The pool with the oldest policy and every second one after it, and `longer` times the time between snapshots."""
    kept = jnp.minimum(2 * jnp.arange(capacity), capacity - 1)
    of_all = jnp.concatenate([kept, jnp.arange(capacity, len(league.rating))])
    return league.replace(
        pool=jax.tree.map(lambda x: x[kept], league.pool),
        size=jnp.int32((capacity + 1) // 2),
        rating=league.rating[of_all],
        win_rate=league.win_rate[of_all],
        games=league.games[of_all],
        stride=league.stride * longer,
    )


def _with_snapshot(league: League, state: Any) -> League:
    """The pool with the present policy as its newest."""
    zero = jnp.float32(0)
    return league.replace(
        pool=jax.tree.map(lambda x, new: x.at[league.size].set(new), league.pool, (state.params, state.normalizer)),
        rating=league.rating.at[league.size].set(league.elo),
        win_rate=league.win_rate.at[league.size].set(0.5),
        games=league.games.at[league.size].set(0.0),
        size=league.size + 1,
        wins=zero,
        ended=zero,
        steps=zero,
    )


def _log_weights(league: League, config: PPOConfig) -> Array:
    """Logarithms of the weights with which the policies of the pool are drawn, float32 (capacity,)."""
    chosen, index = config.league, jnp.arange(config.league.capacity, dtype=jnp.int32)
    weight = jnp.ones(chosen.capacity, jnp.float32)
    if chosen.draw == "recent":
        weight = jnp.float32(chosen.recency) ** jnp.float32(league.size - 1 - index)
    elif chosen.draw == "prioritized":
        weight = (1.0 - league.win_rate[: chosen.capacity]) ** chosen.priority
    return jnp.where(index < league.size, jnp.log(jnp.maximum(weight, LEAST_WEIGHT)), -jnp.inf)
