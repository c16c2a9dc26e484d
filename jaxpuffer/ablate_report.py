"""What an ablation found: the statistics of its record, a table in Markdown and in LaTeX, and figures for a paper.

The statistics are those of `statistics.py`. In means and profiles a seed that failed counts with the lowest score that
any seed of any arm, or an untrained agent, has in that environment; in probabilities of improvement it is worse than
all that did not fail. So no seed is left out.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpuffer.report import duration
from jaxpuffer.statistics import (
    bootstrap_interval,
    improvement_probability,
    interquartile_mean,
    performance_profile,
)

JOINT = "normalised"  # the column of all environments together
COLUMN, PAGE = 3.3, 6.9  # inches: the width of a column and of a page of a paper
# Okabe and Ito's colours, which colour-blind readers can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS, LINES = ("o", "s", "^", "D", "v", "P", "X", "*"), ("-", "--", ":", "-.")
STYLE: Any = {
    "font.size": 7.0,
    "axes.linewidth": 0.6,
    "axes.titlesize": "medium",
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.4,
    "text.parse_math": False,  # a $ in a name is a $
    "pdf.fonttype": 42,  # letters stay letters
    "savefig.dpi": 300,
}


def report(record: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """The record with its `summary`; in a folder also the table and the figures."""
    record = record | {"summary": summary(record)}
    if folder is not None:
        (folder / "table.md").write_text(markdown(record), encoding="utf-8")
        (folder / "table.tex").write_text(latex(record), encoding="utf-8")
        with _style():
            for name, figure in figures(record).items():
                for suffix in ("pdf", "png"):
                    figure.savefig(folder / f"{name}.{suffix}")
    return record


# statistics


def known_scores(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The scores of each arm, float64 (seeds, environments), NaN where a seed failed.

    Raises:
        ValueError: a run has no result yet.
    """
    for run in record["runs"]:
        if run["result"] is None:
            raise ValueError(f"{run['arm']} on {run['env']} has no result yet; resume the ablation first")
    found = {(run["arm"], run["env"]): run["result"]["scores"] for run in record["runs"]}
    columns = {arm: [found[arm, env] for env in record["environments"]] for arm in record["arms"]}
    return {arm: np.array(scores, np.float64).T for arm, scores in columns.items()}  # None is NaN


def scales(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """For each environment: the scores that count as `zero` and as `one`, what they are `of`, and the `lowest` one."""
    found, scale = np.stack(list(known_scores(record).values())), {}
    for i, (env, about) in enumerate(record["environments"].items()):
        untrained = record["untrained"][env]
        known = found[:, :, i][~np.isnan(found[:, :, i])].tolist() + ([] if untrained is None else [untrained])
        lowest, highest = min(known, default=0.0), max(known, default=1.0)
        if about["shipped"] is not None:
            zero, one, of = untrained, about["shipped"], "the scores of an untrained and of the shipped agent"
        else:
            zero, one, of = lowest, highest, "the lowest and the highest score of all seeds and of an untrained agent"
        scale[env] = {"zero": zero, "one": one, "of": of, "lowest": lowest}
    return scale


def scores_of(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The scores of each arm, float64 (seeds, environments), with the lowest score for failed seeds."""
    lowest = np.array([scale["lowest"] for scale in scales(record).values()])[None]
    return {arm: np.where(np.isnan(scores), lowest, scores) for arm, scores in known_scores(record).items()}


def ranked_scores(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The scores of each arm, float64 (seeds, environments), with a number below all scores for failed seeds."""
    lowest = np.array([scale["lowest"] for scale in scales(record).values()])[None]
    below = lowest - np.maximum(1.0, np.abs(lowest))
    return {arm: np.where(np.isnan(scores), below, scores) for arm, scores in known_scores(record).items()}


def normalised_scores(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """The scores of each arm, float64 (seeds, environments), 0 and 1 as `scales` says."""
    scale = scales(record)
    zero = np.array([scale[env]["zero"] for env in scale])[None]
    span = np.array([scale[env]["one"] - scale[env]["zero"] for env in scale])[None]
    # if all scores are equal there is no span, and all are 0
    return {arm: (scores - zero) / np.where(span == 0, 1.0, span) for arm, scores in scores_of(record).items()}


def summary(record: dict[str, Any]) -> dict[str, Any]:
    """Interquartile means and probabilities of improvement, as JSON values.

    `arms[ARM]` has `environments[ENV]`, with the interquartile mean of the scores, its interval and the seeds that
    failed; `normalised`, the same over all environments; and `better`, the probability that a run scores higher than
    one of the base, which is the first arm. An interval of one seed is None.
    """
    raw, normalised, ranked = scores_of(record), normalised_scores(record), ranked_scores(record)
    base = next(iter(record["arms"]))

    def estimate(statistic: Any, *scores: np.ndarray) -> dict[str, Any]:
        several = len(scores[0]) > 1
        return {
            "estimate": float(statistic(*scores)),
            "interval": bootstrap_interval(statistic, *scores).tolist() if several else None,
        }

    return {
        "base": base,
        "scales": scales(record),
        "arms": {
            arm: {
                "environments": {
                    env: estimate(interquartile_mean, raw[arm][:, [i]])
                    | {"failed": list(failed_seeds(record, arm, env))}
                    for i, env in enumerate(record["environments"])
                },
                JOINT: estimate(interquartile_mean, normalised[arm]),
                "better": None if arm == base else estimate(improvement_probability, ranked[arm], ranked[base]),
            }
            for arm in record["arms"]
        },
    }


def failed_seeds(record: dict[str, Any], arm: str, env: str) -> Iterator[dict[str, Any]]:
    """The seeds of an arm that failed on an environment, and why."""
    result = next(run["result"] for run in record["runs"] if (run["arm"], run["env"]) == (arm, env))
    for seed, problem in zip(record["seeds"], result["problems"], strict=True):
        if problem is not None:
            yield {"seed": seed, "problem": problem}


# words


def scores_in_words(result: dict[str, Any]) -> str:
    """A result in a line, while the ablation runs."""
    known = np.array([score for score in result["scores"] if score is not None])
    count = len(result["scores"])
    seconds = result["train_seconds"] + result["evaluate_seconds"]
    words = f"score {_number(float(interquartile_mean(known, 0)))}" if known.size else "no score"
    failed = f", {count - known.size} of {count} seeds failed" if known.size < count else ""
    return f"{duration(seconds)}, {words}{failed}"


def table(record: dict[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
    """Columns, rows and notes of the table, as plain text."""
    found, several = record["summary"], len(record["environments"]) > 1
    seeds, base = len(record["seeds"]), found["base"]
    columns = ["arm", *record["environments"], *[JOINT] * several, "P(better)", "failed"]
    rows = []
    for arm, values in found["arms"].items():
        cells = [
            "all failed" if len(value["failed"]) == seeds else _estimate(value)
            for value in values["environments"].values()
        ]
        cells += [_estimate(values[JOINT])] * several
        cells.append("base" if values["better"] is None else _estimate(values["better"]))
        failed = sum(len(value["failed"]) for value in values["environments"].values())
        rows.append([arm, *cells, f"{failed} of {seeds * len(record['environments'])}"])
    interval = "the 95 % interval of a stratified bootstrap" if seeds > 1 else "no interval, since there is one seed"
    steps = sorted({run["result"]["agent_steps"] for run in record["runs"]})
    notes = [
        f"Interquartile means over {seeds} seeds of the score of {record['episodes']} fresh episodes, with {interval}.",
        f"Each run was trained for {' to '.join(f'{n:,}' for n in dict.fromkeys((steps[0], steps[-1])))} agent-steps.",
        f"P(better): how probable it is that a run scores higher than one of the base, {base}.",
    ]
    if several:
        notes += [
            f"{JOINT}, {env}: 0 and 1 are {_number(scale['zero'])} and {_number(scale['one'])}, {scale['of']}."
            for env, scale in found["scales"].items()
        ]
    notes += [
        f"Failed: seed {one['seed']} of {arm} on {env}: {one['problem']}."
        for arm, values in found["arms"].items()
        for env, value in values["environments"].items()
        for one in value["failed"]
    ]
    if any(value["failed"] for values in found["arms"].values() for value in values["environments"].values()):
        notes.append(
            "A failed seed counts with the lowest score of all seeds and of an untrained agent, and in P(better) as "
            "worse than all that did not fail."
        )
    notes += [
        f"{run['arm']} on {run['env']} has the settings of {run['result']['same_as']}, and so its scores."
        for run in record["runs"]
        if "same_as" in run["result"]
    ]
    for i, run in enumerate(record["runs"]):
        for other in record["runs"][:i]:
            alike = all(run["result"][key] == other["result"][key] for key in ("scores", "curves"))
            if (
                alike
                and run["env"] == other["env"]
                and "same_as" not in run["result"]
                and None not in run["result"]["scores"]
            ):
                notes.append(f"{run['arm']} scored and learned exactly as {other['arm']} on {run['env']}.")
                break
    return columns, rows, notes


def markdown(record: dict[str, Any]) -> str:
    """The table in Markdown, with its notes below."""
    columns, rows, notes = table(record)
    lines = [columns, [":--", *["--:"] * (len(columns) - 1)], *rows]
    text = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([*text, "", *(f"- {note}" for note in notes)]) + "\n"


def latex(record: dict[str, Any]) -> str:
    """The table as a `tabular` of plain LaTeX, with its notes as comments above."""
    columns, rows, notes = table(record)
    lines = [" & ".join(map(escape_latex, line)) + r" \\" for line in [columns, *rows]]
    return "\n".join(
        [
            *(f"% {note}" for note in notes),
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\hline",
            lines[0],
            r"\hline",
            *lines[1:],
            r"\hline",
            r"\end{tabular}",
            "",
        ]
    )


_LATEX = {
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # at the start of a row it would be an argument of the \\ before
    "*": "{*}",
}


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda match: _LATEX[match[0]], text)


def _estimate(value: dict[str, Any]) -> str:
    low_high = "" if value["interval"] is None else " [{}, {}]".format(*map(_number, value["interval"]))
    return _number(value["estimate"]) + low_high


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e12 else f"{value:.4g}" if abs(value) >= 1 else f"{value:.3g}"


# figures


def check_matplotlib() -> None:
    """Raise ImportError if Matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError("the figures need Matplotlib: pip install 'jaxpuffer[sweep]'") from error


def figures(record: dict[str, Any]) -> dict[str, Any]:
    """Matplotlib figures of a complete record, by name: scores, profiles, improvement, curves.

    Raises:
        ImportError: Matplotlib is not installed.
    """
    check_matplotlib()
    record = record if "summary" in record else record | {"summary": summary(record)}
    draw = {"scores": _scores, "profiles": _profiles, "improvement": _improvement, "curves": _curves}
    with _style():
        return {name: function(record) for name, function in draw.items()}


def _style() -> Any:
    """Matplotlib's settings, for drawing and for saving."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def _look(number: int) -> dict[str, Any]:
    """Colour, marker and line of an arm; arms of the same colour differ in the others."""
    round_ = number // len(COLOURS)
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[(number + round_) % len(MARKERS)],
        "linestyle": LINES[(number + round_) % len(LINES)],
    }


def _panels(count: int, height: float) -> tuple[Any, list[Any]]:
    """A figure with so many axes, in one column of a paper or, from three on, in two."""
    from matplotlib.figure import Figure

    columns = 1 if count < 3 else 2
    rows = -(-count // columns)
    figure = Figure(figsize=(COLUMN if columns == 1 else PAGE, rows * height), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def _wrapped(name: str) -> str:
    """An arm's name in lines of at most 24 characters."""
    return "\n".join(textwrap.wrap(name, 24))


def _dots(axes: Any, arms: dict[str, dict[str, Any]], shift: int = 0) -> None:
    """An estimate with its interval for each arm, one below the other."""
    for i, value in enumerate(arms.values()):
        look = _look(i + shift)
        ends = None if value["interval"] is None else np.abs(np.array(value["interval"]) - value["estimate"])[:, None]
        axes.errorbar([value["estimate"]], [i], xerr=ends, fmt=look["marker"], color=look["color"], capsize=2, zorder=3)
    axes.set_yticks(range(len(arms)), [_wrapped(arm) for arm in arms])
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)


def _height(record: dict[str, Any]) -> float:
    """Inches of a panel with a line for each arm."""
    return 0.55 + sum(0.07 + 0.12 * (1 + _wrapped(arm).count("\n")) for arm in record["arms"])


def _scores(record: dict[str, Any]) -> Any:
    """Interquartile means with intervals: over all environments, and of each with its seeds as points."""
    found, envs = record["summary"]["arms"], list(record["environments"])
    joint = len(envs) > 1
    figure, panels = _panels(len(envs) + joint, _height(record))
    if joint:
        axes = panels.pop(0)
        _dots(axes, {arm: values[JOINT] for arm, values in found.items()})
        axes.set_xlabel(f"normalised score of {len(envs)} environments")
    raw = scores_of(record)
    for column, (env, axes) in enumerate(zip(envs, panels, strict=True)):
        for i, arm in enumerate(found):
            failed = np.isin(record["seeds"], [one["seed"] for one in found[arm]["environments"][env]["failed"]])
            for which, marker in ((~failed, "."), (failed, "x")):
                seeds = raw[arm][which, column]
                axes.plot(seeds, np.full(len(seeds), i + 0.25), marker, color="0.6", markersize=3, zorder=1)
        _dots(axes, {arm: values["environments"][env] for arm, values in found.items()})
        axes.set_xlabel(f"score of {env}")
    return figure


def _profiles(record: dict[str, Any]) -> Any:
    """The share of runs with a score above a threshold, with bands of 95 %."""
    joint = len(record["environments"]) > 1
    scores = normalised_scores(record) if joint else scores_of(record)
    figure, (axes,) = _panels(1, 2.4)
    every = np.concatenate([values.ravel() for values in scores.values()])
    margin = 0.02 * (every.max() - every.min() or 1.0)
    thresholds = np.linspace(every.min() - margin, every.max() + margin, 201)
    for i, (arm, values) in enumerate(scores.items()):
        look = _look(i)
        axes.plot(
            thresholds,
            performance_profile(values, thresholds),
            label=arm,
            color=look["color"],
            linestyle=look["linestyle"],
            drawstyle="steps-post",
        )
        if len(values) > 1:
            low, high = bootstrap_interval(lambda drawn: performance_profile(drawn, thresholds), values, resamples=2000)
            axes.fill_between(thresholds, low, high, step="post", color=look["color"], alpha=0.15, linewidth=0)
    what = "normalised score" if joint else f"score of {next(iter(record['environments']))}"
    axes.set(xlabel=f"{what}, threshold", ylabel="share of runs above it", ylim=(-0.03, 1.03))
    _legend(figure, axes)
    return figure


def _improvement(record: dict[str, Any]) -> Any:
    """The probability that a run of an arm scores higher than one of the base."""
    found = record["summary"]
    others = {arm: values["better"] for arm, values in found["arms"].items() if values["better"] is not None}
    figure, (axes,) = _panels(1, _height(record))
    axes.axvline(0.5, color="0.4", linewidth=0.8, linestyle="--")
    _dots(axes, others, shift=1)
    axes.set(xlabel="probability that a run scores higher than\n" + _base_in_lines(found["base"]), xlim=(-0.03, 1.03))
    return figure


def _base_in_lines(base: str) -> str:
    return "\n".join(textwrap.wrap(f"one of {base}", 48))


def _curves(record: dict[str, Any]) -> Any:
    """Interquartile means of training's own episodes over agent-steps, with bands of 95 %."""
    envs = list(record["environments"])
    figure, panels = _panels(len(envs), 2.0)
    most = max(run["result"]["agent_steps"] for run in record["runs"])
    unit, word = (1e6, "million") if most >= 1e6 else (1e3, "thousand")
    for env, axes in zip(envs, panels, strict=True):
        axes.set(xlabel=f"{word} agent-steps", ylabel="score in training", title=env)
        for i, arm in enumerate(record["arms"]):
            look = _look(i)
            result = next(run["result"] for run in record["runs"] if (run["arm"], run["env"]) == (arm, env))
            alive = [problem is None for problem in result["problems"]]
            curves = np.array(result["curves"], np.float64)[alive]
            label = arm if all(alive) else f"{arm} ({sum(alive)} of {len(alive)} seeds on {env})"
            steps = np.array(result["curve_steps"]) / unit
            known = ~np.isnan(curves).any(0) if len(curves) else np.zeros(len(steps), bool)
            line = {"color": look["color"], "linestyle": look["linestyle"]}
            if not known.any():  # no episode ended
                axes.plot([], [], label=label, **line)
                continue
            curves = curves[:, known]
            axes.plot(steps[known], interquartile_mean(curves, 0), label=label, **line)
            if len(curves) > 1:
                band = bootstrap_interval(lambda drawn: interquartile_mean(drawn, 1), curves, resamples=1000)
                axes.fill_between(steps[known], *band, color=look["color"], alpha=0.15, linewidth=0)
    _legend(figure, *panels)
    return figure


def _legend(figure: Any, *panels: Sequence[Any]) -> None:
    """One legend below the panels, for all that they show."""
    lines = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}  # type: ignore[attr-defined]
    columns = 2 if figure.get_figwidth() > COLUMN or max(map(len, lines)) < 24 else 1
    figure.legend(lines.values(), lines, loc="outside lower center", ncols=columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.15 * -(-len(lines) // columns))
