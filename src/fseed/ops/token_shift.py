"""Token shift: every token sees its predecessor, across the cuts of a text and under padding."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def token_shift(
    x: Float[Tensor, "B T C"], previous: Float[Tensor, "B C"], lengths: Int[Tensor, " B"] | None
) -> tuple[Float[Tensor, "B T C"], Float[Tensor, "B C"]]:
    """Return x shifted by one token and the vector that a continuation has to start from.

    ``previous`` stands before the first token (zero only at the true start of a text). Padding is on
    the right; ``lengths`` counts true tokens, 0 leaves ``previous`` as it is.
    """
    extended = torch.cat((previous.unsqueeze(1).to(x.dtype), x), dim=1)
    shifted = extended[:, :-1]
    if lengths is None:
        return shifted, extended[:, -1]
    rows = torch.arange(x.shape[0], device=x.device)
    return shifted, extended[rows, lengths]
