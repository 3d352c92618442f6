"""The root: every section, and the few keys that stand above them."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from fseed.config.schema.future_seed import (
    AlphaConfig,
    ControlConfig,
    FutureSeedConfig,
    ScheduleConfig,
    VariantConfig,
)
from fseed.config.schema.launcher import LauncherConfig
from fseed.config.schema.model import ModelConfig
from fseed.config.schema.output import LoggerConfig, OutputConfig
from fseed.config.schema.sweep import SweepConfig
from fseed.config.schema.task import DataConfig, MbppConfig, TaskConfig
from fseed.config.schema.training import BudgetConfig, OptimConfig, TrainerConfig


@dataclass
class RunConfig:
    """Root: everything one run needs, resolved."""

    task: TaskConfig = MISSING
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    fs: FutureSeedConfig = MISSING
    fs_variant: VariantConfig = field(default_factory=VariantConfig)
    lstart: int = 1  # first seeded layer, 1..num_layers-1 (layers are numbered from 0)
    alpha: AlphaConfig = field(default_factory=AlphaConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    seed: int = 0  # of the initial weights, the batch order and sampled programs
    weights: str | None = None  # short for model.weights
    budget: BudgetConfig = MISSING
    mbpp: MbppConfig = field(default_factory=MbppConfig)
    optim: OptimConfig = MISSING
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    launcher: LauncherConfig = field(default_factory=LauncherConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
