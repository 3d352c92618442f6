"""WKV7 backward, first phase: the gradients of the state at the end of every chunk, in reverse.

One program holds BLOCK rows of dS [V, K] of one head and walks the chunks backwards:

    E = dS diag(G) (written)          dS <- E + dS P^T + dy^T Q

P, Q and G are those of the forward pass; E is what backward_values and backward_keys read. dS
starts as the gradient of the final state and ends as that of the initial state; the epilogue sums
the gradient of the Future-Seed gate over 16 rows each (carried.py).

E has one [D, D] per head and chunk, or lies in tokens [B, T, H, D], value v of a chunk as token v
(C = D, no pads): there it can take the memory of an output of backward_keys.

Grid (D / BLOCK, B * H). A chunk without a true token is never read; dy counts as 0 on pads.
"""

# triton's decorator hides that plain values are constexprs, and the keywords of a launch
# pyright: reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.problem import Carried, Saved
from fseed_kernels.wkv7_triton import sizes
from fseed_kernels.wkv7_triton.carried import carried_arguments, load_normed, store_row_sums
from fseed_kernels.wkv7_triton.math import (
    arithmetic,
    is_in_tokens,
    is_masked,
    load_rows,
    operand,
    product,
    row_length,
)


@triton.jit(do_not_specialize=["num_tokens"])
def backward_scan(
    step_ptr,
    query_ptr,
    total_ptr,
    dy_ptr,
    dfinal_ptr,
    carried_ptr,
    squares_ptr,
    gate_ptr,
    bound,
    lengths_ptr,
    end_ptr,
    dinitial_ptr,
    gate_partials_ptr,
    num_tokens,
    H: tl.constexpr,
    C: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    PRODUCTS: tl.constexpr,
    FAST: tl.constexpr,
    MASKED: tl.constexpr,
    END_IN_TOKENS: tl.constexpr,
):
    """Write E of every chunk, the gradient of the initial state and the parts of dgate."""
    part, bh = tl.program_id(0), tl.program_id(1)
    t = tl.arange(0, C)[:, None]
    value = part * BLOCK + tl.arange(0, BLOCK)
    key = tl.arange(0, D)
    entries = value[:, None] * D + key[None, :]
    square = tl.arange(0, D)[:, None] * D + key[None, :]
    chunks = bh * tl.cdiv(num_tokens, C)  # of the heads before
    length = row_length(lengths_ptr, bh // H, num_tokens)
    live = tl.cdiv(length, C)  # chunks with a true token
    # scalars of 64 bits before tiles of 32: a tile of 64-bit offsets costs registers
    step_ptr += chunks.to(tl.int64) * (D * D)
    query_ptr += chunks.to(tl.int64) * (C * D)
    total_ptr += chunks.to(tl.int64) * D
    head = (bh // H).to(tl.int64) * num_tokens * (H * D) + (bh % H) * D
    dy_ptr += head
    end_row: tl.constexpr = H * D if END_IN_TOKENS else D
    end_ptr += head if END_IN_TOKENS else chunks.to(tl.int64) * (D * D)
    end_entries = value[:, None] * end_row + key[None, :]

    if dfinal_ptr is None:
        dS = tl.zeros([BLOCK, D], dtype=tl.float32)
    else:
        dS = tl.load(dfinal_ptr + bh.to(tl.int64) * (D * D) + entries)
    # G is loaded one chunk ahead: the compiler pipelines only operands of products
    next_G = tl.load(total_ptr + tl.maximum(live - 1, 0) * D + key)
    for n in range(live):
        c = live - 1 - n
        G = next_G
        next_G = tl.load(total_ptr + tl.maximum(c - 1, 0) * D + key)
        here = c.to(tl.int64)
        P = tl.load(step_ptr + here * (D * D) + square)
        Q = tl.load(query_ptr + here * (C * D) + t * D + key[None, :])
        dy_here = dy_ptr + here * (C * H * D) + t * (H * D) + value[None, :]
        dy = operand(load_rows(dy_here, t < length - c * C, MASKED), P.dtype, FAST)
        # E = dS diag(G)
        E = dS * G[None, :]
        tl.store(end_ptr + here * (D * end_row) + end_entries, operand(E, P.dtype, FAST))
        # dS at the start of the chunk = E + dS P^T + dy^T Q
        dS = product(operand(dS, P.dtype, FAST), tl.trans(P), PRODUCTS, E)
        dS = product(tl.trans(dy), Q, PRODUCTS, dS)
    tl.store(dinitial_ptr + bh.to(tl.int64) * (D * D) + entries, dS)
    if gate_partials_ptr is not None:
        # dgate = sum(delta * n), delta = [|gate * n| <= bound] * dS
        normed = load_normed(carried_ptr, squares_ptr, bh, entries, D)
        delta = tl.where(tl.abs(tl.load(gate_ptr + bh) * normed) <= bound, dS, 0.0)
        store_row_sums(gate_partials_ptr, delta * normed, bh, part, BLOCK, D)


def launch_backward_scan(
    saved: Saved,
    *,
    dy: Tensor,
    dfinal_state: Tensor | None,
    carried: Carried | None,
    lengths: Tensor | None,
    end: Tensor,
    dinitial_state: Tensor,
    gate_partials: Tensor | None,
    precision: str,
    variant: str = "default",
) -> None:
    """Fill end, dinitial_state and gate_partials.

    Args:
        saved: from the forward pass.
        dy: [B, T, H, D], dtype of the inputs.
        dfinal_state: [B, H, D, D] float32; None: zeros.
        carried: what was added to the initial state; None: nothing.
        lengths: int32 [B], or None for T.
        end: E [B * H, NC, D, D], dtype of step, or in tokens; not written behind the end.
        dinitial_state: [B, H, D, D] float32.
        gate_partials: [B, H, D / 16] float32; None exactly without ``carried``.
        precision: "bf16" or "high".
        variant: sizes and code to use, see sizes.py.
    """
    b, t, h, d = dy.shape
    numbers = arithmetic(precision)
    chosen = sizes.backward_scan(sizes.architecture(dy.device), precision, d, b * h, variant)
    backward_scan[(d // chosen.block, b * h)](
        *(saved.step, saved.query, saved.total, dy, dfinal_state),
        *carried_arguments(carried),
        *(lengths, end, dinitial_state, gate_partials),
        t,
        H=h,
        C=chosen.chunk_size,
        D=d,
        BLOCK=chosen.block,
        PRODUCTS=numbers.products,
        FAST=numbers.fast,
        MASKED=is_masked(t, chosen.chunk_size, lengths),
        END_IN_TOKENS=is_in_tokens(end, saved.states),
        **chosen.options,
    )
