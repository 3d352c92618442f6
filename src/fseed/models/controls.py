"""Controls of Future-Seed: another content for the state that a seeded layer starts from.

B batch, S seeded layers, H heads, N head size; states [B, H, V, K]. Norm, gate and clip are those
of the arm, so a control differs from its arm in where the state comes from and in nothing else:

    shuffled_state  final state of the layer below, of another sample of the batch
    random_state    normal noise with the RMS of the final state of the layer below
    learned_state   a trained constant
    same_layer      the layer's own final state, from a first pass over the same prompt
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

# so small that the first steps of training decide the direction of the state, and yet not 0: a raw
# gate starts at 0, and a product of two zeros has no gradient
LEARNED_START_STD = 0.02

_LEARNED_STREAM = 1  # keeps the start apart from other draws of the same seed


class LearnedState(nn.Module):
    """The constant that takes the place of the final state of the layer below, [S, H, N, N]."""

    def __init__(self, *, num_seeded: int, num_heads: int, head_size: int) -> None:
        """Create the states; values come from a checkpoint or ``initialize``."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_seeded, num_heads, head_size, head_size))

    @torch.no_grad()
    def initialize(self, *, seed: int) -> None:
        """Fill the states with small normal noise from ``seed``."""
        generator = np.random.default_rng([_LEARNED_STREAM, seed])
        noise = generator.standard_normal(self.weight.shape, dtype=np.float32)
        self.weight.copy_(LEARNED_START_STD * torch.from_numpy(noise))

    def for_batch(self, like: Float[Tensor, "B H V K"], *, seeded: int) -> Tensor:
        """Return state number ``seeded`` for every sample of ``like``; no layer below is read."""
        return self.weight[seeded].expand_as(like)


@torch.no_grad()
def random_state_like(
    state: Float[Tensor, "B H V K"], *, keys: Sequence[int] | None, layer: int
) -> Float[Tensor, "B H V K"]:
    """Return normal noise with the RMS of ``state`` per sample and head; a state of 0 stays 0.

    The noise of a sample is a pure function of its key and the layer: drawn on the CPU, alike on
    every device, whatever the batch. No gradient passes to ``state``.

    Raises:
        ValueError: without one key a sample.
    """
    if keys is None or len(keys) != state.shape[0]:
        given = "none" if keys is None else str(len(keys))
        raise ValueError(f"random_state needs a noise key a sample ({state.shape[0]}), got {given}")
    shape = tuple(state.shape[1:])
    draws = [
        np.random.default_rng([key, layer]).standard_normal(shape, dtype=np.float32) for key in keys
    ]
    noise = torch.from_numpy(np.stack(draws)).to(device=state.device, dtype=state.dtype)
    return noise * (_rms(state) / _rms(noise))


def _rms(state: Tensor) -> Tensor:
    """Return the RMS over the two state axes, kept as axes of size 1."""
    return state.square().mean(dim=(-2, -1), keepdim=True).sqrt()
