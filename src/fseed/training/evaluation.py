"""Scoring of a whole split: teacher-forced per example, and greedy decoding where asked.

Metrics are pooled over the split: token_accuracy and loss are sums over tokens divided by counts.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.models.future_seed import FutureSeed
from fseed.models.generation import generate
from fseed.models.prompt_answer import PromptAnswer, answer_hidden, read_prompt
from fseed.models.rwkv7 import RWKV7
from fseed.models.tokenizer import Tokenizer
from fseed.tasks.base import EncodedExample, Task
from fseed.training.batches import collate, evaluation_batches

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split after ``step`` optimiser steps: a row per example, and pooled metrics."""

    step: int
    split: str
    rows: list[Row]
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # name -> value, n

    @property
    def values(self) -> dict[str, float]:
        """Return metric name -> value."""
        return {name: metric["value"] for name, metric in self.metrics.items()}


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Everything that scoring needs besides the step."""

    model: RWKV7
    future_seed: FutureSeed | None
    task: Task
    tokenizer: Tokenizer
    examples: Sequence[EncodedExample]
    split: str
    batch_size: int
    repeat_prompt: bool
    max_answer_tokens: int
    autocast: Callable[[], AbstractContextManager[Any]]
    before_batch: Callable[[int, int], None]  # batch number, number of batches

    @torch.no_grad()
    def evaluate(self, *, step: int, with_generation: bool) -> Evaluation:
        """Score every example of the split once; the model's train/eval mode is irrelevant."""
        batches = evaluation_batches(self.examples, batch_size=self.batch_size)
        rows: list[Row] = []
        for i, examples in enumerate(batches):
            self.before_batch(i, len(batches))
            rows += self._score_batch(examples, with_generation=with_generation)
        for row in rows:
            row.update(split=self.split, step=step)
        rows.sort(key=lambda row: row["example_id"])
        return Evaluation(step, self.split, rows, pool_metrics(rows))

    def _score_batch(
        self, examples: Sequence[EncodedExample], *, with_generation: bool
    ) -> list[Row]:
        device = self.model.emb.weight.device
        batch = PromptAnswer(
            *(t.to(device) for t in collate(examples, repeat_prompt=self.repeat_prompt))
        )
        with self.autocast():
            logits = self.model.logits(
                answer_hidden(self.model, batch, future_seed=self.future_seed)
            )
        rows = teacher_forced_rows(examples, batch, logits.float())
        predictions = self._generate(batch) if with_generation else [None] * len(examples)
        for row, example, prediction in zip(rows, examples, predictions, strict=True):
            row["prediction"] = prediction
            scores = dict.fromkeys(self.task.generation_metrics)
            if prediction is not None:
                scores |= self.task.score_generation(prediction, example.answers)
            row.update(scores)
        return rows

    def _generate(self, batch: PromptAnswer) -> list[str]:
        with self.autocast():
            last, state = read_prompt(self.model, batch, future_seed=self.future_seed)
            generated = generate(
                self.model, state, self.model.logits(last),
                max_new_tokens=self.max_answer_tokens, end_of_text=self.tokenizer.end_of_text,
            )  # fmt: skip
        return [self.tokenizer.decode(ids).strip() for ids in generated]


def teacher_forced_rows(
    examples: Sequence[EncodedExample], batch: PromptAnswer, logits: Tensor
) -> list[Row]:
    """Count per example: right answer tokens, right end-of-text, summed loss in nats.

    ``logits`` [B, A, vocab] predict ``batch.answer``; the end-of-text token is the last true one.
    """
    mask = batch.answer_mask
    nll = F.cross_entropy(logits.flatten(0, 1), batch.answer.flatten(), reduction="none")
    loss_sums = (nll.view_as(batch.answer).double() * mask).sum(1).tolist()
    right = (logits.argmax(-1) == batch.answer) & mask
    ends = batch.answer_lengths - 1
    end_right = right[torch.arange(len(examples), device=right.device), ends]
    num_right = (right.sum(1) - end_right.long()).tolist()
    return [
        {
            "example_id": example.example_id,
            "kind": example.kind,
            "num_units": len(example.answer_ids) - 1,
            "num_correct": num_right[i],
            "end_of_text_correct": float(end_right[i]),
            "loss_sum": loss_sums[i],
            "num_tokens": len(example.answer_ids),
        }
        for i, example in enumerate(examples)
    ]


POOLED_KEYS = {
    "example_id", "kind", "split", "step", "prediction",
    "num_units", "num_correct", "loss_sum", "num_tokens",
}  # fmt: skip


def pool_metrics(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Pool the rows of one evaluation: every metric with the count it stands on, also by kind."""
    metrics = _pool(rows)
    metrics["loss"] = _ratio(rows, "loss_sum", "num_tokens")
    for kind in sorted({row["kind"] for row in rows}):
        part = _pool([row for row in rows if row["kind"] == kind])
        metrics |= {f"{name}_{kind}": value for name, value in part.items()}
    return metrics


def _pool(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    metrics = {"token_accuracy": _ratio(rows, "num_correct", "num_units")}
    for name in sorted(rows[0].keys() - POOLED_KEYS):
        scores = [row[name] for row in rows if row[name] is not None]
        if scores:
            short = "end_of_text_accuracy" if name == "end_of_text_correct" else name
            metrics[short] = {"value": sum(scores) / len(scores), "n": len(scores)}
    return metrics


def _ratio(rows: Iterable[Row], numerator: str, denominator: str) -> dict[str, float]:
    total = sum(row[denominator] for row in rows)
    return {"value": sum(row[numerator] for row in rows) / total, "n": total}
