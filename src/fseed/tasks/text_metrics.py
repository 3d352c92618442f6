"""Exact match and F1 of short answers, by the rules of the SQuAD and HotpotQA evaluation scripts.

Answers are compared after lower-casing, deleting ASCII punctuation, deleting the words a, an and
the, and collapsing white space, in this order. HotpotQA adds that yes, no and noanswer share
credit with nothing but themselves.
"""

import re
import string
from collections import Counter

CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def normalize_answer(text: str) -> str:
    """Return ``text`` as the official scripts compare it."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, answer: str) -> float:
    """Return 1.0 when both are equal after normalisation, else 0.0."""
    return float(normalize_answer(prediction) == normalize_answer(answer))


def f1(prediction: str, answer: str) -> float:
    """Return the F1 of the two bags of normalised words; 0.0 when they share none.

    A closed answer (yes, no, noanswer) on either side scores 0.0 unless both sides are equal.
    """
    predicted, gold = normalize_answer(prediction), normalize_answer(answer)
    if predicted != gold and (predicted in CLOSED_ANSWERS or gold in CLOSED_ANSWERS):
        return 0.0
    predicted_words, gold_words = predicted.split(), gold.split()
    num_shared = sum((Counter(predicted_words) & Counter(gold_words)).values())
    if num_shared == 0:
        return 0.0
    precision, recall = num_shared / len(predicted_words), num_shared / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def score_short_answer(prediction: str, answers: tuple[str, ...]) -> dict[str, float]:
    """Return exact match and F1 against the gold answer that suits the prediction best."""
    return {
        "exact_match": max(exact_match(prediction, answer) for answer in answers),
        "f1": max(f1(prediction, answer) for answer in answers),
    }
