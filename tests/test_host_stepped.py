"""Training on environments that Python steps: the same as inside the program, in every autoreset mode."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from toy_envs import Corridor, Counters

from jaxpuffer import PPOConfig, animate, evaluate, fit, load, rng, train
from jaxpuffer.adapters import from_gymnasium
from jaxpuffer.evaluate import evaluation_key
from jaxpuffer.host import Worlds, collect_on_host
from jaxpuffer.host_training import begin_on_host, init_on_host
from jaxpuffer.policy import make_module
from jaxpuffer.sharding import data_mesh
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete

KEY = jax.random.key(0)
MODES = ["NEXT_STEP", "SAME_STEP", "DISABLED"]


class Scripted:
    """Episodes of known lengths: observation (environment, episode, step, 1), reward 100 environment + step.

    Environment i's episodes last 2 + (i + episode) % 5 steps; every third one is terminated, the others truncated.
    The arrays that it returns are used again by the next call.
    """

    single_observation_space = Box(-np.inf, np.inf, (4,))
    single_action_space = Discrete(3)

    def __init__(self, num_envs: int, mode: str) -> None:
        self.num_envs, self.metadata = num_envs, {"autoreset_mode": mode}
        self.obs = np.zeros((num_envs, 4), np.float32)
        self.done = np.zeros(num_envs, bool)

    def _begin(self, i: int) -> None:
        self.obs[i] = i, self.obs[i, 1] + 1, 0, 1

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        which = np.ones(self.num_envs, bool) if options is None else options["reset_mask"]
        for i in np.flatnonzero(which):
            self._begin(i)
        self.done[which] = False
        return self.obs, {}

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        assert action.shape == (self.num_envs,) and ((action >= 0) & (action < 3)).all()
        mode, before = self.metadata["autoreset_mode"], self.done.copy()
        assert mode == "NEXT_STEP" or not before.any()
        reward, terminated, truncated = np.zeros((3, self.num_envs))
        final: Any = np.full(self.num_envs, None, object)
        for i in range(self.num_envs):
            if before[i]:
                self._begin(i)
                continue
            self.obs[i, 2] += 1
            episode = self.obs[i, 1]
            reward[i] = 100 * i + self.obs[i, 2]
            if self.obs[i, 2] >= 2 + (i + episode) % 5:
                terminated[i], truncated[i] = episode % 3 == 0, episode % 3 != 0
        self.done = ended = (terminated + truncated) > 0
        info = {}
        if mode == "SAME_STEP" and ended.any():
            for i in np.flatnonzero(ended):
                final[i] = self.obs[i].copy()
                self._begin(i)
            info["final_obs"] = final
            self.done = np.zeros(self.num_envs, bool)
        return self.obs, reward, terminated > 0, truncated > 0, info

    def close(self) -> None:
        self.closed = True


def scripted_rollouts(mode: str, policy: str, count: int) -> tuple[Any, ...]:
    env = from_gymnasium(lambda n: Scripted(n, mode), "scripted")
    config = PPOConfig(num_envs=5, horizon=16, minibatch_size=80, hidden=8, policy=policy, normalize_return=False)
    module = make_module(env, config)
    state = init_on_host(env, KEY, config, module)
    made = []
    with Worlds(env, config.num_envs) as worlds:
        play = begin_on_host(worlds, KEY, state).play
        for _ in range(count):
            play, (played, next_values), log = collect_on_host(worlds, state.playing(module), play, config)
            made.append((played, next_values, log))
    assert worlds.vec.closed
    return tuple(jax.device_get(made))


@pytest.mark.parametrize("mode", MODES)
def test_every_transition_is_real(mode: str) -> None:
    """In each row of each rollout: whole steps, in order; no final observation is acted on; ends as they were."""
    for played, _, log in scripted_rollouts(mode, "linear", 3):
        env, episode, step = played.obs[..., 0], played.obs[..., 1], played.obs[..., 2]
        length = 2 + (env + episode) % 5
        assert (env == np.arange(5)).all() and (step < length).all()
        np.testing.assert_array_equal(played.reset, step == 0)
        np.testing.assert_array_equal(played.reward, 100 * env + step + 1)
        ended = step + 1 == length
        np.testing.assert_array_equal(played.ended, ended)
        np.testing.assert_array_equal(played.truncated, ended & (episode % 3 != 0))
        np.testing.assert_array_equal(np.diff(episode, axis=0), ended[:-1])
        np.testing.assert_array_equal(step[1:], np.where(ended[:-1], 0, step[:-1] + 1))
        assert ((played.rest != 0) == played.truncated).all()
        assert log.n >= ended.sum() if mode == "NEXT_STEP" else log.n == ended.sum()
        assert 2 <= log.episode_length / log.n <= 6


@pytest.mark.parametrize("policy", ["linear", "mingru"])
def test_the_modes_agree(policy: str) -> None:
    """What the policy saw, its memory, and the values of final and next observations."""
    (one,), *others = (scripted_rollouts(mode, policy, 1) for mode in ("SAME_STEP", "DISABLED", "NEXT_STEP"))
    assert one[0].truncated.any() and (one[0].ended & ~one[0].truncated).any()
    for ((played, next_values, _),) in others:
        for name in ("obs", "reset", "value", "reward", "ended", "truncated", "rest"):
            np.testing.assert_array_equal(getattr(played, name), getattr(one[0], name), err_msg=name)
        goes_on = ~played.ended[-1]  # otherwise the next value has no meaning
        np.testing.assert_array_equal(next_values[goes_on], one[1][goes_on])


class OfJax:
    """One of our environments in JAX as a vector environment with masks, whose episodes are those of `train`."""

    def __init__(self, env: Any, num_envs: int, streams: Any) -> None:
        self.batch, self.num_envs, self.streams = env.batch(num_envs), num_envs, streams[:num_envs]
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.metadata = {"autoreset_mode": "SAME_STEP"}
        self.transition, self.reset_ended = jax.jit(self.batch.transition), jax.jit(self.batch.reset_ended)

    def info(self) -> dict[str, Any]:
        mask = self.batch.action_mask(self.state)
        return {} if mask is None else {"action_mask": mask}

    def reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
        self.state, obs = self.batch.reset_streams(self.streams)
        return obs, self.info()

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        self.state, step = self.transition(self.state, action)
        self.state, obs = self.reset_ended(self.state, step)
        return obs, step.reward, step.terminated, step.truncated, {"final_obs": step.obs, **self.info()}

    def close(self) -> None:
        pass


@pytest.mark.parametrize("env", [Corridor(max_steps=9), pytest.param(Counters(), marks=pytest.mark.full)], ids=repr)
def test_it_trains_as_inside_the_program(env: Any) -> None:
    """Masks, truncation, several agents: the same parameters and metrics as `train` of the same environment."""
    config = PPOConfig(
        num_envs=8, horizon=8, total_steps=4 * 8 * 8 * env.num_agents, hidden=8, reward_scale=2.0, reward_clip=1.5
    )
    streams = rng.seed(jax.random.split(KEY, 3)[1], (8,))
    host = from_gymnasium(lambda n: OfJax(env, n, streams), "host")
    assert (host.num_agents, host.masked) == (env.num_agents, isinstance(env, Corridor))
    inside, outside = train(env, KEY, config), train(host, KEY, config)
    for a, b in zip(jax.tree.leaves(inside.state.params), jax.tree.leaves(outside.state.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for name in inside.metrics:
        if name not in ("score", "perf"):
            np.testing.assert_allclose(inside.metrics[name], outside.metrics[name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert inside.metrics["episodes"].sum() > 10


CONFIG = PPOConfig(num_envs=5, horizon=16, minibatch_size=80, hidden=8, total_steps=6 * 80)


def scripted(mode: str = "NEXT_STEP", **changes: Any) -> Any:
    def make_vec(num_envs: int) -> Scripted:
        vec = Scripted(num_envs, mode)
        for name, value in changes.items():
            setattr(vec, name, value)
        return vec

    return from_gymnasium(make_vec, "scripted")


def test_fit_saves_and_goes_on_with_new_episodes(tmp_path: Path) -> None:
    def stop(steps: int, means: dict[str, float]) -> None:
        raise ConnectionError

    env = scripted()
    with pytest.raises(ConnectionError):
        fit(env, KEY, CONFIG, directory=tmp_path, log=stop, progress=False)
    with pytest.raises(ValueError, match="pass it as env="):
        load(tmp_path)
    before = load(tmp_path, env)
    assert 0 < int(before.state.updates) < 6
    with pytest.raises(ValueError, match=r"was trained on .*Discrete\(n=3\).*; env is .*Discrete\(n=4\)"):
        fit(scripted(single_action_space=Discrete(4)), KEY, CONFIG, directory=tmp_path, resume=True, progress=False)
    with pytest.warns(RuntimeWarning, match="scripted: the environments' states cannot be saved, .* new episodes"):
        after = fit(env, KEY, CONFIG, directory=tmp_path, resume=True, progress=False)
    np.testing.assert_array_equal(after.metrics["agent_steps"], 80 * np.arange(1, 7))
    done = int(before.state.updates)
    np.testing.assert_array_equal(after.metrics["value_loss"][:done], before.metrics["value_loss"])

    # the same parameters as `train`, up to the interruption
    once = train(env, KEY, CONFIG)
    np.testing.assert_array_equal(once.metrics["value_loss"][:done], before.metrics["value_loss"])
    assert np.isfinite(once.metrics["score"]).all()
    np.testing.assert_array_equal(once.metrics["score"], once.metrics["episode_return"])


def test_evaluation_plays_one_episode_of_each_environment() -> None:
    env = scripted("DISABLED")
    played = evaluate(
        env, train(env, KEY, CONFIG.replace(total_steps=80)), evaluation_key(KEY), episodes=70, max_steps=4
    )
    # 64 environments twice; the second round begins with new episodes
    environment, steps = np.tile(np.arange(64), 2), played.episode_length
    np.testing.assert_array_equal(steps[:64], np.minimum(2 + (environment[:64] + 1) % 5, 4))
    np.testing.assert_array_equal(played.finished[:64], 2 + (environment[:64] + 1) % 5 <= 4)
    assert played.finished[64:].any() and (steps[64:][~played.finished[64:]] == 4).all()
    np.testing.assert_array_equal(played.score, steps * 100 * environment + steps * (steps + 1) / 2)


def test_the_most_likely_action_in_place_of_a_sampled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[np.ndarray] = []
    step = Scripted.step

    def recorded(self: Scripted, action: np.ndarray) -> tuple[Any, ...]:
        played.append(action.copy())
        return step(self, action)

    monkeypatch.setattr(Scripted, "step", recorded)
    env = scripted("DISABLED")
    policy = train(env, KEY, CONFIG.replace(total_steps=80)).policy
    for deterministic in (True, False):
        played.clear()
        for key in (1, 2):
            evaluate(env, policy, jax.random.key(key), episodes=4, max_steps=2, deterministic=deterministic)
        assert len(played) == 4 and np.array_equal(played[:2], played[2:]) == deterministic


def test_a_program_cannot_hold_it() -> None:
    env = scripted()
    for call in (
        lambda: jax.vmap(lambda key: train(env, key, CONFIG))(jax.random.split(KEY)),
        lambda: jax.jit(lambda: train(env, KEY, CONFIG))(),
        lambda: jax.jit(lambda key: fit(env, key, CONFIG, progress=False))(KEY),
    ):
        with pytest.raises(TypeError, match="inside jit or vmap"):
            call()
    with pytest.raises(TypeError, match="has no pictures here"):
        animate(env, train(env, KEY, CONFIG.replace(total_steps=80)), KEY)
    policy = make_module(env, CONFIG)
    with pytest.raises(TypeError, match="nothing else"):
        env.batch(2).transition(*jax.tree.map(np.asarray, (env.batch(2).reset_streams(np.zeros((2, 2), np.uint32)))))
    assert policy is make_module(scripted("SAME_STEP"), CONFIG)  # and so are all compiled programs
    with pytest.raises(ValueError, match="mesh must be None"):
        fit(env, KEY, CONFIG, progress=False, mesh=data_mesh())
    with pytest.raises(ValueError, match="profile must be False"):
        fit(env, KEY, CONFIG, progress=False, profile=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metadata": {}}, "metadata\\['autoreset_mode'\\] is None; it must be one of NEXT_STEP"),
        ({"single_observation_space": Box(0.0, 1.0, (3,))}, "has the shape \\(1, 4\\)"),
        ({"single_action_space": 7}, "actions are 7; there are policies for"),
        ({"single_observation_space": "words"}, "observations are words, which has no counterpart here"),
    ],
    ids=["mode", "shape", "action space", "observation space"],
)
def test_a_vector_environment_that_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^scripted: .*{message}"):
        scripted(**changes)


def test_what_an_environment_returns_is_checked() -> None:
    class Wrong(Scripted):
        def step(self, action: np.ndarray) -> tuple[Any, ...]:
            obs, reward, terminated, truncated, _ = super().step(action)
            return obs, reward, terminated, truncated, {}

    with pytest.raises(ValueError, match="^wrong: an episode was truncated in mode SAME_STEP, without info"):
        train(from_gymnasium(lambda n: Wrong(n, "SAME_STEP"), "wrong"), KEY, CONFIG)

    class Poor(Scripted):
        def step(self, action: np.ndarray) -> tuple[Any, ...]:
            obs, reward, *rest = super().step(action)
            return obs, np.full_like(reward, np.nan), *rest

    with pytest.raises(FloatingPointError, match=r"100.00% of the rewards are NaN or infinite in update 1"):
        fit(from_gymnasium(lambda n: Poor(n, "NEXT_STEP"), "poor"), KEY, CONFIG, progress=False)

    class Short(Scripted):
        def step(self, action: np.ndarray) -> tuple[Any, ...]:
            obs, reward, *rest = super().step(action)
            return obs, reward[:-1], *rest

    with pytest.raises(ValueError, match=r"^short: the shape of reward of all is \(4,\); it must be \(5,\)"):
        train(from_gymnasium(lambda n: Short(n, "NEXT_STEP"), "short"), KEY, CONFIG)
    with pytest.raises(TypeError, match="make_vec is 5; it must be an id, or a function"):
        from_gymnasium(5)  # type: ignore[arg-type]


@pytest.mark.needs_c
def test_our_vec_env() -> None:
    """In worlds of several agents, whose actions are masked."""
    from envs_c import VecEnv

    env = from_gymnasium(lambda n: VecEnv("snake", n))
    assert (env.name, env.agent_shape, env.masked) == ("VecEnv", (16,), True)
    state = init_on_host(env, KEY, CONFIG.replace(num_agents=16), make_module(env, CONFIG))
    with Worlds(env, 2) as worlds:
        play = worlds.begin(state.play, 0)
        action = np.tile(np.arange(4, dtype=np.int32), 8)
        for _ in range(200):
            play, step = worlds.play_on(play, np.where(play.envs.mask.reshape(32, 4)[range(32), action], action, 0))
    assert worlds.episodes.total[2] > 5 and play.envs.mask.shape == (2, 16, 4) and not play.envs.mask.all()
    assert step.obs.shape == (32, *env.observation_space.shape) and step.obs.dtype == np.int8


# with Gymnasium itself


def test_spaces_of_gymnasium() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    spaces = gymnasium.spaces

    class Both:
        """Its actions are drawn from the space that its observations are of."""

        metadata = {"autoreset_mode": "SAME_STEP"}  # noqa: RUF012

        def __init__(self, space: Any, num_envs: int) -> None:
            self.single_observation_space = self.single_action_space = space
            self.num_envs, self.obs = num_envs, gymnasium.vector.utils.batch_space(space, num_envs).sample()

        def reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
            return self.obs, {}

        def close(self) -> None:
            pass

    for theirs, ours in (
        (spaces.Discrete(3, start=-1), Discrete(3)),
        (spaces.MultiDiscrete([2, 5], start=[1, 7]), MultiDiscrete((2, 5))),
        (spaces.MultiDiscrete([[2, 5], [3, 3]]), MultiDiscrete((2, 5, 3, 3))),
    ):
        env = from_gymnasium(lambda n, space=theirs: Both(space, n), "both")
        assert env.observation_space == env.action_space == ours
        vec = env.make_vec(50)
        seen = np.asarray(env.decode(vec.obs)).astype(np.int32)
        assert seen.shape == (50, *ours.shape) and ours.contains(seen)
        again = env.encode(seen)
        np.testing.assert_array_equal(again, vec.obs)
        assert all(theirs.contains(action) for action in again)

    env = from_gymnasium(lambda n: Both(spaces.MultiBinary((2, 3)), n), "both")
    assert (env.observation_space, env.action_space) == (Box(0, 1, (2, 3), np.int8), MultiDiscrete((2,) * 6))
    assert spaces.MultiBinary((2, 3)).contains(env.encode(np.ones((50, 6), np.int32))[7])

    # composites: observations as Gymnasium flattens them, actions back in their own form
    composite = spaces.Dict(
        a=spaces.Discrete(3, start=2),
        b=spaces.Tuple((spaces.Box(-1.0, 1.0, (2, 2)), spaces.MultiDiscrete([2, 4]))),
        c=spaces.MultiBinary(2),
    )
    env = from_gymnasium(lambda n: Both(composite, n), "both")
    assert env.observation_space == Box(-np.inf, np.inf, (15,))
    vec = env.make_vec(7)
    rows = list(gymnasium.vector.utils.iterate(gymnasium.vector.utils.batch_space(composite, 7), vec.obs))
    np.testing.assert_array_equal(env.decode(vec.obs), [spaces.flatten(composite, row) for row in rows])
    bits = MultiDiscrete((2, 2))
    assert env.action_space == Mixed((Discrete(3), Box(-1.0, 1.0, (4,)), MultiDiscrete((2, 4)), bits))
    action = np.array([[2, 0.5, -3, 0, 1, 1, 3, 0, 1]], np.float32)
    (action,) = gymnasium.vector.utils.iterate(gymnasium.vector.utils.batch_space(composite, 1), env.encode(action))
    assert composite.contains(action)
    assert (action["a"], *map(np.ndarray.tolist, (*action["b"], action["c"]))) == (
        4,
        [[0.5, -1], [0, 1]],
        [1, 3],
        [0, 1],
    )

    # a box of float64, an entry of which never changes, and one of whole numbers
    wide = spaces.Box(np.array([[-1.0, 0.0]]), np.array([[np.inf, 0.0]]), dtype=np.float64)
    env = from_gymnasium(lambda n: Both(wide, n), "both")
    assert env.observation_space == Box([[-1.0, 0.0]], [[np.inf, 1.0]])
    assert env.action_space == Box([-1.0, 0.0], [np.inf, 1.0])
    assert wide.contains(env.encode(np.full((5, 2), -3.0, np.float32))[0])
    for space, message in (
        (spaces.Dict(a=spaces.Text(3)), "observations are Text.*has no counterpart"),
        (spaces.Box(0, 2**40, (2,), np.int64), "must fit in 32 bits"),
        (spaces.Box(0, 255, (8, 8, 3), np.uint8), "actions are Box"),
    ):
        with pytest.raises(TypeError, match=f"^both: {message}|^both: .*{message}"):
            from_gymnasium(lambda n, space=space: Both(space, n), "both")


@pytest.mark.parametrize("mode", MODES)
def test_vector_environments_of_gymnasium(mode: str) -> None:
    """Acrobot, which is truncated here, in each mode of Gymnasium's own; and cartpole's own implementation."""
    gymnasium = pytest.importorskip("gymnasium")

    def make_vec(num_envs: int) -> Any:
        kind = gymnasium.vector.AutoresetMode[mode]
        return gymnasium.make_vec(
            "Acrobot-v1", num_envs, "sync", vector_kwargs={"autoreset_mode": kind, "copy": False}, max_episode_steps=7
        )

    env = from_gymnasium(make_vec)
    assert env.name == "Acrobot-v1"
    config = CONFIG.replace(total_steps=160)
    result = train(env, KEY, config)
    # every episode has 7 steps and ends with the time limit
    np.testing.assert_array_equal(result.metrics["episode_length"], 7.0)
    np.testing.assert_array_equal(result.metrics["episode_return"], -7.0)


class OneGame:
    """An environment that is no vector environment."""

    def reset(self, seed=None):
        return 0, {}


@pytest.mark.parametrize(
    ("make_vec", "message"),
    [
        (OneGame, "it must be an id, or a function of the number, such as lambda n"),
        (lambda: OneGame(), "make_vec must take the number of environments"),
        (lambda n: OneGame(), r"make_vec\(1\) made OneGame, a single one"),
        (lambda n: Scripted(3, "SAME_STEP"), r"make_vec\(1\) made 3 environments; it must make"),
    ],
    ids=["class", "no number", "single", "always three"],
)
def test_what_makes_no_vector_environment_is_named(make_vec: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        from_gymnasium(make_vec)
