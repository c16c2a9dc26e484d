"""Several devices: the same training, and only gradients and means are exchanged between them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jaxpuffer import PPOConfig, fit, load, make
from jaxpuffer.sharding import data_mesh, local_config, split_cpu, take_devices, train_on

SCRIPT = Path(__file__).parent / "sharded_training.py"


def run(*args: Any, devices: int = 8) -> subprocess.Popen:
    flags = os.environ["XLA_FLAGS"] + f" --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(SCRIPT.parent.parent)}
    command = [sys.executable, str(SCRIPT), *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process: subprocess.Popen) -> dict[str, Any]:
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=2e-3, atol=1e-4, err_msg=name)


@pytest.mark.needs_c
@pytest.mark.parametrize("backend", ["jax", "c"])
def test_eight_devices_train_as_one(backend: str) -> None:
    got = answer(run("local", backend))
    same(got["one"], got["eight"])
    assert got["episodes"] > 100
    # what the devices exchange
    # means, and the pairs of mean and variance that normalise advantages
    assert got["collectives"] == ["all-gather", "all-reduce"]


@pytest.mark.needs_c
def test_fit_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    got = answer(run("interrupted", "c", tmp_path, devices=4))
    assert 0 < got["first updates"] < 12
    assert "was trained on 4 devices, not 1" in got["refusal"]
    assert got["resumed"] == got["straight"]  # bit for bit
    same(got["one"], got["resumed"])
    state, *policy = got["devices"]
    assert state == 4 and set(policy) == {1}  # so that a policy is not played on all of them


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [run("fitted", port, number, tmp_path, devices=2) for number in range(2)]
    first, second = map(answer, processes)
    # the first process reports, and where it is interrupted both end
    assert [part.pop("calls") for part in (first, second)] == [1, 0]
    updates = [part.pop("first updates") for part in (first, second)]
    assert updates[0] == updates[1] and 0 < updates[0] < 12
    scores = [part.pop("scores") for part in (first, second)]
    assert len(scores[0]) == 3 and not scores[1]
    trained = [part.pop("trained") for part in (first, second)]
    alone = answer(run("alone", devices=1))
    for other in (second, *trained, alone):
        same(first, other)
    # one process reads what both saved
    entries = json.loads((tmp_path / "run.json").read_text())["checkpoints"]
    assert {entry["checkpoint"] for entry in entries} == {path.name for path in tmp_path.glob("checkpoint-*")}
    saved = load(tmp_path)
    assert int(saved.state.updates) == len(saved.metrics["score"]) == 12
    for i, leaf in enumerate(jax.tree.leaves(saved.policy.params)):
        np.testing.assert_array_equal(np.ravel(leaf), np.float32(first[f"parameter {i}"]))
    assert load(tmp_path, checkpoint="best").state is not None


def test_every_core_becomes_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from jaxpuffer.sharding import split_cpu; split_cpu(); import jax, os;"
    code += "print(jax.local_device_count(), len(os.sched_getaffinity(0)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    devices, cores = done.stdout.split()
    assert devices == cores
    started = jax.local_device_count()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    with pytest.raises(RuntimeError, match=f"too late: JAX has started with {started} devices for 64 cores"):
        split_cpu()
    assert take_devices(1) is None
    for count in (0, 1 + jax.local_device_count()):
        with pytest.raises(ValueError, match=f"devices is {count}; it must be from 1 to"):
            take_devices(count)


def test_what_cannot_be_split_is_refused() -> None:
    env, key = make("cartpole"), jax.random.key(0)
    with pytest.raises(ValueError, match="mesh must be None"):
        fit(env, key, profile=True, mesh=data_mesh())
    other = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    with pytest.raises(ValueError, match="it must have the one axis 'data'"):
        train_on(env, key, PPOConfig(num_envs=4, horizon=16, minibatch_size=16), mesh=other)

    # only shapes are used: a mesh of eight devices that do not exist
    class Eight:
        axis_names = ("data",)
        size = 8

    with pytest.raises(ValueError, match="num_envs is 4 and a minibatch holds 1 of them; .* number of devices, 8"):
        local_config(PPOConfig(num_envs=4, horizon=16, minibatch_size=16), Eight())  # type: ignore[arg-type]
