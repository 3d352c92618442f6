"""Batches in few shapes, prepared on the host: padded to buckets, their targets listed, pinned.

A step that a CUDA graph does again has to have the shapes it was captured with, and reads nothing
back to the host. B batch, P prompt tokens, A answer tokens. Pads change no state and count in no
loss, so a bucket costs time and changes nothing but the order of sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.models.prompt_answer import PromptAnswer
from fseed.tasks.base import EncodedExample
from fseed.training.micro_batches import cut

NUM_BUCKETS = 8  # of the prompt; as many of the answer at most, which is rarely as long
GRAIN = 16  # tokens, what a kernel reads at least


@dataclass(frozen=True)
class Buckets:
    """The lengths that batches of a run are padded to: at most NUM_BUCKETS of each kind.

    They follow from the training examples alone, so that every arm reads the same shapes.
    """

    longest_prompt: int  # tokens, as they are read
    longest_answer: int

    @property
    def step(self) -> int:
        """Tokens from one length to the next."""
        longest = max(self.longest_prompt, self.longest_answer)
        return _up(ceil(longest / NUM_BUCKETS), GRAIN)

    def prompt(self, length: int) -> int:
        """Return the padded length of prompts of up to ``length`` tokens."""
        return min(_up(length, self.step), _up(self.longest_prompt, GRAIN))

    def answer(self, length: int) -> int:
        """Return the padded length of answers; all tokens but the last are read."""
        return 1 + min(_up(length - 1, self.step), _up(self.longest_answer - 1, GRAIN))


def find_buckets(examples: Sequence[EncodedExample], *, repeat_prompt: bool = False) -> Buckets:
    """Return the buckets of a training split; ``repeat_prompt`` as in ``collate``."""
    copies = 2 if repeat_prompt else 1
    is_question = not examples[0].has_end and not examples[0].mask_positions
    answer = max(len(example.answer_ids) for example in examples)
    return Buckets(
        longest_prompt=copies * max(len(example.prompt_ids) for example in examples),
        longest_answer=answer * (copies if is_question else 1),
    )


def pad_batch(batch: PromptAnswer, buckets: Buckets) -> PromptAnswer:
    """Return a collated batch in the shapes of ``buckets``, with rows, their targets and number.

    Every answer position is a row, those of pads without a target: as many in every batch of the
    same shape, and none twice.
    """
    num_answer = buckets.answer(batch.answer.shape[1])
    padded = batch._replace(
        prompt=_widen(batch.prompt, buckets.prompt(batch.prompt.shape[1])),
        answer=_widen(batch.answer, num_answer),
        mask_positions=_widen_positions(batch, num_answer),
    )
    return padded._replace(
        rows=torch.arange(padded.answer.numel()),
        row_targets=padded.answer.masked_fill(~padded.answer_mask, -1).flatten(),
        num_targets=padded.answer_lengths.sum().float(),
    )


def pin(batch: PromptAnswer) -> PromptAnswer:
    """Return the batch in memory from which a GPU copies by itself."""
    return map_tensors(batch, Tensor.pin_memory)


def map_tensors(batch: PromptAnswer, function) -> PromptAnswer:
    """Return ``batch`` with ``function`` of each of its tensors."""
    parts = batch._asdict().items()
    return batch._replace(**{k: function(v) for k, v in parts if isinstance(v, Tensor)})


def shape_key(batch: PromptAnswer) -> tuple[tuple[int, ...] | None, ...]:
    """Return what a captured step depends on: the shape of every tensor, None for those unset."""
    return tuple(tuple(x.shape) if isinstance(x, Tensor) else None for x in batch)


def static_parts(batch: PromptAnswer, *, size: int | None) -> list[PromptAnswer]:
    """Return parts of at most ``size`` samples of a padded batch, all of its lengths.

    Each divides its loss by the answer tokens of the whole batch, so that the parts add up.
    """
    num_samples, num_answer = batch.answer.shape
    num_parts = 1 if size is None else ceil(num_samples / size)
    if num_parts == 1:
        return [batch]
    return [_take(batch, rows, num_answer) for rows in cut(slice(0, num_samples), num_parts)]


def _take(batch: PromptAnswer, rows: slice, num_answer: int) -> PromptAnswer:
    assert batch.rows is not None
    assert batch.row_targets is not None
    targets = slice(rows.start * num_answer, rows.stop * num_answer)
    return PromptAnswer(
        prompt=batch.prompt[rows],
        prompt_lengths=batch.prompt_lengths[rows],
        answer=batch.answer[rows],
        answer_lengths=batch.answer_lengths[rows],
        mask_positions=None if batch.mask_positions is None else batch.mask_positions[rows],
        noise_keys=None if batch.noise_keys is None else batch.noise_keys[rows],
        # positions count from the first sample of the part
        rows=batch.rows[: targets.stop - targets.start],
        row_targets=batch.row_targets[targets],
        num_targets=batch.num_targets,
    )


def _up(length: int, step: int) -> int:
    return ceil(length / step) * step


def _widen(tokens: Tensor, width: int) -> Tensor:
    return F.pad(tokens, (0, width - tokens.shape[1]))


def _widen_positions(batch: PromptAnswer, width: int) -> Tensor | None:
    """Widen the positions [B, copies * A] of each copy; pads point at 0."""
    places = batch.mask_positions
    if places is None:
        return None
    copies = places.unflatten(1, (-1, batch.answer.shape[1]))
    return F.pad(copies, (0, width - copies.shape[2])).flatten(1)
