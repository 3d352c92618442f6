"""Problems of the kernel tests: the builder and the float64 reference of the self-check."""

import torch

from fseed_kernels.reference import (
    Problem,
    build_problem,
    carried_reference,
    errors,
    recurrence,
    reference,
    relative_error,
)

__all__ = [
    "Problem",
    "build_problem",
    "carried_reference",
    "errors",
    "poison_allocations",
    "recurrence",
    "reference",
    "relative_error",
]


def poison_allocations(device: str, gib: float = 2.0) -> None:
    """Fill memory that the next allocations get with NaN, so that an unwritten element shows."""
    torch.cuda.synchronize(device)
    block = torch.full((int(gib * 2**28),), float("nan"), device=device)
    del block
