"""The loss, which the gradient steps minimise.

A kind of policy objective is a function with a name in `POLICY_OBJECTIVES`.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxpuffer.config import CHOICES, PPOConfig
from jaxpuffer.play import Rollout
from jaxpuffer.policy import Policy


def loss(
    params: Any,
    policy: Policy,
    config: PPOConfig,
    carry: Any,
    rollout: Rollout,
    advantage: Array,
    target: Array,
) -> tuple[Array, tuple[dict[str, Array], tuple[Array, Array]]]:
    """The loss on steps (time, rows): (loss, (its parts, (values, ratios) of every step)).

    `advantage` is already normalised and weighted. Steps of agents that were out count in no mean.
    """

    def mean(x: Array) -> Array:
        return x.mean() if rollout.weight is None else (jnp.float32(x) * rollout.weight).mean()

    policy = policy.replace(params=params)
    _, distribution, value = policy.sequence(carry, rollout.obs, rollout.reset, rollout.mask)
    all_values = value

    log_ratio = distribution.log_prob(rollout.action) - rollout.log_prob
    ratio = jnp.exp(log_ratio)
    policy_loss = -mean(POLICY_OBJECTIVES[config.policy_objective](config, advantage, ratio))

    # in the critic's units
    old_value = rollout.value
    if policy.returns is not None:
        per_unit = 1.0 / policy.returns.deviation
        value, old_value, target = value * per_unit, old_value * per_unit, target * per_unit
    near = old_value + jnp.clip(value - old_value, -config.value_clip, config.value_clip)
    value_loss = 0.5 * mean(jnp.maximum((value - target) ** 2, (near - target) ** 2))

    entropy = mean(distribution.entropy())
    total = policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy
    parts = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": mean(ratio - 1.0 - log_ratio),
        "clip_fraction": mean(jnp.abs(ratio - 1.0) > config.clip),
    }
    return total, (parts, (all_values, ratio))


def _clip(config: PPOConfig, advantage: Array, ratio: Array) -> Array:
    """PPO's clipped surrogate (Schulman et al., 2017, equation 7) of every step."""
    clipped = jnp.clip(ratio, 1.0 - config.clip, 1.0 + config.clip)
    return jnp.minimum(advantage * ratio, advantage * clipped)


POLICY_OBJECTIVES: dict[str, Any] = {"clip": _clip}
CHOICES["policy_objective"] = POLICY_OBJECTIVES
