"""Running means and variances are those of all observations together."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxpuffer.normalizer import Normalizer
from jaxpuffer.spaces import Box


def test_several_batches_count_as_one() -> None:
    """Also if the mean is much larger than the deviation, where squares in float32 would lose it."""
    random = np.random.default_rng(0)
    scale, shift = np.array([1.0, 0.5, 3.0]), np.array([0.0, 3000.0, -20.0])
    batches = [np.float32(random.normal(size=(4, n, 3)) * scale + shift) for n in (5, 64, 17)]
    normalizer = Normalizer.fresh(Box(-1e6, 1e6, (3,)))
    for batch in batches:
        normalizer = jax.jit(Normalizer.with_batch)(normalizer, jnp.array(batch))
    together = np.concatenate([batch.reshape(-1, 3) for batch in batches]).astype(np.float64)
    assert normalizer.count == len(together)
    np.testing.assert_allclose(normalizer.mean, together.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(normalizer.variance, together.var(0), rtol=1e-2)


def test_the_first_batch_replaces_what_fresh_assumes() -> None:
    batch = jnp.float32([[[2.0], [6.0]]])
    normalizer = Normalizer.fresh(Box(-10.0, 10.0, (1,)))
    np.testing.assert_array_equal(normalizer(batch), batch)
    normalizer = normalizer.with_batch(batch)
    np.testing.assert_allclose(normalizer.mean, [4.0])
    np.testing.assert_allclose(normalizer.variance, [4.0])
    np.testing.assert_allclose(normalizer(batch), [[[-1.0], [1.0]]], rtol=1e-6)
    np.testing.assert_array_equal(normalizer(jnp.float32([[[30.0], [-30.0]]])), [[[10.0], [-10.0]]])
