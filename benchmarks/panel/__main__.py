"""python -m benchmarks.panel [TASK ...]: the unchanged defaults, compared with a random and a good player."""

import argparse
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from benchmarks.panel.tasks import TASKS, Task, player_of
from benchmarks.record import particulars, write
from jaxpuffer import PPOConfig, evaluate, rng, train

EPISODES = 256


def played(task: Task, player: Any, key: Array) -> float:
    """The mean score of the first episodes of fresh environments under a player."""
    batch = task.batch(EPISODES)
    key_envs, key_play = jax.random.split(key)

    def step(carried: Any, _: None) -> tuple[Any, None]:
        state, streams, score, finished = carried
        state, step = batch.step(state, jax.vmap(player)(state.env, streams))
        assert step.log is not None
        score = jnp.where(finished, score, step.log.score)
        streams = jax.vmap(lambda s: rng.bits(s)[0])(streams)
        return (state, streams, score, finished | step.ended), None

    def run() -> Array:
        state, _ = batch.reset(key_envs)
        nothing = jnp.zeros(EPISODES, jnp.float32), jnp.zeros(EPISODES, bool)
        return lax.scan(step, (state, rng.seed(key_play, (EPISODES,)), *nothing), length=task.limit)[0][2]

    return float(jax.jit(run)().mean())


def measured(name: str, seeds: int, changes: dict[str, Any]) -> dict[str, Any]:
    """A task's row: the scores of a random player, of a good one, and of each seed's trained policy."""
    task = TASKS[name]()
    scripted = player_of(task)
    good = task.good_return if task.good_return is not None else played(task, scripted, jax.random.key(7))
    config = PPOConfig(**(task.settings | changes))
    scores, began = [], time.perf_counter()
    for seed in range(seeds):
        result = train(task, jax.random.key(seed), config)
        scores.append(float(np.mean(evaluate(task, result.policy, jax.random.key(10_000 + seed)).score)))
    return {
        "task": name,
        "random": played(task, task.player, jax.random.key(8)),
        "good": good,
        "scores": scores,
        "total_steps": config.total_steps,
        "changes": task.settings | changes,
        "seconds": time.perf_counter() - began,
    }


def line(row: dict[str, Any]) -> str:
    """The row of a Markdown table."""
    scores = np.array(row["scores"])
    worst = f"{scores.min():.4g}" + (" (worse than random)" if scores.min() < row["random"] else "")
    cells = f"{row['random']:.4g}", f"{row['good']:.4g}", f"{scores.mean():.4g}", worst, f"{scores.max():.4g}"
    return f"| {row['task']} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.panel", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"tasks to train, of {', '.join(TASKS)}; default all")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--config", action="append", default=[], metavar="FIELD=VALUE", help="change a default")
    parser.add_argument("--json", metavar="FILE", help="write the rows there")
    args = parser.parse_args()
    for name in args.tasks:
        if name not in TASKS:
            parser.error(f"there is no task {name!r} (there are: {', '.join(TASKS)})")
    if args.seeds < 1:
        parser.error(f"--seeds is {args.seeds}; it must be at least 1")
    changes: dict[str, Any] = {}
    for text in args.config:
        field, _, value = text.partition("=")
        try:
            changes[field] = json.loads(value)
        except ValueError:
            changes[field] = value
    try:
        PPOConfig(**changes)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    print("| task | random | good | trained, mean | worst seed | best seed |\n| :-- | --: | --: | --: | --: | --: |")
    rows = []
    for name in args.tasks or TASKS:
        rows.append(measured(name, args.seeds, changes))
        print(line(rows[-1]), flush=True)
        write(args.json, [{**particulars("panel", 0, 0), **row} for row in rows])


if __name__ == "__main__":
    main()
