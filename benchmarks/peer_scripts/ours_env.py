"""One of our environments in a jitted loop, random legal actions; every observation is added up.

Compared with gymnax_cartpole.py, pgx_game.py and jumanji_game.py.
"""

import json
import sys

import jax
import jax.numpy as jnp
from players import legal, priorities, random_play, unmasked
from serve import serve

from jaxpuffer import make

setting = json.loads(sys.argv[1])


def prepare():
    env = make(setting["env"], backend=setting["backend"], **setting.get("params", {}))
    n, cycle = setting["num_envs"], setting["cycle"]
    rows = (n, env.num_agents) if env.num_agents > 1 else (n,)
    state, obs = env.batch(n).reset(jax.random.key(0))
    masked = env.batch(n).action_mask(state) is not None
    table = priorities(cycle, (*rows, env.action_space.n)) if masked else unmasked(cycle, rows, env.action_space.n)

    @jax.jit
    def loop(env, carry, count):
        batch = env.batch(n)

        def step(i, carry):
            state, obs_sum, reward_sum, ended_sum = carry
            drawn = table[jax.lax.rem(i, jnp.int32(cycle))]
            action = legal(batch.action_mask(state), drawn) if masked else drawn
            state, step = batch.step(state, action)
            obs_sum = jax.tree.map(jnp.add, obs_sum, step.obs)
            return state, obs_sum, reward_sum + step.reward, ended_sum + step.ended

        return jax.lax.fori_loop(jnp.int32(0), count, step, carry)

    carry = state, jax.tree.map(jnp.zeros_like, obs), jnp.zeros(rows), jnp.zeros(rows, jnp.int32)

    def run(steps):
        nonlocal carry
        carry = jax.block_until_ready(loop(env, carry, jnp.int32(steps)))

    run.play = lambda: random_play(run, lambda: carry, setting["play"])
    return run, n * env.num_agents


serve(prepare, ("jax", "jaxlib", "numpy"), setting["seconds"])
