"""The figures of a sweep's report: front, importance of the parameters, parallel coordinates, learning curves."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpuffer.sweep.results import Summary, Trial, setting_in_words
from jaxpuffer.sweep.space import field_of, natural

COLORS = "viridis"  # from the lowest to the highest score
TREES_SEED = 0
MOST_TREES, MOST_ROWS = 64, 6400  # of the forest; with more trials it has fewer trees, to take seconds
FEWEST_FOR_IMPORTANCE = 4  # trials with a score; fewer say nothing


def draw(summary: Summary, folder: Path) -> dict[str, str | None]:
    """Draw what there are enough trials for.

    Args:
        summary: the sweep.
        folder: where to write; it is made if it is missing.

    Returns:
        By the names of the files None, or why a figure was not drawn.

    Raises:
        ImportError: Matplotlib or scikit-learn is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the figures need Matplotlib: pip install 'jaxpuffer[sweep]' (or --no-figures)") from error
    drawn: dict[str, str | None] = {}
    figures = {"front": _front, "importance": _importance, "parallel": _parallel, "curves": _curves}
    for name, one in figures.items():
        figure = Figure(layout="constrained")
        problem = one(figure, summary)
        drawn[f"{name}.png"] = problem
        if problem is None:
            folder.mkdir(parents=True, exist_ok=True)
            figure.savefig(folder / f"{name}.png", dpi=150)
    return drawn


def _front(figure: Any, summary: Summary) -> str | None:
    """Score over cost."""
    known = [t for t in summary.trials if math.isfinite(t.score) and math.isfinite(t.cost)]
    if not known:
        return "no trial has a score and a cost"
    figure.set_size_inches(7.5, 5)
    axes = figure.subplots()
    axes.set_xscale("log")
    front = summary.front
    groups = {
        "trained to the end": ([t for t in known if t.state == "complete" and t not in front], "tab:blue", "tab:blue"),
        "stopped early": ([t for t in known if t.state == "pruned"], "none", "tab:gray"),
        "front": (front, "tab:red", "tab:red"),
    }
    for label, (trials, face, edge) in groups.items():
        if trials:
            x, y, error = np.array([[t.cost, t.score, t.score_error] for t in trials]).T
            axes.errorbar(x, y, np.nan_to_num(error), fmt="none", ecolor=edge, alpha=0.4, linewidth=1)
            axes.scatter(x, y, s=22, facecolors=face, edgecolors=edge, label=label, zorder=3)
    if front:
        x, y = np.array([[t.cost, t.score] for t in front]).T
        axes.step(x, y, where="post", color="tab:red", alpha=0.6, linewidth=1)
        for trial in summary.configurations.values():
            axes.annotate(
                str(trial.number),
                (trial.cost, trial.score),
                (-4, 6),
                textcoords="offset points",
                ha="right",
                fontsize=9,
            )
    if summary.first is not None and math.isfinite(summary.first.cost):
        at = summary.first.cost, summary.first.score
        axes.scatter(*at, s=110, facecolors="none", edgecolors="black", label="the first configuration", zorder=4)
    costs = [t.cost for t in known]
    axes.set_xlim(min(costs) / 1.5, max(costs) * 1.5)  # Matplotlib's own limits lose a single point
    axes.set_xlabel("cost: seconds of training")
    axes.set_ylabel("score")
    axes.set_title(f"{summary.env}: score ± standard error; numbers are trials")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    _plain(axes)
    return None


@dataclasses.dataclass(frozen=True)
class Axis:
    """A parameter over the trials that have it."""

    name: str  # in a trial
    is_log: bool
    choices: list[Any]  # of a parameter that is not a number
    low: float
    high: float

    @classmethod
    def of(cls, name: str, trials: Sequence[Trial]) -> "Axis":
        values = [t.params[name] for t in trials if name in t.params]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            choices = sorted({repr(value): value for value in values}.values(), key=repr)
            return cls(name, False, choices, 0, len(choices) - 1)
        is_log = min(values) > 0 and all(t.is_log[name] for t in trials if name in t.params)
        return cls(name, is_log, [], min(values), max(values))

    def at(self, value: Any) -> float:
        """Where a value is, on a scale that may be logarithmic."""
        if self.choices:
            return float(self.choices.index(value))
        return math.log(value) if self.is_log else float(value)

    def share(self, trial: Trial) -> float:
        """Where a trial is, from 0 to 1, with the field's largest value at 1; NaN without the parameter."""
        if self.name not in trial.params:
            return math.nan
        low, high = (0.0, self.high) if self.choices else (self.at(self.low), self.at(self.high))
        share = (self.at(trial.params[self.name]) - low) / (high - low) if high > low else 0.5
        return 1 - share if self.name.startswith("1 - ") else share

    def ticks(self) -> dict[float, str]:
        """What to write, by height."""
        if self.choices:
            return {i / max(1, len(self.choices) - 1): str(value) for i, value in enumerate(self.choices)}
        low, high = (setting_in_words(natural(self.name, value)) for value in (self.low, self.high))
        return {0: high, 1: low} if self.name.startswith("1 - ") else {0: low, 1: high}


def _varied(trials: Sequence[Trial]) -> list[Axis]:
    """The parameters that are not the same in all trials."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    axes = [Axis.of(name, trials) for name in names]
    return [axis for axis in axes if axis.high > axis.low]


def _importance(figure: Any, summary: Summary) -> str | None:
    """Shares of the variance that a forest explains by each parameter alone and with others (fANOVA)."""
    trials = [trial for trial in summary.complete if not trial.was_scheduled]  # their scores are of no settings
    if len(trials) < FEWEST_FOR_IMPORTANCE:
        return f"it takes {FEWEST_FOR_IMPORTANCE} trials that have trained to their end, not {len(trials)}"
    axes_of = [axis for axis in _varied(trials) if all(axis.name in t.params for t in trials)]
    if not axes_of:
        return "no parameter that all trials have varies"
    measures = {"score": [(t, t.score) for t in trials]}
    priced = [(t, math.log(t.cost)) for t in trials if math.isfinite(t.cost)]
    if len(priced) == len(trials):
        measures["log of the cost"] = priced
    found = {name: values for name, known in measures.items() if (values := importances(axes_of, known))}
    if "score" not in found:
        return "all scores are equal"
    order = sorted(found["score"], key=lambda name: found["score"][name])
    figure.set_size_inches(8.5, 1.6 + 0.34 * len(order))
    axes = figure.subplots()
    height = 0.8 / len(found)
    for i, (label, values) in enumerate(found.items()):
        at = np.arange(len(order)) + (len(found) - 1) * height / 2 - i * height
        axes.barh(at, [values[name] for name in order], height, label=label, color=["tab:red", "tab:gray"][i])
    axes.set_yticks(range(len(order)), [field_of(name) for name in order])
    axes.set_xlabel("share of the variance")
    axes.set_title(f"{summary.env}: what explains score and cost (fANOVA, {len(trials)} trials)", loc="left")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    _plain(axes)
    return None


def importances(axes: Sequence[Axis], known: Sequence[tuple[Trial, float]]) -> dict[str, float]:
    """Optuna's importances of parameters for a number that trials have; empty if all numbers are equal.

    The distributions are those of the trials themselves: spaces may have changed while the sweep ran.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    import optuna

    if len({value for _, value in known}) < 2:
        return {}
    distributions: dict[str, Any] = {}
    for axis in axes:
        if axis.choices:
            distributions[axis.name] = optuna.distributions.CategoricalDistribution(range(len(axis.choices)))
        else:
            distributions[axis.name] = optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.is_log)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # no line on the study that is made here
    study = optuna.create_study(direction="maximize")
    optuna.logging.set_verbosity(verbosity)
    for trial, value in known:
        params = {a.name: int(a.at(trial.params[a.name])) if a.choices else trial.params[a.name] for a in axes}
        study.add_trial(optuna.trial.create_trial(value=value, params=params, distributions=distributions))
    try:
        trees = max(8, min(MOST_TREES, MOST_ROWS // len(known)))
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=TREES_SEED)
        return optuna.importance.get_param_importances(study, evaluator=evaluator)
    except ImportError as error:
        raise ImportError("importance.png needs scikit-learn: pip install 'jaxpuffer[sweep]'") from error
    except RuntimeError:  # no tree has found a difference
        return {}


def _parallel(figure: Any, summary: Summary) -> str | None:
    """A line for each trial with a score, through its parameters, its cost and its score."""
    trials = sorted((t for t in summary.trials if math.isfinite(t.score)), key=lambda t: t.score)
    varied = _varied(trials)
    if len(trials) < 2 or not varied:
        return "it takes two trials that have a score and differ"
    from matplotlib.collections import LineCollection

    labels = [(field_of(axis.name), axis.ticks()) for axis in varied]
    columns = [[axis.share(t) for t in trials] for axis in varied]
    for name, numbers, is_log in (
        ("cost (s)", np.array([t.cost for t in trials]), True),
        ("score", np.array([t.score for t in trials]), False),
    ):
        if np.isfinite(numbers).any() and np.nanmax(numbers) > np.nanmin(numbers):
            at = np.log(numbers) if is_log else numbers
            low, high = np.nanmin(at), np.nanmax(at)
            columns.append(list((at - low) / (high - low)))
            ends = (setting_in_words(float(x)) for x in (np.nanmin(numbers), np.nanmax(numbers)))
            labels.append((name, dict(zip((0.0, 1.0), ends, strict=True))))
    figure.set_size_inches(max(6.0, 1.15 * len(columns)), 4.8)
    axes = figure.subplots()
    heights = np.array(columns).T  # (trials, columns)
    lines = [np.column_stack([np.arange(len(columns)), row]) for row in heights]
    drawn = LineCollection(lines, cmap=COLORS, alpha=0.7, linewidths=1)
    drawn.set_array(_rank([t.score for t in trials]))
    axes.add_collection(drawn)
    for line, trial in zip(lines, trials, strict=True):
        if trial in summary.configurations.values():
            axes.plot(*line.T, color="tab:red", linewidth=2)
    for x, (_, ticks) in enumerate(labels):
        axes.axvline(x, color="black", alpha=0.3, linewidth=0.8)
        for y, text in ticks.items():
            place = {"va": "bottom" if y == 1 else "top" if y == 0 else "center", "ha": "center"}
            shift = 3 if y == 1 else -3 if y == 0 else 0
            axes.annotate(text, (x, y), (0, shift), textcoords="offset points", fontsize=8, **place)
    axes.set_xticks(range(len(labels)), [name for name, _ in labels], rotation=30, ha="right")
    axes.tick_params(axis="x", length=0, pad=14)
    axes.set_yticks([])
    axes.set_xlim(-0.4, len(labels) - 0.6)
    axes.set_ylim(0, 1)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{summary.env}: colour by rank of the score; red: trials with a file", loc="left", pad=20)
    return None


def _curves(figure: Any, summary: Summary) -> str | None:
    """Scores during training, over agent-steps and over seconds."""
    trials = [t for t in summary.trials if len(t.curve)]
    if not trials:
        return "no trial has a learning curve"
    from matplotlib import colormaps

    with_seconds = any(np.isfinite(t.curve[:, 1]).any() for t in trials)
    figure.set_size_inches(11 if with_seconds else 6, 4.4)
    panels = figure.subplots(1, 1 + with_seconds, sharey=True, squeeze=False)[0]
    chosen = list(summary.configurations.values())
    trials.sort(key=lambda t: t.curve[-1, 2])
    colors = colormaps[COLORS](_rank([t.curve[-1, 2] for t in trials]))
    for axes, (column, name) in zip(panels, ((0, "agent-steps"), (1, "seconds of training")), strict=False):
        for trial, color in zip(trials, colors, strict=True):
            style = {"complete": "-", "pruned": "--"}.get(trial.state, ":")
            is_chosen = trial in chosen
            width = 2.2 if is_chosen else 0.9
            x, y = trial.curve[:, column], trial.curve[:, 2]
            marker = "." if len(y) == 1 else ""
            above = 3 if is_chosen else 2
            axes.plot(
                x, y, style, marker=marker, color=color, linewidth=width, alpha=1 if is_chosen else 0.7, zorder=above
            )
            if is_chosen and np.isfinite(x[-1]):
                axes.annotate(str(trial.number), (x[-1], y[-1]), (3, 0), textcoords="offset points", va="center")
        axes.set_xscale("log")
        at = np.concatenate([t.curve[:, column] for t in trials])
        if (at > 0).any():  # Matplotlib's own limits lose a single point
            axes.set_xlim(at[at > 0].min() / 1.2, at[at > 0].max() * 1.5)
        axes.set_xlabel(name)
        _plain(axes)
    panels[0].set_ylabel("score in training; at the end evaluated")
    text = "colour by rank of the last score; thick: trials with a file; dashed: stopped early; dotted: others"
    figure.suptitle(f"{summary.env}: {text}", fontsize=10)
    return None


def _rank(values: Sequence[float]) -> np.ndarray:
    """Ranks from 0 to 1, float64; equal values have one rank."""
    _, ranks = np.unique(np.asarray(values, np.float64), return_inverse=True)
    return ranks / max(1, ranks.max())


def _plain(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
