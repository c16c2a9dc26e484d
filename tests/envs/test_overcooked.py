"""Overcooked by hand: steps worked out on paper from the rules, and properties that must hold after every step.

Kitchens are drawn as text, with two characters for a tile. The first is the kitchen's: X counter, O onions, D dishes,
S serving, P pot, . floor. The second is what is there: o onion, d dish, s soup on a counter; the number of onions in a
pot, c cooking, r ready; ^ v < > the first cook, u n l r the second, who looks up, down, left or right.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import scripted_play

from envs_jax.overcooked import (
    AGENTS,
    COOKING,
    COUNTER,
    DISH,
    DOWN,
    FLOOR,
    INTERACT,
    LAYOUTS,
    LEFT,
    NOTHING,
    ONION,
    OTHER,
    POT,
    READY,
    RIGHT,
    SELF,
    SOUP,
    STAY,
    UP,
    Overcooked,
    State,
)
from jaxpuffer import make, rng

ENV = Overcooked()
transition = jax.jit(Overcooked.transition)
ITEMS = ".ods"  # nothing, onion, dish, soup

# the start of the cramped room
START = """
X. X. P0 X. X.
O. .. .. .u O.
X. .^ .. .. X.
X. D. X. S. X.
"""


def world(drawing: str, held: str = "..", env: Overcooked = ENV, timer: tuple[int, int] = (0, 0)) -> State:
    """A state by hand."""
    s = env.init(jnp.uint32([1, 2]))
    tiles, position, facing = np.asarray(s.tiles).copy(), [0, 0], [0, 0]
    for i, (_, what) in enumerate(drawing.split()):
        if tiles[i] == FLOOR and what != ".":
            a = int(what in "unlr")
            position[a], facing[a] = i, "^v<>unlr".index(what) % 4
        elif tiles[i] == COUNTER:
            tiles[i] = COUNTER + ITEMS.index(what)
        elif tiles[i] == POT:
            tiles[i] = POT + "012cr".index(what)
    return s.replace(
        tiles=jnp.asarray(tiles),
        position=jnp.int32(position),
        facing=jnp.int32(facing),
        held=jnp.int32([ITEMS.index(item) for item in held]),
        timer=jnp.int32(timer),
    )


def drawn(s: State, env: Overcooked = ENV) -> str:
    """The drawing of a state."""
    kinds = env.kitchen.drawn.replace(" ", ".").replace("1", ".").replace("2", ".")
    whats = []
    for kind, tile in zip(kinds, np.asarray(s.tiles), strict=True):
        whats.append(ITEMS[tile - COUNTER] if kind == "X" else "012cr"[tile - POT] if kind == "P" else ".")
    for a in range(AGENTS):
        whats[int(s.position[a])] = ("^v<>", "unlr")[a][int(s.facing[a])]
    entries = [kind + what for kind, what in zip(kinds, whats, strict=True)]
    rows = [" ".join(entries[y * env.width : (y + 1) * env.width]) for y in range(env.height)]
    return "\n" + "\n".join(rows) + "\n"


def hands(s: State) -> str:
    return "".join(ITEMS[item] for item in s.held.tolist())


def move(s: State, *actions: int, env: Overcooked = ENV) -> tuple[State, list[float]]:
    s, out = transition(env, s, jnp.int32(actions))
    assert not out.terminated.any() and not out.truncated.any()
    return s, out.reward.tolist()


def test_default_parameters() -> None:
    env = make("overcooked")
    assert (env.layout, int(env.cook_steps), float(env.shaping), int(env.max_steps)) == (0, 20, 1.0, 400)
    assert [kitchen.name for kitchen in LAYOUTS] == [
        "cramped_room", "asymmetric_advantages", "coordination_ring", "forced_coordination", "counter_circuit",
    ]  # fmt: skip


def test_the_start() -> None:
    s = ENV.init(jnp.uint32([1, 2]))
    assert drawn(s) == START and hands(s) == ".."
    assert drawn(world(START)) == START


def test_a_move_turns_and_walks() -> None:
    s, reward = move(world(START), RIGHT, LEFT)
    assert (
        drawn(s)
        == """
X. X. P0 X. X.
O. .. .l .. O.
X. .. .> .. X.
X. D. X. S. X.
"""
    )
    assert reward == [0.0, 0.0]


def test_at_a_counter_a_cook_turns_only() -> None:
    s, _ = move(world(START), LEFT, STAY)
    assert drawn(s) == START.replace(".^", ".<")


def test_both_want_one_tile() -> None:
    s = world("""
X. X. P0 X. X.
O. .> .. .l O.
X. .. .. .. X.
X. D. X. S. X.
""")
    after, _ = move(s, RIGHT, LEFT)
    assert drawn(after) == drawn(s)


def test_they_do_not_swap_but_one_may_follow() -> None:
    s = world("""
X. X. P0 X. X.
O. .> .r .. O.
X. .. .. .. X.
X. D. X. S. X.
""")
    after, _ = move(s, RIGHT, LEFT)
    assert drawn(after) == drawn(s).replace(".r", ".l")
    after, _ = move(s, RIGHT, RIGHT)
    assert (
        drawn(after)
        == """
X. X. P0 X. X.
O. .. .> .r O.
X. .. .. .. X.
X. D. X. S. X.
"""
    )
    # a cook who stays is in the way; who would have made room stays too if the other's way is blocked
    after, _ = move(s, RIGHT, STAY)
    assert drawn(after) == drawn(s)


def test_an_onion_is_taken_and_put_into_the_pot() -> None:
    s = world("""
X. X. P0 X. X.
O. .< .u .. O.
X. .. .. .. X.
X. D. X. S. X.
""", ".o")  # fmt: skip
    s, reward = move(s, INTERACT, INTERACT)
    assert hands(s) == "o." and reward == [0.0, 3.0]
    assert (
        drawn(s)
        == """
X. X. P1 X. X.
O. .< .u .. O.
X. .. .. .. X.
X. D. X. S. X.
"""
    )


def test_the_third_onion_starts_the_pot_which_cooks_for_20_steps() -> None:
    s = world("""
X. X. P2 X. X.
O. .. .^ .. O.
X. .. .. .u X.
X. D. X. S. X.
""", "o.")  # fmt: skip
    s, reward = move(s, INTERACT, STAY)
    assert s.tiles[2] == COOKING and s.timer.tolist() == [19, 0] and reward == [3.0, 0.0]
    s = s.replace(held=jnp.int32([DISH, NOTHING]))
    for left in range(18, -1, -1):
        # with a dish it cannot be taken yet
        s, reward = move(s, INTERACT, STAY)
        assert s.timer.tolist() == [left, 0] and hands(s) == "d." and reward == [0.0, 0.0]
    assert s.tiles[2] == READY
    s, reward = move(s, INTERACT, STAY)
    assert s.tiles[2] == POT and hands(s) == "s." and reward == [5.0, 0.0]


def test_a_soup_is_delivered_for_both() -> None:
    s = world("""
X. X. P0 X. X.
O. .u .. .. O.
X. .. .. .v X.
X. D. X. S. X.
""", "s.")  # fmt: skip
    s, reward = move(s, INTERACT, STAY)
    assert hands(s) == ".." and reward == [20.0, 20.0] and int(s.soups) == 1
    assert ENV.score(s).tolist() == [1.0, 1.0]
    assert ENV.perf(s).tolist() == [pytest.approx(1 / LAYOUTS[0].good_soups)] * 2


def test_only_soup_is_served() -> None:
    s = world("""
X. X. P0 X. X.
O. .u .. .. O.
X. .. .. .v X.
X. D. X. S. X.
""", "d.")  # fmt: skip
    after, reward = move(s, INTERACT, STAY)
    assert hands(after) == "d." and reward == [0.0, 0.0] and int(after.soups) == 0


AT_THE_DISHES = """
X. X. P{} X. X.
O. .. .. .u O.
X. .v .. .. X.
X. D. X{} S. X.
"""


@pytest.mark.parametrize(
    ("pot", "counter", "other", "points"),
    [
        ("0", ".", ".", 0.0),  # nothing in the pot
        ("1", ".", ".", 3.0),
        ("r", ".", ".", 3.0),
        ("r", ".", "d", 0.0),  # the other has a dish for the only pot
        ("r", "d", ".", 0.0),  # a dish is on a counter
        ("r", "o", "o", 3.0),
    ],
)
def test_a_dish_is_rewarded_if_it_is_useful(pot: str, counter: str, other: str, points: float) -> None:
    s, reward = move(world(AT_THE_DISHES.format(pot, counter), "." + other), INTERACT, STAY)
    assert hands(s) == "d" + other and reward == [points, 0.0]


def test_full_hands_take_nothing() -> None:
    for item in "ods":
        s = world(AT_THE_DISHES.format("0", "."), item + ".")
        after, reward = move(s, INTERACT, STAY)
        assert hands(after) == item + "." and reward == [0.0, 0.0]


@pytest.mark.parametrize("item", "ods")
def test_a_counter_holds_one_thing(item: str) -> None:
    empty = """
X. X. P0 X. X.
O. .. .. .u O.
X. .< .. .. X.
X. D. X. S. X.
"""
    s, reward = move(world(empty, item + "."), INTERACT, STAY)
    assert hands(s) == ".." and int(s.tiles[10]) == COUNTER + ITEMS.index(item) and reward == [0.0, 0.0]
    # with something in its hands it neither adds nor exchanges
    full = s.replace(held=jnp.int32([ONION, NOTHING]))
    after, _ = move(full, INTERACT, STAY)
    assert hands(after) == "o." and drawn(after) == drawn(full)
    # with empty hands it takes it back
    s, _ = move(s, INTERACT, STAY)
    assert hands(s) == item + "." and drawn(s) == empty


def test_a_pot_takes_three_onions_and_nothing_else() -> None:
    for pot, held in (("c", "o"), ("r", "o"), ("0", "d"), ("2", "d"), ("1", "s"), ("r", "."), ("r", "s")):
        s = world(START.replace("P0", "P" + pot).replace(".^", ".."), held + ".", timer=(5 * (pot == "c"), 0))
        s = s.replace(position=jnp.int32([7, 8]))
        after, reward = move(s, INTERACT, STAY)
        assert hands(after) == held + "." and after.tiles[2] == s.tiles[2] and reward == [0.0, 0.0]


def test_the_first_cook_is_first() -> None:
    # both at one counter: the second takes what the first puts down
    env = Overcooked(layout=3)
    s = world("""
X. X. X. P0 X.
O. .. X. .. P0
O. .r X. .< X.
D. .. X. .. X.
X. X. X. S. X.
""", "s.", env)  # fmt: skip
    s, _ = move(s, INTERACT, INTERACT, env=env)
    assert hands(s) == ".s" and int(s.tiles[12]) == COUNTER
    # and in the other order both stay: the first finds nothing, the second puts down
    s, _ = move(s, INTERACT, INTERACT, env=env)
    assert hands(s) == ".." and int(s.tiles[12]) == COUNTER + SOUP


def test_two_pots_cook_on_their_own() -> None:
    env = Overcooked(layout=3)
    s = world("""
X. X. X. Pc X.
O. .. X. .^ P2
O. .r X. .. X.
D. .. X. .. X.
X. X. X. S. X.
""", "o.", env, timer=(1, 0))  # fmt: skip
    s, _ = move(s, RIGHT, STAY, env=env)
    assert s.timer.tolist() == [0, 0] and s.tiles[jnp.array([3, 9])].tolist() == [READY, POT + 2]
    s, _ = move(s, INTERACT, STAY, env=env)
    assert s.timer.tolist() == [0, 19] and s.tiles[jnp.array([3, 9])].tolist() == [READY, COOKING]


def test_shaping_weighs_the_points_and_not_the_soup() -> None:
    s = world("""
X. X. P0 X. X.
O. .. .u .. O.
X. .. .. .v X.
X. D. X. S. X.
""", "so")  # fmt: skip
    for shaping in (0.0, 0.5):
        env = ENV.replace(shaping=shaping)
        assert move(s, INTERACT, INTERACT, env=env)[1] == [20.0, 20.0 + 3 * shaping]


def test_the_world_ends_after_max_steps() -> None:
    for steps, ends in ((398, False), (399, True)):
        _, out = transition(ENV, world(START).replace(steps=jnp.int32(steps)), jnp.int32([STAY, STAY]))
        assert bool(out.reset) == ends and not out.terminated.any()


def test_observation_by_hand() -> None:
    s = world("""
X. Xo Pc X. X.
O. .< .. .n O.
X. .. .. .. Xs
X. D. Xd S. X.
""", "so", timer=(5, 0)).replace(steps=jnp.int32(100))  # fmt: skip
    seen = ENV.observe(s)
    kitchen = [[1, 2, 11, 1, 1], [5, 0, 0, 0, 5], [1, 0, 0, 0, 4], [1, 6, 3, 7, 1]]
    for a, (first, second) in enumerate([(SELF + LEFT, OTHER + DOWN), (OTHER + LEFT, SELF + DOWN)]):
        kitchen[1][1], kitchen[1][3] = first, second
        assert seen.tiles[a].tolist() == kitchen
        np.testing.assert_allclose(seen.numbers[a], [0.25, 0.0, 0.75])
    assert seen.held.tolist() == [[SOUP, ONION], [ONION, SOUP]]


def test_two_cooks_make_a_soup_step_by_step() -> None:
    """The first cook alone, while the second stays: 1 onion is 5 steps from dispenser to pot and back."""
    s, total = world(START), 0.0

    def play(*actions: int) -> None:
        nonlocal s, total
        for action in actions:
            s, reward = move(s, action, STAY)
            total += reward[0]

    play(UP)
    for _ in range(3):
        play(LEFT, INTERACT, RIGHT, UP, INTERACT)  # the onions are on the left of (1, 1), the pot above (2, 1)
        if int(s.tiles[2]) != COOKING:
            play(LEFT)
    assert total == 9.0 and int(s.timer[0]) == 19
    play(DOWN, LEFT, DOWN, INTERACT)  # a dish
    assert total == 12.0 and hands(s) == "d."
    play(RIGHT, UP, UP)
    play(*[STAY] * int(s.timer[0]), INTERACT)
    assert total == 17.0 and hands(s) == "s."
    play(DOWN, RIGHT, DOWN, INTERACT)
    assert total == 37.0 and int(s.soups) == 1


@pytest.mark.parametrize("layout", range(5))
def test_kitchens_are_closed_and_complete(layout: int) -> None:
    env = Overcooked(layout=layout)
    drawing = np.array([list(row) for row in env.kitchen.rows])
    border = np.concatenate([drawing[0], drawing[-1], drawing[:, 0], drawing[:, -1]])
    assert not set(border) & set(" 12")
    assert set("XOPDS12") <= set(env.kitchen.drawn) and 1 <= len(env.kitchen.pots) <= 2


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 4))
def test_what_holds_after_any_steps(seed: int, moves: int, layout: int) -> None:
    env = Overcooked(layout=layout)
    s = scripted_play(env, seed, moves, steps=150)
    start = np.asarray(env.init(jnp.uint32([1, 2])).tiles)
    counter, pot = start == COUNTER, start == POT

    # cooks stand on the floor, apart; the kitchen changes on counters and in pots only
    assert (s.tiles[s.position] == FLOOR).all() and s.position[0] != s.position[1]
    assert (s.tiles[~counter & ~pot] == start[~counter & ~pot]).all()
    assert ((s.tiles[counter] >= COUNTER) & (s.tiles[counter] <= COUNTER + SOUP)).all()
    assert ((s.tiles[pot] >= POT) & (s.tiles[pot] <= READY)).all()

    # a timer runs exactly where a pot cooks
    pots = env.kitchen.pots
    assert [t > 0 for t in s.timer[: len(pots)]] == [s.tiles[i] == COOKING for i in pots]
    assert (s.timer[len(pots) :] == 0).all() and (s.timer <= 19).all()


@pytest.mark.parametrize("layout", range(5))
def test_the_scripted_player_delivers(layout: int) -> None:
    env = Overcooked(layout=layout)
    batch = env.batch(32)

    def step(carry: tuple, _: None) -> tuple:
        state, streams = carry
        actions = jax.vmap(env.player)(state.env, streams)
        state, _ts = batch.transition(state, actions)
        return (state, jax.vmap(lambda s: rng.bits(s)[0])(streams)), None

    start = batch.reset(jax.random.key(0))[0], rng.seed(jax.random.key(1), (32,))
    (state, _), _ = jax.jit(lambda start: jax.lax.scan(step, start, length=390))(start)
    assert float(state.env.soups.mean()) > 1
