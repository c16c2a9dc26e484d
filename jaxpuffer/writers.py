"""Writers: where the reports of `fit` go. `fit(..., log=)` takes one of these, a function, or a list of both.

A writer of your own is a class with the three methods of `Writer`. A writer that fails while training is a warning,
once, and is tried again at the next report; an exception of a plain function saves the run and ends it.
"""

import csv
import errno
import hashlib
import inspect
import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxpuffer.exits import one_line

FLUSH_SECONDS = 2.0  # between two flushes of TensorBoard's file, which wait for the disk


@runtime_checkable
class Writer(Protocol):
    """What `fit` calls: `open` once before training, the writer itself after each chunk, `close` at the end.

    If `__call__` has a parameter `policy`, it also gets the policy as it is then.
    """

    def open(self, run: dict[str, Any]) -> None:
        """Begin, or go on with a run that is resumed; an exception here ends `fit` before training.

        Args:
            run: what about.json says (docs/runs.md), `directory`, a Path or None, and `agent_steps`, from which the
                run goes on: what was written of later steps is superseded.
        """

    def __call__(self, steps: int, means: dict[str, float]) -> None:
        """Write a report: the agent-steps so far, and the metrics by name."""

    def close(self) -> None:
        """End, also after an exception."""


Log = Callable[..., None] | Writer


class CSV:
    """A table of comma-separated values, one line per report.

    When a run is resumed, the lines after the step that it goes on from are removed.

    Args:
        path: the file; by default metrics.csv in the run's folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = path
        self.names: list[str] = []

    def open(self, run: dict[str, Any]) -> None:
        self.file = Path(_place(self, self.path, run, "metrics.csv")).expanduser().absolute()
        if self.file.is_dir():
            raise IsADirectoryError(f"CSV's path is {self.file}; it must be a file, and this is a folder")
        resumes = run["agent_steps"] and self.file.is_file()
        rows = [row for row in self._rows() if int(row["agent_steps"]) <= run["agent_steps"]] if resumes else []
        self.names = list(rows[0]) if rows else []
        self._rewrite(rows)

    def __call__(self, steps: int, means: dict[str, float]) -> None:
        if new := [name for name in means if name not in self.names]:
            rows = self._rows()
            self.names = [*self.names, *new]
            self._rewrite(rows)
        append(self.file, ",".join(str(means.get(name, "")) for name in self.names) + "\n")

    def close(self) -> None:
        pass

    def _rows(self) -> list[dict[str, str]]:
        """The lines of the file, without a last one that was not written to its end."""
        text = self.file.read_text()
        return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        """Write the file again; there is no moment without one."""
        new = self.file.with_name(self.file.name + ".new")
        lines = [self.names, *([row.get(name) or "" for name in self.names] for row in rows)]
        new.write_text("".join(",".join(line) + "\n" for line in lines if line))
        os.replace(new, self.file)


class TensorBoard:
    """Event files for TensorBoard, through tensorboardX.

    When a run is resumed, TensorBoard hides what was written after the step that it goes on from.

    Args:
        directory: where the event file is written; by default the run's folder.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        _require("tensorboardX", type(self).__name__)
        self.directory = directory

    def open(self, run: dict[str, Any]) -> None:
        # SummaryWriter writes in a thread; on a full disk that thread ends, and the run would wait for it for ever
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import RecordWriter

        directory = Path(_place(self, self.directory, run, "")).expanduser().absolute()
        directory.mkdir(parents=True, exist_ok=True)
        name = (
            f"events.out.tfevents.{time.time_ns() // 10**9}.{socket.gethostname()}.{os.getpid()}.{len(run['starts'])}"
        )
        self.records = RecordWriter(str(directory / name))
        self.flushed_at = 0.0
        self._write(file_version="brain.Event:2")
        if run["agent_steps"]:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(step=run["agent_steps"] + 1, session_log=start)

    def __call__(self, steps: int, means: dict[str, float]) -> None:
        from tensorboardX.proto import summary_pb2

        values = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in means.items()]
        self._write(step=steps, summary=summary_pb2.Summary(value=values))
        if time.monotonic() - self.flushed_at >= FLUSH_SECONDS:
            self.records.flush()
            self.flushed_at = time.monotonic()

    def close(self) -> None:
        self.records.flush()
        self.records.close()

    def _write(self, **fields: Any) -> None:
        from tensorboardX.proto import event_pb2

        self.records.write(event_pb2.Event(wall_time=time.time(), **fields).SerializeToString())


class WandB:
    """Weights & Biases: a run with the settings, and the metrics over `agent_steps`.

    A run that is resumed goes on in the same run of Weights & Biases. With `mode="offline"`, or with `WANDB_MODE` set
    to it, nothing is sent: `wandb sync` does that later.

    Args:
        project: the project.
        kwargs: anything else that `wandb.init` takes, in place of what is given to it here.

    Raises:
        ImportError: wandb is not installed; or later OSError: it cannot begin, for example without a login.
    """

    def __init__(self, project: str = "jaxpuffer", **kwargs: Any) -> None:
        _require("wandb", type(self).__name__)
        self.settings = {"project": project} | kwargs

    def open(self, run: dict[str, Any]) -> None:
        import wandb

        settings: dict[str, Any] = {"config": {name: x for name, x in run.items() if name != "directory"}}
        if run["directory"] is not None:
            identity = f"{run['directory']} {run['starts'][0]['started']}"
            settings |= {
                "dir": str(run["directory"]),
                "name": run["directory"].name,
                "id": hashlib.sha256(identity.encode()).hexdigest()[:16],
                "resume": "allow",
            }
        try:
            self.run = wandb.init(**settings | self.settings)
        except wandb.errors.Error as error:
            raise OSError(
                f"Weights & Biases could not begin: {one_line(error)}; `wandb login` once, or set WANDB_MODE=offline"
            ) from error
        # by agent-steps: the steps of Weights & Biases cannot go back to where a run is resumed
        self.run.define_metric("agent_steps")
        self.run.define_metric("*", step_metric="agent_steps")

    def __call__(self, steps: int, means: dict[str, float]) -> None:
        self.run.log(means)

    def close(self) -> None:
        self.run.finish()


BY_NAME: dict[str, Callable[[], Writer]] = {"csv": CSV, "tensorboard": TensorBoard, "wandb": WandB}


def writers_named(names: str) -> list[Writer]:
    """The writers in a list such as "tensorboard,csv", with their defaults.

    Raises:
        ValueError: there is no writer of a name.
        ImportError: its package is not installed.
    """
    asked = [name.strip() for name in names.split(",")]
    for name in asked:
        if name not in BY_NAME:
            raise ValueError(f"log is {names!r}; it must be one or several of {', '.join(BY_NAME)}")
    return [BY_NAME[name]() for name in dict.fromkeys(asked)]


def as_logs(log: Log | Sequence[Log] | None) -> list[Log]:
    """The logs that `fit` was given, as a list.

    Raises:
        TypeError: one is neither a function of (steps, means) nor a writer.
    """
    logs: list[Any] = [] if log is None else [*log] if isinstance(log, list | tuple) else [log]
    for one in logs:
        if isinstance(one, type) or not callable(one):
            raise TypeError(f"log is {one!r}; it must be a function of (steps, means), a writer, or a list of these")
        try:
            inspect.signature(one).bind(0, {}, **({"policy": None} if takes_policy(one) else {}))
        except ValueError:  # it does not say what it takes
            pass
        except TypeError as error:
            raise TypeError(
                f"log is {one!r}; it must take (steps, means), and policy= if it wants that: {error}"
            ) from error
    return logs


def takes_policy(log: Log) -> bool:
    """Whether a log has a parameter named policy."""
    try:
        return "policy" in inspect.signature(log).parameters
    except ValueError:
        return False


def append(path: Path, line: str) -> None:
    """Append a line to a file as a whole, at once, or not at all.

    Raises:
        OSError: it cannot be written, for example because the disk is full; the file is as it was.
    """
    data = line.encode()
    with open(path, "ab", buffering=0) as file:
        end = file.tell()
        try:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(end)
            raise


def _place(writer: Writer, given: str | os.PathLike[str] | None, run: dict[str, Any], name: str) -> Any:
    if given is None and run["directory"] is None:
        raise ValueError(f"{type(writer).__name__} was not told where to write, and the run has no directory")
    return run["directory"] / name if given is None else given


def _require(package: str, name: str) -> None:
    try:
        __import__(package)
    except ImportError as error:
        raise ImportError(f"{name} needs {package}: pip install {package} (or 'jaxpuffer[log]')") from error
