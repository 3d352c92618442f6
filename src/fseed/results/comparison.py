"""The rows of the paired table: labels, numbers and verdict of every arm."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fseed.results.bootstraps import bootstrap_rows
from fseed.results.controls import (
    find_controls,
    find_equal_gains,
    link_controls,
    order_rows,
    telling_controls,
)
from fseed.results.defaults import DEFAULT_MARGIN
from fseed.results.equivalence import equivalence_p_value
from fseed.results.families import SIGNIFICANCE, Family, judge_families
from fseed.results.measurement import OVER_SEEDS, Measurement, look_ahead, measure
from fseed.results.memo import Memo
from fseed.results.obstacles import find_obstacles
from fseed.results.pairs import Arm
from fseed.results.staged import StagedSweep, find_dropped
from fseed.results.statistics import Interval
from fseed.results.verdicts import Evidence, decide


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row: an arm minus its baseline. Scores are fractions, losses nats per answer token.

    Every number is None where it was not measured. ``interval_*`` is what the verdict rests on,
    ``bootstrap_*`` the crossed bootstrap over seeds and examples beside it. ``p_*`` and
    ``equivalence_p`` need three pairs. ``control_of``: label of the arm that a control stands
    beside; ``num_controls``: measured controls beside the row that could show its gain.
    ``dropped_at`` and ``dropped_reason``: stage and reason code of the decision on a
    pruned arm.
    """

    task: str
    source: str
    model: str
    stage: str
    arm: str
    setting: str
    control: str
    control_of: str | None = None
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
    p_value: float | None = None
    p_adjusted: float | None = None
    adjustment: str | None = None
    family_size: int | None = None
    equivalence_margin: float | None = None
    equivalence_p: float | None = None
    num_controls: int | None = None
    detectable_difference: float | None = None
    more_seeds_needed: int | None = None
    constant_value: float | None = None
    beats_constant: bool | None = None
    verdict: str
    reason_code: str
    reason: str
    dropped_at: str | None = None
    dropped_reason: str | None = None
    arm_key: str | None


def compare_arms(
    arms: Sequence[Arm],
    *,
    margin: float = DEFAULT_MARGIN,
    sweeps: Sequence[StagedSweep] = (),
    contradicted: Collection[str] = (),
    memo: Memo | None = None,
) -> list[Comparison]:
    """Return one row per arm, table by table, every control directly below its arm.

    ``margin``: difference that counts as none, a fraction; ``sweeps``: those of the runs;
    ``contradicted``: ids of runs that stand twice with other numbers; ``memo``: intervals of
    earlier times.
    """
    measured = [measure(arm.pairs) if arm.pairs else None for arm in arms]
    intervals = bootstrap_rows(measured, memo=memo if memo is not None else Memo())
    families = judge_families(arms, measured, sweeps=sweeps)
    dropped = find_dropped([arm.runs for arm in arms], sweeps)
    controls = find_controls(arms)
    links = link_controls(arms, controls, sweeps=sweeps)
    obstacles = find_obstacles(arms, controls, sweeps=sweeps, contradicted=contradicted)
    rows = []
    for index in order_rows(arms, links):
        beside = [(arms[other], measured[other]) for other in controls[index]]
        numbers, decision = measured[index], dropped[index]
        evidence = replace(
            _evidence(numbers, families[index], margin, beside),
            dropped=decision,
            obstacles=obstacles[index],
        )
        rows.append(_row(arms[index], numbers, intervals[index], evidence, links[index]))
    return rows


def _evidence(
    measured: Measurement | None,
    family: Family,
    margin: float,
    controls: Sequence[tuple[Arm, Measurement | None]],
) -> Evidence:
    if measured is None:
        return Evidence(family=family, margin=margin)
    is_tested = measured.can_be_tested
    return Evidence(
        family=family,
        margin=margin,
        equivalence_p=equivalence_p_value(measured.differences, margin=margin)
        if is_tested
        else None,
        # a lone true effect must be found although the whole family is tested
        outlook=look_ahead(measured, significance=SIGNIFICANCE / family.size),
        num_controls=len(telling_controls(controls)),
        equal_gains=find_equal_gains(measured, controls),
    )


def _row(
    arm: Arm,
    measured: Measurement | None,
    bootstrap: Interval | None,
    evidence: Evidence,
    control_of: str | None,
) -> Comparison:
    run, verdict = arm.runs[0], decide(arm, measured, evidence)
    task, source, model, stage = run.labels
    numbers = _numbers(measured, bootstrap) if measured is not None else {}
    tests = _tests(evidence) if measured is not None else {}
    notes = _bootstrap_note(numbers, code=verdict.code) + _constant_note(numbers)
    notes += _lacking_note(arm) if measured is not None else ""
    dropped = evidence.dropped
    return Comparison(
        task=task,
        source=source,
        model=model,
        stage=stage,
        arm=arm.label,
        setting=arm.setting,
        control=arm.control,
        control_of=control_of,
        seeds=",".join(str(one.seed) for one in arm.runs),
        num_runs=len(arm.runs),
        num_pairs=len(arm.pairs),
        verdict=verdict.name,
        reason_code=verdict.code,
        reason=verdict.text + notes,
        dropped_at=dropped.stage if dropped is not None else None,
        dropped_reason=dropped.reason if dropped is not None else None,
        arm_key=run.arm_key,
        **numbers,
        **tests,
    )


def _tests(evidence: Evidence) -> dict[str, Any]:
    family, outlook = evidence.family, evidence.outlook
    return {
        "p_value": family.p_value,
        "p_adjusted": family.p_adjusted,
        "adjustment": family.adjustment,
        "family_size": family.size,
        "equivalence_margin": evidence.margin,
        "equivalence_p": evidence.equivalence_p,
        "num_controls": evidence.num_controls,
        "detectable_difference": outlook.detectable,
        "more_seeds_needed": outlook.more_seeds,
    }


def _numbers(measured: Measurement, bootstrap: Interval | None) -> dict[str, Any]:
    signs = np.sign(measured.differences)
    constant, losses = measured.constant_value, measured.loss_differences
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
        "loss_difference": float(losses.mean()) if losses is not None else None,
        "mcnemar_p": measured.mcnemar_p,
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


def _lacking_note(arm: Arm) -> str:
    """Tell the seeds that the baselines have finished and the row lacks: they may be left out."""
    if not arm.lacking:
        return ""
    return f"; no_fs has finished seeds that this row lacks: {','.join(map(str, arm.lacking))}"


def as_row(comparison: Comparison) -> dict[str, Any]:
    """Return the row as a flat mapping, for files and frames."""
    return asdict(comparison)
