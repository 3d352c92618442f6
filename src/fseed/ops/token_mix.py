"""Layer norm, token shift and the lerps between a token and its predecessor.

B batch, T tokens, C width, M mixes. out[m] = n + (shifted - n) * mix[m], n the normed tokens.
``shift_tokens`` and ``mix_tokens`` are the plain form; ``_ShiftAndMix`` computes both in one.
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
    if backend == "reference":
        shifted, last = shift_tokens(normed, previous, lengths)
        return mix_tokens(normed, shifted, mixes), last
    *mixed, last = _ShiftAndMix.apply(normed, previous.to(normed.dtype), lengths, mixes)
    return tuple(mixed), last


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


class _ShiftAndMix(torch.autograd.Function):
    """Shift and lerps without a shifted copy; one gradient at a time, while it is in the cache."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, previous: Tensor, lengths: Tensor | None, mixes: Tensor):
        delta = torch.empty_like(x)
        torch.sub(x[:, :-1], x[:, 1:], out=delta[:, 1:])
        torch.sub(previous, x[:, 0], out=delta[:, 0])
        ctx.save_for_backward(delta, mixes)
        ctx.lengths = lengths
        mixed = [torch.addcmul(x, delta, mix) for mix in mixes]
        return *mixed, _last_vectors(x, previous, lengths)

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        *to_mixed, to_last = gradients
        delta, mixes = ctx.saved_tensors
        # a lerp is (1 - mix) x + mix shifted
        to_shifted, to_both = to_mixed[0] * mixes[0], to_mixed[0].clone()
        product = to_mixed[0] * delta
        to_mixes = [product.sum((0, 1))]
        for gradient, mix in zip(to_mixed[1:], mixes[1:], strict=True):
            to_shifted.addcmul_(gradient, mix)
            to_both.add_(gradient)
            to_mixes.append(torch.mul(gradient, delta, out=product).sum((0, 1)))
        to_x = to_both.sub_(to_shifted)
        to_x[:, :-1].add_(to_shifted[:, 1:])
        to_previous = _add_to_last(to_x, to_shifted[:, 0].clone(), to_last, ctx.lengths)
        return to_x, to_previous, None, torch.stack(to_mixes)


def _last_vectors(x: Tensor, previous: Tensor, lengths: Tensor | None) -> Float[Tensor, "B C"]:
    """Return the last true vector of every row, ``previous`` where there is none."""
    if lengths is None:
        return x[:, -1].clone()
    rows = torch.arange(len(x), device=x.device)
    last = x[rows, (lengths - 1).clamp_min(0)]
    return torch.where((lengths > 0).unsqueeze(1), last, previous)


def _add_to_last(
    to_x: Tensor, to_previous: Tensor, to_last: Tensor, lengths: Tensor | None
) -> Tensor:
    """Add the gradient of ``_last_vectors`` to that of x in place; return that of previous."""
    if lengths is None:
        to_x[:, -1].add_(to_last)
        return to_previous
    is_empty = (lengths == 0).unsqueeze(1)
    # every row once: nothing is accumulated, so there is no order to depend on
    rows, last = torch.arange(len(to_x), device=to_x.device), (lengths - 1).clamp_min(0)
    to_x[rows, last] = to_x[rows, last] + to_last.masked_fill(is_empty, 0.0)
    return to_previous + to_last.masked_fill(~is_empty, 0.0)
