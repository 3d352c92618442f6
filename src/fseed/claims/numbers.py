"""Numbers of a document that look like results and stand outside a reference.

A result is a number with a measured unit: percent, pp, a ratio of speeds or losses, a rate, a time,
nats; a signed pair or a pair of decimals in brackets; a number right behind the name of a metric;
every number in a table whose headings name something measured; every number in a cell of HTML.

Not a result, by rule: code, links, comments; dates, versions and sizes, which have other units; the
level of an interval ("95 % interval"); the heading of a table. By mark, see ``references``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fseed.claims.references import blank, line_of, mask_code, mask_marks, read_excuses

_NUMBER = r"(?<![\w.])[-+−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_UNITS = (
    r"%|percent\b|pp\b|percentage points?\b|times (?:as|faster|slower|more|less|fewer)\b|"
    r"(?:tok|tokens)(?:/s\b| (?:per|a) second\b)|nats\b|points\b|fold\b|x\b|×|"
    r"(?:ms|us|µs|s|min|h)\b|(?:milli|micro)?seconds?\b|minutes?\b|hours?\b"
)
# emphasis, escapes and the spaces of typesetters may stand between a number and its unit
_GAP = r"(?:[\s*_\\\u200b-]|&\w+;){0,6}"
_LEVEL = re.compile(r"\d+ ?% (?:\w+ )?(?:interval|confidence|level|CI\b)")
_WITH_UNIT = re.compile(rf"{_NUMBER}(?:\s?(?:to|-|–|and)\s?\d[\d,.]*)?{_GAP}(?:{_UNITS})")
_PAIR = re.compile(r"\[[-+−]?\d*\.\d+[,;] ?[-+−]?\d*\.\d+\]|\[[-+−]\d+, ?[-+−]\d+\]")
_NAMED = re.compile(
    rf"\b(?:accuracy|loss|F1|perplexity|p)\s*(?:of|is|was|[=<>:])?\s*{_NUMBER}(?!\.?\d)(?!{_GAP}(?:{_UNITS}))",
    re.I,
)
_ANY = re.compile(_NUMBER)
_MEASURED = re.compile(
    r"%|\bpp\b|\bdiff|\bacc\b|accuracy|\bloss\b|interval|verdict|\bp value|tok/s|"
    r"\bF1\b|\bexact\b|\bscore|speed|\bms\b|^\s*(?:s|seconds)\s*$",
    re.IGNORECASE,
)
# a cell of an HTML table ends where the next begins, if not before
_HTML_CELL = re.compile(r"<td\b[^<>]*>(?:(?!</?t[dhr]\b|</table).)*", re.IGNORECASE | re.DOTALL)
_HTML_TAG = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
_TARGET = re.compile(r"\]\([^)]*\)|https?://\S+")
_RULE_ROW = re.compile(r"^[\s>]*\|?\s*:?-+:?(?:\s*\|\s*:?-+:?)*\s*\|?\s*$")


@dataclass(frozen=True)
class Unmarked:
    """A number outside every reference; ``excuse`` is the key of the mark that speaks for it."""

    line: int
    text: str
    excuse: str | None


def find_unmarked(text: str) -> list[Unmarked]:
    """Return what looks like a result and is no reference, in order."""
    without_code = mask_code(text)
    excuses = read_excuses(text)
    shown = _TARGET.sub(lambda match: blank(match.group()), mask_marks(without_code))
    shown, in_cells = _read_html(shown)
    lines = shown.split("\n")
    in_tables, headings = _read_tables(lines)
    in_tables |= in_cells
    return [
        Unmarked(number, told, excuses.get(number))
        for number, line in enumerate(lines, start=1)
        if number not in headings
        for told in _numbers_of(
            line, behind=_first_words(lines, number), is_result_row=number in in_tables
        )
    ]


def _first_words(lines: list[str], index: int) -> str:
    return " ".join(lines[index].split()[:2]) if index < len(lines) else ""


def _numbers_of(line: str, *, behind: str, is_result_row: bool) -> Iterator[str]:
    line = _LEVEL.sub(lambda match: blank(match.group()), line)
    patterns = (_ANY,) if is_result_row else (_WITH_UNIT, _PAIR, _NAMED)
    for pattern in patterns:
        found = pattern.finditer(line if is_result_row else f"{line} {behind}")
        yield from (match.group().strip() for match in found if match.start() < len(line))


def _read_html(text: str) -> tuple[str, set[int]]:
    """Return the text without HTML tags, and the lines that cells of HTML tables stand on."""
    in_cells: set[int] = set()
    for cell in _HTML_CELL.finditer(text):
        in_cells |= set(range(line_of(text, cell.start()), line_of(text, cell.end()) + 1))
    return _HTML_TAG.sub(lambda match: blank(match.group()), text), in_cells


def _read_tables(lines: list[str]) -> tuple[set[int], set[int]]:
    """Return the lines of the bodies of result tables, and those of headings, which name units."""
    rows: set[int] = set()
    headings: set[int] = set()
    is_measured = False
    is_inside = False
    for number, line in enumerate(lines, start=1):
        if _is_rule(line) and number > 1:
            heading = lines[number - 2]
            headings |= {number - 1, number}
            is_measured = any(_MEASURED.search(cell) for cell in heading.strip().split("|"))
            is_inside = True
        elif is_inside and "|" in line:
            rows |= {number} if is_measured else set()
        else:
            is_inside = False
    return rows, headings


def _is_rule(line: str) -> bool:
    return "|" in line and _RULE_ROW.match(line) is not None
