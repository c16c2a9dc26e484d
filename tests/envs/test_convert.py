"""Convert: the default parameters, and steps worked out by hand with two agents, three items and two factories each.

Factory f takes item f % 3. All factories stand still, and are out of the way unless a test says otherwise.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs_jax.convert import BOTTOM, LEFT, RIGHT, TOP, Convert
from jaxpuffer import make, rng

ENV = Convert(agents=2, items=3, factories=2, max_steps=50)
INIT = jax.jit(lambda env, stream: env.init(stream))
STEP = jax.jit(lambda env, s, action: env.transition(s, action))
OBSERVE = jax.jit(lambda env, s: env.observe(s))
ON = (4, 2)  # straight ahead at the same speed
AWAY = (1700.0, 900.0, 0.0, 0.0)
FAR = (100.0, 100.0, 0.0, 0.0)
NO_JUMP = jnp.array([1, 2], jnp.uint32)  # the number drawn in the next step is above 1


def world(*agents, factories=None, env=ENV, **fields):
    """Agents as (x, y, heading, speed), factories by number as (x, y, vx, vy)."""
    x, y, heading, speed = (jnp.array(column, jnp.float32) for column in zip(*agents, strict=True))
    placed = [(factories or {}).get(f, AWAY) for f in range(env.items * env.factories)]
    names = "factory_x", "factory_y", "factory_vx", "factory_vy"
    of_all = dict(zip(names, jnp.array(placed, jnp.float32).T, strict=True))
    s = INIT(env, NO_JUMP).replace(rng=NO_JUMP, x=x, y=y, heading=heading, speed=speed, **of_all)
    s = s.replace(item=jnp.zeros(len(agents), jnp.int32))
    return s.replace(**{k: jnp.asarray(v, jnp.int32) for k, v in fields.items()})


def move(s, *actions, env=ENV):
    return STEP(env, s, jnp.array(actions or [ON] * env.agents, jnp.int32))


def test_default_parameters():
    env = make("convert")
    found = env.agents, env.items, env.factories, float(env.factory_speed)
    assert found == (16, 8, 4, 2.0)
    assert (int(env.max_steps), int(env.levels), int(env.first_level)) == (500, 0, 0)
    assert env.observation_space.shape == (17,) and env.action_space.nvec == (9, 5)


@pytest.mark.parametrize(
    ("agent", "action", "after"),
    [
        ((500, 300, 0, 10), (4, 2), (510, 300, 0, 10)),  # to the right
        ((500, 300, np.pi / 2, 10), (4, 2), (500, 310, np.pi / 2, 10)),  # downwards
        ((500, 300, 0, -10), (4, 2), (490, 300, 0, -10)),  # backwards
        ((500, 300, 0, 10), (4, 4), (512, 300, 0, 12)),
        ((500, 300, 0, 10), (4, 1), (509, 300, 0, 9)),
        ((500, 300, 0, 19), (4, 4), (520, 300, 0, 20)),  # no faster
        ((500, 300, 0, -19), (4, 0), (480, 300, 0, -20)),
        ((500, 300, 0, 0), (8, 2), (500, 300, 4 / 12, 0)),
        ((500, 300, 0, 12), (1, 2), (500 + 12 * np.cos(0.25), 300 - 12 * np.sin(0.25), -0.25, 12)),
        ((500, 300, 3.1, 0), (8, 2), (500, 300, 3.1 + 1 / 3 - 2 * np.pi, 0)),  # past half a turn
        ((500, 300, -3.1, 0), (0, 2), (500, 300, -3.1 - 1 / 3 + 2 * np.pi, 0)),
        ((1900, 300, 0, 10), (4, 2), (1904, 300, 0, 10)),  # a border stops it, but not its speed
        ((20, 300, 0, -10), (4, 2), (16, 300, 0, -10)),
        ((500, 20, -np.pi / 2, 10), (4, 2), (500, 16, -np.pi / 2, 10)),
        ((500, 1060, np.pi / 2, 10), (4, 2), (500, 1064, np.pi / 2, 10)),
        ((1900, 500, np.pi / 4, 20), (4, 2), (1904, 500 + 20 * np.sin(np.pi / 4), np.pi / 4, 20)),  # along it
    ],
)
def test_moves(agent, action, after):
    s, outcome = move(world(agent, FAR), action, ON)
    found = [s.x[0], s.y[0], s.heading[0], s.speed[0]]
    np.testing.assert_allclose(found, after, rtol=1e-5, atol=1e-4)
    assert not outcome.reward.any() and not outcome.terminated.any() and not outcome.truncated.any()


@pytest.mark.parametrize("border", [(32.0, 0.0), (0.0, -32.0)])
@pytest.mark.parametrize("further", [False, True])
def test_a_factory_takes_its_item_within_32_px(border, further):
    right, down = (1.01 * d if further else d for d in border)
    s = world((500, 300, 0, 0), FAR, factories={3: (500 + right, 300 + down, 0, 0)})
    s, outcome = move(s)
    np.testing.assert_array_equal(outcome.reward, [0 if further else 1, 0])
    np.testing.assert_array_equal(s.item, [0 if further else 1, 0])
    np.testing.assert_array_equal(s.converted, [0 if further else 1, 0])


@pytest.mark.parametrize(
    ("item", "factory", "after"), [(0, 0, 1), (1, 4, 2), (2, 2, 0), (0, 1, 0), (1, 0, 1), (2, 4, 2)]
)
def test_only_a_factory_for_the_item_takes_it(item, factory, after):
    """The last item of the cycle becomes the first; a factory for another item does nothing."""
    s, outcome = move(world((500, 300, 0, 0), FAR, factories={factory: (510, 300, 0, 0)}, item=[item, 0]))
    assert int(s.item[0]) == after and bool(outcome.reward[0]) == (after != item)


def test_the_eighth_item_becomes_the_first():
    env = Convert(agents=1)
    s = world((500, 300, 0, 0), factories={7: (500, 300, 0, 0)}, env=env, item=[7])
    s, outcome = move(s, env=env)
    assert int(s.item[0]) == 0 and float(outcome.reward[0]) == 1


def test_one_item_in_a_step():
    """Two factories for it, or one for it and one for the next: one item in each step."""
    s, outcome = move(world((500, 300, 0, 0), FAR, factories={0: (510, 300, 0, 0), 3: (490, 300, 0, 0)}))
    assert float(outcome.reward[0]) == 1 and int(s.item[0]) == 1
    s, outcome = move(world((500, 300, 0, 0), FAR, factories={0: (510, 300, 0, 0), 1: (490, 300, 0, 0)}))
    assert float(outcome.reward[0]) == 1 and int(s.item[0]) == 1
    s, outcome = move(s)
    assert float(outcome.reward[0]) == 1 and int(s.item[0]) == 2 and int(s.converted[0]) == 2
    assert float(move(s)[1].reward[0]) == 0


def test_agents_do_not_take_from_each_other():
    _, outcome = move(world((500, 300, 0, 0), (505, 300, 0, 0), factories={0: (510, 300, 0, 0)}))
    np.testing.assert_array_equal(outcome.reward, [1, 1])


def test_agents_move_first_and_then_factories():
    """The agent comes within 32 px of where the factory was; where the factory goes does not count yet."""
    s = world((500, 300, 0, 10), FAR, factories={0: (541, 300, 20, 0)})
    s, outcome = move(s)
    assert float(outcome.reward[0]) == 1 and float(s.factory_x[0]) == 561
    _, outcome = move(world((500, 300, 0, 0), FAR, factories={0: (540, 300, -20, 0)}))
    assert float(outcome.reward[0]) == 0


@pytest.mark.parametrize(
    ("factory", "after", "turns"),
    [
        ((500, 300, 2, 0), (502, 300), False),
        ((500, 300, -1.2, 1.6), (498.8, 301.6), False),
        ((1902, 300, 2, 0), (1904, 300), False),  # arrives there exactly
        ((1903, 300, 2, 0), (1904, 300), True),
        ((17, 300, -2, 0), (16, 300), True),
        ((500, 17, 0, -2), (500, 16), True),
        ((500, 1063, 1.2, 1.6), (501.2, 1064), True),
    ],
)
def test_factories_move_and_turn_at_a_border(factory, after, turns):
    s, _ = move(world(FAR, FAR, factories={2: factory}))
    np.testing.assert_allclose([s.factory_x[2], s.factory_y[2]], after, rtol=1e-6)
    velocity = np.array([s.factory_vx[2], s.factory_vy[2]])
    assert (velocity != np.array(factory[2:], np.float32)).any() == turns
    np.testing.assert_allclose(np.hypot(*velocity), 2, rtol=1e-6)
    assert float(s.factory_x[0]) == AWAY[0]


def test_about_one_agent_in_1024_jumps():
    """The first draw of a step says which: with 1,024 agents there always is one."""
    env = Convert(agents=1024)
    still = jnp.tile(jnp.array([4, 2], jnp.int32), (1024, 1))

    def jumped(stream):
        s = env.init(stream)
        after, _ = env.transition(s, still)
        _, drawn = rng.each(s.rng, 1)
        return (after.x != s.x) | (after.y != s.y), drawn[0] >> jnp.uint32(22)

    moved, number = jax.jit(jax.vmap(jumped))(rng.seed(jax.random.key(0), (50,)))
    np.testing.assert_array_equal(moved.sum(1), 1)
    np.testing.assert_array_equal(moved.argmax(1), number)
    assert len(set(np.asarray(number).tolist())) > 40


@pytest.mark.parametrize(("steps", "reset"), [(48, False), (49, True)])
def test_the_time_limit(steps, reset):
    _, outcome = move(world(FAR, FAR, steps=steps))
    assert bool(outcome.reset) == reset and not outcome.terminated.any()


def test_what_is_seen():
    """The agent heads downwards: what is below is ahead, what is to the left is on its right-hand side."""
    factories = {0: (500, 700, 0, 2), 3: (300, 300, -2, 0), 1: (500, 900, 0, 0), 4: (300, 200, 0, 0)}
    s = world((500, 300, np.pi / 2, 5), FAR, factories=factories)
    ahead, right = 0, 1
    seen = np.asarray(OBSERVE(ENV, s))[0]
    near, far, own = seen[:6].reshape(3, 2), seen[6:12].reshape(3, 2), seen[12:]
    np.testing.assert_allclose(near[:, ahead], [0, 0, -0.25], atol=1e-6)  # on to factory 4, 100 px up
    np.testing.assert_allclose(near[:, right], [0.5, 1, 0], atol=1e-6)
    np.testing.assert_allclose(far[:, ahead], [1, 1, 0.5], atol=1e-6)  # on to factory 1, 200 px down
    np.testing.assert_allclose(far[:, right], [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(own, [0.25, 0, 1, 500 / 1920, 300 / 1920], atol=1e-6)


def test_the_last_item_is_followed_by_the_first():
    s = world((500, 300, 0, 0), FAR, factories={2: (600, 300, 0, 0), 0: (600, 340, 0, 0)}, item=[2, 0])
    np.testing.assert_allclose(np.asarray(OBSERVE(ENV, s))[0, :6], [0.25, 0, 0, 0, 0, 0.1], atol=1e-6)


def test_score_and_perf():
    env = make("convert", agents=2)
    s = INIT(env, NO_JUMP).replace(converted=jnp.array([10, 60], jnp.int32))
    np.testing.assert_allclose(env.score(s), [10, 60])
    np.testing.assert_allclose(env.perf(s), [0.32, 1.0])


def test_levels():
    """Level k is the same world whenever it is drawn, and its factories do not depend on the number of agents."""
    env = Convert(agents=2, levels=2, first_level=7)
    streams = rng.seed(jax.random.key(0), (40,))
    worlds = jax.jit(jax.vmap(env.init))(streams)
    assert len(np.unique(np.asarray(worlds.factory_x), axis=0)) == 2 == len(np.unique(np.asarray(worlds.x), axis=0))
    assert len(np.unique(np.asarray(worlds.rng), axis=0)) == 40
    more = INIT(Convert(agents=5, levels=1, first_level=7), streams[0])
    assert (np.asarray(worlds.factory_x) == np.asarray(more.factory_x)).all(1).any()
    new = jax.jit(jax.vmap(Convert(agents=2).init))(streams)
    assert len(np.unique(np.asarray(new.factory_x), axis=0)) == 40


def test_worlds_begin_between_the_borders():
    s = jax.jit(jax.vmap(Convert(agents=50).init))(rng.seed(jax.random.key(1), (20,)))
    for x, y in ((s.x, s.y), (s.factory_x, s.factory_y)):
        assert (x >= LEFT).all() and (x <= RIGHT).all() and (y >= TOP).all() and (y <= BOTTOM).all()
        assert x.min() < 60 and x.max() > 1860 and y.min() < 60 and y.max() > 1020
    np.testing.assert_allclose(np.hypot(s.factory_vx, s.factory_vy), 2, rtol=1e-5)
    np.testing.assert_array_equal(np.unique(np.asarray(s.item)), np.arange(8))
    assert not s.speed.any() and not s.converted.any()


@given(st.integers(0, 2**32 - 1), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), min_size=2, max_size=12))
@settings(max_examples=20, deadline=None)
def test_any_play_keeps_to_the_rules(seed, actions):
    s = INIT(ENV, jnp.array([seed, 7], jnp.uint32))
    for pair in itertools.pairwise(actions):
        n, outcome = move(s, *pair)
        assert (n.x >= LEFT).all() and (n.x <= RIGHT).all() and (n.y >= TOP).all() and (n.y <= BOTTOM).all()
        assert (jnp.abs(n.heading) <= 3.1416).all() and (jnp.abs(n.speed) <= 20).all()
        assert (jnp.abs(n.speed - s.speed) <= 2).all()
        # who is paid carries the next item, and nobody else another one
        np.testing.assert_array_equal(n.item, (s.item + jnp.int32(outcome.reward)) % 3)
        np.testing.assert_array_equal(n.converted, s.converted + jnp.int32(outcome.reward))
        # a factory is never further from where it was than its speed
        assert (jnp.hypot(n.factory_x - s.factory_x, n.factory_y - s.factory_y) < 2.001).all()
        s = n


def test_picture():
    env = make("convert")
    picture = np.asarray(jax.jit(env.render)(INIT(env, NO_JUMP)))
    assert picture.shape == (270, 480, 3) and picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 17  # the ground, and each item bright and dark
