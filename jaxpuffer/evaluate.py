"""The scores of a policy: first episodes of fresh environments, played to their ends.

Do not use a key that was used for training. The convention is `evaluation_key(key)`, where
`key` is the run's: `fit` and the command line evaluate with it. So a run has only one
seed, and its evaluation still contains no episode of its training.
"""

import functools
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.config import PPOConfig
from jaxpuffer.devices import computing_on, in_32_bits
from jaxpuffer.env import figure_names, has_sides
from jaxpuffer.host import HostEnv, Worlds, check_outside_jit, choose, world_seed
from jaxpuffer.memory import check_fits
from jaxpuffer.play import Play, act, begin, go_on, transition
from jaxpuffer.players import Random, Scripted, named_player, play_games
from jaxpuffer.policy import Policy
from jaxpuffer.ppo import FIGURES, OF_EPISODES, Result
from jaxpuffer.pytree import PyTreeNode, static
from jaxpuffer.registry import as_env
from jaxpuffer.spaces import shapes

EVALUATION_SHARE = 0.1  # share of the time for evaluations before the training score reaches the one to stop at
HOST_WORLDS = 64  # host-stepped environments of an evaluation that are played together; each may be a process
_EVALUATION = 0x6576616C  # "eval"; far from the small numbers that jax.random.split folds in


class Evaluation(PyTreeNode):
    """Episodes of an evaluation, NumPy arrays with one entry per episode."""

    score: np.ndarray | Array  # float32 (episodes,)
    perf: np.ndarray | Array  # float32 (episodes,), the score scaled to 0..1
    episode_return: np.ndarray | Array  # float32 (episodes,)
    episode_length: np.ndarray | Array  # int32 (episodes,), steps
    finished: np.ndarray | Array  # bool (episodes,), False for an episode that still ran at the last step
    figures: Any = None  # the environment's own, a dict of float32 (episodes,), None if it has none
    opponent: str | None = static(default=None)  # in games of two sides

    @property
    def unfinished(self) -> int:
        """How many episodes still ran after `max_steps` and count as they were then."""
        return int((~self.finished).sum())

    def summary(self) -> dict[str, Any]:
        """For each measure the mean, its standard error (NaN for one episode) and the count; and `unfinished`."""
        measures = {name: getattr(self, name) for name in OF_EPISODES}
        measures |= {FIGURES + name: x for name, x in (self.figures or {}).items()}
        return {name: _statistics(x) for name, x in measures.items()} | {"unfinished": self.unfinished}

    def __str__(self) -> str:
        def line(name: str, mean: float, standard_error: float, count: int) -> str:
            if count == 1:
                return f"{name:<15} {readable(mean, 4):>12} (1 episode)"
            numbers = f"{readable(mean, 4):>12} ± {readable(standard_error, 4)}"
            return f"{name:<15} {numbers} (standard error, {count} episodes)"

        summary = self.summary()
        unfinished = summary.pop("unfinished")
        notes = [f"{unfinished} unfinished: counted as they were after max_steps"] if unfinished else []
        notes += [f"against: {self.opponent}, on each side in half of the games"] if self.opponent else []
        return "\n".join([*(line(name, **values) for name, values in summary.items()), *notes])


def evaluation_key(key: Array, count: int = 0) -> Array:
    """The key of a run's `count`-th evaluation, independent of all keys that training draws from `key`."""
    return jax.random.fold_in(jax.random.fold_in(key, _EVALUATION), count)


@in_32_bits
def evaluate(
    env: Any,
    policy: Policy | Result,
    key: Array,
    *,
    episodes: int = 256,
    max_steps: int = 20_000,
    deterministic: bool = False,
    opponent: Policy | Result | Scripted | Random | None = None,
) -> Evaluation:
    """Play the first episode of each of `episodes` fresh environments.

    Worlds of several agents: the first episode of every agent, in as many worlds as are
    needed for `episodes` agents. Stops when all have ended, or after `max_steps`
    steps; an episode that still runs then counts with its current score. Compiles
    once per kind of environment, policy and number of episodes. A host-stepped environment
    plays at most 64 worlds together, in as many rounds as are needed.

    Games of two sides: `episodes` games (one more if that is odd) against `opponent`, half of them on each side; the
    numbers are those of the policy's side.

    Args:
        env: an environment of either backend, or a registered name.
        policy: the result of a single run, or its policy.
        key: a key not used for training: `evaluation_key(key)` of the run's key.
        episodes: the least number of episodes.
        max_steps: the largest number of steps.
        deterministic: take the most likely action in every step (of a Box: the means); otherwise actions are sampled.
        opponent: in games of two sides; by default the strongest of the environment's bots, or its `player`.

    Raises:
        ValueError: `episodes` or `max_steps` is below 1, or does not fit in 32 bits or in memory; or the
            policy's parameters are not finite; or there is an opponent and no other side, or it is no bot's name; or
            of a game of two sides nobody can say who has won (`players.play_games`).
        TypeError: the policy was made for other spaces, or holds several runs stacked by `vmap`; or an argument is
            of a wrong type; or `deterministic` is True and the policy's distribution has no `mode`.
    """
    for name, value in (("episodes", episodes), ("max_steps", max_steps)):
        check_count(name, value, np.iinfo(np.int32).max)
    check_deterministic(deterministic)
    env, policy, key = as_env(env), as_policy(policy), rng.check_key(key)
    check_policy(env, policy)
    check_fits(env, "episodes", episodes)
    if not all_finite(policy.params):
        raise ValueError("the policy has parameters that are NaN or infinite; training failed")
    if opponent is not None or has_sides(env):
        chosen = checked_player(env, Scripted() if opponent is None else opponent)
        games = int(episodes) + int(episodes) % 2
        result = play_games(env, policy, chosen, key, max_steps, games=games, deterministic=deterministic)
        numbers = {name: getattr(result, name) for name in (*OF_EPISODES, "finished")}
        return Evaluation(**numbers, opponent=player_in_words(chosen))
    if isinstance(env, HostEnv):
        check_outside_jit(env, key, policy)
        with computing_on(key):
            return _play_on_host(env, policy, key, max_steps, episodes, deterministic)
    with computing_on(key):
        worlds = -(-episodes // env.num_agents)
        played = _play(env, policy, key, jnp.int32(max_steps), worlds=worlds, deterministic=deterministic)
    return jax.tree.map(np.asarray, played)


class Evaluations:
    """The evaluations of a run between its updates: at intervals, or to see whether the run has reached a score.

    Without `every` they are made whenever the training score has reached `stop_at_score`, and otherwise as long as
    they take a tenth of the time.

    Args:
        key: the run's.
        every: agent-steps between two evaluations; None evaluates only for `stop_at_score`.
        episodes: of one evaluation.
        stop_at_score: the score to reach; None for no such score.

    Attributes:
        seconds: time of all evaluations.

    Raises:
        TypeError: `every` or `episodes` is not an int.
        ValueError: `every` is below 1, or `episodes` is below 2 or does not fit in 32 bits.
    """

    def __init__(
        self, env: Any, key: Array, config: PPOConfig, every: float | None, episodes: int, stop_at_score: float | None
    ) -> None:
        if every is not None:
            check_count("evaluate_every", int(every) if isinstance(every, float) and every.is_integer() else every)
        elif episodes != 256 and stop_at_score is None:
            raise ValueError(f"evaluate_episodes is {episodes}, and nothing is evaluated; set evaluate_every")
        check_count("evaluate_episodes", episodes, np.iinfo(np.int32).max, minimum=2)  # for a standard error
        self.env, self.key, self.config = env, key, config
        self.every = None if every is None else int(every)  # it may be 1e6
        self.episodes, self.stop_at_score = int(episodes), stop_at_score
        self.seconds = 0.0

    def compile(self, policy: Policy, updates: int) -> None:
        """Evaluate for one step, so that the time of compiling is known separately."""
        if self.every is not None or self.stop_at_score is not None:
            self._evaluate(policy, updates, max_steps=1)

    def updates_left(self, updates: int) -> int:
        """How many updates after `updates` the next evaluation at an interval is due, or else the run's last."""
        end = self.config.num_updates
        if self.every is not None:
            next_steps = (updates * self.config.batch_size // self.every + 1) * self.every
            end = min(end, -(-next_steps // self.config.batch_size))
        return end - updates

    def reached(self, policy: Policy, updates: int, means: dict[str, float], seconds: float) -> bool:
        """Evaluate if it is time to, and say whether `stop_at_score` is reached, after `seconds` of the run.

        It adds `evaluated_score` and its standard error to `means` after an evaluation.
        """
        if self.every is not None:
            due = self.updates_left(updates - 1) == 1
        else:  # the training score is NaN if no episode has ended yet
            due = self.stop_at_score is not None and not (
                means["score"] < self.stop_at_score and self.seconds >= EVALUATION_SHARE * seconds
            )
        if not due:
            return False
        began = time.perf_counter()
        score = self._evaluate(policy, updates).summary()["score"]
        self.seconds += time.perf_counter() - began
        means["evaluated_score"] = score["mean"]
        means["evaluated_score_error"] = score["standard_error"]
        # of many evaluations the first to reach the score was a lucky one: stop only if well above it
        return self.stop_at_score is not None and score["mean"] - 2.0 * score["standard_error"] >= self.stop_at_score

    def _evaluate(self, policy: Policy, updates: int, **options: Any) -> Evaluation:
        key = evaluation_key(self.key, updates)
        return evaluate(self.env, policy, key, episodes=self.episodes, **options)


def check_count(name: str, value: Any, maximum: float = math.inf, minimum: int = 1) -> None:
    """Raise TypeError or ValueError, naming the argument, unless `value` is an int from `minimum` to `maximum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} is {value!r}; it must be an int")
    if value < minimum:
        raise ValueError(f"{name} is {value}; it must be at least {minimum}")
    if value > maximum:
        raise ValueError(f"{name} is {value}; it must fit in 32 bits")


def check_deterministic(deterministic: Any) -> None:
    """Raise TypeError unless `deterministic` is a bool, which decides what is compiled."""
    if not isinstance(deterministic, bool):
        raise TypeError(f"deterministic is {deterministic!r}; it must be True or False")


def all_finite(tree: Any) -> bool:
    """Whether every number in a pytree is finite; on the host, since a program for it would take longer to compile."""
    return all(bool(np.isfinite(x).all()) for x in jax.tree.leaves(jax.device_get(tree)))


def as_policy(policy: Any) -> Policy:
    """The policy itself, or that of a result.

    Raises:
        TypeError: `policy` is neither.
    """
    policy = policy.policy if isinstance(policy, Result) else policy
    if not isinstance(policy, Policy):
        raise TypeError(
            f"policy is a {type(policy).__name__}; it must be a Policy, or the result of train, fit or load"
        )
    return policy


def checked_player(env: Any, player: Any) -> Any:
    """A player of a game of two sides: a policy that fits the environment, `Scripted` with a name, or `Random`.

    Raises:
        TypeError: it is none, or the policy was made for other spaces.
        ValueError: the environment has no two sides, or no such bot; or the policy's parameters are not finite.
    """
    if not isinstance(player, Scripted | Random):
        if not isinstance(player, Policy | Result):
            raise TypeError(f"a player is a {type(player).__name__}; it must be a Policy, a Result, Scripted or Random")
        player = as_policy(player)
        check_policy(env, player)
        if not all_finite(player.params):
            raise ValueError("a player has parameters that are NaN or infinite; training failed")
    return named_player(env, player)


def player_in_words(player: Any) -> str:
    """Which kind of player it is."""
    return "a policy" if isinstance(player, Policy) else str(player)


def check_policy(env: Any, policy: Policy) -> None:
    """Raise TypeError unless the policy is a single one and fits the environment's spaces."""
    module = policy.module
    for what in ("observation_space", "action_space"):
        theirs, ours = getattr(module, what, None), getattr(env, what)
        if theirs is not None and theirs != ours:
            raise TypeError(f"the policy was made for the {what} {theirs}; the environment's is {ours}")

    def params(carry: Any, obs: Any, reset: Array) -> Any:
        return module.init(jax.random.key(0), carry, obs, reset, None)["params"]

    obs = shapes(env.observation_space, (1, 1))
    expected = jax.eval_shape(params, module.initialize_carry(1), obs, jax.ShapeDtypeStruct((1, 1), jnp.bool_))
    for want, got in zip(jax.tree.leaves(expected), jax.tree.leaves(policy.params), strict=True):
        if want.shape != got.shape:
            hint = "; for one of several runs: jax.tree.map(lambda x: x[i], policy)" if got.ndim > want.ndim else ""
            raise TypeError(f"the policy's parameters have shape {got.shape} where one policy has {want.shape}{hint}")


@functools.partial(jax.jit, static_argnames=("worlds", "deterministic"))
def _play(env: Any, policy: Policy, key: Array, max_steps: Array, worlds: int, deterministic: bool) -> Evaluation:
    batch = env.batch(worlds)
    rows = worlds * env.num_agents
    key_envs, key_streams = jax.random.split(key)

    def one(carried: tuple[Array, Play, Evaluation]) -> tuple[Array, Play, Evaluation]:
        steps, play, played = carried
        play, step = transition(batch, *act(batch, policy, play, deterministic))

        # what ended was the first episode, or is not counted
        running = ~played.finished
        ended = step.log.n.reshape(-1) > 0
        first = ended & running
        acts = running if step.active is None else running & step.active.reshape(-1)
        played = Evaluation(
            score=jnp.where(first, step.log.score.reshape(-1), played.score),
            perf=jnp.where(first, step.log.perf.reshape(-1), played.perf),
            episode_return=jnp.where(running, played.episode_return + step.reward.reshape(-1), played.episode_return),
            episode_length=played.episode_length + jnp.int32(acts),
            finished=played.finished | ended,
            figures=jax.tree.map(lambda x, old: jnp.where(first, x.reshape(-1), old), step.log.figures, played.figures),
        )
        return steps + 1, go_on(batch, play, step), played

    zeros = jnp.zeros(rows, jnp.float32)
    figures = dict.fromkeys(figure_names(batch.env), zeros) or None
    played = Evaluation(zeros, zeros, zeros, jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool), figures)
    play = begin(batch, policy.module, rng.seed(key_envs, (worlds,)), rng.seed(key_streams, (rows,)))
    _, play, played = lax.while_loop(
        lambda carried: ~carried[-1].finished.all() & (carried[0] < max_steps), one, (jnp.int32(0), play, played)
    )
    score, perf = batch.score(play.envs)
    if figures:
        now = batch.figures(play.envs)
        figures = {name: jnp.where(played.finished, x, now[name].reshape(-1)) for name, x in played.figures.items()}
    return played.replace(
        figures=figures,
        score=jnp.where(played.finished, played.score, score.reshape(-1)),
        perf=jnp.where(played.finished, played.perf, perf.reshape(-1)),
    )


def _play_on_host(
    env: HostEnv, policy: Policy, key: Array, max_steps: int, episodes: int, deterministic: bool
) -> Evaluation:
    num_worlds = -(-episodes // env.num_agents)
    together = min(num_worlds, HOST_WORLDS)
    batch, rounds = env.batch(together), []
    with Worlds(env, together) as worlds:
        for number in range(-(-num_worlds // together)):
            key_envs, key_streams = jax.random.split(jax.random.fold_in(key, number))
            env_streams, streams = rng.seed(key_envs, (together,)), rng.seed(key_streams, (worlds.rows,))
            play = worlds.begin(begin(batch, policy.module, env_streams, streams), world_seed(key_envs))
            episode_return, episode_length = np.zeros(worlds.rows), np.zeros(worlds.rows, np.int32)
            running = np.ones(worlds.rows, bool)
            for _ in range(max_steps):
                play, step = worlds.play_on(*choose(env, policy, play, deterministic))
                episode_return += np.where(running, step.reward, 0.0)
                episode_length += running
                running &= ~step.ended
                if not running.any():
                    break
            score = episode_return.astype(np.float32)
            rounds.append(Evaluation(score, score, score, episode_length, ~running))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *rounds)


def readable(value: float, decimals: int) -> str:
    """A number with so many decimals, or with five digits if these would say little of it."""
    return f"{value:.{decimals}f}" if value == 0 or 10.0 ** (1 - decimals) <= abs(value) < 1e7 else f"{value:.5g}"


def _statistics(values: Any) -> dict[str, Any]:
    count = len(values)
    wide = np.asarray(values, np.float64)
    error = wide.std(ddof=1) / count**0.5 if count > 1 else float("nan")
    return {"mean": float(wide.mean()), "standard_error": float(error), "count": count}
