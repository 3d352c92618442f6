"""ARC: a science question with three to five options, answered by the label of one.

Worked example (invented), order ``question_last``; ``evidence_last`` swaps the two sections::

    Options:
    A. Bako's red lamp
    B. Rilu's blue drum
    C. Vemo's grey rope

    Question:
    Which one is blue?

    Answer: B<end of text>

Options are sorted by label; the labels are A to E or 1 to 5. With ``question_last`` the options are
read before the question is known. The label, one token behind a space, is chosen among the labels
of the options; the choice among the whole vocabulary is scored as well. Nothing is ever cut.

Rows are near-duplicates by the words of question and options together, because many different items
ask the same question.
"""

from collections.abc import Iterator
from typing import Any

from fseed.tasks.arc_mini import LABELS, MINI_VERSION, generate_mini
from fseed.tasks.base import (
    Build,
    DataSet,
    Example,
    Form,
    Paragraph,
    Row,
    RowKey,
    RowProblem,
    Section,
    Setting,
    Task,
    same_names,
)
from fseed.tasks.metrics import (
    END_OF_TEXT_ACCURACY,
    FULL_VOCABULARY_ACCURACY,
    LOSS,
    UNIT_ACCURACY,
)

COLUMNS: dict[str, Any] = {
    "id": "string",
    "question": "string",
    "choices": {"text": ["string"], "label": ["string"]},
    "answerKey": "string",
}


def read_key(row: Row) -> RowKey:
    """Return id, and question with options of a row; raises ``RowProblem``."""
    fields = {name: _clean(row[name]) for name in ("id", "question", "answerKey")}
    for name, text in fields.items():
        if not text:
            raise RowProblem(f"empty {name}")
    options = _read_options(row["choices"] or {})
    if fields["answerKey"] not in options:
        raise RowProblem("answer key is not among the labels")
    return RowKey(
        row_id=fields["id"], text=" ".join([fields["question"], *sorted(options.values())])
    )


def build_example(row: Row, build: Build) -> Example:
    """Return the example of a row that ``read_key`` accepts."""
    options = _read_options(row["choices"])
    labels = tuple(sorted(options))
    lines = tuple(Paragraph(None, (f"{label}. {options[label]}",)) for label in labels)
    return Example(
        example_id=_clean(row["id"]),
        kind="choice",
        sections={
            "options": Section("Options", lines),
            "question": Section("Question", (Paragraph(None, (_clean(row["question"]),)),)),
        },
        answers=(_clean(row["answerKey"]),),
        form=Form.label,
        labels=labels,
    )


def _read_options(choices: Row) -> dict[str, str]:
    """Return label -> text; raises ``RowProblem``."""
    labels, texts = choices.get("label") or (), choices.get("text") or ()
    if len(labels) != len(texts):
        raise RowProblem("options and labels differ in number")
    options = {_clean(label): _clean(text) for label, text in zip(labels, texts, strict=True)}
    if len(options) < len(labels):
        raise RowProblem("repeated label")
    if len(options) < 2:
        raise RowProblem("fewer than two options")
    if not any(options.keys() <= set(style) for style in LABELS):
        raise RowProblem("labels are neither A to E nor 1 to 5")
    if not all(options.values()):
        raise RowProblem("empty option")
    return options


def _clean(text: str | None) -> str:
    """Return ``text`` with every run of white space as one space; missing text is empty."""
    return " ".join((text or "").split())


def generate_rows(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the generated rows of a split; order and options change nothing in them."""
    return generate_mini(setting.split, seed=setting.seed)


CHALLENGE = DataSet(
    folder="arc_challenge",
    hub_id="allenai/ai2_arc",
    hub_config="ARC-Challenge",
    columns=COLUMNS,
    key_columns=("id", "question", "choices.text", "choices.label", "answerKey"),
    files=same_names("train", "validation", "test"),
    hub_splits={"train": "train", "validation": "validation", "test": "test"},
    required=("train", "validation"),
)

ARC = Task(
    name="arc",
    summary="Science questions with options, answered by a label.",
    datasets={"challenge": CHALLENGE},
    orders={
        "question_last": ("options", "question"),
        "evidence_last": ("question", "options"),
    },
    order_aliases={
        "options_first": "question_last",
        "q_after": "question_last",
        "q_first": "evidence_last",
    },
    metrics={
        "accuracy": UNIT_ACCURACY,
        "full_vocabulary_accuracy": FULL_VOCABULARY_ACCURACY,
        "end_of_text_accuracy": END_OF_TEXT_ACCURACY,
        "loss": LOSS,
    },
    mini_version=MINI_VERSION,
    read_key=read_key,
    build_example=build_example,
    generate_mini=generate_rows,
)
