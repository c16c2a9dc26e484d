"""Two tanks that search for, and shoot at, each other in an arena. Twin of envs_c/robocode.h."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import numerics, rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param
from jaxpuffer.spaces import Box, MultiDiscrete

MOVE, TURN, GUN, RADAR, FIRE, CHOICES = range(6)

# places and velocities are in 1/64 px, headings in quarters of a degree, clockwise from up; energy and heat in tenths
PX = 64
HALF = 18 * PX  # of a tank's side
APART = 36  # px, from the arena's middle line to where tanks start, at least

WHOLE = 1440  # a whole turn
QUARTER = 360  # a quarter turn
ONE = 1 << 14  # a sine of 1
PER_STEP = 8  # bits: a sine times px per step, in 1/64 px
TURNS = 40  # 10 degrees per step, of the body at rest
TURNS_LESS = 3  # 0.75 degrees less for each px per step

MAX_SPEED = 8  # px per step
BRAKES = 2  # px per step, in a step
BULLET_SPEED = 20  # px per step
BULLET_SLOWER = 3  # for each unit of power
BULLETS = 8  # of a tank in flight at once

ENERGY = 1000  # at the start
COST = 10  # of a shot, for each unit of power
DAMAGE = 60  # of a hit, for each unit of power: 4 power + 2 (power - 1)
DAMAGE_LESS = 20
GAIN = 30  # of a hit, for each unit of power
WALL = 5  # damage of a wall, for each px per step: speed / 2 - 1
WALL_LESS = 10
COLLISION = 6  # damage to both
START_HEAT = 30
SHOT_HEAT = 10  # of a shot: 1 + power / 5
POWER_HEAT = 2

MAX_AGE = 32  # steps since the enemy was seen, or more
OBS = 23

PER_ONE = 6.10351562e-5  # of a sine: 2^-14
PER_SPEED = 0.125  # 1 / 8 px per step
PER_VELOCITY = 0.001953125  # 1 / 8 px per step, in 1/64 px: 2^-9
PER_HEAT = 0.0333333333  # 1 / 30 tenths
PER_ENERGY = 0.001  # 1 / 1000 tenths
PER_AGE = 0.03125  # 1 / 32 steps
PER_LENGTH = 1.5625e-5  # 1 / 1000 px
PER_TENTH = 0.1  # units of energy

GUN_TURNS = np.array([-80, -40, -16, -4, 0, 4, 16, 40, 80], np.int32)
RADAR_TURNS = np.array([-180, -80, -20, 0, 20, 80, 180], np.int32)

# the scripts
NEAR, FAR = 200.0, 400.0  # px, up to which a shot has power 3 and 2
KEPT = 150.0  # px, the distance that a leader keeps
LEAN = 1.2  # quarters of a degree that it drives nearer, for each px that it is too far
MOST = 160.0  # quarters of a degree, of that
FEELER, MARGIN = 90.0, 30.0  # px: so far ahead it looks for a wall, and so far from walls it turns round
SPELL = 24  # steps from one choice of its direction to the next
PAST = 60.0  # quarters of a degree that a radar turns past the enemy
LOST, FORGOTTEN = 2, 12  # steps without seeing it after which the radar searches, and no shot is fired
AIMED = 16.0  # px beside the enemy's middle, at most, where it shoots

BACKGROUND, FLOOR = (12, 14, 24), (34, 40, 54)
TANK_COLOURS, TRACK_COLOURS = ((80, 150, 240), (240, 120, 70)), ((40, 75, 120), (120, 60, 35))
GUN_COLOURS, RADAR_COLOURS = ((200, 225, 255), (255, 220, 190)), ((46, 68, 100), (86, 60, 58))
BULLET_COLOUR = (250, 240, 160)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    x: Array  # int32 (2,), of each tank's middle, from the left
    y: Array  # int32 (2,), from below
    heading: Array  # int32 (2,), of the body
    gun: Array  # int32 (2,), heading of the gun
    radar: Array  # int32 (2,), heading of the radar
    speed: Array  # int32 (2,), px per step, ahead if positive
    heat: Array  # int32 (2,), of the gun; it shoots at 0
    energy: Array  # int32 (2,)
    seen_x: Array  # int32 (2,), the enemy's place when the radar last saw it
    seen_y: Array  # int32 (2,)
    seen_vx: Array  # int32 (2,), its velocity
    seen_vy: Array  # int32 (2,)
    seen_energy: Array  # int32 (2,)
    seen_age: Array  # int32 (2,), steps since then, at most 32
    bullet_x: Array  # int32 (2, 8), of each tank's bullets
    bullet_y: Array  # int32 (2, 8)
    bullet_vx: Array  # int32 (2, 8)
    bullet_vy: Array  # int32 (2, 8)
    bullet_power: Array  # int32 (2, 8), 0: there is none
    shots: Array  # int32 (2,)
    hits: Array  # int32 (2,)
    steps: Array  # int32 (), since the episode began


def other(values: Array) -> Array:
    """For each tank the value of the other one, (2,)."""
    return jnp.stack([values[1], values[0]])  # XLA does not vectorise `values[::-1]` on a CPU


def turned(heading: Array, by: Array) -> Array:
    """A heading turned by less than a whole turn, clockwise if positive."""
    turned = heading + by
    return jnp.where(turned < 0, turned + WHOLE, jnp.where(turned >= WHOLE, turned - WHOLE, turned))


def cosine(heading: Array) -> Array:
    """The cosine of a heading, times 2^14: the sine of the rest of a quarter turn.

    A polynomial in whole numbers that is 1.3e-4 off at most.
    """
    r = jnp.abs(heading - WHOLE // 2) - QUARTER
    q = r * r
    return (r * (36588 - ((q * (7559 - ((q * 1700) >> 18))) >> 16)) + 256) >> 9


def sine(heading: Array) -> Array:
    return cosine(turned(heading, jnp.int32(-QUARTER)))


def velocity(heading: Array, speed: Array) -> tuple[Array, Array]:
    """How far something of this speed, in px per step, gets in a step, to the right and upwards."""
    half = 1 << (PER_STEP - 1)
    return (speed * sine(heading) + half) >> PER_STEP, (speed * cosine(heading) + half) >> PER_STEP


def bearing(dx: Array, dy: Array) -> Array:
    """The heading to an offset, float32, in quarters of a degree."""
    return numerics.atan2(dx, dy) * (WHOLE / (2 * np.pi))


def wrapped(angle: Array) -> Array:
    """The same angle from minus half a turn to half a turn."""
    return angle - WHOLE * jnp.round(angle * (1 / WHOLE))


def nearest(turns: np.ndarray, wanted: Array) -> Array:
    """Which of the turns is nearest to the one that is wanted."""
    return jnp.int32(jnp.argmin(jnp.abs(jnp.asarray(turns, jnp.float32)[None] - wanted[:, None]), -1))


class Robocode(Env[State]):
    """Two tanks that search for, and shoot at, each other in an arena. Each tank is an agent.

    Body, gun and radar turn apart; the gun turns with the body, and the radar with the gun. A tank sees the enemy only
    where its radar sweeps. Who has no energy left is destroyed.

    Observation: float32 (23,) of each tank: [0, 1] its place from the middle, in halves of the arena; [2, 3] sine and
        cosine of its body's heading; [4] its speed / 8 px; sine and cosine of the angle [5, 6] from the body to the
        gun and [7, 8] from the gun to the radar; [9] heat of the gun / 3; [10] energy / 100. Of the enemy, as the radar
        saw it last: [11] steps since then / 32, at most 1; [12] distance / 1000 px; sine and cosine of the angle to it
        from [13, 14] the body, [15, 16] the gun and [17, 18] the radar; [19, 20] its velocity away from the tank and
        across, clockwise, / 8 px; [21] its energy / 100. [22] The share of the time left.
    Action: MultiDiscrete((3, 3, 9, 7, 4)): drive back, stop, ahead; turn the body left, not, right; turn the gun by
        -20, -10, -4, -1, 0, 1, 4, 10, 20 degrees, and the radar by -45, -20, -5, 0, 5, 20, 45; power of a shot, 0 none.
    Reward: `energy_reward` for each unit of energy that a tank gains or the enemy loses, and minus that for each that
        it loses or the enemy gains; `win_reward` for destroying the enemy, minus that for being destroyed.
    Ends: terminated when a tank is destroyed, truncated after `max_steps`.
    Score: 1 for the tank with more energy, -1 for the other, 0 if they have the same; perf is 0.5 + 0.5 score.
    Differences from PufferLib: see docs/envs/robocode.md.
    """

    width: int = param(default=800, minimum=200, maximum=1000)  # px, of the arena
    height: int = param(default=600, minimum=200, maximum=1000)  # px
    cooling: int = param(default=1, minimum=1, maximum=30)  # tenths of the gun's heat that are gone in a step
    energy_reward: float = param(default=0.01)  # for each unit of energy that a tank gains, or the enemy loses
    win_reward: float = param(default=1.0)  # for destroying the enemy
    max_steps: int = param(default=1000, minimum=1)  # steps before truncation

    multi_agent = True
    num_agents = 2
    teams = (0, 1)
    action_space: ClassVar = MultiDiscrete((3, 3, len(GUN_TURNS), len(RADAR_TURNS), 4))
    observation_space: ClassVar = Box(-3.0, 3.0, (OBS,))

    def init(self, stream: Array) -> State:
        edge = HALF // PX
        stream, left = rng.below(stream, 2)
        x, y, heading = [], [], []
        for a in range(2):
            # one in the left half of the arena, one in the right
            stream, drawn = rng.below(stream, self.width // 2 - (APART + edge))
            x.append(jnp.where(a == left, edge + drawn, self.width - edge - drawn) * PX)
            stream, drawn = rng.below(stream, self.height - (2 * edge - 1))
            y.append((edge + drawn) * PX)
            stream, drawn = rng.below(stream, WHOLE)
            heading.append(drawn)

        # the enemy has not been seen: as if it had been in the middle, long ago
        none, both, bullets = jnp.zeros(2, jnp.int32), jnp.ones(2, jnp.int32), jnp.zeros((2, BULLETS), jnp.int32)
        facing = jnp.stack(heading)
        return State(
            rng=stream,
            x=jnp.stack(x),
            y=jnp.stack(y),
            heading=facing,
            gun=facing,
            radar=facing,
            speed=none,
            heat=both * START_HEAT,
            energy=both * ENERGY,
            seen_x=both * self.width * (PX // 2),
            seen_y=both * self.height * (PX // 2),
            seen_vx=none,
            seen_vy=none,
            seen_energy=both * ENERGY,
            seen_age=both * MAX_AGE,
            bullet_x=bullets,
            bullet_y=bullets,
            bullet_vx=bullets,
            bullet_vy=bullets,
            bullet_power=bullets,
            shots=none,
            hits=none,
            steps=jnp.int32(0),
        )

    def fly(self, s: State) -> State:
        """Bullets fly on, and hit the enemy if their way of this step crosses its square, or leave the arena."""
        power, vx, vy = s.bullet_power, s.bullet_vx, s.bullet_vy
        flies, wide, high = power > 0, jnp.abs(vx), jnp.abs(vy)
        x, y = jnp.where(flies, s.bullet_x + vx, s.bullet_x), jnp.where(flies, s.bullet_y + vy, s.bullet_y)

        # twice the offset of the way's middle, and the square's half sides along both axes and across the way
        dx, dy = x - other(s.x)[:, None], y - other(s.y)[:, None]
        hit = flies & (jnp.abs(2 * dx - vx) <= 2 * HALF + wide) & (jnp.abs(2 * dy - vy) <= 2 * HALF + high)
        hit = hit & (jnp.abs(dx * vy - dy * vx) <= HALF * (wide + high))
        hits, powers = hit.sum(1, dtype=jnp.int32), jnp.where(hit, power, 0).sum(1, dtype=jnp.int32)
        inside = (x >= 0) & (x <= self.width * PX) & (y >= 0) & (y <= self.height * PX)
        return s.replace(
            energy=s.energy - other(DAMAGE * powers - DAMAGE_LESS * hits) + GAIN * powers,
            hits=s.hits + hits,
            bullet_x=x,
            bullet_y=y,
            bullet_power=jnp.where(hit | ~inside, 0, power),
        )

    def fire(self, s: State, action: Array) -> State:
        """Guns cool, and shoot if they can, with the first bullet that is not in flight."""
        power, cost = action[:, FIRE], COST * action[:, FIRE]
        heat = jnp.maximum(s.heat - self.cooling, 0)
        bullets = jnp.arange(BULLETS, dtype=jnp.int32)
        free = jnp.where(s.bullet_power == 0, bullets, BULLETS).min(1)
        fires = (power > 0) & (heat == 0) & (s.energy > cost) & (free < BULLETS)
        new = fires[:, None] & (bullets[None] == free[:, None])
        vx, vy = velocity(s.gun, BULLET_SPEED - BULLET_SLOWER * power)
        return s.replace(
            bullet_x=jnp.where(new, s.x[:, None], s.bullet_x),
            bullet_y=jnp.where(new, s.y[:, None], s.bullet_y),
            bullet_vx=jnp.where(new, vx[:, None], s.bullet_vx),
            bullet_vy=jnp.where(new, vy[:, None], s.bullet_vy),
            bullet_power=jnp.where(new, power[:, None], s.bullet_power),
            energy=jnp.where(fires, s.energy - cost, s.energy),
            heat=jnp.where(fires, SHOT_HEAT + POWER_HEAT * power, heat),
            shots=s.shots + jnp.int32(fires),
        )

    def drive(self, s: State, action: Array) -> State:
        """Tanks turn and drive, at most to the walls, and stay where they are if they would overlap."""
        speed, drive = s.speed, action[:, MOVE] - 1

        # the body turns slower at speed; the gun turns with it, and the radar with the gun
        body = (action[:, TURN] - 1) * (TURNS - TURNS_LESS * jnp.abs(speed))
        gun = body + jnp.asarray(GUN_TURNS)[action[:, GUN]]
        radar = gun + jnp.asarray(RADAR_TURNS)[action[:, RADAR]]
        heading = turned(s.heading, body)

        # faster, or braking until it stands
        faster = jnp.clip(speed + drive, -MAX_SPEED, MAX_SPEED)
        slower = speed - jnp.clip(speed, -BRAKES, BRAKES)
        speed = jnp.where((speed == 0) | (speed * drive > 0), faster, slower)

        # at a wall it stops, and is damaged if it was fast
        vx, vy = velocity(heading, speed)
        x = jnp.clip(s.x + vx, HALF, self.width * PX - HALF)
        y = jnp.clip(s.y + vy, HALF, self.height * PX - HALF)
        wall = (x != s.x + vx) | (y != s.y + vy)
        damage = jnp.where(wall, jnp.maximum(WALL * jnp.abs(speed) - WALL_LESS, 0), 0)

        # they collide
        collide = (jnp.abs(x - other(x)) < 2 * HALF) & (jnp.abs(y - other(y)) < 2 * HALF)
        return s.replace(
            x=jnp.where(collide, s.x, x),
            y=jnp.where(collide, s.y, y),
            heading=heading,
            gun=turned(s.gun, gun),
            radar=turned(s.radar, radar),
            speed=jnp.where(wall | collide, 0, speed),
            energy=s.energy - damage - jnp.where(collide, COLLISION, 0),
        )

    def scan(self, s: State, before: Array) -> State:
        """Radars see the enemy if its middle is in the sector that they swept, or 18 px from it at most."""
        dx, dy, reach = other(s.x) - s.x, other(s.y) - s.y, HALF * ONE
        clockwise = turned(s.radar, -before) < WHOLE // 2
        left, right = jnp.where(clockwise, before, s.radar), jnp.where(clockwise, s.radar, before)
        left_x, left_y, right_x, right_y = sine(left), cosine(left), sine(right), cosine(right)
        sees = (dx * left_y - dy * left_x >= -reach) & (dx * right_y - dy * right_x <= reach)
        sees = sees & ((dx * left_x + dy * left_y > 0) | (dx * right_x + dy * right_y > 0))
        vx, vy = velocity(other(s.heading), other(s.speed))
        return s.replace(
            seen_x=jnp.where(sees, other(s.x), s.seen_x),
            seen_y=jnp.where(sees, other(s.y), s.seen_y),
            seen_vx=jnp.where(sees, vx, s.seen_vx),
            seen_vy=jnp.where(sees, vy, s.seen_vy),
            seen_energy=jnp.where(sees, other(s.energy), s.seen_energy),
            seen_age=jnp.where(sees, 0, jnp.minimum(s.seen_age + 1, MAX_AGE)),
        )

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        before = s
        s = self.drive(self.fire(self.fly(s), action), action)
        s = self.scan(s.replace(energy=jnp.maximum(s.energy, 0)), before.radar)
        s = s.replace(steps=s.steps + 1)

        # what one wins the other loses
        gone, gained = s.energy == 0, s.energy - before.energy
        change = jnp.float32(gained - other(gained)) * (self.energy_reward * PER_TENTH)
        return s, Outcome(
            reward=change + jnp.float32(jnp.int32(other(gone)) - jnp.int32(gone)) * self.win_reward,
            terminated=gone | other(gone),
            truncated=jnp.broadcast_to(s.steps >= self.max_steps, (2,)),
        )

    def respawn(self, s: State, ended: Array) -> State:
        """Tanks end only together."""
        return s

    def observe(self, s: State) -> Array:
        # the tank
        gun, radar = turned(s.gun, -s.heading), turned(s.radar, -s.gun)
        wide, high = self.width * PX, self.height * PX
        frames = [
            (jnp.float32(sine(angle)) * PER_ONE, jnp.float32(cosine(angle)) * PER_ONE)
            for angle in (s.heading, gun, radar)
        ]

        # the enemy, where it was seen last
        dx, dy = jnp.float32(s.seen_x - s.x), jnp.float32(s.seen_y - s.y)
        distance = jnp.sqrt(dx * dx + dy * dy)
        length = jnp.where(distance > 0.0, distance, 1.0)
        ux, uy, vx, vy = dx / length, dy / length, jnp.float32(s.seen_vx), jnp.float32(s.seen_vy)

        # its direction, the parts to the right and ahead, as seen from the body, then from the gun and the radar
        right, ahead, seen = ux, uy, []
        for across, along in frames:
            right, ahead = right * along - ahead * across, right * across + ahead * along
            seen += [right, ahead]
        return jnp.stack(
            [
                jnp.float32(2 * s.x - wide) * (1 / jnp.float32(wide)),
                jnp.float32(2 * s.y - high) * (1 / jnp.float32(high)),
                *frames[0],
                jnp.float32(s.speed) * PER_SPEED,
                *frames[1],
                *frames[2],
                jnp.float32(s.heat) * PER_HEAT,
                jnp.float32(s.energy) * PER_ENERGY,
                jnp.float32(s.seen_age) * PER_AGE,
                distance * PER_LENGTH,
                *seen,
                (vx * ux + vy * uy) * PER_VELOCITY,
                (vx * uy - vy * ux) * PER_VELOCITY,
                jnp.float32(s.seen_energy) * PER_ENERGY,
                jnp.broadcast_to(jnp.float32(self.max_steps - s.steps) * (1 / jnp.float32(self.max_steps)), (2,)),
            ],
            -1,
        )

    def score(self, s: State) -> Array:
        """1 for the tank with more energy, -1 for the other, 0 if they have the same."""
        return jnp.float32(jnp.sign(s.energy - other(s.energy)))

    def perf(self, s: State) -> Array:
        return 0.5 + 0.5 * self.score(s)

    def figures(self, s: State) -> dict[str, Array]:
        return {"hits": jnp.float32(s.hits), "shots": jnp.float32(s.shots)}

    def render(self, s: State) -> Array:
        # the arena as large as there is room; below it the energy of both
        rows, columns, bar = 300, 400, 12
        px = jnp.maximum(jnp.float32(self.width) / columns, jnp.float32(self.height) / rows)
        right = (np.arange(columns, dtype=np.float32)[None] - (0.5 * columns - 0.5)) * px + 0.5 * jnp.float32(
            self.width
        )
        up = ((0.5 * rows - 0.5) - np.arange(rows, dtype=np.float32)[:, None]) * px + 0.5 * jnp.float32(self.height)
        inside = (right >= 0.0) & (right <= jnp.float32(self.width)) & (up >= 0.0) & (up <= jnp.float32(self.height))

        def seen_from(a: int, heading: Array) -> tuple[Array, Array]:
            """Of each px of the picture: how far across and ahead it is, as seen from a tank, in px of the arena."""
            x, y = right - jnp.float32(s.x[a]) * (1 / PX), up - jnp.float32(s.y[a]) * (1 / PX)
            to_right, to_top = jnp.float32(sine(heading)) * PER_ONE, jnp.float32(cosine(heading)) * PER_ONE
            return jnp.abs(x * to_top - y * to_right), x * to_right + y * to_top

        # where their radars look
        parts = [(inside, FLOOR)]
        for a in range(2):
            across, ahead = seen_from(a, s.radar[a])
            parts.append((inside & (across < 0.08 * ahead), RADAR_COLOURS[a]))

        # tanks with their tracks and guns
        for a in range(2):
            across, ahead = seen_from(a, s.heading[a])
            body = (s.energy[a] > 0) & (across < 18.0) & (jnp.abs(ahead) < 18.0)
            parts += [(body, TANK_COLOURS[a]), (body & (across > 11.0), TRACK_COLOURS[a])]
            across, ahead = seen_from(a, s.gun[a])
            gun = (across * across + ahead * ahead < 64.0) | ((across < 2.5) & (ahead > 0.0) & (ahead < 30.0))
            parts.append(((s.energy[a] > 0) & gun, GUN_COLOURS[a]))

        # bullets, the larger the more power they have
        x, y, power = (jnp.float32(v.reshape(-1, 1, 1)) for v in (s.bullet_x, s.bullet_y, s.bullet_power))
        x, y, radius = right[None] - x * (1 / PX), up[None] - y * (1 / PX), 2.0 + power
        parts.append((((x * x + y * y < radius * radius) & (power > 0.0)).any(0), BULLET_COLOUR))

        picture = jnp.full((rows, columns, 3), jnp.array(BACKGROUND, jnp.uint8))
        for where, colour in parts:
            picture = jnp.where(where[..., None], jnp.array(colour, jnp.uint8), picture)

        # 1.8 px of the picture for a unit of energy
        strip = jnp.full((bar, columns, 3), jnp.array(BACKGROUND, jnp.uint8))
        place = np.arange(columns, dtype=np.float32)[None, :, None]
        for a, from_edge in enumerate((place, columns - 1 - place)):
            filled = from_edge < jnp.float32(s.energy[a]) * 0.18
            strip = jnp.where(filled, jnp.array(TANK_COLOURS[a], jnp.uint8), strip)
        return jnp.concatenate([picture, strip])

    bots: ClassVar = ("sitting", "circling", "hunter", "leader")

    def expect(self, s: State, steps: Array) -> tuple[Array, Array]:
        """The offset of the enemy so many steps after it was seen, in px, if it drives straight on up to the walls."""
        x = jnp.clip(s.seen_x + s.seen_vx * steps, HALF, self.width * PX - HALF)
        y = jnp.clip(s.seen_y + s.seen_vy * steps, HALF, self.height * PX - HALF)
        return jnp.float32(x - s.x) * (1 / PX), jnp.float32(y - s.y) * (1 / PX)

    def evade(self, s: State, enemy: Array, distance: Array) -> Array:
        """The heading of a leader: across the line to the enemy, to one side or the other, and not into a wall."""
        chosen = (s.rng >> jnp.uint32(s.steps // SPELL % 32)) & jnp.uint32(1)
        side = jnp.where(chosen == 1, 1.0, -1.0)
        wanted = enemy + side * (QUARTER - jnp.clip((distance - KEPT) * LEAN, -MOST, MOST))
        angle = wanted * (2 * np.pi / WHOLE)
        x = jnp.float32(s.x) * (1 / PX) + FEELER * numerics.sin(angle)
        y = jnp.float32(s.y) * (1 / PX) + FEELER * numerics.cos(angle)
        right, top = jnp.float32(self.width) - MARGIN, jnp.float32(self.height) - MARGIN
        return jnp.where((x < MARGIN) | (x > right) | (y < MARGIN) | (y > top), 2.0 * enemy - wanted, wanted)

    def bot(self, s: State, stream: Array, name: str) -> Array:
        """Scripts that know what an agent sees.

        sitting: turns its gun to where it saw the enemy, and shoots.
        circling: the same, while it drives in a circle.
        hunter: drives at the enemy, keeps its radar on it, and shoots the harder the nearer it is.
        leader: like a hunter, but aims at where the enemy will be, and drives to and fro at some distance from it.
        """
        locks, leads = name in ("hunter", "leader"), name == "leader"

        # where the enemy is, and where a bullet is to go
        dx, dy = self.expect(s, s.seen_age if leads else jnp.int32(0))
        enemy, distance = bearing(dx, dy), jnp.sqrt(dx * dx + dy * dy)
        power = jnp.where(locks & (distance < NEAR), 3, jnp.where(locks & (distance < FAR), 2, 1))
        if leads:
            for _ in range(3):
                flight = jnp.sqrt(dx * dx + dy * dy) / jnp.float32(BULLET_SPEED - BULLET_SLOWER * power)
                dx, dy = self.expect(s, s.seen_age + jnp.int32(flight))
        aim = wrapped(bearing(dx, dy) - jnp.float32(s.gun))

        # drive; a leader backwards, if that is a shorter turn
        circles = jnp.full(2, 2 if name == "circling" else 1, jnp.int32)
        move, turn = circles, circles
        if locks:
            off = wrapped((self.evade(s, enemy, distance) if leads else enemy) - jnp.float32(s.heading))
            behind = jnp.abs(off) > QUARTER
            move = jnp.where(behind, jnp.int32(0 if leads else 1), 2)
            off = jnp.where(behind & leads, wrapped(off + 2.0 * QUARTER), off)
            turn = jnp.where(off > 10.0, 2, jnp.where(off < -10.0, 0, 1))

        # turn the gun, then the radar, to the enemy; the radar past it, or round and round to find it
        body = (turn - 1) * (TURNS - TURNS_LESS * jnp.abs(s.speed))
        gun = nearest(GUN_TURNS, aim - jnp.float32(body))
        carried = jnp.float32(body + jnp.asarray(GUN_TURNS)[gun])
        scan = wrapped(enemy - jnp.float32(s.radar))
        scan = nearest(RADAR_TURNS, scan + jnp.where(scan < 0.0, -PAST, PAST) - carried)
        radar = jnp.where((s.seen_age <= LOST) & locks, scan, len(RADAR_TURNS) - 1)

        # shoot if the gun is on it
        beside = jnp.abs(aim) * (2 * np.pi / WHOLE) * distance
        fire = jnp.where((beside < AIMED) & (s.seen_age < FORGOTTEN), power, 0)
        return jnp.stack([move, turn, gun, radar, fire], -1)

    def player(self, s: State, stream: Array) -> Array:
        # each tank has a script for a game; some drive or shoot at random, and all do anything now and then
        script, wild = s.rng % jnp.uint32(len(self.bots)), (s.rng >> jnp.uint32(8)) % jnp.uint32(8)
        action = self.bot(s, stream, self.bots[0])
        for k, name in enumerate(self.bots[1:], 1):
            action = jnp.where((script == k)[:, None], self.bot(s, stream, name), action)
        _, words = rng.each(stream, 2 * CHOICES + 2)
        drawn = jnp.int32(rng.unit(words[2:].reshape(2, CHOICES)) * np.array([self.action_space.nvec], np.float32))
        choices = np.arange(CHOICES)[None]
        random = ((wild == 1)[:, None] & (choices == FIRE)) | ((wild == 2)[:, None] & (choices < GUN))
        return jnp.where(random | ((wild == 0) | (words[:2] % jnp.uint32(16) == 0))[:, None], drawn, action)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        n, power = next_state, action[:, FIRE]
        flew, flies = s.bullet_power > 0, n.bullet_power > 0
        shot, hits = n.shots > s.shots, n.hits - s.hits
        ready = s.heat <= self.cooling
        vx, _ = velocity(n.heading, n.speed)
        apart = jnp.maximum(jnp.abs(n.x[0] - n.x[1]), jnp.abs(n.y[0] - n.y[1]))
        stands = (s.speed != 0) & (n.speed == 0)
        return {
            "shot of power 1": (shot & (power == 1)).any(),
            "shot of power 2": (shot & (power == 2)).any(),
            "shot of power 3": (shot & (power == 3)).any(),
            "too hot to shoot": ((power > 0) & ~ready).any(),
            "too weak to shoot": ((power > 0) & ready & ~shot & (s.energy <= COST * power)).any(),
            "hit": (hits > 0).any(),
            "two hits in a step": (hits > 1).any(),
            "both hit": (hits > 0).all(),
            "a bullet left the arena": (flew & ~flies).sum() > hits.sum(),
            "top speed": (jnp.abs(n.speed) == MAX_SPEED).any(),
            "braked": ((s.speed != 0) & (n.speed != 0) & (jnp.abs(n.speed) < jnp.abs(s.speed))).any(),
            "backwards": (n.speed < 0).any(),
            "stopped from top speed": (stands & (jnp.abs(s.speed) == MAX_SPEED)).any(),
            "at a wall": (((n.x == HALF) & (s.x > HALF)) | ((n.y == HALF) & (s.y > HALF))).any(),
            "collision": (n.speed == 0).all() & (apart < 2 * (HALF + MAX_SPEED * PX)) & (n.energy < s.energy).all(),
            "turned past up": (jnp.abs(n.heading - s.heading) > WHOLE // 2).any(),
            "radar swept to the left": (turned(n.radar, -s.radar) > WHOLE // 2).any(),
            "seen": ((n.seen_age == 0) & (s.seen_age > 0)).any(),
            "lost": ((n.seen_age > 0) & (s.seen_age == 0)).any(),
            "not seen for long": ((s.seen_age == MAX_AGE) & (n.seen_age == MAX_AGE)).any(),
            "seen while it drives": ((n.seen_age == 0) & (n.seen_vx == vx[::-1]) & (vx[::-1] != 0)).any(),
            "more energy than at the start": (n.energy > ENERGY).any(),
            "destroyed by a hit": ((n.energy == 0) & (hits[::-1] > 0)).any(),
            "both destroyed": (n.energy == 0).all(),
            "destroyed without a hit": ((n.energy == 0) & (hits[::-1] == 0)).any(),
            "time limit": n.steps >= self.max_steps,
        }

    variants: ClassVar = ({"width": 200, "height": 251, "cooling": 7}, {"width": 1000, "height": 1000, "cooling": 5})

    def edge_case(self, s: State, stream: Array) -> State:
        stream, what = rng.below(stream, 9)
        stream, few = rng.below(stream, 4)
        stream, many = rng.below(stream, 40)
        stream, random = rng.each(stream, 16)
        side = jnp.array([-1, 1], jnp.int32)

        # the last steps; the last energy; a gun that is nearly cool
        weak = (what == 1) | (what == 4)
        s = s.replace(
            steps=jnp.where(what == 0, jnp.maximum(self.max_steps - few, 0), s.steps),
            energy=jnp.where(weak, 10 * few + jnp.int32(random[:2] % 4) * 5, s.energy),
            heat=jnp.where(what == 1, jnp.int32(random[2:4] % 4), s.heat),
        )

        # all bullets in flight, or all but one, around the enemy at distances at which they just reach it
        near = (what == 2) | (what == 3) | (what == 4)
        angle = jnp.int32(random % jnp.uint32(WHOLE)).reshape(2, BULLETS)
        vx, vy = velocity(angle, BULLET_SPEED - BULLET_SLOWER * (1 + few % 3))
        beside = jnp.int32(random >> jnp.uint32(16)).reshape(2, BULLETS) % (2 * HALF + 64 * 8) - (HALF + 64 * 4)
        along = jnp.int32(random >> jnp.uint32(11)).reshape(2, BULLETS) % 3 - 1
        x = s.x[::-1, None] + jnp.where(along == 0, beside, along * HALF) - vx
        y = s.y[::-1, None] + jnp.where(along == 0, HALF * (1 - 2 * (few & 1)), beside) - vy
        bullets = jnp.arange(BULLETS, dtype=jnp.int32)
        power = jnp.where(bullets == many, 0, 1 + few % 3)[None]
        s = s.replace(
            bullet_x=jnp.where(near, x, s.bullet_x),
            bullet_y=jnp.where(near, y, s.bullet_y),
            bullet_vx=jnp.where(near, vx, s.bullet_vx),
            bullet_vy=jnp.where(near, vy, s.bullet_vy),
            bullet_power=jnp.where(near, power, s.bullet_power),
        )

        # side by side, in the middle of the arena, about to touch
        touch = what == 5
        gap = HALF + (many - 20) * 4
        s = s.replace(
            x=jnp.where(touch, self.width * (PX // 2) + side * jnp.where(few > 1, gap, few * PX), s.x),
            y=jnp.where(touch, self.height * (PX // 2) + side * jnp.where(few > 1, few * PX, gap), s.y),
            speed=jnp.where(touch, jnp.int32(random[4:6] % 17) - 8, s.speed),
        )

        # radars up, and the enemy about as far beside that line as it can be seen
        line = what == 8
        beside = (HALF + few - 2) * jnp.where(many < 20, 1, -1)
        s = s.replace(
            x=jnp.where(line, self.width * (PX // 2) + (side + 1) // 2 * beside, s.x),
            y=jnp.where(line, self.height * (PX // 2) + side * HALF * 2, s.y),
            heading=jnp.where(line, 0, s.heading),
            radar=jnp.where(line, 0, s.radar),
        )

        # a step or so from a wall, at any speed
        wall = what == 6
        edge = HALF + many * 16
        x = jnp.where(few == 0, edge, jnp.where(few == 1, self.width * PX - edge, s.x))
        y = jnp.where(few == 2, edge, jnp.where(few == 3, self.height * PX - edge, s.y))
        s = s.replace(
            x=jnp.where(wall & (side == -1), x, s.x),
            y=jnp.where(wall & (side == -1), y, s.y),
            speed=jnp.where(wall, jnp.int32(random[6:8] % 17) - 8, s.speed),
        )

        # an enemy that has been seen in the tank's own place, or not for long
        return s.replace(
            seen_x=jnp.where(what == 7, s.x, s.seen_x),
            seen_y=jnp.where(what == 7, s.y + few - 1, s.seen_y),
            seen_age=jnp.where(what == 7, MAX_AGE - few, s.seen_age),
        )
