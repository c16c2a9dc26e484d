"""Tetris by hand: positions drawn as text, transitions worked out on paper, and properties that must hold after every
step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import settled_transition

from envs_jax.tetris import (
    FLOOR,
    HARD_DROP,
    HEIGHT,
    HOLD,
    LEFT,
    NONE,
    NOTHING,
    RIGHT,
    ROTATE,
    SHAPES,
    SOFT_DROP,
    WIDTH,
    State,
    Tetris,
)  # fmt: skip
from jaxpuffer import make, rng

I, O, T, S, Z, J, L = range(7)  # noqa: E741

ENV = Tetris(initial_garbage=0)
transition = jax.jit(settled_transition)
observe = jax.jit(Tetris.observe)
START = ENV.init(jnp.uint32([1, 2]))


def board(*rows: str) -> np.ndarray:
    """Columns from the lowest rows drawn as text, from the top, # filled."""
    columns = np.full(WIDTH, FLOOR, np.uint32)
    for r, row in enumerate(rows, start=HEIGHT - len(rows)):
        assert len(row) == WIDTH
        for k, cell in enumerate(row):
            columns[k] |= np.uint32((cell == "#") << r)
    return columns


def rows(s: State) -> list[str]:
    """The rows that are not empty, from the top, as text."""
    text = ["".join(".#"[int(c) >> r & 1] for c in np.asarray(s.columns)) for r in range(HEIGHT)]
    return [row for row in text if "#" in row]


def state(*drawn: str, piece: int = O, **fields: int) -> State:
    changes = {"piece": piece, "rotation": 0, "row": 0, "column": 3, "held": NONE, "may_hold": 1} | fields
    s = START.replace(columns=jnp.asarray(board(*drawn)))
    return s.replace(**{name: jnp.int32(value) for name, value in changes.items()})


def play(s: State, *actions: int, env: Tetris = ENV) -> tuple[State, float, bool, bool]:
    """The state after some actions, their rewards together, and how the last one ended."""
    reward = 0.0
    for action in actions:
        s, out = transition(env, s, jnp.int32(action))
        reward += float(out.reward)
    return s, reward, bool(out.terminated), bool(out.truncated)


def place(s: State) -> tuple[int, int, int]:
    return int(s.row), int(s.column), int(s.rotation)


def test_default_parameters() -> None:
    env = make("tetris")
    ints = (env.initial_garbage, env.fall_interval, env.min_fall_interval, env.garbage_start, env.garbage_interval)
    assert tuple(map(int, ints)) == (4, 6, 3, 500, 100)
    assert (int(env.min_garbage_interval), int(env.max_steps)) == (40, 2000)
    rewards = env.soft_drop_reward, env.hard_drop_reward, env.single_reward, env.double_reward, env.triple_reward
    assert [float(r) for r in (*rewards, env.tetris_reward)] == pytest.approx([0.001, 0.002, 0.1, 0.3, 0.5, 1.0])


ROTATED = {
    I: ["..../####/..../....", "..#./..#./..#./..#.", "..../..../####/....", ".#../.#../.#../.#.."],
    O: [".##./.##./..../...."] * 4,
    T: [".#../###./..../....", ".#../.##./.#../....", "..../###./.#../....", ".#../##../.#../...."],
    S: [".##./##../..../....", ".#../.##./..#./....", "..../.##./##../....", "#.../##../.#../...."],
    Z: ["##../.##./..../....", "..#./.##./.#../....", "..../##../.##./....", ".#../##../#.../...."],
    J: ["#.../###./..../....", ".##./.#../.#../....", "..../###./..#./....", ".#../.#../##../...."],
    L: ["..#./###./..../....", ".#../.#../.##./....", "..../###./#.../....", "##../.#../.#../...."],
}  # fmt: skip


@pytest.mark.parametrize("piece", range(7))
def test_rotations(piece: int) -> None:
    for rotation, drawn in enumerate(ROTATED[piece]):
        cells = sorted(SHAPES[4 * piece + rotation] >> shift & 15 for shift in (0, 4, 8, 12))
        assert cells == [i for i, cell in enumerate(drawn.replace("/", "")) if cell == "#"]
    # four turns give the first rotation again
    s = state(piece=piece)
    for turn in (1, 2, 3, 0):
        s, *_ = play(s, ROTATE)
        assert place(s) == (0, 3, turn)


def test_moves_and_the_walls() -> None:
    # an O covers columns 1 and 2 of its box: column -1 at the left wall, 7 at the right one
    s, *_ = play(state(), LEFT, LEFT, LEFT, LEFT)
    assert place(s) == (0, -1, 0)
    assert place(play(s, LEFT)[0]) == (0, -1, 0)
    s, *_ = play(state(), RIGHT, RIGHT, RIGHT, RIGHT)
    assert place(s) == (0, 7, 0) and place(play(s, RIGHT)[0]) == (0, 7, 0)
    # and a filled cell is a wall
    s = state("#.........", column=0, row=18)
    assert place(play(s, LEFT)[0]) == (18, 0, 0)


def test_there_are_no_kicks() -> None:
    # a vertical I in the leftmost column would need columns -2 to 1 to become horizontal
    s = state(piece=I, rotation=1, column=-2)
    assert place(play(s, ROTATE)[0]) == (0, -2, 1)
    assert place(play(s, RIGHT, RIGHT, ROTATE)[0]) == (0, 0, 2)


def test_falls_when_its_interval_has_passed() -> None:
    s, reward, *_ = play(state(), *[NOTHING] * 5)
    assert place(s) == (0, 3, 0) and int(s.fall_timer) == 5
    s, *_ = play(s, LEFT)
    assert place(s) == (1, 2, 0) and int(s.fall_timer) == 0 and reward == 0
    # on level 2 after 4 ticks, on level 9 after 3
    for lines, ticks in ((29, 4), (90, 3)):
        s = state(lines=lines)
        assert int(play(s, *[NOTHING] * (ticks - 1))[0].row) == 0 and int(play(s, *[NOTHING] * ticks)[0].row) == 1


def test_soft_drop() -> None:
    s, reward, *_ = play(state(fall_timer=3), SOFT_DROP)
    assert place(s) == (1, 3, 0) and int(s.fall_timer) == 0 and reward == pytest.approx(0.001)
    # on the floor it locks, without a reward: an O whose box is in row 18 covers rows 18 and 19
    s, reward, *_ = play(state(row=18), SOFT_DROP)
    assert rows(s) == ["....##....", "....##...."] and reward == 0 and place(s) == (0, 3, 0)


def test_rests_until_it_is_to_fall_and_can_be_slid() -> None:
    s, *_ = play(state(row=18, fall_timer=4), LEFT)
    assert place(s) == (18, 2, 0) and rows(s) == []
    s, *_ = play(s, LEFT)
    assert rows(s) == ["..##......", "..##......"]


def test_hard_drop() -> None:
    # 18 rows to the floor, 0.002 each
    s, reward, terminated, truncated = play(state(), HARD_DROP)
    assert rows(s) == ["....##....", "....##...."]
    assert reward == pytest.approx(0.036) and not terminated and not truncated
    assert int(s.piece) == int(START.next[0]) and int(s.next[0]) == int(START.next[1])


def test_a_t_in_a_notch() -> None:
    s = state("###.######", "##...#####", piece=T)
    # the T points down; over the gap it rests on the upper row
    s, *_ = play(s, ROTATE, ROTATE, LEFT, HARD_DROP)
    assert rows(s) == ["..###.....", "##...#####"]
    # vertical, it falls in: the column of three at x = 3 in rows 17 to 19, its single cell at x = 4 is above
    s = state("###..#####", "##...#####", piece=T, row=0)
    s, *_ = play(s, ROTATE, LEFT, HARD_DROP)
    assert rows(s) == ["...#......", "##.#.#####"]


@pytest.mark.parametrize(("count", "prize"), [(1, 0.1), (2, 0.3), (3, 0.5), (4, 1.0)])
def test_rows_cleared_at_once(count: int, prize: float) -> None:
    # an I down a shaft at the right wall, 16 rows deep: its box goes to column 7
    drawn = ["#........."] * (4 - count) + ["#########."] * count
    s, reward, *_ = play(state(*drawn, piece=I, rotation=1, column=7), HARD_DROP)
    assert int(s.lines) == count and reward == pytest.approx(16 * 0.002 + prize)
    assert rows(s) == ["#........#"] * (4 - count)
    assert float(ENV.score(s)) == count and float(ENV.perf(s)) == pytest.approx(count / 200)


def test_what_is_above_comes_down_as_it_is() -> None:
    # rows 17 and 19 are full after the drop, 16 and 18 are not
    drawn = [".#.#......", "#########.", "#.#.#.#.#.", "#########."]
    s, *_ = play(state(*drawn, piece=I, rotation=1, column=7), HARD_DROP)
    assert rows(s) == [".#.#.....#", "#.#.#.#.##"] and int(s.lines) == 2


def test_hold() -> None:
    s, reward, *_ = play(state(piece=T, row=5, fall_timer=5), HOLD)
    first, second = START.next.tolist()
    assert (int(s.held), int(s.piece), int(s.may_hold), int(s.fall_timer)) == (T, first, 0, 0)
    assert place(s) == (0, 3, 0) and int(s.next[0]) == second and reward == 0
    # once for each piece: the second hold is refused, and the timer continues
    s, *_ = play(s, HOLD)
    assert (int(s.held), int(s.piece), int(s.fall_timer)) == (T, first, 1)
    # the next piece is swapped for the T, and the next two stay
    s, *_ = play(s, HARD_DROP)
    before = s.next.tolist()
    s, *_ = play(s, HOLD)
    assert (int(s.held), int(s.piece)) == (second, T) and s.next.tolist() == before


def test_garbage_rises_when_a_piece_locks() -> None:
    s = state(garbage_timer=2)
    s, *_ = play(s, NOTHING, NOTHING)
    assert rows(s) == [] and int(s.garbage_timer) == 0
    s, *_ = play(s, HARD_DROP)
    top, middle, bottom = rows(s)
    assert top == middle == "....##...." and bottom.count("#") == 9 and int(s.garbage_timer) == 100
    # 100 - 4 * 5 ticks on level 5, and 40 from level 15 on
    for lines, interval in ((50, 80), (149, 44), (150, 40), (300, 40)):
        assert int(play(state(garbage_timer=1, lines=lines), HARD_DROP)[0].garbage_timer) == interval


def test_no_room_for_the_next_piece() -> None:
    # an O that locks where it came into play; every piece needs one of its cells or a neighbour's
    filled = ["...####..."] * 18
    _, reward, terminated, truncated = play(state(*filled), HARD_DROP)
    assert terminated and not truncated and reward == 0
    # at the side there is enough room
    assert not play(state(*["#........."] * 18, column=5, row=5), HARD_DROP)[2]


def test_a_hold_can_end_the_game() -> None:
    # an I comes into play in row 1, which is filled; the O was lower down at the side
    s = state(*["...####..."] * 19, piece=O, column=-1, row=10, held=I)
    assert play(s, HOLD)[2]


def test_garbage_can_lift_a_cell_over_the_top() -> None:
    tower = ["#........."] * 20
    assert play(state(*tower, garbage_timer=1), HARD_DROP)[2]
    assert not play(state(*tower, garbage_timer=5), HARD_DROP)[2]
    assert not play(state(*tower[1:], garbage_timer=1), HARD_DROP)[2]


def test_time_limit() -> None:
    assert play(state(steps=1999), NOTHING)[2:] == (False, True)
    assert play(state(steps=1998), NOTHING)[2:] == (False, False)
    # a game that is lost in the last step is terminated
    assert play(state(*["...####..."] * 18, steps=1999), HARD_DROP)[2:] == (True, False)


def test_observation_by_hand() -> None:
    s, *_ = play(state("#.........", "##........", piece=T, held=J, lines=25), LEFT, ROTATE)
    obs = np.asarray(observe(ENV, s))
    # the T vertical in columns 3 and 4, its column of three in rows 17 to 19
    picture = obs[:200].reshape(10, 20).T
    expected = np.zeros((20, 10))
    expected[18, 0] = expected[19, 0] = expected[19, 1] = 1
    expected[17:20, 3] = expected[18, 4] = 0.5
    np.testing.assert_array_equal(picture, expected)
    assert obs[200:210] == pytest.approx([0.1, 0.05] + [0] * 8)
    # row 0, column 2; two of four ticks have passed on level 2; may hold; garbage is far away
    assert obs[210:216] == pytest.approx([0, 0.2, 0.5, 1, 1, 0.2])
    # the box would be in row 17; no row would be full; the cell in column 4 is one above the floor
    assert obs[216:219] == pytest.approx([0.85, 0, 0.25])
    ones = [219 + T, 226 + 1, 230 + int(s.next[0]), 237 + int(s.next[1]), 244 + J]
    assert np.flatnonzero(obs[219:]).tolist() == [i - 219 for i in ones] and obs[ones].tolist() == [1] * 5
    assert np.flatnonzero(observe(ENV, state())[244:]).tolist() == [7]


def test_what_a_hard_drop_would_do() -> None:
    # an I lies on a tower three high: three columns beside it are covered, three deep each, of which 4 / 4 is shown
    s, *_ = play(state(*[".....#...."] * 3, piece=I), NOTHING)
    assert observe(ENV, s)[216:219].tolist() == pytest.approx([15 / 20, 0, 1])
    # and vertical it fills the gap of two rows, which are then full
    s, *_ = play(state(*["#########."] * 2, piece=I, rotation=1, column=7), NOTHING)
    assert observe(ENV, s)[216:219].tolist() == pytest.approx([16 / 20, 0.5, 0])


@jax.jit
def _pieces(stream: jax.Array) -> jax.Array:
    """35 pieces in the order in which they come."""
    start = ENV.init(stream)

    def step(carry: tuple, _: None) -> tuple:
        stream, bag = carry
        stream, bag, piece = ENV.draw(stream, bag)
        return (stream, bag), piece

    drawn = jax.lax.scan(step, (start.rng, start.bag), None, length=32)[1]
    return jnp.concatenate([start.piece[None], start.next, drawn])


def test_every_bag_has_each_piece_once() -> None:
    pieces = np.asarray(jax.vmap(_pieces)(rng.seed(jax.random.key(0), (300,)))).reshape(-1, 7)
    assert (np.sort(pieces, 1) == np.arange(7)).all()
    # in any order: all pieces are first about equally often
    counts = np.bincount(pieces[:, 0], minlength=7)
    assert (abs(counts - 1500 / 7) < 70).all()


def test_initial_garbage() -> None:
    for count in (0, 4, 16):
        s = Tetris(initial_garbage=count).init(jnp.uint32([5, 6]))
        assert [row.count("#") for row in rows(s)] == [9] * count
    holes = [rows(make("tetris").reset(jax.random.key(seed))[0])[0].index(".") for seed in range(30)]
    assert len(set(holes)) > 5


@jax.jit
def _play(seed: jax.Array, moves: jax.Array) -> tuple:
    """120 ticks of the scripted player without reset: states before and after, and whether the game was still
    running."""
    env = make("tetris", garbage_start=30, garbage_interval=30)

    def step(carry: tuple, _: None) -> tuple:
        s, stream, running = carry
        after, out = env.transition(s, env.player(s, stream))
        seen = s, after, running & ~out.terminated
        return (after, rng.bits(stream)[0], running & ~out.terminated), seen

    start = env.init(rng.seed(jax.random.key(seed))), rng.seed(jax.random.key(moves)), jnp.bool_(True)
    return jax.lax.scan(step, start, None, length=120)[1]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_cells_are_conserved(seed: int, moves: int) -> None:
    """A lock adds 4 cells, garbage 9, a cleared row removes 10; the piece in play never overlaps filled cells."""
    before, after, running = jax.device_get(_play(seed, moves))

    def filled(s: State) -> np.ndarray:
        bits = s.columns[:, :, None] >> np.arange(HEIGHT, dtype=np.uint32) & np.uint32(1)
        return bits.sum((1, 2), dtype=np.int64)

    locked = (before.columns != after.columns).any(1)
    garbage = after.garbage_timer > before.garbage_timer
    gained = 4 * locked + 9 * garbage - 10 * (after.lines - before.lines)
    assert (filled(after) - filled(before))[running].tolist() == gained[running].tolist()
    assert (garbage <= locked).all() and (after.columns >= FLOOR).all()
    shapes = np.array(SHAPES)[4 * after.piece + after.rotation]
    for shift in (0, 4, 8, 12):
        cell = shapes >> shift & 15
        column = after.column + (cell & 3)
        assert ((column >= 0) & (column < WIDTH)).all()
        for row in (after.row, after.landing):
            free = after.columns[np.arange(len(column)), column] >> (row + (cell >> 2)).astype(np.uint32) & 1 == 0
            assert free[running].all()
