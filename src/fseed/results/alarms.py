"""Signs that records are wrong although each of them reads well; one line each, with paths."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fseed.results.alarms_of_answers import find_answer_alarms
from fseed.results.alarms_of_memory import find_memory_alarms
from fseed.results.alarms_of_training import find_training_alarms
from fseed.results.differences.runs import Difference, differing_groups
from fseed.results.duplicates import find_reuses
from fseed.results.obstacles import is_tied
from fseed.results.pairs import Arm
from fseed.results.runs import Run
from fseed.results.statistics import MIN_SEEDS, Interval, has_spread, paired_t_interval

# what an arm and its baseline may differ in
_EXPECTED_GROUPS = ("fs", "volatile")
# of provenance.json: what belongs to one run and belongs to no group that is told
_OWN_KEYS = ("run_id", "arm_key", "started_at", "attempts")
_MAX_NAMED_KEYS = 3


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
        *find_memory_alarms(arms),
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
    settings = [item for item in run.plain_settings.items() if item[0] != "code_hash"]
    return run.arm_key, repr(settings)


def _repeated_seeds(runs: Sequence[Run]) -> list[str]:
    """Report stages that reuse seeds of an earlier stage: they cannot confirm it."""
    return [
        f"stage {reuse.later.labels[3]} repeats the seeds {','.join(map(str, reuse.seeds))} of "
        f"stage {reuse.earlier.labels[3]}, so it confirms nothing: {reuse.later.record.path} and "
        f"{reuse.earlier.record.path}"
        for reuse in find_reuses(runs)
    ]


def _untied_aa_arms(arms: Sequence[Arm]) -> list[str]:
    """Report A/A arms that differ from their baselines, one line an arm."""
    alarms = []
    for arm in arms:
        untied = [run for run, base in arm.pairs if arm.control == "aa" and not is_tied(run, base)]
        if untied:
            told = ",".join(str(run.seed) for run in untied)
            seeds = f"{len(untied)} of {len(arm.pairs)} seeds ({told})"
            folders = ", ".join(dict.fromkeys(str(run.record.path.parent) for run in untied))
            alarms.append(
                f"A/A arm differs from its baseline at {seeds}, so the comparison itself is off: "
                f"{arm.label}: {folders}"
            )
    return alarms


def _unexpected_differences(arms: Sequence[Arm]) -> list[str]:
    """Report pairs that differ in more than Future-Seed: settings, data, code, installation."""
    alarms = []
    for arm in arms:
        for run, base in arm.pairs:
            # nearly all pairs end here: a tenth of the time of telling their differences
            if _differ_as_they_should(run, base):
                continue
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


def _differ_as_they_should(run: Run, base: Run) -> bool:
    """Tell whether two runs differ in Future-Seed, volatile settings and their identity alone."""
    ours, theirs = (one.record.provenance for one in (run, base))
    return (
        (run.kin, run.seed) == (base.kin, base.seed)
        and ours.keys() == theirs.keys()
        and all(ours[key] == theirs[key] for key in ours if key not in _OWN_KEYS)
    )


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
