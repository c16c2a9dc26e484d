"""Balance a pole on a cart. Twin of envs_c/cartpole.h and envs_c/cartpole_continuous.h."""

from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from jaxpuffer import numerics, rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param
from jaxpuffer.spaces import Box, Discrete, Space

STEP_SECONDS = 0.02
TRACK_HALF_LENGTH = 2.4  # m
MAX_ANGLE = 0.20943951  # rad, 12 degrees
START = 0.05  # every state variable starts at most this far from zero
ROD_INERTIA = 1.33333333  # 4/3: a uniform rod about its end


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    position: Array  # float32 (), m, of the cart, 0 in the middle
    velocity: Array  # float32 (), m/s
    angle: Array  # float32 (), rad, 0 upright, positive to the right
    angular_velocity: Array  # float32 (), rad/s
    steps: Array  # int32 (), since the episode began


class CartPole(Env[State]):
    """Balance a pole on a cart: the physics and rules of Gymnasium's CartPole-v1.

    Observation: float32 (4,): position in m, velocity in m/s, angle in rad,
        angular velocity in rad/s.
    Action: Discrete(2): push left, push right.
    Reward: +1 for every step.
    Ends: terminated when the cart leaves the track (2.4 m from the middle) or the
        pole leans more than 12 degrees, truncated after `max_steps`.
    Score: steps survived; perf is their share of `max_steps`.
    Differences from PufferLib: truncation at 500 steps as in Gymnasium's v1
        (PufferLib: 200, without a flag), starts within 0.05 (0.04), a reward of 1
        also for the last step (0).
    """

    gravity: float = param(default=9.8, minimum=0)  # m/s^2
    cart_mass: float = param(default=1.0, minimum=0.01, maximum=1000)  # kg
    pole_mass: float = param(default=0.1, minimum=0.001, maximum=1000)  # kg
    half_length: float = param(default=0.5, minimum=0.01, maximum=100)  # m, hinge to the pole's centre
    force: float = param(default=10.0, minimum=0, maximum=10000)  # N, of a push
    max_steps: int = param(default=500, minimum=1)  # steps before truncation

    observation_space = Box(-float("inf"), float("inf"), (4,))
    action_space: ClassVar[Space] = Discrete(2)

    def init(self, stream: Array) -> State:
        stream, position = rng.uniform(stream, -START, START)
        stream, velocity = rng.uniform(stream, -START, START)
        stream, angle = rng.uniform(stream, -START, START)
        stream, angular_velocity = rng.uniform(stream, -START, START)
        return State(stream, position, velocity, angle, angular_velocity, steps=jnp.int32(0))

    def push(self, s: State, fraction: Array) -> tuple[State, Outcome]:
        """The physics, pushed by a fraction of the largest force."""
        # accelerations of cart and pole; each term of parameters alone is one factor
        per_mass = 1 / (self.cart_mass + self.pole_mass)
        pole_share = self.pole_mass * per_mass
        pole_arm = pole_share * self.half_length
        force_per_mass = self.force * per_mass
        sine = numerics.sin(s.angle)
        cosine = numerics.cos(s.angle)
        push = fraction * force_per_mass + pole_arm * (s.angular_velocity * s.angular_velocity * sine)
        lever = self.half_length * (ROD_INERTIA - pole_share * (cosine * cosine))
        angular_acceleration = (self.gravity * sine - cosine * push) / lever
        acceleration = push - pole_arm * (angular_acceleration * cosine)

        # explicit Euler: positions move by the old velocities
        s = s.replace(
            position=s.position + STEP_SECONDS * s.velocity,
            velocity=s.velocity + STEP_SECONDS * acceleration,
            angle=s.angle + STEP_SECONDS * s.angular_velocity,
            angular_velocity=s.angular_velocity + STEP_SECONDS * angular_acceleration,
            steps=s.steps + 1,
        )

        # off the track, or fallen too far?
        off_track = (s.position < -TRACK_HALF_LENGTH) | (s.position > TRACK_HALF_LENGTH)
        fallen = (s.angle < -MAX_ANGLE) | (s.angle > MAX_ANGLE)

        terminated = off_track | fallen
        return s, Outcome(
            reward=jnp.float32(1.0),
            terminated=terminated,
            truncated=s.steps >= self.max_steps,
        )

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        return self.push(s, jnp.where(action == 1, jnp.float32(1.0), jnp.float32(-1.0)))

    def observe(self, s: State) -> Array:
        return jnp.stack([s.position, s.velocity, s.angle, s.angular_velocity])

    def score(self, s: State) -> Array:
        return jnp.float32(s.steps)

    def perf(self, s: State) -> Array:
        return jnp.float32(s.steps) * (1 / jnp.float32(self.max_steps))

    def render(self, s: State) -> Array:
        height, width, metre = 120, 300, 55.0
        y, x = jnp.mgrid[0:height, 0:width].astype(jnp.float32)
        ground = 95.0
        cart_x = width / 2 + s.position * metre
        # the pole is the set of points close to the segment from the hinge to its tip
        hinge_y = ground - 14.0
        tip_x = cart_x + 2 * self.half_length * metre * numerics.sin(s.angle)
        tip_y = hinge_y - 2 * self.half_length * metre * numerics.cos(s.angle)
        dx, dy = tip_x - cart_x, tip_y - hinge_y
        along = jnp.clip(((x - cart_x) * dx + (y - hinge_y) * dy) / (dx * dx + dy * dy), 0.0, 1.0)
        off_x, off_y = x - (cart_x + along * dx), y - (hinge_y + along * dy)
        pole = off_x * off_x + off_y * off_y < 9.0
        cart = (jnp.abs(x - cart_x) < 18) & (jnp.abs(y - (ground - 8)) < 8)
        edge = jnp.abs(jnp.abs(x - width / 2) - TRACK_HALF_LENGTH * metre) < 1
        track = (jnp.abs(y - ground) < 1) | (edge & (jnp.abs(y - ground) < 6))
        picture = jnp.full((height, width, 3), jnp.array([6, 24, 24], jnp.uint8))
        for shape, colour in ((track, (90, 110, 110)), (cart, (0, 187, 187)), (pole, (241, 241, 241))):
            picture = jnp.where(shape[:, :, None], jnp.array(colour, jnp.uint8), picture)
        return picture

    def player(self, s: State, stream: Array) -> Array:
        return jnp.int32(self._lean(s, stream) > 0)

    def _lean(self, s: State, stream: Array) -> Array:
        # each episode's stream chooses its style: balance, drift to either side, or drop the pole
        style = s.rng[0] % jnp.uint32(8)
        target = jnp.where(style == 0, 0.04, jnp.where(style == 1, -0.04, -0.02 * s.position - 0.03 * s.velocity))
        lean = s.angle + 0.3 * s.angular_velocity - target
        _, wild = rng.uniform(stream, -1.0, 1.0)
        return jnp.where(style >= 6, wild, lean)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        return {
            "left the track on the left": next_state.position < -TRACK_HALF_LENGTH,
            "left the track on the right": next_state.position > TRACK_HALF_LENGTH,
            "fell to the left": next_state.angle < -MAX_ANGLE,
            "fell to the right": next_state.angle > MAX_ANGLE,
            "time limit": next_state.steps >= self.max_steps,
        }


class CartPoleContinuous(CartPole):
    """CartPole pushed by a chosen force; everything except the action is the same.

    Action: Box(-1, 1, (1,)): force as a fraction of the largest push; clipped.
    """

    action_space: ClassVar[Space] = Box(-1.0, 1.0, (1,))

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        return self.push(s, jnp.clip(action[0], -1.0, 1.0))

    def player(self, s: State, stream: Array) -> Array:
        return 4.0 * self._lean(s, stream)[None]
