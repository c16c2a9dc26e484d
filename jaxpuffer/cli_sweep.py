"""The commands that search for configurations: jaxpuffer sweep ENV, and jaxpuffer sweep report DIR."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxpuffer.cache import use_cache
from jaxpuffer.cli_runs import Parser, both_spellings
from jaxpuffer.config import tuned_config
from jaxpuffer.config_file import read_toml, settable, with_file
from jaxpuffer.devices import on_cpu
from jaxpuffer.registry import default_backend, make

QUICK_DEATH = 30.0  # seconds; a worker that ends so soon and without a result, several times in a row, stays ended
MOST_QUICK_DEATHS = 3
_OPTIONS = ("seed", "sampler", "pruner", "population", "episodes", "halving", "exploits", "max_cost")

_EXAMPLES = """\
jaxpuffer sweep breakout --minutes 30 --out sweeps/breakout    search around the tuned configuration
jaxpuffer sweep breakout --print_space > space.toml            the default space, to be changed
jaxpuffer sweep breakout --space space.toml --trials 200 --workers 2
jaxpuffer sweep breakout --resume --out sweeps/breakout --minutes 30   go on, or join with more workers
jaxpuffer sweep report sweeps/breakout                         the best configurations for their cost, and figures"""


def sweep(args: Sequence[str]) -> None:
    """jaxpuffer sweep ENV: search for configurations with good scores for their cost."""
    if args and args[0] == "report":
        from jaxpuffer.sweep.report import show_report

        show_report(args[1:])
        return
    from jaxpuffer.sweep.search import number_of_trials, work
    from jaxpuffer.sweep.study import Sweep, quiet_optuna

    parser = _parser()
    flags = parser.parse_args(args)
    if flags.print_space:
        _print_space(flags)
        return
    directory = Path(flags.out or f"sweeps/{flags.env}-{flags.seed or 0}").expanduser()
    deadline = time.time() + 60 * flags.minutes if flags.minutes is not None else float("inf")
    with quiet_optuna():
        if flags.resume:
            _refuse_settings(flags)
            found = Sweep.open(directory, flags.storage, name=flags.env)
        else:
            settings = _settings(flags, number_of_trials(flags.trials, flags.minutes, None))
            suggestions = [x for file in flags.enqueue for x in _suggestions(file)]
            found = Sweep.create(directory, settings, flags.storage, suggestions)
        if flags.resume:
            for file in flags.enqueue:
                for values, source in _suggestions(file):
                    found.enqueue(values, source)
        trials = number_of_trials(flags.trials, flags.minutes, found.settings)
        if flags.worker_of is None:
            how = f"sampler {found.settings.sampler}, backend {found.settings.backend}"
            goal = f", up to {trials} trials" if trials is not None else ""
            _say(f"sweep of {flags.env}: {len(found.space.parameters)} parameters, {how}{goal}, in {directory}")
        if flags.workers > 1:
            number = _start_workers(found, flags, trials, deadline)
        else:
            use_cache(flags.no_cache)
            parent = flags.worker_of
            number = work(found, trials, deadline, _say, None if parent is None else lambda: os.getppid() != parent)
        if flags.worker_of is None:
            _close(found, directory, flags.env)
    if number:
        sys.exit(128 + number)


def _parser() -> Parser:
    parser = Parser(
        "jaxpuffer sweep",
        description="Search for configurations of an environment.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("env", metavar="ENV")
    group = parser.add_argument_group("how long")
    group.add_argument(
        "--trials",
        type=_count,
        help="trials of the sweep in all; default 100, with --minutes no limit, with --resume the first start's",
    )
    group.add_argument(
        "--minutes", type=_above_zero, help="minutes from now; trials that run then end with their score"
    )
    group.add_argument("--workers", type=_count, default=1, help="processes on this machine, which share its cores")
    group.add_argument("--resume", action="store_true", help="go on with the sweep in --out, or join its workers")
    group = parser.add_argument_group("where")
    group.add_argument("--out", metavar="DIR", help="folder of the sweep; default sweeps/ENV-SEED")
    group.add_argument(
        "--storage", metavar="URL", help="postgresql://..., or a journal FILE.log; default SQLite in the folder"
    )
    group = parser.add_argument_group("what")
    group.add_argument("--space", metavar="FILE", help="TOML file of the space; default around the tuned configuration")
    group.add_argument(
        *both_spellings("--print-space"), action="store_true", help="print the default space as TOML, and end"
    )
    group.add_argument("--config", metavar="FILE", help="TOML file of the configuration that trials change")
    group.add_argument(
        "--enqueue", metavar="FILE", action="append", default=[], help="TOML file of configurations to try first"
    )
    group.add_argument("--backend", choices=("c", "jax"), help="default C on a CPU, and JAX otherwise")
    group.add_argument("--seed", type=int, help="default 0")
    group = parser.add_argument_group("how")
    group.add_argument("--sampler", choices=("protein", "tpe", "random"), help="default protein")
    group.add_argument(
        *both_spellings("--max-cost"),
        type=_above_zero,
        metavar="SECONDS",
        help="seconds of training that Protein may expect of a trial",
    )
    group.add_argument(
        "--pruner", choices=("protein", "median", "hyperband", "none"), help="what stops trials early; default protein"
    )
    group.add_argument(
        "--population",
        type=_count,
        help="trials in a row with one compiled program; they train together, on a CPU one after the other; "
        "default 4 on a CPU, otherwise 8",
    )
    group.add_argument("--episodes", type=_count, help="episodes of a trial's evaluation; default 256")
    group.add_argument(
        "--halving", type=int, metavar="ETA", help="of a population one in ETA goes on at each rung; default 0: all do"
    )
    group.add_argument(
        "--exploits", type=int, metavar="N",
        help="population-based training: N times the worst quarter goes on from the best; default 0",
    )  # fmt: skip
    parser.add_argument(
        *both_spellings("--no-cache"), action="store_true", help="compile everything again, and keep nothing"
    )
    parser.add_argument("--worker_of", type=int, help=argparse.SUPPRESS)
    return parser


def _count(text: str) -> int:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if number < 1 or number != int(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it must be a whole number of at least 1")
    return int(number)


def _above_zero(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; it must be a number above 0")
    return number


def _base(flags: Any) -> tuple[Any, Any]:
    """The environment, and the configuration that trials change."""
    env = make(flags.env)
    config = tuned_config(env)
    return (env, config) if flags.config is None else with_file(Path(flags.config), env, config)


def _print_space(flags: Any) -> None:
    from jaxpuffer.sweep.space import default_space, space_as_toml

    print(space_as_toml(default_space(_base(flags)[1])))


def _settings(flags: Any, trials: int | None) -> Any:
    """The settings of a new sweep of `trials` trials.

    Raises:
        ValueError: flags do not fit together, or the space is wrong.
    """
    from jaxpuffer.sweep.search import new_settings
    from jaxpuffer.sweep.space import read_space

    env, config = _base(flags)
    table = None if flags.space is None else read_space(Path(flags.space), env).table
    options = {name: getattr(flags, name) for name in _OPTIONS if getattr(flags, name) is not None}
    env = make(flags.env, backend=flags.backend or default_backend(), **settable(env))
    return new_settings(env, config, table, trials=trials, **options)


def _refuse_settings(flags: Any) -> None:
    for name in ("space", "config", "backend", *_OPTIONS):
        # the seed may be part of the default folder's name
        if getattr(flags, name) is not None and not (name == "seed" and flags.out is None):
            raise ValueError(f"--{name} cannot change when a sweep goes on; leave it out, or begin another sweep")


def _suggestions(file: str) -> list[tuple[dict[str, Any], str]]:
    """The configurations in a TOML file: a table [[trial]] for each, or one without a table."""
    path = Path(file).expanduser()
    content = read_toml(path)
    trials = content.pop("trial", None)
    if trials is None:
        trials = [content]
    elif content:
        raise ValueError(f"{path}: {min(content)} is beside the tables [[trial]]; it must be in each of them")
    if not isinstance(trials, list) or not trials or not all(isinstance(trial, dict) for trial in trials):
        raise ValueError(f"{path}: trial must be tables, [[trial]]")
    for trial in trials:
        if not isinstance(trial.get("env", {}), dict):
            raise ValueError(f"{path}: env is {trial['env']!r}; it must be a table, [env]")
    return [(trial, f"{path}: ") for trial in trials]


def _say(line: str) -> None:
    print(line, flush=True)


def _start_workers(found: Any, flags: Any, trials: int | None, deadline: float) -> int:
    """Start workers as processes that share the cores, start those again that are killed, and wait for their end."""
    command = [sys.executable, "-m", "jaxpuffer", "sweep", flags.env, "--resume", "--out", str(found.directory)]
    command += ["--worker_of", str(os.getpid())] + ([] if trials is None else ["--trials", str(trials)])
    command += ["--no_cache"] * flags.no_cache
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    environment = dict(os.environ)
    if not on_cpu():
        environment.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 / flags.workers:.2f}")

    def start(place: int) -> tuple[subprocess.Popen, float]:
        own = cores[place % len(cores) :: flags.workers] if cores else []
        minutes = [] if deadline == float("inf") else ["--minutes", str(max(0.01, (deadline - time.time()) / 60))]
        if own:  # a process inherits them
            os.sched_setaffinity(0, own)
        try:
            return subprocess.Popen(command + minutes, env=environment), time.time()
        finally:
            if own:
                os.sched_setaffinity(0, cores)

    workers = {place: start(place) for place in range(flags.workers)}
    quick: dict[int, int] = dict.fromkeys(workers, 0)
    number, failed = 0, 0

    def end(received: int, frame: Any) -> None:
        nonlocal number
        number = received
        for process, _ in workers.values():
            process.send_signal(signal.SIGTERM)

    before = {n: signal.signal(n, end) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        while workers:
            time.sleep(0.2)
            for place, (process, started) in list(workers.items()):
                code = process.poll()
                if code is None:
                    continue
                del workers[place]
                if code == 0 or number or time.time() >= deadline:
                    continue
                is_quick = time.time() - started < QUICK_DEATH and not _has_result(found, process.pid)
                quick[place] = quick[place] + 1 if is_quick else 0
                if code == 2 or quick[place] >= MOST_QUICK_DEATHS:
                    failed = code
                    _say(f"worker {process.pid} ended with code {code}, and no other one takes its place")
                    continue
                _say(f"worker {process.pid} ended with code {code}; another one takes its place")
                workers[place] = start(place)
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    if failed and not number and time.time() < deadline and found.left(trials) > 0:
        raise RuntimeError(f"the workers ended, the last one with code {failed}; its message is above")
    return number


def _has_result(found: Any, pid: int) -> bool:
    """Whether a worker of this machine has finished a trial."""
    trials = found.study.get_trials(deepcopy=False)
    return any(t.value is not None and t.user_attrs.get("worker", "").split(":")[1:2] == [str(pid)] for t in trials)


def _close(found: Any, directory: Path, env: str) -> None:
    trials = [t for t in found.study.get_trials(deepcopy=False) if t.value is not None]
    if not trials:
        print("no trial has a score yet")
        return
    whole = [trial for trial in trials if trial.state.name == "COMPLETE"] or trials
    best = max(whole, key=lambda trial: trial.value)
    count = f"{len(trials)} trial{'s' * (len(trials) != 1)} with a score"
    print(f"{count}; the best so far is trial {best.number} with {best.value:.8g}")
    print(f"the best for their cost, figures and files for --config: jaxpuffer sweep report {directory}")
    print(f"go on: jaxpuffer sweep {env} --resume --out {directory} --minutes 30")
