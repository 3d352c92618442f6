import csv
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from fseed.errors import UserError
from fseed.results.collection import collect_runs
from fseed.results.export import FORMATS, to_columns, write_files
from tests.results.builders import RunSpec, fail_run, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    write_sweep(root, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    fail_run(root, RunSpec(arm="raw_l10"))
    return root


def test_all_forms_hold_the_same_rows(sweep: Path, tmp_path: Path) -> None:
    found = collect_runs([sweep])
    written = write_files(found, tmp_path / "out", formats=FORMATS)
    names = ["tables.md", "paired.csv", "paired.parquet", "runs.csv", "runs.parquet"]
    assert [path.name for path in written] == names
    pairs = parquet.read_table(tmp_path / "out" / "paired.parquet").to_pylist()
    with (tmp_path / "out" / "paired.csv").open() as file:
        texts = list(csv.DictReader(file))
    assert (
        [row["arm"] for row in pairs] == [row["arm"] for row in texts] == ["raw_l10", "scalar_l10"]
    )
    assert pairs[1]["difference"] == float(texts[1]["difference"])
    assert pairs[1]["difference"] == found.comparisons[1].difference
    assert (pairs[0]["difference"], texts[0]["difference"]) == (None, "")
    runs = parquet.read_table(tmp_path / "out" / "runs.parquet").to_pylist()
    assert len(runs) == 7
    assert {row["status"] for row in runs} == {"finished", "failed"}


def test_only_the_forms_asked_for_are_written(sweep: Path, tmp_path: Path) -> None:
    written = write_files(collect_runs([sweep]), tmp_path / "out", formats=["csv"])
    assert [path.name for path in written] == ["paired.csv", "runs.csv"]
    assert write_files(collect_runs([sweep]), tmp_path / "none", formats=[]) == []
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_is_a_user_error(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write tables"):
        write_files(collect_runs([sweep]), tmp_path / "file", formats=FORMATS)


def test_a_column_has_one_type() -> None:
    rows = [{"a": 1, "b": 1, "c": True}, {"a": 2.5, "b": "x"}, {"b": [1, None], "c": False}]
    assert to_columns(rows) == {
        "a": [1.0, 2.5, None],
        "b": ["1", "x", "[1, null]"],
        "c": [True, None, False],
    }


def test_integers_beyond_64_bits_become_text() -> None:
    assert to_columns([{"a": 2**64}, {"a": None}]) == {"a": [str(2**64), None]}
