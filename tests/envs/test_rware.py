"""Rware by hand: steps worked out on paper from the rules, and properties that must hold after every step.

A part of the warehouse is drawn as text, a word for a cell. The first character is the cell: . lane, _ empty place,
s shelf, r requested shelf, g goal. A robot follows: its number, its facing ^ > v <, and its load: s a shelf, r a
requested one, d a delivered one. Robots that are not drawn stay at the upper wall.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.rware import (
    DELIVERED,
    DOWN,
    FORWARD,
    GOAL,
    LAYOUTS,
    LOAD,
    NOTHING,
    OUTSIDE,
    REQUESTED,
    SHELF,
    STANDING,
    STAY,
    TURN_LEFT,
    TURN_RIGHT,
    Rware,
    State,
)
from jaxpuffer import make, rng

AGENTS = 5
ENV = Rware(agents=AGENTS, vision=2)
transition = jax.jit(Rware.transition)
observe = jax.jit(Rware.observe)
FACING, LOADS = "^>v<", " srd"
ALL = (FORWARD,) * AGENTS


def world(drawing: str, at: tuple[int, int] = (3, 3)) -> State:
    """A state by hand, of the tiny warehouse; the drawing's upper left cell is at a row and column."""
    empty, requested = np.zeros((2, 11), np.uint32)
    robots = [[0, 9 - i, 0, NOTHING] for i in range(AGENTS)]
    for y, line in enumerate(drawing.split("\n")[1:-1], at[0]):
        for x, word in enumerate(line.split(), at[1]):
            empty[y] |= np.uint32((word[0] == "_") << x)
            requested[y] |= np.uint32((word[0] == "r") << x)
            if word[1:]:
                robots[int(word[1])] = [y, x, FACING.index(word[2]), LOADS.index((word + " ")[3])]
    row, column, facing, load = jnp.int32(robots).T
    return State(
        rng=jnp.uint32([1, 2]),
        empty=jnp.asarray(empty),
        requested=jnp.asarray(requested),
        row=row,
        column=column,
        facing=facing,
        load=load,
        delivered=jnp.zeros(AGENTS, jnp.int32),
        steps=jnp.int32(0),
    )


def drawn(s: State, like: str, at: tuple[int, int] = (3, 3)) -> str:
    """The same part of the warehouse as another drawing."""
    lines = []
    robots = {(int(s.row[i]), int(s.column[i])): i for i in range(AGENTS)}
    for y, line in enumerate(like.split("\n")[1:-1], at[0]):
        words = []
        for x, _ in enumerate(line.split(), at[1]):
            kind = {"1": ".", "3": "s", "5": "g"}[LAYOUTS[0].cells[y][x]]
            kind = "_" if int(s.empty[y]) >> x & 1 else "r" if int(s.requested[y]) >> x & 1 else kind
            if (y, x) in robots:
                i = robots[y, x]
                kind += f"{i}{FACING[int(s.facing[i])]}{LOADS[int(s.load[i])]}".strip()
            words.append(kind)
        lines.append(" ".join(words))
    return "\n" + "\n".join(lines) + "\n"


def move(s: State, *actions: int) -> tuple[State, list[float]]:
    """One step, in which the other robots stay: the state and the rewards of these."""
    s, out = transition(ENV, s, jnp.int32([*actions, *[STAY] * (AGENTS - len(actions))]))
    assert not out.terminated.any() and not out.truncated.any() and not out.reset
    return s, out.reward.tolist()[: len(actions)]


def becomes(before: str, after: str, *actions: int, at: tuple[int, int] = (3, 3)) -> None:
    """These actions lead from one drawing to the other."""
    assert drawn(world(before, at), before, at) == before
    s, _ = move(world(before, at), *actions)
    assert drawn(s, after, at) == after


def requests(s: State) -> int:
    return sum(int(word).bit_count() for word in s.requested) + int((s.load == REQUESTED).sum())


def test_default_parameters() -> None:
    env = make("rware")
    assert (env.layout, env.agents, env.requests, env.vision) == (0, 4, 4, 1)
    assert (float(env.load_reward), float(env.deliver_reward), float(env.return_reward)) == (0.5, 0.5, 1.0)
    assert (int(env.max_steps), int(env.levels), int(env.first_level)) == (500, 0, 0)
    assert [layout.name for layout in LAYOUTS] == ["tiny", "small", "medium"]


def test_layouts() -> None:
    for layout, shape, places in zip(LAYOUTS, ((11, 10), (10, 20), (16, 20)), (32, 80, 144), strict=True):
        assert (len(layout.cells), len(layout.cells[0])) == shape
        assert "".join(layout.cells).count(str(STANDING)) == places and len(layout.goals) == 2
    with pytest.raises(ValueError, match="at most 32"):
        Rware(agents=16, requests=17)


def test_turning() -> None:
    becomes("\n.0^ .1> .2v .3<\n", "\n.0> .1^ .2< .3v\n", TURN_RIGHT, TURN_LEFT, TURN_RIGHT, TURN_LEFT)
    becomes("\n.0^ .1> .2v .3<\n", "\n.0< .1v .2> .3^\n", TURN_LEFT, TURN_RIGHT, TURN_LEFT, TURN_RIGHT)


def test_a_chain_of_three_moves() -> None:
    becomes("\n.0> .1> .2> .\n", "\n. .0> .1> .2>\n", FORWARD, FORWARD, FORWARD)
    # in any order of their numbers
    becomes("\n.2> .0> .1> .\n", "\n. .2> .0> .1>\n", FORWARD, FORWARD, FORWARD)


def test_a_chain_stops_behind_one_that_stays() -> None:
    for action in (STAY, LOAD, TURN_RIGHT):
        s = world("\n.0> .1> .2> .\n")
        after, _ = move(s, FORWARD, FORWARD, action)
        assert after.column[:3].tolist() == s.column[:3].tolist()


def test_a_chain_stops_at_the_wall_and_at_a_shelf() -> None:
    becomes("\n.2^\n.0^\n.1^\n", "\n.2^\n.0^\n.1^\n", FORWARD, FORWARD, FORWARD, at=(0, 3))
    becomes("\n.1> .0>r s\n", "\n.1> .0>r s\n", FORWARD, FORWARD, at=(4, 5))


CIRCLE = """
.0> .1v
.3^ .2<
"""


def test_a_circle_of_four_moves() -> None:
    after = """
.3^ .0>
.2< .1v
"""
    becomes(CIRCLE, after, *[FORWARD] * 4)
    # not if one stays
    becomes(CIRCLE, CIRCLE, FORWARD, FORWARD, STAY, FORWARD)


def test_a_circle_goes_before_another_that_wants_in() -> None:
    before = """
. .1> .2v
.0> .4^ .3<
"""
    after = """
. .4^ .1>
.0> .3< .2v
"""
    becomes(before, after, *ALL)


def test_two_do_not_swap_places_and_stop_who_follows() -> None:
    becomes("\n.2> .0> .1< .\n", "\n.2> .0> .1< .\n", FORWARD, FORWARD, FORWARD)


def test_of_two_that_want_one_cell_the_first_goes() -> None:
    becomes("\n.1> . .0<\n", "\n.1> .0< .\n", FORWARD, FORWARD)
    becomes("\n.0> . .1<\n", "\n. .0> .1<\n", FORWARD, FORWARD)
    # three: from the left, from the right and from below
    becomes("\n.1> . .0<\n. .2^ .\n", "\n.1> .0< .\n. .2^ .\n", FORWARD, FORWARD, FORWARD)


def test_the_longer_queue_goes_first() -> None:
    becomes("\n.2> .1> . .0<\n", "\n. .2> .1> .0<\n", FORWARD, FORWARD, FORWARD)
    # a queue counts only with those who want to move
    becomes("\n.2> .1> . .0<\n", "\n.2> .1> .0< .\n", FORWARD, FORWARD, STAY)
    # who loses a cell stops the queue behind it: 3 and 0 behind it are more than 4
    before = """
. . .4v .
.3> .0> . .1<
. . .2^ .
"""
    after = """
. . .4v .
. .3> .0> .1<
. . .2^ .
"""
    becomes(before, after, *ALL)


def test_robots_go_under_shelves_unless_they_carry_one() -> None:
    becomes("\n.0> s s\n", "\n. s0> s\n", FORWARD, at=(4, 6))
    for load in "srd":
        becomes(f"\n.0>{load} s s\n", f"\n.0>{load} s s\n", FORWARD, at=(4, 6))
        becomes(f"\n.0>{load} _ s\n", f"\n. _0>{load} s\n", FORWARD, at=(4, 6))
    # a carried shelf is in nobody's way if its robot moves on, a standing one is, also above a robot
    becomes("\n.0>s .1>r .\n", "\n. .0>s .1>r\n", FORWARD, FORWARD)
    becomes("\n.0>s s1> s\n", "\n.0>s s s1>\n", FORWARD, FORWARD, at=(4, 6))


def test_a_requested_shelf_is_lifted_and_put_back() -> None:
    before, after = "\n. r0< s\n", "\n. _0<r s\n"
    s = world(before, (4, 6))
    s, reward = move(s, LOAD)
    assert drawn(s, after, (4, 6)) == after and reward == [0.5]
    s, reward = move(s, LOAD)
    assert drawn(s, before, (4, 6)) == before and reward == [-0.5]


def test_another_shelf_is_lifted_without_a_reward() -> None:
    s, reward = move(world("\n. s0< s\n", (4, 6)), LOAD)
    assert int(s.load[0]) == SHELF and reward == [0.0] and int(s.empty[4]) == 1 << 7
    s, reward = move(s, LOAD)
    assert int(s.load[0]) == NOTHING and reward == [0.0] and int(s.empty[4]) == 0


def test_a_shelf_is_put_down_in_empty_places_only() -> None:
    becomes("\n.0>s .\n", "\n.0>s .\n", LOAD)
    becomes("\ng0>s g\n", "\ng0>s g\n", LOAD, at=(10, 4))
    becomes("\n_0>s .\n", "\ns0> .\n", LOAD, at=(4, 2))


def test_nothing_to_lift() -> None:
    becomes("\n.0> _1>\n", "\n.0> _1>\n", LOAD, LOAD, at=(4, 6))


def test_a_delivered_shelf_is_put_down_for_a_reward() -> None:
    s, reward = move(world("\n_0>d .\n", (4, 2)), LOAD)
    assert reward == [1.0] and int(s.load[0]) == NOTHING and int(s.empty[4]) == 0 and int(s.requested[4]) == 0


def test_a_delivery_and_a_new_request() -> None:
    s = world("\n. .0v .\n. g .\n", (9, 3)).replace(load=jnp.int32([REQUESTED, SHELF, NOTHING, DELIVERED, NOTHING]))
    assert requests(s) == 1
    after, reward = move(s, FORWARD)
    assert reward == [0.5] and after.load.tolist() == [DELIVERED, SHELF, NOTHING, DELIVERED, NOTHING]
    assert after.delivered.tolist() == [1, 0, 0, 0, 0] and ENV.score(after).tolist() == [1.0] * AGENTS
    assert ENV.figures(after)["delivered_alone"].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert requests(after) == 1 and not (after.rng == s.rng).all()
    # a delivered one is not delivered again
    again, reward = move(after, STAY)
    assert reward == [0.0] and again.delivered.tolist() == after.delivered.tolist()


def test_every_other_shelf_can_be_requested() -> None:
    s = world("\n. .0v .\n. g .\n", (9, 3)).replace(load=jnp.int32([REQUESTED, 0, 0, 0, 0]))
    s = s.replace(empty=s.empty.at[1].set(1 << 1), requested=s.requested.at[2].set(1 << 8))
    seen = set()
    action = jnp.int32([FORWARD, STAY, STAY, STAY, STAY])
    streams = rng.seed(jax.random.key(0), (600,))
    found = jax.jit(jax.vmap(lambda stream: ENV.transition(s.replace(rng=stream), action)[0].requested))(streams)
    for words in np.asarray(found) & ~np.asarray(s.requested):
        (y,) = np.flatnonzero(words)
        seen.add((int(y), int(words[y]).bit_length() - 1))
    places = {(y, x) for y in range(1, 9) for x in (1, 2, 7, 8)}
    assert seen == places - {(1, 1), (2, 8)}


def test_two_deliveries_in_one_step() -> None:
    s = world("\n.0v .1v\ng g\n", (9, 4)).replace(load=jnp.int32([REQUESTED, REQUESTED, 0, 0, 0]))
    s, reward = move(s, FORWARD, FORWARD)
    assert reward == [0.5, 0.5] and requests(s) == 2 and ENV.score(s).tolist() == [2.0] * AGENTS


def test_a_shelf_from_its_place_to_the_goal_and_back() -> None:
    s, rewards = world("\n. r0< s\n", (8, 6)), []
    way_there = [LOAD, FORWARD, TURN_LEFT, FORWARD, FORWARD, TURN_RIGHT, FORWARD]
    way_back = [TURN_RIGHT, TURN_RIGHT, FORWARD, TURN_LEFT, FORWARD, FORWARD, TURN_RIGHT, FORWARD, LOAD]
    for action in way_there + way_back:
        s, reward = move(s, action)
        rewards += reward
    expected = [0.5, *[0.0] * 5, 0.5, *[0.0] * 8, 1.0]
    assert rewards == expected and int(s.load[0]) == NOTHING and not s.empty.any()


def test_the_reward_parameters() -> None:
    env = ENV.replace(load_reward=3.0, deliver_reward=4.0, return_reward=5.0)
    s = world("\nr0> r\n_1>d _2>r\n", (4, 7)).replace(row=jnp.int32([4, 5, 5, 9, 0]), column=jnp.int32([7, 7, 8, 4, 5]))
    s = s.replace(load=s.load.at[3].set(REQUESTED), facing=s.facing.at[3].set(DOWN))
    _, out = transition(env, s, jnp.int32([LOAD, LOAD, LOAD, FORWARD, STAY]))
    assert out.reward.tolist() == [3.0, 5.0, -3.0, 4.0, 0.0]


def test_the_world_ends_after_max_steps() -> None:
    for steps, ends in ((498, False), (499, True)):
        _, out = transition(ENV, world("\n.\n").replace(steps=jnp.int32(steps)), jnp.zeros(AGENTS, jnp.int32))
        assert bool(out.reset) == ends and not out.terminated.any()


def test_observation_by_hand() -> None:
    # seen from robot 0, which faces right: what is on the right is above
    drawing = """
. . . s s
. .1v . _ r
. . .0>r s s
. .2<d . s s
. . . r s
"""
    seen = observe(ENV, world(drawing, (3, 4)))
    assert seen.window[0, :, :, 0].tolist() == [
        [3, 4, 3, 3, 3],
        [3, 2, 3, 3, 4],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
    ]
    # 1 looks to the right of 0's own direction, 2 back to it with a load
    assert seen.window[0, :, :, 1].tolist() == [[0] * 5, [0] * 5, [0] * 5, [0, 2, 0, 7, 0], [0] * 5]
    # row 5, column 6 of 11 rows; the goal at row 10, column 5 is 1 cell behind and 5 to the right
    np.testing.assert_allclose(seen.numbers[0, :4], np.array([5, 6, -1, 5]) / 11, rtol=1e-6)
    assert seen.numbers[0, 4:].tolist() == [0, 1, 0, 0, 0, 0, 1, 0]
    # robot 1 looks down: it sees 0 on its left, one cell ahead
    robots = seen.window[1, :, :, 1].tolist()
    assert robots == [[0, 0, 6, 0, 0], [0, 8, 0, 0, 0], *[[0] * 5] * 3]
    assert seen.numbers[1, 4:].tolist() == [0, 0, 1, 0, 1, 0, 0, 0]


def test_the_edge_is_seen() -> None:
    seen = observe(ENV, world("\n.0<\n", (10, 3)))
    # ahead is the left: the lower wall is on the left side of the window
    assert seen.window[0, :, :, 0].tolist() == [
        [OUTSIDE, OUTSIDE, 1, 1, STANDING],
        [OUTSIDE, OUTSIDE, 1, 1, STANDING],
        [OUTSIDE, OUTSIDE, 1, 1, 1],
        [OUTSIDE, OUTSIDE, GOAL, 1, 1],
        [OUTSIDE, OUTSIDE, GOAL, 1, 1],
    ]


@pytest.mark.parametrize("layout", range(3))
def test_the_start(layout: int) -> None:
    env = Rware(layout=layout, agents=16, requests=7)
    s = jax.jit(jax.vmap(env.init))(rng.seed(jax.random.key(0), (300,)))
    cells = np.asarray(s.row * env.width + s.column)
    assert all(len(set(row)) == 16 for row in cells.tolist())
    assert set(cells.ravel().tolist()) == set(range(env.height * env.width))
    assert set(np.asarray(s.facing).ravel().tolist()) == {0, 1, 2, 3}
    assert not s.empty.any() and not s.load.any()
    assert (np.bitwise_count(np.asarray(s.requested)).sum(1) == 7).all()
    assert not (np.asarray(s.requested) & ~env.hall.words(STANDING)).any()


def test_levels() -> None:
    env = Rware(levels=3, first_level=10)
    s = jax.jit(jax.vmap(env.init))(rng.seed(jax.random.key(0), (64,)))
    starts = {tuple(map(int, x)) for x in np.concatenate([s.row, s.column, s.requested], 1)}
    assert len(starts) == 3
    one = Rware(levels=1, first_level=11).init(jnp.uint32([5, 6]))
    assert tuple(map(int, np.concatenate([one.row, one.column, one.requested]))) in starts


@pytest.fixture(scope="module")
def crowd() -> tuple[Rware, State, np.ndarray, State]:
    """300 steps of eight worlds of 16 robots: the environment, the states before, the actions, the states after."""
    env = Rware(agents=16, requests=5)

    @jax.jit
    def play(key: jax.Array) -> tuple:
        def step(carry: tuple, _: None) -> tuple:
            states, streams = carry
            actions = jax.vmap(env.player)(states, streams)
            after, _ = jax.vmap(env.transition)(states, actions)
            return (after, jax.vmap(lambda s: rng.bits(s)[0])(streams)), (states, actions, after)

        # the worlds' streams have all styles of the scripted player
        start = jax.vmap(env.init)(rng.seed(key, (8,)).at[:, 0].set(jnp.arange(8, dtype=jnp.uint32) + 8))
        return jax.lax.scan(step, (start, rng.seed(key, (8,))), length=300)[1]

    states, actions, after = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), play(jax.random.key(3)))
    return env, states, actions, after


def test_robots_and_shelves_are_conserved(crowd: tuple[Rware, State, np.ndarray, State]) -> None:
    env, _, _, s = crowd
    cells = np.sort(s.row * env.width + s.column, 1)
    assert (cells[:, 1:] > cells[:, :-1]).all() and cells.min() >= 0 and cells.max() < env.height * env.width
    # as many empty places as loads, and always as many requests
    carried = (s.load != NOTHING).sum(1)
    assert (np.bitwise_count(s.empty).sum(1) == carried).all() and carried.max() > 3
    assert (np.bitwise_count(s.requested).sum(1) + (s.load == REQUESTED).sum(1) == 5).all()
    # in places only, and only standing shelves are requested
    places = env.hall.words(STANDING)
    assert not (s.empty & ~places).any() and not (s.requested & ~(places & ~s.empty)).any()


def test_who_cannot_move_has_a_reason(crowd: tuple[Rware, State, np.ndarray, State]) -> None:
    env, before, actions, after = crowd
    down, right = np.array([-1, 0, 1, 0])[before.facing], np.array([0, 1, 0, -1])[before.facing]
    moved = (after.row != before.row) | (after.column != before.column)
    assert (after.row[moved] == (before.row + down)[moved]).all()
    assert (after.column[moved] == (before.column + right)[moved]).all()
    assert (actions[moved] == FORWARD).all()

    stopped = 0
    for k in range(len(moved)):
        then = {(y, x): i for i, (y, x) in enumerate(zip(after.row[k], after.column[k], strict=True))}
        was = {(y, x): i for i, (y, x) in enumerate(zip(before.row[k], before.column[k], strict=True))}
        for i in np.flatnonzero((actions[k] == FORWARD) & ~moved[k]):
            y, x = target = before.row[k, i] + down[k, i], before.column[k, i] + right[k, i]
            inside = 0 <= y < env.height and 0 <= x < env.width
            shelf = inside and env.hall.cells[y][x] == str(STANDING) and not int(before.empty[k, y]) >> x & 1
            # a cell that is still free would have been entered
            assert not inside or (shelf and before.load[k, i] != NOTHING) or target in then
            stopped += target in then
        for i in np.flatnonzero(moved[k]):
            # nobody has swapped places
            other = was.get((after.row[k, i], after.column[k, i]))
            assert other is None or (after.row[k, other], after.column[k, other]) != (
                before.row[k, i],
                before.column[k, i],
            )
    assert stopped > 1000


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_moves_as_the_rule_says(seed: int) -> None:
    """Five robots in a block of three by three, against the rule written as recursion over the robots."""
    draw = np.random.default_rng(seed)
    cells = draw.permutation(9)[:AGENTS]
    row, column, facing = 3 + cells // 3, 3 + cells % 3, draw.integers(4, size=AGENTS)
    forward = draw.random(AGENTS) < 0.85
    s = world("\n.\n").replace(row=jnp.int32(row), column=jnp.int32(column), facing=jnp.int32(facing))
    after, _ = move(s, *np.where(forward, FORWARD, STAY).tolist())

    place = {(int(y), int(x)): i for i, (y, x) in enumerate(zip(row, column, strict=True))}
    step = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    target = {i: (row[i] + step[facing[i]][0], column[i] + step[facing[i]][1]) for i in np.flatnonzero(forward)}
    swaps = [i for i in target if target.get(place.get(target[i])) == (row[i], column[i])]
    target = {i: cell for i, cell in target.items() if i not in swaps}

    def queue(i: int, steps: int = AGENTS) -> int:
        behind = [j for j in target if target[j] == (row[i], column[i])]
        return max((1 + queue(j, steps - 1) for j in behind), default=0) if steps else 0

    def goes(i: int, path: tuple[int, ...] = ()) -> bool:
        if i in path:
            return True  # round in a circle
        if i not in target or any(target[j] == target[i] and (-queue(j), j) < (-queue(i), i) for j in target if j != i):
            return False
        ahead = place.get(target[i])
        return ahead is None or goes(ahead, (*path, i))

    expected = [target[i] if goes(i) else (row[i], column[i]) for i in range(AGENTS)]
    assert list(zip(after.row.tolist(), after.column.tolist(), strict=True)) == expected


@pytest.mark.parametrize("layout", (0, 2))
def test_the_plan_delivers(layout: int) -> None:
    env = Rware(layout=layout)

    @jax.jit
    def play(key: jax.Array) -> State:
        def step(states: State, key: jax.Array) -> tuple:
            random = jax.random.randint(key, (16, env.agents), 0, 5)
            strays = jax.random.uniform(jax.random.fold_in(key, 1), random.shape) < 0.1
            return jax.vmap(env.transition)(states, jnp.where(strays, random, jax.vmap(env.plan)(states)))[0], None

        start = jax.vmap(env.init)(rng.seed(key, (16,)))
        return jax.lax.scan(step, start, jax.random.split(key, 300))[0]

    assert float(play(jax.random.key(0)).delivered.sum(1).mean()) > 2
