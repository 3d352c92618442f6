"""A disk that is full: at a checkpoint, at a record, and really."""

import errno
import os
import subprocess
from types import SimpleNamespace

import pytest

from fseed.atomic import write_json_atomic
from fseed.records import read_metrics, read_run
from fseed.training import checkpoint_file
from fseed.training.checkpoint_file import (
    CHECKPOINT_FILE,
    SealedCheckpointIO,
    find_start,
)
from tests.training.test_checkpoint_file import names, train
from tests.training.test_runner import predictions, stable_rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert train(folder).status == "finished"
    return SimpleNamespace(rows=stable_rows(folder), predictions=predictions(folder))


def full_disk(monkeypatch, *, from_save):
    """Let the system refuse the bytes of every checkpoint from the given one on."""
    original, saves = SealedCheckpointIO.save_checkpoint, []

    class FullFile(checkpoint_file._HashingFile):
        def write(self, data):
            if len(saves) >= from_save and len(data) > 100:
                self.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise self.error
            return super().write(data)

    def counted(self, checkpoint, path, storage_options=None):
        saves.append(path)
        original(self, checkpoint, path)

    monkeypatch.setattr(checkpoint_file, "_HashingFile", FullFile)
    monkeypatch.setattr(SealedCheckpointIO, "save_checkpoint", counted)


def test_a_disk_full_at_a_checkpoint_is_a_record_and_the_run_can_go_on(
    tmp_path, monkeypatch, whole
):
    full_disk(monkeypatch, from_save=2)
    outcome = train(tmp_path)
    monkeypatch.undo()
    failure = read_run(tmp_path).failure
    assert (outcome.exit_code, failure["class"]) == (1, "error")
    assert "No space left on device" in failure["message"]
    assert [name for name in names(tmp_path) if "ckpt" in name or "tmp" in name] == [
        CHECKPOINT_FILE
    ]
    assert find_start(tmp_path).step == 2
    assert train(tmp_path).status == "finished"
    assert stable_rows(tmp_path) == whole.rows


@pytest.mark.parametrize("name", ["metrics.jsonl", "predictions.parquet", "result.json"])
def test_a_disk_full_at_a_record_is_a_failure_and_the_run_can_go_on(
    tmp_path, monkeypatch, whole, name
):
    def full(path, *args, **options):
        if path.name == name and (path.parent / CHECKPOINT_FILE).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, *args, **options)

    where, function = {
        "metrics.jsonl": ("fseed.training.run_log", "append_metrics"),
        "predictions.parquet": ("fseed.training.run_log", "write_predictions"),
        "result.json": ("fseed.training.records", "write_json_atomic"),
    }[name]
    original = getattr(__import__(where, fromlist=[function]), function)
    monkeypatch.setattr(f"{where}.{function}", full)
    outcome = train(tmp_path)
    monkeypatch.undo()
    assert (outcome.exit_code, read_run(tmp_path).failure["class"]) == (1, "error")
    assert "No space left on device" in outcome.message
    assert train(tmp_path).status == "finished"
    assert stable_rows(tmp_path) == whole.rows
    assert predictions(tmp_path) == whole.predictions


def test_the_failure_record_gets_the_room_that_was_kept_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr("fseed.training.callbacks.math.isfinite", lambda loss: False)

    def write(path, data):
        if path.name == "failure.json":
            # the disk is full but for the reserve, which must be gone by now
            assert not list(tmp_path.glob(".*.tmp"))
        write_json_atomic(path, data)

    monkeypatch.setattr("fseed.training.records.write_json_atomic", write)
    assert train(tmp_path).exit_code == 1
    assert read_run(tmp_path).failure["class"] == "nan"


def test_a_metrics_line_that_does_not_fit_leaves_no_half(tmp_path, monkeypatch):
    from fseed import record_files

    path = tmp_path / "metrics.jsonl"
    record_files.append_metrics(path, {"step": 1})
    before = path.read_bytes()
    original = os.write

    def half(descriptor, data):
        if len(data) < 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(descriptor, data[: len(data) - 5])

    monkeypatch.setattr(record_files.os, "write", half)
    with pytest.raises(OSError, match="No space left"):
        record_files.append_metrics(path, {"step": 2, "loss": 1.0})
    monkeypatch.undo()
    assert path.read_bytes() == before
    record_files.append_metrics(path, {"step": 2})
    assert [row["step"] for row in read_metrics(path)[0]] == [1, 2]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, of a size in bytes that can be changed."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(num_bytes, *options):
        words = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={num_bytes}", *options))]
        done = subprocess.run([*words, "tmpfs", str(folder)], check=False, capture_output=True)
        if done.returncode != 0:
            pytest.skip("mounting a small disk takes root")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


def test_a_disk_that_is_really_full_loses_nothing(tmp_path, small_disk, whole):
    train(tmp_path / "kept", output__keep_checkpoint=True)
    size = (tmp_path / "kept" / CHECKPOINT_FILE).stat().st_size
    # room for one checkpoint and half another, and for the records
    folder = small_disk(size + size // 2 + 300_000)
    outcome = train(folder / "run")
    failure = read_run(folder / "run").failure
    assert (outcome.exit_code, failure["class"]) == (1, "error")
    assert "No space left on device" in failure["message"]
    assert not [name for name in names(folder / "run") if name.endswith(".tmp")]
    assert find_start(folder / "run").step == 2
    small_disk(50_000_000, "remount")
    assert train(folder / "run").status == "finished"
    assert stable_rows(folder / "run") == whole.rows
    assert predictions(folder / "run") == whole.predictions
