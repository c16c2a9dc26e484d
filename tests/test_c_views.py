"""The C environments as NumPy buffers and inside XLA: the same episodes as the JAX twins', and helpful errors."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_c
from envs_c import VecEnv
from envs_jax.cartpole import CartPole
from jaxpuffer import list_envs, make, rng
from jaxpuffer.env import Env, random_action
from jaxpuffer.spaces import Box

pytestmark = pytest.mark.needs_c


# ------------------------------------------------------------------------------------------
# NumPy
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        (np.zeros(4, np.float32), TypeError, "actions is float32; it must be int32"),
        (np.zeros(4), TypeError, "actions is float64; it must be int32"),
        (np.zeros(4, bool), TypeError, "actions is bool; it must be int32"),
        (np.zeros(3, np.int32), ValueError, r"actions has shape \(3,\); it must be \(4,\)"),
        (np.zeros((4, 1), np.int32), ValueError, r"actions has shape \(4, 1\); it must be \(4,\)"),
        (np.zeros(3, np.int64), ValueError, r"actions has shape \(3,\); it must be \(4,\)"),
        ([[0, 1], [0]], ValueError, r"actions is \[\[0, 1\], \[0\]\]; it must be an array of shape \(4,\)"),
        (np.array([0, 1, 2, 0], np.int32), ValueError, "action 2 of agent 2 of the batch, entry 0; it must be from 0"),
        (np.array([-1, 1, 2, 0], np.int32), ValueError, "action -1 of agent 0 of the batch, entry 0; it must be from"),
        ([0, 1, 0, 2], ValueError, "cartpole: action 2 of agent 3 of the batch, entry 0; it must be from 0 to 1"),
        ([0, 2**32, 0, 1], ValueError, "cartpole: action 4294967296 of agent 1 of the batch, entry 0; it must be"),
        (np.uint64([0, 1, 2**64 - 1, 0]), ValueError, "action 18446744073709551615 of agent 2 of the batch, entry 0"),
    ],
)  # fmt: skip
def test_actions_that_are_refused_change_nothing(actions: np.ndarray, error: type[Exception], message: str) -> None:
    env = envs_c.VecEnv("cartpole", 4)
    env.reset(seed=0)
    before = env.state.copy()
    with pytest.raises(error, match=message):
        env.step(actions)
    np.testing.assert_array_equal(env.state, before)


def test_float_actions_must_be_finite() -> None:
    env = envs_c.VecEnv("cartpole_continuous", 2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="cartpole_continuous: action nan at entry 1 of the batch; it must be finite"):
        env.step(np.array([[0.0], [np.nan]], np.float32))
    env.step(np.array([[-3.0], [1e30]], np.float32))  # clipped


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_envs": 0}, ValueError, "num_envs is 0; it must be an int of at least 1"),
        ({"num_envs": 2.0}, ValueError, "num_envs is 2.0; it must be an int of at least 1"),
        ({"threads": 0}, ValueError, "threads is 0; it must be an int of at least 1"),
        ({"gravitas": 1}, TypeError, "cartpole has no parameter 'gravitas'; did you mean 'gravity'"),
        ({"cart_mass": 0}, ValueError, "CartPole.cart_mass is 0; it must be from 0.01 to 1000"),
        ({"max_steps": 0.5}, TypeError, "CartPole.max_steps is 0.5; it must be a whole number"),
    ],
)
def test_arguments_that_are_refused(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        envs_c.VecEnv("cartpole", **arguments)


def test_names_and_order_that_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no environment 'cartpol'; did you mean 'cartpole"):
        envs_c.VecEnv("cartpol")
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        envs_c.VecEnv("cartpole").step(np.zeros(1, np.int32))


def test_buffers_are_updated_in_place() -> None:
    env = envs_c.VecEnv("cartpole", 3)
    obs, info = env.reset(seed=1)
    first = obs.copy()
    actions = np.ones(3, np.int32)
    results = env.step(actions)
    assert results[0] is obs and not np.array_equal(obs, first)
    again = env.step(actions)
    assert all(a is b for a, b in zip(results, again, strict=True)) and again[4] is info
    # `state` is a view of the batch's own memory, from which obs is computed
    env.state["position"][1] = 1.5
    env.state["velocity"][1] = 0.5
    env.step(actions)
    assert obs[1, 0] == np.float32(1.5) + np.float32(0.02) * np.float32(0.5) == env.state["position"][1]


def test_seeds() -> None:
    one, same, other = (envs_c.VecEnv("cartpole", 4) for _ in range(3))
    np.testing.assert_array_equal(one.reset(seed=7)[0], same.reset(seed=7)[0])
    assert not np.array_equal(one.state["rng"], other.reset(seed=8)[0])
    assert not (one.state["position"] == other.state["position"]).any()
    first = one.reset()[0].copy()  # continues from the seed
    np.testing.assert_array_equal(first, same.reset()[0])
    assert not np.array_equal(first, one.reset(seed=7)[0])
    assert len(np.unique(one.state["rng"], axis=0)) == 4
    for seed in (-1, 1.5, True):
        with pytest.raises(ValueError, match=f"seed is {seed}; it must be None or an int of at least 0"):
            one.reset(seed=seed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cartpole: force has an axis"):
        envs_c.VecEnv("cartpole", 2, force=[1.0, 2.0])


@pytest.mark.parametrize("name", ["cartpole", "snake"])
def test_threads_change_no_bit(name: str) -> None:
    """Enough rows to use both threads."""
    one, two = (envs_c.VecEnv(name, 1024 if name == "cartpole" else 64, threads=n) for n in (1, 2))
    one.reset(seed=0)
    two.reset(seed=0)
    generator = np.random.default_rng(0)
    shape = (one.num_envs, *one.env.agent_shape)
    for _ in range(40):
        actions = generator.integers(0, one.single_action_space.n, shape).astype(np.int32)
        for a, b in zip(one.step(actions)[:4], two.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.state, two.state)


def test_final_obs_and_log_where_an_episode_ended() -> None:
    env = envs_c.VecEnv("cartpole", 6, max_steps=3)
    env.reset(seed=0)
    env.state["position"][2] = 2.39
    env.state["velocity"][2] = 1.0
    actions = np.zeros(6, np.int32)
    obs, reward, terminated, truncated, info = env.step(actions)
    assert terminated.tolist() == [False, False, True, False, False, False] and not truncated.any()
    np.testing.assert_allclose(info["final_obs"][2, :2], [2.41, 0.8], atol=0.02)
    assert abs(obs[2, 0]) <= 0.05 and env.state["steps"].tolist() == [1, 1, 0, 1, 1, 1]
    assert info["log"][2, [0, 1, 2, 4]].tolist() == [1, 1, 1, 1] and not info["log"][[0, 1, 3, 4, 5]].any()
    env.step(actions)
    obs, reward, terminated, truncated, info = env.step(actions)
    assert truncated.tolist() == [True, True, False, True, True, True] and not terminated.any()
    np.testing.assert_array_equal(info["log"][0], [3, 3, 3, 1, 1])
    assert (np.abs(obs[truncated]) <= 0.05).all() and (reward == 1).all()


@pytest.mark.parametrize("name", ["cartpole", "cartpole_continuous", "snake"])
def test_numpy_view_equals_the_jax_twin(name: str) -> None:
    """From the same streams, with the same actions, auto-reset included."""
    vec = envs_c.VecEnv(name, 4)
    vec.reset(seed=0)
    vec_streams = vec._arrays["streams"]
    batch = vec.env.batch(4)
    state, obs = jax.jit(batch.reset_streams)(jnp.asarray(vec_streams))
    np.testing.assert_array_equal(vec._arrays["obs"], obs)
    streams = rng.seed(jax.random.key(0), (4,))

    @jax.jit
    def step(state, streams):  # type: ignore[no-untyped-def]
        actions = jax.vmap(random_action, in_axes=(None, 0, 0))(vec.env, state.env, streams)
        return *batch.step(state, actions), actions, jax.vmap(lambda s: rng.bits(s)[0])(streams)

    for _ in range(60):
        state, ts, actions, streams = step(state, streams)
        obs, reward, terminated, truncated, info = vec.step(np.asarray(actions))
        np.testing.assert_array_equal(ts.obs, obs)
        np.testing.assert_array_equal(ts.reward, reward)
        np.testing.assert_array_equal(ts.terminated, terminated)
        np.testing.assert_array_equal(ts.truncated, truncated)
        np.testing.assert_array_equal(jnp.stack(jax.tree.leaves(ts.log), -1), info["log"])


# ------------------------------------------------------------------------------------------
# XLA
# ------------------------------------------------------------------------------------------


def run(env, key, steps=80):  # type: ignore[no-untyped-def]
    """A rollout of 6 environments from a key, with either backend."""
    batch = env.batch(6)
    state, obs = batch.reset(key)
    actions = jax.random.randint(key, (steps, 6), 0, 2, jnp.int32)
    state, found = jax.lax.scan(batch.step, state, actions)
    return obs, batch.unpack(state), found, batch.observe(state), batch.score(state)


def test_c_equals_jax_however_it_is_vmapped() -> None:
    env, c_env = make("cartpole"), make("cartpole", backend="c")
    keys = jax.random.split(jax.random.key(0), 2)
    forces = jnp.array([5.0, 10.0, 30.0], jnp.float32)

    # parameters outside, keys inside
    def over_both(env):  # type: ignore[no-untyped-def]
        function = jax.vmap(jax.vmap(run, in_axes=(None, 0)), in_axes=(env.axes("force"), None))
        return jax.jit(function)(env.replace(force=forces), keys)

    both = [over_both(env), over_both(c_env)]
    chex.assert_trees_all_equal(*both)
    over_keys = jax.jit(jax.vmap(run, in_axes=(None, 0)))(c_env, keys)
    chex.assert_trees_all_equal(over_keys, jax.tree.map(lambda x: x[1], both[1]))
    one = jax.jit(run)
    for row, force in enumerate(forces):
        alone = one(c_env.replace(force=force), keys[1])
        chex.assert_trees_all_equal(alone, jax.tree.map(lambda x, row=row: x[row, 1], both[0]))
        assert alone[2].log.n.sum() > 10
    assert not np.array_equal(both[1][2].obs[0], both[1][2].obs[2])


def test_the_old_state_survives_a_step() -> None:
    """The rows are updated in place only if the old ones are not used again."""
    batch = make("cartpole", backend="c").batch(4)
    state, _ = jax.jit(batch.reset)(jax.random.key(0))
    before = np.asarray(state).copy()
    actions = jnp.ones(4, jnp.int32)

    @jax.jit
    def two_futures(state):  # type: ignore[no-untyped-def]
        right, _ = batch.step(state, actions)
        left, _ = batch.step(state, 0 * actions)
        return right, left, batch.observe(state)

    right, left, obs = two_futures(state)
    np.testing.assert_array_equal(state, before)
    np.testing.assert_array_equal(obs, batch.observe(state))
    assert not np.array_equal(right, left)
    donated = jax.jit(lambda s: batch.step(s, actions)[0], donate_argnums=0)(jnp.asarray(before))
    np.testing.assert_array_equal(donated, right)


@pytest.mark.parametrize(
    ("name", "actions", "rules_get"),
    [
        ("cartpole", jnp.array([0, 5, -9, 1], jnp.int32), jnp.array([0, 1, 0, 1], jnp.int32)),
        ("cartpole_continuous", jnp.float32([[0.5], [np.nan], [np.nan], [-9]]), jnp.float32([[0.5], [0], [0], [-1]])),
        ("target", jnp.array([[[4, 2]], [[9, 2]], [[8, -1]], [[4, 4]]], jnp.int32).repeat(8, 1), None),
    ],
)
def test_actions_that_are_none_inside_xla(name: str, actions: jax.Array, rules_get: Any) -> None:
    """No error can be raised there: in both languages the rules get the nearest action, and the reward is NaN."""
    batch, c_batch = make(name).batch(4), make(name, backend="c").batch(4)
    state, _ = jax.jit(batch.reset)(jax.random.key(0))
    rows, _ = jax.jit(c_batch.reset)(jax.random.key(0))
    wrong = np.array([False, True, True, False])
    assert make(name).num_agents in (1, 8)
    if rules_get is None:
        rules_get = jnp.clip(actions, 0, jnp.array([8, 4], jnp.int32)[None, None])
        wrong = wrong[:, None].repeat(8, 1)
    after, step = jax.jit(batch.step)(state, actions)
    c_after, c_step = jax.jit(c_batch.step)(rows, actions)
    expected, right = jax.jit(batch.step)(state, rules_get)
    for found, outcome in ((after, step), (jax.jit(c_batch.unpack)(c_after), c_step)):
        jax.tree.map(np.testing.assert_array_equal, found, expected)
        np.testing.assert_array_equal(outcome.obs, right.obs)
        np.testing.assert_array_equal(outcome.reward, np.where(wrong, np.nan, right.reward))


def test_operands_that_are_refused_inside_xla() -> None:
    batch = make("cartpole", backend="c").batch(3)
    state, _ = batch.reset(jax.random.key(0))
    with pytest.raises(TypeError, match=r"actions are float32\[3\]; cartpole needs int32\[3\]"):
        batch.step(state, jnp.zeros(3, jnp.float32))
    with pytest.raises(TypeError, match=r"actions are int32\[4\]; cartpole needs int32\[3\]"):
        jax.jit(batch.transition)(state, jnp.zeros(4, jnp.int32))
    with pytest.raises(ValueError, match="num_envs is 0; it must be at least 1"):
        make("cartpole", backend="c").batch(0)
    with pytest.raises(Exception, match="cartpole: rows have a wrong length"):
        jax.block_until_ready(batch.observe(state[:, 4:]))


@pytest.mark.parametrize("name", list_envs())
def test_pack_is_the_opposite_of_unpack(name: str) -> None:
    c_env = make(name, backend="c")
    batch = c_env.batch(3)
    rows, _ = jax.jit(batch.reset)(jax.random.key(0))
    state = jax.jit(batch.unpack)(rows)
    np.testing.assert_array_equal(jax.jit(batch.pack)(state), rows)
    first, _ = jax.jit(c_env.env.batch(3).reset)(jax.random.key(0))
    chex.assert_trees_all_equal(state, first)


@pytest.mark.of_rules
@pytest.mark.parametrize("name", list_envs())
def test_one_environment_in_a_notebook(name: str) -> None:
    """`reset`, `step` and `render` of the C environment are the JAX twin's."""
    env, c_env = make(name), make(name, backend="c")
    assert (c_env.observation_space, c_env.action_space) == (env.observation_space, env.action_space)
    key = jax.random.key(3)
    (state, obs), (row, c_obs) = jax.jit(env.reset)(key), c_env.reset(key)
    chex.assert_trees_all_equal(obs, c_obs)
    action = jax.jit(random_action)(env, state, rng.seed(key))
    (state, ts), (row, c_ts) = jax.jit(env.step)(state, action), c_env.step(row, action)
    chex.assert_trees_all_equal(ts, c_ts)
    np.testing.assert_array_equal(jax.jit(env.render)(state), jax.jit(c_env.render)(row))


def bind(name: str, env: Env) -> None:
    from jaxpuffer.c_backend import check_twin  # needs the C half

    check_twin(name, env)


class TestTwins:
    """A header that differs from its twin is detected when the two are combined."""

    @pytest.mark.parametrize("size, message", [(5, "C writes 16 bytes .* JAX has 20"), (3, "C writes 16 .* has 12")])
    def test_size_of_observations(self, size: int, message: str) -> None:
        other = type("Other", (CartPole,), {"observation_space": Box(-1.0, 1.0, (size,))})
        with pytest.raises(TypeError, match=message):
            bind("cartpole", other())

    def test_a_mask_or_perf_on_one_side_alone(self) -> None:
        masked = type("Masked", (CartPole,), {"action_mask": lambda self, s: jnp.ones(2, bool)})
        with pytest.raises(TypeError, match="cartpole: there is action_mask in JAX and none in C"):
            bind("cartpole", masked())
        env = make("connect4")
        unmasked = type("Unmasked", (type(env),), {"action_mask": Env.action_mask})
        with pytest.raises(TypeError, match="connect4: there is action_mask in C and none in JAX"):
            bind("connect4", unmasked())
        has_perf = type(env).perf is not Env.perf
        other = Env.perf if has_perf else lambda self, s: jnp.float32(0)
        with pytest.raises(TypeError, match="connect4: there is perf in"):
            bind("connect4", type("Other", (type(env),), {"perf": other})())

    def test_number_of_agents(self) -> None:
        env = make("snake")
        more = type("More", (type(env),), {"num_agents": property(lambda self: 100_000)})
        with pytest.raises(TypeError, match="snake"):
            bind("snake", more())
        alone = type("Alone", (type(env),), {"multi_agent": False})
        with pytest.raises(TypeError, match="snake"):
            bind("snake", alone())


def test_actions_beyond_the_bounds_are_clipped_and_the_callers_array_stays() -> None:
    far, near = VecEnv("cartpole_continuous", 2), VecEnv("cartpole_continuous", 2)
    actions = np.float32([[9.0], [-9.0]])
    for env, taken in ((far, actions), (near, np.float32([[1.0], [-1.0]]))):
        env.reset(seed=3)
        env.step(taken)
    np.testing.assert_array_equal(far.state, near.state)
    np.testing.assert_array_equal(actions, [[9.0], [-9.0]])


def test_floats_of_a_wrong_shape_are_not_spread_over_the_batch() -> None:
    env = VecEnv("drone", 3)  # four agents with four numbers each
    env.reset(seed=0)
    for shape in ((4,), (1, 4, 4), (3, 1, 4)):
        with pytest.raises(ValueError, match="actions has shape"):
            env.step(np.zeros(shape, np.float32))
