"""Batches as tensors: the planned examples of a step, padded on the right."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from fseed.models.prompt_answer import PromptAnswer
from fseed.tasks.base import EncodedExample
from fseed.training.batch_plan import BatchPlan


class StepKeyedBatches:
    """Batch of every optimiser step; iterates from ``start_step`` without an end."""

    def __init__(self, plan: BatchPlan, *, repeat_prompt: bool = False) -> None:
        """Store the plan; nothing is collated before it is asked for."""
        self.plan, self.repeat_prompt, self.start_step = plan, repeat_prompt, 0

    def __iter__(self) -> Iterator[PromptAnswer]:
        """Yield the batches from ``start_step`` on."""
        step = self.start_step
        while True:
            yield collate(self.plan.chosen(step), repeat_prompt=self.repeat_prompt)
            step += 1


def collate(examples: Sequence[EncodedExample], *, repeat_prompt: bool = False) -> PromptAnswer:
    """Pad prompts and answers on the right; ``repeat_prompt`` writes every prompt twice.

    The masked positions of in-place fills are then those of the second copy.
    """
    copies = 2 if repeat_prompt else 1
    prompt, prompt_lengths = _pad([list(e.prompt_ids) * copies for e in examples])
    answer, answer_lengths = _pad([e.answer_ids for e in examples])
    if not examples[0].mask_positions:
        return PromptAnswer(prompt, prompt_lengths, answer, answer_lengths)
    shifts = [(copies - 1) * len(e.prompt_ids) for e in examples]
    places, _ = _pad(
        [[s + place for place in e.mask_positions] for e, s in zip(examples, shifts, strict=True)]
    )
    return PromptAnswer(prompt, prompt_lengths, answer, answer_lengths, places)


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row)
    return padded, lengths
