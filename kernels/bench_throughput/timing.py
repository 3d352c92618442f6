"""When each optimiser step ended: CUDA events, which wait for nothing, or the clock of a CPU."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

STEADY = 1.5  # a step counts as steady from this many medians on


class StepClock:
    """Marks on the stream of the device; they are read once, at the end.

    ``start`` waits for the device, so the first step begins at a known moment of the wall clock.
    """

    def __init__(self, device: torch.device) -> None:
        """Mark on the current stream of ``device``."""
        self.device = device
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []
        self._started = 0.0

    def start(self) -> None:
        """Begin: everything before has ended."""
        self._events, self._times = [], []
        self.wait()
        self._started = time.time()
        self.mark()

    def mark(self) -> None:
        """Say that a step was handed to the device (GPU) or has ended (CPU)."""
        if self.device.type != "cuda":
            self._times.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        self._events.append(event)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self) -> list[float]:
        """Return the seconds of every step."""
        if self.device.type == "cuda":
            pairs = zip(self._events, self._events[1:], strict=False)
            return [first.elapsed_time(second) / 1e3 for first, second in pairs]
        return [b - a for a, b in zip(self._times, self._times[1:], strict=False)]

    @property
    def started(self) -> float:
        """Return the wall clock's time of ``start``."""
        return self._started


@dataclass(frozen=True)
class StepTimes:
    """Median and spread of the timed steps, in seconds; ``window`` is their mean."""

    median: float
    p10: float
    p90: float
    window: float
    n: int


def summarize(seconds: Sequence[float], *, warm_up: int) -> StepTimes:
    """Return what the steps behind the warm-up took.

    Raises:
        ValueError: where no step is left.
    """
    timed = sorted(seconds[warm_up:])
    if not timed:
        raise ValueError(f"{len(seconds)} steps leave none behind a warm-up of {warm_up}")
    low, high = (timed[round(share * (len(timed) - 1))] for share in (0.1, 0.9))
    mean = statistics.fmean(timed)
    return StepTimes(statistics.median(timed), low, high, mean, len(timed))


def steady_after(seconds: Sequence[float], *, median: float) -> float:
    """Return the seconds from the start to the end of the last step that was not yet steady.

    A step is steady at ``STEADY`` medians or less; later single slow steps count as well, so a
    graph that is captured in the tenth step shows.
    """
    slow = [i for i, each in enumerate(seconds) if each > STEADY * median]
    return sum(seconds[: slow[-1] + 1]) if slow else 0.0
