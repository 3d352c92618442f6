import math

import pyarrow
import pyarrow.parquet as parquet
import pytest

from fseed.results.arrow import build_table

COLUMNS = {
    "text": ["a", None, "", "\u00e9\u4e16", "x" * 100, "b", "c", "d", "e"],
    "flag": [True, None, False, True, True, False, None, True, False],
    "whole": [1, None, -(2**62), 0, 5, 6, 7, 8, 9],
    "real": [0.1, None, math.inf, -0.0, 1e-300, 2.0, 3.0, 4.0, 5.0],
    "none": [None] * 9,
}


def test_equals_what_arrow_builds(tmp_path: object) -> None:
    table = build_table(COLUMNS)
    table.validate(full=True)
    expected = pyarrow.table(COLUMNS)
    assert table.to_pydict() == COLUMNS
    assert [t for t in table.schema.types if t != pyarrow.large_string()] == [
        t for t in expected.schema.types if t != pyarrow.string()
    ]


def test_survives_parquet(tmp_path: object) -> None:
    path = f"{tmp_path}/t.parquet"
    parquet.write_table(build_table(COLUMNS), path)
    assert parquet.read_table(path).to_pydict() == COLUMNS


@pytest.mark.parametrize("columns", [{}, {"a": []}])
def test_nothing_is_a_table_too(columns: dict[str, list[object]]) -> None:
    table = build_table(columns)
    assert (table.num_rows, table.column_names) == (0, list(columns))


def test_halves_of_letters_are_replaced() -> None:
    assert build_table({"a": ["\ud800"]}).to_pydict() == {"a": ["?"]}
