"""A forest plot of an experiment as one SVG file that stands alone, in light and in dark.

The page of the whole collection (``fseed.results.html``) draws in HTML and needs its style sheet; a
file in a repository is shown without either.
"""

import math
from collections.abc import Sequence
from html import escape

from fseed.results.comparison import Comparison

ROW_HEIGHT, LABEL_WIDTH, PLOT_WIDTH, MARGIN = 24, 300, 380, 12
_TEXT_SIZE = 12
_NUM_TICKS = 5
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1f2328}"
    ".axis{stroke:#8c959f}.zero{stroke:#8c959f;stroke-dasharray:3 3}"
    ".interval{stroke:#0969da;stroke-width:2}.mean{fill:#0969da}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}"
    ".interval{stroke:#58a6ff}.mean{fill:#58a6ff}}"
)


def render_forest(rows: Sequence[Comparison], *, title: str) -> str | None:
    """Return the mean difference of every row with its interval, in pp; None without any.

    Rows without an interval are left to the table.
    """
    drawn = [row for row in rows if row.interval_low is not None and row.interval_high is not None]
    if not drawn:
        return None
    ends = [100 * end for row in drawn for end in (row.interval_low or 0, row.interval_high or 0)]
    ticks = build_ticks(min(0.0, *ends), max(0.0, *ends))
    bottom = MARGIN + ROW_HEIGHT * len(drawn)
    parts = [_line(x_of(0.0, ticks), MARGIN, x_of(0.0, ticks), bottom, kind="zero")]
    for index, (row, label) in enumerate(zip(drawn, row_labels(drawn), strict=True)):
        parts += _draw_row(row, ticks, label=label, y=MARGIN + ROW_HEIGHT * (index + 0.5))
    parts.append(_line(LABEL_WIDTH, bottom, LABEL_WIDTH + PLOT_WIDTH, bottom, kind="axis"))
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0])))
    for tick in ticks:
        text = f"{tick:+.{digits}f}" if tick else "0"
        parts.append(_text(x_of(tick, ticks), bottom + 16, text, anchor="middle"))
    caption = "difference in pp, mean and 95 % interval"
    parts.append(_text(LABEL_WIDTH + PLOT_WIDTH / 2, bottom + 34, caption, anchor="middle"))
    width, height = LABEL_WIDTH + PLOT_WIDTH + 2 * MARGIN, bottom + 44
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
    return "\n".join(
        [head, f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", *parts, "</svg>\n"]
    )


def build_ticks(low: float, high: float) -> list[float]:
    """Return round values from at or below ``low`` to at or above ``high``."""
    span = (high - low) or 1.0
    rough = span / _NUM_TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * factor for factor in (1, 2, 5, 10) if magnitude * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [step * index for index in range(first, max(last, first + 1) + 1)]


def x_of(value: float, ticks: Sequence[float]) -> float:
    """Return the place of a value in pp between the first tick and the last."""
    return LABEL_WIDTH + PLOT_WIDTH * (value - ticks[0]) / (ticks[-1] - ticks[0])


def row_labels(rows: Sequence[Comparison]) -> list[str]:
    """Return the arm of every row, before it the labels in which the rows differ."""
    names = ("task", "source", "model", "stage", "setting")
    varying = [name for name in names if len({getattr(row, name) for row in rows}) > 1]
    return [" ".join([*(getattr(row, name) for name in varying), row.arm]) for row in rows]


def _draw_row(row: Comparison, ticks: Sequence[float], *, label: str, y: float) -> list[str]:
    low, high = 100 * (row.interval_low or 0.0), 100 * (row.interval_high or 0.0)
    parts = [
        _text(0, y + _TEXT_SIZE / 3, label, anchor="start"),
        _line(x_of(low, ticks), y, x_of(high, ticks), y, kind="interval"),
    ]
    if row.difference is not None:
        center = x_of(100 * row.difference, ticks)
        parts.append(f'<circle class="mean" cx="{center:.1f}" cy="{y:.1f}" r="4"/>')
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, *, kind: str) -> str:
    places = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line class="{kind}" {places}/>'


def _text(x: float, y: float, text: str, *, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
