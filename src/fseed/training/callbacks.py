"""Lightning callbacks of a run. Their order matters: records, evaluation, checkpoint, interrupt.

A checkpoint at step c is written after everything that belongs to steps up to c, so a run that is
killed at any moment continues from c with complete records.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L

from fseed.errors import RunInterrupted, UserError
from fseed.models.prompt_answer import PromptAnswer
from fseed.training.checkpoint_file import save_checkpoint
from fseed.training.evaluation import Evaluation, Evaluator
from fseed.training.interrupt import InterruptFlag
from fseed.training.memory import ScoringOutOfMemory, is_out_of_memory, peak_memory_gib
from fseed.training.module import FutureSeedModule
from fseed.training.run_log import RunLog

MAX_LOST_SECONDS = 30.0


class RecordSteps(L.Callback):
    """Append a row per optimiser step; a loss that is not finite ends the run."""

    def __init__(self, log: RunLog) -> None:
        """Write to ``log``."""
        self.run_log, self._started = log, 0.0
        self._gates_before: list[float] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: PromptAnswer, batch_idx: int
    ) -> None:
        """Start the clock of the step."""
        self._gates_before = gate_values(pl_module)
        self._started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: PromptAnswer,
        batch_idx: int,
    ) -> None:
        """Record loss, tokens, learning rate, gradient norm, gates, throughput and memory."""
        assert isinstance(pl_module, FutureSeedModule)
        loss = float(outputs["batch_loss"])
        seconds = time.perf_counter() - self._started
        tokens = pl_module.learner.count_tokens(batch)
        row = {
            "kind": "train",
            "step": trainer.global_step,
            "tokens": tokens,
            "answer_tokens": int(batch.answer_lengths.sum()),
            "loss": loss,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "grad_norm": pl_module.grad_norm,
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "memory_gib": peak_memory_gib(pl_module.device),
            "gates_before": self._gates_before,
            "gates": gate_values(pl_module),
        }
        self.run_log.add_row(row)
        if trainer.logger is not None:
            numbers = {key: row[key] for key in ("loss", "lr", "grad_norm", "tokens_per_second")}
            trainer.logger.log_metrics(numbers, step=trainer.global_step)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {trainer.global_step}")


class EvaluateSplit(L.Callback):
    """Score the full split before the first step and after every step of ``due``."""

    def __init__(
        self,
        log: RunLog,
        evaluator: Evaluator,
        *,
        due: frozenset[int],
        generate_at: frozenset[int],
        max_first_loss: float | None,
    ) -> None:
        """``max_first_loss`` in nats: refuse to train from weights that start above it."""
        self.run_log, self.evaluator, self.due = log, evaluator, due
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

    def __init__(self, path: Path, *, due: frozenset[int]) -> None:
        """Save to ``path`` after every step of ``due``, and from time to time."""
        self.path, self.due = path, due
        self._saved_at, self._save_seconds = time.monotonic(), 0.0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **_unused: Any) -> None:
        """Save when due."""
        now = time.monotonic()
        patience = max(MAX_LOST_SECONDS, 20 * self._save_seconds)
        is_due = trainer.global_step in self.due or now - self._saved_at > patience
        if trainer.strategy.broadcast(is_due):  # ranks save together: the clock of rank 0 decides
            save_checkpoint(trainer, self.path)
            self._saved_at, self._save_seconds = time.monotonic(), time.monotonic() - now


class StopWhenAsked(L.Callback):
    """Save and leave after the step in which the user asked to stop."""

    def __init__(self, flag: InterruptFlag, path: Path) -> None:
        """Watch ``flag``, save to ``path``."""
        self.flag, self.path = flag, path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **_unused: Any) -> None:
        """Leave with RunInterrupted; every record of this step is already on disk."""
        if trainer.strategy.broadcast(self.flag.requested):  # rank 0 alone is asked
            save_checkpoint(trainer, self.path)
            raise RunInterrupted(f"stopped after step {trainer.global_step}")


def gate_values(module: L.LightningModule) -> list[float]:
    """Return the gates of all seeded layers, empty for the baseline."""
    assert isinstance(module, FutureSeedModule)
    return module.future_seed.gate_values() if module.future_seed is not None else []


def uniform_loss(vocab_size: int) -> float:
    """Return the loss in nats of a uniform guess over the vocabulary."""
    return math.log(vocab_size)
