import pyarrow as pa
import pytest

from fseed.errors import UserError
from fseed.tasks.columns import check_columns, describe_type, matches_arrow, matches_value

KIND = {"title": ["string"], "sent_id": ["integer"], "body": [["string"]]}
STRUCT = pa.struct(
    {
        "title": pa.list_(pa.string()),
        "sent_id": pa.large_list(pa.int32()),
        "body": pa.list_(pa.list_(pa.large_string())),
        "extra": pa.bool_(),
    }
)


def test_arrow_types_match_by_structure():
    assert matches_arrow(STRUCT, KIND)
    assert not matches_arrow(pa.struct({"title": pa.list_(pa.string())}), KIND)
    assert not matches_arrow(pa.string(), KIND)
    assert not matches_arrow(pa.list_(pa.int64()), ["string"])
    assert not matches_arrow(pa.string(), ["string"])
    assert not matches_arrow(pa.float64(), "integer")


@pytest.mark.parametrize(
    ("arrow_type", "kind", "fits"),
    [
        (pa.float32(), "number", True),
        (pa.list_(pa.float32(), 3), ["number"], True),
        (pa.dictionary(pa.int8(), pa.string()), "string", True),
        (pa.dictionary(pa.int8(), pa.int64()), "string", False),
        (pa.string_view(), "string", True),
        (pa.float64(), "number", True),
        (pa.uint8(), "number", True),
        (pa.bool_(), "number", False),
        (pa.string(), "number", False),
        (pa.bool_(), "boolean", True),
        (pa.int8(), "boolean", False),
        (pa.bool_(), "integer", False),
        (pa.large_list(pa.list_(pa.float32())), [["number"]], True),
        (pa.list_(pa.bool_()), ["number"], False),
        (pa.struct({"valid": pa.bool_()}), {"valid": "boolean"}, True),
        (pa.binary(), "string", False),
    ],
)
def test_arrow_numbers_and_booleans(arrow_type, kind, fits):
    assert matches_arrow(arrow_type, kind) == fits


@pytest.mark.parametrize(
    ("value", "kind", "fits"),
    [
        ("a", "string", True),
        (None, "string", False),
        (True, "integer", False),
        (3, "integer", True),
        (3.0, "integer", False),
        (3, "number", True),
        (0.5, "number", True),
        (True, "number", False),
        ("3", "number", False),
        (None, "number", False),
        (True, "boolean", True),
        (1, "boolean", False),
        ("true", "boolean", False),
        ([0.5, 1], ["number"], True),
        ([[True], [1]], [["boolean"]], False),
        ([["a"], []], [["string"]], True),
        ([["a"], [1]], [["string"]], False),
        ({"a": "x", "b": 1}, {"a": "string"}, True),
        ({"b": 1}, {"a": "string"}, False),
        ([], {"a": "string"}, False),
    ],
)
def test_values_match_by_structure(value, kind, fits):
    assert matches_value(value, kind) == fits


def test_missing_columns_are_all_listed_with_the_found_ones():
    with pytest.raises(UserError) as caught:
        check_columns(
            {"id": "x", "text": "y"},
            {"id": "string", "question": "string", "answer": "string"},
            where="train.jsonl",
            matches=matches_value,
        )
    message = str(caught.value)
    assert message.startswith("train.jsonl lacks the columns question, answer;")
    assert "found: id, text" in message


def test_wrong_types_are_listed_with_the_wanted_ones():
    with pytest.raises(UserError, match=r"wrong type in the column b; wanted b: list of string"):
        check_columns(
            {"a": "x", "b": "y"},
            {"a": "string", "b": ["string"]},
            where="train.jsonl",
            matches=matches_value,
        )


def test_types_are_described_in_words():
    assert (
        describe_type({"t": ["string"], "n": "integer"}) == "struct(t: list of string, n: integer)"
    )
    assert describe_type([{"x": "number", "ok": "boolean"}]) == (
        "list of struct(x: number, ok: boolean)"
    )
