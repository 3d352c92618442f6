"""Future-Seed at the state load of a scan, and its gradient.

One head, state [V, K] of the layer below, D head size:

    mean_square = sum(squares) / D^2     rms = sqrt(max(mean_square, 1e-12))     n = state / rms
    u = gate * n     carried = clamp(u, -bound, bound)

With delta = [|u| <= bound] * dcarried:

    dgate  = sum(delta * n)
    dstate = gate / rms * (delta - n * mean(delta * n) * [mean_square > 1e-12])

Without the norm (squares None): rms = 1 and the second term of dstate is gone.
"""

# triton's decorator hides that plain values are constexprs, and the keywords of a launch
# pyright: reportArgumentType=false, reportCallIssue=false

from math import inf

import torch
import triton
import triton.language as tl
from torch import Tensor

from fseed_kernels.problem import (
    MEAN_SQUARE_FLOOR,
    ROWS_PER_SQUARE,
    Carried,
    Inputs,
    check_tensor,
)

FLOOR = tl.constexpr(MEAN_SQUARE_FLOOR)
ROWS = tl.constexpr(ROWS_PER_SQUARE)


@triton.jit
def load_mean_square(squares_ptr, bh, D: tl.constexpr):
    """Return the mean of the squares of one state; 1 without the norm."""
    if squares_ptr is None:
        return 1.0
    else:
        groups: tl.constexpr = D // ROWS
        return tl.sum(tl.load(squares_ptr + bh * groups + tl.arange(0, groups))) / (D * D)


@triton.jit
def load_normed(state_ptr, squares_ptr, bh, entries, D: tl.constexpr):
    """Return n = state / rms at ``entries`` of one head."""
    state = tl.load(state_ptr + bh.to(tl.int64) * (D * D) + entries)
    return state / tl.sqrt(tl.maximum(load_mean_square(squares_ptr, bh, D), FLOOR))


@triton.jit
def load_initial(
    initial_ptr,
    state_ptr,
    squares_ptr,
    gate_ptr,
    bound,
    bh,
    entries,
    BLOCK: tl.constexpr,
    D: tl.constexpr,
):
    """Return [BLOCK, D] of S0 = initial_state + clamp(gate * n), in float32."""
    if initial_ptr is None:
        initial = tl.zeros([BLOCK, D], dtype=tl.float32)
    else:
        initial = tl.load(initial_ptr + bh.to(tl.int64) * (D * D) + entries)
    if state_ptr is not None:
        u = tl.load(gate_ptr + bh) * load_normed(state_ptr, squares_ptr, bh, entries, D)
        # a NaN stays one: tl.minimum and tl.maximum would drop it
        initial += tl.where(u > bound, bound, tl.where(u < -bound, -bound, u))
    return initial


@triton.jit
def store_row_sums(sums_ptr, values, bh, part, BLOCK: tl.constexpr, D: tl.constexpr):
    """Store the sums of [BLOCK, D] over 16 rows each, the ``part``-th block of a state."""
    groups: tl.constexpr = BLOCK // ROWS
    sums = tl.sum(tl.reshape(tl.sum(values, 1), [groups, ROWS]), 1)
    tl.store(sums_ptr + bh * (D // ROWS) + part * groups + tl.arange(0, groups), sums)


@triton.jit
def _carried_gradient(
    state_ptr,
    squares_ptr,
    gate_ptr,
    bound,
    dinitial_ptr,
    gate_partials_ptr,
    dgate_ptr,
    dstate_ptr,
    D: tl.constexpr,
):
    bh = tl.program_id(0)
    groups: tl.constexpr = D // ROWS
    # sum(delta * n), from the epilogue of the backward scan
    dgate = tl.sum(tl.load(gate_partials_ptr + bh * groups + tl.arange(0, groups)))
    tl.store(dgate_ptr + bh, dgate)
    if dstate_ptr is not None:
        entries = tl.arange(0, D)[:, None] * D + tl.arange(0, D)[None, :]
        at = bh.to(tl.int64) * (D * D) + entries
        mean_square = load_mean_square(squares_ptr, bh, D)
        n = load_normed(state_ptr, squares_ptr, bh, entries, D)
        gate = tl.load(gate_ptr + bh)
        delta = tl.load(dinitial_ptr + at)
        delta = tl.where(tl.abs(gate * n) <= bound, delta, 0.0)
        if squares_ptr is not None:
            # the mean enters only where rms is not at its floor, a constant
            delta -= n * tl.where(mean_square > FLOOR, dgate / (D * D), 0.0)
        # the formula of dstate in the legend
        tl.store(dstate_ptr + at, delta * gate / tl.sqrt(tl.maximum(mean_square, FLOOR)))


def check_carried(carried: Carried | None, inputs: Inputs) -> None:
    """Refuse shapes, dtypes and layouts that the scans do not read.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    if carried is None:
        return
    b, _, h, d = inputs.sizes
    shapes = {"state": (b, h, d, d), "squares": (b, h, d // ROWS_PER_SQUARE), "gate": (b, h)}
    for name, shape in shapes.items():
        tensor = getattr(carried, name)
        if tensor is not None:
            like, dtype = inputs.r, torch.float32
            check_tensor(f"carried.{name}", tensor, shape=shape, like=like, dtype=dtype)


def carried_arguments(
    carried: Carried | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, float]:
    """Return state, squares, gate and bound as the kernels take them; no clip: infinite bound."""
    if carried is None:
        return None, None, None, inf
    bound = float(carried.clip) if carried.clip > 0 else inf
    return carried.state, carried.squares, carried.gate, bound


def launch_carried_gradient(
    carried: Carried,
    *,
    dinitial_state: Tensor,
    gate_partials: Tensor,
    dgate: Tensor,
    dstate: Tensor | None,
) -> None:
    """Fill the gradients of the gate and, unless it is detached, of the carried state.

    Args:
        carried: what the scan started from.
        dinitial_state: [B, H, D, D] float32, from the backward scan.
        gate_partials: [B, H, D / 16] float32, from the backward scan.
        dgate: [B, H] float32.
        dstate: [B, H, D, D] float32; None: not needed.
    """
    b, h, d, _ = carried.state.shape
    _carried_gradient[(b * h,)](
        *carried_arguments(carried),
        dinitial_state,
        gate_partials,
        dgate,
        dstate,
        D=d,
        num_warps=4,
        enable_fp_fusion=True,
    )
