"""Processes of one sandbox, seen from the host: their memory, and the first of them."""

import json
import os
import select
import signal
import time
from contextlib import suppress
from pathlib import Path

PIPE_BYTES = 2**16


def resident_bytes(process: int) -> int:
    """Return the resident memory of a process and all below it; what has ended counts nothing.

    Pages that processes share count for each of them. Children of a process that has ended are
    not found; inside a sandbox they belong to its first process, which does not end before them.
    """
    pages, waiting = 0, [str(process)]
    while waiting:
        folder = Path("/proc", waiting.pop())
        with suppress(OSError, IndexError):
            pages += int((folder / "statm").read_bytes().split()[1])
        for thread in _threads(folder):
            with suppress(OSError):
                waiting += (thread / "children").read_text("ascii").split()
    return pages * os.sysconf("SC_PAGE_SIZE")


def _threads(folder: Path) -> list[Path]:
    """Return the threads of a process, none for one that has ended."""
    try:
        return list((folder / "task").iterdir())
    except OSError:
        return []


def open_first_process(info_fd: int, *, seconds: float) -> int | None:
    """Return a handle of the first process that bubblewrap tells of, None when it starts none.

    Raises ``OSError`` when the kernel has no such handles.
    """
    deadline, info = time.monotonic() + seconds, b""
    while not info.rstrip().endswith(b"}"):
        ready = _wait_until_readable(info_fd, seconds=deadline - time.monotonic())
        data = os.read(info_fd, PIPE_BYTES) if ready else b""
        if not data:
            return None
        info += data
    try:
        return os.pidfd_open(json.loads(info)["child-pid"])
    except ProcessLookupError:
        return None


def kill_first_process(handle: int) -> None:
    """Kill the first process of a pid namespace, and all others with it."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)


def wait_for_first_process(handle: int, *, seconds: float) -> None:
    """Wait until the first process is gone, which the kernel keeps until all others are."""
    _wait_until_readable(handle, seconds=seconds)


def _wait_until_readable(descriptor: int, *, seconds: float) -> bool:
    """Return whether a descriptor became readable in time."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds * 1000)))
