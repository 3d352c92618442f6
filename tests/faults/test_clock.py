"""A wall clock that jumps by days at every look, and file times that do: nothing may notice."""

import functools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fseed.records import read_metrics
from fseed.training.runner import train_run
from tests.faults import injected
from tests.faults.sweeps import NUM_RUNS, digits, digits_of, run_dirs
from tests.growing_logs import count_rows
from tests.training.build import plan, tiny_config

LIMITS = ("launcher.timeout_minutes=10", "launcher.stall_minutes=5")
SLOTS = ("launcher=slots", "launcher.slots=2", "launcher.reuse=true", *LIMITS)


def seconds_of(folder: Path) -> list[float]:
    return [row["seconds"] for row in read_metrics(folder / "metrics.jsonl")[0]]


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), SLOTS], ids=["one", "slots"])
def test_a_sweep_under_a_jumping_clock(
    tmp_path: Path, sweep: Any, undisturbed: dict[str, Any], words: tuple[str, ...], told: Any
) -> None:
    root = tmp_path / "results"
    stopped = sweep(*words, prepare=functools.partial(injected.jump_clock, 1))
    wait_for_rows(root, 20)
    os.kill(stopped.pid, signal.SIGTERM)
    assert stopped.end() in (0, 130)
    second = sweep(*words, prepare=functools.partial(injected.jump_clock, 2))
    assert second.end() == 0, second.told
    assert digits(root) == undisturbed
    assert all(0 <= each < 600 for folder in run_dirs(root) for each in seconds_of(folder))
    third = sweep(*words, prepare=functools.partial(injected.jump_clock, 3))
    assert third.end() == 0
    assert f"{NUM_RUNS} runs: {NUM_RUNS} finished" in third.told
    told(f"{NUM_RUNS} of {NUM_RUNS} bit-equal, no limit reached")


def wait_for_rows(root: Path, number: int) -> None:
    deadline = time.monotonic() + 120
    while count_rows(root) < number:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_under_a_jumping_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, jumped = (plan(tiny_config(), tmp_path / name) for name in ("whole", "jumped"))
    assert train_run(whole).status == "finished"
    for owner, name in ((time, "time"), (time, "time_ns"), (os, "replace")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    injected.jump_clock(4)
    assert time.time() != pytest.approx(time.time(), abs=60)
    assert train_run(jumped).status == "finished"
    monkeypatch.undo()
    assert digits_of(jumped.run_dir) == digits_of(whole.run_dir)
    assert all(0 <= each < 600 for each in seconds_of(jumped.run_dir))
