"""The last tokens of right-padded texts: all that a topmost layer's output is needed for.

B batch, T tokens, A tokens that follow the text in its row, E = min(T, A + 2) last tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fseed.ops.continuation import Continuation
from fseed.ops.rows import flat_rows, take_rows

# the channel mix of the last token reads the token before it
TOKENS_AT_END = 2


@dataclass(frozen=True)
class TextEnd:
    """The last true token of every text, the one before it and what follows it."""

    rows: Int[Tensor, " B*E"]  # flat, b * T + t
    lengths: Int[Tensor, " B"]  # how many of the E belong to the text: 2 at most
    wanted: Int[Tensor, " B*(A+1)"]  # flat, b * E + e: the last true token and what follows it

    @classmethod
    def find(
        cls,
        lengths: Int[Tensor, " B"] | None,
        *,
        tokens: Int[Tensor, "B T"],
        continued: Continuation | None = None,
    ) -> "TextEnd":
        """Return the ends of ``tokens``, of which ``lengths`` a row are the text; None: all are."""
        num_rows, num_tokens = tokens.shape
        if lengths is None:
            lengths = torch.full((num_rows,), num_tokens, dtype=torch.int32, device=tokens.device)
        num_more = 0 if continued is None else continued.size
        size = min(TOKENS_AT_END + num_more, num_tokens)
        steps = torch.arange(size, device=lengths.device)
        first = (lengths - min(TOKENS_AT_END, num_tokens)).clamp(min=0)
        in_text = lengths - first
        last = (in_text - 1).clamp(min=0).unsqueeze(1)
        return cls(
            flat_rows(first.unsqueeze(1) + steps, num_tokens=num_tokens),
            in_text,
            flat_rows(last + steps[: num_more + 1], num_tokens=size),
        )

    def of(self, *tensors: Tensor, backend: str) -> tuple[Tensor, ...]:
        """Return those tokens of every tensor [B, T, ...] as [B, E, ...]."""
        return take_rows(tensors, self.rows, backend=backend)

    def choose(self, x: Float[Tensor, "B E C"], *, backend: str) -> Float[Tensor, "B A+1 C"]:
        """Return those of them whose output is wanted."""
        return take_rows((x,), self.wanted, backend=backend)[0]
