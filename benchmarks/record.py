"""Shared by all benchmarks: threads, timing, a description of the machine, JSON and tables.

A record is a dict. It holds every raw timing and everything needed to judge it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.peer_scripts.serve import enough_steps, timed

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 3
SECONDS = 0.3  # a repeat takes at least this
PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax")


def positive(text: str) -> int:
    """A command-line argument that is an integer of at least 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small; it must be at least 1")
    return number


def positives(text: str) -> list[int]:
    """Several of them, separated by commas."""
    return [positive(number) for number in text.split(",")]


def use_threads(threads: int | None) -> int:
    """Limit this process to `threads` processors; call it before JAX is imported. Returns their number.

    XLA makes one thread for each processor that the process may use, so this limits the threads.
    """
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "jax" in sys.modules:
        raise RuntimeError("choose the threads before JAX is imported")
    if not hasattr(os, "sched_setaffinity"):
        raise RuntimeError(f"--threads needs sched_setaffinity, which {platform.system()} does not have")
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(allowed):
        raise SystemExit(f"--threads is {threads}; it must be from 1 to {len(allowed)}, the processors of this process")
    os.sched_setaffinity(0, allowed[:threads])
    return threads


def time_steps(run: Callable[[int], None], repeats: int = REPEATS, seconds: float = SECONDS) -> tuple[int, list[float]]:
    """Call `run(steps)`, with the number of steps that takes at least `seconds`, `repeats` times: (steps, timings)."""
    steps = enough_steps(run, seconds)
    return steps, [timed(run, steps) for _ in range(repeats)]


def particulars(kind: str, seed: int, threads: int) -> dict[str, Any]:
    """The entries that every record has: kind, machine, versions, flags and commit."""
    from jaxpuffer.journal import cpu_model  # imports JAX, which `use_threads` must come before

    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    try:
        from envs_c import _core

        versions |= {"compiler": _core.COMPILER, "flags": _core.FLAGS}
    except ImportError:
        pass
    return {
        "kind": kind,
        "seed": seed,
        "threads": threads,
        "hardware": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": platform.platform(),
        },
        "load_before": list(os.getloadavg()),
        "versions": versions,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": _commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def ratios(a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
    """The ratios a[i] / b[i]: each one, the median, the smallest and the largest."""
    each = [x / y for x, y in zip(a, b, strict=True)]
    return {"median": statistics.median(each), "least": min(each), "greatest": max(each), "each": each}


def write(path: str | Path | None, records: list[dict[str, Any]]) -> None:
    """Write records as JSON, if there is a path."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(records, indent=1) + "\n")


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout."""
    import rich.console
    import rich.table

    table = rich.table.Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    # a file or a pipe has no width
    rich.console.Console(width=None if sys.stdout.isatty() else 200).print(table)


def child_environment(**changes: str) -> dict[str, str]:
    """The environment of a subprocess that imports from this checkout."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **changes}


def _commit() -> str:
    """The commit, marked if the working tree differs from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
