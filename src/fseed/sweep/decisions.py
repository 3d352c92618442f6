"""Which arms of a stage go on: racing, halving, or the threshold of the earlier protocol.

Pure functions of the paired differences so far; fractions, arm minus baseline. Nothing decided
here is a result: an arm that passes has earned fresh seeds, no more. Rungs are counted from 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fseed.errors import did_you_mean
from fseed.results.statistics import (
    MIN_SEEDS,
    ROUNDING,
    has_spread,
    paired_t_interval,
    paired_t_p_value,
)

RULES = ("race", "halving", "threshold")
STAGES = ("quick", "medium", "confirm")
_GROWTH = 1.5  # least growth of the seeds from rung to rung: every look costs significance
REASONS = {
    "above_zero": "the interval lies above zero",
    "below_wanted_gain": "the interval ends below the wanted gain",
    "undecided": "the interval holds zero and the wanted gain",
    "promising": "last rung: the mean is above zero and the interval reaches the wanted gain",
    "not_above_zero": "last rung: the mean is not above zero",
    "not_promising": "last rung: the mean is too small a share of the wanted gain",
    "out_of_reach": "last rung: all differences are equal and below the wanted gain",
    "no_spread": "all differences are equal, which says nothing about the spread over seeds",
    "among_best": "among the best arms of the rung by mean difference",
    "not_among_best": "not among the best arms of the rung by mean difference",
    "reaches_threshold": "the mean difference reaches the threshold",
    "below_threshold": "the mean difference is below the threshold",
    "not_last_rung": "the threshold is asked after the last rung",
    "too_few_pairs": "too few pairs of finished runs to decide",
    "no_dropping": "the confirm stage drops no arm",
}


@dataclass(frozen=True)
class Rules:
    """How arms are chosen; all differences are fractions.

    ``wanted_gain``, the smallest gain worth having, ``significance``, shared by the rungs of a
    stage, and ``promising_fraction``, the share of the wanted gain that the mean of an undecided
    arm must reach at the last rung, belong to race; ``keep_fraction`` to halving; the thresholds,
    as rounds 20 and 21 of the earlier work had them, to threshold.

    Raises:
        ValueError: for an unknown rule or a number out of its range.
    """

    rule: str
    wanted_gain: float
    significance: float = 0.05
    keep_fraction: float = 0.5
    quick_threshold: float = 0.001
    medium_threshold: float = 0.002
    promising_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no stage could work with."""
        if self.rule not in RULES:
            near = did_you_mean(self.rule, RULES)
            raise ValueError(f"rule {self.rule}: one of {', '.join(RULES)}{near}")
        if not 0 < self.wanted_gain <= 1:
            raise ValueError(f"wanted_gain {self.wanted_gain}: a fraction above 0, at most 1")
        if not 0 < self.significance < 1:
            raise ValueError(f"significance {self.significance}: between 0 and 1")
        if not 0 < self.keep_fraction <= 1:
            raise ValueError(f"keep_fraction {self.keep_fraction}: above 0, at most 1")
        if not 0 <= self.promising_fraction <= 1:
            raise ValueError(f"promising_fraction {self.promising_fraction}: from 0 to 1")
        if not (math.isfinite(self.quick_threshold) and math.isfinite(self.medium_threshold)):
            raise ValueError("quick_threshold and medium_threshold: finite fractions")


@dataclass(frozen=True)
class Decision:
    """What becomes of one arm at one rung, with the numbers that decided.

    ``state``: passed, dropped or continues; ``reason``: a code of REASONS; ``text``: a sentence.
    ``low``, ``high`` and ``p`` (two-sided, paired t) are None below 3 seeds, ``difference``, the
    mean over seeds, without any.
    """

    arm: str
    state: str
    reason: str
    text: str
    difference: float | None
    low: float | None
    high: float | None
    confidence: float | None
    num_seeds: int
    p: float | None


def decide(
    differences: Mapping[str, Sequence[float]],
    *,
    stage: str,
    rung: int,
    num_rungs: int,
    rules: Rules,
) -> list[Decision]:
    """Return one decision per arm that is still in the stage, in the order given.

    ``differences`` holds per arm its paired differences [S] of this stage alone, the finished
    pairs only; ``rung`` is 0 .. num_rungs - 1. After the last rung no arm continues.

    Raises:
        ValueError: for an unknown stage, a rung out of range or a difference that is not finite.
    """
    if stage not in STAGES:
        raise ValueError(f"stage {stage}: one of {', '.join(STAGES)}{did_you_mean(stage, STAGES)}")
    if not 0 <= rung < num_rungs:
        raise ValueError(f"rung {rung} of {num_rungs}: rungs are counted from 0")
    confidence = 1 - rules.significance / num_rungs
    numbers = [_numbers(arm, values, confidence=confidence) for arm, values in differences.items()]
    is_last = rung == num_rungs - 1
    if stage == "confirm":
        return [
            _conclude(one, "passed" if is_last else "continues", "no_dropping") for one in numbers
        ]
    if rules.rule == "race":
        return [_race(one, is_last=is_last, rules=rules) for one in numbers]
    if rules.rule == "halving":
        return _halve(numbers, is_last=is_last, keep_fraction=rules.keep_fraction)
    threshold = rules.quick_threshold if stage == "quick" else rules.medium_threshold
    return [_threshold(one, is_last=is_last, threshold=threshold) for one in numbers]


def default_rungs(num_seeds: int) -> tuple[int, ...]:
    """Return the cumulative numbers of seeds after which a race of ``num_seeds`` decides.

    >>> default_rungs(4), default_rungs(5), default_rungs(8), default_rungs(10)
    ((4,), (3, 5), (3, 5, 8), (3, 5, 10))

    Raises:
        ValueError: for fewer than 3 seeds.
    """
    if num_seeds < MIN_SEEDS:
        raise ValueError(
            f"{num_seeds} seeds: a rung needs at least {MIN_SEEDS}, for the spread over seeds"
        )
    rungs, rung = [], MIN_SEEDS
    while _GROWTH * rung <= num_seeds:
        rungs.append(rung)
        rung = math.ceil(_GROWTH * rung)
    return (*rungs, num_seeds)


def rungs_of(rule: str, num_seeds: int) -> tuple[int, ...]:
    """Return the rungs of a stage under ``rule``: one after all seeds for threshold."""
    return (num_seeds,) if rule == "threshold" else default_rungs(num_seeds)


@dataclass(frozen=True)
class _Numbers:
    """The summary of an arm's differences that its decision rests on."""

    arm: str
    num_seeds: int
    has_spread: bool
    difference: float | None
    low: float | None
    high: float | None
    confidence: float | None
    p: float | None


def _numbers(arm: str, differences: Sequence[float], *, confidence: float) -> _Numbers:
    values: NDArray[np.float64] = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"arm {arm}: a difference is not finite")
    mean = float(values.mean()) if values.size else None
    if values.size < MIN_SEEDS:
        return _Numbers(arm, values.size, False, mean, None, None, None, None)
    interval, p = paired_t_interval(values, confidence=confidence), paired_t_p_value(values)
    ends = interval.low, interval.high
    return _Numbers(arm, values.size, has_spread(values), mean, *ends, confidence, p)


def _race(numbers: _Numbers, *, is_last: bool, rules: Rules) -> Decision:
    """Drop an arm that cannot reach the wanted gain, pass one above zero, else go on.

    An arm with both, a gain that is real and too small, is dropped.
    """
    state, reason = "continues", "undecided"
    wanted_gain = rules.wanted_gain
    if numbers.difference is None or numbers.low is None or numbers.high is None:
        state, reason = "dropped" if is_last else "continues", "too_few_pairs"
    elif not numbers.has_spread:
        state, reason = _race_without_spread(
            numbers.difference, is_last=is_last, wanted_gain=wanted_gain
        )
    elif numbers.high < wanted_gain:
        state, reason = "dropped", "below_wanted_gain"
    elif numbers.low > 0:
        state, reason = "passed", "above_zero"
    elif is_last:
        state, reason = _race_undecided(numbers.difference, rules)
    return _conclude(numbers, state, reason)


def _race_undecided(difference: float, rules: Rules) -> tuple[str, str]:
    """Decide at the last rung by the mean, where the interval holds zero and the wanted gain."""
    if difference <= 0:
        return "dropped", "not_above_zero"
    if difference < rules.promising_fraction * rules.wanted_gain - ROUNDING:
        return "dropped", "not_promising"
    return "passed", "promising"


def _race_without_spread(
    difference: float, *, is_last: bool, wanted_gain: float
) -> tuple[str, str]:
    """Decide where the interval has no width: no sooner than at the last rung, by the mean."""
    if not is_last:
        return "continues", "no_spread"
    return (
        ("passed", "promising")
        if difference >= wanted_gain - ROUNDING
        else ("dropped", "out_of_reach")
    )


def _halve(numbers: Sequence[_Numbers], *, is_last: bool, keep_fraction: float) -> list[Decision]:
    """Keep the best ``ceil(keep_fraction * arms)`` by mean; of equal ones the first given."""
    known = [index for index, one in enumerate(numbers) if one.difference is not None]
    ranked = sorted(known, key=lambda index: -(numbers[index].difference or 0.0))
    # 0.1 * 30 is a little more than 3
    kept = set(ranked[: math.ceil(keep_fraction * len(numbers) - ROUNDING)])
    decisions = []
    for index, one in enumerate(numbers):
        if one.difference is None:
            decisions.append(_conclude(one, "dropped", "too_few_pairs"))
        elif index in kept:
            decisions.append(_conclude(one, "passed" if is_last else "continues", "among_best"))
        else:
            decisions.append(_conclude(one, "dropped", "not_among_best"))
    return decisions


def _threshold(numbers: _Numbers, *, is_last: bool, threshold: float) -> Decision:
    """Pass an arm at or above the threshold, however few its seeds."""
    if not is_last:
        return _conclude(numbers, "continues", "not_last_rung")
    if numbers.difference is None:
        return _conclude(numbers, "dropped", "too_few_pairs")
    if numbers.difference >= threshold - ROUNDING:
        return _conclude(numbers, "passed", "reaches_threshold")
    return _conclude(numbers, "dropped", "below_threshold")


def _conclude(numbers: _Numbers, state: str, reason: str) -> Decision:
    return Decision(
        arm=numbers.arm,
        state=state,
        reason=reason,
        text=f"{state}: {REASONS[reason]} ({_tell(numbers)})",
        difference=numbers.difference,
        low=numbers.low,
        high=numbers.high,
        confidence=numbers.confidence,
        num_seeds=numbers.num_seeds,
        p=numbers.p,
    )


def _tell(numbers: _Numbers) -> str:
    seeds = f"{numbers.num_seeds} {'seed' if numbers.num_seeds == 1 else 'seeds'}"
    if numbers.difference is None:
        return seeds
    text = f"{100 * numbers.difference:+.2f} pp over {seeds}"
    if numbers.low is None or numbers.high is None or numbers.confidence is None:
        return text
    ends = f"[{100 * numbers.low:+.2f}, {100 * numbers.high:+.2f}]"
    return f"{text}, {100 * numbers.confidence:.4g} % interval {ends}"
