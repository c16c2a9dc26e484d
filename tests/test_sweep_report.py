"""The report of a sweep, on studies made here: front, files that `train` takes, figures, unfinished studies."""

import json
import math
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from toy_envs import Corridor

from jaxpuffer import PPOConfig, make

optuna = pytest.importorskip("optuna")
pytest.importorskip("sklearn")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from jaxpuffer.config_file import with_file  # noqa: E402
from jaxpuffer.sweep import figures  # noqa: E402
from jaxpuffer.sweep.figures import Axis, importances  # noqa: E402
from jaxpuffer.sweep.report import report, show_report  # noqa: E402
from jaxpuffer.sweep.results import read_sweep  # noqa: E402

FIGURES = ("front.png", "importance.png", "parallel.png", "curves.png")
SPACE = {
    "learning_rate": FloatDistribution(1e-3, 0.1, log=True),
    "total_steps": FloatDistribution(1e5, 1e7, log=True),
    "log2 num_envs": IntDistribution(4, 10),
    "1 - gamma": FloatDistribution(1e-3, 0.2, log=True),
    "clip": FloatDistribution(0.1, 0.9),
    "policy": CategoricalDistribution(["mlp", "mingru"]),
    "env.max_steps": IntDistribution(100, 500),
}


@pytest.fixture(autouse=True)
def short_and_quiet(monkeypatch):
    monkeypatch.setattr(figures, "MOST_TREES", 8)
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def new_sweep(folder, trials, journal=False, **about):
    """A sweep's folder with these trials in its study."""
    folder.mkdir(exist_ok=True)
    storage = str(folder / "study.log") if journal else f"sqlite:///{folder}/study.db"
    backend = optuna.storages.journal.JournalFileBackend
    opened = optuna.storages.JournalStorage(backend(storage)) if journal else storage
    optuna.create_study(study_name="sweep", storage=opened, direction="maximize").add_trials(trials)
    content = {"env": "cartpole", "backend": "jax", "storage": storage, "study_name": "sweep"} | about
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


def trial(score=1.0, cost=10.0, error=0.1, state=TrialState.COMPLETE, params=None, space=SPACE, **attributes):
    """A trial as a sweep leaves it; an attribute that is None is missing."""
    params = {"learning_rate": 0.01} if params is None else params
    config = PPOConfig(learning_rate=params.get("learning_rate", 0.01), hidden=16).to_dict()
    own = {"cost": cost, "score_error": error, "agent_steps": 5000, "config": config, "env": {}, "seed": 7}
    own["curve"] = [[1000 * i, (cost or 1) * i / 5, score * i / 5] for i in range(1, 6)]
    return create_trial(
        state=state,
        value=score if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        params=params,
        distributions={name: space[name] for name in params},
        user_attrs={name: value for name, value in (own | attributes).items() if value is not None},
    )


def drawn_trials(count):
    """Trials of a surface whose score rises with the steps, and which has one best learning rate."""
    rng, trials = np.random.default_rng(0), []
    for i in range(count):
        rate, steps, envs = 10 ** rng.uniform(-3, -1), 10 ** rng.uniform(5, 7), int(rng.integers(4, 11))
        params = {
            "learning_rate": rate, "total_steps": steps, "log2 num_envs": envs,
            "1 - gamma": 10 ** rng.uniform(-3, np.log10(0.2)), "clip": rng.uniform(0.1, 0.9),
            "policy": ["mlp", "mingru"][rng.integers(2)], "env.max_steps": int(rng.integers(100, 501)),
        }  # fmt: skip
        pruned = i % 5 == 4
        share = np.linspace(0.05, 0.4 if pruned else 1, 25)
        final = 500 * math.exp(-4 * (math.log10(rate) + 2) ** 2) * (1 - math.exp(-steps / 2e6)) + rng.normal(0, 4)
        cost = steps / 2e5 * (1 + 2.0 ** (7 - envs)) * (3 if params["policy"] == "mingru" else 1)
        curve = np.column_stack([np.round(steps * share), cost * share, final * (1 - np.exp(-4 * share))]).tolist()
        fields = {name: params[name] for name in ("learning_rate", "clip", "policy")}
        fields |= {"total_steps": round(steps), "num_envs": 2**envs, "gamma": 1 - params["1 - gamma"], "horizon": 16}
        state, config = TrialState.PRUNED if pruned else TrialState.COMPLETE, PPOConfig(**fields).to_dict()
        about = {"config": config, "env": {"max_steps": params["env.max_steps"]}, "curve": curve, "seed": i}
        trials.append(trial(curve[-1][2], curve[-1][1], 4.0, state, params, **about))
    return trials


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep in progress: trials of every kind, in a journal."""
    failed = trial(state=TrialState.FAIL, problem="the policy loss is nan in update 3")
    lost = trial(state=TrialState.FAIL, lost=True, problem="lost")
    others = [lost, failed, failed, trial(200.0, state=TrialState.RUNNING), trial(state=TrialState.WAITING)]
    return new_sweep(tmp_path_factory.mktemp("sweep") / "a", [*drawn_trials(30), *others], journal=True)


def test_the_text_of_a_sweep_in_progress(sweep, tmp_path, capsys):
    summary = report(sweep, tmp_path)
    text = capsys.readouterr().out
    head = "34 trials: 24 trained to the end, 6 stopped early, 2 failed, 1 running, 1 waiting; 1 lost"
    assert head in text and "failed 2 times: the policy loss is nan in update 3" in text
    front = [(t.cost, t.score) for t in summary.front]
    assert front == sorted(front) and len(front) > 3
    complete = [(t.cost, t.score) for t in summary.trials if t.state == "complete"]
    assert len(complete) == 24
    for cost, score in complete:  # on the front, or not better than a trial on it that costs no more
        assert (cost, score) in front or any(x <= cost and y >= score for x, y in front)
    best = max(summary.complete, key=lambda t: t.score)
    assert summary.front[-1] is best
    shown = {row.split()[0]: row.split()[1:] for row in text.splitlines() if row.split()}
    chosen = list(summary.configurations.values())
    rates = [t.settings["learning_rate"] for t in summary.front if t in chosen]
    assert shown["learning_rate"] == [f"{rate:.4g}" for rate in rates]
    assert shown["num_envs"] == [str(2 ** t.params["log2 num_envs"]) for t in summary.front if t in chosen]
    assert "partly luck" in text and "fresh seeds" in text and "--seed 1000 --backend jax" in text
    for name in FIGURES:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG") and f"wrote {tmp_path / name}" in text


def test_files_of_the_best_are_what_train_takes(sweep, tmp_path, capsys):
    mine, old = tmp_path / "best-of-mine.toml", tmp_path / "best-77s.toml"
    mine.write_text("gamma = 0.5")
    old.write_text("# from a sweep of cartpole: trial 5")
    show_report([str(sweep), "--out", str(tmp_path), "--no-figures", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert mine.exists() and not old.exists() and not (tmp_path / "front.png").exists()
    assert found["trials"]["complete"] == 24 and found["trials"]["lost"] == 1
    summary = read_sweep(sweep)
    budgets = [b for k in range(5) if (b := summary.front[-1].cost / 2**k) >= summary.front[0].cost]
    files = sorted(tmp_path.glob("best-*s.toml")) + sorted(tmp_path.glob("best-*m.toml"))
    assert sorted(found["files"]) == sorted(map(str, files)) and 2 <= len(files) <= 5
    env = make("cartpole")
    for number, file in {entry["number"]: entry["file"] for entry in found["front"] if entry["file"]}.items():
        trial = next(t for t in summary.front if t.number == number)
        assert any(
            trial is [t for t in summary.front if t.cost <= b][-1] for b in budgets if summary.front[0].cost <= b
        )
        with open(file, encoding="utf-8") as lines:
            text = lines.read()
        assert f"trial {number} of 34, seed {trial.seed}\n# score " in text and "± 4.00" in text
        assert tomllib.loads(text)["env"] == trial.env
        changed, config = with_file(tmp_path / file, env, PPOConfig(gamma=0.1, total_steps=1))
        assert config.to_dict() == trial.config and changed.max_steps == trial.params["env.max_steps"]
    for file in found["files"]:  # 40s, 4.2s, 2.5m
        size, unit = float(file.rpartition("-")[2][:-6]), {"s": 1, "m": 60}[file[-6]]
        cost = next(entry["cost"] for entry in found["front"] if entry["file"] == file)
        assert size * unit == pytest.approx(cost, rel=0.06)


def test_how_to_train_an_environment_of_ones_own_again(tmp_path, capsys):
    new_sweep(tmp_path, [trial(1.0), trial(2.0, env={"length": 9})], env="toy_envs.Corridor", backend="jax")
    report(tmp_path)
    said, (best,) = capsys.readouterr().out, (tmp_path / "report").glob("best-*.toml")
    assert "jaxpuffer train" not in said and "jaxpuffer train" not in best.read_text()
    lines = [line.strip().removeprefix("# ") for line in best.read_text().splitlines() if "with_file" in line]
    assert all(line in said for line in lines) and len(lines) == 2
    scope = {"env": Corridor(), "PPOConfig": PPOConfig, "Path": Path}
    exec("\n".join(lines), scope)
    assert scope["env"].length == 9 and scope["config"].hidden == 16


def test_a_start_that_was_changed_is_not_said_to_be_the_start(tmp_path, capsys):
    changed = trial(1.0, schedule=[{"agent_steps": 9, "from_trial": 1, "params": {"learning_rate": 0.03}}])
    report(new_sweep(tmp_path, [changed, trial(2.0), trial(3.0)]))
    assert read_sweep(tmp_path).first is None
    assert "the configuration that it began with" not in capsys.readouterr().out


def test_what_explains_the_score(sweep):
    trials = read_sweep(sweep).complete
    axes = [Axis.of(name, trials) for name in SPACE]
    found = importances(axes, [(t, math.log(t.params["learning_rate"])) for t in trials])
    assert set(found) == set(SPACE) and sum(found.values()) == pytest.approx(1) and found["learning_rate"] > 0.8
    assert importances(axes, [(t, 1.0) for t in trials]) == {}


def test_noise_is_said(tmp_path, capsys):
    trials = [trial(9.0, 1.0, 0.5), trial(10.0, 2.0, 0.5), trial(12.0, 3.0, 0.5), trial(12.5, 4.0, 0.5)]
    show_report([str(new_sweep(tmp_path / "a", trials)), "--no-figures"])
    text = capsys.readouterr().out
    rows = [row.split() for row in text.splitlines() if "±" in row and row.split()[0].isdigit()]
    # a difference of 1.0 is below two standard errors, 1.41
    assert [row[-2] if row[-1].endswith(".toml") else row[-1] for row in rows][1::2] == ["0", "2"]
    assert "1 other trial of 4 scored the same as the best within noise" in text


SOME = {"params": {"learning_rate": 0.02}}


@pytest.mark.parametrize(
    ("trials", "expected", "drawn"),
    [
        ([], ["cartpole: 0 trials\n", "no trial has a score yet"], ()),
        (
            [trial(state=TrialState.FAIL, curve=None, problem="out of memory")],
            ["1 failed", "failed 1 time: out of memory"],
            (),
        ),
        ([trial(state=TrialState.RUNNING, curve=None)], ["1 running", "no trial has a score yet"], ()),
        ([trial(state=TrialState.PRUNED)], ["no trial has trained to its end yet"], ("front", "curves")),
        ([trial()], ["best-10s.toml", "no importance.png: it takes 4 trials"], ("front", "curves")),
        (
            [trial(1.0, None), trial(2.0, None, **SOME)],
            ["no trial has a cost, so there is no front", "best.toml", "no front.png: no trial has a score and a cost"],
            ("parallel", "curves"),
        ),
        (
            [trial(1.0), trial(2.0, None, **SOME), trial(3.0, 20.0, None), trial(4.0, 30.0, math.nan)],
            ["1 trial without a cost cannot be in the front", "the best score has no standard error"],
            ("front", "importance", "parallel", "curves"),
        ),
        (
            [trial(), trial(**SOME), trial(), trial()],
            ["no importance.png: all scores"],
            ("front", "parallel", "curves"),
        ),
        ([trial(float(i), config=None, curve=None) for i in range(4)], ["configuration of trial 3 is not"], ("front",)),
    ],
    ids=["none", "failed", "running", "stopped", "one", "no costs", "a missing cost", "equal", "foreign"],
)
def test_unfinished_and_poor_studies(tmp_path, capsys, trials, expected, drawn):
    folder = new_sweep(tmp_path / "a", trials, journal=True)
    report(folder)
    text = capsys.readouterr().out
    assert all(words in text for words in expected), text
    assert sorted(path.stem for path in folder.glob("report/*.png")) == sorted(drawn)
    assert all(f"no {name}: " in text for name in FIGURES if name.removesuffix(".png") not in drawn)


def test_spaces_that_changed_and_parameters_that_not_all_have(tmp_path, capsys):
    wider = SPACE | {"clip": FloatDistribution(0.1, 2.0), "policy": CategoricalDistribution(["linear", "mlp"])}
    trials = [trial(float(i), params={"clip": 0.1 * i, "policy": "mlp"}) for i in range(1, 6)]
    trials += [trial(8.0, 20.0, params={"clip": 1.5, "policy": "linear", "learning_rate": 0.1}, space=wider)]
    folder = new_sweep(tmp_path / "a", trials, journal=True)
    summary = report(folder)
    assert len(list(folder.glob("report/*.png"))) == 4
    axis = Axis.of("clip", summary.complete)
    assert (axis.low, axis.high, axis.is_log) == (0.1, 1.5, False)
    gamma = Axis("1 - gamma", True, [], 0.001, 0.1)
    assert gamma.ticks() == {0: "0.9", 1: "0.999"}


def test_repeats_of_lost_trials(tmp_path):
    lost = trial(state=TrialState.FAIL, lost=True)
    trials = [lost, trial(state=TrialState.FAIL, lost=True, retry_of=0), trial(3.0), trial(2.0, retry_of=1)]
    summary = read_sweep(new_sweep(tmp_path / "a", trials, journal=True))
    assert summary.first is not None and summary.first.number == 3
    assert (summary.lost, len(summary.trials)) == (2, 2)


def test_a_folder_that_was_moved(tmp_path):
    folder = new_sweep(tmp_path / "a", [trial(4.0)])
    shutil.move(folder, tmp_path / "b")
    assert [t.score for t in read_sweep(tmp_path / "b").front] == [4.0]
    (tmp_path / "b/study.db").unlink()
    with pytest.raises(FileNotFoundError, match="the study of the sweep in .* is gone: there is no file"):
        read_sweep(tmp_path / "b")
    (tmp_path / "b/study.db").write_bytes(b"something else" * 99)
    with pytest.raises(ValueError, match="cannot be opened: .*not a database"):
        read_sweep(tmp_path / "b")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "does not say where the study is"),
    ],
)
def test_a_folder_without_a_sweep(tmp_path, about, message):
    with pytest.raises(FileNotFoundError, match="there is no sweep in"):
        read_sweep(tmp_path)
    new_sweep(tmp_path, [])
    (tmp_path / "sweep.json").write_text(about)
    with pytest.raises(ValueError, match=message):
        read_sweep(tmp_path)


def test_a_study_that_is_not_of_a_sweep(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(study_name="another", storage=storage)
    (tmp_path / "sweep.json").write_text(json.dumps({"storage": storage}))
    with pytest.raises(ValueError, match="there is no sweep in sqlite"):
        read_sweep(tmp_path)
    optuna.create_study(study_name="sweep", storage=storage, directions=["maximize", "minimize"])
    with pytest.raises(ValueError, match="it must maximize one score"):
        read_sweep(tmp_path)
