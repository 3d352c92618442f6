"""What this machine must offer before a run starts: a GPU where one is asked for, a place to write.

The checks leave nothing behind and import no torch, which would cost seconds; the run itself asks
torch again.
"""

import ctypes
import os
import secrets
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fseed.config.schema import Accelerator, RunConfig
from fseed.errors import UserError

DEVICE_FOLDER = Path("/dev")
CUDA_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")


def check_accelerator(config: RunConfig) -> None:
    """Raise UserError when a GPU is asked for and this machine or this torch has none."""
    if config.trainer.accelerator is not Accelerator.gpu:
        return
    reason = missing_gpu_reason()
    if reason is not None:
        raise UserError(f"trainer asks for a GPU, but {reason}; use trainer=cpu")


def missing_gpu_reason() -> str | None:
    """Return why no CUDA GPU can be used here, or None when nothing speaks against it."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides them all"
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return "torch is not installed"
    if installed.endswith("+cpu"):
        return f"the installed torch {installed} is built for the CPU"
    if any(DEVICE_FOLDER.glob("nvidia[0-9]*")) or _has_cuda_library():
        return None
    return "this machine has no NVIDIA device and no CUDA driver"


def check_writable(folder: Path) -> None:
    """Raise UserError unless ``folder``, which need not exist, can be created and written.

    The only sure way is to try: a folder is made in the nearest existing parent and removed.
    """
    place = folder
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        probe = place / f".fseed-{secrets.token_hex(4)}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        reason = "it is a file" if place.is_file() else error.strerror
        raise UserError(
            f"cannot write to {folder}\n{place}: {reason}; give another output.root"
        ) from error


def _has_cuda_library() -> bool:
    for name in CUDA_LIBRARIES:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
