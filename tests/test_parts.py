"""Observations of several parts, agents that are out, figures of one's own, levels, and C headers of one's own."""

import pickle
import shutil
import signal
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from coins import AGENTS, COIN, Coins, Seen, State
from jax import Array

from envs_c import VecEnv
from jaxpuffer import PPOConfig, evaluate, fit, load, make, rng, train
from jaxpuffer.adapters import to_gymnasium
from jaxpuffer.adapters.jax_vec_env import JaxVecEnv
from jaxpuffer.advantage import gae
from jaxpuffer.env import Env, Outcome, PyTreeNode
from jaxpuffer.evaluate import evaluation_key
from jaxpuffer.networks import encoder_of_parts
from jaxpuffer.own_header import header_of, load_header
from jaxpuffer.spaces import Box, Composite, Discrete
from parity.harness import compare
from parity.named import class_of

SMALL = PPOConfig(total_steps=3 * 16 * AGENTS * 8, num_envs=16, horizon=8, hidden=16, minibatch_size=0)
HEADER = Path(__file__).with_name("coins.h")


class Rooms(PyTreeNode):
    rng: Array  # uint32 (2,)
    at: Array  # int32 ()
    steps: Array  # int32 ()


class View(PyTreeNode):
    room: Array
    picture: Array
    things: Array


class Walk(Env[Rooms]):
    """Walk from room 0 to room 4, seen in three ways."""

    observation_space: ClassVar = Composite(
        View,
        room=Box(0, 4, (1,), np.int32),
        picture=Box(0, 1, (5, 5), np.uint8),
        things=Box(-1.0, 1.0, (3, 2)),
    )
    action_space: ClassVar = Discrete(2)

    def init(self, stream: Array) -> Rooms:
        return Rooms(stream, jnp.int32(0), jnp.int32(0))

    def transition(self, s: Rooms, action: Array) -> tuple[Rooms, Outcome]:
        s = s.replace(at=jnp.clip(s.at + 2 * action - 1, 0, 4), steps=s.steps + 1)
        there = s.at == 4
        return s, Outcome(jnp.float32(there), there, ~there & (s.steps >= 12))

    def observe(self, s: Rooms) -> View:
        here = np.arange(5) == s.at
        things = jnp.stack([jnp.float32(s.at), jnp.float32(s.steps)]) * jnp.float32(0.01)
        return View(s.at[None], jnp.uint8(here[:, None] & here[None]), jnp.broadcast_to(things, (3, 2)))

    def score(self, s: Rooms) -> Array:
        return jnp.float32(s.at)


# spaces


def test_a_composite_is_its_named_boxes():
    space = Coins().observation_space
    assert space == Composite(Seen, **dict(space.parts)) and hash(space) == hash(Coins().observation_space)
    assert space != Composite(Seen, **dict(space.parts) | {"numbers": Box(0.0, 2.0, (2,))})
    assert [name for name, _ in space.parts] == ["tiles", "numbers"]
    drawn = space.sample(jax.random.key(0), (7,))
    assert drawn.tiles.shape == (7, 5, 5) and drawn.numbers.dtype == jnp.float32
    assert space.contains(drawn) and not space.contains(drawn.replace(tiles=drawn.tiles + 4))
    assert not space.contains((drawn.tiles, drawn.numbers))
    box = Box(0, 1, (2,))
    for kind, boxes, message in (
        (box, {}, "kind is Box"),
        (Seen(tiles=box, numbers=box), {}, "kind is Seen"),
        (None, {"tiles": box}, "kind is None; the first argument must be the observation's class, a PyTreeNode"),
        (Seen, {"tiles": 3, "numbers": box}, "tiles is 3; it must be a Box"),
        (Seen, {"tiles": box}, "the boxes are tiles; Seen has tiles, numbers"),
        (Seen, {"tiles": box, "numbers": box, "number": box}, "are tiles, numbers, number; Seen has tiles, numbers"),
    ):
        with pytest.raises(TypeError, match=message):
            Composite(*([] if kind is None else [kind]), **boxes)


def test_what_an_environment_returns_is_compared_with_its_composite():
    class Narrow(Coins):
        def observe(self, s: State) -> Any:
            seen = super().observe(s)
            return seen.replace(numbers=seen.numbers[:, :1])

    class Bare(Coins):
        def observe(self, s: State) -> Any:
            return super().observe(s).tiles

    class Odd(Coins):
        def figures(self, s: State) -> dict[str, Array]:
            return {"number of coins": jnp.float32(s.coins)}

    class Alone(Walk):
        def active(self, s: Rooms) -> Array:
            return jnp.bool_(True)

    for env, message in (
        (Narrow(), r"Narrow.observe\(state\).numbers is float32\[3, 1\]; it must be float32\[3, 2\]"),
        (Bare(), r"Bare.observe\(state\) is a .*; it must be a Seen"),
        (Odd(), "figures.state. has 'number of coins'; a figure's name must be an identifier"),
        (Alone(), "Alone has active.state. and one agent"),
    ):
        with pytest.raises(TypeError, match=message):
            env.batch(2)


def test_each_part_has_an_encoder():
    space = Walk().observation_space
    assert encoder_of_parts("grid", space) == ["flat", "grid", "flat"]
    assert encoder_of_parts("entity", space) == ["flat", "flat", "entity"]
    assert encoder_of_parts("embedding", space) == ["embedding", "embedding", "flat"]
    with pytest.raises(
        TypeError, match="encoder image needs .*; no part of the observation space Composite.room=.* is one"
    ):
        train(Walk(), jax.random.key(0), SMALL.replace(encoder="image"))


@pytest.mark.parametrize(
    "encoder", ["grid", *(pytest.param(other, marks=pytest.mark.full) for other in ("flat", "entity", "embedding"))]
)
def test_a_walk_is_learnt_from_its_parts(encoder):
    config = PPOConfig(total_steps=20_000, num_envs=32, horizon=16, hidden=32, encoder=encoder)
    result = train(Walk(), jax.random.key(1), config)
    assert float(evaluate(Walk(), result, jax.random.key(2), episodes=32).score.mean()) > 3.5
    own = result.policy.normalizer.parts
    assert own[0] is None and own[1] is None and own[2].mean.shape == (3, 2)


def test_a_run_of_parts_is_saved_and_goes_on(tmp_path):
    config = SMALL.replace(total_steps=6 * SMALL.batch_size * AGENTS)
    whole = fit(Coins(), jax.random.key(0), config, progress=False)
    folder, seen = tmp_path / "run", []

    def interrupt(steps: int, means: dict[str, float]) -> None:
        seen.append(means)
        signal.raise_signal(signal.SIGINT)

    part = fit(Coins(), jax.random.key(0), config, directory=folder, progress=False, log=interrupt)
    assert "figures/falls" in seen[0] and part.metrics["agent_steps"][-1] < whole.metrics["agent_steps"][-1]
    assert jax.tree.structure(load(folder, Coins()).policy) == jax.tree.structure(part.policy)
    again = fit(Coins(), jax.random.key(0), directory=folder, resume=True, progress=False)
    for a, b in zip(jax.tree.leaves(whole.policy), jax.tree.leaves(again.policy), strict=True):
        np.testing.assert_array_equal(a, b)


# agents that are out


def test_the_steps_of_agents_that_are_out_count_nowhere():
    class Noisy(Coins):
        """Those that are out see and get other things."""

        def transition(self, s: State, action: Array) -> tuple[State, Outcome]:
            after, outcome = super().transition(s, action)
            noise = jnp.where(s.out == 1, jnp.float32(100), jnp.float32(0))
            return after, outcome.replace(reward=outcome.reward + noise, terminated=outcome.terminated | (s.out == 1))

        def observe(self, s: State) -> Seen:
            seen = super().observe(s)
            return seen.replace(numbers=jnp.where((s.out == 1)[:, None], jnp.float32(0.9), seen.numbers))

    config = SMALL.replace(normalize_observation=True, normalize_return=True, prioritize="without_replacement")
    results = [train(env(pit_share=0.4), jax.random.key(3), config) for env in (Coins, Noisy)]
    quiet, noisy = (result.policy for result in results)
    assert not np.asarray(results[0].state.play.envs.env.out).all()
    for a, b in zip(jax.tree.leaves(quiet), jax.tree.leaves(noisy), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    of_log = ("score", "episode_return", "episode_length", "episodes")
    for name in (*of_log, "policy_loss", "value_loss", "entropy", "reward"):
        np.testing.assert_allclose(*(result.metrics[name] for result in results), rtol=1e-3, atol=1e-5, err_msg=name)


def test_an_agent_that_is_out_waits_for_the_others():
    env = Coins(coin_share=0.0, pit_share=0.0, max_steps=4)
    batch = env.batch(1)
    state, _ = batch.reset(jax.random.key(0))
    cells = jnp.zeros((1, 36), jnp.uint8).at[0, 1].set(2).at[0, 35].set(COIN)
    state = state.replace(env=state.env.replace(cells=cells))
    right = jnp.int32([[4, 0, 0]])
    state, step = batch.step(state, right)  # the first agent falls
    assert step.terminated.tolist() == [[True, False, False]] and step.active.tolist() == [[True] * 3]
    assert step.log.n.tolist() == [[1, 0, 0]] and step.log.figures["falls"].tolist() == [[1, 0, 0]]
    for i in range(3):
        state, step = batch.step(state, right)
        assert step.active.tolist() == [[False, True, True]] and step.reward.tolist() == [[0, 0, 0]]
        assert step.ended.tolist() == [[i == 2] * 3]
    # the world was reset: the one that was out begins anew, and only the others' episodes ended
    assert step.log.n.tolist() == [[0, 1, 1]] and step.log.episode_length.tolist() == [[0, 4, 4]]
    assert state.env.out.tolist() == [[0, 0, 0]]


def test_a_world_ends_when_nobody_is_left():
    env = Coins(max_steps=1000)
    batch = env.batch(1)
    state, _ = batch.reset(jax.random.key(0))
    cells = jnp.zeros((1, 36), jnp.uint8).at[0, 1].set(2).at[0, 31].set(2).at[0, 4].set(2).at[0, 35].set(COIN)
    state = state.replace(env=state.env.replace(cells=cells, out=jnp.int32([[0, 1, 1]])))
    state, step = batch.step(state, jnp.int32([[4, 0, 0]]))
    assert step.terminated.tolist() == [[True, False, False]] and step.truncated.tolist() == [[False, True, True]]
    assert state.env.steps.tolist() == [0]


# figures


def test_figures_are_in_metrics_and_evaluations():
    result = train(Coins(), jax.random.key(0), SMALL)
    assert {"figures/falls", "figures/way"} <= result.metrics.keys()
    played = evaluate(Coins(), result, evaluation_key(jax.random.key(0)), episodes=30)
    assert played.summary()["figures/falls"]["mean"] == pytest.approx(played.figures["falls"].mean())
    assert set(np.unique(played.figures["falls"])) <= {0.0, 1.0}
    cut = evaluate(Coins(pit_share=0.0, coin_share=0.9), result, jax.random.key(1), episodes=30, max_steps=3)
    assert cut.unfinished == 30 and (cut.figures["way"] > 0).any()


# levels


def test_a_level_is_the_same_world_for_ever():
    streams = rng.seed(jax.random.key(0), (200,))
    drawn = jax.vmap(rng.level, in_axes=(0, None, None))(streams, 5, 100)[1]
    assert len(np.unique(np.asarray(drawn), axis=0)) == 5
    assert len(np.unique(np.asarray(jax.vmap(rng.level, in_axes=(0, None, None))(streams, 0, 0)[1]), axis=0)) == 200

    # worked out with Python's integers
    def pcg3d(*v):
        x, y, z = ((n * 1664525 + 1013904223) % 2**32 for n in v)
        for last in (False, True):
            x = (x + y * z) % 2**32
            y = (y + z * x) % 2**32
            z = (z + x * y) % 2**32
            if not last:
                x, y, z = (n ^ (n >> 16) for n in (x, y, z))
        return x, y, z

    known = {pcg3d(number, 0, rng.LEVEL)[:2] for number in range(100, 105)}
    assert {tuple(int(word) for word in row) for row in np.asarray(drawn)} == known
    _, each = rng.each(jnp.uint32([1, 2]), 50)
    s, a = rng.bits(jnp.uint32([1, 2]))
    _, b = rng.bits(s)
    assert [int(x) for x in each] == [pcg3d(int(a), int(b), i)[0] for i in range(50)]


def test_training_and_test_levels_are_apart():
    streams = rng.seed(jax.random.key(0), (200,))
    begin = jax.jit(lambda env: jax.vmap(env.init)(streams).walls)

    def worlds(**fields: int) -> set[bytes]:
        return {np.asarray(walls).tobytes() for walls in begin(make("maze", **fields))}

    some, same = worlds(levels=8), worlds(levels=8)
    assert len(some) == 8 and some == same
    assert worlds(levels=3, first_level=2) < some
    assert not worlds(levels=100, first_level=8) & some
    assert len(worlds()) == 200


# without JAX


@pytest.mark.needs_c
def test_vector_environments_have_dicts_of_parts():
    in_c, in_jax = VecEnv(Coins(), num_envs=5), JaxVecEnv(Coins(), 5)
    assert in_c.params["deadly"] is True and in_c.params == VecEnv(Coins(**in_c.params)).params
    assert (
        in_c.log_names == in_jax.log_names == ("episode_return", "episode_length", "score", "perf", "n", "falls", "way")
    )
    (a, _), (b, _) = in_c.reset(seed=3), in_jax.reset(seed=3)
    draw = np.random.default_rng(0)
    for _ in range(100):
        actions = draw.integers(0, 5, (5, AGENTS)).astype(np.int32)
        a, *rest_a, info_a = in_c.step(actions)
        b, *rest_b, info_b = in_jax.step(actions)
        for x, y in zip(jax.tree.leaves((a, rest_a)), jax.tree.leaves((b, rest_b)), strict=True):
            np.testing.assert_array_equal(x, y)
        ended = info_a["_final_obs"]
        for name in a:
            np.testing.assert_array_equal(info_a["final_obs"][name][ended], info_b["final_obs"][name][ended])
        np.testing.assert_array_equal(info_a["log"], info_b["log"])
        np.testing.assert_array_equal(info_a["active"], info_b["active"])
    copy = pickle.loads(pickle.dumps(in_c))
    for x, y in zip(jax.tree.leaves(copy.step(actions)[:4]), jax.tree.leaves(in_c.step(actions)[:4]), strict=True):
        np.testing.assert_array_equal(x, y)
    with pytest.raises(TypeError, match="parameters go with a name"):
        VecEnv(Coins(), 2, max_steps=3)
    with pytest.raises(TypeError, match="header goes with an environment of your own; 'snake' has its own"):
        VecEnv("snake", 2, header=HEADER)


def test_gymnasium_gets_a_dict():
    gymnasium = pytest.importorskip("gymnasium")
    envs = to_gymnasium(Coins(), num_envs=4)
    assert isinstance(envs.single_observation_space, gymnasium.spaces.Dict)
    obs, _ = envs.reset(seed=0)
    assert obs["tiles"].shape == (12, 5, 5) and envs.observation_space.contains(obs)
    for _ in range(60):
        obs, _, terminated, truncated, info = envs.step(envs.action_space.sample())
        if (terminated | truncated).any():
            row = int(np.flatnonzero(terminated | truncated)[0])
            assert set(info["final_obs"][row]) == {"tiles", "numbers"} and "falls" in info["final_info"]
    walks = to_gymnasium(Walk(), num_envs=3, autoreset_mode="NextStep")
    walks.reset(seed=1)
    for _ in range(30):
        obs, *_ = walks.step(np.ones(3, np.int64))
        assert walks.observation_space.contains(obs)


def test_gymnasium_says_who_is_out():
    pytest.importorskip("gymnasium")
    envs = to_gymnasium(Coins(coin_share=0.1, pit_share=0.4), num_envs=4)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    was_out, seen = np.zeros(12, bool), 0
    for _ in range(30):
        _, reward, terminated, truncated, info = envs.step(envs.action_space.sample())
        assert info["active"].shape == (12,) and not reward[~info["active"]].any()
        np.testing.assert_array_equal(info["active"], ~was_out)
        world_ends = (terminated | truncated | was_out).reshape(4, 3).all(1).repeat(3)
        was_out = (was_out | terminated) & ~world_ends
        seen += was_out.sum()
    assert seen > 20


def test_a_figure_has_a_name_of_its_own():
    class Twice(Coins):
        def figures(self, s):
            return {"score": jnp.float32(s.out), "way": jnp.float32(s.row)}

    message = r"Twice.figures\(state\) has 'score'; the log has episode_return, .* of its own"
    for use in (
        lambda env: env.batch(2),
        lambda env: JaxVecEnv(env, 2),
        lambda env: train(env, jax.random.key(0), SMALL),
    ):
        with pytest.raises(TypeError, match=message):
            use(Twice())


# headers of one's own


@pytest.mark.needs_c
def test_who_goes_out_without_a_flag_has_terminated(tmp_path, monkeypatch):
    """Otherwise the log would lose its episode, and the advantages would go on after it."""
    monkeypatch.setattr("jaxpuffer.own_header._folder", lambda: tmp_path)

    class Quiet(Coins):
        def transition(self, s, action):
            s, outcome = super().transition(s, action)
            return s, outcome.replace(terminated=jnp.zeros(AGENTS, bool))

    header = tmp_path / "coins.h"
    text = HEADER.read_text()
    assert "-1.0f, p->deadly, 0}" in text
    header.write_text(
        text.replace("-1.0f, p->deadly, 0}", "-1.0f, 0, 0}").replace("out[a] = (outcome){0.0f, 0, 0};", "")
    )
    loud, quiet = Coins(max_steps=30), Quiet(max_steps=30)
    steps = [_play(env, 60) for env in (loud.batch(16), quiet.batch(16), make(quiet, "c", header=header).batch(16))]
    assert steps[0].terminated.any() and steps[0].log.n.sum() > 16
    for other in steps[1:]:
        jax.tree.map(np.testing.assert_array_equal, steps[0], other)
    in_c = VecEnv(loud, 2, header=header)
    assert pickle.loads(pickle.dumps(in_c)).name == in_c.name != VecEnv(loud, 2).name


def _play(batch, steps):
    """All that a batch returns in steps of random play, seed 0."""
    state, _ = batch.reset(jax.random.key(0))
    actions = jax.random.randint(jax.random.key(1), (steps, batch.num_envs, AGENTS), 0, 5, jnp.int32)
    return jax.jit(lambda state: jax.lax.scan(batch.step, state, actions))(state)[1]


@pytest.mark.needs_c
def test_what_a_header_does_not_set_is_zero(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxpuffer.own_header._folder", lambda: tmp_path)

    def first(x):
        return jnp.where(jnp.arange(AGENTS) == 0, jnp.float32(x), jnp.float32(0))

    class Sparse(Coins):
        def score(self, s):
            return first(super().score(s))

        def perf(self, s):
            return jnp.flip(first(jnp.flip(super().perf(s))))

        def figures(self, s):
            return {"falls": jnp.zeros(AGENTS), "way": super().figures(s)["way"]}

    text = HEADER.read_text()
    for old, new in (
        ("score[a] =", "if (a == 0) score[a] ="),
        ("perf[a] =", "if (a == COINS_MAX_AGENTS - 1) perf[a] ="),
        ("    log[a].falls = (float)s->out[a];\n", ""),
        ("active[a] = s->out[a] == 0;", "if (s->out[a] == 0) active[a] = 1;"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "coins.h").write_text(text)
    env = Sparse(max_steps=30)
    in_jax, in_c = env.batch(16), make(env, "c", header=tmp_path / "coins.h").batch(16)
    steps = _play(in_jax, 60), _play(in_c, 60)
    assert steps[0].log.n.sum() > 16 and not steps[0].active.all()
    jax.tree.map(np.testing.assert_array_equal, *steps)


@pytest.mark.needs_c
def test_a_header_is_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxpuffer.own_header._folder", lambda: tmp_path)
    shutil.copy(HEADER, tmp_path / "coins.h")
    name = load_header(tmp_path / "coins.h")
    (library,) = tmp_path.glob("*.so")
    before = library.stat().st_mtime_ns
    assert load_header(tmp_path / "coins.h") == name and library.stat().st_mtime_ns == before
    changed = (tmp_path / "coins.h").read_text().replace("reward = 1.0f", "reward = 2.0f")
    (tmp_path / "coins.h").write_text(changed)
    assert load_header(tmp_path / "coins.h") != name and len(list(tmp_path.glob("*.so"))) == 2
    env = make(Coins(coin_share=1.0, pit_share=0.0), backend="c", header=tmp_path / "coins.h")
    batch = env.batch(2)
    state, _ = batch.reset(jax.random.key(0))
    _, step = batch.step(state, jnp.full((2, AGENTS), 4, jnp.int32))
    assert step.reward.max() == 2.0


@pytest.mark.needs_c
def test_a_file_that_a_header_includes_may_change_and_change_back(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxpuffer.own_header._folder", lambda: tmp_path / "made")
    text = HEADER.read_text().replace("reward = 1.0f", "reward = COIN_REWARD")
    (tmp_path / "coins.h").write_text(text.replace('#include "env.h"', '#include "env.h"\n#include "worth.h"'))
    for worth in (2.0, 5.0, 2.0):
        (tmp_path / "worth.h").write_text(f"#define COIN_REWARD {worth}f\n")
        env = make(Coins(coin_share=1.0, pit_share=0.0), backend="c", header=tmp_path / "coins.h")
        state, _ = env.batch(1).reset(jax.random.key(0))
        _, step = env.batch(1).step(state, jnp.full((1, AGENTS), 4, jnp.int32))
        assert step.reward.max() == worth


@pytest.mark.needs_c
def test_the_header_of_a_shipped_environment_stays_its_own(tmp_path):
    shutil.copy(HEADER.parents[1] / "envs_c/cartpole.h", tmp_path / "cartpole.h")
    own = make(make("cartpole", max_steps=7), backend="c", header=tmp_path / "cartpole.h")
    shipped = make("cartpole", backend="c", max_steps=7)
    for a, b in zip(own.reset(jax.random.key(1)), shipped.reset(jax.random.key(1)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.needs_c
def test_wrong_headers_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxpuffer.own_header._folder", lambda: tmp_path / "made")
    text, file = HEADER.read_text(), tmp_path / "coins.h"
    for old, new, message in (
        ("falls", "fails", r"the log's figures are \['fails', 'way'\] in C"),
        ("float falls;", "int32_t falls;", "a field of coins_log is `int32_t falls`; its type must be one of float"),
        ("int8_t tiles[", "int32_t tiles[", r"obs.tiles is int32\[25\] in C and int8\[5, 5\] in JAX"),
        ("numbers[", "number[", r"the parts of an observation are \['tiles', 'number'\] in C"),
        ("s->steps++;", "s->steps+;", "coins.h does not compile: .*error"),
        ("coins_active", "coins_activ", "there is active in JAX and none in C"),
        ("} coins_state;", "} coin_state;", "no `typedef struct {...} coins_state;` found"),
        ("int32_t out[COINS", "int32_t *out[COINS", "must be a name or an array, with no pointer"),
        ("float *score", "double *score", "does not compile: .*coins_score"),
        ("uint8_t *active", "int32_t *active", "does not compile: .*coins_active"),
        (
            "const coins_params *p, const coins_state *s, coins_log",
            "const coins_state *s, const coins_params *p, coins_log",
            "does not compile",
        ),
        ("coins_score(", "coins_scores(", "coins.h does not compile: it has no coins_score; "),
        ("coins_init(", "init(", "coins.h does not compile: it has no coins_init; "),
        ("coins_respawn(", "coin_respawn(", "coins.h does not compile: it has no coins_respawn; "),
        ("uint8_t cells[COINS_CELLS]", "uint8_t cells[COINS_CELLS + 1]", "coins_state has padding after cells, or"),
        ("int32_t steps;", "int32_t steps; int8_t last;", "coins_state has padding after last, or"),
    ):
        file.write_text(text.replace(old, new))
        with pytest.raises((TypeError, ValueError), match=message):
            make(Coins(), backend="c", header=file)
    file.write_text(text.replace("falls", "fails"))
    with pytest.raises(TypeError, match=rf"^{file}: the log's figures are"):
        VecEnv(Coins(), header=file)
    file.write_text(text)
    with pytest.raises(TypeError, match=rf"actions are float32\[2\]; {file} needs int32\[2, 3\]"):
        batch = make(Coins(), backend="c", header=file).batch(2)
        batch.step(batch.reset(jax.random.key(0))[0], jnp.zeros(2))
    with pytest.raises(FileNotFoundError, match="there is no header .*nowhere.h"):
        make(Coins(), backend="c", header="nowhere.h")
    with pytest.raises(ValueError, match="Walk has no C twin: give header="):
        make(Walk(), backend="c")
    monkeypatch.setenv("CC", "/nowhere/cc")
    file.write_text(text + "\n")
    with pytest.raises(ImportError, match="the C compiler /nowhere/cc cannot be run"):
        make(Coins(), backend="c", header=file)
    assert header_of(Coins, None) == HEADER


def test_truncated_and_terminated_steps_cut_the_advantage_of_those_that_are_out():
    # one row: acts, falls, waits, is reset, acts
    reward, value = jnp.float32([[1], [-1], [0], [2]]), jnp.zeros((4, 1), jnp.float32)
    ended = jnp.array([[False], [True], [True], [False]])
    found = gae(reward, value, jnp.float32([0]), ended, 1.0, 1.0)
    assert found[:, 0].tolist() == [0, -1, 0, 2]


@pytest.mark.needs_c
def test_parity_compares_the_ports_of_a_users_environment():
    found = compare("coins", "resync", mode="native", steps=200, num_envs=8)
    assert found.equal and not found.nans and found.episodes > 20 and found.num_agents == AGENTS
    assert class_of("coins:Coins") is Coins
    for name, message in (
        ("coins:Coin", "coins must have one environment whose attribute header names its C twin; it has Coins"),
        ("toy_envs", "it has none"),
        ("no_such_module", "there is no environment 'no_such_module'"),
    ):
        with pytest.raises(ValueError, match=message):
            class_of(name)
