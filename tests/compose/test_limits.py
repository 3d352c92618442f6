"""How many runs each launcher has at a time, and runs that this machine has too few GPUs for."""

from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from fseed.compose import limits
from fseed.compose.limits import check_gpus, count_at_once
from fseed.compose.loader import CONFIG_NAME, hydra_session
from fseed.config.schema import Accelerator
from fseed.errors import UserError
from fseed.launch import ray_pool, slots
from fseed.planned_run import PlannedRun
from tests.launch.jobs import plan_runs


def sweep_config(*words: str) -> DictConfig:
    with hydra_session() as hydra:
        return hydra.config_loader.load_configuration(
            config_name=CONFIG_NAME, overrides=list(words), run_mode=RunMode.MULTIRUN
        )


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[PlannedRun]:
    """Plan nine runs on a machine of 4 cores and 3 GPUs."""
    for module in (slots, ray_pool):
        monkeypatch.setattr(module, "count_cores", lambda: 4)
    for module in (slots, ray_pool, limits):
        monkeypatch.setattr(module, "find_gpus", lambda: ["0", "1", "2"])
    planned = plan_runs(tmp_path, *["no_fs"] * 9)
    GlobalHydra.instance().clear()
    return planned


def with_trainer(runs: list[PlannedRun], **values: object) -> list[PlannedRun]:
    return [
        replace(run, config=replace(run.config, trainer=replace(run.config.trainer, **values)))  # type: ignore[arg-type]
        for run in runs
    ]


@pytest.mark.parametrize(
    ("words", "on_cpu", "on_gpu"),
    [
        (["launcher=sequential"], 1, 1),
        (["launcher=slots"], 4, 3),
        (["hydra/launcher=slots", "launcher.slots=2"], 2, 2),
        (["launcher=submitit_local"], 4, 3),
        (["launcher=ray"], 4, 3),
        (["launcher=ray", "launcher.slots=2"], 2, 2),
        (["launcher=ray", "launcher.cpus_per_run=2", "launcher.gpus_per_run=0.5"], 2, 2),
        (["launcher=ray", "launcher.ray_address=auto"], 9, 9),
        (["launcher=ray", "launcher.ray_address=auto", "launcher.slots=7"], 7, 7),
        (["launcher=submitit_slurm"], 9, 9),
        (["launcher=submitit_slurm", "hydra.launcher.array_parallelism=5"], 5, 5),
        (["launcher=submitit_slurm", "launcher.slots=6"], 6, 6),
    ],
)
def test_every_launcher_tells_how_many_run_at_once(
    runs: list[PlannedRun], words: list[str], on_cpu: int, on_gpu: int
) -> None:
    config = sweep_config(*words)
    assert count_at_once(runs, config) == on_cpu
    assert count_at_once(with_trainer(runs, accelerator=Accelerator.gpu), config) == on_gpu
    assert count_at_once([], config) == 1


@pytest.mark.parametrize("launcher", ["sequential", "slots", "submitit_local", "ray"])
def test_more_gpus_than_there_are_are_refused(runs: list[PlannedRun], launcher: str) -> None:
    config, on_gpu = sweep_config(f"launcher={launcher}"), Accelerator.gpu
    assert count_at_once(with_trainer(runs, accelerator=on_gpu, devices=3), config) == 1
    with pytest.raises(UserError, match=r"trainer\.devices=4, but only 3 GPUs to use"):
        count_at_once(with_trainer(runs, accelerator=on_gpu, devices=4), config)


def test_a_run_alone_is_refused_too(runs: list[PlannedRun]) -> None:
    check_gpus(with_trainer(runs, devices=4))
    with pytest.raises(UserError, match=r"lower trainer\.devices"):
        check_gpus(with_trainer(runs, accelerator=Accelerator.gpu, devices=4))


def test_runs_of_an_existing_cluster_are_not_refused_here(runs: list[PlannedRun]) -> None:
    shared = with_trainer(runs, accelerator=Accelerator.gpu, devices=4)
    for words in (["launcher=submitit_slurm"], ["launcher=ray", "launcher.ray_address=auto"]):
        assert count_at_once(shared, sweep_config(*words)) == 9
