"""fit gives the same result as train, and can be watched, stopped, killed and resumed."""

import itertools
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import jax
import numpy as np
import pytest
from toy_envs import Corridor, tiny_config

import jaxpuffer
from jaxpuffer import fit, load, saving, train
from jaxpuffer.evaluate import Evaluations, evaluation_key
from jaxpuffer.runs import read_run

ROOT = str(Path(__file__).parent.parent)
KEY = jax.random.key(5)
ENV = jaxpuffer.make("cartpole")


def assert_same(a, b):
    for (path, x), y in zip(jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


@pytest.fixture(scope="module")
def whole():
    return fit(ENV, KEY, tiny_config(), progress=False)


def stop_at(agent_steps):
    """A log that presses Ctrl-C."""

    def log(step, means):
        if step >= agent_steps:
            signal.raise_signal(signal.SIGINT)

    return log


def test_the_same_as_train_to_the_last_bit(whole):
    result = train(ENV, KEY, tiny_config())
    assert_same(whole.state, result.state)
    assert_same(whole.policy, result.policy)
    assert set(whole.metrics) == set(result.metrics)
    for name, values in result.metrics.items():
        np.testing.assert_array_equal(whole.metrics[name], values, err_msg=name)
    assert whole.metrics["agent_steps"].dtype == np.int64


def test_log_gets_every_step_once():
    seen = []
    fit(ENV, KEY, tiny_config(), log=lambda step, means: seen.append((step, means)), progress=False)
    steps = [step for step, _ in seen]
    assert steps == sorted(set(steps)) and steps[-1] == 1280
    assert all(type(step) is int for step in steps)
    for step, means in seen:
        assert means["agent_steps"] == step
        assert means["steps_per_second"] > 0 and means["seconds"] >= means["compile_seconds"] > 0
        assert np.isfinite(means["policy_loss"])


def test_score_is_the_last_known_where_no_episode_ended():
    # episodes of 30 steps, updates of 8: in most updates no episode ends
    means = []
    config = tiny_config(total_steps=16 * 8 * 12)
    result = fit(Corridor(length=1000, max_steps=30), KEY, config, log=lambda _, m: means.append(m), progress=False)
    assert np.isnan(result.metrics["score"]).any()
    assert np.isfinite(means[-1]["score"])


def test_ctrl_c_saves_and_resuming_gives_the_uninterrupted_run(whole, tmp_path, capsys):
    handler = signal.getsignal(signal.SIGINT)
    part = fit(ENV, KEY, tiny_config(), directory=tmp_path, log=stop_at(1), progress=False)
    assert signal.getsignal(signal.SIGINT) is handler
    assert 0 < int(part.state.updates) < 10
    assert "interrupted after 128 steps, saved in" in capsys.readouterr().err
    assert_same(load(tmp_path).state, part.state)

    resumed = fit(ENV, KEY, directory=tmp_path, resume=True, progress=False)
    assert_same(resumed.state, whole.state)
    assert_same(resumed.metrics, whole.metrics)
    # a finished run resumes to itself
    assert_same(fit(ENV, KEY, directory=tmp_path, resume=True, progress=False).state, whole.state)


def one_update_in_a_chunk(monkeypatch):
    monkeypatch.setattr(sys.modules["jaxpuffer.fit"], "CHUNK_SECONDS", 0.0)  # `jaxpuffer.fit` is the function


class AtOnce:
    """An executor that does its work before it returns."""

    def __init__(self, *_):
        pass

    def submit(self, function, *args):
        done = Future()
        done.set_result(function(*args))
        return done


def test_saves_on_the_way(tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr(saving, "store", lambda arrays, record, *_: saves.append(record["updates"]))
    one_update_in_a_chunk(monkeypatch)
    fit(ENV, KEY, tiny_config(), directory=tmp_path, save_every_seconds=0, progress=False)
    assert len(saves) >= 3 and saves[-1] == 10


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path, monkeypatch):
    one_update_in_a_chunk(monkeypatch)
    monkeypatch.setattr(saving, "ThreadPoolExecutor", AtOnce)
    scores = itertools.chain([3.0, 9.0], itertools.repeat(5.0))

    def evaluated(aim, policy, updates, means, seconds):
        means |= {"evaluated_score": next(scores), "evaluated_score_error": 0.5}
        return False

    monkeypatch.setattr(Evaluations, "reached", evaluated)
    fit(ENV, KEY, tiny_config(), directory=tmp_path, save_every_seconds=0, keep=3, progress=False)
    entries = json.loads((tmp_path / "run.json").read_text())["checkpoints"]
    assert [entry["checkpoint"] for entry in entries] == sorted(
        (p.name for p in tmp_path.glob("checkpoint-*")), key=len
    )
    assert len(entries) == 4 and entries[0]["evaluated_score"] == 9.0 and entries[0]["updates"] == 2
    best, last = load(tmp_path, checkpoint="best"), load(tmp_path)
    assert int(best.state.updates) == len(best.metrics["score"]) == 2 and int(last.state.updates) == 10
    assert int(load(tmp_path, checkpoint=entries[1]["checkpoint"]).state.updates) == entries[1]["updates"]
    with pytest.raises(ValueError, match="checkpoint is 'checkpoint-99'; it must be None or one of checkpoint-"):
        load(tmp_path, checkpoint="checkpoint-99")
    # the best two updates, trained again
    again = fit(ENV, KEY, tiny_config(), progress=False, log=stop_at(2 * 128))
    assert_same(best.state.params, again.state.params)


def test_going_on_with_a_policy(whole, tmp_path):
    config = tiny_config(learning_rate=0.0, total_steps=256)
    other = ENV.replace(gravity=5.0)
    jaxpuffer.save(whole, tmp_path)
    name = json.loads((tmp_path / "run.json").read_text())["checkpoint"]
    for i, source in enumerate((whole, whole.policy, tmp_path, tmp_path / name)):
        out = tmp_path / f"from-{i}"
        result = fit(other, jax.random.key(6), config, directory=out, start_from=source, progress=False)
        assert read_run(out)["start_from"] == (str(source) if isinstance(source, Path) else None)
        assert_same(result.policy.params, whole.policy.params)
        assert int(result.state.updates) == 2
    moved = fit(ENV, jax.random.key(6), tiny_config(total_steps=256), start_from=whole, progress=False)
    assert any(
        (a != b).any() for a, b in zip(*map(jax.tree.leaves, (moved.policy.params, whole.policy.params)), strict=True)
    )
    with pytest.raises(ValueError, match=r"start_from has params.* of shape \(.*\), this run's is"):
        fit(ENV, KEY, tiny_config(hidden=5), start_from=whole, progress=False)
    with pytest.raises(TypeError, match="start_from is a int"):
        fit(ENV, KEY, tiny_config(), start_from=3, progress=False)


def test_stops_when_the_evaluated_score_is_reached(tmp_path):
    seen = []
    result = fit(ENV, KEY, tiny_config(), stop_at_score=1.0, log=lambda _, m: seen.append(m), progress=False)
    assert int(result.state.updates) == 1 and len(result.metrics["score"]) == 1
    assert seen[-1]["evaluated_score"] >= 1.0


def evaluations(seen):
    return {
        m["agent_steps"]: (m["evaluated_score"], m["evaluated_score_error"]) for m in seen if "evaluated_score" in m
    }


def test_evaluations_at_intervals_do_not_change_the_training(whole, tmp_path):
    seen, again = [], []
    options = {"evaluate_every": 300, "evaluate_episodes": 16, "progress": False}
    result = fit(ENV, KEY, tiny_config(), log=lambda _, m: seen.append(m), **options)
    assert_same(result.state, whole.state)
    assert_same(result.metrics, whole.metrics)
    # after the first of the updates of 128 steps that reaches 300, 600, 900 and 1200, and after the last
    assert list(evaluations(seen)) == [384, 640, 1024, 1280]
    score = jaxpuffer.evaluate(ENV, result, evaluation_key(KEY, 10), episodes=16).summary()["score"]
    assert evaluations(seen)[1280] == (score["mean"], score["standard_error"])

    # a run that is interrupted and continued has the same ones
    fit(ENV, KEY, tiny_config(), directory=tmp_path, log=stop_at(500), **options)
    fit(ENV, KEY, directory=tmp_path, resume=True, log=lambda _, m: again.append(m), **options)
    assert evaluations(again) == {
        steps: x for steps, x in evaluations(seen).items() if steps > again[0]["agent_steps"] - 128
    }


def test_with_intervals_a_run_stops_only_there():
    result = fit(ENV, KEY, tiny_config(), stop_at_score=1.0, evaluate_every=300, evaluate_episodes=16, progress=False)
    assert int(result.state.updates) == 3


def test_progress_in_plain_lines(capsys):
    fit(ENV, KEY, tiny_config())
    err = capsys.readouterr().err
    assert "score" in err and "steps/s" in err and "\x1b" not in err
    assert err.startswith("compiling ...\n") and "1,280 of 1,280 steps" in err
    fit(ENV, KEY, tiny_config(), progress=False)
    assert capsys.readouterr() == ("", "")


def test_refuses_another_run(tmp_path):
    with pytest.raises(ValueError, match="needs the directory"):
        fit(ENV, KEY, tiny_config(), resume=True)
    fit(ENV, KEY, tiny_config(), directory=tmp_path, log=stop_at(1), progress=False)
    with pytest.raises(FileExistsError, match="there is a run in"):
        fit(ENV, KEY, tiny_config(), directory=tmp_path)
    for match, env, key, config in (
        ("config.gamma = 0.995, not 0.5", ENV, KEY, tiny_config(gamma=0.5)),
        ("environment.gravity = 9.8, not 5.0", ENV.replace(gravity=5.0), KEY, None),
        (r"key \[0, 5\], not \[0, 6\]", ENV, jax.random.key(6), None),
    ):
        with pytest.raises(ValueError, match=match):
            fit(env, key, config, directory=tmp_path, resume=True)


def test_the_same_as_train_with_fused_multiply_add():
    # the tests run in strict mode, where a program that is fused differently gives the same bits; people run it so
    program = """
import jax, numpy as np
from jaxpuffer import PPOConfig, fit, make, train
config = PPOConfig(total_steps=16384, num_envs=128, horizon=32, minibatch_size=1024)
args = make("cartpole"), jax.random.key(0), config
for a, b in zip(*(jax.tree.leaves(f(*args).state) for f in (train, fit)), strict=True):
    np.testing.assert_array_equal(a, b)
"""
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run([sys.executable, "-c", program], env=environment | {"PYTHONPATH": ROOT}, check=True)


@pytest.mark.parametrize("aim", [None, 1e9])
def test_evaluations_compile_before_training(aim, monkeypatch):
    happened = []
    module = sys.modules["jaxpuffer.evaluate"]  # `jaxpuffer.evaluate` is the function
    evaluate = module.evaluate

    def spy(*args, **kwargs):
        happened.append(kwargs.get("max_steps"))
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(module, "evaluate", spy)
    fit(ENV, KEY, tiny_config(), stop_at_score=aim, progress=False, log=lambda *_: happened.append("chunk"))
    # one step, before the first chunk is done; without a score to stop at nothing is evaluated
    assert happened[0] == ("chunk" if aim is None else 1)
    assert happened.count(1) == (aim is not None) and (aim is not None or set(happened) == {"chunk"})
