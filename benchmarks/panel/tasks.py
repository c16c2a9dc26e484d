"""The panel's environments, written as by a researcher who is new to the library.

They differ in ways that can break defaults: units of rewards (0.001 to 1000) and observations (0.01 to 1000), dense
and sparse rewards, lengths of episodes (5 to 5000 steps), kinds of spaces, masks, memory. Each has `good_return`, the
known return of a good player, or `good_player`, a scripted player that is measured. The score is the return.
"""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode
from jaxpuffer.spaces import Box, Discrete, MultiDiscrete, Space


class State(PyTreeNode):
    """The state of every task: some numbers, some whole numbers, and the episode's return until now."""

    rng: Array  # uint32 (2,)
    x: Array  # float32 (n,)
    k: Array  # int32 (m,)
    steps: Array  # int32 ()
    total: Array  # float32 (), the return


def begin(stream: Array, x: Any = (), k: Any = ()) -> State:
    numbers = jnp.stack([jnp.float32(v) for v in x]) if len(x) else jnp.zeros(1, jnp.float32)
    whole = jnp.stack([jnp.int32(v) for v in k]) if len(k) else jnp.zeros(1, jnp.int32)
    return State(stream, numbers, whole, jnp.int32(0), jnp.float32(0))


class Task(Env[State]):
    """A task; `rule` is one step of it: (state, reward, terminated)."""

    limit: ClassVar[int] = 200  # steps
    good_return: ClassVar[float | None] = None
    settings: ClassVar[dict[str, Any]] = {}  # fields of PPOConfig that the defaults cannot have: a memory

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        raise NotImplementedError

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        s, reward, terminated = self.rule(s, action)
        reward = jnp.float32(reward)
        s = s.replace(steps=s.steps + 1, total=s.total + reward)
        return s, Outcome(reward, terminated, ~terminated & (s.steps >= self.limit))

    def score(self, s: State) -> Array:
        return s.total


NEVER = jnp.bool_(False)


def wrapped(angle: Array) -> Array:
    return (angle + math.pi) % (2 * math.pi) - math.pi


class Pendulum(Task):
    """Gymnasium's Pendulum-v1: rewards to -16 per step, truncation only."""

    observation_space: ClassVar[Space] = Box(-8.0, 8.0, (3,))
    action_space: ClassVar[Space] = Box(-2.0, 2.0, (1,))
    good_return = -150.0

    def init(self, stream: Array) -> State:
        stream, angle = rng.uniform(stream, -math.pi, math.pi)
        stream, speed = rng.uniform(stream, -1.0, 1.0)
        return begin(stream, (angle, speed))

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        angle, speed = s.x[0], s.x[1]
        torque = jnp.clip(action[0], -2.0, 2.0)
        cost = wrapped(angle) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
        speed = jnp.clip(speed + (15.0 * jnp.sin(angle) + 3.0 * torque) * 0.05, -8.0, 8.0)
        return s.replace(x=jnp.stack([angle + 0.05 * speed, speed])), -cost, NEVER

    def observe(self, s: State) -> Array:
        return jnp.stack([jnp.cos(s.x[0]), jnp.sin(s.x[0]), s.x[1]])


class Acrobot(Task):
    """Gymnasium's Acrobot-v1: -1 per step until the tip is up."""

    observation_space: ClassVar[Space] = Box(-30.0, 30.0, (6,))
    action_space: ClassVar[Space] = Discrete(3)
    limit = 500
    good_return = -80.0

    def init(self, stream: Array) -> State:
        x = []
        for _ in range(4):
            stream, value = rng.uniform(stream, -0.1, 0.1)
            x.append(value)
        return begin(stream, x)

    def slope(self, x: Array, torque: Array) -> Array:
        a, b, va, vb = x[0], x[1], x[2], x[3]
        d1 = 0.25 + 1.0 + 0.25 + jnp.cos(b) + 2.0
        d2 = 0.25 + 0.5 * jnp.cos(b) + 1.0
        phi2 = 0.5 * 9.8 * jnp.cos(a + b - math.pi / 2)
        phi1 = -0.5 * vb**2 * jnp.sin(b) - vb * va * jnp.sin(b) + 1.5 * 9.8 * jnp.cos(a - math.pi / 2) + phi2
        acc_b = (torque + d2 / d1 * phi1 - 0.5 * va**2 * jnp.sin(b) - phi2) / (0.25 + 1.0 - d2**2 / d1)
        return jnp.stack([va, vb, -(d2 * acc_b + phi1) / d1, acc_b])

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        torque, h = jnp.float32(action) - 1.0, 0.2
        k1 = self.slope(s.x, torque)
        k2 = self.slope(s.x + h / 2 * k1, torque)
        k3 = self.slope(s.x + h / 2 * k2, torque)
        k4 = self.slope(s.x + h * k3, torque)
        x = s.x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        fastest = (4 * math.pi, 9 * math.pi)
        speeds = [jnp.clip(x[2 + i], -limit, limit) for i, limit in enumerate(fastest)]
        x = jnp.stack([wrapped(x[0]), wrapped(x[1]), *speeds])
        up = -jnp.cos(x[0]) - jnp.cos(x[1] + x[0]) > 1.0
        return s.replace(x=x), jnp.where(up, 0.0, -1.0), up

    def observe(self, s: State) -> Array:
        a, b = s.x[0], s.x[1]
        return jnp.stack([jnp.cos(a), jnp.sin(a), jnp.cos(b), jnp.sin(b), s.x[2], s.x[3]])


class MaskGrid(Task):
    """Walk to a goal on 8 by 8; moves into walls are masked, and cost 1000 if taken. The score is minus the steps."""

    observation_space: ClassVar[Space] = Box(0.0, 1.0, (4,))
    action_space: ClassVar[Space] = Discrete(4)
    limit = 100
    good_return = -16 / 3  # the mean distance

    def init(self, stream: Array) -> State:
        cells = []
        for _ in range(4):
            stream, cell = rng.below(stream, 8)
            cells.append(cell)
        same = (cells[0] == cells[2]) & (cells[1] == cells[3])
        cells[2] = jnp.where(same, (cells[2] + 1) % 8, cells[2])
        return begin(stream, k=cells)

    def action_mask(self, s: State) -> Array:
        return jnp.stack([s.k[0] > 0, s.k[0] < 7, s.k[1] > 0, s.k[1] < 7])

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        legal = self.action_mask(s)[action]
        x = s.k[0] + jnp.int32(action == 1) - jnp.int32(action == 0)
        y = s.k[1] + jnp.int32(action == 3) - jnp.int32(action == 2)
        there = (x == s.k[2]) & (y == s.k[3])
        reward = jnp.where(legal, jnp.where(there, 1.0, -0.01), -1000.0)
        return s.replace(k=jnp.stack([x, y, s.k[2], s.k[3]])), reward, there

    def observe(self, s: State) -> Array:
        return jnp.float32(s.k) / 7.0

    def score(self, s: State) -> Array:
        return -jnp.float32(s.steps)


class Inventory(Task):
    """Order stock for a demand of 0 to 400: rewards in the hundreds, observations to 2000, truncation only."""

    observation_space: ClassVar[Space] = Box(0.0, 2000.0, (2,))
    action_space: ClassVar[Space] = Discrete(11)
    limit = 50
    good_return = 16849.0  # the best order-up-to policy

    def init(self, stream: Array) -> State:
        stream, stock = rng.uniform(stream, 0.0, 500.0)
        return begin(stream, (stock,))

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        stream, demand = rng.uniform(s.rng, 0.0, 400.0)
        order = 50.0 * jnp.float32(action)
        have = jnp.minimum(s.x[0] + order, 1000.0)
        sold = jnp.minimum(have, demand)
        reward = 4.0 * sold - 2.0 * order - 0.4 * (have - sold)
        return s.replace(rng=stream, x=(have - sold)[None]), reward, NEVER

    def observe(self, s: State) -> Array:
        return jnp.stack([s.x[0], jnp.float32(self.limit - s.steps)])


class MountainCarContinuous(Task):
    """Gymnasium's MountainCarContinuous-v0: 100 at the top, which has to be found; force has a cost; solved at 90."""

    observation_space: ClassVar[Space] = Box(-1.2, 0.6, (2,))
    action_space: ClassVar[Space] = Box(-1.0, 1.0, (1,))
    limit = 999
    good_return = 93.0

    def init(self, stream: Array) -> State:
        stream, position = rng.uniform(stream, -0.6, -0.4)
        return begin(stream, (position, 0.0))

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        force = jnp.clip(action[0], -1.0, 1.0)
        speed = jnp.clip(s.x[1] + 0.0015 * force - 0.0025 * jnp.cos(3 * s.x[0]), -0.07, 0.07)
        position = jnp.clip(s.x[0] + speed, -1.2, 0.6)
        speed = jnp.where((position <= -1.2) & (speed < 0), 0.0, speed)
        top = position >= 0.45
        return s.replace(x=jnp.stack([position, speed])), jnp.where(top, 100.0, 0.0) - 0.1 * action[0] ** 2, top

    def observe(self, s: State) -> Array:
        return s.x


class Harbour(Task):
    """Steer a boat to a berth kilometres away: positions in metres, reward minus the distance in metres."""

    observation_space: ClassVar[Space] = Box(-1e5, 1e5, (4,))
    action_space: ClassVar[Space] = Box(-50.0, 50.0, (2,))
    limit = 100

    def init(self, stream: Array) -> State:
        x = []
        for _ in range(4):
            stream, value = rng.uniform(stream, -1000.0, 1000.0)
            x.append(value)
        return begin(stream, x)

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        place = s.x[:2] + jnp.clip(action, -50.0, 50.0)
        return s.replace(x=jnp.concatenate([place, s.x[2:]])), -jnp.linalg.norm(place - s.x[2:]), NEVER

    def observe(self, s: State) -> Array:
        return s.x

    def good_player(self, s: State, stream: Array) -> Array:
        return jnp.clip(s.x[2:] - s.x[:2], -50.0, 50.0)


class Lens(Task):
    """Keep a lens in focus: positions of 0.01, moves of 0.002 at most, rewards of 0.001 at most, wind."""

    observation_space: ClassVar[Space] = Box(-1.0, 1.0, (2,))
    action_space: ClassVar[Space] = Box(-0.002, 0.002, (1,))

    def init(self, stream: Array) -> State:
        stream, position = rng.uniform(stream, -0.02, 0.02)
        stream, focus = rng.uniform(stream, -0.02, 0.02)
        return begin(stream, (position, focus))

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        stream, wind = rng.uniform(s.rng, -0.001, 0.001)
        position = s.x[0] + jnp.clip(action[0], -0.002, 0.002) + wind
        miss = (position - s.x[1]) / 0.004
        return s.replace(rng=stream, x=jnp.stack([position, s.x[1]])), 0.001 * jnp.exp(-(miss**2)), NEVER

    def observe(self, s: State) -> Array:
        return s.x

    def good_player(self, s: State, stream: Array) -> Array:
        return jnp.clip(s.x[1:] - s.x[:1], -0.002, 0.002)


class Casino(Task):
    """Five bets: one of four machines, shown by a colour, pays 1000; the others cost 1000."""

    observation_space: ClassVar[Space] = Box(0.0, 1.0, (4,))
    action_space: ClassVar[Space] = Discrete(4)
    limit = 5

    def init(self, stream: Array) -> State:
        stream, colour = rng.below(stream, 4)
        return begin(stream, k=(colour,))

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        pays = action == 3 - s.k[0]
        stream, colour = rng.below(s.rng, 4)
        return s.replace(rng=stream, k=colour[None]), jnp.where(pays, 1000.0, -1000.0), NEVER

    def observe(self, s: State) -> Array:
        return jnp.float32(jnp.arange(4, dtype=jnp.int32) == s.k[0])

    def good_player(self, s: State, stream: Array) -> Array:
        return 3 - s.k[0]


class Reactor(Task):
    """Keep a temperature that drifts at 300 for 5000 steps: truncation only, 1 per step near it."""

    observation_space: ClassVar[Space] = Box(0.0, 1000.0, (1,))
    action_space: ClassVar[Space] = Discrete(3)
    limit = 5000

    def init(self, stream: Array) -> State:
        stream, heat = rng.uniform(stream, 100.0, 500.0)
        return begin(stream, (heat,))

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        stream, drift = rng.uniform(s.rng, -4.0, 4.0)
        heat = jnp.clip(s.x[0] + 5.0 * (jnp.float32(action) - 1.0) + drift, 0.0, 1000.0)
        return s.replace(rng=stream, x=heat[None]), jnp.float32(jnp.abs(heat - 300.0) < 10.0), NEVER

    def observe(self, s: State) -> Array:
        return s.x

    def good_player(self, s: State, stream: Array) -> Array:
        miss = s.x[0] - 300.0
        return jnp.where(miss > 2.5, 0, jnp.where(miss < -2.5, 2, 1))


class Vault(Task):
    """A reward of 1 after both a key and a door of a 6 by 6 room were reached: sparse, terminated there."""

    observation_space: ClassVar[Space] = Box(0.0, 5.0, (3,))
    action_space: ClassVar[Space] = Discrete(4)
    limit = 100

    def init(self, stream: Array) -> State:
        stream, x = rng.below(stream, 6)
        stream, y = rng.below(stream, 6)
        return begin(stream, k=(x, y, 0))

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        x = jnp.clip(s.k[0] + jnp.int32(action == 1) - jnp.int32(action == 0), 0, 5)
        y = jnp.clip(s.k[1] + jnp.int32(action == 3) - jnp.int32(action == 2), 0, 5)
        has_key = (s.k[2] == 1) | ((x == 0) & (y == 5))
        opened = has_key & (x == 5) & (y == 0)
        return s.replace(k=jnp.stack([x, y, jnp.int32(has_key)])), jnp.float32(opened), opened

    def observe(self, s: State) -> Array:
        return jnp.float32(s.k)

    def good_player(self, s: State, stream: Array) -> Array:
        to_key = jnp.where(s.k[0] > 0, 0, 3)
        to_door = jnp.where(s.k[0] < 5, 1, 2)
        return jnp.where(s.k[2] == 1, to_door, to_key)


class Cliff(Task):
    """Gymnasium's CliffWalking in which a fall ends the episode: -1 per step, -100 for a fall, a Discrete
    observation."""

    observation_space: ClassVar[Space] = Discrete(48)
    action_space: ClassVar[Space] = Discrete(4)
    good_return = -13.0

    def init(self, stream: Array) -> State:
        return begin(stream, k=(3, 0))

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        y = jnp.clip(s.k[0] + jnp.int32(action == 2) - jnp.int32(action == 0), 0, 3)
        x = jnp.clip(s.k[1] + jnp.int32(action == 1) - jnp.int32(action == 3), 0, 11)
        fell = (y == 3) & (x > 0) & (x < 11)
        there = (y == 3) & (x == 11)
        return s.replace(k=jnp.stack([y, x])), jnp.where(fell, -100.0, -1.0), fell | there

    def observe(self, s: State) -> Array:
        return s.k[0] * 12 + s.k[1]


class Taps(Task):
    """Two taps of five and three positions fill tanks of litres and millilitres to a mark; cost in cents."""

    observation_space: ClassVar[Space] = Box(0.0, 1e5, (4,))
    action_space: ClassVar[Space] = MultiDiscrete((5, 3))
    limit = 60

    def init(self, stream: Array) -> State:
        x = []
        for high in (2.0, 2000.0, 2.0, 2000.0):
            stream, value = rng.uniform(stream, 0.0, high)
            x.append(value)
        return begin(stream, x)

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        litres = s.x[0] + 0.1 * (jnp.float32(action[0]) - 2.0)
        millilitres = s.x[1] + 150.0 * (jnp.float32(action[1]) - 1.0)
        cost = 100.0 * jnp.abs(litres - s.x[2]) + 0.1 * jnp.abs(millilitres - s.x[3])
        return s.replace(x=jnp.stack([litres, millilitres, s.x[2], s.x[3]])), -cost, NEVER

    def observe(self, s: State) -> Array:
        return s.x

    def good_player(self, s: State, stream: Array) -> Array:
        first = jnp.clip(jnp.round((s.x[2] - s.x[0]) / 0.1), -2, 2) + 2
        second = jnp.clip(jnp.round((s.x[3] - s.x[1]) / 150.0), -1, 1) + 1
        return jnp.int32(jnp.stack([first, second]))


class Recall(Task):
    """Name at the end, ten steps later, the one of three signs that was shown at the start; needs a memory."""

    observation_space: ClassVar[Space] = Box(0.0, 1.0, (4,))
    action_space: ClassVar[Space] = Discrete(3)
    limit = 11
    settings: ClassVar[dict[str, Any]] = {"policy": "mingru", "layers": 2}

    def init(self, stream: Array) -> State:
        stream, sign = rng.below(stream, 3)
        return begin(stream, k=(sign,))

    def rule(self, s: State, action: Array) -> tuple[State, Array, Array]:
        last = s.steps == 10
        return s, jnp.where(last & (action == s.k[0]), 10.0, 0.0), last

    def observe(self, s: State) -> Array:
        shown = jnp.float32(jnp.arange(3, dtype=jnp.int32) == s.k[0]) * jnp.float32(s.steps == 0)
        return jnp.concatenate([shown, jnp.float32(s.steps == 10)[None]])

    def good_player(self, s: State, stream: Array) -> Array:
        return s.k[0]


TASKS: dict[str, type[Task]] = {
    cls.__name__: cls
    for cls in (
        Pendulum, Acrobot, MaskGrid, Inventory, MountainCarContinuous, Harbour, Lens, Casino, Reactor, Vault, Cliff,
        Taps, Recall,
    )
}  # fmt: skip


def player_of(task: Task) -> Any:
    """The scripted good player, None if there is none."""
    return getattr(task, "good_player", None)
