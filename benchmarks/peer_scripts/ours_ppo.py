"""PPO on the JAX or C CartPole; a step is one update. Beside rejax_ppo.py."""

import json
import sys

import jax
import jax.numpy as jnp
from serve import serve

from jaxpuffer import PPOConfig, make
from jaxpuffer.ppo import init, update

setting = json.loads(sys.argv[1])


def prepare():
    env = make("cartpole", backend=setting["backend"])
    config = PPOConfig(**setting["config"])
    state = jax.jit(init)(env, jax.random.key(0), config)

    @jax.jit
    def loop(env, state, config, count):
        return jax.lax.fori_loop(jnp.int32(0), count, lambda _, s: update(env, s, config)[0], state)

    def run(updates):
        nonlocal state
        state = jax.block_until_ready(loop(env, state, config, jnp.int32(updates)))

    return run, config.batch_size


serve(prepare, ("jax", "jaxlib", "flax", "optax", "numpy"), setting["seconds"])
