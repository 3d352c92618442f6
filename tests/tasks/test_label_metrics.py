import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from fseed.tasks.label_metrics import (
    auroc,
    balanced_accuracy,
    count_pairs,
    count_rows,
    macro_f1,
    precision,
)

# gold H H H E E ~ against H H E E ~ ~: F1 of H 4/5, E 1/2, ~ 2/3; recalls 2/3, 1/2, 1
COUNTS = count_pairs("HHHEE~", "HHEE~~")


def test_pairs_are_counted():
    assert COUNTS == {("H", "H"): 2, ("H", "E"): 1, ("E", "E"): 1, ("E", "~"): 1, ("~", "~"): 1}
    with pytest.raises(ValueError, match="shorter"):
        count_pairs("HH", "H")


def test_hand_values():
    assert macro_f1(COUNTS) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert balanced_accuracy(COUNTS) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert precision(COUNTS, positive="E") == pytest.approx(1 / 2)
    assert precision(COUNTS, positive="H") == 1.0


def test_label_on_one_side_only_scores_zero_and_an_absent_one_is_left_out():
    assert macro_f1(count_pairs("HH", "HG")) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1(count_pairs("HG", "HH")) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1(count_pairs("HH", "HH") | {("G", "G"): 0}) == 1.0
    # a label that only the prediction has counts in macro F1, not in balanced accuracy
    assert balanced_accuracy(count_pairs("HHEE", "HGEE")) == pytest.approx(0.75)


def test_counts_of_examples_add_up():
    assert macro_f1(count_pairs("HHH", "HHE") + count_pairs("EE~", "E~~")) == macro_f1(COUNTS)


def test_units_of_score_rows_are_counted_together():
    rows = [{"gold": "HHH", "predicted": "HHE"}, {"gold": "EE~", "predicted": "E~~"}]
    assert count_rows(rows) == COUNTS
    assert not count_rows([])


def test_constant_prediction_has_balanced_accuracy_of_one_over_the_labels():
    assert balanced_accuracy(count_pairs("1110", "1111")) == 0.5
    assert balanced_accuracy(count_pairs("HHHHEE~", "HHHHHHH")) == pytest.approx(1 / 3)


@pytest.mark.parametrize("gold", ["", "11"])
def test_one_class_has_no_balanced_accuracy_and_no_auroc(gold):
    assert balanced_accuracy(count_pairs(gold, "1" * len(gold))) is None
    assert auroc([label == "1" for label in gold], [0.3] * len(gold)) is None


def test_undefined_scores_are_missing():
    assert macro_f1(count_pairs("", "")) is None
    assert precision(count_pairs("10", "00"), positive="1") is None
    assert balanced_accuracy(count_pairs("11", "10")) is None


@pytest.mark.parametrize(
    ("labels", "scores", "area"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 1.0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4], 0.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([0, 1, 1], [0.5, 0.5, 0.9], 0.75),
        ([0, 1], [float("-inf"), float("inf")], 1.0),
    ],
)
def test_auroc_by_hand(labels, scores, area):
    assert auroc(labels, scores) == pytest.approx(area)


@pytest.mark.parametrize("decimals", [1, 8])
def test_auroc_is_the_mann_whitney_statistic(decimals):
    rng = np.random.default_rng([1, decimals])
    labels = rng.random(200) < 0.3
    scores = (rng.normal(size=200) + labels).round(decimals)
    statistic = mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert auroc(labels, scores) == pytest.approx(statistic / (labels.sum() * (~labels).sum()))
    # any rising function of the scores gives the same area
    assert auroc(labels, np.exp(scores)) == auroc(labels, scores)


def test_auroc_refuses_what_it_cannot_rank():
    with pytest.raises(ValueError, match="not a number"):
        auroc([0, 1], [0.1, float("nan")])
    with pytest.raises(ValueError, match="differ in shape"):
        auroc([0, 1], [0.1])


def test_scores_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng([2])
    for size in (5, 50, 500):
        gold, guess = (rng.choice(list("GHIBEST~"), size) for _ in range(2))
        counts = count_pairs(gold.tolist(), guess.tolist())
        assert macro_f1(counts) == pytest.approx(
            metrics.f1_score(gold, guess, average="macro", zero_division=0)
        )
        bits, scores = rng.permutation(size) < size // 2, rng.random(size).round(1)
        guesses = scores >= 0.4
        pairs = count_pairs(*("".join("01"[int(bit)] for bit in row) for row in (bits, guesses)))
        assert balanced_accuracy(pairs) == pytest.approx(
            metrics.balanced_accuracy_score(bits, guesses)
        )
        assert precision(pairs, positive="1") == pytest.approx(
            metrics.precision_score(bits, guesses, zero_division=0)
        )
        assert auroc(bits, scores) == pytest.approx(metrics.roc_auc_score(bits, scores))
