"""Triple Triad for two: the default parameters, games worked out by hand, and the bots.

Fields are numbered 0 to 8, row by row; values are north, east, south, west.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.tripletriad import CARDS, NONE, TripleTriadTwo
from jaxpuffer import make, rng
from jaxpuffer.env import random_action
from jaxpuffer.match import match
from jaxpuffer.players import Scripted

ENV = TripleTriadTwo()
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
BOT = jax.jit(lambda s, stream, name: ENV.bot(s, stream, name), static_argnums=2)
FOUR = [4, 4, 4, 4]


def game(board=(), hands=(FOUR, FOUR), selected=NONE):
    """A game by hand: board holds (field, owner, values), owner 1 the side that moves; the cards of a hand are equal.

    As many cards of each hand are played as the sides have placed in turns.
    """
    s = ENV.init(jnp.array([1, 2], jnp.uint32))
    values, owner, played = np.zeros((9, 4), np.int32), np.zeros(9, np.int32), np.zeros((2, 5), np.int32)
    for cell, player, sides in board:
        values[cell], owner[cell] = sides, player
    played[0, : len(board) // 2] = 1
    played[1, : (len(board) + 1) // 2] = 1
    return s.replace(
        hand=jnp.repeat(jnp.int32(hands)[:, None], CARDS, 1),
        board=jnp.array(values),
        owner=jnp.array(owner),
        played=jnp.array(played),
        selected=jnp.int32(selected),
    )


def place(s, cell, card=4):
    s, _ = STEP(ENV, s, jnp.int32(card))
    return STEP(ENV, s, jnp.int32(CARDS + cell))


def test_default_parameters():
    env = make("tripletriad_two")
    assert int(env.max_steps) == 30 and env.bots == ("random", "greedy", "careful")


@pytest.mark.parametrize(
    ("cell", "neighbour", "sides", "taken"),
    [
        (4, 1, [9, 9, 3, 9], True),  # it touches with its south: 3 against our north 4
        (4, 1, [1, 1, 4, 1], False),  # equal values take nothing
        (4, 5, [9, 9, 9, 3], True),
        (4, 7, [3, 9, 9, 9], True),
        (4, 3, [9, 3, 9, 9], True),
        (4, 0, [1, 1, 1, 1], False),  # the corner is not a neighbour
        (2, 3, [1, 1, 1, 1], False),  # the end of a row does not touch the beginning of the next
    ],
)
def test_a_card_takes_weaker_neighbours_and_the_other_side_moves(cell, neighbour, sides, taken):
    s = game([(neighbour, -1, sides)], hands=(FOUR, [5] * 4))
    assert ENV.to_play(s) == 1
    s, outcome = place(s, cell)
    # as the other side sees it, it has lost a card
    assert ENV.to_play(s) == 0 and s.owner[cell] == -1 and s.owner[neighbour] == (-1 if taken else 1)
    np.testing.assert_array_equal(s.hand[:, 0], [[5] * 4, FOUR])
    np.testing.assert_array_equal(s.played, [[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]])
    np.testing.assert_array_equal(s.board[cell], FOUR)
    assert s.selected == NONE and float(outcome.reward) == 0 and not outcome.terminated


def test_selecting_keeps_the_turn():
    s = game()
    np.testing.assert_array_equal(ENV.action_mask(s), [True] * 5 + [False] * 9)
    s, outcome = STEP(ENV, s, jnp.int32(3))
    assert ENV.to_play(s) == 0 and s.selected == 3 and not outcome.terminated
    np.testing.assert_array_equal(ENV.action_mask(s), [False] * 5 + [True] * 9)
    s, _ = STEP(ENV, s, jnp.int32(CARDS))
    assert ENV.to_play(s) == 1
    np.testing.assert_array_equal(ENV.action_mask(s), [True] * 5 + [False] * 9)  # none of side 1 is played yet


@pytest.mark.parametrize(("selected", "action"), [(NONE, 0), (NONE, 9), (3, 2), (3, CARDS + 1)])
def test_an_illegal_action_does_nothing(selected, action):
    s = game([(1, -1, FOUR), (2, 1, FOUR)], selected=selected)
    after, _ = STEP(ENV, s, jnp.int32(action))
    assert int(after.steps) == 1
    for field in ("hand", "played", "board", "owner", "selected"):
        np.testing.assert_array_equal(getattr(after, field), getattr(s, field))


@pytest.mark.parametrize(("owned", "outcome"), [(3, -1), (4, 0), (5, 1), (8, 1)])
def test_side_0_places_the_last_card_and_the_other_keeps_one(owned, outcome):
    # side 0 owns some of the eight cards, adds one, and takes none; side 1 has one more in its hand
    board = [(cell, 1 if cell < owned else -1, [9] * 4) for cell in range(8)]
    s = game(board)
    assert ENV.to_play(s) == 0
    s, result = place(s, 8)
    assert result.terminated and float(result.reward) == outcome == ENV.score(s) and ENV.perf(s) == 0.5 + 0.5 * outcome


def test_the_last_card_can_take():
    # four cards each, and the last one takes two of them: seven to two, and one in hand
    board = [(cell, 1 if cell % 2 == 0 else -1, [3] * 4) for cell in range(8)]
    s, result = place(game(board), 8)
    np.testing.assert_array_equal(s.owner, [-1, 1, -1, 1, -1, -1, -1, -1, -1])
    assert result.terminated and float(result.reward) == 1


def test_the_time_limit():
    env = ENV.replace(max_steps=3)
    _, outcome = STEP(env, game().replace(steps=jnp.int32(2)), jnp.int32(0))
    assert outcome.truncated and not outcome.terminated and ENV.score(game()) == 0
    _, outcome = STEP(env, game().replace(steps=jnp.int32(1)), jnp.int32(0))
    assert not outcome.truncated


def test_what_either_side_sees():
    s, _ = place(game([(0, -1, [1, 2, 3, 5])], hands=([7, 6, 5, 4], [1, 2, 3, 4])), 8)
    obs = np.asarray(ENV.observe(s))
    np.testing.assert_allclose(obs[:8] * 7, [0, 0, 0, 0, 1, 2, 3, 4], rtol=1e-6)  # its own first card is played
    np.testing.assert_allclose(obs[20:24] * 7, [7, 6, 5, 4], rtol=1e-6)
    np.testing.assert_array_equal(obs[36:40], 0)  # and the other's last
    np.testing.assert_allclose(obs[40:44] * 7, [1, 2, 3, 5], rtol=1e-6)
    np.testing.assert_array_equal(obs[76:85], [1, 0, 0, 0, 0, 0, 0, 0, -1])
    np.testing.assert_array_equal(obs[85:], 0)


def test_a_game_has_eighteen_steps():
    s = ENV.init(jnp.array([1, 2], jnp.uint32))
    sides = []
    for k in range(18):
        sides.append(int(ENV.to_play(s)))
        s, outcome = STEP(ENV, s, random_action(ENV, s, jnp.array([k, 3], jnp.uint32)))
        assert bool(outcome.terminated) == (k == 17)
    assert sides == [0, 0, 1, 1] * 4 + [0, 0]
    assert s.hand.min() >= 1 and s.hand.max() <= 7


@jax.jit
def random_game(seed):
    """The states of a random game, from the deal on, and the lead of side 0 in each."""
    streams = rng.seed(jax.random.key(seed), (19,))

    def step(s, stream):
        after = ENV.transition(s, random_action(ENV, s, stream))[0]
        return after, (s, after, ENV.lead(s), ENV.lead(after))

    return jax.lax.scan(step, ENV.init(streams[18]), streams[:18])[1]


@given(st.integers(0, 2**31 - 1))
@settings(max_examples=20, deadline=None)
def test_what_must_hold_after_any_step(seed):
    """Every card is in a hand or on the board; who places a card gains two points of the lead for each card taken."""
    before, after, lead, next_lead = jax.tree.map(np.asarray, random_game(seed))
    k = np.arange(18)
    np.testing.assert_array_equal((after.owner != 0).sum(1), (k + 1) // 2)
    np.testing.assert_array_equal(after.played.sum((1, 2)), (k + 1) // 2)
    assert (np.abs(after.played[:, 0].sum(1) - after.played[:, 1].sum(1)) <= 1).all()
    taken = ((before.owner == -1) & (after.owner == -1)).sum(1)
    mover = np.where(k // 2 % 2 == 0, 1, -1)
    np.testing.assert_array_equal(next_lead - lead, np.where(k % 2 == 1, 2 * mover * taken, 0))


def bot(s, name):
    streams = rng.seed(jax.random.key(0), (60,))
    return set(jax.vmap(lambda stream: BOT(s, stream, name))(streams).tolist())


def test_bots_take_what_they_can():
    s = game([(1, -1, [9, 9, 3, 9]), (5, -1, [9, 9, 9, 3])], selected=4)
    assert bot(s, "greedy") == bot(s, "careful") == {CARDS + 4}  # both cards
    # with one strong card it selects that one; the first is played
    s = s.replace(selected=jnp.int32(NONE), hand=jnp.where(jnp.arange(5)[:, None] == 2, s.hand, 2))
    assert bot(s, "greedy") == {2}
    assert bot(s, "random") == {1, 2, 3, 4}


def test_the_careful_bot_does_not_give_it_back():
    # fields 0 and 4 take the card on 1. The other side is strong in the north: from 4 it could take the card on 1, and
    # from 3 that on 0, but nothing from below 4, where there is a card
    s = game([(1, -1, [9, 9, 3, 3]), (7, -1, [9] * 4)], hands=(FOUR, [5, 1, 1, 1]), selected=4)
    assert bot(s, "greedy") == {CARDS, CARDS + 4}
    assert bot(s, "careful") == {CARDS + 4}


@pytest.mark.parametrize(("better", "worse"), [("greedy", "random"), ("careful", "greedy")])
def test_the_weakest_bot_comes_first(better, worse):
    shares = match(ENV, Scripted(better), Scripted(worse), jax.random.key(0), games=300).shares()
    assert shares["wins"][1] > shares["losses"][2]  # with 95 % each


def test_picture():
    """Side 0 is at the left, whoever moves."""
    first = ENV.render(game())
    second = ENV.render(game([(0, -1, FOUR)]))
    assert first.shape == (180, 270, 3) and len(np.unique(np.asarray(first).reshape(-1, 3), axis=0)) >= 4
    assert second[9, 13].tolist() == [16, 48, 48]  # its first card is played
    assert second[9, 227].tolist() == first[9, 227].tolist() == [140, 40, 40]
