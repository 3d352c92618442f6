from typing import Any

from fseed.data_card.blocks import Span
from fseed.data_card.samples import NUM_SAMPLES, render_sample, render_samples, shorten, visible
from fseed.models.tokenizer import ByteTokenizer
from fseed.tasks.base import EncodedExample, Objective

BYTES = ByteTokenizer()


def build_example(name: str = "a", **changes: Any) -> EncodedExample:
    facts = {
        "example_id": name,
        "kind": "only",
        "prompt_ids": list(b"Sequence:\nAC\n\nAnswer:"),
        "answer_ids": [*b"HHCC", 0],
        "answers": ("HHCC",),
        "units": (1, 2),
    }
    return EncodedExample(**(facts | changes))


def test_scored_units_of_the_answer_are_marked_and_end_of_text_is_left_out() -> None:
    sample = render_sample(build_example(), objective=Objective.answer, tokenizer=BYTES)
    assert sample.title == "a (only)"
    assert sample.parts == [
        ("prompt", [Span("Sequence:\nAC\n\nAnswer:")]),
        ("answer", [Span("H"), Span("HC", is_marked=True), Span("C")]),
    ]


def test_masked_positions_of_a_fill_are_marked() -> None:
    example = build_example(
        prompt_ids=list(b"L=12|M=__|R=12"),
        answer_ids=list(b"12"),
        has_end=False,
        mask_positions=(7, 8),
        units=(0, 1),
    )
    (_, prompt), (_, answer) = render_sample(
        example, objective=Objective.fill, tokenizer=BYTES
    ).parts
    assert prompt == [Span("L=12|M="), Span("__", is_marked=True), Span("|R=12")]
    assert answer == [Span("12", is_marked=True)]


def test_a_retrieval_example_shows_context_and_question() -> None:
    example = build_example(answer_ids=list(b"Who?"), has_end=False, units=())
    sample = render_sample(example, objective=Objective.retrieval, tokenizer=BYTES)
    assert sample.parts[1] == ("question", [Span("Who?")])


def test_examples_of_different_kinds_come_first() -> None:
    examples = [build_example(str(n), kind="x" if n < 9 else "y") for n in range(10)]
    samples = render_samples(examples, objective=Objective.answer, tokenizer=BYTES)
    assert [sample.title for sample in samples] == ["0 (x)", "9 (y)", "1 (x)"]
    assert len(samples) == NUM_SAMPLES
    few = render_samples(examples[:1], objective=Objective.answer, tokenizer=BYTES)
    assert len(few) == 1


def test_the_middle_of_a_long_text_is_left_out_and_marks_stay() -> None:
    spans = [Span("a" * 50), Span("b" * 100, is_marked=True), Span("c" * 7)]
    short = shorten(spans, max_characters=61)
    assert short == [
        Span("a" * 30),
        Span("\n[... 96 characters left out ...]\n"),
        Span("b" * 24, is_marked=True),
        Span("c" * 7),
    ]
    assert shorten(spans, max_characters=157) == spans


def test_control_characters_are_shown_and_do_nothing() -> None:
    text = "a\x1b[31m\x00\x07\r\n\tb\x7f\x9b\ud800\u202e\u00e9"
    expected = "a\u241b[31m\u2400\u2407\u240d\n\tb" + "\ufffd" * 4 + "\u00e9"
    assert visible(text) == expected
