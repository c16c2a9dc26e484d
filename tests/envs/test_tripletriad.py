"""Triple Triad: the default parameters, and games worked out by hand.

Fields are numbered 0 to 8, row by row; values are north, east, south, west.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.tripletriad import NONE, TripleTriad
from jaxpuffer import make, rng
from jaxpuffer.env import random_action

ENV = TripleTriad(opponent_begins=0.0)
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
PLACE = jax.jit(lambda s, player, card, cell: ENV.place(s, player, card, cell), static_argnums=1)
FOUR = [4, 4, 4, 4]


def game(board=(), hand=FOUR, selected=NONE):
    """A game by hand: board holds (field, owner, values); every card in both hands is the same."""
    s = ENV.init(jnp.array([1, 2], jnp.uint32))
    values, owner, played = np.zeros((9, 4), np.int32), np.zeros(9, np.int32), np.zeros((2, 5), np.int32)
    for cell, player, sides in board:
        values[cell], owner[cell] = sides, player
        which = 0 if player == 1 else 1
        played[which, played[which].sum()] = 1
    return s.replace(
        hand=jnp.broadcast_to(jnp.int32(hand), (2, 5, 4)),
        board=jnp.array(values),
        owner=jnp.array(owner),
        played=jnp.array(played),
        selected=jnp.int32(selected),
    )


def test_default_parameters():
    env = make("tripletriad")
    assert (float(env.opponent_begins), int(env.max_steps)) == (0.5, 30)


@pytest.mark.parametrize(
    ("cell", "neighbour", "sides", "taken"),
    [
        (4, 1, [9, 9, 3, 9], True),  # it touches with its south: 3 against our north 4
        (4, 1, [1, 1, 4, 1], False),  # equal values take nothing
        (4, 1, [1, 1, 5, 1], False),
        (4, 5, [9, 9, 9, 3], True),
        (4, 7, [3, 9, 9, 9], True),
        (4, 3, [9, 3, 9, 9], True),
        (4, 0, [1, 1, 1, 1], False),  # the corner is not a neighbour
        (2, 3, [1, 1, 1, 1], False),  # the end of a row does not touch the beginning of the next
        (3, 2, [1, 1, 1, 1], False),
        (0, 8, [1, 1, 1, 1], False),
    ],
)
def test_a_card_takes_weaker_neighbours(cell, neighbour, sides, taken):
    s = PLACE(game([(neighbour, -1, sides)]), 0, jnp.int32(2), jnp.int32(cell))
    assert s.owner[neighbour] == (1 if taken else -1) and s.owner[cell] == 1
    np.testing.assert_array_equal(s.board[cell], FOUR)
    np.testing.assert_array_equal(s.board[neighbour], sides)
    assert s.played[0, 2] == 1 and s.played[0].sum() == 1


def test_a_taken_card_takes_none():
    s = PLACE(game([(1, -1, [9, 9, 1, 9]), (2, -1, [1, 1, 1, 1])]), 0, jnp.int32(0), jnp.int32(4))
    np.testing.assert_array_equal(s.owner[:3], [0, 1, -1])


def test_the_opponent_takes_too_and_leaves_its_own():
    s = PLACE(game([(1, 1, [9, 9, 3, 9]), (3, -1, [1, 1, 1, 1])]), 1, jnp.int32(4), jnp.int32(4))
    np.testing.assert_array_equal(s.owner, [0, -1, 0, -1, -1, 0, 0, 0, 0])


def test_selecting_changes_the_mask_and_nothing_else():
    s = game()
    np.testing.assert_array_equal(ENV.action_mask(s), [True] * 5 + [False] * 9)
    after, outcome = STEP(ENV, s, jnp.int32(3))
    assert after.selected == 3 and outcome.reward == 0 and not outcome.terminated
    np.testing.assert_array_equal(ENV.action_mask(after), [False] * 5 + [True] * 9)
    np.testing.assert_array_equal(after.owner, s.owner)
    np.testing.assert_array_equal(after.rng, s.rng)


@pytest.mark.parametrize(("selected", "action"), [(NONE, 5), (NONE, 0), (1, 2), (1, 5 + 4)])
def test_what_is_illegal_does_nothing_but_take_time(selected, action):
    s = game([(4, 1, FOUR)], selected=selected)  # the agent's card 0 is played, field 4 taken
    after, outcome = STEP(ENV, s, jnp.int32(action))
    assert after.steps == 1 and outcome.reward == 0 and not outcome.terminated
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), after.replace(steps=s.steps), s))


def test_placing_brings_a_reply():
    after, outcome = STEP(ENV, game(selected=1), jnp.int32(5 + 4))
    assert after.owner[4] == 1 and (np.asarray(after.owner) == -1).sum() == 1
    assert after.selected == NONE and after.played.sum() == 2 and not outcome.terminated


@pytest.mark.parametrize(
    ("sides", "reward"),
    [
        # the agent, who began, has 4 fields and the opponent 4 and a card in hand; the ninth touches 5 and 7
        ([9, 9, 9, 9], 0),  # 5 to 4 and 1
        ([9, 9, 9, 1], 1),  # one is taken: 6 to 3 and 1
    ],
)
def test_the_last_card_decides(sides, reward):
    board = [(i, 1, [9, 9, 9, 9]) for i in (0, 1, 2, 3)]
    board += [(5, -1, [9, 9, 9, 9]), (4, -1, [9, 9, 9, 9]), (6, -1, [9, 9, 9, 9]), (7, -1, [9, sides[3], 9, 9])]
    after, outcome = STEP(ENV, game(board, selected=4), jnp.int32(5 + 8))
    assert outcome.terminated and not outcome.truncated and outcome.reward == reward
    assert float(ENV.score(after)) == reward and float(ENV.perf(after)) == 0.5 + 0.5 * reward
    np.testing.assert_array_equal(after.rng, game().rng)  # no reply


def test_the_time_limit():
    _, outcome = STEP(ENV, game().replace(steps=jnp.int32(29)), jnp.int32(0))
    assert outcome.truncated and not outcome.terminated


def test_what_is_seen():
    s = game([(4, -1, [1, 2, 3, 4])], hand=[7, 6, 5, 4], selected=2)
    obs = np.asarray(ENV.observe(s))
    np.testing.assert_allclose(obs[:20].reshape(5, 4), np.tile([1, 6 / 7, 5 / 7, 4 / 7], (5, 1)), rtol=1e-6)
    assert not obs[20:24].any() and obs[24:40].all()  # the opponent's first card is played
    np.testing.assert_allclose(obs[40 + 16 : 40 + 20], np.array([1, 2, 3, 4]) / 7, rtol=1e-6)
    np.testing.assert_array_equal(obs[76:], [0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 1, 0, 0])


def test_who_begins():
    env = TripleTriad(opponent_begins=0.25)
    s = jax.vmap(env.init)(rng.seed(jax.random.key(0), (4000,)))
    np.testing.assert_allclose((np.asarray(s.owner) == -1).any(1).mean(), 0.25, atol=0.03)


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=15, deadline=None)
def test_every_game_ends_with_nine_cards(seed, second):
    env = TripleTriad(opponent_begins=float(second))
    s = env.init(jnp.array([seed, 7], jnp.uint32))
    hand, steps = np.asarray(s.hand), 0
    assert hand.min() >= 1 and hand.max() <= 7
    done = False
    while not done:
        action = RANDOM(env, s, jnp.array([seed ^ steps, 3], jnp.uint32))
        assert ENV.action_mask(s)[action]
        s, outcome = STEP(env, s, action)
        steps, done = steps + 1, bool(outcome.terminated)
        # the number of cards does not change
        assert (np.asarray(s.owner) != 0).sum() == s.played.sum()
        assert jnp.array_equal(s.hand, hand)
    assert steps == (8 if second else 10) and s.played.sum() == 9
    total = int(s.owner.sum()) + int((1 - s.played[0]).sum()) - int((1 - s.played[1]).sum())
    assert float(outcome.reward) == np.sign(total)


RANDOM = jax.jit(random_action)


def test_picture():
    picture = jax.jit(ENV.render)(game([(4, -1, [1, 2, 3, 4]), (5, 1, FOUR)], selected=1))
    assert picture.shape == (180, 270, 3) and picture.dtype == jnp.uint8
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) == 6
