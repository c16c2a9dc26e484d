"""python -m benchmarks.gpu: training on an accelerator, batch size by batch size, and its roofline.

Breakout in JAX with a MinGRU of 64, 2 deep, everything in one program. For each number of
environments it measures steps per second of whole updates, and for the largest number the roofline.
XLA itself counts the floating-point operations and bytes of a policy step and of a gradient step,
in programs that have no loop over time. The peaks are measured here: a
product of large matrices and a copy. The time of an ideal machine is the larger
of operations over peak and bytes over peak.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.record import particulars, positive, positives, show, time_steps, use_threads, write

NETWORK = {"policy": "mingru", "hidden": 64, "layers": 2}
MATRIX = 8192  # rows of the matrices whose product gives the peak
COPIED = 2**30  # bytes of the array whose copy gives the other peak
SIZE_COLUMNS = ["environments", "minibatch", "M steps/s", "update, ms", "compile s"]
ROOFLINE_COLUMNS = ["part", "times", "GFLOP", "GB", "ideal, ms", "measured, ms", "share of ideal"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--env", default="breakout")
    parser.add_argument("--num-envs", type=positives, default=[1024, 4096, 16384, 65536, 131072])
    parser.add_argument("--horizon", type=positive, default=64)
    parser.add_argument("--minibatches", type=positive, default=16, help="minibatches of an update (%(default)s)")
    parser.add_argument(
        "--matrix",
        type=positive,
        default=MATRIX,
        help="rows of the matrices that are multiplied to measure the peak (%(default)s)",
    )
    parser.add_argument(
        "--copied", type=positive, default=COPIED, help="bytes that are copied to measure the peak (%(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the records there")
    args = parser.parse_args()
    threads = use_threads(None)
    from jaxpuffer.registry import check_envs

    check_envs([args.env], parser.error)
    # an accelerator's programs take long to compile, on one core each: compile all at once, measure one by one
    with ThreadPoolExecutor() as pool:
        prepared = list(pool.map(lambda n: prepare(args.env, n, args.horizon, args.minibatches), args.num_envs))
    records = []
    for one in prepared:
        records.append({"env": args.env, **measure(*one, threads)})
        write(args.json, records)
    roof = timed_roofline(args.env, args.num_envs[-1], args.horizon, args.minibatches, args.matrix, args.copied)
    records[-1]["roofline"] = roof
    write(args.json, records)
    show(f"Training {args.env} on {records[0]['device']}", SIZE_COLUMNS, size_rows(records))
    envs, rows = args.num_envs[-1], roofline_rows(roof)
    show(f"Roofline of an update of {envs:,} environments ({peaks_in_words(roof)})", ROOFLINE_COLUMNS, rows)


def size_rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each number of environments."""
    return [
        [
            f"{r['num_envs']:,}",
            f"{r['minibatch_size']:,}",
            f"{r['steps_per_second'] / 1e6:.2f}",
            f"{r['update_seconds'] * 1e3:.2f}",
            f"{r['compile_seconds']:.1f}",
        ]
        for r in records
    ]


def roofline_rows(roof: dict[str, Any]) -> list[list[str]]:
    """A row for each part of an update."""
    return [
        [
            name,
            str(part["times"]),
            f"{part['flops'] / 1e9:.2f}",
            f"{part['bytes'] / 1e9:.3f}",
            f"{part['ideal_seconds'] * 1e3:.2f}",
            f"{part['seconds'] * 1e3:.2f}",
            f"{part['ideal_seconds'] / part['seconds']:.0%}",
        ]
        for name, part in roof["parts"].items()
    ]


def peaks_in_words(roof: dict[str, Any]) -> str:
    return f"peaks: {roof['peak_flops'] / 1e12:.2f} TFLOP/s, {roof['peak_bytes'] / 1e9:.0f} GB/s"


def chosen(name: str, num_envs: int, horizon: int, minibatches: int) -> tuple[Any, Any]:
    """Environment and config."""
    from jaxpuffer import make
    from jaxpuffer.config import complete

    env = make(name)
    minibatch = num_envs * env.num_agents * horizon // minibatches
    return env, complete(env, None).replace(
        num_envs=num_envs, horizon=horizon, minibatch_size=minibatch, update_epochs=1.0, **NETWORK
    )


def prepare(name: str, num_envs: int, horizon: int, minibatches: int) -> tuple[Any, Any, float]:
    """The config, a function that makes a given number of updates, and the seconds that compiling took."""
    import time

    import jax
    import jax.numpy as jnp
    from jax import lax

    from jaxpuffer.ppo import init, update

    env, config = chosen(name, num_envs, horizon, minibatches)

    def loop(state: Any, env: Any, config: Any, count: Any) -> Any:
        return lax.fori_loop(jnp.int32(0), count, lambda _, state: update(env, state, config)[0], state)

    state = jax.block_until_ready(jax.jit(init)(env, jax.random.key(0), config))
    began = time.perf_counter()
    compiled = jax.jit(loop).lower(state, env, config, jnp.int32(1)).compile()
    compile_seconds = time.perf_counter() - began

    def run(updates: int) -> None:
        jax.block_until_ready(compiled(state, env, config, jnp.int32(updates)))

    return config, run, compile_seconds


def measure(config: Any, run: Any, compile_seconds: float, threads: int) -> dict[str, Any]:
    """Steps per second of whole updates."""
    import statistics

    import jax

    about = particulars("sizes", 0, threads)
    run(1)
    updates, timings = time_steps(run)
    seconds = statistics.median(timings) / updates
    return {
        "num_envs": config.num_envs,
        "minibatch_size": config.minibatch_size,
        "steps_per_second": config.batch_size / seconds,
        "update_seconds": seconds,
        "updates": updates,
        "seconds": timings,
        "compile_seconds": compile_seconds,  # at the same time as the others
        "config": config.to_dict(),
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        **about,
    }


def timed_roofline(
    name: str, num_envs: int, horizon: int, minibatches: int, matrix: int, copied: int
) -> dict[str, Any]:
    """The operations and bytes of the parts of an update, the time that they take, and the peaks of the machine."""
    import jax

    from jaxpuffer.ppo import init
    from jaxpuffer.profile import profile

    env, config = chosen(name, num_envs, horizon, minibatches)
    seconds = profile(env, jax.jit(init)(env, jax.random.key(0), config), config)
    peak_flops, peak_bytes = peaks(matrix, copied)
    parts = costs(name, num_envs, horizon, minibatches)
    for part, cost in parts.items():
        ideal = max(cost["flops"] / peak_flops, cost["bytes"] / peak_bytes)
        cost |= {"ideal_seconds": ideal, "seconds": seconds[part]}
    return {"peak_flops": peak_flops, "peak_bytes": peak_bytes, "parts": parts, "part_seconds": seconds}


def costs(name: str, num_envs: int, horizon: int, minibatches: int) -> dict[str, dict[str, float]]:
    """Operations and bytes of an update's parts, as XLA counts them, and how often each part's program runs."""
    import jax

    from jaxpuffer.advantage import gae
    from jaxpuffer.loss import loss
    from jaxpuffer.play import collect
    from jaxpuffer.policy import make_module
    from jaxpuffer.ppo import init
    from jaxpuffer.recurrence import WRITTEN_OUT

    # the recurrence over time in one piece: XLA counts only one iteration of a loop
    env, config = chosen(name, num_envs, horizon, minibatches)
    if jax.default_backend() == "cpu" or horizon > WRITTEN_OUT:
        config = config.replace(scan="parallel")
    state = jax.eval_shape(init, env, jax.random.key(0), config)
    policy = state.policy(make_module(env, config))
    rollout = jax.eval_shape(collect, env, policy, state.play, config)[1]
    width = config.minibatch_size // config.horizon

    def step(envs: Any, action: Any) -> Any:
        return env.batch(num_envs).step(envs, action)

    def act(policy: Any, carry: Any, obs: Any, reset: Any, streams: Any) -> Any:
        carry, distribution, value = policy(carry, obs, reset, None)
        return carry, value, distribution.sample(streams)

    def gradient(params: Any, carry: Any, rollout: Any) -> Any:
        minibatch = jax.tree.map(lambda x: x[:, :width], rollout)
        advantage = gae(
            minibatch.reward, minibatch.value, minibatch.value[-1], minibatch.ended, config.gamma, config.gae_lambda
        )
        target = advantage + minibatch.value
        return jax.grad(loss, has_aux=True)(params, policy, config, carry, minibatch, advantage, target)

    def first(tree: Any) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tree)

    carry = jax.tree.map(lambda x: jax.ShapeDtypeStruct((width, *x.shape[1:]), x.dtype), state.play.carry)
    programs: dict[str, Any] = {
        "environment": (step, (state.play.envs, first(rollout.action)), config.horizon),
        "policy": (
            act,
            (policy, state.play.carry, state.play.obs, state.play.reset, state.play.streams),
            config.horizon,
        ),
        "optimization": (gradient, (state.params, carry, rollout), config.gradient_steps),
    }
    found = {}
    for part, (function, operands, times) in programs.items():
        cost = jax.jit(function).lower(*operands).compile().cost_analysis()
        assert cost is not None
        found[part] = {"times": times, "flops": cost["flops"] * times, "bytes": cost["bytes accessed"] * times}
    return found


def peaks(matrix: int, copied: int) -> tuple[float, float]:
    """Operations and bytes per second that this device reached: in a float32 product by JAX, and in a copy."""
    import statistics

    import jax
    import jax.numpy as jnp

    square = jnp.ones((matrix, matrix), jnp.float32)
    array = jnp.ones(copied // 4, jnp.float32)
    product, shifted = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1.0)
    rates = []
    for function, operand, amount in ((product, square, 2.0 * matrix**3), (shifted, array, 2.0 * copied)):
        jax.block_until_ready(function(operand))

        def run(times: int, function: Any = function, operand: Any = operand) -> None:
            for _ in range(times):
                out = function(operand)
            jax.block_until_ready(out)

        times, timings = time_steps(run)
        rates.append(amount * times / statistics.median(timings))
    return rates[0], rates[1]


if __name__ == "__main__":
    main()
