"""One try at a run: its parts built, its records rewound to the last checkpoint, its training."""

import logging
import warnings
from dataclasses import replace
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from fseed.config.schema import Accelerator, BudgetConfig, LoggerKind, Precision, RunConfig
from fseed.errors import RunInterrupted, UserError
from fseed.models.checkpoint_header import weights_fingerprint
from fseed.models.tokenizer import build_tokenizer
from fseed.planned_run import PlannedRun
from fseed.tasks.loading import TaskData, score_baselines
from fseed.tasks.registry import get_task
from fseed.training.build import build_future_seed, build_model, choose_backend
from fseed.training.callbacks import (
    EvaluateSplit,
    RecordSteps,
    SaveCheckpoint,
    StopWhenAsked,
    read_checkpoint_step,
    score_split,
    uniform_loss,
)
from fseed.training.data_module import RunDataModule, load_examples
from fseed.training.evaluation import Evaluator
from fseed.training.interrupt import InterruptFlag
from fseed.training.module import FutureSeedModule
from fseed.training.objectives import Learner
from fseed.training.progress import ShowProgress
from fseed.training.records import write_provenance, write_result
from fseed.training.run_log import RunLog, due_steps


class Attempt:
    """Everything one process needs to bring a planned run to its end."""

    def __init__(self, run: PlannedRun, flag: InterruptFlag, *, position: str) -> None:
        """Load data and weights, build the arm; nothing is written.

        Raises:
            UserError: for data, weights or a device that cannot be used.
        """
        self.run, self.config, self.flag = run, run.config, flag
        prepare_torch(self.config)
        self.log = RunLog(run.run_dir)
        model_config = self.config.model
        self.tokenizer = build_tokenizer(model_config.tokenizer, vocab_file=model_config.vocab_file)
        check_weights_unchanged(run)
        self.data = load_examples(self.config, self.tokenizer, data_hash=run.data_hash)
        self.task = get_task(self.config.task.name)
        model = build_model(self.config)
        check_vocabulary(model.shape.vocab_size, self.tokenizer.vocab_size)
        self.backend = choose_backend(self.config, model.shape)
        model.use_backend(self.backend.name)
        if self.config.trainer.accelerator is Accelerator.gpu:
            torch.cuda.reset_peak_memory_stats()  # the check of the backend does not count
        future_seed = build_future_seed(self.config, model.shape)
        learner = Learner(model, future_seed, objective=self.task.objective)
        self.module = FutureSeedModule(self.config, learner)
        self.data_module = RunDataModule(self.config, self.data)
        self.progress = ShowProgress(
            self.log,
            title=f"{position}  {self.config.task.name} {run.arm} seed {self.config.seed}",
            num_steps=self.data_module.num_steps,
            visible=self.config.trainer.progress,
        )
        self.trainer = self._build_trainer()

    def run_to_end(self) -> None:
        """Train from the last checkpoint to the end of the budget and write ``result.json``."""
        checkpoint = self.log.checkpoint_path
        step = read_checkpoint_step(checkpoint) if checkpoint.exists() else -1
        self.log.rewind(step=step)
        write_provenance(self.run, data=self.data, model=self.module.model, backend=self.backend)
        self.trainer.fit(
            self.module,
            datamodule=self.data_module,
            ckpt_path=checkpoint if step >= 0 else None,
            weights_only=True,
        )
        data = self.data
        if self.config.budget.test:
            self._score_test()
            data = self._judged_by_test()
        write_result(self.run, log=self.log, module=self.module, data=data, task=self.task)

    def _judged_by_test(self) -> TaskData:
        """Return the data with the baselines of the test split, by which the run is judged."""
        splits = {name: self.data.splits[name] for name in ("train", "test")}
        constant, copied = score_baselines(
            self.task, splits, tokenizer=self.tokenizer, scoring=self.config.mbpp
        )
        return replace(self.data, constant_baseline=constant, copy_baseline=copied)

    def _score_test(self) -> None:
        """Score the test split unless this was done before a kill.

        It comes after the last checkpoint: a run that is killed here scores the same weights again.
        """
        step = self.data_module.num_steps
        if self.log.evaluation_at(step, split="test") is not None:
            return
        # Lightning leaves the weights on the CPU
        self.module.to(self.trainer.strategy.root_device)
        score_split(
            self._build_evaluator("test"),
            self.log,
            step=step,
            with_generation=self.config.budget.generate,
        )

    def _build_trainer(self) -> L.Trainer:
        return build_trainer(
            self.config,
            num_steps=self.data_module.num_steps,
            logger=self._build_logger(),
            callbacks=self._build_callbacks(),
        )

    def _build_callbacks(self) -> list[L.Callback]:
        """Records, evaluation, checkpoint, interrupt: in this order (see ``callbacks.py``)."""
        budget, num_steps = self.config.budget, self.data_module.num_steps
        scored = due_steps(num_steps, every=budget.eval_every_steps)
        saved = due_steps(num_steps, every=budget.checkpoint_every_steps or budget.eval_every_steps)
        path = self.log.checkpoint_path
        evaluate = EvaluateSplit(
            self.log,
            self._build_evaluator("validation"),
            due=frozenset(scored),
            generate_at=generation_steps(budget, num_steps=num_steps),
            max_first_loss=self._max_first_loss(),
        )
        return [
            RecordSteps(self.log),
            self.progress,
            evaluate,
            SaveCheckpoint(path, due=frozenset(saved)),
            StopWhenAsked(self.flag, path),
        ]

    def _build_evaluator(self, split: str) -> Evaluator:
        return Evaluator(
            learner=self.module.learner,
            task=self.task,
            tokenizer=self.tokenizer,
            examples=self.data.splits[split],
            split=split,
            batch_size=self.config.budget.eval_batch_size,
            repeat_prompt=self.data_module.batches.repeat_prompt,
            max_answer_tokens=self.config.task.max_answer_tokens,
            scoring=self.config.mbpp,
            seed=self.config.seed,
            autocast=lambda: self.trainer.precision_plugin.forward_context(),
            before_batch=self._before_evaluation_batch,
        )

    def _build_logger(self) -> Logger | Literal[False]:
        if self.config.logger.kind is LoggerKind.none:
            return False
        return TensorBoardLogger(save_dir=self.run.run_dir, name="tensorboard", version="")

    def _before_evaluation_batch(self, batch: int, num_batches: int) -> None:
        if self.flag.requested:
            raise RunInterrupted("stopped while scoring; the steps before are kept")
        self.progress.show_evaluation(batch, num_batches)

    def _max_first_loss(self) -> float | None:
        model = self.config.model
        if model.weights is None or model.allow_above_uniform:
            return None
        return uniform_loss(self.module.model.shape.vocab_size)


def build_trainer(
    config: RunConfig,
    *,
    num_steps: int,
    callbacks: list[L.Callback],
    logger: Logger | Literal[False] = False,
) -> L.Trainer:
    """Return the trainer of a run: one device, deterministic, no files of its own."""
    trainer = config.trainer
    return L.Trainer(
        accelerator="gpu" if trainer.accelerator is Accelerator.gpu else "cpu",
        devices=1,
        precision=lightning_precision(trainer.precision),
        max_steps=num_steps,
        deterministic=True,
        logger=logger,
        callbacks=callbacks,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
    )


def generation_steps(budget: BudgetConfig, *, num_steps: int) -> frozenset[int]:
    """Return the evaluated steps at which answers are decoded freely."""
    first = {0} if budget.generate_first else set()
    return frozenset(first | {num_steps} if budget.generate else ())


def prepare_torch(config: RunConfig) -> None:
    """Set threads and quiet Lightning; UserError when a GPU is asked for and there is none."""
    if config.trainer.num_threads is not None:
        torch.set_num_threads(config.trainer.num_threads)
    if config.trainer.accelerator is Accelerator.gpu and not torch.cuda.is_available():
        raise UserError("trainer asks for a GPU, torch finds none; use trainer=cpu")
    # deterministic mode would fill every new tensor with NaN first, one more pass over memory each;
    # that no kernel leaves an element unwritten is tested on poisoned memory (tests/kernels)
    deterministic: Any = torch.utils.deterministic  # its attribute is a property of the module
    deterministic.fill_uninitialized_memory = False
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def lightning_precision(precision: Precision) -> Literal["bf16-mixed", "32-true"]:
    """Return Lightning's word; master weights and AdamW states are float32 in both."""
    return "bf16-mixed" if precision is Precision.bf16 else "32-true"


def check_weights_unchanged(run: PlannedRun) -> None:
    """Refuse weights that are not those the run was planned with."""
    path = run.config.model.weights
    if path is not None and weights_fingerprint(path) != run.weights_hash:
        raise UserError(f"{path} changed after this run was planned; start the command again")


def check_vocabulary(model_vocab: int, tokenizer_vocab: int) -> None:
    """Refuse a tokenizer whose ids the model does not have."""
    if tokenizer_vocab > model_vocab:
        raise UserError(
            f"the tokenizer has {tokenizer_vocab} ids, the model only {model_vocab}; "
            "choose model.tokenizer=byte or world to match the weights"
        )
