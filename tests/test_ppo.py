"""The trainer: what it computes, that it compiles once, repeats itself and maps over seeds, fields and parameters."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from jaxpuffer import Env, PPOConfig, make, ppo, train
from jaxpuffer.advantage import gae
from jaxpuffer.devices import available_cores
from jaxpuffer.env import Outcome, PyTreeNode
from jaxpuffer.loss import loss
from jaxpuffer.networks import matmul
from jaxpuffer.play import Rollout, collect
from jaxpuffer.policy import Policy, make_module
from jaxpuffer.ppo import init, normalized, update
from jaxpuffer.spaces import Box, Discrete

SMALL = PPOConfig(total_steps=4096, num_envs=32, horizon=16, minibatch_size=128, hidden=16)


def test_the_linear_layer_and_its_gradients_are_the_textbook_ones() -> None:
    generator = np.random.default_rng(0)
    for rows, inputs, outputs in ((7, 5, 3), (16, 4, 64), (1, 9, 9)):
        x, kernel, weight = (
            jnp.float32(generator.normal(size=s)) for s in ((rows, inputs), (inputs, outputs), (rows, outputs))
        )

        def loss(x: Array, kernel: Array, weight: Array = weight) -> Array:
            return (matmul(x, kernel) * weight).sum()

        for_x, for_kernel = jax.grad(loss, (0, 1))(x, kernel)
        np.testing.assert_allclose(matmul(x, kernel), np.float64(x) @ np.float64(kernel), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(for_x, np.float64(weight) @ np.float64(kernel).T, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(for_kernel, np.float64(x).T @ np.float64(weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["gelu", "relu", "tanh"])
def test_a_critic_of_its_own_does_not_move_the_actor(activation: str) -> None:
    env = make("cartpole")
    config = SMALL.replace(separate_critic=True, activation=activation, layers=2)
    module = make_module(env, config)
    params = jax.jit(init)(env, jax.random.key(0), config).params
    obs = jax.random.normal(jax.random.key(1), (1, 6, 4))

    @jax.jit
    def actor(params: dict) -> Array:
        return module.apply({"params": params}, (), obs, jnp.zeros((1, 6), bool), None)[1].logits.sum()

    moved = {name: float(jnp.abs(g["kernel"]).max()) > 0 for name, g in jax.grad(actor)(params).items()}
    assert moved == {
        "Dense_0": True,
        "Dense_1": True,
        "Dense_2": False,
        "Dense_3": False,
        "actor": True,
        "critic": False,
    }
    train(env, jax.random.key(0), config)


def test_gae_is_the_published_recursion() -> None:
    """Against a float64 transcription that sums each episode's differences term by term."""
    generator = np.random.default_rng(0)
    time, rows, gamma, lam = 12, 5, 0.9, 0.7
    reward, value = generator.normal(size=(2, time, rows))
    last = generator.normal(size=rows)
    ended = generator.random((time, rows)) < 0.25
    following = np.concatenate([value[1:], last[None]])
    delta = reward + gamma * np.where(ended, 0, following) - value
    expected = np.zeros((time, rows))
    for t in range(time):
        for r in range(rows):
            for k in range(t, time):
                expected[t, r] += (gamma * lam) ** (k - t) * delta[k, r]
                if ended[k, r]:
                    break
    single = [jnp.float32(x) for x in (reward, value, last)]
    got = gae(*single, jnp.asarray(ended), jnp.float32(gamma), jnp.float32(lam))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_gae_with_lambda_one_is_the_return() -> None:
    reward = jnp.ones((4, 1))
    ended = jnp.array([[False], [False], [True], [False]])
    value = jnp.full((4, 1), 5.0)
    got = gae(reward, value, jnp.float32([2.0]), ended, 0.5, 1.0) + value
    np.testing.assert_allclose(got[:, 0], [1.75, 1.5, 1.0, 2.0])


class ProbeState(PyTreeNode):
    rng: Array
    steps: Array


class Truncated(Env[ProbeState]):
    """Reward 1 without end, truncated after three steps: with discount g every state has the value 1 / (1 - g)."""

    observation_space = Box(0.0, 1.0, (1,))
    action_space = Discrete(2)

    def init(self, stream: Array) -> ProbeState:
        return ProbeState(stream, jnp.int32(0))

    def transition(self, s: ProbeState, action: Array) -> tuple[ProbeState, Outcome]:
        s = s.replace(steps=s.steps + 1)
        return s, Outcome(jnp.float32(1), jnp.bool_(False), s.steps >= 3)

    def observe(self, s: ProbeState) -> Array:
        return jnp.ones(1)

    def score(self, s: ProbeState) -> Array:
        return jnp.float32(s.steps)


class Terminated(Truncated):
    """The same, but terminated."""

    def observe(self, s: ProbeState) -> Array:
        return jnp.float32(s.steps)[None] * (1 / 3)

    def transition(self, s: ProbeState, action: Array) -> tuple[ProbeState, Outcome]:
        s, outcome = super().transition(s, action)
        return s, Outcome(outcome.reward, outcome.truncated, jnp.bool_(False))


def learned_values(env: Env, observations: list[float]) -> np.ndarray:
    config = PPOConfig(
        total_steps=200_000, num_envs=64, horizon=16, minibatch_size=1024, hidden=16, optimizer="adam",
        learning_rate=0.02, gamma=0.5, gae_lambda=0.8, value_clip=100.0, update_epochs=4, max_grad_norm=10.0,
    )  # fmt: skip
    policy = train(env, jax.random.key(0), config).policy
    obs = jnp.float32(observations)[:, None]
    return np.asarray(policy((), obs, jnp.zeros(len(obs), bool), None)[2])


def test_a_truncated_episode_is_worth_what_its_rest_would_have_brought() -> None:
    np.testing.assert_allclose(learned_values(Truncated(), [1.0]), [2.0], rtol=0.03)


def test_a_terminated_episode_is_worth_what_it_brought() -> None:
    np.testing.assert_allclose(learned_values(Terminated(), [0, 1 / 3, 2 / 3]), [1.75, 1.5, 1.0], rtol=0.05)


class Masked(Truncated):
    """Action k of four is legal in steps where k > steps; an illegal one has a very large penalty."""

    action_space = Discrete(4)

    def action_mask(self, s: ProbeState) -> Array:
        return jnp.arange(4, dtype=jnp.int32) > s.steps[None]

    def transition(self, s: ProbeState, action: Array) -> tuple[ProbeState, Outcome]:
        legal = action > s.steps
        s, outcome = super().transition(s, action)
        return s, outcome.replace(reward=jnp.where(legal, 0.0, -1.0))


def test_illegal_actions_are_never_played() -> None:
    metrics = train(Masked(), jax.random.key(0), SMALL).metrics
    assert metrics["episodes"].sum() > 1000
    np.testing.assert_array_equal(metrics["episode_return"], 0.0)
    # three, two or one legal actions: at most ln 3 nats on average over the steps
    assert float(metrics["entropy"][0]) == pytest.approx(float(np.log([3, 2, 1]).mean()), abs=0.05)


def test_loss_is_ppos() -> None:
    """Against a float64 transcription on made-up policies; its gradient against finite differences."""
    env = make("cartpole")
    module = make_module(env, SMALL)
    generator = np.random.default_rng(1)
    time, rows = 4, 8
    obs = jnp.float32(generator.normal(size=(time, rows, 4)))
    reset = jnp.zeros((time, rows), bool)
    params = module.init(jax.random.key(0), (), obs, reset, None)["params"]
    params = jax.tree.map(lambda x: jnp.float32(x + 0.3 * generator.normal(size=x.shape)), params)
    rollout = Rollout(
        obs, reset, None, jnp.int32(generator.integers(0, 2, (time, rows))),
        jnp.float32(np.log(generator.uniform(0.2, 0.9, (time, rows)))),
        jnp.float32(generator.normal(size=(time, rows))),
        jnp.zeros((time, rows)), reset,
    )  # fmt: skip
    advantage, target = (jnp.float32(generator.normal(size=(time, rows))) for _ in range(2))
    config = SMALL.replace(entropy_coefficient=0.1, value_clip=0.2)

    def reference(params: dict) -> float:
        p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
        x = np.asarray(obs, np.float64) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        logits = x @ p["actor"]["kernel"] + p["actor"]["bias"]
        value = (x @ p["critic"]["kernel"] + p["critic"]["bias"])[..., 0]
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        chosen = np.take_along_axis(log_p, np.asarray(rollout.action)[..., None], -1)[..., 0]
        ratio = np.exp(chosen - np.asarray(rollout.log_prob, np.float64))
        a = np.asarray(advantage, np.float64)
        a = (a - a.mean()) / (a.std() + 1e-8)
        policy_loss = np.maximum(-a * ratio, -a * np.clip(ratio, 0.8, 1.2)).mean()
        old, t = np.asarray(rollout.value, np.float64), np.asarray(target, np.float64)
        near = old + np.clip(value - old, -0.2, 0.2)
        value_loss = 0.5 * np.maximum((value - t) ** 2, (near - t) ** 2).mean()
        entropy = -(np.exp(log_p) * log_p).sum(-1).mean()
        return float(policy_loss + 2.0 * value_loss - 0.1 * entropy)

    def ours(params: dict) -> tuple[Array, dict]:
        total, (parts, _) = loss(params, Policy(params, module), config, (), rollout, normalized(advantage), target)
        return total, parts

    (total, parts), gradient = jax.value_and_grad(ours, has_aux=True)(params)
    assert float(total) == pytest.approx(reference(params), rel=1e-5)
    assert 0 < float(parts["clip_fraction"]) < 1
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    for path in (("Dense_0", "kernel"), ("actor", "bias"), ("critic", "kernel")):
        index = (0,) * wide[path[0]][path[1]].ndim
        values = []
        for step in (1e-6, -1e-6):
            moved = jax.tree.map(np.copy, wide)
            moved[path[0]][path[1]][index] += step
            values.append(reference(moved))
        slope = (values[0] - values[1]) / 2e-6
        assert float(gradient[path[0]][path[1]][index]) == pytest.approx(slope, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"update_epochs": 2.5, "advantage": "puffer"},
        {"prioritize": "without_replacement", "advantage": "puffer", "update_epochs": 2},
        {"early_stop": True, "target_kl": 1e-4, "learning_rate": 0.03, "update_epochs": 2},
        {"policy": "mingru", "layers": 2},
    ],
    ids=str,
)
def test_microbatches_make_the_gradient_of_their_minibatch(changes: dict[str, Any]) -> None:
    env = make("cartpole")
    config = SMALL.replace(**{"learning_rate": 0.003} | changes)
    state = jax.jit(init)(env, jax.random.key(2), config)
    state, _ = jax.jit(update)(env, state, config)  # the first update only measures
    outcomes = [
        jax.jit(update)(env, state, config.replace(microbatch_size=steps)) for steps in (0, 64, 1)
    ]  # of 128: all, two parts, a row at a time
    for after, metrics in outcomes[1:]:
        chex.assert_trees_all_close(after.params, outcomes[0][0].params, rtol=1e-3, atol=1e-5)
        for name, value in metrics.items():
            np.testing.assert_allclose(value, outcomes[0][1][name], rtol=1e-3, atol=1e-5, err_msg=name)
    taken = [float(metrics["gradient_steps"]) for _, metrics in outcomes]
    assert taken[0] == taken[1] == taken[2] and (taken[0] < config.gradient_steps) == config.early_stop


def test_microbatches_divide_their_minibatch() -> None:
    def rows(devices: int, carry: Any = (), **changes: Any) -> int:
        config = PPOConfig(**{"num_envs": 96, "minibatch_size": 96 * 64} | changes)
        return ppo._microbatch_rows(config, carry, devices)

    assert rows(1, microbatch_size=64 * 40) == 32  # the greatest divisor of 96 that is not more than 40
    assert rows(1, microbatch_size=63) == 1 and rows(1, microbatch_size=10**6) == 96
    cores = available_cores()
    assert rows(cores) == 4 and rows(cores, hidden=64) == 8  # 32768 / hidden / horizon
    assert rows(cores, carry=jnp.zeros(3)) == 16  # four times as many for a policy with memory
    assert rows(cores - 1) == 96 or cores == 1


def test_explained_variance_is_of_the_returns_that_the_rollout_led_to() -> None:
    """Returns are computed step by step in float64, from the rollouts of `collect`."""
    env, config = make("cartpole"), SMALL.replace(gae_lambda=0.9)
    module, state = make_module(env, config), init(env, jax.random.key(0), config)
    step = jax.jit(lambda state: update(env, state, config, module))
    for _ in range(5):  # until values are not all equal
        state, _ = step(state)
    policy = state.policy(module)
    after, rollout, _ = jax.jit(lambda play: collect(env, policy, play, config))(state.play)
    value = np.float64(rollout.value)
    following = np.concatenate([value[1:], np.float64(policy(after.carry, after.obs, after.reset, None)[2])[None]])
    lam, returns = float(config.gae_lambda), np.zeros_like(value)
    later = following[-1]
    for t in reversed(range(config.horizon)):
        rest = np.where(np.asarray(rollout.ended[t]), 0, (1 - lam) * following[t] + lam * later)
        later = returns[t] = np.float64(rollout.reward[t]) + float(config.gamma) * rest
    expected = 1 - (returns - value).var() / returns.var()
    assert abs(expected) > 0.02
    np.testing.assert_allclose(step(state)[1]["explained_variance"], expected, rtol=1e-3)


def test_update_compiles_once() -> None:
    env = make("cartpole")
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(lambda e, s, c: update(e, s, c), n=1))
    state = init(env, jax.random.key(0), SMALL)
    for gravity in (9, 9.0, jnp.float32(9.5)):
        state, _ = step(env.replace(gravity=gravity), state, SMALL.replace(learning_rate=float(gravity) / 1000))
    assert int(state.updates) == 3


def test_train_compiles_once_however_parameters_are_given() -> None:
    before = ppo._train._cache_size()
    for max_steps in (4, 4.0, jnp.float32(4)):
        train(make("cartpole", max_steps=max_steps), jax.random.key(1), SMALL.replace(hidden=17))
    assert ppo._train._cache_size() == before + 1


def test_the_same_key_gives_the_same_bits() -> None:
    env = make("cartpole")
    one, two = (train(env, jax.random.key(5), SMALL) for _ in range(2))
    chex.assert_trees_all_equal(one.state.params, two.state.params)
    other = train(env, jax.random.key(6), SMALL)
    assert not np.array_equal(one.metrics["policy_loss"], other.metrics["policy_loss"])


def test_vmap_over_keys_trains_each_seed() -> None:
    env, keys = make("cartpole"), jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(train, in_axes=(None, 0, None))(env, keys, SMALL)
    for i in range(3):
        alone = train(env, keys[i], SMALL)
        np.testing.assert_allclose(together.metrics["score"][i], alone.metrics["score"], rtol=0.1)
        # the first rollout depends on no gradient yet
        np.testing.assert_array_equal(together.metrics["episodes"][i, 0], alone.metrics["episodes"][0])


def test_vmap_over_a_field_and_over_a_parameter() -> None:
    env, key = make("cartpole"), jax.random.key(0)
    configs = SMALL.replace(learning_rate=jnp.float32([0.0, 0.01]))
    axes = configs.axes("learning_rate")
    params = jax.vmap(train, in_axes=(None, None, axes))(env, key, configs).state.params
    start = init(env, key, SMALL).params
    chex.assert_trees_all_equal(jax.tree.map(lambda x: x[0], params), start)
    assert not np.array_equal(params["actor"]["kernel"][1], start["actor"]["kernel"])

    envs = env.replace(max_steps=jnp.int32([5, 11]))
    length = jax.vmap(train, in_axes=(env.axes("max_steps"), None, None))(envs, key, SMALL).metrics["episode_length"]
    assert float(jnp.nanmax(length[0])) <= 5 < float(jnp.nanmax(length[1])) <= 11


def test_a_config_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"minibatch_size is 100; it must be a multiple of horizon \(64\)"):
        PPOConfig(minibatch_size=100)
    with pytest.raises(ValueError, match="optimizer is 'sgd'; it must be one of muon, adam"):
        PPOConfig(optimizer="sgd")
    with pytest.raises(TypeError, match="no parameter 'learningrate'; did you mean 'learning_rate'"):
        PPOConfig().replace(learningrate=1)
    with pytest.raises(ValueError, match="gamma is 1.5; it must be from 0 to 1"):
        PPOConfig(gamma=1.5)


def test_multi_agent_worlds_train() -> None:
    env = make("snake", num_snakes=4, width=12, height=12, num_food=10, max_length=8, max_steps=40)
    config = PPOConfig(total_steps=4096, num_envs=8, horizon=16, minibatch_size=128, hidden=16)
    result = train(env, jax.random.key(0), config)
    assert result.metrics["score"].shape == (8,)
    assert result.state.play.obs.shape == (32, 121) and result.state.play.obs.dtype == jnp.int8
    assert np.isfinite(result.metrics["policy_loss"]).all()


def test_the_entropy_bonus_falls_to_its_share() -> None:
    env = make("cartpole")
    falling, half = (
        SMALL.replace(entropy_coefficient=0.4, min_entropy_share=0.2),
        SMALL.replace(entropy_coefficient=0.24),
    )
    state = init(env, jax.random.key(0), falling).replace(updates=jnp.int32(SMALL.num_updates // 2))
    after = [jax.jit(update)(env, state, config)[0].params for config in (falling, half, SMALL)]
    for a, b in zip(*map(jax.tree.leaves, after[:2]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert any(
        not np.allclose(a, c, atol=1e-5) for a, c in zip(*map(jax.tree.leaves, (after[0], after[2])), strict=True)
    )
