"""Train some environments for a few updates in strict mode and print a digest of the parameters of each.

`python tests/training_digest.py [ENV ...]` before and after a change that should not alter what is computed.
"""

import hashlib
import sys

from parity import use_mode

use_mode("strict")

import jax
import numpy as np

from jaxpuffer import make, train
from jaxpuffer.ppo import tuned_config

for name in sys.argv[1:] or ["cartpole", "breakout", "snake", "maze"]:
    for backend in ("c", "jax"):
        env = make(name, backend=backend)
        config = tuned_config(env)
        batch = config.num_envs * config.num_agents * config.horizon
        result = train(env, jax.random.key(0), config.replace(total_steps=3 * batch))
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(result.state.params):
            digest.update(np.asarray(leaf).tobytes())
        print(name, backend, digest.hexdigest()[:16], float(result.metrics["score"][-1]), flush=True)
