"""Maze by hand: moves in a drawn maze worked out on paper, and properties of every grown maze."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax.maze import BACK, EAST, FORWARD, LEFT, NORTH, RIGHT, SOUTH, STAY, WEST, Maze, State
from jaxpuffer import make, rng

# rows and columns count from the upper left corner; the goal is at (3, 3)
DRAWN = """
#####
#...#
###.#
#...#
#####
"""
ENV = Maze(size=5, vision=1)
transition = jax.jit(Maze.transition)


def drawn(row: int, column: int, heading: int, steps: int = 0) -> State:
    s = ENV.init(jnp.uint32([1, 2]))
    walls = np.ones((7, 32), bool)  # with a margin of one, and solid outside
    for r, line in enumerate(DRAWN.split()):
        walls[r + 1, 1:6] = [tile == "#" for tile in line]
    words = (walls * (np.uint32(1) << np.arange(32, dtype=np.uint32))).sum(1, dtype=np.uint32)
    return s.replace(
        walls=jnp.asarray(words), row=jnp.int32(row), column=jnp.int32(column),
        heading=jnp.int32(heading), steps=jnp.int32(steps),
    )  # fmt: skip


def move(s: State, action: int, env: Maze = ENV) -> tuple[tuple[int, int, int], float, bool, bool]:
    s, out = transition(env, s, jnp.int32(action))
    return (int(s.row), int(s.column), int(s.heading)), float(out.reward), bool(out.terminated), bool(out.truncated)


def test_default_parameters() -> None:
    env = make("maze")
    assert (env.size, env.vision, int(env.max_steps)) == (11, 5, 0)
    assert float(env.branching) == pytest.approx(0.1)


def test_an_episode_begins_in_the_corner() -> None:
    s = make("maze").init(jnp.uint32([1, 2]))
    assert (int(s.row), int(s.column), int(s.heading), int(s.steps)) == (1, 1, EAST, 0)


@pytest.mark.parametrize(
    ("start", "action", "after"),
    [
        ((1, 1, EAST), FORWARD, (1, 2, EAST)),
        ((1, 1, NORTH), RIGHT, (1, 2, EAST)),
        ((1, 2, EAST), BACK, (1, 1, WEST)),
        ((1, 1, SOUTH), LEFT, (1, 2, EAST)),
        ((1, 3, EAST), RIGHT, (2, 3, SOUTH)),
        ((2, 3, SOUTH), BACK, (1, 3, NORTH)),
        ((1, 3, NORTH), LEFT, (1, 2, WEST)),
        ((3, 2, WEST), FORWARD, (3, 1, WEST)),
        # at a wall it turns but does not move
        ((1, 1, EAST), RIGHT, (1, 1, SOUTH)),
        ((1, 1, EAST), BACK, (1, 1, WEST)),
        ((1, 1, NORTH), FORWARD, (1, 1, NORTH)),
        # staying keeps the heading
        ((1, 2, WEST), STAY, (1, 2, WEST)),
    ],
)
def test_moves(start: tuple[int, int, int], action: int, after: tuple[int, int, int]) -> None:
    assert move(drawn(*start), action) == (after, 0.0, False, False)


def test_the_goal_ends_the_episode() -> None:
    assert move(drawn(2, 3, SOUTH), FORWARD) == ((3, 3, SOUTH), 1.0, True, False)
    assert move(drawn(3, 2, EAST, steps=49), FORWARD) == ((3, 3, EAST), 1.0, True, False)
    goal = drawn(3, 3, SOUTH)
    assert float(ENV.score(goal)) == float(ENV.perf(goal)) == 1 and float(ENV.score(drawn(3, 2, EAST))) == 0


def test_the_time_limit_is_twice_the_area_or_what_is_asked() -> None:
    assert move(drawn(1, 1, EAST, steps=49), STAY)[2:] == (False, True)  # 2 * 5 * 5
    assert move(drawn(1, 1, EAST, steps=48), STAY)[2:] == (False, False)
    short = ENV.replace(max_steps=7)
    assert move(drawn(1, 1, EAST, steps=6), STAY, short)[2:] == (False, True)
    assert move(drawn(1, 1, EAST, steps=5), STAY, short)[2:] == (False, False)


@pytest.mark.parametrize(
    ("heading", "window"),
    [
        # around (3, 2): open to the west and, with the goal, to the east
        (NORTH, [[1, 1, 0], [0, 0, 2], [1, 1, 1]]),
        (EAST, [[0, 2, 1], [1, 0, 1], [1, 0, 1]]),
        (SOUTH, [[1, 1, 1], [2, 0, 0], [0, 1, 1]]),
        (WEST, [[1, 0, 1], [1, 0, 1], [1, 2, 0]]),
    ],
)
def test_the_window_turns_with_the_agent(heading: int, window: list[list[int]]) -> None:
    assert ENV.observe(drawn(3, 2, heading)).reshape(3, 3).tolist() == window


def test_even_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Maze\.size is 10; it must be odd, from 5 to 47"):
        Maze(size=10)
    with pytest.raises(ValueError, match=r"Maze\.size is 49; it must be from 5 to 47"):
        make("maze", size=49)


def tiles(env: Maze, walls: np.ndarray) -> np.ndarray:
    """Open tiles of one maze, bool (size, size)."""
    words = walls.reshape(env.words, env.height)
    bits = np.concatenate([(word[:, None] >> np.arange(32, dtype=np.uint32)) & 1 for word in words], 1) == 0
    inside = slice(env.vision, env.vision + env.size)
    return bits[inside, inside]


@pytest.mark.parametrize("size", [5, 7, 11, 23, 47])
def test_every_maze_is_a_tree(size: int) -> None:
    """All cells are connected, and there is one opening fewer than cells: one path between any two."""
    env = Maze(size=size)
    streams = rng.seed(jax.random.key(size), (6,))
    states = jax.jit(lambda env, streams: jax.vmap(env.init)(streams))(env, streams)
    seen = set()
    for walls in np.asarray(states.walls):
        maze = tiles(env, walls)
        seen.add(maze.tobytes())
        cells = (size // 2) ** 2
        assert maze[1::2, 1::2].all() and not maze[::2, ::2].any()
        assert maze.sum() == cells + cells - 1
        reached, front = {(1, 1)}, [(1, 1)]
        while front:
            row, column = front.pop()
            for tile in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                if maze[tile] and tile not in reached:
                    reached.add(tile)
                    front.append(tile)
        assert len(reached) == maze.sum()
    assert len(seen) >= (2 if size == 5 else 5), "each episode has a maze of its own"


def test_a_hand_on_the_wall_solves_every_maze() -> None:
    """The left-hand rule, played through the rules, reaches the goal before the time limit."""
    batch = make("maze").batch(64)

    def step(carry: tuple, _: None) -> tuple:
        state, streams = carry
        actions = jax.vmap(batch.env.player)(state.env, streams)
        state, ts = batch.step(state, actions)
        return (state, jax.vmap(lambda s: rng.bits(s)[0])(streams)), (ts.terminated, ts.ended)

    start = batch.reset(jax.random.key(0))[0], rng.seed(jax.random.key(1), (64,))
    _, (solved, ended) = jax.jit(lambda c: jax.lax.scan(step, c, length=600))(start)
    # one episode in eight is played at random
    assert int(solved.sum()) > 0.8 * int(ended.sum()) > 100
