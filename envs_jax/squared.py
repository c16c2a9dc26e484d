"""Walk to a target on a square grid. Twin of envs_c/squared.h."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Discrete, Space

STAY, DOWN, UP, LEFT, RIGHT, ACTIONS = range(6)
EMPTY, AGENT, TARGET, TILES = range(4)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    x: Array  # int32 (), cells from the left, of the agent
    y: Array  # int32 (), cells from the top
    target_x: Array  # int32 ()
    target_y: Array  # int32 ()
    steps: Array  # int32 (), since the episode began


class Squared(Env[State]):
    """Walk to a target on a square grid: the simplest thing that can be learned.

    Observation: uint8 (size^2,), row by row: 0 empty, 1 the agent, 2 the target.
    Action: Discrete(5): stay, down, up, left, right.
    Reward: +1 on reaching the target, -1 on leaving the grid.
    Ends: terminated on the target and outside the grid, truncated after `max_steps`.
    Score: 1 if the target was reached, otherwise 0; perf is the same.
    Differences from PufferLib: the time limit truncates without a penalty (PufferLib:
        a terminal and -1).
    """

    size: int = static(default=11, minimum=3, maximum=63)  # cells along a side, odd
    max_steps: int = param(default=33, minimum=1)  # steps before truncation

    action_space: ClassVar[Space] = Discrete(ACTIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % 2 == 0:
            raise ValueError(f"Squared.size is {self.size}; it must be odd, because the agent begins in the middle")

    @property
    def observation_space(self) -> Space:
        return Box(0, TILES - 1, (self.size * self.size,), np.uint8)

    def init(self, stream: Array) -> State:
        # the agent in the middle, the target on any other cell
        middle = (self.size * self.size - 1) // 2
        stream, target = rng.below(stream, self.size * self.size - 1)
        target = target + jnp.int32(target >= middle)
        return State(
            stream,
            x=jnp.int32(self.size // 2),
            y=jnp.int32(self.size // 2),
            target_x=lax.rem(target, jnp.int32(self.size)),
            target_y=lax.div(target, jnp.int32(self.size)),
            steps=jnp.int32(0),
        )

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        s = s.replace(
            x=s.x + jnp.int32(action == RIGHT) - jnp.int32(action == LEFT),
            y=s.y + jnp.int32(action == DOWN) - jnp.int32(action == UP),
            steps=s.steps + 1,
        )
        reached = (s.x == s.target_x) & (s.y == s.target_y)
        outside = (s.x < 0) | (s.x >= self.size) | (s.y < 0) | (s.y >= self.size)
        reward = jnp.where(reached, jnp.float32(1), jnp.where(outside, jnp.float32(-1), jnp.float32(0)))
        terminated = reached | outside
        return s, Outcome(reward, terminated, truncated=s.steps >= self.max_steps)

    def observe(self, s: State) -> Array:
        cell = np.arange(self.size * self.size, dtype=np.int32)
        column, row = cell % self.size, cell // self.size
        agent = (column == s.x) & (row == s.y)
        target = (column == s.target_x) & (row == s.target_y)
        return jnp.where(agent, jnp.uint8(AGENT), jnp.where(target, jnp.uint8(TARGET), jnp.uint8(EMPTY)))

    def score(self, s: State) -> Array:
        return jnp.float32((s.x == s.target_x) & (s.y == s.target_y))

    def render(self, s: State) -> Array:
        pixels = 16  # along a cell
        colours = jnp.array([[10, 40, 40], [0, 187, 187], [187, 0, 0]], jnp.uint8)
        cells = colours[self.observe(s).reshape(self.size, self.size)]
        picture = cells.repeat(pixels, 0).repeat(pixels, 1)
        line = np.arange(self.size * pixels) % pixels == 0
        return jnp.where((line[:, None] | line[None])[:, :, None], jnp.uint8(6), picture)

    def player(self, s: State, stream: Array) -> Array:
        # each episode's stream chooses its style: towards the target, in one direction, at random, or slowly
        style = s.rng[0] >> jnp.uint32(30)
        towards = jnp.where(
            s.x != s.target_x,
            jnp.where(s.x < s.target_x, RIGHT, LEFT),
            jnp.where(s.y < s.target_y, DOWN, UP),
        )
        one_way = jnp.int32(1) + jnp.int32((s.rng[1] >> jnp.uint32(8)) & jnp.uint32(3))
        stream, wild = rng.below(stream, ACTIONS)
        stream, stays = rng.bernoulli(stream, 0.9)
        dawdle = jnp.where(stays, STAY, wild)
        action = jnp.where(style == 0, towards, jnp.where(style == 1, one_way, jnp.where(style == 2, wild, dawdle)))
        return jnp.int32(action)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        return {
            "stayed": (action == STAY) & (next_state.x == s.x) & (next_state.y == s.y),
            "reached the target": self.score(next_state) > 0,
            "left on the left": next_state.x < 0,
            "left on the right": next_state.x >= self.size,
            "left at the top": next_state.y < 0,
            "left at the bottom": next_state.y >= self.size,
            "time limit": next_state.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """At an edge, beside the target, or before the last step."""
        stream, which = rng.below(stream, 3)
        stream, x = rng.below(stream, self.size)
        stream, side = rng.below(stream, 2)
        edge = s.replace(x=x, y=side * (self.size - 1))
        beside = s.replace(x=jnp.abs(s.target_x - 1), y=s.target_y)
        late = s.replace(steps=self.max_steps - 1 - side)
        flipped = edge.replace(x=edge.y, y=edge.x)
        edge = edge.replace(
            x=jnp.where(s.steps % 2 == 0, edge.x, flipped.x), y=jnp.where(s.steps % 2 == 0, edge.y, flipped.y)
        )

        def choose(a: Array, b: Array, c: Array) -> Array:
            return jnp.where(which == 0, a, jnp.where(which == 1, b, c))

        return State(*(choose(getattr(edge, f), getattr(beside, f), getattr(late, f)) for f in State.__annotations__))
