"""Saved runs load completely, continue exactly, and survive being killed."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from toy_envs import Corridor, tiny_config

import jaxpuffer
from jaxpuffer import fit, load, save, train
from jaxpuffer.checkpoint import read_record
from jaxpuffer.config import complete
from jaxpuffer.distributions import Categorical
from jaxpuffer.ppo import init, update

KEY = jax.random.key(5)


def assert_same(a, b):
    for (path, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype, path
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope="module")
def result():
    return train(jaxpuffer.make("cartpole", force=9.5), KEY, tiny_config(learning_rate=0.1))


def test_a_run_comes_back_whole(result, tmp_path):
    save(result, tmp_path / "run", KEY)
    loaded = load(tmp_path / "run")
    assert_same(loaded, result)
    assert jax.tree.structure(loaded) == jax.tree.structure(result)

    record = read_record(tmp_path / "run")
    assert record["environment"] == "cartpole"
    assert record["backend"] == "jax"
    assert record["parameters"]["force"] == 9.5
    assert record["config"]["learning_rate"] == 0.1
    assert record["seed"] == 5
    assert record["agent_steps"] == 1280
    assert set(record["versions"]) >= {"python", "jax", "flax"}


def test_a_loaded_state_goes_on_exactly(result, tmp_path):
    save(result, tmp_path)
    loaded = load(tmp_path)
    assert_same(
        jax.jit(update)(loaded.env, loaded.state, loaded.config),
        jax.jit(update)(result.env, result.state, result.config),
    )


def test_runs_stacked_by_vmap(tmp_path):
    result = jax.vmap(train, in_axes=(None, 0, None))(Corridor(), jax.random.split(KEY, 3), tiny_config())
    save(result, tmp_path)
    loaded = load(tmp_path, env=Corridor())
    assert_same(loaded.state, result.state)
    assert_same(loaded.metrics, result.metrics)


def test_an_environment_in_no_registry(tmp_path):
    save(train(Corridor(length=4), KEY, tiny_config()), tmp_path)
    with pytest.raises(ValueError, match=r"Corridor, which is not registered; pass it as env="):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"env is envs_jax\.cartpole\.CartPole"):
        load(tmp_path, env=jaxpuffer.make("cartpole"))
    assert int(load(tmp_path, env=Corridor(length=4)).env.length) == 4


def test_a_save_that_is_killed_leaves_the_one_before(result, tmp_path, monkeypatch):
    save(result, tmp_path)
    config = complete(result.env, tiny_config(learning_rate=0.1))
    other = result.replace(state=init(result.env, KEY, config))

    def killed(*args):
        raise SystemExit

    monkeypatch.setattr("os.replace", killed)  # the last moment before the new save is valid
    with pytest.raises(SystemExit):
        save(other, tmp_path)
    monkeypatch.undo()
    assert_same(load(tmp_path).state, result.state)
    save(other, tmp_path)
    assert_same(load(tmp_path).state, other.state)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1


def test_clear_errors(result, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no saved run in"):
        load(tmp_path / "nothing")
    save(result, tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    record["config"]["hidden"] = 5
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"run\.json is not as it was saved.*record_checksum"):
        load(tmp_path)
    del record["record_checksum"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="does not fit .*CartPole with these parameters, or this version: state"):
        load(tmp_path)


@pytest.mark.needs_c
def test_a_policy_trained_in_c_plays_in_jax(tmp_path):
    fit(jaxpuffer.make("cartpole", backend="c"), KEY, tiny_config(), directory=tmp_path, progress=False)
    assert read_record(tmp_path)["backend"] == "c"
    assert load(tmp_path).state is not None
    moved = load(tmp_path, env=jaxpuffer.make("cartpole"))
    assert moved.state is None
    assert len(jaxpuffer.evaluate(moved.env, moved.policy, KEY, episodes=4).score) == 4
    with pytest.raises(ValueError, match="no state"):
        save(moved, tmp_path / "other")
    with pytest.raises(ValueError, match="backend='c'"):
        fit(jaxpuffer.make("cartpole"), KEY, tiny_config(), directory=tmp_path, resume=True)


class Small(nn.Module):
    """A user's own policy without memory."""

    def initialize_carry(self, rows):
        return ()

    @nn.compact
    def __call__(self, carry, obs, reset, mask):
        logits = nn.Dense(2)(obs)
        return carry, Categorical(logits), nn.Dense(1)(obs)[..., 0]


def test_an_own_module_comes_back_and_must_be_given(tmp_path):
    result = train(Corridor(), KEY, tiny_config(), Small())
    save(result, tmp_path)
    assert_same(load(tmp_path, env=Corridor(), module=Small()), result)
    with pytest.raises(ValueError, match="Small"):
        load(tmp_path, env=Corridor())


def test_a_normalizer_comes_back(tmp_path):
    result = train(Corridor(), KEY, tiny_config(normalize_observation=True))
    assert result.policy.normalizer.count > 0
    save(result, tmp_path)
    loaded = load(tmp_path, env=Corridor())
    assert_same(loaded, result)
    assert_same(
        jax.jit(update)(loaded.env, loaded.state, loaded.config),
        jax.jit(update)(result.env, result.state, result.config),
    )


def test_a_run_of_before_play_was_a_part_of_the_state_goes_on(tmp_path: Path) -> None:
    import orbax.checkpoint

    config = tiny_config(normalize_return=True)
    result = train(Corridor(), jax.random.key(0), config)
    save(result, tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    checkpoint = tmp_path / record["checkpoint"]
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        arrays = {
            name.replace("state.play.", "state."): np.asarray(x) for name, x in checkpointer.restore(checkpoint).items()
        }
        for name in ("state.pace", "state.returns.low", "state.returns.high", "state.normalizer.low"):
            arrays.pop(name, None)
        checkpointer.save(checkpoint, arrays, force=True)
    for name in ("record_checksum", "checkpoints"):
        del record[name]
    del record["config"]["max_kl"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    old = load(tmp_path, Corridor())
    assert old.state.pace == 1 and old.state.returns.low == -np.inf and old.config.max_kl == np.float32(1e9)
    np.testing.assert_array_equal(old.state.play.obs, result.state.play.obs)
    state, metrics = jax.jit(update)(Corridor(), old.state, old.config)
    assert np.isfinite(metrics["policy_loss"]) and int(state.updates) == int(result.state.updates) + 1
