"""Saver: saves the run of a `fit` in its directory, from time to time and at the end."""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from jax import Array

from jaxpuffer.checkpoint import best_of, checkpoints, copied, read_record, store
from jaxpuffer.config import PPOConfig
from jaxpuffer.exits import one_line, warn
from jaxpuffer.ppo import Result


class NotFiniteError(FloatingPointError):
    """The run's own numbers are not finite, and must not be saved."""


class Saver:
    """Saves the run in `directory`, unless that is None or nothing is new since the last save.

    Numbers are copied at once, and written by a thread while training goes on.

    Args:
        run: the current run, (updates, a function that gives the result).
        updates: number of updates at the last save, -1 if there was none; kept up to date.
        seconds: time between two saves.
        keep: number of last checkpoints to keep, besides the one with the best evaluated score.
        several: the run is on devices of several processes, and all of them save together, at the same updates.
    """

    def __init__(
        self,
        directory: Path | None,
        key: Array,
        config: PPOConfig,
        run: Callable[[], tuple[int, Callable[[], Result]]],
        updates: int,
        seconds: float,
        keep: int = 1,
        several: bool = False,
    ) -> None:
        self.directory, self.key, self.config, self.run = directory, key, config, run
        self.updates, self.seconds, self.keep, self.several = updates, seconds, keep, several
        self.saved_at = time.perf_counter()
        self.evaluated: tuple[int, float] | None = None  # updates, score
        self.best = -math.inf
        if directory is not None and updates >= 0:
            entry = best_of(checkpoints(read_record(directory)))
            self.best = entry["evaluated_score"] if entry else self.best
        self._thread: ThreadPoolExecutor | None = None
        self._writing: tuple[int, float | None, Future[None]] | None = None

    def save(self) -> None:
        """Save what there is, and wait for it; a save that fails is a warning, because it must not end the run."""
        self.begin()
        self.wait()

    def is_due(self, score: float | None = None) -> bool:
        """Whether the last save is old enough, or the run was evaluated with the best score so far, `score`."""
        if self.directory is None:
            return False
        if self._writing is not None and self._writing[-1].done():
            self.wait()  # so that a failure is known now
        if score is not None and not math.isnan(score):
            self.evaluated = self.run()[0], score
        best = score is not None and score > self.best
        old = time.perf_counter() - self.saved_at >= self.seconds
        return best or (old and self._writing is None)

    def begin(self) -> None:
        """Begin to save, if anything is new."""
        self.wait()
        updates, result = self.run()
        if self.directory is None or self.updates == updates:
            return
        self.saved_at = time.perf_counter()
        score = self.evaluated[1] if self.evaluated and self.evaluated[0] == updates else None
        try:
            arrays, record = copied(result(), self.key, self.several)
        except Exception as error:  # no memory for a copy
            self._warn(error)
            return
        work = functools.partial(store, arrays, record, self.directory, self.keep, score, self.several)
        if self.several:  # the processes must exchange in the same order
            self._writing = updates, score, Future()
            try:
                self._writing[-1].set_result(work())
            except Exception as error:
                self._writing[-1].set_exception(error)
            self.wait()
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "save")
        self._writing = updates, score, self._thread.submit(work)

    def wait(self) -> None:
        """Wait until what is being written is written, or has failed."""
        if self._writing is None:
            return
        (updates, score, writing), self._writing = self._writing, None
        try:
            writing.result()
            self.updates = updates
            self.best = max(self.best, -math.inf if score is None else score)
        except Exception as error:  # Orbax raises many kinds
            self._warn(error)

    def saved_steps(self) -> int:
        """Agent-steps of the last save, negative if there is none."""
        self.wait()
        return self.updates * self.config.batch_size

    def _warn(self, error: Exception) -> None:
        steps = self.updates * self.config.batch_size
        stays = f"the save of {steps:,} steps stays" if self.updates >= 0 else "there is no save yet"
        warn(f"saving in {self.directory} failed ({one_line(error)[:200]}); {stays}")

    @contextlib.contextmanager
    def on_error(self) -> Iterator[None]:
        """Save before an exception is passed on, except one that says that numbers are not finite."""
        try:
            yield
        except NotFiniteError:
            self.wait()
            raise
        except BaseException:
            if not self.several:  # which may not all have failed
                self.save()
            raise
