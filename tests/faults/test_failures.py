"""Memory, NaN, hanging steps, limits and lost workers in one run of a sweep in two slots."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fseed.records import read_run
from tests.faults import injected
from tests.faults.sweeps import NUM_RUNS, digits, run_dirs, starts

SLOTS = ("launcher=slots", "launcher.slots=2", "launcher.grace_seconds=1")


def victim(root: Path) -> Path:
    return next(folder for folder in run_dirs(root) if is_victim(folder))


def is_victim(folder: Path) -> bool:
    return folder.name.startswith(injected.VICTIM) and "scalar_l10" in folder.parent.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "words", "failure", "message"),
    [
        (injected.run_out_of_gpu_memory, (), "oom", "out of memory"),
        (injected.run_out_of_memory, (), "oom", "one sample at a time"),
        (injected.poison, (), "nan", "the loss is nan at step 6"),
        (injected.crawl, ("launcher.timeout_minutes=0.25",), "timeout", "longer than 0.25 minutes"),
    ],
)
def test_a_run_that_fails_by_itself_is_not_tried_again(
    tmp_path: Path,
    sweep: Any,
    undisturbed: dict[str, Any],
    told: Any,
    action: Callable[[Any], object],
    words: tuple[str, ...],
    failure: str,
    message: str,
) -> None:
    root = tmp_path / "results"
    first = sweep(*SLOTS, *words, prepare=functools.partial(injected.at_step, action))
    assert first.end() == 1, first.told
    record = read_run(victim(root))
    assert record.failure is not None
    assert record.failure["class"] == failure
    assert message in record.failure["message"] or failure == "oom", record.failure["message"]
    assert "tried again" not in first.told
    others = {folder.name: read_run(folder).status for folder in run_dirs(root)}
    assert sorted(others.values()) == ["failed", "finished", "finished", "finished"]
    # the cause is gone
    assert sweep(*SLOTS).end() == 0
    expected = dict(undisturbed)
    found = digits(root)
    if failure == "oom":
        # goes on with fewer samples at a time, on record: the last bits of sums may differ
        name = victim(root).name
        assert read_run(victim(root)).result["memory_splits"]
        expected.pop(name), found.pop(name)
    assert found == expected
    told(f"class {failure}, not tried again; {len(found)} of {NUM_RUNS} bit-equal after it")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "words", "reason"),
    [
        (injected.hang, ("launcher.stall_minutes=0.25",), "no sign of life for 0.25 minutes"),
        (injected.die, (), "signal 9 (SIGKILL) from outside"),
    ],
)
def test_a_run_that_was_lost_is_tried_again(
    tmp_path: Path,
    sweep: Any,
    undisturbed: dict[str, Any],
    told: Any,
    action: Callable[[Any], object],
    words: tuple[str, ...],
    reason: str,
) -> None:
    root = tmp_path / "results"
    once = functools.partial(injected.at_step, action, tmp_path / "once")
    only = sweep(*SLOTS, *words, prepare=once)
    assert only.end() == 0, only.told
    assert "tried again" in " ".join(only.told.split())
    assert reason in " ".join(only.told.split())
    assert digits(root) == undisturbed
    assert [start["from_step"] for start in starts(victim(root))] == [0, 4]
    told(f"tried again once, {NUM_RUNS} of {NUM_RUNS} bit-equal in one command")
