"""What spaces draw, they contain, and nothing else."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from toy_envs import Corridor

from jaxpuffer import rng
from jaxpuffer.batch import random_action
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete, Space

MIXED = Mixed((Discrete(3), MultiDiscrete((2, 5)), Box(-2.0, 1.0, (2,))))
SPACES: list[Space] = [
    Discrete(4),
    MultiDiscrete((3, 7)),
    Box(-1.0, 0.5, (2, 3)),
    Box(0, 5, (4,), np.dtype(np.int8)),
    MIXED,
]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: type(space).__name__)
def test_samples_are_contained(space: Space) -> None:
    drawn = space.sample(jax.random.key(0), (200,))
    assert drawn.shape == (200, *space.shape) and drawn.dtype == space.dtype
    assert space.contains(drawn)
    assert not space.contains(np.asarray(drawn, np.float64))
    assert not space.contains(drawn + jnp.asarray(100, drawn.dtype))


def test_mixed_refuses_a_choice_that_is_no_whole_number() -> None:
    action = np.float32([2, 1, 4, -2.0, 1.0])
    assert MIXED.contains(action)
    for entry, value in ((0, 1.5), (0, 3), (2, 5), (1, -1), (3, -2.5), (4, 1.25)):
        wrong = action.copy()
        wrong[entry] = value
        assert not MIXED.contains(wrong), (entry, value)


class Wired(Corridor):
    """The corridor with another space of actions, for drawing alone."""

    action_space: ClassVar[Space] = MIXED

    def action_mask(self, s: object) -> Array | None:  # type: ignore[override]
        return None


def test_random_actions_of_a_mixed_space_reach_every_choice() -> None:
    env = Wired()
    state, _ = env.reset(jax.random.key(0))
    streams = rng.seed(jax.random.key(1), (2000,))
    actions = np.asarray(jax.vmap(lambda stream: random_action(env, state, stream))(streams))
    assert MIXED.contains(actions)
    for entry, n in enumerate((3, 2, 5)):
        counts = np.bincount(actions[:, entry].astype(int), minlength=n)
        np.testing.assert_allclose(counts / 2000, 1 / n, atol=0.05)
    np.testing.assert_allclose(actions[:, 3:].mean(0), -0.5, atol=0.1)
