"""Tic-tac-toe, which a table solves: what a policy that has only played itself knows of it."""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpuffer import PPOConfig, train
from jaxpuffer.env import Env, Outcome, PyTreeNode
from jaxpuffer.match import match
from jaxpuffer.players import Random, Scripted
from jaxpuffer.spaces import Box, Discrete

CELLS = 9
LINES = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]])
POWERS = 3 ** np.arange(CELLS)


def line(stones: tuple[bool, ...]) -> bool:
    return any(all(stones[i] for i in one) for one in LINES.tolist())


@functools.cache
def value(own: tuple[bool, ...], theirs: tuple[bool, ...]) -> int:
    """1, 0 or -1 for the side that moves, when both play perfectly."""
    if line(theirs):
        return -1
    free = [i for i in range(CELLS) if not own[i] and not theirs[i]]
    return max((-value(theirs, with_stone(own, i)) for i in free), default=0)


def with_stone(own: tuple[bool, ...], cell: int) -> tuple[bool, ...]:
    return (*own[:cell], True, *own[cell + 1 :])


def solved() -> tuple[np.ndarray, np.ndarray]:
    """By code of the position: the value, and which moves keep it, bool (3^9, 9); NaN where nobody can move."""
    nothing = (False,) * CELLS
    values, best, waiting = np.full(3**CELLS, np.nan), np.zeros((3**CELLS, CELLS), bool), [(nothing, nothing)]
    while waiting:
        own, theirs = waiting.pop()
        code = POWERS @ (np.array(own) + 2 * np.array(theirs))
        free = [i for i in range(CELLS) if not own[i] and not theirs[i]]
        if not free or line(theirs) or not np.isnan(values[code]):
            continue
        values[code] = value(own, theirs)
        for i in free:
            best[code, i] = -value(theirs, with_stone(own, i)) == values[code]
            waiting.append((theirs, with_stone(own, i)))
    return values, best


VALUES, BEST = solved()


class Position(PyTreeNode):
    rng: jax.Array  # uint32 (2,)
    own: jax.Array  # bool (9,), stones of the side that moves
    theirs: jax.Array  # bool (9,)
    steps: jax.Array  # int32 ()
    outcome: jax.Array  # int32 (), of side 0


class TicTacToe(Env[Position]):
    observation_space: ClassVar[Any] = Box(0.0, 1.0, (2, CELLS))
    action_space: ClassVar[Any] = Discrete(CELLS)
    bots: ClassVar[tuple[str, ...]] = ("perfect",)

    def init(self, stream: jax.Array) -> Position:
        nothing = jnp.zeros(CELLS, bool)
        return Position(stream, nothing, nothing, steps=jnp.int32(0), outcome=jnp.int32(0))

    def transition(self, s: Position, action: jax.Array) -> tuple[Position, Outcome]:
        own = s.own | (jnp.arange(CELLS, dtype=jnp.int32) == action)
        won = own[LINES].all(1).any()
        outcome = jnp.int32(won) * jnp.where(s.steps % 2 == 0, 1, -1)
        s = s.replace(own=s.theirs, theirs=own, steps=s.steps + 1, outcome=jnp.int32(outcome))
        return s, Outcome(jnp.float32(outcome), terminated=won | (s.steps == CELLS), truncated=jnp.bool_(False))

    def to_play(self, s: Position) -> jax.Array:
        return s.steps % 2

    def observe(self, s: Position) -> jax.Array:
        return jnp.float32(jnp.stack([s.own, s.theirs]))

    def action_mask(self, s: Position) -> jax.Array:
        return ~(s.own | s.theirs)

    def score(self, s: Position) -> jax.Array:
        return jnp.float32(s.outcome)

    def bot(self, s: Position, stream: jax.Array, name: str) -> jax.Array:
        """Any of the perfect moves."""
        code = (jnp.int32(POWERS) * (jnp.int32(s.own) + 2 * jnp.int32(s.theirs))).sum()
        good = jnp.asarray(BEST)[code]
        return jax.random.categorical(jax.random.wrap_key_data(stream), jnp.where(good, 0.0, -jnp.inf)).astype(
            jnp.int32
        )


def test_the_table_is_the_known_one() -> None:
    assert VALUES[0] == 0 and BEST[0].all()  # a draw, from any first move
    assert np.isfinite(VALUES).sum() == 4520  # positions of the 5,478 in which somebody moves
    # a corner is answered by the center alone
    np.testing.assert_array_equal(np.flatnonzero(BEST[2 * POWERS[0]]), [4])


def test_self_play_does_not_lose_to_perfect_play(record_property: Any) -> None:
    env, key = TicTacToe(), jax.random.key(0)
    config = PPOConfig(
        total_steps=3_000_000,
        num_envs=256,
        horizon=16,
        gamma=1.0,
        hidden=64,
        layers=2,
        learning_rate=0.02,
        entropy_coefficient=0.2,  # with little of it both sides play few lines, and never see the others
        normalize_advantage=False,
        normalize_observation=False,
        normalize_return=False,
    )
    result = train(env, key, config)
    for opponent in (Scripted("perfect"), Random()):
        played = match(env, result, opponent, jax.random.key(1), games=1000, deterministic=True)
        losses = played.shares()["losses"][0]
        record_property(f"lost games of 1,000 against {opponent}", 1000 * losses)
        assert losses == 0.0
    won = match(env, result, Random(), jax.random.key(2), games=1000, deterministic=True).shares()["wins"][0]
    assert won > 0.85

    # V is that of the policy with its entropy, which gives some games away
    codes = np.flatnonzero(np.isfinite(VALUES))
    cells = codes[:, None] // POWERS % 3
    obs = jnp.float32(np.stack([cells == 1, cells == 2], 1))
    _, _, found = result.policy(
        result.policy.module.initialize_carry(len(codes)), obs, jnp.ones(len(codes), bool), None
    )
    found = np.asarray(found)
    error = float(np.abs(found - VALUES[codes]).mean())
    record_property("mean absolute error of V over all positions", error)
    assert error < 0.45
    lost, drawn, won = (found[VALUES[codes] == outcome].mean() for outcome in (-1, 0, 1))
    assert lost < drawn - 0.2 and drawn < won - 0.2
    assert found[codes == 0] == pytest.approx(0.0, abs=0.25)
