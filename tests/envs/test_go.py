"""Go: the default parameters, known positions, and whole games against a plain engine that fills chains by stones.

A board is written row by row from the top: "x" the agent, "o" the opponent, "." empty.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.go import NOWHERE, Go
from jaxpuffer import make

INIT = jax.jit(lambda env, seed: env.init(seed))
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
PLACE = jax.jit(lambda env, s, point: env.place(s, list(s.own), list(s.theirs), point))
LEGAL = jax.jit(lambda env, s: (env.action_mask(s), env.on_points(env.legal(s, list(s.theirs), list(s.own)))))
AREA = jax.jit(lambda env, s: env.area(list(s.own), list(s.theirs)))
POINTS = jax.jit(lambda env, s: [env.on_points(list(x)) for x in (s.own, s.theirs, s.atari)])


# a plain engine: a board is a dictionary of points, chains are found by walking


def beside(size, at):
    row, column = at
    around = ((row, column + 1), (row, column - 1), (row + 1, column), (row - 1, column))
    return [(r, c) for r, c in around if 0 <= r < size and 0 <= c < size]


def chain_at(size, board, at):
    found, liberties, rest = {at}, set(), [at]
    while rest:
        for other in beside(size, rest.pop()):
            if other not in board:
                liberties.add(other)
            elif board[other] == board[at] and other not in found:
                found.add(other)
                rest.append(other)
    return found, liberties


def put(size, board, at, player):
    """The board after the move, how many stones it took, and the ko that follows; None if it is suicide."""
    board = {**board, at: player}
    taken = set()
    for other in beside(size, at):
        if board.get(other, player) != player:
            chain, liberties = chain_at(size, board, other)
            taken |= chain if not liberties else set()
    board = {k: v for k, v in board.items() if k not in taken}
    chain, liberties = chain_at(size, board, at)
    if not liberties:
        return None
    ko = next(iter(taken)) if len(taken) == 1 and len(chain) == 1 and len(liberties) == 1 else None
    return board, taken, ko


def score_of(size, board):
    """Area of the agent minus that of the opponent."""
    total = 0
    for at in itertools.product(range(size), repeat=2):
        if at in board:
            total += 1 if board[at] == "x" else -1
            continue
        region, rest, touched = {at}, [at], set()
        while rest:
            for other in beside(size, rest.pop()):
                if other in board:
                    touched.add(board[other])
                elif other not in region:
                    region.add(other)
                    rest.append(other)
        total += {("x",): 1, ("o",): -1}.get(tuple(sorted(touched)), 0)
    return total


# to and fro


def board_of(env, s):
    own, theirs, _ = POINTS(env, s)
    of = {1: "x", 2: "o"}
    return {divmod(k, env.size): of[v] for k, v in enumerate(np.asarray(own) + 2 * np.asarray(theirs)) if v}


def set_of(env, points):
    bits = sum(1 << (env.size + 1) * row + column for row, column in points)
    return jnp.array([bits >> 32 * w & 0xFFFFFFFF for w in range(env.words)], jnp.uint32)


def state(env, board, **fields):
    s = INIT(env, jnp.array([1, 2], jnp.uint32))
    weak = [at for at in board if len(chain_at(env.size, board, at)[1]) == 1]
    s = s.replace(
        own=set_of(env, [at for at in board if board[at] == "x"]),
        theirs=set_of(env, [at for at in board if board[at] == "o"]),
        atari=set_of(env, weak),
    )
    return s.replace(**{k: jnp.int32(v) for k, v in fields.items()})


def drawn(*rows):
    board = {(r, c): mark for r, row in enumerate(rows) for c, mark in enumerate(row) if mark != "."}
    return Go(size=len(rows)), board


def rows_of(env, s):
    board = board_of(env, s)
    return tuple("".join(board.get((r, c), ".") for c in range(env.size)) for r in range(env.size))


def number(env, row, column):
    return jnp.int32(row * env.size + column)


def test_default_parameters():
    env = make("go")
    assert (env.size, float(env.komi), int(env.max_steps)) == (9, 7.5, 150)
    assert float(env.per_stone) == np.float32(0.01)
    assert env.observation_space.shape == (164,) and env.action_space.n == 82


@pytest.mark.parametrize(
    ("before", "move", "after", "taken"),
    [
        (("ox..", "....", "....", "...."), (1, 0), (".x..", "x...", "....", "...."), 1),  # in a corner
        ((".o..", "xox.", ".x..", "...."), (0, 0), ("xo..", "xox.", ".x..", "...."), 0),  # not yet
        (("xo..", "xox.", ".x..", "...."), (0, 2), ("x.x.", "x.x.", ".x..", "...."), 2),  # the last liberty of two
        ((".ox.", "oox.", "xx..", "...."), (0, 0), ("x.x.", "..x.", "xx..", "...."), 3),  # into its own last liberty
        (("o.o.", "xxx.", "...x", "...."), (0, 1), (".xo.", "xxx.", "...x", "...."), 1),  # one of two chains
        (("o.ox", "xxx.", "....", "...."), (0, 1), (".x.x", "xxx.", "....", "...."), 2),  # two chains at once
        (("....", "....", "....", "...."), (3, 3), ("....", "....", "....", "...x"), 0),
    ],
)
def test_captures(before, move, after, taken):
    env, board = drawn(*before)
    s, own, theirs, count = PLACE(env, state(env, board), number(env, *move))
    s = s.replace(own=jnp.stack(own), theirs=jnp.stack(theirs))
    assert rows_of(env, s) == after and int(count) == taken
    expected = {at for at in board_of(env, s) if len(chain_at(env.size, board_of(env, s), at)[1]) == 1}
    assert {divmod(int(k), env.size) for k in np.flatnonzero(POINTS(env, s)[2])} == expected


def test_ko():
    env, board = drawn(".xo..", "x.xo.", ".xo..", ".....", ".....")
    # the opponent takes the stone at (1, 2), and may be taken back there
    board[1, 1] = "o"
    del board[1, 2]
    env, board = drawn(".xo..", "xo.o.", ".xo..", ".....", ".....")
    s, own, theirs, count = PLACE(env, state(env, board), number(env, 1, 2))
    assert int(count) == 1 and int(s.ko) == 6
    s = s.replace(own=jnp.stack(own), theirs=jnp.stack(theirs))
    # not at once: this is the only point that the ko forbids
    other = LEGAL(env, s)[1]
    assert not other[6] and LEGAL(env, s.replace(ko=jnp.int32(NOWHERE)))[1][6]
    # for the agent a forbidden point is masked, and a pass if played
    s = s.replace(own=s.theirs, theirs=s.own, passed=jnp.int32(0))
    assert not LEGAL(env, s)[0][1 + 6]
    after, _ = STEP(env, s.replace(theirs=s.theirs, passed=jnp.int32(1)), jnp.int32(1 + 6))
    assert rows_of(env, after) == rows_of(env, s)


@pytest.mark.parametrize(
    ("rows", "point", "legal"),
    [
        ((".o..", "o...", "....", "...."), (0, 0), False),  # one stone without a liberty
        ((".xo.", "oo..", "....", "...."), (0, 0), False),  # two
        ((".xo.", "ox..", "....", "...."), (0, 0), True),  # joins a chain with another liberty
        ((".ox.", "oxx.", "xx..", "...."), (0, 0), True),  # takes
        (("x...", "....", "....", "...."), (0, 0), False),
        (("o...", "....", "....", "...."), (0, 0), False),
        (("....", "....", "....", "...."), (0, 0), True),
    ],
)
def test_suicide_and_taken_points_are_masked(rows, point, legal):
    env, board = drawn(*rows)
    mask = LEGAL(env, state(env, board))[0]
    assert mask[0] and bool(mask[1 + number(env, *point)]) == legal


@pytest.mark.parametrize(
    ("rows", "area"),
    [
        ((".x.o", ".x.o", ".x.o", ".x.o"), 4),
        (("....", "....", "....", "...."), 0),
        (("x...", "....", "....", "...."), 16),
        (("....", "....", "....", "...o"), -16),
        ((".xo.", "xxoo", "oo..", "...."), -8),
    ],
)
def test_area(rows, area):
    env, board = drawn(*rows)
    assert int(AREA(env, state(env, board))) == area == score_of(env.size, board)


def test_games_end_by_passes():
    env, board = drawn(".x.o", ".x.o", ".x.o", ".x.o")
    # four points more, minus komi
    for komi, passed, ends, outcome in ((3.5, 1, True, 1), (3.5, 0, False, 0), (4.5, 0, True, -1), (4.0, 1, True, 0)):
        s, result = STEP(env.replace(komi=komi), state(env, board, passed=passed), jnp.int32(0))
        assert (bool(result.terminated), int(s.outcome), float(result.reward)) == (ends, outcome, outcome)
        assert (rows_of(env, s) == (".x.o",) * 4) == ends
        assert not result.truncated


def test_the_opponent_takes_saves_or_contacts():
    env, board = drawn("xo...", ".....", ".....", ".....", "x....")
    # it takes the corner stone for every other move of the agent
    s, result = STEP(env, state(env, board), 1 + number(env, 4, 4))
    assert rows_of(env, s)[:2] == (".o...", "o....") and float(result.reward) == np.float32(-0.01)
    # its own stone has one liberty: it goes there, where two more open
    env, board = drawn(".x...", "xo...", ".....", ".....", ".....")
    s, _ = STEP(env, state(env, board), 1 + number(env, 2, 1))
    assert rows_of(env, s) == (".x...", "xoo..", ".x...", ".....", ".....")
    # nothing to take or to save: beside one of the agent's stones
    env = Go(size=5)
    for seed in range(8):
        s = INIT(env, jnp.array([seed, 5], jnp.uint32))
        s, _ = STEP(env, s, 1 + number(env, 2, 2))
        (at,) = [at for at, player in board_of(env, s).items() if player == "o"]
        assert at in beside(5, (2, 2))


def test_the_opponent_passes_when_only_its_eyes_are_left():
    env, board = drawn(".o.o", "oooo", "oooo", "xxx.")
    s, _ = STEP(env, state(env, board), 1 + number(env, 3, 3))
    assert rows_of(env, s)[3] == "...." or int(s.passed) == 1
    env, board = drawn(".o.", "ooo", "oo.")
    s, result = STEP(env.replace(komi=-20.0), state(env, board), jnp.int32(0))
    assert bool(result.terminated) and int(s.outcome) == 1  # by komi alone


@pytest.mark.parametrize(("steps", "truncated"), [(148, False), (149, True)])
def test_the_time_limit(steps, truncated):
    env = Go()
    _, outcome = STEP(env, state(env, {}, steps=steps), jnp.int32(1))
    assert bool(outcome.truncated) == truncated and not outcome.terminated


def test_what_is_seen():
    env, board = drawn("x..", ".o.", "..x")
    obs = np.asarray(env.observe(state(env, board, captured=3, lost=1)))
    np.testing.assert_array_equal(obs[:9], [1, 0, 0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(obs[9:18], [0, 0, 0, 0, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(obs[18:], [3 / 9, 1 / 9], rtol=1e-6)


@pytest.mark.parametrize("size", [3, 5, 9, 13])
def test_whole_games_are_those_of_a_plain_engine(size):
    env = Go(size=size)
    random = np.random.default_rng(size)
    s = INIT(env, jnp.array([size, 3], jnp.uint32))
    board, ko = {}, None
    for _ in range(60):
        # the agent's legal moves
        mask = np.asarray(LEGAL(env, s)[0])
        expected = {
            at
            for at in itertools.product(range(size), repeat=2)
            if at not in board and at != ko and put(size, board, at, "x") is not None
        }
        assert {divmod(int(k), size) for k in np.flatnonzero(mask[1:])} == expected
        if not expected:
            break
        row, column = sorted(expected)[random.integers(len(expected))]
        captured, lost = int(s.captured), int(s.lost)
        s, _ = STEP(env, s, 1 + number(env, row, column))
        board, taken, ko = put(size, board, (row, column), "x")
        assert int(s.captured) - captured == len(taken)

        # the opponent's stone is the new one, or the one that was not there before
        after = board_of(env, s)
        new = [at for at in after if after[at] == "o" and board.get(at) != "o"]
        if not new:
            assert int(s.passed) == 1 and after == board
            ko = None
            continue
        assert new[0] != ko
        board, taken, ko = put(size, board, new[0], "o")
        assert board == after and int(s.lost) - lost == len(taken)
        assert int(s.ko) == (NOWHERE if ko is None else ko[0] * size + ko[1])
        weak = {at for at in board if len(chain_at(size, board, at)[1]) == 1}
        assert {divmod(int(k), size) for k in np.flatnonzero(POINTS(env, s)[2])} == weak
        assert int(AREA(env, s)) == score_of(size, board)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 25), min_size=1, max_size=40))
@settings(max_examples=20, deadline=None)
def test_every_chain_has_a_liberty_after_any_moves(seed, actions):
    env = Go(size=5)
    s = INIT(env, jnp.array([seed, 9], jnp.uint32))
    for action in actions:
        s, outcome = STEP(env, s, jnp.int32(action))
        board = board_of(env, s)
        assert all(chain_at(5, board, at)[1] for at in board)
        if outcome.terminated:
            break
    moves = int(s.steps)
    assert sum(v == "x" for v in board.values()) + int(s.lost) <= moves


def test_a_turned_board_is_scored_alike():
    random = np.random.default_rng(0)
    env = Go(size=7)
    for _ in range(10):
        marks = random.choice(list("xo."), size=(7, 7))
        both = [score_area(env, turned) for turned in (marks, marks.T, marks[::-1], marks[:, ::-1])]
        assert len(set(both)) == 1


def score_area(env, marks):
    return int(AREA(env, state(env, {(r, c): marks[r, c] for r, c in np.argwhere(marks != ".").tolist()})))


def test_picture():
    env = make("go")
    s, _ = STEP(env, INIT(env, jnp.array([1, 2], jnp.uint32)), jnp.int32(41))
    picture = jax.jit(env.render)(s)
    assert picture.shape == (216, 216, 3) and picture.dtype == jnp.uint8
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) == 4
