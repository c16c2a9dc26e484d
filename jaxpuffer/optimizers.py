"""The optimiser of a `PPOConfig`: global-norm clipping, then Muon or Adam, with an annealed learning rate."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax import Array

if TYPE_CHECKING:
    from jaxpuffer.ppo import PPOConfig


def make_optimizer(config: "PPOConfig") -> optax.GradientTransformation:
    """The optimiser; the config's traced fields may be traced.

    Muon orthogonalises the updates of matrices (Jordan et al., 2024) and leaves the
    rest to Adam, as `optax.contrib.muon` does.
    """
    steps = config.num_updates * config.update_epochs * config.num_minibatches

    def learning_rate(count: Array) -> Array:
        progress = jnp.minimum(jnp.float32(count) / steps, 1.0)
        decayed = {
            "constant": jnp.float32(1.0),
            "linear": 1.0 - progress,
            "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
        }[config.schedule]
        return config.learning_rate * decayed

    if config.optimizer == "muon":
        rule = optax.contrib.muon(
            learning_rate, beta=config.momentum, adam_b1=config.momentum, adam_b2=config.adam_beta2
        )
    else:
        rule = optax.adam(learning_rate, b1=config.momentum, b2=config.adam_beta2, eps=config.adam_epsilon)
    chain = optax.chain(optax.clip_by_global_norm(config.max_grad_norm), rule)
    if config.optimizer == "adam":
        chain = optax.flatten(chain)  # one vector in place of many small arrays

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # Optax mixes integer counts with floats, which strict promotion refuses
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return chain.update(gradient, state, params)

    return optax.GradientTransformation(chain.init, update)
