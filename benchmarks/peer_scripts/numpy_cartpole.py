"""CartPole over NumPy arrays, stepped from Python: Gymnasium's vector environment, EnvPool, or envs_c.VecEnv."""

import json
import sys

import numpy as np
from serve import serve

setting = json.loads(sys.argv[1])


def prepare():
    n = setting["num_envs"]
    if setting["peer"] == "gymnasium":
        from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

        env = CartPoleVectorEnv(num_envs=n, max_episode_steps=500)
        env.reset(seed=0)
        dtype = env.single_action_space.dtype
    elif setting["peer"] == "envpool":
        import envpool

        env = envpool.make_gymnasium("CartPole-v1", num_envs=n, num_threads=setting["threads"])
        env.reset()
        dtype = env.action_space.dtype
    else:
        from envs_c import VecEnv

        env = VecEnv("cartpole", n, threads=setting["threads"])
        env.reset(seed=0)
        dtype = env.single_action_space.dtype
    actions = np.random.default_rng(0).integers(0, 2, (setting["cycle"], n), dtype)

    def run(steps):
        for i in range(steps):
            env.step(actions[i % len(actions)])

    return run, n


packages = [setting["peer"], "numpy"] if setting["peer"] else ["numpy"]
serve(prepare, tuple(packages), setting["seconds"])
