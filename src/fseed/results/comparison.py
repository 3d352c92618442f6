"""The rows of the paired table: labels, numbers and verdict of every arm."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fseed.results.measurement import OVER_SEEDS, Measurement, measure
from fseed.results.pairs import Arm
from fseed.results.statistics import Interval, crossed_bootstrap
from fseed.results.verdicts import decide

BOOTSTRAP_SEED = 0  # of the draws: the same records give the same table


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row: an arm minus its baseline. Scores are fractions, losses nats per answer token.

    Every number is None where it was not measured. ``interval_*`` is what the verdict rests on,
    ``bootstrap_*`` the crossed bootstrap over seeds and examples beside it.
    """

    task: str
    source: str
    model: str
    stage: str
    arm: str
    setting: str
    control: str
    metric: str | None = None
    split: str | None = None
    seeds: str
    num_runs: int
    num_pairs: int
    num_examples: int | None = None
    num_units: int | None = None
    baseline_value: float | None = None
    arm_value: float | None = None
    difference: float | None = None
    interval_low: float | None = None
    interval_high: float | None = None
    interval_kind: str | None = None
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None
    num_up: int | None = None
    num_tied: int | None = None
    num_down: int | None = None
    loss_difference: float | None = None
    mcnemar_p: float | None = None
    detectable_difference: float | None = None
    more_seeds_needed: int | None = None
    constant_value: float | None = None
    beats_constant: bool | None = None
    verdict: str
    reason_code: str
    reason: str
    arm_key: str | None


def compare_arms(arms: Sequence[Arm]) -> list[Comparison]:
    """Return one row per arm, in the order given."""
    measured = [measure(arm.pairs) if arm.pairs else None for arm in arms]
    intervals = _bootstrap_all(measured)
    rows = zip(arms, measured, intervals, strict=True)
    return [_row(arm, numbers, interval) for arm, numbers, interval in rows]


def _row(arm: Arm, measured: Measurement | None, bootstrap: Interval | None) -> Comparison:
    run, verdict = arm.runs[0], decide(arm, measured)
    task, source, model, stage = run.labels
    numbers = _numbers(measured, bootstrap) if measured is not None else {}
    return Comparison(
        task=task,
        source=source,
        model=model,
        stage=stage,
        arm=arm.label,
        setting=arm.setting,
        control=str(run.settings.get("control.kind", "none")),
        seeds=",".join(str(one.seed) for one in arm.runs),
        num_runs=len(arm.runs),
        num_pairs=len(arm.pairs),
        verdict=verdict.name,
        reason_code=verdict.code,
        reason=verdict.text + _bootstrap_note(numbers, code=verdict.code) + _constant_note(numbers),
        arm_key=run.arm_key,
        **numbers,
    )


def _numbers(measured: Measurement, bootstrap: Interval | None) -> dict[str, Any]:
    signs = np.sign(measured.differences)
    constant = measured.constant_value
    return {
        "metric": measured.metric,
        "split": measured.split,
        "num_examples": measured.units.size,
        "num_units": int(measured.units.sum()),
        "baseline_value": measured.baseline_value,
        "arm_value": measured.arm_value,
        "difference": float(measured.differences.mean()),
        **_ends("interval", measured.interval),
        "interval_kind": measured.interval_kind,
        **_ends("bootstrap", bootstrap),
        "num_up": int((signs > 0).sum()),
        "num_tied": int((signs == 0).sum()),
        "num_down": int((signs < 0).sum()),
        "loss_difference": measured.loss_difference,
        "mcnemar_p": measured.mcnemar_p,
        "detectable_difference": measured.detectable,
        "more_seeds_needed": measured.more_seeds,
        "constant_value": constant,
        "beats_constant": measured.arm_value > constant if constant is not None else None,
    }


def _ends(name: str, interval: Interval | None) -> dict[str, float | None]:
    low, high = (interval.low, interval.high) if interval is not None else (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _bootstrap_note(numbers: dict[str, Any], *, code: str) -> str:
    is_plain = numbers.get("interval_kind") == OVER_SEEDS and code != "bit_equal"
    if not is_plain or numbers["bootstrap_low"] is None:
        return ""
    low, high = (100 * numbers[f"bootstrap_{end}"] for end in ("low", "high"))
    return f"; bootstrap over seeds and examples [{low:+.2f}, {high:+.2f}] pp"


def _constant_note(numbers: dict[str, Any]) -> str:
    if numbers.get("beats_constant") is not False:
        return ""
    return f"; not above the constant answer ({100 * numbers['constant_value']:.1f} %)"


def _bootstrap_all(measured: Sequence[Measurement | None]) -> list[Interval | None]:
    """Run the crossed bootstrap of all rows, rows with the same examples and seeds at once."""
    batches: dict[Any, list[int]] = defaultdict(list)
    for index, numbers in enumerate(measured):
        if numbers is not None and numbers.units.sum() > 0:
            units = hashlib.sha256(numbers.units.tobytes()).digest()
            batches[numbers.item_differences.shape, units].append(index)
    intervals: list[Interval | None] = [None] * len(measured)
    for indices in batches.values():
        rows = [numbers for index in indices if (numbers := measured[index]) is not None]
        found = crossed_bootstrap(
            np.stack([numbers.item_differences for numbers in rows]),
            rows[0].units,
            generator=np.random.default_rng(BOOTSTRAP_SEED),
        )
        for index, interval in zip(indices, found, strict=True):
            intervals[index] = interval
    return intervals


def as_row(comparison: Comparison) -> dict[str, Any]:
    """Return the row as a flat mapping, for files and frames."""
    return asdict(comparison)
