"""What earlier records say about time and spread, for a sweep that has not run yet."""

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fseed.errors import UserError
from fseed.planned_run import PlannedRun
from fseed.records import RESULT_FILE, RecordError, read_run
from fseed.results.staged_files import StageDecision, read_decisions
from fseed.results.statistics import ASSUMED_DEVIATION, MIN_SEEDS
from fseed.sweep.needs import WORK_KEYS, Estimate
from fseed.sweep.staged.probe_file import Probe

MAX_RECORDS = 30


def estimate_seconds(run: PlannedRun, *, root: Path, probe: Probe | None) -> Estimate:
    """Return the seconds of one run: from runs of the same size, from the probe, or unknown."""
    seconds = [found for path in _newest(run, root) if (found := _seconds_like(run, path))]
    if seconds:
        source = f"median of {len(seconds)} earlier runs, training and scoring"
        return Estimate(statistics.median(seconds), source)
    steps = run.config.budget.steps
    if probe is not None and steps is not None:
        return Estimate(steps * probe.seconds_per_step, "probe: training alone, at most")
    return Estimate(None, "unknown until the probe")


def estimate_deviation(folders: Iterable[Path]) -> Estimate:
    """Return the deviation over seeds of a paired difference, pooled over recorded decisions."""
    for folder in folders:
        try:
            found = _pooled_deviation(read_decisions(folder))
        except RecordError as error:
            raise UserError(str(error)) from error
        if found is not None:
            return Estimate(found, f"recorded in {folder.name}")
    return Estimate(ASSUMED_DEVIATION, "assumed, none is recorded")


def _pooled_deviation(decisions: Sequence[StageDecision]) -> float | None:
    # the last decision of an arm in a stage holds all its pairs
    last = {(one.task, one.stage, one.arm): one.inputs for one in decisions}
    groups = [[pair.difference for pair in pairs] for pairs in last.values()]
    groups = [values for values in groups if len(values) >= MIN_SEEDS]
    degrees = sum(len(values) - 1 for values in groups)
    if degrees == 0:
        return None
    squares = sum(float(np.var(values)) * len(values) for values in groups)
    return (squares / degrees) ** 0.5 or None


def _newest(run: PlannedRun, root: Path) -> list[Path]:
    paths = root.glob(f"*/{run.config.task.name}/*/*/s*-*/{RESULT_FILE}")
    return sorted(paths, key=lambda path: path.stat().st_mtime)[-MAX_RECORDS:]


def _seconds_like(run: PlannedRun, result: Path) -> float | None:
    """Return the recorded seconds of a run that does the same work, None for another."""
    record = read_run(result.parent)
    if record.result is None:
        return None
    wanted = run.resolved_config()
    for group, key in WORK_KEYS:
        if record.config.get(group, {}).get(key) != wanted[group][key]:
            return None
    seconds = record.result.get("wall_seconds")
    return float(seconds) if isinstance(seconds, int | float) else None
