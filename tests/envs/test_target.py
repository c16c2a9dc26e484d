"""Target: the default parameters, and steps worked out by hand with two hunters and two goals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.target import HEIGHT, WIDTH, Target
from jaxpuffer import make

ENV = Target(num_hunters=2, num_goals=2, patience=10, max_steps=50)
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
ON = [[4, 2], [4, 2]]  # straight ahead at the same speed
AWAY = (1000.0, 700.0)


def world(*hunters, goals=(AWAY, AWAY), **fields):
    """Hunters as (x, y, heading, speed)."""
    x, y, heading, speed = (jnp.array(column, jnp.float32) for column in zip(*hunters, strict=True))
    goal_x, goal_y = (jnp.array(column, jnp.float32) for column in zip(*goals, strict=True))
    s = INIT(jnp.array([1, 2], jnp.uint32))
    s = s.replace(x=x, y=y, heading=heading, speed=speed, goal_x=goal_x, goal_y=goal_y)
    return s.replace(**{k: jnp.asarray(v, jnp.int32) for k, v in fields.items()})


INIT = jax.jit(ENV.init)
FAR = (100.0, 100.0, 0.0, 0.0)


def move(s, action=ON):
    return STEP(ENV, s, jnp.array(action, jnp.int32))


def test_default_parameters():
    env = make("target")
    assert (env.num_hunters, env.num_goals, int(env.patience), int(env.max_steps)) == (8, 4, 512, 1000)
    assert env.observation_space.shape == (28,)


@pytest.mark.parametrize(
    ("hunter", "action", "after"),
    [
        ((500, 300, 0, 10), [4, 2], (510, 300, 0, 10)),  # to the right
        ((500, 300, np.pi / 2, 10), [4, 2], (500, 310, np.pi / 2, 10)),  # downwards
        ((500, 300, 0, 10), [4, 4], (512, 300, 0, 12)),
        ((500, 300, 0, 10), [4, 0], (508, 300, 0, 8)),
        ((500, 300, 0, 19), [4, 4], (520, 300, 0, 20)),  # no faster
        ((500, 300, 0, -19), [4, 0], (480, 300, 0, -20)),
        ((500, 300, 0, 0), [8, 2], (500, 300, 4 / 12, 0)),
        ((500, 300, 0, 12), [1, 2], (500 + 12 * np.cos(0.25), 300 - 12 * np.sin(0.25), -0.25, 12)),
        ((500, 300, 3.1, 0), [8, 2], (500, 300, 3.1 + 1 / 3 - 2 * np.pi, 0)),  # past half a turn
        ((1075, 300, 0, 10), [4, 2], (1080, 300, 0, 10)),  # the edge stops it
        ((500, 5, -np.pi / 2, 10), [4, 2], (500, 0, -np.pi / 2, 10)),
    ],
)
def test_moves(hunter, action, after):
    s, outcome = move(world(hunter, FAR), [action, [4, 2]])
    found = [s.x[0], s.y[0], s.heading[0], s.speed[0]]
    np.testing.assert_allclose(found, after, rtol=1e-5, atol=1e-4)
    assert not outcome.reward.any() and not outcome.terminated.any() and not outcome.truncated.any()
    np.testing.assert_array_equal(s.idle, [1, 1])


@pytest.mark.parametrize(("distance", "reached"), [(32.0, True), (32.5, False)])
def test_a_goal_is_reached_within_32_px(distance, reached):
    s, outcome = move(world((500, 300, 0, 0), FAR, goals=((500 + distance, 300), AWAY)))
    np.testing.assert_array_equal(outcome.reward, [float(reached), 0])
    np.testing.assert_array_equal(s.reached, [int(reached), 0])
    assert bool(s.goal_x[0] != 500 + distance) == reached and s.goal_x[1] == AWAY[0]
    np.testing.assert_array_equal(s.idle, [0 if reached else 1, 1])


def test_the_lower_number_gets_it():
    _, outcome = move(world((500, 300, 0, 0), (500, 300, 0, 0), goals=((510, 300), AWAY)))
    np.testing.assert_array_equal(outcome.reward, [1, 0])


def test_two_goals_at_once():
    s, outcome = move(world(FAR, (500, 300, 0, 0), goals=((510, 300), (490, 300))))
    np.testing.assert_array_equal(outcome.reward, [0, 2])
    np.testing.assert_array_equal(s.reached, [0, 2])


def test_patience_ends_for_one():
    s, outcome = move(world(FAR, FAR, idle=[9, 8]))
    np.testing.assert_array_equal(outcome.truncated, [True, False])
    assert not outcome.reset
    after = jax.jit(ENV.respawn)(s, outcome.truncated)
    assert after.idle[0] == 0 and after.idle[1] == 9
    assert (after.x[0], after.y[0]) != (100, 100) and (float(after.x[1]), float(after.y[1])) == (100, 100)


@pytest.mark.parametrize(("steps", "reset"), [(48, False), (49, True)])
def test_the_time_limit(steps, reset):
    _, outcome = move(world(FAR, FAR, steps=steps))
    assert bool(outcome.reset) == reset and not outcome.terminated.any()


def test_what_is_seen():
    s = world((540, 360, np.pi / 2, 5), (648, 252, 0, 0), goals=((540, 576), (0, 360)))
    obs = np.asarray(ENV.observe(s))
    expected = [0, 0.2, -0.5, 0, 0, 0, 0.1, -0.1, 0.25, 0, 0.5, 1 / 3]
    np.testing.assert_allclose(obs[0], expected, atol=1e-6)
    np.testing.assert_allclose(obs[1, 4:8], [-0.1, 0.1, 0, 0], atol=1e-6)


def test_score_and_perf():
    env = make("target", num_hunters=2)
    s = env.init(jnp.array([1, 2], jnp.uint32)).replace(reached=jnp.array([5, 30], jnp.int32))
    np.testing.assert_allclose(env.score(s), [5, 30])
    np.testing.assert_allclose(env.perf(s), [0.25, 1.0])


@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), min_size=2, max_size=12))
@settings(max_examples=20, deadline=None)
def test_any_hunt_stays_in_the_plane(seed, actions):
    s = INIT(jnp.array([seed, 7], jnp.uint32))
    summed = np.zeros(2)
    for a, b in itertools.pairwise(actions):
        s, outcome = move(s, [a, b])
        summed += np.asarray(outcome.reward)
        assert (s.x >= 0).all() and (s.x <= WIDTH).all() and (s.y >= 0).all() and (s.y <= HEIGHT).all()
        assert (jnp.abs(s.heading) <= 3.1416).all() and (jnp.abs(s.speed) <= 20).all()
    np.testing.assert_array_equal(s.reached, summed)


def test_picture():
    env = make("target")
    picture = jax.jit(env.render)(env.reset(jax.random.key(0))[0])
    assert picture.shape == (240, 360, 3) and picture.dtype == jnp.uint8
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) == 5
