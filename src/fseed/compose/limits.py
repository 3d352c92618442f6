"""Disk and time of a command before it starts: one line, or one line why it does not."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from fseed.compose.launching import is_sequential, launcher_options
from fseed.config.schema import Accelerator, RunConfig
from fseed.launch.gpus import find_gpus
from fseed.launch.job import Job
from fseed.launch.ray_pool import count_at_once as count_on_ray
from fseed.launch.slots import plan_slots, too_few_gpus
from fseed.planned_run import PlannedRun
from fseed.sweep.needs import (
    check_disk,
    check_time,
    estimate_sweep,
    render_needs,
    sweep_bytes,
)

# of a fresh process on two cores: imports and building the run, which no run records
_START_SECONDS = 10.0


def describe_needs(
    runs: Sequence[PlannedRun], *, num_at_once: int, refuse: bool, start_seconds: float = 0.0
) -> str | None:
    """Return what the runs that are left need in one line; None where none is left.

    ``start_seconds``: see ``seconds_of_start``.

    Raises:
        UserError: with ``refuse``, where the disk or ``sweep.max_hours`` is too small.
    """
    if not runs:
        return None
    root = _root(runs[0].config)
    needed = sweep_bytes(runs, num_at_once=num_at_once)
    estimate = estimate_sweep(runs, num_at_once=num_at_once, start_seconds=start_seconds)
    if refuse:
        check_disk(needed, root=root)
        check_time(estimate, max_hours=runs[0].config.sweep.max_hours)
    return render_needs(needed, estimate, root=root)


def seconds_of_start(config: DictConfig) -> float:
    """Return what the launcher of a sweep adds to each run; 0 where processes are kept."""
    is_kept = is_sequential(config) or launcher_options(config).reuse
    return 0.0 if is_kept else _START_SECONDS


def count_at_once(runs: Sequence[PlannedRun], config: DictConfig) -> int:
    """Return how many of ``runs`` the launcher of a sweep may run at the same time, at least 1.

    Raises:
        UserError: for a run that needs more GPUs than this machine has, where it is to run here.
    """
    if not runs:
        return 1
    if is_sequential(config):
        check_gpus(runs)
        return 1
    jobs, options = [Job(run, "") for run in runs], launcher_options(config)
    target = str(config.hydra.launcher.get("_target_"))
    if target.endswith((".SlotsLauncher", ".LocalLauncher")):
        return len(plan_slots(jobs, options).slots)
    if target.endswith(".RayLauncher"):
        return count_on_ray(jobs, options)
    # a cluster may start all of them
    bound = options.slots or config.hydra.launcher.get("array_parallelism") or len(runs)
    return min(bound, len(runs))


def check_gpus(runs: Sequence[PlannedRun]) -> None:
    """Raise UserError for a run in this process that needs more GPUs than there are."""
    trainers = [run.config.trainer for run in runs]
    on_gpu = [one.devices for one in trainers if one.accelerator is Accelerator.gpu]
    devices = max(on_gpu, default=1)
    if devices > 1 and (found := len(find_gpus())) < devices:
        raise too_few_gpus(devices, found)


def _root(config: RunConfig) -> Path:
    assert config.output.root is not None
    return Path(config.output.root)
