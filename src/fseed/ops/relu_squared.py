"""Squared ReLU, the activation of the channel mix."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.neighbour_kernels import relu_squared_kernels


def relu_squared(x: Float[Tensor, "*S C"], *, backend: str) -> Float[Tensor, "*S C"]:
    """Return max(x, 0)^2; the kernels save one pass over memory in each direction."""
    if backend in KERNEL_BACKENDS:
        return relu_squared_kernels(x)
    return torch.relu(x).square() if backend == "reference" else _ReluSquared.apply(x)


class _ReluSquared(torch.autograd.Function):
    """Two passes over memory in the backward direction, where the plain form takes four."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (positive,) = ctx.saved_tensors
        return (gradients[0] * positive).mul_(2)
