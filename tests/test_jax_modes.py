"""JAX's switches that change types, keys or the effect of a NaN: environments and the trainer work with each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_envs import Corridor, tiny_config

from jaxpuffer import evaluate, fit, list_envs, make, train

KEY = jax.random.key(0)
CONFIG = tiny_config(total_steps=256)


@pytest.mark.parametrize("backend", ["jax", pytest.param("c", marks=pytest.mark.needs_c)])
@pytest.mark.parametrize("name", list_envs())
def test_every_environment_trains_with_x64(name: str, backend: str) -> None:
    with jax.enable_x64(True):
        env = make(name, backend=backend)
        config = CONFIG.replace(num_agents=env.num_agents)
        metrics = jax.eval_shape(lambda e, k, c: train(e, k, c).metrics, env, KEY, config)
        assert metrics["score"].dtype == jnp.float32


@pytest.mark.parametrize("backend", ["jax", pytest.param("c", marks=pytest.mark.needs_c)])
def test_x64_changes_no_number(backend: str) -> None:
    env = make("cartpole_continuous", backend=backend)
    plain = train(env, KEY, CONFIG)
    with jax.enable_x64(True):
        wide = train(make("cartpole_continuous", backend=backend), KEY, CONFIG)
        scores = evaluate(env, wide.policy, KEY, episodes=8).score
    for a, b in zip(jax.tree.leaves(plain.state), jax.tree.leaves(wide.state), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(scores, evaluate(env, plain.policy, KEY, episodes=8).score)


def test_debug_nans_finds_no_nan_of_ours() -> None:
    """In the first updates no episode of pong ends, so the mean score is NaN."""
    with jax.debug_nans(True):
        for run in (lambda: train(make("pong"), KEY, CONFIG), lambda: fit(make("pong"), KEY, CONFIG, progress=False)):
            metrics = run().metrics
            assert (np.asarray(metrics["episodes"]) == 0).all()
            assert np.isnan(metrics["score"]).all()
        # nor does a game of a league
        metrics = train(make("pong_two"), KEY, CONFIG.replace(league={"opponents": 1, "share": 0.5})).metrics
        assert np.isnan(metrics["league/win_rate"]).all()


def test_debug_nans_finds_one_of_the_environments() -> None:
    class Bad(Corridor):
        def transition(self, s, action):
            s, outcome = super().transition(s, action)
            return s, outcome.replace(reward=jnp.where(s.steps == 3, jnp.nan, outcome.reward))

    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        train(Bad(), KEY, CONFIG)


@pytest.mark.parametrize("backend", ["jax", pytest.param("c", marks=pytest.mark.needs_c)])
def test_other_keys(backend: str) -> None:
    env = make("cartpole", backend=backend)
    for key in (jax.random.key(0, impl="rbg"), jax.random.PRNGKey(0)):
        result = train(env, key, CONFIG)
        assert np.isfinite(result.metrics["policy_loss"]).all()
        assert evaluate(env, result.policy, key, episodes=4).finished.all()
    np.testing.assert_array_equal(
        train(env, jax.random.PRNGKey(0), CONFIG).metrics["policy_loss"], train(env, KEY, CONFIG).metrics["policy_loss"]
    )
