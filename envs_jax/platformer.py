"""Run and jump to the flag at the right end of a level. Twin of envs_c/platformer.h."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, repeat
from jaxpuffer.spaces import Box, Composite, Discrete

STAY, LEFT, RIGHT, JUMP = range(4)  # and jump left, jump right

# a tile; in the observation also the flag, and an enemy that walks to the left, to the right
AIR, SOLID, PLATFORM, COIN = range(4)
FLAG, ENEMY_LEFT, ENEMY_RIGHT = 4, 5, 6

PLAYS, AT_FLAG, FELL, CAUGHT = range(4)  # how the episode is going

# lengths in tiles; columns count to the right, rows down
COLUMNS = 64
ROWS = 16
VISION = 5  # seen in each direction; also the thickness of the walls left and right
SIDE = 2 * VISION + 1
START_COLUMN = 2
FLAG_COLUMN = 60

# lengths in units, 256 to a tile; speeds in units per frame
TILE_BITS = 8
TILE = 1 << TILE_BITS
WIDTH = 192  # of the agent's box
HEIGHT = 224
ENEMY_SIZE = 192  # width and height of an enemy's box
RUN_SPEED = 80  # the greatest
ACCELERATION = 16
FRICTION = 12
GRAVITY = 21
FALL_SPEED = 192  # the greatest
JUMP_SPEED = 192
STOMP_SPEED = 128  # upwards, after a stomp
ENEMY_SPEED = 16
FRAMES = 2  # of a step

# scales of the observation and of the progress
PER_TILE = 0.00390625  # 1 / 256
PER_RUN_SPEED = 0.0125  # 1 / 80
PER_FALL_SPEED = 0.00520833333  # 1 / 192
PER_COLUMN = 0.0172413793  # 1 / 58, from the start to the flag

# a level is a chain of pieces of ground; lengths in tiles
START_WIDTH = 5  # of the first piece
LAST_START = 56  # a piece that would end behind this column is the last, which has the flag
PIECES = 13  # after the first: all but the last have at least MIN_WIDTH columns
MIN_WIDTH = 4  # of a piece, and up to 3 more
ROOM = 2  # more if there is an enemy, a block or a roof; free of roof at both ends
LOWEST = 2  # height of a piece, from the bottom of the world
HIGHEST = 11
MAX_RISE = 3  # of a jump; it reaches 3.8
MAX_REACH = 6  # of a jump, gap and rise together
MIN_CLIMB = 4  # height of a ladder, and up to 2 more
RUNG = 2  # from one rung of a ladder to the next
LIFT = 3  # of roofs and high coins
PEACE = 4  # an enemy is on a piece with the probability difficulty / (PEACE + difficulty)
ENEMIES = 8  # at most

# what is on a piece, and perhaps an enemy
NOTHING, LOW_COINS, HIGH_COINS, BLOCK, ROOF, FEATURES = range(6)

ALL_SOLID = 0x55555555  # a column of solid tiles

VIEW_COLUMNS = 26  # of the picture
SCALE = 12  # px of the picture per tile
SKY_COLOUR, GROUND_COLOUR, PLATFORM_COLOUR = (24, 30, 42), (86, 98, 124), (150, 110, 70)
COIN_COLOUR, FLAG_COLOUR, AGENT_COLOUR, ENEMY_COLOUR = (230, 190, 60), (80, 200, 120), (241, 241, 241), (220, 80, 80)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    tiles: Array  # uint32 (74,), bits 2 r and 2 r + 1 of word VISION + c: tile at row r and column c; outside of the
    # columns all are solid
    enemy_x: Array  # int32 (8,), units, left edge of its box
    enemy_y: Array  # int32 (8,), units, top edge
    enemy_left: Array  # int32 (8,), units, least and greatest x
    enemy_right: Array  # int32 (8,)
    enemy_direction: Array  # int32 (8,), -1 left, 1 right, 0 there is none
    x: Array  # int32 (), units, left edge of the agent's box
    y: Array  # int32 (), units, top edge
    vx: Array  # int32 (), units per frame, to the right
    vy: Array  # int32 (), units per frame, down
    on_ground: Array  # int32 (), 1 if it stands
    furthest: Array  # int32 (), column that it has reached
    coins: Array  # int32 (), taken
    stomps: Array  # int32 (), enemies stomped on
    end: Array  # int32 (), PLAYS, or how the episode ended
    steps: Array  # int32 (), since the episode began


class Seen(PyTreeNode):
    tiles: Array  # int8 (11, 11), the agent in the middle
    numbers: Array  # float32 (6,)


def _column(s: State) -> Array:
    """Column of the middle of the agent's box."""
    return (s.x + WIDTH // 2) >> TILE_BITS


def _row(s: State) -> Array:
    """Row of the middle of the agent's box."""
    return (s.y + HEIGHT // 2) >> TILE_BITS


def _word(row: Array, tile: int) -> Array:
    """A tile at a row of a column, uint32."""
    return jnp.uint32(tile) << jnp.uint32(2 * row)


def _solid_from(row: Array) -> Array:
    """A column that is solid from a row down to the bottom, uint32."""
    return jnp.uint32(ALL_SOLID) << jnp.uint32(2 * row)


class Platformer(Env[State]):
    """Run and jump to the flag at the right end of a level.

    A level is 64 columns of 16 tiles: pieces of solid ground and of platforms, which are open from below, behind gaps,
    up and down steps and at the top of ladders, with blocks, roofs, coins and enemies. Each piece can be reached from
    the one before.

    Observation: tiles int8 (11, 11), numbers float32 (6,).
        The tiles around the agent, row by row from the upper left, the middle of its box in the middle one: 0 air,
        1 solid (also left and right of the level), 2 platform, 3 coin, 4 flag, 5 enemy that walks to the left,
        6 to the right. The numbers: place of the middle within its tile, across and down, 0 to 1; speed across and
        down / the greatest; 1 if it stands; share of the time left.
    Action: Discrete(6): stay, left, right, jump, jump left, jump right.
    Reward: `coin_reward` for a coin, `stomp_reward` for an enemy that is stomped on, `progress_reward` for the whole
        way, in equal parts for each new column, `flag_reward` at the flag, `death_reward` for a death.
    Ends: terminated at the flag, below the world, or when an enemy is touched otherwise than from above; truncated
        after `max_steps`.
    Score and perf: 1 at the flag, otherwise 0.
    Differences: it is no port of another game. From CoinRun of Procgen: tiles and numbers are seen, not pixels;
        one-way platforms, ladders of them and enemies that can be stomped on; rewards on the way.
    """

    cheap_init = False

    difficulty: int = param(default=4, minimum=0, maximum=5)  # width of gaps, height of steps, number of enemies
    coin_reward: float = param(default=0.1)
    stomp_reward: float = param(default=0.1)
    progress_reward: float = param(default=5.0)  # for all columns from the start to the flag
    flag_reward: float = param(default=5.0)
    death_reward: float = param(default=-1.0)
    max_steps: int = param(default=300, minimum=1)  # steps before truncation
    levels: int = param(default=0, minimum=0)  # number of fixed levels, of which each episode has one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    observation_space: ClassVar = Composite(
        Seen, tiles=Box(AIR, ENEMY_RIGHT, (SIDE, SIDE), np.int8), numbers=Box(-1.0, 1.0, (6,))
    )
    action_space: ClassVar = Discrete(6)

    def tile(self, s: State, first: Array, column: Array, row: Array) -> Array:
        """The tile at a column and a row; below the world is air. `s.tiles` are four columns from `first` on."""
        k = column - first
        word = jnp.where(k < 2, jnp.where(k < 1, s.tiles[0], s.tiles[1]), jnp.where(k < 3, s.tiles[2], s.tiles[3]))
        found = (word >> jnp.uint32(2 * jnp.minimum(row, ROWS - 1))) & jnp.uint32(3)
        return jnp.where(row < ROWS, jnp.int32(found), AIR)

    def build(self, world: Array) -> dict[str, Array]:
        """A level: pieces of ground, each of which can be reached from the one before."""
        most_rise = jnp.minimum(1 + self.difficulty, MAX_RISE)
        column = jnp.arange(-VISION, COLUMNS + VISION, dtype=jnp.int32)
        tiles = jnp.where((column < 0) | (column >= COLUMNS), jnp.uint32(ALL_SOLID), jnp.uint32(0))
        nobody = jnp.zeros(ENEMIES, jnp.int32)

        # the first piece, on which the agent stands
        world, more = rng.below(world, 4)
        height = LOWEST + 1 + more
        tiles = tiles | jnp.where((column >= 0) & (column < START_WIDTH), _solid_from(ROWS - height), jnp.uint32(0))
        y = ((ROWS - height) << TILE_BITS) - HEIGHT

        def add(_: Array, carry: Any) -> Any:
            world, tiles, enemy, end, height = carry

            # the next one: behind a gap, beside the last one, or at the top of a ladder
            world, jumps = rng.below(world, 2)
            world, gap = rng.below(world, 1 + self.difficulty)
            world, climbs = rng.below(world, 4)
            world, climb = rng.below(world, 3)
            world, rise = rng.below(world, 2 * MAX_RISE + 1)
            gap, climb = jumps * (1 + gap), MIN_CLIMB + climb
            ladder = (jumps == 0) & (climbs == 0) & (height + climb <= HIGHEST)
            reach = jnp.minimum(most_rise, MAX_REACH - gap)
            rise = jnp.clip(rise - MAX_RISE, LOWEST - height, jnp.minimum(reach, HIGHEST - height))
            rise = jnp.where(ladder, climb, rise)

            # how long it is, of what, and what is on it
            world, width = rng.below(world, 4)
            world, thin = rng.below(world, 4)
            world, feature = rng.below(world, FEATURES)
            world, size = rng.below(world, 3)
            world, threat = rng.below(world, PEACE + self.difficulty)
            world, place = rng.below(world, 2)
            world, direction = rng.below(world, 2)
            walks = (threat >= PEACE) & (enemy["count"] < ENEMIES)
            width, size = MIN_WIDTH + width + jnp.where(walks | (feature >= BLOCK), ROOM, 0), 1 + size

            # the last one is level ground
            last = end + gap + width > LAST_START
            gap, rise = jnp.where(last, 0, gap), jnp.where(last, 0, rise)
            ladder, thin, walks = ladder & ~last, (thin == 0) & ~last, walks & ~last
            feature = jnp.where(last, NOTHING, feature)
            width = jnp.where(last, COLUMNS - end, width)

            rungs = ladder & (column >= end - 2) & (column < end)
            for k in (1, 2):
                there = rungs & (k * RUNG <= rise - RUNG)
                row = ROWS - height - k * RUNG
                tiles = jnp.where(there, (tiles & ~_word(row, 3)) | _word(row, PLATFORM), tiles)
            start = end + gap
            end = start + width
            height = height + rise

            # its ground: solid to the bottom, or a platform that is open from below
            top = ROWS - height
            ground = jnp.where(thin, _word(top, PLATFORM), _solid_from(top))
            tiles = tiles | jnp.where((column >= start) & (column < end), ground, jnp.uint32(0))

            coins = (feature == LOW_COINS) | (feature == HIGH_COINS)
            coin = _word(jnp.where(feature == LOW_COINS, top - 1, top - LIFT), COIN)
            tiles = tiles | jnp.where(coins & (column > start) & (column < start + 1 + size), coin, jnp.uint32(0))
            block = _solid_from(top - jnp.minimum(size, most_rise)) & ~_solid_from(top)
            tiles = tiles | jnp.where((feature == BLOCK) & (column == start + ROOM), block, jnp.uint32(0))
            roof = (feature == ROOF) & (column >= start + ROOM) & (column < end - ROOM)
            tiles = tiles | jnp.where(roof, _word(top - LIFT, SOLID), jnp.uint32(0))

            # an enemy walks up to the piece's ends, or on the right of the block
            left = jnp.where(feature == BLOCK, start + ROOM + 1, start)
            new = {
                "x": (left + place) << TILE_BITS,
                "y": (top << TILE_BITS) - ENEMY_SIZE,
                "left": left << TILE_BITS,
                "right": (end << TILE_BITS) - ENEMY_SIZE,
                "direction": 2 * direction - 1,
            }
            here = walks & (jnp.arange(ENEMIES) == enemy["count"])
            more = {name: jnp.where(here, value, enemy[name]) for name, value in new.items()}
            enemy = {**more, "count": enemy["count"] + jnp.int32(walks)}
            return world, tiles, enemy, end, height

        enemy = dict.fromkeys(("x", "y", "left", "right", "direction"), nobody) | {"count": jnp.int32(0)}
        carry = world, tiles, enemy, jnp.int32(START_WIDTH), height
        _, tiles, enemy, _, _ = lax.fori_loop(0, PIECES, add, carry)
        enemies = {f"enemy_{name}": enemy[name] for name in ("x", "y", "left", "right", "direction")}
        return {"tiles": tiles, **enemies, "y": y}

    def init(self, stream: Array) -> State:
        stream, world = rng.level(stream, self.levels, self.first_level)
        level = self.build(world)

        # the agent stands on the first piece
        zero = jnp.int32(0)
        return State(
            rng=stream,
            **level,
            x=jnp.int32(START_COLUMN << TILE_BITS),
            vx=zero,
            vy=zero,
            on_ground=jnp.int32(1),
            furthest=jnp.int32(START_COLUMN),
            coins=zero,
            stomps=zero,
            end=jnp.int32(PLAYS),
            steps=zero,
        )

    def push(self, s: State, action: Array) -> State:
        """Speeds: it is pushed or slows down across, falls faster, and may jump."""
        way = lax.rem(action, jnp.int32(JUMP))
        slower = jnp.where(s.vx > 0, jnp.maximum(s.vx - FRICTION, 0), jnp.minimum(s.vx + FRICTION, 0))
        pushed = s.vx + jnp.where(way == LEFT, -ACCELERATION, ACCELERATION)
        jumps = (action >= JUMP) & (s.on_ground == 1)
        return s.replace(
            vx=jnp.where(way == STAY, slower, jnp.clip(pushed, -RUN_SPEED, RUN_SPEED)),
            vy=jnp.where(jumps, -JUMP_SPEED, jnp.minimum(s.vy + GRAVITY, FALL_SPEED)),
        )

    def move_x(self, s: State, first: Array) -> State:
        """Across, up to a solid tile."""
        x = s.x + s.vx
        ahead = jnp.where(s.vx > 0, x + WIDTH - 1, x) >> TILE_BITS
        upper, lower = s.y >> TILE_BITS, (s.y + HEIGHT - 1) >> TILE_BITS
        wall = (self.tile(s, first, ahead, upper) == SOLID) | (self.tile(s, first, ahead, lower) == SOLID)
        stops = wall & (s.vx != 0)
        at_wall = jnp.where(s.vx > 0, jnp.maximum(ahead * TILE - WIDTH, 0), (ahead + 1) * TILE)
        return s.replace(x=jnp.where(stops, at_wall, x), vx=jnp.where(stops, 0, s.vx))

    def move_y(self, s: State, first: Array) -> State:
        """Up to a solid tile or the top of the world, down to a solid tile or onto a platform."""
        rises = s.vy < 0
        y = s.y + s.vy
        left, right = s.x >> TILE_BITS, (s.x + WIDTH - 1) >> TILE_BITS
        row = jnp.where(rises, jnp.where(y < 0, -1, y >> TILE_BITS), (y + HEIGHT - 1) >> TILE_BITS)
        inside = jnp.maximum(row, 0)
        a, b = self.tile(s, first, left, inside), self.tile(s, first, right, inside)
        solid = (a == SOLID) | (b == SOLID)
        from_above = s.y + HEIGHT <= row * TILE
        platform = from_above & ((a == PLATFORM) | (b == PLATFORM))
        bumps, lands = rises & ((row < 0) | solid), ~rises & (solid | platform)
        return s.replace(
            y=jnp.where(bumps, (row + 1) * TILE, jnp.where(lands, row * TILE - HEIGHT, y)),
            vy=jnp.where(bumps | lands, 0, s.vy),
            on_ground=jnp.int32(lands),
        )

    def take_coin(self, s: State, first: Array) -> State:
        """The coin in the tile of the agent's middle."""
        column, row = _column(s), _row(s)
        taken = self.tile(s, first, column, row) == COIN
        here = taken & (jnp.arange(len(s.tiles), dtype=jnp.int32) == column - first)
        return s.replace(tiles=jnp.where(here, s.tiles & ~_word(row, 3), s.tiles), coins=s.coins + jnp.int32(taken))

    def meet_enemies(self, s: State, y_before: Array) -> State:
        """Enemies walk to and fro; one that is touched from above is gone, any other one ends the episode."""
        ahead = s.enemy_x + s.enemy_direction * ENEMY_SPEED
        turns = (ahead < s.enemy_left) | (ahead > s.enemy_right)
        direction = jnp.where(turns, -s.enemy_direction, s.enemy_direction)
        x = jnp.where(turns, s.enemy_x, ahead)

        beside = (s.x < x + ENEMY_SIZE) & (x < s.x + WIDTH)
        level = (s.y < s.enemy_y + ENEMY_SIZE) & (s.enemy_y < s.y + HEIGHT)
        touched = beside & level & (direction != 0)
        stomped = touched & (s.y > y_before) & (y_before + HEIGHT <= s.enemy_y + ENEMY_SIZE // 2)
        stomps = stomped.sum(dtype=jnp.int32)
        return s.replace(
            enemy_x=x,
            enemy_direction=jnp.where(stomped, 0, direction),
            stomps=s.stomps + stomps,
            vy=jnp.where(stomps > 0, -STOMP_SPEED, s.vy),
            on_ground=jnp.where(stomps > 0, 0, s.on_ground),
            end=jnp.where((touched & ~stomped).any(), CAUGHT, s.end),
        )

    def frame(self, s: State, first: Array, action: Array) -> State:
        y_before = s.y
        s = self.push(s, action)
        s = self.move_x(s, first)
        s = self.move_y(s, first)
        s = self.take_coin(s, first)
        s = self.meet_enemies(s, y_before)
        end = jnp.where(s.y >= ROWS * TILE, FELL, s.end)
        return s.replace(end=jnp.where(_column(s) >= FLAG_COLUMN, AT_FLAG, end))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        # a step leads to none but these four columns
        coins, stomps, furthest, tiles = s.coins, s.stomps, s.furthest, s.tiles
        first = (s.x >> TILE_BITS) - 1
        s = s.replace(tiles=lax.dynamic_slice(tiles, (VISION + first,), (4,)))

        def one(_: Any, s: State) -> State:
            plays = s.end == PLAYS
            return jax.tree.map(lambda new, old: jnp.where(plays, new, old), self.frame(s, first, action), s)

        s = repeat(FRAMES, one, s)
        s = s.replace(
            tiles=lax.dynamic_update_slice(tiles, s.tiles, (VISION + first,)),
            furthest=jnp.maximum(furthest, _column(s)),
            steps=s.steps + 1,
        )

        # what it was worth
        per_column = self.progress_reward * PER_COLUMN
        at_flag, dead = s.end == AT_FLAG, (s.end == FELL) | (s.end == CAUGHT)
        reward = (
            self.coin_reward * jnp.float32(s.coins - coins)
            + self.stomp_reward * jnp.float32(s.stomps - stomps)
            + per_column * jnp.float32(s.furthest - furthest)
            + jnp.where(at_flag, self.flag_reward, 0.0)
            + jnp.where(dead, self.death_reward, 0.0)
        )
        return s, Outcome(reward, terminated=at_flag | dead, truncated=s.steps >= self.max_steps)

    def observe(self, s: State) -> Seen:
        # the columns around the agent from the window's upper edge on
        column, row = _column(s), _row(s)
        words = lax.dynamic_slice(s.tiles, (column,), (SIDE,))
        above = row - VISION
        words = jnp.where(
            above < 0,
            words << jnp.uint32(2 * jnp.maximum(-above, 0)),
            words >> jnp.uint32(2 * jnp.maximum(above, 0)),
        )
        i, j = jnp.arange(SIDE, dtype=jnp.uint32)[:, None], jnp.arange(SIDE, dtype=jnp.int32)[None, :]
        tiles = (words[None, :] >> (jnp.uint32(2) * i)) & jnp.uint32(3)

        # the flag, in front of the air of its column
        flag = (j == FLAG_COLUMN - column + VISION) & (tiles == AIR)
        tiles = jnp.where(flag, jnp.uint32(FLAG), tiles)

        # the enemies, each in the tile of its middle: a bit for each row of a column, first for those to the left
        enemy_row = ((s.enemy_y + ENEMY_SIZE // 2) >> TILE_BITS) - above
        enemy_column = ((s.enemy_x + ENEMY_SIZE // 2) >> TILE_BITS) - column + VISION
        seen = (s.enemy_direction != 0) & (enemy_row >= 0) & (enemy_row < SIDE)
        place = jnp.clip(enemy_row, 0, SIDE - 1) + jnp.where(s.enemy_direction < 0, 0, SIDE)
        bit = jnp.where(seen, jnp.uint32(1) << jnp.uint32(place), jnp.uint32(0))
        bits = jnp.zeros_like(j, jnp.uint32)
        for k in range(ENEMIES):
            bits = bits | jnp.where(enemy_column[k] == j, bit[k], jnp.uint32(0))
        tiles = jnp.where((bits >> i) & jnp.uint32(1) == 1, jnp.uint32(ENEMY_LEFT), tiles)
        tiles = jnp.where((bits >> (i + jnp.uint32(SIDE))) & jnp.uint32(1) == 1, jnp.uint32(ENEMY_RIGHT), tiles)

        across = s.x + WIDTH // 2 - column * TILE
        down = s.y + HEIGHT // 2 - row * TILE
        numbers = [
            jnp.float32(across) * PER_TILE,
            jnp.float32(down) * PER_TILE,
            jnp.float32(s.vx) * PER_RUN_SPEED,
            jnp.float32(s.vy) * PER_FALL_SPEED,
            jnp.float32(s.on_ground),
            jnp.float32(self.max_steps - s.steps) * (1 / jnp.float32(self.max_steps)),
        ]
        return Seen(jnp.int8(tiles), jnp.stack(numbers))

    def score(self, s: State) -> Array:
        return jnp.float32(s.end == AT_FLAG)

    def figures(self, s: State) -> dict[str, Array]:
        return {
            "coins": jnp.float32(s.coins),
            "progress": jnp.float32(s.furthest - START_COLUMN) * PER_COLUMN,
            "stomps": jnp.float32(s.stomps),
        }

    def render(self, s: State) -> Array:
        # the part of the level around the agent
        left = jnp.clip(s.x - (VIEW_COLUMNS * TILE - WIDTH) // 2, 0, (COLUMNS - VIEW_COLUMNS) * TILE)
        y, x = jnp.mgrid[0 : ROWS * SCALE, 0 : VIEW_COLUMNS * SCALE].astype(jnp.int32) * TILE // SCALE
        x = x + left
        tile = jnp.int32((s.tiles[VISION + (x >> TILE_BITS)] >> jnp.uint32(2 * (y >> TILE_BITS))) & jnp.uint32(3))
        across, down = x & (TILE - 1), y & (TILE - 1)
        picture = jnp.full((*x.shape, 3), jnp.array(SKY_COLOUR, jnp.uint8))
        picture = _paint(picture, tile == SOLID, GROUND_COLOUR)
        picture = _paint(picture, (tile == PLATFORM) & (down < TILE // 3), PLATFORM_COLOUR)
        off = jnp.abs(across - TILE // 2) + jnp.abs(down - TILE // 2)
        picture = _paint(picture, (tile == COIN) & (off < TILE // 3), COIN_COLOUR)

        # the flag on its pole
        beside = x - FLAG_COLUMN * TILE
        pole = (beside >= 0) & (beside < TILE // 4) & (y >= 4 * TILE)
        cloth = (beside >= 0) & (y >= 4 * TILE) & (beside < 2 * TILE - 2 * jnp.abs(y - 5 * TILE))
        picture = _paint(picture, (pole | cloth) & (tile != SOLID), FLAG_COLOUR)

        for k in range(ENEMIES):
            inside = _within(x, y, s.enemy_x[k], s.enemy_y[k], ENEMY_SIZE, ENEMY_SIZE) & (s.enemy_direction[k] != 0)
            picture = _paint(picture, inside, ENEMY_COLOUR)
        return _paint(picture, _within(x, y, s.x, s.y, WIDTH, HEIGHT), AGENT_COLOUR)

    variants: ClassVar = (
        {"difficulty": 0, "max_steps": 40},
        {"difficulty": 5, "levels": 3, "first_level": 100},
        {"difficulty": 2},
    )

    def reflex(self, s: State) -> Array:
        """Runs to the right and jumps at what is two tiles ahead: a wall, a gap, an enemy; and where it is stopped."""
        tiles = self.observe(s).tiles
        ahead = tiles[VISION, VISION + 1 : VISION + 3]
        enemy = (ahead >= ENEMY_LEFT).any()
        below = tiles[VISION + 1 :, VISION + 1]
        gap = ~((below == SOLID) | (below == PLATFORM)).any()
        return jnp.where((ahead == SOLID).any() | gap | enemy, JUMP + RIGHT, RIGHT)

    def player(self, s: State, stream: Array) -> Array:
        # by reflex, with slips; some mostly at random, to and fro, or on the spot
        style = s.rng[0] % jnp.uint32(16)
        stream, slips = rng.bernoulli(stream, jnp.where(style < 10, 0.1, jnp.where(style < 14, 0.5, 0.9)))
        stream, random = rng.below(stream, 6)
        back = jnp.where(lax.rem(s.steps, jnp.int32(48)) < 16, jnp.int32(JUMP + LEFT), random)
        wild = jnp.where((style == 14) | (style == 9), back, random)
        return jnp.where(slips, wild, self.reflex(s))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        n, plays = next_state, next_state.end == PLAYS
        stood, stands = s.on_ground == 1, n.on_ground == 1
        feet = (n.y + HEIGHT) >> TILE_BITS
        under = [
            jnp.int32(
                (n.tiles[VISION + (x >> TILE_BITS)] >> jnp.uint32(2 * jnp.clip(feet, 0, ROWS - 1))) & jnp.uint32(3)
            )
            for x in (n.x, n.x + WIDTH - 1)
        ]
        on_solid, on_platform = (stands & ((under[0] == t) | (under[1] == t)) for t in (SOLID, PLATFORM))
        way = lax.rem(action, jnp.int32(JUMP))
        turned = (s.enemy_direction * n.enemy_direction) == -1
        stomped, caught = n.stomps > s.stomps, n.end == CAUGHT
        return {
            "jumped": stood & (action >= JUMP) & ~stands,
            "walked off an edge": stood & (action < JUMP) & ~stands & ~stomped,
            "landed on solid ground": ~stood & on_solid & ~on_platform,
            "landed on a platform": ~stood & on_platform & ~on_solid,
            "stopped at a wall on the right": (s.vx > 0) & (n.vx == 0) & (way == RIGHT) & plays,
            "stopped at a wall on the left": (s.vx < 0) & (n.vx == 0) & (way == LEFT) & plays,
            "bumped its head": (s.vy < -2 * GRAVITY) & (n.vy >= 0) & (n.y < s.y) & ~stood & plays,
            "rose through a platform": self._crossed(s, n),
            "at full speed": jnp.abs(n.vx) == RUN_SPEED,
            "fell at full speed": n.vy == FALL_SPEED,
            "took a coin": n.coins > s.coins,
            "stomped on an enemy": stomped,
            "an enemy turned to the left": (turned & (n.enemy_direction == -1)).any(),
            "an enemy turned to the right": (turned & (n.enemy_direction == 1)).any(),
            "caught as it stood": caught & stood,
            "caught in the air": caught & ~stood,
            "fell out of the world": n.end == FELL,
            "reached the flag": n.end == AT_FLAG,
            "time limit": plays & (n.steps >= self.max_steps),
        }

    def _crossed(self, s: State, n: State) -> Array:
        """Whether its feet rose above a platform in this step."""
        word = s.tiles[VISION + _column(n)]
        rows = [(x.y + HEIGHT - 1) >> TILE_BITS for x in (s, n)]
        tile = (word >> jnp.uint32(2 * jnp.clip(rows[0], 0, ROWS - 1))) & jnp.uint32(3)
        return (n.vy < 0) & (rows[1] < rows[0]) & (tile == PLATFORM) & (s.on_ground == 0)

    def edge_case(self, s: State, stream: Array) -> State:
        # beside or above an enemy, at a tile's edges, near the flag or the bottom, with any speed and few steps left
        draws = iter(rng.each(stream, 24)[1] >> jnp.uint32(8))

        def below(n: int) -> Array:
            return jnp.int32(next(draws) % jnp.uint32(n))

        def near() -> Array:
            return below(5) - 2

        def one_of(*values: Any) -> Array:
            return jnp.stack([jnp.int32(value) for value in values])[below(len(values))]

        k = below(ENEMIES)
        met = (below(2) == 1) & (s.enemy_direction[k] != 0)
        beside = one_of(-WIDTH, ENEMY_SIZE, 0) + s.enemy_x[k] + one_of(-ENEMY_SPEED, 0, ENEMY_SPEED) + near()
        above = s.enemy_y[k] - HEIGHT + one_of(0, ENEMY_SIZE // 2, ENEMY_SIZE, ENEMY_SIZE + HEIGHT) + near()
        x = one_of((s.x >> TILE_BITS) * TILE, (s.x >> TILE_BITS) * TILE + TILE - WIDTH, FLAG_COLUMN * TILE - WIDTH // 2)
        y = one_of(s.y, (s.y >> TILE_BITS) * TILE, (s.y >> TILE_BITS) * TILE + TILE - HEIGHT, (ROWS - 1) * TILE, 0)
        return s.replace(
            x=jnp.clip(jnp.where(met, beside, x + near()), 0, (FLAG_COLUMN + 1) * TILE),
            y=jnp.clip(jnp.where(met, above, y + near()), 0, ROWS * TILE - 1),
            vx=one_of(s.vx, 0, near(), RUN_SPEED, -RUN_SPEED),
            vy=one_of(s.vy, 0, -GRAVITY, near(), JUMP_SPEED, -JUMP_SPEED),
            on_ground=below(2),
            steps=jnp.where(below(4) == 0, jnp.maximum(self.max_steps - below(3), 0), s.steps),
        )


def _paint(picture: Array, where: Array, colour: tuple[int, int, int]) -> Array:
    return jnp.where(where[:, :, None], jnp.array(colour, jnp.uint8), picture)


def _within(x: Array, y: Array, left: Array, top: Array, width: int, height: int) -> Array:
    """Which places are in a box."""
    return (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
