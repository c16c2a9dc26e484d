"""Capture the flag: the default parameters, steps worked out from the rules, both sides alike, and the bots' strength.

A field is written row by row from the top, 6 columns of each half: team 0 on the left has the agents a and b, team 1 on
the right c and d; a capital letter has the enemy's flag. Who is not written is in jail. The flags are in the third row,
one column from the edge, f; the ground around each, g, is closed to its own team. In jail are agents of team 0 at k and
those of team 1 at j:

    ....j..k....
    ggg......ggg
    gfg......gfg
    ggg......ggg
    ............
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.capture_the_flag import AHEAD, BACK, DOWN, JAIL, NOBODY, STAY, UP, CaptureTheFlag, State
from jaxpuffer import make, rng

STEP = jax.jit(lambda env, s, action: env.transition(s, action))
SEEN = jax.jit(lambda env, s: env.observe(s))
ENV = CaptureTheFlag(half=6, rows=5, flag_reward=0.1, tag_reward=0.1)
FLAG_ROW, WIDTH, AGENTS = 2, 12, "abcd"
HOME = ((4, 3), (4, 4))  # row and column ahead of both agents of a team


def field(*rows, env=ENV, left=20, **fields):
    """The state that is written; who is in jail stays there for `left` steps."""
    row, ahead = np.zeros((2, 2), np.int32), np.full((2, 2), WIDTH - 1 - JAIL, np.int32)
    jailed, carrier = np.full((2, 2), left, np.int32), [NOBODY, NOBODY]
    for r, written in enumerate(rows):
        assert len(written) == WIDTH
        for column, mark in enumerate(written):
            if mark != ".":
                team, k = divmod(AGENTS.index(mark.lower()), 2)
                row[team, k], ahead[team, k] = r, column if team == 0 else WIDTH - 1 - column
                jailed[team, k] = 0
                if mark.isupper():
                    carrier[team] = k
    home_row, home_ahead = (jnp.array([[at[i] for at in HOME]] * 2, jnp.int32) for i in range(2))
    fields = {name: jnp.array(value, jnp.int32) for name, value in fields.items()}
    s = State(
        rng=jnp.array([1, 2], jnp.uint32),
        row=jnp.array(row),
        ahead=jnp.array(ahead),
        home_row=home_row,
        home_ahead=home_ahead,
        jailed=jnp.array(jailed),
        carrier=jnp.array(carrier, jnp.int32),
        points=jnp.zeros(2, jnp.int32),
        flag_row=jnp.int32(FLAG_ROW),
        steps=jnp.int32(0),
    )
    return s.replace(**fields)


def rows_of(s):
    drawn = [["."] * WIDTH for _ in range(5)]
    for k, mark in enumerate(AGENTS):
        team, number = divmod(k, 2)
        if s.jailed[team, number] == 0:
            column = int(s.ahead[team, number])
            column = column if team == 0 else WIDTH - 1 - column
            drawn[int(s.row[team, number])][column] = mark.upper() if int(s.carrier[team]) == number else mark
    return tuple("".join(row) for row in drawn)


def step(s, env=ENV, **actions):
    return STEP(env, s, jnp.array([actions.get(mark, STAY) for mark in AGENTS], jnp.int32))


def rewards(outcome):
    """The reward of team 0; that of team 1 must be its negative, and all of a team have the same."""
    first = float(outcome.reward[0])
    np.testing.assert_array_equal(outcome.reward, np.float32([first, first, -first, -first]))
    return pytest.approx(first)


def test_default_parameters():
    env = make("capture_the_flag")
    assert (env.team_size, env.half, env.rows, int(env.jail_steps)) == (2, 8, 9, 30)
    assert (int(env.winning_points), int(env.max_steps)) == (3, 300)
    assert (float(env.flag_reward), float(env.tag_reward)) == (0.5, 0.0)
    assert env.teams == (0, 0, 1, 1) and env.bots == ("random", "rusher", "guard")
    assert make("capture_the_flag", team_size=3).teams == (0, 0, 0, 1, 1, 1)


def test_ahead_is_towards_the_enemy():
    s = field("............", "...a........", "....b..c....", "............", "........d...")
    after, outcome = step(s, a=AHEAD, b=DOWN, c=AHEAD, d=BACK)
    assert rows_of(after) == ("............", "....a.......", "......c.....", "....b.......", ".........d..")
    assert rewards(outcome) == 0 and not outcome.terminated.any() and not outcome.reset
    after, _ = step(s, a=BACK, b=UP, c=UP, d=UP)
    assert rows_of(after)[1:4] == ("...ab..c....", "............", "........d...")  # a is stopped


def test_the_field_ends_and_the_own_ground_is_closed():
    s = field("a...........", "...b.....d..", "............", "............", "...........c")
    after, _ = step(s, a=UP, b=BACK, c=DOWN, d=AHEAD)
    assert (int(after.row[0, 0]), int(after.ahead[0, 0])) == (0, 0)  # the edge
    assert (int(after.row[0, 1]), int(after.ahead[0, 1])) == (1, 3)  # the ground
    assert (int(after.row[1, 0]), int(after.ahead[1, 0])) == (4, 0)
    # down from the first row is the ground, too
    after, _ = step(s, a=DOWN)
    assert int(after.row[0, 0]) == 0
    # the enemy's is open
    after, _ = step(field("............", "........a...", "...b..c....d", "............", "............"), a=AHEAD)
    assert int(after.ahead[0, 0]) == 9


def test_nobody_is_in_anothers_way():
    s = field("............", "............", "...ab.......", "............", "........c.d.")
    after, _ = step(s, a=AHEAD, c=BACK, d=AHEAD)
    np.testing.assert_array_equal(after.ahead, [[4, 4], [2, 2]])


@pytest.mark.parametrize(
    ("rows", "tagged"),
    [
        (("............", "............", "......bc....", "............", "d..........."), "b"),  # beside
        (("............", ".......c....", ".......b....", "............", "d..........."), "b"),  # above
        (("............", ".......c....", "......b.....", "............", "d..........."), ""),  # diagonal
        (("............", "............", "......b.c...", "............", "d..........."), ""),  # two cells away
        (("............", "............", ".....bc.....", "............", "d..........."), ""),  # in its own half
        (("............", "............", "......bd....", "............", "....c......."), "b"),
        (
            ("............", "....dc......", "....b.......", "............", "............"),
            "d",
        ),  # b and d are beside each other in b's half
        (("............", ".....c......", ".....bd.....", "............", "............"), "c"),
        (("............", "............", "......b.....", "......d.....", ".....c......"), "b"),
    ],
)
def test_who_is_abroad_is_tagged_by_an_opponent_at_home(rows, tagged):
    after, outcome = step(field(*rows, left=1000))
    for k, mark in enumerate(AGENTS):
        team, number = divmod(k, 2)
        was_there = any(mark in row for row in rows)
        assert (int(after.jailed[team, number]) == 30) == (mark in tagged)
        if mark in tagged:
            assert (int(after.row[team, number]), int(after.ahead[team, number])) == (0, WIDTH - 1 - JAIL)
        elif was_there:
            assert int(after.jailed[team, number]) == 0
    balance = sum(1 if mark in "cd" else -1 for mark in tagged)
    assert rewards(outcome) == 0.1 * balance


def test_who_is_abroad_or_in_jail_does_not_tag():
    # b and c have passed each other: both are abroad
    after, _ = step(field("............", "............", ".....cb.....", "............", "............"))
    assert rows_of(after)[2] == ".....cb....."
    # c is in jail
    s = field("............", "............", "......b.....", "............", "...........d")
    s = s.replace(row=s.row.at[1, 0].set(2), ahead=s.ahead.at[1, 0].set(5))
    after, _ = step(s)
    assert rows_of(after)[2] == "......b....."


def test_they_walk_before_they_are_tagged():
    s = field("............", "............", "......b.c...", "............", "............")
    assert rows_of(step(s, b=BACK, c=AHEAD)[0])[2] == ".....b.c...."  # home in time
    assert rows_of(step(s, c=AHEAD)[0])[2] == ".......c...."
    assert rows_of(step(s, b=AHEAD, c=AHEAD)[0])[2] == ".......c...."  # in one cell


def test_a_flag_is_taken_by_who_stands_on_it():
    s = field("............", "............", ".........a..", ".c.......b..", "........d...")
    after, outcome = step(s, a=AHEAD)
    assert rows_of(after)[2] == "..........A." and rewards(outcome) == pytest.approx(0.1)
    # of two the first; and only if it is there
    s = field("............", "............", "..........a.", "..........b.", ".........c..")
    after, _ = step(s, b=UP)
    np.testing.assert_array_equal(after.carrier, [0, NOBODY])
    s = field("............", "............", "..........a.", "......B.....", "c...........")
    after, outcome = step(s)
    np.testing.assert_array_equal(after.carrier, [1, NOBODY])
    assert rewards(outcome) == 0


def test_a_carrier_in_its_own_half_makes_a_point():
    s = field("............", "............", "......A.....", "............", ".b........cd")
    after, outcome = step(s, a=BACK)
    assert rows_of(after)[2] == ".....a......" and rewards(outcome) == 1.0
    np.testing.assert_array_equal(after.points, [1, 0])
    np.testing.assert_array_equal(ENV.score(after), [1, 1, -1, -1])
    np.testing.assert_allclose(ENV.perf(after), [4 / 6, 4 / 6, 2 / 6, 2 / 6], rtol=1e-6)
    np.testing.assert_array_equal(ENV.figures(after)["points"], [1, 1, 0, 0])
    # both at once
    s = field("............", "............", "......A.....", "............", ".b...C.....d")
    after, outcome = step(s, a=BACK, c=BACK)
    np.testing.assert_array_equal(after.points, [1, 1])
    assert rewards(outcome) == 0 and rows_of(after)[4] == ".b....c....d"


def test_a_tagged_carrier_loses_the_flag():
    s = field("............", "............", ".......Ac...", ".b..........", "...........d")
    after, outcome = step(s)
    np.testing.assert_array_equal(after.carrier, [NOBODY, NOBODY])
    assert int(after.jailed[0, 0]) == 30 and rewards(outcome) == pytest.approx(-0.1)
    # a mate on the flag's cell takes it in the same step, the flag is back at once
    s = field("............", "............", ".......Ac.b.", "............", "...........d")
    after, _ = step(s)
    np.testing.assert_array_equal(after.carrier, [1, NOBODY])


def test_a_mate_frees_who_is_in_jail():
    # the jail of team 1 is in the first row, 4 columns from its edge
    s = field("......b.....", "............", "............", "............", "..........cd")
    after, outcome = step(s, b=AHEAD)
    assert rows_of(after) == (".......b....", "............", "............", "............", "...a......cd")
    assert rewards(outcome) == 0
    # not if it is tagged there
    s = field("......b.....", "............", ".......c....", "............", "...........d")
    after, _ = step(s, b=AHEAD, c=UP)
    np.testing.assert_array_equal(after.jailed[0], [19, 30])
    # who is tagged in the same step is not freed by the mate who is there
    s = field(".......b....", "............", ".......a.c..", "............", "...........d")
    after, _ = step(s, c=AHEAD)
    np.testing.assert_array_equal(after.jailed[0], [30, 0])


def test_the_time_in_jail():
    env = ENV.replace(jail_steps=3)
    s, _ = step(field("............", "............", "......bc....", "...a........", "...........d"), env)
    for left in (2, 1):
        s, _ = step(s, env, b=AHEAD)
        assert int(s.jailed[0, 1]) == left and int(s.ahead[0, 1]) == 7
    s, _ = step(s, env, b=AHEAD)
    assert int(s.jailed[0, 1]) == 0 and (int(s.row[0, 1]), int(s.ahead[0, 1])) == HOME[1]


@pytest.mark.parametrize(("points", "ends"), [((1, 2), False), ((2, 0), True), ((2, 2), True)])
def test_a_team_with_enough_points_wins(points, ends):
    s = field("............", "............", "......A.....", "............", ".b........cd", points=points)
    after, outcome = step(s, a=BACK)
    assert outcome.terminated.all() == ends == outcome.terminated.any() and not outcome.reset
    np.testing.assert_array_equal(after.points, [points[0] + 1, points[1]])


@pytest.mark.parametrize(("steps", "reset"), [(298, False), (299, True)])
def test_the_time_limit(steps, reset):
    _, outcome = step(field("ab.........d", *["............"] * 4, steps=steps))
    assert bool(outcome.reset) == reset and not outcome.terminated.any()


def test_what_is_seen():
    s = field("............", "............", "......A.....", "....b.......", ".......c....", points=(2, 1), steps=75)
    seen = SEEN(ENV, s.replace(jailed=s.jailed.at[1, 1].set(15)))
    # a: itself, b, c, d in jail in the first row, 4 columns from the edge
    expected = [[2 / 5, 6 / 12, 1, 0], [1 / 5, -2 / 12, 0, 0], [2 / 5, 1 / 12, 0, 0], [-2 / 5, -2 / 12, 0, 0.5]]
    np.testing.assert_allclose(seen.agents[0], expected, rtol=1e-6)
    np.testing.assert_allclose(seen.numbers[0], [0, 4 / 12, -5 / 12, 1 / 3, 0.75, 0], rtol=1e-6, atol=1e-7)
    # c sees itself 4 columns from its own edge, then d, a and b
    expected = [[4 / 5, 4 / 12, 0, 0], [-4 / 5, 3 / 12, 0, 0.5], [-2 / 5, 1 / 12, 1, 0], [-1 / 5, 3 / 12, 0, 0]]
    np.testing.assert_allclose(seen.agents[2], expected, rtol=1e-6)
    np.testing.assert_allclose(seen.numbers[2], [-2 / 5, 6 / 12, -3 / 12, -1 / 3, 0.75, 0], rtol=1e-6, atol=1e-7)
    # b sees itself first, then its mate
    np.testing.assert_allclose(seen.agents[1, :2], [[3 / 5, 4 / 12, 0, 0], [-1 / 5, 2 / 12, 1, 0]], rtol=1e-6)
    assert float(seen.numbers[1, 5]) == 0.5


def test_both_teams_begin_alike_and_worlds_differ():
    env = make("capture_the_flag", team_size=3)
    s = jax.jit(jax.vmap(env.init))(rng.seed(jax.random.key(0), (200,)))
    np.testing.assert_array_equal(s.row[:, 0], s.row[:, 1])
    np.testing.assert_array_equal(s.ahead[:, 0], s.ahead[:, 1])
    assert set(np.ravel(s.flag_row)) == set(range(1, 8)) and set(np.ravel(s.row)) == set(range(9))
    assert set(np.ravel(s.ahead)) == set(range(3, 8))
    assert len({tuple(np.ravel(row)) for row in s.row}) > 100


def mirrored(s):
    """The same world with the teams exchanged."""
    names = ("row", "ahead", "home_row", "home_ahead", "jailed", "carrier", "points")
    return s.replace(**{name: getattr(s, name)[::-1] for name in names})


STEPS = jax.jit(jax.vmap(lambda env, s, action: env.transition(s, action), in_axes=(None, 0, 0)))
ALL_SEEN = jax.jit(jax.vmap(lambda env, s: env.observe(s), in_axes=(None, 0)))
MIRRORED = jax.jit(jax.vmap(mirrored))


@functools.partial(jax.jit, static_argnames="length")
def played(env, seed, length):
    """States and actions of a world that players play."""

    def one(carry, _):
        s, stream = carry
        stream, _ = rng.bits(stream)
        action = env.player(s, stream)
        after, outcome = env.transition(s, action)
        return (after, stream), (s, action, after, outcome)

    return jax.lax.scan(one, (env.init(seed), seed ^ jnp.uint32(99)), length=length)[1]


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([2, 3]), st.integers(1, 2**32 - 1))
def test_the_rules_are_the_same_for_both_teams(team_size, seed):
    env = CaptureTheFlag(team_size=team_size, half=5, rows=5, jail_steps=8, winning_points=100)
    states, actions, after, outcome = played(env, jnp.array([seed, 7], jnp.uint32), 150)
    exchanged = jnp.roll(actions, team_size, 1)
    other, result = STEPS(env, MIRRORED(states), exchanged)
    jax.tree.map(np.testing.assert_array_equal, other, MIRRORED(after))
    np.testing.assert_array_equal(result.reward, np.roll(outcome.reward, team_size, 1))
    seen, theirs = (ALL_SEEN(env, x) for x in (after, other))
    np.testing.assert_array_equal(seen.agents, np.roll(theirs.agents, team_size, 1))
    np.testing.assert_array_equal(seen.numbers, np.roll(theirs.numbers, team_size, 1))

    # what one team wins the other loses
    np.testing.assert_array_equal(outcome.reward[:, 0], -outcome.reward[:, -1])
    # nobody leaves the field or is on the own ground, and who is in jail has no flag and is there
    free = np.asarray(after.jailed) == 0
    assert ((after.row >= 0) & (after.row < 5) & (after.ahead >= 0) & (after.ahead < 10)).all()
    ground = (np.abs(after.row - after.flag_row[:, None, None]) <= 1) & (after.ahead <= 2)
    assert not ground.any()
    carries = np.asarray(after.carrier)[:, :, None] == np.arange(team_size)
    assert not (carries & ~free).any() and (np.asarray(after.ahead)[carries] >= 5).all()
    assert (np.asarray(after.row)[~free] == 0).all() and (np.asarray(after.ahead)[~free] == 9 - JAIL).all()


@functools.partial(jax.jit, static_argnames=("first", "second", "games"))
def mean_score(env, first, second, key, games):
    """The mean score of the first bot's team against the second's; it is team 0 in every other game."""
    side = jnp.arange(games)[:, None] % 2 == jnp.array(env.teams)[None]

    def one(carry, _):
        s, streams, running = carry
        streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)
        a, b = (jax.vmap(functools.partial(env.bot, name=name))(s, streams) for name in (first, second))
        after, outcome = jax.vmap(env.transition)(s, jnp.where(side, a, b))
        s = jax.tree.map(lambda new, old: jnp.where(running.reshape(-1, *[1] * (new.ndim - 1)), new, old), after, s)
        return (s, streams, running & ~(outcome.terminated.any(-1) | outcome.reset)), None

    s = jax.vmap(env.init)(rng.seed(key, (games,)))
    carry = (s, rng.seed(jax.random.fold_in(key, 1), (games,)), jnp.ones(games, bool))
    (s, _, running), _ = jax.lax.scan(one, carry, length=300)
    score = jnp.where(side, jax.vmap(env.score)(s), 0).sum(-1) / env.team_size
    return score.mean(), (score > 0).mean(), running.any()


@pytest.mark.parametrize("team_size", [2, 3])
@pytest.mark.parametrize(("first", "second"), [("rusher", "random"), ("guard", "rusher")])
def test_bots_are_of_rising_strength(first, second, team_size):
    env = CaptureTheFlag(team_size=team_size)
    score, wins, running = mean_score(env, first, second, jax.random.key(0), games=64)
    assert float(score) > 2.0 and float(wins) > 0.9 and not running


def test_picture():
    env = make("capture_the_flag")
    picture = np.asarray(env.render(env.init(jnp.array([1, 2], jnp.uint32))))
    assert picture.shape == (180, 320, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) >= 7
