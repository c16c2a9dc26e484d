"""Our environments for Gymnasium, PettingZoo, gymnax and Stable-Baselines3, each with the real library where it is."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_envs import Corridor

from jaxpuffer import list_envs, make
from jaxpuffer.adapters import to_gymnasium, to_gymnax, to_pettingzoo, to_stable_baselines3
from jaxpuffer.adapters.adapted import their_rules
from jaxpuffer.registry import env_class
from jaxpuffer.spaces import Box, Discrete, Mixed
from jaxpuffer.vec_env import VecEnv

needs_c = pytest.mark.needs_c


@pytest.mark.parametrize(
    ("adapter", "package"),
    [
        (to_gymnasium, "gymnasium"),
        (to_pettingzoo, "pettingzoo"),
        (to_stable_baselines3, "stable-baselines3"),
    ],
)
def test_a_missing_library_is_named(adapter: Callable, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = package.replace("-", "_")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"^{module} is not installed: pip install {package}$"):
        adapter("cartpole")


# ------------------------------------------------------------------------------------------
# gymnax
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["jax", pytest.param("c", marks=needs_c)])
def test_gymnax_steps_are_the_batchs(backend: Any) -> None:
    env = make("cartpole", backend=backend, max_steps=12)
    ours, theirs, count = env.batch(5), to_gymnax(env), 5
    keys = jax.random.split(jax.random.key(0), count)
    params = theirs.default_params

    def begin(keys: Any) -> Any:
        return jax.vmap(theirs.reset, (0, None))(keys, params)

    def step(carry: Any, actions: Any) -> Any:
        state, rows = carry
        obs, state, reward, terminated, truncated, info = jax.vmap(theirs.step, (0, 0, 0, None))(
            keys, state, actions, params
        )
        rows, middle = ours.transition(rows, actions)
        final = middle.obs
        rows, expected = ours.reset_ended(rows, middle)
        same = [
            (obs, expected),
            (reward, middle.reward),
            (terminated, middle.terminated),
            (truncated, middle.truncated),
            (info["final_observation"], final),
            (state.time == 0, middle.ended),
        ]
        return (state, rows), (jnp.stack([(a == b).all() for a, b in same]), terminated.any(), truncated.any())

    @jax.jit
    def run(keys: Any) -> Any:
        _, state = begin(keys)
        rows = jax.tree.map(lambda x: x[:, 0], state.rows)
        actions = jax.random.randint(jax.random.key(1), (60, count), 0, 2, jnp.int32)
        return jax.lax.scan(step, (state, rows), actions)[1]

    same, terminated, truncated = run(keys)
    assert same.all() and terminated.any() and truncated.any()


def test_gymnax_signature() -> None:
    env = to_gymnax("cartpole")
    key, params = jax.random.key(0), env.default_params
    obs, state = env.reset(key)
    np.testing.assert_array_equal(env.get_obs(state, params), obs)
    assert (env.name, env.num_actions, env.action_space(params).n) == ("cartpole", 2, 2)
    assert env.observation_space(params).shape == obs.shape and int(params.max_steps_in_episode) == 500
    short = params.replace(max_steps=1)
    obs, state, reward, terminated, info = env.step_env(key, state, 1, short)
    assert (reward, terminated, env.is_truncated(state, short), env.discount(state, short)) == (1, False, True, 1)
    assert set(info) == {"terminated", "truncated"}
    with pytest.raises(TypeError, match=r"action is float32\[\]; it must be int32\[\]"):
        env.step(key, state, 0.5)
    with pytest.raises(ValueError, match="Snake has 16 agents; an environment of gymnax has one"):
        to_gymnax("snake")
    with pytest.raises(AttributeError, match="max_steps is 0, so other parameters set the limit"):
        to_gymnax("maze").default_params.max_steps_in_episode  # noqa: B018
    masked = to_gymnax(Corridor())
    _, state = masked.reset(key)
    assert masked.action_mask(state).tolist() == [False, True]
    assert masked.step(key, state, 1)[-1]["action_mask"].tolist() == [True, True]


def train_through_gymnax(env: Any, key: jax.Array, updates: int, num_envs: int, horizon: int, lr: float) -> jax.Array:
    """PPO in one program, with nothing but gymnax's methods: the mean return of each update's ended episodes."""
    params = env.default_params
    inputs = int(np.prod(env.observation_space(params).shape))
    shapes = [(inputs, 64), (64, env.action_space(params).n + 1)]
    minibatches, epochs, gamma, lam = 4, 4, 0.99, 0.95

    def network(weights: Any, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jnp.tanh(obs.reshape(len(obs), -1) @ weights[0])
        out = x @ weights[1]
        return jax.nn.log_softmax(out[:, :-1]), out[:, -1]

    def loss(weights: Any, batch: Any) -> jax.Array:
        obs, action, logp, target, advantage = batch
        logits, value = network(weights, obs)
        ratio = jnp.exp(jnp.take_along_axis(logits, action[:, None], 1)[:, 0] - logp)
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage).mean()
        entropy = -(jnp.exp(logits) * logits).sum(1).mean()
        return -gain + 0.5 * jnp.square(value - target).mean() - 0.01 * entropy

    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(lr))
    key, *inits = jax.random.split(key, 3)
    weights = [
        jax.nn.initializers.orthogonal(scale)(k, shape, jnp.float32)
        for scale, k, shape in zip((1.4, 0.1), inits, shapes, strict=True)
    ]

    def step(carry: Any, key: jax.Array) -> Any:
        weights, obs, state, total = carry
        logits, value = network(weights, obs)
        draw, go = jax.random.split(key)
        action = jax.random.categorical(draw, logits).astype(jnp.int32)
        next_obs, state, reward, terminated, truncated, info = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(go, num_envs), state, action, params
        )
        final = network(weights, info["final_observation"])[1]
        done, total = terminated | truncated, total + reward
        reward = reward + jnp.where(truncated, gamma * final, 0.0)
        logp = jnp.take_along_axis(logits, action[:, None], 1)[:, 0]
        return (weights, next_obs, state, jnp.where(done, 0.0, total)), (
            obs,
            action,
            logp,
            value,
            reward,
            done,
            jnp.where(done, total, 0.0),
        )

    def update(carry: Any, key: jax.Array) -> Any:
        weights, moments, obs, state, total = carry
        key, shuffle = jax.random.split(key)
        rollout = jax.lax.scan(step, (weights, obs, state, total), jax.random.split(key, horizon))
        (_, obs, state, total), (seen, action, logp, value, reward, done, returns) = rollout

        def back(carry: Any, x: Any) -> Any:
            after, advantage = carry
            value, reward, done = x
            alive = 1.0 - done
            advantage = reward + gamma * alive * after - value + gamma * lam * alive * advantage
            return (value, advantage), advantage

        last = network(weights, obs)[1]
        _, advantage = jax.lax.scan(back, (last, jnp.zeros_like(last)), (value, reward, done), reverse=True)
        data = (seen, action, logp, value + advantage, advantage)
        data = jax.tree.map(lambda x: x.reshape(num_envs * horizon, *x.shape[2:]), data)

        def epoch(carry: Any, key: jax.Array) -> Any:
            order = jax.random.permutation(key, num_envs * horizon)
            parts = jax.tree.map(lambda x: x[order].reshape(minibatches, -1, *x.shape[1:]), data)

            def descend(carry: Any, part: Any) -> Any:
                weights, moments = carry
                change, moments = optimiser.update(jax.grad(loss)(weights, part), moments)
                return (optax.apply_updates(weights, change), moments), None

            return jax.lax.scan(descend, carry, parts)

        (weights, moments), _ = jax.lax.scan(epoch, (weights, moments), jax.random.split(shuffle, epochs))
        return (weights, moments, obs, state, total), returns.sum() / jnp.maximum(done.sum(), 1)

    @jax.jit
    def train(key: jax.Array, weights: Any) -> jax.Array:
        first, rest = jax.random.split(key)
        obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(first, num_envs), params)
        carry = (weights, optimiser.init(weights), obs, state, jnp.zeros(num_envs, jnp.float32))
        return jax.lax.scan(update, carry, jax.random.split(rest, updates))[1]

    return train(key, weights)


def test_code_for_gymnax_trains_cartpole() -> None:
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        returns = train_through_gymnax(to_gymnax("cartpole"), jax.random.key(0), 45, 32, 64, 3e-3)
    assert returns[:3].mean() < 60 and returns[-10:].mean() > 250


def test_gymnaxs_own_wrapper() -> None:
    wrappers = pytest.importorskip("gymnax.wrappers.purerl")
    spaces = pytest.importorskip("gymnax.environments.spaces")
    env = wrappers.LogWrapper(wrappers.FlattenObservationWrapper(to_gymnax("cartpole")))
    keys = jax.random.split(jax.random.key(0), 4)
    assert isinstance(env.action_space(env.default_params), spaces.Discrete)
    step = jax.vmap(env.step, (0, 0, 0, None))
    with their_rules():
        _, state = jax.vmap(env.reset, (0, None))(keys, env.default_params)
        for _ in range(15):
            _, state, *_, info = step(keys, state, jnp.zeros(4, jnp.int32), env.default_params)
    assert info["returned_episode_valid"].all() and (info["returned_episode_returns"] > 5).all()


# ------------------------------------------------------------------------------------------
# Gymnasium
# ------------------------------------------------------------------------------------------


@needs_c
@pytest.mark.parametrize("name", list_envs())
def test_gymnasium_rows_are_agents(name: str) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make_vec(f"jaxpuffer/{name}", num_envs=3, max_steps=25)
    assert isinstance(env, gymnasium.vector.VectorEnv)
    assert env.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.SAME_STEP
    rows = 3 * env_class(name)().num_agents
    assert (env.num_envs, env.num_worlds) == (rows, 3)
    inner = VecEnv(name, 3, max_steps=25)
    obs, info = env.reset(seed=4)
    expected, _ = inner.reset(seed=4)
    env.action_space.seed(0)
    ends = 0
    for _ in range(60):
        assert obs in env.observation_space
        assert jax.tree.map(lambda x: x[0], obs) in env.single_observation_space
        for seen, right in zip(jax.tree.leaves(obs), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(seen.reshape(right.shape), right)
        actions = env.action_space.sample()
        if "action_mask" in info:
            actions = np.argmax(info["action_mask"], -1)
        last = obs
        obs, *outcome, info = env.step(actions)
        assert last is not obs and all(x.shape == (rows,) for x in outcome)
        expected, *theirs, found = inner.step(np.reshape(actions, inner._arrays["action_shape"]))
        for a, b in zip(outcome, theirs, strict=True):
            np.testing.assert_array_equal(a, b.ravel())
        ended = outcome[1] | outcome[2]
        assert ("final_obs" in info) == ended.any()
        ends += ended.sum()
        if ended.any():
            np.testing.assert_array_equal(info["_final_obs"], ended)
            assert all((x is None) != e for x, e in zip(info["final_obs"], ended, strict=True))
            last_ones = jax.tree.map(lambda *x: np.stack(x), *info["final_obs"][ended])
            for seen, right in zip(jax.tree.leaves(last_ones), jax.tree.leaves(found["final_obs"]), strict=True):
                np.testing.assert_array_equal(seen, right.reshape(rows, *seen.shape[1:])[ended])
            scores = found["log"].reshape(rows, -1)[:, 2]
            np.testing.assert_array_equal(info["final_info"]["score"], scores)
    assert ends >= rows
    env.close()
    with pytest.raises(RuntimeError, match="this environment is closed; make a new one"):
        env.step(actions)


@needs_c
def test_gymnasiums_wrappers_take_it() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.wrappers import vector

    def play(env: Any, steps: int) -> Any:
        env.reset(seed=0)
        env.action_space.seed(0)
        for _ in range(steps):
            last = env.step(env.action_space.sample())
        return last

    lengths = {}
    for mode in ("SameStep", "NextStep"):
        env = vector.RecordEpisodeStatistics(gymnasium.make_vec("jaxpuffer/cartpole", num_envs=4, autoreset_mode=mode))
        play(env, 300)
        assert len(env.length_queue) > 20
        lengths[mode] = list(env.return_queue)
        assert lengths[mode] == list(env.length_queue)  # a reward of 1 each step
    *_, infos = play(vector.DictInfoToList(gymnasium.make_vec("jaxpuffer/snake", num_envs=2)), 20)
    assert len(infos) == 32 and all(info["action_mask"].shape == (4,) for info in infos)
    obs, *_ = play(vector.NormalizeObservation(to_gymnasium("cartpole", 4, autoreset_mode="NextStep")), 200)
    assert np.abs(obs).max() < 10
    _, reward, *_ = play(vector.NormalizeReward(to_gymnasium("cartpole", 4)), 50)
    assert (reward < 1).all()
    play(vector.ClipAction(to_gymnasium("cartpole_continuous", 3)), 20)


@pytest.mark.parametrize("backend", [pytest.param("c", marks=needs_c), "jax"])
def test_the_next_step_mode_has_the_same_episodes(backend: Any) -> None:
    """With a step more after each one's end, whose action is ignored."""
    pytest.importorskip("gymnasium")
    made = make("cartpole", backend=backend, max_steps=15)
    same, next_ = (to_gymnasium(made, 3, autoreset_mode=mode) for mode in ("SameStep", "NextStep"))
    first, other = same.reset(seed=1)[0], next_.reset(seed=1)[0]
    np.testing.assert_array_equal(first, other)
    seen: list[list] = [[x] for x in first]
    for _ in range(60):
        obs, _, terminated, truncated, info = same.step(np.array([0, 1, 0]))
        for row in range(3):
            if terminated[row] or truncated[row]:
                seen[row].append(info["final_obs"][row])
            seen[row].append(obs[row])
    over = np.zeros(3, bool)
    for t in range(1, 61):
        obs, reward, terminated, truncated, info = next_.step(np.array([0, 1, 0]))
        np.testing.assert_array_equal(obs, [seen[row][t] for row in range(3)])
        np.testing.assert_array_equal(reward, np.where(over, 0, 1))
        assert not (over & (terminated | truncated)).any() and "final_obs" not in info
        over = terminated | truncated
        if over.any():
            assert (info["final_info"]["episode_length"][over] > 5).all()
    with pytest.raises(ValueError, match="autoreset_mode is 'NextStep'; a world of several agents goes on"):
        to_gymnasium("boids", autoreset_mode="NextStep")


@needs_c
def test_jax_environments_have_the_same_interface_and_episodes() -> None:
    pytest.importorskip("gymnasium")
    for name in ("cartpole", "target"):
        in_c, in_jax = to_gymnasium(name, 2), to_gymnasium(make(name), 2)
        in_c.action_space.seed(0)
        mask = np.repeat([True, False], in_c.num_agents)
        for t in range(40):
            if t in (0, 20):
                options = {"reset_mask": mask} if t else None
                found = [env.reset(seed=3, options=options) for env in (in_c, in_jax)]
            else:
                actions = in_c.action_space.sample()
                found = [env.step(actions) for env in (in_c, in_jax)]
            if len(found[0]) == 5 and "final_obs" in found[0][-1]:  # an array of arrays and None
                for *_, info in found:
                    info["final_obs"] = np.stack(list(info["final_obs"][info["_final_obs"]]))
            jax.tree.map(np.testing.assert_array_equal, *found)
    with pytest.raises(ValueError, match="reset_mask differs among the agents of a world"):
        to_gymnasium("snake").reset(options={"reset_mask": np.arange(16) < 3})
    with pytest.raises(TypeError, match=r"parameters go with a name; here env.replace\(gravity=...\) changes them"):
        to_gymnasium(make("cartpole"), gravity=1)
    # one that is not registered
    obs, _ = to_gymnasium(Corridor(), 4).reset(seed=0)
    assert len(obs) == 4
    from jaxpuffer.adapters.gymnasium_envs import gymnasium_space

    with pytest.raises(TypeError, match="Gymnasium has no space of choices and numbers in one array"):
        gymnasium_space(Mixed((Discrete(2), Box(0, 1, (1,)))))


@needs_c
@pytest.mark.parametrize("name", ["cartpole", "connect4", "cartpole_continuous"])
def test_gymnasiums_check_of_one_environment(name: str) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    env = gymnasium.make(f"jaxpuffer/{name}", render_mode="rgb_array", max_steps=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bounds that are infinite
        check_env(env.unwrapped)
    env.reset(seed=0)
    env.action_space.seed(0)
    over, steps = False, 0
    while not over:
        obs, _, terminated, truncated, info = env.step(env.action_space.sample())
        over, steps = terminated or truncated, steps + 1
    assert info["episode_length"] == steps and obs in env.observation_space
    if name == "cartpole" and terminated:
        assert abs(obs[0]) > 2.4 or abs(obs[2]) > 0.2  # the last one, not the next episode's first
    with pytest.raises(RuntimeError, match=r"the episode has ended; call reset\(\) before step\(\)"):
        env.unwrapped.step(env.action_space.sample())


@needs_c
def test_pictures() -> None:
    pytest.importorskip("gymnasium")
    for env in (
        to_gymnasium(make("cartpole"), 2, render_mode="rgb_array"),
        to_gymnasium("cartpole", 2, render_mode="rgb_array"),
    ):
        env.reset(seed=0)
        frames = env.render()
        vec = VecEnv("cartpole", 2)
        vec.reset(seed=0)
        for i, frame in enumerate(frames):
            np.testing.assert_array_equal(frame, vec.render(i))
    assert len(frames) == 2 and frame.dtype == np.uint8 and len(np.unique(frame.reshape(-1, 3), axis=0)) > 2
    with pytest.raises(ValueError, match="render_mode is None; make the environment with render_mode='rgb_array'"):
        to_gymnasium("cartpole").render()
    with pytest.raises(ValueError, match="render_mode is 'human'; it must be None or 'rgb_array'"):
        to_gymnasium("cartpole", render_mode="human")
    with pytest.raises(ValueError, match="autoreset_mode is 'Disabled'; it must be 'SameStep' or 'NextStep'"):
        to_gymnasium("cartpole", autoreset_mode="Disabled")


@needs_c
def test_an_id_with_its_module_and_no_backend() -> None:
    """Gymnasium imports the module, and no backend of JAX starts."""
    pytest.importorskip("gymnasium")
    code = """
import gymnasium
env = gymnasium.make_vec("jaxpuffer.adapters:jaxpuffer/breakout", num_envs=8, balls=3)
env.reset(seed=0)
env.step(env.action_space.sample())
from jax._src import xla_bridge
assert not xla_bridge._backends and env._vec.params["balls"] == 3
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# ------------------------------------------------------------------------------------------
# PettingZoo
# ------------------------------------------------------------------------------------------


@needs_c
@pytest.mark.parametrize("name", [name for name in list_envs() if env_class(name).multi_agent])
@pytest.mark.filterwarnings("error")
def test_pettingzoos_own_tests(name: str) -> None:
    test = pytest.importorskip("pettingzoo.test")
    test.parallel_api_test(to_pettingzoo(name, max_steps=30), num_cycles=60)
    test.parallel_seed_test(lambda: to_pettingzoo(name, max_steps=30), num_cycles=5)


@needs_c
def test_an_agent_of_pettingzoo_has_one_episode() -> None:
    pytest.importorskip("pettingzoo")
    env = to_pettingzoo("snake", max_steps=200)
    vec = VecEnv("snake", max_steps=200)
    env.reset(seed=0)
    vec.reset(seed=0)
    ends: dict[str, int] = {}
    generator, t = np.random.default_rng(0), 0
    while env.agents:
        played = list(env.agents)
        actions = {agent: int(generator.integers(4)) for agent in played}
        before = env._random.bit_generator.state
        others = env._random_actions()
        env._random.bit_generator.state = before
        for i, agent in enumerate(env.possible_agents):
            assert agent in played or env._mask[i, others[i]]
            others[i] = actions.get(agent, others[i])
        obs, reward, terminated, truncated, infos = env.step(actions)
        expected, expected_reward, *flags, info = vec.step(others[None])
        t += 1
        assert list(obs) == list(reward) == list(terminated) == list(truncated) == list(infos) == played
        for agent in played:
            i = env.possible_agents.index(agent)
            over = terminated[agent] or truncated[agent]
            assert (terminated[agent], truncated[agent]) == (flags[0][0, i], flags[1][0, i])
            assert reward[agent] == expected_reward[0, i] and over == (agent not in env.agents)
            np.testing.assert_array_equal(obs[agent], (info["final_obs"] if over else expected)[0, i])
            if over:
                assert infos[agent]["episode_length"] == t
                ends[agent] = t
    assert len(ends) == 16 and len(set(ends.values())) > 3
    with pytest.raises(RuntimeError, match=r"no agent is left; call reset\(\) before step\(\)"):
        env.step({})


@needs_c
def test_what_pettingzoo_is_refused() -> None:
    pytest.importorskip("pettingzoo")
    with pytest.raises(ValueError, match="cartpole has one agent; use to_gymnasium"):
        to_pettingzoo("cartpole")
    env = to_pettingzoo("drone")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions are of \['agent_0'\]; they must be of \['agent_0', 'agent_1'"):
        env.step({"agent_0": np.zeros(4)})
    with pytest.raises(ValueError, match=r"the agents' actions have the shape \[4, 3\]; it must be \[4, 4\]"):
        env.step({agent: np.zeros(3) for agent in env.agents})
    snake = to_pettingzoo("snake")
    snake.reset()
    with pytest.raises(ValueError, match="snake: action 4294967296 of agent 0 of the batch"):
        snake.step(dict.fromkeys(snake.agents, 2**32))


# ------------------------------------------------------------------------------------------
# Stable-Baselines3
# ------------------------------------------------------------------------------------------


@needs_c
def test_stable_baselines3_takes_it() -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecMonitor

    env = to_stable_baselines3("cartpole", 8, max_steps=30)
    env.seed(0)
    env.reset()
    inner = to_gymnasium("cartpole", 8, max_steps=30)
    inner.reset(seed=0)
    ends = 0
    for _ in range(100):
        actions = inner.action_space.sample()
        obs, _, done, infos = env.step(actions)
        expected, _, terminated, truncated, info = inner.step(actions)
        np.testing.assert_array_equal(obs, expected)
        np.testing.assert_array_equal(done, terminated | truncated)
        for i in np.flatnonzero(done):
            np.testing.assert_array_equal(infos[i]["terminal_observation"], info["final_obs"][i])
            assert infos[i]["TimeLimit.truncated"] == truncated[i]
            assert infos[i]["episode"]["l"] == info["final_info"]["episode_length"][i] == infos[i]["episode"]["r"]
            ends += 1
    assert ends > 20
    model = PPO("MlpPolicy", VecMonitor(to_stable_baselines3("snake", 2)), n_steps=16, batch_size=64, device="cpu")
    model.learn(1_000)
    masked = to_stable_baselines3("g2048", 3)
    masked.reset()
    assert np.stack(masked.env_method("action_masks")).shape == (3, 4)
    with pytest.raises(ValueError, match="Stable-Baselines3 needs SAME_STEP"):
        to_stable_baselines3(to_gymnasium("cartpole", 2, autoreset_mode="NextStep"))
