"""What the planner hands to the trainer, and what comes back. No torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fseed.config.schema import RunConfig


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One resolved run with its identity and its place on disk."""

    config: RunConfig
    run_id: str
    pair_key: str
    arm_key: str
    arm: str  # label of the arm, for people
    run_dir: Path
    data_hash: str
    weights_hash: str | None
    vocabulary_hash: str | None
    code_hash: str
    choices: dict[str, str] = field(default_factory=dict)  # group -> option
    overrides: list[str] = field(default_factory=list)

    def resolved_config(self) -> dict[str, Any]:
        """Return the configuration as plain values, enums by name."""
        config = OmegaConf.to_container(
            OmegaConf.structured(self.config), resolve=True, enum_to_str=True
        )
        assert isinstance(config, dict)
        return {str(key): value for key, value in config.items()}


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended. ``exit_code``: 0 finished, 1 failed, 2 bad input, 130 interrupted."""

    status: str  # finished | skipped | failed | interrupted
    message: str
    exit_code: int
