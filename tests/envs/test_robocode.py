"""Robocode by hand: drives, shots and scans worked out on paper, in px and degrees, and properties of any game."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.robocode import BULLETS, Robocode, State, cosine, sine
from jaxpuffer import make, rng

ENV = Robocode(max_steps=500)
transition = jax.jit(Robocode.transition)
observe = jax.jit(Robocode.observe)

BACK, STOP, AHEAD = range(3)
LEFT, NOT, RIGHT = range(3)
GUN_NOT, RADAR_NOT = 4, 3
IDLE = [STOP, NOT, GUN_NOT, RADAR_NOT, 0]


def act(move: int = STOP, turn: int = NOT, gun: int = GUN_NOT, radar: int = RADAR_NOT, fire: int = 0) -> list[int]:
    return [move, turn, gun, radar, fire]


def both(a: Any, b: Any, scale: int = 1) -> Any:
    return jnp.int32([round(a * scale), round(b * scale)])


def world(own: tuple = (200, 300, 0), other: tuple = (600, 300, 0), **fields: Any) -> State:
    """A game by hand: places in px and headings of body, gun and radar in degrees, and fields as they are."""
    s = ENV.init(jnp.uint32([1, 2]))
    headings = both(own[2], other[2], 4)
    return s.replace(
        x=both(own[0], other[0], 64),
        y=both(own[1], other[1], 64),
        heading=headings,
        gun=headings,
        radar=headings,
        heat=jnp.int32([0, 0]),
    ).replace(**fields)


def bullets(*each: tuple, side: int = 0) -> dict[str, Any]:
    """Fields of a tank's bullets given as (x, y, vx, vy, power), in px."""
    fields = np.zeros((5, 2, BULLETS), np.int32)
    for i, (*place, power) in enumerate(each):
        fields[:, side, i] = [*(round(64 * v) for v in place), power]
    names = ("bullet_x", "bullet_y", "bullet_vx", "bullet_vy", "bullet_power")
    return {name: jnp.asarray(values) for name, values in zip(names, fields, strict=True)}


def move(s: State, own: list[int] = IDLE, other: list[int] = IDLE, env: Robocode = ENV) -> tuple[State, Any]:
    return transition(env, s, jnp.int32([own, other]))


def place(s: State, a: int = 0) -> list[float]:
    return [float(s.x[a]) / 64, float(s.y[a]) / 64]


def energy(s: State) -> list[float]:
    return [float(e) / 10 for e in s.energy]


def test_default_parameters() -> None:
    env = make("robocode")
    assert (int(env.width), int(env.height), int(env.cooling), int(env.max_steps)) == (800, 600, 1, 1000)
    assert (float(env.energy_reward), float(env.win_reward)) == (pytest.approx(0.01), 1.0)
    assert env.teams == (0, 1) and env.bots == ("sitting", "circling", "hunter", "leader")


def test_sines() -> None:
    headings = np.arange(1440, dtype=np.int32)
    angle = headings * (2 * np.pi / 1440)
    np.testing.assert_allclose(sine(jnp.asarray(headings)) / 2**14, np.sin(angle), atol=1.35e-4)
    np.testing.assert_allclose(cosine(jnp.asarray(headings)) / 2**14, np.cos(angle), atol=1.35e-4)
    assert sine(jnp.asarray(headings[::360])).tolist() == [0, 16384, 0, -16384]


def test_the_start() -> None:
    env = Robocode(width=301, height=200)
    starts = jax.vmap(env.init)(rng.seed(jax.random.key(0), (2000,)))
    x, y = np.asarray(starts.x) / 64, np.asarray(starts.y) / 64
    left, right = x.min(1), x.max(1)
    assert left.min() == 18 and left.max() == 113 and right.min() == 301 - 113 and right.max() == 301 - 18
    assert y.min() == 18 and y.max() == 182
    assert 0.45 < (x[:, 0] < x[:, 1]).mean() < 0.55
    np.testing.assert_array_equal(starts.gun, starts.heading)
    np.testing.assert_array_equal(starts.radar, starts.heading)
    assert starts.heading.min() < 20 and starts.heading.max() > 1420
    assert (starts.energy == 1000).all() and (starts.heat == 30).all() and not starts.speed.any()
    # seen in the middle, long ago
    assert (starts.seen_x == 301 * 32).all() and (starts.seen_y == 6400).all() and (starts.seen_age == 32).all()


def test_faster_and_slower() -> None:
    s, speeds = world(), []
    for _ in range(10):
        s, _ = move(s, act(AHEAD))
        speeds.append(int(s.speed[0]))
    assert speeds == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    assert place(s) == [200, 352]
    # braking by 2, whether it is to stop or to go back; then backwards
    stops, back = [], []
    t = s
    for _ in range(5):
        t, _ = move(t, act(STOP))
        s, _ = move(s, act(BACK))
        stops.append(int(t.speed[0]))
        back.append(int(s.speed[0]))
    assert stops == [6, 4, 2, 0, 0] and back == [6, 4, 2, 0, -1]
    assert place(s) == [200, 363]
    s, _ = move(s, act(AHEAD))
    assert int(s.speed[0]) == 0


@pytest.mark.parametrize(
    ("heading", "dx", "dy"), [(0, 0, 8), (90, 8, 0), (180, 0, -8), (270, -8, 0), (30, 4, 6.93), (225, -5.66, -5.66)]
)
def test_directions(heading: float, dx: float, dy: float) -> None:
    s, _ = move(world((200, 300, heading), speed=jnp.int32([7, 0])), act(AHEAD))
    np.testing.assert_allclose(place(s), [200 + dx, 300 + dy], atol=0.02)


@pytest.mark.parametrize(("speed", "degrees"), [(0, 10), (1, 9.25), (-5, 6.25), (8, 4)])
def test_the_body_turns_slower_at_speed(speed: int, degrees: float) -> None:
    s = world((200, 300, 100), speed=jnp.int32([speed, 0]))
    assert int(move(s, act(turn=RIGHT))[0].heading[0]) == (100 + degrees) * 4
    assert int(move(s, act(turn=LEFT))[0].heading[0]) == (100 - degrees) * 4


def test_the_gun_turns_with_the_body_and_the_radar_with_the_gun() -> None:
    s, _ = move(world((200, 300, 350)), act(turn=RIGHT, gun=8, radar=6))
    assert [int(v[0]) / 4 for v in (s.heading, s.gun, s.radar)] == [0, 20, 65]
    s, _ = move(s, act(turn=LEFT, gun=3, radar=1))
    assert [int(v[0]) / 4 for v in (s.heading, s.gun, s.radar)] == [350, 9, 34]
    # all turns
    guns = [int(move(world(), act(gun=k))[0].gun[0]) / 4 for k in range(9)]
    radars = [int(move(world(), act(radar=k))[0].radar[0]) / 4 for k in range(7)]
    assert guns == [340, 350, 356, 359, 0, 1, 4, 10, 20] and radars == [315, 340, 355, 0, 5, 20, 45]


def test_walls() -> None:
    # at 8 px per step: 3 of energy; it stops, and keeps its way along the wall
    s, out = move(world((780, 300, 60), speed=jnp.int32([8, 0])), act(AHEAD))
    np.testing.assert_allclose(place(s), [782, 304], atol=0.02)
    assert energy(s) == [97, 100] and int(s.speed[0]) == 0
    np.testing.assert_allclose(out.reward, [-0.03, 0.03], rtol=1e-5)
    # at 3 px per step half of one, at 2 nothing, and nothing where it reaches a wall without going further
    assert energy(move(world((400, 19, 180), speed=jnp.int32([2, 0])), act(AHEAD))[0])[0] == 99.5
    s, _ = move(world((400, 19, 180), speed=jnp.int32([1, 0])), act(AHEAD))
    assert energy(s)[0] == 100 and int(s.speed[0]) == 0
    s, _ = move(world((400, 26, 180), speed=jnp.int32([8, 0])), act(AHEAD))
    assert energy(s)[0] == 100 and int(s.speed[0]) == 8 and place(s) == [400, 18]
    # backwards too
    s, _ = move(world((20, 300, 90), speed=jnp.int32([-6, 0])), act(BACK))
    assert energy(s)[0] == 97.5 and place(s) == [18, 300]


def test_collisions() -> None:
    # 8 and 3 px towards each other, 46 px apart: they would overlap by a px, so both stay
    s = world((300, 300, 90), (346, 320, 270), speed=jnp.int32([8, 2]))
    s, out = move(s, act(AHEAD), act(AHEAD))
    assert place(s) == [300, 300] and place(s, 1) == [346, 320] and s.speed.tolist() == [0, 0]
    assert energy(s) == [99.4, 99.4] and out.reward.tolist() == [0, 0]
    # just beside each other, and just above each other, they pass
    for other in ((347, 320, 270), (340, 336, 270)):
        s, _ = move(world((300, 300, 90), other, speed=jnp.int32([8, 2])), act(AHEAD), act(AHEAD))
        assert place(s) == [308, 300] and energy(s) == [100, 100]


@pytest.mark.parametrize(("power", "speed", "wait"), [(1, 17, 12), (2, 14, 14), (3, 11, 16)])
def test_shots(power: int, speed: int, wait: int) -> None:
    # in the direction of the gun before it turns, from where the tank was before it drove
    s, out = move(world((200, 300, 90), speed=jnp.int32([4, 0])), act(AHEAD, gun=8, fire=power))
    assert [int(s.bullet_x[0, 0]) / 64, int(s.bullet_y[0, 0]) / 64] == [200, 300] and place(s) == [205, 300]
    assert [int(s.bullet_vx[0, 0]) / 64, int(s.bullet_vy[0, 0])] == [speed, 0]
    assert energy(s) == [100 - power, 100] and int(s.heat[0]) == 10 + 2 * power
    np.testing.assert_allclose(out.reward, [-0.01 * power, 0.01 * power], rtol=1e-4)
    steps = 0
    while s.shots[0] == 1:
        s, _ = move(s, act(fire=1))
        steps += 1
    assert steps == wait and s.bullet_power[0, :3].tolist() == [power, 1, 0]
    assert int(s.bullet_x[0, 0]) / 64 == 200 + speed * wait


def test_no_shot() -> None:
    # too hot, and cool in this step
    assert move(world(heat=jnp.int32([2, 1])), act(fire=1), act(fire=1))[0].shots.tolist() == [0, 1]
    # too weak
    s, _ = move(world(energy=jnp.int32([20, 21])), act(fire=2), act(fire=2))
    assert s.shots.tolist() == [0, 1] and energy(s) == [2, 0.1]
    # all bullets in flight, or the sixth free
    full = bullets(*[(400, 100, 0, 0, 1)] * 8)
    assert move(world(**full), act(fire=1))[0].shots.tolist() == [0, 0]
    full["bullet_power"] = full["bullet_power"].at[0, 5].set(0)
    s, _ = move(world(**full), act(fire=3))
    assert s.shots.tolist() == [1, 0] and s.bullet_power[0].tolist() == [1, 1, 1, 1, 1, 3, 1, 1]


@pytest.mark.parametrize(("power", "damage", "gain"), [(1, 4, 3), (2, 10, 6), (3, 16, 9)])
def test_hits(power: int, damage: float, gain: float) -> None:
    # the enemy's square begins 18 px from its middle; the bullet gets there in this step, or does not
    for start, hits in ((600 - 18 - 11, 1), (600 - 18 - 11.1, 0)):
        s, out = move(world(**bullets((start, 310, 11, 0, power))))
        assert int(s.hits[0]) == hits and int(s.bullet_power[0, 0]) == (0 if hits else power)
        assert energy(s) == ([100 + gain, 100 - damage] if hits else [100, 100])
        lead = hits * (damage + gain) * 0.01
        np.testing.assert_allclose(out.reward, [lead, -lead], rtol=1e-5)
    # of the other tank, and all of the step's bullets at once
    s, _ = move(world(**bullets(*[(200, 300, 0, 9, power)] * 2, side=1)))
    assert energy(s) == [100 - 2 * damage, 100 + 2 * gain] and s.hits.tolist() == [0, 2]


def test_a_way_that_crosses_a_corner_hits() -> None:
    # the corner is at (582, 282): a way from 4 px to its left to 4 px below it, and one that passes 4 px below and left
    assert int(move(world(**bullets((578, 290, 12, -12, 1))))[0].hits[0]) == 1
    assert int(move(world(**bullets((574, 286, 12, -12, 1))))[0].hits[0]) == 0
    # past it on one line
    assert int(move(world(**bullets((619, 300, 11, 0, 1))))[0].hits[0]) == 0


def test_bullets_fly_before_tanks_drive() -> None:
    # hit where it was, though it drives off; and a shot of this step does not fly yet
    s = world((200, 300, 0), (240, 300, 90), speed=jnp.int32([0, 8]), **bullets((213, 300, 9, 0, 1)))
    s, _ = move(s, act(fire=3), act(AHEAD))
    assert s.hits.tolist() == [1, 0] and place(s, 1) == [248, 300]
    assert s.bullet_power[0, :2].tolist() == [3, 0] and int(s.bullet_x[0, 0]) == 200 * 64


def test_a_bullet_leaves_the_arena() -> None:
    inside = bullets((789, 100, 11, 0, 3), (11, 100, -11, 0, 3), (400, 589, 0, 11, 3), (400, 11, 0, -11, 3))
    s, _ = move(world(**inside))
    assert s.bullet_power[0].tolist() == [3, 3, 3, 3, 0, 0, 0, 0]
    s, _ = move(s)
    assert not s.bullet_power.any() and energy(s) == [100, 100]


def test_the_default_arena_has_room_for_all_bullets() -> None:
    # the longest way, two of the slowest bullets first, and then fast ones, whenever the gun is cool
    def step(carry: tuple, k: jax.Array) -> tuple:
        s = carry[0].replace(y=carry[0].y.at[1].set(19 * 64), energy=jnp.int32([1000, 1000]))
        s, _ = ENV.transition(s, jnp.int32([act(fire=1), IDLE]).at[0, 4].set(jnp.where(k < 32, 3, 1)))
        return (s,), (s.heat[0], (s.bullet_power[0] > 0).sum())

    s = world((18, 18, 53.25), (700, 19, 0))
    heat, flying = jax.jit(lambda s: jax.lax.scan(step, (s,), jnp.arange(200)))(s)[1]
    assert (heat > 0).all() and flying.max() == 7


def scans(other: tuple, sweep: float, before: float = 0.0) -> bool:
    """Whether a radar that sweeps by some degrees sees the enemy at an offset."""
    radar = {45: 6, 20: 5, 5: 4, 0: 3, -5: 2, -20: 1, -45: 0}[sweep]
    s = world((400, 300, 0), (400 + other[0], 300 + other[1], 0), radar=both(before, 180, 4))
    s, _ = move(s, act(radar=radar))
    return bool(s.seen_age[0] == 0)


def test_scans() -> None:
    # to the right from straight up: the sector up to half a right angle, and 18 px to either side of it
    assert scans((100, 200), 45) and scans((-17, 200), 45) and scans((200, 176), 45)
    assert not scans((-19, 200), 45) and not scans((200, 173), 45)
    # to the left it is the mirror image
    assert scans((-100, 200), -45) and scans((17, 200), -45) and not scans((100, 200), -45)
    # nothing behind, and a radar that does not turn sees along its line
    assert not scans((0, -200), 45) and not scans((-10, -200), 0)
    assert scans((-18, 250), 0) and scans((18, 250), 0) and not scans((18.1, 250), 0)
    # across straight up
    assert scans((0, 200), 20, before=350) and scans((0, 200), -20, before=10) and not scans((0, -200), 20, before=350)


def test_what_was_seen_is_kept() -> None:
    s = world((200, 300, 90), (600, 310, 0), speed=jnp.int32([0, 7]), energy=jnp.int32([1000, 777]))
    s, _ = move(s, IDLE, act(AHEAD))
    assert [int(s.seen_x[0]), int(s.seen_y[0])] == [600 * 64, 318 * 64] and int(s.seen_age[0]) == 0
    assert [int(s.seen_vx[0]), int(s.seen_vy[0]), int(s.seen_energy[0])] == [0, 8 * 64, 777]
    assert int(s.seen_age[1]) == 32  # the other looks up, and has not seen it
    s = s.replace(radar=both(180, 0, 4))
    for age in range(1, 40):
        s, _ = move(s, IDLE, act(AHEAD))
        assert int(s.seen_age[0]) == min(age, 32) and int(s.seen_y[0]) == 318 * 64


def test_destroyed() -> None:
    # 0.9 is left of 16: the lead grows by that and by 9, and a win counts
    s = world(energy=jnp.int32([500, 9]), **bullets((600, 300, 11, 0, 3)))
    s, out = move(s)
    assert energy(s) == [59, 0] and out.terminated.tolist() == [True, True] and not out.truncated.any()
    np.testing.assert_allclose(out.reward, [1.099, -1.099], rtol=1e-5)
    assert ENV.score(s).tolist() == [1, -1] and ENV.perf(s).tolist() == [1, 0]
    # not with the last tenth
    s, out = move(world(energy=jnp.int32([500, 41]), **bullets((600, 300, 11, 0, 1))))
    assert energy(s) == [53, 0.1] and not out.terminated.any()


def test_both_destroyed() -> None:
    s = world((300, 300, 90), (336, 300, 270), energy=jnp.int32([6, 4]))
    s, out = move(s, act(AHEAD), act(AHEAD))
    assert energy(s) == [0, 0] and out.terminated.all()
    np.testing.assert_allclose(out.reward, [-0.002, 0.002], rtol=1e-4)
    assert ENV.score(s).tolist() == [0, 0] and ENV.perf(s).tolist() == [0.5, 0.5]
    # a hit in the same step saves it
    s = world((300, 300, 90), (336, 300, 270), energy=jnp.int32([6, 60]), **bullets((336, 300, 9, 0, 1)))
    s, out = move(s, act(AHEAD), act(AHEAD))
    assert energy(s) == [3, 1.4] and not out.terminated.any()


def test_the_time_limit_and_the_score() -> None:
    for steps, truncated in ((498, False), (499, True)):
        s, out = move(world(steps=jnp.int32(steps), energy=jnp.int32([300, 301])))
        assert out.truncated.tolist() == [truncated] * 2 and not out.terminated.any()
        assert ENV.score(s).tolist() == [-1, 1] and out.reward.tolist() == [0, 0]


def test_what_is_seen() -> None:
    # the tank faces right, its gun up, its radar left; it saw the enemy 100 px ahead and 100 px above, driving down
    s = world(
        (300, 150, 90),
        gun=both(0, 0, 4),
        radar=both(270, 0, 4),
        speed=jnp.int32([-4, 0]),
        heat=jnp.int32([15, 0]),
        energy=jnp.int32([1200, 500]),
        seen_x=both(400, 0, 64),
        seen_y=both(250, 0, 64),
        seen_vx=both(0, 0),
        seen_vy=both(-8, 0, 64),
        seen_age=jnp.int32([8, 32]),
        seen_energy=jnp.int32([650, 1000]),
        steps=jnp.int32(125),
    )
    half = np.sqrt(0.5)
    expected = [-0.25, -0.5, 1, 0, -0.5, -1, 0, -1, 0, 0.5, 1.2, 0.25, 0.1 * np.sqrt(2)]
    expected += [-half, half, half, half, half, -half]  # to the left ahead, to the right ahead, to the right behind
    expected += [-half, half, 0.65, 0.75]  # it came nearer, and went to the right
    np.testing.assert_allclose(observe(ENV, s)[0], expected, atol=3e-4)
    # in the tank's own place there is no direction
    here = observe(ENV, s.replace(seen_x=s.x, seen_y=s.y))[0]
    assert not here[12:21].any()


def exchanged(s: State) -> State:
    """The same with the two tanks exchanged, in each of many states; the stream is nobody's."""
    return jax.tree.map(lambda v: v[:, ::-1] if v.ndim > 1 else v, s).replace(rng=s.rng)


@jax.jit
def play(env: Robocode, stream: jax.Array, random: jax.Array) -> tuple:
    """400 steps of scripts or random actions: the states before, the states after, the outcomes, the observations, and
    what comes of the states before with the tanks exchanged."""

    def step(carry: tuple, _: None) -> tuple:
        s, stream = carry
        stream, words = rng.each(stream, 10)
        drawn = jnp.int32(rng.unit(words).reshape(2, 5) * np.float32([[3, 3, 9, 7, 4]]))
        action = jnp.where(random, drawn, env.player(s, stream))
        n, out = env.transition(s, action)
        return (n, stream), (s, action, n, out)

    before, action, after, out = jax.lax.scan(step, (env.init(stream), stream), length=400)[1]
    mirrored = jax.vmap(env.transition)(exchanged(before), action[:, ::-1])
    return before, after, out, jax.vmap(env.observe)(after), mirrored


@given(st.integers(0, 2**31 - 1), st.booleans(), st.sampled_from([(800, 600, 1), (200, 300, 5), (1000, 1000, 30)]))
@settings(max_examples=12, deadline=None)
def test_what_holds_in_any_game(seed: int, random: bool, arena: tuple[int, int, int]) -> None:
    width, height, cooling = arena
    env = Robocode(width=width, height=height, cooling=cooling)
    before, after, out, seen, (mirrored, mirrored_out) = play(env, rng.seed(jax.random.key(seed)), jnp.bool_(random))

    # inside the walls, apart, and in range
    x, y = np.asarray(after.x) / 64, np.asarray(after.y) / 64
    assert x.min() >= 18 and x.max() <= width - 18 and y.min() >= 18 and y.max() <= height - 18
    assert ((abs(x[:, 0] - x[:, 1]) >= 36) | (abs(y[:, 0] - y[:, 1]) >= 36)).all()
    for heading in (after.heading, after.gun, after.radar):
        assert heading.min() >= 0 and heading.max() < 1440
    assert abs(after.speed).max() <= 8 and after.heat.min() >= 0 and after.energy.min() >= 0
    flies = np.asarray(after.bullet_power) > 0
    assert (np.asarray(after.bullet_x)[flies] >= 0).all() and (np.asarray(after.bullet_x)[flies] <= width * 64).all()

    # what one wins the other loses, and no energy comes from nowhere: a hit takes more than it gives
    np.testing.assert_array_equal(out.reward[:, 0], -out.reward[:, 1])
    gained, destroyed = (after.energy - before.energy).sum(1), (after.energy == 0).any(1)
    assert ((gained <= 0) | destroyed).all()
    over = (before.energy == 0).any(1)
    assert np.isfinite(seen).all() and abs(np.asarray(seen)[~over]).max() <= 3.0

    # neither side is better off: the tanks exchanged, the same happens to them
    jax.tree.map(np.testing.assert_array_equal, mirrored, exchanged(after))
    np.testing.assert_array_equal(mirrored_out.reward, out.reward[:, ::-1])


@jax.jit
def contest(streams: jax.Array, bots: jax.Array) -> jax.Array:
    """The score of the first tank in games of one of the bots, int32 (games, 2), against another."""
    env = Robocode(max_steps=600)

    def choose(s: State, stream: jax.Array, bots: jax.Array) -> jax.Array:
        actions = [jnp.where((bots == k)[:, None], env.bot(s, stream, name), 0) for k, name in enumerate(env.bots)]
        return actions[0] + actions[1] + actions[2] + actions[3]

    def one(carry: tuple) -> tuple:
        s, over = carry
        n, out = jax.vmap(env.transition)(s, jax.vmap(choose)(s, streams, bots))
        s = jax.tree.map(lambda old, new: jax.vmap(jnp.where)(over, old, new), s, n)
        return s, over | (out.terminated | out.truncated).any(1)

    start = jax.vmap(env.init)(streams), jnp.zeros(len(bots), bool)
    s, _ = jax.lax.while_loop(lambda carry: ~carry[1].all(), one, start)
    return jax.vmap(env.score)(s)[:, 0]


def test_each_bot_beats_the_weaker_ones() -> None:
    games = 16
    pairs = [(strong, weak) for strong in range(4) for weak in range(strong)]
    bots = np.array([pair if g % 2 else pair[::-1] for pair in pairs for g in range(games)], np.int32)
    score = np.asarray(contest(rng.seed(jax.random.key(0), (len(bots),)), jnp.asarray(bots)))
    stronger = np.where(bots[:, 0] > bots[:, 1], score, -score).reshape(len(pairs), games)
    assert (stronger.mean(1) > 0.5).all(), dict(zip(pairs, stronger.mean(1), strict=True))
