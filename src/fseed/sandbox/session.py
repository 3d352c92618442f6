"""One program in one sandbox: starting it, feeding it, watching its limits, ending it."""

import itertools
import marshal
import math
import os
import secrets
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from fseed.sandbox.command import build_command, driver_user
from fseed.sandbox.processes import (
    PIPE_BYTES,
    kill_first_process,
    open_first_process,
    resident_bytes,
    wait_for_first_process,
)
from fseed.sandbox.report import Report, judge_report, printable, read_report
from fseed.sandbox.verdict import Outcome, SandboxOptions, Solution, Verdict

# time for the interpreter to come up; not the program's, so a busy machine costs it nothing
START_SECONDS = 20.0
# how often the memory of all processes is added up
WATCH_SECONDS = 0.05
# how long a program that has reported may take to leave, and how long one that is told to
EXIT_SECONDS = 0.5
STOP_SECONDS = 1.0
REMOVE_SECONDS = 10.0
KEPT_OUTPUT_BYTES = 4096
MAX_OPEN_FILES = 64

HOST_ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}

_numbers = itertools.count()


@dataclass
class Session:
    """A running sandbox: its pipes, what has arrived and what is still to be sent."""

    process: subprocess.Popen[bytes]
    report_fd: int
    outbox: bytearray
    report: Report
    # bubblewrap tells here of its first process, and this is a handle of it
    info_fd: int | None = None
    first_process: int | None = None
    started: float | None = None
    ended_by: Outcome | None = None
    exit_code: int | None = None
    has_sent_tests: bool = False
    output: bytes = b""
    output_size: int = 0


def run_solution(solution: Solution, *, options: SandboxOptions, level: str) -> Verdict:
    """Run one program at a level of isolation and judge it.

    A sandbox that cannot be started is an outcome, not an exception.
    """
    tokens = [secrets.token_hex(16) for _ in range(len(solution.tests) + 2)]
    report, begun = Report(tokens), time.monotonic()
    try:
        with _host_folder(level) as folder:
            session = _start(solution, report, options=options, level=level, folder=folder)
            try:
                _watch(session, solution, options)
            finally:
                _stop(session, options)
    except OSError as error:
        if report.started:
            raise
        return _not_started(error, len(solution.tests), level)
    seconds = time.monotonic() - (session.started or begun)
    return judge_report(
        session.report,
        ended_by=session.ended_by,
        exit_code=session.exit_code,
        num_tests=len(solution.tests),
        seconds=seconds,
        level=level,
        output=session.output.decode("utf-8", "replace"),
    )


@contextmanager
def _host_folder(level: str) -> Iterator[str]:
    """Yield the folder to start in: an empty one where the level does not make one itself.

    ``rm`` removes folders of any depth; what it cannot remove in time stays.
    """
    if level != "none":
        yield "/"
        return
    folder = tempfile.mkdtemp(prefix=f"fseed-sandbox-{os.getpid()}-")
    try:
        yield folder
    finally:
        with suppress(OSError, subprocess.TimeoutExpired):
            line = ["rm", "-rf", "--", folder]
            subprocess.run(line, check=False, capture_output=True, timeout=REMOVE_SECONDS)


def _not_started(error: OSError, num_tests: int, level: str) -> Verdict:
    """Return the verdict of a program whose processes could not be made."""
    detail = printable(f"{type(error).__name__}: {error}")
    return Verdict(Outcome.SANDBOX_ERROR, 0, num_tests, 0.0, detail, level)


def _start(
    solution: Solution, report: Report, *, options: SandboxOptions, level: str, folder: str
) -> Session:
    """Start the processes and queue the first request."""
    user, name = driver_user(level), f"fseed-sandbox-{os.getpid()}-{next(_numbers)}"
    receive, send = os.pipe()
    info, info_send = os.pipe() if level == "bubblewrap" else (None, None)
    try:
        process = subprocess.Popen(
            build_command(level, options, report_fd=send, info_fd=info_send, name=name),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[descriptor for descriptor in (send, info_send) if descriptor is not None],
            start_new_session=True,
            cwd=folder,
            env=HOST_ENVIRONMENT | {"HOME": folder, "TMPDIR": folder},
        )
    except BaseException:
        _close(receive, info)
        raise
    finally:
        _close(send, info_send)
    limits = _limits(options, level=level)
    request = (report.tokens[:1], limits, user, solution.code, solution.setup)
    session = Session(process, receive, bytearray(_frame(request)), report, info_fd=info)
    os.set_blocking(_request_fd(session), False)
    return session


def _close(*descriptors: int | None) -> None:
    """Close those that are open."""
    for descriptor in descriptors:
        if descriptor is not None:
            os.close(descriptor)


def _limits(options: SandboxOptions, *, level: str) -> dict[str, int]:
    """Return the resource limits of one process, named as in ``resource``.

    Without a sandbox the limit on processes would count all that the user has.
    """
    limits = {
        "RLIMIT_AS": options.memory_mib * 2**20,
        "RLIMIT_CPU": math.ceil(options.timeout_seconds) + 1,
        "RLIMIT_FSIZE": options.file_mib * 2**20,
        "RLIMIT_NOFILE": MAX_OPEN_FILES,
        "RLIMIT_CORE": 0,
    }
    return limits if level == "none" else limits | {"RLIMIT_NPROC": options.max_processes}


def _second_request(report: Report, solution: Solution) -> tuple:
    """Return what the driver needs for the tests."""
    return (report.tokens[0], report.tokens[1:], list(solution.tests))


def _frame(request: tuple) -> bytes:
    """Return a request as the driver reads it."""
    data = marshal.dumps(request)
    return len(data).to_bytes(8, "big") + data


def _watch(session: Session, solution: Solution, options: SandboxOptions) -> None:
    """Serve the pipes until the program has ended or a limit is passed.

    The driver waits for its first request, so that its first process is known before it can end.
    """
    if session.info_fd is not None:
        session.first_process = open_first_process(session.info_fd, seconds=START_SECONDS)
    deadline = time.monotonic() + START_SECONDS
    next_look = 0.0
    report = session.report
    with selectors.DefaultSelector() as selector:
        selector.register(session.report_fd, selectors.EVENT_READ)
        selector.register(_output_fd(session), selectors.EVENT_READ)
        selector.register(_request_fd(session), selectors.EVENT_WRITE)
        while not report.finished and session.ended_by is None:
            now = time.monotonic()
            if now >= next_look:
                next_look = now + WATCH_SECONDS
                _watch_memory(session, options)
            for key, _ in selector.select(min(WATCH_SECONDS, max(0.0, deadline - now))):
                _serve(session, selector, key.fd, options)
            if report.started and session.started is None:
                session.started = time.monotonic()
                deadline = session.started + options.timeout_seconds
            if report.code_ran and not session.has_sent_tests:
                session.has_sent_tests = True
                session.outbox += _frame(_second_request(report, solution))
                selector.register(_request_fd(session), selectors.EVENT_WRITE)
            if time.monotonic() >= deadline and not report.finished:
                limit = Outcome.TIMEOUT if report.started else Outcome.SANDBOX_ERROR
                session.ended_by = session.ended_by or limit


def _serve(
    session: Session, selector: selectors.BaseSelector, descriptor: int, options: SandboxOptions
) -> None:
    """Move what one pipe is ready for."""
    if descriptor == session.report_fd:
        read_report(session.report, os.read(descriptor, PIPE_BYTES))
    elif descriptor == _output_fd(session):
        if not _read_output(session, options):
            selector.unregister(descriptor)
    elif not _send(session):
        selector.unregister(descriptor)


def _read_output(session: Session, options: SandboxOptions) -> bool:
    """Read what was printed, keep the end of it; return whether there may be more."""
    data = os.read(_output_fd(session), PIPE_BYTES)
    session.output_size += len(data)
    session.output = (session.output + data)[-KEPT_OUTPUT_BYTES:]
    if session.output_size > options.output_kib * 1024:
        session.ended_by = session.ended_by or Outcome.OUTPUT_LIMIT
    return bool(data)


def _send(session: Session) -> bool:
    """Send a part of what waits; return whether there is more, never to a closed pipe."""
    try:
        sent = os.write(_request_fd(session), session.outbox)
    except BlockingIOError:
        return True
    except BrokenPipeError:
        session.outbox.clear()
        return False
    del session.outbox[:sent]
    return bool(session.outbox)


def _request_fd(session: Session) -> int:
    """Return the writing end of the pipe for requests."""
    assert session.process.stdin is not None
    return session.process.stdin.fileno()


def _output_fd(session: Session) -> int:
    """Return the reading end of the pipe for what the program prints."""
    assert session.process.stdout is not None
    return session.process.stdout.fileno()


def _watch_memory(session: Session, options: SandboxOptions) -> None:
    """End the program when its processes together hold more memory than one may."""
    if resident_bytes(session.process.pid) > options.memory_mib * 2**20:
        session.ended_by = session.ended_by or Outcome.MEMORY


def _stop(session: Session, options: SandboxOptions) -> None:
    """End all processes, read what is left in the output pipe and close the pipes."""
    _end_processes(session)
    descriptor = _output_fd(session)
    os.set_blocking(descriptor, False)
    with suppress(BlockingIOError):
        while session.ended_by is None and _read_output(session, options):
            pass
    _close(session.report_fd, session.info_fd, session.first_process)
    for pipe in (session.process.stdin, session.process.stdout):
        assert pipe is not None
        pipe.close()


def _end_processes(session: Session) -> None:
    """Wait for the end, or bring it about; ``exit_code`` stays None then.

    SIGTERM lets ``enter_namespaces.py`` return when the last process is gone. Bubblewrap returns
    before that, so its first process is waited for, and killed before it.
    """
    process = session.process
    with suppress(subprocess.TimeoutExpired):
        session.exit_code = process.wait(0 if session.ended_by else EXIT_SECONDS)
    if session.first_process is not None:
        kill_first_process(session.first_process)
        wait_for_first_process(session.first_process, seconds=STOP_SECONDS)
    elif session.exit_code is None:
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
