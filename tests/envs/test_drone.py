"""Drone: the default parameters, transitions worked out by hand from the rules, and physics that must hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax import drone
from envs_jax.drone import HOVER, MAX_THRUST, QW, RACE, SWARM, VX, VY, VZ, WX, WY, WZ, Drone, X, Y, Z
from jaxpuffer import make

# one standard drone, no gravity and no drag: only its rotors have an effect
FREE = Drone(num_drones=1, gravity=0.0, drag=0.0, randomization=0.0, spin_penalty=0.0)
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
HOVERING = jnp.zeros((1, 4), jnp.float32)
HOVER_THRUST = MAX_THRUST * 0.715**2  # N, of a rotor


def start(env=FREE, task=HOVER, target=(0.0, 0.0, 0.0), normal=(1.0, 0.0, 0.0), **body):
    """A level drone at rest in the middle, rotors at hovering speed, except for the given fields."""
    s = env.init(jnp.array([1, 2], jnp.uint32))
    index = {"x": X, "y": Y, "z": Z, "vx": VX, "vy": VY, "vz": VZ, "wx": WX, "wy": WY, "wz": WZ}
    motion = np.zeros((env.num_drones, drone.BODY), np.float32)
    motion[:, QW] = 1
    for name, value in body.items():
        motion[:, index[name]] = value
    return s.replace(
        body=jnp.array(motion),
        task=jnp.int32(task),
        target=jnp.broadcast_to(jnp.float32(target), (env.num_drones, 3)),
        normal=jnp.broadcast_to(jnp.float32(normal), (env.num_drones, 3)),
    )


def test_default_parameters():
    env = make("drone")
    assert (env.num_drones, int(env.task), int(env.num_rings), int(env.formation_steps)) == (4, 3, 5, 200)
    assert int(env.max_steps) == 500
    values = [env.gravity, env.drag, env.randomization, env.progress_reward, env.close_reward]
    values += [env.spin_penalty, env.crowd_penalty]
    np.testing.assert_allclose(values, [9.81, 0.2, 0.05, 0.3, 0.1, 0.0005, 0.02], rtol=1e-6)


# transitions worked out by hand


def test_action_zero_carries_the_standard_drone():
    """4 x 4.8 N x 0.715^2 = 9.8155 N on 1 kg: it rises at 0.0055 m/s^2."""
    s, outcome = STEP(FREE.replace(gravity=9.81), start(), HOVERING)
    np.testing.assert_allclose(s.body[0, VZ], 0.02 * (4 * HOVER_THRUST - 9.81), rtol=1e-2)
    assert abs(4 * HOVER_THRUST - 9.81) < 0.006
    np.testing.assert_allclose(outcome.reward, [0.1], atol=1e-5)  # close_reward at the target


def test_full_throttle():
    """Rotors go a third of the way: 0.715 + 0.33 x 0.285 = 0.80905 of full speed, 12.567 N in all."""
    s, _ = STEP(FREE, start(), HOVERING + 1)
    np.testing.assert_allclose(s.rotor, 0.80905, rtol=1e-6)
    acceleration = 4 * 4.8 * 0.80905**2
    np.testing.assert_allclose(s.body[0, VZ], 0.02 * acceleration, rtol=1e-5)
    np.testing.assert_allclose(s.body[0, Z], 0.5 * 0.02**2 * acceleration, rtol=1e-5)


def test_actions_are_clipped():
    s, _ = STEP(FREE, start(), HOVERING - 7)
    np.testing.assert_allclose(s.rotor, 0.715 - 0.33 * 0.285, rtol=1e-6)


@pytest.mark.parametrize(
    ("action", "rate", "gain"),
    [([1, -1, -1, 1], WX, 7.07), ([-1, -1, 1, 1], WY, 7.07), ([1, -1, 1, -1], WZ, 1.0)],
    ids=["left rotors roll", "back rotors pitch", "diagonal rotors yaw"],
)
def test_turning(action, rate, gain):
    """Thrusts 4.8 x (0.715 +- 0.09405)^2: rotors of one side push 2 x 0.6455 N more than at equal speed."""
    s, _ = STEP(FREE, start(), jnp.float32([action]))
    difference = 2 * 4.8 * (0.80905**2 - 0.62095**2)
    np.testing.assert_allclose(s.body[0, rate], 0.02 * gain * difference, rtol=1e-4)
    others = [w for w in (WX, WY, WZ) if w != rate]
    np.testing.assert_allclose(s.body[0, jnp.array(others)], 0, atol=1e-6)


def test_turning_is_bounded():
    s, _ = STEP(FREE, start(wx=19.9), jnp.float32([[1, -1, -1, 1]]))
    assert s.body[0, WX] == 20


def test_nearing_the_target_pays_per_metre():
    """From 5 m at 2 m/s towards it: 0.04 m nearer, 0.3 x 0.04, and 0.1 / (1 + 4.96)."""
    s, outcome = STEP(FREE, start(target=(5, 0, 0), vx=2.0), HOVERING)
    np.testing.assert_allclose(s.body[0, X], 0.04, rtol=1e-5)
    np.testing.assert_allclose(outcome.reward, [0.3 * 0.04 + 0.1 / 5.96], rtol=1e-3)
    np.testing.assert_allclose(s.closeness, [1 / 5.96], rtol=1e-3)


@pytest.mark.parametrize(
    ("beside", "flown", "reward", "terminated"),
    [(0.5, 1, 1.0, False), (1.1, 0, -1.0, True), (1.3, 0, 0.0, False)],
    ids=["through the ring", "into the rim", "past it"],
)
def test_rings(beside, flown, reward, terminated):
    """From 0.02 m before the plane at 2 m/s: 0.02 m behind it after the step, so no nearer to the middle."""
    s, outcome = STEP(FREE, start(task=RACE, target=(0, -beside, 0), x=-0.02, vx=2.0), HOVERING)
    assert s.rings[0] == flown and outcome.terminated[0] == terminated
    np.testing.assert_allclose(outcome.reward, [reward], atol=1e-3)
    moved = bool((s.target[0] != jnp.float32([0, -beside, 0])).any())
    assert moved == bool(flown)  # the next ring is drawn
    if flown:
        assert float(drone._dot(s.normal[0], s.target[0] - s.body[0, :3])) > 0  # it leads away from the drone
        np.testing.assert_allclose(jnp.sqrt((s.normal[0] ** 2).sum()), 1, rtol=1e-5)


def test_a_ring_flown_backwards_does_not_count():
    s, outcome = STEP(FREE, start(task=RACE, x=0.02, vx=-2.0), HOVERING)
    assert s.rings[0] == 0 and not outcome.terminated[0]


def test_the_last_ring_ends_the_episode():
    before = start(task=RACE, x=-0.02, vx=2.0)
    s, outcome = STEP(FREE, before.replace(rings=jnp.int32([4])), HOVERING)
    assert s.rings[0] == 5 and outcome.terminated[0] and not outcome.truncated[0]
    assert outcome.reward[0] > 0.99 and FREE.score(s)[0] == 1


def test_leaving_the_space_is_a_crash():
    _, outcome = STEP(FREE, start(y=-9.99, vy=-1.0), HOVERING)
    assert outcome.terminated[0] and outcome.reward[0] == -1
    _, outcome = STEP(FREE, start(y=-9.99, vy=-0.4), HOVERING)
    assert not outcome.terminated[0]


def test_the_time_limit_resets_the_world():
    for steps, reset in ((498, False), (499, True)):
        _, outcome = STEP(FREE, start().replace(steps=jnp.int32(steps)), HOVERING)
        assert bool(outcome.reset) == reset and not outcome.terminated[0]


def test_crowding_costs_a_swarm_alone():
    env = FREE.replace(num_drones=2)
    for task, apart, crowded in ((SWARM, 0.9, True), (SWARM, 1.1, False), (HOVER, 0.9, False)):
        s = start(env, task)
        s = s.replace(body=s.body.at[1, X].set(apart), target=s.body[:, :3].at[1, X].set(apart))
        _, outcome = STEP(env, s, jnp.zeros((2, 4), jnp.float32))
        np.testing.assert_allclose(outcome.reward, 0.1 - 0.02 * crowded, atol=2e-3)


def test_a_swarm_forms_anew():
    env = FREE.replace(num_drones=4)
    s = start(env, SWARM).replace(steps=jnp.int32(198))
    same, _ = STEP(env, s, jnp.zeros((4, 4), jnp.float32))
    np.testing.assert_array_equal(same.target, s.target)
    s, _ = STEP(env, same, jnp.zeros((4, 4), jnp.float32))
    np.testing.assert_array_equal(s.target, env.slots(s.formation, s.centre))


def test_formations():
    """Four drones 1.25 m apart: a line of 3.75 m, a circle of radius 0.796 m, a square of 1.25 m."""
    env = FREE.replace(num_drones=4)
    centre = jnp.float32([1.0, 2.0, 3.0])
    line, circle, square = (np.asarray(env.slots(jnp.int32(kind), centre)) - np.asarray(centre) for kind in range(3))
    np.testing.assert_allclose(line[:, 0], [-1.875, -0.625, 0.625, 1.875])
    np.testing.assert_allclose(circle[:, :2], 0.7957747 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]), atol=1e-6)
    np.testing.assert_allclose(square[:, :2], 0.625 * np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]))
    assert not line[:, 1:].any() and not circle[:, 2].any() and not square[:, 2].any()


# physics


def still(s):
    """The state with rotors that never push: moved by hand, because no action stops them."""
    return s.replace(rotor=jnp.zeros_like(s.rotor))


@jax.jit
def glide(env, s, steps):
    def one(_, s):
        b = env.move(drone._components(s.scale), drone._components(still(s).rotor), drone._components(s.body))
        return s.replace(body=jnp.stack(b, -1))

    return jax.lax.fori_loop(0, steps, one, s)


rates = st.floats(-8, 8, width=32)


@given(st.tuples(rates, rates, rates), st.tuples(rates, rates, rates))
@settings(max_examples=15, deadline=None)
def test_without_push_and_drag_momentum_and_energy_stay(velocity, turning):
    """Thrown with gravity: velocity changes by g t alone, and angular momentum in the world's frame not at all."""
    env = FREE.replace(gravity=9.81)
    s = start(env, vx=velocity[0], vy=velocity[1], vz=velocity[2], wx=turning[0], wy=turning[1], wz=turning[2])
    after = glide(env, s, 50)
    v0, v1 = np.asarray(s.body[0, VX : VZ + 1]), np.asarray(after.body[0, VX : VZ + 1])
    np.testing.assert_allclose(v1, v0 - [0, 0, 9.81], atol=1e-3)
    energy = [0.5 * (v**2).sum() + 9.81 * z for v, z in ((v0, 0.0), (v1, float(after.body[0, Z])))]
    np.testing.assert_allclose(energy[1], energy[0], rtol=1e-3, atol=0.02)

    def angular_momentum(s):
        spin = jnp.float32([0.01, 0.01, 0.02]) * s.body[0, WX:]
        return np.stack(drone._outward(drone._components(s.body), drone._components(spin[None])))[:, 0]

    np.testing.assert_allclose(angular_momentum(after), angular_momentum(s), atol=2e-3)
    np.testing.assert_allclose((after.body[0, QW : QW + 4] ** 2).sum(), 1, atol=1e-4)


def test_drag_slows_exponentially():
    """A drag of 0.5 N s/m on 1 kg: after a second e^-0.5 of the velocity is left."""
    env = FREE.replace(drag=0.5)
    after = glide(env, start(env, vx=3.0, wz=2.0), 50)
    np.testing.assert_allclose(after.body[0, VX], 3 * np.exp(-0.5), rtol=1e-4)
    np.testing.assert_allclose(after.body[0, WZ], 2 * np.exp(-0.5 * 2.5), rtol=1e-4)


def test_who_ends_comes_back_and_nobody_else():
    env = Drone(num_drones=4)
    s, _ = env.reset(jax.random.key(0))
    ended = jnp.array([False, True, False, True])
    after = env.respawn(s.replace(closeness=jnp.ones(4, jnp.float32)), ended)
    np.testing.assert_array_equal(after.body[~ended], s.body[~ended])
    assert (after.body[ended] != s.body[ended]).any(-1).all()
    np.testing.assert_array_equal(after.closeness, [1, 0, 1, 0])


def test_picture():
    env = make("drone")
    s, _ = env.reset(jax.random.key(1))
    picture = jax.jit(env.render)(s)
    assert picture.shape == (260, 320, 3) and picture.dtype == jnp.uint8
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 5
