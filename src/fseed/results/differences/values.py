"""Values of settings as people read them: hashes cut, no absolute path, seeds as ranges."""

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from fseed.results.differences.runs import ABSENT

ABSENT_TEXT = "(absent)"
UNKNOWN_TEXT = "(not recorded)"
MAX_LISTED = 6
HASH_LENGTHS = (40, 64)


def value_text(value: Any) -> str:
    """Return one value as YAML would write it, hashes cut to 8 digits, paths to their end.

    >>> [value_text(value) for value in (None, True, "1", "a/b", [1, None])]
    ['null', 'true', '"1"', 'a/b', '[1, null]']
    """
    if value is ABSENT:
        return ABSENT_TEXT
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    if isinstance(value, str):
        return _word(value)
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def values_text(values: Sequence[Any]) -> str:
    """Return the values of one cell: whole numbers folded into ranges, long lists counted."""
    if not values:
        return UNKNOWN_TEXT
    if len(values) > 1 and all(type(value) is int for value in values):
        return fold_numbers(values)
    if len(values) > MAX_LISTED:
        return f"{len(values)} values"
    return ", ".join(map(value_text, values))


def fold_numbers(numbers: Sequence[int]) -> str:
    """Return whole numbers as ranges.

    >>> fold_numbers([5, 0, 2, 1])
    '0-2, 5'
    """
    # consecutive numbers keep their distance to their position
    groups = groupby(enumerate(sorted(set(numbers))), key=lambda pair: pair[1] - pair[0])
    runs = [[number for _, number in group] for _, group in groups]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def told_apart(texts: Sequence[str], values: Sequence[Sequence[Any]]) -> list[str]:
    """Return ``texts`` of cells that differ, each with a short hash where all look the same."""
    if len(set(texts)) > 1:
        return list(texts)
    digests = [hashlib.sha256(repr(list(cell)).encode()).hexdigest()[:6] for cell in values]
    return [f"{text} #{digest}" for text, digest in zip(texts, digests, strict=True)]


def _word(text: str) -> str:
    if len(text) in HASH_LENGTHS and set(text) <= set("0123456789abcdef"):
        return text[:8]
    if text.startswith("/"):
        return ".../" + "/".join(PurePosixPath(text).parts[1:][-2:])
    return f'"{text}"' if _reads_as_other(text) else text.replace("\n", " ")


def _reads_as_other(text: str) -> bool:
    """Tell text that would be taken for a number, a truth value or nothing at all."""
    if text in ("", "null", "true", "false"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
