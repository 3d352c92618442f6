"""What a task is made of: examples in sections, their encoded form, and the task itself.

An ``Example`` is text without a tokenizer; an ``EncodedExample`` is what training and scoring
read. Both are plain data, so this module imports nothing beyond the standard library.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Row = Mapping[str, Any]


class RowProblem(ValueError):
    """A row that cannot become an example; its message is the reason it is counted under."""


class Tokenizer(Protocol):
    """The part of a tokenizer that tasks use."""

    @property
    def end_of_text(self) -> int:
        """Return the id that ends every answer."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``."""
        ...


@dataclass(frozen=True)
class Paragraph:
    """Sentences under an optional title; the title stands on its own line, with a colon."""

    title: str | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A heading and its paragraphs, and which sentences may be cut.

    ``ranking`` lists (paragraph, sentence) positions in the order in which they are worth keeping;
    a prompt that is too long keeps the longest prefix of it that fits. ``None`` means that the
    section is never cut (question, task statement).
    """

    heading: str
    paragraphs: tuple[Paragraph, ...]
    ranking: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Example:
    """One question in sections, before any tokenizer.

    ``num_essential`` is the number of leading ``ranking`` entries without which the question has no
    answer in the prompt.
    """

    example_id: str
    kind: str
    sections: Mapping[str, Section]
    answers: tuple[str, ...]
    num_essential: int = 0


@dataclass(frozen=True)
class EncodedExample:
    """Token ids of one example; ``prompt_ids`` are exactly the tokens of ``prompt_text``.

    ``answer_ids`` are the tokens of the first gold answer after a space, then end of text.
    """

    example_id: str
    kind: str
    prompt_ids: list[int]
    answer_ids: list[int]
    answers: tuple[str, ...]
    prompt_text: str
    is_cut: bool
    lost_gold: bool


@dataclass(frozen=True)
class RowKey:
    """The part of a row that tells whether two rows overlap.

    ``gold`` names the paragraphs that hold the answer (empty for tasks without evidence).
    """

    row_id: str
    question: str
    gold: frozenset[str]


@dataclass(frozen=True)
class Task:
    """Everything that distinguishes one task from another, as facts and functions.

    ``columns`` maps each needed column to its type (see ``columns.py``); ``key_columns`` are the
    dotted paths that ``read_key`` reads, chosen so that overlap is checked without reading whole
    rows. ``orders`` maps a canonical order to the names of its sections, first to last.
    ``read_key`` and ``build_example`` raise ``RowProblem``. ``generate_mini(split, seed=...)``
    yields an endless stream of rows in the schema of the original data.
    """

    name: str
    folder: str
    hub_id: str
    hub_config: str
    columns: Mapping[str, Any]
    key_columns: tuple[str, ...]
    orders: Mapping[str, tuple[str, ...]]
    order_aliases: Mapping[str, str]
    kinds: tuple[str, ...]
    primary_metric: str
    metrics: Mapping[str, str]
    generation_metrics: tuple[str, ...]
    mini_version: int
    read_key: Callable[[Row], RowKey]
    build_example: Callable[[Row], Example]
    generate_mini: Callable[..., Iterator[dict[str, Any]]]
    score_generation: Callable[[str, tuple[str, ...]], dict[str, float]]
