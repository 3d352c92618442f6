import numpy as np
import pytest

from fseed.tasks.protein_contact import (
    balanced_items,
    pool_auroc,
    pool_balanced_accuracy,
    pool_precision,
)


def score(gold, predicted, label_scores=None):
    return {"gold": gold, "predicted": predicted, "label_scores": label_scores}


def test_balanced_accuracy_by_hand():
    # gold 1: two of three right; gold 0: three of five right
    rows = [score("1100", "1010"), score("1000", "1001")]
    assert pool_balanced_accuracy(rows).value == pytest.approx((2 / 3 + 3 / 5) / 2)
    assert pool_balanced_accuracy(rows).n == 8


def test_items_add_up_to_the_balanced_accuracy():
    rng = np.random.default_rng([1])
    rows = [
        score(*("".join("01"[int(bit)] for bit in rng.random(8) < share) for share in (0.2, 0.4)))
        for _ in range(30)
    ]
    items = balanced_items(rows)
    total = sum(weight for _, weight in items)
    assert sum(value for value, _ in items) / total == pytest.approx(
        pool_balanced_accuracy(rows).value
    )
    assert [weight for _, weight in items] == [8] * 30


def test_weights_of_items_depend_on_the_gold_bits_alone():
    one = balanced_items([score("1000", "1000"), score("0000", "0000")])
    other = balanced_items([score("1000", "0000"), score("0000", "0011")])
    # a right contact weighs 8 / 2, a right other pair 8 / 14
    assert one == [pytest.approx((4 + 3 * 4 / 7, 4)), pytest.approx((4 * 4 / 7, 4))]
    assert other == [pytest.approx((3 * 4 / 7, 4)), pytest.approx((2 * 4 / 7, 4))]


def test_one_gold_bit_only_has_no_balanced_accuracy():
    rows = [score("000", "010"), score("0", "0")]
    assert pool_balanced_accuracy(rows) is None
    assert balanced_items(rows) == [None, None]


def test_area_under_the_curve_pools_all_pairs_and_skips_rows_without_scores():
    rows = [score("10", "11", [0.9, 0.6]), score("10", "00", [0.4, 0.1]), score("11", "11")]
    # of four pairs of a contact and another, 0.4 loses to 0.6
    assert pool_auroc(rows) == (pytest.approx(0.75), 4)
    assert pool_auroc(rows[2:]) is None
    assert pool_auroc([]) is None


def test_precision_counts_the_predicted_contacts():
    assert pool_precision([score("1100", "1010"), score("10", "10")]) == (pytest.approx(2 / 3), 3)
    assert pool_precision([score("1100", "0000")]) is None
