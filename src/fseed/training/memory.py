"""Peak memory of a run, the errors of too little, and how what a run held is given back."""

import gc
import resource
import sys
from pathlib import Path

import torch

from fseed.training.host_memory import give_back_freed_memory

# how a CPU and the libraries of a GPU say it in a plain RuntimeError
_SAYINGS = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


class ScoringOutOfMemory(MemoryError):
    """Memory ran out while a split was scored, not in a training step."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _SAYINGS)


def peak_memory_gib(device: torch.device) -> float:
    """Return the peak in GiB: allocated on the GPU, or resident in this process on a CPU.

    It counts from the last ``reset_peak_memory``; where a system cannot reset it, from the start
    of the process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    resident = _read_status("VmHWM")
    if resident is not None:
        return resident / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss counts bytes on macOS and KiB elsewhere
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def peak_reserved_gib(device: torch.device) -> float | None:
    """Return the most that PyTorch's allocator held of a GPU in GiB; None on a CPU.

    With the CUDA context (some hundred MiB, in no counter of PyTorch) this is what another process
    on the same GPU cannot have.
    """
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_reserved(device) / 2**30


def reset_peak_memory(device: torch.device) -> None:
    """Let the peak begin anew with what is held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _RESET.write_text("5")
    except OSError:
        # no such file outside Linux, and some containers forbid it: the peak is the process's
        return


def free_memory() -> None:
    """Give back what objects without an owner hold, also to other processes on the GPU."""
    gc.collect()  # module, trainer and callbacks of a run refer to each other
    give_back_freed_memory()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _read_status(name: str) -> int | None:
    """Return a field of this process's status in KiB; None outside Linux."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    value = next(found, None)
    return None if value is None else int(value)
