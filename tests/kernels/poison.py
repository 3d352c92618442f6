"""Memory in which an element that is left unwritten shows."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Let torch.empty return NaN."""
    deterministic: Any = torch.utils.deterministic  # its attribute is a property of the module
    before = deterministic.fill_uninitialized_memory  # a run in this process may have set it
    deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(mode=True)
    try:
        assert torch.empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)
        deterministic.fill_uninitialized_memory = before
