"""Processes that a worker leaves behind, and what the kernel took for its memory."""

import os
import signal
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
# every process below a worker carries its token, wherever it has been moved to
TOKEN_VARIABLE = "FSEED_WORKER"

MAX_ROUNDS = 10
_COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))


def kill_group(leader: int) -> None:
    """Kill the process group of a worker; call it before the worker has been waited for."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def kill_leftovers(token: str) -> list[int]:
    """Kill what carries the token of a worker in its environment; return the process ids.

    A program of a sandbox leads a session of its own, and outlives a group.
    """
    wanted = f"{TOKEN_VARIABLE}={token}".encode()
    killed: list[int] = []
    for _ in range(MAX_ROUNDS):
        found = [int(each.name) for each in PROC.glob("[0-9]*") if wanted in _environment(each)]
        for process in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        killed += found
        # what has been forked while the list was read is found in the next round
        if not found:
            break
    return killed


def _environment(folder: Path) -> list[bytes]:
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except OSError:
        # another user's, or gone by now
        return []


def count_memory_kills() -> int:
    """Return how many processes the kernel has ended for their memory, here or in this container.

    Zero where it does not tell.
    """
    return sum(_read_counter(path) for path in _COUNTERS)


def _read_counter(path: Path) -> int:
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
