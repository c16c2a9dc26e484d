"""Dashboard: a run's report on a terminal, updated in place."""

import contextlib
import math
import sys
from collections.abc import Iterator

import rich.box
import rich.live
import rich.progress
import rich.progress_bar
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from jaxpuffer.evaluate import readable
from jaxpuffer.report import Report, count_in_words, duration, memory_in_words

COLUMN = 24  # characters of a group of figures
GAP = 2  # characters between two groups
FRAME = 4  # characters left and right of all, together
LEAST_HEIGHT = 20  # lines; on a lower terminal there is one line
MOST_WIDTH = 3 * COLUMN + 2 * GAP + FRAME


class Dashboard:
    """A report on the terminal at stderr, also if that is none that Python knows of."""

    seconds = 0.4  # the least time between two reports

    def __init__(self) -> None:
        self.console = Console(stderr=True, force_terminal=True)
        # what the program prints appears above; but nothing that goes to a file
        self.redirect_stdout, self.redirect_stderr = sys.stdout.isatty(), sys.stderr.isatty()
        self.live: rich.live.Live | None = None

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """A clock that runs as long as it compiles."""
        columns = rich.progress.SpinnerColumn("line"), "compiling", rich.progress.TimeElapsedColumn()
        clock = rich.progress.Progress(
            *columns,
            console=self.console,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=self.redirect_stdout,
            redirect_stderr=self.redirect_stderr,
        )
        clock.add_task("")
        with clock:
            yield

    def show(self, report: Report) -> None:
        """Show the report in place of the one before."""
        if self.live is None:
            # without a thread that would draw while the program trains
            self.live = rich.live.Live(
                console=self.console,
                auto_refresh=False,
                vertical_overflow="crop",
                redirect_stdout=self.redirect_stdout,
                redirect_stderr=self.redirect_stderr,
            )
            self.live.start()
        self.live.update(Picture(report), refresh=True)

    def close(self) -> None:
        """Leave the last report where it is."""
        if self.live is not None:
            self.live.stop()


class Picture:
    """A report as Rich draws it: a frame with three groups of figures, fewer on a narrow terminal, or one line."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        report, width = self.report, min(options.max_width, MOST_WIDTH)
        inside = width - FRAME
        groups = (inside + GAP) // (COLUMN + GAP)
        if not groups or console.size.height < LEAST_HEIGHT:
            yield _text(report.line(), options)
            return
        done = report.agent_steps / report.total_steps
        figures = [_row(left, right, inside) for left, right in _speed(report)]
        bar = rich.progress_bar.ProgressBar(total=1.0, completed=done, width=inside)
        below = [f"{name:<10}{value}" for name, value in _below(report).items()]
        parts: list[RenderableType] = [Padding(bar, 0), *(_text(line, options) for line in figures), Text("")]
        parts += _side_by_side([_episodes(report), _losses(report), _time(report)][:groups], options)
        parts += [Text(""), *(_text(line, options) for line in below)]
        title = _text(f" {report.environment} ", options)
        yield Panel(Group(*parts), title=title, box=rich.box.ROUNDED, width=width)


def _speed(report: Report) -> list[tuple[str, str]]:
    """Lines of a left and a right part."""
    elapsed = sum(report.seconds.values())
    now, average = report.means["steps_per_second"], report.average
    return [
        (report.progress(), f"{report.agent_steps / report.total_steps:.0%}"),
        (f"steps/s {now:,.0f}, average {average:,.0f}", f"{duration(elapsed)}, left {duration(report.left)}"),
    ]


def _episodes(report: Report) -> dict[str, str]:
    means = report.means
    return {
        "EPISODES": "",
        "score": _known(means["score"], 2),
        "perf": _known(means["perf"], 3),
        "return": _known(means["episode_return"], 3),
        "length": _known(means["episode_length"], 1),
        "ended": f"{means['episodes']:,.0f}",
        "reward/step": _known(means["reward"], 4),
    }


def _losses(report: Report) -> dict[str, str]:
    names = {
        "policy": "policy_loss",
        "value": "value_loss",
        "entropy": "entropy",
        "approx. KL": "approx_kl",
        "clip fraction": "clip_fraction",
        "expl. variance": "explained_variance",
        "grad norm": "grad_norm",
    }
    return {"LOSSES": ""} | {label: _known(report.means[name], 4) for label, name in names.items()}


def _time(report: Report) -> dict[str, str]:
    whole = max(sum(report.seconds.values()), 1e-9)
    return {"TIME": ""} | {
        part: f"{duration(seconds):>8} {seconds / whole:>4.0%}" for part, seconds in report.seconds.items()
    }


def _below(report: Report) -> dict[str, str]:
    lines = {}
    if "league/elo" in report.means:
        lines["league"] = report.league()
    if report.evaluated:
        steps, score, error = report.evaluated[-1]
        best = max(mean for _, mean, _ in report.evaluated)
        figures = f"{readable(score, 2)} ± {readable(error, 2)} at {count_in_words(steps)} steps"
        lines["evaluated"] = f"score {figures}, best {readable(best, 2)}"
    if report.saved is not None:
        steps, where = report.saved
        when = f"{count_in_words(steps)} steps" if steps >= 0 else "not yet"
        lines["saved"] = f"{when}, in {where}"
    memory = memory_in_words()
    if memory:
        lines["memory"] = memory
    if report.warnings:
        count = f" (1 of {len(report.warnings)})" if len(report.warnings) > 1 else ""
        lines["warning"] = report.warnings[-1] + count
    return lines


def _known(value: float, decimals: int) -> str:
    """The number, or a line where it is NaN: no episode has ended yet."""
    return "-" if math.isnan(value) else readable(value, decimals)


def _row(left: str, right: str, width: int) -> str:
    least = 0 if right.startswith(" ") else 1  # two figures must not look like one
    return left + " " * max(least, width - len(left) - len(right)) + right


def _side_by_side(groups: list[dict[str, str]], options: ConsoleOptions) -> list[RenderableType]:
    """Groups of names and values as columns; a heading is a name without a value."""
    columns = [[_row(name, value, COLUMN) for name, value in group.items()] for group in groups]
    height = max(map(len, columns))
    padded = [column + [" " * COLUMN] * (height - len(column)) for column in columns]
    heading, *lines = [(" " * GAP).join(row) for row in zip(*padded, strict=True)]
    return [_text(heading, options, "bold cyan"), *(_text(line, options) for line in lines)]


def _text(line: str, options: ConsoleOptions, style: str = "") -> Text:
    """One line, cut at the end; in ASCII if the terminal has no more."""
    if options.ascii_only:
        line = line.replace("±", "+-").encode("ascii", "replace").decode()
    return Text(line, style, no_wrap=True, overflow="crop" if options.ascii_only else "ellipsis")
