import subprocess
from pathlib import Path

from fseed.claims.raw import RAW_LIST, check_raw, list_raw, write_raw_list
from tests.claims.publishing import RAW_FILE


def test_the_list_names_every_file_and_is_one_of_sha256sum(root: Path) -> None:
    assert list(list_raw(root)) == [RAW_FILE.removeprefix("paper/")]
    assert list(check_raw(root)) == []
    command = ["sha256sum", "--check", "--strict", RAW_LIST.name]
    subprocess.run(command, cwd=root / "paper", check=True, capture_output=True)


def test_writing_it_again_tells_what_changed_came_and_went(root: Path) -> None:
    assert write_raw_list(root) == []
    (root / "paper/kernels").mkdir()
    (root / "paper/kernels/bench.md").write_text("3 ms")
    (root / RAW_FILE).unlink()
    assert {finding.code for finding in check_raw(root)} == {"missing_file", "unlisted_file"}
    assert write_raw_list(root) == ["kernels/bench.md", "simulations/power.csv"]
    assert list(check_raw(root)) == []


def test_without_raw_output_no_list_is_needed(tmp_path: Path) -> None:
    assert list(check_raw(tmp_path)) == []


def test_a_list_that_names_a_file_twice_is_told_with_the_line(root: Path) -> None:
    path = root / RAW_LIST
    path.write_text(2 * path.read_text())
    (found,) = check_raw(root)
    assert (found.code, found.place) == ("unreadable_archive", f"{RAW_LIST}:2")
