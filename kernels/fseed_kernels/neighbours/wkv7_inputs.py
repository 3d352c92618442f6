"""What precedes WKV7: its inputs from the projections, in one pass.

    decay_logit = w0 + decay_low        a = sigmoid(a0 + a_low)
    u = k * k_k     kk = u / max(|u|, 1e-12) per head     alpha = -kk     beta = kk * a
    k_out = k * (1 + (a - 1) * k_a)
    v_out = v + (v_first - v) * sigmoid(v0 + v_low)        (layers above the first)

B batch, T tokens, H heads, D head size, C = H * D; tensors [B, T, C], vectors [C]; a row is a
token. A program walks through tiles of ROWS rows of one head.
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

NORM_FLOOR = tl.constexpr(1e-12)


class Value(NamedTuple):
    """What mixes the value of the first layer into v."""

    v: Tensor  # [B, T, C]
    v_first: Tensor  # [B, T, C]
    v_low: Tensor  # [B, T, C]
    v0: Tensor  # [C]


class Prepared(NamedTuple):
    """The inputs of WKV7, or their gradients; v is None in the first layer."""

    decay_logit: Tensor
    k: Tensor
    alpha: Tensor
    beta: Tensor
    v: Tensor | None


class Gradients(NamedTuple):
    """Gradients of the inputs; that of decay_low is the gradient of decay_logit itself."""

    k: Tensor
    a_low: Tensor
    v: Tensor | None
    v_first: Tensor | None
    v_low: Tensor | None
    sums: Tensor  # [4 or 5, C] float32: w0, a0, k_k, k_a and v0 if given; see ``split_sums``


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def wkv7_inputs_forward(
    decay_low_ptr, k_ptr, a_low_ptr, w0_ptr, a0_ptr, k_k_ptr, k_a_ptr,
    v_ptr, v_first_ptr, v_low_ptr, v0_ptr,
    decay_logit_ptr, k_out_ptr, alpha_ptr, beta_ptr, v_out_ptr,
    num_rows, num_tiles, H: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Tiles of one head; v_ptr is None in the first layer."""
    column = (tl.program_id(0) % H) * D + tl.arange(0, D)
    w0 = tl.load(w0_ptr + column).to(tl.float32)[None, :]
    a0 = tl.load(a0_ptr + column).to(tl.float32)[None, :]
    k_k = tl.load(k_k_ptr + column).to(tl.float32)[None, :]
    k_a = tl.load(k_a_ptr + column).to(tl.float32)[None, :]
    first = (tl.program_id(0) // H).to(tl.int64) * num_tiles * ROWS
    for tile in range(num_tiles):
        row = first + tile * ROWS + tl.arange(0, ROWS)[:, None]
        entry, inside = row * (H * D) + column[None, :], row < num_rows
        decay_low = tl.load(decay_low_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        k = tl.load(k_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        a_low = tl.load(a_low_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        if v_ptr is not None:
            v = tl.load(v_ptr + entry, mask=inside, other=0.0).to(tl.float32)
            v_first = tl.load(v_first_ptr + entry, mask=inside, other=0.0).to(tl.float32)
            v_low = tl.load(v_low_ptr + entry, mask=inside, other=0.0).to(tl.float32)
            v0 = tl.load(v0_ptr + column).to(tl.float32)[None, :]
            v_out = v + (v_first - v) * tl.sigmoid(v0 + v_low)
            tl.store(v_out_ptr + entry, v_out, mask=inside)
        tl.store(decay_logit_ptr + entry, w0 + decay_low, mask=inside)
        a = tl.sigmoid(a0 + a_low)
        u = k * k_k
        norm = tl.maximum(tl.sqrt(tl.sum(u * u, 1)), NORM_FLOOR)[:, None]
        kk = u / norm
        tl.store(alpha_ptr + entry, -kk, mask=inside)
        tl.store(beta_ptr + entry, kk * a, mask=inside)
        tl.store(k_out_ptr + entry, k * (1 + (a - 1) * k_a), mask=inside)


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def wkv7_inputs_backward(
    k_ptr, a_low_ptr, a0_ptr, k_k_ptr, k_a_ptr, v_ptr, v_first_ptr, v_low_ptr, v0_ptr,
    ddecay_logit_ptr, dk_out_ptr, dalpha_ptr, dbeta_ptr, dv_out_ptr,
    dk_ptr, da_low_ptr, dv_ptr, dv_first_ptr, dv_low_ptr, partial_ptr,
    num_rows, num_tiles, H: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr,
    VECTORS: tl.constexpr,
):  # fmt: skip
    """Tiles of one head; their sums of the vector gradients go to partial [part, VECTORS, C].

    VECTORS: w0 a0 k_k k_a, and v0 above the first layer.
    """
    column = (tl.program_id(0) % H) * D + tl.arange(0, D)
    a0 = tl.load(a0_ptr + column).to(tl.float32)[None, :]
    k_k = tl.load(k_k_ptr + column).to(tl.float32)[None, :]
    k_a = tl.load(k_a_ptr + column).to(tl.float32)[None, :]
    part = (tl.program_id(0) // H).to(tl.int64)
    dw0 = tl.zeros((ROWS, D), tl.float32)
    da0 = tl.zeros((ROWS, D), tl.float32)
    dk_k = tl.zeros((ROWS, D), tl.float32)
    dk_a = tl.zeros((ROWS, D), tl.float32)
    dv0 = tl.zeros((ROWS, D), tl.float32)
    for tile in range(num_tiles):
        row = part * num_tiles * ROWS + tile * ROWS + tl.arange(0, ROWS)[:, None]
        entry, inside = row * (H * D) + column[None, :], row < num_rows
        k = tl.load(k_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        a_low = tl.load(a_low_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        dk_out = tl.load(dk_out_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        dalpha = tl.load(dalpha_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        dbeta = tl.load(dbeta_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        dw0 += tl.load(ddecay_logit_ptr + entry, mask=inside, other=0.0).to(tl.float32)
        if v_ptr is not None:
            v = tl.load(v_ptr + entry, mask=inside, other=0.0).to(tl.float32)
            v_first = tl.load(v_first_ptr + entry, mask=inside, other=0.0).to(tl.float32)
            v_low = tl.load(v_low_ptr + entry, mask=inside, other=0.0).to(tl.float32)
            dv_out = tl.load(dv_out_ptr + entry, mask=inside, other=0.0).to(tl.float32)
            v0 = tl.load(v0_ptr + column).to(tl.float32)[None, :]
            share = tl.sigmoid(v0 + v_low)
            dv_low = dv_out * (v_first - v) * share * (1 - share)
            tl.store(dv_ptr + entry, dv_out * (1 - share), mask=inside)
            tl.store(dv_first_ptr + entry, dv_out * share, mask=inside)
            tl.store(dv_low_ptr + entry, dv_low, mask=inside)
            dv0 += dv_low
        a = tl.sigmoid(a0 + a_low)
        u = k * k_k
        norm = tl.maximum(tl.sqrt(tl.sum(u * u, 1)), NORM_FLOOR)[:, None]
        kk = u / norm
        # a: from beta = kk a and k_out = k (1 + (a - 1) k_a), through the sigmoid
        da_low = (dbeta * kk + dk_out * k * k_a) * a * (1 - a)
        tl.store(da_low_ptr + entry, da_low, mask=inside)
        da0 += da_low
        # u: from kk = u / |u|, dkk = dbeta a - dalpha; below the floor |u| is a constant
        dkk = dbeta * a - dalpha
        along = tl.sum(dkk * kk, 1)[:, None]
        du = (dkk - kk * tl.where(norm > NORM_FLOOR, along, 0.0)) / norm
        tl.store(dk_ptr + entry, du * k_k + dk_out * (1 + (a - 1) * k_a), mask=inside)
        dk_k += du * k
        dk_a += dk_out * k * (a - 1)
    partial_ptr += part * (VECTORS * H * D) + column
    tl.store(partial_ptr, tl.sum(dw0, 0))
    tl.store(partial_ptr + H * D, tl.sum(da0, 0))
    tl.store(partial_ptr + 2 * H * D, tl.sum(dk_k, 0))
    tl.store(partial_ptr + 3 * H * D, tl.sum(dk_a, 0))
    if v_ptr is not None:
        tl.store(partial_ptr + 4 * H * D, tl.sum(dv0, 0))


def forward(
    decay_low: Tensor, k: Tensor, a_low: Tensor,
    w0: Tensor, a0: Tensor, k_k: Tensor, k_a: Tensor,
    *, head_size: int, value: Value | None = None,
) -> Prepared:  # fmt: skip
    """Return the inputs of WKV7, each [B, T, C].

    Args:
        decay_low, k, a_low: [B, T, C] contiguous, all bfloat16 or all float32.
        w0, a0, k_k, k_a: [C], float32 or the dtype of k.
        head_size: D, one of 16, 32, 64.
        value: None in the first layer, whose v stays as it is.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    num_rows, h = _check(k, {"decay_low": decay_low, "a_low": a_low}, head_size, value)
    _check_vectors(k, value, w0=w0, a0=a0, k_k=k_k, k_a=k_a)
    outputs = [empty_like(k) for _ in range(4)]
    v_out = None if value is None else empty_like(k)
    num_tiles = tiles_per_program(num_rows, h, head_size)
    grid = (triton.cdiv(num_rows, TILE // head_size * num_tiles) * h,)
    with on_device(k):
        wkv7_inputs_forward[grid](
            *(decay_low, k, a_low, w0, a0, k_k, k_a),
            *_parts(value),
            *outputs,
            *(v_out, num_rows, num_tiles),
            **_sizes(h, head_size),
        )
    return Prepared(*outputs, v=v_out)


def backward(
    k: Tensor, a_low: Tensor, w0: Tensor, a0: Tensor, k_k: Tensor, k_a: Tensor,
    gradients: Prepared, *, head_size: int, value: Value | None = None,
) -> Gradients:  # fmt: skip
    """Return the gradients of the inputs of ``forward``, given those of its outputs.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    given = {f"gradient of {n}": g for n, g in gradients._asdict().items() if g is not None}
    num_rows, h = _check(k, {"a_low": a_low} | given, head_size, value)
    _check_vectors(k, value, w0=w0, a0=a0, k_k=k_k, k_a=k_a)
    if (gradients.v is None) != (value is None):
        raise ValueError("value and the gradient of v go together; give both or neither")
    dk, da_low = empty_like(k), empty_like(k)
    of_value = [None if value is None else empty_like(k) for _ in range(3)]
    num_tiles = tiles_per_program(num_rows, h, head_size)
    parts = triton.cdiv(num_rows, TILE // head_size * num_tiles)
    vectors = 4 if value is None else 5
    shape = (parts, vectors, h * head_size)
    partial = torch.empty(shape, device=k.device, dtype=torch.float32)
    with on_device(k):
        wkv7_inputs_backward[(parts * h,)](
            *(k, a_low, a0, k_k, k_a),
            *_parts(value),
            *gradients,
            *(dk, da_low, *of_value, partial, num_rows, num_tiles),
            VECTORS=vectors,
            **_sizes(h, head_size),
        )
    return Gradients(dk, da_low, *of_value, sums=partial.sum(0))


def _sizes(h: int, d: int) -> dict[str, int]:
    """One 16-byte access per thread and tensor in bf16, so all loads of a tile are in flight."""
    return {"H": h, "D": d, "ROWS": TILE // d, "num_warps": 4}


def _parts(value: Value | None) -> tuple[Tensor | None, ...]:
    return (None,) * 4 if value is None else tuple(value)


def _check(
    k: Tensor, others: dict[str, Tensor], head_size: int, value: Value | None
) -> tuple[int, int]:
    """Return rows and heads."""
    check_activation("k", k)
    num_rows, h = check_heads("k", k, head_size)
    if value is not None:
        others = others | {"v": value.v, "v_first": value.v_first, "v_low": value.v_low}
    for name, tensor in others.items():
        check_tensor(name, tensor, shape=tuple(k.shape), like=k, dtype=k.dtype)
    return num_rows, h


def _check_vectors(k: Tensor, value: Value | None, **vectors: Tensor) -> None:
    if value is not None:
        vectors["v0"] = value.v0
    width = (k.shape[2],)
    check_parameters(k, **{name: (vector, width) for name, vector in vectors.items()})
