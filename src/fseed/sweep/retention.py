"""What may be removed below the results: files of ours that no run needs and no number comes from.

Only names that this project writes, in folders that hold its records. Results, predictions,
metrics, configurations and kept weights are never among them, nor anything of a run that a process
holds, nor anything below archived records. No link is followed.
"""

import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fseed.record_schema import (
    CHECKPOINT_FILE,
    DAMAGED_SUFFIX,
    PREVIOUS_CHECKPOINT_FILE,
    SWEEP_FILES,
    TABLES_DIR,
    WORKER_LOG,
    RecordError,
    one_line,
)
from fseed.records import RunRecord, is_run_dir, read_run
from fseed.results.index import CACHE_NAME
from fseed.sweep.lock import LOCK_FILE, RunLocked, find_lock_holder, run_lock

CHECKPOINTS = (CHECKPOINT_FILE, PREVIOUS_CHECKPOINT_FILE)
# without a lock to ask, a temporary file this old was left by a process that was killed
STALE_SECONDS = 3600.0

TEMPORARY = "left by a write that was killed"
ORPHAN_LOCK = "lock of a process that has ended"
CACHE = "cache of collect, made anew when needed"
FINISHED_CHECKPOINT = "checkpoint of a finished run"
FAILED_CHECKPOINT = "checkpoint of a failed run"
FINISHED_LOG = "worker log of a finished run"

# of fseed.atomic, checkpoint_file and runner; other programs have hidden .tmp files too
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp|\.checkpoint\.ckpt\.tmp|\.reserve\.tmp")
_SEALED_BY = "archive.json"
_PAPER = ("manifest.yaml", "records")


@dataclass(frozen=True)
class Item:
    """One file that may go: its size in bytes and why."""

    path: Path
    num_bytes: int
    reason: str


@dataclass
class Findings:
    """What may go below some folders, and what was left alone or could not be looked at."""

    items: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_items(tops: Sequence[Path], *, with_failed: bool) -> Findings:
    """Return what may go below ``tops``; ``with_failed``: checkpoints of failed runs too."""
    found = Findings()
    seen: set[Path] = set()
    for top in tops:
        # the folder that was named may be a link, nothing below it may
        for folder in _walk(Path(os.path.realpath(top)), found):
            if folder not in seen:
                seen.add(folder)
                found.items += _folder_items(folder, found, with_failed=with_failed)
    return found


def remove_items(items: Sequence[Item], *, with_failed: bool) -> Findings:
    """Remove ``items``, those of a run while holding it; return what went and what did not.

    What has changed since it was found, such as a run that was started again, stays.
    """
    removed = Findings()
    folders: dict[Path, list[Item]] = {}
    for item in items:
        folders.setdefault(item.path.parent, []).append(item)
    for folder, wanted in folders.items():
        try:
            if _needs_lock(folder):
                with run_lock(folder, num_parents=0):
                    allowed = _run_items(folder, with_failed=with_failed, is_held=True)
                    _unlink(wanted, {item.path for item in allowed}, removed)
            else:
                _unlink(wanted, {item.path for item in wanted}, removed)
        except RunLocked as error:
            removed.notes.append(f"left alone: {error}")
        except OSError as error:
            removed.notes.append(f"cannot remove from {folder}: {error.strerror}")
    return removed


def _walk(top: Path, found: Findings) -> Iterator[Path]:
    """Yield ``top`` and the folders below it that may hold files of ours."""
    if _is_archived(top):
        found.notes.append(f"left alone: {top} belongs to archived records")
        return

    def tell(error: OSError) -> None:
        found.notes.append(f"cannot look into {error.filename}: {error.strerror}")

    for name, folders, files in os.walk(top, onerror=tell, followlinks=False):
        folder = Path(name)
        if _SEALED_BY in files or _is_paper(folder):
            folders.clear()
            continue
        is_run = is_run_dir(folder)
        # a run holds no run; the only hidden folder is that of the cache
        folders[:] = sorted(
            one for one in folders if not is_run and (one == ".fseed" or not one.startswith("."))
        )
        yield folder


def _is_archived(folder: Path) -> bool:
    return any(
        _is_paper(place) or (place / _SEALED_BY).is_file() for place in (folder, *folder.parents)
    )


def _is_paper(folder: Path) -> bool:
    manifest, records = _PAPER
    return (folder / manifest).is_file() and (folder / records).is_dir()


def _folder_items(folder: Path, found: Findings, *, with_failed: bool) -> list[Item]:
    if is_run_dir(folder):
        holder = find_lock_holder(folder)
        if holder is None:
            return _run_items(folder, with_failed=with_failed, is_held=False)
        found.notes.append(f"left alone: {folder} is in use by process {holder}")
        return []
    if folder.name == ".fseed":
        return _items(folder, [(Path(CACHE_NAME).name, CACHE), *_temporaries(folder, stale=True)])
    if folder.name == TABLES_DIR:
        return _items(folder, _temporaries(folder, stale=True))
    if not _is_sweep(folder):
        return []
    # the folder of a staged sweep, which one process holds as a whole
    holder = find_lock_holder(folder)
    if holder is not None:
        found.notes.append(f"left alone: {folder} itself is in use by process {holder}")
        return []
    return _run_items(folder, with_failed=False, is_held=False)


def _run_items(folder: Path, *, with_failed: bool, is_held: bool) -> list[Item]:
    """Return what may go from the folder of a run, or of a sweep, that no other process holds."""
    told = _temporaries(folder, stale=False)
    if not is_held:
        told.append((LOCK_FILE, ORPHAN_LOCK))
    if is_run_dir(folder):
        told += _leftovers(read_run(folder), with_failed=with_failed)
    return _items(folder, told)


def _leftovers(record: RunRecord, *, with_failed: bool) -> list[tuple[str, str]]:
    """Return names and reasons of the large files that a run does not need any more."""
    if not record.choices and not record.provenance:
        return []
    damaged = [name + DAMAGED_SUFFIX for name in CHECKPOINTS]
    if record.status == "failed" and with_failed:
        return [(name, FAILED_CHECKPOINT) for name in (*CHECKPOINTS, *damaged)]
    if record.status != "finished" or not _has_predictions(record):
        return []
    output = record.config.get("output")
    keeps = isinstance(output, dict) and output.get("keep_checkpoint") is True
    names = [*CHECKPOINTS[1 if keeps else 0 :], *damaged]
    return [*((name, FINISHED_CHECKPOINT) for name in names), (WORKER_LOG, FINISHED_LOG)]


def _has_predictions(record: RunRecord) -> bool:
    """Tell whether the predictions are whole; a run without them is trained again."""
    try:
        record.predictions()
    except RecordError:
        return False
    return True


def _temporaries(folder: Path, *, stale: bool) -> list[tuple[str, str]]:
    """Return names and reasons of temporary files; ``stale``: only those that are old."""
    limit = time.time() - STALE_SECONDS
    return [
        (name, TEMPORARY)
        for name in sorted(_names(folder))
        if _TEMPORARY.fullmatch(name) is not None
        and (not stale or os.lstat(folder / name).st_mtime < limit)
    ]


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _items(folder: Path, told: Sequence[tuple[str, str]]) -> list[Item]:
    """Return the regular files among the names told."""
    items = []
    for name, reason in told:
        try:
            status = os.lstat(folder / name)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            items.append(Item(folder / name, status.st_size, reason))
    return items


def _needs_lock(folder: Path) -> bool:
    return is_run_dir(folder) or _is_sweep(folder)


def _is_sweep(folder: Path) -> bool:
    """Tell whether this is the folder of a staged sweep: a plan alone may be anybody's."""
    has_files = bool(SWEEP_FILES & _names(folder))
    return has_files and any(is_run_dir(path) for path in folder.glob("*/*/*/s*-*"))


def _unlink(wanted: Sequence[Item], allowed: set[Path], removed: Findings) -> None:
    """Remove files of one folder; a lock is removed by whoever held it last."""
    descriptor = os.open(wanted[0].path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for item in wanted:
            if item.reason == ORPHAN_LOCK:
                removed.items.append(item)
            elif item.path in allowed:
                try:
                    os.unlink(item.path.name, dir_fd=descriptor)
                    removed.items.append(item)
                except OSError as error:
                    removed.notes.append(f"cannot remove {item.path}: {one_line(error.strerror)}")
    finally:
        os.close(descriptor)
