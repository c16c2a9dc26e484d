"""Clear a wall of bricks with a ball and a paddle. Twin of envs_c/breakout.h."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxpuffer import numerics, rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, repeat, static
from jaxpuffer.spaces import Box, Discrete

STAY, LEFT, RIGHT = range(3)
ROWS, COLUMNS, FAST_ROWS, HITS_PER_SPEED_UP = 6, 18, 3, 4
WALL_POINTS, MAX_POINTS = 432, 864

# lengths in pixels, x to the right, y downwards
FRAME_SECONDS = 0.0166666667  # 1/60
WIDTH = 576.0
HEIGHT = 330.0
BALL = 32.0  # width and height of the ball
BRICK_HEIGHT = 12.0
BRICK_WIDTH = 32.0
PER_BRICK_WIDTH = 0.03125
WALL_TOP = 50.0
PADDLE_Y = 312.0  # top of the paddle
SERVE_Y = 135.0  # where the ball's top starts
SERVE_SINE = 0.82298386  # of the serve's angle to the vertical, pi / 3.25
SERVE_COSINE = 0.56806475
BOUNCE_ARC = 1.57079637  # rad, from one edge of the paddle to the other
BOUNCE_EDGE = 0.785398163  # rad, half of it

# scales of the observation
PER_WIDTH = 0.00173611111  # 1 / 576
PER_HEIGHT = 0.00303030303  # 1 / 330
PER_SPEED = 0.001953125  # 1 / 512 px/s
PER_POINT = 0.00115740741  # 1 / 864
PER_PADDLE = 0.0161290323  # 1 / 62


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    paddle_x: Array  # float32 (), px, its left edge
    paddle_width: Array  # float32 (), px
    ball_x: Array  # float32 (), px, its left edge
    ball_y: Array  # float32 (), px, its top edge
    ball_vx: Array  # float32 (), px/s
    ball_vy: Array  # float32 (), px/s
    ball_speed: Array  # float32 (), px/s, takes effect at the next paddle hit
    gone: Array  # uint32 (6,), bit c of row r: that brick is gone; row 0 is the top
    points: Array  # int32 ()
    balls: Array  # int32 (), left, the one in play included
    served: Array  # int32 (), balls served since the start
    paddle_hits: Array  # int32 (), since the serve
    steps: Array  # int32 (), since the episode began


NOTHING, WALL, BRICK, CEILING, PADDLE = range(5)


class Hit(PyTreeNode):
    """What the ball hits in a frame."""

    what: Array  # int32 ()
    time: Array  # float32 (), of the frame, 0 to 1
    x: Array  # float32 (), px, where the ball is then
    y: Array  # float32 (), px
    overlap: Array  # float32 (), px, of ball and brick
    row: Array  # int32 (), of the brick
    column: Array  # uint32 ()


Node = TypeVar("Node", State, Hit)


class Breakout(Env[State]):
    """Clear a wall of bricks with a ball and a paddle.

    The field is 576 by 330 px; the ball is a square of 32 px, the paddle 62 px wide and
    half of that once the ball has reached the ceiling, the wall 6 rows of 18 bricks.
    A frame lasts 1/60 s: the paddle moves, then the ball, up to the first thing it hits.

    Observation: float32 (118,): 0 and 1 paddle x / 576 and y / 330; 2 and 3 ball x / 576
        and y / 330; 4 and 5 ball velocity / 512 px/s; 6 balls served / balls; 7 points / 864;
        8 balls left / balls; 9 paddle width / 62; 10 to 117 the bricks, row by row from the
        top, 1 where one is gone.
    Action: Discrete(3): stay, left, right.
    Reward: a brick's points: 7 in the two top rows, 4 in the middle ones, 1 in the bottom ones.
    Ends: terminated when no ball is left or both walls are cleared (864 points),
        truncated after `max_steps`.
    Score: points; perf is their share of 864.
    Differences from PufferLib: five balls are played, not six; a lost ball is served again
        at once; a bounce off the paddle is at 45 degrees at most; every fourth paddle hit speeds up
        the ball at once, not at the next hit; a time limit.
    """

    frame_skip: int = static(default=4, minimum=1, maximum=16)  # frames for which an action is repeated
    ball_speed: float = param(default=256.0, minimum=1, maximum=700)  # px/s, speed of a served ball
    speed_step: float = param(default=64.0, minimum=0, maximum=700)  # px/s, added at every fourth paddle hit
    max_ball_speed: float = param(default=448.0, minimum=1, maximum=700)  # px/s
    paddle_speed: float = param(default=620.0, minimum=0, maximum=10000)  # px/s
    paddle_width: float = param(default=62.0, minimum=8, maximum=576)  # px, halved when the ball reaches the ceiling
    balls: int = param(default=5, minimum=1, maximum=1000)  # balls in a game
    max_steps: int = param(default=8000, minimum=1)  # steps before truncation

    observation_space = Box(-2.0, 10.0, (118,))
    action_space = Discrete(3)

    def serve(self, s: State) -> State:
        """A new ball above the middle, falling to a random side."""
        stream, right = rng.below(s.rng, 2)
        return s.replace(
            rng=stream,
            paddle_x=0.5 * (WIDTH - self.paddle_width),
            paddle_width=self.paddle_width,
            ball_x=jnp.float32(0.5 * (WIDTH - BALL)),
            ball_y=jnp.float32(SERVE_Y),
            ball_vx=jnp.where(right == 1, jnp.float32(SERVE_SINE), jnp.float32(-SERVE_SINE)) * self.ball_speed,
            ball_vy=SERVE_COSINE * self.ball_speed,
            ball_speed=self.ball_speed,
            served=s.served + 1,
            paddle_hits=jnp.int32(0),
        )

    def init(self, stream: Array) -> State:
        nothing = jnp.float32(0)
        return self.serve(
            State(
                rng=stream,
                paddle_x=nothing,
                paddle_width=nothing,
                ball_x=nothing,
                ball_y=nothing,
                ball_vx=nothing,
                ball_vy=nothing,
                ball_speed=nothing,
                gone=jnp.zeros(ROWS, jnp.uint32),
                points=jnp.int32(0),
                balls=jnp.int32(self.balls),
                served=jnp.int32(0),
                paddle_hits=jnp.int32(0),
                steps=jnp.int32(0),
            )
        )

    def move_paddle(self, s: State, action: Array) -> State:
        reach = self.paddle_speed * FRAME_SECONDS
        x = jnp.where(action == LEFT, s.paddle_x - reach, s.paddle_x)
        x = jnp.where(action == RIGHT, s.paddle_x + reach, x)
        return s.replace(paddle_x=jnp.clip(x, 0.0, WIDTH - s.paddle_width))

    def side_hit(self, s: State, dx: Array, dy: Array) -> Hit:
        """The side that the ball may hit when it moves by dx and dy: a wall, or the next column's bricks."""
        rightwards = dx > 0
        edge = jnp.where(rightwards, s.ball_x + BALL, s.ball_x)
        boundary = edge * PER_BRICK_WIDTH
        line = jnp.where(rightwards, -jnp.floor(-boundary), jnp.floor(boundary))
        line = jnp.clip(line, 0.0, COLUMNS)  # rounding may have left the ball slightly outside
        at_wall = jnp.where(rightwards, line >= COLUMNS, line <= 0)
        x = line * BRICK_WIDTH - jnp.where(rightwards, jnp.float32(BALL), jnp.float32(0))
        still = dx == 0
        time = jnp.where(still, 2.0, (x - s.ball_x) / jnp.where(still, 1.0, dx))
        y = s.ball_y + dy * time

        # of that column's bricks, the one that the ball overlaps most
        column = jnp.uint32(jnp.where(at_wall, 0.0, jnp.where(rightwards, line, line - 1.0)))
        row, most = jnp.int32(0), jnp.float32(0)
        for r in range(ROWS):
            top = WALL_TOP + BRICK_HEIGHT * r
            overlap = jnp.minimum(y + BALL, top + BRICK_HEIGHT) - jnp.maximum(y, top)
            present = (s.gone[r] >> column) & jnp.uint32(1) == 0
            more = present & (overlap > most)
            most = jnp.where(more, overlap, most)
            row = jnp.where(more, r, row)
        what = jnp.where(at_wall, WALL, jnp.where(most > 0, BRICK, NOTHING))
        return Hit(jnp.where(time <= 1, what, NOTHING), time, x, y, most, row, column)

    def face_hit(self, s: State, dx: Array, dy: Array) -> Hit:
        """What the ball may hit above or below: the row whose edge it crosses, the ceiling, the paddle."""
        upwards = dy < 0
        y = jnp.where(upwards, jnp.float32(0), jnp.float32(PADDLE_Y - BALL))
        row, row_gone = jnp.int32(-1), jnp.uint32(0)
        for r in range(ROWS):
            top = WALL_TOP + BRICK_HEIGHT * r
            stop = jnp.where(upwards, jnp.float32(top + BRICK_HEIGHT), jnp.float32(top - BALL))
            down_to, up_to = (s.ball_y <= stop) & (s.ball_y + dy >= stop), (s.ball_y >= stop) & (s.ball_y + dy <= stop)
            crossed = jnp.where(upwards, up_to, down_to)
            row = jnp.where(crossed, r, row)
            y = jnp.where(crossed, stop, y)
            row_gone = jnp.where(crossed, s.gone[r], row_gone)
        time = (y - s.ball_y) / dy
        x = s.ball_x + dx * time

        # the ball touches two columns of that row: does it hit the one it overlaps more, or the other?
        left = jnp.clip(jnp.floor(x * PER_BRICK_WIDTH), 0.0, COLUMNS - 1.0)
        left_column = jnp.uint32(left)
        right_overlap = x - left * BRICK_WIDTH
        left_overlap = BRICK_WIDTH - right_overlap
        row_gone = row_gone | jnp.uint32(1 << COLUMNS)  # nothing stands beyond the last column
        left_present = (row_gone >> left_column) & jnp.uint32(1) == 0
        right_present = ((row_gone >> (left_column + jnp.uint32(1))) & jnp.uint32(1) == 0) & (right_overlap > 0)
        take_right = right_present & (~left_present | (right_overlap > left_overlap))
        column = jnp.where(take_right, left_column + jnp.uint32(1), left_column)
        overlap = jnp.where(take_right, right_overlap, left_overlap)

        # if it crosses no row, the ceiling or the paddle
        no_row = row < 0
        in_frame = (time >= 0) & (time <= 1)
        on_paddle = (x + BALL > s.paddle_x) & (x < s.paddle_x + s.paddle_width)
        what = jnp.where(~no_row & (left_present | right_present), BRICK, NOTHING)
        what = jnp.where(no_row & in_frame & upwards, CEILING, what)
        what = jnp.where(no_row & in_frame & (dy > 0) & on_paddle, PADDLE, what)
        return Hit(what, time, x, y, overlap, row, column)

    def break_brick(self, s: State, hit: Hit) -> State:
        broken = hit.what == BRICK
        worth = jnp.where(hit.row < 2, 7, jnp.where(hit.row < 4, 4, 1))
        bit = jnp.where(broken, jnp.uint32(1) << hit.column, jnp.uint32(0))
        here = jnp.arange(ROWS, dtype=jnp.int32) == hit.row[None]
        return s.replace(
            points=s.points + jnp.where(broken, worth, 0),
            gone=s.gone | jnp.where(here, bit[None], jnp.uint32(0)),
            ball_speed=jnp.where(broken & (hit.row < FAST_ROWS), self.max_ball_speed, s.ball_speed),
        )

    def bounce(self, s: State, hit: Hit) -> State:
        """The paddle sends the ball back at an angle by where it was hit, refills a cleared wall, and sometimes speeds
        up."""
        on_paddle = hit.what == PADDLE
        paddle_hits = s.paddle_hits + jnp.int32(on_paddle)
        faster = on_paddle & (lax.rem(paddle_hits, jnp.int32(HITS_PER_SPEED_UP)) == 0)
        speed = jnp.where(faster, jnp.minimum(s.ball_speed + self.speed_step, self.max_ball_speed), s.ball_speed)
        place = jnp.clip((s.ball_x + 0.5 * BALL - s.paddle_x) / s.paddle_width, 0.0, 1.0)
        angle = place * BOUNCE_ARC - BOUNCE_EDGE
        return s.replace(
            paddle_hits=paddle_hits,
            ball_speed=speed,
            ball_vx=jnp.where(on_paddle, numerics.sin(angle) * speed, s.ball_vx),
            ball_vy=jnp.where(on_paddle, -(numerics.cos(angle) * speed), s.ball_vy),
            gone=jnp.where(on_paddle & (s.points == WALL_POINTS), jnp.uint32(0), s.gone),
        )

    def frame(self, s: State, action: Array) -> State:
        """One frame: the paddle moves, then the ball, up to the first thing it hits."""
        s = self.move_paddle(s, action)

        # the earlier hit counts; at the same time, the one with more overlap
        dx, dy = s.ball_vx * FRAME_SECONDS, s.ball_vy * FRAME_SECONDS
        side, face = self.side_hit(s, dx, dy), self.face_hit(s, dx, dy)
        sooner = (side.time < face.time) | ((side.time == face.time) & (side.overlap > face.overlap))
        side_first = (side.what != NOTHING) & ((face.what == NOTHING) | sooner)
        hit = _choose(side_first, side, face)

        # move, and reverse the velocity
        free = hit.what == NOTHING
        s = s.replace(
            ball_x=jnp.where(free, s.ball_x + dx, hit.x),
            ball_y=jnp.where(free, s.ball_y + dy, hit.y),
            ball_vx=jnp.where(side_first, -s.ball_vx, s.ball_vx),
            ball_vy=jnp.where(~side_first & ~free, -s.ball_vy, s.ball_vy),
        )

        s = self.break_brick(s, hit)
        s = s.replace(paddle_width=jnp.where(hit.what == CEILING, 0.5 * self.paddle_width, s.paddle_width))
        s = self.bounce(s, hit)

        # a ball below the field is lost
        lost = s.ball_y > HEIGHT
        return _choose(lost, self.serve(s.replace(balls=s.balls - 1)), s)

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        before = s.points

        def one(_: int, s: State) -> State:
            over = (s.balls <= 0) | (s.points >= MAX_POINTS)
            return _choose(over, s, self.frame(s, action))

        s = repeat(self.frame_skip, one, s)
        s = s.replace(steps=s.steps + 1)

        terminated = (s.balls <= 0) | (s.points >= MAX_POINTS)
        return s, Outcome(
            reward=jnp.float32(s.points - before),
            terminated=terminated,
            truncated=s.steps >= self.max_steps,
        )

    def observe(self, s: State) -> Array:
        per_ball = 1 / jnp.float32(self.balls)
        scalars = [
            s.paddle_x * PER_WIDTH,
            jnp.float32(PADDLE_Y) * PER_HEIGHT,
            s.ball_x * PER_WIDTH,
            s.ball_y * PER_HEIGHT,
            s.ball_vx * PER_SPEED,
            s.ball_vy * PER_SPEED,
            jnp.float32(s.served) * per_ball,
            jnp.float32(s.points) * PER_POINT,
            jnp.float32(s.balls) * per_ball,
            s.paddle_width * PER_PADDLE,
        ]
        flags = (s.gone[:, None] >> jnp.arange(COLUMNS, dtype=jnp.uint32)[None, :]) & jnp.uint32(1)
        return jnp.concatenate([jnp.stack(scalars), jnp.float32(flags).reshape(-1)])

    def score(self, s: State) -> Array:
        return jnp.float32(s.points)

    def perf(self, s: State) -> Array:
        return jnp.float32(s.points) * PER_POINT

    def render(self, s: State) -> Array:
        scale = 2  # px of the field per px of the picture
        y, x = jnp.mgrid[0 : int(HEIGHT) // scale, 0 : int(WIDTH) // scale].astype(jnp.float32) * scale
        picture = jnp.full((*x.shape, 3), jnp.array([6, 24, 24], jnp.uint8))
        row, column = jnp.floor((y - WALL_TOP) / BRICK_HEIGHT), jnp.floor(x / BRICK_WIDTH)
        colours = ((230, 70, 70), (230, 120, 60), (230, 190, 60), (90, 190, 90), (60, 140, 220), (130, 90, 210))
        inside = (x % BRICK_WIDTH >= scale) & ((y - WALL_TOP) % BRICK_HEIGHT >= scale)
        for r, colour in enumerate(colours):
            present = (s.gone[r] >> jnp.uint32(column)) & jnp.uint32(1) == 0
            picture = _paint(picture, (row == r) & present & inside, colour)
        on_paddle = (y >= PADDLE_Y) & (y < PADDLE_Y + 8) & (x >= s.paddle_x) & (x < s.paddle_x + s.paddle_width)
        picture = _paint(picture, on_paddle, (0, 187, 187))
        off_x, off_y = x - s.ball_x - BALL / 2, y - s.ball_y - BALL / 2
        picture = _paint(picture, off_x * off_x + off_y * off_y < BALL * BALL / 4, (241, 241, 241))
        # balls left, bottom right
        lives = (y >= HEIGHT - 6) & (x % 12 < 8) & (x >= WIDTH - 12 * jnp.float32(s.balls))
        return _paint(picture, lives, (120, 120, 120))

    variants = ({"max_steps": 200},)

    def player(self, s: State, stream: Array) -> Array:
        # hits the ball with a changing part of the paddle; each serve chooses how often it plays at random
        style = s.rng[0] % jnp.uint32(16)
        chance = jnp.where(style < 10, jnp.float32(0.9), jnp.where(style < 12, jnp.float32(0.1), jnp.float32(0)))
        stream, wild = rng.bernoulli(stream, chance)
        _, random = rng.below(stream, 3)
        # a part that does not repeat for long, so that the ball reaches every place
        mixed = (jnp.uint32(s.paddle_hits) * jnp.uint32(0x9E3779BB)) ^ s.rng[1]
        part = jnp.float32(jnp.int32((mixed * jnp.uint32(0x85EBCA6B)) >> jnp.uint32(24))) * (0.9 / 256) + 0.05
        target = s.ball_x + BALL / 2 - part * s.paddle_width
        near = 0.5 * self.paddle_speed * FRAME_SECONDS * self.frame_skip
        aimed = jnp.where(target < s.paddle_x - near, LEFT, jnp.where(target > s.paddle_x + near, RIGHT, STAY))
        return jnp.where(wild, random, aimed)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        broken = next_state.gone & ~s.gone
        rows = {f"row {r} hit": broken[r] != 0 for r in range(ROWS)}
        same_ball = next_state.served == s.served
        return rows | {
            "wall refilled": (next_state.gone == 0).all() & (s.gone != 0).any(),
            "paddle shrunk": same_ball & (next_state.paddle_width < s.paddle_width),
            "top speed": same_ball
            & (s.ball_speed < self.max_ball_speed)
            & (next_state.ball_speed == self.max_ball_speed),
            "sped up by hits": same_ball & (next_state.ball_speed == s.ball_speed + self.speed_step),
            "ball lost": next_state.balls < s.balls,
            "last ball lost": next_state.balls == 0,
            "all cleared": next_state.points >= MAX_POINTS,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        # whole pixels and whole pixels per frame: edges touch, and two things are hit at the same time
        key = iter(jax.random.split(jax.random.wrap_key_data(stream, impl="threefry2x32"), 20))

        def one_of(*values: float) -> Array:
            return jnp.float32(values)[jax.random.randint(next(key), (), 0, len(values), jnp.int32)]

        def nearby() -> Array:
            return jnp.float32(jax.random.randint(next(key), (), -4, 5, jnp.int32))

        row_top = WALL_TOP + BRICK_HEIGHT * jnp.float32(jax.random.randint(next(key), (), 0, ROWS, jnp.int32))
        column = jnp.float32(jax.random.randint(next(key), (), 0, 35, jnp.int32))
        ball_x = jnp.clip(BRICK_WIDTH / 2 * column + nearby(), 0.0, WIDTH - BALL)
        heights = jnp.stack([row_top - BALL, row_top + BRICK_HEIGHT, *jnp.float32([0, PADDLE_Y - BALL, HEIGHT])])
        ball_y = heights[jax.random.randint(next(key), (), 0, 5, jnp.int32)] + nearby()
        width = one_of(1.0, 0.5) * self.paddle_width
        bits = jax.random.bits(next(key), (ROWS,), jnp.uint32) & jnp.uint32((1 << COLUMNS) - 1)
        return s.replace(
            paddle_width=width,
            paddle_x=jnp.clip(ball_x + jnp.where(one_of(0, 1) == 1, BALL, -width) + nearby(), 0.0, WIDTH - width),
            ball_x=ball_x,
            ball_y=jnp.maximum(ball_y, 0.0),
            ball_vx=one_of(-240, -120, -60, 0, 60, 120, 240),
            ball_vy=one_of(-240, -120, -60, 60, 120, 240),
            gone=jnp.where(one_of(0, 1) == 1, bits, s.gone),
            points=jnp.int32(one_of(100, WALL_POINTS, MAX_POINTS - 7, MAX_POINTS - 4, MAX_POINTS - 1)),
            balls=jnp.where(one_of(0, 1) == 1, 1, s.balls),
            steps=jnp.where(one_of(0, 1) == 1, self.max_steps - 1, s.steps),
        )


def _choose(where: Array, a: Node, b: Node) -> Node:
    return jax.tree.map(lambda a, b: jnp.where(where, a, b), a, b)


def _paint(picture: Array, where: Array, colour: tuple[int, int, int]) -> Array:
    return jnp.where(where[:, :, None], jnp.array(colour, jnp.uint8), picture)
