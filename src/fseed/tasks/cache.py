"""Built examples on disk, so that a second run need not read, check and tokenize the rows again.

One file an entry: ``<key>.arrows`` in ``$FSEED_CACHE``, else ``$XDG_CACHE_HOME/fseed``, else
``~/.cache/fseed``; ``FSEED_CACHE=off`` neither reads nor writes. A file is an Arrow IPC stream, one
batch a split, whose schema metadata holds the rest of ``TaskData`` and the facts behind the key,
followed by the SHA-256 of all that (Arrow's reader stops before it). The key covers everything the
examples depend on (``describe``), so an entry is never out of date, only unused: after writing, the
least recently used entries beyond ``MAX_FOLDER_BYTES`` are removed. Files are replaced whole, so
several processes may build and read at once.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fseed.atomic import replacing
from fseed.config.schema import MbppConfig, SourceKind
from fseed.identity import source_fingerprint
from fseed.tasks.base import Tokenizer
from fseed.tasks.example_table import from_batch, to_batch
from fseed.tasks.loading import Request, TaskData, fingerprint
from fseed.tasks.preflight import Preflight, SplitReport

FOLDER_VARIABLE = "FSEED_CACHE"
OFF = "off"
FORMAT_VERSION = 1
SUFFIX = ".arrows"  # Arrow's own suffix for IPC streams
CHECKED_SUFFIX = ".checked"
MAX_FOLDER_BYTES = 2 << 30
MIN_FILE_BYTES = 4096  # what an empty file takes
STALE_SECONDS = 3600  # a temporary file this old was left by a process that was killed
DIGEST_BYTES = 32

# code that decides what the examples of given rows are
BUILDER_PARTS = ("tasks", "sandbox", "models/tokenizer.py", "models/longest_match.py")

Build = Callable[[], TaskData]


class CacheOutcome(Enum):
    """Whether the examples came from the cache."""

    hit = "hit"
    built = "built"
    off = "off"  # built, and neither read nor kept


@dataclass(frozen=True)
class CacheReport:
    """Where the examples came from, in how many seconds; ``path`` is None without a cache."""

    outcome: CacheOutcome
    seconds: float
    path: Path | None


def load_cached(
    request: Request, tokenizer: Tokenizer, *, scoring: MbppConfig, build: Build
) -> tuple[TaskData, CacheReport]:
    """Return the data of ``request`` from the cache, else from ``build``, which is then kept.

    A damaged entry is built anew and a folder that cannot be written is no error; both are said in
    one line on stderr. Raises what ``build`` raises.
    """
    started = time.perf_counter()
    folder = cache_folder()
    if folder is None:
        return build(), CacheReport(CacheOutcome.off, time.perf_counter() - started, None)
    facts = describe(request, tokenizer, scoring=scoring)
    path = folder / f"{_digest(facts)}{SUFFIX}"
    data, outcome = _read_entry(path), CacheOutcome.hit
    if data is None:
        data, outcome = build(), CacheOutcome.built
        # rows that changed meanwhile belong to another key
        if data.data_hash == facts["source"]:
            _keep(path, data, facts)
    return data, CacheReport(outcome, time.perf_counter() - started, path)


def check_cached(request: Request, check: Callable[[], None]) -> None:
    """Run ``check`` unless it has passed before on the same rows; it raises what it finds.

    An empty file ``<key>.checked`` remembers that it passed; generated rows are checked at once.
    """
    folder = cache_folder()
    if folder is None or request.data.source is SourceKind.mini:
        check()
        return
    path = folder / f"{_digest(_describe_rows(request))}{CHECKED_SUFFIX}"
    if path.exists():
        return
    check()
    # a folder that cannot be written is said once, when the examples are kept
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        path.touch()


def cache_folder() -> Path | None:
    """Return the folder of the entries, or None when the cache is off or has no place."""
    given = os.environ.get(FOLDER_VARIABLE, "")
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given == OFF:
        return None
    # a relative XDG_CACHE_HOME is to be ignored, says the specification
    place = base / "fseed" if base.is_absolute() else Path("~/.cache/fseed")
    try:
        return Path(given or place).expanduser().absolute()
    except RuntimeError:  # a user without a home
        return None


def describe(request: Request, tokenizer: Tokenizer, *, scoring: MbppConfig) -> dict[str, Any]:
    """Return everything the examples depend on, as plain values.

    The folder of local data is left out: its content counts. Settings of the sandbox count where
    the baselines are found by running programs.
    """
    return {
        **_describe_rows(request),
        "tokenizer": tokenizer.fingerprint,
        "scoring": asdict(scoring) if request.task.executes_code else None,
    }


def _describe_rows(request: Request) -> dict[str, Any]:
    """Return what the choice of rows depends on, which needs no tokenizer."""
    data = asdict(request.data)
    del data["root"]
    facts = {
        "format": FORMAT_VERSION,
        "source": fingerprint(request),
        "task": asdict(request.config)
        | {"order": request.order, "options": asdict(request.options)},
        "data": data,
        "splits": list(request.splits),
        "builder": source_fingerprint(BUILDER_PARTS),
        # random streams, letter cases and edit distances may change between versions
        "versions": [list(sys.version_info[:2]), np.__version__, version("rapidfuzz")],
    }
    return json.loads(json.dumps(facts, default=lambda value: value.value))


def write_entry(path: Path, data: TaskData, facts: Mapping[str, Any]) -> None:
    """Write one entry in place of ``path``; raises ``OSError``."""
    import pyarrow as pa

    batches = [to_batch(examples) for examples in data.splits.values()]
    rest = {
        "facts": facts,
        "splits": list(data.splits),
        "preflight": data.preflight.as_dict(),
        "data_hash": data.data_hash,
        "constant_baseline": data.constant_baseline,
        "copy_baseline": data.copy_baseline,
    }
    schema = batches[0].schema.with_metadata({"fseed": json.dumps(rest)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    content = sink.getvalue()
    with replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(content)
        stream.write(hashlib.sha256(content).digest())


def read_entry(path: Path) -> TaskData:
    """Return what ``write_entry`` wrote.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the content is not what was written.
    """
    import pyarrow as pa

    content = memoryview(path.read_bytes())
    content, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("its checksum does not fit")
    with pa.ipc.open_stream(content) as reader:
        rest = json.loads(reader.schema.metadata[b"fseed"])
        examples = [from_batch(batch) for batch in reader]
    return TaskData(
        splits=dict(zip(rest["splits"], examples, strict=True)),
        preflight=_restore_preflight(rest["preflight"]),
        data_hash=rest["data_hash"],
        constant_baseline=rest["constant_baseline"],
        copy_baseline=rest["copy_baseline"],
    )


def prune(folder: Path, *, keep: Path, max_bytes: int = MAX_FOLDER_BYTES) -> None:
    """Remove the least recently used entries until ``max_bytes`` are left, but never ``keep``.

    What killed processes left behind goes first. Files that another process removes at the same
    time are no error.
    """
    entries: list[tuple[float, int, Path]] = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if path.suffix in (SUFFIX, CHECKED_SUFFIX) and path != keep:
            entries.append((status.st_mtime, max(status.st_size, MIN_FILE_BYTES), path))
        elif _is_stale(path, status):
            path.unlink(missing_ok=True)
    total = keep.stat().st_size
    for _, size, path in sorted(entries, reverse=True):
        total += size
        if total > max_bytes:
            path.unlink(missing_ok=True)


def _read_entry(path: Path) -> TaskData | None:
    """Return the entry, or None when there is none that can be used."""
    try:
        data = read_entry(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        _say(f"{path} cannot be used ({error}); the examples are built anew")
        return None
    # mark it as used; in a folder shared read-only it cannot be
    with suppress(OSError):
        os.utime(path)
    return data


def _keep(path: Path, data: TaskData, facts: Mapping[str, Any]) -> None:
    """Write an entry and make room; say it where that is impossible."""
    try:
        write_entry(path, data, facts)
        prune(path.parent, keep=path)
    except OSError as error:
        _say(
            f"{path.parent} cannot be written ({error.strerror}), so the examples are built in "
            f"every run; {FOLDER_VARIABLE}=FOLDER names another, {FOLDER_VARIABLE}={OFF} none"
        )


def _restore_preflight(content: Mapping[str, Any]) -> Preflight:
    splits = {name: SplitReport(**facts) for name, facts in content["splits"].items()}
    return Preflight(**{**content, "splits": splits})


def _is_stale(path: Path, status: os.stat_result) -> bool:
    is_temporary = path.name.startswith(".") and path.name.endswith(".tmp")
    return is_temporary and time.time() - status.st_mtime > STALE_SECONDS


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _say(text: str) -> None:
    print(f"data cache: {text}", file=sys.stderr)
