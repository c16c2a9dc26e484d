"""Exported policies compute what the policy does: with NumPy alone as docs/export.md says, as StableHLO, as ONNX."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from test_docs import blocks
from toy_envs import Corridor, tiny_config

from jaxpuffer import export, make
from jaxpuffer.baselines import load_baseline
from jaxpuffer.env import Env
from jaxpuffer.export import FORMATS, PACKAGES
from jaxpuffer.host import HostEnv
from jaxpuffer.normalizer import Normalizer, Returns
from jaxpuffer.policy import Policy, make_module
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete, Space, mask_sizes

PAGE = Path(__file__).parent.parent / "docs" / "export.md"
KEY = jax.random.key(0)
ROWS = 6
FLOATS, TILES = Box(-np.inf, np.inf, (2, 3)), Box(-1, 3, (7,), np.int8)
NUMBERS = Box([-2.0, 0.0, -np.inf], [4.0, 1.0, np.inf])
MIXED = Mixed((NUMBERS, Discrete(4), Box(0.0, 2.0, (1,))))


def env_with(seen: Space, done: Space, masked: bool) -> Any:
    """An environment of which an export needs only the spaces."""
    members: dict[str, Any] = {"observation_space": seen, "action_space": done}
    return type("Spaces", (Env,), members | ({"action_mask": lambda self, state: None} if masked else {}))()


def some_policy(env: Any, **config: Any) -> Policy:
    """A policy whose numbers are all random, also those that begin at zero."""
    module, space = make_module(env, tiny_config(**config)), env.observation_space
    obs = jax.ShapeDtypeStruct((1, 1, *space.shape), space.dtype)
    reset = jax.ShapeDtypeStruct((1, 1), jnp.bool_)
    shapes = jax.eval_shape(module.init, KEY, module.initialize_carry(1), obs, reset, None)["params"]
    draw = np.random.default_rng(1)

    def drawn(shape: tuple[int, ...]) -> np.ndarray:
        return np.float32(draw.normal(0, 0.3, shape))

    params = jax.tree.map(lambda x: jnp.asarray(drawn(x.shape)), shapes)
    floats = jnp.issubdtype(space.dtype, jnp.floating)
    # one entry has not varied, and one so little that its observations are clipped
    variance = np.abs(drawn(space.shape))
    variance.flat[:2] = 0, 1e-6
    normalizer = Normalizer(jnp.float32(9), jnp.asarray(drawn(space.shape)), jnp.asarray(variance)) if floats else None
    returns = Returns(*map(jnp.float32, (9, 3.5, 4, -1, 1))) if floats else None
    return Policy(params, module, normalizer, returns)


def inputs_for(env: Any, policy: Policy, rows: int = ROWS) -> tuple[Any, Any, Any, Any]:
    """Memory, observations, reset flags and a mask, random."""
    draw, space = np.random.default_rng(2), env.observation_space
    carry = jax.tree.map(lambda x: jnp.float32(draw.normal(size=x.shape)), policy.module.initialize_carry(rows))
    if space.is_tiles:
        obs = draw.integers(*map(int, (space.bounds()[0].min(), space.bounds()[1].max() + 1)), (rows, *space.shape))
    else:
        obs = draw.normal(size=(rows, *space.shape))
    mask = None
    if type(env).action_mask is not Env.action_mask:
        mask = draw.random((rows, sum(mask_sizes(env.action_space)))) < 0.5
        mask[:, 0] = True
    return carry, jnp.asarray(obs, space.dtype), jnp.arange(rows) % 2 == 0, mask


def numpy_player() -> Any:
    """The functions of the page."""
    (block,) = [block for block in blocks(PAGE, "python") if "def forward" in block]
    names: dict[str, Any] = {}
    exec(compile(block, PAGE.name, "exec"), names)
    return names


CASES = [
    (FLOATS, Discrete(4), True, {"activation": "gelu", "separate_critic": True, "layers": 2}),
    (TILES, MultiDiscrete((3, 2)), True, {"activation": "relu"}),
    (FLOATS, NUMBERS, False, {"activation": "tanh", "layers": 2}),
    (FLOATS, Discrete(3), False, {"policy": "linear"}),
]


@pytest.mark.parametrize(("seen", "done", "masked", "config"), CASES)
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_numpy_computes_the_same(seen, done, masked, config, suffix, tmp_path) -> None:
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    env = env_with(seen, done, masked)
    policy = some_policy(env, **config)
    export(policy, tmp_path / f"policy{suffix}", env)
    player = numpy_player()
    about, weights = player["read"](tmp_path / f"policy{suffix}")

    carry, obs, reset, mask = inputs_for(env, policy)
    _, distribution, value = jax.jit(policy.__call__)(carry, obs, reset, mask)
    output, own_value = player["forward"](about, weights, np.asarray(obs))
    np.testing.assert_allclose(own_value, value, rtol=1e-5, atol=1e-5)
    if isinstance(done, Box):
        np.testing.assert_allclose(output, distribution.mean, rtol=1e-5, atol=1e-5)
    own = player["act"](about, weights, np.asarray(obs), mask)
    assert own.dtype == done.dtype
    np.testing.assert_allclose(own, distribution.mode(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("seen", "done", "masked", "config"), [CASES[1], CASES[2]])
def test_numpy_draws_from_the_same_distribution(seen, done, masked, config, tmp_path) -> None:
    env, rows = env_with(seen, done, masked), 4000
    policy = some_policy(env, **config)
    export(policy, tmp_path / "policy.bin", env)
    player = numpy_player()
    carry, obs, reset, mask = jax.tree.map(lambda x: jnp.repeat(x[:1], rows, 0), inputs_for(env, policy))
    _, distribution, _ = jax.jit(policy.__call__)(carry, obs, reset, mask)
    drawn = player["act"](*player["read"](tmp_path / "policy.bin"), np.asarray(obs), mask, np.random.default_rng(3))
    if isinstance(done, Box):
        std = np.exp(distribution.log_std)
        np.testing.assert_array_less(np.abs(drawn.mean(0) - distribution.mean[0]), 4 * std / rows**0.5)
        np.testing.assert_allclose(drawn.std(0), std, rtol=4 / (2 * rows) ** 0.5)
        return
    for part, column in zip(distribution.parts, drawn.T, strict=True):
        expected = np.asarray(jax.nn.softmax(part.logits[0]))
        share = np.bincount(column, minlength=len(expected)) / rows
        assert (np.abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / rows)).all()


def test_a_flat_file_has_no_gaps_and_says_what_it_holds(tmp_path) -> None:
    env = env_with(FLOATS, MIXED, True)
    policy = some_policy(env, policy="lstm")
    export(policy, tmp_path / "policy.bin", env)
    about = json.loads((tmp_path / "policy.json").read_text())
    sizes = [int(np.prod(tensor["shape"])) for tensor in about["tensors"]]
    assert [tensor["offset"] for tensor in about["tensors"]] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert (tmp_path / "policy.bin").stat().st_size == 4 * sum(sizes) == 4 * about["numbers"]
    assert (about["environment"], about["agents"], about["masked"], about["observation_limit"]) == (None, 1, True, 10.0)
    assert about["observation_space"] == {
        "kind": "Box", "shape": [2, 3], "dtype": "float32", "low": None, "high": None
    }  # fmt: skip
    assert [part["kind"] for part in about["action_space"]["parts"]] == ["Box", "Discrete", "Box"]
    assert about["action_space"]["parts"][0]["high"] == [4.0, 1.0, None]
    with pytest.raises(NotImplementedError, match="this plays MLPs"):
        numpy_player()["forward"](*numpy_player()["read"](tmp_path / "policy.bin"), np.zeros((1, 2, 3)))
    assert about["network"]["policy"] == "lstm" and about["network"]["hidden"] == 16


def test_an_environment_that_python_steps(tmp_path) -> None:
    env = HostEnv("walk", lambda num_envs: None, FLOATS, Discrete(3), masked=True)
    export(some_policy(env), tmp_path / "policy.bin", env)
    about = json.loads((tmp_path / "policy.json").read_text())
    assert about["masked"] and about["environment"] is None and about["parameters"]["name"] == "walk"


def check_program(env: Any, policy: Policy, rows: int, run: Any) -> None:
    """Compare `run(carry, obs, reset, mask)`, which gives (carry, action, value), with the policy."""
    inputs = inputs_for(env, policy, rows)
    carry, distribution, value = jax.jit(policy.__call__)(*inputs)
    numbers = [part for part in distribution.parts if hasattr(part, "mean")]
    wanted = {
        "logits": np.concatenate([part.logits for part in distribution.parts if hasattr(part, "logits")], -1),
        "mean": np.concatenate([part.mean for part in numbers], -1),
        "std": np.concatenate([np.exp(part.log_std) for part in numbers]),
    }
    got_carry, action, got_value = run(*inputs)
    assert set(action) == set(wanted)
    for got, want in [(action[name], wanted[name]) for name in wanted] + [(got_value, value)]:
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    for got, want in zip(jax.tree.leaves(got_carry), jax.tree.leaves(carry), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_stablehlo_computes_the_same_for_any_number_of_rows(tmp_path) -> None:
    pytest.importorskip("flatbuffers")
    env = env_with(FLOATS, MIXED, True)
    policy = some_policy(env, policy="lstm")
    export(policy, tmp_path / "policy.stablehlo", env)
    program = jax.export.deserialize(bytearray((tmp_path / "policy.stablehlo").read_bytes()))
    assert "cpu" in program.platforms and "cuda" in program.platforms
    for rows in (1, 5):
        check_program(env, policy, rows, program.call)


def test_onnx_computes_the_same(tmp_path) -> None:
    """In an environment with jax2onnx: python -m pytest tests/test_export.py -k onnx"""
    pytest.importorskip("jax2onnx")
    import onnxruntime

    env = env_with(FLOATS, MIXED, True)
    policy = some_policy(env, policy="lstm")
    export(policy, tmp_path / "policy.onnx", env)
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")

    def run(carry: Any, obs: Any, reset: Any, mask: Any) -> Any:
        names = [output.name for output in session.get_outputs()]
        given = {"carry_0": carry[0], "carry_1": carry[1], "obs": obs, "reset": reset, "mask": mask}
        found = dict(zip(names, session.run(names, {k: np.asarray(x) for k, x in given.items()}), strict=True))
        return (found.pop("next_carry_0"), found.pop("next_carry_1")), found, found.pop("value")

    for rows in (1, 5):
        check_program(env, policy, rows, run)
    half = some_policy(env_with(FLOATS, Discrete(2), False), precision="bfloat16")
    with pytest.raises(NotImplementedError, match="cannot become an ONNX program .*; use stablehlo"):
        export(half, tmp_path / "half.onnx", env_with(FLOATS, Discrete(2), False))


@pytest.mark.needs_c
def test_the_page_runs(tmp_path, monkeypatch, capsys) -> None:
    """Its blocks in order, as one program; the shipped agent still balances the pole."""
    pytest.importorskip("flatbuffers")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(PAGE, "python"):
        exec(compile(block, PAGE.name, "exec"), names)
    assert names["lengths"].mean() > 400
    np.testing.assert_allclose(
        names["action"]["logits"], names["forward"](*names["read"]("cartpole.bin"), np.zeros((3, 4)))[0], atol=1e-5
    )
    said = re.findall(r"\| `(\w+)` \| `\.", PAGE.read_text())
    assert sorted(said) == sorted(FORMATS)


def test_clear_errors(tmp_path, monkeypatch) -> None:
    env = make("cartpole")
    policy = load_baseline(env)
    broken = policy.replace(params=jax.tree.map(lambda x: x * jnp.nan, policy.params))
    stacked = policy.replace(params=jax.tree.map(lambda x: jnp.stack([x, x]), policy.params))
    file = tmp_path / "x.bin"
    for call, error, message in (
        (lambda: export(policy, file), TypeError, "env is None; a policy does not know its environment"),
        (lambda: export(3, file, env), TypeError, "policy is a int"),
        (lambda: export(policy, tmp_path / "x.pt", env), ValueError, "it must end in .safetensors, .bin, .stablehlo"),
        (lambda: export(policy, file, env, format="pt"), ValueError, "format is 'pt'; it must be one of safetensors"),
        (lambda: export(policy, tmp_path / "x.json", env, format="flat"), ValueError, "so it needs another"),
        (lambda: export(policy, tmp_path / "no" / "x.bin", env), FileNotFoundError, "there is no folder"),
        (lambda: export(policy, file, Corridor()), TypeError, "the policy was made for the observation_space"),
        (lambda: export(broken, file, env), ValueError, "parameters that are NaN or infinite"),
        (lambda: export(stacked, file, env), TypeError, "for one of several runs"),
    ):
        with pytest.raises(error, match=message):
            call()
    for name, module in PACKAGES.items():
        top = module.partition(".")[0]
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=f"pip install {top}"):
            export(policy, tmp_path / f"x{FORMATS[name]}", env)
    assert not list(tmp_path.iterdir())
