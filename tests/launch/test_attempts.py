"""The clocks of an attempt, on a clock of the test's own."""

from pathlib import Path
from typing import Any

import pytest

from fseed.launch.attempts import Attempt, Limits
from fseed.launch.endings import Ending
from fseed.launch.job import Job
from fseed.launch.messages import Answer
from tests.launch.jobs import make_jobs


class Worker:
    """A worker that says what it is told to say, and keeps what is asked of it."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[str] = []

    def send(self, job: Job) -> None:
        self.asked.append("send")

    def read(self) -> list[Answer]:
        answers, self.answers = self.answers, []
        return answers

    def ask_to_stop(self) -> None:
        self.asked.append("stop")

    def kill(self) -> None:
        self.asked.append("kill")


class Bench:
    def __init__(self, root: Path, **limits: Any) -> None:
        self.now, self.worker = 100.0, Worker()
        worker: Any = self.worker
        limit = Limits(**{"total": None, "stall": None, "grace": 5.0, **limits})
        job = make_jobs(root, "fine")[0]
        self.attempt = Attempt(job, worker, limit, clock=lambda: self.now)

    def at(self, seconds: float, *, sign: bool = False) -> list[str]:
        """Look after the attempt so many seconds after its start; return what was asked."""
        self.now = 100.0 + seconds
        if sign:
            self.worker.answers.append(Answer({"state": "training"}))
        self.attempt.listen()
        self.attempt.watch()
        return self.worker.asked[1:]


def test_no_limit_is_no_end(tmp_path: Path) -> None:
    assert Bench(tmp_path).at(1e9) == []


def test_the_total_counts_whatever_the_signs(tmp_path: Path) -> None:
    bench = Bench(tmp_path, total=60.0)
    assert bench.at(59.9, sign=True) == []
    assert bench.at(60.0, sign=True) == ["stop"]
    assert bench.attempt.ended_by is Ending.timed_out


def test_every_sign_starts_the_stall_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stall=10.0)
    for seconds in (9.0, 18.0, 27.0):
        assert bench.at(seconds, sign=True) == []
    assert bench.at(36.9) == []
    assert bench.at(37.0) == ["stop"]
    assert (bench.attempt.ended_by, bench.attempt.state) == (Ending.stalled, "stalled")


def test_after_the_grace_it_is_killed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, total=60.0)
    assert bench.at(60.0) == bench.at(64.9) == ["stop"]
    assert bench.at(65.0) == ["stop", "kill"]


@pytest.mark.parametrize("minutes", [None, 2.0])
def test_limits_are_minutes_in_the_options(minutes: float | None) -> None:
    from fseed.config.schema import LauncherConfig

    limits = Limits.of(LauncherConfig(timeout_minutes=minutes, grace_seconds=7.0))
    assert (limits.total, limits.stall) == (None if minutes is None else 120.0, None)
    assert limits.grace == 7.0
