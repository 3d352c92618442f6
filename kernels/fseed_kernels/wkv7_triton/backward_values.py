"""WKV7 backward over the values: U, its gradient through X, and dv; all chunks at once.

Legend as in forward_chunk.py; S is the state before the chunk, dS the gradient of the state after
it, E = dS diag(G) (what the reverse scan writes), dY the gradient of y.

    U  = X (At S^T + Aak V)            what the tokens write under beta, [C, D]
    dU = Aqb^T dY + Bh E^T             dZ = X^T dU
    dV = Aqk^T dY + Kh E^T + Aak^T dZ

U and dZ are scratch of backward_keys, which needs them of all values.

Pointers, in this order: inputs r decay_logit k v alpha beta dy [B, T, H, D]; saved states end
[BH, NC, D, D] (end perhaps in tokens, see backward_scan.py) inverse [BH, NC, C, C]; outputs dv
[B, T, H, D] written dz [slice of BH, NC, C, D]; lengths (None: all of T). Grid (NC, slice): the
scratch covers a slice of BH from ``first_bh`` on.
"""

# pyright: reportArgumentType=false, reportCallIssue=false
# triton types a kernel as the python function and its tensors as constexprs
import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.problem import Inputs, num_chunks
from fseed_kernels.wkv7_triton import sizes
from fseed_kernels.wkv7_triton.math import (
    arithmetic,
    exp2,
    inverse_product,
    is_in_tokens,
    is_masked,
    load_rows,
    log2_decays,
    operand,
    pack,
    product,
    row_length,
    store_rows,
)


@triton.jit(do_not_specialize=["num_tokens", "first_bh"])
def backward_values(
    r_ptr,
    decay_logit_ptr,
    k_ptr,
    v_ptr,
    alpha_ptr,
    beta_ptr,
    dy_ptr,
    states_ptr,
    end_ptr,
    inverse_ptr,
    dv_ptr,
    written_ptr,
    dz_ptr,
    lengths_ptr,
    num_tokens,
    first_bh,
    H: tl.constexpr,
    C: tl.constexpr,
    D: tl.constexpr,
    OPERAND: tl.constexpr,
    INVERSE: tl.constexpr,
    PRODUCTS: tl.constexpr,
    FAST: tl.constexpr,
    MASKED: tl.constexpr,
    END_IN_TOKENS: tl.constexpr,
):
    """Write U, dZ (scratch) and dv of one chunk."""
    chunk = tl.program_id(0)
    bh = first_bh + tl.program_id(1)
    t = tl.arange(0, C)[:, None]
    column = tl.arange(0, D)[None, :]
    i, j = t, tl.arange(0, C)[None, :]
    row = ((bh // H) * num_tokens + chunk * C).to(tl.int64) * (H * D) + (bh % H) * D
    token = row + t * (H * D) + column
    num_chunks = tl.cdiv(num_tokens, C)
    index = (bh * num_chunks + chunk).to(tl.int64)
    square = index * (D * D) + tl.arange(0, D)[:, None] * D + column
    scratch = (tl.program_id(1) * num_chunks + chunk).to(tl.int64) * (C * D)
    tile = t * D + column

    is_token = t < num_tokens
    in_tensor = is_token
    if MASKED:
        length = row_length(lengths_ptr, bh // H, num_tokens)
        is_token = t < length - chunk * C
        in_tensor = t < num_tokens - chunk * C
        if chunk * C >= length:  # behind the end: states and end are not written there
            store_rows(dv_ptr + token, tl.zeros([C, D], tl.float32), in_tensor, MASKED)
            return

    decay_logit = load_rows(decay_logit_ptr + token, is_token, MASKED)
    alpha = load_rows(alpha_ptr + token, is_token, MASKED)
    k = load_rows(k_ptr + token, is_token, MASKED)
    v = operand(load_rows(v_ptr + token, is_token, MASKED), OPERAND, FAST)
    state = operand(tl.load(states_ptr + square), OPERAND, FAST)
    X = tl.load(inverse_ptr + index * (C * C) + i * C + j).to(INVERSE)
    log2_decay = log2_decays(decay_logit, is_token, MASKED, FAST)
    g = tl.cumsum(log2_decay, 0)
    shrink = exp2(-g, FAST)
    At = operand(alpha.to(tl.float32) * exp2(g - log2_decay, FAST), OPERAND, FAST)
    Kh = operand(k.to(tl.float32) * shrink, OPERAND, FAST)
    # second group of loads: in flight during the products of U
    beta = load_rows(beta_ptr + token, is_token, MASKED)
    r = load_rows(r_ptr + token, is_token, MASKED)
    dY = operand(load_rows(dy_ptr + token, is_token, MASKED), OPERAND, FAST)
    end = operand(tl.load(end_ptr + (token if END_IN_TOKENS else square)), OPERAND, FAST)

    # U = X (At S^T + Aak V), Aak = tril(At Kh^T, -1)
    Aak = pack(tl.where(i > j, product(At, tl.trans(Kh), PRODUCTS), 0.0), OPERAND, FAST)
    z = product(Aak, v, PRODUCTS)
    z = product(At, tl.trans(state), PRODUCTS, z)
    written = inverse_product(X, z, INVERSE, PRODUCTS, FAST)
    tl.store(written_ptr + scratch + tile, written.to(written_ptr.dtype.element_ty))
    Rt = operand(r.to(tl.float32) * exp2(g, FAST), OPERAND, FAST)
    Bh = operand(beta.to(tl.float32) * shrink, OPERAND, FAST)
    # dU = Aqb^T dY + Bh E^T, Aqb^T = triu(Bh Rt^T)
    AqbT = pack(tl.where(i <= j, product(Bh, tl.trans(Rt), PRODUCTS), 0.0), OPERAND, FAST)
    dU = product(AqbT, dY, PRODUCTS)
    dU = product(Bh, tl.trans(end), PRODUCTS, dU)
    # dZ = X^T dU
    dZ = inverse_product(tl.trans(X), dU, INVERSE, PRODUCTS, FAST)
    dZ = operand(dZ, OPERAND, FAST)
    tl.store(dz_ptr + scratch + tile, dZ.to(dz_ptr.dtype.element_ty))
    # dV = Aqk^T dY + Kh E^T + Aak^T dZ
    AqkT = pack(tl.where(i <= j, product(Kh, tl.trans(Rt), PRODUCTS), 0.0), OPERAND, FAST)
    dV = product(AqkT, dY, PRODUCTS)
    dV = product(Kh, tl.trans(end), PRODUCTS, dV)
    AakT = pack(tl.where(i < j, product(Kh, tl.trans(At), PRODUCTS), 0.0), OPERAND, FAST)
    dV = product(AakT, dZ, PRODUCTS, dV)
    store_rows(dv_ptr + token, dV, in_tensor, MASKED)


def launch_backward_values(
    inputs: Inputs,
    dy: Tensor,
    *,
    states: Tensor,
    end: Tensor,
    inverse: Tensor,
    dv: Tensor,
    written: Tensor,
    dz: Tensor,
    first_bh: int,
    lengths: Tensor | None,
    precision: str,
    variant: str = "default",
) -> None:
    """Fill dv, written (U) and dz of the heads first_bh .. first_bh + len(written).

    Args:
        inputs: checked inputs, [B, T, H, D].
        dy: gradient of y, [B, T, H, D].
        states, end: S before and dS diag(G) behind every chunk, [B * H, NC, D, D], scratch dtype;
            ``end`` perhaps in tokens, [B, T, H, D].
        inverse: [B * H, NC, C, C], scratch_inverse dtype.
        dv: [B, T, H, D]; zeros on pads.
        written, dz: [heads of the slice, NC, C, D], scratch dtype.
        first_bh: first head b * H + h of the slice.
        lengths: int32 [B], or None for T.
        precision: "bf16" or "high".
        variant: sizes and code to use, see sizes.py.
    """
    _, t, h, d = inputs.sizes
    chosen = sizes.backward_values(sizes.architecture(dy.device), precision, d, variant)
    numbers = arithmetic(precision)
    backward_values[(num_chunks(t, chosen.chunk_size), written.shape[0])](
        *inputs.tensors,
        dy,
        *(states, end, inverse, dv, written, dz),
        lengths,
        t,
        first_bh,
        H=h,
        C=chosen.chunk_size,
        D=d,
        OPERAND=numbers.operand,
        INVERSE=numbers.inverse,
        PRODUCTS=numbers.products,
        FAST=numbers.fast,
        MASKED=is_masked(t, chosen.chunk_size, lengths),
        END_IN_TOKENS=is_in_tokens(end, states),
        **chosen.options,
    )
