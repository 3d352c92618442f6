"""The layout that chunked WKV7 computes in: [num_chunks * B * H, C, D], one matrix per chunk.

B batch, T tokens, H heads, C tokens a chunk, D features, G = num_chunks * B * H.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Pads(NamedTuple):
    """Which tokens are pads, from the first chunk on that has any."""

    first_chunk: int
    mask: Bool[Tensor, "chunks B 1 C 1"]


def find_pads(lengths: Tensor | None, *, num_tokens: int, size: int) -> Pads | None:
    """Return the pads of right-padded rows; None where there are none."""
    if lengths is None:
        return None
    # asking a GPU for its lengths would wait for it
    shortest = 0 if lengths.is_cuda else int(lengths.min())
    if shortest >= num_tokens:
        return None
    first = shortest // size
    places = torch.arange(first * size, padded_tokens(num_tokens, size), device=lengths.device)
    mask = places.view(-1, 1, size) >= lengths.view(1, -1, 1)
    return Pads(first, mask[:, :, None, :, None])


def zero_pads(rows: Float[Tensor, "G C D"], pads: Pads | None, *, num_heads: int) -> None:
    """Write zeros over the pads, in place."""
    if pads is not None:
        batch_size = pads.mask.shape[1]
        by_chunk = rows.unflatten(0, (-1, batch_size, num_heads))
        by_chunk[pads.first_chunk :].masked_fill_(pads.mask, 0.0)


def padded_tokens(num_tokens: int, size: int) -> int:
    """Round up to whole chunks."""
    return num_tokens + -num_tokens % size


def to_chunks(x: Float[Tensor, "B T H D"], rows: Float[Tensor, "G C D"]) -> None:
    """Copy x into ``rows``; zeros behind its end are identities on the state."""
    batch_size, num_tokens, num_heads, _ = x.shape
    size = rows.shape[1]
    by_chunk = rows.unflatten(0, (-1, batch_size, num_heads))
    whole, rest = divmod(num_tokens, size)
    if whole > 0:
        chunks = x[:, : whole * size].unflatten(1, (whole, size))
        by_chunk[:whole] = chunks.permute(1, 0, 3, 2, 4)
    if rest > 0:
        by_chunk[whole, :, :, :rest] = x[:, whole * size :].transpose(1, 2)
        by_chunk[whole, :, :, rest:] = 0.0


def from_chunks(
    rows: Float[Tensor, "G C D"], *, like: Float[Tensor, "B T H E"]
) -> Float[Tensor, "B T H D"]:
    """Undo ``to_chunks``; batch, tokens and heads are those of ``like``."""
    batch_size, num_tokens, num_heads, _ = like.shape
    size = rows.shape[1]
    x = rows.new_empty(batch_size, num_tokens, num_heads, rows.shape[-1])
    by_chunk = rows.unflatten(0, (-1, batch_size, num_heads))
    whole, rest = divmod(num_tokens, size)
    if whole > 0:
        chunks = x[:, : whole * size].unflatten(1, (whole, size))
        chunks.permute(1, 0, 3, 2, 4).copy_(by_chunk[:whole])
    if rest > 0:
        x[:, whole * size :] = by_chunk[whole, :, :, :rest].transpose(1, 2)
    return x
