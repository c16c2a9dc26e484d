"""Populations: each member is the run that `train` gives, and members come and go without compiling again."""

import jax
import numpy as np
import pytest
from toy_envs import Corridor, Counters, tiny_config

from jaxpuffer import train
from jaxpuffer.population import Population, _advance

KEYS = [jax.random.key(seed) for seed in range(5)]


def trained(population):
    """Advance until the first member ends: the metrics by slot."""
    parts = []
    while all(population.updates_left(slot) for slot in population.slots):
        parts.append(population.advance(4))
    return {s: {n: np.concatenate([p[s][n] for p in parts]) for n in parts[0][s]} for s in population.slots}


@pytest.fixture(scope="module")
def alone():
    """Runs of `train` under three settings that differ in traced fields and steps."""
    settings = [
        tiny_config(),
        tiny_config(learning_rate=0.002, gamma=0.9),
        tiny_config(total_steps=2560, entropy_coefficient=0.1),
    ]
    return [(config, train(Corridor(), key, config)) for key, config in zip(KEYS, settings, strict=False)]


@pytest.mark.parametrize("width", [1, 2])
def test_members_are_the_runs_that_train_gives(alone, width):
    population = Population(Corridor(), tiny_config(), 4, width=width)
    slots = [population.add(key, config) for key, (config, _) in zip(KEYS, alone, strict=False)]
    assert slots == [0, 1, 2]
    metrics = trained(population)
    for slot in (0, 1):
        result = alone[slot][1]
        assert population.agent_steps(slot) == 1280 and population.updates_left(slot) == 0
        assert metrics[slot]["agent_steps"].tolist() == list(range(128, 1281, 128))
        for name in ("score", "policy_loss", "grad_norm", "entropy"):
            np.testing.assert_allclose(metrics[slot][name], result.metrics[name], rtol=2e-3, atol=1e-5, err_msg=name)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
            population.policy(slot).params,
            result.policy.params,
        )
        population.remove(slot)
    # the third goes on alone, under its own longer schedule, as alone
    trained(population)
    np.testing.assert_allclose(
        jax.tree.leaves(population.policy(2).params)[0],
        jax.tree.leaves(alone[2][1].policy.params)[0],
        rtol=1e-3,
        atol=1e-4,
    )


def test_members_come_and_go_without_compiling_again():
    population = Population(Corridor(), tiny_config(), 4, width=2)
    for key in KEYS[:4]:
        population.add(key, tiny_config())
    population.advance(2)
    compiled = _advance._cache_size()
    others = {slot: population.policy(slot) for slot in (0, 2, 3)}
    population.remove(1)
    population.advance(1)
    population.remove(3)
    assert population.slots == [0, 2]
    assert population.add(KEYS[4], tiny_config(total_steps=6400, gamma=0.5), Corridor()) == 1
    assert population.updates_left(1) == 50 and population.updates_left(0) == 7
    assert set(population.advance()) == {0, 1, 2}
    # later populations of the same static fields use the same program
    second = Population(Corridor(), tiny_config(learning_rate=0.1), 4, width=2)
    second.add(KEYS[0], tiny_config())
    second.advance(3)
    assert _advance._cache_size() == compiled
    assert not np.array_equal(*(jax.tree.leaves(p.params)[0] for p in (others[0], population.policy(0))))


def test_a_removed_member_stands_still():
    population = Population(Corridor(), tiny_config(), 4, width=2)
    population.add(KEYS[0], tiny_config())
    population.add(KEYS[1], tiny_config())
    population.advance(2)
    population.remove(1)
    before = jax.device_get(jax.tree.map(lambda x: x[1], population._members.state.params))
    population.advance(2)
    after = jax.device_get(jax.tree.map(lambda x: x[1], population._members.state.params))
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_exploit_copies_what_was_learned_and_keeps_the_episodes():
    population = Population(Corridor(), tiny_config(), 4, width=2)
    for key in KEYS[:2]:
        population.add(key, tiny_config())
    population.advance(3)
    own = population.state(0)
    population.exploit(0, 1, tiny_config(learning_rate=0.5))
    new, source = population.state(0), population.state(1)
    jax.tree.map(np.testing.assert_array_equal, new.params, source.params)
    jax.tree.map(np.testing.assert_array_equal, new.opt_state, source.opt_state)
    jax.tree.map(np.testing.assert_array_equal, new.play, own.play)
    assert int(new.updates) == 3 and population.updates_left(0) == 7
    assert float(population._members.config.learning_rate[0]) == 0.5
    population.advance(1)
    with pytest.raises(ValueError, match="total_steps is 256; the member has trained for 512 already"):
        population.exploit(0, 1, tiny_config(total_steps=256))
    for count, error in ((-1, ValueError), (0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match=f"count is {count}"):
            population.advance(count)
    with pytest.raises(ValueError, match="slot is 7"):
        population.updates_left(7)
    assert population.agent_steps(0) == population.agent_steps(1) == 512


def test_what_does_not_fit_is_refused():
    population = Population(Corridor(), tiny_config(), 4, width=2)
    with pytest.raises(ValueError, match="no members"):
        population.advance()
    with pytest.raises(ValueError, match="other static fields"):
        population.add(KEYS[0], tiny_config(hidden=32))
    with pytest.raises(ValueError, match="other static fields"):
        population.add(KEYS[0], tiny_config(), Counters())
    for key in KEYS[:4]:
        population.add(key, tiny_config(), Corridor(length=9))  # a traced parameter
    with pytest.raises(ValueError, match="no free slot"):
        population.add(KEYS[0], tiny_config())
    with pytest.raises(ValueError, match="slot is 7"):
        population.policy(7)
    trained(population)
    with pytest.raises(ValueError, match="slot 0 has ended"):
        population.advance()
    for size in (0, 1.5, True):
        with pytest.raises(ValueError, match="size is"):
            Population(Corridor(), tiny_config(), size)
