"""Intervals and tests on paired scores: pure functions of arrays, numpy and scipy.special only.

Axes: R table rows, S seeds, N examples, D bootstrap draws. A difference is arm minus baseline.
Scores are ratios: correct units summed over examples, divided by units summed over examples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, stdtr, stdtrit

MIN_SEEDS = 3  # below, seeds say too little about their own spread for an interval
# scores are ratios of whole numbers: what differs by less differs by rounding alone
ROUNDING = 1e-12
_CHUNK_ENTRIES = 4_000_000  # weights held at once by the bootstrap, 32 MB

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and the interval around it, in the unit of the input."""

    mean: float
    low: float
    high: float


def paired_t_interval(differences: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Return the t interval of the mean over seeds of ``differences`` [S], S >= 3.

    Its width is zero when all differences are equal; the caller judges that.
    """
    values = seed_differences(differences)
    half = _t_quantile(values.size - 1, confidence) * values.std(ddof=1) / np.sqrt(values.size)
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def paired_t_p_value(differences: ArrayLike) -> float:
    """Return the two-sided p value of the paired t test over seeds of ``differences`` [S], S >= 3.

    Differences that are all equal give 1.0: scores come in steps of one unit, so equal ones say
    that the step is coarse, not that the seeds have no spread.
    """
    values = seed_differences(differences)
    if not has_spread(values):
        return 1.0
    statistic = values.mean() / (values.std(ddof=1) / np.sqrt(values.size))
    return float(2 * stdtr(values.size - 1, -abs(statistic)))


def has_spread(differences: ArrayLike) -> bool:
    """Tell whether ``differences`` [S] differ from each other by more than rounding."""
    return bool(np.ptp(_finite(differences, num_axes=1)) > ROUNDING)


def seed_differences(differences: ArrayLike) -> Array:
    """Return ``differences`` [S] as an array.

    Raises:
        ValueError: for fewer than 3, or one that is not finite.
    """
    values = _finite(differences, num_axes=1)
    if values.size < MIN_SEEDS:
        raise ValueError(f"{values.size} differences: seeds need at least {MIN_SEEDS} for a spread")
    return values


def item_interval(
    differences: ArrayLike, units: ArrayLike, *, confidence: float = 0.95
) -> Interval:
    """Return the interval over examples of sum(differences) / sum(units), for the seeds at hand.

    ``differences`` [N] are correct units, arm minus baseline, per example (mean over the seeds);
    ``units`` [N]. The variance is that of a ratio, linearised. Seed variance is not in it.
    """
    values, weights = _finite(differences, num_axes=1), _finite(units, num_axes=1)
    if values.size < 2 or weights.sum() <= 0:
        raise ValueError("an item interval needs at least 2 examples and one unit")
    ratio = values.sum() / weights.sum()
    residuals = values - ratio * weights
    variance = values.size / (values.size - 1) * (residuals**2).sum() / weights.sum() ** 2
    half = _t_quantile(values.size - 1, confidence) * np.sqrt(variance)
    return Interval(float(ratio), float(ratio - half), float(ratio + half))


def crossed_bootstrap(
    differences: ArrayLike,
    units: ArrayLike,
    *,
    generator: np.random.Generator,
    num_draws: int = 10_000,
    confidence: float = 0.95,
) -> list[Interval]:
    """Return one percentile interval per row, drawing seeds and examples anew, independently.

    ``differences`` [R, S, N]: correct units, arm minus baseline; ``units`` [N], the same in every
    run. All rows share the draws. Conservative: an interval tends to be wider than it need be.
    """
    values, weights = _finite(differences, num_axes=3), _finite(units, num_axes=1)
    num_rows, num_seeds, num_items = values.shape
    if weights.shape != (num_items,) or weights.sum() <= 0:
        raise ValueError(f"units {weights.shape} do not fit differences {values.shape}")
    flat = values.reshape(num_rows * num_seeds, num_items).T
    draws = np.empty((num_draws, num_rows))
    chunk = max(1, _CHUNK_ENTRIES // num_items)
    for start in range(0, num_draws, chunk):
        stop = min(start + chunk, num_draws)
        items = _draw_weights(generator, size=num_items, num_draws=stop - start)
        seeds = _draw_weights(generator, size=num_seeds, num_draws=stop - start)
        totals = (items @ flat).reshape(stop - start, num_rows, num_seeds)
        totals_over_seeds = np.einsum("drs,ds->dr", totals, seeds)
        draws[start:stop] = totals_over_seeds / (num_seeds * (items @ weights))[:, None]
    return _percentile_intervals(values, weights, draws, confidence=confidence)


def exact_mcnemar(arm_right: ArrayLike, baseline_right: ArrayLike) -> float:
    """Return the two-sided exact p value that the discordant examples split evenly.

    Both inputs are boolean [N], the same examples in the same order.
    """
    arm, baseline = np.asarray(arm_right, bool), np.asarray(baseline_right, bool)
    if arm.shape != baseline.shape or arm.ndim != 1:
        raise ValueError(f"shapes {arm.shape} and {baseline.shape}: both must be [N]")
    only_arm, only_baseline = int((arm & ~baseline).sum()), int((baseline & ~arm).sum())
    discordant = only_arm + only_baseline
    return min(1.0, float(2 * bdtr(min(only_arm, only_baseline), discordant, 0.5)))


def _percentile_intervals(
    values: Array, weights: Array, draws: Array, *, confidence: float
) -> list[Interval]:
    """Pair the plain ratio of every row with the percentiles of its draws [D, R]."""
    means = values.mean(axis=1).sum(axis=1) / weights.sum()
    tail = (1 - confidence) / 2
    lows, highs = np.quantile(draws, [tail, 1 - tail], axis=0)
    rows = zip(means, lows, highs, strict=True)
    return [Interval(float(mean), float(low), float(high)) for mean, low, high in rows]


def _draw_weights(generator: np.random.Generator, *, size: int, num_draws: int) -> Array:
    """Return multinomial counts [D, size]: how often a resample of ``size`` takes each entry."""
    # counting uniform indices gives the multinomial, ten times faster than generator.multinomial
    indices = generator.integers(0, size, size=(num_draws, size))
    indices += np.arange(num_draws)[:, None] * size
    counts = np.bincount(indices.ravel(), minlength=num_draws * size)
    return counts.reshape(num_draws, size).astype(np.float64)


def _t_quantile(degrees: int, confidence: float) -> float:
    return float(stdtrit(degrees, (1 + confidence) / 2))


def _finite(values: ArrayLike, *, num_axes: int) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != num_axes or array.size == 0:
        raise ValueError(f"an array of shape {array.shape} where {num_axes} axes are expected")
    if not np.isfinite(array).all():
        raise ValueError("a difference is not finite")
    return array
