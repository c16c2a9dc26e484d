"""python -m benchmarks.two_sides: what turns and a league cost in training speed.

Pairs of the same network and batch, each compiled once and then timed in turn, A, B, A, B:

- connect4_two, of which every move of both sides is trained on, against connect4 with a random opponent
  (opponent_depth=0);
- connect4_two against eight frozen opponents on a quarter of the games, against playing itself alone.

A time is that of whole updates, rollout and optimisation, after compilation.
"""

import argparse
import functools
import time
from typing import Any

from benchmarks.record import particulars, positive, ratios, show, use_threads, write

LEAGUE = {"opponents": 8, "share": 0.25}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.two_sides", description=__doc__)
    parser.add_argument("--repeats", type=positive, default=10, help="timings of each (%(default)s)")
    parser.add_argument("--updates", type=positive, default=20, help="updates of a timing (%(default)s)")
    parser.add_argument("--hidden", type=positive, default=128, help="units of the two layers (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the records there")
    args = parser.parse_args()
    threads = use_threads(None)
    from jaxpuffer.config import tuned_config
    from jaxpuffer.registry import default_backend, make

    two = make("connect4_two", backend=default_backend())
    one = make("connect4", backend=default_backend(), opponent_depth=0)
    alone = tuned_config(two).replace(hidden=args.hidden, league={})
    against = alone.replace(league=LEAGUE)
    records = []
    for name, a, b in (
        ("every move of both sides / single-player", (two, alone), (one, alone)),
        (f"league of 8 on {against.league_games} of {against.num_envs} games / none", (two, against), (two, alone)),
    ):
        first, second = timed(a, b, args.updates, args.repeats)
        speeds = [[alone.batch_size * args.updates / s for s in x] for x in (first, second)]
        records.append(
            {
                "pair": name,
                "speeds": speeds,
                "seconds": [first, second],
                **ratios(*speeds),
                "config": against.to_dict(),
                **particulars("two_sides", 0, threads),
            }
        )
        write(args.json, records)
    rows = [
        [
            r["pair"],
            *(f"{sorted(x)[len(x) // 2] / 1e3:,.0f}" for x in r["speeds"]),
            f"{r['median']:.2f} ({r['least']:.2f} to {r['greatest']:.2f})",
        ]
        for r in records
    ]
    title = f"Training, {alone.num_envs} environments, {threads} threads, medians of {args.repeats}"
    show(title, ["A / B", "A, k steps/s", "B, k steps/s", "ratio"], rows)


def timed(a: Any, b: Any, updates: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of `updates` updates of each (environment, config), in turn."""
    import jax

    from jaxpuffer.config import complete
    from jaxpuffer.policy import make_module
    from jaxpuffer.ppo import init, update

    @functools.partial(jax.jit, static_argnames="module", donate_argnames="state")
    def run(env: Any, state: Any, config: Any, module: Any) -> Any:
        return jax.lax.scan(lambda s, _: (update(env, s, config, module)[0], None), state, length=updates)[0]

    sides = []
    for env, chosen in (a, b):
        config = complete(env, chosen)
        module = make_module(env, config)
        state = jax.jit(init, static_argnames="module")(env, jax.random.key(0), config, module)
        sides.append([env, run(env, state, config, module), config, module])
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for side, times in zip(sides, seconds, strict=True):
            jax.block_until_ready(side[1])
            began = time.perf_counter()
            side[1] = jax.block_until_ready(run(*side))
            times.append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()
