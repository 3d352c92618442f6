"""``archive.json``: what was archived, as it was then.

It lies beside the records of an experiment and holds the registration, the SHA-256 of every file,
the state of every run, the keys that identity left out, and the outcome of every row. The seal
tells that a file changed. Under a renewed seal the other checks still compute scores, ids, budgets,
pairs and verdicts again; what follows from nothing else (seconds, memory, gates, versions, dates,
the commands, training losses) only the seal protects.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fseed.atomic import write_json_atomic
from fseed.claims.manifest import Experiment, digest
from fseed.record_schema import RecordError, check_size
from fseed.results.collection import Collection
from fseed.results.comparison import Comparison

SEAL_FILE = "archive.json"
SCHEMA_VERSION = 1
# a difference is a mean of ratios: another build of numpy may round its last bit elsewhere
TOLERANCE = 1e-9
_ROW_KEYS = ("task", "source", "model", "stage", "arm", "setting")
_OUTCOME_KEYS = (
    *("metric", "seeds", "num_pairs", "num_examples", "baseline_value", "arm_value"),
    *("difference", "interval_low", "interval_high", "verdict"),
)


@dataclass(frozen=True, kw_only=True)
class Seal:
    """The content of archive.json; paths are relative to its folder.

    ``arms`` is {arm_key: the canonical Future-Seed part}, ``hidden_keys`` the dotted keys of the
    configuration that identity left out, ``outcomes`` one mapping per row of the paired table.
    """

    registration: dict[str, Any]
    registration_sha256: str
    hidden_keys: list[str]
    arms: dict[str, dict[str, Any]]
    runs: dict[str, str]  # folder of the run -> its status
    outcomes: list[dict[str, Any]]
    files: dict[str, str]  # path -> SHA-256
    schema_version: int = SCHEMA_VERSION


def build_seal(
    experiment: Experiment,
    folder: Path,
    *,
    collection: Collection,
    arms: Mapping[str, dict[str, Any]],
    hidden_keys: Sequence[str],
) -> Seal:
    """Describe the records below ``folder`` as they are now."""
    runs = {relative(run.record.path, folder): run.status for run in collection.runs}
    return Seal(
        registration=experiment.registration,
        registration_sha256=digest(experiment.registration),
        hidden_keys=list(hidden_keys),
        arms=dict(arms),
        runs=dict(sorted(runs.items())),
        outcomes=[outcome_of(row) for row in collection.comparisons],
        files=hash_files(folder),
    )


def write_seal(seal: Seal, folder: Path) -> None:
    """Write archive.json into ``folder``."""
    write_json_atomic(folder / SEAL_FILE, asdict(seal))


def read_seal(folder: Path) -> Seal:
    """Read archive.json; RecordError when it is missing, damaged or of another version."""
    path = folder / SEAL_FILE
    try:
        check_size(path)
        content = json.loads(path.read_bytes())
    except FileNotFoundError as problem:
        raise RecordError("is missing") from problem
    except (OSError, RecursionError, ValueError) as problem:
        raise RecordError(f"cannot be read: {problem}") from problem
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        version = content.get("schema_version") if isinstance(content, dict) else None
        raise RecordError(f"schema_version is {version!r}, not {SCHEMA_VERSION}")
    try:
        seal = Seal(**content)
    except TypeError as problem:
        raise RecordError(f"has other keys: {problem}") from problem
    for key in ("registration", "arms", "runs", "files"):
        if not isinstance(getattr(seal, key), dict):
            raise RecordError(f"{key} is no mapping")
    for key in ("hidden_keys", "outcomes"):
        if not isinstance(getattr(seal, key), list):
            raise RecordError(f"{key} is no list")
    return seal


def hash_files(folder: Path) -> dict[str, str]:
    """Return {relative path: SHA-256} of all files below ``folder`` but archive.json itself."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / SEAL_FILE:
            name = path.relative_to(folder).as_posix()
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def relative(path: Path, folder: Path) -> str:
    """Return ``path`` below ``folder`` with slashes."""
    return path.resolve().relative_to(folder.resolve()).as_posix()


def row_name(row: Comparison) -> str:
    """Return task, stage, setting and arm of a row as one text."""
    parts = (row.task, row.source, row.model, row.stage, row.setting, row.arm)
    return "/".join(part for part in parts if part)


def outcome_of(row: Comparison) -> dict[str, Any]:
    """Return what is kept of a row: its labels, numbers and verdict."""
    return {key: getattr(row, key) for key in (*_ROW_KEYS, *_OUTCOME_KEYS)}


def changed_outcome(archived: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return ``key was ..., is ...`` for everything that differs beyond rounding."""
    return [
        f"{key} was {archived.get(key)!r}, is {now.get(key)!r}"
        for key in (*_ROW_KEYS, *_OUTCOME_KEYS)
        if not _same(archived.get(key), now.get(key))
    ]


def _same(first: Any, second: Any) -> bool:
    numbers = (int, float)
    if isinstance(first, numbers) and isinstance(second, numbers):
        return abs(first - second) <= TOLERANCE
    return first == second
