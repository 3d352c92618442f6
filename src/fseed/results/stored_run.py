"""A loaded run as bytes and back, exactly: for processes that share the loading, and the cache.

One JSON text holds everything but the arrays, whose bytes follow. No pickle: a cache lies beside
results, which people hand on, and reading it must not be able to run anything.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from fseed.records import RunRecord
from fseed.results.answers import Answers
from fseed.results.examples import Examples
from fseed.results.runs import Run

_SCALARS = (str, int, float, bool, type(None))


def encode_run(run: Run) -> bytes | None:
    """Return the run as bytes; None when JSON cannot hold a value of its files exactly."""
    arrays: list[bytes] = []
    told = _own_fields(run, without=("record", "examples"))
    told["record"] = _own_fields(run.record, without=()) | {"path": str(run.record.path)}
    if run.examples is not None:
        told["examples"] = _encode_arrays(run.examples, arrays)
    if not _is_plain(told):
        return None
    text = json.dumps(told, separators=(",", ":")).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *arrays])


def decode_run(data: bytes | memoryview) -> Run:
    """Return the run of ``encode_run``."""
    view = memoryview(data)
    end = 8 + int.from_bytes(view[:8], "little")
    told = json.loads(bytes(view[8:end]))
    record, examples = told.pop("record"), told.pop("examples", None)
    record["path"] = Path(record["path"])
    # the names are the same in all runs
    told["settings"] = {sys.intern(name): value for name, value in told["settings"].items()}
    whole = _decode_examples(examples, view[end:]) if examples is not None else None
    return Run(record=RunRecord(**record), examples=whole, **told)


def _own_fields(value: Any, *, without: tuple[str, ...]) -> dict[str, Any]:
    names = (field.name for field in fields(value))
    return {name: getattr(value, name) for name in names if name not in without}


def _encode_arrays(value: Any, arrays: list[bytes]) -> dict[str, Any]:
    """Return the fields; an array becomes [type, length], and its bytes join ``arrays``."""
    told = {}
    for name, item in _own_fields(value, without=()).items():
        if isinstance(item, np.ndarray):
            arrays.append(item.tobytes())
            told[name] = [item.dtype.str, len(item)]
        else:
            told[name] = _encode_arrays(item, arrays) if isinstance(item, Answers) else item
    return told


def _decode_examples(told: dict[str, Any], data: memoryview) -> Examples:
    answers = told.pop("answers", None)
    values, used = _decode_arrays(told, data)
    if answers is not None:
        values["answers"] = Answers(**_decode_arrays(answers, data[used:])[0])
    return Examples(**values)


def _decode_arrays(told: Mapping[str, Any], data: memoryview) -> tuple[dict[str, Any], int]:
    values: dict[str, Any] = {}
    used = 0
    for name, item in told.items():
        if isinstance(item, list):
            kind, length = np.dtype(item[0]), item[1]
            # a copy: the array must not keep the whole cache in memory
            values[name] = np.frombuffer(data, kind, length, used).copy()
            used += length * kind.itemsize
        else:
            values[name] = item
    return values, used


def _is_plain(value: Any) -> bool:
    """Tell whether JSON gives the value back as it is; YAML also knows dates and other keys."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return all(map(_is_plain, value)) if kind is list else kind in _SCALARS
