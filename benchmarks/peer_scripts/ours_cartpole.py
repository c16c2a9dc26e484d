"""The JAX CartPole in a jitted loop; every observation is added up. Beside gymnax_cartpole.py."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from serve import serve

from jaxpuffer import make

setting = json.loads(sys.argv[1])


def prepare():
    env = make("cartpole", backend=setting["backend"])
    n = setting["num_envs"]
    actions = jnp.asarray(np.random.default_rng(0).integers(0, 2, (setting["cycle"], n), np.int32))

    @jax.jit
    def loop(env, carry, count):
        def step(i, carry):
            state, obs_sum, reward_sum, ended_sum = carry
            action = actions[jax.lax.rem(i, jnp.int32(len(actions)))]
            state, step = env.batch(n).step(state, action)
            return state, obs_sum + step.obs, reward_sum + step.reward, ended_sum + step.ended

        return jax.lax.fori_loop(jnp.int32(0), count, step, carry)

    state, obs = env.batch(n).reset(jax.random.key(0))
    carry = state, jnp.zeros_like(obs), jnp.zeros(n), jnp.zeros(n, jnp.int32)

    def run(steps):
        nonlocal carry
        carry = jax.block_until_ready(loop(env, carry, jnp.int32(steps)))

    return run, n


serve(prepare, ("jax", "jaxlib", "numpy"), setting["seconds"])
