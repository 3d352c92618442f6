"""Random generators of sampled answers: one per (seed, example, sample), whatever the batch."""

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
    digests = (hashlib.sha256(name.encode()).digest() for name in names)
    return [torch.Generator().manual_seed(int.from_bytes(d[:7])) for d in digests]
