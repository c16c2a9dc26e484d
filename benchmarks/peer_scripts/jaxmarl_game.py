"""A game of JaxMARL in a jitted loop with its own auto-reset, random actions; observations are added up."""

import json
import sys

import jax
import jax.numpy as jnp
from players import random_play, unmasked
from serve import serve

setting = json.loads(sys.argv[1])


def prepare():
    import jaxmarl  # it prints

    env = jaxmarl.make(setting["env"])
    n, cycle = setting["num_envs"], setting["cycle"]
    obs, state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), n))
    table = unmasked(cycle, (len(env.agents), n), env.action_space(env.agents[0]).n)

    def stacked(by_name):
        return jnp.stack([by_name[name] for name in env.agents])

    @jax.jit
    def loop(carry, count):
        def step(i, carry):
            key, state, obs_sum, reward_sum, ended_sum = carry
            key, now = jax.random.split(key)
            action = dict(zip(env.agents, table[jax.lax.rem(i, jnp.int32(cycle))], strict=True))
            obs, state, reward, done, _ = jax.vmap(env.step)(jax.random.split(now, n), state, action)
            obs_sum = jax.tree.map(lambda total, x: total + x, obs_sum, obs)
            ended = jnp.broadcast_to(done["__all__"], (len(env.agents), n))
            return key, state, obs_sum, reward_sum + stacked(reward), ended_sum + jnp.int32(ended)

        return jax.lax.fori_loop(jnp.int32(0), count, step, carry)

    rows = len(env.agents), n
    carry = jax.random.key(1), state, jax.tree.map(jnp.zeros_like, obs), jnp.zeros(rows), jnp.zeros(rows, jnp.int32)

    def run(steps):
        nonlocal carry
        carry = jax.block_until_ready(loop(carry, jnp.int32(steps)))

    run.play = lambda: random_play(run, lambda: carry, setting["play"])
    return run, n * len(env.agents)


serve(prepare, ("jaxmarl", "jax", "jaxlib", "numpy"), setting["seconds"])
