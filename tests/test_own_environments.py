"""A user's own environments: spaces, masks and ends that no shipped one has."""

import warnings
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coins import Coins
from toy_envs import tiny_config

from envs_c import VecEnv
from jaxpuffer import PPOConfig, evaluate, fit, list_envs, make, rng, train
from jaxpuffer.env import Env, Outcome, PyTreeNode, misspelt, param, random_action, static
from jaxpuffer.networks import encode
from jaxpuffer.ppo import init, update
from jaxpuffer.registry import env_class
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


class Figures(Simple):
    def figures(self, s):
        return {"a": jnp.float32(0)}


class NoOutcome(Simple):
    def transition(self, s, action):
        return s, 1.0


class NoPair(Simple):
    def transition(self, s, action):
        return s


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


class Three(Env[State]):
    """Its arrays are of three agents, whatever `num_agents` says."""

    multi_agent = True
    agents: int = static(default=3)
    observation_space: ClassVar[Any] = Box(0.0, 1.0, (1,))
    action_space: ClassVar[Any] = Discrete(2)

    @property
    def num_agents(self):
        return self.agents

    def init(self, stream):
        return State(stream, jnp.int32(0), jnp.zeros(3))

    def transition(self, s, action):
        never = jnp.zeros(3, bool)
        return s.replace(seen=s.seen + jnp.float32(action)), Outcome(s.seen, never, never, reset=s.steps > 3)

    def respawn(self, s, ended):
        return s.replace(seen=jnp.where(ended, 0.0, s.seen))

    def observe(self, s):
        return s.seen[:, None]

    def score(self, s):
        return s.seen


class Deaf(Three):
    def transition(self, s, action):
        return super().transition(s, jnp.zeros(3))


class Blind(Deaf):
    def respawn(self, s, ended):
        return s


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
        (NoOutcome, r"NoOutcome.transition returns \(State, float\); it must return \(state, Outcome\)"),
        (NoPair, r"NoPair.transition returns State; it must return \(state, Outcome\)"),
        (ListSeen, r"ListSeen.observe\(state\) is a list; it must be an array"),
        (IntFlag, r"Outcome.terminated is int32\[\]; it must be bool\[\]"),
        (TwoWithoutSaying, "num_agents is 2; a world of several agents sets multi_agent = True"),
    ],
)
def test_mistakes_of_authors_are_named(cls: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        train(cls(), KEY, tiny_config())


def test_a_first_step_says_what_a_transition_lacks() -> None:
    env = NoPair()
    with pytest.raises(TypeError, match=r"NoPair.transition returns State; it must return \(state, Outcome\)"):
        env.step(env.init(rng.seed(KEY)), jnp.int32(0))


def test_the_number_of_agents_is_a_whole_number() -> None:
    with pytest.raises(TypeError, match=r"Half.num_agents is 1.5; it must be a whole number of at least 1"):
        Half().batch(2)
    with pytest.raises(TypeError, match=r"Own.num_agents is a function; put @property above it"):
        simple(multi_agent=True, num_agents=lambda self: 2)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Three, r"Three.transition\(state, action\) with num_agents = 2: .*\(3,\)"),
        (Deaf, r"Deaf.respawn\(state, ended\) with num_agents = 2: .*"),
        (Blind, r"Blind.observe\(state\) is float32\[3, 1\]; it must be float32\[2, 1\], as num_agents is 2"),
    ],
)
def test_a_number_of_agents_that_the_arrays_do_not_have_is_named(cls: Any, message: str) -> None:
    cls().batch(2)
    with pytest.raises(TypeError, match=message):
        train(cls(agents=2), KEY, tiny_config())


@pytest.mark.needs_c
def test_a_number_of_agents_that_the_arrays_do_not_have_is_named_in_c() -> None:
    class Fewer(Coins):
        num_agents = 2

    for use in (VecEnv, lambda env: make(env, "c")):
        with pytest.raises(TypeError, match=r"Fewer.transition\(state, action\) with num_agents = 2: "):
            use(Fewer())


def test_a_function_that_is_nearly_one_of_env_is_told() -> None:
    class Figure(Simple):
        def figure(self, s):
            return {"a": jnp.float32(0)}

        def observed(self, s):  # used below: a helper
            return super().observe(s)

        def observe(self, s):
            return self.observed(s)

    with pytest.warns(UserWarning, match=r"Figure.figure is never used; did you mean figures\?") as found:
        Figure().batch(2)
    assert len(found) == 1
    with pytest.warns(UserWarning, match=r"Child.figure is never used; did you mean figures\?") as found:
        jax.eval_shape(init, type("Child", (Figures,), {"figure": Figure.figure})(), KEY, tiny_config())
    assert [warning.filename for warning in found] == [__file__]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"headr": "own.h"}, "Own.headr is never used; did you mean header"),
        ({"cheap_int": False}, "Own.cheap_int is never used; did you mean cheap_init"),
        ({"bot_": lambda self, s, stream, name: jnp.int32(0)}, "Own.bot_ is never used; did you mean bot"),
        ({"num_agent": property(lambda self: 2)}, "Own.num_agent is never used; did you mean num_agents"),
        ({"multiagent": True}, "Own.multiagent is never used; did you mean multi_agent"),
    ],
)
def test_an_attribute_that_is_nearly_one_of_env_is_told(attributes: dict, message: str) -> None:
    with pytest.warns(UserWarning, match=message) as found:
        simple(**attributes).batch(2)
    assert [warning.filename for warning in found] == [__file__]


def test_names_that_are_used_are_not_told() -> None:
    class Fine(Simple):
        step_ = 1
        players = 2

        @property
        def perfs(self):
            return [self.players for _ in range(2)]

        def score(self, s):
            return sum((lambda: self.step_ * jnp.float32(x))() for x in self.perfs)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Fine().batch(2)
    assert not any(misspelt(env_class(name)) for name in list_envs())


def test_levels_that_init_does_not_draw_are_told() -> None:
    class Levels(Simple):
        levels: int = param(default=0, minimum=0)
        first_level: int = param(default=0, minimum=0)

    class Drawn(Levels):
        def init(self, stream):
            stream, world = rng.level(stream, self.levels, self.first_level)
            return super().init(stream).replace(seen=rng.uniform(world)[1])

    class Half(Levels):
        def init(self, stream):
            return super().init(rng.level(stream, self.levels, 0)[0])

    with pytest.warns(
        UserWarning, match="Levels.init does not use first_level and levels; draw the world from"
    ) as found:
        jax.eval_shape(init, Levels(), KEY, tiny_config())
    assert [warning.filename for warning in found] == [__file__]
    with pytest.warns(UserWarning, match="Half.init does not use first_level; draw the world from rng.level"):
        Half().batch(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Drawn().batch(2)
        make("maze").batch(2)


def test_level_numbers_fit_in_32_bits() -> None:
    for value in (2**31, 2**40):
        with pytest.raises(ValueError, match=f"Maze.first_level is {value}; it must fit in 32 bits"):
            make("maze", first_level=value)


@pytest.mark.needs_c
def test_static_numbers_of_a_c_twin_fit_in_32_bits() -> None:
    class Static(Coins):
        max_steps: int = static(default=2**31)

        def transition(self, s, action):
            return Coins().transition(s, action)

    for use in (VecEnv, lambda env: make(env, "c")):
        with pytest.raises(ValueError, match="Static.max_steps is 2147483648; in C it must fit in 32 bits"):
            use(Static())


def test_a_class_is_no_environment() -> None:
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
