"""Breakout by hand: frames worked out on paper, and what must hold after any.

A frame is 1/60 s, so that a speed of 60 px/s is one pixel a frame. The ball is a square of 32 px
whose left and upper edges are x and y; the field is 576 by 330 px. Brick (r, c) covers x from 32 c
to 32 c + 32 and y from 50 + 12 r to 62 + 12 r. The paddle's top is at y = 312, so that a ball lies on
it at y = 280.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.breakout import LEFT, RIGHT, STAY, Breakout, State
from jaxpuffer import make, rng

PIXEL = 60.0  # px/s: one pixel a frame
ALL = (1 << 18) - 1  # a row without bricks
NO_BRICKS = [ALL] * 6
WORTH = np.array([7, 7, 4, 4, 1, 1])

ENV = Breakout(frame_skip=1)
transition = jax.jit(Breakout.transition)


def world(gone: list[int] | None = None, **fields: Any) -> State:
    """A world by hand: the ball in the middle of the field and moving up, unless said otherwise."""
    at_rest = {"ball_x": 272, "ball_y": 200, "ball_vx": 0, "ball_vy": -PIXEL}
    s = ENV.init(jnp.uint32([1, 2])).replace(gone=jnp.uint32(gone or [0] * 6))
    return s.replace(**{k: jnp.asarray(v, getattr(s, k).dtype) for k, v in (at_rest | fields).items()})


def move(s: State, action: int = STAY, env: Breakout = ENV) -> tuple[State, dict[str, Any]]:
    s, out = transition(env, s, jnp.int32(action))
    return s, {"reward": float(out.reward), "terminated": bool(out.terminated), "truncated": bool(out.truncated)}


def check(s: State, **expected: Any) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(s, name), value, rtol=1e-6, atol=1e-3, err_msg=name)


def only(*bricks: tuple[int, int]) -> list[int]:
    """`gone` where the given bricks alone stand."""
    rows = NO_BRICKS.copy()
    for r, c in bricks:
        rows[r] &= ~(1 << c)
    return rows


def test_default_parameters() -> None:
    env = make("breakout")
    assert (env.frame_skip, int(env.balls), int(env.max_steps)) == (4, 5, 8000)
    assert (float(env.ball_speed), float(env.speed_step), float(env.max_ball_speed)) == (256, 64, 448)
    assert (float(env.paddle_speed), float(env.paddle_width)) == (620, 62)


def test_begin() -> None:
    """The ball starts 135 px down in the middle, pi / 3.25 from the vertical, to either side."""
    sides = set()
    for seed in range(8):
        s, obs = ENV.reset(jax.random.key(seed))
        # 256 sin(pi / 3.25) = 210.684 and 256 cos(pi / 3.25) = 145.425; (576 - 62) / 2 = 257; (576 - 32) / 2 = 272
        check(s, paddle_x=257, paddle_width=62, ball_x=272, ball_y=135, ball_vy=145.4246, ball_speed=256)
        check(s, points=0, balls=5, served=1, paddle_hits=0, steps=0, gone=[0] * 6)
        assert abs(float(s.ball_vx)) == pytest.approx(210.6839, abs=1e-3)
        sides.add(float(s.ball_vx) > 0)
        scalars = [257 / 576, 312 / 330, 272 / 576, 135 / 330, s.ball_vx / 512, 145.4246 / 512, 1 / 5, 0, 1, 1]
        np.testing.assert_allclose(obs, [*scalars, *[0] * 108], rtol=1e-5)
    assert sides == {False, True}


def test_observation() -> None:
    s = world(only((2, 3), (5, 17)), points=216, balls=2, served=4, paddle_width=31)
    obs = np.asarray(ENV.observe(s))
    np.testing.assert_allclose(obs[6:10], [4 / 5, 216 / 864, 2 / 5, 31 / 62], rtol=1e-6)
    # row by row, 18 to a row
    assert np.flatnonzero(obs[10:] == 0).tolist() == [2 * 18 + 3, 5 * 18 + 17]
    assert float(ENV.score(s)) == 216 and float(ENV.perf(s)) == pytest.approx(0.25)


# the paddle moves 620 / 60 = 10.333 px a frame and stays within the field
@pytest.mark.parametrize(
    ("x", "width", "action", "expected"),
    [
        (257, 62, STAY, 257),
        (257, 62, LEFT, 246.6667),
        (257, 62, RIGHT, 267.3333),
        (5, 62, LEFT, 0),
        (510, 62, RIGHT, 514),  # 576 - 62
        (540, 31, RIGHT, 545),  # 576 - 31
    ],
)
def test_paddle(x: float, width: float, action: int, expected: float) -> None:
    s, _ = move(world(paddle_x=x, paddle_width=width), action)
    check(s, paddle_x=expected, paddle_width=width, steps=1)


def test_flight() -> None:
    s, out = move(world(ball_vx=2 * PIXEL, ball_vy=-PIXEL))
    check(s, ball_x=274, ball_y=199, ball_vx=2 * PIXEL, ball_vy=-PIXEL, gone=[0] * 6)
    assert out == {"reward": 0, "terminated": False, "truncated": False}


def test_side_walls() -> None:
    # two of the frame's four pixels to the left wall: the ball stops there, half a frame higher
    s, _ = move(world(ball_x=2, ball_vx=-4 * PIXEL, ball_vy=-PIXEL))
    check(s, ball_x=0, ball_y=199.5, ball_vx=4 * PIXEL, ball_vy=-PIXEL)
    # one of four to the right wall, where the ball's right edge is at 576
    s, _ = move(world(ball_x=543, ball_vx=4 * PIXEL, ball_vy=-PIXEL))
    check(s, ball_x=544, ball_y=199.75, ball_vx=-4 * PIXEL, ball_vy=-PIXEL)


def test_ceiling_halves_the_paddle() -> None:
    s, _ = move(world(NO_BRICKS, ball_y=1, ball_vx=PIXEL, ball_vy=-4 * PIXEL))
    check(s, ball_x=272.25, ball_y=0, ball_vx=PIXEL, ball_vy=4 * PIXEL, paddle_x=257, paddle_width=31)
    # not a second time
    s, _ = move(world(NO_BRICKS, ball_y=1, ball_vy=-4 * PIXEL, paddle_width=31))
    check(s, ball_y=0, paddle_width=31)


def test_corner() -> None:
    """The wall is reached after a quarter of the frame, the ceiling after half: the frame ends at the wall."""
    s, _ = move(world(NO_BRICKS, ball_x=1, ball_y=2, ball_vx=-4 * PIXEL, ball_vy=-4 * PIXEL))
    check(s, ball_x=0, ball_y=1, ball_vx=4 * PIXEL, ball_vy=-4 * PIXEL, paddle_width=62)
    s, _ = move(s)
    check(s, ball_x=1, ball_y=0, ball_vx=4 * PIXEL, ball_vy=4 * PIXEL, paddle_width=31)


# row, points, speed at the next paddle hit
@pytest.mark.parametrize(
    ("row", "points", "speed"), [(5, 1, 256), (4, 1, 256), (3, 4, 256), (2, 4, 448), (1, 7, 448), (0, 7, 448)]
)
def test_brick_from_below(row: int, points: int, speed: float) -> None:
    """The ball rises straight under column 10 and reaches the row's lower edge after half the frame."""
    gone = [0] * (row + 1) + [ALL] * (5 - row)  # everything below that row
    bottom = 62 + 12 * row
    s, out = move(world(gone, ball_x=320, ball_y=bottom + 2, ball_vy=-4 * PIXEL, points=100))
    gone[row] |= 1 << 10
    check(s, ball_x=320, ball_y=bottom, ball_vx=0, ball_vy=4 * PIXEL, points=100 + points, gone=gone)
    check(s, ball_speed=speed)
    assert out == {"reward": points, "terminated": False, "truncated": False}


def test_brick_from_above() -> None:
    """The ball lies on the top row at y = 50 - 32 = 18."""
    s, out = move(world(ball_x=320, ball_y=17, ball_vy=4 * PIXEL))
    check(s, ball_y=18, ball_vy=-4 * PIXEL, points=7, gone=[1 << 10, 0, 0, 0, 0, 0])
    assert out["reward"] == 7


def test_brick_from_the_side() -> None:
    """Brick (5, 10): x from 320 to 352, y from 110 to 122."""
    alone = only((5, 10))
    # its left side, met when the ball's right edge has gone two of four pixels
    s, out = move(world(alone, ball_x=286, ball_y=100, ball_vx=4 * PIXEL, ball_vy=PIXEL))
    check(s, ball_x=288, ball_y=100.5, ball_vx=-4 * PIXEL, ball_vy=PIXEL, points=1, gone=NO_BRICKS)
    assert out["reward"] == 1
    # its right side, after one of four
    s, _ = move(world(alone, ball_x=353, ball_y=100, ball_vx=-4 * PIXEL, ball_vy=PIXEL))
    check(s, ball_x=352, ball_y=100.25, ball_vx=4 * PIXEL, ball_vy=PIXEL, points=1, gone=NO_BRICKS)
    # a ball that passes below it: its upper edge is at 123
    s, _ = move(world(alone, ball_x=286, ball_y=123, ball_vx=4 * PIXEL, ball_vy=PIXEL))
    check(s, ball_x=290, ball_y=124, ball_vx=4 * PIXEL, points=0, gone=alone)


# the ball's x, the columns that stand, the one that breaks
@pytest.mark.parametrize(
    ("x", "columns", "broken"),
    [
        (330, (10, 11), 10),  # over 330 to 362: 22 px of column 10, 10 of column 11
        (340, (10, 11), 11),  # over 340 to 372: 12 px of column 10, 20 of column 11
        (330, (11,), 11),  # the one overlapped less, where the other is gone
        (340, (10,), 10),
    ],
)
def test_two_bricks_touched(x: float, columns: tuple[int, ...], broken: int) -> None:
    """One brick at most: the one overlapped more."""
    gone = only(*[(5, c) for c in columns])
    s, out = move(world(gone, ball_x=x, ball_y=124, ball_vy=-4 * PIXEL))
    gone[5] |= 1 << broken
    check(s, ball_y=122, points=1, gone=gone)
    assert out["reward"] == 1


def test_two_bricks_touched_from_the_side() -> None:
    """From y = 103 to 135 the ball overlaps row 4 (98 to 110) by 7 px and row 5 by 12."""
    s, _ = move(world(only((4, 10), (5, 10)), ball_x=286, ball_y=103, ball_vx=4 * PIXEL, ball_vy=-PIXEL))
    check(s, ball_x=288, ball_y=102.5, ball_vx=-4 * PIXEL, points=1, gone=only((4, 10)))


# The paddle reaches from 257 to 319, its middle is 288. The angle to the vertical goes with the ball's middle,
# x + 16, from -45 degrees at the left end to 45 at the right end, and no further.
@pytest.mark.parametrize(
    ("ball_x", "degrees"),
    [(272, 0), (241, -45), (230, -45), (303, 45), (315, 45), (256.5, -22.5), (287.5, 22.5)],
)
def test_paddle_bounce(ball_x: float, degrees: float) -> None:
    s, out = move(world(ball_x=ball_x, ball_y=278, ball_vy=4 * PIXEL))
    angle = math.radians(degrees)
    check(s, ball_x=ball_x, ball_y=280, ball_vx=256 * math.sin(angle), ball_vy=-256 * math.cos(angle), paddle_hits=1)
    assert out["reward"] == 0


def test_paddle_missed() -> None:
    # the ball's right edge is at 256, one pixel to the left of the paddle
    s, _ = move(world(ball_x=224, ball_y=278, ball_vy=4 * PIXEL))
    check(s, ball_y=282, ball_vy=4 * PIXEL, paddle_hits=0)
    # the paddle moves first: from 257 to 267.3, away from a ball that reaches to 263
    s, _ = move(world(ball_x=231, ball_y=278, ball_vy=4 * PIXEL), RIGHT)
    check(s, ball_y=282, paddle_hits=0)
    s, _ = move(world(ball_x=231, ball_y=278, ball_vy=4 * PIXEL), STAY)
    check(s, ball_y=280, paddle_hits=1)


# speed before, paddle hits before, speed after
@pytest.mark.parametrize(
    ("speed", "hits", "after"), [(256, 2, 256), (256, 3, 320), (320, 7, 384), (400, 3, 448), (448, 0, 448)]
)
def test_speed_at_the_paddle(speed: float, hits: int, after: float) -> None:
    """Every fourth hit since the serve adds 64 px/s, up to 448; the ball takes on its speed at the paddle."""
    s, _ = move(world(ball_x=272, ball_y=278, ball_vy=4 * PIXEL, ball_speed=speed, paddle_hits=hits))
    check(s, ball_vx=0, ball_vy=-after, ball_speed=after, paddle_hits=hits + 1)


def test_lost_ball() -> None:
    fields = {"ball_x": 100, "ball_vy": 4 * PIXEL, "points": 14, "balls": 3, "served": 3, "paddle_hits": 6}
    fields |= {"paddle_x": 400, "paddle_width": 31, "ball_speed": 448}
    # at 330 it is still there
    s, _ = move(world([3, 0, 0, 0, 0, 0], ball_y=326, **fields))
    check(s, ball_y=330, balls=3, paddle_x=400)
    # below, it is lost: the next one is served at once, the wall stays as it is
    s, out = move(world([3, 0, 0, 0, 0, 0], ball_y=327, **fields))
    check(s, ball_x=272, ball_y=135, ball_vy=145.4246, ball_speed=256, balls=2, served=4, paddle_hits=0)
    check(s, paddle_x=257, paddle_width=62, points=14, gone=[3, 0, 0, 0, 0, 0])
    assert abs(float(s.ball_vx)) == pytest.approx(210.6839, abs=1e-3)
    assert out == {"reward": 0, "terminated": False, "truncated": False}


def test_last_ball_lost() -> None:
    s, out = move(world(ball_x=100, ball_y=329, ball_vy=4 * PIXEL, balls=1, served=5, steps=7999))
    check(s, balls=0, steps=8000)
    assert out == {"reward": 0, "terminated": True, "truncated": False}  # an end by the rules is no time limit


def test_refill() -> None:
    """A wall is worth 18 * 2 * (7 + 4 + 1) = 432; the next one comes when the ball is back on the paddle."""
    s, out = move(world(only((5, 10)), ball_x=320, ball_y=124, ball_vy=-4 * PIXEL, points=431))
    check(s, points=432, gone=NO_BRICKS)
    assert not out["terminated"]
    s, _ = move(s)
    check(s, gone=NO_BRICKS)
    falling = {"ball_x": 272, "ball_y": 278, "ball_vy": 4 * PIXEL}
    s, _ = move(world(NO_BRICKS, points=432, **falling))
    check(s, gone=[0] * 6, points=432)
    s, _ = move(world(only((5, 10)), points=431, **falling))
    check(s, gone=only((5, 10)), points=431)
    # once only: the second wall stays broken
    s, _ = move(world([1, 0, 0, 0, 0, 0], points=439, **falling))
    check(s, gone=[1, 0, 0, 0, 0, 0], points=439)


def test_all_cleared() -> None:
    s, out = move(world(only((5, 10)), ball_x=320, ball_y=124, ball_vy=-4 * PIXEL, points=863))
    check(s, points=864, balls=5)
    assert out == {"reward": 1, "terminated": True, "truncated": False}
    assert float(ENV.perf(s)) == pytest.approx(1)


def test_time_limit() -> None:
    assert move(world(steps=7998))[1] == {"reward": 0, "terminated": False, "truncated": False}
    assert move(world(steps=7999))[1] == {"reward": 0, "terminated": False, "truncated": True}


def test_frames_after_the_end_are_not_played() -> None:
    s, out = move(world(ball_x=100, ball_y=329, ball_vy=4 * PIXEL, balls=1), RIGHT, ENV.replace(frame_skip=4))
    check(s, balls=0, ball_x=272, ball_y=135, paddle_x=257, steps=1)
    assert out["terminated"]


@jax.jit
def play(env: Breakout, s: State, stream: jax.Array) -> tuple[State, jax.Array, jax.Array]:
    """400 steps, half of them aimed: the states, the rewards and the actions, step after step."""

    def step(carry: Any, _: None) -> Any:
        s, stream = carry
        stream, aim = rng.below(stream, 2)
        stream, action = rng.below(stream, 3)
        aimed = jnp.where(s.ball_x + 16 < s.paddle_x + s.paddle_width / 2, LEFT, RIGHT)
        action = jnp.where(aim == 1, aimed, action)
        s, out = env.transition(s, action)
        return (s, stream), (s, out.reward, action)

    return jax.lax.scan(step, (s, stream), length=400)[1]


def test_frame_skip() -> None:
    """A step of four frames is four steps of one frame, on which the same action is played."""
    env = Breakout(balls=1000)
    s = env.init(jnp.uint32([3, 4]))
    states, rewards, actions = play(env, s, jnp.uint32([5, 6]))

    one = ENV.replace(balls=1000)

    def frame(s: State, action: jax.Array) -> tuple[State, tuple[State, jax.Array]]:
        s, out = one.transition(s, action)
        return s, (s, out.reward)

    _, (frames, points) = jax.jit(lambda s, a: jax.lax.scan(frame, s, a))(s, actions.repeat(4))
    states, frames = jax.device_get((states, frames))
    assert rewards.sum() > 0 and (states.balls < 1000).any()
    np.testing.assert_array_equal(rewards, np.asarray(points).reshape(400, 4).sum(1))
    np.testing.assert_array_equal(4 * states.steps, frames.steps[3::4])
    for name in set(State.__dataclass_fields__) - {"steps"}:
        np.testing.assert_array_equal(getattr(states, name), getattr(frames, name)[3::4], err_msg=name)


@settings(max_examples=15, deadline=None)
@given(
    stream=st.tuples(st.integers(1, 2**32 - 1), st.integers(0, 2**32 - 1)),
    ball_speed=st.floats(60, 700, width=32),
    max_ball_speed=st.floats(60, 700, width=32),
    paddle_width=st.floats(8, 576, width=32),
)
def test_what_holds_after_any_frame(
    stream: tuple[int, int], ball_speed: float, max_ball_speed: float, paddle_width: float
) -> None:
    env = ENV.replace(ball_speed=ball_speed, max_ball_speed=max_ball_speed, paddle_width=paddle_width, balls=1000)
    states, rewards, _ = jax.device_get(play(env, env.init(jnp.uint32(stream)), jnp.uint32(stream[::-1])))

    assert (states.ball_x >= -1e-3).all() and (states.ball_x <= 544.001).all()
    assert (states.ball_y >= -1e-3).all() and (states.ball_y <= 330).all()
    speed = np.hypot(states.ball_vx, states.ball_vy)
    assert (speed <= max(ball_speed, max_ball_speed) * (1 + 1e-5)).all()
    assert (states.paddle_x >= 0).all() and (states.paddle_x + states.paddle_width <= 576.001).all()

    broken = (states.gone[:, :, None] >> np.arange(18)) & 1  # (time, 6, 18)
    assert (states.gone <= ALL).all()
    count = broken.sum((1, 2))
    worth = (broken.sum(2) * WORTH).sum(1)
    new = np.diff(count, prepend=0)
    refilled = np.cumsum(new < 0)
    assert (new <= 1).all() and (refilled <= 1).all()
    np.testing.assert_array_equal(states.points, worth + 432 * refilled)
    np.testing.assert_array_equal(np.cumsum(rewards), states.points)


def test_picture() -> None:
    """Half the field's size; the ball, the paddle, a brick and a life show."""
    render = jax.jit(ENV.render)
    s = world(paddle_x=257)
    picture = np.asarray(render(s))
    assert picture.shape == (165, 288, 3) and picture.dtype == np.uint8
    for change in (
        {"ball_x": jnp.float32(300)},
        {"ball_y": jnp.float32(220)},
        {"paddle_x": jnp.float32(300)},
        {"paddle_width": jnp.float32(31)},
        {"gone": jnp.uint32([0, 0, 1, 0, 0, 0])},
        {"balls": jnp.int32(4)},
    ):
        assert (np.asarray(render(s.replace(**change))) != picture).any(), change
    # the ball's middle is white: (272 + 16, 200 + 16) at half the scale
    assert picture[108, 144].tolist() == [241, 241, 241]
