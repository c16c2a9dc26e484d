"""The defaults do not depend on units: of rewards, observations and actions."""

import importlib.resources
import tomllib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from toy_envs import Corridor, tiny_config

from jaxpuffer import PPOConfig, list_envs
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, static
from jaxpuffer.evaluate import readable
from jaxpuffer.networks import action_units
from jaxpuffer.normalizer import Normalizer, Returns
from jaxpuffer.policy import make_module
from jaxpuffer.ppo import init, train, update
from jaxpuffer.spaces import Box

KEY = jax.random.key(0)


class PullState(PyTreeNode):
    rng: jax.Array
    steps: jax.Array


class Pull(Env[PullState]):
    """The reward is the action, in units of `unit`, plus a constant."""

    observation_space = Box(-1.0, 1.0, (1,))
    action_space = Box(-0.25, 0.75, (1,))

    def init(self, stream):
        return PullState(stream, jnp.int32(0))

    def transition(self, s, action):
        s = s.replace(steps=s.steps + 1)
        return s, Outcome(action[0], jnp.bool_(False), s.steps >= 20)

    def observe(self, s):
        return jnp.ones(1, jnp.float32)

    def score(self, s):
        return jnp.float32(s.steps)


@pytest.mark.parametrize("advantage", ["gae", "puffer"])
def test_the_unit_of_rewards_changes_nothing(advantage: str) -> None:
    """The unit is a power of two, so that only numbers added to a denominator could make a difference."""
    settings = {"advantage": advantage, "prioritize": "with_replacement", "update_epochs": 2}
    one, large, small = (
        train(Corridor(), KEY, tiny_config(reward_scale=2.0**power, **settings)) for power in (0, 12, -12)
    )
    for other, scale in ((large, 2.0**12), (small, 2.0**-12)):
        for a, b in zip(jax.tree.leaves(one.policy.params), jax.tree.leaves(other.policy.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(other.policy.returns.mean, scale * one.policy.returns.mean, rtol=1e-4)
        np.testing.assert_allclose(
            other.metrics["explained_variance"], one.metrics["explained_variance"], rtol=1e-3, atol=1e-4
        )


def test_without_normalised_returns_the_unit_of_rewards_matters() -> None:
    one, large = (
        train(Corridor(), KEY, tiny_config(reward_scale=scale, normalize_return=False)) for scale in (1.0, 4096.0)
    )
    assert not np.allclose(one.policy.params["critic"]["kernel"], large.policy.params["critic"]["kernel"], rtol=1e-2)


def test_values_are_in_the_unit_of_rewards() -> None:
    returns = Returns.fresh().with_batch(jnp.float32([[100.0, 300.0]]))
    np.testing.assert_allclose(returns.value(jnp.float32([0.0, 1.0, -2.0])), [200.0, 300.0, 0.0])
    # nothing varies: there is only the mean
    constant = Returns.fresh().with_batch(jnp.full((4, 2), 7.0))
    np.testing.assert_array_equal((constant.value(jnp.float32(1.0)), constant.deviation), (7.0, 1.0))


def test_returns_forget_what_is_long_ago() -> None:
    returns = Returns.fresh()
    for _ in range(3):
        returns = returns.with_batch(jnp.zeros((500, 1000)) - returns.mean)
    for _ in range(12):
        returns = returns.with_batch(jnp.full((250, 1000), 5.0) - returns.mean)
    np.testing.assert_allclose(returns.mean, 5.0, rtol=1e-2)
    assert returns.count == 500_000


def test_the_first_update_only_measures() -> None:
    env, config = Corridor(), tiny_config()
    state = init(env, KEY, config)
    first, _ = update(env, state, config)
    second, _ = update(env, first, config)
    leaves = [jax.tree.leaves((s.params, s.opt_state)) for s in (state, first, second)]
    assert all((a == b).all() for a, b in zip(leaves[0], leaves[1], strict=True))
    assert any((a != b).any() for a, b in zip(leaves[1], leaves[2], strict=True))
    assert first.normalizer.count == config.batch_size == first.returns.count


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e6])
def test_observations_of_any_scale_are_normalised(scale: float) -> None:
    batch = jnp.float32(np.random.default_rng(0).normal(3.0, 2.0, (8, 500, 2)) * scale)
    normal = Normalizer.fresh(Box(-np.inf, np.inf, (2,))).with_batch(batch)(batch)
    np.testing.assert_allclose(normal.mean((0, 1)), 0.0, atol=1e-3)
    np.testing.assert_allclose(normal.std((0, 1)), 1.0, rtol=1e-3)


def test_an_observation_that_does_not_vary_stays_finite_and_small() -> None:
    batch = jnp.full((4, 8, 1), 1e5)
    normal = Normalizer.fresh(Box(-1e9, 1e9, (1,))).with_batch(batch)
    np.testing.assert_array_equal(normal(batch), 0.0)
    np.testing.assert_allclose(normal(batch + 1.0), 1.0)


def test_a_bounded_box_acts_in_its_units() -> None:
    env, config = Pull(), tiny_config()
    module = make_module(env, config)
    params = init(env, KEY, config).params
    _, normal, _ = module.apply({"params": params}, (), jnp.ones((1, 3, 1)), jnp.ones((1, 3), bool), None)
    np.testing.assert_allclose(normal.mean, 0.25, atol=0.02)
    np.testing.assert_allclose(jnp.exp(normal.log_std), 0.5, rtol=1e-6)


def test_units_of_actions() -> None:
    middle, half = action_units(Box(-np.inf, np.inf, (2,)))
    np.testing.assert_array_equal((middle, half), [[0, 0], [1, 1]])
    middle, half = action_units(Box(100.0, 300.0, (1,)))
    np.testing.assert_array_equal((middle, half), [[200], [100]])
    # with one bound, draws around the middle are legal
    middle, half = action_units(Box((5.0, -np.inf), (np.inf, -3.0)))
    np.testing.assert_array_equal((middle, half), [[6, -4], [1, 1]])


def test_pufferlibs_units_are_one_call_away() -> None:
    config = PPOConfig.pufferlib(hidden=32)
    assert (float(config.reward_clip), float(config.value_clip)) == (1.0, np.float32(0.2))
    assert (config.normalize_observation, config.normalize_return, config.hidden) == (False, False, 32)


@pytest.mark.parametrize("name", list_envs())
def test_tuned_configurations_say_what_units_they_need(name: str) -> None:
    fields = tomllib.loads((importlib.resources.files("envs_jax") / f"{name}.toml").read_text())
    assert {"reward_clip", "value_clip", "normalize_observation", "normalize_return"} <= set(fields)


def test_infinite_rewards_are_not_clipped_away() -> None:
    class Bad(Corridor):
        def transition(self, s, action):
            s, outcome = super().transition(s, action)
            return s, outcome.replace(reward=jnp.where(s.steps == 3, jnp.inf, outcome.reward))

    metrics = train(Bad(), KEY, tiny_config()).metrics
    assert metrics["nonfinite_reward"][0] > 0
    assert metrics["nonfinite_value"][0] == 0


def test_a_policy_that_moved_too_far_takes_smaller_steps() -> None:
    env, config = Corridor(), tiny_config(total_steps=4096, learning_rate=0.05, max_kl=0.002)
    metrics = train(env, KEY, config).metrics
    kl, pace = np.asarray(metrics["approx_kl"]), np.asarray(metrics["pace"])
    assert (kl > np.float32(0.002)).any() and (kl <= np.float32(0.002)).any()
    before = 1.0
    for moved, now in zip(kl, pace, strict=True):
        np.testing.assert_allclose(
            now, before / 1.5 if moved > np.float32(0.002) else min(1.0, before * 1.05), rtol=1e-5
        )
        before = now
    assert (np.asarray(train(env, KEY, config.replace(max_kl=1e9)).metrics["pace"]) == 1).all()


class Sized(Corridor):
    """The corridor with rewards and observations of any size, seen in any float."""

    size: float = param(default=1.0)
    seen: float = param(default=1.0)
    wide: bool = static(default=True)

    @property
    def observation_space(self) -> Box:  # type: ignore[override]
        return Box(-np.inf, np.inf, (2,), np.dtype(np.float32 if self.wide else np.float16))

    def transition(self, s: Any, action: Array) -> Any:
        s, outcome = super().transition(s, action)
        return s, outcome.replace(reward=outcome.reward * self.size)

    def observe(self, s: Any) -> Array:
        return (super().observe(s) * self.seen).astype(self.observation_space.dtype)


@pytest.mark.parametrize("size", [1e-17, 1e-6, 1e6, 1e11])
def test_explained_variance_has_no_unit(size: float) -> None:
    one, other = (train(Sized(size=s), KEY, tiny_config()).metrics["explained_variance"] for s in (1.0, size))
    np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-2)


def test_numbers_too_small_or_too_large_for_float32_are_said() -> None:
    for env, name in (
        (Sized(size=1e-20), "reward_out_of_range"),
        (Sized(size=1e13), "reward_clipped"),
        (Sized(seen=1e-20), "observation_out_of_range"),
        (Sized(seen=1e30), "observation_out_of_range"),
    ):
        assert np.asarray(train(env, KEY, tiny_config()).metrics[name]).max() > 0, (env, name)
    fine = train(Sized(), KEY, tiny_config()).metrics
    for name in ("reward_out_of_range", "reward_clipped", "observation_out_of_range"):
        assert not np.asarray(fine[name]).any()
    assert 0 < float(fine["reward"][-1]) < 1


def test_float16_observations_are_normalised() -> None:
    """Their squares, beyond 65,504, are not float16s."""
    narrow, wide = (
        train(Sized(seen=1000.0, wide=wide), KEY, tiny_config()).policy.normalizer.variance for wide in (False, True)
    )
    assert np.isfinite(narrow).all() and wide[0] > 1e4
    np.testing.assert_allclose(narrow, wide, rtol=1e-2, atol=1.0)


def test_small_numbers_are_printed_with_their_digits() -> None:
    assert readable(1.714843e-9, 4) == "1.7148e-09" and readable(-0.25, 4) == "-0.2500" and readable(0.0, 2) == "0.00"
    assert readable(843.271, 2) == "843.27" and readable(3e12, 2) == "3e+12" and readable(float("nan"), 2) == "nan"
