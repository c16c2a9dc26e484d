"""save and load a run: a directory with a readable run.json and one Orbax checkpoint.

    RUN/run.json        environment, parameters, config, backend, versions, and which checkpoints are valid
    RUN/checkpoint-N/   the whole TrainState and the metrics, by Orbax
    RUN/lock            held by the process that writes here; its host and process id
    RUN/saving          during a save, the checkpoints of which some will be valid after it

A save writes checkpoint-N+1, then points run.json at it in one rename, then removes
those that are no longer kept: a process killed at any moment leaves a run that loads.
Nothing else in the folder is touched.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer.config import PPOConfig
from jaxpuffer.env import Env
from jaxpuffer.exits import one_line
from jaxpuffer.host import HostEnv
from jaxpuffer.networks import ActorCritic
from jaxpuffer.policy import Policy, checked_module
from jaxpuffer.ppo import Result, init
from jaxpuffer.pytree import leaf_shapes
from jaxpuffer.registry import as_env, make, name_of
from jaxpuffer.rng import check_key
from jaxpuffer.runs import ABOUT
from jaxpuffer.sharding import of_all_processes

_PREFIX = "checkpoint-"
_NO_BOUNDS = (("low", -np.inf), ("high", np.inf))
# runs from before the ranges of observations and rewards were kept do not have them
_NOT_KEPT_BEFORE = {f"state.{of}.{side}": x for of in ("normalizer", "returns") for side, x in _NO_BOUNDS}
_NOT_KEPT_BEFORE |= {"state.pace": 1.0}


def save(result: Result, path: str | os.PathLike[str], key: Array | None = None) -> None:
    """Save a complete run: the result of `train` or `fit`, also of several runs stacked by `vmap`.

    Args:
        result: the run.
        path: a directory, created if missing; what `save` saved there before is replaced. `~` is the home directory.
        key: the run's key, to be kept in run.json.

    Raises:
        ValueError: the result was loaded without its state; or `path` is a URL.
        FileExistsError: a run of `fit` is there, or another process writes there.
        OSError: it cannot be written; the run that was there before stays.
    """
    if not isinstance(result, Result):
        raise TypeError(f"result is a {type(result).__name__}; it must be what train, fit or load returned")
    run, key = run_folder(path), None if key is None else check_key(key)
    with claim(run):
        if (run / ABOUT).exists():
            raise FileExistsError(f"there is a run of fit in {run}; choose another directory")
        write(result, run, key)


def run_folder(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a run's directory, with `~` as the home directory.

    Raises:
        TypeError: it is not a path.
        ValueError: it is a URL, empty, or of an unknown user.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"directory is {path!r}; it must be a path")
    if not os.fspath(path):
        raise ValueError("directory is empty; it must be a path")
    # a Path has turned a URL's two slashes into one; a scheme of one letter is a drive
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):
        raise ValueError(f"directory is {os.fspath(path)!r}; it must be a path on this machine, not a URL")
    if "\0" in os.fspath(path):
        raise ValueError(f"directory is {os.fspath(path)!r}; a path has no null character")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise ValueError(
            f"directory is {os.fspath(path)!r}; the user whose home directory it names is unknown"
        ) from None


@contextlib.contextmanager
def claim(run: Path) -> Iterator[None]:
    """Make the directory, check that it can be written, and keep other processes out until the end.

    The system releases the lock when the process ends, for any reason.

    Raises:
        FileExistsError: another process, or another run of this one, writes there.
        OSError: it cannot be made or written.
    """
    is_new = not run.exists()
    try:
        run.mkdir(parents=True, exist_ok=True)
        opened = open(run / "lock", "a+")  # noqa: SIM115
    except OSError as error:
        reason = "a file is there" if run.is_file() else error.strerror
        raise type(error)(f"directory is {run}; it must be a folder that can be made and written ({reason})") from error
    with opened as lock:
        try:
            import fcntl
        except ImportError:  # Windows does not have it, so there the second of two runs is not refused
            pass
        else:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                raise FileExistsError(f"{run} is being written by {holder}; choose another directory") from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the disk is full or no longer there
                lock.truncate(0)
                if is_new and os.listdir(run) == ["lock"]:  # an argument was refused
                    os.unlink(run / "lock")
                    os.rmdir(run)


def write(result: Result, run: Path, key: Array | None = None) -> None:
    """What `save` does, in a directory that is claimed."""
    store(*copied(result, key), run, keep=0)


def copied(result: Result, key: Array | None = None, several: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a checkpoint of a run holds and what run.json says, copied to the host; training can go on.

    With `several`, the arrays are on the devices of several processes, and stay there.
    """
    if result.state is None:
        raise ValueError("this result has no state: it was loaded for another backend than it was trained on")
    tree = {f"state{name}": leaf for name, leaf in _named_leaves(result.state)}
    tree |= {f"metrics.{name}": leaf for name, leaf in result.metrics.items()}
    # NumPy arrays load on any device; Orbax does not accept arrays without entries
    arrays = {name: _without_key(leaf) for name, leaf in tree.items() if np.size(leaf)}
    if not several:
        arrays = {name: np.array(leaf) for name, leaf in arrays.items()}
    return arrays, describe(result, key)


def store(
    arrays: dict[str, Any],
    record: dict[str, Any],
    run: Path,
    keep: int = 1,
    score: float | None = None,
    several: bool = False,
) -> None:
    """Write a checkpoint and run.json, and remove the checkpoints that are no longer kept.

    Kept are the last `keep`, and the one with the best evaluated score; `score` is this one's. With `keep` of 0, this
    one replaces a run that may be another, and nothing else is kept. With `several`, all processes call this, in a
    folder that all of them see: each writes its part of the arrays, the first the rest.
    """
    import orbax.checkpoint  # needed only to save, and slow to import

    # remove only what this wrote: the checkpoints that were valid, and those of a save that was not finished
    saving, kept = run / "saving", []
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = checkpoints(json.loads((run / "run.json").read_text()))
    old = {str(entry["checkpoint"]) for entry in kept}
    with contextlib.suppress(OSError, ValueError):
        old |= set(saving.read_text().split())
    names = [re.match(rf"{_PREFIX}(\d+)", p.name) for p in run.iterdir()]
    number = 1 + max((int(name[1]) for name in names if name), default=0)
    if several:
        number = int(of_all_processes([number])[0, 0])
    checkpoint = run / f"{_PREFIX}{number}"

    this = {"checkpoint": checkpoint.name, "evaluated_score": score}
    if not several:  # no process has all of the arrays
        this["checksum"] = _checksum(arrays)
    this |= {name: record[name] for name in ("updates", "agent_steps", "saved")}
    best = best_of([*kept, this])
    last = [*kept[max(0, len(kept) - keep + 1) :], this]
    entries = [entry for entry in [*kept, this] if entry in last or entry is best] if keep else [this]
    record = record | {"checkpoint": checkpoint.name, "checkpoints": entries}
    record["record_checksum"] = _record_checksum(record)
    new, first = run / "run.json.new", jax.process_index() == 0
    try:
        if first:
            saving.write_text("\n".join([*sorted(old), checkpoint.name]))
        with _quiet(), orbax.checkpoint.StandardCheckpointer() as checkpointer:
            checkpointer.save(checkpoint, arrays)
        if first:
            new.write_text(json.dumps(record, indent=2) + "\n")
    except BaseException:
        _remove(run, {checkpoint.name})
        new.unlink(missing_ok=True)
        raise
    # from here on run.json may name the new checkpoint; after an interruption the next save removes what is not valid
    if first:
        os.replace(new, run / "run.json")
        _remove(run, old - {entry["checkpoint"] for entry in entries})
        saving.unlink(missing_ok=True)
    if several:
        of_all_processes([number])  # nobody goes on before the first process is done


def checkpoints(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The checkpoints that run.json lists, oldest first: name, checksum, updates, agent_steps, evaluated_score."""
    names = ("checkpoint", "checksum", "updates", "agent_steps")
    # a run from before has one, which is not in a list
    return record.get("checkpoints") or [{name: record[name] for name in names if name in record}]


def best_of(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The checkpoint with the best evaluated score, the first of equal ones; None if none was evaluated."""
    evaluated = [entry for entry in entries if entry.get("evaluated_score") is not None]
    return max(evaluated, key=lambda entry: entry["evaluated_score"], default=None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Orbax's threads from printing their tracebacks: the error is raised, and said in one line."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    before, hook = [logger.disabled for logger in loggers], sys.unraisablehook

    def print_others(error: Any) -> None:
        if str(error.exc_value) != "Event loop is closed":  # of arrays that were still read or written after the error
            hook(error)

    sys.unraisablehook = print_others
    for logger in loggers:
        logger.disabled = True
    try:
        yield
        sys.unraisablehook = hook  # after an error some threads still run
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _remove(run: Path, names: set[str]) -> None:
    """Remove checkpoints, and what Orbax left of unfinished ones."""
    for name in names:
        if re.fullmatch(rf"{_PREFIX}\d+", name):
            for directory in (run / name, *run.glob(f"{name}.orbax-checkpoint-tmp*")):
                shutil.rmtree(directory, ignore_errors=True)


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    """Of names, types, shapes and bytes; the same for the same arrays."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _record_checksum(record: dict[str, Any]) -> str:
    """Of what run.json says, apart from this."""
    said = {name: value for name, value in record.items() if name != "record_checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _without_key(leaf: Any) -> Any:
    """The words of an array of JAX keys; other leaves as they are."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def load(path: str | os.PathLike[str], env: Any = None, module: Any = None, *, checkpoint: str | None = None) -> Result:
    """A saved run, as `train` or `fit` returned it.

    Args:
        path: the directory that was saved to.
        env: the environment, if it is not a registered one, or to use another
            backend than the run was trained on: then `state` is None, and
            the policy can be evaluated but the run cannot be resumed.
        module: the Flax module, if the run was trained with your own.
        checkpoint: None for the last one, "best" for that with the best evaluated score, or the name of one,
            such as "checkpoint-3".

    Raises:
        FileNotFoundError: no run is there.
        ValueError: there is no such checkpoint.
        ValueError: files of the run are damaged; the message names them.
        ValueError: the environment is not registered and `env` was not given, or
            `env` is of another kind, or the module is; or the run was saved by a version too different.
        ImportError: the run's backend is C, which is not built here, and `env` was not given.
    """
    import orbax.checkpoint

    run = run_folder(path)
    record = read_record(run)
    if env is None:
        if record["environment"] is None:
            raise ValueError(
                f"{run} was trained on {record['class']}, which is not registered; pass it as env= of load, in Python"
            )
        threads = {"threads": record["threads"]} if record["backend"] == "c" else {}
        try:
            env = make(record["environment"], backend=record["backend"], **threads, **record["parameters"])
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{run / 'run.json'} has an environment that this version does not take: {error}"
            ) from error
    env = as_env(env)
    if _last(class_name(env)) != _last(record["class"]):  # its module may have moved
        raise ValueError(f"{run} was trained on {record['class']}; env is {class_name(env)}")
    elif isinstance(env, HostEnv) and env.to_dict() != record["parameters"]:
        raise ValueError(f"{run} was trained on {record['parameters']}; env is {env.to_dict()}")
    try:
        config = config_of(record)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{run / 'run.json'} has a config that this version does not take: {error}") from error
    given = None if module is None else _module_name(module)
    if (record["module"] and _last(record["module"])) != (given and _last(given)):
        theirs = "the config's network" if record["module"] is None else record["module"]
        raise ValueError(f"{run} was trained with {theirs}; module is {given}")
    module = checked_module(env, config, module)

    entry = chosen_checkpoint(record, checkpoint)
    folder = run / entry["checkpoint"]
    damaged = f"{folder} is damaged: %s; take the run from a copy, or train it again in another directory"
    try:
        # all of every array, wherever its parts were saved from
        with _quiet(), orbax.checkpoint.PyTreeCheckpointer() as checkpointer:
            names = list(checkpointer.metadata(folder).item_metadata)
            as_numpy = {name: orbax.checkpoint.RestoreArgs(restore_type=np.ndarray) for name in names}
            restored = orbax.checkpoint.args.PyTreeRestore(restore_args=as_numpy)
            arrays: dict[str, Any] = dict(checkpointer.restore(folder, args=restored))
    except Exception as error:  # Orbax raises many kinds
        raise ValueError(damaged % f"it cannot be read ({one_line(error)[:200]})") from error
    if entry.get("checksum", _checksum(arrays)) != _checksum(arrays):
        raise ValueError(damaged % "its numbers are not those that were saved")
    metrics = {k.removeprefix("metrics."): v for k, v in arrays.items() if k.startswith("metrics.")}
    # saved by a version in which play was not yet a part of the state
    arrays = {re.sub(r"^state\.(envs|obs|reset|carry|streams)\b", r"state.play.\1", k): v for k, v in arrays.items()}

    # the shapes of one run; a stack of runs has leading axes
    if backend_of(env) == "c":
        one = dataclasses.replace(env, env=leaf_shapes(env.env))
    else:
        one = leaf_shapes(env) if isinstance(env, Env) else env
    abstract = jax.eval_shape(functools.partial(init, module=module), one, jax.random.key(0), leaf_shapes(config))

    def restore(tree: Any, prefix: str) -> Any:
        leaves = []
        for name, wanted in _named_leaves(tree):
            leaf = jax.eval_shape(_without_key, wanted)
            saved = arrays.get(prefix + name)
            if saved is None and leaf.size == 0:
                saved = np.zeros(leaf.shape, leaf.dtype)
            if saved is None and prefix + name in _NOT_KEPT_BEFORE:
                saved = np.full(leaf.shape, _NOT_KEPT_BEFORE[prefix + name], leaf.dtype)
            if saved is None or saved.dtype != leaf.dtype or saved.shape[saved.ndim - leaf.ndim :] != leaf.shape:
                found = "is missing" if saved is None else f"is {saved.dtype}{list(saved.shape)}"
                raise ValueError(
                    f"{run} does not fit {class_name(env)} with these parameters, or this version: {prefix}{name} "
                    f"{found}, not {leaf.dtype}{list(leaf.shape)}"
                )
            value = jnp.array(saved)
            if _is_key(wanted):
                value = jax.random.wrap_key_data(value, impl=jax.random.key_impl(jnp.empty((), wanted.dtype)))
            leaves.append(value)
        return jax.tree.unflatten(jax.tree.structure(tree), leaves)

    if backend_of(env) == record["backend"]:
        state = restore(abstract, "state")
        policy = state.policy(module)
    else:
        state, params = None, restore(abstract.params, "state.params")
        normalizer = restore(abstract.normalizer, "state.normalizer")
        policy = Policy(params, module, normalizer, restore(abstract.returns, "state.returns"))
    return Result(policy, state, metrics, config, env)


def run_and_checkpoint(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """A run's directory and the checkpoint to load, of `RUN`, `RUN/best` or `RUN/checkpoint-3`."""
    folder = run_folder(path)
    of_checkpoint = not (folder / "run.json").is_file() and (folder.parent / "run.json").is_file()
    return (folder.parent, folder.name) if of_checkpoint else (folder, None)


def chosen_checkpoint(record: dict[str, Any], name: str | None) -> dict[str, Any]:
    """The entry of `checkpoints` with a name as `load` takes it.

    Raises:
        ValueError: there is none.
    """
    entries = checkpoints(record)
    if name is None:
        return entries[-1]
    best = best_of(entries)
    by_name = {entry["checkpoint"]: entry for entry in entries} | ({"best": best} if best else {})
    if name not in by_name:
        missing = "; none was evaluated (see fit's evaluate_every)" if name == "best" else ""
        raise ValueError(f"checkpoint is {name!r}; it must be None or one of {', '.join(by_name)}{missing}")
    return by_name[name]


def config_of(record: dict[str, Any]) -> PPOConfig:
    """The config that run.json has."""
    # a run from before returns were normalised does not have these fields
    return PPOConfig(**({"normalize_return": False, "max_kl": 1e9} | record["config"]))


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What run.json says.

    Raises:
        FileNotFoundError: no run is saved there.
        ValueError: the file is damaged.
    """
    file = run_folder(path) / "run.json"
    if not file.is_file():
        raise FileNotFoundError(f"there is no saved run in {file.parent}")
    remedy = "take the run from a copy, or train it again in another directory"
    try:
        record = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is damaged: it is not JSON ({error}); {remedy}") from error
    needed = {"checkpoint": str, "class": str, "parameters": dict, "backend": str, "config": dict}
    for name, kind in needed.items():
        if not isinstance(record, dict) or not isinstance(record.get(name), kind):
            raise ValueError(f"{file} is damaged: it has no {name}, or not as a {kind.__name__}; {remedy}")
    allowed = {"environment": str | None, "module": str | None, "key": list | None, "agent_steps": int | list}
    for name, kinds in allowed.items():
        if name not in record or not isinstance(record[name], kinds):
            raise ValueError(f"{file} is damaged: it has no {name}, or a wrong one; {remedy}")
    # a run from before has none
    if record.get("record_checksum", _record_checksum(record)) != _record_checksum(record):
        raise ValueError(
            f"{file} is not as it was saved; {remedy}, or remove record_checksum from it to accept a change of your own"
        )
    return record


def describe(result: Result, key: Array | None = None) -> dict[str, Any]:
    """What run.json says about a run, as JSON values."""
    updates = np.asarray(result.state.updates)
    words = None if key is None else np.asarray(jax.random.key_data(key)).tolist()
    return {
        "environment": name_of(result.env),
        "class": class_name(result.env),
        "parameters": twin_of(result.env).to_dict(),
        "backend": backend_of(result.env),
        "module": None if isinstance(result.policy.module, ActorCritic) else _module_name(result.policy.module),
        "threads": getattr(result.env, "threads", 0),
        "config": result.config.to_dict(),
        "seed": words[1] if words and words[0] == 0 and len(words) == 2 else None,
        "key": words,
        "updates": updates.tolist(),
        "agent_steps": (updates.astype(np.int64) * result.config.batch_size).tolist(),
        "saved": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": jax.devices()[0].device_kind,
        "devices": len(result.state.updates.devices()) if isinstance(result.state.updates, Array) else 1,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that training depends on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def backend_of(env: Any) -> str:
    """The backend an environment runs on: "jax", "c", or "host" if Python steps it."""
    return "jax" if isinstance(env, Env) else "host" if isinstance(env, HostEnv) else "c"


def twin_of(env: Any) -> Any:
    """The environment itself, or the JAX twin of a C environment."""
    return env.env if backend_of(env) == "c" else env


def _last(name: str) -> str:
    """A class's name without its module."""
    return name.rpartition(".")[2]


def _module_name(module: Any) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def class_name(env: Any) -> str:
    """The path of an environment's class; of a C environment, of its twin's."""
    cls = type(twin_of(env))
    return f"{cls.__module__}.{cls.__qualname__}"


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]
