"""VecEnv for people who do not use JAX: no backend starts, any actions, partial resets, copies, snapshots, forks."""

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from envs_c import VecEnv
from jaxpuffer import list_envs
from jaxpuffer.spaces import choices

pytestmark = pytest.mark.needs_c

ACTIONS = np.random.default_rng(0).integers(0, 2, (200, 64))


def play(env: VecEnv, steps: int, begin: int = 0) -> list[np.ndarray]:
    """Copies of everything that each step returns."""
    found = []
    for t in range(begin, begin + steps):
        actions = np.resize(ACTIONS[t], env._arrays["action_shape"])
        obs, reward, terminated, truncated, info = env.step(actions)
        found += [x.copy() for x in jax.tree.leaves((obs, reward, terminated, truncated, list(info.values())))]
    return found


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_backend_of_jax_starts() -> None:
    """On a GPU it would take most of the memory, which is PyTorch's there."""
    code = """
import copy, sys
import jax
import numpy as np
from envs_c import VecEnv
from jax._src import xla_bridge
for name in sys.argv[1:]:
    with VecEnv(name, 3, threads=2) as env:
        env.reset(seed=0)
        env.step(np.zeros(env._arrays["action_shape"], env.single_action_space.dtype))
        env.reset(options={"reset_mask": np.array([True, False, True])})
        copy.deepcopy(env).restore(env.snapshot())
    assert not xla_bridge._backends, name
env = VecEnv("cartpole", gravity=3)
try:
    VecEnv("cartpole", gravitas=3)
except TypeError:
    assert not xla_bridge._backends
assert env.env.gravity == 3 and xla_bridge._backends  # this is a JAX environment
"""
    subprocess.run([sys.executable, "-c", code, *list_envs()], check=True, timeout=300)


@pytest.mark.parametrize("name", ["cartpole", "snake", "target"])
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int16, list, np.asfortranarray])
def test_whole_actions_of_any_kind(name: str, kind: Any) -> None:
    one, other = VecEnv(name, 3), VecEnv(name, 3)
    shape, sizes = one._arrays["action_shape"], choices(one.single_action_space)
    one.reset(seed=2)
    other.reset(seed=2)
    generator = np.random.default_rng(1)
    for _ in range(5):
        actions = generator.integers(0, np.resize(sizes, shape)).astype(np.int32)
        one.step(actions)
        other.step(actions.tolist() if kind is list else kind(actions))
    np.testing.assert_array_equal(one.state, other.state)


def test_numbers_of_any_kind() -> None:
    wide = np.array([[0.25, 7.0, -1e300, 0.5]] * 8)  # clipped, and too large for float32
    envs = [VecEnv("drone", 2) for _ in range(4)]
    right = np.clip(wide, -1, 1).astype(np.float32).reshape(2, 4, 4)
    wide = wide.reshape(2, 4, 4)
    for env, actions in zip(envs, (right, wide, wide.tolist(), np.asfortranarray(wide)), strict=True):
        env.reset(seed=0)
        env.step(actions)
        np.testing.assert_array_equal(env.state, envs[0].state)
    envs[1].step(np.ones((2, 4, 4), np.int8))
    envs[2].step(np.ones((2, 4, 4), np.float32))
    np.testing.assert_array_equal(envs[1].state, envs[2].state)
    with pytest.raises(TypeError, match="actions is bool; it must be float32"):
        envs[0].step(np.ones((2, 4, 4), bool))
    with pytest.raises(ValueError, match="action nan at entry 0 of the batch; it must be finite"):
        envs[0].step(np.full((2, 4, 4), np.nan))


@pytest.mark.parametrize("name", ["cartpole", "snake", "g2048"])
def test_reset_mask(name: str) -> None:
    env, all_anew = VecEnv(name, 4), VecEnv(name, 4)
    env.reset(seed=1)
    play(env, 30)
    before, arrays = env.state.copy(), {k: x.copy() for k, x in env._arrays.items() if isinstance(x, np.ndarray)}
    mask = np.array([False, True, False, True])
    obs, info = env.reset(seed=5, options={"reset_mask": mask})
    all_anew.reset(seed=5)
    np.testing.assert_array_equal(env.state[~mask], before[~mask])
    np.testing.assert_array_equal(env.state[mask], all_anew.state[mask])
    for key in {"rows", "obs", "mask"} & arrays.keys():
        np.testing.assert_array_equal(env._arrays[key][~mask], arrays[key][~mask])
        np.testing.assert_array_equal(env._arrays[key][mask], all_anew._arrays[key][mask])
    assert not info["log"][mask].any() and not info["_final_obs"][mask].any()
    assert obs is env._arrays["obs"]
    # the episodes' counters as well: both go on alike
    play(env, 20), play(all_anew, 20)
    np.testing.assert_array_equal(env._arrays["rows"][mask], all_anew._arrays["rows"][mask])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"reset_mask": np.zeros(4, bool)}, ValueError, "reset_mask has no True; at least one environment must begin"),
        ({"reset_mask": np.ones(3, bool)}, TypeError, r"reset_mask is bool\[3\]; it must be bool\[4\]"),
        ({"reset_mask": np.ones(4, int)}, TypeError, r"reset_mask is int64\[4\]; it must be bool\[4\]"),
        ({"mask": np.ones(4, bool)}, ValueError, "options has 'mask'; the one option is 'reset_mask'"),
    ],
)
def test_options_that_are_refused(options: dict, error: type[Exception], message: str) -> None:
    env = VecEnv("cartpole", 4)
    with pytest.raises(RuntimeError, match=r"call reset\(\) once for all environments before reset\(\) with a"):
        env.reset(options={"reset_mask": np.array([True, False, True, True])})
    env.reset(seed=0)
    before = env.state.copy()
    with pytest.raises(error, match=message):
        env.reset(seed=1, options=options)
    np.testing.assert_array_equal(env.state, before)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("name", ["cartpole", "snake"])
def test_copies_go_on_alike_and_alone(name: str, again: Callable[[VecEnv], VecEnv]) -> None:
    env = VecEnv(name, 3, threads=2, max_steps=20)
    env.reset(seed=4)
    play(env, 30)
    other = again(env)
    assert (type(other), other.threads, other.params) == (VecEnv, 2, env.params)
    for key, x in env._arrays.items():
        assert key == "action_shape" or not np.shares_memory(x, other._arrays[key])
    expected = play(env, 30, begin=30)
    first = env.reset()[0]
    assert_same(play(other, 30, begin=30), expected)
    np.testing.assert_array_equal(other.reset()[0], first)  # the seeds go on alike too
    if name == "cartpole":
        assert any(x.dtype == bool and x.any() for x in expected)


def test_a_copy_before_the_first_reset() -> None:
    env = VecEnv("cartpole")
    other = copy.deepcopy(env)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        other.step([0])
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])  # they have the same fresh entropy


def test_snapshots_have_the_episodes_counters() -> None:
    env = VecEnv("cartpole", 8)
    env.reset(seed=0)
    play(env, 7)
    snapshot = pickle.loads(pickle.dumps(env.snapshot()))
    expected = play(env, 60, begin=7)
    returned = [x[..., 0].max() for x in expected if x.shape == (8, 5)]
    assert max(returned) > 7
    for _ in range(2):
        env.restore(snapshot)
        assert_same(play(env, 60, begin=7), expected)
    other = VecEnv("cartpole", 8, threads=2)
    other.restore(snapshot)
    assert_same(play(other, 60, begin=7), expected)


def test_snapshots_that_are_refused() -> None:
    snapshot = VecEnv("cartpole", 2).snapshot()
    for env, message in (
        (VecEnv("pong", 2), "snapshot has name 'cartpole'; here it must be 'pong'"),
        (VecEnv("cartpole", 3), "snapshot has num_envs 2; here it must be 3"),
        (VecEnv("cartpole", 2, gravity=1), "snapshot has gravity 9.8; here it must be 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            env.restore(snapshot)
    with pytest.raises(TypeError, match="snapshot is a dict; it must be what snapshot"):
        VecEnv("cartpole").restore({})  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:os.fork")  # JAX and Python warn of threads; those of VecEnv begin anew
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_goes_on() -> None:
    """With enough rows to use both threads."""
    env = VecEnv("cartpole", 1024, threads=2)
    env.reset(seed=0)
    play(env, 3)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        play(env, 20, begin=3)
        copied = copy.deepcopy(env)
        play(env, 20, begin=23), play(copied, 20, begin=23)
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump((env.state, copied.state), pipe)
        env.close()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        found = pickle.load(pipe)
    assert os.waitpid(child, 0)[1] == 0
    play(env, 40, begin=3)
    np.testing.assert_array_equal(found[0], env.state)
    np.testing.assert_array_equal(found[1], env.state)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_forked_workers_and_their_ends() -> None:
    """Python deletes its objects at the end, and threads that a child does not have are not waited for."""
    code = """
import multiprocessing, os, sys
import jax
import numpy as np
from envs_c import VecEnv
def work(env):
    for _ in range(5):
        env.step(np.ones(600, np.int64))
    return env
env = VecEnv("cartpole", 600, threads=2)
env.reset(seed=0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map(work, [env, env])
child = os.fork()
work(env)
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert all(np.array_equal(other.state, env.state) for other in found)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


def test_closed() -> None:
    with VecEnv("cartpole", 2, threads=2) as env:
        obs, _ = env.reset(seed=0)
    env.close()  # again
    for use in (lambda: env.step([0, 1]), env.reset, env.snapshot, lambda: copy.copy(env), lambda: env.restore(None)):
        with pytest.raises(RuntimeError, match="this VecEnv is closed; make a new one"):
            use()
    assert np.isfinite(obs).all()


def test_info_says_what_ended() -> None:
    env = VecEnv("snake", 4)
    _, info = env.reset(seed=0)
    assert set(info) == {"final_obs", "_final_obs", "log", "_log", "action_mask"}
    ended = 0
    for t in range(100):
        _, _, terminated, truncated, info = env.step(np.resize(ACTIONS[t], (4, 16)))
        np.testing.assert_array_equal(info["_final_obs"], terminated | truncated)
        np.testing.assert_array_equal(info["_log"], info["log"][..., 4] == 1)
        ended += int(info["_log"].sum())
    assert ended > 20
    env.reset()
    assert not info["_log"].any() and not info["log"].any()
