"""A game of Pgx in a jitted loop with its own auto-reset, random legal moves of both sides; observations added up."""

import json
import sys

import jax
import jax.numpy as jnp
import pgx
from pgx.experimental import auto_reset
from players import legal, priorities
from serve import serve

setting = json.loads(sys.argv[1])


def prepare():
    env = pgx.make(setting["env"])
    n, cycle = setting["num_envs"], setting["cycle"]
    table = priorities(cycle, (n, env.num_actions))
    reset_and_step = jax.vmap(auto_reset(env.step, env.init))

    @jax.jit
    def loop(carry, count):
        def step(i, carry):
            key, state, obs_sum, reward_sum, ended_sum = carry
            key, now = jax.random.split(key)
            action = legal(state.legal_action_mask, table[jax.lax.rem(i, jnp.int32(cycle))])
            state = reset_and_step(state, action, jax.random.split(now, n))
            ended = jnp.int32(state.terminated | state.truncated)
            return key, state, obs_sum + state.observation, reward_sum + state.rewards, ended_sum + ended

        return jax.lax.fori_loop(jnp.int32(0), count, step, carry)

    state = jax.vmap(env.init)(jax.random.split(jax.random.key(0), n))
    zeros = jnp.zeros(state.observation.shape, jnp.float32)
    carry = jax.random.key(1), state, zeros, jnp.zeros_like(state.rewards), jnp.zeros(n, jnp.int32)

    def run(steps):
        nonlocal carry
        carry = jax.block_until_ready(loop(carry, jnp.int32(steps)))

    return run, n


serve(prepare, ("pgx", "jax", "jaxlib", "numpy"), setting["seconds"])
