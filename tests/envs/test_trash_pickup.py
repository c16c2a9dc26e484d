"""Trash pickup by hand: moves worked out on paper, and properties that must hold after every step.

A floor of 5 by 5 is drawn as text, two characters a cell: `.` floor, `t` trash, `b0` bin 0, `a1` agent 1, `c1` agent 1
that carries a piece. The wall around it is two cells thick.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import scripted_play

from envs_jax.trash_pickup import AGENT, BIN, DOWN, FLOOR, LEFT, RIGHT, TRASH, UP, WALL, State, TrashPickup
from jaxpuffer import make, rng

ENV = TrashPickup(size=5, agents=2, trash=4, bins=2, vision=2, max_steps=50)
STRIDE = 5 + 2 * 2
transition = jax.jit(TrashPickup.transition)


def world(*rows: str) -> State:
    """A world by hand; pieces that are neither on the floor nor carried are in the bins, put there by agent 0."""
    grid = np.full((STRIDE, STRIDE), WALL, np.int8)
    agent, bin, carries = [0, 0], [0, 0], [0, 0]
    tiles = {".": FLOOR, "t": TRASH, "b": BIN, "a": AGENT, "c": AGENT + 1}
    for y, row in enumerate(rows, 2):
        for x, thing in enumerate(row.split(), 2):
            grid[y, x] = tiles[thing[0]]
            if thing[0] == "b":
                bin[int(thing[1])] = y * STRIDE + x
            if thing[0] in "ac":
                agent[int(thing[1])] = y * STRIDE + x
                carries[int(thing[1])] = int(thing[0] == "c")
    on_the_way = int((grid == TRASH).sum()) + sum(carries)
    return ENV.init(jnp.uint32([1, 2])).replace(
        grid=jnp.asarray(grid.reshape(-1)),
        agent=jnp.int32(agent),
        carries=jnp.int32(carries),
        delivered=jnp.int32([4 - on_the_way, 0]),
        bin=jnp.int32(bin),
        steps=jnp.int32(0),
    )


def drawn(s: State) -> list[str]:
    """The floor as text, from the grid; the numbers of agents and bins from their cells."""
    names = {int(c): f"b{k}" for k, c in enumerate(s.bin)}
    names |= {int(c): f"{'ac'[int(s.carries[i])]}{i}" for i, c in enumerate(s.agent)}
    grid = np.asarray(s.grid)
    rows = []
    for y in range(2, 7):
        cells = range(y * STRIDE + 2, y * STRIDE + 7)
        rows.append(" ".join({FLOOR: ". ", TRASH: "t "}.get(int(grid[c]), names.get(c, "? ")) for c in cells))
    tile = {"b": BIN, "a": AGENT, "c": AGENT + 1}
    assert all(grid[c] == tile[name[0]] for c, name in names.items())
    return rows


def same(s: State, *rows: str) -> bool:
    return [row.split() for row in drawn(s)] == [row.split() for row in rows]


def move(s: State, *actions: int) -> tuple[State, list[float]]:
    s, out = transition(ENV, s, jnp.int32(actions))
    assert not out.reset and not out.terminated.any() and not out.truncated.any()
    return s, out.reward.tolist()


def test_default_parameters() -> None:
    env = make("trash_pickup")
    assert (env.size, env.agents, env.trash, env.bins, env.vision) == (20, 8, 40, 2, 5)
    assert (float(env.pickup_reward), float(env.deposit_reward)) == (0.5, 0.5)
    assert (int(env.max_steps), int(env.levels), int(env.first_level)) == (500, 0, 0)


def test_walks_onto_floor_in_each_direction() -> None:
    s = world(
        "a0 .  .  .  b0",
        ".  .  .  .  . ",
        ".  t  .  .  . ",
        ".  .  .  .  . ",
        "b1 .  .  .  a1",
    )
    s, reward = move(s, RIGHT, UP)
    assert same(s, ". a0 . . b0", ". . . . .", ". t . . .", ". . . . a1", "b1 . . . .")
    assert reward == [0.0, 0.0] and int(s.steps) == 1
    s, _ = move(s, DOWN, LEFT)
    assert same(s, ". . . . b0", ". a0 . . .", ". t . . .", ". . . a1 .", "b1 . . . .")


def test_the_wall_stops() -> None:
    rows = "a0 . . . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . a1"
    s, reward = move(world(*rows), UP, RIGHT)
    assert same(s, *rows) and reward == [0.0, 0.0]
    s, _ = move(world(*rows), LEFT, DOWN)
    assert same(s, *rows)


def test_picks_up_a_piece_and_stands_where_it_lay() -> None:
    s = world("a0 t . . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . a1")
    s, reward = move(s, RIGHT, UP)
    assert same(s, ". c0 . . b0", ". . . . .", ". t . . .", ". . . . a1", "b1 . . . .")
    assert reward == [0.5, 0.0] and s.carries.tolist() == [1, 0] and s.delivered.tolist() == [2, 0]


def test_who_carries_is_stopped_by_trash() -> None:
    rows = "c0 t . . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . a1"
    s, reward = move(world(*rows), RIGHT, RIGHT)
    assert same(s, *rows) and reward == [0.0, 0.0]


def test_puts_its_piece_into_a_bin_and_stays() -> None:
    s = world("c0 b0 . . .", ". . . . .", ". t . . .", ". . . . .", "b1 . . . a1")
    s, reward = move(s, RIGHT, RIGHT)
    assert same(s, "a0 b0 . . .", ". . . . .", ". t . . .", ". . . . .", "b1 . . . a1")
    assert reward == [0.5, 0.0] and s.delivered.tolist() == [3, 0]
    # without a piece it pushes the bin
    s, reward = move(s, RIGHT, RIGHT)
    assert same(s, ". a0 b0 . .", ". . . . .", ". t . . .", ". . . . .", "b1 . . . a1")
    assert reward == [0.0, 0.0] and s.delivered.tolist() == [3, 0]


@pytest.mark.parametrize(
    "row",
    [
        ". . . a0 b0",  # the wall is behind the bin
        ". . a0 b0 t",
        ". . a0 b0 b1",
        ". . a0 b0 a1",
        ". . a0 b0 c1",
    ],
)
def test_a_bin_is_not_pushed_into_anything(row: str) -> None:
    rows = [row, ". . . . .", ". t . . .", ". . . . .", ". . . . ."]
    if "b1" not in row:
        rows[4] = "b1 . . . ."
    if "1" not in row.replace("b1", ""):
        rows[4] = rows[4][:-1] + "a1"
    s, reward = move(world(*rows), RIGHT, RIGHT)
    assert same(s, *rows) and reward == [0.0, 0.0]


def test_the_first_leaves_a_cell_that_the_second_can_enter() -> None:
    s = world("a1 a0 . . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . .")
    # agent 1 follows agent 0, which has moved before
    assert same(move(s, RIGHT, RIGHT)[0], ". a1 a0 . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . .")
    # agent 0 cannot follow agent 1, which has not moved yet
    s = world("a0 a1 . . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . .")
    assert same(move(s, RIGHT, RIGHT)[0], "a0 . a1 . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . .")


def test_the_first_takes_the_floor_or_the_piece_that_both_want() -> None:
    s = world("a0 . a1 . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . .")
    assert same(move(s, RIGHT, LEFT)[0], ". a0 a1 . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . .")
    s, reward = move(world("a1 t a0 . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . ."), LEFT, RIGHT)
    assert same(s, "a1 c0 . . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . .")
    assert reward == [0.5, 0.0]


def test_two_push_a_bin_in_one_step() -> None:
    s = world(". . . . .", "a0 b0 . . .", ". . a1 . .", "t . . . .", "b1 . . . .")
    # agent 0 pushes it to the right, above agent 1, and agent 1 pushes it up
    s, _ = move(s, RIGHT, UP)
    assert same(s, ". . b0 . .", ". a0 a1 . .", ". . . . .", "t . . . .", "b1 . . . .")


def test_a_piece_goes_into_a_bin_that_was_pushed_there_in_this_step() -> None:
    s, reward = move(world("a0 b0 . c1 .", ". . . . .", ". t . . .", ". . . . .", "b1 . . . ."), RIGHT, LEFT)
    assert same(s, ". a0 b0 a1 .", ". . . . .", ". t . . .", ". . . . .", "b1 . . . .")
    assert reward == [0.0, 0.5] and s.delivered.tolist()[1] == 1
    # and not into one that was pushed away: agent 1 walks onto the floor that the bin left
    s, reward = move(world("a1 . . . .", "c1 b0 . . .", ". a0 . . .", ". t . . .", "b1 . . . ."), UP, RIGHT)
    assert reward == [0.0, 0.0] and s.delivered.tolist()[1] == 0


def test_a_clean_floor_ends_the_episode_of_all() -> None:
    s = world("c0 b0 . . .", ". . . . .", ". . . . .", ". . . . .", "b1 . . . a1")
    after, out = transition(ENV, s, jnp.int32([RIGHT, UP]))
    assert out.terminated.tolist() == [True, True] and not out.reset
    assert ENV.score(after).tolist() == [4.0, 4.0] and ENV.perf(after).tolist() == [1.0, 1.0]
    # not while somebody carries the last piece
    assert not transition(ENV, s, jnp.int32([DOWN, UP]))[1].terminated.any()


def test_the_time_limit_resets_the_world() -> None:
    s = world("a0 . . . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . a1")
    for steps, over in ((48, False), (49, True)):
        _, out = transition(ENV, s.replace(steps=jnp.int32(steps)), jnp.int32([RIGHT, UP]))
        assert bool(out.reset) is over and not out.terminated.any()


def test_score_is_of_all_and_a_figure_of_each() -> None:
    s = world("a0 . . . b0", ". . . . .", ". t . . .", ". . . . .", "b1 . . . a1").replace(delivered=jnp.int32([2, 1]))
    assert ENV.score(s).tolist() == [3.0, 3.0] and ENV.perf(s).tolist() == [0.75, 0.75]
    assert ENV.figures(s)["delivered_alone"].tolist() == [2.0, 1.0]


def test_observation_by_hand() -> None:
    s = world("c0 . t . b0", ". a1 . . .", ". . . . .", ". . . . .", "b1 . . . .").replace(steps=jnp.int32(10))
    seen = ENV.observe(s)
    w = WALL
    assert seen.window.tolist() == [
        [[w, w, w, w, w], [w, w, w, w, w], [w, w, 4, 0, 1], [w, w, 0, 3, 0], [w, w, 0, 0, 0]],
        [[w, w, w, w, w], [w, 4, 0, 1, 0], [w, 0, 3, 0, 0], [w, 0, 0, 0, 0], [w, 0, 0, 0, 0]],
    ]
    # carries, row and column of five, time left of 50 steps
    np.testing.assert_allclose(seen.numbers, [[1, 0, 0, 0.8], [0, 0.2, 0.2, 0.8]], rtol=1e-6)


def test_levels_are_the_same_floors() -> None:
    env = ENV.replace(levels=1, first_level=7)
    a, b = (env.init(jnp.uint32(words)) for words in ([1, 2], [3, 4]))
    assert (a.grid == b.grid).all() and a.agent.tolist() == b.agent.tolist() and (a.rng != b.rng).any()
    other = env.replace(first_level=8).init(jnp.uint32([1, 2]))
    assert (a.grid != other.grid).any()


def test_a_floor_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size is 5, a floor of 25 cells; it must have room"):
        TrashPickup(size=5, agents=8, trash=16, bins=2)
    full = TrashPickup(size=5, agents=8, trash=15, bins=2, vision=1).init(jnp.uint32([1, 2]))
    assert not (full.grid == FLOOR).any()


def test_every_cell_is_as_likely_for_trash() -> None:
    streams = rng.seed(jax.random.key(3), (4000,))
    grid = jax.vmap(ENV.init)(streams).grid.reshape(-1, STRIDE, STRIDE)[:, 2:7, 2:7]
    for tile, count in ((AGENT, 2), (BIN, 2), (TRASH, 4)):
        share = np.asarray((grid == tile).mean(0))
        # five standard errors
        assert np.abs(share - count / 25).max() < 5 * np.sqrt(count / 25 / 4000)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_no_piece_is_lost_and_the_grid_holds_what_the_cells_say(seed: int, moves: int) -> None:
    env = TrashPickup(size=7, agents=4, trash=12, bins=3, vision=2, max_steps=100)
    s = scripted_play(env, seed, moves, steps=60)
    assert (s.grid == TRASH).sum() + s.carries.sum() + s.delivered.sum() == 12
    assert sorted(np.flatnonzero(s.grid == BIN)) == sorted(s.bin)
    assert (s.grid[s.agent] == AGENT + s.carries).all()
    assert ((s.grid == AGENT) | (s.grid == AGENT + 1)).sum() == 4
    assert len({*s.agent.tolist(), *s.bin.tolist()}) == 7
    assert (s.grid == WALL).sum() == 11 * 11 - 7 * 7
