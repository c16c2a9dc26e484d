"""Chess for two sides; a move is two steps, its piece and its target. Twin of envs_c/chess.h."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, random_action, repeat
from jaxpuffer.spaces import Box, Composite, Discrete, Space

COLUMNS, SQUARES, WORD = 8, 64, 32


class Squares(NamedTuple):
    """A set of squares, bits of two words: square (row, column) is bit 8 row + column.

    Row 0 is the first of the side that moves next, column 0 is the a-file.
    """

    low: Array  # uint32 (), rows 0 to 3
    high: Array  # uint32 (), rows 4 to 7

    def __and__(self, other: "Squares") -> "Squares":
        return Squares(self.low & other.low, self.high & other.high)

    def __or__(self, other: "Squares") -> "Squares":
        return Squares(self.low | other.low, self.high | other.high)

    def __invert__(self) -> "Squares":
        return Squares(~self.low, ~self.high)

    def __lshift__(self, by: int) -> "Squares":
        if by >= WORD:
            return Squares(jnp.zeros_like(self.low), self.low << jnp.uint32(by - WORD))
        return Squares(self.low << jnp.uint32(by), self.high << jnp.uint32(by) | self.low >> jnp.uint32(WORD - by))

    def __rshift__(self, by: int) -> "Squares":
        if by >= WORD:
            return Squares(self.high >> jnp.uint32(by - WORD), jnp.zeros_like(self.high))
        return Squares(self.low >> jnp.uint32(by) | self.high << jnp.uint32(WORD - by), self.high >> jnp.uint32(by))


def squares(bits: int) -> Squares:
    return Squares(jnp.uint32(bits & 0xFFFFFFFF), jnp.uint32(bits >> WORD))


def row(number: int) -> Squares:
    return squares(0xFF << COLUMNS * number)


A_FILE, AB_FILES, GH_FILES, H_FILE = (0x0101010101010101 * column for column in (0x01, 0x03, 0xC0, 0x80))
ALL, DARK = 0xFFFFFFFFFFFFFFFF, 0xAA55AA55AA55AA55
A1, B1, C1, D1, F1, G1, H1 = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40, 0x80

# directions; the opposite one is BACK further on, and a line is two opposite ones
NORTH, EAST, NORTHEAST, NORTHWEST, SOUTH, WEST, SOUTHWEST, SOUTHEAST = range(8)
DIRECTIONS, BACK, LINES, STRAIGHT_LINES = 8, 4, 4, 2

# the pieces of a promotion
TO_QUEEN, TO_ROOK, TO_BISHOP, TO_KNIGHT, PROMOTIONS = range(5)
ACTIONS = SQUARES + PROMOTIONS * COLUMNS

# draws: moves of one side without a capture or a move of a pawn, twice 50, and earlier occurrences of a position
QUIET, REPEATED = 100, 2

# how good a move is for a bot
CHECKMATE, LOTS = 1000, 1 << 16

# pictures of pawn, knight, bishop, rook, queen, king: 12 rows of 12 dots
GLYPHS = (
    (0x000, 0x000, 0x000, 0x060, 0x0F0, 0x0F0, 0x060, 0x0F0, 0x060, 0x0F0, 0x1F8, 0x000),
    (0x000, 0x040, 0x0F0, 0x1F8, 0x37C, 0x3FC, 0x1BC, 0x07C, 0x0F8, 0x1F8, 0x3FC, 0x000),
    (0x000, 0x060, 0x0F0, 0x1D8, 0x1B8, 0x1F8, 0x0F0, 0x060, 0x0F0, 0x1F8, 0x3FC, 0x000),
    (0x000, 0x36C, 0x3FC, 0x1F8, 0x0F0, 0x0F0, 0x0F0, 0x0F0, 0x1F8, 0x3FC, 0x3FC, 0x000),
    (0x000, 0x462, 0x666, 0x6F6, 0x3FC, 0x3FC, 0x1F8, 0x1F8, 0x0F0, 0x1F8, 0x3FC, 0x000),
    (0x060, 0x0F0, 0x060, 0x76E, 0xFFF, 0xFFF, 0x7FE, 0x3FC, 0x1F8, 0x1F8, 0x3FC, 0x000),
)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    own: Array  # uint32 (2,), pieces of the side that moves next; the other sets are of both sides
    pawns: Array  # uint32 (2,)
    knights: Array  # uint32 (2,)
    diagonal: Array  # uint32 (2,), bishops and queens
    straight: Array  # uint32 (2,), rooks and queens
    kings: Array  # uint32 (2,)
    castling: Array  # uint32 (2,), rooks that may still castle
    passed: Array  # uint32 (2,), the square that a pawn has just passed over, if it can be captured there
    piece: Array  # uint32 (2,), the piece that is to move, none if it has to be chosen
    choices: Array  # uint32 (2,), what may be chosen now
    danger: Array  # uint32 (2,), what the other side attacks, its own pieces that it protects among it
    seen: Array  # uint32 (2, 100), keys of the positions since the last capture or move of a pawn
    quiet: Array  # int32 (), moves since then, of either side
    repeated: Array  # int32 (), earlier occurrences of the position
    check: Array  # int32 (), the king of the side that moves next is attacked
    side: Array  # int32 (), the side that moves next; 0 is white
    outcome: Array  # int32 (), 1 side 0 has won, -1 side 1, 0 not decided or a draw
    steps: Array  # int32 (), since the episode began


class Seen(PyTreeNode):
    board: Array  # int8 (8, 8)
    marks: Array  # int8 (8, 8)
    clocks: Array  # float32 (3,)


def words(x: Squares) -> Array:
    """The set as it is in a state, uint32 (2,). Not `jnp.stack`, for which XLA would compute the words many times."""
    return jnp.where(np.arange(2) == 0, x.low, x.high)


def some(x: Squares) -> Array:
    return (x.low | x.high) != 0


def several(x: Squares) -> Array:
    one = jnp.uint32(1)
    return ((x.low & (x.low - one) | x.high & (x.high - one)) != 0) | (x.low != 0) & (x.high != 0)


def same(x: Squares, y: Squares) -> Array:
    return (x.low == y.low) & (x.high == y.high)


def choose(condition: Array, x: Any, y: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), x, y)


def given(condition: Array, x: Squares) -> Squares:
    """The set if the condition holds, otherwise none."""
    return choose(condition, x, squares(0))


def shifted(x: Squares, by: int) -> Squares:
    """Shifted to the left, or to the right if negative."""
    return x << by if by > 0 else x >> -by


# what a step in a direction adds to the bit of a square, and the squares where it can end
STEPS = (8, 1, 9, 7, -8, -1, -9, -7)
ENDS = (ALL, ALL - A_FILE, ALL - A_FILE, ALL - H_FILE, ALL, ALL - H_FILE, ALL - H_FILE, ALL - A_FILE)


def step(x: Squares, direction: int) -> Squares:
    """The squares one step away."""
    return shifted(x, STEPS[direction]) & squares(ENDS[direction])


@functools.partial(jax.jit, static_argnames="direction")
def ray(x: Squares, through: Squares, direction: int) -> Squares:
    """The squares that a slide passes, which goes `through` a set and ends on the first square that is not in it."""
    # after each round twice as far
    through = through & squares(ENDS[direction])
    for far in (1, 2, 4):
        x = x | through & shifted(x, far * STEPS[direction])
        through = through & shifted(through, far * STEPS[direction])
    return step(x, direction)


def jumps(x: Squares) -> Squares:
    """The squares a knight's move away."""
    one = x << 1 & ~squares(A_FILE) | x >> 1 & ~squares(H_FILE)
    two = x << 2 & ~squares(AB_FILES) | x >> 2 & ~squares(GH_FILES)
    return one << 16 | one >> 16 | two << 8 | two >> 8


def around(x: Squares) -> Squares:
    """The squares a king's move away."""
    found = squares(0)
    for d in range(DIRECTIONS):
        found = found | step(x, d)
    return found


def planes(s: State) -> list[Squares]:
    """The position as a number of four bits for each square.

    0 empty; 1 to 6 own pawn, knight, bishop, rook, queen, king; 7 a rook that may castle; 8 a square where a pawn
    can be captured that passed it; 9 to 15 the pieces of the other side.
    """
    diagonal, straight, kings, castling = (Squares(*x) for x in (s.diagonal, s.straight, s.kings, s.castling))
    first = Squares(*s.pawns) | diagonal | castling
    second = Squares(*s.knights) | diagonal & ~straight | kings | castling
    third = straight | kings
    return [first, second, third, (first | second | third) & ~Squares(*s.own) | Squares(*s.passed)]


def look(s: State) -> State:
    """What may be chosen: pieces that have a legal move, or the targets of the chosen piece.

    Also what the other side attacks, whether there is a check, and whether the pawn that has passed a square can be
    captured.
    """
    own, pawns, knights, kings = (Squares(*x) for x in (s.own, s.pawns, s.knights, s.kings))
    diagonal, straight = Squares(*s.diagonal), Squares(*s.straight)
    piece, passed, castling = (Squares(*x) for x in (s.piece, s.passed, s.castling))
    lines = [straight if d % LINES < STRAIGHT_LINES else diagonal for d in range(DIRECTIONS)]
    occupied = pawns | knights | straight | diagonal | kings
    theirs, empty, king = occupied & ~own, ~occupied, own & kings
    picking = ~some(piece)

    # what they attack, also behind the king, and what the king sees in each direction
    danger = jumps(theirs & knights) | around(theirs & kings)
    danger = danger | step(theirs & pawns, SOUTHWEST) | step(theirs & pawns, SOUTHEAST)
    hit, sight = [], []
    for d in range(DIRECTIONS):
        hit.append(ray(theirs & lines[d], empty | king, d))
        sight.append(ray(king, empty, d))
        danger = danger | hit[d]

    # who gives check, and the squares between
    checks = jumps(king) & knights
    checks = checks | (step(king, NORTHWEST) | step(king, NORTHEAST)) & pawns
    between = squares(0)
    for d in range(DIRECTIONS):
        slider = sight[d] & theirs & lines[d]
        checks = checks | slider
        between = between | given(some(slider), sight[d])
    checks = checks & theirs
    check = some(checks)

    # a piece between the king and a slider may move only along that line
    pinned = [sight[d] & hit[d + BACK] | sight[d + BACK] & hit[d] for d in range(LINES)]
    any_pinned = pinned[0] | pinned[1] | pinned[2] | pinned[3]
    free = [own & (~any_pinned | pinned[d % LINES]) for d in range(DIRECTIONS)]

    # targets: a piece other than the king must answer a check
    answers = given(~several(checks), checks | between)
    goals = ~own & choose(check, answers, squares(ALL))

    # pieces that reach a goal, or goals that the piece reaches: the same, as these moves can be made backwards
    def reached(movers: Squares, goals: Squares, move: Callable[[Squares], Squares]) -> Squares:
        return move(choose(picking, goals, piece & movers)) & choose(picking, movers, goals)

    found = squares(0)
    for d in range(DIRECTIONS):
        found = found | reached(free[d] & lines[d], goals, functools.partial(ray, through=empty, direction=d))
    calm = ~own & ~danger
    found = found | reached(own & knights & ~any_pinned, goals, jumps)
    found = found | reached(king, calm, around)

    # pawns: one step, two from their first row, and captures
    ahead, pushed = goals & empty, free[NORTH] & pawns
    jumped = pushed & row(1) & step(empty, SOUTH)
    found = found | choose(picking, step(ahead, SOUTH) & pushed, step(piece & pushed, NORTH) & ahead)
    found = found | choose(picking, ahead >> 16 & jumped, (piece & jumped) << 16 & ahead)
    for d in (NORTHEAST, NORTHWEST):
        capturing, prey = free[d] & pawns, goals & theirs
        found = found | choose(picking, step(prey, d + BACK) & capturing, step(piece & capturing, d) & prey)

    # en passant: not if a check remains, nor if only these two pawns stand between the king and a slider on their row
    caught = step(passed, SOUTH)
    through = empty | caught
    bared = ray(king, through, EAST) & ray(theirs & straight, through, WEST)
    bared = bared | ray(king, through, WEST) & ray(theirs & straight, through, EAST)
    passing = step(passed, SOUTHWEST) & free[NORTHEAST] | step(passed, SOUTHEAST) & free[NORTHWEST]
    passing = given(some(goals & (passed | caught)), passing & pawns & ~bared)
    passed = given(some(passing), passed)
    found = found | choose(picking, passing, given(some(piece & passing), passed))

    # castling: not out of a check, nor over an attacked square
    calm = calm & empty
    short = some(castling & squares(H1)) & ~some(squares(F1 | G1) & ~calm)
    long = some(castling & squares(A1)) & ~some(squares(C1 | D1) & ~calm) & some(empty & squares(B1))
    castles = given(short, squares(G1)) | given(long, squares(C1))
    found = found | given(some(piece & king) & ~check, castles)

    return s.replace(choices=words(found), danger=words(danger), passed=words(passed), check=jnp.int32(check))


def turned(x: Squares) -> Squares:
    """The rows in the opposite order: the board as the other side sees it."""

    def swapped(word: Array) -> Array:
        far, near = word >> jnp.uint32(24) | word << jnp.uint32(24), jnp.uint32(8)
        return far | word >> near & jnp.uint32(0xFF00) | word << near & jnp.uint32(0xFF0000)

    return Squares(swapped(x.high), swapped(x.low))


def play(s: State, to: Squares, promotion: Array) -> State:
    """Move the piece, and turn the board round to the other side."""
    own, pawns, knights, kings = (Squares(*x) for x in (s.own, s.pawns, s.knights, s.kings))
    diagonal, straight = Squares(*s.diagonal), Squares(*s.straight)
    start, passed, castling = (Squares(*x) for x in (s.piece, s.passed, s.castling))
    pawn, king = some(start & pawns), some(start & kings)
    last = pawn & some(to & row(7))
    capture = some((pawns | knights | diagonal | straight | kings) & to)

    # what leaves its square, and where the rook goes when castling
    short, long = king & same(start << 2, to), king & same(start >> 2, to)
    gone = start | to | given(pawn, step(to & passed, SOUTH)) | given(short, squares(H1)) | given(long, squares(A1))
    rook = given(short, squares(F1)) | given(long, squares(D1))

    def moved(x: Squares, to: Squares) -> Squares:
        # without what has gone, and with the target if the piece is in it
        return x & ~gone | given(some(x & start), to)

    # the piece on its target; a pawn on the last row is another piece there
    queen = promotion == TO_QUEEN
    own = own & ~gone | to | rook
    knights = moved(knights, to) | given(last & (promotion == TO_KNIGHT), to)
    diagonal = moved(diagonal, to) | given(last & (queen | (promotion == TO_BISHOP)), to)
    straight = moved(straight, to) | given(last & (queen | (promotion == TO_ROOK)), to) | rook
    kings = moved(kings, to)
    double = given(pawn & same(start << 16, to), start << COLUMNS)
    pawns = moved(pawns, given(~last, to))

    castling = castling & ~(start | to | given(king, row(0)))
    own = (pawns | knights | diagonal | straight | kings) & ~own
    return s.replace(
        own=words(turned(own)),
        pawns=words(turned(pawns)),
        knights=words(turned(knights)),
        diagonal=words(turned(diagonal)),
        straight=words(turned(straight)),
        kings=words(turned(kings)),
        castling=words(turned(castling)),
        passed=words(turned(double)),
        piece=jnp.zeros_like(s.piece),
        quiet=jnp.where(pawn | capture, 0, s.quiet + 1),
        side=1 - s.side,
    )


def key(s: State) -> Array:
    """64 bits of the position, uint32 (2,), which two positions share with a probability of 2^-64."""
    x, y, z = jnp.uint32(s.side), jnp.uint32(0), jnp.uint32(0)
    for plane in planes(s):
        x, y, z = rng._hash(x ^ plane.low, y ^ plane.high, z)
    return words(Squares(x, y))


def remember(s: State, new: Array, moved: Array) -> State:
    """Count the earlier occurrences of a position with this key, and note it; only if somebody `moved`."""
    i = jnp.arange(QUIET, dtype=jnp.int32)
    again = (i < s.quiet) & (s.seen[0] == new[0]) & (s.seen[1] == new[1])
    return s.replace(
        seen=jnp.where(moved & (i == s.quiet), new[:, None], s.seen),
        repeated=jnp.where(moved, jnp.int32(again).sum(), s.repeated),
    )


def bare(s: State) -> Array:
    """Whether nobody can give checkmate: a knight at most, or bishops on squares of one colour."""
    knights, bishops = Squares(*s.knights), Squares(*s.diagonal)
    one_colour = ~some(bishops & squares(DARK)) | ~some(bishops & ~squares(DARK))
    few = jnp.where(some(bishops), ~some(knights) & one_colour, ~several(knights))
    return ~some(Squares(*s.pawns) | Squares(*s.straight)) & few


def promoting(s: State) -> Squares:
    """The targets of the choices where the piece is a pawn that promotes."""
    return given(some(Squares(*s.piece) & Squares(*s.pawns)), Squares(*s.choices) & row(7))


def square(number: Array) -> Squares:
    """The set of one square."""
    bit, none = jnp.uint32(1) << jnp.uint32(number % WORD), jnp.uint32(0)
    return Squares(jnp.where(number < WORD, bit, none), jnp.where(number < WORD, none, bit))


def on_board(x: Squares) -> Array:
    """Whether each square is in the set, uint32 (64,)."""
    i = np.arange(SQUARES)
    return jnp.where(i < WORD, x.low, x.high) >> np.uint32(i % WORD) & jnp.uint32(1)


def count(x: Squares) -> Array:
    return jnp.int32(lax.population_count(x.low) + lax.population_count(x.high))


def balance(s: State) -> Array:
    """The material of the side that moves next minus the other's, int32 (), a pawn counted as 1."""
    own, diagonal, straight = Squares(*s.own), Squares(*s.diagonal), Squares(*s.straight)

    def material(side: Squares) -> Array:
        pieces = [Squares(*s.pawns), Squares(*s.knights), diagonal, straight, diagonal & straight]
        return sum((value * count(x & side) for value, x in zip((1, 3, 3, 5, 1), pieces, strict=True)), jnp.int32(0))

    return material(own) - material(~own)


def worth(s: State, those: Squares) -> Array:
    """What a piece is worth in pawns, int32 (): the most valuable one of a set."""
    diagonal, straight = those & Squares(*s.diagonal), those & Squares(*s.straight)
    value = jnp.int32(some(those & Squares(*s.pawns)))
    value = jnp.where(some(diagonal | those & Squares(*s.knights)), 3, value)
    value = jnp.where(some(straight), 5, value)
    return jnp.where(some(diagonal & straight), 9, value)


def loss(s: State) -> Array:
    """The most valuable piece that the side that moves next can take, int32 ()."""
    return worth(s, Squares(*look(s.replace(piece=s.own)).choices) & ~Squares(*s.own))


class Chess(Env[State]):
    """Chess for two sides that move in turns; a move is two steps, its piece and its target.

    Observation: board int8 (8, 8), marks int8 (8, 8), clocks float32 (3,). The mover's first row is the first, the
        a-file the first column. Pieces of the board: 0 empty; 1 to 6 own pawn, knight, bishop, rook, queen, king; 7 an
        own rook that may castle; 8 a square where a pawn that passed it can be captured; 9 to 15 as 1 to 7 of the other
        side. Marks: 1 may be chosen, 2 the chosen piece; 4 more where the other side attacks, or protects a piece.
        Clocks: moves without capture or move of a pawn, earlier occurrences of the position, each over the number that
        draws, and the share of the steps left.
    Action: Discrete(96): 0 to 63 is the square 8 row + column, of the piece and then of its target; with 64 + 8 piece +
        column a pawn promotes in that column, to queen, rook, bishop or knight. What is not legal is masked, and does
        nothing if chosen.
    Reward: 1 if side 0, which begins, wins, -1 if side 1 does; `material_reward` for each pawn's worth that side 0
        captures or gains by a promotion, minus that for what side 1 does.
    Ends: terminated at checkmate, stalemate, insufficient material, at the third occurrence of a position, and after 50
        moves of each side without a capture or a move of a pawn; truncated after `max_steps`.
    Score: the outcome for side 0, -1, 0 or 1; perf scales it to 0..1.
    Differences from PufferLib: one agent is both sides in turns, so nobody passes while the other moves; two minor
        pieces are material enough where a checkmate is possible; a target that is not legal does not put the piece
        back; a pawn on the last row promotes only with the actions for it; the time limit is no end by the rules; a
        reward for material, none for draws, and no other first positions.
    """

    material_reward: float = param(default=0.02)  # for what is captured or gained by a promotion, of each pawn's worth
    max_steps: int = param(default=1024, minimum=1)  # steps before truncation, two for a move

    observation_space: ClassVar[Composite] = Composite(
        Seen,
        board=Box(0, 15, (COLUMNS, COLUMNS), np.int8),
        marks=Box(0, 6, (COLUMNS, COLUMNS), np.int8),
        clocks=Box(0.0, 1.0, (3,)),
    )
    action_space: ClassVar[Space] = Discrete(ACTIONS)

    def to_play(self, s: State) -> Array:
        return s.side

    def init(self, stream: Array) -> State:
        def sets(bits: int) -> Array:
            return words(squares(bits))

        zero = jnp.int32(0)
        s = State(
            stream,
            own=sets(0x000000000000FFFF),
            pawns=sets(0x00FF00000000FF00),
            knights=sets(0x4200000000000042),
            diagonal=sets(0x2C0000000000002C),
            straight=sets(0x8900000000000089),
            kings=sets(0x1000000000000010),
            castling=sets(0x8100000000000081),
            passed=sets(0),
            piece=sets(0),
            choices=sets(0),
            danger=sets(0),
            seen=jnp.zeros((2, QUIET), jnp.uint32),
            quiet=zero,
            repeated=zero,
            check=zero,
            side=zero,
            outcome=zero,
            steps=zero,
        )
        s = look(s)
        return remember(s, key(s), jnp.bool_(True))

    def action_mask(self, s: State) -> Array:
        promotes = promoting(s)
        last = on_board(promotes)[SQUARES - COLUMNS :]
        return jnp.concatenate([on_board(Squares(*s.choices) & ~promotes), *[last] * PROMOTIONS]) != 0

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        promotes, promotion = action >= SQUARES, action // COLUMNS - COLUMNS
        chosen = square(jnp.where(promotes, SQUARES - COLUMNS + action % COLUMNS, action))
        promotions = promoting(s)

        # what is not legal does nothing; otherwise it is a piece to move, or its move
        legal = some(chosen & choose(promotes, promotions, Squares(*s.choices) & ~promotions))
        picking = ~some(Squares(*s.piece))
        moves, side, seen = legal & ~picking, s.side, s.seen
        s = s.replace(piece=jnp.where(legal & picking, words(chosen), s.piece), outcome=jnp.int32(0), steps=s.steps + 1)

        # what the move captures, and what a promotion gains
        start = Squares(*s.piece)
        passing = some(start & Squares(*s.pawns)) & some(chosen & Squares(*s.passed))
        gain = worth(s, chosen) + jnp.int32(passing) - worth(s, start)

        # one after the other, because XLA would compute an earlier one again for all that depends on it
        rounds: list[Callable[[Any], Any]] = [
            lambda c: (choose(moves, play(c[0], chosen, promotion), c[0]), c[1]),
            lambda c: (choose(legal, look(c[0]), c[0]), c[1]),
            lambda c: (c[0], key(c[0])),
        ]
        carry = s.replace(seen=jnp.uint32(0)), jnp.zeros(2, jnp.uint32)  # without `seen`, so that it is not copied
        s, new = repeat(len(rounds), lambda i, c: lax.switch(i, rounds, c), carry)
        s = remember(s.replace(seen=seen), new, moves)

        # with no answer it is checkmate or stalemate
        gain = jnp.where(moves, gain + worth(s, turned(chosen)), 0)
        stuck = ~some(Squares(*s.choices))
        draw = (s.quiet >= QUIET) | (s.repeated >= REPEATED) | bare(s)
        mate = moves & stuck & (s.check != 0)
        s = s.replace(outcome=jnp.int32(mate) * (1 - 2 * side))
        return s, Outcome(
            reward=jnp.float32(s.outcome) + jnp.float32(gain * (1 - 2 * side)) * self.material_reward,
            terminated=moves & (stuck | draw),
            truncated=s.steps >= self.max_steps,
        )

    def observe(self, s: State) -> Seen:
        bits = [on_board(plane) << jnp.uint32(k) for k, plane in enumerate(planes(s))]
        piece = Squares(*s.piece)
        marks = on_board(Squares(*s.choices) & ~piece) | on_board(piece) << jnp.uint32(1)
        marks = marks | on_board(Squares(*s.danger)) << jnp.uint32(2)
        clocks = [
            jnp.float32(s.quiet) * (1 / jnp.float32(QUIET)),
            jnp.float32(s.repeated) * (1 / jnp.float32(REPEATED)),
            jnp.float32(self.max_steps - s.steps) * (1 / jnp.float32(self.max_steps)),
        ]
        return Seen(
            board=jnp.int8(bits[0] | bits[1] | bits[2] | bits[3]).reshape(COLUMNS, COLUMNS),
            marks=jnp.int8(marks).reshape(COLUMNS, COLUMNS),
            clocks=jnp.stack(clocks),
        )

    def score(self, s: State) -> Array:
        return jnp.float32(s.outcome)

    def perf(self, s: State) -> Array:
        return 0.5 + 0.5 * jnp.float32(s.outcome)

    def render(self, s: State) -> Array:
        # white below; glyphs of 12 by 12 dots with an outline
        white_moves = s.side == 0
        seen = self.observe(s)
        board, marks = (jnp.where(white_moves, x[::-1], x) for x in (seen.board, seen.marks % 4))
        rows = np.array(GLYPHS)[:, :, None] >> np.arange(12)[::-1] & 1
        solid = np.pad(rows.repeat(2, 1).repeat(2, 2), ((1, 0), (2, 2), (2, 2)))
        grown = np.max([np.roll(solid, (y, x), (1, 2)) for y in (-1, 0, 1) for x in (-1, 0, 1)], 0)
        kind = board % 8
        dots = jnp.asarray(solid + grown)[jnp.where(kind == 7, 4, kind)]
        pixels = dots.shape[-1]

        def spread(x: Any) -> Array:
            return jnp.broadcast_to(x[..., None, None], dots.shape)

        def colour(*rgb: int) -> Array:
            return jnp.array(rgb, jnp.uint8)

        light = spread(np.indices((COLUMNS, COLUMNS)).sum(0) % 2 == 0)[..., None]
        picture = jnp.where(light, colour(226, 214, 190), colour(150, 118, 90))
        picture = jnp.where(spread(marks == 2)[..., None], colour(230, 200, 70), picture)
        y, x = np.mgrid[0:pixels, 0:pixels] - (pixels - 1) / 2
        picture = jnp.where(
            (spread(marks == 1) & (np.hypot(x, y) > 15.5)[None, None])[..., None], colour(70, 150, 90), picture
        )
        white = spread((board < 8) == white_moves)
        dark = (dots == 2) & ~white | (dots == 1) & white
        picture = jnp.where((dots > 0)[..., None], colour(248, 248, 240), picture)
        picture = jnp.where(dark[..., None], colour(24, 24, 28), picture)
        return picture.transpose(0, 2, 1, 3, 4).reshape(COLUMNS * pixels, COLUMNS * pixels, 3)

    bots = ("random", "material", "depth2")

    def bot(self, s: State, stream: Array, name: str) -> Array:
        """Scripted opponents: "material" looks one move ahead, "depth2" also at what the other side can take then.

        Both give checkmate if they can, and draw a move among those that leave them the most material.
        """
        if name == "random":
            return random_action(self, s, stream)
        picking = ~some(Squares(*s.piece))

        def left(c: Any) -> Array:
            pieces, targets = c[0], c[1]
            return some(pieces) | targets.any()

        def one(c: Any) -> Any:
            pieces, targets, chosen, piece, best, action, stream = c
            # the next target of a piece, or the next piece
            moves = targets.any()
            target = jnp.int32(jnp.argmax(targets))
            number = jnp.int32(jnp.argmax(on_board(pieces)))
            choice = jnp.where(moves, target, number)
            after, outcome = self.transition(choose(moves, chosen, s), choice)

            # how good a move is, among equals a random one
            value = -balance(after)
            if name == "depth2":
                value = value - loss(after)
            decided = jnp.abs(after.outcome) * CHECKMATE
            stream, lot = rng.below(stream, LOTS)
            value = jnp.where(outcome.terminated, decided, value) * LOTS + lot
            better = moves & (value > best)

            pieces = choose(moves, pieces, pieces & ~square(number))
            mask = jnp.where(moves, targets & (np.arange(ACTIONS) != target), self.action_mask(after))
            return (
                pieces,
                mask,
                choose(moves, chosen, after),
                jnp.where(moves, piece, number),
                jnp.where(better, value, best),
                jnp.where(better, jnp.where(picking, piece, target), action),
                stream,
            )

        pieces = given(picking, Squares(*s.choices))
        targets = self.action_mask(s) & ~picking
        start = pieces, targets, s, jnp.int32(0), jnp.int32(-CHECKMATE * LOTS), jnp.int32(0), stream
        return lax.while_loop(left, one, start)[5]

    def player(self, s: State, stream: Array) -> Array:
        """At random, or with a liking for captures, for pawns, or for the first of all choices: the row decides."""
        own, choices = Squares(*s.own), Squares(*s.choices)
        liked = jnp.stack([on_board(x) for x in (choices, choices & ~own, choices & Squares(*s.pawns), choices)])
        stream, which = rng.below(stream, SQUARES)
        style = jnp.int32(s.rng[0] % jnp.uint32(4))
        flags = jnp.where(which < SQUARES // 2, liked[style], on_board(choices))
        flags = jnp.int32(jnp.where(flags.any(), flags, on_board(choices)))
        stream, k = rng.below(stream, jnp.maximum(flags.sum(), 1))
        k = jnp.where((style == 3) & (which > 3), 0, k)
        number = jnp.minimum((flags.cumsum() <= k).sum(dtype=jnp.int32), SQUARES - 1)
        stream, kind = rng.below(stream, PROMOTIONS)
        promotes = some(square(number) & promoting(s))
        return jnp.where(promotes, SQUARES + COLUMNS * kind + number % COLUMNS, number)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        moved, before, after = next_state.side != s.side, planes(s), planes(next_state)
        start, pawns = Squares(*s.piece), Squares(*s.pawns)
        king, pawn = some(start & Squares(*s.kings)), some(start & pawns)
        to = square(jnp.minimum(action, SQUARES - 1))
        stuck, check = ~some(Squares(*next_state.choices)), next_state.check != 0
        promotes, kind = moved & (action >= SQUARES), action // COLUMNS - COLUMNS
        castled = moved & king & some(Squares(*s.castling))
        may_castle = ~some(start) & some(Squares(*next_state.piece) & Squares(*s.kings)) & (s.castling != 0).any()
        names = ("queen", "rook", "bishop", "knight")
        return {f"promoted to a {names[k]}": promotes & (kind == k) for k in range(PROMOTIONS)} | {
            "a piece chosen": ~some(start) & some(Squares(*next_state.piece)),
            "may castle short": may_castle & some(Squares(*next_state.choices) & squares(G1)),
            "may castle long": may_castle & some(Squares(*next_state.choices) & squares(C1)),
            "castled short": castled & same(start << 2, to),
            "castled long": castled & same(start >> 2, to),
            "castling lost": moved & ~king & some(Squares(*s.castling)) & ~some(Squares(*next_state.castling)),
            "en passant possible": moved & some(Squares(*next_state.passed)),
            "en passant": moved & pawn & some(to & Squares(*s.passed)),
            "captured": moved & some(before[3] & to) & ~some(to & Squares(*s.passed)),
            "promoted with a capture": promotes
            & some(before[3] & row(7) & square(SQUARES - COLUMNS + action % COLUMNS)),
            "check": moved & check & ~stuck,
            "answered a check": moved & (s.check != 0),
            "checkmate by side 0": next_state.outcome == 1,
            "checkmate by side 1": next_state.outcome == -1,
            "stalemate": moved & stuck & ~check,
            "50 moves": moved & (next_state.quiet >= QUIET) & ~stuck,
            "second occurrence": moved & (next_state.repeated == 1),
            "third occurrence": moved & (next_state.repeated == REPEATED),
            "bare kings": moved & bare(next_state) & ~some(after[0] | Squares(*next_state.knights)),
            "a knight is left": moved & bare(next_state) & some(Squares(*next_state.knights)),
            "bishops are left": moved & bare(next_state) & some(Squares(*next_state.diagonal)),
            "not legal": ~moved & same(start, Squares(*next_state.piece)),
            "time limit": next_state.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """Random pieces, of which everything may be chosen, near a draw; or the last steps."""
        i = np.arange(SQUARES)
        stream, bits = rng.each(stream, SQUARES)
        stream, density = rng.below(stream, 12)
        stream, spot = rng.below(stream, SQUARES)
        stream, few = rng.below(stream, 4)
        stream, which = rng.below(stream, 4)
        kind = jnp.int32(bits >> jnp.uint32(8)) % 8
        there = jnp.int32(bits >> jnp.uint32(20)) % 16 < density
        corner = np.isin(i, (0, 7, 56, 63))
        flags = {
            "own": there & (bits % jnp.uint32(2) == 0),
            "pawns": there & (kind < 2),
            "knights": there & (kind == 2),
            "diagonal": there & ((kind == 3) | (kind == 4)),
            "straight": there & ((kind == 4) | (kind == 5)),
            "kings": there & (kind == 6),
            "castling": corner & (kind < 4),
            "passed": i == 40 + spot % COLUMNS,
            "piece": (i == spot) & (which == 0),
            "choices": np.ones(SQUARES, bool),
            "danger": bits % jnp.uint32(5) == 0,
        }

        def gathered(x: Array) -> Array:
            return jnp.where(x.reshape(2, WORD), jnp.uint32(1) << np.uint32(i[:WORD]), jnp.uint32(0)).sum(1)

        odd = s.replace(**{name: gathered(x) for name, x in flags.items()}, quiet=QUIET - few)
        return choose(which < 3, odd, s.replace(steps=jnp.maximum(self.max_steps - few, 0)))

    def figures(self, s: State) -> dict[str, Array]:
        # whether the game was decided by a checkmate
        return {"decided": jnp.float32(s.outcome != 0)}
