"""Return the ball past a scripted opponent, or past another side. Twin of envs_c/pong.h and envs_c/pong_two.h."""

from typing import TYPE_CHECKING, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, repeat, static
from jaxpuffer.spaces import Box, Discrete

STAY, UP, DOWN = range(3)

FIELD_WIDTH, FIELD_HEIGHT = 500, 640  # px
PADDLE_WIDTH, PADDLE_HEIGHT = 20, 70  # px; the width is used only in the picture
BALL_SIZE = 32  # px, the side of a square
BALL_MAX_X, BALL_MAX_Y = FIELD_WIDTH - BALL_SIZE, FIELD_HEIGHT - BALL_SIZE
PADDLE_MIN_Y = -PADDLE_HEIGHT // 2  # a paddle's middle stays in the field
PADDLE_MAX_Y = FIELD_HEIGHT - PADDLE_HEIGHT // 2
PADDLE_START_Y = (FIELD_HEIGHT - PADDLE_HEIGHT) // 2
SERVE_X = FIELD_WIDTH // 5  # on the opponent's side
SERVE_Y = BALL_MAX_Y // 2
RETURN_REWARD = 0.1

# the picture: one of its pixels is two pixels of the field
RENDER_SCALE = 2
RENDER_MARGIN_X, RENDER_MARGIN_Y = 20, 5  # px of the picture around the field
RENDER_HEIGHT = FIELD_HEIGHT // RENDER_SCALE + 2 * RENDER_MARGIN_Y
RENDER_WIDTH = FIELD_WIDTH // RENDER_SCALE + 2 * RENDER_MARGIN_X
BACKGROUND, FIELD, NET = (13, 15, 22), (24, 28, 40), (52, 60, 82)
PLAYER, OPPONENT, BALL = (86, 204, 242), (242, 134, 82), (240, 242, 246)
DIGITS = (  # rows of three, from the top
    "111101101101111", "010110010010111", "111001111100111", "111001111001111", "101101111001001",
    "111100111001111", "111100111101111", "111001010010010", "111101111101111", "111101111001111",
)  # fmt: skip
FONT = np.array([[cell == "1" for cell in digit] for digit in DIGITS]).reshape(10, 5, 3)
FONT_SCALE = 8  # px of the picture


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    player_y: Array  # int32 (), lower end of the right paddle, px
    opponent_y: Array  # int32 (), lower end of the left paddle, px
    ball_x: Array  # int32 (), left edge, px
    ball_y: Array  # int32 (), lower edge, px
    ball_vx: Array  # int32 (), px per frame, towards the player if positive
    ball_vy: Array  # int32 (), px per frame, upwards if positive
    player_points: Array  # int32 (), in this match
    opponent_points: Array  # int32 (), in this match
    steps: Array  # int32 (), since the match began


Game = tuple[State, Array, Array]  # in the middle of a step; has the player returned the ball; 1 or -1 for a point


class Table(Env[State]):
    """What both forms of the game have in common; the player is the side at the right end."""

    frame_skip: int = static(default=8, minimum=1, maximum=32)  # frames per step
    max_score: int = param(default=21, minimum=1, maximum=10_000)  # points that win the match
    max_steps: int = param(default=3_000, minimum=1, maximum=1_000_000_000)  # steps before truncation
    paddle_speed: int = param(default=8, minimum=0, maximum=FIELD_HEIGHT)  # px per frame, that of the player's paddle
    if TYPE_CHECKING:  # each form declares these, so that its parameters keep their order
        ball_speed_x: int = param(default=10)
        ball_max_speed_y: int = param(default=13)
        serve_speed_y: int = param(default=1)
        spin: int = param(default=3)

    observation_space = Box(-1.0, 1.0, (8,))
    action_space = Discrete(3)

    def _serve(self, state: State) -> State:
        """Both paddles to the middle; the opponent serves, upwards or downwards with equal chances."""
        speed_y = jnp.minimum(self.serve_speed_y, self.ball_max_speed_y)
        stream, up = rng.below(state.rng, 2)
        return state.replace(
            rng=stream,
            player_y=jnp.int32(PADDLE_START_Y),
            opponent_y=jnp.int32(PADDLE_START_Y),
            ball_x=jnp.int32(SERVE_X),
            ball_y=jnp.int32(SERVE_Y),
            ball_vx=self.ball_speed_x,
            ball_vy=jnp.where(up == 1, speed_y, -speed_y),
        )

    def init(self, stream: Array) -> State:
        zero = jnp.int32(0)
        return self._serve(State(stream, zero, zero, zero, zero, zero, zero, zero, zero, zero))

    def frame(
        self, game: Game, player_step: Array, opponent_step: Array, player_spin: Array, opponent_spin: Array | int
    ) -> Game:
        """The paddles move by their steps, then the ball, to which a paddle that returns it adds its spin."""
        s, returned, point = game
        player_y = jnp.clip(s.player_y + player_step, PADDLE_MIN_Y, PADDLE_MAX_Y)
        opponent_y = jnp.clip(s.opponent_y + opponent_step, PADDLE_MIN_Y, PADDLE_MAX_Y)

        # the ball moves, and bounces off the walls above and below
        x, y = s.ball_x + s.ball_vx, s.ball_y + s.ball_vy
        vy = jnp.where((y < 0) | (y > BALL_MAX_Y), -s.ball_vy, s.ball_vy)
        y = jnp.clip(y, 0, BALL_MAX_Y)

        # at either end a paddle returns it, or a point is won
        at_player = x > BALL_MAX_X
        at_end = (x < 0) | at_player
        paddle_y = jnp.where(at_player, player_y, opponent_y)
        on_paddle = (y + BALL_SIZE > paddle_y) & (y < paddle_y + PADDLE_HEIGHT)
        hit = at_end & on_paddle
        spin = jnp.where(at_player, player_spin, opponent_spin)
        s = s.replace(
            player_y=player_y,
            opponent_y=opponent_y,
            ball_x=jnp.clip(x, 0, BALL_MAX_X),
            ball_y=y,
            ball_vx=jnp.where(hit, -s.ball_vx, s.ball_vx),
            ball_vy=jnp.where(hit, jnp.clip(vy + spin, -self.ball_max_speed_y, self.ball_max_speed_y), vy),
        )
        # only the first point counts; the frames after it are undone by the serve
        missed = at_end & ~on_paddle & (point == 0)
        point = jnp.where(missed, jnp.where(at_player, jnp.int32(-1), jnp.int32(1)), point)
        return s, returned | (hit & at_player), point

    def observe(self, state: State) -> Array:
        # whole numbers of half pixels from the middle: each is rounded once
        per_paddle_y = 1 / jnp.float32(FIELD_HEIGHT)
        per_point = 1 / jnp.float32(self.max_score)
        return jnp.stack([
            jnp.float32(2 * state.player_y + (PADDLE_HEIGHT - FIELD_HEIGHT)) * per_paddle_y,
            jnp.float32(2 * state.opponent_y + (PADDLE_HEIGHT - FIELD_HEIGHT)) * per_paddle_y,
            jnp.float32(2 * state.ball_x - BALL_MAX_X) * (1 / jnp.float32(BALL_MAX_X)),
            jnp.float32(2 * state.ball_y - BALL_MAX_Y) * (1 / jnp.float32(BALL_MAX_Y)),
            jnp.float32(state.ball_vx) * (1 / jnp.float32(self.ball_speed_x)),
            jnp.float32(state.ball_vy) * (1 / jnp.float32(self.ball_max_speed_y)),
            jnp.float32(state.player_points) * per_point,
            jnp.float32(state.opponent_points) * per_point,
        ])  # fmt: skip

    def score(self, state: State) -> Array:
        """The points by which the player leads."""
        return jnp.float32(state.player_points - state.opponent_points)

    def perf(self, state: State) -> Array:
        """0 for a match lost without winning a point, 1 for one won without losing a point."""
        lead = jnp.float32(state.player_points - state.opponent_points + self.max_score)
        return lead * (1 / jnp.float32(2 * self.max_score))

    def render(self, state: State) -> Array:
        """The player blue on the right, the opponent orange on the left, points at the top."""
        # each pixel of the picture in the field's coordinates
        row = jnp.arange(RENDER_HEIGHT, dtype=jnp.int32)[:, None]
        column = jnp.arange(RENDER_WIDTH, dtype=jnp.int32)[None, :]
        x = (column - RENDER_MARGIN_X) * RENDER_SCALE
        y = FIELD_HEIGHT - (row - RENDER_MARGIN_Y + 1) * RENDER_SCALE

        def box(left: Array | int, low: Array | int, width: int, height: int) -> Array:
            return (x >= left) & (x < left + width) & (y >= low) & (y < low + height)

        def digits(points: Array, left: int) -> Array:
            """Two digits, their upper left corner `left` pixels into the picture."""
            shown = jnp.minimum(points, 99)
            font_row = (row - 4 * RENDER_MARGIN_Y) // FONT_SCALE
            font_column = (column - left) // FONT_SCALE
            digit = jnp.where(font_column < 4, shown // 10, shown % 10)
            within = (font_row >= 0) & (font_row < 5) & (font_column >= 0) & (font_column < 7) & (font_column != 3)
            lit = jnp.asarray(FONT)[digit, jnp.clip(font_row, 0, 4), jnp.clip(font_column % 4, 0, 2)]
            return within & lit

        net = box(FIELD_WIDTH // 2 - 2, 0, 4, FIELD_HEIGHT) & (y // 20 % 2 == 0)
        width = 7 * FONT_SCALE
        image = jnp.broadcast_to(jnp.array(BACKGROUND, jnp.uint8), (RENDER_HEIGHT, RENDER_WIDTH, 3))
        for where, colour in (
            (box(0, 0, FIELD_WIDTH, FIELD_HEIGHT), FIELD),
            (net, NET),
            (digits(state.opponent_points, RENDER_WIDTH // 4 - width // 2), NET),
            (digits(state.player_points, 3 * RENDER_WIDTH // 4 - width // 2), NET),
            (box(-PADDLE_WIDTH, state.opponent_y, PADDLE_WIDTH, PADDLE_HEIGHT), OPPONENT),
            (box(FIELD_WIDTH, state.player_y, PADDLE_WIDTH, PADDLE_HEIGHT), PLAYER),
            (box(state.ball_x, state.ball_y, BALL_SIZE, BALL_SIZE), BALL),
        ):
            image = jnp.where(where[..., None], jnp.array(colour, jnp.uint8), image)
        return image

    def walk(self, way: Array) -> Array:
        """The direction of the step that ends nearest to a place that is `way` px above: 1 up, -1 down, or 0."""
        return jnp.where(2 * jnp.abs(way) <= self.paddle_speed * self.frame_skip, 0, jnp.sign(way))

    def skilled(self, state: State, idle: Array | bool) -> Array:
        """The player's action that returns the ball with the middle of its paddle, with spin unless `idle`."""
        # where the ball will arrive, how fast, and how far into the last step
        frames = (BALL_MAX_X - state.ball_x) // self.ball_speed_x + 1
        unfolded = state.ball_y + state.ball_vy * frames
        folds, offset = jnp.floor_divide(unfolded, BALL_MAX_Y), unfolded % BALL_MAX_Y
        mirrored = folds % 2 != 0
        arrival_y = jnp.where(mirrored, BALL_MAX_Y - offset, offset)
        arrival_vy = jnp.where(mirrored, -state.ball_vy, state.ball_vy)
        last_frames = (frames - 1) % self.frame_skip + 1

        # add spin in its direction, so that it gets too fast for the other side
        drag = jnp.where(idle, 0, jnp.where(arrival_vy < 0, jnp.int32(-1), jnp.int32(1)))

        # go to the place where the moving paddle hits the ball with its middle
        middle_y = arrival_y + (BALL_SIZE - PADDLE_HEIGHT) // 2
        way = middle_y - drag * last_frames * self.paddle_speed - state.player_y
        arriving = (state.ball_vx > 0) & (frames <= self.frame_skip)
        return _action(jnp.where(arriving, drag, self.walk(way)))


class Pong(Table):
    """Return the ball past a scripted opponent until one side has 21 points.

    The player's paddle is at the right end of the field, the opponent's at the
    left. Lengths are in pixels and whole; y points up, the ball's and the paddles'
    positions are their lower left corners. A step plays `frame_skip` frames, but
    stops at a point.

    Observation: float32 (8,): [0] player's paddle y, [1] opponent's paddle y,
        [2] ball x, [3] ball y, each from -1 to 1 over its range; [4] ball vx /
        ball_speed_x; [5] ball vy / ball_max_speed_y; [6] player's points, [7]
        opponent's points, both / max_score.
    Action: Discrete(3): stay, up, down.
    Reward: +1 for a point won, -1 for a point lost, otherwise +0.1 for returning
        the ball.
    Ends: terminated when either has `max_score` points, truncated after `max_steps`.
    Score and perf: the points by which the player leads; the same scaled from 0 (a match
        lost without winning a point) to 1 (one won without losing a point).
    Differences from PufferLib: points are observed as fractions (there they are
        always 0); the player's paddle is observed first, and positions and speeds
        from -1 to 1; a serve is up or down with equal chances; every wall puts the
        ball back inside; a time limit.
    """

    opponent_speed: int = param(default=8, minimum=0, maximum=FIELD_HEIGHT)  # px per frame at most, of the opponent
    ball_speed_x: int = param(default=10, minimum=1, maximum=FIELD_WIDTH)  # px per frame
    ball_max_speed_y: int = param(default=13, minimum=1, maximum=FIELD_HEIGHT)  # px per frame
    serve_speed_y: int = param(default=1, minimum=0, maximum=FIELD_HEIGHT)  # px per frame, up or down
    spin: int = param(default=3, minimum=0, maximum=FIELD_HEIGHT)  # px per frame that a moving paddle adds to vy

    def transition(self, state: State, action: Array) -> tuple[State, Outcome]:
        direction = _direction(action)
        step, spin = direction * self.paddle_speed, direction * self.spin

        def play(_: Array, game: Game) -> Game:
            # the opponent's middle goes to the ball's lower edge
            s = game[0]
            lag = s.ball_y - (s.opponent_y + PADDLE_HEIGHT // 2)
            return self.frame(game, step, jnp.clip(lag, -self.opponent_speed, self.opponent_speed), spin, 0)

        state, returned, point = repeat(self.frame_skip, play, (state, jnp.bool_(False), jnp.int32(0)))

        state = state.replace(
            player_points=state.player_points + jnp.int32(point > 0),
            opponent_points=state.opponent_points + jnp.int32(point < 0),
            steps=state.steps + 1,
        )

        # after a point the ball is served again
        scored = point != 0
        state = _choose(scored, self._serve(state), state)

        return state, Outcome(
            reward=jnp.where(scored, jnp.float32(point), jnp.where(returned, RETURN_REWARD, 0.0)),
            terminated=(state.player_points >= self.max_score) | (state.opponent_points >= self.max_score),
            truncated=state.steps >= self.max_steps,
        )

    variants = ({"ball_speed_x": 4},)

    def player(self, state: State, stream: Array) -> Array:
        stream, style = rng.below(stream, 8)
        _, wild = rng.below(stream, 3)
        luck = state.rng[0] % jnp.uint32(16)  # the same for a whole rally
        idle = (luck == 0) & (state.player_points == self.max_score - 1)

        # a player who is behind plays at random, so that matches are also lost
        behind = state.opponent_points > state.player_points
        erratic = jnp.where(behind, (luck < 14) | (style == 0), (luck == 1) | (style == 0))
        return jnp.where(erratic & ~idle, wild, self.skilled(state, idle))

    def events(self, state: State, action: Array, next_state: State) -> dict[str, Array]:
        # with at most one return within a step, as at the default speeds
        won = next_state.player_points > state.player_points
        conceded = next_state.opponent_points > state.opponent_points
        rally = ~won & ~conceded
        turned = rally & (state.ball_vx != next_state.ball_vx)
        own = turned & (state.ball_vx > 0)
        rebounds = rally & ~own & (state.ball_vy != next_state.ball_vy)
        direction = _direction(action)
        limit = direction * self.ball_max_speed_y
        clipped = (next_state.ball_vy == limit) & (jnp.abs(state.ball_vy + direction * self.spin) > jnp.abs(limit))
        return {
            "player returned the ball": own,
            "player returned it with spin": own & (state.ball_vy != next_state.ball_vy),
            "vy clipped": own & clipped & (direction != 0),
            "opponent returned the ball": turned & ~own,
            "rebound from the top": rebounds & (state.ball_vy > 0),
            "rebound from the bottom": rebounds & (state.ball_vy < 0),
            "player's paddle stopped at the top": rally & (next_state.player_y == PADDLE_MAX_Y),
            "player's paddle stopped at the bottom": rally & (next_state.player_y == PADDLE_MIN_Y),
            "point won": won,
            "point conceded": conceded,
            "served upwards": ~rally & (next_state.ball_vy > 0),
            "served downwards": ~rally & (next_state.ball_vy < 0),
            "match won": next_state.player_points >= self.max_score,
            "match lost": next_state.opponent_points >= self.max_score,
            "time limit": next_state.steps >= self.max_steps,
        }


class PongTwo(Table):
    """Two sides return the ball past each other until one of them has 21 points.

    Side 0's paddle is at the right end of the field, side 1's at the left, and each
    sees the field as if its own paddle were at the right. Frames are those of `Pong`,
    but both paddles obey actions and add spin.

    Observation: float32 (8,): [0] own paddle y, [1] the other's paddle y, [2] ball x,
        [3] ball y, each from -1 to 1 over its range; [4] ball vx / ball_speed_x, 1
        towards the own paddle; [5] ball vy / ball_max_speed_y; [6] own points, [7] the
        other's points, both / max_score.
    Action: Discrete(3): stay, up, down.
    Reward: +1 for a point won, -1 for a point lost.
    Ends: terminated for both when either has `max_score` points, truncated after `max_steps`.
    Score and perf: the points by which a side leads; the same scaled from 0 (a match
        lost without winning a point) to 1 (one won without losing a point).
    Differences from PufferLib: it has no such game; the rules are those of pong, either
        side serves with equal chances, and there is no reward for returning the ball.
    """

    multi_agent = True
    num_agents = 2
    teams = (0, 1)

    ball_speed_x: int = param(default=10, minimum=1, maximum=FIELD_WIDTH)  # px per frame
    ball_max_speed_y: int = param(default=13, minimum=1, maximum=FIELD_HEIGHT)  # px per frame
    serve_speed_y: int = param(default=1, minimum=0, maximum=FIELD_HEIGHT)  # px per frame, up or down
    spin: int = param(default=3, minimum=0, maximum=FIELD_HEIGHT)  # px per frame that a moving paddle adds to vy

    def _serve(self, state: State) -> State:
        """Both paddles to the middle; either side serves, upwards or downwards, with equal chances."""
        state = super()._serve(state)
        stream, other = rng.below(state.rng, 2)
        return state.replace(
            rng=stream,
            ball_x=jnp.where(other == 1, BALL_MAX_X - state.ball_x, state.ball_x),
            ball_vx=jnp.where(other == 1, -state.ball_vx, state.ball_vx),
        )

    def transition(self, state: State, action: Array) -> tuple[State, Outcome]:
        direction = _direction(action)
        step, spin = direction * self.paddle_speed, direction * self.spin

        def play(_: Array, game: Game) -> Game:
            return self.frame(game, step[0], step[1], spin[0], spin[1])

        state, _, point = repeat(self.frame_skip, play, (state, jnp.bool_(False), jnp.int32(0)))

        state = state.replace(
            player_points=state.player_points + jnp.int32(point > 0),
            opponent_points=state.opponent_points + jnp.int32(point < 0),
            steps=state.steps + 1,
        )

        # after a point the ball is served again
        state = _choose(point != 0, self._serve(state), state)

        over = (state.player_points >= self.max_score) | (state.opponent_points >= self.max_score)
        return state, Outcome(
            reward=jnp.float32(jnp.stack([point, -point])),
            terminated=jnp.stack([over, over]),
            truncated=jnp.zeros(2, bool),
            reset=state.steps >= self.max_steps,
        )

    def respawn(self, state: State, ended: Array) -> State:
        return state  # no side ends before the other does

    def observe(self, state: State) -> Array:
        return jnp.stack([super().observe(state), super().observe(_mirrored(state))])

    def score(self, state: State) -> Array:
        """The points by which each side leads."""
        return jnp.stack([super().score(state), super().score(_mirrored(state))])

    def perf(self, state: State) -> Array:
        """0 for a match lost without winning a point, 1 for one won without losing a point."""
        return jnp.stack([super().perf(state), super().perf(_mirrored(state))])

    variants: ClassVar = ({"ball_speed_x": 4},)

    bots = ("slow", "follow", "spin")

    def bot(self, state: State, stream: Array, name: str) -> Array:
        """Follows the ball, in half of the steps or in all; or goes to where it arrives, and spins it."""
        drawn = rng.each(stream, 2)[1]

        def one(state: State, drawn: Array) -> Array:
            if name == "spin":
                home = _action(self.walk(PADDLE_START_Y - state.player_y))
                return jnp.where(state.ball_vx > 0, self.skilled(state, False), home)
            lag = state.ball_y - (state.player_y + PADDLE_HEIGHT // 2)
            rests = (name == "slow") & (drawn % jnp.uint32(2) == 0)
            return jnp.where(rests, STAY, _action(self.walk(lag)))

        return jnp.stack([one(state, drawn[0]), one(_mirrored(state), drawn[1])])

    def player(self, state: State, stream: Array) -> Array:
        drawn = rng.each(stream, 2)[1]
        luck = state.rng[0] % jnp.uint32(16)  # the same for a whole rally
        idle = (luck == 0) & (state.player_points == self.max_score - 1)

        # in most rallies one side, or the other, plays at random
        erratic = jnp.stack([luck < 7, (luck >= 7) & (luck < 14)]) | (drawn % jnp.uint32(8) == 0)
        skilled = jnp.stack([self.skilled(state, idle), self.skilled(_mirrored(state), idle)])
        return jnp.where(erratic & ~idle, jnp.int32(drawn >> jnp.uint32(8)) % 3, skilled)

    def _of(self, state: State, action: Array, next_state: State) -> dict[str, Array]:
        """What happened to the player, with at most one return within a step, as at the default speeds."""
        won = next_state.player_points > state.player_points
        rally = ~won & (next_state.opponent_points == state.opponent_points)
        own = rally & (state.ball_vx > 0) & (next_state.ball_vx < 0)
        direction = _direction(action)
        limit = direction * self.ball_max_speed_y
        clipped = (next_state.ball_vy == limit) & (jnp.abs(state.ball_vy + direction * self.spin) > jnp.abs(limit))
        return {
            "returned the ball": own,
            "returned it with spin": own & (state.ball_vy != next_state.ball_vy),
            "spun it to top speed": own & clipped & (direction != 0),
            "stopped at the top": rally & (next_state.player_y == PADDLE_MAX_Y),
            "stopped at the bottom": rally & (next_state.player_y == PADDLE_MIN_Y),
            "won a point": won,
            "was served to upwards": ~rally & (next_state.ball_vx > 0) & (next_state.ball_vy > 0),
            "was served to downwards": ~rally & (next_state.ball_vx > 0) & (next_state.ball_vy < 0),
            "won the match": next_state.player_points >= self.max_score,
        }

    def events(self, state: State, action: Array, next_state: State) -> dict[str, Array]:
        seen = (state, next_state), (_mirrored(state), _mirrored(next_state))
        found: dict[str, Array] = {}
        for side, (before, after) in enumerate(seen):
            found |= {
                f"side {side} {what}": happened for what, happened in self._of(before, action[side], after).items()
            }
        rally = (state.player_points == next_state.player_points) & (
            state.opponent_points == next_state.opponent_points
        )
        turned = state.ball_vx != next_state.ball_vx
        return found | {
            "rebound from the top": rally & ~turned & (state.ball_vy > 0) & (next_state.ball_vy < 0),
            "rebound from the bottom": rally & ~turned & (state.ball_vy < 0) & (next_state.ball_vy > 0),
            "time limit": next_state.steps >= self.max_steps,
        }

    def edge_case(self, state: State, stream: Array) -> State:
        """The ball at an end, the last point, or the last step."""
        stream, which = rng.below(stream, 3)
        stream, kind = rng.below(stream, 4)
        _, away = rng.below(stream, 2 * PADDLE_HEIGHT)
        end = jnp.where(kind % 2 == 0, 0, BALL_MAX_X)
        paddle_y = jnp.where(kind % 2 == 0, state.opponent_y, state.player_y)
        speed = jnp.abs(state.ball_vx)
        at_end = state.replace(
            ball_x=end,
            ball_vx=jnp.where(kind % 2 == 0, -speed, speed),
            ball_y=jnp.clip(paddle_y + away - PADDLE_HEIGHT // 2, 0, BALL_MAX_Y),
        )
        last = self.max_score - 1
        late = state.replace(player_points=last - kind % 2, opponent_points=last - kind // 2)
        ending = state.replace(steps=self.max_steps - 1 - kind % 2)
        return _choose(which == 0, at_end, _choose(which == 1, late, ending))


def _direction(action: Array) -> Array:
    """1 up, -1 down, 0 otherwise."""
    return jnp.int32(action == UP) - jnp.int32(action == DOWN)


def _action(direction: Array) -> Array:
    return jnp.where(direction == 0, STAY, jnp.where(direction > 0, jnp.int32(UP), jnp.int32(DOWN)))


def _mirrored(state: State) -> State:
    """The game with the ends of the field exchanged."""
    return state.replace(
        player_y=state.opponent_y,
        opponent_y=state.player_y,
        ball_x=BALL_MAX_X - state.ball_x,
        ball_vx=-state.ball_vx,
        player_points=state.opponent_points,
        opponent_points=state.player_points,
    )


def _choose(condition: Array, a: State, b: State) -> State:
    return State(*(jnp.where(condition, getattr(a, field), getattr(b, field)) for field in State.__annotations__))
