"""Several hunters look for goals. Twin of envs_c/target.h."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import numerics, rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, MultiDiscrete, Space

MAX_AGENTS, MAX_GOALS, CHOICES, STRAIGHT, STEADY = 32, 16, 2, 4, 2

WIDTH = 1080.0  # px
HEIGHT = 720.0  # px
REACH_SQUARED = 1024.0  # px^2: a goal is reached within 32 px
TURNING = 0.083333336  # rad per choice: 1/12
MAX_SPEED = 20.0  # px per step, forwards or backwards
HALF_TURN = 3.14159265  # rad
TURN = 6.2831853  # rad
PER_TURN = 0.15915494  # 1/rad
PER_WIDTH = 9.2592593e-4  # 1/px, of observed offsets and positions
GOOD_SHARE = 0.02  # of the steps: this number of goals is a perf of 1


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    x: Array  # float32 (num_hunters,), px from the left
    y: Array  # float32 (num_hunters,), px from the top
    heading: Array  # float32 (num_hunters,), rad, 0 to the right, positive downwards
    speed: Array  # float32 (num_hunters,), px per step
    reward: Array  # float32 (num_hunters,), of the last step
    idle: Array  # int32 (num_hunters,), steps since the last goal
    reached: Array  # int32 (num_hunters,), goals in the episode
    goal_x: Array  # float32 (num_goals,)
    goal_y: Array  # float32 (num_goals,)
    steps: Array  # int32 (), since the world began


class Target(Env[State]):
    """Several hunters look for goals: a goal goes to the first hunter that comes near. Each hunter is an agent.

    Observation: float32 (2 num_goals + 2 num_hunters + 4,) per hunter: offsets of the goals and of
        all hunters (its own is zero), alternating x and y, in widths of the plane; heading in turns;
        reward of the last step; x and y in widths.
    Action: MultiDiscrete((9, 5)): turn by -4 to 4 twelfths of a radian; change the speed by -2 to 2 px per step.
    Reward: 1 for each goal reached.
    Ends: a hunter is truncated after `patience` steps without a goal, and moved to another place. The world
        is reset after `max_steps`, which truncates all. Nothing terminates.
    Score: goals reached; perf is the score divided by a fiftieth of `max_steps`, at most 1.
    Differences from PufferLib: all move before goals are given; a hunter whose patience ends is
        truncated (PufferLib: moved without a flag); the world has a time limit.
    """

    num_hunters: int = static(default=8, minimum=1, maximum=MAX_AGENTS)
    num_goals: int = static(default=4, minimum=1, maximum=MAX_GOALS)
    patience: int = param(default=512, minimum=1)  # steps without a goal before a hunter is moved to another place
    max_steps: int = param(default=1000, minimum=1)  # steps of the world before it is reset

    multi_agent = True
    action_space: ClassVar[Space] = MultiDiscrete((9, 5))

    @property
    def num_agents(self) -> int:
        return self.num_hunters

    @property
    def observation_space(self) -> Space:
        return Box(-float("inf"), float("inf"), (2 * self.num_goals + 2 * self.num_hunters + 4,))

    def spawn_goal(self, stream: Array) -> tuple[Array, Array, Array]:
        stream, x = rng.uniform(stream, 0.0, WIDTH)
        stream, y = rng.uniform(stream, 0.0, HEIGHT)
        return stream, x, y

    def respawn(self, s: State, ended: Array) -> State:
        """Reset the hunters that ended, one after the other, at rest."""

        def one(stream: Array, ended: Array) -> tuple[Array, tuple[Array, Array, Array]]:
            drawn, x = rng.uniform(stream, 0.0, WIDTH)
            drawn, y = rng.uniform(drawn, 0.0, HEIGHT)
            drawn, heading = rng.uniform(drawn, -HALF_TURN, HALF_TURN)
            return jnp.where(ended, drawn, stream), (x, y, heading)

        stream, (x, y, heading) = lax.scan(one, s.rng, ended)
        zero = jnp.float32(0)
        return s.replace(
            rng=stream,
            x=jnp.where(ended, x, s.x),
            y=jnp.where(ended, y, s.y),
            heading=jnp.where(ended, heading, s.heading),
            speed=jnp.where(ended, zero, s.speed),
            reward=jnp.where(ended, zero, s.reward),
            idle=jnp.where(ended, 0, s.idle),
            reached=jnp.where(ended, 0, s.reached),
        )

    def init(self, stream: Array) -> State:
        def one(stream: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
            stream, x, y = self.spawn_goal(stream)
            return stream, (x, y)

        stream, (goal_x, goal_y) = lax.scan(one, stream, length=self.num_goals)
        zeros, none = jnp.zeros(self.num_hunters, jnp.float32), jnp.zeros(self.num_hunters, jnp.int32)
        s = State(stream, zeros, zeros, zeros, zeros, zeros, none, none, goal_x, goal_y, steps=jnp.int32(0))
        return self.respawn(s, jnp.ones(self.num_hunters, bool))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        steps = s.steps + 1

        # all turn, speed up and move, within the plane
        heading = s.heading + jnp.float32(action[:, 0] - STRAIGHT) * TURNING
        heading = heading - TURN * jnp.floor(heading * PER_TURN + 0.5)
        speed = jnp.clip(s.speed + jnp.float32(action[:, 1] - STEADY), -MAX_SPEED, MAX_SPEED)
        x = jnp.clip(s.x + speed * numerics.cos(heading), 0.0, WIDTH)
        y = jnp.clip(s.y + speed * numerics.sin(heading), 0.0, HEIGHT)

        # a goal is the first hunter's within reach, and then appears elsewhere
        stream, reward = s.rng, jnp.zeros(self.num_hunters, jnp.float32)
        goals = []
        for g in range(self.num_goals):
            dx, dy = s.goal_x[g] - x, s.goal_y[g] - y
            near = dx * dx + dy * dy <= REACH_SQUARED
            reward = reward + jnp.float32(near & (jnp.int32(near).cumsum() == 1))
            taken = near.any()
            drawn, new_x, new_y = self.spawn_goal(stream)
            stream = jnp.where(taken, drawn, stream)
            goals.append((jnp.where(taken, new_x, s.goal_x[g]), jnp.where(taken, new_y, s.goal_y[g])))
        goal_x, goal_y = (jnp.stack(of_all) for of_all in zip(*goals, strict=True))

        # a hunter without a goal for too long is moved to another place
        idle = jnp.where(reward > 0.0, 0, s.idle + 1)
        reached = s.reached + jnp.int32(reward)
        s = State(stream, x, y, heading, speed, reward, idle, reached, goal_x, goal_y, steps)
        nobody = jnp.zeros(self.num_hunters, bool)
        return s, Outcome(reward, nobody, truncated=idle >= self.patience, reset=steps >= self.max_steps)

    def observe(self, s: State) -> Array:
        def offsets(x: Array, y: Array) -> Array:
            """The offset of each point from each hunter, (num_hunters, 2 points), alternating x and y."""
            away = jnp.stack([x[None] - s.x[:, None], y[None] - s.y[:, None]], -1)
            return away.reshape(self.num_hunters, -1) * PER_WIDTH

        own = jnp.stack([s.heading * PER_TURN, s.reward, s.x * PER_WIDTH, s.y * PER_WIDTH], -1)
        return jnp.concatenate([offsets(s.goal_x, s.goal_y), offsets(s.x, s.y), own], -1)

    def score(self, s: State) -> Array:
        return jnp.float32(s.reached)

    def perf(self, s: State) -> Array:
        good = GOOD_SHARE * jnp.float32(self.max_steps)
        return jnp.minimum(jnp.float32(s.reached) * (1 / good), 1.0)

    def render(self, s: State) -> Array:
        shrink = 3.0  # px of the plane per px of the picture
        rows, columns = np.mgrid[0 : int(HEIGHT / shrink), 0 : int(WIDTH / shrink)].astype(np.float32)
        picture = jnp.full((*rows.shape, 3), jnp.array([6, 24, 24], jnp.uint8))
        # goals as large as their reach, hunters with their heads in front
        ahead_x, ahead_y = s.x + 14.0 * numerics.cos(s.heading), s.y + 14.0 * numerics.sin(s.heading)
        discs = (
            (s.goal_x, s.goal_y, 10.7, (0, 120, 90)),
            (s.goal_x, s.goal_y, 3.0, (150, 230, 150)),
            (s.x, s.y, 4.5, (0, 187, 187)),
            (ahead_x, ahead_y, 2.0, (241, 241, 241)),
        )
        for xs, ys, radius, colour in discs:
            for k in range(len(xs)):
                inside = (columns - xs[k] / shrink) ** 2 + (rows - ys[k] / shrink) ** 2 < radius**2
                picture = jnp.where(inside[:, :, None], jnp.array(colour, jnp.uint8), picture)
        return picture

    def player(self, s: State, stream: Array) -> Array:
        """Turns to the goal with its number and slows down when near; some do not move, some play at random."""
        numbers = np.arange(self.num_hunters)
        goal = numbers % self.num_goals
        dx, dy = s.goal_x[goal] - s.x, s.goal_y[goal] - s.y
        aim = numerics.atan2(dy, dx) - s.heading
        aim = aim - TURN * jnp.floor(aim * PER_TURN + 0.5)
        turn = jnp.int32(jnp.round(jnp.clip(aim * 12.0, -4.0, 4.0))) + STRAIGHT
        faced = jnp.abs(aim) < 0.5
        wanted = jnp.where(faced, jnp.clip(0.08 * jnp.sqrt(dx * dx + dy * dy) + 2.0, 2.0, 20.0), jnp.float32(1))
        faster = jnp.int32(jnp.round(jnp.clip(wanted - s.speed, -2.0, 2.0))) + STEADY
        hunts = jnp.stack([turn, faster], -1)

        def draw(stream: Array, _: None) -> tuple[Array, Array]:
            stream, a = rng.below(stream, 9)
            stream, b = rng.below(stream, 5)
            return stream, jnp.stack([a, b])

        _, wild = lax.scan(draw, stream, length=self.num_hunters)
        waits = jnp.broadcast_to(jnp.array([[STRAIGHT, STEADY]], jnp.int32), wild.shape)
        style = jnp.int32(s.speed * 0.0) + jnp.array(numbers % 8, jnp.int32)
        return jnp.where((style == 6)[:, None], waits, jnp.where((style == 7)[:, None], wild, hunts))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        gone = (next_state.goal_x != s.goal_x) | (next_state.goal_y != s.goal_y)
        dx = s.goal_x[:, None] - next_state.x[None]
        dy = s.goal_y[:, None] - next_state.y[None]
        near = dx * dx + dy * dy <= REACH_SQUARED
        return {
            "reached a goal": gone.any(),
            "two hunters at one goal": (near.sum(1) > 1).any(),
            "two goals in a step": gone.sum() > 1,
            "ran out of patience": (next_state.idle >= self.patience).any(),
            "full speed ahead": (next_state.speed >= MAX_SPEED).any(),
            "full speed backwards": (next_state.speed <= -MAX_SPEED).any(),
            "at the left": (next_state.x <= 0.0).any(),
            "at the right": (next_state.x >= WIDTH).any(),
            "at the top": (next_state.y <= 0.0).any(),
            "at the bottom": (next_state.y >= HEIGHT).any(),
            "turned over the back": (jnp.abs(next_state.heading - s.heading) > HALF_TURN).any(),
            "time limit": next_state.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """Hunters at a goal, just inside and outside its reach; at the last step, or at the end of their patience."""
        stream, which = rng.below(stream, 3)
        stream, off = rng.below(stream, 4)
        distance = jnp.array([0.0, 31.0, 32.0, 33.0], jnp.float32)[off]
        at_goal = s.replace(
            x=jnp.full_like(s.x, 500.0),
            y=jnp.full_like(s.y, 300.0),
            speed=jnp.zeros_like(s.speed),
            goal_x=s.goal_x.at[0].set(500.0 + distance),
            goal_y=s.goal_y.at[0].set(300.0),
        )
        late = s.replace(steps=self.max_steps - 1 - off % 2)
        tired = s.replace(idle=jnp.full_like(s.idle, self.patience - 1 - off % 2))
        return State(
            *(
                jnp.where(which == 0, getattr(at_goal, f), jnp.where(which == 1, getattr(late, f), getattr(tired, f)))
                for f in State.__annotations__
            )
        )
