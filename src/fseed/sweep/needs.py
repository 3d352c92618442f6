"""What a sweep needs of disk and time, told before it starts and refused where it is too much.

Sizes are those of this project's own files, rounded up. What other programs write meanwhile, and
quotas of a user, which the system does not tell, are not known.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fseed.config.schema import LoggerKind, RunConfig
from fseed.errors import UserError
from fseed.planned_run import PlannedRun
from fseed.tasks.base import Objective
from fseed.tasks.registry import get_task

# weights and the two averages of AdamW, float32; what is frozen has no averages
TRAINED_BYTES, FROZEN_BYTES = 12, 4
RECORD_BYTES = 64 * 1024  # configuration, provenance, result, and what keeps their place
_STEP_BYTES, _GATE_BYTES = 400, 44  # of a row of metrics.jsonl, and of a gate in it
_EVENT_BYTES = 400  # of a step in the files of TensorBoard
_ROW_BYTES, _TOKEN_BYTES = 100, 8  # of a row of predictions.parquet, and of an answer token in it
_SLACK = 1.05  # gates, heads and the names of tensors
_MIN_FREE_BYTES = 16 * 2**20  # of every file system: logs, tables, the words of a failure
# what runs of one task that take equally long share; arms and controls may differ by a factor of 2
WORK_KEYS = (
    *(("model", "name"), ("task", "max_length_tokens"), ("task", "max_answer_tokens")),
    *(("data", "source"), ("data", "num_validation")),
    *(("trainer", "accelerator"), ("trainer", "devices"), ("trainer", "activation_checkpointing")),
    *(("budget", "steps"), ("budget", "tokens"), ("budget", "batch_size")),
    *(("budget", "eval_every_steps"), ("budget", "generate")),
)


@dataclass(frozen=True)
class RunNeeds:
    """Bytes of one run: kept when it has finished, and on top of them while it runs."""

    kept: int
    passing: int


@dataclass(frozen=True)
class Estimate:
    """A number and where it comes from; ``value`` None where nothing is known."""

    value: float | None
    source: str


def run_needs(config: RunConfig) -> RunNeeds:
    """Return the bytes of one run by its options of retention."""
    output = config.output
    checkpoint, predictions = checkpoint_bytes(config), _predictions_bytes(config)
    kept = RECORD_BYTES + _log_bytes(config) + predictions
    kept += int(_SLACK * FROZEN_BYTES * num_parameters(config.model)) if output.save_weights else 0
    kept += checkpoint if output.keep_checkpoint else 0
    # the last checkpoint and the one before it; predictions are written beside their place
    passing = checkpoint * (1 if output.keep_checkpoint else 2) + predictions
    return RunNeeds(kept, passing)


def checkpoint_bytes(config: RunConfig) -> int:
    """Return the size of one checkpoint; retrieval trains a projection alone."""
    width = config.model.width or 0
    if get_task(config.task.name).objective is Objective.retrieval:
        size = FROZEN_BYTES * num_parameters(config.model) + TRAINED_BYTES * (width**2 + width)
    else:
        size = TRAINED_BYTES * num_parameters(config.model)
    return int(_SLACK * size)


def num_parameters(shape: Any) -> int:
    """Return the parameters of an RWKV-7 backbone; ``shape`` has the fields of RWKV7Shape."""
    width, layers = shape.width, shape.num_layers
    ranks = shape.decay_rank + shape.in_context_rank + shape.gate_rank
    time_mix = 4 * width**2 + 2 * width * ranks + 13 * width
    channel_mix = 2 * width * shape.ffn_width + width
    norms = 4 * width
    # layer 0 has a norm of its own and no value residual
    residual = (layers - 1) * (2 * width * shape.value_rank + width) + 2 * width
    ends = 2 * shape.vocab_size * width + 2 * width
    return layers * (time_mix + channel_mix + norms) + residual + ends


def sweep_bytes(runs: Sequence[PlannedRun], *, num_at_once: int) -> int:
    """Return the most bytes that ``runs`` take beyond what their folders hold already."""
    needs = [run_needs(run.config) for run in runs]
    passing = sorted((one.passing for one in needs), reverse=True)[:num_at_once]
    total = sum(one.kept for one in needs) + sum(passing)
    return max(total - sum(folder_bytes(run.run_dir) for run in runs), 0)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of the files in a folder, 0 where there is none."""
    try:
        with os.scandir(folder) as entries:
            return sum(
                entry.stat(follow_symlinks=False).st_size
                for entry in entries
                if entry.is_file(follow_symlinks=False)
            )
    except OSError:
        return 0


def free_bytes(folder: Path) -> int:
    """Return the bytes that may be written at ``folder``, or where it would be made."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    found = os.statvfs(place)
    # without the blocks that are kept for the administrator
    return found.f_bavail * found.f_frsize


def check_disk(needed: int, *, root: Path) -> None:
    """Raise UserError where ``needed`` bytes are not free at ``root``."""
    free = free_bytes(root)
    if needed + _MIN_FREE_BYTES > free:
        raise UserError(
            f"needs about {format_bytes(needed)} of disk, {format_bytes(free)} are free at {root}, "
            f"of which {format_bytes(_MIN_FREE_BYTES)} stay free: "
            "free some (python -m fseed.clean), give another output.root, or start less at once"
        )


def check_time(estimate: Estimate, *, max_hours: float | None) -> None:
    """Raise UserError where the estimate is above ``sweep.max_hours``; unknown times pass."""
    if max_hours is None or estimate.value is None or estimate.value <= 3600 * max_hours:
        return
    raise UserError(
        f"takes about {format_seconds(estimate.value)} ({estimate.source}), more than "
        f"sweep.max_hours={max_hours:g}: raise it, or sweep less"
    )


def estimate_sweep(
    runs: Sequence[PlannedRun], *, num_at_once: int, start_seconds: float = 0.0
) -> Estimate:
    """Return the time of ``runs`` by earlier runs of the same size below the same root.

    ``start_seconds``: of the process of each, which no run records.
    """
    # numpy and scipy come with it
    from fseed.sweep.staged.estimates import estimate_seconds

    known: dict[Any, float | None] = {}
    sources: dict[str, None] = {}
    for run in runs:
        key = _work(run.config)
        if key not in known:
            root = Path(run.config.output.root or ".")
            found = estimate_seconds(run, root=root, probe=None)
            known[key] = found.value
            if found.value is not None:
                sources[found.source] = None
    seconds = [known[_work(run.config)] for run in runs]
    missing = sum(one is None for one in seconds)
    if missing:
        return Estimate(None, f"{missing} of {len(runs)} runs are like none before")
    total = sum(one + start_seconds for one in seconds if one is not None) / max(num_at_once, 1)
    starts = [f"{start_seconds:.0f} s a start"] if start_seconds > 0 else []
    return Estimate(total, "; ".join([*sources, *starts]))


def render_needs(needed: int, estimate: Estimate, *, root: Path) -> str:
    """Return one line: disk needed and free, and the time with its source.

    ``estimate``: in seconds.
    """
    disk = f"needs about {format_bytes(needed)} of disk, {format_bytes(free_bytes(root))} free"
    if estimate.value is None:
        return f"{disk}; time unknown: {estimate.source}"
    return f"{disk}; about {format_seconds(estimate.value)} ({estimate.source})"


def format_bytes(number: int) -> str:
    """Return a size in its largest fitting unit.

    >>> format_bytes(300), format_bytes(3 * 2**20), format_bytes(5 * 2**30)
    ('1 KiB', '3.0 MiB', '5.0 GiB')
    """
    if number < 2**20:
        return f"{-(-number // 1024)} KiB"
    return f"{number / 2**20:.1f} MiB" if number < 2**30 else f"{number / 2**30:.1f} GiB"


def format_seconds(seconds: float) -> str:
    """Return a duration in its largest fitting unit.

    >>> format_seconds(40), format_seconds(400), format_seconds(40000)
    ('40 s', '6.7 min', '11.1 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def max_steps(config: RunConfig) -> int:
    """Return the steps of a budget; of one in tokens, as if texts had a quarter of their limit."""
    budget = config.budget
    if budget.steps is not None:
        return budget.steps
    per_step = max(budget.batch_size * config.task.max_length_tokens // 4, 1)
    return -(-(budget.tokens or 0) // per_step)


def _log_bytes(config: RunConfig) -> int:
    per_step = _STEP_BYTES + _GATE_BYTES * (config.model.num_layers or 0)
    per_step += _EVENT_BYTES if config.logger.kind is not LoggerKind.none else 0
    return per_step * (max_steps(config) + _num_scorings(config))


def _predictions_bytes(config: RunConfig) -> int:
    row = _ROW_BYTES + _TOKEN_BYTES * config.task.max_answer_tokens
    scored = config.data.num_validation * _num_scorings(config)
    return row * (scored + (config.data.num_test if config.budget.test else 0))


def _num_scorings(config: RunConfig) -> int:
    every = config.budget.eval_every_steps
    return 2 + (max_steps(config) // every if every is not None else 0)


def _work(config: RunConfig) -> tuple[Any, ...]:
    """Return what runs that take equally long share."""
    return config.task.name, *(getattr(getattr(config, group), key) for group, key in WORK_KEYS)
