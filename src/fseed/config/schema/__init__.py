"""The typed root of every configuration: one dataclass per config group, one module per subject.

Units stand in the names (``_tokens``, ``_steps``, ``_seconds``); ``None`` means unset, never a
sentinel. Hydra merges the YAML files of ``conf/`` into this schema, so a misspelt key or a wrong
type is an error before anything else happens.

| module | sections of the configuration |
|---|---|
| ``root`` | all of them, ``seed``, ``lstart``, ``weights`` |
| ``task`` | ``task``, ``data``, ``mbpp`` |
| ``model`` | ``model`` |
| ``future_seed`` | ``fs``, ``fs_variant``, ``alpha``, ``schedule``, ``control`` |
| ``training`` | ``budget``, ``optim``, ``trainer`` |
| ``sweep`` | ``sweep`` |
| ``launcher`` | ``launcher`` |
| ``output`` | ``output``, ``logger`` |
"""

from fseed.config.schema.future_seed import (
    AlphaConfig,
    ControlConfig,
    ControlKind,
    FutureSeedConfig,
    Gate,
    Mode,
    Norm,
    ScheduleConfig,
    ScheduleKind,
    VariantConfig,
)
from fseed.config.schema.launcher import LauncherConfig
from fseed.config.schema.model import ModelConfig, TokenizerKind
from fseed.config.schema.output import LoggerConfig, LoggerKind, OutputConfig
from fseed.config.schema.root import RunConfig
from fseed.config.schema.sweep import BaselineRule, StageRule, SweepConfig
from fseed.config.schema.task import DataConfig, MbppConfig, SourceKind, TaskConfig
from fseed.config.schema.training import (
    Accelerator,
    Backend,
    BudgetConfig,
    OptimConfig,
    ParallelStrategy,
    Precision,
    StepMode,
    TrainerConfig,
)

__all__ = [
    "Accelerator",
    "AlphaConfig",
    "Backend",
    "BaselineRule",
    "BudgetConfig",
    "ControlConfig",
    "ControlKind",
    "DataConfig",
    "FutureSeedConfig",
    "Gate",
    "LauncherConfig",
    "LoggerConfig",
    "LoggerKind",
    "MbppConfig",
    "Mode",
    "ModelConfig",
    "Norm",
    "OptimConfig",
    "OutputConfig",
    "ParallelStrategy",
    "Precision",
    "RunConfig",
    "ScheduleConfig",
    "ScheduleKind",
    "SourceKind",
    "StageRule",
    "StepMode",
    "SweepConfig",
    "TaskConfig",
    "TokenizerKind",
    "TrainerConfig",
    "VariantConfig",
]
