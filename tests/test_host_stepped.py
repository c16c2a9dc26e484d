"""Training on environments that Python steps: the same as inside the program, in every autoreset mode."""

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_envs import Corridor, Counters

from jaxpuffer import PPOConfig, evaluate, fit, load, rng, train
from jaxpuffer.adapters import from_gymnasium
from jaxpuffer.evaluate import evaluation_key
from jaxpuffer.host import HostEnv, Worlds, collect_on_host
from jaxpuffer.host_training import begin_on_host, init_on_host
from jaxpuffer.policy import make_module
from jaxpuffer.spaces import Box, Discrete, MultiDiscrete

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
    config = PPOConfig(num_envs=5, horizon=16, minibatch_size=80, hidden=8, policy=policy)
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


@pytest.mark.parametrize("env", [Corridor(max_steps=9), Counters()], ids=["corridor", "counters"])
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
