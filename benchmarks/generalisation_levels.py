"""python -m benchmarks.generalisation_levels: agents trained on few levels or many, on levels that they have not seen.

The protocol of Procgen (Cobbe et al., 2020, arXiv 1912.01588). For each number of --levels and each seed an agent is
trained on that many levels, and then plays the first episodes of 256 fresh environments on the training levels and
on 10,000 others. Every seed has training levels of its own. The configuration is the tuned one, with --total-steps.
Lines are means over seeds, bands go from the lowest seed to the highest. Records are written after each agent;
--resume continues with those that are not in the file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, particulars, positive, positives, show, use_threads, write

LEVELS = [10, 30, 100, 300, 1000]  # to train on
SEEDS, TOTAL_STEPS = 3, 3_000_000
EVALUATED = 256
UNSEEN = 10_000  # levels that no agent is trained on
FIRST_UNSEEN = 1_000_000_000  # number of the first of them; training levels are below
PARTS = {"training": "training levels", "unseen": "unseen levels"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generalisation_levels", description=__doc__)
    parser.add_argument("--env", default="platformer", help="an environment that has levels (%(default)s)")
    parser.add_argument(
        "--levels", type=positives, default=LEVELS, help=f"numbers of levels ({','.join(map(str, LEVELS))})"
    )
    parser.add_argument("--seeds", type=positive, default=SEEDS, help="number of seeds, from 0 on (%(default)s)")
    parser.add_argument("--total-steps", type=positive, default=TOTAL_STEPS, help="steps of each run (%(default)s)")
    parser.add_argument("--backend", choices=("auto", "c", "jax"), default="auto", help="auto is the faster one here")
    parser.add_argument("--threads", type=int, help="number of processors that the process may use")
    parser.add_argument("--json", metavar="FILE", help="default benchmarks/results/generalisation-ENV.json")
    parser.add_argument("--figure", metavar="FILE", help="default docs/pictures/generalisation-ENV.png")
    parser.add_argument("--resume", action="store_true", help="continue with the agents that are not in the file")
    args = parser.parse_args()
    threads = use_threads(args.threads)
    from jaxpuffer.registry import check_envs, env_class

    check_envs([args.env], parser.error)
    if not hasattr(env_class(args.env)(), "first_level"):
        parser.error(f"{args.env} has no levels")
    file = Path(args.json or ROOT / f"benchmarks/results/generalisation-{args.env}.json")
    records: list[dict[str, Any]] = json.loads(file.read_text()) if args.resume and file.exists() else []
    if any((record["env"], record["total_steps"]) != (args.env, args.total_steps) for record in records):
        parser.error(f"{file} was made with other settings than {args.env} and {args.total_steps} steps")
    for levels in args.levels:
        for seed in range(args.seeds):
            if (levels, seed) in [(record["levels"], record["seed"]) for record in records]:
                continue
            about = particulars("generalisation over levels", seed, threads)
            records.append(measured(args.env, levels, seed, args.total_steps, args.backend) | about)
            print(f"{levels} levels, seed {seed}: {', '.join(row(records[-1])[2:])}", flush=True)
            write(file, records)
    show(
        f"Score of {args.env} by levels trained on",
        ["levels", "seed", *PARTS.values(), "train s"],
        [row(record) for record in records],
    )
    draw(records, Path(args.figure or ROOT / f"docs/pictures/generalisation-{args.env}.png"))


def measured(name: str, levels: int, seed: int, total_steps: int, backend: str) -> dict[str, Any]:
    """The record of an agent: it is trained, and plays on both kinds of levels."""
    import jax

    from jaxpuffer import evaluate, make, train
    from jaxpuffer.config import complete
    from jaxpuffer.evaluate import evaluation_key
    from jaxpuffer.registry import default_backend

    where: Any = default_backend() if backend == "auto" else backend
    env = make(name, backend=where, levels=levels, first_level=seed * levels)
    config = complete(env, None).replace(total_steps=total_steps)
    key = jax.random.key(seed)
    began = time.perf_counter()
    result = jax.block_until_ready(train(env, key, config))
    seconds = time.perf_counter() - began
    played = {"training": env, "unseen": env.replace(levels=UNSEEN, first_level=FIRST_UNSEEN)}
    results = {
        part: evaluate(env, result.policy, evaluation_key(key), episodes=EVALUATED) for part, env in played.items()
    }
    return {
        "env": name,
        "levels": levels,
        "score": {part: float(found.score.mean()) for part, found in results.items()},
        "episodes": EVALUATED,
        "total_steps": total_steps,
        "agent_steps": config.num_updates * config.batch_size,
        "train_seconds": seconds,  # with compilation
        "config": config.to_dict(),
    }


def row(record: dict[str, Any]) -> list[str]:
    """One agent as a row of the table."""
    scores = [f"{record['score'][part]:.3f}" for part in PARTS]
    return [str(record["levels"]), str(record["seed"]), *scores, f"{record['train_seconds']:.0f}"]


def draw(records: list[dict[str, Any]], file: Path) -> None:
    """Both scores over the number of training levels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    levels = sorted({record["levels"] for record in records})
    figure, axes = pyplot.subplots(figsize=(6.5, 4))
    for number, (part, label) in enumerate(PARTS.items()):
        scores = [np.array([r["score"][part] for r in records if r["levels"] == n]) for n in levels]
        look: dict[str, Any] = {"color": f"C{number}"}
        axes.plot(levels, [x.mean() for x in scores], marker="o", markersize=4, label=label, **look)
        low, high = [x.min() for x in scores], [x.max() for x in scores]
        axes.fill_between(levels, low, high, alpha=0.15, linewidth=0, **look)
    seeds = len({record["seed"] for record in records})
    axes.set_xscale("log")
    axes.set_xticks(levels, [f"{n:,}" for n in levels])
    axes.minorticks_off()
    axes.set(xlabel="levels trained on", ylabel=f"score, {seeds} seeds", title=records[0]["env"], ylim=(0, None))
    axes.legend(loc="lower right")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)


if __name__ == "__main__":
    main()
