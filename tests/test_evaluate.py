"""Evaluations whose outcome can be worked out by hand, and the same on both backends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_envs import Corridor, Counters, tiny_config

import jaxpuffer
from jaxpuffer import evaluate as evaluate_function
from jaxpuffer.config import complete
from jaxpuffer.distributions import Categorical, Joint, Normal
from jaxpuffer.env import Outcome, PyTreeNode
from jaxpuffer.evaluate import _play, evaluation_key
from jaxpuffer.policy import Policy, make_module
from jaxpuffer.ppo import init
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete

KEY = jax.random.key(3)


def policy_of(env, **changes):
    config = complete(env, tiny_config(**changes))
    return Policy(init(env, KEY, config).params, make_module(env, config))


class Right:
    """Always goes right; counts in its carry the steps since the last reset flag."""

    def __init__(self, likes: float = 100.0):
        self.likes = likes

    def initialize_carry(self, rows):
        return jnp.zeros(rows, jnp.int32)

    def apply(self, params, carry, obs, reset, mask):
        carry = jnp.where(reset[0], 0, carry) + 1
        logits = jnp.broadcast_to(jnp.array([0.0, self.likes], jnp.float32), (*obs.shape[:2], 2))
        return carry, Categorical.masked(logits, mask), jnp.zeros(obs.shape[:2], jnp.float32)

    def init(self, key, *args):
        return {"params": {}}


def test_scores_worked_out_by_hand():
    evaluation = evaluate_function(Corridor(length=6), Policy({}, Right()), KEY, episodes=7)
    np.testing.assert_array_equal(evaluation.score, np.full(7, 5.0))
    np.testing.assert_array_equal(evaluation.episode_return, np.full(7, 1.0))
    np.testing.assert_array_equal(evaluation.episode_length, np.full(7, 5))
    assert evaluation.unfinished == 0
    summary = evaluation.summary()
    assert summary["score"] == {"mean": 5.0, "standard_error": 0.0, "count": 7}
    assert summary["unfinished"] == 0


def test_at_the_cap_a_running_episode_counts_with_its_score_so_far():
    evaluation = evaluate_function(Corridor(length=6), Policy({}, Right()), KEY, episodes=4, max_steps=3)
    np.testing.assert_array_equal(evaluation.score, np.full(4, 3.0))
    np.testing.assert_array_equal(evaluation.episode_length, np.full(4, 3))
    assert evaluation.unfinished == 4
    assert "4 unfinished" in str(evaluation)


def test_masked_actions_are_never_taken():
    # the policy prefers left, which is illegal at the wall: only the time limit ends these episodes
    evaluation = evaluate_function(Corridor(max_steps=20), Policy({}, Right(likes=-100.0)), KEY, episodes=4)
    assert (evaluation.score >= 0).all()
    np.testing.assert_array_equal(evaluation.episode_length, np.full(4, 20))


def test_the_most_likely_action_in_place_of_a_sampled_one():
    likely = Policy({}, Right(likes=0.5))
    evaluation = evaluate_function(Corridor(length=6), likely, KEY, episodes=16, deterministic=True)
    np.testing.assert_array_equal(evaluation.episode_length, np.full(16, 5))
    assert (evaluate_function(Corridor(length=6), likely, KEY, episodes=16).episode_length > 5).any()
    # it prefers left, which is illegal at the wall: from there to the next cell, and back
    left = Policy({}, Right(likes=-0.5))
    evaluation = evaluate_function(Corridor(max_steps=20), left, KEY, episodes=4, deterministic=True)
    np.testing.assert_array_equal(evaluation.episode_length, np.full(4, 20))
    np.testing.assert_array_equal(evaluation.score, np.zeros(4))
    pictures = jaxpuffer.animate(Corridor(max_steps=6), left, KEY, deterministic=True).frames
    np.testing.assert_array_equal(pictures[:, 0, :, 0].argmax(1), [0, 1, 0, 1, 0, 1, 0])


class Payout(Corridor):
    """Four steps; the reward of each is the sum of the action's entries."""

    def transition(self, s, action):
        s = s.replace(steps=s.steps + 1)
        return s, Outcome(jnp.float32(action).sum(), s.steps >= 4, jnp.bool_(False))

    def action_mask(self, s):
        return None


class Fixed(Right):
    """Always the same distribution for each row."""

    def __init__(self, *parts):
        self.parts = parts

    def apply(self, params, carry, obs, reset, mask):
        steps = obs.shape[:2]

        def for_rows(part):
            if isinstance(part, Normal):
                return part.replace(mean=jnp.broadcast_to(part.mean, (*steps, *part.mean.shape)))
            return Categorical(jnp.broadcast_to(part.logits, (*steps, *part.logits.shape)))

        parts = tuple(map(for_rows, self.parts))
        dtype = np.dtype(np.float32 if WHEEL in self.parts else np.int32)
        return carry, parts[0] if len(parts) == 1 else Joint(parts, dtype), jnp.zeros(steps, jnp.float32)


WHEEL = Normal(jnp.float32([3.0, -0.25]), jnp.zeros(2, jnp.float32))  # the first is out of bounds
DOOR = Categorical(jnp.float32([0.0, 0.1, 0.3]))


@pytest.mark.parametrize(
    ("space", "parts", "each_step"),
    [
        (Discrete(3), [DOOR], 2.0),
        (Box(-1.0, 1.0, (2,)), [WHEEL], 0.75),
        (MultiDiscrete((3, 3)), [DOOR, DOOR], 4.0),
        (Mixed((Discrete(3), Box(-1.0, 1.0, (2,)))), [DOOR, WHEEL], 2.75),
    ],
)
def test_modes_of_all_action_spaces_within_their_bounds(space, parts, each_step, monkeypatch):
    monkeypatch.setattr(Payout, "action_space", space)
    policy = Policy({}, Fixed(*parts))
    evaluation = evaluate_function(Payout(), policy, KEY, episodes=5, deterministic=True)
    np.testing.assert_array_equal(evaluation.episode_return, np.full(5, 4 * each_step, np.float32))
    sampled = evaluate_function(Payout(), policy, KEY, episodes=5)
    assert len(np.unique(sampled.episode_return)) > 1


class Odd(Categorical):
    """Its mode is not like its samples."""

    def mode(self):
        return jnp.float32(0)


class Sampled(PyTreeNode):
    """It has no mode."""

    logits: jax.Array

    def sample(self, streams):
        return Categorical(self.logits).sample(streams)

    def log_prob(self, action):
        return Categorical(self.logits).log_prob(action)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Sampled, r"deterministic is True, but Sampled, which the policy returns, has no mode\(\)"),
        (Odd, r"Odd.mode\(\) is float32\[\]; it must be like its samples, int32\[2\]"),
    ],
)
def test_a_distribution_without_a_mode_is_refused(kind, message):
    class Own(Right):
        def apply(self, params, carry, obs, reset, mask):
            carry, distribution, value = super().apply(params, carry, obs, reset, mask)
            return carry, kind(distribution.logits), value

    evaluate_function(Corridor(), Policy({}, Own()), KEY, episodes=2)
    with pytest.raises(TypeError, match=message):
        evaluate_function(Corridor(), Policy({}, Own()), KEY, episodes=2, deterministic=True)


def test_the_first_episode_of_every_agent():
    evaluation = evaluate_function(Counters(agents=3), Policy({}, Right()), KEY, episodes=4)
    np.testing.assert_array_equal(evaluation.score, [1, 2, 3, 1, 2, 3])
    np.testing.assert_array_equal(evaluation.episode_return, [1, 2, 3, 1, 2, 3])
    np.testing.assert_array_equal(evaluation.episode_length, [1, 2, 3, 1, 2, 3])


@pytest.mark.needs_c
def test_both_backends_play_the_same_episodes():
    jax_env = jaxpuffer.make("cartpole")
    policy = policy_of(jax_env)
    a, b = (
        evaluate_function(env, policy, KEY, episodes=16, max_steps=20)
        for env in (jax_env, jaxpuffer.make("cartpole", backend="c"))
    )
    assert 0 < a.unfinished < 16
    np.testing.assert_array_equal(a.episode_length, b.episode_length)
    np.testing.assert_allclose(a.score, b.score)


def test_traced_once_for_equal_shapes():
    env = jaxpuffer.make("cartpole")
    policy = policy_of(env, hidden=17)
    evaluate_function(env, policy, KEY, episodes=8, max_steps=10)
    before = _play._cache_size()
    evaluate_function(env.replace(gravity=5.0), policy, jax.random.key(1), episodes=8, max_steps=11)
    assert _play._cache_size() == before


def test_evaluation_keys_differ_from_what_training_draws():
    drawn = [tuple(jax.random.key_data(k).tolist()) for k in (KEY, *jax.random.split(KEY, 64))]
    drawn += [tuple(jax.random.key_data(evaluation_key(KEY, n)).tolist()) for n in range(64)]
    assert len(set(drawn)) == len(drawn)


def test_clear_errors():
    env = Corridor()
    policy = policy_of(env)
    with pytest.raises(ValueError, match="episodes is 0"):
        evaluate_function(env, policy, KEY, episodes=0)
    with pytest.raises(TypeError, match="observation_space"):
        evaluate_function(jaxpuffer.make("cartpole"), policy, KEY)
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), policy)
    with pytest.raises(TypeError, match="one of several runs"):
        evaluate_function(env, stacked, KEY)


@pytest.mark.parametrize("trained_on, plays", [pytest.param("jax", "c", marks=pytest.mark.full), ("c", "jax")])
def test_a_trained_policy_scores_the_same_on_the_other_backend(trained_on, plays):
    pytest.importorskip("envs_c._core")
    here, there = jaxpuffer.make("breakout", backend=trained_on), jaxpuffer.make("breakout", backend=plays)
    config = jaxpuffer.config.tuned_config(here).replace(total_steps=200_000, num_envs=64, horizon=64)
    policy = jaxpuffer.train(here, KEY, config).policy
    scores = [evaluate_function(env, policy, evaluation_key(KEY), episodes=32).score for env in (here, there)]
    np.testing.assert_array_equal(*scores)
    assert len(np.unique(scores[0])) > 3  # it plays, and not always the same episode
