"""Run an environment's two ports side by side inside one jitted loop and compare all their results.

Levels (each from the same keys and the same players):

- functions: `init`, `transition`, `init`/`respawn` on random end flags, `observe`,
  `score`, `perf` and `action_mask`, each alone and from the same state;
- resync: whole steps, the JAX state reloaded from C before each;
- rollout: both run without being re-synchronised, auto-reset included.

With `varied`, every environment of the batch has its own parameters. A port that divides
by a parameter where C multiplies by its reciprocal agrees with C if they are uniform,
because XLA then rewrites the division.
"""

import contextlib
import dataclasses
import functools
import math
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.c_backend import CEnv
from jaxpuffer.env import Env, has_action_mask, random_action
from jaxpuffer.pytree import parameter_fields
from parity import Mode
from parity.named import make_both

Level = Literal["functions", "resync", "rollout"]
CHUNK = 1000  # steps of one jitted call, at most
CHUNK_BYTES = 1 << 26  # of what they produce, at most
DEVICE_CHUNK = 100  # the same where C's steps are kept to be sent to another device
WILD_SHARE = 32  # if there is a mask, one action in this many is drawn without regard to it
VARIATION = 0.25  # of a parameter's value, up and down

# what native mode allows: FMA changes the last bits of floats, and so, rarely, the result of a comparison
NATIVE_INTEGER_SHARE = 1e-6
NATIVE_FLOAT_ERROR = 1e-5


@dataclasses.dataclass
class Divergence:
    """The first place where the two ports differ."""

    step: int
    env_index: int
    field: str
    c: Any
    jax: Any
    ulps: float
    action: Any

    def __str__(self) -> str:
        action = np.asarray(self.action)
        with np.printoptions(threshold=12, edgeitems=3, linewidth=10_000):  # one line for worlds of many agents too
            text = " ".join(str(action if action.size <= 12 else action.ravel()).split())
        return (
            f"step {self.step}, environment {self.env_index}, {self.field}: C {self.c}, JAX {self.jax}"
            f" ({self.ulps:.0f} ULP), action {text}"
        )


@dataclasses.dataclass
class Report:
    """The results of one run."""

    env: str
    level: Level
    mode: Mode
    seed: int
    num_envs: int
    num_agents: int
    steps: int
    fields: int
    episodes: int
    events: dict[str, int]
    mismatches: dict[str, int]  # field -> environment-steps that differ
    integer_share: float  # of environment-steps, whose integers differ
    float_error: float  # largest |difference| over the field's scale, where the integers agree
    max_ulps: float
    nans: int
    seconds: float
    divergence: Divergence | None = None

    @property
    def agent_steps(self) -> int:
        return self.steps * self.num_envs * self.num_agents

    @property
    def missing_events(self) -> list[str]:
        return [event for event, count in self.events.items() if not count]

    @property
    def gaps(self) -> list[str]:
        """What the run should have reached and did not, so that it proves little, in words."""
        found = [] if self.episodes else ["no episode ended"]
        if not self.events:
            found.append("the environment names no events")
        elif self.missing_events:
            found.append(f"{len(self.missing_events)} events did not happen")
        return found

    @property
    def equal(self) -> bool:
        """Whether the ports agree as the mode requires."""
        if self.nans:
            return False
        if self.mode == "strict":
            return not self.mismatches
        return self.integer_share <= NATIVE_INTEGER_SHARE and self.float_error <= NATIVE_FLOAT_ERROR

    @property
    def counts(self) -> bool:
        """Whether the run is large enough to count: at most 256 environments, 1,000 episodes, 20,000 steps."""
        return self.num_envs <= 256 and self.episodes >= 1000 and self.steps >= 20000

    def line(self) -> str:
        if self.nans:
            verdict = f"NaN in {self.nans} environment-steps"
        elif not self.mismatches and self.gaps:
            verdict = f"no difference, but {' and '.join(self.gaps)}"
        elif not self.mismatches:
            verdict = "exact"
        elif self.mode == "native":
            differing = ", ".join(f"{field} {count}" for field, count in self.mismatches.items())
            verdict = (
                f"integers differ in {self.integer_share:.1e} of environment-steps, floats by {self.float_error:.1e}"
                f" of their scale ({'within' if self.equal else 'OUTSIDE'} bounds; differing: {differing})"
            )
        else:
            verdict = f"DIVERGED at {self.divergence}"
        events = f"{len(self.events) - len(self.missing_events)}/{len(self.events)} events"
        if self.missing_events:
            events += f" (MISSING: {', '.join(self.missing_events)})"
        return (
            f"{self.env:20s} {self.level:9s} {self.agent_steps:>10,} agent-steps, {self.fields} fields, "
            f"{self.episodes:,} episodes, {events}, max {self.max_ulps:.0f} ULP, "
            f"{self.agent_steps / self.seconds / 1e6:.2f} M steps/s: {verdict}"
        )


def compare(
    name: str,
    level: Level = "rollout",
    mode: Mode = "strict",
    steps: int = 20_000,
    num_envs: int = 64,
    seed: int = 0,
    closed_over: bool = False,
    device: Any = None,
    varied: bool = False,
    **params: Any,
) -> Report:
    """Run both ports of an environment for `steps` steps of `num_envs` environments.

    Stops at the first divergence in strict mode. The environments are operands of the
    jitted program, or constants in it with `closed_over`; XLA rewrites the two differently.
    With `device`, for example a GPU, C plays on the CPU and the JAX port takes the same steps there.
    With `varied`, the first environment has the given parameters, and the traced ones of the
    others are up to a quarter larger or smaller.

    Raises:
        ValueError: `device` with another level than resync, or `varied` with a device or level functions.
    """
    if device is not None and level != "resync":
        raise ValueError(f"level is {level!r}; on another device the JAX port can only be compared at 'resync'")
    if varied and (device is not None or level == "functions"):
        raise ValueError("varied is True; parameters vary at levels 'resync' and 'rollout', only on the CPU")
    env, c_env = make_both(name, **params)
    if varied:
        env = vary(env, num_envs, seed)
        c_env = dataclasses.replace(c_env, env=env)
    sides_of = functools.partial(_Sides, num_envs=num_envs, level=level, varied=varied)

    def start(envs: Any, key: Array) -> Any:
        return sides_of(*envs).start(key)

    def run(envs: Any, carry: Any, length: int) -> Any:
        return sides_of(*envs).run(carry, length)

    def record(envs: Any, carry: Any, length: int) -> Any:
        return sides_of(*envs).record(carry, length)

    def check(envs: Any, recorded: Any) -> Any:
        return sides_of(*envs).check(recorded)

    def jit(function: Any, **kwargs: Any) -> Any:
        if closed_over:
            return jax.jit(functools.partial(function, (env, c_env)), **kwargs)
        return functools.partial(jax.jit(function, **kwargs), (env, c_env))

    carry, first = jit(start)(jax.random.key(seed))
    one_step = jax.eval_shape(lambda envs, carry: sides_of(*envs).step(carry)[1], (env, c_env), carry)
    length = min(steps, CHUNK if device is None else DEVICE_CHUNK, max(1, CHUNK_BYTES // _bytes_of(one_step)))
    jitted = jit(run if device is None else record, static_argnames="length")
    checked = jit(check)

    tally, done, divergence = Tally(), 0, None
    place = tally.add({name: (c[None], other[None]) for name, (c, other) in jax.device_get(first).items()})
    if mode == "strict" and place is not None:
        divergence = Divergence(0, *place[1:], action="none yet")
    started = time.perf_counter()
    while done < steps and divergence is None:
        carry, played = jitted(carry, length=length)
        if device is not None:
            played = checked(jax.device_put(played, device))
        # the last chunk may have more steps than needed
        pairs, actions, events, ended = jax.tree.map(lambda x, left=steps - done: x[:left], jax.device_get(played))
        place = tally.add(pairs)
        tally.count(events, ended)
        if mode == "strict" and place is not None:
            divergence = Divergence(done + place[0], *place[1:], action=actions[place[0], place[1]])
        done += len(ended)
    seconds = time.perf_counter() - started

    fields = tally.fields.values()
    return Report(
        env=name,
        level=level,
        mode=mode,
        seed=seed,
        num_envs=num_envs,
        num_agents=env.num_agents,
        steps=done,
        fields=len(fields),
        episodes=tally.episodes,
        events=tally.events,
        mismatches={name: field.differing for name, field in tally.fields.items() if field.differing},
        integer_share=tally.integer_rows / ((done + 1) * num_envs),
        float_error=max(field.error / field.scale if field.scale > 0 else field.error for field in fields),
        max_ulps=max(field.ulps for field in fields),
        nans=tally.nans,
        seconds=seconds,
        divergence=divergence,
    )


class _Sides:
    """Both batches and the loop that steps them together."""

    def __init__(self, env: Env, c_env: CEnv, num_envs: int, level: Level, varied: bool = False) -> None:
        self.env, self.c_env, self.level, self.num_envs, self.varied = env, c_env, level, num_envs, varied
        if not varied:
            self.jax, self.c = env.batch(num_envs), c_env.batch(num_envs)

    def each(self, function: Any, *args: Any) -> Any:
        """`function(sides, *args)` for each environment alone; its parameters and `args` have an axis."""

        def one(env: Env, c_env: CEnv, *args: Any) -> Any:
            return function(_Sides(env, c_env, 1, self.level), *args)

        return jax.vmap(one)(self.env, self.c_env, *args)

    def start(self, key: Array) -> tuple[Any, dict[str, tuple[Array, Array]]]:
        """(carry, pairs of the results of a first reset)."""
        reset_key, play_key = jax.random.split(key)
        firsts, streams = rng.seed(reset_key, (self.num_envs,)), rng.seed(play_key, (self.num_envs,))
        if self.varied:
            carry, pairs = self.each(_Sides.begin, firsts[:, None], streams[:, None])
            return carry, jax.tree.map(_rows_together, pairs)
        return self.begin(firsts, streams)

    def begin(self, firsts: Array, streams: Array) -> tuple[Any, dict[str, tuple[Array, Array]]]:
        c_state, c_obs = self.c.reset_streams(firsts)
        jax_state, jax_obs = self.jax.reset_streams(firsts)
        pairs = {
            "first.state": (self.c.unpack(c_state), jax_state),
            "first.obs": (c_obs, jax_obs),
            "first.action_mask": (self.c.action_mask(c_state), self.jax.action_mask(jax_state)),
        }
        return (jax_state, c_state, streams), _flatten(pairs)

    def step(self, carry: Any) -> tuple[Any, dict[str, tuple[Array, Array]], Any]:
        """One step: (carry, pairs of the results of C and JAX, (actions, events, ended))."""
        if self.varied:
            carry, pairs, rest = self.each(_Sides.step, carry)
            return carry, *jax.tree.map(_rows_together, (pairs, rest))
        jax_state, c_state, streams = carry
        if self.level != "rollout":
            jax_state = self.c.unpack(c_state)
        actions = jax.vmap(functools.partial(choose_action, self.env))(jax_state.env, streams)
        streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)

        next_c, from_c = self.step_c(c_state, actions)
        if self.level == "functions":
            next_jax, from_jax, events, functions = self.functions(jax_state, c_state, actions, streams)
        else:
            (next_jax, from_jax, events), functions = self.step_jax(jax_state, actions), {}
        pairs = {name: (from_c[name], from_jax[name]) for name in from_c} | functions
        return (next_jax, next_c, streams), _flatten(pairs), (actions, events, from_c[""].log.n)

    def step_c(self, c_state: Array, actions: Array) -> tuple[Array, dict[str, Any]]:
        """A whole step in C: (state, all its results)."""
        state, step = self.c.step(c_state, actions)
        produced = {"state": self.c.unpack(state), "": step, "action_mask": self.c.action_mask(state)}
        if self.level != "functions":  # which compares the halves of a step
            _, half = self.c.transition(c_state, actions)
            produced["final_obs"] = half.obs
        return state, produced

    def step_jax(self, state: Any, actions: Array) -> tuple[Any, dict[str, Any], dict[str, Array]]:
        """The same in JAX: (state, all its results, events)."""
        middle, step = self.jax.transition(state, actions)
        events = jax.vmap(self.env.events)(state.env, actions, middle.env)
        state, obs = self.jax.reset_ended(middle, step)
        produced = {
            "state": state,
            "": step.replace(obs=obs),
            "action_mask": self.jax.action_mask(state),
            "final_obs": step.obs,
        }
        return state, produced, events

    def functions(
        self, state: Any, c_state: Any, actions: Array, streams: Array
    ) -> tuple[Any, dict[str, Any], dict[str, Array], dict[str, Any]]:
        """The result of `step_jax`, and pairs of the results of each function alone from the same state.

        JAX takes both in one batch of twice the size: a program takes several times as long to
        compile if it contains every function three times.
        """
        n = self.c.num_envs
        twice = self.env.batch(2 * n)

        def both(a: Any, b: Any) -> Any:
            return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a, b)

        def apart(tree: Any) -> tuple[Any, Any]:
            return jax.tree.map(lambda x: x[:n], tree), jax.tree.map(lambda x: x[n:], tree)

        # a transition from the state, and from the borders of the rules
        edge = state.replace(env=jax.vmap(self.env.edge_case)(state.env, streams))
        alive = (streams[0] != 0).any()  # as every stream is
        middle, step = _unfused(alive, twice.transition, both(state, edge), both(actions, actions))
        (jax_middle, jax_edge), (jax_step, jax_edge_step) = apart(middle), apart(step)
        c_middle, c_step = self.c.transition(c_state, actions)
        c_edge, c_edge_step = self.c.transition(self.c.pack(edge), actions)
        events = jax.vmap(self.env.events)(state.env, actions, jax_middle.env)

        # any agent may end in any state: respawn and init must handle all states
        chance = jnp.where(streams[:, 0] % jnp.uint32(4) == 0, 1.0, 0.3)
        draw = lax.bitcast_convert_type(streams, jnp.int32)[:, :1] >> jnp.arange(self.env.num_agents, dtype=jnp.int32)[
            None, :
        ] % jnp.int32(31)
        ended = (jnp.float32(draw & 127) * jnp.float32(1 / 128)) < chance[:, None]
        ended = ended.reshape(jax_step.terminated.shape)
        flags = jax_step.replace(terminated=ended, truncated=jnp.zeros_like(ended))
        c_reset, c_obs = self.c.reset_ended(c_middle, flags)
        before = both(jax_middle, self.c.unpack(c_middle))
        after, obs = _unfused(alive, twice.reset_ended, before, both(jax_step, flags))
        (next_jax, jax_reset), (next_obs, jax_obs) = apart(after), apart(obs)
        from_jax = {
            "state": next_jax,
            "": jax_step.replace(obs=next_obs),
            "action_mask": self.jax.action_mask(next_jax),
        }

        c_first, c_first_obs = self.c.reset_streams(streams)
        jax_first, jax_first_obs = self.jax.reset_streams(streams)
        pairs = {
            "transition.state": (self.c.unpack(c_middle), jax_middle),
            "transition.step": (c_step, jax_step),
            "reset_ended.state": (self.c.unpack(c_reset), jax_reset),
            "reset_ended.obs": (c_obs, jax_obs),
            "reset.state": (self.c.unpack(c_first), jax_first),
            "reset.obs": (c_first_obs, jax_first_obs),
            "observe": (self.c.observe(c_state), self.jax.observe(state)),
            "score": (self.c.score(c_state), self.jax.score(state)),
            "figures": (self.c.figures(c_state), self.jax.figures(state)),
            "pack": (self.c.unpack(self.c.pack(self.c.unpack(c_state))), state),
            "edge_case.state": (self.c.unpack(c_edge), jax_edge),
            "edge_case.step": (c_edge_step, jax_edge_step),
        }
        return next_jax, from_jax, events, pairs

    def run(self, carry: Any, length: int) -> tuple[Any, Any]:
        """`length` steps: (carry, the results of `step`)."""

        def one(carry: Any, _: None) -> Any:
            carry, pairs, rest = self.step(carry)
            return carry, (pairs, *rest)

        return lax.scan(one, carry, length=length)

    def record(self, carry: Any, length: int) -> tuple[Any, Any]:
        """`length` steps in C alone, recorded: for each the JAX state before it, the actions and all its results."""

        def one(carry: Any, _: None) -> Any:
            _, c_state, streams = carry
            before = self.c.unpack(c_state)
            actions = jax.vmap(functools.partial(choose_action, self.env))(before.env, streams)
            streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)
            c_state, produced = self.step_c(c_state, actions)
            return (before, c_state, streams), (before, actions, produced)

        return lax.scan(one, carry, length=length)

    def check(self, recorded: Any) -> Any:
        """The recorded steps taken in JAX: the same results as of `run`."""

        def one(carry: tuple[()], step: Any) -> Any:
            before, actions, from_c = step
            _, from_jax, events = self.step_jax(before, actions)
            pairs = _flatten({name: (from_c[name], from_jax[name]) for name in from_c})
            return carry, (pairs, actions, events, from_c[""].log.n)

        return lax.scan(one, (), recorded)[1]


def choose_action(env: Env, state: Any, stream: Array) -> Array:
    """The player's action; if there is a mask, sometimes one drawn from the whole action space.

    The second is left out if the rules do not say what an illegal action does.
    """
    action = env.player(state, stream)
    if not has_action_mask(env) or not env.illegal_actions:
        return action
    stream, roll = rng.below(stream ^ jnp.uint32(0x9E3779B9), WILD_SHARE)
    return jnp.where(roll == 0, random_action(env, state, stream, masked=False), action)


def vary(env: Env, num_envs: int, seed: int) -> Env:
    """The environment with an axis on each traced parameter: the first row as given, the others near it.

    A value that the environment refuses is replaced by the given one.
    """
    draw = np.random.default_rng(seed)
    names = [field.name for field, _ in parameter_fields(type(env)) if not field.metadata["static"]]
    envs = [env]
    for _ in range(1, num_envs):
        changed = env
        for name in names:
            value = np.asarray(getattr(env, name))
            near = value * draw.uniform(1 - VARIATION, 1 + VARIATION, value.shape)
            near = near.astype(value.dtype) if value.dtype.kind == "f" else np.rint(near).astype(value.dtype)
            with contextlib.suppress(ValueError):
                changed = changed.replace(**{name: near})
        envs.append(changed)
    return jax.tree.map(lambda *rows: jnp.stack(rows), *envs)


def _rows_together(x: Array) -> Array:
    """(groups, rows, ...) as (groups * rows, ...)."""
    return x.reshape(-1, *x.shape[2:])


def _unfused(true: Array, function: Any, *args: Any) -> Any:
    """`function(*args)` in a branch: otherwise XLA fuses it into each use, and compiles several times as long."""
    function = jax.jit(function, inline=True)  # traced once, for both branches

    def nothing(*args: Any) -> Any:
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, *args))

    return lax.cond(true, function, nothing, *args)


@dataclasses.dataclass
class Field:
    """The differences found in one field."""

    differing: int = 0  # environment-steps
    ulps: float = 0.0  # the largest distance, where the integers agree
    error: float = 0.0  # the largest difference, where the integers agree
    scale: float = 0.0  # the largest magnitude in C


class Tally:
    """The differences found in all chunks of steps, on the host: XLA would compile the comparisons for seconds."""

    def __init__(self) -> None:
        self.fields: dict[str, Field] = {}
        self.integer_rows = 0  # environment-steps whose integers differ
        self.nans = 0  # environment-steps
        self.episodes = 0
        self.events: dict[str, int] = {}

    def count(self, events: dict[str, np.ndarray], ended: np.ndarray) -> None:
        self.episodes += int(ended.sum())
        for name, happened in events.items():
            self.events[name] = self.events.get(name, 0) + int(happened.sum())

    def add(self, pairs: dict[str, tuple[np.ndarray, np.ndarray]]) -> tuple[int, int, str, Any, Any, float] | None:
        """Compare arrays (time, rows, ...); the first place that differs: (step, row, entry, C's, JAX's, ULPs)."""
        shape = next(iter(pairs.values()))[0].shape[:2]
        differing, integers, nans = {}, np.zeros(shape, bool), np.zeros(shape, bool)
        for name, (c, other) in pairs.items():
            field = self.fields.setdefault(name, Field())
            if c.dtype.kind == "f":
                low, high = float(c.min()), float(c.max())
                field.scale = max(field.scale, -low, high)
                if np.isnan(low) or np.isnan(other.min()):
                    nans |= _rows(np.isnan(c) | np.isnan(other))
            if np.array_equal(_bits(c), _bits(other)):
                continue
            differs = _unequal(c, other)
            if differs.any():
                differing[name] = differs
                field.differing += int(_rows(differs).sum())
                if c.dtype.kind != "f":
                    integers |= _rows(differs)
        self.integer_rows += int(integers.sum())
        self.nans += int(nans.sum())
        if not differing:
            return None

        for name, differs in differing.items():
            c, other = (x[~integers][differs[~integers]] for x in pairs[name])
            if c.dtype.kind == "f" and c.size:
                field = self.fields[name]
                field.ulps = max(field.ulps, float(_ulps(c, other).max()))
                field.error = max(field.error, float(np.abs(c - other).max()))
        # in the earliest step the states first, because the rest follows from them
        step = min(int(np.argwhere(differs)[0][0]) for differs in differing.values())
        name = min((name for name, differs in differing.items() if differs[step].any()), key=_causes_first)
        where = (step, *map(int, np.argwhere(differing[name][step])[0]))
        c, other = (x[where] for x in pairs[name])
        entry = name + (str(list(where[2:])) if len(where) > 2 else "")
        return step, where[1], entry, c, other, float(_ulps(c, other)) if c.dtype.kind == "f" else 0.0


def _bytes_of(tree: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _rows(x: np.ndarray) -> np.ndarray:
    """(time, rows, ...) to bool (time, rows): where any entry is true."""
    return np.asarray(x.reshape(*x.shape[:2], -1).any(2))


def _bits(x: np.ndarray) -> np.ndarray:
    return x.view(f"u{x.dtype.itemsize}")


def _causes_first(name: str) -> tuple[bool, bool, str]:
    return not name.startswith(("state", "first.state")), "state" not in name, name


def _flatten(pairs: dict[str, Any]) -> dict[str, tuple[Array, Array]]:
    fields = {}
    for prefix, (c, other) in pairs.items():
        for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(c)[0], jax.tree.leaves(other), strict=True):
            fields[(prefix + jax.tree_util.keystr(path)).lstrip(".")] = (a, b)
    return fields


def _unequal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Differing entries; -0 equals 0, and NaN equals NaN (it is counted separately)."""
    if a.dtype.kind != "f":
        return a != b
    return ~((a == b) | (np.isnan(a) & np.isnan(b)))


def _ulps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The distance of two float32 arrays in units in the last place, int64."""

    def ordered(x: np.ndarray) -> np.ndarray:
        bits = np.asarray(x).view(np.int32).astype(np.int64)
        return np.where(bits < 0, -(2**31) - bits, bits)

    return np.abs(ordered(a) - ordered(b))
