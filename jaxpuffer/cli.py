"""The command line: list | train ENV | eval RUN | export RUN | config ENV; `cli_runs.py` has runs | compare | plot."""

import contextlib
import dataclasses
import decimal
import difflib
import io
import itertools
import json
import math
import os
import shlex
import sys
import time
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxpuffer import __version__, cli_ablate, cli_match, cli_runs, cli_sweep
from jaxpuffer.ablate import MAX_SEED
from jaxpuffer.animate import animate, check_file, check_render
from jaxpuffer.baselines import baseline_record, figures_in_words, load_baseline, spaces_in_words
from jaxpuffer.cache import use_cache
from jaxpuffer.checkpoint import (
    chosen_checkpoint,
    config_of,
    load,
    read_record,
    run_and_checkpoint,
    run_folder,
)
from jaxpuffer.config import PPOConfig, complete, tuned_config
from jaxpuffer.config_file import as_toml, chosen_config, settable, with_file
from jaxpuffer.env import Env
from jaxpuffer.evaluate import Evaluation, evaluate, evaluation_key
from jaxpuffer.exits import clear_exits
from jaxpuffer.export import FORMATS, check_export, export
from jaxpuffer.fit import fit_or_signal
from jaxpuffer.policy import Policy
from jaxpuffer.pytree import Parameters, parameter_fields
from jaxpuffer.registry import Backend, default_backend, env_class, list_envs, make
from jaxpuffer.rng import check_key
from jaxpuffer.sharding import split_cpu, take_devices
from jaxpuffer.writers import writers_named

_USAGE = """\
usage: jaxpuffer COMMAND

  list              the environments, the scores of their trained agents, and their speeds
  config ENV        an environment's tuned configuration, as TOML
  train ENV         train an agent and save the run (train ENV --help: all flags)
  finetune RUN      go on with the policy of a saved run under other settings, as a run of its own
  eval RUN          evaluate the agent of a saved run, or the agent that ships with an environment (eval --help)
  match A B         let two players of a game with two sides play each other (match --help)
  tournament A B... let several players play each other, and rate them (tournament --help)
  export RUN        write the agent's weights, or its network as a program, for other programs (export --help)
  runs [FOLDER]     list, sort and filter the runs in a folder (runs --help)
  compare RUN RUN   what differs between runs in settings and results
  plot RUN...       draw the score of runs over steps and time (plot --help)
  sweep ENV         search for configurations with good scores for their cost (sweep --help)
  sweep report DIR  what a sweep has found
  ablate ENV...     compare settings over seeds: table, figures, record (ablate --help)
  --version         the version"""


_imported = time.perf_counter()


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; it ends as `exits.clear_exits` says."""
    command, *args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    own = {"list": _list, "config": _config, "train": _train, "finetune": _finetune, "eval": _eval, "export": _export}
    commands = own | cli_runs.COMMANDS | cli_match.COMMANDS | cli_ablate.COMMANDS | {"sweep": cli_sweep.sweep}
    with clear_exits():
        if command in ("-h", "--help"):
            print(_USAGE)
        elif command == "--version":
            print(f"jaxpuffer {__version__}")
        elif command in commands:
            commands[command](args)
        else:
            raise ValueError(f"there is no command {command!r}{_nearest(command, commands)} (see jaxpuffer --help)")


def _list(args: list[str]) -> None:
    if args:
        raise ValueError("usage: jaxpuffer list")
    rows: list[tuple[str, ...]] = [("name", "agents", "observation", "action", "untrained", "baseline", "C", "JAX")]
    for name in list_envs():
        env = make(name)
        record = baseline_record(name)
        figures = [] if record is None else figures_in_words(record)
        rows.append((name, str(env.num_agents), *spaces_in_words(env), *figures))
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)))
    print("\nbaseline: mean score of the agent that ships with it; C and JAX: million agent-steps per second of 1,024")
    print("environments on two CPU cores; `python -m benchmarks.baselines NAME` measures both again")


def _config(args: list[str]) -> None:
    if len(args) != 1 or args[0].startswith("-"):
        raise ValueError("usage: jaxpuffer config ENV")
    print(as_toml(settable(tuned_config(make(args[0])))), end="")


def _train(args: list[str]) -> None:
    if args and args[0] in ("-h", "--help"):
        print(f"usage: jaxpuffer train ENV [flags]\n\nENV: {', '.join(list_envs())}")
        return
    if not args or args[0].startswith("-"):
        raise ValueError("usage: jaxpuffer train ENV [flags] (see jaxpuffer train --help)")
    name, *args = args
    _split_cpu()
    env = make(name)
    _train_with_flags(f"train {name}", name, args, env, tuned_config(env), None, None)


def _finetune(args: list[str]) -> None:
    usage = "usage: jaxpuffer finetune RUN --out DIR [flags]"
    if args and args[0] in ("-h", "--help"):
        print(f"{usage}\n\nRUN: a run, or one of its checkpoints, RUN/best or RUN/checkpoint-3")
        print("flags: those of `jaxpuffer train ENV`; their defaults are the run's settings")
        return
    if not args or args[0].startswith("-"):
        raise ValueError(f"{usage} (see jaxpuffer finetune --help)")
    run, *args = args
    _split_cpu()
    record = read_record(run_and_checkpoint(run)[0])
    name = record["environment"]
    if name is None:
        raise ValueError(f"{run} was trained on {record['class']}, which is not registered; use fit(start_from=...)")
    env = env_class(name)(**record["parameters"])
    _train_with_flags(f"finetune {run}", name, args, env, config_of(record), record["backend"], run)


def _split_cpu() -> None:
    with contextlib.suppress(RuntimeError):  # if JAX already runs, its devices stay
        split_cpu()


def _train_with_flags(
    command: str,
    name: str,
    args: list[str],
    defaults: Env,
    tuned: PPOConfig,
    backend: Backend | None,
    start_from: str | None,
) -> None:
    """Train on the environment `name`; a file and flags change the defaults: parameters, config and backend."""
    flags = _train_flags(command, args, defaults, tuned, backend, 0, 1)
    file = flags.config_
    if file is not None:
        defaults, tuned = with_file(file, defaults, tuned)
        flags = _train_flags(command, args, defaults, tuned, backend, 0, 1)
    if start_from is not None and flags.out is None:
        raise ValueError("usage: jaxpuffer finetune RUN --out DIR [flags]")
    out = run_folder(f"runs/{name}-{flags.seed}" if flags.out is None else flags.out)
    if (out / "run.json").exists():
        if not flags.resume:
            raise FileExistsError(f"there is a run in {out}: continue it with --resume, or choose another --out")
        # the run's own settings are the defaults; a file and flags that differ from them are refused by `fit`
        record = read_record(out)
        if record["environment"] != name:
            raise ValueError(f"the run in {out} is of {record['environment']}, not of {name}")
        saved = env_class(name)(**record["parameters"]), config_of(record)
        saved = saved if file is None else with_file(file, *saved)
        unchanged = record["backend"], record["seed"] or 0, record.get("devices", 1)
        flags = _train_flags(command, args, *saved, *unchanged)
    elif flags.resume:
        print(f"there is no run in {out} yet: starting a new one")

    use_cache(flags.no_cache)
    if not 0 <= flags.seed <= MAX_SEED:
        raise ValueError(f"--seed is {flags.seed}; it must be from 0 to {MAX_SEED}")
    writers = [] if flags.log is None else writers_named(flags.log)
    mesh = take_devices(flags.devices)
    backend = flags.backend or default_backend()
    env = make(name, backend=backend, **vars(flags.env))
    config = chosen_config(vars(flags.config) | {"league": vars(flags.league)}, tuned, env.num_agents)
    key = jax.random.key(flags.seed)
    on = f" on {flags.devices} devices" if mesh is not None else ""
    config = complete(env, config)
    print(f"training {name}: backend {backend}{on}, seed {flags.seed}, run {out}", flush=True)
    if config.league_games:
        print(f"a league: {config.league_games} of {config.num_envs} games against {config.league}", flush=True)

    chunks: list[dict[str, float]] = []
    result, number = fit_or_signal(
        env,
        key,
        config,
        directory=out,
        resume=flags.resume,
        stop_at_score=flags.stop_at_score,
        evaluate_every=flags.evaluate_every,
        keep=flags.keep,
        start_from=start_from,
        profile=flags.profile,
        mesh=mesh,
        log=[lambda _, means: chunks.append(means), *writers],
    )
    if number:  # 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP
        sys.exit(128 + number)
    _show(evaluate(env, result.policy, evaluation_key(key)))
    print(f"{_process_seconds():.2f} s since the process started", end="")
    if chunks:
        seconds = sum(chunk["chunk_seconds"] for chunk in chunks)
        steps = sum(chunk["steps_per_second"] * chunk["chunk_seconds"] for chunk in chunks)
        print(f", {chunks[0]['compile_seconds']:.2f} s of them compiling; {steps / seconds:,.0f} steps/s in training")
    else:
        print()
    saved_steps = read_record(out)["agent_steps"] if (out / "run.json").exists() else 0
    steps = int(result.state.updates) * result.config.batch_size
    if saved_steps != steps:
        raise OSError(f"the policy at the end is not saved: {out} has the one after {saved_steps:,} of {steps:,} steps")
    watch = shlex.join(["jaxpuffer", "eval", str(out), "--gif", "agent.gif"])
    print(f"watch the agent: {watch}, or in Python: animate(env, load({str(out)!r}), key)")


def _eval(args: list[str]) -> None:
    run, flags = _run_and_flags("eval", _eval_flags(), args)
    if flags.json is not None and not flags.json.parent.is_dir():
        raise FileNotFoundError(f"--json is {flags.json}; there is no folder {flags.json.parent}")
    pictures = {suffix: path for suffix in ("gif", "mp4", "html") if (path := getattr(flags, suffix)) is not None}
    for suffix, path in pictures.items():  # fail now, not after minutes of play
        if path.suffix.lower() != f".{suffix}":
            raise ValueError(f"--{suffix} is {path}; it must end in .{suffix}")
        check_file(path)
    use_cache(flags.no_cache)
    env, policy, agent_steps, words = _agent(run, flags.backend, flags.checkpoint)
    if pictures:
        check_render(env)
    key = check_key(jnp.array(words or [0, 0], jnp.uint32))
    how = {"deterministic": flags.deterministic}
    evaluation = evaluate(env, policy, evaluation_key(key), episodes=flags.episodes, max_steps=flags.max_steps, **how)
    _show(evaluation)
    if flags.json is not None:
        summary = {"run": run, "agent_steps": agent_steps, **how, **_without_nan(evaluation.summary())}
        Path(flags.json).write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n")
    if pictures:
        animation = animate(env, policy, evaluation_key(key), **how)
        for path in pictures.values():
            animation.save(path)


def _export(args: list[str]) -> None:
    flag = _flag("format", str | None, None, f"{', '.join(FORMATS)}; by default what the suffix of --out says")
    out = _flag("out", Path | None, None, f"file to write: {', '.join(FORMATS.values())}")
    of_run = _flag("checkpoint", str | None, None, "checkpoint of the run: its name, or best; by default the last")
    run, flags = _run_and_flags("export", dataclasses.make_dataclass("Export", [out, flag, of_run]), args)
    if flags.out is None:
        raise ValueError("usage: jaxpuffer export RUN --out FILE [--format FORMAT]")
    check_export(flags.out, flags.format)
    env, policy, _, _ = _agent(run, None, flags.checkpoint)
    export(policy, flags.out, env, format=flags.format)
    print(f"wrote {flags.out}")


def _run_and_flags(command: str, cls: type, args: list[str]) -> tuple[str, Any]:
    """The RUN of a command, and its flags."""
    if not args or (args[0].startswith("-") and args[0] not in ("-h", "--help")):
        raise ValueError(f"usage: jaxpuffer {command} RUN [flags]")
    run = "RUN" if args[0] in ("-h", "--help") else args.pop(0)
    return run, _parse(f"{command} RUN", cls, args)


def _agent(
    run: str, backend: Backend | None, checkpoint: str | None
) -> tuple[Any, Policy, int | None, list[int] | None]:
    """A saved run's agent, or the one that ships with an environment: (env, policy, agent-steps, words of the key)."""
    if run in list_envs() and not Path(run).exists():
        if checkpoint is not None:
            raise ValueError(f"--checkpoint is {checkpoint}; the agent that ships with {run} has none")
        env = make(run, backend=backend or default_backend())
        return env, load_baseline(env), (baseline_record(run) or {}).get("agent_steps"), None
    record = read_record(run)
    env = None
    if backend is not None and record["environment"] is not None:
        env = make(record["environment"], backend=backend, **record["parameters"])
    result = load(run, env, checkpoint=checkpoint)
    return result.env, result.policy, chosen_checkpoint(record, checkpoint)["agent_steps"], record["key"]


def _show(evaluation: Evaluation) -> None:
    text = str(evaluation)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = text.replace("±", "+-")
    print(text)


def _without_nan(node: Any) -> Any:
    """The same JSON values with null for NaN and infinities, which JSON does not have."""
    if isinstance(node, dict):
        return {name: _without_nan(value) for name, value in node.items()}
    return None if isinstance(node, float) and not math.isfinite(node) else node


def _eval_flags() -> type:
    return dataclasses.make_dataclass(
        "Eval",
        [
            _flag("episodes", int, 256, "number of episodes, at least: the first of each fresh environment"),
            _flag("max_steps", int, 20_000, "steps after which episodes that still run count with their score so far"),
            _flag("deterministic", bool, False, "take the most likely action in place of a sampled one", switch=True),
            _flag("backend", Backend | None, None, "backend that steps the environments; by default that of the run"),
            _flag("checkpoint", str | None, None, "checkpoint of the run: its name, or best; by default the last"),
            _flag("gif", Path | None, None, "file to save an episode to, as an animated picture"),
            _flag("mp4", Path | None, None, "file to save the same episode to, as a film; needs imageio-ffmpeg"),
            _flag("html", Path | None, None, "file to save the same episode to, as a page with a player"),
            _flag("json", Path | None, None, "file to write mean, standard error and count of each measure to"),
            _NO_CACHE,
        ],
    )


def _train_flags(
    command: str,
    args: list[str],
    env: Parameters,
    config: PPOConfig,
    backend: Backend | None,
    seed: int,
    devices: int,
) -> Any:
    """The parsed flags; the arguments are their defaults."""
    nested = []
    for group, node in (("config", config), ("league", config.league), ("env", env)):
        values = settable(node)
        values.pop("league", None)  # a group of its own
        fields = [
            _flag(field.name, kind, values[field.name], field.metadata["help"])
            for field, kind in parameter_fields(type(node))
            if field.name in values
        ]
        cls = dataclasses.make_dataclass(group, fields)
        nested.append((group, cls, dataclasses.field(default_factory=cls)))
    top = [
        _flag(
            "backend",
            Backend | None,
            backend,
            "backend that steps the environments; by default C on a CPU, and JAX otherwise",
        ),
        _flag(
            "devices", int, devices, "number of devices that share the environments: accelerators, or cores of a CPU"
        ),
        _flag("config_", Path | None, None, "TOML file with fields of the config, and parameters in a table [env]"),
        _flag("seed", int, seed, "seed of the run"),
        _flag("out", Path | None, None, "directory of the run; by default runs/ENV-SEED"),
        _flag(
            "resume",
            bool,
            False,
            "continue the run in --out exactly where it stopped, or begin one if there is none",
            switch=True,
        ),
        _flag(
            "stop_at_score",
            float | None,
            None,
            "stop once 256 fresh episodes average this score plus two standard errors",
        ),
        _flag("log", str | None, None, "also write the metrics to these, joined by commas: csv, tensorboard, wandb"),
        _flag(
            "evaluate_every",
            int | None,
            None,
            "agent-steps between two evaluations of 256 fresh episodes, shown and logged",
        ),
        _flag("keep", int, 1, "number of last checkpoints to keep, besides the one with the best evaluated score"),
        _flag("profile", bool, False, "print at the end where the time went", switch=True),
        _NO_CACHE,
    ]
    return _parse(command, dataclasses.make_dataclass("Train", [*top, *nested]), args)


def _flag(name: str, kind: Any, default: Any, help: str, switch: bool = False) -> tuple[str, Any, Any]:
    """A dataclass field that tyro turns into a flag; a bool takes a value unless it is a switch.

    The flag has the name without an underscore at its end, as `config_` beside the group `config`.
    """
    import tyro

    markers = () if switch else (tyro.conf.FlagConversionOff,)
    return (
        name,
        Annotated[(kind, tyro.conf.arg(name=name.rstrip("_"), help=help), *markers)],
        dataclasses.field(default=default),
    )


_NO_CACHE = _flag(
    "no_cache", bool, False, "compile everything again, and keep nothing of it for the next time", switch=True
)


def _parse(command: str, cls: type, args: list[str]) -> Any:
    """The flags in `args`; if they are wrong, a ValueError of one line."""
    import tyro

    known: dict[str, Any] = {}  # kinds by name
    for field in dataclasses.fields(cls):
        nested = dataclasses.fields(field.default_factory) if callable(field.default_factory) else ()  # type: ignore[arg-type]
        known |= {f"{field.name}.{inner.name}": inner.type for inner in nested} or {field.name.rstrip("_"): field.type}
    plain: list[str] = []
    waiting = ""  # the flag whose value is next
    for arg in args:
        if arg.startswith("--"):
            name, equals, value = arg.removeprefix("--").partition("=")
            name = name.replace("-", "_")
            if name not in known and arg != "--help":
                raise ValueError(
                    f"there is no flag {arg}{_nearest(name, known, '--')} (see jaxpuffer {command} --help)"
                )
            if waiting:
                break
            takes_value = name in known and not _is_switch(known[name])
            if equals and not takes_value:
                raise ValueError(f"--{name} is {value!r}; it takes no value")
            waiting = name if takes_value and not equals else ""
            plain.append(f"--{name}={_checked(name, value, known[name])}" if equals else arg)
        elif waiting:
            plain.append(_checked(waiting, arg, known[waiting]))
            waiting = ""
        elif arg == "-h":
            plain.append(arg)
        else:
            raise ValueError(f"there is no argument {arg!r} (see jaxpuffer {command} --help)")
    if waiting:
        raise ValueError(f"--{waiting} needs a value (see jaxpuffer {command} --help)")
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(cls, prog=f"jaxpuffer {command}", args=plain, use_underscores=True)
    except SystemExit as stop:
        if not stop.code:
            raise
    raise ValueError(" ".join(errors.getvalue().split()))


def _is_switch(kind: Any) -> bool:
    """Whether a flag of this kind takes no value."""
    import tyro

    base, *markers = typing.get_args(kind)
    return base is bool and tyro.conf.FlagConversionOff not in markers


def _checked(flag: str, text: str, kind: Any) -> str:
    """The text of a flag's value as tyro reads it; a ValueError that names the flag if it is not of the kind."""
    base = typing.get_args(kind)[0]
    kinds = typing.get_args(base) if typing.get_origin(base) in (types.UnionType, typing.Union) else (base,)
    if text == "None" and types.NoneType in kinds:
        return text
    for number, what in ((int, "a whole number"), (float, "a number")):
        if number in kinds:
            text = _digits(text) if number is int else text
            try:
                number(text)
            except ValueError:
                raise ValueError(f"--{flag} is {text!r}; it must be {what}") from None
    if Path in kinds and not text:
        raise ValueError(f"--{flag} is empty; it must be a path")
    names = ["True", "False"] if bool in kinds else [x for k in kinds for x in typing.get_args(k)]
    if names and text not in names:
        raise ValueError(f"--{flag} is {text!r}; it must be one of {', '.join(names)}")
    return text


def _digits(text: str) -> str:
    """A whole number as digits, also from 1e6 and 1_000_000; other text unchanged, to be refused later."""
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return text
    short = number.is_finite() and number.adjusted() < 40
    return str(int(number)) if short and number == number.to_integral_value() else text


def _nearest(name: str, known: Any, prefix: str = "") -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _process_seconds() -> float:
    """Seconds since the process started; if the system does not know, since this module was imported."""
    try:
        started = float(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return float(Path("/proc/uptime").read_text().split()[0]) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.perf_counter() - _imported


if __name__ == "__main__":
    main()
