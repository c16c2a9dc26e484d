"""Hex for two sides that move in turns. Twin of envs_c/hex.h."""

import functools
import operator
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, random_action, static
from jaxpuffer.spaces import Box, Discrete

# A set of cells is a set of bits: cell (row, column) is bit (size + 1) * row + column. The last bit of each row
# stays empty, so that no row continues in the next. A set fills as many words as the size needs
WORD = 32
EMPTY, OWN, THEIRS = range(3)

# for the bots
AROUND = ((0, 1), (1, 0), (1, -1), (0, -1), (-1, 0), (-1, 1))  # rows down and columns to the right of the cells beside
FAR = 10_000  # cells, more than any way has
STONE_RESISTANCE = 0.05  # of an own stone, if an empty cell has 1
SWEEPS, SWEEP = 60, 0.7  # of the voltages, and how far each goes
NEARLY = 0.02  # the part of the best value within which others are as good

Set = list[Array]  # uint32 () words


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    own: Array  # uint32 (words,), stones of the side that moves next, as it sees the board
    theirs: Array  # uint32 (words,), those of the other side, as that one sees it
    outcome: Array  # int32 (), of side 0: 1 won, -1 lost, 0 not decided
    steps: Array  # int32 (), since the episode began


class Hex(Env[State]):
    """Hex for two sides that move in turns: side 0 connects top and bottom, side 1 left and right.

    Observation: int8 (size, size), tiles: 0 empty, 1 a stone of the side that moves, 2 the other's. The side that
        moves connects top and bottom: for side 1 the board is mirrored on its diagonal.
    Action: Discrete(size^2): size * row + column of what is seen, a stone there. A taken cell is masked, and loses if
        played.
    Reward: 1 if side 0, which begins, wins, -1 if side 1 does.
    Ends: terminated when a side connects its edges, truncated after `max_steps`. A full board has always one winner.
    Score: the outcome for side 0, 1 or -1, and 0 if it is not decided; perf is (1 + score) / 2.
    Differences from PufferLib: it has no such game.
    """

    size: int = static(default=7, minimum=3, maximum=19)  # cells along a side
    swap: bool = param(default=False)  # side 1 may take over the first stone in its first move
    max_steps: int = param(default=362, minimum=1)  # moves before truncation

    bots: ClassVar[tuple[str, ...]] = ("random", "greedy", "currents")

    @property
    def observation_space(self) -> Box:
        return Box(EMPTY, THEIRS, (self.size, self.size), np.int8)

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.size * self.size)

    def to_play(self, s: State) -> Array:
        return s.steps & 1

    @property
    def words(self) -> int:
        return (self.size * (self.size + 1) + WORD - 1) // WORD

    @property
    def bits(self) -> np.ndarray:
        """The bit of each cell, (size, size)."""
        return np.arange(self.size)[:, None] * (self.size + 1) + np.arange(self.size)

    def cell(self, row: Array, column: Array) -> Set:
        """The set of one cell."""
        bit = row * (self.size + 1) + column
        one = jnp.uint32(1) << jnp.uint32(bit % WORD)
        return [jnp.where(bit // WORD == w, one, jnp.uint32(0)) for w in range(self.words)]

    def of_cells(self, chosen: Array | np.ndarray) -> Set:
        """The set of the chosen cells, bool, broadcast to (size, size)."""
        ones = np.uint32(1) << np.uint32(self.bits % WORD)
        parts = [jnp.where(chosen & (self.bits // WORD == w), ones, jnp.uint32(0)) for w in range(self.words)]
        return [part.sum(dtype=jnp.uint32) for part in parts]

    def on_cells(self, words: Array, bits: np.ndarray) -> Array:
        """Whether the cells with these bits are in a set, bool (size, size)."""
        found = jnp.zeros(bits.shape, bool)
        for w in range(self.words):
            mask = np.where(bits // WORD == w, 1 << bits % WORD, 0).astype(np.uint32)
            found = found | ((words[w] & mask) != 0)
        return found

    def grow(self, x: Set, within: Set) -> Set:
        """The cells of `within` beside a set, and it."""
        right, left = _up(x, 1), _down(x, 1)
        # of the row above a cell touches the one above it and the next one to the right, of the row below the one
        # below it and the next one to the left
        upper, lower = _down(_or(x, right), self.size + 1), _up(_or(x, left), self.size + 1)
        return _or(x, _and(_or(_or(right, left), _or(upper, lower)), within))

    def connects(self, stone: Set, within: Set) -> Array:
        """Whether a stone's chain reaches from the top to the bottom."""

        def again(carry: tuple[Set, Array]) -> tuple[Set, Array]:
            found = self.grow(carry[0], within)
            return found, functools.reduce(operator.or_, [a ^ b for a, b in zip(carry[0], found, strict=True)]) != 0

        chain, _ = lax.while_loop(lambda carry: carry[1], again, (stone, jnp.bool_(True)))
        top, bottom = (self.of_cells(np.arange(self.size)[:, None] == row) for row in (0, self.size - 1))
        return _any(_and(chain, top)) & _any(_and(chain, bottom))

    def init(self, stream: Array) -> State:
        nothing = jnp.zeros(self.words, jnp.uint32)
        return State(stream, nothing, nothing, outcome=jnp.int32(0), steps=jnp.int32(0))

    def observe(self, s: State) -> Array:
        own, theirs = self.on_cells(s.own, self.bits), self.on_cells(s.theirs, self.bits.T)
        return OWN * jnp.int8(own) + THEIRS * jnp.int8(theirs)

    def action_mask(self, s: State) -> Array:
        # the first stone may be taken over
        return ((self.observe(s) == EMPTY) | (self.swap & (s.steps == 1))).reshape(-1)

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        row, column = lax.div(action, self.size), lax.rem(action, self.size)
        own, theirs, stone = list(s.own), list(s.theirs), self.cell(row, column)
        on_theirs = _any(_and(theirs, self.cell(column, row)))
        swaps = self.swap & (s.steps == 1) & on_theirs
        taken = ~swaps & (on_theirs | _any(_and(own, stone)))

        # a stone; or the first one changes sides, and is mirrored
        own = _where(swaps, theirs, _where(taken, own, _or(own, stone)))
        theirs = _where(swaps, [jnp.zeros_like(word) for word in theirs], theirs)

        # a taken cell loses, a chain from edge to edge wins; then it is the other side's turn
        gain = jnp.where(taken, -1, jnp.int32(self.connects(stone, own)))
        outcome = jnp.where(self.to_play(s) == 0, gain, -gain)
        s = s.replace(own=jnp.stack(theirs), theirs=jnp.stack(own), outcome=outcome, steps=s.steps + 1)
        return s, Outcome(
            reward=jnp.float32(outcome),
            terminated=outcome != 0,
            truncated=s.steps >= self.max_steps,
        )

    def score(self, s: State) -> Array:
        return jnp.float32(s.outcome)

    def perf(self, s: State) -> Array:
        return 0.5 + 0.5 * jnp.float32(s.outcome)

    def render(self, s: State) -> Array:
        # side 0 is red and connects top and bottom, side 1 is blue; each row is half a cell to the right of the one
        # above it
        pixels, margin = 24, 8
        seen = jnp.int32(self.observe(s))
        board = jnp.where(self.to_play(s) == 0, seen, _exchanged(seen))
        y, x = np.mgrid[-margin : self.size * pixels + margin, -margin : self.size * pixels * 3 // 2 + margin]
        row, along = y // pixels, x - y // pixels * (pixels // 2)
        column = along // pixels
        within = (row >= 0) & (row < self.size), (column >= 0) & (column < self.size)
        disc = (y % pixels - pixels / 2 + 0.5) ** 2 + (along % pixels - pixels / 2 + 0.5) ** 2 < (0.42 * pixels) ** 2
        near = (along >= -margin) & (along < self.size * pixels + margin)
        free = 3
        marks = jnp.where(board == EMPTY, free, board)[row % self.size, column % self.size]
        marks = jnp.where(within[0] & within[1], jnp.where(disc, marks, EMPTY), np.where(within[0], THEIRS, OWN))
        colours = jnp.array([[6, 24, 24], [187, 0, 0], [60, 120, 255], [30, 70, 70]], jnp.uint8)
        return colours[jnp.where(near, marks, EMPTY)]

    def distances(self, board: Array) -> Array:
        """The fewest empty cells from the top to each cell, itself included, over own stones; int32 (size, size)."""
        cost = jnp.where(board == OWN, 0, jnp.where(board == EMPTY, 1, FAR))

        def again(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            found, _ = carry
            nearest = functools.reduce(jnp.minimum, [_moved(found, step, FAR) for step in AROUND])
            nearer = jnp.minimum(found, nearest + cost)
            return nearer, (nearer != found).any()

        first = jnp.where(np.arange(self.size)[:, None] == 0, cost, FAR)
        return lax.while_loop(lambda carry: carry[1], again, (first, jnp.bool_(True)))[0]

    def needed(self, board: Array) -> Array:
        """The fewest empty cells that connect top and bottom by way of each empty cell, int32 (size, size)."""
        return self.distances(board) + jnp.flip(self.distances(jnp.flip(board))) - 1

    def currents(self, board: Array) -> Array:
        """The current through each cell if the cells are resistors, and top and bottom the two ends of a battery.

        An own stone has little resistance, the other side's has no connection. float32 (size, size).
        """
        resistance = jnp.where(board == OWN, STONE_RESISTANCE, 1.0)
        there, rows = board != THEIRS, np.arange(self.size)[:, None]
        links = []
        for step in AROUND:
            through = 1.0 / (resistance + _moved(resistance, step, 1.0))
            links.append((step, jnp.where(there & _moved(there, step, False), through, 0.0)))
        top, bottom = (jnp.where(there & (rows == row), 1.0 / resistance, 0.0) for row in (0, self.size - 1))
        total = functools.reduce(operator.add, [through for _, through in links]) + top + bottom

        # each cell's voltage becomes the mean of its neighbours', again and again
        def again(_: Array, voltage: Array) -> Array:
            flow = functools.reduce(operator.add, [through * _moved(voltage, step, 0.0) for step, through in links])
            return (1 - SWEEP) * voltage + SWEEP * (flow + top) / jnp.maximum(total, 1e-6)

        falling = 1.0 - (jnp.float32(rows) + 1.0) / (self.size + 1)
        voltage = lax.fori_loop(0, SWEEPS, again, jnp.broadcast_to(falling, board.shape))
        to_edges = top * (1.0 - voltage) + bottom * voltage
        to_cells = [through * jnp.abs(voltage - _moved(voltage, step, 0.0)) for step, through in links]
        return functools.reduce(operator.add, to_cells, to_edges)

    def bot(self, s: State, stream: Array, name: str) -> Array:
        """Plays at random, or where both sides together have the shortest way or the most current through a cell."""
        if name == "random":
            return random_action(self, s, stream)
        board = self.observe(s)
        mirrored = _exchanged(board)
        if name == "greedy":
            value = -jnp.float32(self.needed(board) + self.needed(mirrored).T)
        else:
            value = self.currents(board) + self.currents(mirrored).T

        # among the best ones at random
        _, drawn = rng.each(stream, self.size * self.size)
        value = jnp.where(board == EMPTY, value, -jnp.inf).reshape(-1)
        good = value >= value.max() - NEARLY * jnp.abs(value.max())
        return jnp.int32(jnp.argmax(jnp.where(good, drawn | jnp.uint32(1), jnp.uint32(0))))

    variants = ({"swap": True}, {"size": 11})

    def player(self, s: State, stream: Array) -> Array:
        """At random, often beside stones of its own."""
        legal = self.action_mask(s)
        own = list(s.own)
        grown = jnp.stack(self.grow(own, [~word for word in own]))
        near = legal & self.on_cells(grown, self.bits).reshape(-1)
        stream, style = rng.below(stream, 4)
        _, drawn = rng.each(stream, self.size * self.size)
        drawn = jnp.where(jnp.where((style > 0) & near.any(), near, legal), drawn | jnp.uint32(1), jnp.uint32(0))
        return jnp.int32(jnp.argmax(drawn))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        board, won = self.observe(s), next_state.outcome == jnp.where(self.to_play(s) == 0, 1, -1)
        seen = board.reshape(-1)[action]
        stones = (board != EMPTY).sum()
        row = action // self.size
        return {
            "side 0 wins": won & (self.to_play(s) == 0),
            "side 1 wins": won & (self.to_play(s) == 1),
            "wins in the first row": won & (row == 0),
            "wins in the last row": won & (row == self.size - 1),
            "wins between them": won & (row > 0) & (row < self.size - 1),
            "wins late": won & (stones >= self.size * self.size * 3 // 4),
            "on an own stone": seen == OWN,
            "on the other side's stone": seen == THEIRS,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """A board at random with a few empty cells, or before the last step."""
        stream, which = rng.below(stream, 4)
        stream, one = rng.below(stream, 2)
        _, drawn = rng.each(stream, self.size * self.size)
        drawn = jnp.int32(drawn >> jnp.uint32(24)).reshape(self.size, self.size)
        filled = drawn >= jnp.where(one == 1, 8, 64)  # of 256
        own, theirs = (jnp.stack(self.of_cells(x)) for x in (filled & (drawn % 2 == 0), (filled & (drawn % 2 == 1)).T))
        return s.replace(
            own=jnp.where(which < 2, own, s.own),
            theirs=jnp.where(which < 2, theirs, s.theirs),
            steps=jnp.where(which == 2, self.max_steps - 1 - one, s.steps),
        )


def _moved(x: Array, step: tuple[int, int], outside: float) -> Array:
    """For each cell of a grid the entry so many rows below it and columns to the right of it."""
    (rows, columns), (height, width) = step, x.shape
    wide = jnp.pad(x, 1, constant_values=outside)
    return wide[1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]


def _exchanged(board: Array) -> Array:
    """The board as the other side sees it."""
    return jnp.where(board == EMPTY, EMPTY, OWN + THEIRS - board).T


def _any(x: Set) -> Array:
    return functools.reduce(operator.or_, x) != 0


def _or(x: Set, y: Set) -> Set:
    return [a | b for a, b in zip(x, y, strict=True)]


def _and(x: Set, y: Set) -> Set:
    return [a & b for a, b in zip(x, y, strict=True)]


def _where(which: Array, x: Set, y: Set) -> Set:
    return [jnp.where(which, a, b) for a, b in zip(x, y, strict=True)]


def _up(x: Set, by: int) -> Set:
    before = [jnp.zeros_like(x[0]), *x[:-1]]
    return [(word << jnp.uint32(by)) | (last >> jnp.uint32(WORD - by)) for word, last in zip(x, before, strict=True)]


def _down(x: Set, by: int) -> Set:
    after = [*x[1:], jnp.zeros_like(x[0])]
    return [(word >> jnp.uint32(by)) | (next_ << jnp.uint32(WORD - by)) for word, next_ in zip(x, after, strict=True)]
