"""gymnax's CartPole in a jitted loop, with gymnax's own auto-reset; every observation is added up."""

import json
import sys

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from serve import serve

setting = json.loads(sys.argv[1])


def prepare():
    env, params = gymnax.make("CartPole-v1")
    n = setting["num_envs"]
    actions = jnp.asarray(np.random.default_rng(0).integers(0, 2, (setting["cycle"], n), np.int32))

    @jax.jit
    def loop(carry, count):
        def step(i, carry):
            key, state, obs_sum, reward_sum, ended_sum = carry
            key, now = jax.random.split(key)
            action = actions[jax.lax.rem(i, jnp.int32(len(actions)))]
            obs, state, reward, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
                jax.random.split(now, n), state, action, params
            )
            return key, state, obs_sum + obs, reward_sum + reward, ended_sum + (terminated | truncated)

        return jax.lax.fori_loop(jnp.int32(0), count, step, carry)

    obs, state = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), n), params)
    carry = jax.random.key(1), state, jnp.zeros_like(obs), jnp.zeros(n), jnp.zeros(n, jnp.int32)

    def run(steps):
        nonlocal carry
        carry = jax.block_until_ready(loop(carry, jnp.int32(steps)))

    return run, n


serve(prepare, ("gymnax", "jax", "jaxlib", "numpy"), setting["seconds"])
