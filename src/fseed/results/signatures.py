"""What tells that files are those of the last time: names, sizes, times of change, inodes."""

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

# a file that changed this recently may change again without another time stamp
SETTLED_SECONDS = 0.1
NOT_OURS = "no file of ours"


def sign_folder(folder: str) -> str:
    """Return name, size, times and inode of every file; empty when the folder cannot be listed."""
    try:
        with os.scandir(folder) as found:
            files = [(file.name, file.stat()) for file in found if file.name[0] != "."]
    except OSError:
        return ""
    # no file name holds a slash
    return "/".join(
        f"{name} {told.st_size} {told.st_mtime_ns} {told.st_ctime_ns} {told.st_ino}"
        for name, told in sorted(files, key=lambda file: file[0])
    )


def sign_folders(folders: Iterable[str]) -> dict[str, str]:
    """Return the signature of every folder by its name."""
    return {folder: sign_folder(folder) for folder in folders}


def sign_file(path: str) -> str | None:
    """Return size, times and inode as in ``sign_folder``; None where there is no such file."""
    try:
        told = os.stat(path)
    except OSError:
        return None
    name = os.path.basename(path)
    return f"{name} {told.st_size} {told.st_mtime_ns} {told.st_ctime_ns} {told.st_ino}"


def digest_file(path: Path) -> str | None:
    """Return a digest of a file's content, None where nothing is.

    A link, and what cannot be read, is NOT_OURS.
    """
    if not os.path.lexists(path):
        return None
    try:
        is_ours = not path.is_symlink() and path.is_file()
        return hashlib.sha256(path.read_bytes()).hexdigest() if is_ours else NOT_OURS
    except OSError:
        return NOT_OURS


def is_settled(signature: str, *, at: float) -> bool:
    """Tell whether no file changed in the last moment before ``at``; without files it is not."""
    times = [int(file.rsplit(" ", 3)[1]) for file in signature.split("/") if file]
    return max(times, default=sys.maxsize * 10**9) / 1e9 <= at - SETTLED_SECONDS
