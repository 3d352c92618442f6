"""The table of faults is complete, and every test it names is there."""

import json
from pathlib import Path

import pytest

from tests.faults.table import FAULTS, PROTOCOL, Fault, main, render
from tests.faults.table import test_exists as is_there


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_has_tests(fault: Fault) -> None:
    assert fault.tests
    assert [test for test in fault.tests if not is_there(test)] == []


def test_a_missing_test_is_found() -> None:
    assert not is_there("tests/faults/test_table.py::test_nobody_wrote")


def test_every_line_of_the_protocol_has_a_row() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert len(PROTOCOL) == 14


def test_results_stand_in_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.jsonl"
    name = "tests/faults/test_failures.py::test_a_run_that_fails_by_itself_is_not_tried_again"
    lines = [
        {"test": f"{name}[poison-words]", "outcome": "failed", "told": None},
        {"test": f"{name}[poison-words]", "outcome": "passed", "told": "class nan"},
        {"test": f"{name}[crawl-words]", "outcome": "failed", "told": None},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["--results", str(path)]) == 1
    rows = {row.split(" | ")[0]: row for row in capsys.readouterr().out.splitlines()}
    assert "| 1 of 1 tests | class nan |" in rows["| NaN loss"]
    assert "| 0 of 1 tests |" in rows["| a worker that hangs"]
    assert rows["| Ctrl-C"].endswith("| not run |  |")


def test_without_results_the_table_is_the_list_of_faults() -> None:
    assert render([]).count("not run") == len(FAULTS)
