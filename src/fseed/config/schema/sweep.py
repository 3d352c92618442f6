"""What happens around the runs of one command: section ``sweep``."""

from dataclasses import dataclass
from enum import Enum


class BaselineRule(Enum):
    """Whether a sweep adds the no_fs run that each arm is compared with."""

    auto = "auto"
    none = "none"


class StageRule(Enum):
    """How a staged sweep chooses the arms that go on, see ``fseed.sweep.decisions``."""

    race = "race"  # paired intervals over seeds
    halving = "halving"  # the best half of each rung
    threshold = "threshold"  # the earlier protocol: a mean difference on few seeds


@dataclass
class SweepConfig:
    """What happens around the runs of one command."""

    name: str = "default"  # folder below output.root
    stage: str = "plain"  # label in records and tables
    baseline: BaselineRule = BaselineRule.auto
    dry_run: bool = False  # print the plan, run nothing
    max_hours: float | None = None  # refuse to start what is estimated to take longer
    diff_against: str | None = None  # folder of an earlier sweep: print what changes against it
    # of a staged sweep (hydra/sweeper=staged, or sweep=staged for short)
    rule: StageRule = StageRule.race
    wanted_gain: float = 0.01  # smallest gain worth having, a fraction: 0.01 is 1 pp
    significance: float = 0.05  # of one stage, shared by its rungs
    keep_fraction: float = 0.5  # of the arms at each rung (halving)
    quick_threshold: float = 0.001  # mean difference that passes quick (threshold)
    medium_threshold: float = 0.002  # and medium (threshold)
    quick_seeds: int = 3
    medium_seeds: int = 3
    confirm_seeds: int = 12  # at least 5
    controls: bool = True  # run every control beside each arm of the confirm stage
