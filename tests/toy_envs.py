"""Small environments that are not registered, whose scores can be worked out by hand, and what tests play with."""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, settle, static
from jaxpuffer.spaces import Box, Discrete, Space


class CorridorState(PyTreeNode):
    rng: Array  # uint32 (2,)
    cell: Array  # int32 ()
    steps: Array  # int32 ()


class Corridor(Env[CorridorState]):
    """Walk right to the end. At the left wall, left is illegal and would end the episode with a score of -1."""

    length: int = param(default=6, minimum=2, help="cells")
    max_steps: int = param(default=50, minimum=1, help="steps before truncation")

    observation_space: ClassVar[Space] = Box(0.0, 1.0, (2,))
    action_space: ClassVar[Space] = Discrete(2)

    def init(self, stream: Array) -> CorridorState:
        return CorridorState(stream, jnp.int32(0), jnp.int32(0))

    def transition(self, s: CorridorState, action: Array) -> tuple[CorridorState, Outcome]:
        s = s.replace(cell=s.cell + 2 * action - 1, steps=s.steps + 1)
        terminated = (s.cell < 0) | (s.cell >= self.length - 1)
        reward = jnp.where(s.cell >= self.length - 1, jnp.float32(1), jnp.float32(0))
        return s, Outcome(reward, terminated, ~terminated & (s.steps >= self.max_steps))

    def observe(self, s: CorridorState) -> Array:
        return jnp.stack([jnp.float32(s.cell) / jnp.float32(self.length), jnp.float32(1)])

    def score(self, s: CorridorState) -> Array:
        return jnp.float32(s.cell)

    def action_mask(self, s: CorridorState) -> Array:
        return jnp.stack([s.cell > 0, jnp.bool_(True)])

    def render(self, s: CorridorState) -> Array:
        here = jnp.arange(32, dtype=jnp.int32) == s.cell
        picture = jnp.where(here[None, :, None], jnp.uint8(255), jnp.uint8(20))
        return jnp.broadcast_to(picture, (8, 32, 3))


class CounterState(PyTreeNode):
    rng: Array  # uint32 (2,)
    age: Array  # int32 (agents,)


class Counters(Env[CounterState]):
    """Agent i's episodes last i + 1 steps; its score is its age, its reward 1."""

    multi_agent = True
    agents: int = static(default=3, minimum=1)

    observation_space: ClassVar[Space] = Box(0.0, 1.0, (1,))
    action_space: ClassVar[Space] = Discrete(2)

    @property
    def num_agents(self) -> int:
        return self.agents

    def init(self, stream: Array) -> CounterState:
        return CounterState(stream, jnp.zeros(self.agents, jnp.int32))

    def transition(self, s: CounterState, action: Array) -> tuple[CounterState, Outcome]:
        s = s.replace(age=s.age + 1)
        ended = s.age > jnp.arange(self.agents, dtype=jnp.int32)
        return s, Outcome(jnp.ones(self.agents, jnp.float32), ended, jnp.zeros(self.agents, bool))

    def respawn(self, s: CounterState, ended: Array) -> CounterState:
        return s.replace(age=jnp.where(ended, 0, s.age))

    def observe(self, s: CounterState) -> Array:
        return jnp.float32(s.age)[:, None]

    def score(self, s: CounterState) -> Array:
        return jnp.float32(s.age)


def tiny_config(**changes: Any) -> Any:
    """A config whose updates take a millisecond."""
    from jaxpuffer import PPOConfig

    small = {"total_steps": 1280, "num_envs": 16, "horizon": 8, "minibatch_size": 64, "hidden": 16, "optimizer": "adam"}
    return PPOConfig(**(small | changes))


def settled_transition(env: Any, state: Any, action: Any) -> tuple[Any, Outcome]:
    """A transition as in a batch: if both flags are set, terminated wins."""
    state, outcome = env.transition(state, action)
    return state, settle(outcome)


def scripted_play(env: Any, seed: int, moves: int, steps: int) -> Any:
    """The state of a world after some steps of its scripted player, in NumPy; `moves` is the player's seed."""
    return jax.tree.map(lambda x: np.asarray(x[0]), _scripted_play(env, seed, moves, steps))


@functools.partial(jax.jit, static_argnames="steps")
def _scripted_play(env: Any, seed: int, moves: int, steps: int) -> Any:
    batch = env.batch(1)

    def step(_: int, carry: tuple) -> tuple:
        state, streams = carry
        actions = jax.vmap(env.player)(state.env, streams)
        return batch.step(state, actions)[0], jax.vmap(lambda s: rng.bits(s)[0])(streams)

    start = batch.reset(jax.random.key(seed))[0], rng.seed(jax.random.key(moves), (1,))
    return jax.lax.fori_loop(0, steps, step, start)[0].env
