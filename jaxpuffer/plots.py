"""plot: the score of runs over agent-steps and over wall-clock, with bands over seeds.

Runs whose settings are equal except for the seed are one curve: the mean of their scores, each interpolated linearly
between its reports. Over agent-steps it ends where the first of them ends. Over wall-clock, which includes compiling,
it begins where all have reported, and a run that has ended keeps its last score. The band is the smallest and the
largest score of two to four runs, and of five or more the 95 % confidence interval of the mean (Student's t).
"""

import json
import os
import statistics
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpuffer.runs import read_metrics, readable_runs

SUFFIXES = (".png", ".svg", ".pdf")
FEWEST_FOR_INTERVAL = 5  # runs; fewer have a band from the smallest to the largest score
POINTS = 400  # of a curve
AXES = {"agent_steps": "agent-steps", "run_seconds": "seconds of wall-clock"}


def plot(
    runs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] | None = None, metric: str = "score"
) -> Any:
    """Draw the runs; needs Matplotlib (`pip install 'jaxpuffer[notebook]'`).

    Args:
        runs: folders of runs.
        out: a file to write, .png, .svg or .pdf.
        metric: the metric to draw, one of those in metrics.jsonl.

    Returns:
        The Matplotlib figure; a notebook shows it after `%matplotlib inline`.

    Raises:
        ImportError: Matplotlib is not installed.
        FileNotFoundError: there is no folder for `out`, or a run has no metrics.
        ValueError: there are no runs; one is damaged, or never reported `metric`; or `out` has another suffix.
    """
    if isinstance(runs, str | os.PathLike):
        runs = [runs]
    if not runs:
        raise ValueError("no runs given; plot takes one or more")
    if out is not None:
        out = Path(out).expanduser()
        if out.suffix.lower() not in SUFFIXES:
            raise ValueError(f"out is {out}; its suffix must be one of {', '.join(SUFFIXES)}")
        if not out.absolute().parent.is_dir():
            raise FileNotFoundError(f"out is {out}; there is no folder {out.parent}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot needs Matplotlib: pip install 'jaxpuffer[notebook]'") from error
    groups = grouped(readable_runs(runs))
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, x in zip(figure.subplots(1, 2, sharey=True), AXES, strict=True):
        for label, rows in groups.items():
            at, mean, low, high = curve([row["run"] for row in rows], x, metric)
            count = f" ({len(rows)} runs)" if len(rows) > 1 else ""
            (line,) = axes.plot(at, mean, label=label + count)
            if len(rows) > 1:
                axes.fill_between(at, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set_xlabel(AXES[x])
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    left = figure.axes[0]
    left.set_ylabel(metric)
    left.legend(frameon=False)
    if out is not None:
        figure.savefig(out, dpi=150)
    return figure


def grouped(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of `runs.table` by settings, without the seed; a group's name is the settings that others do not have."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(json.dumps(_settings(row), sort_keys=True), []).append(row)
    each = [_settings(members[0]) for members in groups.values()]
    fields = dict.fromkeys(name for settings in each for name in settings if name != "env")
    differing = [name for name in fields if any(other.get(name) != each[0].get(name) for other in each)]
    names = [
        ", ".join(
            [str(settings["env"]), *(f"{name.removeprefix('config.')}={settings.get(name)}" for name in differing)]
        )
        for settings in each
    ]
    return dict(zip(names, groups.values(), strict=True))


def curve(
    runs: Sequence[str | os.PathLike[str]], x: str, metric: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The mean of a metric over runs, with its band.

    Args:
        runs: folders of runs.
        x: the metric on the horizontal axis, `agent_steps` or `run_seconds`.
        metric: the metric on the vertical axis.

    Returns:
        x, the mean, and the lower and the upper end of the band, each float64 (points,).

    Raises:
        ValueError: a run never reported the metric, or the runs have no part of the axis in common.
    """
    lines = []
    for run in runs:
        columns = read_metrics(run)
        if x not in columns or metric not in columns or np.isnan(columns[metric]).all():
            raise ValueError(f"{run} has not reported {metric}")
        known = ~np.isnan(columns[metric])
        lines.append((columns[x][known].astype(np.float64), columns[metric][known]))
    ends = [at[-1] for at, _ in lines]
    first, last, longest = max(at[0] for at, _ in lines), min(ends), max(ends)
    if x == "run_seconds":
        last = longest  # np.interp keeps the last value from the end of a run on
    elif first > last:
        raise ValueError(f"{', '.join(map(str, runs))} have no {AXES[x]} in common")
    elif last < 0.9 * longest:
        short = runs[int(np.argmin(ends))]
        message = f"{short} ends at {last:,.0f} of {longest:,.0f} {AXES[x]}, and its curve with it"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    if len(lines) == 1:
        at, mean = lines[0]
        return at, mean, mean, mean
    at = np.linspace(first, last, POINTS)
    values = np.stack([np.interp(at, *line) for line in lines])
    mean, count = values.mean(axis=0), len(lines)
    if count < FEWEST_FOR_INTERVAL:
        return at, mean, values.min(axis=0), values.max(axis=0)
    half = student_quantile(count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return at, mean, mean - half, mean + half


def student_quantile(freedom: int, probability: float = 0.975) -> float:
    """A quantile of Student's t; within 0.3 % from 4 degrees of freedom on (Abramowitz and Stegun 26.7.5)."""
    z = statistics.NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _settings(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in row.items()
        if name in ("env", "backend", "module", "start_from") or name.startswith(("config.", "env."))
    }
