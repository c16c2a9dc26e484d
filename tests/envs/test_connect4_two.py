"""Connect Four for two: the default parameters, moves worked out by hand, and the bots against a plain negamax.

A board is written as seven columns of "x" (the side that moves) and "o" (the other) from the bottom.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_connect4 import columns_of, put, wins, words

from envs_jax.connect4 import COLUMNS, ROWS, Connect4Two, _cells
from jaxpuffer import make, rng
from jaxpuffer.match import match
from jaxpuffer.players import Scripted

ENV = Connect4Two()
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
BOT = jax.jit(lambda s, stream, name: ENV.bot(s, stream, name), static_argnums=2)
VALUES = jax.jit(lambda own, theirs: ENV.values_of_five(_cells(own), _cells(theirs)))


def game(*columns, side=0):
    s = ENV.init(jnp.array([1, 2], jnp.uint32))
    return s.replace(own=words(columns, "x"), theirs=words(columns, "o"), steps=jnp.int32(side))


def exchanged(columns):
    return tuple(column.translate(str.maketrans("xo", "ox")) for column in columns)


def test_default_parameters():
    env = make("connect4_two")
    assert int(env.max_steps) == 42 and env.bots == ("random", "depth1", "depth3", "depth5")


def test_sides_take_turns_and_the_mover_sees_its_discs():
    s = ENV.init(jnp.array([1, 2], jnp.uint32))
    for k, column in enumerate((3, 3, 0)):
        assert int(ENV.to_play(s)) == k % 2
        s, outcome = STEP(ENV, s, jnp.int32(column))
        assert float(outcome.reward) == 0 and not outcome.terminated
    assert columns_of(s) == ("o", "", "", "ox", "", "", "")  # of side 1, which now moves
    obs = np.asarray(ENV.observe(s)).reshape(ROWS, COLUMNS)
    assert obs[5, 3] == -1 and obs[4, 3] == 1 and obs[5, 0] == -1 and np.abs(obs).sum() == 3


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("columns", "action"),
    [
        (("xxx", "oo", "o", "", "", "", ""), 0),  # vertical
        (("x", "x", "x", "", "o", "o", "o"), 3),  # horizontal
        (("", "", "", "x", "x", "x", ""), 6),  # over the two words
        (("x", "ox", "oox", "oxo", "", "", ""), 3),  # rising
        (("", "", "", "oxo", "oox", "ox", "x"), 3),  # falling
        (("", "", "x", "x", "", "x", ""), 4),  # a gap closed
    ],
)
def test_four_in_a_row_wins(side, columns, action):
    s, outcome = STEP(ENV, game(*columns, side=side), jnp.int32(action))
    won = 1 if side == 0 else -1
    assert outcome.terminated and outcome.reward == won == ENV.score(s) and ENV.perf(s) == 0.5 + 0.5 * won
    assert columns_of(s) == exchanged(put(columns, action, "x"))


@pytest.mark.parametrize(
    ("columns", "action"),
    [
        (("xxx", "oo", "o", "", "", "", ""), 1),
        (("oooxxx", "xxxooo", "", "", "", "", ""), 3),  # the top of a column and the bottom of the next: no line
        (("ooo", "", "", "", "", "", ""), 1),  # the other side's three
    ],
)
def test_no_four(columns, action):
    s, outcome = STEP(ENV, game(*columns), jnp.int32(action))
    assert not outcome.terminated and outcome.reward == 0 and ENV.perf(s) == 0.5


@pytest.mark.parametrize(("side", "outcome"), [(0, -1), (1, 1)])
def test_a_full_column_loses(side, outcome):
    full = game("xoxoxo", "", "", "", "", "", "", side=side)
    np.testing.assert_array_equal(ENV.action_mask(full), [False] + [True] * 6)
    s, result = STEP(ENV, full, jnp.int32(0))
    assert result.terminated and result.reward == outcome and columns_of(s)[0] == "oxoxox"


# pairs of columns in reverse order: no line of four, one cell is free
LAST = ("xxoxxo", "ooxoox", "xxoxxo", "ooxoox", "xxoxxo", "ooxoox", "xoxox")


def test_a_full_board_is_a_draw():
    s, outcome = STEP(ENV, game(*LAST), jnp.int32(6))
    assert not wins(put(LAST, 6, "x"), "x")
    assert outcome.terminated and outcome.reward == 0 and ENV.perf(s) == 0.5


def test_the_time_limit():
    env = ENV.replace(max_steps=3)
    _, outcome = STEP(env, game(*[""] * 7, side=2), jnp.int32(0))
    assert outcome.truncated and not outcome.terminated
    _, outcome = STEP(env, game(*[""] * 7, side=1), jnp.int32(0))
    assert not outcome.truncated


@pytest.mark.parametrize("name", ["depth1", "depth3", "depth5"])
def test_bots_take_a_win_in_one(name):
    s = game("ooo", "xxx", "o", "", "", "", "")  # also if the other side would win
    for k in range(5):
        assert BOT(s, jnp.array([k, 3], jnp.uint32), name) == 1


@pytest.mark.parametrize("name", ["depth3", "depth5"])
def test_bots_that_see_a_reply_block_a_loss_in_one(name):
    s = game("ooo", "xx", "x", "", "", "", "")
    for k in range(5):
        assert BOT(s, jnp.array([k, 3], jnp.uint32), name) == 0


def test_bots_without_a_preference_choose_any_column():
    s = game("xoxoxo", "", "", "", "", "", "")
    streams = rng.seed(jax.random.key(0), (700,))
    for name in ("random", "depth1"):
        found = np.asarray(jax.vmap(lambda stream, name=name: BOT(s, stream, name))(streams))
        np.testing.assert_allclose(np.bincount(found, minlength=7), [0] + [700 / 6] * 6, atol=45)


def test_a_double_threat_is_seen_from_afar():
    # o at the bottom of columns 2 and 3: if x does not play beside them now, o will threaten both ends
    s = game("", "", "o", "o", "", "", "")
    found = VALUES(s.own, s.theirs)
    np.testing.assert_array_equal(found, [1, 2, 1, 1, 2, 1, 1])
    assert BOT(s, jnp.array([3, 3], jnp.uint32), "depth5") in (1, 4)


@functools.cache
def winner(columns, player, depth):
    """Of the side that moves: 1 + depth left for a forced win, minus that for a forced loss, otherwise 0."""
    moves = [c for c in range(COLUMNS) if len(columns[c]) < ROWS]
    if depth == 0 or not moves:
        return 0
    after = [put(columns, c, player) for c in moves]
    if any(wins(a, player) for a in after):
        return 1 + depth
    return max(-winner(a, "o" if player == "x" else "x", depth - 1) for a in after)


@given(st.lists(st.integers(0, 6), min_size=18, max_size=60))
@settings(max_examples=12, deadline=None)
def test_the_search_of_five_moves_is_negamax(moves):
    """With wins as early as possible and losses as late, also near the end of the game."""
    columns, player = ("",) * 7, "x"
    for c in moves:
        after = put(columns, c, player)
        if len(columns[c]) == ROWS or wins(after, player):
            continue
        columns, player = after, "o" if player == "x" else "x"
    other = "o" if player == "x" else "x"
    expected = []
    for c in range(COLUMNS):
        after = put(columns, c, player)
        if len(columns[c]) == ROWS:
            expected.append(-1)
        else:
            value = 6 if wins(after, player) else -winner(after, other, 4)
            expected.append({6: 5, 4: 4, 2: 3, 0: 2, -3: 1, -5: 0}[value])
    found = np.asarray(VALUES(words(columns, player), words(columns, other)))
    assert found.tolist() == expected, (columns, player)


@pytest.mark.parametrize(("better", "worse"), [("depth1", "random"), ("depth3", "depth1"), ("depth5", "depth1")])
def test_the_weakest_bot_comes_first(better, worse):
    wins = match(ENV, Scripted(better), Scripted(worse), jax.random.key(0), games=100).shares()["wins"]
    assert wins[1] > 0.5  # with 95 %


def test_five_hundred_games_fit_in_memory():
    s = jax.tree.map(lambda x: jnp.broadcast_to(x, (500, *x.shape)), game(*[""] * 7))
    program = jax.jit(jax.vmap(lambda s, stream: ENV.bot(s, stream, "depth5")))
    used = program.lower(s, rng.seed(jax.random.key(0), (500,))).compile().memory_analysis()
    assert used.temp_size_in_bytes < 100e6


def test_picture():
    """Side 0's discs have the same colour, whoever moves."""
    first, second = (ENV.render(game("x", "o", "", "", "", "", "", side=side)) for side in (0, 1))
    assert first.shape == (192, 224, 3) and len(np.unique(np.asarray(first).reshape(-1, 3), axis=0)) == 4
    assert first[176, 16].tolist() == second[176, 48].tolist() == [0, 187, 187]
