"""Tidy rows: one per version, shape, pass and metric."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from bench.shapes import Shape


@dataclass(frozen=True)
class Row:
    """One number, or the reason why there is none (``value`` None, ``note`` set)."""

    implementation: str
    group: str  # ours, reference, peer, floor
    shape: str = ""
    run: str = ""  # pass: forward, forward_backward, prompt, decode, future_seed_on, or a kernel
    metric: str = "time"  # time, peak_memory, bandwidth, error_<tensor>, skipped, failed
    value: float | None = None
    unit: str = ""
    n: int | None = None
    timer: str = ""  # graph: events around a graph replay; events: around the call; profiler
    spread: float | None = None  # between two series of the same version, as a part of the median
    data: str = "typical"
    note: str = ""


def note_row(item: str, group: str, metric: str, note: str, *, shape: Shape | None = None) -> Row:
    """Return a row that says why a number is missing; ``metric``: skipped or failed."""
    name = "" if shape is None else shape.name
    return Row(implementation=item, group=group, shape=name, metric=metric, note=note)


def append_row(path: Path, row: Row) -> None:
    """Append one row as a JSON line, on disk at once: a killed worker keeps what it measured."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a worker; a last line that was cut off is dropped."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(Row(**json.loads(line)))
        except json.JSONDecodeError:
            break
    return rows


def write_csv(path: Path, rows: Iterable[Row], *, machine: dict[str, str]) -> None:
    """Write all rows, each with the device, the versions and the commit."""
    names = [field.name for field in fields(Row)]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*names, *machine])
        writer.writeheader()
        for row in rows:
            writer.writerow(asdict(row) | machine)


def select(rows: Sequence[Row], **wanted: str) -> list[Row]:
    """Return the rows with a value whose fields are as wanted."""
    return [
        row
        for row in rows
        if row.value is not None and all(getattr(row, k) == v for k, v in wanted.items())
    ]


def value_of(rows: Sequence[Row], **wanted: str) -> float | None:
    """Return the one value wanted, None where it was not measured."""
    found = select(rows, **wanted)
    return found[0].value if found else None
