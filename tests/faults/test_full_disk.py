"""A real file system that is full to the last byte while something is written."""

import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fseed.planned_run import RunOutcome
from fseed.records import read_metrics, read_run
from fseed.training import checkpoint_file, records, run_log, runner
from fseed.training.runner import train_run
from tests.faults.sweeps import NUM_RUNS, digits, digits_of, run_dirs
from tests.training.build import plan, tiny_config

MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MiB; a sweep is not started where less than 16 MiB would be left."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"only root may mount a disk: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Take every byte that is left."""
    with open(disk / "filler", "ab", buffering=0) as file:
        for size in (MIB, 4096, 1):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def free(disk: Path) -> None:
    (disk / "filler").unlink(missing_ok=True)


# what is about to be written when the last byte goes
MOMENTS: dict[str, tuple[object, str, int]] = {
    "config.yaml": (runner, "write_config", 1),
    "provenance.json": (records, "write_json_atomic", 2),
    "first predictions": (run_log, "write_predictions", 1),
    "second predictions": (run_log, "write_predictions", 2),
    "first training row": (run_log, "append_metrics", 2),
    "later training row": (run_log, "append_metrics", 6),
    "first checkpoint": (checkpoint_file.SealedCheckpointIO, "save_checkpoint", 1),
    "second checkpoint": (checkpoint_file.SealedCheckpointIO, "save_checkpoint", 2),
}
QUICK = {"later training row", "second checkpoint"}


def train(folder: Path) -> RunOutcome:
    values = {"budget__checkpoint_every_steps": 2, "budget__eval_every_steps": 4}
    return train_run(plan(tiny_config(**values), folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    assert train(folder).status == "finished"
    return digits_of(folder)


def fill_before(monkeypatch: pytest.MonkeyPatch, moment: str, action: Callable[[], None]) -> None:
    """Call ``action`` right before the file of ``moment`` is written."""
    if moment == "result.json":
        write_result = records.write_json_atomic

        def write(path: Path, data: Any) -> None:
            if path.name == "result.json":
                action()
            write_result(path, data)

        monkeypatch.setattr(records, "write_json_atomic", write)
        return
    owner, name, number = MOMENTS[moment]
    original, calls = getattr(owner, name), []

    @functools.wraps(original)
    def counted(*args: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == number:
            action()
        return original(*args, **options)

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in (*MOMENTS, "result.json")
    ],
)
def test_a_full_disk_is_a_clear_failure_and_the_run_goes_on_later(
    disk: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch, moment: str, told: Any
) -> None:
    folder = disk / "run"
    fill_before(monkeypatch, moment, lambda: fill(disk))
    outcome = train(folder)
    assert (outcome.status, outcome.exit_code) == ("failed", 1)
    assert "No space left on device" in outcome.message
    check_nothing_is_half_written(folder)
    monkeypatch.undo()
    free(disk)
    assert train(folder).status == "finished"
    assert digits_of(folder) == whole
    told("1 of 1 resumed bit-equal")


def check_nothing_is_half_written(folder: Path) -> None:
    record = read_run(folder)
    assert record.status in ("failed", "unfinished"), record.reason
    if record.failure is not None:
        assert "No space left on device" in record.failure["message"]
    leftovers = [path.name for path in folder.glob(".*") if path.name != ".lock"]
    assert leftovers == []
    if (folder / "metrics.jsonl").exists():
        assert read_metrics(folder / "metrics.jsonl")[1] == []
    if (folder / "predictions.parquet").exists():
        record.predictions()
    for path in folder.glob("checkpoint*.ckpt"):
        checkpoint_file.check_seal(path)


def fill_at_row(disk: Path, number: int) -> None:
    """Fill the disk in this process when its metrics get their ``number``-th row."""
    append, calls = run_log.append_metrics, []

    def counted(path: Path, row: Any) -> None:
        calls.append(path)
        if len(calls) == number:
            fill(disk)
        append(path, row)

    run_log.append_metrics = counted


TWO_SLOTS = ("launcher=slots", "launcher.slots=2")


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), TWO_SLOTS], ids=["one", "slots"])
def test_a_sweep_on_a_disk_that_fills(
    disk: Path, tmp_path: Path, undisturbed: dict[str, Any], words: tuple[str, ...], told: Any
) -> None:
    from tests.faults.forks import Command

    # the log of the command stays outside
    root = tmp_path / "results"
    root.symlink_to(disk)
    first = Command(root, *words, prepare=functools.partial(fill_at_row, disk, 9))
    code = first.end()
    assert code == 1
    assert "No space left on device" in first.told
    for folder in run_dirs(root):
        assert read_run(folder).status in ("failed", "unfinished", "finished")
    refused = Command(root, *words)
    assert refused.end() == 2
    assert "stay free: free some" in refused.told.splitlines()[-1]
    free(disk)
    assert Command(root, *words).end() == 0
    assert digits(root) == undisturbed
    told(f"{NUM_RUNS} of {NUM_RUNS} runs bit-equal; the full disk is refused before a start")


def test_the_filler_leaves_no_byte(disk: Path) -> None:
    fill(disk)
    with pytest.raises(OSError, match="No space left"):
        (disk / "one").write_bytes(b"1")
    free(disk)
    (disk / "one").write_bytes(bytes(4096))
    assert os.path.getsize(disk / "one") == 4096
