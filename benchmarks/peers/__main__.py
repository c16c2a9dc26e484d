"""python -m benchmarks.peers: compare with gymnax, Pgx, Jumanji, JaxMARL, Rejax, Gymnasium, EnvPool and PufferLib.

Each peer runs in its own virtual environment, with the same version of JAX. Both
sides compile, then measure alternately, A, B, A, B, while the other one waits. A ratio is
ours over theirs. Rules differ between libraries: a step of Pgx is a move of one
player and a step of ours a move of each; in Jumanji's Tetris a step places a piece and
in ours it moves one.
"""

import argparse
import os
import subprocess
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.peers import envpool, gymnasium, gymnax, jaxmarl, jumanji, pgx, pufferlib, pufferlib_ppo, rejax
from benchmarks.peers.sides import compare, line
from benchmarks.record import ROOT, positive, show, use_threads, write
from benchmarks.tables import random_play

CACHE = ROOT / "build" / "peers"
# each says what to install, which packages to have in our version, and what is compared
PEERS: dict[str, Any] = {
    "gymnax": gymnax,
    "rejax": rejax,
    "gymnasium": gymnasium,
    "pgx": pgx,
    "jumanji": jumanji,
    "jaxmarl": jaxmarl,
    "envpool": envpool,
    "pufferlib": pufferlib,
    "pufferlib-ppo": pufferlib_ppo,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "peers", nargs="*", metavar="PEER", help=f"peers to compare with, of {', '.join(PEERS)}; default all"
    )
    parser.add_argument(
        "--pufferlib", type=Path, metavar="FOLDER", help="the unpacked source distribution of PufferLib 3.0"
    )
    parser.add_argument("--pairs", type=positive, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="least time of one measurement (%(default)s)")
    parser.add_argument("--threads", type=int, help="number of processors that each side may use")
    parser.add_argument("--json", metavar="FILE", help="write the records there")
    args = parser.parse_args()
    if unknown := set(args.peers) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    from_source = {name for name, peer in PEERS.items() if hasattr(peer, "FROM_SOURCE")}
    chosen = args.peers or [peer for peer in PEERS if peer not in from_source or args.pufferlib]
    if from_source & set(chosen) and not (args.pufferlib and (args.pufferlib / "pufferlib" / "ocean").is_dir()):
        parser.error(
            f"--pufferlib is {args.pufferlib}; the peers {' and '.join(sorted(from_source))} need the folder of "
            "its unpacked source distribution"
        )
    if args.pufferlib:
        os.environ["PUFFERLIB_SOURCE"] = str(args.pufferlib.resolve())  # a path of this machine, so it is in no record
    threads = use_threads(args.threads)
    records = []
    for peer in chosen:
        python = environment(peer)
        for comparison in PEERS[peer].comparisons(threads):
            records.append(compare(peer, python, args.pairs, args.seconds, threads, **comparison))
            print(line(records[-1]), flush=True)
            if records[-1]["ours"]["random_play"]:
                sides = (random_play(records[-1][side]["random_play"]) for side in ("ours", "theirs"))
                print("  reward per step of random play (steps per episode): " + " and ".join(sides), flush=True)
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
    """The interpreter of the peer's virtual environment, which is created if it does not exist."""
    folder = CACHE / peer
    python = folder / "bin" / "python"
    wanted = PEERS[peer].INSTALL + [f"{name}=={metadata.version(name)}" for name in PEERS[peer].SAME]
    done = folder / "installed.txt"
    if not done.exists() or done.read_text() != "\n".join(wanted):
        print(f"installing {peer} into {folder}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        done.write_text("\n".join(wanted))
    return python


if __name__ == "__main__":
    main()
