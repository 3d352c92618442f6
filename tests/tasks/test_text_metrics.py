import pytest
from task_helpers import encoded

from fseed.config.schema import MbppConfig
from fseed.tasks.text_metrics import (
    closed_f1,
    exact_match,
    f1,
    normalize_answer,
    score_short_answers,
    score_span_answers,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Quick,  brown-fox!", "quick brownfox"),
        ("A an THE", ""),
        ("another theory", "another theory"),
        ("U.S.", "us"),
        ("“quoted”", "“quoted”"),
        ("  in\tthe\n1896 ", "in 1896"),
    ],
)
def test_normalization_follows_the_official_scripts(text, normal):
    assert normalize_answer(text) == normal


def test_exact_match_ignores_articles_case_and_punctuation():
    assert exact_match(" the Ed Wood.", "Ed Wood") == 1.0
    assert exact_match("Ed", "Ed Wood") == 0.0
    assert exact_match("", "the") == 1.0


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [
        ("Ed Wood", "Ed Wood", 1.0),
        ("Ed", "Ed Wood", 2 / 3),
        ("Ed Ed", "Ed Wood", 0.5),
        ("nothing shared", "Ed Wood", 0.0),
        ("", "Ed Wood", 0.0),
        ("yes", "yes", 1.0),
        ("yes it is", "yes", 0.5),
        ("no", "no man's land", 0.5),
    ],
)
def test_f1_is_that_of_the_words(prediction, answer, score):
    assert f1(prediction, answer) == pytest.approx(score)


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [
        ("Ed", "Ed Wood", 2 / 3),
        ("yes", "yes", 1.0),
        ("Yes.", "yes", 1.0),
        ("yes it is", "yes", 0.0),
        ("no", "no man's land", 0.0),
        ("noanswer", "noanswer here", 0.0),
        ("yes", "no", 0.0),
    ],
)
def test_closed_f1_gives_no_part_credit_to_closed_answers(prediction, answer, score):
    assert closed_f1(prediction, answer) == pytest.approx(score)


@pytest.mark.parametrize(
    ("score", "part"), [(score_short_answers, 0.0), (score_span_answers, 2 / 3)]
)
def test_best_gold_answer_counts_and_only_hotpot_has_the_closed_rule(score, part):
    examples = [
        encoded("Ed Wood", answers=("Ed Wood", "wood")),
        encoded("no", answers=("no", "never at all")),
    ]
    # the second entry of each list is a sample, which does not count
    found = score(examples, [["Wood", "Ed"], ["no way", "no"]], MbppConfig())
    assert found == [
        {"exact_match": 1.0, "f1": 1.0},
        {"exact_match": 0.0, "f1": pytest.approx(part)},
    ]
