"""All runs of a list of folders, loaded by several processes, or taken from a cache.

The cache is one file outside every run directory. An entry counts only while the files of its run
are those it was made of (names, sizes, times of change, inodes) and the code that reads records is
the same; anything wrong with the file, and it is made anew. Without it the result is the same.
"""

import functools
import gc
import json
import mmap
import multiprocessing
import os
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from fseed.atomic import replacing
from fseed.identity import source_fingerprint
from fseed.records import is_run_dir, read_run
from fseed.results.runs import Run, load_run
from fseed.results.stored_run import decode_run, encode_run

CACHE_NAME = ".fseed/collect-cache.bin"
_MAGIC = b"fseed collect cache\n"
_SIZES = "<QQ"  # bytes of the head, bytes of the list of entries
# what decides how a record becomes a row
_CODE = (
    *("record_schema.py", "records.py", "results/runs.py", "results/examples.py"),
    *("results/answers.py", "results/stored_run.py"),
)
# below this a second process costs more than it saves
_MIN_PARALLEL = 300
_BATCH = 100
# a file that changed this recently may change again without another time stamp
_SETTLED_SECONDS = 0.1

Entry = tuple[str, bytes | memoryview]  # signature of the files, encoded run
Loaded = tuple[str | None, bytes | memoryview | None]  # the same, None where it may not be kept


def default_cache_path(paths: Sequence[Path]) -> Path:
    """Return the cache file of a collection, in the folder that holds all ``paths``."""
    folders = [path.parent if is_run_dir(path) else path for path in map(Path.absolute, paths)]
    return Path(os.path.commonpath(folders)) / CACHE_NAME


@contextmanager
def without_garbage_collector() -> Iterator[None]:
    """Suspend the collector of reference cycles; with millions of live objects it halves the speed.

    Records hold no cycles, so that nothing grows meanwhile.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def load_runs(run_dirs: Sequence[Path], *, cache: Path | None = None) -> list[Run]:
    """Return the runs in the order given; ``cache`` is read and brought up to date."""
    with without_garbage_collector():
        return _load_runs(run_dirs, cache)


def _load_runs(run_dirs: Sequence[Path], cache: Path | None) -> list[Run]:
    known = _read_cache(cache) if cache is not None else {}
    entries: dict[str, Entry] = {}
    runs: dict[str, Run] = {}
    wanted: list[str] = []
    for name in map(str, run_dirs):
        found = known.get(name)
        if found is not None and found[0] == _signature(name):
            runs[name], entries[name] = decode_run(found[1]), found
        else:
            wanted.append(name)
    for name, run, entry in _load_all(wanted, keeps_entries=cache is not None):
        runs[name] = run
        if entry is not None:
            entries[name] = entry
    if cache is not None and entries != known:
        _write_cache(cache, entries)
    return [runs[str(path)] for path in run_dirs]


def _load_all(
    names: Sequence[str], *, keeps_entries: bool
) -> Iterator[tuple[str, Run, Entry | None]]:
    """Yield (folder, run, cache entry), by several processes where that pays."""
    num_workers = _num_workers()
    if len(names) >= _MIN_PARALLEL and num_workers > 1:
        yield from _load_parallel(names, num_workers=num_workers)
        return
    for name in names:
        signature = _signature(name)
        run = load_run(read_run(Path(name)))
        entry = _entry(name, run, signature) if keeps_entries else None
        yield name, run, entry


def _load_parallel(
    names: Sequence[str], *, num_workers: int
) -> Iterator[tuple[str, Run, Entry | None]]:
    batches = [names[start : start + _BATCH] for start in range(0, len(names), _BATCH)]
    done = 0
    try:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
            for batch, loaded in zip(batches, pool.map(_load_batch, batches), strict=True):
                yield from map(_received, batch, loaded)
                done += 1
    except BrokenProcessPool:
        # a worker was killed, by the memory limit of a container for one: its work is done here
        rest = [name for batch in batches[done:] for name in batch]
        yield from map(_received, rest, _load_batch(rest))


def _received(name: str, loaded: Loaded) -> tuple[str, Run, Entry | None]:
    """Return what a worker loaded; a run that bytes cannot hold is loaded here."""
    signature, data = loaded
    if data is None:
        return name, load_run(read_run(Path(name))), None
    return name, decode_run(data), (signature, data) if signature is not None else None


def _load_batch(names: Sequence[str]) -> list[Loaded]:
    """Return (signature if the entry may be kept, encoded run) of each folder."""
    loaded: list[Loaded] = []
    for name in names:
        signature = _signature(name)
        run = load_run(read_run(Path(name)))
        entry = _entry(name, run, signature)
        loaded.append(entry if entry is not None else (None, encode_run(run)))
    return loaded


def _num_workers() -> int:
    """Return the number of cores that this process may use; 1 where forking is not safe."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1


def _entry(name: str, run: Run, signature: str) -> Entry | None:
    """Return the cache entry of a run, None when its files may have changed while they were read.

    What could not be read is tried again the next time: permissions leave no trace in a file.
    """
    if run.status == "unreadable" or signature != _signature(name):
        return None
    if _newest(signature) > time.time() - _SETTLED_SECONDS:
        return None
    data = encode_run(run)
    return (signature, data) if data is not None else None


def _signature(folder: str) -> str:
    """Return name, size, times and inode of every file; empty when the folder cannot be listed."""
    try:
        with os.scandir(folder) as found:
            files = [(file.name, file.stat()) for file in found if file.name[0] != "."]
    except OSError:
        return ""
    return "|".join(
        f"{name} {told.st_size} {told.st_mtime_ns} {told.st_ctime_ns} {told.st_ino}"
        for name, told in sorted(files, key=lambda file: file[0])
    )


def _newest(signature: str) -> float:
    """Return the latest time of change in a signature, in seconds; infinity without files."""
    times = [int(file.rsplit(" ", 3)[1]) for file in signature.split("|") if file]
    return max(times, default=sys.maxsize * 10**9) / 1e9


def _read_cache(path: Path) -> dict[str, Entry]:
    """Return the entries; none when the file is missing, damaged or of another version."""
    try:
        with path.open("rb") as file:
            # mapped: the entries are views of the one file, none of them a copy
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):
        return {}
    try:
        return _split_cache(data)
    except (ValueError, TypeError, RecursionError):
        return {}


def _split_cache(data: memoryview) -> dict[str, Entry]:
    """Return the entries of a cache file; ValueError or TypeError when it is not whole."""
    magic, sizes = len(_MAGIC), struct.calcsize(_SIZES)
    if data[:magic] != _MAGIC or len(data) < magic + sizes:
        return {}
    head_size, listing_size = struct.unpack(_SIZES, data[magic : magic + sizes])
    start = magic + sizes + head_size
    head, rest = json.loads(bytes(data[magic + sizes : start])), data[start:]
    if head != _head(zlib.crc32(rest), len(rest)):
        return {}
    entries: dict[str, Entry] = {}
    position = listing_size
    for name, signature, size in json.loads(bytes(rest[:listing_size])):
        entries[name] = signature, rest[position : position + size]
        position += size
    return entries


def _write_cache(path: Path, entries: Mapping[str, Entry]) -> None:
    """Replace the cache file; a folder that cannot be written has no cache."""
    names = [[name, signature, len(data)] for name, (signature, data) in entries.items()]
    parts = [json.dumps(names).encode(), *(data for _, data in entries.values())]
    checksum = functools.reduce(lambda value, part: zlib.crc32(part, value), parts, 0)
    head = json.dumps(_head(checksum, sum(map(len, parts)))).encode()
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(_MAGIC + struct.pack(_SIZES, len(head), len(parts[0])) + head)
            file.writelines(parts)
    except OSError:
        return


def _head(checksum: int, size: int) -> dict[str, object]:
    """Return what must agree before an entry is believed."""
    code = source_fingerprint(_CODE)
    return {"code": code, "python": sys.version, "checksum": checksum, "size": size}
