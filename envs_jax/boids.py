"""Boids that learn to fly as a flock. Twin of envs_c/boids.h."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, MultiDiscrete, Space

MAX_AGENTS, FEATURES, CHOICES, STEADY = 128, 4, 2, 2
WIDTH, HEIGHT = 1080, 720  # px
SIGHT_SQUARED = 10000  # px^2: neighbours are nearer than 100 px
TOUCH_SQUARED = 400  # px^2: those nearer than 20 px crowd
PUSH, MAX_SPEED = 2, 10  # px per step: per choice, and the most along either axis
FLOCK, CROWD = 8, 5  # most neighbours that count
COMPANY, WITH_THEM = 4, 50  # least for flying in a flock: neighbours, px^2 per step^2

PER_FLOCK = 0.125  # 1/8
PER_CROWD = 0.2  # 1/5
MAX_SPEED_SQUARED = 200  # px^2 per step^2
PER_WIDTH = 9.2592593e-4  # 1/px, of observed offsets and positions
PER_MAX_SPEED = 0.1  # steps per px, of observed velocities


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    x: Array  # int32 (num_boids,), px from the left
    y: Array  # int32 (num_boids,), px from the top
    vx: Array  # int32 (num_boids,), px per step
    vy: Array  # int32 (num_boids,)
    flocked: Array  # int32 (num_boids,), steps that it flew in a flock
    steps: Array  # int32 (), since the world began


class Boids(Env[State]):
    """Boids that fly as a flock: near each other, in one direction, but not too near. Each boid is an agent.

    Observation: float32 (num_boids, 4) per boid: of each other boid the offset, x and y, in widths of the
        plane, and the relative velocity, in tenths of a px per step; in its own row its position and velocity.
    Action: MultiDiscrete((5, 5)): add -4, -2, 0, 2 or 4 px per step to the velocity, to the right and downwards.
    Reward: `cohesion` times the number of neighbours (nearer than 100 px, at most eight) over eight; plus
        `alignment` times the mean product of its velocity and theirs, over the largest possible; minus
        `avoidance` times the number of boids nearer than 20 px, at most five, over five.
    Ends: the world is reset after `max_steps`, which truncates all. Nothing terminates.
    Score: the share of steps it flew in a flock: with four neighbours or more, none too near, and a mean
        product of velocities of at least half that of two boids at full speed along one axis.
    Differences from PufferLib: cohesion and alignment are rewarded (PufferLib's cohesion never is, and it has no
        alignment); positions and velocities are whole px; the edge stops a boid; the world has a time limit.
    """

    num_boids: int = static(default=64, minimum=1, maximum=MAX_AGENTS)
    cohesion: float = param(default=0.5, minimum=-10.0, maximum=10.0)  # reward per step for enough neighbours
    alignment: float = param(default=1.0, minimum=-10.0, maximum=10.0)  # reward per step for flying like its neighbours
    avoidance: float = param(default=3.0, minimum=-10.0, maximum=10.0)  # penalty per step for a full crowd
    max_steps: int = param(default=500, minimum=1)  # steps of the world before it is reset

    multi_agent = True
    action_space: ClassVar[Space] = MultiDiscrete((5, 5))

    @property
    def num_agents(self) -> int:
        return self.num_boids

    @property
    def observation_space(self) -> Space:
        return Box(-2.0, 2.0, (self.num_boids, FEATURES))

    def init(self, stream: Array) -> State:
        def one(stream: Array, _: None) -> tuple[Array, tuple[Array, ...]]:
            stream, x = rng.below(stream, WIDTH + 1)
            stream, y = rng.below(stream, HEIGHT + 1)
            stream, vx = rng.below(stream, 2 * MAX_SPEED + 1)
            stream, vy = rng.below(stream, 2 * MAX_SPEED + 1)
            return stream, (x, y, vx - MAX_SPEED, vy - MAX_SPEED)

        stream, (x, y, vx, vy) = lax.scan(one, stream, length=self.num_boids)
        return State(stream, x, y, vx, vy, flocked=jnp.zeros(self.num_boids, jnp.int32), steps=jnp.int32(0))

    def respawn(self, s: State, ended: Array) -> State:
        """No agent ends before the world does."""
        return s

    def neighbours(self, s: State) -> tuple[Array, Array, Array, Array]:
        """Each boid's neighbours, those that crowd it, and the sum of the neighbours' velocities."""

        def count(j: Array, counted: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
            near, crowd, sum_x, sum_y = counted
            dx, dy = s.x[j] - s.x, s.y[j] - s.y
            squared = dx * dx + dy * dy
            seen = squared < SIGHT_SQUARED
            near, crowd = near + jnp.int32(seen), crowd + jnp.int32(squared < TOUCH_SQUARED)
            return near, crowd, sum_x + jnp.where(seen, s.vx[j], 0), sum_y + jnp.where(seen, s.vy[j], 0)

        # all but itself
        none = jnp.full(self.num_boids, -1, jnp.int32)
        return lax.fori_loop(0, self.num_boids, count, (none, none, -s.vx, -s.vy))

    def move(self, x: Array, v: Array, action: Array, edge: int) -> tuple[Array, Array]:
        """One coordinate of all boids: change the velocity, move, and stop at the edge."""
        v = jnp.clip(v + PUSH * (action - STEADY), -MAX_SPEED, MAX_SPEED)
        to = x + v
        x = jnp.clip(to, 0, edge)
        return x, jnp.where(x == to, v, 0)

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        steps = s.steps + 1

        # all move
        x, vx = self.move(s.x, s.vx, action[:, 0], WIDTH)
        y, vy = self.move(s.y, s.vy, action[:, 1], HEIGHT)
        s = s.replace(x=x, y=y, vx=vx, vy=vy, steps=steps)

        # neighbours, up to a flock, and flying in their direction are rewarded; a crowd is penalised
        per_neighbour, per_crowding = self.cohesion * PER_FLOCK, self.avoidance * PER_CROWD
        near, crowd, sum_x, sum_y = self.neighbours(s)
        along = vx * sum_x + vy * sum_y
        aligned = jnp.float32(along) / jnp.float32(MAX_SPEED_SQUARED * jnp.maximum(near, 1))
        company = jnp.float32(jnp.minimum(near, FLOCK))
        crowding = jnp.float32(jnp.minimum(crowd, CROWD))
        reward = per_neighbour * company + self.alignment * aligned - per_crowding * crowding
        flocks = (near >= COMPANY) & (crowd == 0) & (along >= WITH_THEM * near)
        s = s.replace(flocked=s.flocked + jnp.int32(flocks))
        nobody = jnp.zeros(self.num_boids, bool)
        return s, Outcome(reward, terminated=nobody, truncated=nobody, reset=steps >= self.max_steps)

    def observe(self, s: State) -> Array:
        # to each of the boids in a row, from each of the boids in a column; its own features in its own row
        own = np.eye(self.num_boids, dtype=bool)
        columns = []
        for of_all, scale in ((s.x, PER_WIDTH), (s.y, PER_WIDTH), (s.vx, PER_MAX_SPEED), (s.vy, PER_MAX_SPEED)):
            relative = jnp.where(own, of_all[None], of_all[None] - of_all[:, None])
            columns.append(jnp.float32(relative) * scale)
        return jnp.stack(columns, -1)

    def score(self, s: State) -> Array:
        per_step = 1 / jnp.float32(jnp.maximum(s.steps, 1))
        return jnp.float32(s.flocked) * per_step

    def render(self, s: State) -> Array:
        shrink = 3  # px of the plane per px of the picture
        rows, columns = np.mgrid[0 : HEIGHT // shrink, 0 : WIDTH // shrink]
        picture = jnp.full((*rows.shape, 3), jnp.array([6, 24, 24], jnp.uint8))
        near, crowd, _, _ = self.neighbours(s)
        for k in range(self.num_boids):
            # a tail behind each; red if it is crowded, bright if it has enough neighbours
            bright = jnp.where(near[k] >= COMPANY, jnp.array([120, 230, 230]), jnp.array([0, 130, 130]))
            colour = jnp.where(crowd[k] > 0, jnp.array([187, 40, 40]), bright).astype(jnp.uint8)
            tail_x, tail_y = s.x[k] - s.vx[k], s.y[k] - s.vy[k]
            for x, y, squared in ((tail_x, tail_y, 2), (s.x[k], s.y[k], 7)):
                inside = (columns - x // shrink) ** 2 + (rows - y // shrink) ** 2 < squared
                picture = jnp.where(inside[:, :, None], colour, picture)
        return picture

    def player(self, s: State, stream: Array) -> Array:
        """The world's stream decides: in a flock, all to one point, into a corner, or at random."""
        near, crowd, sum_x, sum_y = self.neighbours(s)
        few = jnp.maximum(near, 1)

        def towards(wanted: Array, v: Array) -> Array:
            return jnp.clip((wanted - v) // PUSH, -2, 2) + STEADY

        def flocks(x: Array, v: Array, total: Array, middle: int, way: Array) -> Array:
            drawn = jnp.int32(jnp.where(jnp.abs(x - middle) > middle - 120, jnp.sign(middle - x) * 8, way))
            apart = jnp.where(crowd > 0, jnp.int32(np.arange(self.num_boids) % 5 - 2) * 2, 0)
            return towards((total // few + drawn) // 2 + apart, v)

        def heaps(x: Array, v: Array, to: int | Array) -> Array:
            return towards(jnp.clip((to - x) // 4, -MAX_SPEED, MAX_SPEED), v)

        def draw(stream: Array, _: None) -> tuple[Array, Array]:
            stream, a = rng.below(stream, 5)
            stream, b = rng.below(stream, 5)
            return stream, jnp.stack([a, b])

        _, wild = lax.scan(draw, stream, length=self.num_boids)
        middle_x, middle_y = WIDTH // 2, HEIGHT // 2
        way_x, way_y = jnp.sign(s.x.sum() % 7 - 3) * 8, jnp.sign(s.y.sum() % 5 - 2) * 8
        flock = [flocks(s.x, s.vx, sum_x, middle_x, way_x), flocks(s.y, s.vy, sum_y, middle_y, way_y)]
        heap = [heaps(s.x, s.vx, middle_x), heaps(s.y, s.vy, middle_y)]
        corner = [
            heaps(s.x, s.vx, WIDTH * jnp.int32(s.rng[1] % jnp.uint32(2))),
            heaps(s.y, s.vy, HEIGHT * jnp.int32((s.rng[1] // jnp.uint32(2)) % jnp.uint32(2))),
        ]
        style = s.rng[0] % jnp.uint32(6)
        tidy = jnp.where(style == 0, jnp.stack(heap, -1), jnp.stack(flock, -1))
        tidy = jnp.where(style == 1, jnp.stack(corner, -1), tidy)
        return jnp.where(style == 2, wild, tidy)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        near, crowd, sum_x, sum_y = self.neighbours(next_state)
        along = next_state.vx * sum_x + next_state.vy * sum_y
        return {
            "alone": (near == 0).any(),
            "a full flock": ((near >= FLOCK) & (crowd == 0)).any(),
            "a full crowd": (crowd >= CROWD).any(),
            "flew in a flock": (next_state.flocked > s.flocked).any(),
            "against the flock": ((near >= COMPANY) & (along < 0)).any(),
            "full speed": (jnp.abs(next_state.vx) + jnp.abs(next_state.vy) == 2 * MAX_SPEED).any(),
            "at the left": (next_state.x == 0).any(),
            "at the right": (next_state.x == WIDTH).any(),
            "at the top": (next_state.y == 0).any(),
            "at the bottom": (next_state.y == HEIGHT).any(),
            "time limit": next_state.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """All in a row: near the limit of sight or touch, or near the edge; or at the last step."""
        stream, which = rng.below(stream, 4)
        stream, off = rng.below(stream, 3)
        numbers = np.arange(self.num_boids)
        apart = jnp.where(which == 0, 100, 20) + off - 1
        near = jnp.where(which == 2, jnp.int32(numbers % 12), jnp.int32(300 + numbers % 3 * apart))
        still = jnp.where(which == 2, s.vx, 0)
        steps = jnp.where(which == 3, self.max_steps - 1 - off, s.steps)
        keep = which == 3
        return s.replace(
            x=jnp.where(keep, s.x, near),
            y=jnp.where(keep, s.y, jnp.full_like(s.y, 200)),
            vx=jnp.where(keep, s.vx, still),
            vy=jnp.where(keep, s.vy, jnp.zeros_like(s.vy)),
            steps=jnp.maximum(steps, 0),
        )
