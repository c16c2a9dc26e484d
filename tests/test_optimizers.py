"""Optimisers against float64 transcriptions of their formulas."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpuffer import PPOConfig
from jaxpuffer.optimizers import NEWTON_SCHULZ, annealed, make_optimizer, orthogonal, schedule

SHAPES = {"tall": (12, 5), "wide": (4, 9), "bias": (9,), "kernel": (3, 3, 2, 7)}
SMALL = PPOConfig(total_steps=64 * 10, num_envs=4, horizon=16, minibatch_size=64)


def made_up(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(size=shape) for name, shape in SHAPES.items()}


def steps(config: PPOConfig, count: int) -> dict[str, Any]:
    """Parameters after some steps of our optimiser."""
    optimizer = make_optimizer(config)
    params = jax.tree.map(jnp.float32, made_up(0))
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for k in range(count):
        change, state = update(jax.tree.map(jnp.float32, made_up(k + 1)), state, params)
        params = jax.tree.map(lambda p, c: p + c, params, change)
    return params


def clipped(gradient: dict[str, np.ndarray], limit: float) -> dict[str, np.ndarray]:
    norm = np.sqrt(sum((x**2).sum() for x in gradient.values()))
    return {name: x * min(1.0, limit / norm) for name, x in gradient.items()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_muon(weight_decay: float) -> None:
    config = SMALL.replace(learning_rate=0.1, momentum=0.9, weight_decay=weight_decay, schedule="linear")
    params, memory = made_up(0), {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for k in range(3):
        rate = 0.1 * (1 - k / 10)
        for name, g in clipped(made_up(k + 1), 1.5).items():
            memory[name] = 0.9 * memory[name] + g
            u = g + 0.9 * memory[name]
            if u.ndim > 1:
                matrix = u.reshape(-1, u.shape[-1])
                x = matrix / np.linalg.norm(matrix)
                for a, b, c in NEWTON_SCHULZ:
                    s = x @ x.T
                    x = a * x + b * s @ x + c * s @ s @ x
                inputs, outputs = matrix.shape
                u = (np.sqrt(max(1.0, outputs / inputs)) * x).reshape(u.shape)
            kept = 1 - rate * weight_decay if u.ndim > 1 else 1.0  # vectors do not decay
            params[name] = params[name] * kept - rate * u
    for name, got in steps(config, 3).items():
        np.testing.assert_allclose(got, params[name], rtol=2e-4, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_adam(weight_decay: float) -> None:
    """Textbook Adam; with decay it is AdamW, in which everything decays."""
    config = SMALL.replace(optimizer="adam", learning_rate=0.1, momentum=0.8, schedule="constant", max_grad_norm=2.0)
    config = config.replace(weight_decay=weight_decay)
    params = made_up(0)
    first, second = ({name: np.zeros(shape) for name, shape in SHAPES.items()} for _ in range(2))
    for k in range(3):
        for name, g in clipped(made_up(k + 1), 2.0).items():
            first[name] = 0.8 * first[name] + 0.2 * g
            second[name] = 0.999 * second[name] + 0.001 * g**2
            unbiased = first[name] / (1 - 0.8 ** (k + 1)), second[name] / (1 - 0.999 ** (k + 1))
            params[name] *= 1 - 0.1 * weight_decay
            params[name] = params[name] - 0.1 * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    for name, got in steps(config, 3).items():
        np.testing.assert_allclose(got, params[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("shape", [(64, 64), (118, 128), (128, 3), (5, 40)])
def test_singular_values_become_about_one(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(2)
    n = min(shape)
    left, _ = np.linalg.qr(generator.normal(size=(shape[0], n)))
    right, _ = np.linalg.qr(generator.normal(size=(shape[1], n)))
    matrix = left * np.geomspace(1.0, 0.05, n) @ right.T
    got = np.linalg.svd(np.asarray(orthogonal(jnp.float32(matrix))), compute_uv=False)
    assert got.min() > 0.97 and got.max() < 1.15
    # and the directions do not change
    np.testing.assert_allclose(left.T @ np.asarray(orthogonal(jnp.float32(matrix))) @ right, np.diag(got), atol=0.2)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    assert not np.asarray(orthogonal(jnp.zeros((3, 5)))).any()


@pytest.mark.parametrize(
    "kind, shares", [("constant", [1, 1, 1, 1]), ("linear", [1, 0.55, 0.1, 0.1]), ("cosine", [1, 0.55, 0.1, 0.1])]
)
def test_schedules(kind: str, shares: list[float]) -> None:
    config = SMALL.replace(schedule=kind, min_learning_rate_share=0.1)
    got = [float(annealed(config, jnp.int32(count))) for count in (0, 5, 10, 50)]
    assert got == pytest.approx(shares, abs=1e-6)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'step'; it must be one of constant, linear, cosine"):
        schedule("step", jnp.float32(0.5))


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_the_state_keeps_its_layout(optimizer: str) -> None:
    """Saved runs name their leaves by path: with another layout they could not be read."""
    state = make_optimizer(SMALL.replace(optimizer=optimizer)).init(jax.tree.map(jnp.float32, made_up(0)))
    got = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]}
    traces = {f"[1][0].trace['{name}']" for name in SHAPES}
    assert got == {"[3].count"} | (traces if optimizer == "muon" else {"[1].count", "[1].mu", "[1].nu"})


@pytest.mark.parametrize("optimizer", ["muon", "adam"])
def test_weight_decay_maps(optimizer: str) -> None:
    configs = SMALL.replace(optimizer=optimizer, weight_decay=jnp.float32([0.0, 0.5]))
    moved = jax.vmap(lambda c: steps(c, 1), in_axes=(configs.axes("weight_decay"),))(configs)
    for k, decay in enumerate((0.0, 0.5)):
        alone = steps(SMALL.replace(optimizer=optimizer, weight_decay=decay), 1)
        for name, x in moved.items():
            np.testing.assert_allclose(x[k], alone[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_traced_fields_map() -> None:
    configs = SMALL.replace(learning_rate=jnp.float32([0.0, 0.1]), momentum=jnp.float32([0.5, 0.9]))
    axes = configs.axes("learning_rate", "momentum")
    moved = jax.vmap(lambda c: steps(c, 1), in_axes=(axes,))(configs)
    start = made_up(0)
    for name, x in moved.items():
        np.testing.assert_allclose(x[0], start[name], rtol=1e-6)
        assert np.abs(np.asarray(x[1]) - start[name]).max() > 0.01
