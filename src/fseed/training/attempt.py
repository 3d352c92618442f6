"""One try at a run: its parts built, its records rewound to the last checkpoint, its training."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Literal

import lightning as L
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from fseed.config.schema import BudgetConfig, LoggerKind
from fseed.errors import RunInterrupted, UserError
from fseed.models.checkpoint_header import weights_fingerprint
from fseed.models.tokenizer import build_tokenizer
from fseed.ops.cuda_graphs import CudaGraphRecorder
from fseed.planned_run import PlannedRun
from fseed.tasks.loading import TaskData, score_baselines
from fseed.tasks.registry import get_task
from fseed.training.build import build_learner, choose_backend
from fseed.training.callbacks import (
    EvaluateSplit,
    RecordSteps,
    SaveCheckpoint,
    StopWhenAsked,
    score_split,
    uniform_loss,
)
from fseed.training.captured_step import choose_step
from fseed.training.checkpoint_file import Start, find_start
from fseed.training.data_module import RunDataModule, load_examples
from fseed.training.distributed import ALONE, Ranks
from fseed.training.distributed_strategy import Sharding, is_sharded
from fseed.training.evaluation import Evaluator
from fseed.training.following_log import FollowingLog
from fseed.training.interrupt import InterruptFlag
from fseed.training.memory import reset_peak_memory
from fseed.training.memory_split import TRAINING, Split
from fseed.training.module import FutureSeedModule
from fseed.training.objectives import Learner
from fseed.training.progress import ShowProgress
from fseed.training.records import run_device, write_provenance, write_result, write_step
from fseed.training.run_log import RunLog, due_steps
from fseed.training.trainer import build_trainer, prepare_torch


class Attempt:
    """Everything one process needs to bring a planned run to its end."""

    def __init__(
        self,
        run: PlannedRun,
        flag: InterruptFlag,
        *,
        position: str,
        start: Start | None = None,
        splits: Sequence[Split] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        """Load data and weights, build the arm; nothing is written.

        ``start`` defaults to the last whole checkpoint; ``splits`` led to the sizes of ``run``.
        ``ranks``: the place of this process where several train the run, see ``rank.py``.

        Raises:
            UserError: for data, weights or a device that cannot be used.
        """
        self.run, self.config, self.flag = run, run.config, flag
        self.start = find_start(run.run_dir) if start is None else start
        self.splits, self.ranks = splits, ranks
        prepare_torch(self.config, ranks=ranks)
        self.log = RunLog(run.run_dir) if ranks.is_first else FollowingLog(run.run_dir)
        model_config = self.config.model
        self.tokenizer = build_tokenizer(model_config.tokenizer, vocab_file=model_config.vocab_file)
        check_weights_unchanged(run)
        self.data = load_examples(self.config, self.tokenizer, data_hash=run.data_hash)
        self.task = get_task(self.config.task.name)
        sharded = is_sharded(self.config, ranks)
        learner = build_learner(self.config, with_weights=not sharded)
        check_vocabulary(learner.model.shape.vocab_size, self.tokenizer.vocab_size)
        self.backend = choose_backend(self.config, learner.model.shape)
        learner.model.use_backend(self.backend.name)
        reset_peak_memory(run_device(self.config))  # the check of the backend does not count
        self.sharding = Sharding(self.config, learner) if sharded else None
        prepare = None if self.sharding is None else self.sharding.apply
        self.plan = choose_step(
            self.config,
            backend=self.backend.name,
            is_split=any(split.where == TRAINING for split in splits),
        )
        self.module = FutureSeedModule(
            self.config,
            learner,
            ranks=ranks,
            prepare=prepare,
            plan=self.plan,
            recorder=CudaGraphRecorder,
        )
        self.data_module = RunDataModule(self.config, self.data, is_static=self.plan.is_static)
        self.progress = ShowProgress(
            self.log,
            title=f"{position}  {self.config.task.name} {run.arm} seed {self.config.seed}",
            num_steps=self.data_module.num_steps,
            visible=self.config.trainer.progress,
        )
        self.trainer = self._build_trainer()

    def run_to_end(self) -> None:
        """Train from the last checkpoint to the end of the budget and write ``result.json``."""
        self._open_records()
        try:
            self.trainer.fit(
                self.module,
                datamodule=self.data_module,
                ckpt_path=self.start.path,
                weights_only=True,
            )
        finally:
            self.data_module.close()
            # also behind an error, which keeps the module alive
            if self.module.runner is not None:
                self.module.runner.close()
        if self.ranks.is_first:
            write_step(self.run, self._step_facts)
        data = self.data
        if self.config.budget.test:
            self._score_test()
            data = self._judged_by_test()
        with self._whole_weights():
            if self.ranks.is_first:
                module = FutureSeedModule(self.config, self._scored_learner)
                write_result(self.run, log=self.log, module=module, data=data, task=self.task)

    @property
    def step(self) -> int:
        """Return the optimiser steps that were done."""
        return self.trainer.global_step

    def _open_records(self) -> None:
        """Rewind the records to the start of this attempt; every rank knows the same rows then."""
        self.log.rewind(step=self.start.step, scored=self._scored_steps)
        self.log.keep_splits(self.splits)
        if self.ranks.is_first:
            write_provenance(
                self.run,
                data=self.data,
                model=self.module.model,
                backend=self.backend,
                start=self.start,
                step=self._step_facts,
            )
        rows = self.ranks.agree(self.log.rows)
        if isinstance(self.log, FollowingLog):
            self.log.follow(rows)

    @property
    def _step_facts(self) -> dict[str, Any]:
        """Return how the steps are done, and counts of what was captured so far."""
        runner = self.module.runner
        facts = {} if runner is None else runner.facts()
        return {"mode": self.plan.mode, "reason": self.plan.reason, **facts}

    @property
    def _scored_steps(self) -> Sequence[int]:
        return due_steps(self.data_module.num_steps, every=self.config.budget.eval_every_steps)

    @property
    def _scored_learner(self) -> Learner:
        """The learner that is scored and saved; where it is sharded, in ``_whole_weights`` only."""
        return self.module.learner if self.sharding is None else self.sharding.twin

    def _whole_weights(self) -> AbstractContextManager[None]:
        return nullcontext() if self.sharding is None else self.sharding.gathered()

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
        if self.sharding is None:
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
            ranks=self.ranks,
        )

    def _build_callbacks(self) -> list[L.Callback]:
        """Records, evaluation, checkpoint, interrupt: in this order (see ``callbacks.py``)."""
        budget, num_steps = self.config.budget, self.data_module.num_steps
        saved = due_steps(num_steps, every=budget.checkpoint_every_steps or budget.eval_every_steps)
        path = self.log.checkpoint_path
        records = RecordSteps(self.log, is_behind=self.plan.is_static)
        evaluate = EvaluateSplit(
            self.log,
            self._build_evaluator("validation"),
            records=records,
            due=frozenset(self._scored_steps),
            generate_at=generation_steps(budget, num_steps=num_steps),
            max_first_loss=self._max_first_loss(),
        )
        return [
            records,
            self.progress,
            evaluate,
            SaveCheckpoint(path, records=records, due=frozenset(saved)),
            StopWhenAsked(self.flag, path, records=records),
        ]

    def _build_evaluator(self, split: str) -> Evaluator:
        return Evaluator(
            learner=self._scored_learner,
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
            ranks=self.ranks,
            weights=self._whole_weights,
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


def generation_steps(budget: BudgetConfig, *, num_steps: int) -> frozenset[int]:
    """Return the evaluated steps at which answers are decoded freely."""
    first = {0} if budget.generate_first else set()
    return frozenset(first | {num_steps} if budget.generate else ())


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
