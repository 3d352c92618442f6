"""Retrieval on a frozen backbone: texts become unit vectors, a question must meet its own text.

B texts, T tokens, C width. A text is the mean of its final hidden vectors under one learned
projection, shared by questions and contexts. Loss: InfoNCE (van den Oord et al. 2018) with the
other texts of the batch as negatives.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from fseed.models.future_seed import FutureSeed
from fseed.models.rwkv7 import RWKV7

TEMPERATURE = 0.05


class Projection(nn.Linear):
    """The learned projection of pooled vectors, [C, C]; starts as the identity."""

    def __init__(self, width: int) -> None:
        """Create the matrix."""
        super().__init__(width, width, bias=False)
        nn.init.eye_(self.weight)


def embed_texts(
    model: RWKV7,
    tokens: Int[Tensor, "B T"],
    lengths: Int[Tensor, " B"],
    *,
    projection: Projection,
    future_seed: FutureSeed | None,
    noise_keys: Sequence[int] | None = None,
) -> Float[Tensor, "B C"]:
    """Return one unit vector a text; the backbone keeps its gradient only where gates train."""
    trained = future_seed is not None and any(p.requires_grad for p in future_seed.parameters())
    with torch.set_grad_enabled(torch.is_grad_enabled() and trained):
        out = model(tokens, lengths=lengths, future_seed=future_seed, noise_keys=noise_keys)
        mask = torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1)
        hidden = out.hidden.to(projection.weight.dtype)  # float32 under autocast
        mean = (hidden * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1)
    with torch.autocast(mean.device.type, enabled=False):
        return F.normalize(projection(mean), dim=-1)


def contrastive_logits(
    questions: Float[Tensor, "Q C"], contexts: Float[Tensor, "N C"]
) -> Float[Tensor, "Q N"]:
    """Return the cosine similarities over the temperature, in float32 whatever the autocast."""
    with torch.autocast(questions.device.type, enabled=False):
        return questions @ contexts.T / TEMPERATURE
