"""Runs on machines that somebody else schedules: each job once, every end an outcome.

What Ray and submitit share: feeding jobs within a bound, retries of what was lost, Ctrl-C.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console

from fseed.config.schema import LauncherConfig
from fseed.lasting_console import LastingConsole
from fseed.launch.cluster_run import INTERRUPTED, STALL_OPTION, Ended
from fseed.launch.endings import FAILURE_CLASSES, Ending, Rule, decide_retry
from fseed.launch.job import Job
from fseed.launch.live_table import RunTable
from fseed.launch.stop_request import StopRequest
from fseed.planned_run import RunOutcome
from fseed.records import read_run
from fseed.sweep.failures import failure_class, failure_stamp, record_failure
from fseed.sweep.plan import is_finished

STOPPING = "stopping: every run saves and ends; Ctrl-C again ends them at once"


class Cluster(Protocol):
    """Where runs are started; jobs go by their number among all jobs of the launch."""

    def room(self, num_running: int) -> int:
        """Return how many more jobs may be started now."""
        ...

    def start(self, jobs: Mapping[int, Job]) -> None:
        """Start these jobs; RuntimeError or OSError when they are refused."""
        ...

    def poll(self) -> Iterable[tuple[int, Ended]]:
        """Wait a moment; return the jobs that have ended."""
        ...

    def ask_to_stop(self) -> None:
        """Ask every running job to save itself and end."""
        ...

    def kill(self) -> None:
        """End every running job."""
        ...


def run_on(
    cluster: Cluster,
    jobs: Sequence[Job],
    options: LauncherConfig,
    *,
    console: Console | None = None,
) -> list[RunOutcome]:
    """Run every job on ``cluster``; one outcome each, in order. Call it from the main thread.

    Raises:
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when every run has saved and ended.
    """
    table = RunTable(console or LastingConsole(stderr=True), jobs)
    pool = ClusterPool(cluster, jobs, table, options.retries, options.grace_seconds)
    with StopRequest() as stop:
        try:
            pool.run(stop)
        finally:
            table.close()
    if stop.count:
        table.say(table.summary(pool.outcomes.values(), num_waiting=len(pool.waiting)))
        raise KeyboardInterrupt
    return [pool.outcomes.get(number, INTERRUPTED) for number in range(len(jobs))]


@dataclass
class ClusterPool:
    """Which jobs wait, which run, and how the others ended."""

    cluster: Cluster
    jobs: Sequence[Job]
    table: RunTable
    retries: int
    grace_seconds: float
    outcomes: dict[int, RunOutcome] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    _num_retries: dict[int, int] = field(default_factory=dict)
    _not_before: dict[int, float] = field(default_factory=dict)
    _stamps: dict[int, int | None] = field(default_factory=dict)
    _stop_before: float = math.inf  # end of the grace

    def __post_init__(self) -> None:
        """Let every job wait."""
        self.waiting = deque(range(len(self.jobs)))

    def run(self, stop: StopRequest) -> None:
        """Work until nothing is left, or until all have stopped after a signal."""
        try:
            while self.running or (self.waiting and not stop.count):
                if not stop.count:
                    self._start_due()
                elif not self.table.is_stopping:
                    self.table.stopping(STOPPING)
                    self.cluster.ask_to_stop()
                    self._stop_before = time.monotonic() + self.grace_seconds
                if stop.is_urgent or time.monotonic() >= self._stop_before:
                    break
                for number, ended in self.cluster.poll():
                    self._settle(number, ended, is_stopping=stop.count > 0)
        finally:
            if self.running:
                self.cluster.kill()

    def _start_due(self) -> None:
        now = time.monotonic()
        due = [number for number in self.waiting if self._not_before.get(number, now) <= now]
        numbers = due[: self.cluster.room(len(self.running))]
        if not numbers:
            return
        for number in numbers:
            self.waiting.remove(number)
        self._stamps |= {number: failure_stamp(self.jobs[number].run) for number in numbers}
        for number in numbers:
            self.table.say(f"{self.jobs[number].title} submitted")
        self.running |= set(numbers)
        try:
            self.cluster.start({number: self.jobs[number] for number in numbers})
        except (RuntimeError, OSError) as error:
            for number in numbers:
                self._settle(number, refusal(error), is_stopping=False)

    def _settle(self, number: int, ended: Ended, *, is_stopping: bool) -> None:
        """Keep the outcome of an attempt, or let its job wait again."""
        job = self.jobs[number]
        self.running.discard(number)
        is_told = failure_stamp(job.run) != self._stamps.get(number)
        if ended.ending is not Ending.answered:
            ended = self._reread(job, is_told=is_told) or ended
        outcome = ended.outcome
        rule = Rule(False, "it ended by itself")
        num_left = self.retries - self._num_retries.get(number, 0)
        if outcome.status in ("failed", "interrupted"):
            failure = failure_class(job.run) if is_told else None
            rule = decide_retry(ended.ending, failure=failure, num_left=num_left)
        if rule.is_retried and not is_stopping:
            self._num_retries[number] = self._num_retries.get(number, 0) + 1
            self._not_before[number] = time.monotonic() + rule.wait_seconds
            self.waiting.append(number)
            self.table.retried(job, None, outcome, rule.reason)
            return
        if ended.ending is not Ending.answered and outcome.status == "failed":
            kind = FAILURE_CLASSES.get(ended.ending, "error")
            stamp = self._stamps.get(number)
            record_failure(job.run, failure=kind, message=outcome.message, stamp=stamp)
        self.outcomes[number] = outcome
        self.table.ended(job, None, outcome)

    def _reread(self, job: Job, *, is_told: bool) -> Ended | None:
        """Return what the records of a lost process say of its end: they count."""
        if is_finished(job.run):
            return Ended(Ending.answered, RunOutcome("finished", str(job.run.run_dir), 0))
        failure = read_run(job.run.run_dir).failure if is_told else None
        if failure is None or failure["class"] == "interrupted":
            return None
        message = str(failure["message"])
        is_stalled = failure["class"] == "timeout" and message.endswith(STALL_OPTION)
        ending = Ending.stalled if is_stalled else Ending.answered
        return Ended(ending, RunOutcome("failed", message, 1))


def refusal(error: Exception) -> Ended:
    """Return the end of a run that could not be handed over."""
    return Ended(Ending.exited, RunOutcome("failed", f"not started: {last_line(error)}", 1))


def last_line(error: Exception) -> str:
    """Return the last line of a message that may hold a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
    return lines[-1] if lines else type(error).__name__
