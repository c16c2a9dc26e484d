"""Agents clean a floor, and share the bins that they push around. Twin of envs_c/trash_pickup.h."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Composite, Discrete

UP, DOWN, LEFT, RIGHT = range(4)

# a cell of the grid; AGENT + 1 is an agent that carries a piece
FLOOR, TRASH, BIN, AGENT = range(4)
WALL = 5

SCALE = 12  # px of the picture per cell
FLOOR_COLOUR, TRASH_COLOUR, BIN_COLOUR = (24, 30, 42), (230, 190, 60), (80, 160, 90)
AGENT_COLOUR, WATCHED_COLOUR, WALL_COLOUR = (90, 150, 230), (241, 241, 241), (86, 98, 124)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    grid: Array  # int8 (stride * stride,), floor and wall, row by row
    agent: Array  # int32 (agents,), its cell
    carries: Array  # int32 (agents,), pieces, 0 or 1
    delivered: Array  # int32 (agents,), pieces that it put into a bin
    bin: Array  # int32 (bins,), its cell
    steps: Array  # int32 (), since the world began


class Seen(PyTreeNode):
    window: Array  # int8 (2 vision + 1, 2 vision + 1), the agent in the middle
    numbers: Array  # float32 (4,)


class TrashPickup(Env[State]):
    """Agents clean a floor, and share the bins that they push around.

    One after the other acts, in the order of their numbers: a step of the first is done before the second looks ahead.

    Observation: window int8 (2 vision + 1, 2 vision + 1), numbers float32 (4,), per agent.
        The window has the agent in the middle: 0 floor, 1 trash, 2 bin, 3 agent, 4 agent that carries a piece,
        5 wall. The numbers: 1 if it carries a piece, its row and its column / size, share of the time left.
    Action: Discrete(4): up, down, left, right. What is ahead says what happens: an agent walks onto floor,
        picks up trash if it carries none, puts its piece into a bin, or pushes a bin if it carries none and
        there is floor behind the bin. Otherwise it stays.
    Reward: `pickup_reward` for a piece picked up, `deposit_reward` for one put into a bin.
    Ends: terminated, all agents at once, when every piece is in a bin; truncated after `max_steps`.
    Score: pieces in the bins, whoever put them there; perf is their share of `trash`.
    Differences from PufferLib: the score counts pieces in bins, not pieces picked up; the window shows
        the wall; an agent is told where it is and how much time is left; the time limit truncates.
    """

    multi_agent = True
    cheap_init = False

    size: int = static(default=20, minimum=2, maximum=32)  # cells along one side of the floor
    agents: int = static(default=8, minimum=1, maximum=16)
    trash: int = static(default=40, minimum=1, maximum=1000)  # pieces on the floor at the start
    bins: int = static(default=2, minimum=1, maximum=16)
    vision: int = static(default=5, minimum=1, maximum=7)  # cells seen in each direction; the thickness of the wall
    pickup_reward: float = param(default=0.5)
    deposit_reward: float = param(default=0.5)
    max_steps: int = param(default=500, minimum=1)  # steps of the world before it is reset
    levels: int = param(default=0, minimum=0)  # number of fixed floors, of which each world has one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    action_space: ClassVar = Discrete(4)
    variants: ClassVar = (
        {"levels": 3, "first_level": 100, "size": 6, "agents": 5, "trash": 12, "bins": 3, "vision": 2, "max_steps": 60},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        things = self.agents + self.bins + self.trash
        if things > self.size * self.size:
            raise ValueError(
                f"TrashPickup.size is {self.size}, a floor of {self.size * self.size} cells; "
                f"it must have room for agents + bins + trash ({things})"
            )

    @property
    def num_agents(self) -> int:
        return self.agents

    @property
    def observation_space(self) -> Composite:
        side = 2 * self.vision + 1
        return Composite(Seen, window=Box(FLOOR, WALL, (side, side), np.int8), numbers=Box(0.0, 1.0, (4,)))

    @property
    def stride(self) -> int:
        """Cells from one row of the grid to the next."""
        return self.size + 2 * self.vision

    def in_bins(self, s: State) -> Array:
        """Pieces in the bins."""
        return s.delivered.sum(dtype=jnp.int32)

    def init(self, stream: Array) -> State:
        # an empty floor within its wall
        grid = np.pad(np.full((self.size, self.size), FLOOR, np.int8), self.vision, constant_values=WALL).reshape(-1)
        floor = np.flatnonzero(grid == FLOOR).astype(np.int32)

        # a random cell for each
        stream, world = rng.level(stream, self.levels, self.first_level)
        things = np.repeat(np.array([AGENT, BIN, TRASH], np.int8), [self.agents, self.bins, self.trash])
        _, order = rng.deal(world, jnp.asarray(floor), len(things))

        # agents, then bins, then trash
        each = jnp.zeros(self.agents, jnp.int32)
        return State(
            rng=stream,
            grid=jnp.asarray(grid).at[order[: len(things)]].set(things, unique_indices=True),
            agent=order[: self.agents],
            carries=each,
            delivered=each,
            bin=order[self.agents : self.agents + self.bins],
            steps=jnp.int32(0),
        )

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        # what is ahead of each before anybody acts
        step = jnp.where(
            action == UP, -self.stride, jnp.where(action == DOWN, self.stride, jnp.where(action == LEFT, -1, 1))
        )
        target = s.agent + step
        beyond = target + step
        ahead, behind = s.grid[target], s.grid[beyond]
        agents = jnp.arange(self.agents, dtype=jnp.int32)

        # one after the other
        def act(carry: tuple[Array, Array], own: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
            agent, bin = carry
            i, target, beyond, ahead, behind, carries = own

            # what is ahead now: what does not move, unless an earlier agent is there, and what does
            empty = carries == 0
            no_agent, no_bin = (agent != target).all(), (bin != target).all()
            bare = (ahead != TRASH) & (ahead != WALL)
            room = (behind != TRASH) & (behind != WALL) & (agent != beyond).all() & (bin != beyond).all()

            # pick up the piece
            picks = (ahead == TRASH) & no_agent & empty
            # put the piece into the bin, and stay
            drops = ~no_bin & ~empty
            # push the bin
            pushes = ~no_bin & empty & room

            bin = jnp.where((bin == target) & pushes, beyond, bin)
            moves = (bare & no_agent & no_bin) | picks | pushes
            agent = jnp.where((agents == i) & moves, target, agent)
            return (agent, bin), (picks, drops)

        own = agents, target, beyond, ahead, behind, s.carries
        (agent, bin), (picks, drops) = lax.scan(act, (s.agent, s.bin), own)

        # the grid after all have acted
        left, entered = jnp.concatenate([s.agent, s.bin]), jnp.concatenate([agent, bin])
        carries = s.carries + jnp.int32(picks) - jnp.int32(drops)
        tile = jnp.concatenate([jnp.int8(AGENT + carries), jnp.full(self.bins, BIN, jnp.int8)])
        grid = s.grid.at[left].set(jnp.int8(FLOOR), unique_indices=True).at[entered].set(tile, unique_indices=True)
        s = s.replace(
            grid=grid,
            agent=agent,
            carries=carries,
            delivered=s.delivered + jnp.int32(drops),
            bin=bin,
            steps=s.steps + 1,
        )

        # is the floor clean, or has time run out?
        clean = self.in_bins(s) == self.trash
        return s, Outcome(
            reward=jnp.where(picks, self.pickup_reward, jnp.where(drops, self.deposit_reward, 0.0)),
            terminated=jnp.broadcast_to(clean, (self.agents,)),
            truncated=jnp.zeros(self.agents, bool),
            reset=s.steps >= self.max_steps,
        )

    def respawn(self, s: State, ended: Array) -> State:
        """Agents end only with their world."""
        return s

    def observe(self, s: State) -> Seen:
        side = 2 * self.vision + 1
        per_cell = 1 / jnp.float32(self.size)
        left = jnp.float32(self.max_steps - s.steps) * (1 / jnp.float32(self.max_steps))
        row = lax.div(s.agent, jnp.int32(self.stride)) - self.vision
        column = lax.rem(s.agent, jnp.int32(self.stride)) - self.vision
        grid = s.grid.reshape(self.stride, self.stride)
        window = jax.vmap(lambda row, column: lax.dynamic_slice(grid, (row, column), (side, side)))(row, column)
        numbers = [
            jnp.float32(s.carries),
            jnp.float32(row) * per_cell,
            jnp.float32(column) * per_cell,
            jnp.broadcast_to(left, (self.agents,)),
        ]
        return Seen(window, jnp.stack(numbers, -1))

    def score(self, s: State) -> Array:
        """What all have done together."""
        return jnp.full(self.agents, jnp.float32(self.in_bins(s)))

    def perf(self, s: State) -> Array:
        return jnp.full(self.agents, jnp.float32(self.in_bins(s)) * (1 / jnp.float32(self.trash)))

    def figures(self, s: State) -> dict[str, Array]:
        return {"delivered_alone": jnp.float32(s.delivered)}

    def render(self, s: State) -> Array:
        # a tile is a square; trash is a small one, and lies on top of an agent that carries it
        grid = s.grid.at[s.agent[0]].add(jnp.int8(3)).reshape(self.stride, self.stride)
        inside = slice(self.vision - 1, -(self.vision - 1) or None)
        tile = jnp.int32(grid[inside, inside]).repeat(SCALE, 0).repeat(SCALE, 1)
        agents = [AGENT_COLOUR, AGENT_COLOUR, WALL_COLOUR, WATCHED_COLOUR, WATCHED_COLOUR]
        outer = jnp.array([FLOOR_COLOUR, FLOOR_COLOUR, BIN_COLOUR, *agents], jnp.uint8)
        inner = outer.at[jnp.array([TRASH, AGENT + 1, AGENT + 4])].set(jnp.array(TRASH_COLOUR, jnp.uint8))
        within = np.arange(SCALE * (self.size + 2)) % SCALE
        middle = (within >= SCALE // 3) & (within < SCALE - SCALE // 3)
        return jnp.where(jnp.asarray(middle[:, None] & middle[None, :])[..., None], inner[tile], outer[tile])

    def player(self, s: State, stream: Array) -> Array:
        # to the nearest piece, and with it to the nearest bin; some only go to the bins, and some worlds are left
        # to chance
        style = s.rng[0] % jnp.uint32(8)
        index = jnp.arange(self.agents, dtype=jnp.int32)
        to_bins = (s.carries == 1) | ((style == 1) & (index % 2 == 0))
        wanted = jnp.where(to_bins[:, None], (s.grid == BIN)[None], (s.grid == TRASH)[None])
        cell = jnp.arange(len(s.grid), dtype=jnp.int32)

        def apart(a: Array, b: Array) -> tuple[Array, Array]:
            stride = jnp.int32(self.stride)
            return lax.div(b, stride) - lax.div(a, stride), lax.rem(b, stride) - lax.rem(a, stride)

        down, right = apart(s.agent[:, None], cell[None, :])
        far = jnp.where(wanted, jnp.abs(down) + jnp.abs(right), len(s.grid))
        down, right = apart(s.agent, jnp.int32(jnp.argmin(far, 1)))
        towards = jnp.where(
            jnp.abs(down) > jnp.abs(right), jnp.where(down > 0, DOWN, UP), jnp.where(right > 0, RIGHT, LEFT)
        )
        key, another = jax.random.split(jax.random.wrap_key_data(stream, impl="threefry2x32"))
        random = jax.random.randint(key, (self.agents,), 0, 4)
        strays = jax.random.uniform(another, (self.agents,)) < jnp.where(style == 0, 1.0, 0.2)
        return jnp.where(strays | ~wanted.any(1), random, towards)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        step = jnp.array([-self.stride, self.stride, -1, 1], jnp.int32)[action]
        target, n = s.agent + step, next_state
        ahead, behind = s.grid[target], s.grid[target + step]
        moved, empty = n.agent == target, s.carries == 0
        an_agent = (ahead == AGENT) | (ahead == AGENT + 1)
        picked, put = n.carries > s.carries, n.delivered > s.delivered
        held = ~moved & empty & (ahead == BIN) & (n.grid[target] == BIN)
        pushed = jnp.abs(n.bin - s.bin)
        return {
            "walked onto floor": (moved & (ahead == FLOOR)).any(),
            "picked up": picked.any(),
            "put into a bin": put.any(),
            "pushed a bin": (pushed > 0).any(),
            "a bin was pushed twice in one step": ((pushed > 1) & (pushed != self.stride)).any(),
            "stopped by the wall": (~moved & (ahead == WALL)).any(),
            "stopped by an agent": (~moved & an_agent).any(),
            "stopped by trash as it carries": (~moved & (ahead == TRASH) & ~empty).any(),
            "a bin at the wall": (held & (behind == WALL)).any(),
            "a bin at trash": (held & (behind == TRASH)).any(),
            "a bin at a bin": (held & (behind == BIN) & (n.grid[target + step] == BIN)).any(),
            "a bin at an agent": (held & (n.grid[target + step] >= AGENT) & (behind != WALL)).any(),
            "followed one that has just left": (moved & an_agent).any(),
            "an earlier one took the floor": (~moved & (ahead == FLOOR) & (n.grid[target] >= AGENT)).any(),
            "an earlier one took the piece": (~moved & (ahead == TRASH) & empty).any(),
            "put into a bin that was just pushed there": (put & (ahead != BIN)).any(),
            "the floor is clean": self.in_bins(n) == self.trash,
            "time limit": n.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        # a few steps left, hardly any trash left, and a bin beside the first agent
        stream, few = rng.below(stream, 3)
        stream, clears = rng.below(stream, 2)
        is_trash = s.grid == TRASH
        gone = is_trash & (clears == 1)
        grid = jnp.where(gone, jnp.int8(FLOOR), s.grid)
        _, way = rng.below(stream, 4)
        beside = s.agent[0] + jnp.array([-self.stride, self.stride, -1, 1], jnp.int32)[way]
        fits = grid[beside] == FLOOR
        bin = s.bin.at[0].set(jnp.where(fits, beside, s.bin[0]))
        grid = grid.at[s.bin[0]].set(jnp.int8(FLOOR)).at[bin[0]].set(jnp.int8(BIN))
        return s.replace(
            grid=grid,
            bin=bin,
            delivered=s.delivered.at[0].add(gone.sum(dtype=jnp.int32)),
            steps=jnp.maximum(self.max_steps - few, 0),
        )
