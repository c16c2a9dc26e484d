"""from_gymnax: environments of gymnax."""

import functools
from typing import Any, ClassVar

import jax
import numpy as np
from jax import Array

from jaxpuffer.adapters.adapted import Adapted, Held, View, library, parts_of
from jaxpuffer.adapters.flatten import Part, flat_action, flat_observation
from jaxpuffer.devices import in_32_bits
from jaxpuffer.pytree import param


class Gymnax(Adapted):
    """An environment of gymnax; its parameters are ours, by the same names."""

    names: ClassVar[tuple[str | None, ...]] = ()  # of our parameter for each leaf of gymnax's, None for a constant
    constants: ClassVar[tuple[Any, ...]] = ()  # the leaves themselves
    structure: ClassVar[Any] = None

    how_to_render: ClassVar[str] = ": gymnax.visualize.Visualizer"

    @property
    def params(self) -> Any:
        """gymnax's EnvParams."""
        leaves = [x if n is None else getattr(self, n) for n, x in zip(self.names, self.constants, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)

    def begin(self, key: Array) -> tuple[Any, View]:
        obs, inner = self.theirs.reset_env(key, self.params)
        return inner, View(obs)

    def advance(self, inner: Any, action: Any, key: Array) -> tuple[Any, View]:
        obs, inner, reward, terminated, _ = self.theirs.step_env(key, inner, action, self.params)
        truncated = self.theirs.is_truncated(inner, self.params)
        return inner, View(obs, None, reward, terminated, truncated)


@in_32_bits
def from_gymnax(env: Any, params: Any = None) -> Gymnax:
    """An environment of gymnax 1.0 or newer as an `Env` that `train` takes.

    gymnax's own auto-reset is not used, so the final observation is the true one; `terminated` is what its
    `step_env` returns and `truncated` its `is_truncated`. Those of its parameters that are numbers or arrays
    become parameters of ours: `env.replace(gravity=5.0)`, `env.axes("gravity")`. The spaces stay those of the
    parameters that it was made with.

    Args:
        env: gymnax's environment, or its name, such as "CartPole-v1".
        params: gymnax's EnvParams; default those of the environment.

    Raises:
        ImportError: gymnax is not installed.
        TypeError: `env` is not an environment of gymnax 1.0.
        ValueError: its actions or observations do not fit our spaces.
    """
    if isinstance(env, str):
        env = library("gymnax", "gymnax").make(env)[0]
    if not all(hasattr(env, name) for name in ("step_env", "reset_env", "is_truncated", "default_params")):
        raise TypeError(f"env is a {type(env).__name__}; it must be an environment of gymnax 1.0 or newer, or its name")
    params = env.default_params if params is None else params
    observed = env.observation_space(params)
    parts = parts_of(lambda key: env.reset_env(key, params)[0], lambda path: bounds_at(observed, path))
    made, values = _class_of(type(env).__name__, params)
    return made(
        held=Held(env),
        observation=flat_observation(parts),
        action=flat_action(action_parts(env.action_space(params))),
        **values,
    )


def action_parts(space: Any) -> Any:
    """An action space of gymnax, or of JaxMARL, which has the same, as a pytree of `Part`."""
    kind = type(space).__name__
    if kind == "Discrete":
        return Part((), space.dtype, 0, int(space.n) - 1)
    if kind == "MultiDiscrete":
        counts = np.asarray(space.num_categories)
        return Part(counts.shape, np.dtype(np.int32), 0, counts - 1)
    if kind == "Box":
        return Part(
            tuple(np.atleast_1d(space.shape)) if np.ndim(space.shape) else (), space.dtype, space.low, space.high
        )
    if kind == "Dict":
        return {name: action_parts(inner) for name, inner in space.spaces.items()}
    if kind == "Tuple":
        return tuple(action_parts(inner) for inner in space.spaces)
    raise TypeError(f"the action space is {space!r}; it must be a Discrete, MultiDiscrete, Box, Dict or Tuple")


def bounds_at(space: Any, path: Any) -> Any:
    """The bounds that a space of gymnax gives for the array at a path, or None."""
    try:
        for entry in path:
            space = space.spaces[next(getattr(entry, a) for a in ("key", "name", "idx") if hasattr(entry, a))]
    except (AttributeError, KeyError, IndexError, TypeError):
        return None
    if hasattr(space, "n"):
        return 0, int(space.n) - 1
    return (space.low, space.high) if hasattr(space, "low") else None


def _class_of(name: str, params: Any) -> tuple[type[Gymnax], dict[str, Any]]:
    """The class that has gymnax's parameters as fields, and their values."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    kinds: list[Any] = []
    values = {}
    for path, leaf in leaves:
        own = "_".join(str(getattr(k, "name", getattr(k, "key", getattr(k, "idx", "")))) for k in path)
        own = own + "_" if hasattr(Gymnax, own) else own
        array = np.asarray(leaf)
        kind = {"f": float, "i": int, "b": bool}.get(array.dtype.kind)
        finite = kind is not None and bool((np.abs(array.astype(np.float64)) <= np.iinfo(np.int32).max).all())
        if finite and (array.ndim == 0 or array.dtype in (np.float32, np.int32, np.bool_)):
            kinds.append((own, kind, array.shape))
            values[own] = leaf
        else:  # our parameters are finite, of 32 bits
            kinds.append(Held(leaf))
    return _make_class(name, tuple(kinds), structure), values


@functools.cache
def _make_class(name: str, kinds: tuple[Any, ...], structure: Any) -> type[Gymnax]:
    fields: dict[str, Any] = {"__annotations__": {}, "__module__": __name__, "structure": structure}
    for kind in kinds:
        if not isinstance(kind, Held):
            own, scalar, shape = kind
            fields["__annotations__"][own] = jax.Array if shape else scalar
            fields[own] = (
                param(default=np.zeros(shape, {float: np.float32, int: np.int32, bool: np.bool_}[scalar]))
                if shape
                else param(default=scalar(0))
            )
    fields["names"] = tuple(None if isinstance(kind, Held) else kind[0] for kind in kinds)
    fields["constants"] = tuple(kind.value if isinstance(kind, Held) else None for kind in kinds)
    return type(f"Gymnax{name}", (Gymnax,), fields)
