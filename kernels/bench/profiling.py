"""GPU time of every single kernel of a call, by the profiler, and what it moves."""

import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage] no public name
from torch.profiler import ProfilerActivity, profile

from bench.shapes import Shape

# [B, T, H, 64] bf16 tensors read and written by a kernel, chunk 64: kernels/README.md
TENSORS_OF_KERNEL = {
    "forward_chunk": 11,  # r decay_logit k v alpha beta -> P N Q Y X
    "forward_scan": 6,  # P N Q Y -> y S
    "backward_scan": 4,  # P Q dy -> dE
    "backward_values": 13,  # six inputs, dy, S, dE, X -> dv, U, dZ
    "backward_keys": 16,  # six inputs, dy, S, dE, U, dZ -> five gradients
    "backward_chunk": 16,  # six inputs, dy, S, dE, X -> six gradients
    # as the two kernels that they replace; what passes from one part to the other may stay in L2
    "forward_chained": 17,
    "backward_chained": 20,
}


@dataclass(frozen=True)
class Kernel:
    """Median time of one kernel per call; ``tb_per_second`` None where its bytes are not known."""

    name: str
    milliseconds: float
    n: int
    tb_per_second: float | None
    note: str


def time_kernels(call: Callable[[], object], shape: Shape, *, repeats: int) -> list[Kernel]:
    """Profile ``repeats`` calls and return their kernels in the order of the first launch."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(repeats):
            call()
        torch.cuda.synchronize()
    durations: dict[str, list[float]] = defaultdict(list)
    events = [e for e in profiler.events() or () if e.device_type == DeviceType.CUDA]
    for event in sorted(events, key=lambda e: e.time_range.start):
        durations[event.name].append(event.time_range.elapsed_us() / 1e3)
    return [
        summarize_kernel(name, per_call(times, repeats), shape) for name, times in durations.items()
    ]


def per_call(times: list[float], repeats: int) -> list[float]:
    """Sum the launches of each call: a kernel may be launched several times, in slices."""
    launches = max(1, len(times) // repeats)
    return [sum(times[i : i + launches]) for i in range(0, len(times), launches)]


def summarize_kernel(name: str, times: list[float], shape: Shape) -> Kernel:
    """Return the median of a kernel and its bandwidth."""
    median = statistics.median(times)
    known = [key for key in TENSORS_OF_KERNEL if key in name]
    if not known or median <= 0:
        return Kernel(name, median, len(times), None, "")
    moved = TENSORS_OF_KERNEL[known[0]] * shape.tensor_bytes
    note = f"moves {TENSORS_OF_KERNEL[known[0]]} T = {moved / 1e6:.0f} MB"
    return Kernel(known[0], median, len(times), moved / median / 1e9, note)
