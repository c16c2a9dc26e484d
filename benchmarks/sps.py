"""python -m benchmarks.sps [ENV ...]: steps per second of the environments alone.

Three ways to step the same batch with the same actions from the same streams: `c`, the
batch function of envs_c in a loop in C; `ffi`, the same function inside a jitted loop;
`jax`, the JAX port inside a jitted loop. All write observations, rewards, end flags
and logs of each step and add up the rewards. A checksum of the states, the last
observations and the rewards after the first steps shows that they did the same work.
"""

import argparse
import hashlib
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.record import REPEATS, SECONDS, particulars, positive, positives, show, time_steps, use_threads, write

if TYPE_CHECKING:
    from jax import Array

BACKENDS = ("c", "ffi", "jax")
CHECKED_STEPS = 600  # before the timing; beyond CartPole's time limit
ACTION_ENTRIES = 2**18  # number of random actions that are prepared and used in a cycle: they fit a cache


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sps", description=__doc__)
    parser.add_argument("envs", nargs="*", metavar="ENV", help="environments; default all")
    parser.add_argument(
        "--backends", type=lambda s: s.split(","), default=list(BACKENDS), help="backends to measure, of c,ffi,jax"
    )
    parser.add_argument("--num-envs", type=positives, default=[1, 64, 1024, 8192], help="numbers of worlds")
    parser.add_argument(
        "--threads", type=int, help="number of processors that the process may use, set before JAX starts"
    )
    parser.add_argument("--strict", action="store_true", help="compile like C; exit 1 unless the checksums are equal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=positive, default=REPEATS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="least time of a repeat (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the records there")
    args = parser.parse_args()
    if unknown := set(args.backends) - set(BACKENDS):
        parser.error(f"no such backend: {', '.join(sorted(unknown))}")
    threads = use_threads(args.threads)
    if args.strict:
        from parity import use_mode

        use_mode("strict")
    from jaxpuffer import list_envs
    from jaxpuffer.registry import check_envs

    check_envs(args.envs, parser.error)
    records, good = [], True
    for name in args.envs or list_envs():
        for num_envs in args.num_envs:
            group = [
                measure(name, backend, num_envs, threads, args.seed, args.repeats, args.seconds)
                for backend in args.backends
            ]
            records += group
            if args.strict and len({record["checksum"] for record in group}) > 1:
                print(f"{name}, {num_envs} environments: the checksums differ", file=sys.stderr)
                good = False
            write(args.json, records)
    title = f"Steps per second, {threads} thread{'s' * (threads > 1)}{', strict mode' * args.strict}"
    show(
        title,
        ["environment", "backend", "envs", "agents", "M steps/s", "range", "compile s", "checksum"],
        [
            [
                r["env"],
                r["backend"],
                f"{r['num_envs']:,}",
                f"{r['num_agents']:,}",
                f"{r['steps_per_second'] / 1e6:.2f}",
                "{:.2f} to {:.2f}".format(
                    *(r["steps"] * r["rows"] / s / 1e6 for s in (max(r["seconds"]), min(r["seconds"])))
                ),
                f"{r['compile_seconds']:.2f}",
                r["checksum"],
            ]
            for r in records
        ],
    )
    sys.exit(not good)


def measure(
    name: str,
    backend: str,
    num_envs: int,
    threads: int,
    seed: int = 0,
    repeats: int = REPEATS,
    seconds: float = SECONDS,
    **params: Any,
) -> dict[str, Any]:
    """The record of one environment, backend and size."""
    import jax

    from jaxpuffer import make

    about = particulars("sps", seed, threads)
    env = make(name, **params)
    actions = draw_actions(env, num_envs, seed)
    began = time.perf_counter()
    play = (
        Numpy(name, num_envs, threads, actions, seed, params)
        if backend == "c"
        else Jitted(
            env if backend == "jax" else make(name, backend="c", threads=threads, **params), num_envs, actions, seed
        )
    )
    play(0)  # compiles
    compile_seconds = time.perf_counter() - began
    play(CHECKED_STEPS)
    found = checksum(play.results())
    steps, timings = time_steps(play, repeats, seconds)
    rows = num_envs * env.num_agents
    return {
        "env": name,
        "backend": backend,
        "num_envs": num_envs,
        "num_agents": env.num_agents,
        "rows": rows,
        "steps_per_second": steps * rows / statistics.median(timings),
        "compile_seconds": 0.0 if backend == "c" else compile_seconds,
        "checksum": found,
        "steps": steps,
        "seconds": timings,
        "params": env.to_dict(),
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        **about,
    }


def draw_actions(env: Any, num_envs: int, seed: int) -> np.ndarray:
    """Uniformly random actions, (cycle, num_envs, *agent_shape, ...).

    From the whole action space: the rules ignore an action that the mask forbids.
    """
    from jaxpuffer.spaces import Box, choices

    space = env.action_space
    shape = (num_envs, *env.agent_shape, *space.shape)
    cycle = max(16, ACTION_ENTRIES // int(np.prod(shape)))
    draw = np.random.default_rng(seed)
    if isinstance(space, Box):
        return draw.uniform(space.low, space.high, (cycle, *shape)).astype(np.float32)
    # a choice's own axis is the last one
    bounds = np.array(choices(space)) if space.shape else choices(space)[0]
    return draw.integers(0, bounds, (cycle, *shape), np.int32)


def first_streams(num_envs: int, seed: int) -> "Array":
    import jax

    from jaxpuffer import rng

    return rng.seed(jax.random.key(seed), (num_envs,))


class Numpy:
    """The batch function called from C."""

    def __init__(self, name: str, num_envs: int, threads: int, actions: np.ndarray, seed: int, params: Any) -> None:
        from envs_c import VecEnv
        from jaxpuffer import make

        self.vec = VecEnv(name, num_envs, threads, **params)
        self.vec._arrays["streams"][:] = np.asarray(first_streams(num_envs, seed))
        self.vec._batch.reset()
        self.batch = make(name, backend="c", **params).batch(num_envs)
        self.actions = actions
        self.reward_bits = np.zeros((num_envs, *self.batch.env.agent_shape), np.uint32)

    def __call__(self, steps: int) -> None:
        self.vec._batch.play(steps, self.actions, self.reward_bits)

    def results(self) -> Any:
        import jax.numpy as jnp

        arrays = self.vec._arrays
        obs = [x for name, x in arrays.items() if name == "obs" or name.startswith("obs.")]
        return self.batch.unpack(jnp.asarray(arrays["rows"])), obs, self.reward_bits


class Jitted:
    """A batch of either backend in a jitted loop."""

    def __init__(self, env: Any, num_envs: int, actions: np.ndarray, seed: int) -> None:
        import jax
        import jax.numpy as jnp
        from jax import lax

        self.batch = env.batch(num_envs)
        self.env, self.actions = env, jnp.asarray(actions)

        def loop(env: Any, carry: Any, actions: "Array", count: "Array") -> Any:
            batch = env.batch(num_envs)

            def step(i: "Array", carry: Any) -> Any:
                state, _, reward_bits = carry
                action = lax.dynamic_index_in_dim(actions, lax.rem(i, jnp.int32(len(actions))), keepdims=False)
                state, step = batch.step(state, action)
                bits = lax.bitcast_convert_type(step.reward, jnp.uint32)
                bits = jnp.where(step.reward == 0.0, jnp.uint32(0), bits)  # -0 is 0
                # carried arrays must be written at every step
                return state, step, reward_bits + bits

            return lax.fori_loop(jnp.int32(0), count, step, carry)

        self.loop = jax.jit(loop, donate_argnums=1)
        state, _ = jax.jit(lambda env, streams: env.batch(num_envs).reset_streams(streams))(
            env, first_streams(num_envs, seed)
        )
        step = jax.eval_shape(lambda: self.batch.step(state, self.actions[0])[1])
        step = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), step)
        self.carry = state, step, jnp.zeros(step.reward.shape, jnp.uint32)

    def __call__(self, steps: int) -> None:
        import jax

        self.carry = jax.block_until_ready(self.loop(self.env, self.carry, self.actions, np.int32(steps)))

    def results(self) -> Any:
        state, step, reward_bits = self.carry
        return self.batch.unpack(state), step.obs, reward_bits


def checksum(tree: Any) -> str:
    """The checksum of all bytes; -0 counts as 0."""
    import jax

    digest = hashlib.blake2b(digest_size=8)
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update((array + np.float32(0) if array.dtype == np.float32 else array).tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
