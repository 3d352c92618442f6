"""What one row says: a verdict, a machine-readable reason code and a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fseed.results.measurement import Measurement
from fseed.results.pairs import Arm, Gap
from fseed.results.statistics import MIN_SEEDS

VERDICTS = (
    *("helps", "hurts", "no_op", "inconclusive"),
    *("failed", "invalid", "unfinished", "no_matched_baseline"),
)
REASONS = {
    "interval_above_zero": "the interval over seeds lies above zero",
    "interval_below_zero": "the interval over seeds lies below zero",
    "interval_holds_zero": "the interval over seeds holds zero",
    "bit_equal": "every prediction and every metric equals the baseline's, bit for bit",
    "too_few_seeds": "fewer than three pairs, so the variance over seeds is not measured",
    "identical_differences": "all pairs differ by the same amount, so the interval has no width",
    "incomplete_seeds": "a run of the row has not finished or has no baseline",
    "repeated_seed": "a seed occurs twice in the row",
    "different_examples": "arm and baseline were not scored on the same examples and metric",
    "unreadable": "the records of the runs cannot be read",
    "failed": "the runs failed",
    "invalid": "the numbers of the runs cannot be used",
    "unfinished": "the runs have not finished",
    "no_matched_baseline": "no finished no_fs run has the same pair_key",
}


@dataclass(frozen=True)
class Verdict:
    """A name of VERDICTS, a code of REASONS, and the reason in words with its numbers."""

    name: str
    code: str
    text: str


def decide(arm: Arm, measured: Measurement | None) -> Verdict:
    """Judge a row; ``helps`` and ``hurts`` need three pairs and no gap among the seeds."""
    if not arm.pairs:
        return _without_pairs(arm.gaps)
    seeds = [run.seed for run, _ in arm.pairs]
    if len(set(seeds)) != len(seeds):
        return _plain("invalid", "repeated_seed")
    if measured is None:
        return _plain("invalid", "different_examples")
    if measured.is_bit_equal:
        expected = arm.runs[0].settings.get("control.kind") == "aa"
        note = ", as an A/A arm must be" if expected else ""
        return Verdict("no_op", "bit_equal", REASONS["bit_equal"] + note)
    if arm.gaps:
        return Verdict("inconclusive", "incomplete_seeds", _tell_gaps(arm.gaps))
    return _judge_interval(measured)


def _without_pairs(gaps: Sequence[Gap]) -> Verdict:
    """Name the row after the gap that says most: what can be mended by one more run comes first."""
    order = ("no_matched_baseline", "invalid", "unreadable", "failed", "unfinished")
    code = min((gap.code for gap in gaps), key=order.index)
    return Verdict("invalid" if code == "unreadable" else code, code, _tell_gaps(gaps))


def _judge_interval(measured: Measurement) -> Verdict:
    interval = measured.interval
    if interval is None or measured.differences.size < MIN_SEEDS:
        return Verdict("inconclusive", "too_few_seeds", _tell_few(measured))
    if np.ptp(measured.differences) == 0:
        return _plain("inconclusive", "identical_differences")
    if interval.low > 0:
        return _plain("helps", "interval_above_zero")
    if interval.high < 0:
        return _plain("hurts", "interval_below_zero")
    return Verdict("inconclusive", "interval_holds_zero", _tell_outlook(measured))


def _tell_few(measured: Measurement) -> str:
    num_pairs = measured.differences.size
    pairs = "1 pair" if num_pairs == 1 else f"{num_pairs} pairs"
    text = f"{pairs}, seed variance not measured; the interval is over examples only"
    return (
        text if measured.mcnemar_p is None else f"{text}, exact McNemar p {measured.mcnemar_p:.3g}"
    )


def _tell_outlook(measured: Measurement) -> str:
    detectable = 100 * (measured.detectable or 0.0)
    text = f"the interval holds zero; detectable with power 0.8: {detectable:.2f} pp"
    if measured.more_seeds is None:
        return f"{text}; the difference seen needs over 1,000 more seeds"
    return f"{text}; the difference seen needs about {measured.more_seeds} more seeds"


def _tell_gaps(gaps: Sequence[Gap]) -> str:
    """Tell every gap with its seeds, equal reasons once."""
    seeds: dict[str, list[str]] = {}
    for gap in gaps:
        text = f"{gap.code.replace('_', ' ')}, {gap.text}" if gap.text else gap.code
        seeds.setdefault(text, []).append(str(gap.run.seed))
    return "; ".join(
        f"{'seed' if len(told) == 1 else 'seeds'} {','.join(told)}: {text}"
        for text, told in seeds.items()
    )


def _plain(name: str, code: str) -> Verdict:
    return Verdict(name, code, REASONS[code])
