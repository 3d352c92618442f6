"""Signs that records are wrong although each of them reads well; one line each."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fseed.record_schema import INSTALLATION_KEYS
from fseed.results.pairs import Arm, plain_settings
from fseed.results.runs import Run, torn_metric_lines

_STATUS_ORDER = ("finished", "invalid", "failed", "unfinished", "unreadable")


def drop_duplicates(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Keep one run per run id, a finished one where there is one, and name the others."""
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.run_id or run.record.path].append(run)
    kept, alarms = [], []
    for run_id, group in groups.items():
        first, *others = sorted(group, key=lambda run: _STATUS_ORDER.index(run.status))
        kept.append(first)
        for other in others:
            same = "" if other.last == first.last else ", with other numbers"
            where = f"{first.record.path} and {other.record.path}"
            alarms.append(f"run {run_id} stands twice{same}, the first is counted: {where}")
    return kept, alarms


def find_alarms(runs: Sequence[Run], arms: Sequence[Arm]) -> list[str]:
    """Return the alarms about equal numbers, constant answers, A/A arms and torn lines."""
    return [
        *_equal_numbers(runs, arms),
        *_constant_answers(runs),
        *_untied_aa_arms(arms),
        *_unequal_installations(arms),
        *_torn_lines(runs),
    ]


def _equal_numbers(runs: Sequence[Run], arms: Sequence[Arm]) -> list[str]:
    """Report runs with other settings, arms or seeds whose scores agree to the last digit.

    An arm that ties with its own baseline is left to the verdict of its row.
    """
    baselines = {run.record.path: base for arm in arms for run, base in arm.pairs}
    clusters: dict[Any, dict[Any, Run]] = defaultdict(dict)
    for run in runs:
        if run.status == "finished" and "loss" in run.last:
            base = baselines.get(run.record.path, run)
            source = base if base.last == run.last else run
            scores = (run.labels[:2], tuple(sorted(run.last.items())))
            clusters[scores].setdefault(_identity(source), run)
    groups = [list(cluster.values()) for cluster in clusters.values() if len(cluster) > 1]
    texts = [", ".join(str(run.record.path) for run in group) for group in groups]
    return [f"scores equal to the last digit that should differ: {text}" for text in texts]


def _identity(run: Run) -> tuple[Any, ...]:
    # another code version is expected to give the same numbers
    settings = [item for item in plain_settings(run).items() if item[0] != "code_hash"]
    return run.arm_key, repr(settings)


def _constant_answers(runs: Sequence[Run]) -> list[str]:
    return [
        f"{run.record.path} answers {run.examples.constant_answer[:40]!r} to every example"
        for run in runs
        if run.examples is not None and run.examples.constant_answer is not None
    ]


def _unequal_installations(arms: Sequence[Arm]) -> list[str]:
    """Report pairs that were computed by other versions or on another device."""
    return [
        f"{', '.join(differing)} differ between {run.record.path} and its baseline"
        for arm in arms
        for run, base in arm.pairs
        if (differing := _differing_facts(run, base))
    ]


def _differing_facts(run: Run, base: Run) -> list[str]:
    first, second = run.record.provenance, base.record.provenance
    return [key for key in INSTALLATION_KEYS if first.get(key) != second.get(key)]


def _untied_aa_arms(arms: Sequence[Arm]) -> list[str]:
    return [
        f"A/A arm differs from its baseline, so the comparison itself is off: {run.record.path}"
        for arm in arms
        for run, base in arm.pairs
        if run.settings.get("control.kind") == "aa" and not _tie(run, base)
    ]


def _tie(run: Run, base: Run) -> bool:
    left, right = run.examples, base.examples
    return left is not None and right is not None and left.content == right.content


def _torn_lines(runs: Sequence[Run]) -> list[str]:
    alarms = []
    for run in runs:
        lines = torn_metric_lines(run.record)
        if lines:
            numbers = ", ".join(map(str, lines[:5])) + (" ..." if len(lines) > 5 else "")
            alarms.append(f"torn lines left out ({numbers}): {run.record.path}/metrics.jsonl")
    return alarms
