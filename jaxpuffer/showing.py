"""The output of a running `fit`: its progress, and warnings about problems."""

import contextlib
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any, Protocol, Self

import numpy as np

from jaxpuffer.checkpoint import backend_of
from jaxpuffer.config import NO_REWARD_CLIP, PPOConfig
from jaxpuffer.ppo import SCORE_IS_NAN, has_score_of_nan
from jaxpuffer.registry import name_of
from jaxpuffer.report import Report
from jaxpuffer.saving import Saver

MOST_POINTS = 2000  # of a curve
CHOICES = (True, False, "dashboard", "line", "notebook")


class View(Protocol):
    """A way to show reports on stderr or in a notebook."""

    seconds: float  # the least time between two reports, except after the first and before the last

    def compiling(self) -> contextlib.AbstractContextManager[None]: ...

    def show(self, report: Report) -> None: ...

    def close(self) -> None: ...


class Lines:
    """A plain line for each report, for output that is not a terminal."""

    seconds = 10.0

    def __init__(self) -> None:
        self.last = -1  # agent-steps

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Say that it compiles."""
        print("compiling ...", file=sys.stderr, flush=True)
        yield

    def show(self, report: Report) -> None:
        """Print a line."""
        if report.agent_steps != self.last:
            print(report.line(), file=sys.stderr, flush=True)
        self.last = report.agent_steps

    def close(self) -> None:
        """Nothing is left to do."""


def view_of(progress: bool | str) -> View | None:
    """The view for `fit`'s `progress`; None for False.

    Raises:
        ValueError: `progress` is none of True, False and the names of views.
        ImportError: a notebook's cell is asked for, and IPython is not installed.
    """
    if not isinstance(progress, bool | str) or progress not in CHOICES:
        raise ValueError(f"progress is {progress!r}; it must be one of {', '.join(map(repr, CHOICES))}")
    if progress is False:
        return None
    # what draws is imported only where it is used
    if progress == "notebook" or (progress is True and _in_notebook()):
        from jaxpuffer.notebook import Cell

        return Cell()
    terminal = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    if progress == "dashboard" or (progress is True and terminal):
        from jaxpuffer.dashboard import Dashboard

        return Dashboard()
    return Lines()


def _in_notebook() -> bool:
    """Whether a notebook's kernel runs this program."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class Progress:
    """Shows a running `fit` through a view, and measures where its time goes.

    Args:
        view: None shows nothing.
        updates: made before this call of `fit`.
        began: the time of its call, by `time.perf_counter`.
        saver, warn: the run's, which say what was last saved, and what was warned of.
    """

    def __init__(
        self, view: View | None, env: Any, config: PPOConfig, updates: int, began: float, saver: Saver, warn: "Warnings"
    ) -> None:
        self.view, self.config, self.began, self.saver, self.warn = view, config, began, saver, warn
        self.environment = f"{name_of(env) or getattr(env, 'name', type(env).__name__)} ({backend_of(env)})"
        self.first_steps = updates * config.batch_size
        self.seconds = dict.fromkeys(("training", "evaluation", "saving", "logging", "display"), 0.0)
        self.evaluated: list[tuple[int, float, float]] = []
        self.curve: list[tuple[int, float, float]] = []
        self.means: dict[str, float] = {}
        self.shown = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.view is not None:
            self._show()
        if self.view is not None:
            self.view.close()

    def compiling(self) -> contextlib.AbstractContextManager[None]:
        """Show that what is inside compiles."""
        return contextlib.nullcontext() if self.view is None else self._compiling(self.view)

    @contextlib.contextmanager
    def _compiling(self, view: View) -> Iterator[None]:
        with contextlib.ExitStack() as shown:
            try:
                shown.enter_context(view.compiling())
            except OSError:  # nobody reads the output any more; the run goes on
                self.view = None
            yield

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the time of what is inside for a part of the run."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - began

    def __call__(self, means: dict[str, float]) -> None:
        """Show the run after a chunk of updates, if the last report is old enough."""
        self.means = means
        self.seconds["training"] += means["chunk_seconds"]
        steps = int(means["agent_steps"])
        self.curve.append((steps, means["score"], means["entropy"]))
        if len(self.curve) > MOST_POINTS:  # of a long run the older part is drawn with fewer points
            del self.curve[1::2]
        if "evaluated_score" in means:
            self.evaluated.append((steps, means["evaluated_score"], means["evaluated_score_error"]))
        if self.view is not None and time.perf_counter() - self.shown >= self.view.seconds:
            with self.timed("display"):
                self._show()
            self.shown = time.perf_counter()

    def _show(self) -> None:
        if self.view is None or not self.means:
            return
        elapsed = time.perf_counter() - self.began
        compilation = self.means["compile_seconds"]
        seconds = {"compilation": compilation, **self.seconds}
        seconds["other"] = max(0.0, elapsed - sum(seconds.values()))
        batch_size, directory = self.config.batch_size, self.saver.directory
        report = Report(
            environment=self.environment,
            means=self.means,
            total_steps=self.config.num_updates * batch_size,
            average=(self.means["agent_steps"] - self.first_steps) / max(elapsed - compilation, 1e-9),
            seconds=seconds,
            curve=self.curve,
            evaluated=self.evaluated,
            saved=None if directory is None else (self.saver.updates * batch_size, str(directory)),
            warnings=list(self.warn.said.values()),
        )
        try:
            self.view.show(report)
        except OSError:  # the terminal is gone, and nobody can see it; the run goes on
            self.view = None


class Warnings:
    """Warns once about each problem that is not an error, with a suggestion."""

    def __init__(self, config: PPOConfig) -> None:
        self.config = config
        self.episodes = 0.0
        self.first_entropy: float | None = None
        self.said: dict[str, str] = {}  # messages by the kind of problem

    def __call__(self, chunk: dict[str, np.ndarray], updates: int) -> None:
        """Check after `updates` in total, of which the last ones have the metrics `chunk`."""
        self.episodes += float(chunk["episodes"].sum())
        entropy = float(chunk["entropy"][-1])
        if self.first_entropy is None:
            self.first_entropy = float(chunk["entropy"][0])
        steps = updates * self.config.batch_size
        clipped = float(chunk["reward_clipped"].mean())
        if clipped > 0.1:
            self._once("reward", f"{clipped:.0%} of the rewards are outside reward_clip; try a larger one")
        elif clipped > 0 and float(self.config.reward_clip) >= 0.99 * NO_REWARD_CLIP:  # which was not meant to clip any
            self._once("reward", f"{clipped:.2%} of the rewards are outside reward_clip; try a smaller reward_scale")
        beyond = float(chunk["reward_out_of_range"].max())
        if beyond > 0:
            self._once(
                "reward size",
                f"{beyond:.0%} of the rewards are smaller than 1e-15 or larger than 1e15, outside of float32; "
                "set reward_scale so that they are near 1",
            )
        unknown = float(chunk["observation_out_of_range"].max())
        if unknown > 0:
            self._once(
                "observation",
                f"{unknown:.0%} of what is observed is lost to the network: tiles outside the observation space, or "
                "floats that vary by less than 1e-18 or more than 1e18",
            )
        if has_score_of_nan(chunk):
            self._once("score", SCORE_IS_NAN)
        wild = float(chunk["value_out_of_range"].mean())
        if wild > 0.1 and updates >= 10:
            self._once("value", f"{wild:.0%} of the values are far from all returns; try a lower learning_rate")
        # differential entropy can be below zero and says less
        if (
            self.first_entropy > 0
            and 0 <= entropy < 0.01 * self.first_entropy
            and 4 * updates < self.config.num_updates
        ):
            self._once(
                "entropy",
                f"entropy fell to {entropy:.3g} early, at {steps:,} steps; "
                "unless the score is good, try a larger entropy_coefficient",
            )
        if not self.episodes and updates >= 10 and 10 * updates >= self.config.num_updates:
            self._once("episodes", f"no episode has ended in {steps:,} steps; does the environment have a time limit?")

    def _once(self, kind: str, message: str) -> None:
        if kind not in self.said:
            self.said[kind] = message
            warnings.warn(message, RuntimeWarning, stacklevel=4)
