"""Starts the ranks of a run on several devices, watches them and ends them together.

The process of the run trains nothing itself: it starts a fresh process per device, passes on the
signs of life of rank 0, and waits. The first rank that fails or vanishes ends all others, so none
waits forever for a dead one, and its failure becomes that of the run. Ranks stay in the process
group of their parent and end with it, however it ends.
"""

import contextlib
import json
import os
import pickle
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fseed.errors import DataError, RunInterrupted, UserError
from fseed.heartbeat import beat
from fseed.planned_run import PlannedRun
from fseed.training.checkpoint_file import Start
from fseed.training.interrupt import InterruptFlag
from fseed.training.memory import ScoringOutOfMemory
from fseed.training.memory_split import Split

# -P: the current folder may hold somebody else's files
RANK_COMMAND = (sys.executable, "-P", "-m", "fseed.training.rank")
LOOK_SECONDS = 0.2
# sent to the whole group of the run, whose process answers them for its ranks
PARENT_SIGNALS = (signal.SIGINT, signal.SIGTERM)
REASON_SECONDS = 3.0  # after the first failure: the true reason may be a moment behind its echo
_FAMILIES: dict[str, type[Exception]] = {
    "interrupted": RunInterrupted,
    "oom": MemoryError,
    "nan": FloatingPointError,
    "network": ConnectionError,
    "data": DataError,
    "config": UserError,
}


class RankError(RuntimeError):
    """A rank failed with what has no class of its own, or ended without a word."""


class _Remote(Exception):
    """The traceback of another process, shown as the cause."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class RankJob:
    """What all ranks of a run are told."""

    run: PlannedRun
    position: str
    start: Start
    splits: tuple[Split, ...]


@dataclass
class _Rank:
    """One process: its number, the line to it and what it has said."""

    number: int
    process: subprocess.Popen[bytes]
    answers: IO[bytes]
    end: dict[str, Any] | None = None
    rest: bytes = b""
    is_closed: bool = False  # no word can come any more

    @property
    def has_failed(self) -> bool:
        """Tell whether it said so, or ended without a word."""
        return self.is_closed if self.end is None else self.end["end"] != "done"


class RankedAttempt:
    """One try at a run by several processes; the counterpart of ``Attempt``."""

    def __init__(self, job: RankJob, flag: InterruptFlag, *, num_ranks: int) -> None:
        """Start nothing yet; ``flag`` is passed on to rank 0."""
        self.job, self.flag, self.num_ranks = job, flag, num_ranks
        self.step = max(job.start.step, 0)  # of the rank that failed
        self._ranks: list[_Rank] = []
        self._has_asked = False

    def run_to_end(self) -> None:
        """Return when all ranks are done.

        Raises:
            Exception: of the family of the failure that a rank had; its traceback is the cause.
        """
        with self._started() as selector:
            while not all(rank.end is not None for rank in self._ranks):
                self._listen(selector)
                if self.flag.requested and not self._has_asked:
                    self._ask_to_stop()
                if any(rank.has_failed for rank in self._ranks):
                    raise self._failure(selector)

    @contextlib.contextmanager
    def _started(self) -> Iterator[selectors.BaseSelector]:
        """Start all ranks; at the end, whatever it is, none is left."""
        folder = Path(tempfile.mkdtemp(prefix="fseed-ranks-"))  # of this user alone
        try:
            with selectors.DefaultSelector() as selector:
                for number in range(self.num_ranks):
                    rank = self._start(number, store=folder / "store")
                    self._ranks.append(rank)
                    selector.register(rank.answers, selectors.EVENT_READ, rank)
                yield selector
        finally:
            for rank in self._ranks:
                _end(rank)
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, number: int, *, store: Path) -> _Rank:
        ours, theirs = os.pipe()
        words = {
            "rank": number, "world": self.num_ranks, "store": store,
            "answers": theirs, "parent": os.getpid(),
        }  # fmt: skip
        with _signals_held_back():
            process = subprocess.Popen(
                [*RANK_COMMAND, *(f"--{key}={value}" for key, value in words.items())],
                stdin=subprocess.PIPE,
                pass_fds=(theirs,),
            )
        os.close(theirs)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: found by the first look
            process.stdin.write(pickle.dumps(self.job))
            process.stdin.flush()
        return _Rank(number, process, os.fdopen(ours, "rb", buffering=0))

    def _listen(self, selector: selectors.BaseSelector) -> None:
        """Take what the ranks say, waiting for it a moment."""
        for key, _ in selector.select(LOOK_SECONDS):
            rank: _Rank = key.data
            data = os.read(rank.answers.fileno(), 1 << 16)
            if not data:
                selector.unregister(rank.answers)
                rank.is_closed = True
            *lines, rank.rest = (rank.rest + data).split(b"\n")
            for line in lines:
                self._take(rank, json.loads(line))

    def _take(self, rank: _Rank, message: dict[str, Any]) -> None:
        if "end" in message:
            rank.end = message
        elif rank.number == 0:
            beat(**message["beat"])

    def _ask_to_stop(self) -> None:
        """Let rank 0 save and end; the others learn it from rank 0."""
        self._has_asked = True
        stdin = self._ranks[0].process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write(b"stop\n")
            stdin.flush()

    def _failure(self, selector: selectors.BaseSelector) -> Exception:
        """Wait for the reason behind the first failure and return it as an exception."""
        deadline = time.monotonic() + REASON_SECONDS
        while time.monotonic() < deadline and selector.get_map():
            self._listen(selector)
        worst = min((rank for rank in self._ranks if rank.has_failed), key=_nearness)
        if worst.end is None:
            return RankError(f"rank {worst.number} {_describe_end(worst.process.wait())}")
        self.step = worst.end["step"]
        return _rebuild(worst.end, number=worst.number)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let a process that is started here begin with ``PARENT_SIGNALS`` blocked.

    It needs seconds to import torch before it can ignore them; one that comes meanwhile would end
    it, and a run that was asked to stop would count as failed.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENT_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _nearness(rank: _Rank) -> tuple[int, int]:
    """Order failures by how near they are to the reason.

    One with a class of its own, an end without a word, any other error, the echo of a closed
    connection.
    """
    if rank.end is None:
        return 1, rank.number
    if rank.end["is_echo"]:
        return 3, rank.number
    return (2 if rank.end["class"] == "error" else 0), rank.number


def _rebuild(end: dict[str, Any], *, number: int) -> Exception:
    """Return an exception that is classified as the one in the other process."""
    family = ScoringOutOfMemory if end["is_scoring"] else _FAMILIES.get(end["class"], RankError)
    is_plain = family in (UserError, DataError, RunInterrupted)
    error = family(end["message"] if is_plain else f"{end['message']} (rank {number})")
    error.__cause__ = _Remote(end["traceback"])
    return error


def _describe_end(code: int) -> str:
    return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _end(rank: _Rank) -> None:
    rank.process.kill()
    rank.process.wait()
    rank.answers.close()
    if rank.process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            rank.process.stdin.close()
