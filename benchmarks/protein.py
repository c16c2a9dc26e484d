"""python -m benchmarks.protein: trials that Protein, its parts, TPE and random search need on known surfaces.

A surface has the score and the cost of a training with seven parameters, exactly known: learning curves, a learning
rate whose best value depends on the length of the run, networks that are better and cost more, noise, and a region in
which trainings fail. An arm's result is the number of trials until the hypervolume of score and log cost is 80, 90 and
95 % of the true front's. It is that of the noiseless scores of the finished trials, up to the reference point: score 0
and the cost at which the true front has 99 % of its best score. Trials that fail count too. A search ends at 95 %, or
after --trials, random search after --random-trials. Medians over seeds have percentile bootstrap intervals of 95 %.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import particulars, positive, show, use_threads, write

SHARES = (0.8, 0.9, 0.95)  # of the true front's hypervolume
FIRST_SEED = 100  # those from 0 on were used to choose defaults
POINTS = 20  # of a learning curve
PARTS: dict[str, dict[str, Any]] = {
    "Protein": {},
    "no cheap start": {"cheap_start": False},
    "no Pareto centers": {"pareto_centers": False},
    "no cheaper centers": {"cheaper_centers": False},
    "candidates anywhere": {"local": False},
    "no cost targets": {"cost_targets": False},
    "sharpness 1": {"sharpness": 1.0},
    "growth 1": {"growth": 1.0},
    "sharpness 1 and growth 1": {"sharpness": 1.0, "growth": 1.0},
    "front not pruned": {"prune_front": False},
    "failures left out": {"failures": False},
    "ends of runs alone": {"downsample": 1},
    "no linear kernel": {"linear": False},
    "no noise prior": {"noise_prior": False},
}
ARMS = ["random", "TPE", "TPE, score and cost", *PARTS]


@dataclass(frozen=True)
class Surface:
    """Scores from 0 to 100 and costs in seconds of a training that does not exist."""

    name: str
    late: bool = False
    """scores stay near 0 for a while, and rise later"""
    noise: float = 2.0
    """standard deviation of evaluated scores; half as much again in learning curves"""

    @cached_property
    def space(self) -> dict[str, Any]:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        return {
            "total_steps": FloatDistribution(1e6, 1e9, log=True),
            "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
            "1 - gamma": FloatDistribution(1e-4, 0.2, log=True),
            "clip": FloatDistribution(0.1, 0.9),
            "log2 num_envs": IntDistribution(8, 14),
            "log2 hidden": IntDistribution(5, 10),
            "policy": CategoricalDistribution(["mlp", "mingru"]),
        }

    def cost(self, params: dict[str, Any], steps: np.ndarray) -> np.ndarray:
        """Seconds that so many steps take."""
        network = (1 + 2 ** (params["log2 hidden"] - 8)) * (1.6 if params["policy"] == "mingru" else 1.0)
        return 5 + steps * 1e-7 * network * (1 + 2 ** (9.0 - params["log2 num_envs"]))

    def score(self, params: dict[str, Any], steps: np.ndarray) -> np.ndarray:
        """The noiseless scores after so many steps of a run of `total_steps`."""
        memory = params["policy"] == "mingru"
        best = (0.55 + 0.075 * (params["log2 hidden"] - 5)) * (1.0 if memory else 0.92)
        slow = 2e6 * 2 ** (0.7 * (params["log2 hidden"] - 5)) * (2.0 if memory else 1.0)
        off = np.array(
            [
                (math.log10(params["learning_rate"]) - self.best_rate(params["total_steps"])) / 0.5,
                (math.log10(params["1 - gamma"]) + 2) / 0.4,
                (params["clip"] - 0.3) / 0.2,
                (params["log2 num_envs"] - 10.5) / 1.5,
            ]
        )
        progress = steps / slow
        learned = progress**2 / (1 + progress**2) if self.late else 1 - np.exp(-(progress**0.7))
        annealed = 0.85 + 0.15 * steps / params["total_steps"]
        return 100 * best * math.exp(-0.5 * float(np.sum(np.maximum(np.abs(off) - 1, 0) ** 2))) * learned * annealed

    def best_rate(self, steps: float) -> float:
        """The logarithm of the best learning rate, smaller for longer runs."""
        return -2 - 0.3 * (math.log10(steps) - 7.5)

    def fails(self, params: dict[str, Any]) -> bool:
        """Large learning rates fail, in large networks more so."""
        return params["learning_rate"] > 0.3 * 2 ** (0.5 * (8 - params["log2 hidden"]))

    @cached_property
    def front(self) -> tuple[np.ndarray, np.ndarray]:
        """Costs and the best scores: each integer and choice, with the other parameters at their best."""
        costs, scores = [], []
        for steps in np.geomspace(1e6, 1e9, 600):
            for envs in range(8, 15):
                for hidden in range(5, 11):
                    for policy in ("mlp", "mingru"):
                        params = {
                            "total_steps": steps,
                            "learning_rate": 10 ** self.best_rate(steps),
                            "1 - gamma": 0.01,
                            "clip": 0.3,
                            "log2 num_envs": envs,
                            "log2 hidden": hidden,
                            "policy": policy,
                        }
                        costs.append(self.cost(params, steps))
                        scores.append(self.score(params, steps))
        order = np.argsort(costs)
        return np.array(costs)[order], np.maximum.accumulate(np.array(scores)[order])

    @cached_property
    def reference(self) -> float:
        """The cost of the reference point; its score is 0."""
        costs, scores = self.front
        return float(costs[np.searchsorted(scores, 0.99 * scores[-1])])

    def volume(self, costs: np.ndarray, scores: np.ndarray) -> float:
        """The hypervolume of points of (log cost, score)."""
        order = np.argsort(costs)
        order = order[costs[order] < self.reference]
        best = np.maximum.accumulate(np.maximum(scores[order], 0))
        return float(best @ np.diff(np.log(np.append(costs[order], self.reference))))

    @cached_property
    def true_volume(self) -> float:
        return self.volume(*self.front)


SURFACES = {"early": Surface("early"), "late": Surface("late", late=True)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.protein", description=__doc__)
    parser.add_argument(
        "--seeds", type=positive, default=20, help=f"number of seeds, from {FIRST_SEED} on (%(default)s)"
    )
    parser.add_argument("--trials", type=positive, default=200, help="most trials of a search (%(default)s)")
    parser.add_argument(
        "--random-trials", type=positive, default=3000, help="most trials of random search (%(default)s)"
    )
    parser.add_argument(
        "--surfaces", type=lambda s: s.split(","), default=list(SURFACES), help=f"of {', '.join(SURFACES)}"
    )
    parser.add_argument(
        "--arms", type=lambda s: s.split(";"), default=ARMS, help=f"separated by ;, of {'; '.join(ARMS)}"
    )
    parser.add_argument("--threads", type=int, help="number of processors that the process may use")
    parser.add_argument("--json", metavar="FILE", help="file of the records; searches that are in it are not run again")
    args = parser.parse_args()
    for name, known in {"surfaces": SURFACES, "arms": ARMS}.items():
        if unknown := [x for x in getattr(args, name) if x not in known]:
            parser.error(f"--{name}: there is no {unknown[0]!r} (there are: {', '.join(known)})")
    threads = use_threads(args.threads)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = json.loads(Path(args.json).read_text()) if args.json and Path(args.json).exists() else []
    if args.seeds < 2:
        parser.error(f"--seeds is {args.seeds}; an interval needs at least 2")
    for surface in args.surfaces:
        for arm in args.arms:
            limit = args.random_trials if arm == "random" else args.trials
            same = {"surface": surface, "arm": arm, "limit": limit, "seeds": args.seeds}
            record = next((record for record in records if same.items() <= record.items()), None)
            if record is None:
                record = same | {"runs": []} | particulars("protein", FIRST_SEED, threads)
                records.append(record)
            for seed in range(FIRST_SEED + len(record["runs"]), FIRST_SEED + args.seeds):
                record["runs"].append(search(SURFACES[surface], arm, seed, limit))
                write(args.json, records)
            print(f"{surface}, {arm}: {', '.join(row(record)[1:])}", flush=True)
    for surface in args.surfaces:
        title = f"{surface}: trials until a share of the true front's hypervolume, {args.seeds} seeds"
        chosen = [r for r in records if r["surface"] == surface and r["arm"] in args.arms and r["seeds"] == args.seeds]
        levels = [f"{share:.0%}" for share in SHARES]
        columns = ["arm", *levels, f"reached {levels[-1]}", "share at the end", "cost of it, s", "s a trial"]
        show(title, columns, [row(r) for r in chosen])


def search(surface: Surface, arm: str, seed: int, limit: int) -> dict[str, Any]:
    """One search, to 95 % or to the limit."""
    import optuna
    from optuna.trial import TrialState

    both = arm == "TPE, score and cost"
    study = optuna.create_study(
        directions=["maximize", "minimize"] if both else ["maximize"], sampler=sampler(surface, arm, seed)
    )
    rng = np.random.default_rng([seed, 100])
    costs: list[float] = []
    scores: list[float] = []
    began = time.perf_counter()
    shares: list[float] = []  # of the true volume, after each trial
    while len(shares) < limit and (not shares or shares[-1] < SHARES[-1]):
        trial = study.ask(surface.space)
        steps = np.linspace(1 / POINTS, 1, POINTS) * trial.params["total_steps"]
        cost, true = surface.cost(trial.params, steps), surface.score(trial.params, steps)
        noisy = true + surface.noise * 1.5 * rng.standard_normal(POINTS)
        noisy[-1] = true[-1] + surface.noise * rng.standard_normal()
        if surface.fails(trial.params):
            study.tell(trial, state=TrialState.FAIL)
            costs.append(float(cost[0]))
            scores.append(0.0)
        else:
            trial.set_user_attr("cost", float(cost[-1]))
            trial.set_user_attr("curve", np.stack([steps, cost, noisy], 1).tolist())
            study.tell(trial, [float(noisy[-1]), math.log(cost[-1])] if both else float(noisy[-1]))
            costs.append(float(cost[-1]))
            scores.append(float(true[-1]))
        shares.append(surface.volume(np.array(costs), np.array(scores)) / surface.true_volume)
    return {
        "seed": seed,
        "reached": [next((i + 1 for i, x in enumerate(shares) if x >= least), None) for least in SHARES],
        "trials": len(shares),
        "share": shares[-1],
        "cost": sum(costs),
        "seconds_a_trial": (time.perf_counter() - began) / len(shares),
    }


def sampler(surface: Surface, arm: str, seed: int) -> Any:
    import optuna

    from jaxpuffer.sweep.protein import Parts, ProteinSampler

    if arm == "random":
        return optuna.samplers.RandomSampler(seed)
    if arm.startswith("TPE"):
        return optuna.samplers.TPESampler(seed=seed)
    parts = replace(Parts(), **PARTS[arm])
    return ProteinSampler(seed=seed, cost_parameter="total_steps", search_space=surface.space, parts=parts)


def row(record: dict[str, Any]) -> list[str]:
    """One arm as a row of the table; a search that did not get there counts as its limit."""
    from scipy.stats import bootstrap

    limit, runs, cells = record["limit"], record["runs"], []
    for level in range(len(SHARES)):
        trials = np.array([run["reached"][level] or limit for run in runs])
        found = bootstrap((trials,), np.median, n_resamples=2000, method="percentile", rng=np.random.default_rng(0))
        low, high = found.confidence_interval
        cells.append(f"{number(np.median(trials), limit)} ({number(low, limit)} to {number(high, limit)})")
    return [
        record["arm"],
        *cells,
        f"{sum(run['reached'][-1] is not None for run in runs)} of {len(runs)}",
        f"{np.median([run['share'] for run in runs]):.3f} of {np.median([run['trials'] for run in runs]):g}",
        f"{np.median([run['cost'] for run in runs]):,.0f}",
        f"{np.mean([run['seconds_a_trial'] for run in runs]):.2f}",
    ]


def number(trials: float, limit: int) -> str:
    return f"> {limit}" if trials >= limit else f"{round(trials, 1):g}"


if __name__ == "__main__":
    main()
