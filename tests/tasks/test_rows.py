import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from task_helpers import make_row, make_rows

from fseed.errors import UserError
from fseed.tasks.hotpot import HOTPOT, read_key
from fseed.tasks.rows import ArrowRows, ListRows, readable


def test_arrow_rows_give_the_same_keys_and_rows_as_a_list():
    rows = make_rows(0, 12)
    arrow = ArrowRows(pads.dataset(pa.Table.from_pylist(rows)), HOTPOT.key_columns, where="here")
    plain = ListRows(rows, HOTPOT.columns)
    assert [read_key(row) for row in arrow.read_keys()] == [
        read_key(row) for row in plain.read_keys()
    ]
    assert arrow.take([5, 3, 11]) == plain.take([5, 3, 11]) == [rows[5], rows[3], rows[11]]


def test_arrow_keys_leave_the_sentences_out():
    arrow = ArrowRows(
        pads.dataset(pa.Table.from_pylist(make_rows(0, 2))), HOTPOT.key_columns, where="here"
    )
    row = next(arrow.read_keys())
    assert row is not None
    assert set(row["context"]) == {"title"}


def test_malformed_rows_of_a_list_are_none():
    rows = [make_row(1), {"id": "x"}, "text", make_row(2, context="text")]
    found = list(ListRows(rows, HOTPOT.columns).read_keys())
    assert [row is None for row in found] == [False, True, True, True]


@pytest.mark.parametrize("error", [pa.ArrowInvalid("broken.\nmore"), OSError("broken")])
def test_reading_errors_name_the_file_in_one_line(error):
    with (
        pytest.raises(UserError, match=r"^a.parquet cannot be read as parquet \(broken\); copy it"),
        readable("a.parquet"),
    ):
        raise error
