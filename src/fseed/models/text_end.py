"""The last tokens of right-padded texts: all that a topmost layer's output is needed for.

B batch, T tokens, E = min(T, 2) last tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

# the channel mix of the last token reads the token before it
TOKENS_AT_END = 2


@dataclass(frozen=True)
class TextEnd:
    """Where the last true tokens of every row stand, right-padded themselves."""

    positions: Int[Tensor, "B E"]
    lengths: Int[Tensor, " B"]  # how many of the E are true tokens

    @classmethod
    def find(cls, lengths: Int[Tensor, " B"] | None, *, tokens: Int[Tensor, "B T"]) -> "TextEnd":
        """Return the ends of ``tokens``, of which ``lengths`` a row are true; None: all are."""
        num_rows, num_tokens = tokens.shape
        if lengths is None:
            lengths = torch.full((num_rows,), num_tokens, dtype=torch.int32, device=tokens.device)
        size = min(TOKENS_AT_END, num_tokens)
        steps = torch.arange(size, device=lengths.device)
        first = (lengths - size).clamp(min=0)
        return cls(first.unsqueeze(1) + steps, lengths.clamp(max=size))

    def of(self, x: Tensor) -> Tensor:
        """Return those tokens of x [B, T, ...] as [B, E, ...]."""
        rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        return x[rows, self.positions]
