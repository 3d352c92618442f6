"""Disk and time of a staged sweep at most and at least: how many arms fall is not known before."""

from collections.abc import Sequence

from fseed.planned_run import PlannedRun
from fseed.sweep.needs import (
    Estimate,
    check_disk,
    check_time,
    folder_bytes,
    format_bytes,
    free_bytes,
    run_needs,
)
from fseed.sweep.staged.book import BASELINE, Slot
from fseed.sweep.staged.dry_run import Count, count_runs
from fseed.sweep.staged.estimates import estimate_seconds
from fseed.sweep.staged.probe_file import read_probes
from fseed.sweep.staged.setup import StagedSweep


def staged_bytes(sweep: StagedSweep, *, num_at_once: int) -> int:
    """Return the bytes of a sweep in which no arm falls, beyond what its folder holds."""
    needs = [
        (run_needs(_baseline(sweep, task, number).config), count.most)
        for task in sweep.book.tasks
        for number, count in enumerate(_counts(sweep))
    ]
    total = sum(one.kept * count for one, count in needs)
    total += num_at_once * max(one.passing for one, _ in needs)
    held = sum(folder_bytes(path) for path in sweep.folder.glob("*/*/*/s*-*"))
    return max(total - held, 0)


def staged_seconds(sweep: StagedSweep, *, num_at_once: int) -> Estimate:
    """Return the time of a sweep in which every arm falls at once; None where one is unknown."""
    probes, least = read_probes(sweep.folder), sum(count.least for count in _counts(sweep))
    found = [
        estimate_seconds(
            _baseline(sweep, task, 0), root=sweep.folder.parent, probe=probes.get(task)
        )
        for task in sweep.book.tasks
    ]
    known = [one.value for one in found if one.value is not None]
    if len(known) < len(found):
        return Estimate(None, "no earlier run of this size")
    return Estimate(
        least * sum(known) / num_at_once, "; ".join(dict.fromkeys(e.source for e in found))
    )


def describe_staged_needs(
    sweep: StagedSweep, *, num_at_once: int, max_hours: float | None, refuse: bool
) -> str:
    """Return the disk that a sweep needs at most in one line.

    Raises:
        UserError: with ``refuse``, where that is not free or even the least takes too long.
    """
    root = sweep.folder.parent
    needed = staged_bytes(sweep, num_at_once=num_at_once)
    if refuse:
        check_disk(needed, root=root)
        check_time(staged_seconds(sweep, num_at_once=num_at_once), max_hours=max_hours)
    free = format_bytes(free_bytes(root))
    return f"needs at most about {format_bytes(needed)} of disk, {free} free"


def _counts(sweep: StagedSweep) -> Sequence[Count]:
    num_arms = len(sweep.book.arms)
    return [
        count_runs(stage, num_arms=num_arms, has_controls=sweep.has_controls)
        for stage in sweep.stages
    ]


def _baseline(sweep: StagedSweep, task: str, number: int) -> PlannedRun:
    stage = sweep.stages[number]
    return sweep.book.run(Slot(task, BASELINE, stage.name), seed=stage.seeds[0])
