"""HotpotQA, distractor setting: titled paragraphs and a question that needs two of them.

Worked example (invented), order ``question_last``; ``evidence_last`` swaps the two sections::

    Context:
    Bako:
    Lives in Tan. Trusts Rilu.
    Rilu:
    Lives in Kor. Trusts Bako.

    Question:
    Where does the one Bako trusts live?

    Answer: Kor<end of text>

The prompt ends with ``Answer:``; the answer begins with a space. With ``question_last`` the whole
context is read before the question is known.

Evidence that is too long is cut by sentences: the supporting sentences are kept first, then the
rest of the supporting paragraphs, then the other paragraphs, both by position in the paragraph, so
that the ends of the paragraphs go first. What is kept stays in document order. A short limit
therefore makes the task easier by removing distractors; the preflight counts the examples that
were cut and those that lost a supporting sentence.
"""

from collections.abc import Iterator
from typing import Any

from fseed.tasks.base import (
    Build,
    DataSet,
    Example,
    Paragraph,
    Row,
    RowKey,
    RowProblem,
    Section,
    Setting,
    Task,
    same_names,
)
from fseed.tasks.hotpot_mini import MINI_VERSION, generate_mini
from fseed.tasks.metrics import END_OF_TEXT_ACCURACY, EXACT_MATCH, F1, LOSS, TOKEN_ACCURACY
from fseed.tasks.text_metrics import score_short_answers

KINDS = ("bridge", "comparison")

COLUMNS: dict[str, Any] = {
    "id": "string",
    "question": "string",
    "answer": "string",
    "type": "string",
    "supporting_facts": {"title": ["string"], "sent_id": ["integer"]},
    "context": {"title": ["string"], "sentences": [["string"]]},
}


def read_key(row: Row) -> RowKey:
    """Return id, question and supporting titles of a row; raises ``RowProblem``.

    A HotpotQA paragraph is the opening of the article of its title, so titles tell whether two
    rows rest on the same paragraph without reading the paragraphs.
    """
    fields = {name: _clean(row[name]) for name in ("id", "question", "answer", "type")}
    for name, text in fields.items():
        if not text:
            raise RowProblem(f"empty {name}")
    if fields["type"] not in KINDS:
        raise RowProblem("unknown type")
    gold = _titles(row["supporting_facts"])
    if not gold:
        raise RowProblem("no supporting facts")
    if not gold <= _titles(row["context"]):
        raise RowProblem("supporting paragraph missing from the context")
    return RowKey(
        row_id=fields["id"],
        text=fields["question"],
        groups=frozenset(gold),
        division=fields["id"],
    )


def build_example(row: Row, build: Build) -> Example:
    """Return the example of a row that ``read_key`` accepts; raises ``RowProblem``."""
    paragraphs = _paragraphs(row["context"])
    essential = _supporting_sentences(row["supporting_facts"], paragraphs)
    context = Section("Context", paragraphs, _rank_sentences(paragraphs, essential))
    question = Section("Question", (Paragraph(None, (_clean(row["question"]),)),))
    return Example(
        example_id=_clean(row["id"]),
        kind=_clean(row["type"]),
        sections={"context": context, "question": question},
        answers=(_clean(row["answer"]),),
        num_essential=len(essential),
    )


def _rank_sentences(
    paragraphs: tuple[Paragraph, ...], essential: list[tuple[int, int]]
) -> tuple[tuple[int, int], ...]:
    """Return the positions of all sentences, the ones most worth keeping first."""
    supporting = {paragraph for paragraph, _ in essential}
    chosen = set(essential)
    rest = [
        (paragraph, number)
        for paragraph, source in enumerate(paragraphs)
        for number, text in enumerate(source.sentences)
        if text and (paragraph, number) not in chosen
    ]
    rest.sort(key=lambda place: (place[0] not in supporting, place[1], place[0]))
    return (*essential, *rest)


def _supporting_sentences(facts: Row, paragraphs: tuple[Paragraph, ...]) -> list[tuple[int, int]]:
    """Return the positions of the supporting sentences in document order."""
    index_of = {paragraph.title: index for index, paragraph in enumerate(paragraphs)}
    titles, numbers = facts["title"], facts["sent_id"] or ()
    if len(titles) != len(numbers):
        raise RowProblem("supporting titles and sentence numbers differ in number")
    places: set[tuple[int, int]] = set()
    for title, number in zip(titles, numbers, strict=True):
        index = index_of[_clean(title)]
        sentences = paragraphs[index].sentences
        if number is None or not 0 <= number < len(sentences) or not sentences[number]:
            raise RowProblem("supporting sentence missing from its paragraph")
        places.add((index, number))
    return sorted(places)


def _paragraphs(context: Row) -> tuple[Paragraph, ...]:
    """Return the paragraphs; empty sentences keep their place, so sentence numbers stay valid."""
    titles, bodies = context["title"], context["sentences"]
    if bodies is None or len(titles) != len(bodies):
        raise RowProblem("titles and paragraphs differ in number")
    return tuple(
        Paragraph(_clean(title), tuple(_clean(text) for text in body or ()))
        for title, body in zip(titles, bodies, strict=True)
    )


def _titles(group: Row | None) -> set[str]:
    """Return the cleaned titles of a struct of lists; empty when it is missing."""
    titles = (group or {}).get("title") or ()
    return {_clean(title) for title in titles}


def _clean(text: str | None) -> str:
    """Return ``text`` with every run of white space as one space; missing text is empty."""
    return " ".join((text or "").split())


def generate_rows(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the generated rows of a split; order and options change nothing in them."""
    return generate_mini(setting.split, seed=setting.seed)


DISTRACTOR = DataSet(
    folder="hotpotqa",
    hub_id="hotpotqa/hotpot_qa",
    hub_config="distractor",
    columns=COLUMNS,
    key_columns=(
        "id",
        "question",
        "answer",
        "type",
        "supporting_facts.title",
        "context.title",
    ),
    # the published test split has no answers
    files=same_names("train", "validation"),
    hub_splits={"train": "train", "validation": "validation"},
    required=("train", "validation"),
)

HOTPOT = Task(
    name="hotpot",
    summary="Multi-hop questions over ten paragraphs, short answer.",
    datasets={"distractor": DISTRACTOR},
    orders={
        "question_last": ("context", "question"),
        "evidence_last": ("question", "context"),
    },
    order_aliases={"q_after": "question_last", "q_first": "evidence_last"},
    metrics={
        "token_accuracy": TOKEN_ACCURACY,
        "exact_match": EXACT_MATCH,
        "f1": F1,
        "end_of_text_accuracy": END_OF_TEXT_ACCURACY,
        "loss": LOSS,
    },
    mini_version=MINI_VERSION,
    read_key=read_key,
    build_example=build_example,
    generate_mini=generate_rows,
    shared="shared gold paragraph",
    score_generation=score_short_answers,
    generation_columns=("exact_match", "f1"),
)
