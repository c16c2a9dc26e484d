"""Agents carry an item to the next factory that takes it, and go on with what it makes. Twin of envs_c/convert.h."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import numerics, rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, MultiDiscrete, Space

MAX_AGENTS, MAX_ITEMS, MAX_FACTORIES, CHOICES, STRAIGHT, STEADY = 1024, 8, 8, 2, 4, 2
PLACED, DRAWN = 3, 4  # draws for a factory's start, and for an agent's
JUMP_SHIFT = 22  # leaves ten bits of a draw: the number of the agent that jumps

WIDTH, HEIGHT = 1920.0, 1080.0  # px, of the plane
LEFT, RIGHT = 16.0, 1904.0  # px: the borders
TOP, BOTTOM = 16.0, 1064.0
ACROSS = 1888.0  # px from the left border to the right one
DOWN = 1048.0  # px from the top to the bottom
REACH_SQUARED = 1024.0  # px^2: a factory takes items within 32 px
TURNING = 0.083333336  # rad per choice: 1/12
MAX_SPEED = 20.0  # px per step, forwards or backwards
HALF_TURN = 3.14159265  # rad
TURN = 6.2831853  # rad
PER_OFFSET = 0.0025  # 1/px, of observed offsets: 1/400
PER_VELOCITY = 0.5  # steps per px, of observed velocities of factories
PER_MAX_SPEED = 0.05  # steps per px, of the observed speed
PER_WIDTH = 5.2083333e-4  # 1/px, of the observed place: 1/1920
GOOD_SHARE = 0.0625  # of the steps: this number of items is a perf of 1

GROUND = (6, 24, 24)
COLOURS = (  # of the items
    (230, 70, 70),
    (240, 150, 50),
    (230, 220, 70),
    (110, 210, 80),
    (60, 200, 190),
    (80, 140, 250),
    (170, 100, 240),
    (240, 120, 200),
)


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    x: Array  # float32 (agents,), px from the left
    y: Array  # float32 (agents,), px from the top
    heading: Array  # float32 (agents,), rad, 0 to the right, positive downwards
    speed: Array  # float32 (agents,), px per step
    item: Array  # int32 (agents,), that it carries
    converted: Array  # int32 (agents,), items since the world began
    factory_x: Array  # float32 (items * factories,), one for each item, then the second one for each ...
    factory_y: Array  # float32 (items * factories,)
    factory_vx: Array  # float32 (items * factories,), px per step
    factory_vy: Array  # float32 (items * factories,)
    steps: Array  # int32 (), since the world began


class Convert(Env[State]):
    """Agents carry an item to a factory that takes it, get the next item of a cycle for it, and carry that on.

    Observation: float32 (17,) per agent: of the two nearest factories that take its item six numbers each:
        the offset, the velocity, and the way from there to the nearest factory for the next item, each
        forwards and to the right as the agent heads, in 400 px and in 2 px per step; its speed / 20, the
        cosine and the sine of its heading, and x and y in widths.
    Action: MultiDiscrete((9, 5)): turn by -4 to 4 twelfths of a radian; change the speed by -2 to 2 px per step.
    Reward: 1 for each item converted, at a factory within 32 px that takes it; one in a step at most.
    Ends: the world is reset after `max_steps`, which truncates all. Nothing terminates.
    Score: items converted; perf is the score divided by a sixteenth of `max_steps`, at most 1.
    Differences from PufferLib: the heading goes round; all move before items are converted, one each; agents see
        the factories for their own item, from their own direction; a whole episode is scored, and it has an end.
    """

    agents: int = static(default=16, minimum=1, maximum=MAX_AGENTS)
    items: int = static(default=8, minimum=2, maximum=MAX_ITEMS)  # kinds of items, in a cycle
    factories: int = static(default=4, minimum=2, maximum=MAX_FACTORIES)  # for each item
    factory_speed: float = param(default=2.0, minimum=0.0, maximum=100.0)  # px per step
    max_steps: int = param(default=500, minimum=1)  # steps of the world before it is reset
    levels: int = param(default=0, minimum=0)  # number of fixed worlds, of which each is one; 0: new ones
    first_level: int = param(default=0, minimum=0)  # number of the first of them

    multi_agent = True
    observation_space: ClassVar = Box(-float("inf"), float("inf"), (17,))
    action_space: ClassVar[Space] = MultiDiscrete((9, 5))
    variants: ClassVar = ({"agents": 9, "items": 3, "factories": 3, "max_steps": 60, "levels": 3, "first_level": 100},)

    @property
    def num_agents(self) -> int:
        return self.agents

    def across(self, drawn: Array) -> Array:
        """Random bits as a place between the borders."""
        return LEFT + rng.unit(drawn) * ACROSS

    def down(self, drawn: Array) -> Array:
        return TOP + rng.unit(drawn) * DOWN

    def direction(self, drawn: Array) -> Array:
        """Random bits as a direction."""
        return rng.unit(drawn) * TURN - HALF_TURN

    def init(self, stream: Array) -> State:
        every = self.items * self.factories
        stream, world = rng.level(stream, self.levels, self.first_level)
        _, drawn = rng.each(world, PLACED * every + DRAWN * self.agents)
        factory_x, factory_y, direction = drawn[: PLACED * every].reshape(PLACED, every)
        x, y, heading, item = drawn[PLACED * every :].reshape(DRAWN, self.agents)

        # factories, each with its own direction; agents, at rest, each with some item
        direction = self.direction(direction)
        return State(
            rng=stream,
            x=self.across(x),
            y=self.down(y),
            heading=self.direction(heading),
            speed=jnp.zeros(self.agents, jnp.float32),
            item=jnp.int32(item % jnp.uint32(self.items)),
            converted=jnp.zeros(self.agents, jnp.int32),
            factory_x=self.across(factory_x),
            factory_y=self.down(factory_y),
            factory_vx=self.factory_speed * numerics.cos(direction),
            factory_vy=self.factory_speed * numerics.sin(direction),
            steps=jnp.int32(0),
        )

    def own(self, s: State, of_all: Array) -> Array:
        """Of the factories for each agent's item, (factories, agents)."""
        by_item = of_all.reshape(self.factories, self.items, 1)
        own = jnp.broadcast_to(by_item[:, 0], (self.factories, self.agents))
        for item in range(1, self.items):
            own = jnp.where((s.item == item)[None], by_item[:, item], own)
        return own

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        steps = s.steps + 1
        stream, drawn = rng.each(s.rng, PLACED + self.items * self.factories)

        # all turn, speed up and move, within the borders
        heading = s.heading + jnp.float32(action[:, 0] - STRAIGHT) * TURNING
        excess = jnp.where(heading > HALF_TURN, TURN, jnp.where(heading < -HALF_TURN, -TURN, 0.0))
        heading = heading - excess
        speed = jnp.clip(s.speed + jnp.float32(action[:, 1] - STEADY), -MAX_SPEED, MAX_SPEED)
        x = jnp.clip(s.x + speed * numerics.cos(heading), LEFT, RIGHT)
        y = jnp.clip(s.y + speed * numerics.sin(heading), TOP, BOTTOM)

        # one agent jumps to a random place, if there is one with the number drawn
        jumps = np.arange(self.agents, dtype=np.int32) == jnp.int32(drawn[0] >> jnp.uint32(JUMP_SHIFT))
        x = jnp.where(jumps, self.across(drawn[1]), x)
        y = jnp.where(jumps, self.down(drawn[2]), y)

        # a factory within reach that takes the item gives the next one for it
        dx, dy = self.own(s, s.factory_x) - x[None], self.own(s, s.factory_y) - y[None]
        taken = (dx * dx + dy * dy <= REACH_SQUARED).any(0)
        item = s.item + jnp.int32(taken)
        item = jnp.where(item == self.items, 0, item)

        # factories move; at a border they take another direction
        to_x, to_y = s.factory_x + s.factory_vx, s.factory_y + s.factory_vy
        factory_x, factory_y = jnp.clip(to_x, LEFT, RIGHT), jnp.clip(to_y, TOP, BOTTOM)
        turns = (factory_x != to_x) | (factory_y != to_y)
        direction = self.direction(drawn[PLACED:])
        s = State(
            rng=stream,
            x=x,
            y=y,
            heading=heading,
            speed=speed,
            item=item,
            converted=s.converted + jnp.int32(taken),
            factory_x=factory_x,
            factory_y=factory_y,
            factory_vx=jnp.where(turns, self.factory_speed * numerics.cos(direction), s.factory_vx),
            factory_vy=jnp.where(turns, self.factory_speed * numerics.sin(direction), s.factory_vy),
            steps=steps,
        )
        nobody = jnp.zeros(self.agents, bool)
        return s, Outcome(jnp.float32(taken), terminated=nobody, truncated=nobody, reset=steps >= self.max_steps)

    def respawn(self, s: State, ended: Array) -> State:
        """Agents end only with their world."""
        return s

    def observe(self, s: State) -> Array:
        # from each factory to the nearest one for the next item
        factory_x, factory_y = (of_all.reshape(self.factories, self.items) for of_all in (s.factory_x, s.factory_y))
        next_x, next_y = jnp.roll(factory_x, -1, 1), jnp.roll(factory_y, -1, 1)
        least = jnp.full(factory_x.shape, jnp.inf, jnp.float32)
        onward_x = onward_y = jnp.zeros_like(least)
        for k in range(self.factories):
            dx, dy = next_x[k][None] - factory_x, next_y[k][None] - factory_y
            squared = dx * dx + dy * dy
            nearer = squared < least
            least = jnp.where(nearer, squared, least)
            onward_x, onward_y = jnp.where(nearer, dx, onward_x), jnp.where(nearer, dy, onward_y)
        onward_x, onward_y = onward_x.reshape(-1), onward_y.reshape(-1)

        # the two nearest factories that take the item
        own_x, own_y = self.own(s, s.factory_x), self.own(s, s.factory_y)
        near = [s.item, s.item]
        first = second = jnp.full(self.agents, jnp.inf, jnp.float32)
        for k in range(self.factories):
            f = s.item + k * self.items
            dx, dy = own_x[k] - s.x, own_y[k] - s.y
            squared = dx * dx + dy * dy
            nearest, nearer = squared < first, squared < second
            near[1] = jnp.where(nearest, near[0], jnp.where(nearer, f, near[1]))
            second = jnp.where(nearest, first, jnp.where(nearer, squared, second))
            near[0] = jnp.where(nearest, f, near[0])
            first = jnp.where(nearest, squared, first)

        # forwards and to the right
        cosine, sine = numerics.cos(s.heading), numerics.sin(s.heading)
        seen = []
        for f in near:
            for x, y, scale in (
                (s.factory_x[f] - s.x, s.factory_y[f] - s.y, PER_OFFSET),
                (s.factory_vx[f], s.factory_vy[f], PER_VELOCITY),
                (onward_x[f], onward_y[f], PER_OFFSET),
            ):
                seen += [(x * cosine + y * sine) * scale, (y * cosine - x * sine) * scale]
        seen += [s.speed * PER_MAX_SPEED, cosine, sine, s.x * PER_WIDTH, s.y * PER_WIDTH]
        return jnp.stack(seen, -1)

    def score(self, s: State) -> Array:
        return jnp.float32(s.converted)

    def perf(self, s: State) -> Array:
        good = GOOD_SHARE * jnp.float32(self.max_steps)
        return jnp.minimum(jnp.float32(s.converted) * (1 / good), 1.0)

    def render(self, s: State) -> Array:
        # factories as large as their reach, agents as small discs in the colour of their item
        shrink, border = 4.0, 8  # px of the plane per px of the picture; px that are cut off again on each side
        colours = jnp.array(COLOURS, jnp.uint8)
        shape = int(HEIGHT / shrink) + 2 * border, int(WIDTH / shrink) + 2 * border, 3
        picture = jnp.full(shape, jnp.array(GROUND, jnp.uint8))
        kind = np.arange(self.items * self.factories) % self.items
        for xs, ys, radius, colour in (
            (s.factory_x, s.factory_y, 8, colours[kind] // 2),
            (s.factory_x, s.factory_y, 4, colours[kind]),
            (s.x, s.y, 2, colours[s.item]),
        ):
            down, right = np.mgrid[-radius : radius + 1, -radius : radius + 1]
            disc = down * down + right * right <= radius * (radius + 1)
            rows = jnp.int32(ys / shrink)[:, None] + border + down[disc][None]
            columns = jnp.int32(xs / shrink)[:, None] + border + right[disc][None]
            picture = picture.at[rows, columns].set(colour[:, None])
        return picture[border:-border, border:-border]

    def player(self, s: State, stream: Array) -> Array:
        """Most go to the nearest factory; some drive straight on, forwards or backwards, and some play at random."""
        seen = self.observe(s)
        aim = numerics.atan2(seen[:, 1], seen[:, 0])
        turn = jnp.int32(jnp.round(jnp.clip(aim * 12.0, -4.0, 4.0))) + STRAIGHT
        wanted = jnp.where(jnp.abs(aim) < 0.5, jnp.float32(MAX_SPEED), jnp.float32(4))
        faster = jnp.int32(jnp.round(jnp.clip(wanted - s.speed, -2.0, 2.0))) + STEADY
        _, drawn = rng.each(stream, CHOICES * self.agents)
        wild = jnp.int32(drawn.reshape(self.agents, CHOICES) % jnp.array([[9, 5]], jnp.uint32))
        style = np.arange(self.agents) % 8
        turn = jnp.where(style < 5, turn, STRAIGHT)
        faster = jnp.where(style < 5, faster, jnp.where(style == 5, 0, 4))
        return jnp.where((style == 7)[:, None], wild, jnp.stack([turn, faster], -1))

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        n = next_state
        # who is within reach of which factory when items are converted
        dx, dy = s.factory_x[None] - n.x[:, None], s.factory_y[None] - n.y[:, None]
        kind = np.arange(self.items * self.factories)[None] % self.items
        near = dx * dx + dy * dy <= REACH_SQUARED
        own, next_item = s.item[:, None] == kind, (s.item[:, None] + 1) % self.items == kind
        converts = n.converted > s.converted
        # further than anyone moves
        jumps = (jnp.abs(n.x - s.x) > 2.0 * MAX_SPEED) | (jnp.abs(n.y - s.y) > 2.0 * MAX_SPEED)
        turned = (n.factory_vx != s.factory_vx) | (n.factory_vy != s.factory_vy)
        return {
            "converted an item": converts.any(),
            "converted the last item of the cycle": (converts & (s.item == self.items - 1)).any(),
            "two factories for the item": ((near & own).sum(1) > 1).any(),
            "a factory for the next item as well": (converts & (near & next_item).any(1)).any(),
            "only factories for other items": (near.any(1) & ~(near & own).any(1)).any(),
            "jumped": jumps.any(),
            "full speed ahead": (n.speed >= MAX_SPEED).any(),
            "full speed backwards": (n.speed <= -MAX_SPEED).any(),
            "at the left": (n.x <= LEFT).any(),
            "at the right": (n.x >= RIGHT).any(),
            "at the top": (n.y <= TOP).any(),
            "at the bottom": (n.y >= BOTTOM).any(),
            "turned over the back": (jnp.abs(n.heading - s.heading) > HALF_TURN).any(),
            "a factory turned at the left": (turned & (n.factory_x <= LEFT)).any(),
            "a factory turned at the right": (turned & (n.factory_x >= RIGHT)).any(),
            "a factory turned at the top": (turned & (n.factory_y <= TOP)).any(),
            "a factory turned at the bottom": (turned & (n.factory_y >= BOTTOM)).any(),
            "time limit": n.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """Agents at a factory for their item, just inside and outside its reach; all at the borders; the last step."""
        stream, which = rng.below(stream, 3)
        _, off = rng.below(stream, 4)
        # whole px, so that the distances are exact
        whole = s.replace(factory_x=jnp.floor(s.factory_x), factory_y=jnp.floor(s.factory_y))
        item = jnp.where(off % 2 == 0, s.item, self.items - 1)
        f = item + off % self.factories * self.items
        distance = jnp.array([0.0, 31.0, 32.0, 33.0], jnp.float32)[off]
        at_factory = whole.replace(
            x=whole.factory_x[f] - distance, y=whole.factory_y[f], speed=jnp.zeros_like(s.speed), item=item
        )
        corner_x = jnp.where(off % 2 == 0, jnp.float32(LEFT), jnp.float32(RIGHT))
        corner_y = jnp.where(off < 2, jnp.float32(TOP), jnp.float32(BOTTOM))
        at_borders = s.replace(
            x=jnp.full_like(s.x, corner_x),
            y=jnp.full_like(s.y, corner_y),
            heading=jnp.where(off < 2, jnp.abs(s.heading), -jnp.abs(s.heading)),
            factory_x=jnp.full_like(s.factory_x, corner_x),
            factory_y=jnp.full_like(s.factory_y, corner_y),
        )
        late = s.replace(steps=self.max_steps - 1 - off % 2)
        return jax.tree.map(
            lambda a, b, c: jnp.where(which == 0, a, jnp.where(which == 1, b, c)), at_factory, at_borders, late
        )
