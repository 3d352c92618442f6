import pytest

from fseed.results.html.markup import Html, clean_text, element, escape, join, number
from tests.results.html.tree import parse

HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(1)> & ' </title>"


def test_text_is_escaped_wherever_it_enters() -> None:
    node = parse(element("p", HOSTILE, title=HOSTILE)).one("p")
    assert (node.text, node.attributes["title"]) == (HOSTILE, HOSTILE)
    assert node.children == [HOSTILE]


def test_markup_is_not_escaped_twice() -> None:
    inner = element("b", "a & b")
    assert element("p", inner) == "<p><b>a &amp; b</b></p>"
    assert join([inner, "<", None], " & ") == "<b>a &amp; b</b> &amp; &lt;"
    assert isinstance(join([]), Html)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b", "a\\u0000b"),
        ("a\x1b[31mb", "a\\u001b[31mb"),
        ("evil\u202egpj", "evil\\u202egpj"),
        ("lone\ud800", "lone\\ud800"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("Größe 中文 ✓", "Größe 中文 ✓"),
    ],
)
def test_what_cannot_be_seen_is_spelt_out(text: str, shown: str) -> None:
    assert clean_text(text) == shown
    escape(text).encode()


def test_attributes_are_named_as_in_html_and_none_is_left_out() -> None:
    node = parse(element("th", "x", class_="a", aria_label="b", scope=None, colspan=3)).one("th")
    assert node.attributes == {"class": "a", "aria-label": "b", "colspan": "3"}


def test_empty_shapes_close_themselves_and_titles_stand_inside() -> None:
    assert element("line", x1=1.0, x2=2.5) == '<line x1="1" x2="2.5"/>'
    titled = element("line", element("title", "t"), x1=1.0)
    assert titled == '<line x1="1"><title>t</title></line>'


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.125, "0.12"), (-0.001, "0"), (100.0, "100"), (-2.5, "-2.5")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text
