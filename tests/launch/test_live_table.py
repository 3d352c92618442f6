import io
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from fseed.lasting_console import LastingConsole
from fseed.launch.job import Job
from fseed.launch.live_table import RunTable, build_table, cells
from fseed.launch.slots import Slot
from fseed.planned_run import RunOutcome
from tests.launch.jobs import make_jobs

FACTS = {"state": "training", "step": 3, "num_steps": 40, "loss": 1.25, "tokens_per_second": 4321.0}


def attempt(job: Job, *, slot: Slot | None = None, **facts: Any) -> Any:
    worker = SimpleNamespace(slot=slot or Slot(0, 1))
    state = facts.get("state", "starting")
    return SimpleNamespace(job=job, worker=worker, facts=facts, seconds=83.0, state=state)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_jobs(tmp_path, "raw_l10")[0]


def table_of(job: Job, *, terminal: bool) -> tuple[RunTable, io.StringIO]:
    text = io.StringIO()
    return RunTable(Console(file=text, width=120, force_terminal=terminal), [job]), text


def test_a_row_shows_what_the_run_told_last(job: Job) -> None:
    slot = Slot(3, 1, ("GPU-1",))
    shown = cells(attempt(job, slot=slot, **FACTS))
    assert shown == (
        *("3 gpu GPU-1", "hotpot", "raw_l10", "0", "3/40"),
        *("1.250", "4,321", "1:23", "training"),
    )
    assert cells(attempt(job))[4:] == ("", "", "", "1:23", "starting")


def test_rows_stand_in_the_order_of_their_slots(job: Job) -> None:
    rows = [attempt(job, slot=Slot(number, 1)) for number in (10, 2, 0)]
    assert [str(cell) for cell in build_table(rows).columns[0].cells] == ["0", "2", "10"]


def test_elsewhere_than_on_a_terminal_every_change_is_a_line(job: Job) -> None:
    table, text = table_of(job, terminal=False)
    one = attempt(job, **FACTS)
    table.started(one)
    table.update([one], 0)
    table.retried(job, one, RunOutcome("failed", "gone", 1), "it was lost")
    table.ended(job, one, RunOutcome("finished", "", 0))
    table.close()
    assert text.getvalue().splitlines() == [
        "1/1  hotpot raw_l10 seed 0 started in slot 0",
        "1/1  hotpot raw_l10 seed 0 lost after 1:23: gone; tried again, as it was lost",
        "1/1  hotpot raw_l10 seed 0 finished after 1:23  loss 1.250  4,321 tok/s",
    ]


def test_a_terminal_gets_the_table(job: Job) -> None:
    table, text = table_of(job, terminal=True)
    one = attempt(job, **FACTS)
    table.started(one)
    assert text.getvalue() == ""
    table.update([one], 5)
    assert "3/40" in text.getvalue()
    assert "5 waiting" in text.getvalue()
    table.close()


def test_without_progress_only_problems_are_told(job: Job) -> None:
    trainer = replace(job.run.config.trainer, progress=False)
    job = replace(job, run=replace(job.run, config=replace(job.run.config, trainer=trainer)))
    table, text = table_of(job, terminal=True)
    one = attempt(job, **FACTS)
    table.started(one)
    table.update([one], 0)
    table.ended(job, one, RunOutcome("finished", "", 0))
    assert text.getvalue() == ""
    table.ended(job, one, RunOutcome("failed", "no [b]memory[/b]", 1))
    assert "failed after 1:23: no [b]memory[/b]" in text.getvalue()


class Reader:
    """Somebody who reads what is printed, and goes."""

    def __init__(self, kind: str) -> None:
        self._ours, theirs = os.openpty() if kind == "terminal" else os.pipe()
        self.stream = open(theirs, "w", encoding="utf-8")  # noqa: SIM115 (closed by clear)

    def go(self) -> None:
        os.close(self._ours)

    def clear(self) -> None:
        with suppress(OSError):
            self.stream.close()


@pytest.fixture(params=["terminal", "pipe"])
def reader(request: pytest.FixtureRequest) -> Iterator[Reader]:
    started = Reader(request.param)
    yield started
    started.clear()


@pytest.mark.parametrize("num_redraws", [0, 1])
@pytest.mark.parametrize("is_redrawn", [False, True])
def test_a_reader_that_goes_changes_nothing(
    job: Job, reader: Reader, num_redraws: int, is_redrawn: bool
) -> None:
    """Before the table is drawn, or while it stands there."""
    console = LastingConsole(file=reader.stream, width=120, force_terminal=is_redrawn)
    table, one = RunTable(console, [job]), attempt(job, **FACTS)
    for _ in range(num_redraws):
        table.update([one], 1)
    reader.go()
    table.started(one)
    table.stopping("stopping")
    table.update([one], 1)
    table.ended(job, one, RunOutcome("interrupted", "saved", 130))
    table.close()
    table.say(table.summary([RunOutcome("interrupted", "saved", 130)], num_waiting=1))
    assert table.is_stopping
