"""A table of plain cells that scrolls inside the page."""

from collections.abc import Sequence

from fseed.results.html.markup import Html, element, escape


def render_plain_table(names: Sequence[str], rows: Sequence[Sequence[str]], *, label: str) -> Html:
    """Return rows of text below their column names; screen readers hear ``label``."""
    heads = [element("th", name, scope="col") for name in names]
    # as text: an element per cell takes seconds for ten thousand runs
    body = [
        Html("<tr>" + "".join([f"<td>{escape(cell)}</td>" for cell in row]) + "</tr>")
        for row in rows
    ]
    table = element("table", element("thead", element("tr", *heads)), element("tbody", *body))
    return element("div", table, class_="scroll", tabindex=0, role="region", aria_label=label)
