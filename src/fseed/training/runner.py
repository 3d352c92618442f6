"""One run from its plan to ``result.json``, resumable after any kind of end."""

import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
import yaml

from fseed.config.schema import Accelerator, LoggerKind, Precision, RunConfig
from fseed.errors import RunInterrupted, UserError
from fseed.models.checkpoint import save_safetensors
from fseed.models.tokenizer import build_tokenizer
from fseed.provenance import build_provenance
from fseed.records import (
    CHOICES_FILE,
    CONFIG_FILE,
    FAILURE_FILE,
    PROVENANCE_FILE,
    RESULT_FILE,
    SCHEMA_VERSION,
    clean_temporaries,
    write_json_atomic,
    write_text_atomic,
)
from fseed.tasks.registry import TaskData, get_task
from fseed.training.build import build_future_seed, build_model
from fseed.training.callbacks import (
    EvaluateSplit,
    RecordSteps,
    SaveCheckpoint,
    StopWhenAsked,
    uniform_loss,
)
from fseed.training.data_module import RunDataModule, load_examples
from fseed.training.evaluation import Evaluator
from fseed.training.interrupt import InterruptFlag
from fseed.training.memory import peak_memory_gib
from fseed.training.module import FutureSeedModule
from fseed.training.progress import ShowProgress
from fseed.training.run_log import RunLog, due_steps
from fseed.planned_run import PlannedRun, RunOutcome

NOTE_RANDOM = "backbone randomly initialised by the official RWKV-7 rules, no pre-training"


def train_run(run: PlannedRun, *, position: str | None = None) -> RunOutcome:
    """Train and score one planned run; every end of it is a record.

    ``position`` (such as "2/6") leads the progress line. Continues from the last checkpoint of the
    same run. Writes ``result.json`` last, or ``failure.json``.
    """
    (run.run_dir / FAILURE_FILE).unlink(missing_ok=True)
    clean_temporaries(run.run_dir)
    with InterruptFlag() as flag:
        try:
            attempt = _Attempt(run, flag, position=position)
            attempt.train()
            attempt.write_result()
            return RunOutcome("finished", str(run.run_dir), 0)
        except (RunInterrupted, KeyboardInterrupt) as error:
            _write_failure(run, "interrupted", error)
            return RunOutcome("interrupted", str(error) or "stopped", 130)
        except Exception as error:
            failure = classify_failure(error)
            _write_failure(run, failure, error)
            message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            return RunOutcome("failed", message, 2 if isinstance(error, UserError) else 1)


def classify_failure(error: BaseException) -> str:
    """Return the failure class of protocol section 5 for an exception."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "oom"
    if isinstance(error, FloatingPointError):
        return "nan"
    if isinstance(error, ConnectionError | TimeoutError):
        return "network"
    return "config" if isinstance(error, UserError) else "error"


class _Attempt:
    """One try at a run: parts built, records rewound to the last checkpoint."""

    def __init__(self, run: PlannedRun, flag: InterruptFlag, *, position: str | None) -> None:
        self.run, self.config = run, run.config
        _prepare_torch(self.config)
        self.log = RunLog(run.run_dir)
        self.tokenizer = build_tokenizer(
            self.config.model.tokenizer, vocab_file=self.config.model.vocab_file
        )
        self.data: TaskData = load_examples(self.config, self.tokenizer)
        self.task = get_task(self.config.task.name)
        model = build_model(self.config)
        check_vocabulary(model.shape.vocab_size, self.tokenizer.vocab_size)
        future_seed = build_future_seed(self.config, model.shape)
        self.module = FutureSeedModule(self.config, model=model, future_seed=future_seed)
        self.data_module = RunDataModule(self.config, self.data)
        self.num_steps = self.data_module.num_steps
        self.first_gates = future_seed.gate_values() if future_seed is not None else []
        title = f"{position or '1/1'}  {self.config.task.name} {run.arm} seed {self.config.seed}"
        self.progress = ShowProgress(
            self.log, title=title, num_steps=self.num_steps, visible=self.config.trainer.progress
        )
        self.flag = flag
        self.trainer = self._build_trainer()

    def train(self) -> None:
        """Write the identity files, then train from the last checkpoint to the end of the budget."""
        checkpoint = self.log.checkpoint_path
        step = read_checkpoint_step(checkpoint) if checkpoint.exists() else -1
        self.log.rewind(step=step)
        self._write_identity()
        started = time.perf_counter()
        try:
            self.trainer.fit(
                self.module, datamodule=self.data_module,
                ckpt_path=checkpoint if step >= 0 else None, weights_only=True,
            )  # fmt: skip
        finally:
            self.wall_seconds = time.perf_counter() - started

    def write_result(self) -> None:
        """Keep what the configuration asks for, then write ``result.json`` as the last file."""
        run, log, output = self.run, self.log, self.config.output
        future_seed = self.module.future_seed
        if output.save_weights:
            save_safetensors(
                self.module.model, run.run_dir / "model.safetensors", future_seed=future_seed
            )
        rows = log.training_rows
        result = {
            "schema_version": SCHEMA_VERSION,
            "status": "finished",
            "run_id": run.run_id,
            "pair_key": run.pair_key,
            "arm_key": run.arm_key,
            "steps": rows[-1]["step"],
            "tokens": log.total("tokens"),
            "answer_tokens": log.total("answer_tokens"),
            "wall_seconds": log.total("seconds"),
            "stop_reason": "budget",
            "primary_metric": self.task.primary_metric,
            "evaluations": [_evaluation_entry(row) for row in log.evaluation_rows],
            "constant_baseline": self.data.constant_baseline,
            "gates": {"first": self.first_gates, "last": rows[-1]["gates"]},
            "peak_memory_gib": max(row["memory_gib"] for row in rows),
            "tokens_per_second": log.total("tokens") / sum(row["seconds"] for row in rows),
            "notes": self._notes(),
        }
        write_json_atomic(run.run_dir / RESULT_FILE, result)
        if not output.keep_checkpoint:
            log.checkpoint_path.unlink(missing_ok=True)

    def _notes(self) -> list[str]:
        return [] if self.config.model.weights is not None else [NOTE_RANDOM]

    def _build_trainer(self) -> L.Trainer:
        config, num_steps = self.config, self.num_steps
        scored = due_steps(num_steps, every=config.budget.eval_every_steps)
        saved = due_steps(
            num_steps,
            every=config.budget.checkpoint_every_steps or config.budget.eval_every_steps,
        )
        path = self.log.checkpoint_path
        logger = config.logger.kind is LoggerKind.tensorboard and _tensorboard(self.run.run_dir)
        trainer = L.Trainer(
            accelerator="gpu" if config.trainer.accelerator is Accelerator.gpu else "cpu",
            devices=1,
            precision="bf16-mixed" if config.trainer.precision is Precision.bf16 else "32-true",
            max_steps=num_steps,
            deterministic=True,
            logger=logger,
            callbacks=[
                RecordSteps(self.log),
                self.progress,
                EvaluateSplit(
                    self.log, self._build_evaluator(), due=frozenset(scored),
                    generate_at=frozenset({num_steps} if config.budget.generate else ()),
                    max_first_loss=self._max_first_loss(),
                ),
                SaveCheckpoint(path, due=frozenset(saved)),
                StopWhenAsked(self.flag, path),
            ],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,
        )  # fmt: skip
        return trainer

    def _build_evaluator(self) -> Evaluator:
        config = self.config
        return Evaluator(
            model=self.module.model,
            future_seed=self.module.future_seed,
            task=self.task,
            tokenizer=self.tokenizer,
            examples=self.data.splits["validation"],
            split="validation",
            batch_size=config.budget.eval_batch_size,
            repeat_prompt=self.data_module.batches.repeat_prompt,
            max_answer_tokens=config.task.max_answer_tokens,
            autocast=lambda: self.trainer.precision_plugin.forward_context(),
            before_batch=self._before_evaluation_batch,
        )

    def _before_evaluation_batch(self, batch: int, num_batches: int) -> None:
        if self.flag.requested:
            raise RunInterrupted("stopped while scoring")
        self.progress.show_evaluation(batch, num_batches)

    def _max_first_loss(self) -> float | None:
        model = self.config.model
        if model.weights is None or model.allow_above_uniform:
            return None
        return uniform_loss(self.module.model.shape.vocab_size)

    def _write_identity(self) -> None:
        run, model = self.run, self.module.model
        write_text_atomic(
            run.run_dir / CONFIG_FILE, yaml.safe_dump(run.resolved_config(), sort_keys=False)
        )
        choices = {
            "schema_version": SCHEMA_VERSION,
            "arm": run.arm,
            "choices": run.choices,
            "overrides": run.overrides,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        }
        write_json_atomic(run.run_dir / CHOICES_FILE, choices)
        provenance = build_provenance(run) | {
            "device": _describe_device(self.config),
            "data": {
                "source": self.config.data.source.value,
                "counts": {split: len(rows) for split, rows in self.data.splits.items()},
                "preflight": self.data.preflight.as_dict(),
            },
            "model": {
                "name": self.config.model.name,
                "num_layers": model.shape.num_layers,
                "parameters": sum(p.numel() for p in model.parameters()),
                "initialization": "random" if self.config.model.weights is None else "checkpoint",
            },
        }
        write_json_atomic(run.run_dir / PROVENANCE_FILE, provenance)


def check_vocabulary(model_vocab: int, tokenizer_vocab: int) -> None:
    """Refuse a tokenizer whose ids the model does not have."""
    if tokenizer_vocab > model_vocab:
        raise UserError(
            f"the tokenizer has {tokenizer_vocab} ids, the model only {model_vocab}; "
            "choose model.tokenizer=byte or world to match the weights"
        )


def read_checkpoint_step(path: Path) -> int:
    """Return the optimiser step of a checkpoint; UserError when the file is damaged."""
    try:
        return int(torch.load(path, weights_only=True, mmap=True, map_location="cpu")["global_step"])
    except Exception as error:
        raise UserError(
            f"{path}: damaged checkpoint ({type(error).__name__}); delete it to start this run anew"
        ) from error


def _prepare_torch(config: RunConfig) -> None:
    if config.trainer.num_threads is not None:
        torch.set_num_threads(config.trainer.num_threads)
    if config.trainer.accelerator is Accelerator.gpu:
        if not torch.cuda.is_available():
            raise UserError("trainer asks for a GPU, torch finds none; use trainer=cpu")
        torch.cuda.reset_peak_memory_stats()
    import logging

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def _tensorboard(run_dir: Path) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=run_dir, name="tensorboard", version="")


def _describe_device(config: RunConfig) -> dict[str, Any]:
    if config.trainer.accelerator is Accelerator.gpu:
        return {"kind": "gpu", "name": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return {"kind": "cpu", "threads": torch.get_num_threads()}


def _evaluation_entry(row: dict[str, Any]) -> dict[str, Any]:
    metrics = {name: {"value": v, "n": row["n"][name]} for name, v in row["metrics"].items()}
    return {"step": row["step"], "split": row["split"], "metrics": metrics}


def _write_failure(run: PlannedRun, failure: str, error: BaseException) -> None:
    log = RunLog(run.run_dir)
    steps = log.last_recorded_step()
    device = torch.device("cuda" if torch.cuda.is_initialized() else "cpu")
    write_json_atomic(
        run.run_dir / FAILURE_FILE,
        {
            "schema_version": SCHEMA_VERSION,
            "run_id": run.run_id,
            "pair_key": run.pair_key,
            "class": failure,
            "message": str(error) or type(error).__name__,
            "traceback": traceback.format_exc(),
            "last_step": steps,
            "peak_memory_gib": peak_memory_gib(device),
        },
    )
