"""SQuAD v1.1: a paragraph and a question whose answer is a part of it; and the same with filler.

Worked example (invented), order ``question_last``; ``evidence_last`` swaps the two sections::

    Context:
    The Bako fair was held in Tan. Rilu sold 12 blue lamps.

    Question:
    What did Rilu sell?

    Answer: blue lamps<end of text>

The prompt ends with ``Answer:``; the answer begins with a space. The first gold answer is learned,
all of them count in the scores (official normalisation, exact match and F1 of the best).

Task ``longfill`` has paragraphs of other articles around the one that holds the answer, in random
order, one paragraph a line. None of them has the answer's words, the words of its article's title
or a run of eight words of the right paragraph.

A context that is too long is cut by sentences (``sentences.py``): the sentences of the first gold
answer are kept first, then the others of its paragraph from the front, then those of one
distractor after the other. With more distractors than fit, a prompt of ``longfill`` is therefore
filled up to the limit, whatever the limit is, and its example counts as cut.

No two splits share an article or a context.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fseed.tasks.base import (
    Build,
    DataSet,
    Example,
    NoteRule,
    Paragraph,
    Row,
    RowKey,
    RowProblem,
    Section,
    Setting,
    Task,
    same_names,
)
from fseed.tasks.metrics import END_OF_TEXT_ACCURACY, EXACT_MATCH, F1, LOSS, TOKEN_ACCURACY
from fseed.tasks.sentences import find_sentences, split_sentences
from fseed.tasks.squad_mini import MINI_VERSION, generate_mini
from fseed.tasks.text_metrics import score_span_answers

COLUMNS: dict[str, Any] = {
    "id": "string",
    "title": "string",
    "context": "string",
    "question": "string",
    "answers": {"text": ["string"], "answer_start": ["integer"]},
}
MAX_DISTRACTORS = 64


@dataclass(frozen=True)
class LongfillOptions:
    """``max_distractors``: paragraphs of other articles, as far as they exist and fit."""

    max_distractors: int = 4

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 1 <= self.max_distractors <= MAX_DISTRACTORS:
            raise ValueError(
                f"max_distractors={self.max_distractors}: must be 1..{MAX_DISTRACTORS}"
            )


def read_key(row: Row) -> RowKey:
    """Return id and question of a row, its article and its context; raises ``RowProblem``."""
    fields = {name: _clean(row[name]) for name in ("id", "title", "context", "question")}
    for name, text in fields.items():
        if not text:
            raise RowProblem(f"empty {name}")
    _check_answers(row)
    article = f"article {fields['title']}"
    return RowKey(
        row_id=fields["id"],
        text=fields["question"],
        groups=frozenset({article, f"context {fields['context']}"}),
        division=article,
    )


def build_squad(row: Row, build: Build) -> Example:
    """Return the example of a row that ``read_key`` accepts: its paragraph and its question."""
    return _build_example(row, [], order=[0])


def build_longfill(row: Row, build: Build) -> Example:
    """Return the example with distractors around its paragraph; ``RowProblem`` without any."""
    row_id = _clean(row["id"])
    notes = build.draw_notes(
        row_id,
        num=build.setting.options.max_distractors,
        # a note begins with its title, so the title keeps out the other paragraphs of the article
        own=[_read_title(row), row["context"], *_answer_texts(row)],
    )
    if not notes:
        raise RowProblem("no distractor of another article without the answer")
    contexts = [note.partition("\n")[2] for note in notes]
    order = build.generator(row_id).permutation(len(contexts) + 1)
    return _build_example(row, contexts, order=[int(place) for place in order])


def read_context(row: Row, setting: Setting) -> str:
    """Return title and context of a row on two lines, as a distractor of other examples."""
    title, context = _read_title(row), _clean(row["context"])
    if not title or not context:
        raise RowProblem("empty title or context")
    return f"{title}\n{context}"


def _read_title(row: Row) -> str:
    """Return the title in the words of running text; stored ones have underscores for spaces."""
    return _clean((row["title"] or "").replace("_", " "))


def _build_example(row: Row, distractors: Sequence[str], *, order: Sequence[int]) -> Example:
    """Return the example of a row.

    ``order`` lists the paragraphs as they stand in the prompt: 0 is the row's own context, ``k``
    the distractor ``k - 1``.
    """
    own, essential = _split_context(row)
    bodies = [own, *(split_sentences(text) for text in distractors)]
    rest = [number for number in range(len(own)) if number not in essential]
    ranking = [(0, number) for number in (*essential, *rest)]
    ranking += [(k, number) for k in range(1, len(bodies)) for number in range(len(bodies[k]))]
    place_of = {paragraph: place for place, paragraph in enumerate(order)}
    context = Section(
        "Context",
        tuple(Paragraph(None, tuple(bodies[paragraph])) for paragraph in order),
        tuple((place_of[paragraph], number) for paragraph, number in ranking),
    )
    question = Section("Question", (Paragraph(None, (_clean(row["question"]),)),))
    return Example(
        example_id=_clean(row["id"]),
        kind="span",
        sections={"context": context, "question": question},
        answers=_answer_texts(row),
        num_essential=len(essential),
    )


def _split_context(row: Row) -> tuple[list[str], list[int]]:
    """Return the sentences of the context, and the numbers of those with the first gold answer."""
    context, answers = row["context"], row["answers"]
    start = answers["answer_start"][0]
    end = start + len(answers["text"][0])
    spans = find_sentences(context)
    essential = [
        number for number, (left, right) in enumerate(spans) if left < end and start < right
    ]
    return [_clean(context[left:right]) for left, right in spans], essential


def _check_answers(row: Row) -> None:
    """Raise ``RowProblem`` unless every gold answer stands where the row says."""
    answers = row["answers"] or {}
    texts, starts = answers.get("text") or (), answers.get("answer_start") or ()
    if len(texts) != len(starts):
        raise RowProblem("answers and positions differ in number")
    if not texts:
        raise RowProblem("no answer")
    for text, start in zip(texts, starts, strict=True):
        if not _clean(text):
            raise RowProblem("empty answer")
        if start is None or start < 0 or row["context"][start : start + len(text)] != text:
            raise RowProblem("answer is not at its position")


def _answer_texts(row: Row) -> tuple[str, ...]:
    """Return the different gold answers, the first one first."""
    return tuple(dict.fromkeys(_clean(text) for text in row["answers"]["text"]))


def _clean(text: str | None) -> str:
    """Return ``text`` with every run of white space as one space; missing text is empty."""
    return " ".join((text or "").split())


def generate_rows(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the generated rows of a split; order and options change nothing in them."""
    return generate_mini(setting.split, seed=setting.seed)


PLAIN_TEXT = DataSet(
    folder="squad",
    hub_id="rajpurkar/squad",
    hub_config="plain_text",
    columns=COLUMNS,
    key_columns=("id", "title", "context", "question", "answers.text", "answers.answer_start"),
    # the published test split is hidden
    files=same_names("train", "validation"),
    hub_splits={"train": "train", "validation": "validation"},
    required=("train", "validation"),
)

SQUAD = Task(
    name="squad",
    summary="A question about one paragraph, answered by a part of it.",
    datasets={"plain_text": PLAIN_TEXT},
    orders={
        "question_last": ("context", "question"),
        "evidence_last": ("question", "context"),
    },
    order_aliases={"q_after": "question_last", "q_first": "evidence_last"},
    metrics={
        "exact_match": EXACT_MATCH,
        "f1": F1,
        "token_accuracy": TOKEN_ACCURACY,
        "end_of_text_accuracy": END_OF_TEXT_ACCURACY,
        "loss": LOSS,
    },
    mini_version=MINI_VERSION,
    read_key=read_key,
    build_example=build_squad,
    generate_mini=generate_rows,
    shared="shared article or context",
    score_generation=score_span_answers,
    generation_columns=("exact_match", "f1"),
)

LONGFILL = replace(
    SQUAD,
    name="longfill",
    summary="SQuAD with paragraphs of other articles around the right one, up to the limit.",
    build_example=build_longfill,
    options=LongfillOptions,
    notes=NoteRule(read=read_context, unit="words", run=8),
)
