"""The optimiser of a `PPOConfig`: global-norm clipping, then Muon or Adam, with an annealed learning rate."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jaxpuffer.config import PPOConfig

# a, b, c of each of the five steps (PufferLib 4.0)
NEWTON_SCHULZ = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)


def make_optimizer(config: PPOConfig) -> optax.GradientTransformation:
    """The optimiser; the config's traced fields may be traced.

    Weight decay is decoupled, W <- W (1 - learning_rate * weight_decay). With Muon it applies only
    to matrices, as in PufferLib; with Adam to everything (Loshchilov and Hutter, 2019).
    The state's layout names the leaves of saved runs: changing it makes them unreadable.
    """

    def learning_rate(count: Array) -> Array:
        return config.learning_rate * annealed(config, count)

    if config.optimizer == "muon":
        rule, decayed = muon(config.momentum), _matrices
    else:
        rule, decayed = optax.scale_by_adam(b1=config.momentum, b2=config.adam_beta2, eps=config.adam_epsilon), None
    chain = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        rule,
        optax.add_decayed_weights(config.weight_decay, decayed),
        optax.scale_by_learning_rate(learning_rate),
    )
    if config.optimizer == "adam":
        chain = optax.flatten(chain)  # one vector in place of many small arrays

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # Optax mixes integer counts with floats, which strict promotion refuses
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return chain.update(gradient, state, params)

    return optax.GradientTransformation(chain.init, update)


def annealed(config: PPOConfig, count: Array) -> Array:
    """The share of the learning rate that is left after `count` gradient steps, float32 ()."""
    progress = jnp.minimum(jnp.float32(count) / (config.schedule_updates * config.gradient_steps), 1.0)
    return schedule(config.schedule, progress, config.min_learning_rate_share)


def schedule(kind: str, progress: Array, minimum: ArrayLike = 0.0) -> Array:
    """The share of the learning rate that is left, float32, from 1 at progress 0 to `minimum` at progress 1.

    Args:
        kind: linear, cosine (half a period; Loshchilov and Hutter, 2017), or constant, which stays at 1.
        progress: float32, from 0 to 1.

    Raises:
        ValueError: kind is none of these.
    """
    if kind == "constant":
        return jnp.ones_like(progress)
    if kind == "linear":
        left = 1.0 - progress
    elif kind == "cosine":
        left = 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
    else:
        raise ValueError(f"kind is {kind!r}; it must be one of constant, linear, cosine")
    least = jnp.float32(minimum)
    return least + (1.0 - least) * left


def _matrices(params: Any) -> Any:
    return jax.tree.map(lambda x: x.ndim > 1, params)


def muon(momentum: ArrayLike) -> optax.GradientTransformation:
    """PufferLib 4.0's Muon (after Jordan et al., 2024): Nesterov momentum, whose matrices are made orthogonal.

        m <- momentum * m + g;  u = g + momentum * m

    The step is u itself if it is a vector or a number, and for a matrix (inputs,
    outputs) sqrt(max(1, outputs / inputs)) * `orthogonal(u)`: PufferLib's rows / columns,
    as its matrices are the transposes of Flax's kernels. Kernels with more axes
    (convolutions) count as matrices (all but the last axis, last axis). Optax's own Muon
    corrects the momentum for its start and uses Adam for parameters that are not matrices.
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
    """Approximately the nearest orthogonal matrix: float32 (n, m), singular values between 0.97 and 1.15.

    Five Newton-Schulz steps X <- a X + (b G + c G^2) X with G = X X^T, on the smaller
    side, from X = matrix / its Frobenius norm. Singular values below 0.003 of that norm
    become smaller.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / jnp.maximum(jnp.linalg.norm(wide), 1e-7)
    for a, b, c in NEWTON_SCHULZ:
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if matrix.shape[0] <= matrix.shape[1] else x.T
