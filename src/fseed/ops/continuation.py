"""Tokens that read on from the state behind a text, in the rows of that text.

B batch, T tokens of a row, A tokens read on. A row is [text | continuation | pads], so that all
that treats every token alike treats both at once; the recurrence alone reads one after the other.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from fseed.ops.rows import flat_rows


@dataclass(frozen=True)
class Continuation:
    """Where the A tokens stand that follow the text of every row, pads among them.

    A text has one token at least.
    """

    rows: Int[Tensor, " B*A"]  # flat, b * T + t
    lengths: Int[Tensor, " B"]  # true ones among the A, int32

    @classmethod
    def behind(
        cls, ends: Int[Tensor, " B"], *, lengths: Int[Tensor, " B"], size: int, num_tokens: int
    ) -> "Continuation":
        """Return ``size`` tokens behind the first ``ends`` of rows of ``num_tokens``."""
        positions = ends.long().unsqueeze(1) + torch.arange(size, device=ends.device)
        return cls(flat_rows(positions, num_tokens=num_tokens), lengths.to(torch.int32))

    @property
    def size(self) -> int:
        """Return A."""
        return len(self.rows) // len(self.lengths)


def check_continued(continued: Continuation | None, lengths: Tensor | None) -> None:
    """Raise ValueError for tokens that read on behind texts of unknown length."""
    if continued is not None and lengths is None:
        raise ValueError("continued needs lengths: the texts end where its tokens begin")
