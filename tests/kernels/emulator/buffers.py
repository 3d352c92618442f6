"""Host memory for the emulated kernels, between guard bands."""

import torch
from torch import Tensor

GUARD = 4096  # bytes before and after every buffer


class Buffers:
    """Named host buffers between guard bands."""

    def __init__(self) -> None:
        self.whole: dict[str, Tensor] = {}

    def add(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a buffer full of NaN (all bits set)."""
        count = torch.Size(shape).numel() * dtype.itemsize
        self.whole[name] = torch.full((count + 2 * GUARD,), 0xFF, dtype=torch.uint8)
        return self[name].view(dtype).view(shape)

    def put(self, name: str, value: Tensor) -> Tensor:
        """Return a buffer with the contents of ``value``."""
        buffer = self.add(name, tuple(value.shape), value.dtype)
        return buffer.copy_(value)

    def __getitem__(self, name: str) -> Tensor:
        return self.whole[name][GUARD:-GUARD]

    def pointers(self, *names: str) -> list[int | None]:
        """Return addresses; None for a name that is not here."""
        return [self[name].data_ptr() if name in self.whole else None for name in names]

    def assert_guards_untouched(self) -> None:
        """Fail with the name of the buffer that was left."""
        for name, whole in self.whole.items():
            bands = torch.cat([whole[:GUARD], whole[-GUARD:]])
            assert bool((bands == 0xFF).all()), f"written outside of {name}"
