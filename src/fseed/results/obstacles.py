"""What forbids a row to claim anything, whatever its numbers: read off runs and plans.

Runs that contradict each other make a row invalid; missing or reused seeds make it inconclusive;
controls that have not finished withhold a gain.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from fseed.results.duplicates import arm_place, find_reuses
from fseed.results.pairs import Arm
from fseed.results.runs import Run
from fseed.results.staged import StagedSweep, sweep_folder
from fseed.results.staged_files import STAGES, StagedPlan

CONFIRM = STAGES[-1]


@dataclass(frozen=True)
class Obstacle:
    """A code of ``verdicts.REASONS``, and what stands in the way in words."""

    code: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Obstacles:
    """What stands in the way of a row; None and empty where nothing does."""

    contradiction: Obstacle | None = None  # its numbers cannot be used
    seeds: Obstacle | None = None  # its seeds are not those of a test
    unfinished_controls: tuple[str, ...] = ()  # labels


def find_obstacles(
    arms: Sequence[Arm],
    controls: Sequence[Sequence[int]],
    *,
    sweeps: Sequence[StagedSweep] = (),
    contradicted: Collection[str] = (),
) -> list[Obstacles]:
    """Return per row what stands in its way.

    ``controls`` as from ``controls.find_controls``; ``contradicted``: ids of runs that stand
    twice with other numbers.
    """
    plans = {sweep.folder: sweep.plan for sweep in sweeps if sweep.plan is not None}
    untied = _untied_tables(arms)
    reused = _reused_seeds([run for arm in arms for run in arm.runs])
    keys: dict[Any, set[Any]] = defaultdict(set)
    for arm in arms:
        keys[arm.runs[0].labels].add(arm.runs[0].arm_key)
    found = []
    for arm, positions in zip(arms, controls, strict=True):
        run = arm.runs[0]
        own_plans = _plans_of(arm, plans) if run.labels[3] == CONFIRM else []
        beside = [arms[index].label for index in positions if arms[index].gaps]
        found.append(
            Obstacles(
                contradiction=_contradicted(arm, contradicted) or _untied(arm, untied),
                seeds=_reused(arm, reused) or _not_started(arm, own_plans),
                unfinished_controls=(*beside, *_missing(arm, own_plans, keys[run.labels])),
            )
        )
    return found


def is_tied(run: Run, base: Run) -> bool:
    """Tell whether two runs predict the same, bit for bit."""
    left, right = run.examples, base.examples
    return left is not None and right is not None and left.content == right.content


def _plans_of(arm: Arm, plans: dict[Any, StagedPlan]) -> list[StagedPlan]:
    folders = dict.fromkeys(sweep_folder(run) for run in arm.runs)
    found = [plans[folder] for folder in folders if folder in plans]
    return [plan for plan in found if arm.runs[0].labels[0] in plan.tasks]


def _contradicted(arm: Arm, contradicted: Collection[str]) -> Obstacle | None:
    ids = [run.run_id for pair in arm.pairs for run in pair if run.run_id in contradicted]
    if not ids:
        return None
    return Obstacle("contradicting_duplicates", f"run {', '.join(map(str, dict.fromkeys(ids)))}")


def _untied_tables(arms: Sequence[Arm]) -> dict[Any, str]:
    """Return table -> label of an A/A arm in it that differs from its baseline."""
    return {
        (arm.runs[0].labels, arm.setting): arm.label
        for arm in arms
        if arm.control == "aa" and not all(is_tied(run, base) for run, base in arm.pairs)
    }


def _untied(arm: Arm, untied: dict[Any, str]) -> Obstacle | None:
    label = untied.get((arm.runs[0].labels, arm.setting))
    return Obstacle("aa_differs", label) if label is not None and arm.pairs else None


def _reused_seeds(runs: Sequence[Run]) -> dict[Any, dict[Any, str]]:
    """Return arm -> seed -> the earlier stage that has seen a seed of its confirm stage."""
    seen: dict[Any, dict[Any, str]] = defaultdict(dict)
    for reuse in find_reuses(runs):
        if reuse.later.labels[3] == CONFIRM:
            stage = reuse.earlier.labels[3]
            seen[arm_place(reuse.later)] |= dict.fromkeys(reuse.seeds, stage)
    return seen


def _reused(arm: Arm, reused: dict[Any, dict[Any, str]]) -> Obstacle | None:
    if arm.runs[0].labels[3] != CONFIRM:
        return None
    found = [
        (run.seed, stage)
        for run in arm.runs
        if (stage := reused.get(arm_place(run), {}).get(run.seed)) is not None
    ]
    told = ", ".join(f"seed {seed} at {stage}" for seed, stage in found)
    return Obstacle("seeds_reused", told) if found else None


def _not_started(arm: Arm, plans: Sequence[StagedPlan]) -> Obstacle | None:
    planned = {
        seed for plan in plans for one in plan.stages if one.name == CONFIRM for seed in one.seeds
    }
    missing = sorted(planned - {run.seed for run in arm.runs})
    return Obstacle("seeds_not_started", ",".join(map(str, missing))) if missing else None


def _missing(arm: Arm, plans: Sequence[StagedPlan], keys: Collection[Any]) -> list[str]:
    """Return the controls that a plan registers for the arm and that have no row beside it."""
    return [
        entry.label
        for plan in plans
        for entry in plan.arms
        if entry.control_of == arm.runs[0].arm and entry.arm_key not in keys
    ]
