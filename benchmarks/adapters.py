"""python -m benchmarks.adapters [NAME ...]: train on environments of other libraries, and print the scores.

Each run trains with the defaults of PPOConfig except for what is in `TASKS`, then plays the first
episodes of 256 fresh environments with sampled actions. The libraries are in the extra `adapters`.
"""

import argparse
import time
from typing import Any

from benchmarks.record import particulars, show, use_threads, write

# for each name: the adapter, what it wraps, and the fields of PPOConfig that are not the defaults
TASKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gymnax-cartpole": ("from_gymnax", "CartPole-v1", {"total_steps": 2_000_000, "num_envs": 256}),
    "gymnax-breakout": ("from_gymnax", "Breakout-MinAtar", {"total_steps": 10_000_000}),
    "brax-inverted-pendulum": (
        "from_brax",
        "inverted_pendulum",
        {"total_steps": 1_000_000, "num_envs": 256, "horizon": 32},
    ),
    "playground-cartpole": (
        "from_playground",
        "CartpoleBalance",
        {"total_steps": 1_000_000, "num_envs": 256, "horizon": 32},
    ),
    "pgx-tic-tac-toe": ("from_pgx", "tic_tac_toe", {"total_steps": 4_000_000}),
    "pgx-connect-four": ("from_pgx", "connect_four", {"total_steps": 4_000_000}),
    "jumanji-snake": ("from_jumanji", "Snake-v1", {"total_steps": 10_000_000}),
    "jaxmarl-spread": ("from_jaxmarl", "MPE_simple_spread_v3", {"total_steps": 4_000_000, "num_envs": 256}),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(TASKS)}; default all")
    parser.add_argument("--steps", type=float, default=1.0, help="share of the agent-steps (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="number of processors that this process may use")
    parser.add_argument("--json", metavar="FILE", help="write the records there")
    args = parser.parse_args()
    if unknown := set(args.names) - set(TASKS):
        parser.error(f"no such environment: {', '.join(sorted(unknown))}")
    threads = use_threads(args.threads)
    records = []
    for name in args.names or TASKS:
        records.append(run(name, args.seed, args.steps, threads))
        show_one(records[-1])
        write(args.json, records)
    show(
        "Mean score of 256 episodes, with its standard error",
        ["environment", "agent-steps", "untrained", "trained", "seconds"],
        [
            [
                *(r["environment"], f"{r['agent_steps']:,}"),
                *(f"{r[side]['mean']:.3f} ± {r[side]['standard_error']:.3f}" for side in ("untrained", "trained")),
                f"{r['seconds']:.0f}",
            ]
            for r in records
        ],
    )


def run(name: str, seed: int, share: float, threads: int) -> dict[str, Any]:
    """The record of one run; seconds are those of training, compilation included."""
    import jax
    import jax.numpy as jnp

    from jaxpuffer import PPOConfig, adapters, evaluate, train
    from jaxpuffer.evaluate import evaluation_key

    adapter, wrapped, fields = TASKS[name]
    env = getattr(adapters, adapter)(wrapped)
    config = PPOConfig(**(fields | {"total_steps": max(1, int(fields["total_steps"] * share))}))
    key = jax.random.key(seed)
    began = time.perf_counter()
    result = jax.block_until_ready(train(env, key, config))
    seconds = time.perf_counter() - began
    nothing = result.policy.replace(params=jax.tree.map(jnp.zeros_like, result.policy.params))  # uniformly random
    untrained, trained = (evaluate(env, policy, evaluation_key(key)) for policy in (nothing, result.policy))
    return {
        **particulars("adapters", seed, threads),
        **{"environment": name, "config": config.to_dict(), "seconds": seconds},
        "agent_steps": int(result.state.updates) * result.config.batch_size,
        **{"untrained": untrained.summary()["score"], "trained": trained.summary()["score"]},
        "unfinished": trained.unfinished,
    }


def show_one(record: dict[str, Any]) -> None:
    scores = [f"{record[side]['mean']:.3f}" for side in ("untrained", "trained")]
    print(f"{record['environment']}: {scores[0]} untrained, {scores[1]} after {record['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
