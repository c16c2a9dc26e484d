"""A game of Jumanji in a jitted loop with its own auto-reset, random legal actions; observations are added up."""

import json
import sys

import jax
import jax.numpy as jnp
import jumanji
from jumanji.wrappers import VmapAutoResetWrapper
from players import legal, priorities, random_play
from serve import serve

setting = json.loads(sys.argv[1])


def prepare():
    env = VmapAutoResetWrapper(jumanji.make(setting["env"]))
    n, cycle = setting["num_envs"], setting["cycle"]
    state, first = jax.jit(env.reset)(jax.random.split(jax.random.key(0), n))
    shape = first.observation.action_mask.shape[1:]
    each = n, *shape[: setting["agents"] > 1]  # who chooses: a world, or each of its agents
    table = priorities(cycle, (*each, first.observation.action_mask[0].size // setting["agents"]))

    @jax.jit
    def loop(carry, count):
        def step(i, carry):
            state, before, obs_sum, reward_sum, ended_sum = carry
            mask = before.observation.action_mask.reshape(*each, -1)
            action = legal(mask, table[jax.lax.rem(i, jnp.int32(cycle))])
            if len(shape) > len(each):  # a choice in each of several spaces
                action = jnp.stack(jnp.unravel_index(action, shape), -1)
            state, after = env.step(state, action)
            obs_sum = jax.tree.map(lambda total, x: total + x, obs_sum, after.observation)
            ended = setting["agents"] * jnp.int32(after.last())  # a world's agents end together
            return state, after, obs_sum, reward_sum + after.reward, ended_sum + ended

        return jax.lax.fori_loop(jnp.int32(0), count, step, carry)

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), first.observation)
    carry = state, first, zeros, jnp.zeros_like(first.reward), jnp.zeros(n, jnp.int32)

    def run(steps):
        nonlocal carry
        carry = jax.block_until_ready(loop(carry, jnp.int32(steps)))

    run.play = lambda: random_play(run, lambda: carry, setting["play"])
    return run, n * setting["agents"]


serve(prepare, ("jumanji", "jax", "jaxlib", "numpy"), setting["seconds"])
