"""Too little memory: fewer samples at a time, in the same batches, and each halving on record.

A micro batch changes nothing but the order in which the gradients of a batch are added up, and
pads and mates of a scored batch change no state: the numbers may differ in their last digits. So a
run that halves goes on, and says so. Where samples need each other nothing is halved.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fseed.config.rules import smallest_part
from fseed.config.schema import ControlKind, RunConfig
from fseed.errors import UserError
from fseed.tasks.base import Objective
from fseed.tasks.registry import get_task

SPLIT_KIND = "memory_split"  # of a row of metrics.jsonl
TRAINING, EVALUATION = "training", "evaluation"


@dataclass(frozen=True)
class Split:
    """One halving: ``size_after`` samples at a time from behind ``step`` on.

    ``failed_after`` counts the steps that were done when memory ran out; those behind ``step``
    are done again.
    """

    where: str  # training (a backward pass) or evaluation (a scored batch)
    size_before: int
    size_after: int
    step: int
    failed_after: int

    def row(self) -> dict[str, Any]:
        """Return the row of metrics.jsonl."""
        return {
            "kind": SPLIT_KIND,
            "step": self.step,
            "where": self.where,
            "from": self.size_before,
            "to": self.size_after,
            "failed_after_step": self.failed_after,
        }

    def text(self) -> str:
        """Return what happened in one line."""
        samples = f"{self.size_after} samples at a time instead of {self.size_before}"
        begin = f"from step {self.step} on" if self.step > 0 else "from the start"
        return (
            f"out of memory in {self.where} after step {self.failed_after}: {samples} {begin}, "
            "in the same batches"
        )


def read_split(row: Mapping[str, Any]) -> Split:
    """Return the split that a row of metrics.jsonl tells."""
    return Split(row["where"], row["from"], row["to"], row["step"], row["failed_after_step"])


def training_size(config: RunConfig) -> int:
    """Return the most samples of a backward pass on one device."""
    wanted = config.trainer.micro_batch_size
    share = math.ceil(config.budget.batch_size / config.trainer.devices)
    return share if wanted is None else min(wanted, share)


def with_splits(config: RunConfig, splits: Iterable[Split]) -> RunConfig:
    """Return the configuration with the sizes that ``splits`` end in."""
    for split in splits:
        config = with_size(config, split.size_after, where=split.where)
    return config


def with_size(config: RunConfig, size: int, *, where: str) -> RunConfig:
    """Return the configuration with ``size`` samples at a time in training or evaluation."""
    if where == EVALUATION:
        return replace(config, budget=replace(config.budget, eval_batch_size=size))
    return replace(config, trainer=replace(config.trainer, micro_batch_size=size))


def current_size(config: RunConfig, *, where: str) -> int:
    """Return the samples at a time in training or evaluation."""
    return config.budget.eval_batch_size if where == EVALUATION else training_size(config)


def halve(config: RunConfig, *, where: str, has_started: bool) -> int:
    """Return half the samples at a time, rounded up.

    ``has_started``: some steps may have been taken already, so that the batch mates of the others
    must stay as they are; before, every run of a comparison gets the smaller size.

    Raises:
        UserError: where no smaller number can help or would change what a sample meets.
    """
    size = current_size(config, where=where)
    lengths = f"at task.max_length_tokens={config.task.max_length_tokens}"
    if size == 1:
        raise UserError(f"not even one example fits into memory in {where} {lengths}; lower it")
    half = math.ceil(size / 2)
    if where == EVALUATION:
        _check_scored_apart(config, size, lengths)
    elif _needs_whole_batch(config, half, has_started=has_started):
        raise UserError(
            f"a batch of {size} does not fit into memory {lengths}, and its samples need each "
            "other: no smaller micro-batch; lower budget.batch_size"
        )
    return half


def _check_scored_apart(config: RunConfig, size: int, lengths: str) -> None:
    if config.control.kind is ControlKind.shuffled_state:
        raise UserError(
            f"budget.eval_batch_size={size} does not fit into memory {lengths}, and "
            "control=shuffled_state takes states from the same batch; lower it for all arms"
        )


def _needs_whole_batch(config: RunConfig, half: int, *, has_started: bool) -> bool:
    if get_task(config.task.name).objective is Objective.retrieval:
        return True
    if config.control.kind is not ControlKind.shuffled_state:
        return False
    return has_started or smallest_part(config.budget.batch_size, half) < 2
