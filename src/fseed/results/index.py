"""All runs of a list of folders, loaded by several processes, or taken from a cache.

The cache is one file outside every run directory. A run counts only while its files are those it
was made of (names, sizes, times of change, inodes) and the code that reads records is the same;
anything wrong with the file, and it is made anew. Without it the result is the same, unless a file
changes its content and none of these: ``--no-cache`` reads everything.
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
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fseed.atomic import replacing
from fseed.identity import source_fingerprint
from fseed.records import is_run_dir, read_run
from fseed.results.beside import beside, num_cores
from fseed.results.runs import Run, load_run
from fseed.results.signatures import is_settled, sign_folder
from fseed.results.stored_run import decode_runs, encode_runs, is_exact

CACHE_NAME = ".fseed/collect-cache.bin"
_MAGIC = b"fseed collect cache\n"
_SIZES = "<QQ"  # bytes of the head, bytes of the list of entries
# what decides how a record becomes a row
_CODE = (
    *("identity.py", "record_schema.py", "record_files.py", "records.py", "results/runs.py"),
    *("results/examples.py", "results/answers.py", "results/stored_run.py"),
    "results/scalars.py",
)
# below this a second process costs more than it saves
_MIN_PARALLEL = 300
_BATCH = 100

Entry = tuple[str, str | None]  # folder, signature of its files; None: it may not be kept


@dataclass(frozen=True)
class Batch:
    """Runs encoded together, with an entry each in the same order."""

    entries: list[Entry]
    data: bytes | memoryview


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


def load_runs(
    run_dirs: Sequence[Path],
    *,
    cache: Path | None = None,
    signatures: Mapping[str, str] | None = None,
) -> list[Run]:
    """Return the runs in the order given; ``cache`` is read and brought up to date.

    ``signatures``: those of all folders, where they are known already.
    """
    with without_garbage_collector():
        return _load_runs(run_dirs, cache, signatures)


def _load_runs(
    run_dirs: Sequence[Path], cache: Path | None, signatures: Mapping[str, str] | None
) -> list[Run]:
    paths = dict(zip(map(str, run_dirs), run_dirs, strict=True))
    known = _read_cache(cache) if cache is not None else []
    try:
        shelf = _Shelf(known, paths=paths, signatures=signatures)
    except (LookupError, TypeError, ValueError, AttributeError):
        # whole, but made by nobody we know
        _tell_damage(cache)
        known, shelf = [], _Shelf([], paths=paths)
    known_signatures = signatures or {}
    missing = [(name, known_signatures.get(name)) for name in paths if name not in shelf.runs]
    if cache is not None or _pays(missing):
        for batch in _load_batches(missing):
            shelf.add(batch)
    if cache is not None and shelf.entries != {entry for one in known for entry in one.entries}:
        _write_cache(cache, shelf.batches())
    return [shelf.runs[name] if name in shelf.runs else _load(name) for name in paths]


class _Shelf:
    """Runs by folder, and the batches that keep them.

    Only full batches of which every run still stands are kept as they are. The runs of the others
    are encoded anew, together with new ones.
    """

    def __init__(
        self,
        known: Sequence[Batch],
        *,
        paths: Mapping[str, Path],
        signatures: Mapping[str, str] | None = None,
    ) -> None:
        """Take those of the wanted runs, by folder, whose files are what they were."""
        self._paths = paths
        self.runs: dict[str, Run] = {}
        self.entries: set[Entry] = set()
        self._whole: list[Batch] = []
        self._loose: list[Entry] = []
        # most files are what they were: the runs are decoded while that is looked up
        look_up = partial(_unchanged, known, paths, signatures)
        if signatures is None:
            look_up = beside(look_up, num_runs=len(paths))
        decoded = [self._decode(batch) for batch in known]
        for batch, runs, entries in zip(known, decoded, look_up(), strict=True):
            self._take(batch, runs, entries)

    def add(self, batch: Batch) -> None:
        """Take the runs of a batch that was loaded just now."""
        self._take(batch, self._decode(batch), batch.entries)

    def _decode(self, batch: Batch) -> dict[str, Run]:
        names = [name for name, _ in batch.entries]
        paths = [self._paths.get(name) or Path(name) for name in names]
        return dict(zip(names, decode_runs(batch.data, paths), strict=True))

    def _take(self, batch: Batch, runs: Mapping[str, Run], entries: Sequence[Entry]) -> None:
        self.runs |= {name: runs[name] for name, _ in entries}
        kept = [entry for entry in entries if entry[1] is not None]
        self.entries.update(kept)
        if len(kept) == len(batch.entries) >= _BATCH:
            self._whole.append(batch)
        else:
            self._loose += kept

    def batches(self) -> list[Batch]:
        """Return all that may be kept for the next time."""
        parts = [self._loose[at : at + _BATCH] for at in range(0, len(self._loose), _BATCH)]
        runs = ([self.runs[name] for name, _ in part] for part in parts)
        return [*self._whole, *map(Batch, parts, map(encode_runs, runs))]


def _unchanged(
    known: Sequence[Batch], wanted: Container[str], signatures: Mapping[str, str] | None
) -> list[list[Entry]]:
    """Return the wanted entries of every batch whose files are what they were."""
    sign = signatures.get if signatures is not None else sign_folder
    return [
        [
            (name, signature)
            for name, signature in batch.entries
            if name in wanted and signature == sign(name)
        ]
        for batch in known
    ]


def _pays(missing: Sequence[Entry]) -> bool:
    """Tell whether several processes load the runs sooner than one."""
    return len(missing) >= _MIN_PARALLEL and num_cores() > 1


def _load_batches(missing: Sequence[Entry]) -> Iterator[Batch]:
    """Yield the runs that bytes can hold exactly, loaded by several processes where that pays."""
    batches = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]
    done = 0
    if _pays(missing):
        try:
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(num_cores(), mp_context=context) as pool:
                for batch in pool.map(_load_batch, batches):
                    yield batch
                    done += 1
        except BrokenProcessPool:
            # a worker was killed, by the memory limit of a container for one: its work is done here
            pass
    yield from map(_load_batch, batches[done:])


def _load_batch(missing: Sequence[Entry]) -> Batch:
    """Load runs; their folders are signed now where that was not done before."""
    entries: list[Entry] = []
    runs: list[Run] = []
    for name, signed in missing:
        signature = signed if signed is not None else sign_folder(name)
        run = _load(name)
        if is_exact(run):
            entries.append((name, signature if _may_be_kept(name, run, signature) else None))
            runs.append(run)
    return Batch(entries, encode_runs(runs))


def _load(name: str) -> Run:
    return load_run(read_run(Path(name)))


def _may_be_kept(name: str, run: Run, signature: str) -> bool:
    """Tell whether the files of a run stood still while they were read.

    What could not be read is tried again the next time: permissions leave no trace in a file.
    """
    return (
        run.status != "unreadable"
        and is_settled(signature, at=time.time())
        and signature == sign_folder(name)
    )


def _read_cache(path: Path) -> list[Batch]:
    """Return the batches; none, and a note, when the file is damaged or of another version."""
    if not path.is_file():  # a pipe in its place would never end
        return []
    try:
        with path.open("rb") as file:
            # mapped: the batches are views of the one file, none of them a copy
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError:
        return []
    except ValueError:
        data = memoryview(b"")
    try:
        return _split_cache(data)
    except (ValueError, TypeError, RecursionError):
        _tell_damage(path)
        return []


def _tell_damage(path: Path | None) -> None:
    told = "is damaged or of another version: every run is read anew"
    print(f"fseed.collect: {path} {told}", file=sys.stderr)


def _split_cache(data: memoryview) -> list[Batch]:
    """Return the batches of a cache file; ValueError or TypeError when it is not whole."""
    magic, sizes = len(_MAGIC), struct.calcsize(_SIZES)
    if data[:magic] != _MAGIC or len(data) < magic + sizes:
        raise ValueError("no cache")
    head_size, listing_size = struct.unpack(_SIZES, data[magic : magic + sizes])
    start = magic + sizes + head_size
    head, rest = json.loads(bytes(data[magic + sizes : start])), data[start:]
    if head != _head(zlib.crc32(rest), len(rest)):
        raise ValueError("damaged, or of another version")
    batches: list[Batch] = []
    position = listing_size
    for entries, size in json.loads(bytes(rest[:listing_size])):
        told = [(name, signature) for name, signature in entries]
        batches.append(Batch(told, rest[position : position + size]))
        position += size
    return batches


def _write_cache(path: Path, batches: Sequence[Batch]) -> None:
    """Replace the cache file; a folder that cannot be written has no cache."""
    listing = [[batch.entries, len(batch.data)] for batch in batches]
    parts = [json.dumps(listing).encode(), *(batch.data for batch in batches)]
    checksum = functools.reduce(lambda value, part: zlib.crc32(part, value), parts, 0)
    head = json.dumps(_head(checksum, sum(map(len, parts)))).encode()
    if path.parent.is_symlink():  # the folder may be a stranger's, and the link lead anywhere
        return
    try:
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.write(_MAGIC + struct.pack(_SIZES, len(head), len(parts[0])) + head)
            file.writelines(parts)
    except OSError:
        return


def _head(checksum: int, size: int) -> dict[str, object]:
    """Return what must agree before a batch is believed."""
    code = source_fingerprint(_CODE)
    return {"code": code, "python": sys.version, "checksum": checksum, "size": size}
