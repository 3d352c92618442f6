# triton's decorators hide its types from the type checker
# pyright: basic, reportGeneralTypeIssues=false, reportCallIssue=false
"""The streaming floor: the bytes that must move, moved by a kernel that does nothing else."""

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from bench.shapes import Shape

COPY_BYTES = 1 << 30
BLOCK = 4096


@triton.jit
def stream_forward(x, y, size, BLOCK: tl.constexpr):
    """Read six tensors, write one: y = sum over i of x[i]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for i in tl.static_range(6):
        total += tl.load(x + size * i + at, mask=inside).to(tl.float32)
    tl.store(y + at, total.to(y.dtype.element_ty), mask=inside)


@triton.jit
def stream_backward(x, y, size, BLOCK: tl.constexpr):
    """Read seven tensors, write six: y[j] = (j + 1) * sum over i of x[i]."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for i in tl.static_range(7):
        total += tl.load(x + size * i + at, mask=inside).to(tl.float32)
    for j in tl.static_range(6):
        tl.store(y + size * j + at, (total * (j + 1)).to(y.dtype.element_ty), mask=inside)


def build_streams(shape: Shape) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a call that moves the forward pass's 7 tensors and one for the backward's 13."""
    size = shape.b * shape.t * shape.h * shape.d
    x = torch.randn(7, size, device="cuda").to(torch.bfloat16)
    y = torch.empty(6, size, device="cuda", dtype=torch.bfloat16)
    grid = (triton.cdiv(size, BLOCK),)

    def forward() -> None:
        stream_forward[grid](x, y, size, BLOCK, num_warps=8)

    def backward() -> None:
        stream_backward[grid](x, y, size, BLOCK, num_warps=8)

    return forward, backward


def build_copy() -> Callable[[], object]:
    """Return a call that copies ``COPY_BYTES`` on the device (read once, written once)."""
    source = torch.randint(0, 255, (COPY_BYTES,), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
