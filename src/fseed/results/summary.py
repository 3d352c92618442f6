"""What the paired rows add up to: arms over stages, arms over tasks, and what has no result."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fseed.results.collection import Collection
from fseed.results.comparison import Comparison
from fseed.results.staged import StagedSweep, stage_number
from fseed.results.staged_files import STAGES, PlanArm, StageDecision
from fseed.results.statistics import interquartile_mean, sign_counts

NO_RESULT = ("pruned", "failed", "invalid", "unfinished", "no_matched_baseline")
NOT_STARTED = "not_started"


@dataclass(frozen=True, kw_only=True)
class StageRow:
    """An arm of a task at one stage of a search; fractions.

    ``state``: passed | dropped | continues by the last decision, ``not_started`` for a registered
    arm without any run, None where nothing was decided. ``verdict`` is that of the paired row.
    """

    task: str
    source: str
    model: str
    setting: str
    arm: str
    arm_key: str | None
    control: str
    control_of: str | None
    stage: str
    num_pairs: int
    difference: float | None
    interval_low: float | None
    interval_high: float | None
    verdict: str | None
    state: str | None
    decision_reason: str | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """An arm over tasks, from its rows of one stage; each task counts once, whatever its size.

    ``mean_difference`` is the interquartile mean of the differences of the tasks' own metrics, a
    fraction. ``num_up`` and so on count the signs of these differences, ``num_helps`` and so on the
    tasks all of whose rows say so. ``pruned``: tasks where a search dropped the arm before this
    stage, so that the mean is one over the survivors; ``left_out``: tasks whose rows have gaps or
    are invalid.
    """

    stage: str
    source: str
    model: str
    arm: str
    control: str
    num_tasks: int
    mean_difference: float
    num_up: int
    num_tied: int
    num_down: int
    num_helps: int
    num_hurts: int
    num_equivalent: int
    num_pruned: int
    tasks: str
    pruned: str
    left_out: str


@dataclass(frozen=True, kw_only=True)
class AppendixRow:
    """An arm without a result: pruned, failed, invalid, unfinished, unmatched, not started."""

    task: str
    stage: str
    setting: str
    arm: str
    seeds: str
    state: str
    reason_code: str
    reason: str


def stage_rows(collection: Collection) -> list[StageRow]:
    """Return the rows of all stages of the staged searches, and registered arms without runs."""
    rows = [row for row in collection.comparisons if stage_number(row.stage) >= 0]
    decisions = _last_decisions(collection.sweeps)
    found = [
        _stage_row(row, decisions.get((row.task, row.arm_key or "", row.stage))) for row in rows
    ]
    return found + [_missing_row(task, arm) for task, arm in _not_started(collection)]


def task_summaries(collection: Collection) -> list[TaskSummary]:
    """Return one row per arm that was measured on two tasks or more, at the stage that counts.

    That is confirm wherever an arm has rows there, else plain sweeps. A row with gaps, and an
    invalid one, does not enter.
    """
    groups: dict[Any, list[Comparison]] = defaultdict(list)
    dropped: dict[Any, dict[str, None]] = defaultdict(dict)
    left_out: dict[Any, dict[str, None]] = defaultdict(dict)
    for row in collection.comparisons:
        place = row.source, row.model, row.arm
        if row.verdict == "pruned":
            dropped[place][row.task] = None
        elif row.stage in ("confirm", "plain") and _is_whole(row):
            groups[row.stage, *place].append(row)
        elif row.stage in ("confirm", "plain"):
            left_out[row.stage, *place][row.task] = None
    return [
        _summarise(rows, pruned=[*dropped[*place]], left_out=[*left_out[stage, *place]])
        for (stage, *place), rows in sorted(groups.items())
        if len({row.task for row in rows}) > 1
        and (stage == "confirm" or ("confirm", *place) not in groups)
    ]


def appendix_rows(collection: Collection) -> list[AppendixRow]:
    """Return every arm that gives no result, with its reason."""
    found = [
        AppendixRow(
            task=row.task,
            stage=row.stage,
            setting=row.setting,
            arm=row.arm,
            seeds=row.seeds,
            state=row.verdict,
            reason_code=row.dropped_reason or row.reason_code,
            reason=row.reason,
        )
        for row in collection.comparisons
        if row.verdict in NO_RESULT
    ]
    return found + [
        AppendixRow(
            task=task,
            stage=STAGES[0],
            setting="",
            arm=arm.label,
            seeds="",
            state=NOT_STARTED,
            reason_code=NOT_STARTED,
            reason="registered in plan.json, no run of it is here",
        )
        for task, arm in _not_started(collection)
    ]


def as_rows(rows: Sequence[StageRow | TaskSummary | AppendixRow]) -> list[dict[str, Any]]:
    """Return the rows as flat mappings, for files."""
    return [asdict(row) for row in rows]


def _last_decisions(sweeps: Sequence[StagedSweep]) -> dict[tuple[str, str, str], StageDecision]:
    """Return (task, arm_key, stage) -> the last decision taken there."""
    return {(one.task, one.arm_key, one.stage): one for sweep in sweeps for one in sweep.decisions}


def _stage_row(row: Comparison, decision: StageDecision | None) -> StageRow:
    return StageRow(
        task=row.task,
        source=row.source,
        model=row.model,
        setting=row.setting,
        arm=row.arm,
        arm_key=row.arm_key,
        control=row.control,
        control_of=row.control_of,
        stage=row.stage,
        num_pairs=row.num_pairs,
        difference=row.difference,
        interval_low=row.interval_low,
        interval_high=row.interval_high,
        verdict=row.verdict,
        state=decision.state if decision is not None else None,
        decision_reason=decision.reason if decision is not None else None,
        reason=decision.text if decision is not None else row.reason,
    )


def _missing_row(task: str, arm: PlanArm) -> StageRow:
    return StageRow(
        task=task,
        source="?",
        model="?",
        setting="",
        arm=arm.label,
        arm_key=arm.arm_key,
        control=arm.control,
        control_of=arm.control_of,
        stage=STAGES[0],
        num_pairs=0,
        difference=None,
        interval_low=None,
        interval_high=None,
        verdict=None,
        state=NOT_STARTED,
        decision_reason=None,
        reason="registered in plan.json, no run of it is here",
    )


def _not_started(collection: Collection) -> Iterator[tuple[str, PlanArm]]:
    """Yield the registered arms without a run; controls are due only beside a confirmed arm."""
    known = {(row.task, row.arm_key) for row in collection.comparisons}
    confirmed = {(row.task, row.arm) for row in collection.comparisons if row.stage == STAGES[-1]}
    for sweep in collection.sweeps:
        if sweep.plan is None:
            continue
        for task in sweep.plan.tasks:
            for arm in sweep.plan.arms:
                is_due = arm.control == "none" or (task, arm.control_of) in confirmed
                if is_due and (task, arm.arm_key) not in known:
                    yield task, arm


def _is_whole(row: Comparison) -> bool:
    is_complete = row.num_pairs == row.num_runs
    return is_complete and row.difference is not None and row.verdict != "invalid"


def _summarise(
    rows: Sequence[Comparison], *, pruned: Sequence[str], left_out: Sequence[str]
) -> TaskSummary:
    first = rows[0]
    by_task: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        assert row.difference is not None
        by_task[row.task].append(row.difference)
    # several settings of one task are one task
    values = [sum(told) / len(told) for told in by_task.values()]
    num_up, num_tied, num_down = sign_counts(values)
    verdicts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        verdicts[row.task].add(row.verdict)
    agreed = [told.pop() for told in verdicts.values() if len(told) == 1]
    gone = [task for task in pruned if task not in by_task]
    return TaskSummary(
        stage=first.stage,
        source=first.source,
        model=first.model,
        arm=first.arm,
        control=first.control,
        num_tasks=len(values),
        mean_difference=interquartile_mean(values),
        num_up=num_up,
        num_tied=num_tied,
        num_down=num_down,
        num_helps=agreed.count("helps"),
        num_hurts=agreed.count("hurts"),
        num_equivalent=agreed.count("equivalent"),
        num_pruned=len(gone),
        tasks=", ".join(by_task),
        pruned=", ".join(gone),
        left_out=", ".join(left_out),
    )
