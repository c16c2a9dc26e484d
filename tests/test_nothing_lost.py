"""Trained results are not lost: signals, errors during training, folders of other runs, damaged files."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_envs import Corridor, CorridorState, tiny_config

from jaxpuffer import fit, load, save, saving, stopping, train
from jaxpuffer.checkpoint import claim, run_folder
from jaxpuffer.env import Env, Outcome, PyTreeNode
from jaxpuffer.runs import read_run
from jaxpuffer.showing import Warnings
from jaxpuffer.spaces import Box, Discrete
from jaxpuffer.writers import CSV

KEY = jax.random.key(0)
CONFIG = tiny_config()


class KeyState(PyTreeNode):
    rng: jax.Array
    key: jax.Array  # a typed key
    steps: jax.Array


class Coin(Env[KeyState]):
    observation_space = Box(0.0, 1.0, (1,))
    action_space = Discrete(2)

    def init(self, stream):
        return KeyState(stream, jax.random.wrap_key_data(stream, impl="threefry2x32"), jnp.int32(0))

    def transition(self, s, action):
        key, sub = jax.random.split(s.key)
        s = s.replace(key=key, steps=s.steps + 1)
        return s, Outcome(jax.random.uniform(sub, (), jnp.float32), jnp.bool_(False), s.steps >= 9)

    def observe(self, s):
        return jnp.ones(1, jnp.float32)

    def score(self, s):
        return jnp.float32(0)


class BadReward(Corridor):
    """Its reward is NaN in the third step of an episode."""

    def transition(self, s: CorridorState, action):
        s, outcome = super().transition(s, action)
        return s, outcome.replace(reward=jnp.where(s.steps == 3, jnp.nan, outcome.reward))


def steps_of(run: Path) -> int:
    return json.loads((run / "run.json").read_text())["agent_steps"]


def test_others_folders_stay(tmp_path: Path) -> None:
    result = train(Corridor(), KEY, CONFIG)
    save(result, tmp_path)
    shutil.copytree(tmp_path / "checkpoint-1", tmp_path / "checkpoint-1.bak")
    for name in ("checkpoint-500", "checkpoint-best"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.bin").write_text("of another tool")
    save(result, tmp_path)
    save(result, tmp_path)
    there = {p.name for p in tmp_path.iterdir() if p.is_dir()}
    assert there == {"checkpoint-1.bak", "checkpoint-500", "checkpoint-best", "checkpoint-502"}
    assert load(tmp_path, Corridor()).state.updates == result.state.updates


def test_what_an_unfinished_save_left_is_removed(tmp_path: Path) -> None:
    result = train(Corridor(), KEY, CONFIG)
    save(result, tmp_path)
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2.orbax-checkpoint-tmp-7").mkdir()
    (tmp_path / "saving").write_text("checkpoint-2")
    save(result, tmp_path)
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {"checkpoint-3"}
    assert not (tmp_path / "saving").exists()


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    result = train(Corridor(), KEY, CONFIG)
    save(result, "~/runs/a")
    assert (tmp_path / "home/runs/a/run.json").exists()
    assert load("~/runs/a", Corridor()).config.hidden == CONFIG.hidden
    for refused in (
        lambda: save(result, "s3://bucket/run"),
        lambda: load("gs://b/run"),
        lambda: run_folder(Path("http://x")),
    ):
        with pytest.raises(ValueError, match="URL"):
            refused()
    assert sorted(os.listdir(tmp_path)) == ["home"]

    (tmp_path / "away").mkdir()
    fit(Corridor(), KEY, CONFIG, directory="here", progress=False, log=lambda *_: os.chdir(tmp_path / "away"))
    assert (tmp_path / "here/run.json").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        fit(Corridor(), KEY, CONFIG, directory=tmp_path / "file/run", log=lambda *_: pytest.fail("trained"))


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    result = train(Corridor(), KEY, CONFIG)
    with claim(tmp_path):
        for refused in (
            lambda: fit(Corridor(), KEY, CONFIG, directory=tmp_path, log=lambda *_: pytest.fail("trained")),
            lambda: save(result, tmp_path),
        ):
            with pytest.raises(FileExistsError, match=f"process {os.getpid()} on "):
                refused()
    save(result, tmp_path)


def test_an_error_on_the_way_saves_first(tmp_path: Path) -> None:
    def log(steps: int, means: dict) -> None:
        raise ConnectionError("no network")

    with pytest.raises(ConnectionError):
        fit(Corridor(), KEY, tiny_config(total_steps=10**6), directory=tmp_path, log=log, progress=False)
    assert steps_of(tmp_path) == CONFIG.batch_size
    again = fit(Corridor(), KEY, directory=tmp_path, resume=True, progress=False, log=stop_after(3))
    assert int(again.state.updates) > 1


def stop_after(updates: int):
    def log(steps: int, means: dict) -> None:
        if steps >= updates * CONFIG.batch_size:
            raise KeyboardInterrupt

    return log


def test_a_save_that_fails_leaves_the_one_before_and_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import orbax.checkpoint

    save(train(Corridor(), KEY, CONFIG), tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    monkeypatch.setattr(orbax.checkpoint.StandardCheckpointer, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save(train(Corridor(), KEY, CONFIG), tmp_path)
    with pytest.warns(RuntimeWarning, match=r"saving in .* failed \(No space left"):
        result = fit(Corridor(), KEY, CONFIG, directory=tmp_path / "new", progress=False)
    assert int(result.state.updates) == CONFIG.num_updates
    monkeypatch.undo()
    assert set(before) <= {p.name for p in tmp_path.iterdir()}
    assert load(tmp_path, Corridor()).metrics["score"].shape == (CONFIG.num_updates,)


def full_disk(self, path: Path, *_):
    path.mkdir()  # half of it exists
    raise OSError("No space left on device")


@pytest.mark.parametrize("stop, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_save_and_end(tmp_path: Path, stop: signal.Signals, code: int) -> None:
    before = signal.signal(stop, signal.SIG_DFL)  # it may be ignored if the tests run without a terminal
    with pytest.raises(SystemExit) as ended:
        fit(
            Corridor(), KEY, tiny_config(total_steps=10**8), directory=tmp_path, progress=False,
            log=lambda *_: os.kill(os.getpid(), stop),
        )  # fmt: skip
    assert ended.value.code == code
    assert steps_of(tmp_path) >= CONFIG.batch_size
    assert signal.signal(stop, before) is signal.SIG_DFL


def test_a_programs_own_handler_stays(tmp_path: Path) -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        fit(Corridor(), KEY, CONFIG, progress=False, log=lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen


def test_an_interrupted_command_exits_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jaxpuffer.cli", "train", "cartpole", "--config.total_steps", "100000000"]
    run = tmp_path / "run"
    with subprocess.Popen(
        [*command, "--out", str(run)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # also if the tests run in the background
    ) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "steps/s" in line)
        process.send_signal(signal.SIGINT)
        error = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in error
    assert steps_of(run) > 0


def test_a_refused_argument_leaves_no_folder(tmp_path: Path) -> None:
    for wrong in ({"keep": 0}, {"evaluate_every": 0}, {"log": CSV(tmp_path)}):
        with pytest.raises((ValueError, IsADirectoryError)):
            fit(Corridor(), KEY, CONFIG, directory=tmp_path / "new", progress=False, **wrong)
        assert not (tmp_path / "new").exists()


def test_a_run_whose_last_save_failed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_):
        raise OSError("No space left on device")

    fit(Corridor(), KEY, CONFIG, directory=tmp_path, progress=False, log=stop_after(1))
    monkeypatch.setattr(saving, "store", no_space)
    with pytest.warns(RuntimeWarning, match="No space left"):
        fit(Corridor(), KEY, directory=tmp_path, resume=True, progress=False)
    row = read_run(tmp_path)
    assert (row["state"], row["saved_steps"]) == ("saving failed", CONFIG.batch_size)
    assert row["steps"] == CONFIG.num_updates * CONFIG.batch_size


def test_output_that_nobody_reads_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    result = fit(Corridor(), KEY, CONFIG, progress="line")
    assert int(result.state.updates) == CONFIG.num_updates


def test_a_typed_key_comes_back(tmp_path: Path) -> None:
    result = fit(Coin(), KEY, CONFIG, directory=tmp_path, progress=False)
    loaded = load(tmp_path, Coin())
    for a, b in zip(jax.tree.leaves(loaded.state), jax.tree.leaves(result.state), strict=True):
        assert a.dtype == b.dtype
    keys = [jax.random.key_data(r.state.play.envs.env.key) for r in (loaded, result)]
    np.testing.assert_array_equal(*keys)


def test_a_class_that_moved_loads_where_it_is_given(tmp_path: Path) -> None:
    save(train(Corridor(), KEY, CONFIG), tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    del record["record_checksum"]
    (tmp_path / "run.json").write_text(json.dumps(record | {"class": "__main__.Corridor"}))
    assert load(tmp_path, Corridor()).state is not None
    with pytest.raises(ValueError, match=r"trained on __main__\.Corridor; env is .*Coin"):
        load(tmp_path, Coin())


def test_damaged_files_are_named(tmp_path: Path) -> None:
    save(train(Corridor(), KEY, CONFIG), tmp_path)
    text = (tmp_path / "run.json").read_text()
    record = json.loads(text)
    fields = ("checkpoint", "class", "parameters", "backend", "config", "environment", "module", "key", "agent_steps")
    wrong = [json.dumps(record | {field: 5.5}) for field in fields]
    missing = [json.dumps({k: v for k, v in record.items() if k != field}) for field in fields]
    for broken in (text[:100], "[]", "\x00", *wrong, *missing):
        (tmp_path / "run.json").write_text(broken)
        with pytest.raises(ValueError, match=r"run\.json is damaged"):
            load(tmp_path, Corridor())
    # one flipped bit in a number: 0.995 reads as 0.895
    (tmp_path / "run.json").write_text(re.sub(r'("gamma": 0\.)9', r"\g<1>8", text))
    with pytest.raises(ValueError, match=r"run\.json is not as it was saved"):
        load(tmp_path, Corridor())
    changed = {k: v for k, v in record.items() if k != "record_checksum"}
    (tmp_path / "run.json").write_text(json.dumps(changed | {"config": record["config"] | {"hidden": -1}}))
    with pytest.raises(ValueError, match="hidden"):
        load(tmp_path, Corridor())
    (tmp_path / "run.json").write_text(text)
    load(tmp_path, Corridor())

    # every file of the checkpoint cut, or with one byte changed: read correctly, or refused
    right = jax.tree.leaves(load(tmp_path, Corridor()).policy)
    files = [p for p in (tmp_path / "checkpoint-1").rglob("*") if p.is_file() and p.stat().st_size]
    refused = 0
    for file in files:
        whole = file.read_bytes()
        middle = len(whole) // 2
        for damaged in (whole[:middle], whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]):
            file.write_bytes(damaged)
            try:
                got = load(tmp_path, Corridor())
            except ValueError as error:
                assert "checkpoint-1" in str(error)
                refused += 1
            else:
                assert all((a == b).all() for a, b in zip(right, jax.tree.leaves(got.policy), strict=True))
        file.write_bytes(whole)
    assert refused > 0
    shutil.rmtree(tmp_path / "checkpoint-1")
    with pytest.raises(ValueError, match="checkpoint-1 is damaged"):
        load(tmp_path, Corridor())


def test_a_reward_that_is_nan_ends_the_run_and_keeps_the_save(tmp_path: Path) -> None:
    kept = fit(Corridor(), KEY, tiny_config(total_steps=10**8), directory=tmp_path, progress=False, log=stop_after(1))
    text = (tmp_path / "run.json").read_text().replace("Corridor", "BadReward").replace("record_checksum", "_")
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(FloatingPointError, match=r"rewards are NaN or infinite in update \d+"):
        fit(BadReward(), KEY, directory=tmp_path, resume=True, progress=False)
    assert steps_of(tmp_path) == int(kept.state.updates) * CONFIG.batch_size


def test_an_observation_that_is_infinite_ends_the_run() -> None:
    class BadSight(Corridor):
        def observe(self, s):
            return jnp.where(s.steps == 3, jnp.inf, super().observe(s))

    with pytest.raises(FloatingPointError, match="such an observation"):
        fit(BadSight(), KEY, tiny_config(normalize_observation=False), progress=False)


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"entropy": 0.001}, "entropy fell to 0.001 early, at 2,560 steps"),
        ({"value_out_of_range": 0.25}, "25% of the values are far from all returns; try a lower learning_rate"),
        ({"reward_clipped": 0.5}, "50% of the rewards are outside reward_clip"),
        ({"reward_clipped": 0.0002}, "0.02% of the rewards are outside reward_clip; try a smaller reward_scale"),
        ({"reward_out_of_range": 0.5}, "50% of the rewards are smaller than 1e-15"),
        ({"score": np.nan}, "score or perf is NaN for episodes that ended"),
        ({}, None),
    ],
)
def test_each_warning_is_said_once(last: dict[str, float], message: str | None) -> None:
    fine = {"episodes": 3.0, "entropy": 1.0}
    shares = ("value_out_of_range", "reward_clipped", "reward_out_of_range", "observation_out_of_range")
    fine |= dict.fromkeys((*shares, "score", "perf"), 0.0)
    config = tiny_config(total_steps=10**6)
    warn = Warnings(config)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warn({name: np.array([value]) for name, value in fine.items()}, 1)
        assert not seen
        for updates in (2560 // config.batch_size, 2560 // config.batch_size + 1):
            warn({name: np.array([value]) for name, value in (fine | last).items()}, updates)
    assert len(seen) == (message is not None) and (message is None or str(seen[0].message).startswith(message))


def test_warnings_say_what_to_try() -> None:
    class Endless(Corridor):
        def transition(self, s, action):
            s, outcome = super().transition(s, action)
            never = jnp.bool_(False)
            return s.replace(cell=jnp.int32(1)), outcome.replace(
                reward=jnp.float32(2), terminated=never, truncated=never
            )

    with pytest.warns(RuntimeWarning) as seen:
        fit(Endless(), KEY, tiny_config(reward_clip=1.0), progress=False)
    messages = [str(w.message) for w in seen]
    assert sum("100% of the rewards are outside reward_clip" in m for m in messages) == 1
    assert sum("no episode has ended" in m for m in messages) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(Corridor(), KEY, CONFIG, progress=False)


@pytest.mark.parametrize("renamed", [False, True])
def test_an_interruption_at_the_rename_leaves_a_run_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: bool
) -> None:
    result, replace = train(Corridor(), KEY, CONFIG), os.replace
    save(result, tmp_path)

    def interrupted(source, target):
        if Path(target).name != "run.json":
            return replace(source, target)
        if renamed:
            replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(result, tmp_path)
    monkeypatch.undo()
    assert load(tmp_path, Corridor()).state.updates == result.state.updates
    save(result, tmp_path)
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1


def test_an_interruption_within_a_chunk_saves_no_torn_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["jaxpuffer.fit"]  # `jaxpuffer.fit` is the function
    check, calls = module.check_finite, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        check(*args)

    monkeypatch.setattr(module, "check_finite", interrupted)
    config = tiny_config(total_steps=10**7)
    with pytest.raises(KeyboardInterrupt):
        fit(Corridor(), KEY, config, directory=tmp_path, progress=False, save_every_seconds=0.0)
    saved = load(tmp_path, Corridor())
    assert len(saved.metrics["score"]) == int(saved.state.updates) > 0


def test_a_failed_save_keeps_the_result_where_warnings_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    import orbax.checkpoint

    monkeypatch.setattr(orbax.checkpoint.StandardCheckpointer, "save", full_disk)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = fit(Corridor(), KEY, CONFIG, directory=tmp_path, progress=False)
    assert int(result.state.updates) == CONFIG.num_updates
    assert "No space left" in capsys.readouterr().err


def test_a_floating_point_error_of_the_users_own_saves_first(tmp_path: Path) -> None:
    def log(steps: int, means: dict) -> None:
        raise FloatingPointError("mine")

    with pytest.raises(FloatingPointError, match="mine"):
        fit(Corridor(), KEY, tiny_config(total_steps=10**6), directory=tmp_path, log=log, progress=False)
    assert steps_of(tmp_path) == CONFIG.batch_size


def test_parameters_that_are_nan_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "all_finite", lambda params: False)
    with pytest.raises(FloatingPointError, match="parameters are NaN or infinite after update 1"):
        fit(Corridor(), KEY, CONFIG, directory=tmp_path, progress=False)
    assert not (tmp_path / "run.json").exists()


def test_a_programs_own_ctrl_c_handler_stays() -> None:
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        result = fit(Corridor(), KEY, CONFIG, progress=False, log=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen and int(result.state.updates) == CONFIG.num_updates
