"""Platformer by hand: steps worked out on paper from the rules, properties of play and of levels, and a search that
finds the flag.

Worlds are drawn as text, from their upper left corner on: . air, # solid, = platform, o coin. A tile has 256 units; the
agent's box is 192 wide and 224 high. A step has two frames, in each of which it first changes its speed.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_envs import settled_transition

from benchmarks import generalisation_levels
from envs_jax.platformer import (
    AIR,
    AT_FLAG,
    CAUGHT,
    COIN,
    COLUMNS,
    ENEMIES,
    ENEMY_RIGHT,
    ENEMY_SIZE,
    FELL,
    FLAG,
    FLAG_COLUMN,
    HEIGHT,
    HIGHEST,
    JUMP,
    LAST_START,
    LEFT,
    LOWEST,
    MAX_REACH,
    PLATFORM,
    PLAYS,
    RIGHT,
    ROWS,
    RUN_SPEED,
    SOLID,
    START_COLUMN,
    STAY,
    TILE,
    VISION,
    WIDTH,
    Platformer,
    State,
)
from jaxpuffer import make, rng

ENV = Platformer()
STEP = jax.jit(settled_transition)
OBSERVE = jax.jit(Platformer.observe)
INIT = jax.jit(Platformer.init)
JUMP_RIGHT = JUMP + RIGHT


def world(*rows: str, enemy: tuple[int, ...] = (), **fields: int) -> State:
    """A state by hand; `enemy` is its x, y, least x, greatest x and direction."""
    s = INIT(ENV, jnp.uint32([1, 2]))
    tiles = np.zeros((ROWS, COLUMNS), np.uint32)
    for r, row in enumerate(rows):
        tiles[r, : len(row)] = [".#=o".index(tile) for tile in row]
    words = np.full(COLUMNS + 2 * VISION, 0x55555555, np.uint32)
    words[VISION:-VISION] = (tiles << (2 * np.arange(ROWS, dtype=np.uint32))[:, None]).sum(0, dtype=np.uint32)
    names = ("x", "y", "left", "right", "direction")
    own = enemy or (0,) * 5
    enemies = {f"enemy_{n}": jnp.zeros(ENEMIES, jnp.int32).at[0].set(v) for n, v in zip(names, own, strict=True)}
    still = {"vx": 0, "vy": 0, "on_ground": 0, "furthest": (fields.get("x", 0) + WIDTH // 2) // TILE} | fields
    return s.replace(tiles=jnp.asarray(words), **enemies, **{name: jnp.int32(v) for name, v in still.items()})


def play(s: State, *actions: int, env: Platformer = ENV) -> tuple[State, Any]:
    """The state after some steps, and the last outcome."""
    for action in actions:
        s, outcome = STEP(env, s, jnp.int32(action))
    return s, outcome


def tiles_of(s: State) -> np.ndarray:
    """The tiles of one level, int (rows, columns)."""
    return (np.asarray(s.tiles)[None, VISION:-VISION] >> (2 * np.arange(ROWS, dtype=np.uint32))[:, None]) & 3


FLOOR = ("",) * 10 + ("#" * 20,) * 6  # its top is at 10 * 256 = 2560, so an agent on it has y 2336
STANDING = {"x": 512, "y": 2336, "on_ground": 1}


def test_default_parameters() -> None:
    env = make("platformer")
    assert (int(env.difficulty), int(env.max_steps), int(env.levels), int(env.first_level)) == (4, 300, 0, 0)
    rewards = (env.coin_reward, env.stomp_reward, env.progress_reward, env.flag_reward, env.death_reward)
    assert [float(reward) for reward in rewards] == pytest.approx([0.1, 0.1, 5, 5, -1])


# frames of 21, 42, 63, ... units per frame up to 192: the tenth would be 210
@pytest.mark.parametrize(
    ("steps", "y", "vy"), [(1, 63, 42), (2, 210, 84), (4, 756, 168), (5, 1137, 192), (6, 1521, 192)]
)
def test_free_fall(steps: int, y: int, vy: int) -> None:
    s, outcome = play(world(x=512, y=100), *[STAY] * steps)
    assert (int(s.y), int(s.vy), int(s.x), int(s.on_ground)) == (100 + y, vy, 512, 0)
    assert float(outcome.reward) == 0 and not outcome.terminated


# upwards 192, 171, ..., 3 in ten frames: 975 units, 3.8 tiles; then down 18, 39, ..., 186, 192 to the floor
@pytest.mark.parametrize(
    ("steps", "height", "vy", "stands"),
    [(1, 363, -171, 0), (2, 642, -129, 0), (5, 975, -3, 0), (6, 918, 39, 0), (9, 243, 165, 0), (10, 0, 0, 1)],
)
def test_a_jump(steps: int, height: int, vy: int, stands: int) -> None:
    s, _ = play(world(*FLOOR, **STANDING), JUMP, *[STAY] * (steps - 1))
    assert (2336 - int(s.y), int(s.vy), int(s.on_ground)) == (height, vy, stands)


def test_it_jumps_from_the_ground_only() -> None:
    s, _ = play(world(*FLOOR, x=512, y=1000), JUMP)
    assert (int(s.y), int(s.vy)) == (1063, 42)


# pushed by 16 units per frame more each frame, up to 80; slowed down by 12
@pytest.mark.parametrize(
    ("vx", "action", "dx", "vx_after"),
    [
        (0, RIGHT, 16 + 32, 32),
        (64, RIGHT, 80 + 80, 80),
        (0, LEFT, -16 - 32, -32),
        (16, LEFT, 0 - 16, -16),
        (-70, LEFT, -80 - 80, -80),
        (80, STAY, 68 + 56, 56),
        (20, STAY, 8 + 0, 0),
        (-20, STAY, -8 + 0, 0),
        (0, JUMP_RIGHT, 16 + 32, 32),
        (80, JUMP, 68 + 56, 56),
        (-80, JUMP + LEFT, -80 - 80, -80),
    ],
)
def test_running(vx: int, action: int, dx: int, vx_after: int) -> None:
    s, _ = play(world(*FLOOR, x=1500, y=2336, on_ground=1, vx=vx), action)
    assert (int(s.x) - 1500, int(s.vx), int(s.on_ground)) == (dx, vx_after, int(action < JUMP))


def test_a_wall_stops_it() -> None:
    """The wall is column 4, from 1024 on: the box, 192 wide, comes up to x = 832."""
    walled = (*FLOOR[:9], "....#", *FLOOR[10:])
    s, _ = play(world(*walled, x=782, y=2336, vx=80, on_ground=1), RIGHT)
    assert (int(s.x), int(s.vx)) == (832, 0)
    # from the other side it comes up to column 5
    s, _ = play(world(*walled, x=1330, y=2336, vx=-80, on_ground=1), LEFT)
    assert (int(s.x), int(s.vx)) == (1280, 0)
    # 9 rows up there is no wall; a unit lower the lower edge of the box meets it
    assert int(play(world(*walled, x=782, y=9 * TILE - HEIGHT - 63, vx=80), RIGHT)[0].x) == 782 + 160
    assert int(play(world(*walled, x=782, y=9 * TILE - HEIGHT + 1, vx=80), RIGHT)[0].x) == 832


def test_the_level_has_walls_at_its_ends() -> None:
    s, _ = play(world(*FLOOR, x=30, y=2336, vx=-80, on_ground=1), LEFT)
    assert (int(s.x), int(s.vx)) == (0, 0)


PLATFORMS = ("",) * 10 + ("..===",)  # its top is at 2560


def test_it_lands_on_a_platform_from_above() -> None:
    s, _ = play(world(*PLATFORMS, x=600, y=2300), STAY)  # frames of 21 and 42 units: the second one is stopped at 2336
    assert (int(s.y), int(s.vy), int(s.on_ground)) == (2336, 0, 1)
    s, _ = play(world(*PLATFORMS, x=600, y=2337), STAY)  # a unit too low: it falls through
    assert (int(s.y), int(s.vy), int(s.on_ground)) == (2400, 42, 0)


def test_a_platform_carries_an_edge_of_the_box() -> None:
    # columns 2 to 4 are 512 to 1279; the box takes up x to x + 191
    for x, stands in ((320, 0), (321, 1), (1279, 1), (1280, 0)):
        s, _ = play(world(*PLATFORMS, x=x, y=2336, on_ground=1), STAY)
        assert int(s.on_ground) == stands


def test_it_rises_through_a_platform_and_lands_on_it() -> None:
    s = world(*PLATFORMS, x=600, y=2700, vy=-171)
    s, _ = play(s, STAY)
    assert (int(s.y), int(s.vy)) == (2700 - 150 - 129, -129)
    s, _ = play(s, STAY)
    assert (int(s.y), int(s.vy)) == (2421 - 108 - 87, -87)  # 2226: its feet are above 2560
    s, _ = play(s, *[STAY] * 6)
    assert (int(s.y), int(s.on_ground)) == (2336, 1)


def test_it_bumps_its_head() -> None:
    s, _ = play(world(*("",) * 5, "..#", x=600, y=1600, vy=-171), STAY)  # the tile's lower edge is at 1536
    assert (int(s.y), int(s.vy)) == (1536 + 21, 21)  # stopped in the first frame, falling in the second
    s, _ = play(world(x=600, y=100, vy=-171), STAY)  # and at the top of the world
    assert (int(s.y), int(s.vy)) == (21, 21)
    assert int(play(world(*("",) * 5, "..=", x=600, y=1600, vy=-171), STAY)[0].vy) == -129


def test_a_pit_ends_the_episode() -> None:
    s, outcome = play(world(x=600, y=3900, vy=192), STAY)
    assert int(s.y) == 4284 and int(s.end) == FELL  # the first frame ends at 4092, above 16 * 256 = 4096
    assert outcome.terminated and float(outcome.reward) == -1 and float(ENV.score(s)) == 0
    s, outcome = play(world(x=600, y=3903, vy=192), STAY)
    assert int(s.y) == 4095 + 192 and int(s.end) == FELL
    s, _ = play(world(x=600, y=3904, vy=192), STAY)
    assert int(s.y) == 4096 and int(s.end) == FELL  # after the first frame there is no second


# an enemy on the floor: it takes up y 2368 to 2559, its middle is at 2464
WALKER = (1200, 2368, 512, 1600, 1)


def test_an_enemy_walks_to_and_fro() -> None:
    s = world(*FLOOR, enemy=WALKER, **STANDING)
    assert int(play(s, STAY)[0].enemy_x[0]) == 1232  # 16 units per frame
    for x, direction, x_after, after in (
        (1584, 1, 1600, -1),  # one frame up to its end, one to turn
        (1585, 1, 1569, -1),
        (1600, 1, 1584, -1),
        (528, -1, 512, 1),
        (527, -1, 543, 1),
    ):
        n, _ = play(world(*FLOOR, enemy=(x, 2368, 512, 1600, direction), x=4000, y=2336, on_ground=1), STAY)
        assert (int(n.enemy_x[0]), int(n.enemy_direction[0])) == (x_after, after)


def test_a_stomp_from_above() -> None:
    """Its feet, at y + 224, come down to 2368 in the first frame, and the agent goes up again with 128."""
    s, outcome = play(world(*FLOOR, enemy=WALKER, x=1200, y=2130, vy=150), STAY)
    assert (int(s.stomps), int(s.enemy_direction[0]), int(s.end)) == (1, 0, PLAYS)
    assert int(s.vy) == -128 + 21 and int(s.y) == 2130 + 171 - 107
    assert float(outcome.reward) == pytest.approx(0.1)
    # with the feet at its middle before the frame, at 2464, it is still from above; a unit lower it is not
    assert int(play(world(*FLOOR, enemy=WALKER, x=1200, y=2240), STAY)[0].stomps) == 1
    assert int(play(world(*FLOOR, enemy=WALKER, x=1200, y=2241), STAY)[0].end) == CAUGHT


def test_a_touch_from_the_side_ends_the_episode() -> None:
    # the box ends at x + 192; the enemy is at 1216 and 1232 after the frames
    s, outcome = play(world(*FLOOR, enemy=WALKER, x=1000, y=2336, vx=80, on_ground=1), RIGHT)  # 1080: up to 1272
    assert int(s.end) == CAUGHT and outcome.terminated and float(outcome.reward) == -1
    toward = (1400, 2368, 512, 1600, -1)
    for x, end in ((1176, PLAYS), (1177, CAUGHT)):  # after two frames the enemy is at 1368
        assert int(play(world(*FLOOR, enemy=toward, x=x, y=2336, on_ground=1), STAY)[0].end) == end
    # on the way up a touch is not from above
    s, _ = play(world(*FLOOR, enemy=WALKER, x=1200, y=2230, vy=-80), STAY)  # 59 up: feet at 2395
    assert int(s.end) == CAUGHT


def test_a_coin_is_taken_once() -> None:
    """In the tile of the middle of the box: at x + 96, y + 112."""
    coin = (*FLOOR[:9], "...oo", *FLOOR[10:])
    s = world(*coin, x=600, y=2336, vx=56, on_ground=1)
    s, outcome = play(s, RIGHT)  # 672, 752: the middle comes to 848, in column 3
    assert int(s.coins) == 1 and float(outcome.reward) == pytest.approx(0.1 + 5 / 58)
    assert tiles_of(s)[9, 3:5].tolist() == [AIR, COIN]
    s, outcome = play(s, STAY)
    assert int(s.coins) == 1 and float(outcome.reward) == 0


def test_progress_counts_each_column_once() -> None:
    """From column 2 to column 60 it sums to 5."""
    s = world(*FLOOR, x=600, y=2336, vx=80, on_ground=1, furthest=2)
    s, outcome = play(s, RIGHT)  # the middle comes to 856
    assert int(s.furthest) == 3 and float(outcome.reward) == pytest.approx(5 / 58)
    s, outcome = play(s.replace(vx=jnp.int32(-80)), LEFT)
    assert int(s.furthest) == 3 and float(outcome.reward) == 0
    s, outcome = play(s.replace(vx=jnp.int32(80)), RIGHT)
    assert int(s.furthest) == 3 and float(outcome.reward) == 0


def test_the_flag_ends_the_episode() -> None:
    s = world(x=FLAG_COLUMN * TILE - 96 - 100, y=100, vx=80, furthest=59)
    s, outcome = play(s, RIGHT)  # 80 and 80: over it in the second frame
    assert int(s.end) == AT_FLAG and outcome.terminated and float(outcome.reward) == pytest.approx(5 + 5 / 58)
    assert float(ENV.score(s)) == float(ENV.perf(s)) == 1 and float(ENV.figures(s)["progress"]) == pytest.approx(1)
    s, outcome = play(world(x=FLAG_COLUMN * TILE - 96 - 161, y=100, vx=80, furthest=59), RIGHT)
    assert int(s.end) == PLAYS and float(outcome.reward) == 0


def test_the_time_limit_truncates() -> None:
    for steps, over in ((298, False), (299, True)):
        _, outcome = play(world(*FLOOR, **STANDING, steps=steps), STAY)
        assert (bool(outcome.terminated), bool(outcome.truncated)) == (False, over)


def test_how_far_a_jump_reaches() -> None:
    """A gap of six tiles with a run-up, and five one tile up; seven are too many."""
    for gap, up, over in ((6, 0, True), (7, 0, False), (5, 1, True), (4, 2, True), (3, 3, True), (3, 4, False)):
        rows = ["."] * 12 + ["#" * 5 + "." * gap + "#" * 9]
        for r in range(12 - up, 12):
            rows[r] = "." * (5 + gap) + "#" * 9
        s = world(*rows, x=512, y=12 * TILE - HEIGHT, on_ground=1)
        while int(s.end) == PLAYS and int(s.x) < (5 + gap) * TILE:
            s, _ = play(s, JUMP_RIGHT if int(s.x) + RUN_SPEED * 2 >= 5 * TILE else RIGHT)
        assert (int(s.end) == PLAYS) == over, (gap, up)


def test_what_it_sees() -> None:
    drawing = (
        "........",
        "........",
        "...oo...",
        "........",
        "..===...",
        "........",
        "########",
    )
    seen = OBSERVE(ENV, world(*drawing, enemy=(5 * TILE, 5 * TILE, 0, 9999, -1), x=600, y=1300, vx=-40, vy=96))
    # the middle is at 696, 1412: column 2, row 5. Three columns of wall are in sight
    expected = """
    1 1 1 0 0 0 0 0 0 0 0
    1 1 1 0 0 0 0 0 0 0 0
    1 1 1 0 0 0 3 3 0 0 0
    1 1 1 0 0 0 0 0 0 0 0
    1 1 1 0 0 2 2 2 0 0 0
    1 1 1 0 0 0 0 0 5 0 0
    1 1 1 1 1 1 1 1 1 1 1
    1 1 1 0 0 0 0 0 0 0 0
    1 1 1 0 0 0 0 0 0 0 0
    1 1 1 0 0 0 0 0 0 0 0
    1 1 1 0 0 0 0 0 0 0 0
    """
    assert np.asarray(seen.tiles).tolist() == [[int(x) for x in row.split()] for row in expected.split("\n")[1:-1]]
    assert np.asarray(seen.numbers) == pytest.approx([184 / 256, 132 / 256, -0.5, 0.5, 0, 1])
    standing = world(*drawing, enemy=(5 * TILE, 5 * TILE, 0, 9999, 1), x=600, y=1312, on_ground=1, steps=75)
    seen = OBSERVE(ENV, standing)
    assert int(seen.tiles[5, 8]) == ENEMY_RIGHT and np.asarray(seen.numbers)[4:] == pytest.approx([1, 0.75])


def test_it_sees_the_flag_in_the_air_and_nothing_outside_the_world() -> None:
    s = world(".", ("." * FLAG_COLUMN + "=#o."), x=(FLAG_COLUMN - 2) * TILE, y=0)  # row 0, column 58
    seen = np.asarray(OBSERVE(ENV, s).tiles)
    assert seen[:, 7].tolist() == [FLAG] * 6 + [PLATFORM] + [FLAG] * 4
    assert seen[6, 7:].tolist() == [PLATFORM, SOLID, COIN, AIR] and not seen[:, :7].any()


def test_the_picture_shows_what_there_is() -> None:
    s = world(*FLOOR[:8], "..==.oo", *FLOOR[9:], enemy=WALKER, **STANDING)
    picture = np.asarray(ENV.render(s))
    assert picture.shape == (192, 312, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) == 6
    assert not np.array_equal(picture, ENV.render(s.replace(x=s.x + TILE)))


# properties of play


@functools.cache
def played() -> Any:
    """200 steps of 48 worlds, by players of all kinds: states before and after, outcomes."""
    batch = ENV.batch(48)

    def step(carry: Any, _: None) -> Any:
        state, streams = carry
        actions = jax.vmap(ENV.player)(state.env, streams)
        middle, ts = batch.transition(state, actions)
        after, _ = batch.reset_ended(middle, ts)
        streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)
        return (after, streams), (state.env, middle.env, ts)

    start = batch.reset(jax.random.key(0))[0], rng.seed(jax.random.key(1), (48,))
    _, kept = jax.jit(lambda carry: jax.lax.scan(step, carry, length=200))(start)
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), kept)


def test_the_box_never_overlaps_solid_ground() -> None:
    _, s, _ = played()
    for x in (s.x, s.x + WIDTH - 1):
        for y in (s.y, s.y + HEIGHT - 1):
            row = y // TILE
            word = s.tiles[np.arange(len(x)), VISION + x // TILE]
            assert not ((row < ROWS) & ((word >> np.uint32(2 * np.minimum(row, ROWS - 1))) & 3 == SOLID)).any()
    assert (s.x >= 0).all() and (s.y >= 0).all() and (abs(s.vx) <= RUN_SPEED).all()


def test_it_stands_on_something() -> None:
    _, s, _ = played()
    stands = s.on_ground == 1
    feet = s.y + HEIGHT
    assert (feet[stands] % TILE == 0).all() and (s.vy[stands] == 0).all() and stands.any()
    row = np.minimum(feet // TILE, ROWS - 1)
    under = [(s.tiles[np.arange(len(x)), VISION + x // TILE] >> np.uint32(2 * row)) & 3 for x in (s.x, s.x + WIDTH - 1)]
    carries = np.isin(under, (SOLID, PLATFORM)).any(0)
    assert carries[stands].all()


def test_enemies_keep_to_their_pieces_and_stay_gone() -> None:
    before, s, _ = played()
    there = s.enemy_direction != 0
    assert ((s.enemy_left <= s.enemy_x) & (s.enemy_x <= s.enemy_right))[there].all()
    assert not (there & (before.enemy_direction == 0)).any()
    assert (s.stomps - before.stomps == (before.enemy_direction != 0).sum(1) - there.sum(1)).all()


def test_rewards_are_what_happened() -> None:
    before, s, ts = played()
    reward = 0.1 * (s.coins - before.coins) + 0.1 * (s.stomps - before.stomps) + 5 / 58 * (s.furthest - before.furthest)
    reward += 5.0 * (s.end == AT_FLAG) - 1.0 * ((s.end == FELL) | (s.end == CAUGHT))
    np.testing.assert_allclose(ts.reward, reward, atol=1e-5)
    assert (ts.terminated == (s.end != PLAYS)).all() and (s.furthest >= before.furthest).all()
    assert {PLAYS, AT_FLAG, FELL, CAUGHT} == set(s.end.tolist())

    def coins(tiles: np.ndarray) -> Any:
        return ((tiles & (tiles >> 1) & 0x55555555)[:, :, None] >> np.arange(0, 32, 2, dtype=np.uint32) & 1).sum((1, 2))

    assert (s.coins - before.coins == coins(before.tiles) - coins(s.tiles)).all()


# properties of levels


@functools.cache
def levels(difficulty: int) -> list[State]:
    env = ENV.replace(difficulty=difficulty)
    states = jax.jit(lambda env, streams: jax.vmap(env.init)(streams))(env, rng.seed(jax.random.key(2), (200,)))
    states = jax.device_get(states)
    return [jax.tree.map(lambda x, i=i: x[i], states) for i in range(200)]


@pytest.mark.parametrize("difficulty", [0, 3, 5])
def test_levels_are_as_they_should_be(difficulty: int) -> None:
    seen = set()
    for s in levels(difficulty):
        tiles = tiles_of(s)
        seen.add(tiles.tobytes())
        # it stands on the first piece, and the last one is level ground up to the end
        assert (tiles[(int(s.y) + HEIGHT) // TILE :, :5] == SOLID).all() and (int(s.y) + HEIGHT) % TILE == 0
        assert int(s.x) == START_COLUMN * TILE and int(s.furthest) == START_COLUMN and int(s.on_ground) == 1
        ground = np.isin(tiles, (SOLID, PLATFORM))
        assert (tiles[:, LAST_START:] == tiles[:, -1:]).all() or ground[-1, -4:].all()
        height = ROWS - (ground[::-1].cumprod(0).sum(0))
        assert LOWEST <= ROWS - height[-1] <= HIGHEST and (height[FLAG_COLUMN:] == height[-1]).all()
        # gaps are not too wide
        empty = ~ground.any(0)
        runs = "".join(".#"[int(x)] for x in ~empty).split("#")
        assert max(map(len, runs)) <= 1 + difficulty <= MAX_REACH
        # enemies have room, and something to walk on
        for k in np.flatnonzero(s.enemy_direction):
            left, right = int(s.enemy_left[k]) // TILE, (int(s.enemy_right[k]) + ENEMY_SIZE) // TILE
            row = (int(s.enemy_y[k]) + ENEMY_SIZE) // TILE
            assert (
                right - left >= 3 and ground[row, left:right].all() and not (tiles[row - 1, left:right] == SOLID).any()
            )
            assert s.enemy_left[k] <= s.enemy_x[k] <= s.enemy_right[k]
    assert len(seen) == 200
    enemies = np.mean([np.count_nonzero(s.enemy_direction) for s in levels(difficulty)])
    assert enemies == 0 if difficulty == 0 else 2 < enemies < ENEMIES


def test_a_level_is_a_function_of_its_number() -> None:
    one = ENV.replace(levels=1, first_level=7)
    a, b = (INIT(one, jnp.uint32(words)) for words in ([1, 2], [3, 4]))
    assert (
        np.array_equal(a.tiles, b.tiles) and np.array_equal(a.enemy_x, b.enemy_x) and not np.array_equal(a.rng, b.rng)
    )
    assert not np.array_equal(a.tiles, INIT(one.replace(first_level=8), jnp.uint32([1, 2])).tiles)


# a search that reaches the flag


def solve(numbers: np.ndarray, difficulty: int, width: int, steps: int = 300) -> np.ndarray:
    """The steps in which a beam search of the C port reaches the flag of each level, -1 where it does not.

    From each of `width` states all six actions are taken by the rules themselves. Of those that live, one is
    kept for each place, half of them such that stand: the furthest ones, the higher the better.
    """
    env = make("platformer", backend="c", difficulty=difficulty, max_steps=10_000)
    count, grown = len(numbers), 6 * width
    batch = env.batch(count * grown)
    actions = jnp.tile(jnp.arange(6, dtype=jnp.int32), count * width)

    def first(number: Any) -> Any:
        return env.replace(levels=1, first_level=number).batch(1).reset(jax.random.key(0))[0][0]

    def extend(carry: Any) -> Any:
        rows, found, step = carry
        rows = batch.transition(rows.reshape(count * width, -1).repeat(6, 0), actions)[0]
        s = jax.tree.map(lambda x: x.reshape(count, grown, *x.shape[1:]), batch.unpack(rows).env)
        found = jnp.where((found < 0) & (s.end == AT_FLAG).any(1), step, found)

        # the best of each place: the fastest one
        stands, lives = s.on_ground == 1, s.end == PLAYS
        slow = 4 * ((s.y >> 6) & 63) + (s.vy >> 7) + 2
        place = ((s.x >> 6) << 9) + jnp.where(stands, s.y >> 8, 256 + slow)
        place = jnp.where(lives, place, 1 << 30)
        order = jax.vmap(lambda place, vx: jnp.lexsort((-vx, place)))(place, s.vx)

        def sorted_(x: Any) -> Any:
            return jnp.take_along_axis(x, order, 1)

        place, stands = sorted_(place), sorted_(stands)
        new = jnp.concatenate([jnp.ones((count, 1), bool), place[:, 1:] != place[:, :-1]], 1) & sorted_(lives)
        worth = jnp.where(new, sorted_(s.x) + ((ROWS * TILE - sorted_(s.y)) >> 1), -1)
        best = [jax.lax.top_k(jnp.where(stands == side, worth, -1), width // 2)[1] for side in (True, False)]
        kept = jnp.take_along_axis(order, jnp.concatenate(best, 1), 1)
        rows = jnp.take_along_axis(rows.reshape(count, grown, -1), kept[:, :, None], 1)
        return rows, found, step + 1

    rows = jax.vmap(first)(jnp.asarray(numbers, jnp.int32))[:, None].repeat(width, 1)
    carry = rows, jnp.full(count, -1, jnp.int32), jnp.int32(1)
    goes_on = lambda carry: (carry[2] <= steps) & (carry[1] < 0).any()  # noqa: E731
    return np.asarray(jax.jit(lambda carry: jax.lax.while_loop(goes_on, extend, carry))(carry)[1])


@pytest.mark.needs_c
@pytest.mark.parametrize(
    ("difficulty", "count"),
    [(4, 8), pytest.param(4, 1000, marks=pytest.mark.full), pytest.param(5, 200, marks=pytest.mark.full)],
)
def test_the_flag_can_be_reached(difficulty: int, count: int) -> None:
    """By the real rules, in every level, and well before the time limit."""
    left = np.arange(count)
    for width in (32, 128, 512):  # wider where that was not enough
        found = [solve(some, difficulty, width) for some in np.array_split(left, -(-len(left) * width // 3200))]
        left = left[np.concatenate(found) < 0]
        if not len(left):
            return
    pytest.fail(f"no way was found in the levels {left.tolist()}")


# the figure of training levels


def test_the_figure_of_training_levels_is_drawn(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib")
    records = [
        {
            "env": "platformer",
            "levels": n,
            "seed": seed,
            "score": {"training": 0.9, "unseen": 0.1 * seed},
            "train_seconds": 60.0,
        }
        for n in (10, 1000)
        for seed in (0, 1)
    ]
    generalisation_levels.draw(records, tmp_path / "figures" / "levels.png")
    assert (tmp_path / "figures" / "levels.png").read_bytes().startswith(b"\x89PNG")
    assert generalisation_levels.row(records[1]) == ["10", "1", "0.900", "0.100", "60"]


@pytest.mark.full
def test_an_agent_is_trained_and_plays_on_both_kinds_of_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generalisation_levels, "EVALUATED", 16)
    record = generalisation_levels.measured("platformer", 3, 1, 65_536, "jax")
    assert record["score"].keys() == {"training", "unseen"} and record["agent_steps"] == 65_536


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--env cartpole", "cartpole has no levels"),
        ("--env platfrmer", "did you mean 'platformer'?"),
        ("--levels 10,0", "0 is too small"),
    ],
)
def test_wrong_arguments_of_the_figure_are_refused(
    arguments: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["generalisation_levels", *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        generalisation_levels.main()
    assert says in capsys.readouterr().err
