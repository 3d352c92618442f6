"""The generated options: deterministic, answerable, balanced, disjoint between splits."""

from collections import Counter
from itertools import combinations, islice

import pytest

from fseed.tasks.arc_mini import generate_mini
from fseed.tasks.hotpot_mini import SPLITS, people_names

BLOCK = 24

PINNED = {
    "id": "mini1-0-train-0",
    "question": "Temu needs a kite. Which one is a kite?",
    "choices": {
        "text": [
            "Nobu's black clock",
            "Ziko's grey rope",
            "Naza's blue jar",
            "Dizo's white bell",
            "Beza's brown kite",
        ],
        "label": ["1", "2", "3", "4", "5"],
    },
    "answerKey": "5",
}


def rows_of(split, number=40 * BLOCK, *, seed=0):
    return list(islice(generate_mini(split, seed=seed), number))


@pytest.fixture(scope="module")
def rows():
    return rows_of("train")


def attribute_of(row):
    """Return the attribute that the question names: its last word."""
    return row["question"].rstrip("?").split()[-1]


def test_first_row_is_pinned():
    """A change of this row needs a new MINI_VERSION."""
    assert rows_of("train", 1) == [PINNED]


def test_rows_are_deterministic_and_more_rows_extend_a_split(rows):
    assert rows_of("train", 101) == rows[:101]
    assert rows_of("train", 50, seed=1) != rows[:50]


def test_question_fits_exactly_one_option(rows):
    for row in rows:
        texts, labels = row["choices"]["text"], row["choices"]["label"]
        fitting = [
            label
            for text, label in zip(texts, labels, strict=True)
            if attribute_of(row) in text.replace("'s", "").split()
        ]
        assert fitting == [row["answerKey"]]
        assert all(
            len(set(column)) == len(texts) for column in zip(*map(str.split, texts), strict=True)
        )


def test_every_block_has_every_place_of_every_size_in_both_label_styles(rows):
    for start in range(0, len(rows), BLOCK):
        seen = {
            ("".join(row["choices"]["label"]), row["answerKey"])
            for row in rows[start : start + BLOCK]
        }
        wanted = {
            (labels[:size], label)
            for labels in ("ABCDE", "12345")
            for size in (3, 4, 5)
            for label in labels[:size]
        }
        assert seen == wanted


def test_attributes_are_asked_equally_often_and_tell_no_label(rows):
    kinds = Counter(row["question"].split()[1] for row in rows)
    assert kinds == {"one": 320, "likes": 320, "needs": 320}
    for kind in kinds:
        answers = Counter(row["answerKey"] for row in rows if row["question"].split()[1] == kind)
        # 3 of 24 rows each for the first three labels of a style; five standard deviations
        assert all(abs(answers[label] - 40) < 5 * 40**0.5 for label in "ABC123")


def test_splits_share_no_name_no_option_and_no_question():
    parts = {split: rows_of(split, 200) for split in SPLITS}
    for left, right in combinations(SPLITS, 2):
        assert set(people_names(left)).isdisjoint(people_names(right))
        for column in (
            lambda row: row["id"],
            lambda row: row["question"],
            lambda row: tuple(row["choices"]["text"]),
        ):
            assert set(map(column, parts[left])).isdisjoint(map(column, parts[right]))
