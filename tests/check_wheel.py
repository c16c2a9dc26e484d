"""What an installed wheel must do without a compiler: step the C environments over NumPy arrays and train on them.

cibuildwheel runs this on each wheel. By hand, with a Python that has the wheel: `python tests/check_wheel.py`.
"""

import platform
import sys

import jax
import numpy as np

from envs_c import VecEnv
from jaxpuffer import PPOConfig, list_envs, make, train

for name in list_envs():
    env = VecEnv(name, num_envs=8)
    obs, _ = env.reset(seed=1)
    space = env.single_action_space
    actions = np.asarray(space.sample(jax.random.key(0), (8, *env.agent_shape)))
    for _ in range(10):
        obs, reward, *_ = env.step(actions)
    assert np.isfinite(reward).all() and all(np.isfinite(x).all() for x in jax.tree.leaves(obs)), name

config = PPOConfig(total_steps=1024, num_envs=32, horizon=16, minibatch_size=256, hidden=16)
in_c, in_jax = (train(make("cartpole", backend=backend), jax.random.key(0), config).metrics for backend in ("c", "jax"))
assert in_c["score"].shape == (2,)
assert np.isfinite(in_c["policy_loss"]).all() and in_c["episodes"].sum() > 0
np.testing.assert_allclose(in_c["episodes"], in_jax["episodes"], atol=2)  # equal bits need the strict mode
print(
    f"Python {sys.version.split()[0]} on {platform.machine()}, jax {jax.__version__}: the wheel steps and trains in C"
)
