"""Recall a cue shown at the beginning. Twin of envs_c/memory.h."""

from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param
from jaxpuffer.spaces import Box, Discrete, Space


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    cue: Array  # int32 (), 0 for -1, 1 for 1
    steps: Array  # int32 (), since the episode began
    recalled: Array  # int32 (), 1 once the cue was recalled


class Memory(Env[State]):
    """Recall a cue shown at the beginning: no policy without memory does better than chance.

    Observation: float32 (1,): the cue, -1 or 1, at the first step, then 0.
    Action: Discrete(2): recall -1, recall 1; it counts only at the last step.
    Reward: +1 at the last step for the right answer.
    Ends: terminated after `length` steps, truncated after `max_steps`.
    Score: 1 if the cue was recalled, otherwise 0; perf is the same.
    Differences from PufferLib: only the time limit, which is longer than an
        episode unless `length` exceeds it.
    """

    length: int = param(default=10, minimum=2)  # steps of an episode
    max_steps: int = param(default=1000, minimum=1)  # steps before truncation

    observation_space: ClassVar[Space] = Box(-1.0, 1.0, (1,))
    action_space: ClassVar[Space] = Discrete(2)

    def init(self, stream: Array) -> State:
        stream, cue = rng.below(stream, 2)
        return State(stream, cue, steps=jnp.int32(0), recalled=jnp.int32(0))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        steps = s.steps + 1
        terminated = steps >= self.length
        recalled = jnp.int32(terminated & (action == s.cue))
        return s.replace(steps=steps, recalled=recalled), Outcome(
            reward=jnp.float32(recalled),
            terminated=terminated,
            truncated=steps >= self.max_steps,
        )

    def observe(self, s: State) -> Array:
        cue = jnp.where(s.cue == 1, jnp.float32(1), jnp.float32(-1))
        return jnp.where(s.steps > 0, jnp.float32(0), cue)[None]

    def score(self, s: State) -> Array:
        return jnp.float32(s.recalled)

    def render(self, s: State) -> Array:
        height, width = 80, 200
        y, x = jnp.mgrid[0:height, 0:width]
        # on the left the observation: the cue, white for 1 and teal for -1, or nothing; below it the episode's progress
        seen = self.observe(s)[0]
        light = jnp.where(seen > 0, jnp.array([241, 241, 241], jnp.uint8), jnp.array([0, 187, 187], jnp.uint8))
        light = jnp.where(seen == 0, jnp.array([10, 40, 40], jnp.uint8), light)
        over = s.steps >= self.length
        right = jnp.where(s.recalled == 1, jnp.array([90, 200, 90], jnp.uint8), jnp.array([187, 0, 0], jnp.uint8))
        answer = jnp.where(over, right, jnp.array([10, 40, 40], jnp.uint8))
        bar = (y >= 68) & (y < 74) & (x >= 10) & (x * self.length < 10 * self.length + 180 * s.steps)
        cue_box = (y >= 10) & (y < 58) & (x >= 10) & (x < 90)
        answer_box = (y >= 10) & (y < 58) & (x >= 110) & (x < 190)
        picture = jnp.full((height, width, 3), jnp.array([6, 24, 24], jnp.uint8))
        for shape, colour in ((cue_box, light), (answer_box, answer), (bar, jnp.array([120, 140, 140], jnp.uint8))):
            picture = jnp.where(shape[:, :, None], colour[None, None], picture)
        return picture

    variants = ({"max_steps": 5},)

    def player(self, s: State, stream: Array) -> Array:
        _, mistaken = rng.bernoulli(stream, 0.3)
        return jnp.where(mistaken, 1 - s.cue, s.cue)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        over = next_state.steps >= self.length
        return {
            "recalled -1": over & (s.cue == 0) & (next_state.recalled == 1),
            "recalled 1": over & (s.cue == 1) & (next_state.recalled == 1),
            "took -1 for 1": over & (s.cue == 1) & (next_state.recalled == 0),
            "took 1 for -1": over & (s.cue == 0) & (next_state.recalled == 0),
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """Around the last step, and around the time limit."""
        stream, which = rng.below(stream, 2)
        stream, early = rng.below(stream, 3)
        return s.replace(steps=jnp.where(which == 0, self.length, self.max_steps) - 2 + early)
