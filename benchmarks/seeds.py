"""python -m benchmarks.seeds ENV: many seeds under vmap, compared with one batch as large as all of theirs.

Both collect the same number of agent-steps per update and take the same number of
gradient steps; they alternate, and the ratio of their speeds is reported.
"""

import argparse
import statistics
import time
from typing import Any

from benchmarks.record import SECONDS, particulars, positive, ratios, show, time_steps, use_threads, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds", description=__doc__)
    parser.add_argument("envs", nargs="+", metavar="ENV")
    parser.add_argument("--seeds", type=positive, default=8, help="number of seeds (%(default)s)")
    parser.add_argument("--backend", choices=("auto", "c", "jax"), default="auto")
    parser.add_argument(
        "--num-envs", type=positive, help="environments of each seed; default the tuned configuration's"
    )
    parser.add_argument("--pairs", type=positive, default=5)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="least time of one measurement (%(default)s)")
    parser.add_argument("--threads", type=int, help="number of processors that the process may use")
    parser.add_argument("--json", metavar="FILE", help="write the records there")
    args = parser.parse_args()
    threads = use_threads(args.threads)
    from jaxpuffer.registry import check_envs

    check_envs(args.envs, parser.error)
    records = []
    for env in args.envs:
        records.append(compare(env, args.seeds, args.backend, args.num_envs, args.pairs, args.seconds, threads))
        write(args.json, records)
    show(
        f"Seeds under vmap against one batch, {threads} threads",
        ["environment", "seeds", "vmapped, M steps/s", "one batch, M steps/s", "ratio", "range"],
        [
            [
                r["env"],
                str(r["num_seeds"]),
                f"{statistics.median(r['vmapped']) / 1e6:.2f}",
                f"{statistics.median(r['one_batch']) / 1e6:.2f}",
                f"{r['ratio']['median']:.2f}",
                f"{r['ratio']['least']:.2f} to {r['ratio']['greatest']:.2f}",
            ]
            for r in records
        ],
    )


def compare(
    name: str, seeds: int, backend: str, num_envs: int | None, pairs: int, seconds: float, threads: int
) -> dict[str, Any]:
    """The record of one environment."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from jaxpuffer import make
    from jaxpuffer.config import complete
    from jaxpuffer.ppo import init, update
    from jaxpuffer.registry import default_backend

    about = particulars("seeds", 0, threads)
    backend = default_backend() if backend == "auto" else backend
    env = make(name, backend=backend)  # type: ignore[arg-type]
    config = complete(env, None)
    if num_envs is not None:
        # as many minibatches as before
        config = config.replace(
            num_envs=num_envs, minibatch_size=max(config.horizon, config.minibatch_size * num_envs // config.num_envs)
        )
    wide = config.replace(num_envs=config.num_envs * seeds, minibatch_size=config.minibatch_size * seeds)
    keys = jax.random.split(jax.random.key(0), seeds)

    def side(vmapped: bool) -> Any:
        chosen = config if vmapped else wide
        first = (lambda k: init(env, k, chosen)) if not vmapped else jax.vmap(lambda k: init(env, k, chosen))

        def one(state: Any) -> Any:
            return update(env, state, chosen)[0]

        def loop(state: Any, count: Any) -> Any:
            body = jax.vmap(one) if vmapped else one
            return lax.fori_loop(jnp.int32(0), count, lambda _, s: body(s), state)

        jitted = jax.jit(loop, donate_argnums=0)
        state = jax.jit(first)(keys if vmapped else keys[0])

        def run(updates: int) -> None:
            nonlocal state
            state = jax.block_until_ready(jitted(state, jnp.int32(updates)))

        began = time.perf_counter()
        run(0)
        return run, time.perf_counter() - began

    (vmapped, vmapped_compile), (one_batch, one_batch_compile) = side(True), side(False)
    timings: dict[str, list[float]] = {"vmapped": [], "one_batch": []}
    updates = {
        "vmapped": time_steps(vmapped, repeats=0, seconds=seconds)[0],
        "one_batch": time_steps(one_batch, repeats=0, seconds=seconds)[0],
    }
    for _ in range(pairs):
        for which, run in (("vmapped", vmapped), ("one_batch", one_batch)):
            began = time.perf_counter()
            run(updates[which])
            timings[which].append(time.perf_counter() - began)
    speeds = {which: [updates[which] * wide.batch_size / t for t in timings[which]] for which in timings}
    return {
        "env": name,
        "backend": backend,
        "num_seeds": seeds,
        "num_envs": config.num_envs,
        "num_agents": env.num_agents,
        "steps_per_second": statistics.median(speeds["vmapped"]),
        "compile_seconds": vmapped_compile,
        "one_batch_compile_seconds": one_batch_compile,
        **speeds,
        "updates": updates,
        "seconds": timings,
        "ratio": ratios(speeds["vmapped"], speeds["one_batch"]),
        "config": config.to_dict(),
        "params": getattr(env, "env", env).to_dict(),
        **about,
    }


if __name__ == "__main__":
    main()
