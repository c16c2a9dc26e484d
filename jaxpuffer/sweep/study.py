"""A sweep's folder and its Optuna study, which workers of one or of many machines share.

    DIR/sweep.json       settings; they are in the study too, for workers that do not see the folder
    DIR/study.db         the study, unless another storage is given
    DIR/workers/*.lock   held by the workers that run on a machine

A worker asks for trials, and tells their results, under one lock. A trial whose worker has ended without telling is
lost: another worker puts the same parameters back into the queue, once, so that nothing is lost or run twice.
"""

import contextlib
import dataclasses
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import filelock
import optuna
from optuna.trial import FrozenTrial, TrialState

from jaxpuffer.config import PPOConfig
from jaxpuffer.exits import one_line
from jaxpuffer.journal import write_json
from jaxpuffer.registry import Backend, make
from jaxpuffer.sweep.protein import Point, ProteinPruner, ProteinSampler, run_cost, run_curve
from jaxpuffer.sweep.results import SETTINGS, read_about
from jaxpuffer.sweep.space import COST_PARAMETER, Space, by_field
from jaxpuffer.sweep.storage import DATABASE, NAME, absolute, default_storage, existing, load_study, open_storage

SAMPLERS = ("protein", "tpe", "random")
PRUNERS = ("protein", "median", "hyperband", "none")
HEARTBEAT_SECONDS = 60.0
LOST_SECONDS = 600.0  # without a heartbeat a worker on another machine is taken for dead
BEGIN_SECONDS = 5  # that a study may have no settings while its sweep begins
MOST_TRIES = 5  # of a trial whose workers die


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a sweep searches, and how."""

    env: str  # its registered name, or the path of its class
    backend: Backend
    parameters: dict[str, Any]  # the environment's
    base: dict[str, Any]  # the config that trials change
    space: dict[str, Any]  # the table of `Space`
    seed: int = 0
    sampler: str = "protein"
    pruner: str = "protein"
    population: int = 4  # trials that a worker trains at the same time
    episodes: int = 256  # of an evaluation
    halving: int = 0  # share of a population that goes on at each rung is 1 / halving; 0: no halving
    max_cost: float | None = None  # seconds that Protein may expect of a trial
    exploits: int = 0  # times that the worst of a population take over what the best have learned
    trials: int | None = None  # of the sweep in all, unless a later start says otherwise; None: no number

    def config(self) -> PPOConfig:
        """The config that trials change."""
        return PPOConfig(**self.base)

    def values(self) -> dict[str, Any]:
        """The base config's fields and, with `env.` in front, the environment's parameters."""
        return self.base | {f"env.{name}": value for name, value in self.parameters.items()}

    def __post_init__(self) -> None:
        allowed = {"sampler": SAMPLERS, "pruner": PRUNERS}
        for name, names in allowed.items():
            if getattr(self, name) not in names:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(names)}")
        for name, least in {"population": 1, "episodes": 2, "halving": 0, "exploits": 0, "seed": 0}.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}")
        cost = self.max_cost
        if cost is not None and (isinstance(cost, bool) or not isinstance(cost, int | float) or not cost > 0):
            raise ValueError(f"max_cost is {cost!r}; it must be a number of seconds above 0, or None")
        if cost is not None and self.sampler != "protein":
            raise ValueError(f"max_cost is {cost}; the sampler {self.sampler} knows no costs, it must be None")
        most = self.trials
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ValueError(f"trials is {most!r}; it must be a whole number of at least 1, or None")
        if self.seed >= 2**32:
            raise ValueError(f"seed is {self.seed}; it must be below {2**32}")
        if self.halving and not 2 <= self.halving <= self.population:
            raise ValueError(f"halving is {self.halving}; it must be 0, or from 2 to population, {self.population}")
        if self.exploits and self.sampler == "tpe":
            raise ValueError(
                f"exploits is {self.exploits}; the sampler tpe would take scores for those of the settings that trials "
                "began with; sampler must be protein or random"
            )
        if self.exploits and self.population < 4:
            raise ValueError(f"exploits is {self.exploits}; population is {self.population}, and must be at least 4")


class Sweep:
    """A sweep that exists: its folder, settings and study.

    `env` is the environment if it has no registered name.
    """

    def __init__(self, directory: Path, settings: Settings, storage: str, env: Any = None) -> None:
        self.directory, self.settings, self.storage = directory, settings, storage
        self._env = env
        self.space = _space(settings, env)
        self.lock = _lock_of(directory)
        self.study = load_study(storage)
        self.study.pruner = self._pruner()

    @classmethod
    def create(
        cls,
        directory: Path,
        settings: Settings,
        storage: str | None = None,
        suggestions: Sequence[tuple[Any, str]] = (),
        env: Any = None,
    ) -> Self:
        """A new sweep, whose first trials are the base config and the suggestions, fields by name and their source.

        The study has its trials before it has settings, so that one that was killed in between can be begun again.

        Raises:
            FileExistsError: there is a sweep in the folder or in the storage.
            TypeError, ValueError: a suggestion is no dict by field, or outside the space.
        """
        if (directory / SETTINGS).exists():
            raise FileExistsError(f"there is a sweep in {directory}: go on with --resume, or choose another --out")
        storage = default_storage(directory) if storage is None else absolute(storage)
        space, base = _space(settings, env), settings.values()
        first = [space.params(base, nearest=True), *(_params(space, base, *given) for given in suggestions)]
        directory.mkdir(parents=True, exist_ok=True)
        content = dataclasses.asdict(settings) | {"storage": storage, "study_name": NAME}
        with _lock_of(directory):  # of two that begin at the same moment one must be refused
            if (directory / SETTINGS).exists():
                raise FileExistsError(f"another sweep has just begun in {directory}; choose another --out")
            opened = open_storage(storage)
            if NAME in optuna.get_all_study_names(opened):
                if has_begun(storage):
                    raise FileExistsError(f"there is a sweep in {storage}: go on with --resume, or choose another")
                optuna.delete_study(study_name=NAME, storage=opened)  # it has nothing but what waits to be tried
            try:
                study = optuna.create_study(study_name=NAME, storage=opened, direction="maximize")
            except optuna.exceptions.DuplicatedStudyError:
                raise FileExistsError(f"another sweep has just begun in {storage}; choose another") from None
            for params in first:
                study.enqueue_trial(params)
            study.set_user_attr("settings", content)
            write_json(directory / SETTINGS, content)
        return cls(directory, settings, storage, env)

    @classmethod
    def open(cls, directory: Path, storage: str | None = None, env: Any = None, name: str | None = None) -> Self:
        """The sweep in a folder, or in a storage that another machine has filled.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is of another environment than `name`.
        """
        file = directory / SETTINGS
        storage = None if storage is None else existing(directory, storage)
        if file.exists():
            content = read_about(directory)
        else:  # another machine's sweep, or one that was killed before it wrote the file
            storage = storage or default_storage(directory)
            if storage == default_storage(directory) and not file.with_name(DATABASE).is_file():
                raise FileNotFoundError(f"there is no sweep in {directory}")
            content = load_study(storage).user_attrs.get("settings", {})
            if not content:
                raise ValueError(
                    f"the study in {storage} has no settings: its sweep was killed before it began; begin it again, "
                    "without --resume"
                )
            directory.mkdir(parents=True, exist_ok=True)
            write_json(file, content | {"storage": storage})
        if name is not None and content["env"] != name:
            raise ValueError(f"the sweep in {directory} is of {content['env']}, not of {name}")
        names = {field.name for field in dataclasses.fields(Settings)}
        try:
            settings = Settings(**{name: value for name, value in content.items() if name in names})
            settings.config()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{file} is damaged: {one_line(error)}") from error
        return cls(directory, settings, storage or existing(directory, content["storage"]), env)

    def make_env(self, params: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The environment of a trial, and its parameters."""
        changes, settings = self.space.env_parameters(params), self.settings
        if self._env is not None:
            return self._env.replace(**changes), settings.parameters | changes
        parameters = settings.parameters | changes
        return make(settings.env, backend=settings.backend, **parameters), parameters

    def sampler(self, count: int) -> optuna.samplers.BaseSampler:
        """The sampler of the next suggestion, after `count` trials: seeded, so that workers do not repeat another's."""
        settings = self.settings
        if settings.sampler == "protein":
            cost = COST_PARAMETER if COST_PARAMETER in self.space.parameters else None
            return ProteinSampler(
                seed=settings.seed,
                cost_parameter=cost,
                search_space=self.space.distributions,
                cost=reproducible_cost,
                max_cost=settings.max_cost,
            )
        seed = (settings.seed * 1_000_003 + count) % 2**32
        if settings.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        return optuna.samplers.RandomSampler(seed=seed)

    def _pruner(self) -> optuna.pruners.BasePruner:
        kinds: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
            "protein": lambda: ProteinPruner(points=training_curve),
            "median": optuna.pruners.MedianPruner,
            "hyperband": optuna.pruners.HyperbandPruner,
            "none": optuna.pruners.NopPruner,
        }
        return kinds[self.settings.pruner]()

    def enqueue(self, values: Any, source: str) -> None:
        """Put a configuration into the queue; fields of the space that it does not name are the base's."""
        self.study.enqueue_trial(_params(self.space, self.settings.values(), values, source))

    def left(self, most: int | None) -> float:
        """How many trials may still begin if the sweep may have at most so many."""
        counted = [t for t in self.study.get_trials(deepcopy=False) if t.state != TrialState.WAITING and not is_lost(t)]
        return float("inf") if most is None else most - len(counted)

    def ask(self, count: int, worker: str, pinned: dict[str, Any], same: list[str]) -> list[optuna.Trial]:
        """`count` trials for a worker; those that were not in the queue have the pinned parameters.

        If nothing is pinned, the others of the trials have the first one's values of the parameters `same`.
        """
        trials: list[optuna.Trial] = []
        for _ in range(count):
            sampler = self.sampler(len(self.study.get_trials(deepcopy=False)))
            if pinned and isinstance(sampler, ProteinSampler):
                sampler.fixed = pinned
            elif pinned:
                with quiet_optuna():
                    sampler = optuna.samplers.PartialFixedSampler(pinned, sampler)
            self.study.sampler = sampler
            trial = self.study.ask(self.space.distributions)
            trial.set_user_attr("worker", worker)
            trials.append(trial)
            pinned = pinned or {key: trial.params[key] for key in same}
        return trials

    def requeue_lost(self, is_alive: Callable[[str], bool]) -> int:
        """Put the running trials of dead workers back into the queue; their number. Under the lock alone."""
        trials = self.study.get_trials(deepcopy=False)
        repeated = {t.user_attrs["retry_of"] for t in trials if "retry_of" in t.user_attrs}
        lost = [t for t in trials if t.state == TrialState.RUNNING and not is_alive(t.user_attrs.get("worker", ""))]
        for trial in lost:
            # without a worker it was killed while it was asked for
            params = trial.system_attrs.get("fixed_params") or trial.params
            tries = trial.user_attrs.get("tries", 0) + 1
            own = optuna.Trial(self.study, trial._trial_id)
            if tries < MOST_TRIES:
                own.set_user_attr("lost", True)
                if params and trial.number not in repeated:
                    self.study.enqueue_trial(params, user_attrs={"retry_of": trial.number, "tries": tries})
            else:
                own.set_user_attr("problem", f"its worker was killed {tries} times")
            with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError, ValueError):
                self.study.tell(trial.number, state=TrialState.FAIL)
        return len(lost)


def has_begun(storage: str) -> bool:
    """Whether the sweep in a storage has settings, or gets them within seconds from a process that begins it now.

    Raises:
        FileExistsError: it has none and yet trials that were run: somebody else's study has the same name.
    """
    for _ in range(BEGIN_SECONDS):
        study = load_study(storage)
        if study.user_attrs.get("settings"):
            return True
        if any(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False)):
            raise FileExistsError(f"the study {NAME!r} in {storage} is not of a sweep; choose another storage")
        time.sleep(1)
    return False


def _space(settings: Settings, env: Any) -> Space:
    return Space(settings.space, make(settings.env, **settings.parameters) if env is None else env)


def _params(space: Space, base: Mapping[str, Any], suggestion: Any, source: str) -> dict[str, Any]:
    """A suggestion's parameters; fields of the space that it does not name are the base's."""
    values = by_field(suggestion, source.removesuffix(": "))
    if not values:
        raise ValueError(f"{source}names no field: it would be the base again")
    for name, value in values.items():
        if name not in space.parameters and (name not in base or base[name] != value):
            now = f", and {base[name]!r} in every trial" if name in base else ""
            raise ValueError(f"{source}{name} is {value!r}; it is not in the space{now}")
    given = {name: value for name, value in values.items() if name in space.parameters}
    others = {name: p.nearest(base[name]) for name, p in space.parameters.items()}
    return space.params(others | given, source=source)


def training_curve(trial: FrozenTrial) -> list[Point]:
    """A trial's curve without the evaluation at its end, which is above training's scores: episodes of training were
    played by earlier policies."""
    return run_curve(trial)[: -1 if trial.state.is_finished() else None]


def reproducible_cost(trial: FrozenTrial) -> float | None:
    """A trial's cost; None if its settings changed while it trained, so that its score is of no settings."""
    return None if trial.user_attrs.get("schedule") else run_cost(trial)


def is_lost(trial: FrozenTrial) -> bool:
    """Whether a trial's worker was killed, and another trial repeats it."""
    return bool(trial.user_attrs.get("lost"))


class Worker:
    """A process that runs trials: alive while it holds its lock, or on another machine while its heart beats."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.name = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns()}"
        self._lock = filelock.FileLock(_lock_file(sweep.directory, self.name))
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        _lock_file(self.sweep.directory, self.name).parent.mkdir(exist_ok=True)
        self._lock.acquire()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._beat_once()
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._ended.set()
        self._thread.join()
        self._lock.release()
        with contextlib.suppress(OSError):
            _lock_file(self.sweep.directory, self.name).unlink()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(Exception):  # the storage may be busy; the next beat comes
                self._beat_once()

    def _beat_once(self) -> None:
        self.sweep.study.set_user_attr(f"heartbeat {self.name}", time.time())

    def is_alive(self, name: str) -> bool:
        """Whether a worker is alive."""
        if name == self.name:
            return True
        if not name:
            return False
        if name.partition(":")[0] == socket.gethostname() and _lock_file(self.sweep.directory, name).parent.exists():
            file = _lock_file(self.sweep.directory, name)
            if not file.exists():
                return False
            try:
                with filelock.FileLock(file, timeout=0):
                    pass
            except filelock.Timeout:
                return True
            with contextlib.suppress(OSError):
                file.unlink()
            return False
        beat = self.sweep.study.user_attrs.get(f"heartbeat {name}", 0.0)
        return time.time() - beat < LOST_SECONDS


def _lock_of(directory: Path) -> filelock.FileLock:
    """What a worker holds while it asks for trials."""
    return filelock.FileLock(directory / "study.lock")


def _lock_file(directory: Path, worker: str) -> Path:
    return directory / "workers" / f"{worker.replace(':', '-')}.lock"


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's lines for every trial, and without its notes on experimental functions."""
    import warnings

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
