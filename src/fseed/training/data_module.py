"""The Lightning data module: examples of the task, batches keyed by the optimiser step."""

import json
from dataclasses import asdict

import lightning as L

from fseed.config.schema import ControlKind, RunConfig
from fseed.errors import DataError, UserError
from fseed.lasting_console import say
from fseed.models.tokenizer import Tokenizer
from fseed.tasks.preflight import render
from fseed.tasks.registry import TaskData, load_task_data, splits_to_read
from fseed.training.batch_plan import BatchPlan, steps_for_tokens
from fseed.training.batches import StepKeyedBatches

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

    def __init__(self, config: RunConfig, data: TaskData) -> None:
        """Plan the batches of the run and the number of its steps."""
        super().__init__()
        self.plan = BatchPlan(
            data.splits["train"], seed=config.seed, batch_size=config.budget.batch_size
        )
        self.batches = StepKeyedBatches(
            self.plan, repeat_prompt=config.control.kind is ControlKind.repeat_prompt
        )
        self.num_steps = plan_steps(config, self.plan)

    def train_dataloader(self) -> StepKeyedBatches:
        """Return the batches from the current optimiser step on."""
        assert self.trainer is not None
        self.batches.start_step = self.trainer.global_step
        return self.batches


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
