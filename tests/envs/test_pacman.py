"""Pacman by hand: steps worked out on paper from the rules, and properties that must hold after every step.

Places are (row, column). This is the maze's left upper part, with the crossings that the tests use:

    row 1  #............##    the tiles (1, 1) to (1, 12)
        2  #.####.#####.##
        3  #o####.#####.##    a power pill at (3, 1)
        4  #.####.#####.##
        5  #..............    (5, 6) has four ways, (5, 1), (5, 9) and (5, 12) have three
        6  #.####.##.#####
        7  #.####.##.#####
        8  #......##....##
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.pacman import (
    BLINKY,
    CLYDE,
    DOWN,
    EXITS,
    EYES,
    FRIGHTENED,
    GHOSTS,
    HEIGHT,
    INKY,
    LEFT,
    MAZE,
    NORMAL,
    OPEN_TILES,
    PILLS,
    PINKY,
    RIGHT,
    UP,
    VISION,
    WIDTH,
    Pacman,
    State,
)
from jaxpuffer import make, rng

ENV = Pacman()
transition = jax.jit(Pacman.transition)
LONG = 10_000  # steps


def world(player: tuple[int, int, int], ghosts: dict[int, tuple[int, ...]] | None = None, **fields: int) -> State:
    """A state in a chase: row, column and direction of the player and of ghosts, these with a mode; others wait."""
    s = ENV.init(jnp.uint32([1, 2]))
    row, column, direction, mode = (
        np.asarray(x).copy() for x in (s.ghost_row, s.ghost_column, s.ghost_direction, s.ghost_mode)
    )
    row[BLINKY], direction[BLINKY] = 14, UP
    wait = np.full(GHOSTS, LONG, np.int32)
    for i, (y, x, d, *m) in (ghosts or {}).items():
        row[i], column[i], direction[i], wait[i] = y, x, d, 0
        mode[i] = m[0] if m else NORMAL
    fields = {"periods": 1, "period_left": 100} | fields
    return s.replace(
        row=jnp.int32(player[0]),
        column=jnp.int32(player[1]),
        direction=jnp.int32(player[2]),
        ghost_row=jnp.asarray(row),
        ghost_column=jnp.asarray(column),
        ghost_direction=jnp.asarray(direction),
        ghost_mode=jnp.asarray(mode),
        ghost_wait=jnp.asarray(wait),
        **{name: jnp.int32(value) for name, value in fields.items()},
    )


def without_pills(s: State) -> State:
    return s.replace(pills=jnp.zeros_like(s.pills), left=jnp.zeros_like(s.left), pills_eaten=jnp.int32(0))


def player(s: State) -> tuple[int, int, int]:
    return int(s.row), int(s.column), int(s.direction)


def ghost(s: State, i: int) -> tuple[int, int, int]:
    return int(s.ghost_row[i]), int(s.ghost_column[i]), int(s.ghost_direction[i])


def move(s: State, *actions: int) -> tuple[State, float]:
    """After some steps in which the episode goes on: the state, and the last reward."""
    for action in actions:
        s, out = transition(ENV, s, jnp.int32(action))
        assert not out.terminated and not out.truncated
    return s, float(out.reward)


def test_default_parameters() -> None:
    env = make("pacman")
    assert (int(env.scatter_steps), int(env.chase_steps), int(env.scatters)) == (70, 140, 4)
    assert (int(env.frightened_steps), int(env.max_wait), int(env.random_start)) == (35, 49, 0)
    assert (int(env.max_steps), int(env.levels), int(env.first_level)) == (500, 0, 0)


def test_the_maze() -> None:
    drawn = "".join(MAZE)
    assert (drawn.count("."), drawn.count("o"), len(MAZE), {len(row) for row in MAZE}) == (240, 4, 31, {28})
    assert all(row == row[::-1] for row in MAZE)
    # no dead ends: who never goes straight back always has a way
    exits = EXITS[OPEN_TILES[0] * WIDTH + OPEN_TILES[1]]
    ways = sum(exits >> d & 1 for d in range(4))
    assert ways.min() == 2 and (ways == 4).sum() == 6
    # a way is open in both directions
    for y, x in zip(*OPEN_TILES, strict=True):
        for d, (down, right) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
            if EXITS[y * WIDTH + x] >> d & 1:
                assert EXITS[(y + down) * WIDTH + (x + right) % WIDTH] >> (d ^ 1) & 1


# the player


def test_it_goes_in_each_direction_and_eats_a_dot() -> None:
    for action, there in ((UP, (4, 6)), (DOWN, (6, 6)), (LEFT, (5, 5)), (RIGHT, (5, 7))):
        s, reward = move(world((5, 6, LEFT)), action)
        assert player(s) == (*there, action) and reward == 1.0 and int(s.pills_eaten) == 1
        # back, and there again: the dot is gone
        s, reward = move(s, action ^ 1, action)
        assert reward == 0.0 and int(s.pills_eaten) == 2  # the one at (5, 6)


def test_a_wall_that_blocks_the_new_direction_keeps_the_old_one() -> None:
    s, _ = move(world((5, 4, LEFT)), UP)
    assert player(s) == (5, 3, LEFT)
    s, _ = move(s, DOWN, DOWN)
    assert player(s) == (5, 1, LEFT)
    # at (5, 1) the way up is open
    assert player(move(s, UP)[0]) == (4, 1, UP)


def test_walls_on_both_ways_stop_it() -> None:
    s, reward = move(world((1, 1, LEFT)), UP)
    assert player(s) == (1, 1, LEFT) and reward == 1.0  # it eats the dot it started on
    assert move(s, UP)[1] == 0.0


def test_the_tunnel_leads_to_the_other_side() -> None:
    assert player(move(world((14, 0, LEFT)), LEFT)[0]) == (14, 27, LEFT)
    assert player(move(world((14, 27, RIGHT)), UP)[0]) == (14, 0, RIGHT)
    # also for ghosts
    s = world((5, 2, LEFT), {BLINKY: (14, 0, LEFT), PINKY: (14, 27, RIGHT)})
    s, _ = move(s, LEFT)
    assert ghost(s, BLINKY) == (14, 27, LEFT) and ghost(s, PINKY) == (14, 0, RIGHT)


# whom ghosts follow: the player goes from (5, 8) to (5, 9), to the right


def chase(ghosts: dict[int, tuple[int, ...]], **fields: int) -> State:
    return move(world((5, 8, RIGHT), ghosts, **fields), RIGHT)[0]


def test_blinky_goes_to_the_players_tile() -> None:
    # from (5, 12), squares of the distances to (5, 9): up 1 + 9, right 16
    assert ghost(chase({BLINKY: (5, 12, RIGHT)}), BLINKY) == (4, 12, UP)


def test_pinky_goes_four_tiles_ahead() -> None:
    # to (5, 13): up 1 + 1, right 0
    assert ghost(chase({PINKY: (5, 12, RIGHT)}), PINKY) == (5, 13, RIGHT)


def test_inky_goes_as_far_beyond_two_tiles_ahead_as_blinky_is_before_them() -> None:
    # two ahead is (5, 11); Blinky at (5, 3), so to (5, 19): up 1 + 16, right 9
    assert ghost(chase({INKY: (5, 15, RIGHT), BLINKY: (5, 3, LEFT)}), INKY) == (5, 16, RIGHT)
    # Blinky at (5, 20), so to (5, 2): up 1 + 169, right 196
    assert ghost(chase({INKY: (5, 15, RIGHT), BLINKY: (5, 20, RIGHT)}), INKY) == (4, 15, UP)
    # Blinky's tile is the one before this step: from (8, 9) to (10, 11) - (8, 9) * 1 = (2, 13), up 4 + 9, left 9 + 16
    s = chase({INKY: (5, 15, LEFT), BLINKY: (8, 9, UP)})
    assert ghost(s, BLINKY) == (7, 9, UP) and ghost(s, INKY) == (4, 15, UP)


def test_clyde_goes_to_the_player_from_afar_and_to_its_corner_from_nearby() -> None:
    # (5, 21) is 12 tiles away from (5, 9): up and down 1 + 144, right 169; up is the first
    assert ghost(chase({CLYDE: (5, 21, RIGHT)}), CLYDE) == (4, 21, UP)
    # (5, 6) is 3 tiles away: to (31, 0), down 625 + 36, left 676 + 25, up 729 + 36
    assert ghost(chase({CLYDE: (5, 6, LEFT)}), CLYDE) == (6, 6, DOWN)


def test_eight_tiles_are_near_for_clyde() -> None:
    near = world((5, 13, RIGHT), {CLYDE: (5, 6, LEFT)})  # the player comes to (5, 14)
    assert ghost(move(near, RIGHT)[0], CLYDE) == (6, 6, DOWN)
    far = world((5, 14, RIGHT), {CLYDE: (5, 6, LEFT)})
    # nine tiles: up and down 1 + 81, left 100
    assert ghost(move(far, RIGHT)[0], CLYDE) == (4, 6, UP)


@pytest.mark.parametrize(
    ("i", "column", "expected"),
    [
        # it came up from below to (5, column), where all ways are open; squares of the distances
        (BLINKY, 6, RIGHT),  # to (-3, 25): up 49 + 361, left 64 + 400, right 64 + 324
        (BLINKY, 21, UP),  # up 49 + 16, left 64 + 25, right 64 + 9
        (PINKY, 6, UP),  # to (-3, 2): up 49 + 16, left 64 + 9, right 64 + 25
        (PINKY, 21, LEFT),  # up 49 + 361, left 64 + 324, right 64 + 400
        (INKY, 6, RIGHT),  # to (31, 27): up 729 + 441, left 676 + 484, right 676 + 400
        (CLYDE, 21, LEFT),  # to (31, 0): up 729 + 441, left 676 + 400, right 676 + 484
    ],
)
def test_in_a_scatter_each_goes_to_its_corner(i: int, column: int, expected: int) -> None:
    s, _ = move(world((23, 13, LEFT), {i: (5, column, UP)}, periods=2), LEFT)
    assert ghost(s, i)[2] == expected


@pytest.mark.parametrize(
    ("came", "target", "first"),
    [
        (RIGHT, (5, 5), UP),  # up and down are equally near
        (DOWN, (8, 6), DOWN),
        (UP, (1, 6), UP),
        (DOWN, (1, 6), LEFT),  # it cannot go back up: left and right are equally near
        (LEFT, (8, 3), LEFT),  # left and down: 9 + 4
    ],
)
def test_of_equally_near_ways_up_left_down_right(came: int, target: tuple[int, int], first: int) -> None:
    # Blinky at (5, 6); the player stands at its target, in the next step
    row, column = target
    for d in range(4):
        y, x = row + (d == UP) - (d == DOWN), column + (d == LEFT) - (d == RIGHT)
        if MAZE[y][x] in ".o " and (y, x) != (5, 6):
            s = world((y, x, d), {BLINKY: (5, 6, came)})
            s, _ = transition(ENV, s, jnp.int32(d))
            assert player(s) == (row, column, d) and ghost(s, BLINKY)[2] == first


# periods


def stands_still(**fields: int) -> State:
    """The player in a corner and all ghosts waiting, before the first step."""
    return without_pills(world((1, 1, LEFT), periods=0, period_left=70, **fields))


@jax.jit
def course(s: State) -> State:
    """The states after each of 900 steps to the left."""
    return jax.lax.scan(lambda s, _: (ENV.transition(s, jnp.int32(LEFT))[0],) * 2, s, length=900)[1]


def test_scatter_and_chase_take_turns_and_the_last_chase_does_not_end() -> None:
    periods = np.asarray(course(stands_still()).periods)
    ends = [70, 210, 280, 420, 490, 630, 700]  # steps in the periods so far
    assert [int(np.argmax(periods == k + 1)) for k in range(7)] == ends
    assert periods.max() == 7


def test_periods_stand_still_while_ghosts_are_frightened() -> None:
    states = course(stands_still(frightened=35))
    # 35 steps, in the last of which they are no longer frightened
    assert np.asarray(states.frightened)[[0, 33, 34, 35]].tolist() == [34, 1, 0, 0]
    assert int(np.argmax(np.asarray(states.periods) == 1)) == 70 + 35


def test_all_turn_round_when_a_period_ends() -> None:
    s = world((5, 2, LEFT), {BLINKY: (5, 12, RIGHT), CLYDE: (8, 4, LEFT)}, period_left=0)
    s, _ = move(s, LEFT)
    assert int(s.periods) == 2 and int(s.period_left) == 69
    assert ghost(s, BLINKY) == (5, 11, LEFT) and ghost(s, CLYDE) == (8, 5, RIGHT)
    # and only then
    s, _ = move(s, LEFT)
    assert ghost(s, BLINKY) == (5, 10, LEFT)


def test_eyes_do_not_turn_round_and_nobody_goes_back_into_the_house() -> None:
    s = world((23, 13, LEFT), {BLINKY: (8, 4, LEFT, EYES), PINKY: (11, 13, UP), INKY: (14, 11, RIGHT)}, period_left=0)
    s, _ = move(s, LEFT)
    assert ghost(s, BLINKY) == (8, 3, LEFT)
    # above the door the way back is closed: to its corner, left is nearer
    assert ghost(s, PINKY) == (11, 12, LEFT)
    assert ghost(s, INKY) == (14, 12, RIGHT)


# power pills


def test_a_power_pill_frightens_and_turns_round() -> None:
    s = world((4, 1, UP), {BLINKY: (5, 12, RIGHT), CLYDE: (8, 4, LEFT, EYES)}, period_left=50)
    s, reward = move(s, UP)
    assert reward == 1.0 and int(s.frightened) == 35
    assert s.ghost_mode.tolist() == [FRIGHTENED, FRIGHTENED, FRIGHTENED, EYES]  # who waits in the house too
    assert ghost(s, BLINKY) == (5, 11, LEFT)  # in this very step
    assert ghost(s, CLYDE) == (8, 3, LEFT)


def test_frightened_ghosts_move_in_every_second_step() -> None:
    s, _ = move(world((4, 1, UP), {BLINKY: (5, 20, LEFT)}), UP)
    assert ghost(s, BLINKY) == (5, 21, RIGHT)
    before, moved = ghost(s, BLINKY), []
    for _ in range(36):
        s, _ = move(s, UP)
        moved.append(ghost(s, BLINKY) != before)
        before = ghost(s, BLINKY)
    # 17 times more in 34 steps, then it is not frightened and moves in each
    assert moved == [False, True] * 17 + [True, True]
    assert s.ghost_mode.tolist() == [NORMAL] * 4


def test_a_second_power_pill_starts_anew_and_frightens_those_that_came_back() -> None:
    modes = {BLINKY: (5, 20, LEFT, NORMAL), PINKY: (5, 24, LEFT, FRIGHTENED), CLYDE: (29, 4, LEFT, EYES)}
    s, _ = move(world((4, 1, UP), modes, frightened=7), UP)
    assert int(s.frightened) == 35 and s.ghost_mode.tolist() == [FRIGHTENED, FRIGHTENED, FRIGHTENED, EYES]


def test_frightened_ghosts_take_any_way_but_back() -> None:
    s = world((23, 13, LEFT), {BLINKY: (5, 6, RIGHT, FRIGHTENED), PINKY: (5, 12, LEFT, FRIGHTENED)}, frightened=36)
    count = 6000
    streams = rng.seed(jax.random.key(0), (count,))
    moved = jax.jit(jax.vmap(lambda stream: ENV.transition(s.replace(rng=stream), jnp.int32(LEFT))[0]))(streams)
    drawn = np.asarray(moved.ghost_direction)
    # of 256 values of a byte a third is 85 or 86; five standard errors
    shares = {d: (drawn[:, BLINKY] == d).mean() for d in range(4)}
    assert shares[LEFT] == 0 and all(abs(shares[d] - 1 / 3) < 0.035 for d in (UP, DOWN, RIGHT))
    shares = {d: (drawn[:, PINKY] == d).mean() for d in range(4)}
    assert shares[RIGHT] == shares[DOWN] == 0 and abs(shares[UP] - 0.5) < 0.035
    # each ghost on its own
    both = (drawn[:, BLINKY] == UP) & (drawn[:, PINKY] == UP)
    assert abs(both.mean() - 1 / 6) < 0.03


# meetings


def test_caught_on_one_tile() -> None:
    # from (5, 5) and (5, 3) both come to (5, 4)
    s = world((5, 5, LEFT), {BLINKY: (5, 3, RIGHT)})
    s, out = transition(ENV, s, jnp.int32(LEFT))
    assert player(s)[:2] == ghost(s, BLINKY)[:2] == (5, 4) and out.terminated and not out.truncated
    assert float(out.reward) == 1.0  # the dot still counts


def test_caught_as_they_pass_each_other() -> None:
    s = world((5, 5, LEFT), {BLINKY: (5, 4, RIGHT)})
    s, out = transition(ENV, s, jnp.int32(LEFT))
    assert player(s)[:2] == (5, 4) and ghost(s, BLINKY)[:2] == (5, 5) and out.terminated
    # in the tunnel too
    s = world((14, 0, LEFT), {BLINKY: (14, 27, RIGHT)})
    assert transition(ENV, s, jnp.int32(LEFT))[1].terminated


def test_one_behind_the_other_do_not_meet() -> None:
    s, _ = move(world((5, 5, LEFT), {BLINKY: (5, 4, LEFT)}), LEFT)
    assert player(s)[:2] == (5, 4) and ghost(s, BLINKY)[:2] == (5, 3)
    s, _ = move(world((5, 4, LEFT), {BLINKY: (5, 5, LEFT)}), LEFT)
    assert player(s)[:2] == (5, 3) and ghost(s, BLINKY)[:2] == (5, 4)


def test_a_frightened_ghost_is_eaten_and_its_eyes_go_home() -> None:
    # it rests at (5, 4), where the dot is eaten as well
    s, reward = move(world((5, 5, LEFT), {BLINKY: (5, 4, RIGHT, FRIGHTENED)}, frightened=35), LEFT)
    assert reward == 2.0 and int(s.ghosts_eaten) == 1 and s.ghost_mode[BLINKY] == EYES
    assert float(ENV.score(s)) == 2.0 and float(ENV.perf(s)) == pytest.approx(1 / 244)
    # as they pass each other: it moves with an even number of steps since the pill
    s, reward = move(world((5, 5, LEFT), {BLINKY: (5, 4, RIGHT, FRIGHTENED)}, frightened=34), LEFT)
    assert reward == 2.0 and ghost(s, BLINKY)[:2] == (5, 5) and s.ghost_mode[BLINKY] == EYES
    # eyes harm nobody and are not eaten again
    s, reward = move(world((5, 5, LEFT), {BLINKY: (5, 4, RIGHT, EYES)}), LEFT)
    assert reward == 1.0 and int(s.ghosts_eaten) == 0


def test_two_ghosts_on_one_tile_are_both_eaten_and_a_third_catches() -> None:
    s = world((5, 5, LEFT), dict.fromkeys((BLINKY, INKY), (5, 4, RIGHT, FRIGHTENED)), frightened=35)
    s, reward = move(s, LEFT)
    assert reward == 3.0 and s.ghost_mode.tolist() == [EYES, NORMAL, EYES, NORMAL]
    s = world((5, 5, LEFT), {BLINKY: (5, 4, RIGHT, FRIGHTENED), CLYDE: (5, 3, RIGHT)}, frightened=35)
    s, out = transition(ENV, s, jnp.int32(LEFT))
    assert out.terminated and float(out.reward) == 2.0


def test_the_power_pill_works_before_the_ghosts_move() -> None:
    # the ghost comes towards the pill; frightened it turns round and is not met
    s, _ = move(world((4, 1, UP), {BLINKY: (2, 1, DOWN)}), UP)
    assert ghost(s, BLINKY) == (1, 1, UP) and s.ghost_mode[BLINKY] == FRIGHTENED
    # it stood on the pill
    s, reward = move(world((4, 1, UP), {BLINKY: (3, 1, DOWN)}), UP)
    assert ghost(s, BLINKY) == (2, 1, UP) and reward == 1.0


def test_eyes_come_out_of_the_house_as_a_ghost() -> None:
    s, _ = move(world((23, 13, LEFT), {BLINKY: (11, 12, RIGHT, EYES)}), LEFT)
    assert ghost(s, BLINKY) == (14, 13, UP) and s.ghost_mode[BLINKY] == NORMAL
    rows = []
    for _ in range(3):
        s, _ = move(s, LEFT)
        rows.append(int(s.ghost_row[BLINKY]))
    assert rows == [13, 12, 11]


def test_eyes_get_home_from_everywhere() -> None:
    directions = [
        (y, x, d)
        for y, x in zip(*OPEN_TILES, strict=True)
        for d in range(4)
        if EXITS[y * WIDTH + x] >> (d ^ 1) & 1  # it came from an open tile
    ]
    row, column, direction = (jnp.asarray(x, jnp.int32) for x in zip(*directions, strict=True))
    s = without_pills(world((23, 13, LEFT)))

    @jax.jit
    @jax.vmap
    def home(row: jax.Array, column: jax.Array, direction: jax.Array) -> jax.Array:
        def step(s: State, _: None) -> tuple[State, jax.Array]:
            s, _ = ENV.transition(s, jnp.int32(UP))
            return s, s.ghost_mode[0] == NORMAL

        start = s.replace(
            ghost_row=s.ghost_row.at[0].set(row),
            ghost_column=s.ghost_column.at[0].set(column),
            ghost_direction=s.ghost_direction.at[0].set(direction),
            ghost_mode=s.ghost_mode.at[0].set(EYES),
            ghost_wait=s.ghost_wait.at[0].set(0),
        )
        return jax.lax.scan(step, start, length=80)[1].any()

    assert home(row, column, direction).all()


def test_ghosts_wait_and_come_out_of_the_house() -> None:
    s = world((23, 13, LEFT), {INKY: (14, 11, RIGHT)}).replace(ghost_wait=jnp.int32([LONG, LONG, 2, LONG]))
    places = []
    for _ in range(8):
        s, _ = move(s, LEFT)
        places.append(ghost(s, INKY)[:2])
    assert places == [(14, 11), (14, 11), (14, 12), (14, 13), (13, 13), (12, 13), (11, 13), (11, 12)]


# ends


def test_the_last_pill_ends_the_episode() -> None:
    s = world((5, 5, LEFT), pills_eaten=PILLS - 1)
    s, out = transition(ENV, s, jnp.int32(LEFT))
    assert out.terminated and float(out.reward) == 1.0
    assert float(ENV.perf(s)) == pytest.approx(1.0) and float(ENV.figures(s)["cleared"]) == 1.0
    assert not transition(ENV, world((5, 5, LEFT), pills_eaten=PILLS - 2), jnp.int32(LEFT))[1].terminated


def test_the_time_limit_truncates() -> None:
    limit = int(ENV.max_steps)
    for steps, over in ((limit - 2, False), (limit - 1, True)):
        _, out = transition(ENV, world((5, 5, LEFT), steps=steps), jnp.int32(LEFT))
        assert bool(out.truncated) is over and not out.terminated


# what is seen


def test_window_by_hand() -> None:
    ghosts = {BLINKY: (5, 6, RIGHT), CLYDE: (8, 4, LEFT, FRIGHTENED), INKY: (7, 1, UP, EYES)}
    s = world((5, 2, LEFT), ghosts, frightened=9)
    s = s.replace(pills=s.pills.at[VISION + 5].set(s.pills[VISION + 5] & ~jnp.uint32(0b111110)))
    # the player, at (5, 2), is in the middle; left of column 0 are 27 and 26 of the other side; eyes are not shown
    drawn = """
        .##......
        .##.####.
        o##o####.
        .##.####.
        .##     r
        .##.####.
        .##.####.
        .##...p..
        ########.
    """
    kinds = {" ": 0, "#": 1, ".": 2, "o": 3, "p": 4, "r": 8}
    rows = [row[8:17] for row in drawn.split("\n")[1:-1]]
    assert ENV.observe(s).window.tolist() == [[kinds[tile] for tile in row] for row in rows]


def test_walls_are_above_the_maze_and_below_it() -> None:
    window = np.asarray(ENV.observe(world((1, 1, LEFT))).window)
    assert (window[:4] == 1).all() and window[4, 4] == 2
    window = np.asarray(ENV.observe(world((29, 26, LEFT))).window)
    assert (window[5:] == 1).all() and window[4, 4] == 2


def test_a_ghost_beyond_the_side_is_seen() -> None:
    seen = ENV.observe(world((14, 1, LEFT), {BLINKY: (14, 26, UP), PINKY: (14, 4, DOWN)}))
    assert seen.window[4].tolist() == [0, 5, 0, 0, 0, 0, 0, 6, 0]
    # 25 columns to the right are 3 to the left
    np.testing.assert_allclose(seen.numbers[10:18], [0, -3 / 28, 0, 0, 0, 3 / 28, 0, 0], rtol=1e-6)


def test_blocks_and_numbers_by_hand() -> None:
    ghosts = {BLINKY: (5, 6, RIGHT), PINKY: (20, 10, RIGHT, FRIGHTENED), INKY: (7, 1, UP, EYES), CLYDE: (10, 14, UP)}
    s = world((10, 13, RIGHT), ghosts, frightened=7, periods=2, period_left=56, steps=125)
    s = s.replace(left=s.left.at[3].set(11))
    seen = ENV.observe(s)
    # the player is in the second block of the second row: two rows of blocks are outside above, and two columns left
    blocks = np.zeros((7, 7))
    blocks[2:6, 2:6] = [[22, 18, 18, 11], [13, 4, 4, 13], [18, 14, 14, 18], [18, 15, 15, 18]]
    np.testing.assert_allclose(seen.blocks, blocks / 22, rtol=1e-6)
    own = [0, 0, 0, 1, 10 / 31, 13 / 28, 7 / 35, 1, 56 / 70, 0.75]
    of_ghosts = [-5 / 31, -7 / 28, 0, 0], [10 / 31, -3 / 28, 1, 0], [-3 / 31, -12 / 28, 0, 1], [0, 1 / 28, 0, 0]
    np.testing.assert_allclose(seen.numbers, [*own, *np.ravel(of_ghosts)], rtol=1e-6)
    assert ENV.observation_space.contains(jax.tree.map(np.asarray, seen))


# starts


def test_the_start() -> None:
    s = ENV.init(jnp.uint32([1, 2]))
    assert player(s) == (23, 13, LEFT) and float(ENV.score(s)) == 0.0
    assert [ghost(s, i)[:2] for i in range(GHOSTS)] == [(11, 13), (14, 13), (14, 11), (14, 15)]
    waits = np.asarray(jax.vmap(lambda r: ENV.init(r).ghost_wait)(rng.seed(jax.random.key(1), (4000,))))
    assert (waits.min(0) == 0).all() and (waits.max(0) == 49).all()


def test_a_random_start_is_any_dots_tile() -> None:
    env = ENV.replace(random_start=1)
    starts = jax.vmap(env.init)(rng.seed(jax.random.key(2), (24_000,)))
    counts = np.bincount(np.asarray(starts.row * WIDTH + starts.column), minlength=HEIGHT * WIDTH)
    is_dot = np.array([drawn == "." for drawn in "".join(MAZE)])
    # 100 each; five standard errors
    assert (counts[~is_dot] == 0).all() and abs(counts[is_dot] - 100).max() < 50


def test_levels_are_the_same_starts() -> None:
    env = ENV.replace(levels=1, first_level=7, random_start=1)
    a, b = (env.init(jnp.uint32(words)) for words in ([1, 2], [3, 4]))
    assert player(a) == player(b) and a.ghost_wait.tolist() == b.ghost_wait.tolist() and (a.rng != b.rng).any()
    other = env.replace(first_level=8).init(jnp.uint32([1, 2]))
    assert a.ghost_wait.tolist() != other.ghost_wait.tolist()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_what_holds_in_every_state(seed: int) -> None:
    states = jax.tree.map(np.asarray, _play(seed))
    is_open = np.zeros((HEIGHT, WIDTH), bool)
    is_open[OPEN_TILES] = True
    house = np.array([[drawn in "-=" for drawn in row] for row in MAZE])
    pills = (states.pills[:, VISION:-VISION, None] >> np.arange(WIDTH, dtype=np.uint32)) & 1
    assert (pills.sum((1, 2)) + states.pills_eaten == PILLS).all()
    for y in range(4):
        for x in range(4):
            block = pills[:, 8 * y : 8 * y + 8, 7 * x : 7 * x + 7].sum((1, 2))
            assert (states.left[:, 4 * y + x] == block).all()
    assert is_open[states.row, states.column].all()
    assert (is_open | house)[states.ghost_row, states.ghost_column].all()
    assert ((states.ghost_mode == FRIGHTENED).any(1) <= (states.frightened > 0)).all()
    assert (states.frightened <= 35).all() and (states.periods <= 7).all() and (states.period_left >= 0).all()


@jax.jit
def _play(seed: int) -> State:
    """The states of one environment with the scripted player, 400 steps."""
    batch = ENV.batch(1)

    def step(carry: tuple, stream: jax.Array) -> tuple:
        actions = jax.vmap(ENV.player)(carry.env, stream[None])
        state, _ = batch.step(carry, actions)
        return state, jax.tree.map(lambda x: x[0], state.env)

    streams = rng.seed(jax.random.key(seed), (400,))
    return jax.lax.scan(step, batch.reset(jax.random.key(seed))[0], streams)[1]
