"""Tokens picked out of padded texts, and put back: no token twice, so nothing is ever summed.

B batch, T tokens, E picked ones of every row.
"""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.autograd.function import once_differentiable


def flat_rows(positions: Int[Tensor, "B E"], *, num_tokens: int) -> Int[Tensor, " B*E"]:
    """Return where the tokens stand once batch and tokens are one axis."""
    starts = num_tokens * torch.arange(positions.shape[0], device=positions.device)
    return (positions + starts.unsqueeze(1)).flatten()


def take_rows(x: Tensor, rows: Int[Tensor, " B*E"]) -> Tensor:
    """Return the tokens ``rows`` of x [B, T, ...] as [B, E, ...]."""
    return _TakeRows.apply(x, rows)


def put_rows(x: Tensor, rows: Int[Tensor, " B*E"], part: Tensor) -> Tensor:
    """Return x [B, T, ...] with ``part`` [B, E, ...] in place of its tokens ``rows``."""
    return x.flatten(0, 1).index_copy(0, rows, part.flatten(0, 1)).view_as(x)


def put_rows_(x: Tensor, rows: Int[Tensor, " B*E"], part: Tensor) -> None:
    """Write ``part`` [B, E, ...] over the tokens ``rows`` of x [B, T, ...], which is contiguous."""
    x.view(-1, *x.shape[2:]).index_copy_(0, rows, part.flatten(0, 1))


class _TakeRows(torch.autograd.Function):
    """PyTorch's own derivative adds row by row, as if one could come twice."""

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
        put_rows_(to_x, rows, gradient)
        return to_x, None
