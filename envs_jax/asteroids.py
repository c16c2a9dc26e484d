"""A ship among asteroids, in a field without edges. Twin of envs_c/asteroids.h."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import numerics, rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, repeat, static
from jaxpuffer.spaces import Box, Composite, MultiDiscrete

LEFT, STRAIGHT, RIGHT = range(3)

HEADINGS = 64  # of a whole turn
QUARTER = 16  # of them
BULLETS = 4  # in flight at once
FAMILY = 4  # small asteroids that a large one is made of
MAX_ROCKS = 32
SEEN = 20  # asteroids
RADIUS = 10  # px, for each small one that an asteroid is made of: 10, 20, 40
SHIP = 12  # px, radius
COARSE = 20  # bits left out where distances are compared: they are in 1/4096 of the side
SIDEWAYS = 4  # random bits of a piece's velocity

# places are in 2^-32 of the field's side of 500 px, so that they wrap round by themselves; velocities are in the
# same units per frame
PX = 8589934.592  # units of a px
PER_SPEED = 1.49011612e-8  # sixty-fourths of the side per frame, per unit: 2^-26
PER_SIZE = 0.25  # of a large one: 1 / 4
PER_BULLET = 0.25  # 1 / 4
PER_COARSE = 4.8828125e-4  # halves of the side per coarse unit: 2^-11
COARSE_PX = 8.192  # coarse units of a px
THRUST = 5153960.8  # 0.6 px per frame, added in a frame
FRICTION = 0.95  # share of the velocity that is left after a frame
MUZZLE = 171798692.0  # 20 px, from the ship's middle to where bullets start
BULLET_SPEED = 60129542.0  # 7 px per frame
PER_GOOD = 0.01  # 1 / 100 asteroids hit, a good number

# sine of the headings, one and a quarter turns; the cosine is a quarter further
SINE = np.float32(np.round(np.sin(np.arange(HEADINGS + QUARTER) * (2 * np.pi / HEADINGS)), 9))

BACKGROUND, ROCK_COLOUR, RIM_COLOUR = (12, 14, 24), (110, 104, 98), (170, 162, 150)
SHIP_COLOUR, NOSE_COLOUR, BULLET_COLOUR = (80, 170, 240), (241, 241, 241), (250, 210, 90)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    x: Array  # uint32 (), of the ship, from the left
    y: Array  # uint32 (), from the top
    vx: Array  # int32 ()
    vy: Array  # int32 ()
    heading: Array  # int32 (), 0 up, clockwise
    reload: Array  # int32 (), frames until it can shoot
    bullet_x: Array  # uint32 (4,)
    bullet_y: Array  # uint32 (4,)
    bullet_vx: Array  # int32 (4,)
    bullet_vy: Array  # int32 (4,)
    bullet_life: Array  # int32 (4,), frames left, 0: there is none
    rock_x: Array  # uint32 (4 families,), of small ones, four in a row for each family. What hangs together
    rock_y: Array  # uint32 (4 families,), has the same place, velocity and size
    rock_vx: Array  # int32 (4 families,)
    rock_vy: Array  # int32 (4 families,)
    rock_size: Array  # int32 (4 families,), small ones that hang together: 4, 2 or 1, 0 if it is gone
    hits: Array  # int32 ()
    steps: Array  # int32 (), since the episode began


class Seen(PyTreeNode):
    rocks: Array  # float32 (20, 7), the nearest first
    numbers: Array  # float32 (7,)


def direction(heading: Array) -> tuple[Array, Array]:
    """Of a heading: x to the right, y downwards."""
    sine = jnp.asarray(SINE)
    return sine[heading], -sine[heading + QUARTER]


def offset(a: Array, b: Array) -> Array:
    """How far it is from b to a, the shorter way round, in coarse units: a whole number."""
    return jnp.float32(jnp.int32(a - b) >> COARSE)


def apart(ax: Array, ay: Array, bx: Array, by: Array) -> Array:
    """The squared distance of two places: a whole number too."""
    dx, dy = offset(ax, bx), offset(ay, by)
    return dx * dx + dy * dy


def reach(radius: Array) -> Array:
    """The squared distance at which a thing of this radius, in px, is touched."""
    across = jnp.float32(radius) * COARSE_PX
    return across * across


class Asteroids(Env[State]):
    """A ship among asteroids, in a field of 500 by 500 px that goes on at the opposite edge.

    A step is `frame_skip` frames. In each, the ship turns, slows down by a twentieth, is pushed by 0.6 px per frame,
    shoots if it has reloaded, and moves; bullets and asteroids move; bullets hit. An asteroid of 40 px radius falls
    into two of 20 px, one of these into two of 10 px, and a small one is gone.

    Observation: rocks float32 (20, 7), numbers float32 (7,).
        The nearest asteroids, the nearest first: cosine and sine of the angle from straight ahead to it, clockwise,
        distance in halves of the side, velocity away from the ship and across, clockwise, relative to the ship's, in
        sixty-fourths of the side per frame, radius / 40, and 1; all 0 where there is none. The numbers: the ship's
        velocity ahead and to the right, sine and cosine of its heading, share of the reload left, share of the bullets
        in flight, share of the time left.
    Action: MultiDiscrete((3, 2, 2)): turn left, none, right, by a 64th of a turn in each frame; thrust; shoot.
    Reward: 1 for each asteroid hit, -1 when the ship is hit.
    Ends: terminated when an asteroid touches the ship, truncated after `max_steps`.
    Score: asteroids hit; perf is the score / 100, at most 1.
    Differences from PufferLib: the field goes on at the opposite edge for bullets and asteroids too; large asteroids
        come in, at fixed times, far from the ship, and pieces fly on faster; all three choices at once; heading and
        reload are seen; every piece can be hit; a time limit that truncates.
    """

    frame_skip: int = static(default=2, minimum=1, maximum=16)  # frames of a step
    families: int = static(default=6, minimum=1, maximum=8)  # large asteroids, whole or in pieces, at once
    rock_speed: float = param(default=1.5, minimum=0, maximum=10)  # px per frame, of a large asteroid
    spawn_steps: int = param(default=50, minimum=1)  # steps from one moment at which one can come in to the next
    reload: int = param(default=18, minimum=1)  # frames from one shot to the next
    bullet_life: int = param(default=60, minimum=1)  # frames
    max_steps: int = param(default=1800, minimum=1)  # steps before truncation
    levels: int = param(default=0, minimum=0)  # number of fixed starts, of which each episode has one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    action_space: ClassVar = MultiDiscrete((3, 2, 2))
    variants: ClassVar = (
        {"frame_skip": 3, "families": 8, "levels": 3, "first_level": 100, "spawn_steps": 2, "reload": 5},
    )
    observation_space: ClassVar = Composite(Seen, rocks=Box(-4.0, 4.0, (SEEN, 7)), numbers=Box(-4.0, 4.0, (7,)))

    @property
    def rocks(self) -> int:
        return self.families * FAMILY

    def leads(self, s: State) -> Array:
        """Is a small one the first of an asteroid, for which it then stands? For all of them, bool (4 families,)."""
        return (s.rock_size > 0) & (jnp.arange(self.rocks, dtype=jnp.int32) & (s.rock_size - 1) == 0)

    def come_in(self, s: State, here: Array, bits: Array) -> State:
        """Large asteroids on the edge of the square field that has the ship in its middle.

        `here` are their small ones, bool (4 families,); 23 random bits say where, and where they go.
        """
        ahead_x, ahead_y = direction(jnp.int32(bits & jnp.uint32(HEADINGS - 1)))
        half, along, vertical = jnp.uint32(1 << 31), bits & jnp.uint32(0xFFFF0000), (bits >> 6) & jnp.uint32(1) == 1
        speed = self.rock_speed * PX
        return s.replace(
            rock_x=jnp.where(here, s.x + jnp.where(vertical, half, along), s.rock_x),
            rock_y=jnp.where(here, s.y + jnp.where(vertical, along, half), s.rock_y),
            rock_vx=jnp.where(here, jnp.int32(ahead_x * speed), s.rock_vx),
            rock_vy=jnp.where(here, jnp.int32(ahead_y * speed), s.rock_vy),
            rock_size=jnp.where(here, FAMILY, s.rock_size),
        )

    def init(self, stream: Array) -> State:
        # the ship at rest in the middle
        stream, world = rng.level(stream, self.levels, self.first_level)
        none, places, middle = jnp.int32(0), jnp.zeros(self.rocks, jnp.uint32), jnp.uint32(1 << 31)
        no_bullets, no_rocks = jnp.zeros(BULLETS, jnp.int32), jnp.zeros(self.rocks, jnp.int32)
        s = State(
            rng=stream,
            x=middle,
            y=middle,
            vx=none,
            vy=none,
            heading=none,
            reload=none,
            bullet_x=jnp.zeros(BULLETS, jnp.uint32),
            bullet_y=jnp.zeros(BULLETS, jnp.uint32),
            bullet_vx=no_bullets,
            bullet_vy=no_bullets,
            bullet_life=no_bullets,
            rock_x=places,
            rock_y=places,
            rock_vx=no_rocks,
            rock_vy=no_rocks,
            rock_size=no_rocks,
            hits=none,
            steps=none,
        )

        # large asteroids around it
        _, bits = rng.each(world, self.families)
        return self.come_in(s, jnp.ones(self.rocks, bool), bits.repeat(FAMILY))

    def spawn(self, s: State) -> State:
        """At fixed times a large asteroid comes in, if a family is gone."""
        families = jnp.arange(self.families, dtype=jnp.int32)
        gone = (s.rock_size.reshape(self.families, FAMILY) == 0).all(1)
        family = jnp.where(gone, families, self.families).min()
        comes = (s.steps % self.spawn_steps == 0) & (family < self.families)
        stream, bits = rng.bits(s.rng)
        s = s.replace(rng=jnp.where(comes, stream, s.rng))
        return self.come_in(s, comes & (families.repeat(FAMILY) == family), bits)

    def fly(self, s: State, action: Array) -> State:
        """The ship turns, slows down, is pushed, shoots, and moves."""
        heading = (s.heading + action[0] - STRAIGHT) & (HEADINGS - 1)
        ahead_x, ahead_y = direction(heading)
        vx, vy = jnp.int32(jnp.float32(s.vx) * FRICTION), jnp.int32(jnp.float32(s.vy) * FRICTION)
        vx = jnp.where(action[1] == 1, vx + jnp.int32(ahead_x * THRUST), vx)
        vy = jnp.where(action[1] == 1, vy + jnp.int32(ahead_y * THRUST), vy)

        # with the first bullet that is not in flight
        reload = jnp.maximum(s.reload - 1, 0)
        bullets = jnp.arange(BULLETS, dtype=jnp.int32)
        free = jnp.where(s.bullet_life == 0, bullets, BULLETS).min()
        shoots = (action[2] == 1) & (reload == 0) & (free < BULLETS)
        new = shoots & (bullets == free)
        return s.replace(
            x=s.x + jnp.uint32(vx),
            y=s.y + jnp.uint32(vy),
            vx=vx,
            vy=vy,
            heading=heading,
            reload=jnp.where(shoots, self.reload, reload),
            bullet_x=jnp.where(new, s.x + jnp.uint32(jnp.int32(ahead_x * MUZZLE)), s.bullet_x),
            bullet_y=jnp.where(new, s.y + jnp.uint32(jnp.int32(ahead_y * MUZZLE)), s.bullet_y),
            bullet_vx=jnp.where(new, jnp.int32(ahead_x * BULLET_SPEED), s.bullet_vx),
            bullet_vy=jnp.where(new, jnp.int32(ahead_y * BULLET_SPEED), s.bullet_vy),
            bullet_life=jnp.where(new, self.bullet_life, s.bullet_life),
        )

    def drift(self, s: State) -> State:
        """Bullets and asteroids move on."""
        return s.replace(
            bullet_x=s.bullet_x + jnp.uint32(s.bullet_vx),
            bullet_y=s.bullet_y + jnp.uint32(s.bullet_vy),
            rock_x=s.rock_x + jnp.uint32(s.rock_vx),
            rock_y=s.rock_y + jnp.uint32(s.rock_vy),
        )

    def strike(self, s: State) -> tuple[State, Array]:
        """One bullet after the other hits the first asteroid that it touches and that no other has hit in this frame.

        Flags of the small ones, bool (4 families,).
        """
        rocks = jnp.arange(self.rocks, dtype=jnp.uint32)
        near = apart(s.bullet_x[:, None], s.bullet_y[:, None], s.rock_x[None], s.rock_y[None])
        touches = (near < reach(RADIUS * s.rock_size)[None]) & (s.bullet_life > 0)[:, None] & self.leads(s)[None]

        # one bit for each asteroid; the lowest is the first
        touches = jnp.where(touches, jnp.uint32(1) << rocks, jnp.uint32(0)).sum(1, dtype=jnp.uint32)
        hit, life = jnp.uint32(0), []
        for b in range(BULLETS):
            left = touches[b] & ~hit
            hit = hit | (left & (~left + jnp.uint32(1)))
            life.append(jnp.where(left == 0, jnp.maximum(s.bullet_life[b] - 1, 0), 0))
        s = s.replace(bullet_life=jnp.stack(life), hits=s.hits + jnp.int32(lax.population_count(hit)))
        own = (hit >> (rocks & -jnp.uint32(s.rock_size))) & jnp.uint32(1)
        return s, (own == 1) & (s.rock_size > 0)

    def split(self, s: State, hit: Array) -> State:
        """What is hit falls into halves, of which each flies on with up to as much again to a side.

        A small one is gone.
        """
        stream, bits = rng.bits(s.rng)
        half, place = s.rock_size >> 1, jnp.arange(self.rocks, dtype=jnp.uint32) % FAMILY
        own = bits >> (SIDEWAYS * jnp.where(half == 2, place & jnp.uint32(2), place))
        sideways = 2 * jnp.int32(own & jnp.uint32(15)) - 15
        return s.replace(
            rng=jnp.where(hit.any(), stream, s.rng),
            rock_vx=jnp.where(hit, s.rock_vx - (s.rock_vy >> SIDEWAYS) * sideways, s.rock_vx),
            rock_vy=jnp.where(hit, s.rock_vy + (s.rock_vx >> SIDEWAYS) * sideways, s.rock_vy),
            rock_size=jnp.where(hit, half, s.rock_size),
        )

    def crash(self, s: State) -> Array:
        """Does an asteroid touch the ship?"""
        near = apart(s.rock_x, s.rock_y, s.x, s.y) < reach(RADIUS * s.rock_size + SHIP)
        return ((s.rock_size > 0) & near).any()

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        before = s.hits

        def frame(_: Array, carry: tuple[State, Array]) -> tuple[State, Array]:
            s, crash = carry
            s = self.split(*self.strike(self.drift(self.fly(s, action))))
            return s, crash | self.crash(s)

        s, crash = repeat(self.frame_skip, frame, (self.spawn(s), jnp.bool_(False)))
        s = s.replace(steps=s.steps + 1)
        return s, Outcome(
            reward=jnp.float32(s.hits - before - jnp.int32(crash)),
            terminated=crash,
            truncated=s.steps >= self.max_steps,
        )

    def observe(self, s: State) -> Seen:
        ahead_x, ahead_y = direction(s.heading)

        # squared distances, the number of the asteroid in the last bits: the nearest first, at equal distances the
        # first; what is not there comes last
        rocks = jnp.arange(self.rocks, dtype=jnp.int32)
        key = jnp.int32(apart(s.rock_x, s.rock_y, s.x, s.y)) * MAX_ROCKS + rocks
        leads = self.leads(s)
        key = jnp.where(leads, key, jnp.int32(1 << 30) + rocks)
        rank = (key[None] < key[:, None]).sum(1, dtype=jnp.int32)
        seen = jnp.arange(SEEN, dtype=jnp.int32)[:, None]
        order = jnp.where(rank[None] == seen, rocks, 0).sum(1, dtype=jnp.int32)

        distance = jnp.sqrt(jnp.float32(key // MAX_ROCKS))
        length = jnp.where(distance > 0.0, distance, 1.0)
        ux, uy = offset(s.rock_x, s.x) / length, offset(s.rock_y, s.y) / length
        vx, vy = jnp.float32(s.rock_vx - s.vx) * PER_SPEED, jnp.float32(s.rock_vy - s.vy) * PER_SPEED
        rock = jnp.stack(
            [
                ux * ahead_x + uy * ahead_y,
                uy * ahead_x - ux * ahead_y,
                distance * PER_COARSE,
                vx * ux + vy * uy,
                vy * ux - vx * uy,
                jnp.float32(s.rock_size) * PER_SIZE,
                jnp.ones(self.rocks, jnp.float32),
            ],
            -1,
        )
        there = seen < leads.sum(dtype=jnp.int32)

        own_vx, own_vy = jnp.float32(s.vx) * PER_SPEED, jnp.float32(s.vy) * PER_SPEED
        numbers = [
            own_vx * ahead_x + own_vy * ahead_y,
            own_vy * ahead_x - own_vx * ahead_y,
            ahead_x,
            -ahead_y,
            jnp.float32(s.reload) * (1 / jnp.float32(self.reload)),
            jnp.float32((s.bullet_life > 0).sum(dtype=jnp.int32)) * PER_BULLET,
            jnp.float32(self.max_steps - s.steps) * (1 / jnp.float32(self.max_steps)),
        ]
        return Seen(jnp.where(there, rock[order], 0.0), jnp.stack(numbers))

    def score(self, s: State) -> Array:
        return jnp.float32(s.hits)

    def perf(self, s: State) -> Array:
        return jnp.minimum(jnp.float32(s.hits) * PER_GOOD, 1.0)

    def render(self, s: State) -> Array:
        # px of the picture as places of the field, 2 px of the field each; what is at an edge shows at the other too
        side = 250
        grid = (np.arange(side) * (2**32 / side)).astype(np.uint32)

        def offset(x: Array, y: Array) -> tuple[Array, Array]:
            """From each thing to each px of the picture, in px of the field, (things, 1, side), (things, side, 1)."""
            right, down = (jnp.float32(jnp.int32(grid[None] - place[:, None])) * (1 / PX) for place in (x, y))
            return right[:, None, :], down[:, :, None]

        def disc(x: Array, y: Array, radius: Array) -> Array:
            right, down = offset(x, y)
            return (right * right + down * down < (radius * radius)[:, None, None]).any(0)

        right, down = offset(s.x[None], s.y[None])
        ahead_x, ahead_y = direction(s.heading)
        ahead, across = (right * ahead_x + down * ahead_y)[0], (down * ahead_x - right * ahead_y)[0]
        ship = (ahead > -SHIP) & (jnp.abs(across) < 0.4 * (20.0 - ahead))
        notch = (ahead < -6.0) & (jnp.abs(across) < 6.0)
        radius = jnp.float32(RADIUS * s.rock_size)
        parts = (
            (disc(s.rock_x, s.rock_y, radius), RIM_COLOUR),
            (disc(s.rock_x, s.rock_y, jnp.maximum(radius - 3.0, 0.0)), ROCK_COLOUR),
            (ship & ~notch, SHIP_COLOUR),
            (ship & (ahead > 8.0), NOSE_COLOUR),
            (disc(s.bullet_x, s.bullet_y, jnp.where(s.bullet_life > 0, 3.0, 0.0)), BULLET_COLOUR),
        )
        picture = jnp.full((side, side, 3), jnp.array(BACKGROUND, jnp.uint8))
        for inside, colour in parts:
            picture = jnp.where(inside[:, :, None], jnp.array(colour, jnp.uint8), picture)
        return picture

    def hunt(self, s: State) -> Array:
        """A player that turns to the asteroid that will be there first, small ones last, and shoots when it faces it.

        If that is soon and it does not face it, it flies off.
        """
        dx, dy, vx, vy = (
            jnp.float32(jnp.int32(a)) * (1 / PX)
            for a in (s.rock_x - s.x, s.rock_y - s.y, jnp.uint32(s.rock_vx), jnp.uint32(s.rock_vy))
        )
        distance = jnp.sqrt(dx * dx + dy * dy)
        nears = -(dx * vx + dy * vy) / jnp.maximum(distance, 1.0)  # px per frame
        radius = jnp.float32(RADIUS * s.rock_size)
        frames = (distance - radius - SHIP) / jnp.maximum(nears, 0.5)
        waits = (s.rock_size == 1) & (frames > 30.0)
        i = jnp.where(self.leads(s), jnp.where(waits, 1000.0 + frames, frames), jnp.inf).argmin()

        # where it will be when a bullet gets there, as seen from the ship
        flight = distance[i] / (7.0 + nears[i])
        right, down = dx[i] + vx[i] * flight, dy[i] + vy[i] * flight
        ahead_x, ahead_y = direction(s.heading)
        angle = numerics.atan2(down * ahead_x - right * ahead_y, right * ahead_x + down * ahead_y)
        faces = jnp.abs(angle) * distance[i] < 0.8 * radius[i]
        turn = jnp.where(angle > 0.05, RIGHT, jnp.where(angle < -0.05, LEFT, STRAIGHT))
        flees = (frames[i] < 20.0) & (jnp.abs(angle) > 1.0)
        return jnp.stack([turn, jnp.int32(flees), jnp.int32(faces)])

    def player(self, s: State, stream: Array) -> Array:
        # mostly hunts; some fly about, and some do not look
        stream, turn = rng.below(stream, 3)
        stream, thrust = rng.below(stream, 2)
        stream, shoot = rng.below(stream, 2)
        hunts = self.hunt(s)
        style = s.rng[0] % jnp.uint32(16)
        flies = hunts.at[1].set(thrust)
        return jnp.where(style == 0, jnp.stack([turn, thrust, shoot]), jnp.where(style == 1, flies, hunts))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        n = next_state
        size, after = (x.rock_size.reshape(self.families, FAMILY) for x in (s, n))
        gone, gone_after = (size == 0).all(1), (after == 0).all(1)
        there, due = self.leads(n).sum(), s.steps % self.spawn_steps == 0
        shot, flew = (n.bullet_life > s.bullet_life).any(), s.bullet_life > 0
        far = jnp.uint32(1 << 31)

        def wrapped(before: Array, after: Array) -> Array:
            """The place is at the other edge: half of the side or more further, as a number."""
            return jnp.maximum(before, after) - jnp.minimum(before, after) > far

        return {
            "turned past up": jnp.abs(n.heading - s.heading) > HEADINGS // 2,
            "pushed": action[1] == 1,
            "shot": shot,
            "not reloaded": (action[2] == 1) & (s.reload > self.frame_skip),
            "all bullets in flight": (action[2] == 1) & (s.reload <= 1) & ~shot & flew.all(),
            "a bullet's life ended": (flew & (s.bullet_life <= self.frame_skip) & (n.bullet_life == 0)).any(),
            "a large one split": ((size == 4) & (after == 2)).any(),
            "a middle one split": ((size == 2) & (after == 1)).any(),
            "a small one gone": ((size == 1) & (after == 0)).any(),
            "two hits in a step": n.hits - s.hits >= 2,
            "a family gone": (~gone & gone_after).any(),
            "one came in": (gone & ~gone_after).any(),
            "no room to come in": due & ~gone.any(),
            "more than can be seen": there > SEEN,
            "the ship over the edge": wrapped(s.x, n.x) | wrapped(s.y, n.y),
            "a bullet over the edge": (flew & (n.bullet_life > 0) & wrapped(s.bullet_x, n.bullet_x)).any(),
            "an asteroid over the edge": ((s.rock_size > 0) & wrapped(s.rock_y, n.rock_y)).any(),
            "the ship is hit": self.crash(n),
            "time limit": n.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        stream, what = rng.below(stream, 6)
        stream, few = rng.below(stream, 4)
        stream, family = rng.below(stream, self.families)
        _, ready = rng.below(stream, 2)
        rocks, bullets = jnp.arange(self.rocks, dtype=jnp.int32), jnp.arange(BULLETS, dtype=jnp.int32)
        i = family * FAMILY

        # the last steps; the moments at which one comes in, with families gone
        steps = jnp.where(what == 0, self.max_steps - few, jnp.where(what == 1, self.spawn_steps * few, s.steps))
        gone = (what == 1) & (rocks // FAMILY % 4 >= few)
        s = s.replace(steps=jnp.maximum(steps, 0), rock_size=jnp.where(gone, 0, s.rock_size))

        # small ones around the ship, many of them equally far away
        spread = what >= 4
        right, down = rocks % 5 - 2, rocks // 5 - 2
        s = s.replace(
            rock_x=jnp.where(spread, s.x + (jnp.uint32(right) << 28), s.rock_x),
            rock_y=jnp.where(spread, s.y + (jnp.uint32(down) << 28), s.rock_y),
            rock_size=jnp.where(spread, 1, s.rock_size),
        )

        # bullets about as far from an asteroid as they can touch it, and fly with it; the last hits another too
        near = (what == 2) | (what == 4)
        edge = jnp.uint32(jnp.int32(jnp.float32(RADIUS * s.rock_size[i]) * COARSE_PX) + few - 1) << COARSE
        place = jnp.where(bullets == 3, s.rock_x[i] + edge // 2, s.rock_x[i] - edge)
        s = s.replace(
            bullet_x=jnp.where(near, place, s.bullet_x),
            bullet_y=jnp.where(near, s.rock_y[i], s.bullet_y),
            bullet_vx=jnp.where(near, s.rock_vx[i], s.bullet_vx),
            bullet_vy=jnp.where(near, s.rock_vy[i], s.bullet_vy),
            bullet_life=jnp.where(near, jnp.where(bullets == few, 0, self.bullet_life // 2), s.bullet_life),
            reload=jnp.where(near, ready, s.reload),
        )

        # the ship about as far from an asteroid as it can touch it
        beside = what == 3
        edge = jnp.uint32(jnp.int32(jnp.float32(RADIUS * s.rock_size[i] + SHIP) * COARSE_PX) + few - 1) << COARSE
        return s.replace(
            x=jnp.where(beside, s.rock_x[i] + edge, s.x),
            y=jnp.where(beside, s.rock_y[i], s.y),
            vx=jnp.where(beside, jnp.int32(0), s.vx),
            rock_vx=jnp.where(beside, 0, s.rock_vx),
        )
