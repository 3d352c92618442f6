"""The runs of one command: each arm beside its baseline, each run once, finished ones known."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from fseed.config.schema import BaselineRule, RunConfig
from fseed.confinement import check_inside
from fseed.errors import UserError
from fseed.identity import ARM_KEYS, canonical_config, identify, is_baseline
from fseed.planned_run import PlannedRun
from fseed.records import RecordError, read_run
from fseed.sweep.environment import check_writable
from fseed.sweep.lock import find_lock_holder
from fseed.sweep.prepare import Preparer


@dataclass(frozen=True)
class Point:
    """One composed configuration: the options behind it, the overrides, and its arm's label."""

    config: RunConfig
    choices: Mapping[str, str]
    overrides: Sequence[str]
    arm: str
    launcher: str = "basic"  # option of hydra/launcher


Compose = Callable[[Sequence[str]], Point]


class RunState(Enum):
    """Where a planned run stands before the command starts it."""

    new = "new"
    unfinished = "unfinished"  # continues from its last checkpoint
    failed = "failed"  # is tried again
    running = "running"  # in another process, left alone
    finished = "finished"  # is not repeated


@dataclass(frozen=True)
class PlanEntry:
    """A run of the plan, where it stands, and whether the sweep added it as a baseline."""

    run: PlannedRun
    state: RunState
    is_added: bool
    notes: Sequence[str]


@dataclass(frozen=True)
class SweepPlan:
    """Every run of one command in order, and how many points were given twice."""

    entries: Sequence[PlanEntry]
    num_duplicates: int

    @property
    def to_run(self) -> list[PlannedRun]:
        """The runs that are left to start, in order."""
        skipped = (RunState.finished, RunState.running)
        return [entry.run for entry in self.entries if entry.state not in skipped]

    def position(self, run: PlannedRun) -> str:
        """Return "2/6": the place of a run among all runs of the plan."""
        return f"{self._numbers[run.run_id]}/{len(self.entries)}"

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {entry.run.run_id: number for number, entry in enumerate(self.entries, start=1)}


def plan_run(point: Point, *, preparer: Preparer | None = None) -> PlanEntry:
    """Check one composed configuration and give it its identity and its place on disk.

    Raises:
        UserError: for anything that cannot work; nothing has been written then.
    """
    elsewhere = runs_elsewhere(point)
    prepared = (preparer or Preparer()).prepare(point.config, runs_elsewhere=elsewhere)
    config, hashes = prepared.config, prepared.hashes
    identity = identify(config, hashes)
    run = PlannedRun(
        config=config,
        run_id=identity.run_id,
        pair_key=identity.pair_key,
        arm_key=identity.arm_key,
        arm=point.arm,
        run_dir=find_run_dir(config, arm=point.arm, run_id=identity.run_id),
        data_hash=hashes.data,
        weights_hash=hashes.weights,
        vocabulary_hash=hashes.vocabulary,
        code_hash=hashes.code,
        choices=dict(point.choices),
        overrides=list(point.overrides),
    )
    check_inside(run.run_dir, Path(config.output.root or ""), name="output.root")
    state = read_state(run)
    if state is not RunState.finished:
        check_writable(run.run_dir)
    return PlanEntry(run, state, False, prepared.notes)


def runs_elsewhere(point: Point) -> bool:
    """Tell whether the launcher of a point brings it to other machines than this one."""
    is_far = point.launcher == "ray" and point.config.launcher.ray_address is not None
    return is_far or point.launcher == "submitit_slurm"


def plan_sweep(points: Iterable[Point], *, compose: Compose) -> SweepPlan:
    """Check every point, drop repeated ones, add missing baselines, each before its arms.

    ``compose`` turns the overrides of a baseline into its point.
    """
    preparer = Preparer()
    given = [(point, plan_run(point, preparer=preparer)) for point in points]
    unique: dict[str, tuple[Point, PlanEntry]] = {}
    for point, entry in given:
        unique.setdefault(entry.run.run_id, (point, entry))
    baselines = {
        entry.run.pair_key: entry for _, entry in unique.values() if is_baseline(entry.run.config)
    }
    ordered: dict[str, PlanEntry] = {}
    for point, entry in unique.values():
        baseline = baselines.get(entry.run.pair_key)
        if baseline is None and entry.run.config.sweep.baseline is BaselineRule.auto:
            baseline = plan_baseline(entry, compose(baseline_overrides(point.overrides)), preparer)
            baselines[entry.run.pair_key] = baseline
        if baseline is not None:
            ordered.setdefault(baseline.run.run_id, baseline)
        ordered.setdefault(entry.run.run_id, entry)
    return SweepPlan(list(ordered.values()), num_duplicates=len(given) - len(unique))


def plan_baseline(arm: PlanEntry, point: Point, preparer: Preparer) -> PlanEntry:
    """Return the planned ``no_fs`` run of an arm.

    Raises:
        UserError: if the two would differ in more than Future-Seed.
    """
    entry = plan_run(point, preparer=preparer)
    if entry.run.pair_key != arm.run.pair_key or not is_baseline(entry.run.config):
        changed = _differences(canonical_config(arm.run.config), canonical_config(entry.run.config))
        raise UserError(
            f"the baseline of {arm.run.arm} would differ from it in "
            f"{', '.join(changed) or 'fs.mode'}, which a preset must not set\n"
            "set it on the command line, or run without baselines: sweep.baseline=none"
        )
    return PlanEntry(entry.run, entry.state, True, entry.notes)


def baseline_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of an arm's baseline: the FS ones dropped, ``fs=no_fs`` added.

    >>> baseline_overrides(["seed=1", "fs=head_l8", "alpha.init=-2.5"])
    ['seed=1', 'fs=no_fs']
    """
    return [text for text in overrides if not is_arm_override(text)] + ["fs=no_fs"]


def is_arm_override(override: str) -> bool:
    """Tell whether ``key=value`` belongs to the arm and not to what a pair shares."""
    key = override.split("=", 1)[0]
    return key.split(".")[0] in ARM_KEYS


def find_run_dir(config: RunConfig, *, arm: str, run_id: str) -> Path:
    """Return the folder of a run; one that exists under another label of the same arm is kept."""
    assert config.output.root is not None
    stage = Path(config.output.root) / config.sweep.name / config.task.name / config.sweep.stage
    name = f"s{config.seed}-{run_id}"
    own = stage / arm / name
    if own.exists():
        return own
    return next(iter(sorted(stage.glob(f"*/{name}"))), own)


def read_state(run: PlannedRun) -> RunState:
    """Return where a run stands on disk; a damaged record counts as unfinished."""
    if not run.run_dir.is_dir():
        return RunState.new
    if find_lock_holder(run.run_dir) is not None:
        return RunState.running
    if is_finished(run):
        return RunState.finished
    is_failed = read_run(run.run_dir).status == "failed"
    return RunState.failed if is_failed else RunState.unfinished


def is_finished(run: PlannedRun) -> bool:
    """Tell whether the folder of a run holds a valid result of this very run."""
    record = read_run(run.run_dir)
    if record.status != "finished" or record.run_id != run.run_id:
        return False
    try:
        record.predictions()
    except RecordError:  # the table could not use this run either: it is made again
        return False
    return True


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    found = []
    for key in first:
        if isinstance(first[key], Mapping):
            found += [f"{key}.{inner}" for inner in _differences(first[key], second[key])]
        elif first[key] != second[key]:
            found.append(key)
    return found
