"""Randomness that belongs to an example, whatever the batch: sampled answers and noise."""

import hashlib
from collections.abc import Sequence

import torch

from fseed.tasks.base import EncodedExample


def sample_generators(
    examples: Sequence[EncodedExample], *, seed: int, sample: int
) -> list[torch.Generator] | None:
    """Return a generator per example for sample 1, 2, ...; None for sample 0, the greedy one."""
    if sample == 0:
        return None
    names = (f"{seed}:{sample}:{example.example_id}" for example in examples)
    return [torch.Generator().manual_seed(_digest(name)) for name in names]


def noise_keys(examples: Sequence[EncodedExample], *, seed: int, occasion: str) -> tuple[int, ...]:
    """Return what the noise of each example depends on (control random_state).

    ``occasion`` is a step of training, or a split: every evaluation of a run, teacher-forced or
    free, meets an example with the same noise, so its scores differ by what was trained alone.
    """
    return tuple(_digest(f"{seed}:{occasion}:{example.example_id}") for example in examples)


def _digest(name: str) -> int:
    """Return 56 bits of the SHA-256 of ``name``."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
