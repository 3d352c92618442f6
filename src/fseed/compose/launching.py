"""Planned runs through the launcher that the configuration names."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.types import HydraContext
from omegaconf import DictConfig, read_write

from fseed.compose.job import PlannedJob
from fseed.planned_run import PlannedRun, RunOutcome

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
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=hydra_context,
        task_function=PlannedJob(list(runs), list(positions)),
        config=config,
    )
    returns = launcher.launch([run.overrides for run in runs], initial_job_idx=0)
    return [_outcome(returned) for returned in returns]


def is_sequential(config: DictConfig) -> bool:
    """Tell whether the launcher runs one job at a time, so that each can be handed over alone."""
    return config.hydra.launcher.get("_target_") == SEQUENTIAL_LAUNCHER


def _outcome(returned: JobReturn) -> RunOutcome:
    try:
        outcome = returned.return_value
    # whatever a launcher caught in its worker process
    except Exception as error:
        return RunOutcome("failed", f"{type(error).__name__}: {error}", 1)
    assert isinstance(outcome, RunOutcome)
    return outcome
