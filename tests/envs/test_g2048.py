"""2048: the default parameters, and slides worked out by hand. Boards are written as exponents of two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.g2048 import DOWN, G2048, LEFT, RIGHT, UP
from jaxpuffer import make, rng

ENV = G2048()
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
MASK = jax.jit(lambda s: ENV.action_mask(s))
CHEQUERED = [[1, 2, 1, 2], [2, 1, 2, 1], [1, 2, 1, 2], [2, 1, 2, 1]]


def board(cells, seed=5):
    s = ENV.init(jnp.array([seed, 2], jnp.uint32))
    return s.replace(cells=jnp.array(cells, jnp.uint8).reshape(16))


def slid(s, action):
    """The board after a move without the new tile, that tile, and the outcome."""
    after, outcome = STEP(ENV, s, jnp.int32(action))
    x = np.asarray(s.cells).reshape(4, 4)
    turned = {UP: x.T, DOWN: x[::-1].T, LEFT: x, RIGHT: x[:, ::-1]}[action]
    expected = np.array([plain(line) for line in turned])
    expected = {UP: expected.T, DOWN: expected.T[::-1], LEFT: expected, RIGHT: expected[:, ::-1]}[action]
    return expected, np.asarray(after.cells).reshape(4, 4), after, outcome


def plain(line):
    """The rule for one line, in its simplest form."""
    tiles, made = [int(t) for t in line if t], []
    while tiles:
        if len(tiles) > 1 and tiles[0] == tiles[1]:
            made.append(tiles[0] + 1)
            tiles = tiles[2:]
        else:
            made.append(tiles.pop(0))
    return made + [0] * (4 - len(made))


def test_default_parameters():
    env = make("g2048")
    np.testing.assert_allclose([env.merge_reward, env.end_reward], [0.02, -1.0])
    assert int(env.max_steps) == 10_000


@pytest.mark.parametrize(
    ("line", "after", "points", "exponents"),
    [
        ([1, 1, 1, 1], [2, 2, 0, 0], 8, 4),
        ([2, 1, 1, 0], [2, 2, 0, 0], 4, 2),  # a merged tile does not merge again
        ([1, 1, 2, 0], [2, 2, 0, 0], 4, 2),
        ([1, 1, 1, 0], [2, 1, 0, 0], 4, 2),  # the two nearest to the side
        ([0, 3, 0, 3], [4, 0, 0, 0], 16, 4),
        ([0, 0, 0, 7], [7, 0, 0, 0], 0, 0),
        ([1, 0, 2, 1], [1, 2, 1, 0], 0, 0),
        ([10, 10, 9, 9], [11, 10, 0, 0], 3072, 21),
    ],
)
def test_a_line_slides_to_the_left(line, after, points, exponents):
    lines = jnp.array([line, [0] * 4, line, [0] * 4], jnp.uint8)
    x, made, summed = jax.jit(ENV.slide)(lines)
    np.testing.assert_array_equal(x, [after, [0] * 4, after, [0] * 4])
    assert (made, summed) == (2 * points, 2 * exponents)
    assert plain(line) == after


@pytest.mark.parametrize("action", [UP, DOWN, LEFT, RIGHT])
def test_a_move_in_each_direction(action):
    s = board([[1, 0, 0, 1], [0, 2, 0, 0], [1, 0, 0, 0], [0, 2, 0, 3]])
    expected, after, new, outcome = slid(s, action)
    came = after != expected
    assert came.sum() == 1 and expected[came] == 0 and after[came] in (1, 2)
    merged = {UP: [2, 3], DOWN: [2, 3], LEFT: [2], RIGHT: [2]}[action]
    assert new.points == sum(2**e for e in merged)
    np.testing.assert_allclose(outcome.reward, 0.02 * sum(merged), rtol=1e-6)


def test_an_empty_move_does_nothing_but_take_a_step():
    s = board([[1, 2, 0, 0], [3, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]])
    np.testing.assert_array_equal(MASK(s), [True, True, False, True])
    after, outcome = STEP(ENV, s, jnp.int32(LEFT))
    np.testing.assert_array_equal(after.cells, s.cells)
    np.testing.assert_array_equal(after.rng, s.rng)
    assert after.steps == 1 and outcome.reward == 0 and not outcome.terminated


@pytest.mark.parametrize(
    ("cells", "mask"),
    [
        (CHEQUERED, [False] * 4),
        ([[1, 2, 1, 2], [2, 1, 2, 1], [1, 2, 1, 2], [2, 1, 2, 2]], [True, True, True, True]),
        ([[1, 2, 1, 2], [2, 1, 2, 1], [1, 2, 1, 2], [2, 1, 2, 0]], [False, True, False, True]),
        ([[0, 2, 1, 2], [2, 1, 2, 1], [1, 2, 1, 2], [2, 1, 2, 1]], [True, False, True, False]),
        ([[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], [True] * 4),
    ],
)
def test_what_can_move(cells, mask):
    np.testing.assert_array_equal(MASK(board(cells)), mask)


def test_the_end_comes_when_the_new_tile_blocks_everything():
    """One cell is left; a 2 that appears there blocks the board, because its neighbours are larger."""
    cells = [[0, 5, 4, 5], [5, 4, 5, 4], [4, 5, 4, 5], [5, 4, 5, 4]]
    s, outcome = STEP(ENV, board(cells), jnp.int32(LEFT))
    # the hole moves to the end of the row
    np.testing.assert_array_equal(s.cells[:3], [5, 4, 5])
    assert s.cells[3] in (1, 2) and not outcome.terminated  # 5 above 5: it can go on
    cells = [[0, 6, 7, 8], [5, 4, 5, 4], [4, 5, 4, 5], [5, 4, 5, 4]]
    s, outcome = STEP(ENV, board(cells), jnp.int32(LEFT))
    assert outcome.terminated and not outcome.truncated and outcome.reward == -1
    assert ENV.perf(s) == pytest.approx(8 / 11)


def test_the_time_limit():
    s = board([[1, 0, 0, 0], [0] * 4, [0] * 4, [0] * 4]).replace(steps=jnp.int32(9999))
    _, outcome = STEP(ENV, s, jnp.int32(RIGHT))
    assert outcome.truncated and not outcome.terminated


def test_new_tiles():
    """On all empty cells equally often, and one in ten is a 4."""
    cells = jnp.array([1, 2, 3, 4] * 3 + [0] * 4, jnp.uint8)
    _, after = jax.vmap(ENV.spawn, in_axes=(0, None))(rng.seed(jax.random.key(0), (8000,)), cells)
    after = np.asarray(after)
    assert (after[:, :12] == np.asarray(cells)[:12]).all() and ((after[:, 12:] != 0).sum(1) == 1).all()
    np.testing.assert_allclose((after[:, 12:] != 0).mean(0), 0.25, atol=0.02)
    np.testing.assert_allclose((after[:, 12:] == 2).sum() / 8000, 0.1, atol=0.012)


tiles = st.lists(st.integers(0, 9), min_size=16, max_size=16)


@given(tiles, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_any_move(cells, action):
    """Equal to the plain rule; the mask says whether something moves; only the new tile changes the sum of all
    tiles."""
    s = board(cells)
    expected, after, new, _ = slid(s, action)
    moved = (expected != np.asarray(s.cells).reshape(4, 4)).any()
    assert bool(MASK(s)[action]) == moved
    assert ((after != expected).sum() == 1) if moved else (after == expected).all()

    def total(x):
        return sum(2 ** int(t) for t in np.ravel(x) if t)

    assert total(after) - total(s.cells) == (2 ** int(after[after != expected][0]) if moved else 0)
    # a board turned upside down moves the other way
    flipped = board(np.reshape(cells, (4, 4))[::-1])
    opposite = {UP: DOWN, DOWN: UP, LEFT: LEFT, RIGHT: RIGHT}[action]
    np.testing.assert_array_equal(slid(flipped, opposite)[0], expected[::-1])
    assert STEP(ENV, flipped, jnp.int32(opposite))[0].points == new.points


def test_picture():
    picture = jax.jit(ENV.render)(board([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 0, 0, 0]]))
    assert picture.shape == (192, 192, 3) and picture.dtype == jnp.uint8
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) == 16
