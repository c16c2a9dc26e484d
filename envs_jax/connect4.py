"""Four in a row against a searching opponent. Twin of envs_c/connect4.h."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, random_action, static
from jaxpuffer.spaces import Box, Discrete, Space

# a board is a set of cells: cell (column, row from the bottom) is bit 7 column + row. The seventh row stays
# empty, so that no line continues in the next column. Two words hold it: columns 0 to 3, and 4 to 6
COLUMNS, ROWS, CELLS, UP, WORD = 7, 6, 42, 1, 28
ALONG, FALLING, RISING = 7, 6, 8  # step to the next cell of a line

Cells = tuple[Array, Array]  # uint32 () each


def _constant(bits: int) -> Cells:
    return jnp.uint32(bits & (1 << WORD) - 1), jnp.uint32(bits >> WORD)


BOTTOM = 0x40810204081  # the lowest cell of each column
BOARD = 0xFDFBF7EFDFBF  # 63 times that


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    own: Array  # uint32 (2,), the agent's cells
    theirs: Array  # uint32 (2,), the opponent's
    outcome: Array  # int32 (), 1 won, -1 lost, 0 not decided
    steps: Array  # int32 (), since the episode began


class Board(Env[State]):
    """What both forms of the game have in common. `own` are the discs of the side that moves next."""

    observation_space: ClassVar[Space] = Box(-1.0, 1.0, (CELLS,))
    action_space: ClassVar[Space] = Discrete(COLUMNS)

    def value(self, depth: int, mine: Cells, other: Cells, cell: Cells) -> Array:
        """How good a move to this cell is, looking `depth` moves ahead, int32 ().

        3 wins now, 2 wins with the next move for every reply, 0 lets the other win, 1 is any other move.
        """
        after = _or(mine, cell)
        taken = _or(after, other)
        replies = _playable(taken)
        wins = _any(_and(_threats(mine), cell)) if depth >= 1 else jnp.bool_(False)
        loses = _any(_and(_threats(other), replies)) if depth >= 2 else jnp.bool_(False)
        if depth < 3:
            return jnp.where(wins, 3, jnp.where(loses, 0, 1))

        # a reply saves the other player if it takes my only playable threat and makes no other threat playable
        threats = _but(_threats(after), taken)
        above, open_ = _right(threats, UP), _and(threats, replies)
        some = _any(open_)
        saving = _but((jnp.where(some, open_[0], replies[0]), jnp.where(some, open_[1], replies[1])), above)
        low, high = open_
        one = jnp.uint32(1)
        twice = ((low & (low - one)) != 0) | ((high & (high - one)) != 0) | ((low != 0) & (high != 0))
        forced = _any(replies) & (twice | ~_any(saving))
        return jnp.where(wins, 3, jnp.where(loses, 0, jnp.where(forced, 2, 1)))

    def values(self, depth: int, mine: Cells, other: Cells) -> Array:
        """How good each column is, int32 (7,); -1 if it is full."""
        playable = _playable(_or(mine, other))

        def one(column: Array) -> Array:
            cell = _and(playable, _column(column))
            return jnp.where(_any(cell), self.value(depth, mine, other, cell), -1)

        return jax.vmap(one)(jnp.arange(COLUMNS, dtype=jnp.int32))

    def values_of_five(self, mine: Cells, other: Cells) -> Array:
        """How good each column is, looking five moves ahead, int32 (7,).

        5 wins now, 4 with the next move, 3 with the one after it, 0 lets the other win with its next move, 1 with the
        one after it, 2 is any other move, -1 a full column.
        """

        def reply(mine: Cells, other: Cells, column: Array) -> Array:
            # the other's move, and my best one after it; a full board is a draw
            playable = _playable(_or(mine, other))
            cell = _and(playable, _column(column))
            best = self.values(3, mine, _or(other, cell)).max()
            return jnp.where(_any(cell), jnp.where(best < 0, 1, best), 3)

        def one(column: Array, value: Array) -> Array:
            after = _or(mine, _and(_playable(_or(mine, other)), _column(column)))
            full = _full(_or(after, other))
            worst = jax.vmap(lambda c: reply(after, other, c))(jnp.arange(COLUMNS, dtype=jnp.int32)).min()
            # as it is two moves ahead, if that decides it
            return jnp.where(value == 3, 5, jnp.where(value <= 0, value, jnp.where(full, 2, 1 + worst)))

        return jax.vmap(one)(jnp.arange(COLUMNS, dtype=jnp.int32), self.values(2, mine, other))

    def action_mask(self, s: State) -> Array:
        playable = _playable(_or(_cells(s.own), _cells(s.theirs)))
        return jnp.stack([_any(_and(playable, _column(c))) for c in range(COLUMNS)])

    def observe(self, s: State) -> Array:
        return jnp.float32(_planes(s.own) - _planes(s.theirs))

    def score(self, s: State) -> Array:
        return jnp.float32(s.outcome)

    def perf(self, s: State) -> Array:
        return 0.5 + 0.5 * jnp.float32(s.outcome)

    def render(self, s: State) -> Array:
        pixels = 32  # along a cell
        discs = self.observe(s).reshape(ROWS, COLUMNS)
        y, x = np.mgrid[0 : ROWS * pixels, 0 : COLUMNS * pixels]
        disc = (x % pixels - pixels / 2 + 0.5) ** 2 + (y % pixels - pixels / 2 + 0.5) ** 2 < (0.4 * pixels) ** 2
        cells = discs.repeat(pixels, 0).repeat(pixels, 1)[:, :, None]
        mine, theirs = jnp.array([0, 187, 187], jnp.uint8), jnp.array([187, 0, 0], jnp.uint8)
        colour = jnp.where(cells > 0, mine, jnp.where(cells < 0, theirs, jnp.array([6, 24, 24], jnp.uint8)))
        return jnp.where(disc[:, :, None], colour, jnp.array([20, 60, 70], jnp.uint8))

    def player(self, s: State, stream: Array) -> Array:
        """Searches like the opponent, or plays at random, sometimes in a full column."""
        stream, best = _best(self.values(3, _cells(s.own), _cells(s.theirs)), stream)
        stream, style = rng.below(stream, 64)
        stream, anything = rng.below(stream, COLUMNS)
        at_random = jnp.where(style == 0, anything, random_action(self, s, stream))
        return jnp.where(style < 6, at_random, best)


class Connect4(Board):
    """Connect Four on seven columns and six rows, against an opponent that looks three moves ahead.

    Observation: float32 (42,), row by row from the top: 1 own, -1 the opponent's, 0 empty.
    Action: Discrete(7): the column. A full one is masked, and loses if played.
    Reward: 1 for a won game, -1 for a lost one, 0 for a draw.
    Ends: terminated at four in a row and on a full board, truncated after `max_steps`.
    Score: the outcome, -1, 0 or 1; perf scales it to 0..1.
    Differences from PufferLib: no known opening moves, and the opponent prefers a win now to one
        with its next move; a game ends in the step that decides it.
    """

    opponent_depth: int = static(default=3, minimum=0, maximum=3)  # moves it looks ahead; 0 plays at random
    opponent_begins: float = param(default=0.0, minimum=0, maximum=1)  # probability
    max_steps: int = param(default=42, minimum=1)  # steps before truncation

    def reply(self, s: State) -> State:
        """The opponent's move: random among the best."""
        mine, other = _cells(s.theirs), _cells(s.own)
        stream, best = _best(self.values(self.opponent_depth, mine, other), s.rng)
        cell = _and(_playable(_or(mine, other)), _column(best))
        return s.replace(rng=stream, theirs=jnp.stack(_or(mine, cell)))

    def init(self, stream: Array) -> State:
        stream, second = rng.bernoulli(stream, self.opponent_begins)
        nothing = jnp.zeros(2, jnp.uint32)
        s = State(stream, nothing, nothing, outcome=jnp.int32(0), steps=jnp.int32(0))
        return _choose(second, self.reply(s), s)

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        own, theirs = _cells(s.own), _cells(s.theirs)
        cell = _and(_playable(_or(own, theirs)), _column(action))
        legal = _any(cell)

        # a full column loses, four in a row wins, otherwise the opponent replies
        own = _or(own, cell)
        placed = s.replace(own=jnp.stack(own), steps=s.steps + 1)
        won = legal & _four(own)
        over = won | ~legal | _full(_or(own, theirs))
        replied = self.reply(placed)
        lost = ~over & _four(_cells(replied.theirs))
        s = _choose(over, placed, replied)
        s = s.replace(outcome=jnp.int32(won) - jnp.int32(lost | ~legal))

        terminated = (s.outcome != 0) | (legal & _full(_or(own, _cells(s.theirs))))
        return s, Outcome(
            reward=jnp.float32(s.outcome),
            terminated=terminated,
            truncated=s.steps >= self.max_steps,
        )

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        own, theirs = _cells(next_state.own), _cells(next_state.theirs)
        won, lost = next_state.outcome == 1, next_state.outcome == -1
        legal = (self.action_mask(s) & (jnp.arange(COLUMNS, dtype=jnp.int32) == action)).any()
        names = {UP: "upright", ALONG: "level", FALLING: "falling", RISING: "rising"}
        found = {f"won with a {name} line": won & _any(_line(own, step)) for step, name in names.items()}
        found |= {f"lost to a {name} line": lost & _any(_line(theirs, step)) for step, name in names.items()}
        values = self.values(3, _cells(s.theirs), _cells(s.own))
        full = _full(_or(own, theirs))
        return found | {
            "played a full column": ~legal,
            "draw": full & (next_state.outcome == 0),
            "lost to the last disc": full & lost,
            "a column filled up": (self.action_mask(s) & ~self.action_mask(next_state)).any(),
            "a double threat": (values == 2).any(),
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """A column that is almost full, or before the last step."""
        stream, which = rng.below(stream, 3)
        stream, column = rng.below(stream, COLUMNS)
        stacked = _stacked(s, column)
        late = s.replace(steps=self.max_steps - 1 - column % 2)
        return _choose(which == 0, stacked, _choose(which == 1, late, s))


class Connect4Two(Board):
    """Connect Four for two sides that move in turns.

    Observation: float32 (42,), row by row from the top: 1 of the side that moves, -1 the other's, 0 empty.
    Action: Discrete(7): the column. A full one is masked, and loses if played.
    Reward: 1 if side 0, which begins, wins, -1 if side 1 does, 0 for a draw.
    Ends: terminated at four in a row and on a full board, truncated after `max_steps`.
    Score: the outcome for side 0, -1, 0 or 1; perf scales it to 0..1.
    Differences from PufferLib: it has no such game; the rules are those of connect4.
    """

    max_steps: int = param(default=42, minimum=1)  # moves before truncation

    def to_play(self, s: State) -> Array:
        return s.steps & 1

    def init(self, stream: Array) -> State:
        nothing = jnp.zeros(2, jnp.uint32)
        return State(stream, nothing, nothing, outcome=jnp.int32(0), steps=jnp.int32(0))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        own, theirs = _cells(s.own), _cells(s.theirs)
        cell = _and(_playable(_or(own, theirs)), _column(action))
        legal = _any(cell)

        # a full column loses, four in a row wins; then it is the other side's turn
        own = _or(own, cell)
        full = legal & _full(_or(own, theirs))
        gain = jnp.where(legal, jnp.int32(_four(own)), -1)
        outcome = jnp.where(self.to_play(s) == 0, gain, -gain)
        s = s.replace(own=s.theirs, theirs=jnp.stack(own), outcome=outcome, steps=s.steps + 1)
        return s, Outcome(
            reward=jnp.float32(outcome),
            terminated=(outcome != 0) | full,
            truncated=s.steps >= self.max_steps,
        )

    def render(self, s: State) -> Array:
        # side 0 has the same colour in every picture
        first = self.to_play(s) == 0
        own, theirs = jnp.where(first, s.own, s.theirs), jnp.where(first, s.theirs, s.own)
        return super().render(s.replace(own=own, theirs=theirs))

    bots = ("random", "depth1", "depth3", "depth5")

    def bot(self, s: State, stream: Array, name: str) -> Array:
        """Any legal column; or a random one of the best, by a search of one, three or five moves."""
        if name == "random":
            return random_action(self, s, stream)
        mine, other = _cells(s.own), _cells(s.theirs)
        values = self.values_of_five(mine, other) if name == "depth5" else self.values(int(name[-1]), mine, other)
        return _best(values, stream)[1]

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        line = _cells(next_state.theirs)
        legal = (self.action_mask(s) & (jnp.arange(COLUMNS, dtype=jnp.int32) == action)).any()
        names = {UP: "upright", ALONG: "level", FALLING: "falling", RISING: "rising"}
        found = {f"a {name} line": legal & _any(_line(line, step)) for step, name in names.items()}
        full = _full(_or(line, _cells(next_state.own)))
        return found | {
            "side 0 wins": next_state.outcome == 1,
            "side 1 wins": next_state.outcome == -1,
            "played a full column": ~legal,
            "draw": full & (next_state.outcome == 0),
            "the last disc wins": full & (next_state.outcome != 0) & legal,
            "the time is up": next_state.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """A column that is almost full, or before the last step."""
        stream, which = rng.below(stream, 3)
        stream, column = rng.below(stream, COLUMNS)
        late = s.replace(steps=self.max_steps - 1 - column % 2)
        return _choose(which == 0, _stacked(s, column), _choose(which == 1, late, s))


def _stacked(s: State, column: Array) -> State:
    """Five discs in one column, alternating between the players from the bottom, and no others."""
    lower = _and(_column(column), _constant(BOTTOM * 0x1F))
    mine = _and(lower, _constant(BOTTOM * 0b01010))
    return s.replace(own=jnp.stack(mine), theirs=jnp.stack(_but(lower, mine)))


def _cells(words: Array) -> Cells:
    return words[0], words[1]


def _or(a: Cells, b: Cells) -> Cells:
    return a[0] | b[0], a[1] | b[1]


def _and(a: Cells, b: Cells) -> Cells:
    return a[0] & b[0], a[1] & b[1]


def _but(a: Cells, b: Cells) -> Cells:
    return a[0] & ~b[0], a[1] & ~b[1]


def _any(a: Cells) -> Array:
    return (a[0] | a[1]) != 0


def _left(a: Cells, count: int) -> Cells:
    low, high = jnp.uint32(count), jnp.uint32(WORD - count)
    return (a[0] << low) & jnp.uint32((1 << WORD) - 1), (a[1] << low) | (a[0] >> high)


def _right(a: Cells, count: int) -> Cells:
    low, high = jnp.uint32(count), jnp.uint32(WORD - count)
    return (a[0] >> low) | ((a[1] << high) & jnp.uint32((1 << WORD) - 1)), a[1] >> low


def _playable(taken: Cells) -> Cells:
    """The lowest free cell of each column."""
    bottom = _constant(BOTTOM)
    return _and((taken[0] + bottom[0], taken[1] + bottom[1]), _constant(BOARD))


def _column(column: Array | int) -> Cells:
    cells = jnp.uint32((1 << ROWS) - 1)
    shift = jnp.uint32(7 * (column % 4))
    return jnp.where(column < 4, cells << shift, jnp.uint32(0)), jnp.where(column < 4, jnp.uint32(0), cells << shift)


def _full(taken: Cells) -> Array:
    board = _constant(BOARD)
    return (taken[0] == board[0]) & (taken[1] == board[1])


def _line(b: Cells, step: int) -> Cells:
    """The first cells of the fours in lines with the given step."""
    pairs = _and(b, _right(b, step))
    return _and(pairs, _right(pairs, 2 * step))


def _four(b: Cells) -> Array:
    """Whether there are four in a row anywhere."""
    return _any(_or(_or(_line(b, UP), _line(b, ALONG)), _or(_line(b, FALLING), _line(b, RISING))))


def _completing(b: Cells, step: int) -> Cells:
    """The cells that would complete a four in a line with the given step, taken ones included."""
    above, below = _and(_left(b, step), _left(b, 2 * step)), _and(_right(b, step), _right(b, 2 * step))
    return _or(
        _and(above, _or(_left(b, 3 * step), _right(b, step))), _and(below, _or(_right(b, 3 * step), _left(b, step)))
    )


def _threats(b: Cells) -> Cells:
    """The cells that would complete a four, taken ones included."""
    up = _and(_and(_left(b, UP), _left(b, 2 * UP)), _left(b, 3 * UP))
    lines = _or(_completing(b, ALONG), _or(_completing(b, FALLING), _completing(b, RISING)))
    return _and(_or(up, lines), _constant(BOARD))


def _best(values: Array, stream: Array) -> tuple[Array, Array]:
    """The stream, and a random one of the columns with the highest value, int32 ()."""
    best = jnp.int32(values == values.max())
    stream, k = rng.below(stream, best.sum())
    return stream, jnp.int32((best.cumsum() <= k).sum())


def _choose(condition: Array, a: State, b: State) -> State:
    return State(*(jnp.where(condition, getattr(a, field), getattr(b, field)) for field in State.__annotations__))


def _planes(words: Array) -> Array:
    """Each cell's bit, int32 (42,), row by row from the top."""
    bits = (words[:, None] >> np.arange(WORD, dtype=np.uint32)[None]) & jnp.uint32(1)
    columns = jnp.int32(bits).reshape(8, 7)[:COLUMNS, :ROWS]
    return columns.T[::-1].reshape(-1)
