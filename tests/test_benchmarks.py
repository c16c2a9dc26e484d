"""The benchmarks run, and their records hold everything needed to judge them. Nothing is timed here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import envs_c
from benchmarks import ablations, baselines, gpu, record, seeds, sps, tables, train
from benchmarks.peers import __main__ as peers_command
from benchmarks.peers import pufferlib_ppo, rejax, sides
from jaxpuffer import list_envs, make
from jaxpuffer.config import complete
from jaxpuffer.ppo import init

ROOT = Path(__file__).parents[1]
EVERY = {"env", "backend", "num_envs", "num_agents", "steps_per_second", "compile_seconds", "seconds", "params"}
EVERY |= {"hardware", "versions", "xla_flags", "commit", "seed", "threads"}


def run(module, *args, **variables):
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, args)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=record.child_environment(**variables), check=False
    )


@pytest.mark.parametrize("module", [ablations, baselines, seeds, sps, train])
def test_an_unknown_environment_is_refused_at_once(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "cartpool"])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert "there is no environment 'cartpool'; did you mean 'cartpole'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments", "says"),
    [
        (sps, "cartpole --num-envs 64,0", "0 is too small"),
        (seeds, "cartpole --seeds 0", "0 is too small"),
        (ablations, "breakout --total-steps -1", "-1 is too small"),
        (ablations, "breakout --seeds 1", "--seeds is 1; an interval needs at least 2"),
        (peers_command, "gymnax --pairs 0", "0 is too small"),
        (gpu, "--env brekout", "did you mean 'breakout'?"),
        (train, "cartpole --config hidden", "'hidden' has no value; it must be NAME=VALUE"),
    ],
)
def test_wrong_arguments_are_refused_at_once(module, arguments, says, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments.split()])
    with pytest.raises(SystemExit, match="2"):
        module.main()
    assert says in capsys.readouterr().err


def test_a_file_of_records_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tables", "nowhere.json"])
    with pytest.raises(SystemExit, match="there is no file nowhere.json"):
        tables.main()


def test_fields_of_a_config_are_json_or_words():
    texts = ["hidden=64", "gamma=0.5", "policy=mingru", "early_stop=true", 'policy="lstm"']
    values = [64, 0.5, "mingru", True, "lstm"]
    assert [train.field(text)[1] for text in texts] == values
    assert [train.field(f"x={json.dumps(value)}")[1] for value in values] == values


@pytest.mark.needs_c
@pytest.mark.parametrize("name", ["cartpole", "cartpole_continuous", "snake"])
def test_c_ffi_and_jax_do_the_same_work(name):
    records = [sps.measure(name, backend, 3, 2, repeats=2, seconds=1e-4) for backend in sps.BACKENDS]
    assert len({r["checksum"] for r in records}) == 1
    assert sps.measure(name, "c", 3, 1, seed=1, repeats=1, seconds=1e-4)["checksum"] != records[0]["checksum"]
    for r in records:
        assert EVERY | {"checksum", "steps"} <= set(r)
        assert len(r["seconds"]) == 2 and r["rows"] == r["num_envs"] * r["num_agents"]
    assert json.loads(json.dumps(records)) == records
    rendered = tables.tables(records).splitlines()
    assert len(rendered) == 7 and rendered[4].startswith(f"| {name} | c | ")


@pytest.mark.needs_c
def test_play_is_step_again_and_again_and_refuses_bad_actions():
    from envs_c import VecEnv

    actions = np.random.default_rng(0).integers(0, 2, (3, 5), np.int32)
    one, many = VecEnv("cartpole", 5), VecEnv("cartpole", 5)
    for vec in (one, many):
        vec.reset(seed=4)
    bits = np.zeros(5, np.uint32)
    for i in range(50):
        obs, reward, *_ = one.step(actions[i % 3])
        bits += reward.view(np.uint32)
    played = np.zeros(5, np.uint32)
    many._batch.play(50, actions, played)
    assert (one.state == many.state).all() and (many._arrays["obs"] == obs).all() and (played == bits).all()
    with pytest.raises(ValueError, match="action 2 of agent 1 of the batch, entry 0"):
        many._batch.play(1, np.full((1, 5), [[0, 2, 0, 0, 0]], np.int32), played)
    with pytest.raises(ValueError, match="actions"):
        many._batch.play(1, actions[:, :4].copy(), played)
    with pytest.raises(ValueError, match="empty"):
        many._batch.play(1, actions[:0], played)


@pytest.mark.needs_c
def test_environments_from_the_command_line(tmp_path):
    file = tmp_path / "sps.json"
    arguments = ["cartpole", "--num-envs", "2", "--threads", 1, "--seconds", "1e-4", "--strict", "--json", file]
    done = run("sps", *arguments, XLA_FLAGS="")
    assert done.returncode == 0, done.stderr
    records = json.loads(file.read_text())
    assert [r["backend"] for r in records] == list(sps.BACKENDS)
    assert all(r["threads"] == 1 and "--xla_cpu_max_isa=AVX" in r["xla_flags"] for r in records)
    assert records[0]["checksum"] in done.stdout
    assert run("sps", "nothing").returncode == 2
    assert run("sps", "cartpole", "--backends", "cuda").returncode == 2


@pytest.mark.full
def test_training_from_the_command_line(tmp_path):
    file = tmp_path / "train.json"
    config = ["total_steps=4096", "num_envs=32", "horizon=16", "minibatch_size=256"]
    backend = "c" if envs_c.is_built() else "jax"
    arguments = [
        "cartpole",
        "--seeds",
        "3,4",
        "--backend",
        backend,
        "--until",
        "5",
        "--config",
        *config,
        "--json",
        file,
    ]
    done = run("train", *arguments)
    assert done.returncode == 0, done.stderr
    records = json.loads(file.read_text())
    assert [r["seed"] for r in records] == [3, 4]
    for r in records:
        assert (EVERY - {"seconds"}) | {"policy", "score", "config", "seconds_to_score", "total_seconds"} <= set(r)
        assert r["policy"] == "mlp 128x1" and r["config"]["num_envs"] == 32
        assert r["import_seconds"] < r["seconds_to_score"] <= r["total_seconds"] < r["process_seconds"]
        assert r["score"] >= 5
        assert r["seconds_after_compiling"] == pytest.approx(
            r["seconds_to_score"] - r["import_seconds"] - r["compile_seconds"]
        )
        assert {"environment", "policy", "advantage", "optimization"} == set(r["time_shares"])
    assert "0 of 2" in tables.tables(records)
    missed = {**records[0], "seconds_to_score": None}
    assert "1 of 2" in tables.tables([missed, records[1]])
    assert "failed" in train.line(missed).lower() or "NOT REACHED" in train.line(missed)
    two = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"
    done = run("train", *arguments, "--seeds", "5", "--devices", "2", XLA_FLAGS=two)
    assert done.returncode == 0 and "after" in done.stdout, done.stderr
    (split,) = json.loads(file.read_text())
    assert (split["devices"], split["seed"], split["time_shares"]) == (2, 5, {}) and split["score"] >= 5
    assert f"cartpole ({backend}, mlp 128x1, 2 devices)" in tables.tables([split])
    done = run("train", *arguments, "--seeds", "5", "--no-shares")
    assert done.returncode == 0 and json.loads(file.read_text())[0]["time_shares"] == {}, done.stderr
    done = run("train", *arguments, "--devices", "3", XLA_FLAGS=two)
    assert done.returncode == 2 and done.stderr.count("devices is 3; it must be from 1 to 2") == 1
    assert "Traceback" not in done.stderr
    done = run("train", "cartpole", "--config", "learningrate=1")
    assert done.returncode == 2 and done.stderr.count("no parameter 'learningrate'; did you mean 'learning_rate'") == 1
    assert "Traceback" not in done.stderr
    crashed = {"env": "cartpole", "seed": 5, "until": 5.0, "error": "exit code 1"}
    assert "1 of 2" in tables.tables([records[0], crashed])
    assert "exit code 1" in train.line(crashed)


@pytest.mark.full
def test_seeds_against_one_batch():
    r = seeds.compare("cartpole", 2, "jax", 16, 2, 1e-4, 1)
    assert set(r) >= EVERY and len(r["ratio"]["each"]) == len(r["seconds"]["vmapped"]) == 2
    assert "cartpole (jax)" in tables.tables([r])


@pytest.mark.needs_c
@pytest.mark.parametrize("env", ["cartpole", "connect4"])  # the last has a mask
def test_a_comparison_measures_in_turn(env):
    # our own scripts in place of the peer's: peers are not installed here
    small = {"backend": "jax", "num_envs": 4, "cycle": 2}
    ours, theirs = ("ours_env.py", {"env": env, **small}), ("numpy_cartpole.py", {"peer": None, "threads": 1, **small})
    r = sides.compare("numpy", sys.executable, 3, 1e-4, 1, "ours and ours", "4", env, ours, theirs)
    assert not r["ours"]["random_play"]
    assert EVERY - {"seconds", "params"} <= set(r)
    assert len(r["ratio"]["each"]) == len(r["theirs"]["seconds"]) == 3
    assert r["ratio"]["least"] <= r["ratio"]["median"] <= r["ratio"]["greatest"]
    assert "ours and ours" in tables.tables([r])


def test_a_peer_that_stops_is_an_error():
    with pytest.raises(RuntimeError, match="exit code 1"):
        sides.Side(sys.executable, "numpy_cartpole.py", {})


@pytest.mark.full
@pytest.mark.needs_c
def test_our_side_of_training_runs_on_one_and_on_two_devices(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2")
    config = {"num_envs": 4, "horizon": 4, "minibatch_size": 8, "hidden": 8}
    setting = {"env": "breakout", "backend": "c", "config": config}
    one, two = (("ours_ppo.py", {**setting, "devices": n, "tuned": n == 2}) for n in (1, 2))
    r = sides.compare("ours", sys.executable, 2, 1e-4, 2, "one and two devices", "4", "breakout", one, two)
    assert (r["num_envs"], r["ours"]["rows"], r["theirs"]["rows"]) == (4, 16, 16)
    comparisons = pufferlib_ppo.comparisons(2)
    assert [c["ours"][1]["devices"] for c in comparisons] == [1, 2] * len(pufferlib_ppo.TRAINED)
    # a minibatch of Rejax's own setting holds one environment
    devices = [c["ours"][1]["devices"] for c in rejax.comparisons(2) if c["ours"][1]["backend"] == "c"]
    assert devices == [1, 1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize("peer", ["pufferlib", "pufferlib-ppo"])
def test_pufferlib_needs_its_source(peer, tmp_path):
    for folder in ([], ["--pufferlib", tmp_path]):
        done = run("peers", peer, *folder)
        assert done.returncode == 2 and "--pufferlib is" in done.stderr


@pytest.mark.full
@pytest.mark.needs_c
def test_our_sides_play_at_random():
    setting = {"env": "trash_pickup", "params": {"max_steps": 50}, "backend": "c", "num_envs": 64, "play": 512}
    c, jitted = ("ours_c.py", setting), ("ours_env.py", {**setting, "cycle": 512})
    r = sides.compare("jax", sys.executable, 2, 1e-4, 1, "C and FFI", "64", "trash_pickup", c, jitted)
    of_c, of_ffi = (r[side]["random_play"] for side in ("ours", "theirs"))
    # 512 steps of 64 worlds: some ten episodes of 50 steps of each, and other actions on each side
    assert of_c["steps_per_episode"] == pytest.approx(50, rel=0.1) == of_ffi["steps_per_episode"]
    assert of_c["reward_per_step"] > 0.001
    assert of_c["reward_per_step"] == pytest.approx(of_ffi["reward_per_step"], rel=0.1)
    assert "reward per step" in tables.tables([r])


@pytest.mark.full
@pytest.mark.needs_c
def test_our_side_of_pufferlib_runs():
    ours = ("ours_c.py", {"env": "target", "backend": "c", "num_envs": 3})
    r = sides.compare("ours", sys.executable, 2, 1e-4, 1, "ours and ours", "3", "target", ours, ours)
    assert (r["num_envs"], r["num_agents"]) == (3, 8) and r["ours"]["versions"]["jax"] == jax.__version__
    assert all(speed > 0 for side in ("ours", "theirs") for speed in r[side]["steps_per_second"])


def test_threads_are_chosen_before_jax():
    with pytest.raises(RuntimeError, match="before JAX"):
        record.use_threads(1)
    assert record.use_threads(None) >= 1


@pytest.mark.full
def test_an_ablation_trains_every_seed_at_every_learning_rate(monkeypatch, tmp_path):
    monkeypatch.setattr(ablations, "EVALUATED", 8)
    assert ablations.chosen("cartpole", "Adam instead of Muon", 8192, "jax")[1] is None  # so it is already
    env, config = ablations.chosen("cartpole", "no prioritised segments", 8192, "jax")
    records = [{"arm": "no prioritised segments"} | ablations.train_arm("cartpole", env, config, 2, 2)]
    monkeypatch.setattr(ablations, "time_steps", lambda run, seconds: (2, [run(2) or 0.5]))
    records[0] |= ablations.time_alone(env, config)
    (arm,) = records
    assert (arm["config"]["advantage"], arm["config"]["prioritize"]) == ("puffer", "no")
    assert arm["agent_steps"] == 8192 and arm["steps_per_second"] > 0
    rates = [r["learning_rate"] for r in arm["runs"]]
    assert rates == [0.5 * rates[1], rates[1], 2 * rates[1]]
    for r in arm["runs"]:
        assert len(r["scores"]) == 2 and all(1 <= score <= 500 for score in r["scores"])
        assert r["interval"][0] <= r["interquartile_mean"] <= r["interval"][1]
        assert len(r["curve"]) == 2 and len(r["curve"][0]) == 2  # updates
    assert json.loads(json.dumps(records)) == records
    ablations.draw("cartpole", records, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


@pytest.mark.parametrize("arm", ablations.ARMS)
def test_every_arm_is_a_config(arm):
    config = complete(make("breakout"), None)
    changed = config.replace(**ablations.FULL | ablations.ARMS[arm])
    assert changed.advantage in ("puffer", "gae")


def test_a_roofline_counts_what_a_network_costs():
    costs = gpu.costs("breakout", 16, 16, 4)
    assert {part: cost["times"] for part, cost in costs.items()} == {"environment": 16, "policy": 16, "optimization": 4}
    assert all(cost["flops"] > 0 and cost["bytes"] > 0 for cost in costs.values())
    # products have two operations for each weight and row; a gradient step has about three times as many
    env, config = gpu.chosen("breakout", 16, 16, 4)
    params = jax.eval_shape(init, env, jax.random.key(0), config).params
    product = 2 * sum(x.size for x in jax.tree.leaves(params) if len(x.shape) == 2) * config.batch_size
    assert 0.9 < costs["policy"]["flops"] / product < 1.6
    assert 2.0 < costs["optimization"]["flops"] / product < 5.0


def test_the_docs_say_what_a_gpu_was_measured_at():
    text = (ROOT / "docs/benchmarks.md").read_text()
    for name in ("gpu-sps", "gpu-training", "gpu-train-breakout"):
        assert tables.tables(json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())) in text
    parity = json.loads((ROOT / "benchmarks/results/gpu-parity.json").read_text())
    measured = [r["env"] for r in parity]
    assert len(measured) >= 16 and set(measured) <= set(list_envs())
    assert all(r["equal"] and not r["integer_share"] and r["agent_steps"] >= 1_280_000 for r in parity)


def test_records_without_a_table_are_refused():
    with pytest.raises(SystemExit, match="there is no table for records of kind None"):
        tables.tables([{"env": "go", "level": "resync"}])
