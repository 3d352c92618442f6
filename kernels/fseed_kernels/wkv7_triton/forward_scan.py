"""WKV7 forward, second phase: the states before every chunk, the outputs, the final state.

One program holds BLOCK rows of the state S [V, K] of one head and walks the chunks:

    y = Q S^T + Yv          S <- S diag(G) + S P + N

P, N, Q, G and Yv (in the place of y) come from forward_chunk. S is carried in float32 and rounded
to the dtype of P for the products. It starts as initial_state + carried (carried.py); the epilogue
writes the sums of squares that the layer above divides by.

Grid (D / BLOCK, B * H). A chunk without a true token is never read.
"""

# triton's decorator hides that plain values are constexprs, and the keywords of a launch
# pyright: reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.problem import Carried
from fseed_kernels.wkv7_triton import sizes
from fseed_kernels.wkv7_triton.carried import carried_arguments, load_initial, store_row_sums
from fseed_kernels.wkv7_triton.math import (
    arithmetic,
    is_masked,
    load_rows,
    operand,
    product,
    row_length,
    store_rows,
)


@triton.jit(do_not_specialize=["num_tokens"])
def forward_scan(
    step_ptr,
    added_ptr,
    query_ptr,
    total_ptr,
    y_ptr,
    initial_ptr,
    carried_ptr,
    squares_ptr,
    gate_ptr,
    bound,
    lengths_ptr,
    states_ptr,
    final_ptr,
    final_squares_ptr,
    num_tokens,
    keep,
    H: tl.constexpr,
    C: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    PRODUCTS: tl.constexpr,
    FAST: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Turn Yv into y; write the states (if ``keep``), the final state and its squares."""
    part, bh = tl.program_id(0), tl.program_id(1)
    t = tl.arange(0, C)[:, None]
    value = part * BLOCK + tl.arange(0, BLOCK)
    key = tl.arange(0, D)
    entries = value[:, None] * D + key[None, :]
    square = tl.arange(0, D)[:, None] * D + key[None, :]
    chunks = bh * tl.cdiv(num_tokens, C)  # of the heads before
    live = tl.cdiv(row_length(lengths_ptr, bh // H, num_tokens), C)  # chunks with a true token
    # scalars of 64 bits before tiles of 32: a tile of 64-bit offsets costs registers
    step_ptr += chunks.to(tl.int64) * (D * D)
    added_ptr += chunks.to(tl.int64) * (D * D)
    query_ptr += chunks.to(tl.int64) * (C * D)
    total_ptr += chunks.to(tl.int64) * D
    y_ptr += (bh // H).to(tl.int64) * num_tokens * (H * D) + (bh % H) * D
    token = t * (H * D) + value[None, :]
    states_ptr += chunks.to(tl.int64) * (D * D)

    S = load_initial(initial_ptr, carried_ptr, squares_ptr, gate_ptr, bound, bh, entries, BLOCK, D)
    # N, Yv and G are loaded one chunk ahead: the compiler pipelines only the operands P and Q
    next_N, next_G = tl.load(added_ptr + entries), tl.load(total_ptr + key)
    next_Yv = load_rows(y_ptr + token, t < num_tokens, MASKED)
    for c in range(live):
        N, Yv, G = next_N, next_Yv, next_G
        here, ahead = tl.cast(c, tl.int64), tl.minimum(c + 1, live - 1).to(tl.int64)
        next_N = tl.load(added_ptr + ahead * (D * D) + entries)
        y_ahead = y_ptr + ahead * (C * H * D)
        next_Yv = load_rows(y_ahead + token, t < num_tokens - ahead * C, MASKED)
        next_G = tl.load(total_ptr + ahead * D + key)
        P = tl.load(step_ptr + here * (D * D) + square)
        Q = tl.load(query_ptr + here * (C * D) + t * D + key[None, :])
        S_operand = operand(S, P.dtype, FAST)
        tl.store(states_ptr + here * (D * D) + entries, S_operand, mask=keep)
        # y = Q S^T + Yv
        y = product(Q, tl.trans(S_operand), PRODUCTS, Yv.to(tl.float32))
        y_here = y_ptr + here * (C * H * D)
        store_rows(y_here + token, y, t < num_tokens - c * C, MASKED)
        # S_end = S diag(G) + S P + N
        S = product(S_operand, P, PRODUCTS, S * G[None, :] + N.to(tl.float32))
    tl.store(final_ptr + bh.to(tl.int64) * (D * D) + entries, S)
    store_row_sums(final_squares_ptr, S * S, bh, part, BLOCK, D)


def launch_forward_scan(
    *,
    step: Tensor,
    added: Tensor,
    query: Tensor,
    total: Tensor,
    y: Tensor,
    initial_state: Tensor | None,
    carried: Carried | None,
    lengths: Tensor | None,
    states: Tensor,
    final_state: Tensor,
    squares: Tensor,
    keep: bool,
    precision: str,
    variant: str = "default",
) -> None:
    """Fill y (which holds Yv), states, final_state and squares.

    Args:
        step, added, query, total: from launch_forward_chunk.
        y: [B, T, H, D]; behind the last chunk with a true token it is left as it is.
        initial_state: [B, H, D, D] float32; None: zeros.
        carried: added to the initial state; None: nothing.
        lengths: int32 [B], or None for T.
        states: [B * H, NC, D, D], dtype of step; of any size unless ``keep``. Not written behind
            the end.
        final_state: [B, H, D, D] float32.
        squares: [B, H, D / 16] float32.
        keep: whether to write the states.
        precision: "bf16" or "high".
        variant: sizes and code to use, see sizes.py.
    """
    b, t, h, d = y.shape
    numbers = arithmetic(precision)
    chosen = sizes.forward_scan(sizes.architecture(y.device), precision, d, b * h, variant)
    forward_scan[(d // chosen.block, b * h)](
        *(step, added, query, total, y),
        initial_state,
        *carried_arguments(carried),
        *(lengths, states, final_state, squares),
        t,
        keep,
        H=h,
        C=chosen.chunk_size,
        D=d,
        BLOCK=chosen.block,
        PRODUCTS=numbers.products,
        FAST=numbers.fast,
        MASKED=is_masked(t, chosen.chunk_size, lengths),
        **chosen.options,
    )
