"""Published differences beside the same at equal budgets, and beside ours."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fseed.results.legacy.audit import Audit
from fseed.results.legacy.model import Study
from fseed.results.legacy.pairing import Delta, pair_up, recorded
from fseed.results.legacy.vocabulary import order_of, preset_of, task_of

if TYPE_CHECKING:
    from fseed.results.collection import Collection
    from fseed.results.comparison import Comparison

_STAGES = ("plain", "quick", "medium", "confirm")
_OURS = {
    **{"ours": "difference", "ours_low": "interval_low", "ours_high": "interval_high"},
    **{"ours_verdict": "verdict", "ours_stage": "stage", "ours_model": "model"},
    **{"ours_source": "source", "ours_arm": "arm", "ours_num_pairs": "num_pairs"},
}


def outcome_rows(audit: Audit, *, ours: "Collection | None" = None) -> list[dict[str, Any]]:
    """Return a row per study and per searched arm, by task; differences are fractions.

    ``published``: as compared then. ``matched``: the same arm and seeds at the budget of its
    baseline, None where no such run was made. ``ours``: our row of the highest stage for the task,
    order and preset, None where there is none.
    """
    studies = [_of_study(study) for study in audit.studies if study.pairs]
    rows = studies + _of_searches(pair_up(recorded(audit.runs)))
    orders = _orders(ours) if ours is not None else {}
    mine = ours.comparisons if ours is not None else []
    told = [row | _ours(row, mine, orders) for row in rows]
    return sorted(told, key=lambda row: (row["task"] or "", row["study"], row["arm"]))


def _of_study(study: Study) -> dict[str, Any]:
    mean = study.means.get("d_acc")
    seconds = study.settings.get("time_budget_sec")
    return {
        "task": task_of(study.name) or study.name,
        "order": order_of(study.settings),
        "study": study.label,
        "arm": preset_of(study.settings) or "prompt_fs",
        "seeds": ",".join(str(pair.seed) for pair in study.pairs),
        "published": mean,
        "matched": mean,
        "budgets": f"{seconds} s each" if seconds is not None else "not told",
    }


def _of_searches(deltas: Sequence[Delta]) -> list[dict[str, Any]]:
    """Return a row per round, task, batch size, arm and stage: means over seeds."""
    groups: dict[Any, list[Delta]] = defaultdict(list)
    for delta in deltas:
        run = delta.run
        groups[run.study, run.task, run.batch_size, run.arm, run.stage].append(delta)
    return [
        {
            "task": task_of(task) or task,
            "order": None,
            "study": f"{study} {stage}" + (f" batch {size}" if size is not None else ""),
            "arm": arm,
            "seeds": ",".join(str(delta.run.seed) for delta in group if delta.run.seed is not None),
            "published": _mean(group),
            "matched": _matched(group, groups.get((study, task, size, arm, "quick"), [])),
            "budgets": _budgets(group),
        }
        for (study, task, size, arm, stage), group in groups.items()
    ]


def _matched(group: Sequence[Delta], quick: Sequence[Delta]) -> float | None:
    """Return the mean over the same seeds with the baseline of the same stage."""
    if all(delta.is_same_stage for delta in group):
        return _mean(group)
    seeds = {delta.run.seed for delta in group}
    same = [delta for delta in quick if delta.run.seed in seeds]
    return _mean(same) if len(same) == len(group) else None


def _budgets(group: Sequence[Delta]) -> str:
    run, base = group[0].run, group[0].baseline
    return f"{run.stage} both" if group[0].is_same_stage else f"{run.stage} against {base.stage}"


def _mean(group: Sequence[Delta]) -> float | None:
    values = [value for delta in group if (value := delta.difference) is not None]
    return fmean(values) if values else None


def _orders(ours: "Collection") -> dict[Any, str]:
    """Return the order of the answers by labels and arm key of our runs."""
    return {
        (run.labels, run.arm_key): str(run.settings["task.order"])
        for run in ours.runs
        if "task.order" in run.settings
    }


def _ours(
    row: dict[str, Any], comparisons: Sequence["Comparison"], orders: dict[Any, str]
) -> dict[str, Any]:
    found = [
        mine
        for mine in comparisons
        if (mine.task, mine.arm.partition(",")[0]) == (row["task"], row["arm"])
        and mine.control == "none"
        and _same_order(row["order"], orders.get(_place(mine)))
    ]
    if not found:
        return dict.fromkeys(_OURS)
    best = max(found, key=lambda mine: (_rank(mine.stage), mine.num_pairs))
    return {name: getattr(best, key) for name, key in _OURS.items()}


def _place(mine: "Comparison") -> tuple[tuple[str, str, str, str], str | None]:
    return (mine.task, mine.source, mine.model, mine.stage), mine.arm_key


def _same_order(theirs: str | None, mine: str | None) -> bool:
    return theirs is None or mine is None or theirs == mine


def _rank(stage: str) -> int:
    return _STAGES.index(stage) if stage in _STAGES else -1
