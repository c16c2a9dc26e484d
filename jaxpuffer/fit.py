"""fit: `train` from the host, with progress, logs, checkpoints, early stop and interruption.

The host calls one jitted loop of updates again and again. How many updates it runs is
an operand, so that it compiles once, whatever the size of a chunk.
"""

import contextlib
import functools
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxpuffer.checkpoint import load, parameters_of, read_record, save, twin_of
from jaxpuffer.evaluate import evaluate, evaluation_key
from jaxpuffer.ppo import Policy, PPOConfig, Result, TrainState, checked_module, complete, init, update
from jaxpuffer.profile import shares_line, time_shares
from jaxpuffer.registry import as_env
from jaxpuffer.rng import check_key
from jaxpuffer.sharding import AXIS, each_device, init_on, local_config, put_on, state_specs

CHUNK_SECONDS = 0.5  # between two reports
MAX_CHUNK = 256  # updates of a chunk
EVALUATION_SHARE = 0.1  # of the time may go to evaluations before the training score reaches the aim
LINE_SECONDS = 10.0  # between two lines of progress where the output is not a terminal

_init = jax.jit(init, static_argnames="module")


@functools.partial(jax.jit, static_argnames=("module", "mesh"), donate_argnames="state")
def _chunk(
    env: Any, state: TrainState, config: PPOConfig, count: Array, module: Any, mesh: Mesh | None
) -> tuple[TrainState, dict[str, Array]]:
    """`count` updates: the state after them and metrics (MAX_CHUNK,), of which `count` are filled."""

    def chunk(env: Any, state: TrainState, config: PPOConfig, count: Array) -> tuple[TrainState, dict[str, Array]]:
        if mesh is not None:
            config = local_config(config, mesh)
        one = functools.partial(update, module=module, axis=None if mesh is None else AXIS)

        def step(i: Array, carried: tuple[TrainState, dict[str, Array]]) -> tuple[TrainState, dict[str, Array]]:
            state, rows = carried
            state, metrics = one(env, state, config)
            return state, jax.tree.map(lambda row, x: row.at[i].set(x), rows, metrics)

        _, metrics = jax.eval_shape(one, env, state, config)
        rows = jax.tree.map(lambda x: jnp.zeros((MAX_CHUNK, *x.shape), x.dtype), metrics)
        return lax.fori_loop(jnp.int32(0), count, step, (state, rows))

    if mesh is not None:
        specs = state_specs(state)
        chunk = each_device(chunk, mesh, (P(), specs, P(), P()), (specs, P()))
    return chunk(env, state, config, count)


def fit(
    env: Any,
    key: Array,
    config: PPOConfig | None = None,
    module: Any = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    log: Callable[[int, dict[str, float]], None] | None = None,
    progress: bool = True,
    stop_at_score: float | None = None,
    save_every_seconds: float = 60.0,
    profile: bool = False,
    mesh: Mesh | None = None,
) -> Result:
    """Train like `train`, to the same parameters, reporting on the way.

    Ctrl-C ends the run after the current chunk of updates, about half a second: it is
    saved where there is a directory, and the result so far is returned. A second
    Ctrl-C stops at once.

    Args:
        env: an environment of either backend.
        key: a JAX key.
        config: None for the environment's tuned configuration; when resuming, for the run's.
        module: a Flax module of your own in place of the config's network, as in `train`.
        directory: where to save the run every `save_every_seconds` and at the end.
        resume: go on exactly with the run saved in `directory`; begin where there is none.
        log: called after each chunk with the agent-steps so far, an exact int, and a
            dict of floats: means over the chunk of the metrics of `ppo.update`,
            `seconds` since the call of `fit`, `compile_seconds` of these,
            `steps_per_second` and `chunk_seconds` of training, and `evaluated_score` where one was made.
            Where no episode ended, score, perf, return and length are the last known.
        progress: show a line on a terminal, or a line now and then elsewhere (stderr).
        stop_at_score: stop when 256 fresh episodes (`evaluate`) average this score plus two
            standard errors. They are played between chunks, whenever the training score
            has reached the aim, and otherwise as long as they take a tenth of the time.
        save_every_seconds: time between two saves.
        profile: print at the end where the time went; takes some seconds more.
        mesh: the devices to train on, of this process (`jaxpuffer.sharding.data_mesh`); default one.

    Returns:
        What `train` returns, of a mesh the policy on its first device; `metrics` are NumPy arrays,
        `agent_steps` int64 and exact.

    Raises:
        FileExistsError: a run is in `directory`, and `resume` is False.
        ValueError: the run to resume has another environment, config or key; or
            `resume` without a directory; the run to resume was on another number of devices; `mesh` is of
            several processes, comes with `profile`, or does not fit as `train_on` says.
    """
    began = time.perf_counter()
    env, key = as_env(env), check_key(key)
    if mesh is not None and profile:
        raise ValueError("profile=True times one device; mesh must be None")
    if mesh is not None and any(d.process_index != jax.process_index() for d in mesh.devices.flat):
        raise ValueError("mesh has devices of other processes; fit takes those of one (train_on takes several)")
    saved = _find_run(env, key, config, directory, resume, module, 1 if mesh is None else mesh.size)
    config = saved.config if saved else complete(env, config)
    module = checked_module(env, config, module)
    if mesh is None:
        state = saved.state if saved else _init(env, key, config, module)
    else:
        local_config(config, mesh)  # checks it
        state = put_on(mesh, saved.state) if saved else init_on(mesh, env, key, config, module)
    history = [saved.metrics] if saved and saved.metrics else []
    updates = int(state.updates)

    def result() -> Result:
        metrics: dict[str, Any] = {
            name: np.concatenate([chunk[name] for chunk in history]) for name in (history or [{}])[0]
        }
        policy = Policy(state.params, module, state.normalizer)
        if mesh is not None:  # every device has it, and one is enough to play
            policy = jax.tree.map(lambda x: x.addressable_data(0), policy)
        return Result(policy, state, metrics, config, env)

    # a chunk of no updates and an evaluation of one step compile the programs, so that the time it takes is known apart
    if updates < config.num_updates:
        state, _ = jax.block_until_ready(_chunk(env, state, config, jnp.int32(0), module, mesh))
        if stop_at_score is not None:
            evaluate(env, result().policy, evaluation_key(key, updates), max_steps=1)
    compile_seconds = time.perf_counter() - began
    saved_at = time.perf_counter()
    evaluation_seconds = chunk_seconds = 0.0
    count = 1
    last: dict[str, float] = {}  # of what is known only where an episode ended
    with _interruptions() as interrupted, _Progress(config, progress) as show:
        while updates < config.num_updates and not interrupted.is_set():
            # train
            started = time.perf_counter()
            count = min(count, MAX_CHUNK, config.num_updates - updates)
            state, rows = _chunk(env, state, config, jnp.int32(count), module, mesh)
            chunk = {name: row[:count] for name, row in jax.device_get(rows).items()}
            chunk["agent_steps"] = (updates + 1 + np.arange(count, dtype=np.int64)) * config.batch_size
            history.append(chunk)
            updates += count
            now = time.perf_counter()

            # report
            last |= _episode_means(chunk)
            means = {name: float(row.mean()) for name, row in chunk.items()} | last
            means["episodes"] = float(chunk["episodes"].sum())
            means["steps_per_second"] = count * config.batch_size / (now - started)
            means["compile_seconds"] = compile_seconds
            means["chunk_seconds"] = now - started
            chunk_seconds += now - started
            count = max(1, int(count * CHUNK_SECONDS / (now - started)))

            # far enough?
            agent_steps = means["agent_steps"] = updates * config.batch_size
            reached = False
            if stop_at_score is not None and (
                means["score"] >= stop_at_score or evaluation_seconds < EVALUATION_SHARE * (now - began)
            ):
                evaluation = evaluate(env, result().policy, evaluation_key(key, updates))
                evaluation_seconds += time.perf_counter() - now
                score = evaluation.summary()["score"]
                means["evaluated_score"] = score["mean"]
                # of many evaluations the first to reach the aim was a lucky one: well above it, or no stop
                reached = score["mean"] - 2.0 * score["standard_error"] >= stop_at_score
            means["seconds"] = time.perf_counter() - began
            show(agent_steps, means)
            if log is not None:
                try:
                    log(agent_steps, means)
                except KeyboardInterrupt:
                    interrupted.set()
            if reached:
                break

            if directory is not None and time.perf_counter() - saved_at >= save_every_seconds:
                save(result(), directory, key)
                saved_at = time.perf_counter()

    if directory is not None:
        save(result(), directory, key)
    if profile and history:
        training = time.perf_counter() - began - compile_seconds - evaluation_seconds
        print(shares_line(time_shares(env, state, config, module, 1.0 - chunk_seconds / training)), file=sys.stderr)
    if interrupted.is_set():
        where = f", saved in {directory}" if directory is not None else ""
        print(f"interrupted after {updates * config.batch_size:,} steps{where}", file=sys.stderr)
    return result()


def _episode_means(chunk: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the episodes that ended in a chunk; nothing where none did."""
    weight = chunk["episodes"].astype(np.float64)
    if not weight.any():
        return {}
    return {
        name: float(np.nansum(chunk[name] * weight) / weight.sum())
        for name in ("score", "perf", "episode_return", "episode_length")
    }


def _find_run(
    env: Any,
    key: Array,
    config: PPOConfig | None,
    directory: str | os.PathLike[str] | None,
    resume: bool,
    module: Any,
    devices: int,
) -> Result | None:
    """The run to go on with, None to begin one; errors as `fit` documents."""
    if directory is None:
        if resume:
            raise ValueError("resume=True needs the directory of the run")
        return None
    if not (Path(directory) / "run.json").exists():
        return None
    if not resume:
        raise FileExistsError(f"there is a run in {directory}: resume it (resume=True), or choose another directory")
    saved = load(directory, env, module)
    record = read_record(directory)
    if saved.state is None:
        raise ValueError(
            f"the run in {directory} was trained with backend={record['backend']!r} and resumes with that only"
        )
    # rows lie in another order on another number of devices
    if devices != record.get("devices", 1):
        raise ValueError(f"the run in {directory} was trained on {record.get('devices', 1)} devices, not {devices}")
    asked = [("environment", parameters_of(twin_of(env)), record["parameters"])]
    if config is not None:
        asked.append(("config", parameters_of(complete(env, config)), record["config"]))
    for what, ours, theirs in asked:
        for name, value in ours.items():
            if value != theirs[name]:
                raise ValueError(f"the run in {directory} has {what}.{name} = {theirs[name]}, not {value}")
    words = np.asarray(jax.random.key_data(key)).tolist()
    if record["key"] is not None and words != record["key"]:
        raise ValueError(f"the run in {directory} has the key {record['key']}, not {words}")
    return saved


@contextlib.contextmanager
def _interruptions() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that no chunk is torn; a second Ctrl-C raises as usual."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread only
        yield interrupted
        return

    def handler(number: int, frame: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


class _Progress:
    """A live line on a terminal, a line now and then elsewhere, nothing if not `enabled`; all on stderr."""

    def __init__(self, config: PPOConfig, enabled: bool) -> None:
        self.total = config.num_updates * config.batch_size
        self.enabled = enabled
        self.live: Any = None
        self.shown = -math.inf

    def __enter__(self) -> Self:
        if self.enabled and sys.stderr.isatty():
            import rich.console
            import rich.live

            self.live = rich.live.Live(console=rich.console.Console(stderr=True), auto_refresh=False)
            self.live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, agent_steps: int, means: dict[str, float]) -> None:
        """Show where the run is."""
        if not self.enabled:
            return
        left = (self.total - agent_steps) / means["steps_per_second"]
        parts = {
            "": f"{agent_steps / 1e6:,.1f} of {self.total / 1e6:,.1f} M steps",
            "steps/s": f"{means['steps_per_second']:,.0f}",
            "score": f"{means.get('evaluated_score', means['score']):.2f}",
            "policy loss": f"{means['policy_loss']:.4f}",
            "value loss": f"{means['value_loss']:.4f}",
            "entropy": f"{means['entropy']:.3f}",
            "left": f"{int(left // 60)}:{int(left % 60):02d}",
        }
        line = "  ".join(f"{name} {value}".strip() for name, value in parts.items())
        if self.live is not None:
            import rich.text

            self.live.update(rich.text.Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif agent_steps >= self.total or time.monotonic() - self.shown >= LINE_SECONDS:
            self.shown = time.monotonic()
            print(line, file=sys.stderr)
