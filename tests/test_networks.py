"""Policies: sequences equal single steps, the recurrences equal their formulas, encoders read all they should."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.test_util import check_grads

from jaxpuffer import networks
from jaxpuffer.networks import ENCODERS, POLICIES, RECURRENT, ActorCritic
from jaxpuffer.spaces import Box, Discrete, MultiDiscrete, Space

TIME, ROWS = 5, 4
FLOATS = Box(-1.0, 1.0, (6,))
TILES = Box(2, 5, (3, 3), np.int8)
ENTITIES = Box(-1.0, 1.0, (4, 6))
SEEN_BY = {
    "flat": FLOATS,
    "embedding": TILES,
    "grid": TILES,
    "entity": ENTITIES,
    "image": Box(0, 255, (9, 9, 3), np.uint8),
}


def make(policy: str = "mlp", encoder: str = "flat", space: Space | None = None, **fields: Any) -> ActorCritic:
    fields = {"hidden": 8, "layers": 2, "scan": "parallel", **fields}
    return ActorCritic(space or SEEN_BY[encoder], Discrete(3), policy=policy, encoder=encoder, **fields)


def sample(space: Space, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The same as `space.sample`, but without compiling anything."""
    generator = np.random.default_rng(seed)
    assert isinstance(space, Box)
    if space.is_tiles:
        return generator.integers(space.low, space.high, (*shape, *space.shape), space.dtype, endpoint=True)
    return np.float32(generator.uniform(space.low, space.high, (*shape, *space.shape)))


def inputs(space: Space, time: int = TIME, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Observations, and resets at random; row 0 has them at the first and the last step, row 1 has none."""
    reset = np.random.default_rng(1).random((time, rows)) < 0.3
    reset[0, 0] = reset[-1, 0] = True
    reset[:, 1] = False
    return sample(space, (time, rows)), reset


def random_carry(module: ActorCritic) -> Any:
    """A carry as after some steps, all positive like MinGRU's."""
    generator = np.random.default_rng(2)
    shapes = jax.eval_shape(lambda: module.initialize_carry(ROWS))
    return jax.tree.map(lambda x: np.float32(generator.random(x.shape)), shapes)


def no_carry(module: ActorCritic) -> Any:
    return jax.tree.map(np.zeros_like, random_carry(module))


def parameters(module: Any, space: Space, seed: int = 0) -> Any:
    """Random weights, and biases too, without compiling the initialisers of the module."""
    generator = np.random.default_rng(seed)
    obs, reset = inputs(space)
    shapes = jax.eval_shape(
        lambda key: module.init(key, module.initialize_carry(ROWS), obs, reset, None), jax.random.key(0)
    )["params"]

    def draw(x: Any) -> np.ndarray:
        fan_in = np.prod(x.shape[:-1])
        return np.float32(generator.normal(size=x.shape) / fan_in**0.5)

    return jax.tree.map(draw, shapes)


@functools.partial(jax.jit, static_argnums=0)
def outputs(module: Any, params: Any, carry: Any, obs: Array, reset: Array) -> tuple[Any, Array, Array]:
    carry, distribution, value = module.apply({"params": params}, carry, obs, reset, None)
    return carry, distribution.logits, value


def step_by_step(module: Any, params: Any, carry: Any, obs: Array, reset: Array) -> tuple[Any, Array, Array]:
    def step(carry: Any, now: tuple[Array, Array]) -> tuple[Any, tuple[Array, Array]]:
        obs, reset = now
        carry, logits, value = outputs(module, params, carry, obs[None], reset[None])
        return carry, (logits[0], value[0])

    carry, (logits, values) = jax.lax.scan(step, carry, (obs, reset))
    return carry, logits, values


def assert_close(got: Any, expected: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), got, expected)


CORES = [("linear", "parallel"), ("mlp", "parallel"), ("lstm", "parallel"), ("mingru", "parallel")]
CORES += [("mingru", "sequential")]


@pytest.mark.parametrize("policy, scan", CORES)
def test_a_sequence_equals_its_steps(policy: str, scan: str) -> None:
    module = make(policy, scan=scan)
    obs, reset = inputs(FLOATS)
    params, carry = parameters(module, FLOATS), random_carry(module)
    got = outputs(module, params, carry, obs, reset)
    assert_close(got, jax.jit(functools.partial(step_by_step, module))(params, carry, obs, reset))

    start = module.initialize_carry(ROWS)
    assert not any(x.any() for x in jax.tree.leaves(start))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), got[0]) == jax.tree.map(lambda x: (x.shape, x.dtype), start)
    assert got[1].shape == (TIME, ROWS, 3) and got[2].shape == (TIME, ROWS)
    assert got[1].dtype == got[2].dtype == jnp.float32


@pytest.mark.parametrize("policy", RECURRENT)
def test_gradients_of_a_sequence_equal_those_of_its_steps(policy: str) -> None:
    module = make(policy)
    obs, reset = inputs(FLOATS)
    obs[2] = 0.0  # then MinGRU's candidates are 0, where its two formulas meet

    def gradient(run: Any) -> Any:
        def loss(params: Any, carry: Any) -> Array:
            carry, logits, value = run(module, params, carry, obs, reset)
            return (
                (logits**2).sum()
                + (value * jnp.arange(ROWS, dtype=jnp.float32)[None]).sum()
                + sum((x**2).sum() for x in jax.tree.leaves(carry))
            )

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(parameters(module, FLOATS), random_carry(module))

    got = gradient(outputs)
    assert_close(got, gradient(step_by_step), rtol=1e-4, atol=1e-5)
    for leaf in jax.tree.leaves(got):
        assert np.isfinite(leaf).all() and np.any(leaf)


@pytest.mark.parametrize("policy", RECURRENT)
def test_a_reset_forgets_exactly_what_came_before_it(policy: str) -> None:
    """A reset at step 3: step 3 is computed as a first step, and step 2 is not; shifted by one, results differ."""
    module = make(policy)
    obs, _ = inputs(FLOATS)
    params, carry = parameters(module, FLOATS), random_carry(module)

    def run(carry: Any, at: int | None, begin: int = 0) -> Any:
        reset = np.zeros((TIME, ROWS), bool)
        if at is not None:
            reset[at] = True
        return jax.device_get(outputs(module, params, carry, obs[begin:], reset[begin:]))

    end, logits, value = run(carry, 3)
    assert_close((end, logits[3:], value[3:]), run(no_carry(module), None, begin=3))
    assert_close(logits[:3], run(carry, None)[1][:3])
    for other in (2, 4):
        shifted = run(carry, other)[1]
        for step in (min(other, 3), 3):
            assert np.abs(shifted[step] - logits[step]).max() > 1e-4

    # with a reset at step 0 the given carry has no effect; without a reset it has
    assert_close(run(carry, 0), run(no_carry(module), None))
    assert np.abs(run(carry, None)[1][0] - run(carry, 0)[1][0]).max() > 1e-4


def sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def mingru_reference(h: np.ndarray, candidate: np.ndarray, gate: np.ndarray, reset: np.ndarray) -> np.ndarray:
    """The recurrence in float64, as published."""
    states = []
    for t in range(len(candidate)):
        h = np.where(reset[t][:, None], 0, h)
        g = np.where(candidate[t] >= 0, candidate[t] + 0.5, sigmoid(candidate[t]))
        h = (1 - sigmoid(gate[t])) * h + sigmoid(gate[t]) * g
        states.append(h)
    return np.stack(states)


@pytest.mark.parametrize("recurrence", [networks.mingru_parallel, networks.mingru_sequential])
@pytest.mark.parametrize("time, scale", [(1, 1.0), (64, 1.0), (65, 10.0)])
def test_both_scans_are_the_published_recurrence(recurrence: Any, time: int, scale: float) -> None:
    generator = np.random.default_rng(0)
    start = generator.random((3, 4))
    candidate, gate = generator.normal(size=(2, time, 3, 4)) * scale
    reset = generator.random((time, 3)) < 0.2
    got = jax.jit(recurrence)(*[np.float32(x) for x in (start, candidate, gate)], reset)
    np.testing.assert_allclose(got, mingru_reference(start, candidate, gate, reset), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("recurrence", [networks.mingru_parallel, networks.mingru_sequential])
@pytest.mark.parametrize("candidate", [-1e4, -90.0, 0.0, 1e4])
@pytest.mark.parametrize("gate", [-1e4, -90.0, 0.0, 90.0, 1e4])
def test_extreme_gates_and_candidates_give_no_nan(recurrence: Any, candidate: float, gate: float) -> None:
    shape = (9, 2, 1)
    reset = np.zeros(shape[:2], bool)
    reset[[0, 3, 4, 8], 0] = True

    full = [np.float32(x) for x in (np.zeros(shape[1:]), np.full(shape, candidate), np.full(shape, gate))]
    results = value_and_gradient(recurrence, *full, reset)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(results))


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(recurrence: Any, *arguments: Array) -> Any:
    return jax.value_and_grad(lambda *x: recurrence(*x).sum(), argnums=(0, 1, 2))(*arguments)


@pytest.mark.parametrize("policy", RECURRENT)
def test_extreme_observations_give_no_nan(policy: str) -> None:
    module = make(policy)
    obs, reset = inputs(FLOATS)
    params = parameters(module, FLOATS)

    def loss(params: Any, scale: Array) -> Array:
        _, logits, value = outputs(module, params, no_carry(module), obs * scale, reset)
        return jnp.tanh(logits).sum() + jnp.tanh(value).sum()

    value_and_gradient = jax.jit(jax.value_and_grad(loss))
    for scale in (0.0, 1e5):
        results = value_and_gradient(params, jnp.float32(scale))
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(results))


def test_mingru_is_the_published_stack() -> None:
    module = make("mingru", hidden=6, layers=3)
    obs, reset = inputs(FLOATS)
    params, carry = parameters(module, FLOATS), random_carry(module)
    core = params["core"]
    x = np.float64(obs) @ np.float64(core["encoder"]["kernel"])
    last = []
    for i in range(3):
        candidate, gate, highway = np.split(x @ np.float64(core[f"layer_{i}"]["kernel"]), 3, axis=-1)
        h = mingru_reference(np.float64(carry[:, i]), candidate, gate, np.asarray(reset))
        x = sigmoid(highway) * h + (1 - sigmoid(highway)) * x
        last.append(h[-1])
    end, _, value = outputs(module, params, carry, obs, reset)
    np.testing.assert_allclose(end, np.stack(last, 1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(value, (x @ np.float64(params["critic"]["kernel"]))[..., 0], rtol=1e-4, atol=1e-5)


def test_lstm_is_the_published_recurrence() -> None:
    module = make("lstm", activation="tanh")
    obs, reset = inputs(FLOATS)
    params, carry = parameters(module, FLOATS), random_carry(module)
    core = jax.tree.map(np.float64, params["core"])
    x = np.tanh(np.float64(obs) @ core["encoder"]["kernel"] + core["encoder"]["bias"])
    for layer in range(2):
        h, c = (np.float64(part[:, layer]) for part in carry)
        states = []
        for t in range(TIME):
            h, c = (np.where(np.asarray(reset[t])[:, None], 0, part) for part in (h, c))
            gates = x[t] @ core[f"layer_{layer}"]["kernel"] + core[f"bias_{layer}"]
            i, f, g, o = np.split(gates + h @ core[f"recurrent_{layer}"], 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            states.append(h)
        x = np.stack(states)
    (end_h, end_c), _, value = outputs(module, params, carry, obs, reset)
    np.testing.assert_allclose(end_h[:, 1], h, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(end_c[:, 1], c, rtol=1e-4, atol=1e-5)
    expected = x @ np.float64(params["critic"]["kernel"]) + np.float64(params["critic"]["bias"])
    np.testing.assert_allclose(value, expected[..., 0], rtol=1e-4, atol=1e-5)


def test_the_lstm_gradient_is_the_slope_of_its_outputs() -> None:
    draw = np.random.default_rng(0)
    start = (np.float32(draw.normal(size=(3, 4))), np.float32(draw.normal(size=(3, 4))))
    from_input, bias = np.float32(draw.normal(size=(5, 3, 16))), np.float32(draw.normal(size=16))
    from_memory = np.float32(draw.normal(size=(4, 16)))
    reset = np.zeros((5, 3), bool)
    reset[0, 0] = reset[2, 1] = reset[4, 1] = True  # and no reset in row 2

    def scan(start: Any, from_input: Array, bias: Array, from_memory: Array) -> Any:
        return networks.lstm_scan(start, from_input, bias, from_memory, reset)

    check_grads(scan, (start, from_input, bias, from_memory), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(
    "rows, inputs, outputs",
    [(512, 64, 9), (768, 64, 9), (512, 65, 64), (300, 64, 64), (512, 64, 8), (512, 4, 64), (512, 5, 64), (512, 4, 1)],
)
def test_every_way_to_a_weight_gradient_is_the_product(
    monkeypatch: pytest.MonkeyPatch, rows: int, inputs: int, outputs: int
) -> None:
    draw = np.random.default_rng(0)
    x, gradient = draw.normal(size=(rows, inputs)), draw.normal(size=(rows, outputs))
    for backend in ("cpu", "cuda"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        got = networks.kernel_gradient(jnp.float32(x), jnp.float32(gradient))
        np.testing.assert_allclose(got, x.T @ gradient, rtol=1e-4, atol=1e-3)


def count(module: Any, space: Space) -> int:
    obs, reset = inputs(space, time=1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), no_carry(module), obs, reset, None)
    return sum(x.size for x in jax.tree.leaves(shapes))


def test_parameter_counts() -> None:
    """From the formulas; all layers but MinGRU's have biases."""
    heads = 128 * 3 + 3 + 128
    size = {"hidden": 128, "space": FLOATS}
    assert count(make("mingru", layers=4, **size), FLOATS) == 6 * 128 + 4 * 3 * 128**2 + 128 * 4
    assert count(make("lstm", layers=1, **size), FLOATS) == 7 * 128 + 2 * 4 * 128**2 + 4 * 128 + heads + 1
    assert count(make("mlp", layers=2, **size), FLOATS) == 7 * 128 + 129 * 128 + heads + 1
    assert count(make("mlp", layers=2, separate_critic=True, **size), FLOATS) == 2 * (7 * 128 + 129 * 128) + heads + 1
    assert count(make("linear", **size), FLOATS) == 7 * 3 + 7
    assert count(make("linear", "embedding"), TILES) == 4 * 8 + (9 * 8 + 1) * 4
    convolutions = (9 * 4 + 1) * 16 + (9 * 16 + 1) * 32
    assert count(make("linear", "grid"), TILES) == convolutions + (2 * 2 * 32 + 1) * 8 + 9 * 4
    assert count(make("linear", "entity"), ENTITIES) == 2 * 6 + 7 * 8 + 9 * 8 + 9 * 4


def test_initial_weights_of_mingru_and_lstm() -> None:
    def drawn(module: ActorCritic) -> Any:
        obs, reset = inputs(FLOATS, time=1)
        variables = jax.jit(module.init)(jax.random.key(0), no_carry(module), obs, reset, None)
        assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
        return jax.device_get(variables["params"])

    mingru = drawn(make("mingru", hidden=64, dtype=jnp.bfloat16))
    bounds = {"encoder": (2 / 6) ** 0.5, "layer_0": 64**-0.5, "layer_1": 64**-0.5}
    for name, bound in [*bounds.items(), ("critic", 64**-0.5)]:
        kernel = (mingru if name == "critic" else mingru["core"])[name]["kernel"]
        assert 0.9 * bound < np.abs(kernel).max() <= bound
        np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.25)
    lstm = drawn(make("lstm", hidden=16))["core"]
    for kernel in (lstm["layer_0"]["kernel"], lstm["recurrent_1"]):
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(16), atol=1e-5)
    assert not lstm["bias_0"].any()


def values(module: ActorCritic, params: Any, obs: np.ndarray) -> np.ndarray:
    """Of observations (rows, ...)."""
    return jax.device_get(outputs(module, params, (), obs[None], np.zeros((1, len(obs)), bool))[2])[0]


def test_the_entity_encoder_ignores_the_order_and_nothing_else() -> None:
    module = make("linear", "entity", hidden=32)
    params = parameters(module, ENTITIES)
    obs = sample(ENTITIES, (ROWS,))
    value = values(module, params, obs)
    for order in ([3, 2, 1, 0], [1, 0, 2, 3], [2, 3, 0, 1]):
        np.testing.assert_allclose(values(module, params, obs[:, order]), value, rtol=1e-5, atol=1e-6)
    obs[:, 2, 0] *= -1
    assert (np.abs(values(module, params, obs) - value) > 1e-4).all()


@pytest.mark.parametrize("encoder", ["flat", "embedding", "grid"])
@pytest.mark.parametrize("shape", [(3, 3), (4,)])
def test_tile_encoders_tell_every_tile_apart(encoder: str, shape: tuple[int, ...]) -> None:
    """At each place each of the four kinds gives another value."""
    space = Box(2, 5, shape, np.uint8)
    module = make("linear", encoder, space)
    params = parameters(module, space)
    cells = int(np.prod(shape))
    obs = np.full((cells, 4, cells), 2, np.uint8)
    for cell in range(cells):
        obs[cell, :, cell] = [2, 3, 4, 5]
    value = values(module, params, obs.reshape(-1, *shape)).reshape(cells, 4)
    gaps = np.diff(np.sort(value, axis=1), axis=1)
    assert gaps.min() > 1e-5


@pytest.mark.parametrize("size, stride, height, width", [(8, 4, 36, 41), (4, 2, 20, 9), (3, 2, 5, 8), (3, 1, 6, 3)])
def test_a_convolution_s_gradient_is_xla_s(size: int, stride: int, height: int, width: int) -> None:
    generator = np.random.default_rng(0)
    x, kernel = (np.float32(generator.normal(size=s)) for s in ((3, height, width, 2), (size, size, 2, 5)))
    weight = np.float32(generator.normal(size=(3, -(-height // stride), -(-width // stride), 5)))
    ours, theirs = (
        jax.jit(jax.grad(lambda x, kernel, f=f: (weight * f(x, kernel, stride)).sum(), (0, 1)))(x, kernel)
        for f in (networks.convolve, networks.convolve.fun)
    )
    for got, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_a_grid_of_float_planes_is_seen_as_it_is() -> None:
    space = Box(-1.0, 1.0, (3, 4, 2))
    module = make("linear", "grid", space)
    params = parameters(module, space)
    obs = np.concatenate([np.zeros((1, 24)), np.eye(24) / 2]).reshape(25, 3, 4, 2)
    value = np.sort(values(module, params, np.float32(obs)))
    assert np.diff(value).min() > 1e-6


def test_a_flat_grid_is_the_square_one() -> None:
    square, flat = Box(0, 3, (5, 5), np.uint8), Box(0, 3, (25,), np.dtype(np.uint8))
    obs = sample(square, (ROWS,))
    params = parameters(make("mlp", "grid", square), square)
    expected = values(make("mlp", "grid", square), params, obs)
    got = values(make("mlp", "grid", flat), params, obs.reshape(ROWS, 25))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "encoder, space",
    [
        ("embedding", FLOATS),
        ("embedding", Discrete(4)),
        ("embedding", MultiDiscrete((2, 3))),
        ("grid", Box(-1.0, 1.0, (3, 3))),
        ("grid", Box(0, 3, (8,), np.uint8)),
        ("grid", Box(0, 3, (2, 2, 2, 2), np.uint8)),
        ("image", Box(0, 255, (16, 16), np.uint8)),
        ("image", Box(0, 255, (4, 16, 3), np.uint8)),
        ("image", Discrete(4)),
        ("entity", TILES),
        ("entity", FLOATS),
        ("entity", Discrete(4)),
    ],
)
def test_an_encoder_refuses_what_it_cannot_see(encoder: str, space: Space) -> None:
    with pytest.raises(
        TypeError, match=f"encoder {encoder} needs a Box of .*observation space is {type(space).__name__}"
    ):
        make("mlp", encoder, space)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"policy": "gru"}, "policy is 'gru'; it must be one of linear, mlp, mingru, lstm"),
        ({"encoder": "pixels"}, "encoder is 'pixels'; it must be one of flat, embedding, grid, entity"),
        ({"activation": "swish"}, "activation is 'swish'; it must be one of gelu, relu, tanh"),
        ({"dtype": jnp.float16}, "dtype is 'float16'; it must be one of float32, bfloat16"),
        ({"scan": "fast"}, "scan is 'fast'; it must be one of sequential, parallel"),
        ({"policy": "mingru", "separate_critic": True}, "separate_critic is for .* linear and mlp, not for mingru"),
        ({"policy": "lstm", "separate_critic": True}, "separate_critic is for .* linear and mlp, not for lstm"),
        ({"policy": "lstm", "layers": 0}, "layers is 0; the policy lstm needs at least 1"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActorCritic(FLOATS, Discrete(3), **fields)


def test_a_separate_critic_shares_nothing_with_the_actor() -> None:
    module = make("mlp", "grid", separate_critic=True)
    obs, reset = inputs(TILES)

    def value(params: Any) -> Array:
        return outputs(module, params, (), obs, reset)[2].sum()

    gradient = jax.jit(jax.grad(value))(parameters(module, TILES))
    moved = {name for name, part in gradient.items() if any(np.any(x) for x in jax.tree.leaves(part))}
    assert moved == {"critic", "critic_encoder", "Dense_2", "Dense_3"}
    assert set(gradient) == moved | {"actor", "encoder", "Dense_0", "Dense_1"}


@pytest.mark.parametrize(
    "policy, encoder",
    [*[("linear", encoder) for encoder in ENCODERS], *[(policy, "embedding") for policy in POLICIES[1:]]],
)
def test_every_encoder_and_every_policy_in_both_dtypes(policy: str, encoder: str) -> None:
    """In bfloat16 it returns float32, close to its result in float32."""
    space = SEEN_BY[encoder]
    exact, rough = make(policy, encoder, hidden=32), make(policy, encoder, hidden=32, dtype=jnp.bfloat16)
    obs, reset = inputs(space)
    params = parameters(rough, space)
    carry = random_carry(rough)
    got = jax.device_get(outputs(rough, params, carry, obs, reset))
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(got))
    assert got[1].shape == (TIME, ROWS, 3) and got[2].shape == (TIME, ROWS) and got[2].std() > 0
    expected = jax.device_get(outputs(exact, params, carry, obs, reset))
    assert_close(got, expected, rtol=0.05, atol=0.05)
    assert (got[2] != expected[2]).any() or (policy, encoder) == ("linear", "flat")  # which has heads only


@pytest.mark.parametrize("policy, encoder", [("mlp", "grid"), ("mingru", "embedding"), ("lstm", "entity")])
def test_parameters_and_gradients_map(policy: str, encoder: str) -> None:
    space = SEEN_BY[encoder]
    module = make(policy, encoder, layers=1)
    obs, reset = inputs(space, time=3)
    carry = random_carry(module)

    def gradient(params: Any) -> Any:
        return jax.grad(lambda p: (outputs(module, p, carry, obs, reset)[2] ** 2).sum())(params)

    several = [parameters(module, space, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *several)
    got, one_by_one = jax.jit(jax.vmap(gradient))(stacked), jax.jit(gradient)
    for i, params in enumerate(several):
        assert_close(jax.tree.map(lambda x, i=i: np.asarray(x)[i], got), one_by_one(params), rtol=1e-3, atol=1e-4)


class Counter(nn.Module):
    """The smallest recurrent policy that follows the docstring: it remembers how many steps it has had."""

    def initialize_carry(self, rows: int) -> Array:
        return jnp.zeros(rows, jnp.float32)

    @nn.compact
    def __call__(self, carry: Array, obs: Array, reset: Array, mask: Array | None) -> Any:
        def step(seen: Array, reset: Array) -> tuple[Array, Array]:
            seen = jnp.where(reset, 0.0, seen) + 1.0
            return seen, seen

        carry, seen = jax.lax.scan(step, carry, reset)
        return carry, networks.actor_head(Discrete(3), seen[..., None], mask), seen


def test_a_module_that_follows_the_protocol() -> None:
    module = Counter()
    arguments = (parameters(module, FLOATS), module.initialize_carry(ROWS), *inputs(FLOATS))
    assert_close(outputs(module, *arguments), step_by_step(module, *arguments))


def test_masked_actions_have_no_probability() -> None:
    module = make("lstm")
    obs, reset = inputs(FLOATS)
    mask = np.ones((TIME, ROWS, 3), bool)
    mask[2, :, 1] = False
    variables = {"params": parameters(module, FLOATS)}
    _, distribution, _ = jax.jit(module.apply)(variables, no_carry(module), obs, reset, mask)
    probability = np.asarray(jax.nn.softmax(distribution.logits))
    assert (probability[~mask] == 0).all() and (probability[mask] > 0).all()


@pytest.mark.parametrize("low, high", [(-3e38, 3e38), (0, 1e-40), (1e8, 1e8 + 1)])
def test_bounds_of_actions_that_float32_does_not_tell_apart_are_refused(low: float, high: float) -> None:
    module = ActorCritic(FLOATS, Box(low, high, (1,)))
    with pytest.raises(ValueError, match="action space is Box.*bounds must be 1e-30 to 1e30 apart"):
        parameters(module, FLOATS)
