"""The command and its workers as forks of one process that has torch loaded: 50 starts a minute.

Everything but the loading of code is as in a process of its own: sessions, pipes, signals, exit
codes. ``test_kills.py`` also kills real processes.
"""

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from tests.faults.sweeps import WORDS, environment

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@functools.cache
def context() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.faults.preloaded"])
    return found


class Command:
    """One call of ``fseed.run`` with the words of the sweep and ``words`` behind them.

    ``prepare`` is called in it before anything else: where a fault is put in.
    """

    def __init__(
        self, root: Path, *words: str, prepare: Callable[[], object] | None = None
    ) -> None:
        self.log = root.with_name(f"{root.name}.log")
        self.process = context().Process(
            target=_run, args=(environment(root), [*WORDS, *words], self.log, prepare)
        )
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def wait(self, seconds: float) -> int | None:
        """Wait at most so long; return the exit code, negative for a signal, None if it runs."""
        self.process.join(seconds)
        return self.process.exitcode

    def end(self, seconds: float = 240.0) -> int:
        """Wait for the end and return the exit code."""
        code = self.wait(seconds)
        assert code is not None, f"still running: {self.told}"
        return code

    def workers(self) -> list[int]:
        """Return the processes that train for this one."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children()]
        except psutil.NoSuchProcess:
            return []

    @property
    def told(self) -> str:
        """What it has written since the first command in this folder."""
        return self.log.read_text() if self.log.exists() else ""


def _run(
    variables: Mapping[str, str],
    words: list[str],
    log: Path,
    prepare: Callable[[], object] | None,
) -> None:
    import fseed.launch.process as launched
    from fseed.run import main

    os.environ.update(variables)
    sys.argv = ["fseed-run", *words]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(descriptor, number)
    launched.subprocess = SimpleNamespace(Popen=ForkedWorker, PIPE=subprocess.PIPE)  # type: ignore[assignment]
    if prepare is not None:
        prepare()
    _leave(main, words)


def _leave(function: Callable[[list[str]], int], words: list[str]) -> None:
    """End this process with the exit code of ``function``, past whatever the parent had planned."""
    code = 1
    try:
        code = function(words)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class ForkedWorker:
    """``subprocess.Popen`` for worker processes, without the seconds of loading torch."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdout: Any,
        pass_fds: Sequence[int],
        env: Mapping[str, str],
        **_: Any,
    ) -> None:
        theirs, ours = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _become_worker(command, jobs=theirs, told=stdout.fileno(), kept=pass_fds, env=env)
        os.close(theirs)
        self.stdin = os.fdopen(ours, "wb")

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


def _become_worker(
    command: Sequence[str], *, jobs: int, told: int, kept: Sequence[int], env: Mapping[str, str]
) -> None:
    from fseed.launch import worker

    os.setsid()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(jobs, 0)
    for number in (1, 2):
        os.dup2(told, number)
    keep = sorted(kept)
    for low, high in zip([2, *keep], [*keep, 4096], strict=True):
        os.closerange(low + 1, high)
    os.environ.clear()
    os.environ.update(env)
    words = list(command[command.index(worker.__name__) + 1 :])
    _leave(worker.main, words)
