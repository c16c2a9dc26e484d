"""save and load a run: a directory with a readable run.json and one Orbax checkpoint.

    RUN/run.json        environment, parameters, config, backend, versions, and which checkpoint counts
    RUN/checkpoint-N/   the whole TrainState and the metrics, by Orbax

A save writes checkpoint-N+1, then points run.json at it in one rename, then removes
the old one: a process killed at any moment leaves a run that loads.
"""

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer.env import Env
from jaxpuffer.networks import ActorCritic
from jaxpuffer.ppo import Policy, PPOConfig, Result, checked_module, init
from jaxpuffer.pytree import Parameters, parameter_fields
from jaxpuffer.registry import make, name_of

_PREFIX = "checkpoint-"


def save(result: Result, path: str | os.PathLike[str], key: Array | None = None) -> None:
    """Save a run whole: what `train` or `fit` returned, also several runs stacked by `vmap`.

    Args:
        result: the run.
        path: a directory, made if missing; a run saved there before is replaced.
        key: the run's key, to be kept in run.json.

    Raises:
        ValueError: the result was loaded without its state.
    """
    import orbax.checkpoint  # not needed by those who never save, and slow to import

    if result.state is None:
        raise ValueError("this result has no state: it was loaded for another backend than it was trained on")
    run = Path(path).absolute()
    run.mkdir(parents=True, exist_ok=True)
    old = list(run.glob(f"{_PREFIX}*"))
    number = 1 + max((int(p.name.removeprefix(_PREFIX).split(".")[0]) for p in old), default=0)
    checkpoint = run / f"{_PREFIX}{number}"

    tree = {f"state{name}": leaf for name, leaf in _named_leaves(result.state)}
    tree |= {f"metrics.{name}": leaf for name, leaf in result.metrics.items()}
    # as NumPy arrays, which load on any device; Orbax takes none without entries
    arrays = {name: np.asarray(leaf) for name, leaf in tree.items() if np.size(leaf)}
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(checkpoint, arrays)

    new = run / "run.json.new"
    new.write_text(json.dumps({"checkpoint": checkpoint.name} | describe(result, key), indent=2) + "\n")
    os.replace(new, run / "run.json")
    for directory in old:
        shutil.rmtree(directory)


def load(path: str | os.PathLike[str], env: Any = None, module: Any = None) -> Result:
    """A saved run, as `train` or `fit` returned it.

    Args:
        path: the directory that was saved to.
        env: the environment, where it is not a registered one, or to go on with
            another backend than the run was trained on: then `state` is None, and
            the policy can be evaluated but the run not resumed.
        module: the Flax module, where the run was trained with one of your own.

    Raises:
        FileNotFoundError: no run is there.
        ValueError: the environment is not registered and `env` was not given, or
            `env` is of another kind; likewise the module; or the run was saved by a version too different.
        ImportError: the run's backend is C, which is not built here, and `env` was not given.
    """
    import orbax.checkpoint

    run = Path(path).absolute()
    record = read_record(run)
    if env is None:
        if record["environment"] is None:
            raise ValueError(f"{run} was trained on {record['class']}, which is not registered; pass it as env=")
        threads = {"threads": record["threads"]} if record["backend"] == "c" else {}
        env = make(record["environment"], backend=record["backend"], **threads, **record["parameters"])
    elif _class_name(env) != record["class"]:
        raise ValueError(f"{run} was trained on {record['class']}; env is {_class_name(env)}")
    # a run of before returns were normalised says nothing of it
    config = PPOConfig(**({"normalize_return": False} | record["config"]))
    given = None if module is None else _module_name(module)
    if record["module"] != given:
        theirs = "the config's network" if record["module"] is None else record["module"]
        raise ValueError(f"{run} was trained with {theirs}; module is {given}")
    module = checked_module(env, config, module)

    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        arrays = checkpointer.restore(run / record["checkpoint"])
    metrics = {k.removeprefix("metrics."): v for k, v in arrays.items() if k.startswith("metrics.")}

    # the shapes of one run; a stack of runs has leading axes
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((), x.dtype), (env, config))
    abstract = jax.eval_shape(functools.partial(init, module=module), one[0], jax.random.key(0), one[1])

    def restore(tree: Any, prefix: str) -> Any:
        leaves = []
        for name, leaf in _named_leaves(tree):
            saved = arrays.get(prefix + name, np.zeros(leaf.shape, leaf.dtype) if leaf.size == 0 else None)
            if saved is None or saved.dtype != leaf.dtype or saved.shape[saved.ndim - leaf.ndim :] != leaf.shape:
                found = "is missing" if saved is None else f"is {saved.dtype}{list(saved.shape)}"
                raise ValueError(
                    f"{run} does not fit this version: {prefix}{name} {found}, not {leaf.dtype}{list(leaf.shape)}"
                )
            leaves.append(jnp.array(saved))
        return jax.tree.unflatten(jax.tree.structure(tree), leaves)

    if backend_of(env) == record["backend"]:
        state = restore(abstract, "state")
        params, normalizer, returns = state.params, state.normalizer, state.returns
    else:
        state, params = None, restore(abstract.params, "state.params")
        normalizer = restore(abstract.normalizer, "state.normalizer")
        returns = restore(abstract.returns, "state.returns")
    return Result(Policy(params, module, normalizer, returns), state, metrics, config, env)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What run.json says; FileNotFoundError where no run is saved."""
    file = Path(path) / "run.json"
    if not file.is_file():
        raise FileNotFoundError(f"there is no saved run in {path}")
    return json.loads(file.read_text())


def describe(result: Result, key: Array | None = None) -> dict[str, Any]:
    """What run.json says about a run, as JSON values."""
    updates = np.asarray(result.state.updates)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    words = None if key is None else np.asarray(jax.random.key_data(key)).tolist()
    return {
        "environment": name_of(result.env),
        "class": _class_name(result.env),
        "parameters": parameters_of(twin_of(result.env)),
        "backend": backend_of(result.env),
        "module": None if isinstance(result.policy.module, ActorCritic) else _module_name(result.policy.module),
        "threads": getattr(result.env, "threads", 0),
        "config": parameters_of(result.config),
        "seed": words[1] if words and words[0] == 0 and len(words) == 2 else None,
        "key": words,
        "updates": updates.tolist(),
        "agent_steps": (updates.astype(np.int64) * result.config.batch_size).tolist(),
        "saved": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": jax.devices()[0].device_kind,
        "devices": len(result.state.updates.devices()) if isinstance(result.state.updates, Array) else 1,
        "versions": {"python": platform.python_version(), **versions},
    }


def backend_of(env: Any) -> str:
    """The backend an environment runs on: "jax" or "c"."""
    return "jax" if isinstance(env, Env) else "c"


def twin_of(env: Any) -> Env:
    """The environment itself, or the JAX twin of one in C."""
    return env if isinstance(env, Env) else env.env


def parameters_of(node: Parameters) -> dict[str, Any]:
    """The fields of an environment or a config as JSON values that read back the same."""
    return {field.name: _plain(getattr(node, field.name)) for field, _ in parameter_fields(type(node))}


def _plain(value: Any) -> Any:
    if not hasattr(value, "dtype"):
        return value if isinstance(value, int | float | str) else repr(value)
    if value.ndim:
        return [_plain(x) for x in np.asarray(value)]
    # the shortest decimal that reads back as the same float32: 0.1, not 0.10000000149011612
    return float(str(np.float32(value))) if jnp.issubdtype(value.dtype, jnp.floating) else value.item()


def _module_name(module: Any) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _class_name(env: Any) -> str:
    cls = type(twin_of(env))
    return f"{cls.__module__}.{cls.__qualname__}"


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]]
