"""Tokens of several tensors copied into shorter ones, or back over them, in one launch.

N tokens of all texts, E of them chosen, no token twice; C entries of a token.
"""

# a launch is typed as the kernel itself, without the options of the launch
# pyright: reportCallIssue=false

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.neighbours.launching import check_activation, on_device
from fseed_kernels.problem import check_tensor

MAX_TENSORS = 6  # r, decay_logit, k, v, alpha, beta


@triton.jit
def copy_row(
    whole_ptr, part_ptr, row, place, C: tl.constexpr, BLOCK: tl.constexpr, PUT: tl.constexpr
):
    """Copy one token, to the whole tensor with PUT and from it without."""
    column = tl.arange(0, BLOCK)
    whole = whole_ptr + row * C + column
    part = part_ptr + place * C + column
    if PUT:
        tl.store(whole, tl.load(part, mask=column < C), mask=column < C)
    else:
        tl.store(part, tl.load(whole, mask=column < C), mask=column < C)


@triton.jit
def copy_rows(
    whole0, whole1, whole2, whole3, whole4, whole5, part0, part1, part2, part3, part4, part5,
    rows_ptr, C: tl.constexpr, BLOCK: tl.constexpr, PUT: tl.constexpr,
):  # fmt: skip
    """One token of one tensor."""
    place = tl.program_id(0).to(tl.int64)
    row = tl.load(rows_ptr + place).to(tl.int64)
    tensor = tl.program_id(1)
    if tensor == 0:
        copy_row(whole0, part0, row, place, C, BLOCK, PUT)
    elif tensor == 1:
        copy_row(whole1, part1, row, place, C, BLOCK, PUT)
    elif tensor == 2:
        copy_row(whole2, part2, row, place, C, BLOCK, PUT)
    elif tensor == 3:
        copy_row(whole3, part3, row, place, C, BLOCK, PUT)
    elif tensor == 4:
        copy_row(whole4, part4, row, place, C, BLOCK, PUT)
    else:
        copy_row(whole5, part5, row, place, C, BLOCK, PUT)


def take(wholes: Sequence[Tensor], rows: Tensor) -> list[Tensor]:
    """Return the tokens ``rows`` [B * E] of every tensor [B, T, ...] as [B, E, ...].

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    batch_size, _, *sizes = wholes[0].shape
    size = (batch_size, len(rows) // batch_size, *sizes)
    parts = [whole.new_empty(size) for whole in wholes]
    _copy(wholes, parts, rows, put=False)
    return parts


def put_(wholes: Sequence[Tensor], rows: Tensor, parts: Sequence[Tensor]) -> None:
    """Write every part [B, E, ...] over the tokens ``rows`` [B * E] of its tensor [B, T, ...].

    Raises:
        ValueError: as in ``take``.
    """
    _copy(wholes, parts, rows, put=True)


def _copy(wholes: Sequence[Tensor], parts: Sequence[Tensor], rows: Tensor, *, put: bool) -> None:
    if not 1 <= len(wholes) <= MAX_TENSORS:
        raise ValueError(f"{len(wholes)} tensors; expected 1 to {MAX_TENSORS}")
    like = wholes[0]
    check_activation("tensors", like)
    batch_size, _, *sizes = like.shape
    part = (batch_size, len(rows) // batch_size, *sizes)
    check_tensor("rows", rows, shape=(part[0] * part[1],), like=like, dtype=torch.int64)
    for whole, piece in zip(wholes, parts, strict=True):
        check_tensor("tensors", whole, shape=tuple(like.shape), like=like, dtype=like.dtype)
        check_tensor("parts", piece, shape=part, like=like, dtype=like.dtype)
    spare = range(MAX_TENSORS - len(wholes))  # no program reads them
    c = like.shape[2:].numel()
    with on_device(like):
        copy_rows[(len(rows), len(wholes))](
            *(*wholes, *(like for _ in spare)), *(*parts, *(like for _ in spare)),
            rows, C=c, BLOCK=triton.next_power_of_2(c), PUT=put, num_warps=4,
        )  # fmt: skip
