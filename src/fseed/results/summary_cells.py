"""The summaries as people read them: arms over stages, arms over tasks, arms without a result."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from fseed.results.formats import MISSING, interval, plain, points, seed_ranges
from fseed.results.staged import stage_number
from fseed.results.staged_files import STAGES
from fseed.results.summary import NOT_STARTED, AppendixRow, StageRow, TaskSummary

# words of a decision, short enough for a cell
_STATES = {
    "passed": "passed",
    "dropped": "dropped",
    "continues": "goes on",
    NOT_STARTED: "not started",
}
STAGES_LEGEND = (
    "stages: difference to that stage's own baseline in pp, interval over seeds, number of pairs, "
    "then what the stage decided, or the verdict where nothing is decided."
)
SUMMARY_LEGEND = (
    "mean pp: interquartile mean over tasks of arm minus no_fs, each task in its own metric; "
    "+/0/-: tasks above, equal, below; pruned on: tasks where the search dropped the arm; they do "
    "not enter the mean, nor do rows with gaps; helps, hurts, equivalent: tasks all of whose rows "
    "say so."
)


def stage_tables(rows: Sequence[StageRow]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield (caption, rows of cells) per task, a column per stage, controls below their arm."""
    tables: dict[tuple[str, ...], dict[str, list[StageRow]]] = {}
    for row in rows:
        place = row.task, row.source, row.model, row.setting
        tables.setdefault(place, defaultdict(list))[row.arm].append(row)
    for (task, source, model, setting), arms in tables.items():
        rest = f", {setting}" if setting else ""
        caption = f"stages of task {task}, source {source}, model {model}{rest}"
        shown = sorted({row.stage for told in arms.values() for row in told}, key=stage_number)
        yield caption, [_stage_cells(arms[arm], shown) for arm in _in_order(arms)]


def summary_cells(row: TaskSummary) -> dict[str, str]:
    """Return the cells of one arm over tasks."""
    return {
        "arm": row.arm,
        "stage": row.stage,
        "source": row.source,
        "model": row.model,
        "tasks": plain(row.num_tasks),
        "mean pp": points(row.mean_difference),
        "pruned on": str(row.num_pruned) if not row.pruned else f"{row.num_pruned}: {row.pruned}",
        "+/0/-": f"{row.num_up}/{row.num_tied}/{row.num_down}",
        "helps": plain(row.num_helps),
        "hurts": plain(row.num_hurts),
        "equivalent": plain(row.num_equivalent),
    }


def appendix_cells(row: AppendixRow) -> dict[str, str]:
    """Return the cells of one arm without a result."""
    return {
        "task": row.task,
        "stage": row.stage,
        "arm": row.arm,
        "seeds": seed_ranges(row.seeds) if row.seeds else MISSING,
        "state": row.state.replace("_", " "),
        "code": row.reason_code,
        "reason": row.reason,
    }


def _in_order(arms: dict[str, list[StageRow]]) -> list[str]:
    """Return the arms that came furthest first, controls directly below their arm."""

    def place(arm: str) -> tuple[object, ...]:
        row = arms[arm][-1]
        is_linked = row.control_of in arms
        owner = row.control_of if is_linked and row.control_of is not None else arm
        reached = max(stage_number(one.stage) for one in arms[owner])
        last = max(arms[owner], key=lambda one: stage_number(one.stage))
        effect = last.difference if last.difference is not None else float("-inf")
        return row.control != "none" and not is_linked, -reached, -effect, owner, owner != arm, arm

    return sorted(arms, key=place)


def _stage_cells(rows: Sequence[StageRow], shown: Sequence[str]) -> dict[str, str]:
    by_stage = {row.stage: row for row in rows}
    arm = rows[0].arm
    cells = {"arm": f"  {arm}" if rows[0].control_of is not None else arm}
    for stage in shown:
        cells[stage] = _stage_cell(by_stage[stage]) if stage in by_stage else MISSING
    return cells


def _stage_cell(row: StageRow) -> str:
    is_final = row.stage == STAGES[-1] or row.state is None
    state = (row.verdict if is_final else row.state) or NOT_STARTED
    word = _STATES.get(state, state)
    if row.difference is None:
        return word
    ends = interval(row.interval_low, row.interval_high, kind=None)
    return f"{points(row.difference)} {ends} ({row.num_pairs}) {word}"
