"""Boids: the default parameters, and flights worked out by hand with a few boids."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.boids import HEIGHT, WIDTH, Boids
from jaxpuffer import make

STEP = jax.jit(lambda env, s, action: env.transition(s, action))
INIT = jax.jit(lambda env, stream: env.init(stream))
ON = (2, 2)  # at the same speed


def world(*boids, **fields):
    """Boids as (x, y, vx, vy)."""
    env = Boids(num_boids=len(boids), cohesion=0.8, alignment=2.0, avoidance=1.0, max_steps=50)
    x, y, vx, vy = (jnp.array(column, jnp.int32) for column in zip(*boids, strict=True))
    s = INIT(env, jnp.array([1, 2], jnp.uint32)).replace(x=x, y=y, vx=vx, vy=vy)
    return env, s.replace(**{k: jnp.asarray(v, jnp.int32) for k, v in fields.items()})


def move(env, s, *actions):
    actions = actions or [ON] * env.num_boids
    return STEP(env, s, jnp.array(actions, jnp.int32))


def test_default_parameters():
    env = make("boids")
    found = (env.num_boids, float(env.cohesion), float(env.alignment), float(env.avoidance), int(env.max_steps))
    assert found == (64, 0.5, 1.0, 3.0, 500)
    assert env.observation_space.shape == (64, 4) and env.action_space.nvec == (5, 5)


@pytest.mark.parametrize(
    ("boid", "action", "after"),
    [
        ((500, 300, 4, -2), (2, 2), (504, 298, 4, -2)),
        ((500, 300, 0, 0), (4, 2), (504, 300, 4, 0)),
        ((500, 300, 0, 0), (2, 0), (500, 296, 0, -4)),
        ((500, 300, 0, 0), (1, 3), (498, 302, -2, 2)),
        ((500, 300, 9, 0), (4, 2), (510, 300, 10, 0)),  # no faster
        ((500, 300, 0, -9), (2, 0), (500, 290, 0, -10)),
        ((1078, 300, 6, 3), (2, 2), (1080, 303, 0, 3)),  # the edge stops it
        ((500, 5, 3, -6), (2, 2), (503, 0, 3, 0)),
        ((4, 300, -4, 0), (2, 2), (0, 300, -4, 0)),  # arrives there exactly
        ((500, 716, 0, 5), (2, 2), (500, 720, 0, 0)),
    ],
)
def test_moves(boid, action, after):
    env, s = world(boid)
    s, outcome = move(env, s, action)
    assert (int(s.x[0]), int(s.y[0]), int(s.vx[0]), int(s.vy[0])) == after
    assert float(outcome.reward[0]) == 0 and not outcome.terminated.any() and not outcome.truncated.any()


@pytest.mark.parametrize(("distance", "near", "crowd"), [(101, 0, 0), (100, 0, 0), (99, 1, 0), (20, 1, 0), (19, 1, 1)])
def test_who_is_near(distance, near, crowd):
    env, s = world((500, 300, 0, 0), (500 + distance, 300, 0, 0))
    _, outcome = move(env, s)
    # 0.8 / 8 for a neighbour, minus 1 / 5 for one that is too near
    np.testing.assert_allclose(outcome.reward, 2 * [0.1 * near - 0.2 * crowd], atol=1e-7)


def test_company_counts_up_to_eight():
    env, s = world((500, 300, 0, 0), *((500 + 30 * dx, 300 + 30 * dy, 0, 0) for dx, dy in CIRCLE))
    assert len(s.x) == 11
    _, outcome = move(env, s)
    np.testing.assert_allclose(outcome.reward[0], 0.8, rtol=1e-6)


CIRCLE = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (1, -1), (-1, 1), (2, 0), (-2, 0)]


def test_a_crowd_counts_up_to_five():
    env, s = world(*(7 * [(500, 300, 0, 0)]))
    _, outcome = move(env, s)
    np.testing.assert_allclose(outcome.reward, 7 * [0.6 - 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("mine", "theirs", "aligned"),
    [
        ((10, 10), (10, 10), 1.0),
        ((10, 0), (10, 0), 0.5),
        ((10, 0), (-10, 0), -0.5),
        ((10, 0), (0, 10), 0.0),
        ((0, 0), (10, 10), 0.0),
        ((4, 2), (6, -2), 0.1),
    ],
)
def test_alignment(mine, theirs, aligned):
    env, s = world((500, 300, *mine), (540, 300, *theirs))
    _, outcome = move(env, s)
    np.testing.assert_allclose(outcome.reward, 2 * [0.1 + 2 * aligned], rtol=1e-6)


def test_what_counts_as_a_flock():
    five = [(500 + 30 * k, 300) for k in range(5)]
    for speed, count, flocked in ((8, 5, [0, 1, 1, 1, 0]), (7, 5, [0] * 5), (8, 4, [0] * 4)):
        env, s = world(*((x, y, speed, 0) for x, y in five[:count]))
        s, _ = move(env, s)
        # the boids at the ends have three neighbours
        np.testing.assert_array_equal(s.flocked, flocked)
    env, s = world(*((x, y, 8, 0) for x, y in five), (565, 300, 8, 0))
    s, _ = move(env, s)
    np.testing.assert_array_equal(s.flocked, [1, 1, 0, 1, 1, 0])  # the third and the last are too near each other
    np.testing.assert_allclose(env.score(s.replace(steps=jnp.int32(4))), np.array([1, 1, 0, 1, 1, 0]) / 4)


@pytest.mark.parametrize(("steps", "reset"), [(48, False), (49, True)])
def test_the_time_limit(steps, reset):
    env, s = world((500, 300, 0, 0), (1, 1, 0, 0), steps=steps)
    _, outcome = move(env, s)
    assert bool(outcome.reset) == reset and not outcome.terminated.any()


def test_what_is_seen():
    env, s = world((540, 360, 5, -5), (648, 252, -3, 0))
    obs = np.asarray(env.observe(s))
    np.testing.assert_allclose(obs[0], [[0.5, 1 / 3, 0.5, -0.5], [0.1, -0.1, -0.8, 0.5]], atol=1e-6)
    np.testing.assert_allclose(obs[1], [[-0.1, 0.1, 0.8, -0.5], [0.6, 252 / 1080, -0.3, 0]], atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 24), min_size=4, max_size=20))
@settings(max_examples=20, deadline=None)
def test_any_flight_is_alike_in_a_mirror(seed, choices):
    env = Boids(num_boids=2)
    s = INIT(env, jnp.array([seed, 7], jnp.uint32))
    other = s.replace(x=WIDTH - s.x, vx=-s.vx)
    for a, b in itertools.pairwise(choices):
        actions = np.array([divmod(a, 5), divmod(b, 5)], np.int32)
        s, outcome = STEP(env, s, jnp.array(actions))
        actions[:, 0] = 4 - actions[:, 0]
        other, mirrored = STEP(env, other, jnp.array(actions))
        np.testing.assert_array_equal(outcome.reward, mirrored.reward)
        np.testing.assert_array_equal(s.x, WIDTH - other.x)
        assert (s.x >= 0).all() and (s.x <= WIDTH).all() and (s.y >= 0).all() and (s.y <= HEIGHT).all()
        assert (jnp.abs(s.vx) <= 10).all() and (jnp.abs(s.vy) <= 10).all()


def test_picture():
    env = make("boids")
    picture = jax.jit(env.render)(env.reset(jax.random.key(0))[0])
    assert picture.shape == (240, 360, 3) and picture.dtype == jnp.uint8
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) >= 2
