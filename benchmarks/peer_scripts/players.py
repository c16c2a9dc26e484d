"""Random actions that take both sides of a comparison the same time. Imports neither side's code."""

import jax.numpy as jnp
import numpy as np

INDEX = 512  # more than any game here has actions


def unmasked(cycle, rows, n):
    """Random actions, int32 (cycle, *rows), which are used in a cycle."""
    return jnp.asarray(np.random.default_rng(0).integers(0, n, (cycle, *rows), np.int32))


def priorities(cycle, rows_and_actions):
    """A random rank of each action above its index, int32 (cycle, *rows, actions)."""
    ranks = np.random.default_rng(0).integers(0, 2**20, (cycle, *rows_and_actions), np.int32)
    return jnp.asarray(ranks * INDEX + np.arange(rows_and_actions[-1], dtype=np.int32))


def legal(mask, ranks):
    """A random legal action for each row, int32: the one with the highest rank."""
    return jnp.where(mask, ranks, -1).max(-1) & (INDEX - 1)


def random_play(run, carry, steps):
    """What `run.play` gives: steps, and what they add to the last two of `carry()`, rewards and ended episodes."""
    before = carry()[-2:]
    run(steps)
    return steps, *(float((now - old).sum()) for now, old in zip(carry()[-2:], before, strict=True))
