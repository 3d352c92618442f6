"""metrics.jsonl, which grows line by line, and predictions.parquet with its column types."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fseed.atomic import plain, write_parquet_atomic, write_text_atomic
from fseed.confinement import open_own
from fseed.record_schema import OPTIONAL_COLUMNS, PREDICTION_TYPES, RecordError, check_size


def write_predictions(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write predictions.parquet with the column types of ``PREDICTION_TYPES``."""
    import pyarrow

    missing = PREDICTION_TYPES.keys() - columns.keys() - OPTIONAL_COLUMNS
    if missing:
        raise ValueError(f"predictions lack the columns {sorted(missing)}")
    kinds = {name: PREDICTION_TYPES.get(name, "double") for name in columns}
    schema = pyarrow.schema([(name, _arrow_type(kind)) for name, kind in kinds.items()])
    write_parquet_atomic(path, pyarrow.table(dict(columns), schema=schema))


def _arrow_type(kind: str) -> Any:
    """Return the Arrow type of a name in ``PREDICTION_TYPES``."""
    import pyarrow

    if kind.startswith("list<"):
        return pyarrow.list_(_arrow_type(kind[len("list<") : -1]))
    return pyarrow.type_for_alias(kind)


def append_metrics(path: Path, row: Mapping[str, Any]) -> None:
    """Append one row to metrics.jsonl at once; a torn line before it stays a line alone.

    A row that the system does not take whole, such as on a full disk, is taken back.
    """
    line = json.dumps(row, default=plain).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0, opener=open_own) as file:
        size = file.seek(0, os.SEEK_END)
        if size > 0:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        try:
            while line:
                line = line[os.write(file.fileno(), line) :]
        except OSError:
            os.ftruncate(file.fileno(), size)
            raise


def truncate_metrics(path: Path, *, after_step: int) -> None:
    """Drop the rows whose step is above ``after_step``, and torn lines; no file is no error."""
    if not path.exists():
        return
    rows, _ = read_metrics(path)
    kept = [row for row in rows if row["step"] <= after_step]
    write_text_atomic(path, "".join(json.dumps(row) + "\n" for row in kept))


def last_step(path: Path) -> int | None:
    """Return the step of the last row of metrics.jsonl, None where there is no row to read."""
    try:
        rows, _ = read_metrics(path)
    except (OSError, RecordError):
        return None
    return rows[-1]["step"] if rows else None


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the rows of metrics.jsonl and the 1-based numbers of its torn lines.

    RecordError for what is no regular file, or larger than any record.
    """
    rows: list[dict[str, Any]] = []
    torn: list[int] = []
    check_size(path)
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
        else:
            torn.append(number)
    return rows, torn


def clean_temporaries(run_dir: Path) -> None:
    """Remove what a killed writer left behind; call only while holding the run."""
    for leftover in run_dir.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
