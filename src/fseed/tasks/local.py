"""Rows from a folder: ``<data.root>/<data set>/{train,validation}.parquet`` or ``.jsonl``."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fseed.errors import UserError
from fseed.tasks.base import Task
from fseed.tasks.columns import check_columns, matches_arrow, matches_value
from fseed.tasks.rows import ArrowRows, ListRows, Rows, readable

FILE_SPLITS = ("train", "validation")
SUFFIXES = (".parquet", ".jsonl")


def open_local(task: Task, root: str | None) -> dict[str, Rows]:
    """Return the rows of both files after checking that they exist and have the columns.

    A parquet file is used where a jsonl file of the same split stands beside it. Raises
    ``UserError``.
    """
    return {split: _open_file(task, path) for split, path in find_files(task, root).items()}


def fingerprint_local(task: Task, root: str | None) -> str:
    """Return the SHA-256 of the bytes of both files, with their names.

    Raises ``UserError`` for the same faults as ``open_local``.
    """
    open_local(task, root)
    digest = hashlib.sha256()
    for path in find_files(task, root).values():
        digest.update(f"{path.name}:{path.stat().st_size}:".encode())
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def find_files(task: Task, root: str | None) -> dict[str, Path]:
    """Return the path of each split's file, or raise ``UserError`` saying what is missing."""
    folder = _find_folder(task, root)
    files = {split: _find_file(folder, split) for split in FILE_SPLITS}
    missing = [split for split, path in files.items() if path is None]
    if missing:
        wanted = " and ".join(f"{split}.parquet (or .jsonl)" for split in missing)
        raise UserError(f"{folder} lacks {wanted}; found: {_list_names(folder)}")
    return {split: path for split, path in files.items() if path is not None}


def _find_file(folder: Path, split: str) -> Path | None:
    """Return the file of a split, parquet before jsonl."""
    paths = [folder / f"{split}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), None)


def _find_folder(task: Task, root: str | None) -> Path:
    """Return ``<root>/<data set>`` or raise ``UserError``."""
    if root is None:
        raise UserError(
            f"data=local needs data.root, the folder that holds {task.folder}/; "
            "give data.root=PATH or use data=mini"
        )
    base = Path(root).expanduser()
    if not base.is_dir():
        raise UserError(f"data.root={root}: no such folder (looked for {base.absolute()})")
    folder = base / task.folder
    if folder.is_dir():
        return folder
    if _find_file(base, "train") is not None:
        raise UserError(
            f"data.root={root} is itself a data set; "
            f"give the folder above it, and name this one {task.folder}"
        )
    raise UserError(f"data.root={root} has no folder {task.folder}; found: {_list_names(base)}")


def _list_names(folder: Path, *, limit: int = 8) -> str:
    """Return the names in a folder, sorted and shortened."""
    names = sorted(path.name for path in folder.iterdir())
    more = ", ..." if len(names) > limit else ""
    return (", ".join(names[:limit]) or "nothing") + more


def _open_file(task: Task, path: Path) -> Rows:
    """Return the rows of one file."""
    return _open_parquet(task, path) if path.suffix == ".parquet" else _open_jsonl(task, path)


def _open_parquet(task: Task, path: Path) -> Rows:
    """Return lazily read rows after checking the column types."""
    import pyarrow.dataset as pads

    with readable(str(path)):
        dataset = pads.dataset(path, format="parquet")
    found = {field.name: field.type for field in dataset.schema}
    check_columns(found, task.columns, where=str(path), matches=matches_arrow)
    return ArrowRows(dataset, task.key_columns, where=str(path))


def _open_jsonl(task: Task, path: Path) -> Rows:
    """Return the parsed rows after checking the columns of the first."""
    rows: list[Any] = []
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                rows.append(_parse_line(line, f"{path}:{number}"))
    if rows:
        first = rows[0] if isinstance(rows[0], dict) else {}
        check_columns(first, task.columns, where=str(path), matches=matches_value)
    return ListRows(rows, task.columns)


def _parse_line(line: bytes, where: str) -> Any:
    """Return the value of one JSON line or raise ``UserError``."""
    try:
        return json.loads(line)
    except ValueError as error:
        raise UserError(f"{where} is not a JSON object on one line ({error})") from error
