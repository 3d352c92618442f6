import pytest

from fseed.tasks.base import EncodedExample
from fseed.tasks.baselines import constant_baseline
from fseed.tasks.hotpot import HOTPOT


def example(answer, kind):
    ids = [*answer.encode(), 0]
    return EncodedExample(answer, kind, [1], ids, (answer,), "", is_cut=False, lost_gold=False)


TRAIN = [
    example("ab", "bridge"),
    example("ab", "bridge"),
    example("cd", "bridge"),
    example("yes", "comparison"),
    example("no", "comparison"),
    example("no", "comparison"),
]


def test_constants_come_from_train_and_scores_from_evaluation():
    evaluation = [example("ad", "bridge"), example("no", "comparison"), example("ab", "bridge")]
    scores = constant_baseline(HOTPOT, TRAIN, evaluation)
    # most frequent overall: first token a or n (2 each: a), second b, e or o (b 2, o 2: b)
    assert scores["token_accuracy"] == pytest.approx(3 / 6)
    assert scores["exact_match"] == scores["f1"] == pytest.approx(1 / 3)
    assert scores["token_accuracy_bridge"] == pytest.approx(3 / 4)
    assert scores["exact_match_bridge"] == pytest.approx(1 / 2)
    assert scores["token_accuracy_comparison"] == 1.0
    assert scores["f1_comparison"] == 1.0


def test_positions_beyond_the_longest_training_answer_count_as_wrong():
    scores = constant_baseline(HOTPOT, TRAIN, [example("abcdef", "bridge")])
    # third position: s of yes
    assert scores["token_accuracy"] == pytest.approx(2 / 6)


def test_kinds_and_splits_without_examples_have_no_entry():
    scores = constant_baseline(HOTPOT, TRAIN[:3], [example("no", "comparison")])
    assert set(scores) == {"token_accuracy", "exact_match", "f1"}
    assert constant_baseline(HOTPOT, [], TRAIN) == {}
    assert constant_baseline(HOTPOT, TRAIN, []) == {}
