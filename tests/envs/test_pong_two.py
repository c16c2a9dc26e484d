"""Pong for two by hand: frames worked out on paper, and properties that must hold after every step.

With `frame_skip=1` a step is one frame. y points up; positions are lower left corners. The ball is 32 px, so it is at x
0 to 468 and y 0 to 608; a paddle is 70 px high, its lower end at y -35 to 605, 285 at a serve. Side 0 is at the right.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import settled_transition

from envs_jax.pong import DOWN, STAY, UP, PongTwo, State, _mirrored
from jaxpuffer import make, rng
from jaxpuffer.match import match
from jaxpuffer.players import Scripted

FRAME = PongTwo(frame_skip=1)
transition = jax.jit(settled_transition)
bot = jax.jit(lambda s, stream, name: FRAME.replace(frame_skip=8).bot(s, stream, name), static_argnums=2)


def rally(**fields: int) -> State:
    """A serve to the right with some fields set by hand."""
    s = FRAME.init(jnp.uint32([1, 2])).replace(ball_x=jnp.int32(100), ball_vx=jnp.int32(10))
    return s.replace(**{name: jnp.int32(value) for name, value in fields.items()})


def frame(s: State, actions: tuple[int, int] = (STAY, STAY), env: PongTwo = FRAME) -> tuple[State, list, list, list]:
    s, out = transition(env, s, jnp.int32(actions))
    return s, out.reward.tolist(), out.terminated.tolist(), out.truncated.tolist()


def ball(s: State) -> tuple[int, int, int, int]:
    return int(s.ball_x), int(s.ball_y), int(s.ball_vx), int(s.ball_vy)


def paddles(s: State) -> tuple[int, int]:
    return int(s.player_y), int(s.opponent_y)


def points(s: State) -> tuple[int, int]:
    return int(s.player_points), int(s.opponent_points)


def test_default_parameters() -> None:
    env = make("pong_two")
    assert env.frame_skip == 8 and (int(env.max_score), int(env.max_steps)) == (21, 3000)
    speeds = (env.paddle_speed, env.ball_speed_x, env.ball_max_speed_y, env.serve_speed_y, env.spin)
    assert tuple(map(int, speeds)) == (8, 10, 13, 1, 3)
    assert env.num_agents == 2 and env.teams == (0, 1)


def test_either_side_serves() -> None:
    serves = [FRAME.init(rng.seed(jax.random.key(k))) for k in range(40)]
    assert {ball(s) for s in serves} == {(100, 304, 10, 1), (100, 304, 10, -1), (368, 304, -10, 1), (368, 304, -10, -1)}
    assert {paddles(s) for s in serves} == {(285, 285)}


def test_the_ball_flies_straight() -> None:
    s, *flags = frame(rally(ball_x=200, ball_y=100, ball_vx=-10, ball_vy=7))
    assert ball(s) == (190, 107, -10, 7) and flags == [[0.0, 0.0], [False, False], [False, False]]


def test_it_rebounds_above_and_below() -> None:
    assert ball(frame(rally(ball_x=200, ball_y=605, ball_vy=5))[0]) == (210, 608, 10, -5)
    assert ball(frame(rally(ball_x=200, ball_y=3, ball_vy=-5))[0]) == (210, 0, 10, 5)


def test_both_paddles_obey_within_their_range() -> None:
    assert paddles(frame(rally(), (UP, DOWN))[0]) == (293, 277)
    assert paddles(frame(rally(), (STAY, UP))[0]) == (285, 293)
    assert paddles(frame(rally(player_y=600, opponent_y=-30), (UP, DOWN))[0]) == (605, -35)


@pytest.mark.parametrize(
    ("action", "vy", "after"), [(STAY, 4, 4), (UP, 4, 7), (DOWN, 4, 1), (UP, 12, 13), (DOWN, -12, -13)]
)
def test_either_side_returns_and_drags_the_ball_along(action: int, vy: int, after: int) -> None:
    # the other side's movement does nothing to it
    s, reward, *_ = frame(rally(ball_x=460, ball_y=300, ball_vy=vy), (action, DOWN))
    assert ball(s) == (468, 300 + vy, -10, after) and reward == [0, 0]
    s, reward, *_ = frame(rally(ball_x=5, ball_y=300, ball_vx=-10, ball_vy=vy), (DOWN, action))
    assert ball(s) == (0, 300 + vy, 10, after) and reward == [0, 0]


@pytest.mark.parametrize(("paddle_y", "returned"), [(132, False), (131, True), (30, False), (31, True)])
def test_a_paddle_must_overlap_the_ball(paddle_y: int, returned: bool) -> None:
    # the ball from 100 to 132; a paddle from 30 or 31 reaches to 100 or 101
    s, reward, *_ = frame(rally(ball_x=460, ball_y=100, ball_vy=0, player_y=paddle_y))
    assert reward == ([0, 0] if returned else [-1, 1]) and points(s) == (0, int(not returned))
    s, reward, *_ = frame(rally(ball_x=5, ball_y=100, ball_vx=-10, ball_vy=0, opponent_y=paddle_y))
    assert reward == ([0, 0] if returned else [1, -1]) and points(s) == (int(not returned), 0)


def test_the_serve_after_a_point() -> None:
    s, *_ = frame(rally(ball_x=460, ball_y=100, player_y=400, opponent_y=50), (UP, UP))
    assert points(s) == (0, 1) and paddles(s) == (285, 285)
    assert ball(s)[:3] in {(100, 304, 10), (368, 304, -10)} and abs(int(s.ball_vy)) == 1


def test_ends() -> None:
    won = rally(ball_x=5, ball_y=100, ball_vx=-10, opponent_y=400, player_points=20)
    assert frame(won)[1:] == ([1, -1], [True, True], [False, False])
    lost = rally(ball_x=460, ball_y=100, player_y=400, opponent_points=20)
    assert frame(lost)[1:] == ([-1, 1], [True, True], [False, False])
    assert frame(rally(ball_x=200, steps=2999))[2:] == ([False, False], [True, True])
    assert frame(rally(ball_x=200, steps=2998))[2:] == ([False, False], [False, False])
    assert frame(won.replace(steps=jnp.int32(2999)))[2:] == ([True, True], [False, False])


def test_a_step_of_eight_frames_stops_at_a_point() -> None:
    env = PongTwo()
    s, *_ = frame(rally(ball_x=200, ball_y=300, ball_vy=2), (UP, DOWN), env)
    assert ball(s) == (280, 316, 10, 2) and paddles(s) == (285 + 64, 285 - 64)
    # side 0 returns in the second frame, and the ball flies back for six
    s, *_ = frame(rally(ball_x=455, ball_y=300, ball_vy=0), (STAY, UP), env)
    assert ball(s) == (468 - 60, 300, -10, 0) and paddles(s) == (285, 285 + 64)
    # missed in the first frame: served, and the other seven are not played
    s, reward, *_ = frame(rally(ball_x=465, ball_y=100, player_y=400), (STAY, STAY), env)
    assert ball(s)[1] == 304 and paddles(s) == (285, 285) and reward == [-1, 1]


def test_each_side_sees_its_paddle_at_the_right() -> None:
    s = rally(player_y=605, opponent_y=-35, ball_x=351, ball_y=608, ball_vx=-10, ball_vy=13,
              player_points=7, opponent_points=14)  # fmt: skip
    seen = np.asarray(FRAME.observe(s))
    np.testing.assert_allclose(seen[0], [1, -1, 0.5, 1, -1, 1, 1 / 3, 2 / 3], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(seen[1], [-1, 1, -0.5, 1, 1, 1, 2 / 3, 1 / 3], rtol=1e-6, atol=1e-7)
    assert FRAME.score(s).tolist() == [-7, 7]
    np.testing.assert_allclose(FRAME.perf(s), [14 / 42, 28 / 42], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(*[st.integers(-35, 605)] * 2),
    st.integers(0, 468),
    st.integers(0, 608),
    st.sampled_from([-10, 10]),
    st.integers(-13, 13),
    st.tuples(*[st.integers(0, 2)] * 2),
)
def test_the_rules_are_the_same_for_both_sides(
    paddle_y: tuple[int, int], x: int, y: int, vx: int, vy: int, actions: tuple[int, int]
) -> None:
    """Exchanging the ends before a step or after it makes no difference, except for who serves."""
    s = rally(player_y=paddle_y[0], opponent_y=paddle_y[1], ball_x=x, ball_y=y, ball_vx=vx, ball_vy=vy)
    after, reward, *_ = frame(s, actions)
    other, other_reward, *_ = frame(_mirrored(s), actions[::-1])
    assert other_reward == reward[::-1] and points(other) == points(after)[::-1]
    if not any(reward):
        assert ball(other) == ball(_mirrored(after)) and paddles(other) == paddles(after)[::-1]


@jax.jit
def _play(seed: int) -> tuple[State, jax.Array]:
    """400 steps of the scripted player: states and rewards after each."""
    env = PongTwo(max_score=3)
    streams = rng.seed(jax.random.key(seed), (2,))

    def step(carry: tuple, _: None) -> tuple:
        s, stream = carry
        s, out = env.transition(s, env.player(s, stream))
        return (s, rng.bits(stream)[0]), (s, out.reward)

    return jax.lax.scan(step, (env.init(streams[0]), streams[1]), length=400)[1]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_what_must_hold_after_any_step(seed: int) -> None:
    s, reward = jax.tree.map(np.asarray, _play(seed))
    assert ((s.ball_x >= 0) & (s.ball_x <= 468) & (s.ball_y >= 0) & (s.ball_y <= 608)).all()
    assert ((abs(s.ball_vx) == 10) & (abs(s.ball_vy) <= 13)).all()
    for y in (s.player_y, s.opponent_y):
        assert ((y >= -35) & (y <= 605)).all()
    np.testing.assert_array_equal(reward.sum(1), 0)
    np.testing.assert_array_equal((reward == 1).cumsum(0), np.stack([s.player_points, s.opponent_points], 1))


def test_bots() -> None:
    stream = jnp.uint32([5, 6])
    # 285 + 35 is the middle of both; a step is 64 px, so from 33 px on a paddle goes
    assert bot(rally(ball_y=400), stream, "follow").tolist() == [UP, UP]
    assert bot(rally(ball_y=320 + 32), stream, "follow").tolist() == [STAY, STAY]
    assert bot(rally(ball_y=320 - 33), stream, "follow").tolist() == [DOWN, DOWN]
    streams = rng.seed(jax.random.key(0), (100,))
    slow = np.asarray(jax.vmap(lambda stream: bot(rally(ball_y=400), stream, "slow"))(streams))
    assert set(slow.ravel().tolist()) == {STAY, UP}
    np.testing.assert_allclose((slow == UP).mean(0), 0.5, atol=0.2)
    # it arrives at x 468 after 37 frames, at 304 + 37 * 5 = 489, for which the paddle must be at 470; side 1 stays
    assert bot(rally(ball_y=304, ball_vy=5), stream, "spin").tolist() == [UP, STAY]
    # two frames before it arrives: along with it, for spin
    assert bot(rally(ball_x=455, ball_y=304, ball_vy=-2), stream, "spin").tolist()[0] == DOWN


@pytest.mark.parametrize(("better", "worse"), [("follow", "slow"), ("spin", "follow")])
def test_the_weakest_bot_comes_first(better: str, worse: str) -> None:
    played = match(make("pong_two", max_score=2), Scripted(better), Scripted(worse), jax.random.key(0), games=20)
    assert played.finished.all() and (played.outcome > 0).sum() > 17


def test_picture() -> None:
    picture = FRAME.render(rally())
    assert picture.shape == (330, 290, 3) and len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) == 6
