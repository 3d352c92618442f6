"""What is asked, and of which rows: sections ``task``, ``data`` and ``mbpp``."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING


class SourceKind(Enum):
    """Where a task's rows come from; results of different sources are never pooled."""

    mini = "mini"
    local = "local"
    hub = "hub"


@dataclass
class TaskConfig:
    """What is asked: builder, order of the sections, lengths in tokens."""

    name: str = MISSING
    order: str = MISSING  # of the sections, or an alias; each task has its own, see TASKS.md
    max_length_tokens: int = MISSING  # prompt + answer
    max_answer_tokens: int = MISSING  # without the end-of-text token
    options: dict[str, Any] = field(default_factory=dict)  # of this task alone, see its YAML


@dataclass
class DataConfig:
    """Which rows are used: source, folder and the size of each split."""

    source: SourceKind = MISSING
    root: str | None = None  # folder with one subfolder per data set (local only)
    num_train: int = MISSING  # examples
    num_validation: int = MISSING  # examples
    num_test: int = MISSING  # examples, read with budget.test alone
    seed: int = 0  # chooses the rows of each split; equal for all seeds and arms


@dataclass
class MbppConfig:
    """Execution of generated programs (task mbpp)."""

    allow_unsandboxed: bool = False  # run programs even with all your rights where nothing isolates
    num_samples: int = 0  # sampled programs a problem for pass@k, beside the greedy one
    temperature: float = 0.8  # of the samples
    top_p: float = 0.95  # of the samples
    timeout_seconds: float = 10.0  # of one program with its tests
    memory_mib: int = 1024  # of one program
