"""The optimiser of a `PPOConfig`: global-norm clipping, then Muon or Adam, with an annealed learning rate."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

if TYPE_CHECKING:
    from jaxpuffer.ppo import PPOConfig

# a, b, c of each of the five steps (PufferLib 4.0)
NEWTON_SCHULZ = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


def make_optimizer(config: "PPOConfig") -> optax.GradientTransformation:
    """The optimiser; the config's traced fields may be traced."""

    def learning_rate(count: Array) -> Array:
        return config.learning_rate * annealed(config, count)

    if config.optimizer == "muon":
        rule = muon(config.momentum)
    else:
        rule = optax.scale_by_adam(b1=config.momentum, b2=config.adam_beta2, eps=config.adam_epsilon)
    chain = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        rule,
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )
    if config.optimizer == "adam":
        chain = optax.flatten(chain)  # one vector in place of many small arrays

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # Optax mixes integer counts with floats, which strict promotion refuses
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return chain.update(gradient, state, params)

    return optax.GradientTransformation(chain.init, update)


def annealed(config: "PPOConfig", count: Array) -> Array:
    """The share of the learning rate that is left after `count` gradient steps, float32 ()."""
    progress = jnp.minimum(jnp.float32(count) / (config.num_updates * config.gradient_steps), 1.0)
    left = {
        "constant": jnp.float32(1.0),
        "linear": 1.0 - progress,
        "cosine": 0.5 * (1.0 + jnp.cos(jnp.pi * progress)),
    }[config.schedule]
    return config.min_learning_rate_share + (1.0 - config.min_learning_rate_share) * left


def muon(momentum: Any) -> optax.GradientTransformation:
    """PufferLib 4.0's Muon (after Jordan et al., 2024): Nesterov momentum, whose matrices are made orthogonal.

        m <- momentum * m + g;  u = g + momentum * m

    The step is u itself where it is a vector or a number, and for a matrix (inputs,
    outputs) sqrt(max(1, outputs / inputs)) * `orthogonal(u)`. Kernels with more axes
    (convolutions) count as matrices (all but the last axis, last axis). Optax's own Muon
    corrects the momentum for its start and gives what is no matrix to Adam.
    """

    def step(u: Array) -> Array:
        if u.ndim < 2:
            return u
        matrix = u.reshape(-1, u.shape[-1])
        inputs, outputs = matrix.shape
        return (max(1.0, outputs / inputs) ** 0.5 * orthogonal(matrix)).reshape(u.shape)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(step, updates), state

    orthogonalise = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    return optax.chain(optax.trace(momentum, nesterov=True), orthogonalise)


def orthogonal(matrix: Array) -> Array:
    """The nearest orthogonal matrix, nearly: float32 (n, m), singular values between 0.97 and 1.15.

    Five Newton-Schulz steps X <- a X + (b G + c G^2) X with G = X X^T, on the smaller
    side, from X = matrix / its Frobenius norm. Singular values below 0.003 of that norm
    come out smaller.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / jnp.maximum(jnp.linalg.norm(wide), 1e-7)
    for a, b, c in NEWTON_SCHULZ:
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
