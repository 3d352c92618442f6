"""Tokens a second of decoding: the captured step against the plain loop, ids compared first.

``python -m tests.bench_generation [--batch 64] [--tokens 256] [--prompt 256] [--model rwkv7_0b1]
[--backend auto] [--repeats 5] [--output rows.json]``: random weights, nothing ends a text before
its limit. On a GPU bf16 as in a run; on a CPU nano in float32, where a step is called again instead
of replayed. The first call of the captured step is that which captures; the kernels were compiled
before it, by the prompt and the plain loop. Exit status 1 where the ids differ.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fseed.models.captured_decode import CapturedDecoder, Decoder
from fseed.models.generation import generate
from fseed.models.initialization import initialize
from fseed.models.prompt_answer import PromptAnswer, read_prompt
from fseed.models.rwkv7 import RWKV7, ModelState
from fseed.models.shape import RWKV7Shape
from fseed.ops.cuda_graphs import CudaGraphRecorder
from fseed.ops.kernel_backends import resolve_backend
from tests.models.call_again import CallAgain

MODELS = Path(__file__).parents[1] / "conf" / "model"
NEVER = -1  # no id: the end of a text that does not come
CHOICES = {"greedy": {}, "sampled": {"temperature": 0.8, "top_p": 0.95}}
NUM_REPLAYS = 50


@dataclass(frozen=True)
class Row:
    """One loop: seconds of the first call and of later ones, tokens of the whole batch."""

    name: str
    tokens_per_second: float
    steps_per_second: float  # of the batch
    first_seconds: float
    median_seconds: float
    spread: float  # slowest over fastest of the later calls
    peak_gib: float | None  # allocated on a GPU, weights included


def build_model(name: str, *, device: torch.device, backend: str, batch_size: int) -> RWKV7:
    """Build the model of ``conf/model/NAME.yaml`` with random weights in which all matters."""
    sizes = yaml.safe_load((MODELS / f"{name}.yaml").read_text())
    shape = RWKV7Shape(**{key: sizes[key] for key in RWKV7Shape.__dataclass_fields__})
    generator = torch.Generator().manual_seed(0)
    model = initialize(RWKV7(shape), generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():  # the official start has zero outputs
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    found = resolve_backend(
        backend, device=device, precision="bf16", head_size=shape.head_size,
        num_heads=shape.num_heads, batch_size=batch_size,
    )  # fmt: skip
    model.use_backend(found.name)
    return model.to(device)


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return the context that a run computes in; weights are float32, as master weights are."""
    if device.type == "cpu":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


@torch.no_grad()
def read(model: RWKV7, batch: PromptAnswer) -> tuple[ModelState, Tensor]:
    """Read the prompts; return what decoding starts from."""
    with autocast(batch.prompt.device):
        last, state = read_prompt(model, batch, future_seed=None)
        return state, model.logits(last)


def build_prompts(model: RWKV7, *, batch_size: int, length: int) -> PromptAnswer:
    """Return random prompts of one length."""
    generator = torch.Generator().manual_seed(1)
    size = (batch_size, length)
    prompt = torch.randint(1, model.shape.vocab_size, size, generator=generator)
    lengths, one = torch.full((batch_size,), length), torch.ones(batch_size, dtype=torch.int64)
    return PromptAnswer(prompt, lengths, one.unsqueeze(1), one).to(model.emb.weight.device)


def decode(
    decoder: Decoder, given: tuple[ModelState, Tensor], *, num_tokens: int, choice: str
) -> list[list[int]]:
    """Decode to the limit."""
    generators = None
    if choice == "sampled":
        generators = [torch.Generator().manual_seed(i) for i in range(len(given[1]))]
    with autocast(given[1].device):
        return decoder(
            *given, max_new_tokens=num_tokens, end_of_text=NEVER, generators=generators,
            **CHOICES[choice],
        )  # fmt: skip


def measure(name: str, call: Callable[[], object], *, tokens: int, steps: int, repeats: int) -> Row:
    """Time the first call and ``repeats`` later ones."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    first, *later = [seconds_of(call) for _ in range(1 + repeats)]
    median = statistics.median(later)
    return Row(
        name=name,
        tokens_per_second=tokens / median,
        steps_per_second=steps / median,
        first_seconds=first,
        median_seconds=median,
        spread=max(later) / min(later),
        peak_gib=torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_initialized() else None,
    )


def seconds_of(call: Callable[[], object]) -> float:
    """Return the wall time of one call, until the device has done its work."""
    synchronize()
    started = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - started


def synchronize() -> None:
    """Wait for a GPU, if there is one."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def compare_ids(expected: Sequence[list[int]], found: Sequence[list[int]], *, choice: str) -> None:
    """Refuse other ids than those of the plain loop."""
    wrong = [i for i, (one, other) in enumerate(zip(expected, found, strict=True)) if one != other]
    if wrong:
        pairs = zip(expected[wrong[0]], found[wrong[0]], strict=True)
        place = next(place for place, (one, other) in enumerate(pairs) if one != other)
        raise SystemExit(
            f"{choice}: the ids of {len(wrong)} of {len(expected)} samples differ, those of sample "
            f"{wrong[0]} from token {place} on"
        )


def bench(
    model: RWKV7, *, batch_size: int, num_tokens: int, prompt: int, repeats: int
) -> list[Row]:
    """Measure prompt reading, both loops with both choices, and the recorded step alone."""
    device = model.emb.weight.device
    batch = build_prompts(model, batch_size=batch_size, length=prompt)
    rows = [
        measure(
            "prompt", lambda: read(model, batch),
            tokens=batch_size * prompt, steps=1, repeats=repeats,
        )
    ]  # fmt: skip
    given = read(model, batch)
    recorder = CudaGraphRecorder if device.type == "cuda" else CallAgain
    work = {"tokens": batch_size * num_tokens, "steps": num_tokens, "repeats": repeats}
    step = None
    for choice in CHOICES:
        plain: Decoder = partial(generate, model)
        captured = CapturedDecoder(model, new_recorder=recorder)
        calls = {
            f"{name}, {choice}": partial(
                decode, decoder, given, num_tokens=num_tokens, choice=choice
            )
            for name, decoder in (("plain loop", plain), ("captured step", captured))
        }
        rows += [measure(name, call, **work) for name, call in calls.items()]
        expected, found = (call() for call in calls.values())
        compare_ids(expected, found, choice=choice)
        step = captured._step
    assert step is not None

    def replay() -> None:
        for _ in range(NUM_REPLAYS):
            step.replay()

    with torch.no_grad(), autocast(device):
        rows.append(
            measure(
                "one recorded step alone", replay, tokens=batch_size * NUM_REPLAYS,
                steps=NUM_REPLAYS, repeats=repeats,
            )
        )  # fmt: skip
    return rows


def render(rows: Sequence[Row], *, title: str) -> Table:
    """Return the table: a row a loop."""
    table = Table(
        "measured", "tokens/s", "batch steps/s", "first call s", "median s", "slowest/fastest",
        "peak GiB", title=title,
    )  # fmt: skip
    for row in rows:
        peak = "-" if row.peak_gib is None else f"{row.peak_gib:.2f}"
        table.add_row(
            row.name, f"{row.tokens_per_second:,.0f}", f"{row.steps_per_second:,.1f}",
            f"{row.first_seconds:.3f}", f"{row.median_seconds:.4f}", f"{row.spread:.2f}", peak,
        )  # fmt: skip
    return table


def main() -> None:
    """Measure everything, print the table and write the rows where asked."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256, help="decoded for every sample")
    parser.add_argument("--prompt", type=int, default=256, help="tokens that are read before")
    parser.add_argument("--model", default="rwkv7_0b1" if on_gpu else "nano")
    parser.add_argument("--backend", default="auto", help="auto: the fastest one that is right")
    parser.add_argument("--repeats", type=int, default=5, help="calls behind every median")
    parser.add_argument("--output", type=Path, help="file of the rows, as JSON")
    options = parser.parse_args()
    device = torch.device("cuda" if on_gpu else "cpu")
    started = time.perf_counter()
    model = build_model(
        options.model, device=device, backend=options.backend, batch_size=options.batch
    )
    seconds = time.perf_counter() - started
    rows = bench(
        model, batch_size=options.batch, num_tokens=options.tokens, prompt=options.prompt,
        repeats=options.repeats,
    )  # fmt: skip
    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    title = (
        f"{options.model} on {model.backend}, batch {options.batch}, {options.tokens} tokens; "
        f"{name}, torch {torch.__version__}; model built and kernels checked in {seconds:.1f} s"
    )
    Console(width=140).print(render(rows, title=title))
    if options.output is not None:
        found = {"title": title, "rows": [asdict(row) for row in rows]}
        options.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
