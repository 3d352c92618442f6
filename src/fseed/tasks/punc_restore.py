"""Restore punctuation and capitals of a text, from its lower-case words.

Worked example (invented), order ``filler_last``; ``task_last`` swaps the two sections::

    Text:
    does rilu live in tan now bako

    Notes:
    Vemo, please bring the lamps to Sanu!

    Answer: Does Rilu live in Tan now, Bako?<end of text>

The text is stripped as ``punctuation_metrics.py`` says; the answer is the clean text. Notes are
clean texts of other rows of the split that share no run of eight words with it; they are cut first,
by sentences from the back. With ``filler_last`` the notes stand between text and answer.

Texts are cleaned by the rules of their data set (``text_cleaning.py``) and must have a length
within the limits of the options; headings, empty rows and rows that cannot be cleaned are dropped,
each under its reason. Rows have no id of their own; the hash of the stored text serves as one, so a
repeated text counts as a repeated id.

Free decoding is scored by the F1 of the marks (mean over texts, and of the pooled counts), the
casing of words and the character error rate. The copy baseline answers with the stripped text.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fseed.config.schema import MbppConfig
from fseed.tasks.base import (
    Build,
    DataSet,
    EncodedExample,
    Example,
    NoteRule,
    Paragraph,
    Row,
    RowKey,
    RowProblem,
    ScoreRow,
    Section,
    Setting,
    Task,
)
from fseed.tasks.metrics import (
    END_OF_TEXT_ACCURACY,
    LOSS,
    TOKEN_ACCURACY,
    Pooled,
    mean,
    pooled,
    ratio,
)
from fseed.tasks.punc_mini import MINI_VERSION, generate_mini
from fseed.tasks.punctuation_metrics import (
    RestorationCounts,
    mark_f1,
    score_restoration,
    strip_text,
)
from fseed.tasks.sentences import split_sentences
from fseed.tasks.text_cleaning import clean_news, clean_plain, clean_wikitext, is_heading

MAX_NOTES = 16

CLEANERS: dict[str, Callable[[str], str]] = {
    "ag_news": clean_news,
    "wikitext": clean_wikitext,
    "text": clean_plain,
}


@dataclass(frozen=True)
class PuncRestoreOptions:
    """``num_notes`` other texts; lengths in characters are those of the clean text."""

    dataset: str = "ag_news"
    num_notes: int = 1
    min_characters: int = 40
    max_characters: int = 400

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 1 <= self.num_notes <= MAX_NOTES:
            raise ValueError(f"num_notes={self.num_notes}: must be 1..{MAX_NOTES}")
        if self.min_characters < 1:
            raise ValueError(f"min_characters={self.min_characters}: must be at least 1")
        if self.max_characters < self.min_characters:
            raise ValueError(
                f"max_characters={self.max_characters}: must be at least min_characters="
                f"{self.min_characters}"
            )


def read_key(row: Row) -> RowKey:
    """Return the hash of a row's text as id, and the text; raises ``RowProblem``."""
    text = row["text"] or ""
    if not text.strip():
        raise RowProblem("empty text")
    if is_heading(text):
        raise RowProblem("heading")
    return RowKey(row_id=_name_text(text), text=text)


def read_clean(row: Row, setting: Setting) -> str:
    """Return the clean text of a row that ``read_key`` accepts; raises ``RowProblem``."""
    clean = CLEANERS[setting.options.dataset](row["text"])
    if len(clean) < setting.options.min_characters:
        raise RowProblem("text shorter than min_characters")
    if len(clean) > setting.options.max_characters:
        raise RowProblem("text longer than max_characters")
    if not strip_text(clean):
        raise RowProblem("no word in the text")
    return clean


def build_example(row: Row, build: Build) -> Example:
    """Return the example of a row that ``read_key`` accepts; raises ``RowProblem``."""
    row_id = _name_text(row["text"])
    clean = read_clean(row, build.setting)
    num_notes = build.setting.options.num_notes
    notes = build.draw_notes(row_id, num=num_notes, own=[clean])
    if len(notes) < num_notes:
        raise RowProblem("too few notes in the split")
    stripped = strip_text(clean)
    return Example(
        example_id=row_id,
        kind="text",
        sections={
            "text": Section("Text", (Paragraph(None, (stripped,)),)),
            "notes": _build_notes(notes),
        },
        answers=(clean,),
        copied=stripped,
    )


def _build_notes(notes: Sequence[str]) -> Section:
    """Return the notes, one a line; the last sentences of the last note are cut first."""
    bodies = [tuple(split_sentences(note)) for note in notes]
    ranking = [(place, number) for place, body in enumerate(bodies) for number in range(len(body))]
    return Section("Notes", tuple(Paragraph(None, body) for body in bodies), tuple(ranking))


def _name_text(text: str) -> str:
    """Return an id that depends on the stored text alone."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def score_generation(
    examples: Sequence[EncodedExample], texts: Sequence[Sequence[str]], scoring: MbppConfig
) -> list[ScoreRow]:
    """Return F1 and counts of what each greedy answer restores."""
    return [
        {**score_restoration(found[0], example.answers[0])}
        for example, found in zip(examples, texts, strict=True)
    ]


def _pool_marks(rows: Sequence[ScoreRow]) -> Pooled | None:
    """Return the F1 of the marks of all texts together; n is the number of gold marks."""
    scored = [row for row in rows if row.get("marks_restored") is not None]
    if not scored:
        return None
    restored, spurious, missing = (
        sum(row[name] for row in scored)
        for name in ("marks_restored", "marks_spurious", "marks_missing")
    )
    f1 = mark_f1(restored=restored, spurious=spurious, missing=missing)
    return Pooled(f1, int(restored + missing))


def generate_rows(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the generated rows of a split; order and options change nothing in them."""
    return generate_mini(setting.split, seed=setting.seed)


def _text_dataset(folder: str, hub_id: str | None, **facts: Any) -> DataSet:
    """Return a data set of one text column."""
    return DataSet(
        folder=folder, hub_id=hub_id, columns={"text": "string"}, key_columns=("text",), **facts
    )


DATASETS = {
    "ag_news": _text_dataset(
        "ag_news",
        "fancyzhx/ag_news",
        files={"train": ("train",), "test": ("test",)},
        hub_splits={"train": "train", "test": "test"},
        required=("train", "test"),
    ),
    "wikitext": _text_dataset(
        "text",
        "Salesforce/wikitext",
        hub_config="wikitext-2-raw-v1",
        files={
            "train": ("wikitext2_raw_train",),
            "validation": ("wikitext2_raw_validation",),
            "test": ("wikitext2_raw_test",),
        },
        hub_splits={"train": "train", "validation": "validation", "test": "test"},
        required=("validation",),
    ),
    "text": _text_dataset(
        "text",
        None,
        files={"train": ("corpus_train", "train"), "validation": ("corpus_validation",)},
        hub_splits={},
    ),
}

PUNC_RESTORE = Task(
    name="punc_restore",
    summary="Punctuation and capitals of a text, restored from its lower-case words.",
    datasets=DATASETS,
    orders={"filler_last": ("text", "notes"), "task_last": ("notes", "text")},
    order_aliases={"q_after": "filler_last", "q_first": "task_last"},
    metrics={
        "punctuation_f1": mean(
            "Mean F1 of the punctuation marks of a text; 1 for a text without marks on both sides.",
            "punctuation_f1",
            is_generated=True,
        ),
        "punctuation_f1_pooled": pooled(
            "F1 of the punctuation marks of all texts together.", _pool_marks, is_generated=True
        ),
        "casing_accuracy": ratio(
            "Fraction of cased words of the clean texts that are restored in their casing.",
            "casing_restored",
            "casing_words",
            is_generated=True,
        ),
        "character_error_rate": ratio(
            "Edit distance over the characters of the clean texts; lower is better.",
            "edit_distance",
            "clean_characters",
            is_generated=True,
        ),
        "token_accuracy": TOKEN_ACCURACY,
        "end_of_text_accuracy": END_OF_TEXT_ACCURACY,
        "loss": LOSS,
    },
    mini_version=MINI_VERSION,
    read_key=read_key,
    build_example=build_example,
    generate_mini=generate_rows,
    options=PuncRestoreOptions,
    notes=NoteRule(read=read_clean, unit="words", run=8),
    score_generation=score_generation,
    generation_columns=(
        "punctuation_f1",
        *(field.name for field in fields(RestorationCounts)),
    ),
)
