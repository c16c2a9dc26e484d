"""Find the way through a maze seen through a small window. Twin of envs_c/maze.h."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Discrete

STAY, FORWARD, RIGHT, BACK, LEFT = range(5)
NORTH, EAST, SOUTH, WEST = range(4)
EMPTY, WALL, GOAL = range(3)

MAX_SIZE = 47  # tiles along one side
MAX_VISION = 8  # a row of tiles and its margins fit in two words: 47 + 2 * 8 <= 64 bits

SOLID = np.uint32(0xFFFFFFFF)


MAX_PIXELS = 330  # of a picture's side
BAR = 8  # pixels, the height of the bar that shows the time left
FLOOR_COLOUR = (24, 30, 42)
WALL_COLOUR = (86, 98, 124)
GOAL_COLOUR = (80, 200, 120)
AGENT_COLOUR = (255, 184, 76)
UNSEEN = 0.45  # brightness of tiles outside the window


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    walls: Array  # uint32 (words * height,), bit vision + c of row vision + r is tile (r, c), 1 a wall
    row: Array  # int32 (), the agent's tile, from the top
    column: Array  # int32 (), from the left
    heading: Array  # int32 (), 0 north, 1 east, 2 south, 3 west
    steps: Array  # int32 (), since the episode began


def _down(heading: Array) -> Array:
    """Rows that a step goes down."""
    return jnp.int32(heading == SOUTH) - jnp.int32(heading == NORTH)


def _right(heading: Array) -> Array:
    """Columns that a step goes to the right."""
    return jnp.int32(heading == EAST) - jnp.int32(heading == WEST)


class Maze(Env[State]):
    """Find the way through a maze seen through a small window.

    Every episode has a new perfect maze, or one of a fixed set: one path between any two tiles. The
    agent starts in the north-west corner, the goal is in the south-east corner.

    Observation: uint8 (side * side,), side = 2 * vision + 1: the tiles around the
        agent, row by row, turned so that the agent looks up: entry 0 is ahead
        on the left, the middle entry is the agent's own tile. 0 empty, 1 wall
        (also outside the maze), 2 goal.
    Action: Discrete(5): 0 stay; turn and walk one tile: 1 forward, 2 right,
        3 back, 4 left. At a wall the agent turns, but stays where it is.
    Reward: +1 at the goal.
    Ends: terminated at the goal, truncated after `max_steps`.
    Score and perf: 1 at the goal, otherwise 0.
    Differences from PufferLib: a maze is grown for each episode, not selected from
        8,192; the window turns with the agent; the time limit truncates.
    """

    size: int = static(default=11, minimum=5, maximum=MAX_SIZE)  # tiles along one side, odd
    vision: int = static(default=5, minimum=1, maximum=MAX_VISION)  # tiles seen in each direction
    branching: float = param(default=0.1, minimum=0.0, maximum=1.0)  # probability to grow the maze from any cell
    max_steps: int = param(default=0, minimum=0)  # steps before truncation; 0: 2 * size * size
    levels: int = param(default=0, minimum=0)  # number of fixed mazes, of which each episode has one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    cheap_init = False
    action_space = Discrete(5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % 2 == 0:
            raise ValueError(f"Maze.size is {self.size}; it must be odd, from 5 to {MAX_SIZE}")

    @property
    def observation_space(self) -> Box:
        return Box(EMPTY, GOAL, (self.side * self.side,), np.uint8)

    @property
    def side(self) -> int:
        """Tiles along one side of the window."""
        return 2 * self.vision + 1

    @property
    def height(self) -> int:
        """Rows and columns with their margins, in which the window may reach beyond the maze."""
        return self.size + 2 * self.vision

    @property
    def words(self) -> int:
        """Words in a row of tiles with its margins."""
        return 2 if self.height > 32 else 1

    def _is_wall(self, walls: Array, row: Array, column: Array) -> Array:
        bit = column + self.vision
        word = walls[(bit >> 5) * self.height + row + self.vision]
        return (word >> jnp.uint32(bit & 31)) & jnp.uint32(1) == 1

    def _carve(self, walls: Array, row: Array, column: Array) -> Array:
        bit = column + self.vision
        i = (bit >> 5) * self.height + row + self.vision
        return walls.at[i].set(walls[i] & ~(jnp.uint32(1) << jnp.uint32(bit & 31)))

    def _shift(self, rows: Array, count: Array) -> Array:
        """Rows of tiles, uint32 (words, n), without their first `count` tiles: the next 32, uint32 (n,)."""
        if self.words == 1:
            return rows[0] >> jnp.uint32(count)
        low = jnp.where(count < 32, rows[0], rows[1])
        high = jnp.where(count < 32, rows[1], jnp.uint32(0))
        count = jnp.uint32(count & 31)
        return (low >> count) | (high << jnp.uint32(1) << (jnp.uint32(31) - count))

    def _at_goal(self, state: State) -> Array:
        return (state.row == self.size - 2) & (state.column == self.size - 2)

    def _time_limit(self) -> Array:
        return jnp.where(self.max_steps > 0, self.max_steps, 2 * self.size * self.size)

    def _grow(self, stream: Array, walls: Array) -> tuple[Array, Array]:
        """Growing tree: each cell joins the list of active cells once and leaves it once."""
        cells = (self.size // 2) ** 2  # the tiles at odd rows and columns
        last = self.size - 2
        active = jnp.full(cells, 1 << 8 | 1, jnp.uint16)  # row << 8 | column
        walls = self._carve(walls, jnp.int32(1), jnp.int32(1))

        def grow(_: Array, carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            stream, walls, active, count = carry

            # grow from the newest cell, sometimes from any
            stream, anywhere = rng.bernoulli(stream, self.branching)
            stream, any_ = rng.below(stream, count)
            i = jnp.where(anywhere, any_, count - 1)
            cell = jnp.int32(active[i])
            row, column = cell >> 8, cell & 255

            # towards which neighbours? the ones that are still solid
            north = (row > 1) & self._is_wall(walls, row - 2, column)
            east = (column < last) & self._is_wall(walls, row, column + 2)
            south = (row < last) & self._is_wall(walls, row + 2, column)
            west = (column > 1) & self._is_wall(walls, row, column - 2)
            north_east = jnp.int32(north) + jnp.int32(east)
            north_east_south = north_east + jnp.int32(south)
            ways = north_east_south + jnp.int32(west)
            stream, way = rng.below(stream, ways)

            # none: the cell is finished, the newest takes its place in the list
            done = ways == 0
            newest = active[count - 1]

            # carve into one of them
            go_north = north & (way == 0)
            go_east = east & (way == jnp.int32(north))
            go_south = south & (way == north_east)
            go_west = west & (way == north_east_south)
            down = jnp.int32(go_south) - jnp.int32(go_north)
            right = jnp.int32(go_east) - jnp.int32(go_west)
            walls = self._carve(walls, row + down, column + right)
            walls = self._carve(walls, row + 2 * down, column + 2 * right)
            carved = jnp.uint16((row + 2 * down) << 8 | (column + 2 * right))

            place = jnp.where(done, i, count)
            active = active.at[place].set(jnp.where(done, newest, carved))
            return stream, walls, active, count + jnp.where(done, -1, 1)

        carry = stream, walls, active, jnp.int32(1)
        stream, walls, _, _ = lax.fori_loop(0, 2 * cells - 1, grow, carry)
        return stream, walls

    def init(self, stream: Array) -> State:
        # a maze, carved into solid tiles
        stream, world = rng.level(stream, self.levels, self.first_level)
        walls = jnp.full(self.words * self.height, SOLID, jnp.uint32)
        _, walls = self._grow(world, walls)

        # the agent in its north-west corner
        return State(
            rng=stream,
            walls=walls,
            row=jnp.int32(1),
            column=jnp.int32(1),
            heading=jnp.int32(EAST),
            steps=jnp.int32(0),
        )

    def transition(self, state: State, action: Array) -> tuple[State, Outcome]:
        # turn, then walk unless a wall is in the way
        heading = jnp.where(action == STAY, state.heading, (state.heading + action - FORWARD) & 3)
        row, column = state.row + _down(heading), state.column + _right(heading)
        walks = (action != STAY) & ~self._is_wall(state.walls, row, column)
        state = state.replace(
            row=jnp.where(walks, row, state.row),
            column=jnp.where(walks, column, state.column),
            heading=heading,
            steps=state.steps + 1,
        )

        # is this the goal, or has time run out?
        at_goal = self._at_goal(state)

        return state, Outcome(
            reward=jnp.where(at_goal, 1.0, 0.0),
            terminated=at_goal,
            truncated=~at_goal & (state.steps >= self._time_limit()),
        )

    def observe(self, state: State) -> Array:
        vision, side = self.vision, self.side
        turned = (state.heading == EAST) | (state.heading == WEST)

        # the rows around the agent from the window's left edge on, upside down when it looks south or west
        walls = state.walls.reshape(self.words, self.height)
        rows = lax.dynamic_slice(walls, (jnp.int32(0), state.row), (self.words, side))
        rows = self._shift(rows, state.column)
        upside_down = (state.heading == SOUTH) | (state.heading == WEST)
        rows = jnp.where(upside_down, rows[::-1], rows)

        # each column's bit in them, mirrored when it looks east or south
        mirrored = (state.heading == EAST) | (state.heading == SOUTH)
        bits = jnp.uint32(1) << jnp.arange(side, dtype=jnp.uint32)
        bits = jnp.where(mirrored, bits[::-1], bits)

        # walls; looking east or west, rows and columns are exchanged
        rows, bits = jnp.where(turned, bits, rows), jnp.where(turned, rows, bits)
        wall = (rows[:, None] & bits[None, :]) != 0

        # the goal, if it is in sight
        south = self.size - 2 - state.row
        east = self.size - 2 - state.column
        i = vision + jnp.where(upside_down, -south, south)
        j = vision + jnp.where(mirrored, -east, east)
        in_row = jnp.arange(side) == jnp.where(turned, j, i)
        in_column = jnp.arange(side) == jnp.where(turned, i, j)
        goal = in_row[:, None] & in_column[None, :]

        tiles = jnp.where(goal, jnp.uint8(GOAL), jnp.where(wall, jnp.uint8(WALL), jnp.uint8(EMPTY)))
        return tiles.reshape(side * side)

    def score(self, state: State) -> Array:
        return jnp.float32(self._at_goal(state))

    def render(self, state: State) -> Array:
        pixels = MAX_PIXELS // self.size  # of a tile's side
        tile = jnp.arange(self.size)

        # the maze, dimmed outside the window
        row, column = tile[:, None], tile[None, :]
        walls = self._is_wall(state.walls, row, column)
        goal = (row == self.size - 2) & (column == self.size - 2)
        picture = jnp.where(walls[..., None], jnp.float32(WALL_COLOUR), jnp.float32(FLOOR_COLOUR))
        picture = jnp.where(goal[..., None], jnp.float32(GOAL_COLOUR), picture)
        seen = (jnp.abs(row - state.row) <= self.vision) & (jnp.abs(column - state.column) <= self.vision)
        picture = picture * jnp.where(seen | goal, 1.0, UNSEEN)[..., None]
        picture = picture.repeat(pixels, 0).repeat(pixels, 1)

        # the agent, a wedge that points in its heading: distances from its tile's centre in half tiles
        x = (2 * jnp.arange(self.size * pixels) + 1).astype(jnp.float32) / pixels - 1
        y = x[:, None] - 2 * state.row.astype(jnp.float32)
        x = x[None, :] - 2 * state.column.astype(jnp.float32)
        down, right = jnp.float32(_down(state.heading)), jnp.float32(_right(state.heading))
        ahead, aside = y * down + x * right, jnp.abs(y * right - x * down)
        agent = (ahead > -0.7) & (aside < 0.5 * (0.8 - ahead))
        picture = jnp.where(agent[..., None], jnp.float32(AGENT_COLOUR), picture)

        # the time left
        left = 1 - state.steps.astype(jnp.float32) / self._time_limit().astype(jnp.float32)
        width = self.size * pixels
        lit = (jnp.arange(width, dtype=jnp.float32) < left * width)[None, :] & (jnp.arange(BAR) >= BAR // 2)[:, None]
        bar = jnp.where(lit[..., None], jnp.float32(AGENT_COLOUR), jnp.float32(FLOOR_COLOUR) * UNSEEN)
        return jnp.concatenate([picture, bar]).astype(jnp.uint8)

    variants = ({"size": 5, "max_steps": 1}, {"size": 23}, {"size": 47, "vision": 8})

    def player(self, state: State, stream: Array) -> Array:
        # follow the left wall, which leads through any perfect maze: the first way that is open
        turns = jnp.array([LEFT, FORWARD, RIGHT, BACK], jnp.int32)
        heading = (state.heading + turns - FORWARD) & 3
        wall = self._is_wall(state.walls, state.row + _down(heading), state.column + _right(heading))
        follow = turns[jnp.argmin(wall)]

        # sometimes act at random; one episode in eight is played so until its time limit. The
        # stream of the state selects them: it does not change after `init`
        stream, slip = rng.bernoulli(stream, 0.1)
        stream, anything = rng.below(stream, 5)
        ramble = (state.rng[0] & jnp.uint32(7)) == 0
        return jnp.where(slip | ramble, anything, follow)

    def events(self, state: State, action: Array, next_state: State) -> dict[str, Array]:
        walked = (state.row != next_state.row) | (state.column != next_state.column)
        heading = next_state.heading
        at_goal = self._at_goal(next_state)
        around = jnp.arange(4)
        walls = self._is_wall(next_state.walls, next_state.row + _down(around), next_state.column + _right(around))
        num_walls = walls.sum(dtype=jnp.int32)
        in_sight = (next_state.row >= self.size - 2 - self.vision) & (next_state.column >= self.size - 2 - self.vision)
        events = {
            "goal": at_goal,
            "out_of_time": ~at_goal & (next_state.steps >= self._time_limit()),
            "stay": action == STAY,
            "bump": (action != STAY) & ~walked,
            "dead_end": walked & (num_walls == 3),
            "crossing": walked & (num_walls == 0),
        }
        headings = {"north": NORTH, "east": EAST, "south": SOUTH, "west": WEST}
        turns = {"forward": FORWARD, "right": RIGHT, "back": BACK, "left": LEFT}
        for name, way in headings.items():
            events[f"goal_in_sight_{name}"] = in_sight & ~at_goal & (heading == way)
            for turn, taken in turns.items():
                events[f"{turn}_{name}"] = walked & (action == taken) & (heading == way)
        return events
