"""The Hydra side of a staged sweep; the work is in ``fseed.compose.staged`` and ``fseed.sweep``.

Every program that uses Hydra in this environment imports this file, so it imports fseed late.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class StagedSweeperConf:
    """Options of ``hydra/sweeper=staged``."""

    _target_: str = "hydra_plugins.fseed_staged_sweeper.sweeper.StagedSweeper"
    params: dict[str, str] | None = None  # key -> values to sweep; the command line wins


ConfigStore.instance().store(
    group="hydra/sweeper", name="staged", node=StagedSweeperConf, provider="fseed"
)


class StagedSweeper(Sweeper):
    """Race the arms over seeds, take the survivors to fresh seeds, confirm on the test split."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        """Take the sweep that an experiment file asks for."""
        super().__init__()
        self.params = dict(params or {})

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what Hydra hands over."""
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        """Run every stage of every task of ``arguments``; return the exit code."""
        from fseed.compose.staged import run_staged_sweep

        assert self.hydra_context is not None
        assert self.config is not None
        return run_staged_sweep(
            arguments,
            params=self.params,
            hydra_context=self.hydra_context,
            config=self.config,
            show_report=show_report,
        )


def show_report(folder: Path) -> None:
    """Print the tables of a sweep's folder and write every form of them beside the runs."""
    from fseed.collect import collect_and_print
    from fseed.records import TABLES_DIR
    from fseed.results.defaults import FORMATS

    collect_and_print([folder], out=folder / TABLES_DIR, formats=FORMATS)
