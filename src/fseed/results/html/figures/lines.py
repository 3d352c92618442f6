"""Lines over tokens: learning curves and gate trajectories."""

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
    points_text,
    render_panel,
)
from fseed.results.html.figures.scale import Scale, build_scale, short_count
from fseed.results.html.markup import Html, element

_LABEL_WIDTH, _LABEL_HEIGHT = 58, 12
_NUM_DASHES = 4


@dataclass(frozen=True)
class Line:
    """One line: (tokens, value) points, its class in style.css, what hovering tells."""

    name: str
    points: tuple[tuple[float, float], ...]
    kind: str  # "arm" | "base", with " mean" for the thick one, or "gate"
    label: str | None = None  # written at its right end
    dash: int = 0  # 0 is a full line; others tell lines apart without colour


def render_lines(
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    reference: tuple[float, str] | None = None,
    least_span: float = 0.0,
) -> Html:
    """Return a panel of lines against tokens; nothing when no line has a point.

    ``reference`` is a level with its name, drawn dotted, such as the constant answer;
    ``least_span``: the vertical axis shows no less, so that noise does not fill it.
    """
    drawn = [line for line in lines if line.points]
    if not drawn:
        return Html("")
    right = _LABEL_WIDTH if any(line.label for line in drawn) else RIGHT
    x, y = _scales(drawn, right=right, reference=reference, least_span=least_span)
    marks = [_draw(line, x, y) for line in drawn]
    marks += [_reference(*reference, y, far=WIDTH - right)] if reference is not None else []
    marks += _end_labels(drawn, x, y)
    return render_panel(
        Axis(x, "tokens read", short_count),
        Axis(y, title, y.label),
        marks,
        description=description,
        right=right,
    )


def _scales(
    lines: Sequence[Line],
    *,
    right: int,
    reference: tuple[float, str] | None,
    least_span: float,
) -> tuple[Scale, Scale]:
    tokens = [x for line in lines for x, _ in line.points]
    values = [y for line in lines for _, y in line.points]
    values += [reference[0]] if reference is not None else []
    middle = (min(values) + max(values)) / 2
    if max(values) - min(values) < least_span:
        values += [middle - least_span / 2, middle + least_span / 2]
    x = build_scale(tokens, start=LEFT, end=WIDTH - right, include=[0], padding=0.0, min_ticks=3)
    y = build_scale(values, start=HEIGHT - BOTTOM, end=TOP)
    return x, y


def _draw(line: Line, x: Scale, y: Scale) -> Html:
    title = element("title", line.name)
    kind = f"line {line.kind} dash{line.dash % _NUM_DASHES}"
    if len(line.points) == 1:
        ((left, up),) = line.points
        return element("circle", title, cx=x.place(left), cy=y.place(up), r=3, class_=f"dot {kind}")
    return element("polyline", title, points=points_text(x, y, line.points), class_=kind)


def _reference(value: float, name: str, y: Scale, *, far: int) -> Html:
    height, title = y.place(value), element("title", name)
    return element("line", title, x1=LEFT, x2=far, y1=height, y2=height, class_="reference")


def _end_labels(lines: Sequence[Line], x: Scale, y: Scale) -> list[Html]:
    """Write the labels beside the ends of their lines, pushed apart where they would overlap."""
    wanted = sorted((y.place(line.points[-1][1]), line.label) for line in lines if line.label)
    labels, least = [], float(TOP)
    room = HEIGHT - BOTTOM - _LABEL_HEIGHT * len(wanted)
    for index, (height, label) in enumerate(wanted):
        place = max(least, min(height, room + _LABEL_HEIGHT * (index + 1)))
        labels.append(element("text", label, x=x.end + 6, y=place + 4, class_="note"))
        least = place + _LABEL_HEIGHT
    return labels
