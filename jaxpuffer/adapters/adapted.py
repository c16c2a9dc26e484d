"""Adapted: an environment of another library as an `Env`; what the adapters share.

An adapter subclasses `Adapted` and writes two functions, `begin` and `advance`, which give
the other library's state and a `View` of it. This module keeps the random stream, the
observation, the score and the time limit, and gives the states the dtypes that our loops need.
"""

import contextlib
import enum
import functools
import hashlib
import importlib
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import rng
from jaxpuffer.adapters.flatten import Flattened, Part
from jaxpuffer.devices import in_32_bits
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.spaces import Space

NO_LIMIT = int(np.iinfo(np.int32).max)


class View(PyTreeNode):
    """What an adapter gives of a step, per agent in worlds of several. A new episode has the first two alone."""

    obs: Any  # as the library has it
    mask: Any = None  # legal actions, bool (..., choices)
    reward: Any = 0.0
    terminated: Any = False
    truncated: Any = False


class Structure:
    """The structure of a library's state; its constants may look different each time, as MJX's do, and be equal."""

    def __init__(self, tree: Any) -> None:
        self.treedef: Any = jax.tree.structure(tree)
        self.names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]

    def __hash__(self) -> int:
        return hash(self.treedef)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self.treedef == other.treedef

    def __repr__(self) -> str:
        return f"Structure of {len(self.names)}"


class AdaptedState(PyTreeNode):
    """The state of an adapted environment."""

    rng: Array  # uint32 (2,)
    leaves: dict[str, Array]  # the other library's state, by the names of its leaves
    obs: Array  # flattened
    mask: Array | None  # bool (..., choices)
    steps: Array  # int32 (), of this episode
    episode_return: Array  # float32 (), or (num_agents,)
    structure: Structure = static(default=None)

    @property
    def inner(self) -> Any:
        """The other library's state."""
        return jax.tree.unflatten(self.structure.treedef, [self.leaves[name] for name in self.structure.names])


class Held:
    """An object of another library as a static parameter: equal to one of the same class with equal contents.

    So a second environment that is made in the same way does not compile again. What cannot be compared, such as
    a jitted function, is equal to itself alone. The object must not be changed afterwards.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        self._contents = _contents(value, {})
        self._hash = hash(self._contents)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self._hash == other._hash and self._contents == other._contents

    def __repr__(self) -> str:
        return f"Held({type(self.value).__name__})"


class Adapted(Env[AdaptedState]):
    """An environment of another library.

    The score is the return of the episode. `perf` is the score scaled to 0..1 by `score_low` and `score_high`; as long
    as these are not set, it is the score itself.
    """

    held: Held = static(default=None, help="the other library's environment")
    observation: Flattened = static(default=None, help="the layout of observations")
    action: Flattened = static(default=None, help="the layout of actions")
    score_low: float = param(default=0.0, help="score at which perf is 0")
    score_high: float = param(default=1.0, help="score at which perf is 1")
    max_steps: int = param(default=NO_LIMIT, minimum=1, help="steps before truncation, besides the library's own limit")

    cheap_init = False  # keys are costly: gymnax's CartPole, of 2,048 on a CPU, steps 2.2 times as fast so

    how_to_render: ClassVar[str] = ""

    # what an adapter writes

    def begin(self, key: Array) -> tuple[Any, View]:
        """A new episode from a raw key, uint32: the library's state and what it shows."""
        raise NotImplementedError(f"{type(self).__name__} must define begin(key)")

    def advance(self, inner: Any, action: Any, key: Array) -> tuple[Any, View]:
        """One step of the library, without its auto-reset; `action` is in the library's form."""
        raise NotImplementedError(f"{type(self).__name__} must define advance(inner, action, key)")

    # what follows from it

    def to_dict(self) -> dict[str, Any]:
        """The parameters that are numbers, by name as JSON values."""
        numbers = super().to_dict().items()
        return {name: x for name, x in numbers if not isinstance(getattr(self, name), Held | Flattened)}

    @property
    def theirs(self) -> Any:
        """The other library's environment."""
        return self.held.value

    @property
    def observation_space(self) -> Space:
        return self.observation.space

    @property
    def action_space(self) -> Space:
        return self.action.space

    def init(self, stream: Array) -> AdaptedState:
        stream, key = _next_key(stream)
        with their_rules():
            inner, view = self.begin(key)
        zeros = jnp.zeros(self.agent_shape, jnp.float32)
        return self._state(stream, inner, view, jnp.int32(0), zeros)

    def transition(self, state: AdaptedState, action: Array) -> tuple[AdaptedState, Outcome]:
        stream, key = _next_key(state.rng)
        restore = jax.vmap(self.action.restore) if self.multi_agent else self.action.restore
        restored = restore(action)
        with their_rules():
            inner, view = self.advance(state.inner, restored, key)
        shape = self.agent_shape
        reward = jnp.broadcast_to(jnp.asarray(view.reward, jnp.float32), shape)
        terminated, truncated = (
            jnp.broadcast_to(jnp.asarray(x).astype(bool), shape) for x in (view.terminated, view.truncated)
        )
        steps = state.steps + 1
        truncated = truncated | (steps >= self.max_steps)
        state = self._state(stream, inner, view, steps, state.episode_return + reward)
        return state, Outcome(reward, terminated, truncated)

    def respawn(self, state: AdaptedState, ended: Array) -> AdaptedState:
        return state  # all agents end together

    def observe(self, state: AdaptedState) -> Array:
        return state.obs

    def score(self, state: AdaptedState) -> Array:
        return state.episode_return

    def perf(self, state: AdaptedState) -> Array:
        return (state.episode_return - self.score_low) / (self.score_high - self.score_low)

    def render(self, state: AdaptedState) -> Array:
        raise NotImplementedError(
            f"{type(self).__name__} has no picture that is drawn in JAX; the library draws its own, from "
            f"state.inner on the host{self.how_to_render}"
        )

    def _state(self, stream: Array, inner: Any, view: View, steps: Array, episode_return: Array) -> AdaptedState:
        kinds = _kinds(jax.tree.structure(self), tuple((jnp.shape(x), x.dtype) for x in jax.tree.leaves(self)))
        structure = Structure(kinds)
        cast = map(_cast, jax.tree.leaves(inner), jax.tree.leaves(kinds))
        leaves = dict(zip(structure.names, cast, strict=True))
        flatten = jax.vmap(self.observation.flatten) if self.multi_agent else self.observation.flatten
        mask = None if view.mask is None else jnp.asarray(view.mask).astype(bool)
        return AdaptedState(stream, leaves, flatten(view.obs), mask, steps, episode_return, structure)


class Masked:
    """Mixed into an adapter whose environments have illegal actions."""

    def action_mask(self, state: AdaptedState) -> Array | None:
        return state.mask


@contextlib.contextmanager
def their_rules() -> Iterator[None]:
    """Other libraries are written for JAX's default promotion, also where ours is run with a stricter one."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _next_key(stream: Array) -> tuple[Array, Array]:
    """The advanced stream, and a raw key of JAX's default kind: the words of the stream, which do not repeat."""
    words = jax.eval_shape(jax.random.PRNGKey, 0).shape[0]
    return rng.bits(stream)[0], jnp.tile(stream, words // 2)


@functools.cache
def _kinds(structure: Any, leaves: tuple[Any, ...]) -> Any:
    """The shapes and dtypes of the library's states: those that a new episode and a step agree on.

    A weak type gives way to a strong one, and whole numbers of a weak type to floats.

    Raises:
        TypeError: they do not agree; the message names the leaf.
    """
    env = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*kind) for kind in leaves])
    name = type(env).__name__
    key = jax.eval_shape(jax.random.PRNGKey, 0)
    action = jax.ShapeDtypeStruct((*env.agent_shape, *env.action_space.shape), env.action_space.dtype)
    restore = jax.vmap(env.action.restore) if env.multi_agent else env.action.restore

    def advance(env: Adapted, inner: Any, action: Array, key: Array) -> Any:
        action = restore(action)
        with their_rules():
            return env.advance(inner, action, key)[0]

    def begin(env: Adapted, key: Array) -> Any:
        with their_rules():
            return env.begin(key)[0]

    def agree(path: Any, a: Any, b: Any) -> Any:
        where = f"{name}: the library's state{jax.tree_util.keystr(path)}"
        if a.shape != b.shape:
            raise TypeError(f"{where} is {a.dtype}{list(a.shape)} at first and {b.dtype}{list(b.shape)} after a step")
        if a.dtype == b.dtype:
            return jax.ShapeDtypeStruct(a.shape, a.dtype)
        if not (a.weak_type or b.weak_type):
            raise TypeError(f"{where} is {a.dtype} at first and {b.dtype} after a step")
        weak, strong = (a, b) if a.weak_type else (b, a)
        widened = jnp.issubdtype(weak.dtype, jnp.floating) and not jnp.issubdtype(strong.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(a.shape, weak.dtype if widened else strong.dtype)

    kinds = jax.eval_shape(begin, env, key)
    while True:
        later = jax.eval_shape(advance, env, kinds, action, key)
        if Structure(later) != Structure(kinds):
            raise TypeError(
                f"{name}: the library's state is {jax.tree.structure(kinds)} at first and "
                f"{jax.tree.structure(later)} after a step"
            )
        agreed = jax.tree_util.tree_map_with_path(agree, kinds, later)
        if jax.tree.leaves(agreed) == jax.tree.leaves(kinds):
            return agreed
        kinds = agreed


def _cast(x: Any, kind: Any) -> Array:
    if jnp.issubdtype(kind.dtype, jax.dtypes.prng_key):
        return x
    return jnp.asarray(x, kind.dtype)  # a dtype that is given is not weak


def library(name: str, package: str) -> Any:
    """An imported module of another library.

    Raises:
        ImportError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).partition(".")[0]
        if missing == name.partition(".")[0]:
            raise ImportError(f"{missing} is not installed: pip install {package}") from None
        raise ImportError(f"{package} needs {missing}, which is not installed: pip install {missing}") from error


@in_32_bits
def parts_of(env_begin: Callable[[Array], Any], bounds_at: Callable[[Any], Any]) -> Any:
    """The observation that `env_begin(key)` returns, as a pytree of `Part`.

    `bounds_at(path)` is (low, high) of the array at a path of jax.tree_util, or None.
    """
    with their_rules():
        shapes = jax.eval_shape(env_begin, jax.eval_shape(jax.random.PRNGKey, 0))

    def part(path: Any, x: Any) -> Part:
        low, high = bounds_at(path) or (None, None)
        return Part(x.shape, x.dtype, low, high)

    return jax.tree_util.tree_map_with_path(part, shapes)


def _contents(value: Any, seen: dict[int, int]) -> Any:
    """What an object holds, as nested tuples that can be hashed and compared."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | enum.Enum):
        return type(value), value
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        if array.dtype != object:
            return type(value), array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
    if id(value) in seen:
        return "seen", seen[id(value)]
    seen[id(value)] = len(seen)
    if isinstance(value, list | tuple | set | frozenset):
        return type(value), tuple(_contents(x, seen) for x in value)
    if isinstance(value, dict):
        return type(value), tuple((_contents(k, seen), _contents(x, seen)) for k, x in value.items())
    if isinstance(value, types.MethodType):
        return value.__func__, _contents(value.__self__, seen)
    if isinstance(value, functools.partial):
        return functools.partial, _contents((value.func, value.args, value.keywords), seen)
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        held = (cells, value.__defaults__, value.__kwdefaults__)
        return value.__code__, value.__module__, _contents(held, seen)
    if isinstance(value, type | types.ModuleType) or callable(value):
        return _Itself(value)
    if hasattr(value, "__dict__"):
        return type(value), _contents(vars(value), seen)
    try:  # of a C extension, such as MuJoCo's model
        return type(value), hashlib.sha256(pickle.dumps(value)).digest()
    except Exception:  # many kinds
        return _Itself(value)


class _Itself:
    """Equal to another one of the same object."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and self.value is other.value
