"""A card game on nine fields. Twin of envs_c/tripletriad.h and envs_c/tripletriad_two.h."""

from typing import TYPE_CHECKING, ClassVar

import jax
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


class Board(Env[State]):
    """What both forms of the game have in common; the agent is the player, or the side that moves next."""

    if TYPE_CHECKING:  # each form declares it, so that its parameters keep their order
        max_steps: int = param(default=30)

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

    def deal(self, stream: Array) -> State:
        """Random hands, and an empty board."""

        def draw(stream: Array, _: None) -> tuple[Array, Array]:
            stream, value = rng.below(stream, MAX_VALUE)
            return stream, 1 + value

        stream, hand = lax.scan(draw, stream, length=2 * CARDS * SIDES)
        return State(
            stream,
            hand.reshape(2, CARDS, SIDES),
            played=jnp.zeros((2, CARDS), jnp.int32),
            board=jnp.zeros((CELLS, SIDES), jnp.int32),
            owner=jnp.zeros(CELLS, jnp.int32),
            selected=jnp.int32(NONE),
            steps=jnp.int32(0),
        )

    def lead(self, s: State) -> Array:
        """Cards owned by the agent minus those of the opponent, including those in hand."""
        return s.owner.sum() + (s.played[1] - s.played[0]).sum()

    def full(self, s: State) -> Array:
        return (s.owner != 0).all()

    def action_mask(self, s: State) -> Array:
        selecting = s.selected == NONE
        return jnp.concatenate([selecting & (s.played[0] == 0), ~selecting & (s.owner == 0)])

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

    def picture(self, s: State, chooser: Array | int) -> Array:
        """The agent at the left; `chooser` is the player, 0 or 1, whose card is selected."""
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
                chosen = (s.selected == i) & (chooser == player)
                light = jnp.array([0, 187, 187] if player == 0 else [220, 70, 70], jnp.uint8)
                colour = jnp.where(chosen, light, colour)
                picture = card(picture, left, 8 + i * 34, 30, colour, s.hand[player, i], held)
        return picture

    def edge_case(self, s: State, stream: Array) -> State:
        """Equal values on touching sides, or before the last step."""
        stream, which = rng.below(stream, 3)
        stream, value = rng.below(stream, MAX_VALUE)
        hand = jnp.where(which == 0, jnp.full_like(s.hand, 1 + value), s.hand)
        board = jnp.where((which == 0) & (s.owner != 0)[:, None], 1 + value, s.board)
        steps = jnp.where(which == 1, self.max_steps - 2 + value % 3, s.steps)
        return s.replace(hand=hand, board=board, steps=steps)


class TripleTriad(Board):
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

    def reply(self, s: State) -> State:
        """The opponent puts a random one of its cards on a random free cell."""
        held, free = 1 - s.played[1], jnp.int32(s.owner == 0)
        stream, which_card = rng.below(s.rng, held.sum())
        stream, which_cell = rng.below(stream, free.sum())
        card, cell = _chosen(held, which_card), _chosen(free, which_cell)
        return self.place(s.replace(rng=stream), 1, card, cell)

    def init(self, stream: Array) -> State:
        s = self.deal(stream)
        stream, second = rng.bernoulli(s.rng, self.opponent_begins)
        s = s.replace(rng=stream)
        return _choose(second, self.reply(s), s)

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

    def render(self, s: State) -> Array:
        return self.picture(s, 0)

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


class TripleTriadTwo(Board):
    """Triple Triad for two sides that move in turns: cards with four values, which take weaker neighbours.

    Observation: float32 (90,): the values of the hand of the side that moves (20) and of the other's (20),
        with zeros for cards that were played; those on the board (36), cell by cell; their owners (9): 1 the side
        that moves, -1 the other, or 0; the card selected, one-hot (5). Values are divided by 7, in the order north,
        east, south, west.
    Action: Discrete(14): 0 to 4 select a card, 5 to 13 place it on a cell; then the other side moves. An illegal
        action is masked, and does nothing if played.
    Reward: 1 if side 0, which begins, wins, -1 if side 1 does, 0 for a draw.
    Ends: terminated when the board is full, truncated after `max_steps`.
    Score: the outcome for side 0, -1, 0 or 1; perf scales it to 0..1.
    Differences from PufferLib: it has no such game; the rules are those of tripletriad.
    """

    max_steps: int = param(default=30, minimum=1)  # steps of both before truncation

    def to_play(self, s: State) -> Array:
        return (s.owner != 0).sum(dtype=jnp.int32) & 1

    def exchange(self, s: State) -> State:
        """The same game as the other side sees it."""
        return s.replace(hand=s.hand[::-1], played=s.played[::-1], owner=-s.owner)

    def init(self, stream: Array) -> State:
        return self.deal(stream)

    def lead(self, s: State) -> Array:
        """Cards owned by side 0 minus those of side 1, including those in hand."""
        lead = super().lead(s)
        return jnp.where(self.to_play(s) == 0, lead, -lead)

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        legal = (self.action_mask(s) & (jnp.arange(ACTIONS, dtype=jnp.int32) == action)).any()
        s = s.replace(steps=s.steps + 1)

        # select a card, or place the one selected; then it is the other side's turn
        selecting = s.selected == NONE
        placed = self.place(s, 0, s.selected, action - CARDS).replace(selected=jnp.int32(NONE))
        s = _choose(legal, _choose(selecting, s.replace(selected=action), self.exchange(placed)), s)

        # who has more cards when the board is full?
        return s, Outcome(
            reward=self.score(s),
            terminated=self.full(s),
            truncated=s.steps >= self.max_steps,
        )

    def render(self, s: State) -> Array:
        # side 0 is at the left
        side = self.to_play(s)
        return self.picture(_choose(side == 0, s, self.exchange(s)), side)

    bots = ("random", "greedy", "careful")

    def gains(self, s: State, player: int) -> Array:
        """How many cards each card of a player would take on each cell, int32 (5, 9); -1 if it cannot go there."""
        other = 2 * player - 1
        around = ((NORTH, SOUTH, CELL - SIDE, CELL >= SIDE), (EAST, WEST, CELL + 1, COLUMN < SIDE - 1),
                  (SOUTH, NORTH, CELL + SIDE, CELL < CELLS - SIDE), (WEST, EAST, CELL - 1, COLUMN > 0))  # fmt: skip
        taken = jnp.zeros((CARDS, CELLS), jnp.int32)
        for side, facing, neighbour, exists in around:
            cell = np.where(exists, neighbour, 0)
            weaker = s.hand[player, :, side, None] > s.board[cell, facing][None]
            taken = taken + jnp.int32(weaker & (exists & (s.owner[cell] == other))[None])
        return jnp.where((s.played[player] == 0)[:, None] & (s.owner == 0)[None], taken, -1)

    def bot(self, s: State, stream: Array, name: str) -> Array:
        """Any legal action; or that of a random one of the best moves, by the cards that it takes now.

        The careful one subtracts the cards that the other side can take back.
        """
        if name == "random":
            return random_action(self, s, stream)
        value = self.gains(s, 0)
        if name == "careful":
            cards, cells = (np.repeat(np.arange(CARDS, dtype=np.int32), CELLS), np.tile(CELL, CARDS))
            after = jax.vmap(lambda card, cell: self.gains(self.place(s, 0, card, cell), 1).max())(cards, cells)
            value = jnp.where(value < 0, -CELLS, value - jnp.maximum(after.reshape(value.shape), 0))
        number = jnp.arange(CARDS, dtype=jnp.int32)
        value = jnp.where((s.selected == NONE) | (s.selected == number)[:, None], value, -CELLS)
        best = jnp.int32(value == value.max()).reshape(-1)
        _, k = rng.below(stream, best.sum())
        move = _chosen(best, k)
        return jnp.where(s.selected == NONE, lax.div(move, CELLS), CARDS + lax.rem(move, CELLS))

    def player(self, s: State, stream: Array) -> Array:
        """Greedy with some hands and at random with others, careless at times or often."""
        stream, careless = rng.bernoulli(stream, jnp.where(s.hand[0, 0, 1] == 1, 0.5, 0.02))
        stream, anything = rng.below(stream, ACTIONS)
        greedy = s.hand[0, 0, 0] % 2 == 0
        action = jnp.where(greedy, self.bot(s, stream, "greedy"), random_action(self, s, stream))
        return jnp.where(careless, anything, action)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        full, lead = self.full(next_state), self.lead(next_state)
        # after a card was placed the other side moves
        flipped = ((s.owner == -1) & (next_state.owner == -1)).sum()
        placed = (s.selected != NONE) & (next_state.selected == NONE)
        return {
            "selected a card": (s.selected == NONE) & (next_state.selected != NONE),
            "placed a card": placed,
            "took one card": placed & (flipped == 1),
            "took two cards": placed & (flipped == 2),
            "took three cards": placed & (flipped == 3),
            "an illegal action": (s.selected == next_state.selected) & ~full,
            "side 0 wins": full & (lead > 0),
            "side 1 wins": full & (lead < 0),
            "draw": full & (lead == 0),
            "time limit": next_state.steps >= self.max_steps,
        }


def _chosen(flags: Array, k: Array) -> Array:
    """The index of the k-th entry that is 1, int32 ()."""
    return jnp.int32((flags.cumsum() <= k).sum())


def _choose(condition: Array, a: State, b: State) -> State:
    return State(*(jnp.where(condition, getattr(a, field), getattr(b, field)) for field in State.__annotations__))
