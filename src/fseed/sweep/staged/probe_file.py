"""probe.json: what the memory probe of each task found, kept so that a resumed sweep agrees.

The micro batch that it chooses may change the last digits of a run, so it is measured once.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fseed.atomic import write_json_atomic
from fseed.config.schema import ControlKind, Gate, Mode, RunConfig
from fseed.errors import UserError
from fseed.planned_run import PlannedRun
from fseed.record_schema import RecordError, check_size
from fseed.sweep.staged.book import RunBook, Slot
from fseed.sweep.staged.stages import CONFIRM, QUICK, Stage

PROBE_FILE = "probe.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Probe:
    """One task: the most expensive arm at the maximum length, examples per backward pass."""

    arm: str
    micro_batch_size: int
    peak_gib: float | None
    seconds_per_step: float
    tokens_per_second: float
    reserved_gib: float | None = None  # of the GPU, by PyTorch's allocator
    eval_batch_size: int | None = None  # null: the configured one fits

    def words(self, *, batch_size: int) -> tuple[str, ...]:
        """Return the overrides that every run of the task gets, none where the batches fit."""
        words = []
        if self.micro_batch_size < batch_size:
            words.append(f"trainer.micro_batch_size={self.micro_batch_size}")
        if self.eval_batch_size is not None:
            words.append(f"budget.eval_batch_size={self.eval_batch_size}")
        return tuple(words)


class ProbeFailed(Exception):
    """A task whose most expensive arm cannot run even one example; the message says why."""


Measure = Callable[[PlannedRun], Probe]


def read_probes(folder: Path) -> dict[str, Probe]:
    """Return what is known per task; UserError for a file that cannot be used."""
    path = folder / PROBE_FILE
    try:
        check_size(path)
        content = json.loads(path.read_bytes())
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"unknown schema version {content['schema_version']}")
        return {task: Probe(**told) for task, told in content["tasks"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecordError) as error:
        raise UserError(
            f"{path}: {error}\ndelete it where no run has started, or give another sweep.name"
        ) from error


def write_probes(folder: Path, probes: Mapping[str, Probe]) -> None:
    """Write what is known per task."""
    told: dict[str, Any] = {task: asdict(probe) for task, probe in probes.items()}
    write_json_atomic(folder / PROBE_FILE, {"schema_version": SCHEMA_VERSION, "tasks": told})


def find_probe_run(
    book: RunBook, task: str, stages: Sequence[Stage], *, has_controls: bool
) -> PlannedRun:
    """Return the run of a task that needs the most memory, controls included."""
    runs = [book.run(Slot(task, arm, QUICK), seed=stages[0].seeds[0]) for arm in book.arms]
    dearest = max(runs, key=lambda run: memory_cost(run.config))
    if not has_controls:
        return dearest
    seed = stages[-1].seeds[0]
    kinds = (ControlKind.repeat_prompt, ControlKind.same_layer)
    arm = book.arms[runs.index(dearest)]
    controls = [book.run(Slot(task, arm, CONFIRM, control=kind.value), seed=seed) for kind in kinds]
    return max((dearest, *controls), key=lambda run: memory_cost(run.config))


def memory_cost(config: RunConfig) -> tuple[int, int, int, int]:
    """Order runs by memory: prompts read twice, gradients between layers, gates, seeded layers."""
    kind = config.control.kind
    has_seed = config.fs.mode is Mode.prompt_fs
    is_gated = config.fs_variant.gate is Gate.inputgate
    chains = has_seed and not config.fs_variant.detach
    # with detach the first pass of same_layer keeps nothing for a backward pass
    keeps_both = kind is ControlKind.repeat_prompt or (kind is ControlKind.same_layer and chains)
    passes = 2 if keeps_both else 1
    return passes, int(chains), int(has_seed and is_gated), -config.lstart if has_seed else -(10**6)
