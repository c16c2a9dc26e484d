"""ablate: train several arms, which differ in some fields, on several environments with the same seeds.

    DIR/record.json     all that is needed to run it again, and every score and curve
    DIR/table.md, table.tex, scores.pdf, profiles.pdf, improvement.pdf, curves.pdf, and .png of each

All runs are planned and checked before the first one is trained. The seeds of an arm are one program under `vmap`, and
arms that differ in traced fields alone share it. record.json is replaced in one step after each arm, so that a process
that is killed loses the arm that it trained and no other. `ablate_report.py` makes the table and the figures.
"""

import contextlib
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxpuffer import __version__
from jaxpuffer.ablate_report import check_matplotlib, report, scores_in_words
from jaxpuffer.baselines import baseline_record
from jaxpuffer.cache import drop_programs
from jaxpuffer.checkpoint import backend_of, claim, class_name, run_folder, twin_of, versions
from jaxpuffer.config import PPOConfig, complete
from jaxpuffer.config_file import plain
from jaxpuffer.evaluate import check_count, evaluate, evaluation_key
from jaxpuffer.exits import one_line
from jaxpuffer.host import HostEnv
from jaxpuffer.journal import git_state, machine, now, write_json
from jaxpuffer.memory import check_fits, needed, total
from jaxpuffer.policy import Policy, checked_module
from jaxpuffer.ppo import MAX_UPDATES, MUST_BE_FINITE, init, train
from jaxpuffer.pytree import check_names, parameter_fields
from jaxpuffer.registry import Backend, as_env, default_backend, make, name_of
from jaxpuffer.saving import NotFiniteError
from jaxpuffer.statistics import thinned
from jaxpuffer.stopping import check_finite

RECORD = "record.json"
DESIGNS = ("grid", "one")
OF_ENV = "env."  # begins the name of an environment's parameter
MEMORY_SHARE = 0.5  # of the memory, for what seeds that train together need at least
MAX_SEED = 2**32 - 1

Changes = Mapping[str, Any]  # values by field: of PPOConfig, or env.NAME
Design = Literal["grid", "one"]


def ablate(
    envs: Any,
    vary: Mapping[str, Sequence[Any]] | None = None,
    *,
    arms: Mapping[str, Changes] | None = None,
    design: Design = "grid",
    seeds: int | Sequence[int] = 10,
    total_steps: int | None = None,
    config: PPOConfig | None = None,
    backend: Backend | None = None,
    episodes: int = 256,
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Train arms that differ in some fields, and compare their evaluated scores.

    Args:
        envs: a registered name or an environment, a list of these, or a dict of them by name.
        vary: for each field its values, the first one that of the base. A field is one of PPOConfig, or `env.NAME`,
            a parameter of the environments. One value alone is set in all arms.
        arms: in place of `vary`, the changes of each arm by its name, for changes that belong together. The first
            arm is the base, which may have no changes.
        design: "grid" for one arm for each combination of values; "one" for the base, with the first value of each
            field, and one arm for each other value.
        seeds: how many, from 0 on, or the seeds. A seed trains with `jax.random.key(seed)`.
        total_steps: agent-steps of each run, in place of the config's.
        config: what the arms change; None for each environment's tuned configuration.
        backend: of environments given by name; None for the faster one here.
        episodes: the least number of fresh episodes that evaluate each run at its end.
        directory: a folder for the record, table and figures; None writes nothing.
        resume: continue the ablation in `directory` with the runs that it lacks.
        progress: print a line for each arm.

    Returns:
        What record.json has: a dict of JSON values. `jaxpuffer.ablate_report` makes tables and figures of it.

    Raises:
        ValueError, TypeError: an argument, a field or a value is wrong, or a config does not fit an environment, or
            the ablation in `directory` has other settings.
        FileExistsError: an ablation is in `directory`, and `resume` is False; or another process writes there.
        ImportError: `directory` is given, and Matplotlib is not installed.
    """
    seeds, total_steps, episodes = plain(seeds), plain(total_steps), plain(episodes)
    if not isinstance(seeds, Sequence) or isinstance(seeds, str):
        seeds = range(_count("seeds", seeds))
    chosen = list(seeds)
    for seed in chosen:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seeds has {seed!r}; a seed must be a whole number from 0 to {MAX_SEED}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"seeds is {chosen}; it must be one or more different numbers")
    _count("episodes", episodes)
    if (vary is None) == (arms is None):
        raise ValueError("give either vary, the values of fields, or arms, the changes of each arm")
    if config is not None and not isinstance(config, PPOConfig):
        raise TypeError(f"config is {config!r}; it must be a PPOConfig, or None for the tuned configuration")
    environments = _by_name(envs, backend)
    changes = _arms(vary, design) if arms is None else _given_arms(arms)
    if total_steps is not None:
        if any("total_steps" in fields for fields in changes.values()):
            raise ValueError(f"total_steps is {total_steps}, and an arm changes it as well; give one of the two")
        check_count("total_steps", total_steps)
    _check_arms(changes, environments)
    runs = [
        _planned(arm, fields, name, env, config, total_steps)
        for name, env in environments.items()
        for arm, fields in changes.items()
    ]
    baselines = {name: _baseline(env) for name, env in environments.items()}
    record = {
        "kind": "ablation",
        "arms": {arm: {field: plain(value) for field, value in fields.items()} for arm, fields in changes.items()},
        "seeds": [int(seed) for seed in chosen],
        "episodes": int(episodes),
        "environments": {name: _described(env) for name, env in environments.items()},
        # of those without an agent that ships it is measured
        "untrained": {name: record and record["untrained_score"]["mean"] for name, record in baselines.items()},
        "starts": [],
        "runs": [description for description, _, _ in runs],
    }
    return _carry_out(record, [(env, config) for _, env, config in runs], directory, resume, progress)


def again(
    record: str | os.PathLike[str] | dict[str, Any],
    directory: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Run an ablation again with the configs, parameters and seeds that its record has.

    Args:
        record: the folder of an ablation, or its record.
        directory: as of `ablate`.
        resume: as of `ablate`.
        progress: as of `ablate`.

    Raises:
        ValueError: an environment is not a registered one, or its backend is not one of `make`; or as of `ablate`.
        FileNotFoundError: there is no record.
    """
    old = record if isinstance(record, dict) else read_ablation(record)
    envs = []
    for run in old["runs"]:
        about = old["environments"][run["env"]]
        if about["environment"] is None:
            raise ValueError(f"{run['env']} is {about['class']}, which is not registered; call ablate() with it again")
        envs.append(make(about["environment"], backend=about["backend"], **run["parameters"]))
    new = json.loads(json.dumps(old)) | {"starts": []}
    new.pop("summary", None)
    for run in new["runs"]:
        run["result"] = None
        if new["environments"][run["env"]]["shipped"] is None:
            new["untrained"][run["env"]] = None
    configs = [PPOConfig(**run["config"]) for run in old["runs"]]
    return _carry_out(new, list(zip(envs, configs, strict=True)), directory, resume, progress)


def read_ablation(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The record of an ablation.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    file = run_folder(directory) / RECORD
    if not file.is_file():
        raise FileNotFoundError(f"there is no ablation in {file.parent}")
    try:
        record = json.loads(file.read_text())
        [record[key] for key in ("arms", "seeds", "episodes", "environments", "untrained", "starts", "runs")]
        for run in record["runs"]:
            [run[key] for key in ("arm", "env", "parameters", "config")]
            if run["result"] is not None:
                [run["result"][key] for key in ("scores", "problems", "curve_steps", "curves")]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{file} is damaged ({one_line(error)})") from error
    return record


# the plan


def _by_name(envs: Any, backend: Backend | None) -> dict[str, Any]:
    """The environments by the names that tables and figures use."""
    given = list(envs) if isinstance(envs, list | tuple | dict) else [envs]
    if not given:
        raise ValueError("envs is empty; it must have one environment or more")
    by_name: dict[str, Any] = {}
    for entry in given:
        value = envs[entry] if isinstance(envs, dict) else entry
        env = make(value, backend=backend or default_backend()) if isinstance(value, str) else as_env(value)
        own = entry if isinstance(envs, dict) or isinstance(entry, str) else name_of(env) or type(twin_of(env)).__name__
        if own in by_name:
            raise ValueError(f"envs has {own} twice; give different ones their names in a dict")
        by_name[own] = env
    return by_name


def _given_arms(arms: Any) -> dict[str, dict[str, Any]]:
    """A copy of the argument `arms`."""
    if not isinstance(arms, Mapping):
        raise TypeError(f"arms is {arms!r}; it must be a dict of the changes of each arm by its name")
    for name, fields in arms.items():
        if not isinstance(fields, Mapping) or not all(isinstance(field, str) for field in fields):
            raise TypeError(f"arms has {name!r}: {fields!r}; the changes must be a dict of values by field")
    return {name: dict(fields) for name, fields in arms.items()}


def _arms(vary: Any, design: str) -> dict[str, dict[str, Any]]:
    """The changes of each arm of a design, by a name that tells what it changes; the base is first."""
    if design not in DESIGNS:
        raise ValueError(f"design is {design!r}; it must be one of {', '.join(DESIGNS)}")
    if not isinstance(vary, Mapping) or not all(isinstance(field, str) for field in vary):
        raise TypeError(f"vary is {vary!r}; it must be a dict of a list of values by field")
    for field, values in vary.items():
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray) or not len(values):
            raise ValueError(f"{field} varies over {values!r}; it must be a list of one value or more")
        for i, value in enumerate(values):
            if any(plain(value) == plain(earlier) for earlier in values[:i]):
                raise ValueError(f"{field} has the value {value} twice")
    base = {field: values[0] for field, values in vary.items()}
    several = [field for field, values in vary.items() if len(values) > 1]
    if not several:
        raise ValueError("every field has one value, which makes one arm; an ablation compares two or more")
    if design == "grid":
        grid = [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]
        return {", ".join(f"{field}={fields[field]}" for field in several): fields for fields in grid}
    others = {f"{field}={value}": base | {field: value} for field in several for value in vary[field][1:]}
    return {"base": base} | others


def _check_arms(arms: Mapping[str, Changes], environments: Mapping[str, Any]) -> None:
    of_envs = {name for env in environments.values() for name in twin_of(env).to_dict()}
    if len(arms) < 2:
        raise ValueError(f"there is {len(arms)} arm; an ablation compares two or more")
    for name, fields in arms.items():
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or name.startswith("_"):
            raise ValueError(f"an arm has the name {name!r}; it must be a line of text that does not begin with _")
        of_config = [field for field in fields if not field.startswith(OF_ENV)]
        for field in set(of_config) & of_envs - {known.name for known, _ in parameter_fields(PPOConfig)}:
            raise TypeError(f"PPOConfig has no parameter {field!r}; that of the environment is {OF_ENV}{field}")
        check_names(PPOConfig, of_config)
        if "num_agents" in fields:
            raise ValueError(f"arm {name} changes num_agents, which follows from the environment")


def _planned(
    arm: str, fields: Changes, name: str, env: Any, config: PPOConfig | None, total_steps: int | None
) -> tuple[dict[str, Any], Any, PPOConfig]:
    """An arm on an environment: what the record says, the environment and the config, both checked."""
    of_env = {field.removeprefix(OF_ENV): value for field, value in fields.items() if field.startswith(OF_ENV)}
    of_config = {field: value for field, value in fields.items() if not field.startswith(OF_ENV)}
    if total_steps is not None:
        of_config["total_steps"] = total_steps
    try:
        if of_env:
            if isinstance(env, HostEnv):
                raise TypeError(f"{env.name} is stepped by Python and has no parameters here")
            check_names(type(twin_of(env)), of_env, owner=name)
            env = env.replace(**of_env)
        chosen = complete(env, complete(env, config).replace(**of_config))
        if chosen.num_updates > MAX_UPDATES:
            raise ValueError(f"PPOConfig.total_steps is {chosen.total_steps}; it must be at most {MAX_UPDATES} updates")
        checked_module(env, chosen)
        if not isinstance(env, HostEnv):
            jax.eval_shape(init, env, jax.random.key(0), chosen)
    except (ValueError, TypeError) as error:
        raise type(error)(f"arm {arm} on {name}: {one_line(error)}") from error
    planned = {
        "arm": arm,
        "env": name,
        "parameters": twin_of(env).to_dict(),
        "config": chosen.to_dict(),
        "result": None,
    }
    return planned, env, chosen


def _described(env: Any) -> dict[str, Any]:
    """What the record says about an environment; `shipped` is the score of the agent that ships with it."""
    baseline = _baseline(env)
    return {
        "environment": name_of(env),
        "class": class_name(env),
        "backend": backend_of(env),
        "shipped": baseline and baseline["score"]["mean"],
    }


def _baseline(env: Any) -> dict[str, Any] | None:
    """The measurements of the agent that ships with a registered environment, if the parameters are the default."""
    name, twin = name_of(env), twin_of(env)
    return baseline_record(name) if name is not None and twin == type(twin)() else None


def _count(name: str, value: Any) -> int:
    check_count(name, value, np.iinfo(np.int32).max)
    return int(value)


# the runs


def _carry_out(
    record: dict[str, Any],
    runs: list[tuple[Any, PPOConfig]],
    directory: str | os.PathLike[str] | None,
    resume: bool,
    progress: bool,
) -> dict[str, Any]:
    """Train and evaluate the runs that the record lacks, and report."""
    if directory is None and resume:
        raise ValueError("resume is True, and there is no directory; give the ablation's")
    for env, _ in runs:
        if not isinstance(env, HostEnv):
            check_fits(env, "episodes", record["episodes"])
    record = json.loads(json.dumps(record, allow_nan=False))
    with _folder(directory) as folder:
        if folder is not None:
            check_matplotlib()
            if (folder / RECORD).exists():
                if not resume:
                    raise FileExistsError(
                        f"there is an ablation in {folder}: continue it with --resume, or choose another one"
                    )
                record = _merged(record, folder)
        # a new start, even if nothing is left to train
        record["starts"].append(_start())
        if folder is not None:
            write_json(folder / RECORD, record, allow_nan=False)  # so that a folder that cannot be written is known now
        say = print if progress else lambda *words, **how: None
        say(_plan_in_words(record), flush=True)
        for run, (env, config) in zip(record["runs"], runs, strict=True):
            if record["untrained"][run["env"]] is None and not isinstance(env, HostEnv):
                record["untrained"][run["env"]] = _untrained_score(env, config, record["seeds"][0], record["episodes"])
        for number, (run, (env, config)) in enumerate(zip(record["runs"], runs, strict=True), 1):
            where = f"{number} of {len(runs)}: {run['env']}, {run['arm']}"
            if run["result"] is not None:
                say(f"{where}: done before", flush=True)
                continue
            twin = _same(run, record["runs"][: number - 1])
            if twin is not None:
                run["result"] = twin["result"] | {"same_as": twin["arm"]}
                say(f"{where}: the settings are those of {twin['arm']}, and so are the scores", flush=True)
            else:
                result = _result(env, config, record["seeds"], record["episodes"])
                run["result"] = result | {"start": len(record["starts"]) - 1}
                say(f"{where}: {scores_in_words(result)}", flush=True)
            if folder is not None:
                write_json(folder / RECORD, record, allow_nan=False)
        record = report(record, folder)
        if folder is not None:
            write_json(folder / RECORD, record, allow_nan=False)
            say(f"wrote {folder}", flush=True)
        return record


def _folder(directory: str | os.PathLike[str] | None) -> contextlib.AbstractContextManager[Path | None]:
    return contextlib.nullcontext() if directory is None else _claimed(run_folder(directory))


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[Path]:
    with claim(folder):
        yield folder


def _merged(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record that is in the folder, with its results, after checking that it has the same settings."""
    saved = read_ablation(folder)

    def settings(node: dict[str, Any], key: str) -> Any:
        return [run | {"result": None} for run in node["runs"]] if key == "runs" else node[key]

    for key in ("seeds", "episodes", "arms", "environments", "runs"):
        if settings(saved, key) != settings(record, key):
            what = "configs or parameters" if key == "runs" else key
            raise ValueError(f"the ablation in {folder} has other {what}; continue it with its own settings")
    return saved


def _start() -> dict[str, Any]:
    """When, where and with what a start of the ablation runs."""
    return {
        "started": now(),
        "command": sys.orig_argv,
        "git": git_state(),
        "machine": machine() | {"device": jax.devices()[0].device_kind, "devices": 1},
        "versions": {"jaxpuffer": __version__} | versions(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _plan_in_words(record: dict[str, Any]) -> str:
    seeds, steps = len(record["seeds"]), sorted({run["config"]["total_steps"] for run in record["runs"]})
    words = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    return (
        f"{len(record['arms'])} arms on {', '.join(record['environments'])}, {seeds} seeds each: "
        f"{len(record['runs']) * seeds} runs of {words} agent-steps"
    )


def _same(run: dict[str, Any], earlier: list[dict[str, Any]]) -> dict[str, Any] | None:
    """An earlier run with the same settings, if there is one."""
    keys = ("env", "parameters", "config")
    return next((other for other in earlier if all(other[key] == run[key] for key in keys)), None)


def _untrained_score(env: Any, config: PPOConfig, seed: int, episodes: int) -> float | None:
    """The score of the base's agent before its training; None if it is not finite."""
    key = jax.random.key(seed)
    state = jax.jit(init)(env, key, config)
    policy = state.policy(checked_module(env, config))
    score = evaluate(env, policy, evaluation_key(key), episodes=episodes).summary()["score"]["mean"]
    return score if math.isfinite(score) else None


@jax.jit
def _train_seeds(env: Any, keys: Array, config: PPOConfig) -> tuple[Policy, dict[str, Array]]:
    """Policies and metrics with the axis of the keys in front; it compiles once for all traced fields."""
    return jax.vmap(lambda key: _train_one(env, key, config))(keys)


def _train_one(env: Any, key: Array, config: PPOConfig) -> tuple[Policy, dict[str, Array]]:
    result = train(env, key, config)
    return result.policy, {name: result.metrics[name] for name in (*MUST_BE_FINITE, "agent_steps", "score")}


def _result(env: Any, config: PPOConfig, seeds: list[int], episodes: int) -> dict[str, Any]:
    """Train and evaluate every seed: JSON values, with None for the score of a seed that failed."""
    drop_programs()
    began = time.perf_counter()
    each: list[tuple[Array, Policy, dict[str, np.ndarray]]] = []
    together = _together(env, config, len(seeds))
    for group in np.array_split(np.array(seeds, np.uint32), math.ceil(len(seeds) / together)):
        keys = jax.vmap(jax.random.key)(jnp.asarray(group))
        if isinstance(env, HostEnv):  # Python steps one run at a time
            policies, metrics = jax.tree.map(lambda x: x[None], _train_one(env, keys[0], config))
        else:
            policies, metrics = _train_seeds(env, keys, config)
        metrics = {name: np.asarray(value) for name, value in metrics.items()}
        for i in range(len(group)):
            policy = jax.tree.map(lambda x, i=i: x[i], policies)
            each.append((keys[i], policy, {name: value[i] for name, value in metrics.items()}))
    trained = time.perf_counter()

    scores: list[float | None] = []
    errors: list[float | None] = []
    unfinished: list[int | None] = []
    problems: list[str | None] = []
    for key, policy, metrics in each:
        score, error, still, problem = _evaluated(env, policy, metrics, key, episodes)
        scores.append(score)
        errors.append(error)
        unfinished.append(still)
        problems.append(problem)
    steps = (np.arange(config.num_updates, dtype=np.float64) + 1) * config.batch_size
    curves = thinned(np.stack([metrics["score"] for _, _, metrics in each]).astype(np.float64))
    return {
        "scores": scores,
        "standard_errors": errors,  # of the mean over episodes
        "unfinished": unfinished,  # episodes that still ran at evaluate's last step
        "problems": problems,
        "agent_steps": config.num_updates * config.batch_size,
        "seeds_together": together,
        "train_seconds": round(
            trained - began, 3
        ),  # of all seeds, with the compilation if it was the first of its kind
        "evaluate_seconds": round(time.perf_counter() - trained, 3),
        "curve_steps": [round(float(x), 1) for x in thinned(steps[None])[0]],
        "curves": [[float(f"{x:.6g}") if math.isfinite(x) else None for x in curve] for curve in curves],
    }


def _together(env: Any, config: PPOConfig, seeds: int) -> int:
    """How many seeds train at the same time, so that they fit in memory."""
    if isinstance(env, HostEnv):
        return 1
    return max(1, int(min(seeds, MEMORY_SHARE * total() / needed(env, config))))


def _evaluated(
    env: Any, policy: Policy, metrics: dict[str, np.ndarray], key: Array, episodes: int
) -> tuple[float | None, float | None, int | None, str | None]:
    """Score, standard error and unfinished episodes of a run, or the reason why it failed, by the rules of `fit`."""
    try:
        check_finite(metrics, policy.params, 0, lambda: -1, None)
    except NotFiniteError as error:
        return None, None, None, one_line(error)
    summary = evaluate(env, policy, evaluation_key(key), episodes=episodes).summary()
    score, spread = summary["score"]["mean"], summary["score"]["standard_error"]
    if not math.isfinite(score):
        return None, None, summary["unfinished"], f"the evaluated score is {score}"
    return score, spread if math.isfinite(spread) else None, summary["unfinished"], None
