"""Ablations: their statistics, plans, runs, records, tables and figures."""

import itertools
import json

import numpy as np
import pytest
from toy_envs import Corridor, tiny_config

from jaxpuffer import PPOConfig, ablate_report, make
from jaxpuffer import ablate as ablate_module
from jaxpuffer.ablate import ablate, again, read_ablation
from jaxpuffer.ablate_report import escape_latex, latex, markdown, normalised_scores, scores_of, summary
from jaxpuffer.baselines import baseline_record
from jaxpuffer.cli import main
from jaxpuffer.memory import needed
from jaxpuffer.statistics import (
    bootstrap_interval,
    improvement_probability,
    interquartile_mean,
    performance_profile,
    thinned,
)

TINY = "num_envs=16 horizon=8 minibatch_size=64 hidden=16 optimizer=adam env.max_steps=30"
FIGURES = ("scores", "profiles", "improvement", "curves")


# statistics


def test_interquartile_means():
    assert interquartile_mean(np.array([0.0, 1, 2, 3, 4, 5, 6, 1000]), 0) == 3.5
    # 2 of 10 are left out at each end: the quarter, rounded down
    assert interquartile_mean(np.array([[-99.0, 0, 1, 2, 3], [4, 5, 6, 7, 99]])) == 3.5
    assert interquartile_mean(np.array([1.0, 2, 6]), 0) == 3
    np.testing.assert_array_equal(interquartile_mean(np.array([[1.0, 2], [3, np.nan]]), 0), [2, np.nan])


def test_profiles_and_probabilities_of_improvement():
    scores = np.array([[1.0, 4], [3, 4]])
    np.testing.assert_array_equal(performance_profile(scores, np.array([0.0, 1, 3.5, 4])), [1, 0.75, 0.5, 0])
    # in the first environment 1 and 3 against 0, 1, 2: 1.5 and 3 of 3; in the second, ties
    others = np.array([[0.0, 4], [1, 4], [2, 4]])
    assert improvement_probability(scores, others) == pytest.approx((4.5 / 6 + 0.5) / 2)
    assert improvement_probability(others, scores) == pytest.approx(1 - (4.5 / 6 + 0.5) / 2)


def test_intervals():
    # of one environment with the scores 0 and 1, a quarter of the resamples has the mean 0, and a quarter 1
    np.testing.assert_array_equal(bootstrap_interval(interquartile_mean, np.array([[0.0], [1.0]])), [0, 1])
    # a stratum never takes another one's scores: the sum of both environments is 10 always
    strata = np.array([[0.0, 10], [0, 10], [0, 10]])
    np.testing.assert_array_equal(bootstrap_interval(lambda s: s.sum(-1).mean(-1), strata), [10, 10])
    # the mean of many scores: plus and minus 1.96 standard errors
    scores = np.random.default_rng(0).normal(size=(400, 1))
    low, high = bootstrap_interval(lambda drawn: drawn.mean((-2, -1)), scores)
    error = scores.std() / 20
    np.testing.assert_allclose([low, high], scores.mean() + np.array([-1.96, 1.96]) * error, atol=0.2 * error)
    for bad in (np.ones((1, 3)), np.ones(3), np.array([[1.0], [np.nan]])):
        with pytest.raises(ValueError, match="an interval needs"):
            bootstrap_interval(interquartile_mean, bad)


def test_spans_of_curves():
    spans = thinned(np.array([[1.0, 3, np.nan, np.nan, 5, np.nan]]), 3)
    np.testing.assert_array_equal(spans, [[2, np.nan, 5]])


def test_statistics_are_those_of_rliable():
    metrics = pytest.importorskip("rliable.metrics")
    rng = np.random.default_rng(0)
    for seeds, envs in ((3, 1), (7, 3), (10, 2)):
        mine, theirs = rng.integers(0, 9, (seeds, envs)).astype(float), rng.normal(4, 3, (seeds + 2, envs))
        theirs[: seeds // 2] = mine[: seeds // 2]  # ties
        assert interquartile_mean(mine) == pytest.approx(metrics.aggregate_iqm(mine))
        expected = metrics.probability_of_improvement(mine, theirs)
        assert improvement_probability(mine, theirs) == pytest.approx(expected)


# plans


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cartpole --vary learning_rat=1,2", "no parameter 'learning_rat'; did you mean 'learning_rate'?"),
        ("cartpole --vary gravity=5,9", "PPOConfig has no parameter 'gravity'; that of the environment is env.gravity"),
        ("cartpole breakout --vary env.gravity=5,9", "env.gravity=5 on breakout: breakout has no parameter 'gravity'"),
        ("cartpole --vary gamma=0.9,2", "gamma=2 on cartpole: PPOConfig.gamma is 2; it must be from 0 to 1"),
        ("cartpole --vary optimizer=sgd,adam", "PPOConfig.optimizer is 'sgd'; it must be one of muon, adam"),
        ("cartpole --vary learning_rate=fast,1", "PPOConfig.learning_rate is 'fast'; it must be float"),
        ("cartpole --vary early_stop=1,0", "PPOConfig.early_stop is 1; it must be bool"),
        ("cartpole --vary hidden=1.5,3", "PPOConfig.hidden is 1.5; it must be int"),
        ("cartpole --vary env.gravity=x,1", "CartPole.gravity is 'x'; it must be float"),
        ("cartpole --vary num_agents=1,2", "num_agents, which follows from the environment"),
        ("cartpole --vary num_envs=128,100", "PPOConfig.minibatch_size is 1024; it must be a multiple of horizon"),
        ("cartpole --vary encoder=flat,grid", "encoder=grid on cartpole: the encoder grid needs"),
        ("cartpole --vary gamma=0.9,0.90", "gamma has the value 0.9 twice"),
        ("cartpole --vary gamma=0.9 --vary gamma=0.8,1", "--vary has gamma twice"),
        ("cartpole --vary gamma=0.9", "an ablation compares two or more"),
        ("cartpole --vary gamma=0.9,", "--vary has 'gamma=0.9,'; it must be FIELD=VALUE"),
        ("cartpole --vary gamma", "--vary has 'gamma'; it must be FIELD=VALUE"),
        ("cartpole --vary total_steps=9,99 --total-steps 9", "total_steps is 9, and an arm changes it as well"),
        ("cartpole --vary gamma=0.9,1 --total_steps 1.5", "'1.5' must be a whole number of at least 1"),
        ("cartpole --vary gamma=0.9,1 --seed 5", "unrecognized arguments: --seed 5"),
        ("cartpole --vary gamma=0.9,1 --seeds 0", "'0' must be a whole number of at least 1"),
        ("cartpole --vary gamma=0.9,1 --arms x.toml", "either --vary FIELD=VALUES or --arms FILE"),
        ("cartpole --arms nowhere.toml", "there is no file nowhere.toml"),
        ("cartpool --vary gamma=0.9,1", "there is no environment 'cartpool'; did you mean 'cartpole'?"),
        ("cartpole cartpole --vary gamma=0.9,1", "envs has cartpole twice"),
        ("--again nowhere", "there is no ablation in"),
        ("cartpole --again nowhere", "--again takes all settings from the record"),
    ],
)
def test_wrong_words_are_one_line(words, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["ablate", "--no_cache", *words.split()])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and message in said and said.count("\n") == 1, said
    assert not list(tmp_path.glob("**/record.json"))


def test_wrong_arguments():
    vary = {"gamma": [0.9, 1.0]}
    for wrong, message in (
        ({}, "give either vary"),
        ({"vary": vary, "arms": {}}, "give either vary"),
        ({"arms": {"one": {}}}, "there is 1 arm"),
        ({"arms": {"one": {}, "_two": {}}}, "an arm has the name '_two'"),
        ({"vary": vary, "seeds": [1, 1]}, "it must be one or more different numbers"),
        ({"vary": vary, "seeds": [-1]}, "a seed must be a whole number from 0"),
        ({"vary": vary, "episodes": 0}, "episodes is 0"),
        ({"vary": vary, "design": "half"}, "design is 'half'; it must be one of grid, one"),
        ({"vary": {"gamma": 0.9}}, "gamma varies over 0.9; it must be a list"),
        ({"vary": vary, "resume": True}, "resume is True, and there is no directory"),
        ({"vary": [1]}, r"vary is \[1\]; it must be a dict"),
        ({"vary": {3: [1, 2]}}, "vary is {3: .*; it must be a dict"),
        ({"arms": [1]}, r"arms is \[1\]; it must be a dict"),
        ({"arms": {"one": {}, "two": 3}}, "arms has 'two': 3; the changes must be a dict"),
        ({"vary": vary, "seeds": True}, "seeds is True; it must be an int"),
        ({"vary": vary, "seeds": 2.5}, "seeds is 2.5; it must be an int"),
        ({"vary": vary, "config": 3}, "config is 3; it must be a PPOConfig"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            ablate("cartpole", **wrong)


def faked(scores):
    """In place of training: the next scores of an iterable of lists, None for a seed that failed."""
    lists = iter(scores)

    def result(env, config, seeds, episodes):
        found = next(lists)
        assert len(found) == len(seeds)
        problems = [None if score is not None else "parameters are NaN" for score in found]
        spans = [0 if score is None else score for score in found]
        times = {"train_seconds": 1.0, "evaluate_seconds": 0.5}
        curves = {"curve_steps": [10.0, 20.0, 30.0], "curves": [[None, 0.5 * x, x] for x in spans]}
        return {"scores": found, "problems": problems, "agent_steps": 30, **times, **curves}

    return result


def test_designs(monkeypatch):
    vary = {"optimizer": ["muon", "adam"], "gamma": [0.9, 0.99, 0.999], "hidden": [16], "env.gravity": [5.0, 9.0]}
    monkeypatch.setattr(ablate_module, "_result", faked(itertools.repeat([1.0])))
    grid = ablate("cartpole", vary, seeds=1, progress=False)
    assert len(grid["arms"]) == 12 and next(iter(grid["arms"])) == "optimizer=muon, gamma=0.9, env.gravity=5.0"
    for run in grid["runs"]:
        said = dict(part.split("=") for part in run["arm"].split(", "))
        assert run["config"]["optimizer"] == said["optimizer"] and run["config"]["gamma"] == float(said["gamma"])
        assert run["config"]["hidden"] == 16 and run["parameters"]["gravity"] == float(said["env.gravity"])

    one = ablate("cartpole", vary, seeds=1, design="one", total_steps=4096, progress=False)
    assert list(one["arms"]) == ["base", "optimizer=adam", "gamma=0.99", "gamma=0.999", "env.gravity=9.0"]
    base = one["runs"][0]["config"]
    assert base["total_steps"] == 4096 and (base["optimizer"], base["gamma"], base["hidden"]) == ("muon", 0.9, 16)
    assert one["runs"][2]["config"] == base | {"gamma": 0.99}


def test_arms_of_a_file(monkeypatch, tmp_path, capsys):
    file = tmp_path / "arms.toml"
    file.write_text(
        "[arms.tuned]\n[arms.muon]\noptimizer = 'muon'\nmomentum = 0.95\n[arms.muon.env]\npole_mass = 0.2\n"
    )
    shared = tmp_path / "shared.toml"
    shared.write_text("hidden = 16\ntotal_steps = 5_000_000\n[env]\ngravity = 5\n")
    monkeypatch.setattr(ablate_module, "_result", faked([[1.0, 2.0], [3.0, 2.0]]))
    monkeypatch.setattr(ablate_report, "figures", lambda record: {})
    words = ["ablate", "cartpole", "--config", str(shared), "--arms", str(file), "--seeds", "2", "--no-cache"]
    words += ["--total-steps", "40960"]  # a flag is stronger than the file
    main([*words, "--out", str(tmp_path / "out")])
    tuned, muon = read_ablation(tmp_path / "out")["runs"]
    assert (tuned["config"]["optimizer"], tuned["config"]["hidden"]) == ("adam", 16)
    assert tuned["parameters"]["gravity"] == 5 and tuned["config"]["total_steps"] == 40960
    assert muon["parameters"] == tuned["parameters"] | {"pole_mass": 0.2}
    assert muon["config"] == tuned["config"] | {"optimizer": "muon", "momentum": 0.95}
    assert "| tuned | 1.5 [1, 2] | base | 0 of 2 |" in capsys.readouterr().out
    file.write_text("[arm.tuned]\n")
    with pytest.raises(SystemExit):
        main(["ablate", "cartpole", "--arms", str(file)])
    assert "it must have a table [arms.NAME]" in capsys.readouterr().err


def test_equal_settings_are_trained_once(monkeypatch, capsys):
    monkeypatch.setattr(ablate_module, "_result", faked([[1.0, 2.0]]))  # there is no second result
    record = ablate("cartpole", arms={"tuned": {}, "with Adam": {"optimizer": "adam"}}, seeds=2)
    assert record["runs"][1]["result"]["same_as"] == "tuned"
    assert "the settings are those of tuned" in capsys.readouterr().out
    assert "with Adam on cartpole has the settings of tuned" in markdown(record)
    assert record["summary"]["arms"]["with Adam"]["better"] == {"estimate": 0.5, "interval": [0.0, 1.0]}


# statistics of records


def test_normalised_scores_and_failed_seeds(monkeypatch, tmp_path):
    """Corridor has no agent that ships; a seed that failed counts with the lowest score."""
    results = faked([[100.0, 500.0, 300.0], [20.0, None, None], [3.0, 3.0, 5.0], [None, None, None]])
    monkeypatch.setattr(ablate_module, "_result", results)
    monkeypatch.setattr(ablate_module, "_untrained_score", lambda *args: 2.0)
    envs = {"cartpole": make("cartpole"), "my corridor": Corridor()}
    record = ablate(envs, {"gamma": [0.9, 0.8]}, seeds=3, directory=tmp_path, progress=False)
    baseline = baseline_record("cartpole")
    zero, one = baseline["untrained_score"]["mean"], baseline["score"]["mean"]
    scores, normalised = scores_of(record), normalised_scores(record)
    np.testing.assert_array_equal(scores["gamma=0.9"], [[100, 3], [500, 3], [300, 5]])
    # 20 is less than the untrained agent's 21.9 in cartpole; the one of the corridor has less than all
    np.testing.assert_array_equal(scores["gamma=0.8"], [[20, 2], [20, 2], [20, 2]])
    expected = [[(x - zero) / (one - zero), y] for x, y in ((100, 1 / 3), (500, 1 / 3), (300, 1))]
    np.testing.assert_allclose(normalised["gamma=0.9"], expected)

    found = summary(record)["arms"]
    assert found["gamma=0.9"]["environments"]["cartpole"]["estimate"] == 300
    assert [x["seed"] for x in found["gamma=0.8"]["environments"]["cartpole"]["failed"]] == [1, 2]
    assert found["gamma=0.8"]["better"]["estimate"] == 0
    table = markdown(record)
    assert table.startswith("| arm | cartpole | my corridor | normalised | P(better) | failed |")
    (row,) = [line for line in table.splitlines() if line.startswith("| gamma=0.8 ")]
    assert row.startswith("| gamma=0.8 | 20 [20, 20] | all failed |") and row.endswith("| 5 of 6 |")
    assert "Failed: seed 1 of gamma=0.8 on cartpole: parameters are NaN." in table
    assert f"normalised, cartpole: 0 and 1 are {zero:.4g} and {one:.4g}" in table
    assert (
        "my corridor: 0 and 1 are 2 and 5, the lowest and the highest score of all seeds and of an untrained" in table
    )
    assert json.loads((tmp_path / "record.json").read_text()) == record
    for name in FIGURES:
        assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="which is not registered"):
        again(tmp_path)


def test_equal_scores_and_one_seed(monkeypatch):
    monkeypatch.setattr(ablate_module, "_untrained_score", lambda *args: 7.0)
    for seeds, interval in ((1, None), (3, [7.0, 7.0])):
        monkeypatch.setattr(ablate_module, "_result", faked(itertools.repeat([7.0] * seeds)))
        record = ablate(Corridor(), {"gamma": [0.9, 0.8]}, seeds=seeds, progress=False)
        assert list(ablate_report.figures(record)) == list(FIGURES)
        base, other = record["summary"]["arms"].values()
        assert base["environments"]["Corridor"] == {"estimate": 7, "interval": interval, "failed": []}
        assert (base["better"], other["better"]["estimate"]) == (None, 0.5)
        assert base["normalised"]["estimate"] == 0
        assert f"| gamma=0.9 | 7{' [7, 7]' if interval else ''} | base |" in markdown(record)
        assert "gamma=0.8 scored and learned exactly as gamma=0.9 on Corridor." in markdown(record)


def test_failed_seeds_do_not_gain_where_all_others_are_equal(monkeypatch):
    monkeypatch.setattr(ablate_module, "_result", faked([[9.0] * 4, [9.0, 9.0, None, None]]))
    record = ablate(Corridor(), {"gamma": [0.9, 0.8]}, seeds=4, config=tiny_config(), episodes=8, progress=False)
    untrained = record["untrained"]["Corridor"]
    assert -1 <= untrained <= 5  # it was measured
    half = record["summary"]["arms"]["gamma=0.8"]
    assert half["environments"]["Corridor"]["estimate"] == pytest.approx((9 + untrained) / 2)
    assert half["better"]["estimate"] == 0.25  # two ties, two defeats


def test_names_in_latex_and_markdown(monkeypatch):
    assert escape_latex(r"a_b & 50% #1 {x} $y$ ~^\<>") == (
        r"a\_b \& 50\% \#1 \{x\} \$y\$ \textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}\textgreater{}"
    )
    monkeypatch.setattr(ablate_module, "_result", faked(itertools.repeat([1.0, 2.0])))
    arms = {"[base] | 100%": {}, "a_b & c": {"gamma": 0.9}}
    record = ablate("cartpole", arms=arms, seeds=2, progress=False)
    rows = latex(record).splitlines()
    assert rows[-8] == r"\begin{tabular}{lrrr}" and rows[-1] == r"\end{tabular}" and rows.count(r"\hline") == 3
    assert rows[-4].startswith(r"{[}base] \textbar{} 100\% & 1.5 {[}1, 2] & base & 0 of 2 \\")
    assert rows[-3].startswith(r"a\_b \& c & 1.5 {[}1, 2] & 0.5 ")
    assert all(row.startswith("% ") for row in rows[:-8])
    assert r"| [base] \| 100% | 1.5 [1, 2] | base | 0 of 2 |" in markdown(record)
    assert ablate_report.figures(record)["curves"].legends[0].get_texts()[1].get_text() == "a_b & c"


# runs


def test_an_ablation_is_interrupted_resumed_and_run_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(ablate_report, "figures", lambda record: {})  # the test above saves them
    traces, train = [], ablate_module.train
    monkeypatch.setattr(ablate_module, "train", lambda *args: traces.append(1) or train(*args))
    out = tmp_path / "out"
    words = ["ablate", "cartpole", "--vary", "learning_rate=0.01,1e-3,1e30", *TINY.split(), "--total-steps", "640"]
    words += ["--seeds", "2", "--episodes", "8", "--backend", "jax", "--no_cache", "--out", str(out)]

    # it is killed while it trains the second arm
    train_arm, trained = ablate_module._result, []

    def killed_at_second(env, config, seeds, episodes):
        if trained:
            raise KeyboardInterrupt
        trained.append(config)
        return train_arm(env, config, seeds, episodes)

    monkeypatch.setattr(ablate_module, "_result", killed_at_second)
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 130
    first = [run["result"] for run in read_ablation(out)["runs"]]
    assert first[0] is not None and first[1:] == [None, None]
    assert not (out / "table.md").exists()

    # it is not overwritten, and continued only with its own settings
    monkeypatch.setattr(ablate_module, "_result", train_arm)
    for other, message in (([], "there is an ablation in"), (["--resume", "--episodes", "9"], "has other episodes")):
        with pytest.raises(SystemExit):
            main([*words, *other])
        assert message in capsys.readouterr().err
    main([*words, "--resume"])
    said = capsys.readouterr().out
    assert "1 of 3: cartpole, learning_rate=0.01: done before" in said
    assert "3 of 3: cartpole, learning_rate=1e+30:" in said and "no score, 2 of 2 seeds failed" in said
    assert len(traces) == 1  # one program for all arms

    record = read_ablation(out)
    good, slow, bad = (run["result"] for run in record["runs"])
    assert good == first[0] and good["start"] == 0 and slow["start"] == 1
    assert all(1 <= score <= 30 for score in good["scores"] + slow["scores"]) and good["scores"] != slow["scores"]
    assert bad["scores"] == [None, None] and all(bad["problems"])
    assert good["agent_steps"] == 640 and good["curve_steps"] == [128.0, 256.0, 384.0, 512.0, 640.0]
    assert np.shape(good["curves"]) == (2, 5)
    config = PPOConfig(**record["runs"][1]["config"])
    assert (config.learning_rate, config.num_envs, config.total_steps) == (np.float32(1e-3), 16, 640)
    assert record["runs"][0]["parameters"]["max_steps"] == 30 and record["seeds"] == [0, 1]
    start = record["starts"][0]
    assert start["versions"]["jax"] and start["machine"]["cores"] and start["started"] and "command" in start
    assert (out / "table.md").read_text() in said and "| learning_rate=1e+30 | all failed | 0 [0, 0] | 2 of 2 |" in said

    # a damaged one is said to be
    damaged = json.loads((out / "record.json").read_text())
    del damaged["runs"][0]["result"]["scores"]
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/record.json").write_text(json.dumps(damaged))
    with pytest.raises(ValueError, match="record.json is damaged .*scores"):
        read_ablation(tmp_path / "damaged")

    # the record alone is enough to run it again
    main(["ablate", "--again", str(out), "--no_cache"])
    repeated = read_ablation(tmp_path / "out-again")
    for old, new in zip(record["runs"], repeated["runs"], strict=True):
        times = {"start": 0, "train_seconds": 0, "evaluate_seconds": 0}
        assert old | {"result": old["result"] | times} == new | {"result": new["result"] | times}
    assert len(traces) == 1


def test_seeds_that_do_not_fit_are_trained_one_after_the_other(monkeypatch):
    env, config = make("cartpole"), PPOConfig()
    monkeypatch.setattr(ablate_module, "total", lambda: 7 * needed(env, config))
    assert ablate_module._together(env, config, 2) == 2  # half of the memory is for 3
    assert ablate_module._together(env, config, 10) == 3
    monkeypatch.setattr(ablate_module, "total", lambda: float("inf"))
    assert ablate_module._together(env, config, 10) == 10
