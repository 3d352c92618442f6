"""Metrics as pure functions of the score rows of a split, in the columns of predictions.parquet.

A ``Metric`` pools the rows of one split (or of one kind of examples) to a value and the number of
things it stands on. Those whose value is a sum over examples also say what each example adds, so
that two arms can be compared example by example. A row whose columns are None (not scored, such as
generated answers at the first evaluation) is left out; no row left means no value.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fseed.tasks.base import ScoreRow


class Pooled(NamedTuple):
    """A pooled value and the number of units or examples it stands on."""

    value: float
    n: int


# what each row adds to the numerator and to the denominator of the value; None: not scored
Items = Callable[[Sequence[ScoreRow]], list[tuple[float, float] | None]]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a split.

    ``pool`` returns None when it is undefined. ``items`` is None for a value that is no sum over
    examples; such a metric cannot be the primary one. ``is_right`` tells a wholly right example.
    ``is_generated`` metrics need free decoding.
    """

    sentence: str
    pool: Callable[[Sequence[ScoreRow]], Pooled | None]
    items: Items | None = None
    is_right: Callable[[ScoreRow], bool] | None = None  # None: score equals weight
    is_generated: bool = False


def ratio(sentence: str, numerator: str, denominator: str, *, is_generated: bool = False) -> Metric:
    """Return sum(numerator) / sum(denominator) over the rows; n is the sum of denominators."""

    def items(rows: Sequence[ScoreRow]) -> list[tuple[float, float] | None]:
        return [_pair(row.get(numerator), row.get(denominator)) for row in rows]

    return _from_items(sentence, items, is_generated=is_generated)


def mean(sentence: str, column: str, *, is_generated: bool = False) -> Metric:
    """Return the mean of ``column`` over the rows that have it; n is their number."""

    def items(rows: Sequence[ScoreRow]) -> list[tuple[float, float] | None]:
        return [_pair(row.get(column), 1) for row in rows]

    return _from_items(sentence, items, is_generated=is_generated)


def pooled(
    sentence: str,
    pool: Callable[[Sequence[ScoreRow]], Pooled | None],
    *,
    items: Items | None = None,
    is_right: Callable[[ScoreRow], bool] | None = None,
    is_generated: bool = False,
) -> Metric:
    """Return a metric with its own pooling, such as an AUROC."""
    return Metric(
        sentence=sentence, pool=pool, items=items, is_right=is_right, is_generated=is_generated
    )


def _from_items(sentence: str, items: Items, *, is_generated: bool) -> Metric:
    def pool(rows: Sequence[ScoreRow]) -> Pooled | None:
        pairs = [pair for pair in items(rows) if pair is not None]
        total = sum(weight for _, weight in pairs)
        return Pooled(sum(score for score, _ in pairs) / total, int(total)) if total else None

    return Metric(sentence=sentence, pool=pool, items=items, is_generated=is_generated)


def _pair(score: float | None, weight: float | None) -> tuple[float, float] | None:
    return None if score is None or weight is None else (score, weight)


TOKEN_ACCURACY = ratio(
    "Fraction of answer tokens predicted under teacher forcing, end of text not counted.",
    "num_tokens_correct",
    "num_answer_tokens",
)
UNIT_ACCURACY = ratio(
    "Fraction of units predicted under teacher forcing, among the labels offered.",
    "num_correct",
    "num_units",
)
FULL_VOCABULARY_ACCURACY = ratio(
    "Fraction of units predicted under teacher forcing, among the whole vocabulary.",
    "num_correct_full",
    "num_units",
)
END_OF_TEXT_ACCURACY = mean(
    "Fraction of answers after which end of text is predicted.", "end_of_text_correct"
)
LOSS = ratio(
    "Mean negative log-likelihood of the answer tokens and end of text, in nats.",
    "loss_sum",
    "num_tokens",
)
EXACT_MATCH = mean(
    "Fraction of greedy answers equal to a gold answer after normalisation.",
    "exact_match",
    is_generated=True,
)
F1 = mean(
    "Mean F1 of the normalised words of the greedy answer and the gold answer that suits it best.",
    "f1",
    is_generated=True,
)
