"""A head on a tape copies, reverses, adds or sorts what it reads. Twin of envs_c/turing.h."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, MultiDiscrete, Space

COPY, REVERSE, ADD, SORT, TASKS = range(5)
STAY, LEFT, RIGHT = range(3)

MAX_LENGTH = 128  # of the parameter max_length
SPARE_PASSES = 2  # passes over the tape, beside one for each symbol, before truncation

WIDTH, HEIGHT = 400, 120  # pixels of a picture
TAPE, ANSWER = (20, 54), (72, 106)  # pixels from the top of the two rows
GAP_COLOUR, END_COLOUR, BACKGROUND = (40, 48, 60), (96, 108, 128), (16, 20, 28)
HEAD_COLOUR = (241, 241, 241)
SYMBOL_COLOURS = (
    (52, 110, 190),
    (240, 170, 60),
    (80, 180, 110),
    (200, 80, 90),
    (150, 110, 200),
    (230, 220, 110),
    (70, 190, 200),
    (220, 130, 180),
)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    symbols: Array  # int8 (2 * max_length,), on the tape, from the left
    task: Array  # int32 ()
    length: Array  # int32 (), symbols of the word, or digits of each number
    head: Array  # int32 (), the cell it stands on, from the left end
    written: Array  # int32 (), symbols of the answer
    carry: Array  # int32 (), into the next digit of a sum
    moved: Array  # int32 (), what the head did in the last step: 0 stay, 1 left, 2 right
    wrote: Array  # int32 (), 1 if a symbol was written in the last step
    steps: Array  # int32 (), since the episode began


class Turing(Env[State]):
    """A head on a tape copies, reverses, adds or sorts what it reads: no policy without memory can.

    The tape has a gap after each symbol, for the sum after each pair of digits. The head sees the
    cell it stands on, and the answer can be written only in gaps, where no symbol is seen.

    Observation: uint8 (4,): the cell under the head: a symbol, or `base` for a gap, `base + 1`
        for the left end, `base + 2` for the right end; how the head moved in the last step
        (0 stay, 1 left, 2 right); 1 if a symbol was written in it; the task.
    Action: MultiDiscrete((3, 1 + base)): 0 stay, 1 left, 2 right; 0 nothing, 1 + k writes
        symbol k, before the head moves.
    Reward: +1 for a correct symbol, `wrong_reward` for a wrong one.
    Ends: terminated after a wrong symbol and when the answer is complete, truncated after `max_steps`.
    Score: the correct symbols written; perf is their share of the answer.
    Differences from PufferLib: it has no such environment.
    """

    task: int = param(default=TASKS, minimum=COPY, maximum=TASKS)  # copy, reverse, add, sort, or drawn for each episode
    base: int = static(default=2, minimum=2, maximum=8)  # number of different symbols
    length: int = param(default=4, minimum=1, maximum=MAX_LENGTH)  # symbols of the word, or digits of each number
    vary_length: int = param(default=1, minimum=0, maximum=1)  # 1: each episode's length is drawn from 1 to length
    max_length: int = static(default=16, minimum=1, maximum=MAX_LENGTH)  # room on the tape
    wrong_reward: float = param(default=-1.0)  # of a wrong symbol
    max_steps: int = param(default=0, minimum=0)  # steps before truncation; 0: base + 2 passes over the tape

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.length, jax.core.Tracer) and np.max(self.length) > self.max_length:
            raise ValueError(
                f"Turing.length is {np.max(self.length)}; it must be at most max_length ({self.max_length})"
            )

    @property
    def observation_space(self) -> Box:
        highest = np.array([self.base + 2, RIGHT, 1, SORT])
        return Box(np.zeros(4), highest, (4,), np.uint8)

    @property
    def action_space(self) -> Space:
        return MultiDiscrete((3, 1 + self.base))

    def _group(self, s: State) -> Array:
        """Symbols between two gaps."""
        return jnp.where(s.task == ADD, 2, 1)

    def _num_cells(self, s: State) -> Array:
        return s.length * (self._group(s) + 1) + 1

    def _num_wanted(self, s: State) -> Array:
        """Symbols of the answer: a sum has one more."""
        return s.length + jnp.int32(s.task == ADD)

    def _is_gap(self, s: State) -> Array:
        return lax.rem(s.head, self._group(s) + 1) == 0

    def _symbol(self, s: State, i: Array) -> Array:
        """Symbol i of the tape, 0 beyond its ends."""
        here = jnp.arange(2 * self.max_length, dtype=jnp.int32) == i
        return jnp.int32(jnp.where(here, s.symbols, jnp.int8(0)).max())

    def _wanted(self, s: State) -> tuple[Array, Array]:
        """The next symbol of the answer, and the carry after it."""
        # two digits and the carry; for copy and reverse one symbol
        first = jnp.where(s.task == ADD, 2 * s.written, s.written)
        first = jnp.where(s.task == REVERSE, s.length - 1 - s.written, first)
        symbol = self._symbol(s, first)
        total = symbol + self._symbol(s, first + 1) + s.carry
        carry = jnp.int32(total >= self.base)

        # the symbols that are too small: there are not more of them, and of smaller ones, than were written
        used = jnp.arange(2 * self.max_length, dtype=jnp.int32) < s.length
        rank = jnp.int32(0)
        for value in range(self.base - 1):
            count = (used & (s.symbols <= value)).sum(dtype=jnp.int32)
            rank = rank + jnp.int32(count <= s.written)

        wanted = jnp.where(s.task == ADD, total - carry * self.base, jnp.where(s.task == SORT, rank, symbol))
        return wanted, jnp.where(s.task == ADD, carry, 0)

    def init(self, stream: Array) -> State:
        # which task, and of which length; a length within a jitted program is not checked, so it is held to the tape
        stream, drawn = rng.below(stream, TASKS)
        task = jnp.where(self.task == TASKS, drawn, self.task)
        length = jnp.clip(self.length, 1, self.max_length)
        stream, shorter = rng.below(stream, length)
        length = jnp.where(self.vary_length == 1, 1 + shorter, length)

        # the tape
        stream, bits = rng.each(stream, 2 * self.max_length)
        symbols = jnp.int8(bits % jnp.uint32(self.base))

        # the head at its left end
        zero = jnp.int32(0)
        s = State(stream, symbols, task, length, zero, zero, zero, zero, zero, zero)
        used = jnp.arange(2 * self.max_length, dtype=jnp.int32) < length * self._group(s)
        return s.replace(symbols=jnp.where(used, symbols, jnp.int8(0)))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        move, pen = action[0], action[1]
        symbol = pen - 1

        # write; over a symbol of the tape nothing happens
        writes = (symbol >= 0) & self._is_gap(s)
        wanted, carry = self._wanted(s)
        correct, wrong = writes & (symbol == wanted), writes & (symbol != wanted)

        # move, not beyond the ends
        last = self._num_cells(s) - 1
        head = s.head + jnp.int32(move == RIGHT) - jnp.int32(move == LEFT)
        head = jnp.clip(head, 0, last)
        s = s.replace(
            head=head,
            written=s.written + jnp.int32(correct),
            carry=jnp.where(correct, carry, s.carry),
            moved=jnp.where(head == s.head, STAY, move),
            wrote=jnp.int32(correct),
            steps=s.steps + 1,
        )

        return s, Outcome(
            reward=jnp.where(correct, 1.0, jnp.where(wrong, self.wrong_reward, 0.0)),
            terminated=wrong | (s.written == self._num_wanted(s)),
            truncated=s.steps >= self._limit(s),
        )

    def _limit(self, s: State) -> Array:
        """Steps before truncation."""
        return jnp.where(self.max_steps > 0, self.max_steps, (self.base + SPARE_PASSES) * self._num_cells(s))

    def observe(self, s: State) -> Array:
        # the symbol under the head, or the kind of gap
        group = self._group(s)
        row, column = lax.div(s.head, group + 1), lax.rem(s.head, group + 1)
        symbol = self._symbol(s, row * group + column - 1)
        right = jnp.where(s.head == self._num_cells(s) - 1, self.base + 2, self.base)
        gap = jnp.where(s.head == 0, self.base + 1, right)
        cell = jnp.where(self._is_gap(s), gap, symbol)
        return jnp.uint8(jnp.stack([cell, s.moved, s.wrote, s.task]))

    def score(self, s: State) -> Array:
        return jnp.float32(s.written)

    def perf(self, s: State) -> Array:
        return jnp.float32(s.written) * (1 / jnp.float32(self._num_wanted(s)))

    def render(self, s: State) -> Array:
        y, x = jnp.mgrid[0:HEIGHT, 0:WIDTH]
        colours = jnp.array([*SYMBOL_COLOURS[: self.base], GAP_COLOUR, END_COLOUR, END_COLOUR, BACKGROUND], jnp.uint8)
        empty = self.base + 3

        # the tape, all of it in the width of the picture
        cells = jnp.arange(3 * self.max_length + 1, dtype=jnp.int32)
        seen = jax.vmap(lambda head: jnp.int32(self.observe(s.replace(head=head))[0]))(cells)
        cell = x * self._num_cells(s) // WIDTH
        tape = jnp.where((y >= TAPE[0]) & (y < TAPE[1]), seen[cell], empty)

        # the answer so far, and a dark field for each symbol that is still to be written
        def next_symbol(s: State, _: None) -> tuple[State, Array]:
            wanted, carry = self._wanted(s)
            return s.replace(written=s.written + 1, carry=carry), wanted

        start = s.replace(written=jnp.int32(0), carry=jnp.int32(0))
        _, answer = lax.scan(next_symbol, start, length=self.max_length + 1)
        place = x * self._num_wanted(s) // WIDTH
        answer = jnp.where(place < s.written, answer[place], self.base)
        index = jnp.where((y >= ANSWER[0]) & (y < ANSWER[1]), answer, tape)

        # lines between the fields
        left = jnp.where(y < TAPE[1], (x - 2) * self._num_cells(s), (x - 2) * self._num_wanted(s)) // WIDTH
        index = jnp.where((left != jnp.where(y < TAPE[1], cell, place)) | (x < 2), empty, index)
        picture = colours[index]

        # the head above its cell
        head = (cell == s.head) & (y >= 6) & (y < 14)
        return jnp.where(head[..., None], jnp.array(HEAD_COLOUR, jnp.uint8)[None, None], picture)

    variants: ClassVar = (
        {"base": 5, "length": 7, "vary_length": 0, "max_length": 7},
        {"max_steps": 9, "length": 3},
        {"max_steps": 1, "length": 1, "vary_length": 0},
        {"task": SORT, "base": 3},
    )

    def player(self, s: State, stream: Array) -> Array:
        # sweep from end to end, with a slip now and then
        stream, slip = rng.bernoulli(stream, 0.1)
        stream, anywhere = rng.below(stream, 3)
        sweep = jnp.where(s.moved == LEFT, LEFT, RIGHT)
        sweep = jnp.where(s.head == 0, RIGHT, jnp.where(s.head == self._num_cells(s) - 1, LEFT, sweep))
        move = jnp.where(slip, anywhere, sweep)

        # write what is wanted in most gaps; sometimes anything. The episode's stream makes some careful, some idle
        wanted, _ = self._wanted(s)
        stream, now = rng.bernoulli(stream, 0.7)
        stream, careless = rng.bernoulli(stream, 0.08)
        _, anything = rng.below(stream, 1 + self.base)
        style = s.rng[0] % jnp.uint32(8)
        pen = jnp.where(self._is_gap(s) & now, 1 + wanted, 0)
        pen = jnp.where(careless & (style > 3), anything, pen)
        return jnp.stack([move, jnp.where(style == 0, 0, pen)])

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        gap, writes = self._is_gap(s), action[1] > 0
        wrong = gap & writes & (next_state.wrote == 0)
        done = next_state.written == self._num_wanted(s)
        right = next_state.wrote == 1
        adds, bumps = s.task == ADD, (next_state.head == s.head) & (action[0] != STAY)
        events = {
            "nothing over a symbol": ~gap & writes,
            "at the left end": bumps & (s.head == 0),
            "at the right end": bumps & (s.head > 0),
            "stay": action[0] == STAY,
            "carry": (s.carry == 0) & (next_state.carry == 1),
            "carry kept": right & (s.carry == 1) & (next_state.carry == 1),
            "carry used": right & (s.carry == 1) & (next_state.carry == 0),
            "sum with a last 1": adds & done & (s.carry == 1),
            "sum with a last 0": adds & done & (s.carry == 0),
            "shortest": done & (s.length == 1),
            "longest": done & (s.length == self.length),
            "out of time": ~done & ~wrong & (next_state.steps >= self._limit(s)),
        }
        for name, task in {"copy": COPY, "reverse": REVERSE, "add": ADD, "sort": SORT}.items():
            events[f"{name}: done"] = done & (s.task == task)
            events[f"{name}: wrong"] = wrong & (s.task == task)
        return events

    def edge_case(self, s: State, stream: Array) -> State:
        """Near the last symbol, with or without a carry, anywhere on the tape, sometimes near the time limit."""
        stream, left = rng.below(stream, 3)
        stream, carry = rng.below(stream, 2)
        stream, head = rng.below(stream, self._num_cells(s))
        _, late = rng.below(stream, 4)
        return s.replace(
            written=jnp.maximum(self._num_wanted(s) - 1 - left, 0),
            carry=jnp.where(s.task == ADD, carry, 0),
            head=head,
            steps=jnp.where(late < 3, jnp.maximum(self._limit(s) - 3 + late, 0), s.steps),
        )
