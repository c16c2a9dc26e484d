"""Chess: known counts of moves, positions worked out by hand, and random games against python-chess if it is there.

A position is written as in FEN (Forsyth-Edwards notation), a move as its two squares and the piece of a promotion.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_c
from envs_jax.chess import COLUMNS, SQUARES, Chess, key, look, remember
from jaxpuffer import Scripted, make, match, rng
from jaxpuffer.baselines import load_baseline
from jaxpuffer.env import random_action

ENV = Chess()
BACKEND = "c" if envs_c.is_built() else "jax"  # of what takes many steps
SETS = {"pawns": "p", "knights": "n", "diagonal": "bq", "straight": "rq", "kings": "k"}
LETTERS = ".PNBRQKR.pnbrqkr"  # of the pieces that are observed
STEP = jax.jit(lambda s, action: ENV.transition(s, action))
MASK = jax.jit(lambda s: ENV.action_mask(s))
BOT = jax.jit(lambda name, s, stream: ENV.bot(s, stream, name), static_argnums=0)
START = "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1"


@jax.jit
def prepared(sets, quiet, side):
    s = look(ENV.init(jnp.array([1, 2], jnp.uint32)).replace(**sets, quiet=quiet, side=side))
    return remember(s, key(s), jnp.bool_(True))


def position(fen):
    """The state of a position."""
    board, side, castling, passed, quiet, _ = fen.split()
    black = side == "b"
    bits = dict.fromkeys(("own", "castling", "passed", *SETS), 0)

    def square(column, row):
        return 1 << COLUMNS * (COLUMNS - 1 - row if black else row) + column

    for row, text in enumerate(board.split("/")):
        text = "".join(" " * int(c) if c.isdigit() else c for c in text)
        for column, piece in enumerate(text):
            for name, kinds in SETS.items():
                bits[name] |= square(column, 7 - row) * (piece.lower() in kinds)
            bits["own"] |= square(column, 7 - row) * (piece.islower() if black else piece.isupper())
    for right in castling.replace("-", ""):
        bits["castling"] |= square(7 if right in "Kk" else 0, 0 if right.isupper() else 7)
    if passed != "-":
        bits["passed"] = square("abcdefgh".index(passed[0]), int(passed[1]) - 1)
    words = {name: jnp.array([x & 0xFFFFFFFF, x >> 32], jnp.uint32) for name, x in bits.items()}
    return prepared(words, jnp.int32(quiet), jnp.int32(black))


def drawn(s):
    """The board as eight lines, white below."""
    rows = np.asarray(ENV.observe(s).board)
    if s.side == 0:
        rows = rows[::-1]
    lines = ["".join(LETTERS[c] for c in row) for row in rows]
    return [line.swapcase() for line in lines] if s.side == 1 else lines


def actions(s, move):
    """The two actions of a move."""
    ends = ["abcdefgh".index(move[k]) + COLUMNS * (int(move[k + 1]) - 1) for k in (0, 2)]
    start, target = (end ^ 56 if s.side == 1 else end for end in ends)
    return start, target if len(move) == 4 else SQUARES + COLUMNS * "qrbn".index(move[4]) + target % COLUMNS


def played(s, moves):
    """The state after some moves, and the outcome of the last."""
    for move in moves.split():
        start, target = actions(s, move)
        for action in (start, target):
            assert MASK(s)[action], move
            s, outcome = STEP(s, jnp.int32(action))
    return s, outcome


def targets(s, square):
    """Where the piece on a square can go, in alphabetical order; none if it cannot be chosen."""
    start, _ = actions(s, square + square)
    if not MASK(s)[start]:
        return ""
    chosen, _ = STEP(s, jnp.int32(start))
    found = np.flatnonzero(MASK(chosen))
    found = [56 + i % COLUMNS if i >= SQUARES else i for i in found]
    found = [i ^ 56 if s.side == 1 else i for i in found]
    return " ".join(sorted({"abcdefgh"[i % COLUMNS] + str(i // COLUMNS + 1) for i in found}))


def test_default_parameters():
    assert int(make("chess").max_steps) == 1024 and np.isclose(make("chess").material_reward, 0.02)


# counts of the games of some moves, from the Chess Programming Wiki (Perft Results)

ROWS = 4096  # of a batch
PERFT = {
    START: (20, 400, 8902, 197281, 4865609),
    "r3k2r/p1ppqpb1/bn2pnp1/3PN3/1p2P3/2N2Q1p/PPPBBPPP/R3K2R w KQkq - 0 1": (48, 2039, 97862, 4085603),
    "8/2p5/3p4/KP5r/1R3p1k/8/4P1P1/8 w - - 0 1": (14, 191, 2812, 43238, 674624),
    "r3k2r/Pppp1ppp/1b3nbN/nP6/BBP1P3/q4N2/Pp1P2PP/R2Q1RK1 w kq - 0 1": (6, 264, 9467, 422333),
    "rnbq1k1r/pp1Pbppp/2p5/8/2B5/8/PPP1NnPP/RNBQK2R w KQ - 1 8": (44, 1486, 62379, 2103487),
    "r4rk1/1pp1qppp/p1np1n2/2b1p1B1/2B1P1b1/P1NP1N2/1PP1QPPP/R4RK1 w - - 0 10": (46, 2079, 89890, 3894594),
}


@functools.cache
def functions():
    batch = make("chess", backend=BACKEND).batch(ROWS)

    @jax.jit
    def rows_of(s):
        """A batch of this position alone."""
        rows, _ = batch.reset(jax.random.key(0))
        env = jax.tree.map(lambda x: jnp.broadcast_to(x, (ROWS, *x.shape)), s)
        state = batch.unpack(rows).replace(env=env)
        return batch.pack(state) if BACKEND == "c" else state

    return rows_of, jax.jit(lambda rows, actions: batch.transition(rows, actions)[0]), jax.jit(batch.action_mask)


def perft(fen, depth):
    """How many games of `depth` moves there are from a position."""
    rows_of, transition, mask = functions()
    one = jax.tree.map(lambda x: np.asarray(x)[:1], rows_of(position(fen)))

    def chunks(rows):
        count = len(jax.tree.leaves(rows)[0])
        for first in range(0, count, ROWS):
            pick = np.minimum(np.arange(first, first + ROWS), count - 1)
            yield min(ROWS, count - first), jax.tree.map(lambda x, pick=pick: x[pick], rows)

    def after(rows):
        """The rows after each legal action."""
        parts = []
        for count, chunk in chunks(rows):
            row, action = np.nonzero(np.asarray(mask(chunk))[:count])
            wanted = (jax.tree.map(lambda x, row=row: x[row], chunk), np.int32(action))
            parts += [jax.tree.map(lambda x, n=n: np.asarray(x)[:n], transition(*some)) for n, some in chunks(wanted)]
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    def games(rows, depth):
        total = 0
        for count, chunk in chunks(rows):
            chosen = after(jax.tree.map(lambda x, count=count: x[:count], chunk))
            if depth == 1:
                total += sum(int(np.asarray(mask(some))[:n].sum()) for n, some in chunks(chosen))
            else:
                total += games(after(chosen), depth - 1)
        return total

    return games(one, depth)


def cases():
    for fen, counts in PERFT.items():
        for depth, count in enumerate(counts, 1):
            yield pytest.param(fen, depth, count, marks=[pytest.mark.full] if count > 500_000 else [])


@pytest.mark.parametrize(("fen", "depth", "count"), list(cases()))
def test_perft(fen, depth, count):
    assert perft(fen, depth) == count


# moves worked out by hand


def test_a_move_is_two_steps_of_the_same_side():
    s = position(START)
    assert ENV.to_play(s) == 0
    s, outcome = STEP(s, jnp.int32(12))  # the pawn e2
    assert ENV.to_play(s) == 0 and not outcome.terminated
    np.testing.assert_array_equal(np.flatnonzero(MASK(s)), [20, 28])
    s, _ = STEP(s, jnp.int32(28))
    assert ENV.to_play(s) == 1
    # black sees the same board from its side: its pawns on the second row, e4 where e5 would be
    seen = np.asarray(ENV.observe(s).board)
    np.testing.assert_array_equal(seen[:2], [[7, 2, 3, 5, 6, 3, 2, 7], [1] * 8])
    np.testing.assert_array_equal(seen[4], [0, 0, 0, 0, 9, 0, 0, 0])
    assert (seen == 8).sum() == 0  # no pawn can capture on e3, so the square is not marked


def test_what_is_not_legal_does_nothing():
    s = position(START)
    for action in (0, 20, 36, 63, 64, 95):  # a rook that cannot move, an empty square, their pieces, promotions
        after, outcome = STEP(s, jnp.int32(action))
        np.testing.assert_array_equal(after.choices, s.choices)
        assert after.steps == 1 and after.side == 0 and outcome.reward == 0 and not outcome.terminated


CASTLES = "r3k2r/8/8/8/8/8/8/R3K2R w KQkq - 0 1"


@pytest.mark.parametrize(
    ("move", "line", "reply"),
    [("e1g1", "R....RK.", "e8c8"), ("e1c1", "..KR...R", "e8g8"), ("e1e2", "R......R", "e8g8")],
)
def test_castling(move, line, reply):
    s, _ = played(position(CASTLES), move)
    assert drawn(s)[7] == line
    s, _ = played(s, reply)
    assert drawn(s)[0] == ("..kr...r" if reply == "e8c8" else "r....rk.")
    assert not np.asarray(s.castling).any()


@pytest.mark.parametrize(
    ("fen", "castles"),
    [
        (CASTLES, "c1 g1"),
        ("4k3/8/8/8/8/8/8/R3K2R w - - 0 1", ""),  # no right
        ("4k3/8/8/8/8/8/8/R3K2R w Q - 0 1", "c1"),
        ("4k3/8/8/8/8/8/8/RN2K1NR w KQ - 0 1", ""),  # a piece in between
        ("4kr2/8/8/8/8/8/8/R3K2R w KQ - 0 1", "c1"),  # over an attacked square
        ("4k1r1/8/8/8/8/8/8/R3K2R w KQ - 0 1", "c1"),  # to one
        ("3rk3/8/8/8/8/8/8/R3K2R w KQ - 0 1", "g1"),
        ("1r2k2r/8/8/8/8/8/8/R3K2R w KQ - 0 1", "c1 g1"),  # the rook and b1 may be attacked
        ("4k3/8/8/8/8/8/4r3/R3K2R w KQ - 0 1", ""),  # out of a check
        ("4k3/8/8/8/8/7n/8/R3K2R w KQ - 0 1", "c1"),
    ],
)
def test_when_castling_is_allowed(fen, castles):
    found = targets(position(fen), "e1").split()
    assert " ".join(x for x in found if x in ("c1", "g1")) == castles


@pytest.mark.parametrize(
    ("moves", "castles"),
    [("h1g1 e8d8 g1h1 d8e8", "c1"), ("e1e2 e8d8 e2e1 d8e8", ""), ("a1a8 e8d7 a8a1 d7e8", "g1"), ("a1b1 h8h1", "")],
)
def test_a_king_or_rook_that_has_moved_does_not_castle(moves, castles):
    s, _ = played(position(CASTLES), moves)
    found = targets(s, "e1").split()
    assert " ".join(x for x in found if x in ("c1", "g1")) == castles


def test_en_passant():
    s, _ = played(position("4k3/3p4/8/2P1P3/8/8/8/4K3 b - - 0 1"), "d7d5")
    assert targets(s, "c5") == "c6 d6" and targets(s, "e5") == "d6 e6"
    assert (np.asarray(ENV.observe(s).board) == 8).sum() == 1
    captured, _ = played(s, "e5d6")
    assert drawn(captured)[2:4] == ["...P....", "..P....."]
    # only at once
    later, _ = played(s, "e1e2 e8e7")
    assert targets(later, "e5") == "e6"


@pytest.mark.parametrize(
    ("fen", "move", "to"),
    [
        ("4k3/3p4/8/K3P2r/8/8/8/8 b - - 0 1", "d7d5", "e6"),  # both pawns would leave the row of king and rook
        ("4k3/3p4/8/r3P2K/8/8/8/8 b - - 0 1", "d7d5", "e6"),
        ("4k3/3p4/8/K3P2b/8/8/8/8 b - - 0 1", "d7d5", "d6 e6"),  # a bishop does not see along the row
        ("4k3/3p4/8/b3P2K/8/8/8/8 b - - 0 1", "d7d5", "d6 e6"),
        ("4k3/3p4/8/K1P1P2r/8/8/8/8 b - - 0 1", "d7d5", "d6 e6"),  # the other pawn stays
        ("4r1k1/3p4/8/4P3/8/8/8/4K3 b - - 0 1", "d7d5", "e6"),  # pinned on the column
        ("6k1/3p4/7b/8/8/4K3/8/8 b - - 0 1", "d7d5", ""),
        ("6k1/3p4/8/4P3/2K5/8/8/8 b - - 0 1", "d7d5", "d6"),  # the pawn gives check, and may be captured
        ("2k5/3p4/1b6/4P3/5K2/8/8/8 b - - 0 1", "b6c7", ""),  # a pin: the pawn shields the king
    ],
)
def test_en_passant_and_the_king(fen, move, to):
    s, _ = played(position(fen), move)
    assert targets(s, "e5") == to


@pytest.mark.parametrize(("piece", "letter"), [("q", "Q"), ("r", "R"), ("b", "B"), ("n", "N")])
def test_promotion(piece, letter):
    s = position("1n6/P3k3/8/8/8/8/7p/4K1N1 w - - 0 1")
    quiet, _ = played(s, "a7a8" + piece)
    assert drawn(quiet)[0] == letter + "n......"
    capture, _ = played(s, "a7b8" + piece + " h2g1" + piece)
    assert drawn(capture)[0] == "." + letter + "......" and drawn(capture)[7] == "....K." + letter.lower() + "."


def test_a_pawn_promotes_with_the_actions_for_it():
    s = position("1n6/P3k3/8/8/8/8/7p/4K1N1 w - - 0 1")
    s, _ = STEP(s, jnp.int32(48))
    np.testing.assert_array_equal(np.flatnonzero(MASK(s)), [64, 65, 72, 73, 80, 81, 88, 89])
    after, _ = STEP(s, jnp.int32(56))
    assert after.side == 0 and after.steps == s.steps + 1


@pytest.mark.parametrize(
    ("fen", "may_move"),
    [
        ("4k3/8/8/8/8/8/3PrP2/R3KB2 w - - 0 1", {"e1": "d1 e2", "f1": "e2"}),  # capture who gives check
        ("4k3/4r3/8/8/8/8/3P1P1B/3QKN2 w - - 0 1", {"d1": "e2", "f1": "e3", "h2": "e5"}),  # or step in between
        ("4k3/4r3/8/8/1b6/8/5P1B/3QKN2 w - - 0 1", {}),  # a double check: the king has no square
        ("4k3/8/8/8/4r3/8/4R3/4K3 w - - 0 1", {"e2": "e3 e4", "e1": "d1 d2 f1 f2"}),  # a pinned rook
        ("4k3/8/8/8/7b/8/5N2/4K3 w - - 0 1", {"e1": "d1 d2 e2 f1"}),  # a pinned knight
    ],
)
def test_checks_and_pins(fen, may_move):
    s = position(fen)
    squares = [column + row for column in "abcdefgh" for row in "12345678"]
    assert {x: targets(s, x) for x in squares if targets(s, x)} == may_move


def test_what_the_other_side_attacks_is_marked():
    # the rook on e8 also attacks e1, behind the king, and protects the pawn on a8
    s = position("p3r2k/8/8/8/8/8/4K3/8 w - - 0 1")
    marked = np.asarray(ENV.observe(s).marks) >= 4
    rook = {"a8", "b8", "c8", "d8", "f8", "g8", "h8", *(f"e{row}" for row in range(1, 8))}
    king, pawn = {"g8", "g7", "h7"}, {"b7"}
    assert {"abcdefgh"[x] + str(y + 1) for y, x in zip(*np.nonzero(marked), strict=True)} == rook | king | pawn
    # as black sees it
    s = position("4k3/8/8/8/8/8/3P4/4K3 b - - 0 1")
    marked = np.asarray(ENV.observe(s).marks) >= 4
    found = {"abcdefgh"[x] + str(8 - y) for y, x in zip(*np.nonzero(marked), strict=True)}
    assert found == {"c3", "e3", "d1", "f1", "d2", "e2", "f2"}


def test_the_fastest_checkmate():
    s, outcome = played(position(START), "f2f3 e7e5 g2g4 d8h4")
    assert outcome.terminated and outcome.reward == -1 and s.outcome == -1
    assert ENV.score(s) == -1 and ENV.perf(s) == 0 and ENV.figures(s)["decided"] == 1
    s, outcome = played(position(START), "e2e4 e7e5 f1c4 b8c6 d1h5 g8f6 h5f7")
    # the last move also captures a pawn
    assert outcome.terminated and np.isclose(outcome.reward, 1.02) and ENV.perf(s) == 1


@pytest.mark.parametrize(
    ("fen", "moves", "worth"),
    [
        ("4k3/8/8/3p4/4P3/8/8/4K3 w - - 0 1", "e4d5", 1),
        ("4k3/8/8/3p4/4P3/8/8/4K3 b - - 0 1", "d5e4", -1),
        ("4k3/8/5n2/8/4N3/8/8/4K3 w - - 0 1", "e4f6", 3),
        ("4k3/8/5n2/8/4N3/8/8/4K3 w - - 0 1", "e4g3", 0),
        ("4k2b/8/8/8/8/8/8/R3K2R w - - 0 1", "h1h8", 3),
        ("4k2r/8/8/8/8/8/8/4K2R b k - 0 1", "h8h1", -5),
        ("4k3/8/8/8/3q4/8/8/3QK3 w - - 0 1", "d1d4", 9),
        ("4k3/8/8/4Pp2/8/8/8/4K3 w - f6 0 1", "e5f6", 1),  # en passant
        ("4k3/8/8/4Pp2/8/8/8/R3K3 w Q f6 0 1", "e1c1", 0),
        ("3rk3/4P3/8/8/8/8/8/4K3 w - - 0 1", "e7d8q", 5 + 9 - 1),
        ("3rk3/4P3/8/8/8/8/8/4K3 w - - 0 1", "e7d8n", 5 + 3 - 1),
        ("4k3/8/8/8/8/8/6p1/4K3 b - - 0 1", "g2g1r", -(5 - 1)),
    ],
)
def test_reward_for_material(fen, moves, worth):
    s, outcome = played(position(fen), moves)
    assert s.outcome == 0 and np.isclose(outcome.reward, 0.02 * worth)


def test_stalemate():
    s, outcome = played(position("7k/8/6K1/8/8/8/8/5Q2 w - - 0 1"), "f1f7")
    assert outcome.terminated and outcome.reward == 0 and s.check == 0 and ENV.perf(s) == 0.5
    assert not MASK(s).any()


def test_fifty_moves():
    s = position("7k/8/6K1/8/8/8/8/R7 w - - 98 90")
    s, outcome = played(s, "a1b1")
    assert not outcome.terminated and np.isclose(ENV.observe(s).clocks[0], 0.99)
    s, outcome = played(s, "h8g8")
    assert outcome.terminated and outcome.reward == 0
    # checkmate with the last of them counts
    s, outcome = played(position("7k/8/6K1/8/8/8/8/R7 w - - 99 90"), "a1a8")
    assert outcome.terminated and outcome.reward == 1
    # a capture and a move of a pawn begin anew
    s, _ = played(position("7k/6p1/7P/8/8/8/8/R6K w - - 70 90"), "h6g7")
    assert s.quiet == 0
    s, _ = played(position("7k/6p1/7P/8/8/8/8/R6K b - - 70 90"), "g7g6")
    assert s.quiet == 0


def test_the_third_occurrence_of_a_position():
    back = "g1f3 g8f6 f3g1 f6g8 "
    s, outcome = played(position(START), back)
    assert s.repeated == 1 and not outcome.terminated and ENV.observe(s).clocks[1] == 0.5
    s, outcome = played(s, back)
    assert s.repeated == 2 and outcome.terminated and outcome.reward == 0
    # a right to castle that is lost makes another position
    s, outcome = played(position(CASTLES), "a1b1 a8b8 b1a1 b8a8 " * 2)
    assert s.repeated == 1 and not outcome.terminated
    # so does a pawn that could be captured en passant
    s, _ = played(position("4k3/3p4/8/4P3/8/8/8/4K3 b - - 0 1"), "d7d5 e1e2 e8e7 e2e1 e7e8")
    assert s.repeated == 0
    # but not one that is pinned
    s, _ = played(position("4k3/3p4/8/K3P2r/8/8/8/8 b - - 0 1"), "d7d5 a5a4 e8e7 a4a5 e7e8")
    assert s.repeated == 1
    # the same board with the other side to move is another position too
    s, _ = played(position("4k3/8/8/8/8/8/4P3/R3K3 w - - 0 1"), "a1a2 e8e7 a2a3 e7e8 a3a1 e8e7")
    assert s.repeated == 0


@pytest.mark.parametrize(
    ("fen", "drawn"),
    [
        ("7k/8/8/8/8/8/1p6/K7 w - - 0 1", True),
        ("7k/8/8/8/8/8/1p6/K6N w - - 0 1", True),
        ("7k/8/8/8/8/8/1p5B/K7 w - - 0 1", True),
        ("5b1k/8/8/8/8/8/1p5B/K7 w - - 0 1", True),  # bishops on squares of one colour
        ("4b2k/8/8/8/8/8/1p5B/K7 w - - 0 1", False),
        ("6nk/8/8/8/8/8/1p6/K6N w - - 0 1", False),
        ("7k/8/8/8/8/8/1p6/K5NB w - - 0 1", False),
        ("7k/8/8/8/8/8/1p6/K6R w - - 0 1", False),
        ("7k/p7/8/8/8/8/1p6/K7 w - - 0 1", False),
    ],
)
def test_insufficient_material(fen, drawn):
    s, outcome = played(position(fen), "a1b2")
    assert outcome.terminated == drawn and s.outcome == 0


def test_the_time_limit():
    s, outcome = STEP(position(START).replace(steps=jnp.int32(1022)), jnp.int32(12))
    assert not outcome.truncated
    _, outcome = STEP(s, jnp.int32(28))
    assert outcome.truncated and not outcome.terminated


# random play


@functools.cache
def random_games(steps=1500, games=64):
    """The states of random games, one after another, and their actions."""
    batch = make("chess", backend=BACKEND).batch(games)

    def step(carry, _):
        rows, streams = carry
        s = batch.unpack(rows).env
        action = jax.vmap(random_action, in_axes=(None, 0, 0))(ENV, s, streams)
        streams = jax.vmap(lambda x: rng.bits(x)[0])(streams)
        return (batch.step(rows, action)[0], streams), (s.replace(seen=action), action)

    carry = batch.reset(jax.random.key(3))[0], rng.seed(jax.random.key(4), (games,))
    return jax.device_get(jax.jit(lambda c: jax.lax.scan(step, c, length=steps)[1])(carry))


def bits_of(words):
    return np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little").astype(bool)


def test_what_holds_in_every_position():
    s, _ = random_games()
    own, kings, pawns, piece = (bits_of(x) for x in (s.own, s.kings, s.pawns, s.piece))
    choices, castling, straight = bits_of(s.choices), bits_of(s.castling), bits_of(s.straight)
    assert ((own & kings).sum(-1) == 1).all() and ((~own & kings).sum(-1) == 1).all()
    assert (own.sum(-1) <= 16).all()
    assert not pawns[..., :8].any() and not pawns[..., 56:].any()
    assert (piece <= own).all() and (piece.sum(-1) <= 1).all()
    picking = ~piece.any(-1)
    assert choices.any(-1).all()
    assert (choices[picking] <= own[picking]).all() and not (choices[~picking] & own[~picking]).any()
    assert not (choices & kings & ~own).any()  # a king is never captured
    assert (castling <= straight).all()
    assert (s.quiet < 100).all() and (s.repeated < 2).all()
    # a position is seen without its side: white and black as often in check
    assert 0.8 < (s.check * (s.side == 0)).sum() / (s.check * (s.side == 1)).sum() < 1.25


def test_random_games_as_in_python_chess():
    chess = pytest.importorskip("chess")
    states, taken = random_games()
    for game in range(4):
        board, start = chess.Board(), None
        for t in range(len(taken)):
            s = jax.tree.map(lambda x, t=t, game=game: x[t, game], states)
            if s.steps == 0:
                board.reset()
            flip = 56 if s.side == 1 else 0
            choices = set(np.flatnonzero(bits_of(s.choices)) ^ flip)
            if not bits_of(s.piece).any():
                assert not board.is_game_over(claim_draw=False) and not board.is_repetition(3)
                assert choices == {move.from_square for move in board.legal_moves}
                assert s.check == board.is_check() and s.quiet == board.halfmove_clock
                assert (
                    s.repeated == int(board.is_repetition(2))
                    and bits_of(s.passed).any() == board.has_legal_en_passant()
                )
                start = int(taken[t, game]) ^ flip
            else:
                assert choices == {move.to_square for move in board.legal_moves if move.from_square == start}
                action = int(taken[t, game])
                kind = [None, chess.QUEEN, chess.ROOK, chess.BISHOP, chess.KNIGHT][max(action // 8 - 7, 0)]
                to = action if kind is None else 56 + action % 8
                board.push(chess.Move(start, to ^ flip, kind))


# scripted opponents


@pytest.mark.parametrize(
    ("name", "fen", "move"),
    [
        ("material", "6k1/5ppp/8/8/8/q7/8/R3K2R w - - 0 1", "a1a3"),  # takes the queen
        ("material", "6k1/5ppp/8/8/8/8/8/R1n1K3 w - - 0 1", "a1a8"),  # or gives checkmate
        ("material", "8/P5k1/8/8/8/8/8/4K3 w - - 0 1", "a7a8q"),
        ("depth2", "4k3/8/4p3/3p4/8/1Q6/8/4K3 w - - 0 1", None),  # does not take a protected pawn
        ("depth2", "6k1/8/8/3r4/8/1Q6/8/4K3 w - - 0 1", "b3d5"),
    ],
)
def test_bots(name, fen, move):
    s = position(fen)
    for seed in range(3):
        start = BOT(name, s, jnp.array([seed + 1, 7], jnp.uint32))
        chosen, _ = STEP(s, start)
        target = BOT(name, chosen, jnp.array([seed + 1, 8], jnp.uint32))
        if move is None:
            assert (int(start), int(target)) != actions(s, "b3d5")
        else:
            assert (int(start), int(target)) == actions(s, move)


@pytest.mark.needs_c
def test_the_agent_that_ships_beats_the_player_that_looks_one_move_ahead():
    played = match(
        make("chess", backend="c"), load_baseline("chess"), Scripted("material"), jax.random.key(3), games=64
    )
    # 70 % won and 2 % lost of many games
    assert played.finished.all() and (played.outcome > 0).sum() > 32 and (played.outcome < 0).sum() < 10


def test_picture():
    picture = np.asarray(ENV.render(played(position(START), "e2e4")[0]))
    assert picture.shape == (224, 224, 3) and picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) >= 4
    # white below, on both sides' turns
    assert (picture[196:] == 248).sum() > (picture[:28] == 248).sum()
