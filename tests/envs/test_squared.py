"""Squared: the default parameters, and walks worked out by hand on a grid of five by five."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import settled_transition

from envs_jax.squared import AGENT, DOWN, LEFT, RIGHT, STAY, TARGET, UP, Squared
from jaxpuffer import make, rng

ENV = Squared(size=5, max_steps=9)
STEP = jax.jit(settled_transition)
INIT = jax.jit(lambda env, stream: env.init(stream))


def at(x, y, target=(4, 0), steps=0):
    s = INIT(ENV, jnp.array([1, 2], jnp.uint32))
    return s.replace(
        x=jnp.int32(x),
        y=jnp.int32(y),
        target_x=jnp.int32(target[0]),
        target_y=jnp.int32(target[1]),
        steps=jnp.int32(steps),
    )


def test_default_parameters():
    env = make("squared")
    assert (env.size, int(env.max_steps)) == (11, 33)
    s, _ = env.reset(jax.random.key(0))
    assert (int(s.x), int(s.y)) == (5, 5)
    with pytest.raises(ValueError, match="size is 4; it must be odd"):
        Squared(size=4)


@pytest.mark.parametrize(
    ("start", "action", "end", "reward", "terminated"),
    [
        ((2, 2), STAY, (2, 2), 0, False),
        ((2, 2), DOWN, (2, 3), 0, False),
        ((2, 2), UP, (2, 1), 0, False),
        ((2, 2), LEFT, (1, 2), 0, False),
        ((2, 2), RIGHT, (3, 2), 0, False),
        ((3, 0), RIGHT, (4, 0), 1, True),  # onto the target
        ((4, 1), UP, (4, 0), 1, True),
        ((0, 2), LEFT, (-1, 2), -1, True),
        ((4, 2), RIGHT, (5, 2), -1, True),
        ((2, 0), UP, (2, -1), -1, True),
        ((2, 4), DOWN, (2, 5), -1, True),
    ],
)
def test_moves(start, action, end, reward, terminated):
    s, outcome = STEP(ENV, at(*start), jnp.int32(action))
    assert (int(s.x), int(s.y)) == end and s.steps == 1
    assert outcome.reward == reward and outcome.terminated == terminated and not outcome.truncated
    assert float(ENV.score(s)) == float(reward == 1)


@pytest.mark.parametrize(("action", "terminated", "truncated"), [(STAY, False, True), (RIGHT, True, False)])
def test_the_last_step_truncates_who_did_not_arrive(action, terminated, truncated):
    _, outcome = STEP(ENV, at(3, 0, steps=8), jnp.int32(action))
    assert (bool(outcome.terminated), bool(outcome.truncated)) == (terminated, truncated)


def test_what_is_seen():
    obs = np.asarray(ENV.observe(at(1, 3))).reshape(5, 5)
    assert obs[3, 1] == AGENT and obs[0, 4] == TARGET and (obs == 0).sum() == 23
    outside = np.asarray(ENV.observe(at(-1, 3))).reshape(5, 5)
    assert outside[0, 4] == TARGET and (outside == 0).sum() == 24


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 4), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_a_step_moves_by_at_most_one_cell_and_only_the_agent(seed, actions):
    s = INIT(ENV, jnp.array([seed, 7], jnp.uint32))
    assert (int(s.x), int(s.y)) == (2, 2) and (int(s.target_x), int(s.target_y)) != (2, 2)
    assert 0 <= s.target_x < 5 and 0 <= s.target_y < 5
    for action in actions:
        after, outcome = STEP(ENV, s, jnp.int32(action))
        moved = abs(int(after.x) - int(s.x)) + abs(int(after.y) - int(s.y))
        assert moved == int(action != STAY)
        assert (int(after.target_x), int(after.target_y)) == (int(s.target_x), int(s.target_y))
        if outcome.terminated:
            break
        s = after


def test_targets_are_everywhere_but_in_the_middle():
    streams = rng.seed(jax.random.key(0), (6000,))
    s = jax.vmap(ENV.init)(streams)
    counts = np.bincount(np.asarray(s.target_y * 5 + s.target_x), minlength=25)
    assert counts[12] == 0
    np.testing.assert_allclose(np.delete(counts, 12), 250, atol=70)


def test_picture():
    picture = ENV.render(at(2, 2))
    assert picture.shape == (80, 80, 3) and picture.dtype == jnp.uint8
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) == 4
