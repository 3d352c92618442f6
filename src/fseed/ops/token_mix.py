"""Layer norm, token shift and the lerps between a token and its predecessor.

B batch, T tokens, C width, M mixes. out[m] = n + (shifted - n) * mix[m], n the normed tokens.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.neighbour_kernels import norm_shift_mix_kernels


def norm_shift_mix(
    x: Float[Tensor, "B T C"],
    norm: nn.LayerNorm,
    previous: Float[Tensor, "B C"],
    lengths: Int[Tensor, " B"] | None,
    mixes: Float[Tensor, "M C"],
    *,
    backend: str,
) -> tuple[tuple[Float[Tensor, "B T C"], ...], Float[Tensor, "B C"]]:
    """Return the M lerps of ``norm(x)`` and the vector that a continuation has to start from.

    ``previous`` is the normed vector before the first token (zero only at the true start of a
    text). Padding is on the right; ``lengths`` counts true tokens.
    """
    if backend in KERNEL_BACKENDS:
        return norm_shift_mix_kernels(x, norm, previous, lengths, mixes)
    normed = norm(x)
    shifted, last = shift_tokens(normed, previous, lengths)
    return mix_tokens(normed, shifted, mixes), last


def shift_tokens(
    x: Float[Tensor, "B T C"], previous: Float[Tensor, "B C"], lengths: Int[Tensor, " B"] | None
) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B C"]]:
    """Return x shifted by one token and the vector that a continuation has to start from.

    ``previous`` stands before the first token (zero only at the true start of a text). Padding is
    on the right; ``lengths`` counts true tokens, 0 leaves ``previous`` as it is.
    """
    extended = torch.cat((previous.unsqueeze(1).to(x.dtype), x), dim=1)
    if lengths is None:
        return extended[:, :-1], extended[:, -1]
    rows = torch.arange(x.shape[0], device=x.device)
    return extended[:, :-1], extended[rows, lengths]


def mix_tokens(
    x: Float[Tensor, "B T C"], shifted: Float[Tensor, "B T C"], mixes: Float[Tensor, "M C"]
) -> tuple[Float[Tensor, "B T C"], ...]:
    """Return the M lerps from ``x`` towards ``shifted``."""
    return _MixTokens.apply(x, shifted, mixes).unbind(0)


class _MixTokens(torch.autograd.Function):
    """All lerps at once: two passes over memory where M separate ones take ten."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shifted: Tensor, mixes: Tensor) -> Tensor:
        delta = shifted - x
        ctx.save_for_backward(delta, mixes)
        return torch.addcmul(x.unsqueeze(0), delta.unsqueeze(0), mixes[:, None, None, :])

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = gradients
        delta, mixes = ctx.saved_tensors
        to_shifted = (gradient * mixes[:, None, None, :]).sum(0)
        to_mixes = (gradient * delta.unsqueeze(0)).sum((1, 2))
        return gradient.sum(0) - to_shifted, to_shifted, to_mixes
