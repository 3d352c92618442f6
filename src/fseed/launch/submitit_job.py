"""What a submitit job runs: one planned run, saved to its last step before the job is requeued.

submitit's own handler requeues in the middle of a step. Here the signal asks the run to stop; its
checkpoint is on disk before submitit's handler is called.
"""

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

from fseed.launch.attempts import Limits
from fseed.launch.cluster_run import Ended, StopSignals, run_here
from fseed.launch.job import Job

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

# Slurm sends SIGTERM right before the signal that means preemption
SIGNAL_GAP_SECONDS = 2.0
TERMINATED = 143  # exit code of a process that SIGTERM ended


@dataclass
class SubmittedRun:
    """The callable that submitit keeps in a file and calls again after a requeue."""

    job: Job
    limits: Limits
    environment: dict[str, str] = field(default_factory=dict)  # of its slot, on this machine

    def __call__(self) -> Ended:
        """Run to the end, or save and requeue the job, which leaves the process."""
        _leave_terminal()
        os.environ.update(self.environment)
        preemption = Preemption()
        try:
            with preemption:
                ended = run_here(self.job, self.limits)
                if ended.outcome.status != "interrupted":
                    return ended
                preemption.wait_for_signal()
        except KeyboardInterrupt:
            # before or after the run
            pass
        if preemption.is_asked:
            preemption.requeue()
        # no result is written: the scheduler alone knows whether this job comes back
        sys.exit(TERMINATED)

    def checkpoint(self) -> "DelayedSubmission":
        """Return what a requeued job runs: the same again, which resumes from its records."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Preemption(StopSignals):
    """Context in which submitit's signal, like SIGTERM and SIGINT, asks the run to stop."""

    def __init__(self) -> None:
        """Install nothing yet."""
        super().__init__()
        self.is_asked = False
        self._signal = preemption_signal()

    def __enter__(self) -> "Preemption":
        """Take the place of submitit's handlers."""
        super().__enter__()
        self._previous[self._signal] = signal.signal(self._signal, self._note)
        return self

    def wait_for_signal(self, seconds: float = SIGNAL_GAP_SECONDS) -> None:
        """Give the signal that may follow SIGTERM time to arrive."""
        end = time.monotonic() + seconds
        while not self.is_asked and time.monotonic() < end:
            time.sleep(0.05)

    def requeue(self) -> None:
        """Let submitit requeue the job, which ends the process.

        Raises:
            UncompletedJobError: when the job has been requeued too often.
        """
        self._previous[self._signal](self._signal, None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True
        # to whoever handles it now: the training loop, which ends its step, or ``_stop``
        signal.raise_signal(signal.SIGTERM)


def preemption_signal() -> signal.Signals:
    """Return the signal of submitit, USR2 unless ``SUBMITIT_PREEMPT_SIGNAL`` says otherwise."""
    from submitit import JobEnvironment

    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]


def _leave_terminal() -> None:
    """Keep a local job from the terminal's Ctrl-C, which the launcher turns into a request."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Slurm may track the processes of a job by their group
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        os.setpgid(0, 0)
