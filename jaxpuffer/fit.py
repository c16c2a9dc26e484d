"""fit: `train` from the host, with progress, logs, checkpoints, early stop and interruption.

The host asks a `Trainer` for chunks of updates again and again, and reports, evaluates and saves between them.
"""

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from jaxpuffer.checkpoint import claim, describe, load, read_record, run_and_checkpoint, run_folder, twin_of
from jaxpuffer.config import PPOConfig, complete
from jaxpuffer.devices import computing_on, in_32_bits
from jaxpuffer.evaluate import Evaluations
from jaxpuffer.host import HostEnv
from jaxpuffer.journal import Journal
from jaxpuffer.networks import ActorCritic
from jaxpuffer.policy import Policy, checked_module
from jaxpuffer.ppo import Result, TrainState, with_nan
from jaxpuffer.profile import shares_line, time_shares
from jaxpuffer.registry import as_env
from jaxpuffer.rng import check_key
from jaxpuffer.saving import Saver
from jaxpuffer.sharding import is_of_several_processes, of_all_processes
from jaxpuffer.showing import Progress, Warnings, view_of
from jaxpuffer.stopping import check_finite, interruptions
from jaxpuffer.trainer import MAX_CHUNK, make_trainer
from jaxpuffer.writers import Log, as_logs

CHUNK_SECONDS = 0.5  # between two reports


def fit(
    env: Any,
    key: Array,
    config: PPOConfig | None = None,
    module: Any = None,
    *,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    log: Log | Sequence[Log] | None = None,
    progress: bool | str = True,
    stop_at_score: float | None = None,
    evaluate_every: float | None = None,
    evaluate_episodes: int = 256,
    save_every_seconds: float = 60.0,
    keep: int = 1,
    start_from: Any = None,
    profile: bool = False,
    mesh: Mesh | None = None,
) -> Result:
    """Train like `train`, to the same parameters, and report while training.

    Ctrl-C ends the run after the current chunk of updates, about half a second: it is
    saved where there is a directory, and the result so far is returned. A second
    Ctrl-C stops at once. SIGTERM and SIGHUP, unless the program handles them itself, end and
    save the run too, and then end the program, with exit codes 143 and 129. An exception on the
    way, in `log` say, saves first.

    Args:
        env: an environment of either backend.
        key: a JAX key.
        config: None for the environment's tuned configuration; when resuming, for the run's.
        module: your own Flax module in place of the config's network, as in `train`.
        directory: where to save the run every `save_every_seconds` and at the end; made and claimed before
            training. `~` is the home directory. A save that fails is a warning, and the one before stays.
        resume: continue the run saved in `directory` exactly; start a new one if there is none.
        log: called after each chunk with the agent-steps so far, an exact int, and a
            dict of floats: means over the chunk of the metrics of `ppo.update`,
            `seconds` since the call of `fit`, `compile_seconds` of these,
            `steps_per_second` and `chunk_seconds` of training, `run_seconds` and `train_seconds` over all
            calls for the run, and after an evaluation `evaluated_score` and
            its standard error, `evaluated_score_error`.
            If no episode ended, score, perf, return and length are the last known ones. If it has a parameter
            `policy`, it gets the policy too. A writer of `jaxpuffer.writers`, or a list of functions and
            writers, can take its place; a writer that fails while training is a warning.
        progress: show a dashboard on a terminal, one cell in a notebook, or from time to time a line elsewhere
            (stderr); False shows nothing. "dashboard", "notebook" and "line" ask for one of them.
        stop_at_score: stop when the mean score of fresh episodes (`evaluate`) exceeds this by two
            standard errors. They are played between chunks, whenever the training score
            has reached this score, and otherwise as long as they take a tenth of the time; with
            `evaluate_every`, at these evaluations only.
        evaluate_every: agent-steps between two evaluations of fresh episodes, with sampled actions: after the
            update that reaches each multiple of it, and after the last update. They do not change the training.
        evaluate_episodes: the least number of episodes of an evaluation during training, at least 2.
        save_every_seconds: time between two saves. They are written while training goes on.
        keep: number of last checkpoints to keep. The one with the best evaluated score is kept besides.
        start_from: a policy to go on with, under any config, parameters of the environment and number of steps:
            a `Policy`, a result, or the directory of a run, also as RUN/best or RUN/checkpoint-3. The optimiser and
            the schedules start anew.
        profile: print at the end how the time was spent; takes some seconds more.
        mesh: the devices to train on (`jaxpuffer.sharding.data_mesh`); default one. If they are of several
            processes, each calls `fit` with the same arguments, and `directory` is one that all of them see. The
            first process reports, and calls `log`.

    Returns:
        The same as `train`; with a mesh, the policy is on its first device. `metrics` are NumPy arrays,
        `agent_steps` int64 and exact.

    Raises:
        FileExistsError: a run is in `directory`, and `resume` is False; or another process writes there.
        OSError: `directory` cannot be made or written.
        FloatingPointError: a reward, a value or a loss is NaN or infinite; the last save stays.
        ValueError: the run to resume has another environment, config or key; or
            `resume` without a directory; the run to resume was on another number of devices; `start_from` has
            a network of other sizes; `mesh` is given together with `profile`, or does not fit (see
            `train_on`).
    """
    result, number = fit_or_signal(
        env, key, config, module, directory=directory, resume=resume, log=log, progress=progress,
        stop_at_score=stop_at_score, evaluate_every=evaluate_every, evaluate_episodes=evaluate_episodes,
        save_every_seconds=save_every_seconds, keep=keep, start_from=start_from, profile=profile, mesh=mesh,
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
    mesh = options.get("mesh")
    with computing_on(mesh.devices.flat[0] if isinstance(mesh, Mesh) else key):
        if directory is None:
            return _fit(env, key, config, module, None, **options)
        run = run_folder(directory)
        with claim_once(run, mesh):
            return _fit(env, key, config, module, run, **options)


@contextlib.contextmanager
def claim_once(run: Path, mesh: Any) -> Iterator[None]:
    """`claim` by the first of the processes whose devices a mesh has; an error there is one everywhere."""
    if not isinstance(mesh, Mesh) or not is_of_several_processes(mesh):
        with claim(run):
            yield
        return
    with contextlib.ExitStack() as claimed:
        error = None
        if jax.process_index() == 0:
            try:
                claimed.enter_context(claim(run))
            except OSError as of_claim:
                error = of_claim
        if of_all_processes([error is not None]).any():
            raise error or FileExistsError(f"{run} cannot be written by the first process, or is in use")
        yield


def _fit(
    env: Any,
    key: Array,
    config: PPOConfig | None,
    module: Any,
    directory: Path | None,
    resume: bool = False,
    log: Log | Sequence[Log] | None = None,
    progress: bool | str = True,
    stop_at_score: float | None = None,
    evaluate_every: float | None = None,
    evaluate_episodes: int = 256,
    save_every_seconds: float = 60.0,
    keep: int = 1,
    start_from: Any = None,
    profile: bool = False,
    mesh: Mesh | None = None,
) -> tuple[Result, int]:
    began = time.perf_counter()
    env, key, view = as_env(env), check_key(key), view_of(progress)
    if not (isinstance(save_every_seconds, int | float) and save_every_seconds >= 0):
        raise ValueError(f"save_every_seconds is {save_every_seconds!r}; it must be a number of at least 0")
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise ValueError(f"keep is {keep!r}; it must be an int of at least 1")
    if keep > 1 and directory is None:
        raise ValueError(f"keep is {keep}, and there is no directory to keep checkpoints in")
    if stop_at_score is not None and (
        isinstance(stop_at_score, bool) or not np.isreal(stop_at_score) or not np.isfinite(stop_at_score)
    ):
        raise ValueError(f"stop_at_score is {stop_at_score!r}; it must be a finite number or None")
    for name, value in (("resume", resume), ("profile", profile)):
        if not isinstance(value, bool):
            raise TypeError(f"{name} is {value!r}; it must be True or False")
    logs = as_logs(log)
    if mesh is not None and not isinstance(mesh, Mesh):
        raise TypeError(f"mesh is {mesh!r}; it must be a Mesh, as data_mesh() gives, or None")
    if mesh is not None and profile:
        raise ValueError("profile=True times one device; mesh must be None")
    several = is_of_several_processes(mesh)
    if several and stop_at_score is not None and evaluate_every is None:
        raise ValueError("stop_at_score on several processes needs evaluate_every, so that all evaluate together")
    if profile and isinstance(env, HostEnv):
        raise ValueError(f"profile=True times programs, and {env.name} is stepped by Python; profile must be False")
    saved = _find_run(env, key, config, directory, resume, module, 1 if mesh is None else mesh.size)
    config = saved.config if saved else complete(env, config)
    evaluations = Evaluations(env, key, config, evaluate_every, evaluate_episodes, stop_at_score)
    module = checked_module(env, config, module)
    trainer = make_trainer(env, key, config, module, mesh)
    state = trainer.start(saved.state if saved else None)
    if start_from is not None and not saved:
        state = go_on_with(state, start_from, env, module)
    history: list[dict[str, Any]] = [saved.metrics] if saved and saved.metrics else []
    updates = int(state.updates)

    def policy() -> Policy:
        return trainer.policy(state)

    def result() -> Result:
        names = (history or [{}])[0]
        metrics: dict[str, Any] = {name: np.concatenate([chunk[name] for chunk in history]) for name in names}
        return Result(policy(), state, metrics, config, env)

    saver = Saver(
        directory, key, config, lambda: (updates, result), updates if saved else -1, save_every_seconds, keep, several
    )
    warn = Warnings(config)
    # one of several processes reports
    first = not several or jax.process_index() == 0
    show = Progress(view if first else None, env, config, updates, began, saver, warn)
    compile_seconds = chunk_seconds = 0.0
    count, due, reached = 1, False, False
    last: dict[str, float] = {}  # the metrics that are known only if an episode ended
    parent = os.fspath(start_from) if isinstance(start_from, str | os.PathLike) else None
    description = describe(result(), key) | {"start_from": parent}
    of_first = (directory, logs) if first else (None, [])
    journal = Journal(*of_first, description, config.num_updates * config.batch_size)
    with trainer, journal, saver.on_error(), interruptions() as interrupted, show:
        if updates < config.num_updates:
            with show.compiling():
                state = trainer.compile(state)
                evaluations.compile(policy(), updates)
        compile_seconds = time.perf_counter() - began
        saver.saved_at = time.perf_counter()
        while updates < config.num_updates:
            count = min(count, MAX_CHUNK, evaluations.updates_left(updates))
            count, due, reached, number = trainer.agreed(count, due, reached, interrupted.number)
            if reached or number:
                interrupted.number = interrupted.number or number
                break
            if due:
                with show.timed("saving"):
                    saver.begin()

            # train
            started = time.perf_counter()
            new_state, chunk = trainer.chunk(state, count)
            chunk = with_nan(chunk)
            chunk["agent_steps"] = (updates + 1 + np.arange(count, dtype=np.int64)) * config.batch_size
            check_finite(chunk, new_state.params, updates, saver.saved_steps, directory)
            # set both together, so that after a second Ctrl-C the saved state and metrics match
            state, history, updates = new_state, [*history, chunk], updates + count
            warn(chunk, updates)
            now = time.perf_counter()
            chunk_seconds += now - started

            # report
            agent_steps = updates * config.batch_size
            last |= _episode_means(chunk)
            means = {name: _mean_of_known(name, row) for name, row in chunk.items()} | last
            means["episodes"] = float(chunk["episodes"].sum())
            means["agent_steps"] = agent_steps
            means["steps_per_second"] = count * config.batch_size / (now - started)
            means["compile_seconds"] = compile_seconds
            means["chunk_seconds"] = now - started
            count = max(1, int(count * CHUNK_SECONDS / (now - started)))
            with show.timed("evaluation"):
                reached = evaluations.reached(policy(), updates, means, now - began)
            means["seconds"] = time.perf_counter() - began
            show(means)
            try:
                with show.timed("logging"):
                    journal(means, policy)
            except KeyboardInterrupt:
                interrupted.number = signal.SIGINT
            due = saver.is_due(means.get("evaluated_score"))
        with show.timed("saving"):
            saver.save()
        journal.ended = "interrupted" if interrupted.number else "finished"
        if directory is not None and saver.updates != updates:
            journal.ended = "saving failed"

    if profile and history:
        training = time.perf_counter() - began - compile_seconds - evaluations.seconds
        print(shares_line(time_shares(env, state, config, module, 1.0 - chunk_seconds / training)), file=sys.stderr)
    if interrupted.number:
        where = f", saved in {directory}" if saver.updates == updates else ""
        print(f"interrupted after {updates * config.batch_size:,} steps{where}", file=sys.stderr)
    return result(), interrupted.number


def go_on_with(state: TrainState, start_from: Any, env: Any, module: Any) -> TrainState:
    """The state before the first update with the parameters of a trained policy, and with its units.

    Raises:
        TypeError: `start_from` is not a policy, a result or a directory.
        ValueError: its network has other sizes.
    """
    if isinstance(start_from, str | os.PathLike):
        own = module if not isinstance(module, ActorCritic) else None
        run, checkpoint = run_and_checkpoint(start_from)
        start_from = load(run, env, own, checkpoint=checkpoint)
    policy = getattr(start_from, "policy", start_from)
    if not isinstance(policy, Policy):
        raise TypeError(f"start_from is a {type(start_from).__name__}; it must be a Policy, a result or a directory")
    parts = {"params": policy.params, "normalizer": policy.normalizer, "returns": policy.returns}
    for name, part in parts.items():
        ours, theirs = (
            {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}
            for tree in (getattr(state, name), part)
        )
        for path in ours | theirs:
            if ours.get(path) != theirs.get(path):
                raise ValueError(
                    f"start_from has {name}{path} of shape {theirs.get(path)}, this run's is {ours.get(path)}; "
                    "network and normalisation must be the same"
                )
    now = {name: getattr(state, name) for name in parts}

    # copies, placed like what they replace: the state is donated to the first chunk, the policy stays its owner's
    def placed(new: Any, old: Array) -> Array:
        return jax.device_put(np.array(new), old.sharding if old.committed else None)

    return state.replace(**jax.tree.map(placed, parts, now))


def _mean_of_known(name: str, row: np.ndarray) -> float:
    """The mean; of a league's win rates, which are NaN before the first games have ended, that of those known."""
    known = row[~np.isnan(row)] if name.startswith("league/") else row
    return float(known.mean()) if len(known) else math.nan


def _episode_means(chunk: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over the episodes that ended in a chunk; empty if none did."""
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
    """The run to continue, None to start a new one; errors as `fit` documents."""
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
            f"the run in {directory} was trained with backend={record['backend']!r} and can be resumed only with that"
        )
    # rows have another order on another number of devices
    if devices != record.get("devices", 1):
        raise ValueError(f"the run in {directory} was trained on {record.get('devices', 1)} devices, not {devices}")
    asked = [("environment", twin_of(env).to_dict(), record["parameters"])]
    if config is not None:
        asked.append(("config", complete(env, config).to_dict(), saved.config.to_dict()))
    for what, ours, theirs in asked:
        for name, value in ours.items():
            there = theirs.get(name, "nothing")
            if value != there:
                raise ValueError(
                    f"the run in {directory} has {what}.{name} = {there}, not {value}; "
                    "to go on under other settings use another directory, and start_from (on the command line finetune)"
                )
    words = np.asarray(jax.random.key_data(key)).tolist()
    if record["key"] is not None and words != record["key"]:
        raise ValueError(f"the run in {directory} has the key {record['key']}, not {words}")
    return saved
