"""Names, versions and required keys of the record files, and how one file is read."""

import json
import os
import re
import stat
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 2

CONFIG_FILE = "config.yaml"
CHOICES_FILE = "choices.json"
PROVENANCE_FILE = "provenance.json"
METRICS_FILE = "metrics.jsonl"
PREDICTIONS_FILE = "predictions.parquet"
RESULT_FILE = "result.json"
FAILURE_FILE = "failure.json"
# no records, but files of a run all the same
CHECKPOINT_FILE = "checkpoint.ckpt"
PREVIOUS_CHECKPOINT_FILE = "checkpoint.previous.ckpt"
DAMAGED_SUFFIX = ".damaged"
WORKER_LOG = "output.log"
# far above any real record; a larger file is named, not read
MAX_BYTES = 256 * 2**20
# equal values take no room in a parquet file, but in memory
MAX_ROWS = 20_000_000

# of a staged sweep, in its own folder: fseed.results.staged_files; probe.json: measured memory
SWEEP_FILES = frozenset({"plan.json", "decisions.jsonl", "probe.json"})
TABLES_DIR = "tables"  # folder of generated tables beside the runs

# of provenance.json: what every attempt of a run and both sides of a pair should share
INSTALLATION_KEYS = ("versions", "device", "sandbox", "wkv_backend")

# timeout is for launchers that stop a run that hangs
FAILURE_CLASSES = ("oom", "data", "config", "network", "nan", "timeout", "interrupted", "error")
# Arrow type names; other columns of predictions.parquet are scores: double, null where not scored
PREDICTION_TYPES = {
    "example_id": "string",
    "kind": "string",
    "split": "string",
    "step": "int32",
    "num_units": "int32",
    "num_correct": "int32",
    "num_correct_full": "int32",  # among the whole vocabulary, not only the labels offered
    "num_answer_tokens": "int32",  # without end of text
    "num_tokens_correct": "int32",
    "loss_sum": "double",
    "num_tokens": "int32",  # what loss_sum is summed over: with end of text; retrieval: 1
    "score": "double",  # what the example adds to the primary metric: sum(score) / sum(weight)
    "weight": "double",
    "is_right": "bool",  # the whole example, by the primary metric
    "gold": "string",  # labels of the units
    "predicted": "string",
    "label_scores": "list<double>",  # probability of the second of two labels, a unit each
    "prediction": "string",  # greedy answer
    "outcome": "string",  # how the greedy program ended in the sandbox
}
# of PREDICTION_TYPES, these may be absent: not every task has labels or decodes freely
OPTIONAL_COLUMNS = frozenset({"gold", "predicted", "label_scores", "prediction", "outcome"})
_IDENTITY = {"run_id": str, "pair_key": str, "arm_key": str}
# what readers rely on; other keys are optional
REQUIRED_KEYS: dict[str, dict[str, type]] = {
    CHOICES_FILE: {"arm": str},
    PROVENANCE_FILE: _IDENTITY,
    RESULT_FILE: {
        **_IDENTITY,
        **{"status": str, "steps": int, "primary_metric": str, "evaluations": list},
    },
    FAILURE_FILE: {"run_id": str, "class": str, "message": str},
}


class RecordError(Exception):
    """A record that cannot be used; the message names the file and the reason in one line."""


def check_size(path: Path) -> None:
    """Raise RecordError for a file larger than any record, or no file at all but a pipe or device.

    Reading such a file would end the memory, or never end.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise RecordError("not a regular file")
    if status.st_size > MAX_BYTES:
        raise RecordError(f"{status.st_size:,} bytes; a record has at most {MAX_BYTES:,}")


def check_rows(num_rows: int) -> None:
    """Raise RecordError for a table longer than any run's."""
    if num_rows > MAX_ROWS:
        raise RecordError(f"{num_rows:,} rows; a table has at most {MAX_ROWS:,}")


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON mapping; RecordError says what is wrong with it."""
    check_size(path)
    text = path.read_bytes()
    try:
        data = _parse_yaml(text) if path.suffix == ".yaml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not valid {path.suffix[1:].upper()} ({one_line(error)})") from error
    if not isinstance(data, dict):
        raise RecordError("holds no mapping")
    if path.suffix == ".json":
        _check_schema(data, required=REQUIRED_KEYS[path.name])
    return data


def _check_schema(data: Mapping[str, Any], *, required: Mapping[str, type]) -> None:
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        known = f"this fseed reads version {SCHEMA_VERSION}"
        raise RecordError(
            f"unknown schema version {version!r}; {known}"
            if version is not None
            else f"no schema_version, so not a record of fseed ({known})"
        )
    missing = [key for key in required if key not in data]
    if missing:
        raise RecordError(f"lacks {', '.join(missing)}")
    for key, kind in required.items():
        if not isinstance(data[key], kind):
            raise RecordError(f"{key} is {data[key]!r:.40}, not {kind.__name__}")


def _parse_yaml(text: bytes) -> Any:
    """Parse YAML; ValueError in place of the library's own error.

    The runs of a sweep share nearly every top-level section, so sections are parsed once each.
    """
    sections = re.split(rb"^(?=[^\s-])", text, flags=re.MULTILINE)
    try:
        parts = [_parse_section(section) for section in sections if section.strip()]
    except ValueError:
        parts = []
    if parts and all(isinstance(part, dict) for part in parts):
        return {key: _copied(value) for part in parts for key, value in part.items()}
    # no plain block mapping: an alias across sections, a list, a comment, or an error to report
    return _parse_whole(text)


def _copied(value: Any) -> Any:
    """Return a copy of nested mappings and lists; a tenth of the time of ``copy.deepcopy``."""
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if type(value) is list else value


def _parse_whole(text: bytes) -> Any:
    import yaml

    try:
        content = yaml.load(text, Loader=_yaml_loader())
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    _refuse_aliases(content)
    return content


def _refuse_aliases(content: Any) -> None:
    """Raise ValueError where one node stands twice: a few aliases of aliases fill any memory.

    No record of fseed has them.
    """
    seen: set[int] = set()
    waiting = [content]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict | list):
            continue
        if id(node) in seen:
            raise ValueError("aliases (&name, *name) have no place in a record")
        seen.add(id(node))
        waiting += node.values() if isinstance(node, dict) else node


@lru_cache(maxsize=1024)
def _parse_section(section: bytes) -> Any:
    return _parse_whole(section)


@cache
def _yaml_loader() -> Any:
    import yaml

    # the compiled loader is ten times faster, and absent where PyYAML was built without libyaml
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def one_line(error: object) -> str:
    """Return the message without line breaks, cut at 200 characters."""
    return " ".join(str(error).split())[:200]
