"""Bad inputs, from the command line and from Python: each gets one line that names it and says what is allowed."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from toy_envs import Corridor, tiny_config

from jaxpuffer import PPOConfig, animate, evaluate, fit, load, make, save, train
from jaxpuffer.baselines import load_baseline
from jaxpuffer.cli import main
from jaxpuffer.ppo import Result
from jaxpuffer.sharding import data_mesh, train_on
from jaxpuffer.spaces import Box, Discrete, MultiDiscrete

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, a file and an empty folder, and the run damaged in several ways."""
    folder = tmp_path_factory.mktemp("bad")
    save(train("cartpole", KEY, tiny_config(total_steps=128)), folder / "run", KEY)
    (folder / "file").write_text("")
    (folder / "empty").mkdir()
    text = (folder / "run" / "run.json").read_text()
    record = {name: value for name, value in json.loads(text).items() if name != "record_checksum"}
    (entry,) = record["checkpoints"]
    for name, damaged in {
        "cut": text[: len(text) // 2],
        "flipped": text.replace('"gamma": 0.9', '"gamma": 0.8'),
        "binary": "\0\0\0",
        "no_config": json.dumps(record | {"config": None}),
        "bad_config": json.dumps(record | {"config": record["config"] | {"gamma": 5}}),
        "bad_parameter": json.dumps(record | {"parameters": record["parameters"] | {"gravity": -1}}),
        "bad_name": json.dumps(record | {"environment": "cartpol"}),
        "no_checkpoint": json.dumps(record | {"checkpoints": [entry | {"checkpoint": "checkpoint-9"}]}),
        "other_numbers": json.dumps(record | {"checkpoints": [entry | {"checksum": "0" * 64}]}),
    }.items():
        (folder / name).mkdir()
        (folder / name / "checkpoint-1").symlink_to(folder / "run" / "checkpoint-1")
        (folder / name / "run.json").write_text(damaged)
    return folder


@pytest.fixture(scope="module")
def run(saved: Path) -> Result:
    return load(saved / "run")


TRAIN = "train cartpole --config.total_steps 128 --config.num_envs 16 --config.horizon 8 --config.minibatch_size 64 "

COMMANDS = {
    # commands, environments, flags
    "trian cartpole": "there is no command 'trian'; did you mean train?",
    "''": "there is no command '' (see jaxpuffer --help)",
    "--verison": "there is no command '--verison'",
    "list cartpole": "usage: jaxpuffer list",
    "config": "usage: jaxpuffer config ENV",
    "config cartpole pong": "usage: jaxpuffer config ENV",
    "config cartpol": "no environment 'cartpol'; did you mean 'cartpole'? (there are: asteroids,",
    "train": "usage: jaxpuffer train ENV [flags]",
    "train --seed 3": "usage: jaxpuffer train ENV [flags]",
    "train pongg": "no environment 'pongg'; did you mean 'pong'?",
    "train cartpole pong": "there is no argument 'pong' (see jaxpuffer train cartpole --help)",
    "train cartpole -x": "there is no argument '-x'",
    "train cartpole --": "there is no flag --",
    "train cartpole --help=all": "there is no flag --help=all",
    "train cartpole --sede 3": "there is no flag --sede; did you mean --seed?",
    "train cartpole --config.learning_rat 3": "there is no flag --config.learning_rat; did you mean",
    "train cartpole --config.num_agents 3": "there is no flag --config.num_agents",
    "train cartpole --env.gravit 3": "there is no flag --env.gravit; did you mean --env.gravity?",
    # values that are missing or of a wrong kind
    "train cartpole --seed": "--seed needs a value",
    "train cartpole --config.gamma --seed 1": "--config.gamma needs a value",
    "train cartpole --resume yes": "there is no argument 'yes'",
    "train cartpole --resume=yes": "--resume is 'yes'; it takes no value",
    "train cartpole --seed=": "--seed is ''; it must be a whole number",
    "train cartpole --seed nan": "--seed is 'nan'; it must be a whole number",
    "train cartpole --seed 1.5": "--seed is '1.5'; it must be a whole number",
    "train cartpole --config.total_steps 1e6x": "--config.total_steps is '1e6x'; it must be a whole number",
    "train cartpole --config.learning_rate fast": "--config.learning_rate is 'fast'; it must be a number",
    "train cartpole --config.early_stop maybe": "--config.early_stop is 'maybe'; it must be one of True, False",
    "train cartpole --env.max_steps 1.5": "--env.max_steps is '1.5'; it must be a whole number",
    "train cartpole --backend cuda": "--backend is 'cuda'; it must be one of jax, c",
    "train cartpole --stop_at_score high": "--stop_at_score is 'high'; it must be a number",
    "train cartpole --out ''": "--out is empty; it must be a path",
    "eval cartpole --episodes many": "--episodes is 'many'; it must be a whole number",
    # numbers out of range, and sizes that contradict each other
    "train cartpole --seed -1": "--seed is -1; it must be from 0 to 4294967295",
    "train cartpole --devices 0": "devices is 0; it must be from 1 to",
    "train cartpole --config.total_steps -5": "PPOConfig.total_steps is -5; it must be at least 1",
    "train cartpole --config.num_envs 0": "PPOConfig.num_envs is 0; it must be at least 1",
    "train cartpole --config.learning_rate nan": "PPOConfig.learning_rate is nan; it must be finite",
    "train cartpole --config.learning_rate inf": "PPOConfig.learning_rate is inf; it must be finite",
    "train cartpole --config.clip 0": "PPOConfig.clip is 0.0; it must not be 0",
    "train cartpole --config.optimizer sgd": "PPOConfig.optimizer is 'sgd'; it must be one of muon, adam",
    "train cartpole --config.policy lstm --config.layers 0": "PPOConfig.policy is 'lstm'; it needs layers of",
    "train cartpole --config.minibatch_size 7": "PPOConfig.minibatch_size is 7; it must be a multiple of horizon",
    "train cartpole --env.gravity nan": "CartPole.gravity is nan; it must be finite",
    "train cartpole --env.max_steps 0": "CartPole.max_steps is 0; it must be at least 1",
    f"{TRAIN} --stop_at_score inf": "stop_at_score is inf; it must be a finite number or None",
    "eval cartpole --episodes 0": "episodes is 0; it must be at least 1",
    "eval cartpole --max_steps 1e12": "max_steps is 1000000000000; it must fit in 32 bits",
    # files and folders
    f"{TRAIN} --out file": "file; it must be a folder that can be made and written (a file is there)",
    f"{TRAIN} --out file/run": "file/run; it must be a folder that can be made and written (Not a directory)",
    f"{TRAIN} --out /proc/run": "/proc/run; it must be a folder that can be made and written",
    f"{TRAIN} --out gs://bucket/run": "it must be a path on this machine, not a URL",
    f"{TRAIN} --out ~nobody_of_this_name/run": "'~nobody_of_this_name/run'; the user whose home directory it names",
    f"{TRAIN} --out run": "there is a run in",
    f"{TRAIN} --out run --resume --config.gamma 0.5": "has config.gamma = 0.995, not 0.5",
    "train pong --out run --resume": "is of cartpole, not of pong",
    "eval": "usage: jaxpuffer eval RUN",
    "eval nowhere": "there is no saved run in",
    "eval file": "there is no saved run in",
    "eval empty": "there is no saved run in",
    "eval cut": "run.json is damaged: it is not JSON",
    "eval binary": "run.json is damaged: it is not JSON",
    "eval flipped": "run.json is not as it was saved; take the run from a copy",
    "eval no_config": "run.json is damaged: it has no config, or not as a dict",
    "eval bad_config": "PPOConfig.gamma is 5; it must be from 0 to 1",
    "eval bad_parameter": "run.json has an environment that this version does not take: CartPole.gravity is -1",
    "eval bad_name": "run.json has an environment that this version does not take: there is no environment 'cartpol'",
    "eval no_checkpoint": "checkpoint-9 is damaged: it cannot be read",
    "eval other_numbers": "checkpoint-1 is damaged: its numbers are not those that were saved",
    "eval cartpole --gif /nowhere/a.gif": "there is no folder /nowhere",
    "eval cartpole --json /nowhere/a.json": "--json is /nowhere/a.json; there is no folder /nowhere",
}


@pytest.mark.parametrize(("command", "message"), COMMANDS.items())
def test_a_command_is_refused_in_one_line(
    command: str, message: str, saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved)
    with pytest.raises(SystemExit) as stop:
        main(shlex.split(command))
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("jaxpuffer: ") and error.count("\n") == 1 and message in error
    assert not list(saved.glob("runs/*/run.json"))


@pytest.mark.parametrize(
    ("command", "platforms", "message"),
    [
        ("train cartpole --seed 1.5", "cpu", "--seed is '1.5'; it must be a whole number"),
        ("train cartpole", "gpuu", "Unable to initialize backend 'gpuu'"),
    ],
)
def test_a_process_ends_with_2_and_no_traceback(command: str, platforms: str, message: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "JAX_PLATFORMS": platforms}
    done = subprocess.run(
        [sys.executable, "-m", "jaxpuffer", *command.split()],
        env=environment, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def config(**fields: Any) -> Callable[[Result, Path], Any]:
    return lambda run, folder: PPOConfig(**fields)


def cartpole(*arguments: Any, **parameters: Any) -> Callable[[Result, Path], Any]:
    return lambda run, folder: make("cartpole", *arguments, **parameters)


def fitted(**options: Any) -> Callable[[Result, Path], Any]:
    return lambda run, folder: fit("cartpole", KEY, tiny_config(total_steps=128), **options)


def fitted_in(name: str, **changes: Any) -> Callable[[Result, Path], Any]:
    return lambda run, folder: fit("cartpole", KEY, tiny_config(**changes), directory=folder / name)


def vec_env(**arguments: Any) -> Callable[[Result, Path], Any]:
    def make_one(run: Result, folder: Path) -> Any:
        from envs_c import VecEnv

        return VecEnv("cartpole", **arguments)

    return make_one


def stepped(actions: Any, seed: Any = 0) -> Callable[[Result, Path], Any]:
    def step(run: Result, folder: Path) -> Any:
        env = vec_env(num_envs=4)(run, folder)
        env.reset(seed=seed)
        return env.step(actions)

    return step


needs_c = pytest.mark.needs_c

PYTHON: list[Any] = [
    # make: names, backends, parameters
    (lambda r, p: make("cartpol"), ValueError, "no environment 'cartpol'; did you mean 'cartpole'"),
    (lambda r, p: make(None), TypeError, "name is None; it must be a registered name, such as 'cartpole'"),
    (lambda r, p: make(["cartpole"]), TypeError, r"name is \['cartpole'\]; it must be a registered name"),
    (cartpole("cuda"), ValueError, "backend is 'cuda'; it must be 'jax' or 'c'"),
    (cartpole(threads=1.5), ValueError, "threads is 1.5; it must be a whole number, 0 .all. or more"),
    (cartpole("c", threads=-1), ValueError, "threads is -1; it must be a whole number"),
    (cartpole(gravit=1), TypeError, "cartpole has no parameter 'gravit'; did you mean 'gravity'"),
    (cartpole(gravity="9.8"), TypeError, "CartPole.gravity is '9.8'; it must be float"),
    (cartpole(gravity=float("nan")), ValueError, "CartPole.gravity is nan; it must be finite"),
    (cartpole(max_steps=1.5), TypeError, "CartPole.max_steps is 1.5; it must be a whole number"),
    (cartpole(max_steps=2**40), ValueError, "CartPole.max_steps is 1099511627776; it must fit in 32 bits"),
    (lambda r, p: make("cartpole").replace(gravit=1), TypeError, "CartPole has no parameter 'gravit'"),
    (lambda r, p: make("cartpole").axes("gravit"), TypeError, "CartPole has no parameter 'gravit'"),
    # actions, keys and sizes of environments
    (lambda r, p: make("cartpole").batch(0), ValueError, "num_envs is 0; it must be at least 1"),
    (lambda r, p: make("cartpole").reset(0), TypeError, "key is 0; it must be a JAX key"),
    (lambda r, p: r.env.step(r.env.init(np.uint32([1, 2])), 7), ValueError, "action is 7; it must be from 0 to 1"),
    (lambda r, p: r.env.step(None, 0.5), TypeError, r"action is float32\[\]; it must be int32\[\]"),
    pytest.param(vec_env(num_envs=0), ValueError, "num_envs is 0; it must be an int of at least 1", marks=needs_c),
    pytest.param(vec_env(threads=0), ValueError, "threads is 0; it must be an int of at least 1", marks=needs_c),
    pytest.param(stepped(np.zeros(4, np.int32), -1), ValueError, "seed is -1; it must be None or", marks=needs_c),
    pytest.param(stepped(np.full(4, 7, np.int32)), ValueError, "action 7 of agent 0.* from 0 to 1", marks=needs_c),
    pytest.param(stepped(np.zeros(3, np.int32)), ValueError, r"actions has shape \(3,\); it must", marks=needs_c),
    # spaces
    (lambda r, p: Discrete(0), ValueError, "n is 0; a Discrete space needs at least 1 choice"),
    (lambda r, p: MultiDiscrete(()), ValueError, r"nvec is \(\); a MultiDiscrete space needs entries"),
    (lambda r, p: Box(1, 0, (2,)), ValueError, "low is 1 and high is 0; low must be below high"),
    (lambda r, p: Box(float("nan"), 1, (2,)), ValueError, "low is nan and high is 1; low must be below high"),
    # configurations
    (config(lerning_rate=1), TypeError, "PPOConfig has no parameter 'lerning_rate'; did you mean 'learning_rate'"),
    (config(total_steps="1e6"), TypeError, "PPOConfig.total_steps is '1e6'; it must be int"),
    (config(total_steps=float("inf")), TypeError, "PPOConfig.total_steps is inf; it must be int"),
    (config(num_envs=True), TypeError, "PPOConfig.num_envs is True; it must be int"),
    (config(horizon=0), ValueError, "PPOConfig.horizon is 0; it must be at least 1"),
    (config(hidden=-1), ValueError, "PPOConfig.hidden is -1; it must be at least 1"),
    (config(gae_lambda=1.5), ValueError, "PPOConfig.gae_lambda is 1.5; it must be from 0 to 1"),
    (config(clip=0), ValueError, "PPOConfig.clip is 0"),
    (config(reward_scale=0), ValueError, "PPOConfig.reward_scale is 0"),
    (config(max_grad_norm=0), ValueError, "PPOConfig.max_grad_norm is 0"),
    (config(update_epochs=0), ValueError, "PPOConfig.update_epochs is 0"),
    (config(learning_rate=float("inf")), ValueError, "PPOConfig.learning_rate is inf; it must be finite"),
    (config(early_stop="yes"), TypeError, "PPOConfig.early_stop is 'yes'; it must be bool"),
    (config(policy="transformer"), ValueError, "PPOConfig.policy is 'transformer'; it must be one of linear, mlp"),
    (config(policy="mingru", separate_critic=True), ValueError, r"'mingru'; .* separate_critic=False \(True\)"),
    # training
    (lambda r, p: train(KEY, "cartpole"), TypeError, "env is a PRNGKeyArray; it must be an environment"),
    (lambda r, p: train("cartpole", 0), TypeError, "key is 0; it must be a JAX key"),
    (lambda r, p: train("cartpole", jax.random.split(KEY)), TypeError, r"key has the shape \(2,\)"),
    (lambda r, p: train("cartpole", KEY, {"num_envs": 4}), TypeError, r"config is .*: PPOConfig\(\*\*config\)"),
    (lambda r, p: train("cartpole", KEY, module=3), TypeError, "int has no initialize_carry; a policy is a Flax"),
    (lambda r, p: train("cartpole", KEY, module=nn.Dense(3)), TypeError, "Dense has no initialize_carry"),
    (lambda r, p: train_on("cartpole", KEY, mesh=None), TypeError, "mesh is None; it must be a Mesh"),
    (lambda r, p: data_mesh([]), TypeError, r"devices is \[\]; it must be a list of JAX devices"),
    (lambda r, p: data_mesh(2), TypeError, "devices is 2; it must be a list of JAX devices"),
    (fitted(resume="no"), TypeError, "resume is 'no'; it must be True or False"),
    (fitted(profile=1), TypeError, "profile is 1; it must be True or False"),
    (fitted(resume=True), ValueError, "resume=True needs the directory of the run"),
    (fitted(stop_at_score=float("inf")), ValueError, "stop_at_score is inf; it must be a finite number"),
    (fitted(save_every_seconds=-1), ValueError, "save_every_seconds is -1; it must be a number of at least 0"),
    (fitted(directory="a\0b"), ValueError, "a path has no null character"),
    (fitted_in("file"), FileExistsError, r"directory is .*file; it must be a folder .*a file is there"),
    (fitted_in("run"), FileExistsError, r"there is a run in .*run: resume it .resume=True."),
    # saved runs
    (lambda r, p: save(r.policy, p / "new"), TypeError, "result is a Policy; it must be what train, fit or load"),
    (lambda r, p: save(r, p / "file"), FileExistsError, r"directory is .*file; it must be a folder"),
    (lambda r, p: save(r, p / "new", key=3), TypeError, "key is 3; it must be a JAX key"),
    (lambda r, p: load(5), TypeError, "directory is 5; it must be a path"),
    (lambda r, p: load(p / "run", env=3), TypeError, "env is a int; it must be an environment"),
    (lambda r, p: load(p / "run", env="pong"), ValueError, r"trained on .*CartPole; env is .*Pong"),
    (lambda r, p: load(p / "run", env=Corridor()), ValueError, r"trained on .*CartPole; env is .*Corridor"),
    (lambda r, p: load(p / "run", module=nn.Dense(3)), ValueError, "with the config's network; module is .*Dense"),
    (lambda r, p: load_baseline("cartpol"), ValueError, "no environment 'cartpol'"),
    # evaluation and pictures
    (lambda r, p: evaluate("cartpole", r, KEY, episodes=0), ValueError, "episodes is 0; it must be at least 1"),
    (lambda r, p: evaluate("cartpole", r, KEY, max_steps=0.5), TypeError, "max_steps is 0.5; it must be an int"),
    (lambda r, p: evaluate("cartpole", None, KEY), TypeError, "policy is a NoneType; it must be a Policy"),
    (lambda r, p: evaluate("pong", r, KEY), TypeError, "made for the observation_space .*; the environment's is"),
    (lambda r, p: animate("cartpole", r, KEY, fps=0), ValueError, "fps is 0; it must be from 1 to 50"),
    (lambda r, p: animate("cartpole", r, KEY, steps=0), ValueError, "steps is 0; it must be at least 1"),
    (lambda r, p: animate("cartpole", r, KEY, path="x.avi"), ValueError, "path is 'x.avi'; it must end in .gif"),
]


@pytest.mark.parametrize(("call", "kind", "message"), PYTHON)
def test_a_call_is_refused_in_one_line(
    call: Callable[[Result, Path], Any], kind: type[Exception], message: str, run: Result, saved: Path
) -> None:
    with pytest.raises(kind) as caught:
        call(run, saved)
    text = str(caught.value)
    assert type(caught.value) is kind and "\n" not in text and re.search(message, text), text
    assert not (saved / "new").exists()


def test_one_episode_has_no_standard_error(run: Result) -> None:
    alone = evaluate("cartpole", run, KEY, episodes=1, max_steps=3)
    assert "nan" not in str(alone) and "3.0000 (1 episode)" in str(alone)
    assert np.isnan(alone.summary()["score"]["standard_error"])


@pytest.mark.needs_c
def test_a_jaxlib_that_refuses_the_c_environments_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("INVALID_ARGUMENT: the handler's API version (0.99) is incompatible")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    monkeypatch.delitem(sys.modules, "jaxpuffer.c_backend", raising=False)
    with pytest.raises(ImportError, match=r"do not fit jaxlib \d+\.\d+.*; upgrade jax \(INVALID_ARGUMENT"):
        make("cartpole", backend="c")
