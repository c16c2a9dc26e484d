"""Games of two sides that move in turns: signs of advantages, values, and what a policy learns by playing itself."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxpuffer import PPOConfig, rng, train
from jaxpuffer.advantage import gae
from jaxpuffer.env import Env, Outcome, PyTreeNode, param
from jaxpuffer.match import match, wilson
from jaxpuffer.play import collect
from jaxpuffer.players import Random, Scripted
from jaxpuffer.ppo import init
from jaxpuffer.spaces import Box, Discrete

KEY = jax.random.key(0)
MOST = 8  # stones


class Heap(PyTreeNode):
    rng: jax.Array  # uint32 (2,)
    stones: jax.Array  # int32 ()
    side: jax.Array  # int32 (), who moves
    outcome: jax.Array  # int32 (), of side 0
    steps: jax.Array  # int32 ()


class Nim(Env[Heap]):
    """One heap; a side takes one or two stones, and who takes the last one wins.

    Who moves with 3, 6 ... stones loses against perfect play, and wins with any other number.
    With `bonus`, who takes a single stone moves again if the heap is even then.
    """

    worth: float = param(default=1.0)  # of a win
    bonus: bool = param(default=False)
    max_steps: int = param(default=20, minimum=1)

    observation_space: ClassVar[Any] = Box(0.0, 1.0, (MOST + 1,))
    action_space: ClassVar[Any] = Discrete(2)

    def init(self, stream: jax.Array) -> Heap:
        stream, k = rng.below(stream, MOST)
        stream, side = rng.below(stream, 2)
        return Heap(stream, k + 1, side, outcome=jnp.int32(0), steps=jnp.int32(0))

    def transition(self, s: Heap, action: jax.Array) -> tuple[Heap, Outcome]:
        left = jnp.maximum(s.stones - action - 1, 0)
        outcome = jnp.int32(jnp.where(left > 0, 0, jnp.where(s.side == 0, 1, -1)))
        again = self.bonus & (action == 0) & (left % 2 == 0)
        s = s.replace(stones=left, side=jnp.where(again, s.side, 1 - s.side), outcome=outcome, steps=s.steps + 1)
        return s, Outcome(self.worth * jnp.float32(outcome), left == 0, s.steps >= self.max_steps)

    def to_play(self, s: Heap) -> jax.Array:
        return s.side

    def observe(self, s: Heap) -> jax.Array:
        return jnp.float32(jnp.arange(MOST + 1, dtype=jnp.int32) == s.stones)

    def score(self, s: Heap) -> jax.Array:
        return jnp.float32(s.outcome)


def config(**changes: Any) -> PPOConfig:
    return PPOConfig(**{"total_steps": 500_000, "num_envs": 64, "horizon": 32, "gamma": 1.0, "hidden": 64} | changes)


def transcription(reward: Any, value: Any, last: Any, ended: Any, sign: Any, gamma: float, lam: float) -> np.ndarray:
    """delta = r + gamma * sign * V(next) - V and A = delta + gamma * lambda * sign * A(next), in float64."""
    out = np.zeros_like(reward)
    for row in range(reward.shape[1]):
        following, later = last[row], 0.0
        for t in reversed(range(len(reward))):
            goes_on = 0.0 if ended[t, row] else sign[t, row]
            delta = reward[t, row] + gamma * goes_on * following - value[t, row]
            later = delta + gamma * lam * goes_on * later
            following, out[t, row] = value[t, row], later
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_advantages_have_the_sign_of_the_side_that_moves(seed: int, gamma: float, lam: float) -> None:
    draw = np.random.default_rng(seed)
    reward, value = draw.normal(size=(2, 9, 4))
    last, ended, sign = draw.normal(size=4), draw.random((9, 4)) < 0.2, draw.choice([-1.0, 1.0], (9, 4))
    found = gae(*map(jnp.float32, (reward, value, last)), jnp.asarray(ended), gamma, lam, jnp.float32(sign))
    np.testing.assert_allclose(found, transcription(reward, value, last, ended, sign, gamma, lam), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bonus", [pytest.param(False, marks=pytest.mark.full), True])
def test_a_rollout_has_the_movers_rewards_and_signs(bonus: bool) -> None:
    env, few = Nim(worth=5.0, bonus=bonus, max_steps=3), config(num_envs=32, normalize_return=False)
    state = init(env, KEY, few)
    _, rollout, _ = jax.jit(lambda s: collect(env, s.playing(_module(env, few)), s.play, few))(state)
    stones, taken = np.argmax(rollout.obs, -1), np.asarray(rollout.action) + 1
    last = taken >= stones
    np.testing.assert_array_equal(rollout.reward, np.where(last, 5.0, 0.0))  # who takes the last one wins, on any side
    again = bonus & (taken == 1) & ((stones - taken) % 2 == 0)
    np.testing.assert_array_equal(rollout.sign, np.where(again, 1.0, -1.0))
    assert (np.asarray(rollout.truncated) & ~last).any() and (again.any() or not bonus)


def _module(env: Any, config: PPOConfig) -> Any:
    from jaxpuffer.policy import make_module

    return make_module(env, config)


@pytest.mark.parametrize(
    ("worth", "changes"),
    [(1.0, {}), (3e5, {}), pytest.param(1.0, {"advantage": "puffer", "rho_clip": 2.0}, marks=pytest.mark.full)],
)
def test_nim_is_solved_by_playing_oneself(worth: float, changes: dict[str, Any]) -> None:
    env = Nim(worth=worth)
    result = train(env, KEY, config(**changes))
    obs = jnp.eye(MOST + 1)[1:]
    _, distribution, value = result.policy(result.policy.module.initialize_carry(MOST), obs, jnp.ones(MOST, bool), None)
    stones = np.arange(1, MOST + 1)
    loses = stones % 3 == 0
    best = np.where(stones % 3 == 2, 1, 0)  # leave a multiple of three
    chosen = np.asarray(distribution.mode()) if hasattr(distribution, "mode") else np.argmax(distribution.logits, -1)
    matters = ~loses & (stones > 1)  # with one stone any move takes it
    np.testing.assert_array_equal(chosen[matters], best[matters])
    np.testing.assert_allclose(value / worth, np.where(loses, -1.0, 1.0), atol=0.25)


class Perfect(Nim):
    def player(self, s: Heap, stream: jax.Array) -> jax.Array:
        return jnp.int32(s.stones % 3 == 2)


def test_a_match_counts_both_sides() -> None:
    env = Perfect()
    played = match(env, Scripted(), Random(), KEY, games=2000)
    assert played.finished.all() and (played.side == np.arange(2000) % 2).all()
    shares = played.shares()
    assert sum(p for p, _, _ in shares.values()) == pytest.approx(1.0)
    assert shares["wins"][0] > 0.8 and shares["wins"][1] < shares["wins"][0] < shares["wins"][2]
    # the same player on both sides: who begins is drawn, so neither side is better
    low, high = match(env, Scripted(), Scripted(), KEY, games=2000).shares()["wins"][1:]
    assert low < 0.5 < high
    # the other way round is the same match with other games
    other = match(env, Random(), Scripted(), KEY, games=2000).shares()
    assert other["losses"][1] < shares["wins"][0] < other["losses"][2]
    assert "both sides  wins" in str(played)


def test_a_match_needs_two_sides_and_as_many_games_of_each() -> None:
    with pytest.raises(ValueError, match="games is 3; it must be even"):
        match(Nim(), Random(), Random(), KEY, games=3)
    with pytest.raises(ValueError, match=r"CartPole is no game of two sides: it has no to_play"):
        match("cartpole", Random(), Random(), KEY)
    with pytest.raises(TypeError, match="a player is a str"):
        match(Nim(), "random", Random(), KEY)  # type: ignore[arg-type]


def test_wilsons_interval() -> None:
    # worked out by hand: (0.5 + 3.8415 / 20 ± 1.96 sqrt(0.25 / 10 + 3.8415 / 400)) / (1 + 0.38415)
    np.testing.assert_allclose(wilson(5, 10), (0.2366, 0.7634), atol=1e-4)
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == pytest.approx(1.0)
