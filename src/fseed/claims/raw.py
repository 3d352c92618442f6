"""``paper/raw.sha256``: the raw output below ``paper`` that no command can compute from records.

A line ``SHA256  PATH`` per file, paths below ``paper``, as ``sha256sum -c`` reads them. The list
tells that a file is not the one that was listed; it cannot tell whether the numbers in it are
right. ``python -m fseed.check raw`` writes it again after new raw output.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from fseed.atomic import write_text_atomic
from fseed.claims.findings import Finding, error
from fseed.claims.seal import hash_files

RAW_FOLDERS = ("kernels", "launchers", "simulations")
RAW_LIST = Path("paper/raw.sha256")
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def list_raw(root: Path) -> dict[str, str]:
    """Return {path below ``paper``: SHA-256} of every raw file."""
    return {
        f"{folder}/{name}": value
        for folder in RAW_FOLDERS
        for name, value in hash_files(root / "paper" / folder).items()
    }


def write_raw_list(root: Path) -> list[str]:
    """Write the list of raw files as they are now; return the paths that changed, came or went."""
    now = list_raw(root)
    before = _read_list(root)[0]
    text = "".join(f"{value}  {name}\n" for name, value in sorted(now.items()))
    write_text_atomic(root / RAW_LIST, text)
    names = sorted(now.keys() | before.keys())
    return [name for name in names if now.get(name) != before.get(name)]


def check_raw(root: Path) -> Iterator[Finding]:
    """Compare the raw files with the list."""
    listed, problems = _read_list(root)
    yield from problems
    now = list_raw(root)
    for name, value in listed.items():
        if name not in now:
            yield error("missing_file", f"paper/{name}", f"is listed in {RAW_LIST} and is gone")
        elif now[name] != value:
            text = f"is not the file that {RAW_LIST} lists; python -m fseed.check raw lists it anew"
            yield error("changed_file", f"paper/{name}", text)
    for name in sorted(now.keys() - listed.keys()):
        text = f"is not listed in {RAW_LIST}; python -m fseed.check raw lists it"
        yield error("unlisted_file", f"paper/{name}", text)


def _read_list(root: Path) -> tuple[dict[str, str], list[Finding]]:
    try:
        text = (root / RAW_LIST).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}, []
    except (OSError, UnicodeDecodeError) as problem:
        return {}, [error("unreadable_archive", RAW_LIST, f"cannot be read: {problem}")]
    listed: dict[str, str] = {}
    problems: list[Finding] = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None or match[2] in listed:
            text = "is no line SHA256  PATH, or names a path twice"
            problems.append(error("unreadable_archive", f"{RAW_LIST}:{number}", text))
        else:
            listed[match[2]] = match[1]
    return listed, problems
