"""Scoring of a whole split: teacher-forced per example, and free decoding where asked.

What was predicted is turned into score rows and metrics by ``tasks.scoring``, which knows no model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.config.schema import MbppConfig
from fseed.models.captured_decode import Decoder, build_decoder
from fseed.models.prompt_answer import PromptAnswer, read_prompt
from fseed.models.retrieval import contrastive_logits
from fseed.models.rwkv7 import RWKV7
from fseed.models.tokenizer import Tokenizer
from fseed.tasks.base import EncodedExample, Objective, ScoreRow, Task
from fseed.tasks.scoring import Prediction, add_items, pool_metrics, score_prediction
from fseed.training.answer_scores import (
    AnswerScores,
    next_token_losses,
    read_predictions,
    score_answers,
)
from fseed.training.batch_plan import evaluation_batches
from fseed.training.batches import collate
from fseed.training.distributed import ALONE, Ranks
from fseed.training.objectives import Learner
from fseed.training.sampling import noise_keys, sample_generators
from fseed.training.transfer import fetch, move_batch, one_behind


@dataclass(frozen=True)
class Evaluation:
    """Scores of one split after ``step`` optimiser steps: a row per example, and pooled metrics."""

    step: int
    split: str
    rows: list[ScoreRow]
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)  # name -> value, n

    @property
    def values(self) -> dict[str, float]:
        """Return metric name -> value."""
        return {name: metric["value"] for name, metric in self.metrics.items()}


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Everything that scoring needs besides the step."""

    learner: Learner
    task: Task
    tokenizer: Tokenizer
    examples: Sequence[EncodedExample]
    split: str
    batch_size: int
    repeat_prompt: bool
    max_answer_tokens: int
    scoring: MbppConfig
    seed: int  # of sampled answers and of noise
    autocast: Callable[[], AbstractContextManager[Any]]
    before_batch: Callable[[int, int], None]  # batch number, number of batches
    ranks: Ranks = ALONE
    # holds while scores are taken; where weights are sharded, ``learner`` has none outside of it
    weights: Callable[[], AbstractContextManager[Any]] = nullcontext
    decoder: Callable[[RWKV7], Decoder] = build_decoder  # for weights that stay as they are

    @torch.no_grad()
    def evaluate(self, *, step: int, with_generation: bool) -> Evaluation:
        """Score every example of the split once; the model's train/eval mode is irrelevant.

        The ranks of a run take turns with the batches, which are those of one device, and all
        return all rows.
        """
        with self.weights():
            if self.task.objective is Objective.retrieval:
                rows = self._rank_split()
            else:
                rows = self._score_split(with_generation=with_generation)
        rows = [row for part in self.ranks.gather(rows) for row in part]
        for row in rows:
            row.update(split=self.split, step=step)
        rows.sort(key=lambda row: row["example_id"])
        primary = self.task.metrics[self.task.primary_metric]
        add_items(primary, rows)
        check_rows(rows, is_scored=with_generation or not primary.is_generated, step=step)
        return Evaluation(step, self.split, rows, pool_metrics(self.task.metrics, rows))

    @torch.no_grad()
    def backbone_loss(self) -> float:
        """Return the mean next-token loss of the backbone without Future-Seed, in nats.

        Over the answers of the split; where the objective is another one, over the prompts.
        """
        total = num_tokens = 0.0
        with self.weights():
            for loss_sum, num_scored in one_behind(self._start_backbone_losses()):
                total += loss_sum
                num_tokens += num_scored
        totals, nums = zip(*self.ranks.gather((total, num_tokens)), strict=True)
        return sum(totals) / sum(nums)

    def _start_backbone_losses(self) -> Iterator[Callable[[], tuple[float, int]]]:
        """Start every batch of ``backbone_loss``; each call waits for a sum and its tokens."""
        for examples, batch in self._batches():
            if self.task.objective is Objective.answer:
                yield partial(_sum_losses, self._start_answers(examples, batch, seeded=False))
            else:
                with self.autocast():
                    losses = next_token_losses(self.learner.model, batch)
                num_scored = (batch.prompt_lengths - 1).sum()
                yield partial(_read_sum, fetch([losses.sum(), num_scored]))

    def _batches(self) -> Iterator[tuple[list[EncodedExample], PromptAnswer]]:
        groups = evaluation_batches(self.examples, batch_size=self.batch_size)
        device = self.learner.model.emb.weight.device
        for i, examples in enumerate(groups):
            if i % self.ranks.world != self.ranks.rank:
                continue
            self.before_batch(i, len(groups))
            keys = noise_keys(examples, seed=self.seed, occasion=self.split)
            batch = collate(examples, repeat_prompt=self.repeat_prompt)
            yield examples, move_batch(batch._replace(noise_keys=keys), device)

    def _score_split(self, *, with_generation: bool) -> list[ScoreRow]:
        texts: list[list[str]] = []
        scored: list[EncodedExample] = []
        generates = with_generation and self.task.score_generation is not None
        decoder = self.decoder(self.learner.model) if generates else None

        def start() -> Iterator[Callable[[], list[ScoreRow]]]:
            for examples, batch in self._batches():
                yield partial(self._read_rows, examples, self._start_answers(examples, batch))
                if decoder is not None:
                    texts.extend(self._generate(examples, batch, decoder))
                scored.extend(examples)

        rows = [row for part in one_behind(start()) for row in part]
        if texts and self.task.score_generation is not None:
            columns = self.task.score_generation(scored, texts, self.scoring)
            for row, found, answers in zip(rows, columns, texts, strict=True):
                row.update(found, prediction=answers[0])
        return rows

    def _read_rows(
        self, examples: Sequence[EncodedExample], predictions: Callable[[], list[Prediction]]
    ) -> list[ScoreRow]:
        return [
            score_prediction(self.task, example, prediction, tokenizer=self.tokenizer)
            for example, prediction in zip(examples, predictions(), strict=True)
        ]

    def _start_answers(
        self, examples: Sequence[EncodedExample], batch: PromptAnswer, *, seeded: bool = True
    ) -> Callable[[], list[Prediction]]:
        """Start to score the answers of a batch; the call that is returned waits for them."""
        model = self.learner.model
        with self.autocast():
            scores = score_answers(
                model.logits, self.learner.hidden(batch, seeded=seeded), batch,
                examples=examples, vocab_size=model.shape.vocab_size,
            )  # fmt: skip
        fetched = fetch(scores)
        return lambda: read_predictions(examples, AnswerScores(*fetched()))

    def _generate(
        self, examples: Sequence[EncodedExample], batch: PromptAnswer, decoder: Decoder
    ) -> list[list[str]]:
        """Return the texts of each example: the greedy one, then the sampled ones."""
        with self.autocast():
            last, state = read_prompt(
                self.learner.model, batch, future_seed=self.learner.future_seed
            )
            first = self.learner.model.logits(last)
            rounds = 1 + (self.scoring.num_samples if self.task.executes_code else 0)
            found = [
                decoder(
                    state, first,
                    max_new_tokens=self.max_answer_tokens, end_of_text=self.tokenizer.end_of_text,
                    temperature=self.scoring.temperature if sample else 0.0,
                    top_p=self.scoring.top_p,
                    generators=sample_generators(examples, seed=self.seed, sample=sample),
                )
                for sample in range(rounds)
            ]  # fmt: skip
        decode = self.tokenizer.decode
        # a program may begin with spaces that mean something
        clean = str.rstrip if self.task.executes_code else str.strip
        return [[clean(decode(ids)) for ids in samples] for samples in zip(*found, strict=True)]

    def _rank_split(self) -> list[ScoreRow]:
        """Rank the contexts of the whole split for every question, the right one among them."""
        scored: list[EncodedExample] = []
        embedded: list[tuple[Tensor, Tensor]] = []
        for examples, batch in self._batches():
            with self.autocast():
                embedded.append(self.learner.embed(batch))
            scored += examples
        questions, contexts = (torch.cat(parts) for parts in zip(*embedded, strict=True))
        return ranking_rows(scored, contrastive_logits(questions, contexts))


def check_rows(rows: Sequence[ScoreRow], *, is_scored: bool, step: int) -> None:
    """Refuse rows that would end in a wrong number.

    Raises:
        FloatingPointError: if a loss is not finite.
        RuntimeError: if ``is_scored`` and an example has no score.
    """
    num_broken = sum(not math.isfinite(row["loss_sum"]) for row in rows)
    if num_broken:
        raise FloatingPointError(f"the loss of {num_broken} examples is not finite at step {step}")
    unscored = [row for row in rows if row["score"] is None]
    if is_scored and unscored:
        reasons = sorted({str(row.get("outcome") or "no score") for row in unscored})
        raise RuntimeError(
            f"{len(unscored)} of {len(rows)} examples could not be scored at step {step} "
            f"({', '.join(reasons)}); the same command tries again"
        )


def _sum_losses(predictions: Callable[[], list[Prediction]]) -> tuple[float, int]:
    """Return the loss in nats of the answers of a batch, and how many tokens they have."""
    found = predictions()
    total = sum(float(prediction.loss_sum or 0.0) for prediction in found)
    return total, sum(len(prediction.token_ids) for prediction in found)


def _read_sum(fetched: Callable[[], list[Tensor]]) -> tuple[float, int]:
    total, num_tokens = fetched()
    return float(total), int(num_tokens)


def ranking_rows(examples: Sequence[EncodedExample], similarities: Tensor) -> list[ScoreRow]:
    """Return a row a question; ``similarities`` [N, N] to every context, its own on the diagonal.

    The rank counts from 1; a tie with another context counts against the right one.
    """
    right = similarities.diagonal().unsqueeze(1)
    # counted from behind, so that a NaN ranks last
    ranks = (len(examples) - (similarities < right).sum(1)).tolist()
    targets = torch.arange(len(examples), device=similarities.device)
    losses = F.cross_entropy(similarities, targets, reduction="none").tolist()
    return [
        {
            "example_id": example.example_id,
            "kind": example.kind,
            "num_units": 1,
            "num_correct": int(rank == 1),
            "num_correct_full": int(rank == 1),
            "num_answer_tokens": 0,
            "num_tokens_correct": 0,
            "end_of_text_correct": None,
            "loss_sum": loss,
            "num_tokens": 1,
            "gold": None,
            "predicted": None,
            "label_scores": None,
            "prediction": None,
            "rank": float(rank),
        }
        for example, rank, loss in zip(examples, ranks, losses, strict=True)
    ]
