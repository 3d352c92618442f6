"""The numbers of one row: paired differences over seeds and over examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fseed.results.runs import Examples, Run
from fseed.results.scalars import finite_number
from fseed.results.statistics import (
    MIN_SEEDS,
    Interval,
    exact_mcnemar,
    has_spread,
    item_interval,
    more_seeds_needed,
    paired_t_interval,
    smallest_detectable_effect,
)

OVER_SEEDS = "t interval over seeds"
OVER_ITEMS = "over examples, seed variance not measured"


@dataclass(frozen=True)
class Measurement:
    """Arm minus baseline over S pairs and N examples; scores and differences are fractions."""

    metric: str
    split: str
    arm_value: float  # mean over seeds
    baseline_value: float
    constant_value: float | None  # score of the best constant answer
    seeds: tuple[int | None, ...]  # [S]
    differences: NDArray[np.float64]  # [S]
    loss_differences: NDArray[np.float64] | None  # [S] nats per answer token
    item_differences: NDArray[np.float64]  # [S, N] of scores
    units: NDArray[np.float64]  # [N] weights of the examples
    interval: Interval | None
    interval_kind: str | None
    mcnemar_p: float | None  # of wholly right examples, one pair only
    is_bit_equal: bool

    @property
    def by_seed(self) -> dict[int | None, float]:
        """Return the difference of every seed."""
        return dict(zip(self.seeds, self.differences.tolist(), strict=True))

    @property
    def is_above_constant(self) -> bool:
        """Tell whether arm or baseline beats the best constant answer, where it is known."""
        best = max(self.arm_value, self.baseline_value)
        return self.constant_value is None or best > self.constant_value

    @property
    def can_be_tested(self) -> bool:
        """Tell whether the seeds are enough, and different enough, for a t test."""
        return self.differences.size >= MIN_SEEDS and has_spread(self.differences)


@dataclass(frozen=True)
class Outlook:
    """What more of the same runs could show; None where the spread over seeds is not known.

    ``detectable``: smallest mean difference found with power 0.8 by the seeds at hand, a fraction.
    ``more_seeds``: how many more the difference seen would need, or at least need.
    """

    detectable: float | None
    more_seeds: int | None


def measure(pairs: Sequence[tuple[Run, Run]]) -> Measurement | None:
    """Compare the pairs of a row; None when they were not scored on the same examples."""
    scored = [(arm, base, *_examples(arm, base)) for arm, base in pairs]
    if not _are_aligned([examples for *_, left, right in scored for examples in (left, right)]):
        return None
    metrics = {run.primary_metric for pair in pairs for run in pair}
    if len(metrics) != 1:
        return None
    metric = str(metrics.pop())
    differences = np.array([arm.last[metric] - base.last[metric] for arm, base in pairs])
    items = np.array([left.scores - right.scores for *_, left, right in scored], dtype=float)
    units = scored[0][2].weights
    interval, kind = _interval(differences, items, units)
    return Measurement(
        metric=metric,
        split=str(pairs[0][0].split),
        arm_value=float(np.mean([arm.last[metric] for arm, _ in pairs])),
        baseline_value=float(np.mean([base.last[metric] for _, base in pairs])),
        constant_value=_constant_value(pairs[0][0], metric),
        seeds=tuple(arm.seed for arm, _ in pairs),
        differences=differences,
        loss_differences=_loss_differences(pairs),
        item_differences=items,
        units=units,
        interval=interval,
        interval_kind=kind,
        mcnemar_p=_mcnemar(scored[0][2], scored[0][3]) if len(pairs) == 1 else None,
        is_bit_equal=all(
            arm.last == base.last and left.content == right.content
            for arm, base, left, right in scored
        ),
    )


def look_ahead(measured: Measurement, *, significance: float) -> Outlook:
    """Return what the spread over seeds lets a test at ``significance`` find."""
    num_seeds = measured.differences.size
    if num_seeds < MIN_SEEDS:
        return Outlook(None, MIN_SEEDS - num_seeds)
    if not measured.can_be_tested:
        return Outlook(None, None)
    deviation = float(measured.differences.std(ddof=1))
    detectable = smallest_detectable_effect(
        deviation, num_seeds=num_seeds, significance=significance
    )
    effect = float(measured.differences.mean())
    more = more_seeds_needed(effect, deviation, num_seeds=num_seeds, significance=significance)
    return Outlook(detectable, more)


def _examples(arm: Run, baseline: Run) -> tuple[Examples, Examples]:
    if arm.examples is None or baseline.examples is None:
        raise ValueError(f"{arm.record.path}: a pair must be of finished runs")
    return arm.examples, baseline.examples


def _are_aligned(scored: Sequence[Examples]) -> bool:
    first = scored[0]
    return all(
        other.ids == first.ids
        and other.weights.shape == first.weights.shape
        and bool((other.weights == first.weights).all())
        for other in scored
    )


def _interval(
    differences: NDArray[np.float64], items: NDArray[np.float64], units: NDArray[np.float64]
) -> tuple[Interval | None, str | None]:
    """Return the interval over seeds, or over examples where the seeds are too few for one."""
    if differences.size >= MIN_SEEDS:
        return paired_t_interval(differences), OVER_SEEDS
    if units.size < 2:
        return None, None
    return item_interval(items.mean(axis=0), units), OVER_ITEMS


def _mcnemar(arm: Examples, baseline: Examples) -> float:
    return exact_mcnemar(arm.is_right, baseline.is_right)


def _loss_differences(pairs: Sequence[tuple[Run, Run]]) -> NDArray[np.float64] | None:
    """Return arm minus baseline [S]; None when a loss is not recorded."""
    losses = [(arm.last.get("loss"), base.last.get("loss")) for arm, base in pairs]
    known = [left - right for left, right in losses if left is not None and right is not None]
    return np.array(known) if len(known) == len(pairs) else None


def _constant_value(run: Run, metric: str) -> float | None:
    told = (run.record.result or {}).get("constant_baseline")
    value = told.get(metric) if isinstance(told, dict) else None
    return finite_number(value)
