"""Deterministic batches: what a step reads depends on (seed, step) alone, for every arm alike."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from fseed.errors import UserError
from fseed.models.prompt_answer import PromptAnswer
from fseed.tasks.base import EncodedExample

BUCKET_BATCHES = 8  # batches sorted by length together: few pads, still nearly random batches


class StepKeyedBatches:
    """Batch of every optimiser step; iterates from ``start_step`` without an end.

    One epoch visits every example once (a rest smaller than a batch is left out, another one
    each epoch). In a window of ``BUCKET_BATCHES`` batches, similar lengths stand together.

    Raises:
        UserError: if there are fewer examples than one batch holds.
    """

    def __init__(
        self,
        examples: Sequence[EncodedExample],
        *,
        seed: int,
        batch_size: int,
        repeat_prompt: bool = False,
        start_step: int = 0,
    ) -> None:
        """Store the examples; nothing is collated before it is asked for."""
        if len(examples) < batch_size:
            raise UserError(
                f"budget.batch_size={batch_size} needs as many training examples, "
                f"found {len(examples)}; lower budget.batch_size or raise data.num_train"
            )
        self.examples, self.seed, self.batch_size = examples, seed, batch_size
        self.repeat_prompt, self.start_step = repeat_prompt, start_step
        self.steps_per_epoch = len(examples) // batch_size
        self._epoch, self._batches = -1, np.empty(0, dtype=np.int64)

    def indices(self, step: int) -> np.ndarray:
        """Return the example numbers of one step, [batch_size]."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._plan_epoch(epoch)
        return self._batches[position]

    def tokens(self, step: int) -> int:
        """Count prompt and answer tokens of one step, without pads and without repetition."""
        chosen = (self.examples[i] for i in self.indices(step))
        return sum(len(e.prompt_ids) + len(e.answer_ids) for e in chosen)

    def __iter__(self) -> Iterator[PromptAnswer]:
        """Yield the batches from ``start_step`` on."""
        step = self.start_step
        while True:
            chosen = [self.examples[i] for i in self.indices(step)]
            yield collate(chosen, repeat_prompt=self.repeat_prompt)
            step += 1

    def _plan_epoch(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.examples))[: self.steps_per_epoch * self.batch_size]
        lengths = np.array([len(self.examples[i].prompt_ids) for i in order])
        window = BUCKET_BATCHES * self.batch_size
        for start in range(0, len(order), window):
            part = slice(start, start + window)
            order[part] = order[part][np.argsort(lengths[part], kind="stable")]
        return generator.permutation(order.reshape(-1, self.batch_size), axis=0)


def steps_for_tokens(batches: StepKeyedBatches, *, tokens: int) -> int:
    """Return the fewest steps whose batches hold at least ``tokens`` tokens."""
    steps, seen = 0, 0
    while seen < tokens:
        seen += batches.tokens(steps)
        steps += 1
    return steps


def evaluation_batches(
    examples: Sequence[EncodedExample], *, batch_size: int
) -> list[list[EncodedExample]]:
    """Split a whole split into batches of similar length, none of a single example if avoidable."""
    ordered = sorted(examples, key=lambda e: (len(e.prompt_ids), e.example_id))
    num_batches = -(-len(ordered) // batch_size)
    parts = np.array_split(np.arange(len(ordered)), num_batches)
    return [[ordered[i] for i in part] for part in parts]


def collate(examples: Sequence[EncodedExample], *, repeat_prompt: bool = False) -> PromptAnswer:
    """Pad prompts and answers on the right; ``repeat_prompt`` writes every prompt twice."""
    prompts = [list(e.prompt_ids) * (2 if repeat_prompt else 1) for e in examples]
    prompt, prompt_lengths = _pad(prompts)
    answer, answer_lengths = _pad([e.answer_ids for e in examples])
    return PromptAnswer(prompt, prompt_lengths, answer, answer_lengths)


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row)
    return padded, lengths
