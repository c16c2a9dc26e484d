"""Falling pieces, full rows, rising garbage. Twin of envs_c/tetris.h."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Discrete

NOTHING, LEFT, RIGHT, ROTATE, SOFT_DROP, HARD_DROP, HOLD = range(7)

WIDTH = 10  # columns
HEIGHT = 20  # rows
SPAWN_COLUMN = 3  # of the box of a piece that comes into play, in row 0
PIECES = 7  # I O T S Z J L
ROTATIONS = 4  # quarter turns to the right
PIECE_CELLS = 4
NEXT = 2  # pieces known in advance
NONE = 7  # no piece is held
LINES_PER_LEVEL = 10
GARBAGE_SPEEDUP = 4  # ticks per level
GOAL_LINES = 200  # rows cleared for a perf of 1
TOP_LEVEL = 10  # from this level on, levels look the same to the agent

# bits of a column, bit r its cell in row r from the top; those below the floor are always set
FLOOR = np.uint32(0xFFF00000)  # of an empty column
BOTTOM = np.uint32(0x00080000)
WALL = np.uint32(0xFFFFFFFF)  # a column outside the board
BAG = np.uint32(0x7F)  # all pieces

# the cells of each piece in each rotation, in a box of 4 by 4: a hexadecimal digit is 4 * row + column
SHAPES = (
    0x4567, 0x26AE, 0x89AB, 0x159D,  # I
    0x1256, 0x1256, 0x1256, 0x1256,  # O
    0x1456, 0x1569, 0x4569, 0x1459,  # T
    0x1245, 0x156A, 0x5689, 0x0459,  # S
    0x0156, 0x2569, 0x459A, 0x1458,  # Z
    0x0456, 0x1259, 0x456A, 0x1589,  # J
    0x2456, 0x159A, 0x4568, 0x0159,  # L
)  # fmt: skip

# of the picture
CELL_PIXELS = 15
FRAME_COLOUR = (14, 16, 22)
EMPTY_COLOUR = (26, 30, 40)
FILLED_COLOUR = (104, 116, 140)
LAMP_COLOUR = (240, 196, 80)
PIECE_COLOURS = (
    (72, 200, 220), (236, 200, 72), (176, 104, 220), (104, 204, 104), (232, 88, 88), (80, 128, 240), (240, 152, 64),
)  # fmt: skip


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    columns: Array  # uint32 (10,), bit r of column k is set where its cell in row r from the top is filled
    piece: Array  # int32 (), in play
    rotation: Array  # int32 (), quarter turns to the right
    row: Array  # int32 (), of its box of 4 by 4
    column: Array  # int32 (), of the box, can be left of the board
    landing: Array  # int32 (), the row of the box where the piece would land
    next: Array  # int32 (2,), pieces to come
    held: Array  # int32 (), piece, NONE at first
    may_hold: Array  # int32 (), 1 unless the piece in play came from a hold
    bag: Array  # uint32 (), bit i is set while piece i is still in the bag
    fall_timer: Array  # int32 (), ticks since the piece came into play or last fell
    garbage_timer: Array  # int32 (), ticks before garbage is due
    lines: Array  # int32 (), rows cleared
    steps: Array  # int32 (), since the episode began


class Tetris(Env[State]):
    """Falling pieces, full rows, rising garbage.

    Pieces come from a bag that holds one of each and is refilled when empty. A piece falls by
    itself every few ticks, faster on higher levels; it locks when it should fall and cannot, or
    by a hard drop. A rotation that is blocked does not happen: there are no kicks.
    After a number of ticks garbage rises when a piece locks, and then more and more often.

    Observation: float32 (252,): 0 to 199 the cells, column by column from the left, each from
        the top: 1 filled, 0.5 where the piece would land, otherwise 0; 200 to 209 heights of the
        columns / 20; 210 and 211 the row / 20 and column / 10 of the piece's box; 212 share of
        the fall interval left; 213 may hold; 214 ticks to garbage / garbage_interval, at most 1;
        215 level / 10, at most 1; of a hard drop now: 216 the box's row / 20, 217 rows cleared / 4,
        218 empty cells right below / 4, at most 1; one-hot: 219 piece, 226 rotation, 230 and 237
        the next two, 244 the piece held, the last of its entries for none.
    Action: Discrete(7): nothing, left, right, rotate to the right, soft drop, hard drop, hold.
    Reward: `soft_drop_reward` and `hard_drop_reward` per row, `single_reward`, `double_reward`,
        `triple_reward`, `tetris_reward` for 1, 2, 3, 4 rows cleared at once.
    Ends: terminated when a piece comes into play where cells are filled, or garbage lifts a
        filled cell over the top; truncated after `max_steps`.
    Score: rows cleared; perf is their share of 200, at most 1.
    Differences from PufferLib: one-hots do not overlap the scalars, the agent sees where the
        piece would land, rotations give no reward and drops a tenth, score in rows, a time limit.
    """

    initial_garbage: int = static(default=4, minimum=0, maximum=16)  # rows
    fall_interval: int = param(default=6, minimum=1, maximum=1000)  # ticks per row on level 0, one less each level
    min_fall_interval: int = param(default=3, minimum=1, maximum=1000)  # ticks
    garbage_start: int = param(default=500, minimum=0)  # ticks before the first row rises
    garbage_interval: int = param(default=100, minimum=1)  # ticks between rows on level 0
    min_garbage_interval: int = param(default=40, minimum=1)  # ticks
    soft_drop_reward: float = param(default=0.001)  # per row
    hard_drop_reward: float = param(default=0.002)  # per row
    single_reward: float = param(default=0.1)  # for one row cleared
    double_reward: float = param(default=0.3)  # for two at once
    triple_reward: float = param(default=0.5)  # for three at once
    tetris_reward: float = param(default=1.0)  # for four at once
    max_steps: int = param(default=2000, minimum=1)  # steps before truncation

    observation_space = Box(-0.2, 1.0, (252,))
    action_space = Discrete(7)

    def shape(self, piece: Array, rotation: Array) -> Array:
        return jnp.asarray(SHAPES, jnp.uint32)[ROTATIONS * piece + rotation]

    def cells(self, shape: Array) -> tuple[Array, Array]:
        """Row and column in the box of each cell of a shape, int32 (4,) each."""
        cell = jnp.int32(shape >> jnp.arange(0, 16, 4, dtype=jnp.uint32)) & 15
        return cell >> 2, cell & 3

    def blocked(self, columns: Array, column: Array, shape: Array) -> Array:
        """The rows in which the box of a shape cannot be, as bits: there it would overlap filled cells."""
        r, c = self.cells(shape)
        walled = jnp.pad(columns, 1, constant_values=WALL)
        filled = walled.at[column + c + 1].get(mode="clip", wrap_negative_indices=False)
        return lax.reduce_or(filled >> jnp.uint32(r), (0,))

    def put(self, row: Array, column: Array, shape: Array) -> Array:
        """Columns in which only the cells of a shape are filled."""
        r, c = self.cells(shape)
        put = jnp.zeros(WIDTH, jnp.uint32)
        for i in range(PIECE_CELLS):
            here = jnp.arange(WIDTH, dtype=jnp.int32) == (column + c[i])[None]
            put = put | jnp.where(here, jnp.uint32(1) << jnp.uint32(row + r[i]), jnp.uint32(0))
        return put

    def free_rows(self, blocked: Array, row: Array) -> Array:
        """How many rows a box in this row can fall."""
        return _lowest_bit(blocked >> jnp.uint32(row + 1))

    def level(self, s: State) -> Array:
        return lax.div(s.lines, jnp.int32(LINES_PER_LEVEL))

    def ticks_per_row(self, s: State) -> Array:
        return jnp.maximum(self.fall_interval - self.level(s), self.min_fall_interval)

    def raise_garbage(self, stream: Array, columns: Array) -> tuple[Array, Array]:
        """Lift all rows by one; the new one at the bottom has a hole at a random place."""
        stream, hole = rng.below(stream, WIDTH)
        columns = (columns >> jnp.uint32(1)) | FLOOR  # a bit of the floor becomes the new cell
        here = jnp.arange(WIDTH, dtype=jnp.int32) == hole[None]
        return stream, jnp.where(here, columns & ~BOTTOM, columns)

    def draw(self, stream: Array, bag: Array) -> tuple[Array, Array, Array]:
        """Take a piece out of the bag, which is refilled when empty: the stream, the bag, the piece."""
        bag = jnp.where(bag == 0, BAG, bag)
        stream, before = rng.below(stream, lax.population_count(bag))
        piece = jnp.int32(0)
        for i in range(PIECES):
            there = (bag >> jnp.uint32(i)) & jnp.uint32(1) == 1
            piece = jnp.where(there & (before == 0), i, piece)
            before = before - jnp.int32(there)
        return stream, bag & ~(jnp.uint32(1) << jnp.uint32(piece)), piece

    def init(self, stream: Array) -> State:
        # an empty board on garbage
        columns = jnp.full(WIDTH, FLOOR, jnp.uint32)
        for _ in range(self.initial_garbage):
            stream, columns = self.raise_garbage(stream, columns)

        # a first piece and the next two
        bag, pieces = jnp.uint32(BAG), []
        for _ in range(1 + NEXT):
            stream, bag, piece = self.draw(stream, bag)
            pieces.append(piece)
        blocked = self.blocked(columns, jnp.int32(SPAWN_COLUMN), self.shape(pieces[0], jnp.int32(0)))
        return State(
            rng=stream,
            columns=columns,
            piece=pieces[0],
            rotation=jnp.int32(0),
            row=jnp.int32(0),
            column=jnp.int32(SPAWN_COLUMN),
            landing=self.free_rows(blocked, jnp.int32(0)),
            next=jnp.stack(pieces[1:]),
            held=jnp.int32(NONE),
            may_hold=jnp.int32(1),
            bag=bag,
            fall_timer=jnp.int32(0),
            garbage_timer=jnp.int32(self.garbage_start),
            lines=jnp.int32(0),
            steps=jnp.int32(0),
        )

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        # time passes
        steps, fall_timer = s.steps + 1, s.fall_timer + 1
        garbage_timer = jnp.maximum(s.garbage_timer - 1, 0)

        # move or rotate, unless something is in the way
        column = s.column + jnp.int32(action == RIGHT) - jnp.int32(action == LEFT)
        rotation = (s.rotation + jnp.int32(action == ROTATE)) & 3
        shapes = self.shape(s.piece, jnp.stack([rotation, s.rotation]))
        blocked, old_blocked = jax.vmap(self.blocked, (None, 0, 0))(s.columns, jnp.stack([column, s.column]), shapes)
        shape, old_shape = shapes
        stays = (blocked >> jnp.uint32(s.row)) & jnp.uint32(1) == 1
        column, rotation = jnp.where(stays, s.column, column), jnp.where(stays, s.rotation, rotation)
        shape, blocked = jnp.where(stays, old_shape, shape), jnp.where(stays, old_blocked, blocked)

        # fall to the floor by a hard drop, or by a row; a piece that cannot fall locks. A piece that is put aside does
        # not
        holds = (action == HOLD) & (s.may_hold == 1)
        hard, soft = action == HARD_DROP, action == SOFT_DROP
        falls = ~holds & (hard | soft | (fall_timer >= self.ticks_per_row(s)))
        free = self.free_rows(blocked, s.row)
        landing = s.row + free
        locks = falls & (hard | (free == 0))
        rows = jnp.where(hard, free, jnp.minimum(free, 1))
        row = jnp.where(falls, s.row + rows, s.row)
        fall_timer = jnp.where(falls, 0, fall_timer)
        per_row = jnp.where(hard, self.hard_drop_reward, jnp.where(soft, self.soft_drop_reward, 0.0))
        reward = per_row * jnp.float32(rows)

        # the piece becomes part of the board
        columns = s.columns | jnp.where(locks[None], self.put(row, column, shape), jnp.uint32(0))

        # clear full rows, the upper ones first: the rows above a cleared one move down
        def clear(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            columns, full = carry
            upto = full ^ (full - jnp.uint32(1))
            above = upto >> jnp.uint32(1)
            columns = (columns & ~upto[None]) | ((columns & above[None]) << jnp.uint32(1))
            return columns, full & ~upto

        full = lax.reduce_and(columns, (0,)) & ~FLOOR
        cleared = jnp.int32(lax.population_count(full))
        columns, _ = lax.while_loop(lambda carry: carry[1] != 0, clear, (columns, full))
        lines = s.lines + cleared
        for count, prize in enumerate(
            (self.single_reward, self.double_reward, self.triple_reward, self.tetris_reward), start=1
        ):
            reward = reward + jnp.where(cleared == count, prize, 0.0)
        s = s.replace(lines=lines)

        # raise garbage, once it is due
        rises = locks & (garbage_timer == 0)
        over = rises & (lax.reduce_or(columns, (0,)) & jnp.uint32(1) == 1)
        stream, raised = self.raise_garbage(s.rng, columns)
        stream, columns = jnp.where(rises[None], stream, s.rng), jnp.where(rises[None], raised, columns)
        interval = jnp.maximum(self.garbage_interval - GARBAGE_SPEEDUP * self.level(s), self.min_garbage_interval)
        garbage_timer = jnp.where(rises, interval, garbage_timer)

        # the next piece comes into play, or the one that was held; if it does not fit, the game is over
        comes = locks | holds
        from_hold = holds & (s.held != NONE)
        draws = comes & ~from_hold
        new_stream, bag, drawn = self.draw(stream, s.bag)
        first, second = s.next
        piece = jnp.where(from_hold, s.held, first)
        spawn_blocked = self.blocked(columns, jnp.int32(SPAWN_COLUMN), self.shape(piece, jnp.int32(0)))
        over = over | (comes & (spawn_blocked & jnp.uint32(1) == 1))

        s = State(
            rng=jnp.where(draws[None], new_stream, stream),
            columns=columns,
            piece=jnp.where(comes, piece, s.piece),
            rotation=jnp.where(comes, 0, rotation),
            row=jnp.where(comes, 0, row),
            column=jnp.where(comes, SPAWN_COLUMN, column),
            landing=jnp.where(comes, self.free_rows(spawn_blocked, jnp.int32(0)), landing),
            next=jnp.where(draws[None], jnp.stack([second, drawn]), s.next),
            held=jnp.where(holds, s.piece, s.held),
            may_hold=jnp.where(comes, jnp.int32(~holds), s.may_hold),
            bag=jnp.where(draws, bag, s.bag),
            fall_timer=jnp.where(comes, 0, fall_timer),
            garbage_timer=garbage_timer,
            lines=lines,
            steps=steps,
        )
        return s, Outcome(reward=reward, terminated=over, truncated=steps >= self.max_steps)

    def observe(self, s: State) -> Array:
        # cells, and where the piece would land
        rows = jnp.arange(HEIGHT, dtype=jnp.uint32)
        filled = (s.columns[:, None] >> rows[None, :]) & jnp.uint32(1)
        shape = self.shape(s.piece, s.rotation)
        r, c = self.cells(shape)
        place = jnp.arange(WIDTH * HEIGHT, dtype=jnp.int32).reshape(WIDTH, HEIGHT)
        lands = jnp.zeros((WIDTH, HEIGHT), bool)
        for i in range(PIECE_CELLS):
            row = s.landing + r[i]
            lands = lands | ((row < HEIGHT) & (place == ((s.column + c[i]) * HEIGHT + row)[None, None]))
        cells = jnp.where(lands, 0.5, jnp.float32(filled))

        # the effect of a hard drop: rows it would fill, and empty cells it would cover
        after = s.columns | self.put(s.landing, s.column, shape)
        cleared = jnp.int32(lax.population_count(lax.reduce_and(after, (0,)) & ~FLOOR))
        walled = jnp.pad(after, 1, constant_values=WALL)
        below = walled.at[s.column + c + 1].get(mode="clip", wrap_negative_indices=False) >> jnp.uint32(r)
        covered = jnp.minimum(lax.reduce_sum(self.free_rows(below, s.landing), (0,)), PIECE_CELLS)

        # heights of the columns
        heights = jnp.float32(HEIGHT - _lowest_bit(s.columns)) * (1 / jnp.float32(HEIGHT))

        # place and time
        interval, level = self.ticks_per_row(s), self.level(s)
        garbage = jnp.float32(s.garbage_timer) * (1 / jnp.float32(self.garbage_interval))
        scalars = [
            jnp.float32(s.row) * (1 / jnp.float32(HEIGHT)),
            jnp.float32(s.column) * (1 / jnp.float32(WIDTH)),
            jnp.float32(interval - s.fall_timer) * (1 / jnp.float32(interval)),
            jnp.float32(s.may_hold),
            jnp.minimum(garbage, 1.0),
            jnp.float32(jnp.minimum(level, TOP_LEVEL)) * (1 / jnp.float32(TOP_LEVEL)),
            jnp.float32(s.landing) * (1 / jnp.float32(HEIGHT)),
            jnp.float32(cleared) * (1 / jnp.float32(PIECE_CELLS)),
            jnp.float32(covered) * (1 / jnp.float32(PIECE_CELLS)),
        ]

        # pieces
        indices = [s.piece, s.rotation, *s.next, s.held]
        counts = [PIECES, ROTATIONS, PIECES, PIECES, PIECES + 1]
        one_hots = [
            jnp.float32(jnp.arange(count, dtype=jnp.int32) == index[None])
            for index, count in zip(indices, counts, strict=True)
        ]
        return jnp.concatenate([cells.reshape(-1), heights, jnp.stack(scalars), *one_hots])

    def score(self, s: State) -> Array:
        return jnp.float32(s.lines)

    def perf(self, s: State) -> Array:
        return jnp.minimum(jnp.float32(s.lines) * (1 / jnp.float32(GOAL_LINES)), 1.0)

    def render(self, s: State) -> Array:
        frame = jnp.asarray(FRAME_COLOUR, jnp.uint8)
        picture = jnp.broadcast_to(frame, (HEIGHT + 2, WIDTH + 7, 3))
        shape = self.shape(s.piece, s.rotation)
        colours = jnp.asarray(PIECE_COLOURS, jnp.uint8)

        # the board, the piece above the place where it would land
        def cells(columns: Array) -> Array:
            rows = jnp.arange(HEIGHT, dtype=jnp.uint32)
            return ((columns[None, :] >> rows[:, None]) & jnp.uint32(1) == 1)[..., None]

        colour = colours[s.piece]
        board = jnp.where(cells(s.columns), jnp.asarray(FILLED_COLOUR, jnp.uint8), jnp.asarray(EMPTY_COLOUR, jnp.uint8))
        board = jnp.where(cells(self.put(s.landing, s.column, shape)), colour // 2, board)
        board = jnp.where(cells(self.put(s.row, s.column, shape)), colour, board)
        picture = picture.at[1:-1, 1 : 1 + WIDTH].set(board)

        # the next two and, below, the one held; at the bottom the progress of the level
        for top, piece in ((1, s.next[0]), (4, s.next[1]), (8, s.held)):
            r, c = self.cells(self.shape(jnp.minimum(piece, PIECES - 1), jnp.int32(0)))
            shown = jnp.where(piece == NONE, frame, colours[jnp.minimum(piece, PIECES - 1)])
            picture = picture.at[top + r, WIDTH + 2 + c].set(shown)
        done = jnp.arange(LINES_PER_LEVEL, dtype=jnp.int32) < lax.rem(s.lines, jnp.int32(LINES_PER_LEVEL))
        lamps = jnp.where(done[:, None], jnp.asarray(LAMP_COLOUR, jnp.uint8), jnp.asarray(EMPTY_COLOUR, jnp.uint8))
        picture = picture.at[HEIGHT - LINES_PER_LEVEL + 1 : HEIGHT + 1, WIDTH + 5].set(lamps[::-1])

        # cells with a dark edge
        picture = picture.repeat(CELL_PIXELS, 0).repeat(CELL_PIXELS, 1)
        edge = jnp.arange(len(picture)) % CELL_PIXELS == 0
        other_edge = jnp.arange(picture.shape[1]) % CELL_PIXELS == 0
        return jnp.where((edge[:, None] | other_edge[None, :])[..., None], picture // 2, picture)

    def player(self, s: State, stream: Array) -> Array:
        # the rotation and column that leave a low, even board without holes
        rotation, column = jnp.divmod(jnp.arange(ROTATIONS * (WIDTH + 1), dtype=jnp.int32), WIDTH + 1)
        column = column - 2

        def cost(rotation: Array, column: Array) -> Array:
            shape = self.shape(s.piece, rotation)
            blocked = self.blocked(s.columns, column, shape)
            columns = s.columns | self.put(s.row + self.free_rows(blocked, s.row), column, shape)
            full = jnp.int32(lax.population_count(lax.reduce_and(columns, (0,)) & ~FLOOR))
            height = HEIGHT - _lowest_bit(columns)
            holes = height.sum() - jnp.int32(lax.population_count(columns & ~FLOOR)).sum()
            uneven = jnp.abs(height[1:] - height[:-1]).sum()
            impossible = (blocked >> jnp.uint32(s.row)) & jnp.uint32(1) == 1
            return jnp.where(impossible, 10_000, 51 * height.sum() - 500 * full + 36 * holes + 18 * uneven - 76 * full)

        best = jnp.argmin(jax.vmap(cost)(rotation, column))
        rotation, column = rotation[best], column[best]
        towards = jnp.where(column < s.column, LEFT, jnp.where(column > s.column, RIGHT, HARD_DROP))
        towards = jnp.where(rotation == s.rotation, towards, ROTATE)

        # at first one piece in eight is dropped anywhere, and some actions are at random; later play is careful
        stream, draw = rng.below(stream, 64)
        _, anything = rng.below(stream, 7)
        careful = s.lines >= 12
        careless = ~careful & (s.rng[0] & jnp.uint32(7) == 0)
        slip = draw < jnp.where(careful, 1, 8)
        return jnp.where(slip, anything, jnp.where(careless, HARD_DROP, towards))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        n = next_state

        def filled(columns: Array) -> Array:
            return jnp.int32(lax.population_count(columns & ~FLOOR)).sum()

        locked = (n.columns != s.columns).any()
        held = (action == HOLD) & (s.may_hold == 1)
        played = ~locked & ~held
        rose = n.garbage_timer > s.garbage_timer
        cleared = n.lines - s.lines
        fell = played & (n.row > s.row)
        spawn = self.blocked(n.columns, n.column, self.shape(n.piece, n.rotation)) & jnp.uint32(1) == 1
        no_room = (locked | held) & spawn
        lost = filled(s.columns) + PIECE_CELLS + jnp.where(rose, 9, 0) - 10 * cleared > filled(n.columns)
        fast = self.fall_interval - self.level(s) < self.min_fall_interval
        often = self.garbage_interval - GARBAGE_SPEEDUP * self.level(s) < self.min_garbage_interval
        turned, moved = n.rotation != s.rotation, n.column != s.column
        found = {
            "moved left": played & (n.column < s.column),
            "moved right": played & (n.column > s.column),
            "could not move": played & ((action == LEFT) | (action == RIGHT)) & ~moved,
            "rotated": played & turned,
            "could not rotate": played & (action == ROTATE) & ~turned,
            "left of the board": n.column < 0,
            "fell": fell & (action != SOFT_DROP),
            "fell at the highest speed": fell & (action != SOFT_DROP) & fast,
            "fell as it moved": fell & (moved | turned),
            "soft drop": fell & (action == SOFT_DROP),
            "locked by a soft drop": locked & (action == SOFT_DROP),
            "locked by itself": locked & (action != SOFT_DROP) & (action != HARD_DROP),
            "locked by a hard drop": locked & (action == HARD_DROP),
            "first hold": held & (s.held == NONE),
            "hold": held & (s.held != NONE),
            "hold refused": (action == HOLD) & ~held,
            "bag filled": lax.population_count(n.bag) > lax.population_count(s.bag),
            "level": self.level(n) > self.level(s),
            "garbage": rose,
            "garbage under cleared rows": rose & (cleared > 0),
            "garbage as often as it gets": rose & often,
            "no room": no_room & locked,
            "no room for the piece held": no_room & held,
            "lifted over the top": locked & lost,
            "time limit": n.steps >= self.max_steps,
        }
        for count, name in enumerate(("one row", "two rows", "three rows", "four rows"), start=1):
            found[name] = cleared == count
        for piece, name in enumerate("IOTSZJL"):
            found[f"{name} locked"] = locked & (s.piece == piece)
        return found

    def edge_case(self, s: State, stream: Array) -> State:
        # one to four rows that lack a column, often with the I above it; timers, lines and steps at their limits
        stream, rows = rng.below(stream, 5)
        stream, well = rng.below(stream, WIDTH)
        stream, upright = rng.below(stream, 2)
        stream, timers = rng.below(stream, 27)
        _, lines = rng.below(stream, 120)
        low = ~FLOOR & ~(~FLOOR >> jnp.uint32(rows))
        at_well = jnp.arange(WIDTH, dtype=jnp.int32) == well[None]
        return s.replace(
            columns=jnp.where(at_well, s.columns & ~low[None], s.columns | low[None]),
            piece=jnp.where(upright == 1, 0, s.piece),
            rotation=jnp.where(upright == 1, 1, s.rotation),
            column=jnp.where(upright == 1, well - 2, s.column),
            row=jnp.where(upright == 1, 0, s.row),
            fall_timer=jnp.maximum(self.min_fall_interval - timers % 3, 0),
            garbage_timer=timers // 3 % 3,
            steps=self.max_steps - timers // 9,
            lines=jnp.where(lines < 60, s.lines, lines),
        )


def _lowest_bit(x: Array) -> Array:
    """The index of the lowest bit that is set, int32."""
    return jnp.int32(lax.population_count(~x & (x - jnp.uint32(1))))
