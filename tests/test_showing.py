"""What a person sees of a running fit: on a terminal, in a notebook, and elsewhere."""

import base64
import dataclasses
import io
import re
import sys
from typing import Any

import jax
import pytest
from rich.console import Console
from toy_envs import tiny_config

import jaxpuffer
from jaxpuffer import fit
from jaxpuffer.dashboard import Dashboard, Picture
from jaxpuffer.report import Report, duration
from jaxpuffer.showing import Lines, view_of

KEY = jax.random.key(5)
ENV = jaxpuffer.make("cartpole")
MODULE = sys.modules["jaxpuffer.fit"]  # `jaxpuffer.fit` is the function
MEANS = {
    "agent_steps": 3_700_000.0, "steps_per_second": 612_034.0, "score": 843.27, "perf": 0.976, "episode_return": 31.02,
    "episode_length": 1234.0, "episodes": 512.0, "reward": 0.0312, "policy_loss": -0.0123, "value_loss": 0.0412,
    "entropy": 0.713, "approx_kl": 0.0031, "clip_fraction": 0.052, "explained_variance": 0.912, "grad_norm": 0.7,
}  # fmt: skip
REPORT = Report(
    environment="breakout (c)",
    means=MEANS,
    total_steps=10_000_000,
    average=630_000.0,
    seconds={"compilation": 4.0, "training": 90.0, "evaluation": 4.0, "saving": 1.0, "logging": 1.0, "display": 0.0},
    curve=[(1_000_000, 20.0, 1.0), (3_700_000, 843.27, 0.713)],
    evaluated=[(3_500_000, 850.1, 3.1), (3_600_000, 843.2, 3.2)],
    saved=(3_500_000, "runs/breakout-0"),
    warnings=["no episode has ended in 1,280 steps", "12% of the rewards are outside reward_clip"],
)


def drawn(report: Report, width: int, height: int, encoding: str = "utf-8") -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, height=height).print(Picture(report))
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()  # type: ignore[attr-defined]


def test_a_dashboard_fits_a_terminal_of_80_by_24() -> None:
    lines = drawn(REPORT, 80, 24)
    assert len(lines) < 24 and {len(line) for line in lines} == {80}
    text = "\n".join(lines)
    for figure in (
        "breakout (c)", "3.70 M of 10.00 M steps", "37%", "612,034, average 630,000", "0:01:40, left 10.0 s",
        "843.27", "0.976", "31.020", "1234.0", "512", "0.0312",
        "-0.0123", "0.0412", "0.7130", "0.0031", "0.0520", "0.9120", "0.7000",
        "compilation   4.0 s   4%", "training    0:01:30  90%", "evaluation    4.0 s   4%", "logging       1.0 s   1%",
        "score 843.20 ± 3.20 at 3.60 M steps, best 850.10", "3.50 M steps, in runs/breakout-0",
        "12% of the rewards are outside reward_clip (1 of 2)",
    ):  # fmt: skip
        assert figure in text, figure


@pytest.mark.parametrize("width", [8, 20, 28, 40, 60, 79, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_dashboard_has_less_on_a_narrow_terminal_and_ascii_where_there_is_no_more(width: int, encoding: str) -> None:
    lines = drawn(REPORT, width, 24, encoding)
    assert max(map(len, lines)) <= width and len(lines) < 24
    assert [name in "".join(lines) for name in ("EPISODES", "LOSSES", "TIME")] == [width >= w for w in (28, 54, 80)]
    if 36 <= width < 60:  # where two figures do not fit into a line they do not look like one
        assert "average 630,000 0" in "".join(lines)


def test_a_low_terminal_has_one_line() -> None:
    (line,) = drawn(REPORT, 100, 10)
    assert line.startswith("3.70 M of 10.00 M steps  steps/s 612,034  score 843.27")
    assert REPORT.line().endswith("left 10.0 s  evaluated 843.20 at 3.60 M steps")


def test_what_is_not_known_yet_is_a_line() -> None:
    nan = dict.fromkeys(("score", "perf", "episode_return", "episode_length"), float("nan"))
    report = dataclasses.replace(REPORT, means=MEANS | nan, evaluated=(), saved=(-1, "runs/x"), warnings=())
    text = "\n".join(drawn(report, 80, 24))
    assert re.search(r"score +- ", text) and "nan" not in text and "evaluated" not in text
    assert "not yet, in runs/x" in text
    assert "score unknown, reward 0.0312 per step" in report.line()


@pytest.mark.parametrize(
    ("steps", "total", "words"),
    [
        (128, 1280, "128 of 1,280 steps"),
        (1280, 999_999, "1,280 of 999,999 steps"),
        (12_288, 40_000_000, "12,288 of 40.00 M steps"),
        (3_700_000, 20_000_000_000, "3.70 M of 20.00 B steps"),
    ],
)
def test_units_are_of_the_size_of_the_run(steps: int, total: int, words: str) -> None:
    report = dataclasses.replace(REPORT, means=MEANS | {"agent_steps": float(steps)}, total_steps=total)
    assert report.progress() == words and report.line().startswith(words)


def test_durations_in_words() -> None:
    assert [duration(x) for x in (0, 0.04, 59.94, 61.9, 90_061)] == [
        "0.0 s",
        "0.04 s",
        "59.9 s",
        "0:01:01",
        "1 day, 1:01:01",
    ]


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_clock_runs_while_it_compiles_and_then_a_dashboard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    fit(ENV, KEY, tiny_config(), log=lambda steps, means: print(f"at {steps}"))
    compiling, _, reports = screen.getvalue().partition("EPISODES")
    assert re.search(r"compiling.*0:00:0", compiling) and "1,280 of 1,280 steps" in reports
    # what the program prints is not moved to the terminal if it goes elsewhere
    assert capsys.readouterr().out.splitlines()[-1] == "at 1280" and "at 1280" not in screen.getvalue()


def test_the_view_follows_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert view_of(False) is None
    assert isinstance(view_of(True), Lines) and isinstance(view_of("dashboard"), Dashboard)
    monkeypatch.setattr(sys, "stderr", Screen())
    assert isinstance(view_of(True), Dashboard) and isinstance(view_of("line"), Lines)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view_of(True), Lines)


class Recorder(Lines):
    """Keeps all reports."""

    seconds = 0.0

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def show(self, report: Report) -> None:
        self.reports.append(report)


def test_reports_have_all_that_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    recorder, logged = Recorder(), []
    monkeypatch.setattr(MODULE, "view_of", lambda progress: recorder)
    config = tiny_config(reward_clip=0.5)
    with pytest.warns(RuntimeWarning, match="outside reward_clip"):
        fit(
            ENV, KEY, config, directory=tmp_path, evaluate_every=500, evaluate_episodes=4,
            log=lambda _, means: logged.append(means),
        )  # fmt: skip
    last = recorder.reports[-1]
    assert last.environment == "cartpole (jax)" and last.total_steps == last.agent_steps == 1280 and last.left == 0
    assert [steps for steps, _, _ in last.evaluated] == [512, 1024, 1280]
    assert last.saved == (1280, str(tmp_path)) and ["reward_clip" in text for text in last.warnings] == [True]
    assert [steps for steps, _, _ in last.curve] == [means["agent_steps"] for means in logged]
    assert last.seconds["compilation"] == logged[0]["compile_seconds"]
    assert last.seconds["training"] == pytest.approx(sum(means["chunk_seconds"] for means in logged))
    assert all(last.seconds[part] > 0 for part in ("evaluation", "saving", "logging"))
    # the parts are all of the time: nothing is counted twice
    assert logged[-1]["seconds"] <= sum(last.seconds.values())
    spent = sum(seconds for part, seconds in last.seconds.items() if part != "other")
    assert spent <= sum(last.seconds.values()) and last.seconds["other"] > 0


def test_a_terminal_that_is_gone_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Recorder):
        def show(self, report: Report) -> None:
            self.reports.append(report)
            raise OSError("no terminal")

    gone = Gone()
    monkeypatch.setattr(MODULE, "view_of", lambda progress: gone)
    assert int(fit(ENV, KEY, tiny_config()).state.updates) == 10
    assert len(gone.reports) == 1


class Handle:
    """Stands for the output of a cell."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, html: Any) -> None:
        self.shown.append(html.data)


@pytest.mark.parametrize("curves", [True, False])
def test_in_a_notebook_one_output_is_updated_in_place(monkeypatch: pytest.MonkeyPatch, curves: bool) -> None:
    display = pytest.importorskip("IPython.display")
    if curves:
        pytest.importorskip("matplotlib")
    else:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    handles = []

    def show(html: Any, display_id: bool) -> Handle:
        handles.append(Handle())
        return handles[-1]

    monkeypatch.setattr(display, "display", show)
    fit(ENV, KEY, tiny_config(), progress="notebook", evaluate_every=500, evaluate_episodes=4)
    (handle,) = handles
    first, *_, last = handle.shown
    assert "compiling" in first and "1,280 of 1,280 steps" in last and "EPISODES" in last
    assert ("<img" in last) == curves
    if curves:
        picture = re.search(r"base64,([^\"]+)", last)
        assert picture and base64.b64decode(picture[1]).startswith(b"\x89PNG")


def test_a_notebook_without_ipython_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match=r"^progress='notebook' needs IPython: pip install 'jaxpuffer\[notebook\]'$"):
        fit(ENV, KEY, tiny_config(), progress="notebook")
