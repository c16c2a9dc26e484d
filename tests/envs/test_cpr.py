"""Cpr by hand: moves worked out on paper, and properties that must hold after every step.

A floor of 5 by 5 is drawn as text: `.` empty, `f` food, `L` a large piece, `0` to `2` the agents. The wall around it is
two cells thick. Food does not spread unless a test says so.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from envs_jax.cpr import AGENT, DOWN, EMPTY, FOOD, LARGE, LEFT, RIGHT, STAY, UP, WALL, Cpr, State
from jaxpuffer import make, rng

ENV = Cpr(size=5, agents=3, food=4, large_food=1, vision=2, spread=0, large_spread=0, max_steps=50)
STRIDE = 5 + 2 * 2
FAR = "..... ..... ..... 1...."  # rows under the first, with agent 1 in a corner
TILES = {".": EMPTY, "f": FOOD, "L": LARGE}
transition = jax.jit(Cpr.transition)


def world(drawing: str, health: tuple[int, ...] = (80, 80, 80)) -> State:
    """A world by hand, row by row; an agent that is not drawn is out."""
    grid, agent = np.full((STRIDE, STRIDE), WALL, np.int8), [0, 0, 0]
    for y, row in enumerate(drawing.split(), 2):
        for x, thing in enumerate(row, 2):
            grid[y, x] = TILES.get(thing, AGENT)
            if thing.isdigit():
                agent[int(thing)] = y * STRIDE + x
    return ENV.init(jnp.uint32([1, 2])).replace(
        grid=jnp.asarray(grid.reshape(-1)),
        agent=jnp.int32(agent),
        health=jnp.int32([h * (cell > 0) for h, cell in zip(health, agent, strict=True)]),
    )


def drawn(s: State) -> str:
    """The world as text, from the grid; the numbers of agents from their cells."""
    names = {int(cell): str(i) for i, cell in enumerate(s.agent) if cell > 0}
    tiles = {tile: name for name, tile in TILES.items()}
    grid = np.asarray(s.grid)
    rows = [[y * STRIDE + x for x in range(2, 7)] for y in range(2, 7)]
    assert {cell for row in rows for cell in row if grid[cell] == AGENT} == set(names)
    return " ".join("".join(names.get(cell) or tiles[int(grid[cell])] for cell in row) for row in rows)


def move(s: State, *actions: int, env: Cpr = ENV) -> tuple[State, list[float]]:
    s, out = transition(env, s, jnp.int32(actions))
    assert not out.reset and not out.truncated.any() and out.terminated.tolist() == [False] * 3
    return s, [round(float(r), 6) for r in out.reward]


def test_default_parameters() -> None:
    env = make("cpr")
    assert (env.size, env.agents, env.food, env.large_food, env.vision) == (26, 8, 66, 13, 3)
    assert np.allclose([env.spread, env.large_spread], [0.016, 0.0016])
    assert np.allclose([env.health_reward, env.waste_reward, env.death_reward], [0.005, -0.01, -1.0])
    assert (int(env.max_steps), int(env.levels), int(env.first_level)) == (1000, 0, 0)


def test_walks_in_each_direction_and_stays() -> None:
    s, reward = move(world("0.... ..... ..2.. ..... 1...."), RIGHT, UP, LEFT)
    assert drawn(s) == ".0... ..... .2... 1.... ....."
    assert reward == [0, 0, 0] and s.health.tolist() == [79, 79, 79] and s.lived.tolist() == [1, 1, 1]
    s, _ = move(s, DOWN, STAY, STAY)
    assert drawn(s) == "..... .0... .2... 1.... ....." and int(s.steps) == 2


def test_the_wall_and_a_large_piece_stop() -> None:
    drawing = "0L... ..... ....2 ..... 1...."
    assert drawn(move(world(drawing), UP, LEFT, RIGHT)[0]) == drawing
    assert drawn(move(world(drawing), RIGHT, DOWN, RIGHT)[0]) == drawing


def test_eats_the_food_that_it_walks_onto() -> None:
    s, reward = move(world("0f... ..... ....2 ..... 1....", (60, 80, 80)), RIGHT, STAY, STAY)
    assert drawn(s) == ".0... ..... ....2 ..... 1...."
    # 20 points of health, and one for the step
    assert s.health.tolist() == [79, 79, 79] and s.eaten.tolist() == [1, 0, 0] and reward == [0.1, 0, 0]


def test_health_has_a_bound_and_the_rest_is_wasted() -> None:
    s, reward = move(world("0f... ..... ....2 ..... 1....", (95, 80, 80)), RIGHT, STAY, STAY)
    # 5 points restored, 15 wasted
    assert s.health.tolist() == [99, 79, 79] and reward == [round(5 * 0.005 - 15 * 0.01, 6), 0, 0]
    s, reward = move(world("0f... ..... ....2 ..... 1....", (100, 80, 80)), RIGHT, STAY, STAY)
    assert s.health.tolist() == [99, 79, 79] and reward == [-0.2, 0, 0]


def test_a_large_piece_is_not_for_one() -> None:
    drawing = "0L... ..... ....2 ..... 1...."
    s, reward = move(world(drawing), STAY, STAY, STAY)
    assert drawn(s) == drawing and reward == [0, 0, 0] and s.shared.tolist() == [0, 0, 0]
    # nor for two of whom one is diagonal to it
    drawing = "0L... ..2.. ..... ..... 1...."
    assert drawn(move(world(drawing), STAY, STAY, STAY)[0]) == drawing


def test_two_eat_of_a_large_piece_together() -> None:
    s, reward = move(world("0L.2. ..... ..... ..... 1....", (40, 80, 70)), STAY, STAY, LEFT)
    assert drawn(s) == "0.2.. ..... ..... ..... 1...."
    # agent 2 has room for 30 of 50 points
    assert s.health.tolist() == [89, 79, 99] and s.shared.tolist() == [1, 0, 1]
    assert reward == [0.25, 0, round(30 * 0.005 - 20 * 0.01, 6)]


def test_three_eat_of_a_large_piece_each_as_much() -> None:
    s, reward = move(world("0L2.. ..... .1... ..... .....", (40, 40, 40)), STAY, UP, STAY)
    assert drawn(s) == "0.2.. .1... ..... ..... ....."
    assert s.health.tolist() == [89, 89, 89] and reward == [0.25, 0.25, 0.25]


def test_one_eats_of_two_large_pieces_and_of_food_in_one_step() -> None:
    s, reward = move(world("1L.L2 .0... ..... ..... .....", (10, 40, 40)), RIGHT, STAY, STAY)
    assert drawn(s) == "1L.L2 ..0.. ..... ..... ....." and reward == [0, 0, 0]
    s, reward = move(s, UP, STAY, STAY)
    assert drawn(s) == "1.0.2 ..... ..... ..... ....."
    assert s.health.tolist() == [99, 88, 88] and s.shared.tolist() == [2, 1, 1]
    assert reward == [round(91 * 0.005 - 9 * 0.01, 6), 0.25, 0.25]
    s, reward = move(world("1Lf.. ..0.. ..... ..... ....2", (10, 40, 40)), UP, STAY, STAY)
    assert s.health.tolist() == [79, 89, 39] and reward == [0.35, 0.25, 0]


def test_the_first_leaves_a_cell_that_the_second_can_enter() -> None:
    assert drawn(move(world("10... ..... ..... ..... ....2"), RIGHT, RIGHT, STAY)[0]) == ".10.. ..... ..... ..... ....2"
    # but agent 0 cannot follow agent 1, which has not moved yet
    assert drawn(move(world("01... ..... ..... ..... ....2"), RIGHT, RIGHT, STAY)[0]) == "0.1.. ..... ..... ..... ....2"
    # nor can anybody follow one that has not moved: agent 0 is stopped by the wall
    assert drawn(move(world("210.. ..... ..... ..... ....."), UP, RIGHT, RIGHT)[0]) == "210.. ..... ..... ..... ....."
    # a row moves on, one after the other
    assert (
        drawn(move(world("210.. ..... ..... ..... ....."), RIGHT, RIGHT, RIGHT)[0]) == ".210. ..... ..... ..... ....."
    )


def test_the_first_takes_the_cell_or_the_food_that_both_want() -> None:
    s, _ = move(world("1.0.. ..... ..... ..... ....2"), LEFT, RIGHT, STAY)
    assert drawn(s) == "10... ..... ..... ..... ....2"
    s, reward = move(world("1f0.. ..... ..... ..... ....2", (60, 60, 60)), LEFT, RIGHT, STAY)
    assert drawn(s) == "10... ..... ..... ..... ....2" and reward == [0.1, 0, 0] and s.eaten.tolist() == [1, 0, 0]
    # of two that want the cell of a third, which leaves it
    assert drawn(move(world("102.. ..... ..... ..... ....."), DOWN, RIGHT, LEFT)[0]) == ".12.. .0... ..... ..... ....."


def test_an_agent_without_health_is_out_and_its_cell_is_free() -> None:
    s, out = transition(ENV, world("01... ..... ..... ..... ....2", (1, 80, 80)), jnp.int32([STAY, LEFT, STAY]))
    assert drawn(s) == ".1... ..... ..... ..... ....2"
    assert out.terminated.tolist() == [True, False, False] and not out.truncated.any() and not out.reset
    assert out.reward.tolist() == [-1, 0, 0]
    assert ENV.active(s).tolist() == [False, True, True] and int(s.agent[0]) == 0
    # it does nothing from then on, and others can go there
    s, reward = move(s, RIGHT, LEFT, STAY)
    assert drawn(s) == "1.... ..... ..... ..... ....2" and reward == [0, 0, 0]
    assert s.lived.tolist() == [1, 2, 2] and s.health.tolist() == [0, 78, 78]


def test_the_last_point_of_health_is_enough_to_eat() -> None:
    s, reward = move(world("0f... ..... ....2 ..... 1....", (1, 80, 80)), RIGHT, STAY, STAY)
    assert s.health.tolist() == [20, 79, 79] and reward == [0.1, 0, 0]


def test_a_dying_agent_still_helps_with_a_large_piece() -> None:
    s, reward = move(world("0L2.. ..... ..... ..... 1....", (1, 80, 40)), STAY, STAY, STAY)
    assert s.health.tolist() == [50, 79, 89] and reward == [0.25, 0, 0.25]
    # one that is out does not
    assert drawn(move(world("2L... ..... ..... ..... 1...."), STAY, STAY, STAY)[0]) == "2L... ..... ..... ..... 1...."


def test_the_world_ends_when_all_are_out_or_time_is_up() -> None:
    s = world("0.... ..... ....2 ..... 1....", (1, 1, 1))
    state, out = transition(ENV, s, jnp.int32([STAY] * 3))
    assert out.terminated.all() and not ENV.active(state).any()
    s = world("0.... ..... ....2 ..... 1....", (1, 80, 80))
    for steps, over in ((48, False), (49, True)):
        _, out = transition(ENV, s.replace(steps=jnp.int32(steps)), jnp.int32([STAY] * 3))
        assert bool(out.reset) is over and out.terminated.tolist() == [True, False, False]


def test_with_probability_one_every_empty_cell_gets_what_it_looks_at() -> None:
    env = ENV.replace(spread=1, large_spread=1)
    # the empty cells see nothing but food, or nothing but large pieces
    s, _ = move(world("fffff f.f.f fffff fffff 012ff"), STAY, STAY, STAY, env=env)
    assert drawn(s) == "fffff fffff fffff fffff 012ff"
    s, _ = move(world("LLLLL L.L.L LLLLL ..... 012.."), STAY, STAY, STAY, env=env)
    assert drawn(s).startswith("LLLLL LLLLL LLLLL")
    # no piece grows where none is beside, and none on an agent
    s, _ = move(world("f.... ..... ..... ..... 012.."), STAY, STAY, STAY, env=env)
    assert drawn(s)[12:] == "..... ..... 012.."


def test_food_spreads_to_the_eight_cells_around_it_equally_often() -> None:
    env = ENV.replace(spread=0.5, large_spread=0.25)
    streams = rng.seed(jax.random.key(4), (20_000,))
    # the agents are two cells away at least
    for thing, tile, chance in (("f", FOOD, 0.5), ("L", LARGE, 0.25)):
        s = world(f"..... ..... ..{thing}.. ..... 0.1.2")
        grids = jax.vmap(lambda stream, s=s: env.grow(stream, s.grid)[1])(streams)
        share = np.asarray((grids == tile).mean(0)).reshape(STRIDE, STRIDE)[2:7, 2:7]
        wanted = np.zeros((5, 5))
        wanted[1:4, 1:4] = chance / 8
        wanted[2, 2] = 1
        assert np.abs(share - wanted).max() < 5 * np.sqrt(chance / 8 / 20_000)


def test_with_probability_zero_nothing_grows() -> None:
    s, _ = move(world("fffff f.f.f fffff f.f.f 012LL"), STAY, STAY, STAY)
    assert drawn(s) == "fffff f.f.f fffff f.f.f 012LL"


def test_what_has_just_grown_does_not_spread_in_the_same_step() -> None:
    env = ENV.replace(spread=1)
    start = world("f.... ..... ..... ..... 012..")
    grids = jax.vmap(lambda stream: env.grow(stream, start.grid)[1])(rng.seed(jax.random.key(5), (500,)))
    food = (np.asarray(grids) == FOOD).reshape(-1, STRIDE, STRIDE)
    assert food[:, 2:4, 2:4].any(0).all() and not food[:, 4:].any() and not food[:, :, 4:].any()


def test_once_all_is_eaten_none_comes_back() -> None:
    env = ENV.replace(spread=1, large_spread=1)
    s = world("0.... ..... ....2 ..... 1....")
    for _ in range(20):
        s, _ = move(s, STAY, STAY, STAY, env=env)
    assert drawn(s) == "0.... ..... ....2 ..... 1...."


def test_observation_by_hand() -> None:
    s = world("0.f.. .1... ..L.. ..... .....", (80, 25, 0)).replace(steps=jnp.int32(10))
    seen = ENV.observe(s)
    w = WALL
    assert seen.window.tolist() == [
        [[w, w, w, w, w], [w, w, w, w, w], [w, w, 3, 0, 1], [w, w, 0, 3, 0], [w, w, 0, 0, 2]],
        [[w, w, w, w, w], [w, 3, 0, 1, 0], [w, 0, 3, 0, 0], [w, 0, 0, 2, 0], [w, 0, 0, 0, 0]],
        [[0] * 5] * 5,
    ]
    # health of 100, row and column of five, time left of 50 steps; zeros for who is out
    np.testing.assert_allclose(seen.numbers, [[0.8, 0, 0, 0.8], [0.25, 0.2, 0.2, 0.8], [0] * 4], rtol=1e-6)


def test_score_and_figures_by_hand() -> None:
    s = world("0.f.. .1f.. ..L.. ..... .....").replace(
        lived=jnp.int32([10, 20, 5]), eaten=jnp.int32([2, 0, 1]), shared=jnp.int32([0, 3, 0])
    )
    assert ENV.score(s).tolist() == [10, 20, 5]
    np.testing.assert_allclose(ENV.perf(s), [0.2, 0.4, 0.1], rtol=1e-6)
    figures = {name: x.tolist() for name, x in ENV.figures(s).items()}
    assert figures == {"eaten": [2, 0, 1], "food_left": [3, 3, 3], "shared": [0, 3, 0]}


def test_a_world_begins_with_what_the_parameters_say() -> None:
    env = make("cpr")
    s = env.init(jnp.uint32([1, 2]))
    counts = [int((s.grid == tile).sum()) for tile in (FOOD, LARGE, AGENT, WALL)]
    assert counts == [int(env.food), int(env.large_food), 8, 32 * 32 - 26 * 26] and s.health.tolist() == [80] * 8


def test_levels_are_the_same_worlds() -> None:
    env = ENV.replace(levels=1, first_level=7)
    a, b = (env.init(jnp.uint32(words)) for words in ([1, 2], [3, 4]))
    assert (a.grid == b.grid).all() and a.agent.tolist() == b.agent.tolist() and (a.rng != b.rng).any()
    other = env.replace(first_level=8).init(jnp.uint32([1, 2]))
    assert (a.grid != other.grid).any()


def test_a_floor_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size is 5, a floor of 25 cells; it must have room"):
        Cpr(size=5, agents=8, food=16, large_food=2)
    full = Cpr(size=5, agents=8, food=15, large_food=2).init(jnp.uint32([1, 2]))
    assert not (full.grid == EMPTY).any()


def test_every_cell_is_as_likely_for_food() -> None:
    streams = rng.seed(jax.random.key(3), (4000,))
    grid = jax.vmap(ENV.init)(streams).grid.reshape(-1, STRIDE, STRIDE)[:, 2:7, 2:7]
    for tile, count in ((AGENT, 3), (LARGE, 1), (FOOD, 4)):
        share = np.asarray((grid == tile).mean(0))
        # five standard errors
        assert np.abs(share - count / 25).max() < 5 * np.sqrt(count / 25 / 4000)


@settings(max_examples=10, deadline=None, phases=[Phase.generate])
@given(st.integers(0, 2**31 - 1), st.booleans())
def test_rules_hold_in_random_play(seed: int, scripted: bool) -> None:
    env = Cpr(size=9, agents=5, food=8, large_food=4, vision=2, spread=0.05, large_spread=0.02, max_steps=150)
    states, rewards, terminated = (jax.tree.map(np.asarray, x) for x in _play(env, seed, scripted))
    alive = states.health > 0
    # agents are on different cells of the floor, and nowhere else; the wall stays
    for grid, agent, living in zip(states.grid, states.agent, alive, strict=True):
        assert sorted(np.flatnonzero(grid == AGENT)) == sorted(agent[living]) and (agent[~living] == 0).all()
    assert ((states.grid == WALL).sum(1) == 13 * 13 - 9 * 9).all()
    # health is within its bounds, and each step takes a point if nothing is eaten
    assert (states.health >= 0).all() and (states.health <= 99).all()
    food = 20 * np.diff(states.eaten, axis=0) + 50 * np.diff(states.shared, axis=0)
    wanted = np.minimum(states.health[:-1] + food, 100) - 1
    assert (states.health[1:] == np.where(alive[:-1], wanted, 0)).all()
    # who is out stays out, gets nothing and does not change; it was terminated once
    gone = ~alive[:-1]
    assert (~alive[1:])[gone].all() and (rewards[1:][gone] == 0).all() and not terminated[1:][gone].any()
    for field in (states.eaten, states.shared, states.lived):
        assert (np.diff(field, axis=0)[gone] == 0).all()
    assert (terminated.sum(0) == ~alive[-1]).all() and (states.lived == alive.cumsum(0) - alive + 1)[alive].all()


@jax.jit
def _play(env: Cpr, seed: int, scripted: bool) -> tuple[State, jax.Array, jax.Array]:
    """The states, rewards and flags of 149 steps without a reset."""

    def step(carry: tuple, key: jax.Array) -> tuple:
        s = carry
        actions = jnp.where(scripted, env.player(s, jax.random.key_data(key)), jax.random.randint(key, (5,), 0, 5))
        s, step = env.step(s, actions)
        return s, (s, step.reward, step.terminated)

    keys = jax.random.split(jax.random.key(seed), 149)
    return jax.lax.scan(step, env.reset(keys[0])[0], keys)[1]
