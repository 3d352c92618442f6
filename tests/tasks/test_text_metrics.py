import pytest

from fseed.tasks.text_metrics import exact_match, f1, normalize_answer, score_short_answer


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
        ("Yes.", "yes", 1.0),
        ("yes it is", "yes", 0.0),
        ("no", "no man's land", 0.0),
        ("noanswer", "noanswer here", 0.0),
        ("yes", "no", 0.0),
    ],
)
def test_f1_has_the_closed_answer_rule(prediction, answer, score):
    assert f1(prediction, answer) == pytest.approx(score)


def test_best_gold_answer_counts():
    assert score_short_answer("Wood", ("Ed Wood", "wood")) == {"exact_match": 1.0, "f1": 1.0}
