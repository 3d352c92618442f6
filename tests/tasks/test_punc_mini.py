"""The generated clean texts: deterministic, decided by their words, disjoint between splits."""

import re
from collections import Counter
from itertools import combinations, islice

import pytest

from fseed.tasks.hotpot_mini import SPLITS, people_names
from fseed.tasks.punc_mini import generate_mini
from fseed.tasks.punctuation_metrics import split_marks, strip_text

# first words of a sentence, once stripped
OPENINGS = {
    "statement": r"\w+ lives in",
    "list": r"the people of",
    "question": r"does \w+ still",
    "speech": r"i don't know",
    "call": r"\w+ please bring",
}

PINNED = {
    "text": (
        "Ziko, please bring the clocks to Vaku! "
        "Mino lives in Non now. "
        "The people of Zir sell drums, chairs and kites. "
        "Does Mebu still own the drums from Tel?"
    )
}


def rows_of(split, number=1000, *, seed=0):
    return list(islice(generate_mini(split, seed=seed), number))


@pytest.fixture(scope="module")
def rows():
    return rows_of("train")


def kinds_of(row):
    stripped = strip_text(row["text"])
    return {kind for kind, opening in OPENINGS.items() if re.search(opening, stripped)}


def test_first_row_is_pinned():
    """A change of this row needs a new MINI_VERSION."""
    assert rows_of("train", 1) == [PINNED]


def test_rows_are_deterministic_and_more_rows_extend_a_split(rows):
    assert rows_of("train", 101) == rows[:101]
    assert rows_of("train", 50, seed=1) != rows[:50]


def test_five_rows_leave_out_each_kind_once(rows):
    for start in range(0, len(rows), 5):
        left_out = [set(OPENINGS) - kinds_of(row) for row in rows[start : start + 5]]
        assert sorted(kind for (kind,) in left_out) == sorted(OPENINGS)


def test_texts_have_every_mark(rows):
    marks = Counter(mark for row in rows for mark in "".join(split_marks(row["text"]).gaps))
    # 800 sentences of each kind; a speech ends with a full stop as well
    assert marks == {".": 2400, ",": 2400, "?": 800, "!": 800, '"': 1600}


def test_stripped_words_decide_the_text(rows):
    """No two texts have the same stripped form, and names are capitalised everywhere."""
    assert len({strip_text(row["text"]) for row in rows}) == len({row["text"] for row in rows})
    names = {name.lower() for name in people_names("train")}
    words = {word for row in rows for word in split_marks(row["text"]).words}
    assert not words & names


def test_rows_differ_and_stay_short(rows):
    lengths = [len(row["text"]) for row in rows]
    assert 120 <= min(lengths) <= max(lengths) <= 200
    assert len({row["text"] for row in rows}) == len(rows)


def test_splits_share_no_name_and_no_sentence():
    sentences = {
        split: {
            sentence
            for row in rows_of(split, 200)
            for sentence in re.split(r"(?<=[.?!]) ", row["text"])
        }
        for split in SPLITS
    }
    words = {split: set(re.findall(r"\w+", " ".join(part))) for split, part in sentences.items()}
    for left, right in combinations(SPLITS, 2):
        shared = sentences[left] & sentences[right]
        assert all(sentence.startswith("The people of") for sentence in shared)
        names = set(people_names(left)) | set(people_names(right))
        assert words[left] & words[right] & names == set()
