"""What a task is made of: examples in sections, their encoded form, and the task itself.

An ``Example`` is text without a tokenizer; an ``EncodedExample`` is what training and scoring
read. Both are plain data.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from fseed.config.schema import MbppConfig

if TYPE_CHECKING:
    import numpy as np

    from fseed.tasks.metrics import Metric

Row = Mapping[str, Any]

ScoreRow = dict[str, Any]  # columns of predictions.parquet, see record_schema.PREDICTION_TYPES


class RowProblem(ValueError):
    """A row that cannot become an example; its message is the reason it is counted under."""


class Tokenizer(Protocol):
    """The part of a tokenizer that tasks use."""

    @property
    def end_of_text(self) -> int:
        """Return the id that ends every answer."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the vocabulary."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ``ids``."""
        ...


class Objective(Enum):
    """How the model answers.

    ``answer``: next tokens behind the prompt. ``fill``: each masked position of the prompt predicts
    its own token. ``retrieval``: the prompt nearest to the question, on a frozen backbone.
    """

    answer = "answer"
    fill = "fill"
    retrieval = "retrieval"


class Form(Enum):
    """How an answer becomes tokens and units.

    ``text``: begins with a space behind the cue; every token is a unit. ``code``: begins on a new
    line; every token is a unit. ``label``: a space and one of ``labels``; its last token is the
    only unit. ``characters``: begins on a new line, one token a character, each character a unit.
    """

    text = "text"
    code = "code"
    label = "label"
    characters = "characters"


MASK = "_"  # the character that stands at a masked position of an in-place fill


@dataclass(frozen=True)
class Paragraph:
    """Sentences under an optional title; the title stands on its own line, with a colon."""

    title: str | None
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A heading and its paragraphs, and which sentences may be cut.

    ``heading`` None renders the paragraphs alone. ``ranking`` lists (paragraph, sentence) positions
    in the order in which they are worth keeping; a prompt that is too long keeps the longest prefix
    of it that fits. ``None`` means that the section is never cut (question, task statement).
    """

    heading: str | None
    paragraphs: tuple[Paragraph, ...]
    ranking: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """One question in sections, before any tokenizer.

    ``cue`` ends the prompt (empty: the last section does). ``num_essential`` is the number of
    leading ``ranking`` entries without which the question has no answer in the prompt.

    ``labels`` are what may be answered at each unit (empty: the whole vocabulary). ``units`` are
    the positions in the characters of the answer that are scored; None scores all. ``copied`` is
    the answer that copying from the prompt gives, None where that means nothing. ``reference`` is
    JSON that ``score_generation`` needs beside the answers.
    """

    example_id: str
    kind: str
    sections: Mapping[str, Section]
    answers: tuple[str, ...]
    cue: str = "Answer:"
    form: Form = Form.text
    prompt_by_character: bool = False  # one token a character in the prompt as well
    num_essential: int = 0
    labels: tuple[str, ...] = ()
    units: tuple[int, ...] | None = None
    copied: str | None = None
    reference: str = ""


@dataclass(frozen=True, kw_only=True)
class EncodedExample:
    """Token ids of one example.

    ``answer_ids``: objective answer: the tokens of the first gold answer, then end of text; fill:
    the tokens of the masked positions ``mask_positions`` of the prompt, in order; retrieval: the
    question. ``units`` are the positions in ``answer_ids`` that are scored; ``label_ids`` are what
    may be predicted there (empty: the whole vocabulary). ``copied_ids`` predict every answer
    position by copying (None where that means nothing).
    """

    example_id: str
    kind: str
    prompt_ids: list[int]
    answer_ids: list[int]
    answers: tuple[str, ...]
    has_end: bool = True  # answer_ids end with end of text
    is_cut: bool = False
    lost_gold: bool = False
    is_bare: bool = False  # everything that may be cut is cut: no filler, no evidence
    units: tuple[int, ...] = ()
    label_ids: tuple[int, ...] = ()
    mask_positions: tuple[int, ...] = ()
    copied: str | None = None
    copied_ids: tuple[int, ...] | None = None
    reference: str = ""

    @property
    def num_answer_tokens(self) -> int:
        """Return the number of answer tokens without end of text."""
        return len(self.answer_ids) - self.has_end


@dataclass(frozen=True, kw_only=True)
class RowKey:
    """The part of a row that tells whether two rows overlap.

    ``text`` is compared for near-duplicates by its words (empty: not compared). ``groups`` are what
    no two splits may share (titles of gold paragraphs, contexts, articles); ``sequence`` is
    replaced by its cluster when the task has ``cluster``. ``division`` decides the split of a row
    where the published data lacks one; rows with equal ``division`` stay together (default: the
    only group, else ``row_id``).
    """

    row_id: str
    text: str = ""
    groups: frozenset[str] = frozenset()
    sequence: str = ""
    division: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Where the rows of a task are stored, locally and on the hub.

    ``files`` maps a split to the accepted file names without suffix below ``folder``, the first
    that exists counts; ``hub_splits`` maps a split to its name on the hub. A split that is missing
    is divided from another one (``splits.py``); those in ``required`` must be there. ``columns``
    maps each needed column to its type (``columns.py``); ``key_columns`` are the dotted paths that
    ``read_key`` reads. ``hub_id`` None: generated data that is not on the hub.
    """

    folder: str
    hub_id: str | None
    columns: Mapping[str, Any]
    key_columns: tuple[str, ...]
    hub_config: str | None = None
    files: Mapping[str, tuple[str, ...]]
    hub_splits: Mapping[str, str]
    required: tuple[str, ...] = ("train",)


def same_names(*splits: str) -> dict[str, tuple[str, ...]]:
    """Return the ``files`` of a data set whose files are named like their splits."""
    return {split: (split,) for split in splits}


@dataclass(frozen=True)
class NoOptions:
    """The options of a task that has none."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What rows and examples of a split depend on besides the source.

    ``options`` is an instance of the task's option class; ``seed`` is ``data.seed``.
    """

    split: str
    order: str
    options: Any
    seed: int


class Build(Protocol):
    """What a builder may ask for beside its own row."""

    @property
    def setting(self) -> Setting:
        """Return split, order, options and seed."""
        ...

    def generator(self, row_id: str) -> "np.random.Generator":
        """Return the random generator of one row: the same for every arm, seed and process."""
        ...

    def draw_notes(self, row_id: str, *, num: int, own: Sequence[str]) -> list[str]:
        """Return up to ``num`` texts of other rows that overlap with none in ``own`` (notes.py)."""
        ...


@dataclass(frozen=True, kw_only=True)
class NoteRule:
    """How the rows of a split become notes (filler) of its other examples.

    ``read`` returns the text of a row and raises ``RowProblem``; ``unit`` is words or characters;
    ``run`` is the length of a run of units that counts as overlap.
    """

    read: Callable[[Row, Setting], str]
    unit: str = "words"
    run: int = 8


# texts[i][0] is the greedy answer to examples[i]; sampled ones may follow
ScoreGeneration = Callable[
    [Sequence[EncodedExample], Sequence[Sequence[str]], MbppConfig], list[ScoreRow]
]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that distinguishes one task from another, as facts and functions.

    ``datasets`` by the value of the option ``dataset`` (a task with one data set needs no such
    option). ``options`` is a frozen dataclass whose fields all have a default and a plain type;
    it raises ``ValueError`` for values out of range. ``orders`` maps a canonical order to the names
    of its sections, first to last. ``metrics`` are computed from the score rows, the first is the
    primary one. ``score_generation`` (tasks that decode freely) returns extra columns an example;
    ``generation_columns`` are their names. ``read_key`` and ``build_example`` raise ``RowProblem``.
    ``generate_mini`` yields an endless stream of rows in the schema of the first data set.
    ``cluster`` names the cluster of each sequence. ``shared`` says what a group is, as a reason.
    """

    name: str
    summary: str
    datasets: Mapping[str, DataSet]
    orders: Mapping[str, tuple[str, ...]]
    metrics: "Mapping[str, Metric]"
    mini_version: int
    read_key: Callable[[Row], RowKey]
    build_example: Callable[[Row, Build], Example]
    generate_mini: Callable[[Setting], Iterator[dict[str, Any]]]
    objective: Objective = Objective.answer
    options: type = NoOptions
    order_aliases: Mapping[str, str]
    notes: NoteRule | None = None
    cluster: Callable[[Sequence[str]], list[str]] | None = None
    shared: str = "shared context"
    score_generation: ScoreGeneration | None = None
    generation_columns: tuple[str, ...] = ()
    executes_code: bool = False

    @property
    def primary_metric(self) -> str:
        """Return the name of the first metric."""
        return next(iter(self.metrics))

    def dataset(self, options: Any) -> DataSet:
        """Return the data set that ``options.dataset`` names, the first without such an option."""
        name = getattr(options, "dataset", next(iter(self.datasets)))
        return self.datasets[name]
