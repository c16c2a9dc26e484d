"""Asteroids by hand: flights, shots and hits worked out on paper, in px, and properties of any game."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.asteroids import BULLETS, FAMILY, SEEN, Asteroids, State
from jaxpuffer import make, rng

ENV = Asteroids(frame_skip=1, max_steps=100, families=6)
SIDE = 500.0
transition = jax.jit(Asteroids.transition)
observe = jax.jit(Asteroids.observe)

NONE, LEFT, RIGHT, THRUST, SHOOT = [1, 0, 0], [0, 0, 0], [2, 0, 0], [1, 1, 0], [1, 0, 1]


def units(px) -> np.ndarray:
    return np.int64(np.round(np.float64(px) * 2**32 / SIDE))


def px(values) -> np.ndarray:
    """Places and velocities in px; places from 0 up to 500."""
    return np.asarray(values, np.float64) * (SIDE / 2**32)


def world(*asteroids, ship=(250, 250), **fields) -> State:
    """A game by hand, in px: asteroids as (x, y, vx, vy, size), the first family's first, and fields as they are.

    An asteroid of size 4 or 2 takes so many places, and starts at a multiple of it. Steps are 1, when none comes in.
    """
    rocks = np.zeros((5, 4 * ENV.families))
    i = 0
    for asteroid in asteroids:
        size = asteroid[-1]
        i = -(-i // size) * size
        rocks[:, i : i + size] = np.array(asteroid, np.float64)[:, None]
        i += size
    s = ENV.init(jnp.uint32([1, 2]))
    return s.replace(
        x=jnp.uint32(units(ship[0])),
        y=jnp.uint32(units(ship[1])),
        rock_x=jnp.asarray(units(rocks[0]).astype(np.uint32)),
        rock_y=jnp.asarray(units(rocks[1]).astype(np.uint32)),
        rock_vx=jnp.int32(units(rocks[2])),
        rock_vy=jnp.int32(units(rocks[3])),
        rock_size=jnp.int32(rocks[4]),
        steps=jnp.int32(1),
    ).replace(**fields)


def bullets(*each) -> dict:
    """Fields of bullets given as (x, y, vx, vy, life), in px and frames."""
    all_of_them = np.zeros((5, BULLETS))
    all_of_them[:, : len(each)] = np.array(each, np.float64).T
    x, y, vx, vy, life = all_of_them
    places = {"bullet_x": jnp.asarray(units(x).astype(np.uint32)), "bullet_y": jnp.asarray(units(y).astype(np.uint32))}
    return places | {
        "bullet_vx": jnp.int32(units(vx)),
        "bullet_vy": jnp.int32(units(vy)),
        "bullet_life": jnp.int32(life),
    }


def move(s, action=NONE, env=ENV):
    return transition(env, s, jnp.int32(action))


def ship(s) -> list[float]:
    return [float(px(v)) for v in (s.x, s.y, s.vx, s.vy)]


def asteroids(s) -> list[tuple[int, int]]:
    """Place in the array and size of each."""
    leads = np.flatnonzero(np.asarray(ENV.leads(s)))
    return [(int(i), int(s.rock_size[i])) for i in leads]


def test_default_parameters() -> None:
    env = make("asteroids")
    assert (env.frame_skip, env.families) == (2, 6)
    assert float(env.rock_speed) == 1.5 and int(env.spawn_steps) == 50
    assert (int(env.reload), int(env.bullet_life), int(env.max_steps)) == (18, 60, 1800)
    assert (int(env.levels), int(env.first_level)) == (0, 0)


def test_the_start() -> None:
    env = make("asteroids")
    s, obs = jax.jit(env.reset)(jax.random.key(0))
    assert ship(s) == [250, 250, 0, 0] and int(s.heading) == 0 and int(s.reload) == 0
    np.testing.assert_array_equal(s.rock_size, [4] * 24)
    np.testing.assert_array_equal(obs.rocks[:6, 6], np.ones(6))
    assert not obs.rocks[6:].any() and not s.bullet_life.any()
    # all at 1.5 px per frame
    np.testing.assert_allclose(np.hypot(px(s.rock_vx), px(s.rock_vy)), 1.5, rtol=1e-5)


def test_thrust_and_friction() -> None:
    # 0.6 px per frame upwards, then 0.95 of it, then 0.95 * 0.57 + 0.6 more
    s, _ = move(world(), THRUST)
    np.testing.assert_allclose(ship(s), [250, 249.4, 0, -0.6], atol=1e-5)
    s, _ = move(s)
    np.testing.assert_allclose(ship(s), [250, 248.83, 0, -0.57], atol=1e-5)
    s, _ = move(s, THRUST)
    np.testing.assert_allclose(ship(s), [250, 247.6885, 0, -1.1415], atol=1e-5)


def test_top_speed() -> None:
    s = world()
    for _ in range(200):
        s, _ = move(s, THRUST)
    np.testing.assert_allclose(px(s.vy), -12, atol=1e-3)  # 0.6 / (1 - 0.95)


@pytest.mark.parametrize(
    ("heading", "action", "after", "velocity"),
    [
        (0, [2, 1, 0], 1, (0.6 * np.sin(np.pi / 32), -0.6 * np.cos(np.pi / 32))),
        (0, [0, 1, 0], 63, (-0.6 * np.sin(np.pi / 32), -0.6 * np.cos(np.pi / 32))),
        (15, [2, 1, 0], 16, (0.6, 0)),  # a quarter turn: to the right
        (32, [1, 1, 0], 32, (0, 0.6)),
        (48, [1, 1, 0], 48, (-0.6, 0)),
        (63, [2, 0, 0], 0, (0, 0)),
    ],
)
def test_turns_before_it_thrusts(heading, action, after, velocity) -> None:
    s, _ = move(world(heading=jnp.int32(heading)), action)
    assert int(s.heading) == after
    np.testing.assert_allclose(ship(s)[2:], velocity, atol=1e-5)


def test_all_go_on_at_the_opposite_edge() -> None:
    flies = {"vx": jnp.int32(units(4)), "vy": jnp.int32(units(-10))}
    s = world((1, 100, -2, 0, 1), (100, 499.5, 0, 1, 1), ship=(498, 3), **flies, **bullets((300, 2, 0, -7, 9)))
    s, out = move(s)
    np.testing.assert_allclose(ship(s), [1.8, 493.5, 3.8, -9.5], atol=1e-4)
    np.testing.assert_allclose(px([s.rock_x[0], s.rock_y[1], s.bullet_y[0]]), [499, 0.5, 495], atol=1e-4)
    assert not out.terminated


def test_a_shot_and_the_reload() -> None:
    # from 20 px ahead of the ship, 7 px in the same frame; the ship moves on after the shot
    s, _ = move(world(heading=jnp.int32(16), vy=jnp.int32(units(2))), SHOOT)
    np.testing.assert_allclose(px([s.bullet_x[0], s.bullet_y[0]]), [277, 250], atol=1e-4)
    np.testing.assert_allclose(ship(s)[1], 251.9, atol=1e-4)
    assert int(s.reload) == 18 and s.bullet_life.tolist() == [59, 0, 0, 0]
    # 17 frames without a shot, then the next
    for _ in range(17):
        s, _ = move(s, SHOOT)
        assert s.bullet_life[1] == 0
    s, _ = move(s, SHOOT)
    assert int(s.reload) == 18 and s.bullet_life.tolist() == [41, 59, 0, 0]


def test_no_more_than_four_bullets() -> None:
    fields = bullets(*[(10, 10, 0, 0, 5)] * 4)
    s, _ = move(world(**fields), SHOOT)
    assert s.bullet_life.tolist() == [4, 4, 4, 4] and int(s.reload) == 0
    fields["bullet_life"] = jnp.int32([5, 5, 0, 5])
    s, _ = move(world(**fields), SHOOT)
    assert s.bullet_life.tolist() == [4, 4, 59, 4] and int(s.reload) == 18


def test_a_bullets_life() -> None:
    # in its last frame it still hits; then it is gone
    s, out = move(world((100, 100, 0, 0, 1), **bullets((100, 100, 0, 0, 1), (400, 400, 0, 0, 1))))
    assert float(out.reward) == 1 and s.bullet_life.tolist() == [0, 0, 0, 0]
    s, out = move(world((100, 100, 0, 0, 1), **bullets((107, 100, -7, 0, 0))))
    assert float(out.reward) == 0 and asteroids(s) == [(0, 1)]


@pytest.mark.parametrize(("size", "radius"), [(1, 10), (2, 20), (4, 40)])
def test_a_bullet_hits_within_the_radius(size, radius) -> None:
    for distance, hits in ((radius - 0.3, 1), (radius + 0.3, 0)):
        s, out = move(world((100, 100, 0, 0, size), **bullets((100, 100 + distance, 0, 0, 9))))
        assert float(out.reward) == hits and int(s.hits) == hits
        assert int(s.bullet_life[0]) == (0 if hits else 8)
    # over the edge of the field too
    _, out = move(world((1, 100, 0, 0, size), **bullets((500 + 1.3 - radius, 100, 0, 0, 9))))
    assert float(out.reward) == 1


def test_a_large_one_splits() -> None:
    s, out = move(world((100, 100, 3, 0, 4), **bullets((110, 100, 0, 0, 9))))
    assert asteroids(s) == [(0, 2), (2, 2)] and float(out.reward) == 1
    np.testing.assert_allclose(px(s.rock_x[:4]), 103, atol=1e-4)
    # 3 px per frame ahead as before, and an odd number of sixteenths of it to a side
    np.testing.assert_allclose(px(s.rock_vx[:4]), 3, atol=1e-4)
    sideways = px(s.rock_vy[:4]) / 3 * 16
    np.testing.assert_allclose(sideways, np.round(sideways), atol=1e-3)
    assert (np.round(sideways) % 2 == 1).all() and (abs(sideways) < 15.5).all()
    assert sideways[0] == sideways[1] and sideways[2] == sideways[3]


def test_the_pieces_draw_from_the_stream() -> None:
    before = world((100, 100, 0, -1.6, 4), **bullets((100, 100, 0, 0, 9)))
    stream, bits = rng.bits(before.rng)
    s, _ = move(before)
    np.testing.assert_array_equal(s.rng, stream)
    for i, shift in ((0, 0), (2, 8)):
        side = 2 * ((int(bits) >> shift) & 15) - 15
        np.testing.assert_allclose([px(s.rock_vx[i]), px(s.rock_vy[i])], [0.1 * side, -1.6], atol=1e-4)
    # nothing is drawn where nothing is hit
    before = world((100, 100, 0, 0, 4))
    np.testing.assert_array_equal(move(before)[0].rng, before.rng)


def test_middle_ones_split_and_small_ones_vanish() -> None:
    s, out = move(world((100, 100, 1, 0, 2), (300, 100, 0, 0, 2), **bullets((300, 105, 0, 0, 9))))
    assert asteroids(s) == [(0, 2), (2, 1), (3, 1)] and float(out.reward) == 1
    np.testing.assert_allclose(px(s.rock_x[:4]), [101, 101, 300, 300], atol=1e-4)
    s, out = move(s.replace(**bullets((300, 105, 0, 0, 9))))
    assert asteroids(s) == [(0, 2), (3, 1)]
    s, out = move(s.replace(**bullets((300, 105, 0, 0, 9))))
    assert asteroids(s) == [(0, 2)] and int(s.hits) == 3


def test_the_order_of_hits() -> None:
    # both touch both: the first bullet hits the first asteroid, the second bullet the second
    both = bullets((105, 100, 0, 0, 9), (105, 100, 0, 0, 9), (105, 100, 0, 0, 9))
    s, out = move(world((100, 100, 0, 0, 1), (110, 100, 0, 0, 1), **both))
    assert float(out.reward) == 2 and asteroids(s) == [] and s.bullet_life.tolist() == [0, 0, 8, 0]
    # two bullets at one: the second flies on, and pieces are not hit in the frame in which they come to be
    s, out = move(world((100, 100, 0, 0, 4), **both))
    assert float(out.reward) == 1 and asteroids(s) == [(0, 2), (2, 2)] and s.bullet_life.tolist() == [0, 8, 8, 0]
    # one bullet between two: the first in the array
    s, out = move(world((110, 100, 0, 0, 1), (100, 100, 0, 0, 1), **bullets((101, 100, 0, 0, 9))))
    assert float(out.reward) == 1 and asteroids(s) == [(1, 1)]


@pytest.mark.parametrize(("size", "distance"), [(1, 22), (2, 32), (4, 52)])
def test_the_ship_is_hit(size, distance) -> None:
    s, out = move(world((250 + distance + 0.3, 250, 0, 0, size)))
    assert not out.terminated and float(out.reward) == 0
    _, out = move(s.replace(rock_vx=jnp.full_like(s.rock_vx, units(-0.6))))
    assert out.terminated and float(out.reward) == -1 and not out.truncated
    # across the edge
    assert move(world((499, 250, 0, 0, size), ship=(distance - 1.3, 250)))[1].terminated


def test_a_hit_in_the_last_frame_counts() -> None:
    s, out = move(world((255, 250, 0, 0, 1), (100, 100, 0, 0, 1), **bullets((100, 100, 0, 0, 9))))
    assert out.terminated and float(out.reward) == 0 and int(s.hits) == 1


def test_frames() -> None:
    # three frames of one step, a hit in the second of them and a crash in the first: all are played
    env = Asteroids(frame_skip=3, max_steps=100)
    s = world((255, 250, 40, 0, 1), (100, 100, 0, 0, 1), vx=jnp.int32(0), **bullets((100, 123, 0, -7, 9)))
    s, out = transition(env, s, jnp.int32([2, 0, 0]))
    assert int(s.heading) == 3 and int(s.steps) == 2
    np.testing.assert_allclose(px(s.rock_x[0]), 375, atol=1e-4)
    assert not out.terminated and float(out.reward) == 1
    s, out = transition(env, world((230, 250, 5, 0, 1), vx=jnp.int32(0)), jnp.int32([1, 0, 0]))
    assert out.terminated and float(out.reward) == -1


def test_one_comes_in_where_a_family_is_gone() -> None:
    env = Asteroids(frame_skip=1, spawn_steps=10, rock_speed=2.0)
    here = world((100, 100, 0, 0, 4), (400, 400, 0, 0, 1), ship=(10, 490))
    s, _ = move(here.replace(steps=jnp.int32(9)), env=env)
    assert asteroids(s) == [(0, 4), (4, 1)]
    s, _ = move(here.replace(steps=jnp.int32(10)), env=env)
    assert asteroids(s) == [(0, 4), (4, 1), (8, 4)]
    # half of the side away from the ship, to a side or upwards, before it has moved on by 2 px
    x, y, vx, vy = (float(px(v[8])) for v in (s.rock_x, s.rock_y, s.rock_vx, s.rock_vy))
    assert np.hypot(vx, vy) == pytest.approx(2, abs=1e-4)
    assert (x - vx) % 500 == pytest.approx(260, abs=1e-3) or (y - vy) % 500 == pytest.approx(240, abs=1e-3)
    # all there: none comes in, and nothing is drawn
    full = ENV.init(jnp.uint32([1, 2]))
    np.testing.assert_array_equal(move(full, env=env)[0].rng, full.rng)


def test_the_time_limit() -> None:
    for steps, truncated in ((98, False), (99, True)):
        _, out = move(world(steps=jnp.int32(steps)))
        assert bool(out.truncated) == truncated and not out.terminated


def test_what_is_seen() -> None:
    # the ship faces right and flies to the right at 2 px per frame; one asteroid is 30 px below, one 150 px behind
    s = world(
        (480, 250, 1, 0, 4),
        (130, 280, 0, 3, 1),
        ship=(130, 250),
        heading=jnp.int32(16),
        vx=jnp.int32(units(2)),
        reload=jnp.int32(9),
        steps=jnp.int32(25),
        **bullets((10, 10, 0, 0, 4)),
    )
    obs = observe(ENV, s)
    per_speed = 64 / 500
    near = [0, 1, 30 / 250, 3 * per_speed, 2 * per_speed, 0.25, 1]  # a quarter turn clockwise; it falls back
    behind = [-1, 0, 150 / 250, 1 * per_speed, 0, 1, 1]  # across the edge: left behind at 1 px per frame
    np.testing.assert_allclose(obs.rocks[0], near, atol=1e-3)
    np.testing.assert_allclose(obs.rocks[1], behind, atol=1e-3)
    assert not obs.rocks[2:].any()
    np.testing.assert_allclose(obs.numbers, [2 * per_speed, 0, 1, 0, 0.5, 0.25, 0.75], atol=1e-5)


def test_the_nearest_come_first_and_equal_ones_in_their_order() -> None:
    # 24 small ones, 10 px apart to the right and to the left in turn; the last four of the row are not seen
    right = [(-1) ** k * (30 + 10 * (k // 2)) for k in range(24)]
    mixed = np.random.default_rng(0).permutation(24)
    s = world(*[(250 + right[k], 250, 0, 0, 1) for k in mixed])
    seen = np.asarray(observe(ENV, s).rocks)
    order = sorted(range(24), key=lambda i: (abs(right[mixed[i]]), i))[:SEEN]
    np.testing.assert_allclose(seen[:, 1] * seen[:, 2] * 250, [right[mixed[i]] for i in order], atol=0.2)


def test_score_and_perf() -> None:
    for hits, perf in ((0, 0), (30, 0.3), (150, 1)):
        s = world(hits=jnp.int32(hits))
        assert float(ENV.score(s)) == hits and float(ENV.perf(s)) == pytest.approx(perf)


def test_levels() -> None:
    env = Asteroids(levels=1, first_level=7)
    first, again, other = (
        np.asarray(e.init(jnp.uint32(stream)).rock_x)
        for e, stream in ((env, [1, 2]), (env, [3, 4]), (Asteroids(levels=1, first_level=8), [1, 2]))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@jax.jit
def play(env, s, actions):
    """The states and the outcomes of a game."""

    def step(s, action):
        s, out = env.transition(s, action)
        return s, (s, out)

    return jax.lax.scan(step, s, actions)[1]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 6]))
@settings(max_examples=20, deadline=None)
def test_any_game(seed, families) -> None:
    env = Asteroids(families=families, spawn_steps=20)
    actions = np.random.default_rng(seed).integers(0, [3, 2, 2], (150, 3))
    states, outs = play(env, jax.jit(Asteroids.init)(env, jnp.uint32([seed, 7])), jnp.int32(actions))
    size = np.asarray(states.rock_size).reshape(150, families, FAMILY)
    assert np.isin(size, [0, 1, 2, 4]).all()
    # what hangs together is at one place, and fills its share of the family
    for field in ("rock_x", "rock_y", "rock_vx", "rock_vy", "rock_size"):
        value = np.asarray(getattr(states, field)).reshape(150, families, FAMILY)
        assert (value[size == 4].reshape(-1, 4) == value[size == 4].reshape(-1, 4)[:, :1]).all()
        pairs, paired = value.reshape(-1, 2), (size == 2).reshape(-1, 2)
        assert (paired[:, 0] == paired[:, 1]).all()
        assert (pairs[paired[:, 0], 0] == pairs[paired[:, 0], 1]).all()
    hits, life = np.asarray(states.hits), np.asarray(states.bullet_life)
    reward, terminated = np.asarray(outs.reward)[1:], np.asarray(outs.terminated)[1:]
    np.testing.assert_array_equal(np.diff(hits), reward + terminated)
    assert (life >= 0).all() and (life < 60).all()
    assert (np.hypot(px(states.vx), px(states.vy)) < 12).all()


def test_picture() -> None:
    env = make("asteroids")
    s, _ = jax.jit(env.reset)(jax.random.key(0))
    picture = jax.jit(env.render)(s.replace(**bullets((10, 10, 0, 0, 9))))
    assert picture.shape == (250, 250, 3) and picture.dtype == jnp.uint8
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) == 6
