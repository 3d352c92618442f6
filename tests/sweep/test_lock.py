import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fseed.sweep.lock import LOCK_FILE, RunLocked, find_lock_holder, run_lock

HOLD = """
import sys, time
from pathlib import Path
from fseed.sweep.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

CONTEND = """
import os, sys
from pathlib import Path
from fseed.sweep.lock import RunLocked, run_lock
folder, won = Path(sys.argv[1]), 0
for _ in range(300):
    try:
        with run_lock(folder / "run"):
            # the process that made the file is the only one that may remove it
            marker = folder / "inside"
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            marker.unlink()
            won += 1
    except RunLocked:
        pass
print(won)
"""


@contextmanager
def holder(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(run_dir)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def test_a_run_is_held_by_one_process(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with holder(run_dir) as process:
        assert find_lock_holder(run_dir) == process.pid
        message = f"in use by process {process.pid}"
        with pytest.raises(RunLocked, match=message), run_lock(run_dir):
            pytest.fail("two holders")
        assert find_lock_holder(run_dir) == process.pid


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with holder(run_dir) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (run_dir / LOCK_FILE).exists()
    assert find_lock_holder(run_dir) is None
    with run_lock(run_dir):
        assert (run_dir / LOCK_FILE).read_text() == str(os.getpid())


def test_a_process_does_not_take_its_own_lock_twice(tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"):
        assert find_lock_holder(tmp_path / "run") == os.getpid()
        with pytest.raises(RunLocked), run_lock(tmp_path / "run"):
            pytest.fail("two holders")
        # the refused attempt must not have dropped the lock
        code = "import sys; from pathlib import Path; from fseed.sweep.lock import *; "
        code += "print(find_lock_holder(Path(sys.argv[1])))"
        command = [sys.executable, "-c", code, str(tmp_path / "run")]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert int(told) == os.getpid()


def test_nothing_is_left_of_a_run_that_wrote_nothing(tmp_path: Path) -> None:
    with run_lock(tmp_path / "a" / "b" / "run"):
        pass
    assert list(tmp_path.parent.glob(f"{tmp_path.name}/*")) == []


def test_records_outlive_the_lock(tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"):
        (tmp_path / "run" / "result.json").write_text("{}")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["result.json"]


def test_looking_for_a_holder_creates_nothing(tmp_path: Path) -> None:
    assert find_lock_holder(tmp_path / "run") is None
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_processes_that_contend_never_hold_together(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CONTEND, str(tmp_path)]
    pipe = subprocess.PIPE
    pair = [subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    results = [process.communicate() for process in pair]
    assert [error for _, error in results] == ["", ""]
    assert sum(int(text) for text, _ in results) >= 300


@pytest.mark.parametrize(("num_parents", "left"), [(0, ["a", "a/b"]), (1, ["a"]), (4, [])])
def test_empty_folders_above_are_removed_as_far_as_asked(
    tmp_path: Path, num_parents: int, left: list[str]
) -> None:
    (tmp_path / "kept").touch()
    with run_lock(tmp_path / "a" / "b" / "run", num_parents=num_parents):
        pass
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert found == [*left, "kept"]
