"""The league: who plays whom, whose steps are trained on, Elo and the pool, and what comes of it."""

import re
import signal
import types
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_turns import Nim, config
from test_turns import Perfect as PerfectNim

from jaxpuffer import PPOConfig, evaluate, fit, train
from jaxpuffer.advantage import advantages
from jaxpuffer.config import LeagueConfig, complete
from jaxpuffer.env import Env, Outcome, PyTreeNode, param
from jaxpuffer.league import _or_minus_1, after_update, opponents_of, outcome
from jaxpuffer.loss import loss
from jaxpuffer.match import bradley_terry, match, tournament
from jaxpuffer.play import Rollout, collect
from jaxpuffer.players import Random, Scripted
from jaxpuffer.policy import make_module
from jaxpuffer.ppo import init
from jaxpuffer.sharding import local_config
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete

KEY = jax.random.key(3)
LEAGUE = {"opponents": 3, "share": 0.5, "capacity": 4, "snapshot_every": 4096, "redraw_every": 2}


class Throw(PyTreeNode):
    rng: jax.Array  # uint32 (2,)
    score: jax.Array  # float32 (2,)


class RockPaperScissors(Env[Throw]):
    """One throw of both players at the same time, worth `worth`."""

    multi_agent = True
    num_agents: ClassVar[int] = 2  # type: ignore[misc]
    teams: ClassVar[tuple[int, ...]] = (0, 1)  # type: ignore[misc]
    worth: float = param(default=1.0)
    bots: ClassVar[tuple[str, ...]] = ("rock",)

    observation_space: ClassVar[Any] = Box(0.0, 1.0, (1,))
    action_space: ClassVar[Any] = Discrete(3)

    def init(self, stream: jax.Array) -> Throw:
        return Throw(stream, score=jnp.zeros(2, jnp.float32))

    def transition(self, s: Throw, action: jax.Array) -> tuple[Throw, Outcome]:
        ahead = (action[0] - action[1]) % 3
        won = jnp.float32(jnp.where(ahead == 1, 1, jnp.where(ahead == 2, -1, 0)))
        s = s.replace(score=jnp.stack([won, -won]))
        both = jnp.ones(2, bool)
        return s, Outcome(self.worth * s.score, both, ~both)

    def respawn(self, s: Throw, ended: jax.Array) -> Throw:
        return s

    def observe(self, s: Throw) -> jax.Array:
        return jnp.ones((2, 1), jnp.float32)

    def score(self, s: Throw) -> jax.Array:
        return s.score

    def bot(self, s: Throw, stream: jax.Array, name: str) -> jax.Array:
        return jnp.zeros(2, jnp.int32)


def small(env: Any = None, **changes: Any) -> PPOConfig:
    agents = 1 if env is None else env.num_agents
    return config(
        num_agents=agents,
        **{"num_envs": 24, "horizon": 16, "hidden": 16, "total_steps": 30_000, "league": LEAGUE} | changes,
    )


def always(params: Any, action: int) -> Any:
    """Parameters of a policy that always takes one action."""
    logits = jnp.zeros_like(params["actor"]["bias"]).at[action].set(50.0)
    return params | {"actor": {"kernel": 0 * params["actor"]["kernel"], "bias": logits}}


def policies(state: Any, env: Any, chosen: PPOConfig) -> Any:
    """Of the networks in the pool, the probabilities of the actions on an observation of ones, (policies, actions)."""
    module = make_module(env, chosen)
    obs = jnp.ones((1, *env.observation_space.shape))

    def of_one(params: Any, normalizer: Any) -> Any:
        seen = obs[None] if normalizer is None else normalizer(obs[None])
        carry = module.initialize_carry(1)
        _, distribution, _ = module.apply({"params": params}, carry, seen, jnp.zeros((1, 1), bool), None)
        return jax.nn.softmax(distribution.logits)[0, 0]

    return np.asarray(jax.vmap(of_one)(*state.league.pool))[: int(state.league.size)]


def test_opponents_steps_are_skipped_by_the_advantages() -> None:
    """As if the learner's steps alone were steps, with what the opponent does between them as a part of the game."""
    draw, time = np.random.default_rng(0), 12
    ours = np.array([1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 0], bool)
    sign = np.where(ours == np.append(ours[1:], True), 1.0, -1.0)
    ended = np.zeros(time, bool)
    ended[[4, 7]] = True  # the game ends with an opponent's step
    reward, value = draw.normal(size=(2, time))
    last, gamma, lam = 0.7, 0.9, 0.8

    # float64, from the learner's side: its steps, what it gets until its next one, and how much that one is discounted
    expected, later, following = np.zeros(time), 0.0, last
    gain, discount, alive = 0.0, 1.0, 1.0  # of the opponent's steps after the learner's
    for t in reversed(range(time)):
        goes_on = 0.0 if ended[t] else 1.0
        if ours[t]:
            after = reward[t] + goes_on * gamma * sign[t] * (gain + discount * alive * following)
            delta = after - value[t]
            through = goes_on * gamma * sign[t] * discount * alive
            later = delta + lam * through * later
            expected[t], following, gain, discount, alive = later, value[t], 0.0, 1.0, 1.0
        else:
            gain = reward[t] + goes_on * gamma * sign[t] * gain
            discount, alive = gamma * sign[t] * discount, alive * goes_on
    columns = [jnp.float32(x)[:, None] for x in (reward, value, sign, ours)]
    some = jnp.zeros((time, 1))
    rollout = Rollout(some, some > 0, None, some, some, columns[1], columns[0], jnp.asarray(ended)[:, None])
    rollout = rollout.replace(sign=columns[2], weight=columns[3])
    # lambda and the clip weigh the learner's steps, by their product, and no others
    for kind, of_steps, clip in (("gae", lam, 1.0), ("puffer", lam, 1.0), ("puffer", 1.0, lam)):
        chosen = PPOConfig(gamma=gamma, gae_lambda=of_steps, c_clip=clip, advantage=kind)
        ratio = jnp.where(columns[3] > 0, 1.0, 7.0)  # an opponent's ratio means nothing
        found = advantages(chosen, rollout, jnp.float32([last]), ratio=ratio if kind == "puffer" else None)
        np.testing.assert_allclose(np.asarray(found)[ours, 0], expected[ours], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("env", [Nim(), RockPaperScissors()])
def test_opponents_play_their_side_of_their_games(env: Any) -> None:
    """With a pool of one policy that always takes the first action, and a learner that always takes the second."""
    chosen = small(env, league=LEAGUE | {"share": 0.25})
    module = make_module(env, chosen)
    state = init(env, KEY, chosen)
    pool = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), always(state.params, 0))
    state = state.replace(
        params=always(state.params, 1), league=state.league.replace(pool=(pool, state.league.pool[1]))
    )
    _, rollout, _ = jax.jit(lambda s: collect(env, s.playing(module), s.play, chosen, opponents_of(s.league, module)))(
        state
    )
    assert chosen.league_games == 6
    weight = np.asarray(rollout.weight).reshape(chosen.horizon, 24, -1)
    assert weight[:, :18].all() and 0.3 < weight[:, 18:].mean() < 0.7
    if env.multi_agent:
        # of two sides in a game, one is the learner's, in every other game the other one
        np.testing.assert_array_equal(weight[:, 18:], np.tile([[1, 0], [0, 1]], (chosen.horizon, 3, 1)))
        reward = np.asarray(rollout.reward).reshape(chosen.horizon, 24, 2)
        assert (reward[:, :18] == 0).all()  # paper against paper
        np.testing.assert_array_equal(reward[:, 18:], np.where(weight[:, 18:] > 0, 1.0, -1.0))  # paper against rock
    else:
        stones = np.argmax(rollout.obs, -1)
        taken = stones[:-1] - stones[1:]
        inside = ~np.asarray(rollout.ended)[:-1]
        expected = np.where(weight[:-1, :, 0] > 0, 2, 1)
        np.testing.assert_array_equal(taken[inside], np.minimum(expected, stones[:-1])[inside])


def test_only_the_learners_steps_change_the_policy() -> None:
    """The rewards of opponents' steps are not in the gradient."""
    env = RockPaperScissors()
    chosen = small(env, league=LEAGUE | {"share": 1.0}, normalize_return=False, num_envs=12)
    module = make_module(env, chosen)
    state = init(env, KEY, chosen)
    play, rollout, _ = jax.jit(
        lambda s: collect(env, s.playing(module), s.play, chosen, opponents_of(s.league, module))
    )(state)
    theirs = np.asarray(rollout.weight) == 0

    def gradient(reward: Any) -> Any:
        changed = rollout.replace(reward=reward)
        advantage = jnp.where(rollout.weight > 0, advantages(chosen, changed, jnp.zeros(24)), 0.0)
        policy = state.playing(module)
        target = advantage + rollout.value
        return jax.grad(loss, has_aux=True)(state.params, policy, chosen, play.carry, changed, advantage, target)[0]

    other = jnp.where(theirs, 1e3, rollout.reward)
    for a, b in zip(*(jax.tree.leaves(gradient(x)) for x in (rollout.reward, other)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("worth", [1.0, pytest.param(1e-4, marks=pytest.mark.full)])
def test_the_league_of_rock_paper_scissors_averages_to_uniform(worth: float) -> None:
    """Playing itself, a policy runs in circles (a matrix game without a pure equilibrium); the mean of the league's
    policies comes near the equilibrium, as in fictitious play (Brown, 1951; Heinrich et al., 2015)."""
    env = RockPaperScissors(worth=worth)
    base = {"num_envs": 32, "horizon": 16, "hidden": 8, "total_steps": 800_000, "entropy_coefficient": 0.25}
    base |= {"learning_rate": 0.05, "schedule": "constant", "num_agents": 2}
    pool = {"opponents": 8, "share": 1.0, "capacity": 400, "snapshot_every": 2048, "redraw_every": 1}
    # 30 of 32 games are played by the learner alone; the pool records it
    alone = config(**base, league=pool | {"opponents": 1, "share": 1 / 16})
    league = config(**base, league=pool | {"draw": "uniform"})
    of_league = policies(train(env, KEY, league).state, env, league)
    of_alone = policies(train(env, KEY, alone).state, env, alone)
    # it takes each of the three in turn, and for ever longer
    leader = of_alone.argmax(1)
    assert set(leader) == {0, 1, 2} and (np.diff(leader) != 0).sum() > 5
    assert of_alone[-100:].max(1).mean() > 0.9 and np.abs(of_alone.mean(0) - 1 / 3).max() > 0.2
    assert np.abs(of_league.mean(0) - 1 / 3).max() < 0.1
    assert of_league[-1].max() < 0.5


def test_a_league_goes_on_bit_for_bit_after_it_was_killed(tmp_path: Path) -> None:
    env, chosen = Nim(), small()
    whole = fit(env, KEY, chosen, progress=False)
    assert len(whole.league_policies) == int(whole.state.league.size) > 2

    def press(step: int, means: dict[str, float]) -> None:
        if step >= chosen.total_steps // 2:
            signal.raise_signal(signal.SIGINT)

    part = fit(env, KEY, chosen, directory=tmp_path, evaluate_every=4096, log=press, progress=False)
    assert 0 < int(part.state.updates) < chosen.num_updates and int(part.state.league.size) > 1
    options = {"directory": tmp_path, "evaluate_every": 4096, "resume": True, "progress": False}
    resumed = fit(env, KEY, **options)
    assert float(whole.state.league.stride) > 1 and (whole.state.league.slots > 0).any()
    for a, b in zip(*(jax.tree.leaves((x.state, x.metrics)) for x in (whole, resumed)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_many_leagues_train_side_by_side() -> None:
    env, chosen = Nim(), small(total_steps=8_000)
    keys = jax.random.split(KEY, 2)
    both = jax.vmap(train, in_axes=(None, 0, None))(env, keys, chosen)
    for i in range(2):
        one = train(env, keys[i], chosen)
        assert both.state.league.size[i] == one.state.league.size
        np.testing.assert_allclose(both.metrics["league/elo"][i], one.metrics["league/elo"], atol=0.5)
    assert not np.allclose(both.metrics["league/elo"][0], both.metrics["league/elo"][1])


_after = jax.jit(after_update, static_argnums=2)


def after(state: Any, env: Any, chosen: PPOConfig, wins: Any, ended: Any) -> Any:
    games = state.play.games.replace(wins=jnp.float32(wins), ended=jnp.float32(ended))
    state = state.replace(updates=state.updates + 1)
    league, games, metrics = _after(state.league, games, make_module(env, chosen), chosen, state)
    return state.replace(league=league, play=state.play.replace(games=games)), metrics


def test_elo_moves_by_what_was_won_beyond_the_expected() -> None:
    env, chosen = Nim(), small(num_envs=12, league=LEAGUE | {"opponents": 1, "elo_k": 10.0, "share": 1.0})
    state = init(env, KEY, chosen)
    games = chosen.league_games
    one = jnp.zeros(games).at[0].set(1.0)
    found, metrics = after(state, env, chosen, one, one)
    # K (1 - 1/2), taken implicitly; the opponent, which has learned nothing, stays at 0
    slope = 10.0 * np.log(10.0) / 1600.0
    np.testing.assert_allclose(metrics["league/elo"], 5.0 / (1 + slope), rtol=1e-5)
    assert (found.league.rating == 0).all() and found.league.win_rate[0] == 1.0
    # any number of games at once is stable: three of four won are 191 points in the end
    for _ in range(200):
        state, metrics = after(state, env, chosen, jnp.full(games, 750.0), jnp.full(games, 1000.0))
        state = state.replace(league=state.league.replace(steps=jnp.float32(0)))
    np.testing.assert_allclose(metrics["league/elo"], 400 * np.log10(3.0), rtol=0.02)
    np.testing.assert_allclose(metrics["league/win_rate"], 0.75)


def test_snapshots_come_by_steps_or_by_wins_and_the_pool_keeps_every_second() -> None:
    env, chosen = Nim(), small(num_envs=12, league=LEAGUE | {"opponents": 1, "share": 1.0})
    state = init(env, KEY, chosen)
    nothing = jnp.zeros(chosen.league_games)
    per_snapshot = -(-chosen.league.snapshot_every // chosen.batch_size)
    sizes, marks = [], []
    for i in range(8 * per_snapshot):
        marked = jax.tree.map(lambda x, i=i: jnp.full_like(x, i + 1), state.params)
        state, _ = after(state.replace(params=marked), env, chosen, nothing, nothing)
        sizes.append(int(state.league.size))
        marks.append(np.asarray(jax.tree.leaves(state.league.pool[0])[0]).reshape(4, -1)[:, 0])
    at = np.flatnonzero(np.diff([1, *sizes])) + 1  # updates after which there was another one
    np.testing.assert_array_equal(at[:3], per_snapshot * np.arange(1, 4))
    # full with 4: the first, the third and the newest stay, and the next one comes after twice as long
    assert sizes[4 * per_snapshot - 1] == 3 and float(state.league.stride) >= 2
    kept = marks[4 * per_snapshot - 1][1:3]
    np.testing.assert_array_equal(kept, [2 * per_snapshot, 4 * per_snapshot])

    by_wins = small(
        num_envs=12, league=LEAGUE | {"snapshot_win_rate": 0.7, "snapshot_games": 100, "snapshot_every": 10**9}
    )
    state = init(env, KEY, by_wins)
    each = jnp.full(by_wins.league_games, 5.0)
    found = []
    for share in (0.6, 0.65, *[0.9] * 40):
        state, _ = after(state, env, by_wins, share * each, each)
        found.append(int(state.league.size))
    # the pool was full several times, and the next one that is not early comes no later for that
    assert found[:2] == [1, 1] and 4 in found and sum(np.diff(found) < 0) > 1 and state.league.stride == 1


def test_anchors_bring_no_early_snapshots_where_policies_play() -> None:
    env = Throws()
    early = {"snapshot_win_rate": 0.7, "snapshot_games": 10, "snapshot_every": 10**9, "capacity": 4}
    for opponents, size in ((2, 1), (0, 2)):
        league = early | {"opponents": opponents, "anchor": "rock,paper", "share": 1.0}
        chosen = small(env, num_envs=24, league=league)
        state = init(env, KEY, chosen)
        ended = jnp.full(chosen.league_games, 10.0)
        of_anchors = jnp.arange(chosen.league_games) >= chosen.league_games * opponents // chosen.league.groups
        state, _ = after(state, env, chosen, jnp.where(of_anchors, ended, 0.5 * ended), ended)
        assert int(state.league.size) == size


@pytest.mark.parametrize("draw", ["uniform", "recent", "prioritized"])
def test_opponents_are_drawn_by_the_rule(draw: str) -> None:
    chosen = small(num_envs=600, league={"opponents": 300, "share": 1.0, "draw": draw, "recency": 0.5, "capacity": 4})
    chosen = chosen.replace(league=chosen.league.replace(redraw_every=1))
    state = init(Nim(), KEY, chosen)
    rates = jnp.float32([1.0, 0.5, 0.0, 0.0])
    state = state.replace(league=state.league.replace(size=jnp.int32(3), win_rate=rates, games=jnp.full(4, 200.0)))
    nothing = jnp.zeros(chosen.league_games)
    state, _ = after(state, Nim(), chosen, nothing, nothing)
    counts = np.bincount(np.asarray(state.league.slots), minlength=4) / 300
    expected = {"uniform": [1, 1, 1], "recent": [0.25, 0.5, 1], "prioritized": [0.001, 0.25, 1]}[draw]
    np.testing.assert_allclose(counts, [*(np.array(expected) / sum(expected)), 0], atol=0.09)
    # games begun against somebody else have no result
    changed = np.repeat(np.asarray(state.league.slots) != 0, chosen.league_games // 300)
    np.testing.assert_array_equal(state.play.games.counts, ~changed)


def test_an_anchor_sits_in_the_league() -> None:
    env, chosen = (
        RockPaperScissors(),
        small(league={"anchor": "rock", "opponents": 0, "share": 1.0}, total_steps=60_000),
    )
    result = train(env, KEY, chosen)
    # always rock is beaten by always paper
    assert result.metrics["league/anchor_win_rate"][-1] > 0.9 and result.metrics["league/elo"][-1] > 150
    found = evaluate(env, result.policy, KEY, episodes=200)
    assert found.opponent == "scripted player rock" and found.score.mean() > 0.9
    assert "against: scripted player rock" in str(found)
    assert evaluate(env, result.policy, KEY, episodes=9, opponent=Random()).score.shape == (10,)


class Throws(RockPaperScissors):
    """With two scripted players that always throw the same."""

    bots: ClassVar[tuple[str, ...]] = ("rock", "paper", "scissors")

    def bot(self, s: Throw, stream: jax.Array, name: str) -> jax.Array:
        return jnp.full(2, self.bots.index(name), jnp.int32)


def test_each_of_several_anchors_plays_the_games_of_its_group() -> None:
    """A learner that always throws paper, against a pool that always throws rock, scissors, and paper."""
    env = Throws()
    league = LEAGUE | {"opponents": 2, "anchor": "scissors, paper", "share": 0.5, "redraw_every": 1000}
    chosen = small(env, league=league, num_envs=32)
    module = make_module(env, chosen)
    state = init(env, KEY, chosen)
    pool = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), always(state.params, 0))
    state = state.replace(
        params=always(state.params, 1), league=state.league.replace(pool=(pool, state.league.pool[1]))
    )
    play, rollout, _ = jax.jit(
        lambda s: collect(env, s.playing(module), s.play, chosen, opponents_of(s.league, module))
    )(state)
    reward = (rollout.reward * rollout.weight).reshape(chosen.horizon, 32, 2).sum(-1)
    np.testing.assert_array_equal(reward, np.tile(np.repeat([0, 1, -1, 0], (16, 8, 4, 4)), (chosen.horizon, 1)))

    # the first anchor stays at 0 although it wins all games, and rock is weaker
    league, _, metrics = after_update(state.league, play.games, module, chosen, state)
    assert metrics["league/win_rate_scissors"] == 0 and metrics["league/win_rate_paper"] == 0.5
    assert metrics["league/anchor_win_rate"] == 0.25 and np.isclose(metrics["league/win_rate"], 0.625)
    assert league.rating.shape == (6,) and league.rating[4] == league.rating[5] == 0 and league.rating[0] < 0


def test_a_full_pool_keeps_its_anchors() -> None:
    env = Throws()
    chosen = small(env, league=LEAGUE | {"anchor": "rock,paper", "redraw_every": 1000})
    state = init(env, KEY, chosen)
    numbers = jnp.arange(6, dtype=jnp.float32)
    league = state.league.replace(size=jnp.int32(4), rating=numbers, win_rate=numbers / 10, games=numbers + 100)
    league = league.replace(steps=jnp.float32(4096))
    nothing = state.play.games.replace(wins=jnp.zeros(chosen.league_games), ended=jnp.zeros(chosen.league_games))
    league, *_ = after_update(league, nothing, make_module(env, chosen), chosen, state)
    # of four policies the first and the third stay and the newest comes; what is kept of the anchors is unchanged
    assert int(league.size) == 3
    np.testing.assert_array_equal(league.rating[jnp.array([0, 1, 4, 5])], [0, 2, 4, 5])
    np.testing.assert_allclose(league.win_rate[jnp.array([0, 1, 4, 5])], [0.0, 0.2, 0.4, 0.5])
    np.testing.assert_array_equal(league.games[4:], [104, 105])


def test_sides_are_compared_by_the_mean_scores_of_their_agents() -> None:
    class Three(RockPaperScissors):
        num_agents: ClassVar[int] = 3  # type: ignore[misc]
        teams: ClassVar[tuple[int, ...]] = (0, 1, 1)  # type: ignore[misc]

    score, side = jnp.float32([[3, 1, 4], [3, 1, 4]]), jnp.int32([0, 1])
    np.testing.assert_allclose(outcome(Three(), score, side), [0.5, -0.5])
    np.testing.assert_allclose(outcome(Nim(), jnp.float32([[1], [1]]), side), [1, -1])


def test_a_tournament_orders_players_by_strength() -> None:
    env = PerfectNim()
    result = train(env, KEY, config(total_steps=40_000))
    players = {"random": Random(), "some": result, "perfect": Scripted()}
    found = tournament(env, players, KEY, games=400)
    elo = dict(zip(found.names, found.elo, strict=True))
    assert elo["random"] < min(elo["some"], elo["perfect"])
    assert (found.low <= found.elo).all() and (found.elo <= found.high).all() and abs(found.elo.sum()) < 1e-3
    np.testing.assert_allclose(found.points + found.points.T, found.games)
    assert "perfect" in str(found) and found.points[2, 0] > found.points[0, 2]


class Wrong(RockPaperScissors):
    """Its bots return what is no action."""

    bots: ClassVar[tuple[str, ...]] = ("float", "one", "nothing")

    def bot(self, s: Throw, stream: jax.Array, name: str) -> Any:
        return {"float": jnp.zeros(2), "one": jnp.int32(0), "nothing": None}[name]


@pytest.mark.parametrize(("name", "found"), [("float", "float32 (2,)"), ("one", "int32 ()"), ("nothing", "None")])
def test_bots_that_return_no_action_are_refused(name: str, found: str) -> None:
    message = re.escape(f"Wrong.bot(state, stream, '{name}') returned {found}; it must be int32 (2,)")
    with pytest.raises(TypeError, match=message):
        match(Wrong(), Scripted(name), Random(), KEY, games=2)
    with pytest.raises(TypeError, match=message):
        train(Wrong(), KEY, small(Wrong(), league={"anchor": name}))


@pytest.mark.parametrize(
    ("bots", "message"),
    [
        ("rock", "'rock'; it must be a tuple of names"),
        (("rock", "rock"), "('rock', 'rock'); names must differ"),
        (("rock", "paper, scissors"), "('rock', 'paper, scissors'); names must differ, and have no commas"),
        (("rock", ""), "('rock', ''); names must differ"),
    ],
)
def test_bots_are_a_tuple_of_names(bots: Any, message: str) -> None:
    env = type("Named", (RockPaperScissors,), {"bots": bots})()
    for call in (
        lambda: match(env, Scripted("rock"), Random(), KEY, games=2),
        lambda: train(env, KEY, small(env, league={"anchor": "rock"})),
    ):
        with pytest.raises((TypeError, ValueError), match=re.escape(f"Named.bots is {message}")):
            call()


def test_without_bots_and_player_the_opponent_is_said_to_be_random() -> None:
    found = evaluate(Nim(), train(Nim(), KEY, config(total_steps=1024)), KEY, episodes=20)
    assert found.opponent == "random player"
    # without a perf of its own it is the score, for both sides
    np.testing.assert_array_equal(found.perf, found.score)


def test_a_number_that_is_no_side_ends_the_run() -> None:
    class FromOne(Nim):
        def to_play(self, s: Any) -> jax.Array:
            return super().to_play(s) + 1

    with pytest.warns(RuntimeWarning, match="rewards are NaN"):
        train(FromOne(), KEY, config(total_steps=1024))


class NoSide(Nim):
    def to_play(self, s: Any) -> jax.Array:
        return super().to_play(s) * 3


class NoScore(Nim):
    def score(self, s: Any) -> jax.Array:
        return super().score(s) * jnp.nan


@pytest.mark.parametrize(("env", "why"), [(NoSide(), "to_play is neither 0 nor 1"), (NoScore(), "a score is NaN")])
def test_games_that_nobody_can_be_said_to_have_won_are_an_error(env: Any, why: str) -> None:
    said = rf"games of {type(env).__name__} nobody can say who has won: {why}$"
    with pytest.raises(ValueError, match=rf"in \d of 6 {said}"):
        match(env, Random(), Random(), KEY, games=6)
    policy = train(Nim(), KEY, config(total_steps=1024)).policy
    with pytest.raises(ValueError, match=rf"in \d of 4 {said}"):
        evaluate(env, policy, KEY, episodes=4, opponent=Random())


def test_games_with_a_score_of_nan_do_not_count_in_a_league() -> None:
    class Rare(Nim):
        def score(self, s: Any) -> jax.Array:
            return jnp.where(s.rng[0] % jnp.uint32(4) == 0, jnp.nan, super().score(s))

    env, chosen = Rare(), small(total_steps=8_000)
    with (
        jax.debug_nans(False),
        pytest.warns(RuntimeWarning, match="score or perf is NaN .* such a game does not count"),
    ):
        result = train(env, KEY, chosen)
    league = result.state.league
    assert np.isfinite(league.rating).all() and np.isfinite(league.elo) and np.isfinite(league.win_rate).all()
    assert league.games.sum() > 50 and np.unique(league.slots).size > 1


class Illegal(Nim):
    """Its bot takes two stones where there is only one."""

    bots: ClassVar[tuple[str, ...]] = ("greedy",)

    def action_mask(self, s: Any) -> jax.Array:
        return jnp.arange(2, dtype=jnp.int32) < s.stones

    def bot(self, s: Any, stream: jax.Array, name: str) -> jax.Array:
        return jnp.int32(1)


def test_a_scripted_action_that_the_mask_forbids_is_not_silent() -> None:
    env = Illegal()
    with pytest.raises(ValueError, match=r"of Illegal .*: a reward or score is NaN, as after .* the mask forbids"):
        match(env, Scripted("greedy"), Random(), KEY, games=20)
    with pytest.warns(RuntimeWarning, match="rewards are NaN"):
        train(env, KEY, small(league={"anchor": "greedy"}, total_steps=4096))


@pytest.mark.parametrize(
    ("space", "action", "mask", "expected"),
    [
        (Discrete(3), [2, 1, 5], [[1, 1, 0], [0, 1, 0], [1, 1, 1]], [-1, 1, -1]),
        (MultiDiscrete((2, 3)), [[1, 2], [0, 0]], [[0, 1, 1, 1, 0], [1, 0, 0, 1, 1]], [[1, -1], [0, -1]]),
        (
            Mixed((Box(-1.0, 1.0, (2,)), Discrete(2))),
            [[0.5, -3.0, 1.0], [0.5, 0.25, 0.0]],
            [[0, 1], [0, 1]],
            [[0.5, -3.0, 1.0], [0.5, 0.25, -1.0]],
        ),
    ],
)
def test_forbidden_choices_of_each_kind_of_space(space: Any, action: Any, mask: Any, expected: Any) -> None:
    found = _or_minus_1(space, jnp.array(action, space.dtype), jnp.array(mask, bool))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == space.dtype


def test_a_score_that_is_not_centred_is_not_silent() -> None:
    class Share(Nim):
        """Its score is 1 if side 0 wins, 0 if side 1 does."""

        def score(self, s: Any) -> jax.Array:
            return 0.5 + 0.5 * super().score(s)

    with pytest.warns(UserWarning, match=r"side 0 won \d+ of 100 games of Share, side 1 none, .* is not centred"):
        match(Share(), Random(), Random(), KEY, games=100)


class OutOfRange(Throws):
    def bot(self, s: Throw, stream: jax.Array, name: str) -> jax.Array:
        return jnp.full(2, 7, jnp.int32)


def test_a_scripted_action_out_of_range_is_not_silent() -> None:
    env = OutOfRange()
    with pytest.raises(ValueError, match=r"in 6 of 6 games of OutOfRange .* an action that is out of range"):
        match(env, Scripted("rock"), Random(), KEY, games=6)


@pytest.mark.parametrize("players", [[Random(), Random()], {1: Random(), 2: Random()}])
def test_players_of_a_tournament_have_names(players: Any) -> None:
    with pytest.raises(TypeError, match="players must be a dict of players by name"):
        tournament(Nim(), players, KEY)


def test_ten_games_all_won_are_no_certainty() -> None:
    found = tournament(Throws(), {name: Scripted(name) for name in ("rock", "paper")}, KEY, games=10)
    np.testing.assert_array_equal(found.points, [[0, 0], [10, 0]])
    assert (found.high - found.low > 50).all() and found.low[1] < found.elo[1] <= found.high[1]


def test_elo_of_known_odds() -> None:
    # 3 to 1, and 9 to 1 over two: 400 log10(3) apart each
    points = 1e6 * np.array([[0, 3 / 4, 9 / 10], [1 / 4, 0, 3 / 4], [1 / 10, 1 / 4, 0]])
    np.testing.assert_allclose(bradley_terry(points), 400 * np.log10(3.0) * np.array([1, 0, -1]), atol=0.1)


def test_a_group_that_wins_every_game_has_ratings_within_their_intervals() -> None:
    class Orders(Throws):
        """Each of the last two wins against each of the first two; among themselves they draw."""

        bots: ClassVar[tuple[str, ...]] = ("r1", "r2", "p1", "p2")

        def bot(self, s: Throw, stream: jax.Array, name: str) -> jax.Array:
            return jnp.full(2, int(name[0] == "p"), jnp.int32)

    found = tournament(Orders(), {name: Scripted(name) for name in Orders.bots}, KEY, games=10)
    room = 0.1 * (found.high - found.low)
    assert (found.low + room < found.elo).all() and (found.elo < found.high - room).all()
    # 10.75 points of 11.5 games are expected
    np.testing.assert_allclose(found.elo[2:] - found.elo[:2], 400 * np.log10(10.75 / 0.75), rtol=1e-3)


@pytest.mark.parametrize(
    ("env", "league", "message"),
    [
        ("cartpole", {"opponents": 2}, r"PPOConfig.league has 2 opponents; CartPole is no game of two sides"),
        (
            "cartpole",
            {"opponents": 1, "anchor": "a,b"},
            r"has 1 opponent and 2 anchors; CartPole is no game of two sides",
        ),
        (Nim(), {"anchor": "rok"}, r"LeagueConfig.anchor is 'rok'; Nim has the bots none: 'rok' is none of them"),
        (RockPaperScissors(), {"anchor": "rock,rok"}, r"has the bots rock: 'rok' is none of them"),
        (RockPaperScissors(), {"anchor": "rock,rock"}, r"'rock,rock'; .* has the bots rock: 'rock' is given twice"),
        (RockPaperScissors(), {"anchor": "rock,"}, r"'rock,'; RockPaperScissors has the bots rock: a name is empty"),
        (Nim(), {"opponents": 20}, r"20 opponents, with 2 games each at least; num_envs is 24"),
    ],
)
def test_a_league_that_does_not_fit_says_so(env: Any, league: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(env, KEY, small(league=league))


def test_a_share_of_games_that_is_not_what_was_asked_for_says_so() -> None:
    for share, wanted, opponents, games in ((0.1, 2.4, 4, 8), (0.5, 12, 8, 16)):
        message = (
            f"LeagueConfig.share is {share}, which is {wanted} of 24 games; with {opponents} opponents it is {games}, 2"
        )
        with pytest.warns(UserWarning, match=message):
            complete(Nim(), small(league={"opponents": opponents, "share": share}))


def test_win_rates_are_unknown_before_a_game_has_ended() -> None:
    env = Throws()
    chosen = small(env, league=LEAGUE | {"opponents": 1, "anchor": "rock,paper"}, num_envs=12)
    state = init(env, KEY, chosen)
    nothing = jnp.zeros(chosen.league_games)
    state, metrics = after(state, env, chosen, nothing, nothing)
    names = ("win_rate", "anchor_win_rate", "win_rate_rock", "win_rate_paper")
    assert all(np.isnan(metrics[f"league/{name}"]) for name in names)
    # the last games are those against paper
    state, metrics = after(state, env, chosen, nothing, nothing.at[-1].set(1.0))
    assert np.isnan(metrics["league/win_rate_rock"])
    assert all(metrics[f"league/{name}"] == 0 for name in ("win_rate", "anchor_win_rate", "win_rate_paper"))


def test_a_league_config_is_checked_and_kept() -> None:
    with pytest.raises(
        ValueError, match=r"LeagueConfig.draw is 'luck'; it must be one of uniform, recent, prioritized"
    ):
        PPOConfig(league={"draw": "luck"})
    with pytest.raises(TypeError, match=r"LeagueConfig has no parameter 'oponents'; did you mean 'opponents'"):
        PPOConfig(league={"oponents": 3})
    with pytest.raises(TypeError, match=r"PPOConfig.league is 8; it must be LeagueConfig"):
        PPOConfig(league=8)
    chosen = PPOConfig(league={"opponents": 3})
    assert PPOConfig(**chosen.to_dict()) == chosen and chosen.league == LeagueConfig(opponents=3)


def test_matches_and_evaluations_need_a_fitting_opponent() -> None:
    with pytest.raises(ValueError, match=r"the player is Scripted\('paper'\); RockPaperScissors has the bots rock"):
        match(RockPaperScissors(), Scripted("paper"), Random(), KEY, games=2)
    with pytest.raises(ValueError, match="CartPole is no game of two sides"):
        evaluate("cartpole", train("cartpole", KEY, PPOConfig(total_steps=1)), KEY, opponent=Random())
    won = match(RockPaperScissors(), Scripted("rock"), Random(), KEY, games=3000)
    for name in ("wins", "draws", "losses"):
        _, low, high = won.shares()[name]
        assert low < 1 / 3 < high


def test_devices_share_the_games_of_every_opponent() -> None:
    mesh: Any = types.SimpleNamespace(axis_names=("data",), size=2)
    chosen = small(num_envs=32, league={"opponents": 2, "share": 0.5})
    assert 2 * local_config(chosen, mesh).league_games == chosen.league_games == 16
    with pytest.raises(ValueError, match=r"has 18 games against opponents; it must be a multiple of 12"):
        local_config(chosen.replace(league={"opponents": 3, "share": 0.5}), mesh)
