"""What users are told in one line: errors, warnings that must not end a run, and how commands end."""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def clear_exits() -> Iterator[None]:
    """A user's mistake gives one line on stderr and exit code 2, an interruption exit code 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # do not stop at a character that the terminal cannot show
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, for example `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("jaxpuffer: interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, FloatingPointError) as error:
        if isinstance(error, RuntimeError) and type(error) not in (RuntimeError, NotImplementedError):
            raise  # of XLA, for example; a plain one says that there is no such device, or that it is not a CPU
        print(f"jaxpuffer: {error}", file=sys.stderr)
        sys.exit(2)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or the error's name if it has no message."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def users_level() -> int:
    """The `stacklevel` that shows a warning at the line of the user's code that led to it."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in ("jaxpuffer", "jax", "contextlib"):
        frame, level = frame.f_back, level + 1
    return level


def warn(message: str) -> None:
    """Warn, also where warnings are errors, because what was trained must not be lost."""
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    except RuntimeWarning:
        print(message, file=sys.stderr)
