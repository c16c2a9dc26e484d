"""Robots bring the shelves of a warehouse to a goal and back. Twin of envs_c/rware.h."""

import functools
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Composite, Discrete

STAY, FORWARD, TURN_LEFT, TURN_RIGHT, LOAD = range(5)

# a robot's facing, clockwise
UP, RIGHT, DOWN, LEFT = range(4)
FACINGS = 4

# what a robot carries
NOTHING, SHELF, REQUESTED, DELIVERED = range(4)
LOADS = 4

# a cell as it is observed: a place is empty, or a shelf stands there, or a requested one
OUTSIDE, LANE, PLACE, STANDING, WANTED, GOAL = range(6)

# a robot as it is observed: + its facing seen from the own one
NO_ROBOT = 0
EMPTY_ROBOT = 1
LOADED_ROBOT = EMPTY_ROBOT + FACINGS


class Layout(NamedTuple):
    name: str
    good_deliveries: int  # of each robot in 500 steps, a perf of 1
    cells: tuple[str, ...]  # as they are observed when all shelves stand, without robots

    def words(self, *kinds: int) -> np.ndarray:
        """Per row the bits of the columns where one of these is, uint32 (height,)."""
        return np.array([sum(1 << x for x, c in enumerate(row) if int(c) in kinds) for row in self.cells], np.uint32)

    @property
    def goals(self) -> list[tuple[int, int]]:
        """Their rows and columns."""
        return [(y, x) for y, row in enumerate(self.cells) for x, c in enumerate(row) if int(c) == GOAL]


# rows of the larger ones
LANES, BLOCKS, GOAL_AND_BLOCK = "11111111111111111111", "11333333331333333331", "51111111111333333331"
LAYOUTS = (
    Layout("tiny", 15, ("1111111111", *("1331111331",) * 8, "1111111111", "1111551111")),
    Layout("small", 8, (LANES, BLOCKS, BLOCKS, LANES, *(GOAL_AND_BLOCK,) * 2, LANES, BLOCKS, BLOCKS, LANES)),
    Layout(
        "medium",
        6,
        (*(LANES, BLOCKS, BLOCKS) * 2, LANES, *(GOAL_AND_BLOCK,) * 2, *(LANES, BLOCKS, BLOCKS) * 2, LANES),
    ),
)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    empty: Array  # uint32 (height,), bit c: the place in column c of this row has no shelf
    requested: Array  # uint32 (height,), bit c: the shelf there is requested
    row: Array  # int32 (agents,), of each robot
    column: Array  # int32 (agents,)
    facing: Array  # int32 (agents,)
    load: Array  # int32 (agents,), what it carries
    delivered: Array  # int32 (agents,), shelves that it brought to a goal
    steps: Array  # int32 (), since the world began


class Seen(PyTreeNode):
    # arrays; in the space, a Box each
    window: Any  # int8 (2 vision + 1, 2 vision + 1, 2), what stands around the robot, and the robots there
    numbers: Any  # float32 (12,), its place, the way to the nearest goal, its facing, its load


class Rware(Env[State]):
    """Robots bring the shelves of a warehouse to a goal and back.

    A few shelves are requested at a time. A robot without a load can go under shelves, lift one, bring it to a goal
    cell and put it down in any empty place. All move at once; those that block each other wait. The `layout` is one
    of three: 0 tiny, 1 small, 2 medium.

    Observation: window int8 (2 vision + 1, 2 vision + 1, 2), numbers float32 (12,) per robot.
        window: the cells around the robot, itself in the middle, and what is ahead above. Of each cell first what
        stands there: 0 outside, 1 lane, 2 empty place, 3 shelf, 4 requested shelf, 5 goal. Then the robot: 0 none or
        itself, 1 to 4 one without a load, that faces the same way, to the right, back, to the left, 5 to 8 the same
        with a load.
        numbers: its row and its column; how far ahead and to its right the nearest goal is; all divided by the longer
        side of the warehouse. 1 for its facing: up, right, down, left. 1 for its load: nothing, a shelf, a requested
        one, one that it has delivered.
    Action: Discrete(5): stay, forward, turn left, turn right, lift the shelf above or put down the own one.
    Reward: `load_reward` for lifting a requested shelf, and minus that for putting it back; `deliver_reward` for
        bringing it to a goal; `return_reward` for putting it down after that.
    Ends: the world is reset after `max_steps`, which truncates all.
    Score: shelves that all robots together brought to a goal; perf is its share of a good number, at most 1.
    Differences from PufferLib: any shelf can be lifted and put back; a shelf is delivered when it comes to the
        goal; carried shelves do not stand on the floor; all robots nearby are seen; the window turns with the robot.
    """

    multi_agent = True
    cheap_init = False

    layout: int = static(default=0, minimum=0, maximum=2)  # number of the warehouse in LAYOUTS
    agents: int = static(default=4, minimum=1, maximum=16)  # robots
    requests: int = static(default=4, minimum=1, maximum=64)  # shelves requested at a time
    vision: int = static(default=1, minimum=1, maximum=3)  # cells seen in each direction
    load_reward: float = param(default=0.5)
    deliver_reward: float = param(default=0.5)
    return_reward: float = param(default=1.0)
    max_steps: int = param(default=500, minimum=1)  # steps of the world before it is reset
    levels: int = param(default=0, minimum=0)  # number of fixed starts, of which each world has one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    action_space = Discrete(5)

    def __post_init__(self) -> None:
        super().__post_init__()
        places = "".join(self.hall.cells).count(str(STANDING))
        if self.agents + self.requests > places:
            raise ValueError(
                f"Rware.requests is {self.requests}; requests + agents ({self.agents}) must be at most {places}, "
                f"the shelves of layout {self.layout}"
            )

    @property
    def num_agents(self) -> int:
        return self.agents

    @property
    def observation_space(self) -> Composite:
        side = 2 * self.vision + 1
        return Composite(
            Seen, window=Box(0, LOADED_ROBOT + LEFT, (side, side, 2), np.int8), numbers=Box(-1.0, 1.0, (12,))
        )

    @property
    def hall(self) -> Layout:
        return LAYOUTS[self.layout]

    @property
    def width(self) -> int:
        return len(self.hall.cells[0])

    @property
    def height(self) -> int:
        return len(self.hall.cells)

    @property
    def places(self) -> Array:
        """The words of the places for shelves, uint32 (height,)."""
        return jnp.asarray(self.hall.words(STANDING))

    def _step(self, facing: Array) -> tuple[Array, Array]:
        """Cells down and to the right of a step."""
        return jnp.int32(facing == DOWN) - jnp.int32(facing == UP), jnp.int32(facing == RIGHT) - jnp.int32(
            facing == LEFT
        )

    def _is_set(self, words: Array, row: Array, column: Array) -> Array:
        """Is the bit of a cell set? For each of the rows and columns, int32 (n,)."""
        at = jnp.arange(self.height, dtype=jnp.int32)[None] == row[:, None]
        word = jnp.where(at, words[None], jnp.uint32(0)).sum(1, dtype=jnp.uint32)
        return (word >> jnp.uint32(column)) & jnp.uint32(1) == 1

    def _words(self, row: Array, column: Array, chosen: Array) -> Array:
        """The words that have the bits of these cells, uint32 (height,); the chosen ones differ."""
        at = (jnp.arange(self.height, dtype=jnp.int32)[:, None] == row[None]) & chosen[None]
        return jnp.where(at, (jnp.uint32(1) << jnp.uint32(column))[None], jnp.uint32(0)).sum(1, dtype=jnp.uint32)

    def _pick(self, stream: Array, words: Array) -> tuple[Array, Array, Array]:
        """A uniformly random one of the bits that are set: the stream, its row and its column."""
        # how many there are, and which one
        count = jnp.int32(lax.population_count(words))
        stream, k = rng.below(stream, count.sum())

        # its row and column
        before = jnp.cumsum(count)
        row = (before <= k).sum(dtype=jnp.int32)
        here = jnp.arange(self.height, dtype=jnp.int32) == row
        k = k - jnp.where(here, before - count, 0).sum(dtype=jnp.int32)
        word = jnp.where(here, words, jnp.uint32(0)).sum(dtype=jnp.uint32)
        up_to = np.array([(2 << x) - 1 for x in range(self.width)], np.uint32)
        column = (jnp.int32(lax.population_count(word & up_to)) <= k).sum(dtype=jnp.int32)
        return stream, row, column

    def _request(self, stream: Array, empty: Array, requested: Array) -> tuple[Array, Array]:
        """Request one more of the shelves that stand in their places: the stream and the requested ones."""
        stream, row, column = self._pick(stream, self.places & ~empty & ~requested)
        return stream, requested | self._words(row[None], column[None], jnp.ones(1, bool))

    def init(self, stream: Array) -> State:
        # a shelf in every place
        empty = jnp.zeros(self.height, jnp.uint32)
        free = jnp.asarray(self.hall.words(LANE, STANDING, GOAL))

        # some are requested
        stream, world = rng.level(stream, self.levels, self.first_level)
        world, requested = lax.fori_loop(
            0,
            self.requests,
            lambda _, carry: self._request(carry[0], empty, carry[1]),
            (world, jnp.zeros(self.height, jnp.uint32)),
        )

        # robots on cells of their own, under shelves too
        def place(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
            world, free = carry
            world, row, column = self._pick(world, free)
            free = free & ~self._words(row[None], column[None], jnp.ones(1, bool))
            world, facing = rng.below(world, FACINGS)
            return (world, free), (row, column, facing)

        _, (row, column, facing) = lax.scan(place, (world, free), length=self.agents)
        return State(
            rng=stream,
            empty=empty,
            requested=requested,
            row=row,
            column=column,
            facing=facing,
            load=jnp.full(self.agents, NOTHING, jnp.int32),
            delivered=jnp.zeros(self.agents, jnp.int32),
            steps=jnp.int32(0),
        )

    def _load(self, s: State, acts: Array) -> tuple[State, Array]:
        """The robots that act lift the shelf above, or put down their own: their rewards, float32 (agents,)."""
        stands = self._is_set(self.places & ~s.empty, s.row, s.column)
        asked = self._is_set(s.requested, s.row, s.column)

        # lift it
        lifts = acts & (s.load == NOTHING) & stands
        lifted = self._words(s.row, s.column, lifts)

        # put it down
        puts = acts & (s.load != NOTHING) & self._is_set(s.empty, s.row, s.column)
        put = self._words(s.row, s.column, puts)
        put_back = self._words(s.row, s.column, puts & (s.load == REQUESTED))

        reward = jnp.where(lifts & asked, self.load_reward, 0.0)
        reward = jnp.where(puts & (s.load == REQUESTED), -self.load_reward, reward)
        reward = jnp.where(puts & (s.load == DELIVERED), self.return_reward, reward)
        load = jnp.where(lifts, jnp.where(asked, REQUESTED, SHELF), jnp.where(puts, NOTHING, s.load))
        empty, requested = (s.empty | lifted) & ~put, (s.requested & ~lifted) | put_back
        return s.replace(empty=empty, requested=requested, load=load), reward

    def _move(self, s: State, action: Array) -> State:
        """The robots that want to, and can, move one cell ahead, all at once."""
        # who wants to: not out of the warehouse, and with a load not where a shelf stands
        down, right = self._step(s.facing)
        row, column = s.row + down, s.column + right
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        blocked = (s.load != NOTHING) & self._is_set(self.places & ~s.empty, row, jnp.clip(column, 0, self.width - 1))
        wants = (action == FORWARD) & inside & ~blocked

        # the robot that is in the way, (agents, agents); two that would swap places stay
        in_the_way = wants[:, None] & (row[:, None] == s.row[None]) & (column[:, None] == s.column[None])
        wants = wants & ~(in_the_way & in_the_way.T).any(1)
        in_the_way = in_the_way & wants[:, None]

        # how long the longest queue behind each robot is: cycles count as the longest
        queue = jnp.zeros(self.agents, jnp.int32)
        for _ in range(self.agents):
            queue = jnp.where(in_the_way, queue[:, None] + 1, 0).max(0)

        # of those that want one cell only the one with the longest queue moves, the first if they are equal
        robot = np.arange(self.agents)
        rival = wants[None] & (row[:, None] == row[None]) & (column[:, None] == column[None])
        first = (queue[None] > queue[:, None]) | ((queue[None] == queue[:, None]) & (robot[None] < robot[:, None]))
        moves = wants & ~(rival & first).any(1)

        # and only if the robot in the way moves too: until nothing changes
        for _ in range(self.agents):
            moves = moves & ~(in_the_way & ~moves[None]).any(1)

        return s.replace(row=jnp.where(moves, row, s.row), column=jnp.where(moves, column, s.column))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        # turn, lift and put down, then move
        turn = jnp.int32(action == TURN_RIGHT) - jnp.int32(action == TURN_LEFT)
        s = s.replace(facing=(s.facing + turn) & (FACINGS - 1))
        s, reward = self._load(s, action == LOAD)
        s = self._move(s, action)

        # a requested shelf at a goal is delivered, and another one is requested
        stream, requested, load, delivered = s.rng, s.requested, s.load, s.delivered
        for row, column in self.hall.goals:
            arrives = (load == REQUESTED) & (s.row == row) & (s.column == column)
            load = jnp.where(arrives, DELIVERED, load)
            delivered = delivered + jnp.int32(arrives)
            reward = reward + jnp.where(arrives, self.deliver_reward, 0.0)
            after, more = self._request(stream, s.empty, requested)
            stream, requested = jnp.where(arrives.any(), after, stream), jnp.where(arrives.any(), more, requested)

        steps = s.steps + 1
        s = s.replace(rng=stream, requested=requested, load=load, delivered=delivered, steps=steps)
        nobody = jnp.zeros(self.agents, bool)
        return s, Outcome(reward, terminated=nobody, truncated=nobody, reset=steps >= self.max_steps)

    def respawn(self, s: State, ended: Array) -> State:
        """Robots end only with their world."""
        return s

    def _seen_from(self, facing: Array, down: Array, right: Array) -> tuple[Array, Array]:
        """How far ahead and to its right a robot sees what is some cells down and to the right."""
        down_ahead, right_ahead = self._step(facing)
        return down * down_ahead + right * right_ahead, right * -down_ahead + down * right_ahead

    def _bits(self, s: State) -> Array:
        """The warehouse as it is observed, without robots: words of the three bits of each cell, uint32 (3, height)."""
        floor, goal = (jnp.asarray(self.hall.words(*kinds)) for kinds in ((LANE, GOAL), (GOAL,)))
        standing = self.places & ~s.empty & ~s.requested
        return jnp.stack([floor | standing, self.places & ~s.requested, goal | s.requested])

    def observe(self, s: State) -> Seen:
        # the warehouse within a margin
        side = 2 * self.vision + 1
        bits = jnp.pad(self._bits(s) << jnp.uint32(self.vision), ((0, 0), (self.vision, self.vision)))

        # the cells around each robot, with up above
        row, column, facing = s.row, s.column, s.facing
        rows = bits[:, row[:, None] + np.arange(side)[None]] >> jnp.uint32(column)[None, :, None]
        one, two, four = jnp.int8(
            (rows[..., None] >> jnp.arange(side, dtype=jnp.uint32)[None, None, None]) & jnp.uint32(1)
        )
        ground = one + 2 * two + 4 * four

        # turned, so that what is ahead is above
        turn = facing[:, None, None]
        turned = jnp.where(turn == RIGHT, ground.swapaxes(1, 2)[:, ::-1], ground)
        turned = jnp.where(turn == DOWN, ground[:, ::-1, ::-1], turned)
        turned = jnp.where(turn == LEFT, ground.swapaxes(1, 2)[:, :, ::-1], turned)

        # the other robots, from ahead on the left
        ahead, beside = self._seen_from(facing[:, None], row[None] - row[:, None], column[None] - column[:, None])
        kind = jnp.where(s.load == NOTHING, EMPTY_ROBOT, LOADED_ROBOT)[None] + (
            (facing[None] - facing[:, None]) & (FACINGS - 1)
        )
        kind = jnp.where(np.eye(self.agents, dtype=bool), NO_ROBOT, kind)
        window = np.arange(side, dtype=np.int32) - self.vision
        there = ahead[:, None, None] == -window[None, :, None, None]
        there = there & (beside[:, None, None] == window[None, None, :, None])
        robots = jnp.where(there, jnp.int8(kind)[:, None, None], jnp.int8(0)).sum(-1, dtype=jnp.int8)

        # the way to the nearest goal
        (down_to, right_to), *others = [(y - row, x - column) for y, x in self.hall.goals]
        for y, x in others:
            nearer = jnp.abs(y) + jnp.abs(x) < jnp.abs(down_to) + jnp.abs(right_to)
            down_to, right_to = jnp.where(nearer, y, down_to), jnp.where(nearer, x, right_to)

        per_cell = 1 / jnp.float32(max(self.height, self.width))
        numbers = jnp.float32(jnp.stack([row, column, *self._seen_from(facing, down_to, right_to)], 1)) * per_cell
        kinds = [x[:, None] == np.arange(n)[None] for x, n in ((facing, FACINGS), (s.load, LOADS))]
        return Seen(
            window=jnp.stack([turned, robots], -1),
            numbers=jnp.concatenate([numbers, *(jnp.float32(kind) for kind in kinds)], 1),
        )

    def score(self, s: State) -> Array:
        """What all have delivered together."""
        return jnp.full(self.agents, jnp.float32(s.delivered.sum(dtype=jnp.int32)))

    def perf(self, s: State) -> Array:
        per_shelf = 1 / jnp.float32(self.hall.good_deliveries * self.agents)
        return jnp.minimum(self.score(s) * per_shelf, 1.0)

    def figures(self, s: State) -> dict[str, Array]:
        return {"delivered_alone": jnp.float32(s.delivered)}

    def render(self, s: State) -> Array:
        # the warehouse
        x = np.arange(self.width, dtype=np.uint32)
        one, two, four = jnp.int32((self._bits(s)[..., None] >> x[None, None]) & jnp.uint32(1))
        picture = jnp.asarray(_cells())[one + 2 * two + 4 * four]

        # robots with their loads
        robots = jnp.asarray(_robots())[s.load, s.facing]
        for i in range(self.agents):
            here = (jnp.arange(self.height) == s.row[i])[:, None] & (x == jnp.uint32(s.column[i]))[None]
            robot = robots[i][None, None]
            picture = jnp.where(here[..., None, None, None] & (robot[..., 3:] > 0), robot[..., :3], picture)
        return picture.swapaxes(1, 2).reshape(self.height * PIXELS, self.width * PIXELS, 3)

    variants: ClassVar = (
        {"layout": 1, "agents": 5, "requests": 3, "vision": 2, "levels": 3, "first_level": 100, "max_steps": 100},
        {"layout": 2, "agents": 3, "requests": 6, "vision": 3},
    )

    def plan(self, s: State) -> Array:
        """What a robot would do that knows where all shelves are: to the nearest one that it needs, and with it."""
        distance, way = (jnp.asarray(x) for x in _ways(self.layout))
        cells = jnp.arange(self.height * self.width, dtype=jnp.int32)
        robot, here = jnp.arange(self.agents), s.row * self.width + s.column

        def spread(words: Array) -> Array:
            bits = (words[:, None] >> jnp.arange(self.width, dtype=jnp.uint32)[None]) & jnp.uint32(1)
            return bits.reshape(-1) == 1

        # without a load to a requested shelf, if possible to one that no other robot is nearer to
        down, right = (cells // self.width)[None] - s.row[:, None], (cells % self.width)[None] - s.column[:, None]
        free = (s.load == NOTHING)[:, None]
        far = jnp.where(free, jnp.abs(down) + jnp.abs(right), FAR)
        first = (robot[None] < robot[:, None])[..., None]
        nearer = (far[None] < far[:, None]) | ((far[None] == far[:, None]) & first)
        nearer = nearer.any(1)
        free_cost = jnp.where(spread(s.requested)[None], far + jnp.where(nearer, FAR, 0), 3 * FAR)

        # with a requested one to a goal, with another one to an empty place
        goals = spread(jnp.asarray(self.hall.words(GOAL)))
        targets = jnp.where((s.load == REQUESTED)[:, None], goals[None], spread(s.empty)[None])
        loaded_cost = jnp.where(targets, distance[here], 3 * FAR)

        target = jnp.int32(jnp.argmin(jnp.where(free, free_cost, loaded_cost), 1))
        row, column = lax.div(target, jnp.int32(self.width)), lax.rem(target, jnp.int32(self.width))
        direct = self._towards(row - s.row, column - s.column)
        heading = jnp.where(s.load == NOTHING, direct, way[here, target])

        # another that does not go the same way is avoided on the right
        down, right = self._step(heading)
        there = here + down * self.width + right
        met = ((there[:, None] == here[None]) & (heading[:, None] != heading[None])).any(1)
        side = (heading + 1) & (FACINGS - 1)
        down, right = self._step(side)
        row, column = s.row + down, s.column + right
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        stands = self._is_set(self.places & ~s.empty, row, jnp.clip(column, 0, self.width - 1))
        heading = jnp.where(met & inside & ((s.load == NOTHING) | ~stands), side, heading)
        return jnp.where(here == target, LOAD, self._head(s, heading))

    def _towards(self, down: Array, right: Array) -> Array:
        """The facing that shortens the longer of two distances."""
        vertical, horizontal = jnp.where(down > 0, DOWN, UP), jnp.where(right > 0, RIGHT, LEFT)
        return jnp.where(jnp.abs(down) > jnp.abs(right), vertical, horizontal)

    def _head(self, s: State, heading: Array) -> Array:
        """The action that turns the robots to a heading, or moves them if they have it."""
        turn = (heading - s.facing) & (FACINGS - 1)
        return jnp.where(turn == 0, FORWARD, jnp.where(turn == 3, TURN_LEFT, TURN_RIGHT))

    def player(self, s: State, stream: Array) -> Array:
        # by plan, with some random actions; some lift any shelf, some go round in circles in the middle, some play at
        # random
        style = s.rng[0] % jnp.uint32(8)
        _, drawn = rng.each(stream, 2 * self.agents)
        chance, anything = rng.unit(drawn[: self.agents]), jnp.int32(rng.unit(drawn[self.agents :]) * 5)
        planned = self.plan(s)
        planned = jnp.where(
            (style == 1) & (s.load == SHELF), self.plan(s.replace(load=s.load * 0 + REQUESTED)), planned
        )
        down, right = self.height // 2 - 1 - s.row, 4 - s.column
        middle = (down >= -1) & (down <= 0) & (right >= -1) & (right <= 0)
        round_about = jnp.where(down == 0, jnp.where(right == 0, RIGHT, DOWN), jnp.where(right == 0, UP, LEFT))
        circling = self._head(s, jnp.where(middle, round_about, self._towards(down, right)))
        planned = jnp.where(style == 2, circling, planned)
        random = chance < jnp.where(style == 0, 1.0, jnp.where(style == 2, 0.01, 0.15))
        lifts = (style == 1) & (chance > 0.9)
        return jnp.where(random, anything, jnp.where(lifts, LOAD, planned))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        n, load, acts = next_state, s.load, action == LOAD
        down, right = self._step(s.facing)
        row, column = s.row + down, s.column + right
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        shelves = self.places & ~s.empty
        shelf_ahead = inside & self._is_set(shelves, row, jnp.clip(column, 0, self.width - 1))
        shelf_here, asked = self._is_set(shelves, s.row, s.column), self._is_set(s.requested, s.row, s.column)
        drives, moved = (action == FORWARD) & inside, (n.row != s.row) | (n.column != s.column)
        ahead = (row[:, None] == s.row[None]) & (column[:, None] == s.column[None])
        follows = ahead & moved[:, None] & moved[None]
        twice = (follows[:, :, None] & follows[None]).any(1)
        four_times = (twice[:, :, None] & twice[None]).any(1)
        swap = ahead & ahead.T & drives[:, None] & drives[None]
        stopped = drives & ~moved & ~((load != NOTHING) & shelf_ahead) & ~swap.any(1)
        robot = jnp.arange(self.agents)
        contest = (row[:, None] == row[None]) & (column[:, None] == column[None]) & (robot[:, None] < robot[None])
        contest = contest & drives[None]
        contest = contest & (drives & (stopped | moved))[:, None]  # the first of two could go as well
        lifted, put = (load == NOTHING) & (n.load != NOTHING), (load != NOTHING) & (n.load == NOTHING)
        delivered = (n.delivered - s.delivered).sum()
        at_goal = self._is_set(jnp.asarray(self.hall.words(GOAL)), n.row, n.column)
        return {
            "stays": (action == STAY).any(),
            "turns left": (action == TURN_LEFT).any(),
            "turns right": (action == TURN_RIGHT).any(),
            "moves to a free cell": (moved & ~ahead.any(1)).any(),
            "moves to a cell that another leaves": follows.any(),
            "three move in a row": (twice & ~np.eye(self.agents, dtype=bool)).any(),
            "four move in a circle": (four_times & np.eye(self.agents, dtype=bool)).any(),
            "a swap is refused": swap.any(),
            "a robot that stays is in the way": (stopped[:, None] & ahead & ~drives[None]).any(),
            "a robot that is stopped is in the way": (stopped[:, None] & ahead & (drives & ~moved)[None]).any(),
            "the first of two goes": (contest & moved[:, None] & ~moved[None]).any(),
            "the second goes as its queue is longer": (contest & ~moved[:, None] & moved[None]).any(),
            "the wall is ahead": ((action == FORWARD) & ~inside).any(),
            "a shelf stops a robot with a load": (drives & shelf_ahead & (load != NOTHING) & ~moved).any(),
            "a robot goes under a shelf": (moved & shelf_ahead).any(),
            "a robot with a load goes to an empty place": (moved & self._is_set(s.empty, n.row, n.column)).any(),
            "a requested shelf is lifted": (lifted & asked).any(),
            "another shelf is lifted": (lifted & ~asked).any(),
            "nothing to lift": (acts & (load == NOTHING) & ~shelf_here).any(),
            "a requested shelf is put back": (put & (load == REQUESTED)).any(),
            "another shelf is put down": (put & (load == SHELF)).any(),
            "a delivered shelf is put down": (put & (load == DELIVERED)).any(),
            "no place to put a shelf down": (acts & (load != NOTHING) & ~put).any(),
            "a shelf is delivered": delivered > 0,
            "two shelves are delivered at once": delivered > 1,
            "a shelf that is not requested comes to a goal": (moved & at_goal & (load == SHELF)).any(),
            "time limit": n.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        # all robots in a corner of four by four cells anywhere, with any loads, and few steps left
        _, drawn = rng.each(stream, 5 + 3 * self.agents)
        draws = jnp.int32(drawn >> jnp.uint32(8))
        # multiples of an odd number are different cells
        cell = (draws[0] % 16 + (2 * (draws[1] % 8) + 1) * jnp.arange(self.agents, dtype=jnp.int32)) % 16
        load, facing, keeps = draws[5:].reshape(3, self.agents)
        return s.replace(
            row=draws[2] % (self.height - 3) + cell // 4,
            column=draws[3] % (self.width - 3) + cell % 4,
            facing=jnp.where(keeps % 4 == 0, s.facing, facing % FACINGS),
            load=load % 4,
            steps=jnp.maximum(self.max_steps - draws[4] % 3, 0),
        )


# for the scripted player and the picture

FAR = 1000  # a cell that cannot be reached
STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1))  # cells down and to the right, by facing


@functools.cache
def _ways(layout: int) -> tuple[np.ndarray, np.ndarray]:
    """For a robot with a load, from cell c to cell t: steps forward, and the first one's facing, int32 (c, t).

    Goals are entered along the wall and left away from it, so that robots do not meet there.
    """
    hall = LAYOUTS[layout].cells
    height, width = len(hall), len(hall[0])
    kinds = {(y, x): int(cell) for y, row in enumerate(hall) for x, cell in enumerate(row)}
    distance, way = (np.full((height * width, height * width), x, np.int32) for x in (FAR, UP))
    for target, kind in kinds.items():
        t = target[0] * width + target[1]
        distance[t, t] = 0
        reached = [target]
        for y, x in reached:  # grows: breadth first
            for facing in range(FACINGS):
                down, right = STEPS[facing]
                before, beyond, behind = (y - down, x - right), (y + down, x + right), (y - 2 * down, x - 2 * right)
                b = before[0] * width + before[1]
                if before not in kinds or distance[b, t] < FAR or (kinds[y, x] == GOAL and beyond not in kinds):
                    continue
                if kinds[before] == GOAL and kind != GOAL and behind in kinds:
                    continue
                distance[b, t], way[b, t] = distance[y * width + x, t] + 1, facing
                if kinds[before] != STANDING:  # a place can only be the first cell
                    reached.append(before)
    return distance, way


# the picture

PIXELS = 20  # of a cell's side
LANE_COLOUR, PLACE_COLOUR, GOAL_COLOUR = (38, 44, 56), (60, 68, 84), (84, 160, 104)
SHELF_COLOUR, REQUESTED_COLOUR, DELIVERED_COLOUR = (126, 104, 84), (236, 120, 60), (222, 214, 190)
ROBOT_COLOUR, FRONT_COLOUR = (86, 156, 214), (241, 241, 241)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    """How far down and to the right of the middle of a cell each pixel is, from -1 to 1."""
    y, x = (np.mgrid[:PIXELS, :PIXELS] + 0.5) / PIXELS * 2 - 1
    return y, x


@functools.cache
def _cells() -> np.ndarray:
    """A picture of each kind of cell, uint8 (kinds, PIXELS, PIXELS, 3)."""
    y, x = _grid()
    colours = (LANE_COLOUR, LANE_COLOUR, PLACE_COLOUR, SHELF_COLOUR, REQUESTED_COLOUR, GOAL_COLOUR)
    cells = np.broadcast_to(np.array(colours, np.uint8)[:, None, None], (len(colours), PIXELS, PIXELS, 3)).copy()
    cells[:, np.maximum(np.abs(y), np.abs(x)) > 0.9] = LANE_COLOUR
    return cells


@functools.cache
def _robots() -> np.ndarray:
    """A picture of a robot by load and facing, with whether a pixel belongs to it: (4, 4, PIXELS, PIXELS, 4)."""
    y, x = _grid()
    robots = np.zeros((4, FACINGS, PIXELS, PIXELS, 4), np.uint8)
    for load, colour in ((SHELF, SHELF_COLOUR), (REQUESTED, REQUESTED_COLOUR), (DELIVERED, DELIVERED_COLOUR)):
        robots[load][:, np.maximum(np.abs(y), np.abs(x)) < 0.9] = (*colour, 255)
    for facing in range(FACINGS):
        front_y, front_x = (0.35 * step for step in STEPS[facing])
        robots[:, facing, y**2 + x**2 < 0.65**2] = (*ROBOT_COLOUR, 255)
        robots[:, facing, (y - front_y) ** 2 + (x - front_x) ** 2 < 0.22**2] = (*FRONT_COLOUR, 255)
    return robots
