"""WKV7 forward, first phase: what every chunk does to any state, all chunks at once.

Legend: rows i, j are tokens of the chunk, t a row of a tile; C = chunk_size, D = head size;
g = sum of log2(decay) over the chunk's tokens up to and including t, g' = g - log2(decay_t).

    At = alpha 2^g'   Rt = r 2^g   Bh = beta 2^-g   Kh = k 2^-g   G = 2^(g of the last token)
    X = (I - tril(At Bh^T, -1))^-1   W = X At   Uv = X tril(At Kh^T, -1) V
    step  P = W^T Bh diag(G)   [D, D]        added N = (V^T Kh + Uv^T Bh) diag(G)   [D(V), D(K)]
    query Q = Rt + tril(Rt Bh^T) W  [C, D]   y = tril(Rt Kh^T) V + tril(Rt Bh^T) Uv   [C, D]

The scan makes of them S_end = S diag(G) + S P + N and adds Q S^T to y. On a pad r, k, v, alpha,
beta and log2(decay) are 0: it changes none of these.

Pointers, in this order: inputs r decay_logit k v alpha beta [B, T, H, D]; outputs step added query
y total inverse (only if ``keep``); lengths (None: all of T). Grid (NC, B * H).
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
    is_masked,
    load_rows,
    log2_decays,
    operand,
    pack,
    product,
    row_length,
    store_rows,
    unit_lower_inverse,
)


@triton.jit(do_not_specialize=["num_tokens"])
def forward_chunk(
    r_ptr,
    decay_logit_ptr,
    k_ptr,
    v_ptr,
    alpha_ptr,
    beta_ptr,
    step_ptr,
    added_ptr,
    query_ptr,
    y_ptr,
    total_ptr,
    inverse_ptr,
    lengths_ptr,
    num_tokens,
    keep,
    H: tl.constexpr,
    C: tl.constexpr,
    D: tl.constexpr,
    OPERAND: tl.constexpr,
    INVERSE: tl.constexpr,
    PRODUCTS: tl.constexpr,
    FAST: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Write step, added, query, total, inverse and the part of y that no state enters."""
    chunk, bh = tl.program_id(0), tl.program_id(1)
    t = tl.arange(0, C)[:, None]
    column = tl.arange(0, D)[None, :]
    i, j = t, tl.arange(0, C)[None, :]
    key = tl.arange(0, D)[:, None]
    row = ((bh // H) * num_tokens + chunk * C).to(tl.int64) * (H * D) + (bh % H) * D
    token = row + t * (H * D) + column
    index = (bh * tl.cdiv(num_tokens, C) + chunk).to(tl.int64)

    is_token = t < num_tokens
    in_tensor = is_token
    if MASKED:
        length = row_length(lengths_ptr, bh // H, num_tokens)
        is_token = t < length - chunk * C
        in_tensor = t < num_tokens - chunk * C
        if chunk * C >= length:  # behind the end: the scan does not come here
            store_rows(y_ptr + token, tl.zeros([C, D], tl.float32), in_tensor, MASKED)
            return

    # all loads before the first product
    decay_logit = load_rows(decay_logit_ptr + token, is_token, MASKED)
    alpha = load_rows(alpha_ptr + token, is_token, MASKED)
    beta = load_rows(beta_ptr + token, is_token, MASKED)
    r = load_rows(r_ptr + token, is_token, MASKED)
    k = load_rows(k_ptr + token, is_token, MASKED)
    v = operand(load_rows(v_ptr + token, is_token, MASKED), OPERAND, FAST)

    log2_decay = log2_decays(decay_logit, is_token, MASKED, FAST)
    g = tl.cumsum(log2_decay, 0)
    total = exp2(tl.sum(log2_decay, 0), FAST)  # G
    tl.store(total_ptr + index * D + tl.arange(0, D), total)
    At32 = alpha.to(tl.float32) * exp2(g - log2_decay, FAST)
    At, At_inverse = operand(At32, OPERAND, FAST), operand(At32, INVERSE, FAST)
    shrink = exp2(-g, FAST)
    Bh = operand(beta.to(tl.float32) * shrink, OPERAND, FAST)
    Kh = operand(k.to(tl.float32) * shrink, OPERAND, FAST)
    Rt = operand(r.to(tl.float32) * exp2(g, FAST), OPERAND, FAST)

    # Aab = tril(At Bh^T, -1), X = (I - Aab)^-1
    Aab = tl.where(i > j, product(At, tl.trans(Bh), PRODUCTS), 0.0)
    X = unit_lower_inverse(Aab, i, j, C, INVERSE, PRODUCTS, FAST)
    X = operand(X, INVERSE, FAST)
    X_stored = X.to(inverse_ptr.dtype.element_ty)
    tl.store(inverse_ptr + index * (C * C) + i * C + j, X_stored, mask=keep)
    # W = X At
    W = operand(product(X, At_inverse, PRODUCTS), OPERAND, FAST)
    # Uv = X Aak V, Aak = tril(At Kh^T, -1)
    Aak = pack(tl.where(i > j, product(At, tl.trans(Kh), PRODUCTS), 0.0), OPERAND, FAST)
    Uv = inverse_product(X, product(Aak, v, PRODUCTS), INVERSE, PRODUCTS, FAST)
    Uv = operand(Uv, OPERAND, FAST)
    # P^T = diag(G) Bh^T W; step and query are operands of the scans
    square = index * (D * D) + key * D + column
    stepT = product(tl.trans(Bh), W, PRODUCTS) * total[:, None]
    tl.store(step_ptr + square, operand(tl.trans(stepT), OPERAND, FAST))
    # N^T = diag(G) (Kh^T V + Bh^T Uv)
    addedT = product(tl.trans(Kh), v, PRODUCTS)
    addedT = product(tl.trans(Bh), Uv, PRODUCTS, addedT) * total[:, None]
    tl.store(added_ptr + square, tl.trans(addedT).to(added_ptr.dtype.element_ty))
    # Q = Rt + Aqb W, Aqb = tril(Rt Bh^T)
    Aqb = pack(tl.where(i >= j, product(Rt, tl.trans(Bh), PRODUCTS), 0.0), OPERAND, FAST)
    query = product(Aqb, W, PRODUCTS, Rt.to(tl.float32))
    tl.store(query_ptr + index * (C * D) + t * D + column, operand(query, OPERAND, FAST))
    # y = Aqk V + Aqb Uv, Aqk = tril(Rt Kh^T)
    Aqk = pack(tl.where(i >= j, product(Rt, tl.trans(Kh), PRODUCTS), 0.0), OPERAND, FAST)
    y = product(Aqk, v, PRODUCTS)
    y = product(Aqb, Uv, PRODUCTS, y)
    store_rows(y_ptr + token, y, in_tensor, MASKED)


def launch_forward_chunk(
    inputs: Inputs,
    *,
    step: Tensor,
    added: Tensor,
    query: Tensor,
    y: Tensor,
    total: Tensor,
    inverse: Tensor,
    keep: bool,
    lengths: Tensor | None,
    precision: str,
    variant: str = "default",
) -> None:
    """Fill step, added, query, total, inverse and the state-free part of y.

    Args:
        inputs: checked inputs, [B, T, H, D].
        step, added: [B * H, NC, D, D], scratch dtype of the precision.
        query: [B * H, NC, C, D], scratch dtype.
        y: [B, T, H, D]; zeros on pads.
        total: [B * H, NC, D] float32.
        inverse: [B * H, NC, C, C], scratch_inverse dtype; of any size unless ``keep``.
        keep: whether to write the inverse.
        lengths: int32 [B], or None for T. Scratch of chunks behind the end is not written.
        precision: "bf16" or "high".
        variant: sizes and code to use, see sizes.py.
    """
    b, t, h, d = inputs.sizes
    chosen = sizes.forward_chunk(sizes.architecture(y.device), precision, d, variant)
    numbers = arithmetic(precision)
    forward_chunk[(num_chunks(t, chosen.chunk_size), b * h)](
        *inputs.tensors,
        *(step, added, query, y, total, inverse),
        lengths,
        t,
        keep,
        H=h,
        C=chosen.chunk_size,
        D=d,
        OPERAND=numbers.operand,
        INVERSE=numbers.inverse,
        PRODUCTS=numbers.products,
        FAST=numbers.fast,
        MASKED=is_masked(t, chosen.chunk_size, lengths),
        **chosen.options,
    )
