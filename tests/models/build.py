"""Small non-degenerate models for tests."""

import torch
from torch import Tensor

from fseed.models.future_seed import FutureSeed, FutureSeedOptions
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape

SMALL = RWKV7Shape(
    num_layers=4, width=32, head_size=16, ffn_width=48, decay_rank=5, in_context_rank=6,
    value_rank=7, gate_rank=8, vocab_size=40,
)  # fmt: skip


def build_random_model(
    shape: RWKV7Shape = SMALL, *, seed: int = 0, dtype: torch.dtype = torch.float64
) -> RWKV7:
    """A model in which every parameter matters (no zeros, no ones)."""
    model = RWKV7(shape).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.5
            parameter.copy_(noise * scale)
    return model


def build_future_seed(shape: RWKV7Shape = SMALL, **options) -> FutureSeed:
    return FutureSeed(
        FutureSeedOptions(**options),
        num_layers=shape.num_layers, num_heads=shape.num_heads, width=shape.width,
    )  # fmt: skip


def build_batch(
    prompt_lengths: list[int], answer_lengths: list[int], *, seed: int = 0, vocab_size: int = 40
) -> PromptAnswer:
    generator = torch.Generator().manual_seed(seed)

    def tokens(lengths: list[int]) -> Tensor:
        size = (len(lengths), max(lengths))
        return torch.randint(1, vocab_size, size, generator=generator)

    return PromptAnswer(
        tokens(prompt_lengths), torch.tensor(prompt_lengths),
        tokens(answer_lengths), torch.tensor(answer_lengths),
    )  # fmt: skip
