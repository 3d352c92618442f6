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
from collections.abc import Iterable
from dataclasses import dataclass

NOT_A_RESULT = "not a result"
NOT_RECORDED = "not recorded"
SOURCE = "source "
TABLE = "table "
_MARK = re.compile(r"<!--\s*(?P<end>/)?fseed\b:?\s*(?P<key>.*?)\s*-->", re.DOTALL)
_FENCE = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)[`~]*\s*$", re.MULTILINE | re.DOTALL)
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
    for mark in _MARK.finditer(mask_code(text)):
        line = line_of(text, mark.start())
        if mark["end"]:
            if opened is None:
                problems.append((line, "an end without a beginning"))
            else:
                found.append(_reference(text, opened, mark))
            opened = None
        elif not is_excuse(mark["key"]):
            if opened is not None:
                problems.append((line_of(text, opened.start()), f"{opened['key']} has no end"))
            opened = mark
    if opened is not None:
        problems.append((line_of(text, opened.start()), f"{opened['key']} has no end"))
    return Marks(found, problems)


def is_excuse(key: str) -> bool:
    """Tell a mark that speaks for numbers outside references."""
    return key in (NOT_A_RESULT, NOT_RECORDED) or key.startswith(SOURCE)


def read_excuses(text: str) -> dict[int, str]:
    """Return {line: key} of every line that a mark speaks for."""
    masked = mask_code(text)
    lines = masked.split("\n")
    excuses: dict[int, str] = {}
    for mark in _MARK.finditer(masked):
        if not mark["end"] and is_excuse(mark["key"]):
            line = line_of(masked, mark.start())
            excuses[line] = mark["key"]
            is_alone = lines[line - 1].strip() == mark.group()
            below = line + 1
            while is_alone and below <= len(lines) and lines[below - 1].strip():
                excuses[below] = mark["key"]
                below += 1
    return excuses


def replace_texts(text: str, changes: Iterable[tuple[Reference, str]]) -> str:
    """Return the document with new texts between the markers of the given references."""
    for reference, new in sorted(changes, key=lambda change: -change[0].start):
        text = text[: reference.start] + new + text[reference.end :]
    return text


def mask_code(text: str) -> str:
    """Return the text with fenced and inline code blanked, every other character in its place."""
    for pattern in (_FENCE, _INLINE):
        text = pattern.sub(lambda match: blank(match.group()), text)
    return text


def mask_marks(text: str) -> str:
    """Blank references with what stands in them, and every other comment."""
    for reference in reversed(read_marks(text).references):
        inside = blank(text[reference.start : reference.end])
        text = text[: reference.start] + inside + text[reference.end :]
    return re.sub(r"<!--.*?-->", lambda match: blank(match.group()), text, flags=re.DOTALL)


def blank(text: str) -> str:
    """Return spaces of the same length, line breaks kept."""
    return re.sub(r"[^\n]", " ", text)


def line_of(text: str, position: int) -> int:
    """Return the number of the line that holds ``position``, from 1."""
    return text.count("\n", 0, position) + 1


def _reference(text: str, opened: re.Match[str], closed: re.Match[str]) -> Reference:
    start, end = opened.end(), closed.start()
    line = line_of(text, opened.start())
    begins = opened.start() == 0 or text[opened.start() - 1] == "\n"
    return Reference(opened["key"], text[start:end], line, start, end, closed.end(), begins)
