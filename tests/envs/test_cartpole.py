"""Cartpole by hand: steps worked out on paper, the published equations in float64, and mirror images."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import settled_transition

from envs_jax.cartpole import CartPole, CartPoleContinuous, State
from jaxpuffer import make

DISCRETE, CONTINUOUS = CartPole(), CartPoleContinuous()
transition = jax.jit(settled_transition)

PHYSICS = ("position", "velocity", "angle", "angular_velocity")


def world(position: float = 0, velocity: float = 0, angle: float = 0, spin: float = 0, steps: int = 0) -> State:
    s = DISCRETE.init(jnp.uint32([1, 2]))
    return s.replace(
        position=jnp.float32(position),
        velocity=jnp.float32(velocity),
        angle=jnp.float32(angle),
        angular_velocity=jnp.float32(spin),
        steps=jnp.int32(steps),
    )


def push(s: State, action: int, env: CartPole = DISCRETE) -> tuple[State, dict[str, Any]]:
    s, out = transition(env, s, jnp.int32(action))
    return s, {"reward": float(out.reward), "terminated": bool(out.terminated), "truncated": bool(out.truncated)}


def force(s: State, fraction: float, env: CartPole = CONTINUOUS) -> State:
    return transition(env, s, jnp.float32([fraction]))[0]


def check(s: State, *expected: float) -> None:
    np.testing.assert_allclose([getattr(s, name) for name in PHYSICS], expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["cartpole", "cartpole_continuous"])
def test_default_parameters(name: str) -> None:
    env = make(name)
    assert float(env.gravity) == pytest.approx(9.8) and float(env.force) == 10 and int(env.max_steps) == 500
    assert float(env.cart_mass) == 1 and float(env.half_length) == 0.5
    assert float(env.pole_mass) == pytest.approx(0.1)


def test_begin() -> None:
    """Every variable starts uniformly within 0.05 of zero."""
    states, obs = jax.vmap(DISCRETE.reset)(jax.random.split(jax.random.key(0), 1000))
    values = np.stack([getattr(states, name) for name in PHYSICS], 1)
    np.testing.assert_array_equal(obs, values)
    assert (np.abs(values) <= 0.05).all()
    assert (values.min(0) < -0.049).all() and (values.max(0) > 0.049).all()
    assert (np.asarray(states.steps) == 0).all()


# Cart 1 kg, pole 0.1 kg, half length 0.5 m, 10 N, 0.02 s. Upright and at rest
#   push / mass                 10 / 1.1 = 9.0909091 m/s^2
#   inertia                     0.5 (4/3 - 0.1 / 1.1) = 0.62121212 m
#   angular acceleration        -9.0909091 / 0.62121212 = -14.634146 rad/s^2
#   cart's acceleration         9.0909091 + 0.1 * 0.5 / 1.1 * 14.634146 = 9.7560976 m/s^2
VELOCITY = 0.195121951  # 0.02 * 9.7560976
SPIN = -0.292682927  # 0.02 * -14.634146


def test_push_from_rest() -> None:
    s, out = push(world(), 1)
    check(s, 0, VELOCITY, 0, SPIN)
    assert out == {"reward": 1, "terminated": False, "truncated": False}
    check(push(world(), 0)[0], 0, -VELOCITY, 0, -SPIN)
    assert int(s.steps) == 1 and float(DISCRETE.score(s)) == 1 and float(DISCRETE.perf(s)) == pytest.approx(1 / 500)


def test_positions_move_by_the_old_velocities() -> None:
    # upright, so that neither gravity nor the pole's spin accelerates anything
    s, _ = push(world(velocity=0.5, spin=-1), 1)
    check(s, 0.01, 0.5 + VELOCITY, -0.02, -1 + SPIN)


def test_fraction_of_the_force() -> None:
    check(force(world(), 1), 0, VELOCITY, 0, SPIN)
    check(force(world(), 0.5), 0, VELOCITY / 2, 0, SPIN / 2)
    check(force(world(), -0.25), 0, -VELOCITY / 4, 0, -SPIN / 4)
    check(force(world(), 0), 0, 0, 0, 0)
    # clipped
    check(force(world(), 3), 0, VELOCITY, 0, SPIN)
    check(force(world(), -100), 0, -VELOCITY, 0, -SPIN)


def test_pole_falls() -> None:
    # at 0.1 rad: sine 0.09983342, cosine 0.99500417
    #   9.8 * 0.09983342 = 0.97836748; 0.5 (4/3 - 0.1 / 1.1 * 0.99003329) = 0.62166515
    #   angular acceleration 1.5737853; cart's -0.04545455 * 1.5737853 * 0.99500417 = -0.07117774
    check(force(world(angle=0.1), 0), 0, -0.001423555, 0.1, 0.031475705)


def test_spin_pulls_the_cart() -> None:
    # without gravity, at 0.1 rad and 2 rad/s: the pole's centre pulls with
    #   0.04545455 * 4 * 0.09983342 = 0.01815153 m/s^2
    #   angular acceleration -0.99500417 * 0.01815153 / 0.62166515 = -0.02905249
    #   cart's 0.01815153 + 0.04545455 * 0.02905249 * 0.99500417 = 0.01946549
    check(force(world(angle=0.1, spin=2), 0, CONTINUOUS.replace(gravity=0)), 0, 0.00038931, 0.14, 2 - 0.00058105)


def test_heavier_cart() -> None:
    # 10 N on 2.5 kg is 4 m/s^2; 0.5 (4/3 - 0.5 / 2.5) = 0.56666667; -4 / 0.56666667 = -7.0588235
    # 4 + 0.2 * 0.5 * 7.0588235 = 4.7058824
    s, _ = push(world(), 1, DISCRETE.replace(cart_mass=2, pole_mass=0.5))
    check(s, 0, 0.094117647, 0, -0.14117647)


# position, velocity, angle, spin: the next position is position + 0.02 velocity, and so the angle
@pytest.mark.parametrize(
    ("before", "terminated"),
    [
        ((2.39, 0.4, 0, 0), False),  # 2.398
        ((2.39, 0.6, 0, 0), True),  # 2.402
        ((-2.39, -0.4, 0, 0), False),
        ((-2.39, -0.6, 0, 0), True),
        ((0, 0, 0.2, 0.4), False),  # 0.208; 12 degrees are 0.2094
        ((0, 0, 0.2, 0.5), True),  # 0.210
        ((0, 0, -0.2, -0.4), False),
        ((0, 0, -0.2, -0.5), True),
    ],
)
def test_ends(before: tuple[float, ...], terminated: bool) -> None:
    for action in (0, 1):
        s, out = push(world(*before, steps=10), action)
        assert out == {"reward": 1, "terminated": terminated, "truncated": False}
    assert abs(float(s.position)) > 2.4 or abs(float(s.angle)) > math.radians(12) or not terminated


def test_time_limit() -> None:
    assert push(world(steps=498), 1)[1] == {"reward": 1, "terminated": False, "truncated": False}
    assert push(world(steps=499), 1)[1] == {"reward": 1, "terminated": False, "truncated": True}
    # a terminated step is not truncated
    assert push(world(2.39, 0.6, steps=499), 1)[1] == {"reward": 1, "terminated": True, "truncated": False}


def published(x: np.ndarray, newtons: float, gravity: float, cart: float, pole: float, length: float) -> np.ndarray:
    """One Euler step of Barto, Sutton and Anderson (1983) without friction, in float64."""
    _, velocity, angle, spin = x
    mass = cart + pole
    thrust = (-newtons - pole * length * spin**2 * np.sin(angle)) / mass
    spin_rate = gravity * np.sin(angle) + np.cos(angle) * thrust
    spin_rate /= length * (4 / 3 - pole * np.cos(angle) ** 2 / mass)
    rate = (newtons + pole * length * (spin**2 * np.sin(angle) - spin_rate * np.cos(angle))) / mass
    return x + 0.02 * np.array([velocity, rate, spin, spin_rate])


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(st.floats(-2, 2), st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3)),
    st.lists(st.floats(-1, 1), min_size=20, max_size=20),
    st.tuples(st.floats(1, 20), st.floats(0.5, 2), st.floats(0.05, 1), st.floats(0.25, 2)),
)
def test_published_equations(
    before: tuple[float, ...], fractions: list[float], params: tuple[float, float, float, float]
) -> None:
    """Twenty steps, also far from upright."""
    gravity, cart, pole, length = params
    env = CONTINUOUS.replace(gravity=gravity, cart_mass=cart, pole_mass=pole, half_length=length)
    s, x = world(*before), np.array(before)
    for fraction in fractions:
        s = force(s, fraction, env)
        x = published(x, 10 * fraction, gravity, cart, pole, length)
        got = np.array([getattr(s, name) for name in PHYSICS], np.float64)
        np.testing.assert_allclose(got, x, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 1), st.floats(-3, 3)),
    st.integers(0, 1),
    st.floats(-2, 2, width=32),
)
def test_mirror(before: tuple[float, ...], action: int, fraction: float) -> None:
    """Left and right are symmetric, to the last bit."""
    mirrored = [-x for x in before]
    (a, out_a), (b, out_b) = push(world(*before), action), push(world(*mirrored), 1 - action)
    assert out_a == out_b
    c, d = force(world(*before), fraction), force(world(*mirrored), -fraction)
    for name in PHYSICS:
        assert float(getattr(a, name)) == -float(getattr(b, name))
        assert float(getattr(c, name)) == -float(getattr(d, name))


def test_picture() -> None:
    render = jax.jit(DISCRETE.render)
    picture = np.asarray(render(world()))
    assert picture.shape == (120, 300, 3) and picture.dtype == np.uint8
    for s in (world(position=1), world(angle=0.2), world(angle=-0.2)):
        assert (np.asarray(render(s)) != picture).any()
    # upright in the middle, the picture is its own mirror image about the cart's middle, column 150
    np.testing.assert_array_equal(picture[:, 1:150], picture[:, :150:-1])
