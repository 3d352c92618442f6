"""How many runs share a GPU: as many as the measured memory allows.

The dearest arm of each group of equal task, model and batch is measured once, by doing its largest
steps; what was found is kept in the folder of the sweep.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fseed.atomic import write_json_atomic
from fseed.config.schema import Accelerator, LauncherConfig
from fseed.launch.gpu_memory import GpuMemory, NotMeasured, measure_need, read_gpu_memory
from fseed.launch.gpus import find_gpus
from fseed.launch.job import Job
from fseed.launch.threads import count_cores
from fseed.planned_run import PlannedRun
from fseed.record_schema import RecordError, check_size
from fseed.sweep.staged.probe_file import memory_cost

PACKING_FILE = ".packing.json"
SCHEMA_VERSION = 1
# free memory falls apart: blocks of another size than those that are asked for
MARGIN_FRACTION, MIN_MARGIN_GIB = 0.05, 0.5

Measure = Callable[[PlannedRun, str, float], float]
Say = Callable[[str], None]


def runs_that_fit(*, free_gib: float, total_gib: float, need_gib: float, cores: int) -> int:
    """Return how many runs of ``need_gib`` fit beside each other, at least 1, at most one a core.

    A margin of 5 % of the GPU, at least 0.5 GiB, stays free.

    >>> runs_that_fit(free_gib=79.0, total_gib=80.0, need_gib=12.0, cores=16)
    6
    """
    margin = max(MARGIN_FRACTION * total_gib, MIN_MARGIN_GIB)
    fit = math.floor((free_gib - margin) / max(need_gib, 1e-3))
    return max(min(fit, cores), 1)


def choose_runs_per_gpu(
    jobs: Sequence[Job],
    options: LauncherConfig,
    *,
    say: Say,
    measure: Measure | None = None,
    cores: int | None = None,
) -> int | None:
    """Return how many runs share a GPU, None where there is nothing to choose.

    ``say`` gets one line: what was decided, and from which numbers.
    """
    gpus = _gpus_to_pack(jobs, options)
    if not gpus:
        return None
    cores = max((count_cores() if cores is None else cores) // len(gpus), 1)
    try:
        memory = min((read_gpu_memory(gpu) for gpu in gpus), key=lambda each: each.free_gib)
        need, run = _dearest_need(jobs, gpus[0], measure=measure or _measure)
    except NotMeasured as error:
        say(f"one run per GPU: {error}; launcher.runs_per_gpu=N packs more")
        return 1
    number = runs_that_fit(
        free_gib=memory.free_gib, total_gib=memory.total_gib, need_gib=need, cores=cores
    )
    say(_told(number, need, memory, run=run, cores=cores))
    return number


def _gpus_to_pack(jobs: Sequence[Job], options: LauncherConfig) -> list[str]:
    """Return the GPUs that could take several runs each; none where that is settled."""
    if options.runs_per_gpu is not None or options.slots is not None:
        return []
    trainers = [job.run.config.trainer for job in jobs]
    on_gpu = [trainer for trainer in trainers if trainer.accelerator is Accelerator.gpu]
    if not on_gpu or any(trainer.devices > 1 for trainer in on_gpu):
        return []
    gpus = find_gpus()
    return gpus if len(on_gpu) > len(gpus) else []


def _dearest_need(jobs: Sequence[Job], gpu: str, *, measure: Measure) -> tuple[float, PlannedRun]:
    """Return the most that any run needs in GiB, and that run; measures what is not known yet."""
    memory = read_gpu_memory(gpu)
    found: list[tuple[float, PlannedRun]] = []
    for run in dearest_runs([job.run for job in jobs]):
        path = run.run_dir.parents[3] / PACKING_FILE
        known, key = read_known(path), group_key(run, memory)
        if key not in known:
            known[key] = measure(run, gpu, memory.free_gib)
            write_json_atomic(path, {"schema_version": SCHEMA_VERSION, "needed_gib": known})
        found.append((known[key], run))
    return max(found, key=lambda pair: pair[0])


def dearest_runs(runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Return the dearest arm of each group of runs with equal task, model and batch."""
    dearest: dict[str, PlannedRun] = {}
    for run in runs:
        if run.config.trainer.accelerator is not Accelerator.gpu:
            continue
        group = _describe(run)
        rival = dearest.get(group)
        if rival is None or memory_cost(run.config) > memory_cost(rival.config):
            dearest[group] = run
    return list(dearest.values())


def group_key(run: PlannedRun, memory: GpuMemory) -> str:
    """Return what a measurement holds for: the group, its dearest arm, the code and the GPU."""
    parts = [_describe(run), list(memory_cost(run.config)), run.code_hash, memory.name]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _describe(run: PlannedRun) -> str:
    config = run.config
    parts: dict[str, Any] = {
        name: asdict(getattr(config, name)) for name in ("task", "model", "trainer", "optim")
    }
    sizes = (config.budget.batch_size, config.budget.eval_batch_size)
    return json.dumps([parts, sizes], default=str, sort_keys=True)


def read_known(path: Path) -> dict[str, float]:
    """Return what was measured before; a file that cannot be used is measured anew."""
    try:
        check_size(path)
        content: Mapping[str, Any] = json.loads(path.read_bytes())
        if content["schema_version"] != SCHEMA_VERSION:
            return {}
        return {str(key): float(value) for key, value in content["needed_gib"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecordError):
        return {}


def _measure(run: PlannedRun, gpu: str, free_before: float) -> float:
    return measure_need(run, gpu, free_before=free_before)


def _told(number: int, need: float, memory: GpuMemory, *, run: PlannedRun, cores: int) -> str:
    bound = f", {cores} CPU cores a GPU" if number == cores else ""
    return (
        f"packing: {number} per GPU; {run.config.task.name} {run.arm} takes {need:.1f} GiB, "
        f"{memory.free_gib:.1f} of {memory.total_gib:.1f} GiB free{bound} (measured)"
    )
