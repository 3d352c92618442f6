"""The generated function-writing problems: deterministic, distinct, and right."""

import keyword
import re
from itertools import combinations, islice

import numpy as np
import pytest

from fseed.sandbox.isolation import isolation_level
from fseed.sandbox.run import run_solutions
from fseed.sandbox.verdict import Outcome, SandboxOptions, Solution
from fseed.tasks import mbpp_mini
from fseed.tasks.generated_splits import split_of
from fseed.tasks.hotpot_mini import SPLITS, people_names
from fseed.tasks.mbpp_mini import generate_mini

PINNED = {
    "task_id": 0,
    "text": (
        "Write a function beza that drops the first 3 letters of a word, then puts otot before it."
    ),
    "code": "def beza(s):\n    return 'otot' + s[3:]",
    "test_list": [
        "assert beza('stone') == 'ototne'",
        "assert beza('chair') == 'ototir'",
        "assert beza('clock') == 'ototck'",
    ],
    "test_setup_code": "",
    "challenge_test_list": [],
}


def rows_of(split, number=600, *, seed=0):
    return list(islice(generate_mini(split, seed=seed), number))


def name_of(row):
    return re.findall(r"^def (\w+)\(", row["code"])[0]


def words_of(row):
    return re.findall(r"^Write a function \w+ that (.*)\.$", row["text"])[0]


@pytest.fixture(scope="module")
def rows():
    return rows_of("train")


def test_first_row_is_pinned():
    """A change of this row needs a new MINI_VERSION."""
    assert rows_of("train", 1) == [PINNED]


def test_rows_are_deterministic_and_more_rows_extend_a_split(rows):
    assert rows_of("train", 50) == rows[:50]
    assert rows_of("train", 50, seed=1) != rows[:50]


def test_three_rows_are_of_three_kinds(rows):
    for start in range(0, len(rows), 3):
        arguments = {re.findall(r"\((\w+)\):", row["code"])[0] for row in rows[start:][:3]}
        assert arguments == {"n", "xs", "s"}


def test_there_are_hundreds_of_programs(rows):
    assert len({words_of(row) for row in rows}) >= 350
    assert len({row["code"] for row in rows}) >= 590


def test_ids_differ_between_rows_and_splits():
    ids = [row["task_id"] for split in SPLITS for row in rows_of(split, 100)]
    assert len(set(ids)) == 300


def test_splits_share_no_program_and_no_name():
    programs = {split: {words_of(row) for row in rows_of(split, 200)} for split in SPLITS}
    names = {split: {name_of(row) for row in rows_of(split, 200)} for split in SPLITS}
    for left, right in combinations(SPLITS, 2):
        assert programs[left].isdisjoint(programs[right])
        assert names[left].isdisjoint(names[right])
    for split in SPLITS:
        assert {split_of(words) for words in programs[split]} == {split}


def test_names_are_no_words_of_python():
    names = {name.lower() for split in SPLITS for name in people_names(split)}
    assert not [name for name in names if keyword.iskeyword(name) or name in dir(__builtins__)]


def test_problem_tests_and_solution_share_the_name(rows):
    for row in rows[:50]:
        name = name_of(row)
        assert f" {name} " in row["text"]
        assert len(row["test_list"]) == 3 == len(set(row["test_list"]))
        assert all(test.startswith(f"assert {name}(") for test in row["test_list"])


@pytest.mark.parametrize("draw", mbpp_mini._KINDS)
def test_every_drawn_program_does_what_its_steps_do(draw):
    rng = np.random.default_rng(0)
    for _ in range(300):
        program = draw(rng)
        # our own text, not that of a model
        function = eval(f"lambda {program.argument}: {program.body}")
        for value in program.draw(rng):
            assert function(value) == program.apply(value), program.words


def test_number_of_programs():
    numbers, choices = mbpp_mini.number_steps(), mbpp_mini.choice_steps()
    words, endings = mbpp_mini.word_steps(), mbpp_mini.ending_steps()
    for steps in (numbers, choices, words, endings):
        assert len({step.words for step in steps}) == len(steps)
    assert len(numbers) ** 2 == 576
    assert len(choices) * len(numbers) == 384
    assert len(words) * len(endings) == 320


def test_solutions_pass_in_the_sandbox():
    if isolation_level() == "none":
        pytest.skip("no level of isolation works here")
    sample = [row for split in SPLITS for row in rows_of(split, 10)]
    solutions = [Solution(row["code"], "", tuple(row["test_list"])) for row in sample]
    verdicts = run_solutions(solutions, options=SandboxOptions(), num_workers=2)
    assert [verdict.outcome for verdict in verdicts] == [Outcome.PASSED] * 30
    assert all(verdict.tests_passed == 3 for verdict in verdicts)
