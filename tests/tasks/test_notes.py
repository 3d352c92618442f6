import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fseed.tasks.base import NoOptions, NoteRule, RowProblem, Setting
from fseed.tasks.notes import NotePool, find_runs, split_units

SETTING = Setting(split="train", order="plain", options=NoOptions(), seed=0)


def read_text(row, setting):
    if not row["text"]:
        raise RowProblem("empty text")
    return row["text"]


def pool_of(*texts, unit="words", run=3):
    rows = [(f"r{number}", {"text": text}) for number, text in enumerate(texts)]
    return NotePool(NoteRule(read=read_text, unit=unit, run=run), rows, SETTING)


def draw(pool, *, row_id="other", num=99, own=(), seed=0):
    return pool.draw(row_id, num=num, own=own, rng=np.random.default_rng(seed))


def test_all_other_texts_may_be_drawn_and_none_twice():
    pool = pool_of("one", "two", "three", "two")
    assert sorted(draw(pool)) == ["one", "three", "two"]
    assert sorted(draw(pool, row_id="r0")) == ["three", "two"]
    assert len(draw(pool, num=2)) == 2
    assert draw(pool, num=0) == []


def test_the_order_is_that_of_the_generator():
    pool = pool_of(*(f"text {number}" for number in range(20)))
    assert draw(pool) == draw(pool)
    assert draw(pool) != draw(pool, seed=1)
    assert draw(pool, num=5) == draw(pool)[:5]


def test_rows_without_a_note_are_left_out():
    assert draw(pool_of("one", "", "two"), num=9) in (["one", "two"], ["two", "one"])


@pytest.mark.parametrize(
    ("note", "overlaps"),
    [
        ("x a b c y", True),
        ("A, b-C", True),
        ("a b x c", False),
        ("b c a", False),
        ("xa b cy", False),
        ("a b", False),
    ],
)
def test_a_shared_run_of_words_is_overlap(note, overlaps):
    assert (draw(pool_of(note), own=["0 a b c 1"]) == []) == overlaps


@pytest.mark.parametrize(
    ("note", "overlaps"),
    [("in New York now", True), ("NEW, york!", True), ("new yorkers", False), ("york new", False)],
)
def test_an_own_text_shorter_than_a_run_must_not_occur(note, overlaps):
    assert (draw(pool_of(note), own=["", "New York"]) == []) == overlaps


@pytest.mark.parametrize(
    ("note", "overlaps"), [("xxabcxx", True), ("xxABCxx", False), ("ab c", False), ("zabx", False)]
)
def test_a_shared_run_of_characters_is_overlap(note, overlaps):
    assert (draw(pool_of(note, unit="characters"), own=["-abc-"]) == []) == overlaps


@pytest.mark.parametrize(("note", "overlaps"), [("xabx", True), ("xaxb", False)])
def test_a_short_own_text_of_characters_must_not_occur(note, overlaps):
    assert (draw(pool_of(note, unit="characters"), own=["ab"]) == []) == overlaps


def test_a_text_as_long_as_a_run_is_a_run():
    assert len(find_runs(["a", "b", "c"], run=3)) == 1
    assert draw(pool_of("x a b c", "y"), own=["a b c"]) == ["y"]


def test_own_texts_without_units_exclude_nothing():
    assert draw(pool_of("a b"), own=["", " ?! "]) == ["a b"]


texts = st.text(alphabet="ab ", max_size=8)


@given(st.lists(texts, max_size=8), st.lists(texts, max_size=3), st.sampled_from([1, 2, 3]))
def test_what_is_drawn_is_exactly_what_does_not_overlap(notes, own, run):
    """Against the definition, unit by unit."""
    pool = pool_of(*notes, unit="characters", run=run)

    def overlaps(note, text):
        wanted = min(run, len(text))
        runs = {text[start : start + wanted] for start in range(len(text) - wanted + 1)}
        return any(part and part in note for part in runs)

    expected = {note for note in notes if note and not any(overlaps(note, text) for text in own)}
    drawn = draw(pool, own=own)
    assert set(drawn) == expected
    assert len(drawn) == len(expected)


def test_units():
    assert split_units("The cat's 2 hats!", unit="words") == ["the", "cat", "s", "2", "hats"]
    assert split_units("Ab c", unit="characters") == ["A", "b", " ", "c"]
