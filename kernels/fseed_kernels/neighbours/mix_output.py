"""What follows WKV7: group norm per head, bonus and gate, in one pass.

    out = (GroupNorm(y) + (sum_D r k r_k) v) * g

B batch, T tokens, H heads, D head size, C = H * D; y r k v g out [B, T, C]; a row is a token. A
program walks through tiles of ROWS rows of one head; a head fits a tile, so the backward pass
computes the statistics again.
"""

# a launch is typed as the kernel itself, without the options of the launch
# pyright: reportCallIssue=false, reportArgumentType=false

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, empty_like

from fseed_kernels.neighbours.launching import (
    TILE,
    check_activation,
    check_heads,
    check_parameters,
    on_device,
    tiles_per_program,
)
from fseed_kernels.problem import check_tensor


class Gradients(NamedTuple):
    """Gradients of the activations, in their shape and dtype, and of the parameters."""

    y: Tensor
    r: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    sums: Tensor  # [3, C] float32: weight, bias, r_k; see ``split_sums``


@triton.jit
def normalised(y, D: tl.constexpr, EPS: tl.constexpr):
    """Return (y - mean) / sqrt(variance + eps) of every row and 1 / sqrt(variance + eps)."""
    centred = y - (tl.sum(y, 1) / D)[:, None]
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / D + EPS)
    return centred * rstd[:, None], rstd


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def mix_output_forward(
    y_ptr, r_ptr, k_ptr, v_ptr, g_ptr, weight_ptr, bias_ptr, r_k_ptr, out_ptr,
    num_rows, num_tiles, EPS: tl.constexpr, H: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Tiles of one head."""
    column = (tl.program_id(0) % H) * D + tl.arange(0, D)
    weight = tl.load(weight_ptr + column).to(tl.float32)[None, :]
    bias = tl.load(bias_ptr + column).to(tl.float32)[None, :]
    r_k = tl.load(r_k_ptr + column).to(tl.float32)[None, :]
    first = (tl.program_id(0) // H).to(tl.int64) * num_tiles * ROWS
    for tile in range(num_tiles):
        row = first + tile * ROWS + tl.arange(0, ROWS)[:, None]
        entry, inside = row * (H * D) + column[None, :], row < num_rows
        y = tl.load(y_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        r = tl.load(r_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(v_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(g_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        unit, _ = normalised(y, D, EPS)
        bonus = tl.sum(r * k * r_k, 1)[:, None]
        tl.store(out_ptr + entry, (unit * weight + bias + bonus * v) * g, mask=inside)


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def mix_output_backward(
    y_ptr, r_ptr, k_ptr, v_ptr, g_ptr, weight_ptr, bias_ptr, r_k_ptr, dout_ptr,
    dy_ptr, dr_ptr, dk_ptr, dv_ptr, dg_ptr, partial_ptr,
    num_rows, num_tiles, EPS: tl.constexpr, H: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Tiles of one head; their sums of the parameter gradients go to partial [part, 3, C]."""
    column = (tl.program_id(0) % H) * D + tl.arange(0, D)
    weight = tl.load(weight_ptr + column).to(tl.float32)[None, :]
    bias = tl.load(bias_ptr + column).to(tl.float32)[None, :]
    r_k = tl.load(r_k_ptr + column).to(tl.float32)[None, :]
    part = (tl.program_id(0) // H).to(tl.int64)
    dweight = tl.zeros((ROWS, D), tl.float32)
    dbias = tl.zeros((ROWS, D), tl.float32)
    dr_k = tl.zeros((ROWS, D), tl.float32)
    for tile in range(num_tiles):
        row = part * num_tiles * ROWS + tile * ROWS + tl.arange(0, ROWS)[:, None]
        entry, inside = row * (H * D) + column[None, :], row < num_rows
        dout = tl.load(dout_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(y_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        r = tl.load(r_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        v = tl.load(v_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        g = tl.load(g_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        unit, rstd = normalised(y, D, EPS)
        bonus = tl.sum(r * k * r_k, 1)[:, None]
        tl.store(dg_ptr + entry, dout * (unit * weight + bias + bonus * v), mask=inside)
        dsum = dout * g  # gradient of GroupNorm(y) + bonus * v
        tl.store(dv_ptr + entry, dsum * bonus, mask=inside)
        dbonus = tl.sum(dsum * v, 1)[:, None]
        tl.store(dr_ptr + entry, dbonus * k * r_k, mask=inside)
        tl.store(dk_ptr + entry, dbonus * r * r_k, mask=inside)
        dr_k += dbonus * r * k
        dweight += dsum * unit
        dbias += dsum
        # dy = (dunit - mean(dunit) - unit mean(dunit unit)) / sqrt(variance + eps)
        dunit = dsum * weight
        mean = (tl.sum(dunit, 1) / D)[:, None]
        along = (tl.sum(dunit * unit, 1) / D)[:, None]
        tl.store(dy_ptr + entry, (dunit - mean - unit * along) * rstd[:, None], mask=inside)
    partial_ptr += part * (3 * H * D) + column
    tl.store(partial_ptr, tl.sum(dweight, 0))
    tl.store(partial_ptr + H * D, tl.sum(dbias, 0))
    tl.store(partial_ptr + 2 * H * D, tl.sum(dr_k, 0))


def forward(
    y: Tensor, r: Tensor, k: Tensor, v: Tensor, g: Tensor,
    weight: Tensor, bias: Tensor, r_k: Tensor,
    *, eps: float,
) -> Tensor:  # fmt: skip
    """Return out [B, T, C].

    Args:
        y, r, k, v, g: [B, T, C] contiguous, all bfloat16 or all float32.
        weight, bias: of the group norm, [C], float32 or the dtype of y.
        r_k: [H, D], float32 or the dtype of y.
        eps: of the group norm.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    num_rows, h, d = _check(y, r, k, v, g, weight, bias, r_k)
    out = empty_like(y)
    num_tiles = tiles_per_program(num_rows, h, d)
    grid = (triton.cdiv(num_rows, TILE // d * num_tiles) * h,)
    with on_device(y):
        mix_output_forward[grid](
            *(y, r, k, v, g, weight, bias, r_k, out),
            *(num_rows, num_tiles),
            EPS=eps,
            **_sizes(h, d),
        )
    return out


def backward(
    y: Tensor, r: Tensor, k: Tensor, v: Tensor, g: Tensor,
    weight: Tensor, bias: Tensor, r_k: Tensor, dout: Tensor,
    *, eps: float,
) -> Gradients:  # fmt: skip
    """Return the gradients of all inputs of ``forward``, given dout like y.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    num_rows, h, d = _check(y, r, k, v, g, weight, bias, r_k)
    check_tensor("dout", dout, shape=tuple(y.shape), like=y, dtype=y.dtype)
    gradients = [empty_like(y) for _ in range(5)]
    num_tiles = tiles_per_program(num_rows, h, d)
    parts = triton.cdiv(num_rows, TILE // d * num_tiles)
    partial = torch.empty((parts, 3, h * d), device=y.device, dtype=torch.float32)
    with on_device(y):
        mix_output_backward[(parts * h,)](
            *(y, r, k, v, g, weight, bias, r_k, dout),
            *gradients,
            *(partial, num_rows, num_tiles),
            EPS=eps,
            **_sizes(h, d),
        )
    return Gradients(*gradients, sums=partial.sum(0))


def _sizes(h: int, d: int) -> dict[str, int]:
    """One 16-byte access per thread and tensor in bf16, so all loads of a tile are in flight."""
    return {"H": h, "D": d, "ROWS": TILE // d, "num_warps": 4}


def _check(
    y: Tensor, r: Tensor, k: Tensor, v: Tensor, g: Tensor,
    weight: Tensor, bias: Tensor, r_k: Tensor,
) -> tuple[int, int, int]:  # fmt: skip
    """Return rows, heads and head size."""
    check_activation("y", y)
    if r_k.ndim != 2:
        raise ValueError(f"r_k has shape {tuple(r_k.shape)}; expected [H, D]")
    d = r_k.shape[1]
    num_rows, h = check_heads("y", y, d)
    for name, tensor in {"r": r, "k": k, "v": v, "g": g}.items():
        check_tensor(name, tensor, shape=tuple(y.shape), like=y, dtype=y.dtype)
    width = (h * d,)
    check_parameters(y, weight=(weight, width), bias=(bias, width), r_k=(r_k, (h, d)))
    return num_rows, h, d
