"""Sweeps: spaces, populations, lost trials, several workers, and the command."""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from toy_envs import Corridor, tiny_config

optuna = pytest.importorskip("optuna")

from jaxpuffer import PPOConfig, list_envs, make  # noqa: E402
from jaxpuffer.cli import main  # noqa: E402
from jaxpuffer.config import tuned_config  # noqa: E402
from jaxpuffer.env import param  # noqa: E402
from jaxpuffer.sweep import sweep  # noqa: E402
from jaxpuffer.sweep.cube import Cube  # noqa: E402
from jaxpuffer.sweep.search import _Rungs, new_settings, perturbed, work  # noqa: E402
from jaxpuffer.sweep.space import Space, default_space, read_space, space_as_toml  # noqa: E402
from jaxpuffer.sweep.study import Sweep, Worker, open_storage  # noqa: E402

ROOT = Path(__file__).parent.parent
TABLE = {
    "learning_rate": {"scale": "log", "min": 0.001, "max": 0.1},
    "gamma": {"scale": "logit", "min": 0.9, "max": 0.999},
    "total_steps": {"scale": "log", "min": 256, "max": 2560},
}


def quiet(*_):
    pass


def settings(**options):
    return new_settings(Corridor(), tiny_config(), TABLE, **{"episodes": 16, "sampler": "random"} | options)


class Biased(Corridor):
    bias: jax.Array = param(default=np.zeros(2, np.float32))


# spaces


def test_parameters_are_searched_on_their_scales():
    table = TABLE | {
        "num_envs": {"scale": "power_of_two", "min": 8, "max": 64},
        "layers": {"scale": "integer", "min": 1, "max": 3},
        "clip": {"scale": "linear", "min": 0.1, "max": 0.3},
        "policy": {"choices": ["mlp", "mingru"]},
        "env": {"length": {"scale": "integer", "min": 4, "max": 9}},
    }
    space = Space(table, Corridor())
    kinds = optuna.distributions
    assert space.distributions == {
        "learning_rate": kinds.FloatDistribution(0.001, 0.1, log=True),
        "1 - gamma": kinds.FloatDistribution(0.001, 0.1, log=True),
        "total_steps": kinds.FloatDistribution(256, 2560, log=True),
        "log2 num_envs": kinds.IntDistribution(3, 6),
        "layers": kinds.IntDistribution(1, 3),
        "clip": kinds.FloatDistribution(0.1, 0.3),
        "policy": kinds.CategoricalDistribution(("mlp", "mingru")),
        "env.length": kinds.IntDistribution(4, 9),
    }
    assert space.static_keys == ["log2 num_envs", "layers", "policy"]  # the length is traced, total_steps not compiled
    values = {"learning_rate": 0.01, "gamma": 0.99, "total_steps": 1000, "num_envs": 32, "layers": 2, "clip": 0.2}
    values |= {"policy": "mingru", "env.length": 7}
    params = space.params(values)
    assert params["1 - gamma"] == 0.01 and params["log2 num_envs"] == 5
    assert space.values(params) == values
    assert space.env_parameters(params) == {"length": 7}
    assert Space(read_back(space_as_toml(table)), Corridor()).distributions == space.distributions
    with pytest.raises(ValueError, match="num_envs is 48; the space has powers of two from 8 to 64"):
        space.params(values | {"num_envs": 48})
    nearest = space.params(values | {"num_envs": 48, "gamma": 0.5, "policy": "lstm"}, nearest=True)
    assert (nearest["log2 num_envs"], nearest["1 - gamma"], nearest["policy"]) == (6, 0.1, "mlp")


def read_back(text):
    import tomllib

    return tomllib.loads(text)


def test_a_minibatch_that_does_not_divide_the_batch_becomes_smaller():
    table = {name: {"scale": "power_of_two", "min": 4, "max": 1024} for name in ("horizon", "minibatch_size")}
    space, base = Space(table, Corridor()), tiny_config(minibatch_size=64)
    config = space.config(base, {"log2 horizon": 5, "log2 minibatch_size": 10}, num_agents=3)
    assert (config.batch_size, config.minibatch_size) == (16 * 3 * 32, 768)  # 24 of 48 rows
    assert space.config(base, {"log2 horizon": 5, "log2 minibatch_size": 2}, num_agents=1).minibatch_size == 32


@pytest.mark.parametrize(
    "table, message",
    [
        ({}, "names no field"),
        ({"learning_rat": {}}, "learning_rat is no field.*did you mean learning_rate"),
        ({"num_agents": {"scale": "integer", "min": 1, "max": 2}}, "num_agents is no field"),
        ({"env": {"lenght": {"choices": [3]}}}, "did you mean env.length"),
        ({"gamma": 0.9}, "gamma is 0.9; it must be a table"),
        ({"gamma": {"scale": "log", "min": 0.1}}, "it must have scale, min, max"),
        ({"gamma": {"scale": "cubic", "min": 0.1, "max": 0.2}}, "scale 'cubic'.*linear, integer"),
        ({"gamma": {"scale": "logit", "min": 0.1, "max": 1.0}}, "below 1"),
        ({"gamma": {"scale": "linear", "min": 0.1, "max": 1.5}}, "max 1.5; the field must be from 0 to 1"),
        ({"clip": {"scale": "linear", "min": 0, "max": 0.5}}, "must not be 0"),
        ({"clip": {"scale": "linear", "min": 0.5, "max": 0.5}}, "min must be below max"),
        ({"layers": {"scale": "linear", "min": 1, "max": 2}}, "whole number; its scale"),
        ({"layers": {"scale": "integer", "min": 1, "max": 2.5}}, "whole numbers"),
        ({"gamma": {"scale": "integer", "min": 0, "max": 1}}, "float; its scale"),
        ({"entropy_coefficient": {"scale": "log", "min": 0, "max": 1}}, "above 0"),
        ({"num_envs": {"scale": "power_of_two", "min": 8, "max": 100}}, "powers of two"),
        ({"gamma": {"scale": "log", "min": float("nan"), "max": 1}}, "must be a number"),
        ({"policy": {"scale": "log", "min": 1, "max": 2}}, "must have choices"),
        ({"policy": {"choices": ["mlp", "gru"]}}, "'gru'; it must be one of"),
        ({"policy": {"choices": []}}, "list of different values"),
        ({"layers": {"choices": [1, "two"]}}, "choice 'two'; it must be int"),
        ({"gamma": {"choices": [0.9, 1.5]}}, "choice 1.5; the field must be from 0 to 1"),
        ({"env": {"length": {"choices": [1, 3]}}}, "choice 1; the field must be at least 2"),
        ({"gamma": {"choices": [1, 1.0]}}, "list of different values"),
        ({"learning_rate": {"scale": "log", "min": 1e-60, "max": 1}}, "min 1e-60; fields are float32"),
        ({"learning_rate": {"scale": "log", "min": 0.1, "max": 1e300}}, "max 1e[+]300; fields are float32"),
        ({"total_steps": {"scale": "log", "min": 1, "max": 10**18}}, "max 1000000000000000000; the most is"),
        ({"env": {"length": {"choices": [3]}}, "env.length": {"choices": [4]}}, "env.length twice"),
        ({"env": {"bias": {"choices": [0.5]}}}, r"env.bias is an array of shape \(2,\); a space has single values"),
    ],
)
def test_wrong_spaces_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        Space(table, Biased())


def test_every_environment_has_a_default_space_around_its_configuration():
    for name in list_envs():
        env = make(name)
        config = tuned_config(env)
        space = Space(default_space(config), env)
        params = space.params(config.to_dict())  # inside
        assert space.config(config, params, env.num_agents) == config
        assert {"total_steps", "learning_rate", "num_envs"} <= set(space.parameters)
    odd = PPOConfig(gamma=1.0, entropy_coefficient=0.0, learning_rate=30.0)
    space = Space(default_space(odd), make("cartpole"))
    assert "gamma" not in space.parameters and space.parameters["learning_rate"].contains(30.0)
    uneven = PPOConfig(hidden=1001, num_envs=48, horizon=10, minibatch_size=60, total_steps=1001)
    space = Space(default_space(uneven), make("cartpole"))
    assert space.config(uneven, space.params(uneven.to_dict()), 1) == uneven


# trials


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of the corridor, and what it said."""
    folder, said = tmp_path_factory.mktemp("sweep") / "one", []
    options = {"episodes": 16, "sampler": "protein", "seed": 3}
    summary = sweep(Corridor(), folder, space=TABLE, config=tiny_config(), trials=5, say=said.append, **options)
    return folder, summary, said


def test_a_sweep_keeps_all_that_a_trial_needs_to_be_run_again(swept):
    folder, summary, said = swept
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{folder}/study.db")
    assert [t.state.name for t in study.trials] == ["COMPLETE"] * 5
    first = study.trials[0]
    assert first.params["learning_rate"] == tiny_config().to_dict()["learning_rate"]  # the base config comes first
    for trial in study.trials:
        about = trial.user_attrs
        config = PPOConfig(**about["config"])
        assert about["agent_steps"] == config.num_updates * config.batch_size and about["cost"] > 0
        assert float(config.learning_rate) == pytest.approx(trial.params["learning_rate"], rel=1e-6)
        assert float(config.gamma) == pytest.approx(1 - trial.params["1 - gamma"], rel=1e-6)
        steps, seconds, score = about["curve"][-1]
        assert (steps, score) == (about["agent_steps"], trial.value) and seconds == about["cost"]
        assert 0 <= trial.value <= 5 and about["score_error"] >= 0
        assert about["env"]["length"] == 6
    assert len({t.user_attrs["seed"] for t in study.trials}) == 5
    assert sum(line.startswith("trial ") for line in said) == 5 and "best so far" in said[0]
    assert len(summary.complete) == 5
    content = json.loads((folder / "sweep.json").read_text())
    assert content["env"].endswith("Corridor") and content["space"] == TABLE


def test_a_sweep_goes_on_under_its_own_settings(swept):
    folder = swept[0]
    with pytest.raises(FileExistsError, match="resume"):
        sweep(Corridor(), folder, space=TABLE, config=tiny_config(), trials=6)
    with pytest.raises(ValueError, match="of .*Corridor, not of cartpole"):
        sweep("cartpole", folder, resume=True)
    wanted = {"learning_rate": 0.002, "total_steps": 300}
    summary = sweep(Corridor(), folder, resume=True, trials=6, suggestions=[wanted], say=quiet)
    assert len(summary.complete) == 6
    last = Sweep.open(folder, env=Corridor()).study.trials[-1]
    assert last.params["learning_rate"] == 0.002 and last.user_attrs["agent_steps"] == 384
    sweep(Corridor(), folder, resume=True, trials=6, say=quiet)  # there are that many
    assert len(Sweep.open(folder, env=Corridor()).study.trials) == 6
    with pytest.raises(ValueError, match="clip is 0.3; it is not in the space, and 0.2 in every trial"):
        sweep(Corridor(), folder, resume=True, trials=6, suggestions=[{"clip": 0.3}])
    for wrong, message in (
        ({"learning_rate": 5}, "learning_rate is 5; the space has from 0.001 to 0.1"),
        ({"learning_rate": "a"}, "learning_rate is 'a'; the space has from"),
        ({"learning_rate": [0.1]}, "learning_rate is .0.1.; the space has from"),
        ({"total_steps": 300.5}, "total_steps is 300.5; the space has from"),
        ({}, "suggestion: names no field"),
    ):
        with pytest.raises(ValueError, match=message):
            sweep(Corridor(), folder, resume=True, trials=6, suggestions=[wrong])
    with pytest.raises(TypeError, match="suggestion is 3; it must be a dict by field"):
        sweep(Corridor(), folder, resume=True, trials=6, suggestions=[3])
    assert len(Sweep.open(folder, env=Corridor()).study.trials) == 6


def test_a_registered_environment_keeps_its_parameters_too(tmp_path):
    options = {"space": TABLE, "config": tiny_config(), "sampler": "random", "episodes": 4, "say": quiet}
    sweep(make("cartpole", max_steps=20), tmp_path / "s", trials=1, **options)
    with pytest.raises(ValueError, match="'max_steps': 20.*; env has .*'max_steps': 500"):
        sweep(make("cartpole"), tmp_path / "s", resume=True, trials=2)
    for env in ("cartpole", make("cartpole", max_steps=20)):  # a name says nothing of parameters
        summary = sweep(env, tmp_path / "s", resume=True, say=quiet)  # and the first start said one trial
        assert len(summary.trials) == 1 and summary.trials[0].env["max_steps"] == 20


def test_static_fields_alone_are_tried_once_each(tmp_path):
    table = {"hidden": {"choices": [8, 16, 32, 64]}}
    summary = sweep(
        Corridor(), tmp_path / "s", space=table, config=tiny_config(), trials=8, episodes=4, sampler="random", say=quiet
    )
    hidden = [t.settings["hidden"] for t in summary.trials]
    assert hidden[1] != hidden[2] or hidden[2] != hidden[3], hidden


def test_a_sweep_that_was_killed_before_it_had_a_file_goes_on(tmp_path):
    Sweep.create(tmp_path / "s", settings(), env=Corridor())
    (tmp_path / "s/sweep.json").unlink()
    assert len(Sweep.open(tmp_path / "s", env=Corridor()).study.trials) == 1
    assert (tmp_path / "s/sweep.json").exists()
    with pytest.raises(FileNotFoundError, match="there is no sweep in"):
        Sweep.open(tmp_path / "nothing", env=Corridor())


def test_a_sweep_that_was_killed_before_it_had_settings_begins_again(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxpuffer.sweep.study.BEGIN_SECONDS", 1)
    (tmp_path / "s").mkdir()
    storage = f"sqlite:///{tmp_path / 's/study.db'}"
    study = optuna.create_study(study_name="sweep", storage=storage, direction="maximize")
    study.enqueue_trial({"gamma": 0.5})
    with pytest.raises(ValueError, match="killed before it began; begin it again, without --resume"):
        Sweep.open(tmp_path / "s", env=Corridor())
    suggestion = {"learning_rate": 0.01}
    found = Sweep.create(tmp_path / "s", settings(), suggestions=[(suggestion, "suggestion: ")], env=Corridor())
    queued = [t.system_attrs["fixed_params"]["learning_rate"] for t in found.study.trials]
    assert queued == pytest.approx([float(tiny_config().learning_rate), 0.01])
    (tmp_path / "s/sweep.json").unlink()
    with pytest.raises(FileExistsError, match="go on with --resume, or choose another"):
        Sweep.create(tmp_path / "s", settings(), env=Corridor())


def test_a_study_of_somebody_else_is_not_replaced(tmp_path):
    storage = f"sqlite:///{tmp_path}/own.db"
    study = optuna.create_study(study_name="sweep", storage=storage, direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with pytest.raises(FileExistsError, match="the study 'sweep' in .* is not of a sweep; choose another storage"):
        Sweep.create(tmp_path / "s", settings(), storage, env=Corridor())
    assert len(optuna.load_study(study_name="sweep", storage=storage).trials) == 2


@pytest.mark.parametrize("content", ['{"storage": "', '{"storage": "x"}', '{"env": 3}'])
def test_a_damaged_file_is_named(tmp_path, content):
    Sweep.create(tmp_path / "s", settings(), env=Corridor())
    (tmp_path / "s/sweep.json").write_text(content)
    with pytest.raises(ValueError, match="sweep.json"):
        Sweep.open(tmp_path / "s", env=Corridor())


def test_a_trial_that_cannot_be_trained_has_failed_and_the_sweep_goes_on(tmp_path):
    table = {"separate_critic": {"choices": [True, False]}, "learning_rate": {"scale": "log", "min": 1e-3, "max": 1e30}}
    base = tiny_config(policy="mingru", total_steps=256)
    suggestions = [{"separate_critic": True}, {"separate_critic": False, "learning_rate": 1e30}]
    options = {"sampler": "random", "episodes": 4, "population": 1}
    summary = sweep(
        Corridor(), tmp_path / "s", space=table, config=base, trials=3, suggestions=suggestions, say=quiet, **options
    )
    trials = Sweep.open(tmp_path / "s", env=Corridor()).study.trials
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "FAIL"] and len(summary.complete) == 1
    assert "separate_critic=False" in trials[1].user_attrs["problem"]
    assert trials[2].params["learning_rate"] == 1e30 and "in update" in trials[2].user_attrs["problem"]


def test_members_that_are_compared_have_equal_steps(tmp_path):
    suggestions = [{"total_steps": 2560}, {"total_steps": 512}, {"total_steps": 2560.0, "learning_rate": 0.1}]
    options = {"population": 4, "halving": 2, "episodes": 16, "sampler": "random", "suggestions": suggestions}
    sweep(Corridor(), tmp_path / "h", space=TABLE, config=tiny_config(), trials=4, say=quiet, **options)
    trials = Sweep.open(tmp_path / "h", env=Corridor()).study.trials
    alone, pair = [trials[0], trials[2]], [trials[1], trials[3]]
    assert len({t.params["total_steps"] for t in alone + pair}) == 3
    assert all(t.state.name == "COMPLETE" for t in alone)
    assert sorted(t.state.name for t in pair) == ["COMPLETE", "PRUNED"]


def test_halving_drops_the_worst_and_exploits_take_over_the_best(tmp_path):
    options = {"population": 4, "halving": 2, "episodes": 16, "sampler": "random"}
    sweep(Corridor(), tmp_path / "h", space=TABLE, config=tiny_config(), trials=4, say=quiet, **options)
    trials = Sweep.open(tmp_path / "h", env=Corridor()).study.trials
    shares = sorted(t.user_attrs["agent_steps"] / t.user_attrs["config"]["total_steps"] for t in trials)
    assert len({t.params["total_steps"] for t in trials}) == 1
    assert shares[:2] == pytest.approx([0.3, 0.3]) and shares[2] == pytest.approx(0.5) and shares[3] == 1.0
    assert sorted(t.state.name for t in trials) == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    for trial in trials:  # the evaluated score, not the last one of training
        assert trial.value == trial.user_attrs["curve"][-1][2]

    options = {"population": 4, "exploits": 2, "episodes": 16, "sampler": "random"}
    sweep(Corridor(), tmp_path / "p", space=TABLE, config=tiny_config(), trials=4, say=quiet, **options)
    trials = Sweep.open(tmp_path / "p", env=Corridor()).study.trials
    taken = [entry for t in trials for entry in t.user_attrs.get("schedule", [])]
    assert len(taken) == 2 and all(t.state.name == "COMPLETE" for t in trials)
    for trial in trials:
        for entry in trial.user_attrs.get("schedule", []):
            source = trials[entry["from_trial"]]
            assert entry["params"] != source.params and entry["params"]["total_steps"] == source.params["total_steps"]
            assert trial.user_attrs["config"]["learning_rate"] == pytest.approx(
                trial.user_attrs["schedule"][-1]["params"]["learning_rate"], rel=1e-6
            )


def test_rungs_of_halving_grow_by_its_factor():
    group = [object()] * 9
    assert _Rungs(settings(population=9, halving=3), group).halvings == [1 / 9, 1 / 3]
    assert _Rungs(settings(population=8, halving=2), group[:8]).halvings == [1 / 8, 1 / 4, 1 / 2]
    assert _Rungs(settings(population=8, exploits=3), group).exploits == [0.25, 0.5, 0.75]


def test_perturbed_parameters_stay_in_their_range():
    import random

    kinds = optuna.distributions
    log, linear = kinds.FloatDistribution(0.1, 1.0, log=True), kinds.FloatDistribution(0, 1)
    found = {perturbed(0.5, log, random.Random(seed)) for seed in range(20)}
    assert found == {0.4, 0.625}
    assert {round(perturbed(0.95, linear, random.Random(seed)), 6) for seed in range(20)} == {0.85, 1.0}
    assert perturbed("a", kinds.CategoricalDistribution(["a", "b"]), random.Random(0)) == "a"


def test_the_time_that_is_up_ends_trials_with_their_score(tmp_path):
    options = {"episodes": 16, "sampler": "random"}
    config = tiny_config(total_steps=10**9)
    table = {"learning_rate": TABLE["learning_rate"]}
    began = time.time()
    summary = sweep(Corridor(), tmp_path / "s", space=table, config=config, minutes=0.02, say=quiet, **options)
    assert time.time() - began < 60 and not summary.complete
    trials = Sweep.open(tmp_path / "s", env=Corridor()).study.trials
    assert [t.state.name for t in trials] == ["PRUNED"] and trials[0].user_attrs["stopped"] == "the time is up"


# workers


def test_trials_of_a_dead_worker_run_again_once(tmp_path):
    found = Sweep.create(tmp_path / "s", settings(), env=Corridor())
    dead = f"{os.uname().nodename}:1:1"
    with Worker(found) as worker:
        [lost] = found.ask(1, dead, {}, [])
        unnamed = found.study.ask(found.space.distributions)  # killed while it was asked for
        [kept] = found.ask(1, worker.name, {}, [])
        assert found.requeue_lost(worker.is_alive) == 2
        assert found.requeue_lost(worker.is_alive) == 0  # once
        trials = found.study.trials
        assert [t.state.name for t in trials] == ["FAIL", "FAIL", "RUNNING", "WAITING", "WAITING"]
        assert trials[0].user_attrs["lost"] and trials[3].user_attrs["retry_of"] == lost.number
        assert found.left(10) == 9
        again = found.ask(2, worker.name, {}, [])
        assert [t.params for t in again] == [lost.params, unnamed.params] and kept.number == 2
    other = Worker(found)
    assert not other.is_alive(worker.name)
    assert found.requeue_lost(other.is_alive) == 3


def test_a_trial_whose_workers_always_die_is_given_up(tmp_path):
    found = Sweep.create(tmp_path / "s", settings(), env=Corridor())
    for _ in range(5):
        found.ask(1, f"{os.uname().nodename}:1:1", {}, [])
        found.requeue_lost(lambda name: False)
    trials = found.study.trials
    assert len(trials) == 5 and [t.user_attrs.get("lost", False) for t in trials] == [True] * 4 + [False]
    assert "killed 5 times" in trials[-1].user_attrs["problem"] and found.left(10) == 9


def test_a_worker_elsewhere_lives_while_its_heart_beats(tmp_path, monkeypatch):
    found = Sweep.create(tmp_path / "s", settings(), env=Corridor())
    found.study.set_user_attr("heartbeat elsewhere:7:1", time.time() - 100)
    found.study.set_user_attr("heartbeat elsewhere:8:1", time.time() - 10_000)
    worker = Worker(found)
    assert worker.is_alive("elsewhere:7:1") and not worker.is_alive("elsewhere:8:1")


def test_samplers_repeat_and_workers_do_not(tmp_path):
    for sampler in ("protein", "tpe", "random"):
        asked = []
        for run in range(2):
            Sweep.create(tmp_path / f"{sampler}{run}", settings(sampler=sampler), env=Corridor())
            # a worker for each trial, as two processes that take turns
            for _ in range(3):
                other = Sweep.open(tmp_path / f"{sampler}{run}", env=Corridor())
                [trial] = other.ask(1, "worker", {}, [])
                asked.append(trial.params)
        assert asked[:3] == asked[3:]
        assert len({tuple(params.values()) for params in asked[:3]}) == 3


def test_pinned_parameters_are_equal_in_a_row(tmp_path):
    table = TABLE | {"hidden": {"scale": "power_of_two", "min": 8, "max": 128}}
    for sampler in ("protein", "tpe"):
        own = new_settings(Corridor(), tiny_config(), table, sampler=sampler)
        found = Sweep.create(tmp_path / sampler, own, env=Corridor())
        found.ask(1, "worker", {}, [])
        trials = found.ask(3, "worker", {}, ["log2 hidden"])
        assert len({t.params["log2 hidden"] for t in trials}) == 1
        assert len({t.params["learning_rate"] for t in trials}) == 3


def test_a_journal_file_is_a_storage_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = Sweep.create(tmp_path / "s", settings(), storage="journal.log", env=Corridor())
    monkeypatch.chdir(tmp_path / "s")  # the file is where it was
    found = Sweep.open(tmp_path / "s", env=Corridor())
    assert work(found, 1, float("inf"), quiet) == 0
    # another machine that knows the storage alone
    joined = Sweep.open(tmp_path / "other", storage=str(tmp_path / "journal.log"), env=Corridor())
    assert joined.settings == found.settings and len(joined.study.trials) == 1
    with pytest.raises(FileNotFoundError, match="there is no file .*other.log"):
        Sweep.open(tmp_path / "third", storage=str(tmp_path / "other.log"), env=Corridor())
    assert not (tmp_path / "other.log").exists()
    with pytest.raises(ValueError, match="storage is 'journal.txt'; it must be a URL"):
        open_storage("journal.txt")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sampler": "grid"}, "sampler is 'grid'; it must be one of protein, tpe, random"),
        ({"population": 0}, "population is 0"),
        ({"episodes": 1}, "episodes is 1; it must be a whole number of at least 2"),
        ({"halving": 5}, "halving is 5; it must be 0, or from 2 to population, 4"),
        ({"exploits": 2, "population": 2}, "exploits is 2; population is 2"),
        ({"exploits": 2, "sampler": "tpe"}, "the sampler tpe would take scores"),
        ({"seed": -1}, "seed is -1"),
        ({"max_cost": 0}, "max_cost is 0"),
        ({"max_cost": 5.0, "sampler": "tpe"}, "the sampler tpe knows no costs"),
        ({"trials": 0}, "trials is 0; it must be a number above 0"),
        ({"trials": math.inf}, "trials is inf; it must be a number above 0"),
        ({"space": [1]}, r"space is \[1\]; it must be a dict by field"),
        ({"space": {3: {}}}, "space has the key 3"),
        ({"suggestions": None}, "suggestions is None; it must be a list of dicts"),
        ({"suggestions": [3]}, "suggestion is 3; it must be a dict"),
        ({"suggestions": [{"env": {"length": 3}, "env.length": 4}]}, "suggestion has env.length twice"),
        ({"storage": 3}, "storage is 3; it must be a URL"),
        ({"say": None}, "say is None; it must be a function"),
        ({"minutes": -1.0}, "minutes is -1.0"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(tmp_path, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sweep(Corridor(), tmp_path / "s", config=tiny_config(), **options)
    with pytest.raises(TypeError, match="there is no option 'sample'"):
        sweep(Corridor(), tmp_path / "s", config=tiny_config(), sample=1)
    assert not (tmp_path / "s").exists()


# the command


def test_the_command(tmp_path, capsys):
    (tmp_path / "space.toml").write_text(space_as_toml({"learning_rate": TABLE["learning_rate"]}) + "\n")
    flat = {name: value for name, value in tiny_config().to_dict().items() if name not in ("num_agents", "league")}
    base = "\n".join(f"{name} = {json.dumps(value)}" for name, value in flat.items())
    (tmp_path / "base.toml").write_text(f"{base}\n[env]\nmax_steps = 20\n")
    (tmp_path / "own.toml").write_text("[[trial]]\nlearning_rate = 0.05\n[[trial]]\nlearning_rate = 0.02\n")
    out = tmp_path / "sweep"
    files = [f"--{name}={tmp_path / file}.toml" for name, file in (("space", "space"), ("config", "base"))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "jaxpuffer", "sweep", "cartpole", f"--out={out}"]
    first = [*command, *files, f"--enqueue={tmp_path}/own.toml", "--trials=4", "--workers=2", "--episodes=8"]
    done = subprocess.run(first, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 trials with a score" in done.stdout and f"jaxpuffer sweep report {out}" in done.stdout
    trials = Sweep.open(out).study.trials
    assert [t.state.name for t in trials] == ["COMPLETE"] * 4
    assert [t.params["learning_rate"] for t in trials[1:3]] == [0.05, 0.02]
    assert all(t.user_attrs["env"]["max_steps"] == 20 for t in trials)
    assert len({t.user_attrs["worker"] for t in trials}) == 2

    for flags, message in [
        ((), "there is a sweep in"),
        (("--resume", "--sampler=tpe"), "--sampler cannot change"),
        (("--trials=0.5",), "'0.5' is not allowed"),
        (("--space", "nothing.toml"), "there is no file nothing.toml"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(["sweep", "cartpole", f"--out={out}", *flags])
        assert stopped.value.code == 2 and message in capsys.readouterr().err
    (tmp_path / "beside.toml").write_text("clip = 0.3\n[[trial]]\nlearning_rate = 0.05\n")
    with pytest.raises(SystemExit):
        main(["sweep", "cartpole", f"--out={out}", "--resume", f"--enqueue={tmp_path}/beside.toml"])
    assert "beside.toml: clip is beside the tables [[trial]]" in capsys.readouterr().err
    main(["sweep", "cartpole", f"--out={out}", "--resume", "--no-cache"])
    said = capsys.readouterr().out
    assert "up to 4 trials" in said and "4 trials with a score" in said
    main(["sweep", "snake", "--print_space"])
    printed = capsys.readouterr().out
    (tmp_path / "printed.toml").write_text(printed)
    space = read_space(tmp_path / "printed.toml", make("snake"))
    assert space.distributions == Space(default_space(tuned_config(make("snake"))), make("snake")).distributions
    main(["sweep", "report", str(out), "--no-figures"])
    assert "front" in capsys.readouterr().out.lower()


def test_of_two_sweeps_that_begin_at_once_one_is_refused(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    def begin(_):
        try:
            return Sweep.create(tmp_path / "s", settings(), env=Corridor())
        except FileExistsError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(begin, range(2)))
    assert sum(isinstance(one, Sweep) for one in found) == 1
    assert len(Sweep.open(tmp_path / "s", env=Corridor()).study.trials) == 1


def test_what_cannot_change_is_refused_when_a_sweep_goes_on(swept):
    folder = swept[0]
    for given in ({"config": tiny_config(hidden=8)}, {"space": TABLE}, {"seed": 1}, {"tirals": 7}):
        with pytest.raises(ValueError, match=f"{next(iter(given))} cannot change"):
            sweep(Corridor(), folder, resume=True, trials=1, **given)
    with pytest.raises(ValueError, match="env has {'length': 9"):
        sweep(Corridor(length=9), folder, resume=True, trials=1)
    with pytest.raises(ValueError, match="trials is 2.5; it must be a whole number"):
        sweep(Corridor(), folder, resume=True, trials=2.5)


class Standing:
    """A population whose members have done this share of ten updates, for the rules of halving and exploiting."""

    def __init__(self, done):
        self.done, self.taken = done, []

    def updates_until(self, slot, share):
        return max(0, math.ceil(10 * share) - self.done[slot])

    def agent_steps(self, slot):
        return 128 * self.done[slot]

    def exploit(self, slot, source, config):
        self.taken.append((slot, source, float(config.learning_rate)))


def test_the_worst_are_dropped_once_all_have_come_to_the_rung():
    scores = [3.0, float("nan"), 9.0, -2.0]
    group = [SimpleNamespace(slot=slot, score=score) for slot, score in enumerate(scores)]
    rungs = _Rungs(settings(halving=2), group)
    assert not rungs.dropped(group, Standing([3, 3, 3, 2]))
    assert [one.slot for one in rungs.dropped(group, Standing([3, 3, 3, 3]))] == [1, 3]  # no score is the worst
    assert not rungs.dropped(group, Standing([3, 3, 3, 3]))  # the next rung is at a half
    assert [one.slot for one in rungs.dropped(group[::2], Standing([5, 5, 5, 5]))] == [0]


def test_the_worst_takes_over_from_the_best(tmp_path):
    found = Sweep.create(tmp_path / "s", settings(exploits=1), env=Corridor())
    trials = found.ask(4, "worker", {}, ["total_steps"])
    config = found.space.config(found.settings.config(), trials[0].params, 1)
    group = [
        SimpleNamespace(slot=slot, score=score, trial=trial, config=config, env=Corridor(), schedule=[])
        for slot, (score, trial) in enumerate(zip([3.0, 1.0, 9.0, 2.0], trials, strict=True))
    ]
    standing = Standing([5, 5, 5, 5])
    _Rungs(found.settings, group).exploit(found, group, standing)
    [(slot, source, rate)] = standing.taken
    of_the_best = trials[2].params["learning_rate"]
    assert (slot, source) == (1, 2) and rate != pytest.approx(of_the_best, rel=1e-6)
    assert any(rate == pytest.approx(min(max(of_the_best * x, 0.001), 0.1), rel=1e-5) for x in (0.8, 1.25))
    assert group[1].score == 9.0 and group[1].schedule[0]["from_trial"] == trials[2].number


def test_nothing_is_dropped_or_taken_over_while_nothing_is_known(tmp_path):
    own = new_settings(Corridor(), tiny_config(), TABLE, population=4, halving=2, exploits=3)
    group = [SimpleNamespace(slot=i, score=math.nan, schedule=[]) for i in range(4)]
    standing = Standing(dict.fromkeys(range(4), 10))
    rungs = _Rungs(own, group)
    assert rungs.dropped(group, standing) == []
    rungs.exploit(Sweep.create(tmp_path / "s", own, env=Corridor()), group, standing)
    assert standing.taken == []
    group[2].score = -5.0  # the only one that is known is the best
    assert [one.slot for one in rungs.dropped(group, standing)] == [0, 1]


def test_the_line_of_a_trial_shows_what_was_trained(tmp_path):
    said, table = [], {"minibatch_size": {"scale": "power_of_two", "min": 2048, "max": 4096}}
    options = {"sampler": "random", "episodes": 4, "trials": 1, "say": said.append}
    summary = sweep(Corridor(), tmp_path / "s", space=table, config=tiny_config(), **options)
    used = summary.trials[0].config["minibatch_size"]  # of a smaller batch
    assert used < 2048 and said[0].endswith(f"minibatch_size={used}"), said


def finished(curve, **attributes):
    own = {"learning_rate": optuna.distributions.FloatDistribution(0.001, 0.1, log=True)}
    attributes |= {"curve": curve, "cost": curve[-1][1]}
    return optuna.trial.create_trial(
        value=curve[-1][2], params={"learning_rate": 0.01}, distributions=own, user_attrs=attributes
    )


def test_a_trial_is_compared_with_training_scores_of_others_not_with_evaluations(tmp_path):
    table = {"learning_rate": TABLE["learning_rate"]}
    own = new_settings(Corridor(), tiny_config(), table)
    found = Sweep.create(tmp_path / "s", own, env=Corridor())
    # scores of training grow with the cost, for each trial at its own rate; each ends in an evaluation of 5000
    for i in range(40):
        curve = [[cost, float(cost), float(cost * i)] for cost in (1, 2, 8)]
        end = [9, 9.0, 5000.0]
        found.study.add_trial(finished([*curve[:2], [8, 8.0, 5000.0]] if i % 2 else [*curve, end]))
    found.study.ask(found.space.distributions)  # the base, which waited
    trial = found.study.ask(found.space.distributions)
    for score, stops in ((120.0, False), (40.0, True)):  # the quantile 0.3 is 0.3 * 39 * 8, 94
        trial.set_user_attr("curve", [[8, 8.0, score]])
        trial.report(score, step=int(score))
        assert trial.should_prune() == stops, score


def test_a_score_of_settings_that_changed_is_no_score_of_the_first_ones(tmp_path):
    options = {"population": 4, "exploits": 2, "episodes": 16, "seed": 2}
    said = []
    summary = sweep(Corridor(), tmp_path / "p", space=TABLE, config=tiny_config(), trials=4, say=said.append, **options)
    found = Sweep.open(tmp_path / "p", env=Corridor())
    scheduled = [t for t in found.study.trials if "schedule" in t.user_attrs]
    assert scheduled
    for trial in scheduled:
        last = trial.user_attrs["schedule"][-1]["params"]
        shown = summary.trials[trial.number]
        assert shown.params == last and shown.was_scheduled
        line = next(line for line in said if line.startswith(f"trial {trial.number}:"))
        assert f"learning_rate={last['learning_rate']:.4g}" in line and "settings changed" in line
    sampler, cube = found.sampler(9), Cube(found.space.distributions)
    seen, failed = sampler.observe(found.study, found.study.trials, cube, cube.names.index("total_steps"))
    assert set(seen.trials) == {t.number for t in found.study.trials} - {t.number for t in scheduled}
    assert not len(failed)
