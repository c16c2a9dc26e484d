"""Breakout by hand: frames worked out on paper, and properties that must hold after every step.

With `frame_skip=1` a step is one frame of 1/60 s, so that a ball at 60 px/s moves one
pixel. The wall's rows are 12 px high from y = 50; the paddle's top is at y = 312.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import settled_transition

from envs_jax.breakout import LEFT, RIGHT, STAY, Breakout, State
from jaxpuffer import make, rng

FRAME = Breakout(frame_skip=1)
NO_BRICKS = jnp.full(6, (1 << 18) - 1, jnp.uint32)
transition = jax.jit(settled_transition)


def ball(x: float, y: float, vx: float, vy: float, **fields: object) -> State:
    """A game with the ball at this place and without bricks, except where `gone` has them."""
    s = FRAME.init(jnp.uint32([1, 2]))
    fields = {"gone": NO_BRICKS} | fields
    kinds = {name: getattr(s, name).dtype for name in fields}
    return s.replace(
        ball_x=jnp.float32(x), ball_y=jnp.float32(y), ball_vx=jnp.float32(vx), ball_vy=jnp.float32(vy),
        **{name: jnp.asarray(value, kinds[name]) for name, value in fields.items()},
    )  # fmt: skip


def bricks(*cells: tuple[int, int]) -> jax.Array:
    """A wall of only the bricks at (row, column)."""
    gone = np.asarray(NO_BRICKS).copy()
    for row, column in cells:
        gone[row] &= ~np.uint32(1 << column)
    return jnp.asarray(gone)


def frame(s: State, action: int = STAY, env: Breakout = FRAME) -> tuple[State, float, bool, bool]:
    s, out = transition(env, s, jnp.int32(action))
    return s, float(out.reward), bool(out.terminated), bool(out.truncated)


def at(s: State) -> tuple[float, float, float, float]:
    return tuple(round(float(v), 3) for v in (s.ball_x, s.ball_y, s.ball_vx, s.ball_vy))


def test_default_parameters() -> None:
    env = make("breakout")
    assert env.frame_skip == 4 and int(env.balls) == 5 and int(env.max_steps) == 8000
    speeds = (env.ball_speed, env.speed_step, env.max_ball_speed, env.paddle_speed, env.paddle_width)
    assert tuple(map(float, speeds)) == (256, 64, 448, 620, 62)


def test_the_serve() -> None:
    s = FRAME.init(jnp.uint32([1, 2]))
    assert (float(s.paddle_x), float(s.paddle_width)) == (257, 62)  # (576 - 62) / 2
    assert (float(s.ball_x), float(s.ball_y)) == (272, 135)  # (576 - 32) / 2
    angle = math.pi / 3.25
    assert abs(float(s.ball_vx)) == pytest.approx(256 * math.sin(angle), rel=1e-6)
    assert float(s.ball_vy) == pytest.approx(256 * math.cos(angle), rel=1e-6)
    sides = {float(jnp.sign(FRAME.init(rng.seed(jax.random.key(k))).ball_vx)) for k in range(20)}
    assert sides == {-1.0, 1.0}


def test_the_ball_flies_straight() -> None:
    s, reward, terminated, truncated = frame(ball(100, 200, 120, -60))
    assert at(s) == (102, 199, 120, -60) and reward == 0 and not terminated and not truncated


def test_the_paddle_moves_620_pixels_a_second_within_the_field() -> None:
    s = ball(100, 200, 60, 60, paddle_x=100)
    assert float(frame(s, LEFT)[0].paddle_x) == pytest.approx(100 - 620 / 60, rel=1e-6)
    assert float(frame(s, RIGHT)[0].paddle_x) == pytest.approx(100 + 620 / 60, rel=1e-6)
    assert float(frame(s.replace(paddle_x=jnp.float32(5)), LEFT)[0].paddle_x) == 0
    assert float(frame(s.replace(paddle_x=jnp.float32(510)), RIGHT)[0].paddle_x) == 514  # 576 - 62


def test_side_walls_and_ceiling() -> None:
    assert at(frame(ball(1, 200, -120, -60))[0]) == (0, 199.5, 120, -60)  # the wall comes after half the frame
    assert at(frame(ball(543, 200, 120, 60))[0]) == (544, 200.5, -120, 60)
    s, *_ = frame(ball(300, 1, 60, -120))
    assert at(s) == (300.5, 0, 60, 120) and float(s.paddle_width) == 31
    # half of the full width, also the second time
    assert float(frame(ball(300, 1, 60, -120, paddle_width=31))[0].paddle_width) == 31


@pytest.mark.parametrize(("row", "points"), [(0, 7), (1, 7), (2, 4), (3, 4), (4, 1), (5, 1)])
def test_a_brick_from_below(row: int, points: int) -> None:
    bottom = 50 + 12 * (row + 1)
    s, reward, *_ = frame(ball(96, bottom + 1, 0, -120, gone=bricks((row, 3))))
    assert at(s) == (96, bottom, 0, 120) and reward == points and int(s.points) == points
    assert np.array_equal(s.gone, NO_BRICKS)
    assert float(s.ball_speed) == (448 if row < 3 else 256)
    assert float(s.ball_vy) == 120, "the speed is taken on at the next paddle hit"


def test_a_brick_from_above_and_from_the_side() -> None:
    s, reward, *_ = frame(ball(96, 50 - 32 - 1, 0, 120, gone=bricks((0, 3))))
    assert at(s) == (96, 18, 0, -120) and reward == 7
    # column 5 begins at x = 160; the ball's right edge is at 159, its rows overlap row 2 (74 to 86) most
    s, reward, *_ = frame(ball(127, 60, 120, 0.6, gone=bricks((1, 5), (2, 5), (3, 5))))
    assert float(s.ball_x) == 128 and float(s.ball_vx) == -120 and reward == 7
    assert np.array_equal(s.gone ^ NO_BRICKS, [0, 0, 1 << 5, 1 << 5, 0, 0])


def test_of_two_bricks_the_one_overlapped_more_breaks() -> None:
    wall = bricks((5, 3), (5, 4))  # columns from x = 96 and x = 128
    s, *_ = frame(ball(100, 123, 0, -120, gone=wall))  # 28 px over column 3, 4 over column 4
    assert np.array_equal(s.gone, bricks((5, 4)))
    s, *_ = frame(ball(120, 123, 0, -120, gone=wall))
    assert np.array_equal(s.gone, bricks((5, 3)))
    s, *_ = frame(ball(100, 123, 0, -120, gone=bricks((5, 4))))  # the only one there
    assert np.array_equal(s.gone, NO_BRICKS)


def test_the_sooner_of_two_hits_counts() -> None:
    # the wall at x = 544 after a quarter of the frame, the brick's bottom at y = 122 after half
    s, reward, *_ = frame(ball(543, 123, 240, -120, gone=bricks((5, 17))))
    assert at(s) == (544, 122.5, -240, -120) and reward == 0


@pytest.mark.parametrize(("place", "angle"), [(0.0, -45), (0.25, -22.5), (0.5, 0), (1.0, 45)])
def test_the_paddle_sends_the_ball_back_by_where_it_is_hit(place: float, angle: float) -> None:
    # the ball's middle, at x + 16, meets the paddle at that share of its width
    x = 200 + 62 * place - 16
    s, reward, *_ = frame(ball(x, 279, 0, 120, paddle_x=200, ball_speed=300))
    radians = math.radians(angle)
    assert float(s.ball_y) == 280 and reward == 0 and int(s.paddle_hits) == 1
    assert float(s.ball_vx) == pytest.approx(300 * math.sin(radians), abs=1e-3)
    assert float(s.ball_vy) == pytest.approx(-300 * math.cos(radians), abs=1e-3)


@pytest.mark.parametrize(("x", "angle"), [(170, -45), (260, 45)])
def test_beyond_the_paddles_ends_the_angle_stays(x: float, angle: float) -> None:
    # the paddle is from 200 to 262; the ball's middle, at 186 or 276, is not above it
    s, *_ = frame(ball(x, 279, 0, 120, paddle_x=200))
    assert float(s.ball_vx) == pytest.approx(256 * math.sin(math.radians(angle)), abs=1e-3)


def test_the_paddle_moves_before_the_ball() -> None:
    # the ball reaches to x = 207: over a paddle at 200, not over one that has moved to 210.3
    s = ball(175, 279, 0, 120, paddle_x=200)
    assert int(frame(s, STAY)[0].paddle_hits) == 1 and int(frame(s, RIGHT)[0].paddle_hits) == 0


def test_every_fourth_hit_speeds_the_ball_up() -> None:
    for hits, before, after in ((2, 256, 256), (3, 256, 320), (7, 320, 384), (11, 430, 448)):
        s, *_ = frame(ball(200, 279, 0, 120, paddle_x=200, paddle_hits=hits, ball_speed=before))
        assert float(s.ball_speed) == after
        assert math.hypot(float(s.ball_vx), float(s.ball_vy)) == pytest.approx(after, rel=1e-5)


def test_a_cleared_wall_is_refilled_at_the_next_paddle_hit() -> None:
    s, *_ = frame(ball(200, 279, 0, 120, paddle_x=200, points=432))
    assert not s.gone.any()
    s, *_ = frame(ball(200, 279, 0, 120, paddle_x=200, points=431))
    assert np.array_equal(s.gone, NO_BRICKS)
    # only once: the second wall stays broken
    s, *_ = frame(ball(200, 279, 0, 120, paddle_x=200, points=439))
    assert np.array_equal(s.gone, NO_BRICKS)


def test_a_lost_ball_is_served_again() -> None:
    s, reward, terminated, _ = frame(ball(100, 329, 60, 120, paddle_x=400, paddle_width=31, paddle_hits=5, balls=3))
    assert (int(s.balls), int(s.served), int(s.paddle_hits)) == (2, 2, 0) and reward == 0 and not terminated
    assert (float(s.paddle_x), float(s.paddle_width), float(s.ball_y)) == (257, 62, 135)
    # at y = 330 it is not lost yet
    s, *_ = frame(ball(100, 328, 0, 120, paddle_x=400, balls=3))
    assert float(s.ball_y) == 330 and int(s.balls) == 3
    # beside the paddle it continues to fall
    assert at(frame(ball(100, 279, 0, 120, paddle_x=400))[0]) == (100, 281, 0, 120)


def test_ends() -> None:
    assert frame(ball(100, 329, 60, 120, balls=1))[2:] == (True, False)
    s, reward, terminated, _ = frame(ball(96, 123, 0, -120, gone=bricks((5, 3)), points=863))
    assert terminated and int(s.points) == 864 and reward == 1
    assert frame(ball(100, 200, 60, 60, steps=7999))[2:] == (False, True)
    assert frame(ball(100, 200, 60, 60, steps=7998))[2:] == (False, False)
    assert frame(ball(100, 329, 60, 120, balls=1, steps=7999))[2:] == (True, False)


def test_four_frames_are_four_frames() -> None:
    s = FRAME.init(jnp.uint32([5, 6]))
    four, one = Breakout(), s
    for action in [LEFT, RIGHT, STAY] * 40:
        total = 0.0
        for _ in range(4):
            one, reward, *_ = frame(one, action)
            total += reward
        s, reward, *_ = frame(s, action, four)
        assert reward == total
        assert at(s) == at(one) and np.array_equal(s.gone, one.gone) and int(s.balls) == int(one.balls)


def test_frames_after_the_end_are_not_played() -> None:
    s, _, terminated, _ = frame(ball(100, 329, 60, 120, balls=1), RIGHT, Breakout())
    assert terminated and int(s.steps) == 1
    assert (float(s.paddle_x), float(s.ball_x), float(s.ball_y)) == (257, 272, 135)  # as served


def test_observation_by_hand() -> None:
    s = ball(288, 165, 256, -128, paddle_x=144, gone=bricks((0, 0)), points=216, balls=4, served=2)
    obs = np.asarray(FRAME.observe(s))
    expected = [0.25, 312 / 330, 0.5, 0.5, 0.5, -0.25, 0.4, 0.25, 0.8, 1.0]
    np.testing.assert_allclose(obs[:10], expected, rtol=1e-6)
    assert obs[10] == 0 and (obs[11:] == 1).all()
    assert float(FRAME.score(s)) == 216 and float(FRAME.perf(s)) == pytest.approx(0.25)


def test_the_picture_shows_ball_paddle_and_bricks() -> None:
    render = jax.jit(Breakout.render)
    s = FRAME.init(jnp.uint32([1, 2]))
    picture = np.asarray(render(FRAME, s))
    assert picture.shape == (165, 288, 3)
    for change in ({"ball_x": 10.0}, {"paddle_x": 10.0}, {"gone": NO_BRICKS}, {"balls": 1}):
        moved = s.replace(**{k: jnp.asarray(v, getattr(s, k).dtype) for k, v in change.items()})
        assert not np.array_equal(picture, render(FRAME, moved)), change


@jax.jit
def _play(seed: int) -> tuple[State, jax.Array]:
    """600 frames of the scripted player: the states after each, and the rewards."""
    streams = rng.seed(jax.random.key(seed), (2,))

    def step(carry: tuple, _: None) -> tuple:
        s, stream = carry
        s, out = FRAME.transition(s, FRAME.player(s, stream))
        return (s, rng.bits(stream)[0]), (s, out.reward)

    return jax.lax.scan(step, (FRAME.init(streams[0]), streams[1]), length=600)[1]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_what_must_hold_after_any_frame(seed: int) -> None:
    s, reward = jax.tree.map(np.asarray, _play(seed))
    worth = np.array([7, 7, 4, 4, 1, 1])
    broken = np.array([[int(row).bit_count() for row in rows] for rows in s.gone])
    assert (np.diff(broken.sum(1)) <= 1).all(), "one brick a frame at most"
    np.testing.assert_array_equal(broken @ worth, s.points)
    np.testing.assert_array_equal(reward.cumsum(), s.points)
    assert ((s.ball_x >= -1e-3) & (s.ball_x <= 544 + 1e-3) & (s.ball_y >= -1e-3) & (s.ball_y <= 330)).all()
    assert (np.hypot(s.ball_vx, s.ball_vy) <= 448 * (1 + 1e-5)).all()
    assert ((s.paddle_x >= 0) & (s.paddle_x + s.paddle_width <= 576)).all()
