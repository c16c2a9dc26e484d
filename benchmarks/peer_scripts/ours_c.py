"""One of our C environments in a loop in C, on one thread. Compared with pufferlib_header.py."""

import json
import sys

from serve import serve

from benchmarks.sps import Numpy, draw_actions
from jaxpuffer import make

setting = json.loads(sys.argv[1])


def prepare():
    name, worlds = setting["env"], setting["num_envs"]
    env = make(name)
    play = Numpy(name, worlds, 1, draw_actions(env, worlds, 0), 0, {})
    return play, worlds * env.num_agents


serve(prepare, ("jax", "numpy"), setting["seconds"])
