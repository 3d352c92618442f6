"""Lightning callbacks of a run. Their order matters: records, evaluation, checkpoint, interrupt.

A checkpoint at step c is written after everything that belongs to steps up to c, so a run that is
killed at any moment continues from c with complete records. On a GPU the numbers of a step are
read while the next one runs; whoever scores, saves or leaves calls ``RecordSteps.settle`` first.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from fseed.errors import RunInterrupted, UserError
from fseed.models.prompt_answer import PromptAnswer
from fseed.training.checkpoint_file import save_checkpoint
from fseed.training.evaluation import Evaluation, Evaluator
from fseed.training.interrupt import InterruptFlag
from fseed.training.memory import ScoringOutOfMemory, is_out_of_memory, peak_memory_gib
from fseed.training.module import FutureSeedModule
from fseed.training.optimizer import current_rate
from fseed.training.run_log import RunLog

MAX_LOST_SECONDS = 30.0


@dataclass(frozen=True)
class _Numbers:
    """The numbers of a step on their way to the host."""

    values: Tensor  # [3 + 2 S], see FutureSeedModule.step_numbers
    arrival: torch.cuda.Event | None  # None: they are there

    @classmethod
    def send(cls, numbers: Tensor) -> "_Numbers":
        """Begin the one copy of a step, to pinned memory, and wait for nothing."""
        if numbers.device.type != "cuda":
            return cls(numbers, None)
        values, arrival = numbers.to("cpu", non_blocking=True), torch.cuda.Event()
        arrival.record()
        return cls(values, arrival)

    def read(self) -> dict[str, Any]:
        """Wait until they have arrived; return them by the names of a row."""
        if self.arrival is not None:
            self.arrival.synchronize()
        loss, norm, head_norm, *gates = self.values.tolist()
        before, after = gates[: len(gates) // 2], gates[len(gates) // 2 :]
        grad_norm = math.hypot(norm, head_norm)
        return {"loss": loss, "grad_norm": grad_norm, "gates_before": before, "gates": after}


@dataclass(frozen=True)
class _Launched:
    """A step that is not on record yet: what the host knows of it, and its numbers."""

    step: int
    tokens: int
    answer_tokens: int
    lr: float
    memory_gib: float
    started: float
    numbers: _Numbers


class RecordSteps(L.Callback):
    """Append a row per optimiser step; a loss that is not finite ends the run."""

    def __init__(self, log: RunLog, *, is_behind: bool = False) -> None:
        """Write to ``log``: at once, or when the next step is launched (``is_behind``)."""
        self.run_log, self.is_behind = log, is_behind
        self._started = self._settled = 0.0
        self._launched: _Launched | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: PromptAnswer, batch_idx: int
    ) -> None:
        """Start the clock of the step."""
        self._started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PromptAnswer,
        batch_idx: int,
    ) -> None:
        """Send for the numbers of this step, and record the one before or this one."""
        assert isinstance(pl_module, FutureSeedModule)
        warmup = trainer.lr_scheduler_configs[0].scheduler
        assert isinstance(warmup, LRScheduler)
        launched = _Launched(
            step=trainer.global_step,
            tokens=pl_module.learner.count_tokens(batch),
            answer_tokens=int(batch.answer_lengths.sum()),
            lr=current_rate(warmup),
            memory_gib=peak_memory_gib(pl_module.device),
            started=self._started,
            numbers=_Numbers.send(pl_module.step_numbers(outputs)),
        )
        self.settle(trainer)
        self._launched = launched
        if not self.is_behind or trainer.global_step == trainer.max_steps:
            self.settle(trainer)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Record the last step that was done, unless the device is what failed."""
        with suppress(RuntimeError):
            self.settle(trainer)

    def settle(self, trainer: L.Trainer) -> None:
        """Write the row of the step that is not on record yet, if there is one.

        The seconds of a step end when its numbers have come, and begin with its launch or, where
        that was earlier, with the end of the step before.

        Raises:
            FloatingPointError: where its loss is not finite.
        """
        launched, self._launched = self._launched, None
        if launched is None:
            return
        numbers = launched.numbers.read()
        now = time.perf_counter()
        seconds = now - max(launched.started, self._settled)
        self._settled = now
        row = {
            "kind": "train",
            "step": launched.step,
            "tokens": launched.tokens,
            "answer_tokens": launched.answer_tokens,
            "loss": numbers["loss"],
            "lr": launched.lr,
            "grad_norm": numbers["grad_norm"],
            "seconds": seconds,
            "tokens_per_second": launched.tokens / seconds,
            "memory_gib": launched.memory_gib,
            "gates_before": numbers["gates_before"],
            "gates": numbers["gates"],
        }
        self.run_log.add_row(row)
        if trainer.logger is not None:
            shown = {key: row[key] for key in ("loss", "lr", "grad_norm", "tokens_per_second")}
            trainer.logger.log_metrics(shown, step=launched.step)
        if not math.isfinite(row["loss"]):
            raise FloatingPointError(f"the loss is {row['loss']} at step {launched.step}")


class EvaluateSplit(L.Callback):
    """Score the full split before the first step and after every step of ``due``."""

    def __init__(
        self,
        log: RunLog,
        evaluator: Evaluator,
        *,
        records: RecordSteps,
        due: frozenset[int],
        generate_at: frozenset[int],
        max_first_loss: float | None,
    ) -> None:
        """``max_first_loss`` in nats: refuse to train from weights that start above it."""
        self.run_log, self.evaluator, self.records, self.due = log, evaluator, records, due
        self.generate_at, self.max_first_loss = generate_at, max_first_loss

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Score the start unless a resumed run has it."""
        if self.run_log.evaluation_at(0, split=self.evaluator.split) is None:
            self._evaluate(0, trainer)
        if self.max_first_loss is not None and trainer.global_step == 0:
            self._check_weights(self.max_first_loss)

    def _check_weights(self, max_first_loss: float) -> None:
        # without Future-Seed: the question is whether the backbone was loaded rightly
        with _told_as_scoring():
            loss = self.evaluator.backbone_loss()
        if not loss <= max_first_loss:
            raise UserError(
                f"the weights start at a loss of {loss:.2f} nats, above the uniform guess "
                f"({max_first_loss:.2f}): probably mis-loaded, or of another tokenizer; "
                "model.allow_above_uniform=true trains anyway"
            )

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **_unused: Any) -> None:
        """Score when due."""
        if trainer.global_step in self.due:
            self.records.settle(trainer)
            self._evaluate(trainer.global_step, trainer)

    def _evaluate(self, step: int, trainer: L.Trainer) -> None:
        is_generated = step in self.generate_at
        evaluation = score_split(
            self.evaluator, self.run_log, step=step, with_generation=is_generated
        )
        if trainer.logger is not None:
            values = {f"{evaluation.split}/{k}": v for k, v in evaluation.values.items()}
            trainer.logger.log_metrics(values, step=step)


def score_split(
    evaluator: Evaluator, log: RunLog, *, step: int, with_generation: bool
) -> Evaluation:
    """Score the split of ``evaluator`` once and record it."""
    started = time.perf_counter()
    with _told_as_scoring():
        evaluation = evaluator.evaluate(step=step, with_generation=with_generation)
    log.add_evaluation(evaluation, seconds=time.perf_counter() - started)
    return evaluation


@contextmanager
def _told_as_scoring() -> Iterator[None]:
    """Turn memory that ran out into ScoringOutOfMemory: another size is the one to lower."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise ScoringOutOfMemory(str(error) or type(error).__name__) from error
        raise


class SaveCheckpoint(L.Callback):
    """Write the checkpoint of the run when due; the one before stays until the new is checked.

    A kill costs at most about ``MAX_LOST_SECONDS`` of training, more only where saving itself is
    so slow that it would take over 5 % of the time.
    """

    def __init__(self, path: Path, *, records: RecordSteps, due: frozenset[int]) -> None:
        """Save to ``path`` after every step of ``due``, and from time to time."""
        self.path, self.records, self.due = path, records, due
        self._saved_at, self._save_seconds = time.monotonic(), 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **_unused: Any) -> None:
        """Save when due."""
        now = time.monotonic()
        patience = max(MAX_LOST_SECONDS, 20 * self._save_seconds)
        is_due = trainer.global_step in self.due or now - self._saved_at > patience
        if trainer.strategy.broadcast(is_due):  # ranks save together: the clock of rank 0 decides
            self.records.settle(trainer)
            save_checkpoint(trainer, self.path)
            self._saved_at, self._save_seconds = time.monotonic(), time.monotonic() - now


class StopWhenAsked(L.Callback):
    """Save and leave after the step in which the user asked to stop."""

    def __init__(self, flag: InterruptFlag, path: Path, *, records: RecordSteps) -> None:
        """Watch ``flag``, save to ``path``."""
        self.flag, self.path, self.records = flag, path, records

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **_unused: Any) -> None:
        """Leave with RunInterrupted; every record of this step is already on disk."""
        if trainer.strategy.broadcast(self.flag.requested):  # rank 0 alone is asked
            self.records.settle(trainer)
            save_checkpoint(trainer, self.path)
            raise RunInterrupted(f"stopped after step {trainer.global_step}")


def uniform_loss(vocab_size: int) -> float:
    """Return the loss in nats of a uniform guess over the vocabulary."""
    return math.log(vocab_size)
