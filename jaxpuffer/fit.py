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
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxpuffer.checkpoint import claim, load, read_record, run_folder, twin_of, write
from jaxpuffer.evaluate import evaluate, evaluation_key
from jaxpuffer.machine import in_32_bits
from jaxpuffer.ppo import (
    OF_EPISODES,
    Policy,
    PPOConfig,
    Result,
    TrainState,
    checked_module,
    complete,
    init,
    update,
    without_nan,
)
from jaxpuffer.profile import shares_line, time_shares
from jaxpuffer.registry import as_env
from jaxpuffer.rng import check_key
from jaxpuffer.sharding import AXIS, each_device, init_on, local_config, put_on, state_specs

CHUNK_SECONDS = 0.5  # between two reports
MAX_CHUNK = 256  # updates of a chunk
EVALUATION_SHARE = 0.1  # of the time may go to evaluations before the training score reaches the aim
MUST_BE_FINITE = (  # of the metrics, causes before what comes of them
    "nonfinite_value", "nonfinite_reward", "policy_loss", "value_loss", "entropy", "approx_kl", "grad_norm"
)  # fmt: skip
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
            metrics = without_nan(metrics)
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
    Ctrl-C stops at once. SIGTERM and SIGHUP, unless the program handles them itself, end and
    save it likewise, and then the program, with exit codes 143 and 129. An exception on the
    way, in `log` say, saves first.

    Args:
        env: an environment of either backend.
        key: a JAX key.
        config: None for the environment's tuned configuration; when resuming, for the run's.
        module: a Flax module of your own in place of the config's network, as in `train`.
        directory: where to save the run every `save_every_seconds` and at the end; made and claimed before
            training. `~` is the home directory. A save that fails is a warning, and the one before stays.
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
        FileExistsError: a run is in `directory`, and `resume` is False; or another process writes there.
        OSError: `directory` cannot be made or written.
        FloatingPointError: a reward, a value or a loss is NaN or infinite; the last save stays.
        ValueError: the run to resume has another environment, config or key; or
            `resume` without a directory; the run to resume was on another number of devices; `mesh` is of
            several processes, comes with `profile`, or does not fit as `train_on` says.
    """
    result, number = fit_or_signal(
        env, key, config, module, directory=directory, resume=resume, log=log, progress=progress,
        stop_at_score=stop_at_score, save_every_seconds=save_every_seconds, profile=profile, mesh=mesh,
    )  # fmt: skip
    if number not in (0, signal.SIGINT):
        raise SystemExit(128 + number)
    return result


@in_32_bits
def fit_or_signal(
    env: Any,
    key: Array,
    config: PPOConfig | None = None,
    module: Any = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    **options: Any,
) -> tuple[Result, int]:
    """What `fit` does: its result, and the number of the signal that ended it, 0 if none did."""
    if directory is None:
        return _fit(env, key, config, module, None, **options)
    run = run_folder(directory)
    with claim(run):
        return _fit(env, key, config, module, run, **options)


def _fit(
    env: Any,
    key: Array,
    config: PPOConfig | None,
    module: Any,
    directory: Path | None,
    resume: bool = False,
    log: Callable[[int, dict[str, float]], None] | None = None,
    progress: bool = True,
    stop_at_score: float | None = None,
    save_every_seconds: float = 60.0,
    profile: bool = False,
    mesh: Mesh | None = None,
) -> tuple[Result, int]:
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
        policy = Policy(state.params, module, state.normalizer, state.returns)
        if mesh is not None:  # every device has it, and one is enough to play
            policy = jax.tree.map(lambda x: x.addressable_data(0), policy)
        return Result(policy, state, metrics, config, env)

    saved_updates = updates if saved else -1

    def keep() -> None:
        """Save what there is; a save that fails must not end the run."""
        nonlocal saved_updates
        if directory is None or saved_updates == updates:
            return
        try:
            write(result(), directory, key)
            saved_updates = updates
        except Exception as error:  # Orbax raises many kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            at = (
                f"that of {saved_updates * config.batch_size:,} steps stays"
                if saved_updates >= 0
                else "there is none yet"
            )
            message = f"saving in {directory} failed ({reason}); {at}"
            try:
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            except RuntimeWarning:  # where warnings are errors; this one must not cost the result
                print(message, file=sys.stderr)

    compile_seconds = evaluation_seconds = chunk_seconds = 0.0
    count = 1
    last: dict[str, float] = {}  # of what is known only where an episode ended
    warn = _Warnings(config)
    with _saved_on_error(keep), _interruptions() as interrupted, _Progress(config, progress) as show:
        # a chunk of no updates and an evaluation of one step compile the programs, so that the time is known apart
        if updates < config.num_updates:
            state, _ = jax.block_until_ready(_chunk(env, state, config, jnp.int32(0), module, mesh))
            if stop_at_score is not None:
                evaluate(env, result().policy, evaluation_key(key, updates), max_steps=1)
        compile_seconds = time.perf_counter() - began
        saved_at = time.perf_counter()
        while updates < config.num_updates and not interrupted.number:
            # train
            started = time.perf_counter()
            count = min(count, MAX_CHUNK, config.num_updates - updates)
            new_state, rows = _chunk(env, state, config, jnp.int32(count), module, mesh)
            chunk = {name: row[:count] for name, row in jax.device_get(rows).items()}
            nothing = np.where(chunk["episodes"] > 0, np.float32(0), np.float32(np.nan))
            chunk |= {name: chunk[name] + nothing for name in OF_EPISODES}
            chunk["agent_steps"] = (updates + 1 + np.arange(count, dtype=np.int64)) * config.batch_size
            _check_finite(chunk, new_state.params, updates, saved_updates * config.batch_size, directory)
            # together, so that what is saved after a second Ctrl-C is never one without the other
            state, history, updates = new_state, [*history, chunk], updates + count
            warn(chunk, updates)
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
                    interrupted.number = signal.SIGINT
            if reached:
                break

            if time.perf_counter() - saved_at >= save_every_seconds:
                keep()
                saved_at = time.perf_counter()
        keep()

    if profile and history:
        training = time.perf_counter() - began - compile_seconds - evaluation_seconds
        print(shares_line(time_shares(env, state, config, module, 1.0 - chunk_seconds / training)), file=sys.stderr)
    if interrupted.number:
        where = f", saved in {directory}" if saved_updates == updates else ""
        print(f"interrupted after {updates * config.batch_size:,} steps{where}", file=sys.stderr)
    return result(), interrupted.number


class _NotFiniteError(FloatingPointError):
    """The run's own numbers are no good, and not to be saved."""


@jax.jit
def _all_finite(tree: Any) -> Array:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def _check_finite(
    chunk: dict[str, np.ndarray], params: Any, updates: int, saved_steps: int, directory: Path | None
) -> None:
    """Raise for the first update of a chunk, which follows `updates`, that is not finite, or for its parameters."""
    kept = f"; the run in {directory} stays as of {saved_steps:,} steps" if directory and saved_steps >= 0 else ""
    for i in range(len(chunk["agent_steps"])):
        for name in MUST_BE_FINITE:
            value = chunk[name][i]
            if np.isfinite(value) and not (name.startswith("nonfinite") and value > 0):
                continue
            what = {
                "nonfinite_reward": f"{value:.2%} of the rewards are NaN or infinite",
                "nonfinite_value": f"{value:.2%} of the values are NaN or infinite, as after such an observation",
            }.get(name, f"{name} is {value}")
            raise _NotFiniteError(f"{what} in update {updates + i + 1}, before step {chunk['agent_steps'][i]:,}{kept}")
    if not _all_finite(params):
        raise _NotFiniteError(
            f"parameters are NaN or infinite after update {updates + len(chunk['agent_steps'])}{kept}"
        )


class _Warnings:
    """Says once each what goes wrong without an error, with what to try."""

    def __init__(self, config: PPOConfig) -> None:
        self.config = config
        self.episodes = 0.0
        self.first_entropy: float | None = None
        self.said: set[str] = set()

    def __call__(self, chunk: dict[str, np.ndarray], updates: int) -> None:
        """After `updates` in all, of which the last made `chunk`."""
        self.episodes += float(chunk["episodes"].sum())
        entropy = float(chunk["entropy"][-1])
        if self.first_entropy is None:
            self.first_entropy = float(chunk["entropy"][0])
        steps = updates * self.config.batch_size
        clipped = float(chunk["reward_clipped"].mean())
        if clipped > 0.1:
            self._once("reward", f"{clipped:.0%} of the rewards are beyond reward_clip; try a larger one")
        wild = float(chunk["value_out_of_range"].mean())
        if wild > 0.1 and updates >= 10:
            self._once("value", f"{wild:.0%} of the values are far from all returns; try a lower learning_rate")
        # differential entropy can be below zero and says less
        if (
            self.first_entropy > 0
            and 0 <= entropy < 0.01 * self.first_entropy
            and 4 * updates < self.config.num_updates
        ):
            self._once(
                "entropy",
                f"entropy fell to {entropy:.3g} early, at {steps:,} steps; "
                "unless the score is good, try a larger entropy_coefficient",
            )
        if not self.episodes and updates >= 10 and 10 * updates >= self.config.num_updates:
            self._once("episodes", f"no episode has ended in {steps:,} steps; does the environment have a time limit?")

    def _once(self, kind: str, message: str) -> None:
        if kind not in self.said:
            self.said.add(kind)
            warnings.warn(message, RuntimeWarning, stacklevel=4)


@contextlib.contextmanager
def _saved_on_error(keep: Callable[[], None]) -> Iterator[None]:
    """Save before an exception goes on, but for one that says that the numbers are no good."""
    try:
        yield
    except _NotFiniteError:
        raise
    except BaseException:
        keep()
        raise


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
    asked = [("environment", twin_of(env).to_dict(), record["parameters"])]
    if config is not None:
        asked.append(("config", complete(env, config).to_dict(), record["config"]))
    for what, ours, theirs in asked:
        for name, value in ours.items():
            there = theirs.get(name, "nothing")
            if value != there:
                raise ValueError(f"the run in {directory} has {what}.{name} = {there}, not {value}")
    words = np.asarray(jax.random.key_data(key)).tolist()
    if record["key"] is not None and words != record["key"]:
        raise ValueError(f"the run in {directory} has the key {record['key']}, not {words}")
    return saved


class _Interruption:
    """The number of the signal that asked for an end, 0 as long as none did."""

    number = 0


@contextlib.contextmanager
def _interruptions() -> Iterator[_Interruption]:
    """Notes Ctrl-C, SIGTERM and SIGHUP, so that no chunk is torn; a second Ctrl-C raises as usual.

    Signals that the program handles or ignores itself are left to it.
    """
    interrupted = _Interruption()
    if threading.current_thread() is not threading.main_thread():  # signals arrive in the main thread only
        yield interrupted
        return

    def handler(number: int, frame: Any) -> None:
        if number == signal.SIGINT and interrupted.number:
            raise KeyboardInterrupt
        interrupted.number = number

    ours = set()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            ours.add(number)
    before = {number: signal.signal(number, handler) for number in ours}
    try:
        yield interrupted
    finally:
        for number, old in before.items():
            signal.signal(number, old)


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
