import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_helpers import Bytes, Words, make_row

from fseed.tasks.base import RowProblem
from fseed.tasks.encoding import encode_example
from fseed.tasks.hotpot import HOTPOT, build_example


def encode(row, *, order="question_last", tokenizer=None, max_length=1000, max_answer=48):
    return encode_example(
        build_example(row),
        HOTPOT.orders[order],
        tokenizer=tokenizer or Bytes(),
        max_length_tokens=max_length,
        max_answer_tokens=max_answer,
    )


def test_prompt_and_answer_are_tokenised_apart():
    encoded = encode(make_row(7))
    assert bytes(encoded.prompt_ids).decode() == encoded.prompt_text
    assert encoded.prompt_text.endswith("Answer:")
    assert bytes(encoded.answer_ids[:-1]) == b" Port 7"
    assert encoded.answer_ids[-1] == Bytes.end_of_text
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
        assert len(encoded.prompt_ids) + len(encoded.answer_ids) <= max_length
        assert encoded.is_cut == (encoded.prompt_text != whole.prompt_text)
        lost = not (
            "Its friend is Beta7." in encoded.prompt_text and "moors" in encoded.prompt_text
        )
        assert encoded.lost_gold == lost
        assert make_row(7)["question"] in encoded.prompt_text
