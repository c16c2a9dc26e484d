"""One side of a comparison: prints what it is, then does what each line of stdin says. Imports neither side's code."""

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(
    prepare: Callable[[], tuple[Any, int]],
    packages: tuple[str, ...],
    seconds: float,
    versions: dict[str, str] | None = None,
) -> None:
    """`prepare()` gives (run, rows): `run(steps)` takes that many steps of `rows` agents and waits for them.

    `versions` are those of software that is not an installed package. To the line `measure` the answer is the time
    of many steps. To `play` it is what random play gives: `run.play()` are steps, and of all rows together the sum of
    rewards and the number of ended episodes, None where a side does not say.
    """
    # what a library prints is no answer
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(record: dict[str, Any]) -> None:
        print(json.dumps(record), file=answers, flush=True)

    began = time.perf_counter()
    run, rows = prepare()
    run(1)
    compile_seconds = time.perf_counter() - began

    steps = enough_steps(run, seconds)
    versions = (versions or {}) | {name: importlib.metadata.version(name) for name in packages}
    versions["python"] = sys.version.split()[0]
    answer({"versions": versions, "compile_seconds": compile_seconds, "steps": steps, "rows": rows})
    for line in sys.stdin:
        if line.strip() == "play":
            played, reward, ended = run.play()
            length = None if ended is None else played * rows / max(ended, 1)
            answer({"reward_per_step": reward / (played * rows), "steps_per_episode": length})
        else:
            spent = timed(run, steps)
            answer({"seconds": spent, "steps_per_second": steps * rows / spent})


def timed(run: Callable[[int], None], steps: int) -> float:
    """Seconds that `run(steps)` takes."""
    began = time.perf_counter()
    run(steps)
    return time.perf_counter() - began


def enough_steps(run: Callable[[int], None], seconds: float) -> int:
    """How many steps take at least `seconds`."""
    steps = 1
    while (spent := timed(run, steps)) < seconds:
        # at most ten times as many at once: the first calls say little
        steps = max(steps + 1, int(steps * min(10.0, 1.2 * seconds / spent)))
    return steps
