"""One process that loads one library and measures its versions; a hang or crash ends here."""

import gc
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.correctness import KINDS, measure_errors
from bench.data import draw_problem
from bench.operators import LaunchOperator, Operator, draw_carried
from bench.peers import Implementation, of_worker
from bench.profiling import time_kernels
from bench.rows import Row, append_row, note_row
from bench.shapes import DECODE, FUTURE_SEED, SMALL, Shape, num_input_sets
from bench.timing import Timing, first_line, peak_gib, time_calls, time_graphs_in_turn

SLOW_MILLISECONDS = 20.0  # beyond it, fewer samples


@dataclass(frozen=True)
class Plan:
    """What a worker measures and where it writes."""

    shapes: Sequence[Shape]
    repeats: int  # samples of each of two series
    kernels: bool
    rows: Path
    full_tuning: bool = False


def run_worker(worker: str, plan: Plan) -> None:
    """Load, check and time every version of ``worker``; failures become rows."""
    if worker.startswith("fla"):
        from bench.tuning import leave_out_wide_configs, shorten_tuning

        shorten_tuning()
        if not plan.full_tuning:
            leave_out_wide_configs()
    for item in of_worker(worker):
        try:
            operator = item.load()
            Measurement(item, operator, plan).run()
        except Exception as error:
            traceback.print_exc()
            row = note_row(item.name, item.group, "failed", first_line(error))
            append_row(plan.rows, row)


def prepare_worker(worker: str, *, shard: int, shards: int, full_tuning: bool) -> None:
    """Compile ahead of the timing: a shard of FLA's configurations, or the library's extension."""
    if not worker.startswith("fla"):
        of_worker(worker)[0].load()
        return
    from bench.tuning import compile_shard, leave_out_wide_configs

    if not full_tuning:
        leave_out_wide_configs()
    compile_shard(shard, shards)
    problem = draw_problem(Shape(2, 256, 12), seed=0)
    for item in of_worker(worker):
        operator = item.load()
        native = operator.convert(problem)
        (operator.forward_backward if trains(item) else operator.prompt)(native)


def trains(item: Implementation) -> bool:
    """Tell whether a version has a backward pass."""
    return "forward_backward" in item.passes


class Measurement:
    """Everything about one version."""

    def __init__(self, item: Implementation, operator: Operator, plan: Plan) -> None:
        """Measure ``operator``, loaded from ``item``."""
        self.item, self.operator, self.plan = item, operator, plan

    def run(self) -> None:
        """Warm up on the first shape (a tuner decides there), then errors, then times."""
        warm = self.operator.convert(draw_problem(self.plan.shapes[0], seed=0))
        (self.operator.forward_backward if trains(self.item) else self.operator.prompt)(warm)
        del warm
        for kind in KINDS:
            self.attempt(lambda kind=kind: self.errors(kind))
        for shape in self.plan.shapes:
            self.attempt(lambda shape=shape: self.times(shape), shape=shape)
        if "decode" in self.item.passes:
            for shape in DECODE:
                self.attempt(lambda shape=shape: self.decode(shape), shape=shape)
        if self.item.group == "ours":
            for shape in {*self.plan.shapes, SMALL}:
                if shape.name in FUTURE_SEED:
                    self.attempt(lambda shape=shape: self.future_seed(shape), shape=shape)
        if self.item.group == "ours" and self.plan.kernels:
            for shape in self.plan.shapes:
                self.attempt(lambda shape=shape: self.kernel_times(shape), shape=shape)

    def attempt(self, step: Callable[[], None], *, shape: Shape | None = None) -> None:
        """Run one step; a failure becomes a row, the next step still runs."""
        try:
            step()
        except Exception as error:
            traceback.print_exc()
            name, group = self.item.name, self.item.group
            row = note_row(name, group, "failed", first_line(error), shape=shape)
            append_row(self.plan.rows, row)
        gc.collect()
        torch.cuda.empty_cache()

    def errors(self, kind: str) -> None:
        """Write the error of every output and gradient."""
        errors = measure_errors(self.operator, kind=kind, trains=trains(self.item))
        for name, value in errors.items():
            self.write(metric=f"error_{name}", value=value, unit="relative", data=kind)

    def times(self, shape: Shape) -> None:
        """Write the time of every pass and the peak memory of forward + backward."""
        natives = self.input_sets(shape)
        for name in self.item.passes:
            if name != "decode":
                self.time(shape, name, [self.call(name, native) for native in natives])
        if trains(self.item):
            value = peak_gib(self.call("forward_backward", natives[0]))
            self.write(shape.name, "forward_backward", "peak_memory", value=value, unit="GiB")

    def decode(self, shape: Shape) -> None:
        """Write the time of one token."""
        name = "decode" if isinstance(self.operator, LaunchOperator) else "prompt"
        natives = self.input_sets(shape)
        self.time(shape, "decode", [self.call(name, native) for native in natives])

    def future_seed(self, shape: Shape) -> None:
        """Write forward + backward without and with a carried state, timed in turn."""
        assert isinstance(self.operator, LaunchOperator)
        both = self.operator.both
        off = replace(draw_problem(shape, seed=0), initial_state=None)
        on = replace(off, carried=draw_carried(off, seed=1))
        versions = [lambda: both(off), lambda: both(on)]
        timings = time_graphs_in_turn(versions, repeats=2 * self.plan.repeats)
        for name, timing in zip(("future_seed_off", "future_seed_on"), timings, strict=True):
            self.write_timing(shape, name, timing)

    def kernel_times(self, shape: Shape) -> None:
        """Write the time of every kernel inside forward + backward, and what it moves."""
        native = self.operator.convert(draw_problem(shape, seed=0))
        call = self.call("forward_backward", native)
        for kernel in time_kernels(call, shape, repeats=self.plan.repeats):
            more = {"n": kernel.n, "timer": "profiler", "note": kernel.note}
            self.write(shape.name, kernel.name, value=kernel.milliseconds, unit="ms", **more)
            if kernel.tb_per_second is not None:
                rate = kernel.tb_per_second
                self.write(shape.name, kernel.name, "bandwidth", value=rate, unit="TB/s", **more)

    def input_sets(self, shape: Shape) -> list[Any]:
        """Draw as many input sets as it takes to leave the L2 cache."""
        cache = torch.cuda.get_device_properties(0).L2_cache_size
        count = num_input_sets(7 * shape.tensor_bytes + shape.state_bytes, cache)
        return [self.operator.convert(draw_problem(shape, seed=i)) for i in range(count)]

    def call(self, name: str, native: Any) -> Callable[[], object]:
        """Return a call of one pass."""
        run = getattr(self.operator, name)
        return lambda: run(native)

    def time(self, shape: Shape, name: str, calls: list[Callable[[], object]]) -> None:
        """Time one pass and write it."""
        calls[0]()
        repeats = self.plan.repeats
        if quick_estimate(calls[0]) > SLOW_MILLISECONDS:
            repeats = min(repeats, 10)
        self.write_timing(shape, name, time_calls(calls, repeats=repeats))

    def write_timing(self, shape: Shape, name: str, timing: Timing) -> None:
        """Write a time with its spread."""
        self.write(
            shape.name,
            name,
            value=timing.milliseconds,
            unit="ms",
            n=timing.n,
            timer=timing.timer,
            spread=timing.spread,
            note=timing.note,
        )

    def write(self, shape: str = "", run: str = "", metric: str = "time", **values: Any) -> None:
        """Append a row of this version."""
        row = Row(self.item.name, self.item.group, shape, run, metric, **values)
        append_row(self.plan.rows, row)


def run_floor(plan: Plan) -> None:
    """Write the copy bandwidth and, per shape, the kernels that only move the bytes."""
    from bench import floor
    from bench.shapes import TENSORS

    copy = time_calls([floor.build_copy()], repeats=plan.repeats)
    rate = 2 * floor.COPY_BYTES / copy.milliseconds * 1e3
    row = Row("copy", "floor", metric="bandwidth", value=rate / 1e12, unit="TB/s", n=copy.n)
    append_row(plan.rows, replace(row, timer=copy.timer, spread=copy.spread))
    for shape in plan.shapes:
        forward, backward = floor.build_streams(shape)
        versions = {
            "forward": [forward],
            "backward": [backward],
            "forward_backward": [lambda f=forward, b=backward: (f(), b())],
        }
        for name, calls in versions.items():
            timing = time_calls(calls, repeats=plan.repeats)
            row = Row("streaming floor", "floor", shape.name, name, value=timing.milliseconds)
            row = replace(row, unit="ms", n=timing.n, timer=timing.timer, spread=timing.spread)
            append_row(plan.rows, row)
            moved = TENSORS[name] * shape.tensor_bytes
            row = Row("bytes over copy bandwidth", "floor", shape.name, name, unit="ms")
            append_row(plan.rows, replace(row, value=moved / rate * 1e3))


def quick_estimate(call: Callable[[], object]) -> float:
    """Return the milliseconds of one call."""
    from bench.timing import elapsed

    return elapsed(call)
