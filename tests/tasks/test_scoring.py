from dataclasses import replace

import pytest
from task_helpers import Bytes, encoded

from fseed.tasks.base import Objective
from fseed.tasks.hotpot import HOTPOT
from fseed.tasks.metrics import EXACT_MATCH, LOSS, UNIT_ACCURACY, Pooled, pooled
from fseed.tasks.scoring import Prediction, add_items, pool_metrics, score_prediction

FILL = replace(
    HOTPOT, objective=Objective.fill, metrics={"accuracy": UNIT_ACCURACY}, generation_columns=()
)


def score(example, *, task=HOTPOT, **facts):
    return score_prediction(task, example, Prediction(**facts), tokenizer=Bytes())


def test_every_token_of_a_text_is_a_unit_and_end_of_text_counts_apart():
    row = score(encoded("abc", "bridge"), token_ids=[*b"axc", 0], loss_sum=2.5)
    assert row == {
        "example_id": "abc",
        "kind": "bridge",
        "num_units": 3,
        "num_correct": 2,
        "num_correct_full": 2,
        "num_answer_tokens": 3,
        "num_tokens_correct": 2,
        "end_of_text_correct": 1.0,
        "loss_sum": 2.5,
        "num_tokens": 4,
        "gold": None,
        "predicted": None,
        "label_scores": None,
        "prediction": None,
        "exact_match": None,
        "f1": None,
    }


def test_a_missed_end_of_text():
    assert score(encoded("ab"), token_ids=[*b"abc"])["end_of_text_correct"] == 0.0


def test_labels_are_scored_among_themselves_and_among_the_vocabulary():
    example = encoded("0110", label_ids=tuple(b"01"), units=(1, 2, 3))
    row = score(
        example,
        token_ids=[*b"0x10", 0],
        label_ids=[*b"100"],
        label_scores=[0.9, 0.25, 0],
        loss_sum=1,
    )
    assert (row["num_units"], row["num_correct"], row["num_correct_full"]) == (3, 2, 2)
    assert row["num_tokens_correct"] == 3
    assert (row["gold"], row["predicted"]) == ("110", "100")
    assert row["label_scores"] == [0.9, 0.25, 0.0]
    assert all(type(score) is float for score in row["label_scores"])


def test_fills_have_no_end_of_text():
    example = encoded("ab", answer_ids=[*b"ab"], mask_positions=(3, 4), has_end=False)
    row = score(example, task=FILL, token_ids=[*b"ax"])
    assert row["end_of_text_correct"] is None
    assert (row["num_answer_tokens"], row["num_tokens"], row["num_tokens_correct"]) == (2, 2, 1)
    assert row["loss_sum"] is None


def test_labels_of_another_number_than_the_units_are_an_error():
    example = encoded("01", label_ids=tuple(b"01"))
    with pytest.raises(ValueError, match="argument 2 is longer"):
        score(example, token_ids=[*b"01", 0], label_ids=[*b"0"])


def row_of(kind, right, match):
    facts = {"num_units": 2, "num_correct": right, "loss_sum": None, "num_tokens": 3}
    return {"kind": kind, "exact_match": match} | facts


METRICS = {"accuracy": UNIT_ACCURACY, "loss": LOSS, "exact_match": EXACT_MATCH}


def test_metrics_are_pooled_over_all_rows_and_by_kind():
    rows = [row_of("b", 2, 1.0), row_of("a", 0, None), row_of("b", 1, 0.0)]
    assert pool_metrics(METRICS, rows) == {
        "accuracy": {"value": 0.5, "n": 6},
        "exact_match": {"value": 0.5, "n": 2},
        "accuracy_a": {"value": 0.0, "n": 2},
        "accuracy_b": {"value": 0.75, "n": 4},
        "exact_match_b": {"value": 0.5, "n": 2},
    }


def test_a_single_kind_has_no_metrics_of_its_own():
    assert set(pool_metrics(METRICS, [row_of("a", 2, 1.0)])) == {"accuracy", "exact_match"}
    assert pool_metrics(METRICS, []) == {}


def test_items_reproduce_the_primary_metric():
    rows = [row_of("b", 2, 1.0), row_of("a", 0, None), row_of("b", 1, 0.0)]
    add_items(UNIT_ACCURACY, rows)
    assert [(row["score"], row["weight"]) for row in rows] == [(2, 2), (0, 2), (1, 2)]
    add_items(EXACT_MATCH, rows)
    assert [(row["score"], row["weight"]) for row in rows] == [(1.0, 1), (None, None), (0.0, 1)]


def test_a_primary_metric_without_items_is_an_error():
    with pytest.raises(ValueError, match="sum over examples"):
        add_items(pooled("Best.", lambda rows: Pooled(1.0, 1)), [row_of("a", 1, 1.0)])
