"""Pong by hand: frames worked out on paper, and properties that must hold after every step.

With `frame_skip=1` a step is one frame. y points up; positions are lower left corners.
The ball is 32 px, so it is at x 0 to 468 and y 0 to 608; a paddle is 70 px high, its
lower end at y -35 to 605, 285 at a serve.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import settled_transition

from envs_jax.pong import DOWN, STAY, UP, Pong, State
from jaxpuffer import make, rng

FRAME = Pong(frame_skip=1)
transition = jax.jit(settled_transition)


def rally(**fields: int) -> State:
    """A serve with some fields set by hand."""
    s = FRAME.init(jnp.uint32([1, 2]))
    return s.replace(**{name: jnp.int32(value) for name, value in fields.items()})


def frame(s: State, action: int = STAY, env: Pong = FRAME) -> tuple[State, float, bool, bool]:
    s, out = transition(env, s, jnp.int32(action))
    return s, float(out.reward), bool(out.terminated), bool(out.truncated)


def ball(s: State) -> tuple[int, int, int, int]:
    return int(s.ball_x), int(s.ball_y), int(s.ball_vx), int(s.ball_vy)


def test_default_parameters() -> None:
    env = make("pong")
    assert env.frame_skip == 8 and (int(env.max_score), int(env.max_steps)) == (21, 3000)
    speeds = (env.paddle_speed, env.opponent_speed, env.ball_speed_x, env.ball_max_speed_y, env.serve_speed_y, env.spin)
    assert tuple(map(int, speeds)) == (8, 8, 10, 13, 1, 3)


def test_the_serve() -> None:
    serves = [FRAME.init(rng.seed(jax.random.key(k))) for k in range(20)]
    assert {ball(s) for s in serves} == {(100, 304, 10, 1), (100, 304, 10, -1)}
    assert {(int(s.player_y), int(s.opponent_y)) for s in serves} == {(285, 285)}


def test_the_ball_flies_straight() -> None:
    s, reward, terminated, truncated = frame(rally(ball_x=200, ball_y=100, ball_vx=-10, ball_vy=7))
    assert ball(s) == (190, 107, -10, 7) and reward == 0 and not terminated and not truncated


def test_it_rebounds_above_and_below() -> None:
    assert ball(frame(rally(ball_x=200, ball_y=605, ball_vy=5))[0]) == (210, 608, 10, -5)
    assert ball(frame(rally(ball_x=200, ball_y=3, ball_vy=-5))[0]) == (210, 0, 10, 5)
    assert ball(frame(rally(ball_x=200, ball_y=603, ball_vy=5))[0]) == (210, 608, 10, 5)  # just touching


def test_the_player_moves_eight_pixels_within_its_range() -> None:
    s = rally(ball_x=200)
    assert int(frame(s, UP)[0].player_y) == 293
    assert int(frame(s, DOWN)[0].player_y) == 277
    assert int(frame(s, STAY)[0].player_y) == 285
    assert int(frame(rally(ball_x=200, player_y=600), UP)[0].player_y) == 605
    assert int(frame(rally(ball_x=200, player_y=-30), DOWN)[0].player_y) == -35


def test_the_opponent_follows_the_ball_no_faster_than_it_can() -> None:
    # its middle, 35 above its lower end, goes to the ball's lower edge
    assert int(frame(rally(ball_x=200, ball_y=500))[0].opponent_y) == 293
    assert int(frame(rally(ball_x=200, ball_y=100))[0].opponent_y) == 277
    assert int(frame(rally(ball_x=200, ball_y=323))[0].opponent_y) == 288  # 323 - 35


@pytest.mark.parametrize(
    ("action", "vy", "after"), [(STAY, 4, 4), (UP, 4, 7), (DOWN, 4, 1), (UP, 12, 13), (DOWN, -12, -13)]
)
def test_the_player_returns_and_drags_the_ball_along(action: int, vy: int, after: int) -> None:
    s, reward, *_ = frame(rally(ball_x=460, ball_y=300, ball_vy=vy), action)
    assert ball(s) == (468, 300 + vy, -10, after) and reward == pytest.approx(0.1)


def test_the_opponent_returns_without_spin_or_reward() -> None:
    s, reward, *_ = frame(rally(ball_x=5, ball_y=300, ball_vx=-10, ball_vy=4), UP)
    assert ball(s) == (0, 304, 10, 4) and reward == 0


def test_a_paddle_must_overlap_the_ball() -> None:
    # the ball's upper edge at 100 + 32 touches a paddle at 132 but does not overlap it
    reward = frame(rally(ball_x=460, ball_y=100, ball_vy=0, player_y=132))[1]
    assert reward == -1
    reward = frame(rally(ball_x=460, ball_y=100, ball_vy=0, player_y=131))[1]
    assert reward == pytest.approx(0.1)
    assert frame(rally(ball_x=460, ball_y=201, ball_vy=0, player_y=131))[1] == -1  # 131 + 70
    assert frame(rally(ball_x=460, ball_y=200, ball_vy=0, player_y=131))[1] == pytest.approx(0.1)


def test_points_and_the_serve_after_them() -> None:
    s, reward, terminated, _ = frame(rally(ball_x=460, ball_y=100, player_y=400))
    assert reward == -1 and not terminated and (int(s.player_points), int(s.opponent_points)) == (0, 1)
    assert ball(s)[:3] == (100, 304, 10) and (int(s.player_y), int(s.opponent_y)) == (285, 285)
    s, reward, *_ = frame(rally(ball_x=5, ball_y=100, ball_vx=-10, opponent_y=400))
    assert reward == 1 and (int(s.player_points), int(s.opponent_points)) == (1, 0)


def test_ends() -> None:
    won = rally(ball_x=5, ball_y=100, ball_vx=-10, opponent_y=400, player_points=20)
    assert frame(won)[1:] == (1.0, True, False)
    lost = rally(ball_x=460, ball_y=100, player_y=400, opponent_points=20)
    assert frame(lost)[1:] == (-1.0, True, False)
    assert frame(rally(ball_x=200, steps=2999))[2:] == (False, True)
    assert frame(rally(ball_x=200, steps=2998))[2:] == (False, False)
    assert frame(won.replace(steps=jnp.int32(2999)))[2:] == (True, False)


def test_a_step_of_eight_frames_stops_at_a_point() -> None:
    env = Pong()
    s, reward, *_ = frame(rally(ball_x=200, ball_y=300, ball_vy=2), UP, env)
    assert ball(s) == (280, 316, 10, 2) and int(s.player_y) == 285 + 64 and reward == 0
    # a return in the second frame, and six frames back
    s, reward, *_ = frame(rally(ball_x=455, ball_y=300, ball_vy=0), STAY, env)
    assert ball(s) == (468 - 60, 300, -10, 0) and reward == pytest.approx(0.1)
    # missed in the first frame: served, and the other seven are not played
    s, reward, *_ = frame(rally(ball_x=465, ball_y=100, player_y=400), STAY, env)
    assert ball(s)[:2] == (100, 304) and reward == -1


def test_observation_score_and_perf_by_hand() -> None:
    s = rally(player_y=605, opponent_y=-35, ball_x=234, ball_y=608, ball_vx=-10, ball_vy=13,
              player_points=7, opponent_points=14)  # fmt: skip
    np.testing.assert_allclose(FRAME.observe(s), [1, -1, 0, 1, -1, 1, 1 / 3, 2 / 3], rtol=1e-6, atol=1e-7)
    assert float(FRAME.score(s)) == -7 and float(FRAME.perf(s)) == pytest.approx(14 / 42)


@jax.jit
def _play(seed: int) -> tuple[State, jax.Array, jax.Array]:
    """400 steps of the scripted player: states, rewards and observations after each."""
    env = Pong(max_score=3)
    streams = rng.seed(jax.random.key(seed), (2,))

    def step(carry: tuple, _: None) -> tuple:
        s, stream = carry
        s, out = env.transition(s, env.player(s, stream))
        return (s, rng.bits(stream)[0]), (s, out.reward, env.observe(s))

    return jax.lax.scan(step, (env.init(streams[0]), streams[1]), length=400)[1]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_what_must_hold_after_any_step(seed: int) -> None:
    s, reward, _ = jax.tree.map(np.asarray, _play(seed))
    assert ((s.ball_x >= 0) & (s.ball_x <= 468) & (s.ball_y >= 0) & (s.ball_y <= 608)).all()
    assert ((abs(s.ball_vx) == 10) & (abs(s.ball_vy) <= 13)).all()
    for y in (s.player_y, s.opponent_y):
        assert ((y >= -35) & (y <= 605)).all()
    np.testing.assert_array_equal((reward == 1).cumsum(), s.player_points)
    np.testing.assert_array_equal((reward == -1).cumsum(), s.opponent_points)
