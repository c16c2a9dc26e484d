"""Eat all the pills of a maze in which four ghosts hunt. Twin of envs_c/pacman.h."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param
from jaxpuffer.spaces import Box, Composite, Discrete

UP, DOWN, LEFT, RIGHT = range(4)
BLINKY, PINKY, INKY, CLYDE, GHOSTS = range(5)
NORMAL, FRIGHTENED, EYES = range(3)  # a ghost's mode; eyes: eaten, on its way home

# a tile of the window; GHOST + its direction is a ghost that is not frightened
FLOOR, WALL, DOT, POWER_PILL, PREY, GHOST = range(6)

# # wall, . dot, o power pill, - door, = the house; door and house are closed to all who are outside
MAZE = (
    "############################",
    "#............##............#",
    "#.####.#####.##.#####.####.#",
    "#o####.#####.##.#####.####o#",
    "#.####.#####.##.#####.####.#",
    "#..........................#",
    "#.####.##.########.##.####.#",
    "#.####.##.########.##.####.#",
    "#......##....##....##......#",
    "######.##### ## #####.######",
    "######.##### ## #####.######",
    "######.##          ##.######",
    "######.## ###--### ##.######",
    "######.## #======# ##.######",
    "      .   #======#   .      ",
    "######.## #======# ##.######",
    "######.## ######## ##.######",
    "######.##          ##.######",
    "######.## ######## ##.######",
    "######.## ######## ##.######",
    "#............##............#",
    "#.####.#####.##.#####.####.#",
    "#.####.#####.##.#####.####.#",
    "#o..##.......  .......##..o#",
    "###.##.##.########.##.##.###",
    "###.##.##.########.##.##.###",
    "#......##....##....##......#",
    "#.##########.##.##########.#",
    "#.##########.##.##########.#",
    "#..........................#",
    "############################",
)
HEIGHT, WIDTH = 31, 28  # tiles
PILLS = 244  # the power pills included
VISION = 4  # tiles seen in each direction
SIDE = 2 * VISION + 1
BLOCK_ROWS, BLOCK_COLUMNS = 8, 7
BLOCKS = 4  # along one side
FULL_BLOCK = 22  # most pills in a block
BLOCKS_SIDE = 2 * BLOCKS - 1

# the tile above the door of the ghosts' house, and the one in the house that eyes come to
DOOR_ROW, DOOR_COLUMN = 11, 13
HOME_ROW = 14
HOUSE_TOP, HOUSE_BOTTOM, HOUSE_LEFT, HOUSE_RIGHT = 12, 15, 11, 16

START_ROW, START_COLUMN = 23, 13  # of the player
CLYDE_RADIUS = 8  # tiles
FAR = 1000000  # more than any squared distance
NUMBERS = 26

# of equally near ways a ghost takes the first
ORDER = (UP, LEFT, DOWN, RIGHT)

# where each ghost starts, how far ahead of the player it aims, and the corner to which it scatters
GHOST_ROW = np.array([DOOR_ROW, HOME_ROW, HOME_ROW, HOME_ROW], np.int32)
GHOST_COLUMN = np.array([DOOR_COLUMN, DOOR_COLUMN, 11, 15], np.int32)
GHOST_DIRECTION = np.array([LEFT, UP, RIGHT, LEFT], np.int32)
LEAD = np.array([0, 4, 2, 0], np.int32)  # tiles
CORNER_ROW = np.array([-3, -3, 31, 31], np.int32)
CORNER_COLUMN = np.array([25, 2, 27, 0], np.int32)


def _drawn(characters: str) -> np.ndarray:
    """Where the maze has one of these characters, bool (HEIGHT, WIDTH)."""
    return np.array([[drawn in characters for drawn in row] for row in MAZE])


def _bits(tiles: np.ndarray) -> np.ndarray:
    """Bit c of a row is its column c, uint32 (rows,)."""
    return (tiles << np.arange(WIDTH, dtype=np.uint32)).sum(1, dtype=np.uint32)


# the maze; above and below it a margin of walls
MARGIN = ((VISION, VISION), (0, 0))
WALL_ROWS = _bits(np.pad(_drawn("#-="), MARGIN, constant_values=True))
PILL_ROWS = _bits(np.pad(_drawn(".o"), MARGIN))
POWER_ROWS = _bits(np.pad(_drawn("o"), MARGIN))
DOTS = np.flatnonzero(_drawn(".")).astype(np.int32)
BLOCK_PILLS = np.add.reduceat(
    np.add.reduceat(_drawn(".o"), range(0, HEIGHT, BLOCK_ROWS), 0, np.int32), range(0, WIDTH, BLOCK_COLUMNS), 1
).reshape(-1)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    pills: Array  # uint32 (HEIGHT + 2 VISION,), bit c of row VISION + r: 1 if there is one on tile (r, c)
    left: Array  # int32 (BLOCKS * BLOCKS,), pills in each block
    row: Array  # int32 (), the player's tile, from the top
    column: Array  # int32 (), from the left
    direction: Array  # int32 (), in which it last went
    ghost_row: Array  # int32 (4,)
    ghost_column: Array  # int32 (4,)
    ghost_direction: Array  # int32 (4,)
    ghost_mode: Array  # int32 (4,), 0 normal, 1 frightened, 2 eyes
    ghost_wait: Array  # int32 (4,), steps until it first moves
    periods: Array  # int32 (), that have ended: after an even number the ghosts scatter
    period_left: Array  # int32 (), steps
    frightened: Array  # int32 (), steps, this one included, for which ghosts are
    pills_eaten: Array  # int32 ()
    ghosts_eaten: Array  # int32 ()
    steps: Array  # int32 (), since the episode began


class Seen(PyTreeNode):
    window: Array  # int8 (9, 9), the tiles around the player, with ghosts
    blocks: Array  # float32 (7, 7), share of a full block's pills in the blocks around the player's
    numbers: Array  # float32 (26,)


def _down(direction: ArrayLike) -> Array:
    """Rows that a step goes down."""
    return jnp.int32(direction == DOWN) - jnp.int32(direction == UP)


def _right(direction: ArrayLike) -> Array:
    """Columns that it goes to the right."""
    return jnp.int32(direction == RIGHT) - jnp.int32(direction == LEFT)


def _beside(column: Array, direction: ArrayLike) -> Array:
    """The column that it leads to: beyond a side it is the other side's."""
    column = column + _right(direction)
    return jnp.where(column < 0, WIDTH - 1, jnp.where(column == WIDTH, 0, column))


def _exit_table() -> np.ndarray:
    """The directions in which a step leads on from each tile: bit d is direction d, int32 (HEIGHT * WIDTH,)."""
    is_open = np.pad(_drawn(" .o"), ((1, 1), (0, 0)))
    above, below, middle = is_open[:-2], is_open[2:], is_open[1:-1]
    exits = above << UP | below << DOWN | np.roll(middle, 1, 1) << LEFT | np.roll(middle, -1, 1) << RIGHT
    # in the house there is one way: to the door's column, and up
    column = np.arange(HOUSE_LEFT, HOUSE_RIGHT + 1)
    way = np.where(column < DOOR_COLUMN, 1 << RIGHT, np.where(column > DOOR_COLUMN, 1 << LEFT, 1 << UP))
    exits[HOUSE_TOP : HOUSE_BOTTOM + 1, HOUSE_LEFT : HOUSE_RIGHT + 1] = way
    return exits.reshape(-1).astype(np.int32)


EXITS = _exit_table()


def _exits(row: Array, column: Array) -> Array:
    return jnp.asarray(EXITS)[row * WIDTH + column]


class Pacman(Env[State]):
    """Eat all the pills of a maze in which four ghosts hunt.

    The maze is the arcade game's, of 31 by 28 tiles; everybody moves one tile in a step. Ghosts scatter to their
    corners and chase the player in turns; a power pill frightens them, and then they can be eaten.

    Observation: window int8 (9, 9), blocks float32 (7, 7), numbers float32 (26,).
        The window has the player in the middle, and goes round the sides: 0 floor, 1 wall, 2 dot, 3 power pill,
        4 frightened ghost, 5 to 8 other ghosts that go up, down, left, right. The blocks: the maze is divided into
        4 by 4 blocks of 8 by 7 tiles; the pills left in each / 22, the player's in the middle, 0 outside. The
        numbers: 1 for the direction the player goes in, of four; its row / 31 and column / 28; steps for which
        ghosts are frightened / `frightened_steps`; 1 in a scatter period; share of the period left; share of the time
        left; for each ghost its rows below the player / 31, its columns to the right / 28 by the shorter way round,
        1 if it is frightened, 1 if it is eyes on their way home.
    Action: Discrete(4): up, down, left, right. If a wall blocks it, the player goes on in its old direction.
    Reward: +1 for each dot, power pill and ghost eaten.
    Ends: terminated when a ghost catches the player or all pills are eaten, truncated after `max_steps`.
    Score: pills and ghosts eaten; perf is the share of the 244 pills.
    Differences from PufferLib: ghosts that are frightened turn round at once and always; the last period is a chase
        and not a scatter; periods stand still while ghosts are frightened; eaten ghosts come out of the house; the
        time limit truncates; other observation.
    """

    scatter_steps: int = param(default=70, minimum=1)  # length of a scatter period
    chase_steps: int = param(default=140, minimum=1)  # length of a chase period
    scatters: int = param(default=4, minimum=1, maximum=1000)  # after the last the ghosts chase for good
    frightened_steps: int = param(default=35, minimum=1)  # steps for which a power pill frightens the ghosts
    max_wait: int = param(default=49, minimum=0, maximum=65535)  # most steps that a ghost waits before it first moves
    random_start: int = param(default=0, minimum=0, maximum=1)  # 1: the player starts on a random dot's tile
    max_steps: int = param(default=500, minimum=1)  # steps before truncation
    levels: int = param(default=0, minimum=0)  # number of fixed starts, of which each episode has one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    cheap_init = False
    action_space = Discrete(4)
    observation_space = Composite(
        Seen,
        window=Box(FLOOR, GHOST + RIGHT, (SIDE, SIDE), np.int8),
        blocks=Box(0.0, 1.0, (BLOCKS_SIDE, BLOCKS_SIDE)),
        numbers=Box(-1.0, 1.0, (NUMBERS,)),
    )

    def init(self, stream: Array) -> State:
        # the player at its place, or where a random dot is
        stream, world = rng.level(stream, self.levels, self.first_level)
        world, dot = rng.below(world, len(DOTS))
        tile = jnp.where(self.random_start == 1, jnp.asarray(DOTS)[dot], START_ROW * WIDTH + START_COLUMN)

        # the ghosts, each with a time to wait
        waits = []
        for _ in range(GHOSTS):
            world, wait = rng.below(world, self.max_wait + 1)
            waits.append(wait)
        nothing = jnp.int32(0)
        return State(
            rng=stream,
            pills=jnp.asarray(PILL_ROWS),
            left=jnp.asarray(BLOCK_PILLS),
            row=lax.div(tile, jnp.int32(WIDTH)),
            column=lax.rem(tile, jnp.int32(WIDTH)),
            direction=jnp.int32(LEFT),
            ghost_row=jnp.asarray(GHOST_ROW),
            ghost_column=jnp.asarray(GHOST_COLUMN),
            ghost_direction=jnp.asarray(GHOST_DIRECTION),
            ghost_mode=jnp.full(GHOSTS, NORMAL, jnp.int32),
            ghost_wait=jnp.stack(waits),
            periods=nothing,
            period_left=jnp.int32(self.scatter_steps),
            frightened=nothing,
            pills_eaten=nothing,
            ghosts_eaten=nothing,
            steps=nothing,
        )

    def _tick(self, s: State) -> tuple[State, Array]:
        """Scatter and chase periods; their time stands still while ghosts are frightened. Do the ghosts turn round?"""
        fear = s.frightened > 0
        calm = (s.frightened == 1) & (s.ghost_mode == FRIGHTENED)
        over = ~fear & (s.period_left == 0) & (s.periods < 2 * self.scatters - 1)
        periods = s.periods + jnp.int32(over)
        length = jnp.where(periods % 2 == 0, self.scatter_steps, self.chase_steps)
        period_left = jnp.where(over, length, s.period_left)
        s = s.replace(
            frightened=jnp.where(fear, s.frightened - 1, s.frightened),
            ghost_mode=jnp.where(calm, NORMAL, s.ghost_mode),
            periods=periods,
            period_left=jnp.where(~fear & (period_left > 0), period_left - 1, period_left),
        )
        return s, over

    def _move(self, s: State, action: Array) -> State:
        """The player moves in the new direction, or in its old one if a wall blocks that."""
        exits = _exits(s.row, s.column)
        direction = jnp.where(exits >> action & 1 == 1, action, s.direction)
        moves = exits >> direction & 1 == 1
        return s.replace(
            direction=direction,
            row=jnp.where(moves, s.row + _down(direction), s.row),
            column=jnp.where(moves, _beside(s.column, direction), s.column),
        )

    def _eat(self, s: State) -> tuple[State, Array, Array]:
        """The player eats the pill on its tile: was there one, and a power pill, which frightens the ghosts?"""
        rows = jnp.arange(len(PILL_ROWS), dtype=jnp.int32)
        here = jnp.where(rows == VISION + s.row, jnp.uint32(1) << jnp.uint32(s.column), jnp.uint32(0))
        pill = (s.pills & here).any()
        power = (s.pills & here & jnp.asarray(POWER_ROWS)).any()
        block = s.row // BLOCK_ROWS * BLOCKS + s.column // BLOCK_COLUMNS
        in_block = jnp.arange(BLOCKS * BLOCKS, dtype=jnp.int32) == block
        s = s.replace(
            pills=s.pills & ~here,
            left=s.left - jnp.int32(in_block & pill),
            pills_eaten=s.pills_eaten + jnp.int32(pill),
            frightened=jnp.where(power, self.frightened_steps, s.frightened),
            ghost_mode=jnp.where(power & (s.ghost_mode != EYES), FRIGHTENED, s.ghost_mode),
        )
        return s, pill, power

    def _targets(self, s: State) -> tuple[Array, Array]:
        """The tile that each ghost wants to reach: its row and column, int32 (4,)."""
        down, right = s.ghost_row - s.row, s.ghost_column - s.column
        is_near = down * down + right * right <= CLYDE_RADIUS * CLYDE_RADIUS
        who = np.arange(GHOSTS)

        # the player, or a tile ahead of it; Inky: as far beyond that as Blinky is on this side of it
        row = s.row + LEAD * _down(s.direction)
        column = s.column + LEAD * _right(s.direction)
        row = jnp.where(who == INKY, 2 * row - s.ghost_row[BLINKY], row)
        column = jnp.where(who == INKY, 2 * column - s.ghost_column[BLINKY], column)

        # its corner
        scatters = (s.periods % 2 == 0) | ((who == CLYDE) & is_near)
        row, column = jnp.where(scatters, CORNER_ROW, row), jnp.where(scatters, CORNER_COLUMN, column)

        # home
        home = s.ghost_mode == EYES
        return jnp.where(home, DOOR_ROW, row), jnp.where(home, DOOR_COLUMN, column)

    def _choose(self, s: State, turn: Array, drawn: Array) -> Array:
        """The direction in which each ghost goes on, int32 (4,)."""
        exits, back = _exits(s.ghost_row, s.ghost_column), s.ghost_direction ^ 1

        # round, if it has to and there is a way
        turns = turn & (s.ghost_mode != EYES) & (exits >> back & 1 == 1)

        # otherwise never: the way to the tile that is nearest to its target, or a random one if it is frightened
        ways = exits & ~(1 << back)
        target_row, target_column = self._targets(s)
        count = (ways & 1) + (ways >> 1 & 1) + (ways >> 2 & 1) + (ways >> 3 & 1)
        way = jnp.int32(drawn >> np.arange(0, 8 * GHOSTS, 8, dtype=np.uint32) & jnp.uint32(255)) * count >> 8
        direction, nearest = s.ghost_direction, jnp.full(GHOSTS, FAR, jnp.int32)
        for d in ORDER:
            is_way = ways >> d & 1 == 1
            down = s.ghost_row + _down(d) - target_row
            right = s.ghost_column + _right(d) - target_column
            far = jnp.where(s.ghost_mode == FRIGHTENED, jnp.int32(way != 0), down * down + right * right)
            way = way - jnp.int32(is_way)
            nearer = is_way & (far < nearest)
            direction, nearest = jnp.where(nearer, d, direction), jnp.where(nearer, far, nearest)
        return jnp.where(turns, back, direction)

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        from_row, from_column = s.row, s.column
        s, over = self._tick(s)
        s = self._move(s, action)
        s, pill, power = self._eat(s)

        # the ghosts choose, all at once; frightened ones at random
        stream, drawn = rng.bits(s.rng)
        chosen = self._choose(s, over | power, drawn)

        # they move, frightened ones in every second step
        rests = (s.ghost_mode == FRIGHTENED) & (((self.frightened_steps - s.frightened) & 1) != 0)
        moves = (s.ghost_wait == 0) & ~rests
        row = jnp.where(moves, s.ghost_row + _down(chosen), s.ghost_row)
        column = jnp.where(moves, _beside(s.ghost_column, chosen), s.ghost_column)
        direction = jnp.where(moves, chosen, s.ghost_direction)

        # on the player's tile, or past it? It eats the ghost, or is caught
        meets = (row == s.row) & (column == s.column)
        came_from_there = (row == from_row) & (column == from_column)
        meets = meets | (came_from_there & (s.ghost_row == s.row) & (s.ghost_column == s.column))
        caught = (meets & (s.ghost_mode == NORMAL)).any()
        eaten = meets & (s.ghost_mode == FRIGHTENED)
        ghosts = eaten.sum(dtype=jnp.int32)
        mode = jnp.where(eaten, EYES, s.ghost_mode)

        # eyes above the door are a ghost in the house again
        home = (mode == EYES) & (row == DOOR_ROW) & (column == DOOR_COLUMN)
        s = s.replace(
            rng=jnp.where(s.frightened > 0, stream, s.rng),
            ghost_row=jnp.where(home, HOME_ROW, row),
            ghost_column=column,
            ghost_direction=jnp.where(home, UP, direction),
            ghost_mode=jnp.where(home, NORMAL, mode),
            ghost_wait=jnp.where(s.ghost_wait > 0, s.ghost_wait - 1, s.ghost_wait),
            ghosts_eaten=s.ghosts_eaten + ghosts,
            steps=s.steps + 1,
        )
        return s, Outcome(
            reward=jnp.float32(jnp.int32(pill) + ghosts),
            terminated=caught | (s.pills_eaten == PILLS),
            truncated=s.steps >= self.max_steps,
        )

    def observe(self, s: State) -> Seen:
        # the tiles around the player; the window goes round the sides
        left = s.column - VISION
        left = jnp.uint32(jnp.where(left < 0, left + WIDTH, left))
        walls, power, pills = (
            lax.dynamic_slice(rows, (s.row,), (SIDE,))
            for rows in (jnp.asarray(WALL_ROWS), jnp.asarray(POWER_ROWS), s.pills)
        )
        # two bits of a tile's number: floor 0, wall 1, dot 2, power pill 3
        x = np.arange(SIDE, dtype=np.uint32)[None, :]
        low, high = (
            ((row >> left) | (row << (WIDTH - left)))[:, None] >> x & jnp.uint32(1)
            for row in (walls | (pills & power), pills)
        )
        window = jnp.int8(low + jnp.uint32(2) * high).reshape(-1)

        # the blocks around the player's
        up, before = s.row // BLOCK_ROWS, s.column // BLOCK_COLUMNS
        blocks = jnp.float32(s.left) * (1 / jnp.float32(FULL_BLOCK))
        blocks = jnp.pad(blocks.reshape(BLOCKS, BLOCKS), BLOCKS - 1)
        blocks = lax.dynamic_slice(blocks, (up, before), (BLOCKS_SIDE, BLOCKS_SIDE))

        # the player, the time and the ghosts
        scatters = s.periods % 2 == 0
        length = jnp.where(scatters, self.scatter_steps, self.chase_steps)
        numbers = [
            *(jnp.float32(s.direction == d) for d in range(4)),
            jnp.float32(s.row) * (1 / jnp.float32(HEIGHT)),
            jnp.float32(s.column) * (1 / jnp.float32(WIDTH)),
            jnp.float32(s.frightened) * (1 / jnp.float32(self.frightened_steps)),
            jnp.float32(scatters),
            jnp.float32(s.period_left) * (1 / jnp.float32(length)),
            jnp.float32(self.max_steps - s.steps) * (1 / jnp.float32(self.max_steps)),
        ]

        # the shorter way round
        down, right = s.ghost_row - s.row, s.ghost_column - s.column
        right = jnp.where(right > WIDTH // 2, right - WIDTH, right)
        right = jnp.where(right < -WIDTH // 2, right + WIDTH, right)
        near = (down >= -VISION) & (down <= VISION) & (right >= -VISION) & (right <= VISION)
        seen = near & (s.ghost_mode != EYES)
        place = jnp.where(seen, (VISION + down) * SIDE + VISION + right, SIDE * SIDE)
        tile = jnp.int8(jnp.where(s.ghost_mode == FRIGHTENED, PREY, GHOST + s.ghost_direction))
        for i in range(GHOSTS):
            window = window.at[place[i]].set(tile[i], mode="drop")
        of_ghosts = [
            jnp.float32(down) * (1 / jnp.float32(HEIGHT)),
            jnp.float32(right) * (1 / jnp.float32(WIDTH)),
            jnp.float32(s.ghost_mode == FRIGHTENED),
            jnp.float32(s.ghost_mode == EYES),
        ]
        numbers = [jnp.stack(numbers), jnp.stack(of_ghosts, 1).reshape(-1)]
        return Seen(window.reshape(SIDE, SIDE), blocks, jnp.concatenate(numbers))

    def score(self, s: State) -> Array:
        """Pills and ghosts."""
        return jnp.float32(s.pills_eaten + s.ghosts_eaten)

    def perf(self, s: State) -> Array:
        return jnp.float32(s.pills_eaten) * (1 / jnp.float32(PILLS))

    def figures(self, s: State) -> dict[str, Array]:
        return {"cleared": jnp.float32(s.pills_eaten == PILLS), "ghosts_eaten": jnp.float32(s.ghosts_eaten)}

    def render(self, s: State) -> Array:
        # the maze and its pills
        columns = np.arange(WIDTH, dtype=np.uint32)[None, :]
        eaten = (s.pills[VISION : VISION + HEIGHT, None] >> columns & jnp.uint32(1)) == 0
        tiles = jnp.array([["#.o-".find(drawn) for drawn in row.replace("=", " ")] for row in MAZE])
        tiles = jnp.where(eaten & jnp.asarray(_drawn(".o")), -1, tiles)
        picture = jnp.asarray(_sprites())[tiles].swapaxes(1, 2).reshape(HEIGHT * PIXELS, WIDTH * PIXELS, 3)

        # the ghosts, and the player with its mouth open
        y, x = np.mgrid[: HEIGHT * PIXELS, : WIDTH * PIXELS]
        looks = jnp.where(s.ghost_mode == FRIGHTENED, GHOSTS, jnp.where(s.ghost_mode == EYES, GHOSTS + 1, np.arange(4)))
        for i in range(GHOSTS):
            down, right = y - s.ghost_row[i] * PIXELS - MIDDLE, x - s.ghost_column[i] * PIXELS - MIDDLE
            body = (jnp.abs(right) <= RADIUS) & (down <= RADIUS) & ((down >= 0) | (right**2 + down**2 <= RADIUS**2))
            eye = (jnp.abs(jnp.abs(right - _right(s.ghost_direction[i])) - 2) <= 1) & (jnp.abs(down + 1) <= 1)
            picture = jnp.where(body[..., None], jnp.array(GHOST_COLOURS, jnp.uint8)[looks[i]], picture)
            picture = jnp.where(eye[..., None], jnp.array(EYE_COLOUR, jnp.uint8), picture)
        down, right = y - s.row * PIXELS - MIDDLE, x - s.column * PIXELS - MIDDLE
        ahead = down * _down(s.direction) + right * _right(s.direction)
        aside = jnp.abs(down * _right(s.direction)) + jnp.abs(right * _down(s.direction))
        body = (right**2 + down**2 <= RADIUS**2) & ~((ahead >= 0) & (aside < ahead))
        return jnp.where(body[..., None], jnp.array(PLAYER_COLOUR, jnp.uint8), picture)

    def player(self, s: State, stream: Array) -> Array:
        # to the nearest pill or prey, but not where a ghost is near; some do not look at ghosts, some only at them, and
        # some go at random
        steps, number = (jnp.asarray(x) for x in _ways())
        row, column = (jnp.asarray(x) for x in OPEN_TILES)
        style = s.rng[0] % jnp.uint32(8)
        exits = _exits(s.row, s.column)
        ghosts = number[s.ghost_row * WIDTH + s.ghost_column]
        prey = (s.ghost_mode == FRIGHTENED) & (ghosts >= 0)
        hunts = (s.ghost_mode == NORMAL) & (ghosts >= 0) & (style != 1)
        pills = (s.pills[VISION + row] >> jnp.uint32(column) & jnp.uint32(1)) == 1

        costs = []
        for d in range(4):
            tile = number[(s.row + _down(d)) * WIDTH + _beside(s.column, d)]
            to_ghosts = steps[tile, ghosts]
            to_pill = jnp.where(pills, steps[tile], AWAY).min()
            to_prey = jnp.where(prey & (2 * to_ghosts < s.frightened), to_ghosts, AWAY).min()
            danger = jnp.where(hunts, to_ghosts, AWAY).min()
            cost = jnp.where(style == 2, 0, jnp.minimum(to_pill, to_prey)) - jnp.where(style == 2, danger, 0)
            cost = cost + jnp.where(danger <= CAUTION, AWAY * (CAUTION + 1 - danger), 0)
            costs.append(jnp.where(exits >> d & 1 == 1, cost, AWAY * AWAY))

        stream, slips = rng.bernoulli(stream, jnp.where(style == 0, 1.0, 0.03))
        _, anything = rng.below(stream, 4)
        return jnp.where(slips, anything, jnp.int32(jnp.argmin(jnp.stack(costs))))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        n = next_state
        ate = n.pills_eaten > s.pills_eaten
        power = ((s.pills ^ n.pills) & jnp.asarray(POWER_ROWS)).any()
        moved = (n.row != s.row) | (n.column != s.column)
        came = (n.ghost_row != s.ghost_row) | (n.ghost_column != s.ghost_column)
        eaten, mode = n.ghosts_eaten > s.ghosts_eaten, n.ghost_mode
        here = (n.ghost_row == n.row) & (n.ghost_column == n.column)
        past = (
            (n.ghost_row == s.row)
            & (n.ghost_column == s.column)
            & (s.ghost_row == n.row)
            & (s.ghost_column == n.column)
        )
        turned = came & (n.ghost_direction == s.ghost_direction ^ 1)
        over = n.periods > s.periods
        down, right = s.ghost_row - n.row, s.ghost_column - n.column
        near = (down * down + right * right)[CLYDE] <= CLYDE_RADIUS**2
        chases = n.periods % 2 == 1
        ways = _exits(s.ghost_row, s.ghost_column) & ~(1 << (s.ghost_direction ^ 1))
        crossing = came & (ways & (ways - 1) != 0)
        in_house = (
            (s.ghost_row >= HOUSE_TOP) & (s.ghost_row <= HOUSE_BOTTOM) & (jnp.abs(s.ghost_column - DOOR_COLUMN) < 4)
        )
        events = {
            "a dot": ate & ~power,
            "a power pill": power,
            "a power pill while ghosts are frightened": power & (s.frightened > 1),
            "a wall blocks the new direction": moved & (n.direction != action),
            "a wall blocks both": ~moved,
            "turned round": moved & (n.direction == s.direction ^ 1),
            "through the tunnel to the left": n.column - s.column > 1,
            "through the tunnel to the right": s.column - n.column > 1,
            "a ghost through the tunnel to the left": (n.ghost_column - s.ghost_column > 2).any(),
            "a ghost through the tunnel to the right": (s.ghost_column - n.ghost_column > 2).any(),
            "a ghost waits": (s.ghost_wait > 0).any(),
            "a ghost is out of the house": (in_house & (n.ghost_row == DOOR_ROW) & came).any(),
            "a chase begins": over & chases,
            "a scatter begins": over & ~chases,
            "ghosts turn round at a period's end": over & turned.any(),
            "frightened ghosts turn round": power & turned.any(),
            "a ghost cannot turn round": ((over | power) & came & ~turned & (mode != EYES)).any(),
            "eyes do not turn round": ((over | power) & came & ~turned & (mode == EYES) & (s.ghost_mode == EYES)).any(),
            "a frightened ghost at a crossing": (crossing & (mode == FRIGHTENED)).any(),
            "a frightened ghost rests": ((mode == FRIGHTENED) & ~came & (s.ghost_wait == 0)).any(),
            "ghosts are no longer frightened": (s.frightened == 1) & (n.frightened == 0),
            "Clyde is near in a chase": chases & crossing[CLYDE] & near & (mode[CLYDE] == NORMAL),
            "Clyde is far in a chase": chases & crossing[CLYDE] & ~near & (mode[CLYDE] == NORMAL),
            "a ghost eaten": eaten,
            "two ghosts eaten in a step": n.ghosts_eaten > s.ghosts_eaten + 1,
            "a ghost eaten as they pass": (past & ~here & (mode == EYES) & (s.ghost_mode != EYES)).any(),
            "a ghost eaten and another one hunts": eaten & (mode == NORMAL).any(),
            "eyes are home": ((s.ghost_mode == EYES) & (mode == NORMAL)).any(),
            "eyes pass the player": ((here | past) & (s.ghost_mode == EYES)).any(),
            "caught on a tile": (here & (mode == NORMAL)).any(),
            "caught as they pass": (past & ~here & (mode == NORMAL)).any(),
            "all pills eaten": n.pills_eaten == PILLS,
            "time limit": n.steps >= self.max_steps,
        }
        for i, name in enumerate(("Blinky", "Pinky", "Inky", "Clyde")):
            events[f"{name} chooses in a chase"] = chases & crossing[i] & (mode[i] == NORMAL)
            events[f"{name} chooses in a scatter"] = ~chases & crossing[i] & (mode[i] == NORMAL)
        return events

    def edge_case(self, s: State, stream: Array) -> State:
        # the player anywhere, also at the tunnel's ends, with ghosts of any mode around it; the last pills; periods,
        # fear and time that end
        steps, number = (jnp.asarray(x) for x in _ways())
        stream, drawn = rng.each(stream, 32)
        draws = jnp.int32(drawn >> jnp.uint32(8))
        which = jnp.array([0, WIDTH - 1, s.column], jnp.int32)[draws[0] % 3]
        tile = jnp.where(draws[0] % 3 < 2, HOME_ROW * WIDTH + which, s.row * WIDTH + s.column)
        anywhere = jnp.asarray(OPEN_TILES[0] * WIDTH + OPEN_TILES[1], jnp.int32)[draws[1] % len(OPEN_TILES[0])]
        tile = jnp.where(draws[2] % 2 == 0, anywhere, tile)

        # each ghost on a tile at most three steps away, or where it was
        stream, lots = rng.each(stream, GHOSTS * len(steps))
        lots = rng.unit(lots).reshape(GHOSTS, len(steps))
        there = jnp.int32(jnp.argmax(jnp.where(steps[number[tile]] <= 3, lots, 0.0), 1))
        moved = draws[4:8] % 4 > 0
        ghost = jnp.asarray(OPEN_TILES[0] * WIDTH + OPEN_TILES[1], jnp.int32)[there]
        ghost = jnp.where(moved, ghost, s.ghost_row * WIDTH + s.ghost_column)
        frightened = jnp.array([0, 1, 2, self.frightened_steps], jnp.int32)[draws[3] % 4]
        mode = jnp.where(moved, draws[8:12] % 3, s.ghost_mode)
        return s.replace(
            row=lax.div(tile, jnp.int32(WIDTH)),
            column=lax.rem(tile, jnp.int32(WIDTH)),
            direction=draws[16] % 4,
            ghost_row=lax.div(ghost, jnp.int32(WIDTH)),
            ghost_column=lax.rem(ghost, jnp.int32(WIDTH)),
            ghost_direction=jnp.where(moved, draws[12:16] % 4, s.ghost_direction),
            ghost_mode=jnp.where((frightened == 0) & (mode == FRIGHTENED), NORMAL, mode),
            ghost_wait=jnp.where(draws[20:24] % 4 == 0, draws[20:24] // 4 % 2, 0),
            periods=draws[17] % (2 * self.scatters),
            period_left=draws[18] % 3,
            frightened=frightened,
            pills_eaten=jnp.where(draws[19] % 2 == 0, PILLS - draws[19] // 2 % 3, s.pills_eaten),
            steps=jnp.maximum(self.max_steps - draws[24] % 3, 0),
        )


# for the scripted player

AWAY = 1000  # steps, more than any way is long
CAUTION = 3  # steps to a ghost that are too few
OPEN_TILES = np.nonzero(_drawn(" .o"))


@functools.cache
def _ways() -> tuple[np.ndarray, np.ndarray]:
    """Steps between any two of the open tiles, int32 (n, n), and the number of each tile, -1 for others."""
    number = np.full(HEIGHT * WIDTH, -1, np.int32)
    tiles = OPEN_TILES[0] * WIDTH + OPEN_TILES[1]
    number[tiles] = np.arange(len(tiles))
    steps = np.full((len(tiles), len(tiles)), AWAY, np.int32)
    for k, tile in enumerate(tiles):
        steps[k, k] = 0
        reached = [tile]
        for here in reached:  # grows: breadth first
            y, x = divmod(here, WIDTH)
            for d in range(4):
                if EXITS[here] >> d & 1:
                    there = (y + (d == DOWN) - (d == UP)) * WIDTH + (x + (d == RIGHT) - (d == LEFT)) % WIDTH
                    if steps[k, number[there]] == AWAY:
                        steps[k, number[there]] = steps[k, number[here]] + 1
                        reached.append(there)
    return steps, number


# the picture

PIXELS = 9  # of a tile's side
MIDDLE = PIXELS // 2
RADIUS = 5  # pixels
FLOOR_COLOUR, WALL_COLOUR, DOT_COLOUR, DOOR_COLOUR = (12, 14, 24), (38, 58, 160), (250, 210, 180), (240, 160, 200)
PLAYER_COLOUR, EYE_COLOUR = (255, 224, 60), (250, 250, 250)
# Blinky, Pinky, Inky, Clyde, frightened, eyes
GHOST_COLOURS = ((230, 50, 40), (250, 160, 200), (60, 210, 220), (240, 160, 60), (60, 90, 250), (90, 100, 120))


@functools.cache
def _sprites() -> np.ndarray:
    """A picture of a wall, a dot, a power pill, the door and a floor, uint8 (5, PIXELS, PIXELS, 3)."""
    y, x = np.mgrid[:PIXELS, :PIXELS] - MIDDLE
    sprites = np.zeros((5, PIXELS, PIXELS, 3), np.uint8)
    sprites[:] = FLOOR_COLOUR
    for kind, (colour, where) in enumerate(
        (
            (WALL_COLOUR, y == y),
            (DOT_COLOUR, np.maximum(abs(x), abs(y)) <= 1),
            (DOT_COLOUR, x**2 + y**2 <= 12),
            (DOOR_COLOUR, abs(y) <= 1),
        )
    ):
        sprites[kind][where] = colour
    return sprites
