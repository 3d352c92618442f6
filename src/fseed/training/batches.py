"""Batches as tensors: the planned examples of a step, padded on the right.

On a GPU they are made ready on the host, in a thread of its own, see ``static_batch.py``.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fseed.models.prompt_answer import PromptAnswer
from fseed.tasks.base import EncodedExample
from fseed.training.batch_plan import BatchPlan
from fseed.training.sampling import noise_keys


class StepKeyedBatches:
    """Batch of every optimiser step; iterates from ``start_step`` without an end."""

    def __init__(
        self,
        plan: BatchPlan,
        *,
        repeat_prompt: bool = False,
        prepare: Callable[[PromptAnswer], PromptAnswer] | None = None,
    ) -> None:
        """Store the plan; nothing is collated before it is asked for, and then ``prepare``d."""
        self.plan, self.repeat_prompt, self.start_step = plan, repeat_prompt, 0
        self.prepare = prepare

    def __iter__(self) -> Iterator[PromptAnswer]:
        """Yield the batches from ``start_step`` on."""
        step = self.start_step
        while True:
            examples = self.plan.chosen(step)
            keys = noise_keys(examples, seed=self.plan.seed, occasion=f"step {step}")
            batch = collate(examples, repeat_prompt=self.repeat_prompt)._replace(noise_keys=keys)
            yield batch if self.prepare is None else self.prepare(batch)
            step += 1


def collate(examples: Sequence[EncodedExample], *, repeat_prompt: bool = False) -> PromptAnswer:
    """Pad prompts and answers on the right; ``repeat_prompt`` writes what is read twice.

    That is every prompt, and in retrieval the question too. In-place fills are masked in both
    copies and predicted in the second.
    """
    copies = 2 if repeat_prompt else 1
    prompt, prompt_lengths = _pad([list(e.prompt_ids) * copies for e in examples])
    is_question = not examples[0].has_end and not examples[0].mask_positions
    answer, answer_lengths = _pad(
        [list(e.answer_ids) * (copies if is_question else 1) for e in examples]
    )
    if not examples[0].mask_positions:
        return PromptAnswer(prompt, prompt_lengths, answer, answer_lengths)
    places = [
        _pad([[copy * len(e.prompt_ids) + place for place in e.mask_positions] for e in examples])
        for copy in range(copies)
    ]
    masked = torch.cat([padded for padded, _ in places], dim=1)
    return PromptAnswer(prompt, prompt_lengths, answer, answer_lengths, masked)


def _pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row)
    return padded, lengths
