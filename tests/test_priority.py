"""Prioritised segments: frequencies, weights, and errors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxpuffer.priority import annealed_beta, draw, importance, probabilities

DRAWS = 20_000


def test_probabilities_are_powers_of_summed_advantages() -> None:
    advantage = jnp.float32([[1.0, -2.0, 0.0], [1.0, 2.0, 0.0]])
    got = probabilities(advantage, 0.5)
    weight = np.array([2.0, 4.0, 0.0]) ** 0.5 + 1e-6
    np.testing.assert_allclose(got, weight / weight.sum(), rtol=1e-6)
    assert got[2] > 0
    np.testing.assert_allclose(probabilities(advantage, 0.0), np.full(3, 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(probabilities(jnp.zeros((2, 5)), 0.8), np.full(5, 0.2), rtol=1e-6)


def test_with_replacement_frequencies_are_the_probabilities() -> None:
    p = jnp.float32([0.5, 0.0, 0.2, 0.3])
    drawn = np.asarray(draw(jax.random.key(0), p, DRAWS, replacement=True))
    assert drawn.dtype == np.int32
    counts = np.bincount(drawn, minlength=4)
    assert counts[1] == 0
    assert scipy.stats.chisquare(counts[[0, 2, 3]], DRAWS * np.array([0.5, 0.2, 0.3])).pvalue > 1e-3


def test_without_replacement_it_draws_as_one_after_the_other() -> None:
    """Every ordered pair of three, against its exact probability p_i p_j / (1 - p_i)."""
    p = np.array([0.6, 0.3, 0.1])
    keys = jax.random.split(jax.random.key(1), DRAWS)
    pairs = np.asarray(jax.vmap(lambda key: draw(key, jnp.float32(p), 2, replacement=False))(keys))
    assert (pairs[:, 0] != pairs[:, 1]).all()
    possible = list(itertools.permutations(range(3), 2))
    counts = [int((pairs == pair).all(1).sum()) for pair in possible]
    expected = [DRAWS * p[i] * p[j] / (1 - p[i]) for i, j in possible]
    assert sum(counts) == DRAWS
    assert scipy.stats.chisquare(counts, np.array(expected) * DRAWS / sum(expected)).pvalue > 1e-3


def test_weights_undo_the_preference() -> None:
    p = jnp.float32([0.5, 0.25, 0.125, 0.125])
    np.testing.assert_allclose(importance(p, 1.0), [0.5, 1.0, 2.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(importance(p, 0.0), np.ones(4))
    # the weighted mean over the drawn segments is the plain mean over all
    x = jnp.float32([3.0, -1.0, 4.0, 1.5])
    assert float((p * importance(p, 1.0) * x).sum()) == pytest.approx(float(x.mean()), rel=1e-6)


def test_beta_goes_to_one() -> None:
    assert [float(annealed_beta(0.2, progress)) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.6, 1.0])


def test_too_many_without_replacement_are_refused() -> None:
    with pytest.raises(ValueError, match="count is 4; without replacement it must be at most .* 3"):
        draw(jax.random.key(0), jnp.full(3, 1 / 3), 4, replacement=False)


@pytest.mark.parametrize("replacement", [True, False])
def test_without_a_preference_all_are_alike(replacement: bool) -> None:
    p = probabilities(jax.random.normal(jax.random.key(2), (7, 5)), 0.0)
    np.testing.assert_allclose(importance(p, 0.6), np.ones(5), rtol=1e-6)
    keys = jax.random.split(jax.random.key(3), DRAWS)
    drawn = np.asarray(jax.vmap(lambda key: draw(key, p, 2, replacement))(keys))
    for column in drawn.T:
        assert scipy.stats.chisquare(np.bincount(column, minlength=5)).pvalue > 1e-3


def test_all_of_them_without_replacement_is_an_order() -> None:
    p = probabilities(jnp.float32([[0.0, 1.0, 100.0, 0.0]]), 0.8)
    assert sorted(np.asarray(draw(jax.random.key(4), p, 4, replacement=False)).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("replacement", [True, False])
def test_it_maps_over_advantages_and_exponents(replacement: bool) -> None:
    advantage = jax.random.normal(jax.random.key(5), (3, 7, 6))
    alpha, beta = jnp.float32([0.0, 0.5, 1.0]), jnp.float32([0.2, 0.6, 1.0])
    keys = jax.random.split(jax.random.key(6), 3)

    def chosen(key: jax.Array, advantage: jax.Array, alpha: jax.Array, beta: jax.Array) -> tuple[jax.Array, jax.Array]:
        p = probabilities(advantage, alpha)
        return draw(key, p, 4, replacement), importance(p, beta)

    index, weight = jax.jit(jax.vmap(chosen))(keys, advantage, alpha, beta)
    for k in range(3):
        one_index, one_weight = chosen(keys[k], advantage[k], alpha[k], beta[k])
        np.testing.assert_array_equal(index[k], one_index)
        np.testing.assert_allclose(weight[k], one_weight, rtol=1e-5)
