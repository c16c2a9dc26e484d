"""Go against an opponent that attacks and saves liberties, or for two sides. Twin of envs_c/go.h and go_two.h."""

import functools
import operator
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, random_action, static
from jaxpuffer.spaces import Box, Discrete

# A set of points is a set of bits: point (row, column) is bit (size + 1) * row + column. The last bit of each row
# stays empty, so that no row continues in the next. A set fills as many words as the size needs
WORD, NOWHERE = 32, -1
MOVES = 3  # of two sides, for each point, until the game is scored

Set = list[Array]  # uint32 () words


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    own: Array  # uint32 (words,), the agent's stones
    theirs: Array  # uint32 (words,), the opponent's
    atari: Array  # uint32 (words,), both sides' stones in chains with one liberty
    ko: Array  # int32 (), the point that may not be taken back now, -1 for none
    captured: Array  # int32 (), stones that the agent took
    lost: Array  # int32 (), stones that the agent lost
    passed: Array  # int32 (), the opponent has just passed
    outcome: Array  # int32 (), 1 won, -1 lost, 0 not decided or a draw
    steps: Array  # int32 (), since the episode began


def any_of(x: Set) -> Array:
    """Whether a set has a point, bool ()."""
    return functools.reduce(operator.or_, x) != 0


def count(x: Set) -> Array:
    """The number of points of a set, int32 ()."""
    return jnp.int32(functools.reduce(operator.add, [lax.population_count(word) for word in x]))


def both(x: Set, y: Set) -> Set:
    return [a & b for a, b in zip(x, y, strict=True)]


def either(x: Set, y: Set) -> Set:
    return [a | b for a, b in zip(x, y, strict=True)]


def without(x: Set, y: Set) -> Set:
    return [a & ~b for a, b in zip(x, y, strict=True)]


def choose(which: Array, x: Set, y: Set) -> Set:
    return [jnp.where(which, a, b) for a, b in zip(x, y, strict=True)]


class Board(Env[State]):
    """What both forms of the game have in common. `own` are the stones of the agent, or of the side that moves next."""

    size: int = static(default=9, minimum=3, maximum=19)
    komi: float = param(default=7.5, minimum=-361.0, maximum=361.0)  # points added to the area of who moves second

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.points + 1)

    # what the size determines

    @property
    def stride(self) -> int:
        return self.size + 1

    @property
    def points(self) -> int:
        return self.size * self.size

    @property
    def words(self) -> int:
        return (self.size * self.stride + WORD - 1) // WORD

    @property
    def bits(self) -> np.ndarray:
        """The bit of each point, (points,)."""
        return np.arange(self.points) // self.size * self.stride + np.arange(self.points) % self.size

    @property
    def board(self) -> Set:
        """All points."""
        shifts = [self.bits[self.bits // WORD == w] % WORD for w in range(self.words)]
        return [jnp.uint32(sum(1 << int(shift) for shift in of_word)) for of_word in shifts]

    def point(self, point: Array) -> Set:
        """The set of one point, empty for none."""
        bit = lax.div(point, self.size) * self.stride + lax.rem(point, self.size)
        there, one = point != NOWHERE, jnp.uint32(1) << jnp.uint32(lax.rem(bit, WORD))
        return [jnp.where(there & (lax.div(bit, WORD) == w), one, jnp.uint32(0)) for w in range(self.words)]

    def kth(self, x: Set, k: Array) -> Array:
        """The k-th point of a set, int32."""
        # its word, and its number in that word
        word, bit, rest, before = x[0], jnp.int32(0), k, count([x[0]])
        for w, of_set in enumerate(x[1:], 1):
            here = before <= k
            word, bit = jnp.where(here, of_set, word), jnp.where(here, w * WORD, bit)
            rest = jnp.where(here, k - before, rest)
            before = before + count([of_set])
        # halves of the word
        for half in (16, 8, 4, 2, 1):
            lower = count([word & jnp.uint32((1 << half) - 1)])
            upper = rest >= lower
            word, bit = jnp.where(upper, _down(word, half), word), jnp.where(upper, bit + half, bit)
            rest = jnp.where(upper, rest - lower, rest)
        return lax.div(bit, self.stride) * self.size + lax.rem(bit, self.stride)

    def sides(self, x: Set) -> list[Set]:
        """The points on each of the four sides of those of a set."""
        none, stride = jnp.zeros_like(x[0]), self.stride
        before, after = [none, *x[:-1]], [*x[1:], none]
        right = [_up(here, 1) | _down(word, WORD - 1) for here, word in zip(x, before, strict=True)]
        left = [_down(here, 1) | _up(word, WORD - 1) for here, word in zip(x, after, strict=True)]
        down = [_up(here, stride) | _down(word, WORD - stride) for here, word in zip(x, before, strict=True)]
        up = [_down(here, stride) | _up(word, WORD - stride) for here, word in zip(x, after, strict=True)]
        return [both(side, self.board) for side in (right, left, down, up)]

    def beside(self, x: Set) -> Set:
        """The points next to those of a set."""
        return functools.reduce(either, self.sides(x))

    def connected(self, xs: list[Set], within: list[Set]) -> list[Set]:
        """For each of several sets, all points `within` another set, which contains it, that are connected with it."""

        def grow(carry: tuple[list[Set], Array]) -> tuple[list[Set], Array]:
            found, _ = carry
            more = [without(both(self.beside(x), of), x) for x, of in zip(found, within, strict=True)]
            grown = functools.reduce(operator.or_, [any_of(x) for x in more])
            return [either(x, y) for x, y in zip(found, more, strict=True)], grown

        some = functools.reduce(operator.or_, [any_of(x) for x in xs])
        return lax.while_loop(lambda carry: carry[1], grow, (xs, some))[0]

    def weak_chains(self, xs: list[Set], within: list[Set], empty: Set) -> list[Set]:
        """For each of several sets, its chain `within` another set if the chain has one liberty, otherwise none."""

        def grow(carry: tuple[list[Set], Array]) -> tuple[list[Set], Array]:
            found, grown = [], jnp.bool_(False)
            for x, of in zip(carry[0], within, strict=True):
                beside = self.beside(x)
                more = without(both(beside, of), x)
                found.append(either(x, more))
                # two are enough to decide
                grown = grown | (any_of(more) & (count(both(beside, empty)) < 2))
            return found, grown

        found, _ = lax.while_loop(lambda carry: carry[1], grow, (xs, jnp.bool_(True)))
        weak = [count(both(self.beside(x), empty)) == 1 for x in found]
        none = [jnp.zeros_like(word) for word in empty]
        return [choose(is_weak, x, none) for is_weak, x in zip(weak, found, strict=True)]

    def place(self, s: State, mine: Set, other: Set, point: Array) -> tuple[State, Set, Set, Array]:
        """Put a stone on an empty point (or nowhere), and take stones.

        Returns the state, both sides' stones, and how many were taken.
        """
        stone, atari = self.point(point), list(s.atari)
        sides = self.sides(stone)
        beside = functools.reduce(either, sides)

        # it takes the other side's chains whose last liberty it fills
        within = both(other, atari)
        (taken,) = self.connected([both(beside, within)], [within])

        # chains of its colour beside it, or beside what it takes, now have a different number of liberties
        within = both(mine, atari)
        (changed,) = self.connected([both(either(self.beside(taken), beside), within)], [within])
        mine, other = either(mine, stone), without(other, taken)
        empty = without(self.board, either(mine, other))

        # does the chain that it joins, or one of the other side beside it, have only one liberty left?
        seeds = [stone, *(both(side, other) for side in sides)]
        joined, *chains = self.weak_chains(seeds, [mine, other, other, other, other], empty)
        atari = functools.reduce(either, chains, either(without(atari, either(changed, taken)), joined))

        # ko: a single stone that took a single one may not be taken back at once on that point
        number = count(taken)
        ko = jnp.where((number == 1) & (count(joined) == 1), self.kth(taken, jnp.int32(0)), NOWHERE)
        return s.replace(atari=jnp.stack(atari), ko=ko), mine, other, number

    def legal(self, s: State, mine: Set, other: Set) -> Set:
        """Where a side may play: not on the ko, and not so that its stones have no liberty."""
        empty, atari = without(self.board, either(mine, other)), list(s.atari)
        safe = either(empty, either(without(mine, atari), both(other, atari)))
        return both(without(empty, self.point(s.ko)), self.beside(safe))

    def sensible(self, s: State, mine: Set, other: Set) -> Set:
        """Where a side would play: all legal points except its own eyes, the points with only its stones beside
        them."""
        return both(self.legal(s, mine, other), self.beside(without(self.board, mine)))

    def reply(self, s: State, own: Set, theirs: Set) -> tuple[Array, Array]:
        """The opponent's point, none to pass, random among the best.

        It takes; if it cannot, it saves; then it plays beside the agent's stones, or anywhere.
        """
        best, atari = self.sensible(s, theirs, own), list(s.atari)
        takes = both(self.beside(both(own, atari)), best)
        saves = both(self.beside(both(theirs, atari)), best)
        near = both(self.beside(own), best)

        # a stone with two empty points beside it saves a chain
        a, b, c, d = self.sides(without(self.board, either(own, theirs)))
        two = either(either(both(a, b), both(c, d)), both(either(a, b), either(c, d)))
        saves = both(saves, two)
        found = choose(any_of(near), near, best)
        found = choose(any_of(saves), saves, found)
        found = choose(any_of(takes), takes, found)
        number = count(found)
        stream, k = rng.below(s.rng, jnp.maximum(number, 1))
        return stream, jnp.where(number > 0, self.kth(found, k), NOWHERE)

    def area(self, own: Set, theirs: Set) -> Array:
        """A side's area minus the other's: stones, and empty points that are not connected to the other's stones."""
        within = [without(self.board, theirs), without(self.board, own)]
        reached, by_them = self.connected([own, theirs], within)
        return count(without(reached, by_them)) - count(without(by_them, reached))

    def init(self, stream: Array) -> State:
        none, zero = jnp.zeros(self.words, jnp.uint32), jnp.int32(0)
        return State(stream, none, none, none, jnp.int32(NOWHERE), zero, zero, zero, zero, zero)

    def action_mask(self, s: State) -> Array:
        legal = self.legal(s, list(s.own), list(s.theirs))
        return jnp.concatenate([jnp.ones(1, bool), self.on_points(legal) != 0])

    def on_points(self, x: Set) -> Array:
        """A set as a number for each point, uint32 (points,), 1 if it is in the set."""
        found = jnp.full(self.points, x[0])
        for w, word in enumerate(x[1:], 1):
            found = jnp.where(self.bits // WORD == w, word, found)
        return _down(found, self.bits % WORD) & jnp.uint32(1)

    def observe(self, s: State) -> Array:
        stones = jnp.int32(jnp.concatenate([self.on_points(list(s.own)), self.on_points(list(s.theirs))]))
        per_point = 1 / jnp.float32(self.points)
        return jnp.concatenate([jnp.float32(stones), jnp.float32(jnp.stack([s.captured, s.lost])) * per_point])

    def score(self, s: State) -> Array:
        return jnp.float32(s.outcome)

    def perf(self, s: State) -> Array:
        return 0.5 + 0.5 * jnp.float32(s.outcome)

    def render(self, s: State) -> Array:
        pixels = 24  # per point
        shape = (self.size, self.size)
        own, theirs = (self.on_points(list(x)).reshape(shape) for x in (s.own, s.theirs))
        weak = self.on_points(list(s.atari)).reshape(shape)
        y, x = np.mgrid[0:pixels, 0:pixels] - (pixels - 1) / 2
        disc = np.tile(x * x + y * y < 110.0, shape)
        dot = np.tile(x * x + y * y < 12.0, shape)
        # lines end at the outermost points
        rows, columns = np.mgrid[0 : self.size * pixels, 0 : self.size * pixels]
        lines = (rows % pixels == pixels // 2) | (columns % pixels == pixels // 2)
        half, last = pixels // 2, self.size * pixels - pixels // 2
        lines &= (rows >= half) & (rows <= last) & (columns >= half) & (columns <= last)

        def large(x: Array) -> Array:
            return x.repeat(pixels, 0).repeat(pixels, 1)[:, :, None] != 0

        picture = jnp.where(lines[:, :, None], jnp.array([96, 72, 40], jnp.uint8), jnp.array([214, 168, 96], jnp.uint8))
        picture = jnp.where(disc[:, :, None] & large(own), jnp.array([24, 24, 24], jnp.uint8), picture)
        picture = jnp.where(disc[:, :, None] & large(theirs), jnp.array([241, 241, 241], jnp.uint8), picture)
        # a red dot on each stone of a chain with one liberty
        return jnp.where(dot[:, :, None] & large(weak), jnp.array([187, 0, 0], jnp.uint8), picture)

    variants: ClassVar[tuple[dict[str, Any], ...]] = ({"size": 4, "komi": 0.0},)  # games that are drawn

    def player(self, s: State, stream: Array) -> Array:
        """At random among sensible moves, sometimes beside weak chains or any action; passes at the end."""
        own, theirs = list(s.own), list(s.theirs)
        good = self.sensible(s, own, theirs)
        attack = both(self.beside(both(theirs, list(s.atari))), good)
        stream, style = rng.below(stream, 64)
        hits = any_of(attack) & (style % 2 == 0)
        found = choose(hits, attack, good)
        number = count(found)
        stream, k = rng.below(stream, jnp.maximum(number, 1))
        _, wild = rng.below(stream, self.points + 1)
        action = jnp.where(number > 0, self.kth(found, k) + 1, 0)
        action = jnp.where((s.passed != 0) & (style % 4 < 3), 0, action)
        return jnp.where(style == 63, wild, jnp.where((style == 62) & (s.steps > 30), 0, action))


class Go(Board):
    """Go, area scoring, against an opponent that attacks and saves liberties. The agent plays black and begins.

    Observation: float32 (2 size^2 + 2,): the agent's stones and the opponent's, row by row from the
        top, 1 where there is one; stones captured and stones lost, over the number of points.
    Action: Discrete(size^2 + 1): 0 passes, 1 + size * row + column puts a stone there. Masked: occupied
        points, the ko, and suicide, which leaves the agent's own stones without a liberty. If played, it is a pass.
    Reward: 1 for a won game, -1 for a lost one, 0 for a draw; `per_stone` for each stone captured,
        minus that for each lost.
    Ends: terminated when the agent passes and the opponent has just passed, passes too or is ahead;
        truncated after `max_steps`. A game is scored by area: stones, and empty points that only one
        side reaches; the agent needs more than the opponent's area plus `komi`.
    Score: the outcome, 1, 0 or -1; perf is (1 + score) / 2.
    Opponent: takes stones if it can; if not, saves its own that could be taken, by a stone with two empty
        points beside it; if there are none, plays beside the agent's stones, or anywhere. Random among equal
        moves, never in its own eyes. It passes when no move is left.
    Differences from PufferLib: one reward for the game and one for stones (PufferLib: also for passing and
        for illegal moves, which are masked here); the ko forbids taking back at once (simple ko);
        the opponent passes; the end is not hidden from the trainer.
    """

    per_stone: float = param(default=0.01, minimum=-1.0, maximum=1.0)  # reward for a stone captured
    max_steps: int = param(default=150, minimum=1)  # steps before truncation

    @property
    def observation_space(self) -> Box:
        return Box(0.0, float("inf"), (2 * self.points + 2,))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        own, theirs = list(s.own), list(s.theirs)

        # the agent's stone; an illegal action is a pass
        point = action - 1
        passes = ~any_of(both(self.point(point), self.legal(s, own, theirs)))
        s, own, theirs, captured = self.place(s, own, theirs, jnp.where(passes, NOWHERE, point))

        # after a pass the game is over if the opponent has passed too, is ahead, or has no move
        area = self.area(*(choose(passes, x, [jnp.zeros_like(word) for word in x]) for x in (own, theirs)))
        ahead = jnp.float32(area) - self.komi
        stream, reply = self.reply(s, own, theirs)
        over = passes & ((s.passed != 0) | (ahead < 0.0) | (reply == NOWHERE))
        outcome = jnp.where(over, jnp.int32(ahead > 0.0) - jnp.int32(ahead < 0.0), 0)

        # otherwise it replies
        reply = jnp.where(over, NOWHERE, reply)
        s, theirs, own, lost = self.place(s, theirs, own, reply)

        s = s.replace(
            rng=stream,
            own=jnp.stack(own),
            theirs=jnp.stack(theirs),
            captured=s.captured + captured,
            lost=s.lost + lost,
            passed=jnp.int32(reply == NOWHERE),
            outcome=outcome,
            steps=s.steps + 1,
        )
        reward = jnp.float32(outcome) + self.per_stone * jnp.float32(captured - lost)
        return s, Outcome(reward, terminated=over, truncated=s.steps >= self.max_steps)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        own, theirs = list(s.own), list(s.theirs)
        legal = self.on_points(self.legal(s, own, theirs))
        chosen = np.arange(self.points, dtype=np.int32) == action - 1
        fine = (chosen & (legal != 0)).any()
        taken = (self.on_points(own) + self.on_points(theirs)) != 0
        captured, lost = next_state.captured - s.captured, next_state.lost - s.lost
        over = (next_state.outcome != 0) & (s.outcome == 0)
        return {
            "captured one": captured == 1,
            "captured three or more": captured >= 3,
            "lost one": lost == 1,
            "lost three or more": lost >= 3,
            "ko of the opponent": next_state.ko >= 0,
            "on a stone": (chosen & taken).any(),
            "to the ko": (action > 0) & (action - 1 == s.ko),
            "suicide": (action > 0) & ~fine & ~(chosen & taken).any() & (action - 1 != s.ko),
            "passed": action == 0,
            "opponent passed": (next_state.passed != 0) & (action > 0) & fine,
            "both passed": (action == 0) & (s.passed != 0),
            "won": over & (next_state.outcome == 1),
            "lost": over & (next_state.outcome == -1),
            "time limit": next_state.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """The opponent has passed, a ko on some point, or the last step."""
        stream, which = rng.below(stream, 3)
        stream, ko = rng.below(stream, self.points)
        _, few = rng.below(stream, 2)
        return s.replace(
            passed=jnp.where(which == 0, 1, s.passed),
            ko=jnp.where(which == 1, ko, s.ko),
            steps=jnp.where(which == 2, jnp.maximum(self.max_steps - 1 - few, 0), s.steps),
        )


class GoTwo(Board):
    """Go, area scoring, for two sides that move in turns. Side 0 begins.

    Observation: float32 (2 size^2 + 4,): stones of the side that moves and the other's, row by row from
        the top, 1 where there is one; stones that it captured and lost, over the number of points; 1 if
        the other side has just passed; the komi in its favour, over the number of points.
    Action: Discrete(size^2 + 1): 0 passes, 1 + size * row + column puts a stone there. Masked: occupied
        points, the ko, and suicide, which leaves the own stones without a liberty. If played, it is a pass.
    Reward: 1 if side 0 wins, -1 if side 1 does, 0 for a draw.
    Ends: terminated when the game is scored: after a pass, if the other side has just passed or is ahead,
        and after three moves for each point; truncated after `max_steps`. A game is scored by area: stones,
        and empty points that only one side reaches; side 0 needs more than the area of side 1 plus `komi`.
    Score: the outcome for side 0, 1, 0 or -1; perf is (1 + score) / 2.
    Differences from PufferLib: it has no such game; the rules are those of go, without a reward for stones.
    """

    max_steps: int = param(default=3 * 19 * 19, minimum=1)  # moves before truncation

    @property
    def observation_space(self) -> Box:
        return Box(-float("inf"), float("inf"), (2 * self.points + 4,))

    def to_play(self, s: State) -> Array:
        return s.steps & 1

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        own, theirs = list(s.own), list(s.theirs)
        side = self.to_play(s)

        # a stone; an illegal action is a pass
        point = action - 1
        passes = ~any_of(both(self.point(point), self.legal(s, own, theirs)))
        s, own, theirs, captured = self.place(s, own, theirs, jnp.where(passes, NOWHERE, point))

        # the game is over after the last move, and after a pass if the other side has passed too or is ahead
        last = s.steps + 1 >= MOVES * self.points
        scored = passes | last
        area = self.area(*(choose(scored, x, [jnp.zeros_like(word) for word in x]) for x in (own, theirs)))
        ahead = jnp.float32(area) - jnp.where(side == 0, self.komi, -self.komi)
        over = last | (passes & ((s.passed != 0) | (ahead < 0.0)))
        gain = jnp.where(over, jnp.int32(ahead > 0.0) - jnp.int32(ahead < 0.0), 0)
        outcome = jnp.where(side == 0, gain, -gain)

        # then it is the other side's turn
        s = s.replace(
            own=jnp.stack(theirs),
            theirs=jnp.stack(own),
            captured=s.lost,
            lost=s.captured + captured,
            passed=jnp.int32(passes),
            outcome=outcome,
            steps=s.steps + 1,
        )
        return s, Outcome(jnp.float32(outcome), terminated=over, truncated=s.steps >= self.max_steps)

    def observe(self, s: State) -> Array:
        komi = self.komi * (1 / jnp.float32(self.points))
        favour = jnp.where(self.to_play(s) == 0, -komi, komi)
        return jnp.concatenate([super().observe(s), jnp.stack([jnp.float32(s.passed), favour])])

    def render(self, s: State) -> Array:
        # side 0 is black
        first = self.to_play(s) == 0
        black, white = jnp.where(first, s.own, s.theirs), jnp.where(first, s.theirs, s.own)
        return super().render(s.replace(own=black, theirs=white))

    variants: ClassVar = (*Board.variants, {"size": 4, "komi": 0.05, "max_steps": 20})

    bots = ("random", "greedy")

    def bot(self, s: State, stream: Array, name: str) -> Array:
        """Any legal action; or the move of the single-player form's opponent."""
        if name == "random":
            return random_action(self, s, stream)
        return 1 + self.reply(s.replace(rng=stream), list(s.theirs), list(s.own))[1]

    def player(self, s: State, stream: Array) -> Array:
        """As in the other form, and in some games as the greedy bot, which sometimes lasts until the last move."""
        greedy = self.bot(s, stream, "greedy")
        return jnp.where(s.rng[0] % jnp.uint32(8) == 0, greedy, super().player(s, stream))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        legal = self.on_points(self.legal(s, list(s.own), list(s.theirs)))
        taken = (self.on_points(list(s.own)) + self.on_points(list(s.theirs))) != 0
        chosen = np.arange(self.points, dtype=np.int32) == action - 1
        fine, captured = (chosen & (legal != 0)).any(), next_state.lost - s.captured
        behind = (next_state.outcome != 0) & (next_state.outcome == jnp.where(self.to_play(s) == 0, -1, 1))
        return {
            "captured one": captured == 1,
            "captured three or more": captured >= 3,
            "ko": next_state.ko >= 0,
            "on a stone": (chosen & taken).any(),
            "to the ko": (action > 0) & (action - 1 == s.ko),
            "suicide": (action > 0) & ~fine & ~(chosen & taken).any() & (action - 1 != s.ko),
            "passed ahead": (action == 0) & (next_state.outcome == 0),
            "passed behind": (action == 0) & (s.passed == 0) & behind,
            "both passed": (action == 0) & (s.passed != 0),
            "the last move": next_state.steps >= MOVES * self.points,
            "side 0 wins": next_state.outcome == 1,
            "side 1 wins": next_state.outcome == -1,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """The other side has passed, a ko on some point, or the last step or move."""
        stream, which = rng.below(stream, 3)
        stream, ko = rng.below(stream, self.points)
        _, few = rng.below(stream, 4)
        last = jnp.where(few < 2, self.max_steps, MOVES * self.points) - 1 - few % 2
        return s.replace(
            passed=jnp.where(which == 0, 1, s.passed),
            ko=jnp.where(which == 1, ko, s.ko),
            steps=jnp.where(which == 2, jnp.maximum(last, 0), s.steps),
        )


def _up(x: Array, by: int) -> Array:
    return x << jnp.uint32(by)


def _down(x: Array, by: int | np.ndarray) -> Array:
    return x >> jnp.uint32(by)
