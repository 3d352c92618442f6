"""Which rows are tested together, and their p values adjusted for how many they are.

A family is all rows of one task, source, model and stage, whatever their settings, controls aside.
Arms of the same staged sweep that were dropped at an earlier stage or registered without ever
running count too, as if their p value were 1.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fseed.results.measurement import Measurement
from fseed.results.multiplicity import benjamini_hochberg, holm
from fseed.results.pairs import Arm
from fseed.results.staged import StagedSweep, stage_number, sweep_folder
from fseed.results.statistics import paired_t_p_value

HOLM, BH, NONE = "holm", "bh", "none"
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Family:
    """The test of one row within its family; p values are None below three pairs.

    ``adjustment``: holm at stage confirm, bh elsewhere, none for a control, which claims nothing.
    """

    p_value: float | None
    p_adjusted: float | None
    adjustment: str
    size: int

    @property
    def is_significant(self) -> bool:
        """Tell whether the adjusted p value is below 0.05."""
        return self.p_adjusted is not None and self.p_adjusted < SIGNIFICANCE


def judge_families(
    arms: Sequence[Arm],
    measured: Sequence[Measurement | None],
    *,
    sweeps: Sequence[StagedSweep] = (),
) -> list[Family]:
    """Return the test of every row, in the order given."""
    p_values = [_p_value(numbers) for numbers in measured]
    tables: dict[Any, list[int]] = defaultdict(list)
    for index, arm in enumerate(arms):
        if not arm.is_control:
            tables[arm.runs[0].labels].append(index)
    families = [Family(p, p, NONE, 1) for p in p_values]
    for indices in tables.values():
        members = [arms[index] for index in indices]
        size = len(members) + num_pruned(members, sweeps)
        adjustment = HOLM if members[0].runs[0].labels[3] == "confirm" else BH
        adjust = holm if adjustment == HOLM else benjamini_hochberg
        known = {index: p for index in indices if (p := p_values[index]) is not None}
        values = adjust(list(known.values()), family_size=size).tolist()
        adjusted = dict(zip(known, values, strict=True))
        for index in indices:
            families[index] = Family(p_values[index], adjusted.get(index), adjustment, size)
    return families


def num_pruned(members: Sequence[Arm], sweeps: Sequence[StagedSweep]) -> int:
    """Count the arms that the sweeps of a family dropped before its stage or never ran."""
    task, *_, stage = members[0].runs[0].labels
    folders = {sweep_folder(run) for arm in members for run in arm.runs}
    here = {arm.runs[0].arm_key for arm in members}
    dropped = {
        key
        for sweep in sweeps
        if sweep.folder in folders
        for key, decision in sweep.dropped(task).items()
        if stage_number(decision.stage) < stage_number(stage)
    }
    # the plan keeps the count where decisions.jsonl is lost
    registered = {
        arm.arm_key
        for sweep in sweeps
        if sweep.folder in folders and sweep.plan is not None and task in sweep.plan.tasks
        for arm in sweep.plan.arms
        if arm.control == "none" and stage_number(stage) >= 0
    }
    return len((dropped | registered) - here)


def _p_value(measured: Measurement | None) -> float | None:
    if measured is None or not measured.can_be_tested:
        return None
    return paired_t_p_value(measured.differences)
