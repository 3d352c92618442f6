"""Compare every neighbour of WKV7 with plain PyTorch in float64 before the first use.

They go through the assembler that compiles WKV7 (kernels/README.md, "Assemblers").
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch

from fseed_kernels.concurrent_checks import first_finding
from fseed_kernels.neighbours.forms import (
    Neighbour,
    build_mix_output,
    build_norm_shift_mix,
    build_relu_squared,
    build_wkv7_inputs,
)
from fseed_kernels.neighbours.norm_shift_mix import NUM_MIXES
from fseed_kernels.reference import errors

TOLERANCES = {torch.bfloat16: 1.2e-2, torch.float32: 1e-4}  # relative, 2-norm
SHORT_TOKENS = 41  # the interpreter walks through long texts too slowly
# programs walk through several rows and head tiles from here on (B * T * C > 2112 * 1024)
LONG_TOKENS = 1501


def find_error(*, device: torch.device, dtype: torch.dtype, head_size: int, width: int) -> str:
    """Run forward and backward of every neighbour; gradients have to be enabled.

    Args:
        device: a GPU, or the CPU in Triton's interpreter.
        dtype: what the kernels compute in, bfloat16 or float32. In bfloat16 the residual stream
            and the parameters are float32, as under autocast.
        head_size: D, one of 16, 32, 64.
        width: C of the model; the kernels are compiled for it.

    Returns:
        The first deviation above the tolerance in words; "" where all is right.
    """

    def check(build: Callable[[], Neighbour]) -> str:
        neighbour = build()
        douts = neighbour.output_gradients()
        found = errors(neighbour.fused(douts), neighbour.reference(douts, torch.float64))
        for name, error in found.items():
            if not error <= TOLERANCES[dtype]:
                tensor = f"gradient of {name}" if name in neighbour.leaves else name
                allowed = f"{TOLERANCES[dtype]:.1e}"
                return f"{neighbour.name}: {tensor} is off by {error:.1e} (allowed {allowed})"
        return ""

    builders = _neighbours(device, dtype, width // head_size, head_size)
    return first_finding([partial(check, build) for build in builders], device)


def _neighbours(
    device: torch.device, dtype: torch.dtype, h: int, d: int
) -> Iterator[Callable[[], Neighbour]]:
    """Yield what builds them, so that each takes its memory when its turn comes."""
    t = LONG_TOKENS if device.type == "cuda" else SHORT_TOKENS
    yield partial(build_relu_squared, shape=(2, t, 4 * h * d), dtype=dtype, device=device)
    common: dict[str, Any] = {
        **{"b": 2, "t": t, "dtype": dtype, "device": device},
        "autocast": dtype == torch.bfloat16,
    }
    for first_layer in (True, False):
        yield partial(build_wkv7_inputs, h=h, d=d, first_layer=first_layer, **common)
    yield partial(build_mix_output, h=h, d=d, **common)
    # a prompt has lengths and hands its last vector on, an answer neither: two compilations each
    for m, (lengths, reads_last) in product(NUM_MIXES, (([t // 3, 0], True), (None, False))):
        kind = {"m": m, "lengths": lengths, "reads_last": reads_last}
        yield partial(build_norm_shift_mix, c=h * d, **kind, **common)
