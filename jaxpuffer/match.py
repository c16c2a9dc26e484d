"""match: two players of a game with two sides against each other, and how often each wins.

`tournament` lets several play, each against each, and estimates their Elo.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.devices import in_32_bits
from jaxpuffer.evaluate import check_count, check_deterministic, checked_player
from jaxpuffer.league import SPREAD
from jaxpuffer.memory import check_fits
from jaxpuffer.players import Random, Scripted, play_games
from jaxpuffer.policy import Policy
from jaxpuffer.ppo import Result
from jaxpuffer.pytree import PyTreeNode
from jaxpuffer.registry import as_env

RESAMPLES = 200  # for an interval
PRIOR = 0.5  # won, drawn and lost games of a pair that Jeffreys' prior adds to those played


class Match(PyTreeNode):
    """The games of two players, NumPy arrays with one entry per game."""

    outcome: np.ndarray  # float32 (games,), above 0 if the first player won, below 0 if it lost
    side: np.ndarray  # int32 (games,), which side it had; in games of turns 0 usually begins
    episode_length: np.ndarray  # int32 (games,), steps
    finished: np.ndarray  # bool (games,), False for a game that still ran at the last step: a draw

    def shares(self, side: int | None = None) -> dict[str, tuple[float, float, float]]:
        """Shares of won, drawn and lost games with their 95 % intervals: (share, low, high); of one side if given.

        The intervals are Wilson's (1927, JASA 22), which are also right for shares of 0 and 1.
        """
        outcome = self._outcome() if side is None else self._outcome()[self.side == side]
        return {
            name: (float(part.mean()), *wilson(int(part.sum()), len(part)))
            for name, part in (("wins", outcome > 0), ("draws", outcome == 0), ("losses", outcome < 0))
        }

    @property
    def points(self) -> float:
        """Games won by the first player; a draw is half of one."""
        return float((0.5 + 0.5 * np.sign(self._outcome())).sum())

    def _outcome(self) -> np.ndarray:
        return np.where(self.finished, self.outcome, 0.0)

    def __str__(self) -> str:
        def line(name: str, side: int | None) -> str:
            parts = (
                f"{k} {100 * p:.1f} % ({100 * a:.1f} to {100 * b:.1f})" for k, (p, a, b) in self.shares(side).items()
            )
            count = len(self.side) if side is None else int((self.side == side).sum())
            return f"{name:<11} {', '.join(parts)}, {count} games"

        left = int((~self.finished).sum())
        note = [f"{left} unfinished games count as draws"] if left else []
        return "\n".join([line("both sides", None), line("on side 0", 0), line("on side 1", 1), *note])


def wilson(successes: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, (low, high)."""
    from scipy import stats  # takes a while to import

    interval = stats.binomtest(successes, count).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@in_32_bits
def match(
    env: Any,
    first: Policy | Result | Scripted | Random,
    second: Policy | Result | Scripted | Random,
    key: Array,
    *,
    games: int = 1000,
    max_steps: int = 20_000,
    deterministic: bool = False,
) -> Match:
    """Play `games` games, in every other one of which `first` is side 0.

    Args:
        env: an environment of two sides (`Env.to_play` or `Env.teams`), of either backend, or a registered name.
        first: the player whose outcome is kept: the result of a single run, its policy, `Scripted(name)` for one of the
            environment's `bots`, `Scripted()` for the strongest, or `Random()`.
        second: its opponent, the same.
        key: a key that was not used for training.
        games: how many, an even number.
        max_steps: steps after which a game that still runs is a draw.
        deterministic: policies take their most likely action; otherwise actions are sampled.

    Raises:
        ValueError: `games` is odd or below 2, `max_steps` is below 1, the environment has no two sides or no such bot,
            the games do not fit in memory, or of a game nobody can say who has won (`players.play_games`).
        TypeError: a player was made for other spaces, or is none; or an argument is of a wrong type.
    """
    check_count("games", games, np.iinfo(np.int32).max, minimum=2)
    check_count("max_steps", max_steps, np.iinfo(np.int32).max)
    check_deterministic(deterministic)
    env, key = as_env(env), rng.check_key(key)
    if games % 2:
        raise ValueError(f"games is {games}; it must be even, so that each player is as often on each side")
    players = checked_player(env, first), checked_player(env, second)
    check_fits(env, "games", games)
    found = play_games(env, players[0], players[1], key, max_steps, games=int(games), deterministic=deterministic)
    return Match(*(np.asarray(x) for x in (found.outcome, found.side, found.episode_length, found.finished)))


class Tournament(PyTreeNode):
    """Games of several players, each against each; names and NumPy arrays in the order of the players."""

    names: tuple[str, ...]
    points: np.ndarray  # float64 (players, players), games won by the row's player; a draw is half of one
    games: np.ndarray  # int64 (players, players)
    elo: np.ndarray  # float64 (players,), with a mean of 0
    low: np.ndarray  # float64 (players,), the 95 % interval
    high: np.ndarray

    def __str__(self) -> str:
        width = max(map(len, (*self.names, "player")))
        lines = [f"{'player':<{width}}    Elo  95 % interval   points   games"]
        for i in np.argsort(-self.elo):
            interval = f"{self.low[i]:+.0f} to {self.high[i]:+.0f}"
            lines.append(
                f"{self.names[i]:<{width}} {self.elo[i]:+6.0f}  {interval:>15} {self.points[i].sum():8.1f} "
                f"{self.games[i].sum():7d}"
            )
        return "\n".join(lines)


def tournament(
    env: Any,
    players: Mapping[str, Policy | Result | Scripted | Random],
    key: Array,
    *,
    games: int = 200,
    max_steps: int = 20_000,
    deterministic: bool = False,
) -> Tournament:
    """Matches of `games` games of each player against each, and their Elo.

    Ratings are the most likely ones of the model of Bradley and Terry (1952), in which a player beats another with
    the odds 10^(difference / 400), for each pair's shares of won, drawn and lost games that are expected after its
    games (the posterior of Jeffreys' prior, which adds half a game of each kind). Intervals are those of 200 draws of
    the shares from the same posterior. So ten games all won give a rating, and no certainty.

    Args:
        players: at least two, by name, each as `match` takes it.
        games: of each pair, an even number.

    Raises:
        ValueError: there are fewer than two players; or as in `match`.
        TypeError: `players` is no dict by name; or as in `match`.
    """
    if not isinstance(players, Mapping) or not all(isinstance(name, str) for name in players):
        raise TypeError("players must be a dict of players by name, as in {'first': result, 'second': Scripted()}")
    if len(players) < 2:
        raise ValueError(f"players has {len(players)} entries; a tournament needs at least two")
    names, count = tuple(players), len(players)
    pairs = list(itertools.combinations(range(count), 2))
    won = np.zeros((count, count, 3))  # losses, draws, wins
    for number, (i, j) in enumerate(pairs):
        pair = jax.random.fold_in(key, number)
        a, b = players[names[i]], players[names[j]]
        played = match(env, a, b, pair, games=games, max_steps=max_steps, deterministic=deterministic)
        shares = played.shares()
        counts = np.array([shares[name][0] for name in ("losses", "draws", "wins")]) * games
        won[i, j], won[j, i] = counts, counts[::-1]
    points = won[..., 2] + 0.5 * won[..., 1]
    draw = np.random.default_rng(np.asarray(jax.random.key_data(rng.check_key(key))))
    drawn = [[draw.dirichlet(won[pair] + PRIOR) for pair in pairs] for _ in range(RESAMPLES)]
    expected = [(won[pair] + PRIOR) / (games + 3 * PRIOR) for pair in pairs]
    elo, *resampled = (bradley_terry(_points_of(count, shares)) for shares in (expected, *drawn))
    low, high = np.quantile(resampled, [0.025, 0.975], 0)
    number_of = games * (1 - np.eye(count, dtype=np.int64))
    return Tournament(names, points, number_of, elo, low, high)


def _points_of(count: int, shares: Sequence[np.ndarray]) -> np.ndarray:
    """Points per game against each, float64 (players, players), of each pair's shares of lost, drawn and won games."""
    points = np.zeros((count, count))
    for (i, j), (losses, draws, wins) in zip(itertools.combinations(range(count), 2), shares, strict=True):
        points[i, j], points[j, i] = wins + 0.5 * draws, losses + 0.5 * draws
    return points


def bradley_terry(points: np.ndarray) -> np.ndarray:
    """The most likely Elo ratings, float64 (players,), with a mean of 0.

    Args:
        points: won against each, float64 (players, players), above 0 for each pair.
    """
    from scipy import optimize, special  # take a while to import

    def loss(strength: np.ndarray) -> tuple[float, np.ndarray]:
        ahead = strength[:, None] - strength[None]
        upset = points * special.expit(-ahead)
        return -(points * special.log_expit(ahead)).sum(), (upset.T - upset).sum(1)

    found = optimize.minimize(loss, np.zeros(len(points)), jac=True, method="BFGS", options={"gtol": 1e-7})
    elo = SPREAD / np.log(10.0) * found.x
    return np.asarray(elo - elo.mean())
