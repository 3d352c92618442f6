"""``rows.py`` on a kernel: the tokens of several tensors in one launch, as custom operators."""

import torch
from torch import Tensor


@torch.library.custom_op("fseed::take_rows", mutates_args=())
def take_all_rows(tensors: list[Tensor], rows: Tensor) -> list[Tensor]:
    """Return the tokens ``rows`` [B * E] of every tensor [B, T, ...] as [B, E, ...]."""
    from fseed_kernels.neighbours import move_rows

    return move_rows.take(tensors, rows)


@take_all_rows.register_fake
def _(tensors, rows):
    first = tensors[0].shape[0]
    return [x.new_empty((first, rows.shape[0] // first, *x.shape[2:])) for x in tensors]


@torch.library.custom_op("fseed::put_rows", mutates_args=("tensors",))
def put_all_rows_(tensors: list[Tensor], rows: Tensor, parts: list[Tensor]) -> None:
    """Write every part [B, E, ...] over the tokens ``rows`` [B * E] of its tensor [B, T, ...]."""
    from fseed_kernels.neighbours import move_rows

    move_rows.put_(tensors, rows, parts)


@put_all_rows_.register_fake
def _(tensors, rows, parts):
    return None
