"""Report: everything that is known of a running `fit` after a chunk of updates, and its figures in words."""

import dataclasses
import datetime
import math
from collections.abc import Sequence

from jaxpuffer.evaluate import readable
from jaxpuffer.memory import GIB, device_memory, host_memory

Points = Sequence[tuple[int, float, float]]  # agent-steps and two figures each


@dataclasses.dataclass(frozen=True)
class Report:
    """A run after a chunk of updates."""

    environment: str  # its name and backend
    means: dict[str, float]  # of the chunk, as `fit` gives them to `log`
    total_steps: int  # agent-steps of the whole run
    average: float  # agent-steps per second since compilation, of the time for evaluations and saves too
    seconds: dict[str, float]  # of each part of the time since the call of `fit`, which are all of it
    curve: Points  # agent-steps, score and entropy of the chunks so far
    evaluated: Points = ()  # agent-steps, mean score, standard error of each evaluation
    saved: tuple[int, str] | None = None  # agent-steps of the last save, below 0 if there is none, and where it goes
    warnings: Sequence[str] = ()

    @property
    def agent_steps(self) -> int:
        """Since the start of the run."""
        return int(self.means["agent_steps"])

    @property
    def left(self) -> float:
        """Seconds until the last step, at the average speed."""
        return (self.total_steps - self.agent_steps) / self.average

    def progress(self) -> str:
        """Such as `1,280 of 5,000 steps`, or `12,288 of 40.00 M steps`."""
        return f"{count_in_words(self.agent_steps)} of {count_in_words(self.total_steps)} steps"

    def league(self) -> str:
        """How the learner does against its opponents, such as `Elo 212, wins 61 %, 8 policies`; empty without any."""
        figures = {name.removeprefix("league/"): x for name, x in self.means.items() if name.startswith("league/")}
        if not figures:
            return ""

        def share(name: str) -> str:
            return "unknown" if math.isnan(figures[name]) else f"{figures[name]:.0%}"

        anchor = f", {share('anchor_win_rate')} against anchors" if "anchor_win_rate" in figures else ""
        return f"Elo {figures['elo']:.0f}, wins {share('win_rate')}{anchor}, {figures['policies']:.0f} policies"

    def line(self) -> str:
        """The most important figures."""
        means = self.means
        parts = {
            "": self.progress(),
            "steps/s": f"{means['steps_per_second']:,.0f}",
            "score": readable(means["score"], 2),
            "policy loss": f"{means['policy_loss']:.4f}",
            "value loss": f"{means['value_loss']:.4f}",
            "entropy": f"{means['entropy']:.3f}",
            "left": duration(self.left),
        }
        if league := self.league():
            parts["league"] = league
        if self.evaluated:
            steps, score, _ = self.evaluated[-1]
            parts["evaluated"] = f"{readable(score, 2)} at {count_in_words(steps)} steps"
        if math.isnan(means["score"]):  # no episode has ended yet
            parts["score"] = f"unknown, reward {readable(means['reward'], 4)} per step"
        return "  ".join(f"{name} {value}".strip() for name, value in parts.items())


def unit_of(count: int) -> tuple[int, str]:
    """The unit in which to give a count of this size, and its letter: one, million or billion."""
    return next(((unit, letter) for unit, letter in ((10**9, "B"), (10**6, "M")) if count >= unit), (1, ""))


def count_in_words(count: int) -> str:
    """Such as `12,288`, or `3.70 M`."""
    unit, letter = unit_of(count)
    return f"{count / unit:.2f} {letter}" if letter else f"{count:,}"


def duration(seconds: float) -> str:
    """Such as `0.012 s`, `7.2 s`, or from a minute on hours, minutes and seconds, `0:01:30`."""
    if 0 < seconds < 0.1:
        return f"{seconds:.2g} s"
    return f"{seconds:.1f} s" if seconds < 60 else str(datetime.timedelta(seconds=int(seconds)))


def memory_in_words() -> str:
    """The memory in use now, as far as the system and the device tell it; empty if neither does."""
    host, device = host_memory(), device_memory()
    parts = []
    if host is not None:
        parts.append(f"host {host / GIB:.2f} GiB")
    if device is not None:
        used, limit = device
        parts.append(f"device {used / GIB:.2f} of {limit / GIB:.1f} GiB")
    return ", ".join(parts)
