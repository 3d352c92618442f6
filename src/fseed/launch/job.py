"""One run for a launcher to start."""

from dataclasses import dataclass

from fseed.planned_run import PlannedRun


@dataclass(frozen=True)
class Job:
    """A planned run and its place in the sweep, such as "2/6", for people."""

    run: PlannedRun
    position: str

    @property
    def title(self) -> str:
        """The run in one line."""
        config = self.run.config
        return f"{self.position}  {config.task.name} {self.run.arm} seed {config.seed}"
