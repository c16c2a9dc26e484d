"""Climb a tower of blocks, and move the ones that bar the way. Twin of envs_c/tower_climb.h."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param
from jaxpuffer.spaces import Box, Composite, Discrete

STAY, FORWARD, RIGHT, BACK, LEFT, PUSH, PULL = range(7)
NORTH, EAST, SOUTH, WEST = range(4)
EMPTY, BLOCK, GOAL, OUTSIDE = range(4)

SIZE = 10  # cells along one side of the world
LEVELS = 10  # cells from the ground up
FIRST = 3  # row and column of the first cells, after a margin that the window reaches into
LAST = FIRST + SIZE - 1
STRIDE = 16  # columns in a row, with both margins
COLUMNS = STRIDE * STRIDE
MAX_ROWS = 8
UNSET = -1  # a column that the way does not use

# the window: its side, and its levels; how far it reaches
SIDE = 5
SEEN = 6
AHEAD = 3
ASIDE = 2
BELOW = 2

PER_CELL = np.float32(0.1)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    columns: Array  # int16 (256,), row by row from the north: bit k is set if there is a block on level k
    cell: Array  # int32 (), the climber's column
    height: Array  # int32 (), the level that it is on
    facing: Array  # int32 (), 0 north, 1 east, 2 south, 3 west
    hanging: Array  # int32 (), 1 if it hangs on the block ahead
    goal: Array  # int32 (), column of the goal, a block on level `rows`
    highest: Array  # int32 (), the highest row that it has stood on
    moved: Array  # int32 (), 1 if it has moved a block since it stood there first
    steps: Array  # int32 (), since the episode began


class Seen(PyTreeNode):
    # arrays; in the space, a Box each
    window: Any  # int8 (5, 5, 6), rows from 3 ahead, columns from 2 to the left, levels from 2 below
    numbers: Any  # float32 (7,)


def _down(direction: Array) -> Array:
    """Rows that a step in a direction goes down."""
    return jnp.int32(direction == SOUTH) - jnp.int32(direction == NORTH)


def _right(direction: Array) -> Array:
    """Columns that a step in a direction goes to the right."""
    return jnp.int32(direction == EAST) - jnp.int32(direction == WEST)


def _step(direction: Array) -> Array:
    """From a cell to the next in a direction."""
    return STRIDE * _down(direction) + _right(direction)


def _inside(cell: Array) -> Array:
    row, column = cell // STRIDE, cell % STRIDE
    return (row >= FIRST) & (row <= LAST) & (column >= FIRST) & (column <= LAST)


def _block(column: Array, level: Array) -> Array:
    """Is there a block on a level of a column? On two levels below the ground there is none."""
    return (jnp.int32(column) << 2 >> (level + 2)) & 1 == 1


class TowerClimb(Env[State]):
    """Climb a tower of blocks, and move the ones that bar the way.

    The world has 10 by 10 columns of 10 levels. The climber stands on a block or hangs on the edge of one, and climbs
    one level at a time. A block holds if there is a block below it or below one of its four neighbours; if not, it
    falls. Every episode has a new tower, or one of a fixed set, with a way to the goal.

    Observation: window int8 (5, 5, 6), numbers float32 (7,).
        window: the cells around the climber, turned so that it looks up: rows from 3 ahead to 1 behind, columns
        from 2 to the left to 2 to the right, levels from 2 below to 3 above. 0 empty, 1 block, 2 goal, 3 outside
        the world.
        numbers: how far the goal is ahead, to the right and above / 10; the height / 10; 1 if it hangs; 1 if a block
        has been moved since the last new row; share of the time left.
    Action: Discrete(7): 0 stay, 1 forward, 2 right, 3 back, 4 left, 5 push, 6 pull. Who stands walks, climbs or hangs
        over an edge with 1, and turns with 2, 3, 4. Who hangs climbs with 1, moves to a side with 2 and 4, and lets go
        with 3.
    Reward: `climb_reward` for each new row, `fall_reward` for going down, `illegal_reward` for an action that does
        nothing, `move_reward` for the first block moved since the last new row, `goal_reward`, `death_reward`.
    Ends: terminated on the goal, after a fall to the ground and under a block; truncated after `max_steps`.
    Score: the highest row that the climber has stood on; perf is its share of `rows`. The figure `solved` is 1
        on the goal.
    Differences from PufferLib: towers are made with a way to the goal, in place of a fixed set found by search; push
        and pull are actions, without a grip; the window turns with the climber; moving blocks to and fro is not paid.
    """

    cheap_init = False

    rows: int = param(default=6, minimum=1, maximum=MAX_ROWS)  # from the start to the goal
    puzzles: float = param(default=0.5, minimum=0.0, maximum=1.0)  # probability that a piece of the way has a puzzle
    gaps: float = param(default=0.3, minimum=0.0, maximum=1.0)  # probability that a gap comes before a piece
    clutter: float = param(default=0.3, minimum=0.0, maximum=1.0)  # share of the other columns that have blocks
    climb_reward: float = param(default=0.64)  # for each new row
    fall_reward: float = param(default=-0.16)  # for going down
    illegal_reward: float = param(default=-0.004)  # for an action that does nothing
    move_reward: float = param(default=0.235)  # for the first block moved since the last new row
    goal_reward: float = param(default=1.0)
    death_reward: float = param(default=-1.0)
    max_steps: int = param(default=60, minimum=1)  # steps before truncation
    levels: int = param(default=0, minimum=0)  # number of fixed towers, of which each episode has one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    action_space: ClassVar = Discrete(7)
    observation_space: ClassVar = Composite(
        Seen(window=Box(EMPTY, OUTSIDE, (SIDE, SIDE, SEEN), np.dtype(np.int8)), numbers=Box(-1.0, 1.0, (7,)))
    )

    def _is_goal(self, s: State, cell: Array, level: Array) -> Array:
        return (cell == s.goal) & (level == self.rows)

    def _at_goal(self, s: State) -> Array:
        return self._is_goal(s, s.cell, s.height - 1)

    def _go(self, s: State, direction: Array, column: Array) -> State:
        """To the next cell in a direction, which is free: on the same level, one down, or over the edge to hang there.

        `column` is the one there.
        """
        level = _block(column, s.height - 1)
        hangs = ~level & ~_block(column, s.height - 2)
        return s.replace(
            cell=s.cell + _step(direction),
            height=jnp.where(level, s.height, s.height - 1),
            hanging=jnp.where(hangs, 1, s.hanging),
            facing=jnp.where(hangs, (direction + 2) & 3, s.facing),
        )

    def _forward(self, s: State, here: Array, ahead: Array) -> tuple[State, Array]:
        """Walk, climb or hang over the edge ahead: was it possible?"""
        cell, above = s.cell + _step(s.facing), s.height + 1
        climbs = _block(ahead, s.height)
        goes = self._go(s, s.facing, ahead)

        # onto the block ahead, if there is room above both
        room = (above < LEVELS) & ~_block(ahead, above) & ~_block(here, above)
        legal = _inside(cell) & (room | ~climbs)
        return s.replace(
            cell=jnp.where(legal, cell, s.cell),
            height=jnp.where(legal, jnp.where(climbs, above, goes.height), s.height),
            hanging=jnp.where(legal, jnp.where(climbs, 0, goes.hanging), s.hanging),
            facing=jnp.where(legal & ~climbs, goes.facing, s.facing),
        ), legal

    def _shimmy(self, s: State, direction: Array, beside: Array, corner: Array) -> tuple[State, Array]:
        """Hand over hand to one side: was it possible?"""
        cell = s.cell + _step(direction)
        turns = _block(beside, s.height)  # onto the block there
        along = _block(corner, s.height)  # along the wall
        legal = turns | _inside(cell)
        moves = legal & ~turns

        # round the corner of the block that it hangs on
        around = cell + _step(s.facing)
        return s.replace(
            cell=jnp.where(moves, jnp.where(along, cell, around), s.cell),
            facing=jnp.where(turns, direction, jnp.where(moves & ~along, (direction + 2) & 3, s.facing)),
        ), legal

    def _let_go(self, s: State, here: Array) -> State:
        """Let go: down to the next block, or to the ground, which is level 0."""
        below = jnp.uint32(here) & ((jnp.uint32(1) << jnp.uint32(s.height)) - 1)
        return s.replace(height=31 - jnp.int32(lax.clz(2 * below + 1)), hanging=jnp.int32(0))

    def _push_to(self, s: State, line: Array) -> Array:
        """A push moves the row of blocks ahead: the cell that is filled by it, or 0 if there is none."""
        cells = s.cell + _step(s.facing) * jnp.arange(1, len(line) + 1, dtype=jnp.int32)
        blocks = _block(line, s.height)
        length = jnp.int32(jnp.argmin(blocks))
        in_row = jnp.arange(len(line)) < length
        no_goal = ~(in_row & self._is_goal(s, cells, s.height)).any()
        end = s.cell + _step(s.facing) * (length + 1)
        return jnp.where((length > 0) & no_goal & _inside(end), end, 0)

    def _pull_to(self, s: State, behind: Array, ahead: Array) -> Array:
        """A pull moves the block ahead to where the climber is, who goes back: that cell, or 0 if it cannot."""
        step = _step(s.facing)
        takes = _block(ahead, s.height) & ~self._is_goal(s, s.cell + step, s.height)
        room = _inside(s.cell - step) & ~_block(behind, s.height)
        return jnp.where(takes & room, s.cell, 0)

    def _settle(self, s: State, moved: Array) -> State:
        """If one was moved, blocks fall, all together level by level, until each has one below it or a neighbour."""
        goal = jnp.where(jnp.arange(COLUMNS) == s.goal, jnp.int16(1) << jnp.int16(self.rows), jnp.int16(0))
        held = goal | jnp.int16(1)

        def loose(columns: Array) -> Array:
            around = columns
            for step in (1, -1, STRIDE, -STRIDE):
                around = around | jnp.roll(columns, step)  # the margins are empty
            return columns & ~(around << jnp.int16(1) | held)

        def fall(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            columns, falls = carry
            columns = (columns & ~falls) | (falls >> jnp.int16(1))
            return columns, loose(columns)

        carry = s.columns, jnp.where(moved, loose(s.columns), jnp.int16(0))
        columns, _ = lax.while_loop(lambda carry: (carry[1] != 0).any(), fall, carry)
        return s.replace(columns=columns)

    def _lay(self, s: State, drawn: Array) -> State:
        """A way from the start to the goal: what is not on it stays unset."""
        cells = jnp.arange(COLUMNS)

        # it goes in two directions only, so that it never meets itself, and begins near the corner behind both
        first = drawn[0]
        one = jnp.int32(first & jnp.uint32(3))
        direction = jnp.stack([one, (one + 1 + jnp.int32((first >> jnp.uint32(1)) & jnp.uint32(2))) & 3])
        step = _step(direction)
        start = jnp.where(step > 0, FIRST * step, -LAST * step).sum(dtype=jnp.int32)
        facing = jnp.int32((first >> jnp.uint32(3)) & jnp.uint32(3))
        columns = jnp.where(cells == start, jnp.int16(1), s.columns)

        def piece(carry: tuple[Array, ...], drawn: Array) -> tuple[tuple[Array, ...], None]:
            columns, cell, height, room0, room1 = carry
            left = self.rows + 1 - height
            more = left > 0

            def put(columns: Array, where: Array, cell: Array, levels: Array) -> Array:
                blocks = jnp.int16((1 << levels) - 1)
                return jnp.where(where & (cells == cell), blocks, columns)

            # a gap, and beside it a stone to hang on; each row to come needs a cell
            a = jnp.int32(drawn[0] & jnp.uint32(1))
            ahead, aside = jnp.where(a == 0, step, step[::-1])
            room_ahead, room_aside = jnp.where(a == 0, room0, room1), jnp.where(a == 0, room1, room0)
            gap = more & (rng.unit(drawn[0]) < self.gaps) & (room_ahead >= 2) & (room0 + room1 - 2 >= left)
            columns = put(columns, gap, cell + ahead, jnp.int32(0))
            columns = put(columns, gap, cell + ahead + jnp.where(room_aside > 0, aside, -aside), height)
            columns = put(columns, gap, cell + 2 * ahead, height)
            taken = jnp.where(gap, 2, 0)
            cell = cell + taken * ahead
            room0, room1 = room0 - jnp.where(a == 0, taken, 0), room1 - jnp.where(a == 1, taken, 0)

            # two rows up, with a block to pull out of a wall or to push to a wall; or one, a step
            a = jnp.int32(drawn[1] & jnp.uint32(1))
            push = jnp.int32((drawn[1] >> jnp.uint32(1)) & jnp.uint32(1))
            length = 2 + push
            room_ahead = jnp.where(a == 0, room0, room1)
            puzzle = more & (rng.unit(drawn[1]) < self.puzzles) & (left >= 2) & (room_ahead >= length)
            puzzle = puzzle & (room0 + room1 - length >= left - 2)
            a = jnp.where(puzzle | (room_ahead > 0), a, 1 - a)
            ahead = jnp.where(a == 0, step[0], step[1])
            columns = put(columns, puzzle, cell + ahead, height + push)
            columns = put(columns, puzzle & (push == 1), cell + 2 * ahead, jnp.int32(0))
            taken = jnp.where(puzzle, length, jnp.int32(more))
            cell = cell + taken * ahead
            room0, room1 = room0 - jnp.where(a == 0, taken, 0), room1 - jnp.where(a == 1, taken, 0)
            height = height + jnp.where(puzzle, 2, jnp.int32(more))
            columns = put(columns, more, cell, height)
            return (columns, cell, height, room0, room1), None

        room = jnp.int32(SIZE - 1)  # cells that are left
        carry = columns, start, jnp.int32(1), room, room
        carry, _ = lax.scan(piece, carry, drawn[1:].reshape(MAX_ROWS, 2))
        return s.replace(columns=carry[0], cell=start, height=jnp.int32(1), facing=facing, goal=carry[1])

    def init(self, stream: Array) -> State:
        stream, world = rng.level(stream, self.levels, self.first_level)
        _, drawn = rng.each(world, COLUMNS + 1 + 2 * MAX_ROWS)
        cells = jnp.arange(COLUMNS)
        nothing = jnp.int32(0)
        s = State(
            rng=stream,
            columns=jnp.where(_inside(cells), jnp.int16(UNSET), jnp.int16(0)),
            cell=nothing,
            height=nothing,
            facing=nothing,
            hanging=nothing,
            goal=nothing,
            highest=nothing,
            moved=nothing,
            steps=nothing,
        )
        s = self._lay(s, drawn[COLUMNS:])

        # blocks in some of the columns that the way does not use, up to the goal's level at most
        drawn = drawn[:COLUMNS]
        blocks = 1 + ((jnp.int32(drawn & jnp.uint32(255)) * self.rows) >> 8)
        others = jnp.where(rng.unit(drawn) < self.clutter, (1 << blocks) - 1, 0)
        return s.replace(columns=jnp.where(s.columns == UNSET, jnp.int16(others), s.columns))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        # the columns in a line from behind to the edge ahead, and where a turn would lead
        step, turn = _step(s.facing), (s.facing + action - FORWARD) & 3
        cells = jnp.concatenate(
            [step * jnp.arange(-1, SIZE + 1, dtype=jnp.int32), jnp.stack([_step(turn), _step(turn) + step])]
        )
        near = s.columns[jnp.clip(s.cell + cells, 0, COLUMNS - 1)]
        behind, here, ahead, beside, corner = near[0], near[1], near[2], near[-2], near[-1]
        stands, turns = s.hanging == 0, (action >= RIGHT) & (action <= LEFT)

        # forward
        forward, possible = self._forward(s, here, ahead)
        goes = action == FORWARD
        legal = ~goes | possible
        new = _where(goes, forward, s)

        # move a block, if it stands
        push, pull = action == PUSH, action == PULL
        to = jnp.where(push, self._push_to(s, near[2:-2]), self._pull_to(s, behind, ahead))
        moved = stands & (push | pull) & (to != 0)
        legal = legal & (moved | ~(push | pull))
        new = _where(moved & pull, self._go(s, (s.facing + 2) & 3, behind), new)
        cells = jnp.arange(COLUMNS)
        bit = jnp.int16(1 << s.height)
        columns = jnp.where(moved & (cells == s.cell + step), s.columns ^ bit, s.columns)
        columns = jnp.where(moved & (cells == to), columns | bit, columns)
        new = self._settle(new.replace(columns=columns), moved)

        # turn; who hangs lets go, or moves to one side
        new = _where(turns & stands, new.replace(facing=turn), new)
        new = _where((action == BACK) & ~stands, self._let_go(new, here), new)
        shimmy, possible = self._shimmy(new, turn, beside, corner)
        aside = turns & (action != BACK) & ~stands
        legal = legal & (possible | ~aside)
        new = _where(aside, shimmy, new)

        # on the goal, on the ground, or under a block?
        at_goal = self._at_goal(new)
        dead = ((new.hanging == 0) & (new.height == 0)) | _block(new.columns[new.cell], new.height)

        # what is new: a row, or a block that was moved
        new_row = new.height - 1 > s.highest
        new_move = moved & (s.moved == 0)
        new = new.replace(
            highest=jnp.where(new_row, new.height - 1, s.highest),
            moved=jnp.where(new_row, 0, s.moved | jnp.int32(moved)),
            steps=s.steps + 1,
        )

        reward = jnp.where(new_row, self.climb_reward, 0.0)
        reward = reward + jnp.where(at_goal, self.goal_reward, 0.0)
        reward = reward + jnp.where(new.height < s.height, self.fall_reward, 0.0)
        reward = reward + jnp.where(new_move, self.move_reward, 0.0)
        reward = reward + jnp.where(legal, 0.0, self.illegal_reward)
        return new, Outcome(
            reward=jnp.where(dead, self.death_reward, reward),
            terminated=dead | at_goal,
            truncated=new.steps >= self.max_steps,
        )

    def observe(self, s: State) -> Seen:
        # the columns around it, and their levels
        ahead, right = _step(s.facing), _step((s.facing + 1) & 3)
        rows = AHEAD - jnp.arange(SIDE, dtype=jnp.int32)[:, None]
        aside = jnp.arange(SIDE, dtype=jnp.int32)[None, :] - ASIDE
        cells = (s.cell + rows * ahead + aside * right).reshape(-1)
        columns = jnp.int32(s.columns[jnp.clip(cells, 0, COLUMNS - 1)])
        seen = jnp.arange(SEEN, dtype=jnp.int32)
        tiles = (columns[:, None] << BELOW >> (s.height + seen)[None, :]) & 1
        tiles = jnp.where(_inside(cells)[:, None], tiles, OUTSIDE)

        # the goal, if it is in sight
        south = s.goal // STRIDE - s.cell // STRIDE
        east = s.goal % STRIDE - s.cell % STRIDE
        down, across = _down(s.facing), _right(s.facing)
        goal_ahead = south * down + east * across
        goal_right = east * -down + south * across
        goal_above = self.rows - s.height
        in_sight = (cells == s.goal)[:, None] & (seen == BELOW + goal_above)[None, :]
        tiles = jnp.where(in_sight, GOAL, tiles)

        numbers = [
            jnp.float32(goal_ahead) * PER_CELL,
            jnp.float32(goal_right) * PER_CELL,
            jnp.float32(goal_above) * PER_CELL,
            jnp.float32(s.height) * PER_CELL,
            jnp.float32(s.hanging),
            jnp.float32(s.moved),
            jnp.float32(self.max_steps - s.steps) * (1 / jnp.float32(self.max_steps)),
        ]
        return Seen(jnp.int8(tiles.reshape(SIDE, SIDE, SEEN)), jnp.stack(numbers))

    def score(self, s: State) -> Array:
        return jnp.float32(s.highest)

    def perf(self, s: State) -> Array:
        return jnp.float32(s.highest) * (1 / jnp.float32(self.rows))

    def figures(self, s: State) -> dict[str, Array]:
        return {"solved": jnp.float32(self._at_goal(s))}


    variants: ClassVar = (
        {"rows": 8, "puzzles": 1.0, "gaps": 1.0, "levels": 3, "first_level": 100},
        {"rows": 1, "puzzles": 0.0, "gaps": 0.0, "clutter": 1.0},
    )

    def scripted(self, s: State, stream: Array) -> Array:
        """What a player does who knows the tricks, looks three cells ahead, and always goes nearer to the goal."""
        facing = (s.facing + jnp.arange(4, dtype=jnp.int32)) & 3  # ahead, right, back, left
        step = _step(facing)
        cells = jnp.clip(s.cell + step[:, None] * jnp.arange(4, dtype=jnp.int32)[None], 0, COLUMNS - 1)
        columns = s.columns[cells]

        def blocks(distance: int, above: int) -> Array:
            return _block(columns[:, distance], s.height + above)

        behind = jnp.roll(columns[:, 1], 2)
        here_free = ~_block(s.columns[s.cell], s.height + 1)
        south, east = s.goal // STRIDE - s.cell // STRIDE, s.goal % STRIDE - s.cell % STRIDE
        towards = south * _down(facing) + east * _right(facing) > 0
        inside = _inside(cells[:, 1])

        # in each direction: a step to climb, a wall, floor to walk on, a gap
        step_up = inside & blocks(1, 0) & ~blocks(1, 1) & here_free
        wall = blocks(1, 0) & blocks(1, 1)
        floor = inside & ~blocks(1, 0) & blocks(1, -1)
        gap = inside & ~blocks(1, 0) & ~blocks(1, -1) & ~blocks(2, 0) & blocks(2, -1)
        pushes = blocks(1, 0) & ~blocks(1, 1) & ~blocks(2, 0) & ~blocks(2, 1) & blocks(3, 0) & blocks(3, 1)
        pulls = wall & ~_block(behind, s.height) & _block(behind, s.height - 1)
        to_wall = floor & blocks(2, 0) & blocks(2, 1)
        stream, drawn = rng.each(stream, 4)
        value = jnp.where(pushes, 6, jnp.where(step_up, 5, jnp.where(pulls, 4, 0)))
        value = jnp.where(to_wall, 3, jnp.where((value == 0) & floor, 2, jnp.where(gap, 1, value)))
        value = jnp.where(towards, 4 * value + jnp.int32(drawn & jnp.uint32(3)), 0)
        best = jnp.int32(jnp.argmax(value))
        ahead = jnp.where(pushes[0], PUSH, jnp.where(~step_up[0] & pulls[0], PULL, FORWARD))
        stand = jnp.where(best == 0, ahead, FORWARD + best)
        stream, anything = rng.below(stream, 7)
        stand = jnp.where((value < 4).all(), anything, stand)

        # who hangs climbs to where the goal is, or goes to a side where there is a block
        stream, side = rng.below(stream, 2)
        _, hesitates = rng.bernoulli(stream, 0.3)
        climbs = towards[0] & ~blocks(1, 1)[0] & here_free & ~hesitates
        right, left = blocks(1, 0)[1], blocks(1, 0)[3]
        to_right = jnp.where(right & left, jnp.where(towards[1] != towards[3], towards[1], side == 1), right)
        to_right = jnp.where(right | left, to_right, side == 1)
        hang = jnp.where(climbs, FORWARD, jnp.where(to_right, RIGHT, LEFT))
        return jnp.where(s.hanging == 1, hang, stand)

    def player(self, s: State, stream: Array) -> Array:
        # by the script, with slips; one episode in four is left to chance, and who hangs then seldom lets go
        stream, anything = rng.below(stream, 7)
        stream, slip = rng.bernoulli(stream, 0.15)
        stream, holds = rng.bernoulli(stream, 0.8)
        anything = jnp.where((anything == BACK) & (s.hanging == 1) & holds, RIGHT, anything)
        style = s.rng[0] & jnp.uint32(3)  # of the episode: the stream of the state does not change
        return jnp.where(slip | (style == 0), anything, self.scripted(s, stream))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        n, step = next_state, _step(s.facing)
        cells = jnp.clip(s.cell + step * jnp.arange(-1, 4, dtype=jnp.int32), 0, COLUMNS - 1)
        behind, here, ahead, second, _ = s.columns[cells]
        hung, hangs = s.hanging == 1, n.hanging == 1
        forward = (action == FORWARD) & ~hung
        shimmy = ((action == LEFT) | (action == RIGHT)) & hung
        let_go = (action == BACK) & hung
        push, pull = (action == PUSH) & ~hung, (action == PULL) & ~hung
        block = _block(ahead, s.height)
        changed = (n.columns != s.columns).any()
        went, turned = n.cell != s.cell, n.facing != s.facing
        still = ~went & ~changed & (n.height == s.height) & ~turned
        crushed = _block(n.columns[n.cell], n.height)
        bits = jnp.int32(lax.population_count(jnp.uint16(n.columns ^ s.columns))).sum(dtype=jnp.int32)
        grounded = (n.height == 0) & ~hangs

        def on_level(of: State) -> Array:
            return ((of.columns >> jnp.int16(s.height)) & jnp.int16(1)).sum(dtype=jnp.int32)

        edge = ~_inside(s.cell + step)
        to_goal = self._is_goal(s, s.cell + step, s.height)
        return {
            "stay": action == STAY,
            "walk": forward & went & (n.height == s.height),
            "climb a step": forward & (n.height > s.height),
            "step down": forward & (n.height < s.height) & ~hangs,
            "over the edge": forward & hangs,
            "at the end of the world": forward & edge & still,
            "no room above the block": forward & block & still & _block(ahead, s.height + 1),
            "no room above the climber": forward & block & still & _block(here, s.height + 1),
            "turn": ~hung & turned & ~went,
            "climb from the edge": hung & (action == FORWARD) & (n.height > s.height),
            "no room to climb from the edge": hung & (action == FORWARD) & still,
            "along the wall": shimmy & went & ~turned,
            "onto the wall beside": shimmy & ~went & turned,
            "round the corner": shimmy & went & turned,
            "no side to go to": shimmy & still,
            "let go and land": let_go & ~grounded,
            "let go and fall to the ground": let_go & grounded,
            "push or pull as it hangs": hung & (action >= PUSH) & still,
            "push": push & changed & ~_block(second, s.height),
            "push several": push & changed & _block(second, s.height),
            "nothing to push": push & ~block,
            "no room to push": push & block & still & ~to_goal,
            "the goal is not pushed": push & to_goal & still,
            "pull and walk": pull & changed & (n.height == s.height),
            "pull and step down": pull & changed & (n.height < s.height) & ~hangs,
            "pull and hang": pull & changed & hangs,
            "nothing to pull": pull & ~block,
            "no room to pull": pull & block & still & _block(behind, s.height),
            "no room to pull at the end of the world": pull & block & still & ~_inside(s.cell - step),
            "the goal is not pulled": pull & to_goal & still,
            "blocks fall": bits > 2,
            "the moved block falls": changed & (on_level(n) < on_level(s)),
            "crushed": crushed,
            "a new row": n.highest > s.highest,
            "a moved block is paid": changed & (s.moved == 0),
            "a moved block is not paid": changed & (s.moved == 1),
            "goal": self._at_goal(n),
            "time limit": n.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        # any blocks, the climber anywhere, often at the end of the world or beside the goal, and few steps left
        stream, drawn = rng.each(stream, COLUMNS)
        cells = jnp.arange(COLUMNS)
        any_blocks = jnp.int16((drawn & (drawn >> jnp.uint32(10)) & jnp.uint32(1023)) | jnp.uint32(1))
        stream, wild = rng.below(stream, 2)
        columns = jnp.where((wild == 1) & _inside(cells), any_blocks, s.columns)
        stream, row = rng.below(stream, SIZE + 4)
        stream, column = rng.below(stream, SIZE + 4)
        stream, height = rng.below(stream, LEVELS)
        stream, facing = rng.below(stream, 4)
        stream, hanging = rng.below(stream, 2)
        stream, beside = rng.below(stream, 8)
        row, column = (FIRST + jnp.clip(x - 2, 0, SIZE - 1) for x in (row, column))
        near_goal = (beside == 0) & _inside(s.goal - _step(facing))
        cell = jnp.where(near_goal, s.goal - _step(facing), row * STRIDE + column)
        height = jnp.where(near_goal, self.rows, height)
        ahead = cell + _step(facing)
        hanging = jnp.where(_inside(ahead), hanging, 0)
        height = jnp.where(hanging == 1, height, jnp.maximum(height, 1))

        # a block to stand on or to hang on, and none where it is
        bit = jnp.int16(1 << height)
        columns = jnp.where(cells == cell, columns & ~bit, columns)
        below = jnp.int16((1 << height) >> 1)
        columns = jnp.where((cells == cell) & (hanging == 0), columns | below, columns)
        columns = jnp.where((cells == ahead) & (hanging == 1), columns | bit, columns)
        columns = jnp.where(cells == s.goal, columns | jnp.int16(1 << self.rows), columns)
        stream, highest = rng.below(stream, MAX_ROWS)
        stream, moved = rng.below(stream, 2)
        _, few = rng.below(stream, 4)
        return s.replace(
            columns=columns,
            cell=cell,
            height=height,
            facing=facing,
            hanging=hanging,
            highest=highest,
            moved=moved,
            steps=jnp.maximum(self.max_steps - few, 0),
        )


def _where(condition: Array, a: State, b: State) -> State:
    return b.replace(
        cell=jnp.where(condition, a.cell, b.cell),
        height=jnp.where(condition, a.height, b.height),
        facing=jnp.where(condition, a.facing, b.facing),
        hanging=jnp.where(condition, a.hanging, b.hanging),
    )
