"""Protein, PufferLib's search for configurations that are good for their cost, for any study of Optuna.

Each suggestion aims at a cost: two Gaussian processes predict score and log cost of candidates near the Pareto front of
score over cost, and the candidate with the best score near that cost is tried. docs/protein.md has the formulas and
the differences from PufferLib 4.0 and 5.0.

Nothing is remembered between suggestions: each follows from the study, the seed and the trial's number.
"""

import math
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.search_space import intersection_search_space
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from jaxpuffer.sweep.cube import Cube

Point = tuple[float, float | None, float | None]  # of a learning curve: cost, score, value of the cost parameter

TARGETS = (0.16, 0.32, 0.48, 0.64, 0.8, 1.0)  # of the normalised log cost
EXPANSION = 1.1  # how far they reach beyond the log costs so far
NEAR = 1e-6  # rows this close are equal
FEW_SUCCESSES = 100  # failures count below this
TOP = 5  # observations that are tried at a lower cost
FIT_POINTS, FIT_ITERATIONS = 128, 12  # of the likelihood's maximisation
APART = 0.1  # root mean square of the differences, in units: nearer to a running trial counts less


@dataclass(frozen=True)
class Parts:
    """The parts of Protein and their sizes. Each can be switched off, to see what it is worth."""

    sobol: int = 10
    """number of scrambled Sobol points before the first prediction, 2 at least"""
    cheap_start: bool = True
    """Sobol points cost little: their cost parameter is -0.8 + 0.1 N(0, 1) in units"""
    pareto_centers: bool = True
    """candidates around the Pareto front; if not, around the observations with the best scores"""
    cheaper_centers: bool = True
    """candidates around the best observations at two thirds and half of their cost too, in units of the parameter"""
    local: bool = True
    """candidates near centers; if not, as many anywhere in the space"""
    candidates: int = 256
    """number of candidates around each center"""
    scale: float = 0.5
    """how far from their center, in units"""
    cost_targets: bool = True
    """each suggestion aims at a cost; if not, at the best score"""
    sharpness: float = 3.0
    """how close to the target: the power of 1 - |target - predicted log cost|; PufferLib's is 1"""
    growth: float = 2.0
    """targets reach at least this factor beyond the costs so far; 1 leaves PufferLib's tenth of their range"""
    prune_front: bool = True
    """the front ends where more cost brings little"""
    failures: bool = True
    """failed trials count as the lowest score, while there are few others"""
    downsample: int = 5
    """number of points of each learning curve that are observations; 1 is the run's end alone"""
    max_observations: int = 750
    """number of observations, half of them the newest, the others drawn from the older ones"""
    percentile: bool = False
    """scores are shares from 0 to 1 and enter as log odds, clipped to [-5, 7]"""
    linear: bool = True
    """the kernel has a linear part"""
    noise_prior: bool = True
    """the noise has a prior; if not, the likelihood alone decides"""
    spread: bool = True
    """candidates near running trials count less"""

    def __post_init__(self) -> None:
        for name, least in {"sobol": 2, "candidates": 1, "downsample": 1, "max_observations": 10}.items():
            _check_whole(name, getattr(self, name), least)
        for field in fields(self):
            if field.type is bool and not isinstance(value := getattr(self, field.name), bool):
                raise ValueError(f"{field.name} is {value!r}; it must be True or False")
        if not _is_number(self.scale) or not 0 < self.scale <= 2:
            raise ValueError(f"scale is {self.scale!r}; it must be above 0 and at most 2")
        if not _is_number(self.sharpness) or not 0 <= self.sharpness < math.inf:
            raise ValueError(f"sharpness is {self.sharpness!r}; it must be at least 0")
        if not _is_number(self.growth) or not 1 <= self.growth < math.inf:
            raise ValueError(f"growth is {self.growth!r}; it must be at least 1")


class Observations(NamedTuple):
    """Points of runs, oldest run first: rows of the cube (n, d), scores (n,) to be maximised, costs (n,), and
    the number of each point's trial (n,)."""

    rows: np.ndarray
    scores: np.ndarray
    costs: np.ndarray
    trials: np.ndarray


def run_cost(trial: FrozenTrial) -> float:
    """The cost of a finished run: its user attribute "cost".

    Raises:
        ValueError: the trial has none.
    """
    if "cost" not in trial.user_attrs:
        raise ValueError(
            f"trial {trial.number} has no cost; set its user attribute 'cost', or give cost=, "
            "for example cost=lambda trial: trial.duration.total_seconds()"
        )
    return trial.user_attrs["cost"]


def run_curve(trial: FrozenTrial) -> list[Point]:
    """The learning curve of a run: (seconds, score, agent-steps) from its user attribute "curve", a list of
    [agent-steps, seconds, score]; empty if there is none."""
    curve = trial.user_attrs.get("curve", [])
    try:
        return [(seconds, score, steps) for steps, seconds, score in curve]
    except (TypeError, ValueError):
        raise ValueError(
            f"trial {trial.number} has the curve {curve!r}; it must be a list of [agent-steps, seconds, score]"
        ) from None


class ProteinSampler(BaseSampler):
    """Suggests configurations that are good for their cost.

    Args:
        seed: of all random numbers. The same study, seed and trial number give the same suggestion, in any process.
        start: parameters of the first trial; those that are not named are drawn. Trials that `study.enqueue_trial`
            adds need no sampler and count as any others.
        cost_parameter: the parameter that decides most of the cost, such as `"total_steps"`: the points of a learning
            curve are runs with less of it. It must be a number, not a choice.
        cost: the cost of a finished trial, above 0; None leaves a trial out. Default: the user attribute "cost".
        points: the learning curve of a trial, a list of (cost, score, value of `cost_parameter`), its last point the
            run's end. Default: from the user attribute "curve". Scores of None or NaN, and costs of 0, are left out.
        search_space: names and distributions; default the parameters that all finished trials have in common.
        max_cost: the largest predicted cost of a suggestion.
        parts: switches and sizes.

    `fixed`, an attribute that can be set at any time, has parameters that the next suggestions must have; predictions
    use the complete space.

    Raises:
        ValueError: an argument is not allowed; when a trial is suggested, also a cost that is not above 0, or `start`
            or `fixed` that do not fit the space.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        start: Mapping[str, Any] | None = None,
        cost_parameter: str | None = None,
        cost: Callable[[FrozenTrial], float | None] = run_cost,
        points: Callable[[FrozenTrial], Sequence[Point]] = run_curve,
        search_space: Mapping[str, BaseDistribution] | None = None,
        max_cost: float | None = None,
        parts: Parts | None = None,
    ) -> None:
        _check_whole("seed", seed, 0)
        if max_cost is not None and not (_is_number(max_cost) and max_cost > 0):
            raise ValueError(f"max_cost is {max_cost!r}; it must be a number above 0, or None")
        for name, function in {"cost": cost, "points": points}.items():
            if not callable(function):
                raise TypeError(f"{name} is {function!r}; it must be a function of a trial")
        if parts is not None and not isinstance(parts, Parts):
            raise TypeError(f"parts is {parts!r}; it must be Parts(...), or None")
        if start is not None and not isinstance(start, Mapping):
            raise TypeError(f"start is {start!r}; it must be a dict of parameters, or None")
        if cost_parameter is not None and not isinstance(cost_parameter, str):
            raise TypeError(f"cost_parameter is {cost_parameter!r}; it must be a parameter's name, or None")
        if search_space is not None:
            _check_space(search_space)
        if search_space is not None and cost_parameter is not None and cost_parameter not in search_space:
            raise ValueError(f"cost_parameter is {cost_parameter!r}; the search space has {', '.join(search_space)}")
        self.seed, self.start, self.cost_parameter = seed, dict(start or {}), cost_parameter
        self.cost, self.points, self.max_cost = cost, points, max_cost
        self.search_space = None if search_space is None else dict(search_space)
        self.parts = parts or Parts()
        self.fixed: dict[str, Any] | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The search space that was given, or what all finished trials have in common."""
        if self.search_space is None:
            trials = study.get_trials(deepcopy=False)
            space = intersection_search_space(trials, include_pruned=True)
            whole = [other for other in trials if other.state == TrialState.COMPLETE]
            known = {name for other in whole for name in other.params}
            if known and self.cost_parameter not in (None, *known):
                names = ", ".join(sorted(known))
                warnings.warn(
                    f"cost_parameter is {self.cost_parameter!r}; the finished trials have {names}", stacklevel=2
                )
        else:
            space = self.search_space
            for argument, given in {"start": self.start, "fixed": self.fixed or {}}.items():
                if unknown := given.keys() - space.keys():
                    raise ValueError(f"{argument} has {min(unknown)!r}; the search space has {', '.join(space)}")
        return {name: distribution for name, distribution in space.items() if not distribution.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One suggestion: the start, a Sobol point or the best candidate."""
        self._raise_error_if_multi_objective(study)
        if not search_space:
            return {}
        cube = Cube(search_space)
        cost_axis = self._cost_axis(cube)
        trials = study.get_trials(deepcopy=False)
        index = _own_index(trials, trial.number)
        given = self._given(search_space, index)
        successes, failures = self.observe(study, trials, cube, cost_axis)
        rng = np.random.default_rng([self.seed, 0, trial.number])
        if self.start and index == 0:
            chosen = self._sobol(cube, cost_axis, 0, rng)
        elif index < self.parts.sobol + bool(self.start) or len(set(successes.trials)) < 2:
            chosen = self._sobol(cube, cost_axis, index, rng)
        else:
            running = [t for t in trials if t.state == TrialState.RUNNING and t.number != trial.number]
            rows = [cube.row(t.params) for t in running if t.params.keys() >= search_space.keys()]
            chosen = self._best(cube, cost_axis, successes, failures, np.array(rows), trial.number, rng)
        return cube.params(chosen) | given

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A parameter that not all finished trials have: drawn alone, from `start` or `fixed` if it is there."""
        self._raise_error_if_multi_objective(study)
        space = {param_name: param_distribution}
        given = self._given(space, _own_index(study.get_trials(deepcopy=False), trial.number))
        if param_name in given:
            return given[param_name]
        cube = Cube(space)
        rng = np.random.default_rng([self.seed, 1, trial.number, zlib.crc32(param_name.encode())])
        return cube.params(self._cheap(rng.uniform(-1, 1, 1), self._cost_axis(cube), rng))[param_name]

    def _given(self, space: Mapping[str, BaseDistribution], index: int) -> dict[str, Any]:
        """The parameters of a space that are not ours to choose."""
        given = {}
        for argument, values in {"start": self.start if index == 0 else {}, "fixed": self.fixed or {}}.items():
            for name in values.keys() & space.keys():
                given[name] = values[name]
                try:
                    allowed = space[name]._contains(space[name].to_internal_repr(given[name]))
                except (ValueError, TypeError):
                    allowed = False
                if not allowed:
                    raise ValueError(f"{argument} has {name}={given[name]!r}; it must be of {space[name]}")
        return given

    def _cost_axis(self, cube: Cube) -> int | None:
        """Where the cost parameter is."""
        if self.cost_parameter not in cube.names:
            return None
        axis = cube.names.index(self.cost_parameter)
        if cube.axes[axis].choices:
            raise ValueError(f"cost_parameter is {self.cost_parameter!r}, a choice; it must be a number")
        return axis

    def _cheap(self, row: np.ndarray, cost_axis: int | None, rng: np.random.Generator) -> np.ndarray:
        """The row with a low cost parameter."""
        if cost_axis is not None and self.parts.cheap_start:
            row[cost_axis] = np.clip(-0.8 + 0.1 * rng.standard_normal(), -1, 1)
        return row

    def _sobol(self, cube: Cube, cost_axis: int | None, index: int, rng: np.random.Generator) -> np.ndarray:
        """The Sobol point with this index."""
        from scipy.stats import qmc

        sequence = qmc.Sobol(len(cube.names), seed=np.random.default_rng([self.seed, 2]))
        if index:
            sequence.fast_forward(index)
        return self._cheap(2 * sequence.random(1)[0] - 1, cost_axis, rng)

    def observe(
        self, study: Study, trials: Sequence[FrozenTrial], cube: Cube, cost_axis: int | None
    ) -> tuple[Observations, np.ndarray]:
        """Points of the finished runs, and rows (m, d) of those that failed. Of a run that was stopped early the cost
        parameter is what its curve's end says."""
        sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
        rows, scores, costs, numbers, failed = [], [], [], [], []
        for trial in trials:
            complete = trial.params.keys() >= set(cube.names)
            if not trial.state.is_finished() or not complete or trial.user_attrs.get("lost"):
                continue
            row = cube.row(trial.params)
            if trial.state == TrialState.FAIL or trial.value is None or not math.isfinite(trial.value):
                failed.append(row)
                continue
            if (whole := self.cost(trial)) is None:
                continue
            if not _is_number(whole) or not 0 < whole < math.inf:
                raise ValueError(f"trial {trial.number} has cost {whole!r}; it must be a number above 0")
            curve, end = [], None
            if cost_axis is not None:
                curve = _evenly(_known(self.points(trial)), self.parts.downsample)
                stopped = curve and trial.state == TrialState.PRUNED
                end = curve[-1][2] if stopped else trial.params[cube.names[cost_axis]]
            for cost, score, value in [*curve[:-1], (whole, trial.value, end)]:
                point = row.copy()
                if cost_axis is not None:
                    axis = cube.axes[cost_axis]
                    if value is None or not axis.low <= value <= axis.high:
                        continue  # no run of the space ends here
                    point[cost_axis] = axis.to_units(np.array(value))
                rows.append(point)
                scores.append(sign * (_log_odds(trial, score) if self.parts.percentile else score))
                costs.append(cost)
                numbers.append(trial.number)
        found = Observations(
            np.reshape(rows, (-1, len(cube.names))), np.array(scores), np.array(costs), np.array(numbers, int)
        )
        return found, np.reshape(failed, (-1, len(cube.names)))

    def _best(
        self,
        cube: Cube,
        cost_axis: int | None,
        seen: Observations,
        failed: np.ndarray,
        running: np.ndarray,
        number: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The candidate with the best rating."""
        parts = self.parts
        # scores and log costs from 0 to 1, over all observations
        low, high = score_range(seen.scores)
        log_costs = np.log(seen.costs)
        ends = log_costs[np.append(seen.trials[1:] != seen.trials[:-1], True)]  # whole runs
        cheapest, dearest = log_costs.min(), np.quantile(ends, 0.97)
        scores = (np.maximum(seen.scores, low) - low) / (high - low) if high > low else np.ones_like(seen.scores)
        reach = max(EXPANSION * (dearest - cheapest), dearest - cheapest + math.log(parts.growth))
        costs = (log_costs - cheapest) / reach

        # centers: the Pareto front, and the best observations at lower costs
        front = pareto_front(seen.costs, seen.scores)
        if parts.prune_front:
            front = pruned_front(seen.costs, seen.scores, front)
        top = np.argsort(-seen.scores, kind="stable")[:TOP]
        centers = seen.rows[front if parts.pareto_centers else top]
        if parts.cheaper_centers and cost_axis is not None:
            for share in (1 / 2, 1 / 3):
                cheaper = seen.rows[top]
                cheaper[:, cost_axis] -= share * (cheaper[:, cost_axis] + 1)
                centers = np.concatenate([centers, cheaper])
        # candidates: near them or, if all of these are known, anywhere
        known = np.concatenate([seen.rows, running.reshape(-1, len(cube.names))])
        near = [cube.around(centers, parts.candidates, parts.scale, rng)] if parts.local else []
        anywhere = cube.nearest(rng.uniform(-1, 1, (len(centers) * parts.candidates, len(cube.names))))
        for drawn in [*near, anywhere]:
            for name, value in (self.fixed or {}).items():
                if name in cube.names:
                    axis = cube.names.index(name)
                    stored = cube.axes[axis].distribution.to_internal_repr(value)
                    drawn[:, axis] = cube.axes[axis].to_units(np.array(stored))
            candidates = drawn[distinct(drawn)]
            if (new := ~among(candidates, known)).any():
                candidates = candidates[new]
                break

        # predictions
        rows = seen.rows
        if parts.failures and len(set(seen.trials)) < FEW_SUCCESSES:  # first, as if they were the oldest
            rows, scores = np.concatenate([failed, rows]), np.concatenate([np.zeros(len(failed)), scores])
        predicted = self._predict(cube, rows, scores, candidates, rng)
        predicted_cost = self._predict(cube, seen.rows, costs, candidates, rng)

        # rating
        rating = np.maximum(predicted, 0)
        if parts.cost_targets:
            rating *= np.maximum(1 - np.abs(cost_target(self.seed, number) - predicted_cost), 0) ** parts.sharpness
        if parts.spread and len(running):
            gaps = cube.features(candidates)[:, None] - cube.features(running)
            rating *= np.minimum(np.sqrt((gaps**2).sum(-1) / len(cube.names)).min(1) / APART, 1)
        if self.max_cost is not None:
            allowed = predicted_cost * reach + cheapest <= math.log(self.max_cost)
            rating = np.where(allowed, rating, -np.inf) if allowed.any() else -predicted_cost
        return candidates[np.argmax(rating)]

    def _predict(
        self, cube: Cube, rows: np.ndarray, values: np.ndarray, candidates: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The mean of a Gaussian process at the candidates, (n,)."""
        kept = distinct(np.column_stack([rows, values]))
        if len(kept) > (most := self.parts.max_observations):
            older, newer = kept[: -(most // 2)], kept[-(most // 2) :]
            kept = np.concatenate([np.sort(rng.choice(older, most - len(newer), replace=False)), newer])
        some = np.sort(rng.choice(kept, FIT_POINTS, replace=False)) if len(kept) > FIT_POINTS else kept
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            seen, wanted = cube.features(rows), cube.features(candidates)
            process = gaussian_process(seen.shape[1], self.parts.linear, self.parts.noise_prior)
            process.fit(seen[some], values[some])
            if len(some) < len(kept):
                process.set_params(kernel=process.kernel_, optimizer=None)
                process.fit(seen[kept], values[kept])
            return process.predict(wanted)


def gaussian_process(columns: int, linear: bool = True, noise_prior: bool = True) -> Any:
    """Matern 3/2 with a length scale for each column, plus a linear kernel, plus noise; values are standardised.

    The noise's variance has the prior LogNormal(log 0.01, 0.5) of HEBO (Cowen-Rivers et al., 2022, arXiv 2012.03826):
    its logarithm's square distance from log 0.01 is added to the negative log likelihood.
    """
    from scipy.optimize import minimize
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel

    def optimizer(
        objective: Callable[..., Any], initial_theta: np.ndarray, bounds: np.ndarray
    ) -> tuple[np.ndarray, float]:
        def penalised(theta: np.ndarray) -> tuple[float, np.ndarray]:
            loss, gradient = objective(theta, eval_gradient=True)
            if noise_prior:
                distance = (theta[-1] - math.log(0.01)) / 0.5  # the last one is the noise
                loss, gradient = loss + distance**2 / 2, gradient.copy()
                gradient[-1] += distance / 0.5
            return loss, gradient

        options = {"maxiter": FIT_ITERATIONS}
        found = minimize(penalised, initial_theta, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
        return found.x, found.fun

    kernel = ConstantKernel(1.0) * Matern(np.ones(columns), (1e-2, 1e2), nu=1.5)
    if linear:
        kernel += ConstantKernel(0.1) * DotProduct(1.0, "fixed")
    kernel += WhiteKernel(0.01, (1e-6, 1.0))
    return GaussianProcessRegressor(kernel, alpha=1e-8, optimizer=optimizer, normalize_y=True)


class ProteinPruner(BasePruner):
    """Stops runs that are worse than most others were at the same cost.

    The limit is A + B log cost, the quantile 0.3 of the scores of all finished runs' learning curves given their cost.
    It holds from `runs` finished runs on, and not before a run has cost 0.3 of the upper cost and what the first point
    of a curve costs (the median). A run that costs more than 1.2 of the upper cost needs a score of 0.9, where 0 is the
    lowest and 1 the highest score of all curves (`score_range`). The upper cost is that of the last point of the pruned
    Pareto front; it grows by 1 % with each trial after it, up to the cost of the dearest run. A score that is NaN or
    infinite ends a run at once.

    Args:
        points: the learning curve of a trial, as in `ProteinSampler`; of a running trial up to now. Default: from the
            user attribute "curve". A score of None is not known yet.
        runs: number of finished runs before the first is stopped.
        quantile: of the scores.
        downsample: number of points of each curve that count.

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        *,
        points: Callable[[FrozenTrial], Sequence[Point]] = run_curve,
        runs: int = 30,
        quantile: float = 0.3,
        downsample: int = 5,
    ) -> None:
        for name, value in {"runs": runs, "downsample": downsample}.items():
            _check_whole(name, value, 1)
        if not callable(points):
            raise TypeError(f"points is {points!r}; it must be a function of a trial")
        if not _is_number(quantile) or not 0 < quantile < 1:
            raise ValueError(f"quantile is {quantile!r}; it must be between 0 and 1")
        self.points, self.runs, self.quantile, self.downsample = points, runs, quantile, downsample

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a running trial should stop.

        Raises:
            ValueError: the trial has reported scores, but `points` gives none.
        """
        if trial.last_step is not None and not math.isfinite(trial.intermediate_values[trial.last_step]):
            return True
        curve = self.points(trial)
        if not curve and trial.last_step is not None:
            raise ValueError(
                f"trial {trial.number} has no learning curve; set its user attribute 'curve', or give points="
            )
        if any(score is not None and not math.isfinite(score) for _, score, _ in curve[-1:]):
            return True
        if not (known := _known(curve)):
            return False
        cost, score, _ = known[-1]
        sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
        limit = self.limit(study, cost, trial.number)
        return limit is not None and sign * score < sign * limit

    def limit(self, study: Study, cost: float, number: int) -> float | None:
        """The score that trial `number` needs at this cost to go on, None if any will do."""
        sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        known = {trial.number: curve for trial in finished if (curve := _known(self.points(trial)))}
        curves = {number: _evenly(curve, self.downsample) for number, curve in known.items()}
        if len(curves) < self.runs:
            return None
        costs = np.array([point[0] for curve in curves.values() for point in curve])
        scores = sign * np.array([point[1] for curve in curves.values() for point in curve], np.float64)
        numbers = np.repeat(list(curves), [len(curve) for curve in curves.values()])
        low, high = score_range(scores)
        whole = [curve[-1][0] for curve in curves.values()]
        last = pruned_front(costs, scores, pareto_front(costs, scores))[-1]
        upper = min(costs[last] * 1.01 ** max(number - numbers[last], 0), max(whole))
        begin = float(np.median([curve[0][0] for curve in known.values()]))
        if high == low or cost < 0.3 * upper + begin:
            return None
        if cost > 1.2 * upper:
            return sign * (low + 0.9 * (high - low))
        from sklearn.linear_model import QuantileRegressor

        newest = slice(-Parts.max_observations, None)
        line = QuantileRegressor(quantile=self.quantile, alpha=0.0)
        line.fit(np.log(costs[newest, None]), (np.maximum(scores, low)[newest] - low) / (high - low))
        return sign * (low + (high - low) * float(line.predict([[math.log(cost)]])[0]))


def score_range(scores: np.ndarray) -> tuple[float, float]:
    """What counts as 0 and as 1: the lowest and the highest score. Scores far below the others do not stretch the
    range: it is at most twice as long as from the quantile 0.05 to the highest."""
    high, common = scores.max(), np.quantile(scores, 0.05)
    low = max(scores.min(), common - (high - common)) if high > common else scores.min()
    return float(low), float(high)


def cost_target(seed: int, number: int) -> float:
    """What trial `number` aims at, from 0, the lowest log cost, to 1.

    Six trials, from a number that is a multiple of six on, take the six targets in a random order.
    """
    round_, place = divmod(number, len(TARGETS))
    rng = np.random.default_rng([seed, 3, round_])
    return float(np.clip(rng.permutation(TARGETS) + 0.1 * rng.standard_normal(len(TARGETS)), 0, 1)[place])


def pareto_front(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Indices of the points that no cheaper or equally costly point reaches in score, by cost."""
    order = np.lexsort([-scores, costs])
    best = np.maximum.accumulate(scores[order])
    return order[np.concatenate([[True], best[1:] > best[:-1]])]


def pruned_front(costs: np.ndarray, scores: np.ndarray, front: np.ndarray) -> np.ndarray:
    """The front without its tail: its last point goes, while the share of the front's score that it adds is below
    half of the share of the front's cost, and the point before has a score within 2 % of the front's range."""
    end = len(front)
    score, cost = scores[front], costs[front]
    while end > 2:
        gain = (score[end - 1] - score[end - 2]) / (score[-1] - score[0])
        price = (cost[end - 1] - cost[end - 2]) / (cost[-1] - cost[0])
        if gain >= 0.5 * price or score[end - 2] < score[-1] - 0.02 * (score[-1] - score[0]):
            break
        end -= 1
    return front[:end]


def distinct(rows: np.ndarray) -> np.ndarray:
    """Indices of rows that differ by more than about 1e-6, the first one of each, in order."""
    return np.sort(np.unique(np.round(rows / NEAR), axis=0, return_index=True)[1])


def among(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows are among others, to about 1e-6; bool (n,)."""
    known = {row.tobytes() for row in np.round(others / NEAR).astype(int)}
    return np.array([row.tobytes() in known for row in np.round(rows / NEAR).astype(int)])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be an integer of at least {least}")


def _check_space(space: Any) -> None:
    if not isinstance(space, Mapping) or not space:
        raise TypeError(f"search_space is {space!r}; it must be a dict of Optuna's distributions, or None")
    for name, distribution in space.items():
        if not isinstance(name, str) or not isinstance(distribution, BaseDistribution):
            raise TypeError(f"search_space has {name!r}: {distribution!r}; it must have distributions by name")


def _known(curve: Sequence[Point]) -> list[tuple[float, float, float | None]]:
    """The points that have a score and a cost."""
    return [(cost, score, x) for cost, score, x in curve if score is not None and math.isfinite(score) and cost > 0]


def _evenly(points: Sequence[Any], count: int) -> list[Any]:
    """`count` of them at most, evenly spaced, the last one among them."""
    places = np.ceil(np.arange(1, count + 1) * len(points) / count).astype(int) - 1
    return [points[i] for i in sorted(set(places)) if len(points)]


def _log_odds(trial: FrozenTrial, share: float) -> float:
    """Log odds of a share, clipped: a share that was measured can be 0 or 1."""
    if not 0 <= share <= 1:
        raise ValueError(f"trial {trial.number} has score {share!r}; with percentile=True it must be from 0 to 1")
    with np.errstate(divide="ignore"):
        return float(np.clip(np.log(share) - np.log1p(-share), -5, 7))


def _own_index(trials: Sequence[FrozenTrial], number: int) -> int:
    """How many trials before this one the sampler chose: those that were not enqueued."""
    return sum(t.number < number and "fixed_params" not in t.system_attrs for t in trials)
