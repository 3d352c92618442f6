"""What a user may name: folders, files, starts of ids; and what becomes of everything else."""

import shutil
from pathlib import Path

import pytest

from fseed.errors import UserError
from fseed.results.differences.sources import find_source, read_sweep
from tests.results.builders import RunSpec, fail_run, finish_run, identity_of, start_run
from tests.results.differences.runs_on_disk import only_run, write_small_sweep


def test_a_run_is_found_by_folder_file_and_id(tmp_path: Path) -> None:
    spec = RunSpec(arm="scalar_l10", seed=2)
    path, run_id = finish_run(tmp_path, spec), identity_of(spec)["run_id"]
    by_folder = find_source(str(path), root=tmp_path)
    by_id = find_source(run_id[:6], root=tmp_path)
    by_file = find_source(str(path / "config.yaml"), root=tmp_path)
    assert by_folder == by_id
    assert by_folder.title == f"hotpot, plain, scalar_l10, seed 2, run {run_id}"
    assert by_file.sample.settings == by_folder.sample.settings
    assert by_file.sample.provenance == {}
    assert by_file.title == "hotpot, plain, seed 2, config.yaml"


def test_a_run_need_not_be_finished(tmp_path: Path) -> None:
    started = find_source(str(start_run(tmp_path, RunSpec())), root=tmp_path)
    failed = find_source(str(fail_run(tmp_path, RunSpec(seed=1))), root=tmp_path)
    assert (started.status, failed.status) == ("unfinished", "failed")
    assert failed.seed == 1


def test_an_ambiguous_id_names_the_runs(tmp_path: Path) -> None:
    run_id = identity_of(RunSpec())["run_id"]
    finish_run(tmp_path / "a", RunSpec())
    finish_run(tmp_path / "b", RunSpec())
    with pytest.raises(UserError, match=rf"^{run_id}: 2 runs below .*: a/default/.*, b/default/"):
        find_source(run_id, root=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("0123", "0123: no run of that id below "),
        ("012", "012: no such file or folder; give a run directory, a config.yaml or the first 4"),
        ("nowhere/x", "nowhere/x: no such file or folder"),
    ],
)
def test_names_of_nothing(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        find_source(name, root=tmp_path)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_no_outputs_yet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none does not exist"):
        find_source("0123", root=tmp_path / "none")


def test_folders_and_files_that_are_no_run(tmp_path: Path) -> None:
    sweep = write_small_sweep(tmp_path)
    with pytest.raises(UserError, match=r"holds 6 runs; give one of them, or --sweep"):
        find_source(str(sweep), root=tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="neither a run directory nor a folder of runs"):
        find_source(str(empty), root=tmp_path)
    (empty / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"not a \.yaml file"):
        find_source(str(empty / "notes.txt"), root=tmp_path)
    (empty / "bad.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"bad\.yaml: not valid YAML"):
        find_source(str(empty / "bad.yaml"), root=tmp_path)


def test_a_damaged_run_is_named_with_its_reason(tmp_path: Path) -> None:
    path = finish_run(tmp_path, RunSpec())
    (path / "provenance.json").write_text("{")
    with pytest.raises(UserError, match=r"provenance\.json: not valid JSON"):
        find_source(str(path), root=tmp_path)
    (path / "provenance.json").unlink()
    (path / "result.json").unlink()
    (path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config\.yaml is missing$"):
        find_source(str(path), root=tmp_path)


def test_a_sweep_names_what_it_cannot_compare(tmp_path: Path) -> None:
    sweep = write_small_sweep(tmp_path)
    (only_run(sweep, "raw_l8", 1) / "config.yaml").write_text("- 1\n")
    found = read_sweep(sweep)
    assert found.name == "old"
    assert len(found.sources) == 5
    (problem,) = found.problems
    assert problem.startswith("hotpot/plain/raw_l8/s1-")
    assert ": config.yaml: holds no mapping" in problem


def test_a_run_that_lies_there_twice_counts_once_and_is_named(tmp_path: Path) -> None:
    sweep = write_small_sweep(tmp_path)
    run = only_run(sweep, "raw_l8", 1)
    shutil.copytree(run, sweep / "copy" / run.name)
    found = read_sweep(sweep)
    assert len(found.sources) == 6
    assert found.problems == [f"hotpot/plain/raw_l8/{run.name}: the same run as copy/{run.name}"]


def test_files_of_other_programs_are_counted(tmp_path: Path) -> None:
    sweep = write_small_sweep(tmp_path)
    assert read_sweep(sweep).notes() == []
    for number in range(3):
        (sweep / f"{number}.txt").touch()
    assert read_sweep(sweep).notes() == ["3 files that belong to no run passed over"]


def test_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no runs; give the folder of a sweep"):
        read_sweep(tmp_path)
    with pytest.raises(UserError, match=r"is not a folder"):
        read_sweep(tmp_path / "none")
