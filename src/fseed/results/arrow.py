"""Plain columns as an Arrow table without importing pandas.

``pyarrow.array`` imports pandas (half a second) wherever it is installed; its buffers do not. Once
that import is gone from pyarrow, ``pyarrow.table(columns)`` does the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow


def build_table(columns: Mapping[str, Sequence[Any]]) -> pyarrow.Table:
    """Return a table of columns that hold one of str, bool, int (64 bits) or float, and None."""
    arrays = [_build_array(values) for values in columns.values()]
    return pyarrow.Table.from_arrays(arrays, names=list(columns))


def _build_array(values: Sequence[Any]) -> pyarrow.Array:
    kind = next((type(value) for value in values if value is not None), None)
    if kind is None:
        return pyarrow.nulls(len(values))
    present, filled = None, values
    if None in values:
        present = _bits([value is not None for value in values])
        filled = [kind() if value is None else value for value in values]
    if kind is str:
        return _build_texts(present, filled)
    if kind is bool:
        return pyarrow.Array.from_buffers(pyarrow.bool_(), len(values), [present, _bits(filled)])
    arrow_type, dtype = {
        int: (pyarrow.int64(), np.int64),
        float: (pyarrow.float64(), np.float64),
    }[kind]
    data = pyarrow.py_buffer(np.array(filled, dtype=dtype).tobytes())
    return pyarrow.Array.from_buffers(arrow_type, len(values), [present, data])


def _build_texts(present: pyarrow.Buffer | None, values: Sequence[str]) -> pyarrow.Array:
    encoded = [text.encode(errors="replace") for text in values]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64).tobytes()
    buffers = [present, *(pyarrow.py_buffer(data) for data in (offsets, b"".join(encoded)))]
    return pyarrow.Array.from_buffers(pyarrow.large_string(), len(values), buffers)


def _bits(flags: Sequence[bool]) -> pyarrow.Buffer:
    return pyarrow.py_buffer(np.packbits(flags, bitorder="little").tobytes())
