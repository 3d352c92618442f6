"""One process per run directory: a second sweep in the same folder leaves a running run alone.

The lock is a POSIX record lock: the system drops it when its process ends, however it ends, and
forked workers do not inherit it. The file names the process for the message only.
"""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_FILE = ".lock"
NUM_RETRIES = 3
RETRY_SECONDS = 0.05

# closing any descriptor of a file drops this process's lock on it, so it never opens one twice
_held: set[Path] = set()


class RunLocked(Exception):
    """Another process works on the run directory; ``pid`` is its process id, or None."""

    def __init__(self, run_dir: Path, pid: int | None) -> None:
        """Say who holds ``run_dir``."""
        self.run_dir, self.pid = run_dir, pid
        who = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"{run_dir} is in use by {who}")


@contextmanager
def run_lock(run_dir: Path, *, num_parents: int = 4) -> Iterator[None]:
    """Hold ``run_dir``, which is created; an empty folder is removed again at the end.

    So are up to ``num_parents`` folders above it that are empty then.

    Raises:
        RunLocked: if another process holds it.
    """
    run_dir = run_dir.absolute()
    if run_dir in _held:
        raise RunLocked(run_dir, os.getpid())
    descriptor = _acquire(run_dir)
    _held.add(run_dir)
    try:
        yield
    finally:
        _held.discard(run_dir)
        # removed while still held: whoever opened the old file finds out by its inode
        (run_dir / LOCK_FILE).unlink(missing_ok=True)
        os.close(descriptor)
        _remove_if_empty(run_dir, num_parents=num_parents)


def find_lock_holder(run_dir: Path) -> int | None:
    """Return the id of the process that works on ``run_dir``, or None; writes nothing."""
    if run_dir.absolute() in _held:
        return os.getpid()
    try:
        descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return None if _try_lock(descriptor) else _read_pid(descriptor)
    finally:
        os.close(descriptor)


def _acquire(run_dir: Path) -> int:
    for last_chance in (False,) * NUM_RETRIES + (True,):
        descriptor = _open(run_dir / LOCK_FILE)
        if not _try_lock(descriptor):
            pid = _read_pid(descriptor)
            os.close(descriptor)
            if last_chance:
                raise RunLocked(run_dir, pid)
            # whoever only looks for a holder has the lock for an instant
            time.sleep(RETRY_SECONDS)
        elif _is_current(descriptor, run_dir / LOCK_FILE):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
        else:  # the former holder removed this file between our open and our lock
            os.close(descriptor)
    raise RunLocked(run_dir, None)


def _open(path: Path) -> int:
    """Open the lock file; a former holder may remove the empty folder at any instant."""
    for _ in range(100):
        with suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    # something else is wrong: let the system say what
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _is_current(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdigit() else None


def _remove_if_empty(run_dir: Path, *, num_parents: int) -> None:
    for folder in (run_dir, *run_dir.parents[:num_parents]):
        try:
            folder.rmdir()
        except OSError:
            return
