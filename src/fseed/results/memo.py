"""Results of long computations, kept for the next time under a digest of all they depend on.

What a digest stands for cannot change, so that nothing kept is ever out of date: a result whose
inputs are no longer there is dropped. Plain JSON: reading it cannot run anything.
"""

import json
import sys
import zlib
from pathlib import Path
from typing import Any

from fseed.atomic import write_text_atomic
from fseed.record_schema import RecordError, check_size
from fseed.results.scalars import finite_number

MEMO_NAME = "collect-memo.json"


class Memo:
    """Lists of numbers by digest; without a file they are kept as long as the object."""

    def __init__(self, path: Path | None = None) -> None:
        """Read what is kept in ``path``; what is damaged is computed anew."""
        self._path = path
        self._written = _read(path) if path is not None else {}
        self._known = dict(self._written or {})
        self._used: dict[str, list[float]] = {}

    def recall(self, key: str) -> list[float] | None:
        """Return the numbers kept under a key, None where there are none."""
        found = self._known.get(key)
        if found is not None:
            self._used[key] = found
        return found

    def keep(self, key: str, numbers: list[float]) -> None:
        """Keep finite numbers for the next time."""
        self._known[key] = self._used[key] = numbers

    def save(self) -> None:
        """Write what was used since the file was read; a folder that cannot be written has none."""
        if self._path is None or self._used == self._written:
            return
        # the folder may be a stranger's, and the link lead anywhere
        if self._path.parent.is_symlink():
            return
        try:
            text = json.dumps(self._used)
            write_text_atomic(self._path, f"{zlib.crc32(text.encode())}\n{text}")
        except OSError:
            return
        self._written = dict(self._used)


def _read(path: Path) -> dict[str, list[float]] | None:
    """Return what a file keeps; None, and a note, when it is damaged."""
    try:
        check_size(path)  # a pipe in its place would never end
        checksum, _, text = path.read_bytes().partition(b"\n")
        told: Any = json.loads(text) if checksum == b"%d" % zlib.crc32(text) else None
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, RecordError, ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not all(map(_is_numbers, told.values())):
        print(f"fseed.collect: {path} is damaged: its results are computed anew", file=sys.stderr)
        return None
    return told


def _is_numbers(value: object) -> bool:
    is_list = isinstance(value, list)
    return is_list and all(finite_number(entry) is not None for entry in value)
