"""What a run leaves behind, and looking at it: tables, metrics, comparison and pictures."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas
import pytest
import scipy.stats
from toy_envs import Corridor, tiny_config

from jaxpuffer import fit, load, plots, save
from jaxpuffer.checkpoint import claim
from jaxpuffer.cli import main
from jaxpuffer.plots import curve, grouped, plot, student_quantile
from jaxpuffer.runs import compare, read_metrics, read_run, table

ROOT = Path(__file__).parent.parent


def run(directory, seed=0, log=None, **options):
    config = options.pop("config", tiny_config())
    return fit(Corridor(), jax.random.key(seed), config, directory=directory, log=log, progress=False, **options)


def interrupt(steps, means):
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three seeds, another learning rate, one run that was interrupted, and other folders."""
    runs = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        run(runs / f"seeds/{seed}", seed)
    run(runs / "fast", config=tiny_config(learning_rate=0.05))
    run(runs / "stopped", 7, interrupt)
    (runs / "foreign/inside").mkdir(parents=True)
    (runs / "foreign/notes.txt").write_text("not a run")
    for name, change in (
        ("not-json", lambda d: (d / "run.json").write_text("{")),
        ("no-checkpoint", lambda d: shutil.rmtree(d / "checkpoint-1")),
        ("of-others", lambda d: (d / "run.json").write_text('{"step": 3}')),
        ("a-list", lambda d: (d / "about.json").write_text("[]")),
        ("no-starts", lambda d: (d / "about.json").write_text(json.dumps(json.loads((d / "run.json").read_text())))),
    ):
        shutil.copytree(runs / "fast", runs / "damaged" / name)
        change(runs / "damaged" / name)
    return runs


def row_of(rows, name):
    (row,) = (row for row in rows if row["run"].endswith(name))
    return row


def test_about_says_how_a_run_was_started_and_how_it_ended(folder):
    about = json.loads((folder / "fast/about.json").read_text())
    (start,) = about["starts"]
    assert about["config"]["learning_rate"] == 0.05 and about["parameters"] == {"length": 6, "max_steps": 50}
    assert (about["class"], about["backend"], about["key"]) == ("toy_envs.Corridor", "jax", [0, 0])
    assert start["machine"]["host"] and start["machine"]["cpu"] and start["machine"]["devices"] == 1
    assert start["command"] == sys.orig_argv and start["versions"]["jax"] == jax.__version__
    assert start["ended"]["how"] == "finished" and start["started"] <= start["ended"]["at"]


def test_about_names_the_commit(tmp_path, monkeypatch):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    from jaxpuffer.journal import git_state

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() is None
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    (tmp_path / "not-tracked").write_text("1")
    assert git_state() == {
        "folder": str(tmp_path.resolve()),
        "commit": git("rev-parse", "HEAD").strip(),
        "dirty": False,
    }
    (tmp_path / "a").write_text("2")
    assert git_state()["dirty"] is True


def test_metrics(folder):
    lines = (folder / "fast/metrics.jsonl").read_text().splitlines()
    reports = [json.loads(line, parse_constant=pytest.fail) for line in lines]  # NaN is no JSON
    columns = read_metrics(folder / "fast")
    assert columns["agent_steps"].dtype == np.int64 and columns["agent_steps"][-1] == 1280
    assert all(column.shape == (len(lines),) for column in columns.values())
    for name in ("score", "seconds", "run_seconds", "train_seconds", "steps_per_second", "entropy"):
        np.testing.assert_array_equal(columns[name], np.array([line[name] for line in reports], np.float64))
    np.testing.assert_allclose(columns["train_seconds"], np.cumsum(columns["chunk_seconds"]))
    assert pandas.DataFrame(columns).shape == (len(lines), len(reports[0]))
    with pytest.raises(FileNotFoundError, match=r"there is no metrics\.jsonl in"):
        read_metrics(folder / "foreign")


def test_a_score_that_is_not_known_is_null(tmp_path):
    # the first episode ends after more steps than are reported
    env = Corridor(length=1000, max_steps=30)
    fit(env, jax.random.key(0), tiny_config(), directory=tmp_path, log=interrupt, progress=False)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["score"] is None and np.isnan(read_metrics(tmp_path)["score"][0])
    assert read_run(tmp_path)["score"] is None
    with pytest.raises(ValueError, match="has not reported score"):
        curve([tmp_path], "agent_steps", "score")


def test_metrics_can_be_read_wherever_writing_was_cut_off(folder, tmp_path):
    whole = (folder / "fast/metrics.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(0, len(whole), 37):
        (tmp_path / "metrics.jsonl").write_bytes(whole[:cut])
        assert len(read_metrics(tmp_path)["agent_steps"]) == sum(end <= cut for end in ends)


def test_reports_after_the_save_that_a_run_is_resumed_from_do_not_count(folder, tmp_path):
    shutil.copytree(folder / "stopped", tmp_path / "a")
    with open(tmp_path / "a/metrics.jsonl", "a") as file:  # as if it had been killed later
        file.write('{"agent_steps": 256, "score": 77.0, "run_seconds": 900.0, "train_seconds": 800.0}\n{"agent_st')
    first = read_metrics(tmp_path / "a")
    assert first["agent_steps"].tolist() == [128, 256]
    run(tmp_path / "a", 7, resume=True)
    columns = read_metrics(tmp_path / "a")
    assert (np.diff(columns["agent_steps"]) > 0).all() and columns["agent_steps"][-1] == 1280
    assert 77.0 not in columns["score"]
    # the time of both starts, without what was lost
    assert (np.diff(columns["run_seconds"]) > 0).all() and columns["run_seconds"][-1] < 900
    assert columns["run_seconds"][1] == columns["run_seconds"][0] + columns["seconds"][1]
    starts = json.loads((tmp_path / "a/about.json").read_text())["starts"]
    assert [start["ended"]["how"] for start in starts] == ["interrupted", "finished"]
    assert [start["agent_steps"] for start in starts] == [0, 128]
    # where the lines could not be removed, the later ones count
    with open(tmp_path / "a/metrics.jsonl", "a") as file:
        file.write('{"agent_steps": 128, "score": 3.0}\n')
    assert read_metrics(tmp_path / "a")["agent_steps"].tolist() == [128]


def test_states(folder, tmp_path):
    states = {row["run"].removeprefix(f"{folder}/"): row["state"] for row in table(folder)}
    assert states == {
        "seeds/0": "finished", "seeds/1": "finished", "seeds/2": "finished", "fast": "finished",
        "stopped": "interrupted", "foreign": "no run", "damaged/not-json": "damaged", "damaged/of-others": "damaged",
        "damaged/no-checkpoint": "damaged", "damaged/a-list": "damaged", "damaged/no-starts": "damaged",
    }  # fmt: skip
    problems = [row["problem"] for row in table(folder, filters=["state=damaged"])]
    assert all(problems) and not any("\n" in problem for problem in problems)

    stopped = tmp_path / "stopped"
    shutil.copytree(folder / "stopped", stopped)
    with claim(stopped):
        assert read_run(stopped)["state"] == "running"
    assert read_run(stopped)["state"] == "interrupted"
    # a kill leaves the name of the process, and no word of how it ended
    (stopped / "lock").write_text("process 1 on host\n")
    about = json.loads((stopped / "about.json").read_text())
    about["starts"][-1]["ended"] = None
    (stopped / "about.json").write_text(json.dumps(about))
    assert read_run(stopped)["state"] == "interrupted"
    (stopped / "run.json").unlink()
    assert read_run(stopped)["state"] == "not saved" and read_run(stopped)["config.hidden"] == 16

    def fail(steps, means):
        raise ConnectionError("no network")

    with pytest.raises(ConnectionError):
        run(tmp_path / "failed", log=fail)
    row = read_run(tmp_path / "failed")
    assert (row["state"], row["problem"], row["saved_steps"]) == ("failed", "no network", 128)


def test_a_run_that_save_wrote(folder, tmp_path):
    result = load(folder / "seeds/1", Corridor())
    save(result, tmp_path / "new")
    row = read_run(tmp_path / "new")
    assert (row["state"], row["steps"], row["env"], row["score"]) == ("finished", 1280, "Corridor", None)
    # not in the place of one whose reports and checkpoints are there
    shutil.copytree(folder / "fast", tmp_path / "old")
    with pytest.raises(FileExistsError, match="there is a run of fit in"):
        save(result, tmp_path / "old")
    assert read_run(tmp_path / "old") == read_run(folder / "fast") | {"run": str(tmp_path / "old")}


def test_table(folder):
    rows = table(folder)
    assert len({tuple(row) for row in rows}) == 1  # all have the same fields
    frame = pandas.DataFrame(rows)
    assert frame["steps"].max() == 1280 and len(frame) == 11
    fast = row_of(rows, "fast")
    columns = read_metrics(folder / "fast")
    assert fast["score"] == columns["score"][-1] and fast["seconds"] == columns["run_seconds"][-1]
    assert fast["steps_per_second"] == 1280 / columns["train_seconds"][-1]
    assert (fast["total_steps"], fast["saved_steps"], fast["seed"], fast["env.length"]) == (1280, 1280, 0, 6)
    assert row_of(rows, "stopped")["steps"] == 128
    assert [row["run"] for row in table(folder / "fast")] == [str(folder / "fast")]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        (["env=Corridor", "seed>=1", "state=finished"], ["1", "2"]),
        (["config.learning_rate=0.05", "state!=damaged"], ["fast"]),
        (["config.learning_rate<0.05", "seed!=0"], ["1", "2", "stopped"]),
        (["config.normalize_advantage=true", "steps < 1e3"], ["stopped"]),
        (["state=no run"], ["foreign"]),
        (["env.max_steps>50"], []),
    ],
)
def test_filters(folder, filters, names):
    assert sorted(Path(row["run"]).name for row in table(folder, filters=filters)) == names


def test_sorting(folder):
    ascending = [row["seed"] for row in table(folder, sort="seed") if row["seed"] is not None]
    assert ascending == sorted(ascending)
    descending = table(folder, sort="seed", descending=True)
    assert descending[0]["seed"] == 7 and descending[-1]["seed"] is None


def test_where_a_run_started_from_and_its_best_evaluation(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder / "seeds/1", copy)
    assert read_run(copy)["start_from"] is read_run(copy)["evaluated_score"] is None
    record, about = (json.loads((copy / name).read_text()) for name in ("run.json", "about.json"))
    record["checkpoints"][0]["evaluated_score"] = 4.5
    about["starts"][0]["start_from"] = "fast"
    (copy / "run.json").write_text(json.dumps(record))
    (copy / "about.json").write_text(json.dumps(about))
    row = read_run(copy)
    assert row["start_from"] == "fast" and row["evaluated_score"] == 4.5
    assert len(grouped([row, read_run(folder / "seeds/0")])) == 2  # not one curve with those that started anew


def test_compare(folder):
    runs = [folder / "seeds/0", folder / "seeds/1", folder / "fast"]
    fields = compare(runs)
    settings = list(fields)[: list(fields).index("state")]
    assert settings == ["seed", "config.learning_rate"]
    assert fields["seed"] == [0, 1, 0] and fields["config.learning_rate"][2] == pytest.approx(0.05)
    assert fields["state"] == ["finished"] * 3
    assert pandas.DataFrame(fields, index=runs).loc[folder / "fast", "steps"] == 1280


def test_curves_are_means_over_seeds(folder):
    seeds = [folder / f"seeds/{i}" for i in range(3)]
    groups = grouped([read_run(path) for path in [*seeds, folder / "fast"]])
    assert {name: len(rows) for name, rows in groups.items()} == {
        "Corridor, learning_rate=0.015": 3,
        "Corridor, learning_rate=0.05": 1,
    }
    columns = [read_metrics(path) for path in seeds]
    at, mean, low, high = curve(seeds, "agent_steps", "score")
    assert (at[0], at[-1]) == (128, 1280)
    last = [column["score"][-1] for column in columns]
    np.testing.assert_allclose([mean[-1], low[-1], high[-1]], [np.mean(last), min(last), max(last)])
    # five or more: an interval of the mean
    five = [*seeds, *seeds[:2]]
    at, mean, low, high = curve(five, "agent_steps", "score")
    last = [*last, *last[:2]]
    expected = scipy.stats.t.interval(0.95, 4, np.mean(last), scipy.stats.sem(last))
    np.testing.assert_allclose([low[-1], high[-1]], expected, rtol=2e-3)


def test_a_run_that_ends_early_ends_the_curve_with_a_warning(folder):
    with pytest.warns(RuntimeWarning, match=r"stopped ends at 128 of 1,280 agent-steps"):
        at, *_ = curve([folder / "seeds/0", folder / "stopped"], "agent_steps", "entropy")
    assert at[-1] == 128


def test_quantiles_of_students_t():
    for freedom in range(plots.FEWEST_FOR_INTERVAL - 1, 40):
        assert student_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=3e-3)


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_pictures(folder, tmp_path, suffix, begins):
    figure = plot([folder / "seeds/0", folder / "seeds/1", folder / "fast"], tmp_path / f"a{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(begins)
    left, right = figure.axes
    assert [len(axes.lines) for axes in (left, right)] == [2, 2] and len(left.collections) == 1
    assert right.get_xlabel() == "seconds of wall-clock"


def test_commands(folder, tmp_path, capsys):
    main(["runs", str(folder), "--filter", "seed>0", "--sort", "seed", "--descending"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "Corridor" in line]
    assert [Path(line[0]).name for line in lines] == ["stopped", "2", "1"]
    main(["runs", str(folder), "--json"])
    assert len(json.loads(capsys.readouterr().out)) == 11
    main(["compare", str(folder / "fast"), str(folder / "stopped")])
    shown = capsys.readouterr().out
    assert "config.learning_rate" in shown and "config.gamma" not in shown and "interrupted" in shown
    main(["plot", str(folder / "fast"), "--out", str(tmp_path / "a.svg")])
    assert (tmp_path / "a.svg").exists()
    main(["runs", str(tmp_path)])
    assert "there are no runs in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("runs /nowhere", "there is no folder /nowhere"),
        ("runs {} --filter envv=a", "filter names 'envv', which no run has; did you mean env?"),
        ("runs {} --filter score", "filter is 'score'; it must be FIELD=VALUE"),
        ("runs {} --filter seed>many", "seed is a number, and 'many' is none"),
        ("runs {} --sort sore", "sort names 'sore', which no run has; did you mean score?"),
        ("runs {} --foo", "unrecognized arguments: --foo (see jaxpuffer runs --help)"),
        ("compare {}/fast", "1 run given; comparing takes two or more"),
        ("compare {}/fast {}/damaged/not-json", "damaged/not-json is damaged: run.json is not JSON"),
        ("compare {}/fast {}/foreign", "foreign is no run"),
        ("plot {}/fast", "the following arguments are required: --out"),
        ("plot {}/fast --out a.gif", "out is a.gif; its suffix must be one of .png, .svg, .pdf"),
        ("plot {}/fast --out /nowhere/a.png", "there is no folder /nowhere"),
        ("plot {}/fast --out a.png --metric fun", "fast has not reported fun"),
        ("train cartpole --log nothing", "log is 'nothing'; it must be one or several of csv, tensorboard, wandb"),
    ],
)
def test_a_mistake_is_one_line(folder, command, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main([word.replace("{}", str(folder)) for word in command.split()])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1


def test_without_matplotlib(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plot needs Matplotlib: pip install 'jaxpuffer\[notebook\]'"):
        plot([folder / "fast"])
