"""The frame of a small drawing: axes with units, ticks, grid. Sizes in CSS pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fseed.results.html.figures.scale import Scale
from fseed.results.html.markup import Child, Html, element, number

WIDTH, HEIGHT = 340, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 28, 40


@dataclass(frozen=True)
class Axis:
    """A scale, what it measures with its unit, and how its ticks are written."""

    scale: Scale
    title: str
    write: Callable[[float], str]


def render_panel(
    x: Axis, y: Axis, marks: Sequence[Child], *, description: str, right: int = RIGHT
) -> Html:
    """Return a drawing with both axes around ``marks``; ``description`` is its text."""
    far = WIDTH - right
    return element(
        "svg",
        element("title", description),
        *(_horizontal(y, tick, far=far) for tick in y.scale.ticks),
        *(_below(x, tick) for tick in x.scale.ticks),
        element("line", x1=LEFT, x2=far, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis"),
        element("text", y.title, x=4, y=14, class_="axis-title"),
        element("text", x.title, x=far, y=HEIGHT - 6, class_="axis-title end"),
        *marks,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        class_="panel",
    )


def points_text(x: Scale, y: Scale, points: Sequence[tuple[float, float]]) -> str:
    """Return the corners of a polyline."""
    return " ".join(f"{number(x.place(left))},{number(y.place(up))}" for left, up in points)


def _horizontal(axis: Axis, tick: float, *, far: int) -> Html:
    y = axis.scale.place(tick)
    kind = "zero" if tick == 0 and axis.scale.low < 0 else "grid"
    label = element(
        "text", axis.write(tick), x=LEFT - 6, y=y + 4, class_="tick y", data_value=f"{tick:.12g}"
    )
    line = element("line", x1=LEFT, x2=far, y1=y, y2=y, class_=kind)
    return Html(line + label)


def _below(axis: Axis, tick: float) -> Html:
    x, floor = axis.scale.place(tick), HEIGHT - BOTTOM
    mark = element("line", x1=x, x2=x, y1=floor, y2=floor + 4, class_="axis")
    label = element(
        "text", axis.write(tick), x=x, y=floor + 17, class_="tick x", data_value=f"{tick:.12g}"
    )
    return Html(mark + label)
