"""The agents that ship: small, loadable, and with the recorded score, on both backends."""

from pathlib import Path

import jax
import numpy as np
import pytest
from toy_envs import Corridor

import envs_c
from jaxpuffer import evaluate, list_envs, make
from jaxpuffer.baselines import baseline_record, load_baseline, save_baseline
from jaxpuffer.env import has_sides
from jaxpuffer.evaluate import evaluation_key

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "envs_jax" / "baselines"
KEY = jax.random.key(77)  # not used for training or for the record
# the two give the same bits, and C compiles faster
TWIN = [pytest.mark.full] if envs_c.is_built() else []
BACKENDS = [pytest.param("jax", marks=TWIN), pytest.param("c", marks=pytest.mark.needs_c)]
# 1,024 games of chess against depth2 take minutes; tests/envs/test_chess.py has some against a faster player
SLOW = {"chess"}
NAMES = [pytest.param(name, marks=[pytest.mark.full] if name in SLOW else []) for name in list_envs()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_what_its_record_says(name: str, backend: str) -> None:
    """Within four standard errors of the difference of two means, and above the untrained agent's score."""
    record = baseline_record(name)
    assert record is not None
    env = make(name, backend=backend)  # type: ignore[arg-type]
    episodes = 1024 if has_sides(env) else 256  # outcomes of -1, 0 and 1 are far from each other
    score = evaluate(env, load_baseline(env), evaluation_key(KEY), episodes=episodes).summary()["score"]
    shipped, untrained = record["score"], record["untrained_score"]
    error = np.hypot(score["standard_error"], shipped["standard_error"])
    assert abs(score["mean"] - shipped["mean"]) <= 4 * error + 1e-3 * abs(shipped["mean"])
    assert score["mean"] > untrained["mean"] + 10 * np.hypot(score["standard_error"], untrained["standard_error"])


@pytest.mark.parametrize("name", list_envs())
def test_is_small(name: str) -> None:
    assert (FOLDER / f"{name}.npz").stat().st_size <= 500_000


def test_only_environments_have_files() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == set(list_envs())


def test_a_normalizer_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jaxpuffer import baselines
    from jaxpuffer.normalizer import Normalizer

    env = make("cartpole")
    normalizer = Normalizer.fresh(env.observation_space).with_batch(jax.numpy.ones((2, 3, 4)) * 3.7)
    save_baseline(env, load_baseline(env).replace(normalizer=normalizer), tmp_path / "cartpole.npz")
    monkeypatch.setattr(baselines, "_folder", lambda: tmp_path)
    loaded = load_baseline(env)
    for field in ("count", "mean", "variance"):
        np.testing.assert_array_equal(getattr(loaded.normalizer, field), getattr(normalizer, field))


def test_what_has_no_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="no trained agent for Corridor"):
        load_baseline(Corridor())
    with pytest.raises(ValueError, match="did you mean 'pong'"):
        load_baseline("pongg")
    with pytest.raises(ValueError, match="default parameters"):
        load_baseline(make("snake", vision=2))


def test_the_readme_says_what_was_measured() -> None:
    from benchmarks.tables import baselines

    assert baselines() in (ROOT / "README.md").read_text()
    assert all(baseline_record(name) is not None for name in list_envs())
