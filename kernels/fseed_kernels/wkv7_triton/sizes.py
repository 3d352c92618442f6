"""Fixed block sizes of the WKV7 kernels per architecture; nothing is tuned at run time.

Measured on one H100 (sm_90, 8 x 4096 x 12 x 64, bf16, Triton 3.6) where a comment gives times in
ms; everything else is chosen by offline compilation: what spills least.

Variants: "default" is the fastest right one; "safe" has smaller chunks and another number of warps:
slower, and other machine code, for assemblers that get the default wrong.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

VARIANTS = ("default", "safe")
# Hopper and Blackwell multiply 64 rows from shared memory, elsewhere they fill the registers
LARGE_TILES = ("sm_90", "sm_100", "interpreter")


@dataclass(frozen=True)
class ChunkSizes:
    """Sizes of one kernel: ``block`` state rows or key columns per program."""

    chunk_size: int
    block: int
    num_warps: int
    num_stages: int
    maxnreg: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Keywords of a Triton launch."""
        options = {"num_warps": self.num_warps, "num_stages": self.num_stages}
        options["enable_fp_fusion"] = True  # Triton 3.9 warns where its default decides
        return options if self.maxnreg is None else options | {"maxnreg": self.maxnreg}


def architecture(device: torch.device) -> str:
    """Return sm_XY of a CUDA device, "interpreter" for a CPU."""
    if device.type != "cuda":
        return "interpreter"
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


def chunk_size(precision: str, head_size: int, arch: str, variant: str = "default") -> int:
    """Return the tokens per chunk: the same in all kernels of a call, and in what it saves."""
    if variant not in VARIANTS:
        raise ValueError(f"variant {variant!r}; the kernels have {', '.join(VARIANTS)}")
    if precision == "high":
        return 16
    large = head_size == 64 and arch in LARGE_TILES and variant == "default"
    return 64 if large else 32


def forward_chunk(
    arch: str, precision: str, head_size: int, variant: str = "default"
) -> ChunkSizes:
    """Return the sizes of forward_chunk: 0.299; 8 warps 0.658, 168 registers 0.313."""
    return _base(arch, precision, head_size, variant)


def backward_values(
    arch: str, precision: str, head_size: int, variant: str = "default"
) -> ChunkSizes:
    """Return the sizes of backward_values: 168 registers (3 programs per SM) 0.264, 208 0.280."""
    sizes = _base(arch, precision, head_size, variant)
    return replace(sizes, maxnreg=168) if sizes.chunk_size == 64 else sizes


def backward_keys(
    arch: str, precision: str, head_size: int, variant: str = "default"
) -> ChunkSizes:
    """Return the sizes of backward_keys: 32 columns 0.626; 64 columns 0.870, 8 warps 0.880."""
    sizes = _base(arch, precision, head_size, variant)
    if sizes.chunk_size == 32 and head_size == 64:
        return replace(sizes, num_warps=8)
    if sizes.chunk_size == 32:
        return replace(sizes, block=16)
    return replace(sizes, block=min(head_size, 32))


def forward_scan(
    arch: str, precision: str, head_size: int, num_heads_total: int, variant: str = "default"
) -> ChunkSizes:
    """Return the sizes of forward_scan; few heads (B * H) split the rows over more programs.

    64 rows 0.136, 16 rows 0.158 at 96 heads; 0.086 and 0.059 at 24 heads (2 x 4096 x 12).
    """
    block = 64 if num_heads_total >= 96 else 32 if num_heads_total > 48 else 16
    return _scan(arch, precision, head_size, block, variant)


def backward_scan(
    arch: str, precision: str, head_size: int, num_heads_total: int, variant: str = "default"
) -> ChunkSizes:
    """Return the sizes of backward_scan: 64 rows 0.087; also the best at 24 and 32 heads."""
    return _scan(arch, precision, head_size, 64, variant)


def _base(arch: str, precision: str, head_size: int, variant: str) -> ChunkSizes:
    """Small heads need 2 warps; products in shared memory need 4."""
    tokens = chunk_size(precision, head_size, arch, variant)
    num_warps = 4 if head_size == 64 else 2
    if variant == "safe":
        num_warps *= 2
    return ChunkSizes(tokens, head_size, num_warps, num_stages=1)


def _scan(arch: str, precision: str, head_size: int, block: int, variant: str) -> ChunkSizes:
    """3 stages (= 4 > 2 where measured) and 64 rows where both fit, by offline compilation."""
    sizes = _base(arch, precision, head_size, variant)
    if sizes.chunk_size < 64:
        block = min(block, 32)  # 64 rows spill 4 KB on sm_80, 0.6 KB in "high"
    stages = 3 if precision == "bf16" and variant == "default" else 2
    return replace(sizes, block=min(head_size, block), num_stages=stages)
