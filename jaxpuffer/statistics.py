"""Statistics of few runs: interquartile means, bootstrap intervals, performance profiles, probability of improvement.

All from Agarwal et al., 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(arXiv 2108.13264). Scores are arrays (..., seeds, environments).
"""

import warnings
from collections.abc import Callable

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
_PART = 100  # resamples that are in memory together


def interquartile_mean(scores: np.ndarray, axis: int | tuple[int, ...] = (-2, -1)) -> np.ndarray:
    """The mean without the lowest and the highest quarter: of n numbers, n // 4 are left out at each end.

    Args:
        scores: numbers, NaN if one of them is.
        axis: the axes whose numbers are taken together.

    Returns:
        float64, without these axes.
    """
    axes = (axis,) if isinstance(axis, int) else axis
    last = np.moveaxis(np.asarray(scores, np.float64), axes, range(-len(axes), 0))
    flat = np.sort(last.reshape(*last.shape[: last.ndim - len(axes)], -1), -1)
    cut = flat.shape[-1] // 4
    # NaN is sorted to the end, where it would be left out
    return np.where(np.isnan(flat[..., -1]), np.nan, flat[..., cut : flat.shape[-1] - cut].mean(-1))


def performance_profile(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of runs whose score is above each threshold: (..., seeds, environments) gives (..., thresholds)."""
    return (np.asarray(scores)[..., None] > thresholds).mean((-3, -2))


def improvement_probability(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How probable it is that a run scores higher than one of the others in the same environment.

    The share of all pairs of seeds in which it does, a tie counting as a half, averaged over environments:
    Mann and Whitney's U, divided by the number of pairs.

    Args:
        scores: (..., seeds, environments).
        others: (..., other seeds, environments); the numbers of seeds may differ.

    Returns:
        float64 (...).
    """
    mine, theirs = np.asarray(scores)[..., :, None, :], np.asarray(others)[..., None, :, :]
    return ((mine > theirs) + 0.5 * (mine == theirs)).mean((-3, -2, -1))


def bootstrap_interval(
    statistic: Callable[..., np.ndarray], *scores: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """The 95 % interval of a statistic by the stratified percentile bootstrap.

    A resample draws, for every environment by itself, as many seeds as there are, with replacement. The interval is
    from the 2.5th to the 97.5th percentile of the statistic of all resamples. Equal scores give an interval of
    width 0.

    Args:
        statistic: from arrays (resamples, seeds, environments), one for each of `scores`, to (resamples, ...).
        scores: arrays (seeds, environments), drawn independently of each other.
        resamples: how many.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        float64 (2, ...), the lower and the upper end.

    Raises:
        ValueError: there are fewer than two seeds, or a score is NaN or infinite.
    """
    arrays = [np.asarray(array, np.float64) for array in scores]
    for array in arrays:
        if array.ndim != 2 or len(array) < 2:
            raise ValueError(f"scores have the shape {array.shape}; an interval needs (seeds, environments), 2 seeds")
        if not np.isfinite(array).all():
            raise ValueError("scores are NaN or infinite; an interval needs finite ones")
    rng = np.random.default_rng(seed)

    def part(count: int) -> np.ndarray:
        drawn = [rng.integers(len(array), size=(count, *array.shape)) for array in arrays]
        return statistic(
            *(np.take_along_axis(array[None], index, 1) for array, index in zip(arrays, drawn, strict=True))
        )

    counts = [min(_PART, resamples - first) for first in range(0, resamples, _PART)]
    found = np.concatenate([part(count) for count in counts])
    return np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)


def thinned(curves: np.ndarray, points: int = 100) -> np.ndarray:
    """Means over spans of updates, (seeds, updates) to (seeds, at most `points`); NaN where all of a span is NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a span without an episode
        spans = np.array_split(curves, min(points, curves.shape[1]), 1)
        return np.stack([np.nanmean(span, 1) for span in spans], 1)
