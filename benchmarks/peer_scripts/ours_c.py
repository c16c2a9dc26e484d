"""One of our C environments in a loop in C, on one thread. Compared with pufferlib_header.py."""

import json
import sys

from serve import serve

from benchmarks.sps import Numpy, draw_actions
from envs_c import VecEnv
from jaxpuffer import make

setting = json.loads(sys.argv[1])


def prepare():
    name, worlds, params = setting["env"], setting["num_envs"], setting.get("params", {})
    env = make(name, **params)
    run = Numpy(name, worlds, 1, draw_actions(env, worlds, 0), 0, params)

    def play():
        # from Python, and every action is a new one
        vec = VecEnv(name, worlds, **params)
        vec.reset(seed=0)
        steps = rewards = ended = 0
        while steps < setting["play"]:
            for actions in draw_actions(env, worlds, steps + 1):
                _, reward, terminated, truncated, _ = vec.step(actions)
                steps += 1
                rewards += float(reward.sum())
                ended += int((terminated | truncated).sum())
        return steps, rewards, ended

    run.play = play
    return run, worlds * env.num_agents


serve(prepare, ("jax", "numpy"), setting["seconds"])
