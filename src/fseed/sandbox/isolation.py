"""Which level of isolation works on this machine, found by running a program that looks out."""

import threading
from functools import cache
from pathlib import Path

from fseed.errors import UserError
from fseed.sandbox.command import LEVELS, visible_paths
from fseed.sandbox.session import run_solution
from fseed.sandbox.verdict import Outcome, SandboxOptions, Solution

PROBE_OPTIONS = SandboxOptions(timeout_seconds=10.0)
_lock = threading.Lock()


def isolation_level() -> str:
    """Return ``bubblewrap``, ``namespaces`` or ``none``: the first that works, tried once.

    The first two keep a program from the network (its own network namespace, in which nothing is
    up, so no TCP, UDP, DNS or abstract Unix socket of the host), from files (the interpreter, the
    system's shared libraries and an empty directory are all it sees, only the directory can be
    written) and from processes (its own pid namespace, emptied by the kernel at the end).
    ``namespaces`` needs Linux with user namespaces and no program beside Python. It is the stricter
    one: with ``bubblewrap`` the number of files in the directory has no limit, a library written
    there can be loaded, and as root machine code, or ``os.unshare`` of Python 3.12 in a child of a
    fork, can make user namespaces, in which it is privileged. ``none`` ends the process group and
    nothing else: a process that leaves the group may outlive its verdict, and the folder it started
    in may stay.
    """
    with _lock:
        return _find_level()


@cache
def _find_level() -> str:
    """Return the first level at which the probe passes."""
    return next((level for level in LEVELS[:-1] if not probe(level)), LEVELS[-1])


def probe(level: str) -> str:
    """Return why a level does not isolate here, or an empty string when it does."""
    verdict = run_solution(_look_out(), options=PROBE_OPTIONS, level=level)
    if verdict.outcome is Outcome.PASSED:
        return ""
    return verdict.detail or verdict.outcome.value


def require_isolation(*, allow_unsandboxed: bool) -> str:
    """Return the level to run at; raises ``UserError`` when it is none and that is not allowed."""
    level = isolation_level()
    if level == "none" and not allow_unsandboxed:
        raise UserError(
            "generated programs are not run: no isolation from network and files works here\n"
            "install bubblewrap or allow user namespaces (`python -m fseed.sandbox` says why),\n"
            "or accept that the programs can do whatever you can: mbpp.allow_unsandboxed=true"
        )
    return level


def _outside() -> list[str]:
    """Return the folders that a program sees, with all that is mounted below one on the host."""
    table = Path("/proc/self/mountinfo")
    # without it, as on other systems than Linux, no level works
    lines = table.read_text("utf-8", "surrogateescape").splitlines() if table.exists() else []
    points = [line.split()[4] for line in lines]
    visible = visible_paths()
    return ["/", *visible, *(p for p in points if p.startswith(tuple(f"{v}/" for v in visible)))]


def _look_out() -> Solution:
    """Return a program that passes only where it sees no network, no host file, no process.

    Nor may it write to what it sees outside its directory.
    """
    return Solution(
        code="import os, _socket",
        setup="",
        tests=(
            "assert [name for _, name in _socket.if_nameindex()] in ([], ['lo'])",
            f"assert not os.path.exists({__file__!r})",
            "assert not os.path.exists('/etc/passwd')",
            "assert not os.path.exists('/proc/1')",
            "assert os.getpid() < 10",
            "assert os.getuid() != 0",
            f"assert not [p for p in {_outside()!r} if os.access(p, os.W_OK)]",
        ),
    )
