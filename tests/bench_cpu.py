"""Speed and memory on the CPU: ratios measured in one process, printed as one table.

Run with ``make bench-cpu``; ``--only step`` prints a training step of nano with its profile alone.
Nothing here is a timed test: the figures depend on the machine, the ratios much less. The peer is
fla-core's plain torch code (extra ``bench``), left out when absent.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from fseed.models.future_seed import FutureSeed, FutureSeedOptions
from fseed.models.initialization import initialize
from fseed.models.prompt_answer import answer_hidden
from fseed.models.rwkv7 import RWKV7
from fseed.models.shape import RWKV7Shape
from fseed.ops.wkv7_chunked import wkv7_chunked
from fseed.ops.wkv7_reference import wkv7_reference
from fseed.training.host_memory import keep_freed_memory
from tests.models.build import build_batch
from tests.operator_times import TimeOperators
from tests.results.builders import RunSpec, finish_run

NANO = RWKV7Shape(
    num_layers=12, width=64, head_size=32, ffn_width=256, decay_rank=16, in_context_rank=16,
    value_rank=16, gate_rank=16, vocab_size=256,
)  # fmt: skip
MATRIX_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "baddbmm_"}
Row = tuple[str, str, str]
Layout = tuple[tuple[int, ...], tuple[int, ...]]  # shape, stride


def median_seconds(function: Callable[[], object], *, repeats: int) -> float:
    """Return the median wall time of ``function`` after one warm-up."""
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def wkv7_inputs() -> list[Tensor]:
    """r, log_decay, k, v, alpha, beta and a state at B 4, T 512, H 4, head 64, float32."""
    generator = torch.Generator().manual_seed(0)
    size = (4, 512, 4, 64)
    r, k, v, kk, a, w = (torch.randn(size, generator=generator) for _ in range(6))
    log_decay = -0.6065306597 * torch.sigmoid(w)
    state = torch.randn(4, 4, 64, 64, generator=generator)
    kk = F.normalize(kk, dim=-1)
    inputs = [r, log_decay, k, v, -kk, kk * torch.sigmoid(a), state]
    return [x.requires_grad_() for x in inputs]


def bench_wkv7(repeats: int) -> list[Row]:
    """Forward + backward of both backends and of the peer, outputs compared first."""
    inputs = wkv7_inputs()
    operators = {"reference, token by token": wkv7_reference, "chunked": wkv7_chunked}
    operators |= {f"fla-core {name}": op for name, op in load_peers().items()}
    expected = wkv7_reference(*inputs)[0].detach()
    seconds: dict[str, float] = {}
    for name, op in operators.items():
        error = float((op(*inputs)[0].detach() - expected).norm() / expected.norm())
        if error > 1e-4:
            raise RuntimeError(f"{name} computes something else: relative error {error:.1e}")
        slow = name != "chunked"
        seconds[name] = median_seconds(
            lambda op=op: forward_backward(op, inputs), repeats=2 if slow else repeats
        )
    chunked = seconds["chunked"]
    return [
        (f"wkv7 fwd+bwd, {name}", f"{s * 1e3:.0f} ms", f"{s / chunked:.1f} x chunked")
        for name, s in seconds.items()
    ]


def forward_backward(op: Callable[..., tuple[Tensor, Tensor]], inputs: Sequence[Tensor]) -> None:
    """Run one operator and every gradient, the final state's included."""
    y, final_state = op(*inputs)
    torch.autograd.grad(y.square().sum() + final_state.square().sum(), inputs)


def load_peers() -> dict[str, Callable[..., tuple[Tensor, Tensor]]]:
    """Return fla-core's naive torch forms in our argument order; empty when not installed.

    The file is loaded by path: importing the package needs triton, which this code does not use.
    """
    package = importlib.util.find_spec("fla")
    if package is None or not package.submodule_search_locations:
        return {}
    path = Path(package.submodule_search_locations[0], "ops/generalized_delta_rule/dplr/naive.py")
    spec = importlib.util.spec_from_file_location("fla_naive", path)
    assert spec is not None
    assert spec.loader is not None
    naive = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(naive)
    peers = {"recurrent": naive.dplr_recurrence, "chunked": naive.dplr_chunkwise}
    return {name: adapt_peer(peer) for name, peer in peers.items()}


def adapt_peer(peer: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """Wrap head-first inputs, a [K, V] state and the 1/sqrt(K) that fla puts on r."""

    def wkv7(r, log_decay, k, v, alpha, beta, state):
        head_first = [
            x.transpose(1, 2) for x in (r * r.shape[-1] ** 0.5, k, v, alpha, beta, log_decay)
        ]
        y, final_state = peer(*head_first, initial_state=state.transpose(-1, -2))
        return y.transpose(1, 2), final_state.transpose(-1, -2)

    return wkv7


class RecordProducts(TorchDispatchMode):
    """Note shapes and strides of every matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[str, list[Layout]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in MATRIX_PRODUCTS:
            layouts = [(tuple(a.shape), a.stride()) for a in args if isinstance(a, Tensor)]
            self.products.append((name, layouts))
        return func(*args, **(kwargs or {}))


def build_nano_step() -> tuple[Callable[[], None], int]:
    """Return one training step of nano at batch 16, and its true tokens."""
    model = initialize(RWKV7(NANO), generator=torch.Generator().manual_seed(0))
    options = FutureSeedOptions(lstart=10)
    fs = FutureSeed(options, num_layers=12, num_heads=NANO.num_heads, width=NANO.width)
    batch = build_batch([228] * 16, [5] * 16, vocab_size=256)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        hidden = answer_hidden(model, batch, future_seed=fs)[batch.answer_mask]
        F.cross_entropy(model.logits(hidden), batch.answer[batch.answer_mask]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step, int(batch.prompt_lengths.sum() + batch.answer_lengths.sum())


def bench_profile(repeats: int) -> list[Row]:
    """CPU time of a training step of nano by kind of operator; Python and autograd are the rest."""
    step, tokens = build_nano_step()
    step()
    alone = []
    for _ in range(repeats):
        started = time.process_time()
        step()
        alone.append(time.process_time() - started)
    whole = statistics.median(alone)
    with TimeOperators() as timed:
        for _ in range(repeats):
            step()
    parts = sorted(timed.seconds, key=lambda part: -timed.seconds[part])
    rows = [("nano step, CPU time", f"{whole * 1e3:.0f} ms", f"{tokens / whole:,.0f} tokens/CPU s")]
    for part in parts:
        seconds, calls = timed.seconds[part] / repeats, timed.calls[part] // repeats
        remark = f"{seconds / whole:.0%}, {calls} calls"
        rows.append((f"  {part}", f"{seconds * 1e3:.0f} ms", remark))
    rest = whole - sum(timed.seconds.values()) / repeats
    remark = f"{rest / whole:.0%}; below 0: what timing itself costs"
    return [*rows, ("  Python, autograd, launching", f"{rest * 1e3:.0f} ms", remark)]


def bench_nano_step(repeats: int) -> list[Row]:
    """One training step of nano at batch 16, and its matrix products replayed alone."""
    step, tokens = build_nano_step()
    with RecordProducts() as recorder:
        step()
    operands = {layout: strided(*layout) for _, layouts in recorder.products for layout in layouts}
    products = [
        (getattr(torch.ops.aten, name), [operands[layout] for layout in layouts])
        for name, layouts in recorder.products
    ]
    whole = median_seconds(step, repeats=repeats)
    alone = median_seconds(lambda: [op(*tensors) for op, tensors in products], repeats=repeats)
    return [
        (
            "nano training step, 16 x 233",
            f"{whole * 1e3:.0f} ms",
            f"{tokens / whole:,.0f} tokens/s",
        ),
        (
            "its matrix products alone",
            f"{alone * 1e3:.0f} ms",
            f"step = {whole / alone:.2f} x products",
        ),
    ]


def strided(shape: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Return random numbers in the memory layout of the original operand."""
    length = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return torch.randn(length).as_strided(shape, stride)


def bench_commands(repeats: int) -> list[Row]:
    """Wall time of the light commands, each in a fresh process, and whether torch was imported."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for seed in range(50):
            for arm in ("no_fs", "scalar_l10"):
                finish_run(root, RunSpec(arm=arm, seed=seed))
        commands = {
            "fseed.run --help": ["fseed.run", "--help"],
            "fseed.run --cfg job": ["fseed.run", "--cfg", "job"],
            "fseed.run, a typo": ["fseed.run", "fs=scalr_l10"],
            "fseed.run, lstart=12": ["fseed.run", "lstart=12"],
            "fseed.collect, 100 runs": ["fseed.collect", str(root), "--out", str(root / "tables")],
        }
        return [bench_command(name, words, repeats) for name, words in commands.items()]


def bench_command(name: str, words: Sequence[str], repeats: int) -> Row:
    """Time ``python -m WORDS``; torch counts as imported if its module was ever loaded."""
    command = [sys.executable, "-X", "importtime", "-m", *words]
    quiet = [sys.executable, "-m", *words]
    imported = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    seconds = median_seconds(
        lambda: subprocess.run(quiet, capture_output=True, check=False), repeats=repeats
    )
    has_torch = any(line.split("|")[-1].strip() == "torch" for line in imported.splitlines())
    return (name, f"{seconds:.2f} s", "imports torch" if has_torch else "no torch")


def bench_memory() -> list[Row]:
    """Peak resident memory of the default sweep, cut to 2 steps: more steps need no more."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["-m", "seed=0,1,2", "budget.steps=2", f"output.root={folder}"]
        command = [sys.executable, "-m", "fseed.run", *words, "trainer.progress=false"]
        subprocess.run(command, capture_output=True, check=True)
        results = [json.loads(path.read_text()) for path in Path(folder).rglob("result.json")]
    peak = max(result["peak_memory_gib"] for result in results)
    return [("default sweep, peak memory", f"{peak:.2f} GiB", "limit 2 GiB")]


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="runs behind every median")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--only", choices=["step"], help="a training step of nano, nothing else")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as a run does
    rows = bench_nano_step(options.repeats) + bench_profile(options.repeats)
    if options.only is None:
        rows = bench_wkv7(options.repeats) + rows + bench_commands(options.repeats) + bench_memory()
    title = f"torch {torch.__version__}, {options.threads} threads, {os.cpu_count()} cores"
    table = Table("measured", "median", "ratio or remark", title=title)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
