"""Staged sweeps that the collected runs belong to: their plans, decisions and pruned arms."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fseed.records import RecordError
from fseed.results.runs import Run
from fseed.results.staged_files import (
    STAGES,
    StageDecision,
    StagedPlan,
    read_decisions,
    read_plan,
)


@dataclass(frozen=True)
class StagedSweep:
    """A sweep folder with its plan and decisions; what cannot be read is told in ``problems``."""

    folder: Path
    plan: StagedPlan | None
    decisions: list[StageDecision]
    problems: list[str]

    def dropped(self, task: str) -> dict[str, StageDecision]:
        """Return arm_key -> the last decision on an arm of ``task`` that dropped it."""
        last = {one.arm_key: one for one in self.decisions if one.task == task}
        return {key: one for key, one in last.items() if one.state == "dropped"}


def read_sweeps(runs: Sequence[Run]) -> list[StagedSweep]:
    """Read plan and decisions of every sweep folder that the runs lie in, plain sweeps aside."""
    folders = dict.fromkeys(folder for run in runs if (folder := sweep_folder(run)) is not None)
    found = [_read_sweep(folder) for folder in folders]
    return [sweep for sweep in found if sweep.plan or sweep.decisions or sweep.problems]


def sweep_folder(run: Run) -> Path | None:
    """Return the folder of the sweep that a run lies in, None for a run that lies elsewhere."""
    return run.sweep_folder


def stage_number(stage: str) -> int:
    """Return the place of a stage in the order of stages; -1 for plain sweeps."""
    return STAGES.index(stage) if stage in STAGES else -1


def find_dropped(
    rows: Sequence[Sequence[Run]], sweeps: Sequence[StagedSweep]
) -> list[StageDecision | None]:
    """Return per row the decision that dropped it at its stage, None where it lives on.

    An arm that has runs at a later stage after all is not dropped.
    """
    if not any(sweep.decisions for sweep in sweeps):
        return [None] * len(rows)
    latest: dict[Any, int] = {}
    for runs in rows:
        for run in runs:
            number = stage_number(run.labels[3])
            latest[_place(run)] = max(latest.get(_place(run), -1), number)
    decisions: dict[Any, StageDecision] = {
        (sweep.folder, task, key): decision
        for sweep in sweeps
        for task in {one.task for one in sweep.decisions}
        for key, decision in sweep.dropped(task).items()
    }
    found: list[StageDecision | None] = []
    for run in (runs[0] for runs in rows):
        decision = decisions.get(_place(run))
        here = stage_number(run.labels[3])
        if decision is not None and stage_number(decision.stage) == here == latest[_place(run)]:
            found.append(decision)
        else:
            found.append(None)
    return found


def _place(run: Run) -> tuple[Path | None, str, str | None]:
    return sweep_folder(run), run.labels[0], run.arm_key


def _read_sweep(folder: Path) -> StagedSweep:
    problems: list[str] = []
    plan, decisions = None, []
    try:
        plan = read_plan(folder)
    except RecordError as error:
        problems.append(str(error))
    try:
        decisions = read_decisions(folder)
    except RecordError as error:
        problems.append(str(error))
    return StagedSweep(folder, plan, decisions, problems)
