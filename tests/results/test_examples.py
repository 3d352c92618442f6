import math
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from fseed.records import RecordError, read_run
from fseed.results.examples import Examples, load_examples
from tests.results.builders import RunSpec, finish_run

ROWS: dict[str, list[Any]] = {
    "example_id": ["b", "a", "b", "a"],
    "split": ["validation"] * 4,
    "step": [0, 0, 40, 40],
    "score": [0.0, 0.0, 1.0, 0.5],
    "weight": [2, 2, 2, 2],
    "is_right": [False, False, True, False],
    "prediction": [None, None, "yes", None],
    "label_scores": [None, None, [0.5, 0.25], []],
    "f1": [None, None, 0.5, None],
}


def examples_of(**changes: list[Any]) -> Examples:
    return load_examples(pyarrow.table(ROWS | changes), step=40, split="validation")


def test_the_rows_of_one_evaluation_in_the_order_of_their_ids() -> None:
    found = examples_of()
    assert found.scores.tolist() == [0.5, 1.0]
    assert found.weights.tolist() == [2.0, 2.0]
    assert found.is_right.tolist() == [False, True]


def test_order_and_chunks_change_nothing() -> None:
    whole = pyarrow.table(ROWS)
    parts = pyarrow.concat_tables([whole.slice(3, 1), whole.slice(0, 3)])
    assert parts.column("score").num_chunks == 2
    again = load_examples(parts, step=40, split="validation")
    assert (again.content, again.ids) == (examples_of().content, examples_of().ids)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("prediction", [None, None, "yes", ""]),
        ("prediction", [None, None, "ye", "s"]),
        ("label_scores", [None, None, [0.5], [0.25]]),
        ("label_scores", [None, None, [0.5, 0.25], None]),
        ("f1", [None, None, 0.5, 0.0]),
        ("f1", [None, None, math.nextafter(0.5, 1), None]),
        ("is_right", [False, False, True, True]),
    ],
)
def test_content_tells_a_gap_from_a_value_and_one_bit(name: str, values: list[Any]) -> None:
    assert examples_of(**{name: values}).content != examples_of().content


def test_content_is_that_of_the_evaluation_alone() -> None:
    assert examples_of(f1=[0.1, 0.9, 0.5, None]).content == examples_of().content


def test_gaps_hide_whatever_lies_below_them() -> None:
    schema = pyarrow.schema([("x", pyarrow.float64())])
    gaps = pyarrow.py_buffer(b"\x01")
    columns = [pyarrow.py_buffer(bytes(8) + bytes([filler] * 8)) for filler in (0, 255)]
    arrays = [pyarrow.Array.from_buffers(pyarrow.float64(), 2, [gaps, data]) for data in columns]
    tables = [pyarrow.Table.from_arrays([array], schema=schema) for array in arrays]
    rows = pyarrow.table({name: values[2:] for name, values in ROWS.items()})
    contents = {
        load_examples(
            rows.append_column("x", table.column("x")), step=40, split="validation"
        ).content
        for table in tables
    }
    assert len(contents) == 1


@pytest.mark.parametrize("name", ["score", "weight", "is_right"])
def test_a_gap_in_a_score_is_an_error(name: str) -> None:
    values = [*ROWS[name][:3], None]
    with pytest.raises(RecordError, match=f"{name} is missing for some examples"):
        examples_of(**{name: values})


def test_other_steps_and_splits_have_no_rows() -> None:
    table = pyarrow.table(ROWS)
    with pytest.raises(RecordError, match="no rows for test at step 40"):
        load_examples(table, step=40, split="test")


def test_a_file_written_and_read_has_the_same_examples(tmp_path: Path) -> None:
    run = read_run(finish_run(tmp_path, RunSpec(correct=(2, 0, 1, 3), units=(2, 2, 2, 4))))
    found = load_examples(run.predictions(), step=40, split="validation")
    assert found.scores.tolist() == [2, 0, 1, 3]
    assert found.answers is not None
