"""Cross-entropy of hidden vectors against a vocabulary. N rows, C width, V vocabulary."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from fseed.ops.kernel_dtype import KERNEL_BACKENDS
from fseed.ops.loss_kernels import linear_cross_entropy_kernels

NO_TARGET = -1


def linear_cross_entropy(
    hidden: Float[Tensor, "N C"],
    weight: Float[Tensor, "V C"],
    targets: Int[Tensor, " N"],
    *,
    num_targets: Float[Tensor, ""] | None,
    backend: str,
) -> Float[Tensor, ""]:
    """Return the mean loss in nats of the rows whose target is not -1.

    ``num_targets`` says how many those are; None counts them. The kernels never hold more than a
    chunk of the logits: the forward pass computes loss and gradients chunk by chunk, so a graph can
    be differentiated once.

    Raises:
        KernelUnavailable: where a kernel cannot run.
    """
    if backend in KERNEL_BACKENDS:
        return linear_cross_entropy_kernels(hidden, weight, targets, num_targets)
    return mean_cross_entropy(F.linear(hidden, weight), targets, num_targets=num_targets)


def mean_cross_entropy(
    logits: Float[Tensor, "N V"],
    targets: Int[Tensor, " N"],
    *,
    num_targets: Float[Tensor, ""] | None,
) -> Float[Tensor, ""]:
    """Return the same from logits; they are computed in float32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if num_targets is None:
        return F.cross_entropy(logits, targets, ignore_index=NO_TARGET)
    return F.cross_entropy(logits, targets, ignore_index=NO_TARGET, reduction="sum") / num_targets
