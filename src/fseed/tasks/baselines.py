"""What answers that ignore the question score: the best constant, and copying from the prompt.

Constant, teacher-forced: at each answer position the most frequent training token of that position,
end of text not counted. Where labels are offered: the most frequent training label of all units,
with the frequencies as label scores. Constant, generated: the most frequent training answer. Ties
go to the smaller token and the alphabetically first answer. Metrics of one kind (``f1_bridge``) use
the constants of that kind. Copied: the answer that ``Example.copied`` gives, for the tasks where
copying means something. Retrieval has neither: its constant is the chance of a random ranking.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from fseed.config.schema import MbppConfig
from fseed.errors import UserError
from fseed.tasks.base import EncodedExample, Objective, ScoreRow, Task, Tokenizer
from fseed.tasks.metrics import Metric
from fseed.tasks.scoring import Prediction, pool_metrics, score_prediction

Examples = Sequence[EncodedExample]

# neither a constant nor a copied answer says where an answer ends
_NO_END = {"end_of_text_correct": None}


def constant_baseline(
    task: Task, train: Examples, evaluation: Examples, *, tokenizer: Tokenizer, scoring: MbppConfig
) -> dict[str, float]:
    """Return metric name -> score of the constant answer on ``evaluation``.

    A kind without examples on either side has no entry.
    """
    if task.objective is Objective.retrieval:
        return chance_baseline(task, num_candidates=len(evaluation))

    def score(fit: Examples, examples: Examples) -> dict[str, float]:
        if not fit or not examples:
            return {}
        predict = _fit_constant(fit)
        rows = [
            score_prediction(task, example, predict(example), tokenizer=tokenizer) | _NO_END
            for example in examples
        ]
        answers = Counter(example.answers[0] for example in fit)
        text = min(answers, key=lambda answer: (-answers[answer], answer))
        _add_generated(task, rows, examples, [text] * len(examples), scoring)
        return _values(task.metrics, rows)

    scores = score(train, evaluation)
    kinds = sorted({example.kind for example in evaluation})
    for kind in kinds if len(kinds) > 1 else ():
        part = score(_of_kind(train, kind), _of_kind(evaluation, kind))
        scores |= {f"{name}_{kind}": value for name, value in part.items()}
    return scores


def copy_baseline(
    task: Task, evaluation: Examples, *, tokenizer: Tokenizer, scoring: MbppConfig
) -> dict[str, float]:
    """Return metric name -> score of copying from the prompt; empty where that means nothing."""
    rows: list[ScoreRow] = []
    for example in evaluation:
        if example.copied_ids is None:
            return {}
        labels = tuple(example.copied_ids[place] for place in example.units)
        prediction = Prediction(token_ids=example.copied_ids, label_ids=labels)
        row = score_prediction(task, example, prediction, tokenizer=tokenizer)
        rows.append(row | _NO_END)
    _add_generated(task, rows, evaluation, [str(e.copied) for e in evaluation], scoring)
    entries = pool_metrics(task.metrics, rows)
    return {name: entry["value"] for name, entry in entries.items()}


def chance_baseline(task: Task, *, num_candidates: int) -> dict[str, float]:
    """Return the expected scores of a random ranking of ``num_candidates``.

    A metric ``recall_at_K`` has K / N, ``mrr_at_K`` the mean of 1/1 .. 1/K over N ranks.
    """
    scores = {}
    for name in task.metrics:
        head, _, depth = name.rpartition("_")
        ranks = range(1, min(int(depth), num_candidates) + 1) if depth.isdigit() else range(0)
        if head == "recall_at":
            scores[name] = len(ranks) / num_candidates
        if head == "mrr_at":
            scores[name] = sum(1 / rank for rank in ranks) / num_candidates
    return scores


def _fit_constant(train: Examples) -> Callable[[EncodedExample], Prediction]:
    """Return the predictor that knows the frequencies of the training answers."""
    columns: list[Counter[int]] = []
    labels: Counter[int] = Counter()
    for example in train:
        for position, token in enumerate(example.answer_ids[: example.num_answer_tokens]):
            if position == len(columns):
                columns.append(Counter())
            columns[position][token] += 1
        labels.update(example.answer_ids[place] for place in example.units)
    constants = [_most_frequent(column) for column in columns]

    def predict(example: EncodedExample) -> Prediction:
        # positions beyond the longest training answer have no constant and count as wrong
        known = constants[: example.num_answer_tokens]
        tokens = [*known, *[-1] * (len(example.answer_ids) - len(known))]
        if not example.label_ids:
            return Prediction(token_ids=tokens)
        offered = Counter({label: labels[label] for label in example.label_ids})
        best, share = _most_frequent(offered), offered[example.label_ids[-1]]
        return Prediction(
            token_ids=tokens,
            label_ids=[best] * len(example.units),
            label_scores=[share / max(1, offered.total())] * len(example.units)
            if len(example.label_ids) == 2
            else None,
        )

    return predict


def _add_generated(
    task: Task,
    rows: Sequence[ScoreRow],
    examples: Examples,
    texts: Sequence[str],
    scoring: MbppConfig,
) -> None:
    if task.score_generation is None:
        return
    found = task.score_generation(examples, [[text] for text in texts], scoring)
    for row, columns in zip(rows, found, strict=True):
        row.update(columns)
    items = task.metrics[task.primary_metric].items
    num_unscored = sum(item is None for item in items(rows)) if items is not None else 0
    if num_unscored:
        raise UserError(
            f"{task.name}: the answers of {num_unscored} of {len(rows)} examples could not be "
            "scored for the baselines; try again on a less busy machine"
        )


def _values(metrics: Mapping[str, Metric], rows: Sequence[ScoreRow]) -> dict[str, float]:
    found = {name: metric.pool(rows) for name, metric in metrics.items()}
    return {name: entry.value for name, entry in found.items() if entry is not None}


def _of_kind(examples: Examples, kind: str) -> list[EncodedExample]:
    return [example for example in examples if example.kind == kind]


def _most_frequent(counts: Counter[int]) -> int:
    """Return the most frequent token, the smaller one of equals."""
    return min(counts, key=lambda token: (-counts[token], token))
