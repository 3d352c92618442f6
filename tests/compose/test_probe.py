"""The memory probe in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fseed.compose import probe
from fseed.compose.probe import measure
from fseed.planned_run import PlannedRun
from fseed.sweep.staged.probe_file import ProbeFailed
from tests.sweep.staged.sweeps import Bench


@pytest.fixture
def run(tmp_path: Path) -> PlannedRun:
    words = ("task=sudoku4", "budget.batch_size=2", "budget.eval_batch_size=2")
    bench = Bench(tmp_path, *words, tasks=("sudoku4",))
    book = bench.build().book
    return next(book.run(slot, seed=0) for slot in book._entries if slot.arm == "raw_l10")


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let another program answer in place of the probe."""
    real = subprocess.run

    def run(command: list[str], **named: Any) -> Any:
        return real([sys.executable, "-c", code, command[-1]], **named)

    monkeypatch.setattr(probe.subprocess, "run", run)


@pytest.mark.slow
def test_a_probe_measures_a_real_step(run: PlannedRun) -> None:
    found = measure(run)
    assert (found.arm, found.micro_batch_size, found.reserved_gib) == ("raw_l10", 2, None)
    assert 0.1 < found.peak_gib < 4
    assert found.seconds_per_step > 0
    assert not run.run_dir.exists()


def test_the_answer_is_read_from_the_file(run: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = '{"micro_batch_size": 1, "peak_gib": 2.5, "seconds_per_step": 3, '
    answer += '"tokens_per_second": 4}'
    stand_in(monkeypatch, f"import sys; print('noise'); open(sys.argv[1], 'w').write('{answer}')")
    found = measure(run)
    assert (found.arm, found.micro_batch_size, found.peak_gib) == ("raw_l10", 1, 2.5)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; print('a\\nlast word', file=sys.stderr); sys.exit(2)", "failed: last word"),
        ("import sys; sys.exit(1)", "the probe failed: no message"),
        ("import os; os.kill(os.getpid(), 9)", r"ended by signal 9"),
        ("import time; time.sleep(60)", "took over 2 s"),
    ],
)
def test_every_other_end_is_a_reason(
    run: PlannedRun, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    stand_in(monkeypatch, code)
    with pytest.raises(ProbeFailed, match=told):
        measure(run, timeout_seconds=2)


@pytest.mark.slow
def test_a_run_that_cannot_work_is_one_line(run: PlannedRun) -> None:
    """The real program, with a device that is not there."""
    if os.path.exists("/dev/nvidia0"):
        pytest.skip("this machine has a GPU")
    from dataclasses import replace

    from fseed.config.schema import Accelerator

    trainer = replace(run.config.trainer, accelerator=Accelerator.gpu)
    with pytest.raises(ProbeFailed, match="the probe failed: trainer asks for a GPU"):
        measure(replace(run, config=replace(run.config, trainer=trainer)))
