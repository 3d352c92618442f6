"""Where verdicts and compiled kernels are kept between processes."""

import os
import tempfile
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """Return the folder ``name`` of the cache; None for FSEED_CACHE=off.

    The cache is $FSEED_CACHE, else $XDG_CACHE_HOME/fseed, else ~/.cache/fseed.
    """
    root = os.environ.get("FSEED_CACHE")
    if root == "off":
        return None
    if root:
        return Path(root) / name
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "fseed" / name


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is there as a whole or not at all, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
