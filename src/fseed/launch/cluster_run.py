"""One planned run in the process that a cluster's scheduler started for it."""

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from fseed.errors import UserError
from fseed.heartbeat import listening
from fseed.identity import code_fingerprint
from fseed.launch.attempts import Limits
from fseed.launch.endings import FAILURE_CLASSES, Ending
from fseed.launch.job import Job
from fseed.launch.resident import Resident, preload
from fseed.launch.train import train
from fseed.launch.worker import serve
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.provenance import redacted_output
from fseed.sweep.failures import failure_stamp, record_failure, write_lost_failure

WATCH_SECONDS = 0.5
STALL_OPTION = "(launcher.stall_minutes)"  # ends what failure.json says of a stalled run

INTERRUPTED = RunOutcome("interrupted", "stopped; the same command continues it", 130)


@dataclass(frozen=True)
class Ended:
    """How an attempt at a run ended, as its own process or its launcher tells it."""

    ending: Ending
    outcome: RunOutcome


def run_here(job: Job, limits: Limits, *, resident: Resident | None = None) -> Ended:
    """Run one job in this process; every end of it but that of the process is an answer.

    The limits are watched from inside: no launcher need be near. ``resident`` of a process that
    takes more than one job. Call it within ``StopSignals``.
    """
    stamp = failure_stamp(job.run)
    watch = Watch(limits, job.run)
    try:
        check_same_code(job.run)
        # the scheduler keeps what is printed
        with redacted_output(), watch:
            preload()
            outcome = serve(job, train=resident or Resident(train, is_resident=False))
    except UserError as error:
        outcome = RunOutcome("failed", str(error), 2)
    except KeyboardInterrupt:
        outcome = INTERRUPTED
    if watch.ended_by is None or outcome.status in ("finished", "skipped"):
        return Ended(Ending.answered, outcome)
    failure = FAILURE_CLASSES[watch.ended_by]
    record_failure(job.run, failure=failure, message=watch.message, stamp=stamp)
    return Ended(watch.ended_by, RunOutcome("failed", watch.message, 1))


def check_same_code(run: PlannedRun) -> None:
    """Raise UserError unless the code installed here is what the run was planned with."""
    installed = code_fingerprint()
    if installed != run.code_hash:
        raise UserError(
            f"the fseed installed where this run was to start (code {installed[:10]}) is not the "
            f"one that planned it (code {run.code_hash[:10]}); install the same on every machine"
        )


class StopSignals:
    """Context in which SIGINT and SIGTERM end what is no training yet; training has its own way."""

    def __init__(self) -> None:
        """Install nothing yet."""
        self._is_stopping = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Install the handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *exc: object) -> None:
        """Put the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        # a second signal must not cut off the end that the first one began
        if not self._is_stopping:
            self._is_stopping = True
            raise KeyboardInterrupt


class Watch:
    """Context that ends a run of this process by its limits: SIGTERM first, then SIGKILL."""

    def __init__(self, limits: Limits, run: PlannedRun) -> None:
        """Watch nothing yet."""
        self.limits, self.run = limits, run
        self.ended_by: Ending | None = None
        self.message = ""
        self._over = threading.Event()

    def __enter__(self) -> "Watch":
        """Start the clocks."""
        self._started = self._sign = time.monotonic()
        self._stamp = failure_stamp(self.run)
        self._signs = listening(self._take_sign)
        self._signs.__enter__()
        if self.limits.total is not None or self.limits.stall is not None:
            threading.Thread(target=self._watch, name="fseed-limits", daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop the clocks."""
        self._over.set()
        self._signs.__exit__(None, None, None)

    def _take_sign(self, facts: dict[str, Any]) -> None:
        self._sign = time.monotonic()

    def _watch(self) -> None:
        while not self._over.wait(WATCH_SECONDS):
            if self._is_due():
                os.kill(os.getpid(), signal.SIGTERM)
                if not self._over.wait(self.limits.grace):
                    self._end_process()
                return

    def _end_process(self) -> None:
        """Kill this process; its launcher reads why, and starts a stalled run again."""
        with suppress(OSError):
            told = {"failure": "timeout", "message": self.message, "told": ""}
            write_lost_failure(self.run, **told, stamp=self._stamp)
        os.kill(os.getpid(), signal.SIGKILL)

    def _is_due(self) -> bool:
        now, limits = time.monotonic(), self.limits
        if limits.total is not None and now - self._started >= limits.total:
            self.ended_by = Ending.timed_out
            minutes = f"{limits.total / 60:g} minutes (launcher.timeout_minutes)"
            self.message = f"took longer than {minutes}"
        elif limits.stall is not None and now - self._sign >= limits.stall:
            self.ended_by = Ending.stalled
            minutes = f"{limits.stall / 60:g} minutes {STALL_OPTION}"
            self.message = f"no sign of life for {minutes}"
        return self.ended_by is not None
