"""From what a model predicted to score rows, and from score rows to metrics; no model in sight.

The same functions score a model, the constant answer and the copied answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fseed.tasks.base import EncodedExample, ScoreRow, Task, Tokenizer
from fseed.tasks.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was predicted for one example when the gold answer is given (teacher forcing).

    ``token_ids`` has the likeliest id at each position of ``answer_ids``. ``label_ids`` has the
    likeliest of ``EncodedExample.label_ids`` at each unit (empty without labels) and
    ``label_scores`` the probability of the last label there, among the labels (two labels only).
    ``loss_sum`` is in nats over all answer tokens, None where nothing was modelled.
    """

    token_ids: Sequence[int]
    label_ids: Sequence[int] = ()
    label_scores: Sequence[float] | None = None
    loss_sum: float | None = None


def score_prediction(
    task: Task, example: EncodedExample, prediction: Prediction, *, tokenizer: Tokenizer
) -> ScoreRow:
    """Return the score row of one example; the generated columns are still None."""
    gold, guess = example.answer_ids, prediction.token_ids
    num_answer = example.num_answer_tokens
    unit_gold = [gold[place] for place in example.units]
    unit_guess = [guess[place] for place in example.units]
    chosen = prediction.label_ids if example.label_ids else unit_guess
    return {
        "example_id": example.example_id,
        "kind": example.kind,
        "num_units": len(unit_gold),
        "num_correct": _num_equal(chosen, unit_gold),
        "num_correct_full": _num_equal(unit_guess, unit_gold),
        "num_answer_tokens": num_answer,
        "num_tokens_correct": _num_equal(guess[:num_answer], gold[:num_answer]),
        "end_of_text_correct": float(guess[-1] == gold[-1]) if example.has_end else None,
        "loss_sum": prediction.loss_sum,
        "num_tokens": len(gold),
        "gold": _join_labels(unit_gold, tokenizer) if example.label_ids else None,
        "predicted": _join_labels(chosen, tokenizer) if example.label_ids else None,
        "label_scores": _listed(prediction.label_scores),
        "prediction": None,
        **dict.fromkeys(task.generation_columns),
    }


def pool_metrics(
    metrics: Mapping[str, Metric], rows: Sequence[ScoreRow]
) -> dict[str, dict[str, float]]:
    """Return metric -> value and n over ``rows``; also by kind where there are several."""
    pooled = _pool(metrics, rows)
    kinds = sorted({row["kind"] for row in rows})
    for kind in kinds if len(kinds) > 1 else ():
        part = _pool(metrics, [row for row in rows if row["kind"] == kind])
        pooled |= {f"{name}_{kind}": entry for name, entry in part.items()}
    return pooled


def add_items(metric: Metric, rows: Sequence[ScoreRow]) -> None:
    """Write into each row what it adds to the primary metric: ``score`` and ``weight``.

    sum(score) / sum(weight) is the metric; ``is_right`` says that the whole example is right. All
    are None where the metric was not scored.
    """
    if metric.items is None:
        raise ValueError("the primary metric must be a sum over examples")
    for row, item in zip(rows, metric.items(rows), strict=True):
        row["score"], row["weight"] = item if item is not None else (None, None)
        row["is_right"] = None
        if item is not None:
            row["is_right"] = metric.is_right(row) if metric.is_right else item[0] == item[1]


def _pool(metrics: Mapping[str, Metric], rows: Sequence[ScoreRow]) -> dict[str, dict[str, float]]:
    found = {name: metric.pool(rows) for name, metric in metrics.items()}
    return {name: entry._asdict() for name, entry in found.items() if entry is not None}


def _join_labels(ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """Return the labels as text; a label alone may have its space in its token."""
    return tokenizer.decode(ids).strip(" ")


def _num_equal(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(left == right for left, right in zip(one, other, strict=True))


def _listed(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else [float(value) for value in values]
