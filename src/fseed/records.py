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

Every file but metrics.jsonl is replaced as a whole. The writers of all files are offered here.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fseed.atomic import write_json_atomic, write_parquet_atomic, write_text_atomic
from fseed.errors import UserError
from fseed.record_files import (
    append_metrics,
    clean_temporaries,
    last_step,
    read_metrics,
    truncate_metrics,
    write_predictions,
)
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
    SWEEP_FILES,
    TABLES_DIR,
    RecordError,
    check_rows,
    check_size,
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
    "last_step",
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
            check_size(self.path / PREDICTIONS_FILE)
            data = (self.path / PREDICTIONS_FILE).read_bytes()
            # small files: threads of Arrow would cost more than they save
            file = parquet.ParquetFile(pyarrow.BufferReader(data), page_checksum_verification=True)
            check_rows(file.metadata.num_rows)
            table = file.read(use_threads=False)
        except FileNotFoundError as error:
            raise RecordError(f"{PREDICTIONS_FILE} is missing") from error
        except (OSError, pyarrow.ArrowException, RecordError) as error:
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
    walk = _Walk()
    for top in paths:
        if is_run_dir(top) and not top.exists():
            walk.run_dirs[str(top.absolute())] = None
            continue
        if not top.is_dir():
            state = "is not a folder" if top.exists() else "does not exist"
            raise UserError(f"{top} {state}; give folders that hold runs")
        walk.below(top)
    return Scan(list(map(Path, walk.run_dirs)), walk.num_foreign, walk.closed)


@dataclass
class _Walk:
    """What was found so far; folders by their real path, so that no link is followed twice."""

    run_dirs: dict[str, None] = field(default_factory=dict)
    closed: list[RunRecord] = field(default_factory=list)
    visited: set[str] = field(default_factory=set)
    num_foreign: int = 0

    def below(self, top: Path) -> None:
        """Visit a folder and all below it in order, parents first."""
        waiting = [(str(top), os.path.realpath(top))]
        while waiting:
            shown, real = waiting.pop()
            waiting += reversed(self._visit(shown, real))

    def _visit(self, shown: str, real: str) -> list[tuple[str, str]]:
        """Note one folder and return (path, real path) of the folders in it.

        A folder named like a run is not listed: what it holds is read later.
        """
        seen = real in self.visited
        self.visited.add(real)
        if _RUN_DIR_NAME.fullmatch(os.path.basename(shown)) is not None:
            self.run_dirs[real] = None
            return []
        if seen:
            return []
        try:
            with os.scandir(shown) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            self.closed.append(RunRecord(Path(shown), "unreadable", one_line(error)))
            return []
        folders = [entry for entry in entries if _is_folder(entry)]
        files = {entry.name for entry in entries} - {entry.name for entry in folders}
        if _MARKERS & files:
            self.run_dirs[real] = None
        elif os.path.basename(shown) != TABLES_DIR:
            known = files & SWEEP_FILES
            self.num_foreign += sum(not name.startswith(".") for name in files - known)
        # a stray record in a parent folder must not hide the runs below it
        return [
            (entry.path, os.path.realpath(entry.path) if entry.is_symlink() else f"{real}/{name}")
            for entry in folders
            if not (name := entry.name).startswith(".")
        ]


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # a link whose target cannot be looked at
        return False


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
