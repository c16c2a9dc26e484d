"""Environments so small that the values and the policy to be learned are known exactly."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from jaxpuffer import Env, PPOConfig, rng, train
from jaxpuffer.env import Outcome, PyTreeNode, static
from jaxpuffer.networks import Dense, actor_head
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete, Space

CONFIG = PPOConfig(
    total_steps=200_000, num_envs=64, horizon=16, minibatch_size=512, hidden=16, gamma=0.5, gae_lambda=0.8,
    optimizer="adam", learning_rate=0.01, update_epochs=2, value_clip=100.0, entropy_coefficient=0.0,
    max_grad_norm=10.0, value_coefficient=0.5,
)  # fmt: skip


class ProbeState(PyTreeNode):
    rng: Array  # uint32 (2,)
    cue: Array  # int32 (), 0 or 1
    steps: Array  # int32 ()


class Probe(Env[ProbeState]):
    """Episodes that are terminated after `length` steps. The observation is the cue, -1 or 1."""

    length: int = static(default=1, minimum=1)

    observation_space: ClassVar[Space] = Box(-1.0, 1.0, (2,))
    action_space: ClassVar[Space] = Discrete(2)

    def init(self, stream: Array) -> ProbeState:
        stream, cue = rng.below(stream, 2)
        return ProbeState(stream, cue, jnp.int32(0))

    def reward(self, s: ProbeState, action: Array) -> Array:
        return jnp.float32(1)

    def transition(self, s: ProbeState, action: Array) -> tuple[ProbeState, Outcome]:
        reward = self.reward(s, action)
        s = s.replace(steps=s.steps + 1)
        return s, Outcome(reward, s.steps >= self.length, jnp.bool_(False))

    def observe(self, s: ProbeState) -> Array:
        return jnp.stack([2.0 * jnp.float32(s.cue) - 1.0, jnp.float32(s.steps)])

    def score(self, s: ProbeState) -> Array:
        return jnp.float32(s.steps)


def learned(env: Env, observations: list[list[float]], **changes: Any) -> tuple[np.ndarray, Any, Any]:
    """Values and distribution of a trained policy at observations of first steps, and the result."""
    result = train(env, jax.random.key(0), CONFIG.replace(**changes))
    obs = jnp.float32(observations)
    carry = result.policy.module.initialize_carry(len(obs))
    _, distribution, value = result.policy(carry, obs, jnp.ones(len(obs), bool), None)
    return np.asarray(value), distribution, result


def test_a_constant_reward() -> None:
    value, _, _ = learned(Probe(), [[-1, 0], [1, 0]])
    np.testing.assert_allclose(value, [1, 1], atol=0.02)


class Told(Probe):
    """The reward is the cue."""

    def reward(self, s: ProbeState, action: Array) -> Array:
        return 2.0 * jnp.float32(s.cue) - 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "muon", "learning_rate": 0.01},
        {"advantage": "puffer", "prioritize": "with_replacement"},
        {"advantage": "puffer", "prioritize": "without_replacement"},
        {"prioritize": "with_replacement", "update_epochs": 1.5},
        {"early_stop": True, "target_kl": 0.05},
        {"normalize_observation": True},
        {"precision": "bfloat16"},
        {"separate_critic": True, "activation": "tanh", "schedule": "linear"},
        {"policy": "mingru", "layers": 2},
        {"policy": "lstm"},
    ],
    ids=str,
)
def test_a_reward_the_observation_tells(changes: dict[str, Any]) -> None:
    value, _, result = learned(Told(), [[-1, 0], [1, 0]], **changes)
    np.testing.assert_allclose(value, [-1, 1], atol=0.1)
    assert all(np.isfinite(x).all() for name, x in result.metrics.items() if "loss" in name)


def test_a_linear_policy() -> None:
    value, _, _ = learned(Told(), [[-1, 0], [1, 0]], policy="linear")
    np.testing.assert_allclose(value, [-1, 1], atol=0.02)


class Late(Probe):
    """Two steps; the reward comes with the second, so its value at the first is gamma."""

    def reward(self, s: ProbeState, action: Array) -> Array:
        return jnp.float32(s.steps)


def test_credit_over_two_steps() -> None:
    value, _, _ = learned(Late(length=2), [[-1, 0], [1, 0], [1, 1]])
    np.testing.assert_allclose(value, [0.5, 0.5, 1.0], atol=0.03)


class Obey(Probe):
    """The action that equals the cue gives a reward of 1, the other -1."""

    def reward(self, s: ProbeState, action: Array) -> Array:
        return jnp.where(action == s.cue, 1.0, -1.0)


def test_an_action_the_observation_asks_for() -> None:
    value, distribution, result = learned(Obey(), [[-1, 0], [1, 0]])
    probability = np.exp(distribution.log_prob(jnp.int32([0, 1])))
    assert probability.min() > 0.98
    np.testing.assert_allclose(value, [1, 1], atol=0.05)
    assert float(result.metrics["episode_return"][-1]) > 0.95


class Remember(Probe):
    """The cue is shown at the first of three steps and asked for at the last."""

    def observe(self, s: ProbeState) -> Array:
        shown = jnp.where(s.steps == 0, 2.0 * jnp.float32(s.cue) - 1.0, 0.0)
        return jnp.stack([shown, jnp.float32(s.steps)])

    def reward(self, s: ProbeState, action: Array) -> Array:
        asked = s.steps == self.length - 1
        return jnp.where(asked, jnp.where(action == s.cue, 1.0, -1.0), 0.0)


@pytest.mark.parametrize("policy, least, most", [("mlp", -0.2, 0.2), ("mingru", 0.9, 1.0), ("lstm", 0.9, 1.0)])
def test_a_cue_to_remember(policy: str, least: float, most: float) -> None:
    """Without memory all guesses are equal; with it the return is 1. Horizons of 16 cut episodes of 3 at any step."""
    result = learned(Remember(length=3), [[1, 0]], policy=policy, gamma=0.9, entropy_coefficient=0.01)[2]
    assert least <= float(result.metrics["episode_return"][-20:].mean()) <= most


class Several(Probe):
    """Two choices and a number: the first choice must be the cue, the second 2, the number the cue's sign over 2."""

    action_space: ClassVar[Space] = Mixed((MultiDiscrete((2, 3)), Box(-1.0, 1.0, (1,))))

    def reward(self, s: ProbeState, action: Array) -> Array:
        wanted = 0.5 * (2.0 * jnp.float32(s.cue) - 1.0)
        right = jnp.float32(jnp.int32(action[0]) == s.cue) + jnp.float32(jnp.int32(action[1]) == 2)
        return 0.3 * right - 0.2 * jnp.minimum((action[2] - wanted) ** 2, 2.0)


def test_a_mixed_action() -> None:
    _, distribution, _ = learned(Several(), [[-1, 0], [1, 0]], total_steps=400_000, entropy_coefficient=0.001)
    mode = np.asarray(distribution.mode())
    np.testing.assert_array_equal(mode[:, :2], [[0, 2], [1, 2]])
    np.testing.assert_allclose(mode[:, 2], [-0.5, 0.5], atol=0.15)


class OwnPolicy(nn.Module):
    """A policy as a user would write it: it counts the steps of its episode in its carry."""

    def initialize_carry(self, rows: int) -> Array:
        return jnp.zeros((rows, 1), jnp.float32)

    @nn.compact
    def __call__(self, carry: Array, obs: Array, reset: Array, mask: Array | None) -> Any:
        def step(carry: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
            obs, reset = inputs
            carry = jnp.where(reset[:, None], 0.0, carry) + 1.0
            return carry, jnp.concatenate([obs, carry], -1)

        carry, x = jax.lax.scan(step, carry, (obs, reset))
        x = nn.tanh(Dense(16)(x))
        return carry, actor_head(Discrete(2), x, mask), Dense(1, name="critic")(x)[..., 0]


def test_a_module_of_ones_own() -> None:
    result = train(Obey(), jax.random.key(0), CONFIG, OwnPolicy())
    assert isinstance(result.policy.module, OwnPolicy)
    assert float(result.metrics["episode_return"][-1]) > 0.9


class Forgetful(OwnPolicy):
    def __call__(self, carry: Array, obs: Array, reset: Array, mask: Array | None) -> Any:
        _, distribution, value = super().__call__(carry, obs, reset, mask)
        return (), distribution, value


class WrongValue(OwnPolicy):
    def __call__(self, carry: Array, obs: Array, reset: Array, mask: Array | None) -> Any:
        carry, distribution, value = super().__call__(carry, obs, reset, mask)
        return carry, distribution, value[..., None]


class NoPolicy(nn.Module):
    pass


@pytest.mark.parametrize(
    "module, message",
    [
        (NoPolicy(), "NoPolicy has no initialize_carry"),
        (Forgetful(), "Forgetful returns the carry"),
        (WrongValue(), r"WrongValue: value is float32\[3, 2, 1\] .* it must be float32\[3, 2\]"),
    ],
)
def test_a_module_that_is_no_policy_is_refused(module: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        train(Obey(), jax.random.key(0), CONFIG, module)


def test_the_puffer_advantage_is_gae_where_nothing_is_trained_on_twice() -> None:
    """Each row is trained on once: its ratio is 1 and its values are the rollout's until then."""
    once = CONFIG.replace(total_steps=10_000, update_epochs=1)
    one, two = (train(Obey(), jax.random.key(1), once.replace(advantage=kind)) for kind in ("gae", "puffer"))
    for a, b in zip(jax.tree.leaves(one.policy.params), jax.tree.leaves(two.policy.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    twice = CONFIG.replace(total_steps=10_000, update_epochs=2)
    one, two = (train(Obey(), jax.random.key(1), twice.replace(advantage=kind)) for kind in ("gae", "puffer"))
    assert not np.allclose(one.policy.params["actor"]["kernel"], two.policy.params["actor"]["kernel"], rtol=1e-4)


def test_an_update_stops_where_the_policy_moved_far() -> None:
    hasty = CONFIG.replace(total_steps=20_000, learning_rate=0.1, update_epochs=4, early_stop=True, target_kl=0.01)
    taken = np.asarray(train(Obey(), jax.random.key(0), hasty).metrics["gradient_steps"])[1:]  # the first only measures
    assert taken.min() >= 1 and taken.min() < hasty.gradient_steps
    free = train(Obey(), jax.random.key(0), hasty.replace(target_kl=1e9)).metrics["gradient_steps"]
    np.testing.assert_array_equal(free[1:], hasty.gradient_steps)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"policy": "lstm", "separate_critic": True}, "policy is 'lstm'; it needs layers of at least 1"),
        ({"policy": "gru"}, "policy is 'gru'; it must be one of linear, mlp, mingru, lstm"),
        ({"prioritize": "yes"}, "prioritize is 'yes'; it must be one of no, with_replacement, without_replacement"),
        ({"precision": "float16"}, "precision is 'float16'; it must be one of float32, bfloat16"),
    ],
)
def test_wrong_combinations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CONFIG.replace(**changes)
