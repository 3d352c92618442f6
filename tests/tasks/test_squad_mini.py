"""The generated articles: deterministic, answerable, disjoint between splits, without shortcuts."""

import re
from collections import Counter
from itertools import combinations, islice

import pytest

from fseed.tasks.hotpot_mini import SPLITS, people_names
from fseed.tasks.near_duplicates import NearDuplicates
from fseed.tasks.squad_mini import NUM_PEOPLE, generate_mini

SENTENCE = re.compile(r"From the town of (\w+), (\w+) brought (\d+) (\w+) (\w+)\.")

PINNED = {
    "id": "mini1-0-train-0",
    "title": "Zida_Navu_fair",
    "context": (
        "The Zida Navu fair was held in Mem. "
        "From the town of Non, Beza brought 14 brown boats. "
        "From the town of Tel, Ziko brought 45 blue lamps. "
        "From the town of Ron, Vaku brought 82 red clocks. "
        "From the town of Bel, Diza brought 71 green jars. "
        "From the town of Bon, Temo brought 64 golden drums. "
        "From the town of Ver, Nobo brought 26 black ropes."
    ),
    "question": "How many boats did Beza bring to the Zida Navu fair?",
    "answers": {"text": ["14", "14 brown boats"], "answer_start": [71, 71]},
}


def rows_of(split, number=1000, *, seed=0):
    return list(islice(generate_mini(split, seed=seed), number))


@pytest.fixture(scope="module")
def rows():
    return rows_of("train")


def kind_of(row):
    return row["question"].split()[0]


def solve(row):
    """Return name, town, number and colour with things of the person asked about."""
    people = SENTENCE.findall(row["context"])
    asked = [words for words in people if words[1] in row["question"]]
    if kind_of(row) == "Who":
        asked = [words for words in people if f"brought {words[4]}" in row["question"]]
    (words,) = asked
    town, name, number, colour, things = words
    what = f"{colour} {things}"
    return {
        "Who": [name],
        "Which": [town, f"the town of {town}"],
        "How": [number, f"{number} {what}"],
        "What": [what, f"{number} {what}"],
    }[kind_of(row)]


def test_first_row_is_pinned():
    """A change of this row needs a new MINI_VERSION."""
    assert rows_of("train", 1) == [PINNED]


def test_rows_are_deterministic_and_more_rows_extend_a_split(rows):
    assert rows_of("train", 101) == rows[:101]
    assert rows_of("train", 50, seed=1) != rows[:50]


def test_every_context_determines_the_answers(rows):
    for row in rows:
        assert row["answers"]["text"] == solve(row)
        assert f"the {row['title'].replace('_', ' ')}?" in row["question"]


def test_answers_stand_where_the_row_says(rows):
    for row in rows:
        answers = row["answers"]
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text


def test_contexts_have_their_length_and_only_different_facts(rows):
    for row in rows:
        assert 300 <= len(row["context"]) <= 600
        columns = list(zip(*SENTENCE.findall(row["context"]), strict=True))
        assert [len(set(column)) for column in columns] == [NUM_PEOPLE] * 5


def test_two_rows_share_an_article_and_ask_differently(rows):
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    assert all(one["context"] == two["context"] for one, two in pairs)
    assert all(kind_of(one) != kind_of(two) for one, two in pairs)
    assert all(solve(one)[0] not in solve(two) for one, two in pairs)
    assert len({row["context"] for row in rows}) == len({row["title"] for row in rows}) == 500


def test_every_block_asks_every_kind_twice(rows):
    for start in range(0, len(rows), 8):
        kinds = Counter(map(kind_of, rows[start : start + 8]))
        assert kinds == {"Who": 2, "Which": 2, "How": 2, "What": 2}


def test_answer_stands_in_any_sentence(rows):
    places = Counter()
    for row in rows:
        before = row["context"][: row["answers"]["answer_start"][0]]
        places[before.count(". ")] += 1
    # five standard deviations around an equal share
    share = len(rows) / NUM_PEOPLE
    assert sorted(places) == list(range(1, NUM_PEOPLE + 1))
    assert all(abs(number - share) < 5 * share**0.5 for number in places.values())


def test_no_constant_answer_is_frequent(rows):
    answers = Counter(row["answers"]["text"][0] for row in rows)
    assert max(answers.values()) < len(rows) * 0.02


def test_splits_share_no_name_no_title_and_no_context():
    parts = {split: rows_of(split, 200) for split in SPLITS}
    words = {
        split: set(re.findall(r"\w+", " ".join(row["context"] for row in part)))
        for split, part in parts.items()
    }
    for left, right in combinations(SPLITS, 2):
        names = set(people_names(left)) | set(people_names(right))
        assert words[left] & words[right] & names == set()
        for column in ("id", "title", "context", "question"):
            assert {row[column] for row in parts[left]}.isdisjoint(
                row[column] for row in parts[right]
            )


def test_questions_of_splits_are_no_near_duplicates():
    train, held_out = rows_of("train", 400), rows_of("validation", 100)
    near = NearDuplicates(row["question"] for row in train + held_out)
    near.add(row["question"] for row in train)
    assert not any(near.has_match(row["question"]) for row in held_out)
