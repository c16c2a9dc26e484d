"""python -m benchmarks.ablations ENV: the full algorithm, and each of its parts left out.

The full algorithm is the tuned configuration with all of PufferLib's parts switched on.
Each arm changes one part of it and is trained at three learning rates, half, once and
twice its own; the seeds of a learning rate are one program under `vmap`. Each agent's
final score is that of the first episodes of 256 fresh environments. For each arm the
learning rate with the best interquartile mean over seeds counts, with a bootstrap
interval of 95 %. Curves show training's own episodes, over steps, and over wall-clock:
steps divided by the speed of one run of that arm, timed alone. Records are written after
each arm; --resume continues with the arms that are not in the file.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, particulars, positive, show, time_steps, use_threads, write

FULL = {"advantage": "puffer", "prioritize": "with_replacement", "value_clip": 0.2, "normalize_advantage": True}
ADAM = {"optimizer": "adam", "momentum": 0.9, "learning_rate": 0.004}
OFF = 1e9  # value of a clip that is never reached
ARMS: dict[str, dict[str, Any]] = {
    "full": {},
    "GAE instead of the puffer advantage": {"advantage": "gae"},
    "no prioritised segments": {"prioritize": "no"},
    "Adam instead of Muon": ADAM,
    "constant learning rate": {"schedule": "constant"},
    "no value clipping": {"value_clip": OFF},
    "advantages not normalised": {"normalize_advantage": False},
    "rewards not clipped": {"reward_clip": OFF},
    "gradients not clipped": {"max_grad_norm": OFF},
    "no entropy bonus": {"entropy_coefficient": 0.0},
    "MinGRU instead of an MLP": {"policy": "mingru"},
    "tuned configuration": {},
}
FACTORS = (0.5, 1.0, 2.0)  # of the arm's learning rate
EVALUATED = 256


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablations", description=__doc__)
    parser.add_argument("env", metavar="ENV")
    parser.add_argument("--seeds", type=int, default=8, help="number of seeds, from 0 on (%(default)s)")
    parser.add_argument(
        "--total-steps", type=positive, help="agent-steps of each run; default the tuned configuration's"
    )
    parser.add_argument(
        "--arms", type=lambda s: s.split(","), default=list(ARMS), help=f"arms to run, of {', '.join(ARMS)}"
    )
    parser.add_argument("--backend", choices=("auto", "c", "jax"), default="auto", help="auto is the faster one here")
    parser.add_argument("--threads", type=int, help="number of processors that the process may use")
    parser.add_argument(
        "--json", metavar="FILE", help="file of the records; default benchmarks/results/ablations-ENV.json"
    )
    parser.add_argument("--figure", metavar="FILE", help="file of the figure; default docs/pictures/ablations-ENV.png")
    parser.add_argument("--retime", action="store_true", help="time all arms again")
    parser.add_argument("--resume", action="store_true", help="continue with the arms that are not in the file")
    args = parser.parse_args()
    if unknown := set(args.arms) - set(ARMS):
        parser.error(f"no such arm: {', '.join(sorted(unknown))} (there are: {', '.join(ARMS)})")
    if args.seeds < 2:
        parser.error(f"--seeds is {args.seeds}; an interval needs at least 2")
    threads = use_threads(args.threads)
    from jaxpuffer.registry import check_envs

    check_envs([args.env], parser.error)
    file = Path(args.json or ROOT / f"benchmarks/results/ablations-{args.env}.json")
    records: list[dict[str, Any]] = json.loads(file.read_text()) if args.resume and file.exists() else []
    same = {"env": args.env, "num_seeds": args.seeds}
    if any(record[key] != value for record in records for key, value in same.items()):
        parser.error(f"{file} was made with other settings than {same}")
    backend = None if args.backend == "auto" else args.backend
    for arm in args.arms:
        if arm in [record["arm"] for record in records]:
            continue
        env, config = chosen(args.env, arm, args.total_steps, backend)
        if config is None:
            print(f"{args.env}, {arm}: already the same, left out", flush=True)
            continue
        records.append({"arm": arm} | train_arm(args.env, env, config, args.seeds, threads))
        print(f"{args.env}, {arm}: {', '.join(row(records[-1])[1:4])}", flush=True)
        write(file, records)
    # one arm after the other, so that all are timed in the same way
    for record in records:
        env, config = chosen(args.env, record["arm"], None, backend)
        if args.retime or "timings" not in record:
            record |= time_alone(env, config)
            write(file, records)
    columns = ["arm", "learning rate", "score", "95 %", "M steps/s alone", "compile s", "other learning rates"]
    show(f"Ablations of {args.env}, {args.seeds} seeds", columns, [row(record) for record in records])
    draw(args.env, records, Path(args.figure or ROOT / f"docs/pictures/ablations-{args.env}.png"))


def chosen(name: str, arm: str, total_steps: int | None, backend: str | None) -> tuple[Any, Any]:
    """Environment and config of an arm; no config if it changes nothing."""
    from jaxpuffer import make
    from jaxpuffer.config import complete
    from jaxpuffer.registry import default_backend

    env = make(name, backend=backend or default_backend())  # type: ignore[arg-type]
    tuned = complete(env, None)
    if total_steps is not None:
        tuned = tuned.replace(total_steps=total_steps)
    full, changes = tuned.replace(**FULL), ARMS[arm]
    choices = {key: value for key, value in changes.items() if isinstance(value, (str, bool))}
    if choices and all(getattr(full, key) == value for key, value in choices.items()):
        return env, None
    return env, tuned if arm == "tuned configuration" else full.replace(**changes)


def train_arm(name: str, env: Any, config: Any, seeds: int, threads: int) -> dict[str, Any]:
    """Train with every seed at every learning rate."""
    import jax
    import jax.numpy as jnp

    from jaxpuffer import evaluate, train
    from jaxpuffer.evaluate import evaluation_key
    from jaxpuffer.statistics import bootstrap_interval, interquartile_mean, thinned

    about = particulars("ablations", 0, threads)
    rates = [float(config.learning_rate) * factor for factor in FACTORS]
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))

    began = time.perf_counter()
    program = jax.jit(jax.vmap(train, in_axes=(None, 0, None))).lower(env, keys, config).compile()
    compile_seconds = time.perf_counter() - began
    runs: list[dict[str, Any]] = []
    for rate in rates:
        began = time.perf_counter()
        result = jax.block_until_ready(program(env, keys, config.replace(learning_rate=rate)))
        seconds = time.perf_counter() - began
        scores = []
        for seed in range(seeds):
            one = jax.tree.map(lambda x, seed=seed: x[seed], result.policy)
            scores.append(evaluate(env, one, evaluation_key(keys[seed]), episodes=EVALUATED).summary()["score"]["mean"])
        curve = np.asarray(result.metrics["score"], np.float64)
        runs.append(
            {
                "learning_rate": rate,
                "scores": scores,
                "interquartile_mean": float(interquartile_mean(np.array(scores), 0)),
                "interval": bootstrap_interval(interquartile_mean, np.array(scores)[:, None]).tolist(),
                "curve": [[None if np.isnan(x) else round(float(x), 3) for x in seed] for seed in thinned(curve)],
                "seconds": seconds,  # of all seeds together
            }
        )

    return {
        "env": name,
        "num_seeds": seeds,
        "agent_steps": config.num_updates * config.batch_size,
        "runs": runs,
        "best": int(np.argmax([run["interquartile_mean"] for run in runs])),
        "compile_seconds": compile_seconds,
        "config": config.to_dict(),
        "params": getattr(env, "env", env).to_dict(),
        "backend": "c" if hasattr(env, "env") else "jax",
        **about,
    }


def time_alone(env: Any, config: Any) -> dict[str, Any]:
    """Steps per second of one run."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from jaxpuffer.ppo import init, update

    @jax.jit
    def loop(env: Any, state: Any, config: Any, count: Any) -> Any:
        return lax.fori_loop(jnp.int32(0), count, lambda _, state: update(env, state, config)[0], state)

    state = jax.jit(init)(env, jax.random.key(0), config)

    def timed(updates: int) -> None:
        jax.block_until_ready(loop(env, state, config, jnp.int32(updates)))

    timed(1)
    updates, timings = time_steps(timed, seconds=1.0)
    return {
        "steps_per_second": updates * config.batch_size / float(np.median(timings)),
        "timings": timings,
        "timed_updates": updates,
    }


def row(record: dict[str, Any]) -> list[str]:
    """One arm as a row of the table."""
    best = record["runs"][record["best"]]
    others = [run for run in record["runs"] if run is not best]
    return [
        record["arm"],
        f"{best['learning_rate']:g}",
        f"{best['interquartile_mean']:.1f}",
        "{:.1f} to {:.1f}".format(*best["interval"]),
        f"{record['steps_per_second'] / 1e6:.2f}" if "timings" in record else "",
        f"{record['compile_seconds']:.1f}",
        ", ".join(f"{run['learning_rate']:g}: {run['interquartile_mean']:.1f}" for run in others),
    ]


def draw(name: str, records: list[dict[str, Any]], file: Path) -> None:
    """Score over steps and over seconds, interquartile mean over seeds; the band is between the quartiles' means."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from jaxpuffer.statistics import interquartile_mean

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5), sharey=True)
    for number, record in enumerate(records):
        best = record["runs"][record["best"]]
        curves = np.array(best["curve"], np.float64)
        known = ~np.isnan(curves).any(0)
        steps = (np.arange(curves.shape[1]) + 1) * record["agent_steps"] / curves.shape[1]
        middle = interquartile_mean(curves[:, known], 0)
        low, high = np.quantile(curves[:, known], (0.25, 0.75), 0)
        look = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
        for axes, x in ((left, steps / 1e6), (right, steps / record["steps_per_second"])):
            axes.plot(x[known], middle, label=record["arm"], **look, linewidth=2.5 if record["arm"] == "full" else 1.2)
            axes.fill_between(x[known], low, high, color=look["color"], alpha=0.08, linewidth=0)
    left.set(xlabel="million agent-steps", ylabel="score of training's episodes", title=name)
    right.set(
        xlabel="seconds, of one run alone", title=f"{records[0]['num_seeds']} seeds, each arm at its best learning rate"
    )
    right.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)


if __name__ == "__main__":
    main()
