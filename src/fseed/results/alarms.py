"""Signs that records are wrong although each of them reads well; one line each, with paths."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fseed.results.alarms_of_answers import find_answer_alarms
from fseed.results.alarms_of_training import find_training_alarms
from fseed.results.differences.runs import Difference, differing_groups
from fseed.results.pairs import Arm, plain_settings
from fseed.results.runs import Run
from fseed.results.staged import stage_number, sweep_folder
from fseed.results.statistics import MIN_SEEDS, Interval, has_spread, paired_t_interval

_STATUS_ORDER = ("finished", "invalid", "failed", "unfinished", "unreadable")
# what an arm and its baseline may differ in
_EXPECTED_GROUPS = ("fs", "volatile")
_MAX_NAMED_KEYS = 3


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
            stages = sorted((first.labels[3], other.labels[3]), key=stage_number)
            if stages[0] != stages[1]:
                same += f", and stage {stages[1]} confirms nothing that stage {stages[0]} has seen"
            alarms.append(f"run {run_id} stands twice{same}, the first is counted: {where}")
    return kept, alarms


def find_alarms(runs: Sequence[Run], arms: Sequence[Arm]) -> list[str]:
    """Return all alarms about ``runs`` and the rows that they make."""
    return [
        *_equal_numbers(runs, arms),
        *_repeated_seeds(runs),
        *_untied_aa_arms(arms),
        *_unexpected_differences(arms),
        *_contradicting_losses(arms),
        *find_answer_alarms(runs, arms),
        *find_training_alarms(runs),
    ]


def _equal_numbers(runs: Sequence[Run], arms: Sequence[Arm]) -> list[str]:
    """Report runs with other settings, arms or seeds whose scores agree to the last digit.

    An arm that ties with its own baseline is left to the verdict of its row.
    """
    baselines = {run.record.path: base for arm in arms for run, base in arm.pairs}
    clusters: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        if run.status == "finished" and "loss" in run.last:
            clusters[run.labels[:2], tuple(sorted(run.last.items()))].append(run)
    groups = [_told_apart(cluster, baselines) for cluster in clusters.values() if len(cluster) > 1]
    texts = [", ".join(str(run.record.path) for run in group) for group in groups if len(group) > 1]
    return [f"scores equal to the last digit that should differ: {text}" for text in texts]


def _told_apart(cluster: Sequence[Run], baselines: Mapping[Path, Run]) -> list[Run]:
    """Return one run per identity; one that ties with its baseline has the baseline's."""
    kept: dict[Any, Run] = {}
    for run in cluster:
        base = baselines.get(run.record.path, run)
        kept.setdefault(_identity(base if base.last == run.last else run), run)
    return list(kept.values())


def _identity(run: Run) -> tuple[Any, ...]:
    # another code version is expected to give the same numbers
    settings = [item for item in plain_settings(run).items() if item[0] != "code_hash"]
    return run.arm_key, repr(settings)


def _repeated_seeds(runs: Sequence[Run]) -> list[str]:
    """Report stages that reuse seeds of an earlier stage: they cannot confirm it."""
    places: dict[Any, dict[int, dict[Any, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        task, source, model, stage = run.labels
        if stage_number(stage) >= 0:
            place = places[sweep_folder(run), task, source, model, run.arm_key]
            place[stage_number(stage)].setdefault(run.seed, run)
    alarms = []
    for stages in places.values():
        ordered = [stages[number] for number in sorted(stages)]
        for earlier, later in pairwise(ordered):
            shared = sorted(earlier.keys() & later.keys(), key=str)
            if shared:
                first, second = earlier[shared[0]], later[shared[0]]
                alarms.append(
                    f"stage {second.labels[3]} repeats the seeds {','.join(map(str, shared))} of "
                    f"stage {first.labels[3]}, so it confirms nothing: {second.record.path} and "
                    f"{first.record.path}"
                )
    return alarms


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


def _unexpected_differences(arms: Sequence[Arm]) -> list[str]:
    """Report pairs that differ in more than Future-Seed: settings, data, code, installation."""
    alarms = []
    for arm in arms:
        for run, base in arm.pairs:
            groups = differing_groups(run, base)
            found = [
                (group, difference)
                for group, differences in groups.items()
                if group not in _EXPECTED_GROUPS
                for difference in differences
            ]
            if found:
                where = f"{run.record.path} and its baseline {base.record.path}"
                alarms.append(f"{_tell(found)} differ between {where}")
    return alarms


def _tell(found: Sequence[tuple[str, Difference]]) -> str:
    told = [f"{group}: {one.key} {one.left} vs {one.right}" for group, one in found]
    more = len(told) - _MAX_NAMED_KEYS
    rest = f" and {more} more keys" if more > 0 else ""
    return ", ".join(told[:_MAX_NAMED_KEYS]) + rest


def _contradicting_losses(arms: Sequence[Arm]) -> list[str]:
    """Report rows whose score and loss both leave zero over the seeds, one better, one worse."""
    alarms = []
    for arm in arms:
        score, loss = _interval(arm, arm.runs[0].primary_metric), _interval(arm, "loss")
        if score is None or loss is None:
            continue
        # a loss is better when it is lower
        better_and_worse = score.low > 0 and loss.low > 0
        worse_and_better = score.high < 0 and loss.high < 0
        if better_and_worse or worse_and_better:
            alarms.append(
                f"score {100 * score.mean:+.2f} pp and loss {loss.mean:+.4f} contradict each "
                f"other, both leave zero over {len(arm.pairs)} seeds: {_paths(arm)}"
            )
    return alarms


def _interval(arm: Arm, metric: str | None) -> Interval | None:
    """Return the t interval of a metric's differences; None where there is none."""
    values = [
        run.last[metric] - base.last[metric]
        for run, base in arm.pairs
        if metric in run.last and metric in base.last
    ]
    if len(values) < MIN_SEEDS or not np.isfinite(values).all() or not has_spread(values):
        return None
    return paired_t_interval(values)


def _paths(arm: Arm) -> str:
    return ", ".join(str(run.record.path) for run, _ in arm.pairs)
