"""Batches: auto-reset is exact under every vmap, and an author's mistakes are named."""

import re
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from toy_envs import Corridor, Counters

from jaxpuffer import Env, make, rng
from jaxpuffer.batch import check_env
from jaxpuffer.env import Outcome, PyTreeNode, param, random_action
from jaxpuffer.spaces import Box, Discrete, MultiDiscrete, Space

STEPS = 60


class WorldState(PyTreeNode):
    rng: Array  # uint32 (2,)
    place: Array  # int32 (3,), of each agent
    fuel: Array  # int32 (3,), steps it has left
    clock: Array  # int32 ()


class World(Env[WorldState]):
    """Three agents walk on a ring until their fuel is empty; at `hours` the whole world ends."""

    multi_agent = True
    num_agents = 3
    hours: int = param(default=11, minimum=1)

    observation_space: ClassVar[Space] = Box(0.0, 8.0, (2,))
    action_space: ClassVar[Space] = Discrete(3)

    def draw(self, stream: Array) -> tuple[Array, Array, Array]:
        stream, place = rng.below(stream, 8)
        stream, fuel = rng.below(stream, 6)
        return stream, (place + jnp.arange(3, dtype=jnp.int32)) % 8, 1 + (fuel + jnp.arange(3, dtype=jnp.int32)) % 6

    def init(self, stream: Array) -> WorldState:
        return WorldState(*self.draw(stream), clock=jnp.int32(0))

    def transition(self, s: WorldState, action: Array) -> tuple[WorldState, Outcome]:
        s = s.replace(place=(s.place + action) % 8, fuel=s.fuel - 1, clock=s.clock + 1)
        reward = jnp.where(s.place == 0, jnp.float32(1), jnp.float32(0.25))
        return s, Outcome(reward, s.fuel == 0, jnp.zeros(3, bool), reset=s.clock >= self.hours)

    def respawn(self, s: WorldState, ended: Array) -> WorldState:
        stream, place, fuel = self.draw(s.rng)
        return s.replace(rng=stream, place=jnp.where(ended, place, s.place), fuel=jnp.where(ended, fuel, s.fuel))

    def observe(self, s: WorldState) -> Array:
        return jnp.stack([jnp.float32(s.place), jnp.float32(s.fuel)], -1)

    def score(self, s: WorldState) -> Array:
        return jnp.float32(s.place)

    def action_mask(self, s: WorldState) -> Array:
        # no agent may stay at place 3; at place 5 only one direction is legal
        allowed = jnp.ones((3, 3), bool).at[:, 0].set(s.place != 3)
        return allowed & ((s.place != 5)[:, None] | (jnp.arange(3) == 1)[None, :])


class CostlyCartPole(type(make("cartpole"))):  # type: ignore[misc]
    """CartPole whose episodes are started in chunks."""

    cheap_init = False


class CostlyWorld(World):
    cheap_init = False


def play(env: Env, key: Array, num_envs: int = 8, steps: int = STEPS) -> tuple:
    """All results of a batch, and its actions."""
    batch = env.batch(num_envs)
    state, obs = batch.reset(key)

    def step(state, key):  # type: ignore[no-untyped-def]
        actions = jax.vmap(random_action, in_axes=(None, 0, 0))(
            env, batch.unpack(state).env, rng.seed(key, (num_envs,))
        )
        state, ts = batch.step(state, actions)
        return state, (state, ts, actions)

    state, found = jax.lax.scan(step, state, jax.random.split(key, steps))
    return obs, found


def loop(env: Env, key: Array, actions: np.ndarray, num_envs: int = 8) -> tuple:
    """The same by a plain loop over single environments: the results of a batch, by [t, row]."""

    @jax.jit
    def step(state, action):  # type: ignore[no-untyped-def]
        state, ts = env.step(state, action)
        return state, ts, env.score(state), env.perf(state)

    init, observe = jax.jit(env.init), jax.jit(env.observe)
    respawn = jax.jit(env.respawn) if env.multi_agent else None
    streams = rng.seed(key, (num_envs,))
    rows = []
    for row in range(num_envs):
        state = init(streams[row])
        total, length = np.zeros(env.agent_shape, np.float32), np.zeros(env.agent_shape, np.int32)
        found = []
        for action in actions[:, row]:
            state, ts, score, perf = step(state, action)
            ended = np.asarray(ts.ended)
            total, length = total + np.asarray(ts.reward), length + 1
            log = [np.where(ended, x, 0) for x in (total, length, score, perf, 1)]
            total, length = np.where(ended, 0, total).astype(np.float32), np.where(ended, 0, length)
            if ended.all():
                state = init(state.rng)
            elif ended.any() and respawn is not None:
                state = respawn(state, ended)
            found.append((state, observe(state), ts.reward, ts.terminated, ts.truncated, log))
        rows.append(jax.tree.map(lambda *x: np.stack(x), *found))
    return jax.tree.map(lambda *x: np.stack(x, 1), *rows)


PLAYED = [make("cartpole", max_steps=25), World(), CostlyWorld(), Counters(), Corridor()]


@pytest.mark.parametrize("env", PLAYED, ids=lambda env: type(env).__name__)
def test_auto_reset_is_a_plain_loop(env: Env) -> None:
    key = jax.random.key(5)
    _, (states, ts, actions) = jax.device_get(jax.jit(play)(env, key))
    state, obs, reward, terminated, truncated, log = loop(env, key, actions)
    chex.assert_trees_all_equal(states.env, state)
    np.testing.assert_array_equal(ts.obs, obs)
    np.testing.assert_array_equal(ts.reward, reward)
    np.testing.assert_array_equal(ts.terminated, terminated)
    np.testing.assert_array_equal(ts.truncated, truncated)
    for ours, theirs in zip(jax.tree.leaves(ts.log), log, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert ts.terminated.any() and ts.log.n.sum() > 8
    if isinstance(env, World):
        whole = (ts.terminated | ts.truncated).all(-1)
        assert ts.truncated.any() and whole.any() and not whole.all()


@pytest.mark.parametrize(
    ("cheap", "costly", "name"), [(make("cartpole"), CostlyCartPole(), "max_steps"), (World(), CostlyWorld(), "hours")],
    ids=["CartPole", "World"],
)  # fmt: skip
def test_costly_init_gives_the_same_bits(cheap: Env, costly: Env, name: str) -> None:
    """Whether the seeds, the parameters, both or neither have an axis; 140 rows are two chunks."""
    keys = jax.random.split(jax.random.key(0), 2)
    limits = jnp.array([3, 5], jnp.int32)

    def run(env: Env, key: Array, limit: Array) -> tuple:
        return play(env.replace(**{name: limit}), key, 140, 6)

    one = jax.jit(run)
    expected = jax.device_get([[one(cheap, key, limit) for key in keys] for limit in limits])

    def stack(*trees: tuple) -> tuple:
        return jax.tree.map(lambda *x: np.stack(x), *trees)

    # nothing, seeds, parameters, seeds within parameters
    over_seeds = jax.vmap(run, in_axes=(None, 0, None))
    chex.assert_trees_all_equal(one(costly, keys[0], limits[0]), expected[0][0])
    chex.assert_trees_all_equal(jax.jit(over_seeds)(costly, keys, limits[0]), stack(*expected[0]))
    for env in (cheap, costly):
        over_limits = jax.jit(jax.vmap(run, in_axes=(None, None, 0)))(env, keys[0], limits)
        chex.assert_trees_all_equal(over_limits, stack(*(row[0] for row in expected)))
    over_both = jax.jit(jax.vmap(over_seeds, in_axes=(None, None, 0)))(costly, keys, limits)
    chex.assert_trees_all_equal(over_both, stack(*(stack(*row) for row in expected)))


def test_two_phases_are_one_step() -> None:
    """Between them `obs` is the final observation, and returns are cleared already."""
    env = make("cartpole", max_steps=4)
    batch = env.batch(5)
    state, _ = batch.reset(jax.random.key(0))
    actions = jnp.ones(5, jnp.int32)
    step = jax.jit(batch.step)
    for _ in range(4):
        before = state
        state, ts = step(state, actions)
    middle, halfway = jax.jit(batch.transition)(before, actions)
    assert halfway.truncated.all() and ts.truncated.all()
    np.testing.assert_array_equal(halfway.obs[:, 0], middle.env.position)
    np.testing.assert_array_equal(halfway.log.episode_return, 4)
    np.testing.assert_array_equal(halfway.log.episode_length, 4)
    np.testing.assert_array_equal(halfway.log.perf, 1)
    assert not middle.episode_return.any() and not middle.episode_length.any()
    after, obs = jax.jit(batch.reset_ended)(middle, halfway)
    chex.assert_trees_all_equal(after, state)
    chex.assert_trees_all_equal(obs, ts.obs)
    assert (np.abs(obs) <= 0.05).all() and not (np.abs(halfway.obs) <= 0.05).all()
    chex.assert_trees_all_equal(batch.observe(batch.take(state, jnp.array([3, 1]))), obs[jnp.array([3, 1])])


def test_log_sums() -> None:
    _, (_, ts, _) = jax.jit(play)(Counters(), jax.random.key(0))
    mean = ts.log.mean()
    # in 60 steps of 8 worlds, agents end 60, 30 and 20 times, their scores 1, 2 and 3
    assert mean.n == 8 * 110
    assert mean.score == pytest.approx(180 / 110) == mean.episode_return == mean.episode_length
    nothing = jax.tree.map(jnp.zeros_like, ts.log).mean()
    assert np.isnan(nothing.score) and nothing.n == 0


def test_random_action_is_legal_and_uniform() -> None:
    streams = rng.seed(jax.random.key(0), (3000,))
    world = World()
    state = world.init(streams[0]).replace(place=jnp.array([3, 5, 0], jnp.int32))
    drawn = np.asarray(jax.vmap(random_action, in_axes=(None, None, 0))(world, state, streams))
    assert drawn.dtype == np.int32 and drawn.shape == (3000, 3)
    counts = np.array([np.bincount(drawn[:, agent], minlength=3) for agent in range(3)])
    assert (counts[0] > [-1, 1350, 1350]).all() and counts[0, 0] == 0
    assert counts[1].tolist() == [0, 3000, 0]
    assert (counts[2] > 850).all()

    class Several(Corridor):
        action_space: ClassVar[Space] = MultiDiscrete((2, 5))

    class Continuous(Corridor):
        action_space: ClassVar[Space] = Box(-2.0, 3.0, (4,))

    for cls, shape in ((Several, (2,)), (Continuous, (4,))):
        cls.action_mask = Env.action_mask  # type: ignore[method-assign]
        env = cls()
        drawn = np.asarray(jax.vmap(random_action, in_axes=(None, None, 0))(env, None, streams))
        assert env.action_space.contains(drawn) and drawn.shape == (3000, *shape)
        assert (
            set(np.unique(drawn[:, -1])) == set(range(5)) if cls is Several else drawn.min() < -1.9 < 2.9 < drawn.max()
        )


def test_traced_once() -> None:
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(env, state, actions):  # type: ignore[no-untyped-def]
        return env.batch(4).step(state, actions)

    env = make("cartpole")
    state, _ = env.batch(4).reset(jax.random.key(0))
    for force in (5, 5.0, jnp.float32(7)):
        state, _ = step(env.replace(force=force), state, jnp.zeros(4, jnp.int32))


CORRIDOR = Corridor()


def _with(field: str, value: object) -> object:
    def transition(self: Env, s: object, action: Array) -> tuple:
        s, outcome = CORRIDOR.transition(s, action)  # type: ignore[arg-type]
        return s.replace(**{field: value}), outcome

    return transition


class OtherState(PyTreeNode):
    rng: Array
    elsewhere: Array
    steps: Array


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        (
            {"init": lambda self, x: CORRIDOR.init(x).replace(cell=jnp.asarray(0))},
            "state.cell is weakly typed; wrap it",
        ),
        ({"init": lambda self, x: (jnp.int32(0), x)}, "init must return a PyTreeNode whose first field is rng"),
        ({"init": lambda self, x: CORRIDOR.init(jnp.int32(x))}, "init(stream).rng is int32[2]; it must be uint32[2]"),
        ({"transition": _with("cell", jnp.float32(0))}, "transition(...).cell is float32[]; it must be int32[]"),
        (
            {"transition": _with("rng", jnp.zeros(3, jnp.uint32))},
            "transition(...).rng is uint32[3]; it must be uint32[2]",
        ),
        (
            {"transition": lambda self, s, a: (OtherState(s.rng, s.cell, s.steps), CORRIDOR.transition(s, a)[1])},
            "transition returns another kind of state than init",
        ),
        (
            {"transition": lambda self, s, a: (s, Outcome(jnp.zeros(1), jnp.bool_(False), jnp.bool_(False)))},
            "transition(...) Outcome.reward is float32[1]; it must be []",
        ),
        ({"observe": lambda self, s: jnp.zeros(3)}, "observe(state) is float32[3]; it must be float32[2]"),
        ({"observe": lambda self, s: jnp.zeros(2, jnp.int32)}, "observe(state) is int32[2]; it must be float32[2]"),
        ({"score": lambda self, s: jnp.zeros(2)}, "score(state) is float32[2]; it must be []"),
    ],
)
def test_check_env_says_what_is_wrong(functions: dict, message: str) -> None:
    env = type("Broken", (Corridor,), functions)()
    for check in (check_env, lambda env: env.batch(2)):
        with pytest.raises(TypeError, match=re.escape(message)):
            check(env)


def test_parameters_with_an_axis_are_for_vmap() -> None:
    message = r"Corridor has a parameter of shape \(2,\); vmap over it, with in_axes=env.axes\(name\)"
    with pytest.raises(TypeError, match=message):
        CORRIDOR.replace(length=jnp.array([5, 6], jnp.int32)).batch(2)


def test_what_an_author_left_out() -> None:
    class Empty(Env):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty must define init\(stream\)"):
        Empty().batch(1)
    with pytest.raises(ValueError, match="num_envs is 0; it must be at least 1"):
        CORRIDOR.batch(0)


@pytest.mark.parametrize("name", [pytest.param("breakout", marks=pytest.mark.full), "pong", "connect4"])
def test_an_accelerators_way_is_the_same_game(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unrolled frames and resets without a condition, compiled for the CPU here, against loops and branches."""
    env = make(name) if name == "connect4" else make(name, max_steps=20)
    batch = env.batch(64)

    def play(env: Env, key: Array) -> Any:
        def step(state: Any, action: Array) -> Any:
            state, step = batch.step(state, action)
            return state, (step.reward, step.ended, step.obs.sum(-1))

        key_reset, key_actions = jax.random.split(key)
        actions = jax.random.randint(key_actions, (60, 64), 0, env.action_space.n, jnp.int32)
        return jax.lax.scan(step, batch.reset(key_reset)[0], actions)

    programs = {}
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        programs[backend] = jax.jit(lambda *args: play(*args)).lower(env, jax.random.key(0))
    # unrolled, there is no loop except the one over steps, and no condition on whether an episode ended
    text = programs["gpu"].as_text()
    assert text.count("stablehlo.while") < programs["cpu"].as_text().count("stablehlo.while") or name == "connect4"
    assert text.count("stablehlo.case") < programs["cpu"].as_text().count("stablehlo.case")
    on_cpu, written_out = (program.compile()(env, jax.random.key(0)) for program in programs.values())
    assert on_cpu[1][1].any()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), on_cpu, written_out)
