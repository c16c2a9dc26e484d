"""Where reports go: functions and writers, several at once, resumed, and failing."""

import csv
import json
import resource
import struct
import types
import warnings
from pathlib import Path

import jax
import numpy as np
import pandas
import pytest
from toy_envs import Corridor, tiny_config

from jaxpuffer import fit
from jaxpuffer.runs import read_metrics
from jaxpuffer.writers import CSV, TensorBoard, WandB, Writer, append, as_logs, writers_named

ENV, KEY, CONFIG = Corridor(), jax.random.key(0), tiny_config()


class Memory:
    """A writer that notes what it is told."""

    def __init__(self):
        self.happened: list = []
        self.policies: list = []

    def open(self, run):
        self.run = run
        self.happened.append("open")

    def __call__(self, steps, means, policy):
        self.policy = policy
        self.policies.append(policy)
        self.happened.append(steps)

    def close(self):
        self.happened.append("close")


class Broken(Memory):
    def __call__(self, steps, means):
        self.happened.append(steps)
        raise ConnectionError("no network")


def interrupt(steps, means):
    raise KeyboardInterrupt


def train(directory, log, config=CONFIG, **options):
    return fit(ENV, KEY, config, directory=directory, log=log, progress=False, **options)


def events(directory: Path):
    """What TensorBoard reads: the events of all files, in order."""
    from tensorboardX.proto import event_pb2

    found = []
    for path in sorted(directory.glob("events.out.tfevents.*"), key=lambda p: p.name.split(".")[-1]):
        data = path.read_bytes()
        while data:  # length and its checksum, the record and its checksum
            (length,) = struct.unpack("<Q", data[:8])
            found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was interrupted after its first report and resumed."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    writers = [Memory(), CSV(), TensorBoard()]
    train(directory, [*writers, interrupt])
    # lines that were written after the save from which it is resumed, the last one not to its end
    for name, later in (
        ("metrics.jsonl", '{"agent_steps": 999, "score": 5}\n{"agent_st'),
        ("metrics.csv", "999,1,1\n99"),
    ):
        with open(directory / name, "a") as file:
            file.write(later)
    result = train(directory, writers, resume=True)
    return directory, writers, result


def test_a_writer_is_opened_called_and_closed_and_gets_the_policy(run):
    directory, (memory, *_), result = run
    assert isinstance(memory, Writer)
    assert memory.happened[:4] == ["open", 128, "close", "open"] and memory.happened[-2:] == [1280, "close"]
    assert memory.run["directory"] == directory and memory.run["agent_steps"] == 128
    assert memory.run["config"] == CONFIG.to_dict() and len(memory.run["starts"]) == 2
    for ours, theirs in zip(jax.tree.leaves(memory.policy), jax.tree.leaves(result.policy), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # copies: no later chunk overwrote them
    assert not any(leaf.is_deleted() for policy in memory.policies for leaf in jax.tree.leaves(policy))
    assert len(memory.policies) >= 3


def test_all_have_the_same_reports_once(run):
    directory, (memory, *_), _ = run
    steps = [x for x in memory.happened if isinstance(x, int)]
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    with open(directory / "metrics.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["agent_steps"] for line in lines] == [int(row["agent_steps"]) for row in table] == steps
    assert steps == sorted(set(steps))
    for line, row in zip(lines, table, strict=True):
        assert line == {name: json.loads(value) for name, value in row.items()}
    frame = pandas.read_csv(directory / "metrics.csv")
    np.testing.assert_array_equal(frame["score"], read_metrics(directory)["score"])


def test_tensorboard_hides_what_a_resumed_run_repeats(run):
    directory, *_ = run
    scalars = [
        (event.step, value.tag, value.simple_value) for event in events(directory) for value in event.summary.value
    ]
    columns = read_metrics(directory)
    assert [step for step, tag, _ in scalars if tag == "score"] == columns["agent_steps"].tolist()
    np.testing.assert_array_equal(
        [value for _, tag, value in scalars if tag == "entropy"], columns["entropy"].astype(np.float32)
    )
    (start,) = (event for event in events(directory) if event.HasField("session_log"))
    assert start.session_log.status == start.session_log.START and start.step == 129


def test_csv_takes_new_columns(tmp_path):
    table = CSV(tmp_path / "a.csv")
    table.open({"directory": None, "agent_steps": 0})
    table(1, {"agent_steps": 1, "score": 0.5})
    table(2, {"agent_steps": 2, "score": 1.5, "evaluated_score": 2.0})
    table(3, {"agent_steps": 3, "score": float("nan")})
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        "agent_steps,score,evaluated_score", "1,0.5,", "2,1.5,2.0", "3,nan,"
    ]  # fmt: skip


def test_a_line_is_written_as_a_whole_or_not_at_all(tmp_path):
    file = tmp_path / "lines"
    append(file, "one\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))  # as a full disk: six more bytes can be written
    try:
        with pytest.raises(OSError):
            append(file, "a longer line\n")
        assert file.read_text() == "one\n"
        append(file, "two\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_text() == "one\ntwo\n"


@pytest.mark.parametrize("as_errors", [False, True])
def test_a_writer_that_fails_warns_once_and_the_run_goes_on(as_errors, tmp_path, monkeypatch, capsys):
    broken, memory = Broken(), Memory()

    def no_space(path, line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxpuffer.journal.append", no_space)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error" if as_errors else "always")
        result = train(tmp_path, [broken, memory])
    said = [str(w.message) for w in caught] + capsys.readouterr().err.splitlines()
    assert sum("writing Broken" in line and "no network" in line for line in said) == 1
    assert sum("writing metrics.jsonl" in line and "No space left" in line for line in said) == 1
    assert int(result.state.updates) == CONFIG.num_updates
    assert broken.happened == memory.happened and len(memory.happened) >= 4


def test_a_writer_that_cannot_be_opened_ends_fit_before_training(tmp_path):
    memory = Memory()
    missing = CSV(tmp_path / "nowhere/a.csv")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(tmp_path, [memory, missing])
    assert memory.happened == ["open", "close"]
    assert not (tmp_path / "about.json").exists() and not (tmp_path / "run.json").exists()
    for writer in (CSV(), TensorBoard()):
        with pytest.raises(ValueError, match=f"{type(writer).__name__} was not told where to write"):
            train(None, writer)


def test_an_exception_of_a_function_saves_and_is_raised(tmp_path):
    def log(steps, means):
        raise ConnectionError("no network")

    memory = Memory()
    with pytest.raises(ConnectionError):
        train(tmp_path, [memory, log])
    assert memory.happened == ["open", 128, "close"]
    assert json.loads((tmp_path / "run.json").read_text())["agent_steps"] == 128


@pytest.mark.parametrize("log", [3, "csv", Memory, CSV, [print, None], lambda: None, lambda steps, means, other: None])
def test_what_is_no_log_is_refused(log):
    with pytest.raises(TypeError, match="log is .*; it must"):
        as_logs(log)


def test_writers_have_names(monkeypatch):
    assert [type(writer) for writer in writers_named("csv, tensorboard,csv")] == [CSV, TensorBoard]
    with pytest.raises(ValueError, match="log is 'csv,nothing'; it must be one or several of csv, tensorboard, wandb"):
        writers_named("csv,nothing")
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ImportError, match="WandB needs wandb: pip install wandb"):
        WandB()


def test_wandb_without_a_login_is_one_line(tmp_path, monkeypatch):
    class NoLogin(Exception):
        pass

    def init(**settings):
        raise NoLogin("No API key configured.\nmore")

    stub = types.SimpleNamespace(init=init, errors=types.SimpleNamespace(Error=NoLogin))
    monkeypatch.setitem(__import__("sys").modules, "wandb", stub)
    with pytest.raises(
        OSError, match=r"could not begin: No API key configured\.; `wandb login` once, or set WANDB_MODE"
    ):
        train(tmp_path / "run", WandB())
    assert not (tmp_path / "run").exists()


def test_wandb_offline(tmp_path):
    wandb = pytest.importorskip("wandb")
    train(tmp_path, WandB(project="test", mode="offline", settings={"silent": True}))
    wandb.teardown()  # waits for its other process
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"explained_variance" in file.read_bytes()
