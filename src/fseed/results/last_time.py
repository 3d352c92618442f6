"""What was printed and written last time, told again while nothing that it rests on has changed.

That is: the files of every run (``fseed.results.signatures``), plans and decisions of staged
sweeps, the margin, the code, and the versions of what renders it. Written files are compared by
content, so that one that was edited or deleted is written again. All in one JSON file beside the
cache of runs; a damaged one says nothing.
"""

import hashlib
import json
import os
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from fseed.atomic import write_text_atomic
from fseed.identity import source_fingerprint
from fseed.plain_text import plain_text
from fseed.record_schema import SWEEP_FILES
from fseed.records import Scan
from fseed.results.defaults import file_names
from fseed.results.signatures import NOT_OURS, digest_file, is_settled, sign_file
from fseed.results.terminal import tell_written

LAST_TIME_NAME = "collect-last.json"
# whatever reads, compares and renders
_CODE = (
    *("results", "config", "collect.py", "identity.py", "atomic.py", "plain_text.py"),
    *("records.py", "record_files.py", "record_schema.py"),
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PACKAGES = ("numpy", "scipy", "pyarrow", "rich", "PyYAML")


def state_of(
    found: Scan, signatures: Mapping[str, str], *, signed_at: float, margin: float
) -> str | None:
    """Return a digest of all that the tables rest on, None where that may not be relied on.

    ``signatures``: those of the run folders, taken from ``signed_at`` on and before anything in
    them is read. A folder that cannot be listed, and a file that changed a moment before, are not
    relied on.
    """
    sweeps = dict.fromkeys(name.rsplit(os.sep, 4)[0] for name in signatures)
    beside = [sign_file(f"{sweep}/{name}") for sweep in sweeps for name in sorted(SWEEP_FILES)]
    told = [*signatures.values(), *(file for file in beside if file is not None)]
    if found.unreadable or not told or not all(is_settled(one, at=signed_at) for one in told):
        return None
    rest = [margin, found.num_foreign_files, source_fingerprint(_CODE), sys.version]
    parts = [list(signatures.items()), beside, rest, [version(name) for name in _PACKAGES]]
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()


class LastTime:
    """Texts by how they look, and digests of files by folder, of one state."""

    def __init__(self, path: Path, *, state: str) -> None:
        """Read what ``path`` holds about ``state``; nothing where it tells of another one."""
        self._path, self._state = path, state
        told = _read(path)
        is_known = told.get("state") == state and _is_harmless(told)
        self._printed: dict[str, str] = told["printed"] if is_known else {}
        self._written: dict[str, dict[str, str | None]] = told["written"] if is_known else {}

    def tell(self, look: str, folder: Path, console: Console, *, formats: Sequence[str]) -> bool:
        """Print what was printed with this look; False unless all files are as they were written.

        ``look``: all that decides how a state is printed.
        """
        written = self._untouched(folder, formats=formats)
        if look not in self._printed or written is None:
            return False
        console.file.write(self._printed[look])
        # a reader that has gone is noticed here, as where tables are printed, not at the very end
        console.file.flush()
        tell_written(written, console)
        return True

    def _untouched(self, folder: Path, *, formats: Sequence[str]) -> list[Path] | None:
        known = self._written.get(str(folder.absolute()), {})
        names = list(file_names(formats))
        found = {name: digest_file(folder / name) for name in names}
        if NOT_OURS in found.values() or any(name not in known for name in names):
            return None
        if any(known[name] != digest for name, digest in found.items()):
            return None
        return [folder / name for name in names if known[name] is not None]

    def keep(
        self,
        look: str,
        text: str,
        folder: Path,
        *,
        formats: Sequence[str],
        written: Mapping[Path, str | None],
    ) -> None:
        """Keep what was printed and written just now; without a place for it, nothing.

        ``written``: digests from right after the writing. Read now, the files might be those of
        another collection that ended meanwhile.
        """
        if not text:  # the console was no stream of text
            return
        self._printed[look] = text
        digests = {name: written.get(folder / name) for name in file_names(formats)}
        self._written.setdefault(str(folder.absolute()), {}).update(digests)
        told = {"state": self._state, "printed": self._printed, "written": self._written}
        content = json.dumps(told)
        if self._path.parent.is_symlink():  # it may lead anywhere
            return
        try:
            write_text_atomic(self._path, f"{zlib.crc32(content.encode())}\n{content}")
        except OSError:
            return


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():  # a pipe in its place would never end
            return {}
        checksum, _, content = path.read_bytes().partition(b"\n")
        told = json.loads(content) if checksum == b"%d" % zlib.crc32(content) else None
        return told if isinstance(told, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _is_harmless(told: Mapping[str, Any]) -> bool:
    """Tell whether the file may be ours: a stranger's could make a terminal do what it likes."""
    printed, written = told.get("printed"), told.get("written")
    return (
        isinstance(printed, dict)
        and all(map(_is_printable, printed.values()))
        and isinstance(written, dict)
        and all(isinstance(digests, dict) for digests in written.values())
    )


def _is_printable(text: Any) -> bool:
    """Tell whether a text commands nothing but colours."""
    bare = _COLOUR.sub("", text) if isinstance(text, str) else None
    return bare is not None and plain_text(bare) == bare
