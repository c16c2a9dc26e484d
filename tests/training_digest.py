"""Train some environments for a few updates in strict mode and print a digest of the parameters of each.

`python tests/training_digest.py [ENV ...]` before and after a change that should not change any result.
"""

import hashlib
import sys

import jax
import numpy as np

from jaxpuffer import make, train
from jaxpuffer.config import tuned_config
from parity import use_mode


def main(names: list[str]) -> None:
    use_mode("strict")
    for name in names:
        for backend in ("c", "jax"):
            env = make(name, backend=backend)
            config = tuned_config(env)
            result = train(env, jax.random.key(0), config.replace(total_steps=3 * config.batch_size))
            digest = hashlib.sha256()
            for leaf in jax.tree.leaves(result.state.params):
                digest.update(np.asarray(leaf).tobytes())
            print(name, backend, digest.hexdigest()[:16], float(result.metrics["score"][-1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["cartpole", "breakout", "snake", "maze"])
