"""Squared ReLU, the activation of the channel mix, and the projection behind it."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.neighbour_kernels import relu_squared_kernels


def project_relu_squared(
    x: Float[Tensor, "*S F"], weight: Float[Tensor, "C F"], *, backend: str
) -> Float[Tensor, "*S C"]:
    """Return max(x, 0)^2 times ``weight`` transposed.

    The kernels save one pass over memory in each direction; the plain operator keeps max(x, 0)
    alone, and squares it again in the backward pass; autocast casts the weight itself.
    """
    if backend in KERNEL_BACKENDS:
        return F.linear(relu_squared_kernels(x), weight)
    if backend == "reference" or torch.is_autocast_enabled(x.device.type):
        return F.linear(torch.relu(x).square(), weight)
    return _ReluSquaredProjection.apply(x, weight)


class _ReluSquaredProjection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive, weight)
        return F.linear(positive * positive, weight)

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (dout,) = gradients
        positive, weight = ctx.saved_tensors
        rows, square = dout.flatten(0, -2), (positive * positive).flatten(0, -2)
        dweight = rows.T @ square
        # into memory that is in the cache; twice the smaller factor: a power of two rounds nothing
        dx = torch.mm(2 * rows, weight, out=square).view_as(positive)
        return dx.mul_(positive), dweight
