"""This project's trainer, built by the code that builds it for ``fseed.run``.

Left out are the callbacks that score and save: the other trainers do neither. Every row of the
records is written, as in a run.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L

from bench_throughput.jobs import Job, find_trainer
from bench_throughput.measured import Measured, load_of
from bench_throughput.timing import StepClock
from bench_throughput.workload import (
    Setting,
    build_examples,
    fingerprint,
    given_examples,
    num_batches,
    plan,
)
from fseed.training.attempt import Attempt
from fseed.training.callbacks import EvaluateSplit, SaveCheckpoint
from fseed.training.interrupt import InterruptFlag
from fseed.training.memory import peak_memory_gib
from fseed.training.records import run_device


class MarkSteps(L.Callback):
    """Mark the end of every step; ``after`` is called with the number of steps that are done."""

    def __init__(self, clock: StepClock, *, after: Callable[[int], None] | None = None) -> None:
        """Mark on ``clock``."""
        self.clock, self.after, self._done = clock, after, 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock: what comes before is set-up."""
        self.clock.start()

    def on_train_batch_end(self, *_: Any, **_unused: Any) -> None:
        """Mark; nothing waits for the device."""
        self.clock.mark()
        self._done += 1
        if self.after is not None:
            self.after(self._done)


def train_ours(
    setting: Setting, job: Job, *, micro_batch: int, after: Callable[[int], None] | None = None
) -> Measured:
    """Train the steps of ``job`` and return what was measured."""
    with built_attempt(setting, job, micro_batch=micro_batch) as attempt:
        config = attempt.config
        clock = StepClock(run_device(config))
        callbacks: list[L.Callback] = attempt.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue] Lightning's own list
        callbacks[:] = [c for c in callbacks if not isinstance(c, EvaluateSplit | SaveCheckpoint)]
        callbacks.append(MarkSteps(clock, after=after))
        attempt._open_records()
        try:
            attempt.trainer.fit(attempt.module, datamodule=attempt.data_module)
        finally:
            attempt.data_module.close()
        clock.wait()
        rows = attempt.log.training_rows
        examples = attempt.data.splits["train"]
        batches = attempt.data_module.batches
        batches.start_step = 0
        load, padded = load_of(next(iter(batches)))  # padded as this trainer pads
        return Measured(
            clock=clock,
            shape=attempt.module.model.shape,
            load=load,
            padded=padded,
            batches=fingerprint(examples, config),
            peak_gib=peak_memory_gib(clock.device),
            micro_batch=micro_batch,
            losses=[float(row["loss"]) for row in rows],
            grad_norms=[float(row["grad_norm"]) for row in rows],
            facts={"step": step_name(attempt), "backend": attempt.backend.name},
        )


@contextmanager
def built_attempt(setting: Setting, job: Job, *, micro_batch: int) -> Iterator[Attempt]:
    """Yield the attempt of a job; its folder is emptied before."""
    words = [*job.words, *micro_batch_words(job, micro_batch)]
    arm = find_trainer(job.trainer).arm
    run = plan(setting, job.shape, arm=arm, steps=job.steps, words=words)
    shutil.rmtree(run.run_dir, ignore_errors=True)
    run.run_dir.mkdir(parents=True)
    examples = build_examples(setting, run.config, job.shape, num_batches=num_batches(job))
    with given_examples(examples), InterruptFlag() as flag:
        yield Attempt(run, flag, position="1/1")


def micro_batch_words(job: Job, micro_batch: int) -> Sequence[str]:
    """Return the override that takes a batch in parts; none where it is whole."""
    is_whole = micro_batch == job.shape.batch
    return () if is_whole else (f"trainer.micro_batch_size={micro_batch}",)


def step_name(attempt: Attempt) -> str:
    """Return how the steps were taken, and why not as graphs."""
    facts = attempt._step_facts
    name = f"{facts['mode']}, trainer.step={attempt.config.trainer.step.value}"
    if facts.get("graphs"):
        name += f", {facts['graphs']} graphs in {facts['captured_seconds']:.1f} s"
    return name if not facts["reason"] else f"{name} ({facts['reason']})"
