"""Hex: the default parameters, known positions, the whole of the 3 by 3 game, and games against a plain engine.

A board is written as the side that moves sees it, row by row from the top: "x" its own stones, "o" the other side's,
"." empty. It connects top and bottom, the other side left and right.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.hex import Hex, State
from jaxpuffer import make, rng

STEP = jax.jit(lambda env, s, action: env.transition(s, action))
SEEN = jax.jit(lambda env, s: env.observe(s))
MASK = jax.jit(lambda env, s: env.action_mask(s))
SETS = jax.jit(lambda env, own, theirs: [jnp.stack(env.of_cells(cells)) for cells in (own, theirs.T)])
MARKS = np.array(list(".xo"))


# a plain engine: sets of cells, chains are found by walking


def connects(size, cells):
    """Whether the cells connect top and bottom."""
    found, rest = set(), [at for at in cells if at[0] == 0]
    while rest:
        row, column = at = rest.pop()
        if at in found or at not in cells:
            continue
        found.add(at)
        rest += [(row, column - 1), (row, column + 1), (row - 1, column), (row - 1, column + 1)]
        rest += [(row + 1, column), (row + 1, column - 1)]
    return any(row == size - 1 for row, _ in found)


def mirrored(cells):
    return frozenset((column, row) for row, column in cells)


@functools.cache
def mover_wins(size, own, theirs):
    """Whether the side that moves can win; the cells of both as this side sees them."""
    for at in np.ndindex(size, size):
        if at not in own | theirs:
            after = own | {at}
            if connects(size, after) or not mover_wins(size, mirrored(theirs), mirrored(after)):
                return True
    return False


# to and fro


def board(*rows, steps=0, **params):
    env = Hex(size=len(rows), **params)
    marks = np.array([list(row) for row in rows])
    own, theirs = SETS(env, marks == "x", marks == "o")
    return env, State(jnp.array([1, 2], jnp.uint32), own, theirs, outcome=jnp.int32(0), steps=jnp.int32(steps))


def rows_of(env, s):
    return tuple("".join(row) for row in MARKS[np.asarray(SEEN(env, s))])


def play(env, s, row, column):
    return STEP(env, s, jnp.int32(env.size * row + column))


def test_default_parameters():
    env = make("hex")
    assert (env.size, bool(env.swap), int(env.max_steps)) == (7, False, 362)
    assert env.observation_space.shape == (7, 7) and env.action_space.n == 49
    assert env.bots == ("random", "greedy", "currents")


@pytest.mark.parametrize(
    ("rows", "cell", "wins"),
    [
        (("x..", "x..", "..."), (2, 0), True),  # straight down
        (("..x", "...", "x.."), (1, 1), True),  # down and to the left is beside
        (("x..", "...", "..x"), (1, 1), False),  # down and to the right is not
        (("xxx", "...", "oo."), (1, 0), False),  # the other side is in the way
        (("...", "xxx", "..."), (0, 0), False),  # left and right are the other side's edges
        ((".xo", "ox.", "..."), (2, 1), True),  # the last row
        ((".ox", "x..", "x.."), (0, 0), True),  # the first row
        (("x.o.", ".xx.", "oxoo", "...."), (3, 0), False),  # the upper end stops below the first row
        (("..ox", ".xxx", "oxoo", "...."), (3, 0), True),  # this one reaches it at the right
        (("..xo", ".oxo", "oxoo", "...."), (3, 1), True),  # round the other side's stones
        (("..xo", ".o.o", "oxoo", "x..."), (1, 2), True),  # joins two chains
        (("x...", "x...", ".o..", "x..."), (2, 0), True),
    ],
)
def test_a_chain_from_edge_to_edge_wins(rows, cell, wins):
    env, s = board(*rows)
    after, outcome = play(env, s, *cell)
    assert bool(outcome.terminated) == wins and float(outcome.reward) == wins and not outcome.truncated
    assert float(env.score(after)) == wins and float(env.perf(after)) == 0.5 + 0.5 * wins
    # the same stones with the other side to move: side 1 wins
    after, outcome = play(env, board(*rows, steps=1)[1], *cell)
    assert bool(outcome.terminated) == wins and float(outcome.reward) == -wins and int(after.steps) == 2


def test_the_other_side_sees_the_board_mirrored():
    env, s = board("..x.", "....", "o...", "....")
    after, _ = play(env, s, 1, 3)
    assert rows_of(env, after) == ("..x.", "....", "o...", ".o..")
    after, _ = play(env, after, 0, 0)
    assert rows_of(env, after) == ("o.x.", "...x", "o...", "....")


@pytest.mark.parametrize("cell", [(0, 0), (1, 2)])
@pytest.mark.parametrize("side", [0, 1])
def test_a_taken_cell_is_masked_and_loses(cell, side):
    env, s = board("x..", "..o", "...", steps=2 + side)
    np.testing.assert_array_equal(MASK(env, s), [False, True, True, True, True, False, True, True, True])
    after, outcome = play(env, s, *cell)
    assert outcome.terminated and float(outcome.reward) == (-1.0, 1.0)[side] == float(env.score(after))
    # the stones stay as they are
    assert rows_of(env, after) == ("o..", "...", ".x.")


def test_the_first_stone_may_be_taken_over():
    env, s = board("...", "...", "...", swap=True)
    s, _ = play(env, s, 0, 1)
    assert rows_of(env, s) == ("...", "o..", "...")
    assert MASK(env, s).all()
    # played where it is, it becomes side 1's, mirrored; side 0 sees it as its own was seen
    after, outcome = play(env, s, 1, 0)
    assert rows_of(env, after) == ("...", "o..", "...") and not outcome.terminated and int(env.to_play(after)) == 0
    assert int(MASK(env, after).sum()) == 8  # only once
    _, outcome = play(env, after, 1, 0)
    assert outcome.terminated and float(outcome.reward) == -1
    # any other cell is a stone
    after, _ = play(env, s, 0, 0)
    assert rows_of(env, after) == ("ox.", "...", "...")


def test_without_the_swap_rule_it_may_not():
    env, s = board("...", "o..", "...", steps=1)
    assert int(MASK(env, s).sum()) == 8
    _, outcome = play(env, s, 1, 0)
    assert outcome.terminated and float(outcome.reward) == 1  # side 1 loses


@pytest.mark.parametrize(("steps", "truncated"), [(9, False), (10, True)])
def test_the_time_limit(steps, truncated):
    env, s = board(*["...."] * 4, steps=steps, max_steps=11)
    _, outcome = play(env, s, 0, 0)
    assert bool(outcome.truncated) == truncated and not outcome.terminated


# where side 0 may begin on 3 by 3 and win, of a search through all games
OPENINGS = ["..x", "xxx", "x.."]


def test_openings_of_the_plain_search():
    # side 1 sees the stone mirrored
    wins = {at: not mover_wins(3, frozenset(), frozenset({at[::-1]})) for at in np.ndindex(3, 3)}
    assert ["".join(".x"[wins[row, column]] for column in range(3)) for row in range(3)] == OPENINGS


def test_the_3_by_3_game_is_solved_from_its_transitions():
    """All positions, from the empty board on, and back from the last ones; it agrees with the plain search."""
    env, s = board("...", "...", "...")
    rows = 2048  # at least as many positions as there are after any number of moves

    @jax.jit
    def children(own, theirs):
        states = jax.vmap(lambda a, b: s.replace(own=a[None], theirs=b[None]))(own, theirs)
        actions = jnp.arange(9, dtype=jnp.int32)
        after, outcome = jax.vmap(lambda s: jax.vmap(lambda a: env.transition(s, a))(actions))(states)
        return jax.vmap(env.action_mask)(states), after.own[..., 0], after.theirs[..., 0], outcome.terminated

    levels, found = [], np.zeros((1, 2), np.uint32)
    while len(found):
        padded = np.zeros((rows, 2), np.uint32)
        padded[: len(found)] = found
        legal, own, theirs, won = (np.asarray(x)[: len(found)] for x in children(padded[:, 0], padded[:, 1]))
        then = np.stack([own, theirs], -1)
        levels.append((found, legal, won, then))
        found = np.unique(then[legal & ~won], axis=0)
    assert len(levels) <= 9 and all(len(found) <= rows for found, *_ in levels)

    wins = {}
    for found, legal, won, then in reversed(levels):
        for position, allowed, over, next_ in zip(found, legal, won, then, strict=True):
            moves = [bool(o) or not wins[tuple(n)] for a, o, n in zip(allowed, over, next_, strict=True) if a]
            wins[tuple(position)] = any(moves)
            cells = [frozenset(at for at in np.ndindex(3, 3) if word >> 4 * at[0] + at[1] & 1) for word in position]
            assert mover_wins(3, cells[0], mirrored(cells[1])) == any(moves)
    assert ["".join(".x"[win] for win in moves[row : row + 3]) for row in (0, 3, 6)] == OPENINGS


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([3, 5, 8, 11]), st.integers(0, 2**32 - 1))
def test_one_side_wins_every_full_board(size, seed):
    """Games over all cells in random order: they end as in the plain engine, and one side has won by the last cell."""
    env, s = board(*["." * size] * size)
    stones = [frozenset(), frozenset()]  # as each side sees them
    for move, action in enumerate(np.random.default_rng(seed).permutation(size * size)):
        at = divmod(int(action), size)
        side = move % 2
        cell = at if side == 0 else at[::-1]  # where the mover sees it
        stones[side] |= {cell}
        s, outcome = play(env, s, *cell)
        assert bool(outcome.terminated) == connects(size, stones[side])
        if outcome.terminated:
            break
    assert outcome.terminated and float(outcome.reward) == (1, -1)[side]

    # and whatever fills the other cells, the other side does not connect
    rest = {at for at in np.ndindex(size, size) if at not in stones[side] | mirrored(stones[1 - side])}
    assert not connects(size, stones[1 - side] | mirrored(rest))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_sides_are_mirrored(seed):
    """Moves of side 1 do what the same moves of side 0 do, with the outcome's sign changed."""
    env = Hex(size=5)
    kinds = np.random.default_rng(seed).choice(list(".xo"), size=(5, 5))
    rows = ["".join(row) for row in kinds]
    action = jnp.int32(seed % 25)
    (one, first), (other, second) = (STEP(env, board(*rows, steps=k)[1], action) for k in (4, 5))
    np.testing.assert_array_equal(one.own, other.own)
    np.testing.assert_array_equal(one.theirs, other.theirs)
    assert int(one.outcome) == -int(other.outcome) and first.reward == -second.reward
    assert bool(first.terminated) == bool(second.terminated)


def test_distances_and_currents():
    """Worked out by hand: the empty cells that a side still needs, by way of each."""
    env, s = board("x..", "..o", "...")
    needed = np.asarray(env.needed(SEEN(env, s)))
    np.testing.assert_array_equal(needed[[0, 0, 1, 1, 2, 2, 2], [1, 2, 0, 1, 0, 1, 2]], [3, 3, 2, 3, 2, 3, 4])
    # a single way: the same current through all of its cells, and none beside it
    env, s = board("oxo", "o.o", "oxo")
    current = np.asarray(env.currents(SEEN(env, s)))
    np.testing.assert_allclose(current[:, 1], current[0, 1], rtol=0.02)
    np.testing.assert_array_equal(current[:, [0, 2]], 0)


@functools.partial(jax.jit, static_argnames=("first", "second", "games"))
def wins_of_first(env, first, second, key, games):
    """How many of the games the first bot wins; it begins in every other one."""
    batch = env.batch(games)
    begins = jnp.arange(games) % 2 == 0

    def one(carry, _):
        state, streams, wins, running = carry
        streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)
        a, b = (jax.vmap(functools.partial(env.bot, name=name))(state.env, streams) for name in (first, second))
        state, step = batch.step(state, jnp.where((state.env.steps % 2 == 0) == begins, a, b))
        won = running & (step.log.score == jnp.where(begins, 1, -1))
        return (state, streams, wins + won.sum(), running & (step.log.n == 0)), None

    state, _ = batch.reset(key)
    carry = (state, rng.seed(key, (games,)), jnp.int32(0), jnp.ones(games, bool))
    (_, _, wins, running), _ = jax.lax.scan(one, carry, length=env.size * env.size)
    return wins, running.any()


@pytest.mark.parametrize(
    ("first", "second", "least"), [("greedy", "random", 60), ("currents", "random", 60), ("currents", "greedy", 46)]
)
def test_bots_are_of_rising_strength(first, second, least):
    wins, running = wins_of_first(Hex(size=5), first, second, jax.random.key(0), games=64)
    assert int(wins) >= least and not running


def test_picture():
    env, s = board("x..", "..o", "...")
    picture = np.asarray(env.render(s))
    assert picture.shape == (88, 124, 3)
    colours = np.unique(picture.reshape(-1, 3), axis=0)
    assert len(colours) == 4
    # red is always side 0
    other = np.asarray(env.render(s.replace(own=s.theirs, theirs=s.own, steps=jnp.int32(1))))
    np.testing.assert_array_equal(picture, other)
