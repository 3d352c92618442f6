"""Which operators are kernels, and what they compute in."""

import torch
from torch import Tensor

KERNEL_BACKENDS = ("triton", "cuda")


def kernel_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype that the kernels compute ``x`` in: that of autocast where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
