"""What the report shows, put in order: tasks, their tables, controls beneath their arms."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from fseed.results.collection import Collection
from fseed.results.comparison import Comparison
from fseed.results.formats import tables_of
from fseed.results.html.figures.forest import ForestRow
from fseed.results.html.history import History, read_history
from fseed.results.pairs import Arm, build_arms
from fseed.results.runs import Run

# what was shown on fresh seeds comes first
STAGE_ORDER = ("confirm", "medium", "quick", "plain")


@dataclass(frozen=True)
class TableView:
    """One table: its caption, its rows in the order shown, and the runs behind each row."""

    caption: str
    rows: list[ForestRow]
    arms: dict[str, Arm]  # by arm label

    @property
    def stage(self) -> str:
        """Return the stage of all rows."""
        return self.rows[0].comparison.stage


@dataclass(frozen=True)
class TaskView:
    """All tables of one task, source and model, those of the last stage first."""

    task: str
    source: str
    model: str
    tables: list[TableView]


@dataclass
class Histories:
    """Histories by run, each file read once; ``max_arms`` bounds time and size of the report."""

    read: Callable[[Run], History] = read_history
    max_arms: int = 100
    num_arms: int = 0  # whose curves were drawn so far
    _known: dict[str, History] = field(default_factory=dict)

    @property
    def room(self) -> int:
        """Return how many more arms may be drawn."""
        return max(0, self.max_arms - self.num_arms)

    def of(self, run: Run) -> History:
        """Return the history of a run."""
        key = str(run.record.path)
        if key not in self._known:
            self._known[key] = self.read(run)
        return self._known[key]


def build_tasks(collection: Collection) -> list[TaskView]:
    """Return the tasks of a collection by name, every row of the paired table in one of them."""
    arms = {_place(arm): arm for arm in collection.arms or build_arms(collection.runs)}
    tables = [_table(caption, rows, arms) for caption, rows in tables_of(collection.comparisons)]

    def task_of(table: TableView) -> tuple[str, str, str]:
        first = table.rows[0].comparison
        return first.task, first.source, first.model

    ordered = sorted(tables, key=lambda table: (task_of(table), stage_rank(table.stage)))
    return [TaskView(*place, list(group)) for place, group in groupby(ordered, key=task_of)]


def stage_rank(stage: str) -> tuple[int, str]:
    """Return the place of a stage in the report; stages of other names come last."""
    known = stage in STAGE_ORDER
    return STAGE_ORDER.index(stage) if known else len(STAGE_ORDER), stage


def order_rows(rows: Sequence[Comparison]) -> list[tuple[Comparison, bool]]:
    """Return (row, is a control beneath its arm): largest difference first, unmeasured rows last.

    A control whose arm is not in the table follows at the end, on its own.
    """
    arms = sorted((row for row in rows if row.control == "none"), key=_by_difference)
    controls = sorted((row for row in rows if row.control != "none"), key=_by_difference)
    names = {row.arm for row in arms}
    ordered: list[tuple[Comparison, bool]] = []
    for arm in arms:
        ordered.append((arm, False))
        ordered += [(one, True) for one in controls if one.control_of == arm.arm]
    return ordered + [(one, False) for one in controls if one.control_of not in names]


def _by_difference(row: Comparison) -> tuple[bool, float, str]:
    return row.difference is None, -(row.difference or 0.0), row.arm


def _table(caption: str, rows: Sequence[Comparison], arms: dict[tuple[str, ...], Arm]) -> TableView:
    found = {row.arm: arm for row in rows if (arm := arms.get(_key(row))) is not None}
    shown = [
        ForestRow(row, _seed_differences(row, found.get(row.arm)), is_beneath)
        for row, is_beneath in order_rows(rows)
    ]
    return TableView(caption, shown, found)


def _seed_differences(row: Comparison, arm: Arm | None) -> tuple[tuple[int | None, float], ...]:
    """Return (seed, difference) of every pair of a row that has a number."""
    if arm is None or row.metric is None or row.difference is None:
        return ()
    name = row.metric
    return tuple(
        (run.seed, run.last[name] - base.last[name])
        for run, base in arm.pairs
        if name in run.last and name in base.last
    )


def _place(arm: Arm) -> tuple[str, ...]:
    return (*arm.runs[0].labels, arm.setting, arm.label)


def _key(row: Comparison) -> tuple[str, ...]:
    return row.task, row.source, row.model, row.stage, row.setting, row.arm
