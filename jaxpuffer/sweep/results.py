"""Results of a sweep, read from its folder and its Optuna study: trials, the Pareto front, the best configurations.

The front has the trials that trained to their end and that no other such trial beats: none has a higher score at the
same or a smaller cost. A trial that was stopped early is not in it, because its configuration, trained as it says,
costs more.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpuffer.sweep.space import field_of, natural
from jaxpuffer.sweep.storage import existing, load_study

SETTINGS = "sweep.json"
MOST_CONFIGURATIONS = 5  # the best one, and the best at a half, a quarter, ... of its cost
NOISE = 2.0  # standard errors of a difference below which two scores may be equal


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A trial of a study, as far as it is known."""

    number: int
    state: str  # complete, pruned, fail, running or waiting
    score: float  # this and the next two are NaN where they are not known
    score_error: float  # standard error over the evaluation's episodes
    cost: float  # seconds of training, above 0
    agent_steps: int | None
    seed: int | None
    settings: dict[str, Any]  # what the sweep varies: values of fields by name, env.NAME for the environment's
    params: dict[str, Any]  # the same on the sampler's scale, such as `log2 num_envs`; the last ones if they changed
    is_log: dict[str, bool]  # by the same names: whether the sampler sees it on a logarithmic scale
    config: dict[str, Any] | None
    env: dict[str, Any]
    curve: np.ndarray  # float64 (points, 3): agent-steps, seconds (NaN if not known), score
    origin: int  # the trial that it repeats after its worker was killed; its own number if it repeats none
    problem: str | None  # of a failed one
    was_scheduled: bool  # whether its config changed while it trained

    def differs(self, other: "Trial") -> bool:
        """Whether the scores differ by more than noise; an error that is not known is taken for 0."""
        errors = (t.score_error if math.isfinite(t.score_error) else 0.0 for t in (self, other))
        return abs(self.score - other.score) > NOISE * math.hypot(*errors)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What is known of a sweep."""

    directory: Path
    about: dict[str, Any]  # sweep.json
    trials: list[Trial]  # without those that another trial repeats
    lost: int  # trials of killed workers, which others repeat
    wall_seconds: float | None  # from the first start to the last end of a trial

    @property
    def env(self) -> str:
        return str(self.about.get("env", "ENV"))

    @property
    def training_seconds(self) -> float:
        return sum(t.cost for t in self.trials if math.isfinite(t.cost))

    @property
    def complete(self) -> list[Trial]:
        """The trials that trained to their end and have a score."""
        return [t for t in self.trials if t.state == "complete" and math.isfinite(t.score)]

    @property
    def front(self) -> list[Trial]:
        """The Pareto front of score and cost, from the cheapest to the best."""
        front: list[Trial] = []
        priced = [t for t in self.complete if math.isfinite(t.cost)]
        for trial in sorted(priced, key=lambda t: (t.cost, -t.score, t.number)):
            if not front or trial.score > front[-1].score:
                front.append(trial)
        return front

    @property
    def best(self) -> list[Trial]:
        """The front or, if no trial has a cost, a few of the highest scores."""
        return self.front or sorted(self.complete, key=lambda t: -t.score)[:MOST_CONFIGURATIONS]

    @property
    def configurations(self) -> dict[str, Trial]:
        """Trials by the names of their files: the best one, and the best ones at a half, a quarter, ... of its cost."""
        front = self.front
        if not front:
            return dict(zip(["best.toml"], self.best, strict=False))
        chosen: dict[str, Trial] = {}
        for halvings in range(MOST_CONFIGURATIONS):
            affordable = [t for t in front if t.cost <= front[-1].cost / 2**halvings]
            if affordable and affordable[-1] not in chosen.values():
                chosen.setdefault(f"best-{_cost_in_name(affordable[-1].cost)}.toml", affordable[-1])
        return chosen

    @property
    def first(self) -> Trial | None:
        """The trial of the configuration that the sweep began with; None without a score, or if it was changed."""
        return next((t for t in self.complete if t.origin == 0 and not t.was_scheduled), None)


def read_sweep(directory: str | os.PathLike[str]) -> Summary:
    """Read a sweep's folder and its study.

    Raises:
        FileNotFoundError: there is no sweep in the folder, or its study is gone.
        ValueError: `sweep.json` or the study is not of a sweep.
    """
    path = Path(directory).expanduser()
    about = read_about(path)
    found = load_study(existing(path, about["storage"])).get_trials(deepcopy=False)
    starts = [t.datetime_start for t in found if t.datetime_start is not None]
    ends = [t.datetime_complete for t in found if t.datetime_complete is not None]
    kept = [t for t in found if not t.user_attrs.get("lost")]
    wall = (max(ends) - min(starts)).total_seconds() if starts and ends else None
    repeats = {t.number: t.user_attrs["retry_of"] for t in found if "retry_of" in t.user_attrs}
    return Summary(path, about, [_trial(t, repeats) for t in kept], len(found) - len(kept), wall)


def read_about(directory: Path) -> dict[str, Any]:
    """What sweep.json says.

    Raises:
        FileNotFoundError: there is no sweep in the folder.
        ValueError: the file is damaged.
    """
    file = directory / SETTINGS
    if not file.is_file():
        raise FileNotFoundError(f"there is no sweep in {directory}: it has no {SETTINGS}")
    try:
        about = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error})") from error
    if not isinstance(about, dict) or not isinstance(about.get("storage"), str):
        raise ValueError(f"{file} does not say where the study is: it has no storage")
    return about


def _trial(found: Any, repeats: Mapping[int, int]) -> Trial:
    """A trial from Optuna's; `repeats` has the number of the trial that another repeats."""
    attributes = found.user_attrs
    config, env = attributes.get("config"), attributes.get("env") or {}
    known = (config or {}) | {f"env.{name}": value for name, value in env.items()}
    settings = {field_of(name): known.get(field_of(name), natural(name, value)) for name, value in found.params.items()}
    reported = sorted(found.intermediate_values.items())
    score = found.value
    if found.state.name == "PRUNED" and score is None and reported:
        score = reported[-1][1]
    schedule = attributes.get("schedule") or []
    curve = attributes.get("curve") or [[step, None, value] for step, value in reported]
    points = np.array([[_number(x) for x in point] for point in curve], np.float64).reshape(-1, 3)
    cost = _number(attributes.get("cost"))
    origin = found.number
    while origin in repeats:
        origin = repeats[origin]
    return Trial(
        number=found.number,
        state=found.state.name.lower(),
        score=_number(score),
        score_error=_number(attributes.get("score_error")),
        cost=cost if cost > 0 else math.nan,
        agent_steps=attributes.get("agent_steps"),
        seed=attributes.get("seed"),
        settings=settings,
        params=found.params | (schedule[-1]["params"] if schedule else {}),
        is_log={name: bool(getattr(d, "log", False)) for name, d in found.distributions.items()},
        config=config,
        env=env,
        curve=points[np.isfinite(points[:, 2])],
        origin=origin,
        problem=attributes.get("problem"),
        was_scheduled=bool(schedule),
    )


def differing_settings(trials: Sequence[Trial]) -> list[str]:
    """The settings, of those that the sweep varies, that are not equal in all of these trials."""
    names = dict.fromkeys(name for trial in trials for name in trial.settings)
    return [name for name in names if any(t.settings.get(name) != trials[0].settings.get(name) for t in trials)]


def setting_in_words(value: Any) -> str:
    """A value with four digits, of whole numbers with all."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cost_in_name(seconds: float) -> str:
    """Such as 4.2s, 40s or 12m."""
    for unit, letter in ((3600.0, "h"), (60.0, "m")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f}{letter}" if seconds >= 10 * unit else f"{seconds / unit:.1f}{letter}"
    return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.2g}s"


def _number(value: Any) -> float:
    """The finite number, NaN for what is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan
