"""Snake by hand: moves worked out on paper, and properties that must hold after every step.

The arena is 6 wide and 5 high, cells written (x, y) from its upper left corner.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import scripted_play

from envs_jax.snake import BODY, CORPSE, DOWN, EMPTY, FOOD, LEFT, RIGHT, UP, WALL, Snake, State
from jaxpuffer import make

Cell = tuple[int, int]
ENV = Snake(width=6, height=5, num_snakes=2, num_food=0, vision=1, max_length=4, max_steps=50)
transition = jax.jit(Snake.transition)


def index(cell: Cell) -> int:
    return (cell[1] + 1) * 8 + cell[0] + 1  # a wall one cell thick around


def world(bodies: list[list[Cell]], headings: list[int], tiles: dict[Cell, int] | None = None) -> State:
    """A world by hand; each body from head to tail."""
    s = ENV.init(jnp.uint32([1, 2]))
    grid = np.full((7, 8), WALL, np.int8)
    grid[1:6, 1:7] = EMPTY
    grid = grid.reshape(-1)
    rings = np.zeros((2, 4), np.int16)
    for i, body in enumerate(bodies):
        for k, cell in enumerate(body):
            grid[index(cell)] = BODY + i
            rings[i, len(body) - 1 - k] = index(cell)  # the tail in slot 0
    for cell, tile in (tiles or {}).items():
        grid[index(cell)] = tile
    return s.replace(
        grid=jnp.asarray(grid),
        body=jnp.asarray(rings.reshape(-1)),
        front=jnp.int32([len(b) - 1 for b in bodies]),
        head=jnp.int32([index(b[0]) for b in bodies]),
        length=jnp.int32([len(b) for b in bodies]),
        heading=jnp.int32(headings),
        missing_food=jnp.int32(0),
    )


def tiles(s: State) -> dict[Cell, int]:
    grid = np.asarray(s.grid).reshape(7, 8)[1:6, 1:7]
    return {(x, y): int(grid[y, x]) for y in range(5) for x in range(6) if grid[y, x] != EMPTY}


def move(s: State, *actions: int) -> tuple[State, dict]:
    s, out = transition(ENV, s, jnp.int32(actions))
    return s, {"reward": out.reward.tolist(), "terminated": out.terminated.tolist(), "reset": bool(out.reset)}


FAR = [(5, 4)]  # the second snake, far away in the lower right corner


def test_default_parameters() -> None:
    env = make("snake")
    assert (env.width, env.height, env.num_snakes, env.num_food, env.vision, env.max_length) == (32, 32, 16, 64, 5, 32)
    assert (float(env.food_reward), float(env.death_reward), int(env.max_steps)) == (pytest.approx(0.1), -1.0, 1000)


def test_moves_and_draws_in_its_tail() -> None:
    s, out = move(world([[(2, 2), (1, 2)], FAR], [RIGHT, UP]), RIGHT, UP)
    assert tiles(s) == {(3, 2): BODY, (2, 2): BODY, (5, 3): BODY + 1}
    assert out == {"reward": [0.0, 0.0], "terminated": [False, False], "reset": False}
    assert s.length.tolist() == [2, 1] and s.head.tolist() == [index((3, 2)), index((5, 3))]


@pytest.mark.parametrize("food", [FOOD, CORPSE])
def test_eats_and_grows(food: int) -> None:
    s, out = move(world([[(2, 2), (1, 2)], FAR], [RIGHT, UP], {(2, 1): food}), UP, UP)
    # the eaten piece may already have grown again
    assert {c: t for c, t in tiles(s).items() if t != FOOD} == {
        (2, 1): BODY, (2, 2): BODY, (1, 2): BODY, (5, 3): BODY + 1,
    }  # fmt: skip
    assert s.length.tolist() == [3, 1]
    assert out["reward"] == [pytest.approx(0.1), 0.0]


def test_eaten_food_is_missed_and_a_corpse_is_not() -> None:
    env = ENV.replace(num_food=1)
    full = {(x, y): WALL for x in range(6) for y in range(5)}  # no free cell for food
    for food, missing in ((FOOD, 1), (CORPSE, 0)):
        s = world([[(2, 2)], FAR], [RIGHT, UP], full | {(2, 2): BODY, (5, 4): BODY + 1, (3, 2): food, (5, 3): EMPTY})
        s, _ = transition(env, s, jnp.int32([RIGHT, UP]))
        # food could have grown again on the cell that the moves left free: the second snake's old cell
        assert int(s.missing_food) + int((s.grid == FOOD).sum()) == missing


def test_at_the_greatest_length_it_eats_but_does_not_grow() -> None:
    body = [(3, 2), (2, 2), (1, 2), (0, 2)]
    s, out = move(world([body, FAR], [RIGHT, UP], {(4, 2): CORPSE}), RIGHT, UP)
    assert s.length.tolist() == [4, 1] and out["reward"][0] == pytest.approx(0.1)
    assert tiles(s) == {(4, 2): BODY, (3, 2): BODY, (2, 2): BODY, (1, 2): BODY, (5, 3): BODY + 1}


def test_a_wall_kills_and_every_other_cell_becomes_a_corpse() -> None:
    # the tail (0, 2) is pulled in; of the rest, cells whose coordinates add up to an even number stay
    s, out = move(world([[(2, 0), (2, 1), (2, 2), (1, 2)], FAR], [UP, UP]), UP, UP)
    assert out == {"reward": [-1.0, 0.0], "terminated": [True, False], "reset": False}
    assert tiles(s) == {(2, 0): CORPSE, (2, 2): CORPSE, (5, 3): BODY + 1}
    assert s.length.tolist() == [4, 1]  # as it died


def test_another_body_kills() -> None:
    s, out = move(world([[(2, 2)], [(4, 1), (3, 1), (3, 2), (3, 3)]], [RIGHT, RIGHT]), RIGHT, RIGHT)
    # (3, 3) is pulled in, (3, 2) is still there
    assert out["terminated"] == [True, False]
    assert tiles(s) == {(5, 1): BODY + 1, (4, 1): BODY + 1, (3, 1): BODY + 1, (3, 2): BODY + 1}


def test_a_leaving_tail_can_be_followed() -> None:
    s, out = move(world([[(2, 3)], [(4, 1), (3, 1), (3, 2), (3, 3)]], [RIGHT, RIGHT]), RIGHT, RIGHT)
    assert out["terminated"] == [False, False]
    assert tiles(s)[(3, 3)] == BODY


def test_a_growing_snakes_tail_stays_and_kills() -> None:
    bodies = [[(2, 3)], [(4, 2), (3, 2), (3, 3)]]
    s, out = move(world(bodies, [RIGHT, RIGHT], {(5, 2): FOOD}), RIGHT, RIGHT)
    assert out["terminated"] == [True, False] and s.length.tolist() == [1, 4]


def test_head_to_head_kills_both_and_leaves_the_food() -> None:
    s, out = move(world([[(1, 2)], [(3, 2)]], [RIGHT, LEFT], {(2, 2): FOOD}), RIGHT, LEFT)
    assert out == {"reward": [-1.0, -1.0], "terminated": [True, True], "reset": False}
    assert tiles(s) == {(2, 2): FOOD}


def test_two_single_cells_pass_through_each_other() -> None:
    s, out = move(world([[(1, 2)], [(2, 2)]], [RIGHT, LEFT]), RIGHT, LEFT)
    assert out["terminated"] == [False, False]
    assert tiles(s) == {(2, 2): BODY, (1, 2): BODY + 1}


def test_turning_back_is_masked_and_ignored() -> None:
    s = world([[(2, 2), (1, 2)], FAR], [RIGHT, UP])
    assert ENV.action_mask(s).tolist() == [[True, True, False, True], [True, True, True, True]]
    s, _ = move(s, LEFT, UP)
    assert tiles(s)[(3, 2)] == BODY and s.heading.tolist()[0] == RIGHT
    # a snake of length one has no neck
    s, _ = move(world([[(2, 2)], FAR], [RIGHT, UP]), LEFT, UP)
    assert tiles(s)[(1, 2)] == BODY and s.heading.tolist()[0] == LEFT


def test_bites_itself_but_not_the_tail_that_leaves() -> None:
    curled = [(2, 2), (2, 1), (3, 1), (3, 2)]
    assert move(world([curled, FAR], [DOWN, UP]), RIGHT, UP)[1]["terminated"] == [False, False]
    # as it eats and grows, the tail stays; the other snake's tile there is what kills
    s = world([curled, FAR], [DOWN, UP])
    s = s.replace(length=jnp.int32([3, 1]), body=s.body.at[0].set(jnp.int16(index((0, 0)))))
    assert move(s, RIGHT, UP)[1]["terminated"] == [True, False]


def test_the_world_is_reset_at_the_time_limit() -> None:
    s = world([[(2, 2)], FAR], [RIGHT, UP]).replace(steps=jnp.int32(49))
    s, out = move(s, RIGHT, UP)
    assert out["reset"] and out["terminated"] == [False, False]
    s = world([[(2, 2)], FAR], [RIGHT, UP]).replace(steps=jnp.int32(48))
    assert not move(s, RIGHT, UP)[1]["reset"]


def test_observation_by_hand() -> None:
    s = world([[(0, 0), (1, 0)], [(1, 1)]], [LEFT, UP], {(0, 1): FOOD})
    wall, food, own, other = 3, 1, 4, 5
    assert ENV.observe(s).reshape(2, 3, 3).tolist() == [
        [[wall, wall, wall], [wall, own, own], [wall, food, other]],
        [[other, other, 0], [food, own, 0], [0, 0, 0]],
    ]


def test_respawn_takes_an_empty_cell_else_a_corpse() -> None:
    everywhere = {(x, y): FOOD for x in range(6) for y in range(5)}
    s = world([[(2, 2)], FAR], [RIGHT, UP], everywhere | {(2, 2): BODY, (5, 4): BODY + 1, (3, 3): EMPTY})
    s = ENV.respawn(s, jnp.array([True, False]))
    assert s.head.tolist()[0] == index((3, 3)) and s.length.tolist()[0] == 1
    s = world([[(2, 2)], FAR], [RIGHT, UP], everywhere | {(2, 2): BODY, (5, 4): BODY + 1, (4, 0): CORPSE})
    assert ENV.respawn(s, jnp.array([True, False])).head.tolist()[0] == index((4, 0))


def test_parameters_that_leave_no_room_are_refused() -> None:
    with pytest.raises(ValueError, match=r"width \* height is 100; it must be above"):
        Snake(width=10, height=10)
    with pytest.raises(ValueError, match="max_length is 512 with 16 snakes"):
        Snake(max_length=512)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_the_grid_and_the_bodies_tell_the_same_story(seed: int, moves: int) -> None:
    """After any moves: each body is a connected path of distinct cells, and the grid holds exactly these."""
    env = Snake(width=9, height=7, num_snakes=4, num_food=6, vision=2, max_length=6)
    s = scripted_play(env, seed, moves, steps=60)
    cells: list[int] = []
    for i in range(4):
        ring = s.body.reshape(4, 6)[i]
        path = [int(ring[(s.front[i] - k) % 6]) for k in range(s.length[i])]
        assert path[0] == s.head[i]
        assert all(abs(a - b) in (1, env.stride) for a, b in itertools.pairwise(path))
        assert sorted(np.flatnonzero(s.grid == BODY + i)) == sorted(path)
        cells += path
    assert len(set(cells)) == len(cells)
    assert (s.grid == FOOD).sum() + s.missing_food == 6
