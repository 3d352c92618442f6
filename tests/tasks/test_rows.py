import pyarrow as pa
import pyarrow.dataset as pads
import pytest
from task_helpers import make_row, make_rows, string_array

from fseed.errors import UserError
from fseed.tasks.hotpot import DISTRACTOR, read_key
from fseed.tasks.rows import ArrowRows, ListRows, readable


def test_arrow_rows_give_the_same_keys_and_rows_as_a_list():
    rows = make_rows(0, 12)
    arrow = ArrowRows(
        pads.dataset(pa.Table.from_pylist(rows)), DISTRACTOR.key_columns, where="here"
    )
    plain = ListRows(rows, DISTRACTOR.columns)
    assert [read_key(row) for row in arrow.read_keys()] == [
        read_key(row) for row in plain.read_keys()
    ]
    assert arrow.take([5, 3, 11]) == plain.take([5, 3, 11]) == [rows[5], rows[3], rows[11]]


def test_arrow_keys_leave_the_sentences_out():
    arrow = ArrowRows(
        pads.dataset(pa.Table.from_pylist(make_rows(0, 2))), DISTRACTOR.key_columns, where="here"
    )
    row = next(arrow.read_keys())
    assert row is not None
    assert set(row["context"]) == {"title"}


def test_malformed_rows_of_a_list_are_none():
    rows = [make_row(1), {"id": "x"}, "text", make_row(2, context="text")]
    found = list(ListRows(rows, DISTRACTOR.columns).read_keys())
    assert [row is None for row in found] == [False, True, True, True]


@pytest.mark.parametrize("error", [pa.ArrowInvalid("broken.\nmore"), OSError("broken")])
def test_reading_errors_name_the_file_in_one_line(error):
    with (
        pytest.raises(UserError, match=r"^a.parquet cannot be read as parquet \(broken\); copy it"),
        readable("a.parquet"),
    ):
        raise error


def broken_rows(texts):
    """Return Arrow rows whose texts may be no UTF-8."""
    ids = [f"r{number}" for number in range(len(texts))]
    table = pa.table({"id": ids, "text": string_array(texts)})
    return ArrowRows(pads.dataset(table), ("id", "text"), where="here")


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_row_that_is_no_utf8_is_none_and_the_others_are_read(at):
    texts = [b"one", "zw\u00f6lf".encode(), b""]
    texts[at] = b"\xff\xfe"
    rows = broken_rows(texts)
    expected = [
        None if number == at else {"id": f"r{number}", "text": text.decode()}
        for number, text in enumerate(texts)
    ]
    assert list(rows.read_keys()) == expected
    assert rows.take([2, 0, 1]) == [expected[2], expected[0], expected[1]]


def test_a_broken_text_that_is_no_key_shows_only_when_the_row_is_taken():
    table = pa.table({"id": ["a", "b"], "text": string_array([b"\xff", b"x"])})
    rows = ArrowRows(pads.dataset(table), ("id",), where="here")
    assert list(rows.read_keys()) == [{"id": "a"}, {"id": "b"}]
    assert rows.take([1, 0]) == [{"id": "b", "text": "x"}, None]


def test_half_of_a_letter_in_a_nested_text_is_found():
    inner = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), string_array([b"x", b"\xc3"]))
    table = pa.table({"id": ["a", "b"], "context": pa.StructArray.from_arrays([inner], ["title"])})
    rows = ArrowRows(pads.dataset(table), ("id", "context.title"), where="here")
    assert list(rows.read_keys()) == [{"id": "a", "context": {"title": ["x"]}}, None]
