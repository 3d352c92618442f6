"""What a process on the CPU does with memory that tensors free."""

import ctypes
import sys

# parameters of mallopt, from malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_KEPT_BLOCK = 2**30  # bytes
_NEVER = 2**31 - 1  # bytes of free memory at the top of the heap before any is given back


def keep_freed_memory() -> bool:
    """Let glibc keep what tensors free for the next ones; True where that could be set.

    By default it hands blocks of megabytes back to the kernel, and every operator that takes one
    again waits for fresh, zeroed pages: 10 % of a training step of nano. Changes no digit. Nothing
    happens, and False is returned, where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    settings = ((_MMAP_THRESHOLD, _LARGEST_KEPT_BLOCK), (_TRIM_THRESHOLD, _NEVER))
    return all(mallopt(parameter, value) == 1 for parameter, value in settings)
