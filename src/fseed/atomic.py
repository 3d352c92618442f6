"""Files that are written whole or not at all.

A file is written beside its place, synced, and renamed: a reader, a kill or a full disk sees the
old file or the new one. JSON may hold NaN and Infinity, as Python's ``json`` writes them.
"""

import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is synced and renamed to ``path``, or removed on any error.

    The old file stays untouched until the new one is complete on disk. Creates parent folders.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_text_atomic(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 in place of ``path``; what UTF-8 cannot hold is escaped."""
    with replacing(path) as temporary:
        # half letters occur in messages and in file names that are not UTF-8
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json_atomic(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``data`` as indented JSON in place of ``path``; adds no key of its own."""
    write_text_atomic(path, json.dumps(data, indent=2, default=plain) + "\n")


def write_parquet_atomic(path: Path, table: "pyarrow.Table | Mapping[str, Sequence[Any]]") -> None:
    """Write an Arrow table, or equally long columns by name, in place of ``path``."""
    import pyarrow
    import pyarrow.parquet as parquet

    whole = table if isinstance(table, pyarrow.Table) else pyarrow.table(dict(table))
    with replacing(path) as temporary:
        # a changed byte is found when it is read, not taken for another number
        parquet.write_table(whole, temporary, write_page_checksum=True)


def plain(value: Any) -> Any:
    """Turn a numpy scalar or a path into what JSON knows."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"a record cannot hold {type(value).__name__}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
