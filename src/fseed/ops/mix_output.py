"""After WKV7: group norm per head, bonus of the present token, gate.

B batch, T tokens, C width, H heads, K head size.
"""

from jaxtyping import Float
from torch import Tensor, nn
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
    normed = F.group_norm(
        y.flatten(0, 1).flatten(1), norm.num_groups, norm.weight, norm.bias, norm.eps
    ).view_as(g)
    bonus = ((r * k * r_k).sum(-1, keepdim=True) * v).flatten(2)
    return (normed + bonus) * g
