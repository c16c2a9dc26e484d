"""Advantages against plain float64 transcriptions of the formulas."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_envs import Corridor, tiny_config

from jaxpuffer import train
from jaxpuffer.advantage import ADVANTAGES, gae, puffer_advantage
from jaxpuffer.loss import POLICY_OBJECTIVES

TIME, ROWS = 9, 4  # one shape, so that each function compiles once
fast = jax.jit(puffer_advantage)


def made_up(seed: int, time: int = TIME, rows: int = ROWS) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "reward": generator.normal(size=(time, rows)),
        "value": generator.normal(size=(time, rows)),
        "last_value": generator.normal(size=rows),
        "ended": generator.random((time, rows)) < 0.2,
        "ratio": np.exp(0.7 * generator.normal(size=(time, rows))),
    }


def single(data: dict[str, np.ndarray]) -> dict[str, Any]:
    return {name: jnp.asarray(x) if x.dtype == bool else jnp.float32(x) for name, x in data.items()}


def transcription(data: dict[str, np.ndarray], gamma: float, lam: float, rho_clip: float, c_clip: float) -> np.ndarray:
    """The recursion as PufferLib writes it, step by step, with a value after the last step."""
    reward, value, ended, ratio = (data[name] for name in ("reward", "value", "ended", "ratio"))
    time, rows = reward.shape
    out = np.zeros((time, rows))
    for r in range(rows):
        later = 0.0
        for t in reversed(range(time)):
            following = data["last_value"][r] if t == time - 1 else value[t + 1, r]
            goes_on = 0.0 if ended[t, r] else 1.0
            delta = min(ratio[t, r], rho_clip) * (reward[t, r] + gamma * following * goes_on - value[t, r])
            later = delta + gamma * lam * min(ratio[t, r], c_clip) * later * goes_on
            out[t, r] = later
    return out


unit = st.floats(0, 1, width=32)
clips = st.floats(0, 3, width=32)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), unit, unit, clips, clips)
def test_it_is_the_formula(seed: int, gamma: float, lam: float, rho_clip: float, c_clip: float) -> None:
    data = made_up(seed)
    got = fast(**single(data), gamma=gamma, gae_lambda=lam, rho_clip=rho_clip, c_clip=c_clip)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, transcription(data, gamma, lam, rho_clip, c_clip), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("ends", [False, True])
def test_vtrace_is_the_case_of_lambda_one(ends: bool) -> None:
    """v_s as Espeholt et al. (2018) define it, a sum of products of clipped ratios; an end has discount 0."""
    data = made_up(3)
    data["ended"] &= ends
    assert data["ended"].any() == ends
    gamma, rho_clip, c_clip = 0.9, 1.3, 0.8
    values = np.concatenate([data["value"], data["last_value"][None]])
    rho, c = np.minimum(data["ratio"], rho_clip), np.minimum(data["ratio"], c_clip)
    discount = gamma * ~data["ended"]
    delta = rho * (data["reward"] + discount * values[1:] - values[:-1])
    targets = data["value"].copy()
    for s in range(TIME):
        for t in range(s, TIME):
            targets[s] += np.prod(discount[s:t] * c[s:t], axis=0) * delta[t]
    got = fast(**single(data), gamma=gamma, gae_lambda=1.0, rho_clip=rho_clip, c_clip=c_clip)
    np.testing.assert_allclose(got + jnp.float32(data["value"]), targets, rtol=1e-4, atol=1e-4)


def test_gae_is_the_case_of_ratio_one() -> None:
    data = single(made_up(5))
    data["ratio"] = jnp.ones_like(data["ratio"])
    inputs = {name: data[name] for name in ("reward", "value", "last_value", "ended")}
    expected = gae(**inputs, gamma=0.97, gae_lambda=0.9)
    for clip in (1.0, 2.0):
        got = fast(**data, gamma=0.97, gae_lambda=0.9, rho_clip=clip, c_clip=clip)
        np.testing.assert_allclose(got, expected, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, TIME - 1))
def test_nothing_crosses_an_end(seed: int, at: int) -> None:
    data = made_up(seed)
    data["ended"][at] = True
    before = fast(**single(data), gamma=0.99, gae_lambda=0.95, rho_clip=1.0, c_clip=1.0)
    data["reward"][at + 1 :] += 100.0
    data["value"][at + 1 :] -= 50.0
    data["last_value"] += 7.0
    after = fast(**single(data), gamma=0.99, gae_lambda=0.95, rho_clip=1.0, c_clip=1.0)
    np.testing.assert_array_equal(before[: at + 1], after[: at + 1])


def test_the_last_step_counts() -> None:
    """A rollout cut in two gives the advantages of the whole, given what comes after each part."""
    data = single(made_up(8))
    whole = fast(**data, gamma=0.9, gae_lambda=0.0, rho_clip=1.0, c_clip=1.0)
    first = {name: x[:4] if x.ndim == 2 else data["value"][4] for name, x in data.items()}
    part = puffer_advantage(**first, gamma=0.9, gae_lambda=0.0, rho_clip=1.0, c_clip=1.0)
    np.testing.assert_allclose(part, whole[:4], rtol=1e-6)
    assert float(jnp.abs(part[-1]).min()) > 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(-3, 3, width=32))
def test_it_is_linear_in_rewards_and_values(seed: int, scale: float) -> None:
    one, other = made_up(seed), made_up(seed + 1)
    both = dict(one)
    for name in ("reward", "value", "last_value"):
        both[name] = one[name] + scale * other[name]
    other |= {"ended": one["ended"], "ratio": one["ratio"]}
    settled = {"gamma": 0.95, "gae_lambda": 0.9, "rho_clip": 1.2, "c_clip": 1.1}
    first, second, got = (fast(**single(data), **settled) for data in (one, other, both))
    np.testing.assert_allclose(got, first + jnp.float32(scale) * second, rtol=1e-3, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), clips, clips)
def test_larger_clips_hand_on_more_where_differences_are_not_negative(seed: int, clip: float, more: float) -> None:
    """With no values and rewards of one sign every term grows with either clip; otherwise this is not so."""
    data = made_up(seed)
    data["reward"] = np.abs(data["reward"])
    data["value"] *= 0.0
    data["last_value"] *= 0.0
    settled = {"gamma": 0.95, "gae_lambda": 0.9}
    least = fast(**single(data), **settled, rho_clip=clip, c_clip=clip)
    for rho_clip, c_clip in ((clip + more, clip), (clip, clip + more)):
        got = fast(**single(data), **settled, rho_clip=rho_clip, c_clip=c_clip)
        assert bool((got >= least - 1e-5 * jnp.abs(least)).all())


def test_rho_weights_a_truncated_rest_as_it_does_a_bootstrap() -> None:
    """A truncated step, with the next value in its reward, has the same advantage as if the rollout continued."""
    ratio, value, rest = jnp.float32([[0.4]]), jnp.float32([[2.0]]), jnp.float32([5.0])
    clips = {"gamma": 0.9, "gae_lambda": 0.8, "rho_clip": 1.0, "c_clip": 1.0}
    goes_on = puffer_advantage(jnp.ones((1, 1)), value, rest, jnp.array([[False]]), ratio, **clips)
    cut = puffer_advantage(1.0 + 0.9 * rest[None], value, rest * 0.0, jnp.array([[True]]), ratio, **clips)
    np.testing.assert_allclose(cut, goes_on, rtol=1e-6)
    np.testing.assert_allclose(cut, [[0.4 * (1.0 + 0.9 * 5.0 - 2.0)]], rtol=1e-6)


def test_a_kind_is_a_function_and_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Advantages and policy objectives: another name for the same function trains to the same bits."""
    config = tiny_config(total_steps=1024, update_epochs=4.0)
    expected = train(Corridor(), jax.random.key(0), config).state.params
    monkeypatch.setitem(ADVANTAGES, "mine", ADVANTAGES["gae"])
    monkeypatch.setitem(POLICY_OBJECTIVES, "plain", lambda config, advantage, ratio: advantage * ratio)
    same = train(Corridor(), jax.random.key(0), config.replace(advantage="mine")).state.params
    other = train(Corridor(), jax.random.key(0), config.replace(policy_objective="plain", clip=0.01)).state.params
    chex.assert_trees_all_equal(expected, same)
    assert not np.array_equal(expected["actor"]["kernel"], other["actor"]["kernel"])
    with pytest.raises(ValueError, match="advantage is 'mien'; it must be one of gae, puffer, mine"):
        config.replace(advantage="mien")
