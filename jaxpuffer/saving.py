"""Saver: saves the run of a `fit` in its directory, from time to time and at the end."""

import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from jax import Array

from jaxpuffer.checkpoint import write
from jaxpuffer.config import PPOConfig
from jaxpuffer.ppo import Result


class NotFiniteError(FloatingPointError):
    """The run's own numbers are not finite, and must not be saved."""


class Saver:
    """Saves the run in `directory`, unless that is None or nothing is new since the last save.

    Args:
        run: the current run, (updates, a function that gives the result).
        updates: number of updates at the last save, -1 if there was none; kept up to date.
        seconds: time between two saves.
    """

    def __init__(
        self,
        directory: Path | None,
        key: Array,
        config: PPOConfig,
        run: Callable[[], tuple[int, Callable[[], Result]]],
        updates: int,
        seconds: float,
    ) -> None:
        self.directory, self.key, self.config, self.run = directory, key, config, run
        self.updates, self.seconds = updates, seconds
        self.saved_at = time.perf_counter()

    def save(self) -> None:
        """Save what there is; a save that fails is a warning, because it must not end the run."""
        updates, result = self.run()
        if self.directory is None or self.updates == updates:
            return
        try:
            write(result(), self.directory, self.key)
            self.updates = updates
        except Exception as error:  # Orbax raises many kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            steps = self.updates * self.config.batch_size
            stays = f"the save of {steps:,} steps stays" if self.updates >= 0 else None
            message = f"saving in {self.directory} failed ({reason}); {stays or 'there is no save yet'}"
            try:
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            except RuntimeWarning:  # warnings may be errors; this one must not lose the result
                print(message, file=sys.stderr)

    def save_now_and_then(self) -> None:
        """Save if the last save is old enough."""
        if time.perf_counter() - self.saved_at >= self.seconds:
            self.save()
            self.saved_at = time.perf_counter()

    @contextlib.contextmanager
    def on_error(self) -> Iterator[None]:
        """Save before an exception is passed on, except one that says that numbers are not finite."""
        try:
            yield
        except NotFiniteError:
            raise
        except BaseException:
            self.save()
            raise
