"""References in a document: a number between two comments that GitHub does not show.

```
gains <!-- fseed: demo/scalar_l10.difference -->+0.18<!-- /fseed --> pp
<!-- fseed: table demo -->
| generated | table |
<!-- /fseed -->
a threshold of 5 %, chosen beforehand <!-- fseed: not a result -->
3.1 times faster <!-- fseed: source paper/kernels/bench_h100.md -->
8 times slower <!-- fseed: not recorded -->
```

Markers in code are text. The last three have no end: such a mark speaks for its own line; alone
on a line it speaks for the block below it. ``source`` names the raw output, which must hold the
number.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

NOT_A_RESULT = "not a result"
NOT_RECORDED = "not recorded"
SOURCE = "source "
TABLE = "table "
_MARK = re.compile(r"<!--\s*(?P<end>/)?fseed\b:?(?P<key>.*)-->", re.DOTALL | re.IGNORECASE)
_COMMENT_LINE = re.compile(r" {0,3}<!--(?!.*-->)")
_FENCE = re.compile(r"[\s>]*(```+(?=[^`]*$)|~~~+)(.*)")
_INLINE = re.compile(r"(?<!`)(`+)(?!`)[^\n]*?(?<!`)\1(?!`)")


@dataclass(frozen=True)
class Reference:
    """A key and the text between its markers, at ``start``..``end`` of the document."""

    key: str
    text: str
    line: int  # from 1
    start: int
    end: int
    closed_at: int  # behind the end marker
    begins_line: bool  # GitHub ends a paragraph at a comment that begins a line

    @property
    def table(self) -> str | None:
        """Return the experiment of a generated table, None for a single number."""
        return self.key.removeprefix(TABLE).strip() if self.key.startswith(TABLE) else None


@dataclass(frozen=True)
class Marks:
    """The references of a document, and the lines where a marker cannot be understood."""

    references: list[Reference]
    problems: list[tuple[int, str]]


def read_marks(text: str) -> Marks:
    """Return the references of a Markdown text in order."""
    found: list[Reference] = []
    problems: list[tuple[int, str]] = []
    opened: re.Match[str] | None = None
    for mark in _find_marks(mask_code(text)):
        line = line_of(text, mark.start())
        if mark["end"]:
            if opened is None:
                problems.append((line, "an end without a beginning"))
            else:
                found.append(_reference(text, opened, mark))
            opened = None
        elif not is_excuse(_key(mark)):
            if opened is not None:
                problems.append((line_of(text, opened.start()), f"{_key(opened)} has no end"))
            opened = mark
    if opened is not None:
        problems.append((line_of(text, opened.start()), f"{_key(opened)} has no end"))
    return Marks(found, problems)


def is_excuse(key: str) -> bool:
    """Tell a mark that speaks for numbers outside references."""
    return key in (NOT_A_RESULT, NOT_RECORDED) or key.startswith(SOURCE)


def read_excuses(text: str) -> dict[int, str]:
    """Return {line: key} of every line that a mark speaks for."""
    masked = mask_code(text)
    lines = masked.split("\n")
    excuses: dict[int, str] = {}
    for mark in _find_marks(masked):
        if not mark["end"] and is_excuse(_key(mark)):
            line = line_of(masked, mark.start())
            excuses[line] = _key(mark)
            is_alone = lines[line - 1].strip() == mark.group()
            below = line + 1
            while is_alone and below <= len(lines) and lines[below - 1].strip():
                excuses[below] = _key(mark)
                below += 1
    return excuses


def replace_texts(text: str, changes: Iterable[tuple[Reference, str]]) -> str:
    """Return the document with new texts between the markers of the given references."""
    for reference, new in sorted(changes, key=lambda change: -change[0].start):
        text = text[: reference.start] + new + text[reference.end :]
    return text


def mask_code(text: str) -> str:
    """Return the text with fenced and inline code blanked, every other character in its place."""
    return _INLINE.sub(lambda match: blank(match.group()), _mask_fences(text))


def _mask_fences(text: str) -> str:
    opened, is_comment, lines = "", False, []
    for line in text.split("\n"):
        # a fence in a comment is neither shown nor a fence
        fence = None if is_comment else _FENCE.match(line)
        if is_comment or (not opened and _COMMENT_LINE.match(line)):
            is_comment = "-->" not in line
        lines.append(blank(line) if opened or fence else line)
        if fence and not opened:
            opened = fence[1]
        elif fence and fence[1].startswith(opened) and not fence[2].strip():
            opened = ""
    return "\n".join(lines)


def mask_marks(text: str) -> str:
    """Blank references with what stands in them, and every other comment."""
    for reference in reversed(read_marks(text).references):
        inside = blank(text[reference.start : reference.end])
        text = text[: reference.start] + inside + text[reference.end :]
    for start, end in reversed(list(_find_comments(text))):
        text = text[:start] + blank(text[start:end]) + text[end:]
    return text


def blank(text: str) -> str:
    """Return spaces of the same length, line breaks kept."""
    return re.sub(r"[^\n]", " ", text)


def line_of(text: str, position: int) -> int:
    """Return the number of the line that holds ``position``, from 1."""
    return text.count("\n", 0, position) + 1


def _find_comments(text: str) -> Iterator[tuple[int, int]]:
    """Yield where comments begin and end; by hand, as a pattern takes hours on hostile texts."""
    start = text.find("<!--")
    while start >= 0 and (end := text.find("-->", start + 4)) >= 0:
        yield start, end + 3
        start = text.find("<!--", end + 3)


def _find_marks(text: str) -> Iterator[re.Match[str]]:
    for start, end in _find_comments(text):
        mark = _MARK.fullmatch(text, start, end)
        if mark is not None:
            yield mark


def _key(mark: re.Match[str]) -> str:
    return mark["key"].strip()


def _reference(text: str, opened: re.Match[str], closed: re.Match[str]) -> Reference:
    start, end = opened.end(), closed.start()
    line = line_of(text, opened.start())
    begins = opened.start() == 0 or text[opened.start() - 1] == "\n"
    return Reference(_key(opened), text[start:end], line, start, end, closed.end(), begins)
