"""A card game on nine fields. Twin of envs_c/tripletriad.h."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, random_action
from jaxpuffer.spaces import Box, Discrete, Space

CARDS, CELLS, SIDE, SIDES = 5, 9, 3, 4
NORTH, EAST, SOUTH, WEST = range(4)
ACTIONS, NONE = CARDS + CELLS, -1
MAX_VALUE = 7

PER_VALUE = 0.14285715  # scale of observed values: 1/7
OBS = 2 * CARDS * SIDES + CELLS * SIDES + CELLS + CARDS

CELL = np.arange(CELLS, dtype=np.int32)
COLUMN = CELL % SIDE


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    hand: Array  # int32 (2, 5, 4), values of the agent's cards, then the opponent's
    played: Array  # int32 (2, 5), 1 if the card has been placed
    board: Array  # int32 (9, 4), values of the card on each cell, 0 if there is none
    owner: Array  # int32 (9,), 1 the agent, -1 the opponent, 0 nobody
    selected: Array  # int32 (), the agent's card, or NONE
    steps: Array  # int32 (), since the episode began


class TripleTriad(Env[State]):
    """Triple Triad against a random opponent: cards with four values, which take weaker neighbours.

    Observation: float32 (90,): the values of the agent's hand (20) and of the opponent's (20), with zeros for
        cards that were played; those on the board (36), cell by cell; their owners (9): 1, -1 or 0;
        the card selected, one-hot (5). Values are divided by 7, in the order north, east,
        south, west.
    Action: Discrete(14): 0 to 4 select a card, 5 to 13 place it on a cell. An illegal action is
        masked, and does nothing if played.
    Reward: 1 for a won game, -1 for a lost one, 0 for a draw.
    Ends: terminated when the board is full, truncated after `max_steps`.
    Score: the outcome, -1, 0 or 1; perf scales it to 0..1.
    Differences from PufferLib: a card is selected once and then placed, so that a game cannot
        be delayed (PufferLib: -0.1 per selection and a limit of 30 steps); both hands are observed; the
        opponent may begin.
    """

    opponent_begins: float = param(default=0.5, minimum=0, maximum=1)  # probability
    max_steps: int = param(default=30, minimum=1)  # steps before truncation

    observation_space: ClassVar[Space] = Box(-1.0, 1.0, (OBS,))
    action_space: ClassVar[Space] = Discrete(ACTIONS)

    def place(self, s: State, player: int, card: Array, cell: Array) -> State:
        """Player 0 or 1 puts a card on a free cell, and takes its weaker neighbours."""
        which = jnp.arange(CARDS, dtype=jnp.int32) == card
        values = jnp.where(which[:, None], s.hand[player], 0).sum(0)
        mine = 1 - 2 * player
        here = cell == CELL
        taken = (cell - 3 == CELL) & (values[NORTH] > s.board[:, SOUTH])
        taken |= (cell + 1 == CELL) & (COLUMN > 0) & (values[EAST] > s.board[:, WEST])
        taken |= (cell + 3 == CELL) & (values[SOUTH] > s.board[:, NORTH])
        taken |= (cell - 1 == CELL) & (COLUMN < 2) & (values[WEST] > s.board[:, EAST])
        return s.replace(
            played=s.played.at[player].set(jnp.where(which, 1, s.played[player])),
            board=jnp.where(here[:, None], values[None], s.board),
            owner=jnp.where(here | (taken & (s.owner != 0)), mine, s.owner),
        )

    def reply(self, s: State) -> State:
        """The opponent puts a random one of its cards on a random free cell."""
        held, free = 1 - s.played[1], jnp.int32(s.owner == 0)
        stream, which_card = rng.below(s.rng, held.sum())
        stream, which_cell = rng.below(stream, free.sum())
        card, cell = _chosen(held, which_card), _chosen(free, which_cell)
        return self.place(s.replace(rng=stream), 1, card, cell)

    def init(self, stream: Array) -> State:
        def draw(stream: Array, _: None) -> tuple[Array, Array]:
            stream, value = rng.below(stream, MAX_VALUE)
            return stream, 1 + value

        stream, hand = lax.scan(draw, stream, length=2 * CARDS * SIDES)
        stream, second = rng.bernoulli(stream, self.opponent_begins)
        s = State(
            stream,
            hand.reshape(2, CARDS, SIDES),
            played=jnp.zeros((2, CARDS), jnp.int32),
            board=jnp.zeros((CELLS, SIDES), jnp.int32),
            owner=jnp.zeros(CELLS, jnp.int32),
            selected=jnp.int32(NONE),
            steps=jnp.int32(0),
        )
        return _choose(second, self.reply(s), s)

    def lead(self, s: State) -> Array:
        """Cards owned by the agent minus those of the opponent, including those in hand."""
        return s.owner.sum() + (s.played[1] - s.played[0]).sum()

    def full(self, s: State) -> Array:
        return (s.owner != 0).all()

    def action_mask(self, s: State) -> Array:
        selecting = s.selected == NONE
        return jnp.concatenate([selecting & (s.played[0] == 0), ~selecting & (s.owner == 0)])

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        legal = (self.action_mask(s) & (jnp.arange(ACTIONS, dtype=jnp.int32) == action)).any()
        s = s.replace(steps=s.steps + 1)

        # select a card, or place the one selected and let the opponent reply
        selecting = s.selected == NONE
        placed = self.place(s, 0, s.selected, action - CARDS).replace(selected=jnp.int32(NONE))
        placed = _choose(self.full(placed), placed, self.reply(placed))
        selected = s.replace(selected=action)
        s = _choose(legal, _choose(selecting, selected, placed), s)

        # who has more cards when the board is full?
        full = self.full(s)
        return s, Outcome(
            reward=self.score(s),
            terminated=full,
            truncated=s.steps >= self.max_steps,
        )

    def observe(self, s: State) -> Array:
        # both hands, with zeros for cards that were played
        held = jnp.where(s.played[:, :, None] == 1, 0, s.hand)
        return jnp.concatenate(
            [
                jnp.float32(held.reshape(-1)) * PER_VALUE,
                jnp.float32(s.board.reshape(-1)) * PER_VALUE,
                jnp.float32(s.owner),
                jnp.float32(s.selected == jnp.arange(CARDS, dtype=jnp.int32)),
            ]
        )

    def score(self, s: State) -> Array:
        return jnp.where(self.full(s), jnp.float32(jnp.sign(self.lead(s))), jnp.float32(0))

    def perf(self, s: State) -> Array:
        return 0.5 + 0.5 * self.score(s)

    def render(self, s: State) -> Array:
        # the board in the middle, the hands at the sides; a card has bars as long as its values
        cell, gap = 46, 4
        height, width = 5 * 34 + 10, 3 * (cell + gap) + 2 * 60
        y, x = np.mgrid[0:height, 0:width]
        picture = jnp.full((height, width, 3), jnp.array([6, 24, 24], jnp.uint8))
        mine, theirs = jnp.array([0, 120, 120], jnp.uint8), jnp.array([140, 40, 40], jnp.uint8)
        empty, bright = jnp.array([16, 48, 48], jnp.uint8), jnp.array([241, 241, 241], jnp.uint8)

        def card(picture: Array, left: int, top: int, size: int, colour: Array, values: Array, shown: Array) -> Array:
            box = (x >= left) & (x < left + size) & (y >= top) & (y < top + size)
            picture = jnp.where(box[:, :, None], colour[None, None], picture)
            # a bar along each side, as long as its value
            for k, (horizontal, far) in enumerate(((True, False), (False, True), (True, True), (False, False))):
                along, across = (x - left, y - top) if horizontal else (y - top, x - left)
                depth = size - 1 - across if far else across
                line = box & (depth >= 3) & (depth < 6) & (along >= 6)
                bar = line & (along < 6 + (size - 12) * values[k] // MAX_VALUE)
                picture = jnp.where((bar & shown)[:, :, None], bright[None, None], picture)
            return picture

        for i in range(CELLS):
            colour = jnp.where(s.owner[i] == 1, mine, jnp.where(s.owner[i] == -1, theirs, empty))
            left, top = 60 + (i % SIDE) * (cell + gap), 15 + (i // SIDE) * (cell + gap)
            picture = card(picture, left, top, cell, colour, s.board[i], s.owner[i] != 0)
        for player, left in ((0, 12), (1, width - 44)):
            for i in range(CARDS):
                held = s.played[player, i] == 0
                colour = jnp.where(held, mine if player == 0 else theirs, empty)
                chosen = (s.selected == i) & (player == 0)
                colour = jnp.where(chosen, jnp.array([0, 187, 187], jnp.uint8), colour)
                picture = card(picture, left, 8 + i * 34, 30, colour, s.hand[player, i], held)
        return picture

    def player(self, s: State, stream: Array) -> Array:
        stream, careless = rng.bernoulli(stream, 0.02)
        stream, anything = rng.below(stream, ACTIONS)
        return jnp.where(careless, anything, random_action(self, s, stream))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        full = self.full(next_state)
        lead = self.lead(next_state)
        flipped = (s.owner == -1) & (next_state.owner == 1)
        lost = (s.owner == 1) & (next_state.owner == -1)
        begun = (s.owner == 0).all() & (next_state.owner != 0).any()
        return {
            "selected a card": (s.selected == NONE) & (next_state.selected != NONE),
            "took one card": flipped.sum() == 1,
            "took two cards": flipped.sum() == 2,
            "took three cards": flipped.sum() == 3,
            "lost one card": lost.sum() == 1,
            "lost two cards": lost.sum() == 2,
            "lost three cards": lost.sum() == 3,
            "began": begun,
            "the opponent began": (s.owner == -1).any() & ((s.owner != 0).sum() == 1),
            "an illegal action": (s.selected == next_state.selected) & ~full,
            "won": full & (lead > 0),
            "lost": full & (lead < 0),
            "draw": full & (lead == 0),
            "last card of the agent": full & (next_state.played[0].sum() == CARDS),
            "last card of the opponent": full & (next_state.played[1].sum() == CARDS),
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """Equal values on touching sides, or before the last step."""
        stream, which = rng.below(stream, 3)
        stream, value = rng.below(stream, MAX_VALUE)
        hand = jnp.where(which == 0, jnp.full_like(s.hand, 1 + value), s.hand)
        board = jnp.where((which == 0) & (s.owner != 0)[:, None], 1 + value, s.board)
        steps = jnp.where(which == 1, self.max_steps - 2 + value % 3, s.steps)
        return s.replace(hand=hand, board=board, steps=steps)


def _chosen(flags: Array, k: Array) -> Array:
    """The index of the k-th entry that is 1, int32 ()."""
    return jnp.int32((flags.cumsum() <= k).sum())


def _choose(condition: Array, a: State, b: State) -> State:
    return State(*(jnp.where(condition, getattr(a, field), getattr(b, field)) for field in State.__annotations__))
