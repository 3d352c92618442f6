"""A batch in parts that fit into memory: their gradients add up to those of the whole batch.

The loss of a batch is one mean over all its answer tokens, so a part counts by its share of them.
Pads change no state, so every part is cut to its own longest texts. B batch, A answer tokens.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor

from fseed.models.prompt_answer import PromptAnswer


def split_batch(batch: PromptAnswer, *, size: int | None) -> list[tuple[PromptAnswer, float]]:
    """Return parts of at most ``size`` samples, in order, each with its share of answer tokens.

    The whole batch, untouched, is the only part where ``size`` is None or large enough.
    """
    num_samples = batch.prompt.shape[0]
    if size is None or size >= num_samples:
        return [(batch, 1.0)]
    total = int(batch.answer_lengths.sum())
    parts = [take_samples(batch, rows) for rows in _rows(num_samples, size)]
    return [(part, int(part.answer_lengths.sum()) / total) for part in parts]


def take_samples(batch: PromptAnswer, rows: slice) -> PromptAnswer:
    """Return the samples of ``rows`` without the pads that only the others need."""
    prompt_lengths, answer_lengths = batch.prompt_lengths[rows], batch.answer_lengths[rows]
    longest_answer = int(answer_lengths.max())
    return PromptAnswer(
        prompt=batch.prompt[rows, : int(prompt_lengths.max())],
        prompt_lengths=prompt_lengths,
        answer=batch.answer[rows, :longest_answer],
        answer_lengths=answer_lengths,
        mask_positions=_cut_positions(batch, rows, longest_answer),
        noise_keys=None if batch.noise_keys is None else batch.noise_keys[rows],
    )


def _rows(num_samples: int, size: int) -> Iterator[slice]:
    """Yield as few parts as ``size`` allows, as equal as can be."""
    num_parts = math.ceil(num_samples / size)
    bounds = [math.ceil(num_samples * part / num_parts) for part in range(num_parts + 1)]
    return (slice(start, stop) for start, stop in pairwise(bounds))


def _cut_positions(batch: PromptAnswer, rows: slice, num_kept: int) -> Tensor | None:
    """Cut the positions [B, copies * A] to ``num_kept`` a copy; the pads of a copy stand last."""
    places = batch.mask_positions
    if places is None:
        return None
    copies = places[rows].unflatten(1, (-1, batch.answer.shape[1]))
    return copies[:, :, :num_kept].flatten(1)
