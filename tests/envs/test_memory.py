"""Memory: the default parameters, and episodes worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import settled_transition

from envs_jax.memory import Memory
from jaxpuffer import make, rng

ENV = Memory(length=4, max_steps=20)
STEP = jax.jit(settled_transition)


def at(cue, steps=0, env=ENV):
    return env.init(jnp.array([1, 2], jnp.uint32)).replace(cue=jnp.int32(cue), steps=jnp.int32(steps))


def test_default_parameters():
    env = make("memory")
    assert (int(env.length), int(env.max_steps)) == (10, 1000)


@pytest.mark.parametrize(
    ("cue", "steps", "action", "reward", "terminated"),
    [
        (1, 0, 1, 0, False),  # the right answer, but too early
        (1, 1, 1, 0, False),
        (1, 2, 1, 0, False),
        (1, 3, 1, 1, True),
        (1, 3, 0, 0, True),
        (0, 3, 0, 1, True),
        (0, 3, 1, 0, True),
        (0, 0, 0, 0, False),
    ],
)
def test_only_the_last_answer_counts(cue, steps, action, reward, terminated):
    s, outcome = STEP(ENV, at(cue, steps), jnp.int32(action))
    assert s.steps == steps + 1 and s.cue == cue
    assert outcome.reward == reward and outcome.terminated == terminated and not outcome.truncated
    assert ENV.score(s) == reward


@pytest.mark.parametrize(("cue", "steps", "seen"), [(0, 0, -1), (1, 0, 1), (0, 1, 0), (1, 1, 0), (1, 3, 0)])
def test_the_cue_is_seen_once(cue, steps, seen):
    assert ENV.observe(at(cue, steps)) == seen


def test_a_time_limit_below_the_length_truncates():
    env = ENV.replace(max_steps=2)
    _, outcome = STEP(env, at(1, 0, env), jnp.int32(1))
    assert not outcome.truncated
    _, outcome = STEP(env, at(1, 1, env), jnp.int32(1))
    assert outcome.truncated and not outcome.terminated and outcome.reward == 0


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 1), min_size=4, max_size=4))
@settings(max_examples=30, deadline=None)
def test_an_episode_pays_for_its_last_action_alone(seed, actions):
    s = ENV.init(jnp.array([seed, 7], jnp.uint32))
    rewards = []
    for action in actions:
        s, outcome = STEP(ENV, s, jnp.int32(action))
        rewards.append(float(outcome.reward))
    assert rewards == [0, 0, 0, float(actions[-1] == s.cue)] and outcome.terminated


def test_both_cues_are_as_likely():
    s = jax.vmap(ENV.init)(rng.seed(jax.random.key(0), (4000,)))
    np.testing.assert_allclose(np.asarray(s.cue).mean(), 0.5, atol=0.03)


def test_picture():
    picture = ENV.render(at(1))
    assert picture.shape == (80, 200, 3) and picture.dtype == jnp.uint8
    assert not np.array_equal(picture, ENV.render(at(0))) and not np.array_equal(picture, ENV.render(at(1, 1)))
