"""Planned runs through hydra-submitit-launcher: its options and executor, our bounds and outcomes.

The plugin's own loop ends at the first job that was lost, starts every local job at once, and puts
the whole plan into every job.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from fseed.compose.job import PlannedJob
from fseed.config.schema import LauncherConfig
from fseed.errors import UserError
from fseed.launch.job import Job
from fseed.launch.ray_pool import share_of
from fseed.planned_run import RunOutcome

# of Slurm, any of which asks for GPUs
GPU_OPTIONS = ("gpus_per_node", "gpus_per_task", "gres")
PLUGIN = "hydra_plugins.hydra_submitit_launcher.submitit_launcher"


def is_submitit(launcher: object) -> bool:
    """Tell whether a launcher of Hydra is one of the plugin's two."""
    return type(launcher).__module__ == PLUGIN


def launch_submitted(
    launcher: Any, planned: PlannedJob, options: LauncherConfig
) -> list[RunOutcome]:
    """Run what is planned as the plugin's ``launcher`` is set."""
    from fseed.launch.submitit_pool import launch_jobs

    pairs = zip(planned.runs, planned.positions, strict=True)
    jobs = [Job(run, position) for run, position in pairs]
    return launch_jobs(jobs, options, executor=build_executor(launcher, jobs, options))


def build_executor(launcher: Any, jobs: Sequence[Job], options: LauncherConfig) -> Any:
    """Return submitit's executor with the options of ``hydra.launcher``.

    ``launcher.slots`` bounds a job array; runs on a GPU ask for theirs where no option does, and
    every run for at least the CPU cores that it computes with.

    Raises:
        UserError: for an option that submitit refuses, or no Slurm on this machine.
    """
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    cluster, params = launcher._EXECUTOR, dict(launcher.params)
    if cluster == "slurm":
        params |= _array_options(params, jobs, options)
    folder = params.pop("submitit_folder")
    num_timeouts = params.pop("max_num_timeout", None)
    named = {} if num_timeouts is None else {f"{cluster}_max_num_timeout": num_timeouts}
    shared = {field.name for field in fields(BaseQueueConf)}
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, **named)
        executor.update_parameters(
            **{key if key in shared else f"{cluster}_{key}": value for key, value in params.items()}
        )
    except (AssertionError, RuntimeError, ValueError, NameError) as error:
        raise UserError(f"launcher=submitit_{cluster}: {' '.join(str(error).split())}") from error
    return executor


def _array_options(
    params: Mapping[str, Any], jobs: Sequence[Job], options: LauncherConfig
) -> dict[str, Any]:
    own: dict[str, Any] = {}
    if options.slots is not None:
        own["array_parallelism"] = options.slots
    share = share_of(jobs, options)
    if share.gpus and not any(params.get(key) for key in GPU_OPTIONS):
        own["gpus_per_node"] = math.ceil(share.gpus)
    if share.cpus > (params.get("cpus_per_task") or 1):
        own["cpus_per_task"] = math.ceil(share.cpus)
    return own
