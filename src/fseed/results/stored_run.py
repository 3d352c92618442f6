"""Loaded runs as bytes and back, exactly: for processes that share the loading, and the cache.

The runs of a sweep share nearly everything they record. A batch holds every part that they share
once, and its runs as positions in the list of parts; read back, they share the parts too, so that
nobody may change what a record holds. One JSON text has everything but the arrays, whose bytes
follow. No pickle: a cache lies beside results, which people hand on, and reading it must not be
able to run anything.
"""

import json
import marshal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fseed.records import RunRecord
from fseed.results.answers import Answers
from fseed.results.examples import Examples
from fseed.results.runs import Run

_SCALARS = (str, int, float, bool, type(None))
# of RunRecord: mappings, stored part by part
_MAPPINGS = ("config", "choices", "provenance", "result", "failure")
_Part = list[tuple[str, Any]]
_dump = json.JSONEncoder(separators=(",", ":")).encode


def is_exact(run: Run) -> bool:
    """Tell whether bytes give the run back as it is.

    Only YAML knows more than JSON: dates, and keys that are no text.
    """
    return _is_plain(run.record.config) and _is_plain(run.settings)


def encode_runs(runs: Sequence[Run]) -> bytes:
    """Return a batch of runs as bytes; each must be ``is_exact``."""
    pool = _Pool()
    rows = [_encode(run, pool) for run in runs]
    parts = ",".join(pool.parts)
    arrays = _dump([[kind, len(data)] for kind, data in pool.arrays])
    text = f'{{"parts":[{parts}],"arrays":{arrays},"runs":{_dump(rows)}}}'.encode()
    size = len(text).to_bytes(8, "little")
    return b"".join([size, text, *(data for _, data in pool.arrays)])


def decode_runs(data: bytes | memoryview, paths: Iterable[Path]) -> list[Run]:
    """Return the runs of ``encode_runs``, which lie in ``paths``."""
    view = memoryview(data)
    end = 8 + int.from_bytes(view[:8], "little")
    told = json.loads(bytes(view[8:end]))
    # one copy: an array must not keep the file open that it comes from
    arrays = list(_split_arrays(told["arrays"], bytes(view[end:])))
    parts = [[(sys.intern(name), value) for name, value in part.items()] for part in told["parts"]]
    rows = zip(told["runs"], paths, strict=True)
    return [_decode(row, path, parts, arrays) for row, path in rows]


@dataclass
class _Pool:
    """What the runs of a batch share, with its place in the order of appearance."""

    parts: list[str] = field(default_factory=list)  # JSON texts
    places: dict[bytes, int] = field(default_factory=dict)  # of the parts, by content
    arrays: dict[tuple[str, bytes], int] = field(default_factory=dict)  # by type and content

    def add(self, part: dict[str, Any]) -> int:
        """Return the place of a part, a mapping of a few entries."""
        # a key that is never read back, in a quarter of the time of the JSON text; version 2 knows
        # no references, so that equal parts give equal bytes
        key = marshal.dumps(part, 2)
        place = self.places.setdefault(key, len(self.places))
        if place == len(self.parts):
            self.parts.append(_dump(part))
        return place

    def add_array(self, array: NDArray[Any]) -> int:
        """Return the place of an array."""
        return self.arrays.setdefault((array.dtype.str, array.tobytes()), len(self.arrays))


def _encode(run: Run, pool: _Pool) -> dict[str, Any]:
    told = _own_fields(run, without=("record", "settings", "examples"))
    told["settings"] = [pool.add(dict(group)) for group in _by_section(run.settings)]
    record = _own_fields(run.record, without=("path", *_MAPPINGS))
    for name in _MAPPINGS:
        content = getattr(run.record, name)
        record[name] = None if content is None else [pool.add({k: v}) for k, v in content.items()]
    examples = _encode_arrays(run.examples, pool) if run.examples is not None else None
    return {**told, "record": record, "examples": examples, "kin": run.kin}


def _decode(
    row: dict[str, Any],
    path: Path,
    parts: Sequence[_Part],
    arrays: Sequence[NDArray[Any]],
) -> Run:
    record, examples, kin = row.pop("record"), row.pop("examples"), row.pop("kin")
    for name in _MAPPINGS:
        record[name] = _join(record[name], parts) if record[name] is not None else None
    row["settings"] = _join(row["settings"], parts)
    if examples is not None:
        answers = examples["answers"]
        examples["answers"] = _with_arrays(Answers, answers, arrays) if answers else None
        examples = _with_arrays(Examples, examples, arrays)
    run = Run(record=RunRecord(path, **record), examples=examples, **row)
    # known from the first time; to compute it takes as long as all the rest
    run.__dict__["kin"] = kin
    return run


def _by_section(settings: Mapping[str, Any]) -> Iterator[Iterator[tuple[str, Any]]]:
    """Yield the entries of every section, which runs share or do not share as a whole."""
    for _, entries in groupby(settings.items(), key=lambda entry: entry[0].partition(".")[0]):
        yield entries


def _join(places: Sequence[int], parts: Sequence[_Part]) -> dict[str, Any]:
    return dict(chain.from_iterable(map(parts.__getitem__, places)))


def _own_fields(value: Any, *, without: tuple[str, ...]) -> dict[str, Any]:
    names = (field.name for field in fields(value))
    return {name: getattr(value, name) for name in names if name not in without}


def _encode_arrays(value: Examples | Answers, pool: _Pool) -> dict[str, Any]:
    """Return the fields; an array becomes [its place]."""
    told = {}
    for name, item in _own_fields(value, without=()).items():
        if isinstance(item, np.ndarray):
            told[name] = [pool.add_array(item)]
        else:
            told[name] = _encode_arrays(item, pool) if isinstance(item, Answers) else item
    return told


def _with_arrays(kind: type, told: Mapping[str, Any], arrays: Sequence[NDArray[Any]]) -> Any:
    return kind(
        **{name: arrays[item[0]] if isinstance(item, list) else item for name, item in told.items()}
    )


def _split_arrays(listing: Sequence[Sequence[Any]], data: bytes) -> Iterator[NDArray[Any]]:
    start = 0
    for kind, size in listing:
        dtype = np.dtype(kind)
        yield np.frombuffer(data, dtype, size // dtype.itemsize, start)
        start += size


def _is_plain(value: Any) -> bool:
    """Tell whether JSON gives the value back as it is."""
    kind = type(value)
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return all(map(_is_plain, value)) if kind is list else kind in _SCALARS
