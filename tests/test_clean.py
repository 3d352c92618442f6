"""``python -m fseed.clean``: what it lists, what it removes, and what it never touches."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fseed.clean import main
from fseed.planned_run import PlannedRun
from fseed.sweep import retention
from fseed.sweep.plan import plan_sweep
from fseed.sweep.retention import find_items, remove_items
from tests.configs import composer
from tests.sweep.fake_training import fail, files_below, finish, start
from tests.sweep.test_lock import holder

LARGE = ("checkpoint.ckpt", "checkpoint.previous.ckpt", "checkpoint.ckpt.damaged", "output.log")
RECORDS = ("choices.json", "config.yaml", "predictions.parquet", "provenance.json", "result.json")


def plan(root: Path, *words: str) -> PlannedRun:
    words = ("fs=no_fs", f"output.root={root}", *words)
    return plan_sweep([composer().compose(list(words))], compose=composer().compose).to_run[0]


def add(folder: Path, *names: str, num_bytes: int = 1000) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(num_bytes))


def clean(capsys, *words: str) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    told = capsys.readouterr()
    return code, told.out, told.err


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def run(tmp_path: Path) -> PlannedRun:
    return plan(tmp_path / "out")


@pytest.fixture
def finished(run: PlannedRun) -> Path:
    finish(run)
    add(run.run_dir, *LARGE, ".result.json.0a1b2c3d.tmp", "model.safetensors", "metrics.jsonl")
    (run.run_dir / ".lock").touch()
    return run.run_dir


def test_a_dry_run_lists_and_removes_nothing(finished, tmp_path, capsys):
    before = files_below(tmp_path)
    code, out, _ = clean(capsys, tmp_path, "--dry-run")
    assert code == 0
    assert files_below(tmp_path) == before
    for name in (*LARGE, ".result.json.0a1b2c3d.tmp", ".lock"):
        assert str(finished / name) in out
    assert "checkpoint of a finished run" in out
    assert "may go: 6 files, 5 KiB" in out


def test_of_a_finished_run_stays_what_numbers_come_from(finished, tmp_path, capsys):
    code, out, _ = clean(capsys, tmp_path, "--yes")
    assert code == 0
    assert "removed 6 files" in out
    assert names(finished) == sorted([*RECORDS, "metrics.jsonl", "model.safetensors"])
    assert clean(capsys, tmp_path, "--yes") == (0, "nothing to remove\n", "")


def test_a_checkpoint_that_is_to_be_kept_stays_but_the_one_before_goes(tmp_path, capsys):
    run = plan(tmp_path, "output.keep_checkpoint=true")
    finish(run)
    add(run.run_dir, *LARGE)
    clean(capsys, tmp_path, "--yes")
    assert [name for name in names(run.run_dir) if "checkpoint" in name] == ["checkpoint.ckpt"]


@pytest.mark.parametrize(("words", "is_kept"), [((), True), (("--failed",), False)])
def test_checkpoints_of_failed_runs_go_when_asked_for(run, tmp_path, capsys, words, is_kept):
    fail(run)
    add(run.run_dir, *LARGE)
    clean(capsys, tmp_path, "--yes", *words)
    assert (run.run_dir / "checkpoint.ckpt").exists() == is_kept
    assert (run.run_dir / "output.log").exists()


def test_an_unfinished_run_can_go_on(run, tmp_path, capsys):
    start(run)
    add(run.run_dir, *LARGE, ".checkpoint.ckpt.tmp")
    clean(capsys, tmp_path, "--yes", "--failed")
    assert set(LARGE) < set(names(run.run_dir))
    assert ".checkpoint.ckpt.tmp" not in names(run.run_dir)


def test_a_run_whose_predictions_are_damaged_is_not_finished(finished, tmp_path, capsys):
    (finished / "predictions.parquet").write_bytes(b"PAR1 torn")
    clean(capsys, tmp_path, "--yes")
    assert (finished / "checkpoint.ckpt").exists()


def test_what_a_process_holds_is_left_alone(finished, tmp_path, capsys):
    before = set(files_below(tmp_path))
    with holder(finished) as process:
        code, _, err = clean(capsys, tmp_path, "--yes")
        assert set(files_below(tmp_path)) >= before
    assert code == 0
    assert f"{finished} is in use by process {process.pid}" in err


def test_a_run_that_starts_between_the_list_and_the_removal_is_left_alone(finished, tmp_path):
    items = find_items([tmp_path], with_failed=False).items
    with holder(finished):
        removed = remove_items(items, with_failed=False)
        assert (removed.items, len(removed.notes)) == ([], 1)
        assert set(LARGE) < set(names(finished))


def test_what_has_changed_since_it_was_listed_stays(finished, tmp_path):
    items = find_items([tmp_path], with_failed=False).items
    (finished / "result.json").unlink()
    remove_items(items, with_failed=False)
    assert set(LARGE) < set(names(finished))


def test_files_that_are_not_ours_stay(finished, tmp_path, capsys):
    add(
        tmp_path, "notes/checkpoint.ckpt", "out/default/output.log", "s0-0123456789/checkpoint.ckpt"
    )
    add(finished, "my.ckpt", "notes.txt", "checkpoint.ckpt.txt", "tensorboard/events.1")
    clean(capsys, tmp_path, "--yes", "--failed")
    left = files_below(tmp_path)
    assert {"notes/checkpoint.ckpt", "out/default/output.log", "s0-0123456789/checkpoint.ckpt"} < {
        *left
    }
    assert {"my.ckpt", "notes.txt", "checkpoint.ckpt.txt", "tensorboard"} < set(names(finished))


def test_no_link_is_followed(finished, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    add(elsewhere, "weights.bin")
    finished.rename(elsewhere / finished.name)
    finished.parent.mkdir(parents=True, exist_ok=True)
    finished.symlink_to(elsewhere / finished.name)
    (elsewhere / finished.name / "checkpoint.ckpt").unlink()
    (elsewhere / finished.name / "checkpoint.ckpt").symlink_to(elsewhere / "weights.bin")
    before = files_below(elsewhere)
    clean(capsys, tmp_path / "out", "--yes")
    assert files_below(elsewhere) == before
    clean(capsys, elsewhere, "--yes")
    assert (elsewhere / "weights.bin").exists()
    assert (elsewhere / finished.name / "checkpoint.ckpt").is_symlink()


@pytest.mark.parametrize("seal", ["archive.json", "paper"])
def test_archived_records_are_left_alone(finished, tmp_path, capsys, seal):
    if seal == "paper":
        (tmp_path / "records").mkdir()
        (tmp_path / "manifest.yaml").touch()
    else:
        (tmp_path / "out" / seal).touch()
    before = files_below(tmp_path)
    for folder in (tmp_path, tmp_path / "out", finished):
        clean(capsys, folder, "--yes")
        assert files_below(tmp_path) == before


def test_a_sweep_loses_its_cache_its_lock_and_old_temporaries(tmp_path, capsys):
    sweep = tmp_path / "round"
    add(sweep, "plan.json", ".plan.json.00000000.tmp", ".lock", ".fseed/collect-cache.bin")
    (sweep / "hotpot/quick/no_fs/s0-0123456789").mkdir(parents=True)
    add(sweep, "tables/paired.csv", "tables/.old.csv.0a1b2c3d.tmp", "tables/.new.csv.0a1b2c3d.tmp")
    old = time.time() - 2 * retention.STALE_SECONDS
    os.utime(sweep / "tables/.old.csv.0a1b2c3d.tmp", (old, old))
    clean(capsys, tmp_path, "--yes")
    left = [name for name in files_below(sweep) if (sweep / name).is_file()]
    assert left == ["plan.json", "tables/.new.csv.0a1b2c3d.tmp", "tables/paired.csv"]


def test_without_a_terminal_somebody_has_to_say_yes(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    code, _, err = clean(capsys, tmp_path)
    assert (code, "--dry-run" in err) == (2, True)
    assert (finished / "checkpoint.ckpt").exists()


@pytest.mark.parametrize(("answer", "is_kept"), [("", True), ("n", True), ("y", False)])
def test_on_a_terminal_it_asks(finished, tmp_path, capsys, monkeypatch, answer, is_kept):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert clean(capsys, tmp_path)[0] == 0
    assert (finished / "checkpoint.ckpt").exists() == is_kept


def test_bad_input_is_one_line(tmp_path, capsys):
    for words in ([tmp_path / "none"], [tmp_path, "--yes", "--dry-run"]):
        code, _, err = clean(capsys, *words)
        assert code == 2
        assert err.startswith("fseed.clean: ")
        assert err.count("\n") == 1


@pytest.mark.slow
def test_it_starts_without_torch(tmp_path):
    code = "import sys, fseed.clean; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plans_locks_and_temporaries_of_other_programs_stay(tmp_path, capsys):
    add(tmp_path, "tool/plan.json", "tool/.lock", "tool/.work.tmp", "tool/tables/.cells.tmp")
    before = files_below(tmp_path)
    assert clean(capsys, tmp_path, "--yes")[:2] == (0, "nothing to remove\n")
    assert files_below(tmp_path) == before
