"""Ranges of single values."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from fseed.errors import UserError

# numpy and Lightning take seeds of 32 bits
MAX_SEED = 2**32 - 1

Rule = tuple[Callable[[Any], bool], str]

_POSITIVE: Rule = (lambda value: value > 0, "must be above 0")
_NOT_NEGATIVE: Rule = (lambda value: value >= 0, "must be 0 or more")
_FRACTION: Rule = (lambda value: 0 <= value < 1, "must be at least 0 and below 1")
_SEED: Rule = (lambda value: 0 <= value <= MAX_SEED, f"must be 0 .. {MAX_SEED}")
_FOLDER_NAME: Rule = (
    lambda value: re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", value) is not None,
    'is a folder name: letters, digits, "." "_" "-"',
)

# ranges of single values; null passes where the schema allows it
RANGES: dict[str, Rule] = {
    "seed": _SEED,
    "data.seed": _SEED,
    "data.num_train": _POSITIVE,
    "data.num_validation": _POSITIVE,
    "data.num_test": _NOT_NEGATIVE,
    "task.max_length_tokens": _POSITIVE,
    "task.max_answer_tokens": _POSITIVE,
    "budget.steps": _POSITIVE,
    "budget.tokens": _POSITIVE,
    "budget.batch_size": _POSITIVE,
    "budget.eval_batch_size": _POSITIVE,
    "budget.eval_every_steps": _POSITIVE,
    "budget.checkpoint_every_steps": _POSITIVE,
    "optim.lr": _POSITIVE,
    "optim.beta1": _FRACTION,
    "optim.beta2": _FRACTION,
    "optim.eps": _POSITIVE,
    "optim.weight_decay": _NOT_NEGATIVE,
    "optim.grad_clip": _NOT_NEGATIVE,
    "optim.warmup_steps": _NOT_NEGATIVE,
    "optim.decay_lr_multiplier": _POSITIVE,
    "trainer.micro_batch_size": _POSITIVE,
    "trainer.devices": _POSITIVE,
    "trainer.num_threads": _POSITIVE,
    "control.state_lr": _POSITIVE,
    "optim.task_head_lr": _POSITIVE,
    "mbpp.num_samples": _NOT_NEGATIVE,
    "mbpp.temperature": _POSITIVE,
    "mbpp.top_p": (lambda value: 0 < value <= 1, "must be above 0 and at most 1"),
    "mbpp.timeout_seconds": _POSITIVE,
    "mbpp.memory_mib": (lambda value: value >= 128, "must be at least 128"),
    "alpha.lr": _NOT_NEGATIVE,
    "fs_variant.clip": _NOT_NEGATIVE,
    "fs_variant.seed_scale": _NOT_NEGATIVE,
    "fs_variant.head_lr": _NOT_NEGATIVE,
    "fs_variant.input_lr": _NOT_NEGATIVE,
    "launcher.slots": _POSITIVE,
    "launcher.runs_per_gpu": _POSITIVE,
    "launcher.timeout_minutes": _POSITIVE,
    "launcher.stall_minutes": _POSITIVE,
    "launcher.retries": _NOT_NEGATIVE,
    "launcher.grace_seconds": _NOT_NEGATIVE,
    "launcher.cpus_per_run": _POSITIVE,
    "launcher.gpus_per_run": _NOT_NEGATIVE,
    "sweep.max_hours": _POSITIVE,
    "sweep.name": _FOLDER_NAME,
    "sweep.stage": _FOLDER_NAME,
}


def check_range(key: str, value: Any) -> None:
    """Raise UserError unless ``value`` is finite and in the range of ``key``; null passes."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: must be a finite number")
    holds, allowed = RANGES.get(key, (None, ""))
    if holds is not None and value is not None and not holds(value):
        raise UserError(f"{key}={value}: {allowed}")


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key of a configuration with its value."""
    for field in fields(node):
        value = getattr(node, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value
