"""A comparison of runs as sections to print and as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from string import ascii_uppercase
from typing import Any

from fseed.results.differences.document import Section, Table
from fseed.results.differences.groups import VOLATILE
from fseed.results.differences.matrix import (
    Cell,
    Column,
    Matrix,
    Row,
    build_matrix,
    fold_seeds,
)
from fseed.results.differences.runs import ABSENT
from fseed.results.differences.sources import Source
from fseed.results.differences.values import told_apart, values_text

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Comparison:
    """Runs that are compared with each other, under one title."""

    title: str
    matrix: Matrix


def compare_sources(sources: Sequence[Source]) -> Comparison:
    """Compare the given runs, a column each, in the order given."""
    columns = [Column(source.title, [source]) for source in sources]
    return Comparison("", build_matrix(columns))


def compare_sweep(sources: Sequence[Source]) -> list[Comparison]:
    """Compare the arms of a sweep: one comparison per task and stage, seeds folded.

    Sweeps that lie in one folder are compared each on its own.
    """

    def place(source: Source) -> tuple[str, str, str]:
        return source.sweep, source.task, source.stage

    is_one = len({source.sweep for source in sources}) == 1
    found = []
    for names, members in groupby(sorted(sources, key=place), key=place):
        runs = list(members)
        title = ", ".join(names[1:] if is_one else names)
        count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        found.append(Comparison(f"{title}: {count}", build_matrix(fold_seeds(runs))))
    return found


def to_section(
    comparison: Comparison, *, expected: Sequence[str] | None, shows_volatile: bool
) -> Section:
    """Return the columns, the table of what differs and the closing lines of a comparison.

    ``expected``: groups and keys that may differ; None when nothing was said about them.
    """
    matrix = comparison.matrix
    labels = [label(number) for number in range(len(matrix.columns))]
    rows = matrix.rows if shows_volatile else matrix.counted_rows()
    legend = [f"{name}: {c.title}" for name, c in zip(labels, matrix.columns, strict=True)]
    table = Table(["group", "key", *labels], [[row.group, row.key, *_texts(row)] for row in rows])
    notes = _notes(matrix, shows_volatile=shows_volatile)
    if expected is not None:
        notes.append(_verdict(matrix.unexpected_rows(expected), expected))
    return Section(comparison.title, legend, table, notes)


def to_data(
    comparison: Comparison, *, expected: Sequence[str] | None, shows_volatile: bool
) -> dict[str, Any]:
    """Return a comparison as plain values: absent values are left out, unknown cells are null."""
    matrix = comparison.matrix
    labels = [label(number) for number in range(len(matrix.columns))]
    rows = matrix.rows if shows_volatile else matrix.counted_rows()
    unexpected = matrix.unexpected_rows(expected or ())
    return {
        "title": comparison.title,
        "columns": {
            name: _column_data(column) for name, column in zip(labels, matrix.columns, strict=True)
        },
        "rows": [
            {
                "group": row.group,
                "key": row.key,
                "values": {n: _cell_data(c) for n, c in zip(labels, row.cells, strict=True)},
            }
            for row in rows
        ],
        "num_equal": matrix.num_equal,
        "unexpected": [row.key for row in unexpected],
    }


def describe_rows(rows: Sequence[Row]) -> str:
    """Return the rows in one line: ``budget.steps 40 vs 80, seed 0 vs 1``."""
    return ", ".join(f"{row.key} {' vs '.join(dict.fromkeys(_texts(row)))}" for row in rows)


def label(number: int) -> str:
    """Return the letter of a column: A .. Z, then AA, AB and so on.

    >>> [label(number) for number in (0, 25, 26, 701, 702)]
    ['A', 'Z', 'AA', 'ZZ', 'AAA']
    """
    more, last = divmod(number, len(ascii_uppercase))
    return (label(more - 1) if more else "") + ascii_uppercase[last]


def _texts(row: Row) -> list[str]:
    texts = [values_text(cell.values) for cell in row.cells]
    told = told_apart(texts, [cell.values for cell in row.cells])
    cells = zip(told, row.cells, strict=True)
    return [text if cell.is_read or text.startswith("(") else f"({text})" for text, cell in cells]


def _notes(matrix: Matrix, *, shows_volatile: bool) -> list[str]:
    num_volatile = sum(row.group == VOLATILE for row in matrix.rows)
    hidden = f"; {num_volatile} volatile ones differ, hidden (--all)"
    equal = f"{matrix.num_equal} keys are equal"
    notes = [equal + (hidden if num_volatile and not shows_volatile else "")]
    if len(matrix.columns) > 1 and not matrix.counted_rows():
        notes.insert(0, "no difference")
    if any(not cell.is_read for row in matrix.counted_rows() for cell in row.cells):
        notes.append("(value): an option that this arm does not read")
    lacking = [
        label(number)
        for number, column in enumerate(matrix.columns)
        if not any(sample.provenance for sample in column.samples)
    ]
    if lacking:
        notes.append(f"no provenance: {', '.join(lacking)}: the configuration alone is compared")
    return notes


def _verdict(unexpected: Sequence[Row], expected: Sequence[str]) -> str:
    allowed = ", ".join(expected)
    if not unexpected:
        return f"as expected: nothing but {allowed} differs"
    return f"expected {allowed}; differs too: {describe_rows(unexpected)}"


def _column_data(column: Column) -> dict[str, Any]:
    first = column.sources[0]
    return {
        **{"task": first.task, "stage": first.stage, "arm": first.arm},
        "run_ids": [source.run_id for source in column.sources],
        "seeds": [source.seed for source in column.sources],
    }


def _cell_data(cell: Cell) -> list[Any] | None:
    if not cell.values:
        return None
    return [value for value in cell.values if value is not ABSENT]
