"""Rows of JSON: one per job, on disk at once, so that a killed worker keeps what it measured."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench_throughput.jobs import Job

Row = dict[str, Any]
MISSING = ("skipped", "failed")  # kinds of rows that measured nothing


def job_row(job: Job, kind: str, **values: Any) -> Row:
    """Return a row of ``job``; ``kind``: train, score, profile, parity, skipped or failed."""
    place = {"purpose": job.purpose, "trainer": job.trainer, "shape": job.shape.name}
    return {"kind": kind, **place, "choice": job.choice, **values}


def append_row(path: Path, row: Row) -> None:
    """Append one row."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Read rows; a last line that was cut off is dropped."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write all rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def select(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """Return the rows whose values are as wanted."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def latest(rows: Sequence[Row], **wanted: object) -> Row | None:
    """Return the last row wanted, None where there is none: a repeated job replaces an earlier."""
    found = select(rows, **wanted)
    return found[-1] if found else None


def merge_rows(parts: Iterable[Sequence[Row]]) -> list[Row]:
    """Join rows of several commands; of a job that was done twice the later one stays.

    A failure never replaces a measurement, and is left out where there is one, on any device.
    """
    merged: dict[tuple[object, ...], Row] = {}
    measured: set[tuple[object, ...]] = set()
    for row in (row for part in parts for row in part):
        job = tuple(row.get(key) for key in ("purpose", "trainer", "shape", "choice"))
        if row["kind"] in MISSING:
            merged["missing", job] = row
        else:
            measured.add(job)
            merged[row["kind"], job, row.get("device")] = row
    return [
        row
        for (_, job, *_), row in merged.items()
        if row["kind"] not in MISSING or job not in measured
    ]
