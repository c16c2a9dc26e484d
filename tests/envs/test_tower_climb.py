"""Tower climb by hand: moves worked out on paper from the rules, properties that hold after every step, and a solver.

A world is drawn as a slice from west to east, seen from the south, level 0 at the bottom: # block, G goal, . empty;
> and < the climber, who stands and looks to the east or the west, } and { the same as it hangs. Or as the climber's
level seen from above, north at the top: ^ > v < where it looks.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs_jax.tower_climb import (
    AHEAD,
    ASIDE,
    BACK,
    BELOW,
    BLOCK,
    COLUMNS,
    EAST,
    EMPTY,
    FIRST,
    FORWARD,
    GOAL,
    LEFT,
    NORTH,
    OUTSIDE,
    PULL,
    PUSH,
    RIGHT,
    SIZE,
    SOUTH,
    STAY,
    STRIDE,
    WEST,
    State,
    TowerClimb,
)
from jaxpuffer import make, rng
from jaxpuffer.vec_env import VecEnv

ENV = TowerClimb()
ROW = 5  # of the slice, from the north
transition = jax.jit(TowerClimb.transition)
observe = jax.jit(TowerClimb.observe)
init = jax.jit(TowerClimb.init)


def at(row: int, column: int) -> int:
    return (FIRST + row) * STRIDE + FIRST + column


def empty() -> State:
    """A world without blocks; the goal is in a corner where nothing happens."""
    like = jax.eval_shape(ENV.init, jax.ShapeDtypeStruct((2,), jnp.uint32))
    s = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    return s.replace(goal=jnp.int32(at(0, 0)), highest=jnp.int32(8))


def world(drawing: str, below: int = 0) -> State:
    """A slice by hand, whose lowest level is `below`. The climber has stood on the highest row before."""
    s, rows = empty(), drawing.split()[::-1]
    columns = np.zeros(COLUMNS, np.int16)
    for level, row in enumerate(rows, below):
        for x, what in enumerate(row):
            cell = at(ROW, x)
            if what in "#G":
                columns[cell] |= 1 << level
            if what == "G":
                s = s.replace(goal=jnp.int32(cell))
            if what in "><}{":
                s = s.replace(
                    cell=jnp.int32(cell),
                    height=jnp.int32(level),
                    facing=jnp.int32(EAST if what in ">}" else WEST),
                    hanging=jnp.int32(what in "}{"),
                )
    return s.replace(columns=jnp.asarray(columns))


def drawn(s: State, like: str, below: int = 0) -> str:
    """The slice of a state, as large as another drawing."""
    shape = like.split()
    names = {(EAST, 0): ">", (WEST, 0): "<", (EAST, 1): "}", (WEST, 1): "{"}
    rows = []
    for level in range(below + len(shape) - 1, below - 1, -1):
        row = ""
        for x in range(len(shape[0])):
            cell = at(ROW, x)
            block = int(s.columns[cell]) >> level & 1
            goal = cell == int(s.goal) and level == int(ENV.rows)
            here = cell == int(s.cell) and level == int(s.height)
            row += names[int(s.facing), int(s.hanging)] if here else "G" if goal else "#" if block else "."
        rows.append(row)
    return "\n" + "\n".join(rows) + "\n"


def seen_from_above(drawing: str, height: int, hanging: int) -> State:
    """The climber's level by hand, from the north-west corner on."""
    s, columns = empty(), np.zeros(COLUMNS, np.int16)
    for y, row in enumerate(drawing.split()):
        for x, what in enumerate(row):
            if what == "#":
                columns[at(y, x)] = 1 << height
            if what in "^>v<":
                facing = "^>v<".index(what)
                s = s.replace(cell=jnp.int32(at(y, x)), facing=jnp.int32(facing))
    return s.replace(
        columns=jnp.asarray(columns), height=jnp.int32(height), hanging=jnp.int32(hanging), goal=jnp.int32(at(9, 9))
    )


def from_above(s: State, like: str) -> str:
    rows = []
    for y, row in enumerate(like.split()):
        tiles = ["#" if int(s.columns[at(y, x)]) >> int(s.height) & 1 else "." for x in range(len(row))]
        rows.append("".join("^>v<"[int(s.facing)] if at(y, x) == int(s.cell) else t for x, t in enumerate(tiles)))
    return "\n" + "\n".join(rows) + "\n"


def move(s: State, action: int, env: TowerClimb = ENV) -> tuple[State, float]:
    s, out = transition(env, s, jnp.int32(action))
    assert not out.terminated and not out.truncated
    return s, round(float(out.reward), 3)


def check(before: str, action: int, after: str, reward: float, below: int = 0) -> State:
    """One move, from one drawing to another."""
    s, got = move(world(before, below), action)
    assert drawn(s, after, below) == after and got == reward
    return s


def nothing_happens(before: str, action: int, below: int = 0) -> None:
    check(before, action, drawn(world(before, below), before, below), -0.004, below)


def test_default_parameters() -> None:
    env = make("tower_climb")
    assert (int(env.stretches), int(env.max_steps), int(env.levels), int(env.first_level)) == (3, 60, 0, 0)
    chances = float(env.puzzles), float(env.gaps), float(env.clutter)
    np.testing.assert_allclose(chances, (0.5, 0.3, 0.3), rtol=1e-6)
    rewards = env.climb_reward, env.fall_reward, env.illegal_reward, env.move_reward, env.goal_reward, env.death_reward
    np.testing.assert_allclose(rewards, (0.64, -0.16, -0.004, 0.235, 1.0, -1.0), rtol=1e-6)


def test_walks_on_a_level() -> None:
    before = """
.>..
.##.
"""
    after = """
..>.
.##.
"""
    check(before, FORWARD, after, 0.0)


def test_climbs_a_step() -> None:
    before = """
....
.>#.
.##.
"""
    after = """
..>.
..#.
.##.
"""
    check(before, FORWARD, after, 0.0)
    # the first time it is on this row, it is paid for it: it stands on level 2, two above the ground, on row 1
    s, reward = move(world(before).replace(highest=jnp.int32(0)), FORWARD)
    assert reward == 0.64 and int(s.highest) == 1
    s, reward = move(s.replace(facing=jnp.int32(WEST)), FORWARD)
    assert reward == -0.16
    s, reward = move(s.replace(facing=jnp.int32(EAST)), FORWARD)
    assert reward == 0.0 and int(s.highest) == 1


@pytest.mark.parametrize("above", ["..#.", ".#.."])
def test_needs_room_to_climb(above: str) -> None:
    nothing_happens(f"{above}\n.>#.\n.##.\n", FORWARD)


def test_steps_down() -> None:
    before = """
.>..
.#..
.##.
"""
    after = """
....
.#>.
.##.
"""
    check(before, FORWARD, after, -0.16)


def test_goes_over_the_edge_and_climbs_back() -> None:
    before = """
.>..
.#..
.#..
.##.
"""
    after = """
....
.#{.
.#..
.##.
"""
    s = check(before, FORWARD, after, -0.16)
    s, reward = move(s, FORWARD)
    assert reward == 0.0
    assert (
        drawn(s, before)
        == """
.<..
.#..
.#..
.##.
"""
    )


def test_no_room_to_climb_from_the_edge() -> None:
    nothing_happens(".#..\n.#{.\n.#..\n", FORWARD)
    nothing_happens("..#.\n.#{.\n.#..\n", FORWARD)


def test_lets_go() -> None:
    before = """
.#{.
.#..
.#..
.##.
"""
    after = """
.#..
.#..
.#<.
.##.
"""
    check(before, BACK, after, -0.16)
    # with no block below it dies on the ground
    _, out = transition(ENV, world(".#{.\n.#..\n.#..\n"), jnp.int32(BACK))
    assert out.terminated and not out.truncated and float(out.reward) == -1.0
    _, out = transition(ENV, world(".#{.\n"), jnp.int32(BACK))
    assert out.terminated and float(out.reward) == -1.0


@pytest.mark.parametrize(
    ("action", "facing"),
    [(RIGHT, SOUTH), (BACK, WEST), (LEFT, NORTH), (STAY, EAST)],
    ids=["right", "back", "left", "stay"],
)
def test_turns_as_it_stands(action: int, facing: int) -> None:
    before = world(".>..\n.##.\n")
    s, reward = move(before, action)
    assert reward == 0.0 and int(s.steps) == 1
    assert jax.tree.all(
        jax.tree.map(lambda a, b: (a == b).all(), s, before.replace(facing=jnp.int32(facing), steps=jnp.int32(1)))
    )


@pytest.mark.parametrize(
    ("before", "action", "after"),
    [
        ("###..\n.^...\n", RIGHT, "###..\n..^..\n"),  # along a wall
        ("###..\n.^...\n", LEFT, "###..\n^....\n"),
        (".##..\n.^#..\n", RIGHT, ".##..\n.>#..\n"),  # onto the wall beside
        (".#...\n.^...\n", RIGHT, ".#<..\n.....\n"),  # round the corner of its block
        ("..#..\n..^..\n", LEFT, ".>#..\n.....\n"),
        ("#....\nv....\n#....\n", LEFT, "#....\n.....\n#<...\n"),
    ],
)
def test_goes_to_a_side_as_it_hangs(before: str, action: int, after: str) -> None:
    s = seen_from_above(before, height=3, hanging=1)
    s, reward = move(s, action)
    assert from_above(s, before) == "\n" + after and reward == 0.0 and int(s.hanging) == 1 and int(s.height) == 3


def test_does_not_leave_the_world() -> None:
    for drawing, action in (("#....\n^....\n", LEFT), ("...#<\n", RIGHT)):
        s = seen_from_above(drawing, height=3, hanging=1)
        after, reward = move(s, action)
        assert from_above(after, drawing) == from_above(s, drawing) and reward == -0.004
    nothing_happens(".........>\n.........#\n", FORWARD)
    nothing_happens("<....\n#....\n", FORWARD)


def test_pushes_a_block() -> None:
    before = """
.>#..
.###.
"""
    after = """
.>.#.
.###.
"""
    s = check(before, PUSH, after, 0.235)
    # it is paid once until there is a new row
    s, reward = move(s.replace(cell=jnp.int32(at(ROW, 2))), PUSH)
    assert reward == 0.0 and int(s.moved) == 1
    climbs = world("....\n.>#.\n.##.\n").replace(highest=jnp.int32(0), moved=jnp.int32(1))
    assert int(move(climbs, FORWARD)[0].moved) == 0


def test_pushes_two_blocks_but_not_three() -> None:
    before = """
>##...
#####.
"""
    after = """
>.##..
#####.
"""
    check(before, PUSH, after, 0.235)
    nothing_happens(">###..\n#####.\n", PUSH)


def test_pushes_nothing_and_not_out_of_the_world() -> None:
    nothing_happens(".>..\n.##.\n", PUSH)
    nothing_happens(".......>##\n.......###\n", PUSH)
    nothing_happens("........>#\n........##\n", PUSH)


def test_a_pushed_block_is_held_by_a_neighbour() -> None:
    before = """
.>#..
.##..
"""
    after = """
.>.#.
.##..
"""
    check(before, PUSH, after, 0.235)


def test_a_pushed_block_falls() -> None:
    # onto a block
    before = """
.>#...
.#....
.#....
.#.#..
"""
    after = """
.>....
.#....
.#.#..
.#.#..
"""
    check(before, PUSH, after, 0.235)
    # until the edge of a block on its other side holds it
    before = """
.>#...
.#....
.#..#.
.#..#.
"""
    after = """
.>....
.#.#..
.#..#.
.#..#.
"""
    check(before, PUSH, after, 0.235)
    # to the ground
    before = """
.>#..
.#...
.#...
"""
    after = """
.>...
.#...
.#.#.
"""
    check(before, PUSH, after, 0.235)


def test_pulls_a_block_and_walks() -> None:
    before = """
..>#.
.###.
"""
    after = """
.>#..
.###.
"""
    check(before, PULL, after, 0.235)


def test_pulls_a_block_and_goes_down() -> None:
    before = """
.>#.
.##.
##..
"""
    after = """
.#..
>##.
##..
"""
    check(before, PULL, after, round(0.235 - 0.16, 3))
    before = """
.>#.
.##.
.#..
"""
    after = """
.#..
}##.
.#..
"""
    check(before, PULL, after, round(0.235 - 0.16, 3))


def test_pulls_nothing_and_not_into_a_wall() -> None:
    nothing_happens(".>..\n.##.\n", PULL)
    nothing_happens("#>#.\n###.\n", PULL)
    nothing_happens(">#..\n##..\n", PULL)  # the world ends behind it


def test_does_not_push_or_pull_as_it_hangs() -> None:
    nothing_happens("..#.\n.#{.\n.#..\n", PUSH)
    nothing_happens("..#.\n.#{.\n.#..\n", PULL)


def test_a_wall_of_two_becomes_a_stair() -> None:
    before = """
....
..#.
>.#.
###.
"""
    s, _ = move(world(before), FORWARD)
    # the upper block is held by the edge of the one that was pulled out from under it
    s, reward = move(s, PULL)
    after = """
....
..#.
>#..
###.
"""
    assert drawn(s, after) == after and reward == 0.235
    for _ in range(2):
        s, _ = move(s, FORWARD)
    after = """
..>.
..#.
.#..
###.
"""
    assert drawn(s, after) == after


def test_blocks_without_hold_fall() -> None:
    # the pushed block falls to the ground; of the two above it, the lower one is held by the next level's edge, and
    # the upper one then by the lower
    before = """
..#...
..#...
.>#...
.#....
"""
    after = """
......
..#...
.>#...
.#.#..
"""
    check(before, PUSH, after, 0.235)


def test_a_falling_block_crushes() -> None:
    s = world(".#..\n.>#.\n.###\n")
    _, out = transition(ENV, s, jnp.int32(PUSH))
    assert out.terminated and float(out.reward) == -1.0


def test_the_goal() -> None:
    # the goal is on level 6, the last of six rows
    before = """
...
>G.
##.
"""
    s = world(before, below=5).replace(highest=jnp.int32(5))
    after, out = transition(ENV, s, jnp.int32(FORWARD))
    assert out.terminated and not out.truncated and float(out.reward) == pytest.approx(1.64)
    assert float(ENV.score(after)) == 6 and float(ENV.perf(after)) == 1 and float(ENV.figures(after)["solved"]) == 1
    assert float(ENV.figures(s)["solved"]) == 0 and float(ENV.perf(s)) == pytest.approx(5 / 6)


def test_the_goal_is_not_moved_and_does_not_fall() -> None:
    nothing_happens(".>G.\n.###\n", PUSH, below=5)
    nothing_happens(">#G.\n####\n", PUSH, below=5)
    nothing_happens(".>G.\n###.\n", PULL, below=5)
    before = """
..G..
.>#..
.#...
.#...
.#...
.#...
.#...
"""
    after = """
..G..
.>...
.#...
.#...
.#...
.#...
.#.#.
"""
    check(before, PUSH, after, 0.235)


def test_the_time_limit_truncates() -> None:
    s = world(".>..\n.##.\n")
    for steps, over in ((58, False), (59, True)):
        _, out = transition(ENV, s.replace(steps=jnp.int32(steps)), jnp.int32(STAY))
        assert bool(out.truncated) is over and not out.terminated


def test_observation_by_hand() -> None:
    before = """
...G.
.>#..
.##.#
"""
    s = world(before, below=4).replace(steps=jnp.int32(15), moved=jnp.int32(1))
    seen = observe(ENV, s)
    window = np.asarray(seen.window)
    expected = np.full((5, 5, 6), EMPTY)
    # in the middle column, from 3 ahead to 1 behind: level 4 is one below the climber
    middle = expected[:, ASIDE]
    middle[AHEAD - 3, BELOW - 1] = BLOCK
    middle[AHEAD - 2, BELOW + 1] = GOAL
    middle[AHEAD - 1, [BELOW - 1, BELOW]] = BLOCK
    middle[AHEAD, BELOW - 1] = BLOCK
    assert (window == expected).all()
    np.testing.assert_allclose(seen.numbers, [0.2, 0.0, 0.1, 0.5, 0, 1, 0.75], rtol=1e-6)
    # in the north-west corner, looking north, three rows and two columns are outside
    s = s.replace(cell=jnp.int32(at(0, 0)), facing=jnp.int32(NORTH))
    window = np.asarray(observe(ENV, s).window)
    assert (window[:AHEAD] == OUTSIDE).all() and (window[:, :ASIDE] == OUTSIDE).all()
    assert (window[AHEAD:, ASIDE:] == EMPTY).all()


def test_levels_are_the_same_towers() -> None:
    env = ENV.replace(levels=1, first_level=7)
    a, b = (init(env, jnp.uint32(words)) for words in ([1, 2], [3, 4]))
    assert (a.columns == b.columns).all() and a.goal == b.goal and (a.rng != b.rng).any()
    other = init(env.replace(first_level=8), jnp.uint32([1, 2]))
    assert (a.columns != other.columns).any()


def loose(s: State) -> np.ndarray:
    """Blocks that nothing holds, of states with a leading axis."""
    columns = np.asarray(s.columns).reshape(-1, STRIDE, STRIDE).astype(int)
    padded = np.pad(columns, ((0, 0), (1, 1), (1, 1)))
    around = columns | padded[:, :-2, 1:-1] | padded[:, 2:, 1:-1] | padded[:, 1:-1, :-2] | padded[:, 1:-1, 2:]
    falls = columns & ~(around << 1 | 1)
    goal = np.asarray(s.goal).reshape(-1)
    falls[np.arange(len(goal)), goal // STRIDE, goal % STRIDE] &= ~(1 << int(ENV.rows))
    return falls


@functools.partial(jax.jit, static_argnums=1)
def played(key: jax.Array, steps: int) -> tuple[State, jax.Array]:
    """The states of 64 towers after each step, and which ended with it."""
    batch = ENV.batch(64)

    def step(carry: tuple, _: None) -> tuple:
        state, streams = carry
        actions = jax.vmap(ENV.player)(state.env, streams)
        after, ended = batch.transition(state, actions)
        state, _ = batch.reset_ended(after, ended)
        return (state, jax.vmap(lambda s: rng.bits(s)[0])(streams)), (after.env, ended.terminated)

    start = batch.reset(key)[0], rng.seed(key, (64,))
    return jax.lax.scan(step, start, length=steps)[1]


def test_nothing_floats_and_no_block_is_lost() -> None:
    s, ended = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), played(jax.random.key(0), 200))
    assert not loose(s).any()
    inside = np.zeros((STRIDE, STRIDE), bool)
    inside[FIRST : FIRST + SIZE, FIRST : FIRST + SIZE] = True
    columns = s.columns.reshape(-1, STRIDE, STRIDE)
    assert not columns[:, ~inside].any() and (columns >= 0).all() and (columns < 1024).all()

    # who lives is in no block, and stands on one or hangs on one
    alive = ~ended
    flat = s.columns.astype(int)[alive]
    index = np.arange(len(flat))
    own = flat[index, s.cell[alive]] << 1
    step = np.array([-STRIDE, 1, STRIDE, -1])[s.facing[alive]]
    ahead = flat[index, s.cell[alive] + step]
    height, hanging = s.height[alive], s.hanging[alive] == 1
    assert not (own >> (height + 1) & 1).any()
    assert (own >> height & 1)[~hanging].all() and (ahead >> height & 1)[hanging].all()

    # as many blocks as before, while the goal and the start are the same
    count = np.unpackbits(s.columns.view(np.uint8), axis=1).sum(1).reshape(200, 64)
    same = s.steps.reshape(200, 64)[1:] > 1
    assert (count[1:] == count[:-1])[same].all() and same.sum() > 10_000


def turned(s: State) -> State:
    """The world and the climber in it turned by a quarter to the left."""
    columns = jnp.rot90(s.columns.reshape(STRIDE, STRIDE)).reshape(-1)

    def cell(where: jax.Array) -> jax.Array:
        return (STRIDE - 1 - where % STRIDE) * STRIDE + where // STRIDE

    return s.replace(columns=columns, cell=cell(s.cell), goal=cell(s.goal), facing=(s.facing - 1) & 3)


@jax.jit
def after_each(states: State) -> tuple:
    """Every action in every state, and what is then seen."""
    after, out = jax.vmap(jax.vmap(ENV.transition, (None, 0)), (0, None))(states, jnp.arange(7, dtype=jnp.int32))
    return after, out, jax.vmap(jax.vmap(ENV.observe))(after)


def test_north_is_like_east() -> None:
    states = jax.tree.map(lambda x: x[::10].reshape(-1, *x.shape[2:]), played(jax.random.key(1), 200)[0])
    after, out, seen = after_each(states)
    expected = jax.vmap(jax.vmap(turned))(after), out, seen
    assert jax.tree.all(jax.tree.map(lambda x, y: (x == y).all(), expected, after_each(jax.vmap(turned)(states))))


@pytest.mark.parametrize("stretches", [1, 2, 3, 4])
def test_a_tower_is_at_rest_and_the_goal_is_its_only_block_so_high(stretches: int) -> None:
    env = ENV.replace(stretches=stretches, gaps=0.5)
    s = jax.jit(jax.vmap(env.init))(rng.seed(jax.random.key(stretches), (500,)))
    columns, goal = np.asarray(s.columns).astype(int), np.asarray(s.goal)
    index = np.arange(500)
    assert (columns[index, goal] == (2 << 2 * stretches) - 1).all()
    columns[index, goal] = 0
    assert (columns < 1 << 2 * stretches).all()
    assert (np.asarray(s.height) == 1).all() and (np.asarray(s.columns)[index, np.asarray(s.cell)] == 1).all()


def solve(count: int, beam: int = 200, together: int = 32, **params: float) -> np.ndarray:
    """Actions to the goal for `count` drawn towers, 0 where none was found.

    Breadth first, on many towers at once: of the states of each depth those nearest to the goal are kept.
    """
    start = VecEnv("tower_climb", count, **params)
    start.reset(seed=1)
    first, rows = start.state.copy(), 2 * start.params["stretches"]
    envs = VecEnv("tower_climb", together * beam * 7, **params)
    envs.reset(seed=0)
    mix = np.random.default_rng(0).integers(1, 2**63, COLUMNS + 5, np.uint64)
    found = np.zeros(count, int)
    for begin in range(0, count, together):
        tower = np.arange(begin, min(begin + together, count))
        states, known = first[tower], np.zeros(0, np.uint64)
        for depth in range(1, start.params["max_steps"] + 1):
            # every action in every state
            n = 7 * len(tower)
            tower = tower.repeat(7)
            envs.state[:n] = states.repeat(7)
            actions = np.zeros(envs.num_envs, np.int32)
            actions[:n] = np.arange(n) % 7
            _, reward, terminated, truncated, _ = envs.step(actions)
            found[tower[terminated[:n] & (reward[:n] > 0)]] = depth

            # those that are new, by a hash
            goes_on = ~terminated[:n] & ~truncated[:n] & (found[tower] == 0)
            states, tower = envs.state[:n][goes_on], tower[goes_on]
            where = np.stack([tower, *(states[name] for name in ("cell", "height", "facing", "hanging"))], 1)
            parts = np.concatenate([states["columns"], where], 1).astype(np.uint64)
            hashes, one = np.unique((parts * mix).sum(1), return_index=True)
            is_new = ~np.isin(hashes, known)
            known, one = np.concatenate([known, hashes[is_new]]), one[is_new]
            states, tower = states[one], tower[one]

            # the nearest to the goal
            south, east = (
                np.abs(f(states["goal"], STRIDE) - f(states["cell"], STRIDE)) for f in (np.floor_divide, np.mod)
            )
            order = np.lexsort((south + east + 2 * (rows + 1 - states["height"]), tower))
            states, tower = states[order], tower[order]
            kept = np.arange(len(tower)) - np.searchsorted(tower, tower) < beam
            states, tower = states[kept], tower[kept]
            if not len(tower):
                break
    return found


@pytest.mark.needs_c
def test_towers_can_be_climbed() -> None:
    found = solve(24)
    assert (found > 0).all() and 10 < found.mean() < 20


@pytest.mark.needs_c
@pytest.mark.full
@pytest.mark.parametrize(
    "params", [{}, {"stretches": 4, "gaps": 1.0, "puzzles": 0.7, "clutter": 0.0}], ids=["default", "hard"]
)
def test_a_thousand_towers_can_be_climbed(params: dict) -> None:
    assert (solve(1000, **params) > 0).all()
