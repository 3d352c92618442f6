"""The one path that training, evaluation and generation share: a prompt, and an answer behind it.

The prompt is read with Future-Seed or without; the answer continues causally from every layer's own
full prompt state, Future-Seed off. The first answer token is predicted from the last prompt token.
B batch, P prompt tokens, A answer tokens, C width.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from fseed.models.future_seed import FutureSeed
from fseed.models.rwkv7 import RWKV7, ModelState
from fseed.ops.continuation import Continuation
from fseed.ops.rows import flat_rows


class PromptAnswer(NamedTuple):
    """A right-padded batch; answers end with the end-of-text token.

    In-place fills: ``answer`` are the tokens at ``mask_positions`` of the prompt, no end of text; a
    prompt that is read twice has M = 2 A of them, the last A are predicted. Retrieval: ``answer``
    is the question. ``noise_keys``: what the noise of each sample depends on (random_state).

    The last three come with training batches that are prepared for the device: which answer tokens
    count, so that nothing has to be found and counted there. ``rows`` are flat positions b * A + a.
    """

    prompt: Int[Tensor, "B P"]
    prompt_lengths: Int[Tensor, " B"]
    answer: Int[Tensor, "B A"]
    answer_lengths: Int[Tensor, " B"]
    mask_positions: Int[Tensor, "B M"] | None = None
    noise_keys: tuple[int, ...] | None = None
    rows: Int[Tensor, " R"] | None = None  # answer tokens that count; pads are 0
    row_targets: Int[Tensor, " R"] | None = None  # their ids; pads are -1
    num_targets: Float[Tensor, ""] | None = None  # how many count

    def to(self, device: torch.device) -> "PromptAnswer":
        """Return the batch on ``device``."""
        parts = self._asdict().items()
        moved = {k: v.to(device) for k, v in parts if isinstance(v, Tensor)}
        return self._replace(**moved)

    @property
    def num_tokens(self) -> int:
        """Count the true tokens that are read; those of in-place fills stand in the prompt."""
        answer = 0 if self.mask_positions is not None else int(self.answer_lengths.sum())
        return int(self.prompt_lengths.sum()) + answer

    @property
    def answer_mask(self) -> Bool[Tensor, "B A"]:
        """Tell true answer tokens from pads."""
        positions = torch.arange(self.answer.shape[1], device=self.answer.device)
        return positions < self.answer_lengths.unsqueeze(1)


def read_prompt(
    model: RWKV7, batch: PromptAnswer, *, future_seed: FutureSeed | None
) -> tuple[Float[Tensor, "B C"], ModelState]:
    """Return the hidden vector of the last true prompt token and the full state behind it."""
    out = model(
        batch.prompt,
        lengths=batch.prompt_lengths,
        future_seed=future_seed,
        noise_keys=batch.noise_keys,
        only_last=True,
    )
    return out.hidden[:, 0], out.state


def answer_hidden(
    model: RWKV7, batch: PromptAnswer, *, future_seed: FutureSeed | None
) -> Float[Tensor, "B A C"]:
    """Return the hidden vectors that predict answer tokens 0 .. A-1 (teacher forcing).

    Prompt and answer stand in one row, so that every layer computes them together.
    """
    if batch.answer.shape[1] == 1:
        last, _ = read_prompt(model, batch, future_seed=future_seed)
        return last.unsqueeze(1)
    tokens, continued = join(batch)
    out = model(
        tokens,
        lengths=batch.prompt_lengths,
        future_seed=future_seed,
        noise_keys=batch.noise_keys,
        continued=continued,
    )
    return out.hidden


def join(batch: PromptAnswer) -> tuple[Int[Tensor, "B P+A-1"], Continuation]:
    """Return prompts with their answers right behind them, and where those stand.

    The last answer token predicts nothing, so it is not read.
    """
    (_, prompt_size), size = batch.prompt.shape, batch.answer.shape[1] - 1
    num_tokens, ends = prompt_size + size, batch.prompt_lengths
    places = torch.arange(num_tokens, device=ends.device) - ends.unsqueeze(1)  # in the answer
    # not gather, which may read the host where it has to be deterministic on a GPU
    rows = flat_rows(places.clamp(0, size - 1), num_tokens=size + 1)
    answer = batch.answer.flatten().index_select(0, rows).view_as(places)
    is_answer = (places >= 0) & (places < size)
    tokens = torch.where(is_answer, answer, F.pad(batch.prompt, (0, size)))
    own_lengths = batch.answer_lengths - 1
    given = {"lengths": own_lengths, "size": size, "num_tokens": num_tokens}
    return tokens, Continuation.behind(ends, **given)
