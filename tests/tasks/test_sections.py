from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_helpers import Bytes, PlainBuild, Words, make_row

from fseed.tasks.base import Example, Form, Paragraph, RowProblem, Section
from fseed.tasks.hotpot import build_example
from fseed.tasks.sections import fit_prompt, num_ranked, render_prompt

ORDERS = [("context", "question"), ("question", "context")]

words = st.text(alphabet="abcdef ", min_size=1, max_size=30).filter(str.strip).map(str.strip)


@st.composite
def examples(draw):
    """Return an example with random paragraphs, ranking and supporting sentences."""
    paragraphs = draw(
        st.lists(
            st.builds(
                Paragraph,
                st.one_of(st.none(), words),
                st.lists(words, min_size=1, max_size=4).map(tuple),
            ),
            min_size=1,
            max_size=5,
        )
    )
    places = [(i, j) for i, each in enumerate(paragraphs) for j in range(len(each.sentences))]
    ranking = tuple(draw(st.permutations(places)))
    return Example(
        example_id="x",
        kind="bridge",
        sections={
            "context": Section("Context", tuple(paragraphs), ranking),
            "question": Section("Question", (Paragraph(None, (draw(words) + "?",)),)),
        },
        answers=("gold",),
        num_essential=draw(st.integers(0, len(ranking))),
    )


def fit(example, order, tokenizer, limit):
    return fit_prompt(example, order, tokenizer=tokenizer, max_prompt_tokens=limit)


@given(examples(), st.sampled_from(ORDERS), st.integers(0, 400))
def test_fit_never_cuts_question_or_cue_and_respects_the_limit(example, order, limit):
    for tokenizer in (Bytes(), Words()):
        try:
            text, ids, num_kept = fit(example, order, tokenizer, limit)
        except RowProblem:
            shortest = render_prompt(example, order, num_kept=1 if example.num_essential else 0)
            assert len(tokenizer.encode(shortest)) > limit
            continue
        assert ids == tokenizer.encode(text)
        assert len(ids) <= limit
        assert text == render_prompt(example, order, num_kept=num_kept)
        question = example.sections["question"].paragraphs[0].sentences[0]
        assert f"Question:\n{question}\n" in text
        assert text.endswith("\n\nAnswer:")


@given(examples(), st.sampled_from(ORDERS), st.integers(0, 400))
def test_one_sentence_more_would_not_fit(example, order, limit):
    tokenizer = Bytes()
    try:
        _, _, num_kept = fit(example, order, tokenizer, limit)
    except RowProblem:
        return
    if num_kept < num_ranked(example):
        longer = render_prompt(example, order, num_kept=num_kept + 1)
        assert len(tokenizer.encode(longer)) > limit


@given(examples(), st.sampled_from(ORDERS), st.data())
def test_prompt_as_long_as_the_limit_fits(example, order, data):
    wanted = data.draw(st.integers(1, num_ranked(example)))
    limit = len(Bytes().encode(render_prompt(example, order, num_kept=wanted)))
    assert fit(example, order, Bytes(), limit)[2] == wanted


@given(examples(), st.sampled_from(ORDERS), st.integers(0, 400), st.integers(0, 100))
def test_longer_limit_never_keeps_less(example, order, limit, more):
    try:
        _, _, few = fit(example, order, Bytes(), limit)
    except RowProblem:
        return
    _, _, many = fit(example, order, Bytes(), limit + more)
    assert many >= few


@given(examples(), st.integers(0, 20))
def test_kept_sentences_are_whole_and_in_document_order(example, num_kept):
    section = example.sections["context"]
    kept = sorted(section.ranking[:num_kept])
    expected = ["Context:"]
    for index, paragraph in enumerate(section.paragraphs):
        chosen = [paragraph.sentences[j] for i, j in kept if i == index]
        if chosen and paragraph.title is not None:
            expected.append(f"{paragraph.title}:")
        if chosen:
            expected.append(" ".join(chosen))
    text = render_prompt(example, ("context", "question"), num_kept=num_kept)
    assert text.split("\n\nQuestion:")[0] == "\n".join(expected)


@given(examples(), st.sampled_from(ORDERS), st.integers(0, 400))
def test_prompts_by_character_are_cut_by_characters(example, order, limit):
    example = replace(example, prompt_by_character=True)
    try:
        text, ids, num_kept = fit(example, order, Words(), limit)
    except RowProblem:
        return
    assert len(ids) == len(text) <= limit
    if num_kept < num_ranked(example):
        assert len(render_prompt(example, order, num_kept=num_kept + 1)) > limit


@given(st.integers(0, 260))
def test_hotpot_keeps_supporting_sentences_before_anything_else(limit):
    example = build_example(make_row(7), PlainBuild())
    try:
        text, _, num_kept = fit(example, ORDERS[0], Bytes(), limit)
    except RowProblem:
        return
    supporting = [" Its friend is Beta7.", "Beta7 moors in Port 7."]
    shown = [sentence.strip() in text for sentence in supporting]
    assert shown[0]
    assert all(shown) == (num_kept >= example.num_essential)
    if "Moss" in text:
        assert all(shown)
        assert "It floats." in text


def test_example_without_evidence_that_can_be_cut_is_refused_when_too_long():
    question = Section("Question", (Paragraph(None, ("a question of some length?",)),))
    example = Example(
        example_id="x", kind="bridge", sections={"question": question}, answers=("a",)
    )
    with pytest.raises(RowProblem, match="does not fit"):
        fit(example, ("question",), Bytes(), 20)


def test_two_sections_that_can_be_cut_are_an_error():
    section = Section("Notes", (Paragraph(None, ("a",)),), ((0, 0),))
    example = Example(
        example_id="x",
        kind="bridge",
        sections={"one": section, "two": section},
        answers=("a",),
    )
    with pytest.raises(ValueError, match="more than one section"):
        num_ranked(example)


@pytest.mark.parametrize(
    ("cue", "form", "end"),
    [
        ("Answer:", Form.text, "\n\nAnswer:"),
        ("Answer:", Form.label, "\n\nAnswer:"),
        ("Code:", Form.code, "\n\nCode:\n"),
        ("Solution:", Form.characters, "\n\nSolution:\n"),
        ("", Form.characters, ""),
        ("", Form.text, ""),
    ],
)
def test_the_cue_ends_the_prompt(cue, form, end):
    grid = Section(None, (Paragraph(None, ("12", "34")), Paragraph("Rest", ("5",))))
    example = Example(
        example_id="x", kind="only", sections={"grid": grid}, answers=("a",), cue=cue, form=form
    )
    assert render_prompt(example, ("grid",)) == "12 34\nRest:\n5" + end
