"""Exact match and F1 of short answers, by the rules of the SQuAD and HotpotQA evaluation scripts.

Answers are compared after lower-casing, deleting ASCII punctuation, deleting the words a, an and
the, and collapsing white space, in this order. The best of several gold answers counts, for each
metric apart. HotpotQA adds that yes, no and noanswer share credit with nothing but themselves:
``score_short_answers`` has this rule, ``score_span_answers`` (SQuAD) does not.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from fseed.config.schema import MbppConfig
from fseed.tasks.base import EncodedExample, ScoreRow

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
    """Return the F1 of the two bags of normalised words; 0.0 when they share none."""
    predicted_words = normalize_answer(prediction).split()
    gold_words = normalize_answer(answer).split()
    num_shared = sum((Counter(predicted_words) & Counter(gold_words)).values())
    if num_shared == 0:
        return 0.0
    precision, recall = num_shared / len(predicted_words), num_shared / len(gold_words)
    return 2 * precision * recall / (precision + recall)


def closed_f1(prediction: str, answer: str) -> float:
    """Return ``f1``, but 0.0 for a closed answer (yes, no, noanswer) on one side alone."""
    predicted, gold = normalize_answer(prediction), normalize_answer(answer)
    if predicted != gold and (predicted in CLOSED_ANSWERS or gold in CLOSED_ANSWERS):
        return 0.0
    return f1(prediction, answer)


def score_short_answers(
    examples: Sequence[EncodedExample], texts: Sequence[Sequence[str]], scoring: MbppConfig
) -> list[ScoreRow]:
    """Return exact match and F1 of the greedy answers by the rules of HotpotQA."""
    return _score_greedy(examples, texts, closed_f1)


def score_span_answers(
    examples: Sequence[EncodedExample], texts: Sequence[Sequence[str]], scoring: MbppConfig
) -> list[ScoreRow]:
    """Return exact match and F1 of the greedy answers by the rules of SQuAD."""
    return _score_greedy(examples, texts, f1)


def _score_greedy(
    examples: Sequence[EncodedExample],
    texts: Sequence[Sequence[str]],
    overlap: Callable[[str, str], float],
) -> list[ScoreRow]:
    """Return the best exact match and the best overlap over the gold answers of each example."""
    return [
        {
            "exact_match": max(exact_match(found[0], answer) for answer in example.answers),
            "f1": max(overlap(found[0], answer) for answer in example.answers),
        }
        for example, found in zip(examples, texts, strict=True)
    ]
