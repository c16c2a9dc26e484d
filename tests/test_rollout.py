"""All that happens in many steps, in order."""

import jax
import numpy as np
import pytest
from test_evaluate import Right
from toy_envs import Corridor, Counters

from jaxpuffer import make, rollout
from jaxpuffer.host import HostEnv
from jaxpuffer.policy import Policy
from jaxpuffer.spaces import Box, Discrete

KEY = jax.random.key(5)
RIGHT = Policy({}, Right())


def test_a_walk_worked_out_by_hand() -> None:
    """Six cells: five steps to the right, of which the last ends the episode; then again from cell 0."""
    played = rollout(Corridor(length=6), RIGHT, KEY, steps=7, num_envs=2)
    for i in range(2):
        np.testing.assert_array_equal(played.state.cell[:, i], [0, 1, 2, 3, 4, 0, 1])
        np.testing.assert_array_equal(played.obs[:, i, 0] * 6, [0, 1, 2, 3, 4, 0, 1])
        np.testing.assert_array_equal(played.next_obs[:, i, 0] * 6, [1, 2, 3, 4, 5, 1, 2])
        np.testing.assert_array_equal(played.mask[:, i, 0], [False, True, True, True, True, False, True])
        np.testing.assert_array_equal(played.reward[:, i], [0, 0, 0, 0, 1, 0, 0])
        np.testing.assert_array_equal(played.ended[:, i], [0, 0, 0, 0, 1, 0, 0])
    assert played.action.all() and played.action.shape == (7, 2) and not played.truncated.any()


def test_random_play_is_legal_takes_every_action_and_follows_the_key() -> None:
    env = Corridor(length=6, max_steps=20)
    played = rollout(env, None, KEY, steps=200, num_envs=4)
    walls = np.asarray(played.state.cell) == 0
    assert (played.action[walls] == 1).all()
    share = np.asarray(played.action[~walls]).mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt((~walls).sum())
    assert not np.array_equal(played.action[:, 0], played.action[:, 1])
    assert played.truncated.any() and played.terminated.any()

    again, other = (rollout(env, None, key, steps=200, num_envs=4) for key in (KEY, jax.random.key(6)))
    np.testing.assert_array_equal(again.action, played.action)
    assert not np.array_equal(other.action, played.action)


def test_agents_have_an_axis_and_take_the_most_likely_action_if_asked() -> None:
    undecided = Policy({}, Right(likes=0.1))
    played = rollout(Counters(), undecided, KEY, steps=5, num_envs=2, deterministic=True)
    assert played.action.all()
    assert played.obs.shape == (5, 2, 3, 1) and played.action.shape == played.reward.shape == (5, 2, 3)
    assert played.state.age.shape == (5, 2, 3) and played.mask is None
    # agent i's episodes last i + 1 steps
    np.testing.assert_array_equal(played.terminated[:, 0, 1], [False, True, False, True, False])
    np.testing.assert_array_equal(played.next_obs[:, 0, 1, 0], [1, 2, 1, 2, 1])


@pytest.mark.needs_c
def test_both_backends_play_the_same() -> None:
    ours, theirs = (make("cartpole", backend=backend) for backend in ("jax", "c"))
    first, second = (rollout(env, None, KEY, steps=60, num_envs=2) for env in (ours, theirs))
    for name in ("obs", "action", "reward", "terminated", "truncated", "next_obs"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert first.ended.any()
    picture = ours.render(jax.tree.map(lambda x: x[7, 1], first.state))
    np.testing.assert_array_equal(theirs.render(second.state[7, 1]), picture)


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        rollout(Corridor(), None, KEY, steps=0)
    with pytest.raises(TypeError, match="num_envs is 2.5; it must be an int"):
        rollout(Corridor(), None, KEY, num_envs=2.5)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match="steps is 1000000000 and num_envs is 1000; all states are kept and need about"
    ):
        rollout(Corridor(), None, KEY, steps=10**9, num_envs=1000)
    with pytest.raises(TypeError, match="walk is stepped by Python; rollout plays environments in JAX or C"):
        rollout(HostEnv("walk", lambda num_envs: None, Box(0.0, 1.0, (2,)), Discrete(2)), None, KEY)
    with pytest.raises(TypeError, match="policy is a int"):
        rollout(Corridor(), 3, KEY)  # type: ignore[arg-type]
