"""A batch in parts that fit into memory: their gradients add up to those of the whole batch.

The loss of a batch is one mean over all its answer tokens, so a part counts by its share of them.
Pads change no state, so every part is cut to its own longest texts. B batch, A answer tokens.

Where several ranks train a run, each takes its samples of the batch first. Ranks whose layers are
sharded have to call them equally often, so all have the same number of parts.
"""

import math
from itertools import pairwise

from torch import Tensor

from fseed.models.prompt_answer import PromptAnswer
from fseed.training.distributed import ALONE, Ranks


def split_batch(
    batch: PromptAnswer, *, size: int | None, ranks: Ranks = ALONE
) -> list[tuple[PromptAnswer, float]]:
    """Return parts of at most ``size`` samples, in order, each with its weight in the loss.

    The weight is the share of the answer tokens of ``batch``, times the number of ranks: gradients
    of ranks are averaged. The whole batch, untouched, is the only part where ``size`` is None or
    large enough and there is one rank.
    """
    num_samples, num_ranks = batch.prompt.shape[0], ranks.world
    most = math.ceil(num_samples / num_ranks)
    num_parts = 1 if size is None else math.ceil(most / size)
    if num_ranks * num_parts == 1:
        return [(batch, 1.0)]
    own = cut(slice(0, num_samples), num_ranks)[ranks.rank]
    total = int(batch.answer_lengths.sum())
    parts: list[tuple[PromptAnswer, float]] = []
    for rows in cut(own, num_parts):
        if rows.start == rows.stop:  # this rank has a sample less than others: read one for nothing
            parts.append((parts[-1][0], 0.0))
            continue
        part = take_samples(batch, rows)
        parts.append((part, int(part.answer_lengths.sum()) / total * num_ranks))
    return parts


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


def cut(rows: slice, num_parts: int) -> list[slice]:
    """Return consecutive parts as equal as can be; where samples are too few the last are empty."""
    num_samples = rows.stop - rows.start
    if num_samples < num_parts:
        ends = [min(part, num_samples) for part in range(num_parts + 1)]
    else:
        ends = [math.ceil(num_samples * part / num_parts) for part in range(num_parts + 1)]
    return [slice(rows.start + start, rows.start + stop) for start, stop in pairwise(ends)]


def _cut_positions(batch: PromptAnswer, rows: slice, num_kept: int) -> Tensor | None:
    """Cut the positions [B, copies * A] to ``num_kept`` a copy; the pads of a copy stand last."""
    places = batch.mask_positions
    if places is None:
        return None
    copies = places[rows].unflatten(1, (-1, batch.answer.shape[1]))
    return copies[:, :, :num_kept].flatten(1)
