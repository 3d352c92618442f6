"""Cross-entropy of rows of logits, which their gradient overwrites.

    loss = log(sum exp(x)) - x[target]        dx = (softmax(x) - onehot(target)) * scale

N rows, V vocabulary; x [N, V]. A program owns a row and reads it twice: once for its maximum and
the sum of its exponentials, once to write the gradient. A row whose target is -1 does not count.
"""

# a launch is typed as the kernel itself, without the options of the launch
# pyright: reportCallIssue=false, reportArgumentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.neighbours.launching import check_activation, on_device
from fseed_kernels.problem import check_tensor

# one thread a lane: a 16-byte load of bf16, two of float32. Two programs then fill an SM with 2048
# threads, and the rows in work, 2 * 132 * 128 KiB = 33 MiB of bf16, fit an H100's 50 MB of L2
# cache, from where the second reading comes
LANES, WIDTH = 1024, 8
NUM_WARPS = LANES // 32
LOWEST = tl.constexpr(-3e38)  # finite: the difference of two empty lanes is 0, not NaN
SCALE_BLOCK = 4096  # of ``scale_``: 8 warps, four 16-byte loads of float32 per thread
SCALE_PROGRAMS = 1056  # eight on each of 132 SMs; where there is nothing to do they end at once


@triton.jit(do_not_specialize=["first_row"])
def cross_entropy_rows(
    x_ptr, targets_ptr, scale_ptr, losses_ptr, first_row, V,
    WITH_GRADIENT: tl.constexpr, LANES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """One row of x, row ``first_row`` and following of targets and losses."""
    place = first_row + tl.program_id(0)
    target = tl.load(targets_ptr + place)
    x_ptr += tl.program_id(0).to(tl.int64) * V
    offset = tl.arange(0, LANES)[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
    if target < 0:
        tl.store(losses_ptr + place, 0.0)
        if WITH_GRADIENT:
            for start in range(0, V, LANES * WIDTH):
                inside = start + offset < V
                tl.store(x_ptr + start + offset, tl.zeros((LANES, WIDTH), tl.float32), mask=inside)
    else:
        # the loss of a target beyond the vocabulary is NaN; nothing is read there
        x_target = tl.load(x_ptr + target, mask=target < V, other=float("nan")).to(tl.float32)
        # every lane has its own maximum and sum of exp(x - maximum): no thread waits for another
        highest = tl.full((LANES,), LOWEST, tl.float32)
        total = tl.zeros((LANES,), tl.float32)
        for start in range(0, V, LANES * WIDTH):
            inside = start + offset < V
            x = tl.load(x_ptr + start + offset, mask=inside, other=float("-inf")).to(tl.float32)
            higher = tl.maximum(highest, tl.max(x, 1))
            total = total * tl.exp(highest - higher) + tl.sum(tl.exp(x - higher[:, None]), 1)
            highest = higher
        top = tl.max(highest, 0)
        whole = tl.sum(total * tl.exp(highest - top), 0)
        tl.store(losses_ptr + place, tl.log(whole) + (top - x_target))
        if WITH_GRADIENT:
            scale = tl.load(scale_ptr).to(tl.float32)
            share = scale / whole
            for start in range(0, V, LANES * WIDTH):
                column = start + offset
                x = tl.load(x_ptr + column, mask=column < V, other=float("-inf")).to(tl.float32)
                # softmax(x) - onehot, each times scale
                dx = tl.exp(x - top) * share - tl.where(column == target, scale, 0.0)
                tl.store(x_ptr + column, dx, mask=column < V)


@triton.jit(do_not_specialize=["num_blocks"])
def scale_in_place(x_ptr, factor_ptr, size, num_blocks, BLOCK: tl.constexpr):
    """``num_blocks`` blocks of entries; a factor of 1 touches none of them."""
    factor = tl.load(factor_ptr).to(tl.float32)
    if factor != 1.0:
        first = tl.program_id(0).to(tl.int64) * num_blocks * BLOCK
        for block in range(num_blocks):
            entry = first + block * BLOCK + tl.arange(0, BLOCK)
            x = tl.load(x_ptr + entry, mask=entry < size, other=0.0).to(tl.float32)
            tl.store(x_ptr + entry, x * factor, mask=entry < size)


def cross_entropy_(
    x: Tensor, targets: Tensor, scale: Tensor, losses: Tensor,
    *, first_row: int, with_gradient: bool,
) -> None:  # fmt: skip
    """Write the losses of the rows of x; with ``with_gradient``, the gradient over x.

    Args:
        x: logits [n, V] contiguous, bfloat16 or float32.
        targets: [N] int64, N >= first_row + n; below 0: loss 0, gradient 0.
        scale: float32 on the device, one number: what every gradient is multiplied with.
        losses: [N] float32; entries first_row .. first_row + n - 1 are written, without scale.
        first_row: the row of targets and losses that the first row of x is.
        with_gradient: False leaves x as it is.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    check_activation("x", x)
    if x.ndim != 2 or targets.ndim != 1 or first_row + x.shape[0] > targets.shape[0]:
        shapes = f"{tuple(x.shape)} and {tuple(targets.shape)}"
        raise ValueError(f"x and targets have shapes {shapes} from row {first_row}; [n, V], [N]")
    check_tensor("targets", targets, shape=tuple(targets.shape), like=x, dtype=torch.int64)
    check_tensor("losses", losses, shape=tuple(targets.shape), like=x, dtype=torch.float32)
    check_tensor("scale", scale, shape=(), like=x, dtype=torch.float32)
    with on_device(x):
        cross_entropy_rows[(x.shape[0],)](
            *(x, targets, scale, losses, first_row, x.shape[1]),
            WITH_GRADIENT=with_gradient,
            LANES=LANES,
            WIDTH=WIDTH,
            num_warps=NUM_WARPS,
        )


def scale_(x: Tensor, factor: Tensor) -> None:
    """Multiply x in place by one number on the device; by 1 at no cost, unseen by the host.

    Raises:
        ValueError: if x is neither bfloat16 nor float32, or not contiguous.
    """
    check_activation("x", x)
    check_tensor("factor", factor, shape=(), like=x, dtype=torch.float32)
    blocks = triton.cdiv(x.numel(), SCALE_BLOCK)
    each = triton.cdiv(blocks, SCALE_PROGRAMS)
    with on_device(x):
        scale_in_place[(triton.cdiv(blocks, each),)](
            *(x, factor, x.numel(), each), BLOCK=SCALE_BLOCK, num_warps=8
        )
