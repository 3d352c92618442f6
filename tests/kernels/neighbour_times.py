"""Times of the neighbours: kernels, plain PyTorch, torch.compile, and the floor of the bytes.

    python -m tests.kernels.neighbour_times --output times.csv

bf16 activations and parameters. Median milliseconds of GPU time (graph replays, or plain calls
where those are faster), forward and forward + backward; the floor moves each tensor once at
3.0 TB/s, a copy on an H100.
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.timing import time_calls
from tests.kernels.neighbour_forms import (
    Neighbour,
    build_mix_output,
    build_norm_shift_mix,
    build_relu_squared,
    build_wkv7_inputs,
)

TERABYTES_PER_SECOND = 3.0
# tensors [B, T, C] that forward and backward have to move
PASSES = {
    "norm_shift_mix 6": (7, 8),
    "norm_shift_mix 1": (2, 3),
    "wkv7_inputs, first layer": (7, 8),
    "wkv7_inputs": (11, 15),
    "mix_output": (6, 11),
    "relu_squared": (2, 3),
}
COLUMNS = ("neighbour", "pass", "fused", "plain", "compiled", "floor", "spread", "device", "note")


def main() -> None:
    """Measure, print and write one row per neighbour and pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=12, help="samples of each of two series")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    rows = []
    for neighbour in neighbours(options.batch, options.tokens, options.width):
        for row in measure(neighbour, options.repeats, compiled=not options.no_compile):
            rows.append(row)
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        torch.cuda.empty_cache()
    with options.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def neighbours(b: int, t: int, c: int) -> Iterator[Neighbour]:
    """Build them one after another; each frees its memory before the next."""
    common: dict[str, Any] = {"dtype": torch.bfloat16, "device": "cuda"}
    heads: dict[str, Any] = {"b": b, "t": t, "h": c // 64, "d": 64, **common}
    yield build_norm_shift_mix(b=b, t=t, c=c, m=6, **common)
    yield build_norm_shift_mix(b=b, t=t, c=c, m=1, **common)
    yield build_wkv7_inputs(first_layer=True, **heads)
    yield build_wkv7_inputs(first_layer=False, **heads)
    yield build_mix_output(**heads)
    yield build_relu_squared(shape=(b, t, 4 * c), **common)


def measure(neighbour: Neighbour, repeats: int, *, compiled: bool) -> Iterator[dict[str, object]]:
    """Yield the row of the forward pass and that of forward + backward."""
    douts = neighbour.output_gradients()
    megabytes = max(leaf.nbytes for leaf in neighbour.leaves.values()) / 1e6
    forms: dict[str, Callable[..., tuple[Tensor, ...]]] = {"plain": neighbour.plain}
    if compiled:
        forms["compiled"] = torch.compile(neighbour.plain, fullgraph=True)
    in_forward, in_backward = PASSES[neighbour.name]
    for name, passes in (("forward", in_forward), ("both", in_forward + in_backward)):
        calls: dict[str, Callable[[], object]] = {
            "fused": (lambda: neighbour.forward(neighbour.leaves)[0])
            if name == "forward"
            else (lambda: list(neighbour.fused(douts).values()))
        }
        for form, function in forms.items():
            run = run_forward if name == "forward" else run_both
            calls[form] = lambda run=run, function=function: run(function, neighbour, douts)
        row: dict[str, object] = dict.fromkeys(COLUMNS, "")
        row |= {"neighbour": neighbour.name, "pass": name}
        row |= {"floor": f"{passes * megabytes / TERABYTES_PER_SECOND / 1e3:.4f}"}
        row["device"] = torch.cuda.get_device_name()
        for form, call in calls.items():
            timing = time_calls([call], repeats=repeats)
            row[form] = f"{timing.milliseconds:.4f}"
            row["note"] = f"{row['note']} {form}: {timing.timer} {timing.note}".strip()
            row["spread"] = f"{row['spread']} {timing.spread:.3f}".strip()
        yield row


def run_forward(
    function: Callable[..., tuple[Tensor, ...]], neighbour: Neighbour, douts: tuple[Tensor, ...]
) -> list[Tensor]:
    """Run without autograd."""
    del douts
    with torch.no_grad():
        return list(function(neighbour.leaves))


def run_both(
    function: Callable[..., tuple[Tensor, ...]], neighbour: Neighbour, douts: tuple[Tensor, ...]
) -> list[Tensor]:
    """Run forward and the gradient of every leaf."""
    leaves = {name: leaf.detach().requires_grad_() for name, leaf in neighbour.leaves.items()}
    outputs = function(leaves)
    given = [dout.to(out.dtype) for dout, out in zip(douts, outputs, strict=True)]
    return list(torch.autograd.grad(outputs, list(leaves.values()), given))


if __name__ == "__main__":
    main()
