"""What a worker of a sweep does: ask for trials, train those of equal static fields as one population, tell the scores.

A trial's cost is its seconds of training: where several train together, a share of each second. Compiling and
evaluating are left out, so that costs of different populations can be compared.
"""

import dataclasses
import math
import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from jaxpuffer.cache import drop_programs
from jaxpuffer.checkpoint import backend_of, class_name, run_folder, twin_of
from jaxpuffer.config import PPOConfig, complete
from jaxpuffer.config_file import plain, settable
from jaxpuffer.devices import on_cpu
from jaxpuffer.evaluate import evaluate, evaluation_key
from jaxpuffer.exits import one_line
from jaxpuffer.host import HostEnv
from jaxpuffer.population import Population, static_fields
from jaxpuffer.registry import as_env, name_of
from jaxpuffer.report import duration
from jaxpuffer.stopping import check_finite, interruptions
from jaxpuffer.sweep.results import Summary, read_sweep, setting_in_words
from jaxpuffer.sweep.space import COST_PARAMETER, Space, default_space
from jaxpuffer.sweep.study import Settings, Sweep, Worker, quiet_optuna

CHUNK_SECONDS = 0.5  # between two looks at the members
REPORTS = 32  # points of a trial's learning curve
EXPLOIT_SHARE = 0.25  # of a population that takes over, and is taken over from
PERTURBATION = 1.25  # factor by which population-based training changes a parameter

Say = Callable[[str], None]


def sweep(
    env: Any,
    directory: str | os.PathLike[str],
    *,
    space: Mapping[str, Any] | None = None,
    config: PPOConfig | None = None,
    trials: int | None = None,
    minutes: float | None = None,
    suggestions: Sequence[Mapping[str, Any]] = (),
    resume: bool = False,
    storage: str | None = None,
    say: Say = print,
    **options: Any,
) -> Summary:
    """Search for configurations of an environment, in this process: `jaxpuffer sweep` for environments of any class.

    Args:
        env: an environment of either backend, or a registered name.
        directory: folder of the sweep.
        space: what to vary, a table as `jaxpuffer.sweep.space` describes; None: around the config.
        config: the config that trials change, and the first trial; None: the environment's tuned configuration.
        trials: of the sweep in all; None: as many as there is time for; without `minutes`, as many as the sweep began
            with, or 100.
        minutes: from now; trials that run then end with the score that they have reached.
        suggestions: values by field that are tried first; fields of the space that they do not name are the config's.
        resume: go on with the sweep in `directory`, under its settings.
        storage: Optuna's storage, a URL or a journal FILE.log; None: SQLite in `directory`.
        say: told one line per trial.
        options: `seed`, `sampler`, `pruner`, `population`, `episodes`, `halving`, `exploits` and `max_cost` of
            `Settings`.

    Returns:
        What the sweep has found; `jaxpuffer.sweep.report` writes it into files.

    Raises:
        FileExistsError: there is a sweep in `directory`, and `resume` is False.
        TypeError, ValueError: an argument is not allowed.
    """
    folder, by_name, env = run_folder(directory), isinstance(env, str), as_env(env)
    trials, minutes = plain(trials), plain(minutes)
    options = {name: plain(value) for name, value in options.items()}
    for name, value in (("trials", trials), ("minutes", minutes)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 < value < math.inf):
            raise ValueError(f"{name} is {value!r}; it must be a number above 0, or None")
    if trials is not None and trials != int(trials):
        raise ValueError(f"trials is {trials!r}; it must be a whole number, or None")
    if isinstance(suggestions, Mapping | str) or not isinstance(suggestions, Sequence):
        raise TypeError(f"suggestions is {suggestions!r}; it must be a list of dicts, values by field")
    if storage is not None and not isinstance(storage, str):
        raise TypeError(f"storage is {storage!r}; it must be a URL, a journal FILE.log, or None")
    if not callable(say):
        raise TypeError(f"say is {say!r}; it must be a function of a line")
    own = env if name_of(env) is None else None
    trials = None if trials is None else int(trials)
    with quiet_optuna():
        if resume:
            given = {"config": config, "space": space, **options}
            if changed := [name for name, value in given.items() if value is not None]:
                raise ValueError(f"{changed[0]} cannot change when a sweep goes on; leave it out")
            found = Sweep.open(folder, storage, own, _path(env))
            parameters = settable(twin_of(env))
            if not by_name and parameters != found.settings.parameters:
                raise ValueError(f"the sweep in {folder} is of {found.settings.parameters}; env has {parameters}")
            for values in suggestions:
                found.enqueue(values, "suggestion: ")
        else:
            options["trials"] = number_of_trials(trials, minutes, None)
            settings = new_settings(env, complete(env, config), space, **options)
            found = Sweep.create(folder, settings, storage, [(v, "suggestion: ") for v in suggestions], own)
        deadline = math.inf if minutes is None else time.time() + 60 * minutes
        number = work(found, number_of_trials(trials, minutes, found.settings), deadline, say)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        raise SystemExit(128 + number)
    return read_sweep(folder)


def number_of_trials(trials: int | None, minutes: float | None, settings: Settings | None) -> int | None:
    """Trials of a sweep in all, from what a start says; None: as many as there is time for."""
    if trials is not None or minutes is not None:
        return trials
    return 100 if settings is None or settings.trials is None else settings.trials


def new_settings(env: Any, config: PPOConfig, space: Mapping[str, Any] | None = None, **options: Any) -> Settings:
    """Settings of a new sweep; the arguments are those of `sweep`.

    Raises:
        TypeError, ValueError: an option or the space is not allowed.
    """
    known = [field.name for field in dataclasses.fields(Settings) if field.default is not dataclasses.MISSING]
    for name in options:
        if name not in known:
            raise TypeError(f"there is no option {name!r} (there are: {', '.join(known)})")
    if isinstance(env, HostEnv):
        raise TypeError(f"{env.name} is stepped by Python; a sweep trains in compiled programs")
    inner = twin_of(env)
    given = {"population": 4 if on_cpu() else 8} | options
    return Settings(
        env=_path(env),
        backend="c" if backend_of(env) == "c" else "jax",
        parameters=settable(inner),
        base=config.to_dict(),
        space=dict(default_space(config) if space is None else Space(space, inner).table),
        **given,
    )


class Running:
    """A trial while it trains."""

    def __init__(self, trial: optuna.Trial, config: Any, env: Any, parameters: dict[str, Any], seed: int) -> None:
        self.trial, self.config, self.env, self.seed = trial, config, env, seed
        self.slot = -1
        self.seconds = 0.0
        self.score = math.nan  # of training's episodes
        self.curve: list[list[float]] = []
        self.schedule: list[dict[str, Any]] = []  # of population-based training
        trial.set_user_attr("config", config.to_dict())
        trial.set_user_attr("env", parameters)
        trial.set_user_attr("seed", seed)

    def report(self, agent_steps: int) -> None:
        """Add a point to the learning curve."""
        if not math.isfinite(self.score):
            return
        self.curve.append([agent_steps, self.seconds, self.score])
        self.trial.report(self.score, agent_steps)
        self.trial.set_user_attr("curve", self.curve)


def _path(env: Any) -> str:
    """An environment's registered name, or the path of its class."""
    return name_of(env) or class_name(env)


def work(
    sweep: Sweep, trials: int | None, deadline: float, say: Say = print, stop_with: Callable[[], bool] | None = None
) -> int:
    """Run trials until the sweep has `trials` of them, or `time.time()` is `deadline`.

    Trials that run at the deadline end there, with the score that they have reached. After Ctrl-C or SIGTERM they go
    back into the queue.

    Args:
        say: told one line per trial.
        stop_with: asked between chunks; True ends as a signal does.

    Returns:
        The number of the signal that ended it, 0 if none did.

    Raises:
        OSError: the study cannot be written. What it has stays.
    """
    try:
        return _work(sweep, trials, deadline, say, stop_with)
    except optuna.exceptions.StorageInternalError as error:
        cause = one_line(error.__cause__ or error)
        raise OSError(f"the study in {sweep.storage} cannot be written: {cause}") from error


def _work(sweep: Sweep, trials: int | None, deadline: float, say: Say, stop_with: Callable[[], bool] | None) -> int:
    settings = sweep.settings
    same = list(sweep.space.static_keys)
    if settings.population == 1 or len(same) == len(sweep.space.parameters):
        same = []  # of a space of static fields alone, equal ones would be the same trial again
    if (settings.halving or settings.exploits) and COST_PARAMETER in sweep.space.parameters:
        same.append(COST_PARAMETER)  # members are compared at the same steps
    # on a CPU results come sooner one after the other, and the program is still compiled once
    together = settings.population if settings.halving or settings.exploits or not on_cpu() else 1
    pinned: dict[str, Any] = {}
    in_a_row = 0

    def stopped() -> int:
        if stop_with is not None and stop_with():
            interrupted.number = interrupted.number or signal.SIGTERM
        return interrupted.number

    with Worker(sweep) as worker, interruptions() as interrupted:
        while not stopped() and time.time() < deadline:
            with sweep.lock:
                if sweep.requeue_lost(worker.is_alive):
                    say("trials of a worker that was killed are in the queue again")
                left = sweep.left(trials)
                if left <= 0:
                    break
                if in_a_row >= settings.population:
                    pinned, in_a_row = {}, 0
                asked = sweep.ask(int(min(together, left)), worker.name, pinned, same)
                pinned = pinned or {key: asked[0].params[key] for key in same}
                in_a_row += len(asked)
            for group in _groups(sweep, asked, say):
                if not stopped():
                    drop_programs()
                    _train(sweep, group, deadline, stopped, say)
        if interrupted.number:
            with sweep.lock:
                sweep.requeue_lost(lambda name: name != worker.name and worker.is_alive(name))
    return interrupted.number


def _groups(sweep: Sweep, trials: Sequence[optuna.Trial], say: Say) -> list[list[Running]]:
    """Trials by static fields; those whose fields do not fit together have failed."""
    groups: dict[Any, list[Running]] = {}
    for trial in trials:
        seed = (sweep.settings.seed * 1_000_003 + trial.number) % 2**32
        try:
            env, parameters = sweep.make_env(trial.params)
            config = sweep.space.config(sweep.settings.config(), trial.params, env.num_agents)
            running = Running(trial, config, env, parameters, seed)
            # members of a population that are compared, are compared at the same steps
            steps = config.total_steps if sweep.settings.halving or sweep.settings.exploits else None
            groups.setdefault((static_fields(env, config), steps), []).append(running)
        except (ValueError, TypeError) as error:
            _fail(sweep, trial, one_line(error), say)
    return list(groups.values())


def _train(sweep: Sweep, group: list[Running], deadline: float, stopped: Callable[[], int], say: Say) -> None:
    settings = sweep.settings
    try:
        population = Population(group[0].env, group[0].config, len(group) if len(group) == 1 else settings.population)
        for running in group:
            running.slot = population.add(jax.random.key(running.seed), running.config, running.env)
        population.compile()
    except (ValueError, TypeError, jax.errors.JaxRuntimeError) as error:  # of memory, for example
        for running in group:
            _fail(sweep, running.trial, one_line(error), say)
        return
    rungs = _Rungs(settings, group)
    running_now = list(group)
    count = 1

    def end(running: Running, state: TrialState, why: str = "") -> None:
        policy, steps = population.policy(running.slot), population.agent_steps(running.slot)
        population.remove(running.slot)
        running_now.remove(running)
        try:
            key = evaluation_key(jax.random.key(running.seed))
            score = evaluate(running.env, policy, key, episodes=settings.episodes).summary()["score"]
        except (ValueError, jax.errors.JaxRuntimeError) as error:
            _fail(sweep, running.trial, one_line(error), say)
            return
        if not math.isfinite(score["mean"]):
            _fail(sweep, running.trial, f"the score is {score['mean']}", say)
            return
        _tell(sweep, running, steps, score, state, why, say)

    while running_now and not stopped():
        now = {running.slot: running for running in running_now}
        ahead = [rungs.updates_to_next(running, population) for running in running_now]
        began = time.perf_counter()
        metrics = population.advance(max(1, min(count, *ahead)))
        seconds = time.perf_counter() - began
        done = len(next(iter(metrics.values()))["agent_steps"])
        count = max(1, min(2 * done, int(done * CHUNK_SECONDS / max(seconds, 1e-6))))
        for slot, chunk in metrics.items():
            running = now[slot]
            running.seconds += seconds / len(metrics)
            episodes = chunk["episodes"]
            if episodes.sum() > 0:
                running.score = float(np.nansum(chunk["score"] * episodes) / episodes.sum())
            try:
                check_finite(chunk, population.params(slot), 0, lambda: -1, None)
            except FloatingPointError as error:
                population.remove(slot)
                running_now.remove(running)
                _fail(sweep, running.trial, one_line(error), say)
        for running in list(running_now):
            steps = population.agent_steps(running.slot)
            if not population.updates_left(running.slot):
                end(running, TrialState.COMPLETE)
            elif time.time() >= deadline:
                end(running, TrialState.PRUNED, "the time is up")
            elif not population.updates_until(running.slot, (len(running.curve) + 1) / REPORTS):
                running.report(steps)
                if running.curve and running.trial.should_prune():
                    end(running, TrialState.PRUNED, "stopped early")
        for running in rungs.dropped(running_now, population):
            end(running, TrialState.PRUNED, "among the worst")
        rungs.exploit(sweep, running_now, population)


class _Rungs:
    """When a population's members are compared: successive halving, and population-based training.

    Halving (Jamieson and Talwalkar, 2016, arXiv 1502.07943): of n members one in `halving` goes on at each rung; the
    steps of a rung are `halving` times those of the one before, and the last is the end of training.
    """

    def __init__(self, settings: Settings, group: Sequence[Running]) -> None:
        self.settings = settings
        shares = []
        if settings.halving:
            count = math.floor(math.log(len(group), settings.halving) + 1e-9)
            shares = [settings.halving**-k for k in range(count, 0, -1)]
        self.halvings = shares
        self.exploits = [k / (settings.exploits + 1) for k in range(1, settings.exploits + 1)]

    def updates_to_next(self, running: Running, population: Population) -> int:
        """Updates of a member until it is next compared, or ends."""
        next_ones = [*self.halvings[:1], *self.exploits[:1], 1.0]
        return min(population.updates_until(running.slot, share) for share in next_ones)

    def _is_reached(self, shares: list[float], running_now: Sequence[Running], population: Population) -> bool:
        return bool(shares) and not any(population.updates_until(one.slot, shares[0]) for one in running_now)

    def dropped(self, running_now: Sequence[Running], population: Population) -> list[Running]:
        """The members that do not go on."""
        if not running_now or not self._is_reached(self.halvings, running_now, population):
            return []
        self.halvings.pop(0)
        if not any(math.isfinite(running.score) for running in running_now):
            return []  # no episode has ended: nothing says which is the worst
        ordered = sorted(running_now, key=_by_score)
        return ordered[: len(ordered) - max(1, len(ordered) // self.settings.halving)]

    def exploit(self, sweep: Sweep, running_now: Sequence[Running], population: Population) -> None:
        """The worst members go on with what the best have learned, and with the best's parameters, perturbed."""
        if not running_now or not self._is_reached(self.exploits, running_now, population):
            return
        self.exploits.pop(0)
        if not any(math.isfinite(running.score) for running in running_now):
            return
        ordered = sorted(running_now, key=_by_score)
        number = min(math.ceil(EXPLOIT_SHARE * len(ordered)), len(ordered) // 2)
        static = sweep.space.static_keys
        for place in range(number):
            worst, best = ordered[place], ordered[-1 - place]
            steps = population.agent_steps(worst.slot)
            draw = random.Random(f"{sweep.settings.seed} {worst.trial.number} {steps}")
            params = dict(best.trial.params if not best.schedule else best.schedule[-1]["params"])
            for key, distribution in sweep.space.distributions.items():
                if key not in static and key != COST_PARAMETER and not key.startswith("env."):
                    params[key] = perturbed(params[key], distribution, draw)
            params |= {key: worst.trial.params[key] for key in worst.trial.params if key.startswith("env.")}
            worst.config = sweep.space.config(sweep.settings.config(), params, worst.env.num_agents)
            population.exploit(worst.slot, best.slot, worst.config)
            worst.score = best.score
            worst.schedule.append({"agent_steps": steps, "from_trial": best.trial.number, "params": params})
            worst.trial.set_user_attr("schedule", worst.schedule)
            worst.trial.set_user_attr("config", worst.config.to_dict())


def perturbed(value: Any, distribution: Any, draw: random.Random) -> Any:
    """A parameter times or divided by 1.25, on a linear scale a tenth of its range more or less, kept in its range."""
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return value
    up = draw.random() < 0.5
    if distribution.log:
        new = value * (PERTURBATION if up else 1 / PERTURBATION)
    else:
        new = value + (1 if up else -1) * 0.1 * (distribution.high - distribution.low)
    new = min(max(new, distribution.low), distribution.high)
    return round(new) if isinstance(distribution, IntDistribution) else float(new)


def _by_score(running: Running) -> tuple[bool, float]:
    """An order in which members without an episode so far come first."""
    known = math.isfinite(running.score)
    return known, running.score if known else 0.0


def _tell(
    sweep: Sweep, running: Running, steps: int, score: dict[str, Any], state: TrialState, why: str, say: Say
) -> None:
    trial = running.trial
    running.curve.append([steps, running.seconds, score["mean"]])
    error = score["standard_error"] if math.isfinite(score["standard_error"]) else None
    attributes = {"curve": running.curve, "cost": running.seconds, "agent_steps": steps, "score_error": error}
    for name, value in attributes.items():
        trial.set_user_attr(name, value)
    # a step can have one report, and at this one there may be one of training
    trial.report(score["mean"], steps + 1)
    whole = sweep.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    best = max((t.value for t in whole if t.value is not None), default=-math.inf)
    if state == TrialState.PRUNED:
        trial.set_user_attr("stopped", why)
        # Optuna takes the last reported score as a pruned trial's value
        sweep.study.tell(trial, state=state)
    else:
        sweep.study.tell(trial, score["mean"])
    used = running.config.to_dict() | {f"env.{name}": v for name, v in twin_of(running.env).to_dict().items()}
    changed = ", ".join(f"{name}={setting_in_words(used[name])}" for name in sweep.space.values(trial.params))
    mark = " (best so far)" if score["mean"] > best and state == TrialState.COMPLETE else ""
    note = f", {why}" if why else ""
    note += f", settings changed {len(running.schedule)} times, these are the last" * bool(running.schedule)
    say(
        f"trial {trial.number}: score {score['mean']:.8g}{mark} in {duration(running.seconds)}, {steps:,} steps{note}; "
        f"{changed}"
    )


def _fail(sweep: Sweep, trial: optuna.Trial, problem: str, say: Say) -> None:
    trial.set_user_attr("problem", problem)
    sweep.study.tell(trial, state=TrialState.FAIL)
    say(f"trial {trial.number}: failed: {problem}")
