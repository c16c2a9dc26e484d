"""from_gymnasium: train on environments that Python steps, through Gymnasium's interface of vector environments."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxpuffer.host import HostEnv, autoreset_mode
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete, Space

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
    `info["action_mask"]`, which then must be there after each reset and step.

    Raises:
        TypeError: `make_vec` is neither; or a space has no counterpart here.
        ValueError: the vector environment does not say its autoreset mode, or its arrays have other shapes than
            its spaces.
        ImportError: an id is given, and Gymnasium is not installed.
    """
    if isinstance(make_vec, str):
        name, make_vec = name or make_vec, _from_id(make_vec)
    if not callable(make_vec):
        raise TypeError(f"make_vec is {make_vec!r}; it must be an id, or a function that makes a vector environment")
    vec = make_vec(1)
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
    return HostEnv(
        name, make_vec, observation_space, action_space, agents, "action_mask" in info, decode=decode, encode=encode
    )


def _from_id(id: str) -> Callable[[int], Any]:
    try:
        import gymnasium
    except ImportError as error:
        raise ImportError(f"{id!r} needs Gymnasium: pip install 'jaxpuffer[adapters]'") from error
    own = gymnasium.spec(id).vector_entry_point is not None
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    options: dict[str, Any] = {} if own else {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    return lambda num_envs: gymnasium.make_vec(id, num_envs=num_envs, **options)


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
            raise TypeError(
                f"{name}: observations are {space}; whole numbers must fit in 32 bits, turn them into floats with a "
                "wrapper (gymnasium.wrappers.vector.DtypeObservation and RescaleObservation)"
            )
        narrow = space.dtype.itemsize < 4 or space.dtype == np.int32
        most = space.high.astype(np.int64)
        most = np.where(most > space.low, most, most + 1)  # an entry that never changes
        return Box(space.low, most, space.shape, np.dtype(space.dtype if narrow else np.int32)), _same
    if kind == "MultiBinary":
        return Box(0, 1, space.shape, np.dtype(np.int8)), _same
    choices = _choices(space)
    if choices is not None:
        ours, start = choices
        return ours, lambda obs: (np.asarray(obs) - start).reshape(
            *np.shape(obs)[: np.ndim(obs) - start.ndim], *ours.shape
        )
    raise TypeError(
        f"{name}: observations are {space}, which has no counterpart here; flatten them with "
        "gymnasium.wrappers.FlattenObservation, or with one of your own"
    )


def _action(name: str, space: Any) -> tuple[Space, Convert]:
    """Our space for an action space, and what turns actions of ours (n, ...) into actions of it."""
    if isinstance(space, Discrete | MultiDiscrete | Box | Mixed):
        return space, _same
    kind = type(space).__name__
    if kind == "Box" and np.issubdtype(space.dtype, np.floating):
        box = _box(space, (math.prod(space.shape),))

        def bounded(action: np.ndarray) -> np.ndarray:
            action = action.reshape(*action.shape[:-1], *space.shape)
            return np.clip(action, space.low, space.high).astype(space.dtype)

        return box, bounded
    if kind == "MultiBinary":
        return MultiDiscrete((2,) * math.prod(space.shape)), lambda x: x.reshape(*x.shape[:-1], *space.shape).astype(
            np.int8
        )
    choices = _choices(space)
    if choices is not None:
        ours, start = choices
        entries = len(ours.shape)
        return ours, lambda x: x.reshape(*x.shape[: x.ndim - entries], *start.shape).astype(space.dtype) + start
    raise TypeError(
        f"{name}: actions are {space}; there are policies for Discrete, MultiDiscrete, MultiBinary and a Box of floats"
    )


def _choices(space: Any) -> tuple[Discrete | MultiDiscrete, np.ndarray] | None:
    """Our space for a Discrete or MultiDiscrete one, and where its choices start; None for another."""
    if type(space).__name__ == "Discrete":
        return Discrete(int(space.n)), np.asarray(space.start, space.dtype)
    if type(space).__name__ == "MultiDiscrete":
        return MultiDiscrete(tuple(np.ravel(space.nvec).tolist())), np.asarray(space.start, space.dtype)
    return None


def _box(space: Any, shape: tuple[int, ...]) -> Box:
    """A Box of float32 with a space's bounds."""
    with np.errstate(over="ignore"):  # a bound that float32 does not hold is none
        low, high = (x.astype(np.float32).reshape(shape) for x in (space.low, space.high))
    wider = np.maximum(low + 1, np.nextafter(low, np.float32(np.inf)))
    high = np.where(high > low, high, wider)  # an entry that never changes
    return Box(low, high, shape)
