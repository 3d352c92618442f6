"""What the launchers of the neighbours share: checks of their inputs, work per program."""

from contextlib import AbstractContextManager, nullcontext
from math import ceil

import torch
from torch import Tensor

from fseed_kernels.problem import HEAD_SIZES, check_tensor

TILE = 1024  # entries of a head tile: 16 bytes of bf16 for each of 128 threads
MAX_TILES = 16  # per program; its parameter sums then cost 2 % of the bytes of a backward pass
ENOUGH_PROGRAMS = 1056  # eight on each of 132 SMs


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """Return the guard under which kernels run on the device of ``tensor``."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def check_activation(name: str, x: Tensor) -> None:
    """Refuse what the kernels do not read as activations.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    if x.dtype not in (torch.bfloat16, torch.float32):
        raise ValueError(f"{name} has dtype {x.dtype}; allowed: torch.bfloat16, torch.float32")
    if x.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; at least one element is needed")
    check_tensor(name, x, shape=tuple(x.shape), like=x, dtype=x.dtype)


def check_width(name: str, x: Tensor, *, multiple: int = 16) -> tuple[int, int, int]:
    """Return B, T, C of ``x``.

    Raises:
        ValueError: if x is not [B, T, C] with C a multiple of ``multiple``.
    """
    if x.ndim != 3 or x.shape[2] % multiple:
        allowed = f"[B, T, C] with C a multiple of {multiple}"
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {allowed}")
    b, t, c = x.shape
    return b, t, c


def check_heads(name: str, x: Tensor, head_size: int) -> tuple[int, int]:
    """Return the rows (B * T) and the heads of ``x`` [B, T, C].

    Raises:
        ValueError: if the head size is not supported or does not divide C.
    """
    if head_size not in HEAD_SIZES:
        sizes = ", ".join(map(str, HEAD_SIZES))
        raise ValueError(f"head size {head_size}; the kernels have {sizes}")
    b, t, c = check_width(name, x, multiple=head_size)
    return b * t, c // head_size


def check_parameters(like: Tensor, **parameters: tuple[Tensor, tuple[int, ...]]) -> None:
    """Refuse parameters (each with its shape) that are neither float32 nor of the dtype of like.

    Raises:
        ValueError: naming the parameter, what it is and what is allowed.
    """
    for name, (tensor, shape) in parameters.items():
        dtype = like.dtype if tensor.dtype == like.dtype else torch.float32
        check_tensor(name, tensor, shape=shape, like=like, dtype=dtype)


def split_sums(sums: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    """Return the rows of ``sums`` [rows, C] as gradients in the shapes and dtypes of parameters."""
    found, row = [], 0
    for parameter in parameters:
        rows = parameter.numel() // sums.shape[1]
        found.append(sums[row : row + rows].view(parameter.shape).to(parameter.dtype))
        row += rows
    return tuple(found)


def tiles_per_program(num_rows: int, num_heads: int, head_size: int) -> int:
    """Return how many head tiles one program walks through."""
    tiles = ceil(num_rows * head_size / TILE) * num_heads
    return max(1, min(MAX_TILES, tiles // ENOUGH_PROGRAMS))
