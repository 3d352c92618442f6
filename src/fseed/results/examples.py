"""Per-example scores of one evaluation, from predictions.parquet, without a Python loop per cell.

Arrow's own conversions to numpy import pandas (half a second), so columns are read through their
buffers.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fseed.record_schema import RecordError
from fseed.results.answers import Answers, summarise_answers

if TYPE_CHECKING:
    import pyarrow

# Arrow types whose values lie in one buffer
_DTYPES = {"int32": np.int32, "int64": np.int64, "double": np.float64, "float": np.float32}
_OFFSETS = {"string": np.int32, "binary": np.int32, "large_string": np.int64}


@dataclass(frozen=True)
class Examples:
    """Scores per example of the last evaluation, sorted by example id."""

    ids: str  # digest of the sorted ids
    scores: NDArray[np.float64]  # [N] what each adds to the primary metric
    weights: NDArray[np.float64]  # [N] sum(scores) / sum(weights) is the primary metric
    is_right: NDArray[np.bool_]  # [N] wholly right examples
    content: str  # digest of every column: equal only when all predictions are, bit for bit
    constant_answer: str | None  # the one text or label predicted for all of several examples
    answers: Answers | None = None  # None where neither texts nor labels are recorded


def load_examples(table: "pyarrow.Table", *, step: int, split: str) -> Examples:
    """Return the examples of one evaluation; RecordError without rows or with one twice."""
    picked, ids = _pick(table, step=step, split=split)
    told = {
        name: picked.column(name).to_pylist()
        for name in ("prediction", "predicted", "gold")
        if name in picked.column_names
    }
    return Examples(
        ids=hashlib.sha256("\x1f".join(map(str, ids)).encode()).hexdigest(),
        scores=_numbers(picked, "score"),
        weights=_numbers(picked, "weight"),
        is_right=_numbers(picked, "is_right").astype(bool),
        content=_digest_table(picked),
        constant_answer=constant_answer(told) if len(ids) > 1 else None,
        answers=summarise_answers(told),
    )


def constant_answer(columns: Mapping[str, Sequence[Any]]) -> str | None:
    """Return the text generated for every example, or the label predicted at every unit."""
    for answers in (
        set(columns.get("prediction", ())),
        {label for text in columns.get("predicted", ()) for label in text or ""},
    ):
        if len(answers) == 1 and (answer := answers.pop()) is not None:
            return answer
    return None


def _pick(table: "pyarrow.Table", *, step: int, split: str) -> tuple["pyarrow.Table", list[Any]]:
    """Return the rows of one evaluation, ordered by id, and their ids."""
    table = _take(table, _rows_at(table.column("step"), step))
    columns = (table.column(name).to_pylist() for name in ("split", "example_id"))
    rows = enumerate(zip(*columns, strict=True))
    wanted = sorted((id_ or "", row) for row, (part, id_) in rows if part == split)
    ids = [id_ for id_, _ in wanted]
    if not ids or len(set(ids)) != len(ids):
        problem = "an example occurs twice" if ids else "no rows"
        raise RecordError(f"predictions.parquet: {problem} for {split} at step {step}")
    return _take(table, [row for _, row in wanted]), ids


def _rows_at(steps: "pyarrow.ChunkedArray", step: int) -> list[int]:
    """Return the rows of one step; most evaluations of a run are of another."""
    array = _whole(steps)
    is_there = _values(array) == step
    if array.null_count:
        is_there &= _bits(array.buffers()[0], array.offset, len(array)) == 1
    return np.flatnonzero(is_there).tolist()


def _take(table: "pyarrow.Table", rows: Sequence[int]) -> "pyarrow.Table":
    """Return the rows in this order, without a copy where they lie one after the other."""
    first = rows[0] if rows else 0
    if rows == list(range(first, first + len(rows))):
        return table.slice(first, len(rows))
    import pyarrow

    data = pyarrow.py_buffer(np.array(rows, dtype=np.int64).tobytes())
    indices = pyarrow.Array.from_buffers(pyarrow.int64(), len(rows), [None, data])
    return table.take(indices)


def _numbers(table: "pyarrow.Table", name: str) -> NDArray[np.float64]:
    array = _whole(table.column(name))
    if array.null_count:
        raise RecordError(f"predictions.parquet: {name} is missing for some examples")
    return _values(array).astype(np.float64)


def _digest_table(table: "pyarrow.Table") -> str:
    """Return one digest of all names, types, values and gaps; the chunks do not matter."""
    parts: list[bytes] = []
    for name in sorted(table.column_names):
        parts += [name.encode(), *_parts(_whole(table.column(name)))]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _parts(array: "pyarrow.Array") -> Iterable[bytes]:
    """Yield type, length, gaps and values of an array as bytes."""
    kind, size, offset = str(array.type), len(array), array.offset
    yield f"\x1f{kind} {size}\x1f".encode()
    gaps = _bits(array.buffers()[0], offset, size) if array.null_count else None
    if gaps is not None:
        yield gaps.tobytes()
    if kind == "bool" or kind in _DTYPES:
        values = _values(array, kind)
        yield (values if gaps is None else np.where(gaps == 1, values, 0)).tobytes()
    elif kind in _OFFSETS:
        starts = np.frombuffer(array.buffers()[1], _OFFSETS[kind])[offset : offset + size + 1]
        yield np.diff(starts).tobytes()
        data = array.buffers()[2]
        yield data[int(starts[0]) : int(starts[-1])].to_pybytes() if data is not None else b""
    else:
        # the repr of a float is exact, so equal text means equal bits
        yield repr(array.to_pylist()).encode(errors="backslashreplace")


def _values(array: "pyarrow.Array", kind: str | None = None) -> NDArray[Any]:
    """Return the values of an array of numbers or truths; anything where there is a gap.

    ``kind``: name of its type, where that is known.
    """
    size, offset, data = len(array), array.offset, array.buffers()[1]
    kind = kind if kind is not None else str(array.type)
    if kind == "bool":
        return _bits(data, offset, size)
    return np.frombuffer(data, _DTYPES[kind])[offset : offset + size]


def _bits(data: Any, offset: int, size: int) -> NDArray[np.uint8]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=offset + size, bitorder="little")
    return bits[offset:]


def _whole(column: "pyarrow.ChunkedArray") -> "pyarrow.Array":
    """Return the one array of a column."""
    import pyarrow

    return column.chunk(0) if column.num_chunks == 1 else pyarrow.concat_arrays(column.chunks)
