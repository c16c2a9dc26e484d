"""Parameters: one trace for all types of numbers, helpful messages, and a pytree that never validates."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpuffer import make
from jaxpuffer.pytree import Parameters, param, static


class Thing(Parameters):
    """A parameter of each kind."""

    size: int = static(default=4, minimum=1, maximum=8)
    name: str = static(default="a")
    speed: float = param(default=1.0, minimum=0.0, maximum=10.0)
    count: int = param(default=3, minimum=1)
    wild: bool = param(default=False)


FOURS = [4, 4.0, np.int64(4), np.float64(4), np.float16(4), jnp.float32(4), jnp.int32(4), jnp.bfloat16(4), np.array(4)]


def test_one_trace_for_every_type_of_number() -> None:
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def total(thing: Thing) -> jax.Array:
        return thing.speed + jnp.float32(thing.count + thing.size)

    for four in FOURS:
        thing = Thing(speed=four, count=four, size=four)
        assert total(thing) == 12
        assert (thing.speed.dtype, thing.count.dtype) == (jnp.float32, jnp.int32)
        assert not thing.speed.weak_type and not thing.count.weak_type
        assert thing.size == 4 and type(thing.size) is int


def test_one_trace_when_replaced_inside_and_out() -> None:
    chex.clear_trace_counter()
    faster = jax.jit(chex.assert_max_traces(lambda thing, v: thing.replace(speed=v).speed * 2, n=2))
    assert faster(Thing(), 2.0) == faster(Thing(), jnp.float32(2)) == 4  # jit makes another trace for a weak type
    assert not jax.eval_shape(lambda v: Thing(speed=v).speed, 2.0).weak_type
    assert jax.eval_shape(lambda v: Thing(speed=v).speed, 2).dtype == jnp.float32  # a traced integer is a number too


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"speed": 11}, ValueError, "Thing.speed is 11; it must be from 0.0 to 10.0"),
        ({"speed": -1.0}, ValueError, "Thing.speed is -1.0; it must be from 0.0 to 10.0"),
        ({"speed": float("nan")}, ValueError, "Thing.speed is nan; it must be finite"),
        ({"speed": "fast"}, TypeError, "Thing.speed is 'fast'; it must be float"),
        ({"speed": "4"}, TypeError, "Thing.speed is '4'; it must be float"),
        ({"speed": 1j}, TypeError, "Thing.speed is 1j; it must be float"),
        ({"speed": True}, TypeError, "Thing.speed is True; it must be float"),
        ({"count": 0}, ValueError, "Thing.count is 0; it must be at least 1"),
        ({"count": 2.5}, TypeError, "Thing.count is 2.5; it must be a whole number"),
        ({"count": 2**31}, ValueError, "Thing.count is 2147483648; it must fit in 32 bits"),
        ({"count": None}, TypeError, "Thing.count is None; it must be int"),
        ({"wild": 1}, TypeError, "Thing.wild is 1; it must be bool"),
        ({"size": 9}, ValueError, "Thing.size is 9; it must be from 1 to 8"),
        ({"size": 1.5}, TypeError, "Thing.size is 1.5; it must be int"),
        ({"size": np.arange(2)}, TypeError, r"Thing.size is array\(\[0, 1\]\); it must be int"),
        ({"name": 3}, TypeError, "Thing.name is 3; it must be str"),
    ],
)
def test_messages_name_argument_value_and_what_is_allowed(changes: dict, error: type[Exception], message: str) -> None:
    for change in (Thing().replace, Thing):
        with pytest.raises(error, match=message):
            change(**changes)


def test_unknown_names_get_the_nearest() -> None:
    message = r"Thing has no parameter 'sped'; did you mean 'speed'\? \(it has: size, name, speed, count, wild\)"
    with pytest.raises(TypeError, match=message):
        Thing().replace(sped=2)
    with pytest.raises(TypeError, match=r"Thing has no parameter 'zzz' \(it has"):
        Thing().axes("zzz")
    with pytest.raises(TypeError, match=r"cartpole has no parameter 'gravitty'; did you mean 'gravity'\?"):
        make("cartpole", gravitty=1)


def test_tracing() -> None:
    with pytest.raises(TypeError, match=r"Thing.size is static: it sets shapes or code paths and cannot be traced"):
        jax.jit(lambda n: Thing(size=n))(3)
    with pytest.raises(TypeError, match=r"Thing.count is a traced float32; it must be int32"):
        jax.jit(lambda n: Thing(count=n))(3.0)
    # a traced value is not known, and is not checked
    assert jax.jit(lambda v: Thing(speed=v).speed)(1e6) == 1e6
    # a static parameter is not a leaf: another value is another program
    assert len(jax.tree.leaves(Thing())) == 3
    assert jax.tree.structure(Thing(size=3)) != jax.tree.structure(Thing(size=4))


def test_the_pytree_never_validates() -> None:
    thing = Thing(speed=2.0)
    nothing = jax.tree.map(lambda _: None, thing)
    assert nothing.speed is None and nothing.size == 4
    marker = object()
    assert jax.tree.map(lambda _: marker, thing).count is marker
    assert jax.tree.map(lambda x: jnp.float32(x) * 1000, thing).speed == 2000  # out of range, and not checked
    shapes = jax.eval_shape(lambda t: t, thing)
    assert isinstance(shapes.speed, jax.ShapeDtypeStruct)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(thing)[0]]
    assert paths == [".speed", ".count", ".wild"]
    # replace checks, also the result of a map
    with pytest.raises(ValueError, match=r"Thing.speed is .*2000.*; it must be from 0.0 to 10.0"):
        jax.tree.map(lambda x: jnp.float32(x) * 1000, thing).replace(count=3)


def test_axes() -> None:
    thing = Thing()
    axes = thing.axes("speed")
    assert (axes.speed, axes.count, axes.wild, axes.size) == (0, None, None, 4)
    many = thing.replace(speed=jnp.arange(4.0))
    doubled = jax.vmap(lambda t, x: t.speed * 2 + x, in_axes=(axes, None))(many, jnp.float32(1))
    np.testing.assert_array_equal(doubled, [1, 3, 5, 7])
    with pytest.raises(ValueError, match=r"Thing.size is static; only traced parameters have an axis"):
        thing.axes("size")
    with pytest.raises(ValueError, match=r"it must be from 0.0 to 10.0"):
        thing.replace(speed=np.array([1.0, 11.0]))


def test_frozen() -> None:
    with pytest.raises(AttributeError):
        Thing().speed = 3.0  # type: ignore[misc]


class Level(Parameters):
    layout: jax.Array = param(default=np.arange(4, dtype=np.float32))
    doors: tuple[int, ...] = static(default=(1, 2, 3), minimum=0)
    walls: np.ndarray = static(default=np.eye(2))
    seed: int | None = static(default=None)


def test_arrays_and_tuples_as_parameters() -> None:
    level = Level()
    np.testing.assert_array_equal(level.layout, [0, 1, 2, 3])
    assert (level.doors, level.walls, level.seed) == ((1, 2, 3), ((1.0, 0.0), (0.0, 1.0)), None)
    assert level == Level(doors=[1, 2, 3], walls=np.eye(2)) and level != Level(layout=[9, 1, 2, 3])
    assert Level(seed=3.0).seed == 3
    assert Level(**level.to_dict()) == level
    hash(jax.tree.structure(level))
    traces = []
    total = jax.jit(lambda level: traces.append(1) or level.layout.sum())
    assert total(level) == 6 and total(level.replace(layout=np.ones(4))) == 4
    assert len(traces) == 1
    stack = level.replace(layout=np.ones((5, 4)))
    assert jax.vmap(lambda level: level.layout.sum(), in_axes=(level.axes("layout"),))(stack).shape == (5,)


def test_wrong_arrays_and_tuples_are_refused() -> None:
    for wrong, error, message in (
        ({"layout": np.ones(3)}, ValueError, r"Level.layout has the shape \(3,\); it must be \(4,\)"),
        ({"layout": ["a"] * 4}, TypeError, "Level.layout"),
        ({"doors": (1.5,)}, TypeError, "whole numbers"),
        ({"doors": (-1,)}, ValueError, "at least 0"),
        ({"doors": 3}, TypeError, "Level.doors is 3"),
        ({"seed": "x"}, TypeError, "Level.seed"),
    ):
        with pytest.raises(error, match=message):
            Level(**wrong)


def test_what_is_no_field_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match=r"Bare.layout must be made with static"):

        class Bare(Parameters):
            layout: jax.Array = jnp.zeros(3)

    with pytest.raises(TypeError, match=r"Untyped.speed has no type; write it as in speed: float = param"):

        class Untyped(Parameters):
            speed = param(default=1)

    with pytest.raises(TypeError, match=r"Own has an __init__; parameters are fields"):

        class Own(Parameters):
            def __init__(self, size):
                self.size = size
