"""Go for two: known positions, ends, both sides' views, and whole games against the plain engine of test_go.py.

A board is written row by row from the top: "x" the side that moves, "o" the other, "." empty.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_go import board_of, chain_at, number, put, rows_of, score_of, set_of

from envs_jax.go import NOWHERE, GoTwo
from jaxpuffer import make, rng
from jaxpuffer.match import match
from jaxpuffer.players import Scripted

INIT = jax.jit(lambda env, seed: env.init(seed))
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
MASK = jax.jit(lambda env, s: env.action_mask(s))
BOT = jax.jit(lambda env, s, stream, name: env.bot(s, stream, name), static_argnums=3)


def drawn(*rows, **fields):
    board = {(r, c): mark for r, row in enumerate(rows) for c, mark in enumerate(row) if mark != "."}
    env = GoTwo(size=len(rows))
    s = INIT(env, jnp.array([1, 2], jnp.uint32))
    weak = [at for at in board if len(chain_at(env.size, board, at)[1]) == 1]
    s = s.replace(
        own=set_of(env, [at for at in board if board[at] == "x"]),
        theirs=set_of(env, [at for at in board if board[at] == "o"]),
        atari=set_of(env, weak),
    )
    return env, s.replace(**{k: jnp.int32(v) for k, v in fields.items()})


def test_default_parameters():
    env = make("go_two")
    assert (env.size, float(env.komi), int(env.max_steps)) == (9, 7.5, 1083)
    assert env.observation_space.shape == (166,) and env.action_space.n == 82


@pytest.mark.parametrize(
    ("before", "move", "after", "taken"),
    [
        (("....", "....", "....", "...."), (3, 3), ("....", "....", "....", "...o"), 0),
        (("ox..", "....", "....", "...."), (1, 0), (".o..", "o...", "....", "...."), 1),  # in a corner
        (("xo..", "xox.", ".x..", "...."), (0, 2), ("o.o.", "o.o.", ".o..", "...."), 2),  # the last liberty of two
        ((".ox.", "oox.", "xx..", "...."), (0, 0), ("o.o.", "..o.", "oo..", "...."), 3),  # into its own last liberty
        (("o.ox", "xxx.", "....", "...."), (0, 1), (".o.o", "ooo.", "....", "...."), 2),  # two chains at once
    ],
)
def test_a_stone_takes_and_then_the_board_is_the_other_sides(before, move, after, taken):
    env, s = drawn(*before, captured=5, lost=2)
    s, outcome = STEP(env, s, 1 + number(env, *move))
    assert rows_of(env, s) == after and (int(s.captured), int(s.lost)) == (2, 5 + taken)
    assert not outcome.terminated and float(outcome.reward) == 0


def test_sides_take_turns_and_side_0_begins():
    env, s = drawn("....", "....", "....", "....")
    for k in range(3):
        assert int(env.to_play(s)) == k % 2
        s, _ = STEP(env, s, jnp.int32(1 + k))
    assert rows_of(env, s) == ("oxo.", "....", "....", "....")


def test_ko():
    env, s = drawn(".xo..", "xo.o.", ".xo..", ".....", ".....")
    s, _ = STEP(env, s, 1 + number(env, 1, 2))
    assert int(s.ko) == 6 and not MASK(env, s)[1 + 6] and MASK(env, s.replace(ko=jnp.int32(NOWHERE)))[1 + 6]
    # taken back at once: it is a pass, and with 16 more stones in its area the other side is not behind
    s, outcome = STEP(env.replace(komi=25.0), s, jnp.int32(1 + 6))
    assert int(s.passed) == 1 and int(s.ko) == NOWHERE and not outcome.terminated


@pytest.mark.parametrize(
    ("rows", "legal"),
    [
        ((".o..", "o...", "....", "...."), False),  # one stone without a liberty
        ((".xo.", "oo..", "....", "...."), False),  # two
        ((".xo.", "ox..", "....", "...."), True),  # joins a chain with another liberty
        ((".ox.", "oxx.", "xx..", "...."), True),  # takes
        (("x...", "....", "....", "...."), False),
        (("o...", "....", "....", "...."), False),
    ],
)
def test_suicide_and_taken_points_are_masked(rows, legal):
    env, s = drawn(*rows)
    mask = MASK(env, s)
    assert mask[0] and bool(mask[1]) == legal
    after, _ = STEP(env.replace(komi=0.0), s, jnp.int32(1))
    assert bool(after.passed) != legal


# the side that moves has four points more than the other
AHEAD = (".x.o", ".x.o", ".x.o", ".x.o")


@pytest.mark.parametrize(
    ("side", "komi", "passed", "ends", "outcome"),
    [
        (0, 3.5, 0, False, 0),  # ahead: the other side may go on
        (0, 3.5, 1, True, 1),  # both have passed
        (0, 4.5, 0, True, -1),  # behind: the other side would pass too, and win
        (0, 4.5, 1, True, -1),
        (0, 4.0, 0, False, 0),  # equal
        (0, 4.0, 1, True, 0),
        (1, 3.5, 0, False, 0),  # of side 1, to which komi is added: ahead by 7.5
        (1, 3.5, 1, True, -1),
        (1, -4.5, 0, True, 1),
        (1, -4.0, 1, True, 0),
    ],
)
def test_a_game_ends_by_passes(side, komi, passed, ends, outcome):
    env, s = drawn(*AHEAD, passed=passed, steps=10 + side)
    s, result = STEP(env.replace(komi=komi), s, jnp.int32(0))
    assert (bool(result.terminated), int(s.outcome), float(result.reward)) == (ends, outcome, outcome)
    assert (float(env.score(s)), float(env.perf(s))) == (outcome, 0.5 + 0.5 * outcome)
    assert not result.truncated and int(s.passed) == 1


def test_a_stone_after_a_pass_goes_on():
    env, s = drawn(*AHEAD, passed=1)
    s, outcome = STEP(env, s, 1 + number(env, 0, 2))
    assert not outcome.terminated and int(s.passed) == 0


@pytest.mark.parametrize(("steps", "ends", "outcome"), [(46, False, 0), (47, True, 1)])
def test_the_last_move_is_the_third_per_point(steps, ends, outcome):
    # side 1, which moves last, takes a point in the middle: 12 to 4, and 3 of komi against it
    env, s = drawn(*AHEAD, steps=steps)
    s, result = STEP(env.replace(komi=-9.0), s, 1 + number(env, 0, 2))
    assert (bool(result.terminated), int(s.outcome), float(result.reward)) == (ends, outcome, outcome)


@pytest.mark.parametrize(("steps", "truncated"), [(18, False), (19, True)])
def test_the_time_limit(steps, truncated):
    env, s = drawn("....", "....", "....", "....", steps=steps)
    s, outcome = STEP(env.replace(max_steps=20), s, jnp.int32(1))
    assert bool(outcome.truncated) == truncated and not outcome.terminated and int(s.outcome) == 0


def test_what_either_side_sees():
    env, s = drawn("x..", ".o.", "..x", captured=3, lost=1, passed=1)
    for side, favour in ((0, -7.5), (1, 7.5)):
        obs = np.asarray(env.observe(s.replace(steps=jnp.int32(side))))
        np.testing.assert_array_equal(obs[:9], [1, 0, 0, 0, 0, 0, 0, 0, 1])
        np.testing.assert_array_equal(obs[9:18], [0, 0, 0, 0, 1, 0, 0, 0, 0])
        np.testing.assert_allclose(obs[18:], [3 / 9, 1 / 9, 1, favour / 9], rtol=1e-6)


@pytest.mark.parametrize("size", [3, 5, 9])
def test_whole_games_are_those_of_a_plain_engine(size):
    env = GoTwo(size=size, komi=0.5)
    random = np.random.default_rng(size)
    s = INIT(env, jnp.array([size, 3], jnp.uint32))
    board, ko, passed = {}, None, False
    for k in range(3 * size * size):
        mover, other = "xo"[k % 2], "ox"[k % 2]
        expected = {
            at
            for at in itertools.product(range(size), repeat=2)
            if at not in board and at != ko and put(size, board, at, mover) is not None
        }
        assert {divmod(int(c), size) for c in np.flatnonzero(np.asarray(MASK(env, s))[1:])} == expected
        passes = not expected or random.random() < 0.04
        row, column = sorted(expected)[random.integers(len(expected))] if expected else (0, 0)
        s, outcome = STEP(env, s, jnp.int32(0) if passes else 1 + number(env, row, column))
        if passes:
            ko = None
        else:
            board, taken, ko = put(size, board, (row, column), mover)
            assert int(s.lost) >= len(taken)
        # the board as the side sees it that moves next
        seen = board_of(env, s)
        assert {at: mover if mark == "o" else other for at, mark in seen.items()} == board
        assert int(s.ko) == (NOWHERE if ko is None else ko[0] * size + ko[1])

        lead = score_of(size, board) - 0.5
        behind = lead < 0 if mover == "x" else lead > 0
        ends = k == 3 * size * size - 1 or (passes and (passed or behind))
        assert bool(outcome.terminated) == ends and float(outcome.reward) == (np.sign(lead) if ends else 0)
        passed = passes
        if ends:
            break
    assert ends


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 25), min_size=1, max_size=40))
@settings(max_examples=20, deadline=None)
def test_stones_are_conserved(seed, actions):
    """After any moves every chain has a liberty, and stones are on the board or taken."""
    env = GoTwo(size=5)
    s = INIT(env, jnp.array([seed, 9], jnp.uint32))
    for k, action in enumerate(actions):
        stones = len(board_of(env, s)) + int(s.captured) + int(s.lost)
        s, outcome = STEP(env, s, jnp.int32(action))
        board = board_of(env, s)
        assert all(chain_at(5, board, at)[1] for at in board)
        assert len(board) + int(s.captured) + int(s.lost) == stones + 1 - int(s.passed)
        assert int(s.steps) == k + 1
        if outcome.terminated:
            break


def test_the_greedy_bot_takes_saves_or_contacts():
    stream = jnp.array([3, 4], jnp.uint32)
    env, s = drawn("ox...", ".....", ".....", ".....", "o....")
    assert int(BOT(env, s, stream, "greedy")) == 1 + 5  # takes the corner
    env, s = drawn(".o...", "ox...", ".o...", ".....", ".....")
    assert int(BOT(env, s, stream, "greedy")) == 1 + 7  # where two liberties open
    env, s = drawn(".....", ".....", "..o..", ".....", ".....")
    found = {int(BOT(env, s, jnp.array([k, 4], jnp.uint32), "greedy")) - 1 for k in range(30)}
    assert found == {7, 11, 13, 17}  # beside the other side's stone
    env, s = drawn(".x.x", "xxxx", "xxxx", "oooo")
    assert int(BOT(env, s, stream, "greedy")) == 0  # only its eyes are left


def test_the_random_bot_plays_every_legal_action():
    env, s = drawn(".o.", "o..", "..o")
    streams = rng.seed(jax.random.key(0), (200,))
    found = jax.vmap(lambda stream: BOT(env, s, stream, "random"))(streams)
    assert set(found.tolist()) == set(np.flatnonzero(MASK(env, s)).tolist()) and 1 not in found


def test_the_weakest_bot_comes_first():
    played = match(make("go_two", size=7), Scripted("greedy"), Scripted("random"), jax.random.key(0), games=40)
    assert played.finished.all() and (played.outcome > 0).sum() > 36


def test_picture():
    """Side 0's stones are black, whoever moves."""
    env, s = drawn("x.o", "...", "...")
    black, white = env.render(s), env.render(s.replace(steps=jnp.int32(1)))
    assert black.shape == (72, 72, 3) and len(np.unique(np.asarray(black).reshape(-1, 3), axis=0)) == 4
    assert black[12, 12].tolist() == white[12, 60].tolist() == [24, 24, 24]
    assert black[12, 60].tolist() == white[12, 12].tolist() == [241, 241, 241]
