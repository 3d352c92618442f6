"""Shapes that are timed, what they must move, and the bars they are held against."""

from dataclasses import dataclass
from math import ceil

BYTES = 2  # of a bf16 value
TENSORS = {"forward": 7, "backward": 13, "forward_backward": 20}  # read and written, [B, T, H, D]
MAX_INPUT_SETS = 8


@dataclass(frozen=True)
class Shape:
    """One size of the problem: batch, tokens, heads, head_size."""

    b: int
    t: int
    h: int
    d: int = 64

    @property
    def name(self) -> str:
        """BxTxH, head size appended where it is not 64."""
        return "x".join(map(str, (self.b, self.t, self.h))) + (f"x{self.d}" * (self.d != 64))

    @property
    def tensor_bytes(self) -> int:
        """Bytes of one bf16 [B, T, H, D] tensor."""
        return self.b * self.t * self.h * self.d * BYTES

    @property
    def state_bytes(self) -> int:
        """Bytes of one float32 [B, H, D, D] state."""
        return self.b * self.h * self.d * self.d * 4


@dataclass(frozen=True)
class Bar:
    """Limits of one shape, forward + backward in milliseconds, on one H100 80GB."""

    best_peer: float
    triton: float
    fastest: float
    aim: float


TRAINING = (Shape(8, 4096, 12), Shape(32, 2048, 12), Shape(2, 4096, 12), Shape(1, 16384, 32))
SMALL = Shape(2, 1024, 12)
DECODE = (Shape(8, 1, 12), Shape(64, 1, 12))
QUICK = (Shape(8, 4096, 12), Shape(2, 4096, 12))
ACCURACY = Shape(8, 512, 12)  # as many heads as the first shape: the same kernels
BARS = {
    "8x4096x12": Bar(3.24, 1.40, 0.85, 0.58),
    "32x2048x12": Bar(3.58, 2.72, 1.63, 1.15),
    "2x4096x12": Bar(1.11, 0.43, 0.30, 0.20),
    "1x16384x32": Bar(5.07, 1.98, 1.28, 0.95),
}
FORWARD_SHARE = 0.40  # of forward + backward, at most
MEMORY_GIB = ("8x4096x12", 0.6)
FUTURE_SEED = {"8x4096x12": 0.03, "2x1024x12": 0.06}  # what it may add
ERRORS = {"typical": 6e-3, "fast_decay": 6e-3, "equal_keys": 2.5e-2}


def parse_shape(text: str) -> Shape:
    """Read BxTxH or BxTxHxD.

    Raises:
        ValueError: for anything else.
    """
    parts = text.lower().split("x")
    if len(parts) not in (3, 4) or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"shape {text!r}; expected BxTxH or BxTxHxD, such as 8x4096x12")
    return Shape(*map(int, parts))


def num_input_sets(input_bytes: int, cache_bytes: int) -> int:
    """Return how many input sets to rotate, so that none is found in the L2 cache again."""
    return max(1, min(MAX_INPUT_SETS, ceil(3 * cache_bytes / max(1, input_bytes))))
