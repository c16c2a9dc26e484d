"""python -m benchmarks.baselines [ENV ...]: train the agents that ship with the environments.

Trains with the tuned configuration and seed 0, rounds the weights to float16 as they
ship, and scores them on the first episodes of 256 fresh environments. Also measures
the score of an untrained agent, and steps per second of the environment alone at 1,024
environments. With --write the weights, the figures and a GIF replace those in the working tree.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

from benchmarks.record import ROOT, particulars, positive, show, use_threads
from benchmarks.sps import measure

NUM_ENVS = 1024
FOLDER = ROOT / "envs_jax" / "baselines"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baselines", description=__doc__)
    parser.add_argument("envs", nargs="*", metavar="ENV", help="environments; default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="replace the files in the working tree")
    parser.add_argument("--speeds", action="store_true", help="only measure steps per second and write them")
    parser.add_argument("--frames", type=positive, default=240, help="most frames of the GIF (%(default)s)")
    args = parser.parse_args()
    threads = use_threads(None)
    from jaxpuffer import list_envs
    from jaxpuffer.baselines import baseline_record, figures_in_words
    from jaxpuffer.registry import check_envs

    check_envs(args.envs, parser.error)
    if args.speeds:
        for name in args.envs or list_envs():
            record = (baseline_record(name) or {}) | {"steps_per_second": speeds(name, threads)}
            record["speeds_measured_on"] = particulars("sps", args.seed, threads)
            print(f"{name}: {', '.join(figures_in_words(record))}", flush=True)
            (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        return
    rows = []
    for name in args.envs or list_envs():
        before = baseline_record(name)
        record = train(name, args.seed, threads, args.frames if args.write else 0)
        shipped = "" if before is None else f"{before['score']['mean']:.2f}"
        score, untrained = record["score"], record["untrained_score"]
        rows.append(
            [
                name,
                f"{untrained['mean']:.2f}",
                f"{score['mean']:.2f} ± {score['standard_error']:.2f}",
                shipped,
                f"{record['train_seconds']:.0f}",
                f"{record['agent_steps'] / 1e6:.1f}",
                *(f"{record['steps_per_second'][backend] / 1e6:.2f}" for backend in ("c", "jax")),
            ]
        )
        print(f"{name}: {', '.join(rows[-1][1:])}", flush=True)
    columns = ["environment", "untrained", "trained", "shipped", "train s", "M steps", "C, M steps/s", "JAX, M steps/s"]
    show(f"Baselines, seed {args.seed}, {threads} threads", columns, rows)


def train(name: str, seed: int, threads: int, frames: int) -> dict[str, Any]:
    """The record of one environment; with frames, the record and the agent are written."""
    import jax

    from jaxpuffer import evaluate, fit, make
    from jaxpuffer.animate import animate
    from jaxpuffer.baselines import load_baseline, save_baseline
    from jaxpuffer.evaluate import evaluation_key
    from jaxpuffer.registry import default_backend

    env = make(name, backend=default_backend())
    key = jax.random.key(seed)
    began = time.perf_counter()
    result = fit(env, key, progress=False)
    seconds = time.perf_counter() - began

    # the agent as it ships
    half = jax.tree.map(lambda x: np.float32(np.float16(x)), result.policy.params)
    policy = result.policy.replace(params=half)
    nothing = policy.replace(params=jax.tree.map(np.zeros_like, half))
    scores = {
        which: evaluate(env, player, evaluation_key(key)).summary()
        for which, player in (("trained", policy), ("untrained", nothing))
    }
    record = {
        "env": name,
        "score": scores["trained"]["score"],
        "perf": scores["trained"]["perf"],
        "unfinished": scores["trained"]["unfinished"],
        "untrained_score": scores["untrained"]["score"],
        "agent_steps": int(result.metrics["agent_steps"][-1]),
        "train_seconds": seconds,  # with compilation
        "parameters": sum(x.size for x in jax.tree.leaves(half)),
        "num_envs": NUM_ENVS,
        "steps_per_second": speeds(name, threads),
        "command": f"python -m benchmarks.baselines {name}" + (f" --seed {seed}" if seed else ""),
        **particulars("baseline", seed, threads),
    }
    if frames:
        FOLDER.mkdir(exist_ok=True)
        save_baseline(env, policy, FOLDER / f"{name}.npz")
        (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        animate(
            make(name), load_baseline(name), evaluation_key(key), steps=frames, path=ROOT / f"docs/pictures/{name}.gif"
        )
    return record


def speeds(name: str, threads: int) -> dict[str, float]:
    """Steps per second of the environment alone, by backend."""
    return {backend: measure(name, backend, NUM_ENVS, threads)["steps_per_second"] for backend in ("c", "jax")}


if __name__ == "__main__":
    main()
