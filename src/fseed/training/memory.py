"""Peak memory of a run, and the errors of too little."""

import resource
import sys

import torch

_CPU_ALLOCATOR = "DefaultCPUAllocator"  # names itself in the RuntimeError of a CPU


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error)


def peak_memory_gib(device: torch.device) -> float:
    """Return the peak in GiB: allocated on the GPU, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss counts bytes on macOS and KiB elsewhere
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
