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
from jaxpuffer.adapters.from_pgx import Seated
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
    "tuple of numbers": (
        (Part((), np.float32, 0, 2), Part((2,), np.float32)),
        Box([0, -np.inf, -np.inf], [2, np.inf, np.inf]),
    ),
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
    ours = {"score_low": 0.0, "score_high": 1.0, "max_steps": 2**31 - 1}
    assert env.to_dict() == ours | {"max_steps_in_episode": 7, "push": 0.5, "goal": 2.0}  # the table is constant
    state, _ = env.reset(KEY)
    one_step = jax.jit(env.step)
    for i in range(4):
        state, step = one_step(state, 2)
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
    one, other = (
        SimpleNamespace(a=jnp.arange(3), b=[1, {"c": (2.0,)}]),
        SimpleNamespace(a=jnp.arange(3), b=[1, {"c": (2.0,)}]),
    )
    one.me, other.me = one, other  # a cycle
    assert Held(one) == Held(other) and hash(Held(one)) == hash(Held(other))
    for change in (
        {"a": jnp.arange(1, 4)},
        {"a": jnp.arange(3.0)},
        {"b": [1, {"c": (2,)}]},
        {"b": [True, {"c": (2.0,)}]},
    ):
        assert Held(one) != Held(SimpleNamespace(**(vars(other) | change)))

    def closure(x: Any) -> Any:
        return lambda: x

    assert Held(closure(jnp.arange(2))) == Held(closure(jnp.arange(2))) != Held(closure(jnp.arange(1, 3)))
    assert Held(jax.jit(closure(1))) != Held(jax.jit(closure(1)))  # equal to itself alone


@pytest.mark.parametrize(
    ("function", "module"),
    [*((name, name) for name in ("brax", "gymnax", "jaxmarl", "jumanji", "pgx")), ("playground", "mujoco_playground")],
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

    The library's `begin(key)` gives (state, obs) and `advance(key, state, action)` gives (state, obs, reward,
    terminated, truncated). Checks that all is equal at every step, final observations included, and returns what
    happened.
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
        raw = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), raw)
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
                lambda n, o: jnp.where(ended.reshape(-1, *[1] * (jnp.ndim(o) - 1)), jnp.asarray(n, o.dtype), o),
                new,
                old,
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
        raw = jax.tree.map(lambda x: jnp.asarray(x, x.dtype), raw)
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
    our_step = jax.jit(ours.step)
    with their_rules():
        for _ in range(20):
            _, _, reward, terminated, truncated, info = env.step(key, state.inner, 1, ours.params)
            state, step = our_step(state.replace(rng=jax.random.split(key)[0]), 1)
            np.testing.assert_allclose(step.obs, info["final_observation"], rtol=1e-6)
            assert (step.reward, step.terminated, step.truncated) == (reward, terminated, truncated)
            if step.ended:
                break
    assert step.ended


@pytest.mark.full
def test_gymnax_breakout_and_pendulum() -> None:
    pytest.importorskip("gymnax")
    seen = gymnax_follows(adapters.from_gymnax("Breakout-MinAtar"))
    assert seen["terminated"].sum() > 10 and seen["reward"].sum() > 10
    pendulum = adapters.from_gymnax("Pendulum-v1")
    assert pendulum.action_space == Box(-2.0, 2.0, (1,))
    assert gymnax_follows(pendulum)["truncated"].sum() == 4


def first_legal(state: Any, key: Any) -> Any:
    return jnp.argmax(state.legal_action_mask)


def last_legal(state: Any, key: Any) -> Any:
    n = state.legal_action_mask.shape[0]
    return n - 1 - jnp.argmax(state.legal_action_mask[::-1])


def test_pgx_two_players() -> None:
    """Games that we play and that Pgx replays, move by move from its own first state."""
    pgx = pytest.importorskip("pgx")
    raw = pgx.make("tic_tac_toe")
    env = adapters.from_pgx(raw, opponent=last_legal)
    assert env == adapters.from_pgx("tic_tac_toe", opponent=last_legal) != adapters.from_pgx("tic_tac_toe")
    first_game = raw.init(jax.random.PRNGKey(0))  # the empty board

    @jax.jit
    def both(stream: Any) -> Any:
        """A game of ours, and of Pgx with the same moves: (what we say, what Pgx says), moves first."""
        state = env.init(stream)
        seat, moved = state.inner.seat, state.inner.state._step_count
        game = first_game.replace(current_player=jnp.where(moved == 0, seat, 1 - seat))
        game = jax.tree.map(lambda a, b: jnp.where(moved == 0, a, b), game, raw.step(game, last_legal(game, None)))

        def move(carry: Any, word: Any) -> Any:
            state, game, over = carry
            legal = game.legal_action_mask
            before = (env.observe(state), env.action_mask(state)), (game.observation, legal)
            k = jnp.int32(word % jnp.uint32(legal.sum()))
            action = jnp.int32(jnp.argmax(jnp.cumsum(legal) > k))
            state, outcome = env.transition(state, action)
            game = raw.step(game, action)
            reward = game.rewards[seat]
            game = raw.step(game, last_legal(game, None))  # changes nothing once it is over
            reward = reward + game.rewards[seat]
            ours = (*before[0], outcome.reward, outcome.terminated, outcome.truncated, env.score(state))
            return (state, game, over | game.terminated), (
                over,
                (ours, (*before[1], reward, game.terminated, jnp.bool_(False), reward)),
            )

        words = jax.random.bits(stream, (5,), jnp.uint32)
        return (seat, moved), lax.scan(move, (state, game, jnp.bool_(False)), words)[1]

    (seats, moved), (over, (ours, theirs)) = jax.device_get(jax.lax.map(both, rng.seed(KEY, (40,))))
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine[~over], other[~over])
    assert set(seats) == set(moved) == {0, 1} and {-1.0, 1.0} <= set(ours[2][~over])
    assert ours[3].any(1).all()  # all games are played to their ends

    # by Pgx's rules an illegal action loses
    transition = jax.jit(env.transition)
    state, _ = transition(jax.jit(env.init)(jnp.array([3, 4], jnp.uint32)), jnp.int32(0))
    taken = jnp.int32(jnp.argmin(env.action_mask(state)))
    _, outcome = transition(state, taken)
    assert outcome.terminated and outcome.reward == -1


@pytest.mark.full
def test_pgx_random_opponents() -> None:
    pytest.importorskip("pgx")
    env = adapters.from_pgx("tic_tac_toe")

    @jax.jit
    def play(key: Any) -> Any:
        batch = env.batch(64)

        def one(state: Any, stream: Any) -> Any:
            action = jax.vmap(lambda s, k: random_action(env, s, k))(state.env, rng.seed(stream, (64,)))
            state, step = batch.step(state, action)
            return state, (step.log, step.ended)

        return lax.scan(one, batch.reset(key)[0], jax.random.split(key, 60))[1]

    log, ended = play(KEY)
    games = float(ended.sum())
    # as often first as second, so against an equal player the score is 0 on average
    assert games > 700 and abs(float(log.score.sum()) / games) < 4 / games**0.5
    assert set(np.unique(log.score)) == {-1.0, 0.0, 1.0}


@pytest.mark.full
def test_pgx_single_player() -> None:
    pgx = pytest.importorskip("pgx")
    raw = pgx.make("2048")

    def begin(key: Any) -> Any:
        _, _, deal_key, _ = jax.random.split(key, 4)
        state = raw.init(deal_key)
        return Seated(state, jnp.int32(0)), state.observation

    def advance(key: Any, game: Any, action: Any) -> Any:
        state = raw.step(game.state, action, jax.random.split(key)[0])
        return game.replace(state=state), state.observation, state.rewards[0], state.terminated, state.truncated

    seen = follow(adapters.from_pgx(raw), begin, advance, 300)
    assert seen["terminated"].sum() >= 4 and seen["reward"].sum() > 1000
    short = adapters.from_pgx(raw, max_steps=3)
    state, _ = short.reset(KEY)
    for i in range(3):
        state, step = jax.jit(short.step)(state, first_legal(state.inner.state, None))
        assert step.truncated == (i == 2)


def jumanji_follows(env: Adapted, steps: int) -> dict[str, np.ndarray]:
    def begin(key: Any) -> Any:
        state, step = env.theirs.reset(key)
        return state, step.observation

    def advance(key: Any, state: Any, action: Any) -> Any:
        if env.joint is not None:
            action = jnp.stack(jnp.unravel_index(action, env.joint))
        state, step = env.theirs.step(state, action)
        return (
            state,
            step.observation,
            step.reward,
            step.last() & (step.discount == 0),
            step.last() & (step.discount > 0),
        )

    return follow(env, begin, advance, steps)


def test_jumanji() -> None:
    jumanji = pytest.importorskip("jumanji")
    snake = adapters.from_jumanji("Snake-v1")
    assert snake == adapters.from_jumanji(jumanji.make("Snake-v1"))
    assert snake.observation_space == Box(-np.inf, np.inf, (12 * 12 * 5 + 1 + 4,))
    small = adapters.from_jumanji(jumanji.environments.Snake(num_rows=4, num_cols=4, time_limit=20))
    assert jumanji_follows(small, 200)["terminated"].sum() >= 40
    # a mask of joint choices, and one for each agent
    tetris = adapters.from_jumanji("Tetris-v0")
    assert tetris.action_space == Discrete(40)
    assert jumanji_follows(tetris, 100)["terminated"].sum() >= 4
    shop = adapters.from_jumanji("JobShop-v0")
    state, _ = shop.reset(KEY)
    np.testing.assert_array_equal(shop.action_mask(state), state.inner.action_mask.reshape(-1))
    np.testing.assert_array_equal(shop.action_space.nvec, shop.theirs.action_spec.num_values)


def brax_follows(env: Adapted, steps: int) -> dict[str, np.ndarray]:
    def begin(key: Any) -> Any:
        state = env.theirs.reset(key)
        return (state, jnp.int32(0)), state.obs

    def advance(key: Any, carry: Any, action: Any) -> Any:
        state, count = carry
        state = env.theirs.step(state, action)
        return (state, count + 1), state.obs, state.reward, state.done > 0, count + 1 >= env.max_steps

    return follow(env, begin, advance, steps)


def test_brax() -> None:
    brax = pytest.importorskip("brax.envs")
    env = adapters.from_brax("inverted_pendulum", episode_length=12)
    assert env == adapters.from_brax(brax.get_environment("inverted_pendulum"), episode_length=12)
    seen = brax_follows(env, 200)
    assert seen["terminated"].sum() > 4 and seen["truncated"].sum() > 4
    for wrapped in ({"auto_reset": True}, {"auto_reset": False}, {"batch_size": 2}):
        with pytest.raises(ValueError, match="give it without, as env.unwrapped"):
            adapters.from_brax(brax.create("fast", **wrapped))


def test_playground() -> None:
    registry = pytest.importorskip("mujoco_playground").registry
    env = adapters.from_playground(
        registry.load("CartpoleBalance", config_overrides={"impl": "jax"}), episode_length=15
    )
    assert adapters.from_playground(env.theirs).max_steps == 1000
    assert brax_follows(env, 40)["truncated"].sum() == 8
    with pytest.raises(ValueError, match="load it with config_overrides"):
        adapters.from_playground(registry.load("CartpoleBalance", config_overrides={"impl": "warp"}))


def test_jaxmarl() -> None:
    jaxmarl = pytest.importorskip("jaxmarl")
    raw = jaxmarl.make("MPE_simple_spread_v3", max_steps=10)
    env = adapters.from_jaxmarl(raw)
    assert (env.num_agents, env.action_space) == (3, Discrete(5))

    def stack(x: Any) -> Any:
        return jnp.stack([x[agent] for agent in raw.agents])

    def begin(key: Any) -> Any:
        obs, state = raw.reset(key)
        return state, stack(obs)

    def advance(key: Any, state: Any, action: Any) -> Any:
        actions = {agent: action[i] for i, agent in enumerate(raw.agents)}
        obs, state, reward, done, _ = raw.step_env(key, state, actions)
        return state, stack(obs), stack(reward), jnp.zeros(3, bool), jnp.full(3, done["__all__"])

    assert follow(env, begin, advance, 100)["truncated"].sum() == 9 * 4 * 3
    with pytest.raises(ValueError, match="all agents must have equal spaces"):
        adapters.from_jaxmarl("MPE_simple_tag_v3")
    smax = adapters.from_jaxmarl("SMAX")
    state, _ = smax.reset(KEY)
    assert smax.action_mask(state).shape == (smax.num_agents, smax.action_space.n)
