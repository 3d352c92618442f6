"""Forest plot: a row per arm, its difference and interval over a common axis.

Rows are a grid of text and a small drawing, not one picture: the text stays readable at any width,
and a screen reader finds every number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fseed.results.comparison import Comparison
from fseed.results.html.figures.scale import Scale, build_scale
from fseed.results.html.markup import Child, Html, element, number
from fseed.results.html.words import badge, effect, pp
from fseed.results.measurement import OVER_ITEMS


@dataclass(frozen=True)
class ForestRow:
    """An arm, or a control that stands beneath its arm, with the difference of every seed."""

    comparison: Comparison
    seed_differences: tuple[tuple[int | None, float], ...] = ()  # (seed, fraction)
    is_beneath: bool = False


def render_forest(rows: Sequence[ForestRow], *, caption: str) -> Html:
    """Return the figure; arms without a number keep their row and their verdict.

    Without any number there is no axis and nothing is drawn; without rows there is no figure.
    """
    if not rows:
        return Html("")
    scale = forest_scale(rows)
    body = [_row(row, scale) for row in rows]
    axis = [_axis(scale)] if scale is not None else []
    told = element("figcaption", caption)
    return element(
        "figure", told, element("div", *body, *axis, class_="forest-rows"), class_="forest"
    )


def forest_scale(rows: Sequence[ForestRow]) -> Scale | None:
    """Return the common axis in pp, in percent of the width; it always holds zero."""
    ends = [
        100 * value
        for row in rows
        for value in (
            *(row.comparison.difference, row.comparison.interval_low),
            row.comparison.interval_high,
            *(difference for _, difference in row.seed_differences),
        )
        if value is not None
    ]
    return build_scale(ends, start=0, end=100, include=[0.0]) if ends else None


def _row(row: ForestRow, scale: Scale | None) -> Html:
    one = row.comparison
    label = element("span", one.arm, class_="arm-name")
    note = f"control: {one.control}" if one.control != "none" else None
    numbers = element("span", effect(one), class_="effect")
    return element(
        "div",
        element("div", label, element("span", note, class_="soft") if note else None, class_="who"),
        _drawing(row, scale) if scale is not None else element("div"),
        element("div", numbers, badge(one.verdict), class_="what"),
        class_="forest-row beneath" if row.is_beneath else "forest-row",
    )


def _drawing(row: ForestRow, scale: Scale) -> Html:
    """Draw grid and zero over the whole height of the row, the marks around its middle."""
    one = row.comparison
    grid = [_line_at(scale, tick, "grid") for tick in scale.ticks if tick != 0]
    marks = [_seed_mark(scale, seed, value) for seed, value in row.seed_differences]
    return plot_area(
        [*grid, _line_at(scale, 0.0, "zero")],
        [*marks, *_interval(one, scale), _mean(one, scale)],
    )


def plot_area(background: Sequence[Child], marks: Sequence[Child]) -> Html:
    """Return a drawing as high as its row; ``marks`` have y = 0 in its middle."""
    middle = element("svg", *marks, y="50%", overflow="visible")
    drawing = element("svg", *background, middle, aria_hidden="true")
    return element("div", drawing, class_="plot")


def _line_at(scale: Scale, value: float, kind: str) -> Html:
    x = _share(scale, value)
    return element("line", x1=x, x2=x, y1=0, y2="100%", class_=kind)


def _seed_mark(scale: Scale, seed: int | None, difference: float) -> Html:
    x = _share(scale, 100 * difference)
    title = element("title", f"seed {seed}: {pp(difference)} pp")
    return element("line", title, x1=x, x2=x, y1=-8, y2=8, class_="seed")


def _interval(one: Comparison, scale: Scale) -> list[Html]:
    if one.interval_low is None or one.interval_high is None:
        return []
    low, high = (_share(scale, 100 * end) for end in (one.interval_low, one.interval_high))
    kind = "interval items" if one.interval_kind == OVER_ITEMS else "interval"
    caps = [element("line", x1=x, x2=x, y1=-4, y2=4, class_="cap") for x in (low, high)]
    return [element("line", x1=low, x2=high, y1=0, y2=0, class_=kind), *caps]


def _mean(one: Comparison, scale: Scale) -> Html | None:
    """Draw the mean: filled when the verdict is helps or hurts, hollow otherwise."""
    if one.difference is None:
        return None
    kind = {"helps": "mean up", "hurts": "mean down"}.get(one.verdict, "mean")
    title = element("title", f"{one.arm}: {effect(one)}")
    x = _share(scale, 100 * one.difference)
    return element("circle", title, cx=x, cy=0, r=5, class_=kind)


def _axis(scale: Scale) -> Html:
    ticks = [
        element(
            "text",
            scale.label(tick, is_signed=True),
            x=_share(scale, tick),
            y=14,
            class_="tick",
            data_value=f"{tick:.12g}",
        )
        for tick in scale.ticks
    ]
    drawing = element("svg", *ticks, height=20, width="100%", aria_hidden="true")
    unit = element("div", "difference, pp", class_="what axis-unit")
    return element("div", element("div"), drawing, unit, class_="forest-row axis")


def _share(scale: Scale, value: float) -> str:
    return f"{number(scale.place(value))}%"
