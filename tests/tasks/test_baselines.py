from dataclasses import replace

import pytest
from task_helpers import Bytes, encoded

from fseed.config.schema import MbppConfig
from fseed.errors import UserError
from fseed.tasks.baselines import chance_baseline, constant_baseline, copy_baseline
from fseed.tasks.hotpot import HOTPOT
from fseed.tasks.hotpot_retrieval import HOTPOT_RETRIEVAL
from fseed.tasks.metrics import (
    END_OF_TEXT_ACCURACY,
    FULL_VOCABULARY_ACCURACY,
    LOSS,
    TOKEN_ACCURACY,
    UNIT_ACCURACY,
    Pooled,
    mean,
    pooled,
)


def pool_scores(rows):
    """Pool the mean label score, to see what the constant answers for it."""
    scores = [score for row in rows for score in row["label_scores"] or ()]
    return Pooled(sum(scores) / len(scores), len(scores)) if scores else None


LABELS = replace(
    HOTPOT,
    metrics={
        "accuracy": UNIT_ACCURACY,
        "full": FULL_VOCABULARY_ACCURACY,
        "token_accuracy": TOKEN_ACCURACY,
        "end": END_OF_TEXT_ACCURACY,
        "loss": LOSS,
        "mean_score": pooled("Mean label score.", pool_scores),
    },
    score_generation=None,
    generation_columns=(),
)


def constant(train, evaluation, *, task=HOTPOT):
    return constant_baseline(task, train, evaluation, tokenizer=Bytes(), scoring=MbppConfig())


def copy(evaluation, *, task=HOTPOT):
    return copy_baseline(task, evaluation, tokenizer=Bytes(), scoring=MbppConfig())


def labelled(answer, *, labels="01", **facts):
    return encoded(answer, label_ids=tuple(labels.encode()), **facts)


def filled(answer, **facts):
    ids = [*answer.encode()]
    places = tuple(range(len(ids)))
    return encoded(answer, answer_ids=ids, mask_positions=places, has_end=False, **facts)


TRAIN = [
    encoded("ab", "bridge"),
    encoded("ab", "bridge"),
    encoded("cd", "bridge"),
    encoded("yes", "comparison"),
    encoded("no", "comparison"),
    encoded("no", "comparison"),
]


def test_constants_come_from_train_and_scores_from_evaluation():
    evaluation = [encoded("ad", "bridge"), encoded("no", "comparison"), encoded("ab", "bridge")]
    scores = constant(TRAIN, evaluation)
    # most frequent overall: first token a or n (2 each: a), second b, e or o (b 2, o 2: b)
    assert scores["token_accuracy"] == pytest.approx(3 / 6)
    assert scores["exact_match"] == scores["f1"] == pytest.approx(1 / 3)
    assert scores["token_accuracy_bridge"] == pytest.approx(3 / 4)
    assert scores["exact_match_bridge"] == pytest.approx(1 / 2)
    assert scores["token_accuracy_comparison"] == 1.0
    assert scores["f1_comparison"] == 1.0


def test_positions_beyond_the_longest_training_answer_count_as_wrong():
    scores = constant(TRAIN, [encoded("abcdef", "bridge")])
    # third position: s of yes
    assert scores["token_accuracy"] == pytest.approx(2 / 6)


def test_kinds_and_splits_without_examples_have_no_entry():
    scores = constant(TRAIN[:3], [encoded("no", "comparison")])
    assert set(scores) == {"token_accuracy", "exact_match", "f1"}
    mixed = constant(TRAIN[:3], [encoded("no", "comparison"), encoded("ab", "bridge")])
    assert set(mixed) == {
        f"{name}{kind}"
        for name in ("token_accuracy", "exact_match", "f1")
        for kind in ("", "_bridge")
    }
    assert constant([], TRAIN) == {}
    assert constant(TRAIN, []) == {}


def test_the_constant_says_nothing_about_loss_and_end_of_text():
    assert not {"end_of_text_accuracy", "loss"} & set(constant(TRAIN, TRAIN))


def test_the_constant_label_is_the_most_frequent_one_of_all_units():
    train = [labelled("00"), labelled("01"), labelled("10"), labelled("11"), labelled("11")]
    scores = constant(train, [labelled("10"), labelled("01"), labelled("00")], task=LABELS)
    # 6 of 10 units are 1; of the 6 units of the evaluation 2 are
    assert scores["accuracy"] == pytest.approx(2 / 6)
    assert scores["mean_score"] == pytest.approx(6 / 10)
    # the whole vocabulary by position: 1 first (3 of 5), 1 second (3 of 5)
    assert scores["full"] == scores["token_accuracy"] == pytest.approx(2 / 6)
    assert "end" not in scores


def test_equally_frequent_labels_go_to_the_smaller_token_and_unseen_ones_too():
    assert constant([labelled("01")], [labelled("0")], task=LABELS)["accuracy"] == 1.0
    scores = constant([labelled("01")], [labelled("a", labels="ab")], task=LABELS)
    assert scores["accuracy"] == 1.0
    assert scores["mean_score"] == 0.0


def test_the_constant_label_is_chosen_among_those_offered():
    """Label 2 is the most frequent one, and not offered everywhere."""
    train = [labelled("2", labels="012"), labelled("2", labels="012"), labelled("1")]
    scores = constant(train, [labelled("1"), labelled("2", labels="012")], task=LABELS)
    assert scores["accuracy"] == 1.0
    assert scores["full"] == 0.5
    # only the example with two labels has label scores
    assert scores["mean_score"] == 1.0


def test_only_scored_positions_count_for_the_constant_label():
    train = [labelled("0001", units=(3,)), labelled("0001", units=(3,))]
    scores = constant(train, [labelled("0001", units=(3,))], task=LABELS)
    assert scores["accuracy"] == scores["mean_score"] == 1.0


def test_fills_have_a_constant_for_their_last_position_too():
    train = [filled("ab"), filled("ab"), filled("cd")]
    scores = constant(train, [filled("ad"), filled("cb")], task=LABELS)
    assert scores["token_accuracy"] == scores["accuracy"] == 0.5


def test_copying_is_scored_like_an_answer():
    examples = [
        encoded("ab", copied="ab", copied_ids=(*b"ab", 0)),
        encoded("cd", copied="ce", copied_ids=(*b"ce", 0)),
    ]
    scores = copy(examples)
    assert scores["token_accuracy"] == 0.75
    assert scores["exact_match"] == 0.5
    assert not {"end_of_text_accuracy", "loss"} & set(scores)


def test_a_copy_that_is_too_long_is_no_exact_match():
    scores = copy([encoded("ab", copied="abc", copied_ids=tuple(b"abc"))])
    assert scores["token_accuracy"] == 1.0
    assert scores["exact_match"] == 0.0


def test_a_copy_that_is_too_short_is_wrong_at_the_units_behind_it():
    scores = copy([labelled("011", copied="0", copied_ids=(*b"0", 0, 0, 0))], task=LABELS)
    assert scores["accuracy"] == pytest.approx(1 / 3)


def test_copied_labels_are_those_at_the_units():
    examples = [
        labelled("01", copied="00", copied_ids=(*b"00", 0)),
        labelled("11", copied="01", copied_ids=(*b"01", 0), units=(1,)),
    ]
    scores = copy(examples, task=LABELS)
    assert scores["accuracy"] == scores["full"] == pytest.approx(2 / 3)
    assert scores["token_accuracy"] == pytest.approx(2 / 4)


def test_copying_a_fill():
    scores = copy([filled("ab", copied="aa", copied_ids=tuple(b"aa"))], task=LABELS)
    assert scores["token_accuracy"] == 0.5
    assert "end" not in scores


def test_copying_means_nothing_where_one_example_has_no_copy():
    assert copy([encoded("ab", copied="ab", copied_ids=(*b"ab", 0)), encoded("cd")]) == {}


def test_metrics_of_copying_by_kind():
    examples = [
        encoded("ab", kind, copied=copied, copied_ids=(*copied.encode(), 0))
        for kind, copied in [("bridge", "ab"), ("comparison", "cc")]
    ]
    scores = copy(examples)
    assert scores["exact_match"] == 0.5
    assert scores["exact_match_bridge"] == 1.0
    assert scores["exact_match_comparison"] == 0.0


@pytest.mark.parametrize("num_candidates", [1, 4, 5, 10, 100])
def test_chance_is_the_mean_over_all_ranks(num_candidates):
    ranks = range(1, num_candidates + 1)
    expected = {
        "recall_at_1": sum(rank <= 1 for rank in ranks) / num_candidates,
        "recall_at_5": sum(rank <= 5 for rank in ranks) / num_candidates,
        "mrr_at_10": sum(1 / rank for rank in ranks if rank <= 10) / num_candidates,
    }
    scores = chance_baseline(HOTPOT_RETRIEVAL, num_candidates=num_candidates)
    assert scores == pytest.approx(expected)
    assert constant(TRAIN, [encoded("ab")] * num_candidates, task=HOTPOT_RETRIEVAL) == scores


def test_retrieval_copies_nothing():
    assert copy(TRAIN, task=HOTPOT_RETRIEVAL) == {}


def test_answers_that_could_not_be_scored_give_no_baseline():
    def score(examples, texts, scoring):
        return [{"done": None if i else 1.0} for i, _ in enumerate(examples)]

    metrics = {"done": mean("Done.", "done", is_generated=True)}
    task = replace(HOTPOT, score_generation=score, generation_columns=("done",), metrics=metrics)
    with pytest.raises(UserError, match="the answers of 2 of 3 examples could not be scored"):
        constant(TRAIN, TRAIN[:3], task=task)
