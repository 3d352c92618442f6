"""What the protein tasks share: chains read from rows, their notes, options checked.

A chain is a string of one-letter residues, in upper case; its id is a hash of it, because stored
ids are missing or repeated in some data sets. A chain that is stored twice is one row.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol

from fseed.tasks.base import Build, NoteRule, Paragraph, Row, RowProblem, Section, Setting

# a run of so many residues that a note shares with the chain counts as overlap
NOTE_RUN = 8

MIN_RESIDUES = 16
MAX_RESIDUES = 4096
MAX_NOTES = 16


class ChainOptions(Protocol):
    """The options that all protein tasks have."""

    @property
    def num_notes(self) -> int:
        """Return the number of other chains shown as filler."""
        ...

    @property
    def min_residues(self) -> int:
        """Return the length of the shortest chain that is used."""
        ...

    @property
    def max_residues(self) -> int:
        """Return the length of the longest chain that is used."""
        ...


def check_range(name: str, value: int, *, low: int, high: int) -> None:
    """Raise ``ValueError`` when an option is out of range."""
    if not low <= value <= high:
        raise ValueError(f"{name}={value}: must be {low}..{high}")


def check_chain_options(options: ChainOptions) -> None:
    """Raise ``ValueError`` for numbers of notes and residues out of range."""
    check_range("num_notes", options.num_notes, low=1, high=MAX_NOTES)
    check_range("max_residues", options.max_residues, low=MIN_RESIDUES, high=MAX_RESIDUES)
    check_range("min_residues", options.min_residues, low=MIN_RESIDUES, high=options.max_residues)


def read_chain(text: str | None) -> str:
    """Return a stored sequence in upper case; raises ``RowProblem``."""
    if not text:
        raise RowProblem("empty sequence")
    if not (text.isascii() and text.isalpha()):
        raise RowProblem("residue outside the alphabet")
    return text.upper()


def chain_id(chain: str) -> str:
    """Return the id of a chain, which depends on its residues alone."""
    return hashlib.sha256(chain.encode()).hexdigest()[:16]


def check_length(chain: str, options: ChainOptions) -> None:
    """Raise ``RowProblem`` for a chain that is too short or too long."""
    if len(chain) < options.min_residues:
        raise RowProblem(f"chain shorter than {options.min_residues} residues")
    if len(chain) > options.max_residues:
        raise RowProblem(f"chain longer than {options.max_residues} residues")


def note_rule(column: str) -> NoteRule:
    """Return the rule that makes the chain in ``column`` a note of other examples."""

    def read(row: Row, setting: Setting) -> str:
        chain = read_chain(row[column])
        check_length(chain, setting.options)
        return chain

    return NoteRule(read=read, unit="characters", run=NOTE_RUN)


def chain_section(chain: str) -> Section:
    """Return the section that shows the chain."""
    return Section("Sequence", (Paragraph(None, (chain,)),))


def query_section(heading: str, queries: Sequence[str]) -> Section:
    """Return the section that lists what is asked for, in one line."""
    return Section(heading, (Paragraph(None, (" ".join(queries),)),))


def repeat_labels(answer: str, *, first: str) -> str:
    """Return what repeating the label before predicts under teacher forcing."""
    return first + answer[:-1]


def draw_note_section(build: Build, row_id: str, chain: str) -> Section:
    """Return the section of other chains, one a line; the last ones are cut first.

    Raises ``RowProblem`` when the split has fewer than the options ask for.
    """
    num_notes = build.setting.options.num_notes
    notes = build.draw_notes(row_id, num=num_notes, own=[chain])
    if len(notes) < num_notes:
        raise RowProblem("too few notes in the split")
    return Section(
        "Notes",
        tuple(Paragraph(None, (note,)) for note in notes),
        ranking=tuple((number, 0) for number in range(len(notes))),
    )
