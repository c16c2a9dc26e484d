"""report: what a sweep has found so far, as a table, figures and configurations that `jaxpuffer train` takes.

    DIR/report/best-40s.toml    the best configuration that trains for 40 s, and others for less
    DIR/report/front.png        score over cost, with the Pareto front
    DIR/report/importance.png   how much of the score's and the cost's variance each parameter explains
    DIR/report/parallel.png     a line for each trial through its parameters, cost and score
    DIR/report/curves.png       learning curves

It can be repeated while the sweep runs.
"""

import argparse
import collections
import itertools
import json
import math
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxpuffer.cli_runs import Parser, show_table
from jaxpuffer.config_file import as_toml
from jaxpuffer.evaluate import readable
from jaxpuffer.registry import list_envs
from jaxpuffer.report import count_in_words, duration
from jaxpuffer.sweep.figures import draw
from jaxpuffer.sweep.results import NOISE, Summary, Trial, differing_settings, read_sweep, setting_in_words

FOLDER = "report"  # in that of the sweep
STATES = {
    "complete": "trained to the end", "pruned": "stopped early", "fail": "failed", "running": "running",
    "waiting": "waiting",
}  # fmt: skip
FRESH_SEED = 1000  # first of the seeds to train again with
MARK = "# from a sweep of "  # first words of the files that a later report may remove


def report(directory: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Summary:
    """Print what a sweep has found so far, and write its figures and best configurations.

    Args:
        directory: the sweep's folder; the sweep may still run.
        out: the folder to write to; by default `report` in the sweep's.

    Raises:
        FileNotFoundError: there is no sweep in the folder, or its study is gone.
        ImportError: Optuna, Matplotlib or scikit-learn is not installed.
        ValueError: `sweep.json` or the study is not of a sweep.
    """
    summary = read_sweep(directory)
    folder = _folder(summary, out)
    show(summary, write_configurations(summary, folder))
    _draw(summary, folder)
    return summary


def show_report(args: Sequence[str]) -> None:
    """jaxpuffer sweep report DIR: the front, figures and the best configurations."""
    parser = Parser("jaxpuffer sweep report", description="Show what a sweep has found so far.")
    parser.add_argument("directory", metavar="DIR", help="folder of the sweep")
    parser.add_argument("--out", metavar="FOLDER", help="where to write; by default DIR/report")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--figures", action=argparse.BooleanOptionalAction, default=True, help="also draw figures")
    flags = parser.parse_args(args)
    summary = read_sweep(flags.directory)
    folder = _folder(summary, flags.out)
    files = write_configurations(summary, folder)
    if flags.json:
        print(json.dumps(as_json(summary, files), indent=2, allow_nan=False))
    else:
        show(summary, files)
    if flags.figures:
        _draw(summary, folder, say=not flags.json)


def show(summary: Summary, files: Mapping[str, Path]) -> None:
    """Print a summary; `files` are the configurations that were written, by name."""
    for line in _head(summary):
        print(line)
    front, shown = summary.front, summary.best
    if not shown:
        stopped = any(math.isfinite(t.score) for t in summary.trials)
        print("\nno trial has trained to its end yet" if stopped else "\nno trial has a score yet")
        return
    if front:
        print("\nthe front: no other trial has a higher score at the same or a smaller cost")
    else:
        print("\nno trial has a cost, so there is no front; the best scores:")
    names = {trial.number: name for name, trial in summary.configurations.items() if name in files}
    rows = []
    for trial in shown:
        same = next((t for t in front if t.score < trial.score and not trial.differs(t)), None)
        rows.append(
            [
                str(trial.number),
                duration(trial.cost) if math.isfinite(trial.cost) else "",
                score_in_words(trial),
                "" if trial.agent_steps is None else count_in_words(trial.agent_steps),
                "" if same is None else f"trial {same.number}",
                names.get(trial.number, ""),
            ]
        )
    show_table(["trial", "cost", "score", "steps", "within noise of", "file"], rows)
    chosen = [t for t in shown if t in summary.configurations.values()] if front else shown
    fields = differing_settings(chosen)
    if fields:
        print("the settings in which " + ("they" if len(chosen) == len(shown) else "those with a file") + " differ")
        rows = [[name, *(setting_in_words(t.settings.get(name)) for t in chosen)] for name in fields]
        show_table(["", *(f"trial {t.number}" for t in chosen)], rows)
    if scheduled := [str(trial.number) for trial in shown if trial.was_scheduled]:
        print(
            f"population-based training changed the settings of {', '.join(scheduled)} on the way: the last ones are "
            "shown, and training with them from the start gives other scores"
        )
    for trial in summary.configurations.values():
        if trial.config is None:
            print(f"the configuration of trial {trial.number} is not known: there is no file of it")
    for line in _advice(summary, files):
        print(line)


def _head(summary: Summary) -> Iterable[str]:
    """How many trials there are, how long they took, and why some failed."""
    counts = collections.Counter(t.state for t in summary.trials)
    states = ", ".join(f"{counts[state]} {words}" for state, words in STATES.items() if counts[state])
    lost = f"; {summary.lost} lost with their workers, and repeated" if summary.lost else ""
    yield f"{summary.env}: {count_of(len(summary.trials), 'trial')}" + ": " * bool(states) + states + lost
    if summary.wall_seconds is not None:
        spent = f"{duration(summary.training_seconds)} of training"
        yield f"{duration(summary.wall_seconds)} from the first start to the last end; {spent}"
    problems = collections.Counter(t.problem for t in summary.trials if t.problem)
    for problem, count in problems.most_common(3):
        yield f"failed {count_of(count, 'time')}: {problem}"
    first = summary.first
    if first is not None:
        cost = f" in {duration(first.cost)}" if math.isfinite(first.cost) else ""
        yield f"the configuration that it began with, trial {first.number}: score {score_in_words(first)}{cost}"
    unpriced = sum(math.isnan(t.cost) for t in summary.complete)
    if unpriced and summary.front:
        yield f"{count_of(unpriced, 'trial')} without a cost cannot be in the front"


def _advice(summary: Summary, files: Mapping[str, Path]) -> Iterable[str]:
    """How far the scores can be trusted, and what to do next."""
    complete = summary.complete
    if len(complete) < 2:
        return
    best = summary.best[-1] if summary.front else summary.best[0]
    equal = sum(not best.differs(t) for t in complete) - 1
    if math.isnan(best.score_error):
        yield "the best score has no standard error: whether a difference is noise is not known"
    elif equal:
        yield (
            f"{count_of(equal, 'other trial')} of {len(complete)} scored the same as the best within noise "
            f"({NOISE:.0f} standard errors of the difference)"
        )
    if summary.first is not None and summary.first is not best and not best.differs(summary.first):
        yield "one of them is the configuration that it began with: nothing that is surely better was found"
    yield (
        f"the best of {len(complete)} noisy scores is partly luck, and the standard errors are of the evaluation's "
        "episodes alone, not of training: expect lower scores from new seeds"
    )
    if files:
        lines = _how_to_train(summary, next(iter(files.values())))
        yield "train again on several fresh seeds before you rely on a difference:"
        yield from (f"  {line}" for line in lines)


def _how_to_train(summary: Summary, file: Path) -> list[str]:
    """The command that trains a configuration again, with a seed that the sweep has not used; for an environment that
    has no registered name, lines of Python."""
    backend, used = summary.about.get("backend"), {t.seed for t in summary.trials}
    seed = next(seed for seed in itertools.count(FRESH_SEED) if seed not in used)
    if summary.env not in list_envs():
        return [
            "from pathlib import Path",
            "from jaxpuffer.config_file import with_file",
            f"env, config = with_file(Path({str(file)!r}), env, PPOConfig())  # env: {summary.env}",
            f"fit(env, jax.random.key({seed}), config)",
        ]
    command = ["jaxpuffer", "train", summary.env, "--config", str(file), "--seed", str(seed)]
    return [shlex.join([*command, *(["--backend", backend] if backend else [])])]


def write_configurations(summary: Summary, folder: Path) -> dict[str, Path]:
    """Write the best configurations, and remove those of an earlier report; the files by name, the best first."""
    for old in folder.glob("best*.toml"):
        if old.read_text(encoding="utf-8", errors="replace").startswith(MARK):
            old.unlink()
    files = {}
    for name, trial in summary.configurations.items():
        if trial.config is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        files[name] = folder / name
        files[name].write_text(_configuration(summary, trial, files[name]), encoding="utf-8")
    return files


def _configuration(summary: Summary, trial: Trial, file: Path) -> str:
    assert trial.config is not None
    cost = f" in {duration(trial.cost)} of training" if math.isfinite(trial.cost) else ""
    steps = "" if trial.agent_steps is None else f" after {trial.agent_steps:,} agent-steps"
    seed = "" if trial.seed is None else f", seed {trial.seed}"
    lines = [
        f"{MARK}{summary.env}: trial {trial.number} of {len(summary.trials)}{seed}",
        f"# score {score_in_words(trial)}{steps}{cost}",
    ]
    if trial.was_scheduled:
        lines.append("# population-based training changed the configuration on the way: this is the last one")
    lines += [f"# {line}" for line in _how_to_train(summary, file)]
    config = {name: value for name, value in trial.config.items() if name != "num_agents"}
    table = f"\n[env]\n{as_toml(trial.env)}" if trial.env else ""
    return "\n".join(lines) + f"\n\n{as_toml(config)}{table}"


def as_json(summary: Summary, files: Mapping[str, Path]) -> dict[str, Any]:
    """A summary as JSON values."""
    chosen = {trial.number: name for name, trial in summary.configurations.items()}
    fields = (
        "number",
        "score",
        "score_error",
        "cost",
        "agent_steps",
        "seed",
        "settings",
        "config",
        "env",
        "was_scheduled",
    )
    front = [
        {name: getattr(t, name) for name in fields}
        | {"score_error": t.score_error if math.isfinite(t.score_error) else None}
        | {"file": str(files.get(chosen.get(t.number, ""), "")) or None}
        for t in summary.front
    ]
    return {
        "directory": str(summary.directory),
        "environment": summary.env,
        "trials": {state: sum(t.state == state for t in summary.trials) for state in STATES} | {"lost": summary.lost},
        "wall_seconds": summary.wall_seconds,
        "training_seconds": summary.training_seconds,
        "front": front,
        "files": [str(file) for file in files.values()],
    }


def _folder(summary: Summary, out: str | os.PathLike[str] | None) -> Path:
    return summary.directory / FOLDER if out is None else Path(out).expanduser()


def _draw(summary: Summary, folder: Path, say: bool = True) -> None:
    for name, problem in draw(summary, folder).items():
        if say:
            print(f"wrote {folder / name}" if problem is None else f"no {name}: {problem}")


def score_in_words(trial: Trial) -> str:
    """Such as `843.20 ± 3.10`."""
    error = f" ± {readable(trial.score_error, 2)}" if math.isfinite(trial.score_error) else ""
    return readable(trial.score, 2) + error


def count_of(count: int, noun: str) -> str:
    """Such as `1 trial`, or `2 trials`."""
    return f"{count} {noun}{'s' * (count != 1)}"
