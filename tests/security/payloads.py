"""Bytes that run code where they are unpickled, and files that hold them."""

import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa


class Touch:
    """Creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Run:
    """Runs a text of Python when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.text = f"__import__('os').mkdir({str(path)!r})"

    def __reduce__(self):
        return eval, (self.text,)


def touching_pickle(path: Path, *, protocol: int = 2) -> bytes:
    return pickle.dumps({"emb.weight": Touch(path)}, protocol=protocol)


def torch_zip(*pickles: tuple[str, bytes]) -> bytes:
    """Return an archive of torch.save with these pickles."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in pickles:
            archive.writestr(name, content)
        archive.writestr("archive/version", "3\n")
    return stream.getvalue()


def sealed(content: bytes) -> bytes:
    """Return a checkpoint with the digest that fseed expects behind it."""
    from fseed.training.checkpoint_file import MARK

    return content + hashlib.sha256(content).digest() + MARK


def safetensors(header: Mapping[str, object] | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def with_python_extension(table: pa.Table, path: Path) -> pa.Table:
    """Return the table with a first column of the extension type that old Arrow unpickled."""
    field = table.schema.field(0).with_metadata(
        {
            "ARROW:extension:name": "arrow.py_extension_type",
            "ARROW:extension:metadata": pickle.dumps(Touch(path), protocol=0).decode("latin-1"),
        }
    )
    schema = pa.schema([field, *list(table.schema)[1:]])
    return pa.Table.from_arrays(table.columns, schema=schema)
