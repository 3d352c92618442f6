"""Rows from a folder: ``<data.root>/<data set>/<split>.parquet`` or ``.jsonl``."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.tasks.base import DataSet
from fseed.tasks.columns import check_columns, matches_arrow, matches_value
from fseed.tasks.rows import ArrowRows, ListRows, Rows, readable

SUFFIXES = (".parquet", ".jsonl")


def open_local(dataset: DataSet, root: str | None) -> dict[str, Rows]:
    """Return the rows of each split's file after checking that it has the columns.

    A parquet file is used where a jsonl file of the same split stands beside it. Raises
    ``UserError``.
    """
    return {split: _open_file(dataset, path) for split, path in find_files(dataset, root).items()}


def fingerprint_local(dataset: DataSet, root: str | None) -> str:
    """Return the SHA-256 of the bytes of all files, with their names.

    Raises ``UserError`` for the same faults as ``open_local``.
    """
    open_local(dataset, root)
    digest = hashlib.sha256()
    for path in find_files(dataset, root).values():
        digest.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def find_files(dataset: DataSet, root: str | None) -> dict[str, Path]:
    """Return the path of each split's file, or raise ``UserError`` saying what is missing."""
    folder = _find_folder(dataset, root)
    files = {split: _find_file(folder, names) for split, names in dataset.files.items()}
    missing = [split for split in dataset.required if files[split] is None]
    if missing:
        wanted = " and ".join(f"{dataset.files[split][0]}.parquet (or .jsonl)" for split in missing)
        raise UserError(f"{folder} lacks {wanted}; found: {_list_names(folder)}")
    return {split: path for split, path in files.items() if path is not None}


def _find_file(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the file of a split: the first name that exists, parquet before jsonl."""
    paths = [folder / f"{name}{suffix}" for name in names for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), None)


def _find_folder(dataset: DataSet, root: str | None) -> Path:
    """Return ``<root>/<data set>`` or raise ``UserError``."""
    if root is None:
        raise UserError(
            f"data=local needs data.root, the folder that holds {dataset.folder}/; "
            "give data.root=PATH or use data=mini"
        )
    base = Path(root).expanduser()
    if not base.is_dir():
        raise UserError(f"data.root={root}: no such folder (looked for {base.absolute()})")
    folder = base / dataset.folder
    if folder.is_dir():
        return folder
    if any(_find_file(base, names) is not None for names in dataset.files.values()):
        raise UserError(
            f"data.root={root} is itself a data set; "
            f"give the folder above it, and name this one {dataset.folder}"
        )
    raise UserError(f"data.root={root} has no folder {dataset.folder}; found: {_list_names(base)}")


def _list_names(folder: Path, *, limit: int = 8) -> str:
    """Return the names in a folder, sorted and shortened."""
    names = sorted(path.name for path in folder.iterdir())
    more = ", ..." if len(names) > limit else ""
    return (", ".join(names[:limit]) or "nothing") + more


def _open_file(dataset: DataSet, path: Path) -> Rows:
    """Return the rows of one file."""
    is_parquet = path.suffix == ".parquet"
    return _open_parquet(dataset, path) if is_parquet else _open_jsonl(dataset, path)


def _open_parquet(dataset: DataSet, path: Path) -> Rows:
    """Return lazily read rows after checking the column types."""
    import pyarrow.dataset as pads

    with readable(str(path)):
        table = pads.dataset(path, format="parquet")
    found = {field.name: field.type for field in table.schema}
    check_columns(found, dataset.columns, where=str(path), matches=matches_arrow)
    return ArrowRows(table, dataset.key_columns, where=str(path))


def _open_jsonl(dataset: DataSet, path: Path) -> Rows:
    """Return the parsed rows; when none has the columns, the first says what is missing."""
    rows: list[Any] = []
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                rows.append(_parse_line(line, f"{path}:{number}"))
    if rows and not any(matches_value(row, dataset.columns) for row in rows):
        first = next((row for row in rows if row is not None), {})
        first = first if isinstance(first, dict) else {}
        check_columns(first, dataset.columns, where=str(path), matches=matches_value)
    return ListRows(rows, dataset.columns)


def _parse_line(line: bytes, where: str) -> Any:
    """Return the value of one JSON line, None for one that is no UTF-8, or raise ``UserError``."""
    try:
        value = json.loads(line)
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()  # an escape may be half a letter
        return value
    except UnicodeError:
        return None  # counted as a malformed row
    except ValueError as error:
        raise UserError(f"{where} is not a JSON object on one line ({error})") from error
