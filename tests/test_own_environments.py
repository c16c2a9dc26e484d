"""A user's own environments: spaces, masks and ends that no shipped one has."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_envs import tiny_config

from jaxpuffer import PPOConfig, evaluate, fit, make, rng, train
from jaxpuffer.env import Env, Outcome, PyTreeNode, param, random_action
from jaxpuffer.networks import encode
from jaxpuffer.ppo import init, update
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete

KEY = jax.random.key(0)


class State(PyTreeNode):
    rng: jax.Array
    steps: jax.Array
    seen: jax.Array  # float32 (), the largest magnitude of an action's first entry


class Simple(Env[State]):
    """Ends after three steps; the reward is 0.5."""

    observation_space: ClassVar[Any] = Box(0.0, 1.0, (3,))
    action_space: ClassVar[Any] = Discrete(4)
    both = False

    def init(self, stream):
        return State(stream, jnp.int32(0), jnp.float32(0))

    def transition(self, s, action):
        first = jnp.abs(jnp.float32(action).reshape(-1)[0])
        s = s.replace(steps=s.steps + 1, seen=jnp.maximum(s.seen, first))
        return s, Outcome(jnp.float32(0.5), s.steps >= 3, (s.steps >= 3) & self.both)

    def observe(self, s):
        return jnp.float32(jnp.arange(3, dtype=jnp.int32) == s.steps)

    def score(self, s):
        return s.seen


def simple(**attributes: Any) -> Any:
    return type("Own", (Simple,), attributes)()


MASKS = {
    "too long": (Discrete(4), (5,), jnp.bool_, r"bool\[5\]; it must be bool\[4\]"),
    "one": (Discrete(4), (1,), jnp.bool_, r"bool\[1\]"),
    "too short": (Discrete(4), (3,), jnp.bool_, r"bool\[3\]"),
    "two axes": (Discrete(4), (2, 2), jnp.bool_, r"bool\[2, 2\]"),
    "floats": (Discrete(4), (4,), jnp.float32, r"float32\[4\]; it must be bool\[4\]"),
    "none": (Discrete(4), (), jnp.bool_, r"bool\[\]"),
    "the first part alone": (MultiDiscrete((3, 2)), (3,), jnp.bool_, r"it must be bool\[5\], .* 3 \+ 2"),
    "a row for each part": (MultiDiscrete((3, 3)), (2, 3), jnp.bool_, r"it must be bool\[6\]"),
    "mixed": (Mixed((Box(-1.0, 1.0, (2,)), Discrete(3))), (5,), jnp.bool_, r"it must be bool\[3\]"),
    "numbers": (Box(-1.0, 1.0, (1,)), (4,), jnp.bool_, "no choices to mask"),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_wrong_mask_is_refused(name: str) -> None:
    space, shape, dtype, message = MASKS[name]
    env = simple(action_space=space, action_mask=lambda self, s: jnp.ones(shape, dtype))
    with pytest.raises(TypeError, match=message):
        train(env, KEY, tiny_config())


@pytest.mark.parametrize("space", [MultiDiscrete((3, 2)), Mixed((Discrete(3), Box(5.0, 6.0, (1,)), Discrete(2)))])
def test_random_players_draw_what_a_mask_of_parts_allows(space: Any) -> None:
    mask = jnp.array([False, True, True, False, True])
    env = simple(action_space=space, action_mask=lambda self, s: mask)
    streams = rng.seed(KEY, (200,))
    state = env.init(streams[0])
    drawn = np.asarray(jax.vmap(lambda stream: random_action(env, state, stream))(streams))
    assert drawn.dtype == space.dtype
    assert set(drawn[:, 0]) == {1, 2} and set(drawn[:, -1]) == {1}


def test_choices_that_are_seen_are_one_hot() -> None:
    np.testing.assert_array_equal(encode(Discrete(3), jnp.int32([[2]])), [[[0, 0, 1]]])
    np.testing.assert_array_equal(encode(MultiDiscrete((2, 3)), jnp.int32([[[1, 0]]])), [[[0, 1, 1, 0, 0]]])
    mixed = Mixed((Discrete(2), Box(-9.0, 9.0, (2,)), MultiDiscrete((2,))))
    seen = encode(mixed, jnp.float32([[[1, 0.5, -7, 0]]]))
    np.testing.assert_array_equal(seen, [[[0, 1, 0.5, -7, 1, 0]]])
    np.testing.assert_array_equal(encode(Box(0, 1, (2,), bool), jnp.array([[[True, False]]])), [[[0, 1, 1, 0]]])


@pytest.mark.parametrize("space", [Discrete(5), Mixed((Discrete(5), Box(0.0, 1.0, (2,)))), MultiDiscrete((5, 2))])
def test_any_observation_space_trains(space: Any) -> None:
    def observe(self, s):
        if isinstance(space, Discrete):
            return s.steps
        return jnp.zeros(space.shape, space.dtype).at[0].set(s.steps.astype(space.dtype))

    env = simple(observation_space=space, observe=observe)
    policy = train(env, KEY, tiny_config(total_steps=256)).policy
    assert evaluate(env, policy, KEY, episodes=4).finished.all()


def test_an_image_is_not_a_wall_of_tiles() -> None:
    image = Box(0, 255, (84, 84, 3), np.uint8)
    env = simple(observation_space=image, observe=lambda self, s: jnp.full(image.shape, 7, jnp.uint8))
    with pytest.raises(TypeError, match=r"5,419,008 numbers .* encoder='image'"):
        train(env, KEY, tiny_config())
    params = jax.eval_shape(init, env, KEY, tiny_config(encoder="image")).params
    assert sum(x.size for x in jax.tree.leaves(params)) < 200_000


@pytest.mark.parametrize("space", [Box(0, 255, (12, 12, 3), np.uint8), Box(-1.0, 1.0, (40, 37, 1))])
def test_images_train(space: Box) -> None:
    env = simple(observation_space=space, observe=lambda self, s: jnp.full(space.shape, s.steps).astype(space.dtype))
    result = train(env, KEY, tiny_config(total_steps=256, encoder="image"))
    assert np.isfinite(result.metrics["policy_loss"]).all()


def test_grids_of_planes_train() -> None:
    space = Box(0, 3, (4, 5, 2), np.int8)
    env = simple(observation_space=space, observe=lambda self, s: jnp.full(space.shape, s.steps).astype(jnp.int8))
    assert np.isfinite(train(env, KEY, tiny_config(total_steps=256, encoder="grid")).metrics["policy_loss"]).all()


def test_terminated_wins_where_both_flags_are_set() -> None:
    results = [train(simple(both=both), KEY, tiny_config()) for both in (False, True)]
    for a, b in zip(*map(jax.tree.leaves, (results[0].state, results[1].state)), strict=True):
        np.testing.assert_array_equal(a, b)
    _, step = simple(both=True).step(State(rng.seed(KEY), jnp.int32(2), jnp.float32(0)), jnp.int32(0))
    assert (bool(step.terminated), bool(step.truncated)) == (True, False)


@pytest.mark.parametrize("space", [Box(-0.25, 0.25, (1,)), Mixed((Box((-0.25,), (0.25,)), Discrete(2)))])
def test_an_environment_sees_no_action_beyond_its_bounds(space: Any) -> None:
    env = simple(action_space=space)
    result = train(env, KEY, tiny_config(total_steps=512))
    assert np.nanmax(result.metrics["score"]) <= 0.25
    assert evaluate(env, result.policy, KEY, episodes=16).score.max() == 0.25
    state, _ = env.step(env.init(rng.seed(KEY)), jnp.array([9.0, 1.0])[: space.shape[0]])
    assert state.seen == 0.25


# ------------------------------------------------------------------------------------------
# observations that a critic cannot know
# ------------------------------------------------------------------------------------------


class Clock(Simple):
    """Five steps, then truncated; observations contain the time, and its last value is only in final observations."""

    observation_space: ClassVar[Any] = Box(-np.inf, np.inf, (1,))
    action_space: ClassVar[Any] = Discrete(2)

    def transition(self, s, action):
        s = s.replace(steps=s.steps + 1, seen=s.seen + jnp.float32(action))
        return s, Outcome(jnp.float32(action) - 1.0, jnp.bool_(False), s.steps >= 5)

    def observe(self, s):
        return jnp.float32(s.steps)[None]


def test_values_stay_possible_where_final_observations_are_like_no_other() -> None:
    env, config = Clock(), PPOConfig(total_steps=400_000, num_envs=64, horizon=32, hidden=32)
    result = train(env, KEY, config)
    obs = jnp.float32([[0], [4], [5]])
    value = result.policy(result.policy.module.initialize_carry(3), obs, jnp.zeros(3, bool), None)[2]
    assert np.asarray(result.metrics["score"])[-20:].min() > 4.5  # of 5
    assert np.abs(value).max() < 250  # rewards from -1 to 0 and gamma 0.995: from -200 to 0, and some error


class Shifted(Clock):
    offset: float = param(default=0.0)

    def observe(self, s):
        return jnp.zeros(1)

    def transition(self, s, action):
        s, outcome = super().transition(s, action)
        return s, outcome.replace(reward=outcome.reward + self.offset)


def test_a_constant_in_the_rewards_changes_nothing() -> None:
    config = PPOConfig(total_steps=60_000, num_envs=64, horizon=32, hidden=32)
    plain, *shifted = (
        np.asarray(train(Shifted(offset=offset), KEY, config).metrics["score"]) for offset in (0.0, 1e4, -1e4)
    )
    assert plain[-1] > plain[0] + 1.0
    for score in shifted:
        np.testing.assert_allclose(score, plain, atol=0.15)


def test_the_first_update_says_that_nothing_moved() -> None:
    env = Clock()
    state, metrics = jax.jit(update)(env, init(env, KEY, tiny_config()), tiny_config())
    assert [float(metrics[name]) for name in ("approx_kl", "clip_fraction", "gradient_steps")] == [0, 0, 0]
    _, metrics = jax.jit(update)(env, state, tiny_config())
    assert metrics["gradient_steps"] > 0


@pytest.mark.parametrize(
    ("space", "mask"),
    [(Discrete(3), [False, False, False]), (MultiDiscrete((3, 2)), [True, True, True, False, False])],
)
def test_a_mask_that_allows_nothing_ends_the_run(space: Any, mask: list[bool]) -> None:
    env = simple(action_space=space, action_mask=lambda self, s: jnp.array(mask) | (s.steps != 1))
    with pytest.raises(FloatingPointError, match="of the action masks allow no action in update 1"):
        fit(env, KEY, tiny_config(), progress=False)
    fine = simple(action_space=space, action_mask=lambda self, s: jnp.array([True] * len(mask)))
    assert not np.any(train(fine, KEY, tiny_config()).metrics["no_legal_action"])


def test_tiles_beyond_their_space_are_told() -> None:
    class Tiles(Simple):
        observation_space: ClassVar[Any] = Box(0, 1, (2,), np.int8)

        def observe(self, s):
            return jnp.full(2, s.steps, jnp.int8)

    with pytest.warns(RuntimeWarning, match="lost to the network: tiles outside the observation space"):
        fit(Tiles(), KEY, tiny_config(horizon=8), progress=False)


def test_an_infinite_final_observation_is_named() -> None:
    class Late(Clock):
        def observe(self, s):
            return jnp.where(s.steps == 5, jnp.inf, super().observe(s))

    with pytest.raises(
        FloatingPointError, match="of the values are NaN or infinite, for example after such an observation"
    ):
        fit(Late(), KEY, tiny_config(), progress=False)


class NoOutcome(Simple):
    def transition(self, s, action):
        return s, 1.0


class ListSeen(Simple):
    def observe(self, s):
        return [0.0, 0.0, 0.0]


class IntFlag(Simple):
    def transition(self, s, action):
        s, outcome = super().transition(s, action)
        return s, outcome.replace(terminated=jnp.int32(0))


class TwoWithoutSaying(Simple):
    num_agents = 2


class NotADict(Simple):
    def figures(self, s):
        return jnp.float32(0)


class ResetsAlone(Simple):
    def transition(self, s, action):
        s, outcome = super().transition(s, action)
        return s, outcome.replace(reset=outcome.truncated)


class Half(Simple):
    multi_agent = True
    num_agents = 1.5


class Two(Simple):
    multi_agent = True
    num_agents = 2
    observation_space = Box(0.0, 1.0, (1,))

    def transition(self, s, action):
        never = jnp.zeros(2, bool)
        return s, Outcome(jnp.zeros(2), never, never, reset=never)

    def respawn(self, s, ended):
        return s

    def observe(self, s):
        return jnp.zeros((2, 1))

    def score(self, s):
        return jnp.zeros(2)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (NotADict, r"NotADict.figures\(state\) is a ShapeDtypeStruct; it must be a dict of arrays by name"),
        (ResetsAlone, "ResetsAlone has one agent, .* Outcome.reset must be None"),
        (Half, "num_agents is 1.5; it must be int"),
        (Two, r"Outcome.reset is bool\[2\]; it must be bool\[\]"),
        (NoOutcome, "NoOutcome.transition returns a float beside the state, not an Outcome"),
        (ListSeen, r"ListSeen.observe\(state\) is a list; it must be an array"),
        (IntFlag, r"Outcome.terminated is int32\[\]; it must be bool\[\]"),
        (TwoWithoutSaying, "num_agents is 2; a world of several agents sets multi_agent = True"),
    ],
)
def test_mistakes_of_authors_are_named(cls: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        train(cls(), KEY, tiny_config())


def test_the_number_of_agents_is_a_whole_number() -> None:
    with pytest.raises(TypeError, match=r"Half.num_agents is 1.5; it must be a whole number of at least 1"):
        Half().batch(2)
    with pytest.raises(TypeError, match=r"Own.num_agents is a function; put @property above it"):
        simple(multi_agent=True, num_agents=lambda self: 2)


def test_a_function_that_is_nearly_one_of_env_is_told() -> None:
    class Figure(Simple):
        def figure(self, s):
            return {"a": jnp.float32(0)}

        def observed(self, s):  # used below: a helper
            return super().observe(s)

        def observe(self, s):
            return self.observed(s)

    with pytest.warns(UserWarning, match=r"Figure.figure is never called; did you mean figures\?") as found:
        Figure().batch(2)
    assert len(found) == 1
    with pytest.raises(TypeError, match=r"it must be a registered name, .* or an environment, such as Simple\(\)"):
        make(Simple)  # type: ignore[arg-type]


def test_train_tells_that_nothing_was_learned() -> None:
    class Infinite(Simple):
        def transition(self, s, action):
            s, outcome = super().transition(s, action)
            return s, outcome.replace(reward=jnp.where(s.steps == 3, jnp.inf, outcome.reward))

    with pytest.warns(RuntimeWarning, match=r"% of the rewards are NaN or infinite in update 1 of \d+; .*"):
        train(Infinite(), KEY, tiny_config())
    masked = simple(action_mask=lambda self, s: jnp.zeros(4, bool))
    with pytest.warns(RuntimeWarning, match=r"100.00% of the action masks allow no action in update 1 of \d+; .*"):
        train(masked, KEY, tiny_config())
