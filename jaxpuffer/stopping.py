"""Reasons to end a `fit` before its last step: a signal, or numbers that are not finite."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxpuffer.evaluate import all_finite
from jaxpuffer.ppo import first_not_finite
from jaxpuffer.saving import NotFiniteError


class Interruption:
    """The number of the signal that asked for an end, 0 if there was none."""

    number = 0


@contextlib.contextmanager
def interruptions() -> Iterator[Interruption]:
    """Records Ctrl-C, SIGTERM and SIGHUP, so that no chunk is interrupted; a second Ctrl-C raises as usual.

    Signals that the program handles or ignores itself are not recorded.
    """
    interrupted = Interruption()
    if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread only
        yield interrupted
        return

    def handler(number: int, frame: Any) -> None:
        if number == signal.SIGINT and interrupted.number:
            raise KeyboardInterrupt
        interrupted.number = number

    ours = set()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            ours.add(number)
    before = {number: signal.signal(number, handler) for number in ours}
    try:
        yield interrupted
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def check_finite(
    chunk: dict[str, np.ndarray], params: Any, updates: int, saved_steps: Callable[[], int], directory: Path | None
) -> None:
    """Raise for the first update of a chunk with numbers that are not finite, or for the parameters after it.

    The chunk follows `updates` earlier ones.

    Raises:
        NotFiniteError: it names the quantity and the update.
    """

    def kept() -> str:
        steps = saved_steps()
        return f"; the run in {directory} stays as it was at {steps:,} steps" if directory and steps >= 0 else ""

    if found := first_not_finite(chunk):
        i, what = found
        raise NotFiniteError(
            f"{what} in update {updates + i + 1}, before step {int(chunk['agent_steps'][i]):,}{kept()}"
        )
    if not all_finite(params):
        raise NotFiniteError(
            f"parameters are NaN or infinite after update {updates + len(chunk['agent_steps'])}{kept()}"
        )
