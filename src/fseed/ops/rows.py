"""Tokens picked out of padded texts, and put back: no token twice, so nothing is ever summed.

B batch, T tokens, E picked ones of every row. PyTorch's own derivatives add row by row, as if one
could come twice, and sort them first where a run has to be deterministic.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.row_kernels import take_all_rows


def flat_rows(positions: Int[Tensor, "B E"], *, num_tokens: int) -> Int[Tensor, " B*E"]:
    """Return where the tokens stand once batch and tokens are one axis."""
    starts = num_tokens * torch.arange(positions.shape[0], device=positions.device)
    return (positions + starts.unsqueeze(1)).flatten()


def take_rows(
    tensors: Sequence[Tensor], rows: Int[Tensor, " B*E"], *, backend: str
) -> tuple[Tensor, ...]:
    """Return the tokens ``rows`` of every tensor [B, T, ...] as [B, E, ...].

    The kernels take all tensors in one launch, for which they have one dtype and as many entries a
    token.
    """
    if backend not in KERNEL_BACKENDS:
        return tuple(_TakeRows.apply(x, rows) for x in tensors)
    parts = take_all_rows([x.flatten(2).contiguous() for x in tensors], rows)
    return tuple(p.unflatten(2, x.shape[2:]) for p, x in zip(parts, tensors, strict=True))


def put_rows(x: Tensor, rows: Int[Tensor, " B*E"], part: Tensor) -> Tensor:
    """Return x [B, T, ...] with ``part`` [B, E, ...] in place of its tokens ``rows``."""
    return x.flatten(0, 1).index_copy(0, rows, part.flatten(0, 1)).view_as(x)


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = x.shape
        return x.flatten(0, 1).index_select(0, rows).unflatten(0, (x.shape[0], -1))

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = gradients
        (rows,) = ctx.saved_tensors
        to_x = gradient.new_zeros(ctx.shape)
        to_x.flatten(0, 1).index_copy_(0, rows, gradient.flatten(0, 1))
        return to_x, None
