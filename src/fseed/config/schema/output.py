"""Where results go and who else is told: sections ``output`` and ``logger``."""

from dataclasses import dataclass
from enum import Enum


class LoggerKind(Enum):
    """Extra experiment tracker beside the run directory."""

    none = "none"
    tensorboard = "tensorboard"


@dataclass
class LoggerConfig:
    """Tracker beside the records; never changes a number."""

    kind: LoggerKind = LoggerKind.none


@dataclass
class OutputConfig:
    """Where results go."""

    root: str | None = None  # null: $FSEED_OUTPUTS, else outputs/ of the checkout, else ./outputs
    save_weights: bool = False  # keep the trained weights and gates
    keep_checkpoint: bool = False  # keep the last optimiser checkpoint of a finished run
