"""From the projections of a layer to the inputs of WKV7: decay, keys, values, in-context rates.

B batch, T tokens, C width, H heads, K head size. The letters are those of the RWKV-7 paper,
arXiv 2503.14456; alpha = -kk and beta = kk * a are what the recurrence reads.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.neighbour_kernels import wkv7_inputs_kernels


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
