"""One step by part: what ran on the device, from torch.profiler, beside what had to move.

A step that is replayed from a graph tells no operator behind its kernels: its matrix products
cannot be told apart there, and a second profile of the same step, launch by launch, tells them.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage] no public name
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from bench_throughput.flops import bytes_by_part, flops_by_part, peak_of, roofline_seconds
from bench_throughput.jobs import Job
from bench_throughput.measured import device_name
from bench_throughput.ours import train_ours
from bench_throughput.parts import PARTS, Work, part_of
from bench_throughput.rows import Row, job_row
from bench_throughput.workload import Setting
from fseed.models.shape import RWKV7Shape
from fseed.training.memory import free_memory

# their numbers are of another kind than those of operators, and may be the same
RUNTIME_CALLS = ("cuda", "cuLaunch", "cuMem")


class StepProfile:
    """Profile the steps behind the warm-up."""

    def __init__(self, *, warm_up: int, steps: int, is_gpu: bool) -> None:
        """Start after ``warm_up`` steps and stop after ``steps``."""
        self.warm_up, self.steps, self.is_gpu = warm_up, steps, is_gpu
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
        self.profiler = profile(activities=kinds, record_shapes=True)

    def __call__(self, done: int) -> None:
        """Be called after every step."""
        if done == self.warm_up:
            self._wait()
            self.profiler.start()
        elif done == self.steps:
            self._wait()
            self.profiler.stop()

    def works(self) -> list[Work]:
        """Return everything that ran."""
        events: Any = self.profiler.events()
        return works_on_gpu(events) if self.is_gpu else works_on_cpu(events)

    def _wait(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()


def works_on_gpu(events: Iterable[FunctionEvent]) -> list[Work]:
    """Return every kernel with the operator that launched it, where one is known."""
    found: list[Work] = []
    launched: dict[str, float] = defaultdict(float)
    everything: dict[str, float] = defaultdict(float)
    for event in events:
        if event.device_type == DeviceType.CUDA:
            if not is_range(event):
                everything[event.name] += event.time_range.elapsed_us()
            continue
        if event.name.startswith(RUNTIME_CALLS):
            continue
        for kernel in event.kernels:
            launched[kernel.name] += kernel.duration
            found.append(describe(event, kernel.name, kernel.duration))
    for name, microseconds in everything.items():
        rest = microseconds - launched[name]
        if rest > 0.5:
            found.append(Work(name, "", (), (), rest))
    return found


def is_range(event: FunctionEvent) -> bool:
    """Tell a range that was drawn around kernels from a kernel."""
    return bool(getattr(event, "is_user_annotation", False)) or "#" in event.name


def works_on_cpu(events: Iterable[FunctionEvent]) -> list[Work]:
    """Return every operator with the time that is its own."""
    return [
        describe(event, event.name, event.self_cpu_time_total)
        for event in events
        if event.device_type == DeviceType.CPU and event.self_cpu_time_total > 0
    ]


def describe(event: FunctionEvent, kernel: str, microseconds: float) -> Work:
    """Return the work of an event, with the names around it."""
    ranges, parent = [], event.cpu_parent
    while parent is not None:
        ranges.append(parent.name)
        parent = parent.cpu_parent
    shapes: Any = event.input_shapes or ()  # a list a tensor, whatever their annotation says
    sizes = tuple(tuple(size) for size in shapes if size)
    return Work(kernel, event.name, sizes, tuple(ranges), microseconds)


def profile_step(setting: Setting, job: Job) -> Row:
    """Train the steps of ``job`` and return the time of every part of one step behind the warm-up.

    ``milliseconds`` is the step without a profiler around it.
    """
    plain = train_ours(setting, job, micro_batch=job.shape.batch)
    seconds = sorted(plain.clock.seconds()[job.warm_up :])
    free_memory()
    is_gpu = plain.clock.device.type == "cuda"
    observer = StepProfile(warm_up=job.warm_up, steps=job.steps, is_gpu=is_gpu)
    found = train_ours(setting, job, micro_batch=job.shape.batch, after=observer)
    parts, rest = sum_parts(observer.works(), found.shape, steps=job.steps - job.warm_up)
    device = device_name(found.clock)
    peak = peak_of(device)
    least = {} if peak is None else roofline_seconds(found.shape, found.load, peak)
    return job_row(
        job, "profile",
        milliseconds=1e3 * seconds[len(seconds) // 2],
        parts=parts, rest=rest,
        bytes=bytes_by_part(found.shape, found.load),
        flops=flops_by_part(found.shape, found.load),
        least_milliseconds={part: 1e3 * value for part, value in least.items()},
        device=device, tokens=found.load.tokens, **found.facts,
    )  # fmt: skip


def sum_parts(
    works: Iterable[Work], shape: RWKV7Shape, *, steps: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the milliseconds of every part of a step, and the largest of everything else."""
    by_part: dict[str, float] = defaultdict(float)
    rest: dict[str, float] = defaultdict(float)
    for work in works:
        part, milliseconds = part_of(work, shape), work.microseconds / 1e3 / steps
        by_part[part] += milliseconds
        if part == "everything else":
            rest[work.operator or work.kernel] += milliseconds
    largest = sorted(rest.items(), key=lambda item: -item[1])[:8]
    return {part: by_part[part] for part in PARTS if part in by_part}, dict(largest)
