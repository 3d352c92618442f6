"""Peak memory of a run, and the errors of too little."""

import resource
import sys

import torch

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


def peak_memory_gib(device: torch.device) -> float:
    """Return the peak in GiB: allocated on the GPU, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss counts bytes on macOS and KiB elsewhere
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
