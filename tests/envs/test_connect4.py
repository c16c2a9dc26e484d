"""Connect Four: the default parameters, known positions, and the opponent's search against a plain negamax.

A board is written as seven columns of "x" (the agent) and "o" (the opponent) from the bottom.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.connect4 import COLUMNS, ROWS, Connect4, _cells
from jaxpuffer import make, rng

ENV = Connect4()
RANDOM = Connect4(opponent_depth=0)
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
VALUES = jax.jit(lambda own, theirs, depth: ENV.values(depth, _cells(own), _cells(theirs)), static_argnums=2)


def words(columns, player):
    bits = sum(1 << (7 * c + r) for c, column in enumerate(columns) for r, disc in enumerate(column) if disc == player)
    return jnp.array([bits & (1 << 28) - 1, bits >> 28], jnp.uint32)


def game(*columns):
    s = ENV.init(jnp.array([1, 2], jnp.uint32))
    return s.replace(own=words(columns, "x"), theirs=words(columns, "o"))


def columns_of(s):
    own, theirs = (int(w[0]) | int(w[1]) << 28 for w in (s.own, s.theirs))
    return tuple(
        "".join("x" if own >> 7 * c + r & 1 else "o" for r in range(ROWS) if (own | theirs) >> 7 * c + r & 1)
        for c in range(COLUMNS)
    )


# a plain reference: lists of strings, every line checked


def wins(columns, player):
    at = {(c, r) for c, column in enumerate(columns) for r, disc in enumerate(column) if disc == player}
    lines = ((1, 0), (0, 1), (1, 1), (1, -1))
    return any(all((c + k * dc, r + k * dr) in at for k in range(4)) for c, r in at for dc, dr in lines)


def put(columns, column, player):
    return (*columns[:column], columns[column] + player, *columns[column + 1 :])


@functools.cache
def negamax(columns, player, depth):
    """The value if `player` moves: 1 for a forced win within `depth` moves, -1 for a forced loss, otherwise 0."""
    other = "o" if player == "x" else "x"
    moves = [c for c in range(COLUMNS) if len(columns[c]) < ROWS]
    if depth == 0 or not moves:
        return 0
    best = -1
    for c in moves:
        after = put(columns, c, player)
        best = max(best, 1 if wins(after, player) else -negamax(after, other, depth - 1))
    return best


def reference(columns, player, depth):
    """The value that `values` should give each column."""
    other = "o" if player == "x" else "x"
    found = []
    for c in range(COLUMNS):
        if len(columns[c]) == ROWS:
            found.append(-1)
            continue
        after = put(columns, c, player)
        if depth >= 1 and wins(after, player):
            found.append(3)
            continue
        value = -negamax(after, other, depth - 1) if depth else 0
        found.append({1: 2, 0: 1, -1: 0}[value])
    return found


def test_default_parameters():
    env = make("connect4")
    assert (env.opponent_depth, float(env.opponent_begins), int(env.max_steps)) == (3, 0.0, 42)


@pytest.mark.parametrize(
    ("columns", "action"),
    [
        (("xxx", "oo", "o", "", "", "", ""), 0),  # vertical
        (("x", "x", "x", "", "o", "o", "o"), 3),  # horizontal
        (("", "", "", "x", "x", "x", ""), 6),  # over the two words
        (("x", "ox", "oox", "oxo", "", "", ""), 3),  # rising
        (("", "", "", "oxo", "oox", "ox", "x"), 3),  # falling
        (("", "", "x", "x", "", "x", ""), 4),  # a gap closed
        (("ooxooo", "", "", "", "", "", "xxx"), 6),
    ],
)
def test_four_in_a_row_wins(columns, action):
    s, outcome = STEP(ENV, game(*columns), jnp.int32(action))
    assert outcome.terminated and outcome.reward == 1 and ENV.score(s) == 1 and ENV.perf(s) == 1
    assert columns_of(s) == put(columns, action, "x")  # no reply


@pytest.mark.parametrize(
    ("columns", "action"),
    [
        (("xxx", "oo", "o", "", "", "", ""), 1),
        (("oooxxx", "xxxooo", "", "", "", "", ""), 3),  # the top of a column and the bottom of the next: no line
    ],
)
def test_no_four(columns, action):
    _, outcome = STEP(RANDOM, game(*columns), jnp.int32(action))
    assert not outcome.terminated or outcome.reward == -1


def test_the_opponent_takes_a_win():
    s, outcome = STEP(ENV, game("ooo", "xx", "x", "", "", "", ""), jnp.int32(2))
    assert outcome.terminated and outcome.reward == -1 and columns_of(s)[0] == "oooo"


def test_the_opponent_blocks():
    s, outcome = STEP(ENV, game("xx", "o", "o", "", "", "", ""), jnp.int32(0))
    assert columns_of(s)[0] == "xxxo" and not outcome.terminated


def test_the_opponent_makes_a_double_threat():
    """With o at the bottom of columns 2 and 3, a third one beside them threatens both ends."""
    found = VALUES(words(("", "", "o", "o", "", "", ""), "o"), words(("", "", "", "", "", "", "xx"), "x"), 3)
    np.testing.assert_array_equal(found == 2, [False, True, False, False, True, False, False])


def test_a_full_column_loses():
    s, outcome = STEP(ENV, game("xoxoxo", "", "", "", "", "", ""), jnp.int32(0))
    assert outcome.terminated and outcome.reward == -1 and columns_of(s)[0] == "xoxoxo"
    np.testing.assert_array_equal(ENV.action_mask(s), [False] + [True] * 6)


def test_a_full_board_is_a_draw():
    # pairs of columns in reverse order: no line of four, the last disc is the opponent's
    full = ("xxoxxo", "ooxoox", "xxoxxo", "ooxoox", "xxoxxo", "ooxoox", "xoxo")
    assert not wins(full, "x") and not wins(full, "o")
    s, outcome = STEP(RANDOM, game(*full), jnp.int32(6))
    assert outcome.terminated and outcome.reward == 0 and ENV.perf(s) == 0.5
    assert all(len(column) == ROWS for column in columns_of(s))


def test_the_time_limit():
    env = ENV.replace(max_steps=3)
    _, outcome = STEP(env, game(*[""] * 7).replace(steps=jnp.int32(2)), jnp.int32(0))
    assert outcome.truncated and not outcome.terminated


def test_what_is_seen():
    obs = np.asarray(ENV.observe(game("xo", "", "", "", "", "", "o"))).reshape(ROWS, COLUMNS)
    assert obs[5, 0] == 1 and obs[4, 0] == -1 and obs[5, 6] == -1 and np.abs(obs).sum() == 3


def test_random_replies_are_uniform_and_begin_as_often_as_told():
    env = Connect4(opponent_depth=0, opponent_begins=0.5)
    s = jax.vmap(env.init)(rng.seed(jax.random.key(0), (7000,)))
    first = np.asarray(jax.vmap(env.observe)(s)).reshape(-1, ROWS, COLUMNS)[:, 5]
    np.testing.assert_allclose((first == -1).any(1).mean(), 0.5, atol=0.03)
    np.testing.assert_allclose((first == -1).sum(0), 500, atol=90)


@given(st.lists(st.integers(0, 6), max_size=36))
@settings(max_examples=60, deadline=None)
def test_the_search_is_negamax(moves):
    """On random positions, for both players and every depth; also mirrored."""
    columns, player = ("",) * 7, "x"
    for c in moves:
        after = put(columns, c, player)
        if len(columns[c]) == ROWS or wins(after, player):
            continue
        columns, player = after, "o" if player == "x" else "x"
    other = "o" if player == "x" else "x"
    for depth in range(4):
        found = np.asarray(VALUES(words(columns, player), words(columns, other), depth))
        assert found.tolist() == reference(columns, player, depth), (columns, player, depth)
    mirrored = columns[::-1]
    found = np.asarray(VALUES(words(mirrored, player), words(mirrored, other), 3))
    assert found.tolist() == reference(columns, player, 3)[::-1]


def test_picture():
    picture = jax.jit(ENV.render)(game("xo", "", "", "", "", "", ""))
    assert picture.shape == (192, 224, 3) and picture.dtype == jnp.uint8
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) == 4
