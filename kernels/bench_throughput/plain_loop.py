"""The plain loop: forward, backward, clip, AdamW, one step after another."""

import json
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from bench_throughput.jobs import Job, find_trainer
from bench_throughput.measured import Measured, load_of
from bench_throughput.sides import Inputs, Side, build_side
from bench_throughput.timing import StepClock
from bench_throughput.workload import (
    Setting,
    build_batches,
    build_examples,
    fingerprint,
    num_batches,
    plan,
)
from fseed.config.schema import RunConfig
from fseed.training.memory import free_memory, peak_memory_gib, reset_peak_memory
from fseed.training.micro_batches import split_batch
from fseed.training.optimizer import build_warmup
from fseed.training.records import run_device
from fseed.training.trainer import prepare_torch

Parts = Sequence[tuple[Inputs, float]]  # what a backward pass reads, and its share of the loss


def train_plain(setting: Setting, job: Job, *, micro_batch: int, max_seconds: float) -> Measured:
    """Train the steps of ``job``, fewer where they take longer than ``max_seconds``."""
    trainer = find_trainer(job.trainer)
    config = plan(setting, job.shape, arm=trainer.arm, steps=job.steps, words=job.words).config
    prepare_torch(config)
    device = run_device(config)
    examples = build_examples(setting, config, job.shape, num_batches=num_batches(job))
    batches = list(build_batches(examples, config, steps=job.steps))
    record = setting.folder / f"{trainer.name}.jsonl"
    side = build_side(trainer, config, batches[0], record=record)
    free_memory()  # ours, where only theirs is trained
    reset_peak_memory(device)
    parts = [
        [
            (pinned(side.inputs(part), device), share)
            for part, share in split_batch(batch, size=micro_batch)
        ]
        for batch in batches
    ]
    loop = Loop(side, config)
    loop.run(parts, fewest=min(job.steps, job.warm_up + 5), max_seconds=max_seconds)
    load, padded = load_of(batches[0])
    return Measured(
        clock=loop.clock,
        shape=side.shape,
        load=load,
        padded=padded,
        batches=fingerprint(examples, config),
        peak_gib=peak_memory_gib(device),
        micro_batch=micro_batch,
        losses=[float(loss) for loss in loop.losses],
        grad_norms=[float(norm) for norm in loop.grad_norms],
        facts=side.facts,
    )


def pinned(inputs: Inputs, device: torch.device) -> Inputs:
    """Return tensors whose copy to a GPU lets nobody wait."""
    if device.type != "cuda":
        return inputs
    return tuple(tensor.pin_memory() for tensor in inputs)


class Loop:
    """One training; losses and norms stay on the device unless the side records every step."""

    def __init__(self, side: Side, config: RunConfig) -> None:
        """Create AdamW with the settings of the run: one group, for nothing decays."""
        optim = config.optim
        if optim.weight_decay != 0 or optim.decay_lr_multiplier != 1:
            raise ValueError("the plain loop has one group of parameters: no decay, one rate")
        self.side, self.max_norm = side, optim.grad_clip
        self.clock = StepClock(run_device(config))
        self.losses: list[Tensor] = []
        self.grad_norms: list[Tensor] = []
        self.trained = side.parameters if side.masters is None else side.masters
        self.optimizer = AdamW(
            self.trained,
            lr=optim.lr,
            betas=(optim.beta1, optim.beta2),
            eps=optim.eps,
            weight_decay=0.0,
            fused=True if side.record is None else None,  # unfused: as PyTorch chooses
        )
        self.warmup = build_warmup(self.optimizer, warmup_steps=optim.warmup_steps)

    def run(self, batches: Sequence[Parts], *, fewest: int, max_seconds: float) -> None:
        """Take a step for every batch; behind ``fewest`` steps none is begun late."""
        self.clock.start()
        started = time.monotonic()
        for number, parts in enumerate(batches):
            if number >= fewest and time.monotonic() - started > max_seconds:
                break
            self._step(parts)
            self.clock.mark()
        self.clock.wait()

    def _step(self, parts: Parts) -> None:
        loss = torch.zeros((), device=self.clock.device)
        for inputs, share in parts:
            moved = [tensor.to(self.clock.device, non_blocking=True) for tensor in inputs]
            with self.side.autocast():
                part = self.side.loss(*moved) * share
            part.backward()
            loss += part.detach()
        self._gather_gradients()
        norm = nn.utils.clip_grad_norm_(self.trained, self.max_norm)
        self.optimizer.step()
        self.warmup.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.side.masters is not None:
            with torch.no_grad():
                copy_all: Any = torch._foreach_copy_  # pyright: ignore[reportPrivateImportUsage] one launch
                copy_all(self.side.parameters, self.side.masters)
        self.losses.append(loss)
        self.grad_norms.append(norm)
        self._record()

    def _gather_gradients(self) -> None:
        if self.side.masters is None:
            return
        for master, parameter in zip(self.side.masters, self.side.parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None

    def _record(self) -> None:
        if self.side.record is None:
            return
        row = {"loss": float(self.losses[-1]), "grad_norm": float(self.grad_norms[-1])}
        with self.side.record.open("a") as file:
            file.write(json.dumps(row) + "\n")
