"""A map of cells: colour says the size, the sign and the number say it again in text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fseed.results.html.markup import Html, element
from fseed.results.html.words import pp

NUM_SHADES = 5


@dataclass(frozen=True)
class Cell:
    """A difference as a fraction, None where the arm gave none, and its verdict in words."""

    difference: float | None
    note: str


def render_map(
    cells: Mapping[tuple[str, str], Cell],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    row_title: str,
    column_title: str,
    caption: str,
) -> Html:
    """Return a table of cells by (row, column); an absent cell says that it was not run."""
    largest = max((abs(cell.difference or 0.0) for cell in cells.values()), default=0.0)
    corner = element("th", f"{row_title} \u2193  {column_title} \u2192", scope="col")
    head = element("tr", corner, *(element("th", name, scope="col") for name in columns))
    body = [
        element(
            "tr",
            element("th", row, scope="row"),
            *(_cell(cells.get((row, column)), largest) for column in columns),
        )
        for row in rows
    ]
    table = element("table", element("thead", head), element("tbody", *body), class_="map")
    scroller = element("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)
    return element("figure", element("figcaption", caption), scroller)


def shade(difference: float, *, largest: float) -> str:
    """Return the class of a cell: up1..up5, down1..down5 by size, or none at zero."""
    if difference == 0 or largest == 0:
        return ""
    level = min(NUM_SHADES, 1 + int(NUM_SHADES * abs(difference) / largest * 0.999))
    return f"{'up' if difference > 0 else 'down'}{level}"


def _cell(cell: Cell | None, largest: float) -> Html:
    if cell is None:
        return element("td", element("span", "not run", class_="soft"), class_="empty")
    note = element("span", cell.note, class_="cell-note")
    if cell.difference is None:
        return element("td", note, class_="empty")
    number = element("strong", pp(cell.difference))
    return element("td", number, note, class_=shade(cell.difference, largest=largest) or None)
