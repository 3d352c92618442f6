"""Compare every neighbour of WKV7 with plain PyTorch in float64 before the first use.

The loss and the gradient of the embedding, which stand around the layers, are checked with them.

They go through the assembler that compiles WKV7 (kernels/README.md, "Assemblers").
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import torch
from torch.nn import functional as F

from fseed_kernels.concurrent_checks import first_finding
from fseed_kernels.neighbours import cross_entropy, embedding_gradient, move_rows
from fseed_kernels.neighbours.forms import (
    Neighbour,
    build_mix_output,
    build_norm_shift_mix,
    build_relu_squared,
    build_wkv7_inputs,
)
from fseed_kernels.neighbours.norm_shift_mix import NUM_MIXES
from fseed_kernels.reference import errors, relative_error

TOLERANCES = {torch.bfloat16: 1.2e-2, torch.float32: 1e-4}  # relative, 2-norm
MOVED_TOKENS = 41  # of a text: few are moved, so the interpreter can have as many as a GPU
SHORT_TOKENS = 41  # the interpreter walks through long texts too slowly
# programs walk through several rows and head tiles from here on (B * T * C > 2112 * 1024)
LONG_TOKENS = 1501
# more than two tiles of a row of logits and a part; divided by 16, as every large vocabulary is
VOCABULARY = 2 * cross_entropy.LANES * cross_entropy.WIDTH + 48


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
                return _off(f"{neighbour.name}: {tensor}", error, dtype)
        return ""

    builders = _neighbours(device, dtype, width // head_size, head_size)
    checks = [partial(check, build) for build in builders]
    checks.append(partial(_check_cross_entropy, device, dtype))
    checks.append(partial(_check_move_rows, device, dtype, width))
    # under autocast the residual stream is float32, and its gradient
    for kind in dict.fromkeys((torch.float32, dtype)):
        checks.append(partial(_check_embedding_gradient, device, kind, width))
    return first_finding(checks, device)


def _off(what: str, error: float, dtype: torch.dtype) -> str:
    return f"{what} is off by {error:.1e} (allowed {TOLERANCES[dtype]:.1e})"


def _check_cross_entropy(device: torch.device, dtype: torch.dtype) -> str:
    generator = torch.Generator(device).manual_seed(0)
    x = 3 * torch.randn(5, VOCABULARY, generator=generator, device=device).to(dtype)
    targets = torch.tensor([7, -1, VOCABULARY - 1, 0, -1, 11], device=device)
    scale, factor = (torch.tensor(value, device=device) for value in (0.25, 0.375))
    leaf = x.double().requires_grad_()
    losses = F.cross_entropy(leaf, targets[1:], ignore_index=-1, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum() * (scale * factor).double(), leaf)
    evaluated, found = torch.zeros(6, device=device), torch.zeros(6, device=device)
    cross_entropy.cross_entropy_(x, targets, scale, evaluated, first_row=1, with_gradient=False)
    cross_entropy.cross_entropy_(x, targets, scale, found, first_row=1, with_gradient=True)
    in_float32 = x.to(torch.float32, copy=True)
    for kept in (x, in_float32):
        cross_entropy.scale_(kept, factor)
    pairs = {
        "losses without gradient": (evaluated[1:], losses),
        "losses": (found[1:], losses),
        "gradient of x": (x, gradient),
        "gradient of x in float32": (in_float32, gradient),
    }
    for name, (actual, expected) in pairs.items():
        error = relative_error(actual, expected)
        if not error <= TOLERANCES[dtype]:
            return _off(f"cross_entropy: {name}", error, dtype)
    return ""


def _check_embedding_gradient(device: torch.device, dtype: torch.dtype, width: int) -> str:
    """A third of the tokens are alike, so that whole runs of them are summed first."""
    num_tokens = LONG_TOKENS if device.type == "cuda" else SHORT_TOKENS
    generator = torch.Generator(device).manual_seed(0)
    tokens = torch.randint(50, (num_tokens,), generator=generator, device=device)
    tokens[::3] = 21
    dout = torch.randn(num_tokens, width, generator=generator, device=device).to(dtype)
    expected = torch.zeros(50, width, dtype=torch.float64, device=device)
    expected.index_add_(0, tokens, dout.double())
    error = relative_error(embedding_gradient.backward(tokens, dout, num_ids=50), expected)
    is_right = error <= TOLERANCES[dtype]
    return "" if is_right else _off("embedding_gradient: gradient of the table", error, dtype)


def _check_move_rows(device: torch.device, dtype: torch.dtype, width: int) -> str:
    """Tokens are taken out of six tensors, and written over another place of them."""
    generator = torch.Generator(device).manual_seed(0)
    wholes = [
        torch.randn(2, MOVED_TOKENS, width, generator=generator, device=device).to(dtype)
        for _ in range(move_rows.MAX_TENSORS)
    ]
    before = [x.clone() for x in wholes]
    taken, over = (
        torch.tensor([*range(start, start + 9), *range(start + 50, start + 59)], device=device)
        for start in (3, 20)
    )
    parts = move_rows.take(wholes, taken)
    move_rows.put_(wholes, over, parts)
    for whole, given, part in zip(wholes, before, parts, strict=True):
        expected = given.flatten(0, 1)
        found = torch.equal(part.flatten(0, 1), expected[taken])
        expected[over] = expected[taken]
        if not (found and torch.equal(whole.flatten(0, 1), expected)):
            return "move_rows: a token stands in the wrong place"
    return ""


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
    # in training rows have lengths and nothing reads their last vectors: two compilations each
    for m, (lengths, reads_last) in product(NUM_MIXES, (([t // 3, 0], False), (None, True))):
        kind = {"m": m, "lengths": lengths, "reads_last": reads_last}
        yield partial(build_norm_shift_mix, c=h * d, **kind, **common)
