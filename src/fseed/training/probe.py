"""What one training step of a run needs: measured by doing it, at the maximum length.

Forward, backward and optimiser step on a batch of the longest texts that the task allows, then one
evaluation batch, along the path of a real run. Memory that does not suffice halves the micro-batch
and tries again, so every arm can keep the same effective batch.
"""

import gc
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import lightning as L
import torch

from fseed.config.rules import smallest_part
from fseed.config.schema import Accelerator, ControlKind, RunConfig
from fseed.errors import UserError
from fseed.models.prompt_answer import PromptAnswer, read_prompt
from fseed.planned_run import PlannedRun
from fseed.tasks.base import Objective
from fseed.tasks.registry import get_task
from fseed.training.attempt import build_trainer, prepare_torch
from fseed.training.build import build_future_seed, build_model, choose_backend
from fseed.training.evaluation import answer_losses
from fseed.training.memory import is_out_of_memory, peak_memory_gib
from fseed.training.module import FutureSeedModule
from fseed.training.objectives import Learner
from fseed.training.process_settings import restored_settings

NUM_STEPS = 2  # the first one compiles and creates the optimiser's state, the second is timed


@dataclass(frozen=True)
class ProbeResult:
    """What fits and how fast it is.

    ``micro_batch_size`` equals ``budget.batch_size`` where the whole batch fits. ``peak_gib`` is
    allocated GPU memory, None on a CPU. ``tokens_per_second`` counts what the arm reads.
    """

    micro_batch_size: int
    peak_gib: float | None
    seconds_per_step: float
    tokens_per_second: float


def probe_memory(run: PlannedRun) -> ProbeResult:
    """Return the largest micro-batch of ``run`` that fits, halved from the configured one.

    Runs in this process, writes nothing and frees what it allocated.

    Raises:
        UserError: if a single example does not fit, or an evaluation batch, or a batch whose
            samples need each other (retrieval, shuffled_state).
    """
    config = run.config
    wanted = config.trainer.micro_batch_size
    size = config.budget.batch_size if wanted is None else wanted
    with _left_as_found():
        while True:
            found = _try_size(config, size)
            if isinstance(found, ProbeResult):
                return found
            _check_smaller_helps(config, size, failed_in=found)
            size = math.ceil(size / 2)


@contextmanager
def _left_as_found() -> Iterator[None]:
    """Put the settings of the process back, and give cached memory back."""
    with restored_settings():
        try:
            yield
        finally:
            _free_memory()


def _free_memory() -> None:
    gc.collect()  # module and trainer refer to each other
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _try_size(config: RunConfig, size: int) -> ProbeResult | str:
    """Return the measurement, or where memory ran out: "training" or "evaluation"."""
    _free_memory()
    config = replace(config, trainer=replace(config.trainer, micro_batch_size=size))
    measure = _Measure()
    try:
        _fit(config, measure)
    except Exception as error:
        if is_out_of_memory(error):
            return measure.stage
        raise
    finally:
        # the traceback of an error holds them
        measure.learner = None
    is_gpu = config.trainer.accelerator is Accelerator.gpu
    return ProbeResult(
        micro_batch_size=size,
        peak_gib=peak_memory_gib(torch.device("cuda")) if is_gpu else None,
        seconds_per_step=measure.seconds,
        tokens_per_second=measure.num_tokens / measure.seconds,
    )


def _fit(config: RunConfig, measure: "_Measure") -> None:
    prepare_torch(config)
    model = build_model(config)
    model.use_backend(choose_backend(config, model.shape).name)
    future_seed = build_future_seed(config, model.shape)
    objective = get_task(config.task.name).objective
    learner = Learner(model, future_seed, objective=objective)
    longest = longest_batch(config, objective, size=config.budget.batch_size)
    measure.learner, measure.num_tokens = learner, learner.count_tokens(longest)
    measure.evaluated = longest_batch(config, objective, size=config.budget.eval_batch_size)
    if config.trainer.accelerator is Accelerator.gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer = build_trainer(config, num_steps=NUM_STEPS, callbacks=[measure])
    trainer.fit(FutureSeedModule(config, learner), train_dataloaders=_SameBatch(longest))


class _SameBatch:
    """What Lightning takes for a data loader; a list would mean several loaders."""

    def __init__(self, batch: PromptAnswer) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[PromptAnswer]:
        return repeat(self.batch)


class _Measure(L.Callback):
    """Time the last step, then score one batch where a run scores a split."""

    def __init__(self) -> None:
        self.stage, self.seconds, self.num_tokens = "training", math.nan, 0
        self.learner: Learner | None = None
        self.evaluated: PromptAnswer | None = None
        self._started = 0.0

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any, **_unused: Any) -> None:
        _synchronize()
        self._started = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any, **_unused: Any) -> None:
        _synchronize()
        self.seconds = time.perf_counter() - self._started

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert self.learner is not None
        assert self.evaluated is not None
        self.stage = "evaluation"
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            _score(self.learner, self.evaluated.to(pl_module.device))


def _score(learner: Learner, batch: PromptAnswer) -> None:
    """Do what an evaluation does with one batch, generation up to its first token."""
    if learner.objective is Objective.retrieval:
        learner.embed(batch)
        return
    answer_losses(batch, learner.model.logits(learner.hidden(batch)).float())
    if learner.objective is Objective.answer:
        last, _ = read_prompt(learner.model, batch, future_seed=learner.future_seed)
        learner.model.logits(last)


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def longest_batch(config: RunConfig, objective: Objective, *, size: int) -> PromptAnswer:
    """Return ``size`` samples of the longest prompt and answer that the task allows; token 1."""
    task = config.task
    copies = 2 if config.control.kind is ControlKind.repeat_prompt else 1
    num_answer, num_prompt = task.max_answer_tokens, task.max_length_tokens
    places = None
    if objective is Objective.answer:
        num_answer += 1  # end of text
        num_prompt -= num_answer
    elif objective is Objective.fill:
        starts = num_prompt * torch.arange(copies).unsqueeze(1)
        places = (starts + torch.arange(num_answer)).flatten().expand(size, -1)
    else:
        num_answer *= copies  # the question
    num_prompt *= copies
    return PromptAnswer(
        prompt=torch.ones(size, num_prompt, dtype=torch.int64),
        prompt_lengths=torch.full((size,), num_prompt),
        answer=torch.ones(size, num_answer, dtype=torch.int64),
        answer_lengths=torch.full((size,), num_answer),
        mask_positions=places,
        noise_keys=tuple(range(size)),
    )


def _check_smaller_helps(config: RunConfig, size: int, *, failed_in: str) -> None:
    """Raise UserError where no smaller micro-batch can help."""
    lengths = f"at task.max_length_tokens={config.task.max_length_tokens}"
    if failed_in == "evaluation":
        raise UserError(
            f"budget.eval_batch_size={config.budget.eval_batch_size} does not fit into memory "
            f"{lengths}; lower one of them"
        )
    if size == 1:
        raise UserError(f"not even one example fits into memory {lengths}; lower it")
    needs_mates = config.control.kind is ControlKind.shuffled_state
    leaves_one = smallest_part(config.budget.batch_size, math.ceil(size / 2)) < 2
    is_retrieval = get_task(config.task.name).objective is Objective.retrieval
    if is_retrieval or (needs_mates and leaves_one):
        raise UserError(
            f"a batch of {size} does not fit into memory {lengths}, and its samples need each "
            "other: no smaller micro-batch; lower budget.batch_size"
        )
