"""PPO on CartPole, by us and by Rejax; if gymnax is installed here, by us also on its CartPole, which is Rejax's."""

from importlib.util import find_spec
from typing import Any

from benchmarks.peers.sides import counted, powers_of_two

INSTALL = ["rejax==0.1.3", "gymnax==0.0.9", "six"]
SAME = ("jax", "jaxlib")  # in our version

# envs, horizon, epochs, minibatches: Rejax's own for CartPole, its defaults, and large batches
PPO_SETTINGS = {
    "repository": (5, 100, 5, 5),
    "defaults": (64, 64, 8, 16),
    "large": (2048, 32, 4, 16),
    "larger": (8192, 32, 4, 16),
}


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    # the same network on both sides: an actor and a critic of two layers of 64 each, tanh
    return [
        {
            "comparison": f"PPO on CartPole, ours ({backend}, {counted(devices)}) and Rejax",
            "env": "cartpole",
            "setting": f"{name}: {envs} x {horizon}, {epochs} epochs of {minibatches}",
            "ours": (
                "ours_ppo.py",
                {
                    **{"backend": backend, "devices": devices},
                    "config": {
                        **{"num_envs": envs, "horizon": horizon, "update_epochs": epochs},
                        "minibatch_size": envs * horizon // minibatches,
                        **{"layers": 2, "hidden": 64, "activation": "tanh", "separate_critic": True},
                        **{"optimizer": "adam", "schedule": "constant"},
                        **{"learning_rate": 7.5e-4, "momentum": 0.9, "max_grad_norm": 0.5, "gamma": 0.99},
                        **{"gae_lambda": 0.95, "value_coefficient": 0.5, "entropy_coefficient": 0.01},
                    },
                },
            ),
            "theirs": (
                "rejax_ppo.py",
                {
                    "rejax": {
                        **{"num_envs": envs, "num_steps": horizon, "num_epochs": epochs},
                        **{"num_minibatches": minibatches, "agent_kwargs": {"activation": "tanh"}},
                        **{"learning_rate": 7.5e-4, "max_grad_norm": 0.5, "gamma": 0.99, "gae_lambda": 0.95},
                        **{"clip_eps": 0.2, "ent_coef": 0.01, "vf_coef": 0.5},
                    }
                },
            ),
        }
        for name, (envs, horizon, epochs, minibatches) in PPO_SETTINGS.items()
        for backend in ("jax", "c", *(["gymnax"] if find_spec("gymnax") else []))
        for devices in powers_of_two(threads)
        if envs // minibatches % devices == 0
    ]
