"""Slide and merge tiles. Twin of envs_c/g2048.h."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, random_action
from jaxpuffer.spaces import Box, Discrete, Space

UP, DOWN, LEFT, RIGHT, ACTIONS = range(5)
SIDE, CELLS, MAX_EXPONENT, GOAL = 4, 16, 17, 11

FOUR_PROBABILITY = 0.1
PER_GOAL = 0.09090909  # 1/11

COLOURS = np.array(  # of a tile, by its exponent
    [
        *([16, 48, 48], [60, 84, 84], [70, 110, 110], [0, 120, 120], [0, 150, 150], [0, 187, 187], [80, 200, 160]),
        *([150, 210, 110], [210, 200, 80], [240, 170, 60], [245, 130, 50], [240, 80, 50], [230, 50, 90]),
        *([220, 60, 150], [190, 80, 200], [150, 90, 230], [110, 110, 250], [241, 241, 241]),
    ],
    np.uint8,
)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    cells: Array  # uint8 (16,), exponents of two, row by row; 0 empty
    points: Array  # int32 (), sum of the tiles made by merging
    steps: Array  # int32 (), since the episode began


class G2048(Env[State]):
    """2048: slide all tiles to one side; equal ones merge into their sum.

    Observation: uint8 (16,), row by row: exponents of two, 0 empty.
    Action: Discrete(4): up, down, left, right. A direction in which nothing moves is masked, and has no effect
        if played.
    Reward: `merge_reward` times the exponents made by merging, `end_reward` at the end.
    Ends: terminated when nothing can move, truncated after `max_steps`.
    Score: the sum of the tiles made by merging; perf is the highest exponent as a share of
        11, that of 2048, at most 1.
    Differences from PufferLib: a move of nothing has no penalty and is masked; no curriculum.
    """

    merge_reward: float = param(default=0.02)  # reward of a merge, times the exponent of the new tile
    end_reward: float = param(default=-1.0)  # when nothing can move
    max_steps: int = param(default=10_000, minimum=1)  # steps before truncation

    observation_space: ClassVar[Space] = Box(0, MAX_EXPONENT, (CELLS,), np.uint8)
    action_space: ClassVar[Space] = Discrete(ACTIONS)

    def slide(self, lines: Array) -> tuple[Array, Array, Array]:
        """Slide lines, uint8 (4, 4), to their first cells and merge: (lines, points made, exponents made)."""
        # tiles to the front, by exchanges with empty neighbours
        x = [lines[:, i] for i in range(SIDE)]
        zero = jnp.uint8(0)
        for i in (0, 1, 2, 0, 1, 0):
            empty = x[i] == 0
            x[i], x[i + 1] = jnp.where(empty, x[i + 1], x[i]), jnp.where(empty, zero, x[i + 1])

        # equal neighbours merge, from the front; a merged tile does not merge again
        points, made = jnp.int32(0), jnp.int32(0)
        for i in range(SIDE - 1):
            merges = (x[i] != 0) & (x[i] == x[i + 1])
            x[i] = x[i] + jnp.uint8(merges)
            points = points + jnp.where(merges, 1 << jnp.int32(x[i]), 0).sum()
            made = made + jnp.where(merges, jnp.int32(x[i]), 0).sum()
            for j in range(i + 1, SIDE):
                x[j] = jnp.where(merges, x[j + 1] if j + 1 < SIDE else zero, x[j])
        return jnp.stack(x, -1), points, made

    def spawn(self, stream: Array, cells: Array) -> tuple[Array, Array]:
        """A two, or sometimes a four, on a random empty cell."""
        empty = jnp.int32(cells == 0)
        stream, which = rng.below(stream, empty.sum())
        stream, four = rng.bernoulli(stream, FOUR_PROBABILITY)
        here = (empty == 1) & (empty.cumsum() - 1 == which)
        return stream, jnp.where(here, jnp.where(four, jnp.uint8(2), jnp.uint8(1)), cells)

    def init(self, stream: Array) -> State:
        stream, cells = self.spawn(stream, jnp.zeros(CELLS, jnp.uint8))
        stream, cells = self.spawn(stream, cells)
        return State(stream, cells, points=jnp.int32(0), steps=jnp.int32(0))

    def action_mask(self, s: State) -> Array:
        # moves that change something: a tile towards an empty cell, or equal neighbours
        x = s.cells.reshape(SIDE, SIDE)
        above, below, west, east = x[:-1], x[1:], x[:, :-1], x[:, 1:]
        upright, level = ((above != 0) & (above == below)).any(), ((west != 0) & (west == east)).any()
        up, down = ((above == 0) & (below != 0)).any(), ((above != 0) & (below == 0)).any()
        left, right = ((west == 0) & (east != 0)).any(), ((west != 0) & (east == 0)).any()
        return jnp.stack([up | upright, down | upright, left | level, right | level])

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        # turned so that tiles slide to the left; each line slides; turned back
        x = s.cells.reshape(SIDE, SIDE)
        upright, backwards = action <= DOWN, (action == DOWN) | (action == RIGHT)
        x = jnp.where(upright, x.T, x)
        x = jnp.where(backwards, x[:, ::-1], x)
        x, points, made = self.slide(x)
        x = jnp.where(backwards, x[:, ::-1], x)
        x = jnp.where(upright, x.T, x)

        # if something moved, add a tile; then, can anything move?
        cells = x.reshape(-1)
        moved = (cells != s.cells).any()
        stream, spawned = self.spawn(s.rng, cells)
        s = s.replace(
            rng=jnp.where(moved, stream, s.rng),
            cells=jnp.where(moved, spawned, cells),
            points=s.points + points,
            steps=s.steps + 1,
        )
        over = ~self.action_mask(s).any()
        return s, Outcome(
            reward=self.merge_reward * jnp.float32(made) + jnp.where(over, self.end_reward, jnp.float32(0)),
            terminated=over,
            truncated=s.steps >= self.max_steps,
        )

    def observe(self, s: State) -> Array:
        return s.cells

    def score(self, s: State) -> Array:
        return jnp.float32(s.points)

    def perf(self, s: State) -> Array:
        highest = jnp.int32(s.cells.max())
        return jnp.where(highest >= GOAL, jnp.float32(1), jnp.float32(highest) * PER_GOAL)

    def render(self, s: State) -> Array:
        pixels, gap = 48, 3  # of a cell
        x = s.cells.reshape(SIDE, SIDE).repeat(pixels, 0).repeat(pixels, 1)
        row, column = np.mgrid[0 : SIDE * pixels, 0 : SIDE * pixels] % pixels
        inside = (row >= gap) & (row < pixels - gap) & (column >= gap) & (column < pixels - gap)
        # as many dots as the exponent, in rows of four
        dot_row, dot_column = (row - 8) // 8, (column - 9) // 8
        number = dot_row * 4 + dot_column
        dot = (row >= 8) & (column >= 9) & (dot_column < 4) & ((row - 8) % 8 < 4) & ((column - 9) % 8 < 4)
        shown = dot & (number < jnp.int32(x))
        picture = jnp.where(inside[:, :, None], jnp.array(COLOURS)[jnp.minimum(x, MAX_EXPONENT)], jnp.uint8(6))
        return jnp.where(shown[:, :, None], jnp.uint8(12), picture)

    def player(self, s: State, stream: Array) -> Array:
        """Keeps large tiles in a corner: left or down if possible, otherwise right or up; sometimes at random."""
        left_down = self.action_mask(s)
        stream, careless = rng.bernoulli(stream, 0.03)
        stream, anything = rng.below(stream, ACTIONS)
        stream, left_first = rng.below(stream, 2)
        first, second = jnp.where(left_first == 1, LEFT, DOWN), jnp.where(left_first == 1, DOWN, LEFT)
        can_first = jnp.where(left_first == 1, left_down[LEFT], left_down[DOWN])
        can_second = jnp.where(left_first == 1, left_down[DOWN], left_down[LEFT])
        corner = jnp.where(can_first, first, jnp.where(can_second, second, jnp.where(left_down[RIGHT], RIGHT, UP)))
        # some games are played at random throughout
        wild = s.points % 64 == 4
        return jnp.int32(jnp.where(careless, anything, jnp.where(wild, random_action(self, s, stream), corner)))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        moved = (s.rng != next_state.rng).any()
        points = next_state.points - s.points
        highest = jnp.int32(s.cells.max())
        rises = jnp.int32(next_state.cells.max()) > highest
        found = {f"first {2**e}": rises & (highest == e - 1) for e in range(3, 10)}
        count = jnp.int32(next_state.cells == 2).sum() - jnp.int32(s.cells == 2).sum()
        return found | {
            "up": moved & (action == UP),
            "down": moved & (action == DOWN),
            "left": moved & (action == LEFT),
            "right": moved & (action == RIGHT),
            "an empty move": ~moved,
            "a move without merging": moved & (points == 0),
            "several merges": (next_state.cells != 0).sum() < (s.cells != 0).sum(),
            "a four came": (points == 0) & (count == 1),
            "nothing can move": ~self.action_mask(next_state).any(),
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """A board with almost no moves, lines that merge twice, large tiles, or before the last step."""
        stream, which = rng.below(stream, 5)
        stream, a = rng.below(stream, 12)
        stream, b = rng.below(stream, 12)
        stream, at = rng.below(stream, CELLS)
        cell = np.arange(CELLS)
        chequered = jnp.where(cell % 2 == cell // SIDE % 2, jnp.uint8(1 + a), jnp.uint8(2 + a))
        holed = jnp.where(cell == at, jnp.uint8(0), chequered)
        paired = jnp.where(cell % SIDE < 2, jnp.uint8(a), jnp.uint8(b))
        same = jnp.broadcast_to(jnp.uint8(a + 1), (CELLS,))
        cells = jnp.stack([holed, paired, same, jnp.where(cell == at, jnp.uint8(b), chequered), s.cells])[which]
        return s.replace(cells=cells, steps=jnp.where(which == 4, self.max_steps - 1 - a % 2, s.steps))
