"""What the best answer that ignores the prompt scores.

``token_accuracy`` uses, at each answer position, the most frequent training token of that position
(answers are given as in teacher forcing, end of text not counted). The other metrics use the most
frequent training answer. Metrics of one kind (``f1_bridge``) use the constants of that kind. Ties
go to the smaller token and the alphabetically first answer.
"""

from collections import Counter
from collections.abc import Sequence

from fseed.tasks.base import EncodedExample, Task


def constant_baseline(
    task: Task, train: Sequence[EncodedExample], evaluation: Sequence[EncodedExample]
) -> dict[str, float]:
    """Return metric name -> score of the constant answer on ``evaluation``.

    A kind without examples on either side has no entry.
    """
    scores = _score_constant(task, train, evaluation)
    for kind in task.kinds:
        train_kind = [example for example in train if example.kind == kind]
        evaluation_kind = [example for example in evaluation if example.kind == kind]
        for name, value in _score_constant(task, train_kind, evaluation_kind).items():
            scores[f"{name}_{kind}"] = value
    return scores


def _score_constant(
    task: Task, train: Sequence[EncodedExample], evaluation: Sequence[EncodedExample]
) -> dict[str, float]:
    """Return the scores of one constant, or nothing when a side is empty."""
    if not train or not evaluation:
        return {}
    answer = _most_frequent_answer(train)
    scores = {"token_accuracy": _token_accuracy(train, evaluation)}
    per_example = [task.score_generation(answer, example.answers) for example in evaluation]
    for name in task.generation_metrics:
        scores[name] = sum(score[name] for score in per_example) / len(per_example)
    return scores


def _token_accuracy(train: Sequence[EncodedExample], evaluation: Sequence[EncodedExample]) -> float:
    """Return the fraction of answer tokens equal to the constant of their position."""
    columns: list[Counter[int]] = []
    for example in train:
        for position, token in enumerate(example.answer_ids[:-1]):
            if position == len(columns):
                columns.append(Counter())
            columns[position][token] += 1
    constants = [_most_frequent_token(column) for column in columns]
    answers = [example.answer_ids[:-1] for example in evaluation]
    # positions beyond the longest training answer have no constant and count as wrong
    num_correct = sum(
        token == constant
        for answer in answers
        for token, constant in zip(answer, constants, strict=False)
    )
    return num_correct / sum(len(answer) for answer in answers)


def _most_frequent_answer(train: Sequence[EncodedExample]) -> str:
    """Return the most frequent gold answer."""
    counts = Counter(example.answers[0] for example in train)
    return min(counts, key=lambda answer: (-counts[answer], answer))


def _most_frequent_token(counts: Counter[int]) -> int:
    """Return the most frequent token of one position."""
    return min(counts, key=lambda token: (-counts[token], token))
