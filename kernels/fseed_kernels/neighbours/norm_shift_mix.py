"""Layer norm, token shift and the lerps between a token and its predecessor, in one pass.

    n_t = LayerNorm(x_t)     shifted_t = n_{t-1}, previous for t = 0
    out[m]_t = n_t + (shifted_t - n_t) * mixes[m]

B batch, T tokens, C width, M mixes (1 or 6); x and out [B, T, C]. A program walks along
``num_steps`` tokens of one sample, a whole row of C entries at a time: forwards in the forward
pass, so that shifted_t is at hand, backwards in the backward pass, so that what token t + 1 hands
to n_t is.
"""

# a launch is typed as the kernel itself, without the options of the launch; M is a constant there
# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.neighbours.launching import (
    check_activation,
    check_parameters,
    check_width,
    on_device,
)
from fseed_kernels.problem import check_tensor

NUM_MIXES = (1, 6)
MAX_STEPS = 16  # of the forward pass: the row before the first is read twice, 1 / 16 of one tensor
BACKWARD_PROGRAMS = 264  # two on each of 132 SMs; each writes (M + 2) C sums in float32
BACKWARD_REGISTERS = 128  # per thread: two programs of 8 warps on an SM, no spills up to C = 2048
FORWARD_PROGRAMS = 1056  # eight on each of 132 SMs
MIN_STEPS = 8  # of the backward pass: the M rows behind the last are read twice


class Mixed(NamedTuple):
    """Outputs of the forward pass."""

    outs: tuple[Tensor, ...]  # M of [B, T, C]
    last: Tensor  # [B, C] float32: n at the last true token, previous where there is none
    statistics: Tensor  # [B, T, 2] float32: mean and 1 / sqrt(variance + eps), for the backward


class Gradients(NamedTuple):
    """Gradients of x and previous, in their dtypes, and of the parameters."""

    x: Tensor
    previous: Tensor
    sums: Tensor  # [2 + M, C] float32: weight, bias, mixes; see ``split_sums``


@triton.jit
def load_row(pointer, column, inside):
    """Return a row in float32, 0 where not inside."""
    return tl.load(pointer + column, mask=inside, other=0.0).to(tl.float32)


@triton.jit
def unit_row(x, inside, EPS: tl.constexpr, C: tl.constexpr):
    """Return (x - mean) / sqrt(variance + eps), the mean and 1 / sqrt(variance + eps)."""
    mean = tl.sum(x, 0) / C
    centred = tl.where(inside, x - mean, 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 0) / C + EPS)
    return centred * rstd, mean, rstd


@triton.jit(do_not_specialize=["num_tokens", "num_steps"])
def norm_shift_mix_forward(
    x_ptr, weight_ptr, bias_ptr, previous_ptr, lengths_ptr, mixes_ptr,
    out0_ptr, out1_ptr, out2_ptr, out3_ptr, out4_ptr, out5_ptr, last_ptr, statistics_ptr,
    num_tokens, num_steps,
    EPS: tl.constexpr, M: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Tokens start .. end - 1 of sample b."""
    parts = tl.cdiv(num_tokens, num_steps)
    b = (tl.program_id(0) // parts).to(tl.int64)
    start = (tl.program_id(0) % parts) * num_steps
    end = tl.minimum(start + num_steps, num_tokens)
    length = num_tokens
    if lengths_ptr is not None:
        length = tl.load(lengths_ptr + b)
    column = tl.arange(0, BLOCK)
    inside = column < C
    weight = load_row(weight_ptr, column, inside)
    bias = load_row(bias_ptr, column, inside)
    mix0 = load_row(mixes_ptr, column, inside)
    if M == 6:
        mix1 = load_row(mixes_ptr + C, column, inside)
        mix2 = load_row(mixes_ptr + 2 * C, column, inside)
        mix3 = load_row(mixes_ptr + 3 * C, column, inside)
        mix4 = load_row(mixes_ptr + 4 * C, column, inside)
        mix5 = load_row(mixes_ptr + 5 * C, column, inside)
    token = b * num_tokens + start
    x = load_row(x_ptr + token * C, column, inside)
    if start == 0:
        shifted = load_row(previous_ptr + b * C, column, inside)
        if length == 0:
            tl.store(last_ptr + b * C + column, shifted, mask=inside)
    else:
        before = load_row(x_ptr + (token - 1) * C, column, inside)
        unit, _, _ = unit_row(before, inside, EPS, C)
        shifted = unit * weight + bias
    for t in range(start, end):
        # the next row is on its way while this one is computed
        following = load_row(x_ptr + (token + 1) * C, column, column < tl.where(t + 1 < end, C, 0))
        unit, mean, rstd = unit_row(x, inside, EPS, C)
        n = unit * weight + bias
        delta = shifted - n
        tl.store(statistics_ptr + token * 2, mean)
        tl.store(statistics_ptr + token * 2 + 1, rstd)
        entry = token * C + column
        tl.store(out0_ptr + entry, n + delta * mix0, mask=inside)
        if M == 6:
            tl.store(out1_ptr + entry, n + delta * mix1, mask=inside)
            tl.store(out2_ptr + entry, n + delta * mix2, mask=inside)
            tl.store(out3_ptr + entry, n + delta * mix3, mask=inside)
            tl.store(out4_ptr + entry, n + delta * mix4, mask=inside)
            tl.store(out5_ptr + entry, n + delta * mix5, mask=inside)
        if t == length - 1:
            tl.store(last_ptr + b * C + column, n, mask=inside)
        shifted = n
        x = following
        token += 1


@triton.jit
def add_gradient(dout, mix, delta, total, to_shifted, dmix):
    """Add what the gradient of out[m] = n + delta mix[m] gives to n + shifted, shifted, mix[m]."""
    return total + dout, to_shifted + dout * mix, dmix + dout * delta


@triton.jit
def gradient_of_shifted(dout_ptr, mixes_ptr, column, inside):
    """Return dout[m] * mixes[m] of one row."""
    return load_row(dout_ptr, column, inside) * load_row(mixes_ptr, column, inside)


@triton.jit(do_not_specialize=["num_tokens", "num_steps"])
def norm_shift_mix_backward(
    x_ptr, weight_ptr, bias_ptr, previous_ptr, lengths_ptr, mixes_ptr, statistics_ptr,
    dout0_ptr, dout1_ptr, dout2_ptr, dout3_ptr, dout4_ptr, dout5_ptr, dlast_ptr,
    dx_ptr, dprevious_ptr, partial_ptr,
    num_tokens, num_steps, M: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Tokens end - 1 .. start of sample b; sums of the parameter gradients go to partial.

    partial [program, 2 + M, C]: weight, bias, mixes.
    """
    parts = tl.cdiv(num_tokens, num_steps)
    b = (tl.program_id(0) // parts).to(tl.int64)
    start = (tl.program_id(0) % parts) * num_steps
    end = tl.minimum(start + num_steps, num_tokens)
    length = num_tokens
    if lengths_ptr is not None:
        length = tl.load(lengths_ptr + b)
    column = tl.arange(0, BLOCK)
    inside = column < C
    weight = load_row(weight_ptr, column, inside)
    bias = load_row(bias_ptr, column, inside)
    dweight = tl.zeros((BLOCK,), tl.float32)
    dbias = tl.zeros((BLOCK,), tl.float32)
    dmix0 = tl.zeros((BLOCK,), tl.float32)
    if M == 6:
        dmix1 = tl.zeros((BLOCK,), tl.float32)
        dmix2 = tl.zeros((BLOCK,), tl.float32)
        dmix3 = tl.zeros((BLOCK,), tl.float32)
        dmix4 = tl.zeros((BLOCK,), tl.float32)
        dmix5 = tl.zeros((BLOCK,), tl.float32)

    # what the token behind the last one hands to it: sum over m of dout[m] mixes[m]
    token = b * num_tokens + end
    row = token * C
    known = column < tl.where(end < num_tokens, C, 0)
    from_next = gradient_of_shifted(dout0_ptr + row, mixes_ptr, column, known)
    if M == 6:
        from_next += gradient_of_shifted(dout1_ptr + row, mixes_ptr + C, column, known)
        from_next += gradient_of_shifted(dout2_ptr + row, mixes_ptr + 2 * C, column, known)
        from_next += gradient_of_shifted(dout3_ptr + row, mixes_ptr + 3 * C, column, known)
        from_next += gradient_of_shifted(dout4_ptr + row, mixes_ptr + 4 * C, column, known)
        from_next += gradient_of_shifted(dout5_ptr + row, mixes_ptr + 5 * C, column, known)
    token -= 1
    rstd = tl.load(statistics_ptr + token * 2 + 1)
    x = load_row(x_ptr + token * C, column, inside)
    unit = tl.where(inside, (x - tl.load(statistics_ptr + token * 2)) * rstd, 0.0)

    for step in range(end - start):
        t = end - 1 - step
        row = token * C
        earlier = tl.maximum(token - 1, 0)
        x = load_row(x_ptr + earlier * C, column, inside)
        mean_before = tl.load(statistics_ptr + earlier * 2)
        rstd_before = tl.load(statistics_ptr + earlier * 2 + 1)
        dout0 = load_row(dout0_ptr + row, column, inside)
        if M == 6:
            dout1 = load_row(dout1_ptr + row, column, inside)
            dout2 = load_row(dout2_ptr + row, column, inside)
            dout3 = load_row(dout3_ptr + row, column, inside)
            dout4 = load_row(dout4_ptr + row, column, inside)
            dout5 = load_row(dout5_ptr + row, column, inside)
        unit_before = tl.where(inside, (x - mean_before) * rstd_before, 0.0)
        shifted = unit_before * weight + bias
        if t == 0:
            shifted = load_row(previous_ptr + b * C, column, inside)
        delta = shifted - (unit * weight + bias)
        total = dout0
        # the mixes come from the first-level cache: in registers they would cost occupancy
        to_shifted = dout0 * load_row(mixes_ptr, column, inside)
        dmix0 += dout0 * delta
        if M == 6:
            mix = load_row(mixes_ptr + C, column, inside)
            total, to_shifted, dmix1 = add_gradient(dout1, mix, delta, total, to_shifted, dmix1)
            mix = load_row(mixes_ptr + 2 * C, column, inside)
            total, to_shifted, dmix2 = add_gradient(dout2, mix, delta, total, to_shifted, dmix2)
            mix = load_row(mixes_ptr + 3 * C, column, inside)
            total, to_shifted, dmix3 = add_gradient(dout3, mix, delta, total, to_shifted, dmix3)
            mix = load_row(mixes_ptr + 4 * C, column, inside)
            total, to_shifted, dmix4 = add_gradient(dout4, mix, delta, total, to_shifted, dmix4)
            mix = load_row(mixes_ptr + 5 * C, column, inside)
            total, to_shifted, dmix5 = add_gradient(dout5, mix, delta, total, to_shifted, dmix5)
        # dn_t = sum_m dout[m]_t (1 - mixes[m]) + sum_m dout[m]_{t+1} mixes[m]
        dn = total - to_shifted + from_next
        if dlast_ptr is not None:
            here = column < tl.where(t == length - 1, C, 0)
            dn += load_row(dlast_ptr + b * C, column, here)
        dweight += dn * unit
        dbias += dn
        # dx = (dunit - mean(dunit) - unit mean(dunit unit)) / sqrt(variance + eps)
        dunit = dn * weight
        dx = (dunit - tl.sum(dunit, 0) / C - unit * (tl.sum(dunit * unit, 0) / C)) * rstd
        tl.store(dx_ptr + row + column, dx, mask=inside)
        from_next = to_shifted
        unit = unit_before
        rstd = rstd_before
        token -= 1

    if start == 0:
        if dlast_ptr is not None:
            here = column < tl.where(length == 0, C, 0)
            from_next += load_row(dlast_ptr + b * C, column, here)
        tl.store(dprevious_ptr + b * C + column, from_next, mask=inside)
    partial_ptr += tl.program_id(0).to(tl.int64) * ((2 + M) * C) + column
    tl.store(partial_ptr, dweight, mask=inside)
    tl.store(partial_ptr + C, dbias, mask=inside)
    tl.store(partial_ptr + 2 * C, dmix0, mask=inside)
    if M == 6:
        tl.store(partial_ptr + 3 * C, dmix1, mask=inside)
        tl.store(partial_ptr + 4 * C, dmix2, mask=inside)
        tl.store(partial_ptr + 5 * C, dmix3, mask=inside)
        tl.store(partial_ptr + 6 * C, dmix4, mask=inside)
        tl.store(partial_ptr + 7 * C, dmix5, mask=inside)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, previous: Tensor, mixes: Tensor,
    *, lengths: Tensor | None, eps: float, dtype: torch.dtype | None = None,
) -> Mixed:  # fmt: skip
    """Return the M lerps, the vector a continuation starts from, and the row statistics.

    Args:
        x: [B, T, C] contiguous, bfloat16 or float32, C a multiple of 16.
        weight, bias: of the layer norm, [C], float32 or the dtype of x.
        previous: [B, C], the normalised vector before the first token, float32 or as x.
        mixes: [M, C], M = 1 or 6, float32 or as x.
        lengths: true tokens per sample, int32 [B]; None: T. Decides ``last`` only.
        eps: of the layer norm.
        dtype: of the lerps, bfloat16 or float32; None: that of x.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    b, t, c, m = _check(x, weight, bias, previous, mixes, lengths)
    dtype = x.dtype if dtype is None else dtype
    if dtype not in (torch.bfloat16, torch.float32):
        raise ValueError(f"dtype {dtype}; allowed: torch.bfloat16, torch.float32")
    outs = tuple(torch.empty_like(x, dtype=dtype) for _ in range(m))
    last = torch.empty((b, c), device=x.device, dtype=torch.float32)
    statistics = torch.empty((b, t, 2), device=x.device, dtype=torch.float32)
    num_steps = max(1, min(MAX_STEPS, b * t // FORWARD_PROGRAMS))
    with on_device(x):
        norm_shift_mix_forward[(b * triton.cdiv(t, num_steps),)](
            *(x, weight, bias, previous, lengths, mixes),
            *_six(outs),
            *(last, statistics, t, num_steps),
            EPS=eps,
            **_sizes(m, c),
        )
    return Mixed(outs, last, statistics)


def backward(
    x: Tensor, weight: Tensor, bias: Tensor, previous: Tensor, mixes: Tensor, statistics: Tensor,
    douts: Sequence[Tensor], dlast: Tensor | None, *, lengths: Tensor | None,
) -> Gradients:  # fmt: skip
    """Return the gradients of the inputs of ``forward``.

    Args:
        x, weight, bias, previous, mixes, lengths: as given to ``forward``.
        statistics: from ``forward``.
        douts: M gradients [B, T, C] contiguous, all bfloat16 or all float32.
        dlast: [B, C] float32; None: zeros.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    b, t, c, m = _check(x, weight, bias, previous, mixes, lengths)
    check_tensor("statistics", statistics, shape=(b, t, 2), like=x, dtype=torch.float32)
    if len(douts) != m:
        raise ValueError(f"{len(douts)} gradients for {m} mixes; give one [B, T, C] for each")
    check_activation("douts[0]", douts[0])
    for i, dout in enumerate(douts):
        check_tensor(f"douts[{i}]", dout, shape=(b, t, c), like=x, dtype=douts[0].dtype)
    if dlast is not None:
        check_tensor("dlast", dlast, shape=(b, c), like=x, dtype=torch.float32)
    num_steps = max(MIN_STEPS, triton.cdiv(t, max(1, BACKWARD_PROGRAMS // b)))
    programs = b * triton.cdiv(t, num_steps)
    dx, dprevious = torch.empty_like(x), torch.empty_like(previous)
    partial = torch.empty((programs, 2 + m, c), device=x.device, dtype=torch.float32)
    with on_device(x):
        norm_shift_mix_backward[(programs,)](
            *(x, weight, bias, previous, lengths, mixes, statistics),
            *_six(tuple(douts)),
            *(dlast, dx, dprevious, partial, t, num_steps),
            maxnreg=BACKWARD_REGISTERS,
            **_sizes(m, c),
        )
    return Gradients(dx, dprevious, partial.sum(0))


def _six(tensors: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    return tensors + (None,) * (6 - len(tensors))


def _sizes(m: int, c: int) -> dict[str, int]:
    """4 entries per thread, at most 16 warps: 8 warps for C = 768.

    A thread then holds the same 4 columns of bf16 and float32 rows. With 8 bf16 entries it would
    hold others than of a float32 row, and every row would pass through shared memory once more.
    """
    block = triton.next_power_of_2(c)
    return {"M": m, "C": c, "BLOCK": block, "num_warps": max(1, min(16, block // 128))}


def _check(
    x: Tensor, weight: Tensor, bias: Tensor, previous: Tensor, mixes: Tensor, lengths: Tensor | None
) -> tuple[int, int, int, int]:
    """Return B, T, C, M."""
    check_activation("x", x)
    b, t, c = check_width("x", x)
    if mixes.ndim != 2 or mixes.shape[0] not in NUM_MIXES:
        raise ValueError(f"mixes has shape {tuple(mixes.shape)}; expected [1, {c}] or [6, {c}]")
    m = mixes.shape[0]
    check_parameters(
        x,
        weight=(weight, (c,)),
        bias=(bias, (c,)),
        previous=(previous, (b, c)),
        mixes=(mixes, (m, c)),
    )
    if lengths is not None:
        check_tensor("lengths", lengths, shape=(b,), like=x, dtype=torch.int32)
    return b, t, c, m
