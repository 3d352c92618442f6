"""What one training step of a run needs: measured by doing it, at the maximum length.

Forward, backward and optimiser step on a batch of the longest texts, of the data or, without them,
that the task allows; then one evaluation batch, along the path of a real run. Memory that does not
suffice halves the micro-batch, or the batch that is scored, and tries again, so every arm can keep
the same effective batch.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import lightning as L
import torch
from torch.nn import functional as F

from fseed.config.schema import ControlKind, RunConfig, TaskConfig
from fseed.models.prompt_answer import PromptAnswer, read_prompt
from fseed.models.tokenizer import build_tokenizer
from fseed.ops.cuda_graphs import CudaGraphRecorder
from fseed.planned_run import PlannedRun
from fseed.tasks.base import Objective
from fseed.tasks.registry import get_task
from fseed.training.answer_scores import score_answers
from fseed.training.attempt import build_trainer, prepare_torch
from fseed.training.build import build_future_seed, build_model, choose_backend
from fseed.training.captured_step import StepPlan, choose_step
from fseed.training.data_module import load_examples, make_ready
from fseed.training.memory import (
    free_memory,
    is_out_of_memory,
    peak_memory_gib,
    peak_reserved_gib,
    reset_peak_memory,
)
from fseed.training.memory_split import EVALUATION, TRAINING, halve, training_size, with_size
from fseed.training.module import FutureSeedModule
from fseed.training.objectives import Learner
from fseed.training.process_settings import restored_settings
from fseed.training.records import run_device
from fseed.training.static_batch import GRAIN, Buckets

NUM_STEPS = 2  # the first one compiles and creates the optimiser's state, the last is timed


@dataclass(frozen=True)
class ProbeResult:
    """What fits and how fast it is.

    ``micro_batch_size`` equals ``budget.batch_size`` where the whole batch fits,
    ``eval_batch_size`` is None where it fits as configured. ``peak_gib`` is what a run records as
    ``peak_memory_gib``: allocated on a GPU, resident in this process on a CPU; ``reserved_gib`` is
    what PyTorch keeps of the GPU for it, None on a CPU. ``tokens_per_second`` counts what the arm
    reads.
    """

    micro_batch_size: int
    peak_gib: float
    seconds_per_step: float
    tokens_per_second: float
    reserved_gib: float | None = None
    eval_batch_size: int | None = None


def probe_memory(run: PlannedRun, *, reads_data: bool = False) -> ProbeResult:
    """Return the largest micro-batch of ``run`` that fits, halved from the configured one.

    ``reads_data``: at the lengths of the longest examples, which tells what the run will take; else
    at those of the task, which it will never pass. Runs in this process, writes no record and frees
    what it allocated.

    Raises:
        UserError: if a single example does not fit, or a batch whose samples need each other
            (retrieval, shuffled_state), or for data that cannot be used.
    """
    config = with_size(run.config, training_size(run.config), where=TRAINING)
    with _left_as_found():
        lengths = real_lengths(run) if reads_data else config.task
        while True:
            found = _try(config, lengths, configured=run.config)
            if isinstance(found, ProbeResult):
                return found
            config = with_size(config, halve(config, where=found, has_started=False), where=found)


@contextmanager
def _left_as_found() -> Iterator[None]:
    """Put the settings of the process back, and give cached memory back."""
    with restored_settings():
        try:
            yield
        finally:
            free_memory()


def real_lengths(run: PlannedRun) -> TaskConfig:
    """Return the task of a run with the lengths of its longest prompt and answer as its limits."""
    config, task = run.config, run.config.task
    tokenizer = build_tokenizer(config.model.tokenizer, vocab_file=config.model.vocab_file)
    data = load_examples(config, tokenizer, data_hash=run.data_hash)
    examples = [example for split in data.splits.values() for example in split]
    num_prompt = max(len(example.prompt_ids) for example in examples)
    num_answer = max(len(example.answer_ids) for example in examples)
    if get_task(task.name).objective is Objective.answer:
        # the limit of an answer leaves its end of text out, that of the whole has it
        return replace(
            task, max_length_tokens=num_prompt + num_answer, max_answer_tokens=num_answer - 1
        )
    return replace(task, max_length_tokens=num_prompt, max_answer_tokens=num_answer)


def _try(config: RunConfig, lengths: TaskConfig, *, configured: RunConfig) -> ProbeResult | str:
    """Return the measurement, or where memory ran out: "training" or "evaluation"."""
    free_memory()
    measure = _Measure()
    try:
        _fit(config, replace(config, task=lengths), measure)
    except Exception as error:
        if is_out_of_memory(error):
            return measure.stage
        raise
    finally:
        # the traceback of an error holds them
        measure.learner = None
    device, scored = run_device(config), config.budget.eval_batch_size
    return ProbeResult(
        micro_batch_size=training_size(config),
        peak_gib=peak_memory_gib(device),
        seconds_per_step=measure.seconds,
        tokens_per_second=measure.num_tokens / measure.seconds,
        reserved_gib=peak_reserved_gib(device),
        eval_batch_size=None if scored == configured.budget.eval_batch_size else scored,
    )


def _fit(config: RunConfig, at_length: RunConfig, measure: "_Measure") -> None:
    prepare_torch(config)
    model = build_model(config)
    backend = choose_backend(config, model.shape).name
    model.use_backend(backend)
    future_seed = build_future_seed(config, model.shape)
    objective = get_task(config.task.name).objective
    learner = Learner(model, future_seed, objective=objective)
    longest = longest_batch(at_length, objective, size=config.budget.batch_size)
    measure.learner, measure.num_tokens = learner, learner.count_tokens(longest)
    measure.evaluated = longest_batch(at_length, objective, size=config.budget.eval_batch_size)
    reset_peak_memory(run_device(config))
    plan = choose_step(config, backend=backend)
    batches = probe_batches(longest, plan)
    trainer = build_trainer(config, num_steps=len(batches), callbacks=[measure])
    module = FutureSeedModule(config, learner, plan=plan, recorder=CudaGraphRecorder)
    trainer.fit(module, train_dataloaders=_Batches(batches))


def probe_batches(longest: PromptAnswer, plan: StepPlan) -> list[PromptAnswer]:
    """Return the batches of the steps of a probe; the last one is timed.

    Where steps are captured, a step of another shape comes between: a run needs its memory beside
    what the graphs hold.
    """
    if not plan.is_static:
        return [longest] * NUM_STEPS
    sizes = longest.prompt.shape[1], longest.answer.shape[1]
    same = make_ready(longest, buckets=Buckets(*sizes), is_pinned=True)
    if plan.mode == "eager":
        return [same] * NUM_STEPS
    padded = longest._replace(prompt=F.pad(longest.prompt, (0, GRAIN)))
    wider = make_ready(padded, buckets=Buckets(sizes[0] + GRAIN, sizes[1]), is_pinned=True)
    return [same, same, wider, same]


class _Batches:
    """What Lightning takes for a data loader; a list would mean several loaders."""

    def __init__(self, batches: list[PromptAnswer]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[PromptAnswer]:
        return iter(self.batches)


class _Measure(L.Callback):
    """Time the last step, then score one batch where a run scores a split."""

    def __init__(self) -> None:
        self.stage, self.seconds, self.num_tokens = TRAINING, math.nan, 0
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
        self.stage = EVALUATION
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            _score(self.learner, self.evaluated.to(pl_module.device))


def _score(learner: Learner, batch: PromptAnswer) -> None:
    """Do what an evaluation does with one batch, generation up to its first token."""
    if learner.objective is Objective.retrieval:
        learner.embed(batch)
        return
    model = learner.model
    score_answers(model.logits, learner.hidden(batch), batch, vocab_size=model.shape.vocab_size)
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
