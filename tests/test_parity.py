"""The parity harness: the ports agree, and it reports a port that does not."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_jax.cartpole
from envs_jax.drone import RACE, SWARM
from jaxpuffer import list_envs, make, rng
from jaxpuffer.env import random_action
from parity import mutants, proven
from parity.harness import CHUNK, WILD_SHARE, Divergence, Report, choose_action, compare, vary

pytestmark = pytest.mark.needs_c
ROOT = Path(__file__).parents[1]
CartPole = envs_jax.cartpole.CartPole


# ------------------------------------------------------------------------------------------
# the ports
# ------------------------------------------------------------------------------------------


@pytest.mark.of_rules
@pytest.mark.parametrize(
    ("name", "level"), [*((name, "functions") for name in list_envs()), ("maze", "rollout"), ("snake", "rollout")]
)
def test_ports_are_equal(name: str, level: Any) -> None:
    report = compare(name, level, steps=300, num_envs=max(2, 16 // make(name).num_agents))
    assert report.equal and report.max_ulps == 0 and report.steps == 300, report.line()


@pytest.mark.of_rules
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("boids", {"num_boids": 3}),
        ("breakout", {"frame_skip": 1}),
        *(("connect4", {"opponent_depth": depth, "opponent_begins": 0.5}) for depth in (0, 1, 2)),
        ("drone", {"num_drones": 1, "task": RACE}),
        ("drone", {"num_drones": 12, "task": SWARM}),
        ("go", {"size": 3}),
        ("go", {"size": 19}),
        ("maze", {"size": 25, "vision": 2}),
        ("pong", {"frame_skip": 3}),
        ("snake", {"width": 9, "height": 5, "num_snakes": 3, "num_food": 4, "vision": 2, "max_length": 8}),
        ("squared", {"size": 5}),
        ("target", {"num_hunters": 3, "num_goals": 9}),
        ("tetris", {"initial_garbage": 12}),
    ],
)
def test_other_shapes_and_branches_are_equal(name: str, params: dict[str, Any]) -> None:
    """Parameters that change arrays or the code, different from their defaults."""
    report = compare(name, "resync", steps=120, num_envs=8, **params)
    assert report.equal, report.line()


@pytest.mark.parametrize(("name", "level"), [("cartpole", "rollout"), ("cartpole_continuous", "resync")])
def test_every_event_of_cartpole(name: str, level: Any) -> None:
    report = compare(name, level, steps=1200, num_envs=64, seed=1)
    assert report.equal and not report.missing_events and report.episodes > 150, report.line()
    assert report.agent_steps == 1200 * 64


def test_parameters_as_constants_of_the_program() -> None:
    """XLA rewrites constants, and the bits do not change."""
    report = compare("cartpole", "functions", steps=300, num_envs=32, closed_over=True, pole_mass=0.37, force=7.3)
    assert report.equal, report.line()


def test_denormals() -> None:
    """Neither side keeps them: 1e-39 is 0 in a sum, in C, in XLA and on NumPy's threads."""
    env, c_env = make("cartpole"), make("cartpole", backend="c")
    jax_batch, c_batch = env.batch(4), c_env.batch(4)
    state, _ = jax.jit(jax_batch.reset)(jax.random.key(0))
    tiny = jnp.array([1e-39, -1e-39, 3e-38, 0.0], jnp.float32)
    env_state = state.env.replace(position=tiny, velocity=tiny, angle=tiny, angular_velocity=tiny)
    state = state.replace(env=env_state)
    actions = jnp.array([0, 1, 0, 1], jnp.int32)
    packed = jax.jit(c_batch.pack)(state)
    np.testing.assert_array_equal(np.asarray(packed)[:, 8:12].copy().view(np.float32)[:, 0], np.asarray(tiny))
    after, ts = jax.jit(jax_batch.step)(state, actions)
    c_after, c_ts = jax.jit(c_batch.step)(packed, actions)
    c_after = jax.jit(c_batch.unpack)(c_after)
    for a, b in zip(jax.tree.leaves((after, ts)), jax.tree.leaves((c_after, c_ts)), strict=True):
        np.testing.assert_array_equal(a, b)

    from envs_c import VecEnv

    vec = VecEnv("cartpole", 4)
    vec.reset(seed=0)
    vec._arrays["rows"][:] = packed
    vec.step(np.asarray(actions))
    np.testing.assert_array_equal(vec.state["angle"], after.env.angle)
    assert vec.state["position"][0] == 0


# ------------------------------------------------------------------------------------------
# a port that is wrong
# ------------------------------------------------------------------------------------------


class Late(CartPole):
    """Wrong from step 20 of an episode on: the cart is one ULP too far."""

    def transition(self, s: Any, action: Any) -> Any:
        s, outcome = super().transition(s, action)
        return s.replace(
            position=jnp.where(s.steps >= 20, jnp.nextafter(s.position, jnp.float32(9)), s.position)
        ), outcome


class WrongPerf(CartPole):
    def perf(self, s: Any) -> Any:
        return 0.5 * super().perf(s)


class NotANumber(CartPole):
    """Both ports would agree here, because this state is loaded from C; but NaN is not a valid state."""

    def observe(self, s: Any) -> Any:
        return super().observe(s).at[1].set(jnp.where(s.steps == 15, jnp.nan, s.velocity))


@pytest.mark.parametrize("level", ["functions", "rollout"])
def test_the_first_divergence_is_named(monkeypatch: pytest.MonkeyPatch, level: Any) -> None:
    monkeypatch.setattr(envs_jax.cartpole, "CartPole", Late)
    report = compare("cartpole", level, steps=200, num_envs=8, seed=3)
    found = report.divergence
    assert not report.equal and found is not None
    # the twentieth step of the first episode that is long enough
    assert (found.step, found.field) == (19, "state.env.position")
    assert found.c != found.jax and found.ulps == 1 and abs(found.c - found.jax) < 1e-6
    assert found.action in (0, 1) and 0 <= found.env_index < 8
    where = f"step 19, environment {found.env_index}, {found.field}"
    text = f"{where}: C {found.c}, JAX {found.jax} (1 ULP), action {found.action}"
    assert text in report.line() and "DIVERGED" in report.line()


def test_on_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """C's steps are recorded, and the port repeats them on another device: the same verdict as side by side."""
    device = jax.devices()[0]
    here = compare("cartpole", "resync", steps=250, num_envs=8, seed=3)
    there = compare("cartpole", "resync", steps=250, num_envs=8, seed=3, device=device)
    assert there.equal and dataclasses.replace(there, seconds=here.seconds) == here
    monkeypatch.setattr(envs_jax.cartpole, "CartPole", Late)
    wrong = compare("cartpole", "resync", steps=250, num_envs=8, seed=3, device=device)
    assert not wrong.equal and wrong.divergence is not None and wrong.divergence.step == 19
    with pytest.raises(ValueError, match="'rollout'.*'resync'"):
        compare("cartpole", "rollout", device=device)


def test_a_divergence_in_a_later_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    class Latest(CartPole):
        def transition(self, s: Any, action: Any) -> Any:
            s, outcome = super().transition(s, action)
            return s, outcome.replace(reward=jnp.where(s.steps >= 1100, jnp.float32(2), outcome.reward))

    monkeypatch.setattr(envs_jax.cartpole, "CartPole", Latest)
    # no force, so that only the time limit ends an episode: no episode ends in these steps
    params = {"force": 0.0, "gravity": 0.0, "max_steps": 5000}
    report = compare("cartpole", steps=3000, num_envs=4, **params)
    found = report.divergence
    assert found is not None and found.step == 1099 >= CHUNK and 0 <= found.env_index < 4
    assert (found.field, found.c, found.jax) == ("state.episode_return", 1100, 1101)
    assert report.steps == 2 * CHUNK and report.mismatches["reward"] > 0


def test_a_wrong_log_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs_jax.cartpole, "CartPole", WrongPerf)
    report = compare("cartpole", steps=200, num_envs=8)
    assert report.divergence is not None and report.divergence.field == "log.perf"
    assert report.divergence.c == 2 * report.divergence.jax


class OtherFinalObs(CartPole):
    """Wrong at the end of an episode: only the final observation shows it."""

    def observe(self, s: Any) -> Any:
        return super().observe(s) + jnp.where(s.steps == self.max_steps, jnp.float32(1), jnp.float32(0))


class OtherFirstObs(CartPole):
    def observe(self, s: Any) -> Any:
        return super().observe(s) + jnp.where(s.steps == 0, jnp.float32(1), jnp.float32(0))


class Divides(CartPole):
    """Divides where C multiplies by the reciprocal."""

    def perf(self, s: Any) -> Any:
        return jnp.float32(s.steps) / jnp.float32(self.max_steps)


def test_final_and_first_observations_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs_jax.cartpole, "CartPole", OtherFinalObs)
    found = compare("cartpole", steps=60, num_envs=8, max_steps=30).divergence
    assert found is not None and found.field == "final_obs[0]" and found.step >= 29
    monkeypatch.setattr(envs_jax.cartpole, "CartPole", OtherFirstObs)
    report = compare("cartpole", steps=60, num_envs=8)
    found = report.divergence
    assert found is not None and (found.step, found.field, found.action) == (0, "first.obs[0]", "none yet")
    assert report.steps == 0 and not report.equal and "DIVERGED" in report.line()


def test_parameters_of_their_own_tell_a_division_from_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compare("cartpole", steps=400, num_envs=16, varied=True).equal
    monkeypatch.setattr(envs_jax.cartpole, "CartPole", Divides)
    report = compare("cartpole", steps=400, num_envs=16, varied=True)
    assert report.divergence is not None and report.divergence.field == "log.perf"
    with pytest.raises(ValueError, match="varied"):
        compare("cartpole", "functions", varied=True)


def test_parameters_vary_within_their_bounds() -> None:
    env = vary(make("cartpole", max_steps=3, force=0.0), 40, seed=1)
    assert env.max_steps.shape == (40,) and env.max_steps.dtype == jnp.int32 and env.max_steps[0] == 3
    assert set(np.unique(env.max_steps)) == {2, 3, 4} and not env.force.any()
    assert len(np.unique(env.gravity)) == 40 and 7.3 < env.gravity.min() < 8.5 < 11 < env.gravity.max() < 12.3
    assert vary(make("breakout", frame_skip=1), 5, seed=1).frame_skip == 1


def test_illegal_actions_are_played_where_the_rules_know_them(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make("tripletriad")
    stream = rng.seed(jax.random.key(0), (4000,))
    state = jax.vmap(env.init)(stream)
    mask = jax.vmap(env.action_mask)(state)

    def illegal_share() -> float:
        actions = jax.vmap(functools.partial(choose_action, env))(state, rng.seed(jax.random.key(1), (4000,)))
        return float((~jnp.take_along_axis(mask, actions[:, None], 1)).mean())

    monkeypatch.setattr(type(env), "player", lambda self, s, stream: random_action(self, s, stream))
    assert 0.25 / WILD_SHARE < illegal_share() < 1 / WILD_SHARE
    monkeypatch.setattr(type(env), "illegal_actions", False)
    assert illegal_share() == 0


def test_a_divergence_among_many_agents_is_one_line() -> None:
    found = Divergence(3, 1, "reward[7]", 1.0, 2.0, 9.0, np.arange(4000, dtype=np.float32).reshape(1000, 4))
    assert "\n" not in str(found) and len(str(found)) < 200


def test_nan_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envs_jax.cartpole, "CartPole", NotANumber)
    report = compare("cartpole", steps=100, num_envs=8)
    assert report.nans > 0 and not report.equal
    assert "NaN in" in report.line()


def test_events_that_did_not_happen() -> None:
    report = compare("cartpole", steps=60, num_envs=4)
    assert report.equal and "time limit" in report.missing_events and not report.counts
    assert "MISSING:" in report.line() and "time limit" in report.line()


# ------------------------------------------------------------------------------------------
# the verdict
# ------------------------------------------------------------------------------------------

GOOD = Report(
    env="cartpole", level="resync", mode="native", seed=0, num_envs=64, num_agents=1, steps=20_000, fields=9,
    episodes=1000, events={"fell": 3}, mismatches={}, integer_share=0.0, float_error=0.0, max_ulps=0.0,
    nans=0, seconds=1.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "equal"),
    [
        ({}, True),
        ({"nans": 1}, False),
        ({"integer_share": 1e-6, "float_error": 1e-5, "mismatches": {"x": 2}}, True),
        ({"integer_share": 1.1e-6}, False),
        ({"float_error": 1.1e-5}, False),
        ({"max_ulps": 1e5}, True),
        ({"mode": "strict"}, True),
        ({"mode": "strict", "mismatches": {"x": 1}}, False),
        ({"mode": "strict", "nans": 1}, False),
    ],
)
def test_verdict(changes: dict, equal: bool) -> None:
    report = dataclasses.replace(GOOD, **changes)
    assert report.equal is equal
    assert report.line()


def test_what_was_not_met_is_not_called_exact() -> None:
    assert "exact" in GOOD.line()
    for changes, words in (
        ({"episodes": 0}, "no episode ended"),
        ({"events": {}}, "the environment names no events"),
        ({"events": {"fell": 3, "far": 0}}, "1 events did not happen"),
    ):
        line = dataclasses.replace(GOOD, **changes).line()
        assert "exact" not in line and words in line


def test_what_counts() -> None:
    assert GOOD.counts and not GOOD.missing_events
    for changes in ({"num_envs": 257}, {"episodes": 999}, {"steps": 19_999}):
        assert not dataclasses.replace(GOOD, **changes).counts


# ------------------------------------------------------------------------------------------
# the command lines
# ------------------------------------------------------------------------------------------


def command(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    return subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_command_line(tmp_path: Path) -> None:
    file = tmp_path / "reports.json"
    done = command("parity", "cartpole", "--steps", "1500", "--num-envs", "16", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exact" in done.stdout and "too small to count" in done.stdout
    (record,) = json.loads(file.read_text())
    assert record["equal"] and record["agent_steps"] == 24_000 and record["mode"] == "strict"

    done = command("parity", "cartpole", "--steps", "50", "--num-envs", "2", "--uniform", "--env.max_steps=20")
    assert done.returncode == 1 and "MISSING" in done.stdout  # events
    for flags, message in (
        (["cartpole", "--env.max_step", "3"], "cartpole has no parameter 'max_step'; did you mean 'max_steps'?"),
        (["cartpole", "--env.max_steps", "0"], "CartPole.max_steps is 0"),
        (["cartpole", "--env.max_steps", "many"], "--env.max_steps is 'many'; it must be a value of type"),
        (["cartpole", "pong", "--env.max_steps", "9"], "parameters need exactly one environment"),
        (["cartpole", "--env.max_steps"], "--env.max_steps is not a flag with a value"),
    ):
        done = command("parity", *flags)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    done = command("parity", "cartpool")
    assert done.returncode == 2 and "there is no environment 'cartpool'; did you mean 'cartpole'?" in done.stderr
    done = command("parity", "--mode", "native", "--level", "rollout")
    assert done.returncode == 2 and "needs --mode strict" in done.stderr
    done = command("parity", "--device", "gpu")
    assert done.returncode == 2 and "needs --mode native" in done.stderr


# ------------------------------------------------------------------------------------------
# mutants
# ------------------------------------------------------------------------------------------


def test_mutants_of_cartpole() -> None:
    own = mutants.Source(CartPole).mutants
    found = {(m.function, m.change, m.source) for m in own}
    assert len({m.key for m in own}) == len(own)
    assert ("module", f"2.4 to {2.4 * 1.1}", "TRACK_HALF_LENGTH = 2.4  # m") in found
    assert ("perf", "/ to *", "return jnp.float32(s.steps) * (1 / jnp.float32(self.max_steps))") in found
    bounds = "off_track = (s.position < -TRACK_HALF_LENGTH) | (s.position > TRACK_HALF_LENGTH)"
    assert {c for _, c, s in found if s == bounds} == {"< to <=", "> to >=", "| to &", "drop -"}
    assert not {f for f, _, _ in found} & {"render", "player", "events", "_lean"}
    # a change is undone
    source = mutants.Source(CartPole)
    for mutant in source.mutants[::10]:
        source.module(mutant)
    assert source.module().CartPole().perf(CartPole().init(jnp.array([1, 2], jnp.uint32))) == 0
    # a method that one class overrides gives no mutant of the other
    continuous = mutants.Source(envs_jax.cartpole.CartPoleContinuous).mutants
    assert "clip" not in "".join(m.source for m in own) and "clip" in "".join(m.source for m in continuous)
    assert {m.judged_by for m in own if m.function == "push"} == {("transition",)}
    assert {m.judged_by for m in own if m.source.startswith("START")} == {("init",)}


def test_a_sample_of_mutants_is_caught(tmp_path: Path) -> None:
    file = tmp_path / "mutants.json"
    done = command("parity.mutate", "cartpole", "--sample", "6", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    (summary,) = json.loads(file.read_text())
    assert summary["mutants"] == 6 == summary["caught"] + len(summary["equivalent"]) and not summary["unseen_events"]


def test_strict_mode_runs_on_the_cpu():
    """If there is also a GPU, XLA would otherwise compile for it; JAX may be imported before or after."""
    says = "assert jax.config.jax_platforms == 'cpu' and os.environ['JAX_PLATFORMS'] == 'cpu'"
    for order in ("use_mode('strict'); import jax", "import jax; use_mode('strict')"):
        environment = {name: x for name, x in os.environ.items() if name not in ("JAX_PLATFORMS", "XLA_FLAGS")}
        program = f"import os; from parity import use_mode; {order}; {says}"
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)


# ------------------------------------------------------------------------------------------
# what has changed since it was proven
# ------------------------------------------------------------------------------------------


def test_what_an_environment_depends_on() -> None:
    for name in list_envs():
        files = files_named(name)
        assert all((ROOT / file).exists() for file in files), files
        assert {f"envs_c/{name}.h", "envs_c/batch.h", "jaxpuffer/batch.py", "parity/harness.py"} < files
    shared_with = {"envs_c/cartpole.h", "envs_jax/cartpole.py", "tests/envs/test_cartpole.py"}
    assert shared_with < files_named("cartpole_continuous")
    assert not {"envs_c/pong.h", "envs_jax/pong.py"} & files_named("cartpole")


def files_named(name: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in proven.files_of(name)}


def test_a_changed_file_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    header = tmp_path / "game.h"
    header.write_text("x + y")
    monkeypatch.setattr(proven, "files_of", lambda name: [header])
    monkeypatch.setattr(proven, "RECORD", tmp_path / "proven.json")
    assert not proven.is_proven("cartpole")
    proven.RECORD.write_text(json.dumps({"cartpole": proven.fingerprint("cartpole")}))
    assert proven.is_proven("cartpole") and not proven.is_proven("pong")
    header.write_text("x - y")
    assert not proven.is_proven("cartpole")
