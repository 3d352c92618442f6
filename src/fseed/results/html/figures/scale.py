"""From numbers to places: linear scales whose ticks are round numbers."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

MIN_TICKS = 4


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] onto [start, end]; ``ticks`` are round and lie inside."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    step: float

    def place(self, value: float) -> float:
        """Return the coordinate of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def label(self, value: float, *, is_signed: bool = False) -> str:
        """Return a tick with as many decimals as the distance between ticks asks for."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        text = f"{value:+.{decimals}f}" if is_signed and value != 0 else f"{value:.{decimals}f}"
        return text.replace("-", "\u2212")


def build_scale(
    values: Iterable[float],
    *,
    start: float,
    end: float,
    include: Iterable[float] = (),
    padding: float = 0.05,
    min_ticks: int = MIN_TICKS,
) -> Scale:
    """Return a scale that holds all ``values`` and ``include``, padded by a share of its width.

    ValueError without any value, or with one that is not finite.
    """
    known = [*values, *include]
    if not known or not all(map(math.isfinite, known)):
        raise ValueError("a scale needs finite values")
    low, high = min(known), max(known)
    if low == high:
        # one value alone stands in the middle
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    width = high - low
    # the margin does not cross zero: what is never negative starts there
    low = max(0.0, low - padding * width) if low >= 0 else low - padding * width
    high += padding * width
    step, ticks = _round_ticks(low, high, min_ticks=min_ticks)
    return Scale(low, high, start, end, ticks, step)


def short_count(value: float) -> str:
    """Return a number of tokens in few characters: 800, 24k, 1.5M, 2B."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _round_ticks(low: float, high: float, *, min_ticks: int) -> tuple[float, tuple[float, ...]]:
    """Return the largest step of 1, 2, 5 times a power of ten with enough ticks, and the ticks."""
    power = 10.0 ** math.floor(math.log10(high - low))
    for factor in (5.0, 2.0, 1.0, 0.5, 0.2, 0.1):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 >= min_ticks:
            break
    # significant digits, not decimals: losses may be tiny
    return step, tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))
