import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fseed.tasks.metrics import (
    END_OF_TEXT_ACCURACY,
    F1,
    LOSS,
    TOKEN_ACCURACY,
    UNIT_ACCURACY,
    Pooled,
    mean,
    pooled,
    ratio,
)

HALF = ratio("Half.", "right", "all")

counts = st.fixed_dictionaries({"right": st.integers(0, 9), "all": st.integers(0, 9)})


def test_a_ratio_weighs_rows_by_their_denominator():
    rows = [{"right": 1, "all": 1}, {"right": 0, "all": 3}]
    assert HALF.pool(rows) == Pooled(0.25, 4)
    assert HALF.items is not None
    assert HALF.items(rows) == [(1, 1), (0, 3)]


def test_a_mean_counts_every_row_once():
    metric = mean("Mean.", "f1")
    assert metric.pool([{"f1": 1.0}, {"f1": 0.0}, {"f1": 0.5}]) == Pooled(0.5, 3)


@pytest.mark.parametrize("rows", [[], [{"f1": None}], [{}]])
def test_no_scored_row_is_no_value(rows):
    assert F1.pool(rows) is None


def test_rows_that_were_not_scored_are_left_out():
    rows = [{"f1": 1.0}, {"f1": None}, {}]
    assert F1.pool(rows) == Pooled(1.0, 1)
    assert F1.items is not None
    assert F1.items(rows) == [(1.0, 1), None, None]


def test_a_ratio_without_a_denominator_is_no_value():
    assert HALF.pool([{"right": 0, "all": 0}]) is None
    assert HALF.pool([{"right": 0, "all": 0}, {"right": 1, "all": 2}]) == Pooled(0.5, 2)


@given(st.lists(counts, min_size=1))
def test_the_items_add_up_to_the_value(rows):
    assert HALF.items is not None
    items = [item for item in HALF.items(rows) if item is not None]
    score, weight = (math.fsum(part) for part in zip(*items, strict=True))
    value = HALF.pool(rows)
    assert (value is None) == (weight == 0)
    if value is not None:
        assert value == pytest.approx((score / weight, weight))


def test_a_metric_with_its_own_pooling_has_no_items_unless_given():
    metric = pooled("Best.", lambda rows: Pooled(max(row["x"] for row in rows), len(rows)))
    assert metric.pool([{"x": 1.0}, {"x": 3.0}]) == Pooled(3.0, 2)
    assert metric.items is None
    assert not metric.is_generated


def test_ready_metrics_read_their_columns():
    row = {
        "num_units": 4,
        "num_correct": 3,
        "num_correct_full": 2,
        "num_answer_tokens": 5,
        "num_tokens_correct": 1,
        "end_of_text_correct": 1.0,
        "loss_sum": 12.0,
        "num_tokens": 6,
        "f1": 0.5,
    }
    found = [m.pool([row]) for m in (UNIT_ACCURACY, TOKEN_ACCURACY, END_OF_TEXT_ACCURACY, LOSS, F1)]
    assert found == [(0.75, 4), (0.2, 5), (1.0, 1), (2.0, 6), (0.5, 1)]
    assert F1.is_generated
    assert not LOSS.is_generated
