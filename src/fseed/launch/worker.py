"""A worker process: ``python -m fseed.launch.worker``, started by a launcher and by nobody else.

It runs the jobs that come over its standard input, one after the other, until the pipe is closed.
Standard output and error of a job go to ``output.log`` of its run.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fseed.heartbeat import beat, listening
from fseed.launch.job import Job
from fseed.launch.messages import pack_outcome, pack_sign, read_job
from fseed.launch.resident import Resident, preload
from fseed.launch.train import train
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.provenance import redacted_output
from fseed.record_schema import WORKER_LOG
from fseed.sweep.execute import Train, execute_run

PR_SET_PDEATHSIG = 1
SIGN_SECONDS = 0.5  # at most one sign of life in this time


def main(
    words: Sequence[str] | None = None,
    *,
    train: Train = train,
    preload: Callable[[], None] = preload,
) -> int:
    """Serve jobs until the launcher closes the pipe or ends.

    With ``--resident`` one after the other, as long as none leaves a trace; else there is one.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, required=True, help="descriptor for answers")
    parser.add_argument("--parent", type=int, required=True, help="process id of the launcher")
    parser.add_argument("--resident", action="store_true", help="take more than one job")
    options = parser.parse_args(words)
    os.set_inheritable(options.answers, False)
    end_with_parent(options.parent)
    faulthandler.enable()
    jobs = take_standard_input()
    answers = Answers(options.answers)
    guarded = Resident(train, is_resident=options.resident)
    with listening(answers.sign):
        beat("starting")
        preload()
        while not guarded.leaves and (job := read_job(jobs)) is not None:
            outcome = serve(job, train=guarded)
            answers.tell(outcome, leaves=guarded.leaves)
    return 0


def serve(job: Job, *, train: Train) -> RunOutcome:
    """Run one job; every end of it but the end of this process is an outcome."""

    def logged(run: PlannedRun, position: str) -> RunOutcome:
        # the run directory is held by now
        with output_to(run.run_dir / WORKER_LOG):
            beat("loading")
            return train(run, position)

    try:
        return execute_run(job.run, position=job.position, train=logged)
    except KeyboardInterrupt:
        return RunOutcome("interrupted", "stopped", 130)


def end_with_parent(parent: int) -> None:
    """Let this process be asked to stop when its launcher ends, however it ends.

    Where the system cannot tell, the first sign of life after that finds the pipe closed.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the launcher has ended")


def take_standard_input() -> int:
    """Return a descriptor of the jobs; what a run starts finds an empty standard input."""
    jobs = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return jobs


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Append standard output and error to ``path``, those of programs that are started too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    kept = [os.dup(1), os.dup(2)]
    _flush()
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
    try:
        # the log lies beside the records
        with redacted_output():
            yield
    finally:
        _flush()
        for number, before in zip((1, 2), kept, strict=True):
            os.dup2(before, number)
            os.close(before)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # a full disk must not hide how the run ended
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


class Answers:
    """The line to the launcher."""

    def __init__(self, descriptor: int) -> None:
        """Write to ``descriptor``."""
        self.descriptor = descriptor
        self._told_at, self._told = -SIGN_SECONDS, ""

    def sign(self, facts: dict[str, Any]) -> None:
        """Tell a sign of life, at most one every ``SIGN_SECONDS`` but for a new state or the end.

        A launcher that does not read costs nothing but the sign; one that has ended means the
        same as SIGTERM: save and end.
        """
        now = time.monotonic()
        is_last = "step" in facts and facts["step"] == facts.get("num_steps")
        is_new = is_last or facts["state"] != self._told
        if not is_new and now - self._told_at < SIGN_SECONDS:
            return
        self._told_at, self._told = now, facts["state"]
        os.set_blocking(self.descriptor, False)
        try:
            os.write(self.descriptor, pack_sign(facts))
        except BlockingIOError:
            pass
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGTERM)

    def tell(self, outcome: RunOutcome, *, leaves: str = "") -> None:
        """Tell how a run ended, and why no other may follow; waits until the launcher reads."""
        self._told = ""
        os.set_blocking(self.descriptor, True)
        with contextlib.suppress(BrokenPipeError):
            os.write(self.descriptor, pack_outcome(outcome, leaves=leaves))


if __name__ == "__main__":
    sys.exit(main())
