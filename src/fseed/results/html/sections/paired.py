"""The paired table of one task and stage: forest plot, numbers, verdicts with their reasons."""

from collections.abc import Sequence

from fseed.results import formats
from fseed.results.comparison import Comparison
from fseed.results.html.figures.forest import ForestRow, render_forest
from fseed.results.html.markup import Child, Html, element, escape, join
from fseed.results.html.view import TableView
from fseed.results.html.words import badge, interval, p_value, percent, plain, pp, sentence, signed

_HEADINGS = (
    *("Arm", "Verdict", "Difference, pp", "95 % interval, pp", "Adjusted p", "no_fs, %", "Arm, %"),
    *("Seeds", "+/0/\u2212", "Examples", "Loss difference"),
)


def render_table(table: TableView) -> Html:
    """Return the forest plot and the table of one task and stage."""
    caption = f"Difference to plain training: {table.caption}"
    forest = render_forest(table.rows, caption=caption)
    return Html(forest + paired_table(table.rows, caption=table.caption))


def paired_table(rows: Sequence[ForestRow], *, caption: str) -> Html:
    """Return the rows with a reason beneath each; on a narrow page every row becomes a card."""
    heads = [element("th", name, scope="col", role="columnheader") for name in _HEADINGS]
    head = element("thead", element("tr", *heads, role="row"), role="rowgroup")
    body = join(_row(row) for row in rows)
    return element(
        "table",
        element("caption", caption),
        head,
        element("tbody", body, role="rowgroup"),
        class_="paired",
        role="table",
    )


def _row(row: ForestRow) -> Html:
    one = row.comparison
    cells = _numbers(one) if one.difference is not None else [_unmeasured(one)]
    place = "beneath" if row.is_beneath else None
    main = element("tr", _name(row), _cell(badge(one.verdict), 1), *cells, role="row", class_=place)
    reason = element("td", sentence(one.reason), colspan=len(_HEADINGS), role="cell", class_="why")
    return Html(main + element("tr", reason, role="row", class_="why-row"))


def _name(row: ForestRow) -> Html:
    one = row.comparison
    parts: list[Child] = [element("span", one.arm, class_="arm-name")]
    if row.is_beneath:
        parts.append(element("span", f"control: {one.control}", class_="soft"))
    return element("th", *parts, scope="row", role="rowheader")


def _numbers(one: Comparison) -> list[Html]:
    signs = [one.num_up, one.num_tied, one.num_down]
    pairs = "" if one.num_pairs == one.num_runs else f" ({one.num_pairs} of {one.num_runs})"
    texts = [
        element("strong", pp(one.difference)),
        interval(one) or "none",
        p_value(one.p_adjusted) if one.p_adjusted is not None else "none",
        percent(one.baseline_value),
        percent(one.arm_value),
        formats.seed_ranges(one.seeds) + pairs,
        "/".join(map(str, signs)),
        plain(one.num_examples),
        signed(one.loss_difference),
    ]
    return [_cell(text, index) for index, text in enumerate(texts, start=2)]


def _unmeasured(one: Comparison) -> Html:
    runs = f"not measured, {formats.seed_words(one.seeds)}" if one.seeds else "not measured"
    return element("td", runs, colspan=len(_HEADINGS) - 2, role="cell", class_="unmeasured")


def _cell(content: str, index: int) -> Html:
    kind = "number" if index > 1 else "verdict"
    return element("td", escape(content), data_label=_HEADINGS[index], role="cell", class_=kind)
