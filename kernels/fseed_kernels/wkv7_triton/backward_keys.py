"""WKV7 backward over the keys: dr, ddecay_logit, dk, dalpha, dbeta; all chunks at once.

Legend as in backward_values.py; BK key columns per program, which need no other key column.

    dRt = dY S + tril(dY U^T) Bh + tril(dY V^T) Kh        dr = dRt 2^g
    dAt = dZ S + tril(dZ U^T, -1) Bh + tril(dZ V^T, -1) Kh        dalpha = dAt 2^g'
    dBh = tril(dZ U^T, -1)^T At + tril(dY U^T)^T Rt + U E         dbeta = dBh 2^-g
    dKh = tril(dZ V^T, -1)^T At + tril(dY V^T)^T Rt + V E         dk = dKh 2^-g

Every entry of Rt, At grows with its g, g', every entry of Bh, Kh shrinks, and G holds the last g:

    dg = dRt Rt - dBh Bh - dKh Kh        dg' = dAt At        (elementwise)
    dG = colsum(S E) + colsum(U E Bh) + colsum(V E Kh)
    dlog_decay_t = sum of dg over rows >= t + sum of dg' over rows > t + dG
    ddecay_logit = dlog_decay * -exp(-0.5) s (1 - s), s = sigmoid(decay_logit); 0 on pads

The operands as rounded for the products enter dg, so that the terms of a pair of tokens cancel.

Pointers, in this order: inputs r decay_logit k v alpha beta dy [B, T, H, D]; saved states end
[BH, NC, D, D] (end perhaps in tokens, see backward_scan.py); scratch written dz [slice of BH, NC,
C, D]; outputs dr ddecay_logit dk dalpha dbeta [B, T, H, D]; lengths (None: all of T).
Grid (NC * D / BK, slice).
"""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
# triton types a kernel as the python function and its tensors as constexprs
import torch
import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.problem import Inputs, num_chunks
from fseed_kernels.wkv7_triton import sizes
from fseed_kernels.wkv7_triton.backward_values import launch_backward_values
from fseed_kernels.wkv7_triton.math import (
    LOG_DECAY_SCALE,
    arithmetic,
    exp2,
    is_in_tokens,
    is_masked,
    load_rows,
    log2_decays,
    operand,
    pack,
    product,
    row_length,
    sigmoid,
    store_rows,
)

# programs of backward_values below which the heads are not cut: 4 waves of 132 SMs x 3 programs
MIN_SLICE_PROGRAMS = 1536
MIN_SLICE_HEADS = 32  # 32 heads at once: 1.971 ms at 1 x 16384 x 32, in two slices 2.012
# parts of the heads that U and dZ are made for at a time, so that both passes take no more than
# 12.8 [B, T, H, D] (0.6 GiB at 8 x 4096 x 12): with E in the memory of an output, and without
SLICES_LENT, SLICES = 2, 3


@triton.jit(do_not_specialize=["num_tokens", "first_bh"])
def backward_keys(
    r_ptr,
    decay_logit_ptr,
    k_ptr,
    v_ptr,
    alpha_ptr,
    beta_ptr,
    dy_ptr,
    states_ptr,
    end_ptr,
    written_ptr,
    dz_ptr,
    dr_ptr,
    ddecay_logit_ptr,
    dk_ptr,
    dalpha_ptr,
    dbeta_ptr,
    lengths_ptr,
    num_tokens,
    first_bh,
    H: tl.constexpr,
    C: tl.constexpr,
    D: tl.constexpr,
    BK: tl.constexpr,
    OPERAND: tl.constexpr,
    PRODUCTS: tl.constexpr,
    FAST: tl.constexpr,
    MASKED: tl.constexpr,
    END_IN_TOKENS: tl.constexpr,
):
    """Write BK key columns of five gradients of one chunk."""
    # one axis for chunks and columns: the others end at 65535
    chunk, part = tl.program_id(0) // (D // BK), tl.program_id(0) % (D // BK)
    bh = first_bh + tl.program_id(1)
    t = tl.arange(0, C)[:, None]
    column = tl.arange(0, D)[None, :]
    key = part * BK + tl.arange(0, BK)[None, :]
    i, j = t, tl.arange(0, C)[None, :]
    row = ((bh // H) * num_tokens + chunk * C).to(tl.int64) * (H * D) + (bh % H) * D
    rows = row + t * (H * D)
    token, token_key = rows + column, rows + key
    num_chunks = tl.cdiv(num_tokens, C)
    index = (bh * num_chunks + chunk).to(tl.int64)
    square = index * (D * D) + tl.arange(0, D)[:, None] * D + key
    scratch = (tl.program_id(1) * num_chunks + chunk).to(tl.int64) * (C * D)
    tile = t * D + column

    is_token = t < num_tokens
    in_tensor = is_token
    if MASKED:
        length = row_length(lengths_ptr, bh // H, num_tokens)
        is_token = t < length - chunk * C
        in_tensor = t < num_tokens - chunk * C
        if chunk * C >= length:  # behind the end: states and end are not written there
            zeros = tl.zeros([C, BK], tl.float32)
            store_rows(dr_ptr + token_key, zeros, in_tensor, MASKED)
            store_rows(ddecay_logit_ptr + token_key, zeros, in_tensor, MASKED)
            store_rows(dk_ptr + token_key, zeros, in_tensor, MASKED)
            store_rows(dalpha_ptr + token_key, zeros, in_tensor, MASKED)
            store_rows(dbeta_ptr + token_key, zeros, in_tensor, MASKED)
            return

    # all loads before the first product, and before any store: end may be ddecay_logit
    decay_logit = load_rows(decay_logit_ptr + token_key, is_token, MASKED)
    U = operand(tl.load(written_ptr + scratch + tile), OPERAND, FAST)
    end = operand(tl.load(end_ptr + (token_key if END_IN_TOKENS else square)), OPERAND, FAST)
    dZ = tl.load(dz_ptr + scratch + tile).to(OPERAND)
    dY = operand(load_rows(dy_ptr + token, is_token, MASKED), OPERAND, FAST)
    v = operand(load_rows(v_ptr + token, is_token, MASKED), OPERAND, FAST)
    alpha = load_rows(alpha_ptr + token_key, is_token, MASKED)
    r = load_rows(r_ptr + token_key, is_token, MASKED)
    beta = load_rows(beta_ptr + token_key, is_token, MASKED)
    k = load_rows(k_ptr + token_key, is_token, MASKED)
    state = operand(tl.load(states_ptr + square), OPERAND, FAST)

    log2_decay = log2_decays(decay_logit, is_token, MASKED, FAST)
    g = tl.cumsum(log2_decay, 0)
    grow, shrink, grow_before = exp2(g, FAST), exp2(-g, FAST), exp2(g - log2_decay, FAST)
    At = operand(alpha.to(tl.float32) * grow_before, OPERAND, FAST)
    Rt = operand(r.to(tl.float32) * grow, OPERAND, FAST)
    Bh = operand(beta.to(tl.float32) * shrink, OPERAND, FAST)
    Kh = operand(k.to(tl.float32) * shrink, OPERAND, FAST)

    # dBh = dAab^T At + dAqb^T Rt + U E, dAab^T = triu(U dZ^T, 1), dAqb^T = triu(U dY^T)
    UE = product(U, end, PRODUCTS)
    dAabT = tl.where(i < j, product(U, tl.trans(dZ), PRODUCTS), 0.0)
    dBh = product(pack(dAabT, OPERAND, FAST), At, PRODUCTS, UE)
    dAqbT = tl.where(i <= j, product(U, tl.trans(dY), PRODUCTS), 0.0)
    dBh = product(pack(dAqbT, OPERAND, FAST), Rt, PRODUCTS, dBh)
    store_rows(dbeta_ptr + token_key, dBh * shrink, in_tensor, MASKED)
    dg = -dBh * Bh.to(tl.float32)
    dG = UE * Bh.to(tl.float32)  # row by row: one column sum serves its three terms
    # dKh = dAak^T At + dAqk^T Rt + V E
    VE = product(v, end, PRODUCTS)
    dAakT = tl.where(i < j, product(v, tl.trans(dZ), PRODUCTS), 0.0)
    dKh = product(pack(dAakT, OPERAND, FAST), At, PRODUCTS, VE)
    dAqkT = tl.where(i <= j, product(v, tl.trans(dY), PRODUCTS), 0.0)
    dKh = product(pack(dAqkT, OPERAND, FAST), Rt, PRODUCTS, dKh)
    store_rows(dk_ptr + token_key, dKh * shrink, in_tensor, MASKED)
    dg -= dKh * Kh.to(tl.float32)
    state_end = state.to(tl.float32) * end.to(tl.float32)
    if C == D:  # as many rows: summed with the others
        dG += VE * Kh.to(tl.float32) + state_end
    else:
        dG += VE * Kh.to(tl.float32)
    # dRt = dY S + dAqb Bh + dAqk Kh, dAqb = tril(dY U^T), dAqk = tril(dY V^T)
    dRt = product(dY, state, PRODUCTS)
    dAqb = tl.where(i >= j, product(dY, tl.trans(U), PRODUCTS), 0.0)
    dRt = product(pack(dAqb, OPERAND, FAST), Bh, PRODUCTS, dRt)
    dAqk = tl.where(i >= j, product(dY, tl.trans(v), PRODUCTS), 0.0)
    dRt = product(pack(dAqk, OPERAND, FAST), Kh, PRODUCTS, dRt)
    store_rows(dr_ptr + token_key, dRt * grow, in_tensor, MASKED)
    dg += dRt * Rt.to(tl.float32)
    # dAt = dZ S + dAab Bh + dAak Kh
    dAt = product(dZ, state, PRODUCTS)
    dAab = tl.where(i > j, product(dZ, tl.trans(U), PRODUCTS), 0.0)
    dAt = product(pack(dAab, OPERAND, FAST), Bh, PRODUCTS, dAt)
    dAak = tl.where(i > j, product(dZ, tl.trans(v), PRODUCTS), 0.0)
    dAt = product(pack(dAak, OPERAND, FAST), Kh, PRODUCTS, dAt)
    store_rows(dalpha_ptr + token_key, dAt * grow_before, in_tensor, MASKED)

    # sum of dg over rows >= t and of dg' over rows > t = total - prefix sum + dg of the row itself
    both = dg + dAt * At.to(tl.float32)
    dlog_decay = tl.sum(both + dG, 0)[None, :] - tl.cumsum(both, 0) + dg
    if C != D:
        dlog_decay += tl.sum(state_end, 0)[None, :]
    s = sigmoid(decay_logit.to(tl.float32), FAST)
    ddecay_logit = dlog_decay * LOG_DECAY_SCALE * s * (1.0 - s)
    if MASKED:
        ddecay_logit = tl.where(is_token, ddecay_logit, 0.0)
    store_rows(ddecay_logit_ptr + token_key, ddecay_logit, in_tensor, MASKED)


def launch_backward_keys(
    inputs: Inputs,
    dy: Tensor,
    *,
    states: Tensor,
    end: Tensor,
    written: Tensor,
    dz: Tensor,
    dr: Tensor,
    ddecay_logit: Tensor,
    dk: Tensor,
    dalpha: Tensor,
    dbeta: Tensor,
    first_bh: int,
    lengths: Tensor | None,
    precision: str,
    variant: str = "default",
) -> None:
    """Fill five gradients of the heads first_bh .. first_bh + len(written).

    Args:
        inputs: checked inputs, [B, T, H, D].
        dy: gradient of y, [B, T, H, D].
        states, end: S before and dS diag(G) behind every chunk, [B * H, NC, D, D], scratch dtype;
            ``end`` perhaps in tokens, [B, T, H, D], and then it may be ``ddecay_logit``.
        written, dz: as backward_values filled them, [heads of the slice, NC, C, D].
        dr, ddecay_logit, dk, dalpha, dbeta: [B, T, H, D]; zeros on pads.
        first_bh: first head b * H + h of the slice.
        lengths: int32 [B], or None for T.
        precision: "bf16" or "high".
        variant: sizes and code to use, see sizes.py.
    """
    _, t, h, d = inputs.sizes
    chosen = sizes.backward_keys(sizes.architecture(dy.device), precision, d, variant)
    numbers = arithmetic(precision)
    programs = num_chunks(t, chosen.chunk_size) * (d // chosen.block)
    backward_keys[(programs, written.shape[0])](
        *inputs.tensors,
        dy,
        *(states, end, written, dz),
        *(dr, ddecay_logit, dk, dalpha, dbeta),
        lengths,
        t,
        first_bh,
        H=h,
        C=chosen.chunk_size,
        D=d,
        BK=chosen.block,
        OPERAND=numbers.operand,
        PRODUCTS=numbers.products,
        FAST=numbers.fast,
        MASKED=is_masked(t, chosen.chunk_size, lengths),
        END_IN_TOKENS=is_in_tokens(end, states),
        **chosen.options,
    )


def heads_per_slice(num_heads_total: int, chunks: int, slices: int) -> int:
    """Return how many of the B * H heads one slice of the scratch U, dZ covers."""
    smallest = triton.cdiv(MIN_SLICE_PROGRAMS, chunks)
    wanted = max(smallest, MIN_SLICE_HEADS, triton.cdiv(num_heads_total, slices))
    return min(num_heads_total, wanted)


def launch_backward_chunks(
    inputs: Inputs,
    dy: Tensor,
    *,
    states: Tensor,
    end: Tensor,
    inverse: Tensor,
    ddecay_logit: Tensor,
    lengths: Tensor | None,
    precision: str,
    variant: str = "default",
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return dr, dk, dv, dalpha, dbeta, each [B, T, H, D] with the dtype of r; fill ddecay_logit.

    The values, then the keys, slice by slice of the heads, so that their scratch stays small.
    Arguments as in the launches. ``end`` may be ``ddecay_logit`` itself (E in tokens): a program of
    backward_keys reads there first what it overwrites last, and no other program reads that.
    """
    dr, dk, dv, dalpha, dbeta = (torch.empty_like(inputs.r) for _ in range(5))
    bh, chunks = states.shape[:2]
    heads = heads_per_slice(bh, chunks, SLICES_LENT if end is ddecay_logit else SLICES)
    size = (2, heads, chunks, inverse.shape[-1], states.shape[-1])
    scratch = torch.empty(size, dtype=states.dtype, device=states.device)
    common = {"lengths": lengths, "precision": precision, "variant": variant}
    for first_bh in range(0, bh, heads):
        written, dz = scratch[:, : bh - first_bh]
        common |= {"states": states, "end": end, "written": written, "dz": dz, "first_bh": first_bh}
        launch_backward_values(inputs, dy, inverse=inverse, dv=dv, **common)
        launch_backward_keys(
            inputs,
            dy,
            dr=dr,
            ddecay_logit=ddecay_logit,
            dk=dk,
            dalpha=dalpha,
            dbeta=dbeta,
            **common,
        )
    return dr, dk, dv, dalpha, dbeta
