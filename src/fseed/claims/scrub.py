"""What a published record leaves out: folders of a machine, and text that a model generated."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fseed.atomic import write_parquet_atomic

# an absolute path of two or more parts, not behind a letter as in tokens/s or https://host
_PATH = re.compile(r"(?<![\w.)/:~])~?((?:/[^\s/'\"=,;:)\]]+)+)/([^\s/'\"=,;:)\]]+)/?")
# generated answers may repeat the prompt; of generated rows they are kept
PUBLIC_SOURCES = ("mini",)
_TEXT_COLUMN = "prediction"


def scrub_text(text: str) -> str:
    """Replace the folder of every absolute path by FOLDER.

    >>> scrub_text("output.root=/home/me/out")
    'output.root=FOLDER/out'
    """
    return _PATH.sub(r"FOLDER/\2", text)


def scrub(value: Any) -> Any:
    """Return plain data with every text scrubbed, keys as they are."""
    if isinstance(value, Mapping):
        return {key: scrub(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    return scrub_text(value) if isinstance(value, str) else value


def hash_generated_text(path: Path) -> None:
    """Replace the generated texts in predictions.parquet by their hashes; equal stays equal."""
    import pyarrow
    import pyarrow.parquet as parquet

    table = parquet.ParquetFile(path).read()
    if _TEXT_COLUMN not in table.column_names:
        return
    place = table.column_names.index(_TEXT_COLUMN)
    hashed = _map_texts(table.column(place).to_pylist(), _hash)
    column = pyarrow.array(hashed, type=pyarrow.string())
    write_parquet_atomic(path, table.set_column(place, _TEXT_COLUMN, column))


def _map_texts(texts: Sequence[str | None], change: Callable[[str], str]) -> list[str | None]:
    return [None if text is None else change(text) for text in texts]


def _hash(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
