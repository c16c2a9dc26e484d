"""The command line as a user runs it, in separate processes."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import pytest

from jaxpuffer import PPOConfig, __version__, cli, list_envs, load, saving
from jaxpuffer.cli import main
from jaxpuffer.config_file import chosen_config
from jaxpuffer.registry import default_backend

ROOT = Path(__file__).parent.parent
TINY = [
    "--config.total_steps", "640", "--config.num_envs", "16", "--config.horizon", "8", "--config.minibatch_size", "64",
    "--config.hidden", "16", "--config.optimizer", "adam",
]  # fmt: skip


def run(*args, devices=1):
    flags = os.environ["XLA_FLAGS"] + f" --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "jaxpuffer.cli", *map(str, args)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_list_and_config(capsys):
    main(["list"])
    table, note = capsys.readouterr().out.split("\n\n")
    _, *rows = [line.split("  ") for line in table.splitlines()]
    assert [row[0].strip() for row in rows] == list_envs()
    snake = next(line for line in table.splitlines() if line.startswith("snake"))
    assert all(x in snake for x in ("16", "int8 (121,)", "Discrete(4), masked")) and "baseline" in note
    main(["config", "cartpole"])
    assert tomllib.loads(capsys.readouterr().out)["optimizer"] in ("muon", "adam")


def test_train_then_evaluate(tmp_path):
    out = tmp_path / "run"
    done = run(
        "train",
        "cartpole",
        "--backend=jax",
        *TINY,
        "--env.max_steps=30",
        "--seed=3",
        f"--out={out}",
        "--evaluate_every=1e3",
    )
    assert done.returncode == 0, done.stderr
    assert "backend jax, seed 3" in done.stdout
    assert "256 episodes" in done.stdout and "since the process started" in done.stdout and "compiling" in done.stdout
    assert f"jaxpuffer eval {out} --gif agent.gif" in done.stdout
    record = json.loads((out / "run.json").read_text())
    assert (record["backend"], record["seed"], record["agent_steps"]) == ("jax", 3, 640)
    assert record["parameters"]["max_steps"] == 30
    assert int(load(out).state.updates) == 5

    figures, picture, player = (tmp_path / name for name in ("figures.json", "episode.gif", "episode.html"))
    pictures = "--gif", picture, "--html", player
    done = run("eval", out, "--episodes", "8", "--json", figures, *pictures, "--deterministic")
    assert done.returncode == 0, done.stderr
    summary = json.loads(figures.read_text())
    assert summary["deterministic"] is True
    assert set(summary["score"]) == {"mean", "standard_error", "count"} and summary["score"]["count"] == 8
    assert 1 <= summary["episode_length"]["mean"] <= 30 and summary["unfinished"] == 0
    assert picture.read_bytes().startswith(b"GIF89a") and player.read_text().startswith("<!DOCTYPE html>")

    flat = tmp_path / "policy.bin"
    done = run("export", out, "--out", flat)
    assert (done.returncode, done.stdout) == (0, f"wrote {flat}\n"), done.stderr
    about = json.loads(flat.with_suffix(".json").read_text())
    assert (about["environment"], about["parameters"]["max_steps"]) == ("cartpole", 30)
    assert flat.stat().st_size == 4 * about["numbers"]


def test_train_on_two_devices_and_go_on(tmp_path):
    small = [*TINY, "--backend=jax", f"--out={tmp_path}"]
    done = run("train", "cartpole", *small, "--devices=2", devices=2)
    assert done.returncode == 0, done.stderr
    assert "backend jax on 2 devices" in done.stdout and "256 episodes" in done.stdout
    assert json.loads((tmp_path / "run.json").read_text())["devices"] == 2
    done = run("train", "cartpole", *small, "--resume", devices=2)
    assert done.returncode == 0 and "on 2 devices" in done.stdout, done.stderr
    done = run("train", "cartpole", *small, "--resume")
    assert done.returncode == 2 and "devices is 2; it must be from 1 to 1, one for each core" in done.stderr


def test_a_reader_that_leaves_early():
    command = [sys.executable, "-m", "jaxpuffer.cli", "list"]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 1
    process.stderr.close()


def test_finetune_goes_on_under_other_settings(tmp_path, capsys, monkeypatch):
    first, other = tmp_path / "first", tmp_path / "other"
    main(["train", "cartpole", *TINY, "--out", str(first), "--keep", "2", "--evaluate_every", "256"])
    settings = ["--env.max_steps", "30", "--config.learning_rate", "0", "--config.total_steps", "256"]
    main(["finetune", str(first), "--out", str(other), *settings])
    record = json.loads((other / "run.json").read_text())
    assert record["parameters"]["max_steps"] == 30 and record["config"]["hidden"] == 16 and record["updates"] == 2
    before, after = (jax.tree.leaves(load(run).policy.params) for run in (first, other))
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    file = tmp_path / "a.toml"
    file.write_text("gamma = 0.5\n[env]\nmax_steps = 30\n")
    parameters, config = settings_of(monkeypatch, "finetune", str(first), "--out", f"{other}-2", "--config", str(file))
    assert (config.gamma, config.hidden, parameters["max_steps"]) == (0.5, 16, 30)
    capsys.readouterr()
    main(["eval", str(first), "--checkpoint", "best", "--episodes", "8"])
    assert "8 episodes" in capsys.readouterr().out
    for args, message in (
        (["finetune", str(first)], "usage: jaxpuffer finetune RUN --out DIR"),
        (["finetune", "cartpole", "--out", "x"], "there is no saved run in"),
        (["eval", str(first), "--checkpoint", "checkpoint-77"], "checkpoint is 'checkpoint-77'; it must be"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(args)
        assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_policy_that_is_not_saved_is_said(tmp_path, capsys, monkeypatch):
    def after_the_first(*args):
        monkeypatch.setattr(saving, "store", no_space)
        store(*args)

    def no_space(*_):
        raise OSError("No space left on device")

    store = saving.store
    monkeypatch.setattr(saving, "store", after_the_first)
    with pytest.warns(RuntimeWarning, match="No space left"), pytest.raises(SystemExit) as stop:
        main(["train", "cartpole", *TINY, "--out", str(tmp_path), "--evaluate_every", "128"])
    assert stop.value.code == 2
    assert "the policy at the end is not saved" in capsys.readouterr().err


def test_resume_takes_the_runs_settings_and_refuses_others(tmp_path, capsys):
    main(["train", "cartpole", *TINY, "--seed", "3", "--out", str(tmp_path)])
    assert f"backend {default_backend()}" in capsys.readouterr().out
    before = json.loads((tmp_path / "run.json").read_text())["config"]
    other, same = tmp_path / "other.toml", tmp_path / "same.toml"
    other.write_text("gamma = 0.5")
    same.write_text("num_envs = 16\n[env]\nmax_steps = 500")
    for args, message in (
        ([], "with --resume, or choose another --out"),
        (["--resume", "--config.gamma", "0.5"], "not 0.5"),
        (["--resume", "--config", str(other)], "not 0.5"),
        (["--resume", "--seed", "4"], "key [0, 3], not [0, 4]"),
    ):
        assert message in refusal(capsys, "train", "cartpole", "--out", str(tmp_path), *args)
    main(["train", "cartpole", "--out", str(tmp_path), "--resume", "--config", str(same)])
    assert "seed 3" in capsys.readouterr().out
    assert json.loads((tmp_path / "run.json").read_text())["config"] == before


def settings_of(monkeypatch, *args):
    """The environment and the config that a command would train with."""
    called = []
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(cli, "fit_or_signal", lambda env, key, config, **_: called.append((env, config)) or (None, 2))
        main(args)
    ((env, config),) = called
    return getattr(env, "env", env).to_dict(), config


def test_a_file_overrides_the_tuned_configuration_and_flags_override_the_file(tmp_path, capsys, monkeypatch):
    file = tmp_path / "a.toml"
    command = ["train", "cartpole", f"--out={tmp_path}/run"]
    main(["config", "cartpole"])
    file.write_text(capsys.readouterr().out)
    parameters, tuned = settings_of(monkeypatch, *command)
    assert settings_of(monkeypatch, *command, "--config", str(file)) == (parameters, tuned)

    file.write_text('gamma = 0.5\nhidden = 32\npolicy = "lstm"\nnormalize_return = false\n[env]\ngravity = 2\n')
    found, config = settings_of(monkeypatch, *command, f"--config={file}", "--config.gamma=0.25", "--env.force=3")
    assert found == parameters | {"gravity": 2.0, "force": 3.0}
    assert config == tuned.replace(gamma=0.25, hidden=32, policy="lstm", normalize_return=False)
    capsys.readouterr()
    file.write_text("num_envs = 3\n")
    _, config = settings_of(monkeypatch, *command, f"--config={file}")
    assert config.minibatch_size == 3 * tuned.horizon and "does not divide the batch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gamma = ", "a.toml is not TOML: Invalid value (at end of document)"),
        ("\ngamma 3", "a.toml is not TOML: Expected '=' after a key in a key/value pair (at line 2, column 7)"),
        ("\xff", "a.toml is not TOML: 'utf-8'"),
        ("gama = 0.9", "a.toml: PPOConfig has no parameter 'gama'; did you mean 'gamma'?"),
        ("num_agents = 2", "a.toml: num_agents is 2; it follows from the environment"),
        ("gamma = '0.9'", "a.toml: gamma is '0.9'; it must be a number"),
        ("gamma = [0.9, 0.8]", "a.toml: gamma is [0.9, 0.8]; it must be a number"),
        ("gamma = 1.5", "a.toml: PPOConfig.gamma is 1.5; it must be from 0 to 1"),
        ("num_envs = 1.5", "a.toml: PPOConfig.num_envs is 1.5; it must be int"),
        ("early_stop = 1", "a.toml: early_stop is 1; it must be true or false"),
        ("policy = 'mpl'", "a.toml: PPOConfig.policy is 'mpl'; it must be one of linear, mlp"),
        ("minibatch_size = 500", "a.toml: PPOConfig.minibatch_size is 500; it must be a multiple"),
        ("env = 3", "a.toml: env is 3; it must be a table"),
        ("[env]\ngravit = 3", "a.toml: CartPole has no parameter 'gravit'; did you mean 'gravity'?"),
        ("[env]\ngravity = true", "a.toml: env.gravity is True; it must be a number"),
        ("[env]\ngravity = -3", "a.toml: CartPole.gravity is -3; it must be at least 0"),
        ("[evn]\ngravity = 3", "a.toml: PPOConfig has no parameter 'evn'"),
    ],
)
def test_a_mistake_in_a_file_names_the_file(capsys, tmp_path, text, message):
    (tmp_path / "a.toml").write_text(text, encoding="latin-1")
    command = ["train", "cartpole", "--out", str(tmp_path / "run"), "--config", str(tmp_path / "a.toml")]
    assert message in refusal(capsys, *command)


def refusal(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(args)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("trian cartpole", "did you mean train?"),
        ("train cartpol", "did you mean 'cartpole'?"),
        ("train cartpole --config.learning-rat 3", "did you mean --config.learning_rate?"),
        ("train cartpole --env.gravit 3", "did you mean --env.gravity?"),
        ("train cartpole --sead 3", "did you mean --seed?"),
        ("train cartpole --config.horizon abc", "--config.horizon"),
        ("train cartpole --config.gamma 1.5", "PPOConfig.gamma is 1.5; it must be from 0 to 1"),
        ("train cartpole --env.gravity -3", "CartPole.gravity is -3.0; it must be at least 0"),
        ("train cartpole --config.minibatch_size 100", "it must be a multiple of horizon ("),
        ("train cartpole --backend cuda", "'cuda'"),
        ("train cartpole --config", "--config needs a value"),
        ("train cartpole --config=", "--config is empty; it must be a path"),
        ("train cartpole --config /nowhere.toml", "there is no file /nowhere.toml"),
        ("train cartpole --confg a.toml", "did you mean --config?"),
        ("eval /nowhere", "there is no saved run in /nowhere"),
        ("eval cartpole --gif /nowhere/a.gif", "there is no folder /nowhere"),
        ("eval", "usage: jaxpuffer eval RUN"),
        ("export", "usage: jaxpuffer export RUN"),
        ("export cartpole", "usage: jaxpuffer export RUN --out FILE"),
        ("export cartpole --out a.pt", "it must end in .safetensors, .bin, .stablehlo, .onnx"),
        ("export cartpole --out a.bin --format pt", "format is 'pt'; it must be one of safetensors, flat"),
        ("export /nowhere --out a.bin", "there is no saved run in /nowhere"),
        ("config", "usage: jaxpuffer config ENV"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(capsys, command, message):
    assert message in refusal(capsys, *command.split())


def test_a_mistake_has_no_traceback():
    done = run("train", "nothing")
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "99999999999999999999"], "--seed is 99999999999999999999; it must be from 0 to"),
        (["--config.hidden", "1e30"], "hidden is 1000000000000000000000000000000; it must fit in 64 bits"),
        (["--config.num_envs", "1_000_000_000_000"], "GiB of memory"),
        (["--config.horizon=1.5"], "--config.horizon"),
    ],
)
def test_numbers_out_of_range_are_refused_in_one_line(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "cartpole", "--out", str(tmp_path / "run"), *flags])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1 and "Traceback" not in error


def test_a_minibatch_follows_a_batch_that_it_no_longer_divides(capsys) -> None:
    tuned = PPOConfig(num_envs=64, horizon=16, minibatch_size=512)
    chosen = {"num_envs": 64, "horizon": 16, "minibatch_size": 512}
    assert chosen_config(chosen, tuned, 1) == tuned and not capsys.readouterr().out
    config = chosen_config(chosen | {"num_envs": 48}, tuned, 1)
    assert config.minibatch_size == 48 * 16
    assert "config.minibatch_size is 768, because 512 does not divide the batch, 768" in capsys.readouterr().out
    assert chosen_config(chosen, tuned, 3).minibatch_size == 512
    with pytest.raises(ValueError, match="minibatch_size is 500"):
        chosen_config(chosen | {"minibatch_size": 500}, tuned, 1)


def test_whole_numbers_may_be_written_short(tmp_path, capsys):
    for steps in ("6.4e2", "6_40"):
        out = tmp_path / steps
        main(["train", "cartpole", "--backend=jax", "--out", str(out), *TINY, f"--config.total_steps={steps}"])
        assert load(out).config.total_steps == 640
    capsys.readouterr()


def test_version_and_ascii_and_null(tmp_path):
    figures = tmp_path / "figures.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "JAX_DEFAULT_PRNG_IMPL": "rbg"}
    command = [
        sys.executable,
        "-m",
        "jaxpuffer",
        "eval",
        "cartpole",
        "--episodes=2",
        "--max_steps=9",
        f"--json={figures}",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "+-" in done.stdout and json.loads(figures.read_text())["score"]["count"] == 2
    assert "NaN" not in figures.read_text()


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"jaxpuffer {__version__}\n"


@pytest.mark.full
def test_compiled_programs_are_kept_unless_told_otherwise(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    done = run("train", "cartpole", "--out", tmp_path / "a", "--no_cache", *TINY)
    assert done.returncode == 0 and not (tmp_path / "cache").exists() and "are kept in" not in done.stdout
    done = run("train", "cartpole", "--out", tmp_path / "b", *TINY)
    assert done.returncode == 0 and f"compiled programs are kept in {tmp_path / 'cache'}" in done.stdout
    before = {path.name for path in (tmp_path / "cache").rglob("*-cache")}
    again = run("train", "cartpole", "--out", tmp_path / "c", *TINY)
    assert before and "are kept in" not in again.stdout
    assert {path.name for path in (tmp_path / "cache").rglob("*-cache")} == before  # nothing was compiled again
    figures = [line for line in done.stdout.splitlines() if line.startswith("score")]
    assert figures == [line for line in again.stdout.splitlines() if line.startswith("score")]
