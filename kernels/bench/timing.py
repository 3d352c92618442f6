"""GPU time of a call: CUDA events around graph replays, or around the call itself."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass

import torch
from torch import Tensor

WARM_UP = 3
REPLAY_TOLERANCE = 1e-2  # atomics reorder sums; a missing kernel is far beyond
Call = Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Median of ``n`` times; ``spread``: how far the medians of two series lie apart, as a part."""

    milliseconds: float
    spread: float
    n: int
    timer: str  # graph or events
    note: str = ""


def summarize(first: Sequence[float], second: Sequence[float], *, timer: str) -> Timing:
    """Join two series of the same version, in milliseconds, into one timing."""
    both = [*first, *second]
    median = statistics.median(both)
    apart = abs(statistics.median(first) - statistics.median(second))
    return Timing(milliseconds=median, spread=apart / median, n=len(both), timer=timer)


def time_calls(calls: Sequence[Call], *, repeats: int) -> Timing:
    """Time one version on several input sets in turn, 2 x ``repeats`` samples.

    The better of graph replays and plain calls: a launch-bound version is not judged by its host
    code where a graph helps, and one that cannot be captured is timed as it is.
    """
    plain = time_versions([calls], repeats=repeats, timer="events")[0]
    try:
        graphs = [capture(call) for call in calls]
    except Exception as error:  # whatever a foreign library raises in a capture
        with suppress(RuntimeError):  # the broken capture may be reported once more
            torch.cuda.synchronize()
        note = f"no graph: {first_line(error)}"
        return Timing(plain.milliseconds, plain.spread, plain.n, plain.timer, note)
    replayed = time_versions([[graph.replay for graph in graphs]], repeats=repeats, timer="graph")
    return min(plain, replayed[0], key=lambda timing: timing.milliseconds)


def time_graphs_in_turn(versions: Sequence[Call], *, repeats: int) -> list[Timing]:
    """Time several versions sample by sample in turn, so that a drifting clock cancels."""
    graphs = [[capture(version).replay] for version in versions]
    return time_versions(graphs, repeats=repeats, timer="graph")


def time_versions(versions: Sequence[Sequence[Call]], *, repeats: int, timer: str) -> list[Timing]:
    """Time versions in turn, each rotating over its input sets, in two series of ``repeats``."""
    for calls in versions:
        for index in range(max(WARM_UP, len(calls))):
            calls[index % len(calls)]()
    series: list[tuple[list[float], list[float]]] = [([], []) for _ in versions]
    for half in (0, 1):
        for index in range(repeats):
            for calls, times in zip(versions, series, strict=True):
                times[half].append(elapsed(calls[index % len(calls)]))
    return [summarize(first, second, timer=timer) for first, second in series]


def elapsed(call: Call) -> float:
    """Return the milliseconds between two events around ``call``, host launch gaps included."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def capture(call: Call) -> torch.cuda.CUDAGraph:
    """Capture ``call`` after warm-up on a side stream, and check what a replay computes.

    Raises:
        RuntimeError: where the graph does not hold the whole call. A library that launches on the
            legacy default stream is not captured and raises nothing: its replay would look fast.
    """
    expected = [tensor.detach().clone() for tensor in tensors_of(call())]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    check_replay(graph.replay, tensors_of(result), expected)
    return graph


def check_replay(replay: Call, captured: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """Poison the captured results, replay, and compare with those of a plain call.

    Raises:
        RuntimeError: where a result is not written, or is another one.
    """
    with torch.no_grad():
        for tensor in captured:
            tensor.fill_(float("nan"))
        replay()
        for tensor, wanted in zip(captured, expected, strict=True):
            apart = (tensor.float() - wanted.float()).norm()
            if not apart <= REPLAY_TOLERANCE * wanted.float().norm():
                raise RuntimeError("a replay of its graph does not give its results")


def tensors_of(result: object) -> list[Tensor]:
    """Return the float tensors in a result: a tensor, a tuple or a dataclass of them."""
    if isinstance(result, Tensor):
        return [result.detach()] if result.is_floating_point() else []
    if is_dataclass(result):
        return tensors_of([getattr(result, field.name) for field in fields(result)])
    if isinstance(result, (tuple, list)):
        return [tensor for part in result for tensor in tensors_of(part)]
    return []


def peak_gib(call: Call) -> float:
    """Return the peak memory of one eager call beyond what is allocated before it."""
    call()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    kept = call()
    torch.cuda.synchronize()
    del kept
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def first_line(error: BaseException, *, limit: int = 160) -> str:
    """Return the kind and the first line of an error."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:limit]
