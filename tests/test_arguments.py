"""What the functions of the package accept, what they refuse, and with which message."""

import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_envs import tiny_config

import jaxpuffer
from envs_jax.cartpole import CartPole
from jaxpuffer import PPOConfig, animate, evaluate, fit, make, save, train
from jaxpuffer.config import complete, tuned_config
from jaxpuffer.memory import check_memory
from jaxpuffer.networks import check_encoder
from jaxpuffer.ppo import init, update
from jaxpuffer.registry import name_of
from jaxpuffer.spaces import Box

KEY = jax.random.key(0)
LARGE = 10**12


class Bad(CartPole):
    """A class derived from a shipped environment's."""


def test_names_results_and_old_keys_are_taken() -> None:
    config = tiny_config()
    result = train("cartpole", KEY, config)
    old = train(make("cartpole"), jax.random.PRNGKey(0), config)
    for a, b in zip(jax.tree.leaves(result.policy), jax.tree.leaves(old.policy), strict=True):
        np.testing.assert_array_equal(a, b)
    played = evaluate("cartpole", result, KEY, episodes=4, max_steps=20)
    np.testing.assert_array_equal(
        played.score, evaluate(make("cartpole"), result.policy, KEY, episodes=4, max_steps=20).score
    )
    assert len(animate("cartpole", result, KEY, steps=2).frames) == 3
    for function in (evaluate, animate):
        with pytest.raises(TypeError, match="policy is a dict; it must be a Policy, or the result"):
            function("cartpole", result.policy.params, KEY)
        with pytest.raises(TypeError, match="key is 0"):
            function("cartpole", result, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("function", [train, fit])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cartpole", 0), r"key is 0; it must be a JAX key, such as jax.random.key\(0\)"),
        (("cartpole", None), "key is None"),
        (("cartpole", jax.random.split(KEY, 3)), r"key has the shape \(3,\)"),
        (("cartpole", KEY, {"num_envs": 4}), r"config is .*: PPOConfig\(\*\*config\)"),
        ((None, KEY), "env is a NoneType; it must be an environment"),
        ((CartPole, KEY), "env is the class CartPole; it must"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(function, arguments, message) -> None:
    with pytest.raises(TypeError, match=message):
        function(*arguments)


def test_an_unknown_field_gets_the_nearest_name() -> None:
    with pytest.raises(TypeError, match="'lerning_rate'; did you mean 'learning_rate'"):
        PPOConfig(lerning_rate=0.1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="must fit in 64 bits"):
        PPOConfig(hidden=1e30)  # type: ignore[arg-type]


def test_the_minibatch_follows_unless_given() -> None:
    config = PPOConfig(num_envs=64)
    assert (PPOConfig().minibatch_size, config.minibatch_size) == (8192, 4096)
    again = jax.tree.map(lambda x: x, config)
    assert (again.replace(num_envs=32).minibatch_size, again.replace(num_agents=4).minibatch_size) == (2048, 8192)
    assert PPOConfig(num_envs=96, horizon=64).minibatch_size == 96 * 64
    assert PPOConfig(num_envs=3, horizon=10_000).minibatch_size == 10_000
    assert PPOConfig(minibatch_size=4096).replace(num_envs=2048).minibatch_size == 4096


def test_the_number_of_agents_may_come_later() -> None:
    config = PPOConfig(num_envs=64, horizon=64, minibatch_size=8192)
    assert complete(make("snake"), config).num_minibatches == 8
    for use in (lambda: complete(make("cartpole"), config), lambda: config.num_minibatches):
        with pytest.raises(ValueError, match=r"minibatch_size is 8192; .* divides num_envs \* num_agents"):
            use()


def test_a_run_without_end_can_be_traced() -> None:
    env, config = make("cartpole"), tiny_config().replace(total_steps=1e15)
    state = jax.eval_shape(init, env, KEY, config)
    assert jax.eval_shape(update, env, state, config)[1]["score"].shape == ()
    with pytest.raises(ValueError, match="total_steps is .* fit"):
        train(env, KEY, config)


@pytest.mark.parametrize("changes", [{"hidden": LARGE}, {"num_envs": LARGE}, {"horizon": LARGE}, {"layers": LARGE}])
@pytest.mark.parametrize("function", [train, fit])
def test_what_cannot_fit_is_refused_before_compiling(function, changes) -> None:
    with pytest.raises(ValueError, match=r"needs about [0-9,.]+ GiB of memory, of [0-9,.]+ GiB here; lower .*num_envs"):
        function("cartpole", KEY, PPOConfig(**changes))


def test_what_ships_fits() -> None:
    for name in jaxpuffer.list_envs():
        check_memory(make(name), tuned_config(make(name)))


def test_configs_compare_by_value_and_are_json() -> None:
    config = PPOConfig(num_envs=64, learning_rate=0.1)
    again = PPOConfig(**json.loads(json.dumps(config.to_dict())))
    assert config == again and hash(config) == hash(again) and config != config.replace(gamma=0.5)
    rates = config.replace(learning_rate=jnp.array([0.1, 0.2]))
    assert rates == rates.replace() and rates != config and make("cartpole") == make("cartpole")
    assert make("cartpole") != make("pong")

    @jax.jit
    def compare(config: PPOConfig) -> tuple[bool, bool]:
        assert config == config and config != config.replace() and isinstance(hash(config), int)
        return True, False

    compare(config)


def test_what_init_returns_can_be_donated() -> None:
    config = tiny_config().replace(policy="lstm")
    env = make("cartpole")
    jax.block_until_ready(jax.jit(update, donate_argnums=1)(env, init(env, KEY, config), config))


def test_an_heir_takes_its_parents_configuration_and_says_so() -> None:
    with pytest.warns(UserWarning, match="Bad has no configuration of its own; it uses cartpole's"):
        assert tuned_config(Bad()) == tuned_config(CartPole())
    assert name_of(Bad()) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned_config(CartPole())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r, p: fit("cartpole", KEY, stop_at_score="5"), ValueError, "stop_at_score is '5'"),
        (lambda r, p: fit("cartpole", KEY, stop_at_score=float("nan")), ValueError, "stop_at_score is nan"),
        (lambda r, p: fit("cartpole", KEY, save_every_seconds=float("nan")), ValueError, "save_every_seconds is nan"),
        (lambda r, p: fit("cartpole", KEY, save_every_seconds=-1), ValueError, "save_every_seconds is -1"),
        (lambda r, p: fit("cartpole", KEY, evaluate_every=0), ValueError, "evaluate_every is 0; it must be at least 1"),
        (lambda r, p: fit("cartpole", KEY, evaluate_every=1.5), TypeError, "evaluate_every is 1.5; it must be"),
        (
            lambda r, p: fit("cartpole", KEY, evaluate_every=1e6, evaluate_episodes=1),
            ValueError,
            "evaluate_episodes is 1; it must be at l",
        ),
        (
            lambda r, p: fit("cartpole", KEY, evaluate_episodes=3),
            ValueError,
            "nothing is evaluated; set evaluate_every",
        ),
        (lambda r, p: fit("cartpole", KEY, keep=3), ValueError, "keep is 3, and there is no directory"),
        (lambda r, p: fit("cartpole", KEY, progress="bar"), ValueError, "progress is 'bar'; it must be one of True, F"),
        (lambda r, p: fit("cartpole", KEY, progress=None), ValueError, "progress is None; it must be one of True"),
        (lambda r, p: evaluate("cartpole", r, KEY, deterministic=1), TypeError, "deterministic is 1; it must be True"),
        (lambda r, p: animate("cartpole", r, KEY, deterministic=None), TypeError, "deterministic is None; it must be"),
        (lambda r, p: fit("cartpole", KEY, log=3), TypeError, "log is 3; it must be a function"),
        (lambda r, p: fit("cartpole", KEY, mesh=2), TypeError, "mesh is 2; it must be a Mesh"),
        (lambda r, p: fit("cartpole", KEY, directory=5), TypeError, "directory is 5; it must be a path"),
        (lambda r, p: fit("cartpole", KEY, directory=""), ValueError, "directory is empty"),
        (
            lambda r, p: train("cartpole", KEY, r.config.replace(learning_rate=jnp.float32([0.1, 0.2]))),
            ValueError,
            r"learning_rate has the shape \(2,\); it must be one number",
        ),
        (lambda r, p: save(r.policy, p), TypeError, "result is a Policy; it must be what train, fit or load returned"),
        (lambda r, p: save(r, None), TypeError, "directory is None"),
        (lambda r, p: evaluate("cartpole", r, KEY, episodes=2.5), TypeError, "episodes is 2.5; it must be an int"),
        (lambda r, p: evaluate("cartpole", r, KEY, episodes=2**31 - 1), ValueError, "episodes is .* GiB of memory"),
        (lambda r, p: evaluate(r, make("cartpole"), KEY), TypeError, "env is a Result; it must be an environment"),
        (lambda r, p: make("cartpole").reset(0), TypeError, "key is 0"),
        (lambda r, p: animate("cartpole", r, KEY, path=p / "x.avi"), ValueError, "it must end in .gif"),
        (
            lambda r, p: evaluate(
                "cartpole", r.policy.replace(params=jax.tree.map(lambda x: x * jnp.nan, r.policy.params)), KEY
            ),
            ValueError,
            "the policy has parameters that are NaN or infinite",
        ),
    ],
)
def test_wrong_arguments_are_named_at_once(call: Any, error: Any, message: str, tmp_path: Path) -> None:
    result = train("cartpole", KEY, tiny_config(total_steps=128))
    with pytest.raises(error, match=message):
        call(result, tmp_path)


@pytest.mark.parametrize("name", ["update_epochs", "reward_scale", "clip", "max_grad_norm"])
def test_zero_is_refused_where_nothing_would_be_learned(name: str) -> None:
    with pytest.raises(ValueError, match=rf"PPOConfig\.{name} is 0\.0; it must not be 0"):
        PPOConfig(**{name: 0})
    with pytest.raises(ValueError, match="must not be 0"):
        PPOConfig().replace(**{name: [1.0, 0.0] if name != "update_epochs" else 0})


def test_amounts_in_whole_numbers_are_warned_of() -> None:
    amounts, tiles = Box(0, 1000, (2,), np.int32), Box(0, 11, (9, 9), np.uint8)
    with pytest.warns(UserWarning, match=r"tiles of 1,001 kinds.*Box of float32"):
        check_encoder("flat", amounts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_encoder("flat", tiles)
        check_encoder("embedding", amounts)
