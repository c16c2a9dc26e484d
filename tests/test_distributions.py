"""Log-probabilities and entropies against SciPy; samples against both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxpuffer import rng
from jaxpuffer.distributions import FEW_CHOICES, Categorical, Joint, Normal, most_likely

ROWS = 200_000


def streams() -> jax.Array:
    return rng.seed(jax.random.key(0), (ROWS,))


# few choices are computed column by column, many are not
@pytest.mark.parametrize("n", [1, 5, FEW_CHOICES, FEW_CHOICES + 1, 82])
def test_categorical_agrees_with_scipy(n: int) -> None:
    logits = np.random.default_rng(0).normal(size=(7, n)).astype(np.float32)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    distribution = Categorical(jnp.asarray(logits))
    entropy = [scipy.stats.entropy(row) for row in p]
    np.testing.assert_allclose(distribution.entropy(), entropy, rtol=1e-5, atol=1e-6)
    for action in range(n):
        got = distribution.log_prob(jnp.full(7, action, jnp.int32))
        expected = [scipy.stats.multinomial.logpmf(np.eye(n)[action], 1, row) for row in p]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(distribution.mode(), logits.argmax(-1))


@pytest.mark.parametrize("n", [5, FEW_CHOICES, FEW_CHOICES + 1, 82])
def test_gradients_of_a_masked_categorical(n: int) -> None:
    """With p the probabilities and H the entropy: d log p_a / d logits = e_a - p, dH / d logits = -p (log p + H)."""
    generator = np.random.default_rng(1)
    # far from zero, where only shifted exponentials are finite
    logits = (1000 + generator.normal(size=(7, n))).astype(np.float32)
    mask = generator.random((7, n)) < 0.6
    mask[:, :2] = True
    action = np.full(7, 1, np.int32)
    p = np.where(mask, np.exp(logits.astype(np.float64) - 1000), 0.0)
    p /= p.sum(-1, keepdims=True)
    log_p = np.log(np.where(mask, p, 1.0))
    entropy = -(p * log_p).sum(-1, keepdims=True)

    def total(logits: jax.Array, measure: str) -> jax.Array:
        distribution = Categorical.masked(logits, jnp.asarray(mask))
        return (distribution.entropy() if measure == "entropy" else distribution.log_prob(jnp.asarray(action))).sum()

    got = {measure: jax.grad(total)(jnp.asarray(logits), measure) for measure in ("entropy", "log_prob")}
    np.testing.assert_allclose(got["log_prob"], np.eye(n)[action] - p, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(got["entropy"], -p * (log_p + entropy), rtol=1e-3, atol=1e-5)


def test_categorical_samples_its_probabilities() -> None:
    logits = jnp.log(jnp.float32([0.1, 0.2, 0.3, 0.4]))
    distribution = Categorical(jnp.broadcast_to(logits, (ROWS, 4)))
    after, actions = jax.jit(Categorical.sample)(distribution, streams())
    assert actions.dtype == jnp.int32 and not np.array_equal(after, streams())
    counts = np.bincount(actions, minlength=4)
    assert scipy.stats.chisquare(counts, ROWS * np.array([0.1, 0.2, 0.3, 0.4])).pvalue > 1e-3


def test_masked_choices_have_no_probability() -> None:
    mask = jnp.array([True, False, True, False])
    logits = jnp.float32([0.0, 50.0, 0.0, 50.0])
    distribution = Categorical.masked(jnp.broadcast_to(logits, (ROWS, 4)), jnp.broadcast_to(mask, (ROWS, 4)))
    _, actions = jax.jit(Categorical.sample)(distribution, streams())
    counts = np.bincount(actions, minlength=4)
    assert counts[1] == counts[3] == 0
    assert scipy.stats.chisquare(counts[[0, 2]]).pvalue > 1e-3
    np.testing.assert_allclose(distribution.entropy()[0], np.log(2), rtol=1e-6)


def test_normal_agrees_with_scipy() -> None:
    generator = np.random.default_rng(0)
    mean, action = generator.normal(size=(2, 6, 3)).astype(np.float32)
    log_std = np.float32([-1.0, 0.0, 0.5])
    distribution = Normal(jnp.asarray(mean), jnp.asarray(log_std))
    reference = scipy.stats.norm(mean.astype(np.float64), np.exp(log_std.astype(np.float64)))
    np.testing.assert_allclose(distribution.log_prob(jnp.asarray(action)), reference.logpdf(action).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(distribution.entropy(), reference.entropy().sum(-1), rtol=1e-5)


def test_normal_samples_are_normal() -> None:
    distribution = Normal(jnp.full((ROWS, 2), 3.0), jnp.log(jnp.float32([0.5, 2.0])))
    _, actions = jax.jit(Normal.sample)(distribution, streams())
    for column, std in enumerate((0.5, 2.0)):
        standardised = (np.asarray(actions[:, column]) - 3.0) / std
        assert scipy.stats.kstest(standardised, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(np.asarray(actions).T)[0, 1]) < 0.01


def test_joint_agrees_with_scipy() -> None:
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(6, 3)).astype(np.float32)
    mean, log_std = generator.normal(size=(6, 2)).astype(np.float32), np.float32([-0.5, 0.3])
    numbers = Normal(jnp.asarray(mean), jnp.asarray(log_std))
    joint = Joint((Categorical(jnp.asarray(logits)), numbers), np.dtype(np.float32))
    action = np.concatenate([generator.integers(0, 3, (6, 1)), generator.normal(size=(6, 2))], -1).astype(np.float32)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    reference = scipy.stats.norm(mean.astype(np.float64), np.exp(log_std.astype(np.float64)))
    expected = np.log(p[np.arange(6), action[:, 0].astype(int)]) + reference.logpdf(action[:, 1:]).sum(-1)
    np.testing.assert_allclose(joint.log_prob(jnp.asarray(action)), expected, rtol=1e-4, atol=1e-5)
    entropy = [scipy.stats.entropy(row) for row in p] + reference.entropy().sum(-1)
    np.testing.assert_allclose(joint.entropy(), entropy, rtol=1e-5)
    assert joint.mode().shape == (6, 3)


def test_parts_of_a_joint_are_drawn_independently() -> None:
    logits = jnp.log(jnp.float32([0.25, 0.75]))
    part = Categorical(jnp.broadcast_to(logits, (ROWS, 2)))
    _, actions = jax.jit(Joint.sample)(Joint((part, part)), streams())
    assert actions.dtype == jnp.int32 and actions.shape == (ROWS, 2)
    counts = np.bincount(np.asarray(actions) @ [2, 1], minlength=4)
    assert scipy.stats.chisquare(counts, ROWS * np.array([1, 3, 3, 9]) / 16).pvalue > 1e-3


def test_modes_are_legal_and_in_the_order_of_the_entries() -> None:
    logits = jnp.float32([[0.0, 50.0, 1.0], [3.0, 3.0, 2.0]])
    masked = Categorical.masked(logits, jnp.array([[True, False, True], [True, True, True]]))
    numbers = Normal(jnp.float32([[0.5, -2.5], [9.0, 0.0]]), jnp.zeros(2, jnp.float32))
    assert masked.mode().tolist() == [2, 0]  # of two that are as likely, the first
    choices = Joint((masked, Categorical(logits)))
    mixed = Joint((numbers, masked), np.dtype(np.float32))
    for distribution, expected, dtype in (
        (masked, [2, 0], np.int32),
        (numbers, [[0.5, -2.5], [9.0, 0.0]], np.float32),
        (choices, [[2, 1], [0, 0]], np.int32),
        (mixed, [[0.5, -2.5, 2.0], [9.0, 0.0, 0.0]], np.float32),
    ):
        mode = most_likely(distribution, streams()[:2])
        assert mode.dtype == dtype and mode.tolist() == expected
