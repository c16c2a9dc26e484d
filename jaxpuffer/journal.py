"""Journal: what `fit` writes about a run while it trains, and whom it tells: about.json, metrics.jsonl and `log`.

Both files are readable after a kill at any moment: about.json is replaced in one step, and a line of metrics.jsonl is
written at once. A run that is resumed goes on from its last save; the lines after that are removed then. No problem
with these files ends a run. `jaxpuffer.runs` reads them.
"""

import contextlib
import datetime
import functools
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp

from jaxpuffer.devices import available_cores
from jaxpuffer.exits import one_line, warn
from jaxpuffer.policy import Policy
from jaxpuffer.runs import ABOUT, METRICS, json_lines
from jaxpuffer.writers import Log, Writer, append, takes_policy


class Journal:
    """Writes and tells what happens between `with` and its end.

    Args:
        directory: the run's folder, None for a run that is not saved.
        logs: functions and writers.
        description: what run.json says (`checkpoint.describe`) at the start, and `start_from`, the directory of the
            run whose policy this one goes on with, or None.
        total_steps: agent-steps at the run's end.

    Attributes:
        ended: how the run ended; "finished" unless an exception passes, or somebody sets another word.
    """

    def __init__(
        self, directory: Path | None, logs: Sequence[Log], description: dict[str, Any], total_steps: int
    ) -> None:
        self.directory = directory
        self.logs = [(log, takes_policy(log)) for log in logs]
        self.ended = "finished"
        self.agent_steps: int = description["agent_steps"]
        of_start = ("updates", "agent_steps", "saved", "device", "devices", "versions", "start_from")
        start = {
            "started": now(),
            "agent_steps": self.agent_steps,
            "command": sys.orig_argv,
            "start_from": description["start_from"],
            "git": git_state() if directory is not None or any(isinstance(log, Writer) for log in logs) else None,
            "machine": machine() | {"device": description["device"], "devices": description["devices"]},
            "versions": description["versions"],
            "ended": None,
        }
        self.about = {name: value for name, value in description.items() if name not in of_start}
        self.about |= {"total_steps": total_steps, "starts": [*self._earlier_starts(), start]}
        self.run_seconds = self.train_seconds = 0.0  # of earlier starts; train_seconds also of this one
        self.said: set[str] = set()
        self.opened = contextlib.ExitStack()

    def __enter__(self) -> Self:
        run = self.about | {"directory": self.directory, "agent_steps": self.agent_steps}
        try:
            for log, _ in self.logs:
                if isinstance(log, Writer):
                    log.open(run)
                    self.opened.callback(self._guarded, log, log.close)
        except BaseException:
            self.opened.close()
            raise
        self._guarded(ABOUT, self._write_about)
        self._guarded(METRICS, self._begin_metrics)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self.opened.close()
        ended = {"how": self.ended, "at": now()}
        if isinstance(error, Exception):
            ended |= {"how": "failed", "problem": one_line(error)}
        elif kind is not None:
            ended["how"] = "interrupted"
        self.about["starts"][-1]["ended"] = ended
        self._guarded(ABOUT, self._write_about)

    def __call__(self, means: dict[str, float], policy: Callable[[], Policy]) -> None:
        """Write and tell a report, with `run_seconds` and `train_seconds` added to it.

        Args:
            means: the metrics of a chunk, with `agent_steps`, `seconds` and `chunk_seconds`.
            policy: gives the policy as it is now.
        """
        self.train_seconds += means["chunk_seconds"]
        means |= {"run_seconds": self.run_seconds + means["seconds"], "train_seconds": self.train_seconds}
        self._guarded(METRICS, functools.partial(self._write_line, means))
        steps = int(means["agent_steps"])
        for log, with_policy in self.logs:
            # a copy, since the next chunk overwrites the parameters
            also = {"policy": jax.tree.map(jnp.copy, policy())} if with_policy else {}
            if isinstance(log, Writer):
                self._guarded(log, functools.partial(log, steps, dict(means), **also))
            else:
                log(steps, means, **also)

    def _earlier_starts(self) -> list[dict[str, Any]]:
        if self.directory is None or not self.agent_steps:
            return []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return list(json.loads((self.directory / ABOUT).read_text())["starts"])
        return []

    def _write_about(self) -> None:
        if self.directory is None:
            return
        write_json(self.directory / ABOUT, self.about)

    def _begin_metrics(self) -> None:
        """Remove the lines after the step from which the run goes on."""
        if self.directory is None or not (self.directory / METRICS).is_file():
            return
        end, last = 0, dict[str, Any]()
        for after, row in json_lines(self.directory / METRICS):
            if row["agent_steps"] > self.agent_steps:
                break
            end, last = after, row
        os.truncate(self.directory / METRICS, end)
        self.run_seconds = last.get("run_seconds") or 0.0
        self.train_seconds = last.get("train_seconds") or 0.0

    def _write_line(self, means: dict[str, float]) -> None:
        if self.directory is not None:
            values = {name: value if math.isfinite(value) else None for name, value in means.items()}
            append(self.directory / METRICS, json.dumps(values) + "\n")

    def _guarded(self, what: Any, action: Callable[[], Any]) -> None:
        """Do it; a failure is a warning, once for each file and writer."""
        try:
            action()
        except Exception as error:  # writers raise many kinds
            name = what if isinstance(what, str) else type(what).__name__
            if name not in self.said:
                self.said.add(name)
                where = f" in {self.directory}" if self.directory else ""
                warn(f"writing {name}{where} failed ({one_line(error)[:200]}); the run goes on")


def write_json(file: Path, content: dict[str, Any], allow_nan: bool = True) -> None:
    """Write a JSON file, or replace it in one step.

    Raises:
        ValueError: a number is NaN or infinite, and `allow_nan` is False.
    """
    new = file.with_name(f"{file.name}.new")
    new.write_text(json.dumps(content, indent=2, allow_nan=allow_nan) + "\n")
    os.replace(new, file)


def cpu_model() -> str:
    """The name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def machine() -> dict[str, Any]:
    """The machine that this process runs on."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": cpu_model(),
        "cores": available_cores(),
    }


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def git_state() -> dict[str, Any] | None:
    """The commit of the working directory, and whether files that git tracks differ from it; None outside of git."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {
            "folder": git("rev-parse", "--show-toplevel"),
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        }
    except (OSError, subprocess.SubprocessError):
        return None
