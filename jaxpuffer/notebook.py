"""Cell: a run's report in a notebook: one output that is updated in place, with curves."""

import base64
import contextlib
import io
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from jaxpuffer.dashboard import MOST_WIDTH, Picture
from jaxpuffer.report import Points, Report, unit_of

SHARE = 0.02  # of the time, for drawing
DPI = 80  # dots per inch of the curves


class Cell:
    """A report with curves of score and entropy over agent-steps; without Matplotlib there are no curves.

    Raises:
        ImportError: IPython is not installed.
    """

    def __init__(self) -> None:
        try:
            from IPython.display import HTML, display
        except ImportError:
            raise ImportError("progress='notebook' needs IPython: pip install 'jaxpuffer[notebook]'") from None
        self.html: Any = HTML
        self.figure: Any = None
        with contextlib.suppress(ImportError):
            from matplotlib.figure import Figure

            self.figure = Figure
            self._curves([], [], 1)  # the first drawing takes much longer, so it is made before training
        self.handle: Any = display(HTML(""), display_id=True)
        self.seconds = 1.0  # the least time between two reports

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Say that it compiles, and since when."""
        self._update(f"<pre>compiling, since {time.strftime('%H:%M:%S')} ...</pre>")
        yield

    def show(self, report: Report) -> None:
        """Show the report in place of the one before."""
        began = time.perf_counter()
        self._update(_figures(report) + self._curves(report.curve, report.evaluated, report.total_steps))
        self.seconds = max(1.0, (time.perf_counter() - began) / SHARE)

    def close(self) -> None:
        """The last report stays."""

    def _update(self, html: str) -> None:
        if self.handle is not None:  # outside of a notebook there is none
            self.handle.update(self.html(html))

    def _curves(self, curve: Points, evaluated: Points, total_steps: int) -> str:
        """An <img> with the curves, or nothing; the points are those of a `Report`."""
        if self.figure is None:
            return ""
        unit, letter = unit_of(total_steps)
        steps = [x / unit for x, _, _ in curve]
        figure = self.figure(figsize=(8, 2.6), layout="constrained")
        of_score, of_entropy = figure.subplots(1, 2)
        of_score.plot(steps, [score for _, score, _ in curve], label="training")
        if evaluated:
            when, means, errors = zip(*evaluated, strict=True)
            of_score.errorbar([x / unit for x in when], means, errors, fmt=".-", capsize=2, label="evaluated")
            of_score.legend()
        of_entropy.plot(steps, [entropy for _, _, entropy in curve])
        for axes, name in ((of_score, "score"), (of_entropy, "entropy")):
            axes.set(ylabel=name, xlabel=f"{letter} agent-steps".strip(), xlim=(0, total_steps / unit))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI)
        return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def _figures(report: Report) -> str:
    """The dashboard as HTML."""
    console = Console(record=True, file=io.StringIO(), width=MOST_WIDTH, height=40, force_jupyter=False)
    console.print(Picture(report))
    return console.export_html(inline_styles=True, code_format='<pre style="line-height: 1.2">{code}</pre>')
