"""Turn stored rows of running text into clean text, each data set by its own rules.

Clean text is in Unicode form NFC with single spaces. A row that cannot be cleaned without guessing
raises ``RowProblem`` with the reason.
"""

import re
import unicodedata

from fseed.tasks.base import RowProblem

_HEADING = re.compile(r"\s*=( =)* [^=].* =( =)*\s*")

# entities as they are left in ag_news, some without their ampersand, and tags
_MARKUP = re.compile(r"&\w+;|#\d+;|\bquot;|</?\w+/?>")

_AT_SIGNS = re.compile(r" @([-,.])@ ")
_BETWEEN_DIGITS = re.compile(r"(?<=\d) ([:–]) (?=\d)")
_CONTRACTION = re.compile(r" ’ (?=(?:s|t|re|ve|ll|d|m)\b)")
_SPACE_BEFORE = re.compile(r" (?=[,.;:!?%)\]]|['’]\w)")
_SPACE_BEHIND = re.compile(r"(?<=[(\[$£€#]) ")
_OPEN_OR_CLOSED = re.compile(r"(?<!\S)['‘’“”](?!\S)")

_FINAL_MARKS = '.!?:;"”’'


def is_heading(text: str) -> bool:
    """Return whether ``text`` is a heading of a wiki dump: ``= Title =`` with any depth."""
    return _HEADING.fullmatch(text) is not None


def clean_plain(text: str) -> str:
    """Return the text on one line, without a first line that no mark ends (a heading)."""
    first, line_break, rest = text.strip().partition("\n")
    is_title = line_break and not first.rstrip().endswith(tuple(_FINAL_MARKS))
    return _collapse(rest if is_title else text)


def clean_news(text: str) -> str:
    r"""Return a text of ag_news: ``\$`` is a dollar sign, every other ``\`` was a line break."""
    _refuse_markup(text)
    return _collapse(text.replace("\\$", "$").replace("\\", " "))


def clean_wikitext(text: str) -> str:
    """Return a paragraph of wikitext without the spaces that tokenisation put around marks.

    ``@-@``, ``@,@`` and ``@.@`` join their neighbours. Closing marks and what follows an apostrophe
    join the word before, opening brackets and ``$ £ € #`` the word behind; a colon or dash between
    digits joins both. Straight double quotes open and close in turn and join what they enclose. A
    row with an odd number of them, or with a quote or apostrophe that stands alone and may open or
    close, is refused.
    """
    _refuse_markup(text)
    joined = _AT_SIGNS.sub(r"\1", f" {_collapse(text)} ")
    joined = _CONTRACTION.sub("’", _BETWEEN_DIGITS.sub(r"\1", joined))
    if _OPEN_OR_CLOSED.search(joined):
        raise RowProblem("quotation mark may open or close")
    joined = _join_quotes(joined)
    return _collapse(_SPACE_BEHIND.sub("", _SPACE_BEFORE.sub("", joined)))


def _join_quotes(text: str) -> str:
    """Return ``text`` with what straight double quotes enclose joined to them."""
    parts = text.split('"')
    if len(parts) % 2 == 0:
        raise RowProblem("odd number of quotation marks")
    return '"'.join(part.strip() if place % 2 else part for place, part in enumerate(parts))


def _refuse_markup(text: str) -> None:
    """Raise ``RowProblem`` for entities and tags."""
    if _MARKUP.search(text):
        raise RowProblem("markup in the text")


def _collapse(text: str) -> str:
    """Return ``text`` in form NFC with every run of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())
