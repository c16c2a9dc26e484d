"""Two sides measured alternately: scripts in separate processes, one of ours and one of a peer's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from benchmarks.record import child_environment, particulars, ratios

SCRIPTS = Path(__file__).parents[1] / "peer_scripts"
AGENTS = 1024  # on each side, where games are compared
CYCLE = 32  # arrays of random actions, which are used in a cycle
LONG_CYCLE = 1024  # of them, where random play is compared too: the same few again and again are not random


def powers_of_two(threads: int) -> list[int]:
    """One device, and one for each core, if a minibatch's rows can be split by their number."""
    return list(dict.fromkeys((1, 1 << (threads.bit_length() - 1))))


def counted(devices: int) -> str:
    return f"{devices} device{'s' * (devices > 1)}"


class Side:
    """A script that waits in its own process until it is asked for one measurement."""

    def __init__(self, python: Path | str, script: str, setting: dict[str, Any]) -> None:
        environment = child_environment(JAX_PLATFORMS="cpu")
        if str(python) != sys.executable:  # another environment, and not our packages
            del environment["PYTHONPATH"]
        command = [str(python), str(SCRIPTS / script), json.dumps(setting)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.about = self._answer()

    def ask(self, what: str) -> dict[str, float]:
        """`measure` or `play`: see serve.py."""
        assert self.process.stdin
        self.process.stdin.write(f"{what}\n")
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

    about = particulars("peers", 0, threads)
    with (
        Side(sys.executable, ours[0], {**ours[1], "seconds": seconds}) as a,
        Side(python, theirs[0], {**theirs[1], "seconds": seconds}) as b,
    ):
        measured = [(a.ask("measure"), b.ask("measure")) for _ in range(pairs)]
        played = (a.ask("play"), b.ask("play")) if ours[1].get("play") else ({}, {})

    def side(which: int, server: Side, settings: dict[str, Any]) -> dict[str, Any]:
        speeds = [pair[which]["steps_per_second"] for pair in measured]
        return {
            "median": sorted(speeds)[pairs // 2],
            "steps_per_second": speeds,
            "seconds": [pair[which]["seconds"] for pair in measured],
            "settings": settings,
            "random_play": played[which],
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
