import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_helpers import Bytes, PlainBuild, Words, make_row

from fseed.tasks.base import MASK, Example, Form, Objective, Paragraph, RowProblem, Section
from fseed.tasks.encoding import encode_example
from fseed.tasks.hotpot import HOTPOT, build_example


def encode(row, *, order="question_last", tokenizer=None, max_length=1000, max_answer=48):
    return encode_example(
        build_example(row, PlainBuild()),
        HOTPOT.orders[order],
        tokenizer=tokenizer or Bytes(),
        max_length_tokens=max_length,
        max_answer_tokens=max_answer,
    )


def encode_short(
    answer, *, text="Task text.", objective=Objective.answer, limits=(200, 48), **facts
):
    """Encode an example with one section that has no heading."""
    max_length, max_answer = limits
    example = Example(
        example_id="x",
        kind="only",
        sections={"task": Section(None, (Paragraph(None, (text,)),))},
        answers=(answer,),
        **facts,
    )
    return encode_example(
        example,
        ("task",),
        objective=objective,
        tokenizer=Bytes(),
        max_length_tokens=max_length,
        max_answer_tokens=max_answer,
    )


def prompt_of(encoded):
    return bytes(encoded.prompt_ids).decode()


def test_prompt_and_answer_are_tokenised_apart():
    encoded = encode(make_row(7))
    assert prompt_of(encoded).endswith("\n\nAnswer:")
    assert bytes(encoded.answer_ids[:-1]) == b" Port 7"
    assert encoded.answer_ids[-1] == Bytes.end_of_text
    assert encoded.has_end
    assert encoded.num_answer_tokens == 7
    assert not encoded.is_cut
    assert not encoded.lost_gold


def test_answer_at_the_limit_fits_and_one_token_more_does_not():
    assert len(encode(make_row(7), max_answer=7).answer_ids) == 8
    with pytest.raises(RowProblem, match="answer longer than 6 tokens"):
        encode(make_row(7), max_answer=6)


@given(st.integers(20, 420), st.sampled_from(["question_last", "evidence_last"]))
def test_prompt_and_answer_stay_within_the_length(max_length, order):
    whole = encode(make_row(7), order=order)
    for tokenizer in (Bytes(), Words()):
        try:
            encoded = encode(make_row(7), order=order, tokenizer=tokenizer, max_length=max_length)
        except RowProblem:
            continue
        prompt = tokenizer.decode(encoded.prompt_ids)
        assert len(encoded.prompt_ids) + len(encoded.answer_ids) <= max_length
        assert encoded.is_cut == (prompt != prompt_of(whole))
        lost = not ("Its friend is Beta7." in prompt and "moors" in prompt)
        assert encoded.lost_gold == lost
        assert make_row(7)["question"] in prompt


@pytest.mark.parametrize(
    ("form", "prompt", "answer"),
    [
        (Form.text, "Task text.\n\nCue:", b" ab"),
        (Form.code, "Task text.\n\nCue:\n", b"ab"),
        (Form.characters, "Task text.\n\nCue:\n", b"ab"),
    ],
)
def test_forms_say_where_the_answer_begins_and_every_token_is_a_unit(form, prompt, answer):
    encoded = encode_short("ab", form=form, cue="Cue:")
    assert prompt_of(encoded) == prompt
    assert encoded.answer_ids == [*answer, Bytes.end_of_text]
    assert encoded.units == tuple(range(len(answer)))
    assert encoded.label_ids == ()
    assert encoded.copied_ids is None


def test_an_empty_cue_ends_the_prompt_with_the_last_section():
    assert prompt_of(encode_short("ab", cue="")) == "Task text."
    assert prompt_of(encode_short("ab", cue="", form=Form.characters)) == "Task text."


def test_code_keeps_its_indentation():
    encoded = encode_short("    return x", form=Form.code, cue="Python solution:")
    assert bytes(encoded.answer_ids[:-1]) == b"    return x"


def test_only_the_last_token_of_a_label_is_a_unit():
    encoded = encode_short("B", form=Form.label, labels=("A", "B", "C"))
    assert bytes(encoded.answer_ids[:-1]) == b" B"
    assert encoded.units == (1,)
    assert bytes(encoded.label_ids) == b"ABC"


@pytest.mark.parametrize("labels", [("A", "AB"), ("xA", "yA"), ("True", "False")])
def test_labels_must_differ_in_their_last_token_alone(labels):
    with pytest.raises(ValueError, match="must differ in their last token alone"):
        encode_short(labels[0], form=Form.label, labels=labels)


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        ("D", {"form": Form.label}),
        ("AD", {"form": Form.characters}),
        ("D", {"objective": Objective.fill, "text": "_", "cue": ""}),
    ],
)
def test_a_gold_answer_that_is_no_label_is_refused(answer, facts):
    with pytest.raises(RowProblem, match="answer outside the labels"):
        encode_short(answer, labels=("A", "B"), **facts)


def test_only_the_scored_characters_must_be_labels():
    encoded = encode_short("1x2", form=Form.characters, labels=("1", "2"), units=(0, 2))
    assert encoded.units == (0, 2)
    assert bytes(encoded.label_ids) == b"12"
    assert bytes(encoded.answer_ids[:-1]) == b"1x2"


class Pairs(Bytes):
    """Two bytes that are equal become one token, as in a vocabulary with merges."""

    def encode(self, text):
        ids = []
        for byte in text.encode():
            if ids and ids[-1] == byte:
                ids[-1] = 256 + byte
            else:
                ids.append(byte)
        return ids


@pytest.mark.parametrize(("by_character", "prompt"), [(False, [353, 98]), (True, [97, 97, 98])])
def test_characters_are_one_token_each_whatever_the_vocabulary_merges(by_character, prompt):
    example = Example(
        example_id="x",
        kind="only",
        sections={"task": Section(None, (Paragraph(None, ("aab",)),))},
        answers=("cc",),
        cue="",
        form=Form.characters,
        prompt_by_character=by_character,
    )
    encoded = encode_example(
        example, ("task",), tokenizer=Pairs(), max_length_tokens=9, max_answer_tokens=2
    )
    assert encoded.prompt_ids == prompt
    assert encoded.answer_ids == [99, 99, 0]


def test_a_character_without_a_token_of_its_own_is_an_error():
    with pytest.raises(ValueError, match="every character must be one token"):
        encode_short("\u00e9", form=Form.characters)


@pytest.mark.parametrize(
    ("copied", "ids"),
    [
        ("abc", [*b" abc", 0]),
        ("a", [*b" a", 0, 0, 0]),
        ("abcdefgh", [*b" abcd"]),
    ],
)
def test_copying_predicts_every_answer_position(copied, ids):
    encoded = encode_short("xyz", copied=copied)
    assert encoded.copied == copied
    assert list(encoded.copied_ids) == ids
    assert len(ids) == len(encoded.answer_ids)


def test_a_fill_has_its_masked_positions_and_no_end():
    encoded = encode_short(
        "bd", text="a_c_e", objective=Objective.fill, cue="", copied="ac", reference="{}"
    )
    assert prompt_of(encoded) == "a_c_e"
    assert encoded.mask_positions == (1, 3)
    assert [encoded.prompt_ids[place] for place in encoded.mask_positions] == [ord(MASK)] * 2
    assert bytes(encoded.answer_ids) == b"bd"
    assert not encoded.has_end
    assert encoded.num_answer_tokens == 2
    assert encoded.units == (0, 1)
    assert bytes(encoded.copied_ids) == b"ac"
    assert encoded.reference == "{}"


def test_labels_of_a_fill_are_characters_as_they_stand_in_the_text():
    encoded = encode_short("1", text="_", objective=Objective.fill, cue="", labels=("0", "1"))
    assert bytes(encoded.label_ids) == b"01"


def test_masked_positions_and_answer_must_agree():
    with pytest.raises(ValueError, match="x: 2 masked positions for 'b'"):
        encode_short("b", text="a_c_e", objective=Objective.fill, cue="")


@pytest.mark.parametrize(
    ("answer", "limits", "reason"),
    [
        ("bd", (5, 2), None),
        ("bd", (4, 2), "^prompt does not fit$"),
        ("bd", (5, 1), "^answer longer than 1 tokens$"),
    ],
)
def test_the_limits_of_a_fill_hold_for_the_text_with_its_masks(answer, limits, reason):
    facts = {"text": "a_c_e", "objective": Objective.fill, "cue": "", "limits": limits}
    if reason is None:
        assert len(encode_short(answer, **facts).prompt_ids) == 5
    else:
        with pytest.raises(RowProblem, match=reason):
            encode_short(answer, **facts)


def test_a_fill_without_masked_positions_is_refused():
    with pytest.raises(RowProblem, match="empty answer"):
        encode_short("", text="abc", objective=Objective.fill, cue="")


def test_retrieval_keeps_question_and_text_apart_without_space_or_end():
    encoded = encode_short("Who?", objective=Objective.retrieval, cue="")
    assert prompt_of(encoded) == "Task text."
    assert bytes(encoded.answer_ids) == b"Who?"
    assert not encoded.has_end
    assert encoded.num_answer_tokens == 4
    assert encoded.units == encoded.mask_positions == ()


def test_the_limits_of_retrieval_hold_for_each_text_apart():
    facts = {"objective": Objective.retrieval, "cue": ""}
    assert len(encode_short("Who?", limits=(10, 4), **facts).prompt_ids) == 10
    with pytest.raises(RowProblem, match="answer longer than 3 tokens"):
        encode_short("Who?", limits=(10, 3), **facts)
    with pytest.raises(RowProblem, match="prompt does not fit"):
        encode_short("Who?", limits=(9, 4), **facts)


def test_retrieval_cuts_the_text_and_says_so():
    sentences = ("one.", "two.", "three.")
    text = Section("Text", (Paragraph(None, sentences),), ((0, 1), (0, 0), (0, 2)))

    def encode_text(limit):
        return encode_example(
            Example(
                example_id="x", kind="only", sections={"text": text}, answers=("Who?",),
                cue="", num_essential=2,
            ),
            ("text",),
            objective=Objective.retrieval,
            tokenizer=Bytes(),
            max_length_tokens=limit,
            max_answer_tokens=9,
        )  # fmt: skip

    whole, cut, lost = (encode_text(limit) for limit in (30, 20, 12))
    assert [prompt_of(e) for e in (whole, cut, lost)] == [
        "Text:\none. two. three.",
        "Text:\none. two.",
        "Text:\ntwo.",
    ]
    assert [(e.is_cut, e.lost_gold) for e in (whole, cut, lost)] == [
        (False, False),
        (True, False),
        (True, True),
    ]
