"""Advantages: `advantages(config, ...)`, and the available kinds.

A kind is a function with a name in `ADVANTAGES`. PufferLib's has GAE (arXiv 1506.02438) and V-trace
(arXiv 1802.01561) as special cases.

The first axis is time, the second rows. The reward at t is that of the action at t; if that
step was truncated, `gamma` times the value of the final observation has been added to
it. `last_value` stands for all steps after the rollout, so that no step is wasted.

Where two sides move in turns, rewards and values are those of the side that moves, and what one side wins the other
loses. So a later step counts with `sign`: -1 if it is the other side's, 1 if the same side moves again.

Steps of an opponent that is not trained are a part of the learner's environment: the value before such a step is what
follows from it, r + gamma * sign * V(next), and neither lambda nor a clip of V-trace weighs it.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxpuffer.config import CHOICES, PPOConfig
from jaxpuffer.play import Rollout
from jaxpuffer.recurrence import recur


def advantages(
    config: PPOConfig, rollout: Rollout, last_value: Array, value: Array | None = None, ratio: Array | None = None
) -> Array:
    """The advantage of every step of a rollout, of the kind that the config names, float32 (time, rows).

    Args:
        last_value: float32 (rows,), of the observation after the last step.
        value: float32 (time, rows), each as when its step was last trained on; the rollout's where not given.
        ratio: float32 (time, rows), the policy's probability then of each action over the rollout's; None
            before anything was trained on.
    """
    value = rollout.value if value is None else value
    if rollout.sign is not None and rollout.weight is not None:
        theirs = rollout.weight == 0
        follows = jnp.where(theirs & ~rollout.ended, config.gamma * rollout.sign, 0.0)
        value = recur(last_value, follows, jnp.where(theirs, rollout.reward, value), reverse=True)
        ratio = None if ratio is None else jnp.where(theirs, 1.0, ratio)
        unweighted = {name: jnp.where(theirs, 1.0, getattr(config, name)) for name in ("gae_lambda", "c_clip")}
        config = config.replace(**unweighted)
    return ADVANTAGES[config.advantage](config, rollout, value, last_value, ratio)


def _gae(config: PPOConfig, rollout: Rollout, value: Array, last_value: Array, ratio: Array | None) -> Array:
    return gae(rollout.reward, value, last_value, rollout.ended, config.gamma, config.gae_lambda, rollout.sign)


def _puffer(config: PPOConfig, rollout: Rollout, value: Array, last_value: Array, ratio: Array | None) -> Array:
    clips = config.gamma, config.gae_lambda, config.rho_clip, config.c_clip
    return puffer_advantage(rollout.reward, value, last_value, rollout.ended, ratio, *clips, rollout.sign)


ADVANTAGES: dict[str, Any] = {"gae": _gae, "puffer": _puffer}
RECOMPUTED = ("puffer",)  # kinds computed again before each gradient step; the others once for each rollout
CHOICES["advantage"] = ADVANTAGES


def gae(
    reward: Array,
    value: Array,
    last_value: Array,
    ended: Array,
    gamma: ArrayLike,
    gae_lambda: ArrayLike,
    sign: Array | None = None,
) -> Array:
    """Generalised advantage estimation (Schulman et al., 2016), float32 (time, rows).

    Args:
        reward: float32 (time, rows), including the value after a truncated step, as described above.
        value: float32 (time, rows), of the observation the action was chosen on.
        last_value: float32 (rows,), of the observation after the last step.
        ended: bool (time, rows), terminated or truncated by that step: nothing after
            it belongs to the same episode, so the recursion is cut there.
        gamma: discount.
        gae_lambda: 0 for one-step differences, 1 for Monte-Carlo returns.
        sign: float32 (time, rows), -1 where the other side moves after that step, otherwise 1; None if there are no
            sides.
    """
    return puffer_advantage(reward, value, last_value, ended, None, gamma, gae_lambda, 1.0, 1.0, sign)


def puffer_advantage(
    reward: Array,
    value: Array,
    last_value: Array,
    ended: Array,
    ratio: Array | None,
    gamma: ArrayLike,
    gae_lambda: ArrayLike,
    rho_clip: ArrayLike,
    c_clip: ArrayLike,
    sign: Array | None = None,
) -> Array:
    """GAE with V-trace's clipped importance ratios, float32 (time, rows).

        delta_t = min(ratio_t, rho_clip) * (reward_t + gamma * sign_t * value_{t+1} - value_t)
        A_t     = delta_t + gamma * gae_lambda * sign_t * min(ratio_t, c_clip) * A_{t+1}

    as in PufferLib 3.0, but bootstrapped with `last_value` instead of leaving the last
    step without an advantage, and with the sign of a zero-sum game of turns.
    `value_{t+1}` and `A_{t+1}` count only if the episode continues. With `gae_lambda` 1,
    A is V-trace's v - V; with ratio 1 and clips of at least 1, it is GAE. The other
    arguments are those of `gae`.

    Args:
        ratio: float32 (time, rows), the current policy's probability of each action
            divided by the rollout's; None if all are 1.
        rho_clip: largest ratio that weights a temporal difference. It weights the whole difference. So it
            also weights the value after a truncated step, which is part of the reward, in the same way as
            the next value of a step that was not truncated.
        c_clip: largest ratio that weights the advantage of later steps.
    """
    next_value = jnp.concatenate([value[1:], last_value[None]])
    goes_on = jnp.float32(~ended) if sign is None else jnp.where(ended, 0.0, sign)
    delta = reward + gamma * goes_on * next_value - value
    decay = gamma * gae_lambda * goes_on
    ratio = jnp.float32(1) if ratio is None else ratio
    delta = jnp.minimum(ratio, rho_clip) * delta
    decay = jnp.minimum(ratio, c_clip) * decay
    return recur(jnp.zeros_like(last_value), decay, delta, reverse=True)
