"""Intervals and tests on paired scores: pure functions of arrays, numpy and scipy.special only.

Axes: R table rows, S seeds, N examples, D bootstrap draws. A difference is arm minus baseline.
Scores are ratios: correct units summed over examples, divided by units summed over examples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, nctdtrinc, stdtr, stdtrit

MIN_SEEDS = 3  # below, seeds say too little about their own spread for an interval
# scores are ratios of whole numbers: what differs by less differs by rounding alone
ROUNDING = 1e-12
MAX_MORE_SEEDS = 1000
# median over 44 published rows of the deviation over seeds of a paired difference
ASSUMED_DEVIATION = 0.01
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
    The interval of a row does not depend on the other rows, to the last bit.
    """
    values, weights = _finite(differences, num_axes=3), _finite(units, num_axes=1)
    num_rows, num_seeds, num_items = values.shape
    if weights.shape != (num_items,) or weights.sum() <= 0:
        raise ValueError(f"units {weights.shape} do not fit differences {values.shape}")
    flat = _on_grid(values).reshape(num_rows * num_seeds, num_items).T
    draws = np.empty((num_draws, num_rows))
    chunk = max(1, _CHUNK_ENTRIES // num_items)
    for start in range(0, num_draws, chunk):
        stop = min(start + chunk, num_draws)
        items = _draw_weights(generator, size=num_items, num_draws=stop - start)
        seeds = _draw_weights(generator, size=num_seeds, num_draws=stop - start)
        scale = (num_seeds * (items @ weights))[:, None]
        # few rows at a time: the totals of hundreds of rows would fill the memory
        group = max(1, _CHUNK_ENTRIES // ((stop - start) * num_seeds))
        for row in range(0, num_rows, group):
            part = items @ flat[:, row * num_seeds : (row + group) * num_seeds]
            totals = part.reshape(stop - start, -1, num_seeds)
            summed = np.einsum("drs,ds->dr", totals, seeds)
            draws[start:stop, row : row + group] = summed / scale
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


def smallest_detectable_effect(
    deviation: float, *, num_seeds: int, power: float = 0.8, significance: float = 0.05
) -> float:
    """Return the mean difference that a two-sided paired t test over seeds finds with ``power``.

    ``deviation`` is the standard deviation over seeds of the paired difference (ddof 1).

    Raises:
        ValueError: for fewer than 3 seeds, or a deviation below zero.
    """
    if num_seeds < MIN_SEEDS:
        raise ValueError(f"{num_seeds} seeds: a spread over seeds needs at least {MIN_SEEDS} seeds")
    if not deviation >= 0:
        raise ValueError(f"deviation {deviation}: a standard deviation is not below 0")
    df = num_seeds - 1
    critical = _t_quantile(df, 1 - significance)
    return float(nctdtrinc(df, 1 - power, critical)) * deviation / float(np.sqrt(num_seeds))


def planned_detectable_effect(
    *,
    num_seeds: int,
    num_arms: int,
    deviation: float = ASSUMED_DEVIATION,
    power: float = 0.8,
    significance: float = 0.05,
) -> float:
    """Return the smallest effect that a plan finds with ``power``, before anything has run.

    Nothing is measured yet, so ``deviation``, that of the paired difference over seeds, is an
    assumption and has to be printed beside the result. Holm must reject the arm even when it
    tests it first, so the level is ``significance / num_arms``: what a single good arm needs.
    """
    if num_arms < 1:
        raise ValueError(f"{num_arms} arms: at least one is compared with the baseline")
    level = significance / num_arms
    return smallest_detectable_effect(
        deviation, num_seeds=num_seeds, power=power, significance=level
    )


def more_seeds_needed(
    effect: float,
    deviation: float,
    *,
    num_seeds: int,
    power: float = 0.8,
    significance: float = 0.05,
) -> int | None:
    """Return how many more seeds make ``effect`` detectable with ``power``; None above 1,000.

    Takes the effect and the deviation as they are observed, so it is a guide, not a promise.
    """
    low, high = 0, MAX_MORE_SEEDS

    def detects(more: int) -> bool:
        detectable = smallest_detectable_effect(
            deviation, num_seeds=num_seeds + more, power=power, significance=significance
        )
        return detectable <= abs(effect)

    if effect == 0 or not detects(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if detects(middle) else (middle + 1, high)
    return low


def interquartile_mean(values: ArrayLike) -> float:
    """Return the mean of the middle half of ``values`` [T], here one difference per task.

    A quarter of the values is cut off at each end, rounded down as scipy.stats.trim_mean does:
    below four values it is the plain mean.
    """
    ordered = np.sort(_finite(values, num_axes=1))
    num_cut = ordered.size // 4
    return float(ordered[num_cut : ordered.size - num_cut].mean())


def sign_counts(values: ArrayLike) -> tuple[int, int, int]:
    """Return how many of ``values`` [T] lie above zero, at zero and below, rounding aside."""
    array = _finite(values, num_axes=1)
    num_up, num_down = int((array > ROUNDING).sum()), int((array < -ROUNDING).sum())
    return num_up, array.size - num_up - num_down, num_down


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


def _on_grid(values: Array) -> Array:
    """Round every row of ``values`` [R, S, N] so that its weighted sums are exact in any order.

    Fast matrix products add in an order that depends on all rows. Steps of a row are 2^-b of its
    largest entry, b bits being what sums over seeds and examples leave of 53; whole numbers stay.
    """
    _, num_seeds, num_items = values.shape
    _, largest = np.frexp(np.abs(values).max(axis=(1, 2), keepdims=True))
    bits = 52 - int(np.ceil(np.log2(num_seeds * num_items)))
    return np.ldexp(np.rint(np.ldexp(values, bits - largest)), largest - bits)


def _t_quantile(degrees: int, confidence: float) -> float:
    return float(stdtrit(degrees, (1 + confidence) / 2))


def _finite(values: ArrayLike, *, num_axes: int) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != num_axes or array.size == 0:
        raise ValueError(f"an array of shape {array.shape} where {num_axes} axes are expected")
    if not np.isfinite(array).all():
        raise ValueError("a difference is not finite")
    return array
