"""One attempt at one run: its worker, its clocks, and what came of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fseed.config.schema import LauncherConfig
from fseed.launch.endings import FAILURE_CLASSES, Ending, classify_exit
from fseed.launch.job import Job
from fseed.launch.leftovers import count_memory_kills
from fseed.launch.process import WorkerProcess
from fseed.planned_run import RunOutcome
from fseed.record_schema import WORKER_LOG
from fseed.sweep.failures import failure_stamp, record_failure
from fseed.sweep.plan import is_finished

TOLD_LINES = 20
EXIT_SECONDS = 20.0  # a worker that has answered may take to leave

Clock = Callable[[], float]


@dataclass
class Limits:
    """Seconds on the monotonic clock; None: no limit."""

    total: float | None
    stall: float | None
    grace: float

    @classmethod
    def of(cls, options: LauncherConfig) -> "Limits":
        """Return the limits that the options name."""
        minutes = (options.timeout_minutes, options.stall_minutes)
        total, stall = (None if each is None else 60.0 * each for each in minutes)
        return cls(total, stall, options.grace_seconds)


@dataclass
class Attempt:
    """A job in a worker. ``state`` and ``facts`` are what the run told last."""

    job: Job
    worker: WorkerProcess
    limits: Limits
    clock: Clock = time.monotonic
    state: str = "starting"
    facts: dict[str, Any] = field(default_factory=dict)
    outcome: RunOutcome | None = None
    ended_by: Ending | None = None  # why the launcher ends it, where it does
    started: float = field(init=False)
    _sign: float = field(init=False)
    _stop_before: float | None = None  # end of the grace
    _answered: float | None = None
    _num_memory_kills: int = field(init=False)
    _stamp: int | None = field(init=False)

    def __post_init__(self) -> None:
        """Start the clocks and hand the job over."""
        self.started = self._sign = self.clock()
        self._num_memory_kills = count_memory_kills()
        self._stamp = failure_stamp(self.job.run)
        self.worker.send(self.job)

    @property
    def seconds(self) -> float:
        """How long the attempt has taken."""
        return self.clock() - self.started

    def listen(self) -> None:
        """Take in what the worker has told."""
        for answer in self.worker.read():
            self._sign = self.clock()
            self.outcome = answer.outcome or self.outcome
            self.facts.update(answer.facts)
        if self._stop_before is None:
            self.state = str(self.facts.get("state", self.state))

    def watch(self) -> None:
        """Ask a run to stop that takes or is silent too long; kill one that does not stop."""
        if self._stop_before is not None:
            if self.clock() >= self._stop_before:
                self.worker.kill()
        elif self.limits.total is not None and self.seconds >= self.limits.total:
            self.stop(Ending.timed_out)
        elif self.limits.stall is not None and self.clock() - self._sign >= self.limits.stall:
            self.stop(Ending.stalled)

    def stop(self, why: Ending | None = None) -> None:
        """Let the run save and end within the grace; ``why`` where a limit is the reason."""
        if self._stop_before is not None:
            return
        self.state = "stopping" if why is None else why.value.replace("_", " ")
        self.ended_by, self._stop_before = why, self.clock() + self.limits.grace
        self.worker.ask_to_stop()

    @property
    def can_go_on(self) -> bool:
        """Whether the worker has done its run well, stays, and may take another."""
        has_done = self.outcome is not None and self.outcome.status in ("finished", "skipped")
        return has_done and not self.facts.get("leaves") and not self.is_stopping

    def hurry(self) -> None:
        """Let a process that has answered leave; kill one that does not."""
        if self.outcome is None:
            return
        if self._answered is None:
            self._answered = self.clock()
            # one that takes several runs waits for the next
            self.worker.close()
        elif self.clock() - self._answered >= EXIT_SECONDS:
            self.worker.kill()

    @property
    def is_stopping(self) -> bool:
        """Whether the run has been asked to stop."""
        return self._stop_before is not None

    def conclude(self, code: int | None) -> tuple[Ending, RunOutcome]:
        """Return how the attempt ended, for a worker that has answered or left with ``code``.

        What lies on disk counts: a run that has finished is finished, whatever ended its process.
        """
        self.listen()
        if self.outcome is not None and self.outcome.status in ("finished", "skipped"):
            return Ending.answered, self.outcome
        if is_finished(self.job.run):
            return Ending.answered, RunOutcome("finished", str(self.job.run.run_dir), 0)
        if self.ended_by is not None:
            return self._fail(self.ended_by, self._why_ended())
        if self.outcome is not None:
            return Ending.answered, self.outcome
        assert code is not None
        if self.is_stopping:
            return Ending.answered, RunOutcome("interrupted", "stopped", 130)
        kills = count_memory_kills() > self._num_memory_kills
        ending, words = classify_exit(code, is_out_of_memory=kills)
        return self._fail(ending, f"the process of the run {words}")

    def _why_ended(self) -> str:
        if self.ended_by is Ending.timed_out:
            assert self.limits.total is not None
            return f"took longer than {self.limits.total / 60:g} minutes (launcher.timeout_minutes)"
        assert self.limits.stall is not None
        return (
            f"no sign of life for {self.limits.stall / 60:g} minutes (launcher.stall_minutes), "
            f"last seen {self.facts.get('state', 'starting')}"
        )

    def _fail(self, ending: Ending, message: str) -> tuple[Ending, RunOutcome]:
        words = self._last_words()
        record_failure(
            self.job.run,
            failure=FAILURE_CLASSES.get(ending, "error"),
            message=message,
            told=words,
            stamp=self._stamp,
        )
        last = words.splitlines()[-1] if ending is Ending.exited and words else ""
        return ending, RunOutcome("failed", f"{message}: {last}" if last else message, 1)

    def _last_words(self) -> str:
        """Return the end of the run's own output, else of what its process wrote before it."""
        try:
            log = (self.job.run.run_dir / WORKER_LOG).read_text("utf-8", errors="replace")
        except OSError:
            log = ""
        return "\n".join(log.splitlines()[-TOLD_LINES:]) or self.worker.last_words()
