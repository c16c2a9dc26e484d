"""What runs left behind, read from their folders: a table of runs, their metrics, and how they differ.

    RUN/about.json      settings; each start with its machine, versions, commit and command line; how it ended
    RUN/metrics.jsonl   one JSON object per report of `fit`
    RUN/run.json        what is saved (checkpoint.py)

`journal.py` writes the first two. No checkpoint is read, so that hundreds of runs are listed in no time.
"""

import contextlib
import difflib
import json
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxpuffer.exits import one_line

ABOUT, METRICS, SAVED, LOCK = "about.json", "metrics.jsonl", "run.json", "lock"
DEPTH = 4  # levels of folders that are searched for runs

FIELDS = (
    *("run", "env", "backend", "seed", "state", "problem", "steps", "total_steps", "saved_steps", "score"),
    *("evaluated_score", "steps_per_second", "seconds", "date", "device", "devices", "host", "commit"),
    *("module", "start_from"),
)
RESULTS = ("state", "steps", "saved_steps", "score", "evaluated_score", "steps_per_second", "seconds", "date")

_PATH = str | os.PathLike[str]


def table(
    folder: _PATH = "runs", *, filters: Iterable[str] = (), sort: str = "date", descending: bool = False
) -> list[dict[str, Any]]:
    """The runs in a folder and in the folders below it, as `pandas.DataFrame(table(folder))` takes them.

    Every row has the same fields, None where a run does not have one:

    - `run`, its folder; `env`, `backend`, `seed`;
    - `state`: running, finished, interrupted (go on with `resume`), failed (with `problem`), not saved (it ended
      before its first save), damaged (with `problem`), or no run (a folder in `folder` without any run);
    - `steps`, reported so far; `total_steps`; `saved_steps`; `score`, of the last report; `evaluated_score`, the best
      one of the checkpoints that are kept and of the last report; `steps_per_second`, of training; `seconds`, of all
      starts; `date`, of the first start (ISO 8601, UTC);
    - `device`, `devices`, `host`, `commit` (with a + if files differed from it), `module`, the class of a network of
      one's own, `start_from`, `version.NAME`, `config.NAME` and `env.NAME`, the environment's parameters.

    Args:
        folder: a folder of runs, or one run.
        filters: conditions such as `"env=breakout"`, `"config.learning_rate<=0.01"` or `"state!=finished"`; the
            operators are = != < <= > >=. A run is in the table if it meets all.
        sort: the field to sort by; runs without it come last.
        descending: the largest first.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a filter cannot be read, or it or `sort` names a field that no run has.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    rows = [read_run(path) for path in _find(root, DEPTH)]
    for path in sorted(root.iterdir()):
        if not _is_run(root) and path.is_dir() and not path.name.startswith(".") and not _find(path, DEPTH - 1):
            rows.append({"run": str(path), "state": "no run"})
    fields = list(dict.fromkeys(name for row in [read_run(None), *rows] for name in row))
    rows = [{name: row.get(name) for name in fields} for row in rows]
    for text in filters:
        meets = _condition(text, fields, bool(rows))
        rows = [row for row in rows if meets(row)]
    _check_field(sort, fields, "sort", bool(rows))
    known = [row for row in rows if _sortable(row[sort])]
    known.sort(key=lambda row: (isinstance(row[sort], str), row[sort]), reverse=descending)
    return known + [row for row in rows if not _sortable(row[sort])]


def read_run(run: _PATH | None) -> dict[str, Any]:
    """One row of `table`, with the fields that this run has; None gives a row without values."""
    row: dict[str, Any] = dict.fromkeys(FIELDS)
    if run is None:
        return row
    path = Path(run).expanduser()
    row["run"] = str(run)
    try:
        saved, about = _read_json(path / SAVED), _read_json(path / ABOUT)
        if saved is None and about is None:
            return row | {"state": "no run"}
        settings = saved or about or {}
        _check(settings, saved, path)
        row |= _settings(settings, about)
        if saved:
            steps = saved["agent_steps"]
            row["saved_steps"] = row["steps"] = max(steps, default=0) if isinstance(steps, list) else steps
        if about or not saved:
            row |= _last_report(path / METRICS)
        evaluations = [entry.get("evaluated_score") for entry in (saved or {}).get("checkpoints", [])]
        known = [score for score in [row["evaluated_score"], *evaluations] if score is not None]
        row["evaluated_score"] = max(known, default=None)
        row |= _state(path, row, saved is not None, about)
    except (OSError, ValueError, TypeError, KeyError) as error:
        row |= {"state": "damaged", "problem": one_line(error)}
    return row


def read_metrics(run: _PATH) -> dict[str, np.ndarray]:
    """What a run reported: a column (reports,) for each metric, as `pandas.DataFrame(read_metrics(run))` takes it.

    `agent_steps` is int64 and increases; the others are float64, NaN where a report has no value. A line that was
    not written to its end is left out.

    Raises:
        FileNotFoundError: the folder has no metrics: it is no run of `fit`, or one that has not reported yet.
    """
    path = Path(run).expanduser() / METRICS
    if not path.is_file():
        raise FileNotFoundError(f"there is no {METRICS} in {path.parent}")
    rows: list[dict[str, Any]] = []
    for _, row in json_lines(path):
        # after a resume that could not remove what followed the save, the later lines count
        while rows and rows[-1]["agent_steps"] >= row["agent_steps"]:
            rows.pop()
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: np.array([_number(row.get(name)) for row in rows], np.float64) for name in names}
    return columns | {"agent_steps": np.array([row["agent_steps"] for row in rows], np.int64)}


def compare(runs: Sequence[_PATH]) -> dict[str, list[Any]]:
    """What differs between runs: for each field of `table` the values, one for each run.

    Settings that all runs share are left out; the results, `runs.RESULTS`, are always there, in the end.
    `pandas.DataFrame(compare(runs), index=runs)` takes it.

    Raises:
        ValueError: there are fewer than two runs, or one of them is damaged or no run.
    """
    if len(runs) < 2:
        raise ValueError(f"{len(runs)} run given; comparing takes two or more")
    rows = readable_runs(runs)
    fields = dict.fromkeys(name for row in rows for name in row if name not in ("run", "problem", *RESULTS))
    settings = {name: [row.get(name) for row in rows] for name in fields}
    differing = {name: values for name, values in settings.items() if any(value != values[0] for value in values)}
    return differing | {name: [row.get(name) for row in rows] for name in RESULTS}


def readable_runs(runs: Iterable[_PATH]) -> list[dict[str, Any]]:
    """The rows of these runs.

    Raises:
        ValueError: one of them is damaged or no run.
    """
    rows = [read_run(run) for run in runs]
    for row in rows:
        if row["state"] in ("damaged", "no run"):
            raise ValueError(f"{row['run']} is {row['state']}" + (f": {row['problem']}" if row["problem"] else ""))
    return rows


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The reports in a metrics file, each with the offset of its end in bytes; torn lines are skipped."""
    end = 0
    with open(path, "rb") as file:
        for line in file:
            end += len(line)
            row = _report(line)
            if row is not None and line.endswith(b"\n"):
                yield end, row


def _report(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        row = json.loads(line)
        if isinstance(row, dict) and type(row.get("agent_steps")) is int:
            return row
    return None


def _last_report(path: Path) -> dict[str, Any]:
    """The fields of a row that the last line has."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 2**16))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return {}
    last = next((row for line in reversed(lines) if (row := _report(line))), None)
    if last is None:
        return {}
    seconds, steps = last.get("train_seconds"), last["agent_steps"]
    return {
        "steps": steps,
        "score": last.get("score"),
        "evaluated_score": last.get("evaluated_score"),
        "steps_per_second": steps / seconds if seconds else None,
        "seconds": last.get("run_seconds"),
    }


def _find(folder: Path, depth: int) -> list[Path]:
    """The runs in a folder and below, by name; what is inside a run is not searched."""
    if _is_run(folder):
        return [folder]
    if not depth:
        return []
    try:
        inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and p.name[0] != ".")
    except OSError:
        return []
    return [run for path in inside for run in _find(path, depth - 1)]


def _is_run(folder: Path) -> bool:
    return (folder / SAVED).is_file() or (folder / ABOUT).is_file()


def _read_json(path: Path) -> dict[str, Any] | None:
    """What the file says, None if there is none."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path.name} is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content


def _check(settings: dict[str, Any], saved: dict[str, Any] | None, path: Path) -> None:
    """Raise a ValueError if the files cannot be those of a run."""
    file = ABOUT if saved is None else SAVED
    for name, kind in (("class", str), ("backend", str), ("config", dict), ("parameters", dict)):
        if not isinstance(settings.get(name), kind):
            raise ValueError(f"{file} has no {name}")
    if saved is None:
        return
    if not isinstance(saved.get("agent_steps"), int | list):
        raise ValueError(f"{file} has no agent_steps")
    if not isinstance(saved.get("checkpoint"), str) or not (path / saved["checkpoint"]).is_dir():
        raise ValueError(f"its checkpoint, {saved.get('checkpoint')}, is missing")


def _settings(settings: dict[str, Any], about: dict[str, Any] | None) -> dict[str, Any]:
    """The fields of a row that say how a run was started."""
    row = {
        "env": settings.get("environment") or settings["class"].rpartition(".")[2],
        "backend": settings["backend"],
        "seed": settings.get("seed"),
        "module": settings.get("module"),
        "total_steps": settings["config"].get("total_steps"),
        "date": settings.get("saved"),
        "device": settings.get("device"),
        "devices": settings.get("devices"),
    }
    versions = settings.get("versions", {})
    if about:
        first, last = about["starts"][0], about["starts"][-1]
        machine, git, versions = last["machine"], last["git"], last["versions"]
        row |= {name: machine[name] for name in ("device", "devices", "host")}
        row |= {"date": first["started"], "start_from": first["start_from"], "total_steps": about["total_steps"]}
        row["commit"] = git and git["commit"][:12] + "+" * git["dirty"]
    for group, values in (("version", versions), ("config", settings["config"]), ("env", settings["parameters"])):
        row |= {f"{group}.{name}": value for name, value in values.items()}
    return row


def _state(path: Path, row: dict[str, Any], saved: bool, about: dict[str, Any] | None) -> dict[str, Any]:
    ended = (about["starts"][-1]["ended"] if about else None) or {}
    if _is_locked(path / LOCK):
        return {"state": "running"}
    if ended.get("how") == "failed":
        return {"state": "failed", "problem": ended.get("problem")}
    if not saved:
        return {"state": "not saved"}
    # a process that was killed did not say how it ended
    done = row["total_steps"] is not None and row["saved_steps"] >= row["total_steps"]
    return {"state": ended.get("how") or ("finished" if done else "interrupted")}


def _is_locked(lock: Path) -> bool:
    """Whether a process holds the lock of a run (`checkpoint.claim`)."""
    try:
        # the holder is named in the file until it ends; only a kill leaves the name there
        if not lock.read_text().strip():
            return False
        import fcntl
    except FileNotFoundError:
        return False
    except ImportError:  # without locks the name is all there is
        return True
    with open(lock) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le, ">=": operator.ge, "!=": operator.ne, "=": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip


def _condition(text: str, fields: Sequence[str], any_run: bool) -> Callable[[dict[str, Any]], bool]:
    """The condition that a filter states."""
    match = re.fullmatch(r"\s*([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*", text)
    if not match:
        raise ValueError(f"filter is {text!r}; it must be FIELD=VALUE, or with one of != < <= > >=")
    field, sign, value = match.groups()
    _check_field(field, fields, "filter", any_run)
    compared = _OPERATORS[sign]
    try:
        number: float | None = {"true": 1.0, "false": 0.0}.get(value.lower()) if value else None
        number = float(value) if number is None else number
    except ValueError:
        number = None

    def meets(row: dict[str, Any]) -> bool:
        there = row[field]
        if there is None or isinstance(there, list | dict):
            return sign == "!="
        if isinstance(there, str):
            return compared(there, value)
        if number is None:
            raise ValueError(f"filter is {text!r}; {field} is a number, and {value!r} is none")
        # configurations are float32
        return compared(0.0 if math.isclose(there, number, rel_tol=1e-6) else there - number, 0.0)

    return meets


def _check_field(name: str, fields: Sequence[str], argument: str, any_run: bool) -> None:
    if name not in fields and any_run:
        near = difflib.get_close_matches(name, fields, 1)
        raise ValueError(
            f"{argument} names {name!r}, which no run has" + (f"; did you mean {near[0]}?" if near else "")
        )


def _sortable(value: Any) -> bool:
    return isinstance(value, str | int | float) and value == value


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
