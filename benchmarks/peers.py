"""python -m benchmarks.peers: environments and PPO beside gymnax, Pgx, Jumanji, Rejax, Gymnasium, EnvPool, PufferLib.

Each peer runs in a virtual environment of its own, with the same version of JAX. Both
sides compile, then measure in turn, A, B, A, B, while the other one waits. A ratio is
ours over theirs. Rules differ from library to library: a step of Pgx is a move of one
player and a step of ours a move of each; in Jumanji's Tetris a step places a piece and
in ours it moves one.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path
from typing import Any, Self

from benchmarks.record import ROOT, child_environment, particulars, positive, ratios, show, use_threads, write

SCRIPTS = Path(__file__).parent / "peer_scripts"
CACHE = ROOT / "build" / "peers"
CYCLE = 32  # arrays of random actions, which come round again
INSTALL = {
    "gymnax": ["gymnax>=1.0.1,<2", "six"],  # six: imported and not declared
    "rejax": ["rejax==0.1.3", "gymnax==0.0.9", "six"],
    "gymnasium": ["gymnasium"],
    "pgx": ["pgx==2.6.0"],
    "jumanji": ["jumanji==1.1.2"],
    "envpool": ["envpool", "gymnasium"],
    "pufferlib": [],  # its C environments are compiled from --pufferlib
    "pufferlib-ppo": [  # and its trainer runs from there: what that needs, which is 5 GB
        *("torch", "heavyball<2", "pyro-ppl", "ninja", "numpy<2", "setuptools<81", "psutil", "pynvml"),
        *("rich", "rich_argparse", "imageio", "gym==0.23", "gymnasium==0.29.1", "pettingzoo==1.24.1"),
        "shimmy[gym-v21]",
    ],
}
# what they have in our version; PufferLib's trainer needs an older NumPy
SAME: dict[str, tuple[str, ...]] = dict.fromkeys(INSTALL, ("jax", "jaxlib"))
SAME |= dict.fromkeys(("gymnasium", "envpool", "pufferlib"), ("numpy",)) | {"pufferlib-ppo": ()}

# theirs; ours, its parameters and how many of its environments have as many agents as one of theirs
GAMES: dict[str, list[tuple[str, str, dict[str, Any], float]]] = {
    "pgx": [
        ("connect_four", "connect4", {"opponent_depth": 0}, 1),
        ("2048", "g2048", {}, 1),
        ("go_9x9", "go", {}, 1),
    ],
    "jumanji": [
        ("Game2048-v1", "g2048", {}, 1),
        ("Tetris-v0", "tetris", {}, 1),
        ("Snake-v1", "snake", {}, 1 / 16),
    ],
}

# of PufferLib's C environments those that are the same game, and our worlds in a batch of 1,024 agents
HEADERS = {"boids": 16, "target": 128} | dict.fromkeys(
    ("breakout", "cartpole", "connect4", "go", "pong", "squared", "tetris", "tripletriad"), 1024
)

# environment, its arguments at PufferLib, policy, minibatch: its own, and PufferLib 3.0's defaults for all else;
# of the algorithm ours has all parts that PufferLib's trainer has, or those of the tuned configuration
TRAINED: list[tuple[str, dict[str, Any], str, int, bool]] = [
    ("breakout", {"frameskip": 4}, "mlp", 8192, False),
    ("breakout", {"frameskip": 4}, "mlp", 8192, True),
    ("cartpole", {"report_interval": 128}, "mlp", 8192, False),
    ("breakout", {"frameskip": 4}, "lstm", 32768, False),
]

# envs, horizon, epochs, minibatches: Rejax's own for CartPole, its defaults, and large batches
PPO_SETTINGS = {
    "repository": (5, 100, 5, 5),
    "defaults": (64, 64, 8, 16),
    "large": (2048, 32, 4, 16),
    "larger": (8192, 32, 4, 16),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(INSTALL)}; default all")
    parser.add_argument(
        "--pufferlib", type=Path, metavar="FOLDER", help="the unpacked source distribution of PufferLib 3.0"
    )
    parser.add_argument("--pairs", type=positive, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="least time of one measurement (%(default)s)")
    parser.add_argument("--threads", type=int, help="confine both sides to so many processors")
    parser.add_argument("--json", metavar="FILE", help="write the records there")
    args = parser.parse_args()
    if unknown := set(args.peers) - set(INSTALL):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    from_source = {"pufferlib", "pufferlib-ppo"}
    chosen = args.peers or [peer for peer in INSTALL if peer not in from_source or args.pufferlib]
    if from_source & set(chosen) and not (args.pufferlib and (args.pufferlib / "pufferlib" / "ocean").is_dir()):
        parser.error(
            f"--pufferlib is {args.pufferlib}; the peers {' and '.join(sorted(from_source))} need the folder of "
            "its unpacked source distribution"
        )
    if args.pufferlib:
        os.environ["PUFFERLIB_SOURCE"] = str(args.pufferlib.resolve())  # of this machine, and so in no record
    threads = use_threads(args.threads)
    records = []
    for peer in chosen:
        python = environment(peer)
        for comparison in comparisons(peer, threads):
            records.append(compare(peer, python, args.pairs, args.seconds, threads, **comparison))
            print(line(records[-1]), flush=True)
            write(args.json, records)
    show(
        f"Ours over theirs, {args.pairs} pairs, {threads} thread{'s' * (threads > 1)}",
        ["comparison", "setting", "ours, M steps/s", "theirs, M steps/s", "ratio", "range"],
        [
            [
                *(r["comparison"], r["setting"]),
                *(f"{r[side]['median'] / 1e6:.2f}" for side in ("ours", "theirs")),
                f"{r['ratio']['median']:.2f}",
                f"{r['ratio']['least']:.2f} to {r['ratio']['greatest']:.2f}",
            ]
            for r in records
        ],
    )


def environment(peer: str) -> Path:
    """The interpreter of the peer's virtual environment, made when it is not there."""
    folder = CACHE / peer
    python = folder / "bin" / "python"
    wanted = INSTALL[peer] + [f"{name}=={metadata.version(name)}" for name in SAME[peer]]
    done = folder / "installed.txt"
    if not done.exists() or done.read_text() != "\n".join(wanted):
        print(f"installing {peer} into {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        done.write_text("\n".join(wanted))
    return python


def comparisons(peer: str, threads: int) -> list[dict[str, Any]]:
    """What is compared with a peer: names, scripts and the settings of both sides."""
    # a device for each core, in a number by which a minibatch's rows can be split
    most = 1 << (threads.bit_length() - 1)
    if peer == "pufferlib":
        from envs_c import _core

        return [
            {
                "comparison": f"{name} in C, ours and PufferLib's header",
                "setting": f"{worlds:,} worlds, 1 thread",
                "env": name,
                "ours": ("ours_c.py", {"env": name, "backend": "c", "num_envs": worlds}),
                "theirs": (
                    "pufferlib_header.py",
                    {"env": name, "num_envs": worlds, "cycle": CYCLE, "flags": _core.FLAGS},
                ),
            }
            for name, worlds in HEADERS.items()
        ]
    if peer == "pufferlib-ppo":
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
            for devices in dict.fromkeys((1, most))
        ]
    if peer == "gymnax":
        return [
            {
                "comparison": f"CartPole, JAX, ours ({backend}) and gymnax",
                "setting": f"{num_envs:,} environments",
                "env": "cartpole",
                "ours": ("ours_env.py", {"env": "cartpole", "backend": backend, "num_envs": num_envs, "cycle": CYCLE}),
                "theirs": ("gymnax_cartpole.py", {"num_envs": num_envs, "cycle": CYCLE}),
            }
            for num_envs in (1024, 8192)
            for backend in ("jax", "c")
        ]
    if peer in ("gymnasium", "envpool"):
        return [
            {
                "comparison": f"CartPole, NumPy, VecEnv and {peer}",
                "setting": f"{num_envs:,} environments",
                "env": "cartpole",
                "ours": ("numpy_cartpole.py", {"peer": None, **size}),
                "theirs": ("numpy_cartpole.py", {"peer": peer, **size}),
            }
            for num_envs in (64, 1024, 8192)
            for size in [{"threads": threads, "num_envs": num_envs, "cycle": CYCLE}]
        ]
    if peer in GAMES:
        return [
            {
                "comparison": f"{name}, ours ({backend}) and {peer}'s {game}",
                "setting": f"{num_envs:,} agents" + "".join(f", {k}={v}" for k, v in params.items()),
                "env": name,
                "ours": (
                    "ours_env.py",
                    {"env": name, "params": params, "num_envs": int(share * num_envs), "backend": backend} | cycle,
                ),
                "theirs": (f"{peer}_game.py", {"env": game, "num_envs": num_envs} | cycle),
            }
            for game, name, params, share in GAMES[peer]
            for num_envs in (1024,)
            for backend in ("jax", "c")
            for cycle in [{"cycle": CYCLE}]
        ]
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
        for backend in ("jax", "c")
        for devices in dict.fromkeys((1, most))
        if envs // minibatches % devices == 0
    ]


def counted(devices: int) -> str:
    return f"{devices} device{'s' * (devices > 1)}"


class Side:
    """A script that waits in a process of its own until it is asked for one measurement."""

    def __init__(self, python: Path | str, script: str, setting: dict[str, Any]) -> None:
        environment = child_environment(JAX_PLATFORMS="cpu")
        if str(python) != sys.executable:  # another environment, and not our packages
            del environment["PYTHONPATH"]
        command = [str(python), str(SCRIPTS / script), json.dumps(setting)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.about = self._answer()

    def measure(self) -> dict[str, float]:
        assert self.process.stdin
        self.process.stdin.write("measure\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError(f"{self.process.args!r} stopped with exit code {self.process.wait()}")
        return json.loads(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def compare(
    peer: str,
    python: Path | str,
    pairs: int,
    seconds: float,
    threads: int,
    comparison: str,
    setting: str,
    env: str,
    ours: tuple[str, dict[str, Any]],
    theirs: tuple[str, dict[str, Any]],
) -> dict[str, Any]:
    """The record of one comparison."""
    from jaxpuffer import make

    about = particulars(0, threads)
    with (
        Side(sys.executable, ours[0], {**ours[1], "seconds": seconds}) as a,
        Side(python, theirs[0], {**theirs[1], "seconds": seconds}) as b,
    ):
        measured = [(a.measure(), b.measure()) for _ in range(pairs)]

    def side(which: int, server: Side, settings: dict[str, Any]) -> dict[str, Any]:
        speeds = [pair[which]["steps_per_second"] for pair in measured]
        return {
            "median": sorted(speeds)[pairs // 2],
            "steps_per_second": speeds,
            "seconds": [pair[which]["seconds"] for pair in measured],
            "settings": settings,
            **server.about,
        }

    sides = {"ours": side(0, a, ours[1]), "theirs": side(1, b, theirs[1])}
    return {
        "env": env,
        "backend": ours[1].get("backend", "numpy"),
        "peer": peer,
        "comparison": comparison,
        "setting": setting,
        "num_envs": ours[1].get("num_envs") or ours[1]["config"]["num_envs"],
        "num_agents": make(env).num_agents,
        "steps_per_second": sides["ours"]["median"],
        "compile_seconds": sides["ours"]["compile_seconds"],
        **sides,
        "ratio": ratios(*(sides[s]["steps_per_second"] for s in ("ours", "theirs"))),
        **about,
    }


def line(record: dict[str, Any]) -> str:
    r = record["ratio"]
    speeds = " and ".join(f"{record[side]['median'] / 1e6:.2f}" for side in ("ours", "theirs"))
    spread = f"{r['least']:.2f} to {r['greatest']:.2f}"
    return f"{record['comparison']}, {record['setting']}: {speeds} M steps/s, ratio {r['median']:.2f} ({spread})"


if __name__ == "__main__":
    main()
