"""python -m benchmarks.population ENV: a population of learning rates against as many runs in fresh processes.

One process trains a population whose members have other learning rates, seeds and nothing else; then every member's run
is trained by `fit` in a process of its own, one after the other. A time is that of whole processes: imports, compiling
and training. Without --cache each process compiles everything itself; with it, programs are kept on disk as by the
command line, and only the first process of each kind compiles.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.record import child_environment, particulars, positive, show, use_threads, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.population", description=__doc__)
    parser.add_argument("envs", nargs="+", metavar="ENV")
    parser.add_argument("--members", type=positive, default=16)
    parser.add_argument("--total-steps", type=positive, help="of each member; default the tuned configuration's")
    parser.add_argument("--cache", action="store_true", help="keep compiled programs on disk")
    parser.add_argument("--json", metavar="FILE", help="write the records there")
    parser.add_argument("--member", type=int, help=argparse.SUPPRESS)  # train one of them, or -1: all
    args = parser.parse_args()
    if args.member is not None:
        train(args.envs[0], args.members, args.total_steps, args.member)
        return
    threads, records = use_threads(None), []
    for env in args.envs:
        records.append(compare(env, args.members, args.total_steps, args.cache, threads))
        write(args.json, records)
    rows = [
        [
            r["env"],
            f"{r['members']} of {r['agent_steps'] / 1e6:.2f} M",
            "yes" if r["cache"] else "no",
            f"{r['population_seconds']:.1f}",
            f"{sum(r['process_seconds']):.1f}",
            f"{r['ratio']:.2f}",
        ]
        for r in records
    ]
    columns = ["environment", "members, agent-steps", "cache", "population, s", "one after the other, s", "ratio"]
    show(f"Populations, {threads} threads", columns, rows)


def compare(env: str, members: int, total_steps: int | None, cache: bool, threads: int) -> dict[str, Any]:
    """The record of one environment."""
    about = particulars("population", 0, threads)
    command = [sys.executable, "-m", "benchmarks.population", env, "--members", str(members)]
    command += [] if total_steps is None else ["--total-steps", str(total_steps)]

    with tempfile.TemporaryDirectory() as folder:
        found = {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        environment = child_environment(**(found if cache else {}))

        def seconds(member: int) -> float:
            began = time.perf_counter()
            subprocess.run([*command, "--member", str(member)], env=environment, check=True)
            return time.perf_counter() - began

        together = seconds(-1)
        alone = [seconds(member) for member in range(members)]
    from jaxpuffer import make
    from jaxpuffer.config import complete

    config = complete(make(env), None).replace(**({} if total_steps is None else {"total_steps": total_steps}))
    return {
        "env": env,
        "members": members,
        "agent_steps": config.num_updates * config.batch_size,
        "cache": cache,
        "population_seconds": together,
        "process_seconds": alone,
        "ratio": sum(alone) / together,
        "config": config.to_dict(),
        **about,
    }


def train(name: str, members: int, total_steps: int | None, member: int) -> None:
    """Train one member, or with -1 all of them as a population."""
    import jax

    from jaxpuffer import fit, make
    from jaxpuffer.config import complete
    from jaxpuffer.population import Population
    from jaxpuffer.registry import default_backend

    env = make(name, backend=default_backend())
    config = complete(env, None)
    config = config if total_steps is None else config.replace(total_steps=total_steps)
    rate = float(config.learning_rate)
    configs = [config.replace(learning_rate=rate * 4 ** (2 * i / members - 1)) for i in range(members)]
    if member >= 0:
        fit(env, jax.random.key(member), configs[member], progress=False)
        return
    population = Population(env, config, members)
    for seed, own in enumerate(configs):
        population.add(jax.random.key(seed), own)
    while population.updates_left(0):
        population.advance(64)


if __name__ == "__main__":
    main()
