"""Squared ReLU of the channel mix: out = relu(h)^2."""

# a launch is typed as the kernel itself, without the options of the launch
# pyright: reportCallIssue=false

import triton
import triton.language as tl
from torch import Tensor, empty_like

from fseed_kernels.neighbours.launching import check_activation, on_device
from fseed_kernels.problem import check_tensor

BLOCK = 2048  # 4 warps: two 16-byte loads of bf16 per thread and tensor


@triton.jit
def relu_squared_forward(h_ptr, out_ptr, size, BLOCK: tl.constexpr):
    """One block of entries."""
    entry = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    h = tl.load(h_ptr + entry, mask=entry < size, other=0.0).to(tl.float32)
    positive = tl.maximum(h, 0.0)
    tl.store(out_ptr + entry, positive * positive, mask=entry < size)


@triton.jit
def relu_squared_backward(h_ptr, dout_ptr, dh_ptr, size, BLOCK: tl.constexpr):
    """One block of entries."""
    entry = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    h = tl.load(h_ptr + entry, mask=entry < size, other=0.0).to(tl.float32)
    dout = tl.load(dout_ptr + entry, mask=entry < size, other=0.0).to(tl.float32)
    # dh = 2 relu(h) dout
    tl.store(dh_ptr + entry, 2.0 * tl.maximum(h, 0.0) * dout, mask=entry < size)


def forward(h: Tensor) -> Tensor:
    """Return relu(h)^2, of any shape.

    Raises:
        ValueError: if h is neither bfloat16 nor float32, or not contiguous.
    """
    check_activation("h", h)
    out = empty_like(h)
    with on_device(h):
        grid = (triton.cdiv(h.numel(), BLOCK),)
        relu_squared_forward[grid](h, out, h.numel(), BLOCK=BLOCK, num_warps=4)
    return out


def backward(h: Tensor, dout: Tensor) -> Tensor:
    """Return the gradient of h.

    Raises:
        ValueError: as in ``forward``, or if dout differs from h in shape or dtype.
    """
    check_activation("h", h)
    check_tensor("dout", dout, shape=tuple(h.shape), like=h, dtype=h.dtype)
    dh = empty_like(h)
    with on_device(h):
        grid = (triton.cdiv(h.numel(), BLOCK),)
        relu_squared_backward[grid](h, dout, dh, h.numel(), BLOCK=BLOCK, num_warps=4)
    return dh
