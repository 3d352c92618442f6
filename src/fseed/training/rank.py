"""``python -m fseed.training.rank``: one of the processes of a run on several devices.

Started by ``distributed_launch`` and by nobody else. The job comes over standard input; a line
after it asks to save and end, the end of the pipe means that the parent has ended.
"""

import argparse
import ctypes
import json
import os
import pickle
import signal
import sys
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from torch import distributed

from fseed.errors import RunInterrupted
from fseed.heartbeat import listening
from fseed.training.attempt import Attempt
from fseed.training.distributed import Ranks, join, leave
from fseed.training.distributed_launch import PARENT_SIGNALS, RankJob
from fseed.training.interrupt import InterruptFlag
from fseed.training.memory import ScoringOutOfMemory
from fseed.training.runner import classify_failure

PR_SET_PDEATHSIG = 1


class RankTraining:
    """One rank of a run, from its job to its end."""

    def __init__(self, job: RankJob, ranks: Ranks, *, store: Path) -> None:
        """Meet the other ranks through ``store`` when ``run_to_end`` is called."""
        self.job, self.ranks, self.store = job, ranks, store
        self.flag = InterruptFlag()  # set by the parent's word; signals are the parent's
        self._attempt: Attempt | None = None

    @property
    def step(self) -> int:
        """Return the optimiser steps that were done."""
        return 0 if self._attempt is None else self._attempt.step

    def run_to_end(self) -> None:
        """Train and score with the other ranks; whatever ends it, end the process then."""
        run = self.job.run
        if not self.ranks.is_first:
            quiet = replace(run.config.trainer, progress=False)
            run = replace(run, config=replace(run.config, trainer=quiet))
        join(self.ranks, store=self.store, accelerator=run.config.trainer.accelerator)
        self._attempt = Attempt(
            *(run, self.flag),
            position=self.job.position,
            start=self.job.start,
            splits=self.job.splits,
            ranks=self.ranks,
        )
        self._attempt.run_to_end()
        leave()


def describe_failure(error: BaseException, *, step: int) -> dict[str, Any]:
    """Return what the parent needs to record a failure as if it were its own."""
    text = f"{type(error).__name__}: {error}"
    is_stopped = isinstance(error, RunInterrupted | KeyboardInterrupt)
    return {
        "class": "interrupted" if is_stopped else classify_failure(error),
        "message": str(error) or type(error).__name__,
        "traceback": "".join(traceback.format_exception(error)),
        # the connection to a rank that failed is closed: not the reason, but its echo
        "is_echo": isinstance(error, distributed.DistError) or "gloo" in text.lower(),
        "is_scoring": isinstance(error, ScoringOutOfMemory),
        "step": step,
    }


def main() -> None:
    """Train one rank and tell its end; ends the process itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("rank", "world", "answers", "parent"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--store", type=Path, required=True)
    given = parser.parse_args()
    end_with_parent(given.parent)
    os.set_inheritable(given.answers, False)
    answers = os.fdopen(given.answers, "w", buffering=1)
    orders = os.fdopen(os.dup(0), "rb")
    ranks = Ranks(given.rank, given.world)
    training = RankTraining(pickle.load(orders), ranks, store=given.store)
    threading.Thread(target=_obey, args=(orders, training.flag), daemon=True).start()
    end: dict[str, Any] = {"end": "done"}
    try:
        with listening(lambda facts: _tell(answers, {"beat": facts})):
            training.run_to_end()
    except BaseException as error:
        end = {"end": "failed", **describe_failure(error, step=training.step)}
    _tell(answers, end)
    sys.stdout.flush()
    sys.stderr.flush()
    # other ranks may be gone: nothing that waits for them may run now
    os._exit(0 if end["end"] == "done" else 1)


def end_with_parent(parent: int) -> None:
    """Let the system end this process with its parent; signals to the group are the parent's."""
    for number in PARENT_SIGNALS:
        signal.signal(number, lambda *_: None)
    # blocked since the start; what this process starts must not inherit that
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENT_SIGNALS)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _obey(orders: BinaryIO, flag: InterruptFlag) -> None:
    """Set ``flag`` at the parent's word; end the process when the parent has ended."""
    while orders.readline():
        flag.requested = True
    os._exit(1)


def _tell(answers: Any, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main()
