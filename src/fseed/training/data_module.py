"""The Lightning data module: examples of the task, batches keyed by the optimiser step."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial

import lightning as L

from fseed.config.schema import Accelerator, ControlKind, RunConfig
from fseed.errors import DataError, UserError
from fseed.lasting_console import say
from fseed.models.prompt_answer import PromptAnswer
from fseed.models.tokenizer import Tokenizer
from fseed.tasks.preflight import render
from fseed.tasks.registry import TaskData, load_task_data, splits_to_read
from fseed.training.batch_plan import BatchPlan, steps_for_tokens
from fseed.training.batches import StepKeyedBatches
from fseed.training.prefetch import Prefetched
from fseed.training.static_batch import Buckets, find_buckets, pad_batch, pin

_LAST_LOADED: dict[str, tuple[TaskData, int]] = {}


def load_examples(config: RunConfig, tokenizer: Tokenizer, *, data_hash: str) -> TaskData:
    """Build the examples of a run and show the preflight; the runs that follow share them.

    Raises:
        DataError: if the rows are not those of ``data_hash``, or there are too few.
    """
    facts = (config.task, config.data, config.mbpp)
    splits = splits_to_read(config.budget)
    source = [*(asdict(part) for part in facts), splits, tokenizer.fingerprint, data_hash]
    key = json.dumps(source, default=str)
    if key not in _LAST_LOADED:
        _LAST_LOADED.clear()
        try:
            data = load_task_data(
                config.task, config.data, tokenizer, splits=splits, scoring=config.mbpp
            )
        except UserError as error:
            raise DataError(str(error)) from error
        if data.data_hash != data_hash:
            raise DataError("the data changed after this run was planned; start the command again")
        if config.trainer.progress:
            say(render(data.preflight))
        _LAST_LOADED[key] = data, _digest(data)
    return _LAST_LOADED[key][0]


def are_examples_unchanged() -> bool:
    """Tell whether the examples that runs share are as they were loaded; some milliseconds."""
    return all(_digest(data) == digest for data, digest in _LAST_LOADED.values())


def _digest(data: TaskData) -> int:
    """Return a hash of all that the examples hold, good in this process only."""
    examples = [vars(each).values() for split in data.splits.values() for each in split]
    # the token ids are lists, which have no hash
    plain = tuple(
        tuple(tuple(value) if isinstance(value, list) else value for value in each)
        for each in examples
    )
    return hash((plain, str(data.constant_baseline), str(data.copy_baseline)))


class RunDataModule(L.LightningDataModule):
    """Training batches of one run; validation and test are scored apart, as whole splits."""

    def __init__(self, config: RunConfig, data: TaskData, *, is_static: bool = False) -> None:
        """Plan the batches of the run and the number of its steps.

        ``is_static``: batches are padded to buckets and, for a GPU, pinned, a thread ahead.
        """
        super().__init__()
        self.plan = BatchPlan(
            data.splits["train"], seed=config.seed, batch_size=config.budget.batch_size
        )
        repeat_prompt = config.control.kind is ControlKind.repeat_prompt
        self.batches = StepKeyedBatches(self.plan, repeat_prompt=repeat_prompt)
        self._ahead: Prefetched[PromptAnswer] | None = None
        if is_static:
            buckets = find_buckets(data.splits["train"], repeat_prompt=repeat_prompt)
            is_pinned = config.trainer.accelerator is Accelerator.gpu
            self.batches.prepare = partial(make_ready, buckets=buckets, is_pinned=is_pinned)
            self._ahead = Prefetched(self.batches)
        self.num_steps = plan_steps(config, self.plan)

    def train_dataloader(self) -> Iterable[PromptAnswer]:
        """Return the batches from the current optimiser step on."""
        assert self.trainer is not None
        self.batches.start_step = self.trainer.global_step
        return self.batches if self._ahead is None else self._ahead

    def close(self) -> None:
        """End the thread that reads ahead, if there is one."""
        if self._ahead is not None:
            self._ahead.close()


def make_ready(batch: PromptAnswer, *, buckets: Buckets, is_pinned: bool) -> PromptAnswer:
    """Return a collated batch as a static step reads it."""
    padded = pad_batch(batch, buckets)
    return pin(padded) if is_pinned else padded


def plan_steps(config: RunConfig, plan: BatchPlan) -> int:
    """Return the optimiser steps of the budget; tokens are rounded up to a whole step.

    Tokens count each prompt once, so that an arm that reads it twice takes equally many steps.
    """
    budget = config.budget
    if budget.steps is not None:
        return budget.steps
    if budget.tokens is None:
        raise UserError("budget.steps and budget.tokens are both unset; give one of them")
    return steps_for_tokens(plan, tokens=budget.tokens)
