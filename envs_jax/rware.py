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

# a cell as it is observed: a place is empty, or a shelf stands there, or a requested one
OUTSIDE, LANE, PLACE, STANDING, WANTED, GOAL = range(6)

# a robot as it is observed: + its facing seen from the own one
NO_ROBOT = 0
EMPTY_ROBOT = 1
LOADED_ROBOT = EMPTY_ROBOT + FACINGS

# cells down and to the right of a step, by facing
STEP_DOWN, STEP_RIGHT = np.array([-1, 0, 1, 0], np.int32), np.array([0, 1, 0, -1], np.int32)


class Layout(NamedTuple):
    name: str
    good_deliveries: int  # of each robot in 500 steps, a perf of 1
    cells: tuple[str, ...]  # . lane, S place of a shelf, G goal

    def words(self, drawn: str) -> np.ndarray:
        """Per row the bits of the columns where this is drawn, uint32 (height,)."""
        return np.array([sum(1 << x for x, cell in enumerate(row) if cell in drawn) for row in self.cells], np.uint32)

    @property
    def goals(self) -> list[tuple[int, int]]:
        """Their rows and columns."""
        return [(y, x) for y, row in enumerate(self.cells) for x, cell in enumerate(row) if cell == "G"]


LANES, TWO_BLOCKS, GOALS_AND_BLOCK = "." * 20, "..SSSSSSSS.SSSSSSSS.", "G..........SSSSSSSS."
LAYOUTS = (
    Layout("tiny", 10, ("..........", *[".SS....SS."] * 8, "..........", "....GG....")),
    Layout("small", 8, (*[LANES, TWO_BLOCKS, TWO_BLOCKS], *[LANES, GOALS_AND_BLOCK, GOALS_AND_BLOCK], *[LANES, TWO_BLOCKS, TWO_BLOCKS], LANES)),
    Layout("medium", 7, (*[LANES, TWO_BLOCKS, TWO_BLOCKS] * 2, *[LANES, GOALS_AND_BLOCK, GOALS_AND_BLOCK], *[LANES, TWO_BLOCKS, TWO_BLOCKS] * 2, LANES)),
)  # fmt: skip


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    shelves: Array  # uint32 (height,), bit c: a shelf stands in column c of this row
    requested: Array  # uint32 (height,), and is requested
    row: Array  # int32 (agents,), of each robot
    column: Array  # int32 (agents,)
    facing: Array  # int32 (agents,)
    load: Array  # int32 (agents,), what it carries
    delivered: Array  # int32 (agents,), shelves that it brought to a goal
    steps: Array  # int32 (), since the world began


class Seen(PyTreeNode):
    # arrays; in the space, a Box each
    ground: Any  # int8 (side, side), what stands around the robot
    robots: Any  # int8 (side, side), the robots around it
    own: Any  # int8 (2,), its facing and its load
    numbers: Any  # float32 (4,), its row and column; how far ahead and to its right the nearest goal is


class Rware(Env[State]):
    """Robots bring the shelves of a warehouse to a goal and back.

    A few shelves are requested at a time. A robot without a load can go under shelves, lift one, bring it to a goal
    cell and put it down in any empty place. All move at once; those that block each other wait. The `layout` is one
    of three: 0 tiny, 1 small, 2 medium.

    Observation: ground int8 (side, side), robots int8 (side, side), own int8 (2,), numbers float32 (4,) per robot,
        side = 2 vision + 1. The cells around the robot, itself in the middle, and what is ahead above.
        ground: 0 outside, 1 lane, 2 empty place, 3 shelf in its place, 4 requested shelf in its place, 5 goal.
        robots: 0 none, 1 to 4 another without a load, that faces the same way, to the right, back, to the left,
        5 to 8 the same with a load.
        own: its facing, 0 up, 1 right, 2 down, 3 left; its load, 0 nothing, 1 a shelf, 2 a requested one, 3 one that
        it has delivered.
        numbers: its row and its column, and how far ahead and to its right the nearest goal is, all divided by the
        longer side of the warehouse.
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
    vision: int = static(default=2, minimum=1, maximum=5)  # cells seen in each direction
    load_reward: float = param(default=0.5)
    deliver_reward: float = param(default=0.5)
    return_reward: float = param(default=1.0)
    max_steps: int = param(default=500, minimum=1)  # steps of the world before it is reset
    levels: int = param(default=0, minimum=0)  # number of fixed starts, of which each world has one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    action_space = Discrete(5)

    def __post_init__(self) -> None:
        super().__post_init__()
        places = "".join(self.hall.cells).count("S")
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
            Seen(
                ground=Box(OUTSIDE, GOAL, (side, side), np.dtype(np.int8)),
                robots=Box(NO_ROBOT, LOADED_ROBOT + LEFT, (side, side), np.dtype(np.int8)),
                own=Box(0, 3, (2,), np.dtype(np.int8)),
                numbers=Box(-1.0, 1.0, (4,)),
            )
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

    def _is_set(self, words: Array, row: Array, column: Array) -> Array:
        """Is the bit of a cell set? For each of the rows and columns, int32 (n,)."""
        at = jnp.arange(self.height, dtype=jnp.int32) == row[:, None]
        word = jnp.where(at, words, jnp.uint32(0)).sum(1, dtype=jnp.uint32)
        return (word >> jnp.uint32(column)) & jnp.uint32(1) == 1

    def _words(self, row: Array, column: Array, chosen: Array) -> Array:
        """The words that have the bits of these cells, uint32 (height,); the chosen ones differ."""
        at = (jnp.arange(self.height, dtype=jnp.int32)[:, None] == row) & chosen
        return jnp.where(at, jnp.uint32(1) << jnp.uint32(column), jnp.uint32(0)).sum(1, dtype=jnp.uint32)

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

    def _request(self, stream: Array, shelves: Array, requested: Array) -> tuple[Array, Array]:
        """Request one more of the shelves that stand in their places: the stream and the requested ones."""
        stream, row, column = self._pick(stream, shelves & ~requested)
        return stream, requested | self._words(row[None], column[None], jnp.ones(1, bool))

    def init(self, stream: Array) -> State:
        # a shelf in every place
        shelves = jnp.asarray(self.hall.words("S"))
        free = jnp.asarray(self.hall.words(".SG"))

        # some are requested
        stream, world = rng.level(stream, self.levels, self.first_level)
        world, requested = lax.fori_loop(
            0,
            self.requests,
            lambda _, carry: self._request(carry[0], shelves, carry[1]),
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
            shelves=shelves,
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
        is_place = self._is_set(jnp.asarray(self.hall.words("S")), s.row, s.column)
        stands = self._is_set(s.shelves, s.row, s.column)
        asked = self._is_set(s.requested, s.row, s.column)

        # lift it
        lifts = acts & (s.load == NOTHING) & stands
        lifted = self._words(s.row, s.column, lifts)

        # put it down
        puts = acts & (s.load != NOTHING) & is_place & ~stands
        put = self._words(s.row, s.column, puts)
        put_back = self._words(s.row, s.column, puts & (s.load == REQUESTED))

        reward = jnp.where(lifts & asked, self.load_reward, 0.0)
        reward = jnp.where(puts & (s.load == REQUESTED), -self.load_reward, reward)
        reward = jnp.where(puts & (s.load == DELIVERED), self.return_reward, reward)
        load = jnp.where(lifts, jnp.where(asked, REQUESTED, SHELF), jnp.where(puts, NOTHING, s.load))
        shelves, requested = (s.shelves & ~lifted) | put, (s.requested & ~lifted) | put_back
        return s.replace(shelves=shelves, requested=requested, load=load), reward

    def _move(self, s: State, action: Array) -> State:
        """The robots that want to, and can, move one cell ahead, all at once."""
        # who wants to: not out of the warehouse, and with a load not where a shelf stands
        row, column = s.row + jnp.asarray(STEP_DOWN)[s.facing], s.column + jnp.asarray(STEP_RIGHT)[s.facing]
        inside = (row >= 0) & (row < self.height) & (column >= 0) & (column < self.width)
        blocked = (s.load != NOTHING) & self._is_set(s.shelves, row, jnp.clip(column, 0, self.width - 1))
        wants = (action == FORWARD) & inside & ~blocked

        # the robot that is in the way, (agents, agents); two that would swap places stay
        in_the_way = wants[:, None] & (row[:, None] == s.row) & (column[:, None] == s.column)
        wants = wants & ~(in_the_way & in_the_way.T).any(1)
        in_the_way = in_the_way & wants[:, None]

        # how long the longest queue behind each robot is: cycles count as the longest
        queue = jnp.zeros(self.agents, jnp.int32)
        for _ in range(self.agents):
            queue = jnp.where(in_the_way, queue[:, None] + 1, 0).max(0)

        # of those that want one cell only the one with the longest queue moves, the first if they are equal
        robot = np.arange(self.agents)
        rival = wants & (row[:, None] == row) & (column[:, None] == column)
        first = (queue > queue[:, None]) | ((queue == queue[:, None]) & (robot < robot[:, None]))
        moves = wants & ~(rival & first).any(1)

        # and only if the robot in the way moves too: until nothing changes
        for _ in range(self.agents):
            moves = moves & ~(in_the_way & ~moves).any(1)

        return s.replace(row=jnp.where(moves, row, s.row), column=jnp.where(moves, column, s.column))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        # turn, lift and put down, then move
        turn = jnp.where(action == TURN_LEFT, 3, jnp.where(action == TURN_RIGHT, 1, 0))
        s = s.replace(facing=lax.rem(s.facing + turn, jnp.int32(FACINGS)))
        s, reward = self._load(s, action == LOAD)
        s = self._move(s, action)

        # a requested shelf at a goal is delivered, and another one is requested
        stream, requested, load, delivered = s.rng, s.requested, s.load, s.delivered
        for row, column in self.hall.goals:
            arrives = (load == REQUESTED) & (s.row == row) & (s.column == column)
            load = jnp.where(arrives, DELIVERED, load)
            delivered = delivered + jnp.int32(arrives)
            reward = reward + jnp.where(arrives, self.deliver_reward, 0.0)
            after, more = self._request(stream, s.shelves, requested)
            stream, requested = jnp.where(arrives.any(), after, stream), jnp.where(arrives.any(), more, requested)

        steps = s.steps + 1
        s = s.replace(rng=stream, requested=requested, load=load, delivered=delivered, steps=steps)
        nobody = jnp.zeros(self.agents, bool)
        return s, Outcome(reward, terminated=nobody, truncated=nobody, reset=steps >= self.max_steps)

    def respawn(self, s: State, ended: Array) -> State:
        """Robots end only with their world."""
        return s

    def observe(self, s: State) -> Seen:
        # the warehouse within a margin, as words of the three bits of each cell
        hall, side = self.hall, 2 * self.vision + 1
        place, goal, bare = (jnp.asarray(hall.words(drawn)) for drawn in ("S", "G", ".G"))
        bits = jnp.stack([bare | (s.shelves & ~s.requested), place & ~s.requested, goal | s.requested])
        bits = jnp.pad(bits << jnp.uint32(self.vision), ((0, 0), (self.vision, self.vision)))

        # the cells around each robot, with up above
        x = np.arange(side, dtype=np.uint32)
        row, column, facing = s.row, s.column, s.facing
        rows = bits[:, row[:, None] + np.arange(side)] >> jnp.uint32(column)[:, None]
        one, two, four = jnp.int8((rows[..., None] >> x) & jnp.uint32(1))
        ground = one + 2 * two + 4 * four

        # turned, so that what is ahead is above
        turn = facing[:, None, None]
        turned = jnp.where(turn == RIGHT, ground.swapaxes(1, 2)[:, ::-1], ground)
        turned = jnp.where(turn == DOWN, ground[:, ::-1, ::-1], turned)
        turned = jnp.where(turn == LEFT, ground.swapaxes(1, 2)[:, :, ::-1], turned)

        # the other robots, from ahead on the left
        down, right = jnp.asarray(STEP_DOWN), jnp.asarray(STEP_RIGHT)
        right_of = lax.rem(facing + 1, jnp.int32(FACINGS))
        apart_down, apart_right = row - row[:, None], column - column[:, None]
        ahead = apart_down * down[facing][:, None] + apart_right * right[facing][:, None]
        beside = apart_down * down[right_of][:, None] + apart_right * right[right_of][:, None]
        kind = jnp.where(s.load == NOTHING, EMPTY_ROBOT, LOADED_ROBOT) + ((facing - facing[:, None]) & 3)
        kind = jnp.where(np.eye(self.agents, dtype=bool), NO_ROBOT, kind)
        window = np.arange(side, dtype=np.int32) - self.vision
        there = (ahead[:, None, None] == -window[:, None, None]) & (beside[:, None, None] == window[None, :, None])
        robots = jnp.where(there, jnp.int8(kind)[:, None, None], jnp.int8(0)).sum(-1, dtype=jnp.int8)

        # the way to the nearest goal
        (down_to, right_to), *others = [(y - row, x - column) for y, x in hall.goals]
        for y, x in others:
            nearer = jnp.abs(y) + jnp.abs(x) < jnp.abs(down_to) + jnp.abs(right_to)
            down_to, right_to = jnp.where(nearer, y, down_to), jnp.where(nearer, x, right_to)

        per_cell = 1 / jnp.float32(max(self.height, self.width))
        numbers = [
            row,
            column,
            down_to * down[facing] + right_to * right[facing],
            down_to * down[right_of] + right_to * right[right_of],
        ]
        return Seen(
            ground=turned,
            robots=robots,
            own=jnp.int8(jnp.stack([facing, s.load], 1)),
            numbers=jnp.float32(jnp.stack(numbers, 1)) * per_cell,
        )

    def score(self, s: State) -> Array:
        """What all have delivered together."""
        return jnp.full(self.agents, jnp.float32(s.delivered.sum(dtype=jnp.int32)))

    def perf(self, s: State) -> Array:
        per_shelf = 1 / jnp.float32(self.hall.good_deliveries * self.agents)
        return jnp.minimum(self.score(s) * per_shelf, 1.0)

    def figures(self, s: State) -> dict[str, Array]:
        return {"delivered_alone": jnp.float32(s.delivered)}
