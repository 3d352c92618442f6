"""What a data card is made of, before it is known how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text under a title.

    ``align`` has one letter a column: l (left) or r (right). ``note`` stands below.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    align: str
    note: str = ""


@dataclass(frozen=True)
class Bin:
    """Number of values in the whole numbers ``low`` .. ``high``."""

    low: int
    high: int
    count: int

    @property
    def label(self) -> str:
        """Return ``low`` alone or ``low-high``."""
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


@dataclass(frozen=True)
class Histogram:
    """Bins of equal width from the smallest value to the largest."""

    title: str
    bins: Sequence[Bin]


@dataclass(frozen=True)
class Span:
    """A piece of text that is marked or not."""

    text: str
    is_marked: bool = False


@dataclass(frozen=True)
class Sample:
    """One rendered example: its parts by name."""

    title: str
    parts: Sequence[tuple[str, Sequence[Span]]]


Block = Table | Histogram | Sample


@dataclass(frozen=True)
class Card:
    """A heading of one line and the blocks below it."""

    heading: str
    summary: str
    blocks: Sequence[Block]
