"""Runs of several ranks without the seconds that fresh processes take to import torch."""

import os
import tempfile
import traceback
from pathlib import Path

from fseed.config.schema import RunConfig
from fseed.training.checkpoint_file import find_start
from fseed.training.distributed import Ranks
from fseed.training.distributed_launch import RankJob
from fseed.training.rank import RankTraining
from tests.training.build import plan, tiny_config


def train_forked(run_dir: Path, *overrides: str, devices: int = 2, **values) -> None:
    """Train a tiny run with a forked process a device, all on the CPU; fails if one does."""
    parallel = {"trainer__devices": devices, "trainer__strategy": "ddp"}
    codes = fork_ranks(tiny_config(*overrides, **(parallel | values)), run_dir)
    assert codes == [0] * devices


def fork_ranks(config: RunConfig, run_dir: Path) -> list[int]:
    """Return the exit code of every rank, negative for a signal."""
    run_dir.mkdir(parents=True, exist_ok=True)
    job = RankJob(plan(config, run_dir), "1/1", find_start(run_dir), ())
    devices = config.trainer.devices
    with tempfile.TemporaryDirectory() as folder:
        children = [_fork(job, Ranks(i, devices), Path(folder) / "store") for i in range(devices)]
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _fork(job: RankJob, ranks: Ranks, store: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        RankTraining(job, ranks, store=store).run_to_end()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
