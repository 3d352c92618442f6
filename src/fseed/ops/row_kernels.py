"""``rows.py`` on a kernel: the tokens of several tensors in one launch, as custom operators."""

from typing import Any

import torch
from torch import Tensor


@torch.library.custom_op("fseed::take_all_rows", mutates_args=())
def take_all_rows(tensors: list[Tensor], rows: Tensor) -> list[Tensor]:
    """Return the tokens ``rows`` [B * E] of every tensor [B, T, ...] as [B, E, ...].

    Raises:
        ValueError: for tensors that the kernel does not read.
    """
    from fseed_kernels.neighbours import move_rows

    return move_rows.take(tensors, rows)


@take_all_rows.register_fake
def _(tensors, rows):
    first = tensors[0].shape[0]
    return [x.new_empty((first, rows.shape[0] // first, *x.shape[2:])) for x in tensors]


@torch.library.custom_op("fseed::put_all_rows", mutates_args=("tensors",))
def put_all_rows_(tensors: list[Tensor], rows: Tensor, parts: list[Tensor]) -> None:
    """Write every part [B, E, ...] over the tokens ``rows`` [B * E] of its tensor [B, T, ...].

    Raises:
        ValueError: for tensors that the kernel does not read.
    """
    from fseed_kernels.neighbours import move_rows

    move_rows.put_(tensors, rows, parts)


@put_all_rows_.register_fake
def _(tensors, rows, parts):
    return None


def _keep_rows(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    tensors, rows = inputs
    ctx.save_for_backward(rows)
    ctx.shape = tensors[0].shape


def _put_back(ctx: Any, gradients: list[Tensor | None]) -> tuple[list[Tensor], None]:
    (rows,) = ctx.saved_tensors
    like = next(gradient for gradient in gradients if gradient is not None)
    wholes = [like.new_zeros(ctx.shape) for _ in gradients]
    given = [
        (whole, gradient.contiguous())
        for whole, gradient in zip(wholes, gradients, strict=True)
        if gradient is not None
    ]
    put_all_rows_([whole for whole, _ in given], rows, [gradient for _, gradient in given])
    return wholes, None


take_all_rows.register_autograd(_put_back, setup_context=_keep_rows)
