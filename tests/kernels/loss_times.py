"""Times and memory of the loss and of the embedding's gradient, beside PyTorch and Liger.

    python -m tests.kernels.loss_times [--rows 3277] [--tokens 32768] [--sweep]

Hidden and table float32 under bf16 autocast, as in training. Median milliseconds of forward +
backward by CUDA events, and the peak of memory beyond the inputs; then the float64 errors of each.
``--sweep`` times the kernels alone with other tile sizes.
"""

import argparse
import statistics
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fseed.ops.embed_tokens import embed_tokens
from fseed.ops.linear_cross_entropy import linear_cross_entropy
from fseed_kernels.neighbours import cross_entropy, embedding_gradient
from fseed_kernels.reference import relative_error

WIDTH, VOCABULARY = 768, 65536


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=3277)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--sweep", action="store_true")
    options = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__)
    measure_loss(options.rows)
    measure_embedding(options.tokens)
    if options.sweep:
        sweep_tiles()


def measure_loss(num_rows: int) -> None:
    """Compare the loss and its two gradients."""
    hidden = torch.randn(num_rows, WIDTH, device="cuda", requires_grad=True)
    weight = (0.05 * torch.randn(VOCABULARY, WIDTH, device="cuda")).requires_grad_()
    targets = torch.randint(VOCABULARY, (num_rows,), device="cuda")
    count = torch.tensor(float(num_rows), device="cuda")

    def plain() -> Tensor:
        return F.cross_entropy(F.linear(hidden, weight).float(), targets)

    def fused() -> Tensor:
        call = {"num_targets": count, "backend": "triton"}
        return linear_cross_entropy(hidden, weight, targets, **call)

    forms: dict[str, Callable[[], Tensor]] = {
        "fused": fused,
        "fused, share 0.5": lambda: 0.5 * fused(),
        "plain": plain,
    }
    forms |= liger(hidden, weight, targets)
    expected = reference(hidden, weight, targets)
    for name, form in forms.items():

        def run(form: Callable[[], Tensor] = form) -> tuple[Tensor, ...]:
            with torch.autocast("cuda", torch.bfloat16):
                loss = form()
            return loss.detach(), *torch.autograd.grad(loss, (hidden, weight))

        found, share = run(), 0.5 if "share" in name else 1.0
        errors = [
            relative_error(x, share * y.to(x.device)) for x, y in zip(found, expected, strict=True)
        ]
        del found
        report(f"loss {num_rows} x {VOCABULARY} x {WIDTH}, {name}", run, errors)


def liger(hidden: Tensor, weight: Tensor, targets: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Return Liger's fused loss in the same precision, if it is installed."""
    try:
        from liger_kernel.ops.fused_linear_cross_entropy import (  # pyright: ignore[reportMissingImports] installed or not
            LigerFusedLinearCrossEntropyFunction,
        )
    except ImportError:
        print("liger-kernel is not installed")
        return {}

    def loss() -> Tensor:
        found: Any = LigerFusedLinearCrossEntropyFunction.apply(hidden, weight, targets)
        return found[0] if isinstance(found, tuple) else found

    return {"liger": loss}


def reference(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Return loss and gradients from float64 logits, a part of the rows at a time."""
    table = weight.detach().double()
    loss = torch.zeros((), dtype=torch.float64, device="cuda")
    dweight, dhidden = torch.zeros_like(table), []
    for rows, wanted in zip(hidden.detach().double().split(256), targets.split(256), strict=True):
        x = rows @ table.T
        loss += F.cross_entropy(x, wanted, reduction="sum") / len(hidden)
        dx = x.softmax(1)
        dx[torch.arange(len(wanted), device="cuda"), wanted] -= 1
        dx /= len(hidden)
        dhidden.append(dx @ table)
        dweight += dx.T @ rows
    return loss, torch.cat(dhidden), dweight


def measure_embedding(num_tokens: int) -> None:
    """Compare the gradient of the table, float32, a tenth of the tokens alike."""
    weight = torch.randn(VOCABULARY, WIDTH, device="cuda", requires_grad=True)
    tokens = torch.randint(VOCABULARY, (num_tokens,), device="cuda")
    tokens[::10] = 0
    dout = torch.randn(num_tokens, WIDTH, device="cuda")
    expected = torch.zeros(VOCABULARY, WIDTH, dtype=torch.float64, device="cuda")
    expected.index_add_(0, tokens, dout.double())
    forms = {
        "fused": lambda: embed_tokens(tokens, weight, backend="triton"),
        "plain": lambda: F.embedding(tokens, weight),
    }
    for name, form in forms.items():

        def run(form: Callable[[], Tensor] = form) -> tuple[Tensor, ...]:
            return torch.autograd.grad(form(), weight, dout)

        errors = [relative_error(run()[0], expected)]
        report(f"embedding {num_tokens} x {VOCABULARY} x {WIDTH}, {name}", run, errors)


def sweep_tiles() -> None:
    """Time one chunk of the loss kernel for several tiles; the numbers in it do not matter."""
    x = torch.randn(2048, VOCABULARY, device="cuda").bfloat16()
    targets = torch.randint(VOCABULARY, (2048,), device="cuda")
    losses, scale = torch.empty(2048, device="cuda"), torch.tensor(1e-3, device="cuda")

    def run() -> tuple[Tensor, ...]:
        rows = (x, targets, scale, losses)
        cross_entropy.cross_entropy_(*rows, first_row=0, with_gradient=True)
        return (x, losses)

    before = cross_entropy.LANES, cross_entropy.WIDTH
    for lanes, width in product((256, 512, 1024), (8, 16, 32)):
        cross_entropy.LANES, cross_entropy.WIDTH = lanes, width
        cross_entropy.NUM_WARPS = lanes // 32
        report(f"loss kernel 2048 rows, {lanes} lanes of {width} (in use: {before})", run, [])
    print(f"floor: one read and one write of {x.nbytes / 1e6:.0f} MB, 0.18 ms at 3.0 TB/s")
    tokens = torch.randint(VOCABULARY, (32768,), device="cuda")
    tokens[::10] = 0
    dout = torch.randn(32768, WIDTH, device="cuda")
    before = embedding_gradient.TILE, embedding_gradient.IDS_PER_PROGRAM

    def sum_up() -> tuple[Tensor, ...]:
        return (embedding_gradient.backward(tokens, dout, num_ids=VOCABULARY),)

    for tile, ids in product((2, 4, 8), (1, 4, 16)):
        embedding_gradient.TILE, embedding_gradient.IDS_PER_PROGRAM = tile, ids
        report(f"embedding gradient, tile {tile}, {ids} ids (in use: {before})", sum_up, [])
    print("floor: 101 MB read, 201 MB written, 0.10 ms at 3.0 TB/s")


def report(name: str, run: Callable[[], tuple[Tensor, ...]], errors: list[float]) -> None:
    """Print median milliseconds of 20 calls, peak memory of one, and errors."""
    for _ in range(5):
        run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    peak = (torch.cuda.max_memory_allocated() - before) / 2**20
    times = []
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    told = " ".join(f"{error:.1e}" for error in errors)
    print(f"{name}: {statistics.median(times):.3f} ms, peak {peak:.0f} MiB, errors {told}")


if __name__ == "__main__":
    main()
