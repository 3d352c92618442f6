import os
import signal

import pytest

from fseed.results import beside as module
from fseed.results.beside import MIN_RUNS, beside


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "num_cores", lambda: 2)


def test_the_work_is_done_in_a_copy() -> None:
    told = {"a": [1, 2.5]}
    wait = beside(lambda: (os.getpid(), told), num_runs=MIN_RUNS)
    pid, found = wait()
    assert pid != os.getpid()
    assert found == told


def test_with_few_runs_or_one_core_it_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert beside(os.getpid, num_runs=MIN_RUNS - 1)() == os.getpid()
    monkeypatch.setattr(module, "num_cores", lambda: 1)
    assert beside(os.getpid, num_runs=MIN_RUNS)() == os.getpid()


def test_the_work_of_a_killed_copy_is_done_here() -> None:
    here = os.getpid()

    def work() -> int:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    assert beside(work, num_runs=MIN_RUNS)() == here


def test_what_fails_raises_here(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise OSError("no room")

    wait = beside(work, num_runs=MIN_RUNS)
    with pytest.raises(OSError, match="no room"):
        wait()
    assert capfd.readouterr() == ("", "")
