"""Planned runs through the launcher that the configuration names."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from fseed.compose.job import PlannedJob
from fseed.compose.loader import Composer
from fseed.compose.submitit_launching import is_submitit, launch_submitted
from fseed.config.schema import LauncherConfig
from fseed.launch.job import Job
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.sweep.plan import plan_run
from fseed.sweep.prepare import Preparer

# runs one job after the other in this process
SEQUENTIAL_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def set_launch_folder(config: DictConfig, folder: Path) -> None:
    """Let launchers keep files of their own in the folder of the sweep."""
    # each job composes anew from these words
    quoted = QuotedString(str(folder), Quote.single).with_quotes()
    with read_write(config):
        config.hydra.sweep.dir = str(folder)
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted}")


def launch_runs(
    runs: Sequence[PlannedRun],
    positions: Sequence[str],
    *,
    hydra_context: HydraContext,
    config: DictConfig,
) -> list[RunOutcome]:
    """Run ``runs``, whose progress lines begin with ``positions``; each ends in an outcome."""
    planned = PlannedJob(list(runs), list(positions))
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=hydra_context, task_function=planned, config=config
    )
    if is_submitit(launcher):
        return launch_submitted(launcher, planned, launcher_options(config))
    returns = launcher.launch([run.overrides for run in runs], initial_job_idx=0)
    return [_outcome(returned) for returned in returns]


def is_sequential(config: DictConfig) -> bool:
    """Tell whether the launcher runs one job at a time, so that each can be handed over alone."""
    return config.hydra.launcher.get("_target_") == SEQUENTIAL_LAUNCHER


def find_jobs(
    task_function: TaskFunction | None,
    job_overrides: Sequence[Sequence[str]],
    *,
    first: int,
    config_loader: ConfigLoader,
) -> list[Job]:
    """Return the jobs behind what Hydra hands to one of our launchers.

    A sweeper of ours has planned them; what another sweeper asks for is planned here.
    """
    if isinstance(task_function, PlannedJob):
        chosen = slice(first, first + len(job_overrides))
        pairs = zip(task_function.runs[chosen], task_function.positions[chosen], strict=True)
        return [Job(run, position) for run, position in pairs]
    composer, preparer = Composer(config_loader), Preparer()
    points = [composer.compose(list(overrides)) for overrides in job_overrides]
    return [
        Job(plan_run(point, preparer=preparer).run, f"{first + index + 1}/{first + len(points)}")
        for index, point in enumerate(points)
    ]


def launcher_options(config: DictConfig) -> LauncherConfig:
    """Return the group ``launcher`` of the composed configuration."""
    options = OmegaConf.to_object(config.launcher)
    assert isinstance(options, LauncherConfig)
    return options


def wrap_outcomes(outcomes: Sequence[RunOutcome]) -> list[JobReturn]:
    """Return outcomes as Hydra's launchers return them."""
    return [JobReturn(_return_value=each, status=JobStatus.COMPLETED) for each in outcomes]


def _outcome(returned: JobReturn) -> RunOutcome:
    try:
        outcome = returned.return_value
    # whatever a launcher caught in its worker process
    except Exception as error:
        return RunOutcome("failed", f"{type(error).__name__}: {error}", 1)
    assert isinstance(outcome, RunOutcome)
    return outcome
