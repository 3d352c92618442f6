"""Figures published earlier beside the same at equal budgets, and beside ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fseed.results.collection import Collection
from fseed.results.formats import seed_ranges
from fseed.results.html.markup import Html, element
from fseed.results.html.words import NOT_RECORDED, count, pp, verdict_word
from fseed.results.legacy.audit import FLAW_KINDS, Audit
from fseed.results.legacy.outcomes import outcome_rows

_COLUMNS = (
    *("Study", "Arm", "Published, pp", "Matched, pp", "Ours, pp", "Our verdict"),
    *("Task", "Seeds", "Budgets"),
)
_NO_RUN = "no run"


@dataclass(frozen=True)
class PublishedTable:
    """A table as text, such as published / matched / ours; the first column names the row."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def render_published(tables: Sequence[PublishedTable]) -> Html:
    """Return the tables; ValueError when a row has another length than its table has columns."""
    return Html("".join(_table(table) for table in tables))


def audit_tables(audit: Audit, *, ours: Collection) -> list[PublishedTable]:
    """Return an audit of earlier results as tables: published / matched / ours, and the flaws."""
    outcomes = PublishedTable(
        caption="Arm minus baseline: as published, at equal budgets, and ours",
        columns=_COLUMNS,
        rows=tuple(_outcome(row) for row in outcome_rows(audit, ours=ours)),
        notes=(
            "Published: as compared then. Matched: the same arm and seeds at the budget of its "
            "baseline. Ours: our row of the highest stage for this task, order and preset.",
        ),
    )
    flaws = PublishedTable(
        caption=f"Flaws found in {count(audit.num_files, 'file')} of the earlier results",
        columns=("Flaw", "How often", "What it means"),
        rows=tuple(
            (code.replace("_", " "), f"{number:,}", FLAW_KINDS[code])
            for code, number in audit.counts.items()
        ),
        notes=tuple(f"Not read: {problem}" for problem in audit.problems),
    )
    return [table for table in (outcomes, flaws) if table.rows or table.notes]


def _outcome(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        *(str(row["study"]), str(row["arm"]), pp(row["published"]), pp(row["matched"])),
        *_ours(row),
        str(row["task"]),
        seed_ranges(row["seeds"]) if row["seeds"] else NOT_RECORDED,
        str(row["budgets"]),
    )


def _ours(row: dict[str, Any]) -> tuple[str, str]:
    """Return our difference with its interval, and our verdict with what it was run on."""
    if row["ours_stage"] is None:
        return _NO_RUN, _NO_RUN
    ends = row["ours_low"], row["ours_high"]
    between = f" [{pp(ends[0])}, {pp(ends[1])}]" if None not in ends else ""
    place = ", ".join(str(row[f"ours_{key}"]) for key in ("stage", "model", "source"))
    return f"{pp(row['ours'])}{between}", f"{verdict_word(row['ours_verdict'])} ({place})"


def _table(table: PublishedTable) -> Html:
    for row in table.rows:
        if len(row) != len(table.columns):
            raise ValueError(f"row {row!r} does not fit the columns {table.columns!r}")
    heads = [element("th", name, scope="col") for name in table.columns]
    body = [
        element(
            "tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])
        )
        for row in table.rows
    ]
    content = element(
        "table",
        element("caption", table.caption),
        element("thead", element("tr", *heads)),
        element("tbody", *body),
    )
    notes = [element("p", note, class_="soft small") for note in table.notes]
    region = {"class_": "scroll", "tabindex": 0, "role": "region", "aria_label": table.caption}
    return Html(element("div", content, **region) + "".join(notes))
