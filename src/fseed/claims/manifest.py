"""``paper/manifest.yaml``: every experiment with its question, its rule and all of its arms.

An entry is written before its runs. ``planned: true`` stands until there are records; it may not
be quoted. All keys but ``command`` and ``planned`` are registered: the archive keeps a copy, and a
later change of any of them is an error.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fseed.errors import UserError, did_you_mean
from fseed.record_schema import RecordError, one_line, read_mapping
from fseed.results.defaults import DEFAULT_MARGIN

MANIFEST_FILE = "paper/manifest.yaml"
RECORDS_FOLDER = "paper/records"
SCHEMA_VERSION = 1
ROLES = ("main", "control", "exploratory", "failure")
_REGISTERED = {
    "question": str,
    "role": str,
    "rule": str,
    "registered": str,
    "tasks": list,
    "seeds": list,
    "arms": list,
}
_OPTIONAL = {"margin": float}  # registered as well
_FREE = {"command": str, "planned": bool}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One entry. ``registered`` is a UTC date or time in ISO form, ``arms`` includes no_fs.

    ``margin`` is the difference that counts as none, a fraction. A staged sweep names its seeds in
    plan.json, so ``seeds`` may be empty for such sweeps and for no others.
    """

    name: str
    question: str
    role: str
    rule: str
    registered: str
    tasks: list[str]
    seeds: list[int]
    arms: list[str]
    margin: float = DEFAULT_MARGIN
    command: str = ""
    planned: bool = False

    @property
    def folder(self) -> Path:
        """Return the folder of the archived records, below the root."""
        return Path(RECORDS_FOLDER) / self.name

    @property
    def registration(self) -> dict[str, Any]:
        """Return what must not change once the runs have started."""
        return {"name": self.name} | {key: getattr(self, key) for key in (*_REGISTERED, *_OPTIONAL)}


@dataclass(frozen=True)
class Manifest:
    """Experiments by name, and documents that are logs: {path: why their numbers stay as they are}.

    A log is dated and holds raw output; of it only the links are checked.
    """

    experiments: dict[str, Experiment]
    logs: dict[str, str] = field(default_factory=dict)


def read_manifest(root: Path) -> Manifest:
    """Read the manifest below ``root``.

    Raises:
        UserError: if there is none, or an entry lacks a key, has another type or an unknown key.
    """
    path = root / MANIFEST_FILE
    try:
        content = read_mapping(path)
        _refuse_duplicates(path)
    except FileNotFoundError as problem:
        raise UserError(f"{path}: no such file; give a checkout with --root") from problem
    except (OSError, RecordError) as problem:
        raise UserError(f"{path}: {one_line(problem)}") from problem
    version = content.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema_version {version!r}; this fseed reads {SCHEMA_VERSION}")
    _check_keys(path, content, allowed=("schema_version", "logs", "experiments"), place="top level")
    logs, entries = content.get("logs") or {}, content.get("experiments") or {}
    if not isinstance(logs, dict) or not isinstance(entries, dict):
        raise UserError(f"{path}: logs and experiments must be mappings by path and by name")
    if any(Path(str(name)).name == "README.md" for name in logs):
        raise UserError(f"{path}: a README.md makes claims; it cannot be one of logs")
    experiments = {
        str(name): _read_entry(path, str(name), entry) for name, entry in entries.items()
    }
    return Manifest(experiments, {str(name): str(reason) for name, reason in logs.items()})


def _refuse_duplicates(path: Path) -> None:
    """Raise UserError for a key that stands twice: YAML would keep the last and say nothing."""
    import yaml

    nodes = [yaml.compose(path.read_bytes(), Loader=yaml.SafeLoader)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(f"{path}:{line}: the key {key.value!r} stands twice in one mapping")
            seen.add(key.value)
            nodes.append(value)


def digest(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain content, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_entry(path: Path, name: str, entry: Any) -> Experiment:
    place = f"experiments.{name}"
    if not isinstance(entry, dict) or not name.replace("_", "").isalnum():
        raise UserError(f"{path}: {place} must be a mapping under a name of letters, digits and _")
    kinds = _REGISTERED | _OPTIONAL | _FREE
    _check_keys(path, entry, allowed=tuple(kinds), place=place)
    missing = [key for key in _REGISTERED if key not in entry]
    if missing:
        raise UserError(f"{path}: {place} lacks {', '.join(missing)}")
    date = entry["registered"]
    if isinstance(date, datetime.date):
        # YAML turns what looks like a date into one
        entry = {**entry, "registered": date.isoformat()}
    for key, kind in kinds.items():
        if key in entry and type(entry[key]) is not kind:
            raise UserError(f"{path}: {place}.{key} is {entry[key]!r:.60}, not {kind.__name__}")
    _check_values(path, place, entry)
    return Experiment(name=name, **entry)


def _check_values(path: Path, place: str, entry: Mapping[str, Any]) -> None:
    if entry["role"] not in ROLES:
        role = entry["role"]
        near = did_you_mean(role, ROLES)
        raise UserError(f"{path}: {place}.role {role!r} is none of {', '.join(ROLES)}{near}")
    # a bool is an int to isinstance, and seed True would be seed 1
    for key, kind in (("tasks", str), ("arms", str), ("seeds", int)):
        if not all(type(value) is kind for value in entry[key]):
            raise UserError(f"{path}: {place}.{key} must list values of type {kind.__name__}")
        if len(set(entry[key])) != len(entry[key]):
            raise UserError(f"{path}: {place}.{key} names a value twice")
    if not 0 < entry.get("margin", DEFAULT_MARGIN) < 1:
        raise UserError(f"{path}: {place}.margin must be a fraction above 0 and below 1")
    if "no_fs" not in entry["arms"]:
        raise UserError(f"{path}: {place}.arms lacks no_fs, the baseline")
    try:
        datetime.datetime.fromisoformat(entry["registered"])
    except ValueError as problem:
        text = entry["registered"]
        raise UserError(f"{path}: {place}.registered {text!r} is no date in ISO form") from problem


def _check_keys(
    path: Path, content: Mapping[str, Any], *, allowed: tuple[str, ...], place: str
) -> None:
    for key in content:
        if key not in allowed:
            near = did_you_mean(str(key), allowed)
            raise UserError(f"{path}: {place} has an unknown key {key!r}{near}")
