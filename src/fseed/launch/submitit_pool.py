"""Planned runs as submitit jobs: processes of this machine, or arrays of a Slurm cluster.

submitit keeps each job in a file, starts it, requeues it when it was preempted, and reads its
answer. Here stand the bounds that it lacks: local jobs wait for a free slot, arrays stay below the
largest that Slurm takes, and a job that ends without an answer is an outcome of its run.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from fseed.config.schema import LauncherConfig
from fseed.launch.attempts import Limits
from fseed.launch.cluster_pool import last_line, run_on
from fseed.launch.cluster_run import INTERRUPTED, Ended
from fseed.launch.endings import Ending
from fseed.launch.job import Job
from fseed.launch.slots import Slot, plan_slots
from fseed.launch.submitit_job import SubmittedRun
from fseed.planned_run import RunOutcome
from fseed.sweep.lock import find_lock_holder

# Slurm's own default of MaxArraySize is 1001
MAX_ARRAY = 1000
POLL_SECONDS = 0.5
RESULT_SECONDS = 2  # for the file of a job that has ended to appear on a slow disk

# how Slurm's states of jobs without an answer are to be taken; any other: they left by themselves
ENDINGS = {
    **{"NODE_FAIL": Ending.node_lost, "BOOT_FAIL": Ending.node_lost},
    **{"PREEMPTED": Ending.node_lost, "REVOKED": Ending.node_lost},
    **{"OUT_OF_MEMORY": Ending.out_of_memory},
    **{"TIMEOUT": Ending.timed_out, "DEADLINE": Ending.timed_out},
    # of submitit, for processes of this machine: killed, or their child was
    **{"INTERRUPTED": Ending.killed, "FINISHED": Ending.killed},
}


def launch_jobs(jobs: Sequence[Job], options: LauncherConfig, *, executor: Any) -> list[RunOutcome]:
    """Run every job through ``executor``, a ``submitit.AutoExecutor``; one outcome each, in order.

    Raises:
        KeyboardInterrupt: after every job was asked to save itself and has ended.
        UserError: for slots that this machine does not have.
    """
    limits = Limits.of(options)
    if executor.cluster == "slurm":
        return run_on(SlurmJobs(executor, limits), jobs, options)
    slots = list(plan_slots(jobs, options).slots)
    return run_on(LocalJobs(executor, limits, slots=slots), jobs, options)


@dataclass
class SubmittedJobs:
    """What is submitted and has not ended."""

    executor: Any
    limits: Limits
    running: dict[int, Any] = field(default_factory=dict)  # number of the job -> submitit's job
    runs: dict[int, Job] = field(default_factory=dict)

    def start(self, jobs: Mapping[int, Job]) -> None:
        """Submit ``jobs`` at once."""
        calls = [
            SubmittedRun(job, self.limits, self.environment(number)) for number, job in jobs.items()
        ]
        with _no_interrupt():
            started = self.executor.submit_array(calls)
        self.running |= dict(zip(jobs, started, strict=True))
        self.runs |= jobs

    def environment(self, number: int) -> dict[str, str]:
        """Return what a job finds in its environment; a scheduler sets its own."""
        return {}

    def poll(self) -> list[tuple[int, Ended]]:
        """Wait a moment; return the jobs that have ended."""
        time.sleep(POLL_SECONDS)
        ended = [number for number, job in self.running.items() if job.done()]
        return [(number, self._end(number)) for number in ended]

    def _end(self, number: int) -> Ended:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        job = self.running.pop(number)
        job._results_timeout_s = RESULT_SECONDS  # by default it waits 15 s
        try:
            answer = job.results()[0]
        except FailedJobError as error:
            # its message ends with the exception that left the job
            return Ended(Ending.answered, RunOutcome("failed", last_line(error), 1))
        except UncompletedJobError:
            return explain_state(job.state, log=str(job.paths.stderr))
        assert isinstance(answer, Ended)
        return answer


@dataclass
class SlurmJobs(SubmittedJobs):
    """Arrays of a Slurm cluster, one after the other; the array itself bounds what runs at once."""

    def room(self, num_running: int) -> int:
        """Return the size of an array when the last one has ended."""
        return 0 if num_running else MAX_ARRAY

    def ask_to_stop(self) -> None:
        """Cancel every job: Slurm sends SIGTERM, and SIGKILL after its own grace."""
        for job in self.running.values():
            job.cancel(check=False)

    kill = ask_to_stop


@dataclass
class LocalJobs(SubmittedJobs):
    """Processes of this machine, one a slot."""

    slots: Sequence[Slot] = ()
    _slot_of: dict[int, int] = field(default_factory=dict)

    def room(self, num_running: int) -> int:
        """Return how many slots are free."""
        return len(self.slots) - num_running

    def start(self, jobs: Mapping[int, Job]) -> None:
        """Submit ``jobs``; the slots of what is refused are free again."""
        try:
            super().start(jobs)
        except (RuntimeError, OSError):
            for number in jobs:
                self._slot_of.pop(number, None)
            raise

    def environment(self, number: int) -> dict[str, str]:
        """Take the first free slot and return what it says."""
        taken = set(self._slot_of.values())
        free = next(index for index in range(len(self.slots)) if index not in taken)
        self._slot_of[number] = free
        return self.slots[free].environment()

    def _end(self, number: int) -> Ended:
        del self._slot_of[number]
        return super()._end(number)

    def ask_to_stop(self) -> None:
        """Send SIGTERM; submitit's ``cancel`` would kill within a second."""
        for job in self.running.values():
            with suppress(ProcessLookupError):
                job._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process group of every run, then the process of submitit above it."""
        for number, job in self.running.items():
            holder = find_lock_holder(self.runs[number].run.run_dir)
            with suppress(ProcessLookupError, PermissionError):
                if holder is not None:
                    os.killpg(holder, signal.SIGKILL)
            job._process.kill()
            job._process.wait()


def explain_state(state: str, *, log: str) -> Ended:
    """Return how a job ended that gave no answer, by the scheduler's word for it."""
    word = state.split()[0]  # "CANCELLED by 1000"
    if word == "CANCELLED":
        # somebody wanted it to end: it is not started again
        return Ended(Ending.exited, INTERRUPTED)
    message = f"the job ended without an answer ({word}), see {log}"
    return Ended(ENDINGS.get(word, Ending.exited), RunOutcome("failed", message, 1))


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back; processes started here never hear it, and the terminal sends it to all."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
