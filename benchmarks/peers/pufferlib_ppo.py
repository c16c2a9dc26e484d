"""PPO on C environments, by us and by PufferLib 3.0's own trainer, which runs from its source."""

from typing import Any

from benchmarks.peers.sides import counted, powers_of_two

# its dependencies, which are 5 GB
INSTALL = [
    *("torch", "heavyball<2", "pyro-ppl", "ninja", "numpy<2", "setuptools<81", "psutil", "pynvml"),
    *("rich", "rich_argparse", "imageio", "gym==0.23", "gymnasium==0.29.1", "pettingzoo==1.24.1"),
    "shimmy[gym-v21]",
]
SAME = ()  # it needs an older NumPy
FROM_SOURCE = True

# environment, its arguments in PufferLib, policy, minibatch: its own, and PufferLib 3.0's defaults otherwise;
# our algorithm has all parts that PufferLib's trainer has, or those of the tuned configuration
TRAINED: list[tuple[str, dict[str, Any], str, int, bool]] = [
    ("breakout", {"frameskip": 4}, "mlp", 8192, False),
    ("breakout", {"frameskip": 4}, "mlp", 8192, True),
    ("cartpole", {"report_interval": 128}, "mlp", 8192, False),
    ("breakout", {"frameskip": 4}, "lstm", 32768, False),
]


def comparisons(threads: int) -> list[dict[str, Any]]:
    """Names, scripts and the settings of both sides."""
    from envs_c import _core

    return [
        {
            "comparison": f"PPO on {name}, {policy}, ours (c, {counted(devices)}) and PufferLib",
            "setting": f"1,024 x 64, minibatch {minibatch:,}, {'tuned' if tuned else 'all parts of the'} algorithm",
            "env": name,
            "ours": (
                "ours_ppo.py",
                {
                    **{"env": name, "backend": "c", "devices": devices, "tuned": tuned},
                    "config": {
                        **{"num_envs": 1024, "horizon": 64, "minibatch_size": minibatch, "policy": policy},
                        **({} if tuned else {"advantage": "puffer", "prioritize": "without_replacement"}),
                    },
                },
            ),
            "theirs": (
                "pufferlib_ppo.py",
                {
                    **{"env": name, "lstm": policy == "lstm", "hidden": 128, "flags": _core.FLAGS},
                    "arguments": {"num_envs": 1024, **arguments},
                    "train": {"bptt_horizon": 64, "minibatch_size": minibatch},
                },
            ),
        }
        for name, arguments, policy, minibatch, tuned in TRAINED
        for devices in powers_of_two(threads)
    ]
