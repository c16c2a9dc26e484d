"""Environments of other libraries as ours, step for step against the libraries themselves."""

import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from toy_envs import tiny_config

from jaxpuffer import adapters, load, rng, save, train
from jaxpuffer.adapters.adapted import Adapted, Held, their_rules
from jaxpuffer.adapters.flatten import EXACT, Part, flat_action, flat_observation
from jaxpuffer.env import PyTreeNode, random_action
from jaxpuffer.spaces import Box, Discrete, Mixed, MultiDiscrete

KEY = jax.random.key(0)


# flattening


class Pair(NamedTuple):
    first: Any
    second: Any


VALUES: dict[Any, list[Any]] = {
    np.bool_: [False, True],
    np.int8: [-128, -1, 127],
    np.uint8: [0, 1, 255],
    np.int16: [-(2**15), 0, 2**15 - 1],
    np.uint16: [0, 1, 2**16 - 1],
    np.int32: [-EXACT, -EXACT + 1, 0, EXACT - 1, EXACT],
    np.uint32: [0, EXACT - 1, EXACT],
    np.float32: [-np.inf, -1.1, -0.0, 1e-38, 3.4e38, np.nan],
    np.float16: [-65504.0, 0.1, 6e-5],
    jnp.bfloat16: [-3e38, 0.1, 1e-37],
}


def bits(tree: Any) -> list[Any]:
    return [(x.shape, x.dtype.name, np.asarray(x).tobytes()) for x in jax.tree.leaves(tree)]


def parts(tree: Any) -> Any:
    return jax.tree.map(lambda x: Part(x.shape, x.dtype), tree)


@pytest.mark.parametrize("dtype", VALUES, ids=lambda dtype: np.dtype(dtype).name)
def test_observations_come_back_exactly(dtype: Any) -> None:
    values = jnp.array(VALUES[dtype], dtype)
    scalar = jnp.asarray(1, dtype)
    for tree in (values, scalar, values[:, None], {"b": values, "a": (scalar, Pair(jnp.float32(0.5), values[None]))}):
        layout = flat_observation(parts(tree))
        flat = layout.flatten(tree)
        assert (flat.shape, flat.dtype) == (layout.space.shape, layout.space.dtype)
        assert bits(layout.restore(flat)) == bits(tree)
    assert bits(jax.jit(lambda x: layout.restore(layout.flatten(x)))(tree)) == bits(tree)


def test_what_float32_does_not_hold_is_refused() -> None:
    for dtype, wrong in ((np.int32, [EXACT + 1, -EXACT - 1, 2**31 - 1, -(2**31)]), (np.uint32, [EXACT + 1, 2**32 - 1])):
        layout = flat_observation({"clock": Part((2,), np.dtype(dtype)), "x": Part((), np.dtype(np.float32))})
        for value in wrong:
            tree = {"clock": jnp.array([7, value], dtype), "x": jnp.float32(1)}
            with pytest.raises(ValueError, match=f"has {value}; whole numbers must be from -2\\^24 to 2\\^24"):
                layout.flatten(tree)
            np.testing.assert_array_equal(jax.jit(layout.flatten)(tree), [7, np.nan, 1])
    with pytest.raises(TypeError, match="dtype is float64; it must be"):
        Part((), np.dtype(np.float64))
    with pytest.raises(ValueError, match="it must have at most 65536"):
        flat_action((Part((), np.dtype(np.int32)), Part((), np.dtype(np.float32))))


def test_spaces_of_observations() -> None:
    def space(*args: Any) -> Any:
        return flat_observation(Part(*args)).space

    assert space((), np.int32, 0, 4) == Box(0, 4, (1,), np.int32)
    assert space((3, 3), np.bool_) == Box(0, 1, (3, 3), np.bool_)
    assert space((8, 8, 3), np.uint8) == Box(0, 255, (8, 8, 3), np.uint8)
    assert space((8,), np.uint8) == Box(0, 255, (8,), np.float32)  # numbers, not 256 kinds of tiles
    assert space((2,), np.float32, 0, [1, 2]) == Box(0, [1, 2], (2,))
    assert space((2,), np.float32, 0, [0, 2]) == Box([-np.inf, 0], [np.inf, 2], (2,))  # a constant has no range
    assert flat_observation((Part((2, 2), np.bool_), Part((), np.int32))).space == Box(-np.inf, np.inf, (5,))


ACTIONS = {
    "choice": (Part((), np.int32, 0, 4), Discrete(5)),
    "choice of another dtype": (Part((), np.int8, -3, 4), Discrete(8)),
    "choices": (Part((2, 2), np.int32, 0, [[1, 2], [3, 4]]), MultiDiscrete((2, 3, 4, 5))),
    "numbers": (Part((2, 3), np.float32, -1, 1), Box(-1, 1, (2, 3))),
    "dict of choices": ({"b": Part((), np.int32, 0, 1), "a": Part((2,), np.uint8, 1, 3)}, MultiDiscrete((3, 3, 2))),
    "tuple of numbers": ((Part((), np.float32, 0, 2), Part((2,), np.float32)), Box([0, -np.inf, -np.inf], [2, np.inf, np.inf])),
    "mixed": (
        {"go": Part((), np.int32, 5, 6), "speed": Part((1, 2), np.float32, 0, 1)},
        Mixed((MultiDiscrete((2,)), Box(0, 1, (2,)))),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_come_back_exactly(name: str) -> None:
    tree, space = ACTIONS[name]
    layout = flat_action(tree)
    assert layout.space == space
    for action in space.sample(KEY, (3,)):
        restored = layout.restore(action)
        assert jax.tree.structure(restored) == jax.tree.structure(tree)
        for part, x in zip(jax.tree.leaves(tree), jax.tree.leaves(restored), strict=True):
            assert (x.shape, x.dtype) == (part.shape, part.dtype)
            low, high = part.bounds()
            assert (np.asarray(x) >= low).all() and (np.asarray(x) <= high).all()
        assert bits(layout.flatten(restored)) == bits(action)


# an environment in gymnax's manner, which needs no package


class Params(PyTreeNode):
    max_steps_in_episode: Any = 7
    push: Any = 0.5
    goal: Any = 2.0
    table: Any = (np.arange(3, dtype=np.uint8), np.float32(np.inf))


class ToyState(PyTreeNode):
    x: Any
    time: Any
    key: Any
    count: Any


class Toy:
    """Pushes a point to a goal; states are weakly typed and have a typed key, observations are composite."""

    traces = 0  # of step_env

    def __init__(self, name: str = "toy") -> None:
        self.label = name
        self.weights = jnp.arange(3.0)

    default_params = Params()

    def observation_space(self, params: Any) -> Any:
        return SimpleNamespace(spaces={})

    def action_space(self, params: Any) -> Any:
        return type("Discrete", (), {"n": 3, "dtype": np.int32})()

    def look(self, state: Any) -> Any:
        return {"x": state.x, "seen": (state.count, state.time > 3)}

    def reset_env(self, key: Any, params: Any) -> Any:
        assert key.dtype == np.uint32
        state = ToyState(0, 0, jax.random.key(7), jnp.uint8(0))
        state = state.replace(key=jax.random.fold_in(state.key, jax.random.bits(key)))
        return self.look(state.replace(x=jnp.float32(0))), state

    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        Toy.traces += 1
        x = state.x + params.push * (action - 1)
        state = ToyState(x, state.time + 1, jax.random.split(state.key)[0], state.count + params.table[0][2])
        return self.look(state), state, x, x >= params.goal, {}

    def is_truncated(self, state: Any, params: Any) -> Any:
        return state.time >= params.max_steps_in_episode


def test_weak_types_typed_keys_and_composites(tmp_path: Any) -> None:
    env = adapters.from_gymnax(Toy())
    assert env.observation_space == Box(-np.inf, np.inf, (3,))
    assert env.to_dict()["push"] == 0.5 and "table" not in env.to_dict()
    state, _ = env.reset(KEY)
    for i in range(4):
        state, step = env.step(state, 2)
        np.testing.assert_array_equal(step.obs, [2 * i + 2, i + 1 > 3, 0.5 * (i + 1)])
        assert (step.terminated, step.truncated) == (i == 3, False)
        assert state.inner.x.dtype == np.float32 and not state.inner.x.weak_type
    assert env.score(state) == env.perf(state) == 5.0
    assert env.replace(score_high=10.0).perf(state) == 0.5

    result = train(env, KEY, tiny_config())
    assert np.isfinite(result.metrics["policy_loss"]).all()
    save(result, tmp_path)
    again = load(tmp_path, env=adapters.from_gymnax(Toy()))
    for a, b in zip(jax.tree.leaves(result.state), jax.tree.leaves(again.state), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_an_equal_environment_does_not_compile_again() -> None:
    a, b = adapters.from_gymnax(Toy()), adapters.from_gymnax(Toy())
    assert a == b and hash(a) == hash(b) and jax.tree.structure(a) == jax.tree.structure(b)
    assert a != adapters.from_gymnax(Toy("another"))
    train(a, KEY, tiny_config())
    traces = Toy.traces
    train(b, KEY, tiny_config())
    train(adapters.from_gymnax(Toy(), Params(push=0.25)), KEY, tiny_config())  # a leaf, not a constant
    assert Toy.traces == traces


def test_parameters_are_leaves() -> None:
    env = adapters.from_gymnax(Toy())
    pushes = env.replace(push=jnp.array([0.25, 1.0]))

    def moved(env: Any) -> Any:
        return env.transition(env.init(jnp.array([1, 2], jnp.uint32)), jnp.int32(2))[0].inner.x

    np.testing.assert_array_equal(jax.vmap(moved, in_axes=(env.axes("push"),))(pushes), [0.25, 1.0])
    with pytest.raises(TypeError, match="has no parameter 'pus'"):
        env.replace(pus=1.0)


def test_held_objects_compare_by_contents() -> None:
    one, other = SimpleNamespace(a=jnp.arange(3), b=[1, {"c": (2.0,)}]), SimpleNamespace(a=jnp.arange(3), b=[1, {"c": (2.0,)}])
    one.me, other.me = one, other  # a cycle
    assert Held(one) == Held(other) and hash(Held(one)) == hash(Held(other))
    for change in ({"a": jnp.arange(1, 4)}, {"a": jnp.arange(3.0)}, {"b": [1, {"c": (2,)}]}, {"b": [True, {"c": (2.0,)}]}):
        assert Held(one) != Held(SimpleNamespace(**(vars(other) | change)))
    assert Held(lambda: 0) != Held(lambda: 0)


@pytest.mark.parametrize(
    ("function", "module"),
    [("gymnax", "gymnax"), ("brax", "brax"), ("pgx", "pgx"), ("jumanji", "jumanji"), ("jaxmarl", "jaxmarl")]
    + [("playground", "mujoco_playground")],
)
def test_missing_packages_and_other_objects(function: str, module: str, monkeypatch: Any) -> None:
    make = getattr(adapters, f"from_{function}")
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"^{module} is not installed: pip install {function}$"):
        make("name")
    with pytest.raises(TypeError, match="env is a dict; it must be an environment of"):
        make({}) if function != "playground" else make({}, 10)


# the libraries themselves


def follow(env: Adapted, begin: Any, advance: Any, steps: int, seed: int = 0, envs: int = 4) -> dict[str, np.ndarray]:
    """Our batch and the library, stepped side by side with the same keys and random actions.

    `begin(key) -> (state, obs)` and `advance(key, state, action) -> (state, obs, reward, terminated, truncated)` are the
    library's. Checks that all is equal at every step, final observations included, and returns what happened.
    """
    batch = env.batch(envs)

    def theirs(function: Any, *args: Any) -> Any:
        with their_rules():
            return jax.vmap(function)(*args)

    def one(carry: Any, stream: Any) -> Any:
        ours, raw = carry
        action = jax.vmap(lambda s, k: random_action(env, s, k))(ours.env, rng.seed(stream, (envs,)))
        restored = jax.vmap(jax.vmap(env.action.restore) if env.multi_agent else env.action.restore)(action)
        raw, obs, reward, terminated, truncated = theirs(advance, ours.env.rng, raw, restored)
        ours, step = batch.transition(ours, action)
        flatten = jax.vmap(env.observation.flatten)
        flat = (jax.vmap(flatten) if env.multi_agent else flatten)(obs)
        seen = {
            "obs": (step.obs, flat),
            "reward": (step.reward, reward.astype(np.float32)),
            "terminated": (step.terminated, terminated),
            "truncated": (step.truncated, truncated & ~terminated),
        }
        # both begin again from the same key
        ended = step.ended.reshape(envs, -1).all(1)
        fresh, first = theirs(begin, ours.env.rng)

        def put(new: Any, old: Any) -> Any:
            return jax.tree.map(
                lambda n, o: jnp.where(ended.reshape(-1, *[1] * (jnp.ndim(o) - 1)), jnp.asarray(n, o.dtype), o), new, old
            )

        raw = put(fresh, raw)
        ours, after = batch.reset_ended(ours, step)
        flat_first = (jax.vmap(flatten) if env.multi_agent else flatten)(first)
        seen["after"] = (after, put(flat_first, flat))
        return (ours, raw), seen

    @jax.jit
    def all_steps(key: Any) -> Any:
        ours, obs = batch.reset(key)
        streams = rng.seed(key, (envs,))
        raw, first = theirs(begin, streams)
        flatten = jax.vmap(env.observation.flatten)
        flat = (jax.vmap(flatten) if env.multi_agent else flatten)(first)
        raw = jax.tree.map(lambda x, kind: jnp.asarray(x, kind.dtype), raw, ours.env.inner)
        return {"first": (obs, flat)}, lax.scan(one, (ours, raw), jax.random.split(key, steps))[1]

    first, seen = jax.device_get(all_steps(jax.random.key(seed)))
    for name, (mine, other) in (first | seen).items():
        np.testing.assert_array_equal(mine, other, err_msg=name)
    return {name: mine for name, (mine, _) in seen.items()}


def gymnax_follows(env: Adapted, steps: int = 300) -> dict[str, np.ndarray]:
    raw, params = env.theirs, env.params

    def begin(key: Any) -> Any:
        obs, state = raw.reset_env(key, params)
        return state, obs

    def advance(key: Any, state: Any, action: Any) -> Any:
        obs, state, reward, terminated, _ = raw.step_env(key, state, action, params)
        return state, obs, reward, terminated, raw.is_truncated(state, params)

    return follow(env, begin, advance, steps)


def test_gymnax_cartpole() -> None:
    gymnax = pytest.importorskip("gymnax")
    env, params = gymnax.make("CartPole-v1")
    ours = adapters.from_gymnax(env, params.replace(max_steps_in_episode=20))
    assert ours.action_space == Discrete(2) and ours.gravity == np.float32(9.8)
    assert ours == adapters.from_gymnax("CartPole-v1").replace(max_steps_in_episode=20)
    seen = gymnax_follows(ours)
    assert seen["terminated"].sum() > 10 and seen["truncated"].sum() > 10
    assert not (seen["terminated"] & seen["truncated"]).any()
    # what gymnax's own step says of one, key_step being the first half of its key
    key = jax.random.PRNGKey(3)
    state = ours.init(jnp.array([1, 2], jnp.uint32))
    with their_rules():
        for _ in range(20):
            _, inner, reward, terminated, truncated, info = env.step(key, state.inner, 1, ours.params)
            state, step = ours.step(state.replace(rng=jax.random.split(key)[0]), 1)
            np.testing.assert_array_equal(step.obs, info["final_observation"])
            assert (step.reward, step.terminated, step.truncated) == (reward, terminated, truncated)
            if step.ended:
                break
    assert step.ended


def test_gymnax_breakout_and_pendulum() -> None:
    pytest.importorskip("gymnax")
    seen = gymnax_follows(adapters.from_gymnax("Breakout-MinAtar"))
    assert seen["terminated"].sum() > 10 and seen["reward"].sum() > 10
    pendulum = adapters.from_gymnax("Pendulum-v1")
    assert pendulum.action_space == Box(-2.0, 2.0, (1,))
    assert gymnax_follows(pendulum)["truncated"].sum() == 4
