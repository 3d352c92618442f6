"""Layer norm, token shift and the lerps between a token and its predecessor.

B batch, T tokens, C width, M mixes. out[m] = n + (shifted - n) * mix[m], n the normed tokens.
``shift_tokens`` and ``mix_tokens`` are the plain form; ``_ShiftAndMix`` computes both in one, and
the projections of the lerps with them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.neighbour_kernels import norm_shift_mix_kernels


class Weight(NamedTuple):
    """A matrix that vectors are multiplied with, as the model keeps it."""

    matrix: Float[Tensor, "N C"]  # [C, N] where it is not that of an nn.Linear
    is_linear: bool = True

    def times(self, x: Float[Tensor, "*S C"]) -> Float[Tensor, "*S N"]:
        """Return the product."""
        return F.linear(x, self.matrix) if self.is_linear else x @ self.matrix


def norm_shift_project(
    x: Float[Tensor, "B T C"],
    norm: nn.LayerNorm,
    previous: Float[Tensor, "B C"],
    lengths: Int[Tensor, " B"] | None,
    mixes: Float[Tensor, "M C"],
    weights: Sequence[Sequence[Weight]],
    *,
    backend: str,
) -> tuple[tuple[Tensor, ...], Float[Tensor, "B C"]]:
    """Return the M lerps of ``norm(x)``, each times each of its weights, and a vector [B, C].

    A continuation starts from that vector. ``previous`` is the normed vector before the first token
    (zero only at the true start of a text). Padding is on the right; ``lengths`` counts true
    tokens. A lerp without weights is returned itself, [B, T, C].

    The plain operator keeps no lerp for the backward pass: to compute one again is as fast as to
    wait for it. Autocast casts the weights itself, once for all that read them, so there the
    products stay outside.
    """
    if backend in KERNEL_BACKENDS:
        mixed, last = norm_shift_mix_kernels(x, norm, previous, lengths, mixes)
    elif backend == "reference":
        normed = norm(x)
        shifted, last = shift_tokens(normed, previous, lengths)
        mixed = mix_tokens(normed, shifted, mixes)
    elif torch.is_autocast_enabled(x.device.type):
        mixed, last = _shift_mix_project(norm(x), previous, lengths, mixes, [()] * len(mixes))
    else:
        return _shift_mix_project(norm(x), previous, lengths, mixes, weights)
    pairs = zip(mixed, weights, strict=True)
    return tuple(out for x, own in pairs for out in _project(x, own)), last


def _shift_mix_project(
    normed: Tensor,
    previous: Tensor,
    lengths: Tensor | None,
    mixes: Tensor,
    weights: Sequence[Sequence[Weight]],
) -> tuple[tuple[Tensor, ...], Tensor]:
    kinds = [[weight.is_linear for weight in own] for own in weights]
    matrices = [weight.matrix for own in weights for weight in own]
    given = (normed, previous.to(normed.dtype), lengths, mixes, kinds, *matrices)
    *outs, last = _ShiftAndMix.apply(*given)
    return tuple(outs), last


def _project(x: Tensor, weights: Sequence[Weight]) -> list[Tensor]:
    return [weight.times(x) for weight in weights] if weights else [x]


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
    """Shift, lerps and projections without a shifted copy, one lerp at a time in the cache."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        previous: Tensor,
        lengths: Tensor | None,
        mixes: Tensor,
        kinds: Sequence[Sequence[bool]],
        *matrices: Tensor,
    ):
        ctx.save_for_backward(x, previous, mixes, *matrices)
        ctx.kinds, ctx.last = kinds, _LastTrue.find(lengths)
        delta, outs, scratch = _to_predecessor(x, previous), [], torch.empty_like(x)
        for mix, own in zip(mixes, _by_lerp(matrices, kinds), strict=True):
            mixed = torch.addcmul(x, delta, mix, out=scratch if own else torch.empty_like(x))
            outs += _project(mixed, own)
        return *outs, _last_vectors(x, previous, ctx.last)

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        *to_outs, to_last = gradients
        x, previous, mixes, *matrices = ctx.saved_tensors
        weights, outs = _by_lerp(matrices, ctx.kinds), iter(to_outs)
        delta, to_mixes, to_matrices = _to_predecessor(x, previous), [], []
        # memory that was just written is in the cache, a new tensor is not
        to_both, scratch, product = (torch.empty_like(x) for _ in range(3))
        to_shifted = None
        for mix, own in zip(mixes, weights, strict=True):
            to_mixed = to_both if to_shifted is None else scratch
            if own:
                mixed = torch.addcmul(x, delta, mix, out=product)
                to_matrices += _project_backward(mixed, own, outs, to_mixed=to_mixed)
            else:
                to_mixed.copy_(next(outs))
            to_mixes.append(torch.mul(to_mixed, delta, out=product).sum((0, 1)))
            # a lerp is (1 - mix) x + mix shifted
            if to_shifted is None:
                to_shifted = to_mixed * mix
            else:
                to_shifted.addcmul_(to_mixed, mix)
                to_both.add_(to_mixed)
        assert to_shifted is not None
        to_x = to_both.sub_(to_shifted)
        to_x[:, :-1].add_(to_shifted[:, 1:])
        to_previous = _add_to_last(to_x, to_shifted[:, 0].clone(), to_last, ctx.last)
        return to_x, to_previous, None, torch.stack(to_mixes), None, *to_matrices


def _to_predecessor(x: Tensor, previous: Tensor) -> Float[Tensor, "B T C"]:
    """Return shifted - x."""
    delta = torch.empty_like(x)
    torch.sub(x[:, :-1], x[:, 1:], out=delta[:, 1:])
    torch.sub(previous, x[:, 0], out=delta[:, 0])
    return delta


def _by_lerp(matrices: Sequence[Tensor], kinds: Sequence[Sequence[bool]]) -> list[list[Weight]]:
    """Return the weights of every lerp."""
    rest = iter(matrices)
    return [[Weight(next(rest), is_linear) for is_linear in own] for own in kinds]


def _project_backward(
    mixed: Float[Tensor, "B T C"],
    weights: Sequence[Weight],
    to_outs: Iterator[Tensor],
    *,
    to_mixed: Float[Tensor, "B T C"],
) -> list[Tensor]:
    """Return the gradients of the matrices; write that of the lerp into ``to_mixed``."""
    rows, to_rows, to_matrices = mixed.flatten(0, 1), to_mixed.view(-1, mixed.shape[-1]), []
    for i, (matrix, is_linear) in enumerate(weights):
        to_out = next(to_outs).flatten(0, 1)
        to_matrices.append(to_out.T @ rows if is_linear else rows.T @ to_out)
        back = matrix if is_linear else matrix.T
        if i == 0:
            torch.mm(to_out, back, out=to_rows)
        else:
            to_rows.addmm_(to_out, back)
    return to_matrices


class _LastTrue(NamedTuple):
    """Where the last true vector of every row stands."""

    rows: Int[Tensor, " B"]
    tokens: Int[Tensor, " B"]  # 0 where there is none
    is_empty: Bool[Tensor, "B 1"]

    @classmethod
    def find(cls, lengths: Int[Tensor, " B"] | None) -> "_LastTrue | None":
        """Return None where every row ends with its last token."""
        if lengths is None:
            return None
        rows = torch.arange(len(lengths), device=lengths.device)
        return cls(rows, (lengths - 1).clamp_min_(0), (lengths == 0).unsqueeze(1))


def _last_vectors(x: Tensor, previous: Tensor, last: _LastTrue | None) -> Float[Tensor, "B C"]:
    """Return the last true vector of every row, ``previous`` where there is none."""
    if last is None:
        return x[:, -1].clone()
    return torch.where(last.is_empty, previous, x[last.rows, last.tokens])


def _add_to_last(
    to_x: Tensor, to_previous: Tensor, to_last: Tensor, last: _LastTrue | None
) -> Tensor:
    """Add the gradient of ``_last_vectors`` to that of x in place; return that of previous."""
    if last is None:
        to_x[:, -1].add_(to_last)
        return to_previous
    rows, tokens, is_empty = last
    # every row once: nothing is accumulated, so there is no order to depend on
    to_x[rows, tokens] = to_x[rows, tokens] + to_last.masked_fill(is_empty, 0.0)
    return to_previous + to_last.masked_fill(~is_empty, 0.0)
