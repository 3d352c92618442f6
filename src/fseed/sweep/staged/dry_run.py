"""The plan of a staged sweep in words: runs, tokens, time and what each stage could detect."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fseed.results.statistics import MIN_SEEDS, planned_detectable_effect
from fseed.sweep.needs import format_seconds
from fseed.sweep.report import max_tokens
from fseed.sweep.staged.book import BASELINE, CONTROLS, RunBook, Slot
from fseed.sweep.staged.estimates import Estimate, estimate_deviation, estimate_seconds
from fseed.sweep.staged.probe_file import read_probes
from fseed.sweep.staged.setup import StagedSweep
from fseed.sweep.staged.stages import QUICK, THRESHOLD_NOTE, Stage

HEADER = ("stage", "seeds", "decides after", "runs per task", "tokens per task", "detects")


@dataclass(frozen=True)
class Count:
    """How many runs a stage takes, when every arm falls at once and when none falls."""

    least: int
    most: int


def count_runs(stage: Stage, *, num_arms: int, has_controls: bool) -> Count:
    """Return the runs of one task in one stage, its baselines included."""
    num_seeds = len(stage.seeds)
    if stage.is_last:
        # the prompt read twice without Future-Seed is the same run for all arms
        own = num_arms * len(CONTROLS) - (num_arms - 1) if has_controls else 0
        return Count(0, num_seeds * (1 + num_arms + own))
    first = stage.rungs[0] * (1 + num_arms) if stage.name == QUICK else 0
    return Count(first, num_seeds * (1 + num_arms))


def render_dry_run(sweep: StagedSweep, *, against: Path | None) -> str:
    """Return the stages with their costs, per task the time, and what they could detect."""
    deviation = estimate_deviation([sweep.folder] + ([against] if against is not None else []))
    counts = [
        count_runs(stage, num_arms=len(sweep.book.arms), has_controls=sweep.has_controls)
        for stage in sweep.stages
    ]
    lines = [_title(sweep), "", *_stage_table(sweep, counts, deviation), ""]
    lines += _time_lines(sweep, counts)
    lines += _remarks(sweep, deviation)
    return "\n".join(lines)


def _title(sweep: StagedSweep) -> str:
    tasks, arms = sweep.book.tasks, sweep.book.arms
    return (
        f"staged sweep {sweep.folder}\n"
        f"rule {sweep.rules.rule}, wanted gain {100 * sweep.rules.wanted_gain:.2f} pp\n"
        f"{len(tasks)} tasks: {', '.join(tasks)}\n"
        f"{len(arms)} arms: {', '.join(arms)}\n"
        f"controls of a confirmed arm: "
        f"{', '.join(CONTROLS) if sweep.has_controls else 'none (sweep.controls=false)'}"
    )


def _stage_table(sweep: StagedSweep, counts: Sequence[Count], deviation: Estimate) -> list[str]:
    rows: list[tuple[str, ...]] = [HEADER]
    for stage, count in zip(sweep.stages, counts, strict=True):
        seeds = f"{stage.seeds[0]}-{stage.seeds[-1]}"
        decides = "all" if stage.is_last else f"{', '.join(map(str, stage.rungs))} seeds"
        tokens = max(_tokens(sweep.book, task, stage) for task in sweep.book.tasks)
        rows.append(
            (
                stage.name,
                seeds,
                decides,
                f"{count.least} to {count.most}",
                f"{count.least * tokens:,} to {count.most * tokens:,}",
                _detects(stage, deviation, num_arms=len(sweep.book.arms)),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _tokens(book: RunBook, task: str, stage: Stage) -> int:
    return max_tokens(book.run(Slot(task, BASELINE, stage.name), seed=stage.seeds[0]).config)


def _detects(stage: Stage, deviation: Estimate, *, num_arms: int) -> str:
    num_seeds = len(stage.seeds)
    if num_seeds == 1 or deviation.value is None:
        return "nothing: one seed has no spread"
    if num_seeds < MIN_SEEDS:
        return f"nothing: {num_seeds} seeds say too little about their spread"
    # stages before the last claim nothing: their arms are no family
    num_tested = num_arms if stage.is_last else 1
    effect = planned_detectable_effect(
        num_seeds=num_seeds, num_arms=num_tested, deviation=deviation.value
    )
    return f"{100 * effect:.2f} pp"


def _time_lines(sweep: StagedSweep, counts: Sequence[Count]) -> list[str]:
    """Return one line per task: seconds a run, and the whole at least and at most."""
    probes, stage = read_probes(sweep.folder), sweep.stages[0]
    least, most = sum(one.least for one in counts), sum(one.most for one in counts)
    lines, totals = [], []
    for task in sweep.book.tasks:
        run = sweep.book.run(Slot(task, BASELINE, stage.name), seed=stage.seeds[0])
        found = estimate_seconds(run, root=sweep.folder.parent, probe=probes.get(task))
        if found.value is None:
            lines.append(f"{task}: {least} to {most} runs, time {found.source}")
            continue
        totals.append(found.value)
        span = f"{format_seconds(least * found.value)} to {format_seconds(most * found.value)}"
        lines.append(
            f"{task}: {least} to {most} runs, about {format_seconds(found.value)} each "
            f"({found.source}), {span}"
        )
    num_tasks = len(sweep.book.tasks)
    whole = f"all: {num_tasks * least} to {num_tasks * most} runs"
    if len(totals) == num_tasks:
        low, high = least * sum(totals), most * sum(totals)
        whole += f", {format_seconds(low)} to {format_seconds(high)} one after the other"
    return [*lines, whole]


def _remarks(sweep: StagedSweep, deviation: Estimate) -> list[str]:
    assert deviation.value is not None
    remarks = [
        f"detects: mean difference found with a chance of 80 % at 95 % confidence, "
        f"by Holm over all arms at confirm, "
        f"for a deviation over seeds of {100 * deviation.value:.2f} pp ({deviation.source})",
        "tokens: at most, those of the task with the longest texts",
    ]
    if sweep.rules.rule == "threshold":
        remarks.append(THRESHOLD_NOTE)
    return [*remarks, *sweep.book.notes()]
