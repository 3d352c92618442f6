"""From the projections of a layer to the inputs of WKV7: decay, keys, values, in-context rates.

B batch, T tokens, C width, H heads, K head size. The letters are those of the RWKV-7 paper,
arXiv 2503.14456; alpha = -kk and beta = kk * a are what the recurrence reads.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.neighbour_kernels import wkv7_inputs_kernels

NORM_FLOOR = 1e-12  # of the norm that keys are divided by, as in F.normalize


@dataclass(frozen=True, kw_only=True)
class Projections:
    """What the linear layers of a time mix return."""

    decay_low: Float[Tensor, "B T C"]  # tanh(xw @ w1) @ w2
    k: Float[Tensor, "B T C"]
    v: Float[Tensor, "B T C"]
    a_low: Float[Tensor, "B T C"]  # (xa @ a1) @ a2
    v_low: Float[Tensor, "B T C"] | None  # (xv @ v1) @ v2; None in layer 0
    v_first: Float[Tensor, "B T C"] | None  # v of layer 0; None in layer 0


@dataclass(frozen=True, kw_only=True)
class InputVectors:
    """Parameters [1, 1, C] that turn projections into inputs."""

    w0: Tensor
    a0: Tensor
    k_k: Tensor
    k_a: Tensor
    v0: Tensor | None  # None in layer 0


class WKV7Inputs(NamedTuple):
    """Inputs of the recurrence beside r, by head."""

    decay_logit: Float[Tensor, "B T H K"]
    k: Float[Tensor, "B T H K"]
    v: Float[Tensor, "B T H K"]
    alpha: Float[Tensor, "B T H K"]
    beta: Float[Tensor, "B T H K"]


def wkv7_inputs(
    projections: Projections, vectors: InputVectors, *, num_heads: int, backend: str
) -> WKV7Inputs:
    """Return decay_logit, k, v, -kk and kk * a.

    ``decay_logit = w0 + decay_low``, ``a = sigmoid(a0 + a_low)``, ``kk = k k_k`` with norm 1 per
    head, ``k (1 + (a - 1) k_a)``, ``v + (v_first - v) sigmoid(v0 + v_low)``.
    """
    if backend in KERNEL_BACKENDS:
        return WKV7Inputs(*wkv7_inputs_kernels(projections, vectors, num_heads=num_heads))
    if backend == "reference":
        return _plain_inputs(projections, vectors, num_heads=num_heads)

    def by_head(x: Tensor) -> Tensor:
        return x.to(dtype).unflatten(-1, (num_heads, -1))

    # the precision that the plain form computes in, under autocast too
    dtype = torch.promote_types(projections.k.dtype, vectors.k_k.dtype)
    decay_logit, v = by_head(vectors.w0 + projections.decay_low), by_head(projections.v)
    if projections.v_first is not None and projections.v_low is not None:
        assert vectors.v0 is not None  # as v_low
        v = _ValueResidual.apply(
            v, by_head(projections.v_first), by_head(projections.v_low), by_head(vectors.v0)
        )
    rates = (by_head(x) for x in (vectors.a0, vectors.k_k, vectors.k_a))
    k, alpha, beta = _Keys.apply(by_head(projections.k), by_head(projections.a_low), *rates)
    return WKV7Inputs(decay_logit, k, v, alpha, beta)


def _plain_inputs(projections: Projections, vectors: InputVectors, *, num_heads: int) -> WKV7Inputs:
    k, v = projections.k, projections.v
    decay_logit = vectors.w0 + projections.decay_low
    if projections.v_first is not None and projections.v_low is not None:
        assert vectors.v0 is not None  # as v_low
        v = v + (projections.v_first - v) * torch.sigmoid(vectors.v0 + projections.v_low)
    a = torch.sigmoid(vectors.a0 + projections.a_low)
    kk = F.normalize((k * vectors.k_k).unflatten(-1, (num_heads, -1)), dim=-1)
    k = k * (1 + (a - 1) * vectors.k_a)
    decay_logit, k, v, a = (x.unflatten(-1, (num_heads, -1)) for x in (decay_logit, k, v, a))
    return WKV7Inputs(decay_logit, k, v, -kk, kk * a)


class _ValueResidual(torch.autograd.Function):
    """v + (v_first - v) sigmoid(v0 + v_low)."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, v_first: Tensor, v_low: Tensor, v0: Tensor) -> Tensor:
        gate = (v_low + v0).sigmoid_()
        difference = v_first - v
        ctx.save_for_backward(gate, difference)
        return torch.addcmul(v, difference, gate)

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (dout,) = gradients
        gate, difference = ctx.saved_tensors
        dfirst, dgate = dout * gate, dout * difference
        dlow = torch.ops.aten.sigmoid_backward(dgate, gate, grad_input=dgate)
        return dout - dfirst, dfirst, dlow, dlow.sum((0, 1), keepdim=True)


class _Keys(torch.autograd.Function):
    """k (1 + (a - 1) k_a), -kk and kk a, with a = sigmoid(a0 + a_low), kk = k k_k / norm."""

    @staticmethod
    def forward(ctx: Any, k: Tensor, a_low: Tensor, a0: Tensor, k_k: Tensor, k_a: Tensor):
        a = (a_low + a0).sigmoid_()
        alpha = k * k_k
        norm = torch.linalg.vector_norm(alpha, dim=-1, keepdim=True).clamp_min_(NORM_FLOOR)
        alpha.div_(-norm)
        factor = torch.addcmul(1 - k_a, a, k_a)
        ctx.save_for_backward(k, a, alpha, norm, factor, k_k, k_a)
        # alpha is an output that is read again below: its memory must not be written to
        return k * factor, alpha, (alpha * a).neg_()

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        dout, dalpha, dbeta = gradients
        k, a, alpha, norm, factor, k_k, k_a = ctx.saved_tensors
        dk = dout * factor
        dfactor = dout * k
        product = torch.addcmul(dfactor, dfactor, a, value=-1)  # and memory for the next ones
        dk_a = product.sum((0, 1), keepdim=True).neg_()
        da = dfactor.mul_(k_a).addcmul_(dbeta, alpha, value=-1)
        da0_low = torch.ops.aten.sigmoid_backward(da, a, grad_input=da)
        # through kk = u / |u|: what points along kk is lost, but not below the floor of the norm
        dkk = torch.addcmul(dalpha, dbeta, a, value=-1)  # minus the gradient of kk
        along = torch.mul(dkk, alpha, out=product).sum(-1, keepdim=True)
        along.masked_fill_(norm <= NORM_FLOOR, 0.0)
        du = dkk.addcmul_(alpha, along, value=-1).div_(-norm)
        dk_k = torch.mul(du, k, out=product).sum((0, 1), keepdim=True)
        dk.addcmul_(du, k_k)
        return dk, da0_low, da0_low.sum((0, 1), keepdim=True), dk_k, dk_a
