"""Immutable dataclasses that are JAX pytrees, and those whose fields are checked parameters."""

import dataclasses
import difflib
import inspect
import operator
import types
import typing
from typing import Any, Self, dataclass_transform, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

_DTYPES: dict[type, Any] = {int: jnp.int32, float: jnp.float32, bool: jnp.bool_}


def static(default: Any, minimum: float | None = None, maximum: float | None = None, help: str = "") -> Any:
    """A parameter that sets shapes, loop bounds or code paths: changing it compiles the program again.

    Arrays and lists are kept as nested tuples, because it must be hashable.
    """
    return _parameter(default, minimum, maximum, help, static=True)


def param(default: Any, minimum: float | None = None, maximum: float | None = None, help: str = "") -> Any:
    """A parameter that is a leaf of the pytree: it can be traced, and vmapped over.

    A default that is an array, annotated `jax.Array`, sets the shape and the dtype of the parameter.
    """
    return _parameter(default, minimum, maximum, help, static=False)


def _parameter(default: Any, minimum: float | None, maximum: float | None, help: str, static: bool) -> Any:
    metadata: dict[str, Any] = {"static": static, "minimum": minimum, "maximum": maximum, "help": help}
    if isinstance(default, np.ndarray | jax.Array):
        default = np.asarray(default)
        default = nested_tuples(default) if static else default
    if isinstance(default, np.ndarray | list):  # dataclasses accept no mutable default
        metadata["default"] = np.asarray(default)
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static, param))
class PyTreeNode:
    """Base of frozen dataclasses that are pytrees; unflattening does not run their code."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, eq=False)(cls)
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        leaves = [f.name for f in fields if not f.metadata.get("static", False)]
        statics = [f.name for f in fields if f.metadata.get("static", False)]
        keys = [jax.tree_util.GetAttrKey(name) for name in leaves]

        def flatten(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            values = node.__dict__
            return tuple(values[n] for n in leaves), tuple(values[n] for n in statics)

        def flatten_with_keys(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
            children, aux = flatten(node)
            return tuple(zip(keys, children, strict=True)), aux

        def unflatten(aux: Any, children: Any) -> Any:
            node = object.__new__(cls)
            node.__dict__.update(zip(statics, aux, strict=True))
            node.__dict__.update(zip(leaves, children, strict=True))
            return node

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


class Parameters(PyTreeNode):
    """Base of pytrees whose fields are parameters, made with `static` and `param`.

    When one is made or changed its fields are validated and cast to the annotated
    type (int, float or bool; static fields may also be str): `4`, `4.0` and
    `jnp.float32(4)` give the same trace. A `param` may be an array with leading
    axes to `vmap` over. The values of traced arrays are not known and cannot be
    checked; their dtype is checked.

    Raises:
        ValueError: a value out of range; the message says what is allowed.
        TypeError: a value of a wrong type, or an unknown name.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "__init__" in cls.__dict__:
            raise TypeError(
                f"{cls.__name__} has an __init__; parameters are fields, as in size: int = static(default=5), "
                "and the class is made by name: "
                f"{cls.__name__}(size=5)"
            )
        annotations = inspect.get_annotations(cls)
        for name, value in cls.__dict__.items():
            if isinstance(value, dataclasses.Field) and name not in annotations:
                raise TypeError(f"{cls.__name__}.{name} has no type; write it as in {name}: float = param(...)")
        for name, annotation in annotations.items():
            value = cls.__dict__.get(name)
            if not isinstance(value, dataclasses.Field) and "ClassVar" not in str(annotation):
                raise TypeError(
                    f"{cls.__name__}.{name} must be made with static(...) or param(...), "
                    f"or be annotated ClassVar if it is not a parameter"
                )
        super().__init_subclass__(**kwargs)

    def __new__(cls, *args: Any, **values: Any) -> Self:
        check_names(cls, values)  # the message of dataclasses would say less
        return super().__new__(cls)

    def __eq__(self, other: object) -> bool:
        """Whether all values are equal; a traced value equals only itself."""
        if type(other) is not type(self):
            return NotImplemented
        return self is other or (not self._is_traced() and self._values() == other._values())

    def __hash__(self) -> int:
        return object.__hash__(self) if self._is_traced() else hash(self._values())

    def _is_traced(self) -> bool:
        return any(isinstance(value, jax.core.Tracer) for value in self.__dict__.values())

    def _values(self) -> tuple[Any, ...]:
        """The fields in order, with the contents of arrays."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(
            (x.shape, tuple(np.ravel(x).tolist())) if isinstance(x, jax.Array | np.ndarray) else x for x in values
        )

    def __post_init__(self) -> None:
        for field, kind in parameter_fields(type(self)):
            owner = f"{type(self).__name__}.{field.name}"
            cast = _cast_static if field.metadata["static"] else _cast_leaf
            object.__setattr__(self, field.name, cast(owner, kind, getattr(self, field.name), field.metadata))

    def replace(self, **changes: Any) -> Self:
        """A copy with some parameters changed, validated like a new one."""
        check_names(type(self), changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The parameters by name as JSON values: `PPOConfig(**config.to_dict()) == config`."""
        return {field.name: _plain(getattr(self, field.name)) for field, _ in parameter_fields(type(self))}

    def axes(self, *names: str) -> Self:
        """An `in_axes` for `jax.vmap`: 0 for the named parameters, None for the others."""
        check_names(type(self), names)
        node = object.__new__(type(self))
        for field, _ in parameter_fields(type(self)):
            if field.metadata["static"] and field.name in names:
                raise ValueError(f"{type(self).__name__}.{field.name} is static; only traced parameters have an axis")
            value = getattr(self, field.name) if field.metadata["static"] else (0 if field.name in names else None)
            node.__dict__[field.name] = value
        return node


def parameter_fields(cls: type[Parameters]) -> list[tuple[dataclasses.Field, type]]:
    """Each parameter's dataclass field and its annotated type."""
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)
    for field in fields:
        if "static" not in field.metadata:
            raise TypeError(f"{cls.__name__}.{field.name} must be made with static(...) or param(...)")
    return [(field, hints[field.name]) for field in fields]


def check_names(cls: type[Parameters], names: Any, owner: str | None = None) -> None:
    """Raise TypeError for the first of `names` that is not a parameter of `cls`."""
    known = [field.name for field, _ in parameter_fields(cls)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            has = ", ".join(known) or "none"
            raise TypeError(f"{owner or cls.__name__} has no parameter {name!r}{hint} (it has: {has})")


def leaf_shapes(node: Any) -> Any:
    """The node with a `jax.ShapeDtypeStruct` for each parameter as it is without axes to `vmap` over."""
    shapes = {
        field.name: jax.ShapeDtypeStruct(np.shape(field.metadata.get("default", 0)), getattr(node, field.name).dtype)
        for field, _ in parameter_fields(type(node))
        if not field.metadata["static"]
    }
    leaves, structure = jax.tree.flatten(node)
    return jax.tree.unflatten(structure, shapes.values()) if leaves else node


def _plain(value: Any) -> Any:
    if isinstance(value, Parameters):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(x) for x in value]
    if value is None:
        return None
    if not hasattr(value, "dtype"):
        return value if isinstance(value, int | float | str) else repr(value)
    if value.ndim:
        return [_plain(x) for x in np.asarray(value)]
    # the shortest decimal that reads back as the same float32: 0.1, not 0.10000000149011612
    return float(str(np.float32(value))) if jnp.issubdtype(value.dtype, jnp.floating) else value.item()


def _cast_leaf(owner: str, kind: type, value: Any, limits: Any) -> jax.Array:
    if kind is jax.Array or kind is np.ndarray:
        return _cast_array(owner, value, limits)
    if kind not in _DTYPES:
        raise TypeError(f"{owner} is annotated {kind}; a traced parameter is int, float, bool, or an array")
    dtype = _DTYPES[kind]
    if isinstance(value, jax.core.Tracer):
        if value.dtype == dtype:
            return jax.lax.convert_element_type(value, dtype)  # drops a weak type
        if kind is float and jnp.issubdtype(value.dtype, jnp.integer):
            return value.astype(dtype)
        raise TypeError(f"{owner} is a traced {value.dtype}; it must be {np.dtype(dtype)}")
    array = np.asarray(value)
    number = jnp.issubdtype(array.dtype, np.integer) or jnp.issubdtype(array.dtype, np.floating)
    if not (array.dtype == np.bool_ if kind is bool else number):
        raise TypeError(f"{owner} is {value!r}; it must be {kind.__name__}")
    if jnp.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float64)  # the narrow types, such as bfloat16, cannot hold every bound
    if kind is int and not (array == np.floor(array)).all():
        raise TypeError(f"{owner} is {value!r}; it must be a whole number")
    _check_range(owner, value, array, limits)
    if kind is int and (np.abs(array) > np.iinfo(np.int32).max).any():
        raise ValueError(f"{owner} is {value!r}; it must fit in 32 bits")
    with np.errstate(over="ignore", under="ignore"):
        stored = array.astype(dtype)
    if kind is float and ((np.isinf(stored) & np.isfinite(array)) | ((stored == 0) & (array != 0))).any():
        raise ValueError(f"{owner} is {value!r}; a float32 holds magnitudes from 1.4e-45 to 3.4e38, and 0")
    return jnp.asarray(stored)


def _cast_array(owner: str, value: Any, limits: Any) -> jax.Array:
    if "default" not in limits:
        raise TypeError(f"{owner} is annotated as an array; its default must be one, which sets shape and dtype")
    default = limits["default"]
    kind = {"f": float, "i": int, "u": int, "b": bool}.get(default.dtype.kind)
    if kind is None:
        raise TypeError(f"{owner} has a default of {default.dtype}; it must hold floats, integers or bools")
    shape = np.shape(value)
    if shape[len(shape) - default.ndim :] != default.shape:
        raise ValueError(f"{owner} has the shape {shape}; it must be {default.shape}, with axes to vmap over in front")
    return _cast_leaf(owner, kind, value, {"minimum": limits["minimum"], "maximum": limits["maximum"]})


def nested_tuples(array: np.ndarray) -> Any:
    """An array as tuples of numbers, which can be hashed."""
    return tuple(nested_tuples(x) for x in array) if array.ndim else array.item()


def _cast_static(owner: str, kind: Any, value: Any, limits: Any) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kinds = [k for k in typing.get_args(kind) if k is not type(None)]
        if value is None and len(kinds) < len(typing.get_args(kind)):
            return None
        if len(kinds) != 1:
            raise TypeError(f"{owner} is annotated {kind}; a static parameter is of one type, or of that or None")
        return _cast_static(owner, kinds[0], value, limits)
    if typing.get_origin(kind) is tuple or kind in (tuple, np.ndarray, jax.Array):
        if isinstance(value, jax.core.Tracer) or np.ndim(value) == 0:
            raise TypeError(f"{owner} is {value!r}; it must be a tuple, a list or an array that is not traced")
        array = np.asarray(value)
        if array.dtype.kind in "fiu":
            _check_range(owner, value, array, limits)
        nested = nested_tuples(array)
        if any(not isinstance(x, int | float | str | bool) for x in array.ravel().tolist()):
            raise TypeError(f"{owner} is {value!r}; it must hold numbers or strings")
        inner = typing.get_args(kind)[:1]
        if inner == (int,) and array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"{owner} is {value!r}; it must hold whole numbers")
        return nested
    if not isinstance(kind, type):
        raise TypeError(f"{owner} is annotated {kind}; a static parameter is int, float, bool, str or a tuple of these")
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{owner} is static: it sets shapes or code paths and cannot be traced or vmapped over")
    wrong = TypeError(f"{owner} is {value!r}; it must be {kind.__name__}")
    if kind in (int, float, bool):
        if isinstance(value, str) or np.ndim(value) != 0:
            raise wrong
        value = value.item() if hasattr(value, "item") else value
        if isinstance(value, bool) != (kind is bool):
            raise wrong
        if kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        try:
            value = operator.index(value) if kind is int else kind(value)
        except (TypeError, ValueError):
            raise wrong from None
        if kind is int and abs(value) > np.iinfo(np.int64).max:
            raise ValueError(f"{owner} is {value!r}; it must fit in 64 bits")
        _check_range(owner, value, np.asarray(value), limits)
    elif issubclass(kind, Parameters) and isinstance(value, dict):
        return kind(**value)  # a group of static parameters
    elif not isinstance(value, kind):
        raise wrong
    return value


def _check_range(owner: str, value: Any, array: np.ndarray, limits: Any) -> None:
    low, high = limits["minimum"], limits["maximum"]
    if not np.isfinite(array).all():
        raise ValueError(f"{owner} is {value!r}; it must be finite")
    if (low is not None and (array < low).any()) or (high is not None and (array > high).any()):
        allowed = f"at least {low}" if high is None else f"at most {high}" if low is None else f"from {low} to {high}"
        raise ValueError(f"{owner} is {value!r}; it must be {allowed}")
