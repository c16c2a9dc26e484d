"""python -m benchmarks.length_generalisation: what agents of the Turing tape learned at short lengths, at longer ones.

Trains agents of each policy with several seeds on all tasks, with lengths from 1 to --length, and evaluates
each of them on every task at each of --lengths: the share of the answer that it writes in the first episodes of 256
fresh environments. The configuration is the tuned one, apart from the policy. The figure has a panel for each
task. Lines are means over seeds, bands go from the lowest seed to the highest. Records are written after each
agent; --resume continues with those that are not in the file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, particulars, positive, positives, show, use_threads, write

TASKS = ("copy", "reverse", "add", "sort")
LENGTHS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]  # to evaluate at
LENGTH, SEEDS = 4, 3  # greatest length in training, which is the default of the environment; number of seeds
POLICIES = ("mingru", "lstm", "mlp")
EVALUATED = 256


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.length_generalisation", description=__doc__)
    parser.add_argument("--length", type=positive, default=LENGTH, help="greatest length in training (%(default)s)")
    parser.add_argument(
        "--lengths", type=positives, default=LENGTHS, help=f"lengths to evaluate at ({','.join(map(str, LENGTHS))})"
    )
    parser.add_argument("--policies", type=lambda s: s.split(","), default=["mingru"], help="of " + ", ".join(POLICIES))
    parser.add_argument("--seeds", type=positive, default=SEEDS, help="number of seeds, from 0 on (%(default)s)")
    parser.add_argument("--shipped", action="store_true", help="train none, and evaluate the agent that ships")
    parser.add_argument("--total-steps", type=positive, help="steps of each run; default the tuned configuration's")
    parser.add_argument("--backend", choices=("auto", "c", "jax"), default="auto", help="auto is the faster one here")
    parser.add_argument("--threads", type=int, help="number of processors that the process may use")
    parser.add_argument("--json", metavar="FILE", default=str(ROOT / "benchmarks/results/length-generalisation.json"))
    parser.add_argument("--figure", metavar="FILE", default=str(ROOT / "docs/pictures/length-generalisation.png"))
    parser.add_argument("--resume", action="store_true", help="continue with the agents that are not in the file")
    args = parser.parse_args()
    if unknown := set(args.policies) - set(POLICIES):
        parser.error(f"no such policy: {', '.join(sorted(unknown))} (there are: {', '.join(POLICIES)})")
    if args.shipped and (args.length, args.policies, args.seeds) != (LENGTH, ["mingru"], SEEDS):
        parser.error("--shipped takes neither --length nor --policies nor --seeds: that agent is trained already")
    threads = use_threads(args.threads)
    from envs_jax.turing import MAX_LENGTH

    if max(args.length, *args.lengths) > MAX_LENGTH:
        parser.error(f"a length is above {MAX_LENGTH}, the most that the tape of a Turing environment has room for")
    file = Path(args.json)
    records: list[dict[str, Any]] = json.loads(file.read_text()) if args.resume and file.exists() else []
    same = {"trained_length": args.length, "lengths": args.lengths}
    if any(record[key] != value for record in records for key, value in same.items()):
        parser.error(f"{file} was made with other settings than {same}")
    for policy in args.policies:
        for seed in range(1 if args.shipped else args.seeds):
            if (policy, seed) in [(record["policy"], record["seed"]) for record in records]:
                continue
            about = particulars("length generalisation", seed, threads)
            agent = shipped() if args.shipped else trained(policy, seed, args.length, args.total_steps, args.backend)
            records.append(tested(*agent, seed, args.lengths) | about)
            print(f"{policy}, seed {seed}: {', '.join(row(records[-1])[2:])}", flush=True)
            write(file, records)
    show(
        f"Share of the answer, trained at lengths 1 to {args.length}",
        ["policy", "seed", *(f"{task} at {args.lengths[-1]}" for task in TASKS), "train s"],
        [row(record) for record in records],
    )
    draw(records, Path(args.figure))


def trained(policy: str, seed: int, length: int, total_steps: int | None, backend: str) -> tuple[Any, Any, dict]:
    """Environment, policy and what the record says about its training."""
    import jax

    from jaxpuffer import make, train
    from jaxpuffer.config import complete
    from jaxpuffer.registry import default_backend

    where: Any = default_backend() if backend == "auto" else backend
    env = make("turing", backend=where, length=length, max_length=length)
    config = complete(env, None).replace(policy=policy)
    if total_steps is not None:
        config = config.replace(total_steps=total_steps)
    began = time.perf_counter()
    result = jax.block_until_ready(train(env, jax.random.key(seed), config))
    about = {
        "agent_steps": config.num_updates * config.batch_size,
        "train_seconds": time.perf_counter() - began,  # with compilation
        "policy": policy,
        "trained_length": length,
        "config": config.to_dict(),
    }
    return env, result.policy, about


def shipped() -> tuple[Any, Any, dict]:
    """The same of the agent that ships, which was trained with seed 0."""
    from jaxpuffer import make
    from jaxpuffer.baselines import baseline_record, load_baseline
    from jaxpuffer.config import complete
    from jaxpuffer.registry import default_backend

    env = make("turing", backend=default_backend())
    record = baseline_record("turing")
    if record is None:
        raise SystemExit("no agent ships with turing; python -m benchmarks.baselines turing --write trains it")
    config = complete(env, None)
    about = {name: record[name] for name in ("agent_steps", "train_seconds")}
    about |= {"policy": config.policy, "trained_length": LENGTH, "config": config.to_dict()}
    return env, load_baseline("turing"), about


def tested(env: Any, policy: Any, about: dict[str, Any], seed: int, lengths: list[int]) -> dict[str, Any]:
    """The record of an agent: its results on each task at each length."""
    import jax

    from jaxpuffer import evaluate
    from jaxpuffer.evaluate import evaluation_key

    perf: dict[str, list[float]] = {}
    for number, task in enumerate(TASKS):
        envs = [env.replace(max_length=max(lengths), task=number, length=n, vary_length=0) for n in lengths]
        key = evaluation_key(jax.random.key(seed))
        perf[task] = [float(evaluate(one, policy, key, episodes=EVALUATED).perf.mean()) for one in envs]
    return about | {"lengths": lengths, "perf": perf, "episodes": EVALUATED}


def row(record: dict[str, Any]) -> list[str]:
    """One agent as a row of the table: its results at the greatest length."""
    shares = [f"{record['perf'][task][-1]:.3f}" for task in TASKS]
    return [record["policy"], str(record["seed"]), *shares, f"{record['train_seconds']:.0f}"]


def draw(records: list[dict[str, Any]], file: Path) -> None:
    """Perf over length, a panel for each task, a line for each policy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lengths, trained = records[0]["lengths"], records[0]["trained_length"]
    figure, panels = pyplot.subplots(1, len(TASKS), figsize=(13, 3.6), sharey=True)
    for task, axes in zip(TASKS, panels, strict=True):
        axes.axvspan(min(lengths) / 1.2, trained, color="black", alpha=0.07, linewidth=0, label="lengths in training")
        for number, policy in enumerate(dict.fromkeys(record["policy"] for record in records)):
            perf = np.array([record["perf"][task] for record in records if record["policy"] == policy])
            look: dict[str, Any] = {"color": f"C{number}"}
            label = policy if len(perf) == 1 else f"{policy}, {len(perf)} seeds"
            axes.plot(lengths, perf.mean(0), marker="o", markersize=4, label=label, **look)
            axes.fill_between(lengths, perf.min(0), perf.max(0), alpha=0.15, linewidth=0, **look)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="length", title=task, xlim=(min(lengths) / 1.2, max(lengths) * 1.2), ylim=(0, 1.03))
        axes.set_xticks([n for n in lengths if n & (n - 1) == 0])
        axes.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    panels[0].set_ylabel("share of the answer")
    panels[0].legend(fontsize="small", loc="lower left")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)


if __name__ == "__main__":
    main()
