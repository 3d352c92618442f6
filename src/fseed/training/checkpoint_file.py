"""The checkpoint of a run on disk: sealed with its SHA-256, checked when written and when read.

Two files at most: ``checkpoint.ckpt`` and the one before it. A new one is written beside them,
synced, read back and renamed, and only the older of the two has made room for it: whatever ends
the process, a whole checkpoint is left, and at no time does a run keep more than two.

The file is PyTorch's zip archive and behind it 32 bytes of digest and ``MARK``; readers of zip
archives stop before them.
"""

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from fseed.record_schema import CHECKPOINT_FILE, DAMAGED_SUFFIX
from fseed.record_schema import PREVIOUS_CHECKPOINT_FILE as PREVIOUS_FILE

MARK = b"fseed-sha256\n"
SEAL_BYTES = 32 + len(MARK)
_PIECE_BYTES = 1 << 22
_BUFFER_BYTES = 1 << 20


class DamagedCheckpoint(Exception):
    """A file that is not what was written; the message says why."""


@dataclass(frozen=True)
class Start:
    """Where a run begins: behind ``step`` of the checkpoint at ``path``, or anew (None and -1).

    ``damaged``: what was found unusable and set aside, a sentence each.
    """

    path: Path | None
    step: int
    damaged: tuple[str, ...] = ()


def find_start(run_dir: Path) -> Start:
    """Return the last whole checkpoint of a run; a damaged one is renamed out of the way."""
    damaged: list[str] = []
    for path in (run_dir / CHECKPOINT_FILE, run_dir / PREVIOUS_FILE):
        if not path.exists():
            continue
        try:
            return Start(path, read_checkpoint_step(path), tuple(damaged))
        except DamagedCheckpoint as error:
            aside = path.with_name(path.name + DAMAGED_SUFFIX)
            os.replace(path, aside)
            damaged.append(f"{path.name} was damaged ({error}) and is kept as {aside.name}")
    return Start(None, -1, tuple(damaged))


def read_checkpoint_step(path: Path) -> int:
    """Return the optimiser step of a whole checkpoint.

    Raises:
        DamagedCheckpoint: if the content is not what was written.
    """
    check_seal(path)
    try:
        content = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        return int(content["global_step"])
    except Exception as error:
        raise DamagedCheckpoint(f"{type(error).__name__} when read") from error


def check_seal(path: Path) -> None:
    """Raise DamagedCheckpoint unless the file ends with the digest of all that stands before."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - SEAL_BYTES, 0))
        seal = file.read()
        if len(seal) != SEAL_BYTES or not seal.endswith(MARK):
            raise DamagedCheckpoint("its end is missing")
        file.seek(0)
        if _digest(file, size - SEAL_BYTES) != seal[:32]:
            raise DamagedCheckpoint("its checksum differs")


def save_checkpoint(trainer: L.Trainer, path: Path) -> None:
    """Save model, optimiser and loop state as ``path``; the one before stays beside it.

    Raises:
        OSError: from the system, such as a full disk; nothing but whole checkpoints is left then.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    previous = path.with_name(PREVIOUS_FILE)
    if trainer.is_global_zero and path.exists():
        previous.unlink(missing_ok=True)
    try:
        trainer.save_checkpoint(temporary)
        if not trainer.is_global_zero:
            return
        seal(temporary)
        check_seal(temporary)
        if path.exists():
            os.replace(path, previous)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def seal(path: Path) -> None:
    """Sync ``path``, after its digest was added where whoever wrote it did not."""
    with path.open("rb+") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(size - len(MARK), 0))
        if file.read() != MARK:
            file.seek(0)
            file.write(_digest(file, size) + MARK)
        file.flush()
        os.fsync(file.fileno())


def remove_checkpoints(run_dir: Path, *, keep_last: bool) -> None:
    """Remove the checkpoints of a finished run, the last one too unless it is to be kept."""
    (run_dir / PREVIOUS_FILE).unlink(missing_ok=True)
    if not keep_last:
        (run_dir / CHECKPOINT_FILE).unlink(missing_ok=True)


class SealedCheckpointIO(TorchCheckpointIO):
    """Lightning's way to a checkpoint file: straight to disk with the digest of what was sent.

    Lightning's own would hold the whole file in memory, twice.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` and its seal to ``path``."""
        # torch writes thousands of pieces of some bytes
        with Path(path).open("wb", buffering=_BUFFER_BYTES) as file:
            hashing = _HashingFile(file)
            try:
                torch.save(checkpoint, hashing)  # pyright: ignore[reportArgumentType]
            except Exception as error:
                # PyTorch tells "unexpected pos" where the system said why
                raise hashing.error or error from None
            hashing.write(hashing.digest.digest() + MARK)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint to the CPU; on its way to a GPU it is mapped, not copied."""
        # on a CPU the optimiser would keep the mapped file as its state
        is_mapped = torch.cuda.is_initialized()
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)


class _HashingFile:
    """What ``torch.save`` writes to: a file that keeps the digest and the first error."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        self.digest.update(rest)
        try:
            while rest:
                rest = rest[self.file.write(rest) or 0 :]
        except OSError as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """Do nothing: the file hands over what it holds when it is closed."""


def _digest(file: Any, num_bytes: int) -> bytes:
    """Return the SHA-256 of the next ``num_bytes`` of an open file, less where it ends before."""
    digest = hashlib.sha256()
    while num_bytes > 0 and (piece := file.read(min(num_bytes, _PIECE_BYTES))):
        digest.update(piece)
        num_bytes -= len(piece)
    return digest.digest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
