"""The Hydra side of ``hydra/launcher=ray``; the work is in ``fseed.launch``.

Every program that uses Hydra in this environment imports this file, so it imports fseed late, and
Ray later still.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class RayLauncherConf:
    """``hydra/launcher=ray``; its options are those of the group ``launcher``."""

    _target_: str = "hydra_plugins.fseed_ray_launcher.launcher.RayLauncher"


ConfigStore.instance().store(
    group="hydra/launcher", name="ray", node=RayLauncherConf, provider="fseed"
)


class RayLauncher(Launcher):
    """Run jobs on a Ray cluster, one of this machine or one that is there already."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra hands over."""
        self.hydra_context, self.task_function = hydra_context, task_function
        self.config = config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run every job; each ends in an outcome."""
        from fseed.compose.launching import find_jobs, launcher_options, wrap_outcomes
        from fseed.launch.ray_pool import launch_jobs

        jobs = find_jobs(
            self.task_function,
            job_overrides,
            first=initial_job_idx,
            config_loader=self.hydra_context.config_loader,
        )
        return wrap_outcomes(launch_jobs(jobs, launcher_options(self.config)))
