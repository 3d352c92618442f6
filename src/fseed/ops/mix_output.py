"""After WKV7: group norm per head, bonus of the present token, gate.

B batch, T tokens, C width, H heads, K head size.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.neighbour_kernels import mix_output_kernels


def mix_output(
    y: Float[Tensor, "B T H K"],
    *,
    r: Float[Tensor, "B T H K"],
    k: Float[Tensor, "B T H K"],
    v: Float[Tensor, "B T H K"],
    g: Float[Tensor, "B T C"],
    r_k: Float[Tensor, "H K"],
    norm: nn.GroupNorm,
    backend: str,
) -> Float[Tensor, "B T C"]:
    """Return ``(group_norm(y) + (sum over K of r k r_k) v) * g``."""
    if backend in KERNEL_BACKENDS:
        return mix_output_kernels(y, r=r, k=k, v=v, g=g, r_k=r_k, norm=norm)
    if backend == "reference":
        normed = F.group_norm(
            y.flatten(0, 1).flatten(1), norm.num_groups, norm.weight, norm.bias, norm.eps
        ).view_as(g)
        bonus = ((r * k * r_k).sum(-1, keepdim=True) * v).flatten(2)
        return (normed + bonus) * g
    # the precision that the plain form computes in, under autocast too
    dtype = torch.promote_types(v.dtype, r_k.dtype)
    gate = g.unflatten(-1, r_k.shape)
    by_token = (x.to(dtype) for x in (y, r, k, v, gate))
    by_head = (x.view_as(r_k).to(dtype) for x in (r_k, norm.weight, norm.bias))
    return _MixOutput.apply(*by_token, *by_head, norm.eps).flatten(2)


class _MixOutput(torch.autograd.Function):
    """((n w + b) + s v) g with n = y normed per head and s = sum over K of r k r_k."""

    @staticmethod
    def forward(ctx: Any, y, r, k, v, g, r_k, weight, bias, eps: float):
        normed, mean, rstd = torch.native_layer_norm(y, y.shape[-1:], None, None, eps)
        strength = (r * k).mul_(r_k).sum(-1, keepdim=True)
        ungated = torch.addcmul(bias, normed, weight).addcmul_(strength, v)
        ctx.save_for_backward(
            *(y, r, k, v, g, r_k, weight), *(normed, mean, rstd, strength, ungated)
        )
        return ungated * g

    @staticmethod
    @once_differentiable
    # the decorator hides the parameter names from the type checker
    def backward(ctx: Any, *gradients: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        (dout,) = gradients
        y, r, k, v, g, r_k, weight, normed, mean, rstd, strength, ungated = ctx.saved_tensors
        dg = dout * ungated
        dungated = dout * g
        product = dungated * normed  # and memory for the next ones
        dbias, dweight = dungated.sum((0, 1)), product.sum((0, 1))
        dv = dungated * strength
        dstrength = torch.mul(dungated, v, out=product).sum(-1, keepdim=True)
        dnormed = dungated.mul_(weight)
        dy, _, _ = torch.ops.aten.native_layer_norm_backward(
            dnormed, y, y.shape[-1:], mean, rstd, None, None, [True, False, False]
        )
        dr, dk = dstrength * k, dstrength * r
        dr_k = torch.mul(dr, r, out=product).sum((0, 1))
        return dy, dr.mul_(r_k), dk.mul_(r_k), dv, dg, dr_k, dweight, dbias, None
