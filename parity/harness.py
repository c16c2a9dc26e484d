"""Run an environment's two ports side by side inside one jitted loop and compare all they produce.

Levels (each from the same keys and the same players):

- functions: `init`, `transition`, `init`/`respawn` on random end flags, `observe`,
  `score`, `perf` and `action_mask`, each alone and from the same state;
- resync: whole steps, the JAX state reloaded from C before each;
- rollout: both run free, auto-reset included.

With `varied`, every environment of the batch has parameters of its own. A port that divides
by a parameter where C multiplies by its reciprocal agrees with C as long as they are uniform,
for XLA then rewrites the division.
"""

import contextlib
import dataclasses
import functools
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import make, rng
from jaxpuffer.c_backend import CEnv
from jaxpuffer.env import Env, has_action_mask, random_action
from jaxpuffer.pytree import parameter_fields
from parity import Mode

Level = Literal["functions", "resync", "rollout"]
CHUNK = 1000  # steps of one jitted call
DEVICE_CHUNK = 100  # the same where C's steps are kept to be sent to another device
WILD_SHARE = 32  # where there is a mask, one action in so many is drawn whatever it says
VARIATION = 0.25  # of a parameter's value, up and down

# what native mode allows: FMA moves the last bits of floats, and so, rarely, a comparison
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
    """What one run compared and found."""

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
        """What the run should have met and did not, so that it shows little, in words."""
        found = [] if self.episodes else ["no episode ended"]
        if not self.events:
            found.append("the environment names no events")
        elif self.missing_events:
            found.append(f"{len(self.missing_events)} events did not happen")
        return found

    @property
    def equal(self) -> bool:
        """Whether the ports agree as the mode demands."""
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
    With `device`, a GPU say, C plays on the CPU and the JAX port takes the same steps there.
    With `varied`, the first environment has the given parameters, and the traced ones of the
    others lie up to a quarter above or below.

    Raises:
        ValueError: `device` with another level than resync, or `varied` with a device or level functions.
    """
    if device is not None and level != "resync":
        raise ValueError(f"level is {level!r}; on a device of its own the JAX port can only be compared at 'resync'")
    if varied and (device is not None or level == "functions"):
        raise ValueError("varied is True; parameters vary at levels 'resync' and 'rollout', on the CPU alone")
    env, c_env = make(name, **params), make(name, backend="c", **params)
    if varied:
        env = vary(env, num_envs, seed)
        c_env = dataclasses.replace(c_env, env=env)
    sides_of = functools.partial(_Sides, num_envs=num_envs, level=level, varied=varied)

    def start(envs: Any, key: Array) -> Any:
        return sides_of(*envs).start(key)

    def run(envs: Any, carry: Any, length: int) -> Any:
        return sides_of(*envs).run(carry, length)

    def step(envs: Any, carry: Any) -> Any:
        return sides_of(*envs).step(carry)

    def record(envs: Any, carry: Any, length: int) -> Any:
        return sides_of(*envs).record(carry, length)

    def check(envs: Any, recorded: Any) -> Any:
        return sides_of(*envs).check(recorded)

    def jit(function: Any, **kwargs: Any) -> Any:
        if closed_over:
            return jax.jit(functools.partial(function, (env, c_env)), **kwargs)
        return functools.partial(jax.jit(function, **kwargs), (env, c_env))

    carry, first = jit(start)(jax.random.key(seed))
    reset = jax.device_get(_difference(first, jnp.int32(0), 1))
    totals: dict[str, Any] = {}
    done, divergence = 0, None
    if mode == "strict":
        divergence = _first_difference(first, 0, np.full(num_envs, "none yet"))
    started = time.perf_counter()
    jitted = jit(run if device is None else record, static_argnames="length")
    checked = jit(check)
    while done < steps and divergence is None:
        length = min(CHUNK if device is None else DEVICE_CHUNK, steps - done)
        before = carry
        carry, found = jitted(carry, length=length)
        if device is not None:
            found = checked(jax.device_put(found, device))
        found = jax.device_get(found)
        totals = _accumulate(totals, found)
        if mode == "strict":
            wrong = [int(f["first"]) for f in found["fields"].values() if f["count"]]
            if wrong:
                divergence = _locate(jit(step), before, min(wrong), done)
        done += length
    seconds = time.perf_counter() - started

    fields = reset["fields"] | totals.get("fields", {})
    scaled = [f["error"] / f["scale"] if f["scale"] > 0 else f["error"] for f in fields.values()]
    return Report(
        env=name,
        level=level,
        mode=mode,
        seed=seed,
        num_envs=num_envs,
        num_agents=env.num_agents,
        steps=done,
        fields=len(fields),
        episodes=int(totals.get("episodes", 0)),
        events={event: int(count) for event, count in totals.get("events", {}).items()},
        mismatches={field: int(f["count"]) for field, f in fields.items() if f["count"]},
        integer_share=float(reset["integer_rows"] + totals.get("integer_rows", 0)) / ((done + 1) * num_envs),
        float_error=float(max(scaled)),
        max_ulps=float(max(f["ulps"] for f in fields.values())),
        nans=int(reset["nans"] + totals.get("nans", 0)),
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
        """`function(sides, *args)` for environments of one each, whose parameters and `args` have an axis."""

        def one(env: Env, c_env: CEnv, *args: Any) -> Any:
            return function(_Sides(env, c_env, 1, self.level), *args)

        return jax.vmap(one)(self.env, self.c_env, *args)

    def start(self, key: Array) -> tuple[Any, dict[str, tuple[Array, Array]]]:
        """(carry, pairs of what a first reset gives)."""
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
        """One step: (carry, pairs of what C and JAX produced, (actions, events, ended))."""
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
        """A whole step in C: (state, all that it produced)."""
        state, step = self.c.step(c_state, actions)
        produced = {"state": self.c.unpack(state), "": step, "action_mask": self.c.action_mask(state)}
        if self.level != "functions":  # which compares the halves of a step
            _, half = self.c.transition(c_state, actions)
            produced["final_obs"] = half.obs
        return state, produced

    def step_jax(self, state: Any, actions: Array) -> tuple[Any, dict[str, Any], dict[str, Array]]:
        """The same in JAX: (state, all that it produced, events)."""
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
        """What `step_jax` gives, and pairs of what each function does alone from the same state.

        JAX takes both in one batch of twice the size: a program takes several times as long to
        compile where every function stands in it three times.
        """
        n = self.c.num_envs
        twice = self.env.batch(2 * n)

        def both(a: Any, b: Any) -> Any:
            return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), a, b)

        def apart(tree: Any) -> tuple[Any, Any]:
            return jax.tree.map(lambda x: x[:n], tree), jax.tree.map(lambda x: x[n:], tree)

        # a transition from the state, and from where the rules turn
        edge = state.replace(env=jax.vmap(self.env.edge_case)(state.env, streams))
        alive = (streams[0] != 0).any()  # as every stream is
        middle, step = _unfused(alive, twice.transition, both(state, edge), both(actions, actions))
        (jax_middle, jax_edge), (jax_step, jax_edge_step) = apart(middle), apart(step)
        c_middle, c_step = self.c.transition(c_state, actions)
        c_edge, c_edge_step = self.c.transition(self.c.pack(edge), actions)
        events = jax.vmap(self.env.events)(state.env, actions, jax_middle.env)

        # anyone may end anywhere: respawn and init must cope with any state
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
            "pack": (self.c.unpack(self.c.pack(self.c.unpack(c_state))), state),
            "edge_case.state": (self.c.unpack(c_edge), jax_edge),
            "edge_case.step": (c_edge_step, jax_edge_step),
        }
        return next_jax, from_jax, events, pairs

    def run(self, carry: Any, length: int) -> tuple[Any, dict[str, Any]]:
        """`length` steps, reduced on the device to what `compare` reports."""

        def one(carry: Any, _: None) -> Any:
            carry, pairs, (_, events, ended) = self.step(carry)
            return carry, pairs, events, ended

        return _reduced(one, carry, None, length)

    def record(self, carry: Any, length: int) -> tuple[Any, Any]:
        """`length` steps in C alone, kept: of each the JAX state before it, the actions and all that it produced."""

        def one(carry: Any, _: None) -> Any:
            _, c_state, streams = carry
            before = self.c.unpack(c_state)
            actions = jax.vmap(functools.partial(choose_action, self.env))(before.env, streams)
            streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)
            c_state, produced = self.step_c(c_state, actions)
            return (before, c_state, streams), (before, actions, produced)

        return lax.scan(one, carry, length=length)

    def check(self, recorded: Any) -> dict[str, Any]:
        """The recorded steps taken in JAX and compared, as `run` reports them."""

        def one(carry: Any, step: Any) -> Any:
            before, actions, from_c = step
            _, from_jax, events = self.step_jax(before, actions)
            pairs = _flatten({name: (from_c[name], from_jax[name]) for name in from_c})
            return carry, pairs, events, from_c[""].log.n

        return _reduced(one, (), recorded, len(recorded[1]))[1]


def choose_action(env: Env, state: Any, stream: Array) -> Array:
    """The player's action; where there is a mask, now and then one drawn from the whole action space.

    The second is left out where the rules do not say what an illegal action does.
    """
    action = env.player(state, stream)
    if not has_action_mask(env) or not env.illegal_actions:
        return action
    stream, roll = rng.below(stream ^ jnp.uint32(0x9E3779B9), WILD_SHARE)
    return jnp.where(roll == 0, random_action(env, state, stream, masked=False), action)


def vary(env: Env, num_envs: int, seed: int) -> Env:
    """The environment with an axis on each traced parameter: the first row as given, the others near it.

    A value that the environment refuses is left as it was given.
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


def _reduced(one: Any, carry: Any, steps: Any, length: int) -> tuple[Any, dict[str, Any]]:
    """Scan `one(carry, step) -> (carry, pairs, events, ended)`: (carry, what `compare` reports)."""
    one = jax.jit(one, inline=True)  # traced once, for its shapes and for the scan

    def step(inner: Any, indexed: Any) -> tuple[Any, None]:
        carry, totals = inner
        index, step = indexed
        carry, pairs, events, ended = one(carry, step)
        found = _unfused(index >= 0, lambda pairs, index: _difference(pairs, index, length), pairs, index)
        found["events"] = {name: jnp.int32(happened).sum() for name, happened in events.items()}
        found["episodes"] = jnp.int32(ended).sum()
        return (carry, _accumulate(totals, found)), None

    first = jax.tree.map(lambda x: x[0], steps)
    shapes = jax.eval_shape(lambda carry: step((carry, {}), (jnp.int32(0), first))[0][1], carry)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    for field in zeros["fields"].values():
        field["first"] = jnp.int32(length)
    return lax.scan(step, (carry, zeros), (jnp.arange(length, dtype=jnp.int32), steps))[0]


def _unfused(true: Array, function: Any, *args: Any) -> Any:
    """`function(*args)` in a branch: else XLA fuses it into each of its uses, and compiles several times as long."""
    function = jax.jit(function, inline=True)  # traced once, for both branches

    def nothing(*args: Any) -> Any:
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, *args))

    return lax.cond(true, function, nothing, *args)


def _locate(step: Any, carry: Any, index: int, done: int) -> Divergence:
    """Replay a chunk up to its first divergence and read the values off."""
    for _ in range(index + 1):
        carry, pairs, (actions, _, _) = step(carry)
    found = _first_difference(pairs, done + index, actions)
    assert found is not None, "the replay did not diverge where the run did"
    return found


def _first_difference(pairs: dict[str, tuple[Array, Array]], step: int, actions: Any) -> Divergence | None:
    # jit has sorted the fields by name: the states first, from which the rest follows
    for field, (c, other) in sorted(jax.device_get(pairs).items(), key=_causes_first):
        differs = _unequal(np, c, other)
        if differs.any():
            where = tuple(np.argwhere(differs)[0])
            ulps = float(np.asarray(_ulps(jnp.asarray(c), jnp.asarray(other)))[where]) if c.dtype.kind == "f" else 0
            place = field + (str(list(map(int, where[1:]))) if len(where) > 1 else "")
            row = int(where[0])
            return Divergence(step, row, place, c[where], other[where], ulps, np.asarray(actions)[row])
    return None


def _causes_first(pair: tuple[str, Any]) -> tuple[bool, bool]:
    return not pair[0].startswith(("state", "first.state")), "state" not in pair[0]


def _flatten(pairs: dict[str, Any]) -> dict[str, tuple[Array, Array]]:
    fields = {}
    for prefix, (c, other) in pairs.items():
        for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(c)[0], jax.tree.leaves(other), strict=True):
            fields[(prefix + jax.tree_util.keystr(path)).lstrip(".")] = (a, b)
    return fields


def _unequal(xp: Any, a: Any, b: Any) -> Any:
    """Differing entries; -0 equals 0, and NaN equals NaN (it is counted apart)."""
    if a.dtype.kind != "f":
        return a != b
    return ~((a == b) | (xp.isnan(a) & xp.isnan(b)))


def _ulps(a: Array, b: Array) -> Array:
    """The distance of two floats in units in the last place, as float32."""

    def ordered(x: Array) -> Array:
        bits = lax.bitcast_convert_type(x, jnp.int32)
        return jnp.where(bits < 0, jnp.int32(-(2**31)) - bits, bits)

    a, b = ordered(a), ordered(b)
    # modulo 2^32 the difference of two int32 is right as uint32
    return jnp.float32(lax.bitcast_convert_type(jnp.maximum(a, b) - jnp.minimum(a, b), jnp.uint32))


def _difference(pairs: dict[str, tuple[Array, Array]], index: Array, length: int) -> dict[str, Any]:
    def rows(x: Array) -> Array:
        return x.reshape(len(x), -1).any(1)

    first = next(iter(pairs.values()))[0]
    integers_differ = jnp.zeros(len(first), bool)
    nans = jnp.zeros(len(first), bool)
    differing = {}
    for name, (c, other) in pairs.items():
        differing[name] = rows(_unequal(jnp, c, other))
        if jnp.issubdtype(c.dtype, jnp.floating):
            nans |= rows(jnp.isnan(c) | jnp.isnan(other))
        else:
            integers_differ |= differing[name]

    fields = {}
    for name, (c, other) in pairs.items():
        count = jnp.int32(differing[name]).sum()
        field = {
            "count": count,
            "first": jnp.where(count > 0, index, jnp.int32(length)),
            "ulps": jnp.float32(0),
            "error": jnp.float32(0),
            "scale": jnp.float32(0),
        }
        if jnp.issubdtype(c.dtype, jnp.floating):
            agree = ~integers_differ.reshape(-1, *[1] * (c.ndim - 1))
            field["ulps"] = jnp.where(agree & (c != other), _ulps(c, other), 0.0).max()
            field["error"] = jnp.where(agree, jnp.abs(c - other), 0.0).max()
            field["scale"] = jnp.abs(c).max()
        fields[name] = field
    return {
        "fields": fields,
        "integer_rows": jnp.int32(integers_differ).sum(),
        "nans": jnp.int32(nans).sum(),
    }


def _accumulate(totals: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Counts add up, first indices take the least, errors and scales the largest."""
    if not totals:
        return found
    combine = {"first": jnp.minimum, "ulps": jnp.maximum, "error": jnp.maximum, "scale": jnp.maximum}

    def one(path: Any, a: Any, b: Any) -> Any:
        return combine.get(path[-1].key, lambda a, b: a + b)(a, b)

    return jax.tree_util.tree_map_with_path(one, totals, found)
