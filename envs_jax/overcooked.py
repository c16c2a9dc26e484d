"""Two cooks make onion soup together in a small kitchen. Twin of envs_c/overcooked.h."""

import functools
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Composite, Discrete

UP, DOWN, LEFT, RIGHT, STAY, INTERACT = range(6)

# what a cook holds, or a counter
NOTHING, ONION, DISH, SOUP = range(4)

# a tile of the kitchen; where cooks stand is observed only
FLOOR = 0
COUNTER = 1  # + what is on it
ONIONS = 5  # dispenser
DISHES = 6  # dispenser
SERVING = 7
POT = 8  # + onions in it, up to 2
COOKING = 11  # with 3 onions
READY = 12
SELF = 13  # + facing
OTHER = 17  # + facing
KINDS = 21

AGENTS, POTS = 2, 2
DELIVERY_REWARD = 20
ONION_POINTS = 3  # points are rewards before `shaping`
DISH_POINTS = 3
SOUP_POINTS = 5


class Layout(NamedTuple):
    name: str
    good_soups: int  # in 400 steps, a perf of 1
    rows: tuple[str, ...]  # X counter, O onions, D dishes, P pot, S serving; 1 and 2: the cooks on the floor

    @property
    def drawn(self) -> str:
        return "".join(self.rows)

    @property
    def pots(self) -> list[int]:
        """Their tiles."""
        return [i for i, drawn in enumerate(self.drawn) if drawn == "P"]


# the five of Carroll et al. (2019)
LAYOUTS = (
    Layout("cramped_room", 12, ("XXPXX", "O  2O", "X1  X", "XDXSX")),
    Layout("asymmetric_advantages", 20, ("XXXXXXXXX", "O XSXOX S", "X   P 1 X", "X2  P   X", "XXXDXDXXX")),
    Layout("coordination_ring", 12, ("XXXPX", "X 1 P", "D2X X", "O   X", "XOSXX")),
    Layout("forced_coordination", 14, ("XXXPX", "O X1P", "O2X X", "D X X", "XXXSX")),
    Layout("counter_circuit", 10, ("XXXPPXXX", "X      X", "D XXXX S", "X2    1X", "XXXOOXXX")),
)
DRAWN = {"X": COUNTER, "O": ONIONS, "D": DISHES, "S": SERVING, "P": POT, " ": FLOOR, "1": FLOOR, "2": FLOOR}


class State(PyTreeNode):
    rng: Array  # uint32 (2,)
    tiles: Array  # int8 (height * width,), row by row, without the cooks
    timer: Array  # int32 (2,), steps until the pot is ready, 0 if it does not cook
    position: Array  # int32 (2,), the tile that each cook is on
    facing: Array  # int32 (2,), the last direction it walked or turned
    held: Array  # int32 (2,), what it holds
    soups: Array  # int32 (), delivered
    steps: Array  # int32 (), since the world began


class Seen(PyTreeNode):
    # arrays; in the space, a Box each
    tiles: Any  # int8 (height, width), the whole kitchen, with both cooks
    held: Any  # int8 (2,), what this cook and the other one hold
    numbers: Any  # float32 (3,), steps until each pot is ready / cook_steps; share of the time left


class Overcooked(Env[State]):
    """Two cooks make onion soup together in a small kitchen.

    Three onions in a pot cook for `cook_steps`; the soup is taken with a dish and brought to the
    serving tile. The kitchen `layout` is one of the five of Carroll et al. (2019): 0 cramped_room,
    1 asymmetric_advantages, 2 coordination_ring, 3 forced_coordination, 4 counter_circuit.

    Observation: tiles int8 (height, width), held int8 (2,), numbers float32 (3,) per cook.
        tiles: the whole kitchen. 0 floor, 1 counter (2 with an onion, 3 a dish, 4 a soup), 5 onion dispenser,
        6 dish dispenser, 7 serving, 8 empty pot (9 with one onion, 10 two, 11 cooking, 12 ready), 13 to 16 this
        cook, facing up, down, left, right, 17 to 20 the other.
        held: what this cook and the other one hold. 0 nothing, 1 an onion, 2 a dish, 3 a soup.
        numbers: steps until each of two pots is ready / cook_steps; share of the time left.
    Action: Discrete(6): up, down, left, right, stay, interact with the tile ahead.
    Reward: 20 for both per delivered soup; `shaping` times 3 for an onion into a pot, 3 for a useful
        dish, 5 for a soup taken, for the cook who does it.
    Ends: the world is reset after `max_steps`, which truncates both.
    Score: soups delivered by both; perf is its share of a good number for the kitchen, at most 1.
    Differences from PufferLib: the rules and kitchens of the original; the whole kitchen is seen.
    """

    multi_agent = True

    layout: int = static(default=0, minimum=0, maximum=4)  # number of the kitchen in LAYOUTS
    cook_steps: int = param(default=20, minimum=1, maximum=1000)  # steps from the third onion to the soup
    shaping: float = param(default=1.0)  # weight of the points for steps towards a soup
    max_steps: int = param(default=400, minimum=1)  # steps of the world before it is reset

    action_space = Discrete(6)

    @property
    def num_agents(self) -> int:
        return AGENTS

    @property
    def observation_space(self) -> Composite:
        return Composite(
            Seen,
            tiles=Box(FLOOR, KINDS - 1, (self.height, self.width), np.int8),
            held=Box(NOTHING, SOUP, (AGENTS,), np.int8),
            numbers=Box(0.0, 1.0, (POTS + 1,)),
        )

    @property
    def kitchen(self) -> Layout:
        return LAYOUTS[self.layout]

    @property
    def width(self) -> int:
        return len(self.kitchen.rows[0])

    @property
    def height(self) -> int:
        return len(self.kitchen.rows)

    def _ahead(self, position: Array, facing: Array) -> Array:
        """The tile next to a cook's, in a direction."""
        along = jnp.where(facing <= DOWN, self.width, 1)
        return jnp.where((facing == DOWN) | (facing == RIGHT), position + along, position - along)

    def _dish_is_useful(self, tiles: Array, held: list[Array]) -> Array:
        """Are there more pots with something in them than dishes in hands, and no dish on a counter?"""
        useful = sum(jnp.int32(tiles[pot] > POT) for pot in self.kitchen.pots)
        useful = useful - sum(jnp.int32(item == DISH) for item in held)
        return (useful > 0) & ~(tiles == COUNTER + DISH).any()

    def _interact(self, tiles: Array, all_held: list[Array], a: int, ahead: Array, acts: Array) -> Any:
        """If it acts, a cook uses the tile ahead: the new tiles, what it then holds, its points, soups delivered."""
        at = jnp.arange(len(tiles), dtype=jnp.int32) == ahead
        tile = jnp.where(at, tiles, jnp.int8(0)).sum(dtype=jnp.int32)
        held = all_held[a]
        on_counter = tile - COUNTER
        empty = held == NOTHING

        # a counter: put something down, or pick it up
        counter = (on_counter >= NOTHING) & (on_counter <= SOUP)
        swaps = acts & counter & ((on_counter == NOTHING) != empty)

        # an onion from its dispenser
        takes_onion = acts & (tile == ONIONS) & empty

        # a dish from its dispenser
        takes_dish = acts & (tile == DISHES) & empty
        useful = self._dish_is_useful(tiles, all_held)

        # an onion into a pot, which cooks with the third
        fills = acts & (tile >= POT) & (tile < COOKING) & (held == ONION)

        # the soup from a pot
        takes_soup = acts & (tile == READY) & (held == DISH)

        # a soup is delivered
        serves = acts & (tile == SERVING) & (held == SOUP)

        new = jnp.where(swaps, COUNTER + held, jnp.where(fills, tile + 1, jnp.where(takes_soup, POT, tile)))
        tiles = jnp.where(at, jnp.int8(new), tiles)
        taken = jnp.where(takes_onion, ONION, jnp.where(takes_dish, DISH, jnp.where(takes_soup, SOUP, held)))
        held = jnp.where(swaps, on_counter, jnp.where(fills | serves, NOTHING, taken))
        points = jnp.where(fills, ONION_POINTS, 0) + jnp.where(takes_dish & useful, DISH_POINTS, 0)
        points = points + jnp.where(takes_soup, SOUP_POINTS, 0)
        return tiles, held, points, jnp.int32(serves), tile == FLOOR

    def _cook(self, tiles: Array, timer: Array) -> tuple[Array, Array]:
        """Pots with three onions cook."""
        cells = jnp.arange(len(tiles), dtype=jnp.int32)
        timers = list(timer)
        for k, pot in enumerate(self.kitchen.pots):
            cooks = tiles[pot] == COOKING
            left = jnp.where(timers[k] == 0, self.cook_steps, timers[k])  # at 0 its third onion has just come
            timers[k] = jnp.where(cooks, left - 1, timers[k])
            ready = cooks & (timers[k] == 0)
            tiles = jnp.where((cells == pot) & ready, jnp.int8(READY), tiles)
        return tiles, jnp.stack(timers)

    def init(self, stream: Array) -> State:
        # the kitchen, and the cooks in it, who face up
        drawn = self.kitchen.drawn
        return State(
            rng=stream,
            tiles=jnp.array([DRAWN[tile] for tile in drawn], jnp.int8),
            timer=jnp.zeros(POTS, jnp.int32),
            position=jnp.array([drawn.index("1"), drawn.index("2")], jnp.int32),
            facing=jnp.full(AGENTS, UP, jnp.int32),
            held=jnp.full(AGENTS, NOTHING, jnp.int32),
            soups=jnp.int32(0),
            steps=jnp.int32(0),
        )

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        # both turn, and look at the tile ahead
        facing = jnp.where(action < STAY, action, s.facing)
        ahead = self._ahead(s.position, facing)

        # one after the other interacts with it
        tiles, held, soups = s.tiles, list(s.held), s.soups
        points, is_floor = [jnp.int32(0)] * AGENTS, [jnp.bool_(False)] * AGENTS
        for a in range(AGENTS):
            acts = action[a] == INTERACT
            tiles, held[a], points[a], served, is_floor[a] = self._interact(tiles, held, a, ahead[a], acts)
            soups = soups + served

        # or walks onto it, but neither does if they would meet or swap places
        walks = (action < STAY) & jnp.stack(is_floor)
        target = jnp.where(walks, ahead, s.position)
        meet = target[0] == target[1]
        swap = (target[0] == s.position[1]) & (target[1] == s.position[0])
        position = jnp.where(meet | swap, s.position, target)

        tiles, timer = self._cook(tiles, s.timer)
        steps = s.steps + 1

        delivered = jnp.float32(DELIVERY_REWARD * (soups - s.soups))
        reward = delivered + self.shaping * jnp.float32(jnp.stack(points))
        s = s.replace(
            tiles=tiles,
            timer=timer,
            position=position,
            facing=facing,
            held=jnp.stack(held),
            soups=soups,
            steps=steps,
        )
        nobody = jnp.zeros(AGENTS, bool)
        return s, Outcome(reward, terminated=nobody, truncated=nobody, reset=steps >= self.max_steps)

    def respawn(self, s: State, ended: Array) -> State:
        return s  # no cook ends before the world does

    def observe(self, s: State) -> Seen:
        per_cook_step, per_step = 1 / jnp.float32(self.cook_steps), 1 / jnp.float32(self.max_steps)
        cells = jnp.arange(len(s.tiles), dtype=jnp.int32)[None, :]
        other_position, other_facing, other_held = s.position[::-1], s.facing[::-1], s.held[::-1]

        # the kitchen with both cooks, who have the same place in no state of play
        own = jnp.int8(SELF + s.facing)[:, None]
        other = jnp.int8(OTHER + other_facing)[:, None]
        tiles = jnp.where(cells == other_position[:, None], other, s.tiles[None, :])
        tiles = jnp.where(cells == s.position[:, None], own, tiles)

        # what they hold, and how long the pots and the world will take
        held = jnp.int8(jnp.stack([s.held, other_held], 1))
        left = jnp.float32(self.max_steps - s.steps) * per_step
        numbers = jnp.concatenate([jnp.float32(s.timer) * per_cook_step, left[None]])
        return Seen(
            tiles=tiles.reshape(AGENTS, self.height, self.width),
            held=held,
            numbers=numbers[None].repeat(AGENTS, 0),
        )

    def score(self, s: State) -> Array:
        return jnp.broadcast_to(jnp.float32(s.soups), (AGENTS,))

    def perf(self, s: State) -> Array:
        share = jnp.float32(s.soups) * (1 / jnp.float32(self.kitchen.good_soups))
        return jnp.broadcast_to(jnp.minimum(share, 1.0), (AGENTS,))

    def render(self, s: State) -> Array:
        # the kitchen as the first cook sees it, and what the cooks hold
        tiles = self.observe(s).tiles[0].reshape(-1)
        sprites = jnp.asarray(_sprites())
        picture = sprites[jnp.int32(tiles)]
        items = jnp.asarray(_items())
        for a in range(AGENTS):
            item = items[s.held[a]]
            here = (jnp.arange(len(tiles)) == s.position[a])[:, None, None, None]
            picture = jnp.where(here & (item[None, ..., 3:] > 0), item[None, ..., :3], picture)
        picture = picture.reshape(self.height, self.width, PIXELS, PIXELS, 3).swapaxes(1, 2)
        picture = picture.reshape(self.height * PIXELS, self.width * PIXELS, 3)

        # the time left
        left = jnp.float32(self.max_steps - s.steps) / jnp.float32(self.max_steps)
        lit = jnp.arange(self.width * PIXELS, dtype=jnp.float32) < left * (self.width * PIXELS)
        bar = jnp.where(lit[:, None], jnp.array([SOUP_COLOUR], jnp.uint8), jnp.array([FLOOR_COLOUR], jnp.uint8))
        return jnp.concatenate([picture, bar[None].repeat(BAR, 0)])

    variants: ClassVar = ({"layout": 1}, {"layout": 2}, {"layout": 3}, {"layout": 4, "cook_steps": 1})

    def player(self, s: State, stream: Array) -> Array:
        cost, way = (jnp.asarray(x) for x in _ways(self.layout))
        tiles = jnp.int32(s.tiles)
        stream, drawn = rng.each(stream, 2 * AGENTS)
        chance, anything = rng.unit(drawn[:AGENTS]), jnp.int32(rng.unit(drawn[AGENTS:]) * 6)
        style = s.rng[0] & jnp.uint32(7)  # of the world: the stream of the state does not change

        # how many onions and full pots there are, and how many onions and dishes are on their way
        pots = tiles[np.array(self.kitchen.pots)]
        full = (pots >= COOKING).sum(dtype=jnp.int32)
        missing = jnp.where(pots < COOKING, COOKING - pots, 0).sum(dtype=jnp.int32)
        onions = (s.held == ONION).sum(dtype=jnp.int32) + (tiles == COUNTER + ONION).sum(dtype=jnp.int32)
        dishes = (s.held == DISH).sum(dtype=jnp.int32) + (tiles == COUNTER + DISH).sum(dtype=jnp.int32)

        def one(a: int) -> Array:
            held, here = s.held[a], cost[s.position[a]]
            reaches = cost[s.position[1 - a]] < FAR
            counters = (tiles >= COUNTER) & (tiles <= COUNTER + SOUP)

            # where to go with what it holds, and where for something; from afar, over a counter that both reach
            wanted = jnp.where(held == ONION, (tiles >= POT) & (tiles < COOKING), False)
            wanted = jnp.where(held == DISH, tiles >= COOKING, wanted)
            careless = (style == 1) & (chance[a] < 0.5)
            wanted = jnp.where(held == SOUP, tiles == jnp.where(careless, COUNTER, SERVING), wanted)
            pots_here = ((tiles >= POT) & (here < FAR)).any()
            more_onions, more_dishes = onions < missing, dishes < full
            on_counters = counters & (tiles > COUNTER) & (pots_here | ~reaches)
            onion = (tiles == COUNTER + ONION) & (missing > 0) & on_counters | (tiles == ONIONS) & more_onions
            dish = (tiles == COUNTER + DISH) & (full > 0) & on_counters | (tiles == DISHES) & more_dishes
            soup = tiles == COUNTER + SOUP
            wanted = jnp.where(held == NOTHING, onion | dish | soup, wanted)
            possible = wanted & (here < FAR)
            put_down = (held != NOTHING) & ~possible.any() & (wanted.any() | (held == ONION) & pots_here)
            possible = jnp.where(put_down, (tiles == COUNTER) & reaches & (here < FAR), possible)

            # the nearest; there it interacts
            distance = jnp.where(possible, here, FAR)
            nearest = jnp.argmin(distance)
            step = way[s.position[a], nearest]
            step = jnp.where((here[nearest] == 0) & (s.facing[a] == step), INTERACT, step)
            return jnp.where(possible.any(), step, STAY)

        play = jnp.stack([one(a) for a in range(AGENTS)])

        # sometimes at random, often so if the other is in the way, in one world of eight always
        blocked = (play < STAY) & (self._ahead(s.position, play) == s.position[::-1])
        slips = chance > jnp.where(blocked, 0.5, 0.88)
        return jnp.where(slips | (style == 0), anything, play)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        interacts = action == INTERACT
        before, after = s.held, next_state.held
        at = jnp.arange(len(s.tiles))[None, :] == self._ahead(s.position, next_state.facing)[:, None]
        tile = jnp.where(at, jnp.int32(s.tiles)[None, :], 0).sum(1, dtype=jnp.int32)  # ahead, before the step
        walked = s.position != next_state.position
        blocked = (action < STAY) & (tile == FLOOR) & ~walked
        ahead = self._ahead(s.position, next_state.facing)
        pots = np.array(self.kitchen.pots)
        in_pots, then = jnp.int32(s.tiles[pots]), jnp.int32(next_state.tiles[pots])
        useful = self._dish_is_useful(s.tiles, list(s.held))
        counter = (tile >= COUNTER) & (tile <= COUNTER + SOUP)
        is_pot = (tile >= POT) & (tile <= READY)
        took = interacts & (before == NOTHING)
        gave = interacts & (after == NOTHING)
        idle = interacts & (before == after) & (before != NOTHING)
        events = {
            "walk": walked.any(),
            "turn only": ((action < STAY) & (tile != FLOOR)).any(),
            "stay": (action == STAY).any(),
            "both want one tile": blocked.all() & (ahead[0] == ahead[1]),
            "the other is in the way": (blocked & (ahead == s.position[::-1]) & (action[::-1] >= STAY)).any(),
            "swap refused": blocked.all() & (ahead == s.position[::-1]).all(),
            "one follows the other": walked.all() & (next_state.position == s.position[::-1]).any(),
            "an onion is taken": (took & (tile == ONIONS) & (after == ONION)).any(),
            "a dish is taken": (took & (tile == DISHES) & (after == DISH)).any(),
            "a useful dish": (took & (tile == DISHES)).any() & useful,
            "a dish of no use": (took & (tile == DISHES)).any() & ~useful,
            "hands full at a dispenser": (idle & ((tile == ONIONS) | (tile == DISHES))).any(),
            "first onion": ((in_pots == POT) & (then == POT + 1)).any(),
            "second onion": ((in_pots == POT + 1) & (then == POT + 2)).any(),
            "a pot begins to cook": ((in_pots < COOKING) & (then >= COOKING)).any(),
            "a pot is ready": ((in_pots != READY) & (then == READY)).any(),
            "an onion at a full pot": (idle & is_pot & (tile >= COOKING) & (before == ONION)).any(),
            "a dish at a pot that is not ready": (idle & is_pot & (tile < READY) & (before == DISH)).any(),
            "empty hands at a ready pot": (took & (tile == READY) & (after == NOTHING)).any(),
            "a soup is taken": (interacts & (tile == READY) & (before == DISH) & (after == SOUP)).any(),
            "a soup is delivered": next_state.soups > s.soups,
            "no soup at the serving tile": (idle & (tile == SERVING)).any(),
            "a full counter": (idle & counter & (tile != COUNTER)).any(),
            "both interact": interacts.all(),
            "both interact with one tile": interacts.all() & (ahead[0] == ahead[1]),
            "time limit": next_state.steps >= self.max_steps,
        }
        for name, item in (("an onion", ONION), ("a dish", DISH), ("a soup", SOUP)):
            events[f"{name} is put down"] = (gave & (before == item) & (tile == COUNTER)).any()
            events[f"{name} is picked up"] = (took & (after == item) & (tile == COUNTER + item)).any()
        return events

    def edge_case(self, s: State, stream: Array) -> State:
        # the cooks anywhere, anything in their hands and on some counters, pots at any stage
        cells = len(s.tiles)
        floor = np.array([i for i, drawn in enumerate(self.kitchen.drawn) if DRAWN[drawn] == FLOOR])
        stream, first = rng.below(stream, len(floor))
        stream, gap = rng.below(stream, len(floor) - 1)
        stream, near = rng.below(stream, 2)
        second = (first + jnp.where(near == 1, 0, gap) + 1) % len(floor)
        stream, drawn = rng.each(stream, 8 + cells)
        draws = jnp.int32(drawn >> jnp.uint32(8))
        tiles = jnp.int32(s.tiles)
        stage = POT + draws[4] % 5  # the same of both pots
        tiles = jnp.where((tiles >= POT) & (draws[5] % 2 == 0), stage, tiles)
        counter = (tiles >= COUNTER) & (tiles <= COUNTER + SOUP)
        put = (drawn[8:] & jnp.uint32(1)) == 0
        tiles = jnp.where(counter & put, COUNTER + draws[8:] // 2 % 4, tiles)
        is_pot = jnp.arange(POTS) < len(self.kitchen.pots)
        cooking = tiles[np.array((self.kitchen.pots * 2)[:2])] == COOKING
        timer = jnp.where(draws[6] % 2 == 0, 1, self.cook_steps - draws[6] // 2 % 2)
        return s.replace(
            tiles=jnp.int8(tiles),
            timer=jnp.where(is_pot & cooking, timer, 0),
            position=jnp.asarray(floor, jnp.int32)[jnp.stack([first, second])],
            facing=draws[:2] % 4,
            held=draws[2:4] % 4,
            soups=draws[7] % 40,
            steps=jnp.maximum(self.max_steps - 1 - draws[7] // 64 % 4, 0),
        )


# for the scripted player

FAR = 1000  # a tile that cannot be reached


@functools.cache
def _ways(layout: int) -> tuple[np.ndarray, np.ndarray]:
    """For a cook on tile c who wants to use tile t: steps until it is next to it, and the direction, int32 (c, t)."""
    kitchen = LAYOUTS[layout]
    width, cells = len(kitchen.rows[0]), len(kitchen.drawn)
    floor = [DRAWN[drawn] == FLOOR for drawn in kitchen.drawn]
    steps = {UP: -width, DOWN: width, LEFT: -1, RIGHT: 1}
    cost, way = np.full((cells, cells), FAR, np.int32), np.full((cells, cells), UP, np.int32)
    for target in range(cells):
        if floor[target]:
            continue
        reached = []
        for direction, step in steps.items():
            cell = target - step
            if 0 <= cell < cells and floor[cell]:
                cost[cell, target], way[cell, target] = 0, direction
                reached.append(cell)
        for cell in reached:  # grows: breadth first
            for direction, step in steps.items():
                before = cell - step
                if floor[before] and cost[before, target] == FAR:
                    cost[before, target], way[before, target] = cost[cell, target] + 1, direction
                    reached.append(before)
    return cost, way


# the picture

PIXELS = 32  # of a tile's side
BAR = 6  # pixels, the height of the bar that shows the time left
FLOOR_COLOUR = (46, 52, 64)
COUNTER_COLOUR = (150, 124, 96)
EDGE_COLOUR = (110, 90, 70)
ONION_COLOUR = (232, 196, 92)
DISH_COLOUR = (236, 240, 244)
SOUP_COLOUR = (236, 120, 60)
POT_COLOUR = (70, 74, 84)
SERVING_COLOUR = (96, 168, 110)
COOK_COLOURS = ((86, 156, 214), (214, 110, 160))


@functools.cache
def _sprites() -> np.ndarray:
    """A picture of each kind of tile, uint8 (kinds, PIXELS, PIXELS, 3)."""
    y, x = (np.mgrid[:PIXELS, :PIXELS] + 0.5) / PIXELS * 2 - 1  # -1 to 1
    sprites = np.zeros((KINDS, PIXELS, PIXELS, 3), np.uint8)
    sprites[:] = FLOOR_COLOUR
    border = np.maximum(np.abs(x), np.abs(y)) > 0.92

    def disc(kind: int, colour: Any, radius: float, right: float = 0.0, down: float = 0.0) -> None:
        sprites[kind][(x - right) ** 2 + (y - down) ** 2 < radius**2] = colour

    for kind in range(COUNTER, SELF):
        sprites[kind] = COUNTER_COLOUR
        sprites[kind][border] = EDGE_COLOUR
    for kind, item in ((COUNTER + item, item) for item in (ONION, DISH, SOUP)):
        alpha = _items()[item][..., 3] > 0
        sprites[kind][alpha] = _items()[item][..., :3][alpha]
    for right, down in ((-0.35, 0.3), (0.35, 0.3), (0.0, -0.3)):
        disc(ONIONS, ONION_COLOUR, 0.33, right, down)
    for down in (0.3, 0.0, -0.3):
        disc(DISHES, EDGE_COLOUR, 0.52, 0.0, down)
        disc(DISHES, DISH_COLOUR, 0.46, 0.0, down)
    sprites[SERVING] = SERVING_COLOUR
    sprites[SERVING][border] = EDGE_COLOUR
    for kind in range(POT, READY + 1):
        disc(kind, POT_COLOUR, 0.75)
        disc(kind, SOUP_COLOUR if kind == READY else EDGE_COLOUR if kind == COOKING else FLOOR_COLOUR, 0.58)
        for right, down in ((-0.25, 0.2), (0.25, 0.2), (0.0, -0.25))[: min(kind - POT, 3) if kind != READY else 0]:
            disc(kind, ONION_COLOUR, 0.2, right, down)
    for first, colour in ((SELF, COOK_COLOURS[0]), (OTHER, COOK_COLOURS[1])):
        for facing, (right, down) in enumerate(((0, -1), (0, 1), (-1, 0), (1, 0))):
            disc(first + facing, colour, 0.72)
            disc(first + facing, DISH_COLOUR, 0.2, 0.62 * right, 0.62 * down)
    return sprites


@functools.cache
def _items() -> np.ndarray:
    """A picture of nothing, an onion, a dish and a soup, with whether a pixel belongs to it: (4, PIXELS, PIXELS, 4)."""
    y, x = (np.mgrid[:PIXELS, :PIXELS] + 0.5) / PIXELS * 2 - 1
    items = np.zeros((4, PIXELS, PIXELS, 4), np.uint8)
    for item, rings in (
        (ONION, ((0.36, EDGE_COLOUR), (0.3, ONION_COLOUR))),
        (DISH, ((0.46, EDGE_COLOUR), (0.42, DISH_COLOUR))),
        (SOUP, ((0.46, EDGE_COLOUR), (0.42, DISH_COLOUR), (0.3, SOUP_COLOUR))),
    ):
        for radius, colour in rings:
            items[item][x**2 + y**2 < radius**2] = (*colour, 255)
    return items
