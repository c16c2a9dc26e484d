"""Agents collect coins, and fall into pits, on a small grid: an environment of a user, with all that one can have.

Observations of several parts, levels, agents that are out, agents that act in turn, figures of its own, a C twin.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param
from jaxpuffer.spaces import Box, Composite, Discrete

AGENTS, SIDE, SIGHT = 3, 6, 2
CELLS, WINDOW = SIDE * SIDE, 2 * SIGHT + 1
FLOOR, COIN, PIT, WALL = range(4)
DOWN, RIGHT = np.array([0, -1, 1, 0, 0]), np.array([0, 0, 0, -1, 1])
PER_SIDE = np.float32(1 / SIDE)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    cells: Array  # uint8 (36,), what is there
    row: Array  # int32 (3,)
    column: Array  # int32 (3,)
    coins: Array  # int32 (3,), that each agent has
    out: Array  # int32 (3,), 1 in a pit
    steps: Array  # int32 ()


class Seen(PyTreeNode):
    tiles: Array  # int8 (5, 5), around the agent
    numbers: Array  # float32 (2,), where it is


class Coins(Env[State]):
    """Collect coins; a pit is the end for an agent. The first agent moves first."""

    coin_share: float = param(default=0.2, minimum=0.0, maximum=1.0)
    pit_share: float = param(default=0.1, minimum=0.0, maximum=1.0)
    deadly: bool = param(default=True)  # whether an agent in a pit is out
    levels: int = param(default=0, minimum=0)
    first_level: int = param(default=0, minimum=0)
    max_steps: int = param(default=40, minimum=1)

    multi_agent = True
    header = "coins.h"
    observation_space: ClassVar = Composite(
        Seen, tiles=Box(0, WALL, (WINDOW, WINDOW), np.int8), numbers=Box(0.0, 1.0, (2,))
    )
    action_space: ClassVar = Discrete(5)
    variants: ClassVar = ({"levels": 3, "first_level": 100, "deadly": False},)

    @property
    def num_agents(self) -> int:
        return AGENTS

    def init(self, stream: Array) -> State:
        stream, world = rng.level(stream, self.levels, self.first_level)
        world, drawn = rng.each(world, CELLS)
        chance = rng.unit(drawn)
        cells = jnp.where(
            chance < self.coin_share, COIN, jnp.where(chance < self.coin_share + self.pit_share, PIT, FLOOR)
        )

        # the agents stand on floor, in the corners
        corner = np.array([0, SIDE - 1, 0]), np.array([0, 0, SIDE - 1])
        cells = cells.at[corner[0] * SIDE + corner[1]].set(FLOOR)
        nothing = jnp.zeros(AGENTS, jnp.int32)
        where = [jnp.asarray(x, jnp.int32) for x in corner]
        return State(stream, jnp.uint8(cells), *where, coins=nothing, out=nothing, steps=jnp.int32(0))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        # one after the other moves, and takes what is there
        def move(cells: Array, agent: tuple[Array, ...]) -> tuple[Array, tuple[Array, ...]]:
            row, column, out, act = agent
            row = jnp.clip(row + jnp.asarray(DOWN, jnp.int32)[act] * (1 - out), 0, SIDE - 1)
            column = jnp.clip(column + jnp.asarray(RIGHT, jnp.int32)[act] * (1 - out), 0, SIDE - 1)
            at = row * SIDE + column
            takes = (cells[at] == COIN) & (out == 0)
            falls = (cells[at] == PIT) & (out == 0)
            cells = cells.at[at].set(jnp.where(takes, jnp.uint8(FLOOR), cells[at]))
            return cells, (row, column, takes, falls)

        cells, (row, column, takes, falls) = lax.scan(move, s.cells, (s.row, s.column, s.out, action))
        steps = s.steps + 1
        s = s.replace(
            cells=cells,
            row=row,
            column=column,
            coins=s.coins + jnp.int32(takes),
            out=s.out | jnp.int32(falls & self.deadly),
            steps=steps,
        )
        reward = jnp.float32(takes) - jnp.float32(falls)
        over = (steps >= self.max_steps) | ~(cells == COIN).any()
        return s, Outcome(reward, terminated=falls & self.deadly, truncated=jnp.zeros(AGENTS, bool), reset=over)

    def respawn(self, s: State, ended: Array) -> State:
        return s

    def active(self, s: State) -> Array:
        return s.out == 0

    def observe(self, s: State) -> Seen:
        padded = jnp.pad(s.cells.reshape(SIDE, SIDE), SIGHT, constant_values=WALL)

        def window(row: Array, column: Array) -> Array:
            return lax.dynamic_slice(padded, (row, column), (WINDOW, WINDOW))

        numbers = jnp.float32(jnp.stack([s.row, s.column], -1)) * PER_SIDE
        return Seen(jnp.int8(jax.vmap(window)(s.row, s.column)), numbers)

    def score(self, s: State) -> Array:
        return jnp.float32(s.coins)

    def perf(self, s: State) -> Array:
        return jnp.minimum(jnp.float32(s.coins) * np.float32(0.25), 1.0)

    def figures(self, s: State) -> dict[str, Array]:
        return {"falls": jnp.float32(s.out), "way": jnp.float32(s.row + s.column)}

    def events(self, s: State, action: Array, after: State) -> dict[str, Array]:
        return {
            "a coin is taken": (after.coins > s.coins).any(),
            "an agent falls": (after.out > s.out).any(),
            "one is out and others play": (s.out == 1).any() & (s.out == 0).any(),
            "the last one falls": (after.out == 1).all() & (s.out == 0).any(),
            "all coins are taken": ~(after.cells == COIN).any(),
            "the time is up": after.steps >= self.max_steps,
            "two want the same cell": (after.row[0] == after.row[1]) & (after.column[0] == after.column[1]),
        }
