import csv
from pathlib import Path

import pyarrow.parquet as parquet
import pytest

from fseed.errors import UserError
from fseed.results.collection import collect_runs
from fseed.results.defaults import FORMATS
from fseed.results.export import to_columns, write_files
from tests.results.builders import RunSpec, fail_run, write_sweep
from tests.results.staged import write_staged_sweep

KINDS = ("csv", "parquet")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    write_sweep(root, arms={"scalar_l10": 0.1}, num_seeds=3, num_examples=10)
    fail_run(root, RunSpec(arm="raw_l10"))
    return root


def test_all_forms_hold_the_same_rows(sweep: Path, tmp_path: Path) -> None:
    found = collect_runs([sweep])
    written = write_files(found, tmp_path / "out", formats=FORMATS)
    documents = ["tables.md", "tables.tex", "report.html"]
    data = [f"{name}.{kind}" for name in ("paired", "runs", "appendix") for kind in KINDS]
    assert [path.name for path in written] == documents + data
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
    assert [path.name for path in written] == ["paired.csv", "runs.csv", "appendix.csv"]
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


def test_huge_integers_beside_floats_become_text_too() -> None:
    huge = 10**400
    assert to_columns([{"a": huge}, {"a": 0.5}]) == {"a": [str(huge), "0.5"]}


def test_a_staged_sweep_has_a_file_per_summary(tmp_path: Path) -> None:
    write_staged_sweep(tmp_path)
    write_files(collect_runs([tmp_path]), tmp_path / "out", formats=["parquet"])
    names = ("paired", "runs", "stages", "summary", "appendix")
    tables = {name: parquet.read_table(tmp_path / "out" / f"{name}.parquet") for name in names}
    assert {name: table.num_rows for name, table in tables.items()} == {
        **{"paired": 16, "runs": 82, "stages": 16},
        **{"summary": 3, "appendix": 4},
    }
    pruned = [row for row in tables["paired"].to_pylist() if row["verdict"] == "pruned"]
    assert {row["dropped_reason"] for row in pruned} == {"below_wanted_gain"}
    beside = {row["control_of"] for row in tables["paired"].to_pylist() if row["control"] != "none"}
    assert beside == {"scalar_l10"}


def test_a_table_without_rows_leaves_no_earlier_one_behind(sweep: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_files(collect_runs([sweep]), out, formats=["csv"])
    assert (out / "appendix.csv").exists()
    plain = sweep / "default" / "hotpot" / "plain"
    kept = collect_runs([plain / "no_fs", plain / "scalar_l10"])
    write_files(kept, out, formats=["csv"])
    assert sorted(path.name for path in out.iterdir()) == ["paired.csv", "runs.csv"]


def test_the_report_is_one_html_file_named_after_its_task(sweep: Path, tmp_path: Path) -> None:
    (path,) = write_files(collect_runs([sweep]), tmp_path / "out", formats=["html"])
    text = path.read_text()
    assert path.name == "report.html"
    assert "Future-Seed on hotpot" in text
    assert "scalar_l10" in text
