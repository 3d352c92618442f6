"""Gradient of an embedding table: for every token id, the sum of the gradients of its occurrences.

    dweight[v] = sum of dout[i] over all i with tokens[i] = v

N tokens, V vocabulary, C width. The tokens are sorted, so those of one id stand in a row, in the
order of the text; the sums have this order and are the same at every run. Long runs (a pad, a
line break) are summed in two steps: aligned runs of RUN places that hold one id alone first, by
programs of their own. Every row of dweight is written once, the zeros of absent ids with it.
"""

# a launch is typed as the kernel itself, without the options of the launch
# pyright: reportCallIssue=false, reportArgumentType=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.neighbours.launching import check_activation, on_device
from fseed_kernels.problem import check_tensor

RUN = 64  # places: a text of 32,768 tokens that are all alike then takes 512 sums of 64
TILE = 4  # rows that are loaded at once: 32 float32 entries per thread
IDS_PER_PROGRAM = 4  # most ids of a vocabulary are absent, and their rows only zeros


@triton.jit
def sum_rows(
    acc, rows_ptr, order_ptr, first, end, column,
    C: tl.constexpr, TILE: tl.constexpr, ORDERED: tl.constexpr,
):  # fmt: skip
    """Add rows first .. end - 1 to acc [TILE, BLOCK]; with ORDERED, the rows that stand there."""
    for start in range(first, end, TILE):
        place = start + tl.arange(0, TILE)
        row = tl.load(order_ptr + place, mask=place < end, other=0) if ORDERED else place
        entry = row.to(tl.int64)[:, None] * C + column[None, :]
        inside = (place < end)[:, None] & (column < C)[None, :]
        acc += tl.load(rows_ptr + entry, mask=inside, other=0.0).to(tl.float32)
    return acc


@triton.jit(do_not_specialize=["num_tokens"])
def sum_runs(
    sorted_ptr, order_ptr, dout_ptr, sums_ptr, num_tokens,
    C: tl.constexpr, BLOCK: tl.constexpr, RUN: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The sum of one aligned run of places, if all hold one id; else nobody reads it."""
    first = tl.program_id(0) * RUN
    end = first + RUN
    last = tl.load(sorted_ptr + tl.minimum(end, num_tokens) - 1)
    if (end <= num_tokens) & (tl.load(sorted_ptr + first) == last):
        column = tl.arange(0, BLOCK)
        acc = tl.zeros((TILE, BLOCK), tl.float32)
        acc = sum_rows(acc, dout_ptr, order_ptr, first, end, column, C, TILE, True)
        sums_ptr += tl.program_id(0).to(tl.int64) * C
        tl.store(sums_ptr + column, tl.sum(acc, 0), mask=column < C)


@triton.jit(do_not_specialize=["num_ids"])
def sum_ids(
    starts_ptr, order_ptr, dout_ptr, sums_ptr, dweight_ptr, num_ids,
    C: tl.constexpr, BLOCK: tl.constexpr, RUN: tl.constexpr, TILE: tl.constexpr,
    IDS: tl.constexpr,
):  # fmt: skip
    """IDS rows of dweight; the places of id v are starts[v] .. starts[v + 1] - 1."""
    column = tl.arange(0, BLOCK)
    for i in range(IDS):
        token = tl.program_id(0) * IDS + i
        if token < num_ids:
            first = tl.load(starts_ptr + token)
            end = tl.load(starts_ptr + token + 1)
            # whole runs within first .. end - 1, and what stands before and behind them
            first_run = (first + RUN - 1) // RUN
            end_run = tl.maximum(end // RUN, first_run)
            before = tl.minimum(first_run * RUN, end)
            behind = tl.maximum(end_run * RUN, before)
            acc = tl.zeros((TILE, BLOCK), tl.float32)
            acc = sum_rows(acc, dout_ptr, order_ptr, first, before, column, C, TILE, True)
            acc = sum_rows(acc, sums_ptr, order_ptr, first_run, end_run, column, C, TILE, False)
            acc = sum_rows(acc, dout_ptr, order_ptr, behind, end, column, C, TILE, True)
            row = dweight_ptr + token.to(tl.int64) * C
            tl.store(row + column, tl.sum(acc, 0), mask=column < C)


def backward(tokens: Tensor, dout: Tensor, *, num_ids: int) -> Tensor:
    """Return dweight [V, C] float32.

    Args:
        tokens: [N] int64 or int32, each at least 0 and below ``num_ids``.
        dout: [N, C] contiguous, bfloat16 or float32; sums are float32.
        num_ids: V.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    check_activation("dout", dout)
    if dout.ndim != 2:
        raise ValueError(f"dout has shape {tuple(dout.shape)}; expected [N, C]")
    n, c = dout.shape
    check_tensor("tokens", tokens, shape=(n,), like=dout, dtype=tokens.dtype)
    # stable: the places of one id keep the order of the text
    ordered, order = tokens.to(torch.int32).sort(stable=True)
    ids = torch.arange(num_ids + 1, dtype=torch.int32, device=dout.device)
    starts = torch.searchsorted(ordered, ids, out_int32=True)
    runs = triton.cdiv(n, RUN)
    sums = torch.empty((runs, c), device=dout.device, dtype=torch.float32)
    dweight = torch.empty((num_ids, c), device=dout.device, dtype=torch.float32)
    sizes = _sizes(c)
    with on_device(dout):
        sum_runs[(runs,)](ordered, order, dout, sums, n, **sizes)
        sum_ids[(triton.cdiv(num_ids, IDS_PER_PROGRAM),)](
            *(starts, order, dout, sums, dweight, num_ids), IDS=IDS_PER_PROGRAM, **sizes
        )
    return dweight


def _sizes(c: int) -> dict[str, int]:
    """8 columns of each of TILE rows per thread: 4 warps for C = 768."""
    block = triton.next_power_of_2(c)
    num_warps = max(1, min(16, block // 256))
    return {"C": c, "BLOCK": block, "RUN": RUN, "TILE": TILE, "num_warps": num_warps}
