"""Spaces contain what they draw, and nothing else."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from toy_envs import Corridor

from jaxpuffer import rng
from jaxpuffer.env import random_action
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete, Space, check_action, legal

MIXED = Mixed((Discrete(3), MultiDiscrete((2, 5)), Box(-2.0, 1.0, (2,))))
SPACES: list[Space] = [
    Discrete(4),
    MultiDiscrete((3, 7)),
    Box(-1.0, 0.5, (2, 3)),
    Box(0, 5, (4,), np.int8),
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
    """The corridor with another action space, used only for drawing."""

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


def test_bounds_of_each_entry() -> None:
    for low, high in (([-1.0, -8.0], [1.0, 8.0]), (np.array([-1.0, -8.0]), np.array([1.0, 8.0]))):
        box = Box(low, high, (2,))
        assert box == Box((-1.0, -8.0), (1.0, 8.0)) and hash(box) == hash(Box(low, high))
        drawn = np.asarray(box.sample(jax.random.key(0), (500,)))
        assert (np.abs(drawn) <= [1, 8]).all() and (np.abs(drawn).max(0) > [0.9, 7]).all()
        assert box.contains(np.float32([0.5, -7.5])) and not box.contains(np.float32([-7.5, 0.5]))
    assert Box([-1.0, -1.0], 1.0) == Box(-1.0, 1.0, (2,))
    for wrong in (([-1.0, 8.0], [1.0, -8.0], (2,)), ([0.0, 0.0], 1.0, (3,)), (np.nan, 1.0, (1,)), ([0.0, np.nan], 1.0)):
        with pytest.raises(ValueError, match="low is"):
            Box(*wrong)


def test_shapes_and_numbers_of_choices_in_any_form() -> None:
    assert Box(-1, 1, 3).shape == Box(-1, 1, [3]).shape == Box(-1, 1, np.array([3])).shape == (3,)
    assert MultiDiscrete([3, 2]) == MultiDiscrete(np.array([3, 2])) == MultiDiscrete((3, 2))
    assert Discrete(np.int64(4)) == Discrete(4)
    hash((MultiDiscrete([3, 2]), Box(-1, 1, [3]), Mixed([Discrete(2), Box(-1, 1, 1)])))
    for wrong in (
        lambda: Discrete(2.5),
        lambda: MultiDiscrete(3),
        lambda: MultiDiscrete([2.5]),
        lambda: Box(0, 1, 2.5),
    ):
        with pytest.raises(ValueError, match="whole number"):
            wrong()


def test_bools_and_unbounded_sides() -> None:
    drawn = Box(0, 1, (4,), bool).sample(jax.random.key(0), (50,))
    assert drawn.dtype == jnp.bool_ and 0.3 < drawn.mean() < 0.7
    box = Box((-np.inf, 5.0, -np.inf), (np.inf, np.inf, -3.0))
    drawn = np.asarray(box.sample(jax.random.key(0), (200,)))
    assert np.isfinite(drawn).all() and all(box.contains(x) for x in drawn)


NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("space", "actions", "expected", "wrong"),
    [
        (Box((-1.0, 0.0), (1.0, 100.0)), [[-3, -3], [INF, 300]], [[-1, 0], [1, 100]], [False, False]),
        (Box((-1.0, 5.0), (1.0, 100.0)), [[NAN, 7], [0, NAN]], [[0, 7], [0, 5]], [True, True]),
        (Box(-np.inf, np.inf, (1,)), [[INF], [2e6]], [[0], [2e6]], [True, False]),
        (Mixed((Discrete(3), Box(-0.5, 0.5, (1,)))), [[2, 9], [3, 0], [NAN, 0]], [[2, 0.5], [2, 0], [0, 0]], [0, 1, 1]),
        (Discrete(2), [7, -7, 1], [1, 0, 1], [True, True, False]),
        (MultiDiscrete((2, 3)), [[1, 2], [2, 2], [1, -1]], [[1, 2], [1, 2], [1, 0]], [False, True, True]),
    ],
)
def test_what_the_rules_get_of_an_action(space: Space, actions: Any, expected: Any, wrong: Any) -> None:
    found, is_wrong = jax.jit(lambda x: legal(space, x))(jnp.asarray(actions, space.dtype))
    assert found.dtype == space.dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(is_wrong, np.array(wrong, bool))


@pytest.mark.parametrize(
    ("space", "action", "error", "message"),
    [
        (Discrete(2), 2, ValueError, "action is 2; it must be from 0 to 1"),
        (Discrete(2), np.float32(1), TypeError, r"action is float32\[\]; it must be int32\[\]"),
        (Discrete(2), np.array([1], np.int32), TypeError, r"action is int32\[1\]; it must be int32\[\]"),
        (MultiDiscrete((2, 3)), np.array([1, 3]), ValueError, r"action is 3 at entry \[1\]; it must be from 0 to 2"),
        (Box(-1.0, 1.0, (1,)), np.array([NAN]), ValueError, r"action is nan at entry \[0\]; it must be finite"),
        (Box(0.0, np.inf, (1,)), np.array([INF]), ValueError, "action is inf"),
        (Mixed((Discrete(3), Box(-0.5, 0.5, (1,)))), np.array([3.0, 0.0]), ValueError, "3.0 at entry .* from 0 to 2"),
    ],
)
def test_an_action_that_is_none_is_refused(space: Space, action: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        check_action(space, action)


def test_actions_that_are_taken() -> None:
    assert check_action(Discrete(2), 1).dtype == jnp.int32
    assert check_action(Box(-1.0, 1.0, (2,)), np.array([5, -INF])).tolist() == [5, -INF]  # clipped later
    assert check_action(MultiDiscrete((2, 2)), np.array([[0, 1], [1, 1]]), (2,)).shape == (2, 2)
    assert jax.jit(lambda x: check_action(Discrete(2), x))(jnp.int32(9)) == 9


@pytest.mark.parametrize(
    ("make_space", "error", "message"),
    [
        (lambda: Box(-1, 300, (2,), np.uint8), ValueError, "uint8 holds numbers from 0 to 255"),
        (lambda: Box(-1e39, 1e39, (1,)), ValueError, "float32 holds numbers from"),
        (lambda: Box(-np.inf, np.inf, (1,), np.int8), ValueError, "int8 holds"),
        (lambda: Box(0.0, 1.0, (0,)), ValueError, r"shape is \(0,\); every length must be at least 1"),
        (lambda: Box([0, 0], [1, 1, 1]), ValueError, "they must have one shape"),
        (lambda: Mixed(Discrete(2)), TypeError, "must be a tuple of Discrete, MultiDiscrete and Box"),
        (lambda: Mixed((Discrete(2), 3)), TypeError, "must be a tuple of Discrete, MultiDiscrete and Box"),
    ],
)
def test_impossible_spaces_are_refused(make_space: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make_space()
