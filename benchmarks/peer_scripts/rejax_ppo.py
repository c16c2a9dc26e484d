"""Rejax's PPO on CartPole without its evaluations; a step is one training iteration."""

import json
import sys

import jax
import jax.numpy as jnp
from rejax import PPO
from serve import serve

setting = json.loads(sys.argv[1])


def prepare():
    algorithm = PPO.create(env="CartPole-v1", skip_initial_evaluation=True, **setting["rejax"])
    state = jax.jit(algorithm.init_state)(jax.random.key(0))

    @jax.jit
    def loop(state, count):
        return jax.lax.fori_loop(jnp.int32(0), count, lambda _, s: algorithm.train_iteration(s), state)

    def run(iterations):
        nonlocal state
        state = jax.block_until_ready(loop(state, jnp.int32(iterations)))

    return run, algorithm.iteration_size


serve(prepare, ("rejax", "gymnax", "jax", "jaxlib", "flax", "optax", "numpy"), setting["seconds"])
