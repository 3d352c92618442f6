"""The same card on a terminal, as Markdown and as a page."""

import io
from html.parser import HTMLParser

import pytest

from fseed.data_card.blocks import Bin, Card, Histogram, Sample, Span, Table
from fseed.data_card.markdown import render_markdown
from fseed.data_card.page import render_page
from fseed.data_card.terminal import PIPE_WIDTH, bars, print_card

HOSTILE = "</pre><script>alert(1)</script> & `a|b` *c* _d_ [e](f) ```"
VOID = {"meta", "rect", "line"}

CARD = Card(
    heading="hotpot, question_last, mini data",
    summary="A sentence.",
    blocks=[
        Table("Rows", ("split", "rows"), [("train", "1,000"), (HOSTILE, "7")], "lr", "A note."),
        Table("Setting", ("", ""), [("data hash", "ab" * 32)], "ll"),
        Histogram("Tokens of the prompt", [Bin(1, 5, 10), Bin(6, 10, 0), Bin(11, 12, 5)]),
        Histogram("Tokens of the answer", [Bin(3, 3, 15)]),
        Sample("x1 (bridge)", [("prompt", [Span(HOSTILE), Span("A\n\nB", is_marked=True)])]),
    ],
)


class Page(HTMLParser):
    """Collects elements and text; fails where elements are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.marked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "mark":
            self.marked.append(data)


def read_page(card: Card = CARD) -> Page:
    page = Page()
    page.feed(render_page(card))
    page.close()
    assert page.open == []
    return page


def render_text(card: Card = CARD) -> str:
    stream = io.StringIO()
    print_card(card, stream)
    return stream.getvalue()


def test_page_escapes_the_data_and_loads_nothing() -> None:
    page = read_page()
    tags = [tag for tag, _ in page.seen]
    assert "script" not in tags
    assert page.text.count(HOSTILE) == 2
    names = {name for _, attributes in page.seen for name in attributes}
    assert names.isdisjoint({"src", "href", "onload", "onclick", "style"})
    assert "url(" not in render_page(CARD)
    assert "@import" not in render_page(CARD)


def test_page_has_everything() -> None:
    page = read_page()
    assert page.marked == ["A\n\nB"]
    for text in (CARD.heading, CARD.summary, "1,000", "A note.", "ab" * 32, "x1 (bridge)"):
        assert text in page.text
    rectangles = [attributes for tag, attributes in page.seen if tag == "rect"]
    assert [r["height"] for r in rectangles[:3]] == ["118.0", "0.0", "59.0"]
    assert len(rectangles) == 4
    assert "11-12 tokens: 5" in page.text


def test_page_follows_the_scheme_and_width_of_the_reader() -> None:
    text = render_page(CARD)
    assert "prefers-color-scheme: dark" in text
    assert 'content="width=device-width, initial-scale=1"' in text
    # only what is wider than a phone scrolls, inside its own box
    assert text.count('<div class="wide">') == 1
    assert text.count('<div class="charts">') == 1


def test_markdown_keeps_its_tables_whatever_the_data_says() -> None:
    text = render_markdown(CARD)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    # bars that are not escaped, which a reader of Markdown takes as cells
    cells = [len(row.replace("\\|", "").strip("|").split("|")) for row in rows]
    assert set(cells) == {2}
    assert "<script>" not in text
    fences = [line for line in text.splitlines() if line.startswith("```")]
    assert fences == ["```text", "```"] * 2
    assert "<b>A&#10;&#10;B</b>" in text
    assert "|---|---:|" in text


def test_markdown_of_one_part_is_one_line() -> None:
    card = Card("a\nb", "c", [Table("t", ("x",), [("1\n2",)], "l")])
    assert render_markdown(card).splitlines() == [
        *("# a b", "", "c", "", "## t", "", "| x |", "|---|", "| 1 2 |"),
    ]


def test_terminal_fits_a_pipe_and_shows_marks_as_brackets() -> None:
    text = render_text()
    assert text.startswith(f"{CARD.heading}\n{CARD.summary}\n")
    assert max(len(line) for line in text.splitlines()) <= PIPE_WIDTH
    assert "\u27e6A\n\nB\u27e7" in text
    assert "\x1b" not in text
    assert "[e](f)" in text  # not read as markup of rich


def test_terminal_in_colours_marks_without_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = render_text()
    assert "\x1b[" in text
    assert "\u27e6" not in text


def test_bars_are_in_proportion() -> None:
    histogram = CARD.blocks[2]
    assert isinstance(histogram, Histogram)
    assert bars(histogram, width=10) == [
        "  1-5 ########## 10",
        " 6-10            0",
        "11-12 #####      5",
    ]
    assert bars(Histogram("empty", [])) == []
