"""Real nano runs: the same records in slots and in the process of the command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fseed.records import read_metrics, read_run

WORDS = (
    *("task=rightcopy", "seed=0,1", "-m", "budget.steps=3", "budget.batch_size=2"),
    *("data.num_train=8", "data.num_validation=4", "trainer.progress=false"),
)
VOLATILE = {"seconds", "tokens_per_second", "memory_gib"}


def sweep(
    root: Path, *words: str, fs: str = "raw_l10", threads: int | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    environment["FSEED_OUTPUTS"] = str(root)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-m", "fseed.run", f"fs={fs}", *WORDS, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def records(root: Path) -> dict[str, tuple[object, ...]]:
    found = {}
    for path in sorted(root.rglob("result.json")):
        record = read_run(path.parent)
        rows, torn = read_metrics(path.parent / "metrics.jsonl")
        assert (record.status, torn) == ("finished", [])
        kept = [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]
        found[path.parent.name] = (kept, record.predictions().to_pylist())
    return found


def threads_of(root: Path) -> set[int]:
    provenances = [read_run(path.parent).provenance for path in root.rglob("result.json")]
    return {one["device"]["threads"] for one in provenances}


@pytest.mark.slow
def test_slots_and_one_process_write_the_same_records(tmp_path: Path) -> None:
    alone = sweep(tmp_path / "alone", "trainer.num_threads=1")
    slots = sweep(tmp_path / "slots", "launcher=slots", "launcher.slots=2")
    assert (alone.returncode, slots.returncode) == (0, 0), alone.stderr + slots.stderr
    assert len(records(tmp_path / "slots")) == 4
    assert records(tmp_path / "slots") == records(tmp_path / "alone")
    assert threads_of(tmp_path / "slots") == {1}
    # the second call finds everything, the table is the same
    again = sweep(tmp_path / "slots", "hydra/launcher=slots")
    assert "4 runs: 4 finished" in again.stdout


@pytest.mark.slow
def test_a_sweep_moves_to_another_launcher_half_way(tmp_path: Path) -> None:
    """What was begun with two threads ends with two, bit for bit as if it had not moved."""
    assert sweep(tmp_path / "alone", threads=2).returncode == 0
    assert sweep(tmp_path / "moved", fs="no_fs", threads=2).returncode == 0
    moved = sweep(tmp_path / "moved", "launcher=slots", "launcher.slots=2")
    assert moved.returncode == 0, moved.stderr
    assert "4 runs: 2 new, 2 finished" in moved.stdout
    assert records(tmp_path / "moved") == records(tmp_path / "alone")
    assert threads_of(tmp_path / "moved") == {2}
