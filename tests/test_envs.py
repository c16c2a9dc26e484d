"""What must hold for every registered environment."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs_c
from jaxpuffer import Env, list_envs, make, rng
from jaxpuffer.config import tuned_config
from jaxpuffer.env import has_action_mask, random_action
from jaxpuffer.registry import env_class, name_of

STEPS, NUM_ENVS = 200, 8


@pytest.fixture(params=list_envs())
def env(request: pytest.FixtureRequest) -> Env:
    return make(request.param)


@pytest.mark.of_rules
def test_play(env: Env) -> None:
    """Random play: traced once, in the spaces, flags exclusive, perf within 0..1, nothing weakly typed or NaN."""
    batch = env.batch(NUM_ENVS)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(lambda env, *args: env.batch(NUM_ENVS).step(*args), n=1))
    state, _obs = jax.jit(batch.reset)(jax.random.key(0))
    streams = rng.seed(jax.random.key(1), (NUM_ENVS,))
    act = jax.jit(lambda s, x: jax.vmap(random_action, in_axes=(None, 0, 0))(env, s.env, x))
    for _ in range(STEPS):
        actions = act(state, streams)
        assert env.action_space.contains(actions)
        if has_action_mask(env):
            legal = np.take_along_axis(np.asarray(batch.action_mask(state)), np.asarray(actions)[..., None], -1)
            assert legal.all()
        streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)
        state, ts = step(env, state, actions)
        assert env.observation_space.contains(ts.obs)
        assert not (ts.terminated & ts.truncated).any()
        assert ((ts.log.perf >= 0) & (ts.log.perf <= 1)).all()
    chex.assert_tree_all_finite(state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))


@pytest.mark.of_rules
def test_single(env: Env) -> None:
    """`reset` and `step` of one environment, as typed in a notebook, and its picture."""
    state, obs = env.reset(jax.random.key(3))
    assert env.observation_space.contains(obs)
    action = random_action(env, state, rng.seed(jax.random.key(4)))
    after, ts = env.step(state, action)
    assert ts.reward.dtype == jnp.float32 and ts.reward.shape == env.agent_shape
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
    picture = env.render(after)
    assert picture.dtype == jnp.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) >= 3


@pytest.mark.of_rules
def test_a_step_is_a_function_of_state_and_action(env: Env) -> None:
    state, _ = env.reset(jax.random.key(3))
    action = random_action(env, state, rng.seed(jax.random.key(4)))
    chex.assert_trees_all_equal(env.step(state, action), env.step(state, action))
    other, _ = env.reset(jax.random.key(5))
    assert not np.array_equal(state.rng, other.rng)


@pytest.mark.of_rules
def test_the_clock_truncates(env: Env) -> None:
    """With a time limit of three steps nothing runs longer, and agents that were not terminated are truncated."""
    batch = env.replace(max_steps=3).batch(64)
    state, _ = jax.jit(batch.reset)(jax.random.key(0))
    step = jax.jit(batch.step)
    streams = rng.seed(jax.random.key(1), (64,))
    for _ in range(3):
        actions = jax.vmap(random_action, in_axes=(None, 0, 0))(env, state.env, streams)
        state, ts = step(state, actions)
        assert (ts.log.episode_length <= 3).all()
    assert ts.truncated.any()
    if env.multi_agent:
        assert ts.ended.all()


def test_names_and_configuration(env: Env) -> None:
    name = name_of(env)
    assert name is not None and env_class(name) is type(env)
    config = tuned_config(env)
    assert config.num_agents == env.num_agents
    if envs_c.is_built():
        assert name_of(make(name, backend="c")) == name


def test_make_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="no environment 'breakot'; did you mean 'breakout'"):
        make("breakot")
    with pytest.raises(TypeError, match="breakout has no parameter 'ball_sped'; did you mean 'ball_speed'"):
        make("breakout", ball_sped=1)
    with pytest.raises(ValueError, match=r"Breakout.ball_speed is -3; it must be from 1 to 700"):
        make("breakout", ball_speed=-3)
    with pytest.raises(ValueError, match="backend is 'cuda'; it must be 'jax' or 'c'"):
        make("breakout", backend="cuda")
