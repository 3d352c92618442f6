"""Run checks side by side: their time is that of compilers, which leave Python to other threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

MAX_THREADS = 4  # as many problems of a check lie in the device's memory at once


def first_finding(checks: Sequence[Callable[[], str]], device: torch.device) -> str:
    """Return the first text that is not empty, in the order of ``checks``; "" where all are empty.

    On a CPU one after another: there Triton interprets, in Python. Exceptions reach the caller.
    """
    if device.type != "cuda":
        return next((finding for check in checks if (finding := check())), "")

    index = torch.cuda.current_device() if device.index is None else device.index

    def run(check: Callable[[], str]) -> str:
        torch.cuda.set_device(index)  # of this thread
        finding = check()
        torch.cuda.synchronize(index)  # an error of the device belongs to this check
        return finding

    with ThreadPoolExecutor(min(len(checks), MAX_THREADS)) as pool:
        return next((finding for finding in pool.map(run, checks) if finding), "")
