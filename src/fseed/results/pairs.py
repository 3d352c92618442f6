"""Which runs make one table row, and which baseline each of them is compared with.

A row holds the runs that differ in nothing but the seed. The baseline of a run is the finished
no_fs run with the same pair_key; a run without one gets a reason, never a number.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fseed.records import is_run_dir
from fseed.results.runs import Run
from fseed.results.staged_files import STAGES

_MAX_NAMED_KEYS = 3


@dataclass(frozen=True)
class Gap:
    """A run of a row that cannot be compared.

    ``code``: its status, ``no_matched_baseline`` or ``unequal_budget``.
    """

    run: Run
    code: str
    text: str


@dataclass(frozen=True)
class Arm:
    """All runs of one arm and setting, over the seeds."""

    runs: list[Run]
    pairs: list[tuple[Run, Run]]  # (arm, baseline), by seed
    gaps: list[Gap]
    label: str
    setting: str  # what tells this row from others of its table, such as budget.steps=40
    # seeds of a plain sweep that its baselines have finished and this row has no run of
    lacking: list[int] = field(default_factory=list)

    @property
    def control(self) -> str:
        """Return what kind of control this is, ``none`` for a plain arm."""
        return str(self.runs[0].settings.get("control.kind", "none"))

    @property
    def is_control(self) -> bool:
        """Tell whether the row is there to be compared with another arm."""
        return self.control != "none"


def build_arms(runs: Sequence[Run]) -> list[Arm]:
    """Group the runs of all arms into rows and pair each finished one with its baseline."""
    baselines = Baselines([run for run in runs if run.is_baseline])
    rows = _group([run for run in runs if not run.is_baseline])
    labels, settings = _unique_labels(rows), _distinct_settings(rows)
    arms = []
    for row, label, setting in zip(rows, labels, settings, strict=True):
        pairs, gaps = _match(row, baselines)
        arms.append(Arm(row, pairs, gaps, label, setting, baselines.lacking(row)))
    return sorted(arms, key=lambda arm: (arm.runs[0].labels, arm.setting, arm.label))


class Baselines:
    """The no_fs runs, indexed: by pair_key, by task and seed, and by settings."""

    def __init__(self, runs: Iterable[Run]) -> None:
        """Index the runs, finished or not; of two with one key the first finished one counts."""
        self._finished: dict[Any, Run] = {}
        self._by_seed: dict[Any, list[tuple[Run, dict[str, Any]]]] = defaultdict(list)
        self._by_settings: dict[str, dict[str, tuple[Run, dict[str, Any]]]] = defaultdict(dict)
        self._seeds: dict[Any, set[int]] = defaultdict(set)
        for run in runs:
            self._by_seed[run.labels[0], run.seed].append((run, run.plain_settings))
            self._by_settings[run.labels[0]].setdefault(run.kin, (run, run.plain_settings))
            if run.status == "finished":
                # the first one counts; ``alarms`` reports those that disagree
                self._finished.setdefault(_baseline_key(run), run)
                self._seeds[run.labels, run.kin].add(run.seed if run.seed is not None else -1)

    def find(self, run: Run) -> Run | None:
        """Return the finished baseline of a run, None where there is none."""
        return self._finished.get(_baseline_key(run))

    def near(self, run: Run) -> list[tuple[Run, dict[str, Any]]]:
        """Return the baselines of a run's task and seed with their settings.

        Where its seed has none: one baseline of the task for each of their settings.
        """
        task = run.labels[0]
        return self._by_seed.get((task, run.seed)) or [*self._by_settings[task].values()]

    def lacking(self, row: Sequence[Run]) -> list[int]:
        """Return the finished seeds of a row's baselines that it has no run of, ascending.

        Staged sweeps stop arms early by design, so that only plain ones are told.
        """
        first = row[0]
        if first.labels[3] in STAGES or not _is_known(first):
            return []
        there = self._seeds.get((first.labels, first.kin), set())
        return sorted(there - {run.seed for run in row})


def describe_nearest(run: Run, baselines: Baselines) -> str:
    """Say in which settings the most similar no_fs run differs, or that there is none."""
    wanted = run.plain_settings
    near = [(_differing(wanted, there), other) for other, there in baselines.near(run)]
    if not near:
        return f"no no_fs run of task {run.labels[0]} here"
    keys, other = min(near, key=lambda entry: len(entry[0]))
    if not keys and other.status == "finished":
        return "nearest no_fs run differs in pair_key alone"
    if not keys:
        return f"its no_fs run is {other.status} ({other.reason})"
    there = other.plain_settings
    told = [f"{key} {_short(wanted.get(key))} vs {_short(there.get(key))}" for key in keys]
    more = len(told) - _MAX_NAMED_KEYS
    rest = f" and {more} more keys" if more > 0 else ""
    return f"nearest no_fs run differs: {', '.join(told[:_MAX_NAMED_KEYS])}{rest}"


def _match(row: Sequence[Run], baselines: Baselines) -> tuple[list[tuple[Run, Run]], list[Gap]]:
    pairs: list[tuple[Run, Run]] = []
    gaps: list[Gap] = []
    for run in row:
        baseline = baselines.find(run)
        if run.status != "finished":
            gaps.append(Gap(run, run.status, run.reason or ""))
        elif baseline is None:
            text = describe_nearest(run, baselines)
            gaps.append(Gap(run, "no_matched_baseline", text))
        elif (unequal := _unequal_budget(run, baseline)) is not None:
            gaps.append(Gap(run, "unequal_budget", unequal))
        else:
            pairs.append((run, baseline))
    return pairs, gaps


def _unequal_budget(run: Run, baseline: Run) -> str | None:
    """Say how the budgets of a pair differ, as set or as used; an edited record can make them."""
    told: list[tuple[str, Any, Any]] = [
        (key, run.settings.get(key), baseline.settings.get(key))
        for key in ("budget.steps", "budget.tokens", "budget.batch_size")
    ]
    told.append(("steps used", _steps_used(run), _steps_used(baseline)))
    parts = [f"{name} {ours} vs {theirs}" for name, ours, theirs in told if ours != theirs]
    return f"its no_fs run has another budget: {', '.join(parts)}" if parts else None


def _steps_used(run: Run) -> Any:
    return (run.record.result or {}).get("steps")


def _baseline_key(run: Run) -> tuple[Any, ...]:
    # the pair_key says it all; source and split guard against a record that was edited
    return run.pair_key, run.labels[0], run.labels[1], run.split


def _group(runs: Sequence[Run]) -> list[list[Run]]:
    """Return the rows; known runs by seed, then the others.

    A run that ended before its records told who it is counts in every row of its arm folder, so
    that a seed is never missed in silence; without such a row it makes one of its own.
    """
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        if _is_known(run):
            groups[_row_key(run)].append(run)
    rows_in: dict[Path, list[list[Run]]] = defaultdict(list)
    for row in groups.values():
        for folder in {run.record.path.parent for run in row}:
            rows_in[folder].append(row)
    for run in runs:
        if not _is_known(run) and is_run_dir(run.record.path):
            folder = run.record.path.parent
            for row in rows_in.get(folder) or [groups[folder]]:
                if run.seed not in {other.seed for other in row}:
                    row.append(run)
    # known runs come first: the first run gives the row its labels
    return [sorted(row, key=_by_seed) for row in groups.values()]


def _is_known(run: Run) -> bool:
    return bool(run.settings) and run.arm_key is not None


def _row_key(run: Run) -> tuple[Any, ...]:
    """Return everything that the runs of a row share: all but the seed and volatile keys."""
    return run.labels, run.arm_key, run.kin


def _by_seed(run: Run) -> tuple[bool, int, str]:
    return not _is_known(run), run.seed if run.seed is not None else -1, str(run.record.path)


def _unique_labels(rows: Sequence[Sequence[Run]]) -> list[str]:
    """Return the arm label per row, with the short arm key where two arms share a label."""
    keys: dict[Any, set[Any]] = defaultdict(set)
    for row in rows:
        keys[row[0].labels, row[0].arm].add(row[0].arm_key)
    return [
        f"{row[0].arm} [{str(row[0].arm_key)[:6]}]"
        if len(keys[row[0].labels, row[0].arm]) > 1
        else row[0].arm
        for row in rows
    ]


def _distinct_settings(rows: Sequence[Sequence[Run]]) -> list[str]:
    """Return per row the settings, Future-Seed and seed aside, that vary inside its table."""
    tables: dict[Any, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        for key, value in row[0].plain_settings.items():
            tables[row[0].labels][key].add(repr(value))
    told = []
    for row in rows:
        seen = tables[row[0].labels]
        parts = [
            f"{key}={_short(value)}"
            for key, value in row[0].plain_settings.items()
            if key != "seed" and len(seen[key]) > 1
        ]
        told.append(" ".join(parts))
    return told


def _differing(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    keys = list(dict.fromkeys([*left, *right]))
    return [key for key in keys if left.get(key) != right.get(key)]


def _short(value: Any) -> str:
    """Return the value as text, hashes cut to 8 characters."""
    text = str(value)
    is_hash = len(text) in (40, 64) and all(char in "0123456789abcdef" for char in text)
    return text[:8] if is_hash else text
