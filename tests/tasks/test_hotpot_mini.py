"""The generated rows: deterministic, answerable from the prompt, and free of shortcuts."""

import re
from collections import Counter
from itertools import islice

import pytest
from task_helpers import Bytes, PlainBuild

from fseed.tasks.encoding import encode_example
from fseed.tasks.hotpot import HOTPOT, build_example, read_key
from fseed.tasks.hotpot_mini import SPLITS, generate_mini, people_names, town_names

NUM_ROWS = 2000


def rows_of(split, number=NUM_ROWS, *, seed=0):
    return list(islice(generate_mini(split, seed=seed), number))


@pytest.fixture(scope="module")
def rows():
    return rows_of("train")


def encode(row):
    return encode_example(
        build_example(row, PlainBuild()),
        HOTPOT.orders["question_last"],
        tokenizer=Bytes(),
        max_length_tokens=260,
        max_answer_tokens=8,
    )


def prompt_of(encoded):
    return bytes(encoded.prompt_ids).decode()


def parse(prompt):
    """Return person -> (town, age, trusted person), and the question of a rendered prompt."""
    people = re.findall(r"(\w+):\nLives in (\w+)\. Aged (\d+)\. Trusts (\w+)\.", prompt)
    question = re.search(r"Question:\n(.*)\n", prompt)
    assert question is not None
    return {name: (town, int(age), trusted) for name, town, age, trusted in people}, question[1]


def solve(prompt):
    """Answer a rendered prompt by rule."""
    people, question = parse(prompt)
    words = re.findall(r"\w+", question)
    if words[0] == "Where":
        return people[people[words[4]][2]][0]
    if words[0] == "How":
        return str(people[people[words[5]][2]][1])
    names = [word for word in words if word in people]
    older = max(names, key=lambda name: people[name][1])
    wanted = older if "older" in words else next(name for name in names if name != older)
    return wanted if words[0] == "Who" else ("yes" if names[0] == wanted else "no")


def test_first_row_is_pinned():
    """A change of this row needs a new MINI_VERSION."""
    row = next(generate_mini("train", seed=0))
    assert row == {
        "id": "mini1-0-train-0",
        "question": "Who is older, Mino or Vana?",
        "answer": "Vana",
        "type": "comparison",
        "level": "easy",
        "supporting_facts": {"title": ["Vana", "Mino"], "sent_id": [1, 1]},
        "context": {
            "title": ["Kudu", "Sana", "Vana", "Mino"],
            "sentences": [
                ["Lives in Tar.", " Aged 87.", " Trusts Sana."],
                ["Lives in Van.", " Aged 41.", " Trusts Vana."],
                ["Lives in Vem.", " Aged 63.", " Trusts Mino."],
                ["Lives in Non.", " Aged 51.", " Trusts Kudu."],
            ],
        },
    }


def test_rows_are_deterministic_and_more_rows_extend_a_split(rows):
    assert rows_of("train", 300) == rows[:300]
    assert rows_of("train", 50, seed=1) != rows[:50]


def test_every_prompt_determines_its_answer(rows):
    for row in rows:
        encoded = encode(row)
        assert solve(prompt_of(encoded)) == row["answer"]
        assert not encoded.is_cut


def test_rendered_bytes_stay_short(rows):
    lengths = [len(e.prompt_ids) + len(e.answer_ids) for e in map(encode, rows)]
    assert min(lengths) >= 160
    assert max(lengths) <= 260


def test_supporting_facts_hold_what_the_question_needs(rows):
    for row in rows:
        sentences = dict(
            zip(*(row["context"][name] for name in ("title", "sentences")), strict=True)
        )
        facts = row["supporting_facts"]
        told = [
            sentences[title][number]
            for title, number in zip(facts["title"], facts["sent_id"], strict=True)
        ]
        assert len(set(facts["title"])) == 2
        if row["type"] == "bridge":
            assert sum(row["answer"] in sentence for sentence in told) == 1
            assert sum("Trusts" in sentence for sentence in told) == 1
        else:
            assert all("Aged" in sentence for sentence in told)


def test_splits_share_no_id_no_name_and_no_context():
    names = {split: set(people_names(split)) for split in SPLITS}
    ids = {split: {row["id"] for row in rows_of(split, 200)} for split in SPLITS}
    for left, right in [("train", "validation"), ("train", "test"), ("validation", "test")]:
        assert names[left].isdisjoint(names[right])
        assert ids[left].isdisjoint(ids[right])
    for split in SPLITS:
        keys = [read_key(row) for row in rows_of(split, 200)]
        assert set().union(*(key.groups for key in keys)) <= names[split]
    assert min(map(len, names.values())) > 200


def test_contexts_do_not_repeat_within_a_split(rows):
    contexts = {str(row["context"]) for row in rows}
    assert len(contexts) == len(rows)


def test_kinds_and_closed_answers_are_balanced_in_every_block(rows):
    for start in range(0, 200, 20):
        block = rows[start : start + 20]
        assert Counter(row["type"] for row in block) == {"bridge": 12, "comparison": 8}
        answers = Counter(row["answer"] for row in block)
        assert (answers["yes"], answers["no"]) == (2, 2)


def assert_uniform(counts, *, num_values):
    """Assert that every value is within five standard deviations of its equal share."""
    total = sum(counts.values())
    share = total / num_values
    spread = 5 * (share * (1 - 1 / num_values)) ** 0.5
    assert len(counts) == num_values
    assert all(abs(count - share) < spread for count in counts.values()), counts


@pytest.mark.parametrize("kind", ["bridge", "comparison"])
def test_supporting_paragraphs_stand_anywhere(rows, kind):
    places = Counter(
        tuple(row["context"]["title"].index(title) for title in row["supporting_facts"]["title"])
        for row in rows
        if row["type"] == kind
    )
    assert_uniform(places, num_values=6)


@pytest.mark.parametrize("opening", ["Where", "How", "Who"])
def test_answer_stands_in_any_paragraph(rows, opening):
    places = Counter()
    for row in rows:
        if row["question"].startswith(opening):
            people, _ = parse(prompt_of(encode(row)))
            places[
                next(
                    i
                    for i, (n, f) in enumerate(people.items())
                    if row["answer"] in (n, f[0], str(f[1]))
                )
            ] += 1
    assert_uniform(places, num_values=4)


def test_name_in_the_question_does_not_tell_the_answer(rows):
    firsts = Counter(
        re.findall(r"(\w+) or", row["question"])[0] == row["answer"]
        for row in rows
        if row["question"].startswith("Who")
    )
    assert_uniform(firsts, num_values=2)


@pytest.mark.parametrize("word", ["older", "younger"])
def test_wording_of_a_closed_question_does_not_tell_the_answer(rows, word):
    answers = Counter(
        row["answer"]
        for row in rows
        if row["question"].startswith("Is") and word in row["question"]
    )
    assert_uniform(answers, num_values=2)


def test_rank_of_the_age_does_not_tell_the_name(rows):
    """Without the question, each of the four people is equally likely to be the answer."""
    ranks = Counter()
    for row in rows:
        if row["question"].startswith("Who"):
            people, _ = parse(prompt_of(encode(row)))
            ages = sorted(facts[1] for facts in people.values())
            ranks[ages.index(people[row["answer"]][1])] += 1
    assert_uniform(ranks, num_values=4)


def test_context_offers_many_candidates_and_its_form_tells_nothing(rows):
    for row in rows[:200]:
        people, _ = parse(prompt_of(encode(row)))
        assert len({facts[0] for facts in people.values()}) == 4
        assert len({facts[1] // 10 for facts in people.values()}) == 4
        assert {facts[2] for facts in people.values()} == set(people)
        assert all(name != facts[2] for name, facts in people.items())


def test_no_constant_answer_is_frequent(rows):
    answers = Counter(row["answer"] for row in rows)
    (_, first), (_, second) = answers.most_common(2)
    assert first == second == NUM_ROWS // 10
    assert answers.most_common(3)[2][1] < NUM_ROWS * 0.02


def test_first_hop_alone_does_not_answer_a_bridge(rows):
    for row in rows:
        if row["type"] == "bridge":
            people, question = parse(prompt_of(encode(row)))
            named = next(word for word in re.findall(r"\w+", question) if word in people)
            assert row["answer"] not in (people[named][0], str(people[named][1]))


def test_towns_are_no_names_of_people():
    people = {name for split in SPLITS for name in people_names(split)}
    assert people.isdisjoint(town_names())
