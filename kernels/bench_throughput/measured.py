"""What every trainer hands back, and the row that is made of it."""

from dataclasses import dataclass, field
from typing import Any

import torch

from bench_throughput.flops import Load, flops_by_part, mfu, peak_of
from bench_throughput.jobs import Job
from bench_throughput.rows import Row, job_row
from bench_throughput.timing import StepClock, steady_after, summarize
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.shape import RWKV7Shape


@dataclass
class Measured:
    """One training: the steps' losses and gradient norms in order, their clock, and how it ran."""

    clock: StepClock
    shape: RWKV7Shape
    load: Load  # of a typical step, true tokens
    padded: int  # tokens of that step with pads
    batches: str  # digest of the first ones
    peak_gib: float
    micro_batch: int
    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)  # step, backend


def load_of(batch: PromptAnswer) -> tuple[Load, int]:
    """Return the true tokens of a batch, and its tokens with pads."""
    size, answer = batch.prompt.shape[0], int(batch.answer_lengths.sum())
    padded = size * (batch.prompt.shape[1] + batch.answer.shape[1])
    return Load(batch.num_tokens, answer, size), padded


def train_row(job: Job, found: Measured, *, process_started: float | None) -> Row:
    """Return the row of a training.

    ``process_started``: when the process began, None where it has trained before: then what comes
    before the first step is the cost of another shape, not of a cold start.
    """
    seconds = found.clock.seconds()
    row = job_row(
        job, "train",
        losses=found.losses, grad_norms=found.grad_norms, batches=found.batches,
        tokens=found.load.tokens, padded=found.padded, answers=found.load.answers,
        peak_gib=found.peak_gib, micro_batch=found.micro_batch, device=device_name(found.clock),
        flops=flops_by_part(found.shape, found.load), steps=len(seconds), **found.facts,
    )  # fmt: skip
    if job.purpose == "check":
        return row
    times = summarize(seconds, warm_up=min(job.warm_up, len(seconds) - 1))
    peak = peak_of(device_name(found.clock))
    steady = steady_after(seconds, median=times.median)
    row |= {
        "milliseconds": 1e3 * times.median,
        "p10": 1e3 * times.p10,
        "p90": 1e3 * times.p90,
        "mean": 1e3 * times.window,
        "timed": times.n,
        "tokens_per_second": found.load.tokens / times.median,
        "mfu": None
        if peak is None
        else mfu(found.shape, found.load, seconds=times.median, peak=peak),
        "first_step_seconds": seconds[0],
    }
    if process_started is not None:
        until_training = found.clock.started - process_started
        row["cold_seconds"] = until_training + seconds[0]
        row["steady_seconds"] = until_training + max(seconds[0], steady)
    return row


def device_name(clock: StepClock) -> str:
    """Return the name of the device."""
    return torch.cuda.get_device_name(clock.device) if clock.device.type == "cuda" else "CPU"
