"""Dose-response: the strength of the carried state against the difference it makes."""

from collections.abc import Sequence
from dataclasses import dataclass

from fseed.results.html.figures.panel import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    render_panel,
)
from fseed.results.html.figures.scale import Scale, build_scale
from fseed.results.html.markup import Html, element
from fseed.results.html.words import pp


@dataclass(frozen=True)
class Dose:
    """An arm at a strength, with its difference and interval as fractions."""

    arm: str
    strength: float
    difference: float
    low: float | None
    high: float | None


def render_doses(doses: Sequence[Dose], *, x_title: str, description: str) -> Html:
    """Return a numbered point per arm in the order given; nothing without points."""
    if not doses:
        return Html("")
    ends = [
        100 * value
        for dose in doses
        for value in (dose.difference, dose.low, dose.high)
        if value is not None
    ]
    x = build_scale([dose.strength for dose in doses], start=LEFT, end=WIDTH - RIGHT, include=[0.0])
    y = build_scale(ends, start=HEIGHT - BOTTOM, end=TOP, include=[0.0])
    marks = [_mark(number, dose, x, y) for number, dose in enumerate(doses, start=1)]
    return render_panel(
        Axis(x, x_title, x.label),
        Axis(y, "difference, pp", lambda tick: y.label(tick, is_signed=True)),
        marks,
        description=description,
    )


def _mark(number: int, dose: Dose, x: Scale, y: Scale) -> Html:
    left, up = x.place(dose.strength), y.place(100 * dose.difference)
    title = element("title", f"{dose.arm}: strength {dose.strength:.3f}, {pp(dose.difference)} pp")
    whisker = None
    if dose.low is not None and dose.high is not None:
        ends = {"y1": y.place(100 * dose.low), "y2": y.place(100 * dose.high)}
        whisker = element("line", x1=left, x2=left, class_="interval", **ends)
    point = element("circle", title, cx=left, cy=up, r=4.5, class_="mean")
    # neighbours of nearly one strength: names alternate between right and left
    side = {"x": left + 8} if number % 2 else {"x": left - 14}
    name = element("text", str(number), y=up - 6, class_="note strong", **side)
    return element("g", whisker, point, name)
