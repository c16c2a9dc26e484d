"""Climb a tower of blocks, and move the ones that bar the way. Twin of envs_c/tower_climb.h."""

import functools
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
STRETCHES = 4
ORDERS = 0x3569AC  # four bits with two of them set, in all six ways
UNSET = -1  # a column that the way does not use
PUSHED = 2  # blocks in a row that can be pushed

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
    goal: Array  # int32 (), column of the goal, the block that ends the way
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


def _rest(column: Array, level: Array) -> Array:
    """The lowest level from which there is no block down to another level: where something falls to from there."""
    below = jnp.uint32(column) & ((jnp.uint32(1) << jnp.uint32(level)) - 1)
    return 31 - jnp.int32(lax.clz(2 * below + 1))


def _patch(columns: Array, cell: Array, reach: int) -> Array:
    """The columns around a cell, int16 (2 reach + 1, 2 reach + 1)."""
    side = 2 * reach + 1
    world = columns.reshape(STRIDE, STRIDE)
    return lax.dynamic_slice(world, (cell // STRIDE - reach, cell % STRIDE - reach), (side, side))


def _seen(s: State) -> Array:
    """The columns around the climber, turned so that it looks up, int16 (7, 7)."""
    turned = north = _patch(s.columns, s.cell, AHEAD)
    for facing in (EAST, SOUTH, WEST):
        turned = jnp.where(s.facing == facing, jnp.rot90(north, facing), turned)
    return turned


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
    Score: the highest row that the climber has stood on; perf is its share of the way's rows. The figure `solved` is 1
        on the goal.
    Differences from PufferLib: towers are made with a way to the goal, in place of a fixed set found by search; push
        and pull are actions, without a grip; the window turns with the climber; moving blocks to and fro is not paid.
    """

    cheap_init = False

    stretches: int = param(default=3, minimum=1, maximum=STRETCHES)  # of the way to the goal, each two rows up
    puzzles: float = param(default=0.5, minimum=0.0, maximum=1.0)  # probability that a block must be moved in a stretch
    gaps: float = param(default=0.3, minimum=0.0, maximum=1.0)  # probability that a stretch begins with a gap
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
        Seen, window=Box(EMPTY, OUTSIDE, (SIDE, SIDE, SEEN), np.int8), numbers=Box(-1.0, 1.0, (7,))
    )

    @property
    def rows(self) -> Array:
        """Rows from the start to the goal, and the level of that block."""
        return jnp.int32(2 * self.stretches)

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
        return s.replace(height=_rest(here, s.height), hanging=jnp.int32(0))

    def _push_to(self, s: State, line: list[Array]) -> Array:
        """A push moves one block ahead, or two in a row: the cell that is filled by it, or 0 if there is none."""
        to, pushes, cell = jnp.int32(0), jnp.bool_(True), s.cell
        for pushed, column in enumerate(line):
            cell = cell + _step(s.facing)
            pushes = pushes & ~self._is_goal(s, cell, s.height)
            block = _block(column, s.height)
            if pushed > 0:
                to = jnp.where(pushes & ~block & _inside(cell), cell, to)
            pushes = pushes & block
        return to

    def _pull_to(self, s: State, behind: Array, ahead: Array) -> Array:
        """A pull moves the block ahead to where the climber is, who goes back: that cell, or 0 if it cannot."""
        step = _step(s.facing)
        takes = _block(ahead, s.height) & ~self._is_goal(s, s.cell + step, s.height)
        room = _inside(s.cell - step) & ~_block(behind, s.height)
        return jnp.where(takes & room, s.cell, 0)

    def _loose(self, own: Array, around: list[Array], goal: Array) -> Array:
        """Blocks of columns that nothing holds; the goal always holds."""
        held = jnp.where(goal, jnp.int16(1) << jnp.int16(self.rows), jnp.int16(0)) | jnp.int16(1)
        return own & ~((own | around[0] | around[1] | around[2] | around[3]) << jnp.int16(1) | held)

    def _settle(self, s: State, moved: Array, cell: Array) -> State:
        """They fall, all together level by level, if one was moved and there is one in a column or beside it."""
        near = _patch(s.columns, cell, 2)
        around = [near[:3, 1:4], near[2:, 1:4], near[1:4, :3], near[1:4, 2:]]
        places = np.arange(-1, 2, dtype=np.int32)
        goal = s.goal - cell == STRIDE * places[:, None] + places[None, :]
        cross = jnp.abs(places)[:, None] + jnp.abs(places)[None, :] < 2
        falls = (self._loose(near[1:4, 1:4], around, goal) != 0) & cross

        first, last = FIRST * STRIDE, COLUMNS - FIRST * STRIDE
        goal = jnp.arange(first, last) == s.goal

        def loose(columns: Array) -> Array:
            around = [columns[first + step : last + step] for step in (1, -1, STRIDE, -STRIDE)]
            return self._loose(columns[first:last], around, goal)

        def fall(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            columns, falls = carry[0], loose(carry[0])
            fallen = (columns[first:last] & ~falls) | lax.shift_right_logical(falls, jnp.int16(1))
            return jnp.concatenate([columns[:first], fallen, columns[last:]]), (falls != 0).any()

        columns, _ = lax.while_loop(lambda carry: carry[1], fall, (s.columns, moved & falls.any()))
        return s.replace(columns=columns)

    def _lay(self, s: State, drawn: Array) -> State:
        """A way from the start to the goal: what is not on it stays unset."""
        # it goes in two directions, of each two stretches at most, so that it has room and never meets itself
        first = drawn[0]
        order = jnp.int32(ORDERS) >> (4 * jnp.int32(((first >> jnp.uint32(24)) * 6) >> jnp.uint32(8)))
        direction = jnp.int32(first & jnp.uint32(3))
        second = (direction + 1 + jnp.int32((first >> jnp.uint32(1)) & jnp.uint32(2))) & 3
        steps = _step(direction), _step(second)

        # it begins in the corner behind both, or a cell from there
        start = jnp.int32(0)
        for a in range(2):
            start = start + jnp.where(steps[a] > 0, FIRST * steps[a], -LAST * steps[a])
            start = start + jnp.int32((first >> jnp.uint32(3 + a)) & jnp.uint32(1)) * steps[a]
        facing = jnp.int32((first >> jnp.uint32(5)) & jnp.uint32(3))

        # for each stretch
        i = jnp.arange(STRETCHES, dtype=jnp.int32)
        height, turns = 1 + 2 * i, (order >> i) & 1 == 1
        ahead, aside = jnp.where(turns, steps[1], steps[0]), jnp.where(turns, steps[0], steps[1])
        kind, begin = drawn[1::2], drawn[2::2]
        puzzle = rng.unit(kind) < self.puzzles
        push = puzzle & (kind & jnp.uint32(1) == 1)
        floor = (1 << height) - 1
        on_way = i < self.stretches

        # a gap, and beside it a stone to hang on
        has_gap = ~push & (rng.unit(begin) < self.gaps)
        length = jnp.where(on_way, jnp.where(has_gap, 4, jnp.where(push, 3, 2)), 0)
        end = start + (length * ahead).cumsum()
        cell = end - length * ahead
        gap = cell + ahead
        stone = jnp.where(_inside(gap + aside), gap + aside, gap - aside)
        over = on_way & has_gap
        cell = jnp.where(has_gap, gap + ahead, cell)

        # two steps; or a block to pull out of a wall; or one to push over a gap to a wall
        one, nothing = jnp.ones_like(i), jnp.zeros_like(i)
        put = [
            (i == 0, start + nothing, one),
            (over, gap, nothing),
            (over, stone, floor),
            (over, cell, floor),
            (on_way, cell + ahead, jnp.where(puzzle & ~push, floor, 2 * floor + 1)),
            (on_way & push, cell + 2 * ahead, nothing),
            (on_way, end, 4 * floor + 3),
        ]
        cells = jnp.stack([jnp.where(condition, cell, COLUMNS) for condition, cell, _ in put])
        blocks = jnp.stack([jnp.int16(blocks) for *_, blocks in put])
        columns = s.columns.at[cells].set(blocks, mode="drop")
        return s.replace(columns=columns, cell=start, height=jnp.int32(1), facing=facing, goal=end[-1])

    def init(self, stream: Array) -> State:
        stream, world = rng.level(stream, self.levels, self.first_level)
        _, drawn = rng.each(world, COLUMNS + 1 + 2 * STRETCHES)
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
        # the columns around it
        step, turn = _step(s.facing), (s.facing + action - FORWARD) & 3
        near = _seen(s)
        behind, here, ahead = near[AHEAD + 1, AHEAD], near[AHEAD, AHEAD], near[AHEAD - 1, AHEAD]
        beside = jnp.where(action == RIGHT, near[AHEAD, AHEAD + 1], near[AHEAD, AHEAD - 1])
        corner = jnp.where(action == RIGHT, near[AHEAD - 1, AHEAD + 1], near[AHEAD - 1, AHEAD - 1])
        stands, turns = s.hanging == 0, (action >= RIGHT) & (action <= LEFT)

        # forward
        forward, possible = self._forward(s, here, ahead)
        goes = action == FORWARD
        legal = ~goes | possible
        new = _where(goes, forward, s)

        # move a block, if it stands
        push, pull = action == PUSH, action == PULL
        to = jnp.where(
            push,
            self._push_to(s, [near[AHEAD - k, AHEAD] for k in range(1, PUSHED + 2)]),
            self._pull_to(s, behind, ahead),
        )
        moved = stands & (push | pull) & (to != 0)
        legal = legal & (moved | ~(push | pull))
        new = _where(moved & pull, self._go(s, (s.facing + 2) & 3, behind), new)
        # it falls until another one holds it, and then those that it held
        beneath = _patch(s.columns, to, 1)
        beneath = beneath[1, 1] | beneath[0, 1] | beneath[1, 0] | beneath[1, 2] | beneath[2, 1]
        cells = jnp.arange(COLUMNS)
        columns = jnp.where(moved & (cells == s.cell + step), s.columns ^ jnp.int16(1 << s.height), s.columns)
        rest = jnp.int16(1 << _rest(beneath, s.height))
        columns = jnp.where(moved & (cells == to), columns | rest, columns)
        new = self._settle(new.replace(columns=columns), moved, s.cell + step)

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
        # the columns around it, and their levels; a climber that somebody has put outside the world or below it sees
        # nothing of it
        there = _inside(s.cell) & (s.height >= 0)
        columns = jnp.int32(_seen(s)[:SIDE, AHEAD - ASIDE : AHEAD + ASIDE + 1])
        seen = jnp.arange(SEEN, dtype=jnp.int32)[None, None]
        tiles = (columns[..., None] << BELOW >> (s.height + seen)) & 1
        ahead = (AHEAD - jnp.arange(SIDE, dtype=jnp.int32))[:, None]
        right = (jnp.arange(SIDE, dtype=jnp.int32) - ASIDE)[None, :]
        cells = s.cell + ahead * _step(s.facing) + right * _step((s.facing + 1) & 3)
        tiles = jnp.where((there & _inside(cells))[..., None], tiles, OUTSIDE)

        # the goal, if it is in sight
        south = s.goal // STRIDE - s.cell // STRIDE
        east = s.goal % STRIDE - s.cell % STRIDE
        down, across = _down(s.facing), _right(s.facing)
        goal_ahead = south * down + east * across
        goal_right = east * -down + south * across
        goal_above = self.rows - s.height
        in_sight = (there & (cells == s.goal))[..., None] & (seen == BELOW + goal_above)
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
        return Seen(jnp.int8(tiles), jnp.stack(numbers))

    def score(self, s: State) -> Array:
        return jnp.float32(s.highest)

    def perf(self, s: State) -> Array:
        return jnp.float32(s.highest) * (1 / jnp.float32(self.rows))

    def figures(self, s: State) -> dict[str, Array]:
        return {"solved": jnp.float32(self._at_goal(s))}

    def render(self, s: State) -> Array:
        # seen from above a corner, with the goal at the back: turned by a number of quarters
        inside = slice(FIRST, LAST + 1)
        north, west = s.goal // STRIDE < FIRST + SIZE // 2, s.goal % STRIDE < FIRST + SIZE // 2
        quarters = jnp.where(north, jnp.where(west, 0, 1), jnp.where(west, 3, 2))

        def plan(of_cells: Array) -> Array:
            cells = of_cells.reshape(STRIDE, STRIDE)[inside, inside]
            turned = cells
            for k in range(1, 4):
                turned = jnp.where(quarters == k, jnp.rot90(cells, k), turned)
            return jnp.append(jnp.int32(turned).reshape(-1), jnp.int32(0))  # and a column outside

        # the first block that the line of sight through each pixel meets
        column, level, depth, light, ground = (jnp.asarray(x) for x in _lines_of_sight())
        hit = (plan(s.columns)[column] >> level) & 1
        is_hit, first = (hit == 1).any(-1), hit.argmax(-1)

        def at_first(of_line: Array) -> Array:
            return jnp.take_along_axis(jnp.broadcast_to(of_line, hit.shape), first[..., None], -1)

        # it is brighter on higher levels, and darker on its sides and edges
        is_goal = (plan(jnp.arange(COLUMNS) == s.goal)[column] == 1) & (level == self.rows)
        height = at_first(jnp.float32(level)) * (1 / jnp.float32(LEVELS))
        low, high, goal = (_colour(colour) for colour in (LOW_COLOUR, HIGH_COLOUR, GOAL_COLOUR))
        block = jnp.where(at_first(is_goal), goal, low + height * (high - low)) * at_first(light)
        behind = jnp.where(ground[..., None], _colour(GROUND_COLOUR), _colour(SKY_COLOUR))
        picture = jnp.where(is_hit[..., None], block, behind)

        # the climber, and in front of it a dot; paler behind blocks
        where = plan(jnp.arange(COLUMNS) == s.cell).argmax()
        facing = (s.facing - quarters) & 3
        ahead = jnp.float32(jnp.stack([_down(facing), _right(facing), jnp.int32(0)]))
        place = jnp.float32(jnp.stack([where // SIZE, where % SIZE, s.height])) + jnp.float32([0.5, 0.5, 0.45])
        place = place + ahead * 0.2 * jnp.float32(s.hanging)
        in_front = ~is_hit | (place.sum() + 0.7 >= at_first(depth)[..., 0])
        y, x = jnp.arange(PICTURE, dtype=jnp.float32)[:, None], jnp.arange(PICTURE, dtype=jnp.float32)[None, :]
        for colour, radius, at in ((CLIMBER_COLOUR, 0.42, place), (EYE_COLOUR, 0.17, place + ahead * 0.35)):
            right, down = x - PICTURE / 2 - (at[1] - at[0]) * SCALE, y - LEVELS * SCALE - (at[0] + at[1]) * SCALE / 2
            disc = right**2 + (down + at[2] * SCALE) ** 2 < (radius * SCALE) ** 2
            mixed = jnp.where(in_front[..., None], 1.0, 0.4)
            picture = jnp.where(disc[..., None], picture + mixed * (_colour(colour) - picture), picture)

        # the time left
        left = jnp.float32(self.max_steps - s.steps) / jnp.float32(self.max_steps)
        lit = (jnp.arange(PICTURE, dtype=jnp.float32) < left * PICTURE)[None, :, None]
        bar = jnp.where(lit, _colour(CLIMBER_COLOUR), _colour(SKY_COLOUR)).repeat(BAR, 0)
        return jnp.uint8(jnp.concatenate([picture, bar]))

    variants: ClassVar = (
        {"stretches": 4, "puzzles": 0.5, "gaps": 1.0, "levels": 3, "first_level": 100},
        {"stretches": 1, "puzzles": 0.0, "gaps": 0.0, "clutter": 1.0},
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
        behind, here, ahead, second, third = s.columns[cells]
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
            "push one": push & changed & ~_block(second, s.height),
            "push two": push & changed & _block(second, s.height),
            "nothing to push": push & ~block,
            "three in a row": push & still & block & _block(second, s.height) & _block(third, s.height),
            "no room to push at the end of the world": push & block & still & ~_inside(s.cell + 3 * step),
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
        stream, highest = rng.below(stream, 2 * STRETCHES)
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


# the picture

SCALE = 14  # pixels of a block's height; it is twice as wide
PICTURE = 2 * SIZE * SCALE  # of a picture's side
BAR = 6  # pixels, the height of the bar that shows the time left
SKY_COLOUR, GROUND_COLOUR = (16, 20, 28), (70, 34, 30)
LOW_COLOUR, HIGH_COLOUR, GOAL_COLOUR = (90, 98, 150), (220, 214, 190), (80, 220, 110)
CLIMBER_COLOUR, EYE_COLOUR = (255, 150, 50), (40, 20, 10)
TOP_LIGHT, A_LIGHT, B_LIGHT, EDGE_LIGHT = 1.0, 0.8, 0.6, 0.8  # how bright faces are; edges darken them
EDGE = 0.06  # of a block's side


def _colour(colour: tuple[int, int, int]) -> Array:
    return jnp.array([[colour]], jnp.float32)


@functools.cache
def _lines_of_sight() -> tuple[np.ndarray, ...]:
    """What the line of sight through each pixel would meet, from the front to the back, if all were blocks.

    Columns are numbered by a, to the lower left, and b, to the lower right. There are three faces on each level. The
    column of each, int32 (h, w, 30), 100 outside; its level, int32 (1, 1, 30); a + b + height of the point, float32
    (h, w, 30); how bright it is, float32 (h, w, 30); and whether the line ends on the ground, bool (h, w).
    """
    y, x = (np.mgrid[:PICTURE, :PICTURE] + 0.5) / SCALE
    across, down = x - SIZE, y - LEVELS
    a, b = down - across / 2, down + across / 2  # of the point on the ground; both rise with the height
    part_a, part_b = a % 1, b % 1
    a_first = part_a < part_b
    nearer, farther = np.minimum(part_a, part_b), np.maximum(part_a, part_b)
    a_light, b_light = np.where(a_first, A_LIGHT, B_LIGHT), np.where(a_first, B_LIGHT, A_LIGHT)

    # through the top, through a side into the next column, and through another side into the one after: steps in a and
    # b, how far below the top, the light, and where on the face
    faces = (
        (0, 0, 0.0, TOP_LIGHT, part_a, part_b),
        (a_first, ~a_first, nearer, a_light, farther - nearer, 1 - nearer),
        (1, 1, farther, b_light, (nearer - farther) % 1, 1 - farther),
    )
    columns, levels, depths, lights = [], [], [], []
    for level in range(LEVELS - 1, -1, -1):
        for step_a, step_b, below, light, u, v in faces:
            here_a = np.floor(a + level + 1).astype(np.int32) - step_a
            here_b = np.floor(b + level + 1).astype(np.int32) - step_b
            inside = (here_a >= 0) & (here_a < SIZE) & (here_b >= 0) & (here_b < SIZE)
            at_edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) < EDGE
            columns.append(np.where(inside, here_a * SIZE + here_b, SIZE * SIZE))
            levels.append(level)
            depths.append(a + b + 3 * (level + 1 - below))
            lights.append(light * np.where(at_edge, EDGE_LIGHT, 1.0))
    ground = (a >= 0) & (a < SIZE) & (b >= 0) & (b < SIZE)
    return (
        np.stack(columns, -1).astype(np.int32),
        np.array(levels, np.int32)[None, None],
        np.stack(depths, -1).astype(np.float32),
        np.stack(lights, -1).astype(np.float32),
        ground,
    )
