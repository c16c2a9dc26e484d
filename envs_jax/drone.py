"""Quadrotors that hover, race through rings and fly in formation. Twin of envs_c/drone.h."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import numerics, rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Space

HOVER, RACE, SWARM, TASKS = range(4)
LINE, CIRCLE, SQUARE, FORMATIONS = range(4)

# a body's motion: position in m, velocity in m/s, quaternion, turning in rad/s about its own axes (ahead, left, up)
X, Y, Z, VX, VY, VZ, QW, QX, QY, QZ, WX, WY, WZ, BODY = range(14)

MAX_AGENTS, ROTORS, OBS = 12, 4, 25

STEP = 0.02  # s
HALF_STEP = 0.01  # s
SIXTH_STEP = 0.0033333334  # s
BOUND = 10.0  # m, from the middle of the space to each wall
START = 6.0  # m, drones and targets begin at most this far from the middle, along each axis
MAX_RATE = 20.0  # rad/s, of turning about an axis
PER_LENGTH = 0.2  # 1/m, scale of observed offsets
PER_SPEED = 0.2  # s/m, of velocities
PER_RATE = 0.1  # s/rad, of turning
MAX_THRUST = 4.8  # N, of a rotor at full speed: 3e-5 N s^2 times (400 rad/s)^2
HOVER_SPEED = 0.715  # of full speed: four rotors then carry 1 kg
SPEED_RANGE = 0.285  # of full speed, up or down
MOTOR_SHARE = 0.33  # of the way to the commanded speed in a step: a time constant of 0.05 s
ROLL_GAIN = 7.07  # 1/(kg m): rotors 0.0707 m off each axis, 0.01 kg m^2 about x and y
YAW_GAIN = 1.0  # 1/(kg m): a torque of 0.02 m times the thrust, 0.02 kg m^2 about z
ROLL_DRAG = 5.0  # 1/kg: drag on turning is 0.05 m^2 times the drag on moving, over the inertia
YAW_DRAG = 2.5  # 1/kg
GYRO = 1.0  # inertia about z minus that about x, over that about x
RING_SQUARED = 1.0  # m^2, of a ring's radius
RIM_SQUARED = 1.44  # m^2: the rim is 0.2 m thick
NEAR_SQUARED = 1.0  # m^2: closer than this, drones of a swarm crowd
SPACING = 1.25  # m, between neighbours of a formation
CIRCLE_SPACING = 0.1989437  # m per drone: spacing over a full turn
CENTRE = 2.0  # m, a formation's middle is within this of the space's
TURN = 6.2831853  # rad
HALF_TURN = 3.14159265  # rad
MAX_CLIMB = 0.5  # rad, of a ring's direction
NOBODY = 1e9  # m^2, further than any drone

Vector = tuple[Array, ...]  # one array (num_drones,) or () per component


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    body: Array  # float32 (num_drones, 13)
    rotor: Array  # float32 (num_drones, 4), speeds, of full speed
    scale: Array  # float32 (num_drones, 3), lightness, thrust and nimbleness, relative to the standard drone
    target: Array  # float32 (num_drones, 3), m; in a race the middle of the next ring
    normal: Array  # float32 (num_drones, 3), the direction in which to fly through it
    closeness: Array  # float32 (num_drones,), summed over the episode
    rings: Array  # int32 (num_drones,), flown
    task: Array  # int32 ()
    formation: Array  # int32 ()
    centre: Array  # float32 (3,), m, of the formation
    steps: Array  # int32 (), since the world began


class Drone(Env[State]):
    """Quadrotors that hover at a point, race through rings, or fly in formation. Each drone is an agent.

    Observation: float32 (25,) per drone, vectors in its own frame: offset of
        the target (3), direction of the ring (3, zero outside a race), velocity (3), up (3),
        turning (3), rotor speeds (4), offset of the nearest other drone (3, zero if there is none), and
        which task it is: hover, race, swarm (3).
    Action: Box(-1, 1, (4,)): speeds of the rotors front left, front right, back right and back
        left; 0 hovers; clipped.
    Reward: `progress_reward` for each metre nearer to the target; `close_reward` over one plus
        the distance while hovering or in a swarm; 1 for a ring; penalties for spinning and for
        crowding in a swarm; -1 for a crash.
    Ends: a drone is terminated when it leaves the space, hits a ring's rim, or has flown its
        last ring; it starts again at once. The world is reset after `max_steps`, which truncates
        the others.
    Score: in a race the share of its rings flown, otherwise the mean closeness over `max_steps`; 0 to 1.
    Differences from PufferLib: see docs/envs/drone.md.
    """

    num_drones: int = static(default=4, minimum=1, maximum=MAX_AGENTS)
    task: int = param(default=TASKS, minimum=0, maximum=TASKS)  # hover, race, swarm, or drawn for each world
    num_rings: int = param(default=5, minimum=1, maximum=1000)  # rings of a race
    formation_steps: int = param(default=200, minimum=1)  # steps until a swarm takes another form
    gravity: float = param(default=9.81, minimum=0, maximum=100)  # m/s^2
    drag: float = param(default=0.2, minimum=0, maximum=2)  # N s/m
    randomization: float = param(default=0.05, minimum=0, maximum=0.5)  # largest relative difference from the standard
    progress_reward: float = param(default=0.3)  # per m nearer to the target
    close_reward: float = param(default=0.1)  # per step at the target; half of it at a distance of 1 m
    spin_penalty: float = param(default=0.0005)  # per (rad/s)^2 and step
    crowd_penalty: float = param(default=0.02)  # per step of a swarm's drone within 1 m of another
    max_steps: int = param(default=500, minimum=1)  # steps of the world before it is reset

    multi_agent = True
    observation_space: ClassVar[Space] = Box(-float("inf"), float("inf"), (OBS,))
    action_space: ClassVar[Space] = Box(-1.0, 1.0, (ROTORS,))

    @property
    def num_agents(self) -> int:
        return self.num_drones

    def slots(self, formation: Array, centre: Array) -> Array:
        """The places of all drones in the formation, (num_drones, 3)."""
        n = self.num_drones
        i = np.arange(n, dtype=np.float32)
        line_x = (i - np.float32(0.5) * np.float32(n - 1)) * np.float32(SPACING)
        angle = jnp.array(i * (np.float32(TURN) * (np.float32(1) / np.float32(n))))
        radius = np.float32(n) * np.float32(CIRCLE_SPACING)
        side = int(np.ceil(np.sqrt(n)))
        middle = np.float32(0.5) * np.float32(side - 1)
        square_x = (np.float32(np.arange(n) % side) - middle) * np.float32(SPACING)
        square_y = (np.float32(np.arange(n) // side) - middle) * np.float32(SPACING)
        x = jnp.where(formation == LINE, line_x, jnp.where(formation == CIRCLE, radius * numerics.cos(angle), square_x))
        y = jnp.where(
            formation == LINE, jnp.float32(0), jnp.where(formation == CIRCLE, radius * numerics.sin(angle), square_y)
        )
        return jnp.stack([centre[0] + x, centre[1] + y, jnp.broadcast_to(centre[2], (n,))], -1)

    def draw_formation(self, stream: Array) -> tuple[Array, Array, Array]:
        """A formation and the place of its middle."""
        stream, formation = rng.below(stream, FORMATIONS)
        stream, centre = _draw(stream, 3, CENTRE)
        return stream, formation, centre

    def draw_target(self, stream: Array, position: Array) -> tuple[Array, Array, Array]:
        """A target at random, and a direction through it that leads away from the drone."""
        stream, target = _draw(stream, 3, START)
        stream, heading = rng.uniform(stream, -HALF_TURN, HALF_TURN)
        stream, climb = rng.uniform(stream, -MAX_CLIMB, MAX_CLIMB)
        level = numerics.cos(climb)
        normal = level * numerics.cos(heading), level * numerics.sin(heading), numerics.sin(climb)
        ahead = _dot(normal, tuple(target[k] - position[k] for k in range(3)))
        sign = jnp.where(ahead < 0.0, jnp.float32(-1), jnp.float32(1))
        return stream, target, jnp.stack([sign * component for component in normal])

    def spawn(self, stream: Array) -> tuple[Array, tuple[Array, ...]]:
        """A drone with its own properties at random, level and at rest: (stream, (body, scale, target, normal))."""
        stream, position = _draw(stream, 3, START)
        stream, heading = rng.uniform(stream, -HALF_TURN, HALF_TURN)
        half_heading = 0.5 * heading
        zero = jnp.float32(0)
        attitude = jnp.stack([numerics.cos(half_heading), zero, zero, numerics.sin(half_heading)])
        body = jnp.concatenate([position, jnp.zeros(3, jnp.float32), attitude, jnp.zeros(3, jnp.float32)])
        stream, differs = _draw(stream, 3, self.randomization)
        stream, target, normal = self.draw_target(stream, position)
        return stream, (body, 1.0 + differs, target, normal)

    def respawn(self, s: State, ended: Array) -> State:
        """Reset the drones that ended, one after the other."""

        def one(stream: Array, ended: Array) -> tuple[Array, tuple[Array, ...]]:
            drawn, fresh = self.spawn(stream)
            return jnp.where(ended, drawn, stream), fresh

        stream, (body, scale, target, normal) = lax.scan(one, s.rng, ended)
        slots = self.slots(s.formation, s.centre)
        target = jnp.where(s.task == SWARM, slots, target)
        which = ended[:, None]
        return s.replace(
            rng=stream,
            body=jnp.where(which, body, s.body),
            rotor=jnp.where(which, jnp.float32(HOVER_SPEED), s.rotor),
            scale=jnp.where(which, scale, s.scale),
            target=jnp.where(which, target, s.target),
            normal=jnp.where(which, normal, s.normal),
            closeness=jnp.where(ended, jnp.float32(0), s.closeness),
            rings=jnp.where(ended, 0, s.rings),
        )

    def init(self, stream: Array) -> State:
        stream, drawn = rng.below(stream, TASKS)
        task = jnp.where(self.task == TASKS, drawn, self.task)
        stream, formation, centre = self.draw_formation(stream)
        n = self.num_drones

        def zeros(*shape: int) -> Array:
            return jnp.zeros((n, *shape), jnp.float32)

        s = State(
            stream,
            zeros(BODY),
            zeros(ROTORS),
            zeros(3),
            zeros(3),
            zeros(3),
            zeros(),
            jnp.zeros(n, jnp.int32),
            task,
            formation,
            centre,
            steps=jnp.int32(0),
        )
        return self.respawn(s, jnp.ones(n, bool))

    def derivative(self, push: Array, turn: Vector, per_drag: Vector, b: Vector) -> Vector:
        """How the body's motion changes under its rotors' push and turn."""
        qw, qx, qy, qz = b[QW : QZ + 1]
        wx, wy, wz = b[WX : WZ + 1]

        # the rotors push along the body's z axis
        return (
            b[VX],
            b[VY],
            b[VZ],
            push * (2.0 * (qx * qz + qw * qy)) - per_drag[0] * b[VX],
            push * (2.0 * (qy * qz - qw * qx)) - per_drag[0] * b[VY],
            push * (1.0 - 2.0 * (qx * qx + qy * qy)) - per_drag[0] * b[VZ] - self.gravity,
            # half the quaternion times the turning
            -0.5 * (qx * wx + qy * wy + qz * wz),
            0.5 * (qw * wx + qy * wz - qz * wy),
            0.5 * (qw * wy + qz * wx - qx * wz),
            0.5 * (qw * wz + qx * wy - qy * wx),
            # Euler's equations
            turn[0] - per_drag[1] * wx - GYRO * (wy * wz),
            turn[1] - per_drag[1] * wy + GYRO * (wx * wz),
            turn[2] - per_drag[2] * wz,
        )

    def move(self, scale: Vector, rotor: Vector, b: Vector) -> Vector:
        """A step of the motion, classical Runge-Kutta of the fourth order."""
        # thrusts, and the forces and torques that they produce
        strength = scale[1] * MAX_THRUST
        t0, t1, t2, t3 = (strength * (speed * speed) for speed in rotor)
        push = scale[0] * (t0 + t1 + t2 + t3)
        roll, yaw = scale[2] * ROLL_GAIN, scale[2] * YAW_GAIN
        turn = roll * (t0 - t1 - t2 + t3), roll * (t2 + t3 - t0 - t1), yaw * (t0 - t1 + t2 - t3)
        turning_drag = self.drag * scale[2]
        per_drag = self.drag * scale[0], turning_drag * ROLL_DRAG, turning_drag * YAW_DRAG

        # a loop, so that XLA does not compute all slopes again for each part of the motion
        def slope(carried: tuple[Vector, Vector], how: tuple[Array, Array]) -> tuple[tuple[Vector, Vector], None]:
            (k, total), (ahead, weight) = carried, how
            k = self.derivative(push, turn, per_drag, tuple(x + ahead * d for x, d in zip(b, k, strict=True)))
            return (k, tuple(t + weight * d for t, d in zip(total, k, strict=True))), None

        k1 = self.derivative(push, turn, per_drag, b)
        ahead = jnp.array([HALF_STEP, HALF_STEP, STEP], jnp.float32)
        weight = jnp.array([2.0, 2.0, 1.0], jnp.float32)
        (_, total), _ = lax.scan(slope, (k1, k1), (ahead, weight))
        moved = [x + SIXTH_STEP * t for x, t in zip(b, total, strict=True)]

        # limit the turning, and correct the quaternion's length to 1 by a step of Newton's method
        turning = tuple(jnp.clip(rate, -MAX_RATE, MAX_RATE) for rate in moved[WX:])
        q = moved[QW : QZ + 1]
        correction = 1.5 - 0.5 * (q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
        return (*moved[:QW], *(component * correction for component in q), *turning)

    def nearest(self, position: Vector) -> tuple[Array, Vector]:
        """The offsets of the nearest other drones and their squares; NOBODY and a zero offset if there is none."""
        least = jnp.full(self.num_drones, NOBODY, jnp.float32)
        offset: Vector = (jnp.zeros(self.num_drones, jnp.float32),) * 3
        numbers = np.arange(self.num_drones)
        for j in range(self.num_drones):
            away = tuple(component[j] - component for component in position)
            squared = _dot(away, away)
            nearer = (numbers != j) & (squared < least)
            least = jnp.where(nearer, squared, least)
            offset = tuple(jnp.where(nearer, new, old) for new, old in zip(away, offset, strict=True))
        return least, offset

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        steps = s.steps + 1
        racing = s.task == RACE
        body, target, normal = _components(s.body), _components(s.target), _components(s.normal)

        # the rotors' speeds approach the commanded ones, and the body moves
        command = HOVER_SPEED + SPEED_RANGE * jnp.clip(action, -1.0, 1.0)
        rotor = s.rotor + MOTOR_SHARE * (command - s.rotor)
        from0 = tuple(body[k] - target[k] for k in range(3))
        body = self.move(_components(s.scale), _components(rotor), body)
        from1 = tuple(body[k] - target[k] for k in range(3))

        # does it cross the ring's plane, and where?
        before, after = _dot(normal, from0), _dot(normal, from1)
        crossed = racing & (before < 0.0) & (after >= 0.0)
        share = jnp.where(crossed, before / jnp.where(crossed, before - after, jnp.float32(1)), jnp.float32(0))
        off = tuple(x0 + share * (x1 - x0) for x0, x1 in zip(from0, from1, strict=True))
        squared = _dot(off, off)
        passed = crossed & (squared <= RING_SQUARED)
        rim = crossed & ~passed & (squared <= RIM_SQUARED)
        rings = s.rings + jnp.int32(passed)

        # has it left the space, or flown the last ring?
        outside = (jnp.abs(body[X]) > BOUND) | (jnp.abs(body[Y]) > BOUND) | (jnp.abs(body[Z]) > BOUND)
        crashed = outside | rim
        terminated = crashed | (racing & (rings >= self.num_rings))

        # being near the target is rewarded, spinning is penalised
        distance0, distance1 = jnp.sqrt(_dot(from0, from0)), jnp.sqrt(_dot(from1, from1))
        close = 1.0 / (1.0 + distance1)
        spin = _dot(body[WX:], body[WX:])
        reward = self.progress_reward * (distance0 - distance1) - self.spin_penalty * spin
        reward = reward + jnp.where(racing, jnp.float32(passed), self.close_reward * close)
        reward = jnp.where(crashed, jnp.float32(-1), reward)

        # after all have moved: crowding in a swarm
        crowded = self.nearest(body[:VX])[0] < NEAR_SQUARED
        reward = jnp.where((s.task == SWARM) & crowded & ~terminated, reward - self.crowd_penalty, reward)

        # a drone that flew a ring gets the next one
        def next_ring(stream: Array, drone: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            passed, position = drone
            drawn, target, normal = self.draw_target(stream, position)
            return jnp.where(passed, drawn, stream), (target, normal)

        positions = jnp.stack(body[:VX], -1)
        stream, (next_target, next_normal) = lax.scan(next_ring, s.rng, (passed, positions))
        new_target = jnp.where(passed[:, None], next_target, s.target)
        new_normal = jnp.where(passed[:, None], next_normal, s.normal)

        # a swarm gets a new formation from time to time
        reform = (s.task == SWARM) & (lax.rem(steps, self.formation_steps) == 0)
        drawn, formation, centre = self.draw_formation(stream)
        formation, centre = jnp.where(reform, formation, s.formation), jnp.where(reform, centre, s.centre)
        s = s.replace(
            rng=jnp.where(reform, drawn, stream),
            body=jnp.stack(body, -1),
            rotor=rotor,
            target=jnp.where(reform, self.slots(formation, centre), new_target),
            normal=new_normal,
            closeness=s.closeness + close,
            rings=rings,
            formation=formation,
            centre=centre,
            steps=steps,
        )
        nobody = jnp.zeros_like(terminated)
        return s, Outcome(reward, terminated, truncated=nobody, reset=steps >= self.max_steps)

    def observe(self, s: State) -> Array:
        body, target, normal = _components(s.body), _components(s.target), _components(s.normal)
        zero = jnp.zeros(self.num_drones, jnp.float32)
        racing = jnp.where(s.task == RACE, jnp.float32(1), jnp.float32(0))
        offset = self.nearest(body[:VX])[1]
        tasks = jnp.float32(s.task == jnp.arange(TASKS, dtype=jnp.int32))
        return jnp.stack(
            [
                *_inward(body, tuple(target[k] - body[k] for k in range(3)), jnp.float32(PER_LENGTH)),
                *_inward(body, normal, racing),
                *_inward(body, body[VX:QW], jnp.float32(PER_SPEED)),
                *_inward(body, (zero, zero, zero + 1.0), jnp.float32(1)),
                *(rate * PER_RATE for rate in body[WX:]),
                *_components(s.rotor),
                *_inward(body, offset, jnp.float32(PER_LENGTH)),
                *(jnp.broadcast_to(tasks[k], zero.shape) for k in range(TASKS)),
            ],
            -1,
        )

    def score(self, s: State) -> Array:
        flown = jnp.float32(s.rings) * (1 / jnp.float32(self.num_rings))
        return jnp.where(s.task == RACE, flown, s.closeness * (1 / jnp.float32(self.max_steps)))

    def render(self, s: State) -> Array:
        height, width, metre = 260, 320, 9.0
        rows, columns = jnp.mgrid[0:height, 0:width].astype(jnp.float32)
        colours = jnp.array([[0, 187, 187], [241, 241, 241], [255, 170, 60], [150, 220, 90]], jnp.float32)

        # all objects are discs in an isometric view: (point in m, radius in pixels, colour)
        n = self.num_drones
        colour = colours[np.arange(n) % len(colours)]
        position = s.body[:, :VX]
        shadow = position.at[:, 2].set(-BOUND)
        body = _components(s.body)
        zero = jnp.zeros(n, jnp.float32)
        arms = [
            jnp.stack(
                [position[:, k] + 6.0 * component for k, component in enumerate(_outward(body, (x, y, zero)))], -1
            )
            for x, y in (
                (0.07 + zero, 0.07 + zero),
                (0.07 + zero, zero - 0.07),
                (zero - 0.07, zero - 0.07),
                (zero - 0.07, 0.07 + zero),
            )
        ]
        # a ring's points are around its direction, in the plane of two vectors at right angles to it
        across = jnp.stack([-s.normal[:, 1], s.normal[:, 0], zero], -1)
        across = across / jnp.sqrt(jnp.maximum((across * across).sum(-1, keepdims=True), 1e-6))
        over = jnp.cross(s.normal, across)
        racing = jnp.where(s.task == RACE, jnp.float32(1), jnp.float32(0))
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False).astype(np.float32)
        ring = [s.target + racing * (np.cos(a) * across + np.sin(a) * over) for a in angles]
        marks = np.linspace(-BOUND, BOUND, 9)
        corners = np.array([[x, y, -BOUND] for x in marks for y in marks], np.float32)
        dots = jnp.array(corners), shadow, *ring, position, *arms
        radii = [1.0, 2.0, *([1.6] * len(ring)), 4.0, *([2.5] * len(arms))]
        shades = [0.3, 0.25, *([0.8] * len(ring)), 1.0, *([0.75] * len(arms))]
        points = jnp.concatenate(dots)
        radius = jnp.concatenate([jnp.full(len(d), r, jnp.float32) for d, r in zip(dots, radii, strict=True)])
        shade = jnp.concatenate(
            [
                (colour if len(d) == n else jnp.full((len(d), 3), 200.0, jnp.float32)) * k
                for d, k in zip(dots, shades, strict=True)
            ]
        )
        across_screen = width / 2 + metre * 0.8 * (points[:, 0] - points[:, 1])
        down_screen = height / 2 + 10 + metre * (0.35 * (points[:, 0] + points[:, 1]) - 0.75 * points[:, 2])

        def paint(i: Array, picture: Array) -> Array:
            inside = (columns - across_screen[i]) ** 2 + (rows - down_screen[i]) ** 2 < radius[i] ** 2
            return jnp.where(inside[:, :, None], jnp.uint8(shade[i])[None, None], picture)

        picture = jnp.full((height, width, 3), jnp.array([6, 24, 24], jnp.uint8))
        return lax.fori_loop(jnp.int32(0), jnp.int32(len(points)), paint, picture)

    def player(self, s: State, stream: Array) -> Array:
        """A cascade: the aim, the lean for it, the turn for that. Some worlds drop, roll over or play at random."""
        body, target, normal = _components(s.body), _components(s.target), _components(s.normal)
        style = s.rng[0] >> jnp.uint32(28)

        # in a race, aim at a point before the ring, and once in line at one behind it; some aim at the rim
        offset = tuple(target[k] - body[k] for k in range(3))
        ahead = _dot(normal, offset)
        aside = tuple(offset[k] - ahead * normal[k] for k in range(3))
        through = (ahead > 0.0) & (jnp.sqrt(_dot(aside, aside)) < 0.6 + 0.5 * ahead)
        racing = s.task == RACE
        lead = jnp.where(racing, jnp.where(through, jnp.float32(2), jnp.float32(-1)), jnp.float32(0))
        beside = jnp.where(racing & (style == 3) & through, jnp.float32(1.3), jnp.float32(0))
        aim = tuple(offset[k] + lead * normal[k] + (beside if k == 2 else 0.0) for k in range(3))
        pull = [2.5 * jnp.clip(a, -4.0, 4.0) - 2.0 * v for a, v in zip(aim, body[VX:QW], strict=True)]
        wanted = _inward(body, (pull[0], pull[1], pull[2] + self.gravity), jnp.float32(0.1))
        lift = wanted[2] - 0.1 * self.gravity
        roll, pitch = -1.2 * wanted[1] - 0.25 * body[WX], 1.2 * wanted[0] - 0.25 * body[WY]
        steady = jnp.stack([lift + roll - pitch, lift - roll - pitch, lift - roll + pitch, lift + roll + pitch], -1)

        keys = jnp.arange(self.num_drones * ROTORS, dtype=jnp.uint32)
        words = jax.vmap(lambda k: rng.bits(stream ^ (k * jnp.uint32(0x9E3779B9)))[1])(keys)
        wild = jnp.float32(words >> jnp.uint32(8)).reshape(-1, ROTORS) * jnp.float32(2.0**-23) - 1.0
        drop, roll_over = -jnp.ones_like(wild), jnp.array([1.0, -1.0, -1.0, 1.0], jnp.float32)[None] + 0.0 * wild
        careless = jnp.where(style == 0, drop, jnp.where(style == 1, roll_over, 1.5 * wild))
        return jnp.where(style <= 2, careless, steady + 0.05 * wild)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        outside = jnp.abs(next_state.body[:, :VX]) > BOUND
        racing, swarm = s.task == RACE, s.task == SWARM
        passed = next_state.rings > s.rings
        rates = jnp.abs(next_state.body[:, WX:])
        near = self.nearest(_components(next_state.body)[:VX])[0] < NEAR_SQUARED
        outcome = self.transition(s, action)[1]
        crash = outcome.reward == -1.0
        reform = swarm & (lax.rem(next_state.steps, self.formation_steps) == 0)
        return {
            "hovered at the target": (s.task == HOVER) & ((next_state.closeness - s.closeness) > 0.8).any(),
            "left on the left or the right": outside[:, 1].any(),
            "left at the front or the back": outside[:, 0].any(),
            "left at the top or the bottom": outside[:, 2].any(),
            "flew a ring": passed.any(),
            "hit a rim": (racing & crash & ~outside.any(-1)).any(),
            "flew the last ring": (racing & (next_state.rings >= self.num_rings)).any(),
            "crowded": (swarm & near).any(),
            "formed a line": reform & (next_state.formation == LINE),
            "formed a circle": reform & (next_state.formation == CIRCLE),
            "formed a square": reform & (next_state.formation == SQUARE),
            "turned as fast as it may": (rates >= MAX_RATE).any(),
            "time limit": next_state.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """Just before a ring, at its rim or outside it; at a wall; two drones a metre apart; the last step."""
        stream, which = rng.below(stream, 6)
        stream, off = rng.below(stream, 5)
        stream, last = rng.below(stream, 2)
        # the distance from the middle of the ring, and how far before its plane
        distance = jnp.array([0.0, 0.99, 1.0, 1.1, 1.2], jnp.float32)[off]
        body = s.body.at[:, :QW].set(0.0)
        ahead = jnp.array([[1.0, 0.0, 0.0]], jnp.float32)
        beside = jnp.array([[0.0, 1.0, 0.0]], jnp.float32)
        body = body.at[:, :3].set(s.target - 0.02 * ahead + distance * beside).at[:, VX].set(2.0)
        ringed = s.replace(
            body=body, normal=jnp.broadcast_to(ahead, s.normal.shape), rings=jnp.full_like(s.rings, self.num_rings - 1)
        )
        walled = s.replace(body=s.body.at[:, X].set(BOUND).at[:, VX].set(jnp.where(last == 0, -0.1, 0.1)))
        paired = s.replace(body=s.body.at[:, :3].set(jnp.arange(self.num_drones, dtype=jnp.float32)[:, None] * ahead))
        late = s.replace(steps=self.max_steps - 1 - last)
        forming = s.replace(steps=self.formation_steps - 1 - last)
        spinning = s.replace(body=s.body.at[:, WX:].set(MAX_RATE))
        cases = [ringed, walled, paired, late, forming, spinning]
        return jax.tree.map(lambda *options: jnp.stack(options)[which], *cases)


def _draw(stream: Array, count: int, reach: Array | float) -> tuple[Array, Array]:
    """`count` uniform float32 from -reach to reach."""
    drawn = []
    for _ in range(count):
        stream, value = rng.uniform(stream, -reach, reach)
        drawn.append(value)
    return stream, jnp.stack(drawn)


def _components(x: Array) -> Vector:
    """The entries of the last axis, one array each."""
    return tuple(x[..., k] for k in range(x.shape[-1]))


def _dot(a: Vector, b: Vector) -> Array:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _inward(b: Vector, world: Vector, scale: Array) -> Vector:
    """A vector of the world as the drones see it."""
    qw, qx, qy, qz = b[QW : QZ + 1]
    x, y, z = world
    return (
        scale * ((1.0 - 2.0 * (qy * qy + qz * qz)) * x + 2.0 * (qx * qy + qw * qz) * y + 2.0 * (qx * qz - qw * qy) * z),
        scale * (2.0 * (qx * qy - qw * qz) * x + (1.0 - 2.0 * (qx * qx + qz * qz)) * y + 2.0 * (qy * qz + qw * qx) * z),
        scale * (2.0 * (qx * qz + qw * qy) * x + 2.0 * (qy * qz - qw * qx) * y + (1.0 - 2.0 * (qx * qx + qy * qy)) * z),
    )


def _outward(b: Vector, own: Vector) -> Vector:
    """The inverse, for pictures."""
    return _inward((*b[:QX], -b[QX], -b[QY], -b[QZ], *b[WX:]), own, jnp.float32(1))
