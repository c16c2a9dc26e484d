"""Protein: the cube, what a suggestion follows from, its parts on numbers worked out by hand, and the pruner."""

import itertools
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

optuna = pytest.importorskip("optuna", reason="pip install 'jaxpuffer[sweep]'")
pytest.importorskip("sklearn", reason="pip install 'jaxpuffer[sweep]'")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from benchmarks import protein as benchmark  # noqa: E402
from jaxpuffer.sweep.cube import Cube  # noqa: E402
from jaxpuffer.sweep.protein import (  # noqa: E402
    TARGETS,
    Parts,
    ProteinPruner,
    ProteinSampler,
    cost_target,
    pareto_front,
    pruned_front,
    score_range,
)

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = {
    "clip": FloatDistribution(0.1, 0.9),
    "decay": FloatDistribution(0.0, 1.0, step=0.25),
    "layers": IntDistribution(1, 3),
    "minibatch": IntDistribution(8, 4096, log=True),
    "policy": CategoricalDistribution(["mlp", "lstm", None]),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "steps": FloatDistribution(1e6, 1e9, log=True),
}
SMALL = {"rate": SPACE["rate"], "steps": SPACE["steps"], "policy": SPACE["policy"]}


def score_of(params):
    """From 0 to 1, the best rate is 0.01."""
    good = math.exp(-0.5 * (math.log10(params["rate"]) + 2) ** 2)
    return good * (1.0 if params["policy"] == "lstm" else 0.8) * math.log10(params["steps"]) / 9


def finish(study, trial, score=None):
    """A run with a learning curve of four points; its cost is a second for a million steps."""
    if score is None:
        score = score_of(trial.params)
    steps = trial.params["steps"]
    trial.set_user_attr("cost", steps / 1e6)
    trial.set_user_attr("curve", [[steps * k / 4, steps * k / 4e6, score * k / 4] for k in range(1, 5)])
    study.tell(trial, score)


def run(sampler, trials, space=SMALL, direction="maximize"):
    study = optuna.create_study(direction=direction, sampler=sampler)
    for _ in range(trials):
        finish(study, study.ask(space))
    return study


FEW = Parts(candidates=32)  # enough for a small space, and fast


def protein(**settings):
    return ProteinSampler(**{"cost_parameter": "steps", "search_space": SMALL, "parts": FEW} | settings)


def params_of(study):
    return [trial.params for trial in study.trials]


def test_axes_of_all_distributions():
    cube = Cube(SPACE)
    assert cube.names == sorted(SPACE)
    units = {name: axis.to_units for name, axis in zip(cube.names, cube.axes, strict=True)}
    assert units["clip"](np.array([0.1, 0.5, 0.9])) == pytest.approx([-1, 0, 1])
    assert units["rate"](np.array([1e-4, 1e-2, 1.0])) == pytest.approx([-1, 0, 1])
    assert units["layers"](np.array([1, 2, 3])) == pytest.approx([-2 / 3, 0, 2 / 3])  # middles of three equal cells
    assert units["decay"](np.array([0.0, 0.5, 1.0])) == pytest.approx([-0.8, 0, 0.8])
    assert units["policy"](np.array([0, 1, 2])) == pytest.approx([-2 / 3, 0, 2 / 3])
    low, middle, high = units["minibatch"](np.array([8.0, math.sqrt(7.5 * 4096.5), 4096.0]))
    assert -1 < low < -0.97 and middle == pytest.approx(0) and 0.99 < high < 1


def test_rows_become_allowed_parameters_and_come_back():
    cube, rng = Cube(SPACE), np.random.default_rng(0)
    rows = cube.nearest(rng.uniform(-1.0, 1.0, (300, len(SPACE))))
    for row in rows:
        params = cube.params(row)
        assert all(SPACE[name]._contains(SPACE[name].to_internal_repr(value)) for name, value in params.items())
        assert cube.row(params) == pytest.approx(row, abs=1e-9)
    for corner in (-1.0, 1.0):
        assert cube.params(np.full(len(SPACE), corner))["layers"] == (1 if corner < 0 else 3)
    layers = [cube.params(row)["layers"] for row in rows]
    assert all(70 < layers.count(value) < 130 for value in (1, 2, 3))


def test_a_choice_has_one_column_for_each_value():
    cube = Cube({"n": IntDistribution(0, 1), "policy": SPACE["policy"]})
    rows = np.array([cube.row({"n": 1, "policy": policy}) for policy in ("mlp", "lstm", None)])
    assert cube.features(rows) == pytest.approx(np.column_stack([np.full(3, 0.5), np.eye(3)]))
    near = cube.around(rows[:1], 4000, 0.5, np.random.default_rng(0))
    shares = cube.features(near)[:, 1:].mean(0)
    assert shares == pytest.approx([0.75 + 0.25 / 3, 0.25 / 3, 0.25 / 3], abs=0.03)


def test_the_start_then_cheap_sobol_points():
    start = {"rate": 0.5, "policy": None, "steps": 1e8}
    study = run(protein(start=start, seed=3), 11)
    assert params_of(study)[0] == start
    rows = np.array([Cube(SMALL).row(params) for params in params_of(study)[1:]])
    assert rows[:, 2].max() < -0.4 and rows[:, 2].std() > 0.02  # steps, near -0.8
    assert len(np.unique(rows[:8, 1] > 0)) == 2 and 3 <= (rows[:8, 1] > 0).sum() <= 5  # half of each axis
    assert {params["policy"] for params in params_of(study)} == {"mlp", "lstm", None}
    everywhere = run(protein(parts=Parts(cheap_start=False)), 9)
    assert max(params["steps"] for params in params_of(everywhere)) > 3e8


def test_enqueued_trials_count_and_leave_the_sequence_alone():
    plain = run(protein(), 3)
    study = optuna.create_study(direction="maximize", sampler=protein())
    study.enqueue_trial({"rate": 0.02, "policy": "mlp", "steps": 2e6})
    for _ in range(4):
        finish(study, study.ask(SMALL))
    assert params_of(study)[0]["rate"] == 0.02
    rates = [params["rate"] for params in params_of(study)]
    assert rates[1:] == [params["rate"] for params in params_of(plain)]


def test_the_same_study_gives_the_same_suggestions_anywhere(tmp_path):
    kept = run(protein(seed=5), 15)
    storage = f"sqlite:///{tmp_path}/study.db"
    optuna.create_study(direction="maximize", storage=storage, study_name="s")
    for number in range(15):  # a new sampler and a new study for each, as in a new process
        study = optuna.load_study(study_name="s", storage=storage, sampler=protein(seed=5))
        trial = study.ask(SMALL)
        if number < 14:
            finish(study, trial)
    for ours, theirs in zip(params_of(study), params_of(kept), strict=True):
        assert ours.pop("policy") == theirs.pop("policy")
        assert ours == pytest.approx(theirs, rel=1e-9)
    assert params_of(run(protein(seed=6), 2)) != params_of(kept)[:2]


def test_targets_come_from_a_bag():
    for begin in (0, 6, 60):
        bag = [cost_target(1, number) for number in range(begin, begin + 6)]
        assert all(0 <= target <= 1 for target in bag)
        assert np.sort(bag) == pytest.approx(TARGETS, abs=0.35)
    many = np.reshape([cost_target(2, number) for number in range(1200)], (200, 6))
    assert np.sort(many, 1).mean(0) == pytest.approx(TARGETS, abs=0.05)
    assert np.std(many.mean(0)) < 0.05  # in any order
    assert many.mean(1).std() < 0.06  # every six have the same mean, apart from the noise


def test_front_and_its_tail_by_hand():
    costs = np.array([1.0, 2.0, 2.0, 3.0, 4.0, 10.0, 0.5, 4.0])
    scores = np.array([1.0, 3.0, 2.0, 3.0, 9.9, 10.0, -1.0, 9.0])
    front = pareto_front(costs, scores)
    assert front.tolist() == [6, 0, 1, 4, 5]
    # the last point adds 0.1 of 11 for 6 of 9.5: gone; the next one adds 6.9 of 11 for 2 of 9.5
    assert pruned_front(costs, scores, front).tolist() == [6, 0, 1, 4]
    for factor, shift in itertools.product((1e-6, 1.0, 1e6), (-1e3, 0.0)):
        changed = factor * (scores + shift)
        assert pruned_front(7 * costs, changed, pareto_front(7 * costs, changed)).tolist() == [6, 0, 1, 4]
    # 9.7 is not within 2 % of the range below 10
    scores[4] = 9.7
    assert pruned_front(costs, scores, front).tolist() == front.tolist()
    assert pruned_front(costs[:2], scores[:2], np.array([0, 1])).tolist() == [0, 1]


def test_outliers_do_not_stretch_the_range_of_scores():
    assert score_range(np.array([3.0, -1.0, 2.0])) == (-1.0, 3.0)
    assert score_range(np.full(4, 2.0)) == (2.0, 2.0)
    scores = np.append(np.linspace(0, 10, 101), -1e9)
    low, high = score_range(scores)
    assert high == 10 and -10.5 < low < -9


def observed(trials, parts=None, space=SMALL, direction="maximize"):
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    sampler, cube = protein(parts=parts or Parts()), Cube(space)
    return sampler.observe(study, study.get_trials(deepcopy=False), cube, cube.names.index("steps"))


def test_what_runs_contribute():
    params = {"rate": 0.01, "policy": "mlp", "steps": 8e6}
    curve = [[k * 1e6, 2.0 * k, -1.0 / k] for k in range(8)[1:]] + [[8e6, 16.0, -0.1]]
    curve[2][2] = None  # no episode has ended
    curve[0][0] = 1e5  # below the space
    attributes = {"cost": 17.0, "curve": curve}

    def made(state, value=None, **changes):
        return create_trial(
            state=state, params=params, distributions=SMALL, value=value, user_attrs=attributes | changes
        )

    complete = made(TrialState.COMPLETE, -0.1)
    seen, failed = observed([complete], Parts(downsample=100))
    assert seen.costs.tolist() == [4, 8, 10, 12, 14, 17] and failed.shape == (0, 3)
    assert seen.scores == pytest.approx([-1 / 2, -1 / 4, -1 / 5, -1 / 6, -1 / 7, -0.1])
    steps = Cube(SMALL).axes[2].to_values(seen.rows[:, 2])
    assert steps == pytest.approx([2e6, 4e6, 5e6, 6e6, 7e6, 8e6])
    assert observed([complete], Parts(downsample=1))[0].costs.tolist() == [17]
    assert observed([complete], direction="minimize")[0].scores[-1] == 0.1

    stopped = made(TrialState.PRUNED, -0.5, curve=curve[:5], cost=10.0)
    seen, _ = observed([stopped], Parts(downsample=1))
    assert Cube(SMALL).params(seen.rows[0])["steps"] == pytest.approx(5e6)

    lost = made(TrialState.FAIL, lost=True)
    diverged = made(TrialState.PRUNED)
    other = create_trial(state=TrialState.FAIL, params={"rate": 0.1}, distributions={"rate": SMALL["rate"]})
    seen, failed = observed([made(TrialState.FAIL), lost, diverged, other])
    assert len(seen.costs) == 0 and len(failed) == 2

    with pytest.raises(ValueError, match="trial 0 has no cost; set its user attribute 'cost'"):
        observed([create_trial(params=params, distributions=SMALL, value=1.0)])
    with pytest.raises(ValueError, match="trial 0 has cost 0.0; it must be a number above 0"):
        observed([made(TrialState.COMPLETE, 1.0, cost=0.0)])
    with pytest.raises(ValueError, match="has score -0.1; with percentile=True it must be from 0 to 1"):
        observed([complete], Parts(percentile=True, downsample=1))
    half, one = made(TrialState.COMPLETE, 0.5), made(TrialState.COMPLETE, 1.0)
    assert observed([half, one], Parts(percentile=True, downsample=1))[0].scores.tolist() == [0, 7]


def test_failures_are_avoided():
    """High scores next to a region that fails."""

    def suggested(parts):
        study = optuna.create_study(direction="maximize", sampler=protein(parts=parts))
        for i, rate in enumerate(np.geomspace(1e-4, 1.0, 24)):
            params = {"rate": float(rate), "policy": "mlp", "steps": 1e7 * 2 ** (i % 4)}
            attributes, fails = {"cost": params["steps"] / 1e6}, rate > 0.03
            state = TrialState.FAIL if fails else TrialState.COMPLETE
            value = None if fails else math.log10(rate)
            trial = create_trial(state=state, params=params, distributions=SMALL, value=value, user_attrs=attributes)
            study.add_trial(trial)
        return np.array([study.ask(SMALL).params["rate"] for _ in range(6)])

    assert np.median(suggested(FEW)) < 0.04
    assert np.median(suggested(replace(FEW, failures=False))) > 0.1


def test_running_trials_are_not_suggested_again():
    space = {"a": IntDistribution(0, 3), "b": CategoricalDistribution([True, False])}
    sampler = ProteinSampler(search_space=space, cost=lambda trial: 1.0, parts=replace(FEW, sobol=2))
    study = optuna.create_study(sampler=sampler)
    for a in (0, 3):
        study.add_trial(create_trial(params={"a": a, "b": True}, distributions=space, value=float(a)))
    asked = [tuple(study.ask(space).params.values()) for _ in range(6)]
    assert len({*asked, (0, True), (3, True)}) == 8  # all there are
    study.ask(space)  # nothing new is left

    study = run(protein(), 12)
    rows = np.array([Cube(SMALL).row(study.ask(SMALL).params) for _ in range(8)])
    gaps = np.sqrt(((rows[:, None] - rows) ** 2).mean(-1)) + 9 * np.eye(8)
    assert gaps.min() > 0.08


def test_fixed_parameters():
    sampler = protein()
    study = optuna.create_study(direction="maximize", sampler=sampler)
    sampler.fixed = {"policy": None, "steps": 3e7}
    for _ in range(12):
        finish(study, study.ask(SMALL))
    assert {(p["policy"], p["steps"]) for p in params_of(study)} == {(None, 3e7)}
    assert len({p["rate"] for p in params_of(study)}) == 12
    sampler.fixed = None
    assert study.ask(SMALL).params["steps"] != 3e7
    for fixed, says in {
        "policy": "fixed has policy='gru'; it must be of CategoricalDistribution",
        "stops": "fixed has 'stops'; the search space has rate, steps, policy",
    }.items():
        sampler.fixed = {fixed: "gru"}
        with pytest.raises(ValueError, match=says):
            study.ask(SMALL)


def test_a_space_that_is_only_known_from_trials():
    sampler = ProteinSampler(cost_parameter="steps", start={"rate": 0.25}, seed=1)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial):
        params = {"rate": trial.suggest_float("rate", 1e-4, 1, log=True)}
        params["policy"] = trial.suggest_categorical("policy", ["mlp", "lstm"])
        params["steps"] = trial.suggest_float("steps", 1e6, 1e9, log=True)
        if trial.number % 2:
            trial.suggest_int("depth", 1, 4)
        trial.set_user_attr("cost", params["steps"])
        return score_of(params)

    study.optimize(objective, n_trials=14)
    assert params_of(study)[0]["rate"] == 0.25 and params_of(study)[0]["steps"] < 1e7
    assert set(sampler.infer_relative_search_space(study, study.trials[0])) == {"rate", "policy", "steps"}
    assert len({p["depth"] for p in params_of(study) if "depth" in p}) > 1


def test_wrong_arguments():
    for settings, says in [
        ({"seed": -1}, "seed is -1; it must be an integer of at least 0"),
        ({"seed": True}, "seed is True; it must be an integer of at least 0"),
        ({"max_cost": 0}, "max_cost is 0; it must be a number above 0, or None"),
        ({"max_cost": "3"}, "max_cost is '3'; it must be a number above 0, or None"),
        ({"cost_parameter": "cost"}, "cost_parameter is 'cost'; the search space has rate, steps, policy"),
    ]:
        with pytest.raises(ValueError, match=says):
            protein(**settings)
    for settings, says in [
        ({"parts": 3}, "parts is 3; it must be Parts"),
        ({"cost": 3}, "cost is 3; it must be a function of a trial"),
        ({"points": 3}, "points is 3; it must be a function of a trial"),
        ({"start": [1]}, r"start is \[1\]; it must be a dict of parameters"),
        ({"cost_parameter": 3}, "cost_parameter is 3; it must be a parameter's name"),
        ({"search_space": [1]}, r"search_space is \[1\]; it must be a dict of Optuna's distributions"),
        ({"search_space": {"rate": 3}}, "search_space has 'rate': 3; it must have distributions by name"),
    ]:
        with pytest.raises(TypeError, match=says):
            protein(**settings)
    for settings, says in [
        ({"cost_parameter": "policy"}, "cost_parameter is 'policy', a choice; it must be a number"),
        ({"start": {"rate": 2.0}}, "start has rate=2.0; it must be of FloatDistribution"),
        ({"start": {"lr": 2.0}}, "start has 'lr'; the search space has"),
    ]:
        with pytest.raises(ValueError, match=says):
            run(protein(**settings), 1)
    for parts, says in [
        ({"sobol": 1}, "sobol is 1; it must be an integer of at least 2"),
        ({"scale": 0.0}, "scale is 0.0; it must be above 0 and at most 2"),
        ({"sharpness": -1.0}, "sharpness is -1.0; it must be at least 0"),
        ({"growth": 0.5}, "growth is 0.5; it must be at least 1"),
        ({"linear": 1}, "linear is 1; it must be True or False"),
    ]:
        with pytest.raises(ValueError, match=says):
            Parts(**parts)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=protein())
    with pytest.raises(ValueError, match="multi-objective"):
        study.ask(SMALL)
    study = optuna.create_study(sampler=ProteinSampler(cost=lambda trial: "a"))
    with pytest.raises(ValueError, match="trial 0 has cost 'a'; it must be a number above 0"):
        study.optimize(lambda trial: trial.suggest_float("rate", 0.0, 1.0), n_trials=3)
    study = optuna.create_study(sampler=ProteinSampler(cost_parameter="step", cost=lambda trial: 1.0))
    with pytest.warns(UserWarning, match="cost_parameter is 'step'; the finished trials have rate"):
        study.optimize(lambda trial: trial.suggest_float("rate", 0.0, 1.0), n_trials=2)


def test_trials_that_lack_a_parameter_stop_no_study():
    def objective(trial):
        rate = trial.suggest_float("rate", 0.0, 1.0)
        if trial.number in (0, 3):
            raise ValueError("it ends before it has asked for all")
        return rate * trial.suggest_int("steps", 1, 9)

    sampler = ProteinSampler(cost_parameter="steps", start={"steps": 3}, cost=lambda trial: 1.0 + trial.params["steps"])
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({"rate": 0.5})
    study.optimize(objective, n_trials=12, catch=(ValueError,))
    assert [t.number for t in study.trials if t.state == TrialState.FAIL] == [0, 3]


def test_suggestions_stay_below_the_largest_cost():
    limited, free = (params_of(run(protein(max_cost=most), 16))[10:] for most in (1.5, None))
    assert max(params["steps"] for params in limited) < 1.7e6
    assert max(params["steps"] for params in free) > 3e6


@pytest.mark.parametrize("off", [
    {"pareto_centers": False}, {"cheaper_centers": False}, {"local": False}, {"cost_targets": False},
    {"linear": False, "noise_prior": False, "spread": False, "prune_front": False}, {"max_observations": 10},
    {"sharpness": 1.0}, {"growth": 1.0},
])  # fmt: skip
def test_parts_can_be_switched_off(off):
    plain, changed = (params_of(run(protein(parts=replace(FEW, **change)), 16)) for change in ({}, off))
    assert plain[:10] == changed[:10] and plain[10:] != changed[10:]


@pytest.mark.parametrize("factor", [1.0, -1e-6])
def test_it_beats_random_search(factor):
    """Random search of the same cost in total, whatever the scale of the score, also when it is minimised."""

    def searched(sampler, trials, total):
        """Total cost, and the hypervolume of score and log cost."""
        study = optuna.create_study(direction="maximize" if factor > 0 else "minimize", sampler=sampler)
        costs, scores = [], []
        while len(costs) < trials and sum(costs) < total:
            trial = study.ask(SMALL)
            finish(study, trial, factor * (score_of(trial.params) - 100))
            costs.append(trial.params["steps"] / 1e6)
            scores.append(score_of(trial.params))
        order = np.argsort(costs)
        return sum(costs), np.maximum.accumulate(np.array(scores)[order]) @ np.diff(
            np.log([*np.array(costs)[order].tolist(), 1000.0])
        )

    total, ours = searched(protein(), 25, math.inf)
    others = [searched(optuna.samplers.RandomSampler(seed), 1000, total)[1] for seed in range(9)]
    assert ours > max(others)


def with_curves(curves, direction="maximize"):
    """A study of finished runs with these curves of (cost, score)."""
    study = optuna.create_study(direction=direction, pruner=ProteinPruner())
    for curve in curves:
        attributes = {"curve": [[0, cost, score] for cost, score in curve]}
        study.add_trial(create_trial(value=curve[-1][1], user_attrs=attributes))
    return study


def stops(study, cost, score, reported=None):
    trial = study.ask()
    trial.set_user_attr("curve", [[0, cost, score]])
    if reported is not None:
        trial.report(reported, 1)
    decision = trial.should_prune()
    study.tell(trial, state=TrialState.FAIL)
    return decision


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-5, -1e3), (1e4, -50.0)])
def test_slow_learners_are_stopped(sign, scale, shift):
    """30 runs of cost 10, 20, 40 and 80 and score i + 10 log2 cost: 0.3 of them are below 8.7 + 10 log2 cost."""

    def to(score):
        return sign * (scale * score + shift)

    curves = [[(10 * 2**k, to(i + 10 * math.log2(10 * 2**k))) for k in range(4)] for i in range(30)]
    direction = "maximize" if sign > 0 else "minimize"
    study = with_curves(curves, direction)
    for cost in (36.0, 75.0, 95.0):
        assert stops(study, cost, to(10 * math.log2(cost) + 7.5))
        assert not stops(study, cost, to(10 * math.log2(cost) + 9.5))
    assert not stops(study, 33.0, to(-100))  # before 0.3 * 80 + 10
    # the scores are from 33.2 to 92.2: above 1.2 * 80 it takes 86.3
    assert stops(study, 97.0, to(86)) and not stops(study, 97.0, to(87))
    assert not stops(with_curves(curves[:29], direction), 75.0, to(-100))


def test_the_upper_cost_grows():
    """The best run of 30 is the third; the dearest one costs twice as much."""
    curves = [[(10, i % 3), (100, 60 + i % 3)] for i in range(29)] + [[(10, 0), (200, 1)]]
    limit = with_curves(curves).pruner.limit
    study = with_curves(curves)
    # 28 trials later the upper cost is 132; much later it is that of the dearest run
    assert limit(study, 1.21 * 100 * 1.01**28, 30) == pytest.approx(0.9 * 62)
    assert limit(study, 1.21 * 100 * 1.01**28, 40) > 62  # what others would have had
    assert limit(study, 239, 1000) > 62
    assert limit(study, 241, 1000) == pytest.approx(0.9 * 62)


def test_nan_stops_at_once():
    study = with_curves([])
    assert stops(study, 1.0, math.nan) and stops(study, 1.0, 1.0, reported=math.nan)
    assert stops(study, 1.0, -math.inf)
    assert not stops(study, 1.0, 1.0, reported=1.0) and not stops(study, 1.0, None)
    trial = study.ask()
    trial.report(1.0, 1)
    with pytest.raises(ValueError, match="trial 5 has no learning curve; set its user attribute 'curve'"):
        trial.should_prune()
    for settings, says in [({"quantile": 1.0}, "quantile is 1.0"), ({"runs": 0}, "runs is 0; it must be")]:
        with pytest.raises(ValueError, match=says):
            ProteinPruner(**settings)


def test_volumes_of_the_benchmark():
    surface = benchmark.SURFACES["early"]
    one = surface.reference / math.e
    assert surface.volume(np.array([one]), np.array([3.0])) == pytest.approx(3)
    assert surface.volume(np.array([one, one / math.e, 1e9]), np.array([3.0, 1.0, 99.0])) == pytest.approx(4)
    cube, rng = Cube(surface.space), np.random.default_rng(0)
    costs, scores = surface.front
    for row in rng.uniform(-1, 1, (300, 7)):  # the front is above all
        params = cube.params(row)
        cost = surface.cost(params, params["total_steps"])
        assert surface.score(params, params["total_steps"]) <= scores[np.searchsorted(costs, 1.01 * cost) - 1] + 1e-9


def test_the_benchmark_runs(tmp_path, monkeypatch, capsys):
    file = tmp_path / "records.json"
    command = f"x --seeds 2 --trials 11 --random-trials 20 --surfaces early --arms random;Protein --json {file}"
    monkeypatch.setattr(sys, "argv", command.split())
    benchmark.main()
    records = json.loads(file.read_text())
    assert [record["arm"] for record in records] == ["random", "Protein"]
    assert all(run["reached"][-1] is None and 0 < run["share"] < 0.95 for run in records[0]["runs"])
    assert records[0]["hardware"] and "> 20" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["x", "--arms", "Proteine"])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert "--arms: there is no 'Proteine'" in capsys.readouterr().err
