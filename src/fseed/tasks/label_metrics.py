"""Scores of predicted labels: macro F1, balanced accuracy, precision, area under the ROC curve.

The first three read counts of (gold, predicted) pairs, so the counts of many examples can be added
before they are scored. A score that is not defined is None, never a number that looks like one.

Conventions, against scikit-learn 1.x: ``macro_f1`` is ``f1_score(average="macro",
zero_division=0)`` without ``labels``; ``balanced_accuracy`` is ``balanced_accuracy_score``,
``precision`` is ``precision_score`` and ``auroc`` is ``roc_auc_score``, except that these return
None where scikit-learn warns (or returns a number for a single class).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from fseed.tasks.base import ScoreRow

PairCounts = Mapping[tuple[str, str], int]


def count_pairs(gold: Sequence[str], predicted: Sequence[str]) -> Counter[tuple[str, str]]:
    """Return how often each (gold, predicted) pair of labels occurs; equal lengths are required."""
    return Counter(zip(gold, predicted, strict=True))


def count_rows(rows: Sequence[ScoreRow]) -> Counter[tuple[str, str]]:
    """Return the pair counts of the units of score rows, one character a unit."""
    gold, predicted = ("".join(row[name] for row in rows) for name in ("gold", "predicted"))
    return count_pairs(gold, predicted)


def macro_f1(counts: PairCounts) -> float | None:
    """Return the mean F1 over the labels that occur in gold or prediction; None without labels.

    A label that occurs on one side only has F1 0; a label that occurs on neither is left out.
    """
    gold, predicted = _margins(counts)
    labels = {label for label in chain(gold, predicted) if gold[label] + predicted[label]}
    if not labels:
        return None
    scores = [
        2 * counts.get((label, label), 0) / (gold[label] + predicted[label]) for label in labels
    ]
    return sum(sorted(scores)) / len(scores)


def balanced_accuracy(counts: PairCounts) -> float | None:
    """Return the mean recall over the gold labels; None with fewer than two of them."""
    gold, _ = _margins(counts)
    labels = [label for label, number in gold.items() if number]
    if len(labels) < 2:
        return None
    recalls = [counts.get((label, label), 0) / gold[label] for label in labels]
    return sum(sorted(recalls)) / len(recalls)


def precision(counts: PairCounts, *, positive: str) -> float | None:
    """Return the fraction of ``positive`` predictions that are right; None without such."""
    _, predicted = _margins(counts)
    if not predicted[positive]:
        return None
    return counts.get((positive, positive), 0) / predicted[positive]


def auroc(is_positive: Sequence[bool], scores: Sequence[float]) -> float | None:
    """Return the probability that a positive outscores a negative, a tie counting one half.

    This is the Mann-Whitney statistic over the number of pairs; None with one class only. Raises
    ``ValueError`` for unequal lengths or a score that is not a number.
    """
    truth, values = np.asarray(is_positive, bool), np.asarray(scores, float)
    if truth.shape != values.shape or truth.ndim != 1:
        raise ValueError(f"{truth.shape} labels and {values.shape} scores differ in shape")
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    num_positive = int(truth.sum())
    num_pairs = num_positive * (len(truth) - num_positive)
    if num_pairs == 0:
        return None
    rank_sum = float(_mean_ranks(values)[truth].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / num_pairs


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value from one up; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def _margins(counts: PairCounts) -> tuple[Counter[str], Counter[str]]:
    """Return how often each label occurs in gold and in the prediction."""
    gold: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    for (truth, guess), number in counts.items():
        gold[truth] += number
        predicted[guess] += number
    return gold, predicted
