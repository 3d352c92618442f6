"""In-place fills: one pass over a text with masked positions, each predicted from its own vector.

B batch, T tokens, A predicted positions (padded), C width. The text is the prompt of a batch and
holds the mask token at ``mask_positions``; a learned mask embedding is added there.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fseed.models.future_seed import FutureSeed
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7


class MaskEmbedding(nn.Module):
    """The vector that tells a masked position from the mask token itself; starts at 0."""

    def __init__(self, width: int) -> None:
        """Create the vector, [C]."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))


def fill_hidden(
    model: RWKV7,
    batch: PromptAnswer,
    *,
    mask_embedding: MaskEmbedding,
    future_seed: FutureSeed | None,
) -> Float[Tensor, "B A C"]:
    """Return the hidden vectors at the predicted positions; those of pads mean nothing."""
    places = batch.mask_positions
    if places is None:
        raise ValueError("the batch has no masked positions")
    is_masked = torch.zeros_like(batch.prompt, dtype=torch.float32)
    # pads point at position 0, so masked positions are added up, not written. By indexing: where
    # they are deterministic, scatter and gather may copy strides from the host, as no graph can
    copies = places.shape[1] // batch.answer.shape[1]
    rows = torch.arange(places.shape[0], device=places.device).unsqueeze(1)
    added_up = batch.answer_mask.float().repeat(1, copies)
    is_masked.index_put_((rows, places), added_up, accumulate=True)
    added = is_masked.unsqueeze(-1) * mask_embedding.weight
    out = model(
        batch.prompt,
        lengths=batch.prompt_lengths,
        future_seed=future_seed,
        added=added,
        noise_keys=batch.noise_keys,
    )
    return out.hidden[rows, places[:, -batch.answer.shape[1] :]]
