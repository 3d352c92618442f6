"""Rows of one split, read narrowly first: keys for all rows, whole rows only where chosen."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fseed.errors import UserError
from fseed.tasks.base import Row
from fseed.tasks.columns import matches_value

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as pads


class Rows(Protocol):
    """A table that can be read in part."""

    def read_keys(self) -> Iterator[Row | None]:
        """Yield every row with at least the key columns; None for a malformed row."""
        ...

    def take(self, indices: Sequence[int]) -> list[Row | None]:
        """Return the whole rows at ``indices``, in this order; None for a malformed row."""
        ...


@dataclass(frozen=True)
class ListRows:
    """Rows in memory, each checked against ``columns``."""

    rows: list[Any]
    columns: Mapping[str, Any]

    def read_keys(self) -> Iterator[Row | None]:
        """Yield every row; None where a column is missing or of another type."""
        for row in self.rows:
            yield row if matches_value(row, self.columns) else None

    def take(self, indices: Sequence[int]) -> list[Row | None]:
        """Return the rows at ``indices``."""
        return [self.rows[index] for index in indices]


@dataclass(frozen=True)
class ArrowRows:
    """Rows of an Arrow data set, on disk or in memory, whose column types have been checked.

    ``key_columns`` are dotted paths; ``where`` names the data in error messages.
    """

    dataset: "pads.Dataset"
    key_columns: Sequence[str]
    where: str

    def read_keys(self) -> Iterator[Row | None]:
        """Yield every row with the key columns only."""
        import pyarrow.dataset as pads

        columns = {path: pads.field(*path.split(".")) for path in self.key_columns}
        with readable(self.where):
            table = self.dataset.to_table(columns=columns)
        for flat in _to_rows(table):
            yield None if flat is None else _nest(flat)

    def take(self, indices: Sequence[int]) -> list[Row | None]:
        """Return the whole rows at ``indices``; None for one that is not UTF-8."""
        with readable(self.where):
            table = self.dataset.take(list(indices))
        return list(_to_rows(table))


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turn a reading error of Arrow into a ``UserError`` that names the data."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{where} cannot be read as parquet ({reason}); copy it again") from error


def _to_rows(table: "pa.Table") -> Iterator[Row | None]:
    """Yield the rows as dicts; None for one whose text is not UTF-8."""
    try:
        yield from table.to_pylist()
    except UnicodeDecodeError:  # raised before the first row
        for number in range(table.num_rows):
            yield _to_row(table.slice(number, 1))


def _to_row(table: "pa.Table") -> Row | None:
    try:
        return table.to_pylist()[0]
    except UnicodeDecodeError:
        return None


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"a": {"b": 1}}`` for ``{"a.b": 1}``."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        head, _, field = path.partition(".")
        if field:
            nested.setdefault(head, {})[field] = value
        else:
            nested[head] = value
    return nested
