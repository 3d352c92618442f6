"""WKV7 for a few tokens without gradient: the recurrence token by token, in float32.

One program holds 16 rows of the state S [V, K] of one head:

    u = S alpha     S <- S diag(decay) + u beta^T + v k^T     y = S r

Grid (D / 16, B * H). On pads the state stays and y = 0.
"""

# triton's decorator hides that plain values are constexprs, and the keywords of a launch
# pyright: reportArgumentType=false, reportCallIssue=false

import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.problem import ROWS_PER_SQUARE, Carried, Inputs
from fseed_kernels.wkv7_triton.carried import carried_arguments, load_initial, store_row_sums
from fseed_kernels.wkv7_triton.math import LOG_DECAY_SCALE, row_length

ROWS = tl.constexpr(ROWS_PER_SQUARE)


@triton.jit
def load_keys(pointers):
    """Load one vector over the keys as a row, float32."""
    return tl.load(pointers).to(tl.float32)[None, :]


@triton.jit(do_not_specialize=["num_tokens"])
def decode(
    r_ptr,
    decay_logit_ptr,
    k_ptr,
    v_ptr,
    alpha_ptr,
    beta_ptr,
    initial_ptr,
    carried_ptr,
    squares_ptr,
    gate_ptr,
    bound,
    lengths_ptr,
    y_ptr,
    final_ptr,
    final_squares_ptr,
    num_tokens,
    H: tl.constexpr,
    D: tl.constexpr,
):
    """Write y, the final state and its squares."""
    part, bh = tl.program_id(0), tl.program_id(1)
    value = part * ROWS + tl.arange(0, ROWS)
    key = tl.arange(0, D)
    entries = value[:, None] * D + key[None, :]
    length = row_length(lengths_ptr, bh // H, num_tokens)
    first = (bh // H).to(tl.int64) * num_tokens * (H * D) + (bh % H) * D
    S = load_initial(initial_ptr, carried_ptr, squares_ptr, gate_ptr, bound, bh, entries, ROWS, D)
    for t in range(length):
        token = first + tl.cast(t, tl.int64) * (H * D)
        decay_logit = load_keys(decay_logit_ptr + token + key)
        # u = S alpha
        u = tl.sum(S * load_keys(alpha_ptr + token + key), 1)
        v = tl.load(v_ptr + token + value).to(tl.float32)
        # S <- S diag(decay) + u beta^T + v k^T
        S = S * tl.exp(tl.sigmoid(decay_logit) * LOG_DECAY_SCALE)
        S += u[:, None] * load_keys(beta_ptr + token + key)
        S += v[:, None] * load_keys(k_ptr + token + key)
        # y = S r
        y = tl.sum(S * load_keys(r_ptr + token + key), 1)
        tl.store(y_ptr + token + value, y.to(y_ptr.dtype.element_ty))
    for t in range(length, num_tokens):
        token = first + tl.cast(t, tl.int64) * (H * D)
        tl.store(y_ptr + token + value, tl.zeros([ROWS], y_ptr.dtype.element_ty))
    tl.store(final_ptr + bh.to(tl.int64) * (D * D) + entries, S)
    store_row_sums(final_squares_ptr, S * S, bh, part, ROWS, D)


def launch_decode(
    inputs: Inputs,
    *,
    initial_state: Tensor | None,
    carried: Carried | None,
    lengths: Tensor | None,
    y: Tensor,
    final_state: Tensor,
    squares: Tensor,
) -> None:
    """Fill y, final_state and squares.

    Args:
        inputs: checked inputs, [B, T, H, D].
        initial_state: [B, H, D, D] float32; None: zeros.
        carried: added to the initial state; None: nothing.
        lengths: int32 [B], or None for T.
        y: [B, T, H, D]; zeros on pads.
        final_state: [B, H, D, D] float32.
        squares: [B, H, D / 16] float32.
    """
    b, t, h, d = inputs.sizes
    decode[(d // ROWS_PER_SQUARE, b * h)](
        *inputs.tensors,
        initial_state,
        *carried_arguments(carried),
        *(lengths, y, final_state, squares),
        t,
        H=h,
        D=d,
        num_warps=1,
        enable_fp_fusion=True,
    )
