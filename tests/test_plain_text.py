import pytest

from fseed.errors import UserError
from fseed.plain_text import plain_markdown, plain_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\u001b[2Jgone"),
        ("a\x00b\x7f", "a\\u0000b\\u007f"),
        ("left\u202eright", "left\\u202eright"),
        ("two\tcells\nlines, µ 日本 é", "two\tcells\nlines, µ 日本 é"),
        ("over\rwritten", "over\\u000dwritten"),
    ],
)
def test_what_cannot_be_seen_is_spelt_out(text: str, shown: str) -> None:
    assert plain_text(text) == shown
    assert str(UserError(text)) == shown


@pytest.mark.parametrize("text", ["p <0.001", "[0.1, 0.3]", "a < b", "x->y", "(1) [2]"])
def test_what_markdown_shows_as_it_is_stays(text: str) -> None:
    assert plain_markdown(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>", "&lt;script>"),
        ("</td>", "&lt;/td>"),
        ("<!-- x", "&lt;!-- x"),
        ("![x](http://y)", "![x\\](http://y)"),
        ("[x][1]", "[x\\][1]"),
    ],
)
def test_markup_becomes_text(text: str, shown: str) -> None:
    assert plain_markdown(text) == shown
