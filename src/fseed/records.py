"""The run directory on disk: the only writer and the only reader of records.

Files of one run, ``<root>/<sweep>/<task>/<stage>/<arm>/s<seed>-<run_id>/``:

| file | content |
|---|---|
| config.yaml | the resolved configuration |
| choices.json | arm label, chosen options, overrides, command |
| provenance.json | run_id, pair_key, arm_key, hashes, versions, device, data, model |
| metrics.jsonl | append-only, one JSON object a line, kind train or evaluation |
| predictions.parquet | one row per example and evaluated step |
| result.json | last file of a finished run |
| failure.json | class, message, traceback and last step of a failed run |

Every file but metrics.jsonl is replaced as a whole, see ``fseed.atomic``, whose writers are
offered here too.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fseed.atomic import plain, write_json_atomic, write_parquet_atomic, write_text_atomic
from fseed.errors import UserError
from fseed.record_schema import (
    CHOICES_FILE,
    CONFIG_FILE,
    FAILURE_CLASSES,
    FAILURE_FILE,
    METRICS_FILE,
    OPTIONAL_COLUMNS,
    PREDICTION_TYPES,
    PREDICTIONS_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
    SCHEMA_VERSION,
    TABLES_DIR,
    RecordError,
    one_line,
    read_mapping,
)

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "CHOICES_FILE",
    "CONFIG_FILE",
    "FAILURE_CLASSES",
    "FAILURE_FILE",
    "METRICS_FILE",
    "PREDICTIONS_FILE",
    "PREDICTION_TYPES",
    "PROVENANCE_FILE",
    "RESULT_FILE",
    "SCHEMA_VERSION",
    "TABLES_DIR",
    "RecordError",
    "RunRecord",
    "Scan",
    "append_metrics",
    "clean_temporaries",
    "default_output_root",
    "find_runs",
    "is_run_dir",
    "read_metrics",
    "read_run",
    "scan",
    "truncate_metrics",
    "write_json_atomic",
    "write_parquet_atomic",
    "write_predictions",
    "write_text_atomic",
]

# config.yaml alone does not make a folder a run: other programs write that name too
_MARKERS = {
    *(CHOICES_FILE, PROVENANCE_FILE, METRICS_FILE),
    *(PREDICTIONS_FILE, RESULT_FILE, FAILURE_FILE),
}
_RUN_DIR_NAME = re.compile(r"s-?\d+-[0-9a-f]{10}")


def default_output_root() -> Path:
    """Return $FSEED_OUTPUTS, else outputs/ of the checkout, else ./outputs; always absolute."""
    named = os.environ.get("FSEED_OUTPUTS")
    if named:
        return Path(named).expanduser().absolute()
    checkout = Path(__file__).resolve().parents[2]
    is_checkout = (checkout / "pyproject.toml").is_file() and (checkout / "src/fseed").is_dir()
    return (checkout if is_checkout else Path.cwd()) / "outputs"


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
    """Append one row to metrics.jsonl and flush it; a torn line before it stays a line alone."""
    line = json.dumps(row, default=plain).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line)


def truncate_metrics(path: Path, *, after_step: int) -> None:
    """Drop the rows whose step is above ``after_step``, and torn lines; no file is no error."""
    if not path.exists():
        return
    rows, _ = read_metrics(path)
    kept = [row for row in rows if row["step"] <= after_step]
    write_text_atomic(path, "".join(json.dumps(row) + "\n" for row in kept))


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the rows of metrics.jsonl and the 1-based numbers of its torn lines."""
    rows: list[dict[str, Any]] = []
    torn: list[int] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError:
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


@dataclass(frozen=True)
class RunRecord:
    """One run directory as read. ``status``: finished | failed | unfinished | unreadable.

    ``reason`` is set unless finished. Missing files are empty dicts or None, never guessed.
    """

    path: Path
    status: str
    reason: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None

    @property
    def run_id(self) -> str | None:
        """Return the run id of provenance.json, else of failure.json."""
        return self.provenance.get("run_id") or (self.failure or {}).get("run_id")

    def predictions(self) -> "pyarrow.Table":
        """Read predictions.parquet; RecordError when it is missing, corrupt or of another form."""
        import pyarrow
        import pyarrow.parquet as parquet

        try:
            # the bytes at once: parquet.read_table imports pyarrow.dataset and is slower
            data = (self.path / PREDICTIONS_FILE).read_bytes()
            table = parquet.ParquetFile(pyarrow.BufferReader(data)).read()
        except FileNotFoundError as error:
            raise RecordError(f"{PREDICTIONS_FILE} is missing") from error
        except (OSError, pyarrow.ArrowException) as error:
            raise RecordError(f"{PREDICTIONS_FILE}: {one_line(error)}") from error
        told = {entry.name: str(entry.type).replace("element: ", "") for entry in table.schema}
        for name, kind in PREDICTION_TYPES.items():
            found = told.get(name, kind if name in OPTIONAL_COLUMNS else "missing")
            if found != kind:
                raise RecordError(f"{PREDICTIONS_FILE}: column {name} is {found}, not {kind}")
        return table


def read_run(path: Path) -> RunRecord:
    """Read one run directory; whatever is wrong with it ends in ``status`` and ``reason``."""
    found: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for name in (CONFIG_FILE, CHOICES_FILE, PROVENANCE_FILE, RESULT_FILE, FAILURE_FILE):
        try:
            found[name] = read_mapping(path / name)
        except FileNotFoundError:
            continue
        except (OSError, RecordError) as error:
            problems.append(f"{name}: {one_line(error)}")
    problems += _contradictions(found)
    status, reason = _judge(found, problems)
    return RunRecord(
        path=path,
        status=status,
        reason=reason,
        config=found.get(CONFIG_FILE, {}),
        choices=found.get(CHOICES_FILE, {}),
        provenance=found.get(PROVENANCE_FILE, {}),
        result=found.get(RESULT_FILE),
        failure=found.get(FAILURE_FILE),
    )


def is_run_dir(path: Path) -> bool:
    """Tell whether the folder is named like a run, ``s<seed>-<run_id>``."""
    return _RUN_DIR_NAME.fullmatch(path.name) is not None


@dataclass(frozen=True)
class Scan:
    """What lies below some folders: run directories in order, and other files, counted."""

    run_dirs: list[Path]
    num_foreign_files: int
    unreadable: list[RunRecord]


def scan(paths: Sequence[Path]) -> Scan:
    """Walk ``paths`` for run directories; hidden folders are passed over.

    A missing path that is named like a run is a run that was not started. UserError for any other
    path that is no folder.
    """
    run_dirs: dict[Path, None] = {}
    closed: list[RunRecord] = []
    visited: set[str] = set()
    num_foreign = 0

    def note(error: OSError) -> None:
        closed.append(RunRecord(Path(error.filename), "unreadable", one_line(error)))

    for top in paths:
        if is_run_dir(top) and not top.exists():
            run_dirs[top.absolute()] = None
            continue
        if not top.is_dir():
            state = "is not a folder" if top.exists() else "does not exist"
            raise UserError(f"{top} {state}; give folders that hold runs")
        for folder, names, files in os.walk(top, onerror=note, followlinks=True):
            real = os.path.realpath(folder)
            seen, is_run = real in visited, is_run_dir(Path(folder))
            visited.add(real)
            # a stray record in a parent folder must not hide the runs below it
            names[:] = [] if seen or is_run else sorted(n for n in names if not n.startswith("."))
            if is_run or _MARKERS & set(files):
                run_dirs[Path(real)] = None
            elif not seen and os.path.basename(folder) != TABLES_DIR:
                num_foreign += sum(not name.startswith(".") for name in files)
    return Scan(list(run_dirs), num_foreign, closed)


def find_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """Read every run directory below ``paths``, once each, unreadable ones included."""
    found = scan(paths)
    return [read_run(path) for path in found.run_dirs] + found.unreadable


def _judge(found: Mapping[str, Any], problems: list[str]) -> tuple[str, str | None]:
    if problems:
        return "unreadable", "; ".join(problems)
    if RESULT_FILE in found:
        return "finished", None
    if FAILURE_FILE in found:
        failure = found[FAILURE_FILE]
        if failure["class"] == "interrupted":
            return "unfinished", f"interrupted: {one_line(failure['message'])}"
        return "failed", f"{failure['class']}: {one_line(failure['message'])}"
    return "unfinished", "no result.json yet" if found else "nothing written yet"


def _contradictions(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Name what a result lacks beside it, and ids that differ between the files."""
    if RESULT_FILE not in found:
        return []
    beside = (CONFIG_FILE, CHOICES_FILE, PROVENANCE_FILE)
    problems = [f"{name} is missing beside {RESULT_FILE}" for name in beside if name not in found]
    if found[RESULT_FILE]["status"] != "finished":
        problems.append(f"{RESULT_FILE} does not say that the run finished")
    for key in ("run_id", "pair_key", "arm_key"):
        told = found.get(PROVENANCE_FILE, {}).get(key)
        if told is not None and found[RESULT_FILE][key] != told:
            problems.append(f"{key} differs between {RESULT_FILE} and {PROVENANCE_FILE}")
    return problems
