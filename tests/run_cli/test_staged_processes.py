"""A staged sweep that really trains, killed by the system and continued."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fseed.records import read_run
from fseed.results.staged_files import read_decisions

WORDS = (
    *("task=rightcopy", "fs=raw_l10", "sweep=staged", "-m", "sweep.controls=false"),
    *("sweep.rule=threshold", "sweep.quick_threshold=-1", "sweep.medium_threshold=-1"),
    *("sweep.quick_seeds=1", "sweep.medium_seeds=1", "sweep.confirm_seeds=5"),
    *("budget.steps=2", "budget.batch_size=2"),
    *("data.num_train=8", "data.num_validation=4", "data.num_test=4", "trainer.num_threads=1"),
)


def start(root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fseed.run", *WORDS]
    pipe = subprocess.PIPE
    environment = os.environ | {"FSEED_OUTPUTS": str(root)}
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def results(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("result.json")}


@pytest.mark.slow
def test_kill_9_and_the_same_command_end_in_one_report(tmp_path: Path) -> None:
    with start(tmp_path) as process:
        deadline = time.monotonic() + 300
        while len(results(tmp_path)) < 3 and time.monotonic() < deadline:
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    before = results(tmp_path)
    assert 3 <= len(before) < 14
    with start(tmp_path) as process:
        out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "resumed: " in out
    after = results(tmp_path)
    assert len(after) == 2 + 2 + 10
    assert before.items() <= after.items()
    splits = {
        path.parts[-4]: {
            entry["split"] for entry in (read_run(path.parent).result or {})["evaluations"]
        }
        for path in after
    }
    assert splits["quick"] == {"validation"}
    assert "test" in splits["confirm"]
    assert [(d.stage, d.state) for d in read_decisions(tmp_path / "default")] == [
        *(("quick", "passed"), ("medium", "passed"))
    ]
    assert (tmp_path / "default" / "tables" / "report.html").is_file()
