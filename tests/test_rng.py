"""rng.py and rng.h: the same stream, xoroshiro64** as published, with uniform draws."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

from jaxpuffer import rng

HEADERS = Path(__file__).resolve().parents[1] / "envs_c"
STREAMS, DRAWS = 1_000, 1_000  # a million draws of each function

C_LOOPS = """
#include <string.h>

#include "rng.h"
// one stream draws after the other; the k-th draw takes the k-th argument
#define LOOP(name, argument_type, drawn_type, draw) \\
  void loop_##name(uint32_t *stream, const argument_type *argument, drawn_type *drawn, \\
                   int64_t streams, int64_t draws) { \\
    for (int64_t i = 0; i < streams; i++, stream += 2, drawn += draws) \\
      for (int64_t k = 0; k < draws; k++) drawn[k] = draw; \\
  }
LOOP(bits, int32_t, uint32_t, ((void)argument, rng_bits(stream)))
LOOP(float, int32_t, float, ((void)argument, rng_float(stream)))
LOOP(uniform, float, float, rng_uniform(stream, -argument[k], 3.0f * argument[k]))
LOOP(below, int32_t, int32_t, rng_below(stream, argument[k]))
LOOP(bernoulli, float, int32_t, rng_bernoulli(stream, argument[k]))
void loop_shuffle(uint32_t *stream, const int32_t *argument, int32_t *drawn, int64_t streams, int64_t draws) {
  for (int64_t i = 0; i < streams; i++, stream += 2, drawn += draws) {
    memcpy(drawn, argument, (size_t)draws * sizeof *argument);
    rng_shuffle(stream, drawn, (int32_t)draws);
  }
}
void loop_deal(uint32_t *stream, const int32_t *argument, int32_t *drawn, int64_t streams, int64_t draws) {
  for (int64_t i = 0; i < streams; i++, stream += 2, drawn += draws) {
    memcpy(drawn, argument, (size_t)draws * sizeof *argument);
    rng_deal(stream, drawn, (int32_t)draws, (int32_t)draws / 4);
  }
}
"""


@pytest.fixture(scope="session")
def c(tmp_path_factory):
    """c(name, streams, argument, dtype): the advanced streams and the draws of each, one per argument."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("rng")
    (folder / "loops.c").write_text(C_LOOPS)
    command = [compiler, "-O3", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, f"-I{HEADERS}", "loops.c", "-o", "loops.so"], cwd=folder, check=True)
    library = ctypes.CDLL(str(folder / "loops.so"))

    def call(name, streams, argument, dtype):
        streams, argument = np.array(streams), np.ascontiguousarray(argument)
        drawn = np.empty((len(streams), len(argument)), dtype)
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (streams, argument, drawn)]
        getattr(library, f"loop_{name}")(*pointers, *map(ctypes.c_int64, drawn.shape))
        return streams, drawn

    return call


@pytest.fixture(scope="module")
def streams():
    return np.asarray(rng.seed(jax.random.key(7), (STREAMS,)))


def draw_in_turn(draw, streams, argument):
    """The same in JAX: draw(stream, argument) for every stream and, one after another, every argument."""

    def one(stream):
        return lax.scan(draw, stream, argument)

    advanced, drawn = jax.jit(jax.vmap(one))(streams)
    return np.asarray(advanced), np.asarray(drawn)


def published(s0, s1, count):
    """xoroshiro64** in unbounded integers, from its description alone."""

    def rotate(x, by):
        return (x * 2**by) % 2**32 + (x * 2**by) // 2**32

    drawn = []
    for _ in range(count):
        drawn.append(rotate(s0 * 0x9E3779BB % 2**32, 5) * 5 % 2**32)
        mixed = s0 ^ s1
        s0, s1 = rotate(s0, 26) ^ mixed ^ (mixed * 2**9 % 2**32), rotate(mixed, 13)
    return drawn, (s0, s1)


def test_published_test_vector(c):
    # of the reference implementation, started at the words 1 and 2
    expected = [3802928447, 813792938, 1618621494, 2955957307, 3252880261]
    expected += [1129983909, 2539651700, 1327610908, 1757650787, 2763843748]
    start, turns = np.array([[1, 2]], np.uint32), np.zeros(10, np.int32)
    assert published(1, 2, 10)[0] == expected
    assert c("bits", start, turns, np.uint32)[1].tolist() == [expected]
    assert draw_in_turn(lambda s, _: rng.bits(s), start, turns)[1].tolist() == [expected]


def test_bits_follow_the_description(streams):
    starts = np.concatenate([streams[:20], np.array([[0, 1], [1, 0], [2**32 - 1] * 2, [0, 2**31]], np.uint32)])
    advanced, drawn = draw_in_turn(lambda s, _: rng.bits(s), starts, np.zeros(500, np.int32))
    for start, end, row in zip(starts, advanced, drawn, strict=True):
        expected, state = published(*map(int, start), 500)
        assert row.tolist() == expected and tuple(end.tolist()) == state


EVERY_N = np.concatenate([np.arange(1, 401), np.geomspace(401, 65_536, 600).astype(int), [65_535, 65_536]])
CASES = {
    "bits": (lambda s, _: rng.bits(s), np.zeros(DRAWS, np.int32), np.uint32),
    "float": (lambda s, _: rng.uniform(s), np.zeros(DRAWS, np.int32), np.float32),
    "uniform": (
        # powers of two: no rounding that a fused multiply-add could leave out
        lambda s, scale: rng.uniform(s, -scale, 3.0 * scale),
        np.resize(2.0 ** np.arange(-20, 20), DRAWS).astype(np.float32),
        np.float32,
    ),
    "below": (rng.below, EVERY_N.astype(np.int32), np.int32),
    "bernoulli": (rng.bernoulli, np.linspace(-0.1, 1.1, DRAWS, dtype=np.float32), np.int32),
    "shuffle": (rng.shuffle, np.arange(DRAWS, dtype=np.int32) * 3, np.int32),
    "deal": (lambda s, items: rng.deal(s, items, DRAWS // 4), np.arange(DRAWS, dtype=np.int32) * 3, np.int32),
}


@pytest.mark.parametrize("name", list(CASES))
def test_c_and_jax_draw_the_same(c, streams, name):
    draw, argument, dtype = CASES[name]
    if name in ("shuffle", "deal"):
        shuffled = jax.jit(jax.vmap(draw, in_axes=(0, None)))(streams, argument)
        advanced, drawn = (np.asarray(a) for a in shuffled)
    else:
        advanced, drawn = draw_in_turn(draw, streams, argument)
    expected_streams, expected = c(name, streams, argument, dtype)
    assert drawn.size >= 1_000_000
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(advanced, expected_streams)


def test_bounds_and_types(streams):
    def draw(stream):
        stream, unit = rng.uniform(stream)
        stream, scaled = rng.uniform(stream, -2.5, 7.0)
        stream, die = rng.below(stream, 6)
        stream, coin = rng.bernoulli(stream, 0.5)
        stream, word = rng.bits(stream)
        return unit, scaled, die, coin, word

    unit, scaled, die, coin, word = jax.jit(jax.vmap(draw))(streams)
    dtypes = [str(a.dtype) for a in (unit, scaled, die, coin, word)]
    assert dtypes == ["float32", "float32", "int32", "bool", "uint32"]
    assert unit.min() >= 0 and unit.max() < 1
    assert scaled.min() >= -2.5 and scaled.max() <= 7
    assert set(np.asarray(die).tolist()) == set(range(6))


def test_a_probability_of_zero_or_one_is_certain(streams):
    turns = np.resize(np.float32([0, 1]), 100)
    _, drawn = draw_in_turn(rng.bernoulli, streams, turns)
    assert (drawn == (turns == 1)).all()


# each of these rejects a uniform generator once in a million: the key is fixed, so the result is always the same
REJECT = 1e-6


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7, 100, 1_000])
def test_below_is_even(streams, n):
    _, drawn = draw_in_turn(rng.below, streams, np.full(DRAWS, n, np.int32))
    counts = np.bincount(drawn.ravel(), minlength=n)
    assert len(counts) == n
    assert n == 1 or stats.chisquare(counts).pvalue > REJECT


def test_uniform_is_even_and_draws_are_independent(streams):
    _, drawn = draw_in_turn(lambda s, _: rng.uniform(s), streams, np.zeros(DRAWS, np.int32))
    assert stats.chisquare(np.histogram(drawn, 1_000, (0, 1))[0]).pvalue > REJECT
    # one draw and the next, in the same stream and at the same time in another
    for first, second in [(drawn[:, :-1], drawn[:, 1:]), (drawn[:-1], drawn[1:])]:
        table = np.histogram2d(first.ravel(), second.ravel(), 20, [[0, 1], [0, 1]])[0]
        assert stats.chi2_contingency(table).pvalue > REJECT


@pytest.mark.parametrize("probability", [0.001, 0.25, 0.5, 0.9])
def test_bernoulli_has_its_frequency(streams, probability):
    _, drawn = draw_in_turn(rng.bernoulli, streams, np.full(DRAWS, probability, np.float32))
    assert stats.binomtest(int(drawn.sum()), drawn.size, probability).pvalue > REJECT


def test_every_order_is_as_likely():
    streams = rng.seed(jax.random.key(8), (120_000,))
    _, orders = jax.jit(jax.vmap(rng.shuffle, in_axes=(0, None)))(streams, jnp.arange(5))
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(counts) == 120
    assert stats.chisquare(counts).pvalue > REJECT


def test_shuffle_moves_whole_rows(streams):
    rows = jnp.arange(12).reshape(4, 3)
    _, shuffled = rng.shuffle(streams[0], rows)
    assert sorted(shuffled.tolist()) == rows.tolist()
    # one entry has one order: nothing is drawn
    stream, same = rng.shuffle(streams[0], jnp.array([5]))
    assert same.tolist() == [5] and (stream == streams[0]).all()
    stream, nothing = rng.shuffle(streams[0], jnp.zeros((0, 3), jnp.int32))
    assert nothing.shape == (0, 3) and (stream == streams[0]).all()


def test_any_choice_is_dealt_as_often():
    streams = rng.seed(jax.random.key(9), (120_000,))
    _, dealt = jax.jit(jax.vmap(lambda s: rng.deal(s, jnp.arange(6), 3)))(streams)
    assert (np.sort(dealt, axis=1) == np.arange(6)).all()
    _, counts = np.unique(np.asarray(dealt)[:, :3], axis=0, return_counts=True)
    assert len(counts) == 120
    assert stats.chisquare(counts).pvalue > REJECT
    stream, same = rng.deal(streams[0], jnp.arange(6), 0)
    assert same.tolist() == list(range(6)) and (stream == streams[0]).all()
    with pytest.raises(ValueError, match="count is 7 of 6 items"):
        rng.deal(streams[0], jnp.arange(6), 7)


def test_seed_differs_by_key_and_by_row():
    assert rng.seed(jax.random.key(0)).shape == (2,)
    first, second = (np.asarray(rng.seed(jax.random.key(k), (300, 4))) for k in (1, 2))
    assert first.shape == (300, 4, 2) and first.dtype == np.uint32
    assert len(np.unique(np.concatenate([first, second]).reshape(-1, 2), axis=0)) == 2_400


def test_seed_never_gives_two_zero_words(monkeypatch):
    words = jnp.array([[0, 0], [0, 5], [6, 0], [7, 8]], jnp.uint32)
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: words)
    assert rng.seed(jax.random.key(0), (4,)).tolist() == [[0, 1], [0, 5], [6, 0], [7, 8]]


@pytest.mark.parametrize("n", [0, -3, 65_537, np.int64(0), np.int32(-1)])
def test_below_rejects_n_out_of_range(streams, n):
    with pytest.raises(ValueError, match=rf"n is {n}; it must be from 1 to 65536"):
        rng.below(streams[0], n)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: rng.bits(jax.random.key(0)), TypeError, r"stream is key<fry>\[\]; it must be uint32\[2\]"),
        (lambda s: rng.below(jnp.int32(s), 2), TypeError, r"stream is int32\[2\]; it must be uint32\[2\]"),
        (lambda s: rng.each(s[None], 3), TypeError, r"stream is uint32\[1, 2\]"),
        (lambda s: rng.level(s[:1], 1, 0), TypeError, r"stream is uint32\[1\]"),
        (lambda s: rng.deal([1, 2], jnp.arange(3), 1), TypeError, r"stream is .*; it must be uint32\[2\]"),
        (lambda s: rng.uniform((s, 0)), TypeError, r"stream is \(.*; it must be uint32\[2\]"),
        (lambda s: rng.below(s, 2.0), TypeError, "n is 2.0; it must be a whole number"),
        (lambda s: rng.below(s, True), TypeError, "n is True; it must be a whole number"),
        (lambda s: rng.below(s, jnp.float32(2)), TypeError, r"n is float32\[\]; it must be a whole number"),
        (lambda s: rng.below(s, jnp.arange(2)), TypeError, r"n is int32\[2\]; it must be a whole number"),
        (lambda s: rng.deal(s, jnp.arange(3), 1.0), TypeError, "count is 1.0; it must be a whole number that is not"),
        (lambda s: rng.deal(s, jnp.arange(3), s[0]), TypeError, r"count is uint32\[\]; it must be a whole number that"),
        (lambda s: rng.each(s, 2.5), TypeError, "count is 2.5; it must be a whole number that is not traced"),
        (lambda s: rng.each(s, s[0]), TypeError, r"count is uint32\[\]; it must be a whole number that is not traced"),
        (lambda s: rng.each(s, -1), ValueError, "count is -1; it must be from 0 to 2147483647"),
        (lambda s: rng.unit(jnp.int32(3)), TypeError, r"drawn is int32\[\]; it must be uint32"),
        (lambda s: rng.unit(rng.each(s, 3)), TypeError, r"drawn is \(.*; it must be uint32"),
        (lambda s: rng.level(s, 2**31, 0), ValueError, "levels is 2147483648; it must be from 0 to 2147483647"),
        (lambda s: rng.level(s, 1, -1), ValueError, "first_level is -1; it must be from 0 to 2147483647"),
        (lambda s: rng.level(s, 1.5, 0), TypeError, "levels is 1.5; it must be a whole number"),
    ],
)
def test_wrong_arguments_are_named(streams, call, error, message):
    for draw in (call, jax.jit(call), jax.vmap(call, axis_size=3, in_axes=None)):
        with pytest.raises(error, match=message):
            draw(jnp.asarray(streams[0]))


def test_shuffle_rejects_too_many_items(streams):
    with pytest.raises(ValueError, match=r"items has 65537 entries; at most 65536"):
        rng.shuffle(streams[0], jnp.zeros(65_537, jnp.uint8))
