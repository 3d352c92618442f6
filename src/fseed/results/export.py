"""The collected tables as files: Markdown, LaTeX and HTML to read, CSV and Parquet to compute."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fseed.errors import UserError
from fseed.records import write_parquet_atomic, write_text_atomic
from fseed.results.beside import beside
from fseed.results.collection import Collection
from fseed.results.comparison import as_row
from fseed.results.defaults import DATA_TABLES, DOCUMENTS
from fseed.results.latex import render_latex
from fseed.results.runs import tidy_row
from fseed.results.signatures import digest_file
from fseed.results.summary import appendix_rows, as_rows, stage_rows, task_summaries
from fseed.results.tables import render_markdown

if TYPE_CHECKING:
    from fseed.results.legacy.audit import Audit

# what makes a spreadsheet compute; no label of fseed begins so, and numbers may have a sign
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.]+(?:[eE][+-]?\d+)?$)")
Columns = Mapping[str, Sequence[Any]]


def write_files(
    collection: Collection,
    folder: Path,
    *,
    formats: Sequence[str],
    audit: "Audit | None" = None,
) -> list[Path]:
    """Write the tables below ``folder`` and return the paths; scores in data files are fractions.

    ``audit``: earlier results, which the HTML report sets beside these. UserError when the folder
    cannot be written.
    """
    return list(start_writing(collection, folder, formats=formats, audit=audit)())


def start_writing(
    collection: Collection,
    folder: Path,
    *,
    formats: Sequence[str],
    audit: "Audit | None" = None,
) -> Callable[[], dict[Path, str | None]]:
    """Begin beside this process; the function that is returned ends what ``write_files`` does.

    It returns a digest of every file, taken right after the writing.
    """
    documents = partial(_write_documents, collection, folder, formats=formats, audit=audit)
    data = partial(_write_data_of, collection, folder, formats=formats)
    works = (partial(_digested, work) for work in (documents, data))
    begun = [beside(work, num_runs=len(collection.runs)) for work in works]

    def finish() -> dict[Path, str | None]:
        try:
            return {path: digest for wait in begun for path, digest in wait().items()}
        except OSError as error:
            raise UserError(f"cannot write tables to {folder}: {error}; choose --out") from error

    return finish


def _digested(write: Callable[[], list[Path]]) -> dict[Path, str | None]:
    return {path: digest_file(path) for path in write()}


def _write_documents(
    collection: Collection, folder: Path, *, formats: Sequence[str], audit: "Audit | None"
) -> list[Path]:
    renders: dict[str, Callable[[], str]] = {
        "markdown": lambda: render_markdown(collection),
        "latex": lambda: render_latex(collection),
        "html": lambda: _render_html(collection, audit),
    }
    wanted = [name for name in DOCUMENTS if name in formats]
    for name in wanted:
        write_text_atomic(folder / DOCUMENTS[name], renders[name]())
    return [folder / DOCUMENTS[name] for name in wanted]


def write_data(
    tables: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path, *, formats: Sequence[str]
) -> list[Path]:
    """Write a CSV and a Parquet file per table, as far as ``formats`` names them.

    A table without rows gets no file, and one that an earlier state left behind goes; ``paired``
    and ``runs`` are always there.
    """
    written = []
    for name, rows in tables.items():
        columns = to_columns(rows)
        if "csv" in formats:
            written += _write_or_drop(folder / f"{name}.csv", columns, _write_csv)
        if "parquet" in formats:
            written += _write_or_drop(folder / f"{name}.parquet", columns, _write_parquet)
    return written


def _write_data_of(collection: Collection, folder: Path, *, formats: Sequence[str]) -> list[Path]:
    tables = (
        [as_row(row) for row in collection.comparisons],
        [tidy_row(run) for run in collection.runs],
        as_rows(stage_rows(collection)),
        as_rows(task_summaries(collection)),
        as_rows(appendix_rows(collection)),
    )
    return write_data(dict(zip(DATA_TABLES, tables, strict=True)), folder, formats=formats)


def _write_or_drop(
    path: Path, columns: Columns, write: Callable[[Path, Columns], None]
) -> list[Path]:
    if columns or path.stem in ("paired", "runs"):
        write(path, columns)
        return [path]
    path.unlink(missing_ok=True)
    return []


def _write_csv(path: Path, columns: Columns) -> None:
    write_text_atomic(path, _csv(columns))


def _write_parquet(path: Path, columns: Columns) -> None:
    # here, not above: pyarrow takes a while, and other forms do without
    from fseed.results.arrow import build_table

    write_parquet_atomic(path, build_table(columns))


def _render_html(collection: Collection, audit: "Audit | None") -> str:
    # here, not above: no other form draws figures or knows the earlier work
    from fseed.results.html.page import render_html
    from fseed.results.html.sections.published import audit_tables

    tasks = list(dict.fromkeys(run.labels[0] for run in collection.runs))
    shown = ", ".join(tasks) if len(tasks) <= 3 else f"{len(tasks)} tasks"
    published = audit_tables(audit, ours=collection) if audit is not None else ()
    return render_html(collection, title=f"Future-Seed on {shown}", published=published)


def to_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn rows into columns of one type each; a key that a row lacks is None there."""
    # most rows have the same keys in the same order, and then their values are the columns
    layouts = dict.fromkeys(map(tuple, rows))
    names = list(dict.fromkeys(name for layout in layouts for name in layout))
    if len(layouts) > 1:
        rows = [{name: row.get(name) for name in names} for row in rows]
    columns = zip(*(row.values() for row in rows), strict=True)
    return {name: _one_type(values) for name, values in zip(names, columns, strict=True)}


def _one_type(values: Sequence[Any]) -> list[Any]:
    """Return the values unchanged when they are of one kind, as floats or as text otherwise."""
    kinds = set(map(type, values)) - {type(None)}
    if int in kinds and any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
        kinds = {object}  # beyond what a column of integers holds
    if kinds <= {str} or kinds <= {bool} or kinds <= {int} or kinds <= {float}:
        return list(values)
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else _text(value) for value in values]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _as_texts(values: Sequence[Any]) -> Sequence[Any]:
    """Return the cells of a column, each different text looked at once."""
    if str not in set(map(type, values)):
        return values
    cells = {value: _as_text(value) for value in set(values)}
    return [cells[value] for value in values]


def _as_text(value: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would run; Parquet keeps it as it is."""
    is_formula = isinstance(value, str) and _FORMULA.match(value) is not None
    return f"'{value}" if is_formula else value


def _csv(columns: Mapping[str, Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    cells = (_as_texts(values) for values in columns.values())
    writer.writerows(zip(*cells, strict=True))
    return text.getvalue()
