"""Runs that stand twice, and stages that look at seeds which an earlier stage has seen."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from fseed.results.runs import Run
from fseed.results.staged import stage_number, sweep_folder

_STATUS_ORDER = ("finished", "invalid", "failed", "unfinished", "unreadable")
_MAX_NAMED_RUNS = 3


@dataclass(frozen=True)
class Deduplicated:
    """Every run once; ``contradicted``: ids of runs that finished twice, with other numbers."""

    runs: list[Run]
    alarms: list[str]
    contradicted: frozenset[str]


@dataclass(frozen=True)
class Reuse:
    """Seeds of an arm that two stages share, with a run of each stage."""

    seeds: tuple[Any, ...]
    earlier: Run
    later: Run


def drop_duplicates(runs: Sequence[Run]) -> Deduplicated:
    """Keep one run per run id and name the others: a finished one first, then the earlier stage.

    The earlier stage has looked at it, so that the later one must not count it as new.
    """
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.run_id or run.record.path].append(run)
    kept: list[Run] = []
    contradicted: set[str] = set()
    repeated: dict[Any, list[tuple[Run, Run]]] = defaultdict(list)
    for run_id, group in groups.items():
        # nearly all of them stand once
        first, *others = sorted(group, key=_place) if len(group) > 1 else group
        kept.append(first)
        for other in others:
            repeated[_folder(first), _folder(other), _tell_repeat(first, other)].append(
                (first, other)
            )
            if first.status == other.status == "finished" and first.last != other.last:
                contradicted.add(str(run_id))
    alarms = [_tell(pairs, text) for (_, _, text), pairs in repeated.items()]
    return Deduplicated(kept, alarms, frozenset(contradicted))


def find_reuses(runs: Sequence[Run]) -> list[Reuse]:
    """Return the seeds that two stages of one arm share, for every pair of stages."""
    found = []
    for stages in _seeds_by_stage(runs).values():
        ordered = [stages[number] for number in sorted(stages)]
        for earlier, later in combinations(ordered, 2):
            shared = tuple(sorted(earlier.keys() & later.keys(), key=str))
            if shared:
                found.append(Reuse(shared, earlier[shared[0]], later[shared[0]]))
    return found


def arm_place(run: Run) -> tuple[Any, ...]:
    """Return what the runs of one arm share over the stages of a sweep."""
    task, source, model, _ = run.labels
    return sweep_folder(run), task, source, model, run.arm_key


def _seeds_by_stage(runs: Sequence[Run]) -> Mapping[Any, dict[int, dict[Any, Run]]]:
    places: dict[Any, dict[int, dict[Any, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        if stage_number(run.labels[3]) >= 0:
            places[arm_place(run)][stage_number(run.labels[3])].setdefault(run.seed, run)
    return places


def _place(run: Run) -> tuple[int, int]:
    return _STATUS_ORDER.index(run.status), stage_number(run.labels[3])


def _folder(run: Run) -> Path:
    return sweep_folder(run) or run.record.path.parent


def _tell_repeat(first: Run, other: Run) -> str:
    told = "" if other.last == first.last else ", with other numbers"
    stages = sorted((first.labels[3], other.labels[3]), key=stage_number)
    if stages[0] != stages[1]:
        told += f", and stage {stages[1]} confirms nothing that stage {stages[0]} has seen"
    return told


def _tell(pairs: Sequence[tuple[Run, Run]], text: str) -> str:
    """Tell one repeated run with both its folders, several with those of their sweeps."""
    first, other = pairs[0]
    if len(pairs) == 1:
        where = f"{first.record.path} and {other.record.path}"
        return f"run {first.run_id} stands twice{text}, the first is counted: {where}"
    names = ", ".join(str(run.run_id) for run, _ in pairs[:_MAX_NAMED_RUNS])
    names += ", ..." if len(pairs) > _MAX_NAMED_RUNS else ""
    where = f"{_folder(first)} and {_folder(other)}"
    return f"{len(pairs)} runs stand twice{text}, the first are counted ({names}): {where}"
