"""from_gymnasium: train on environments that Python steps, through Gymnasium's interface of vector environments."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxpuffer.host import HostEnv, autoreset_mode
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete, Space, choices, mask_sizes

Convert = Callable[[Any], Any]


def from_gymnasium(make_vec: str | Callable[[int], Any], name: str | None = None) -> HostEnv:
    """An environment that `train`, `fit` and `evaluate` take, stepped by Python outside of the jitted program.

    It makes one environment to read its spaces, and closes it.

    Args:
        make_vec: a function of `num_envs` that makes a vector environment with Gymnasium's interface (1.1 or later),
            in any autoreset mode; or the id of a registered environment, which is made with its own vector
            implementation if it has one, otherwise as a `SyncVectorEnv` that resets in the same step. It
            is called again for each training and evaluation.
        name: what messages and saved runs call it; by default the id, or the id in the vector environment's `spec`.

    Worlds of several agents have a second axis of agents in every array. Actions can be masked with
    `info["action_mask"]`, which then must be there after each reset and step. Dicts and tuples of observations are
    concatenated to float32 (choices as one-hot vectors); those of actions become a `Mixed` space.

    Raises:
        TypeError: `make_vec` is neither; or a space has no counterpart here.
        ValueError: the vector environment does not say its autoreset mode, or its arrays have other shapes than
            its spaces.
        ImportError: an id is given, and Gymnasium is not installed.
    """
    if isinstance(make_vec, str):
        name, make_vec = name or make_vec, _from_id(make_vec)
    example = "such as lambda n: gymnasium.vector.SyncVectorEnv([MyEnv] * n, autoreset_mode='SameStep')"
    if not callable(make_vec) or (isinstance(make_vec, type) and not hasattr(make_vec, "num_envs")):
        raise TypeError(f"make_vec is {make_vec!r}; it must be an id, or a function of the number, {example}")
    try:
        inspect.signature(make_vec).bind(1)
    except TypeError as error:
        raise TypeError(f"make_vec must take the number of environments ({error}), {example}") from None
    vec = make_vec(1)
    if getattr(vec, "num_envs", None) != 1 or not hasattr(vec, "single_observation_space"):
        made = f"{vec.num_envs} environments" if hasattr(vec, "num_envs") else f"{type(vec).__name__}, a single one"
        raise TypeError(f"make_vec(1) made {made}; it must make a vector environment of the given number, {example}")
    try:
        name = name or getattr(getattr(vec, "spec", None), "id", None) or type(vec).__name__
        autoreset_mode(name, vec)
        observation_space, decode = _observation(name, vec.single_observation_space)
        action_space, encode = _action(name, vec.single_action_space)
        obs, info = vec.reset(seed=0)
        shape = np.shape(decode(obs))
    finally:
        vec.close()
    agents = shape[1 : len(shape) - len(observation_space.shape)]
    if len(agents) > 1 or shape != (1, *agents, *observation_space.shape):
        raise ValueError(
            f"{name}: the first observation of one environment has the shape {shape}; the space has "
            f"{observation_space.shape}, and in front come one axis of environments and at most one of agents"
        )
    masked = "action_mask" in info and bool(mask_sizes(action_space))
    processes = type(getattr(vec, "unwrapped", vec)).__name__ == "AsyncVectorEnv"
    spaces = observation_space, action_space
    return HostEnv(name, make_vec, *spaces, agents, masked, processes, decode=decode, encode=encode)


def _from_id(id: str) -> Callable[[int], Any]:
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError(f"{id!r} needs Gymnasium: pip install 'jaxpuffer[adapters]'") from error
    own = gymnasium.spec(id).vector_entry_point is not None
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    options: dict[str, Any] = {} if own else {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    return lambda num_envs: gymnasium.make_vec(id, num_envs=num_envs, **options)


# Spaces are known by the names of their classes, so that Gymnasium need not be there


def _same(x: Any) -> Any:
    return x


def _observation(name: str, space: Any) -> tuple[Space, Convert]:
    """Our space for an observation space, and what turns observations (n, ...) into it."""
    if isinstance(space, Discrete | MultiDiscrete | Box | Mixed):
        return space, _same
    kind = type(space).__name__
    if kind == "Box" and np.issubdtype(space.dtype, np.floating):
        return _box(space, space.shape), _same
    if kind == "Box":
        low, high = int(space.low.min()), int(space.high.max())
        held = np.iinfo(np.int32)
        if not held.min <= low <= high <= held.max:
            raise TypeError(f"{name}: observations are {space}; whole numbers must fit in 32 bits, or be floats")
        narrow = space.dtype.itemsize < 4 or space.dtype == np.int32
        most = space.high.astype(np.int64)
        most = np.where(most > space.low, most, most + 1)  # an entry that never changes
        return Box(space.low, most, space.shape, np.dtype(space.dtype if narrow else np.int32)), _same
    if kind == "MultiBinary":
        return Box(0, 1, space.shape, np.int8), _same
    if kind in ("Discrete", "MultiDiscrete"):
        ours, start = _choices(space)
        return ours, lambda obs: _reshaped(obs - start, start.shape, ours.shape)
    if kind in ("Dict", "Tuple"):
        keys = _keys(space)
        columns, sizes = zip(*(_columns(*_observation(name, space[key])) for key in keys), strict=True)

        def concatenated(obs: Any) -> np.ndarray:
            return np.concatenate([column(obs[key]) for column, key in zip(columns, keys, strict=True)], 1)

        return Box(-np.inf, np.inf, (sum(sizes),)), concatenated
    raise TypeError(f"{name}: observations are {space}, which has no counterpart here; turn them into a Box")


def _columns(space: Space, decode: Convert) -> tuple[Convert, int]:
    """What turns a part (n, ...) of composite observations into float32 (n, columns), and the number of columns.

    Choices become one-hot vectors, as in Gymnasium's own flattening; everything else stays a number.
    """
    sizes = choices(space)
    if not sizes:
        return lambda x: _reshaped(np.asarray(decode(x), np.float32), space.shape, (-1,)), math.prod(space.shape)

    def one_hot(x: Any) -> np.ndarray:
        entries = decode(x).reshape(len(x), -1).T
        return np.concatenate([np.eye(n, dtype=np.float32)[i] for n, i in zip(sizes, entries, strict=True)], 1)

    return one_hot, sum(sizes)


def _action(name: str, space: Any) -> tuple[Space, Convert]:
    """Our space for an action space, and what turns actions of ours (n, ...) into actions of it."""
    if isinstance(space, Discrete | MultiDiscrete | Box | Mixed):
        return space, _same
    kind = type(space).__name__
    if kind == "Box" and np.issubdtype(space.dtype, np.floating):
        box = _box(space, (math.prod(space.shape),))
        return box, lambda x: np.clip(_reshaped(x, box.shape, space.shape), space.low, space.high).astype(space.dtype)
    if kind == "MultiBinary":
        of_each = MultiDiscrete((2,) * math.prod(space.shape))
        return of_each, lambda x: _reshaped(x, of_each.shape, space.shape).astype(space.dtype)
    if kind in ("Discrete", "MultiDiscrete"):
        ours, start = _choices(space)
        return ours, lambda x: _reshaped(x, ours.shape, start.shape).astype(space.dtype) + start
    if kind in ("Dict", "Tuple"):
        keys = _keys(space)
        parts, encoders = zip(*(_action(name, space[key]) for key in keys), strict=True)
        mixed = Mixed(tuple(inner for part in parts for inner in (part.parts if isinstance(part, Mixed) else (part,))))
        ends = np.cumsum([math.prod(part.shape) for part in parts])[:-1]

        def split(x: np.ndarray) -> Any:
            columns = np.split(x, ends, -1)
            entries = [e(c.reshape(len(x), *p.shape)) for e, c, p in zip(encoders, columns, parts, strict=True)]
            return dict(zip(keys, entries, strict=True)) if kind == "Dict" else tuple(entries)

        return mixed, split
    raise TypeError(
        f"{name}: actions are {space}; there are policies for Discrete, MultiDiscrete, MultiBinary, a Box of floats, "
        "and a Dict or Tuple of these"
    )


def _reshaped(x: np.ndarray, old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """An array (..., *old) as (..., *new)."""
    return x.reshape(*x.shape[: x.ndim - len(old)], *new)


def _keys(space: Any) -> list[Any]:
    """The keys of a Dict's parts or the places of a Tuple's, in order."""
    return list(space.spaces) if type(space).__name__ == "Dict" else list(range(len(space.spaces)))


def _choices(space: Any) -> tuple[Discrete | MultiDiscrete, np.ndarray]:
    """Our space for a Discrete or MultiDiscrete one, and where its choices start, in the shape of its actions."""
    start = np.asarray(space.start, space.dtype)
    if type(space).__name__ == "Discrete":
        return Discrete(int(space.n)), start
    return MultiDiscrete(tuple(np.ravel(space.nvec).tolist())), start


def _box(space: Any, shape: tuple[int, ...]) -> Box:
    """A Box of float32 with a space's bounds."""
    with np.errstate(over="ignore"):  # a bound that float32 does not hold is none
        low, high = (x.astype(np.float32).reshape(shape) for x in (space.low, space.high))
    wider = np.maximum(low + 1, np.nextafter(low, np.float32(np.inf)))
    high = np.where(high > low, high, wider)  # an entry that never changes
    return Box(low, high, shape)
