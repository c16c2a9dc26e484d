"""An arena of snakes that eat and grow. Twin of envs_c/snake.h."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Discrete

UP, DOWN, LEFT, RIGHT = range(4)

# a cell of the grid; BODY + i is the body of snake i. Observed: OWN and OTHER
EMPTY, FOOD, CORPSE, WALL, BODY = range(5)
OWN, OTHER = 4, 5

MAX_BODY_CELLS = 4096  # num_snakes * max_length
SPAWN_TRIES = 4  # random cells tried for a snake
FOOD_TRIES = 4  # random cells tried for missing food, each step


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    grid: Array  # int8 (cells,), arena and wall, row by row
    body: Array  # int16 (num_snakes * max_length,), per snake a ring of cells, head at slot `front`
    front: Array  # int32 (num_snakes,)
    head: Array  # int32 (num_snakes,), its cell
    length: Array  # int32 (num_snakes,), cells; of a dead snake, the length at its death
    heading: Array  # int32 (num_snakes,)
    missing_food: Array  # int32 (), pieces eaten and not yet grown again
    steps: Array  # int32 (), since the world began


class Snake(Env[State]):
    """An arena of snakes that eat and grow.

    All move at the same time. Tails are pulled in first, so a cell that a tail leaves is free.

    Observation: int8 ((2 vision + 1)^2,) per snake, row by row, its head in the middle:
        0 empty, 1 food, 2 corpse, 3 wall, 4 its own body, 5 another snake's.
    Action: Discrete(4): up, down, left, right. Turning back is masked for snakes longer
        than one cell, and ignored if played.
    Reward: `food_reward` for food or a corpse, `death_reward` for dying.
    Ends: a snake is terminated on hitting a wall or a body, or head to head (both die);
        it leaves a corpse on every second cell and starts again at once, of length 1. The
        world is reset after `max_steps`, which truncates the others.
    Score: the length, or the length at death; perf is its share of `max_length`.
    Differences from PufferLib: smaller by default, moves are simultaneous, a death
        terminates, own and others' bodies look different, turning back is masked.
    """

    multi_agent = True
    cheap_init = False

    width: int = static(default=32, minimum=4, maximum=64)  # cells, of the arena
    height: int = static(default=32, minimum=4, maximum=64)  # cells
    num_snakes: int = static(default=16, minimum=1, maximum=32)
    num_food: int = static(default=64, minimum=0, maximum=1024)  # pieces of food that the arena keeps
    vision: int = static(default=5, minimum=1, maximum=7)  # cells seen in each direction; the thickness of the wall
    max_length: int = static(default=32, minimum=2, maximum=512)  # cells; a snake of this length does not grow
    food_reward: float = param(default=0.1)
    death_reward: float = param(default=-1.0)
    max_steps: int = param(default=1000, minimum=1)  # steps of the world before it is reset

    def __post_init__(self) -> None:
        super().__post_init__()
        body_cells = self.num_snakes * self.max_length
        if body_cells > MAX_BODY_CELLS:
            raise ValueError(
                f"Snake.max_length is {self.max_length} with {self.num_snakes} snakes; "
                f"num_snakes * max_length must be at most {MAX_BODY_CELLS}"
            )
        if body_cells + self.num_food >= self.width * self.height:
            raise ValueError(
                f"Snake.width * height is {self.width * self.height}; it must be above "
                f"num_snakes * max_length + num_food ({body_cells + self.num_food}), so that there is always room"
            )

    @property
    def num_agents(self) -> int:
        return self.num_snakes

    @property
    def observation_space(self) -> Box:
        return Box(0, 5, ((2 * self.vision + 1) ** 2,), np.int8)

    action_space = Discrete(4)

    @property
    def stride(self) -> int:
        """Cells from one row of the grid to the next."""
        return self.width + 2 * self.vision

    def random_cell(self, stream: Array) -> tuple[Array, Array]:
        """A uniformly random cell of the arena."""
        stream, cell = rng.below(stream, self.width * self.height)
        row, column = lax.div(cell, jnp.int32(self.width)), lax.rem(cell, jnp.int32(self.width))
        return stream, (row + self.vision) * self.stride + column + self.vision

    def respawn(self, s: State, ended: Array) -> State:
        """Reset the snakes that ended, one after the other, each on an empty cell."""

        def one(carry: Any) -> Any:
            waiting, stream, grid, head, heading = carry
            i = jnp.int32(jnp.argmax(waiting))

            # the first empty one of a few random cells, otherwise the first of all cells that a snake may cover
            found = jnp.int32(-1)
            for _ in range(SPAWN_TRIES):
                stream, cell = self.random_cell(stream)
                found = jnp.where((found < 0) & (grid[cell] == EMPTY), cell, found)
            room = jnp.int32(jnp.argmax((grid == EMPTY) | (grid == CORPSE)))
            found = jnp.where(found < 0, room, found)
            stream, new_heading = rng.below(stream, 4)

            grid = grid.at[found].set(jnp.int8(BODY + i))
            this = jnp.arange(self.num_snakes, dtype=jnp.int32) == i[None]
            head, heading = jnp.where(this, found, head), jnp.where(this, new_heading, heading)
            return waiting & ~this, stream, grid, head, heading

        carry = (ended, s.rng, s.grid, s.head, s.heading)
        _, stream, grid, head, heading = lax.while_loop(lambda carry: carry[0].any(), one, carry)
        rings = s.body.reshape(self.num_snakes, self.max_length)
        rings = rings.at[:, 0].set(jnp.where(ended, jnp.int16(head), rings[:, 0]))
        return s.replace(
            rng=stream,
            grid=grid,
            body=rings.reshape(-1),
            front=jnp.where(ended, 0, s.front),
            head=head,
            length=jnp.where(ended, 1, s.length),
            heading=heading,
        )

    def grow_food(self, s: State, tries: int) -> State:
        """Grow food on random cells, if they are empty."""

        def one(_: int, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            stream, grid, missing = carry
            stream, cell = self.random_cell(stream)
            grows = (missing > 0) & (grid[cell] == EMPTY)
            grid = grid.at[cell].set(jnp.where(grows, jnp.int8(FOOD), grid[cell]))
            return stream, grid, missing - jnp.int32(grows)

        stream, grid, missing = lax.fori_loop(0, tries, one, (s.rng, s.grid, s.missing_food))
        return s.replace(rng=stream, grid=grid, missing_food=missing)

    def init(self, stream: Array) -> State:
        # an empty arena within its wall
        arena = jnp.full((self.height, self.width), EMPTY, jnp.int8)
        grid = jnp.pad(arena, self.vision, constant_values=WALL).reshape(-1)

        # snakes and food
        each = jnp.zeros(self.num_snakes, jnp.int32)
        s = State(
            rng=stream,
            grid=grid,
            body=jnp.zeros(self.num_snakes * self.max_length, jnp.int16),
            front=each,
            head=each,
            length=each,
            heading=each,
            missing_food=jnp.int32(self.num_food),
            steps=jnp.int32(0),
        )
        s = self.respawn(s, jnp.ones(self.num_snakes, bool))
        return self.grow_food(s, self.num_food)

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        snakes = jnp.arange(self.num_snakes, dtype=jnp.int32)

        # all turn, and look at the cell ahead; turning back into the neck has no effect
        back = s.heading ^ 1
        heading = jnp.where((s.length == 1) | (action != back), action, s.heading)
        along = jnp.where((heading == UP) | (heading == DOWN), self.stride, 1)
        target = s.head + jnp.where((heading == DOWN) | (heading == RIGHT), along, -along)
        found = s.grid[target]
        edible = (found == FOOD) | (found == CORPSE)
        grows = edible & (s.length < self.max_length)

        # all pull in their tails, except the ones that grow
        slot = s.front - (s.length - 1)
        slot = jnp.where(slot < 0, slot + self.max_length, slot)
        tail = jnp.int32(s.body[snakes * self.max_length + slot])
        grid = s.grid.at[jnp.where(grows, len(s.grid), tail)].set(jnp.int8(EMPTY), mode="drop")

        # a snake that hits a wall, a body or another's head dies
        same = (target[:, None] == target[None, :]) & (snakes[:, None] != snakes[None, :])
        dead = (grid[target] >= WALL) | same.any(1)

        # dead snakes leave a corpse on every second cell of their bodies, by a chessboard pattern
        dead_bits = jnp.where(dead, jnp.uint32(1) << jnp.uint32(snakes), jnp.uint32(0)).sum(dtype=jnp.uint32)
        owner = jnp.uint32(jnp.maximum(grid, jnp.int8(BODY)) - jnp.int8(BODY))
        is_dead = (grid >= BODY) & ((dead_bits >> owner) & jnp.uint32(1) == 1)
        cell = np.arange(len(s.grid))
        even = jnp.asarray((cell // self.stride + cell % self.stride) % 2 == 0)
        grid = jnp.where(is_dead, jnp.where(even, jnp.int8(CORPSE), jnp.int8(EMPTY)), grid)

        # the others move on
        eats = edible & ~dead
        front = jnp.where(s.front + 1 == self.max_length, 0, s.front + 1)
        front = jnp.where(dead, s.front, front)
        ring_cell = jnp.where(dead, len(s.body), snakes * self.max_length + front)
        body = s.body.at[ring_cell].set(jnp.int16(target), mode="drop")
        grid = grid.at[jnp.where(dead, len(s.grid), target)].set(jnp.int8(BODY + snakes), mode="drop")
        s = s.replace(
            grid=grid,
            body=body,
            front=front,
            head=jnp.where(dead, s.head, target),
            length=s.length + jnp.int32(grows & ~dead),
            heading=heading,
            missing_food=s.missing_food + jnp.int32(eats & (found == FOOD)).sum(dtype=jnp.int32),
        )

        s = self.grow_food(s, FOOD_TRIES)
        s = s.replace(steps=s.steps + 1)
        reward = jnp.where(dead, self.death_reward, jnp.where(eats, self.food_reward, 0.0))
        return s, Outcome(
            reward=reward,
            terminated=dead,
            truncated=jnp.zeros_like(dead),
            reset=s.steps >= self.max_steps,
        )

    def observe(self, s: State) -> Array:
        side = 2 * self.vision + 1
        grid = s.grid.reshape(-1, self.stride)

        def window(i: Array, head: Array) -> Array:
            row, column = lax.div(head, jnp.int32(self.stride)), lax.rem(head, jnp.int32(self.stride))
            tile = lax.dynamic_slice(grid, (row - self.vision, column - self.vision), (side, side))
            body = jnp.where(tile == jnp.int8(BODY + i), jnp.int8(OWN), jnp.int8(OTHER))
            return jnp.where(tile < BODY, tile, body).reshape(-1)

        return jax.vmap(window)(jnp.arange(self.num_snakes, dtype=jnp.int32), s.head)

    def action_mask(self, s: State) -> Array:
        actions = jnp.arange(4, dtype=jnp.int32)
        return (s.length == 1)[:, None] | (actions[None, :] != (s.heading ^ 1)[:, None])

    def score(self, s: State) -> Array:
        return jnp.float32(s.length)

    def perf(self, s: State) -> Array:
        return jnp.float32(s.length) * (1 / jnp.float32(self.max_length))

    def render(self, s: State) -> Array:
        scale = 6  # px of the picture per cell
        tile = jnp.int32(s.grid.reshape(-1, self.stride))
        inside = slice(self.vision - 1, -(self.vision - 1) or None)
        tile = tile[inside, inside]
        fixed = jnp.array([(6, 24, 24), (230, 190, 60), (120, 110, 100), (60, 90, 90)], jnp.uint8)
        hue = jnp.arange(self.num_snakes, dtype=jnp.int32)
        colours = jnp.stack([60 + 53 * hue % 190, 80 + 97 * hue % 170, 100 + 151 * hue % 150], -1).astype(jnp.uint8)
        # the watched snake is white
        colours = colours.at[0].set(jnp.array([241, 241, 241], jnp.uint8))
        picture = jnp.concatenate([fixed, colours])[tile]
        return picture.repeat(scale, 0).repeat(scale, 1)

    def player(self, s: State, stream: Array) -> Array:
        # moves to food next to its head, and mostly avoids cells where it would die
        step = jnp.array([-self.stride, self.stride, -1, 1], jnp.int32)
        tile = s.grid[s.head[:, None] + step[None, :]]
        edible = (tile == FOOD) | (tile == CORPSE)
        liking = jnp.where(edible, 4.0, jnp.where(tile == EMPTY, 2.0, 0.0))
        ahead = s.heading[:, None] == jnp.arange(4, dtype=jnp.int32)[None, :]
        key = jax.random.wrap_key_data(stream, impl="threefry2x32")
        noise = jax.random.uniform(key, (self.num_snakes, 4))
        # a few snakes are reckless
        reckless = jnp.arange(self.num_snakes, dtype=jnp.int32) % 4 == 0
        noise = noise * jnp.where(reckless, 6.0, 1.5)[:, None]
        return jnp.int32(jnp.argmax(liking + jnp.where(ahead, 1.0, 0.0) + noise, 1))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        heading = next_state.heading
        along = jnp.where((heading == UP) | (heading == DOWN), self.stride, 1)
        target = s.head + jnp.where((heading == DOWN) | (heading == RIGHT), along, -along)
        found, moved = s.grid[target], next_state.head == target
        snakes = jnp.arange(self.num_snakes, dtype=jnp.int32)
        same = (target[:, None] == target[None, :]) & (snakes[:, None] != snakes[None, :])
        own = jnp.int32(found) == BODY + snakes
        return {
            "food eaten": (moved & (found == FOOD)).any(),
            "corpse eaten": (moved & (found == CORPSE)).any(),
            "hit a wall": (~moved & (found == WALL)).any(),
            "hit its own body": (~moved & own).any(),
            "hit another's body": (~moved & (found >= BODY) & ~own).any(),
            "head to head": (~moved & same.any(1)).any(),
            "both at one piece of food": (~moved & same.any(1) & (found == FOOD)).any(),
            "followed a tail": (moved & (found >= BODY)).any(),
            "turning back ignored": ((action == s.heading ^ 1) & (s.length > 1)).any(),
            "reached the greatest length": (
                (s.length < self.max_length) & (next_state.length == self.max_length)
            ).any(),
            "ate at the greatest length": (
                moved & ((found == FOOD) | (found == CORPSE)) & (s.length == self.max_length)
            ).any(),
            "world reset": next_state.steps >= self.max_steps,
        }
