"""Our PPO on one environment; a step is one update. Compared with rejax_ppo.py and pufferlib_ppo.py."""

import json
import sys

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from serve import serve

from jaxpuffer import PPOConfig, make
from jaxpuffer.adapters import from_gymnax
from jaxpuffer.config import complete
from jaxpuffer.policy import make_module
from jaxpuffer.ppo import init, update
from jaxpuffer.sharding import AXIS, each_device, init_on, local_config, split_cpu, state_specs, take_devices

setting = json.loads(sys.argv[1])
split_cpu()
mesh = take_devices(setting.get("devices", 1))


def prepare():
    if setting["backend"] == "gymnax":
        env = from_gymnax("CartPole-v1")
    else:
        env = make(setting.get("env", "cartpole"), backend=setting["backend"])
    config = complete(env, None if setting.get("tuned") else PPOConfig()).replace(**setting["config"])
    if mesh is None:
        state, local, axis = jax.jit(init)(env, jax.random.key(0), config), config, None
    else:
        state = init_on(env, jax.random.key(0), config, make_module(env, config), mesh)
        local, axis = local_config(config, mesh), AXIS

    def loop(env, state, config, count):
        return jax.lax.fori_loop(jnp.int32(0), count, lambda _, s: update(env, s, config, axis=axis)[0], state)

    if mesh is not None:
        specs = state_specs(state)
        loop = each_device(loop, mesh, (P(), specs, P(), P()), specs)
    loop = jax.jit(loop, donate_argnums=1)

    def run(updates):
        nonlocal state
        state = jax.block_until_ready(loop(env, state, local, jnp.int32(updates)))

    return run, config.batch_size


serve(prepare, ("jax", "jaxlib", "flax", "optax", "numpy"), setting["seconds"])
