"""numerics.py and numerics.h: the same bits, close to the true value."""

import ctypes
import functools
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxpuffer import numerics

HEADERS = Path(__file__).resolve().parents[1] / "envs_c"
FLAGS = ["-O3", "-ffp-contract=off", "-fno-math-errno"]
COUNT = 1_000_000
ONE_ARGUMENT = ["sin", "cos", "exp", "log", "tanh"]
NAMES = [*ONE_ARGUMENT, "atan2", "unit"]
TRUTH: dict[str, Callable[..., tuple[np.ndarray, ...]]] = {
    **{name: (lambda x, name=name: (getattr(np, name)(x),)) for name in ONE_ARGUMENT},
    "atan2": lambda y, x: (np.arctan2(y + 0.0, x + 0.0),),  # -0 is 0
    "unit": lambda x, y: (x / np.hypot(x, y), y / np.hypot(x, y)),
}

C_LOOPS = """
#include "numerics.h"
#define ONE(name) void loop_##name(const float *x, float *y, int64_t n) { \\
  for (int64_t i = 0; i < n; i++) y[i] = num_##name(x[i]); }
ONE(sin) ONE(cos) ONE(exp) ONE(log) ONE(tanh) ONE(abs) ONE(sqrt)
void loop_sin_cos(const float *x, float *sine, float *cosine, int64_t n) {
  for (int64_t i = 0; i < n; i++) num_sin_cos(x[i], sine + i, cosine + i);
}
void loop_atan2(const float *y, const float *x, float *angle, int64_t n) {
  for (int64_t i = 0; i < n; i++) angle[i] = num_atan2(y[i], x[i]);
}
void loop_unit(const float *x, const float *y, float *ux, float *uy, int64_t n) {
  for (int64_t i = 0; i < n; i++) num_unit(x[i], y[i], ux + i, uy + i);
}
void loop_clip(const float *x, const float *low, const float *high, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = num_clip(x[i], low[i], high[i]);
}
"""

needs_strict_mode = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="XLA fuses multiply-adds on this processor"
)


@pytest.fixture(scope="session")
def c(tmp_path_factory):
    """c(name, *arrays): a tuple of the results of the C function for each entry."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("numerics")
    (folder / "loops.c").write_text(C_LOOPS)
    command = [compiler, *FLAGS, "-shared", "-fPIC", f"-I{HEADERS}", "loops.c", "-o", "loops.so"]
    subprocess.run(command, cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "loops.so"))

    def call(name, *arrays):
        arrays = [np.ascontiguousarray(a, np.float32) for a in np.broadcast_arrays(*arrays)]
        results = tuple(np.empty_like(arrays[0]) for _ in range(2 if name in ("unit", "sin_cos") else 1))
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, *results)]
        getattr(library, f"loop_{name}")(*pointers, ctypes.c_int64(arrays[0].size))
        return results

    return call


def jitted(function, *arrays):
    results = jax.jit(function)(*arrays)
    return tuple(np.asarray(r) for r in (results if isinstance(results, tuple) else (results,)))


def assert_same_bits(got, expected, *arguments):
    """Equal to the last bit; -0 is 0 and any NaN is NaN."""
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == e.dtype == np.float32 and g.shape == e.shape
        differ = (g != e) & ~(np.isnan(g) & np.isnan(e))
        if differ.any():
            i = int(differ.argmax())
            at = [a[i] for a in np.broadcast_arrays(g, *arguments)[1:]]
            pytest.fail(f"{differ.sum()} of {g.size} differ, first at {at}: JAX {g[i]!r}, C {e[i]!r}")


def ulps(got, truth):
    """The error in units in the last place of the float32 nearest to the true value."""
    exponent = np.frexp(np.maximum(np.abs(truth), 2.0**-126))[1]
    return np.abs(got.astype(np.float64) - truth) / np.ldexp(1.0, exponent - 24)


@functools.cache
def inputs(name):
    """Arguments over the whole documented range: random, neighbouring and special ones."""
    draw = np.random.default_rng(sum(name.encode()))

    def over_scales(low, high, count=COUNT):
        # every order of magnitude equally often, both signs
        return np.exp(draw.uniform(np.log(low), np.log(high), count)) * draw.choice([-1.0, 1.0], count)

    def neighbours(*centres, count=2_000):
        # every float32 around each centre
        bits = np.abs(np.float32(centres)).view(np.int32)[:, None] + np.arange(-count, count, dtype=np.int32)
        return np.copysign(bits.view(np.float32), np.float32(centres)[:, None]).ravel()

    if name in ("sin", "cos"):
        quarters = np.arange(-6366, 6367) * (np.pi / 2)
        quarters = quarters[quarters != 0]
        x = [draw.uniform(-1e4, 1e4, COUNT), over_scales(1e-37, 1e4), draw.uniform(-7, 7, COUNT)]
        x += [neighbours(*quarters, count=20), neighbours(*(quarters / 2), count=5), neighbours(0.75, -0.75)]
        x += [[0.0, -0.0, 1e4, -1e4]]
        near_end = neighbours(1e4, -1e4)
        x += [near_end[np.abs(near_end) <= 1e4]]
    elif name == "exp":
        low, high = np.float32(numerics.EXP_MIN), np.float32(numerics.EXP_MAX)
        x = [draw.uniform(low, high, COUNT), draw.uniform(-1, 1, COUNT), over_scales(1e-37, 80)]
        x += [neighbours(*(np.arange(-125.5, 128) * np.log(2)), count=100), [low, high, 0.0, -0.0]]
        x += [np.clip(neighbours(low, high), low, high)]
    elif name == "log":
        x = [np.abs(over_scales(1.2e-38, 3.4e38)), draw.uniform(0.5, 2, COUNT), draw.uniform(1e-30, 1e3, COUNT)]
        x += [neighbours(1, 0.5**0.5, 2**0.5, count=50_000), neighbours(*2.0 ** np.arange(-125, 128), count=50)]
        x += [[numerics.SMALLEST_NORMAL, np.finfo(np.float32).max]]
    elif name == "tanh":
        x = [over_scales(1e-37, 1e38), over_scales(1e-3, 20), draw.uniform(-3, 3, COUNT)]
        x += [neighbours(numerics.TANH_SMALL, -numerics.TANH_SMALL, 9, count=50_000), [0.0, -0.0, 3e38, -3e38]]
    else:
        a = [draw.uniform(-3, 3, COUNT), over_scales(1e-15, 1e15), draw.uniform(-999, 999, COUNT)]
        b = [draw.uniform(-3, 3, COUNT), over_scales(1e-15, 1e15), neighbours(*a[-1], count=1)[::2]]
        ends = [0.0, -0.0, 1.0, -1.0, 1e-14, -1e-14, 1e19, -1e19]
        pairs = [(p, q) for p in ends for q in ends if p or q]
        a, b = [*a, [p for p, _ in pairs]], [*b, [q for _, q in pairs]]
        return np.concatenate(a).astype(np.float32), np.concatenate(b).astype(np.float32)
    return (np.concatenate(x).astype(np.float32),)


@needs_strict_mode
@pytest.mark.parametrize("name", NAMES)
def test_c_and_jax_give_the_same_bits(c, name):
    arguments = inputs(name)
    assert arguments[0].size >= 2_000_000
    assert_same_bits(jitted(getattr(numerics, name), *arguments), c(name, *arguments), *arguments)


def test_sine_and_cosine_at_once_are_the_two(c):
    x = np.append(inputs("sin")[0], np.float32([1.00001e4, -1e30, INF, -INF, NAN]))
    assert_same_bits(c("sin_cos", x), (*c("sin", x), *c("cos", x)), x)


@pytest.mark.parametrize("name", NAMES)
def test_error_is_small_over_the_whole_range(name):
    arguments = inputs(name)
    got = jitted(getattr(numerics, name), *arguments)
    truth = TRUTH[name](*(a.astype(np.float64) for a in arguments))
    for g, t in zip(got, truth, strict=True):
        # a processor may flush a denormal result
        error = np.where(np.abs(t) < numerics.SMALLEST_NORMAL, 0.0, ulps(g, t))
        worst = int(error.argmax())
        assert error[worst] <= 2.0, [a[worst] for a in arguments]


INF, NAN, PI = np.inf, np.nan, float(np.float32(np.pi))
EDGES = {
    "sin": [(0, 0), (-0.0, 0), (1.00001e4, NAN), (-1e30, NAN), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "cos": [(0, 1), (-0.0, 1), (1.00001e4, NAN), (-1e30, NAN), (INF, NAN), (-INF, NAN), (NAN, NAN)],
    "exp": [(0, 1), (-87.33655, 0), (-1e30, 0), (-INF, 0), (88.72284, INF), (1e30, INF), (INF, INF), (NAN, NAN)],
    "log": [(1, 0), (0, -INF), (-0.0, -INF), (-1.2e-38, NAN), (-1, NAN), (-INF, NAN), (INF, INF), (NAN, NAN)],
    "tanh": [(0, 0), (-0.0, 0), (10, 1), (-10, -1), (3e38, 1), (INF, 1), (-INF, -1), (NAN, NAN)],
    "atan2": [
        *[(0, 0, 0), (-0.0, 0, 0), (0, -0.0, 0), (-0.0, -0.0, 0), (0, 1, 0), (0, -1, PI), (-0.0, -1, PI)],
        *[(1, 0, PI / 2), (-1, 0, -PI / 2), (1e-30, -3e38, PI), (-1e-30, -3e38, -PI), (3e38, -1e-30, PI / 2)],
        *[(NAN, 1, NAN), (1, NAN, NAN), (NAN, 0, NAN), (0, NAN, NAN), (NAN, NAN, NAN)],
    ],
    "unit": [
        *[
            (0, 0, 0, 0),
            (-0.0, 0, 0, 0),
            (9.9e-16, 0, 0, 0),
            (1e-15, 0, 1, 0),
            (0, -1.01e-15, 0, -1),
            (-1e-30, 1e-30, 0, 0),
            (0, 1e-14, 0, 1),
            (-1e19, 0, -1, 0),
        ],
        *[(3, -4, 0.6, -0.8), (1e30, 1, 0, 0), (-3e38, 3e38, 0, 0), (NAN, 1, NAN, NAN), (0, NAN, NAN, NAN)],
    ],
}


@pytest.mark.parametrize("name", NAMES)
def test_special_values_and_values_out_of_range(c, name):
    table = np.array(EDGES[name], np.float32).T
    results = 2 if name == "unit" else 1
    arguments, expected = tuple(table[:-results]), tuple(table[-results:])
    assert_same_bits(c(name, *arguments), expected, *arguments)
    assert_same_bits(jitted(getattr(numerics, name), *arguments), expected, *arguments)


@needs_strict_mode
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_same_bits_inside_larger_expressions(c, name):
    # cases in which XLA could merge a constant or a division of the caller with one in these functions
    function = getattr(numerics, name)
    scale, shift = np.float32(0.7071), np.float32(0.3)
    x = np.random.default_rng(1).uniform(0.5, 40, 400_000).astype(np.float32)
    x = x if name == "log" else x * np.resize(np.float32([1, -1]), x.size)
    x = x * np.float32(0.03) if name == "tanh" else x
    if name in ("sin", "cos"):
        # the scaled angle is half way between two quarter turns
        halves = ((np.arange(1, 6_001) - 0.5) * (np.pi / 2 / scale)).astype(np.float32)
        near = halves.view(np.int32)[:, None] + np.arange(-8, 9, dtype=np.int32)
        x = np.concatenate([x, near.view(np.float32).ravel()])
    (plain,) = c(name, x)

    def expressions(x):
        y = function(x)
        return function(x * scale), function(x + shift), function(x + x), y * scale, y + shift, y * y, x / y, y / x

    expected = (
        *(c(name, argument)[0] for argument in (x * scale, x + shift, x + x)),
        *(plain * scale, plain + shift, plain * plain, x / plain, plain / x),
    )
    assert_same_bits(jitted(expressions, x), expected, x)


@needs_strict_mode
def test_same_bits_of_pairs_inside_larger_expressions(c):
    scale = np.float32(0.7071)
    x, y = np.random.default_rng(2).uniform(0.5, 40, (2, 400_000)).astype(np.float32)
    got = jitted(lambda x, y: (numerics.atan2(y * scale, x * scale), numerics.atan2(y / x, scale)), x, y)
    assert_same_bits(got, c("atan2", y * scale, x * scale) + c("atan2", y / x, scale), x, y)
    for arguments in (lambda x, y: (x * scale, y * scale), lambda x, y: (x / y, scale), lambda x, y: (x, y)):
        got = jitted(lambda x, y, pair=arguments: numerics.unit(*pair(x, y)), x, y)
        assert_same_bits(got, c("unit", *arguments(x, y)), x, y)
    # uses of the result by a caller, one at a time
    plain = c("unit", x, y)
    for use in (lambda u, x: u * scale, lambda u, x: u * x, lambda u, x: x / u, lambda u, x: u / x):
        got = jitted(lambda x, y, use=use: tuple(use(u, x) for u in numerics.unit(x, y)), x, y)
        assert_same_bits(got, tuple(use(u, x) for u in plain), x, y)


@needs_strict_mode
@pytest.mark.parametrize("name", NAMES)
def test_same_bits_in_every_kind_of_trace(c, name):
    function = getattr(numerics, name)
    arguments = [a[:: a.size // 512][:512] for a in inputs(name)]
    expected = c(name, *arguments)
    assert_same_bits(jitted(lambda: function(*arguments)), expected, *arguments)  # constants
    assert_same_bits(jitted(jax.vmap(function), *arguments), expected, *arguments)
    grid = jitted(jax.vmap(jax.vmap(function)), *(a.reshape(16, 32) for a in arguments))
    assert_same_bits(tuple(g.ravel() for g in grid), expected, *arguments)
    rolled = jitted(lambda *a: lax.scan(lambda _, row: (None, function(*row)), None, a)[1], *arguments)
    assert_same_bits(rolled, expected, *arguments)
    # one argument for the whole batch
    if len(arguments) == 2:
        shared = np.float32(1.7)
        batched = jitted(jax.vmap(function, in_axes=(0, None)), arguments[0], shared)
        assert_same_bits(batched, c(name, arguments[0], shared), arguments[0])


@pytest.mark.parametrize("name", NAMES)
def test_any_shape_and_python_numbers(name):
    function = jax.jit(getattr(numerics, name))
    count = 1 if name in ONE_ARGUMENT else 2
    for shape in [(), (0,), (3,), (2, 3)]:
        results = jax.tree.leaves(function(*[jnp.full(shape, 0.5, jnp.float32)] * count))
        assert all(r.shape == shape and r.dtype == jnp.float32 for r in results)
    for half in (0.5, np.float32(0.5), np.float64(0.5)):
        results = jax.tree.leaves(function(*[half] * count))
        assert all(r.shape == () and r.dtype == jnp.float32 and not r.weak_type for r in results)
        np.testing.assert_allclose(results, TRUTH[name](*[0.5] * count), rtol=3e-7)


def test_works_outside_jit():
    assert float(numerics.tanh(0.5)) == np.float32(np.tanh(0.5))


def test_identities():
    x = np.random.default_rng(3).uniform(-20, 20, 200_000).astype(np.float32)
    sin, cos, exp, tanh = (jitted(getattr(numerics, name), x)[0] for name in ("sin", "cos", "exp", "tanh"))
    np.testing.assert_allclose(sin**2 + cos**2, 1, atol=4e-7)
    np.testing.assert_array_equal(jitted(numerics.sin, -x)[0], -sin)
    np.testing.assert_array_equal(jitted(numerics.cos, -x)[0], cos)
    np.testing.assert_array_equal(jitted(numerics.tanh, -x)[0], -tanh)
    np.testing.assert_allclose(jitted(numerics.log, exp)[0], x, atol=2e-6)
    np.testing.assert_allclose(jitted(numerics.atan2, sin, cos)[0], np.arctan2(np.sin(x), np.cos(x)), atol=3e-6)
    np.testing.assert_allclose(np.hypot(*jitted(numerics.unit, x, x[::-1])), 1, atol=2e-7)
    assert np.abs(sin).max() <= 1 and np.abs(cos).max() <= 1 and np.abs(tanh).max() <= 1


@pytest.mark.parametrize(("name", "low", "high"), [("exp", -87, 88), ("log", 1e-3, 1e3), ("tanh", -10, 10)])
def test_never_decreasing(name, low, high):
    x = np.linspace(low, high, 2_000_000, dtype=np.float32)
    (y,) = jitted(getattr(numerics, name), x)
    assert (np.diff(y) >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name):
    function = getattr(numerics, name)
    exact = {"atan2": jnp.arctan2, "unit": lambda x, y: (x / jnp.hypot(x, y), y / jnp.hypot(x, y))}
    exact = exact.get(name) or getattr(jnp, name)
    points = jnp.float32([[0.3, 1.2, 2.5], [1.9, -0.4, 0.8]])[: 1 if name in ONE_ARGUMENT else 2]
    every = tuple(range(len(points)))

    def derivatives(f, *point):
        twice = jax.jacfwd(jax.jacrev(f, every), every)
        return jax.jacrev(f, every)(*point), jax.jacfwd(f, every)(*point), twice(*point)

    got, expected = (jax.jit(jax.vmap(functools.partial(derivatives, f)))(*points) for f in (function, exact))
    jax.tree.map(lambda g, e: np.testing.assert_allclose(g, e, rtol=2e-5, atol=2e-6), got, expected)


def test_derivative_of_a_zero_vector_is_zero():
    assert jax.tree.leaves(jax.jit(jax.jacrev(numerics.unit, (0, 1)))(0.0, 0.0)) == [0, 0, 0, 0]


@needs_strict_mode
def test_c_helpers_match_jax(c):
    draw = np.random.default_rng(4)
    x = draw.normal(0, 3, 100_000).astype(np.float32)
    low, high = np.sort(draw.normal(0, 2, (2, x.size)).astype(np.float32), axis=0)
    assert_same_bits(jitted(jnp.abs, x), c("abs", x), x)
    assert_same_bits(jitted(jnp.sqrt, np.abs(x)), c("sqrt", np.abs(x)), x)
    assert_same_bits(jitted(jnp.clip, x, low, high), c("clip", x, low, high), x, low, high)


@pytest.mark.parametrize(("language", "standard"), [("c", "c99"), ("c++", "c++17")])
def test_header_compiles_cleanly_and_needs_no_library(tmp_path, language, standard):
    compiler = shutil.which("cc" if language == "c" else "c++")
    if compiler is None:
        pytest.skip("no compiler")
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Wdouble-promotion", "-Werror"]
    alone = ["-nostdlib", "-Wl,-z,defs"] if platform.system() == "Linux" else []
    (tmp_path / "loops.c").write_text(C_LOOPS)
    command = [compiler, "-x", language, f"-std={standard}", *FLAGS, *warnings, f"-I{HEADERS}", "loops.c"]
    subprocess.run([*command, "-shared", "-fPIC", *alone, "-o", "loops.so"], cwd=tmp_path, check=True)
