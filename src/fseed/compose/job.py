"""What Hydra's launchers call: one planned run in this process."""

from dataclasses import dataclass

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fseed.compose.loader import Composer
from fseed.launch.train import train
from fseed.planned_run import PlannedRun, RunOutcome
from fseed.sweep.execute import execute_run
from fseed.sweep.plan import plan_run


@dataclass
class PlannedJob:
    """The task function of a planned sweep: the job's number chooses the run.

    What was planned is what runs; the configuration that Hydra composes again is not used.
    """

    runs: list[PlannedRun]
    positions: list[str]

    def __call__(self, config: DictConfig) -> RunOutcome:
        """Run the planned run of the current job."""
        number = HydraConfig.get().job.num
        return execute_run(self.runs[number], position=self.positions[number], train=train)


def run_point(config: DictConfig) -> RunOutcome:
    """Plan and run one job of a sweeper that does no planning of its own."""
    loader = GlobalHydra.instance().config_loader()
    point = Composer(loader).compose(list(HydraConfig.get().overrides.task))
    return execute_run(plan_run(point).run, position="1/1", train=train)
