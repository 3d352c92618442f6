import csv
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.results.audit_files import LEGACY_FILE, write_audit
from fseed.results.legacy.audit import audit_folder
from tests.results.legacy.builders import write_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "legacy"
    path.mkdir()
    write_study(path, "arc_q_last", (0.25, 0.26), (0.24, 0.24), mean=0.005, std=0.0071)
    return path


def test_the_audit_is_written_to_read_and_to_compute_with(folder: Path, tmp_path: Path) -> None:
    written = write_audit(audit_folder(folder), tmp_path / "out", formats=["markdown", "csv"])
    names = [LEGACY_FILE, "legacy_runs.csv", "legacy_outcomes.csv"]
    assert [path.name for path in written] == names
    assert written[0].read_text().startswith("# Audit of the earlier results")
    with written[2].open() as file:
        (row,) = csv.DictReader(file)
    assert any(value == "0.005" for value in row.values())


def test_only_the_forms_asked_for(folder: Path, tmp_path: Path) -> None:
    assert write_audit(audit_folder(folder), tmp_path / "out", formats=["latex"]) == []
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_a_user_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the audit"):
        write_audit(audit_folder(folder), tmp_path / "file", formats=["markdown"])
