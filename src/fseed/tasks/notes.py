"""Notes: texts of other rows of the split, as filler that holds nothing of the example itself.

A text is a list of units (lower-case words, or characters). It overlaps with the example when it
shares a run of ``NoteRule.run`` units with one of the example's own texts, or contains an own text
that is shorter than a run (an answer) as a whole.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fseed.tasks.base import NoteRule, Row, RowProblem, Setting

# so many rows of a split are candidates; each example draws from them anew
MAX_CANDIDATES = 512

_WORD = re.compile(r"\w+")
_MARK = "\x1f"  # between units, so that no unit matches inside another


@dataclass(frozen=True)
class Note:
    """A text, its units marked off, and the runs that occur in it."""

    row_id: str
    text: str
    marked: str
    runs: frozenset[str]


@dataclass
class NotePool:
    """The candidate notes of one split; ``rows`` are (row_id, row)."""

    rule: NoteRule
    rows: Sequence[tuple[str, Row]]
    setting: Setting

    @cached_property
    def notes(self) -> list[Note]:
        """Return the notes of the rows that have one, no text twice."""
        found: dict[str, Note] = {}
        for row_id, row in self.rows:
            try:
                text = self.rule.read(row, self.setting)
            except RowProblem:
                continue
            units = split_units(text, unit=self.rule.unit)
            runs = frozenset(find_runs(units, run=self.rule.run))
            found.setdefault(text, Note(row_id, text, _mark(units), runs))
        return list(found.values())

    def draw(
        self, row_id: str, *, num: int, own: Sequence[str], rng: np.random.Generator
    ) -> list[str]:
        """Return up to ``num`` notes of other rows that overlap with no text in ``own``."""
        parts = [split_units(text, unit=self.rule.unit) for text in own]
        runs = {run for units in parts for run in find_runs(units, run=self.rule.run)}
        short = [_mark(units) for units in parts if 0 < len(units) < self.rule.run]
        drawn: list[str] = []
        for place in rng.permutation(len(self.notes)):
            if len(drawn) == num:
                break
            note = self.notes[place]
            if note.row_id == row_id or not runs.isdisjoint(note.runs):
                continue
            if not any(text in note.marked for text in short):
                drawn.append(note.text)
        return drawn


def split_units(text: str, *, unit: str) -> list[str]:
    """Return the units of ``text``: lower-case words, or characters."""
    return _WORD.findall(text.lower()) if unit == "words" else list(text)


def find_runs(units: Sequence[str], *, run: int) -> set[str]:
    """Return every run of ``run`` units, marked off."""
    return {_mark(units[start : start + run]) for start in range(len(units) - run + 1)}


def _mark(units: Sequence[str]) -> str:
    return f"{_MARK}{_MARK.join(units)}{_MARK}"
