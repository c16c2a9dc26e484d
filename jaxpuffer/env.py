"""Env, Outcome, TimeStep, Log: one environment as pure functions.

An author subclasses `Env` and writes `init`, `transition`, `observe` and `score`;
docs/write_an_environment.md walks through one.
"""

import difflib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxpuffer import rng
from jaxpuffer.devices import in_32_bits, on_cpu
from jaxpuffer.pytree import Parameters, PyTreeNode, param, static
from jaxpuffer.spaces import Box, Discrete, Mixed, ObservationSpace, Space, check_action, choices, legal, mask_sizes

if TYPE_CHECKING:
    from jaxpuffer.batch import Batch

__all__ = ["Env", "Log", "Outcome", "PyTreeNode", "TimeStep", "param", "repeat", "static"]

State = TypeVar("State", bound=Any)
NAN = np.float32(np.nan)  # not a jax.Array, which jax_debug_nans would refuse


class Outcome(PyTreeNode):
    """The result of one transition; in a multi-agent world each entry is per agent."""

    reward: Array  # float32
    terminated: Array  # bool, the rules ended the episode
    truncated: Array  # bool, the time limit ended it
    reset: Array | None = None  # bool (), multi-agent only: the whole world ends, as when all agents end in one step


class Log(PyTreeNode):
    """The results of ended episodes, summed over `n` of them; all float32 and of one shape."""

    episode_return: Array
    episode_length: Array  # steps
    score: Array
    perf: Array  # the score scaled to 0..1
    n: Array  # episodes
    figures: Any = None  # a dict of the environment's own figures by name, None if it has none

    def mean(self) -> "Log":
        """The means over the episodes, NaN if none ended; `n` stays a count."""
        total = jax.tree.map(jnp.sum, self)
        return jax.tree.map(lambda x: x / total.n, total).replace(n=total.n)


LOG_NAMES = ("episode_return", "episode_length", "score", "perf", "n")  # of every environment's log, in this order


class TimeStep(PyTreeNode):
    """One step as the agents see it. A batch adds the log of the rows that ended."""

    obs: Any  # an array, or a PyTreeNode of arrays
    reward: Array  # float32
    terminated: Array  # bool
    truncated: Array  # bool
    log: Log | None = None
    active: Array | None = None  # bool, who acted; None: everyone

    @property
    def ended(self) -> Array:
        return self.terminated | self.truncated


class Env(Parameters, Generic[State]):
    """An environment: an immutable pytree of parameters with pure functions.

    Parameters are the fields, made with `static` or `param`. A multi-agent world
    sets `multi_agent` and `num_agents`, and has a leading agent axis on
    observation, action, reward, terminated, truncated, score, perf and mask.
    """

    multi_agent = False
    header: ClassVar[str | None] = None  # the C twin's header, a path beside the module, if it is not registered
    illegal_actions = True  # False: the rules do not say what a masked action does, so parity plays none
    cheap_init = True  # False: `init` costs as much as many steps, so run it only on the rows that ended

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if inspect.isfunction(vars(cls).get("num_agents")):
            raise TypeError(f"{cls.__name__}.num_agents is a function; put @property above it")

    # what an author writes

    @property
    def observation_space(self) -> ObservationSpace:
        raise NotImplementedError(f"{type(self).__name__} must define observation_space")

    @property
    def action_space(self) -> Space:
        raise NotImplementedError(f"{type(self).__name__} must define action_space")

    def init(self, stream: Array) -> State:
        """A new episode or world, drawn from the stream (uint32 (2,)), kept in `State.rng`."""
        raise NotImplementedError(f"{type(self).__name__} must define init(stream)")

    def transition(self, state: State, action: Array) -> tuple[State, Outcome]:
        """One step of the rules."""
        raise NotImplementedError(f"{type(self).__name__} must define transition(state, action)")

    def respawn(self, state: State, ended: Array) -> State:
        """Multi-agent worlds: reset the agents that ended, bool (num_agents,)."""
        raise NotImplementedError(f"{type(self).__name__} must define respawn(state, ended)")

    def observe(self, state: State) -> Any:
        """What the agents see, in the shape and dtype of `observation_space`: an array, or a PyTreeNode of arrays."""
        raise NotImplementedError(f"{type(self).__name__} must define observe(state)")

    def score(self, state: State) -> Array:
        """The raw score of the episode so far, float32."""
        raise NotImplementedError(f"{type(self).__name__} must define score(state)")

    def perf(self, state: State) -> Array:
        """The score scaled to 0..1, float32; by default the score itself."""
        return self.score(state)

    def figures(self, state: State) -> dict[str, Array]:
        """More figures of the episode so far, by name, for the log: float32, per agent in multi-agent worlds."""
        return {}

    def active(self, state: State) -> Array | None:
        """Multi-agent worlds: who acts now, bool (num_agents,); None if everyone always does.

        An agent that is out gets no reward and its steps do not count. One that is out after a step has terminated
        in it, unless it was truncated. When all are out, the world is reset.
        """
        return None

    def to_play(self, state: State) -> Array | None:
        """Games of two sides that move in turns: which of them moves now, int32 (), 0 or 1; None in all others.

        The observation and the mask are the mover's, the reward and the score are those of side 0. What one side wins
        the other loses.
        """
        return None

    def action_mask(self, state: State) -> Array | None:
        """Legal actions, bool (..., n) with at least one True; None if all are always legal."""
        return None

    def render(self, state: State) -> Array:
        """A picture of the state, uint8 (height, width, 3)."""
        raise NotImplementedError(f"{type(self).__name__} has no render(state)")

    # games of two sides: scripted opponents

    bots: ClassVar[tuple[str, ...]] = ()  # their names, the weakest first

    def bot(self, state: State, stream: Array, name: str) -> Array:
        """The action of a scripted opponent, one of `bots`, drawn with the given stream (not the state's).

        In turns it is the action of the side that moves; in a multi-agent world it has one entry per agent.
        """
        raise NotImplementedError(f"{type(self).__name__} must define bot(state, stream, name)")

    # for the parity harness: how to reach the late game, and what must have happened

    def player(self, state: State, stream: Array) -> Array:
        """A scripted or random player's action, drawn with the given stream (not the state's)."""
        return random_action(self, state, stream)

    def events(self, state: State, action: Array, next_state: State) -> dict[str, Array]:
        """Which notable events of the rules happened in this transition, bool () each."""
        return {}

    # parameters with which the Python code takes other branches, or reaches bounds that it otherwise misses
    variants: ClassVar[tuple[dict[str, Any], ...]] = ()

    def edge_case(self, state: State, stream: Array) -> State:
        """The state moved to the borders of the rules: equal times, touching edges, the last step."""
        return state

    # what the base class builds

    @property
    def num_agents(self) -> int:
        return 1

    @property
    def teams(self) -> tuple[int, ...] | None:
        """Multi-agent worlds of two sides: which one each agent is on, 0 or 1; None in all others."""
        return None

    @property
    def agent_shape(self) -> tuple[int, ...]:
        """The leading axes of per-agent arrays: () or (num_agents,)."""
        return (self.num_agents,) if self.multi_agent else ()

    @in_32_bits
    def reset(self, key: Array) -> tuple[State, Any]:
        """A new episode from a JAX key: (state, obs)."""
        state = self.init(rng.seed(rng.check_key(key)))
        return state, self.observe(state)

    @in_32_bits
    def step(self, state: State, action: Array) -> tuple[State, TimeStep]:
        """One step without auto-reset, for use in a notebook; it can be differentiated.

        Raises:
            TypeError: the action has another shape, or floats in place of whole choices.
            ValueError: outside of `jit`, if a choice is out of range or a number is not finite; inside `jit` the
                reward is NaN.
        """
        action, wrong = legal(self.action_space, check_action(self.action_space, action, self.agent_shape))
        active = self.active(state)
        state, outcome = transition_of(self, state, action)
        outcome = settle(outcome, active, self.active(state))
        reward = jnp.where(wrong, NAN, outcome.reward)
        return state, TimeStep(self.observe(state), reward, outcome.terminated, outcome.truncated, active=active)

    def batch(self, num_envs: int) -> "Batch":
        """`num_envs` of this environment stepped together."""
        from jaxpuffer.batch import Batch  # batch builds on this module

        return Batch(self, num_envs)


def transition_of(env: Env[State], state: State, action: Array) -> tuple[State, Outcome]:
    """What `transition` returns; a TypeError if it is not a state and an Outcome."""
    found: Any = env.transition(state, action)
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Outcome):
        return found
    kind = f"({', '.join(type(x).__name__ for x in found)})" if isinstance(found, tuple) else type(found).__name__
    raise TypeError(f"{type(env).__name__}.transition returns {kind}; it must return (state, Outcome)")


def has_action_mask(env: Any) -> bool:
    """Whether some actions can be illegal."""
    return type(env).action_mask is not Env.action_mask


def has_turns(env: Any) -> bool:
    """Whether two sides move in turns."""
    return getattr(type(getattr(env, "env", env)), "to_play", Env.to_play) is not Env.to_play


def has_sides(env: Any) -> bool:
    """Whether it is a game of two sides, in turns or at the same time."""
    return has_turns(env) or getattr(getattr(env, "env", env), "teams", None) is not None


def has_active(env: Any) -> bool:
    """Whether agents can be out before the world's end."""
    return type(env).active is not Env.active


def figure_names(env: Env) -> tuple[str, ...]:
    """The names of the environment's own figures, in alphabetical order."""
    if type(env).figures is Env.figures:
        return ()
    found = jax.eval_shape(lambda env: env.figures(env.init(jnp.zeros(2, jnp.uint32))), env)
    return tuple(sorted(found))


def misspelt(cls: type[Env]) -> dict[str, str]:
    """Members of a class that none of its functions uses and that have nearly the name of one of `Env`."""
    known = {name for name in dir(Env) if not name.startswith("_")}
    parts = [vars(part) for part in cls.__mro__[: cls.__mro__.index(Env)]]
    used = {word for own in parts for member in own.values() for word in _words(member)}
    found = {}
    for own in parts:
        for name in own.keys() - known - used:
            near = difflib.get_close_matches(name, known, 1, 0.8)
            if near and name[0] != "_" and near[0] not in own:  # with both in one class it is a helper
                found[name] = near[0]
    return dict(sorted(found.items()))


def _words(member: Any) -> set[str]:
    """The names that a function, a property or a code object uses."""
    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
    code = getattr(function, "__code__", function)
    if not inspect.iscode(code):
        return set()
    return set(code.co_names).union(*map(_words, code.co_consts))


def random_action(env: Env, state: Any, stream: Array, masked: bool = True) -> Array:
    """A uniformly random action of each agent, in the action space's shape and dtype; a legal one if `masked`."""
    space = env.action_space
    shape = (*env.agent_shape, *space.shape)
    count = 1
    for length in shape:
        count *= length
    _, words = lax.scan(lambda s, _: rng.bits(s), stream, length=count)
    unit = (jnp.float32(words >> jnp.uint32(8)) * jnp.float32(2.0**-24)).reshape(shape)
    mask = env.action_mask(state) if masked else None
    if isinstance(space, Discrete) and mask is not None:
        return _drawn_legal(mask, unit)

    # whole numbers from 0, and numbers between bounds, in one array
    low, span, whole = (jnp.broadcast_to(x.reshape(space.shape), shape) for x in _ranges(space))
    value = low + unit * span
    value = jnp.where(whole, jnp.floor(value), value)
    if mask is not None:
        start, entries = 0, [value[..., i] for i in range(value.shape[-1])]
        numbers = [i for i, is_choice in enumerate(_ranges(space)[2]) if is_choice]
        for i, n in zip(numbers, mask_sizes(space), strict=True):
            entries[i] = jnp.float32(_drawn_legal(mask[..., start : start + n], unit[..., i]))
            start += n
        value = jnp.stack(entries, -1)
    return value.astype(space.dtype)


def _drawn_legal(mask: Array, unit: Array) -> Array:
    """One of the choices that the mask allows, int32 (...), for uniform draws in [0, 1), float32 (...)."""
    allowed = jnp.int32(mask)
    k = jnp.int32(unit * jnp.float32(allowed.sum(-1)))
    return jnp.int32(jnp.argmax(allowed.cumsum(-1) > k[..., None], -1))


def _ranges(space: Space) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each entry its smallest value and the size of its range, float32, and whether it is a choice, bool."""
    rows: list[tuple[float, float, bool]] = []
    for part in space.parts if isinstance(space, Mixed) else (space,):
        if isinstance(part, Box):
            rows += [(a, b - a, False) for a, b in zip(*(x.flat for x in part.drawn_between()), strict=True)]
        else:
            rows += [(0.0, n, True) for n in choices(part)]
    low, span, whole = zip(*rows, strict=True)
    return np.array(low, np.float32), np.array(span, np.float32), np.array(whole)


def settle(outcome: Outcome, active: Array | None = None, still: Array | None = None) -> Outcome:
    """The outcome in its final dtypes.

    Terminated wins if both flags are set, because nothing follows an end by the rules. When the
    world ends, all agents that are not terminated are truncated. It also ends when nobody is left who is
    `active`, bool (num_agents,), before this step and did not end in it. Who was active and is not `still`, bool
    (num_agents,), after this step has terminated, unless it was truncated.
    """
    reward = jnp.float32(outcome.reward)
    terminated, truncated = jnp.bool_(outcome.terminated), jnp.bool_(outcome.truncated)
    if active is not None:
        reward = jnp.where(active, reward, jnp.float32(0))
        terminated, truncated = (terminated | ~(truncated | still)) & active, truncated & active
        truncated = truncated | ~(active & ~terminated & ~truncated).any()
    if outcome.reset is not None:
        truncated = truncated | outcome.reset
    return Outcome(reward, terminated, ~terminated & truncated, outcome.reset)


def repeat(count: int, step: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`carry = step(i, carry)` for i from 0 to count - 1: the frames of a step.

    On a CPU this is a rolled loop: if it were unrolled, XLA would fold constants of the frames into each other,
    and the bits would no longer equal C's. On an accelerator, where equal bits are not promised, a loop would
    launch several kernels and copies in each iteration, so the frames are unrolled.
    """
    if on_cpu():
        return lax.fori_loop(0, count, step, carry)
    for i in range(count):
        # a barrier, so that a frame is not computed again for every field of the next
        carry = lax.optimization_barrier(step(jnp.int32(i), carry))
    return carry
