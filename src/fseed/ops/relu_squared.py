"""Squared ReLU, the activation of the channel mix."""

import torch
from jaxtyping import Float
from torch import Tensor

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.neighbour_kernels import relu_squared_kernels


def relu_squared(x: Float[Tensor, "*S C"], *, backend: str) -> Float[Tensor, "*S C"]:
    """Return max(x, 0)^2; the kernels save one pass over memory in each direction."""
    return relu_squared_kernels(x) if backend in KERNEL_BACKENDS else torch.relu(x).square()
