"""Two players of a game with two sides, and their games against each other."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.config import bots_of
from jaxpuffer.devices import computing_on
from jaxpuffer.env import Env, has_sides, random_action
from jaxpuffer.league import bot_action, outcome
from jaxpuffer.play import Play, act, begin
from jaxpuffer.policy import Policy
from jaxpuffer.pytree import PyTreeNode, static


class Scripted(PyTreeNode):
    """A scripted player: one of the environment's `bots`, by default the strongest, its last.

    If it has none, its `player`, which is made to reach rare states and not to win.
    """

    name: str = static(default="")

    def __str__(self) -> str:
        return f"scripted player {self.name}" if self.name else "scripted player"


class Random(PyTreeNode):
    """Legal actions, each with the same probability."""

    def __str__(self) -> str:
        return "random player"


MANY = 50  # games, after which a side without any won is conspicuous

Player = Policy | Scripted | Random


def named_player(env: Any, player: Any) -> Any:
    """The player with the name that a scripted one gets in this environment.

    Raises:
        ValueError: the environment has no such bot, or no two sides.
    """
    twin = getattr(env, "env", env)
    name = type(twin).__name__
    if not has_sides(env):
        raise ValueError(f"{name} is no game of two sides: it has no to_play(state) and no teams")
    bots = bots_of(env)
    if not isinstance(player, Scripted):
        return player
    if not player.name and not bots and type(twin).player is Env.player:  # which plays at random
        return Random()
    if player.name and player.name not in bots:
        has = ", ".join(bots) or "none"
        raise ValueError(f"the player is Scripted({player.name!r}); {name} has the bots {has}")
    return Scripted(player.name or ("", *bots)[-1])


class Played(PyTreeNode):
    """Games of two players, one entry for each; in outcome to episode_return the first player's."""

    outcome: Array  # float32 (games,), its side's mean score, minus that of the other side; NaN: it is not known
    score: Array  # float32 (games,), of its side
    perf: Array  # float32 (games,)
    episode_return: Array  # float32 (games,)
    episode_length: Array  # int32 (games,), steps of both
    side: Array  # int32 (games,), which side the first player had
    finished: Array  # bool (games,), False for a game that still ran at the last step
    turns_known: Array  # bool (games,), False if `to_play` was neither 0 nor 1


def play_games(
    env: Any, first: Player, second: Player, key: Array, max_steps: int, games: int, deterministic: bool
) -> Played:
    """`games` games, in every other one of which `first` is side 0, as NumPy arrays.

    Raises:
        ValueError: who has won cannot be said, because a score or a reward is NaN (that of an action out of range, or
            of a bot's that the mask forbids, is), or `to_play` is neither 0 nor 1.

    Warns if one side wins some games, the other none, and the rest are draws, as with a score that is not centred.
    """
    with computing_on(key):
        played = _play_games(env, first, second, key, jnp.int32(max_steps), games=games, deterministic=deterministic)
    played = jax.tree.map(np.asarray, played)
    unknown, name = int(np.isnan(played.outcome).sum()), type(getattr(env, "env", env)).__name__
    if unknown:
        if not played.turns_known.all():
            why = "to_play is neither 0 nor 1"
        elif np.isnan(played.score).any() and not np.isnan(played.episode_return).any():
            why = "a score is NaN"
        else:
            why = "a reward or score is NaN, as after an action that is out of range, or a bot's that the mask forbids"
        raise ValueError(f"in {unknown} of {games} games of {name} nobody can say who has won: {why}")
    won = np.sign(np.where(played.side == 0, played.outcome, -played.outcome))[played.finished]
    for side, sign in ((0, 1), (1, -1)):  # who has not won, and the sign of the games that it would have
        if len(won) >= MANY and not (won == sign).any() and 0 < (won == 0).sum() < len(won):
            warnings.warn(
                f"side {1 - side} won {(won == -sign).sum()} of {len(won)} games of {name}, side {side} none, and the "
                f"others are draws: if side {side} can win, the score is not centred; it must be above 0 where side 0 "
                "wins, and below 0 where side 1 does",
                stacklevel=2,
            )
    return played


@functools.partial(jax.jit, static_argnames=("games", "deterministic"))
def _play_games(
    env: Any, first: Player, second: Player, key: Array, max_steps: Array, games: int, deterministic: bool
) -> Played:
    """The same as JAX arrays, with an outcome of NaN where nobody can say who has won.

    A player sees every observation of its game, those of the other side's moves among them, as it does in training.
    """
    batch, players = env.batch(games), (first, second)
    agents = env.num_agents
    key_envs, *keys = jax.random.split(key, 3)
    side = jnp.arange(games, dtype=jnp.int32) % 2
    has_turns = batch.env.teams is None
    teams = jnp.zeros((1, 1), jnp.int32) if has_turns else jnp.array(batch.env.teams)[None]
    own = teams == (0 if has_turns else side[:, None])  # agents whose numbers are the first player's

    def one(carried: Any) -> Any:
        steps, plays, (ended, score, perf, total, length, turns_known) = carried
        turn = batch.to_play(plays[0].envs)
        moves = own.reshape(-1) if turn is None else turn == side
        (a, of_first), (b, of_second) = (_choose(batch, *x, deterministic) for x in zip(players, plays, strict=True))
        action = jnp.where(moves.reshape(-1, *[1] * (of_first.ndim - 1)), of_first, of_second)
        envs, step = batch.transition(plays[0].envs, action.reshape(games, *env.agent_shape, *action.shape[1:]))

        # of every agent its first episode
        def of_agents(x: Array) -> Array:
            return x.reshape(games, agents)

        running, now = ~ended, of_agents(step.log.n > 0)
        first_end = running & now
        score = jnp.where(first_end, of_agents(step.log.score), score)
        perf = jnp.where(first_end, of_agents(step.log.perf), perf)
        total = total + jnp.where(running, of_agents(step.reward), 0.0)
        if turn is not None:
            turns_known = turns_known & ((turn == 0) | (turn == 1) | ~running[:, 0])
        length = length + jnp.int32(running.any(1))

        envs, obs = batch.reset_ended(envs, step)
        obs = jax.tree.map(lambda x, old: x.reshape(old.shape), obs, plays[0].obs)
        plays = [play.replace(envs=envs, obs=obs, reset=step.ended.reshape(-1)) for play in (a, b)]
        return steps + 1, plays, (ended | now, score, perf, total, length, turns_known)

    streams = [rng.seed(k, (games * agents,)) for k in keys]
    modules = [player.module if isinstance(player, Policy) else _NoMemory for player in players]
    plays = [begin(batch, m, rng.seed(key_envs, (games,)), s) for m, s in zip(modules, streams, strict=True)]
    zeros = jnp.zeros((games, agents), jnp.float32)
    found = (zeros > 0, zeros, zeros, zeros, jnp.zeros(games, jnp.int32), jnp.ones(games, bool))
    _, plays, (ended, *numbers, length, turns_known) = lax.while_loop(
        lambda c: ~c[-1][0].all() & (c[0] < max_steps), one, (jnp.int32(0), plays, found)
    )
    now = [x.reshape(games, agents) for x in batch.score(plays[0].envs)]
    score, perf = (jnp.where(ended, x, y) for x, y in zip(numbers, now, strict=False))

    # in turns the numbers are those of side 0; where an environment has no perf of its own, that is the score
    mirrored = has_turns & (side == 1)
    whole = 0.0 if type(batch.env).perf is Env.perf else 1.0

    def of_side(x: Array) -> Array:
        return jnp.where(own, x, 0.0).sum(1) / jnp.float32(own.sum(1))

    return Played(
        outcome=jnp.where(jnp.isnan(numbers[2]).any(1) | ~turns_known, jnp.nan, outcome(batch.env, score, side)),
        score=jnp.where(mirrored, -1.0, 1.0) * of_side(score),
        perf=jnp.where(mirrored, whole - of_side(perf), of_side(perf)),
        episode_return=jnp.where(mirrored, -1.0, 1.0) * of_side(numbers[2]),
        episode_length=length,
        side=side,
        finished=ended.all(1),
        turns_known=turns_known,
    )


def _choose(batch: Any, player: Player, play: Play, deterministic: bool) -> tuple[Play, Array]:
    """What a player would do as every agent, (rows, ...)."""
    if isinstance(player, Policy):
        play, choice = act(batch, player, play, deterministic)
        return play, choice.action
    env, state = batch.env, batch.unpack(play.envs).env
    streams = play.streams.reshape(batch.num_envs, -1, 2)
    if isinstance(player, Random):
        action = jax.vmap(lambda s, stream: random_action(env, s, stream))(state, streams[:, 0])
    elif player.name:
        action = jax.vmap(lambda s, stream: bot_action(env, s, stream, player.name))(state, streams[:, 0])
    else:
        action = jax.vmap(lambda s, stream: env.player(s, stream))(state, streams[:, 0])
    action = action.reshape(len(play.streams), *env.action_space.shape)
    return play.replace(streams=jax.vmap(lambda s: rng.bits(s)[0])(play.streams)), action


class _NoMemory:
    @staticmethod
    def initialize_carry(rows: int) -> tuple[()]:
        return ()
