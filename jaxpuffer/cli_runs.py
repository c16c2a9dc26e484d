"""The commands that look at runs: jaxpuffer runs | compare | plot."""

import argparse
import contextlib
import datetime
import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from jaxpuffer.plots import plot
from jaxpuffer.runs import RESULTS, compare, table

SHOWN = ("run", "env", "state", "steps", "score", "steps_per_second", "seconds", "date")  # of `table`'s fields


class Parser(argparse.ArgumentParser):
    """Raises a ValueError of one line instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def both_spellings(flag: str) -> tuple[str, str]:
    """A flag with hyphens, and the same with underscores."""
    return flag, "--" + flag.removeprefix("--").replace("-", "_")


def show_runs(args: Sequence[str]) -> None:
    """jaxpuffer runs [FOLDER]: a table of the runs in a folder."""
    parser = Parser("jaxpuffer runs", description="List the runs in a folder and below.")
    parser.add_argument("folder", nargs="?", default="runs", help="by default runs")
    parser.add_argument("--sort", metavar="FIELD", default="date", help="such as score or config.gamma; default date")
    parser.add_argument("--descending", action="store_true", help="the largest first")
    parser.add_argument(
        "--filter",
        metavar="EXPR",
        action="append",
        default=[],
        help="such as env=breakout, 'score>800' or config.learning_rate=0.01; several must all be met",
    )
    parser.add_argument("--json", action="store_true", help="all fields, as JSON")
    flags = parser.parse_args(args)
    rows = table(flags.folder, filters=flags.filter, sort=flags.sort, descending=flags.descending)
    if flags.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"there are no runs in {flags.folder}" + " that meet the filter" * bool(flags.filter))
    else:
        filtered = [re.split("[!=<>]", text)[0].strip() for text in flags.filter]
        fields = list(dict.fromkeys([*SHOWN, flags.sort, *filtered]))
        show_table(fields, [[_words(name, row) for name in fields] for row in rows])


def show_comparison(args: Sequence[str]) -> None:
    """jaxpuffer compare RUN RUN...: what differs in settings and results."""
    parser = Parser("jaxpuffer compare", description="Show what differs between runs, and their results.")
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("--json", action="store_true", help="as JSON")
    flags = parser.parse_args(args)
    fields = compare(flags.runs)
    if flags.json:
        print(json.dumps(dict(zip(("run", *fields), (flags.runs, *fields.values()), strict=True)), indent=2))
        return
    rows = [[name, *(_words(name, {name: value}) for value in values)] for name, values in fields.items()]
    settings = len(rows) - len(RESULTS)
    show_table(["", *flags.runs], rows, sections=[settings])
    if not settings:
        print("the settings are equal")


def draw(args: Sequence[str]) -> None:
    """jaxpuffer plot RUN... --out FILE: score over steps and over wall-clock."""
    parser = Parser("jaxpuffer plot", description="Draw the score of runs over agent-steps and over wall-clock.")
    parser.add_argument("runs", metavar="RUN", nargs="+")
    parser.add_argument("--out", metavar="FILE", required=True, help="a .png, .svg or .pdf")
    parser.add_argument("--metric", default="score", help="what to draw; by default score")
    flags = parser.parse_args(args)
    with _plain_warnings():
        plot(flags.runs, flags.out, flags.metric)
    print(f"wrote {flags.out}")


COMMANDS = {"runs": show_runs, "compare": show_comparison, "plot": draw}


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], sections: Sequence[int] = ()) -> None:
    """A table on stdout; in a file or a pipe every row is one line."""
    import rich.box
    import rich.console
    import rich.markup
    import rich.table

    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    numeric = ("steps", "score", "steps_per_second", "seconds")
    for name in columns:
        shown.add_column(rich.markup.escape(name), justify="right" if name in numeric else "left", overflow="fold")
    for i, row in enumerate(rows):
        if i in sections and i:
            shown.add_section()
        shown.add_row(*map(rich.markup.escape, row))
    rich.console.Console(width=None if sys.stdout.isatty() else 10_000, highlight=False).print(shown)


def _words(name: str, row: dict[str, Any]) -> str:
    """A value for a person."""
    value = row[name]
    if name == "state" and row.get("problem"):
        return f"{value}: {row['problem']}"
    if value is None:
        return ""
    if name in ("steps", "saved_steps", "total_steps", "steps_per_second"):
        return f"{value:,.0f}"
    if name in ("score", "evaluated_score"):
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if name == "seconds":
        return f"{value:,.1f}"
    if name == "date":
        return datetime.datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M")
    return str(value)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as lines without the place in the code."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"jaxpuffer: {warning}", file=sys.stderr)
