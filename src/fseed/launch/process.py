"""One worker process as its launcher sees it: jobs down, answers up, an end that leaves nothing."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from fseed.launch.job import Job
from fseed.launch.leftovers import TOKEN_VARIABLE, kill_group, kill_leftovers
from fseed.launch.messages import READ_BYTES, Answer, AnswerReader, pack_job
from fseed.launch.slots import Slot, merged_environment

# -P: the current folder may hold somebody else's files
WORKER_COMMAND = (sys.executable, "-P", "-m", "fseed.launch.worker")
MAX_TOLD_BYTES = 4000


class WorkerProcess:
    """A session of processes under one worker.

    It takes one job at a time; ``send`` another when the one before has answered, or ``close``.
    Start it from the main thread: the worker is asked to stop when the thread that started it ends.
    """

    def __init__(self, slot: Slot, *, command: Sequence[str] = WORKER_COMMAND) -> None:
        """Start the process; OSError when the system cannot."""
        self.slot, self.token = slot, secrets.token_hex(16)
        self._reader = AnswerReader()
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._code: int | None = None
        self.is_silent = False  # has closed its line: only ``poll`` can tell more
        answers, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, "--answers", str(theirs), "--parent", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=self._told,
                stderr=self._told,
                pass_fds=(theirs,),
                env={**merged_environment(os.environ, slot), TOKEN_VARIABLE: self.token},
                start_new_session=True,
            )
        except OSError:
            os.close(answers)
            self._told.close()
            raise
        finally:
            os.close(theirs)
        os.set_blocking(answers, False)
        self._answers: int | None = answers

    @property
    def pid(self) -> int:
        """Return the id of the process, which is that of its group and session too."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor to wait on for answers."""
        assert self._answers is not None
        return self._answers

    def send(self, job: Job) -> None:
        """Hand over one job; a process that has ended is found by ``poll``."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(pack_job(job))
            self._process.stdin.flush()

    def close(self) -> None:
        """Let the process end after the job it has: no other will come."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def read(self) -> list[Answer]:
        """Return what the process has answered since; never waits."""
        found: list[Answer] = []
        if self._answers is None:
            return found
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._answers, READ_BYTES):
                found += self._reader.feed(data)
            self.is_silent = True
        return found

    def ask_to_stop(self) -> None:
        """Let the run save and end."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the process and all below it at once."""
        if self._code is None:
            kill_group(self.pid)

    def poll(self) -> int | None:
        """Return the exit code once the process has ended, as ``subprocess`` does, else None.

        Whatever it has left behind is killed by then.
        """
        if self._code is None and self._has_ended():
            # its id cannot be given to another process before it has been waited for
            kill_group(self.pid)
            self._code = self._process.wait()
            kill_leftovers(self.token)
        return self._code

    def _has_ended(self) -> bool:
        if not hasattr(os, "waitid"):
            return self._process.poll() is not None
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, options) is not None

    def wait(self, seconds: float) -> int | None:
        """Wait until the process has ended, at most this long; return what ``poll`` does."""
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        return self._code

    def last_words(self) -> str:
        """Return the end of what the process wrote outside of its runs."""
        self._told.seek(0, os.SEEK_END)
        self._told.seek(max(self._told.tell() - MAX_TOLD_BYTES, 0))
        return self._told.read().decode(errors="replace").strip()

    def release(self) -> None:
        """Give the descriptors back; the process must have ended."""
        self.close()
        self._told.close()
        if self._answers is not None:
            os.close(self._answers)
            self._answers = None
