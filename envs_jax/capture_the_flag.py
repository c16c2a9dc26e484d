"""Two teams fetch each other's flag and guard their own. Twin of envs_c/capture_the_flag.h."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, random_action, static
from jaxpuffer.spaces import Box, Composite, Discrete

STAY, UP, DOWN, AHEAD, BACK = range(5)

TEAMS = 2
FEATURES = 4  # of an agent
NUMBERS = 6
FLAG = 1  # columns from a team's back line to its flag
GROUND = 1  # cells around the own flag, in rows and in columns, that are closed to its team
FRONT = 3  # columns from the back line to the first ones where agents begin, before that ground
JAIL = 4  # columns from a team's back line to the jail for its opponents, in the first row
REACH = 1  # cells over which an agent tags, in rows and columns together
NOBODY = -1

# for the bots
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, 1], [0, -1]], np.int32)  # rows down and columns ahead of each action
DANGER = 3  # cells that a careful agent goes round to keep away from a guard
WAIT = 5  # columns from the back line to where a guard waits
FAR = 1000  # cells, more than any way has


class State(PyTreeNode):
    # per team; columns are counted from the own team's back line
    rng: Array  # uint32 (2,)
    row: Array  # int32 (2, team_size), from the top
    ahead: Array  # int32 (2, team_size), columns
    home_row: Array  # int32 (2, team_size), where each began
    home_ahead: Array  # int32 (2, team_size)
    jailed: Array  # int32 (2, team_size), steps left in jail, 0 if it is free
    carrier: Array  # int32 (2,), which agent of a team has the enemy's flag, -1 for none
    points: Array  # int32 (2,)
    flag_row: Array  # int32 (), of both flags
    steps: Array  # int32 (), since the world began


class Seen(PyTreeNode):
    # arrays; in the space, a Box each
    agents: Any  # float32 (2 team_size, 4): itself, its mates, its opponents
    numbers: Any  # float32 (6,)


class CaptureTheFlag(Env[State]):
    """Two teams fetch each other's flag and guard their own. Each agent sees the field from its own team's side.

    Observation: agents float32 (2 team_size, 4), numbers float32 (6,) per agent.
        agents: itself, its mates, its opponents. Rows down and columns ahead from it, over those of the field, and in
        its own entry its place; 1 with the flag; share of its time in jail that is left.
        numbers: how far the enemy's flag is down and ahead, and the own flag ahead; points made minus points lost over
        `winning_points`; share of the time left; its number in the team over `team_size`.
    Action: Discrete(5): 0 stay, 1 up, 2 down, 3 ahead, 4 back.
    Reward: 1 for each agent of a team that brings the enemy's flag into its own half, `flag_reward` if it takes it,
        `tag_reward` for an opponent tagged. The other team gets minus that.
    Ends: terminated for all when a team has `winning_points`; the world is reset after `max_steps`.
    Score: points made minus points lost; perf scales it to 0..1. The figure `points` is those made.
    Differences from PufferLib: it has no such game.
    """

    team_size: int = static(default=2, minimum=2, maximum=3)
    half: int = static(default=8, minimum=5, maximum=100)  # columns of each team's half
    rows: int = static(default=9, minimum=3, maximum=100)  # of the field
    jail_steps: int = param(default=30, minimum=1, maximum=10_000)  # in jail for who is not freed
    winning_points: int = param(default=3, minimum=1, maximum=10_000)  # that end the world
    flag_reward: float = param(default=0.5, minimum=-10.0, maximum=10.0)  # for the team that takes the flag
    tag_reward: float = param(default=0.0, minimum=-10.0, maximum=10.0)  # for the team that tags an opponent
    max_steps: int = param(default=300, minimum=1)  # steps of the world before it is reset

    multi_agent = True
    action_space: ClassVar = Discrete(5)
    bots: ClassVar[tuple[str, ...]] = ("random", "rusher", "guard")

    @property
    def num_agents(self) -> int:
        return TEAMS * self.team_size

    @property
    def teams(self) -> tuple[int, ...]:
        return (0,) * self.team_size + (1,) * self.team_size

    @property
    def observation_space(self) -> Composite:
        return Composite(Seen, agents=Box(-1.0, 1.0, (self.num_agents, FEATURES)), numbers=Box(-1.0, 1.0, (NUMBERS,)))

    def seen(self, ahead: Any) -> Any:
        """A column as the other team counts it."""
        return 2 * self.half - 1 - ahead

    def carries(self, carrier: Array) -> Array:
        """Who has a flag, bool (2, team_size)."""
        return carrier[:, None] == np.arange(self.team_size, dtype=np.int32)[None]

    def walk(self, s: State, action: Array) -> State:
        """All who are free walk at once, and nobody is in another's way.

        The field ends, and the ground around the own flag is closed.
        """
        row = s.row + jnp.int32(action == DOWN) - jnp.int32(action == UP)
        ahead = s.ahead + jnp.int32(action == AHEAD) - jnp.int32(action == BACK)
        row = jnp.clip(row, 0, self.rows - 1)
        ahead = jnp.clip(ahead, 0, 2 * self.half - 1)
        closed = (jnp.abs(row - s.flag_row) <= GROUND) & (jnp.abs(ahead - FLAG) <= GROUND)
        walks = (s.jailed == 0) & ~closed
        return s.replace(row=jnp.where(walks, row, s.row), ahead=jnp.where(walks, ahead, s.ahead))

    def apart(self, row: Array, ahead: Array, s: State) -> Array:
        """How far each of some cells (2, n) of a team's is from each opponent, rows and columns together."""
        rows = jnp.abs(row[:, :, None] - s.row[::-1][:, None])
        return rows + jnp.abs(ahead[:, :, None] - self.seen(s.ahead[::-1])[:, None])

    def tag(self, s: State) -> Array:
        """Who is in the enemy's half and has an opponent in that half within reach, bool (2, team_size)."""
        guards = (s.jailed == 0) & (s.ahead < self.half)
        touched = (guards[::-1][:, None] & (self.apart(s.row, s.ahead, s) <= REACH)).any(-1)
        return touched & (s.jailed == 0) & (s.ahead >= self.half)

    def jail(self, s: State, tagged: Array) -> State:
        """Who is tagged goes to jail.

        Who has been there is freed by a mate who comes, or when the time is up, and is at home.
        """
        jail = self.seen(JAIL)
        comes = ((s.jailed == 0) & ~tagged & (s.row == 0) & (s.ahead == jail)).any(-1, keepdims=True)
        left = jnp.where(comes, 0, s.jailed - 1)
        freed = ~tagged & (s.jailed > 0) & (left == 0)
        lost = (tagged & self.carries(s.carrier)).any(-1)
        return s.replace(
            carrier=jnp.where(lost, NOBODY, s.carrier),
            jailed=jnp.where(tagged, self.jail_steps, jnp.where(s.jailed > 0, left, s.jailed)),
            row=jnp.where(tagged, 0, jnp.where(freed, s.home_row, s.row)),
            ahead=jnp.where(tagged, jail, jnp.where(freed, s.home_ahead, s.ahead)),
        )

    def take(self, s: State) -> tuple[State, Array]:
        """The first agent on the enemy's flag takes it if it is there; which teams did, bool (2,)."""
        there = (s.jailed == 0) & (s.row == s.flag_row) & (s.ahead == self.seen(FLAG))
        taken = there.any(-1) & (s.carrier == NOBODY)
        return s.replace(carrier=jnp.where(taken, jnp.int32(jnp.argmax(there, -1)), s.carrier)), taken

    def bring_home(self, s: State) -> tuple[State, Array]:
        """It is a point when the carrier is in its own half; which teams made one, bool (2,)."""
        home = (self.carries(s.carrier) & (s.ahead < self.half)).any(-1)
        return s.replace(carrier=jnp.where(home, NOBODY, s.carrier), points=s.points + jnp.int32(home)), home

    def init(self, stream: Array) -> State:
        # both teams begin alike
        stream, flag = rng.below(stream, self.rows - 2 * GROUND)
        rows, columns = [], []
        for _ in range(self.team_size):
            stream, row = rng.below(stream, self.rows)
            stream, column = rng.below(stream, self.half - FRONT)
            rows.append(row)
            columns.append(FRONT + column)
        row, ahead = (jnp.stack([jnp.stack(x)] * TEAMS) for x in (rows, columns))
        return State(
            rng=stream,
            row=row,
            ahead=ahead,
            home_row=row,
            home_ahead=ahead,
            jailed=jnp.zeros_like(row),
            carrier=jnp.full(TEAMS, NOBODY, jnp.int32),
            points=jnp.zeros(TEAMS, jnp.int32),
            flag_row=GROUND + flag,
            steps=jnp.int32(0),
        )

    def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
        s = self.walk(s, action.reshape(TEAMS, -1))
        tagged = self.tag(s)
        s = self.jail(s, tagged)
        s, taken = self.take(s)
        s, points = self.bring_home(s)
        tags = jnp.int32(tagged[::-1]).sum(-1, dtype=jnp.int32)
        s = s.replace(steps=s.steps + 1)

        # what one team wins the other loses
        more = [jnp.float32(x - x[::-1]) for x in (jnp.int32(points), jnp.int32(taken), tags)]
        reward = more[0] + self.flag_reward * more[1]
        reward = reward + self.tag_reward * more[2]
        won = (s.points >= self.winning_points).any()
        return s, Outcome(
            reward=self.per_agent(reward),
            terminated=jnp.full(self.num_agents, won),
            truncated=jnp.zeros(self.num_agents, bool),
            reset=s.steps >= self.max_steps,
        )

    def per_agent(self, x: Array) -> Array:
        """What its team has, for each agent, (num_agents,)."""
        return jnp.repeat(x, self.team_size, total_repeat_length=self.num_agents)

    def respawn(self, s: State, ended: Array) -> State:
        return s  # no agent ends before the world does

    def observe(self, s: State) -> Seen:
        n = self.team_size
        per_row, per_column = 1 / jnp.float32(self.rows), 1 / jnp.float32(2 * self.half)
        per_jail_step, per_point = 1 / jnp.float32(self.jail_steps), 1 / jnp.float32(self.winning_points)
        per_step, per_mate = 1 / jnp.float32(self.max_steps), 1 / jnp.float32(n)

        # itself, its mates from the next one on, its opponents
        def around(own: Array, theirs: Array) -> Array:
            mates = jnp.stack([jnp.roll(own, -k, 1) for k in range(n)], -1)
            return jnp.concatenate([mates, jnp.broadcast_to(theirs[::-1][:, None], mates.shape)], -1)

        def offset(own: Array, theirs: Array) -> Array:
            return around(own, theirs) - jnp.where(np.arange(2 * n)[None, None] == 0, 0, own[:, :, None])

        carries = jnp.float32(self.carries(s.carrier))
        jailed = jnp.float32(s.jailed) * per_jail_step
        agents = [
            jnp.float32(offset(s.row, s.row)) * per_row,
            jnp.float32(offset(s.ahead, self.seen(s.ahead))) * per_column,
            around(carries, carries),
            around(jailed, jailed),
        ]

        def same(x: Array) -> Array:
            return jnp.broadcast_to(x, (TEAMS, n))

        numbers = [
            jnp.float32(s.flag_row - s.row) * per_row,
            jnp.float32(self.seen(FLAG) - s.ahead) * per_column,
            jnp.float32(FLAG - s.ahead) * per_column,
            same(jnp.float32(s.points - s.points[::-1])[:, None] * per_point),
            same(jnp.float32(self.max_steps - s.steps) * per_step),
            same(jnp.arange(n, dtype=jnp.float32) * per_mate),
        ]
        return Seen(
            agents=jnp.stack(agents, -1).reshape(self.num_agents, self.num_agents, FEATURES),
            numbers=jnp.stack(numbers, -1).reshape(self.num_agents, NUMBERS),
        )

    def score(self, s: State) -> Array:
        return self.per_agent(jnp.float32(s.points - s.points[::-1]))

    def perf(self, s: State) -> Array:
        per_point = 1 / jnp.float32(self.winning_points)
        return 0.5 + 0.5 * (self.score(s) * per_point)

    def figures(self, s: State) -> dict[str, Array]:
        return {"points": self.per_agent(jnp.float32(s.points))}

    def render(self, s: State) -> Array:
        pixels = 20  # along a cell
        height, width = self.rows, 2 * self.half
        y, x = np.mgrid[0 : height * pixels, 0 : width * pixels]
        row, column = y // pixels, x // pixels
        up, along = y % pixels - pixels / 2 + 0.5, x % pixels - pixels / 2 + 0.5
        inside = np.maximum(np.abs(up), np.abs(along))
        dark, light = np.array([[6, 40, 44], [48, 16, 20]]), np.array([[0, 187, 187], [230, 60, 60]])

        def paint(picture: Array, where: Array, colour: np.ndarray) -> Array:
            return jnp.where(where[:, :, None], jnp.array(colour, jnp.uint8)[None, None], picture)

        picture = jnp.broadcast_to(jnp.array([6, 24, 24], jnp.uint8), (*y.shape, 3))
        for team in range(TEAMS):
            # a half with its ground, its flag, and the jail for the other team
            columns = column if team == 0 else width - 1 - column
            cell = (columns < self.half) & (inside < pixels / 2 - 0.5)
            picture = paint(picture, jnp.array(cell), dark[team])
            near = (jnp.abs(row - s.flag_row) <= GROUND) & (np.abs(columns - FLAG) <= GROUND)
            picture = paint(picture, cell & near, 2 * dark[team])
            home = (row == s.flag_row) & (columns == FLAG) & (s.carrier[1 - team] == NOBODY)
            picture = paint(picture, home & (inside < 0.3 * pixels), light[team])
            bars = (row == 0) & (columns == JAIL) & (x % 4 < 2)
            picture = paint(picture, jnp.array(bars), np.array([120, 120, 120]))
        for team in range(TEAMS):
            columns = column if team == 0 else width - 1 - column
            for k in range(self.team_size):
                here = (row == s.row[team, k]) & (columns == s.ahead[team, k])
                radius = up * up + along * along
                picture = paint(picture, here & (radius < (0.42 * pixels) ** 2), light[team])
                carries = here & (s.carrier[team] == k) & (inside < 0.2 * pixels)
                picture = paint(picture, carries, light[1 - team])
                jailed = here & (s.jailed[team, k] > 0) & (radius < (0.25 * pixels) ** 2)
                picture = paint(picture, jailed, dark[team])
        return picture

    def wants(self, s: State, guards: bool) -> tuple[Array, Array]:
        """The cell that each agent wants to reach, row and column, int32 (2, team_size) both.

        Who has the flag goes home with it, the others fetch it. With `guards` they free their mates first, and the
        first of each team stays at home and goes for who comes there.
        """
        row, ahead = jnp.full_like(s.row, s.flag_row), jnp.full_like(s.ahead, self.seen(FLAG))
        if guards:
            locked = (s.jailed > 0).any(-1, keepdims=True)
            row, ahead = jnp.where(locked, 0, row), jnp.where(locked, self.seen(JAIL), ahead)
        carries = self.carries(s.carrier)
        row, ahead = jnp.where(carries, s.row, row), jnp.where(carries, self.half - 1, ahead)
        if not guards:
            return row, ahead

        # the nearest opponent in the own half, but one with the flag first
        theirs = self.seen(s.ahead[::-1])
        comes = (s.jailed[::-1] == 0) & (theirs < self.half)
        away = self.apart(s.row[:, :1], s.ahead[:, :1], s)[:, 0] - jnp.where(carries[::-1], FAR, 0)
        nearest = jnp.where(comes, away, 2 * FAR).argmin(-1)[:, None] == np.arange(self.team_size)[None]
        to_row = jnp.where(nearest, s.row[::-1], 0).sum(-1, dtype=jnp.int32)
        to_ahead = jnp.where(nearest, theirs + jnp.int32(carries[::-1]), 0).sum(-1, dtype=jnp.int32)
        some = comes.any(-1)
        to_row, to_ahead = jnp.where(some, to_row, s.flag_row), jnp.where(some, to_ahead, min(WAIT, self.half - 1))
        return row.at[:, 0].set(to_row), ahead.at[:, 0].set(to_ahead)

    def bot(self, s: State, stream: Array, name: str) -> Array:
        """At random; or the move that leads nearest to what an agent wants, for guards also away from danger."""
        if name == "random":
            return random_action(self, s, stream)
        guards = name == "guard"
        to_row, to_ahead = self.wants(s, guards)

        # where each action leads
        moved = [self.walk(s, jnp.full_like(s.row, action)) for action in range(len(MOVES))]
        row, ahead = (jnp.stack(x, -1) for x in ([m.row for m in moved], [m.ahead for m in moved]))
        cost = jnp.abs(row - to_row[:, :, None]) + jnp.abs(ahead - to_ahead[:, :, None])

        # where a guard could tag it after its own next move, and where already now; sometimes it does not care
        _, drawn = rng.each(stream, cost.size + s.row.size)
        chance = jnp.int32(drawn >> jnp.uint32(24))
        if guards:
            flat = (TEAMS, -1)
            apart = self.apart(row.reshape(flat), ahead.reshape(flat), s).reshape(*cost.shape, -1)
            dangerous = ((s.jailed == 0) & (s.ahead < self.half))[::-1][:, None, None]
            risk = ((apart <= REACH + 1) & dangerous).any(-1), ((apart <= REACH) & dangerous).any(-1)
            careful = (ahead >= self.half) & (chance[cost.size :].reshape(*s.row.shape, 1) >= 32)
            cost = cost + jnp.where(careful, DANGER * (jnp.int32(risk[0]) + jnp.int32(risk[1])), 0)
        cost = 256 * cost + chance[: cost.size].reshape(cost.shape)
        return jnp.int32(jnp.argmin(cost, -1)).reshape(-1)

    variants = ({"team_size": 3}, {"tag_reward": 0.1})

    def player(self, s: State, stream: Array) -> Array:
        """As one of the bots, each team as its own, with some moves at random."""
        stream, drawn = rng.each(stream, self.num_agents)
        anything = random_action(self, s, stream)
        rusher, guard = (self.bot(s, stream, name) for name in ("rusher", "guard"))
        # of the world: the stream of the state does not change
        style = (s.rng[0] >> jnp.uint32(2 * np.arange(TEAMS))) & jnp.uint32(3)
        style = self.per_agent(style)
        planned = jnp.where(style == 0, anything, jnp.where(style == 1, rusher, guard))
        return jnp.where(drawn >> jnp.uint32(28) == 0, anything, planned)

    def events(self, s: State, action: Array, next_state: State) -> dict[str, Array]:
        walked = self.walk(s, action.reshape(TEAMS, -1))
        tagged = self.tag(walked)
        free = (s.jailed == 0) & (next_state.jailed == 0)
        came = free & (walked.row == 0) & (walked.ahead == self.seen(JAIL))
        freed = (s.jailed > 0) & (next_state.jailed == 0)
        on_flag = free & (walked.row == s.flag_row) & (walked.ahead == self.seen(FLAG))
        made = next_state.points - s.points
        stopped = (s.jailed == 0) & (walked.row == s.row) & (walked.ahead == s.ahead)
        walks = action.reshape(TEAMS, -1) != STAY
        edge = (walked.row == 0) | (walked.row == self.rows - 1) | (walked.ahead == 0)
        apart = self.apart(walked.row, walked.ahead, walked)
        abroad = (walked.jailed == 0) & (walked.ahead >= self.half)
        meet = (apart <= REACH) & abroad[:, :, None] & abroad[::-1][:, None]
        return {
            "a flag is taken": ((s.carrier == NOBODY) & (next_state.carrier != NOBODY)).any(),
            "two on a flag": (on_flag.sum(-1) >= 2).any(),
            "a point of team 0": made[0] == 1,
            "a point of team 1": made[1] == 1,
            "both make a point": (made == 1).all(),
            "a tag": tagged.any(),
            "two tags": tagged.sum() >= 2,
            "both teams tag": tagged.any(-1).all(),
            "the carrier is tagged": (tagged & self.carries(s.carrier)).any(),
            "both are abroad and meet": meet.any(),
            "freed by a mate": (freed & (s.jailed > 1) & came.any(-1, keepdims=True)).any(),
            "freed by the time": (freed & (s.jailed == 1)).any(),
            "all of a team in jail": (next_state.jailed > 0).all(-1).any(),
            "stopped by the edge": (stopped & walks & edge).any(),
            "stopped by the own ground": (stopped & walks & ~edge).any(),
            "team 0 wins": next_state.points[0] >= self.winning_points,
            "team 1 wins": next_state.points[1] >= self.winning_points,
            "the time is up": next_state.steps >= self.max_steps,
        }

    def edge_case(self, s: State, stream: Array) -> State:
        """Agents beside the line, the flags and the jails, someone with a flag, a point before the end, the last step.

        There they may also be in jail with little time left.
        """
        n = self.num_agents
        stream, which = rng.below(stream, 4)
        stream, first = rng.below(stream, self.team_size + 1)
        stream, second = rng.below(stream, self.team_size + 1)
        _, drawn = rng.each(stream, 3 * n)
        shape = (3, TEAMS, self.team_size)
        row, ahead, jailed = (jnp.int32(x) for x in (drawn >> jnp.uint32(16)).reshape(shape))
        places = [FLAG + GROUND + 1, self.half - 1, self.half, self.seen(JAIL), self.seen(FLAG), self.seen(FLAG) - 1]
        place = jnp.array(places)[ahead % len(places)]
        at_place = s.replace(
            row=jnp.where(row % 4 < 2, s.flag_row, jnp.where(row % 4 == 2, 0, row % self.rows)),
            ahead=place,
            jailed=jnp.maximum(jailed % 8 - 5, 0),
            carrier=jnp.stack([first, second]) - 1,
        )
        late = s.replace(points=s.points.at[0].set(self.winning_points - 1), steps=self.max_steps - 1 - first % 2)
        names = State.__annotations__
        chosen = [
            jnp.where(which < 2, getattr(at_place, k), jnp.where(which == 2, getattr(late, k), getattr(s, k)))
            for k in names
        ]
        return State(*chosen)
