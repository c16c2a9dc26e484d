"""python -m benchmarks.train ENV ...: training with the tuned configuration, one fresh process per seed.

Time to a score counts from the start of that process (including imports, compilation and
evaluations) to the first evaluation of 256 episodes that reaches it. The run
stops once an evaluation exceeds it by two standard errors, or at its end, and is evaluated once
more with another key. That score is reported; if it is below the target, the run has
failed. Training speed excludes compilation and evaluations. The shares of time are those
of an update's parts, each timed separately.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import child_environment, particulars, show, use_threads, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("envs", nargs="+", metavar="ENV")
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default=list(range(10)))
    parser.add_argument("--backend", choices=("auto", "c", "jax"), default="auto", help="auto is the faster one here")
    parser.add_argument("--until", type=float, metavar="SCORE", help="stop at this evaluated score")
    parser.add_argument("--threads", type=int, help="number of processors that each process may use")
    parser.add_argument(
        "--devices", type=int, default=1, help="number of devices that share the environments (%(default)s)"
    )
    parser.add_argument(
        "--config",
        type=field,
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="fields of PPOConfig to change; default tuned",
    )
    parser.add_argument(
        "--no-shares",
        action="store_true",
        help="do not time the parts of an update, each of which is a program to compile",
    )
    parser.add_argument("--json", metavar="FILE", help="write the records there")
    parser.add_argument("--worker", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    threads = use_threads(args.threads)  # the fresh processes inherit them
    if args.worker:
        how = args.backend, args.devices, args.until, dict(args.config), not args.no_shares, args.began, threads
        try:
            record = train_once(args.envs[0], args.seeds[0], *how)
        except ValueError as error:  # from a flag: the next seed would fail too
            parser.error(str(error))
        Path(args.worker).write_text(json.dumps(record))
        return
    from jaxpuffer.registry import check_envs

    check_envs(args.envs, parser.error)
    records = []
    for env in args.envs:
        for seed in args.seeds:
            records.append(in_fresh_process(env, seed, args))
            print(line(records[-1]), flush=True)
            write(args.json, records)
    summarise(records)
    sys.exit(any("error" in record for record in records))


def field(text: str) -> tuple[str, Any]:
    """NAME=VALUE as a name and a JSON value; a word that is not JSON is kept as text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} has no value; it must be NAME=VALUE")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def in_fresh_process(env: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """The record of one run, timed from before its interpreter starts."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.json"
        command = [sys.executable, "-m", "benchmarks.train", env, "--seeds", str(seed), "--backend", args.backend]
        command += ["--until", str(args.until)] if args.until is not None else []
        command += ["--devices", str(args.devices)]
        command += ["--no-shares"] if args.no_shares else []
        command += ["--config", *(f"{name}={json.dumps(value)}" for name, value in args.config)] if args.config else []
        # a cache of compiled programs would hide the compilation
        environment = child_environment(JAX_ENABLE_COMPILATION_CACHE="false")
        began = time.time()
        done = subprocess.run([*command, "--worker", str(file), "--began", repr(began)], env=environment)
        if done.returncode == 2:
            sys.exit(2)
        if done.returncode:
            return {"env": env, "seed": seed, "until": args.until, "error": f"exit code {done.returncode}"}
        return json.loads(file.read_text()) | {"process_seconds": time.time() - began}


def train_once(
    name: str,
    seed: int,
    backend: str,
    devices: int,
    until: float | None,
    changes: dict[str, Any],
    shares: bool,
    began: float,
    threads: int,
) -> dict[str, Any]:
    """One run in this process, which started at `time.time() == began`."""
    import jax

    from jaxpuffer import evaluate, fit, make
    from jaxpuffer.config import complete
    from jaxpuffer.evaluate import evaluation_key
    from jaxpuffer.profile import time_shares
    from jaxpuffer.registry import default_backend
    from jaxpuffer.sharding import split_cpu, take_devices

    split_cpu()
    mesh = take_devices(devices)
    backend = default_backend() if backend == "auto" else backend
    env = make(name, backend=backend)  # type: ignore[arg-type]
    try:
        config = complete(env, None).replace(**changes)
    except TypeError as error:  # an unknown name, a value of a wrong type
        raise ValueError(f"--config: {error}") from error
    key = jax.random.key(seed)
    import_seconds = time.time() - began
    chunks: list[dict[str, float]] = []
    when: list[float] = []

    def log(_: int, means: dict[str, float]) -> None:
        chunks.append(means)
        when.append(time.time() - began)

    result = fit(env, key, config, log=log, progress=False, stop_at_score=until, mesh=mesh)
    score = evaluate(env, result.policy, evaluation_key(key)).summary()
    total = time.time() - began
    # if no evaluation during training reached the score, the last one may have
    reached = [
        t
        for t, c in zip(when, chunks, strict=True)
        if until is not None and c.get("evaluated_score", -math.inf) >= until
    ] or [total]
    solved = until is not None and score["score"]["mean"] >= until
    training = sum(c["chunk_seconds"] for c in chunks)
    # with evaluations during training, the time between the chunks is not only the host's
    between = 0.0 if until is not None else when[-1] - import_seconds - chunks[0]["compile_seconds"] - training
    # the parts are timed on one device
    parts = {}
    if shares and mesh is None:
        parts = time_shares(env, result.state, config, host=between / (between + training))
    if until is not None:
        parts.pop("host", None)
    return {
        "env": name,
        "backend": backend,
        "devices": devices,
        "num_envs": config.num_envs,
        "num_agents": config.num_agents,
        "policy": f"{config.policy} {config.hidden}x{config.layers}",
        "parameters": sum(x.size for x in jax.tree.leaves(result.policy.params)),
        "steps_per_second": chunks[-1]["agent_steps"] / training,
        "compile_seconds": chunks[0]["compile_seconds"],
        "import_seconds": import_seconds,
        "training_seconds": training,
        "time_shares": parts,
        "total_seconds": total,  # cold: from the start of the process to the score of the trained policy
        "agent_steps": chunks[-1]["agent_steps"],
        "score": score["score"]["mean"],
        "score_standard_error": score["score"]["standard_error"],
        "evaluation": score,
        "until": until,
        "seconds_to_score": reached[0] if solved else None,
        "seconds_after_compiling": reached[0] - import_seconds - chunks[0]["compile_seconds"] if solved else None,
        "chunks": [
            {
                "seconds": t,
                **{
                    name: c[name]
                    for name in ("agent_steps", "chunk_seconds", "score", "evaluated_score")
                    if math.isfinite(c.get(name, math.nan))
                },
            }
            for t, c in zip(when, chunks, strict=True)
        ],
        "config": config.to_dict(),
        "params": getattr(env, "env", env).to_dict(),
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        **particulars("train", seed, threads),
    }


def line(record: dict[str, Any]) -> str:
    """One run as a line of text."""
    from jaxpuffer.profile import shares_line

    if "error" in record:
        return f"{record['env']} seed {record['seed']}: {record['error']}"
    r = record
    text = (
        f"{r['env']} seed {r['seed']} ({r['backend']}): {r['steps_per_second'] / 1e6:.2f} M steps/s, "
        f"score {r['score']:.2f} ± {r['score_standard_error']:.2f} after {r['agent_steps'] / 1e6:.2f} M steps, "
        f"compile {r['compile_seconds']:.1f} s, cold total {r['total_seconds']:.1f} s"
    )
    if r["time_shares"]:
        text += f", {shares_line(r['time_shares'])}"
    if record["until"] is None:
        return text
    seconds = record["seconds_to_score"]
    if seconds is None:
        return f"{text}, {record['until']:g} NOT REACHED"
    return f"{text}, {record['until']:g} after {seconds:.1f} s, {record['seconds_after_compiling']:.1f} s from compiled"


def summarise(records: list[dict[str, Any]]) -> None:
    """Medians, all times, and how many failed."""
    rows = []
    for env in dict.fromkeys(record["env"] for record in records):
        runs = [record for record in records if record["env"] == env]
        good = [record for record in runs if "error" not in record]
        if not good:
            rows.append([env, "", "", "", "", "", f"{len(runs)} of {len(runs)}"])
            continue

        def median(name: str, runs: list[dict[str, Any]] = good) -> float:
            return statistics.median(record[name] for record in runs)

        # a run that failed counts as infinite in the median
        times = [record.get("seconds_to_score") or math.inf for record in runs]
        failed = sum(map(math.isinf, times)) if runs[0]["until"] is not None else len(runs) - len(good)
        rows.append(
            [
                env,
                f"{median('steps_per_second') / 1e6:.2f}",
                f"{median('score'):.2f}",
                f"{statistics.median(times):.1f} ({', '.join(f'{t:.1f}' for t in times)})"
                if runs[0]["until"] is not None
                else "",
                f"{median('compile_seconds'):.1f}",
                f"{median('total_seconds'):.1f}",
                f"{failed} of {len(runs)}",
            ]
        )
    columns = ["medians", "M steps/s", "score", "s to score (each)", "compile s", "cold total s", "failed"]
    show(f"Training, load average {os.getloadavg()[0]:.1f}", columns, rows)


if __name__ == "__main__":
    main()
