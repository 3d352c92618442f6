"""The three forms of a page of sections."""

from html.parser import HTMLParser

import pytest

from fseed.results.differences.document import (
    Section,
    Table,
    render_html,
    render_markdown,
    render_text,
)

TABLE = Table(["group", "key", "A", "B", "C"], [["fs", "lstart", "8", "10", "8"]])
SECTIONS = [Section("hotpot", ["A  no_fs"], TABLE, ["1 key is equal"]), Section("", ["end"])]


def test_text_is_aligned() -> None:
    assert render_text(SECTIONS, width=80).splitlines() == [
        "hotpot",
        "  A  no_fs",
        "",
        "  group  key     A  B   C",
        "  fs     lstart  8  10  8",
        "",
        "1 key is equal",
        "",
        "end",
    ]


def test_a_table_too_wide_becomes_blocks_that_join_equal_columns() -> None:
    lines = render_text(SECTIONS, width=20).splitlines()
    assert lines[3:6] == ["  fs  lstart", "      8  [A C]", "      10  [B]"]


def test_markdown() -> None:
    assert render_markdown(SECTIONS).splitlines() == [
        *("## hotpot", "", "- A  no_fs", ""),
        "| group | key | A | B | C |",
        "|---|---|---|---|---|",
        "| `fs` | `lstart` | `8` | `10` | `8` |",
        *("", "- 1 key is equal", "", "- end"),
    ]


@pytest.mark.parametrize(
    ("cell", "text"), [("a|b", "`a\\|b`"), ("a`b", "`` a`b ``"), ("", ""), ("a\nb", "`a b`")]
)
def test_no_value_breaks_a_markdown_table(cell: str, text: str) -> None:
    lines = render_markdown([Section("", [], Table(["k"], [[cell]]))]).splitlines()
    assert lines[-1] == f"| {text} |"


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def test_html_escapes_and_needs_nothing_else() -> None:
    page = Cells()
    section = Section("<b>", ["x & y"], Table(["key", "A"], [["<script>", "1 < 2"]]))
    text = render_html([section], title="a <title>")
    page.feed(text)
    assert page.cells == ["key", "A", "<script>", "1 < 2"]
    assert page.addresses == []
    assert "color-scheme: light dark" in text
    assert "<title>a &lt;title&gt;</title>" in text


def test_empty_sections_leave_no_trace() -> None:
    assert render_text([Section()], width=80) == "\n"
    assert render_markdown([Section(), Section("a")]) == "## a\n"
