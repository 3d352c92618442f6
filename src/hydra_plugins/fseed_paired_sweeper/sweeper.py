"""The Hydra side of a paired sweep; the work is in ``fseed.compose.sweep`` and ``fseed.sweep``.

Every program that uses Hydra in this environment imports this file, so it imports fseed late.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class PairedSweeperConf:
    """Options of ``hydra/sweeper=fseed_paired``."""

    _target_: str = "hydra_plugins.fseed_paired_sweeper.sweeper.PairedSweeper"
    params: dict[str, str] | None = None  # key -> values to sweep; the command line wins


ConfigStore.instance().store(
    group="hydra/sweeper", name="fseed_paired", node=PairedSweeperConf, provider="fseed"
)


class PairedSweeper(Sweeper):
    """Run a grid with its missing baselines, each run once, and end with the paired table."""

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
        """Run every point of ``arguments``; return the exit code."""
        from fseed.compose.sweep import run_paired_sweep

        assert self.hydra_context is not None
        assert self.config is not None
        return run_paired_sweep(
            arguments,
            params=self.params,
            hydra_context=self.hydra_context,
            config=self.config,
            show_table=show_table,
        )


def show_table(run_dirs: Sequence[Path]) -> None:
    """Print the paired table of these runs, finished or not, and write it beside them."""
    from fseed.collect import collect_and_print
    from fseed.records import TABLES_DIR

    # <root>/<sweep>/<task>/<stage>/<arm>/<run>
    collect_and_print(run_dirs, out=run_dirs[0].parents[3] / TABLES_DIR)
