"""Which arm a control stands beside, and whether the arm exceeds it.

A control repeats an arm with one thing changed (``control=``). One without Future-Seed, such as
repeat_prompt, has no settings of an arm: it is a control of every arm of its table.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fseed.identity import ARM_KEYS, is_read
from fseed.results.measurement import Measurement
from fseed.results.pairs import Arm
from fseed.results.staged import StagedSweep, sweep_folder
from fseed.results.statistics import MIN_SEEDS, Interval, has_spread, paired_t_interval

NO_OP_CONTROLS = ("aa",)  # ties by construction, so it says nothing about a gain


@dataclass(frozen=True)
class ControlGain:
    """A control that its arm is not shown to exceed; fractions.

    ``excess`` is arm minus control over the shared seeds, None below three of them.
    """

    label: str
    kind: str
    difference: float
    excess: Interval | None


def find_controls(arms: Sequence[Arm]) -> list[list[int]]:
    """Return per row the positions of its controls: its own repeated with one thing changed."""
    owners: dict[Any, list[int]] = defaultdict(list)
    kinds = {arm.control for arm in arms if arm.is_control}
    for index, arm in enumerate(arms):
        if not arm.is_control:
            for kind in kinds:
                owners[_table(arm), _settings_under(kind, arm)].append(index)
            owners[_table(arm), None].append(index)
    controls: list[list[int]] = [[] for _ in arms]
    for index, arm in enumerate(arms):
        if arm.is_control:
            settings = None if _is_without_future_seed(arm) else _settings_under(arm.control, arm)
            for owner in owners.get((_table(arm), settings), []):
                controls[owner].append(index)
    return controls


def link_controls(
    arms: Sequence[Arm], controls: Sequence[Sequence[int]], *, sweeps: Sequence[StagedSweep] = ()
) -> list[str | None]:
    """Return per row the label of the one arm that it is a control of, None for plain arms.

    ``controls`` as from ``find_controls``; where several arms share a control, the plan of its
    sweep may name one.
    """
    owners: list[list[str]] = [[] for _ in arms]
    for arm, positions in zip(arms, controls, strict=True):
        for index in positions:
            owners[index].append(arm.label)
    return [
        None if not arm.is_control else names[0] if len(names) == 1 else _planned(arm, sweeps)
        for arm, names in zip(arms, owners, strict=True)
    ]


def order_rows(arms: Sequence[Arm], links: Sequence[str | None]) -> list[int]:
    """Return the rows' positions table by table, each control directly below its arm."""
    labels = {(_table(arm), arm.label) for arm in arms if not arm.is_control}

    def place(index: int) -> tuple[object, ...]:
        arm, link = arms[index], links[index]
        is_linked = (_table(arm), link) in labels
        owner = link if is_linked else arm.label
        # a control of no single arm stands below all arms
        return _table(arm), arm.is_control and not is_linked, owner, arm.is_control, arm.label

    return sorted(range(len(arms)), key=place)


def telling_controls(
    controls: Sequence[tuple[Arm, Measurement | None]],
) -> list[tuple[Arm, Measurement]]:
    """Return the measured controls that could show a gain: all but A/A arms."""
    return [
        (control, numbers)
        for control, numbers in controls
        if numbers is not None and control.control not in NO_OP_CONTROLS
    ]


def find_equal_gains(
    arm: Measurement, controls: Sequence[tuple[Arm, Measurement | None]]
) -> list[ControlGain]:
    """Return the controls that ``arm`` does not clearly exceed.

    To exceed one takes an interval above zero of arm minus control, over three shared seeds or
    more that differ: an excess that is the same at all seeds has no measured spread.
    """
    found = []
    for control, numbers in telling_controls(controls):
        gain, excess = float(numbers.differences.mean()), _excess(arm, numbers)
        if excess is None or not 0 < excess.low < excess.high:
            found.append(ControlGain(control.label, control.control, gain, excess))
    return found


def _planned(control: Arm, sweeps: Sequence[StagedSweep]) -> str | None:
    folder = sweep_folder(control.runs[0])
    names = {
        entry.control_of
        for sweep in sweeps
        if sweep.plan is not None and sweep.folder == folder
        for entry in sweep.plan.arms
        if entry.arm_key == control.runs[0].arm_key and entry.control_of is not None
    }
    return names.pop() if len(names) == 1 else None


def _table(arm: Arm) -> tuple[str, ...]:
    return (*arm.runs[0].labels, arm.setting)


def _is_without_future_seed(control: Arm) -> bool:
    return control.runs[0].settings.get("fs.mode") == "no_fs"


def _settings_under(control: str, arm: Arm) -> str:
    """Return what a control of this kind reads of the arm's options; the control is part of it."""
    settings = arm.runs[0].settings | {"control.kind": control}
    groups = [key for key in ARM_KEYS if key != "control"]
    read = [
        (key, value)
        for key, value in settings.items()
        if key.split(".")[0] in groups and is_read(key, settings)
    ]
    return repr((control, read))


def _excess(arm: Measurement, control: Measurement) -> Interval | None:
    """Return the t interval of arm minus control; of no width where all seeds agree."""
    theirs = control.by_seed
    shared = [value - theirs[seed] for seed, value in arm.by_seed.items() if seed in theirs]
    if len(shared) < MIN_SEEDS:
        return None
    if not has_spread(shared):
        mean = float(np.mean(shared))
        return Interval(mean, mean, mean)
    return paired_t_interval(shared)
