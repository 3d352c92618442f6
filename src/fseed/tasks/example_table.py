"""Encoded examples as an Arrow table and back, equal in every field and type.

A column a field of ``EncodedExample``. Numbers are int32; text is binary, because it may hold half
letters (lone surrogates) that UTF-8 has no form for.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np

from fseed.tasks.base import EncodedExample

if TYPE_CHECKING:
    import pyarrow as pa

MAX_SHARED_NUMBERS = 1 << 20  # far above any vocabulary and any length


def to_batch(examples: Sequence[EncodedExample]) -> "pa.RecordBatch":
    """Return the examples as one record batch."""
    import pyarrow as pa

    columns = {
        name: _WRITERS[kind]([getattr(example, name) for example in examples])
        for name, kind in _field_types().items()
    }
    return pa.RecordBatch.from_pydict(columns)


def from_batch(batch: "pa.RecordBatch") -> list[EncodedExample]:
    """Return the examples of ``to_batch``."""
    types = _field_types()
    columns = [_READERS[kind](batch.column(name)) for name, kind in types.items()]
    return [
        EncodedExample(**dict(zip(types, values, strict=True)))
        for values in zip(*columns, strict=True)
    ]


def _field_types() -> dict[str, Any]:
    types = get_type_hints(EncodedExample)
    return {field.name: types[field.name] for field in fields(EncodedExample)}


def _write_text(values: Sequence[str | None]) -> "pa.Array":
    import pyarrow as pa

    return pa.array([_to_bytes(value) for value in values], pa.large_binary())


def _write_texts(values: Sequence[Sequence[str]]) -> "pa.Array":
    import pyarrow as pa

    flat = [text for texts in values for text in texts]
    return pa.LargeListArray.from_arrays(_offsets(values), _write_text(flat))


def _write_flags(values: Sequence[bool]) -> "pa.Array":
    import pyarrow as pa

    return pa.array(values, pa.bool_())


def _write_numbers(values: Sequence[Sequence[int] | None]) -> "pa.Array":
    """Return a list column; a missing list has no numbers and is null."""
    import pyarrow as pa

    lists = [value or () for value in values]
    offsets = _offsets(lists)
    flat = np.empty(int(offsets[-1]), dtype=np.int32)
    for (start, stop), numbers in zip(pairwise(offsets), lists, strict=True):
        flat[start:stop] = numbers
    missing = pa.array([value is None for value in values], pa.bool_())
    return pa.LargeListArray.from_arrays(offsets, pa.array(flat), mask=missing)


def _offsets(lists: Iterable[Sequence[Any]]) -> np.ndarray:
    return np.cumsum([0, *(len(values) for values in lists)], dtype=np.int64)


def _read_text(column: "pa.Array") -> list[str | None]:
    return [
        None if value is None else value.decode("utf-8", "surrogatepass")
        for value in column.to_pylist()
    ]


def _read_flags(column: "pa.Array") -> list[bool]:
    return column.to_pylist()


def _read_texts(column: Any) -> list[tuple[Any, ...]]:
    flat = _read_text(column.values)
    return [tuple(flat[start:stop]) for start, stop in pairwise(_read_offsets(column))]


def _read_numbers(column: Any) -> list[list[int] | None]:
    """Return the lists, by way of one flat array: ten times faster than ``to_pylist``."""
    flat = _to_objects(_view(column.values, np.int32, len(column.values)))
    lists: list[list[int] | None] = [
        flat[start:stop].tolist() for start, stop in pairwise(_read_offsets(column))
    ]
    if column.null_count:
        bits = np.frombuffer(column.buffers()[0], dtype=np.uint8)
        present = np.unpackbits(bits, count=len(column), bitorder="little")
        for place in np.flatnonzero(present == 0):
            lists[place] = None
    return lists


def _read_offsets(column: "pa.Array") -> list[int]:
    return _view(column, np.int64, len(column) + 1).tolist()


def _view(column: "pa.Array", dtype: type, count: int) -> np.ndarray:
    """Return the numbers or offsets of a column as they came from the file.

    pyarrow's own ``to_numpy`` imports pandas, which takes longer than all of this.
    """
    buffer = column.buffers()[1]
    return np.frombuffer(buffer, dtype=dtype, count=count) if count else np.empty(0, dtype=dtype)


def _to_objects(numbers: np.ndarray) -> np.ndarray:
    """Return the numbers as Python's, equal ones as one object: 8 bytes a token instead of 40."""
    low, high = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    if high - low > MAX_SHARED_NUMBERS:
        return numbers.astype(object)
    return np.arange(low, high + 1).astype(object)[numbers - low]


def _read_tuples(column: "pa.Array") -> list[tuple[int, ...] | None]:
    return [None if numbers is None else tuple(numbers) for numbers in _read_numbers(column)]


def _to_bytes(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "surrogatepass")


# a field of another type needs an entry in both
_WRITERS: dict[Any, Callable[[Any], Any]] = {
    str: _write_text,
    str | None: _write_text,
    bool: _write_flags,
    list[int]: _write_numbers,
    tuple[int, ...]: _write_numbers,
    tuple[int, ...] | None: _write_numbers,
    tuple[str, ...]: _write_texts,
}
_READERS: dict[Any, Callable[[Any], Any]] = {
    str: _read_text,
    str | None: _read_text,
    bool: _read_flags,
    list[int]: _read_numbers,
    tuple[int, ...]: _read_tuples,
    tuple[int, ...] | None: _read_tuples,
    tuple[str, ...]: _read_texts,
}
