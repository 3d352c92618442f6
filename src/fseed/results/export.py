"""The collected tables as files: Markdown to read, CSV and Parquet to compute with."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.records import write_parquet_atomic, write_text_atomic
from fseed.results.arrow import build_table
from fseed.results.collection import Collection
from fseed.results.comparison import as_row
from fseed.results.runs import tidy_row
from fseed.results.tables import render_markdown

FORMATS = ("markdown", "csv", "parquet")


def write_files(collection: Collection, folder: Path, *, formats: Sequence[str]) -> list[Path]:
    """Write the tables below ``folder`` and return the paths; scores in data files are fractions.

    UserError when the folder cannot be written.
    """
    try:
        return _write(collection, folder, formats=formats)
    except OSError as error:
        raise UserError(f"cannot write tables to {folder}: {error}; choose --out") from error


def _write(collection: Collection, folder: Path, *, formats: Sequence[str]) -> list[Path]:
    written = []
    if "markdown" in formats:
        written.append(folder / "tables.md")
        write_text_atomic(written[-1], render_markdown(collection))
    tables = {
        "paired": [as_row(row) for row in collection.comparisons],
        "runs": [tidy_row(run) for run in collection.runs],
    }
    for name, rows in tables.items():
        columns = to_columns(rows)
        if "csv" in formats:
            written.append(folder / f"{name}.csv")
            write_text_atomic(written[-1], _csv(columns))
        if "parquet" in formats:
            written.append(folder / f"{name}.parquet")
            write_parquet_atomic(written[-1], build_table(columns))
    return written


def to_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn rows into columns of one type each; a key that a row lacks is None there."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _one_type([row.get(name) for row in rows]) for name in names}


def _one_type(values: list[Any]) -> list[Any]:
    """Return the values unchanged when they are of one kind, as floats or as text otherwise."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int} and max(abs(value or 0) for value in values) >= 2**63:
        kinds = {object}  # beyond what a column of integers holds
    if kinds <= {str} or kinds <= {bool} or kinds <= {int} or kinds <= {float}:
        return values
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else _text(value) for value in values]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _csv(columns: Mapping[str, Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()
