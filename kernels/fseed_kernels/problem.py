"""What goes into WKV7 and comes out of it, for every backend.

B batch, T tokens, H heads, D head size (keys and values alike), C chunk_size, NC chunks of a row.
state [B, H, D, D] float32: row = value, column = key. ``bh`` = b * H + h.
"""

from dataclasses import dataclass, fields
from math import ceil

import torch
from torch import Tensor

HEAD_SIZES = (16, 32, 64)
PRECISIONS = ("bf16", "high")
ROWS_PER_SQUARE = 16  # rows of the state behind one entry of ``squares``
MAX_HEADS = 65535  # B * H: an axis of the launch grid
MEAN_SQUARE_FLOOR = 1e-12  # (rms >= 1e-6)^2, mechanism of Future-Seed


@dataclass(frozen=True)
class Inputs:
    """The six inputs per token, each [B, T, H, D]; alpha = -kk, beta = kk * a."""

    r: Tensor
    decay_logit: Tensor  # log_decay = -exp(-0.5) * sigmoid(decay_logit)
    k: Tensor
    v: Tensor
    alpha: Tensor
    beta: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The six tensors in the order of the fields."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, T, H, D."""
        b, t, h, d = self.r.shape
        return b, t, h, d


@dataclass(frozen=True)
class Carried:
    """Future-Seed at the state load: clip(gate * state / rms) is added to the initial state."""

    state: Tensor  # [B, H, D, D] float32: final state of the layer below
    squares: Tensor | None  # [B, H, D / 16] float32: its sums of squares; None: no norm
    gate: Tensor  # [B, H] float32: strength times gate
    clip: float  # bound on every entry; 0: none


@dataclass(frozen=True)
class Saved:
    """What the forward pass keeps for the backward pass; see kernels/README.md."""

    step: Tensor  # P [BH, NC, D, D]
    query: Tensor  # Q [BH, NC, C, D]
    total: Tensor  # G [BH, NC, D] float32
    states: Tensor  # S before every chunk [BH, NC, D, D]
    inverse: Tensor  # X [BH, NC, C, C]


@dataclass(frozen=True)
class Outputs:
    """Result of a forward pass; ``saved`` only where a backward pass may follow."""

    y: Tensor  # [B, T, H, D], dtype of v; 0 on pads
    final_state: Tensor  # [B, H, D, D] float32, after the last true token
    squares: Tensor  # [B, H, D / 16] float32: sums of final_state^2 over 16 rows each
    saved: Saved | None


@dataclass(frozen=True)
class Gradients:
    """Gradients of the six inputs (0 on pads), of the initial state and of what was carried."""

    r: Tensor
    decay_logit: Tensor
    k: Tensor
    v: Tensor
    alpha: Tensor
    beta: Tensor
    initial_state: Tensor  # [B, H, D, D] float32
    gate: Tensor | None  # [B, H] float32
    carried_state: Tensor | None  # [B, H, D, D] float32


def num_chunks(num_tokens: int, chunk_size: int) -> int:
    """Return the number of chunks that hold ``num_tokens``; the last may be short."""
    return ceil(num_tokens / chunk_size)


def scratch_dtypes(precision: str) -> tuple[torch.dtype, torch.dtype]:
    """Return the dtypes of P, N, Q, S and of the inverse X.

    Raises:
        ValueError: for a precision that does not exist.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}; allowed: {', '.join(PRECISIONS)}")
    if precision == "bf16":
        return torch.bfloat16, torch.float16  # |X| is small: fp16 has the 11 bits of tf32
    return torch.float32, torch.float32


def check_inputs(inputs: Inputs, *, initial_state: Tensor | None, lengths: Tensor | None) -> None:
    """Refuse shapes, dtypes and layouts that the kernels do not read.

    Raises:
        ValueError: naming the tensor, what it is and what is allowed.
    """
    b, t, h, d = inputs.sizes
    if d not in HEAD_SIZES:
        raise ValueError(f"head size {d}; the kernels have {', '.join(map(str, HEAD_SIZES))}")
    if t < 1 or b * h < 1 or b * h > MAX_HEADS:
        raise ValueError(f"B={b} T={t} H={h}: T >= 1 and 1 <= B * H <= {MAX_HEADS} are allowed")
    for field, tensor in zip(fields(inputs), inputs.tensors, strict=True):
        check_tensor(field.name, tensor, shape=(b, t, h, d), like=inputs.r, dtype=inputs.r.dtype)
    if inputs.r.dtype not in (torch.bfloat16, torch.float32):
        raise ValueError(f"r has dtype {inputs.r.dtype}; allowed: torch.bfloat16, torch.float32")
    if initial_state is not None:
        shape = (b, h, d, d)
        check_tensor(
            "initial_state", initial_state, shape=shape, like=inputs.r, dtype=torch.float32
        )
    if lengths is not None:
        check_tensor("lengths", lengths, shape=(b,), like=inputs.r, dtype=torch.int32)


def check_saved(
    saved: Saved, inputs: Inputs, *, chunk_size: int, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    """Refuse what another forward pass kept: other sizes, chunks, backend or device.

    ``dtypes`` as of ``scratch_dtypes``.

    Raises:
        ValueError: naming the tensor, what it is and what is expected.
    """
    b, t, h, d = inputs.sizes
    chunks = (b * h, num_chunks(t, chunk_size))
    scratch, inverse = dtypes
    expected = {
        "step": ((d, d), scratch),
        "query": ((chunk_size, d), scratch),
        "total": ((d,), torch.float32),
        "states": ((d, d), scratch),
        "inverse": ((chunk_size, chunk_size), inverse),
    }
    for name, (size, dtype) in expected.items():
        tensor = getattr(saved, name)
        check_tensor(f"saved.{name}", tensor, shape=(*chunks, *size), like=inputs.r, dtype=dtype)


def check_tensor(
    name: str, tensor: Tensor, *, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype
) -> None:
    """Refuse a tensor of another shape, dtype, device or layout; the message names it.

    Raises:
        ValueError: with what was given and what is allowed.
    """
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}")
    if tensor.dtype != dtype:
        raise ValueError(f"{name} has dtype {tensor.dtype}; expected {dtype}")
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}; expected {like.device}")
    if not tensor.is_contiguous():
        raise ValueError(f"{name} has strides {tensor.stride()}; call .contiguous() first")
