"""Agents live on a common pool of food that grows only beside food. Twin of envs_c/cpr.h."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Composite, Discrete

UP, DOWN, LEFT, RIGHT, STAY = range(5)

# a cell of the grid
EMPTY, FOOD, LARGE, AGENT, WALL = range(5)

START_HEALTH = 80
MAX_HEALTH = 100
FOOD_HEALTH = 20  # of a piece of food
LARGE_HEALTH = 50  # of a large piece, for each who eats of it
OUT = 0  # the cell of an agent that is out: a corner of the wall

SCALE = 12  # px of the picture per cell
COLOURS = ((24, 30, 42), (96, 176, 96), (230, 170, 60), (90, 150, 230), (86, 98, 124))  # of the tiles
MARGINS = (0, 3, 1, 0, 0)  # px around the tiles
MISSING_COLOUR, WATCHED_COLOUR = (170, 60, 70), (241, 241, 241)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    grid: Array  # int8 (stride * stride,), floor and wall, row by row
    agent: Array  # int32 (agents,), its cell; 0 if it is out
    health: Array  # int32 (agents,), 0 if it is out
    lived: Array  # int32 (agents,), steps
    eaten: Array  # int32 (agents,), pieces of food
    shared: Array  # int32 (agents,), large pieces that it ate of
    steps: Array  # int32 (), since the world began


class Seen(PyTreeNode):
    window: Array  # int8 (2 vision + 1, 2 vision + 1), the agent in the middle
    numbers: Array  # float32 (4,)


class Cpr(Env[State]):
    """Agents live on a common pool of food that grows only beside food.

    One after the other moves, in the order of their numbers; then large pieces are eaten, then food grows.

    Observation: window int8 (2 vision + 1, 2 vision + 1), numbers float32 (4,), per agent.
        The window has the agent in the middle: 0 empty, 1 food, 2 large piece, 3 agent, 4 wall. The numbers:
        health / 100, its row and its column / size, share of the time left. An agent that is out sees zeros.
    Action: Discrete(5): up, down, left, right, stay. An agent walks onto an empty cell, or onto food, which it eats.
        Large pieces, agents and the wall stop it. A large piece is eaten when two agents or more are beside it.
    Reward: `health_reward` per point of health that a meal restores, `waste_reward` per point beyond the 100 that
        an agent can have, `death_reward` for dying.
    Ends: an agent without health is terminated, and out until the world ends: when all are out, or after
        `max_steps`, which truncates the others.
    Score: steps lived; perf is their share of `max_steps`.
    Differences from PufferLib: a meal is worth what it restores; two agents that stay beside a large piece eat it;
        an agent is told its health, its place and the time left; the time limit truncates.
    """

    multi_agent = True
    cheap_init = False

    size: int = static(default=26, minimum=2, maximum=32)  # cells along one side of the floor
    agents: int = static(default=8, minimum=1, maximum=16)
    food: int = static(default=66, minimum=0, maximum=1000)  # pieces at the start
    large_food: int = static(default=13, minimum=0, maximum=1000)  # large pieces at the start
    vision: int = static(default=3, minimum=1, maximum=7)  # cells seen in each direction; the thickness of the wall
    spread: float = param(default=0.016, minimum=0.0, maximum=1.0)  # probability that a cell gets the food it looks at
    large_spread: float = param(default=0.0016, minimum=0.0, maximum=1.0)  # the same of a large piece
    health_reward: float = param(default=0.005)  # per point of health that a meal restores
    waste_reward: float = param(default=-0.01)  # per point that it has beyond what the agent can take
    death_reward: float = param(default=-1.0)
    max_steps: int = param(default=1000, minimum=1)  # steps of the world before it is reset
    levels: int = param(default=0, minimum=0)  # number of fixed worlds, of which each has one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    action_space: ClassVar = Discrete(5)
    variants: ClassVar = (
        {
            "levels": 3,
            "first_level": 100,
            "size": 7,
            "agents": 5,
            "food": 8,
            "large_food": 4,
            "vision": 2,
            "spread": 0.1,
            "large_spread": 0.15,
            "max_steps": 150,
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        things = self.agents + self.food + self.large_food
        if things > self.size * self.size:
            raise ValueError(
                f"Cpr.size is {self.size}, a floor of {self.size * self.size} cells; "
                f"it must have room for agents + food + large_food ({things})"
            )

    @property
    def num_agents(self) -> int:
        return self.agents

    @property
    def observation_space(self) -> Composite:
        side = 2 * self.vision + 1
        return Composite(Seen, window=Box(EMPTY, WALL, (side, side), np.int8), numbers=Box(0.0, 1.0, (4,)))

    @property
    def stride(self) -> int:
        """Cells from one row of the grid to the next."""
        return self.size + 2 * self.vision

    @property
    def beside(self) -> tuple[int, ...]:
        """The four cells beside a cell, from it, in the order of the actions."""
        return -self.stride, self.stride, -1, 1

    @property
    def around(self) -> tuple[int, ...]:
        """The eight cells around a cell, from it."""
        return tuple(row * self.stride + column for row in (-1, 0, 1) for column in (-1, 0, 1) if row or column)

    def init(self, stream: Array) -> State:
        # an empty floor within its wall
        grid = np.pad(np.full((self.size, self.size), EMPTY, np.int8), self.vision, constant_values=WALL).reshape(-1)
        floor = np.flatnonzero(grid == EMPTY).astype(np.int32)

        # a random cell for each
        stream, world = rng.level(stream, self.levels, self.first_level)
        things = np.repeat(np.array([AGENT, LARGE, FOOD], np.int8), [self.agents, self.large_food, self.food])
        _, order = rng.deal(world, jnp.asarray(floor), len(things))

        # agents, then large pieces, then food
        nothing = jnp.zeros(self.agents, jnp.int32)
        return State(
            rng=stream,
            grid=jnp.asarray(grid).at[order[: len(things)]].set(things, unique_indices=True),
            agent=order[: self.agents],
            health=jnp.full(self.agents, START_HEALTH, jnp.int32),
            lived=nothing,
            eaten=nothing,
            shared=nothing,
            steps=jnp.int32(0),
        )

    def grow(self, stream: Array, grid: Array) -> tuple[Array, Array]:
        """An empty cell looks at one of the eight cells around it, and may get a piece of what is there."""
        stream, drawn = rng.each(stream, len(grid))
        first, last = self.vision * self.stride, (self.vision + self.size) * self.stride  # the rows with floor
        drawn, cells = drawn[first:last], grid[first:last]
        chance, way = rng.unit(drawn), jnp.int8(drawn & jnp.uint32(7))
        seen = cells
        for k, cell in enumerate(self.around):
            seen = jnp.where(way == k, grid[first + cell : last + cell], seen)
        grows = (seen == FOOD) & (chance < self.spread) | (seen == LARGE) & (chance < self.large_spread)
        cells = jnp.where((cells == EMPTY) & grows, seen, cells)
        return stream, jnp.concatenate([grid[:first], cells, grid[last:]])

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        alive = s.health > 0
        agents = jnp.arange(self.agents, dtype=jnp.int32)
        step = jnp.array([*self.beside, 0], jnp.int32)[action]

        # one after the other moves onto an empty cell or food: `moved` has a bit for each who has moved so far
        target = jnp.where(alive, s.agent + step, OUT)
        ahead = s.grid[target]
        before = agents[None, :] < agents[:, None]  # who acts earlier
        bit = jnp.int32(1) << agents
        rivals = jnp.where(before & (target[None, :] == target[:, None]), bit, 0).sum(1, dtype=jnp.int32)
        there = jnp.where(before & (s.agent[None, :] == target[:, None]), bit, 0).sum(1, dtype=jnp.int32)
        bare = (ahead <= FOOD) | (there != 0)

        def move(moved: Array, own: tuple[Array, ...]) -> tuple[Array, Array]:
            bit, bare, rivals, there = own
            moves = bare & (rivals & moved == 0) & (there & ~moved == 0)
            return moved | jnp.where(moves, bit, 0), moves

        _, moves = lax.scan(move, jnp.int32(0), (bit, bare, rivals, there))
        agent = jnp.where(moves, target, s.agent)
        eats = moves & (ahead == FOOD)

        # a large piece with two agents or more beside it is eaten by all of them
        beside = jnp.where(alive[:, None], agent[:, None] + jnp.array([self.beside], jnp.int32), OUT)
        away = jnp.abs(beside[:, :, None] - agent[None, None])
        eaters = ((away == 1) | (away == self.stride)).sum(2, dtype=jnp.int32)
        meal = (s.grid[beside] == LARGE) & (eaters >= 2)
        meals = meal.sum(1, dtype=jnp.int32)

        # health: a meal restores it up to the most that there is, and a step takes one point
        food = FOOD_HEALTH * jnp.int32(eats) + LARGE_HEALTH * meals
        restored = jnp.minimum(food, MAX_HEALTH - s.health)
        health = s.health + jnp.where(alive, restored - 1, 0)
        dies = alive & (health == 0)

        # the grid after that
        left = jnp.concatenate([s.agent, agent, jnp.where(meal, beside, OUT).reshape(-1)])
        agent = jnp.where(dies, OUT, agent)
        grid = s.grid.at[left].set(jnp.where(left == OUT, jnp.int8(WALL), jnp.int8(EMPTY)))
        grid = grid.at[agent].set(jnp.where(agent == OUT, jnp.int8(WALL), jnp.int8(AGENT)))
        stream, grid = self.grow(s.rng, grid)

        s = s.replace(
            rng=stream,
            grid=grid,
            agent=agent,
            health=health,
            lived=s.lived + jnp.int32(alive),
            eaten=s.eaten + jnp.int32(eats),
            shared=s.shared + meals,
            steps=s.steps + 1,
        )
        reward = self.health_reward * jnp.float32(restored) + self.waste_reward * jnp.float32(food - restored)
        return s, Outcome(
            reward=reward + self.death_reward * jnp.float32(dies),
            terminated=dies,
            truncated=jnp.zeros(self.agents, bool),
            reset=s.steps >= self.max_steps,
        )

    def respawn(self, s: State, ended: Array) -> State:
        """An agent without health is out until the world ends."""
        return s

    def active(self, s: State) -> Array:
        return s.health > 0

    def observe(self, s: State) -> Seen:
        # an agent that is out sees zeros
        alive = s.health > 0
        side = 2 * self.vision + 1
        per_cell, per_health = 1 / jnp.float32(self.size), 1 / jnp.float32(MAX_HEALTH)
        left = jnp.float32(self.max_steps - s.steps) * (1 / jnp.float32(self.max_steps))
        row = lax.div(s.agent, jnp.int32(self.stride)) - self.vision
        column = lax.rem(s.agent, jnp.int32(self.stride)) - self.vision
        grid = s.grid.reshape(self.stride, self.stride)
        window = jax.vmap(lambda row, column: lax.dynamic_slice(grid, (row, column), (side, side)))(row, column)
        numbers = [
            jnp.float32(s.health) * per_health,
            jnp.float32(row) * per_cell,
            jnp.float32(column) * per_cell,
            jnp.broadcast_to(left, (self.agents,)),
        ]
        return Seen(
            window=jnp.where(alive[:, None, None], window, jnp.int8(0)),
            numbers=jnp.where(alive[:, None], jnp.stack(numbers, -1), 0.0),
        )

    def score(self, s: State) -> Array:
        return jnp.float32(s.lived)

    def perf(self, s: State) -> Array:
        return jnp.float32(s.lived) * (1 / jnp.float32(self.max_steps))

    def figures(self, s: State) -> dict[str, Array]:
        left = ((s.grid == FOOD) | (s.grid == LARGE)).sum(dtype=jnp.int32)
        return {
            "eaten": jnp.float32(s.eaten),
            "food_left": jnp.broadcast_to(jnp.float32(left), (self.agents,)),
            "shared": jnp.float32(s.shared),
        }

    def render(self, s: State) -> Array:
        # food is a small square, a large piece a larger one; an agent is red where health is missing
        inside = slice(self.vision - 1, self.vision + self.size + 1)

        def pixels(cells: Array) -> Array:
            return cells.reshape(self.stride, self.stride)[inside, inside].repeat(SCALE, 0).repeat(SCALE, 1)

        tile = pixels(jnp.int32(s.grid))
        health = pixels(jnp.zeros(len(s.grid), jnp.int32).at[s.agent].max(s.health))
        watched = pixels(jnp.zeros(len(s.grid), bool).at[s.agent[0]].set(s.health[0] > 0))
        within = np.arange(SCALE * (self.size + 2)) % SCALE
        margin = np.minimum(within, SCALE - 1 - within)
        edge = jnp.asarray(np.minimum(margin[:, None], margin[None, :]), jnp.int32)  # px from a cell's border
        above = jnp.asarray(SCALE - within, jnp.int32)[:, None] * (MAX_HEALTH // SCALE) > health
        colour = jnp.array(COLOURS, jnp.uint8)[jnp.where(edge < jnp.array(MARGINS, jnp.int32)[tile], EMPTY, tile)]
        red = (tile == AGENT) & (edge > 0) & above
        colour = jnp.where(red[..., None], jnp.array(MISSING_COLOUR, jnp.uint8), colour)
        return jnp.where((watched & (edge == 0))[..., None], jnp.array(WATCHED_COLOUR, jnp.uint8), colour)

    def player(self, s: State, stream: Array) -> Array:
        # to the nearest food, the first whenever it can, the others if they are hungry, each by its own measure;
        # who is not hungry stays, or goes for large pieces
        agents = jnp.arange(self.agents, dtype=jnp.int32)
        hungry = (agents == 0) | (s.health < 10 * agents)
        wanted = s.grid[None] == jnp.where(hungry, jnp.int8(FOOD), jnp.int8(LARGE))[:, None]
        cell = jnp.arange(len(s.grid), dtype=jnp.int32)

        def apart(a: Array, b: Array) -> tuple[Array, Array]:
            stride = jnp.int32(self.stride)
            return lax.div(b, stride) - lax.div(a, stride), lax.rem(b, stride) - lax.rem(a, stride)

        down, right = apart(s.agent[:, None], cell[None, :])
        far = jnp.where(wanted, jnp.abs(down) + jnp.abs(right), len(s.grid))
        down, right = apart(s.agent, jnp.int32(jnp.argmin(far, 1)))
        towards = jnp.where(
            jnp.abs(down) > jnp.abs(right), jnp.where(down > 0, DOWN, UP), jnp.where(right > 0, RIGHT, LEFT)
        )
        towards = jnp.where(hungry | (agents % 2 == 1), towards, STAY)
        stream, drawn = rng.each(stream, 2 * self.agents)
        random = jnp.int32(rng.unit(drawn[: self.agents]) * 5)
        strays = rng.unit(drawn[self.agents :]) < jnp.where(s.rng[0] % jnp.uint32(8) == 0, 0.5, 0.1)
        return jnp.where(strays | ~wanted.any(1), random, towards)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        n = next_state
        alive, out = s.health > 0, n.health == 0
        target = s.agent + jnp.array([*self.beside, 0], jnp.int32)[action]
        ahead = s.grid[target]
        moved = alive & (n.agent == target) & (action != STAY)
        stands = alive & (n.agent == s.agent)
        ate, meals, dies = n.eaten > s.eaten, n.shared - s.shared, alive & out
        large = (s.grid[n.agent[:, None] + jnp.array([self.beside], jnp.int32)] == LARGE).any(1)
        return {
            "walked onto an empty cell": (moved & (ahead == EMPTY)).any(),
            "stayed": (stands & (action == STAY)).any(),
            "stopped by the wall": (stands & (ahead == WALL)).any(),
            "stopped by a large piece": (stands & (ahead == LARGE)).any(),
            "stopped by an agent": (stands & (ahead == AGENT) & (action != STAY)).any(),
            "followed one that has just left": (moved & (ahead == AGENT)).any(),
            "an earlier one took the cell": (stands & (ahead == EMPTY)).any(),
            "an earlier one took the food": (stands & (ahead == FOOD)).any(),
            "ate": ate.any(),
            "ate more than it needed": (ate & (s.health + FOOD_HEALTH > MAX_HEALTH)).any(),
            "ate with the last health": (ate & (s.health == 1)).any(),
            "two ate of a large piece": (meals > 0).sum() == 2,
            "more than two ate of large pieces": (meals > 0).sum() > 2,
            "alone beside a large piece": (large & (meals == 0)).any(),
            "an agent dies": dies.any(),
            "some are out and others live on": (s.health == 0).any() & ~out.all(),
            "the last one dies": dies.any() & out.all(),
            "food grows": ((n.grid == FOOD) & (s.grid == EMPTY)).any(),
            "food grows where an agent was": ((n.grid == FOOD) & (s.grid == AGENT)).any(),
            "a large piece grows": ((n.grid == LARGE) & (s.grid != LARGE)).any(),
            "the last food is eaten": (n.grid != FOOD).all() & (s.grid == FOOD).any(),
            "time limit": n.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        # a few steps left, health near its bounds, and the living close together among a lot of food
        stream, few = rng.below(stream, 3)
        stream, corner = rng.below(stream, self.size * self.size)
        stream, drawn = rng.each(stream, len(s.grid))
        chance = rng.unit(drawn)
        cell = jnp.arange(len(s.grid), dtype=jnp.int32)
        floor = s.grid != WALL
        row, column = lax.div(cell, jnp.int32(self.stride)), lax.rem(cell, jnp.int32(self.stride))
        far = jnp.abs(row - self.vision - corner // self.size) + jnp.abs(column - self.vision - corner % self.size)
        near = jnp.argsort(jnp.where(floor, jnp.float32(far // 4) + chance, jnp.inf))
        alive = s.health > 0
        agent = jnp.where(alive, jnp.int32(near[: self.agents]), OUT)
        food = jnp.where(chance < 0.3, FOOD, jnp.where(chance < 0.4, LARGE, EMPTY))
        grid = jnp.where(floor, jnp.int8(food), jnp.int8(WALL))
        grid = grid.at[agent].set(jnp.where(alive, jnp.int8(AGENT), jnp.int8(WALL)))
        low = jnp.int32(drawn[: self.agents] % jnp.uint32(4)) + 1
        health = jnp.where(drawn[-self.agents :] % jnp.uint32(2) == 0, low, MAX_HEALTH + 1 - 10 * low)
        return s.replace(
            grid=grid, agent=agent, health=jnp.where(alive, health, 0), steps=jnp.maximum(self.max_steps - few, 0)
        )
